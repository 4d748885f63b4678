"""Forward gradients beside backprop, from scratch: the questions of Baydin, Pearlmutter, Syme, Wood, Torr
(2022), *Gradients without Backpropagation*, arXiv 2202.08587, asked again on this machine.

``python -m bench.forward_vs_backprop [--quick]``. A finished part is kept in a partial file, so that an
interrupted run goes on where it was; the full run takes less than ten minutes on two cores.

- cost: seconds of one forward gradient (one tangent over all parameters) and of one backprop gradient, in
  units of one evaluation of the loss, for the kinds of networks of the paper and a small transformer.
  Backprop is plain ``torch.autograd.grad``, the fastest there is; ``backprop_reverse`` is our estimator,
  ``pushforward`` a forward gradient whose tangent is already drawn, without the gradient that it makes.
- depth: the same, and memory, against the number of layers.
- training, cosine: ``bench/lib/training.py``.

The loss is the mean cross-entropy of 64 real digits (8×8) as a function of one vector of all parameters.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapt.backbones import call
from adapt.compare.measure import peak_megabytes
from adapt.compare.statistics import ratio_interval
from adapt.forward import pushforward
from adapt.forward.estimators import Gaussian, Reverse
from adapt.memory import keep_freed_memory
from adapt.spaces import full
from bench.lib.partial import Partial, partial_option
from bench.lib.record import Row, options, report
from bench.lib.timing import Work, interleaved, timed
from bench.lib.training import BATCH, cosines, digits, training

DEPENDS = ("adapt/forward", "adapt/spaces", "bench/lib/timing.py", "bench/lib/training.py")
CPU = torch.device("cpu")
CLAIM = "Baydin et al.: training up to twice as fast in some cases"
DEPTHS, QUICK_DEPTHS = (1, 2, 4, 8, 16, 32), (1, 4)
#: Rounds for one network: at least so many, then until the seconds are used up.
ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, DEPTH_SECONDS = 6.0, 3.0
SAMPLE_SECONDS = 0.003  # what is timed is repeated until one evaluation of the loss takes so long

Part = dict[str, Any]  # rows, and what else goes into the JSON


# -------------------------------------------------------------------------------------------- networks


class RowTransformer(nn.Module):
    """A pre-norm transformer that reads a digit as its 8 rows: ``[n, 64] → [n, 10]``."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.rows = nn.Linear(8, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(8, dim))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    dim, 4, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
        )
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 10))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.rows(x.unflatten(1, (8, 8))) + self.positions
        return self.head(self.blocks(tokens).mean(1))


def mlp(width: int, depth: int) -> nn.Module:
    sizes = (64, *[width] * depth)
    hidden = [part for n, m in pairwise(sizes) for part in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 10))


def convolutions(channels: int, depth: int) -> list[nn.Module]:
    sizes = (1, *[channels] * depth)
    return [part for n, m in pairwise(sizes) for part in (nn.Conv2d(n, m, 3, padding=1), nn.ReLU())]


def image(*parts: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *parts)


def paper_cnn(channels: int, width: int) -> nn.Module:
    """Four convolutional layers, a max-pooling after every second, and two linear layers."""
    four = convolutions(channels, 4)
    return image(
        *four[:4],
        nn.MaxPool2d(2),
        *four[4:],
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )


def deep_cnn(channels: int, depth: int) -> nn.Module:
    return image(
        *convolutions(channels, depth), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
    )


Networks = dict[str, Callable[[], nn.Module]]


def paper_networks(quick: bool) -> Networks:
    width, channels, dim = (64, 8, 16) if quick else (1024, 64, 128)
    return {
        "logistic regression": partial(nn.Linear, 64, 10),
        f"MLP 2×{width}": partial(mlp, width, 2),
        "CNN, 4 convolutional and 2 linear layers": partial(paper_cnn, channels, width),
        "transformer, 4 blocks": partial(RowTransformer, dim, 4),
    }


def deep_networks(quick: bool) -> Networks:
    width, channels = (32, 4) if quick else (256, 32)
    depths = QUICK_DEPTHS if quick else DEPTHS
    return {
        **{f"MLP of width {width}, depth {depth}": partial(mlp, width, depth) for depth in depths},
        **{
            f"CNN of {channels} channels, depth {depth}": partial(deep_cnn, channels, depth)
            for depth in depths
        },
    }


# ------------------------------------------------------------------------------------- cost and memory


