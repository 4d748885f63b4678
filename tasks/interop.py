"""Data that is already somewhere else: arrays, torch datasets, learn2learn's, Hugging Face's.

Everything ends in memory, as an :class:`ArraySource` or, for texts, a :class:`TextSource`. What nobody says
of the data is not known: the card then says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from tasks.readers.settings import SEED, checked, least, optional

from ._examples import read_examples, rows_of_classes
from .sizes import positive_weights
from .source import ArraySource, Card, TaskError
from .text.source import TextSource

__all__ = ["from_arrays", "from_hugging_face", "from_learn2learn", "from_torch", "hugging_face"]

Members = dict[str, dict[str, np.ndarray]]
DIVIDED_BY = ("classes", "examples")
#: Formats of the library datasets whose files are pickles in some of its versions.
UNPICKLED = ("pandas",)


class Pairs(Protocol):
    """A torch dataset of (x, y) in memory or on disk, of known length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def from_arrays(
    x: np.ndarray | torch.Tensor | Sequence[Any],
    y: np.ndarray | torch.Tensor | Sequence[Any],
    *,
    splits: Mapping[str, float] | None = None,
    by: str = "classes",
    seed: int = 0,
    names: Sequence[str] | None = None,
    card: Card | None = None,
) -> ArraySource | TextSource:
    """Examples and their labels.

    Args:
        x: [n, *shape] numbers, not copied; uint8 is read as fractions of 255, int64 as token ids. Or a list
            of examples: texts, Pillow images of one size, arrays or tensors. Bytes may have channels last.
        y: n labels: whole numbers, strings or booleans, one kind of them.
        splits: split -> its share; shares are relative. None: one split, "train".
        by: what is divided between the splits: "classes" (new concepts in each), or "examples" (every class
            in every split, which needs as many examples of each class as there are splits).
        seed: of the division.
        names: of the classes, if labels are their numbers 0, 1, ….
        card: the data sheet; None: one that says that nothing is known.

    Raises:
        TaskError: lengths that differ, examples or labels that cannot be read, a division that is not
            possible.

    Example:
        >>> source = from_arrays(np.zeros((6, 2)), [0, 0, 1, 1, 2, 2], splits={"train": 2, "test": 1})
        >>> {split: sorted(source.classes(split)) for split in source.splits}
        {'train': ['0', '2'], 'test': ['1']}
    """
    return _source(read_examples(x), y, splits=splits, by=by, seed=seed, names=names, card=card)


def from_torch(dataset: Pairs, *, size: int | None = None, **more: Any) -> ArraySource | TextSource:
    """A torch dataset whose items are (x, y, …): tensors, arrays, Pillow images or texts.

    Args:
        dataset: is read once, from 0 to its end; one without a length, as it comes.
        size: side that Pillow images are scaled to; None: as they are, which must be one size.
        more: as for :func:`from_arrays`.

    Raises:
        TaskError: items of another form, and what :func:`from_arrays` raises.

    Example:
        >>> pairs = torch.utils.data.TensorDataset(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]))
        >>> from_torch(pairs).classes("train")["1"].tolist()
        [2, 3]
    """
    endless = isinstance(dataset, torch.utils.data.IterableDataset)
    items: list[Any] = [*iter(dataset)] if endless else [dataset[index] for index in range(len(dataset))]
    for index, item in enumerate(items):
        if not isinstance(item, list | tuple) or len(item) < 2:
            raise TaskError(f"item {index} of the dataset is a {type(item).__name__}: it should be (x, y)")
    x = [item[0] for item in items]
    return _source(read_examples(x, _side(size)), [_label(item[1]) for item in items], **more)


