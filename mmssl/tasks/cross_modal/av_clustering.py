"""Audio-visual clustering: pseudo labels from clusters that both modalities have to agree on, XDC and SeLaVi.

``rule: xdc``. Alwassel et al., "Self-supervised learning by cross-modal audio-video clustering", arXiv 1911.12667:
k-means in one modality labels the other. ``rule: selavi``. Asano et al., "Labelling unlabelled videos from scratch with
multi-modal self-supervision", arXiv 2006.13662: one label for both, by Sinkhorn-Knopp on the product of both softmaxes,
with several heads.

Labels in a stream: no label of a sample is stored. A queue keeps the features of the last samples; every few steps
centroids (XDC) or the clusters' Sinkhorn potentials (SeLaVi) are estimated anew from it, and any row's label is its
nearest centroid, or its best cluster with the potential added. SeLaVi's labels stay from one estimate to the next, as
in the paper: they are those of a copy of encoders and classifiers, made at the estimate, of another augmentation than
the one that is trained on. If the present networks made them, they would only confirm what both say, and each modality
would keep the clusters it began with. XDC's come from the other modality, which is no such circle.

Counter-measures against clusters that say nothing: XDC's empty clusters are refilled with the points farthest from
their own, and features are standardised over the batch (else what all have in common decides); SeLaVi's clusters
have given sizes. The metric `label_entropy`, over the queue and as a share of log K, shows collapse: it should stay
above 0.5.
Agreement is judged against agreement with *other* clips' labels (`floor`), so that one big cluster gains nothing.
*Time in the clip* stays open: a fade, a title or a jingle tells picture and sound alike how far the clip is, and
clusters may be of that.

Departures from the papers:

- XDC takes up k-means where the last round ended, so clusters keep their numbers and the classifiers need not be drawn
  anew; `labels_kept` says how many labels a round left as they were. Its features are the present ones.
- SeLaVi's labels come from the product from the first step on, so that both heads share the numbering; there is no
  one-off alignment of the audio heads. Its cluster sizes are quantiles of the normal distribution, not draws. Which
  heads are a group is fixed; the paper's program deals them out anew at each estimate. A clip that comes again before
  the next estimate is labelled from another view again, and so not always alike; in the paper it keeps its label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.sinkhorn import ranked_sizes, sinkhorn_potential
from mmssl.nn.clusters import Centroids, ClusterHeads
from mmssl.nn.encoders import Encoders
from mmssl.nn.heads import BatchStandardisation
from mmssl.nn.queue import EmbeddingQueue
from mmssl.nn.teacher import Teacher
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.cross_modal.clip_and_sound import clip_and_sound
from mmssl.tasks.cross_modal.matching import own_rows
from mmssl.tasks.identity import sample_ids

RULES = ("xdc", "selavi")
MODALITIES = ("video", "audio")


class ClusteringExample(NamedTuple):
    """A clip and its sound, and the other views of both that SeLaVi's labels are made of: none of XDC."""

    clip: torch.Tensor  # float32 [B, 3, T, H, W] in [0, 1]
    wave: torch.Tensor  # float32 [B, S]
    label_clips: torch.Tensor  # float32 [B, G, 3, T, H, W] in [0, 1]
    label_waves: torch.Tensor  # float32 [B, G, S]
    weight: torch.Tensor  # float32 [B]
    ids: torch.Tensor  # int64 [B]


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of values [N] over the valid rows of a gathered batch; 0 without one."""
    kept = torch.where(weight > 0, values, torch.zeros_like(values))
    return (kept * weight).sum() / weight.sum().clamp(min=1e-12)


class AVClustering(PretextTask[Batch, ClusteringExample]):
    """Which cluster a clip's other modality, or both, belong to (XDC, arXiv 1911.12667; SeLaVi, 2006.13662).

    Args:
        rule: "xdc", each modality is labelled by the other's clusters; or "selavi", one balanced label for both.
        picture: span of the clip.
        sound_seconds: length of the sound about it.
        size: (height, width) of the frames.
        clusters: K; XDC's best were 64 to 256 for corpora of 10^5 to 10^6 clips, SeLaVi takes the number of classes.
        heads: classifiers of each modality (SeLaVi: 10); XDC has one.
        groups: of SeLaVi's heads, each labelled from an augmentation of its own (SeLaVi: 2), a forward without
            gradient each.
        queue: samples that clusters are estimated from.
        every: steps between estimates.
        iterations: of k-means, or of Sinkhorn-Knopp, at each estimate.
        sharpness: SeLaVi's lambda: scores are it times the mean of both log softmaxes.
        spread: deviation of SeLaVi's cluster sizes about even ones, see `losses.sinkhorn.ranked_sizes`.
        quietest: clips quieter than this, in decibels of full scale, take no part.
        augment: mirror, shift and colour of the clip, volume of the sound.
        sound_rate: samples a second.
    """

    uses: ClassVar = {"video": "video", "audio": "audio"}
    needs: ClassVar = ("picture", "sound")
    score = Score("accuracy", floor=None, ceiling=1.0)
    ablated_input: ClassVar = "sound"
    negatives: ClassVar = True  # features are standardised over the batch
    paired: ClassVar = ("wave", "label_waves")

    def __init__(
        self,
        rule: str = "selavi",
        picture: Span = Span(1.0, 8.0),
        sound_seconds: float = 2.0,
        size: tuple[int, int] = (96, 96),
        clusters: int = 32,
        heads: int = 4,
        groups: int = 2,
        queue: int = 1024,
        every: int = 10,
        iterations: int = 20,
        sharpness: float = 20.0,
        spread: float = 0.1,
        quietest: float = -50.0,
        augment: bool = True,
        sound_rate: int = 16000,
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise UserError(f"av_clustering: rule must be one of {', '.join(RULES)}, got {rule!r}")
        if not 2 <= clusters <= queue:
            raise UserError(f"av_clustering: clusters must be 2 or more and at most queue ({queue}), got {clusters}")
        if every < 1 or heads < 1 or iterations < 1:
            raise UserError(
                f"av_clustering: every, heads and iterations must be 1 or more, got {every, heads, iterations}"
            )
        if not 1 <= groups <= heads:
            raise UserError(f"av_clustering: groups must be 1 or more and at most heads ({heads}), got {groups}")
        if sharpness <= 0 or not 0 <= spread < 0.4:
            raise UserError(f"av_clustering: sharpness must be above 0 and spread in [0, 0.4), got {sharpness, spread}")
        self.rule = rule
        self.picture = picture
        self.sound_seconds = sound_seconds
        self.clusters = clusters
        self.heads, self.groups = (heads, groups) if rule == "selavi" else (1, 0)
        self.capacity, self.every, self.iterations = queue, every, iterations
        self.sharpness, self.spread = sharpness, spread
        self.quietest = quietest
        self.augment = augment
        self.sound_span = Span(max(picture.seconds, sound_seconds), sound_rate)
        self.window = Window(picture, self.sound_span, size=(size[0], size[1]))

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        widths = {name: encoders[name].width for name in MODALITIES}
        self.standardise = nn.ModuleDict({name: BatchStandardisation(width) for name, width in widths.items()})
        self.classify = nn.ModuleDict({n: ClusterHeads(w, self.clusters, self.heads) for n, w in widths.items()})
        self.queue = EmbeddingQueue(self.capacity, widths, unit=False)
        if self.rule == "xdc":
            self.centroids = nn.ModuleDict({n: Centroids(w, self.clusters) for n, w in widths.items()})
        else:
            self.labeller = Teacher(self._labeller(encoders), momentum=0.0)
            self.register_buffer("potential", torch.zeros(self.heads, self.clusters))
        self.register_buffer("entropy", torch.ones(()))
        self.register_buffer("kept", torch.zeros(()))
        self.potential: torch.Tensor
        self.entropy: torch.Tensor
        self.kept: torch.Tensor

    def _labeller(self, encoders: Encoders) -> nn.ModuleDict:
        """What SeLaVi's labels are made by, of which a copy is kept."""
        parts = {"standardise": self.standardise, "classify": self.classify}
        return nn.ModuleDict({name: encoders[name] for name in MODALITIES} | parts)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> ClusteringExample:
        """The clip and the sound about its middle, and other views of both; labels are made in `forward`."""
        views = [
            clip_and_sound(batch, self.picture, self.sound_span, self.sound_seconds, self.augment, self.quietest, view)
            for view in range(1 + self.groups)
        ]
        clip, wave, there = views[0]
        label_clips, label_waves = clip[:, None][:, :0], wave[:, None][:, :0]
        if self.groups:
            label_clips, label_waves = (torch.stack([view[side] for view in views[1:]], dim=1) for side in (0, 1))
        weight = valid_rows(self, batch) * there
        return ClusteringExample(clip, wave, label_clips, label_waves, weight, sample_ids(batch))

    def forward(self, example: ClusteringExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy of each modality's classifier against the labels."""
        clip, wave, weight, ids = example.clip, example.wave, example.weight, example.ids
        mel = encoders["audio"].frontend(wave)
        pooled = {"video": encoders.encode("video", clip).pooled, "audio": encoders.encode("audio", mel).pooled}
        weight, ids = distributed.gather(weight), distributed.gather(ids)
        # Standardised over the whole batch: what all clips have in common would decide every label.
        features = {name: self.standardise[name](distributed.gather(pooled[name]), weight) for name in MODALITIES}
        logits = {name: self.classify[name](features[name]) for name in MODALITIES}
        targets = self.clusters_of(features, {}) if self.rule == "xdc" else self._labels(example, weight)
        each = [
            F.cross_entropy(logits[n].transpose(1, 2), targets[n], reduction="none").mean(dim=0) for n in MODALITIES
        ]
        loss = weighted_mean((each[0] + each[1]) / 2, weight)
        carry = {**{name: features[name].detach() for name in MODALITIES}, "ids": ids, "weight": weight}
        rows = own_rows(len(clip))
        return Outcome({self.rule: loss}, self._metrics(logits, targets, weight, rows), carry)

    @torch.no_grad()
    def _labels(self, example: ClusteringExample, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """SeLaVi: what the copy makes of the other views, int64 [H, N], as `weight` of all ranks; the same for both."""
        parts: Any = self.labeller.copied
        found = []
        for clip, wave in zip(example.label_clips.unbind(1), example.label_waves.unbind(1), strict=True):
            mel = parts["audio"].frontend(wave)
            pooled = {"video": parts["video"](clip).pooled, "audio": parts["audio"](mel).pooled}
            features = {n: parts["standardise"][n](distributed.gather(pooled[n]), weight) for n in MODALITIES}
            found.append(self.clusters_of(features, parts["classify"]))
        return {n: torch.stack([found[h % self.groups][n][h] for h in range(self.heads)]) for n in MODALITIES}

    @torch.no_grad()
    def clusters_of(self, features: Mapping[str, torch.Tensor], classify: Any) -> dict[str, torch.Tensor]:
        """Labels int64 [H, N], by the name of who is to say them, of features [N, D] and SeLaVi's classifiers."""
        if self.rule == "xdc":
            own = {name: self.centroids[name](features[name])[None] for name in MODALITIES}
            return {"video": own["audio"], "audio": own["video"]}
        scores = self.scores({name: classify[name](features[name]) for name in MODALITIES})
        return dict.fromkeys(MODALITIES, (scores + self.potential[:, None]).argmax(dim=2))

    def scores(self, logits: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sharpened logarithm of the product of both softmaxes, float32 [H, N, K]."""
        both = sum(torch.log_softmax(logits[name].detach().float(), dim=2) for name in MODALITIES)
        return torch.as_tensor(both) * (self.sharpness / 2)

    @torch.no_grad()
    def _metrics(
        self,
        logits: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        weight: torch.Tensor,
        rows: slice,
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """How often both modalities choose one cluster, and how often they would if clips had other partners.

        XDC: what a classifier says and the other modality's cluster. SeLaVi: what both classifiers say; the label
        itself, made of both, would flatter them.
        """
        said = {name: logits[name].argmax(dim=2) for name in MODALITIES}
        if self.rule == "xdc":
            pairs = [(said[name], targets[name]) for name in MODALITIES]
        else:
            pairs = [(said["video"], said["audio"])]
        valid = (weight > 0).float()
        others = valid[:, None] * valid[None] * (1 - torch.eye(len(weight), device=weight.device))
        compared = torch.where(others.sum(dim=1) > 0, weight, torch.zeros_like(weight))
        agree, chance = torch.zeros_like(weight), torch.zeros_like(weight)
        for first, second in pairs:
            same = (first[:, :, None] == second[:, None]).float().mean(dim=0)  # [N, N]
            agree += same.diagonal() / len(pairs)
            chance += (same * others).sum(dim=1) / others.sum(dim=1).clamp(min=1) / len(pairs)
        one = torch.ones_like(weight)
        return {
            "accuracy": rate(agree[rows], compared[rows]),
            "floor": rate(chance[rows], compared[rows]),
            "label_entropy": rate((self.entropy * one)[rows], compared[rows]),
            "labels_kept": rate((self.kept * one)[rows], compared[rows]),
        }

    @torch.no_grad()
    def after_step(self, encoders: Encoders, carries: Sequence[Mapping[str, torch.Tensor]], moment: Moment) -> None:
        """Let the step's features enter the queue, and estimate the clusters from it every few steps."""
        for carry in carries:
            self.queue.push({name: carry[name] for name in MODALITIES}, carry["ids"], carry["weight"] > 0)
        if (moment.step + 1) % self.every == 0 and int(self.queue.filled) >= self.clusters:
            held = {name: self.queue.vectors(name)[self.queue.occupied()] for name in MODALITIES}
            self._estimate(held, encoders)

    def _estimate(self, held: Mapping[str, torch.Tensor], encoders: Encoders) -> None:
        """New centroids, or potentials and copy, of the queue's features; how even and how new the labels are."""
        if self.rule == "xdc":
            before = self.clusters_of(held, {})
            for name in MODALITIES:
                clusters = self.centroids[name]
                assert isinstance(clusters, Centroids)
                clusters.estimate(held[name], self.iterations)
            after = self.clusters_of(held, {})
        else:
            copied: Any = self.labeller.copied
            before = self.clusters_of(held, copied["classify"])
            scores = self.scores({name: self.classify[name](held[name]) for name in MODALITIES})
            sizes = ranked_sizes(torch.softmax(scores, dim=2).mean(dim=1), self.spread)
            self.potential.copy_(sinkhorn_potential(scores, sizes, self.potential, self.iterations))
            self.labeller.update(self._labeller(encoders))
            after = self.clusters_of(held, copied["classify"])
        shares = torch.stack([F.one_hot(after[n], self.clusters).float().mean(dim=1) for n in MODALITIES])
        entropy = torch.special.entr(shares).sum(dim=-1) / math.log(self.clusters)
        self.entropy.copy_(entropy.min())  # of the modality, or the head, that is nearest to collapse
        self.kept.copy_(torch.stack([(before[n] == after[n]).float().mean() for n in MODALITIES]).mean())
