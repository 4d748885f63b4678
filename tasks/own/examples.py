"""What was read of somebody's own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

__all__ = ["Labelled", "Learned", "OwnExamples", "Reader"]


@dataclass(frozen=True)
class OwnExamples:
    """Examples as a network reads them.

    Args:
        x: n texts; uint8 `[n, channels, size, size]`; or the numbers of n rows, float32 `[n, D]`.
        names: n names for people: a path below the folder, or "line 12".
        shown: n things to show to people: the text, the cells of a row; pictures show themselves.
        notes: sentences on what was left out, or looks doubtful.
    """

    x: Sequence[str] | np.ndarray
    names: Sequence[str]
    shown: Sequence[str]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Labelled:
    """Examples with what is to be predicted of them: n labels, or float64 numbers `[n]` in the unit of the
    file where that is a number."""

    examples: OwnExamples
    y: Sequence[str] | np.ndarray

    def __len__(self) -> int:
        return len(self.examples)


class Reader(Protocol):
    """Reads data of one kind, in the way that it learned from the first of them."""

    kind: ClassVar[str]
    one: ClassVar[str]
    many: ClassVar[str]
    at_once: ClassVar[int]

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        ...

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of one example as a network takes it; None: a text."""
        ...

    def labelled(self, path: Path) -> Labelled:
        """More examples with their labels, all of them.

        Raises:
            TaskError: they cannot be read, or not in this way.
        """
        ...

    def unlabelled(self, paths: Sequence[Path]) -> OwnExamples:
        """New examples: files or folders of pictures, or a table, with or without labels.

        Raises:
            TaskError: they cannot be read, or not in this way.
        """
        ...

    def request(self, value: Any) -> OwnExamples:
        """Examples that came over a wire: a text, the bytes of a picture, or the cells of a row by the names
        of columns; or a list of such.

        Raises:
            TaskError: it is something else.
        """
        ...

    def column(self, path: Path, name: str) -> dict[str, str]:
        """The cells of any column of a file, by the names of the examples that :meth:`labelled` reads.

        Raises:
            TaskError: there is no such column, or there are no columns.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without `kind`."""
        ...

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Reader:
        """What :meth:`to_dict` gave; it may have been written by anybody.

        Raises:
            TaskError: it is something else.
        """
        ...


@dataclass(frozen=True)
class Learned:
    """A reader, the examples that it learned its way from, and those that the data themselves hold back for
    testing (a folder `test`), if any."""

    reader: Reader
    train: Labelled
    test: Labelled | None = None
