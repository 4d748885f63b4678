"""What the entry point does with warnings, and with settings of methods that were not chosen."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("hydra")

from omegaconf import OmegaConf

from adapt.app.compose import forget_unchosen
from adapt.app.main import _folder_of_experiments, _warnings_as_lines
from tasks import TaskWarning


class OwnWarning(TaskWarning):
    """Of a source that is not ours."""


@pytest.mark.filterwarnings("always")
def test_what_is_said_of_data_is_one_line_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    with _warnings_as_lines():
        for _ in range(2):
            warnings.warn("pets: 2 files\n are missing", TaskWarning, stacklevel=1)
        warnings.warn("more", OwnWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: pets: 2 files are missing\nwarning: more\n"
    assert warnings.showwarning is before


@pytest.mark.filterwarnings("always")
def test_other_warnings_are_shown_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="of code") as told, _warnings_as_lines():
        warnings.warn("of code", UserWarning, stacklevel=1)
    assert len(told) == 1 and capsys.readouterr().err == ""


def test_what_is_asked_for_as_an_error_stays_one() -> None:
    with pytest.raises(TaskWarning), _warnings_as_lines():
        warnings.warn("pets", TaskWarning, stacklevel=1)  # errors, as set for all tests


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ((), ["head"]),
        (("method=head", "name=method.retrain"), ["head"]),
        (("method.retrain.max_tasks=3",), ["head", "retrain"]),
        (("+method.own={lr:1}",), ["head", "own"]),
        (("+method.number=7",), ["head", "number"]),
    ],
)
def test_only_settings_of_unchosen_methods_are_forgotten(typed: tuple[str, ...], left: list[str]) -> None:
    methods = {"head": {"_target_": "a.B", "k": 1}, "retrain": {"max_tasks": 3}}
    more = {"own": {"lr": 1}, "number": 7}
    added = {name: node for name, node in more.items() if any(f"method.{name}=" in text for text in typed)}
    config = OmegaConf.create({"method": {**methods, **added}})
    OmegaConf.set_struct(config, True)
    forget_unchosen(config, typed)
    assert sorted(config.method) == left


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        (["-m", "experiment=quickstart,sinusoid"], 1),
        (["experiment=quickstart,sinusoid"], 0),
        (["-m", "experiment=quickstart", "seed=0,1"], 0),
        (["--multirun", "experiment=a,b", "hydra.sweep.dir=here"], 0),
        (["-m", "experiment=digits", "name=first,second"], 1),
        (["-m", "experiment=glob(meta_*)"], 1),
        (["-m", "experiment=choice(digits,gtsrb)"], 1),
        (["-m", "experiment=digits", "name=mine", "seed=0,1"], 0),
    ],
)
def test_a_sweep_over_experiments_has_a_folder_of_its_own(arguments: list[str], added: int) -> None:
    found = _folder_of_experiments(arguments)
    assert len(found) == added and all(
        word.startswith("hydra.sweep.dir=outputs/experiments/") for word in found
    )
