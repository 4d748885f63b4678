"""Adapting where there is no autograd: a network that is an ONNX graph, in whole numbers if need be."""

from adapt.edge.adapter import EdgeAdapter, EdgeTask
from adapt.edge.graph import quantised, save_edge

__all__ = ["EdgeAdapter", "EdgeTask", "quantised", "save_edge"]
