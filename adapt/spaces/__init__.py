"""What may move while a backbone adapts: tensors of it (FiLM, biases, prompts, all), tensors merged into it
(LoRA, (IA)³, residual adapters), several of these, and low-dimensional subspaces of any."""

from collections.abc import Callable

from adapt.spaces.base import Space, named
from adapt.spaces.bias import bias
from adapt.spaces.combine import combine, combined
from adapt.spaces.default import default_space
from adapt.spaces.film import film
from adapt.spaces.full import full
from adapt.spaces.ia3 import ia3
from adapt.spaces.lora import lora
from adapt.spaces.prompt import prompt
from adapt.spaces.residual import residual
from adapt.spaces.subspace import Subspace

#: Every space, by the name that saved adapters have for it: a new one is a file, a row here, and a config.
SPACES: dict[str, Callable[..., Space]] = {
    "bias": bias,
    "film": film,
    "full": full,
    "ia3": ia3,
    "lora": lora,
    "prompt": prompt,
    "residual": residual,
}

__all__ = ["SPACES", "Space", "Subspace", "combine", "combined", "default_space", "named"]
__all__ += [space.__name__ for space in SPACES.values()]
