"""What is kept of examples of before, for the day when conditions change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from adapt import AdaptError
from adapt.adapter import FewShotAdapter, FittedTask, Matching, Source, initial_state
from adapt.adapter.state import identity_state
from adapt.heads import Logistic
from adapt.inner import Auto, Descent, GaussNewton
from adapt.spaces import film, full

LABELS = ["a", "b", "c"] * 12


def examples(seed: int, n: int = 36) -> Tensor:
    centres = torch.tensor([[3.0, 0.0, 1.0], [-2.0, 2.0, 0.0], [-1.0, -3.0, -1.0]])
    noise = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return centres[torch.arange(n) % 3] + 0.4 * noise


@pytest.fixture
def task() -> FittedTask:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8)).eval().requires_grad_(False)
    space = film(network)
    state = initial_state(space.initial.clone(), 0.3 * torch.eye(space.size)[:, :4])
    return FewShotAdapter(network, space, state, GaussNewton(steps=0), Logistic(0.01)).fit(
        examples(1), LABELS
    )


def test_saved_and_loaded(task: FittedTask, tmp_path: Path) -> None:
    source, there = task.source(examples(2)), examples(3) + 2
    source.save(tmp_path / "source.safetensors")
    again = Source.load(tmp_path / "source.safetensors")
    how = {"match": Matching(1.0), "checked": False}
    torch.testing.assert_close(
        task.fit(there, source=again, **how).z, task.fit(there, source=source, **how).z
    )
    assert again.means.keys() == {"1.bias"}
    damaged = bytearray((tmp_path / "source.safetensors").read_bytes())
    damaged[-3] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    with pytest.raises(AdaptError, match="is no whole source: it is damaged"):
        Source.load(tmp_path / "damaged.safetensors")
    with pytest.raises(AdaptError, match=r"source is a path: give adapt\.adapter\.Source\.load"):
        task.fit(there, source=tmp_path / "source.safetensors")  # type: ignore[arg-type]
    task.save_pretrained(tmp_path / "task")
    with pytest.raises(AdaptError, match=r"holds no source: write one with task\.source"):
        Source.load(next((tmp_path / "task").glob("*.safetensors")))


def test_examples_of_a_loader_may_come_in_any_order(task: FittedTask) -> None:
    x = examples(2)
    shuffled = DataLoader(x, 5, shuffle=True)  # type: ignore[arg-type]
    torch.testing.assert_close(task.source(shuffled).centre, task.source(x).centre)
    more = DataLoader(x + 1, 5, shuffle=True)  # type: ignore[arg-type]
    assert len(task.fit(x[:6] + 1, LABELS[:6], unlabelled=more).z) == 4


def test_what_says_nothing_is_refused(task: FittedTask) -> None:
    x, source = examples(2), task.source(examples(2))
    alike = x[:1].expand(8, -1) + 1e-7 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for wrong, why in (
        (x[:1].expand(8, -1), "its examples are all alike"),
        (alike, "its examples are all alike"),
        (x.where(x < 3, torch.nan), r"^source\[\d+\] holds NaN"),
        (source._replace(spread=source.spread[:3]), "no deviation of each of its features"),
        (source._replace(spread=0 * source.spread), "no deviation of each of its features"),
        (source._replace(centre=source.centre * torch.nan), "source holds NaN or infinity"),
        (source._replace(means={"1.bias": torch.full((8,), torch.inf)}), "source holds NaN or infinity"),
        (source._replace(means={"1.bias": torch.zeros(3)}), "3 means of '1.bias', which here follows 8"),
    ):
        with pytest.raises(AdaptError, match=why):
            task.fit(x, source=wrong)
    with pytest.raises(AdaptError, match=r"^unlabelled\[\d+\] holds NaN"):
        task.fit(x, unlabelled=x.where(x < 3, torch.nan))
    for y in (["zz"], ["a", "b"]):
        with pytest.raises(AdaptError, match="one label per example"):
            task.fit(x[:0], y, unlabelled=x)
    with pytest.raises(AdaptError, match="source has no means of other norms"):
        task.fit(x, source=source._replace(means={}), match=Matching())


def test_an_adapted_task_says_why_it_has_no_posterior(task: FittedTask, tmp_path: Path) -> None:
    there = task.fit(examples(3) + 1, LABELS, checked=False)
    there.save_pretrained(tmp_path)
    for each in (there, task.fit(examples(3) + 1, LABELS)):
        with pytest.raises(AdaptError, match="was adapted to other conditions, and keeps no posterior"):
            each.predictive(examples(4))


def test_the_solvers_own_words_are_kept(task: FittedTask) -> None:
    x = examples(3) + 1
    assert "too few examples to hold any out" in task.fit(x, solver=Auto()).trace.choice
    assert "too few examples to hold any out" in task.fit(x, solver=Auto(), checked=False).trace.choice


def test_where_every_number_moves_no_tangent_of_each_is_tried() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh()).eval()
    space = full(network)
    few = FewShotAdapter(network, space, identity_state(space), Descent(steps=1), Logistic(0.01))
    task = few.fit(examples(1), LABELS)
    assert task.fit(examples(2) + 1, LABELS, checked=False).trace.forward_equivalents < 100
    with pytest.raises(AdaptError, match="a tangent along each of 91,500 numbers"):
        task.fit(examples(2), solver=GaussNewton())
