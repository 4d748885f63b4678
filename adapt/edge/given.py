"""What a graph takes, and examples in that form: the same errors as wherever examples are passed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from adapt.adapter.inputs import as_examples
from adapt.backbones import Pictures
from adapt.errors import AdaptError

__all__ = ["Given", "said_of"]


class Given(NamedTuple):
    """Of the examples of a graph.

    Attributes:
        shape: of one; names stand for sizes that may differ.
        ids: whether they are token ids.
        range: the least and the greatest value that the network was trained on; None: not known.
    """

    shape: tuple[Any, ...]
    ids: bool
    range: tuple[float, float] | None = None

    @classmethod
    def read(cls, shape: Sequence[Any], kind: str, said: Mapping[str, str]) -> Given:
        """From the input of a graph, and from its metadata."""
        known = json.loads(said.get("range", "null"))
        return cls(tuple(shape[1:]), "int" in kind, None if known is None else (known[0], known[1]))

    def examples(self, x: Any) -> Tensor:
        """``x [n, …]`` as the graph takes it: float32, or int64.

        Raises:
            AdaptError: what the graph does not take.
        """
        fixed = all(isinstance(size, int) for size in self.shape)
        found = as_examples(
            x,
            self.shape if fixed else None,
            torch.zeros(0),
            _no_tokeniser if self.ids else None,
            Pictures(self.range),
        )
        sizes = zip(self.shape, found.shape[1:], strict=False)
        if found.ndim != len(self.shape) + 1 or any(a != b for a, b in sizes if isinstance(a, int)):
            raise AdaptError(
                f"x has examples of shape {tuple(found.shape[1:])}, but this graph takes {self.shape}"
            )
        return found


def said_of(pictures: Pictures) -> dict[str, str]:
    """What :meth:`Given.read` finds in the metadata."""
    return {"range": json.dumps(pictures.range)}


def _no_tokeniser(texts: Sequence[str]) -> NoReturn:
    raise AdaptError("x holds texts: a graph has no tokeniser, pass the token ids of adapter.examples(texts)")
