"""`mmssl shards preview`: a picture of clips with their frames, waveforms and subtitles on one time axis."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from mmssl.data.shards.preview import choose, preview_clip
from mmssl.data.shards.preview_draw import draw_sheet, frame_width
from mmssl.errors import UserError


def run(
    shards: str,
    out: Path = Path("preview.png"),
    clips: int = 8,
    seed: int | None = None,
    start: int = 0,
    frames: int = 8,
) -> None:
    """Draw a contact sheet: for each clip frames, waveform and subtitles on one time axis.

    Args:
        shards: a tar, a range such as 'corpus/train-{000000..000003}.tar', a glob or a folder.
        out: the picture, a PNG.
        clips: how many clips.
        seed: draw the clips at random by this seed, else take them in the order of the shards.
        start: number of the first clip in that order.
        frames: frames a clip.
    """
    if not 1 <= frames <= 40:
        raise UserError(f"frames={frames}: 1 to 40 frames have room")
    if out.suffix.lower() != ".png":
        raise UserError(f"out={out}: the picture is a PNG; name it {out.with_suffix('.png')}")
    chosen = choose(shards, clips, start, seed)
    previews = []
    columns = (TextColumn("shards preview"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for path, entry in bar.track(chosen):
            previews.append(preview_clip(path, entry, frames, frame_width(frames)))
    order = "in their order" if seed is None else f"drawn with seed {seed}"
    sheet = draw_sheet(previews, f"{shards}: {len(previews)} clips from number {start} on, {order}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out)
    except OSError as error:
        raise UserError(f"the picture '{out}' cannot be written ({error.strerror or error})") from None
    broken = sum(bool(preview.error) for preview in previews)
    left = f"; {broken} could not be read whole" if broken else ""
    print(f"{out}: {len(previews)} clips, {sheet.width} x {sheet.height} pixels{left}")
