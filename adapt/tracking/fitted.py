"""A fitted task in MLflow: a run with its figures, and a version of a registered model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adapt.tracking.model import check_name, log_model
from adapt.tracking.registry import explained
from adapt.tracking.store import prepare_store, quiet

__all__ = ["EXPERIMENT", "register"]

#: The MLflow experiment of tasks that were fitted without a config.
EXPERIMENT = "fit"


def register(
    folder: Path, name: str, title: str, metrics: Mapping[str, float], tags: Mapping[str, str], root: Path
) -> str:
    """Log the task in ``folder``, and make it a version of the registered model ``name``.

    Args:
        folder: as ``save_pretrained`` wrote it.
        name: of the registered model; its first version is the champion.
        title: of the run.
        metrics, tags: of the run, named as those of comparisons are.
        root: where ``mlflow.db`` is, unless ``MLFLOW_TRACKING_URI`` says otherwise.

    Returns:
        The number of the version.

    Raises:
        AdaptError: no MLflow, a name that no model can have, or a store that cannot be used.
    """
    check_name(name)
    with explained(f"register={name}"):
        import mlflow

        set_by_user = mlflow.tracking.is_tracking_uri_set()
        uri = mlflow.get_tracking_uri() if set_by_user else prepare_store(root)
        with quiet():
            client = mlflow.MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(EXPERIMENT)
            number = client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
            run = client.create_run(number, run_name=title, tags=dict(tags))
            run_id = run.info.run_id
            try:
                for key, value in metrics.items():
                    client.log_metric(run_id, key, value)
                version = log_model(client, run_id, folder, name)
                client.set_terminated(run_id, "FINISHED")
            except BaseException:
                client.set_terminated(run_id, "FAILED")
                raise
    assert version is not None
    return version
