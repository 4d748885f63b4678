"""Reading an adapter or a fitted task, whichever a folder holds."""

import os
from collections.abc import Callable
from typing import Any

from torch import nn

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.fitted import FittedTask
from adapt.adapter.storage import CONFIG, read_adapter, read_stored, read_task
from adapt.errors import AdaptError

__all__ = ["load"]


def load(folder: str | os.PathLike[str], backbone: nn.Module | None = None) -> Any:
    """Read an adapter or a fitted task.

    Args:
        folder: a path, or the name of a shipped adapter such as ``"conv4_glyphs_film"``.
        backbone: the network it belongs to; needed only if it was not one of ours. Its weights are verified.

    Returns:
        :class:`FewShotAdapter` or :class:`FittedTask`, whichever was saved.

    Raises:
        AdaptError: missing or damaged files, an unknown format, or a backbone with other weights.
    """
    stored = read_stored(folder)
    readers: dict[Any, Callable[[], Any]] = {
        "adapter": lambda: read_adapter(stored, backbone, FewShotAdapter),
        "task": lambda: read_task(stored, backbone, FittedTask, FewShotAdapter),
    }
    if not isinstance(stored.kind, str) or stored.kind not in readers:
        kind = str(stored.kind)[:80]
        raise AdaptError(f"{stored.path / CONFIG} is of kind {kind!r}: known are {', '.join(readers)}")
    return readers[stored.kind]()
