"""Backbones that break the contract, each in one way, and what must be said of each: for tables of tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MISBEHAVING", "Case", "Does", "Tokens"]

WIDTH = 4


class Does(nn.Module):
    """A module whose forward is ``does(module, x)``; it holds what such functions like to write to."""

    def __init__(self, does: Callable[[Any, Tensor], Any], *inside: nn.Module) -> None:
        super().__init__()
        self.does, self.inside = does, nn.ModuleList(inside)
        self.calls, self.seen = 0, deque[Tensor]()
        self.own = torch.Generator().manual_seed(0)
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("cache", torch.zeros(WIDTH), persistent=False)

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


class Tokens(nn.Module):
    """Reads texts of letters; ``masked``: the mean leaves the padding, id 0, out."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.table, self.last, self.masked = nn.Embedding(27, 6), nn.Linear(6, WIDTH), masked

    def tokenise(self, texts: Any) -> np.ndarray:
        ids = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = [ord(letter) - ord("a") + 1 for letter in text]
        return ids

    def forward(self, ids: Tensor) -> Tensor:
        weights = ((ids > 0) if self.masked else torch.ones_like(ids)).to(self.last.weight.dtype)[..., None]
        return self.last((self.table(ids) * weights).sum(1) / weights.sum(1))


class Case(NamedTuple):
    """How the backbone is made, how one example is shaped, and words that the error must hold, in order."""

    build: Callable[[], nn.Module]
    words: tuple[str, ...]
    shape: tuple[int, ...] = (WIDTH,)


def behind(does: Callable[[Any, Tensor], Any], *inside: nn.Module) -> Callable[[], nn.Module]:
    """Between two linear layers, as backbone.1."""
    return lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), Does(does, *inside), nn.Linear(WIDTH, 3)).eval()


def last(does: Callable[[Any, Tensor], Any]) -> Callable[[], nn.Module]:
    """Behind a linear layer, as backbone.1."""
    return lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), Does(does)).eval()


def counted(module: Any, x: Tensor) -> Tensor:
    module.calls += 1
    return x * module.calls


def remembered(module: Any, x: Tensor) -> Tensor:
    module.seen.append(x.mean())
    return x - torch.stack([*module.seen]).mean()


def running(module: Any, x: Tensor) -> Tensor:
    module.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
    return x


def replaced(module: Any, x: Tensor) -> Tensor:
    module.mean = module.mean + 1
    return x


def cached(module: Any, x: Tensor) -> Tensor:
    module.cache += 1
    return x


def grown(module: Any, x: Tensor) -> Tensor:
    if not len(module.inside):
        module.inside.append(nn.Linear(WIDTH, WIDTH))
    return module.inside[0](x)


def trained(module: Any, x: Tensor) -> Tensor:
    linear = module.inside[0]
    linear.weight.data.mul_(0.999)  # behind the back of autograd, which counts changes
    return linear(x)


class Root(nn.Module):
    """The fault is in the code of the network itself, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.second(h - h.mean(0))


def spectral(wrap: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        linear = nn.Linear(WIDTH, 3)
        with torch.no_grad():
            nn.init.orthogonal_(linear.weight)
            linear.weight[0] *= (
                1.01  # values so close that power iteration does not come to rest in a few calls
            )
        return nn.Sequential(wrap(linear)).train()

    return make


class Pooled(nn.Module):
    """Averages positions, and squeezes."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.convolution, self.pool = (
            nn.Conv1d(WIDTH, 3, 1),
            Does(lambda _, x: x.mean(-1, keepdim=True).squeeze()),
        )
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.pool(self.convolution(x)))


EVAL, RANDOM, BATCH = "call backbone.eval()", "gives other values", "depends on the others in the batch"
ALONE, WRITES, LAYERNORM = "single example", "every call writes to its", "LayerNorm, GroupNorm"
FIRST = "Does in backbone.1"

