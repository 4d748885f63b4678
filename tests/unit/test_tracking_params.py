"""Configs as parameters, and the state of a checkout."""

from __future__ import annotations

import subprocess
from enum import Enum
from pathlib import Path

import pytest

from adapt.errors import AdaptError
from adapt.tracking import TrackingSettings, git_state
from adapt.tracking.params import clean_key, flatten, method_config, plain
from tests.tracked import CONFIG


class Stage(Enum):
    META = 1


def test_flatten_writes_what_the_config_language_would() -> None:
    config = {
        "a": {"b": 0.003, "c": [1, 2], "d": {}},
        "on": True,
        "none": None,
        "s": "x",
        "stage": Stage.META,
    }
    assert flatten(config) == {
        "a.b": "0.003",
        "a.c": "[1, 2]",
        "a.d": "{}",
        "on": "true",
        "none": "null",
        "s": "x",
        "stage": "META",
    }
    assert flatten({}) == {}
    assert plain({"path": Path("a/b"), 1: (2,)}) == {"path": "a/b", "1": [2]}


def test_clean_key_keeps_what_mlflow_accepts() -> None:
    assert clean_key("eval/accuracy_ci95 x.y-z") == "eval/accuracy_ci95 x.y-z"
    assert clean_key("+a@b:c") == "_a_b_c"


def test_method_config_without_methods_is_the_config() -> None:
    assert method_config({"seed": 1}, "forward") == {"seed": 1}
    assert method_config(CONFIG, "forward")["method"] == {"forward": {"k": 4}}


def test_git_state(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    assert git_state(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_state(tmp_path)
    assert clean is not None
    assert (len(clean[0]), clean[1]) == (40, False)
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == (clean[0], True)
    assert git_state(tmp_path / "missing") is None


@pytest.mark.parametrize("wrong", [{"wait_seconds": -1.0}, {"system_metrics_seconds": 0.0}], ids=str)
def test_times_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AdaptError, match=f"{next(iter(wrong))}=.*: give"):
        TrackingSettings(**wrong)  # type: ignore[arg-type]
