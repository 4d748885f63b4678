"""The run of a stage as MLflow has it: its tags, and the data it is on."""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from omegaconf import DictConfig

from adapt.app.build import build
from adapt.app.progress import console
from adapt.app.stages.licence import licence_tags, warn_about_licence
from adapt.app.stages.session import Session
from adapt.tracking import DatasetInput, Run
from tasks import AnySource

__all__ = ["data_of", "tracked"]

Role = Literal["training", "validation", "evaluation"]


def data_of(source: AnySource, role: Role) -> DatasetInput:
    """What MLflow notes of the data of a run, and of what it does with them."""
    return DatasetInput(source.name, source.digest(), source.card.to_dict(), role)


def tracked(
    config: DictConfig,
    session: Session,
    source: AnySource,
    backbone: str | None,
    device: torch.device,
    role: Role,
) -> AbstractContextManager[Run]:
    """The run while it goes on; ``role`` is what it does with the data. Says on the terminal what their
    licence forbids."""
    tags = {"backbone": backbone or "own", "task": source.name, "device": device.type}
    tags |= licence_tags(source.card)
    warn_about_licence(source.card, console)
    settings = build(config.tracking, "tracking", config.allow)
    return session.track(settings, tags, [data_of(source, role)])
