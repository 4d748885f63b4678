"""Modules that hold biases, scales and matrices in places and under names of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "Attending",
    "ChannelNorm",
    "LlamaRMSNorm",
    "Pooled",
    "Recurrent",
    "Standardised",
    "Stepping",
    "Tabled",
    "Times",
]


class LlamaRMSNorm(nn.Module):
    """As transformers write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


class Standardised(nn.Module):
    """A layer norm under other names: those of the Annotated Transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a_2, self.b_2, self.eps = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return self.a_2 * centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() + self.b_2


class ChannelNorm(nn.Module):
    """Over channels, with parameters [C, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels, 1)), nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * (x - x.mean(1, keepdim=True)) + self.beta


class Times(nn.Module):
    """A linear layer that stores its weight [in, out]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(inputs, outputs)),
            nn.Parameter(torch.zeros(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Pooled(nn.Module):
    """Generalised mean, with an exponent and an ε, and is no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.p, self.eps = nn.Parameter(torch.full((1,), 3.0)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.eps).pow(self.p).mean(1).pow(1 / self.p)


class Attending(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)
        self.norm, self.keys = nn.RMSNorm(8), settings.get("kdim", 8)

    def forward(self, x: Tensor) -> Tensor:
        keys = x[..., : self.keys]
        return self.norm(x + self.attention(x, keys, keys)[0]).mean(1)


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.cells = kind(8, 3, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0].mean(1)


class Stepping(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell = kind(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return state[0] if isinstance(state, tuple) else state


class Tabled(nn.Module):
    """Tables, a token and a scale that stand in the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.token = nn.Parameter(torch.zeros(4, 8)), nn.Parameter(torch.zeros(1, 1, 8))
        self.relative_bias_table = nn.Parameter(torch.zeros(5, 1))
        self.table, self.linear = nn.Embedding(5, 8), nn.Linear(8, 3)
        self.gamma = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * self.linear(x + self.positions + self.token + self.table.weight[0]).mean(1)
