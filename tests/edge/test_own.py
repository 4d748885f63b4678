"""Networks that are ONNX graphs only: the same as the graph of an adapter of the same network in torch."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adapt
from adapt.adapter import FewShotAdapter, layered_state
from adapt.adapter.export import onnx_written
from adapt.edge import EdgeAdapter, carried_moves, layered_moves, moving, save_edge
from adapt.errors import AdaptError
from adapt.heads import Ridge
from adapt.inner import Auto, GaussNewton
from adapt.spaces import film, lora
from tests.edge.tasks_of import TASKS, drawn
from tests.helpers import randomised

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow

NAMES = ["1.weight", "1.bias"]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def network() -> nn.Module:
    return randomised(nn.Sequential(nn.Linear(6, 12), nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, 8)))


def task() -> tuple[Tensor, Tensor]:
    x = torch.randn(24, 6, generator=generator())
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as a graph that knows no z."""
    path = tmp_path_factory.mktemp("own") / "alone.onnx"
    onnx_written(network(), (task()[0],), path, {})
    return path


def outputs(path: Path, **fed: Tensor) -> np.ndarray:
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in fed.items()})[0]


def features(edge: EdgeAdapter, x: Tensor) -> np.ndarray:
    return edge.features(x, torch.linspace(-1, 1, edge.state.k)).numpy()


def test_features_and_tasks_are_those_of_a_graph_from_torch(alone: Path, tmp_path: Path) -> None:
    (x, y), backbone = task(), network()
    space = film(backbone)
    state = layered_state(space, 2)
    basis = state.basis + 0.1 * torch.randn(state.basis.shape, generator=generator())
    state = state._replace(basis=basis, log_precision=torch.tensor([0.2, -0.1]))
    adapter = FewShotAdapter(backbone, space, state._replace(log_sharpness=torch.tensor(0.3)), head=Ridge())
    save_edge(adapter, tmp_path, x)
    there = EdgeAdapter.load(tmp_path, step=0.1)
    here = EdgeAdapter.of(alone, adapter, step=0.1)
    assert all(map(torch.equal, here.state, there.state)) and here.problem == there.problem
    assert features(here, x) == pytest.approx(features(there, x), abs=1e-4)
    found, wanted = here.fit(x, y), there.fit(x, y)
    assert found.z.numpy() == pytest.approx(wanted.z.numpy(), abs=1e-4) and found.z.any()
    assert found.predict_proba(x) == pytest.approx(wanted.predict_proba(x), abs=1e-4)


def test_without_moves_scales_and_shifts_of_norms_move_by_layers(alone: Path) -> None:
    edge, space = EdgeAdapter.of(alone), film(network())
    wanted = layered_state(space, 8)
    assert torch.equal(edge.state.origin, wanted.origin) and torch.equal(edge.state.basis, wanted.basis)
    assert [*layered_moves(alone)] == NAMES


def test_norms_that_became_products_and_sums(tmp_path: Path) -> None:
    """Batch norms in evaluation, of which no name is left; what is in eight bits stays so."""
    adapter, episode = adapt.load("conv4_glyphs_film"), drawn()
    path = tmp_path / "conv4.onnx"
    onnx_written(adapter.backbone, (episode.support_x,), path, {})
    moves = layered_moves(path, 4)
    assert sorted(value.shape for value in moves.values()) == 8 * [(4, 64, 1, 1)]
    edge = EdgeAdapter.of(path, moves)
    fitted = edge.fit(episode.support_x, episode.support_y)
    assert fitted.z.any() and (fitted.predict(episode.query_x) == episode.query_y.numpy()).mean() > 0.9
    still = adapter.backbone(episode.query_x).detach().numpy()
    assert edge.features(episode.query_x, torch.zeros(4)).numpy() == pytest.approx(still, abs=1e-3)


