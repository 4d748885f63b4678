"""What `adapt tune` may search: spaces are read, or refused in a line that names mistake and fix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import adapt.app.main  # noqa: F401 (registers the schema)
from adapt.app.commands.tune import _check_effects
from adapt.app.config import Stage, config_folder
from adapt.app.sweeps.tuning.composing import chosen_config, composed, override, resolved
from adapt.app.sweeps.tuning.search import Choices, Range, check_space, own_values, read_search
from adapt.errors import AdaptError

LR = "method.backprop.solver.lr"
SPACE = {"backprop": {LR: {"low": 0.001, "high": 0.1, "log": True}}}


def node(**changes: Any) -> DictConfig:
    return OmegaConf.create({"trials": 2, "tasks": 3, "space": SPACE, **changes})


def space(setting: Any, key: str = LR, method: str = "backprop") -> DictConfig:
    return node(space={method: {key: setting}})


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return composed(["experiment=quickstart", "method=[head,forward,backprop]"])


# ---------------------------------------------------------------------------------------------- reading


def test_ranges_and_choices_are_read() -> None:
    found = read_search(
        node(space={"a": {"x": {"low": 1, "high": 3}, "y": {"low": 0.5, "high": 2}, "z": [1, None, "b"]}})
    )
    assert found.space["a"] == {"x": Range(1, 3), "y": Range(0.5, 2), "z": Choices((1, None, "b"))}
    assert (found.trials, found.tasks, found.seed, found.seconds) == (2, 3, 0, None)


@pytest.mark.parametrize(
    ("setting", "value", "holds"),
    [
        (Range(1, 3), 1, True),
        (Range(1, 3), 4, False),
        (Range(1, 3), 2.0, False),
        (Range(1, 3), True, False),
        (Range(0.5, 3.0), 2, True),
        (Range(0.5, 3.0), 0.4, False),
        (Range(0.5, 3.0), None, False),
        (Choices((1, None)), None, True),
        (Choices((1, None)), True, False),
        (Choices((1, None)), "1", False),
    ],
)
def test_setting_knows_what_it_holds(setting: Range | Choices, value: Any, holds: bool) -> None:
    assert setting.holds(value) is holds


def test_keys_may_be_nested() -> None:
    nested = {"method": {"backprop": {"solver": {"lr": [0.1], "steps": {"low": 1, "high": 2}}}}}
    found = read_search(node(space={"backprop": nested})).space["backprop"]
    assert found == {LR: Choices((0.1,)), "method.backprop.solver.steps": Range(1, 2)}


def test_methods_narrow_the_space() -> None:
    both = {**SPACE, "ridge": {"method.ridge.head.l2": [0.1, 1.0]}}
    assert list(read_search(node(space=both)).space) == ["backprop", "ridge"]
    assert list(read_search(node(space=both, methods=["ridge"])).space) == ["ridge"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "hparams_search=None: there is nothing to search; choose what, as hparams_search=methods"),
        (node(trails=3), "hparams_search.trails is not a setting: did you mean trials?"),
        (node(trials=0), "hparams_search.trials=0: a whole number of at least 1 is needed"),
        (node(tasks=None), "hparams_search.tasks=None: a whole number of at least 1 is needed"),
        (node(seed=-1), "hparams_search.seed=-1"),
        (node(seconds=0), "hparams_search.seconds=0: give a positive time"),
        (node(sampler="grid"), "hparams_search.sampler=grid does not exist: use tpe or random"),
        (node(held_out=1.0), "hparams_search.held_out=1.0: give a share between 0 and 1"),
        (node(space=None), "hparams_search has nothing to search"),
        (node(space={"backprop": {}}), "hparams_search.space.backprop is empty"),
        (node(methods=["backprob"]), "'backprob' has no space: did you mean backprop?"),
        (space({"low": 1, "high": 0.1}), f"space.backprop.{LR}: low=1 is above high=0.1: exchange them"),
        (space({"low": 0, "high": 1, "log": True}), f"{LR}: low=0 has no logarithm"),
        (space({"low": -1, "high": 1, "log": True}), f"{LR}: low=-1 has no logarithm"),
        (space({"low": "a", "high": 1}), "low=a is no number"),
        (space({"low": 1}), "give a range"),
        (space({"low": 1, "high": 2, "step": 1}), "give a range"),
        (space(0.1), "give a range"),
        (space([]), "give a list of numbers, texts or null"),
        (space([{"a": 1}]), "give a list of numbers, texts or null"),
    ],
)
def test_mistakes_are_named(given: Any, message: str) -> None:
    with pytest.raises(AdaptError) as caught:
        read_search(given)
    assert message in str(caught.value)


# -------------------------------------------------------------------------------- against the config


def test_space_that_fits_passes(config: DictConfig) -> None:
    check_space(read_search(node()), config)
    check_space(read_search(space(["auto", "linearised"], "inner", "forward")), config)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (space([1], "method.backprop.solver.lrr"), "did you mean method.backprop.solver.lr?"),
        (space([1], "method.backprop.solver"), "holds settings: search one of _target_, optimizer, lr"),
        (
            space([1], "method.forward.solver.steps", "forward"),
            "method.forward.solver is ${inner}: search inner.steps instead",
        ),
        (space([1], "task.shots"), "task.shots is not to be searched"),
        (space([1], "seed"), "seed is not to be searched"),
        (
            node(space={**SPACE, "finetune": {"method.finetune.lr": [1]}}),
            "method 'finetune' does not take part: add it to method=[...], or search "
            "hparams_search.methods=[backprop] only",
        ),
        (
            node(space={**SPACE, "forward": {LR: [1]}}),
            f"{LR} is in the spaces of backprop and forward",
        ),
    ],
)
def test_what_does_not_fit_the_config_is_named(given: DictConfig, message: str, config: DictConfig) -> None:
    with pytest.raises(AdaptError) as caught:
        check_space(read_search(given), config)
    assert message in str(caught.value)


def test_stages_have_keys_of_their_own() -> None:
    training = composed(["experiment=meta_glyphs"])
    check_space(read_search(space({"low": 1, "high": 9}, "meta.steps", "meta")), training)
    with pytest.raises(AdaptError, match="is not to be searched"):
        check_space(read_search(space([1.0], LR, "meta")), training)
    with pytest.raises(AdaptError, match="call its space meta"):
        check_space(read_search(node()), training)
    with pytest.raises(AdaptError, match="stage=pretrain cannot be tuned"):
        check_space(read_search(node()), composed(["experiment=pretrain_glyphs"]))


def test_own_values_are_those_of_the_config(config: DictConfig) -> None:
    keys = {LR: Range(0.001, 0.1, log=True), "inner.steps": Range(0, 3)}
    assert own_values(config, keys) == {
        LR: config.method.backprop.solver.lr,
        "inner.steps": config.inner.steps,
    }
    assert own_values(config, {LR: Range(0.5, 1.0)}) is None


# ------------------------------------------------------------------------------------------ composing


def test_overrides_say_what_they_mean() -> None:
    values = {
        "method.forward.k": None,
        "inner.damping": 1e-05,
        "inner.steps": 3,
        "name": "it's a \\ 'name', true",
        "task.replace": True,
    }
    config = composed([override(key, value) for key, value in values.items()])
    assert {key: OmegaConf.select(config, key) for key in values} == values


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("hydra.run.dir=here", "name its folder"),
        ("seed=0,1", "names several values"),
    ],
)
def test_what_belongs_to_sweeps_is_refused(typed: str, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        composed([typed])


def test_chosen_config_repeats_what_was_typed_and_chosen(tmp_path: Path) -> None:
    typed = [
        "experiment=quickstart",
        "method=[head,forward]",
        "head@support_head=ridge",
        "task.shots=1",
        "tracking=none",
        "hparams_search=methods",
    ]
    text = chosen_config(typed, {"method.forward.k": None, "inner": "linearised", "head.l2": 0.5}, "Chosen.")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "chosen.yaml").write_text(text, encoding="utf-8")
    config = composed(["experiment=chosen"], tmp_path)
    wanted = composed(
        [*typed[:4], "inner=linearised", "head.l2=0.5", "method.forward.k=null"],
    )
    assert text.startswith("# @package _global_\n# Chosen.\n")
    assert {**config, "experiment": None} == {**wanted, "experiment": None}


def test_chosen_config_cannot_delete() -> None:
    with pytest.raises(AdaptError, match=r"~method\.forward deletes"):
        chosen_config(["~method.forward"], {}, "")


# --------------------------------------------------------------------------------- shipped searches

SHIPPED = {
    "methods": ["experiment=quickstart"],
    "regression": ["experiment=sinusoid", "method=[forward,backprop,finetune]"],
    "meta": ["experiment=meta_glyphs"],
}


def test_every_shipped_search_is_tested() -> None:
    assert sorted(path.stem for path in (config_folder() / "hparams_search").glob("*.yaml")) == sorted(
        SHIPPED
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_search_fits_its_experiment(name: str) -> None:
    overrides = [*SHIPPED[name], f"hparams_search={name}"]
    config = composed(overrides)
    search = read_search(config.hparams_search)
    check_space(search, config)
    for method, settings in search.space.items():
        assert own_values(config, settings) is not None, f"{method}: the setting of the config is not tried"
    if config.stage is Stage.compare:
        _check_effects(search, overrides, None, config, resolved(config))


def test_search_of_the_page_fits(config: DictConfig) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tuning.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    check_space(read_search(OmegaConf.create(block)), config)


def test_key_that_another_method_reads_is_refused(config: DictConfig) -> None:
    search = read_search(node(space={"forward": {"head.l2": [0.1]}}))
    typed = ["experiment=quickstart", "method=[head,forward,backprop]"]
    with pytest.raises(AdaptError, match=r"forward: head\.l2 changes method 'backprop' too"):
        _check_effects(search, typed, None, config, resolved(config))
