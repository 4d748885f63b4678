"""What a fit says of itself besides labels: sets, what is of no class, its card, its cost."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

import adapt
from adapt.errors import AdaptError
from adapt.own_data import Answer
from adapt.own_data.believed import believed
from adapt.own_data.cost import InferenceCost
from tests.processes import run

CLASSES = np.array(["x", "y", "z"])


def written(path: Path, n: int, seed: int, *, far: bool = False) -> tuple[Path, list[str]]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 3)) + (np.full((n, 3), 9.0) if far else 2.5 * np.eye(3)[y])
    lines = [f"{a:.3f},{b:.3f},{c:.3f},{label}" for (a, b, c), label in zip(x, CLASSES[y], strict=True)]
    path.write_text("\n".join(["a,b,c,label", *lines]), encoding="utf-8")
    return path, CLASSES[y].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("believed")
    adapt.fit_table(written(made / "train.csv", 150, 0)[0]).save(made / "model")
    written(made / "strangers.csv", 60, 2, far=True)
    return made


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.98])
def test_sets_hold_the_right_label_as_often_as_was_asked(folder: Path, coverage: float) -> None:
    path, truth = written(folder / "new.csv", 2000, 7)
    answer = Answer.load(folder / "model")
    found = believed(answer, answer.unlabelled(path), coverage=coverage)
    sets = [set(text.split("|")) for text in found.more["set"]]
    held = np.mean([label in one for label, one in zip(truth, sets, strict=True)])
    assert coverage - 0.03 < held < coverage + 0.05
    assert np.mean([len(one) for one in sets]) < 2.5


def test_of_few_examples_a_set_may_hold_all(tmp_path: Path) -> None:
    answer = adapt.fit_table(written(tmp_path / "few.csv", 12, 3)[0])
    found = believed(answer, answer.unlabelled(tmp_path / "few.csv"), coverage=0.99)
    assert set(found.more["set"]) == {"x|y|z"}


def test_what_is_of_no_class_is_refused_and_few_others_are(folder: Path) -> None:
    answer = Answer.load(folder / "model")
    path, _ = written(folder / "new.csv", 2000, 7)
    own = believed(answer, answer.unlabelled(path), reject=0.05).more["refused"]
    assert np.mean([said == "yes" for said in own]) < 0.07
    others = believed(answer, answer.unlabelled(folder / "strangers.csv"), reject=0.05).more["refused"]
    assert np.mean([said == "yes" for said in others]) > 0.95


def test_the_command_line(folder: Path) -> None:
    typed = ["-m", "adapt", "predict", "model", "strangers.csv", "--sets", "0.9", "--reject", "0.05"]
    done = run(typed, folder)
    lines = done.stdout.splitlines()
    assert lines[0] == "example,prediction,probability,set,refused" and lines[1].endswith(",yes"), done.stderr
    done = run([*typed[:6], "1.5"], folder)
    assert done.returncode == 2 and "--sets" in done.stderr


def test_values_have_neither(tmp_path: Path) -> None:
    lines = [f"{i},{i % 7},{2 * i + i % 3}" for i in range(40)]
    (tmp_path / "values.csv").write_text("\n".join(["a,b,value", *lines]), encoding="utf-8")
    answer = adapt.fit_table(tmp_path / "values.csv", target="value")
    with pytest.raises(AdaptError, match="predicts values"):
        believed(answer, answer.unlabelled(tmp_path / "values.csv"), coverage=0.9)


def test_the_card_answers_what_is_asked_and_claims_nothing_else(folder: Path) -> None:
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    for section in (
        "How good it is",
        "How sure it is",
        "What a prediction costs",
        "NIST AI RMF 1.0",
        "annex IV",
    ):
        assert section in card, section
    assert "| MEASURE 2.10 | privacy risk is examined | not measured here |" in card
    assert "human oversight | for whoever deploys it to say |" in card
    assert "Whom it serves" not in card and "[0." not in card  # no dump of what is kept for programs
    score = Answer.load(folder / "model").about["score"]
    assert f"{100 * score['value']:.1f} % right" in card


def test_what_a_prediction_costs(folder: Path) -> None:
    kept = Answer.load(folder / "model").about["inference"]
    cost = InferenceCost(**kept)
    assert cost.milliseconds > 0 and {*cost.per_second} == {"1", "8", "64"}
    assert 1000 / cost.milliseconds == pytest.approx(cost.per_second["1"])
    assert {"inference/milliseconds", "inference/per_second", "inference/megabytes"} <= {*cost.metrics()}
    report = (folder / "model" / "report.html").read_text(encoding="utf-8")
    assert "A prediction: " in report


def test_what_is_worse_is_measured_without_the_examples_that_are_worsened(folder: Path) -> None:
    found = Answer.load(folder / "model").about["worse"]
    assert found["clean"]["n"] == found["worse"]["n"] == 30  # a fifth
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert "## On worse examples" in card and "resilience are evaluated | not measured" not in card


def test_noise_costs_what_noise_must(tmp_path: Path) -> None:
    """Classes that are half a spread apart: with 0.3 of it as noise fewer are told apart, by how much follows
    from two normal distributions."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1200)
    x = rng.normal(size=(1200, 1)) * 0.2 + y[:, None]
    lines = [f"{a:.4f},{label}" for (a,), label in zip(x, CLASSES[y], strict=True)]
    (tmp_path / "two.csv").write_text("\n".join(["a,label", *lines]), encoding="utf-8")
    found = adapt.fit_table(tmp_path / "two.csv", method="head").about["worse"]
    noise = 0.3 * x.std()  # columns are standardised: noise is in units of all of them
    expected = norm.cdf(0.5 / np.hypot(0.2, noise))
    assert found["worse"]["value"] == pytest.approx(expected, abs=0.03)
    assert found["clean"]["value"] == pytest.approx(norm.cdf(0.5 / 0.2), abs=0.02)


