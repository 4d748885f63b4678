"""Texts in classes and networks that read them, for the benchmarks of intents and of relations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapt.backbones import call
from adapt.heads import Head, one_hot
from adapt.spaces import Space

__all__ = ["Bag", "Batch", "Encoder", "Pool", "Task", "accuracy", "fit", "made_up"]

#: Support texts, their labels [n], query texts, their labels [m].
Task = tuple[list[str], Tensor, list[str], Tensor]


@dataclass(frozen=True)
class Pool:
    """Texts by class, classes sorted."""

    texts: Mapping[str, Sequence[str]]

    @property
    def classes(self) -> list[str]:
        return sorted(self.texts)

    def all(self) -> tuple[list[str], Tensor]:
        """Every text, and its class's number ``[n]``."""
        rows = [(text, i) for i, name in enumerate(self.classes) for text in self.texts[name]]
        return [text for text, _ in rows], torch.tensor([i for _, i in rows])

    def draw(
        self, ways: int, sizes: Sequence[int], rng: np.random.Generator
    ) -> list[tuple[list[str], Tensor]]:
        """For ``ways`` random classes disjoint sets of texts, ``sizes`` per class (the last ones fewer where
        there are not so many), with labels 0 … ways − 1."""
        chosen = rng.permutation(self.classes)[:ways]
        shuffled = [rng.permutation(len(self.texts[name]))[: sum(sizes)] for name in chosen]
        sets = []
        for low, high in pairwise(np.cumsum([0, *sizes])):
            rows = [(self.texts[c][i], y) for y, c in enumerate(chosen) for i in shuffled[y][low:high]]
            sets.append(([text for text, _ in rows], torch.tensor([y for _, y in rows])))
        return sets

    def task(self, ways: int, shots: int, queries: int, seed: Sequence[int]) -> Task:
        """A support set and queries, a function of ``seed``; of all classes if there are no more."""
        rng = np.random.default_rng(seed)
        sets = self.draw(min(ways, len(self.texts)), (shots, queries), rng)
        (support, labels), (query, truth) = sets
        return support, labels, query, truth


class Batch(NamedTuple):
    """Texts as token ids, the shortest first, in ``parts [≤ rows, L]``; ``inverse`` restores their order."""

    parts: list[Tensor]
    inverse: Tensor


@dataclass(frozen=True)
class Encoder:
    """A frozen backbone that reads texts, ``rows`` at a time, and the space that moves in it."""

    backbone: nn.Module
    space: Space
    rows: int = 64

    def batch(self, texts: Sequence[str]) -> Batch:
        """Texts of similar lengths together: padding costs as much as words."""
        ids = torch.from_numpy(self.backbone.tokenise(texts))  # type: ignore[operator]
        lengths = (ids != 0).sum(1)
        order = lengths.argsort(stable=True)
        parts = [ids[rows, : int(lengths[rows].max())] for rows in order.split(self.rows)]
        return Batch(parts, order.argsort())

    def features(self, batch: Batch, phi: Tensor | None = None) -> Tensor:
        """Features ``[n, D]`` at φ ``[P]`` (None: of the backbone as it is)."""
        parameters = {} if phi is None else self.space.parameters(phi)
        return torch.cat([call(self.backbone, parameters, part) for part in batch.parts])[batch.inverse]

    def plain(self, texts: Sequence[str], phi: Tensor | None = None) -> Tensor:
        """Features of ``texts``, without derivatives."""
        with torch.no_grad():
            return self.features(self.batch(texts), phi)


def fit(head: Head, x: Tensor, y: Tensor) -> Any:
    """State of ``head`` after examples ``x [n, D]`` with labels ``y [n]``."""
    return head.fit(x, one_hot(y, int(y.max()) + 1, x.dtype))


def accuracy(head: Head, state: Any, x: Tensor, truth: Tensor) -> float:
    """0 … 1."""
    return float((head.logits(state, x).argmax(-1) == truth).double().mean())


class Bag(nn.Module):
    """A network that reads the texts of :func:`made_up`: words as random vectors, a layer, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.words, self.layer = nn.Embedding(200, 24), nn.Linear(24, 16)

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        rows = [
            [1 + 5 * int(a) + int(b) for a, b in (word.split("-") for word in text.split())] for text in texts
        ]
        width = max(map(len, rows))
        return np.array([row + [0] * (width - len(row)) for row in rows])

    def forward(self, ids: Tensor) -> Tensor:
        weights = (ids != 0).float()
        return (self.layer(self.words(ids)).tanh() * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def made_up() -> Callable[[int, int, int], Pool]:
    """Makes pools of made-up classes, ``(first, classes, each)``: five words of a vocabulary of its own for
    each class, in any order, and a word of any."""
    rng = np.random.default_rng(0)

    def sentence(c: int) -> str:
        words = [f"{c}-{i}" for i in rng.permutation(5)[:3]] + [f"{rng.integers(14)}-{rng.integers(5)}"]
        return " ".join(rng.permutation(words))

    def pool(first: int, classes: int, each: int) -> Pool:
        return Pool(
            {f"intent {c}": [sentence(c) for _ in range(each)] for c in range(first, first + classes)}
        )

    return pool
