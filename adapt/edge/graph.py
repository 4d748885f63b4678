"""The network of an adapter as an ONNX graph that takes examples and z, and the same in eight bits.

features [n, D] = backbone(x; φ₀ + U z) ,   x [n, …] and z [k] inputs of the graph
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter
from adapt.adapter.export import check_agrees, check_target, onnx_written
from adapt.backbones import call, fingerprint, pictures_of, require
from adapt.edge.given import Given, said_of
from adapt.errors import AdaptError
from adapt.files import writing
from adapt.hashes import sha256_of
from adapt.precision import outside_autocast
from adapt.spaces import Subspace

__all__ = ["GRAPH", "INT8", "check_alone", "network_hash", "quantised", "save_edge"]

#: Files beside those of a saved adapter.
GRAPH, INT8 = "network.onnx", "network.int8.onnx"
PRODUCTS = ["MatMul", "Gemm"]
#: What is in a graph that computes in eight bits.
EIGHT_BITS = ("QLinearConv", "QuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


class Moving(nn.Module):
    """Features of x at φ₀ + U z."""

    def __init__(self, adapter: FewShotAdapter) -> None:
        super().__init__()
        self.backbone, self.space = adapter.backbone, adapter.space
        self.origin, self.basis = nn.Buffer(adapter.state.origin), nn.Buffer(adapter.state.basis)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """``[n, D]``."""
        return call(self.backbone, Subspace(self.space, self.origin, self.basis).parameters(z), x)


def save_edge(adapter: FewShotAdapter, folder: str | os.PathLike[str], x: Any) -> None:
    """Write ``adapter`` as :meth:`FewShotAdapter.save_pretrained` does, in float32, and beside it its network
    as a graph.

    Args:
        x: an example or more ``[n, …]``, to follow through the network and to compare on.

    Raises:
        AdaptError: a network that cannot be followed, what inferences alone cannot do (:func:`check_alone`),
            or a package that is missing.
    """
    if not isinstance(adapter, FewShotAdapter):
        raise AdaptError(
            f"adapter is a {type(adapter).__name__}: pass a FewShotAdapter, such as task.adapter"
        )
    check_alone(adapter.solver, adapter.match, mixture=adapter.state.is_mixture)
    adapter = adapter.to("cpu", torch.float32)
    given, path = adapter.examples(x), check_target(Path(folder) / GRAPH, "onnx")
    module, z = Moving(adapter).eval(), adapter.state.origin.new_zeros(adapter.state.k)
    about = {"adapter": network_hash(adapter.state.tensors(), fingerprint(adapter.backbone))}
    about |= said_of(pictures_of(adapter.backbone, adapter.input_shape))
    with writing(path) as there, outside_autocast(given.device), torch.no_grad():
        check_agrees(path, onnx_written(module, (given, z), there, about), module(given, z))
        adapter.save_pretrained(folder)


def check_alone(solver: Any, match: Any, *, mixture: bool = False) -> None:
    """Refuse an adapter that needs more than inferences along its directions.

    Raises:
        AdaptError: norms that follow, backpropagation that is tried besides, or a mixture of subspaces.
    """
    if mixture:
        raise AdaptError(
            "this is a mixture of subspaces, among which a graph cannot pick: use an adapter of one"
        )
    if match is not None:
        raise AdaptError("match: a graph's norms cannot follow a task: use adapter.replace(match=None)")
    if getattr(solver, "rival", None) is not None:
        raise AdaptError(
            "inner.backprop_steps: a graph has no backpropagation to try: use "
            "adapter.replace(solver=Auto(backprop_steps=0))"
        )


def network_hash(state: dict[str, Tensor], backbone: str) -> str:
    """Of an adapter's state and of its network's fingerprint, by which a graph knows whose it is."""
    return sha256_of(state, {"backbone": backbone})


def quantised(folder: str | os.PathLike[str], x: Any) -> Path:
    """Write the graph of an adapter in ``folder`` once more, with convolutions and matrix products of its
    network in eight bits, and what z moves as it was.

    Args:
        x: examples ``[n, …]`` as the graph takes them, whose range is that of the activations. Token ids:
            activations get theirs from every batch.

    Raises:
        AdaptError: no graph, examples that it does not take, nothing in it that eight bits are for, or a
            package that is missing.
    """
    source, target = Path(folder) / GRAPH, Path(folder) / INT8
    onnx, tools = require("onnx"), require("onnxruntime.quantization")
    model = _read(onnx, source)
    said = {entry.key: entry.value for entry in model.metadata_props}
    given = Given.read(*_input(model.graph, "x"), said)
    values, left = given.examples(x), [*_of_z(model.graph)]
    with writing(target) as there, _quietly(), torch.no_grad():
        if given.ids:
            tools.quantize_dynamic(
                source, there, op_types_to_quantize=PRODUCTS, per_channel=True, nodes_to_exclude=left
            )
        else:
            reader = _Reader(values, _input(model.graph, "x1")[0][0])
            kinds = ["Conv", *PRODUCTS]
            tools.quantize_static(
                source, there, reader, op_types_to_quantize=kinds, per_channel=True, nodes_to_exclude=left
            )
        made = onnx.load(there)
        if not any(node.op_type in EIGHT_BITS for node in made.graph.node):
            raise AdaptError(f"{source}: nothing in this network can be computed in eight bits")
        onnx.helper.set_model_props(made, said)
        onnx.save(made, there)
    return target


def _read(onnx: Any, path: Path) -> Any:
    if not path.is_file():
        raise AdaptError(f"{path} does not exist: write it with save_edge(adapter, folder, x)")
    try:
        return onnx.load(path)
    except Exception as error:  # of the parser of its format
        raise AdaptError(f"{path} is no graph that can be read: write it with save_edge") from error


def _input(graph: Any, name: str) -> tuple[list[Any], str]:
    """Sizes, or their names, and the kind of an input."""
    found = next(it for it in graph.input if it.name == name).type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else size.dim_param for size in found.shape.dim]
    return sizes, "float" if found.elem_type == 1 else "int"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without advice on what could be done before."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _of_z(graph: Any) -> Iterator[str]:
    """Names of the nodes that depend on z and on no example: they make the parameters."""
    of_x, of_z = {"x"}, {"x1"}
    for node in graph.node:
        if of_x & {*node.input}:
            of_x |= {*node.output}
        elif of_z & {*node.input}:
            of_z |= {*node.output}
            yield node.name


class _Reader:
    """Batches for the ranges of activations, at z = 0."""

    def __init__(self, values: Tensor, k: int) -> None:
        self._batches = iter(values.split(16))
        self._z = torch.zeros(k).numpy()

    def get_next(self) -> dict[str, Any] | None:
        """The inputs of the graph; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch.numpy(), "x1": self._z}
