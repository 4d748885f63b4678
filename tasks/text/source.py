"""Labelled texts, which a backbone's tokeniser turns into rows of token ids before episodes are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch

from tasks.source import ArraySource, Card, TaskError

__all__ = ["Encode", "TextSource"]

#: Texts -> token ids int64 [n, L], padded to the longest.
Encode = Callable[[Sequence[str]], np.ndarray]


class TextSource:
    """A `Source` of texts: it has classes and splits, but nothing to load before :meth:`encoded`.

    Args:
        card: its data sheet; `card.name` becomes `name`.
        texts: n texts.
        members: split -> class name -> indices [m] into `texts`, in the order that `classes` reports.

    Example:
        >>> from tasks import Card
        >>> card = Card("demo", "", "us", "CC0", "", {}, (), "None.")
        >>> texts = TextSource(card, ["hi", "bye"], {"train": {"hello": [0], "goodbye": [1]}})
        >>> ids = texts.encoded(lambda lines: np.array([[len(line)] for line in lines]))
        >>> ids.load(np.array([1]))
        tensor([[3]])
    """

    #: Tells it from sources of arrays.
    text: ClassVar[bool] = True

    def __init__(
        self, card: Card, texts: Sequence[str], members: Mapping[str, Mapping[str, Sequence[int]]]
    ) -> None:
        self.texts = list(texts)
        # Everything but loading is as for an array; its rows are the numbers of the texts.
        self._rows = ArraySource(
            card,
            np.arange(len(self.texts))[:, None],
            {
                split: {name: np.asarray(rows, np.int64) for name, rows in classes.items()}
                for split, classes in members.items()
            },
        )

    @property
    def name(self) -> str:
        return self._rows.name

    @property
    def card(self) -> Card:
        return self._rows.card

    @property
    def splits(self) -> tuple[str, ...]:
        return self._rows.splits

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a text there is none."""
        return ()

    def classes(self, split: str) -> Mapping[str, np.ndarray]:
        """Class name -> int64 indices [m] of its texts in `split`."""
        return self._rows.classes(split)

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Raises: a text is no tensor.

        Raises:
            TaskError: always.
        """
        raise TaskError(
            f"{self.name} holds texts, which a backbone with a tokeniser reads: choose one, for instance "
            "backbone=minilm, or call encoded(tokenise) first"
        )

    def digest(self) -> str:
        """sha256 (hex) of texts, class names and split assignment."""
        sha = hashlib.sha256(self._rows.digest().encode())
        for text in self.texts:
            sha.update(repr(text).encode())
        return sha.hexdigest()

    def encoded(self, encode: Encode) -> ArraySource:
        """The same classes and splits over rows of token ids, all texts encoded at once."""
        ids = np.asarray(encode(self.texts), dtype=np.int64)
        members = {split: self.classes(split) for split in self.splits}
        return ArraySource(self.card, ids, members)
