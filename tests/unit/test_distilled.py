"""A smaller network learns what a fitted task says, and is a fitted task like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import adapt
import adapt.spaces
from adapt.adapter import FittedTask
from adapt.baselines.distilled import loss_of, taught
from adapt.errors import AdaptError
from adapt.heads import Direct, LaplacianShot, Logistic, Prototype, Ridge
from adapt.inner import GaussNewton
from tests.helpers import SIDE, make_adapter, make_source, tiny_conv4

CLASSES = ["circle", "square", "triangle"]


class Columns(nn.Module):
    """Features are the columns, scaled: a head on them is a linear model."""

    def __init__(self, columns: int = 4) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(columns))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear_teacher() -> FittedTask:
    """Three classes, by the largest of the first three columns."""
    x = drawn(60, 4)
    y = [CLASSES[row] for row in x[:, :3].argmax(1)]
    adapter = adapt.FewShotAdapter.of(Columns(), adapt.spaces.full)
    return adapter.replace(solver=GaussNewton(steps=0)).fit(x, y)


def pictures() -> tuple[FittedTask, Tensor, list[str], Tensor]:
    """A task of random patterns that has a posterior, its support, and further examples."""
    source = make_source()
    x = source.load(np.arange(36))
    rows = torch.arange(36) % 12 < 6
    y = [CLASSES[row // 12] for row in np.flatnonzero(rows.numpy())]
    return make_adapter(tiny_conv4()).fit(x[rows], y), x[rows], y, x[~rows]


def test_a_linear_student_says_what_a_linear_teacher_says() -> None:
    teacher, new = linear_teacher(), drawn(500, 4, seed=2)
    student = adapt.distil(teacher, Columns(), drawn(1000, 4, seed=1), lr=0.01, epochs=40)
    assert student.classes_.tolist() == CLASSES
    assert student.predict_proba(new) == pytest.approx(teacher.predict_proba(new), abs=0.01)
    assert (student.predict(new) == teacher.predict(new)).mean() > 0.99
    with_labels = adapt.distil(teacher, Columns(), drawn(200, 4, seed=1), new, teacher.predict(new))
    assert (with_labels.predict(new) == teacher.predict(new)).mean() > 0.99


def test_a_linear_student_finds_the_values_of_a_linear_teacher() -> None:
    weights, x, new = drawn(4, 2, seed=3), drawn(300, 4), drawn(50, 4, seed=1)
    teacher = adapt.FewShotAdapter.of(nn.Linear(4, 2), regression=True, head=Direct(), support_head=Direct())
    with torch.no_grad():
        moved = {"weight": weights.T.contiguous(), "bias": torch.tensor([1.0, -2.0])}
    task = replace(teacher.fit(x[:10], x[:10] @ weights), parameters=moved)
    student = adapt.distil(task, nn.Linear(4, 2), x, head=Direct(), lr=0.1, epochs=60)
    found = student.parameters
    assert found["weight"].numpy() == pytest.approx(weights.T.numpy(), abs=2e-3)
    assert found["bias"].numpy() == pytest.approx(np.array([1.0, -2.0]), abs=2e-3)
    expected = new @ weights + torch.tensor([1.0, -2.0])
    assert student.predict(new) == pytest.approx(expected.numpy(), abs=0.01)
    assert student.score(new, expected) > 0.9999 and not len(student.classes_)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_gradient_of_the_loss_is_the_closed_form(temperature: float, weight: float) -> None:
    s = drawn(5, 3).double().requires_grad_()
    q, y = drawn(5, 3, seed=1).double().softmax(-1), torch.eye(3).double()[[0, 2, 1, 1, 0]]
    targets = torch.cat([q, y, torch.full((5, 1), weight).double()], 1)
    loss_of(False, temperature)(s, targets).backward()
    p, hot = s.detach().softmax(-1), (s.detach() / temperature).softmax(-1)
    expected = ((1 - weight) * temperature * (hot - q) + weight * (p - y)) / 5
    assert torch.allclose(s.grad, expected)  # type: ignore[arg-type]
    values = drawn(5, 3).double().requires_grad_()
    loss_of(True, temperature)(values, targets).backward()
    mixed = (1 - weight) * q + weight * y
    assert torch.allclose(values.grad, (values.detach() - mixed) / 5)  # type: ignore[arg-type]


def test_soft_labels_are_the_means_over_the_posterior() -> None:
    task, x, _, _ = pictures()
    assert task.posterior is not None
    assert taught(task, x, True, 1.0).numpy() == pytest.approx(task.predict_proba(x, average=True), abs=1e-6)
    point = taught(task, x, False, 2.0)
    powered = task.predict_proba(x) ** 0.5
    assert point.numpy() == pytest.approx(powered / powered.sum(1, keepdims=True), abs=1e-6)
    means = taught(task, x, True, 2.0).numpy()
    powered = task.predict_proba(x, average=True) ** 0.5
    assert means == pytest.approx(powered / powered.sum(1, keepdims=True), abs=1e-6)


def test_means_are_taken_if_they_are_asked_for() -> None:
    task, _, _, rest = pictures()

    def told(teacher: FittedTask, **settings: Any) -> Any:
        found = adapt.distil(teacher, tiny_conv4(1), rest, epochs=1, **settings)
        return found.adapter.info["distilled"]["mean of the posterior"]  # type: ignore[index]

    assert told(task, average=True) is True and told(task) is told(one_shot()) is False
    point, means = (adapt.distil(task, tiny_conv4(1), rest, epochs=1, average=it) for it in (False, True))
    assert not torch.equal(point.head_state, means.head_state)


def one_shot() -> FittedTask:
    """A task without a posterior."""
    _, x, _, _ = pictures()
    return make_adapter(tiny_conv4()).fit(x[::6], CLASSES)


class Dropping(nn.Module):
    """Draws random numbers while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 6), nn.Dropout(0.5), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_it_is_a_function_of_the_seed_and_leaves_the_student_and_random_numbers_alone() -> None:
    task, _, _, rest = pictures()
    network = Dropping()
    before = [value.clone() for value in network.state_dict().values()]
    state = torch.get_rng_state()
    one, same, other = (adapt.distil(task, network, rest, seed=seed, epochs=3) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))
    assert network.training
    for name, value in one.parameters.items():
        assert torch.equal(value, same.parameters[name])
    assert torch.equal(one.head_state, same.head_state)
    assert not torch.equal(one.head_state, other.head_state)


