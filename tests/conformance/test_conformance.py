"""Nothing that users can name goes without a row in the tables, or without a config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import tasks
from adapt import baselines, heads, inner, spaces
from adapt.adapter import Forward
from adapt.backbones import ARCHITECTURES
from adapt.forward import estimators
from tests.conformance import task_tables
from tests.conformance.tables import BACKBONES, ESTIMATORS, METHODS, TEXT_METHODS

CONF = Path(__file__).parents[2] / "conf"


def test_every_registered_implementation_has_a_row() -> None:
    """The rows of heads, solvers and spaces are made from their registries."""
    assert set(estimators.ESTIMATORS.values()) <= {type(row.estimator) for row in ESTIMATORS.values()}
    assert set(ARCHITECTURES.values()) <= {type(build()) for build, _ in BACKBONES.values()}
    named = {*baselines.BASELINES.values(), Forward}
    assert named <= {type(row) for row in [*METHODS.values(), *TEXT_METHODS.values()]}


def test_what_a_package_registers_it_exports() -> None:
    for package, table in (
        (heads, heads.HEADS),
        (inner, inner.SOLVERS),
        (inner, inner.LOSSES),
        (spaces, spaces.SPACES),
        (estimators, estimators.ESTIMATORS),
        (baselines, baselines.BASELINES),
        (tasks, tasks.SOURCES),
        (tasks, tasks.DISTRIBUTIONS),
        (tasks, tasks.PARTS),
    ):
        names = {kind.__name__ for kind in table.values()}
        assert names <= set(package.__all__) and all(hasattr(package, name) for name in names)


@pytest.mark.parametrize(
    ("group", "package", "table", "without"),
    [
        ("head", "adapt.heads", heads.HEADS, {"label_words"}),  # of words, which no config has
        ("inner", "adapt.inner", inner.SOLVERS, set()),
        ("space", "adapt.spaces", spaces.SPACES, set()),
    ],
    ids=["head", "inner", "space"],
)
def test_configs_name_what_is_registered(
    group: str, package: str, table: dict[str, type], without: set[str]
) -> None:
    """Every option of the group builds something registered, or a combination, and everything registered has
    an option."""
    options = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (CONF / group).glob("*.yaml")]
    targets = {option.get("_target_") for option in options}
    known = {f"{package}.{kind.__name__}" for kind in table.values()}
    assert targets <= known | {"adapt.spaces.combined"}
    assert known - targets <= {f"{package}.{table[name].__name__}" for name in without}


def test_every_source_has_a_row_and_a_config() -> None:
    rows = {*task_tables.SOURCES, *task_tables.TEXTS, *task_tables.FUNCTIONS, *task_tables.GROUPS}
    assert set(tasks.SOURCES) - {name.split(",")[0] for name in rows} <= {"combined", "hugging_face"}
    texts = [path.read_text(encoding="utf-8") for path in (CONF / "task").glob("*.yaml")]
    for kind in tasks.SOURCES.values():
        assert kind.__name__ == "Combined" or any(f"tasks.{kind.__name__}\n" in text for text in texts), kind
