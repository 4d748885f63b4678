"""Directions for the initializers of a graph: by its layers, or learned for the same network in torch."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter, layered_state
from adapt.adapter.untrained import PARTS
from adapt.edge.initializers import FLOAT, by_name, floats, read_graph, space_of
from adapt.errors import AdaptError

__all__ = ["carried_moves", "layered_moves"]

_AFTER = (1, 2)
#: Which inputs of norms are scale and shift.
NORMS = {
    "BatchNormalization": _AFTER,
    "GroupNormalization": _AFTER,
    "InstanceNormalization": _AFTER,
    "LayerNormalization": _AFTER,
    "RMSNormalization": _AFTER,
    "SimplifiedLayerNormalization": _AFTER,
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
}


def layered_moves(source: str | os.PathLike[str], k: int = PARTS, share: float = 0.1) -> dict[str, Tensor]:
    """Where nothing was learned: scales and shifts of the norms of the graph in ``source``, with directions
    as those of :func:`adapt.adapter.layered_state`.

    In a graph without norms (in evaluation a batch norm is written as a product and a sum) these are vectors
    by which activations are multiplied, and vectors added to such products.

    Returns:
        U ``[k, *shape]`` of each, by its name.

    Raises:
        AdaptError: a file that is no graph, or one in which nothing of this kind is found.
    """
    model = read_graph(source)
    names = _of_norms(model.graph) or _of_products(model.graph)
    if not names:
        raise AdaptError(
            f"{source} has no scales and shifts of norms, which may have been merged into weights: name the "
            "initializers that are to move"
        )
    space = space_of(model, names)
    return by_name(space, layered_state(space, k, share).basis)


def carried_moves(adapter: FewShotAdapter, source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The directions of ``adapter``, and with them its z, for a graph of the same network, whose initializers
    have the names of the parameters but for how these begin.

    Returns:
        U ``[k, *shape]`` of each, by its name in the graph.

    Raises:
        AdaptError: a file that is no graph, directions that are none of single parameters, or a parameter
            that is not there once, with the values at which the adapter starts.
    """
    state, space, there = adapter.state, adapter.space, floats(read_graph(source))
    if space.merge is not None or state.basis.ndim == 1:
        raise AdaptError(
            f"the space '{space.name}' cannot be carried over: only directions of parameters can"
        )
    columns, found = by_name(space, state.basis.detach().cpu().float()), {}
    for name, start in space.tensors(state.origin.detach().cpu().float()).items():
        alike = [it for it in _ending_like(name, there) if there[it].shape == start.shape]
        if len(alike) != 1:
            raise AdaptError(f"{source} has {name} {len(alike)} times, not once: is it of another network?")
        if not torch.allclose(there[alike[0]], start, rtol=1e-3, atol=1e-4):
            raise AdaptError(
                f"{source} has {alike[0]} with other values than those that the adapter starts at"
            )
        found[alike[0]] = columns[name]
    return found


def _ending_like(name: str, known: dict[str, Tensor]) -> list[str]:
    """Those of ``known`` whose last parts are those of ``name``, as many of them as possible."""
    parts = name.split(".")
    for first in range(max(1, len(parts) - 1)):
        tail = ".".join(parts[first:])
        if found := [it for it in known if it == tail or it.endswith(f".{tail}")]:
            return found
    return []


def _of_norms(graph: Any) -> list[str]:
    """Scales and shifts, in the order in which they are used."""
    vectors = _vectors(graph)
    used = [
        node.input[place]
        for node in graph.node
        for place in NORMS.get(node.op_type, ())
        if place < len(node.input) and node.input[place] in vectors
    ]
    return [*dict.fromkeys(used)]


def _of_products(graph: Any) -> list[str]:
    """Vectors that multiply what depends on an input, and those that are added to the product."""
    vectors, used = _vectors(graph), list[str]()
    products: set[str] = set()
    of_x = {it.name for it in graph.input} - {it.name for it in graph.initializer}
    for node in graph.node:
        given = {*node.input}
        if not given & of_x:
            continue
        of_x |= {*node.output}
        if node.op_type == "Mul" or (node.op_type == "Add" and given & products):
            own = [name for name in node.input if name in vectors]
            used += own
            products |= {*node.output} if node.op_type == "Mul" and own else set()
    return [*dict.fromkeys(used)]


def _vectors(graph: Any) -> set[str]:
    """Initializers of float32 with one axis that is longer than 1."""
    found = [it for it in graph.initializer if it.data_type == FLOAT]
    return {it.name for it in found if sum(size > 1 for size in it.dims) == 1}
