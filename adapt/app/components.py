"""What a configuration may be built of: the tables of the kinds, and nothing that is not in one of them."""

from collections.abc import Callable, Iterable
from typing import Any

import tasks
from adapt import adapter, backbones, baselines, compare, heads, inner, meta, spaces, tracking
from adapt.forward import estimators

__all__ = ["COMPONENTS"]

Component = Callable[..., Any]


def _named(package: str, parts: Iterable[Component]) -> dict[str, Component]:
    return {f"{package}.{part.__name__}": part for part in parts}


#: By the ``_target_`` that configs have for it. Whoever wrote a config, this is all that it can make and
#: call: none of these takes the name of code, runs another program, or writes where nobody said. A new
#: component comes in by the row in the table of its kind.
COMPONENTS: dict[str, Component] = {
    **_named("adapt.adapter", (adapter.Forward, adapter.Matching, adapter.Saved)),
    **_named("adapt.backbones", (backbones.load_backbone, backbones.own, backbones.untrained)),
    **_named("adapt.backbones", backbones.ARCHITECTURES.values()),
    **_named("adapt.baselines", (*baselines.BASELINES.values(), baselines.CmaEs)),
    **_named("adapt.compare", (compare.Electricity,)),
    **_named("adapt.forward.estimators", estimators.ESTIMATORS.values()),
    **_named("adapt.heads", heads.HEADS.values()),
    **_named("adapt.inner", (*inner.SOLVERS.values(), *inner.LOSSES.values(), inner.SemiSupervised)),
    **_named("adapt.meta", (meta.MetaTraining, meta.Pretraining)),
    **_named("adapt.spaces", (*spaces.SPACES.values(), spaces.combined)),
    **_named("adapt.tracking", (tracking.TrackingSettings,)),
    **_named("tasks", (*tasks.DISTRIBUTIONS.values(), *tasks.SOURCES.values(), *tasks.PARTS.values())),
}
