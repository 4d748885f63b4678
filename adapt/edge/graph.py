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
from adapt.adapter.export import check_agrees, onnx_written
from adapt.backbones import call, require
from adapt.errors import AdaptError
from adapt.files import writing
from adapt.hashes import sha256_of
from adapt.spaces import Subspace

__all__ = ["GRAPH", "INT8", "quantised", "save_edge", "state_hash"]

#: Files beside those of a saved adapter.
GRAPH, INT8 = "network.onnx", "network.int8.onnx"


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
    """Write ``adapter`` as :meth:`FewShotAdapter.save_pretrained` does, and beside it its network as a graph.

    Args:
        x: an example or more ``[n, …]``, to follow through the network and to compare on.

    Raises:
        AdaptError: a network that cannot be followed, or a package that is missing.
    """
    adapter = adapter.to("cpu")
    given, folder = adapter.examples(x), Path(folder)
    adapter.save_pretrained(folder)
    module, z = Moving(adapter).eval(), adapter.state.origin.new_zeros(adapter.state.k)
    with writing(folder / GRAPH) as there:
        found = onnx_written(module, (given, z), there, {"adapter": state_hash(adapter.state._asdict())})
        with torch.no_grad():
            wanted = module(given, z)
        check_agrees(folder / GRAPH, found, wanted)


def state_hash(tensors: dict[str, Tensor]) -> str:
    """Of an adapter's state, by which a graph knows whose it is."""
    return sha256_of(tensors, {})


def quantised(folder: str | os.PathLike[str], x: Any) -> Path:
    """Write the graph of an adapter in ``folder`` once more, with the weights and activations of its network
    in eight bits and what z moves as it was.

    Args:
        x: examples ``[n, …]`` as the graph takes them, whose range is that of the activations. Token ids:
            activations get theirs from every batch.

    Raises:
        AdaptError: no graph, or a package that is missing.
    """
    source, target = Path(folder) / GRAPH, Path(folder) / INT8
    if not source.is_file():
        raise AdaptError(f"{source} does not exist: write it with save_edge(adapter, folder, x)")
    onnx, tools = require("onnx"), require("onnxruntime.quantization")
    values = torch.as_tensor(x)
    with writing(target) as there, _quietly():
        graph = onnx.load(source).graph
        shared = {"per_channel": True, "nodes_to_exclude": [*_of_z(graph)]}
        if values.is_floating_point():
            reader = _Reader(values, _directions(graph))
            tools.quantize_static(source, there, reader, op_types_to_quantize=["Conv"], **shared)
        else:
            tools.quantize_dynamic(source, there, op_types_to_quantize=["MatMul", "Gemm"], **shared)
    return target


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


def _directions(graph: Any) -> int:
    return int(next(it for it in graph.input if it.name == "x1").type.tensor_type.shape.dim[0].dim_value)


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
