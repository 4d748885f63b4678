"""SIGTERM and Ctrl+C, noted as well as raised, so that none of them is lost.

Python raises them wherever the main thread is at that moment. Code of others may swallow one there (a bare
``except``; a destructor, whose exceptions are ignored), or make another error of it (a module that is half
imported). So it is raised again: soon where an exception was ignored, in any case at the next :func:`check`;
and whatever ends the work after it counts as its end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "check", "handle", "kind", "listening"]

#: Two signals within so many seconds are one, which a scheduler sends to a process and to its group.
SAME_SECONDS = 1.0
#: How soon what was ignored is raised again.
SOON_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a cluster or a service manager sends it: handled as Ctrl+C is, so that nothing is lost."""


class _Noted:
    """The signal that came, if one did."""

    number: int | None = None
    since = 0.0
    again = False  # it was ignored, and is sent once more by ourselves


def handle(number: int, frame: object = None) -> None:
    """What to do at a signal: note it and raise it; a second one ends the process at once.

    Raises:
        KeyboardInterrupt: the first time; for SIGTERM as :class:`Terminated`.
    """
    now = time.monotonic()
    if _Noted.number is not None and not _Noted.again:
        if now - _Noted.since > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    if _Noted.number is None:
        _Noted.number, _Noted.since = number, now
    _Noted.again = False
    check()


def check() -> None:
    """A place where an interruption that was swallowed is raised again.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if (noted := kind()) is not None:
        raise noted


def kind(error: BaseException | None = None) -> type[KeyboardInterrupt] | None:
    """Which interruption ends the work: the one that came, or else ``error``, if it is one."""
    if _Noted.number is not None:
        return Terminated if _Noted.number == signal.SIGTERM else KeyboardInterrupt
    return type(error) if isinstance(error, KeyboardInterrupt) else None


@contextmanager
def listening() -> Iterator[bool]:
    """Handle both signals inside; false: they are handled already, for who has called.

    One that is ignored, as Ctrl+C is behind ``nohup``, stays so.
    """
    handled: dict[signal.Signals, Any] = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    main = threading.current_thread() is threading.main_thread()
    mine = [number for number, usual in handled.items() if main and signal.getsignal(number) == usual]
    if not mine:
        yield not any(signal.getsignal(number) is handle for number in handled)
        return
    hook = sys.unraisablehook
    _Noted.number, _Noted.again = None, False
    sys.unraisablehook = lambda ignored: _ignored(ignored) or hook(ignored)
    for number in mine:
        signal.signal(number, handle)
    try:
        yield True
    finally:
        sys.unraisablehook = hook
        _Noted.number = None
        for number in mine:
            if signal.getsignal(number) is handle:
                signal.signal(number, handled[number])


def _ignored(ignored: Any) -> bool:
    """Send again what a destructor could not raise; false: that was something else."""
    if kind() is None or not issubclass(ignored.exc_type, KeyboardInterrupt):
        return False
    again = threading.Timer(SOON_SECONDS, _again)
    again.daemon = True
    again.start()
    return True


def _again() -> None:
    number, main = _Noted.number, threading.main_thread().ident
    if number is None or main is None:
        return
    _Noted.again = True
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)
