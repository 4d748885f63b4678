"""stage=pretrain: make the backbone that comparisons and meta-training start from."""

import time
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from adapt.app.build import build
from adapt.app.environment import choose_device
from adapt.app.progress import console, progress
from adapt.app.stages.session import Parts, Session, distribution
from adapt.app.stages.tracked import tracked
from adapt.app.stages.training import VALIDATION, provenance, settings_of
from adapt.backbones import freeze_batch_norm, save_backbone
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic, Prototype, one_hot
from adapt.meta import Pretraining, image_batches, pretrain
from tasks import Distribution
from tasks.readers.room import ROOM, check_room

__all__ = ["run_pretrain"]

VALIDATION_TASKS = 200


def run_pretrain(config: DictConfig, session: Session) -> float:
    """Pretrain ``config.backbone`` on the classes of ``config.task.support_split``; returns validation
    accuracy."""
    settings = settings_of(config, Pretraining)
    device = choose_device(config.device)
    parts = Parts(config, reads=False)
    tasks, validation = _classes(config, parts), _classes(config, parts, VALIDATION)
    torch.manual_seed(config.seed)  # initial weights
    backbone, info = build(config.backbone, "backbone", config.allow)
    batches, classes = image_batches(
        tasks.source,
        tasks.support_split,
        tasks.transform,
        settings.batch,
        config.seed,
        rotations=settings.rotations,
    )
    folder = Path(config.output) if config.output else session.folder / "backbone"
    size = sum(tensor.nbytes for tensor in backbone.state_dict().values())
    check_room(folder, "the backbone", AdaptError, 2 * size + ROOM)  # it is written beside an old one
    started = time.perf_counter()
    with tracked(config, session, tasks.source, info.name, device, "training") as run:
        bar = progress(f"pretraining on {classes} classes")
        pretrain(
            backbone.to(device),
            batches,
            classes,
            settings,
            seed=config.seed,
            progress=bar,
            report=lambda s, m: run.log_metrics(m, step=s),
        )
        seconds = time.perf_counter() - started
        metrics = _few_shot_accuracy(freeze_batch_norm(backbone.cpu()).eval(), validation)
        run.log_metrics({**metrics, "time/train_seconds": seconds}, step=settings.steps)
        training = provenance(config, session, tasks, seconds, metrics, device)
        save_backbone(
            folder,
            backbone,
            architecture=info.architecture,
            arguments={**info.arguments, "frozen": True},
            input_shape=tasks.source.shape,
            training=training,
            value_range=_range_of(batches(0)[0]),
        )
    console.print(
        f"backbone written to {folder}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
    )
    session.metric = "accuracy"
    return metrics["validation/accuracy_logistic"]


def _range_of(x: Tensor) -> tuple[float, float] | None:
    """That of the examples ``x``, if they are pictures as our sources give them."""
    low, high = (float(value) for value in x.aminmax())
    return (0.0, 1.0) if 0 <= low < high <= 1 else None


def _classes(config: DictConfig, parts: Parts, split: str | None = None) -> Distribution:
    tasks = distribution(config, parts, split=split)
    if not isinstance(tasks, Distribution):
        raise AdaptError(f"stage=pretrain learns classes, and {tasks.source.name} has none: use stage=meta")
    return tasks


def _few_shot_accuracy(backbone: nn.Module, tasks: Distribution) -> dict[str, float]:
    """Accuracy of the frozen features on tasks of unseen classes, by prototypes and by logistic
    regression."""
    heads: dict[str, Head] = {"prototype": Prototype(), "logistic": Logistic()}
    scores: dict[str, list[float]] = {name: [] for name in heads}
    with torch.no_grad():
        for episode in tasks.episodes(0, VALIDATION_TASKS):
            support, query = backbone(episode.support_x), backbone(episode.query_x)
            targets = one_hot(episode.support_y, len(episode.meta.classes))
            for name, head in heads.items():
                predicted = head.logits(head.fit(support, targets), query).argmax(-1)
                scores[name].append(float((predicted == episode.query_y).double().mean()))
    return {f"validation/accuracy_{name}": float(np.mean(values)) for name, values in scores.items()}
