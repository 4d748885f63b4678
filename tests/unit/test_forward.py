"""The forward-mode engine beyond its contract: odd shapes and dtypes, and errors that name the fault."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from adapt import AdaptError
from adapt.forward import pushforward


def test_no_tangents_still_give_the_value() -> None:
    value, columns = pushforward(lambda z: {"y": z * 2}, torch.ones(3), torch.zeros(0, 3))
    assert torch.equal(value["y"], torch.full((3,), 2.0))
    assert columns["y"].shape == (0, 3)


def test_a_constant_has_no_derivative() -> None:
    value, columns = pushforward(lambda z: torch.ones(2, 3), torch.ones(3), torch.eye(3))
    assert torch.equal(value, torch.ones(2, 3))
    assert torch.equal(columns, torch.zeros(3, 2, 3))


def test_a_step_function_of_the_point_takes_its_own_branch() -> None:
    _, columns = pushforward(torch.relu, torch.tensor([-1.0, 1.0]), torch.eye(2))
    assert torch.equal(columns, torch.diag(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_columns_have_the_dtype_of_the_value(dtype: torch.dtype) -> None:
    """Under vmap, torch makes float64 of a float32 number's tangent that meets a Python float."""
    z = torch.tensor([1.0, 2.0], dtype=dtype)
    for f in (lambda z: 0.5 * (z * z).sum(), lambda z: (z.sum() + 1.0) * z.sum() / 3.0):
        value, columns = pushforward(f, z, torch.eye(2, dtype=dtype))
        assert value.dtype == columns.dtype == dtype


def test_the_function_runs_once_for_all_tangents() -> None:
    calls = 0

    def f(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return z.square()

    pushforward(f, torch.ones(5), torch.eye(5))
    assert calls == 1


def test_no_grad_around_it_does_not_stop_tangents() -> None:
    """Adapting runs under ``no_grad``."""
    with torch.no_grad():
        _, columns = pushforward(torch.square, torch.tensor([3.0]), torch.ones(1, 1))
    assert columns.item() == 6


@pytest.mark.parametrize(
    ("x", "tangents", "message"),
    [
        (
            torch.zeros(3),
            torch.zeros(2, 4),
            r"shape \(2, 4\) do not fit x of shape \(3,\): expected \[k, 3\]",
        ),
        (torch.zeros(3), torch.zeros(3), r"expected \[k, 3\]"),
        (torch.zeros(3), torch.zeros(2, 3).double(), r"float64 but x is torch.float32.*convert one"),
        ({"a": torch.zeros(3)}, {"b": torch.zeros(2, 3)}, r"structure .* stack one\s+tangent per leaf"),
        ((torch.zeros(3),), torch.zeros(2, 3), r"structure"),
    ],
)
def test_errors_name_the_fault(x: Any, tangents: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        pushforward(lambda p: p, x, tangents)


def test_values_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(AdaptError, match=r"returns None \(NoneType\) among its values: return tensors only"):
        pushforward(lambda z: (z * 2, None), torch.ones(2), torch.eye(2))


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(AdaptError, match=r"engine='quick' is not known: choose fast, reference, compiled"):
        pushforward(torch.sin, torch.ones(2), torch.eye(2), engine="quick")  # type: ignore[arg-type]


def test_the_reference_through_a_layer_norm_can_be_differentiated_again() -> None:
    """Torch's own derivative of its forward derivative takes mean and deviation for constants."""
    x, tangents = torch.randn(2, 5, dtype=torch.float64), torch.randn(1, 2, 5, dtype=torch.float64)

    def columns(x: Tensor) -> Tensor:
        return pushforward(lambda u: layer_norm(u, (5,)), x, tangents, engine="reference")[1]

    assert torch.autograd.gradcheck(columns, x.requires_grad_(True))


def test_inference_mode_around_it_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fast engine does it by itself. (The package exports the function under the module's name.)
    monkeypatch.setattr(sys.modules["adapt.forward.pushforward"], "reference", None)
    with torch.inference_mode():
        x = torch.tensor([3.0])
        _, columns = pushforward(torch.square, x, torch.ones(1, 1))
    assert columns.item() == 6


def test_a_complex_number_has_no_rules_and_goes_to_the_reference() -> None:
    x, tangents = torch.tensor([2.0, -1.0]), torch.eye(2)
    _, columns = pushforward(lambda u: (u * 1j).abs(), x, tangents)
    assert torch.allclose(columns, torch.diag(x.sign()))
