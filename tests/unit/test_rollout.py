"""A vector field followed through time: against matrix exponentials, and by what it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import adapt
from adapt.adapter import FewShotAdapter
from adapt.backbones import Mlp, Rollout, load_backbone
from adapt.compare.measure import count_flops
from adapt.errors import AdaptError
from adapt.forward import pushforward
from adapt.inner import GaussNewton


class Linear(nn.Module):
    """A s, and B u."""

    def __init__(self, a: torch.Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] @ self.a.T + (x[:, 2:] if x.shape[1] > 2 else 0)


TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


def test_a_linear_field_turns_as_its_exponential_does() -> None:
    begin = torch.tensor([[1.0, 0.0], [0.3, -2.0]], dtype=torch.float64)
    path = Rollout(Linear(TURN), 2, 8, 0.4, substeps=20)(begin).reshape(2, 8, 2)
    for t in range(8):
        exact = begin @ torch.linalg.matrix_exp(0.4 * (t + 1) * TURN).T
        assert torch.allclose(path[:, t], exact, atol=1e-7)


def test_a_single_step_is_kuttas() -> None:
    h = torch.tensor(0.5, dtype=torch.float64)
    step = sum(
        torch.linalg.matrix_power(h * TURN, n) / math.factorial(n) for n in range(5)
    )  # Taylor, order 4
    begin = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert torch.allclose(Rollout(Linear(TURN), 2, 1, 0.5)(begin), begin @ step.T, atol=1e-12)


def test_controls_are_held_over_their_interval() -> None:
    still = Linear(torch.zeros(2, 2, dtype=torch.float64))
    x = torch.tensor([[0.0, 0.0, 1.0, 2.0, -1.0, 0.0]], dtype=torch.float64)  # two intervals of two controls
    path = Rollout(still, 2, 2, 0.5, controls=2)(x)
    assert torch.allclose(path, torch.tensor([[0.5, 1.0, 0.0, 1.0]], dtype=torch.float64))


def test_angles_are_seen_by_sine_and_cosine() -> None:
    rollout = Rollout(Mlp((4, 8, 2), "tanh"), 2, 3, 0.1, controls=1, angles=(0,))
    x = torch.tensor([[0.4, 1.0, 0.1, 0.2, 0.3]])
    around = x + torch.tensor([[2 * math.pi, 0, 0, 0, 0]])
    turned = torch.tensor([2 * math.pi, 0.0]).repeat(3)
    assert torch.allclose(rollout(around), rollout(x) + turned, atol=1e-5)


def test_tangents_go_through_time_and_take_no_more_memory_for_it() -> None:
    from adapt.compare.measure import peak_megabytes

    peaks = []
    for points in (5, 500):
        rollout = load_backbone("rollout:2-16-2:tanh", points=points, interval=0.01)[0]
        weight, x = rollout.field.layers[2].bias, torch.ones(1, 2)

        def path(z: torch.Tensor, rollout: nn.Module = rollout, x: torch.Tensor = x) -> torch.Tensor:
            return torch.func.functional_call(rollout, {"field.layers.2.bias": z}, (x,))

        columns = pushforward(path, weight.detach(), torch.eye(2))[1]
        assert columns.shape == (2, 1, 2 * points)
        if points == 5:
            jacobian = torch.func.jacrev(path)(weight.detach())
            assert torch.allclose(columns, jacobian.movedim(-1, 0), atol=1e-6)
        with torch.no_grad():
            work = lambda path=path, w=weight: pushforward(path, w.detach(), torch.eye(2))  # noqa: E731
            peaks.append(
                peak_megabytes(work, torch.device("cpu")) - 4e-6 * 3 * 3 * 2 * points
            )  # beside the result
    assert peaks[1] < 2 * peaks[0] + 0.02


def test_a_saved_adapter_names_its_rollout(tmp_path: Path) -> None:
    network, info = load_backbone("rollout:2-8-2:tanh", points=3, interval=0.5, substeps=2)
    assert info.input_shape == (2,)
    x, y = torch.rand(4, 2), torch.rand(4, 6)
    adapter = FewShotAdapter.of(network, regression=True)
    adapter.save_pretrained(tmp_path / "a")
    again = adapt.load(tmp_path / "a")
    assert torch.equal(
        torch.as_tensor(again.fit(x, y).predict(x)), torch.as_tensor(adapter.fit(x, y).predict(x))
    )


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("2-8-2:tanh", {"points": 3, "interval": 0.5, "controls": 1}, "the field takes 2 numbers"),
        ("2-8-2:tanh", {"points": 3, "interval": 0.5, "angles": [2]}, "angles"),
        ("2-8-2:tanh", {"points": 0, "interval": 0.5}, "points"),
        ("2-8-2:tanh", {"points": 3, "interval": -1.0}, "interval"),
        ("2-x-2", {"points": 3, "interval": 1.0}, "write the layers' sizes as in rollout:"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, settings: dict[str, object], said: str) -> None:
    with pytest.raises(AdaptError, match=said):
        load_backbone(f"rollout:{name}", **settings)


def test_an_example_of_another_width_is_refused() -> None:
    with pytest.raises(AdaptError, match="2 states with 1 controls for each of 3 intervals are 5"):
        Rollout(Mlp((3, 4, 2)), 2, 3, 0.5, controls=1)(torch.ones(1, 4))


def test_tensors_that_no_direction_moves_carry_no_tangents() -> None:
    adapter = adapt.load("rollout_lotka_volterra").replace(solver=GaussNewton(steps=2))
    k, moved = adapter.state.k, "field.layers.4."
    x, y = torch.ones(1, 2), torch.ones(1, 38)
    with torch.no_grad():
        ratio = count_flops(lambda: adapter.fit(x, y)) / count_flops(lambda: adapter.backbone(x))
        # Two steps of 1 + k passes, of which the tangents skip what lies before the last layer but for the
        # state, and a pass at the end.
        assert ratio < 2 * (1 + k) + 3  # 19 with them
        elsewhere = adapter.state.basis.clone()
        elsewhere[0] = 1e-30  # moves, though by nothing: all of it is carried along
        other = adapter.replace(state=adapter.state._replace(basis=elsewhere))
        assert count_flops(lambda: other.fit(x, y)) > count_flops(lambda: adapter.fit(x, y))
        assert torch.allclose(other.fit(x, y).z, adapter.fit(x, y).z, atol=1e-5)
    rows = adapter.state.basis.any(1).split([value.numel() for value in adapter.backbone.parameters()])
    names = [name for name, _ in adapter.backbone.named_parameters()]
    assert [name for name, row in zip(names, rows, strict=True) if row.any()] == [
        f"{moved}weight",
        f"{moved}bias",
    ]


def test_an_angle_is_named_once() -> None:
    with pytest.raises(AdaptError, match="names a state twice"):
        load_backbone("rollout:4-8-2", points=5, interval=0.1, angles=[0, 0])
