"""A backbone that reads texts takes strings, or the token ids that it makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.spaces import film


class Reader(nn.Module):
    """Reads texts: features are the embedding of the number of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 4)
        self.norm = nn.LayerNorm(4)

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text)] for text in texts])

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.table(ids).mean(1))


def test_backbone_that_reads_texts_takes_strings_and_token_ids() -> None:
    torch.manual_seed(0)
    backbone = Reader().eval()
    space = film(backbone)
    adapter = FewShotAdapter(backbone, space, initial_state(space.initial, torch.eye(space.size)[:, :2]))
    texts, labels = ["a", "bb", "a", "bb"], ["short", "long", "short", "long"]
    task = adapter.fit(texts, labels)
    assert task.predict(["bb", "a"]).tolist() == ["long", "short"]
    same = adapter.fit(np.array([[1], [2], [1], [2]]), labels)
    assert torch.equal(same.logits(["a"]), task.logits(np.array(["a"])))
    assert torch.equal(task.logits(np.array(["a"], dtype=object)), task.logits(torch.tensor([[1]])))
    for wrong in (torch.rand(4, 1), np.array([1, 2, 1, 2])):
        with pytest.raises(AdaptError, match="reads texts: pass strings, or rows of token ids"):
            adapter.fit(wrong, labels)
