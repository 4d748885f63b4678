"""What tests are built from: tiny networks and data, and an object that raises when touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter, initial_state
from adapt.backbones import Conv4, save_backbone
from adapt.spaces import film
from tasks import ArraySource, Card

__all__ = [
    "DATA",
    "SIDE",
    "NoJvp",
    "Untouchable",
    "distance",
    "make_adapter",
    "make_source",
    "randomised",
    "save_tiny",
    "tensors_in",
    "tiny_conv4",
]

#: Public data sets, which are no part of the project: what needs them is skipped where they are not at hand.
DATA = Path(os.environ.get("ADAPT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")

SIDE = 16  # the smallest image that four poolings leave a pixel of


class Untouchable:
    """Proves what code does not read: any use of it fails the test that hands it out."""

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("touched what it must not see")

    __getattr__ = __call__ = __len__ = __iter__ = __getitem__ = __array__ = __bool__ = __float__ = _fail
    __add__ = __radd__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = __sub__ = __rsub__ = _fail

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("touched what it must not see")


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """``network`` in evaluation mode, with random weights and norms that are no identities, as if trained."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            drawn = drawn / value[0].numel() ** 0.5
        elif name.endswith(("weight", "running_var")):
            drawn = 1 + 0.3 * drawn.tanh()  # positive
        else:
            drawn = 0.2 * drawn
        value.copy_(drawn)
    return network.eval().requires_grad_(False)


def tiny_conv4(seed: int = 0) -> nn.Module:
    """Four channels: features ``[n, 4]`` of images ``[n, 1, 16, 16]``."""
    return randomised(Conv4(width=4), seed)


def save_tiny(folder: Path | str, training: dict[str, Any] | None = None) -> None:
    """``tiny_conv4()`` as a saved backbone."""
    save_backbone(
        folder,
        tiny_conv4(),
        architecture="conv4",
        arguments={"width": 4},
        input_shape=(1, SIDE, SIDE),
        training=training or {},
    )


def tensors_in(folder: Path) -> Path:
    """The one file of tensors of an artifact."""
    (path,) = folder.glob("*.safetensors")
    return path


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value of ``b``."""
    assert a.shape == b.shape, (a.shape, b.shape)
    if b.numel() == 0:
        return 0.0
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))


def make_adapter(backbone: nn.Module, k: int = 3) -> FewShotAdapter:
    """FiLM, a random basis of k directions, and a damping that lets z move visibly."""
    space = film(backbone)
    generator = torch.Generator().manual_seed(1)
    basis = 0.3 * torch.randn(space.size, k, generator=generator) / k**0.5
    state = initial_state(space.initial.clone(), basis)
    return FewShotAdapter(backbone, space, state, input_shape=(1, SIDE, SIDE))


def make_source(per_class: int = 12, classes: int = 6, seed: int = 0) -> ArraySource:
    """Images [1, 16, 16], each its class's random pattern plus noise; splits disjoint in classes."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((classes, 1, 1, SIDE, SIDE))
    noisy = patterns + 0.3 * rng.standard_normal((classes, per_class, 1, SIDE, SIDE))
    images = noisy.reshape(-1, 1, SIDE, SIDE).astype(np.float32)
    rows = np.arange(len(images)).reshape(classes, per_class)
    half = classes // 2
    members = {
        "train": {f"c{i}": rows[i] for i in range(half)},
        "validation": {f"c{i}": rows[i] for i in range(half, classes)},
    }
    card = Card("patterns", "noise", "made here", "CC0", "none", {"examples": len(images)}, (), "none")
    return ArraySource(card, images, members)


class NoJvp(torch.autograd.Function):
    """A user's own function, with everything but a forward derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient
