"""Our other package, whatever else is called so: programs and folders often have a ``tasks`` of their own.

Imported before anything else. It finds ``tasks`` where ``adapt`` lies, and not where Python looks first, such
as in the working directory.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

__all__: list[str] = []

NAME = "tasks"


def _import_ours() -> None:
    """Import the package ``tasks`` that lies beside this one.

    Raises:
        ImportError: another one has been imported before, and there cannot be two of a name.
    """
    place = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = PathFinder.find_spec(NAME, [place])
    if spec is None or spec.loader is None:  # installed elsewhere: Python's own way finds it
        return
    found = sys.modules.get(NAME)
    if found is None:
        sys.modules[NAME] = module = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(NAME, None)
            raise
    elif os.path.realpath(getattr(found, "__file__", None) or "") != os.path.realpath(spec.origin or ""):
        other = getattr(found, "__file__", None) or "what has no file"
        raise ImportError(
            f"adapt needs its package {NAME} ({spec.origin}), but {other} has been imported by that name: "
            "rename that one, or start from another directory",
            name=NAME,
        )


_import_ours()
