"""A model that answers requests, and learns from corrections; it knows nothing of HTTP."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adapt.errors import AdaptError
from adapt.own_data import Answer, Predictions
from tasks.own.table import Table

__all__ = ["Csv", "Service"]

#: Classes that an answer names with their probabilities.
MOST = 10


class Csv(bytes):
    """What a CSV file holds."""


class Service:
    """One model, for several threads.

    Args:
        answer: the model.
        folder: where corrections are kept; None: nowhere (a registered model is never written to).
    """

    def __init__(self, answer: Answer, folder: Path | None) -> None:
        self._answer, self._folder, self._lock = answer, folder, threading.Lock()
        self.corrections = 0

    @property
    def answer(self) -> Answer:
        """The model as it is now."""
        return self._answer

    @property
    def can_learn(self) -> bool:
        """Whether corrections are taken."""
        return self._folder is not None and self._answer.can_learn

    def about(self) -> dict[str, Any]:
        """What a page needs to know."""
        reader, known = self._answer.reader, self._answer.about
        columns = [column.name for column in reader.columns.columns] if isinstance(reader, Table) else []
        return {
            "kind": reader.kind,
            "regression": reader.regression,
            "classes": [*map(str, self._answer.task.classes_)],
            "columns": columns,
            "score": known.get("score"),
            "network": known.get("network"),
            "can_learn": self.can_learn,
            "corrections": self.corrections,
        }

    def predict(self, value: Any) -> list[dict[str, Any]]:
        """For every example its label and the probabilities of the likeliest classes, or its value.

        Raises:
            AdaptError: it cannot be read.
        """
        if not isinstance(value, Csv):
            return [*_rows(self._answer.request(value))]
        if self._answer.reader.kind == "pictures":
            raise AdaptError("this model reads pictures: send the bytes of one")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "request.csv")
            path.write_bytes(value)
            try:
                return [*_rows(self._answer.predict(path))]
            except AdaptError as error:  # where it was kept meanwhile is nobody's business
                raise AdaptError(str(error).replace(str(path), "the request")) from None

    def correct(self, value: Any, label: Any) -> int:
        """Learn one more example, and keep what was learned; returns how many corrections there are.

        Raises:
            AdaptError: no such class, or a model that takes no corrections.
        """
        if not self.can_learn:
            raise AdaptError("this model takes no corrections: fit your data again with the example added")
        with self._lock:
            learned = self._answer.learn(value, label)
            assert self._folder is not None
            learned.save(self._folder)
            self._answer = learned
            self.corrections += 1
            return self.corrections


def _rows(found: Predictions) -> Any:
    for row in range(len(found.names)):
        if found.probabilities is None:
            yield {"value": float(found.labels[row])}
            continue
        chances: Mapping[int, float] = found.probabilities[row]
        best = np.argsort(-found.probabilities[row], kind="stable")[:MOST]
        yield {
            "label": str(found.labels[row]),
            "probabilities": {found.classes[c]: round(float(chances[c]), 6) for c in best},
        }
