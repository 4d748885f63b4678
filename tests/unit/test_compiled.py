"""The compiled pushforward: equal to the reference where it runs, a clear refusal where it would be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from adapt import AdaptError
from adapt.adapter import FewShotAdapter
from adapt.forward import compiled as module
from adapt.forward import pushforward
from adapt.inner import GaussNewton, Model, SquaredError, plain
from tests.helpers import distance, randomised
from tests.networks import NETWORKS, problem

pytestmark = pytest.mark.slow  # the compiler takes some ten seconds for each


def transformer() -> nn.Module:
    """Two blocks with layer norms, of which the second block's are frozen, and attention."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    return randomised(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def test_frozen_layer_norms_and_attention() -> None:
    network, x = transformer(), torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    start = {key: value for key, value in network.named_parameters() if key.startswith("layers.0.norm")}
    u = {key: 0.1 * torch.randn(*value.shape, 3) for key, value in start.items()}

    def f(z: Tensor) -> Tensor:
        return functional_call(network, {key: value + u[key] @ z for key, value in start.items()}, (x,))

    z, tangents = torch.full((3,), 0.1), torch.eye(3)
    with torch.no_grad():
        value, columns = pushforward(f, z, tangents, engine="compiled")
    expected, expected_columns = pushforward(f, z, tangents, engine="reference")
    assert distance(value, expected) <= 1e-5
    assert distance(columns, expected_columns) <= 1e-5


def test_another_task_reuses_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(x: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda z: torch.tanh(x * z).sum(1)

    passes = 0
    reference = module.reference

    def counted(*args: Any) -> Any:
        nonlocal passes
        passes += 1
        return reference(*args)

    monkeypatch.setattr(module, "reference", counted)
    with torch.no_grad():
        for seed in range(3):
            x = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
            value, columns = pushforward(task(x), torch.ones(2), torch.eye(2), engine="compiled")
            assert torch.allclose(value, torch.tanh(x).sum(1), atol=1e-6)
            assert torch.allclose(columns, (x / torch.cosh(x) ** 2).T, atol=1e-6)
    assert passes == 1  # only new code is held against the reference


class Tripled(torch.autograd.Function):
    """The identity, with a derivative of its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * g

    @staticmethod
    def jvp(ctx: Any, t: Tensor) -> Tensor:
        return 3 * t


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own doing
def test_a_wrong_derivative_is_noticed() -> None:
    """Torch's compiler ignores a jvp of one's own, silently."""
    with torch.no_grad(), pytest.raises(AdaptError, match=r"derivative .* wrong.*engine='fast'"):
        pushforward(Tripled.apply, torch.ones(2), torch.eye(2), engine="compiled")


class Scaled(nn.Module):
    """x ⊙ w, before or after a function whose forward computes the identity."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(2)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.weight)


def solved(function: Callable[[Tensor], Tensor], shift: float = 0.0) -> Tensor:
    """z after one step of a solver, whose f is always a ``Model``."""
    network, x = Scaled(function), torch.tensor([[1.0, 2.0], [3.0, 4.0]]) + shift

    def features(z: Tensor) -> Tensor:
        return functional_call(network, {"weight": 1 + z}, (x,))

    with torch.no_grad():
        z, _ = GaussNewton(engine="compiled")(
            Model(features, lambda there, _: there, lambda *seen: seen),
            2 * x,
            SquaredError(),
            plain(torch.zeros(2)),
        )
    return z


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_right_model_does_not_vouch_for_a_wrong_one_nor_does_a_second_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BACKEND", "aot_eager")
    assert torch.allclose(solved(torch.clone), torch.ones(2), atol=1e-5)
    for shift in (0.0, 1.0):  # of the same shapes; the second time the code is there
        with pytest.raises(AdaptError, match=r"derivative .* wrong.*engine='fast'"):
            solved(Tripled.apply, shift)
    assert torch.allclose(solved(torch.clone), torch.ones(2), atol=1e-5)


def test_what_the_function_itself_raises_comes_out_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKEND", "aot_eager")
    with torch.no_grad(), pytest.raises(RuntimeError, match="invalid for input of size 2"):
        pushforward(lambda z: z.view(7), torch.ones(2), torch.eye(2), engine="compiled")


def test_what_cannot_be_traced_is_refused() -> None:
    def f(z: Tensor) -> Tensor:
        return z * 2 if float(z.sum()) > 0 else z

    with torch.no_grad(), pytest.raises(AdaptError, match=r"torch\.compile cannot compile .*engine='fast'"):
        pushforward(f, torch.ones(2), torch.eye(2), engine="compiled")


def test_where_compiled_code_cannot_run_it_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("compiled")

    monkeypatch.setattr(module, "_push", never)
    points, tangents = torch.randn(3, 2), torch.eye(2)
    _, columns = torch.func.vmap(lambda z: pushforward(torch.sin, z, tangents, engine="compiled"))(points)
    assert torch.allclose(columns, torch.diag_embed(points.cos()), atol=1e-6)
    z = points[0].clone().requires_grad_(True)
    _, columns = pushforward(torch.sin, z, tangents, engine="compiled")
    (second,) = torch.autograd.grad(columns.sum(), z)
    assert torch.allclose(second, -z.sin(), atol=1e-6)


def test_an_adapter_adapts_by_compiled_code(adapter: FewShotAdapter, support: Any) -> None:
    expected = adapter.fit(*support)
    task = adapter.replace(solver=GaussNewton(engine="compiled")).fit(*support)
    assert torch.allclose(task.z, expected.z, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_traced_and_decomposed_rightly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the compiler but the last step, writing code for the processor, which takes minutes here. In
    double precision, where a wrong decomposition cannot pass for rounding; it is the same in single."""
    monkeypatch.setattr(module, "BACKEND", "aot_eager")
    p = problem(name, "last third", torch.float64)
    arguments = (lambda z: p.f(z, p.basis, p.x)), p.z, torch.eye(len(p.z), dtype=torch.float64)
    with torch.no_grad():
        results = pushforward(*arguments, engine="compiled")
    for ours, theirs in zip(results, pushforward(*arguments, engine="reference"), strict=True):
        assert distance(ours, theirs) <= 1e-10
