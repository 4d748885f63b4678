"""Inner loops of other libraries arrive where our own backpropagation arrives, and touch nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapt import AdaptError
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Support, initial_state
from adapt.backbones import fingerprint
from adapt.baselines import Backprop, Finetune, Higher, Learn2Learn
from adapt.heads import Direct, Head, Logistic, Prototype, Ridge
from adapt.inner import Descent, GaussNewton, SquaredError
from adapt.spaces import Space, bias, combine, full, ia3, lora
from tasks import ArraySource, Distribution
from tests import processes
from tests.helpers import Untouchable, distance, make_adapter, randomised, tiny_conv4
from tests.networks import NETWORKS, TOKENS, Sentences

ROOT = Path(__file__).parents[2]
UNTOUCHABLE: Any = Untouchable()


def context(adapter: FewShotAdapter) -> Context:
    return Context(UNTOUCHABLE, adapter, UNTOUCHABLE, seed=5)


def predictions(method: Method, adapter: FewShotAdapter, support: Support, query: Tensor) -> Tensor:
    predictor = method.prepare(context(adapter))(support, lambda _: None)
    with torch.no_grad():
        return predictor(query)


def sgd(library: str, lr: float, steps: int, head: Head) -> Method:
    return Learn2Learn(lr, steps, head) if library == "learn2learn" else Higher("sgd", lr, steps, head)


class Alike(Sentences):
    """Sentences of the same tokens, any number of them: an adapter takes no network that tells examples
    apart by their place."""

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.transformer.get_input_embeddings()(torch.arange(TOKENS)) + x
        return self.transformer(inputs_embeds=embedded).last_hidden_state.mean(1)


LIBRARIES = pytest.mark.parametrize("library", ["learn2learn", "higher"])


def images(source: ArraySource, shots: int = 3) -> tuple[FewShotAdapter, Support, Tensor]:
    """Classification by a tiny Conv4 whose learned start and sharpness are not the defaults."""
    episode = Distribution(source, ways=3, shots=shots, queries=4, support_split="train").episode(0)
    adapter = make_adapter(tiny_conv4())
    state = adapter.state._replace(origin=adapter.state.origin + 0.05, log_sharpness=torch.tensor(0.7))
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    return adapter.replace(state=state), support, episode.query_x


def curves() -> tuple[FewShotAdapter, Support, Tensor]:
    """Regression by an MLP all of whose weights may move; two values per example."""
    network = randomised(
        nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    )
    space = full(network)
    state = initial_state(space.initial + 0.01, torch.ones(space.size, 1))
    adapter = FewShotAdapter(
        network, space, state, head=Direct(), support_head=Direct(), loss=SquaredError(), input_shape=(1,)
    )
    x = torch.linspace(-2, 2, 20)[:, None]
    return adapter, Support(x[::2], values_at(x[::2]), ()), x[1::2]


def values_at(x: Tensor) -> Tensor:
    return torch.cat([x.sin(), (2 * x).cos()], 1)


@LIBRARIES
@pytest.mark.parametrize("head", [Prototype(), Ridge(), Logistic()], ids=lambda head: type(head).__name__)
def test_the_same_as_our_backprop_on_images(library: str, head: Head, source: ArraySource) -> None:
    adapter, support, query = images(source)
    ours = predictions(Backprop(Descent("sgd", 0.5, 4), head), adapter, support, query)
    start = predictions(Backprop(Descent("sgd", 0.5, 0), head), adapter, support, query)
    theirs = predictions(sgd(library, 0.5, 4, head), adapter, support, query)
    assert distance(theirs, ours) <= 1e-5 < 1e-3 < distance(start, ours)


@LIBRARIES
def test_the_same_as_our_backprop_in_regression(library: str) -> None:
    adapter, support, query = curves()
    ours = predictions(Backprop(Descent("sgd", 0.05, 10), Direct()), adapter, support, query)
    start = predictions(Backprop(Descent("sgd", 0.05, 0), Direct()), adapter, support, query)
    theirs = predictions(sgd(library, 0.05, 10, Direct()), adapter, support, query)
    assert ours.shape == (10, 2)
    assert distance(theirs, ours) <= 1e-5 < 1e-1 < distance(start, ours)


@LIBRARIES
@pytest.mark.parametrize("name", ["vision transformer", "mobilenet", "bert, fused attention"])
def test_the_same_as_our_backprop_in_networks_of_other_libraries(library: str, name: str) -> None:
    build, shape = NETWORKS[name]
    network = build().requires_grad_(False)
    network = Alike(network.transformer) if isinstance(network, Sentences) else network
    space = full(network)
    state = initial_state(space.initial, torch.ones(space.size, 1))
    adapter = FewShotAdapter(network, space, state, head=Direct(), support_head=Direct(), loss=SquaredError())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    start = network(x)
    support = Support(x, start + torch.randn(start.shape, generator=generator), ())
    ours = predictions(Backprop(Descent("sgd", 0.01, 3), Direct()), adapter, support, x)
    theirs = predictions(sgd(library, 0.01, 3, Direct()), adapter, support, x)
    assert distance(theirs, ours) <= 1e-5 < 1e-2 < distance(start, ours)


SPACES: dict[str, Callable[[nn.Module], Space]] = {
    "lora": lambda network: lora(network, rank=2, alpha=4.0),
    "ia3": ia3,
    "combined": lambda network: combine(bias(network), lora(network)),
}


@LIBRARIES
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_the_same_as_our_backprop_in_spaces_that_merge(
    library: str, space: Callable[[nn.Module], Space]
) -> None:
    """What moves are the space's own tensors, the factors of LoRA, say, and not the weights they make."""
    adapter, support, query = curves()
    moving = space(adapter.backbone)
    adapter = adapter.replace(
        space=moving, state=initial_state(moving.initial + 0.02, torch.ones(moving.size, 1))
    )
    ours = predictions(Backprop(Descent("sgd", 0.05, 10), Direct()), adapter, support, query)
    start = predictions(Backprop(Descent("sgd", 0.05, 0), Direct()), adapter, support, query)
    theirs = predictions(sgd(library, 0.05, 10, Direct()), adapter, support, query)
    assert distance(theirs, ours) <= 1e-5 < 1e-2 < distance(start, ours)
    if library == "higher":
        adam = predictions(Backprop(Descent("adam", 0.02, 4), Direct()), adapter, support, query)
        assert distance(predictions(Higher("adam", 0.02, 4, Direct()), adapter, support, query), adam) <= 1e-4


