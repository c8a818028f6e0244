"""Video prediction: ten frames are seen, the next ten are predicted (ConvLSTM, arXiv 1506.04214; MCnet, 1706.08033;
SimVP, 2206.05099).

What moved goes on moving: the shared `video` encoder reads the ten past frames (its stem sees the differences of
neighbouring frames, as MCnet's motion encoder does), the shared `image` encoder the last one (MCnet's content encoder).
Of the past, the network and the decoder see nothing but the maps of these two; the skips that SimVP and MCnet draw from
their own encoders come from the finer maps of the `image` encoder.

What has moved where to is read from how the finest maps of two past frames match (`mmssl.nn.future.Matching`): the same
maps of the `image` encoder, which so learns to find things again.

A predicted frame is the last one warped by a predicted flow, with what comes into sight painted in (`mmssl.nn.future`).
It is a copy of the last frame before anything is learned: *that* is the floor, it is strong wherever the ground stands
still, and with the encoders blinded nothing better is left. With ``copy_last=False`` the whole picture is painted, as
in the papers, and even what stands still must pass through the encoders.

Squared errors alone are least for the mean of what may come, which is blurred. MCnet asks a judge besides, who tells
true clips from predicted ones (`adversarial`, `mmssl.nn.discriminator`). Its published loss (on KTH) is squared error +
gradient difference + 0.02 of the judge's term, the squared error of pictures in [-1, 1], the gradient difference of
pictures in [0, 1]. Here all pictures are in [0, 1], where the squared error is a quarter of that: the published balance
is ``gradient_weight=0.25, adversarial=0.005``. Departures from it: while the maker pauses, it leaves out the judge's
term alone and goes on with the rest; where gradients are clipped, the judge's counts with those of the task's heads.

Departures from the papers: MCnet's pixel differences (see `mmssl.nn.mcnet`), peepholes by place
(`mmssl.nn.conv_lstm`), and the spatial encoders, which are the shared ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import global_mean
from mmssl.errors import UserError
from mmssl.losses.gradient_difference import gradient_difference
from mmssl.metrics.image_quality import psnr, ssim
from mmssl.nn.conv_lstm import ConvLSTM
from mmssl.nn.discriminator import Discriminator, Turns, carried, fixed, judged
from mmssl.nn.encoders import Encoders
from mmssl.nn.future import FutureDecoder, Matching, Parts, compose
from mmssl.nn.mcnet import MCNet
from mmssl.nn.simvp import SimVP
from mmssl.ops.crops import mirror
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.views import goes_on, inside

NETWORKS: dict[str, type[nn.Module]] = {"simvp": SimVP, "mcnet": MCNet, "conv_lstm": ConvLSTM}
BEST_PSNR = 60.0  # decibels; equal pictures, whose PSNR is infinite, count with this
LAG = 4  # frames between the two whose maps are matched; slow things must have moved, fast ones not out of reach
PAINT_RAMP = 0.1  # share of the training within which painting sets in
CHANGE = 0.05  # share of the grey range by which a pixel must differ from the last frame to count as moving


class PredictionExample(NamedTuple):
    """Past and future of clips."""

    past: torch.Tensor  # float32 [B, 3, T, H, W] in [0, 1], the last of them being what a copy would show
    future: torch.Tensor  # float32 [B, K, 3, H, W] in [0, 1]
    weight: torch.Tensor  # float32 [B], 0 without a picture, or where it ends too early


class VideoPrediction(PretextTask[Batch, PredictionExample]):
    """The next frames of a clip.

    Args:
        frames: frames that are seen.
        steps: frames that are predicted.
        rate: frames a second.
        size: (height, width) of the decoded frames.
        network: what makes codes of the future from codes of the past: "simvp" all at once, "mcnet" and "conv_lstm"
            one after the other.
        width: channels of the code of a future frame.
        code: channels of the motion code of a past frame.
        gradient_weight: weight of the gradient difference loss beside the squared error; MCnet's is 0.25 in our units.
        adversarial: weight of the judge's term, 0 for no judge; MCnet's is 0.005 in our units (0.02 beside errors of
            pictures in [-1, 1], which are four times ours).
        judge_lr: the judge's own learning rate; that of the others would let it run away from them.
        copy_last: start from the last frame, warped; off to paint whole pictures.
        near_first: weigh the error of step k by 1 / k; off for the plain mean over the steps.
        paint_from: share of the training before which nothing is painted: who may paint blurs what moves, and learns
            no more from how it moves.
        shuffle: show all past frames but the last in a drawn order (only to show what their order is good for).
    """

    uses: ClassVar = {"image": "image", "video": "video"}
    needs: ClassVar = ("picture",)
    score = Score("ssim", floor=None, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("future",)

    def __init__(
        self,
        frames: int = 10,
        steps: int = 10,
        rate: float = 12.5,
        size: tuple[int, int] = (96, 96),
        network: Literal["simvp", "mcnet", "conv_lstm"] = "simvp",
        width: int = 48,
        code: int = 24,
        gradient_weight: float = 1.0,
        adversarial: float = 0.0,
        judge_lr: float = 1e-4,
        copy_last: bool = True,
        near_first: bool = True,
        paint_from: float = 0.3,
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise UserError(f"video_prediction: network is one of {', '.join(NETWORKS)}, got '{network}'")
        if frames < 2 or steps < 1:
            raise UserError(f"video_prediction: at least 2 frames and 1 step are needed, got {frames} and {steps}")
        self.frames, self.steps = frames, steps
        self.picture = Span((frames + steps) / rate, rate)
        self.window = Window(picture=self.picture, size=size)
        self.network_name, self.width, self.code = network, width, code
        if adversarial < 0 or judge_lr <= 0:
            raise UserError(
                "video_prediction: adversarial must be at least 0 and judge_lr above 0, "
                f"got {adversarial} and {judge_lr}"
            )
        self.gradient_weight, self.adversarial, self.judge_lr = gradient_weight, adversarial, judge_lr
        self.copy_last, self.shuffle, self.paint_from = copy_last, shuffle, paint_from
        # The error of a copy grows about as fast as time passes: weighed by it, each step counts alike.
        near = 1.0 / torch.arange(1, steps + 1) if near_first else torch.ones(steps)
        self.register_buffer("step_weights", near / near.sum(), persistent=False)
        self.step_weights: torch.Tensor

    def setup(self, encoders: Encoders) -> None:
        """The entries for the encoders' maps, the network and the decoder."""
        image, video = encoders["image"], encoders["video"]
        self.stride = min(video.strides)
        # One group: maps of any width come in, before their last normalisation.
        self.motion = nn.ModuleDict(
            {
                str(stride): nn.Sequential(
                    nn.GroupNorm(1, video.level_widths[stride]), nn.Conv3d(video.level_widths[stride], self.code, 1)
                )
                for stride in video.strides
            }
        )
        # The map of the last frame that is no finer than the motion's, or the coarsest there is.
        self.content_stride = min([s for s in image.strides if s >= self.stride], default=max(image.strides))
        entering = image.level_widths[self.content_stride]
        self.content = nn.Sequential(nn.GroupNorm(1, entering), nn.Conv2d(entering, self.width, 1))
        self.network = NETWORKS[self.network_name](self.code, self.width, self.width, self.frames, self.steps)
        self.fine = min(image.strides)
        self.matching = Matching()
        self.decoder = FutureDecoder(self.width, self.stride, self.matching.width, image.level_widths)
        if self.adversarial:
            self.judge, self.turns = Discriminator(self.frames + self.steps), Turns()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The judge learns at a rate of its own, with the published memory of its steps."""
        if not self.adversarial:
            return super().parameter_groups()
        others = [p for name, p in self.named_parameters() if not name.startswith("judge.")]
        return [
            {"params": others},
            {"params": list(self.judge.parameters()), "lr": self.judge_lr, "betas": (0.5, 0.999)},
        ]

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> PredictionExample:
        """Past and future of each clip, mirrored together or not."""
        times = batch.times(self.picture)
        film = batch.frames_at(times)
        film = mirror(film.float() / 255, draws.bernoulli("mirror", 0.5))
        past, future = film[:, : self.frames], film[:, self.frames :]
        if self.shuffle:
            order = draws.permutation("shuffle", self.frames - 1)
            rows = torch.arange(len(film), device=film.device)[:, None]
            past = torch.cat([past[rows, order], past[:, -1:]], dim=1)
        whole = inside(batch, times[:, 0], self.picture.seconds) & goes_on(batch, times)
        return PredictionExample(
            past=past.transpose(1, 2).contiguous(),
            future=future.contiguous(),
            weight=valid_rows(self, batch) * whole,
        )

    def parts(self, past: torch.Tensor, encoders: Encoders) -> Parts:
        """What the future of clips [B, 3, T, H, W] is made of, from the encoders' maps alone."""
        rows, lag = len(past), min(LAG, self.frames - 1)
        video = encoders.encode("video", past)
        both = encoders.encode("image", torch.cat([past[:, :, -1], past[:, :, -1 - lag]]))
        image = {stride: level[:rows] for stride, level in both.levels.items()}
        displacement, matches = self.matching(image[self.fine], both.levels[self.fine][rows:])
        grid = video.levels[self.stride].shape[-2:]
        motion = torch.zeros((), device=past.device)
        for stride, level in video.levels.items():
            # Time is brought to the frames' own where an encoder thins it out.
            code = self.motion[str(stride)](level)
            motion = motion + functional.interpolate(code, size=(self.frames, *grid), mode="nearest")
        content = self.content(image[self.content_stride])
        content = functional.interpolate(content, size=grid, mode="nearest")
        codes = self.network(motion, content)
        made: Parts = self.decoder(codes, image, displacement * (self.fine / lag), matches, past.shape[-2:])
        return made

    def predict(self, past: torch.Tensor, encoders: Encoders, moment: Moment) -> torch.Tensor:
        """Float32 [B, K, 3, H, W] in [0, 1]: the future of clips [B, 3, T, H, W]."""
        parts = self.parts(past, encoders)
        if not self.copy_last:
            return parts.paint
        painting = min(max((moment.progress - self.paint_from) / PAINT_RAMP, 0.0), 1.0)
        return compose(past[:, :, -1], parts._replace(mask=parts.mask * painting))

    def forward(self, example: PredictionExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Squared error and gradient difference over the steps, and the judge's two terms; means over all ranks."""
        made = self.predict(example.past, encoders, moment)
        # Sums, no matrix products: those would be rounded to bfloat16 under autocast.
        error = ((made - example.future).square().mean(dim=(2, 3, 4)) * self.step_weights).sum(dim=1)
        edges = (gradient_difference(made, example.future) * self.step_weights).sum(dim=1)
        losses = {
            "squared_error": global_mean(error, example.weight),
            "gradient_difference": self.gradient_weight * global_mean(edges, example.weight),
        }
        carry: dict[str, torch.Tensor] = {}
        if self.adversarial:
            real = judged(self.judge(example.past, example.future), true=True)
            found = judged(self.judge(example.past, made.detach()), true=False)
            taken = judged(fixed(self.judge, example.past, made), true=True)
            judge_learns, maker_learns = self.turns.learning
            losses["judge"] = judge_learns * global_mean(real + found, example.weight)
            losses["adversarial"] = maker_learns * self.adversarial * global_mean(taken, example.weight)
            carry = carried(real, found, example.weight)
        return Outcome(losses, self.qualities(made.detach(), example), carry)

    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """See whose turn it is, the judge's or the maker's."""
        if self.adversarial:
            self.turns.update(carries)

    @torch.no_grad()
    def qualities(self, made: torch.Tensor, example: PredictionExample) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """SSIM (of grey pictures) and PSNR beside those of a copy of the last frame.

        Args:
            made: float32 [B, K, 3, H, W].
            example: past and true future.

        Returns:
            ssim and floor (the copy's); in evaluation also psnr and psnr_copied, psnr_moving and psnr_moving_copied
            (over pixels that differ from the last frame by more than `CHANGE`), and all of them for each step, from
            ``ssim_01`` on.
        """
        true, last = example.future, example.past[:, :, -1]
        copied = last[:, None].expand_as(true)
        grey, moving, some = _grey(true), torch.ones(()), torch.ones(())
        found = {"ssim": ssim(_grey(made), grey), "floor": ssim(_grey(copied), grey)}
        if not self.training:
            moving = (grey - _grey(copied)).squeeze(2).abs() > CHANGE
            some = moving.flatten(2).any(dim=2)
            found |= {
                "psnr": psnr(made, true).clamp(max=BEST_PSNR),
                "psnr_copied": psnr(copied, true).clamp(max=BEST_PSNR),
                "psnr_moving": psnr(made, true, moving).clamp(max=BEST_PSNR),
                "psnr_moving_copied": psnr(copied, true, moving),
            }
        metrics = {}
        for name, values in found.items():
            weight = example.weight[:, None].expand_as(values)
            if "moving" in name:
                weight = weight * some
                values = torch.where(some, values, torch.zeros_like(values))
            metrics[name] = rate(values.flatten(), weight.flatten())
            if not self.training:
                for step in range(self.steps):
                    metrics[f"{name}_{step + 1:02d}"] = rate(values[:, step], weight[:, step])
        return metrics


def _grey(frames: torch.Tensor) -> torch.Tensor:
    """[..., 1, H, W]: the mean of the colours."""
    return frames.mean(dim=-3, keepdim=True)
