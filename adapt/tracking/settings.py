"""What a user says about tracking, and what a run says about its data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DatasetInput", "TrackingSettings"]


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are recorded.

    Attributes:
        enabled: False records nothing.
        root: folder of ``mlflow.db`` and ``mlruns/``; plain ``mlflow ui`` started there shows everything.
        uri: an MLflow tracking URI (a server, a database) instead of ``mlflow.db`` below ``root``.
        experiment: the MLflow experiment; None takes the name of the run.
    """

    enabled: bool = True
    root: str = "."
    uri: str | None = None
    experiment: str | None = None


@dataclass(frozen=True)
class DatasetInput:
    """A data source that a run used.

    Attributes:
        name: of the source.
        digest: sha256 (hex) of everything in it that decides a result.
        card: its data sheet as plain containers (``tasks.Card.to_dict``).
        context: what it was used for: "training", "evaluation", …
    """

    name: str
    digest: str
    card: Mapping[str, Any]
    context: str = "evaluation"