def from_learn2learn(dataset: Any, *, size: int | None = None, **more: Any) -> ArraySource | TextSource:
    """A ``MetaDataset`` of learn2learn, or the one inside a ``Taskset``, by its own labels.

    Its task transforms are not taken over: ways, shots and queries belong to a :class:`Distribution`.

    Args:
        dataset: the data set.
        size: side that Pillow images are scaled to; None: as they are.
        more: as for :func:`from_arrays`.

    Raises:
        TaskError: something else, which has no ``labels_to_indices``.
    """
    meta = dataset if hasattr(dataset, "labels_to_indices") else getattr(dataset, "dataset", None)
    found = getattr(meta, "labels_to_indices", None)
    if found is None or meta is None:
        raise TaskError(
            f"{type(dataset).__name__} has no labels_to_indices: give a MetaDataset or Taskset of learn2learn"
        )
    label_of = {int(index): label for label, indices in found.items() for index in indices}
    kept = sorted(label_of)  # a filtered data set leaves some out
    x = read_examples([meta[index][0] for index in kept], _side(size))
    return _source(x, [_label(label_of[index]) for index in kept], **more)


def from_hugging_face(
    dataset: Any,
    *,
    example: str = "image",
    label: str = "label",
    size: int | None = None,
    card: Card | None = None,
    **division: Any,
) -> ArraySource | TextSource:
    """A ``Dataset`` or ``DatasetDict`` of the library ``datasets``: its splits are kept.

    Args:
        dataset: with a column of examples (texts, images, or numbers) and one of labels.
        example, label: names of these columns.
        size: side that images are scaled to; None: as they are.
        card: the data sheet; None: what the data set says of itself.
        division: ``splits``, ``by`` and ``seed`` as for :func:`from_arrays`, for a single ``Dataset``.

    Raises:
        TaskError: a column that is not there, examples that differ in shape, a division of a ``DatasetDict``.
    """
    parts: dict[str, Any] = dict(dataset) if isinstance(dataset, Mapping) else {"train": dataset}
    for split, part in parts.items():
        for column in (example, label):
            if column not in part.column_names:
                known = ", ".join(part.column_names)
                raise TaskError(f"split {split!r} has no column {column!r}: use one of {known}")
    first = next(iter(parts.values()))
    names = getattr(first.features[label], "names", None)
    columns = {split: list(part[example]) for split, part in parts.items()}
    labels = {split: list(part[label]) for split, part in parts.items()}
    card = card or _of_info(first.info, sum(map(len, labels.values())))
    everything = [value for column in columns.values() for value in column]
    if type(first.features[example]).__name__.startswith("Array"):  # comes as lists
        everything = [np.asarray(value, first.features[example].dtype) for value in everything]
    if not everything:
        raise TaskError(f"{card.name} has no examples: load another split")
    x = read_examples(everything, _side(size))
    if not isinstance(dataset, Mapping):
        return _source(x, labels["train"], names=names, card=card, **division)
    if division:
        raise TaskError(f"{card.name} has splits: leave {', '.join(division)} out, or pass one of its splits")
    starts = np.cumsum([0, *map(len, labels.values())])
    members = {
        split: {name: rows + start for name, rows in rows_of_classes(labels[split], None, names).items()}
        for split, start in zip(labels, starts.tolist(), strict=False)
    }
    if isinstance(x, np.ndarray):
        return ArraySource(card, x, members)
    return TextSource(card, x, members)


def hugging_face(
    path: str,
    *,
    config: str | None = None,
    split: str | None = None,
    data_files: str | None = None,
    example: str = "image",
    label: str = "label",
    size: int | None = None,
    splits: dict[str, float] | None = None,
    by: str = "classes",
    seed: int = 0,
) -> ArraySource | TextSource:
    """What ``datasets.load_dataset`` finds: a folder, files of a format, or a name on the hub.

    Args:
        path: folder or name; or a format ("csv", "json", "parquet", "imagefolder"), with ``data_files``.
        config: the data set's configuration, if it has several.
        split: only this split, which ``splits`` may then divide; None: all, as they are.
        data_files: of a format.
        example, label, size: as for :func:`from_hugging_face`.
        splits, by, seed: as for :func:`from_arrays`.

    Raises:
        TaskError: the library is missing, or there is no such data set.
    """
    try:
        from datasets import __version__, load_dataset
    except ImportError:
        raise TaskError("tasks.hugging_face needs the library datasets: pip install datasets") from None
    if int(__version__.split(".")[0]) < 4:
        raise TaskError(
            f"datasets {__version__} runs code that data sets bring along: pip install -U datasets"
        )
    if path in UNPICKLED:
        raise TaskError(f"data set {path!r}: the library would unpickle its files; save them as parquet")
    try:
        found = load_dataset(path, config, split=split, data_files=data_files)
    except (OSError, ValueError) as error:  # its own errors are of these kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TaskError(
            f"data set {path!r} cannot be loaded ({reason}): check path, config and split"
        ) from None
    division: dict[str, Any] = {} if splits is None else {"splits": splits, "by": by, "seed": seed}
    return from_hugging_face(found, example=example, label=label, size=size, **division)


