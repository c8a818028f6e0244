"""Pictures and clips as data URIs, so that the page is one file; what is too much is left out and counted."""

from __future__ import annotations

import base64
import io

import numpy as np

from mmssl.errors import UserError
from mmssl.report.markup import Html, element


def jpeg(picture: np.ndarray, quality: int = 88) -> bytes:
    """Return a uint8 picture [H, W, 3] or [H, W] as JPEG without chroma subsampling."""
    from PIL import Image

    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise ValueError(f"a picture is uint8 [H, W, 3] or [H, W], not {picture.dtype} {list(picture.shape)}")
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def strip(frames: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Return frames uint8 [T, H, W, 3] as one picture uint8, in reading order, white between.

    All in one row, [H, T * W + (T - 1) * gap, 3], unless `columns` says how many a row takes.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"frames are uint8 [T, H, W, 3] with T > 0, not {list(frames.shape)}")
    t, h, w, _ = frames.shape
    columns = columns or t
    rows = -(-t // columns)
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, dtype=np.uint8)
    for i, frame in enumerate(frames):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        out[y : y + h, x : x + w] = frame
    return out


def picture_type(data: bytes) -> str | None:
    """Return the MIME type of a PNG or JPEG by its first bytes, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/jpeg" if data.startswith(b"\xff\xd8\xff") else None


def picture_size(picture: np.ndarray | bytes) -> tuple[int, int]:
    """Return (height, width) of a picture given as array or as bytes of a PNG or JPEG."""
    if not isinstance(picture, bytes):
        return picture.shape[0], picture.shape[1]
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as opened:
        return opened.height, opened.width


class MediaBudget:
    """Bytes that pictures and clips may still take in a page.

    `left_out` counts what was refused; the page tells it.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.left_out = 0

    def uri(self, data: bytes, mime: str) -> str | None:
        """Return `data` as a data URI, or None where the budget is spent."""
        size = 4 * ((len(data) + 2) // 3)
        if size > self.left:
            self.left_out += 1
            return None
        self.left -= size
        return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"

    def picture(self, picture: np.ndarray | bytes, what: str) -> str | None:
        """Return a picture (array, or bytes of a PNG or JPEG) as a data URI, or None where the budget is spent.

        Raises:
            UserError: The bytes are neither PNG nor JPEG; `what` names the picture in the message.
        """
        if not isinstance(picture, bytes):
            return self.uri(jpeg(picture), "image/jpeg")
        mime = picture_type(picture)
        if mime is None:
            raise UserError(f"picture of {what}: neither PNG nor JPEG; give one of these or a uint8 array")
        return self.uri(picture, mime)


def image(budget: MediaBudget, picture: np.ndarray | bytes, alt: str) -> Html:
    """Return an `<img>`, or a box that says it was left out."""
    uri = budget.picture(picture, alt)
    if uri is None:
        return element("div", "picture left out for size", class_="left-out")
    return element("img", src=uri, alt=alt, loading="lazy")
