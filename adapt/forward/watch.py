"""One pass of the fast engine with every operator watched: what it cannot do, and what it does slowly.

An operator that has no forward derivative is noted, its result taken as a constant, and the pass goes on, so
that all of them are found at once.
"""

from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from adapt.forward.bodies import body
from adapt.forward.errors import (
    FIXES,
    NotDifferentiable,
    Unsupported,
    first_sentence,
    fix_for,
    frames,
    operation_name,
    plain_name,
    running_function,
)
from adapt.forward.fast import Dual, fast
from adapt.forward.fast.dual import RULES, version
from adapt.forward.fast.fallback import listener
from adapt.forward.types import Function, Pytree

__all__ = ["EVAL", "Finding", "Watch"]

EVAL = "call backbone.eval()"
#: What torch says of operations that fail alone, and not within a function that is differentiated as a whole.
ALONE = ("captured Tensor", "already has a forward gradient")
#: What the engine says of operations that it refuses and torch will not do either.
NEVER = ("NumPy", "out= function")
#: What torch asks of an ``autograd.Function`` before it differentiates forward through it.
MISSING = {
    "setup_context": FIXES["setup_context"],
    "jvp": FIXES["implement the jvp"],
    "vmap": FIXES["vmap support"],
}


@dataclass(frozen=True)
class Finding:
    """Something about the backbone: ``name`` of the operator or module type, where (``module``, the path of
    the first occurrence, "" if unknown), why, and what to do."""

    name: str
    module: str
    reason: str
    fix: str

    def __str__(self) -> str:
        where = f" in backbone.{self.module}" if self.module else ""
        return f"{self.name}{where} ({self.reason}): {self.fix}"


class Watch(TorchFunctionMode):
    """Sees every torch function of one pass of the fast engine, before the engine does."""

    def __init__(self, backbone: nn.Module, cuda: list[torch.device]) -> None:
        super().__init__()
        self.paths = {id(module): path for path, module in backbone.named_modules()}
        self.cuda = cuda
        self.random: list[Finding] = []
        #: Refused by the fast engine; whether the reference will most likely fail there as well.
        self.refused: dict[Finding, bool] = {}
        #: No other engine will do.
        self.certain: dict[Finding, bool] = {}
        self.fallbacks: set[str] = set()
        self.attention = False

    def walk(self, f: Function, points: Pytree, tangents: Pytree) -> None:
        """Make the pass."""
        token = listener.set(self._fell_back)
        try:
            with self:
                fast(f, points, tangents)
        except Exception as error:  # not by a torch function: C++ code below, or Python that meets a Dual
            self._refuse(None, error)
        finally:
            listener.reset(token)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moving = Dual in types
        if moving and func not in RULES and (written := body(func)) is not None:
            with self:  # the operations in it come by one at a time
                return written(*args, **kwargs)
        self.attention |= func is F.scaled_dot_product_attention
        before, known = self._generators(), set(self.fallbacks)
        refusal: Exception | None = None
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            if not moving:
                raise
            refusal = error
            result = func(*tree_map(_constant, args), **tree_map(_constant, kwargs))
        if any(not torch.equal(*pair) for pair in zip(before, self._generators(), strict=True)):
            name, path = plain_name(operation_name(func)), self._path()
            if path not in [finding.module for finding in self.random]:
                self.random.append(Finding(name, path, "it draws random numbers", f"switch it off: {EVAL}"))
        elif refusal is not None:
            self._refuse(func, refusal)
        else:
            return result
        self.fallbacks = known  # what is refused is not merely slow
        return result

    def _refuse(self, func: Any, error: Exception) -> None:
        path = self._path()
        if isinstance(error, NotDifferentiable):
            self._note(self.certain, Finding(error.operation, path, error.reason, error.fix))
        elif not isinstance(error, Unsupported):
            name = plain_name(operation_name(func)) if func else type(error).__name__
            finding = Finding(name, path, first_sentence(str(error)), fix_for(name, str(error)))
            self._note(self.refused, finding)  # as any failure of the fast engine
        elif (function := running_function()) is not None:
            missing = _missing(function)
            reason = f"no {missing}" if missing else "the fast engine cannot enter an autograd.Function"
            fix = MISSING[missing] if missing else "nothing must be done"
            self._note(self.refused, Finding(function.__name__, path, reason, fix), bool(missing))
        else:
            name = plain_name(error.operation)
            finding = Finding(name, path, first_sentence(error.reason), fix_for(name, error.reason))
            alone = error.__cause__ is None or any(text in error.reason for text in ALONE)
            self._note(self.refused, finding, not alone or any(text in error.reason for text in NEVER))

    @staticmethod
    def _note(findings: dict[Finding, bool], finding: Finding, fails: bool = True) -> None:
        """Once for each operator, with the place of the first."""
        if (finding.name, finding.reason) not in [(other.name, other.reason) for other in findings]:
            findings[finding] = fails

    def _fell_back(self, func: Any) -> None:
        self.fallbacks.add(plain_name(operation_name(func)))

    def _generators(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self.cuda)]

    def _path(self) -> str:
        """Of the innermost module that is running."""
        return next((self.paths[id(f.f_locals["self"])] for f in frames() if self._is_module(f)), "")

    def _is_module(self, frame: FrameType) -> bool:
        return id(frame.f_locals.get("self")) in self.paths


def _missing(function: type[torch.autograd.Function]) -> str | None:
    """What it lacks, a key of ``MISSING``; None if torch can differentiate forward through it."""
    plain = torch.autograd.Function
    if function.setup_context is plain.setup_context:
        return "setup_context"
    if function.jvp is plain.jvp:
        return "jvp"
    if function.vmap is plain.vmap and not function.generate_vmap_rule:
        return "vmap"
    return None


def _constant(value: Any) -> Any:
    """``value`` without tangents. One that was changed in place counts as new: the pass is only to go on."""
    if type(value) is Dual:
        value.version = version(value.primal)
        return value.primal
    return value
