"""The frozen part of a network is computed once per task, for every solver, and changes no result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from adapt.adapter import FewShotAdapter, initial_state
from adapt.adapter.problem import features_of, solve
from adapt.backbones import Conv4, FrozenPrefix, require
from adapt.compare.measure import peak_megabytes
from adapt.forward import pushforward
from adapt.forward.estimators import Exact, Gaussian
from adapt.heads import one_hot
from adapt.inner import Auto, Descent, GaussNewton, Linearised, Solver
from adapt.spaces import film
from tests.helpers import SIDE, make_adapter, randomised


class Operations(TorchDispatchMode):
    """Counts what is really computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def adapter_of_last_layers() -> FewShotAdapter:
    backbone = randomised(Conv4(width=4))
    adapter = make_adapter(backbone)
    space = film(backbone, skip=3)
    generator = torch.Generator().manual_seed(1)
    basis = 0.3 * torch.randn(space.size, 2, generator=generator)
    return adapter.replace(space=space, state=initial_state(space.initial.clone(), basis))


SOLVERS: dict[str, Solver] = {
    "gauss_newton": GaussNewton(steps=3),
    "linearised": Linearised(),
    "auto": Auto(),
    "backprop": Descent(steps=3),
    "forward gradients": Descent(steps=3, gradient=Exact()),
    "random tangents": Descent(steps=3, gradient=Gaussian(tangents=2)),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_frozen_layers_run_once_per_task(solver: Solver) -> None:
    adapter = adapter_of_last_layers().replace(solver=solver)
    x, y = torch.rand(6, 1, SIDE, SIDE), [0, 0, 1, 1, 2, 2]
    with Operations() as operations:
        adapter.fit(x, y)
    # Three frozen blocks and the convolution before the adapted norm; pooling of the fourth block each time.
    assert operations.count["max_pool2d_with_indices"] >= 3 + 2
    assert operations.count["convolution"] == 4


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_results_are_those_of_plain_evaluations(solver: Solver) -> None:
    adapter = adapter_of_last_layers()
    x, y = torch.rand(6, 1, SIDE, SIDE), one_hot(torch.tensor([0, 0, 1, 1, 2, 2]), 3)

    def plainly(z: Tensor) -> Tensor:
        parameters = adapter.space.parameters(adapter.state.origin + adapter.state.basis @ z)
        return functional_call(adapter.backbone, parameters, (x,))

    with torch.no_grad():
        features = features_of(adapter.backbone, adapter.space, adapter.state, x)
        z, trace = solve(features, adapter.state, solver, y, adapter.problem)
        expected, expected_trace = solve(plainly, adapter.state, solver, y, adapter.problem)
    assert torch.equal(z, expected)
    assert torch.equal(trace.losses, expected_trace.losses)
    assert torch.equal(features(z), plainly(z))


def test_only_what_adapted_layers_read_is_kept() -> None:
    adapter = adapter_of_last_layers()
    x = torch.rand(6, 1, SIDE, SIDE)
    prefix = FrozenPrefix(adapter.backbone, x)
    prefix(adapter.space.parameters(adapter.space.initial))
    kept = [
        leaf
        for _, result in prefix._record._results
        for leaf in (result if isinstance(result, tuple) else (result,))
        if isinstance(leaf, Tensor) and not leaf.is_meta
    ]
    # The output of the last convolution, and the norm's frozen statistics in the shape it reads them.
    assert sum(leaf.numel() for leaf in kept) <= 6 * 4 * 4 + 3 * 4


@pytest.mark.parametrize("engine", ["plain", "fast", "reference"])
def test_the_first_evaluation_of_a_deep_frozen_part_needs_no_more_memory(engine: Any) -> None:
    x = torch.rand(4, 8, 32, 32)
    activation = 4 * x.numel() / 1e6

    def peak(depth: int) -> float:
        layers = [part for _ in range(depth) for part in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
        net = nn.Sequential(*layers, nn.AvgPool2d(8), nn.Conv2d(8, 8, 1)).requires_grad_(False)
        bias = f"{len(net) - 1}.bias"

        def first() -> None:
            prefix = FrozenPrefix(net, x)
            if engine == "plain":
                prefix({bias: torch.ones(8)})
            else:
                f = lambda z: prefix({bias: z.expand(8)})  # noqa: E731
                pushforward(f, torch.zeros(1), torch.eye(1), engine=engine)

        with torch.no_grad():
            first()
            return peak_megabytes(first, x.device)

    assert peak(16) < peak(4) + activation / 2


def test_a_network_without_adapted_layers_runs_once() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    prefix = FrozenPrefix(net, torch.rand(1, 1, 8, 8))
    with Operations() as operations, torch.no_grad():
        first, second = prefix({}), prefix({})
    assert operations.count["convolution"] == 1
    assert torch.equal(first, second)


class Branching(nn.Module):
    """Takes another way, through frozen layers, when the adapted bias is large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.other = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        moved = h + self.second.bias
        return moved @ (self.other.weight.T if moved.detach().sum() > 50 else self.other.weight)


class WritesInPlace(nn.Module):
    """An adapted value is added into a frozen activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h += self.second.bias
        return h.relu_()


class WritesOut(nn.Module):
    """An adapted value is written, by ``out=``, into frozen memory that adapted layers have read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        memory = torch.zeros_like(x)
        start = self.second.bias + memory
        return start + torch.add(self.first(x), self.second.bias, out=memory)


@pytest.mark.parametrize("build", [Branching, WritesInPlace, WritesOut])
def test_networks_that_do_not_repeat_themselves_are_computed_plainly(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = build().requires_grad_(False), torch.rand(2, 3)
    prefix = FrozenPrefix(net, x)
    for bias in (0.0, 100.0, 0.0, -1.0):
        parameters = {"second.bias": torch.full((3,), bias)}
        assert torch.equal(prefix(parameters), functional_call(net, parameters, (x,)))


class ReadsThenWrites(nn.Module):
    """A frozen activation is changed in place, by itself or through a view, after an adapted layer has read
    it."""

    def __init__(self, view: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.view = nn.Linear(3, 3), nn.Linear(3, 3), view

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        before = h + self.second.bias
        (h[0] if self.view else h).mul_(2)
        return before * (h + self.second.bias)


class Remembers(nn.Module):
    """A frozen activation is computed in the first evaluation only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.cache is None:
            self.cache = self.first(x)
        return self.second(self.cache.contiguous()) + self.cache


class Temporaries(nn.Module):
    """So many short-lived tensors that their memory and ids are used again, some of them read by adapted
    layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        total = self.second.bias.expand(2, 3)
        for i in range(300):
            h = self.first(x).sin().add(i).cos()
            if i % 7 == 0:
                total = total + h * self.second.bias
            del h
        return total


class SameAndSeveral(nn.Module):
    """Results that are an operand or its views, several at a time, named, sparse, no tensor, or x itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.dropout = nn.Linear(3, 6), nn.Linear(3, 3), nn.Dropout()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        same = self.dropout(h.contiguous().to(torch.float32))
        assert same is h
        left, right = same.chunk(2, -1)
        highest = right.max(-1, keepdim=True)
        rows, columns = left.shape
        both = [*h.unbind(0)]
        frozen = (x.contiguous() * rows + highest.values * columns).relu_()
        sparse = torch.eye(3).to_sparse()
        moved = left * self.second.bias + frozen + both[1][highest.indices] + sparse.coalesce().to_dense()[:2]
        return self.second(moved) + x + right.clone().detach() + self.second.weight.contiguous()[:2]


AWKWARD = {
    "branching": Branching,
    "writes in place": WritesInPlace,
    "reads, then writes": ReadsThenWrites,
    "reads, then writes to a view": lambda: ReadsThenWrites(view=True),
    "remembers": Remembers,
    "temporaries": Temporaries,
    "same and several": SameAndSeveral,
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("build", AWKWARD.values(), ids=AWKWARD.keys())
def test_replayed_values_are_those_of_plain_evaluations(build: Callable[[], nn.Module], mode: Any) -> None:
    torch.manual_seed(0)
    net, x = build().requires_grad_(False), torch.rand(2, 3)
    prefix = FrozenPrefix(net, x)
    with mode():
        for bias in (0.5, 100.0, 0.5, -1.0, 0.0):
            parameters = {"second.bias": torch.full((3,), bias)}
            assert torch.equal(prefix(parameters), functional_call(net, parameters, (x,)))


@pytest.mark.parametrize("build", [Temporaries, SameAndSeveral, ReadsThenWrites])
def test_replayed_derivatives_are_those_of_plain_evaluations(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = build().requires_grad_(False), torch.rand(2, 3)
    prefix, z = FrozenPrefix(net, x), torch.rand(3)

    def plainly(z: Tensor) -> Tensor:
        return functional_call(net, {"second.bias": z}, (x,)).square().sum()

    def replayed(z: Tensor) -> Tensor:
        return prefix({"second.bias": z}).square().sum()

    for _ in range(2):
        assert torch.allclose(torch.func.grad(replayed)(z), torch.func.grad(plainly)(z))
        value, columns = pushforward(replayed, z, torch.eye(3), engine="fast")
        assert torch.allclose(value, plainly(z))
        assert torch.allclose(columns, torch.func.grad(plainly)(z), rtol=1e-4)
        points = torch.stack([z, -z])
        assert torch.allclose(torch.func.vmap(replayed)(points), torch.func.vmap(plainly)(points))


def test_results_that_are_their_operands_do_not_stop_the_replay() -> None:
    net, x = SameAndSeveral().requires_grad_(False), torch.rand(2, 3)
    prefix = FrozenPrefix(net, x)
    with Operations() as operations, torch.no_grad():
        for bias in (0.0, 1.0, 2.0):
            prefix({"second.bias": torch.full((3,), bias)})
    assert operations.count["max"] == operations.count["relu_"] == 1


def test_features_can_be_saved_and_parameters_bear_nothing(tmp_path: Path) -> None:
    net, x = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Flatten(0, 0)).eval(), torch.ones(2)
    features = FrozenPrefix(net, x)({})
    torch.save(features.detach(), tmp_path / "features.pt")
    torch.save(features, tmp_path / "features.pt")
    assert torch.equal(torch.load(tmp_path / "features.pt", weights_only=True), features)
    assert not any(vars(tensor) for tensor in (x, features, *net.parameters()))


def test_a_result_changed_by_the_caller_is_computed_again() -> None:
    net, x = nn.Linear(2, 2).requires_grad_(False), torch.ones(1, 2)
    prefix = FrozenPrefix(net, x)
    prefix({}).zero_()
    assert torch.equal(prefix({}), net(x))


def test_an_error_in_the_network_leaves_nothing_behind() -> None:
    net, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), torch.rand(1, 2)
    prefix = FrozenPrefix(net, x)
    with pytest.raises(RuntimeError, match="expanded size"):
        prefix({"1.bias": torch.zeros(7)})
    parameters = {"1.bias": torch.ones(2)}
    assert torch.equal(prefix(parameters), functional_call(net, parameters, (x,)))


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_vision_transformer_computes_its_first_block_once(engine: Any) -> None:
    timm = require("timm")
    torch.manual_seed(0)
    net = timm.models.vision_transformer.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0
    )
    net.eval().requires_grad_(False)
    x, weight = torch.rand(2, 3, 16, 16), net.blocks[1].norm1.weight
    u = torch.randn(16, 3)
    prefix = FrozenPrefix(net, x)

    def f(z: Tensor) -> Tensor:
        return prefix({"blocks.1.norm1.weight": weight + u @ z})

    with Operations() as operations, torch.no_grad():
        value, columns = pushforward(f, torch.zeros(3), torch.eye(3), engine=engine)
        again = f(torch.zeros(3))
    assert operations.count["convolution"] == 1
    assert torch.allclose(again, net(x), atol=1e-6)
    expected = pushforward(
        lambda z: functional_call(net, {"blocks.1.norm1.weight": weight + u @ z}, (x,)),
        torch.zeros(3),
        torch.eye(3),
        engine="reference",
    )
    assert torch.allclose(value, expected[0], atol=1e-6)
    assert torch.allclose(columns, expected[1], atol=1e-6)
