"""From config nodes to objects: what may be built, with what arguments, and what the refusals say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapt.baselines import Backprop
from adapt.errors import AdaptError
from adapt.heads import Logistic
from adapt.inner import Descent, GaussNewton

pytest.importorskip("hydra")

from omegaconf import OmegaConf

from adapt.app.build import build, check

SOLVER = {"_target_": "adapt.inner.GaussNewton", "steps": 2}


def make(node: Any, allow: tuple[str, ...] = ()) -> Any:
    return build(OmegaConf.create({"part": node}).part, "part", allow)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of the user's own; importing it leaves a trace."""
    folder = tmp_path / "somebodys_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "heads.py").write_text(
        "import os\nfrom pathlib import Path\nfrom adapt.heads import Logistic\n"
        "Path(__file__).with_name('imported').touch()\n"
        "class Mine:\n    def __init__(self, width: int = 1) -> None:\n        self.width = width\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def test_builds_with_nested_components() -> None:
    built = make(
        {
            "_target_": "adapt.baselines.Backprop",
            "solver": {"_target_": "adapt.inner.Descent", "steps": 3, "lr": 1},
            "head": {"_target_": "adapt.heads.Logistic"},
        }
    )

    assert built == Backprop(solver=Descent(steps=3, lr=1), head=Logistic())


def test_interpolations_are_resolved() -> None:
    config = OmegaConf.create({"n": 4, "inner": {**SOLVER, "steps": "${n}"}})

    assert build(config.inner, "inner") == GaussNewton(steps=4)


def test_partial_may_lack_arguments() -> None:
    film = make({"_target_": "adapt.spaces.film", "_partial_": True})

    assert callable(film) and film.func.__name__ == "film"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "hydra.utils.instantiate",
        "torch.load",
        "adaptive.Thing",  # begins like ours
        "adapt.files.os",  # modules reachable through ours
        "adapt.files.tempfile",
        "adapt.files.load_file",  # functions imported by ours
        "adapt.app.build.instantiate",
        "adapt.app.build.importlib",
        "adapt.files.write_text",  # ours, but no component
        "adapt.files.os.system",
        "adapt",
        "adapt.heads",
        7,
        None,
        ["os.system"],
    ],
)
def test_refuses(target: Any) -> None:
    with pytest.raises(AdaptError, match=r"part\._target_=.* is not allowed: targets come from adapt"):
        check({"_target_": target}, "part")


@pytest.mark.parametrize("target", ["adapt.heads.nowhere.Thing", "adapt.inner.Gauss", "tasks.Digit"])
def test_refuses_what_does_not_exist(target: str) -> None:
    with pytest.raises(AdaptError, match=f"part._target_={target} does not exist .*check the spelling"):
        check({"_target_": target}, "part")


@pytest.mark.parametrize(
    ("node", "where"),
    [
        ({"_target_": "adapt.adapter.Forward", "solver": {"_target_": "os.system"}}, "part.solver"),
        ({"a": {"b": [{"c": 1}, [{"_target_": "os.system"}]]}}, "part.a.b[1][0]"),
        ([{"x": {"_target_": "os.system"}}], "part[0].x"),
        ({"_target_": "adapt.adapter.Forward", "_args_": [{"_target_": "os.system"}]}, "part._args_[0]"),
    ],
)
def test_refuses_at_any_depth(node: Any, where: str) -> None:
    with pytest.raises(AdaptError) as refusal:
        check(node, "part")

    assert str(refusal.value).startswith(f"{where}._target_=os.system is not allowed")


def test_nothing_runs_before_everything_is_checked(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    node = {
        "_target_": "adapt.adapter.Forward",
        "solver": SOLVER,
        "head": {"_target_": "pathlib.Path.touch", "self": str(proof)},
    }

    with pytest.raises(AdaptError, match=r"part\.head\._target_"):
        make(node)

    assert not proof.exists()


def test_allow_opens_a_package_and_no_more(package: str, tmp_path: Path) -> None:
    node, imported = {"_target_": f"{package}.heads.Mine", "width": 3}, tmp_path / package / "imported"

    with pytest.raises(AdaptError, match="add your own package with allow="):
        make(node)
    assert not imported.exists(), "imported before it was allowed"

    assert make(node, allow=(package,)).width == 3
    assert imported.exists()
    for target in (f"{package}.heads.os", f"{package}.heads.Path", "os.system"):
        with pytest.raises(AdaptError, match="is not allowed"):
            make({"_target_": target}, allow=(package,))


def test_allow_of_a_module_is_not_its_package(package: str) -> None:
    assert make({"_target_": f"{package}.heads.Mine"}, allow=(f"{package}.heads",)).width == 1
    with pytest.raises(AdaptError, match="is not allowed"):
        make({"_target_": f"{package}.other.Mine"}, allow=(f"{package}.heads",))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": "abc"}, "part.steps=abc should be int"),
        ({"steps": 1.5}, "part.steps=1.5 should be int"),
        ({"steps": True}, "part.steps=True should be int"),
        ({"steps": None}, "part.steps=None should be int"),
        ({"damping": "big"}, "part.damping=big should be float"),
        ({"damping": [1]}, r"part.damping=\[1\] should be float"),
        ({"stepz": 1}, "part.stepz is not a setting of adapt.inner.GaussNewton: did you mean steps?"),
        ({"zzz": 1}, "part.zzz is not a setting of .*: it takes steps, damping"),
        ({"steps": -1}, "steps=-1.*cannot be negative"),  # what the constructor itself says
    ],
)
def test_arguments_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make({"_target_": "adapt.inner.GaussNewton", **settings})


@pytest.mark.parametrize("value", [3, None])
def test_arguments_that_may_be_null(value: int | None) -> None:
    assert make({"_target_": "adapt.adapter.Forward", "k": value}).k == value


def test_an_integer_is_a_float() -> None:
    assert make({**SOLVER, "damping": 2}) == GaussNewton(steps=2, damping=2)


def test_missing_argument() -> None:
    with pytest.raises(AdaptError, match=r"part lacks name, which adapt.backbones.load_backbone needs"):
        make({"_target_": "adapt.backbones.load_backbone"})


def test_a_value_that_an_option_leaves_open() -> None:
    node = {"_target_": "adapt.backbones.load_backbone", "name": "???", "weights": None}
    with pytest.raises(AdaptError, match=r"^part\.name has no value yet: set part\.name="):
        make(node)


@pytest.mark.parametrize("node", [7, "digits", [1, 2], {"lr": 1}, None])
def test_no_component(node: Any) -> None:
    with pytest.raises(AdaptError, match=r"part=.* is not a component: give it a _target_"):
        make(node)
