"""The features that a head was fitted to, kept beside a task: one more example is then a fit of the head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load as parse
from safetensors.torch import save_file
from torch import Tensor

from adapt.adapter import FittedTask
from adapt.backbones import call
from adapt.files import reading, writing
from adapt.own_data.passes import Inputs
from tasks.readers.regular import read_regular

__all__ = ["FILE", "LARGEST", "Support", "features_of"]

FILE = "examples.safetensors"
#: Numbers in the features of all examples; of more, they are not kept.
LARGEST = 2**25


@dataclass(frozen=True)
class Support:
    """``features [n, D]`` and the ``positions [n]`` of the classes of their examples."""

    features: Tensor
    positions: Tensor

    def with_(self, features: Tensor, position: int) -> Support:
        """With more examples of one class."""
        more = torch.full((len(features),), position, dtype=self.positions.dtype)
        return Support(torch.cat([self.features, features]), torch.cat([self.positions, more]))

    def save(self, folder: Path) -> None:
        """Write to ``folder``, whole."""
        with writing(folder / FILE) as path:
            save_file({"features": self.features.contiguous(), "positions": self.positions}, path)

    @classmethod
    def load(cls, folder: Path, task: FittedTask) -> Support | None:
        """What :meth:`save` wrote; None if there is nothing, or it does not belong to ``task``.

        Raises:
            AdaptError: it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        with reading(path, "cannot be read"):
            found = parse(read_regular(path))
            features, positions = found["features"], found["positions"]
            fits = (
                features.ndim == 2
                and positions.shape == (len(features),)
                and positions.dtype == torch.int64
                and features.is_floating_point()
                and bool(torch.isfinite(features).all())
                and len(features) > 0
                and 0 <= int(positions.min()) <= int(positions.max()) < len(task.classes_)
            )
        return cls(features.float(), positions) if fits else None


def features_of(task: FittedTask, x: Inputs) -> Tensor:
    """Of the adapted network, ``[n, D]``."""
    with torch.no_grad():
        return call(task.adapter.backbone, task.parameters, task.adapter.examples(x)).float()
