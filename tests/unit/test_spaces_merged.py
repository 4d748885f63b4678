"""Spaces that merge tensors of their own into weights: each formula by hand, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import Context, Support, initial_state
from adapt.adapter.problem import Problem
from adapt.backbones import FrozenPrefix
from adapt.baselines import Backprop
from adapt.forward import pushforward
from adapt.heads import Ridge
from adapt.inner import Descent, GaussNewton
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.spaces import Space, Subspace, bias, combine, film, full, ia3, lora, prompt, residual
from adapt.spaces.lora import LowRank
from tasks import ArraySource, Distribution
from tests.conformance.test_spaces import Prompted
from tests.helpers import SIDE, Untouchable, distance, tiny_conv4
from tests.networks import NETWORKS

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def moved(network: nn.Module, space: Space, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What the network computes at a random φ, and the tensors in it."""
    phi = space.initial + draw(space.size, seed=5)
    return functional_call(network, space.parameters(phi), (x,)), space.tensors(phi)


# ---------------------------------------------------------------------------------------- by hand


def test_lora_adds_a_path_of_low_rank_to_a_linear_layer() -> None:
    layer, x = nn.Linear(5, 3, dtype=F64), draw(4, 5)
    y, own = moved(layer, lora(layer, rank=2, alpha=6.0), x)
    assert {name: value.shape for name, value in own.items()} == {"lora_A": (2, 5), "lora_B": (3, 2)}
    assert distance(y, layer(x) + 3.0 * (x @ own["lora_A"].T) @ own["lora_B"].T) <= 1e-12


