"""Logging an adapter: a pyfunc model of its run, and a version of a registered model if it has a name.

The model is code and data, no pickle: ``model_code.py`` and the adapter's own folder (JSON and safetensors).
Everything goes through the client that is passed, so that any thread may do it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from adapt.adapter import load
from adapt.adapter.storage import CARD, CONFIG, LAYOUT
from adapt.artifact import copy
from adapt.backbones.packaged import package_of
from adapt.errors import AdaptError
from adapt.files import read_json
from adapt.tracking.journal import JOURNAL_TAG
from adapt.tracking.registry import CHALLENGER, CHAMPION, Registry
from adapt.tracking.store import quiet
from adapt.version import __version__

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

__all__ = ["ADAPTER", "MODEL", "check_name", "load_pyfunc", "log_model", "requirements"]

#: Name of the model of a run (``runs:/<id>/model``), and of the adapter's folder among its artifacts.
MODEL, ADAPTER = "model", "adapter"
CODE = Path(__file__).with_name("model_code.py")
#: Packages that backbones need, by how their names begin, besides those that their weights come in.
LIBRARIES = {
    "hf:": ("transformers",),
    "timm:": ("timm",),
    "torchvision:": ("torchvision",),
}
#: Tags of the run that its model, and its version, have too.
SHARED = ("git_sha", "git_dirty", "data_licence", "data_commercial_use", "experiment", JOURNAL_TAG)
#: What the registry of MLflow cannot take in a name.
FORBIDDEN = ("/", ":", "'")
#: Characters of a name: a database of MLflow holds 256.
LONGEST_NAME = 200


def check_name(name: str) -> None:
    """Refuse a name that no registered model can have.

    Raises:
        AdaptError: it is empty, too long, or holds ``/``, ``:``, a quote or what cannot be seen.

    Example:
        >>> check_name("digits")
    """
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]} …"
    if not name.strip() or any(character in name for character in FORBIDDEN) or name in (".", ".."):
        raise AdaptError(f"register={shown}: the name of a model is not empty and holds no / : or '")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise AdaptError(
            f"register={shown}: the name of a model has {LONGEST_NAME} characters at most, which can be seen"
        )


def load_pyfunc() -> None:
    """Import what :func:`log_model` needs, in the main thread: MLflow's own import warns, and warnings can be
    silenced for the whole process only. Where there is no MLflow, nothing happens."""
    with suppress(ImportError), quiet():
        import adapt.tracking.serving  # noqa: F401


def log_model(
    client: MlflowClient, run_id: str, adapter_folder: Path, registered_name: str | None
) -> str | None:
    """Log the adapter in ``adapter_folder`` to a run; what was logged before is not logged again.

    An adapter for a backbone of the caller's own is logged as well, without a signature: ``adapt.load(uri,
    backbone=…)`` reads it, but MLflow cannot serve it.

    Args:
        client: of the store.
        run_id: of the run that made it.
        adapter_folder: as ``save_pretrained`` wrote it.
        registered_name: also make a version of this registered model, ``challenger`` from now on, and
            ``champion`` if it is the first.

    Returns:
        The number of the version, or None without ``registered_name``.

    Raises:
        AdaptError: a folder that is no adapter.
        mlflow.exceptions.MlflowException: MLflow cannot record it.
    """
    if threading.current_thread() is threading.main_thread():
        load_pyfunc()
    run = client.get_run(run_id)
    tags = _tags(run, read_json(adapter_folder / CONFIG))
    model = _logged(client, run) or _log(client, run, adapter_folder, tags)
    if registered_name is None:
        return None
    check_name(registered_name)
    return _register(client, registered_name, run_id, model, tags)


def _logged(client: MlflowClient, run: Run) -> LoggedModel | None:
    """The complete model that the run has already: the first attempt may have died anywhere."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    outputs = run.outputs.model_outputs if run.outputs is not None else []
    linked = {output.model_id for output in outputs}
    made = f"source_run_id = '{run.info.run_id}'"
    complete = None
    for model in client.search_logged_models([run.info.experiment_id], made):
        if model.name != MODEL:
            continue
        if model.status == LoggedModelStatus.PENDING:
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        elif model.status == LoggedModelStatus.READY:
            complete = model
    if complete is not None and complete.model_id not in linked:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(complete.model_id, step=0)])
    return complete


