"""Scaled dot-product attention.

    P = softmax(Q Kᵀ s + M) ,   O = P V
    Ȯ = Ṗ V + P V̇ ,   Ṗ = P ⊙ (Ṡ − Σ P Ṡ) ,   Ṡ = (Q̇ Kᵀ + Q K̇ᵀ) s

Vaswani et al. (2017), *Attention Is All You Need*, equation 1. The probabilities P are kept for the tangents
of this one layer, so that the fused kernels, which never form them, cannot be used.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.dual import Dual, dual, primal, rule
from adapt.forward.fast.fallback import fallback

__all__: list[str] = []


@rule(F.scaled_dot_product_attention)
def attention(
    func: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """See the module; masks may be boolean (True = attend) or added to the scores."""
    if enable_gqa:  # several query heads share one key and value head
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    batches = {t.shape[:-2] for t in (query, key, value)}
    two_masks = is_causal and attn_mask is not None  # an error
    if dropout_p > 0 or len(batches) > 1 or two_masks or type(attn_mask) is Dual:
        named = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
        return fallback(func, (query, key, value, attn_mask), named)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = primal(query) * factor, primal(key), primal(value)
    scores = q @ k.mT
    mask = _mask(attn_mask, is_causal, q, k)
    # Where all is masked, P is zero.
    probabilities = scores.softmax(-1) if mask is None else torch._safe_softmax(scores + mask, -1)
    result = probabilities @ v
    # One batch axis and contiguous memory, prepared once: otherwise every product would copy them again.
    p, q, k, v = _flat(probabilities), _flat(q), _flat(k * factor), _flat(v)

    def push(dq: Tensor | None, dk: Tensor | None, dv: Tensor | None) -> Any:
        moved = _product(_product(None, dq, k.mT), q, dk, transposed=True)
        if moved is not None:
            moved = torch._softmax_backward_data(moved.to(p.dtype), p, -1, p.dtype) @ v
        return _product(moved, p, dv).view(result.shape)

    return dual(result, push, query, key, value)


def _flat(t: Tensor) -> Tensor:
    return t.reshape(-1, *t.shape[-2:])


def _product(total: Tensor | None, a: Tensor | None, b: Tensor | None, transposed: bool = False) -> Any:
    """``total`` + A B (or A Bᵀ); None is zero."""
    if a is None or b is None:
        return total
    right = _flat(b).mT if transposed else _flat(b)
    return _flat(a) @ right if total is None else torch.baddbmm(total, _flat(a), right)


def _mask(mask: Tensor | None, causal: bool, q: Tensor, k: Tensor) -> Any:
    """What is added to the scores (None: nothing): −∞ where nothing may be attended to."""
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    if mask is not None and mask.dtype is torch.bool:
        return torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf)
    return mask
