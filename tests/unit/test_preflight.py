"""What preflight finds in a user's model, what it leaves alone, and the policies that it documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapt.backbones import fingerprint
from adapt.errors import AdaptError
from adapt.forward import Engine, pushforward
from adapt.forward import preflight as module
from adapt.forward.preflight import Preflight, modes, preflight
from tests.helpers import NoJvp, randomised

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


# ----------------------------------------------------------------------------------------- what it finds


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
