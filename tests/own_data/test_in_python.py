"""The same as a library: what a developer types, mistypes, and sees of it in an interactive session."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.own_data import Answer
from adapt.sklearn import FewShotClassifier


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pets") / "pets.csv"
    rows = [f"{3 + 6 * (n % 2) + n / 100},{n % 5},{'dog' if n % 2 else 'cat'}" for n in range(60)]
    path.write_text("\n".join(["kilos,toys,kind", *rows]))
    return path


@pytest.fixture(scope="module")
def answer(pets: Path) -> Answer:
    """Columns by their place, as people write them."""
    found: Answer = adapt.fit_table(pets, "kind", method="head")
    return found


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.Tanh())


MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a setting": (lambda pets: adapt.fit_table(pets, metod="head"), "did you mean method?"),
    "of texts": (lambda pets: adapt.fit_texts(pets, targt="kind"), "did you mean target?"),
    "of pictures": (lambda pets: adapt.fit_folder(pets.parent, sed=1), "did you mean seed?"),
    "nothing like it": (lambda pets: adapt.fit_table(pets, zzz=1), "there are test, target, text"),
    "data in memory": (lambda pets: adapt.fit_table({"a": [1]}), "a dict where the path .*adapt.sklearn"),  # type: ignore[arg-type]
    "texts in memory": (lambda pets: adapt.fit_texts(["a", "b"]), "a list where the path"),  # type: ignore[arg-type]
    "arrays": (lambda pets: adapt.fit_folder(np.zeros(3)), "a ndarray where the path of a folder"),  # type: ignore[arg-type]
    "a space by name": (lambda pets: FewShotAdapter.of(network(), space="film"), r"adapt\.spaces\.film"),  # type: ignore[arg-type]
    "a network's name": (
        lambda pets: FewShotClassifier("minilmm").fit(["a b", "c d"], [0, 1]),
        "did you mean 'minilm'",
    ),
    "one class": (
        lambda pets: FewShotClassifier(method="head").fit(np.eye(3), np.zeros(3)),
        r"only one class, 0\.0:",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_say_what_to_do(pets: Path, name: str) -> None:
    do, said = MISTAKES[name]
    with pytest.raises(AdaptError, match=said):
        do(pets)


def test_who_gives_time_is_told_what_it_was_too_short_for(pets: Path) -> None:
    said: list[str] = []
    adapt.fit_table(pets, "kind", seconds=0.001, say=said.append)
    told = [
        line.partition(" was not tried: no time is left; --time ")[0] for line in said if "--time" in line
    ]
    assert told == ["forward", "backprop"]


def test_nothing_to_predict(answer: Answer) -> None:
    with pytest.raises(AdaptError, match="no file is given"):
        answer.predict([])


def test_places_that_are_none(answer: Answer, pets: Path, tmp_path: Path) -> None:
    for saved in (answer.save, answer.task.save_pretrained, answer.task.adapter.save_pretrained):
        with pytest.raises(AdaptError, match=r"pets\.csv is a file: name a folder"):
            saved(pets)
    assert pets.read_text().startswith("kilos")
    answer.save(tmp_path / "model")
    for load in (Answer.load, adapt.load):
        with pytest.raises(AdaptError, match=r"give a path, or one of .*; did you mean \S*/model\?"):
            load(tmp_path / "modle")
    with pytest.raises(AdaptError, match=r"; did you mean conv4_glyphs\?$"):
        adapt.load("conv4_glyph")


def test_what_a_session_shows_is_a_line(answer: Answer) -> None:
    adapter = FewShotAdapter.of(network())
    task = adapter.fit(torch.eye(6), [*"abcdef"])
    values = FewShotAdapter.of(network(), regression=True).fit(torch.eye(6), torch.arange(6.0))
    shown = [*map(repr, (answer, answer.task, adapter, task, values))]
    assert max(map(len, shown)) < 250 and not any("\n" in line or "tensor" in line for line in shown)
    assert "% right" in shown[0] and "'cat', 'dog'" in shown[1] and "space=film" in shown[2]
    assert "6 classes: 'a', 'b', 'c', …" in shown[3] and "1 values" in shown[4]
