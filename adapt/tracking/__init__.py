"""MLflow: every run recorded, none endangered by it. mlflow is imported in here only, when first used."""

from adapt.tracking.git import git_state
from adapt.tracking.journal import forget, left
from adapt.tracking.run import Run, TrackingWarning, track
from adapt.tracking.settings import DatasetInput, TrackingSettings
from adapt.tracking.store import prepare_store

__all__ = [
    "DatasetInput",
    "Run",
    "TrackingSettings",
    "TrackingWarning",
    "forget",
    "git_state",
    "left",
    "prepare_store",
    "track",
]