def test_finetuning_a_regression_starts_where_a_merging_space_starts() -> None:
    """All weights are tuned, from those that φ₀ makes."""
    adapter, support, query = curves()
    moving = lora(adapter.backbone)
    adapter = adapter.replace(
        space=moving, state=initial_state(moving.initial + 0.2, torch.ones(moving.size, 1))
    )
    still = predictions(Finetune(lr=1e-12, steps=1), adapter, support, query)
    assert (
        distance(still, predictions(Forward(GaussNewton(steps=0), Direct()), adapter, support, query)) <= 1e-5
    )
    tuned = predictions(Finetune(lr=1e-2, steps=20), adapter, support, query)
    expected = values_at(query)
    assert (tuned - expected).square().mean() < 0.5 * (still - expected).square().mean()


def test_adam_of_higher(source: ArraySource) -> None:
    """Not to rounding: ε stands at another place in the formula."""
    adapter, support, query = images(source)
    ours = predictions(Backprop(Descent("adam", 0.02, 4), Ridge()), adapter, support, query)
    theirs = predictions(Higher("adam", 0.02, 4, Ridge()), adapter, support, query)
    start = predictions(Higher("adam", 0.02, 0, Ridge()), adapter, support, query)
    assert distance(theirs, ours) <= 1e-4 < 1e-2 < distance(start, ours)


