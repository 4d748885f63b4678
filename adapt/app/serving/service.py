"""A model that answers requests, and learns from corrections; it knows nothing of HTTP."""

from __future__ import annotations

import csv
import io
import tempfile
import threading
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from adapt.adapter.storage import LAYOUT
from adapt.app.folders import Occupied, alone
from adapt.app.serving.operation import Operation
from adapt.artifact import generation
from adapt.errors import AdaptError
from adapt.own_data import Answer, Predictions
from tasks.own import OwnExamples
from tasks.own.table import Table

__all__ = ["Csv", "Service"]

#: Classes that an answer names with their probabilities.
MOST = 10


class Csv(bytes):
    """What a CSV file holds."""


class NotKept(AdaptError):
    """A correction that is forgotten, through no fault of who sent it."""

    status = 503


class Service:
    """One model, for several threads.

    Args:
        answer: the model.
        folder: where corrections are kept; None: nowhere (a registered model is never written to).
        mark: of what the folder held before ``answer`` was loaded (:func:`adapt.artifact.generation`).
        operation: watches what is asked; None: nobody does.
    """

    def __init__(
        self,
        answer: Answer,
        folder: Path | None,
        mark: str | None = None,
        operation: Operation | None = None,
    ) -> None:
        self._answer, self._folder, self._lock = answer, folder, threading.Lock()
        self._operation = operation
        self._mark = mark or (None if folder is None else generation(folder, LAYOUT))
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
        answer, operation = self._answer, self._operation
        began = None if operation is None else operation.answer
        examples = self._examples(answer, value)
        if operation is None:
            return [*_rows(answer.answered(examples))]
        features, outputs = answer.seen(examples)
        with self._lock:
            if operation.answer is began:  # else another model has taken its place meanwhile
                self._answer = operation.see(features, outputs) or self._answer
        return [*_rows(answer.predicted(examples, outputs))]

    def watched(self) -> dict[str, Any]:
        """How strange what was asked is.

        Raises:
            AdaptError: nobody watches.
        """
        if self._operation is None:
            raise AdaptError("nobody watches this model: start the server with --watch")
        return self._operation.state()

    def _examples(self, answer: Answer, value: Any) -> OwnExamples:
        if not isinstance(value, Csv):
            return answer.requested(value)
        reader = answer.reader
        if reader.kind == "pictures":
            raise AdaptError("this model reads pictures: send the bytes of one")
        _check_rows(value, reader.at_once)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "request.csv")
            path.write_bytes(value)
            try:
                return answer.read(path, labelled=False).examples
            except AdaptError as error:  # where it lies here is nobody's business
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
            self._keep(learned)
            self._answer = learned
            self.corrections += 1
            return self.corrections

    def _keep(self, learned: Answer) -> None:
        """Save, but over nothing that somebody else has saved since."""
        assert self._folder is not None
        try:
            with alone(self._folder):
                if generation(self._folder, LAYOUT) != self._mark:
                    raise NotKept("the folder of this model holds another one by now: start the server again")
                learned.save(self._folder)
                self._mark = generation(self._folder, LAYOUT)
        except Occupied:
            raise NotKept("another process is at work on this model: try again later") from None
        except OSError as error:
            raise NotKept(
                f"the correction cannot be kept ({error.strerror}): make room on the server"
            ) from None


def _check_rows(content: bytes, most: int) -> None:
    """Refuse more rows than a request may have, before they are read."""
    lines = io.StringIO(content.decode("utf-8", "replace"), newline="")
    try:
        found = sum(1 for _ in islice(csv.reader(lines), most + 2))
    except csv.Error:  # who reads the rows says what is wrong with them
        return
    if found > most + 1:
        raise AdaptError(f"more than {most} rows at once: send fewer")


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
