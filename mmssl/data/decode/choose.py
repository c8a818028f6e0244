"""The decoders by name; each is imported when it is asked for, since some need heavy libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmssl.clip import Pixels
from mmssl.data.decode.base import Decoder
from mmssl.errors import UserError, nearest


def _pyav(pixels: Pixels) -> Decoder:
    from mmssl.data.decode.pyav import PyAVDecoder

    return PyAVDecoder(pixels)


def _torchcodec(pixels: Pixels) -> Decoder:
    _rgb_only("torchcodec", pixels)
    from mmssl.data.decode.torchcodec import TorchCodecDecoder

    return TorchCodecDecoder()


def _decord(pixels: Pixels) -> Decoder:
    _rgb_only("decord", pixels)
    from mmssl.data.decode.decord import DecordDecoder

    return DecordDecoder()


def _nvdec(pixels: Pixels) -> Decoder:
    try:
        from mmssl.data.decode.nvdec import NVDECDecoder, available
    except ImportError as error:
        raise UserError(f"decoder 'nvdec' needs torch and a PyAV with hardware frames ({error})") from None
    available(pixels)
    return NVDECDecoder()


def _rgb_only(name: str, pixels: Pixels) -> None:
    if pixels != "rgb":
        raise UserError(f"the decoder '{name}' gives RGB alone; use pixels='rgb', or decoder='pyav' for {pixels!r}")


DECODERS: dict[str, Callable[[Pixels], Decoder]] = {
    "pyav": _pyav,
    "torchcodec": _torchcodec,
    "decord": _decord,
    "nvdec": _nvdec,
}
AUTO = ("pyav", "torchcodec")  # tried in this order; decord is for comparisons only


@dataclass(frozen=True)
class Choice:
    """A decoder that works here.

    Args:
        name: its name in `DECODERS`.
        why: a sentence for the plan: why this one, and why not those before it in `AUTO`.
    """

    name: str
    why: str


def choose(name: str, pixels: Pixels = "rgb") -> Choice:
    """The decoder of that name; "auto" is the first of `AUTO` that works here.

    Raises:
        UserError: there is none of that name, it cannot give such pixels, or its library is
            missing (the message has the line that installs it).
    """
    if name != "auto":
        make_decoder(name, pixels)
        return Choice(name, "as asked for")
    failures = []
    for candidate in AUTO:
        try:
            make_decoder(candidate, pixels)
        except UserError as error:
            failures.append(str(error))
            continue
        return Choice(candidate, "; ".join(["auto: the first that works here", *failures]))
    raise UserError("no decoder works here: " + "; ".join(failures))


def make_decoder(name: str, pixels: Pixels = "rgb") -> Decoder:
    """A new decoder, by its name in `DECODERS`, that gives RGB or planes.

    Raises:
        UserError: see `choose`.
    """
    if name not in DECODERS:
        known = [*DECODERS, "auto"]
        raise UserError(f"no decoder '{name}' (there are {', '.join(known)}){nearest(name, known)}")
    return DECODERS[name](pixels)
