"""What `meta` and `pretrain` share: settings, and what is noted in the artifact."""

from typing import Any

import torch
from omegaconf import DictConfig

from adapt.app.build import build
from adapt.app.environment import environment
from adapt.app.stages.session import Session
from adapt.errors import AdaptError
from tasks import Tasks

__all__ = ["VALIDATION", "provenance", "settings_of"]

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