def test_the_best_epoch_is_kept() -> None:
    task, _, _, rest = pictures()
    seen: list[tuple[int, float]] = []
    found = adapt.distil(task, tiny_conv4(1), rest, epochs=4, lr=10.0, report=lambda *it: seen.append(it))
    losses = [loss for _, loss in seen]
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3, 4]
    assert found.trace.losses.tolist() == pytest.approx(losses)
    best = int(np.argmin(losses))
    assert found.trace.choice.endswith(f"epoch {best} of 4")
    assert found.adapter.info["distilled"]["epoch"] == best
    again = adapt.distil(task, tiny_conv4(1), rest, epochs=4, lr=1e30)  # it diverges at once
    assert again.trace.choice.endswith("epoch 0 of 4")
    assert np.isfinite(again.predict_proba(rest)).all()
    assert torch.equal(again.parameters["blocks.0.0.weight"], tiny_conv4(1).blocks[0][0].weight)  # type: ignore


def test_it_is_saved_and_read_back(tmp_path: Path) -> None:
    task, x, y, rest = pictures()
    found = adapt.distil(task, tiny_conv4(1), rest, x, y, epochs=3, temperature=2.0)
    found.save_pretrained(tmp_path / "small")
    read = adapt.load(tmp_path / "small", tiny_conv4(1))
    assert read.predict_proba(rest).tolist() == found.predict_proba(rest).tolist()
    assert read.classes_.tolist() == found.classes_.tolist() == CLASSES
    assert read.trace.choice == found.trace.choice
    with pytest.raises(AdaptError, match="weights are not those"):
        adapt.load(tmp_path / "small", tiny_conv4(2))
    config = json.loads((tmp_path / "small" / "adapter_config.json").read_text())
    assert config["info"]["distilled"]["temperature"] == 2.0
    assert "## Distilled" in (tmp_path / "small" / "README.md").read_text()
    with pytest.raises(AdaptError, match=r"no posterior \(distilled from"):
        found.predict_proba(rest, average=True)
    assert found.adapter.fit(x, y).score(x, y) > 0.5, "a head on what was learned"