MISBEHAVING: dict[str, Case] = {
    # ------------------------------------------------------------------ other values for the same examples
    "dropout by function": Case(
        behind(lambda _, x: F.dropout(x, 0.1)), (FIRST, RANDOM, "F.dropout takes training=")
    ),
    "little noise": Case(behind(lambda _, x: x + 1e-6 * torch.randn_like(x)), (FIRST, RANDOM, EVAL)),
    "noise of NumPy": Case(behind(lambda _, x: x + 1e-4 * np.random.randn()), (FIRST, RANDOM)),
    "noise of its own generator": Case(
        behind(lambda module, x: x + torch.randn(1, generator=module.own)), (FIRST, RANDOM)
    ),
    "counts its calls": Case(behind(counted), (FIRST, RANDOM, "remembers earlier calls")),
    "remembers its inputs": Case(behind(remembered), (FIRST, RANDOM)),
    "dropout that was put back": Case(
        lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.1)).train(),
        ("Dropout in backbone.1", EVAL),
    ),
    # ------------------------------------------------------------------ an example depends on the others
    "mean of the batch": Case(behind(lambda _, h: h - h.mean(0)), (FIRST, BATCH, LAYERNORM)),
    "mean of the batch, in the network itself": Case(Root, ("Root (", BATCH, LAYERNORM)),
    "largest of the batch": Case(behind(lambda _, h: h / h.abs().max()), (FIRST, BATCH)),
    "sum over earlier examples": Case(behind(lambda _, h: h.cumsum(0)), (FIRST, BATCH)),
    "difference to the first": Case(behind(lambda _, h: h - h[:1]), (FIRST, BATCH)),
    "difference to the last": Case(behind(lambda _, h: h - h[-1:]), (FIRST, BATCH)),
    "softmax over the batch": Case(behind(lambda _, h: h.softmax(0)), (FIRST, BATCH)),
    "sorted": Case(behind(lambda _, h: h.sort(0).values), (FIRST, BATCH)),
    "attention between examples": Case(behind(lambda _, h: (h @ h.T).softmax(-1) @ h), (FIRST, BATCH)),
    "batch axis taken for time": Case(
        lambda: nn.Sequential(nn.LSTM(WIDTH, WIDTH), Does(lambda _, out: out[0])),
        ("LSTM in backbone.0", BATCH),
    ),
    "batch norm by function": Case(
        lambda: nn.Sequential(
            nn.Conv1d(WIDTH, 3, 1),
            Does(lambda _, h: F.batch_norm(h, None, None, training=True)),
            nn.Flatten(),
        ),
        (FIRST, BATCH, "running statistics"),
        (WIDTH, 5),
    ),
    "batch norm by function, of vectors": Case(
        behind(lambda _, h: F.batch_norm(h, None, None, training=True)),
        (FIRST, ALONE, "ValueError", LAYERNORM),
    ),
    "batch norm without statistics": Case(
        lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval(),
        ("BatchNorm1d in backbone.1", "GroupNorm"),
    ),
    "squeezed": Case(last(lambda _, h: h.squeeze()), (FIRST, ALONE, "(4,), not [1, D]", "squeeze()")),
    "squeezed in the middle": Case(
        lambda: Pooled(nn.Linear(3, 2)), ("Does in backbone.pool", ALONE, "squeeze()"), (WIDTH, 5)
    ),
    "squeezed, which a later layer does not take": Case(
        lambda: Pooled(nn.Softmax(1)), ("Softmax in backbone.after", ALONE, "IndexError"), (WIDTH, 5)
    ),
    "of a fixed number of examples": Case(
        last(lambda _, h: h.view(2, WIDTH)), (FIRST, ALONE, "RuntimeError")
    ),
    # ------------------------------------------------------------------ no features [n, D]
    "a dictionary": Case(last(lambda _, h: {"features": h}), ("a dict of features, not a tensor", "wrap it")),
    "a tuple": Case(
        lambda: nn.GRU(WIDTH, 3, batch_first=True),
        ("GRU (", "a tuple of Tensor, Tensor", "wrap it"),
        (5, WIDTH),
    ),
    "nothing": Case(last(lambda *_: None), ("a NoneType, not a tensor",)),
    "one number for all": Case(last(lambda _, h: h.sum()), ("shape () for 2 examples", "[n, D]")),
    "one number each": Case(last(lambda _, h: h.sum(1)), ("shape (2,) for 2 examples", "features[:, None]")),
    "maps": Case(
        lambda: nn.Conv2d(1, 3, 3), ("Conv2d (", "(2, 3, 2, 2) for 2 examples", "flatten(1)"), (1, 4, 4)
    ),
    "tokens": Case(lambda: nn.Linear(WIDTH, 3), ("(2, 5, 3)", "average"), (5, WIDTH)),
    "features first": Case(last(lambda _, h: h.T), ("(4, 2) for 2 examples", "first axis")),
    "no features": Case(last(lambda _, h: h[:, :0]), ("(2, 0)", "at least one feature")),
    "classes": Case(last(lambda _, h: h.argmax(1, keepdim=True)), ("torch.int64", ".float()")),
    "complex": Case(last(lambda _, h: h.to(torch.complex64)), ("torch.complex64", "real numbers")),
    "sparse": Case(last(lambda _, h: h.to_sparse()), ("not dense", "to_dense()")),
    "not a number": Case(behind(lambda _, h: h * float("nan")), (FIRST, "NaN or infinite")),
    "infinite": Case(behind(lambda _, h: h / 0), (FIRST, "NaN or infinite", "wider dtype")),
    # ------------------------------------------------------------------ writes to itself
    "running mean of its own": Case(behind(running), (FIRST, WRITES, "mean", "without writing")),
    "running mean of its own, in training": Case(
        lambda: nn.Sequential(Does(running), nn.Linear(WIDTH, 3)), ("Does in backbone.0", WRITES, EVAL)
    ),
    "another buffer in place of the old": Case(behind(replaced), (FIRST, WRITES, "mean")),
    "a buffer that is not saved": Case(behind(cached), (FIRST, WRITES, "cache")),
    "a small weight": Case(
        behind(trained, nn.Linear(WIDTH, WIDTH)), ("Linear in backbone.1.inside.0", WRITES, "weight")
    ),
    "a layer made on the way": Case(behind(grown), ("Linear in backbone.1.inside.0", "weight")),
    "rows that are scaled to a norm": Case(
        lambda: nn.Sequential(
            Does(lambda _, x: (x > 0.5).long()),
            nn.Embedding(2, 6, max_norm=0.1),
            nn.Flatten(),
            nn.Linear(6 * WIDTH, 3),
        ),
        ("Embedding in backbone.1", WRITES, "weight"),
    ),
    "its input": Case(
        lambda: nn.Sequential(nn.Sequential(nn.Hardtanh(0.2, 0.3, inplace=True)), nn.Linear(WIDTH, 3)),
        ("Hardtanh in backbone.0.0", "writes to its input", "inplace=False"),
    ),
    "its input, by hand": Case(
        lambda: nn.Sequential(Does(lambda _, x: x.sub_(x.mean(1, keepdim=True))), nn.Linear(WIDTH, 3)),
        ("Does in backbone.0", "writes to its input"),
    ),
    "spectral norm in training": Case(
        spectral(nn.utils.parametrizations.spectral_norm), ("_SpectralNorm in backbone.0", WRITES, "_u", EVAL)
    ),
    "spectral norm of old, in training": Case(
        spectral(nn.utils.spectral_norm), ("Linear in backbone.0", WRITES, "weight_u", EVAL)
    ),
    "instance norm that tracks": Case(
        lambda: nn.Sequential(
            nn.InstanceNorm1d(WIDTH, affine=True, track_running_stats=True), nn.Flatten()
        ).train(),
        ("InstanceNorm1d in backbone.0", WRITES, "running_mean", EVAL),
        (WIDTH, 5),
    ),
    "batch norm in training": Case(
        lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.BatchNorm1d(3)), ("BatchNorm1d in backbone.1", EVAL)
    ),
    # ------------------------------------------------------------------ no plain module with values
    "several devices": Case(
        lambda: nn.DataParallel(nn.Linear(WIDTH, 3)), ("DataParallel", "backbone.module")
    ),
    "several devices, inside": Case(
        lambda: nn.Sequential(nn.DataParallel(nn.Linear(WIDTH, 3))),
        ("DataParallel in backbone.0", "backbone.0.module"),
    ),
    "sharded": Case(
        lambda: nn.Sequential(type("FullyShardedDataParallel", (nn.Linear,), {})(WIDTH, 3)),
        ("FullyShardedDataParallel in backbone.0", "before it is sharded"),
    ),
    "lazy": Case(
        lambda: nn.Sequential(nn.LazyLinear(3)), ("LazyLinear in backbone.0", "weight", "on a batch")
    ),
    "meta": Case(
        lambda: nn.Sequential(nn.Linear(WIDTH, 3, device="meta")),
        ("Linear in backbone.0", "load the weights"),
    ),
}
