"""Names for what the engine works on."""

from collections.abc import Callable
from typing import Any

__all__ = ["Function", "Pytree"]

#: Nested tuples, lists and dicts of tensors.
Pytree = Any
#: A pure function of one pytree.
Function = Callable[[Pytree], Pytree]
