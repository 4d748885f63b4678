"""A graph of whatever inputs as one of a single input x and a row of features for each example.

Graphs of text encoders take token ids, a mask and the kinds of the tokens. The mask is x ≠ pad, kinds are
zeros, and features are the mean of the states of tokens that are no padding (Reimers and Gurevych 2019,
*Sentence-BERT*, section 3):

    features_i = Σ_t m_it state_it / Σ_t m_it ,   m_it = 1 where x_it ≠ pad, else 0
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from adapt.edge.initializers import FLOAT
from adapt.errors import AdaptError

__all__ = ["Pool", "made_single"]

Pool = Literal["mean"]
#: Of the operations that pooling is written in; ReduceSum had its axes elsewhere before.
OPSET = 13
INT32, INT64 = 6, 7  # of onnx.TensorProto
#: Parts of the names of inputs that follow from the token ids.
MASK, KINDS = ("mask",), ("type", "segment")


def made_single(onnx: Any, model: Any, pool: Pool | None, pad: int) -> None:
    """Change ``model``, in which nothing is called x, x/… or features, to take x ``[n, …]``, and to give its
    first output, or the mean of that.

    Raises:
        AdaptError: inputs of another kind, one example at a time, or features that are no rows.
    """
    graph, make = model.graph, onnx.helper.make_node
    known = {tensor.name for tensor in graph.initializer}  # older graphs list these as inputs, too
    inputs = [it for it in graph.input if it.name not in known]
    main = _main(inputs)
    kind, sizes = main.type.tensor_type.elem_type, main.type.tensor_type.shape
    ids = kind in (INT32, INT64)
    if pool is not None and not (ids and len(sizes.dim) == 2):
        raise AdaptError(f"pool={pool!r} is of tokens: this graph takes no token ids [n, T]; use pool=None")
    nodes = [make("Cast", ["x"], [main.name], to=kind)]
    if len(inputs) > 1 or pool is not None:
        graph.initializer.append(onnx.helper.make_tensor("x/pad", INT64, [], [pad]))
        nodes += [make("Equal", ["x", "x/pad"], ["x/none"]), make("Not", ["x/none"], ["x/there"])]
        nodes += [make("Sub", ["x", "x"], ["x/zeros"])]
    for it in inputs:
        if it is not main:
            whence = "x/there" if _named(it, MASK) else "x/zeros"
            nodes.append(make("Cast", [whence], [it.name], to=it.type.tensor_type.elem_type))
    x = onnx.helper.make_tensor_value_info("x", INT64 if ids else FLOAT, None)
    x.type.tensor_type.shape.CopyFrom(sizes)
    _put(graph.input, [x])
    _put(graph.node, [*nodes, *graph.node])
    _put(graph.output, [_features(onnx, model, pool)])


def _main(inputs: list[Any]) -> Any:
    """The input that the others follow from."""
    others = [it for it in inputs if len(inputs) > 1 and _named(it, (*MASK, *KINDS))]
    mains = [it for it in inputs if not any(it is other for other in others)]
    kinds = (INT32, INT64) if others else (FLOAT, INT32, INT64)
    if len(mains) != 1 or mains[0].type.tensor_type.elem_type not in kinds:
        said = ", ".join(_shown(it) for it in inputs) or "nothing"
        raise AdaptError(
            f"this graph takes {said}: only one input of float32, or token ids and what follows from them "
            "(attention_mask, token_type_ids), can be passed"
        )
    sizes = [it.type.tensor_type.shape.dim for it in (*mains, *others)]
    if not sizes[0] or any(len(size) != len(sizes[0]) for size in sizes):
        raise AdaptError(f"{_shown(mains[0])}: this graph takes no batch of examples [n, …] and their masks")
    if any(size[0].dim_value for size in sizes):
        raise AdaptError(
            f"{_shown(mains[0])} takes {sizes[0][0].dim_value} examples at a time: export the network once "
            "more, with a first axis of any length"
        )
    return mains[0]


def _features(onnx: Any, model: Any, pool: Pool | None) -> Any:
    """The output of ``model``, with the nodes that make it."""
    if pool is not None and pool not in get_args(Pool):
        raise AdaptError(f"pool={pool!r} is not known: choose None, {', '.join(get_args(Pool))}")
    graph, make, (output, *_) = model.graph, onnx.helper.make_node, model.graph.output
    found = output.type.tensor_type
    axes, wanted = len(found.shape.dim), 2 if pool is None else 3
    if found.elem_type != FLOAT or (found.HasField("shape") and axes != wanted):
        fix = "use pool=None" if pool else "use pool='mean' if these are states of tokens"
        raise AdaptError(f"{_shown(output)} has {axes} axes, not {wanted} of float32: {fix}")
    if pool is None:
        return output
    if any(it.version < OPSET for it in model.opset_import if it.domain in ("", "ai.onnx")):
        raise AdaptError(f"this graph is of an opset before {OPSET}: use onnx.version_converter")
    graph.initializer.append(onnx.helper.make_tensor("x/axes", INT64, [1], [1]))
    graph.initializer.append(onnx.helper.make_tensor("x/one", FLOAT, [], [1.0]))
    graph.node.extend(
        [
            make("Cast", ["x/there"], ["x/counted"], to=FLOAT),
            make("Einsum", ["x/counted", output.name], ["x/sums"], equation="nt,ntd->nd"),
            make("ReduceSum", ["x/counted", "x/axes"], ["x/counts"], keepdims=1),
            make("Max", ["x/counts", "x/one"], ["x/lengths"]),  # a text of padding alone has features, too
            make("Div", ["x/sums", "x/lengths"], ["features"]),
        ]
    )
    return onnx.helper.make_tensor_value_info("features", FLOAT, None)


def _named(it: Any, parts: tuple[str, ...]) -> bool:
    return any(part in it.name.lower() for part in parts)


def _shown(it: Any) -> str:
    return str(it.name.rsplit("/", 1)[-1])


def _put(field: Any, entries: list[Any]) -> None:
    """``entries`` in the place of what a repeated field holds."""
    kept = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    del field[:]
    field.extend(kept)
