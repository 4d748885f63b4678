"""What `meta` and `pretrain` share: settings, the record of a run, and what is noted in its artifact."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from omegaconf import DictConfig

from adapt.app.build import build
from adapt.app.environment import environment
from adapt.app.progress import console
from adapt.app.stages.licence import licence_tags, warn_about_licence
from adapt.app.stages.session import Session
from adapt.errors import AdaptError
from adapt.tracking import DatasetInput, Run
from tasks import AnySource, Tasks

__all__ = ["VALIDATION", "provenance", "settings_of", "tracked"]

VALIDATION = "validation"  # the split that choices are made on; test classes are never looked at here


def settings_of(config: DictConfig, kind: type) -> Any:
    """What ``config.meta`` builds.

    Raises:
        AdaptError: it is not of this ``kind``, the one that the stage takes.
    """
    settings = build(config.meta, "meta", config.allow)
    if not isinstance(settings, kind):
        option = {"Pretraining": "pretraining", "MetaTraining": "outer"}[kind.__name__]
        raise AdaptError(f"stage={config.stage.value} needs meta={option}, not {type(settings).__name__}")
    return settings


def tracked(
    config: DictConfig,
    session: Session,
    source: AnySource,
    backbone: str | None,
    device: torch.device,
) -> AbstractContextManager[Run]:
    """The run as MLflow has it, while it goes on; says on the terminal what the licence forbids."""
    tags = {"backbone": backbone or "own", "task": source.name, "device": device.type}
    tags |= licence_tags(source.card)
    warn_about_licence(source.card, console)
    data = DatasetInput(source.name, source.digest(), source.card.to_dict(), "training")
    return session.track(build(config.tracking, "tracking", config.allow), tags, [data])


def provenance(
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
