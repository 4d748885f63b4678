"""The contract of a head, and what all heads share."""

from typing import Protocol

import torch
from torch import Tensor

from adapt.errors import AdaptError
from adapt.precision import full_precision

__all__ = [
    "Head",
    "KeepsSupport",
    "check_features",
    "check_outputs",
    "check_regression",
    "is_concrete",
    "normalise",
    "one_hot",
    "powered",
    "state_shape",
    "with_constant",
]


#: Below this a power below 1 would rise without bound.
SMALL = 1e-3


class Head(Protocol):
    """A convex model on features: pure, differentiable and vmappable.

    ``targets [n, C]`` are one-hot rows for classification and values for regression (only where
    ``supports_regression``). ``weights [n]`` are 1 or 0 (None = all 1): a head learns nothing from examples
    of weight 0. ``Logistic`` and ``Ridge`` take any weights from 0 on: an example of weight w counts as w
    examples do. Heads compute in float32 or wider, outside autocast (``adapt.precision``).

    A head that predicts a batch together says ``transductive = True`` (:mod:`adapt.heads.together`): its
    ``logits`` get all examples at once, and what needs one alone is refused.

    A head that says what its state looks like, ``state_shape(features, outputs)``, has a saved one checked by
    it (:func:`state_shape`).
    """

    @property
    def supports_regression(self) -> bool: ...

    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """State of the head fitted on ``features [n, D]`` and ``targets [n, C]``: one tensor, which is saved
        with the task."""
        ...

    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """Outputs ``[m, C]`` for ``features [m, D]``."""
        ...

    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Outputs ``[n, C]`` for each example of weight 1 from the head fitted on all *other* such examples
        (leave-one-out); rows of examples of weight 0 are meaningless."""
        ...


def state_shape(head: Head, features: int | None, outputs: int) -> tuple[int | None, ...] | None:
    """The shape of what ``head`` makes of D ``features`` (None: not known) and C ``outputs``, with None for
    any size; None if it does not say.

    Example:
        >>> from adapt.heads import Ridge
        >>> state_shape(Ridge(), 64, 5)
        (65, 5)
    """
    said = getattr(head, "state_shape", None)
    return None if said is None else tuple(said(features, outputs))


def one_hot(labels: Tensor, ways: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """One-hot rows ``[n, C]`` of integer ``labels [n]``, in a floating dtype."""
    return torch.nn.functional.one_hot(labels, ways).to(dtype)


def normalise(features: Tensor) -> Tensor:
    """Rows of ``features [n, D]`` scaled to length √D, whatever their own length is: heads then need no
    knowledge of a backbone's feature scale. A row of zeros stays one."""
    # By the largest number first, whose square may not be representable. As a constant: the result does not
    # depend on it, so neither do the derivatives.
    largest = features.detach().abs().amax(-1, keepdim=True)
    scaled = features / torch.where(largest > 0, largest, 1)
    squared = scaled.square().sum(-1, keepdim=True)  # between 1 and D
    return scaled * torch.where(squared > 0, squared, 1).rsqrt() * features.shape[-1] ** 0.5


def powered(unit: Tensor, power: float) -> Tensor:
    """sign(f) |f|^β of rows of length √D, of length √D again."""
    if power == 1:
        return unit
    return normalise(unit.sign() * ((unit.abs() + SMALL) ** power - SMALL**power))


def with_constant(features: Tensor) -> Tensor:
    """``features [n, D]`` with a constant column appended, ``[n, D + 1]``: the intercept as one more
    (penalised) weight."""
    return torch.cat([features, features.new_ones(features.shape[0], 1) * features.shape[-1] ** 0.5], dim=-1)


def is_concrete(tensor: Tensor) -> bool:
    """Whether values can be looked at: not inside ``vmap`` or other transforms of ``torch.func``."""
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _is_traced() -> bool:
    """Whether operators are being recorded, to run again without Python: then nothing can be looked at."""
    capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    return capturing or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def check_features(features: Tensor, weights: Tensor | None = None) -> None:
    """Refuse to learn from ``features [n, D]`` that are no numbers, or that are all zero. (Inside ``vmap``
    nothing can be looked at: one bad task must not stop the others.)

    Raises:
        AdaptError: NaN or infinity among the examples of weight 1, or nothing but zeros.
    """
    if _is_traced() or not (is_concrete(features) and (weights is None or is_concrete(weights))):
        return
    rows = features if weights is None else features[weights > 0]
    finite = torch.isfinite(rows).all(-1)
    if not bool(finite.all()):
        raise AdaptError(
            f"the features of example {int((~finite).nonzero()[0])} hold NaN or infinity: check the backbone "
            "and the range of its inputs (float16 ends at 65504; bfloat16 and float32 do not)"
        )
    if len(rows) and not bool(rows.any()):
        raise AdaptError(
            f"all features of all {len(rows)} examples are zero, and nothing can be learned from them: check "
            "the backbone and the range of its inputs"
        )


class KeepsSupport:
    """A head whose state is the support set: features of length √D, and targets."""

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The support set: features and targets, ``[n, D + C]``; of weight 0 a row without a class."""
        check_features(features, weights)
        y = targets if weights is None else targets * weights[:, None]
        return torch.cat([normalise(features), y.to(features.dtype)], 1)

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[n, D + C]``."""
        return None, None if features is None else features + outputs


def check_outputs(outputs: Tensor, targets: Tensor) -> None:
    """Refuse outputs that are to be predictions but have another shape than the targets.

    Raises:
        AdaptError: two different shapes.
    """
    if outputs.shape != targets.shape:
        raise AdaptError(
            f"head=Direct takes the network's outputs {tuple(outputs.shape)} for the targets "
            f"{tuple(targets.shape)}: use a network with as many outputs, or heads.Ridge on its features"
        )


def check_regression(head: Head, role: str = "head") -> None:
    """Refuse a head that does not predict values, where tasks are regression; ``role`` is what it is set as.

    Raises:
        AdaptError: it classifies, or makes logits of its outputs.
    """
    if not head.supports_regression:
        raise AdaptError(
            f"{role}={type(head).__name__} classifies, but this task is a regression: use heads.Ridge, or "
            "use heads.Direct where the network's own outputs, and not those of heads.Ridge on them, are the "
            "predictions"
        )
    if (scale := getattr(head, "scale", 1.0)) != 1.0:
        raise AdaptError(
            f"{role}.scale={scale} turns outputs into logits, but this task is a regression, whose "
            "predictions it would multiply: use scale=1"
        )
