"""A plain multilayer perceptron, built and initialised from its name.

    h_{l+1} = σ(W_l h_l + b_l) ,   outputs = W_L h_L + b_L ,   σ = ReLU or tanh

The network of the sinusoid experiment of Finn, Abbeel, Levine (2017), *Model-Agnostic Meta-Learning*, section
5.1, is ``1-40-40-1`` with ReLU. Its weights are Glorot and Bengio's (2010), drawn from a seed of its own: the
name says everything, and meta-training is what gives the weights their meaning.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from adapt.backbones.built import Built
from adapt.checks import MOST, SEED, Number, check_setting, list_of
from adapt.errors import AdaptError

__all__ = ["Mlp", "from_sizes", "sizes_of"]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class Mlp(nn.Module):
    """``[n, sizes[0]] → [n, sizes[-1]]``.

    Args:
        sizes: numbers of inputs, hidden units of each layer, and outputs.
        activation: ``relu`` or ``tanh``.
        seed: of the initial weights.

    Example:
        >>> import torch
        >>> Mlp((1, 40, 40, 1))(torch.zeros(5, 1)).shape
        torch.Size([5, 1])
    """

    def __init__(self, sizes: tuple[int, ...], activation: str = "relu", seed: int = 0) -> None:
        super().__init__()
        check_setting("mlp: sizes", list(sizes), list_of(Number(whole=True, ceiling=MOST)))
        seed = check_setting("mlp: seed", seed, SEED)
        if len(sizes) < 2 or min(sizes) < 1:
            raise AdaptError(f"mlp: sizes={tuple(sizes)}: at least inputs and outputs, all positive")
        if activation not in ACTIVATIONS:
            raise AdaptError(f"mlp: activation={activation}: choose {', '.join(ACTIVATIONS)}")
        generator = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # leaves the global generator alone
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[n, sizes[-1]]`` of ``x [n, sizes[0]]``."""
        return self.layers(x)


def from_sizes(name: str) -> Built:
    """The network that ``name`` describes: ``1-40-40-1``, ``6-64-64-3:tanh``.

    Raises:
        AdaptError: no such sizes or activation.
    """
    layers, activation = sizes_of("mlp", name)
    network = Mlp(layers, activation)
    arguments = {"sizes": list(layers), "activation": activation}
    return Built(network, (layers[0],), arguments=arguments)


def sizes_of(family: str, name: str) -> tuple[tuple[int, ...], str]:
    """Sizes and activation that ``name`` says, of a backbone ``family:name``.

    Raises:
        AdaptError: no such sizes.
    """
    sizes, _, activation = name.partition(":")
    try:
        return tuple(int(size) for size in sizes.split("-")), activation or "relu"
    except ValueError:
        raise AdaptError(
            f"backbone '{family}:{name}': write the layers' sizes as in {family}:1-40-40-1"
        ) from None
