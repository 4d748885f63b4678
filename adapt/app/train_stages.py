"""stage=pretrain and stage=meta: make the artifacts that comparisons start from."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from adapt.adapter import FewShotAdapter
from adapt.app.build import build
from adapt.app.environment import choose_device, environment
from adapt.app.progress import console, progress
from adapt.app.session import Session, distribution
from adapt.backbones import freeze_batch_norm, save_backbone
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic, Prototype, one_hot
from adapt.meta import MetaTraining, Pretraining, image_batches, meta_train, pretrain, task_gradient_basis
from adapt.tracking import DatasetInput, track
from tasks import Distribution, Source

__all__ = ["run_meta", "run_pretrain"]

VALIDATION = "validation"  # the split that choices are made on; test classes are never looked at here
VALIDATION_TASKS = 200


def run_pretrain(config: DictConfig, session: Session) -> float:
    """Pretrain ``config.backbone`` on the classes of ``config.task.support_split``; returns validation
    accuracy."""
    settings = _settings(config, Pretraining)
    device = choose_device(config.device)
    tasks = distribution(config)
    torch.manual_seed(config.seed)  # initial weights
    backbone, info = build(config.backbone, "backbone", config.allow)
    batches, classes = image_batches(
        tasks.source, config.task.support_split, tasks.transform, settings.batch, config.seed
    )
    started = time.perf_counter()
    with track(
        build(config.tracking, "tracking", config.allow),
        **_tracked(config, session, tasks.source, info.name, device),
    ) as run:
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
        metrics = _few_shot_accuracy(
            freeze_batch_norm(backbone.cpu()).eval(), distribution(config, split=VALIDATION)
        )
        run.log_metrics({**metrics, "time/train_seconds": seconds}, step=settings.steps)
        folder = Path(config.output) if config.output else session.folder / "backbone"
        training = _provenance(config, tasks.source, seconds, metrics, device)
        save_backbone(
            folder,
            backbone,
            architecture=info.architecture,
            arguments={**info.arguments, "frozen": True},
            input_shape=tasks.source.shape,
            training=training,
        )
    console.print(
        f"backbone written to {folder}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
    )
    return metrics["validation/accuracy_logistic"]


def run_meta(config: DictConfig, session: Session) -> float:
    """Meta-train an adapter for ``config.backbone`` in ``config.space``; returns validation accuracy."""
    settings = _settings(config, MetaTraining)
    device = choose_device(config.device)
    train = distribution(config)
    validation = distribution(config, split=VALIDATION)
    backbone, info = build(config.backbone, "backbone", config.allow)
    space = build(config.space, "space", config.allow)(backbone.to(device))
    solver, head = build(config.inner, "inner", config.allow), build(config.head, "head", config.allow)
    started = time.perf_counter()
    with track(
        build(config.tracking, "tracking", config.allow),
        **_tracked(config, session, train.source, info.name, device),
    ) as run:
        basis_episodes = (
            train.episode(10**6 + index)
            for index in progress("gradients of training tasks")(range(settings.basis_tasks))
        )
        start = task_gradient_basis(backbone, space, basis_episodes, settings.k)
        state, metrics = meta_train(
            backbone,
            space,
            start,
            solver,
            head,
            train,
            validation,
            settings,
            progress=progress(f"meta-training in space {space.name}, k = {settings.k}"),
            report=lambda step, values: run.log_metrics(values, step=step),
        )
        seconds = time.perf_counter() - started
        run.log_metrics({"time/train_seconds": seconds}, step=settings.steps)
        folder = Path(config.output) if config.output else session.folder / "adapter"
        training = _provenance(config, train.source, seconds, metrics, device)
        details = {"title": f"{folder.name}: {info.name} in space {space.name}", "training": training}
        cpu = type(state)(*(tensor.cpu() for tensor in state))
        FewShotAdapter(
            backbone, space, cpu, solver, head, info.input_shape, info.name, details
        ).save_pretrained(folder)
    console.print(
        f"adapter written to {folder}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
    )
    return metrics["validation/accuracy"]


def _settings(config: DictConfig, kind: type) -> Any:
    settings = build(config.meta, "meta", config.allow)
    if not isinstance(settings, kind):
        option = {"Pretraining": "pretraining", "MetaTraining": "outer"}[kind.__name__]
        raise AdaptError(f"stage={config.stage.value} needs meta={option}, not {type(settings).__name__}")
    return settings


def _tracked(
    config: DictConfig, session: Session, source: Source, backbone: str, device: torch.device
) -> dict[str, Any]:
    tags = {"backbone": backbone, "task": source.name, "device": device.type}
    data = DatasetInput(source.name, source.digest(), source.card.to_dict(), "training")
    return {
        "name": config.name,
        "tags": tags,
        "config": session.config,
        "overrides": session.overrides,
        "datasets": [data],
    }


def _provenance(
    config: DictConfig, source: Source, seconds: float, metrics: dict[str, float], device: torch.device
) -> dict[str, Any]:
    """What made the artifact, flat enough for a model card."""
    where = environment(device)
    return {
        "experiment": config.name,
        "seed": config.seed,
        "seconds": round(seconds, 1),
        "data": source.name,
        "data_sha256": source.digest(),
        "split": config.task.support_split,
        **metrics,
        "settings": {key: value for key, value in config.meta.items() if key != "_target_"},
        "device": where["device"],
        "versions": where["versions"],
    }


def _few_shot_accuracy(backbone: nn.Module, tasks: Distribution) -> dict[str, float]:
    """Accuracy of the frozen features on tasks of unseen classes, by prototypes and by logistic
    regression."""
    heads: dict[str, Head] = {"prototype": Prototype(), "logistic": Logistic()}
    scores: dict[str, list[float]] = {name: [] for name in heads}
    with torch.no_grad():
        for episode in tasks.episodes(0, VALIDATION_TASKS):
            support, query = backbone(episode.support_x), backbone(episode.query_x)
            targets = one_hot(episode.support_y, tasks.ways)
            for name, head in heads.items():
                predicted = head.logits(head.fit(support, targets), query).argmax(-1)
                scores[name].append(float((predicted == episode.query_y).double().mean()))
    return {f"validation/accuracy_{name}": float(np.mean(values)) for name, values in scores.items()}
