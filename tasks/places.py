"""Where modules come from: not from the working directory, unless somebody names code of their own.

`python -m adapt` puts the working directory before everything else: a file `numpy.py` in a folder of data
would be run. The console script `adapt` does not. This package imports it first, and `adapt` this package.
"""

import importlib
import os
import sys
from collections.abc import Iterable
from types import ModuleType

__all__ = ["import_own", "within_any"]

#: Packages that are started with `python -m`.
STARTED = ("adapt", "tasks")


def import_own(name: str) -> ModuleType:
    """Import a module that the user has named and trusts: where Python finds it, or else, last of all, in the
    working directory.

    Args:
        name: dotted, as `my_package.letters`.

    Returns:
        the module.

    Raises:
        ImportError: there is none, or it cannot be imported.

    Example:
        >>> import_own("json").__name__
        'json'
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # for good: a module may import its neighbours when it is used
        importlib.invalidate_caches()
    return importlib.import_module(name)


def within_any(name: str, packages: Iterable[str]) -> bool:
    """Whether a dotted name is one of `packages`, or of something in them.

    Example:
        >>> within_any("my_data.letters", ["my_data"]), within_any("my_data_of_others", ["my_data"])
        (True, False)
    """
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _leave_working_directory() -> None:
    """Undo what `python -m` does to the path, unless we were found by it."""
    # While Python looks for the module to run, its name is not in `argv` yet, and `-m` is.
    if sys.argv[:1] != ["-m"] or sys.flags.safe_path or _module(sys.orig_argv[1:]) not in STARTED:
        return
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.path and os.path.realpath(sys.path[0]) == os.path.realpath(os.getcwd()) != os.path.realpath(ours):
        del sys.path[0]


def _module(options: list[str]) -> str:
    """The package that `python OPTIONS` runs; empty if it runs none."""
    rest = iter(options)
    for option in rest:
        if option in ("-W", "-X", "--check-hash-based-pycs"):
            next(rest, None)
        elif option.startswith(("--", "-W", "-X")):
            pass
        elif option.startswith("-") and "m" in option:
            return (option.partition("m")[2] or next(rest, "")).partition(".")[0]
        elif option in ("-", "-c") or not option.startswith("-"):
            return ""
    return ""


_leave_working_directory()
