"""Adapting where there is no autograd: a network that is an ONNX graph, in whole numbers if need be."""

from adapt.edge.adapter import EdgeAdapter, EdgeTask
from adapt.edge.graph import quantised, save_edge
from adapt.edge.moves import carried_moves, layered_moves
from adapt.edge.own import moving

__all__ = ["EdgeAdapter", "EdgeTask", "carried_moves", "layered_moves", "moving", "quantised", "save_edge"]
