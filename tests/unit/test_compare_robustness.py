"""How a method does on worse queries, and on those of no class."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import adapt
from adapt.adapter import Context, Forward
from adapt.baselines import HeadOnly
from adapt.compare import ACCURACY, MSE, Comparison, compare
from adapt.compare.judge import Evaluate
from adapt.compare.markdown import comparison_markdown
from adapt.compare.pooled import pool
from adapt.compare.robustness import Robustness
from tasks import Digits, Distribution, Episode
from tasks.corruptions import Corruption
from tasks.worse import worsened

TASKS = Distribution(Digits(), 3, 2, 5, support_split="support", query_split="query", outside=6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_is_worse() -> None:
    images = torch.rand(4, 1, 8, 8)
    noisy = Corruption("gaussian_noise", 3, "cifar")(images, generator())
    assert torch.equal(worsened(images, generator()), noisy)
    numbers = torch.randn(2000, 3) * torch.tensor([1.0, 10.0, 0.0])
    change = worsened(numbers, generator()) - numbers
    assert change.std(0).numpy() == pytest.approx(np.array([0.3, 3.0, 0.0]), rel=0.05)
    negative = worsened(images - 0.5, generator())  # no picture: numbers
    assert float(negative.min()) < -0.5
    words = torch.arange(1, 401).reshape(4, 100)
    fewer = worsened(words, generator(), pad=0)
    kept = [set(row.tolist()) - {0} for row in fewer]
    assert 0.8 < np.mean([len(it) for it in kept]) / 100 < 0.97
    for row, before in zip(fewer, words, strict=True):  # in order, without holes, from the first to the last
        rest = row[row > 0]
        assert (rest.diff() > 0).all() and rest[0] == before[0] and rest[-1] == before[-1]
        assert (row[len(rest) :] == 0).all()
    assert torch.equal(worsened(words, generator()), words)  # whole numbers that are no texts


def test_of_a_task() -> None:
    episode = TASKS.episode(3)
    weights = torch.randn(1024, 3, generator=generator(1))

    def predict(x: Tensor) -> Tensor:
        return x.flatten(1) @ weights

    found = Robustness.of(predict, episode, ACCURACY, None)
    worse = worsened(episode.query_x, generator(3))
    assert found.worse == ((predict(worse).argmax(1) == episode.query_y).double().mean(),)
    assert episode.meta.outside_x is not None
    sure = [predict(x).softmax(1).amax(1).numpy() for x in (episode.query_x, episode.meta.outside_x)]
    truth = np.repeat([1, 0], [len(part) for part in sure])
    assert found.outside == (pytest.approx(roc_auc_score(truth, np.concatenate(sure))),)
    plain = episode._replace(meta=replace(episode.meta, outside_x=None))
    assert Robustness.of(predict, plain, ACCURACY, None).outside == ()


def test_values_have_worse_queries_and_no_others() -> None:
    meta = TASKS.episode(0).meta
    x, y = torch.randn(50, 2), torch.randn(50, 1)
    found = Robustness.of(lambda x: x[:, :1], Episode(x, y, x, y, meta), MSE, None)
    assert found.outside == () and found.worse[0] != MSE.measure(x[:, :1], y)


@pytest.fixture(scope="module")
def compared() -> Callable[..., Comparison]:
    adapter = adapt.load("conv4_glyphs_film")
    methods = {"head": HeadOnly(adapter.head), "forward": Forward(adapter.solver, adapter.head)}

    def run(**more: object) -> Comparison:
        return compare(
            methods,
            TASKS,
            Context(adapter.backbone, adapter, adapter.space, seed=0),
            experiment="it",
            task={"source": "digits", "ways": 3, "shots": 2, "queries": 5, "tasks": 3},
            tasks=3,
            device=torch.device("cpu"),
            memory=False,
            **more,  # type: ignore[arg-type]
        )

    return run


def test_it_is_part_of_a_comparison(compared: Callable[..., Comparison], tmp_path: Path) -> None:
    ours = compared(checkpoint=tmp_path / "kept")
    found = ours.methods["forward"].robustness
    assert found is not None and len(found.worse) == len(found.outside) == 3
    again = compared(checkpoint=tmp_path / "kept")
    assert again.methods["forward"].robustness == found
    read = Comparison.from_dict(json.loads(json.dumps(ours.to_dict())))
    assert read.methods["head"].robustness == ours.methods["head"].robustness
    metrics = read.method_metrics(read.methods["forward"])
    assert metrics["trust/accuracy_worse"] == pytest.approx(np.mean(found.worse))
    assert metrics["trust/auroc_outside"] == pytest.approx(np.mean(found.outside))
    page = comparison_markdown(read)
    assert "## On worse queries" in page and "others told apart, AUROC %" in page
    pooled = pool([ours, replace(again, seed=1)]).methods["head"].robustness
    assert pooled is not None and len(pooled.worse) == 6


def test_it_is_left_out_if_that_is_asked(compared: Callable[..., Comparison]) -> None:
    ours = compared(evaluate=Evaluate(False, False))
    assert ours.methods["head"].robustness is None and ours.methods["head"].reliability is None
    assert "On worse queries" not in comparison_markdown(ours)
