"""stage=meta: make the adapter that comparisons start from."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from adapt.adapter import AdapterState, FewShotAdapter
from adapt.adapter.problem import Problem
from adapt.adapter.storage import check_saved
from adapt.app.build import build
from adapt.app.environment import choose_device
from adapt.app.progress import console, progress
from adapt.app.ranks import led, local_rank
from adapt.app.stages.adapters import untrained
from adapt.app.stages.pools import fixed_classes, pool_from, pool_split
from adapt.app.stages.session import Parts, Session, distribution
from adapt.app.stages.tracked import tracked
from adapt.app.stages.training import VALIDATION, provenance, settings_of
from adapt.backbones import device_of
from adapt.errors import AdaptError
from adapt.heads.staying import Staying
from adapt.inner import GaussNewton
from adapt.meta import CALIBRATION, MetaTraining, calibrated, initial_basis, meta_train
from adapt.meta.outer import check_ranks
from adapt.ranks import ranks
from adapt.tracking.model import check_name, load_pyfunc
from tasks import Mixture, Source, Tasks
from tasks.readers.room import ROOM, check_room

__all__ = ["CHECKPOINT", "follow_meta", "problem_of", "run_meta"]

BASIS_EPISODES = 10**6  # the first task of those that make the basis: none of them is trained on
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_COPIES = 6  # of the state: itself, its mean and moments, and another while one is replaced


class Prepared(NamedTuple):
    """What training needs, and every process that takes part in it makes for itself."""

    settings: MetaTraining
    device: torch.device
    adapter: FewShotAdapter
    train: Tasks
    judged: Tasks


def run_meta(config: DictConfig, session: Session) -> float:
    """Meta-train an adapter for ``config.backbone`` in ``config.space``; returns validation accuracy, or the
    squared error of a regression."""
    _check_register(config)
    prepared = _prepared(config)
    settings, device, adapter, train, judged = prepared
    check_saved(adapter)
    check_ranks(ranks(), settings)
    resume = _resumed(config)
    folder = Path(config.output) if config.output else session.folder / "adapter"
    _check_room(adapter, settings, folder, session.folder)
    started = time.perf_counter()
    with tracked(config, session, train.source, adapter.backbone_name, device, "training") as run:
        with led(session.config):
            state, metrics = _trained(
                prepared,
                config,
                resume=resume,
                progress=progress(f"meta-training in space {adapter.space.name}"),
                report=lambda step, values: run.log_metrics(values, step=step),
                checkpoint=session.folder / CHECKPOINT,
            )
        seconds = time.perf_counter() - started
        run.log_metrics({"time/train_seconds": seconds}, step=settings.steps)
        details = {
            "title": f"{folder.name}: {adapter.backbone_name} in space {adapter.space.name}",
            "training": provenance(config, session, train, seconds, metrics, device),
            "data_card": train.source.card.to_dict(),
        }
        trained = calibrated(
            adapter.replace(state=state), judged, min(CALIBRATION, settings.validation_tasks)
        )
        trained.replace(info=details).to("cpu").save_pretrained(folder)
        if build(config.tracking, "tracking", config.allow).enabled:
            load_pyfunc()
        run.log_model(folder, config.register)
    console.print(
        f"adapter written to {folder}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
    )
    session.metric = "mse" if train.regression else "accuracy"
    return metrics[f"validation/{session.metric}"]


def follow_meta(config: DictConfig) -> None:
    """Do this process's part of what the first one does in :func:`run_meta`."""
    _trained(_prepared(config), config)


def _prepared(config: DictConfig) -> Prepared:
    settings: MetaTraining = settings_of(config, MetaTraining)
    device = choose_device(config.device, local_rank())
    parts = Parts(config)
    train = distribution(config, parts)
    _check_split(train)
    backbone, info = parts.network
    adapter = untrained(config, backbone.to(device), info, train)
    adapter.examples(train.episode(0).support_x)  # of the shape and range that the backbone takes
    return Prepared(settings, device, adapter, train, distribution(config, parts, split=VALIDATION))


def _trained(
    prepared: Prepared, config: DictConfig, *, resume: Path | None = None, **talks: Any
) -> tuple[AdapterState, dict[str, float]]:
    """See :func:`adapt.meta.meta_train`, with all processes there are."""
    settings, _, adapter, train, judged = prepared
    problem, all_ranks = problem_of(adapter, train, settings), ranks()
    begins = all_ranks.first and resume is None
    return meta_train(
        adapter.backbone,
        adapter.space,
        _start(adapter, problem, train, settings, config.seed) if begins else None,
        adapter.solver,
        problem,
        train,
        judged,
        settings,
        seed=config.seed,
        resume=resume,
        match=adapter.match,
        ranks=all_ranks,
        **talks,
    )


def _check_room(adapter: FewShotAdapter, settings: MetaTraining, *folders: Path) -> None:
    """Refuse folders that an adapter, and a checkpoint with the optimiser's moments, will not fit into."""
    directions = 1 if settings.basis == "identity" else settings.k
    directions *= settings.subspaces
    room = CHECKPOINT_COPIES * 4 * adapter.space.size * (settings.subspaces + directions) + ROOM
    for folder in folders:
        check_room(folder, "what training writes", AdaptError, room)


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


def problem_of(adapter: FewShotAdapter, train: Tasks, settings: MetaTraining) -> Problem:
    """How tasks are judged: by heads of their own, or by one that stays."""
    if not settings.classifier:
        return adapter.problem
    if not isinstance(train.source, Source):
        raise AdaptError("meta.classifier: the tasks are of several sources, which have no classes in common")
    classes = fixed_classes(train)
    pool = pool_from(train.source, pool_split(train), device_of(adapter.backbone))
    x, y = pool(classes, most=settings.classifier)
    state = adapter.replace(solver=GaussNewton(steps=0), match=None).fit(x, y).head_state
    staying = Staying(adapter.head, state)
    return Problem(adapter.loss, staying, staying)


def _start(
    adapter: FewShotAdapter, problem: Problem, train: Tasks, settings: MetaTraining, seed: int
) -> AdapterState:
    bar = progress(f"basis from {settings.basis} of training tasks")
    episodes = (train.episode(BASIS_EPISODES + index) for index in bar(range(settings.basis_tasks)))
    return initial_basis(adapter.backbone, adapter.space, problem, episodes, settings, seed=seed)


def _resumed(config: DictConfig) -> Path | None:
    if config.resume is None:
        return None
    path = Path(config.resume) / CHECKPOINT
    if not path.is_file():
        raise AdaptError(
            f"resume={config.resume}: there is no {CHECKPOINT} in it; give the folder of an interrupted run"
        )
    return path
