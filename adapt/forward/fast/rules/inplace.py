"""Operations that change their first operand: the value is written into its memory, as torch would.

Views of that memory see the new value but not the new tangents. Whether one is used afterwards shows in torch's
count of changes (see ``dual.primal``), and such an f is left to the reference.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from adapt.forward.fast.dual import RULES, Dual, Unsupported, primal, rule
from adapt.forward.fast.fallback import operation_name

__all__: list[str] = []

DUNDERS = {"__iadd__": "__add__", "__isub__": "__sub__", "__imul__": "__mul__", "__itruediv__": "__truediv__"}


def _pairs() -> dict[Any, Any]:
    """In-place method → the method that leaves its operand alone, where that has a rule."""
    named = [name for name in dir(Tensor) if name.endswith("_") and not name.endswith("__")]
    pairs = {**{name: name[:-1] for name in named if hasattr(Tensor, name[:-1])}, **DUNDERS}
    found = {getattr(Tensor, name): getattr(Tensor, plain) for name, plain in pairs.items()}
    return {method: plain for method, plain in found.items() if plain in RULES}


def _rule(plain: Any) -> Callable[..., Any]:
    def in_place(func: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        _must_move(func, input)
        result = RULES[plain](plain, input, *args, **kwargs)
        if result is not input:
            input.assign(input.primal.copy_(result.primal), result.tangents)
        return input

    return in_place


for _method, _plain in _pairs().items():
    if _method not in RULES:
        RULES[_method] = _rule(_plain)


@rule(Tensor.__setitem__)
def setitem(func: Any, input: Any, index: Any, value: Any) -> None:
    """u̇[index] = v̇, or 0 where v is plain."""
    _must_move(func, input)
    tangents = [tangent.clone() for tangent in input.tangents]
    for j, tangent in enumerate(tangents):
        tangent[index] = value.tangents[j] if type(value) is Dual else 0
    content = primal(input)
    content[index] = primal(value)
    input.assign(content, tangents)


def _must_move(func: Any, input: Any) -> None:
    if type(input) is not Dual:
        raise Unsupported(
            operation_name(func), "it writes a moving value into a plain tensor; write it out of place"
        )
