"""Dense predictive coding: from the first blocks of a clip to the features of the next ones, at every place (DPC, Han,
Xie, Zisserman, arXiv 1909.04656; with a memory that predictions are read from, and backwards as well, as in MemDPC,
arXiv 2008.01065).

A clip is cut into blocks of a few frames. Each block is encoded by itself, as a row of the encoder's batch, so that no
filter reaches over into a block that is to be predicted. A ConvGRU reads the blocks that are seen; a predictor makes
the feature of the next block from its state, which the ConvGRU reads in turn, and so on. Every prediction must find its
own feature among those of all clips, steps and places of the gathered batch, by plain dot products. With `backwards`
the blocks are read from the last one on too, by a ConvGRU of its own, and the first three are predicted; the predictor
and the memory are those of the way forwards, the losses are summed.

Shortcuts that are closed: each block has its own gain, offset and, in half of the cases, one colour channel only,
constant over its frames, so that no tint tells blocks of a clip from others; each frame has noise of its own, since
key frames of the codec, where even what stands still changes, come round with the blocks; clips whose frames come in an
uneven rhythm, which goes on from block to block, give no row; several steps are predicted; nothing in
the encoders or heads takes statistics over blocks or clips.

How it is judged. The score `dense_top1` is the paper's: how often a prediction is nearest to its own feature among all
candidates of the batch. Its floor is what the last seen feature of the place reaches in the prediction's stead, with
the same encoder: clips are told apart by what stands still in them. Who knows clip and place and nothing of time
reaches 1/3. Of time alone speaks ``moving_top1``: which of the three steps of the own clip and place, where any two
differ. Chance is 1/3, but without learning more can be had: what lies further off in time is less like the last seen
block. ``moving_likeness`` is what this rule gives, with the same encoder; only above it something of time was learned.
``temporal_top1`` counts all places; ``top1`` has the steps of three other clips among its candidates too (chance is
1/12; who knows the clip reaches 1/3).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import gather, global_mean
from mmssl.errors import UserError
from mmssl.losses.dense_nce import dense_nce
from mmssl.nn.conv_gru import ConvGRUCell
from mmssl.nn.encoders import Encoders
from mmssl.ops.channel_split import some_one_channel
from mmssl.ops.crops import mirror
from mmssl.ops.frame_noise import check_levels, frame_noise
from mmssl.ops.partners import ring_others, top_rate
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.views import even_rows, inside

STEPS = 3  # blocks that are predicted
CLIPS = 4  # clips among the candidates of `top1`, the own one among them
CHANGE = 0.05  # share of the grey range by which any two steps of a moving place differ, on average


class BlocksExample(NamedTuple):
    """Blocks of frames, those that are seen and those whose features are predicted."""

    seen: torch.Tensor  # float32 [B, S, 3, F, H, W] in [0, 1]
    next: torch.Tensor  # float32 [B, 3, 3, F, H, W] in [0, 1], the three blocks behind them
    change: torch.Tensor  # float32 [B, 3, H, W] in [0, 1], how far any two of the three are apart
    drawn: torch.Tensor  # float64 [B], which other clips are among the candidates of `top1`
    weight: torch.Tensor  # float32 [B], 0 without a picture, or where the clip is too short or uneven
    valid: torch.Tensor  # float32 [B], 0 only without a picture, or where the clip is too short


class DensePredictiveCoding(PretextTask[Batch, BlocksExample]):
    """Which features follow, at every place.

    Args:
        seen: blocks that are seen.
        frames: frames a block.
        rate: frames a second; that of the films, or a whole share of it: others are left out (`even_clips`).
        size: (height, width) of the decoded frames.
        width: channels of features and predictions.
        memory: slots of the memory that predictions are read from; 0 for none (DPC). MemDPC has 1024.
        backwards: whether the first blocks are predicted from the later ones as well (MemDPC).
        kernel: side of the ConvGRU's convolutions.
        grid: most places a side; finer maps are averaged to it.
        jitter: spread of a block's gain about 1; its offset has a third of it. 0 leaves colours as they are.
        split: probability that a block keeps one colour channel only.
        noise: (least, most) standard deviation of each frame's own noise in grey levels; see `ops.frame_noise`.
    """

    uses: ClassVar = {"video": "video"}
    needs: ClassVar = ("picture",)
    score = Score("dense_top1", floor=None, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("next",)
    negatives: ClassVar = True

    def __init__(
        self,
        seen: int = 5,
        frames: int = 4,
        rate: float = 12.5,
        size: tuple[int, int] = (96, 96),
        width: int = 128,
        memory: int = 0,
        backwards: bool = False,
        kernel: int = 1,
        grid: int = 8,
        jitter: float = 0.2,
        split: float = 0.5,
        noise: tuple[float, float] = (4.0, 20.0),
    ) -> None:
        super().__init__()
        if seen < 1 or frames < 1 or memory < 0 or grid < 1:
            raise UserError("dense_predictive_coding: seen, frames and grid must be at least 1, memory at least 0")
        if backwards and seen < STEPS:
            raise UserError(
                f"dense_predictive_coding: backwards needs seen to be at least {STEPS}, the blocks that are predicted; "
                f"got {seen}"
            )
        self.seen, self.frames, self.backwards = seen, frames, backwards
        self.picture = Span((seen + STEPS) * frames / rate, rate)
        self.window = Window(picture=self.picture, size=size)
        self.width, self.memory_slots, self.kernel, self.grid = width, memory, kernel, grid
        self.jitter, self.split = jitter, split
        self.noise = check_levels("dense_predictive_coding", noise)

    def setup(self, encoders: Encoders) -> None:
        """The entry to the features, the ConvGRU, the predictor and the memory."""
        encoder = encoders["video"]
        self.stride = max(encoder.strides)
        entering = encoder.level_widths[self.stride]
        # One group: normalised within a block, never over blocks or clips.
        self.project = nn.Sequential(nn.GroupNorm(1, entering), nn.Conv2d(entering, self.width, 1))
        self.recurrent = ConvGRUCell(self.width, self.width, self.kernel)
        if self.backwards:
            self.recurrent_back = ConvGRUCell(self.width, self.width, self.kernel)
        made = self.memory_slots or self.width
        self.predictor = nn.Sequential(nn.Conv2d(self.width, self.width, 1), nn.ReLU(), nn.Conv2d(self.width, made, 1))
        if self.memory_slots:
            self.memory = nn.Parameter(torch.randn(self.memory_slots, self.width))

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> BlocksExample:
        """Cut into blocks, each with a colour of its own."""
        times = batch.times(self.picture)
        film = batch.frames_at(times)
        count, blocks = len(film), self.seen + STEPS
        film = mirror(film, draws.bernoulli("mirror", 0.5))
        change = changes(film[:, self.seen * self.frames :].unflatten(1, (STEPS, self.frames)))
        # A key frame of the codec comes round in the same block of every three or so, which would tell the step.
        film = frame_noise(film.float() / 255, draws, "noise", self.noise)
        film = film.reshape(count * blocks, self.frames, *film.shape[2:])
        channel = draws.integers("channel", 3, (blocks,)).flatten()
        split = draws.bernoulli("split", self.split, (blocks,)).flatten()
        film = some_one_channel(film, channel, split)
        gain = draws.uniform("gain", (blocks, 3), 1 - self.jitter, 1 + self.jitter).flatten(0, 1)
        offset = draws.uniform("offset", (blocks, 3), -self.jitter / 3, self.jitter / 3).flatten(0, 1)
        gain, offset = (x.float()[:, None, :, None, None] for x in (gain, offset))
        film = film.mul_(gain).add_(offset).clamp_(0.0, 1.0).transpose(1, 2).unflatten(0, (count, blocks))
        valid = valid_rows(self, batch) * inside(batch, times[:, 0], self.picture.seconds)
        return BlocksExample(
            seen=film[:, : self.seen],
            next=film[:, self.seen :],
            change=change,
            drawn=draws.uniform("others"),
            weight=valid * even_rows(batch, times, self.picture.rate),
            valid=valid,
        )

    def break_pairs(self, example: BlocksExample, draws: Draws) -> BlocksExample:
        """Other clips' blocks, in another order and shifted over the picture (round its border), all drawn.

        Steps and places are candidates as clips are. Were they kept, the own film's right step and place would be the
        match whenever the own film is (in one batch of B), its wrong ones never: that teaches to predict.

        Backwards the first three blocks are the truth. For both ways to be broken, they, the blocks between and the
        last three are of three clips.
        """
        broken = super().break_pairs(example, draws)
        broken = broken._replace(next=scattered(broken.next, draws, "broken"))
        if self.backwards:
            first, between = example.seen[:, :STEPS], example.seen[:, STEPS:]
            apart = draws.for_task(f"{draws.task} between")
            between = super().break_pairs(example._replace(next=between), apart).next
            parts = [scattered(first, draws, "broken first"), scattered(between, apart, "broken")]
            broken = broken._replace(seen=torch.cat(parts, dim=1))
        return broken

    def features(self, blocks: torch.Tensor, encoders: Encoders) -> torch.Tensor:
        """[B, N, D, h, w] of blocks [B, N, 3, F, H, W], each encoded by itself; before any ReLU."""
        level = encoders.encode("video", blocks.flatten(0, 1)).levels[self.stride].mean(dim=2)
        level = self.project(level)
        if max(level.shape[-2:]) > self.grid:
            level = functional.adaptive_avg_pool2d(level, self.grid)
        made: torch.Tensor = level.unflatten(0, blocks.shape[:2])
        return made

    def predict(self, seen: torch.Tensor, back: bool = False) -> torch.Tensor:
        """[B, 3, D, h, w]: the features of the next blocks, from those of the seen ones, [B, S, D, h, w].

        With `back` the blocks are in the order of the way back, and read by its ConvGRU.
        """
        recurrent = self.recurrent_back if back else self.recurrent
        state = recurrent.start(seen[:, 0])
        for feature in seen.unbind(dim=1):
            state = recurrent(torch.relu(feature), state)
        made = []
        for _ in range(STEPS):
            feature = self.predictor(state)
            if self.memory_slots:
                feature = torch.einsum("bmhw,md->bdhw", feature.softmax(dim=1), self.memory)
            made.append(feature)
            state = recurrent(torch.relu(feature), state)
        return torch.stack(made, dim=1)

    def forward(self, example: BlocksExample, encoders: Encoders, moment: Moment) -> Outcome:
        """InfoNCE over all clips, steps and places of the gathered batch, forwards and, if asked for, backwards."""
        features = self.features(torch.cat([example.seen, example.next], dim=1), encoders)
        weight, drawn = gather(example.weight), gather(example.drawn)
        losses: dict[str, torch.Tensor] = {}
        metrics = {"even_clips": rate(example.weight > 0, example.valid)}
        for back in (False, True) if self.backwards else (False,):
            blocks, name = (features.flip(1), "_backwards") if back else (features, "")
            seen, true = blocks[:, : self.seen], blocks[:, self.seen :]
            # Places as rows, [B, 3, h * w, D].
            made, true = (x.float().flatten(3).transpose(2, 3) for x in (self.predict(seen, back), true))
            candidates = gather(true.contiguous())
            anchors = made.shape[:3].numel()
            own = torch.arange(anchors, device=made.device) + distributed.rank() * anchors
            valid = weight.repeat_interleave(anchors // len(made)) > 0
            loss = dense_nce(made.flatten(0, 2), candidates.flatten(0, 2), own, valid)
            losses[f"nce{name}"] = global_mean(loss.unflatten(0, (len(made), -1)).mean(dim=1), example.weight)
            # Products that autocast rounds to bfloat16 would tie, or change places.
            with torch.autocast(made.device.type, enabled=False):
                found = self._metrics(made.detach(), candidates.detach(), weight, drawn)
                if not back:
                    grid = (features.shape[-2], features.shape[-1])
                    apart = functional.adaptive_avg_pool2d(example.change, grid) > CHANGE
                    moving = apart.all(dim=1).flatten(1)
                    last = seen[:, -1].detach().float().flatten(2).transpose(1, 2)  # [B, h * w, D]
                    unlike = torch.stack([last, -last, -last], dim=1)
                    found["moving_top1"] = self._moving(made.detach(), true.detach(), moving, example.weight)
                    found["moving_likeness"] = self._moving(unlike, true.detach(), moving, example.weight)
                    copied = last[:, None].expand_as(made)
                    found["floor"] = rate(self._dense(copied, candidates.detach(), weight), example.weight)
            metrics |= {f"{metric}{name}": value for metric, value in found.items()}
        return Outcome(losses, metrics)

    @torch.no_grad()
    def _metrics(
        self, made: torch.Tensor, candidates: torch.Tensor, weight: torch.Tensor, drawn: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Accuracies of this rank's predictions.

        Args:
            made: float32 [B, 3, P, D].
            candidates: float32 [N, 3, P, D], of the gathered batch.
            weight: [N].
            drawn: float64 [N].

        Returns:
            top1: among the steps of the own clip and of three others at one place; nothing is counted where the batch
            has fewer clips. temporal_top1: among the steps of the own clip. dense_top1: among all.
        """
        rows = torch.arange(len(made), device=made.device) + distributed.rank() * len(made)
        others = ring_others(drawn, weight > 0, CLIPS - 1)[rows]
        # [B, clips, steps of the candidate, P, D]; the own clip first.
        near = candidates[torch.cat([rows[:, None], others], dim=1)]
        scores = torch.einsum("btpd,bcspd->btpcs", made, near)
        step = torch.arange(STEPS, device=made.device)
        mine = scores[:, step, :, 0, step].permute(1, 0, 2)  # [B, 3, P]
        foreign = step[:, None, None] != step  # [3, 1, 3]: the clip's other steps
        lowest = torch.full_like(scores[..., 0, :], -torch.inf)
        own_others = torch.where(foreign, scores[..., 0, :], lowest)
        all_others = torch.cat([own_others, scores[..., 1:, :].flatten(3)], dim=-1)
        here = weight[rows]
        # Three others and itself: with fewer clips the candidates would be fewer, and the floor another.
        enough = here * ((weight > 0).sum() >= CLIPS)
        found = {
            "top1": (top_rate(mine, all_others).flatten(1).mean(dim=1), enough),
            "temporal_top1": (top_rate(mine, own_others).flatten(1).mean(dim=1), here),
            "dense_top1": (self._dense(made, candidates, weight), here),
        }
        return {name: rate(values, counted) for name, (values, counted) in found.items()}

    @torch.no_grad()
    def _dense(self, made: torch.Tensor, candidates: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Float32 [B]: how often each of the rows' predictions is nearest to its own feature of all; see `_metrics`."""
        scores = made.flatten(0, 2) @ candidates.flatten(0, 2).T
        scores = scores.masked_fill((weight <= 0).repeat_interleave(scores.shape[0] // len(made)), -torch.inf)
        place = torch.arange(len(scores), device=made.device)
        own = scores[place, place + distributed.rank() * len(scores)]
        first = (own >= scores.amax(dim=1)).float() / (scores == own[:, None]).sum(dim=1)  # of ties one is taken by lot
        return torch.as_tensor(first.unflatten(0, (len(made), -1)).mean(dim=1))

    @torch.no_grad()
    def _moving(
        self, made: torch.Tensor, true: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How often a step is found among the three of its clip and place, of the places `moving`, bool [B, P]."""
        scores = torch.einsum("btpd,bspd->btps", made, true)
        mine = scores.diagonal(dim1=1, dim2=3).transpose(1, 2)
        step = torch.arange(STEPS, device=made.device)
        others = scores.masked_fill((step[:, None] == step)[:, None], -torch.inf)
        return rate(top_rate(mine, others).mean(dim=1), moving * (weight > 0)[:, None])


def changes(blocks: torch.Tensor) -> torch.Tensor:
    """Float32 [B, 3, H, W]: how far any two of three blocks are apart in grey, by the means over their frames.

    Args:
        blocks: uint8 [B, 3, F, 3, H, W].
    """
    grey = blocks.float().mean(dim=(2, 3)) / 255
    return (grey - grey.roll(1, dims=1)).abs()


def scattered(blocks: torch.Tensor, draws: Draws, name: str) -> torch.Tensor:
    """Blocks [B, N, ..., H, W] of each clip in a drawn order, all shifted over the picture alike, round its border."""
    count, (height, width) = len(blocks), blocks.shape[-2:]
    order = draws.permutation(f"{name} steps", blocks.shape[1])
    mixed = blocks[torch.arange(count, device=order.device)[:, None], order]
    down, right = (draws.integers(f"{name} {axis}", size) for axis, size in (("rows", height), ("columns", width)))
    shifts = zip(down.tolist(), right.tolist(), strict=True)
    return torch.stack([clip.roll(shift, dims=(-2, -1)) for clip, shift in zip(mixed, shifts, strict=True)])
