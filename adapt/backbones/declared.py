"""The backbone that a file names: what ships, what a library has under that name, or what its sizes say.

A file is not who runs the program: of this machine it names nothing but a backbone that we saved, which is
read as the file itself is; and it declares no network larger than :data:`adapt.budget.DECLARED` that has no
weights to show for it.
"""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path, PurePath
from typing import Any

from torch import nn

from adapt import files
from adapt.backbones.checkpoint import LAYOUT, load_backbone
from adapt.backbones.named import FAMILIES, PASSED_ON
from adapt.backbones.packaged import MODEL_PACKAGES
from adapt.backbones.weights import PRETRAINED, RANDOM, is_local
from adapt.budget import declared
from adapt.errors import AdaptError

__all__ = ["load_declared"]

#: Characters of a name on the hub.
LONGEST = 200
WITH_WEIGHTS = ("hf", "timm", "torchvision")


def load_declared(where: str, name: Any, settings: Any) -> nn.Module:
    """The frozen network ``name`` that the file ``where`` names, made with its ``settings``.

    Raises:
        AdaptError: it names a folder or a file of this machine, or a network that is too large; whatever
            ``load_backbone`` raises. What to do instead is to pass the backbone.
        TypeError: no name, or no settings.
    """
    if not isinstance(name, str) or not isinstance(settings, Mapping):
        raise TypeError(f"no backbone, with its settings: {str([name, settings])[:100]}")
    family, _, rest = name.partition(":")
    weights = settings.get("weights", PRETRAINED)
    if not (_named(family, rest, weights) if rest and family in FAMILIES else _saved(name)):
        raise AdaptError(
            f"{where} names the backbone '{name[:100]}' with weights={str(weights)[:100]}, a folder or a "
            "file of this machine: if you trust it, pass the backbone, as in adapt.load(folder, "
            "backbone=load_backbone(…)[0])"
        )
    # What comes with its weights is as large as they are, unless it is made otherwise.
    made = weights == RANDOM or family not in WITH_WEIGHTS or {*settings} & {*PASSED_ON.get(family, ())}
    with declared() if made else nullcontext():
        return load_backbone(name, **settings)[0]


def _saved(name: str) -> bool:
    """Whether a backbone of ours is there under that name, shipped or in a folder: read as the adapter is."""
    with suppress(OSError, ValueError):  # too long a name, a loop of links, a NUL
        shipped = PurePath(name).name == name and (files.PRETRAINED / name).is_dir()
        return shipped or Path(name, LAYOUT.config).is_file()
    return False


def _named(family: str, name: str, weights: Any) -> bool:
    """Whether a name of a library, and its weights, are found on any machine."""
    kept = isinstance(weights, str) and not is_local(weights)
    if family == "timm" and name.startswith("hf-hub:"):
        return kept and _of_hub(name.removeprefix("hf-hub:"))
    if family == "hf":
        return kept and (name in MODEL_PACKAGES or _of_hub(name))
    return kept and (family not in WITH_WEIGHTS or not {":", "/", "\\"} & {*name})


def _of_hub(name: str) -> bool:
    """Whether a name is one of the hub's, ``owner/model`` or ``model``, and no folder here hides it."""
    path = PurePath(name)
    if len(name) > LONGEST:
        return False
    plain = not path.is_absolute() and len(path.parts) <= 2 and not name.startswith(("~", "."))
    return plain and ".." not in path.parts and not Path(name).exists()
