"""A model in operation: loaded, watched, and after an alarm perhaps another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

import adapt
from adapt.adapter import FewShotAdapter
from adapt.app.incident import ON_ALARM, Registered, raise_alarm, sentence
from adapt.app.progress import line
from adapt.errors import AdaptError
from adapt.own_data import Answer
from adapt.own_data.watching import Watching
from adapt.tracking.registry import Registry, registered

__all__ = ["Operation", "loaded"]


class Operation:
    """Watches what one model is asked; the caller sees to it that one request is looked at at a time.

    Args:
        model: a folder, or a name in MLflow; the version that it means now.
        watching: makes what watches a model.
        on_alarm: one of :data:`adapt.app.incident.ON_ALARM`.
    """

    def __init__(self, model: str, watching: Callable[[Answer], Watching], on_alarm: str) -> None:
        self._watching, self._on_alarm, self._before = watching, on_alarm, ""
        self._take(registered(model), model)
        self._watched: Watching | None = watching(self.answer)

    def _take(self, found: Registered, model: str) -> None:
        name = model if found is None else f"models:/{found[0].name}/{found[1].number}"
        self.answer, self._model, self._found, self._done = loaded(name), name, found, ""

    def see(self, features: Tensor, outputs: Tensor) -> Answer | None:
        """What a request asked, see :meth:`adapt.own_data.watching.Watching.see`; the model that takes over,
        if one does. Nothing that goes wrong here keeps a request from its answer."""
        watched = self._watched
        if watched is None or self._done:
            return None
        watched.see(features, outputs)
        if watched.monitor.alarm is None:
            return None
        try:
            self._done, champion = raise_alarm(self._model, self._found, watched, self._on_alarm)
            line(f"alarm: {sentence(watched.monitor.alarm)}. {self._done}")
            if champion is not None and self._found is not None:
                return self._back(self._found[0], champion)
        except Exception as error:  # whatever a store is made of
            self._done = f"not all could be done: {error}"
            line(f"alarm: {self._done}")
        return None

    def _back(self, registry: Registry, champion: str) -> Answer:
        """The champion before, which is watched too if it says what is usual, but goes back no further: what
        has changed is new to all of them."""
        self._before = self._done
        self._take((registry, registry.version(champion)), self._model)
        self._on_alarm, self._watched = ON_ALARM[0], None
        try:
            self._watched = self._watching(self.answer)
        except AdaptError as error:
            line(f"{self._model} is served, and not watched: {error}")
        return self.answer

    def state(self) -> dict[str, Any]:
        """As JSON holds it."""
        if self._watched is None:
            return {"model": self._model, "examples": 0, "evidence": {}, "alarm": None, "done": self._before}
        monitor = self._watched.monitor
        return {
            "model": self._model,
            "examples": monitor.seen,
            "evidence": {name: round(value, 3) for name, value in monitor.evidence.items()},
            "alarm_at": round(monitor.limit, 3),
            "alarm": None if monitor.alarm is None else sentence(monitor.alarm),
            "done": self._done or self._before,
        }


def loaded(model: str) -> Answer:
    """The model by its folder, or by its name in MLflow.

    Raises:
        AdaptError: it is an adapter, which predicts nothing yet, or was not made by ``adapt fit``.
    """
    found = adapt.load(model)
    if isinstance(found, FewShotAdapter):
        raise AdaptError(
            f"{model} is an adapter, which has learned no task yet: serve what `adapt fit` writes, or, "
            "with examples to learn from in every request, `mlflow models serve` (see docs/mlflow.md)"
        )
    return Answer.of(found, model)
