"""A backbone that reads texts takes strings, or the token ids that it makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import Context, Forward, Problem, initial_state
from adapt.baselines import Backprop, Finetune, HeadOnly, Learn2Learn, Retrain
from adapt.compare import compare
from adapt.heads import Logistic
from adapt.inner import Descent, GaussNewton
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.spaces import film
from tasks import Card, Distribution, TextSource


class Reader(nn.Module):
    """Reads texts: features are the embedding of the number of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 4)
        self.layer = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text)] for text in texts])

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.layer(self.table(ids).mean(1)))


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


def reading_tasks(reader: Reader) -> Distribution:
    """Short, middling and long words."""
    texts = [letter * n for n in (3, 4, 5, 20, 21, 22, 50, 51, 52) for letter in "abcd"]
    members = {name: range(12 * i, 12 * i + 12) for i, name in enumerate(("short", "middling", "long"))}
    card = Card("words", "words", "here", "CC0", "none", {}, (), "None.")
    source = TextSource(card, texts, {"train": members})
    return Distribution(source.encoded(reader.tokenise), ways=3, shots=3, queries=2)


def test_every_method_takes_token_ids() -> None:
    torch.manual_seed(0)
    reader = Reader().eval()
    space = film(reader)
    adapter = FewShotAdapter(reader, space, initial_state(space.initial, torch.eye(space.size)[:, :2]))
    tasks = reading_tasks(reader)
    members = tasks.source.classes("train")

    def pool(classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        rows = np.concatenate([members[name] for name in classes])
        return tasks.source.load(rows), torch.arange(3).repeat_interleave(12)

    result = compare(
        {
            "head": HeadOnly(Logistic()),
            "forward": Forward(),
            "backprop": Backprop(solver=Descent(steps=2)),
            "learn2learn": Learn2Learn(lr=0.1, steps=1),
            "finetune": Finetune(steps=2),
            "retrain": Retrain(epochs=1, batch=4),
        },
        tasks,
        Context(reader, adapter, pool),
        experiment="words",
        task={},
        tasks=2,
        device=torch.device("cpu"),
    )
    assert {method.n for method in result.methods.values()} == {2}


def test_meta_training_takes_token_ids() -> None:
    torch.manual_seed(0)
    reader = Reader().eval()
    space, tasks = film(reader), reading_tasks(reader)
    settings = MetaTraining(
        k=2, steps=2, basis_tasks=3, tasks_per_step=2, validation_tasks=2, validate_every=1
    )
    start = initial_basis(reader, space, Problem(), tasks.episodes(100, 103), settings)
    assert start.k == 2 and bool(start.basis.any())
    state, metrics = meta_train(
        reader, space, start, GaussNewton(), Problem(), tasks, tasks, settings, seed=0
    )
    assert not torch.equal(state.basis, start.basis)
    assert 0 <= metrics["validation/accuracy"] <= 1
