"""The contract of backbones, by what they do: every way to break it is named, and nothing that keeps it
refused."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.adapter.method import Context, Support
from adapt.backbones import Conv4, Images, ResNet12, ViT, check_contract, frozen, require
from adapt.baselines import Finetune, HeadOnly, PeftLora
from adapt.heads import Logistic
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.spaces import bias
from tasks import Distribution
from tests.helpers import SIDE, make_source, randomised
from tests.misbehaving import MISBEHAVING, WIDTH, Case, Does, Tokens

cases = pytest.mark.parametrize("case", MISBEHAVING.values(), ids=MISBEHAVING.keys())


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def built(case: Case) -> nn.Module:
    """The same weights in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return case.build()


def adapter_of(backbone: nn.Module, **settings: Any) -> FewShotAdapter:
    space = bias(backbone)
    directions = 0.1 * drawn(space.size, 2, seed=1)
    return FewShotAdapter(
        backbone, space, initial_state(space.initial, directions.to(space.initial)), **settings
    )


def said(words: tuple[str, ...]) -> str:
    """A pattern of ``words`` in this order. (A pattern does not go past the end of a line.)"""
    return ".*".join(map(re.escape, words))


def state_of(backbone: nn.Module) -> list[Any]:
    """Everything of a module that a call may change."""
    tensors = [
        (name, tensor.clone()) for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]
    ]
    plain = [
        {name: list(value) if name == "seen" else value for name, value in vars(module).items()}
        for module in backbone.modules()
    ]
    kept = [{k: v for k, v in values.items() if isinstance(v, bool | int | list)} for values in plain]
    own = [m.own.get_state().tolist() for m in backbone.modules() if isinstance(m, Does)]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.modules()]
    return [tensors, kept, own, hooks]


def same(a: list[Any], b: list[Any]) -> bool:
    names = [name for name, _ in a[0]] == [name for name, _ in b[0]]
    values = all(torch.equal(x, y) for (_, x), (_, y) in zip(a[0], b[0], strict=False))
    return names and values and a[1:] == b[1:]


@cases
@pytest.mark.parametrize("n", [4, 1])
def test_each_fault_is_named_with_its_module_and_the_fix(case: Case, n: int) -> None:
    """From one example too: the second is then made of it."""
    with pytest.raises(AdaptError, match=said(case.words)):
        check_contract(built(case), drawn(n, *case.shape))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_wrong_nothing_is_changed(seed: int) -> None:
    """Buffers, modes, hooks, what the module remembers, its generator, and those of torch, NumPy and
    Python."""
    for name, case in [*MISBEHAVING.items()][seed::3]:
        backbone = built(case)
        if name in ("lazy", "meta"):
            continue
        before = state_of(backbone)
        generators = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        with pytest.raises(AdaptError):
            check_contract(backbone, drawn(4, *case.shape))
        assert same(before, state_of(backbone)), name
        assert torch.equal(torch.get_rng_state(), generators[0]), name
        assert (np.random.get_state()[1].tolist(), random.getstate()) == generators[1:], name


# ------------------------------------------------------------------------------------------ what is well


class Recurrent(nn.Module):
    """The last state of an LSTM, in batches of any layout."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.lstm, self.batch_first = (
            nn.LSTM(WIDTH, 5, num_layers=2, dropout=0.3, batch_first=batch_first),
            batch_first,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1] if self.batch_first else self.lstm(x.transpose(0, 1))[0][-1]


class Caching(nn.Module):
    """Computes positions in the first call, and keeps them: a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.calls, self.attention = 0, None  # what people count, and look at afterwards
        self.register_buffer("positions", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.positions is None or len(self.positions) != x.shape[1]:
            self.positions = torch.linspace(0, 1, x.shape[1], dtype=x.dtype)
        self.calls += 1
        self.attention = (x + self.positions[:, None]).softmax(1)
        return self.linear(self.attention * x).mean(1)


class BatchCaching(nn.Module):
    """Keeps a buffer, not saved, as long as the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.register_buffer("ones", torch.ones(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.ones) != len(x):
            self.ones = torch.ones(len(x), dtype=x.dtype)
        return self.linear(x) * self.ones[:, None]


class Drawing(nn.Module):
    """Draws a random number, as layers do that may be dropped in training, and does not use it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        skipped = torch.rand(()) < 0.1 and np.random.rand() < 0.1 and self.training
        return x[:, :3] if skipped else self.linear(x)


def timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: randomised(require("timm").create_model(name, num_classes=0, **settings))


def quantised() -> nn.Module:
    layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(4)))
    return torch.ao.quantization.quantize_dynamic(layers, {nn.Linear})


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten()).eval()


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, 3))).eval()