@given(
    kernel=st.integers(1, 3), stride=st.integers(1, 2), groups=st.sampled_from([1, 2]), rank=st.integers(1, 4)
)
@settings(max_examples=15, deadline=None)
def test_lora_of_a_convolution_is_a_narrow_one_before_a_1x1(
    kernel: int, stride: int, groups: int, rank: int
) -> None:
    layer = nn.Conv2d(4, 6, kernel, stride=stride, padding=1, groups=groups, dtype=F64)
    x = draw(2, 4, 5, 5)
    y, own = moved(layer, lora(layer, rank=rank), x)
    a = own["lora_A"].view(rank, 4 // groups, kernel, kernel)
    change = torch.cat(
        [
            torch.einsum("or,nrhw->nohw", b, nn.functional.conv2d(part, a, stride=stride, padding=1))
            for part, b in zip(x.chunk(groups, 1), own["lora_B"].chunk(groups), strict=True)
        ],
        1,
    )
    assert distance(y, layer(x) + change) <= 1e-12


def test_lora_starts_as_peft_starts_it_whatever_the_global_seed() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    network = nn.Linear(100, 50)
    first = lora(network, rank=8).tensors(lora(network, rank=8).initial)
    torch.manual_seed(2)
    assert torch.equal(lora(network, rank=8).initial, lora(network, rank=8).initial)
    assert not torch.equal(lora(network, rank=8, seed=1).initial, lora(network, rank=8).initial)
    assert 0.09 < first["lora_A"].abs().max() <= 0.1 and abs(first["lora_A"].mean()) < 0.01
    assert first["lora_B"].abs().sum() == 0
    torch.set_rng_state(before)


def test_ia3_scales_outputs_and_inputs() -> None:
    network = nn.Sequential(nn.Linear(5, 4, dtype=F64), nn.Tanh(), nn.Linear(4, 3, dtype=F64))
    x = draw(6, 5)
    y, own = moved(network, ia3(network, targets="0", feedforward="2"), x)
    first, _, last = network
    assert distance(y, last(own["2.ia3_l"] * torch.tanh(own["0.ia3_l"] * first(x)))) <= 1e-12
    y, own = moved(network, ia3(network), x)
    assert distance(y, own["2.ia3_l"] * last(torch.tanh(own["0.ia3_l"] * first(x)))) <= 1e-12
    convolution, image = nn.Conv2d(3, 3, 2, dtype=F64), draw(2, 3, 4, 4)
    y, own = moved(convolution, ia3(convolution), image)
    assert distance(y, own["ia3_l"].view(3, 1, 1) * convolution(image)) <= 1e-12
    y, own = moved(convolution, ia3(convolution, targets="", feedforward="*"), image)
    assert distance(y, convolution(own["ia3_l"].view(3, 1, 1) * image)) <= 1e-12


@given(kernel=st.sampled_from([1, 3, 5]), stride=st.integers(1, 2), groups=st.sampled_from([1, 2]))
@settings(max_examples=10, deadline=None)
def test_residual_is_a_1x1_convolution_beside(kernel: int, stride: int, groups: int) -> None:
    layer = nn.Conv2d(4, 6, kernel, stride=stride, padding=kernel // 2, groups=groups, dtype=F64)
    x = draw(2, 4, 7, 6)
    y, own = moved(layer, residual(layer), x)
    beside = nn.functional.conv2d(x, own["residual"][..., None, None], stride=stride, groups=groups)
    assert distance(y, layer(x) + beside) <= 1e-12


def test_residual_of_linear_layers_and_of_kernels_without_a_centre() -> None:
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Conv1d(3, 3, 2), nn.Flatten(), nn.Linear(6, 4))
    space = residual(network)
    assert space.shapes == {"0.residual": (3, 2), "3.residual": (4, 6)}
    layer, x = nn.Linear(5, 3, dtype=F64), draw(4, 5)
    y, own = moved(layer, residual(layer), x)
    assert distance(y, layer(x) + x @ own["residual"].T) <= 1e-12
    with pytest.raises(AdaptError, match=r"targets '1' match no layer .* it has: 0, 3"):
        residual(network, targets="1")


# -------------------------------------------------------------------------------- what is adapted


def test_targets_are_patterns_that_must_match() -> None:
    network = Prompted()
    assert [*lora(network, targets="query, v*").shapes] == [
        f"{name}.lora_{factor}" for name in ("query", "value") for factor in "AB"
    ]
    with pytest.raises(
        AdaptError, match=r"space 'lora': targets 'querry' match no layer of Prompted .*query"
    ):
        lora(network, targets="query,querry")
    for nothing in ("", " , "):
        with pytest.raises(AdaptError, match=r"match no layer"):
            lora(network, targets=nothing)
    with pytest.raises(AdaptError, match=r"it has: none"):
        ia3(nn.LayerNorm(3))


def test_a_tied_weight_is_adapted_once_and_stays_tied() -> None:
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    space, x = residual(network), torch.ones(2, 3)
    assert space.shapes == {"0.residual": (3, 3)}
    y = functional_call(network, space.parameters(space.initial + 0.1), (x,))
    weight = network[0].weight + 0.1
    assert torch.allclose(y, torch.tanh(x @ weight.T) @ weight.T + network[2].bias, atol=1e-6)


def test_bad_settings_are_named() -> None:
    with pytest.raises(AdaptError, match=r"space\.rank=0: .* at least 1"):
        lora(nn.Linear(2, 2), rank=0)
    with pytest.raises(AdaptError, match=r"space\.feedforward: 0 is a grouped convolution"):
        ia3(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), feedforward="0")
    with pytest.raises(AdaptError, match=r"space 'prompt' finds nothing .* prompts=8"):
        prompt(nn.Linear(2, 2))


def test_a_merging_space_follows_its_backbone() -> None:
    """The frozen weights are the backbone's own: no copy stays behind on another device or in another
    dtype, and none takes memory."""
    network = tiny_conv4()
    space = lora(network)
    assert isinstance(space.merge, LowRank)
    owned = dict(network.named_parameters())
    assert all(layer.parameter is owned[layer.weight] for layer in space.merge.layers)
    there = space.merge.layers[0].frozen(torch.empty(1, device="meta"))
    assert there.device.type == "meta" and there.shape == space.merge.layers[0].parameter.shape
    network.double()
    merged = space.parameters(space.initial.double())
    assert all(torch.equal(merged[name], owned[name]) and merged[name].dtype == F64 for name in merged)


# --------------------------------------------------------------------------------- combinations


def test_a_combination_is_its_parts_side_by_side() -> None:
    network = tiny_conv4()
    parts = [film(network), residual(network, targets="*")]
    both = combine(*parts)
    assert both.shapes == parts[0].shapes | parts[1].shapes and both.name == "film+residual"
    phi = both.initial + 0.1
    first, second = phi.split([part.size for part in parts])
    expected = parts[0].parameters(first) | parts[1].parameters(second)
    merged = both.parameters(phi)
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], expected[name]) for name in expected)
    three = combine(combine(bias(network), lora(network, targets="blocks.0.*")), ia3_of_another(network))
    assert three.size == sum(part.initial.numel() for part in three.merge.spaces)  # type: ignore[union-attr]


