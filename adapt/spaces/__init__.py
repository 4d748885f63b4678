"""What may move while a backbone adapts: tensors of it (FiLM, biases, prompts, all), tensors merged into it
(LoRA, (IA)³, residual adapters), several of these, and low-dimensional subspaces of any."""

from adapt.spaces.base import Space, named
from adapt.spaces.bias import bias
from adapt.spaces.combine import combine, combined
from adapt.spaces.film import film
from adapt.spaces.full import full
from adapt.spaces.ia3 import ia3
from adapt.spaces.lora import lora
from adapt.spaces.prompt import prompt
from adapt.spaces.residual import residual
from adapt.spaces.subspace import Subspace

__all__ = [
    "Space",
    "Subspace",
    "bias",
    "combine",
    "combined",
    "film",
    "full",
    "ia3",
    "lora",
    "named",
    "prompt",
    "residual",
]
