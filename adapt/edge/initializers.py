"""ONNX graphs of others, and what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from math import prod
from typing import Any

import torch
from torch import Tensor

from adapt.backbones import require
from adapt.errors import AdaptError
from adapt.files import reading
from adapt.spaces import Space
from tasks.readers.regular import regular_file

__all__ = ["FLOAT", "by_name", "floats", "read_graph", "space_of"]

FLOAT = 1  # of onnx.TensorProto


def read_graph(source: str | os.PathLike[str]) -> Any:
    """The ``ModelProto`` in the file ``source``.

    Raises:
        AdaptError: no such file, no graph, or no package onnx.
    """
    onnx = require("onnx")
    with reading(source, "is no ONNX graph that can be read"):
        model = onnx.load(regular_file(source))
        if not model.graph.output:  # of many a file that is something else
            raise ValueError("it has no outputs")
    return model


def floats(model: Any) -> dict[str, Tensor]:
    """Initializers of float32, by their names."""
    as_array = require("onnx").numpy_helper.to_array
    found = [it for it in model.graph.initializer if it.data_type == FLOAT]
    return {it.name: torch.from_numpy(as_array(it).copy()) for it in found}


def space_of(model: Any, names: Iterable[str]) -> Space:
    """The initializers ``names`` as what moves.

    Raises:
        AdaptError: no names, or one that is no initializer, or not of float32.
    """
    there, chosen = floats(model), {}
    for name in names:
        if name not in there:
            if any(it.name == name for it in model.graph.initializer):
                raise AdaptError(f"the initializer {name} is not of float32: only such can move")
            close = get_close_matches(str(name), there, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join([*there][:8]) or 'none'}"
            raise AdaptError(f"this graph has no initializer {name}: {hint}")
        chosen[name] = there[name]
    if not chosen:
        raise AdaptError("moves names no initializer: give a tensor [k, *shape] for one at least")
    shapes = {name: tuple(value.shape) for name, value in chosen.items()}
    return Space("initializers", shapes, torch.cat([value.reshape(-1) for value in chosen.values()]))


def by_name(space: Space, basis: Tensor) -> dict[str, Tensor]:
    """The rows of U ``[P, k]`` that belong to each tensor: ``[k, *shape]``."""
    parts = basis.T.split([prod(shape) for shape in space.shapes.values()], 1)
    return {
        name: part.reshape(-1, *shape)
        for (name, shape), part in zip(space.shapes.items(), parts, strict=True)
    }