IMAGE, LOW = (3, 32, 32), (torch.float16, torch.bfloat16)
#: Name → network, shape of an example, and whether the CPU computes it in half precision.
WELL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "conv4": (lambda: randomised(Conv4()), (1, 32, 32), True),
    "resnet12": (lambda: randomised(ResNet12(width=8)), IMAGE, True),
    "vit": (lambda: randomised(ViT(width=32, depth=3)), IMAGE, True),
    "images": (lambda: Images(randomised(ViT(width=32)), size=16, mean=[0.5], std=[0.5]), (1, 20, 30), False),
    "mobilenet": (timm("mobilenetv2_050"), IMAGE, True),
    "mobilenet, frozen": (lambda: frozen(timm("mobilenetv2_035")()), IMAGE, True),
    "efficientnet lite": (timm("tf_efficientnet_lite0"), IMAGE, True),
    "vit of timm": (timm("vit_tiny_patch16_224", img_size=32, depth=4), IMAGE, True),
    "standardised weights": (timm("resnetv2_50d_gn", layers=(1, 1, 1, 1)), IMAGE, False),
    "lstm": (lambda: Recurrent(True).eval(), (6, WIDTH), True),
    "lstm, time first": (lambda: Recurrent(False).eval(), (6, WIDTH), True),
    "transformer": (encoder, (6, WIDTH), True),
    "spectral norm, evaluated": (spectral, (WIDTH,), True),
    "instance norm": (lambda: nn.Sequential(nn.InstanceNorm1d(WIDTH), nn.Flatten()), (WIDTH, 6), True),
    "a cache": (Caching, (6, WIDTH), True),
    "a cache of the size of the batch": (BatchCaching, (WIDTH,), True),
    "random numbers that are not used": (lambda: Drawing().eval(), (WIDTH,), True),
    "features of zero": (
        lambda: nn.Sequential(nn.Linear(WIDTH, 3), Does(lambda _, x: 0 * x)),
        (WIDTH,),
        True,
    ),
    "a blank example before a norm": (
        lambda: nn.Sequential(
            Does(lambda _, x: x * (x[:, :1, :1] > 0.2)),
            nn.Conv1d(WIDTH, 3, 3),
            nn.InstanceNorm1d(3),
            nn.Flatten(),
        ),
        (WIDTH, 40),
        True,
    ),
    "masked with infinity": (
        lambda: nn.Sequential(Does(lambda _, x: x.masked_fill(x > 0.5, float("-inf"))), nn.Softmax(-1)),
        (WIDTH,),
        True,
    ),
    "quantised layers": (quantised, (WIDTH,), False),
}


@contextmanager
def as_run(kind: Any) -> Iterator[torch.dtype]:
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        yield torch.float32 if kind == "autocast" else kind


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, *LOW, "autocast"], ids=str)
@pytest.mark.parametrize(("build", "shape", "half"), WELL.values(), ids=WELL.keys())
def test_what_keeps_the_contract_passes_in_every_dtype(
    build: Callable[[], nn.Module], shape: tuple[int, ...], half: bool, kind: Any
) -> None:
    if not half and kind is not torch.float32:
        return
    with as_run(kind) as dtype:
        backbone = build().to(dtype) if dtype is not torch.float32 else build()
        before = {name: value for name, value in vars(backbone).items() if isinstance(value, int)}
        check_contract(copy.deepcopy(backbone), drawn(1, *shape, dtype=dtype))
        check_contract(backbone, drawn(3, *shape, dtype=dtype))
        assert before == {name: vars(backbone)[name] for name in before}


def test_texts_of_different_lengths() -> None:
    texts = ["a", "abcdefgh", "xyz"]
    for masked in (True, False):
        backbone = Tokens(masked)
        ids = torch.from_numpy(backbone.tokenise(texts))
        if masked:
            check_contract(backbone, ids, texts)
        else:
            with pytest.raises(AdaptError, match=r"Tokens \(.*padding.*leave padding out"):
                check_contract(backbone, ids, texts)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, "autocast"], ids=str)
def test_minilm_of_different_lengths(kind: Any) -> None:
    backbone = adapt.backbones.load_backbone("hf:minilm")[0]
    texts = ["hello", "a text that is much longer, so that the other one is padded", "and one more"]
    with as_run(kind) as dtype:
        check_contract(backbone.to(dtype), torch.from_numpy(backbone.tokenise(texts)), texts)


def test_outputs_of_transformers_are_named() -> None:
    transformers = require("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with pytest.raises(
        AdaptError, match=r"BertModel .*of last_hidden_state.*outputs\.last_hidden_state\.mean\(1\)"
    ):
        check_contract(model, torch.ones(2, 5, dtype=torch.long))


# ------------------------------------------------------------------------------------------ when, and by whom


