"""Backprop with few examples at a time: the same gradients, from the memory of a part."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from adapt.adapter import Context, FewShotAdapter, Support, initial_state
from adapt.adapter.problem import features_of
from adapt.baselines import Backprop
from adapt.compare.measure import peak_megabytes
from adapt.errors import AdaptError
from adapt.forward.estimators import Exact
from adapt.heads import Ridge
from adapt.inner import Descent
from adapt.spaces import Space, full, named

SIDE, EXAMPLES = 24, 12


def network() -> nn.Module:
    """Six blocks of two convolutions, and a mean over places."""
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.ELU())
        for _ in range(6)
    ]
    whole = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval().requires_grad_(False)
    for parameter in whole.parameters():
        parameter.mul_(2.0)  # torch's own initial weights let features of twelve layers all but vanish
    return whole


def task(space: Space, backbone: nn.Module) -> tuple[Context, Support]:
    x = torch.randn(EXAMPLES, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    basis = torch.randn(space.size, 3, generator=torch.Generator().manual_seed(2)) / 10
    adapter = FewShotAdapter(backbone, space, initial_state(space.initial, basis))
    return Context(backbone, adapter), Support(x, torch.arange(EXAMPLES) % 3, ("a", "b", "c"))


def logits(method: Backprop, context: Context, support: Support) -> Tensor:
    with torch.no_grad():
        return method.prepare(context)(support, lambda _: None)(support.x)


@pytest.mark.parametrize("adapted", ["all", "the last blocks"])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("rows", [1, 5, EXAMPLES])
def test_rows_do_not_change_backprop(rows: int, checkpoint: bool, adapted: str) -> None:
    """Five leave a rest of two; where the first blocks are frozen, they are computed once."""
    backbone = network()
    names = [name for name, _ in backbone.named_parameters()]
    space = full(backbone) if adapted == "all" else named("late", backbone, names[-8:])
    context, support = task(space, backbone)
    start, whole = (
        logits(Backprop(Descent("sgd", lr=0.01, steps=n), Ridge()), context, support) for n in (0, 3)
    )
    assert (whole - start).abs().max() > 1e-2, "the steps move something"
    few = Backprop(Descent("sgd", lr=0.01, steps=3), Ridge(), checkpoint=checkpoint, rows=rows)
    torch.testing.assert_close(logits(few, context, support), whole, atol=1e-5, rtol=1e-4)


def test_rows_do_not_change_backprop_in_the_subspace() -> None:
    backbone = network()
    context, support = task(full(backbone), backbone)
    solver = Descent("adam", lr=0.1, steps=3)
    expected = logits(Backprop(solver, Ridge(), subspace=True), context, support)
    found = logits(Backprop(solver, Ridge(), subspace=True, rows=5), context, support)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_few_examples_at_a_time_need_the_memory_of_a_part(checkpoint: bool) -> None:
    """A twelfth of the activations at the peak, beside weights and their gradients, which do not shrink."""
    backbone = network()
    context, support = task(full(backbone), backbone)
    peaks = []
    for rows in (None, 1):
        method = Backprop(Descent("sgd", lr=1e-3, steps=2), Ridge(), checkpoint=checkpoint, rows=rows)
        adapt = method.prepare(context)
        peaks.append(peak_megabytes(partial(adapt, support, lambda _: None), torch.device("cpu")))
    assert peaks[1] < 0.25 * peaks[0]


def test_the_tape_keeps_features_of_a_part_only() -> None:
    """Gradients through ``features_of`` with rows equal those without, by the tape and by ``torch.func``."""
    backbone = network()
    context, support = task(full(backbone), backbone)
    space, state = context.adapter.space, context.adapter.state
    weights = torch.randn(EXAMPLES, 32, generator=torch.Generator().manual_seed(3))
    gradients = []
    for rows, transform in ((None, False), (5, False), (5, True)):
        features = features_of(backbone, space, state, support.x, rows)

        def loss(z: Tensor, features: Callable[[Tensor], Tensor] = features) -> Tensor:
            return (features(z) * weights).sum()

        z = torch.full((3,), 0.1)
        if transform:
            gradients.append(torch.func.grad(loss)(z))
        else:
            z.requires_grad_(True)
            gradients.append(torch.autograd.grad(loss(z), z)[0])
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-5, rtol=1e-4)


def test_what_saves_memory_counts_what_it_computes_again() -> None:
    backbone = network()
    context, support = task(full(backbone), backbone)
    costs = {}
    for checkpoint, rows in ((False, None), (True, None), (False, 4), (True, 4)):
        method = Backprop(Descent(steps=2), Ridge(), checkpoint=checkpoint, rows=rows)
        predictor = method.prepare(context)(support, lambda _: None)
        costs[checkpoint, rows] = predictor.__self__.trace.forward_equivalents  # type: ignore[attr-defined]
    assert costs == {(False, None): 6, (True, None): 8, (False, 4): 8, (True, 4): 10}


@pytest.mark.parametrize("rows", [0, -1])
def test_rows_are_at_least_one(rows: int) -> None:
    backbone = network()
    context, _ = task(full(backbone), backbone)
    with pytest.raises(AdaptError, match=f"rows={rows}: at least one example at a time"):
        Backprop(rows=rows).prepare(context)


def test_rows_need_backpropagation() -> None:
    with pytest.raises(AdaptError, match=r"rows=2 saves memory of backpropagation, .* is Exact"):
        Backprop(Descent(gradient=Exact()), rows=2)


def test_parts_are_computed_again_under_the_autocast_they_were_computed_in() -> None:
    seen: list[tuple[bool, bool]] = []
    backbone = network()
    backbone[0].register_forward_hook(
        lambda *_: seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
    )
    context, support = task(full(backbone), backbone)
    with torch.autocast("cpu", torch.bfloat16):
        logits(Backprop(Descent("sgd", lr=0.01, steps=1), Ridge(), rows=4), context, support)
    assert (True, True) in seen, "computed again, with gradients"
    assert all(autocast for _, autocast in seen)