def test_tensors_of_any_shape_move(alone: Path, tmp_path: Path) -> None:
    """A matrix and a bias, along three directions; the file is the same network."""
    x, _ = task()
    moves = {"3.weight": torch.randn(3, 8, 12, generator=generator()), "3.bias": torch.ones(3, 8)}
    moves = {name: value.double() for name, value in moves.items()}
    path, z, moved = moving(alone, tmp_path / "moving.onnx", moves), torch.tensor([0.3, -0.1, 0.2]), network()
    with torch.no_grad():
        for name, value in moves.items():
            moved.get_parameter(name).add_(torch.tensordot(z, value.float(), 1))
        assert outputs(path, x=x, x1=z) == pytest.approx(moved(x).numpy(), abs=1e-4)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_token_states_are_pooled(tmp_path: Path, eight_bits: bool) -> None:
    """Of a graph of ids, mask and kinds of tokens, without the padding; directions carried over by names."""
    fitted, texts = TASKS["texts"]()
    adapter: FewShotAdapter = fitted.adapter
    ids, path = adapter.examples(texts), tmp_path / "encoder.onnx"
    transformer: Any = adapter.backbone.transformer
    encoder(transformer, ids, path)
    if eight_bits:
        tools = pytest.importorskip("onnxruntime.quantization")
        tools.quantize_dynamic(path, path, op_types_to_quantize=["MatMul"])
    edge = EdgeAdapter.of(path, adapter, pool="mean")
    with torch.no_grad():
        wanted = adapter.backbone(ids).numpy()
    apart = np.abs(edge.features(ids, torch.zeros(2)).numpy() - wanted).max()
    assert apart < (0.1 if eight_bits else 1e-4)
    y = [str(label) for label in fitted.predict(texts)]
    assert edge.fit(ids, y).predict(ids[:2]).tolist() == y[:2]
    with pytest.raises(AdaptError, match="pool='mean' if these are states of tokens"):
        EdgeAdapter.of(path)