def test_a_named_student_is_read_back_by_its_name(tmp_path: Path) -> None:
    x = torch.linspace(-3, 3, 12)[:, None]
    task = adapt.load("mlp_sinusoid").fit(x, x.sin())
    found = adapt.distil(task, "mlp:1-8-8", x, x, x.sin(), epochs=2)
    found.save_pretrained(tmp_path / "small")
    assert adapt.load(tmp_path / "small").predict(x).tolist() == found.predict(x).tolist()
    assert found.to(torch.float64).predict(x) == pytest.approx(found.predict(x), abs=1e-4)


@pytest.mark.slow
def test_it_is_exported(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    task, _, _, rest = pictures()
    found = adapt.distil(task, tiny_conv4(1), rest, epochs=2)
    path = found.export(tmp_path / "small.onnx", rest[:2])
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": rest.numpy()})[0]
    assert outputs == pytest.approx(found.logits(rest).numpy(), abs=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES


def test_examples_come_in_any_form() -> None:
    task, x, y, rest = pictures()
    tensors = adapt.distil(task, tiny_conv4(1), rest, x, y, epochs=2)
    loader = DataLoader(TensorDataset(rest), batch_size=5)
    same = adapt.distil(task, tiny_conv4(1), loader, [*x.numpy()], np.array(y), epochs=2)
    assert torch.allclose(same.head_state, tensors.head_state, atol=1e-5)


class Letters(nn.Module):
    """Reads texts: how often each letter comes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.table = nn.Parameter(torch.randn(128, size))

    def tokenise(self, texts: list[str]) -> np.ndarray:
        width = max(map(len, texts))
        return np.array([[ord(letter) for letter in text] + [0] * (width - len(text)) for text in texts])

    def forward(self, x: Tensor) -> Tensor:
        return (self.table[x] * (x > 0)[..., None]).sum(1)


def test_texts_of_different_lengths() -> None:
    texts, y = ["aab", "abba", "xyz", "zzyx", "a", "z"], [0, 0, 1, 1, 0, 1]
    adapter = adapt.FewShotAdapter.of(Letters(8), adapt.spaces.full)
    task = adapter.replace(solver=GaussNewton(steps=0)).fit(texts, y)
    unlabelled = ["aa", "bbba", "zyx", "xx", "y", "b", "aba", "zzzzz"]
    found = adapt.distil(task, Letters(4), unlabelled, texts, y, epochs=5)
    assert found.predict(texts).tolist() == y


# ----------------------------------------------------------------------------------------- refusals


class Fixed(nn.Module):
    """Takes four columns."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def refused(match: str, *given: Any, **settings: Any) -> None:
    with pytest.raises(AdaptError, match=match):
        adapt.distil(*given, **{"epochs": 1, **settings})


def test_bad_students_are_refused() -> None:
    task, _, _, rest = pictures()
    refused("no_such", task, "no_such", rest)
    refused("student is a int: pass an nn.Module", task, 3, rest)
    refused("student is a FewShotAdapter", task, task.adapter, rest)
    refused(r"takes \(1, 32, 32\)", task, "conv4_glyphs", rest)
    refused("student Fixed cannot take the examples", task, Fixed(), rest)
    refused("takes numbers", linear_teacher_of_texts(), Fixed(), ["a", "b", "c"])
    refused("no parameters", task, nn.Flatten(), rest)


def linear_teacher_of_texts() -> FittedTask:
    adapter = adapt.FewShotAdapter.of(Letters(8), adapt.spaces.full)
    return adapter.replace(solver=GaussNewton(steps=0)).fit(["a", "b", "x", "z"], [0, 0, 1, 1])


def test_bad_examples_are_refused() -> None:
    task, x, y, rest = pictures()
    network = tiny_conv4(1)
    for none in ([], rest[:0]):
        refused("unlabelled holds 0 examples: at least 2", task, network, none)
    refused("unlabelled holds 1 example: at least 2", task, network, rest[:1])
    bad = rest.clone()
    bad[3, 0, 0, 0] = torch.nan
    refused(r"x\[3\] holds NaN or infinity", task, network, bad)
    refused("no examples x that they are of", task, network, rest, None, y)
    refused("examples without labels y", task, network, rest, x)
    refused("learns the classes of its teacher", task, network, rest, x[:2], ["circle", "hexagon"])
    refused("y holds none of the classes", task, network, rest, x[:1], ["hexagon"])
    refused("y has", task, network, rest, x, y[:-1])
    regression = adapt.load("mlp_sinusoid").fit([[0.0], [1.0]], [0.0, 1.0])
    line = torch.linspace(-1, 1, 9)[:, None]
    refused("y must hold real numbers", regression, "mlp:1-4-4", line, line, ["a"] * 9)
    refused("rows of 2 values, but the teacher gives 1", regression, "mlp:1-4-4", line, line, drawn(9, 2))


def test_bad_teachers_are_refused(tmp_path: Path) -> None:
    task, x, y, rest = pictures()
    network = tiny_conv4(1)
    refused("task is a FewShotAdapter, which teaches nothing", task.adapter, network, rest)
    together = task.adapter.replace(head=LaplacianShot()).fit(x, y)
    refused("head LaplacianShot predicts examples together", together, network, rest)
    refused("no posterior", one_shot(), network, rest, average=True)
    regression = adapt.load("mlp_sinusoid").fit([[0.0], [1.0]], [0.0, 1.0])
    line = torch.linspace(-1, 1, 9)[:, None]
    refused("this task is a regression: leave it out", regression, "mlp:1-4-4", line, average=True)
    broken = replace(task, head_state=task.head_state * torch.nan)
    refused("the teacher gives NaN or infinity for example 0", broken, network, rest)
    with torch.inference_mode():
        refused(r"outside torch\.inference_mode", task, network, rest)


def test_bad_settings_are_refused() -> None:
    task, _, _, rest = pictures()
    network = tiny_conv4(1)
    refused("distil has no setting temprature: did you mean temperature", task, network, rest, temprature=2)
    for name, value in (
        ("epochs", 0),
        ("batch", 0),
        ("lr", 0.0),
        ("weight_decay", -1.0),
        ("temperature", 0.0),
        ("held_out", 1.0),
        ("held_out", 0.0),
        ("label_weight", 1.5),
    ):
        refused(f"distil.{name}", task, network, rest, **{name: value})
    refused("seed", task, network, rest, seed=-1)
    refused("head Prototype is no linear map", task, network, rest, head=Prototype())
    refused("head LaplacianShot is no linear map", task, network, rest, head=LaplacianShot())
    refused("head is the class Logistic", task, network, rest, head=Logistic)
    refused("head=Direct takes the network's outputs", task, network, rest, head=Direct())
    regression = adapt.load("mlp_sinusoid").fit([[0.0], [1.0]], [0.0, 1.0])
    line = torch.linspace(-1, 1, 9)[:, None]
    refused("head=Logistic classifies, but", regression, "mlp:1-4-4", line, head=Logistic())
    refused("scale=10.0 turns outputs into logits", regression, "mlp:1-4-4", line, head=Ridge())
