"""The trials of a method: proposals follow from what was found, so that an interruption changes nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapt.app.sweeps.tuning.search import Choices, Range, Search
from adapt.app.sweeps.tuning.study import STARTUP, MethodStudy, Trial, opened
from adapt.errors import AdaptError

pytest.importorskip("optuna")

SPACE = {"x": Range(1e-3, 10.0, log=True), "steps": Range(1, 5), "kind": Choices(("a", None, 3))}
OWN = {"x": 1.0, "steps": 2, "kind": None}
TRIALS = STARTUP + 4  # some of them follow from what was found


def study(storage: Any, name: str = "s", **changes: Any) -> MethodStudy:
    settings = {"trials": TRIALS, "tasks": 1, **{k: v for k, v in changes.items() if k != "own"}}
    search = Search(space={"m": SPACE}, **settings)
    return MethodStudy(storage, name, "m", SPACE, search, changes.get("own", OWN), higher_is_better=True)


def score(trial: Trial) -> tuple[float, ...]:
    """Best at x = 0.1 with three steps of kind 'a'."""
    x, steps, kind = trial.params["x"], trial.params["steps"], trial.params["kind"]
    assert isinstance(x, float) and isinstance(steps, int)
    best = -abs(math.log10(x) + 1) - 0.1 * abs(steps - 3) - (0.0 if kind == "a" else 0.5)
    return (best - 0.25, best + 0.25)


def run(found: MethodStudy, at_most: int = 100) -> None:
    for _ in range(at_most):
        if (trial := found.next()) is None:
            return
        found.add(replace(trial, scores=score(trial), ci95=0.25, seconds=0.1, spent=2.0, run_id="id"))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with opened(f"sqlite:///{tmp_path_factory.mktemp('studies') / 'study.db'}") as storage:
        yield storage


@pytest.fixture(scope="module")
def whole(storage: Any) -> Sequence[Trial]:
    found = study(storage, "whole")
    run(found)
    return found.trials


def test_own_setting_first_then_as_many_as_the_budget_says(whole: Sequence[Trial]) -> None:
    assert [trial.number for trial in whole] == list(range(TRIALS))
    assert whole[0].params == OWN
    assert [trial.own for trial in whole] == [True] + [False] * (TRIALS - 1)
    assert all(SPACE[key].holds(value) for trial in whole for key, value in trial.params.items())
    assert len({str(trial.params) for trial in whole}) == TRIALS, "no setting is tried twice"


def test_trials_come_back_as_they_were_stored(whole: Sequence[Trial]) -> None:
    trial = whole[3]
    assert trial == Trial("m", 3, trial.params, False, score(trial), 0.25, 0.1, 2.0, "id", None)
    assert trial.score == pytest.approx(sum(score(trial)) / 2)


@pytest.mark.parametrize("stop", [1, STARTUP, TRIALS - 1])
def test_interrupted_search_goes_on_as_if_it_had_not_been(
    stop: int, whole: Sequence[Trial], storage: Any
) -> None:
    first = study(storage, f"stopped {stop}")
    run(first, stop)
    assert first.next() is not None  # proposed, then killed before anything came of it
    again = study(storage, f"stopped {stop}")
    assert len(again.trials) == stop
    run(again)
    assert again.trials == whole


@pytest.mark.slow
def test_killed_process_loses_nothing_that_was_finished(whole: Sequence[Trial], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    script = (
        "import os, signal\n"
        "from tests.unit.test_tune_study import opened, run, study\n"
        f"with opened({url!r}) as storage:\n"
        "    run(study(storage), 3)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, timeout=120)
    assert ended.returncode == -9, ended.stderr
    with opened(url) as storage:
        found = study(storage)
        assert found.trials == whole[:3]
        run(found, 1)
        assert found.trials == whole[:4]


def test_larger_budget_adds_trials(whole: Sequence[Trial], storage: Any) -> None:
    run(study(storage, "small", trials=3))
    more = study(storage, "small", trials=TRIALS)
    assert len(more.trials) == 3
    run(more)
    assert more.trials == whole


def test_seed_and_sampler_decide(whole: Sequence[Trial], storage: Any) -> None:
    for name, changes in {"seed": {"seed": 1}, "random": {"sampler": "random"}}.items():
        other = study(storage, name, **changes)
        run(other)
        assert other.trials[0].params == OWN
        assert other.trials[-1].params != whole[-1].params


def test_search_finds_what_is_good(storage: Any) -> None:
    found = study(storage, "long", trials=30)
    run(found)
    best = max(found.trials, key=lambda trial: trial.score)
    assert best.score > found.trials[0].score + 1.0  # of at most 1.6


def test_without_own_setting_all_are_proposed(storage: Any) -> None:
    trial = study(storage, "no own", own=None).next()
    assert trial is not None and not trial.own and trial.params != OWN


def test_failed_trial_counts_and_is_not_tried_again(storage: Any) -> None:
    found = study(storage, "failed", trials=2)
    for _ in range(2):
        trial = found.next()
        assert trial is not None
        found.add(replace(trial, problem="diverged"))
    assert found.next() is None
    assert [trial.problem for trial in found.trials] == ["diverged"] * 2
    assert all(math.isnan(trial.score) and not trial.scores for trial in found.trials)
    assert found.trials[0].params != found.trials[1].params


def test_seconds_end_a_search(storage: Any) -> None:
    found = study(storage, "seconds", seconds=5.0)
    run(found)  # two seconds each
    assert len(found.trials) == 3


def test_few_settings_may_repeat(storage: Any) -> None:
    space = {"k": Choices((1, 2))}
    search = Search(space={"m": space}, trials=4, tasks=1)
    found = MethodStudy(storage, "few", "m", space, search, None, higher_is_better=False)
    while (trial := found.next()) is not None:
        found.add(replace(trial, scores=(1.0,)))
    assert {trial.params["k"] for trial in found.trials[:2]} == {1, 2}
    assert len(found.trials) == 4


def test_study_of_other_settings_is_refused(storage: Any) -> None:
    found = study(storage, "agreed")
    found.agree({"hparams_search.tasks": "5", "data": "a"})
    study(storage, "agreed").agree({"data": "a", "hparams_search.tasks": "5"})
    with pytest.raises(AdaptError, match=r"started with hparams_search\.tasks=5, not 6"):
        study(storage, "agreed").agree({"hparams_search.tasks": "6", "data": "a"})


def test_storage_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nowhere' / 'study.db'}"
    with pytest.raises(AdaptError, match=r"hparams_search\.storage=.*cannot be opened"), opened(url):
        pass
