"""Whether moving the network pays, on examples that were held out.

    d_i = ℓ_i(head alone, fitted without the fold of i) − ℓ_i(adapted without the fold of i)

Another method is chosen if the mean of d is more than one standard error above 0 (Breiman et al. 1984,
*Classification and Regression Trees*, section 3.4.3: what costs more must win by more than chance), and if of
the examples that only one of the two predicts right it has clearly more (McNemar 1947, *Note on the sampling
error of the difference between correlated proportions*). A part of the classes is easier than all of them, so
that the loss alone promises more there than it keeps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter, FittedTask, identity_state, initial_state, layered_state
from adapt.adapter.state import AdapterState
from adapt.adapter.untrained import PARTS
from adapt.forward.estimators import Reverse
from adapt.heads import Head, Prototype, Ridge
from adapt.inner import CrossEntropy, Descent, GaussNewton, Solver, SquaredError
from adapt.own_data.networks import Network
from adapt.spaces import Space

__all__ = ["METHODS", "PASSES", "Trial", "adapter_for", "judge", "subset", "try_out"]

#: Ways of moving the network, and what one fit costs in passes over its examples, roughly.
PASSES = {"forward": 4.5, "backprop": 6.0}
METHODS = ("auto", "head", *PASSES)
#: Examples from which on there is something to be seen, and at most so many are tried.
LEAST, MOST = 24, 600
#: Share of the loss below which a gain is none.
WORTH = 0.02
#: Standard errors of how many more are right, which under chance is the root of the number of those changed.
SURE = 2.0
#: Relative change of a column's relevance, a priori.
SHARE = 0.3


@dataclass(frozen=True)
class Trial:
    """What held-out examples say of a method against the head alone.

    Args:
        method: its name.
        n, classes: examples, and their classes; None in regression.
        gain: mean of d; above 0 it is better than the head.
        error: standard error of that mean.
        head_loss: mean loss of the head alone.
        right, head_right: share of examples predicted right, by each; None in regression.
        changed: examples that one of the two predicts right and the other does not.
        seconds: that it took.
    """

    method: str
    n: int
    classes: int | None
    gain: float
    error: float
    head_loss: float
    right: float | None
    head_right: float | None
    changed: int
    seconds: float

    @property
    def pays(self) -> bool:
        """Whether it is better by more than chance: in loss, and of classes in how many are right."""
        if not self.gain > max(self.error, WORTH * self.head_loss):
            return False
        if self.right is None or self.head_right is None:
            return True
        return self.n * (self.right - self.head_right) > SURE * self.changed**0.5

    def sentence(self) -> str:
        """In words."""
        said = "better" if self.pays else "not better by more than chance"
        some = "" if self.classes is None else f" of {self.classes} classes"
        rates = ""
        if self.right is not None and self.head_right is not None:
            rates = (
                f": {100 * self.right:.1f} % right against {100 * self.head_right:.1f} % of the head alone"
            )
        return (
            f"{self.method}, tried on {self.n} held-out examples{some}, was {said}{rates} (loss lower by "
            f"{self.gain:.3f} ± {self.error:.3f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def judge(
    method: str, moved: Tensor, alone: Tensor, targets: Tensor, regression: bool, seconds: float
) -> Trial:
    """What outputs ``[n, C]`` of held-out examples, ``moved`` and by the head ``alone``, say of a method."""
    loss = SquaredError() if regression else CrossEntropy()
    before = loss.values(alone, targets)
    gain = (before - loss.values(moved.to(alone), targets)).double()
    error = float(gain.std() / len(gain) ** 0.5)
    n, mean, head_loss = len(gain), float(gain.mean()), float(before.mean())
    if regression:
        return Trial(method, n, None, mean, error, head_loss, None, None, 0, seconds)
    one, other = (it.argmax(1) == targets.argmax(1) for it in (moved.to(alone), alone))
    right, head_right = float(one.double().mean()), float(other.double().mean())
    changed = int((one != other).sum())
    return Trial(method, n, targets.shape[1], mean, error, head_loss, right, head_right, changed, seconds)


def adapter_for(network: Network, method: str, head: Head, regression: bool) -> FewShotAdapter:
    """An adapter for which nothing was meta-trained, that adapts by ``method`` with ``head``."""
    space = network.space
    table = network.name.startswith("columns:")
    closed = Ridge(scale=1.0 if regression else 10.0)
    solver: Solver = GaussNewton(steps=0 if method == "head" else 1)
    if method == "backprop":
        solver = Descent("adam", lr=0.003, steps=3, gradient=Reverse())
        state = identity_state(space, None if network.start is None else network.start[1].origin)
    elif network.start is not None:
        state = network.start[1] if method != "head" else network.start[1].leading(0)
    else:
        state = _state(space, table)
    return FewShotAdapter(
        network.module,
        space,
        state,
        solver,
        head,
        closed if table or regression else Prototype(),
        SquaredError() if regression else CrossEntropy(),
        network.input_shape,
        network.name,
    )


def _state(space: Space, table: bool) -> AdapterState:
    if table and space.size <= 2 * PARTS:  # every column for itself
        return initial_state(space.initial.clone(), SHARE * torch.eye(space.size).to(space.initial))
    return layered_state(space, PARTS, SHARE if table else 0.1)


def subset(y: np.ndarray | None, n: int, most: int, seed: int) -> np.ndarray:
    """Numbers of at most ``most`` examples: many of some classes of ``y`` rather than few of all;
    sorted."""
    most = min(most, MOST)
    order = np.random.default_rng(seed).permutation(n)
    if n <= most:
        return np.arange(n)
    if y is None:
        return np.sort(order[:most])
    chosen: list[np.ndarray] = []
    labels = [label for label in dict.fromkeys(y[order].tolist()) if (y == label).sum() >= 3]
    for label in labels:
        members = order[y[order] == label][: max(3, most // 5)]
        if len(chosen) >= 2 and sum(map(len, chosen)) + len(members) > most:
            break
        chosen.append(members)
    return np.sort(np.concatenate(chosen)) if len(chosen) >= 2 else np.array([], np.int64)


def try_out(
    adapter: FewShotAdapter, x: list[str] | Tensor, y: np.ndarray, like: Tensor, fold: np.ndarray
) -> Tensor:
    """Outputs ``[n, C]`` of ``adapter``, each example predicted without its fold.

    Args:
        x, y: n examples, and their labels or standardised values.
        like: a tensor ``[n, C]`` of the dtype that is wanted.
    """
    outputs = torch.zeros_like(like)
    for number in np.unique(fold):
        out = np.flatnonzero(fold == number)
        rest = np.flatnonzero(fold != number)
        task: FittedTask = adapter.fit(_rows(x, rest), y[rest].tolist())
        outputs[out] = _columns(task, y, task.logits(_rows(x, out))).to(outputs.dtype)
    return outputs


def _rows(x: list[str] | Tensor, rows: np.ndarray) -> list[str] | Tensor:
    return [x[row] for row in rows] if isinstance(x, list) else x[torch.as_tensor(rows)]


def _columns(task: FittedTask, y: np.ndarray, logits: Tensor) -> Tensor:
    """Logits in the order of all classes of ``y``; one that the fit has not seen gets what no class would."""
    if task.adapter.loss.regression:
        return logits
    labels = np.unique(y)
    full = logits.new_full((len(logits), len(labels)), float(logits.min()) - 10)
    full[:, torch.as_tensor(np.searchsorted(labels, task.classes_))] = logits
    return full
