"""Where examples come from: the `Source` contract, its data sheet, and an in-memory implementation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

__all__ = ["AnySource", "ArraySource", "Card", "Source", "TaskError", "TaskWarning", "joined_card"]


class TaskError(ValueError):
    """A task cannot be built as asked. The message names the wrong thing and the fix."""


class TaskWarning(UserWarning):
    """Something of the data was left out or filled in. The message says what, and how many times."""


@dataclass(frozen=True)
class Card:
    """Data sheet of a source: what a user must know before trusting a number measured on it.

    Args:
        name: short identifier, as used in configs.
        description: what one example shows and how it was made.
        origin: who made the data and where it comes from (a citation or a URL).
        licence: name of the licence.
        terms: what the licence asks of a user, in a sentence.
        counts: how many of what, e.g. `{"examples": 1797, "classes": 10}`.
        known_issues: leaks, label noise, near-duplicates, ... one sentence each.
        personal_data: whether people can be identified from the data.
        domain: field of use, e.g. "vision", "conversational AI", "finance", "healthcare".
        commercial: whether the licence allows commercial use; None if it does not say.
    """

    name: str
    description: str
    origin: str
    licence: str
    terms: str
    counts: Mapping[str, int]
    known_issues: tuple[str, ...]
    personal_data: str
    domain: str = ""
    commercial: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain Python containers, ready for JSON or MLflow."""
        plain = asdict(self)
        plain["counts"] = dict(self.counts)
        plain["known_issues"] = list(self.known_issues)
        return plain


def joined_card(cards: Mapping[str, Card], name: str) -> Card:
    """What holds of any part holds of the whole; commercial use is allowed if all parts allow it."""

    def joined(attribute: str) -> str:
        return "; ".join(f"{part}: {getattr(card, attribute)}" for part, card in cards.items())

    allowed = {card.commercial for card in cards.values()}
    return Card(
        name=name,
        description=joined("description"),
        origin=joined("origin"),
        licence=joined("licence"),
        terms=joined("terms"),
        counts={f"{part} {what}": n for part, card in cards.items() for what, n in card.counts.items()},
        known_issues=tuple(f"{part}: {it}" for part, card in cards.items() for it in card.known_issues),
        personal_data=joined("personal_data"),
        domain=", ".join(dict.fromkeys(card.domain for card in cards.values() if card.domain)),
        commercial=False if False in allowed else None if None in allowed else True,
    )


class AnySource(Protocol):
    """What sources of every kind say of themselves: of examples (`Source`), functions and groups."""

    @property
    def name(self) -> str: ...

    @property
    def card(self) -> Card: ...

    @property
    def splits(self) -> tuple[str, ...]:
        """In an order that never changes: where tasks are drawn by number, the position enters the stream."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example (of a function, of one input)."""
        ...

    def digest(self) -> str:
        """sha256 (hex) of everything that decides a result: pixels or settings, class names, splits."""
        ...


@runtime_checkable
class Source(AnySource, Protocol):
    """Labelled examples, addressed by index, with named splits.

    `classes` is ordered and deterministic: episodes are drawn by position in it. Splits may be disjoint in
    classes (new concepts) or in examples (same classes, new images); the card says which.
    """

    def classes(self, split: str) -> Mapping[str, np.ndarray]:
        """Class name -> int64 indices [m] of its examples in `split`; `TaskError` if there is none."""
        ...

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Examples [n, *shape] for int64 indices [n]: float32, or int64 where they are token ids."""
        ...


class ArraySource:
    """A source held in one array.

    Args:
        card: its data sheet; `card.name` becomes `name`.
        examples: [n, *shape]; uint8 is read as fractions of 255, int64 as token ids, else as numbers.
        members: split -> class name -> indices [m] into `examples`, in the order that `classes` reports.

    Raises:
        TaskError: if `members` is empty or an index lies outside `examples`.

    Attributes:
        published: names of the splits that are training sets as somebody published them, whose test set is
            the split "query"; empty where there are none (:class:`tasks.FixedTasks`).
    """

    published: tuple[str, ...] = ()

    def __init__(
        self, card: Card, examples: np.ndarray, members: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        if not members:
            raise TaskError(f"{card.name} has no splits: give at least one, as members={{'train': {{...}}}}")
        self._card = card
        self._examples = examples
        self._members: dict[str, Mapping[str, np.ndarray]] = {}
        for split, classes in members.items():
            frozen = {name: np.array(indices, dtype=np.int64) for name, indices in classes.items()}
            for name, indices in frozen.items():
                if any("\ud800" <= letter <= "\udfff" for letter in str(name)):
                    raise TaskError(
                        f"{card.name}: the class {name!r} of split {split!r} holds half a character (a lone "
                        "surrogate), which no file can hold: rename it"
                    )
                if indices.size and not 0 <= indices.min() <= indices.max() < len(examples):
                    raise TaskError(
                        f"{card.name}: class {name!r} of split {split!r} points outside the "
                        f"{len(examples)} examples: use indices 0..{len(examples) - 1}"
                    )
                indices.flags.writeable = False  # handed out without a copy
            self._members[split] = frozen

    @property
    def name(self) -> str:
        return self._card.name

    @property
    def card(self) -> Card:
        return self._card

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._members)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._examples.shape[1:])

    def classes(self, split: str) -> Mapping[str, np.ndarray]:
        """Class name -> int64 indices [m] of its examples in `split`."""
        if split not in self._members:
            raise TaskError(f"{self.name} has no split {split!r}: use one of {', '.join(self._members)}")
        return MappingProxyType(self._members[split])

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Examples [n, *shape] for int64 indices [n]: float32, or int64 where they are token ids."""
        # `take` copies (and is twice as fast as an index), so the tensor never aliases the source.
        examples = torch.from_numpy(self._examples.take(np.asarray(indices, dtype=np.int64), axis=0))
        if examples.dtype == torch.int64:
            return examples
        return examples.float().div_(255) if examples.dtype == torch.uint8 else examples.float()

    def digest(self) -> str:
        """sha256 (hex) of pixels, class names and split assignment."""
        sha = hashlib.sha256(f"{self._examples.dtype.str}{self._examples.shape}".encode())
        sha.update(np.ascontiguousarray(self._examples).data)
        for split, classes in self._members.items():
            for name, indices in classes.items():
                # repr quotes the names, so that no two assignments serialise alike.
                sha.update(f"{split!r}{name!r}{len(indices)}".encode())
                sha.update(indices.astype("<i8").tobytes())
        return sha.hexdigest()
