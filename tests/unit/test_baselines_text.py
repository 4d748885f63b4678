"""LoRA by PEFT and SetFit: what they compute, what they move, and where they do not apply."""

from __future__ import annotations

import contextlib
import copy
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor, nn

from adapt import AdaptError
from adapt.adapter import Context, Predictor, Support
from adapt.app.build import build
from adapt.app.config import config_folder
from adapt.app.main import main as register  # noqa: F401 (of the schema)
from adapt.backbones import require
from adapt.baselines import PeftLora, SetFit
from adapt.baselines.peft_lora import _injected
from adapt.heads import Logistic, one_hot
from tests.helpers import Untouchable, distance, make_adapter, randomised, tiny_conv4
from tests.networks import library
from tests.unit.test_text_inputs import Reader

NOTHING: Any = Untouchable()
RATE, DECAY = 0.01, 0.1


def clusters(n: int = 6, seed: int = 0) -> Support:
    """Points around two corners, ``n`` each."""
    noise = 0.1 * torch.randn(2 * n, 3, generator=torch.Generator().manual_seed(seed))
    centres = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).repeat_interleave(n, 0)
    return Support(centres + noise, torch.arange(2).repeat_interleave(n), ("a", "b"))


def two_layers() -> nn.Module:
    torch.manual_seed(0)
    return randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4)))


def injected_names(network: nn.Module) -> set[str]:
    return {
        name.removesuffix(".lora_A.default.weight")
        for name, _ in network.named_parameters()
        if "lora_A" in name
    }


def config_of(method: PeftLora, network: nn.Module) -> Any:
    return method._config(library("peft"), network)


def test_configs_are_the_methods_with_their_own_defaults() -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", ["method=[peft_lora,setfit]", "task.costly_tasks=7"])
    head = build(config.head, "head")
    assert build(config.method.peft_lora, "method.peft_lora") == PeftLora(max_tasks=7)
    assert build(config.method.setfit, "method.setfit") == SetFit(max_tasks=7, head=head)


# ------------------------------------------------------------------------------------------- PEFT's LoRA


def test_one_epoch_of_lora_is_one_step_of_adamw_by_hand() -> None:
    """The first step of Adam goes along the sign of the gradient; at B = 0 that of A is zero."""
    network, support = two_layers(), clusters()
    method = PeftLora(rank=2, alpha=6.0, targets="0", lr=RATE, epochs=1, weight_decay=DECAY)
    predictor = method.prepare(Context(network, NOTHING, seed=3))(support, lambda _: None)

    start = _injected(library("peft"), config_of(method, network), copy.deepcopy(network), seed=3)
    a = dict(start.named_parameters())["0.lora_A.default.weight"].detach()
    weights = Logistic().fit(network(support.x), one_hot(support.y, 2))

    def outputs(b: Tensor, a: Tensor, weights: Tensor, x: Tensor) -> Tensor:
        first, last = network[0], network[2]  # type: ignore[index]
        hidden = nn.functional.linear(x, first.weight + 3.0 * b @ a, first.bias).tanh()
        return Logistic().logits(weights, last(hidden))

    zero = torch.zeros(4, 2)
    loss = lambda b, w: nn.functional.cross_entropy(outputs(b, a, w, support.x), support.y)  # noqa: E731
    gradients = torch.func.grad(loss, argnums=(0, 1))(zero, weights)
    b, w = (
        value * (1 - rate * DECAY) - rate * gradient / (gradient.abs() + 1e-8)
        for value, gradient, rate in zip((zero, weights), gradients, (RATE, 10 * RATE), strict=True)
    )
    query = clusters(seed=1).x
    with torch.no_grad():
        expected = outputs(b, a * (1 - RATE * DECAY), w, query)
        assert distance(predictor(query), expected) <= 1e-5
        assert distance(expected, outputs(zero, a, weights, query)) > 1e-3, "the step is visible"


def test_lora_is_watched_before_every_epoch_and_learns() -> None:
    support, losses = clusters(), []

    def watch(predictor: Predictor) -> None:
        with torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(predictor(support.x), support.y)))

    method = PeftLora(epochs=12, batch=5, head=Logistic(l2=1.0))
    predictor = method.prepare(Context(two_layers(), NOTHING))(support, watch)
    assert len(losses) == 12
    network, head = two_layers(), Logistic(l2=1.0)
    features = network(support.x)
    start = head.logits(head.fit(features, one_hot(support.y, 2)), features)
    assert losses[0] == pytest.approx(float(nn.functional.cross_entropy(start, support.y)), rel=1e-5)
    with torch.no_grad():
        last = float(nn.functional.cross_entropy(predictor(support.x), support.y))
        assert last < losses[-1] < 0.5 * losses[0]
        assert predictor(clusters(seed=1).x).argmax(-1).tolist() == support.y.tolist()


def test_lora_of_a_regression_begins_at_the_meta_learned_start() -> None:
    adapter = make_adapter(tiny_conv4())
    state = adapter.state._replace(origin=adapter.state.origin + 0.3)
    context = Context(adapter.backbone, adapter.replace(state=state))
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    start = torch.func.functional_call(adapter.backbone, adapter.space.parameters(state.origin), x)
    method = PeftLora(lr=1e-12, epochs=1, weight_decay=0.0)
    support = Support(x, start + 1, ())
    assert distance(method.prepare(context)(support, lambda _: None)(x), start) <= 1e-5
    moved = PeftLora(epochs=20).prepare(context)(support, lambda _: None)(x)
    assert (moved - support.y).square().mean() < 0.9
    with pytest.raises(AdaptError, match="takes the network's outputs"):
        method.prepare(context)(support._replace(y=torch.zeros(4, 1)), lambda _: None)


