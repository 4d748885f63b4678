"""What users would otherwise do: each baseline is what it says, checked against doing it by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from adapt import AdaptError
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Predictor, Support, initial_state
from adapt.backbones import Conv4, fingerprint, plain_call
from adapt.baselines import Backprop, Finetune, FinetuneAll, HeadOnly, Retrain
from adapt.baselines.checkpointing import CheckpointedReverse, checkpointed, segments
from adapt.compare.measure import peak_megabytes
from adapt.forward.estimators import Exact, Reverse
from adapt.heads import Direct, Logistic, Prototype, Ridge, one_hot
from adapt.inner import Descent, GaussNewton, SquaredError
from adapt.spaces import full
from tasks import ArraySource, Distribution, Episode
from tests.helpers import SIDE, distance, make_adapter, randomised, tiny_conv4
from tests.networks import NETWORKS


@pytest.fixture
def episode(source: ArraySource) -> Episode:
    return Distribution(source, ways=3, shots=3, queries=4, support_split="train").episode(0)


def context_for(source: ArraySource, backbone: nn.Module, seed: int = 5) -> Context:
    members = source.classes("train")

    def pool(classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.full((len(members[name]),), i) for i, name in enumerate(classes)])
        return source.load(np.concatenate([members[name] for name in classes])), labels

    return Context(backbone, make_adapter(backbone), pool, seed)


def logits(method: Method, source: ArraySource, episode: Episode, **changes: Any) -> Tensor:
    context = context_for(source, tiny_conv4())._replace(**changes)
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    predictor = method.prepare(context)(support, lambda _: None)
    with torch.no_grad():
        return predictor(episode.query_x)


@pytest.mark.parametrize("head", [Prototype(), Ridge(), Logistic()], ids=["prototype", "ridge", "logistic"])
def test_head_only_is_the_head_on_frozen_features(source: ArraySource, episode: Episode, head: Any) -> None:
    backbone = tiny_conv4()
    state = head.fit(backbone(episode.support_x), one_hot(episode.support_y, 3))
    expected = head.logits(state, backbone(episode.query_x))
    assert torch.equal(logits(HeadOnly(head), source, episode), expected)


def test_forward_is_the_adapter(source: ArraySource, episode: Episode) -> None:
    adapter = make_adapter(tiny_conv4()).replace(solver=GaussNewton(steps=2), head=Ridge())
    expected = adapter.fit(episode.support_x, episode.support_y).logits(episode.query_x)
    assert torch.equal(logits(Forward(GaussNewton(steps=2), Ridge()), source, episode), expected)
    few = adapter.replace(state=adapter.state.leading(1)).fit(episode.support_x, episode.support_y)
    expected = few.logits(episode.query_x)
    assert torch.equal(logits(Forward(GaussNewton(steps=2), Ridge(), k=1), source, episode), expected)


def test_backprop_descends_in_every_parameter_of_the_space(source: ArraySource, episode: Episode) -> None:
    """By hand, with torch's own optimizer, on the same leave-one-out loss and from the same start."""
    backbone = tiny_conv4()
    adapter = make_adapter(backbone)
    origin = adapter.space.initial + 0.05
    adapter = adapter.replace(state=adapter.state._replace(origin=origin, log_sharpness=torch.tensor(0.7)))
    targets = one_hot(episode.support_y, 3)
    phi = origin.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([phi], lr=1.0)

    def features(x: Tensor) -> Tensor:
        return torch.func.functional_call(backbone, adapter.space.parameters(phi), (x,))

    for _ in range(3):
        loo = np.exp(0.7) * Prototype().loo_logits(features(episode.support_x), targets)
        optimizer.zero_grad()
        nn.functional.cross_entropy(loo, episode.support_y).backward()
        optimizer.step()
    with torch.no_grad():
        state = Ridge().fit(features(episode.support_x), targets)
        expected = Ridge().logits(state, features(episode.query_x))
    ours = logits(Backprop(Descent("sgd", lr=1.0, steps=3), Ridge()), source, episode, adapter=adapter)
    assert torch.allclose(ours, expected, atol=1e-4)
    assert not torch.allclose(phi.detach(), origin, atol=1e-2)


def test_backprop_without_steps_is_the_learned_start(source: ArraySource, episode: Episode) -> None:
    still = logits(Backprop(Descent(steps=0)), source, episode)
    assert torch.equal(still, logits(Forward(GaussNewton(steps=0)), source, episode))


