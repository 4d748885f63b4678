"""What preflight finds in a user's model, what it leaves alone, and the policies that it documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from adapt.backbones import fingerprint, require
from adapt.errors import AdaptError
from adapt.forward import Engine, pushforward
from adapt.forward import preflight as module
from adapt.forward.agreement import TOLERANCE
from adapt.forward.fast import dual
from adapt.forward.preflight import Preflight, modes, preflight
from tests.helpers import NoJvp, distance, randomised

EXACT: tuple[Engine, ...] = ("fast", "reference")


class Wrapped(nn.Module):
    """A user's function of x and one weight."""

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor], width: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, width))
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x, self.weight)


X = torch.linspace(-2, 2, 12).view(4, 3)


def convolutional(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 5))


IMAGES = torch.linspace(-1, 1, 4 * 64).view(4, 1, 8, 8)


# ----------------------------------------------------------------------------------------- what it finds


def test_a_plain_network_is_ready() -> None:
    found = preflight(randomised(convolutional(nn.GroupNorm(2, 4))), IMAGES)
    assert found == Preflight()
    assert str(found) == "ready for forward gradients"
    found.raise_if_blocked()


def everything(x: Tensor, w: Tensor) -> Tensor:
    moving = x * w
    distances = torch.cdist(moving, moving)
    rounded = NoJvp.apply(moving)
    bags = F.embedding_bag(torch.tensor([[0, 1]]), moving)
    through_numpy = torch.as_tensor(moving.numpy())
    products = torch.cumprod(moving, 1)
    summed = torch.add(moving, 1.0, out=torch.empty_like(x))
    return distances.sum() + rounded + bags + through_numpy + products + summed


def test_every_blocking_operator_is_found_in_one_pass_with_its_place_and_fix() -> None:
    found = preflight(nn.Sequential(nn.Identity(), Wrapped(everything)), X)
    names = [finding.name for finding in found.blocked]
    assert names == ["cdist", "NoJvp", "torch.embedding_bag", "Tensor.numpy", "torch.add"]
    assert {finding.module for finding in found.blocked} == {"1"}
    assert found.fallbacks == ("torch.cumprod",)
    with pytest.raises(AdaptError) as error:
        found.raise_if_blocked()
    for words in (*names, "matrix product", "jvp static method", "followed by a sum", "backbone.1"):
        assert words in str(error.value)
        assert words in str(found)


def view_written(x: Tensor, w: Tensor) -> Tensor:
    y = x * w
    y[0].mul_(3)
    return y


def test_what_the_reference_must_repeat_is_slow_and_not_blocked() -> None:
    found = preflight(Wrapped(view_written), X)
    assert not found.blocked
    assert [finding.name for finding in found.repeated] == ["an in-place operation"]
    assert "slow, the whole pass is repeated" in str(found)


def test_the_same_operator_in_many_places_is_one_line() -> None:
    drops = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 3), nn.Dropout())
    found = preflight(drops, X)
    assert len(found.blocked) == 2
    assert "(and 1 more)" in str(found)


def test_only_the_named_parameters_move() -> None:
    model = nn.Sequential(Wrapped(lambda x, w: torch.cdist(x * w, x[:3])), nn.Linear(2, 2))
    assert preflight(model, X[:2]).blocked
    assert not preflight(model, X[:2], ["1.weight"]).blocked


def test_kernels_that_the_engines_choose_are_listed() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = preflight(randomised(nn.TransformerEncoder(layer, 1)), torch.randn(2, 5, 8))
    assert not found.blocked
    assert [text.split(":")[0] for text in found.applied] == [
        "scaled_dot_product_attention",
        "TransformerEncoderLayer",
    ]


def test_a_wrong_tangent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: Any) -> Any:
        value, columns = pushforward(*args)
        return value, columns * 1.1

    monkeypatch.setattr(module, "pushforward", wrong)
    (finding,) = preflight(nn.Linear(3, 2), X).blocked
    assert finding.name == "tangents"
    assert "engine='reference'" in finding.fix


