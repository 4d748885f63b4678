"""Artifacts that say which one they are, for tests that cut off saving; processes import this."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import adapt
from adapt import FewShotAdapter
from tests.helpers import make_adapter

__all__ = ["number_of", "version"]


def version(backbone: nn.Module, number: int) -> FewShotAdapter:
    """An adapter that says which one it is, in its tensors and in its config."""
    adapter = make_adapter(backbone)
    basis = torch.full_like(adapter.state.basis, float(number))
    return adapter.replace(state=adapter.state._replace(basis=basis), info={"number": number})


def number_of(folder: Path, backbone: nn.Module) -> int:
    """Which one is there; the two files of it agree."""
    loaded = adapt.load(folder, backbone=backbone)
    assert float(loaded.state.basis.min()) == float(loaded.state.basis.max()) == loaded.info["number"]
    return int(loaded.info["number"])
