"""The command `mmssl`: finds the program of a verb, parses its arguments, turns user errors into one clear message.

Exit codes: 0 done, 1 a check found something wrong, 2 the user gave something that cannot be used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mmssl import __version__
from mmssl.errors import UserError, nearest
from mmssl.training.memory import keep_freed_memory

#: words of the verb -> (module, function, what it does)
VERBS: dict[tuple[str, ...], tuple[str, str, str]] = {
    ("soundstage",): ("pipelines.soundstage", "run", "render the embedded corpus"),
    ("shards", "build"): ("pipelines.build_shards", "build", "videos and subtitles -> shards"),
    ("shards", "index"): ("pipelines.index_shards", "run", "index tars by others, with packet tables"),
    ("shards", "info"): ("pipelines.build_shards", "info", "what lies in shards"),
    ("shards", "check"): ("pipelines.build_shards", "check", "whether shards are whole"),
    ("shards", "preview"): ("pipelines.preview_shards", "run", "a picture of clips: frames, waveform, subtitles"),
    ("shards", "tokenizer"): ("pipelines.train_tokenizer", "run", "train a tokenizer on the shards' sentences"),
    ("pretrain",): ("pipelines.pretrain", "main", "train encoders with pretext tasks"),
    ("embed",): ("pipelines.embed", "run", "features of clips in a file that numpy reads"),
    ("evaluate", "action"): ("pipelines.evaluate", "action", "action recognition by frozen features"),
    ("evaluate", "audio"): ("pipelines.evaluate_audio", "audio", "audio classification by frozen features"),
    ("evaluate", "compare"): ("pipelines.compare", "run", "one evaluation of several runs in one table"),
    ("evaluate", "detection"): ("pipelines.evaluate_detection", "detection", "boxes by Faster R-CNN on the encoder"),
    ("evaluate", "few_labels"): ("pipelines.evaluate_few_labels", "few_labels", "actions from 1 % and 10 % of labels"),
    ("evaluate", "finetune"): ("pipelines.evaluate_finetune", "finetune", "action recognition by fine-tuned encoders"),
    ("evaluate", "image"): ("pipelines.evaluate_image", "image", "image classification by frozen features"),
    ("evaluate", "propagation"): ("pipelines.evaluate_propagation", "propagation", "masks followed by frozen features"),
    ("evaluate", "retrieval"): ("pipelines.evaluate_retrieval", "retrieval", "recall between picture, sound and text"),
    ("evaluate", "segmentation"): ("pipelines.evaluate_segmentation", "segmentation", "classes of pixels, linear head"),
    ("inspect", "clips"): ("pipelines.inspect_clips", "run", "a map of clips by their features, with neighbours"),
    ("inspect", "attention"): ("pipelines.inspect_attention", "run", "where each stage of an encoder answers"),
    ("inspect", "top-activations"): ("pipelines.inspect_top_activations", "run", "the clips that make filters answer"),
    ("inspect", "tracking"): ("pipelines.inspect_tracking", "run", "pictures of followed masks or boxes"),
    ("localize", "baselines"): ("pipelines.localize_baselines", "run", "maps without learning on a file of boxes"),
    ("localize",): ("pipelines.localize", "run", "maps of where a sound comes from"),
    ("tasks",): ("pipelines.list_tasks", "run", "the pretext tasks"),
    ("bench", "data"): ("pipelines.bench", "main", "where the time of loading goes"),
    ("doctor",): ("pipelines.doctor", "run", "what works on this machine, what is missing, what mends it"),
    ("demo",): ("pipelines.demo", "run", "the whole way on the embedded corpus, with a report"),
}


def usage() -> str:
    """The list of verbs."""
    width = max(len(" ".join(words)) for words in VERBS)
    lines = [f"  mmssl {' '.join(words):{width}}  {text}" for words, (_, _, text) in VERBS.items()]
    return "\n".join([f"mmssl {__version__}: self-supervised learning from video, sound and subtitles", "", *lines, ""])


def _find(arguments: Sequence[str]) -> tuple[str, ...]:
    for words in sorted(VERBS, key=len, reverse=True):
        if tuple(arguments[: len(words)]) == words:
            return words
    given = " ".join(arguments[:2]) if any(arguments[0] == w[0] and len(w) > 1 for w in VERBS) else arguments[0]
    known = [" ".join(words) for words in VERBS]
    raise UserError(f"no command 'mmssl {given}'{nearest(given, known)}; `mmssl --help` lists them")


def run(arguments: Sequence[str]) -> None:
    """Run one command."""
    words = _find(arguments)
    module_name, function_name, _ = VERBS[words]
    rest = list(arguments[len(words) :])
    prog = "mmssl " + " ".join(words)
    function = getattr(importlib.import_module(module_name), function_name)
    if function_name == "main":  # programs with a settings file read their arguments themselves
        function(rest, prog)
        return
    from pipelines.config import call

    call(function, rest, prog)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        print(f"mmssl {__version__}")
        return
    try:
        keep_freed_memory()
        run(arguments)
    except UserError as error:
        print(f"mmssl: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        print("mmssl: stopped", file=sys.stderr)
        raise SystemExit(130) from error


if __name__ == "__main__":
    main()
