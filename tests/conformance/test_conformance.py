"""Nothing that users can name goes without a row in the tables."""

from __future__ import annotations

from inspect import isfunction

from adapt import spaces
from adapt.adapter import Forward, storage
from adapt.backbones import ARCHITECTURES
from tests.conformance.tables import (
    BACKBONES,
    ESTIMATORS,
    HEADS,
    METHODS,
    SOLVERS,
    SPACES,
    TEXT_METHODS,
)


def test_every_registered_implementation_has_a_row() -> None:
    """What users can name in a config or a saved folder is conformant."""
    assert {name for name in spaces.__all__ if isfunction(getattr(spaces, name))} - {"named"} <= set(SPACES)
    assert set(storage.HEADS.values()) <= {type(row.head) for row in HEADS.values()}
    assert set(storage.SOLVERS.values()) <= {type(row.make(1)) for row in SOLVERS.values()}
    assert set(storage.ESTIMATORS.values()) <= {type(row.estimator) for row in ESTIMATORS.values()}
    assert set(ARCHITECTURES.values()) <= {type(build()) for build, _ in BACKBONES.values()}
    import adapt.baselines

    named = {getattr(adapt.baselines, name) for name in adapt.baselines.__all__} | {Forward}
    assert named <= {type(row) for row in [*METHODS.values(), *TEXT_METHODS.values()]}