def test_backprop_in_the_subspace_descends_along_our_directions(
    source: ArraySource, episode: Episode
) -> None:
    """With the prior: by hand, with torch's own optimizer."""
    adapter = make_adapter(tiny_conv4())
    state = adapter.state._replace(log_precision=torch.tensor([-1.0, 0.0, 3.0]))
    adapter = adapter.replace(state=state)
    targets = one_hot(episode.support_y, 3)
    z = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([z], lr=0.5)

    def features(x: Tensor) -> Tensor:
        phi = state.origin + state.basis @ z
        return functional_call(adapter.backbone, adapter.space.parameters(phi), (x,))

    for _ in range(3):
        loo = Prototype().loo_logits(features(episode.support_x), targets)
        prior = 0.5 * (state.log_precision.exp() * z * z).sum() / len(targets)
        optimizer.zero_grad()
        (nn.functional.cross_entropy(loo, episode.support_y) + prior).backward()
        optimizer.step()
    with torch.no_grad():
        fitted = Ridge().fit(features(episode.support_x), targets)
        expected = Ridge().logits(fitted, features(episode.query_x))
    method = Backprop(Descent("sgd", lr=0.5, steps=3), Ridge(), subspace=True)
    ours = logits(method, source, episode, adapter=adapter)
    assert distance(ours, expected) <= 1e-5 < float(z.detach().norm())


# ----------------------------------------------------------------------------------------- checkpointing


def kept(network: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> int:
    """Bytes that ``network(x)`` with ``parameters`` keeps for its backward pass, each storage once, these and
    the inputs left out."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        value = functional_call(network, parameters, (x,)).square().sum()
        assert value.requires_grad
        own = {tensor.untyped_storage().data_ptr() for tensor in (*parameters.values(), x)}
        return sum(size for storage, size in storages.items() if storage not in own)


CUT = ["conv4", "resnet12", "vision transformer", "bert, fused attention", "gpt2, plain attention"]


@pytest.mark.parametrize("name", [*CUT, "torch's encoder"])
def test_checkpointing_gives_the_same_gradient_from_less_memory(name: str) -> None:
    """In other parameters than the network's own, which are back in place before the backward pass."""
    build, shape = NETWORKS[name]
    network = build().requires_grad_(False)
    before, again = fingerprint(network), checkpointed(network)
    space = full(network)
    generator = torch.Generator().manual_seed(0)
    phi = space.initial + 0.01 * torch.randn(space.size, generator=generator)
    x = torch.randn(shape, generator=generator)

    def loss(net: nn.Module) -> Any:
        return lambda phi: functional_call(net, space.parameters(phi), (x,)).square().sum()

    value, gradient, _ = Reverse()(loss(network), phi)
    same_value, same_gradient, info = CheckpointedReverse()(loss(again), phi)
    assert distance(same_value, value) <= 1e-6
    assert distance(same_gradient, gradient) <= 1e-5
    assert info.exact and info.passes == 3
    assert fingerprint(network) == before == fingerprint(again)
    parameters = space.parameters(phi.clone().requires_grad_(True))
    assert 0 < kept(again, parameters, x) < 0.6 * kept(network, parameters, x)
    with torch.no_grad():
        assert torch.equal(again(x), network(x))


@pytest.mark.parametrize("solver", [Descent("sgd", lr=1.0, steps=3), Descent("adam", steps=3)])
@pytest.mark.parametrize("subspace", [False, True])
def test_checkpointing_does_not_change_backprop(
    source: ArraySource, episode: Episode, solver: Descent, subspace: bool
) -> None:
    plain, again = (
        logits(Backprop(solver, Ridge(), subspace=subspace, checkpoint=checkpoint), source, episode)
        for checkpoint in (False, True)
    )
    assert distance(again, plain) <= 1e-5


def test_checkpointing_needs_less_memory_in_all() -> None:
    """At the peak, computing again included."""
    backbone = randomised(nn.Sequential(*blocks(), nn.Flatten()))
    space = full(backbone)
    state = initial_state(space.initial, torch.zeros(space.size, 1))
    adapter = FewShotAdapter(backbone, space, state)
    x = torch.randn(12, 8, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    support = Support(x, torch.arange(12) % 3, ("a", "b", "c"))
    peaks = []
    for checkpoint in (False, True):
        method = Backprop(Descent("sgd", lr=1e-3, steps=2), Ridge(), checkpoint=checkpoint)
        adapt = method.prepare(Context(backbone, adapter, lambda _: (x, x), 0))
        peaks.append(peak_megabytes(partial(adapt, support, lambda _: None), x.device))
    assert peaks[1] < 0.6 * peaks[0]


def blocks() -> list[nn.Module]:
    """Eight of them, each of two convolutions."""
    return [
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Sigmoid())
        for _ in range(8)
    ]


def test_segments_are_what_the_network_repeats() -> None:
    conv4 = Conv4(width=4)
    assert segments(conv4) == list(conv4.blocks)
    assert segments(nn.Sequential(conv4, nn.Linear(4, 2))) == list(conv4.blocks), "one child fills the outer"
    twice, once = nn.Linear(2, 2), nn.Linear(2, 2)
    assert segments(nn.ModuleList([twice, once, twice])) == [twice, once]


@pytest.mark.parametrize("network", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))])
def test_a_network_without_blocks_is_refused(network: nn.Module) -> None:
    with pytest.raises(AdaptError, match=r"has no repeated blocks .*: use checkpoint=False"):
        checkpointed(network)


