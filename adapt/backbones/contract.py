"""The contract of a backbone, checked by what it does when it is called.

    f(x) twice:  the same values        f(x)_i = f(x_i):  an example's features depend on no other
    f(x):  one finite floating-point tensor [n, D]        nothing is written to the module

No type or mode tells whether a network keeps it: dropout may be a function, a norm may take its statistics
from the batch, an axis may be squeezed away. So the network is called on two examples, together and one by
one, and, only if something is wrong, again with its modules watched, to name the one that is at fault. What a
call changes is put back: the module, and the generators of random numbers, are afterwards as they were.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from adapt.backbones.inputs import inputs_for, tokeniser
from adapt.backbones.outputs import fault_of
from adapt.backbones.rounding import agree, tolerance
from adapt.backbones.structure import check_structure, device_of, evidence
from adapt.backbones.trace import Event, culprit, first_change, path_of, traced
from adapt.backbones.untouched import State, untouched
from adapt.errors import AdaptError
from adapt.forward.kernels import ONE_AT_A_TIME
from adapt.forward.preflight import Preflight, modes
from adapt.forward.watch import EVAL, Finding

__all__ = ["check_contract", "examples_for"]

#: What a backbone was when it was last found to keep the contract, and for which kinds of examples it was.
_kept: "WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], set[Any]]]" = WeakKeyDictionary()
#: Calls after which a network that draws random numbers is believed not to use them.
PATIENCE = 8
CANNOT = "the backbone cannot be adapted"
NO_BATCH = (
    "normalise over each example alone (LayerNorm, GroupNorm) or by running statistics, and let no "
    "squeeze(), mean or fixed size touch the axis of the examples"
)


def check_contract(backbone: nn.Module, x: Tensor, given: Any = None) -> None:
    """Refuse a backbone that is no function of single examples.

    Its modes are looked at in every call. The network itself is called the first time, on two examples, in
    both orders, and on each alone, and again once modes, weights or parts of it have changed, and for
    examples of another shape.

    Args:
        backbone: any module.
        x: examples ``[n, …]`` as the backbone takes them; two that differ are used. If all are the same, the
            second is made of the first.
        given: what ``x`` was made of; if these are texts, it is also checked that padding changes nothing.

    Raises:
        AdaptError: one sentence that names the module at fault, and the fix.
    """
    if torch.compiler.is_compiling():  # whoever compiles has called it before
        return
    with ONE_AT_A_TIME:
        was, kinds = _kept.get(backbone, ((), set[Any]()))
        # Texts are of any length, which a tokeniser knows how to fill up.
        kind = x.dtype if tokeniser(backbone) is not None else (x.dtype, x.shape[1:])
        if was != evidence(backbone):  # of modes, too
            kinds = set()
        elif kind in kinds or not len(x):
            return
        Preflight(tuple(modes(backbone))).raise_if_blocked()
        check_structure(backbone)
        if not len(x):
            return
        # Whoever counts operators or FLOPs counts the work of a method: these calls are none of it.
        with torch.no_grad(), _disable_current_modes(), untouched(backbone) as drawn:
            finding = _Calls(backbone, _two(x), drawn).fault()
            if finding is None:
                finding = _padding(backbone, given)
        if finding is not None:
            raise AdaptError(f"{CANNOT}: {finding}")
        _kept[backbone] = evidence(backbone), kinds | {kind}


def examples_for(backbone: nn.Module, x: Tensor) -> Tensor:
    """Examples ``x [n, …]`` as ``backbone`` takes them, the contract checked: for whoever calls it on its
    own."""
    x = inputs_for(backbone, x)
    check_contract(backbone, x)
    return x


class _Calls:
    """The calls on two examples that differ."""

    def __init__(self, backbone: nn.Module, x: Tensor, drawn: Callable[[], bool]) -> None:
        self.backbone, self.x, self.drawn = backbone, x, drawn

    def fault(self) -> Finding | None:
        """What is wrong, None if nothing."""
        before, x = State(self.backbone), self.x.clone()
        together = self.backbone(x)
        if not torch.equal(x, self.x):
            return self._overwrites()
        if finding := fault_of(self.backbone, together, self.x):
            return finding
        alone = [self._alone(0)]
        caches = State(self.backbone)  # may be made in the first call of each size, and stay from then on
        alone.append(self._alone(1))
        if name := before.written("saved") or caches.written("cache"):
            return self._writes(name)
        limit = tolerance(self.backbone, together)
        # The same call, and so the same bits, but for kernels of a GPU that add in any order.
        exact = limit / 10 if together.is_cuda else 0.0
        calls = (self.backbone(self.x) for _ in range(PATIENCE if self.drawn() else 0))
        if not all(agree(again, together, exact) for again in calls):
            return self._random(exact)
        swapped = self.backbone(self.x.flip(0))  # by chance the two may be sorted already
        rows = torch.cat([together, swapped.flip(0)])  # of examples 0, 1, 0, 1
        # Of the larger: one may be blank, so that nothing but rounding is left of it in a norm.
        size = float(together.double().norm(dim=1).max())
        if all(agree(alone[i % 2], rows[i : i + 1], limit, size) for i in range(4)):
            return None
        stable = agree(self.backbone(self.x), together, limit) and agree(self._alone(0), alone[0], limit)
        return self._depends(alone, limit) if stable else self._random(exact)

    def _alone(self, i: int) -> Tensor:
        try:
            features = self.backbone(self.x[i : i + 1])
        except Exception as error:
            with traced(self.backbone) as events, suppress(type(error)):
                self.backbone(self.x[i : i + 1])
            message = next(iter(str(error).splitlines()), "no message")
            reason = f"it fails on a single example, though not on two: {type(error).__name__}, {message}"
            finding = self._finding(path_of(events), reason, NO_BATCH)
            raise AdaptError(f"{CANNOT}: {finding}") from error
        if not isinstance(features, Tensor):
            finding = self._finding(
                "", f"of a single example it returns a {type(features).__name__}", NO_BATCH
            )
            raise AdaptError(f"{CANNOT}: {finding}")
        return features

    def _random(self, exact: float) -> Finding:
        first = self._events(self.x)
        others = (self._events(self.x) for _ in range(4 * PATIENCE))  # a rare event may take some calls
        paths = (culprit(first, other, lambda a, b: agree(a, b, exact)) for other in others)
        path = next((path for path in paths if path is not None), "")
        reason = "called again with the same examples it gives other values"
        fix = (
            f"{EVAL}, or switch off whatever in it is random (F.dropout takes training=) or remembers "
            "earlier calls"
        )
        return self._finding(path, reason, fix)

    def _depends(self, alone: list[Tensor], limit: float) -> Finding:
        paths = []
        for i in range(2):
            single = self._events(self.x[i : i + 1])
            paths += [
                culprit(single, self._events(x), _rows(j, limit))
                for x, j in ((self.x, i), (self.x.flip(0), 1 - i))
            ]
        path = max((path for path in paths if path is not None), key=len, default="")
        lost = next((part for part in alone if part.ndim != 2 or len(part) != 1), None)
        if lost is not None:
            reason = f"of a single example it makes features of shape {tuple(lost.shape)}, not [1, D]"
            return self._finding(path, reason, "name the axes that squeeze() takes away, or use flatten(1)")
        return self._finding(
            path, "what it gives for an example depends on the others in the batch", NO_BATCH
        )

    def _overwrites(self) -> Finding:
        x = self.x.clone()
        with traced(self.backbone, x) as events:
            self.backbone(x)
        path = first_change(events, self.x)
        return self._finding(path, "it writes to its input", "let it work on a copy, or set inplace=False")

    def _writes(self, name: str) -> Finding:
        path, _, local = name.rpartition(".")
        owner = self.backbone.get_submodule(path)
        fix = EVAL if owner.training else "compute it without writing to the module, or before it is adapted"
        return self._finding(path, f"every call writes to its {local}", fix)

    def _events(self, x: Tensor) -> list[Event]:
        with traced(self.backbone) as events:
            self.backbone(x)
        return events

    def _finding(self, path: str, reason: str, fix: str) -> Finding:
        return Finding(type(self.backbone.get_submodule(path)).__name__, path, reason, fix)


def _rows(i: int, limit: float) -> Callable[[Tensor, Tensor], bool]:
    """Whether what was computed for example ``i`` alone is what was computed for it among two."""

    def same(alone: Tensor, whole: Tensor) -> bool:
        if alone.ndim != whole.ndim:
            return False  # the axis of the examples was squeezed away
        if alone.shape == whole.shape:
            return agree(alone, whole, limit)  # nothing of the examples
        doubled = [d for d, (a, b) in enumerate(zip(alone.shape, whole.shape, strict=True)) if b == 2 * a]
        if len(doubled) != 1:
            return True  # what belongs to which example is not known
        (axis,) = doubled
        return agree(alone, whole.narrow(axis, i * alone.shape[axis], alone.shape[axis]), limit)

    return same


def _two(x: Tensor) -> Tensor:
    """Two examples that differ: of ``x`` if it has any, else the first and one that is made of it."""
    first = x[:1]
    others = (x != first).reshape(len(x), -1).any(1).nonzero()
    if len(others):
        return torch.cat([first, x[int(others[0])][None]])
    made = [first.flip([*range(1, x.ndim)])]  # values that it takes anyhow, in another order
    if x.is_floating_point():
        made += [first / 2, 1 - first]  # in [0, 1] if x is
    return torch.cat([first, next((other for other in made if not torch.equal(other, first)), first)])


def _texts(given: Any) -> list[str]:
    """The texts in a list or column; other things may be read only once, and are left alone."""
    listed = isinstance(given, list | tuple | np.ndarray) or hasattr(given, "iloc")
    return [text for text in given if isinstance(text, str)] if listed else []


def _padding(backbone: nn.Module, given: Any) -> Finding | None:
    """Whether the padding of a short text beside a long one changes its features."""
    tokenise, texts = tokeniser(backbone), _texts(given)
    if tokenise is None or not texts:
        return None
    short, long = min(texts, key=len), max(texts, key=len)
    device = device_of(backbone)
    alone, beside = (
        torch.as_tensor(tokenise(some), dtype=torch.int64, device=device)[:1]
        for some in ([short], [short, long])
    )
    if alone.shape == beside.shape:
        return None
    first, second = backbone(alone), backbone(beside)
    if agree(first, second, tolerance(backbone, first)):
        return None
    reason = "its features of a text change with the padding that a longer text beside it makes necessary"
    return Finding(type(backbone).__name__, "", reason, "leave padding out of attention and of means")