def detached(x: Tensor, w: Tensor) -> Tensor:
    """detach() says that NumPy's result is a constant: the fast engine takes the user's word, torch fails."""
    return torch.as_tensor((x * w).detach().numpy()) * w


def test_numpy_is_a_constant_if_the_user_says_so() -> None:
    assert not preflight(Wrapped(detached), X).blocked


def test_an_operation_that_only_the_reference_stops_at_is_blocked_if_it_is_needed() -> None:
    (finding,) = preflight(Wrapped(lambda x, w: detached(view_written(x, w), w)), X).blocked
    assert "data pointer" in finding.reason


# ------------------------------------------------------------------------------------ what it leaves alone


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.weight


@pytest.mark.parametrize(
    "backbone",
    [Counting(), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())],
    ids=["counter", "training mode"],
)
def test_nothing_is_changed(backbone: nn.Module) -> None:
    before = fingerprint(backbone), torch.get_rng_state(), backbone.training, [*backbone.modules()]
    assert preflight(backbone, X).blocked
    assert fingerprint(backbone) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert backbone.training == before[2]
    assert [*backbone.modules()] == before[3]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_a_forward_pass_that_writes_to_a_buffer_is_refused() -> None:
    (finding,) = preflight(Counting(), X).blocked
    assert (finding.name, finding.module) == ("buffer", "calls")


@pytest.mark.parametrize(
    ("f", "name"),
    [(lambda x, w: x.relu_() * w, "input"), (lambda x, w: x * w.mul_(2), "parameter")],
    ids=["input", "parameter"],
)
def test_writing_to_what_a_pass_is_given_is_refused(f: Any, name: str) -> None:
    x, model = X.clone(), Wrapped(f)
    before = fingerprint(model)
    (finding,) = preflight(model, x).blocked
    assert finding.name == name
    assert fingerprint(model) == before
    assert torch.equal(x, X)


def test_apply_makes_the_mechanical_fixes() -> None:
    backbone = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    found = preflight(backbone, X, apply=True)
    assert not found.blocked
    assert not backbone.training
    assert "backbone.eval() was called" in str(found)
    assert preflight(backbone, X, apply=True).applied == ()


# ----------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("backbone", "x", "names", "words"),
    [
        (nn.Linear(3, 3), X, ["nope"], "no parameter nope"),
        (nn.Linear(3, 3), torch.ones(2, 5), None, "pass examples that it takes"),
        (nn.Linear(3, 3, device="meta"), X, None, "no values"),
        (nn.ReLU(), X, None, "no floating-point parameters"),
    ],
)
def test_bad_arguments(backbone: nn.Module, x: Tensor, names: list[str] | None, words: str) -> None:
    with pytest.raises(AdaptError, match=words):
        preflight(backbone, x, names)


def test_integer_parameters_do_not_move() -> None:
    model = Wrapped(lambda x, w: x * w)
    model.codes = nn.Parameter(torch.arange(3), requires_grad=False)
    assert not preflight(model, X).blocked
    (finding,) = preflight(model, X, ["weight", "codes"]).blocked
    assert "int64" in finding.reason


def test_parameters_of_mixed_dtypes_are_no_vector() -> None:
    model = nn.Sequential(Wrapped(lambda x, w: x * w), Wrapped(lambda x, w: x * w.float()).bfloat16())
    (finding,) = preflight(model, X).blocked
    assert "torch.bfloat16 and torch.float32" in finding.reason
    assert not preflight(model, X, ["0.weight"]).blocked


def test_an_output_that_is_no_tensor_is_named() -> None:
    (finding,) = preflight(Wrapped(lambda x, w: (x * w, {"cache": object()})), X).blocked  # type: ignore[arg-type]
    assert finding.name == "output"
    assert "wrap the backbone" in finding.fix


# ------------------------------------------------------------------------------------- policy: randomness