# -------------------------------------------------------------------------------------------- regression


def regression(outputs: int = 1) -> tuple[Context, Support, Tensor, Tensor]:
    """A curve, some of it the support, and a small network at a start that is not its own weights."""
    network = randomised(
        nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, outputs))
    )
    space = full(network)
    state = initial_state(space.initial + 0.2, torch.ones(space.size, 1))
    adapter = FewShotAdapter(network, space, state, head=Direct(), support_head=Direct(), loss=SquaredError())

    def pool(classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        raise AdaptError("no pool")

    x = torch.linspace(-1, 1, 16)[:, None]
    y = (2 * x).sin()
    return Context(network, adapter, pool, 0), Support(x[::2], y[::2], ()), x[1::2], y[1::2]


def error(method: Method, context: Context, support: Support, x: Tensor, y: Tensor) -> float:
    predictor = method.prepare(context)(support, lambda _: None)
    with torch.no_grad():
        predicted = predictor(x)
    assert predicted.shape == y.shape
    return float((predicted - y).square().mean())


@pytest.mark.parametrize(
    ("costly", "start"),
    [
        (Backprop(Descent("adam", 0.02, 30), Direct()), Backprop(Descent("adam", 0.02, 0), Direct())),
        (
            Backprop(Descent("adam", 0.02, 30), Direct(), checkpoint=True),
            Backprop(Descent("adam", 0.02, 0), Direct(), checkpoint=True),
        ),
        (Finetune(lr=0.02, steps=30), Finetune(lr=1e-12, steps=1)),
    ],
    ids=["backprop", "backprop, checkpointed", "finetune"],
)
def test_methods_regress(costly: Method, start: Method) -> None:
    task = regression()
    assert error(costly, *task) < 0.2 * error(start, *task)


def test_head_only_in_regression_is_the_head_on_frozen_features() -> None:
    context, support, x, _ = regression(outputs=16)
    head = Ridge(l2=1e-2, scale=1)
    predictor = HeadOnly(head).prepare(context)(support, lambda _: None)
    state = head.fit(context.backbone(support.x), support.y)
    assert torch.equal(predictor(x), head.logits(state, context.backbone(x)))


def test_finetuning_a_regression_starts_from_the_learned_start() -> None:
    context, support, x, y = regression()
    learned = Backprop(Descent(steps=0), Direct())
    expected = error(learned, context, support, x, y)
    assert error(Finetune(lr=1e-12, steps=1), context, support, x, y) == pytest.approx(expected, rel=1e-5)
    assert error(HeadOnly(Direct()), context, support, x, y) != pytest.approx(expected, rel=1e-2)
    assert not any(parameter.requires_grad for parameter in context.backbone.parameters())


@pytest.mark.parametrize(
    ("method", "outputs", "message"),
    [
        (
            HeadOnly(Logistic()),
            1,
            r"head=Logistic classifies, but this task is a regression: use heads.Ridge",
        ),
        (HeadOnly(Ridge()), 1, r"head.scale=10.0 turns outputs into logits.*use scale=1"),
        (HeadOnly(Direct()), 3, r"head=Direct takes the network's outputs \(8, 3\) for the targets \(8, 1\)"),
        (Finetune(), 3, r"head=Direct takes the network's outputs .*use a network with as many outputs"),
        (Backprop(), 1, r"head=Logistic classifies"),
        (FinetuneAll(), 1, r"finetune_all: a regression task has no classes.*leave finetune_all out"),
    ],
)
def test_what_makes_no_sense_in_regression_is_refused(method: Method, outputs: int, message: str) -> None:
    context, support, *_ = regression(outputs)
    with pytest.raises(AdaptError, match=message):
        method.prepare(context)(support, lambda _: None)


# --------------------------------------------------------------------------------- finetuning, retraining


def test_retraining_on_values_begins_anew_and_learns_from_what_is_given() -> None:
    context, support, x, _ = regression(1)
    whole = error(
        Retrain(epochs=400, batch=8, lr=0.01, weight_decay=0.0), context, support, support.x, support.y
    )
    assert whole < 0.05 * float(support.y.var())
    barely = Retrain(epochs=1, batch=8, lr=1e-12).prepare(context)(support, lambda _: None)
    assert not torch.allclose(barely(x), plain_call(context.adapter.backbone, x))  # other weights than ours
    assert torch.equal(
        barely(x), Retrain(epochs=1, batch=8, lr=1e-12).prepare(context)(support, lambda _: None)(x)
    )


def test_finetuning_starts_from_the_head_and_moves_everything(source: ArraySource, episode: Episode) -> None:
    start = logits(HeadOnly(Logistic()), source, episode)
    barely = logits(Finetune(lr=1e-9, steps=1), source, episode)
    assert torch.allclose(barely, start, atol=1e-5)
    context = context_for(source, tiny_conv4())
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    losses = []
    for steps in (1, 20):
        predictor = Finetune(steps=steps, lr=3e-3).prepare(context)(support, lambda _: None)
        losses.append(nn.functional.cross_entropy(predictor(episode.support_x), episode.support_y).item())
    assert losses[1] < losses[0]
    assert not any(parameter.requires_grad for parameter in context.backbone.parameters())


def test_retraining_knows_nothing_of_the_pretrained_weights(source: ArraySource, episode: Episode) -> None:
    retrain = Retrain(epochs=2, batch=8)
    one, other = (logits(retrain, source, episode, backbone=tiny_conv4(seed)) for seed in (0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(one, logits(retrain, source, episode, seed=6))


def test_retraining_learns_and_shows_itself_on_the_way(source: ArraySource, episode: Episode) -> None:
    context = context_for(source, tiny_conv4())
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    seen: list[float] = []

    def watch(predictor: Predictor) -> None:
        with torch.no_grad():
            predicted = predictor(episode.query_x).argmax(1)
        seen.append(float((predicted == episode.query_y).float().mean()))

    retrain = Retrain(epochs=12, batch=9, lr=2e-2, watch_every=4)
    predictor = retrain.prepare(context)(support, watch)
    assert len(seen) == 12 * (36 // 9) // 4
    watch(predictor)
    assert seen[-1] > 0.6 > 1 / 3  # queries are part of this toy pool: it can know them


def test_watching_does_not_change_retraining(source: ArraySource, episode: Episode) -> None:
    often, never = (logits(Retrain(epochs=2, batch=8, watch_every=n), source, episode) for n in (1, 10**6))
    assert torch.equal(often, never)


def test_retraining_on_less_than_a_batch(source: ArraySource, episode: Episode) -> None:
    assert logits(Retrain(epochs=1, batch=1000), source, episode).shape == (12, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Backprop(Descent(gradient=Exact()), checkpoint=True),
            r"solver.gradient is Exact: use estim",
        ),
        (lambda: Finetune(lr=0), "finetune.lr=0 is too small: use finetune.lr>0"),
        (lambda: Finetune(steps=0), "finetune.steps=0 is too small"),
        (lambda: Retrain(epochs=0), "retrain.epochs=0 is too small"),
        (lambda: Retrain(batch=1), "retrain.batch=1: batch statistics need at least 2"),
        (lambda: Retrain(watch_every=0), "retrain.watch_every=0 is too small"),
        (lambda: Retrain(lr=0), "retrain.lr=0 is too small"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()