def works(module: nn.Module) -> tuple[dict[str, Work], int]:
    """What is measured, all at the same point and on the same batch; and the number of parameters."""
    # In training mode, as it is where gradients are taken (nothing here drops out): otherwise torch would
    # evaluate transformer layers by a fused kernel that it can differentiate in neither mode.
    module.train().requires_grad_(False)
    space, batch = full(module), digits()["training"]
    inputs, labels = batch.inputs[:BATCH], batch.labels[:BATCH]
    generator = torch.Generator().manual_seed(0)
    x, tangent = space.initial, torch.randn(1, space.size, generator=generator)

    def f(phi: Tensor) -> Tensor:
        return cross_entropy(call(module, space.parameters(phi), inputs), labels)

    def evaluation() -> object:
        with torch.inference_mode():
            return f(x)

    def forward_gradient() -> object:
        with torch.no_grad():
            return Gaussian(tangents=1)(f, x, generator=generator)

    def forward_gradient_reference() -> object:
        with torch.no_grad():
            v = torch.randn(1, space.size, generator=generator)
            value, slopes = pushforward(f, x, v, engine="reference")
            return value, (slopes / len(v)) @ v  # as Gaussian

    def tangent_only() -> object:
        with torch.no_grad():
            return pushforward(f, x, tangent)

    def backprop() -> object:
        leaf = x.detach().requires_grad_(True)
        return torch.autograd.grad(f(leaf), leaf)

    def backprop_reverse() -> object:  # the estimator, with the layer of torch.func
        return Reverse()(f, x)

    return {
        "evaluation": evaluation,
        "forward_gradient": forward_gradient,
        "forward_gradient_reference": forward_gradient_reference,
        "pushforward": tangent_only,
        "backprop": backprop,
        "backprop_reverse": backprop_reverse,
    }, space.size


def repeated(work: Work, times: int) -> Work:
    def again() -> None:
        for _ in range(times):
            work()

    return again


def measure(case: str, make: Callable[[], nn.Module], seconds: float, rounds: int, claim: str) -> list[Row]:
    """All rows of one network; ``cost/ratio`` is forward gradient ÷ backprop."""
    with torch.random.fork_rng(devices=[]):  # layers take no generator
        torch.manual_seed(0)
        contenders, size = works(make())
    for work in contenders.values():
        work()
    peaks = {which: peak_megabytes(work, CPU) for which, work in contenders.items()}
    evaluation = contenders.pop("evaluation")
    times = max(1, round(SAMPLE_SECONDS / timed(evaluation)))
    found = interleaved(
        repeated(evaluation, times),
        {which: repeated(work, times) for which, work in contenders.items()},
        rounds,
        seconds,
    )
    unit = statistics.median(found.pop("forward seconds")) / times
    rows = [Row.cost(case, "time/evaluation", unit, "s", note=f"P = {size}")]

    def ratio(metric: str, values: list[float], others: list[float], note: str = "") -> None:
        got = ratio_interval(values, others)
        note = "; ".join(filter(None, (got.between(), note)))
        rows.append(Row(case, metric, got.ratio, "×", None, got.n, None, False, note))

    for which, values in found.items():
        ratio(f"cost/{which}", values, [1.0] * len(values))
    ratio("cost/ratio", found["forward_gradient"], found["backprop"], claim)
    ratio("cost/ratio_reverse", found["forward_gradient"], found["backprop_reverse"])
    for which, peak in peaks.items():
        rows.append(Row.cost(case, f"memory/{which}_mib", peak * 1e6 / 2**20, "MiB"))
    return rows


def measure_all(networks: Networks, quick: bool, seconds: float, claim: str = "") -> Part:
    rounds, seconds = (QUICK_ROUNDS, 0.0) if quick else (ROUNDS, seconds)
    rows = []
    for case, make in networks.items():
        found = measure(case, make, seconds, rounds, claim)
        rows += found
        costs = {row.metric.removeprefix("cost/"): row.value for row in found if row.unit == "×"}
        print(f"{case}: " + ", ".join(f"{key} {value:.2f}×" for key, value in costs.items()), flush=True)
    return {"rows": rows}


def trained(quick: bool) -> Part:
    rows, curves = training(quick)
    return {"rows": rows, "curves": curves}


PARTS: dict[str, Callable[[bool], Part]] = {
    "cost": lambda quick: measure_all(paper_networks(quick), quick, SECONDS, CLAIM),
    "depth": lambda quick: measure_all(deep_networks(quick), quick, DEPTH_SECONDS),
    "training": trained,
    "cosine": lambda quick: {"rows": cosines(quick)},
}


def main() -> None:
    parser = options(__doc__)
    partial_option(parser, "forward_vs_backprop")
    arguments = parser.parse_args()
    keep_freed_memory()  # as ``python -m adapt`` does
    partial = Partial.of(arguments)
    started = time.perf_counter()
    rows: list[Row] = []
    extra: Part = {}
    for name, run in PARTS.items():
        if (part := partial.read(name)) is None:
            print(f"{time.perf_counter() - started:6.0f} s  {name}", flush=True)
            part = run(arguments.quick)
            partial.write(name, part)
        rows += part.pop("rows")
        extra |= part
    report("forward_vs_backprop", rows, arguments, **extra)
    print(f"{time.perf_counter() - started:.0f} s")
    partial.clear([*PARTS])


if __name__ == "__main__":
    main()
