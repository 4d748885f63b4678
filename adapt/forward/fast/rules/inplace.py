"""Operations that change their first operand: the value is written into its memory, as torch would.

Views of that memory see the new value but not the new tangents. Whether one is used afterwards shows in
torch's count of changes (see ``dual.primal``), and such an f is left to the reference.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adapt.forward.errors import Unsupported, operation_name
from adapt.forward.fast.dual import BEFORE_WRITING, RULES, Dual, primal, rule

__all__: list[str] = []

#: These change more than the numbers, or are random.
REFUSED = (
    "as_strided_ bernoulli_ detach_ rename_ resize_ resize_as_ squeeze_ swapaxes_ swapdims_ t_ transpose_ "
    "unsqueeze_"
)


def _pairs() -> dict[Any, Any]:
    """In-place method → the method that leaves its operand alone."""
    # Sorted: some methods have two names, and it should not depend on the hash seed which of them counts.
    names = sorted(set(dir(Tensor)) - set(REFUSED.split()))
    pairs = {name: name[:-1] for name in names if name.endswith("_") and not name.endswith("__")}
    pairs |= {name: f"__{name[3:]}" for name in names if name.startswith("__i")}  # __iadd__ → __add__
    return {getattr(Tensor, name): getattr(Tensor, plain) for name, plain in pairs.items() if plain in names}


def _rule(plain: Any) -> Callable[..., Any]:
    def in_place(func: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        _must_move(func, input)
        # Autograd keeps the operand, which is about to be written over.
        operand = Dual(primal(input).clone(), input.tangents) if torch.is_grad_enabled() else input
        return input.overwrite(RULES[plain](plain, operand, *args, **kwargs))

    return in_place


for _method, _plain in _pairs().items():
    if _method not in RULES:
        RULES[_method] = _rule(_plain)


@rule(Tensor.copy_)
def copy_(func: Any, input: Any, src: Any, non_blocking: bool = False) -> Any:
    """The tangents of the source, 0 where it is plain."""
    _must_move(func, input)
    return input.overwrite(src.expand(input.shape))


@rule(Tensor.fill_, Tensor.zero_)
def fill_(func: Any, input: Any, value: Any = 0) -> Any:
    """The tangent of the number, 0 where it is plain."""
    _must_move(func, input)
    number = value if isinstance(value, Tensor) else input.primal.new_full((), value)
    return input.overwrite(number.expand(input.shape))


@rule(Tensor.__setitem__)
def setitem(func: Any, input: Any, index: Any, value: Any) -> None:
    """u̇[index] = v̇, or 0 where v is plain."""
    _must_move(func, input)
    tangents = [tangent.clone() for tangent in input.tangents]
    for j, tangent in enumerate(tangents):
        tangent[index] = value.tangents[j] if type(value) is Dual else 0
    content = primal(input)
    BEFORE_WRITING.get()()
    content[index] = primal(value)
    input.assign(content, tangents)


def _must_move(func: Any, input: Any) -> None:
    if type(input) is not Dual:
        raise Unsupported(
            operation_name(func), "it writes a moving value into a plain tensor; write it out of place"
        )
