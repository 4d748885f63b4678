"""Forward tangents on a GPU, beside backprop in the same space: cost, latency, throughput and memory.

``python -m bench.gpu [--device cpu --quick]``. Needs torch, numpy, safetensors and this source tree, nothing
else. Writes ``bench/results/gpu.<device>.json`` after every part, the last one within nine minutes; a part
that fails leaves its error in there under ``errors``, and the others go on. Without a GPU it does nothing.

- tangents: k = 1 … 64 tangents through conv4, ResNet-12 and a small ViT at 25 examples.
- memory: peak against depth, 8 tangents and one backward pass.
- throughput: whole adaptations per second, batched over tasks by ``vmap``.
- latency: one whole adaptation (inner solution and head) eager, compiled, and replayed as a CUDA graph.
"""

import re
import time
from argparse import RawTextHelpFormatter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

import adapt
from adapt.adapter import FewShotAdapter
from adapt.adapter.problem import features_of, solve
from adapt.adapter.state import identity_state
from adapt.app.environment import environment
from adapt.backbones import call
from adapt.compare.measure import peak_megabytes, synchronise
from adapt.compare.statistics import ratio_interval
from adapt.files import write_json
from adapt.forward import pushforward
from adapt.heads import Logistic, one_hot
from adapt.inner import Descent
from adapt.spaces import Subspace, film
from adapt.tracking.git import git_state
from bench.lib.gpu_networks import deep_network, tangent_networks
from bench.lib.paths import RESULTS
from bench.lib.record import Row, form, options, table

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/heads", "adapt/inner", "adapt/spaces",
    "bench/lib/gpu_networks.py",
)  # fmt: skip
CLASSES, SHOTS = 5, 5
MINUTES = 8.0  # nothing is started later than this; what runs then has another minute

Work = Callable[[], object]
Adaptation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Make = Callable[[], Adaptation]


class Setting(NamedTuple):
    """Where and how much is measured; ``deadline`` on the clock of ``time.perf_counter``."""

    device: torch.device
    quick: bool
    deadline: float
    errors: dict[str, str]


# ---------------------------------------------------------------------------------------------- timing


def seconds_of(works: Mapping[str, Work], setting: Setting) -> dict[str, list[float]]:
    """Seconds by round, the device synchronised before and after; all in turn, each warmed up."""
    for work in works.values():
        for _ in range(1 if setting.quick else 3):
            work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    started = time.perf_counter()
    for n in range(2 if setting.quick else 50):
        if n >= 5 and time.perf_counter() - started > 8:
            break
        for name, work in works.items():
            synchronise(setting.device)
            before = time.perf_counter()
            work()
            synchronise(setting.device)
            taken[name].append(time.perf_counter() - before)
    return taken


def time_row(case: str, seconds: list[float]) -> Row:
    return Row.cost(case, "time/seconds", median(seconds), "s", n=len(seconds))


def ratio_row(case: str, metric: str, seconds: list[float], unit: list[float]) -> Row:
    """Median of the ratios by round, with a 95 % bootstrap interval."""
    found = ratio_interval(seconds, unit)
    note = found.between()
    return Row.cost(case, metric, found.ratio, "×", n=found.n, note=note)


# --------------------------------------------------------------------------------------------- tangents


