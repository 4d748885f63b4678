"""How many numbers may be made: of what is typed as many as the machine holds, of what a file declares fewer.

A file of a hundred bytes can name a network of a terabyte. Whoever reads one says so (:func:`declared`);
whoever makes tensors asks first (:func:`afford`), or has them counted while a network is built
(:func:`counted`), which is before their memory is touched.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from adapt.errors import AdaptError

__all__ = ["DECLARED", "TooLarge", "afford", "counted", "declared", "served"]

#: Numbers of what a file declares and does not bring along: a gigabyte in float32.
DECLARED = 2**28
BYTES = 4
#: Tensors of a network: each takes a thousand bytes before it holds a number.
TENSORS = 100_000
#: Where a container says how much memory it may take, by version of control groups.
GROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def served(megabytes: int) -> int:
    """Bytes that the body of a request may have: of ``ADAPT_SERVE_MB`` megabytes where that is set."""
    try:
        return max(1, int(float(os.environ.get("ADAPT_SERVE_MB", megabytes)) * 2**20))
    except (ValueError, OverflowError):
        return megabytes * 2**20


class TooLarge(AdaptError):
    """More numbers than may be made."""


_most: ContextVar[int | None] = ContextVar("numbers that a file may declare", default=None)


@contextmanager
def declared(most: int = DECLARED) -> Iterator[None]:
    """What is made inside is what a file says: ``most`` numbers at a time."""
    token = _most.set(most)
    try:
        yield
    finally:
        _most.reset(token)


def afford(what: str, numbers: int) -> None:
    """Refuse what holds too many ``numbers``, before there is memory for them.

    Raises:
        TooLarge: more than a file may declare (inside of :func:`declared`), or than this machine holds.
    """
    most = _most.get()
    if most is not None and numbers > most:
        raise TooLarge(
            f"{what} has {numbers:,} numbers, and what a file declares has {most:,} at most: if you trust "
            "the file, build the backbone yourself and pass it, as in adapt.load(folder, backbone=…)"
        )
    memory = machine_memory()
    if memory is not None and BYTES * numbers > memory:
        raise TooLarge(
            f"{what} has {numbers:,} numbers, {BYTES * numbers / 2**30:,.0f} GiB, and this machine has "
            f"{memory / 2**30:,.0f} GiB of memory: make it smaller"
        )


@contextmanager
def counted(what: str) -> Iterator[None]:
    """Parameters of networks that this thread builds inside are counted, and too many are refused.

    Raises:
        TooLarge: see :func:`afford`; also where the system has no memory for one of them.
    """
    thread, total, tensors = threading.get_ident(), 0, 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal total, tensors
        if parameter is not None and threading.get_ident() == thread:
            total, tensors = total + parameter.numel(), tensors + 1
            afford(what, total)
            if tensors > TENSORS:
                raise TooLarge(f"{what} has more than {TENSORS:,} tensors: make it smaller")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "Storage size calculation overflowed" not in str(error):
            raise
        raise TooLarge(f"{what} takes more memory than there is: make it smaller") from None
    except MemoryError:
        raise TooLarge(f"{what} takes more memory than there is: make it smaller") from None
    finally:
        handle.remove()


def machine_memory() -> int | None:
    """Bytes of memory of the machine, or of the container that this process is in; None: not known."""
    found = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in GROUPS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is none, or no limit ("max")
            continue
    return min(found, default=None)
