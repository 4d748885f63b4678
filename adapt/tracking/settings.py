"""What a user says about tracking, and what a run says about its data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapt.errors import AdaptError

__all__ = ["DatasetInput", "TrackingSettings"]


@dataclass(frozen=True)
class TrackingSettings:
    """Where runs are recorded.

    Attributes:
        enabled: False records nothing.
        root: folder of ``mlflow.db`` and ``mlruns/``; plain ``mlflow ui`` started there shows everything.
        uri: an MLflow tracking URI (a server, a database) instead of ``mlflow.db`` below ``root``.
        experiment: the MLflow experiment; None takes the name of the run.
        wait_seconds: at the end of a run, how long to wait for a server that takes nothing more; what it did
            not take is kept, to be sent by ``python -m adapt.tracking.sync``.
        system_metrics_seconds: between two records of CPU, memory, disk, network and GPU; None: none.
    """

    enabled: bool = True
    root: str = "."
    uri: str | None = None
    experiment: str | None = None
    wait_seconds: float = 30.0
    system_metrics_seconds: float | None = 10.0

    def __post_init__(self) -> None:
        """Refuse times that mean nothing."""
        if self.wait_seconds < 0:
            raise AdaptError(f"wait_seconds={self.wait_seconds}: give the seconds to wait at most, or 0")
        if self.system_metrics_seconds is not None and self.system_metrics_seconds <= 0:
            raise AdaptError(
                f"system_metrics_seconds={self.system_metrics_seconds}: give a time above 0, or null for none"
            )


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
