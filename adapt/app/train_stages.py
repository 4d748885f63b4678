"""stage=pretrain and stage=meta: make the artifacts that comparisons start from."""

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from adapt.adapter import AdapterState, FewShotAdapter
from adapt.app.adapters import untrained
from adapt.app.build import build
from adapt.app.environment import choose_device, environment
from adapt.app.licence import licence_tags, warn_about_licence
from adapt.app.progress import console, progress
from adapt.app.session import Parts, Session, distribution
from adapt.backbones import freeze_batch_norm, save_backbone
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic, Prototype, one_hot
from adapt.meta import MetaTraining, Pretraining, image_batches, initial_basis, meta_train, pretrain
from adapt.tracking import DatasetInput, Run
from adapt.tracking.model import check_name, load_pyfunc
from tasks import AnySource, Distribution, Mixture, Tasks

__all__ = ["run_meta", "run_pretrain"]

VALIDATION = "validation"  # the split that choices are made on; test classes are never looked at here
VALIDATION_TASKS = 200
BASIS_EPISODES = 10**6  # the first task of those that make the basis: none of them is trained on
CHECKPOINT = "checkpoint.safetensors"


def run_pretrain(config: DictConfig, session: Session) -> float:
    """Pretrain ``config.backbone`` on the classes of ``config.task.support_split``; returns validation
    accuracy."""
    settings = _settings(config, Pretraining)
    device = choose_device(config.device)
    parts = Parts(config, reads=False)
    tasks, held = _classes(config, parts), _classes(config, parts, VALIDATION)
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
    started = time.perf_counter()
    with _tracked(config, session, tasks.source, info.name, device) as run:
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
        metrics = _few_shot_accuracy(freeze_batch_norm(backbone.cpu()).eval(), held)
        run.log_metrics({**metrics, "time/train_seconds": seconds}, step=settings.steps)
        folder = Path(config.output) if config.output else session.folder / "backbone"
        training = _provenance(config, session, tasks, seconds, metrics, device)
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


def run_meta(config: DictConfig, session: Session) -> float:
    """Meta-train an adapter for ``config.backbone`` in ``config.space``; returns validation accuracy, or the
    squared error of a regression."""
    settings: MetaTraining = _settings(config, MetaTraining)
    _check_register(config)
    device = choose_device(config.device)
    parts = Parts(config)
    train = distribution(config, parts)
    _check_split(train)
    backbone, info = parts.network
    adapter = untrained(config, backbone.to(device), info, train)
    adapter.examples(train.episode(0).support_x)  # of the shape and range that the backbone takes
    resume = _resumed(config)
    started = time.perf_counter()
    with _tracked(config, session, train.source, adapter.backbone_name, device) as run:
        state, metrics = meta_train(
            adapter.backbone,
            adapter.space,
            None if resume else _start(adapter, train, settings, config.seed),
            adapter.solver,
            adapter.problem,
            train,
            distribution(config, parts, split=VALIDATION),
            settings,
            seed=config.seed,
            progress=progress(f"meta-training in space {adapter.space.name}"),
            report=lambda step, values: run.log_metrics(values, step=step),
            checkpoint=session.folder / CHECKPOINT,
            resume=resume,
        )
        seconds = time.perf_counter() - started
        run.log_metrics({"time/train_seconds": seconds}, step=settings.steps)
        folder = Path(config.output) if config.output else session.folder / "adapter"
        details = {
            "title": f"{folder.name}: {adapter.backbone_name} in space {adapter.space.name}",
            "training": _provenance(config, session, train, seconds, metrics, device),
            "data_card": train.source.card.to_dict(),
        }
        adapter.with_(state=state, info=details).to("cpu").save_pretrained(folder)
        if build(config.tracking, "tracking", config.allow).enabled:
            load_pyfunc()
        run.log_model(folder, config.register)
    console.print(
        f"adapter written to {folder}: " + ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
    )
    session.metric = "mse" if train.regression else "accuracy"
    return metrics[f"validation/{session.metric}"]


def _check_register(config: DictConfig) -> None:
    """Refuse a name that nothing can be registered under, before hours of work."""
    if config.register is None:
        return
    check_name(config.register)
    if not build(config.tracking, "tracking", config.allow).enabled:
        raise AdaptError(f"register={config.register} needs MLflow: leave tracking=none out, or register")


def _check_split(train: Tasks) -> None:
    """Refuse to learn from what is measured on, where the source keeps classes for learning."""
    chosen, kept = train.support_split, [name for name in train.source.splits if name.startswith("train")]
    if kept and not isinstance(train, Mixture) and not chosen.startswith(("train", "pretrain")):
        query = "null" if kept[0] == "train" else kept[-1]
        raise AdaptError(
            f"stage=meta would learn from split '{chosen}', which is measured on: set "
            f"task.support_split={kept[0]} task.query_split={query}"
        )


def _start(adapter: FewShotAdapter, train: Tasks, settings: MetaTraining, seed: int) -> AdapterState:
    bar = progress(f"basis from {settings.basis} of training tasks")
    episodes = (train.episode(BASIS_EPISODES + index) for index in bar(range(settings.basis_tasks)))
    return initial_basis(adapter.backbone, adapter.space, adapter.problem, episodes, settings, seed=seed)


def _resumed(config: DictConfig) -> Path | None:
    if config.resume is None:
        return None
    path = Path(config.resume) / CHECKPOINT
    if not path.is_file():
        raise AdaptError(
            f"resume={config.resume}: there is no {CHECKPOINT} in it; give the folder of an interrupted run"
        )
    return path


def _classes(config: DictConfig, parts: Parts, split: str | None = None) -> Distribution:
    tasks = distribution(config, parts, split=split)
    if not isinstance(tasks, Distribution):
        raise AdaptError(f"stage=pretrain learns classes, and {tasks.source.name} has none: use stage=meta")
    return tasks


def _settings(config: DictConfig, kind: type) -> Any:
    settings = build(config.meta, "meta", config.allow)
    if not isinstance(settings, kind):
        option = {"Pretraining": "pretraining", "MetaTraining": "outer"}[kind.__name__]
        raise AdaptError(f"stage={config.stage.value} needs meta={option}, not {type(settings).__name__}")
    return settings


def _tracked(
    config: DictConfig,
    session: Session,
    source: AnySource,
    backbone: str | None,
    device: torch.device,
) -> AbstractContextManager[Run]:
    tags = {"backbone": backbone or "own", "task": source.name, "device": device.type}
    tags |= licence_tags(source.card)
    warn_about_licence(source.card, console)
    data = DatasetInput(source.name, source.digest(), source.card.to_dict(), "training")
    return session.track(build(config.tracking, "tracking", config.allow), tags, [data])


def _provenance(
    config: DictConfig,
    session: Session,
    tasks: Tasks,
    seconds: float,
    metrics: dict[str, float],
    device: torch.device,
) -> dict[str, Any]:
    """What made the artifact, flat enough for a model card."""
    where = environment(device)
    return {
        "experiment": config.name,
        "seed": config.seed,
        "seconds": round(seconds, 1),
        "data": tasks.source.name,
        "data_sha256": tasks.source.digest(),
        "split": tasks.support_split,
        **metrics,
        "settings": {key: value for key, value in session.config["meta"].items() if key != "_target_"},
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
            targets = one_hot(episode.support_y, len(episode.meta.classes))
            for name, head in heads.items():
                predicted = head.logits(head.fit(support, targets), query).argmax(-1)
                scores[name].append(float((predicted == episode.query_y).double().mean()))
    return {f"validation/accuracy_{name}": float(np.mean(values)) for name, values in scores.items()}
