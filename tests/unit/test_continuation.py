"""Continuation over the horizon: it finds what the whole trajectory at once does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.inner import Continuation, CrossEntropy, GaussNewton, SquaredError, plain

TIME = torch.linspace(0.1, 10, 50)
LOOSE = plain(torch.full((1,), 1e-6))


def wave(z: Tensor) -> Tensor:
    return (1 + z[0]).mul(TIME).sin()[None]


def test_a_frequency_is_found_from_the_beginning_and_not_from_the_whole() -> None:
    targets = wave(torch.tensor([0.9]))
    z, trace = Continuation((0.1, 0.4, 1.0), (3, 3, 3))(wave, targets, SquaredError(), LOOSE)
    assert torch.allclose(z, torch.tensor([0.9]), atol=1e-3)
    at_once, _ = GaussNewton(steps=9)(wave, targets, SquaredError(), LOOSE)
    assert (at_once - 0.9).abs() > 0.1
    # The losses that are told are of the whole: the guard compares them with the end.
    assert len(trace.losses) == 9
    assert torch.allclose(trace.losses[0], SquaredError().value(wave(torch.zeros(1)), targets))
    assert trace.curvature is not None and trace.prior is not None


def test_with_a_single_share_it_is_gauss_newton() -> None:
    targets = wave(torch.tensor([0.05]))
    z, trace = Continuation((1.0,), (4,))(wave, targets, SquaredError(), LOOSE)
    other, same = GaussNewton(steps=4)(wave, targets, SquaredError(), LOOSE)
    assert torch.equal(z, other) and torch.allclose(trace.losses, same.losses)
    assert trace.forward_equivalents == same.forward_equivalents


def test_classes_have_no_order_of_time() -> None:
    outputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    model, targets, learned = lambda z: z[0] * outputs, torch.eye(2), plain(torch.ones(1))
    z, _ = Continuation((0.5, 1.0), (4, 4))(model, targets, CrossEntropy(), learned)
    assert torch.allclose(z, GaussNewton(steps=9)(model, targets, CrossEntropy(), learned)[0], atol=1e-5)


def test_every_step_can_be_looked_at() -> None:
    shown: list[Tensor] = []
    solver = Continuation((0.1, 1.0), (2, 2))
    solver(wave, wave(torch.tensor([0.2])), SquaredError(), LOOSE, on_step=shown.append)
    assert solver.stepwise and len(shown) == 3


@pytest.mark.parametrize(
    ("shares", "steps"),
    [((0.5,), (1,)), ((0.5, 0.2, 1.0), (1, 1, 1)), ((0.5, 1.0), (1,)), ((0.0, 1.0), (1, 1)), ((1.0,), (-1,))],
)
def test_shares_that_do_not_grow_to_one_are_refused(
    shares: tuple[float, ...], steps: tuple[int, ...]
) -> None:
    with pytest.raises(AdaptError, match=r"inner\.(shares|steps)"):
        Continuation(shares, steps)


def far(z: Tensor) -> Tensor:
    """The same four times: what share of it is looked at cannot matter."""
    return torch.atan(z + 2).expand(4)[None]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_that_does_not_help_is_taken_back_at_the_next_share(steps: int) -> None:
    solver = Continuation((0.25, 0.5, 0.75, 1.0), (steps,) * 4)
    z, trace = solver(far, torch.zeros(1, 4), SquaredError(), LOOSE)
    assert z.abs() < 2 and trace.losses[-1] < trace.losses[0]
    assert trace.forward_equivalents == 4 * steps * 2


def test_what_is_no_number_is_taken_back() -> None:
    def edge(z: Tensor) -> Tensor:  # of which the second is no number beyond 0.9
        first = torch.atan(3 * z)
        return torch.cat([first, first * (0.9 - z).sqrt() / (0.9 - z).sqrt()])[None]

    _, trace = Continuation((0.5, 1.0), (1, 6))(edge, torch.tensor([[3.0, 1.0]]), SquaredError(), LOOSE)
    assert torch.isfinite(trace.losses).sum() >= 3 and trace.losses[torch.isfinite(trace.losses)].min() < 2


def test_shares_are_a_list() -> None:
    for shares in (1.0, 0.5, 1, ()):
        with pytest.raises(AdaptError, match=r"inner\.shares"):
            Continuation(shares=shares, steps=())  # type: ignore[arg-type]
