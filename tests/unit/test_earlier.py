"""What earlier versions called otherwise: what one types today is said, and what they recorded goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from adapt.app.build import check_all
from adapt.app.config import config_folder
from adapt.app.earlier import MOVED, comparable
from adapt.app.main import main as _  # noqa: F401 (registers the schema)
from adapt.app.stages.session import distribution
from adapt.app.stages.state import State, begin, resumed
from adapt.errors import AdaptError
from adapt.tracking.params import flatten

#: What ``config.yaml`` and ``task=digits`` said of tasks before tasks were a tree.
BEFORE = {
    "source": {"_target_": "tasks.Digits", "size": 32},
    "ways": 5, "shots": 5, "queries": 15, "tasks": 100, "costly_tasks": 20, "support_split": "support",
    "query_split": "query", "transform": None, "replace": False, "imbalanced": False, "sizes": None,
    "outside": 0, "vectorised": False, "label_noise": 0.0, "corruption": None, "corrupted": "query",
    "curriculum": None, "mixture": None, "validation": None, "root": None, "file": None,
}  # fmt: skip


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", [*overrides])


def plain(*overrides: str) -> dict[str, Any]:
    found: Any = OmegaConf.to_container(composed(*overrides), resolve=True, enum_to_str=True)
    return found


@pytest.mark.parametrize("key", MOVED)
def test_what_moved_says_what_it_is_called_now(key: str) -> None:
    with pytest.raises(AdaptError) as refusal:
        check_all(plain(f"{key}=1"))
    assert str(refusal.value) == f"{key} is no setting any more: use {MOVED[key]}"


@pytest.mark.parametrize("key", MOVED)
def test_what_it_is_called_now_is_there(key: str) -> None:
    config = composed(*re.findall(r"\S+=[\w.]+", MOVED[key].split(";")[0]))
    assert distribution(config).episode(0).support_x.ndim == 4
    for said in re.findall(r"task\.[a-z_]+", MOVED[key]):
        assert OmegaConf.select(config, said) is not None


@pytest.mark.parametrize(
    ("typed", "changed"),
    [((), None), (("task.shots=1",), "task.shots was 5, is 1"), (("seed=1",), "seed was 0, is 1")],
)
def test_a_run_of_before_goes_on_if_its_tasks_are_the_same(
    typed: tuple[str, ...], changed: str | None, tmp_path: Path
) -> None:
    State("running", config={**plain(), "task": BEFORE}).write(tmp_path)
    token = resumed.set(tmp_path)
    try:
        if changed is None:
            assert begin(tmp_path, State("running", config=plain(*typed)))[1]
        else:
            with pytest.raises(AdaptError, match=changed):
                begin(tmp_path, State("running", config=plain(*typed)))
    finally:
        resumed.reset(token)


def test_a_search_of_before_goes_on_if_its_tasks_are_the_same() -> None:
    before, now = flatten({"seed": 0, "task": BEFORE}), flatten({"seed": 0, "task": plain()["task"]})
    assert comparable(before, now, "task.") == now
    other = flatten({"seed": 1, "task": plain("task.shots=1", "task.source.size=8")["task"]})
    found = comparable(before, other, "task.")
    assert {key for key in other if found[key] != other[key]} == {"seed", "task.shots", "task.source.size"}


def test_runs_of_today_are_compared_whole() -> None:
    now = plain()["task"]
    assert comparable({**now, "outside": 3}, now) == {**now, "outside": 3}
