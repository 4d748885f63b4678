"""``adapt serve`` in a process of its own."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import Process

__all__ = ["served"]


@contextmanager
def served(model: str, folder: Path, *options: str) -> Iterator[str]:
    """The address of a server of ``model``, which is in ``folder``."""
    process = Process(["-m", "adapt", "serve", model, "--port", "0", *options], folder)
    deadline = time.monotonic() + 120
    while not (found := re.search(r"serving on (http://\S+)", process.said[1])):
        assert process.poll(0.1) is None and time.monotonic() < deadline, process.said
    yield found[1]
    process.send(signal.SIGINT)
    process.wait(60)
