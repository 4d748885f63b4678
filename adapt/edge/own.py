"""A network that is there as an ONNX graph only, and what z moves in it.

    W(z) = W + Σ_j z_j U_j   for chosen float32 initializers W ,   z [k] one more input of the graph

U is kept as ``[*shape of W, k]``, of which one MatMul with z makes a tensor of the shape of W: two small
nodes for each W, and what read W reads W(z). The rest of the graph may compute in eight bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.adapter import AdapterState, initial_state
from adapt.adapter.export import check_target
from adapt.backbones import require
from adapt.edge.initializers import FLOAT, read_graph, space_of
from adapt.edge.single import Pool, made_single
from adapt.errors import AdaptError
from adapt.files import writing
from adapt.spaces import Space

__all__ = ["moved_graph", "moving"]

#: Before all names of the graph, so that x, x1 and what begins with them are free.
OWN = "own/"


def moving(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    moves: Mapping[str, Tensor],
    *,
    pool: Pool | None = None,
    pad: int = 0,
) -> Path:
    """Write the graph in ``source`` to ``target`` as one of x ``[n, …]`` and of x1, which is z ``[k]``.

    Args:
        moves: U ``[k, *shape]`` of each initializer that moves, by its name.
        pool: what makes features of the states ``[n, T, D]`` of tokens; None: the output is ``[n, D]``.
        pad: the token id that is padding.

    Raises:
        AdaptError: a file that is no graph, initializers that it does not have or that are not of float32,
            moves of another shape, or inputs and outputs that are not understood.
    """
    path = check_target(target, "onnx")
    written, *_ = moved_graph(source, moves, pool, pad)
    with writing(path) as there:
        there.write_bytes(written)
    return path


def moved_graph(
    source: str | os.PathLike[str],
    moves: Mapping[str, Tensor],
    pool: Pool | None = None,
    pad: int = 0,
) -> tuple[bytes, Space, AdapterState]:
    """The same as bytes, with what moves: φ₀ as the graph has it, U, and a prior of standard deviation 1.

    Raises:
        AdaptError: as :func:`moving`.
    """
    model, onnx = read_graph(source), require("onnx")
    if not isinstance(moves, Mapping):
        raise AdaptError(f"moves is a {type(moves).__name__}: give {{name of an initializer: U [k, *shape]}}")
    space = space_of(model, moves)
    columns = _columns(moves, space.shapes)
    k = next(iter(columns.values())).shape[-1]
    made = onnx.compose.add_prefix(model, OWN)
    made_single(onnx, made, pool, pad)
    _add_z(onnx, made.graph, columns, k)
    del made.metadata_props[:]  # what others say of their examples is not in our words
    basis = torch.cat([value.reshape(-1, k) for value in columns.values()])
    return made.SerializeToString(), space, initial_state(space.initial, basis)


def _columns(moves: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """U of each tensor ``[*shape, k]``."""
    found, k = {}, None
    for name, shape in shapes.items():
        u = moves[name]
        if not isinstance(u, Tensor) or not u.is_floating_point():
            raise AdaptError(f"moves['{name}'] is no tensor of floating-point numbers")
        if k is None and u.ndim and len(u):
            k = len(u)
        if tuple(u.shape) != (k, *shape):
            wanted = ", ".join(map(str, ("k" if k is None else k, *shape)))
            raise AdaptError(f"moves['{name}'] is of shape {tuple(u.shape)}: it must be [{wanted}]")
        if not bool(u.isfinite().all()):
            raise AdaptError(f"moves['{name}'] holds NaN or infinity")
        found[name] = u.detach().float().cpu().movedim(0, -1).contiguous()
    return found


def _add_z(onnx: Any, graph: Any, columns: Mapping[str, Tensor], k: int) -> None:
    """Put W(z) where W was: the initializer gets another name, and a sum gets its name."""
    graph.input.append(onnx.helper.make_tensor_value_info("x1", FLOAT, [k]))
    for tensor in [*graph.initializer]:
        name = tensor.name.removeprefix(OWN)
        if name in columns and tensor.name != name:
            u, change, start = f"x1/{name}", f"x1/change/{name}", f"x1/start/{name}"
            graph.initializer.append(onnx.numpy_helper.from_array(columns[name].numpy(), u))
            graph.node.insert(0, onnx.helper.make_node("Add", [start, change], [tensor.name]))
            graph.node.insert(0, onnx.helper.make_node("MatMul", [u, "x1"], [change]))
            tensor.name = start