def ia3_of_another(network: nn.Module) -> Space:
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    return ia3(network, targets="", feedforward=convolutions[-1])


def test_two_parts_that_move_one_tensor_are_refused() -> None:
    network = tiny_conv4()
    for parts in (
        (film(network), bias(network)),
        (lora(network), ia3(network)),
        (full(network), lora(network)),
    ):
        with pytest.raises(
            AdaptError, match=rf"'{parts[0].name}' and '{parts[1].name}' both move .*: leave one"
        ):
            combine(*parts)
    with pytest.raises(AdaptError, match="1 space cannot be combined"):
        combine(film(network))


# ----------------------------------------------------------------------------------- everything else


def test_checkpointed_backpropagation_moves_the_same_tensors() -> None:
    network = tiny_conv4()
    space = lora(network, rank=2)
    state = initial_state(space.initial + 0.02, torch.ones(space.size, 1))
    made = FewShotAdapter(network, space, state, input_shape=(1, SIDE, SIDE))
    x = draw(9, 1, SIDE, SIDE, seed=3).float()
    nothing: Any = Untouchable()
    context = Context(nothing, made, nothing, seed=0)
    support = Support(x, torch.arange(9) % 3, ("a", "b", "c"))
    start, plain, saving = (
        Backprop(Descent("sgd", 0.5, steps), Ridge(), checkpoint=checkpoint).prepare(context)(
            support, lambda _: None
        )(x)
        for steps, checkpoint in ((0, False), (3, False), (3, True))
    )
    assert distance(saving, plain) <= 1e-5 < 1e-3 < distance(start, plain)


@pytest.mark.parametrize("build", [lora, ia3, residual], ids=["lora", "ia3", "residual"])
def test_tangents_through_weights_that_are_stored_transposed(build: Callable[[nn.Module], Space]) -> None:
    """GPT-2's, whose linear layers are ``[in, out]``."""
    make, shape = NETWORKS["gpt2, plain attention"]
    network, x = make().double().requires_grad_(False), draw(*shape, seed=3)
    space = build(network)
    subspace = Subspace(space, space.initial, 0.1 * draw(space.size, 3, seed=1))
    prefix, z = FrozenPrefix(network, x), draw(3, seed=2)

    def features(z: Tensor) -> Tensor:
        return prefix(subspace.parameters(z))

    features(torch.zeros_like(z))
    dense = jacrev(lambda z: functional_call(network, subspace.parameters(z), (x,)))(z)
    assert distance(pushforward(features, z, torch.eye(3, dtype=F64))[1], dense.movedim(-1, 0)) <= 1e-10
    assert dense.norm() > 1e-2


@pytest.fixture
def train(source: ArraySource) -> Distribution:
    return Distribution(source, ways=3, shots=3, queries=4, support_split="train")


@pytest.mark.parametrize("basis", ["gradients", "displacements", "random", "identity"])
def test_every_first_basis_moves_a_merging_space(basis: str, train: Distribution) -> None:
    network = tiny_conv4()
    space = lora(network, rank=1)
    settings = MetaTraining(k=2, basis=basis, basis_steps=2, moves="*.lora_B")
    state = initial_basis(network, space, Problem(), train.episodes(0, 3), settings)
    rows = Space("rows", space.shapes, state.basis.reshape(space.size, -1).norm(dim=1))
    lengths = rows.tensors(rows.initial)
    for name, length in lengths.items():
        assert bool(length.any()) == name.endswith("lora_B"), name


def test_meta_training_through_a_merge(train: Distribution) -> None:
    network = tiny_conv4()
    space = lora(network, rank=1)
    start = initial_state(space.initial.clone(), 0.1 * draw(space.size, 2).float())
    settings = MetaTraining(k=2, steps=5, tasks_per_step=2, validation_tasks=4, validate_every=5, lr=1e-2)
    seen: list[float] = []
    state, after = meta_train(
        network,
        space,
        start,
        GaussNewton(damping=10.0),
        Problem(),
        train,
        train,
        settings,
        report=lambda step, metrics: seen.append(metrics.get("validation/loss", np.inf)),
    )
    assert after["validation/loss"] < seen[0]
    assert not torch.equal(state.origin, space.initial) and not torch.equal(state.basis, start.basis)
