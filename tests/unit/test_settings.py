"""Numbers that people set are checked wherever they enter: type, bounds, NaN, and scalars of numpy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state, layered_state
from adapt.backbones import Conv4, Images, Mlp, ResNet12, Texts, ViT
from adapt.baselines import Finetune, Learn2Learn, Retrain, SetFit
from adapt.compare.energy import Electricity
from adapt.forward.estimators import SPSA, Gaussian, Orthogonal
from adapt.heads import KernelRidge, Linear, Logistic, LogisticCV, Prototype, Ridge
from adapt.inner import Auto, Descent, GaussNewton, Linearised
from adapt.meta import MetaTraining
from adapt.meta.pretrain import Pretraining
from adapt.spaces import film, lora
from tasks import (
    BreastCancer,
    Choice,
    Combined,
    Conditions,
    Corruption,
    Curriculum,
    Digits,
    Distribution,
    FunctionTasks,
    Glyphs,
    Gridworld,
    GroupedTasks,
    MetaDataset,
    Mixture,
    NoisyLabels,
    Sinusoid,
    Style,
    TaskError,
    Uniform,
    Volatility,
    from_arrays,
)
from tests.helpers import make_adapter, tiny_conv4
from tests.unit.test_tasks_distribution import source

NAN, INF = float("nan"), float("inf")
TOY = source({"train": [9] * 6})
TASKS = Distribution(TOY, 2, 2, 2)
NETWORK = tiny_conv4()
ADAPTER = make_adapter(NETWORK)
LINEAR = nn.Linear(4, 3)


def conditions(**settings: Any) -> Conditions:
    return Conditions(TOY, queries=2, kinds=["contrast"], **settings)


#: What no whole number is, then what no number is.
NOT_WHOLE: list[Any] = [10**5000, 2.0, 2.5, True, "2", NAN, INF, [2], np.float64(2), np.bool_(True)]
NOT_A_NUMBER: list[Any] = [True, "1", NAN, INF, -INF, [1.0], 10**400, 10**5000, None, np.float32(NAN)]
#: Numbers with which nothing can be computed: Python raises where torch goes to infinity, or divides by 0.
EXTREME: list[Any] = [1e308, -1e308, 10**32, 10**18 * 10**18]

Make = Callable[[Any], Any]
#: Setting -> (how to make something with it, name in messages, a number that is good, numbers that are not).
WHOLE: dict[str, tuple[Make, str, int, list[int]]] = {
    "ways": (lambda v: Distribution(TOY, v, 2, 2), "task.ways", 2, [1, 0, -3, 10**12]),
    "shots": (lambda v: Distribution(TOY, 2, v, 2), "task.shots", 2, [0, -1, 10**12]),
    "queries": (lambda v: Distribution(TOY, 2, 2, v), "task.queries", 2, [0, -1, 10**12]),
    "seed": (lambda v: Distribution(TOY, 2, 2, 2, seed=v), "task.seed", 2, [-1, 2**63]),
    "outside": (lambda v: Distribution(TOY, 2, 2, 2, outside=v), "task.outside", 2, [-1]),
    "episode": (TASKS.episode, "episode index", 2, [-1, 2**63]),
    "shots of functions": (lambda v: FunctionTasks(Sinusoid(), shots=v), "task.shots", 2, [0, 10**12]),
    "queries of functions": (lambda v: FunctionTasks(Sinusoid(), queries=v), "task.queries", 2, [0]),
    "seed of functions": (lambda v: FunctionTasks(Sinusoid(), seed=v), "task.seed", 2, [-1, 2**63]),
    "episode of functions": (FunctionTasks(Sinusoid()).episode, "episode index", 2, [-1]),
    "shots of groups": (lambda v: GroupedTasks(Gridworld(), shots=v), "task.shots", 2, [0]),
    "seed of groups": (lambda v: GroupedTasks(Gridworld(), seed=v), "task.seed", 2, [-1]),
    "seed of a mixture": (lambda v: Mixture({"a": TASKS, "b": TASKS}, seed=v), "task.seed", 2, [-1]),
    "episode of a mixture": (Mixture({"a": TASKS, "b": TASKS}).episode, "episode index", 2, [-1]),
    "episode of a curriculum": (Curriculum({0: TASKS}).episode, "episode index", 2, [-1]),
    "shots of conditions": (lambda v: conditions(shots=v), "task.shots", 2, [-1]),
    "unlabelled": (lambda v: conditions(unlabelled=v), "task.unlabelled", 2, [-1]),
    "seed of conditions": (lambda v: conditions(seed=v), "task.seed", 2, [-1, 2**63]),
    "episode of conditions": (lambda v: conditions().episode(v), "episode index", 2, [-1]),
    "least_ways": (lambda v: MetaDataset(least_ways=v), "MetaDataset.least_ways", 2, []),
    "most_queries": (lambda v: MetaDataset(most_queries=v), "MetaDataset.most_queries", 2, [0]),
    "severity": (lambda v: Corruption("contrast", v), "corruption.severity", 2, [0, 6]),
    "resolution_min": (lambda v: Style(resolution_min=v), "style.resolution_min", 2, [-1]),
    "size of digits": (lambda v: Digits(size=v), "digits: size", 9, [7, 10**6]),
    "size of glyphs": (lambda v: Glyphs(size=v, max_classes=20), "glyphs: size", 8, [7]),
    "size of a board": (lambda v: Gridworld(size=v), "gridworld: size", 4, [3]),
    "generated": (lambda v: BreastCancer(generated=v), "breast_cancer: generated", 2, [0]),
    "lags": (lambda v: Volatility(lags=v), "volatility: lags", 2, [0]),
    "seed of arrays": (lambda v: from_arrays(np.eye(4), [0, 0, 1, 1], seed=v), "seed", 2, [-1]),
    "steps": (lambda v: GaussNewton(steps=v), "inner.steps", 2, [-1]),
    "steps, linearised": (lambda v: Linearised(steps=v), "inner.steps", 2, [-1]),
    "steps of descent": (lambda v: Descent(steps=v), "inner.steps", 2, [-1]),
    "seed of descent": (lambda v: Descent(seed=v), "inner.seed", 2, [-1, 2**63]),
    "folds": (lambda v: Auto(folds=v), "inner.folds", 2, [1]),
    "Newton steps": (lambda v: Logistic(steps=v), "head.steps", 2, [0]),
    "steps of a linear head": (lambda v: Linear(steps=v), "head.steps", 2, [0]),
    "rank": (lambda v: lora(LINEAR, rank=v), "space.rank", 2, [0, -1, 10**6]),
    "seed of LoRA": (lambda v: lora(LINEAR, rank=1, seed=v), "space.seed", 2, [-1, 2**63]),
    "rows": (lambda v: ADAPTER.replace(rows=v), "rows", 2, [0, -1]),
    "k": (ADAPTER.state.leading, "k", 2, [-1, 4]),
    "parts": (lambda v: layered_state(ADAPTER.space, v), "k", 2, [0]),
    "tangents": (lambda v: Gaussian(tangents=v), "tangents", 2, [0]),
    "orthogonal tangents": (lambda v: Orthogonal(tangents=v), "tangents", 2, [0]),
    "samples": (lambda v: SPSA(samples=v), "samples", 2, [0]),
    "k of meta-training": (lambda v: MetaTraining(k=v), "meta.k", 2, [0]),
    "steps of meta-training": (lambda v: MetaTraining(steps=v), "meta.steps", 2, [-1]),
    "patience": (lambda v: MetaTraining(patience=v), "meta.patience", 2, [-1]),
    "batch": (lambda v: Pretraining(batch=v), "meta.batch", 2, [1]),
    "epochs": (lambda v: Retrain(epochs=v), "retrain.epochs", 2, [0]),
    "steps of fine-tuning": (lambda v: Finetune(steps=v), "finetune.steps", 2, [0]),
    "tasks of fine-tuning": (lambda v: Finetune(max_tasks=v), "finetune.max_tasks", 2, [0]),
    "steps of learn2learn": (lambda v: Learn2Learn(lr=0.1, steps=v), "learn2learn.steps", 2, [-1]),
    "epochs of SetFit": (lambda v: SetFit(epochs=v), "setfit.epochs", 2, [0]),
    "size of images": (
        lambda v: Images(nn.Flatten(), size=v, mean=(0,), std=(1,)),
        "size",
        2,
        [0, -1],
    ),
    "tokens": (lambda v: Texts(nn.Embedding(2, 2), dict, pad=0, max_tokens=v), "max_tokens", 2, [0]),
    "width": (lambda v: Conv4(width=v), "conv4: width", 2, [0, -1]),
    "width of ResNet-12": (lambda v: ResNet12(width=v), "resnet12: width", 2, [0]),
    "depth": (lambda v: ViT(depth=v), "vit: depth", 1, [0]),
    "layers": (lambda v: Mlp((2, v)), "mlp: sizes", 2, [0]),
}
REAL: dict[str, tuple[Make, str, float, list[float]]] = {
    "label noise": (lambda v: NoisyLabels(TASKS, v), "task.share", 0.5, [-0.1, 1.1]),
    "rotation": (lambda v: Style(rotation=v), "style.rotation", 5, [-1, 181]),
    "noise of a sinusoid": (lambda v: Sinusoid(noise=v), "sinusoid: noise", 0.5, [-1]),
    "damping": (lambda v: GaussNewton(damping=v), "inner.damping", 0.5, [-1]),
    "momentum": (lambda v: Descent(momentum=v), "inner.momentum", 0.5, [-0.1, 1]),
    "learning rate": (lambda v: Descent(lr=v), "inner.lr", 0.5, [0, -1]),
    "enough": (lambda v: Auto(enough=v), "inner.enough", 0.5, [-1]),
    "l2, logistic": (lambda v: Logistic(l2=v), "head.l2", 0.5, [0, -1]),
    "l2, ridge": (lambda v: Ridge(l2=v), "head.l2", 0.5, [0, -1]),
    "l2, kernel": (lambda v: KernelRidge(l2=v), "head.l2", 0.5, [0, -1]),
    "length": (lambda v: KernelRidge(length=v), "head.length", 0.5, [0, -1]),
    "scale": (lambda v: Ridge(scale=v), "head.scale", 0.5, [0, -1]),
    "temperature": (lambda v: Prototype(temperature=v), "head.temperature", 0.5, [0, -1]),
    "rate of a linear head": (lambda v: Linear(lr=v), "head.lr", 0.5, [0]),
    "share": (lambda v: layered_state(ADAPTER.space, 2, v), "share", 0.5, [0, -1]),
    "epsilon": (lambda v: SPSA(epsilon=v), "epsilon", 0.5, [0]),
    "rate of meta-training": (lambda v: MetaTraining(lr=v), "meta.lr", 0.5, [0]),
    "ema": (lambda v: MetaTraining(ema=v), "meta.ema", 0.5, [-0.1, 1]),
    "rate of fine-tuning": (lambda v: Finetune(lr=v), "finetune.lr", 0.5, [0]),
    "rate of retraining": (lambda v: Retrain(lr=v), "retrain.lr", 0.5, [0]),
    "pue": (lambda v: Electricity(pue=v), "energy.pue", 1.5, [0.9]),
    "mean": (lambda v: Images(nn.Flatten(), size=None, mean=(v,), std=(1,)), "mean", 0.5, []),
    "std": (lambda v: Images(nn.Flatten(), size=None, mean=(0,), std=(v,)), "std", 0.5, [0, -1]),
}


@pytest.mark.parametrize(("make", "name", "good", "bad"), WHOLE.values(), ids=WHOLE.keys())
def test_whole_numbers(make: Make, name: str, good: int, bad: list[int]) -> None:
    make(good)
    make(np.int64(good))
    for value in [*NOT_WHOLE, *bad]:
        with pytest.raises((AdaptError, TaskError)) as caught:
            make(value)
        assert str(caught.value).startswith(name) and "\n" not in str(caught.value), (value, caught.value)


@pytest.mark.parametrize(("make", "name", "good", "bad"), REAL.values(), ids=REAL.keys())
def test_numbers(make: Make, name: str, good: float, bad: list[float]) -> None:
    make(good)
    make(np.float64(good))
    for value in [*NOT_A_NUMBER, *EXTREME, *bad]:
        with pytest.raises((AdaptError, TaskError)) as caught:
            make(value)
        assert str(caught.value).startswith(name) and "\n" not in str(caught.value), (value, caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distribution(TOY, 2.0), "task.ways=2.0 is no whole number: use task.ways>=2"),  # type: ignore[arg-type]
        (lambda: Distribution(TOY, 2, True), "task.shots=True is no whole number: use task.shots>=1"),
        (lambda: Distribution(TOY, 2, 2, 2, seed=2**63), "is too large: use task.seed<=2**63 - 1"),
        (lambda: Ridge(l2=INF), "head.l2=inf is no finite number: the regularisation must be positive"),
        (lambda: Ridge(l2=10**32), "head.l2=1e+32 is too far from 0"),
        (lambda: KernelRidge(length=1e308), "head.length=1e+308 is too far from 0: use a number of 1e+30"),
        (lambda: KernelRidge(length=1e-308), "head.length=1e-308 is too small: use head.length>=1e-30"),
        (lambda: Ridge(l2="1"), "head.l2='1' is no number: use head.l2>0"),  # type: ignore[arg-type]
        (lambda: ADAPTER.replace(rows=2.5), "rows=2.5 is no whole number: use rows>=1, or None"),
        (lambda: LogisticCV(l2=(1, NAN)), "head.l2=nan is no finite number"),
        (lambda: LogisticCV(l2="12"), "head.l2='12' is no list of numbers"),  # type: ignore[arg-type]
        (lambda: Auto(directions=(2, 2.5)), "inner.directions=2.5 is no whole number"),  # type: ignore[arg-type]
        (lambda: Auto(strengths=(True,)), "inner.strengths=True is no number"),
        (lambda: MetaTraining(nested=(1.0,)), "meta.nested=1.0 is no whole number"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_messages_give_name_value_and_range(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((AdaptError, TaskError)) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(True, 2),
        lambda: Uniform(1, 2.0),  # type: ignore[arg-type]
        lambda: Uniform("1", "2"),  # type: ignore[arg-type]
        lambda: Choice([1, True]),
        lambda: Choice("12"),  # type: ignore[arg-type]
        lambda: Choice(3),  # type: ignore[arg-type]
        lambda: Choice([1, 2], [1, NAN]),
        lambda: Choice([1, 2], [1, True]),
        lambda: Choice([1, 2], [1, "2"]),  # type: ignore[list-item]
        lambda: Choice([1, 2], [1, INF]),
        lambda: Mixture({"a": TASKS, "b": TASKS}, weights={"a": 1, "b": NAN}),
        lambda: Mixture({"a": TASKS, "b": TASKS}, weights={"a": 1, "b": True}),
        lambda: from_arrays(np.eye(4), [0, 0, 1, 1], splits={"a": NAN, "b": 1}),
        lambda: from_arrays(np.eye(4), [0, 0, 1, 1], splits={"a": True, "b": 1}),
        lambda: from_arrays(np.eye(4), [0, 0, 1, 1], splits={"a": "1", "b": 1}),  # type: ignore[dict-item]
    ],
)
def test_sizes_weights_and_shares(make: Callable[[], Any]) -> None:
    with pytest.raises(TaskError, match="give"):
        make()


def test_stages_begin_at_whole_numbers() -> None:
    for start in (-1, 2.5, "two", True):
        with pytest.raises(TaskError, match=r"task.stages: the first index of a stage="):
            Curriculum({0: TASKS, start: TASKS})  # type: ignore[dict-item]


def test_scalars_of_numpy_become_those_of_python() -> None:
    """What is saved as JSON, hashed and printed."""
    head, solver = Ridge(l2=np.float32(0.5)), Auto(directions=[np.int64(2), 4])  # type: ignore[arg-type]
    json.dumps([asdict(head), {"directions": solver.directions}])
    assert (type(head.l2), [type(k) for k in solver.directions]) == (float, [int, int])
    tasks = Distribution(TOY, np.int64(2), Choice(np.array([1, 2])), Uniform(np.int8(1), 2), seed=np.uint8(3))
    assert hash(tasks.shots) == hash(Choice([1, 2])) and (tasks.ways, tasks.seed) == (2, 3)
    assert repr(tasks) == repr(Distribution(TOY, 2, Choice([1, 2]), Uniform(1, 2), seed=3))
    assert tasks.episode(np.int64(5)).meta.index == 5


HEADS: list[Callable[[Any], Any]] = [
    lambda v: Logistic(l2=v),
    lambda v: LogisticCV(l2=(v, 1.0), steps=2),
    lambda v: Linear(lr=1e-30, l2=min(v, 1.0), steps=1),
    lambda v: Ridge(l2=v, scale=v),
    lambda v: KernelRidge(length=v, l2=v, scale=v),
    lambda v: Prototype(temperature=v),
]


@pytest.mark.parametrize("value", [10**30, 2**63, 1e30, 1e-30, 10**17 + 1], ids=str)
@pytest.mark.parametrize("make", HEADS)
def test_a_number_that_is_taken_can_be_computed_with(make: Callable[[Any], Any], value: float) -> None:
    head, x, y = make(value), torch.eye(4), torch.eye(2).repeat(2, 1)
    assert head.logits(head.fit(x, y), x).shape == (4, 2)


def test_parts_of_a_mixture_share_no_class() -> None:
    """`a/b` and `c` would be called what `a` and `b/c` are."""
    one = from_arrays(np.zeros((2, 1)), ["c", "d"])
    other = from_arrays(np.zeros((2, 1)), ["b/c", "e"])
    with pytest.raises(TaskError, match="two classes would be called 'a/b/c': give names without '/'"):
        Combined({"a/b": one, "a": other}).classes("train")


def test_a_checked_adapter_is_what_it_was() -> None:
    space = film(NETWORK)
    made = FewShotAdapter(NETWORK, space, initial_state(space.initial, torch.eye(space.size)[:, :2]), rows=2)
    assert made.rows == 2 and made.replace(rows=None).rows is None
    assert (
        hashlib.sha256(repr(GaussNewton()).encode()).hexdigest()
        == hashlib.sha256(b"GaussNewton(steps=1, damping=1.0, engine='fast')").hexdigest()
    )
