"""A view of the runs of an experiment that a link opens: the table with columns of accuracy and of speed-ups.

MLflow keeps the views that people save as tags of the experiment, ``mlflow.sharedViewState.<key>``, and opens
one by its key. Which columns the table has is no part of an address otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["KEY", "lacks_view", "view_address", "view_tag"]

#: The key of the view.
KEY = "adapt"
#: Metrics that have a column: of methods the first ones, of comparisons the others.
COLUMNS = (
    "eval/accuracy",
    "eval/accuracy_ci95",
    "eval/mse",
    "time/adapt_seconds",
    "compare/speedup_vs_retrain",
    "compare/speedup_vs_finetune",
    "compare/speedup_vs_backprop",
    "compare/accuracy_vs_head",
)


def view_tag(now: int) -> dict[str, str]:
    """The tag of an experiment that keeps the view, as MLflow's UI writes it; ``now`` in ms since 1970."""
    state = {
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "selectedColumns": [f"metrics.`{name}`" for name in COLUMNS],
    }
    view = {"name": "accuracy and speed-up", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    return {f"mlflow.sharedViewState.{KEY}": json.dumps(view)}


def lacks_view(tags: Mapping[str, str]) -> bool:
    """Whether an experiment of these tags has no view, or an early one that MLflow's page cannot show: it was
    sorted by the title of a column."""
    view = tags.get(f"mlflow.sharedViewState.{KEY}")
    return view is None or "`Start Time`" in view


def view_address(server: str, experiment_id: str) -> str:
    """Where a UI shows the view.

    Example:
        >>> view_address("http://127.0.0.1:5000/", "3")
        'http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&compareRunsMode=TABLE&viewStateShareKey=adapt'
    """
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?workflowType=machine_learning&compareRunsMode=TABLE&viewStateShareKey={KEY}"
