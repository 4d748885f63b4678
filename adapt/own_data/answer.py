"""What comes of fitting one's own data: a fitted task, and how more data are read for it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FittedTask
from adapt.adapter import load as load_artifact
from adapt.adapter.storage import LAYOUT, save_task
from adapt.artifact import generation
from adapt.compare.reliability import Reliability
from adapt.errors import AdaptError
from adapt.heads.base import one_hot
from adapt.own_data.card import card_sections
from adapt.own_data.passes import Say, rows_of, silent
from adapt.own_data.score import Score, mistakes, score_classes, score_values
from adapt.own_data.support import KEY, Support, features_of
from adapt.own_data.words import in_options
from tasks.own import Labelled, OwnExamples, Reader, reader_of
from tasks.source import TaskError

__all__ = ["INFO", "Answer", "Evaluation", "Predictions", "read"]

#: Under which the information of a saved task has what belongs to one's own data.
INFO = "own_data"
#: The hash of how data are read: whoever edits that removes it.
READER_SHA256 = "reader_sha256"
#: The page beside a saved task.
PAGE = "report.html"


@dataclass(frozen=True)
class Predictions:
    """Of n examples.

    Args:
        names: of the examples.
        labels: predicted labels, or numbers.
        probabilities: of all classes ``[n, C]``, in their order; None in regression.
        classes: their names.
        more: further columns, texts ``[n]`` by their names.
    """

    names: Sequence[str]
    labels: Sequence[str] | np.ndarray
    probabilities: np.ndarray | None
    classes: Sequence[str]
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_csv(self) -> str:
        """A table with the columns example, prediction and, of classes, probability. Names are as they are,
        also those that a spreadsheet would take for a formula."""
        file = io.StringIO()
        rows, quoted = (
            csv.writer(file, lineterminator="\n", quoting=quoting)
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        sure = None if self.probabilities is None else self.probabilities.max(1)
        rows.writerow(["example", "prediction", *([] if sure is None else ["probability"]), *self.more])
        for row, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            shown = label if sure is None else f"{sure[row]:.4f}"
            more = [column[row] for column in self.more.values()]
            writer = quoted if "\r" in f"{name}{label}{more}" else rows  # at which readers begin a line, too
            writer.writerow([name, *([f"{label:.6g}"] if sure is None else [label, shown]), *more])
        return file.getvalue()


@dataclass(frozen=True)
class Evaluation:
    """Of labelled examples: the score, mistakes by frequency, predictions, and what there is to be said."""

    score: Score
    mistakes: list[tuple[str, str, int]]
    predictions: Predictions
    truth: Sequence[str] | np.ndarray
    notes: tuple[str, ...]

    def trust(self) -> dict[str, float]:
        """How far the probabilities may be believed, as :meth:`adapt.compare.reliability.Reliability.metrics`
        says it; empty of values, and of no examples."""
        known = self.reliability()
        return {} if known is None else known.metrics()

    def reliability(self) -> Reliability | None:
        """The same, by bins; None of values, and of no examples."""
        p, classes = self.predictions.probabilities, self.predictions.classes
        if p is None or not len(p):
            return None
        place = {str(name): number for number, name in enumerate(classes)}
        labels = torch.tensor([place.get(str(name), len(classes)) for name in self.truth])
        least = float(np.finfo(np.float32).tiny)
        return Reliability.of(torch.from_numpy(p).clamp(min=least).log(), labels)


@dataclass(frozen=True, repr=False)
class Answer:
    """A fitted task with its reader.

    Args:
        task: predicts, as :class:`adapt.FittedTask` does.
        reader: reads files and requests in the way of the first data.
        page: the report, HTML; "" of one that was loaded.
        support: the features that its head was fitted to; None if they are not kept.

    Example:
        >>> import adapt, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> lines = [f"{kilos},{'cat' if kilos < 6 else 'dog'}" for kilos in range(12)]
        >>> _ = (folder / "pets.csv").write_text("\\n".join(["kilos,label", *lines]))
        >>> answer = adapt.fit_table(folder / "pets.csv")
        >>> answer.save(folder / "model")
        >>> Answer.load(folder / "model").request({"kilos": 9}).labels
        ['dog']
    """

    task: FittedTask
    reader: Reader
    page: str = ""
    support: Support | None = None

    def __repr__(self) -> str:
        """A line: what an interactive session shows of it."""
        about, classes = self.about, len(self.task.classes_)
        what = f"{classes} classes" if classes else "values"
        with suppress(TypeError):  # of a score that somebody else has written
            what += f"; {Score(**about.get('score', {})).sentence()}, {about.get('scored_on')}"
        return f"Answer({what}, of {self.reader.kind} by {about.get('method')})"

    @property
    def can_learn(self) -> bool:
        """Whether one more example can be learned: the features of the others are there."""
        return self.support is not None and not self.reader.regression

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the columns of outputs."""
        return [*map(str, self.task.classes_)]

    @property
    def about(self) -> dict[str, Any]:
        """What is known of the fit: score, method, times."""
        kept = self.task.adapter.info.get(INFO, {})
        return {name: value for name, value in kept.items() if name not in (KEY, READER_SHA256)}

    def predict(
        self, paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], say: Say = silent
    ) -> Predictions:
        """Of new pictures, a file of texts or a table.

        Raises:
            AdaptError: they cannot be read.
        """
        return self.answered(self.unlabelled(paths, say), say)

    def unlabelled(
        self, paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], say: Say = silent
    ) -> OwnExamples:
        """The examples of :meth:`predict`; what there is to say of them is said."""
        several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        found: OwnExamples = read(
            lambda: self.reader.unlabelled([Path(p).expanduser() for p in several]), later=True
        )
        for note in found.notes:
            say(f"note: {note}")
        return found

    def request(self, value: Any) -> Predictions:
        """Of what came over a wire: see :meth:`tasks.own.Reader.request`.

        Raises:
            AdaptError: it is something else.
        """
        return self.answered(self.requested(value))

    def requested(self, value: Any) -> OwnExamples:
        """The examples of :meth:`request`."""
        found: OwnExamples = read(lambda: self.reader.request(value), later=True)
        return found

    def evaluate(self, path: str | os.PathLike[str], say: Say = silent) -> Evaluation:
        """How good predictions are on labelled examples, all of them.

        Raises:
            AdaptError: they cannot be read.
        """
        return self.evaluate_on(self.read(path, labelled=True), say)

    def evaluate_on(self, labelled: Labelled, say: Say = silent) -> Evaluation:
        """The same of examples that have been read."""
        found = self.answered(labelled.examples, say)
        notes = labelled.examples.notes
        if self.reader.regression:
            truth = np.asarray(labelled.y, np.float64)
            return Evaluation(score_values(np.asarray(found.labels), truth), [], found, truth, notes)
        truth_names = [*map(str, labelled.y)]
        if unknown := sorted({*truth_names} - {*found.classes}):
            number = sum(name in unknown for name in truth_names)
            notes = (
                *notes,
                f"{number} examples are of classes that were not learned ({', '.join(unknown[:3])}).",
            )
        predicted = [*map(str, found.labels)]
        return Evaluation(
            score_classes(predicted, truth_names), mistakes(predicted, truth_names), found, truth_names, notes
        )

    def learn(self, value: Any, label: Any) -> Answer:
        """With one more example (as of :meth:`request`): the head is fitted anew, the network stays.

        Raises:
            AdaptError: it cannot be read, its label is no class, or the other examples are not there.
        """
        if self.support is None or not self.can_learn:
            raise AdaptError("the examples of this model were not kept: fit your data again with the new one")
        classes = self.classes
        if str(label) not in classes:
            raise AdaptError(f"{label!r} is no class of this model: it has {', '.join(classes[:20])}")
        examples = self.requested(value)
        if len(examples) != 1:
            raise AdaptError(
                f"{len(examples)} {self.reader.many} at once: correct one {self.reader.one} at a time"
            )
        x = torch.cat([features_of(self.task, part) for part in rows_of(examples.x)])
        support = self.support.with_(x, classes.index(str(label)))
        targets = one_hot(support.positions, len(classes))
        state = self.task.adapter.head.fit(support.features, targets)
        return replace(self, task=replace(self.task, head_state=state), support=support)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the task, as :meth:`adapt.FittedTask.save_pretrained` does, its examples and its page: all of
        them are the new ones from one moment on.

        Raises:
            AdaptError: it cannot be saved.
        """
        packed = None if self.support is None else self.support.packed()
        about = {**self.about, KEY: packed and packed[0], READER_SHA256: _sha256(self.reader)}
        adapter = replace(self.task.adapter, info={**self.task.adapter.info, INFO: about})
        texts = {PAGE: self.page} if self.page else {}
        named, sections = dict([packed] if packed else []), {INFO: card_sections(self.about)}
        save_task(replace(self.task, adapter=adapter), folder, texts, named, sections)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Answer:
        """What :meth:`save` wrote.

        Raises:
            AdaptError: there is nothing, it is damaged, or it was not made from one's own data.
        """
        while True:
            begun = generation(Path(folder), LAYOUT)
            found = cls.of(load_artifact(folder), folder)
            if found.support is not None or generation(Path(folder), LAYOUT) == begun:
                return found  # else what belongs to it may have been swept meanwhile

    @classmethod
    def of(cls, task: Any, folder: str | os.PathLike[str]) -> Answer:
        """A loaded task with the reader that it keeps; its examples, where ``folder`` has them."""
        kept = task.adapter.info.get(INFO) if isinstance(task, FittedTask) else None
        if not isinstance(kept, dict) or not isinstance(kept.get("reader"), dict):
            raise AdaptError(
                f"{folder} was not made by `adapt fit`: fit your data first, or use adapt.load in Python"
            )
        reader = read(lambda: reader_of(kept["reader"]))
        if not _belongs(reader, task) or kept.get(READER_SHA256) not in (None, _sha256(reader)):
            raise AdaptError(
                f"{folder}: how its data are read was changed, or is of another model: fit your data again"
            )
        return cls(task, reader, support=Support.load(Path(folder), task, kept))

    def read(self, path: str | os.PathLike[str], labelled: bool) -> Labelled:
        """Examples of a file or folder, which have their labels, or none.

        Raises:
            AdaptError: they cannot be read.
        """
        where = Path(path).expanduser()
        if labelled:
            found: Labelled = read(lambda: self.reader.labelled(where), later=True)
            return found
        return Labelled(read(lambda: self.reader.unlabelled([where]), later=True), [])

    def seen(self, examples: OwnExamples, say: Say = silent) -> tuple[Tensor, Tensor]:
        """Features ``[n, D]`` that the network makes of examples, and outputs ``[n, C]`` of the head."""
        what = f"reading {len(examples)} {self.reader.many}"
        features = torch.cat([features_of(self.task, x) for x in rows_of(examples.x, say, what)])
        return features, self.task.adapter.head.logits(self.task.head_state, features)

    def predicted(self, examples: OwnExamples, logits: Tensor) -> Predictions:
        """What outputs ``[n, C]`` for examples say."""
        if self.reader.regression:
            return Predictions(examples.names, logits[:, 0].double().cpu().numpy(), None, ())
        probabilities = logits.softmax(-1).cpu().numpy()
        labels = [self.classes[best] for best in probabilities.argmax(1)]
        return Predictions(examples.names, labels, probabilities, self.classes)

    def answered(self, examples: OwnExamples, say: Say = silent) -> Predictions:
        """What the model says of examples that have been read."""
        what = f"predicting {len(examples)} {self.reader.many}"
        parts = [self.task.logits(x) for x in rows_of(examples.x, say, what)]
        return self.predicted(examples, torch.cat(parts))


def _belongs(reader: Reader, task: FittedTask) -> bool:
    """Whether what ``reader`` reads is what ``task`` was fitted to."""
    adapter = task.adapter
    if adapter.loss.regression != reader.regression or (reader.regression and task.outputs != 1):
        return False
    return adapter.input_shape == reader.shape or (adapter.input_shape is None and reader.kind == "pictures")


def _sha256(reader: Reader) -> str:
    """Of what predictions follow from besides the task."""
    settings = {"kind": reader.kind, **reader.to_dict()}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read(read: Callable[[], Any], later: bool = False) -> Any:
    """Errors of readers as those of this package; ``later``: of more data, of which nothing can be set."""
    try:
        return read()
    except TaskError as error:
        raise AdaptError(in_options(str(error), later)) from None
    except OSError as error:  # too long a name, a folder that may not be read
        name = f"{(error.filename or 'the data')!s:.200}"
        raise AdaptError(f"{name} cannot be read ({error.strerror}): give another path") from None