def tangents(name: str, setting: Setting) -> Iterator[Row]:
    """k tangents relative to one tangent and to a forward pass."""
    backbone, x = tangent_networks(setting.quick)[name]
    backbone, x = backbone.to(setting.device).eval().requires_grad_(False), x.to(setting.device)
    space = film(backbone)
    drawn = torch.randn(space.size, 64, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(drawn).Q.to(setting.device)

    def forward() -> object:
        with torch.inference_mode():
            return backbone(x)

    def backprop() -> object:
        phi = space.initial.clone().requires_grad_(True)
        loss = call(backbone, space.parameters(phi), x).square().mean()
        return torch.autograd.grad(loss, phi)

    def forward_mode(k: int) -> object:
        subspace = Subspace(space, space.initial, basis[:, :k])
        z, identity = torch.zeros(k, device=x.device), torch.eye(k, device=x.device)
        with torch.no_grad():
            return pushforward(lambda z: call(backbone, subspace.parameters(z), x), z, identity)

    ks = (1, 2) if setting.quick else (1, 2, 4, 8, 16, 32, 64)
    works: dict[str, Work] = {"forward": forward, "backprop": backprop}
    works |= {f"k = {k}": partial(forward_mode, k) for k in ks}
    taken = seconds_of(works, setting)
    for which, seconds in taken.items():
        case = f"tangents: {name}, {which}"
        yield time_row(case, seconds)
        yield ratio_row(case, "cost/of_one_tangent", seconds, taken["k = 1"])
        yield ratio_row(case, "cost/of_forward", seconds, taken["forward"])


# ----------------------------------------------------------------------------------------------- memory


def memory(kind: str, setting: Setting) -> Iterator[Row]:
    """Peak memory of 8 tangents and of one backward pass against depth; scale and shift of every layer
    adapt."""
    for depth in (2, 4) if setting.quick else (4, 8, 16, 32, 64):
        network, initial = deep_network(kind, depth, CLASSES * SHOTS, setting.device)
        drawn = torch.randn(len(initial), 8, generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(drawn).Q.to(setting.device)

        def forward(network: Any = network, initial: Tensor = initial) -> object:
            with torch.inference_mode():
                return network(initial)

        def backprop(network: Any = network, initial: Tensor = initial) -> object:
            phi = initial.clone().requires_grad_(True)
            return torch.autograd.grad(network(phi).square().mean(), phi)

        def forward_mode(network: Any = network, initial: Tensor = initial, basis: Tensor = basis) -> object:
            z, identity = basis.new_zeros(8), torch.eye(8, device=basis.device)
            with torch.no_grad():
                return pushforward(lambda z: network(initial + basis @ z), z, identity)

        for which, work in {"forward": forward, "backprop": backprop, "k = 8": forward_mode}.items():
            work()  # libraries take their workspaces at the first call
            mib = peak_megabytes(work, setting.device) * 1e6 / 2**20
            case = f"memory: {kind}, depth {depth}, {which}"
            yield Row.cost(case, "memory/peak_mib", mib, "MiB")


# ----------------------------------------------------------------------------------- whole adaptations


def adapters(setting: Setting) -> dict[str, FewShotAdapter]:
    """The shipped adapter as it is, and with a backprop inner loop over all of its space."""
    ours = adapt.load("conv4_glyphs_film").to(setting.device)
    if setting.quick:
        ours = ours.replace(head=Logistic(steps=1))
    # As ``adapt.baselines.Backprop``, with the rate and steps that were chosen on validation tasks.
    everything = identity_state(ours.space, ours.state.origin)
    everything = everything._replace(log_sharpness=ours.state.log_sharpness)
    return {
        "forward": ours,
        "backprop": ours.replace(
            state=everything, solver=Descent("adam", 0.003, steps=1 if setting.quick else 3)
        ),
    }


def adaptation(adapter: FewShotAdapter) -> Adaptation:
    """What ``adapter.fit`` computes, as a pure function: ``(x, targets) → (z, state of the head)``."""

    def adapted(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            features = features_of(adapter.backbone, adapter.space, adapter.state, x)
            z, _ = solve(features, adapter.state, adapter.solver, targets, adapter.problem)
            return z, adapter.head.fit(features(z), targets)

    return adapted


def examples(setting: Setting, tasks: int) -> tuple[Tensor, Tensor]:
    """Images ``[tasks, 25, 1, 32, 32]`` and one-hot targets ``[25, 5]``."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(tasks, CLASSES * SHOTS, 1, 32, 32, generator=generator)
    labels = torch.arange(CLASSES).repeat_interleave(SHOTS)
    return x.to(setting.device), one_hot(labels, CLASSES, x.dtype).to(setting.device)


def throughput(setting: Setting) -> Iterator[Row]:
    """Adaptations per second, T tasks at once."""
    batched = {who: vmap(adaptation(adapter), (0, None)) for who, adapter in adapters(setting).items()}
    for tasks in (1, 2) if setting.quick else (1, 2, 4, 8, 16, 32, 64):
        x, targets = examples(setting, tasks)
        taken = seconds_of({who: partial(work, x, targets) for who, work in batched.items()}, setting)
        for who, seconds in taken.items():
            case = f"throughput: {who}, {tasks} tasks"
            yield Row(case, "throughput/tasks", tasks / median(seconds), "tasks/s", n=len(seconds))
        yield ratio_row(case, "cost/backprop_of_forward", taken["backprop"], taken["forward"])


@contextmanager
def unchecked() -> Iterator[None]:
    """``solve`` and ``one_hot`` without their checks (of singular systems, of labels), which wait for the
    device: neither compiled code nor a CUDA graph can. The solvers keep their systems regular."""
    with (
        patch.object(torch.linalg, "solve", lambda a, b: torch.linalg.solve_ex(a, b).result),
        patch.object(
            functional, "one_hot", lambda x, n: (x[..., None] == torch.arange(n, device=x.device)).long()
        ),
    ):
        yield


def graphed(work: Adaptation, x: Tensor, targets: Tensor) -> Adaptation:
    """``work`` recorded as a CUDA graph, with its inputs copied in at every call."""
    held_x, held_targets = x.clone(), targets.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work(held_x, held_targets)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work(held_x, held_targets)

    def replay(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        held_x.copy_(x)
        held_targets.copy_(targets)
        graph.replay()
        return result

    return replay


def ways(adapted: Adaptation, x: Tensor, targets: Tensor, setting: Setting) -> Iterator[tuple[str, Make]]:
    """Other ways to compute ``adapted``, by name, each as a function that prepares it."""

    @cache
    def traced() -> Adaptation:
        with unchecked():
            return make_fx(adapted)(x, targets)

    @cache
    def compiled() -> Adaptation:
        return traced() if setting.quick else torch.compile(traced())  # the compiler alone takes a minute

    yield "compiled", compiled
    if setting.device.type == "cuda":
        yield "CUDA graph", lambda: graphed(traced(), x, targets)
        yield "compiled, CUDA graph", lambda: graphed(compiled(), x, targets)


def prepared(make: Make, x: Tensor, targets: Tensor, expected: Tensor, setting: Setting) -> Work:
    """What ``make`` makes, proven to find the same z.

    Raises:
        RuntimeError: another z, or no time is left.
    """
    if time.perf_counter() > setting.deadline:
        raise RuntimeError("not started: no time was left")
    work = make()
    difference = float((work(x, targets)[0] - expected).abs().max() / expected.abs().max())
    if not difference < 0.05:  # convolutions in TF32 agree no better
        raise RuntimeError(f"its z differs by {difference:.2g} of the largest entry")
    return partial(work, x, targets)


def latency(setting: Setting) -> Iterator[Row]:
    """Seconds from 25 examples to an adapted classifier, one task."""
    x, targets = examples(setting, 1)
    x, labels = x[0], targets.argmax(1).tolist()
    works: dict[str, Work] = {}
    for who, adapter in adapters(setting).items():
        eager = adaptation(adapter)
        works[f"{who}, fit"] = partial(adapter.fit, x, labels)
        works[f"{who}, eager"] = partial(eager, x, targets)
        expected = eager(x, targets)[0]
        for way, make in ways(eager, x, targets, setting):
            case, started = f"latency: {who}, {way}", time.perf_counter()
            try:
                works[f"{who}, {way}"] = prepared(make, x, targets, expected, setting)
            except Exception as error:
                setting.errors[case] = f"{type(error).__name__}: {error}"
                continue
            once = time.perf_counter() - started
            yield Row.cost(case, "time/preparing", once, "s", n=1)
    taken = seconds_of(works, setting)
    for which, seconds in taken.items():
        yield time_row(f"latency: {which}", seconds)
        yield ratio_row(f"latency: {which}", "cost/of_fit", seconds, taken["forward, fit"])


# ------------------------------------------------------------------------------------------------- main


def parts() -> dict[str, Callable[[Setting], Iterator[Row]]]:
    """Everything that is measured, by name; what compiles comes last, since its time is hard to foresee."""
    return {
        **{f"tangents: {name}": partial(tangents, name) for name in ("conv4", "resnet12", "vit")},
        **{f"memory: {kind}": partial(memory, kind) for kind in ("mlp", "conv")},
        "throughput": throughput,
        "latency": latency,
    }


def run(setting: Setting, save: Callable[[list[Row]], None]) -> list[Row]:
    """All parts; the rows so far are saved after each."""
    rows: list[Row] = []
    for name, part in parts().items():
        started = time.perf_counter()
        if started > setting.deadline:
            setting.errors[name] = "not started: no time was left"
            continue
        try:
            for row in part(setting):  # one by one: what was measured before a failure stays
                rows.append(row)
        except Exception as error:
            setting.errors[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {time.perf_counter() - started:.1f} s {setting.errors.get(name, '')}", flush=True)
        save(rows)
    return rows


def main() -> None:
    parser = options(__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only with --quick")
    parser.add_argument("--commit", default=None, help="what is recorded where the copy has no .git")
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not arguments.quick:
        parser.error("--device cpu is for checking the code: add --quick")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("No GPU here: nothing was measured. (--device cpu --quick runs the same code in miniature.)")
        return
    device = torch.device(arguments.device)
    where, state = environment(device), git_state(RESULTS)
    where["versions"] |= {"cuda": torch.version.cuda}
    slug = "cpu" if device.type == "cpu" else re.sub(r"[^a-z0-9]+", "-", where["device"].lower()).strip("-")
    file = f"gpu.{slug}.quick.json" if arguments.quick else f"gpu.{slug}.json"
    path = (arguments.out or RESULTS) / file
    setting = Setting(device, arguments.quick, time.perf_counter() + 60 * MINUTES, {})

    def save(rows: list[Row]) -> None:
        commit = state[0] if state else arguments.commit
        write_json(path, form("gpu", rows, where, commit, errors=setting.errors))

    print(table(run(setting, save)))
    for name, error in setting.errors.items():
        print(f"FAILED {name}: {error}")
    print(path)


if __name__ == "__main__":
    main()