def test_texts_lose_words(tmp_path: Path) -> None:
    rows = [f"{'good' if i % 2 else 'bad'} {i},{'xy'[i % 2]}" for i in range(40)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    found = adapt.fit_texts(tmp_path / "texts.csv", "text", method="head").about["worse"]
    assert found["clean"]["value"] >= found["worse"]["value"] > 0.5


NONSENSE = [None, 5, "x", [1], {"surprise": "x"}, {"evil": [1.0]}, {"surprise": [None]}, {"far": [1.0]}]


@pytest.mark.parametrize("damage", NONSENSE, ids=str)
@pytest.mark.parametrize("key", ["usual", "groups", "inference", "worse", "trust", "score", "network"])
def test_what_somebody_else_has_written_is_no_trouble(
    folder: Path, tmp_path: Path, key: str, damage: object
) -> None:
    """It is saved again with a card, and says what is wrong where it is asked for that."""
    answer = Answer.load(folder / "model")
    answer.task.adapter.info["own_data"][key] = damage
    answer.save(tmp_path / "again")
    again = Answer.load(tmp_path / "again")
    examples = again.unlabelled(folder / "strangers.csv")
    assert len(again.answered(examples).labels) == 60
    if key == "usual":
        try:
            believed(again, examples, coverage=0.9)
        except AdaptError as error:
            assert "fit your data again" in str(error)


def test_a_model_of_an_earlier_version_still_works(folder: Path, tmp_path: Path) -> None:
    answer = Answer.load(folder / "model")
    for key in ("usual", "groups", "inference", "worse"):
        del answer.task.adapter.info["own_data"][key]
    answer.save(tmp_path / "earlier")
    earlier = Answer.load(tmp_path / "earlier")
    examples = earlier.unlabelled(folder / "strangers.csv")
    assert set(believed(earlier, examples, reject=0.05).more["refused"]) == {"yes"}  # examples are kept
    with pytest.raises(AdaptError, match="fit your data again"):
        believed(earlier, examples, coverage=0.9)
    earlier.learn({"a": 2.5, "b": 0, "c": 0}, "x").save(tmp_path / "earlier")