@LIBRARIES
@pytest.mark.parametrize(("shots", "steps"), [(1, 3), (3, 0)], ids=["one shot", "no steps"])
def test_stays_at_the_learned_start(library: str, shots: int, steps: int, source: ArraySource) -> None:
    adapter, support, query = images(source, shots)
    start = predictions(Forward(GaussNewton(steps=0), Ridge()), adapter, support, query)
    assert distance(predictions(sgd(library, 0.5, steps, Ridge()), adapter, support, query), start) <= 1e-5


@LIBRARIES
@pytest.mark.parametrize(("lr", "steps"), [(10, 1), (1e30, 3)], ids=["worse", "not finite"])
def test_does_not_end_where_it_diverged(library: str, lr: float, steps: int) -> None:
    adapter, support, query = curves()
    start = predictions(Forward(GaussNewton(steps=0), Direct()), adapter, support, query)
    assert torch.equal(predictions(sgd(library, lr, steps, Direct()), adapter, support, query), start)


@LIBRARIES
def test_touches_neither_the_network_nor_random_state(library: str) -> None:
    adapter, support, query = curves()
    method = sgd(library, 0.05, 3, Direct())
    before, random_state = fingerprint(adapter.backbone), torch.get_rng_state()
    adapt = method.prepare(context(adapter))
    with torch.no_grad():  # as callers may have it
        first, again = (adapt(support, lambda _: None)(query) for _ in range(2))
    assert torch.equal(first, again), "an adaptation leaves traces"
    assert fingerprint(adapter.backbone) == before
    assert not any(parameter.requires_grad for parameter in adapter.backbone.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


@LIBRARIES
def test_a_library_that_is_missing_is_named(
    library: str, source: ArraySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    remedy = "make test" if library == "learn2learn" else "pip install higher"
    with pytest.raises(AdaptError, match=f"{library} cannot be imported .*{remedy}"):
        sgd(library, 0.1, 1, Ridge()).prepare(context(images(source)[0]))


@pytest.mark.slow
def test_importing_learn2learn_prints_nothing() -> None:
    """In a process that has not imported it: a module is imported once."""
    code = (
        "from adapt.adapter import Context\nfrom adapt.baselines import Learn2Learn\n"
        "from tests.helpers import make_adapter, tiny_conv4\n"
        "network = tiny_conv4()\n"
        "Learn2Learn(0.1, 1).prepare(Context(network, make_adapter(network), None, 0))"
    )
    done = processes.run(["-c", code], ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Learn2Learn(0, 1), r"learn2learn.lr=0: a learning rate must be positive"),
        (lambda: Learn2Learn(0.1, -1), r"learn2learn.steps=-1: the number of steps cannot be negative"),
        (lambda: Higher("sgd", float("nan"), 1), r"higher.lr=nan"),
        (lambda: Higher("sgd", 0.1, -1), r"higher.steps=-1"),
        (lambda: Higher("lbfgs", 0.1, 1), r"higher.optimizer=lbfgs: choose sgd or adam"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        make()


def test_a_head_that_classifies_is_refused_in_regression() -> None:
    with pytest.raises(AdaptError, match=r"head=Logistic classifies"):
        Higher("sgd", 0.1, 1).prepare(context(curves()[0]))


@pytest.mark.parametrize(("name", "kind"), [("learn2learn", Learn2Learn), ("higher", Higher)])
def test_its_config_builds_it(name: str, kind: Any) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    pytest.importorskip("hydra")
    from adapt.app.build import build

    config = omegaconf.OmegaConf.load(ROOT / "conf" / "method" / f"{name}.yaml")
    config.head = {"_target_": "adapt.heads.Logistic"}
    built: Any = build(config[name], name)
    assert isinstance(built, kind) and built.head == Logistic()
