"""FiLM: a scale and a shift per channel, after every normalisation.

    y = γ ⊙ norm(x) + β ,   φ = (γ, β) of every norm layer

Perez et al. (2018), *FiLM: Visual Reasoning with a General Conditioning Layer*, equation 1; for few-shot
adaptation Requeima et al. (2019), *CNAPs*. Unlike there, no network predicts γ and β here: they are solved
for.
"""

from torch import nn

from adapt.backbones.structure import check_structure
from adapt.errors import AdaptError
from adapt.spaces.base import Space, select
from adapt.spaces.roles import is_bias, is_norm, is_vector

__all__ = ["film"]


def film(backbone: nn.Module, skip: int = 0) -> Space:
    """The affine parameters of every normalisation layer of ``backbone`` after the first ``skip``: of
    torch's, and of other libraries' and one's own, known by their names (``LlamaRMSNorm``) or by a scale
    beside an ε.

    What comes before the first adapted layer costs one pass, however many tangents follow: in convolutional
    networks the first layers are the largest, and leaving them out makes tangents (and backprop) cheap.

    Raises:
        AdaptError: no such normalisation layer with affine parameters. Batch norm counts only once it is
            frozen (``adapt.backbones.freeze_batch_norm``).

    Example:
        >>> from adapt.backbones import Conv4
        >>> film(Conv4()).size, film(Conv4(), skip=1).size
        (512, 384)
    """
    if skip < 0:
        raise AdaptError(f"space.skip={skip}: the number of layers to leave out cannot be negative")
    check_structure(backbone)
    norms = [module for module in backbone.modules() if is_norm(module)][skip:]
    return select(
        "film",
        backbone,
        lambda module, _: any(module is norm for norm in norms),
        f"after the first {skip} it has no frozen normalisation with scale and shift; call "
        "adapt.backbones.freeze_batch_norm first, or use space=bias",
        {"skip": skip},
        _perhaps,
    )


def _perhaps(module: nn.Module, name: str) -> bool:
    """Whether it belongs to a batch norm that is not frozen, or may be the scale or shift of a norm in a
    module that does more."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return True
    tensor = module._parameters[name]
    return tensor is not None and is_vector(tensor) and not (is_norm(module) or is_bias(module, name))
