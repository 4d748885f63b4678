"""Errors of forward mode in plain words: which operation, what torch says of it, and what to do."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import torch

from adapt.errors import AdaptError

__all__ = [
    "CUSTOM_TYPES",
    "NotDifferentiable",
    "Unsupported",
    "explain",
    "first_sentence",
    "fix_for",
    "frames",
    "let_fail",
    "operation_name",
    "plain_name",
    "running_function",
]

#: The types of what ``torch.ops`` holds.
CUSTOM_TYPES = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
_APPLY = torch.autograd.Function.apply.__func__.__code__  # type: ignore[attr-defined]

RANDOM = "f is random, and so has no derivative: switch dropout off with backbone.eval()"
STATISTICS = "it has batch statistics: call backbone.eval(), or adapt.backbones.freeze_batch_norm"
NUMPY = "compute with torch what NumPy computes, or call detach() first if it is to be constant"
GIVE = "give the autograd.Function"
CUSTOM = (
    "register it as CompositeImplicitAutograd, written with torch's own operators, or wrap it in an "
    "autograd.Function with a jvp"
)
#: What is found in the operation's name or torch's message → what to do. The first that is found counts.
FIXES = {
    "random": RANDOM,
    "dropout": RANDOM,
    "cdist": "write the squared Euclidean distance with a matrix product: |a|² − 2 a·b + |b|²",
    "embedding_bag": "use an embedding followed by a sum or mean",
    "batch_norm": STATISTICS,
    "running_mean": STATISTICS,
    "setup_context": f"{GIVE} a setup_context and a jvp static method",
    "implement the jvp": f"{GIVE} a jvp static method",
    "vmap support": f"{GIVE} generate_vmap_rule = True or a vmap static method",
    "numpy": NUMPY,
    "__array__": NUMPY,
    "data pointer": NUMPY,
    "out= function": "write it without out=",
    "requires_grad": "take derivatives inside f with torch.func.grad or torch.func.jvp",
    "custom operator": CUSTOM,
    "captured Tensor": "write it out of place",
    "plain tensor": "write it out of place",
    "in-place": "write it out of place",
    "below torch's Python": "write it with torch's functions, instead of torch.func or C++ of your own",
}
REMEDY = "write it with operators that have a forward derivative, or adapt with method=backprop"


class Unsupported(Exception):
    """The fast engine cannot differentiate ``operation`` soundly; the reference may still be able to."""

    def __init__(self, operation: str, reason: str) -> None:
        super().__init__(f"{operation}: {reason}")
        self.operation, self.reason = operation, reason


class NotDifferentiable(AdaptError):
    """``operation`` has no forward derivative: ``reason`` in torch's words, and the ``fix``."""

    def __init__(self, operation: str, reason: str, fix: str | None = None) -> None:
        self.operation, self.reason = plain_name(operation), first_sentence(reason)
        self.fix = fix or fix_for(self.operation, reason)
        super().__init__(f"{self.operation} cannot be differentiated forward ({self.reason}): {self.fix}")


def explain(error: Exception, failure: Exception | None) -> NotDifferentiable:
    """One error for what torch said (``error``) after the fast engine had failed (``failure``), as it does on
    purpose where it refuses (:class:`Unsupported`).

    The two may speak of different operations: the engine stops at the first that it leaves to the reference,
    which may stop at a later one.
    """
    text, refusal = str(error), failure if isinstance(failure, Unsupported) else None
    named = re.search(r"forward AD with (\w+)", text)
    same = refusal is not None and first_sentence(refusal.reason) == first_sentence(text)
    if function := _function(error.__traceback__):
        operation = function
    elif refusal is not None and (same or named is None):
        operation = refusal.operation
    else:
        operation = named.group(1) if named else "an operation of the model"
    return NotDifferentiable(operation, text)


def let_fail(f: Callable[[Any], Any], x: Any) -> None:
    """Run f without tangents, of which an engine has failed: an error of its own comes out as it is."""
    with warnings.catch_warnings(action="ignore"):
        f(x)


def fix_for(operation: str, text: str) -> str:
    """What to do about ``operation``, of which torch says ``text``."""
    return next((fix for key, fix in FIXES.items() if key in f"{operation} {text}"), REMEDY)


def operation_name(func: Any) -> str:
    """What a user knows ``func`` by."""
    if isinstance(func, CUSTOM_TYPES):
        return str(func).removesuffix(".default")
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or str(func)
    return str(func) if name in ("OpOverload", "OpOverloadPacket", "__get__") else str(name)


def plain_name(operation: str) -> str:
    """The name a user knows: torch's internal classes and the names of kernels left out."""
    name = re.sub(r"^_VariableFunctionsClass\.", "torch.", operation).replace("TensorBase.", "Tensor.")
    return re.sub(r"^_([a-z]\w*?)(_forward)?$", r"\1", name)


def first_sentence(text: str) -> str:
    """The first sentence."""
    return re.split(r"\.\s|\n", text.strip())[0].rstrip(".")


def frames() -> Iterator[FrameType]:
    """The caller's frame and all that called it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def running_function() -> type[torch.autograd.Function] | None:
    """The ``autograd.Function`` whose forward is running: torch passes it no other way."""
    return next((frame.f_locals["cls"] for frame in frames() if frame.f_code is _APPLY), None)


def _function(traceback: TracebackType | None) -> str | None:
    """The ``autograd.Function`` in which an error arose: torch's message does not always say."""
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_code is _APPLY:
            found = str(traceback.tb_frame.f_locals["cls"].__name__)
        traceback = traceback.tb_next
    return found
