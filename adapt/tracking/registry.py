"""Versions of a registered adapter: which there are, which is champion, which it was before; loading them.

The champion is an alias of MLflow. Which versions had it before stands in a tag of the registered model, so
that a rollback knows where to go back to.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import nn

from adapt.adapter import load
from adapt.errors import AdaptError
from adapt.files import parse_json
from adapt.tracking.database import uri_of
from adapt.tracking.settings import TrackingSettings
from adapt.tracking.store import DATABASE, prepare_store, quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Registry",
    "Version",
    "explained",
    "load_model",
    "open_registry",
    "registered",
]

CHAMPION, CHALLENGER = "champion", "challenger"
#: Tag of a registered model: the versions that were champion, the present one last, as JSON.
CHAMPIONS = "champions"
#: Tags of a version of what befell it as a champion, which are history once it is one again.
PAST = {"rolled_back", "rolled_back_reason", "alarm", "alarm_reason"}
#: So many champions are remembered: a tag has a greatest length.
REMEMBERED = 200
#: Where the adapter is inside a logged model.
INSIDE = "artifacts/adapter"
#: An error of MLflow may quote a whole web page.
LONGEST_REASON = 200
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        number: as MLflow counts, from ``"1"``.
        run_id: of the run that made it; None if none did.
        created: when it was registered.
        aliases: that it has now.
        tags: what is known of it: ``backbone``, ``space``, ``validation_accuracy``, ``gate``, …
    """

    number: str
    run_id: str | None
    created: datetime
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """The versions of one registered model.

    Args:
        client: of the store that holds it.
        name: of the model.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        self.client, self.name = client, name

    def create(self) -> None:
        """Make the registered model, if there is none of this name."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def versions(self, *, missing_ok: bool = False) -> list[Version]:
        """All versions, newest first.

        Raises:
            AdaptError: there is no such model, unless ``missing_ok``.
        """
        from mlflow.exceptions import MlflowException

        try:
            aliases = self.client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            if missing_ok:
                return []
            raise AdaptError(f"there is no registered model '{self.name}': {self._others()}") from None
        found, token = [], None
        while True:
            page = self.client.search_model_versions(f"name = '{self.name}'", page_token=token)
            found += [_version(entity, aliases) for entity in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.number), reverse=True)

    def aliased(self, alias: str) -> Version | None:
        """The version that ``alias`` means."""
        found = self.versions(missing_ok=True)
        return next((version for version in found if alias in version.aliases), None)

    def version(self, which: str) -> Version:
        """The version ``which``: a number, or an alias as in ``@challenger``.

        Raises:
            AdaptError: there is none.
        """
        found = self.versions()
        for version in found:
            if which == version.number or (which.startswith("@") and which[1:] in version.aliases):
                return version
        known = [*(version.number for version in found), *(f"@{a}" for v in found for a in v.aliases)]
        raise AdaptError(f"'{self.name}' has no version {which}: there are {', '.join(known) or 'none'}")

    def champions(self) -> list[str]:
        """Numbers of the versions that were champion, the present one last, deleted ones left out.

        A champion that somebody made in the UI counts as well.
        """
        existing = self.versions()
        tag = self.client.get_registered_model(self.name).tags.get(CHAMPIONS, "[]")
        known = {version.number for version in existing}
        written = parse_json(tag, f"tag {CHAMPIONS} of model '{self.name}'")
        order = [number for number in written if number in known] if isinstance(written, list) else []
        now = next((version.number for version in existing if CHAMPION in version.aliases), None)
        return order if now is None or order[-1:] == [now] else [*order, now]

    def crown(self, number: str, tags: Mapping[str, str] | None = None) -> None:
        """Make version ``number`` the champion, and remember the one before."""
        for tag in PAST & {*self.version(number).tags}:
            self.client.delete_model_version_tag(self.name, number, tag)
        self.tag(number, {"promoted": _now(), **(tags or {})})
        order = [*self.champions(), number]
        # In this order: a crash in between leaves an alias that `champions` takes for the latest change.
        self.client.set_registered_model_alias(self.name, CHAMPION, number)
        self._remember(order)

    def roll_back(self, reason: str | None = None) -> tuple[str, str]:
        """Give the title back to the version that had it before; returns the numbers of both, old and new.

        Raises:
            AdaptError: none was champion before.
        """
        order = self.champions()
        if len(order) < 2:
            raise AdaptError(
                f"'{self.name}' has had no champion before {order[0] if order else 'now'}: promote another "
                f"version with `python -m adapt promote {self.name} VERSION`"
            )
        self.tag(order[-1], {"rolled_back": _now(), **({"rolled_back_reason": reason} if reason else {})})
        # In this order: a crash in between leaves everything as it was.
        self._remember(order[:-1])
        self.client.set_registered_model_alias(self.name, CHAMPION, order[-2])
        return order[-1], order[-2]

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Write tags on version ``number``; those of the same name are replaced."""
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, number, key, value)

    def raise_alarm(self, version: Version, reason: str, metrics: Mapping[str, float], step: int) -> None:
        """Say of ``version`` that what it is asked has changed: tags of the version, and ``metrics`` of the
        run that made it, at ``step``, if one did."""
        self.tag(version.number, {"alarm": _now(), "alarm_reason": reason})
        if version.run_id is not None:
            for name, value in metrics.items():
                self.client.log_metric(version.run_id, name, value, step=step)

    def load(self, number: str, backbone: nn.Module | None = None) -> Any:
        """The adapter of version ``number``, see :func:`adapt.load`."""
        where = self.client.get_model_version_download_uri(self.name, number)
        return _read(self.client, where, f"models:/{self.name}/{number}", backbone)

    def text(self, version: Version, path: str) -> str | None:
        """An artifact of the run of ``version``; None if it has none of that path."""
        if version.run_id is None or not _has(self.client, version.run_id, path):
            return None
        with TemporaryDirectory() as scratch:
            return Path(self.client.download_artifacts(version.run_id, path, scratch)).read_text("utf-8")

    def write_text(self, version: Version, path: str, text: str) -> None:
        """Write an artifact to the run of ``version``, if a run made it."""
        if version.run_id is not None:
            self.client.log_text(version.run_id, text, path)

    def _remember(self, order: list[str]) -> None:
        self.client.set_registered_model_tag(self.name, CHAMPIONS, json.dumps(order[-REMEMBERED:]))

    def _others(self) -> str:
        names = sorted(model.name for model in self.client.search_registered_models())
        if names:
            return f"there are {', '.join(names)}"
        return "stage=meta with register=NAME makes one, and tracking.uri says in which store to look"


def open_registry(settings: TrackingSettings, name: str) -> Registry:
    """The versions of ``name`` in the store of ``settings``.

    Raises:
        AdaptError: no tracking, or a store that cannot be used.
    """
    if not settings.enabled:
        raise AdaptError("versions are kept in MLflow: leave tracking=none out")
    database = Path(settings.root) / DATABASE
    if settings.uri is None and not database.is_file():
        raise AdaptError(f"there is no {database}: set tracking.root to its folder, or tracking.uri")
    with explained(settings.uri or str(database)):
        from mlflow import MlflowClient

        return Registry(MlflowClient(tracking_uri=prepare_store(Path(settings.root), settings.uri)), name)


def load_model(uri: str, backbone: nn.Module | None = None) -> Any:
    """The adapter that an MLflow URI names; what :func:`adapt.load` calls for one.

    The store is MLflow's own: ``MLFLOW_TRACKING_URI`` or what ``mlflow.set_tracking_uri`` said, else
    ``mlflow.db`` in the working directory.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``runs:/RUN_ID/model``.
        backbone: the network it belongs to, if that was not one of ours.

    Raises:
        AdaptError: no MLflow, no store, no such model, or one that is no adapter.
    """
    with explained(uri):
        client = _client()
        if (found := _registered(client, uri)) is not None:
            where = client.get_model_version_download_uri(found[0].name, found[1].number)
        else:
            where = _of_run(client, uri)
        return _read(client, where, uri, backbone)


def registered(uri: str) -> tuple[Registry, Version] | None:
    """The model and the version that ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` names, in the store
    of :func:`load_model`; None where ``uri`` is something else.

    Raises:
        AdaptError: no MLflow, no store, or no such version.
    """
    if _URI.fullmatch(uri) is None:
        return None
    with explained(uri):
        return _registered(_client(), uri)


def _registered(client: MlflowClient, uri: str) -> tuple[Registry, Version] | None:
    if (named := _URI.fullmatch(uri)) is None:
        return None
    registry = Registry(client, named["name"])
    return registry, registry.version(f"@{named['alias']}" if named["alias"] else named["version"])


def _client() -> MlflowClient:
    import mlflow

    if mlflow.tracking.is_tracking_uri_set():
        return mlflow.MlflowClient()
    database = Path(DATABASE).resolve()
    if not database.is_file():
        raise AdaptError(
            f"there is no MLflow store: set MLFLOW_TRACKING_URI, or go where {DATABASE} is; it is not in "
            f"{database.parent}"
        )
    uri = uri_of(database)
    with suppress(AdaptError):  # a store that may only be read was not moved either
        uri = prepare_store(database.parent)
    return mlflow.MlflowClient(tracking_uri=uri)


def _of_run(client: MlflowClient, uri: str) -> str:
    """Where the logged model of ``runs:/RUN_ID/NAME`` is kept."""
    parts = uri.removeprefix("runs:/").split("/")
    if not uri.startswith("runs:/") or len(parts) != 2:
        raise AdaptError(
            f"{uri} names no adapter: use models:/NAME@champion, models:/NAME/3 or runs:/RUN_ID/model"
        )
    outputs = client.get_run(parts[0]).outputs
    models = outputs.model_outputs if outputs is not None else []
    found = [client.get_logged_model(model.model_id) for model in models]
    for model in found:
        if model.name == parts[1]:
            return str(model.artifact_location)
    names = ", ".join(model.name for model in found) or "none"
    raise AdaptError(f"{uri}: the models of that run are {names}; stage=meta logs one called model")


def _read(client: MlflowClient, where: str, uri: str, backbone: nn.Module | None) -> Any:
    from mlflow.artifacts import download_artifacts

    with TemporaryDirectory() as scratch, quiet():
        folder = download_artifacts(
            f"{where.rstrip('/')}/{INSIDE}", dst_path=scratch, tracking_uri=client.tracking_uri
        )
        try:
            return load(folder, backbone)
        except AdaptError as error:
            raise AdaptError(str(error).replace(folder, uri)) from None


def _has(client: MlflowClient, run_id: str, path: str) -> bool:
    return any(entry.path == path for entry in client.list_artifacts(run_id))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """MLflow's errors as ours, with ``what`` was asked for."""
    try:
        with quiet():
            yield
    except ImportError as error:
        raise AdaptError(f"{what} needs mlflow ({error}): pip install mlflow, or give a folder") from None
    except AdaptError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "requests.", "sqlalchemy.")):
            raise
        reason = textwrap.shorten(str(error), LONGEST_REASON, placeholder=" …")
        raise AdaptError(f"{what} cannot be reached ({reason}): check the name and the store") from None


def _version(entity: Any, aliases: Mapping[str, Any]) -> Version:
    number = str(entity.version)
    return Version(
        number,
        entity.run_id or None,
        datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
        tuple(sorted(alias for alias, version in aliases.items() if str(version) == number)),
        dict(entity.tags),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
