"""A tensor that carries its derivatives along k directions: the number system of the fast engine.

    (u, u̇_1 … u̇_k) ,   g(u, u̇_j) = (g(u), g'(u) u̇_j)

Dual numbers (Clifford 1873; Wengert 1964, *A Simple Automatic Derivative Evaluation Program*). A plain tensor
that meets a :class:`Dual` has derivative zero *symbolically*: no zeros are stored or multiplied. What depends
on no adapted parameter therefore stays a plain tensor and is computed once, however many tangents there are.

Every torch function that is given a ``Dual`` comes to :meth:`Dual.__torch_function__`, which looks up its
rule in ``RULES`` (``adapt.forward.fast.rules``); by the default rule torch differentiates that one function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from adapt.forward.errors import NotDifferentiable, Unsupported, operation_name, running_function

__all__ = [
    "BEFORE_WRITING",
    "PASS",
    "RULES",
    "Dual",
    "Pass",
    "dual",
    "primal",
    "rule",
    "version",
    "wrap",
]

Rule = Callable[..., Any]


class Rules(dict[Any, Rule]):
    """torch function → rule, called as ``rule(func, *args, **kwargs)`` with the names torch documents."""

    #: The rule of every function that has none of its own; :mod:`adapt.forward.fast.fallback` gives it.
    default: Rule

    def __missing__(self, function: Any) -> Rule:
        return self.default


RULES = Rules()

#: Called before the memory of a moving tensor is written to (the engine then copies x, to put it back).
BEFORE_WRITING: ContextVar[Callable[[], None]] = ContextVar("before_writing", default=lambda: None)


class Pass:
    """One run of the engine. Tangents mean something only in theirs."""

    over = False


#: The run that moving tensors are made in.
PASS: ContextVar[Pass] = ContextVar("pass", default=Pass())  # noqa: B039 (stands for: in none)


class Dual(Tensor):
    """``primal`` and its k ``tangents``, each of the primal's shape and dtype."""

    primal: Tensor
    tangents: Sequence[Tensor]
    version: int
    made_in: Pass

    @staticmethod
    def __new__(cls, primal: Tensor, tangents: Sequence[Tensor]) -> Dual:
        self: Dual = Tensor._make_wrapper_subclass(
            cls, primal.shape, dtype=primal.dtype, device=primal.device
        )
        self.made_in = PASS.get()
        self.assign(primal, tangents)
        return self

    def assign(self, value: Tensor, tangents: Sequence[Tensor]) -> None:
        """Take on another value (in-place operations)."""
        self.primal, self.tangents, self.version = value, tangents, version(value)

    def overwrite(self, result: Tensor) -> Dual:
        """Take on the value and tangents (0 if it is plain) of ``result``, in the same memory and dtype."""
        BEFORE_WRITING.get()()
        value = self.primal.copy_(primal(result))
        if type(result) is Dual:
            self.assign(value, [tangent.to(value.dtype) for tangent in result.tangents])
        else:
            self.assign(value, [torch.zeros_like(tangent) for tangent in self.tangents])
        return self

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not torch._C._is_fwd_grad_enabled():  # torch runs the forward of an autograd.Function so
            function = running_function()
            name = function.__name__ if function else "an operation with forward mode switched off"
            raise Unsupported(name, "an autograd.Function is opaque to the fast engine")
        if kwargs and kwargs.get("out") is not None:  # rules would write the tangents there as well
            raise Unsupported(operation_name(func), "it is an out= function")
        return RULES[func](func, *args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # Only code below Python's torch functions gets here: torch.func transforms inside f, C++ extensions.
        raise Unsupported(str(func), "it is called below torch's Python interface")


def primal(value: Any) -> Any:
    """The value of a ``Dual``; anything else as it is."""
    if type(value) is not Dual:
        return value
    if value.made_in.over:
        raise NotDifferentiable(
            "a tensor kept from an earlier call",
            "what it was made of has moved since",
            "let the network compute it in every call",
        )
    if value.version != version(value.primal):
        raise Unsupported(
            "an in-place operation", "it changed a tensor of which other views are still in use"
        )
    return value.primal


def dual(value: Any, push: Callable[..., Any], *operands: Any) -> Any:
    """The result of an operation: its ``value``, and ``push`` applied to the operands' tangents.

    ``push`` is the derivative of the operation, a linear map: it takes one tangent per operand, None for an
    operand that has none (symbolic zero), and returns the tangent of the value, in a shape that broadcasts to
    it. Where ``value`` is a tuple or list, so is what ``push`` returns.
    """
    count = next(len(operand.tangents) for operand in operands if type(operand) is Dual)
    columns = [
        push(*(operand.tangents[j] if type(operand) is Dual else None for operand in operands))
        for j in range(count)
    ]
    if isinstance(value, Tensor):
        return wrap(value, columns)
    parts = [wrap(part, [column[i] for column in columns]) for i, part in enumerate(value)]
    # A named tuple (torch.return_types) takes its parts as one sequence, as tuple and list do.
    return type(value)(parts)


def wrap(value: Tensor, tangents: list[Tensor]) -> Tensor:
    """``value`` with its ``tangents``; as it is if it is not made of real numbers."""
    if value.is_complex():
        raise Unsupported("a complex number", "it has no rules")
    if not value.is_floating_point():  # indices, masks: piecewise constant
        return value
    return Dual(value, [_fit(tangent, value) for tangent in tangents])


def _fit(tangent: Tensor, value: Tensor) -> Tensor:
    if tangent.dtype != value.dtype:  # autocast chooses a dtype per operation
        tangent = tangent.to(value.dtype)
    return tangent if tangent.shape == value.shape else tangent.expand(value.shape)


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register a rule for torch ``functions``."""

    def register(implementation: Rule) -> Rule:
        for function in functions:
            RULES[function] = implementation
        return implementation

    return register


def version(value: Tensor) -> int:
    """Counts in-place changes of the memory that ``value`` views; all views of it share the count."""
    return 0 if value.is_inference() else value._version
