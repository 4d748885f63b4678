"""How many tasks fit into memory at once.

Measured on one task: the bytes that its graph keeps for the backward pass. (Hooks on saved tensors would be
simpler; ``torch.func.grad``, which solvers may use, refuses to run under them. So the graph is walked.)
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

__all__ = ["affordable", "saved_bytes"]


def affordable(loss: Tensor, memory_mb: int) -> int:
    """How many graphs like that of ``loss`` fit into ``memory_mb`` megabytes; at least 1."""
    return max(1, memory_mb * 2**20 // max(saved_bytes(loss), 1))


def saved_bytes(result: Tensor) -> int:
    """Bytes kept for the backward pass from ``result``; memory that tensors share counts once."""
    sizes: dict[int, int] = {}
    for tensor in _saved(result):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _saved(result: Tensor) -> Iterator[Tensor]:
    todo: list[Any] = [result.grad_fn]
    seen: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo.extend(following for following, _ in node.next_functions)
        for name in dir(node):
            if name.startswith("_saved_") or name == "saved_tensors":
                value = getattr(node, name)
                for tensor in value if isinstance(value, tuple | list) else (value,):
                    if isinstance(tensor, Tensor):
                        yield tensor
