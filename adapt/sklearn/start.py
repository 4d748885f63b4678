"""What an estimator learns from many tasks before it is fitted to one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.errors import AdaptError
from adapt.heads import Logistic, Ridge
from adapt.meta import trained
from adapt.own_data.networks import Network, network_of_columns
from adapt.own_data.trial import adapter_for
from adapt.sklearn.examples import Scale

__all__ = ["Start", "start_of"]


class Start(NamedTuple):
    """A meta-trained adapter, and what all tasks together say of the scale of columns and values."""

    adapter: FewShotAdapter
    columns: Scale | None
    values: Scale | None

    def examples(self, x: Any) -> Any:
        """As the adapter takes them."""
        return x if self.columns is None else self.columns.apply(np.asarray(x, np.float64))

    def targets(self, y: Any) -> Any:
        """Likewise."""
        if self.values is None:
            return y
        return self.values.apply(np.asarray(y, np.float64).reshape(len(y), -1)).numpy()


def start_of(
    found: Network | FewShotAdapter | None,
    tasks: Any,
    validation: Any,
    regression: bool,
    l2: float | None,
    settings: dict[str, Any],
) -> Start:
    """Meta-train on ``tasks``; see :meth:`adapt.sklearn.FewShotClassifier.meta_fit`.

    Args:
        found: what reads examples; None: they are rows of a table.
        l2: of the head; None: as it is by itself.
        settings: of the training.
    """
    columns = values = None
    listed = isinstance(tasks, Sequence)
    if found is None:
        if not listed or not isinstance(validation, Sequence | None):
            raise AdaptError("tasks whose examples are rows of tables: pass a list of pairs (X, y)")
        columns = Scale.of(np.concatenate([_rows(x) for x, _ in tasks]))
        found = network_of_columns(len(columns.center))
    if regression and listed:
        values = Scale.of(np.concatenate([np.asarray(y, np.float64).reshape(len(y), -1) for _, y in tasks]))
    if isinstance(found, Network):
        head = Ridge(l2 or 0.1, scale=1.0) if regression else Logistic(l2 or 0.01)
        found = adapter_for(found, "forward", head, regression)
    start = Start(found, columns, values)
    sets = [_scaled(start, it) if isinstance(it, Sequence) else it for it in (tasks, validation)]
    return start._replace(adapter=trained(found, sets[0], sets[1], **settings))


def _scaled(start: Start, sets: Sequence[Any]) -> list[Any]:
    return [(start.examples(x), start.targets(y)) for x, y in sets]


def _rows(x: Any) -> np.ndarray:
    rows = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, np.float64)
    if rows.ndim != 2:
        raise AdaptError(f"tasks hold examples of shape {rows.shape[1:]}: give rows of numbers")
    return rows