def bert() -> nn.Module:
    transformers: Any = library("transformers")
    config = transformers.BertConfig(
        vocab_size=12,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=6,
    )
    return randomised(transformers.BertModel(config, add_pooling_layer=False))


def gpt2() -> nn.Module:
    transformers: Any = library("transformers")
    config = transformers.GPT2Config(vocab_size=12, n_embd=8, n_layer=1, n_head=2, n_positions=6)
    return randomised(transformers.GPT2Model(config))


def test_lora_moves_what_peft_moves_in_such_a_network_or_what_it_is_told() -> None:
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 4, 1), nn.Flatten())
    encoder = "encoder.layer.0.attention.self."
    for network, targets, expected in (
        (bert(), None, {f"{encoder}query", f"{encoder}value"}),
        (bert(), "*dense", {n for n, _ in bert().named_modules() if n.endswith("dense")}),
        (nn.ModuleDict({"inside": gpt2()}), None, {"inside.h.0.attn.c_attn"}),
        (tiny_conv4(), None, {f"blocks.{i}.0" for i in range(4)}),
        (grouped, None, {"1"}),
    ):
        method = PeftLora(rank=1, targets=targets)
        moved = _injected(library("peft"), config_of(method, network), copy.deepcopy(network), seed=0)
        assert injected_names(moved) == expected
        assert {n for n, p in moved.named_parameters() if p.requires_grad} == {
            name for name, _ in moved.named_parameters() if ".lora_" in name
        }


@pytest.mark.parametrize(
    ("method", "network", "message"),
    [
        (PeftLora(), nn.Linear(2, 2), "Linear is a single layer"),
        (PeftLora(targets="nope"), two_layers(), "'nope' match no layer"),
        (SetFit(), two_layers(), "Sequential does not read texts: leave setfit out"),
    ],
    ids=["a single layer", "no such layer", "no texts"],
)
def test_networks_that_a_method_does_not_apply_to(method: Any, network: nn.Module, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        method.prepare(Context(network, NOTHING))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (PeftLora, {"rank": 0}),
        (PeftLora, {"alpha": 0.0}),
        (PeftLora, {"lr": -1.0}),
        (PeftLora, {"batch": 0}),
        (SetFit, {"lr": 0.0}),
        (SetFit, {"epochs": 0}),
        (SetFit, {"max_steps": 0}),
        (SetFit, {"watches": -1}),
    ],
)
def test_settings_that_are_no_training(kind: Any, settings: dict[str, float]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(AdaptError, match=rf"{name}={value}"):
        kind(**settings)


# ----------------------------------------------------------------------------------------------- SetFit


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1], [0, 1, 2, 3], [0] * 4 + [1]])
def test_steps_of_setfit_are_those_of_its_pairs(labels: list[int]) -> None:
    """As many alike as unlike pairs, an example with itself among the former."""
    alike = [a == b for a, b in combinations_with_replacement(labels, 2)]
    pairs = 2 * max(sum(alike), len(alike) - sum(alike))
    assert SetFit(batch=4, epochs=3, max_steps=None).steps(labels) == 3 * -(-pairs // 4)
    assert SetFit(batch=4, epochs=3, max_steps=2).steps(labels) == 2


def readable() -> tuple[Reader, Support]:
    """Words of one and of two letters for a reader that tells them apart by nothing but noise."""
    torch.manual_seed(0)
    ids = torch.cat([torch.randint(1, 50, (6, 3)), torch.randint(50, 100, (6, 3))])
    return Reader().eval(), Support(ids, torch.arange(2).repeat_interleave(6), ("low", "high"))


@pytest.mark.slow  # what it imports
def test_setfit_brings_texts_of_a_class_together(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    setfit: Any = require("setfit")
    reader, support = readable()
    labels = support.y.tolist()
    theirs = setfit.sampler.ContrastiveDataset([str(i) for i in range(12)], labels, multilabel=False)
    assert SetFit(batch=1, max_steps=None).steps(labels) == len(theirs)
    seen: list[float] = []
    networks: list[nn.Module] = []

    def contrast(network: nn.Module) -> float:
        """Mean cosine of pairs that are alike, less that of the others."""
        with torch.no_grad():
            unit = nn.functional.normalize(network(support.x), dim=1)
        same = support.y[:, None] == support.y
        cosines = unit @ unit.T
        return float(cosines[same].mean() - cosines[~same].mean())

    def watch(predictor: Predictor) -> None:
        with torch.no_grad():
            seen.append(float((predictor(support.x).argmax(-1) == support.y).double().mean()))

    class Keeping(SetFit):
        def _predictor(self, network: nn.Module, support: Support) -> Predictor:
            networks.append(copy.deepcopy(network))
            return super()._predictor(network, support)

    capfd.readouterr()
    with contextlib.chdir(tmp_path):
        method = Keeping(lr=0.05, epochs=4, batch=4, max_steps=None, watches=2)
        predictor = method.prepare(Context(reader, NOTHING))(support, watch)
    assert list(tmp_path.iterdir()) == [], "leaves files"
    assert capfd.readouterr() == ("", ""), "prints"
    assert len(seen) == 2
    contrasts = [contrast(reader), *map(contrast, networks)]
    assert contrasts[0] == pytest.approx(contrasts[1]), "the first look is at the start"
    assert contrasts[1] + 0.5 < min(contrasts[2:]), "classes move apart"
    with torch.no_grad():
        assert predictor(support.x).argmax(-1).tolist() == labels
    with pytest.raises(AdaptError, match="this task is a regression"):
        method.prepare(Context(reader, NOTHING))(Support(support.x, torch.zeros(12, 1), ()), watch)
