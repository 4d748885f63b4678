"""What an adapter is made of is looked at when it is made, not in the middle of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.heads import HEADS, Ridge, is_transductive
from adapt.inner import LOSSES, SOLVERS, GaussNewton
from adapt.spaces import SPACES, film, lora
from tests.helpers import tiny_conv4

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "head by name": ({"head": "ridge"}, r"head is 'ridge', which is no head: pass .* heads\.Ridge\(\)"),
    "head misspelt": ({"head": "Logistc"}, r"pass the object itself, heads\.Logistic\(\)"),
    "head as a class": ({"head": Ridge}, r"head is the class Ridge, .*pass what it makes, heads\.Ridge\(\)"),
    "no head": ({"head": None}, r"head is None, which is no head: pass an object, such as heads\.Ridge\(\)"),
    "a tensor": ({"head": torch.ones(2)}, r"head is a Tensor, which is no head"),
    "support head": ({"support_head": GaussNewton()}, r"support_head is a GaussNewton, which is no head"),
    "solver by name": ({"solver": "gauss_newton"}, r"solver is 'gauss_newton'.*inner\.GaussNewton\(\)"),
    "solver as a class": (
        {"solver": GaussNewton},
        r"solver is the class GaussNewton.*inner\.GaussNewton\(\)",
    ),
    "a head for a solver": ({"solver": Ridge()}, r"solver is a Ridge, which is no solver"),
    "a network for a solver": ({"solver": nn.Linear(2, 2)}, r"solver is a Linear, which is no solver"),
    "a function of one": ({"solver": lambda z: z}, r"solver is the function <lambda>, which is no solver"),
    "loss by name": ({"loss": "squared_error"}, r"loss is 'squared_error'.*inner\.SquaredError\(\)"),
    "torch's loss": ({"loss": nn.CrossEntropyLoss()}, r"loss is a CrossEntropyLoss, which is no loss"),
    "space by name": ({"space": "film"}, r"space is 'film', which is no space: .*spaces\.film\(backbone\)"),
    "space as a function": ({"space": lora}, r"space is the function lora.*spaces\.lora\(backbone\)"),
    "state": ({"state": torch.ones(3)}, r"state is a Tensor, not an AdapterState of tensors"),
    "part of a state": (
        {"state": adapt.adapter.AdapterState(*[None] * 6)},
        r"not an AdapterState of tensors",
    ),
    "backbone": ({"backbone": "conv4"}, r"backbone is a str, not an nn\.Module"),
    "shape": ({"input_shape": "1, 16, 16"}, r"input_shape='1, 16, 16': give the sizes"),
    "sizes": ({"input_shape": (1, 2.5)}, r"input_shape=2\.5 is no whole number"),
    "name": ({"backbone_name": 3}, r"backbone_name is 3: give a name"),
    "info": ({"info": "mine"}, r"info is 'mine': give a mapping"),
    "rows": ({"rows": 0}, r"rows=0: at least one example"),
    "a name that there is not": ({"sover": GaussNewton()}, r"no attribute sover: did you mean solver\?"),
    "nothing like a name": ({"xyz": 1}, r"no attribute xyz: it has backbone, space"),
}


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
def test_faulty_parts_are_named_at_once(
    adapter: FewShotAdapter, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(AdaptError, match=message):
        adapter.replace(**changes)
    with pytest.warns(DeprecationWarning), pytest.raises(AdaptError, match=message):
        adapter.with_(**changes)
    if "backbone" not in changes and "space" not in changes and "state" not in changes:
        with pytest.raises(AdaptError, match=message):
            FewShotAdapter.of(adapter.backbone, **changes)


def test_every_part_that_there_is_will_do(adapter: FewShotAdapter) -> None:
    for head in HEADS.values():
        if head.__name__ != "LabelWords":  # is made of a network and words
            own = {} if is_transductive(head) else {"support_head": head()}
            assert isinstance(adapter.replace(head=head(), **own).head, head)
    for solver in SOLVERS.values():
        assert isinstance(adapter.replace(solver=solver()).solver, solver)
    for loss in LOSSES.values():
        if not loss().regression:
            assert isinstance(adapter.replace(loss=loss()).loss, loss)
    for name in ("bias", "film", "full", "lora"):
        made = FewShotAdapter.of(adapter.backbone, SPACES[name])
        assert made.space.name == name


def test_a_solver_may_be_any_function_of_its_four_arguments(adapter: FewShotAdapter) -> None:
    def mine(model: Any, targets: Any, loss: Any, learned: Any) -> Any:
        return GaussNewton()(model, targets, loss, learned)

    x = torch.rand(4, *(adapter.input_shape or ()))
    assert adapter.replace(solver=mine).fit(x, [0, 1, 0, 1]).predict(x).shape == (4,)


def test_shapes_are_compared_as_tuples(adapter: FewShotAdapter) -> None:
    shape = [np.int64(size) for size in adapter.input_shape or ()]
    assert adapter.replace(input_shape=shape).input_shape == adapter.input_shape


# ------------------------------------------------------------------------------- of a network of one's own


def plain() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten()
    )


def test_of_leaves_the_network_as_it_is() -> None:
    network = plain()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    adapter = FewShotAdapter.of(network, input_shape=[1, 6, 6])
    adapter.fit(torch.rand(4, 1, 6, 6), [0, 1, 0, 1])
    assert network.training and network[2].inplace and isinstance(network[1], nn.BatchNorm2d)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (adapter.space.name, adapter.backbone_name) == ("film", "Sequential")


def test_of_knows_what_a_network_is_known_for() -> None:
    adapter = FewShotAdapter.of("conv4_glyphs")
    assert adapter.input_shape == (1, 32, 32) and adapter.backbone_name == "conv4_glyphs"
    with pytest.raises(AdaptError, match=r"input_shape=\[3, 2, 2\], but that of conv4_glyphs is known"):
        FewShotAdapter.of("conv4_glyphs", input_shape=[3, 2, 2])
    network = tiny_conv4()
    assert FewShotAdapter.of(network, film(network)).space.name == "film"
    with pytest.raises(AdaptError, match="space makes a int"):
        FewShotAdapter.of(network, lambda network: 3)  # type: ignore[arg-type,return-value]


def test_of_a_regression() -> None:
    torch.manual_seed(0)
    adapter = FewShotAdapter.of(nn.Sequential(nn.Linear(1, 20), nn.Tanh()), regression=True)
    x = torch.linspace(-1, 1, 12)[:, None]
    assert adapter.space.name == "full"
    assert adapter.fit(x, x[:, 0] ** 2).predict(x).shape == (12, 1)


# ------------------------------------------------------------------------------------- loading on the plain


@pytest.mark.parametrize("fitted", [False, True], ids=["adapter", "task"])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_a_loaded_adapter_takes_the_network_that_was_passed(tmp_path: Any, fitted: bool, mode: bool) -> None:
    """Batch norms were frozen, dropout stopped, a range said: who passes the network need not know."""
    network = plain().train(mode)
    adapter = FewShotAdapter.of(network, input_shape=[1, 6, 6], value_range=[-1, 1])
    x = (torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    task = adapter.fit(x, [0, 1, 0, 1])
    (task if fitted else adapter).save_pretrained(tmp_path)
    again = plain().train(mode)
    found = adapt.load(tmp_path, backbone=again)
    found = found if fitted else found.fit(x, [0, 1, 0, 1])
    assert torch.equal(found.logits(x), task.logits(x))
    with pytest.raises(AdaptError, match="values from"):  # the range is known again
        found.predict(torch.full((1, 1, 6, 6), 3.0))
    assert (
        again.training is mode
        and isinstance(again[1], nn.BatchNorm2d)
        and not vars(again).get("_backbone_info")
    )


def test_of_a_network_in_training_mode_without_batch_norm(tmp_path: Any) -> None:
    """The weights are the same; only the mode is not."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    adapter = FewShotAdapter.of(network)
    adapter.save_pretrained(tmp_path)
    x = torch.eye(3)
    found = adapt.load(tmp_path, backbone=network)
    assert torch.equal(found.fit(x, [0, 1, 1]).logits(x), adapter.fit(x, [0, 1, 1]).logits(x))
    assert network.training


def test_other_weights_are_still_others(tmp_path: Any) -> None:
    FewShotAdapter.of(plain()).save_pretrained(tmp_path)
    network = plain()
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] += 1
    for other in (network, nn.Linear(3, 3), nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))):
        with pytest.raises(AdaptError, match="weights are not those"):
            adapt.load(tmp_path, backbone=other)