class Encoder(nn.Module):
    """States of tokens as exporters of text encoders give them."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.inner = transformer

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        hidden = torch.where(attention_mask[:, None, None, :] > 0, 0.0, torch.finfo(torch.float32).min)
        hidden = hidden.expand(-1, 1, input_ids.shape[1], -1)
        return self.inner(input_ids, hidden, token_type_ids).last_hidden_state


def encoder(transformer: nn.Module, ids: Tensor, path: Path) -> None:
    sizes = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    given = (ids, (ids != 0).long(), torch.zeros_like(ids))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts, about each other
        program = torch.export.export(
            Encoder(transformer).eval(), given, dynamic_shapes=dict.fromkeys(names, sizes)
        )
        made = torch.onnx.export(program, given, input_names=names, dynamo=True, verbose=False)
    assert made is not None
    path.write_bytes(made.model_proto.SerializeToString())


def test_values(alone: Path) -> None:
    x, _ = task()
    edge = EdgeAdapter.of(alone, regression=True, step=0.1, solver=GaussNewton(steps=2))
    values = edge.fit(x, x[:, :1].sin()).predict(x)
    assert values.shape == (24, 1) and np.corrcoef(values[:, 0], x[:, 0].sin())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ({"1.weigth": torch.ones(2, 12)}, r"no initializer 1\.weigth: did you mean 1\.weight"),
        ({"zzz": torch.ones(2, 12)}, "no initializer zzz: it has "),
        ({"1.weight": torch.ones(2, 11)}, r"of shape \(2, 11\): it must be \[2, 12\]"),
        ({"1.weight": torch.ones(12)}, r"must be \[12, 12\]"),
        ({"1.weight": torch.ones(0, 12)}, r"must be \[k, 12\]"),
        ({"1.weight": torch.ones(2, 12), "1.bias": torch.ones(3, 12)}, r"must be \[2, 12\]"),
        ({"1.weight": torch.ones(2, 12).long()}, "no tensor of floating-point numbers"),
        ({"1.weight": np.ones((2, 12))}, "no tensor of floating-point numbers"),
        ({"1.weight": torch.full((2, 12), torch.nan)}, "NaN or infinity"),
        ({}, "names no initializer"),
        ([], "moves is a list"),
    ],
)
def test_moves_that_a_graph_does_not_have(alone: Path, tmp_path: Path, moves: Any, said: str) -> None:
    for make in (
        lambda: EdgeAdapter.of(alone, moves),
        lambda: moving(alone, tmp_path / "moving.onnx", moves),
    ):
        with pytest.raises(AdaptError, match=said):
            make()
    assert not [*tmp_path.iterdir()]


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for read in (EdgeAdapter.of, layered_moves):
        with pytest.raises(AdaptError, match="does not exist"):
            read(tmp_path / "none.onnx")
        for name in ("no.onnx", "empty.onnx"):
            with pytest.raises(AdaptError, match="is no ONNX graph that can be read"):
                read(tmp_path / name)


def small(path: Path, inputs: dict[str, tuple[int, list[Any]]], kind: int = 1, shape: Any = ("n", 4)) -> Path:
    """A graph of whatever inputs, of which the first is scaled by w; w may be of another type."""
    helper, first = onnx.helper, next(iter(inputs))
    nodes = [helper.make_node("Cast", [first], ["a"], to=1), helper.make_node("Cast", ["w"], ["b"], to=1)]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Mul", ["a", "b"], ["out"])],
        "small",
        [helper.make_tensor_value_info(name, *said) for name, said in inputs.items()],
        [helper.make_tensor_value_info("out", 1, shape)],
        [helper.make_tensor("w", kind, [4], [1, 2, 3, 4])],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_graphs_that_are_not_understood(tmp_path: Path) -> None:
    path, moves = tmp_path / "small.onnx", {"w": torch.ones(1, 4)}
    with pytest.raises(AdaptError, match="w is not of float32"):
        EdgeAdapter.of(small(path, {"a0": (1, ["n", 4])}, kind=7), moves)
    many: dict[str, dict[str, tuple[int, list[Any]]]] = {
        "takes pixels, tokens: only one input": {"pixels": (1, ["n", 4]), "tokens": (7, ["n", "t"])},
        "takes pixels, mask: only one input": {"pixels": (1, ["n", 4]), "mask": (1, ["n", 4])},
        "takes text: only one input": {"text": (8, ["n", 4])},
        "pixels takes 2 examples at a time": {"pixels": (1, [2, 4])},
        "ids: this graph takes no batch": {"ids": (7, ["n", "t"]), "mask": (7, ["n", 1, "t", "t"])},
    }
    for said, inputs in many.items():
        with pytest.raises(AdaptError, match=said):
            EdgeAdapter.of(small(path, inputs), moves)
    small(path, {"pixels": (1, ["n", 4])})
    with pytest.raises(AdaptError, match="takes no token ids"):
        EdgeAdapter.of(path, moves, pool="mean")
    with pytest.raises(AdaptError, match="has no scales and shifts"):
        layered_moves(path)
    small(path, {"ids": (7, ["n", 4])})
    with pytest.raises(AdaptError, match="use pool=None"):
        EdgeAdapter.of(path, moves, pool="mean")
    with pytest.raises(AdaptError, match="pool='max' is not known"):
        EdgeAdapter.of(path, moves, pool="max")  # type: ignore[arg-type]


def test_adapters_that_cannot_be_carried_over(alone: Path) -> None:
    backbone = network()
    space = film(backbone)
    adapter = FewShotAdapter(backbone, space, layered_state(space, 2))
    other = adapter.replace(state=adapter.state._replace(origin=adapter.state.origin + 1))
    with pytest.raises(AdaptError, match="with other values"):
        carried_moves(other, alone)
    deeper = nn.Sequential(network(), nn.LayerNorm(8))
    with pytest.raises(AdaptError, match="times, not once"):
        carried_moves(FewShotAdapter.of(deeper), alone)
    low = lora(backbone, rank=1)
    with pytest.raises(AdaptError, match="only directions of parameters can"):
        carried_moves(FewShotAdapter(backbone, low, layered_state(low, 2)), alone)


def test_parts_that_cannot_be_used(alone: Path) -> None:
    for parts, said in (
        ({"heads": Ridge()}, "no attribute heads: did you mean head"),
        ({"head": "ridge"}, "head is 'ridge'"),
        ({"solver": Auto(backprop_steps=3)}, "backprop_steps=0"),
    ):
        with pytest.raises(AdaptError, match=said):
            EdgeAdapter.of(alone, **parts)
    assert replace(EdgeAdapter.of(alone), step=1.0).step == 1.0
