"""Video colorization: colour a grey frame by pointing at the coloured frames before it (Vondrick, Shrivastava, Fathi,
Guadarrama, Murphy, "Tracking emerges by colorizing videos", ECCV 2018, arXiv 1806.09594).

The encoder sees the lightness of four frames. Each cell of the last one points, by a softmax over similarities, at the
cells of the three before it, and copies their colours, which are numbers of 16 clusters in the plane (a, b) of Lab. To
point at what has the same colour one must find what is the same thing: the pointer tracks (`mmssl evaluate
propagation`).

The clusters are fitted by k-means to the colours of the first steps' clips, gathered over all ranks, and frozen from
then on; until then, and where there is nothing to fit, they are points on a spiral around grey.

Shortcuts that are closed: no encoder sees colour, but lightness in three equal channels; each frame's crop is shifted
by itself, so that the place of a cell does not tell where its colour lies in another frame; frames and crop are chosen
where something moves; the score is the mean over the clusters of a frame, so that grey, which is most of every frame,
counts once; the trivial answer, to copy what was at the same place of the *scene* in the frame before, is reported as
the floor. It is given the shift between both crops, which the pointer has to find: against the same cell of the two
crops, most of what looked like motion would be our own shifts.

Departures from the paper: no 3-D convolutions over the frames' maps and no coordinates beside them, for both help
colouring without tracking, and similarities are divided by the root of the embedding's width (without it the softmax
of a new network is a hard choice). Target cells whose colour no reference shows count neither in the loss nor in the
score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import gather, global_mean
from mmssl.losses.pointer import pointed_labels, pointer_nll
from mmssl.nn.encoders import Encoders
from mmssl.ops.crops import crop_at, mirror
from mmssl.ops.kmeans import kmeans, nearest_centroid
from mmssl.ops.lab import lightness_picture, rgb_to_lab
from mmssl.ops.motion import UNIT, busiest_square, even_cells, frame_distances, frame_tuples, motion_map
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows

REFERENCES = 3
FRAMES = REFERENCES + 1
CELL = 4  # pixels a side of the cells in which motion is measured
COLOURS = 64  # colours a clip gives to the fit
SAMPLES = 8192  # colours that the clusters are fitted to


class ColorizationExample(NamedTuple):
    """Grey frames, and the colours of their cells."""

    grey: torch.Tensor  # float32 [4 B, 3, S, S] in [0, 1], lightness; the frames of a clip lie together, target last
    reference: torch.Tensor  # int64 [B, 3 N] in 0..K-1, cluster of each cell of the references, earliest frame first
    target: torch.Tensor  # int64 [B, N], cluster of each cell of the target
    copied: torch.Tensor  # int64 [B, N], cluster at each target cell's place of the scene in the last reference
    colours: torch.Tensor  # float32 [B, COLOURS, 2], a and b of some cells
    weight: torch.Tensor  # float32 [B], 0 where the clip has no picture


class VideoColorization(PretextTask[Batch, ColorizationExample]):
    """Which reference cells a target cell takes its colour from.

    Args:
        picture: the frames that four are chosen from.
        size: (height, width) of the decoded frames.
        strides: the encoder's levels that a cell is embedded by; a cell has the finest one's side.
        crop: share of the shorter side that a frame shows.
        jitter: largest shift of a frame's own crop, as a share of the crop; 0 leaves the positional shortcut open.
        gap_seconds: least and largest time between neighbouring frames of the four.
        clusters: colours that are told apart.
        temperatures: of the softmax, at the beginning and at the end of the training.
        width: of a cell's embedding.
        by_motion: choose frames and crop where something moves, not evenly.
    """

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    score = Score("balanced_accuracy", floor=None, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("target",)

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        size: tuple[int, int] = (96, 96),
        strides: tuple[int, ...] = (4, 8),
        crop: float = 2 / 3,
        jitter: float = 1 / 8,
        gap_seconds: tuple[float, float] = (0.125, 0.5),
        clusters: int = 16,
        temperatures: tuple[float, float] = (1.0, 0.5),
        width: int = 64,
        by_motion: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < crop * (1 + 2 * jitter) <= 1 or jitter < 0:
            raise ValueError(f"video_colorization: a crop of {crop} with jitter {jitter} does not fit into the frame")
        if clusters < 2 or min(temperatures) <= 0:
            raise ValueError("video_colorization: clusters must be 2 or more, and temperatures above 0")
        least, most = (max(1, round(seconds * picture.rate)) for seconds in gap_seconds)
        most = max(least, min(most, picture.count - 1))
        self.register_buffer("tuples", frame_tuples(picture.count, FRAMES, least, most), persistent=False)
        self.tuples: torch.Tensor
        self.register_buffer("centroids", grey_spiral(clusters))
        self.centroids: torch.Tensor  # float32 [K, 2]
        self.register_buffer("samples", torch.zeros(SAMPLES, 2))
        self.samples: torch.Tensor  # float32 [SAMPLES, 2], colours of the first steps
        self.register_buffer("collected", torch.zeros((), dtype=torch.int64))
        self.collected: torch.Tensor  # how many of them are filled; the clusters are fitted when all are
        self.picture = picture
        self.window = Window(picture=picture, size=size)
        self.strides, self.stride = tuple(strides), min(strides)
        self.crop, self.jitter = crop, jitter
        self.clusters, self.temperatures, self.width = clusters, temperatures, width
        self.by_motion = by_motion

    def setup(self, encoders: Encoders) -> None:
        """The embedding of a cell: the sum of what each level makes of it."""
        encoder = encoders["image"]
        missing = [stride for stride in self.strides if stride not in encoder.strides]
        if missing:
            raise ValueError(f"video_colorization: strides {missing} are not among the encoder's {encoder.strides}")
        self.embed = nn.ModuleDict()
        for stride in self.strides:
            entering = encoder.level_widths[stride]
            # One group: levels of any width come in, before their last normalisation.
            part = nn.Sequential(nn.GroupNorm(1, entering), nn.ReLU(), nn.Conv2d(entering, self.width, 1))
            self.embed[str(stride)] = part

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> ColorizationExample:
        """Choose frames and crop, split them into lightness and colour."""
        lab = rgb_to_lab(self._crops(batch, draws).float() / 255)  # [5 B, 3, S, S]
        # The colour of a cell's middle: a mean over a cell on an edge would be a colour that nothing has.
        edge = (self.stride - 1) // 2
        inner = lab[:, 1:].unfold(2, self.stride, self.stride).unfold(3, self.stride, self.stride)
        inner = inner[..., edge : self.stride - edge, edge : self.stride - edge]
        colours = inner.mean(dim=(-2, -1)).flatten(2).transpose(1, 2)  # [5 B, N, 2]
        cells = colours.shape[1]
        colours = colours.reshape(len(batch), -1, 2)
        cluster = nearest_centroid(colours, self.centroids)
        colours = colours[:, : FRAMES * cells]
        some = draws.integers("colours", colours.shape[1], (COLOURS,))
        return ColorizationExample(
            grey=lightness_picture(lab.unflatten(0, (len(batch), -1))[:, :FRAMES].flatten(0, 1)),
            reference=cluster[:, : REFERENCES * cells],
            target=cluster[:, REFERENCES * cells : FRAMES * cells],
            copied=cluster[:, FRAMES * cells :],
            colours=colours.gather(1, some[..., None].expand(-1, -1, 2)),
            weight=valid_rows(self, batch),
        )

    def _crops(self, batch: Batch, draws: Draws) -> torch.Tensor:
        """Uint8 [5 B, 3, S, S]: four frames of each clip in the order of time, each cropped by itself.

        The fifth is the last reference once more, cropped as the target is.
        """
        frames = batch.frames_of(self.picture)
        count, (height, width) = len(batch), frames.shape[-2:]
        step = math.lcm(8, *self.strides)
        size = max(step, int(self.crop * min(height, width)) // step * step)
        jitter = min(round(self.jitter * size), (min(height, width) - size) // 2)
        cells = even_cells(frames, CELL)
        looked_at = min(max(1, -(-size // CELL)), *cells.shape[-2:])
        if self.by_motion:
            top, left = busiest_square(motion_map(cells), looked_at)
            distances = frame_distances(crop_at(cells, top, left, looked_at))
            # In proportion to what moved since the last reference; a film that stands still is drawn from evenly.
            before, target = self.tuples[:, -2], self.tuples[:, -1]
            pick = draws.choice("frames", distances[:, before, target] + UNIT // 1000)
        else:
            top = draws.integers("top", cells.shape[-2] - looked_at + 1)
            left = draws.integers("left", cells.shape[-1] - looked_at + 1)
            pick = draws.integers("frames", len(self.tuples), (1,))
        picked = self.tuples[pick[:, 0]]
        picked = torch.cat([picked, picked[:, REFERENCES - 1 : REFERENCES]], dim=1)
        chosen = frames[torch.arange(count, device=batch.device)[:, None], picked]
        corners = []
        for name, corner, length in (("down", top, height), ("right", left, width)):
            own = draws.integers(name, 2 * jitter + 1, (FRAMES,)) - jitter
            own = torch.cat([own, own[:, -1:]], dim=1)
            corners.append(((corner * CELL).clamp(jitter, length - size - jitter)[:, None] + own).flatten())
        shown = crop_at(chosen.flatten(0, 1), corners[0], corners[1], size)
        return mirror(shown, draws.bernoulli("mirror", 0.5).repeat_interleave(FRAMES + 1))

    def embeddings(self, grey: torch.Tensor, encoders: Encoders) -> torch.Tensor:
        """Float [B, 4, N, D] of the cells of grey frames [4 B, 3, S, S]."""
        levels = encoders.encode("image", grey).levels
        size = levels[self.stride].shape[-2:]
        parts = [self.embed[str(stride)](levels[stride]).float() for stride in self.strides]
        laid = [functional.interpolate(part, size, mode="bilinear", align_corners=False) for part in parts]
        return torch.as_tensor(torch.stack(laid).sum(dim=0).flatten(2).transpose(1, 2).unflatten(0, (-1, FRAMES)))

    def forward(self, example: ColorizationExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Negative log likelihood of the target's colours, averaged over the valid clips of all ranks."""
        cells = self.embeddings(example.grey, encoders)
        first, last = self.temperatures
        temperature = (first + (last - first) * moment.progress) * math.sqrt(self.width)
        copied = pointed_labels(
            cells[:, REFERENCES], cells[:, :REFERENCES].flatten(1, 2), example.reference, self.clusters, temperature
        )
        shown = torch.zeros(len(copied), self.clusters, dtype=torch.bool, device=copied.device)
        shown = shown.scatter(1, example.reference, True)  # [B, K], the colours that there are to copy
        known = shown.gather(1, example.target)
        # Of a single colour (black-and-white film, most of all) every answer is right, and nothing is learned.
        of = functional.one_hot(example.target, self.clusters) * known[..., None]
        coloured = (of.sum(dim=1) > 0).sum(dim=1) > 1
        weight = example.weight * coloured
        loss = global_mean(pointer_nll(copied, example.target, known), weight)
        return Outcome(
            losses={"nll": loss},
            metrics=self._metrics(example, copied.detach(), known, weight)
            | {"coloured_clips": rate(coloured, example.weight)},
            carry={"colours": example.colours, "weight": example.weight},
        )

    def _metrics(
        self, example: ColorizationExample, copied: torch.Tensor, known: torch.Tensor, weight: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Of copying by the pointer, from the same place of the scene (`floor`), and the commonest colour."""
        counts = functional.one_hot(example.reference, self.clusters).sum(dim=1)
        answers = {
            "pointer": copied.argmax(dim=2),
            "copy": example.copied,
            "majority": counts.argmax(dim=1, keepdim=True).expand_as(example.target),
        }
        right = {name: (answer == example.target) & known for name, answer in answers.items()}
        of = functional.one_hot(example.target, self.clusters).float() * known[..., None]  # [B, N, K]
        there = of.sum(dim=1)

        def balanced(hits: torch.Tensor) -> torch.Tensor:
            recall = (of * hits[..., None]).sum(dim=1) / there.clamp(min=1)
            return torch.as_tensor(recall.sum(dim=1) / (there > 0).sum(dim=1).clamp(min=1))

        def share(hits: torch.Tensor, among: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            of_row = (hits & among).sum(dim=1) / among.sum(dim=1).clamp(min=1)
            return rate(of_row, weight * among.any(dim=1))

        return {
            "balanced_accuracy": rate(balanced(right["pointer"]), weight),
            "floor": rate(balanced(right["copy"]), weight),
            "majority": rate(balanced(right["majority"]), weight),
            "accuracy": share(right["pointer"], known),
            "copy_accuracy": share(right["copy"], known),
            # Where the colour at the same place of the scene is another one: copying it is right in none of these.
            "changed_accuracy": share(right["pointer"], known & ~right["copy"]),
            "answerable": rate(known.float().mean(dim=1), example.weight),
        }

    @torch.no_grad()
    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """Collect colours of all ranks' clips, and fit the clusters once there are enough."""
        for carry in carries:
            filled = int(self.collected)
            if filled >= SAMPLES:
                return
            colours, weight = gather(carry["colours"]), gather(carry["weight"])
            found = colours[weight > 0].flatten(0, 1)[: SAMPLES - filled]
            self.samples[filled : filled + len(found)] = found
            self.collected += len(found)
            if filled + len(found) == SAMPLES:
                # On the CPU in float64, so that every rank finds the same bits.
                starts = Draws(torch.zeros(1, dtype=torch.int64), "video_colorization")
                found = kmeans(self.samples.double().cpu(), starts.uniform("clusters", (self.clusters,))[0])
                self.centroids.copy_(found)


def grey_spiral(count: int, reach: float = 50.0) -> torch.Tensor:
    """Float32 [count, 2]: colours (a, b) on a spiral around grey, denser towards it, as the colours of films are."""
    steps = torch.arange(count, dtype=torch.float64)
    radius = reach * steps / max(count - 1, 1)
    angle = steps * math.pi * (3 - math.sqrt(5))
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1).float()
