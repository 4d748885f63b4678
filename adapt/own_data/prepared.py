"""Examples, their features and the best head on them: what every method starts from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from adapt.backbones import call
from adapt.budget import afford
from adapt.errors import AdaptError
from adapt.files import json_text
from adapt.heads import Ridge
from adapt.heads.base import one_hot
from adapt.own_data.head import FOLDS, HeadChoice, choose_head, folds_of
from adapt.own_data.networks import LENGTHS, WAVES, Network, network_of_columns
from adapt.own_data.passes import Say, as_inputs, order_of, rows_of, silent
from adapt.own_data.starts import nearest
from adapt.own_data.trial import adapter_for
from tasks.own import Labelled, Learned, Reader

__all__ = ["MOVED", "Prepared", "prepare"]

#: Examples that the network is moved by, at most: it is what memory grows with.
MOVED = 300
#: Numbers for every example and class that choosing a head takes.
COPIES = 10


@dataclass
class Prepared:
    """What is known before anything is chosen but the head.

    Args:
        learned: the reader, and the examples.
        network: reads them.
        y: labels ``[n]``, or standardised values.
        targets: one-hot rows ``[n, C]``, or standardised values ``[n, 1]``.
        classes: labels, sorted; empty in regression.
        center, spread: of values: what they were standardised by.
        features: of the network as it is ``[n, D]``.
        pass_seconds: that the network took.
        fold: of each example ``[n]``.
        head: chosen by held-out examples.
        seed: of divisions.
    """

    learned: Learned
    network: Network
    y: np.ndarray
    targets: Tensor
    classes: np.ndarray
    center: float
    spread: float
    features: Tensor
    pass_seconds: float
    fold: np.ndarray
    head: HeadChoice
    seed: int

    def seconds(self, passes: float) -> float:
        """That moving the network takes, if a fit takes so many passes of its examples."""
        share = min(1.0, MOVED / len(self.y))
        return (passes * share + (share < 1)) * self.pass_seconds

    @property
    def reader(self) -> Reader:
        return self.learned.reader

    @property
    def labelled(self) -> Labelled:
        return self.learned.train


def prepare(learned: Learned, network: Network | None, seed: int, say: Say) -> Prepared:
    """Features of all examples, and the head that held-out ones choose."""
    examples, reader = learned.train.examples, learned.reader
    n, center, spread = len(examples), 0.0, 1.0
    if reader.regression:
        y = np.asarray(learned.train.y, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            center, spread = float(y.mean()), float(y.std())
        if not np.isfinite([center, spread]).all():
            raise AdaptError("values too large to be calculated with: give them in another unit")
        if n < 4 or not spread > 0:
            raise AdaptError(f"{n} {reader.many} with values that do not differ: give four or more that do")
        classes, targets = np.array([]), torch.from_numpy((y - center) / spread).float()[:, None]
        y = (y - center) / spread
    else:
        names = np.array([*map(str, learned.train.y)])
        classes, positions = np.unique(names, return_inverse=True)
        if len(classes) < 2:
            raise AdaptError(
                f"all {n} {reader.many} are of one class, {str(classes[0])!r}: there is nothing to tell "
                "apart; add another class"
            )
        afford(f"a fit of {n:,} {reader.many} of {len(classes):,} classes", COPIES * n * len(classes))
        y, targets = names, one_hot(torch.from_numpy(positions), len(classes))
    _check_writable(reader, classes)
    what = f"{n} {reader.many}" + ("" if reader.regression else f" of {len(classes)} classes")
    fold = folds_of(None if reader.regression else y, n, min(FOLDS, n), seed)
    if network is None:
        network, features, head, seconds = _table(examples.x, targets, fold, reader.regression)
        say(f"{what}; {network.line}")
    else:
        aims = targets.numpy() if reader.regression else y
        seconds = 0.0

        def some(candidate: Network, rows: np.ndarray) -> Tensor:
            nonlocal seconds
            begun = time.perf_counter()
            found = _some(examples.x, what, say, candidate, rows)
            seconds = time.perf_counter() - begun
            return found

        begin = nearest(network, aims, some, regression=reader.regression, seed=seed)
        if begin.network is not network or begin.features is not None:
            say(f"start: {begin.network.begins}")
        network = begin.network
        if begin.features is None or begin.head is None:
            begun = time.perf_counter()
            features = _features(network, examples.x, what, say)
            seconds = time.perf_counter() - begun
            head = choose_head(features, targets, fold, reader.regression)
        else:
            features, head = begin.features, begin.head
    return Prepared(
        learned, network, y, targets, classes, center, spread, features, seconds, fold, head, seed
    )


def _check_writable(reader: Reader, classes: np.ndarray) -> None:
    """Refuse what could not be saved in the end."""
    for what, names in (("class", classes.tolist()), ("column", reader.to_dict())):
        try:
            json_text(names)
        except AdaptError as error:
            raise AdaptError(f"the name of a {what} {error}: rename it") from None


def _some(x: Sequence[str] | np.ndarray, what: str, say: Say, network: Network, rows: np.ndarray) -> Tensor:
    """``[m, D]`` of some examples; says of the first pass how long it takes, if it is one over all."""
    part: Sequence[str] | np.ndarray = x[rows] if isinstance(x, np.ndarray) else [x[row] for row in rows]
    loud = len(rows) == len(x) and not network.share
    return _features(network, part, what, say if loud else silent)


def _features(network: Network, x: Sequence[str] | np.ndarray, what: str, say: Say) -> Tensor:
    """``[n, D]`` of the network from where it is adapted; says before how long it will take."""
    adapter = adapter_for(network, "head", Ridge(), False)
    order = order_of(x)
    few = as_inputs(x, order[:: max(1, len(x) // 8)][:8])
    run = partial(call, network.module, network.parameters)
    with torch.inference_mode():
        run(adapter.examples(few))  # the first is slower
        begun = time.perf_counter()
        run(adapter.examples(few))
        each = (time.perf_counter() - begun) / len(few)
        say(f"{what}: about {max(1.0, 1.3 * each * len(x)):.0f} s for the network to read them")
        ordered = [x[row] for row in order] if not isinstance(x, np.ndarray) else x
        parts = [run(adapter.examples(part)) for part in rows_of(ordered, say, "reading")]
    found = torch.cat(parts).clone()
    features = torch.empty_like(found)
    features[torch.from_numpy(order)] = found
    return features


def _table(
    x: Sequence[str] | np.ndarray, targets: Tensor, fold: np.ndarray, regression: bool
) -> tuple[Network, Tensor, HeadChoice, float]:
    """Plain columns, or waves: whichever predicts held-out rows better; and the seconds of a pass."""
    rows = as_inputs(x)
    assert isinstance(rows, Tensor)
    best: tuple[Network, Tensor, HeadChoice, float] | None = None
    for waves, length in ((0, 1.0), *((WAVES, length) for length in LENGTHS)):
        network = network_of_columns(rows.shape[1], waves, length)
        begun = time.perf_counter()
        with torch.no_grad():
            features = call(network.module, {}, rows)
        seconds = time.perf_counter() - begun
        head = choose_head(features, targets, fold, regression)
        if best is None or head.loss < best[2].loss:
            best = network, features, head, seconds
    assert best is not None
    return best
