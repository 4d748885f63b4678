"""Under torchrun: the first process reads the command line, and the others do what it tells them.

So nothing is read, written or said twice: no folder, no record in MLflow, no table but the first one's.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from adapt.errors import AdaptError

__all__ = ["follow", "joined", "led", "local_rank"]

#: How long a process waits for another, which may be learning: one that has ended is noticed at once.
PATIENCE = timedelta(days=100)


class _Leading:
    """Whether the others are at work with this one; then they cannot be told anything else."""

    now = False


def local_rank() -> int | None:
    """The number of this process among those of its machine; None if torchrun did not start it."""
    return int(os.environ["LOCAL_RANK"]) if _together() else None


def _together() -> bool:
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined() -> Iterator[bool]:
    """Meet the other processes, if torchrun started several; true in all but the first, which is to go about
    its work as if it were alone."""
    if not _together():
        yield False
        return
    import torch  # what is not started by torchrun should not wait for it
    from torch import distributed

    from adapt.ranks import ranks

    if distributed.is_initialized():  # by who has called: a command that starts another
        yield False
        return
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
    )
    try:
        yield not ranks().first
    finally:
        if ranks().first and not _Leading.now:
            with suppress(AdaptError):
                ranks().said(None)
        distributed.destroy_process_group()
        gc.collect()  # a group that outlives the interpreter, in a cycle, aborts the process at its end


@contextmanager
def led(config: Mapping[str, Any]) -> Iterator[None]:
    """What all processes do together, as ``config`` (resolved, plain containers) says."""
    from adapt.ranks import ranks

    ranks().said({"config": config, "folder": os.getcwd()})
    _Leading.now = True  # till it has worked: after an error they wait for something else than a message
    yield
    _Leading.now = False


def follow(work: Callable[[Mapping[str, Any]], None]) -> None:
    """``work`` on every config that the first process says, till it has no more."""
    from adapt.ranks import ranks

    while (told := ranks().said()) is not None:
        os.chdir(told["folder"])
        work(told["config"])