class Counting(nn.Module):
    """Counts examples, where nobody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(WIDTH, 3), nn.LayerNorm(3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        log(len(x))
        return self.norm(self.drop(self.linear(x)))


counts: list[int] = []


def log(n: int) -> None:
    counts.append(n)


def test_it_costs_a_few_examples_once_and_again_after_a_change() -> None:
    backbone, x = Counting().eval(), drawn(5, WIDTH)

    def cost() -> int:
        counts.clear()
        check_contract(backbone, x)
        return sum(counts)

    assert cost() == 6  # two together, in either order, and each alone
    assert cost() == 0
    with torch.no_grad():
        backbone.linear.weight.add_(1)
    assert (cost(), cost()) == (6, 0)
    backbone.norm = nn.LayerNorm(3)
    assert (cost(), cost()) == (6, 0)
    backbone.norm.eval()
    assert (cost(), cost()) == (6, 0)
    backbone.drop.train()
    with pytest.raises(AdaptError, match=r"Dropout in backbone\.drop"):
        cost()


Y = ["a", "b"] * 4


def fitted(backbone: nn.Module, *shape: int) -> Any:
    return adapter_of(backbone).fit(drawn(8, *(shape or (WIDTH,))), Y)


@cases
def test_fitting_refuses_it(case: Case) -> None:
    """When the adapter is made, where that can be told; else when it first meets examples."""
    with pytest.raises(AdaptError, match=said(case.words)):
        fitted(built(case), *case.shape)


def test_predicting_refuses_what_has_changed_since(tmp_path: Any) -> None:
    """A task in the memory, and one that was loaded."""
    backbone = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5), nn.Linear(WIDTH, 3)).eval()
    task, x = fitted(backbone), drawn(1, WIDTH)
    task.save_pretrained(tmp_path)
    loaded = adapt.load(tmp_path, copy.deepcopy(backbone))
    for each in (task, loaded):
        assert torch.equal(each.logits(x), task.logits(x))
        each.adapter.backbone.train()
        with pytest.raises(AdaptError, match=r"Dropout in backbone\.1.*eval"):
            each.predict(x)
        each.adapter.backbone.eval()
    backbone[1] = Does(lambda _, h: h - h.mean(0))
    with pytest.raises(AdaptError, match="depends on the others in the batch"):
        task.predict(x)


def test_a_loaded_task_is_checked_before_its_first_prediction(tmp_path: Any) -> None:
    fitted(nn.Sequential(nn.Linear(WIDTH, 3))).save_pretrained(tmp_path)

    class Centred(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) - super().forward(input).mean(0)

    centred = nn.Sequential(Centred(WIDTH, 3))
    original = nn.Sequential(nn.Linear(WIDTH, 3))
    fitted(original).save_pretrained(tmp_path)
    centred.load_state_dict(original.state_dict())
    with pytest.raises(AdaptError, match=r"Centred in backbone\.0 .*depends on the others"):
        adapt.load(tmp_path, centred).predict(drawn(1, WIDTH))


@pytest.mark.parametrize("method", [HeadOnly(Logistic()), Finetune(steps=1), PeftLora(epochs=1)], ids=str)
def test_baselines_refuse_it(method: Any) -> None:
    backbone = built(MISBEHAVING["mean of the batch"])
    support = Support(drawn(8, WIDTH), torch.tensor([0, 1] * 4), ("a", "b"))
    with pytest.raises(AdaptError, match=r"Does in backbone\.1 .*depends on the others"):
        method.prepare(Context(backbone, None))(support, lambda _: None)  # type: ignore[arg-type]


def test_meta_training_refuses_it() -> None:
    centred = nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, WIDTH), Does(lambda _, h: h - h.mean(0))
    ).eval()
    adapter, tasks = adapter_of(centred), Distribution(make_source(), ways=2, shots=2, queries=2)
    settings = MetaTraining(steps=1, k=2)
    with pytest.raises(AdaptError, match="depends on the others in the batch"):
        initial_basis(centred, adapter.space, adapter.problem, [tasks.episode(0)], settings)
    parts = adapter.backbone, adapter.space, adapter.state, adapter.solver, adapter.problem
    with pytest.raises(AdaptError, match="depends on the others in the batch"):
        meta_train(*parts, tasks, tasks, settings)


def test_counters_of_operators_are_not_told_of_it() -> None:
    """What a method costs is counted on its first task: the check is none of its work."""
    adapter, x = adapter_of(nn.Sequential(nn.Linear(WIDTH, 3))), drawn(8, WIDTH)
    with FlopCounterMode(display=False) as first:
        adapter.fit(x, Y)
    with FlopCounterMode(display=False) as second:
        adapter.fit(x, Y)
    assert first.get_total_flops() == second.get_total_flops() > 0
