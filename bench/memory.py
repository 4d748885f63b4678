"""Peak memory of one adaptation against that of plain inference, for chains of growing depth and for the
networks that benchmarks share.

``python -m bench.memory [--quick]``. Counted are the tensors made while a task of 25 examples is adapted to,
beyond the weights: forward with k = 8 directions in one Gauss–Newton step; backprop of the same parameters,
three steps of Adam, with and without activation checkpointing. Each with all examples at once and with few at
a time: as many that they and their tangents are no more than one forward pass of all, and the same for
backprop, whose gradients are accumulated. Bytes depend on no clock.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from adapt.adapter import Context, FewShotAdapter, Support, initial_state
from adapt.backbones import FrozenBatchNorm
from adapt.baselines import Backprop
from adapt.compare.measure import peak_megabytes
from adapt.inner import Descent, GaussNewton
from adapt.spaces import Space, film
from bench.lib.figures import ADAPTATIONS
from bench.lib.models import MODELS, network
from bench.lib.record import Row, options, report

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/forward", "adapt/inner", "adapt/spaces",
    "bench/lib/models.py",
)  # fmt: skip
K, WAYS, SHOTS = 8, 5, 5
DEPTHS = (2, 4, 8, 16, 32)
CPU = torch.device("cpu")


class Chain(nn.Module):
    """``depth`` convolutions with norms at one resolution: every layer's activations are as large."""

    def __init__(self, depth: int, channels: int = 16) -> None:
        super().__init__()
        widths = [1, *[channels] * depth]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), FrozenBatchNorm(o), nn.ReLU())
                for i, o in pairwise(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, channels]`` of ``x [n, 1, H, W]``."""
        return self.layers(x).mean((2, 3))


def peaks(backbone: nn.Module, space: Space, x: Tensor) -> dict[str, float]:
    """Megabytes of every way to adapt, and of ``inference``."""
    generator = torch.Generator().manual_seed(0)
    basis = 0.01 * torch.randn(space.size, K, generator=generator)
    adapter = FewShotAdapter(backbone, space, initial_state(space.initial, basis), GaussNewton())
    y = torch.arange(WAYS).repeat_interleave(SHOTS)
    few = len(x) // (1 + K)  # for all methods alike
    support = Support(x, y, tuple("abcde"))

    def backprop(checkpoint: bool = False, rows: int | None = None) -> Callable[[], object]:
        method = Backprop(Descent(steps=3), checkpoint=checkpoint, rows=rows)
        adapt = method.prepare(Context(backbone, adapter))
        return lambda: adapt(support, lambda predictor: None)

    works: dict[str, Callable[[], object]] = {
        "inference": lambda: backbone(x),
        "forward": lambda: adapter.fit(x, y),
        "forward_rows": lambda: adapter.replace(rows=few).fit(x, y),
        "backprop": backprop(),
        "backprop_rows": backprop(rows=few),
        "backprop_checkpointed": backprop(checkpoint=True),
        "backprop_checkpointed_rows": backprop(checkpoint=True, rows=few),
    }
    with torch.no_grad():
        return {name: peak_megabytes(work, CPU) for name, work in works.items()}


def rows(case: str, found: dict[str, float]) -> Iterator[Row]:
    """Megabytes, and ratios to inference."""
    yield Row.cost(case, "memory/inference_mb", found["inference"], "MB")
    for key in ADAPTATIONS:
        yield Row.cost(case, f"memory/{key}_mb", found[key], "MB")
        goal = 1.25 if key == "forward_rows" else None
        ratio = found[key] / found["inference"]
        yield Row.cost(case, f"memory/{key}", ratio, "× inference", goal=goal)


def measure(quick: bool) -> Iterator[Row]:
    """All networks."""
    for depth in DEPTHS[:2] if quick else DEPTHS:
        chain = Chain(depth).eval().requires_grad_(False)
        yield from rows(f"chain of {depth}", peaks(chain, film(chain), torch.rand(25, 1, 16, 16)))
    for name in () if quick else MODELS:
        shared = network(name, torch.float32)
        for placement in ("everywhere", "last third"):
            case = f"{name}, {placement}"
            yield from rows(case, peaks(shared.module, shared.spaces[placement], shared.inputs))


def main() -> None:
    arguments = options(__doc__).parse_args()
    report("memory", list(measure(arguments.quick)), arguments)


if __name__ == "__main__":
    main()
