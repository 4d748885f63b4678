"""The features that a head was fitted to, kept beside a task: one more example is then a fit of the head."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse
from safetensors.torch import save as pack
from torch import Tensor

from adapt.adapter import FittedTask
from adapt.backbones import call
from adapt.errors import AdaptError
from adapt.files import reading
from adapt.own_data.passes import Inputs
from tasks.readers.regular import read_regular

__all__ = ["KEY", "LARGEST", "Support", "features_of"]

#: Under which what a saved task says of its data has the name of the file.
KEY = "kept_examples"
#: The file of the first versions, which nothing named.
EARLIER = "examples.safetensors"
#: Numbers in the features of all examples; of more, they are not kept.
LARGEST = 2**25


@dataclass(frozen=True)
class Support:
    """``features [n, D]`` and the ``positions [n]`` of the classes of their examples."""

    features: Tensor
    positions: Tensor

    def with_(self, features: Tensor, position: int) -> Support:
        """With more examples of one class.

        Raises:
            AdaptError: features of another network, or more than are kept.
        """
        if features.shape[1:] != self.features.shape[1:]:
            raise AdaptError(
                f"the kept examples have {self.features.shape[-1]} features, and this model makes "
                f"{features.shape[-1]}: they are of another model; fit your data again"
            )
        if self.features.numel() + features.numel() > LARGEST:
            raise AdaptError("as many examples as are kept have been learned: fit your data again with them")
        more = torch.full((len(features),), position, dtype=self.positions.dtype)
        return Support(torch.cat([self.features, features]), torch.cat([self.positions, more]))

    def packed(self) -> tuple[str, bytes]:
        """The name of a file, which has its hash, and what it holds."""
        content = pack({"features": self.features.contiguous(), "positions": self.positions})
        return _named(content), content

    @classmethod
    def load(cls, folder: Path, task: FittedTask, about: dict[str, Any]) -> Support | None:
        """What :meth:`packed` gave, and was saved with ``task``; None if there is nothing.

        Args:
            about: what the task says of its data.

        Raises:
            AdaptError: it is damaged, or does not belong to ``task``.
        """
        name = about.get(KEY, EARLIER)
        if name is None:
            return None
        if not isinstance(name, str) or not re.fullmatch(r"examples(-[0-9a-f]{16})?\.safetensors", name):
            raise AdaptError(f"{folder} does not name its examples as this version writes it: save it again")
        path = folder / name
        if not path.exists():  # of a registered model, say
            return None
        with reading(path, "cannot be read"):
            content = read_regular(path)
            if name not in (EARLIER, _named(content)):
                raise ValueError("its sha256 is another than its name says")
            found = parse(content)
            features, positions = found["features"], found["positions"]
            if not _fits(features, positions, task):
                raise ValueError("it holds no examples of this model")
        return cls(features.float(), positions)


def _named(content: bytes) -> str:
    return f"examples-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"


def _fits(features: Tensor, positions: Tensor, task: FittedTask) -> bool:
    return (
        features.ndim == 2
        and 0 < features.numel() <= LARGEST
        and positions.shape == (len(features),)
        and positions.dtype == torch.int64
        and features.is_floating_point()
        and bool(torch.isfinite(features.float()).all())
        and 0 <= int(positions.min()) <= int(positions.max()) < len(task.classes_)
    )


def features_of(task: FittedTask, x: Inputs) -> Tensor:
    """Of the adapted network, ``[n, D]``."""
    with torch.no_grad():
        return call(task.adapter.backbone, task.parameters, task.adapter.examples(x)).float()
