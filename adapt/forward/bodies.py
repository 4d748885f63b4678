"""The bodies of torch's functions that are written in Python.

Such a function first looks whether somebody overrides it (``has_torch_function``) and hands itself over as a
whole. Without that detour the operations in its body come by one at a time.
"""

import types
from collections.abc import Callable
from functools import cache
from typing import Any

__all__ = ["body"]

_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@cache
def body(func: Any) -> Callable[..., Any] | None:
    """A function of ``torch.nn.functional`` without its detour to ``__torch_function__``; None for others.

    Functions that choose between two others (``boolean_dispatch``: with indices or without) hold these in
    their closure, each with the same detour.
    """
    if not isinstance(func, types.FunctionType) or func.__module__ != "torch.nn.functional":
        return None
    scope = {**func.__globals__, **dict.fromkeys(_CHECKS, lambda *_: False)}
    cells = func.__closure__ and tuple(
        types.CellType(body(cell.cell_contents) or cell.cell_contents)
        if isinstance(cell.cell_contents, types.FunctionType)
        else cell
        for cell in func.__closure__
    )
    found = types.FunctionType(func.__code__, scope, func.__name__, func.__defaults__, cells)
    found.__kwdefaults__ = func.__kwdefaults__
    return found
