"""Labelled texts, which a backbone's tokeniser turns into rows of token ids before episodes are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from tasks.readers.texts import read_texts
from tasks.source import ArraySource, Card, TaskError

__all__ = ["Encode", "TextSource", "TokenSource", "same"]

#: Texts -> token ids int64 [n, L], padded to the longest.
Encode = Callable[[Sequence[str]], np.ndarray]


def same(text: str) -> str:
    """What two texts share that differ only in case and white space: for finding repeats, not for reading.

    Example:
        >>> same(" How  do I\\npay? ") == same("how do i pay?")
        True
    """
    return " ".join(text.split()).casefold()


class TokenSource(ArraySource):
    """Rows of token ids, each load as long as its longest text: a network need not read what is padding in
    all of them. `shape` is that of the longest text of all.

    Args:
        card, ids, members: as of :class:`ArraySource`, ids int64 [n, L].
        pad: the id of the padding.
    """

    def __init__(
        self, card: Card, ids: np.ndarray, members: Mapping[str, Mapping[str, np.ndarray]], pad: int
    ) -> None:
        super().__init__(card, ids, members)
        self._pad = pad

    def load(self, indices: np.ndarray) -> torch.Tensor:
        """Token ids [n, l], l <= L, for int64 indices [n]."""
        ids = super().load(indices)
        used = (ids != self._pad).any(0).nonzero()
        # At least one column: a row may be nothing but what some tokenisers call padding.
        return ids[:, : int(used[-1]) + 1 if len(used) else 1].contiguous()


class TextSource:
    """A `Source` of texts: it has classes and splits, but nothing to load before :meth:`encoded`.

    Args:
        card: its data sheet; `card.name` becomes `name`.
        texts: n texts, none of them blank.
        members: split -> class name -> indices [m] into `texts`, in the order that `classes` reports.

    Raises:
        TaskError: if a text is blank or no string, or what should be an index is none.

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
    #: See :class:`tasks.ArraySource`.
    published: tuple[str, ...] = ()

    def __init__(
        self,
        card: Card,
        texts: Sequence[str],
        members: Mapping[str, Mapping[str, Sequence[int] | np.ndarray]],
    ) -> None:
        self.texts = read_texts(texts, TaskError, f"{card.name}: texts")
        for index, text in enumerate(self.texts):
            if not text.strip():
                raise TaskError(f"{card.name}: text {index} is blank: leave it out")
        # Everything but loading is as for an array; its rows are the numbers of the texts.
        self._rows = ArraySource(
            card,
            np.arange(len(self.texts))[:, None],
            {
                split: {name: _indices(rows, card.name, split, name) for name, rows in classes.items()}
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
            sha.update(repr(text).encode())  # quoted, so that no two lists of texts serialise alike
        return sha.hexdigest()

    def encoded(self, encode: Encode, pad: int = 0) -> TokenSource:
        """The same classes and splits over rows of token ids, all texts encoded at once; `pad` is the id that
        fills the rows of shorter texts.

        Raises:
            TaskError: if `encode` does not return one row of ids >= 0 for each text.
        """
        ids = np.asarray(encode(self.texts))
        if ids.ndim != 2 or len(ids) != len(self.texts) or ids.shape[1] == 0:
            raise TaskError(
                f"{self.name}: the tokeniser made an array of shape {ids.shape} of {len(self.texts)} texts: "
                f"it should return [{len(self.texts)}, L] token ids, padded to one length L"
            )
        if ids.dtype.kind not in "iu":
            raise TaskError(
                f"{self.name}: the tokeniser returned {ids.dtype} where token ids should be: return integers"
            )
        if ids.size and ids.min() < 0:
            raise TaskError(f"{self.name}: the tokeniser returned the token id {ids.min()}: ids start at 0")
        members = {split: self.classes(split) for split in self.splits}
        found = TokenSource(self.card, ids.astype(np.int64), members, pad)
        found.published = self.published
        return found


def _indices(rows: Any, source: str, split: str, name: str) -> np.ndarray:
    """int64 [m]; numbers that are not whole would be cut off silently."""
    found = np.asarray(rows)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise TaskError(
            f"{source}: class {name!r} of split {split!r} should be a list of indices (whole numbers), "
            f"not {found.dtype} of shape {found.shape}"
        )
    return found.astype(np.int64)
