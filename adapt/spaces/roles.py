"""What the parameters of a network do: bias, scale and shift of a normalisation, matrix of a linear map.

A role follows from the kind of the module that holds a parameter, or, for modules that torch does not know,
from what the module holds besides, the shapes, and the names that everybody gives these parts. What cannot be
told is nothing of the three: spaces leave it out, and say so (``Space.left_out``).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from adapt.backbones.frozen_norm import FrozenBatchNorm

__all__ = ["KINDS", "Matrix", "is_bias", "is_norm", "is_vector", "matrices"]

KNOWN_NORMS = (FrozenBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)
#: ``LlamaRMSNorm``, ``LayerNorm2d``, ``GlobalResponseNorm``; not ``Normal`` nor ``Normalize``.
NORM_NAME = re.compile(r"norm(?!al(?!i[sz]ation))", re.IGNORECASE)
EPSILONS = ("eps", "epsilon", "variance_epsilon", "norm_eps", "layer_norm_eps")
SCALES = ("weight", "gamma", "scale", "g", "a_2")
SHIFTS = ("b", "b_2", "beta", "shift", "offset")
#: Tables of numbers that are added to attention scores, by the distance of tokens, are no biases of a layer.
TABLES = ("table", "rel_pos", "relative")
#: Modules whose two-dimensional weight is looked up by rows, and multiplies nothing.
LOOKED_UP = re.compile(r"embed|position|codebook|quanti[sz]er|prompt|token", re.IGNORECASE)
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Matrix(NamedTuple):
    """A matrix of a module: local names of its weight and bias, its name among several ("" for the only one),
    and whether it is stored ``[in, out]`` and not ``[out, in, *kernel]``; ``shared``: its bias is one with
    that of others."""

    weight: str
    bias: str | None
    name: str = ""
    transposed: bool = False
    shared: bool = False


def is_vector(tensor: Tensor) -> bool:
    """Whether all axes but one, at most, are of length 1."""
    return tensor.numel() == max(tensor.shape, default=1)


def is_norm(module: nn.Module) -> bool:
    """Whether the module normalises and then scales, shifts or both; batch norm only if it is frozen."""
    if isinstance(module, KNOWN_NORMS):
        return True
    own = {name: tensor for name, tensor in module._parameters.items() if tensor is not None}
    inside = any(True for child in module.children() for _ in child.parameters())
    if isinstance(module, nn.modules.batchnorm._BatchNorm) or not own or inside:
        return False
    if not all(map(is_vector, own.values())):
        return False
    named = NORM_NAME.search(type(module).__name__) is not None
    epsilon = any(isinstance(getattr(module, name, None), float) for name in EPSILONS)
    return named or (epsilon and any(name in SCALES for name in own))


def is_bias(module: nn.Module, name: str) -> bool:
    """Whether the parameter ``name`` of ``module`` is added to what a layer gives, a number for each
    channel."""
    tensor = module._parameters[name]
    if tensor is None:
        return False
    if name == "bias":
        return True
    if not is_vector(tensor) or any(word in name for word in TABLES):
        return False
    if "bias" in name.lower():  # bias_ih_l0, in_proj_bias, bias_k, q_bias
        return True
    if name not in SHIFTS:
        return False
    others = [other for other in module._parameters.values() if other is not None and not is_vector(other)]
    return is_norm(module) or any(tensor.numel() in other.shape for other in others)


def matrices(module: nn.Module) -> Iterator[Matrix]:
    """The matrices by which ``module`` itself multiplies; kernels of convolutions count as such."""
    own = {name for name, tensor in module._parameters.items() if tensor is not None}

    def bias(name: str) -> str | None:
        return name if name in own else None

    if isinstance(module, KINDS):
        if "weight" in own:
            yield Matrix("weight", bias("bias"))
    elif isinstance(module, nn.MultiheadAttention):
        if "in_proj_weight" in own:
            yield Matrix("in_proj_weight", bias("in_proj_bias"), "in_proj")
        for part in ("q_proj", "k_proj", "v_proj"):
            if f"{part}_weight" in own:
                yield Matrix(f"{part}_weight", None, part, shared="in_proj_bias" in own)
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        for name in (name for name in module._parameters if name in own and name.startswith("weight_")):
            yield Matrix(name, bias(name.replace("weight_", "bias_")), name)
    elif "weight" in own and _multiplies(module):
        yield Matrix("weight", bias("bias"), transposed=_is_transposed(module))


def _multiplies(module: nn.Module) -> bool:
    """Whether it is a linear layer that torch does not know, such as the ``Conv1D`` of transformers."""
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    if weight is None or weight.ndim != 2 or is_vector(weight):
        return False
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) or hasattr(module, "num_embeddings"):
        return False
    if LOOKED_UP.search(type(module).__name__):
        return False
    return bias is None or (bias.ndim == 1 and len(bias) in weight.shape)


def _is_transposed(module: nn.Module) -> bool:
    """Of a linear layer that torch does not know: its bias, or what it says of its sizes, tells."""
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    if type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils":
        return True
    rows, columns = weight.shape
    outputs = getattr(module, "out_features", None) if bias is None else len(bias)
    return rows != columns and outputs == columns