def _log(client: MlflowClient, run: Run, adapter_folder: Path, tags: Mapping[str, str]) -> LoggedModel:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = client.create_logged_model(
        run.info.experiment_id, name=MODEL, source_run_id=run.info.run_id, tags=dict(tags), model_type=ADAPTER
    )
    try:
        with TemporaryDirectory() as scratch:
            staged, written = Path(scratch) / ADAPTER, Path(scratch) / MODEL
            staged.mkdir()
            copy(adapter_folder, staged, LAYOUT, (CARD,))
            _save(staged, written, model)
            client.log_model_artifacts(model.model_id, str(written))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    except BaseException:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
        raise
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _save(adapter_folder: Path, target: Path, model: LoggedModel) -> None:
    """The model as a folder: code, adapter, signature, input example, pinned requirements."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    from adapt.tracking.serving import example, signature

    config = read_json(adapter_folder / CONFIG)
    described: dict[str, Any] = {}
    if _servable(config):
        adapter = load(adapter_folder)  # what is logged can be loaded
        described = {"signature": signature(adapter), "input_example": example(adapter)}
    save_model(
        target,
        python_model=str(CODE),
        artifacts={ADAPTER: str(adapter_folder)},
        pip_requirements=requirements(config),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=model.source_run_id,
            model_id=model.model_id,
        ),
        **described,
    )


def _servable(config: Mapping[str, Any]) -> bool:
    """Whether the backbone can be built from the adapter's folder alone."""
    return config["backbone"]["name"] is not None


def requirements(config: Mapping[str, Any]) -> list[str]:
    """Packages that the adapter of ``config`` needs, in the versions installed here, as pip writes them.

    A local build, such as ``2.13.0+cpu``, is no version that an index has: what follows the ``+`` is left
    out. A package that is not installed is named without a version.

    Example:
        >>> requirements({"backbone": {"name": "conv4_glyphs"}})[0].split("==")[0]
        'adaptive-behavior'
    """
    backbone = config["backbone"]["name"] or ""
    settings = config["backbone"].get("settings") or {}
    more = [name for start, names in LIBRARIES.items() if backbone.startswith(start) for name in names]
    if package := package_of(backbone, settings.get("weights")):
        more.append(package)
    found = [f"adaptive-behavior=={__version__}"]
    for package in ("torch", "numpy", "safetensors", *more):
        try:
            found.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            found.append(package)
    return found


def _tags(run: Run, config: Mapping[str, Any]) -> dict[str, str]:
    """What a version is searched by and judged by."""
    training = config.get("info", {}).get("training", {})
    known = {
        "backbone": config["backbone"]["name"] or config["backbone"].get("was") or "own",
        "space": config["space"]["name"],
        "data": training.get("data"),
        "data_sha256": training.get("data_sha256"),
        **{key.replace("/", "_"): value for key, value in training.items() if key in SCORES},
        **{key: run.data.tags.get(key) for key in SHARED},
        "servable": str(_servable(config)).lower(),
        "library_version": config["library_version"],
    }
    return {key: str(value) for key, value in known.items() if value not in (None, "")}


#: Validation scores, as meta-training calls them.
SCORES = ("validation/accuracy", "validation/mse", "validation/loss")


def _register(
    client: MlflowClient, name: str, run_id: str, model: LoggedModel, tags: Mapping[str, str]
) -> str:
    registry = Registry(client, name)
    journal = tags.get(JOURNAL_TAG)  # of the training, whose MLflow run may have been deleted meanwhile
    made = next(
        (
            found
            for found in registry.versions(missing_ok=True)
            if found.run_id == run_id or (journal is not None and found.tags.get(JOURNAL_TAG) == journal)
        ),
        None,
    )
    if made is None:
        registry.create()
        # Not models:/<id>: the SQL store would look that up in MLflow's global store, not in this client's.
        number = str(
            client.create_model_version(
                name, model.artifact_location, run_id, dict(tags), model_id=model.model_id
            ).version
        )
        # What the page of a logged model shows as its registered versions.
        linked = json.dumps([{"name": name, "version": number}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": linked})
    else:
        number = made.number
    if registry.aliased(CHAMPION) is None:
        registry.crown(number, {"gate": "first"})
    if made is None or registry.aliased(CHALLENGER) is None:
        client.set_registered_model_alias(name, CHALLENGER, number)
    return number
