"""The sentences of ``bench/relations.py``, and how a sentence with marked things becomes features.

features = [mean over the first thing's tokens, mean over the second's, mean over all]   (``things and mean``)

Soares et al. (2019), *Matching the Blanks: Distributional Similarity for Relation Learning*, section 3.2,
compare what to read off a sentence with markers: the things themselves ("mention pooling") or their opening
markers; the latter need a network that was trained with markers, and this one was not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.backbones import load_backbone
from adapt.compare.examples import Examples
from adapt.heads import Head
from bench.lib.models import data_root
from bench.lib.texts import Encoder, Pool, Task, accuracy, fit
from tasks import FewRel

__all__ = ["POOLINGS", "ROWS", "Marked", "Table", "encoders", "examples_of", "pools"]

POOLINGS = ("mean", "openings", "things", "things and mean")
TOKENS = 160
#: Sentences at a time: they differ in length more than questions do, and a batch costs what its longest
#: sentence costs.
ROWS = 16
MARKERS = ((" [E1]", " [/E1]"), (" [E2]", " [/E2]"))


class Marked(nn.Module):
    """Token ids ``[n, L]`` of sentences with markers to features ``[n, D]``, two or three times as wide as
    those of ``texts`` (:class:`adapt.backbones.Texts`) unless ``pooling`` is ``mean``."""

    def __init__(self, texts: Any, pooling: str) -> None:
        super().__init__()
        self.texts, self.pooling = texts, pooling
        encoded = [texts.tokenizer(list(pair), add_special_tokens=False)["input_ids"] for pair in MARKERS]
        self.markers = [tuple(map(torch.tensor, pair)) for pair in encoded]

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        return self.texts.tokenise(texts)

    def forward(self, ids: Tensor) -> Tensor:
        states, mask = self.texts.states(ids)  # [n, L, D]
        parts = [] if self.pooling == "mean" else [self._part(ids, *pair) for pair in self.markers]
        parts += [mask] if self.pooling in ("mean", "things and mean") else []
        weights = [torch.where(part.any(1, keepdim=True), part, mask).to(states.dtype) for part in parts]
        return torch.cat([(states * (w / w.sum(1, keepdim=True))[..., None]).sum(1) for w in weights], 1)

    def _part(self, ids: Tensor, opening: Tensor, closing: Tensor) -> Tensor:
        """Which tokens are the thing, or its opening marker ``[n, L]``; none of a sentence that is cut
        before."""
        places, begin = torch.arange(ids.shape[1]), _find(ids, opening)
        if self.pooling == "openings":
            return (places >= begin) & (places < begin + len(opening))
        return (places >= begin + len(opening)) & (places < _find(ids, closing))


def _find(ids: Tensor, pattern: Tensor) -> Tensor:
    """Where ``pattern [m]`` begins in each row of ``ids [n, L]``, ``[n, 1]``; L where it does not stand."""
    windows = nn.functional.pad(ids, (0, len(pattern) - 1)).unfold(1, len(pattern), 1)  # [n, L, m]
    hit = (windows == pattern).all(-1)
    return torch.where(hit.any(1), hit.int().argmax(1), ids.shape[1])[:, None]


def encoders() -> dict[str, nn.Module]:
    """One for every pooling, around the same pretrained network."""
    texts, _ = load_backbone("hf:minilm", max_tokens=TOKENS)
    return {pooling: Marked(texts, pooling).eval().requires_grad_(False) for pooling in POOLINGS}


def pools() -> dict[str, Pool]:
    """Split -> its relations; train and validation of Wikipedia, test of PubMed."""
    source = FewRel(root=data_root())
    return {
        split: Pool({name: [source.texts[i] for i in rows] for name, rows in source.classes(split).items()})
        for split in ("train", "validation", "test")
    }


@dataclass(frozen=True)
class Table:
    """Features of texts, looked up instead of computed."""

    texts: Sequence[str]
    features: Tensor

    @classmethod
    def of(cls, encoder: Encoder, pool: Pool, phi: Tensor | None = None) -> "Table":
        texts, _ = pool.all()
        return cls(texts, encoder.plain(texts, phi))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.texts)}

    def features_of(self, texts: Sequence[str]) -> Tensor:
        return self.features[[self._rows[text] for text in texts]]

    def score(self, head: Head, task: Task) -> float:
        support, labels, query, truth = task
        return accuracy(head, fit(head, self.features_of(support), labels), self.features_of(query), truth)


def examples_of(tasks: Iterable[Task]) -> Examples:
    """The sentences of every task: the same sentence is the same example."""
    number: dict[str, int] = {}

    def numbers(texts: Sequence[str]) -> tuple[int, ...]:
        return tuple(number.setdefault(text, len(number)) for text in texts)

    rows = [(numbers(support), numbers(query)) for support, _, query, _ in tasks]
    return Examples(tuple(s for s, _ in rows), tuple(q for _, q in rows), (None,) * len(rows))