def _source(
    x: np.ndarray | list[str],
    y: Any,
    *,
    splits: Mapping[str, float] | None = None,
    by: str = "classes",
    seed: int = 0,
    names: Sequence[str] | None = None,
    card: Card | None = None,
) -> ArraySource | TextSource:
    """The source of examples that have been read; see :func:`from_arrays`."""
    rows = rows_of_classes(y, None, names)
    total = sum(map(len, rows.values()))
    if total != len(x):
        raise TaskError(f"from_arrays: {len(x)} examples and {total} labels: give one label per example")
    members = _divided(rows, splits, by, checked("seed", seed, SEED, TaskError))
    card = card or _unknown("arrays", total, len(rows))
    return TextSource(card, x, members) if isinstance(x, list) else ArraySource(card, x, members)


def _side(size: int | None) -> int | None:
    return checked("size", size, optional(least(1)), TaskError)


def _label(value: Any) -> Any:
    """A label that stands alone in a tensor, without the tensor's axes."""
    return value.reshape(()) if isinstance(value, torch.Tensor) and value.numel() == 1 else value


def _divided(
    rows: Mapping[str, np.ndarray], splits: Mapping[str, float] | None, by: str, seed: int
) -> Members:
    """Split -> class -> rows, in the classes' order."""
    if splits is None:
        return {"train": dict(rows)}
    if by not in DIVIDED_BY:
        raise TaskError(f"by={by!r} is unknown: use {' or '.join(map(repr, DIVIDED_BY))}")
    given = positive_weights([*splits.values()])
    if not given:
        raise TaskError(f"splits={dict(splits)}: give each split a positive share")
    rng = np.random.default_rng(seed)
    shares = np.cumsum(given) / sum(given)
    names = [*rows]
    if by == "classes":
        chosen = _cut(rng.permutation(len(names)), shares, "classes")
        return {
            split: {names[j]: rows[names[j]] for j in sorted(part.tolist())}
            for split, part in zip(splits, chosen, strict=True)
        }
    members: Members = {split: {} for split in splits}
    for name, pool in rows.items():
        for split, part in zip(splits, _cut(rng.permutation(pool), shares, f"{name!r}"), strict=True):
            members[split][name] = np.sort(part)
    return members


def _cut(items: np.ndarray, shares: np.ndarray, what: str) -> list[np.ndarray]:
    """`items` in parts that end at `shares` of the whole, each with one at least."""
    n, parts = len(items), len(shares)
    if n < parts:
        raise TaskError(f"{n} of {what} cannot be divided between {parts} splits: give fewer splits")
    ends = np.round(shares * n).astype(np.int64)
    for number in range(parts):  # one for every part before the end, and one for every part after
        before = ends[number - 1] if number else 0
        ends[number] = min(max(ends[number], before + 1), n - (parts - 1 - number))
    return np.split(items, ends[:-1])


def _unknown(name: str, examples: int, classes: int) -> Card:
    return Card(
        name=name,
        description="Data of the caller's own.",
        origin="Not said.",
        licence="unknown",
        terms="Ask whoever made the data.",
        counts={"examples": examples, "classes": classes},
        known_issues=("Nobody has looked for leaks, duplicates or wrong labels.",),
        personal_data="Unknown.",
    )


def _of_info(info: Any, examples: int) -> Card:
    """What a data set of the library says of itself, which is often nothing."""
    lines: Iterable[str] = (info.description or "").strip().splitlines()
    return Card(
        name=info.dataset_name or "hugging_face",
        description=next(iter(lines), "A data set of the library datasets."),
        origin=info.homepage or "Not said.",
        licence=info.license or "unknown",
        terms="See the data set's page.",
        counts={"examples": examples},
        known_issues=("Nobody has looked for leaks, duplicates or wrong labels.",),
        personal_data="Unknown.",
    )
