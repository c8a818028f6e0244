"""Settings files: all faults at once, nearest names, types, overrides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mmssl.errors import UserError
from pipelines.config import call, parse_settings


@dataclass(frozen=True)
class Inner:
    """Inner settings.

    Args:
        steps: how many.
        rate: how fast.
    """

    steps: int = 10
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    """Outer settings.

    Args:
        run: folder.
        inner: more.
        parts: built by name.
    """

    run: Path
    inner: Inner = field(default_factory=Inner)
    parts: dict[str, Any] = field(default_factory=dict)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_later_files_and_flags_override(tmp_path: Path) -> None:
    a = write(tmp_path / "a.yaml", "run: here\ninner: {steps: 3, rate: 0.5}\n")
    b = write(tmp_path / "b.yaml", "inner: {steps: 4}\n")
    settings, switches, resolved = parse_settings(
        Outer, ["--config", a, "--config", b, "--inner.rate", "1e-3", "--resume"], "prog", {"resume": "go on"}
    )
    assert settings == Outer(Path("here"), Inner(4, 0.001))
    assert switches == {"resume": True}
    assert "steps: 4" in resolved


def test_all_faults_of_all_files_at_once(tmp_path: Path) -> None:
    a = write(
        tmp_path / "a.yaml",
        "runn: here\ninner: {step: 3, rate: fast}\n"
        "parts:\n"
        "  x: {class_path: mmssl.nn.image.SmallImageEncoder, init_args: {widht: 3}}\n"
        "  y: {class_path: mmssl.nn.image.Nothing}\n",
    )
    with pytest.raises(UserError) as caught:
        parse_settings(Outer, ["--config", a], "prog")
    message = str(caught.value)
    assert "5 faults" in message
    for text in (
        "unknown setting 'runn'; did you mean 'run'?",
        "unknown setting 'inner.step'; did you mean 'steps'?",
        "'inner.rate': 'fast' is not of type float",
        "unknown setting 'parts.x.init_args.widht'; did you mean 'width'?",
        "no class 'mmssl.nn.image.Nothing'",
    ):
        assert text in message


@pytest.mark.parametrize(
    ("text", "match"),
    [("- a\n- b\n", "must hold settings"), ("a: [1\n", "is no YAML"), (None, "give an existing YAML file")],
)
def test_files_that_are_no_settings(tmp_path: Path, text: str | None, match: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=match):
        parse_settings(Outer, ["--config", str(path)], "prog")


def test_a_missing_and_a_misspelt_flag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run"):
        parse_settings(Outer, [], "prog")
    with pytest.raises(UserError, match=r"did you mean '--inner\.steps'"):
        parse_settings(Outer, ["--run", "x", "--inner.stps", "3"], "prog")


def greet(name: str, times: int = 1, loud: bool = False) -> str:
    """Greet.

    Args:
        name: whom.
        times: how often.
        loud: in capitals.
    """
    return (name.upper() if loud else name) * times


def test_functions_are_called_by_their_signature() -> None:
    assert call(greet, ["ab", "--times", "2"], "prog") == "abab"
    assert call(greet, ["ab", "--loud", "--times", "2"], "prog") == "ABAB"
    assert call(greet, ["ab", "--loud", "false"], "prog") == "ab"
    with pytest.raises(UserError, match="times"):
        call(greet, ["ab", "--times", "often"], "prog")


def test_lists_are_written_as_words_or_as_lists() -> None:
    def verb(runs: list[Path], names: list[str] | None = None, out: Path = Path("out")) -> tuple[object, ...]:
        """A verb.

        Args:
            runs: folders.
            names: words.
            out: folder.
        """
        return [str(run) for run in runs], names, str(out)

    wanted = (["a", "b"], ["x", "y"], "o")
    assert call(verb, ["a", "b", "--names", "x", "y", "--out", "o"], "verb") == wanted
    assert call(verb, ["[a,b]", "--out", "o", "--names", "[x,y]"], "verb") == wanted
    assert call(verb, ["a", "--names=[x]"], "verb") == (["a"], ["x"], "out")