def drawn(x: Tensor, w: Tensor) -> Tensor:
    mask = torch.empty_like(x).bernoulli_(0.5)  # as in timm's DropPath: no tangent comes near it
    return x * mask * w


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), "Dropout"),
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3)), "Dropout"),
        (nn.Sequential(nn.Linear(3, 3), nn.RReLU()), "RReLU"),
        (Wrapped(lambda x, w: F.dropout(x * w)), "dropout"),
        (Wrapped(lambda x, w: F.dropout(x) * w), "dropout"),
        (Wrapped(lambda x, w: x * w + torch.randn(3)), "torch.randn"),
        (Wrapped(drawn), "Tensor.bernoulli_"),
    ],
    ids=["behind", "prefix", "rrelu", "function behind", "function before", "noise", "drop path"],
)
def test_randomness_is_refused_wherever_it_is(model: nn.Module, name: str) -> None:
    (finding,) = preflight(model, X, [n for n, _ in model.named_parameters()][:1]).blocked
    assert finding.name == name
    assert "backbone.eval()" in finding.fix


class DropPath(nn.Module):
    """Under the names that timm uses."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (nn.Dropout(0.1), True),
        (nn.Dropout(0.0), False),
        (DropPath(0.1), True),
        (DropPath(0.0), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.LSTM(4, 4, 2, dropout=0.1), True),
        (nn.RReLU(), True),
        (nn.Linear(2, 2), False),
    ],
    ids=str,
)
def test_random_modules_are_known_by_their_settings(module: nn.Module, found: bool) -> None:
    assert bool([*modes(module)]) == found
    assert not [*modes(module.eval())]


@pytest.mark.parametrize("engine", EXACT)
def test_engines_refuse_dropout(engine: Engine) -> None:
    with pytest.raises(AdaptError, match=r"switch dropout off with backbone\.eval\(\)"):
        pushforward(lambda z: F.dropout(z * 2), X, torch.ones(2, *X.shape), engine=engine)


def test_dropout_in_evaluation_mode_is_nothing() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 3), nn.Dropout())
    assert preflight(model.eval(), X) == Preflight()


# ------------------------------------------------------------------------------------- policy: batch norm


def test_batch_norm_with_running_statistics_is_ready() -> None:
    assert preflight(randomised(convolutional(nn.BatchNorm2d(4))), IMAGES) == Preflight()


@pytest.mark.parametrize("engine", EXACT)
def test_batch_norm_uses_running_statistics(engine: Engine) -> None:
    model = randomised(convolutional(nn.BatchNorm2d(4))).double()
    images = IMAGES.double()
    parameters = dict(model.named_parameters())
    columns = {name: torch.randn(1, *p.shape, dtype=p.dtype) for name, p in parameters.items()}
    _, tangents = pushforward(
        lambda p: functional_call(model, p, (images,)), parameters, columns, engine=engine
    )
    alone = pushforward(
        lambda p: functional_call(model, p, (images[:1],)), parameters, columns, engine=engine
    )
    assert distance(tangents[:, :1], alone[1]) < 1e-12  # an example's do not depend on the others


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        (nn.BatchNorm2d(4), "adapt.backbones.freeze_batch_norm"),
        (nn.BatchNorm2d(4, track_running_stats=False).eval(), "GroupNorm"),
    ],
    ids=["training", "not tracked"],
)
def test_batch_statistics_are_refused(norm: nn.Module, words: str) -> None:
    (finding,) = preflight(convolutional(norm), IMAGES).blocked
    assert finding.name == "BatchNorm2d"
    assert finding.module == "1"
    assert words in finding.fix


# ------------------------------------------------------------------------------------- policy: precision


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return randomised(nn.Sequential(nn.Linear(5, 16), nn.TransformerEncoder(layer, 1), nn.Linear(16, 3)))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "batch norm": (lambda: randomised(convolutional(nn.BatchNorm2d(4))), IMAGES),
    "group norm": (lambda: randomised(convolutional(nn.GroupNorm(2, 4))), IMAGES),
    "transformer": (encoder, torch.linspace(-1, 1, 2 * 4 * 5).view(2, 4, 5)),
}


def pushed(model: nn.Module, x: Tensor, engine: Engine) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = {name: p.detach() for name, p in model.named_parameters()}
    columns = {n: torch.randn(3, *p.shape, generator=generator).to(p.dtype) for n, p in points.items()}
    value, tangents = pushforward(lambda p: functional_call(model, p, (x,)), points, columns, engine=engine)
    return value, tangents


@pytest.mark.parametrize("name", MODELS)
def test_under_autocast_engines_agree_within_rounding(name: str) -> None:
    make, x = MODELS[name]
    model = make()
    right = pushed(model, x, "reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model(x)
        found = preflight(model, x)
        fast, reference = (pushed(model, x, engine) for engine in EXACT)
    assert not found.blocked
    assert fast[0].dtype == plain.dtype
    assert distance(fast[0], plain) < TOLERANCE[torch.bfloat16]
    for computed, other, exact in zip(fast, reference, right, strict=True):
        assert computed.dtype == other.dtype
        assert distance(computed, other) < TOLERANCE[torch.bfloat16] / 4
        assert distance(computed.float(), exact) < TOLERANCE[torch.bfloat16]
        assert distance(computed.float(), exact) > 1e-5  # autocast was on


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE.items(), ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_any_floating_point_dtype_will_do(name: str, dtype: torch.dtype, tolerance: float) -> None:
    make, x = MODELS[name]
    right = pushed(make().double(), x.double(), "reference")
    model = make().to(dtype)
    assert not preflight(model, x.to(dtype)).blocked
    for computed, exact in zip(pushed(model, x.to(dtype), "fast"), right, strict=True):
        assert computed.dtype == dtype
        assert distance(computed.double(), exact) < tolerance


# ------------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_networks_of_timm_are_ready_in_evaluation_mode(name: str) -> None:
    options = {"img_size": 32} if name.startswith("vit") else {}
    model = require("timm").create_model(name, pretrained=False, num_classes=0, **options)
    assert not preflight(model.eval(), torch.randn(2, 3, 32, 32)).blocked


def bert() -> Any:
    library = require("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return library.BertModel(library.BertConfig(vocab_size=20, **sizes)).eval()


def test_networks_of_transformers_are_ready_in_evaluation_mode() -> None:
    tokens = torch.arange(8).view(2, 4)
    assert not preflight(bert(), (tokens, torch.ones_like(tokens))).blocked


def test_flash_attention_is_replaced_on_request() -> None:
    tokens = torch.arange(8).view(2, 4)
    model = bert()
    model.config._attn_implementation = "flash_attention_2"  # needs a GPU and a package to set properly
    (finding,) = preflight(model, tokens).blocked
    assert 'set_attn_implementation("eager")' in finding.fix
    found = preflight(model, tokens, apply=True)
    assert not found.blocked
    assert "BertModel.set_attn_implementation" in str(found)
    assert model.config._attn_implementation == "eager"


# ------------------------------------------------------------------------------------- the page


def test_the_page_does_what_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("timm")  # repairs an installation of torchvision that does not fit torch
    monkeypatch.setattr(dual, "RULES", rules := dict(dual.RULES))
    text = (Path(__file__).resolve().parents[2] / "docs" / "own-backbone.md").read_text(encoding="utf-8")
    page: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/own-backbone.md", "exec"), page)
    assert capsys.readouterr().out == "ready for forward gradients\n"
    assert torch.special.log_ndtr in rules
    directions = torch.ones(1, *X.shape)
    for f in (torch.special.log_ndtr, page["Straight"].apply):
        for computed, right in zip(
            pushforward(f, X, directions), pushforward(f, X, directions, engine="reference"), strict=True
        ):
            assert distance(computed, right) < 1e-5
    assert pushforward(page["Straight"].apply, X, directions)[1].eq(1).all()
