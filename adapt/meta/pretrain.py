"""Pretraining of a backbone by classification, the start that few-shot adaptation builds on.

    loss = CE(y, s · cos(features(x), w_c)) ,   s = 1/τ

Chen et al. (2019), *A Closer Look at Few-shot Classification* (Baseline++), section 3.2: a cosine classifier
on many classes makes features whose class means separate unseen classes. AdamW (Loshchilov and Hutter 2019)
on a one-cycle schedule (Smith and Topin 2019).
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from adapt.checks import TRAINING, WIDTH, between, check_settings, least, positive
from adapt.meta.schedule import one_cycle
from tasks import Source, Transform

__all__ = ["Pretraining", "image_batches", "pretrain"]


@dataclass(frozen=True)
class Pretraining:
    """Hyper-parameters: ``steps`` batches of ``batch`` images, peak rate ``lr``, ``sharpness`` s.

    ``rotations`` makes four classes of each, by turning images by 0, 90, 180 or 270 degrees (Lee, Hwang, Shin
    2020, *Self-supervised Label Augmentation via Input Transformations*, equation 2): what a network has to
    see to tell them apart also tells unseen classes apart. ``autocast`` computes convolutions in bfloat16,
    1.5 times as fast on CPUs that have it.
    """

    steps: int = 4000
    batch: int = 128
    lr: float = 3e-3
    weight_decay: float = 0.05
    sharpness: float = 16.0
    rotations: bool = False
    autocast: bool = True

    def __post_init__(self) -> None:
        enough = "at least 1 step, and 2 images a batch for batch statistics"
        check_settings(
            self,
            "meta",
            steps=least(1, enough, ceiling=TRAINING),
            batch=least(2, enough, ceiling=WIDTH),
            lr=positive(),
            weight_decay=between(0, None),
            sharpness=positive(),
        )


def image_batches(
    source: Source,
    split: str,
    transform: Transform | None,
    batch: int,
    seed: int,
    *,
    rotations: bool = False,
) -> tuple[Callable[[int], tuple[Tensor, Tensor]], int]:
    """``step → (x [B, …], labels [B])`` over all classes of a split, images drawn uniformly, and the number
    of classes; ``rotations`` as in :class:`Pretraining`.

    Step i is a pure function of (seed, i).
    """
    members = source.classes(split)
    rows = np.concatenate(list(members.values()))
    labels = torch.as_tensor(
        np.repeat(np.arange(len(members)), [len(indices) for indices in members.values()])
    )

    def batches(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([seed, step])
        chosen = rng.integers(len(rows), size=batch)
        x = source.load(rows[chosen])
        if transform is not None:
            x = transform(x, torch.Generator().manual_seed(int(rng.integers(2**63))))
        if not rotations:
            return x, labels[chosen]
        turns = torch.from_numpy(rng.integers(4, size=batch))
        turned = torch.stack([x.rot90(turn, (-2, -1)) for turn in range(4)])  # [4, B, …]
        return turned[turns, torch.arange(batch)], 4 * labels[chosen] + turns

    return batches, len(members) * (4 if rotations else 1)


def pretrain(
    backbone: nn.Module,
    batches: Callable[[int], tuple[Tensor, Tensor]],
    classes: int,
    settings: Pretraining,
    *,
    seed: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda steps: steps,
    report: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> nn.Module:
    """Train ``backbone`` in place, with batch statistics, and return it.

    Args:
        batches: ``step → (x [B, …], labels [B] int64)``, a pure function of the step.
        classes: number of labels.
        progress: wraps the iteration over steps (a progress bar).
        report: called every 100 steps with loss and accuracy over the last 100.
    """
    device = next(backbone.parameters()).device
    # Convolutions on CPU are faster so; values are the same. (torch's stubs do not know the argument.)
    backbone.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        width = backbone(batches(0)[0].to(device)).shape[1]
    generator = torch.Generator().manual_seed(seed)
    directions = nn.Parameter(torch.randn(classes, width, generator=generator).to(device))
    decayed = [p for p in backbone.parameters() if p.ndim > 1]
    plain = [p for p in backbone.parameters() if p.ndim <= 1] + [directions]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr)
    schedule = one_cycle(optimizer, settings.lr, settings.steps, 0.2)
    recent: deque[tuple[float, float]] = deque(maxlen=100)
    for step in progress(range(settings.steps)):
        x, labels = (t.to(device) for t in batches(step))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.autocast):
            features = backbone(x.contiguous(memory_format=torch.channels_last))
        features = nn.functional.normalize(features.float())
        logits = settings.sharpness * features @ nn.functional.normalize(directions).T
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        recent.append((loss.item(), (logits.argmax(1) == labels).float().mean().item()))
        if (step + 1) % 100 == 0 or step + 1 == settings.steps:
            loss_mean, accuracy_mean = (sum(column) / len(recent) for column in zip(*recent, strict=True))
            report(step + 1, {"train/loss": loss_mean, "train/accuracy": accuracy_mean})
    return backbone.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
