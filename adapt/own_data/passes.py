"""Examples through the network, some at a time, so that memory stays flat; and lines on how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["ROWS", "Inputs", "Say", "as_inputs", "order_of", "rows_of", "silent"]

#: Takes a line for people.
Say = Callable[[str], None]
Inputs = list[str] | Tensor
#: Examples at a time.
ROWS = 64
#: Seconds between lines.
EVERY = 5.0


def silent(line: str) -> None:
    """Says nothing."""


def as_inputs(x: Sequence[str] | np.ndarray, rows: np.ndarray | slice | None = None) -> Inputs:
    """Examples as adapters take them: texts, or float32; pictures from 0 to 1."""
    if not isinstance(x, np.ndarray):
        if rows is None:
            return list(x)
        return list(x[rows]) if isinstance(rows, slice) else [x[row] for row in rows]
    part = x if rows is None else x[rows]
    tensor = torch.from_numpy(np.array(part))  # copied: it may be a memory map
    return tensor.float() / 255 if part.dtype == np.uint8 else tensor.float()


def order_of(x: Sequence[str] | np.ndarray) -> np.ndarray:
    """In which order to take examples: texts by their length, since a batch is as long as its longest."""
    return np.arange(len(x)) if isinstance(x, np.ndarray) else np.argsort([*map(len, x)], kind="stable")


def rows_of(x: Sequence[str] | np.ndarray, say: Say = silent, what: str = "") -> Iterator[Inputs]:
    """Inputs of up to 64 examples at a time, in order; ``say`` is told every few seconds how far it is."""
    begun = last = time.perf_counter()
    for start in range(0, len(x), ROWS):
        yield as_inputs(x, slice(start, start + ROWS))
        done, now = min(start + ROWS, len(x)), time.perf_counter()
        if now - last > EVERY and done < len(x):
            last = now
            left = (now - begun) * (len(x) - done) / done
            say(f"{what}: {done} done, about {left:.0f} s left")
