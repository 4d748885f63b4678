"""Scaled dot-product attention.

    P = softmax(Q Kᵀ s + M) ,   O = P V
    Ȯ = Ṗ V + P V̇ ,   Ṗ = P ⊙ (Ṡ − Σ P Ṡ) ,   Ṡ = (Q̇ Kᵀ + Q K̇ᵀ) s + Ṁ

Vaswani et al. (2017), *Attention Is All You Need*, equation 1. The probabilities P are kept for the tangents
of this one layer, so that the fused kernels, which never form them, cannot be used.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapt.forward.fast.dual import dual, primal, rule
from adapt.forward.fast.fallback import fallback
from adapt.forward.fast.rules.arithmetic import plus

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
    """See the module; masks may be boolean (True = attend) or added to the scores, in which case they
    may move too (a learned bias for relative positions)."""
    if enable_gqa:  # several query heads share one key and value head
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    mask = _mask(attn_mask, is_causal, query, key)
    if dropout_p > 0 or (is_causal and attn_mask is not None):  # random; an error
        named = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
        return fallback(func, (query, key, value, attn_mask), named)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = primal(query) * factor, primal(key), primal(value)
    scores = q @ k.mT
    # Where all is masked, P is zero.
    probabilities = scores.softmax(-1) if mask is None else torch._safe_softmax(scores + primal(mask), -1)
    result = probabilities @ v
    batch, (rows, columns) = result.shape[:-2], probabilities.shape[-2:]  # the mask's as well

    def flat(t: Tensor, *matrix: int) -> Tensor:
        """``t``, whose last two axes broadcast to ``matrix``, with one batch axis contiguous."""
        return t.expand(*batch, *matrix).reshape(-1, *matrix)

    def product(total: Tensor | None, a: Tensor | None, b: Tensor | None) -> Any:
        """``total`` + A B; None is zero."""
        if a is None or b is None:
            return total
        return a @ b if total is None else torch.baddbmm(total, a, b)

    # Prepared once: otherwise every product would copy them again.
    p, q = flat(probabilities, rows, columns), flat(q, rows, q.shape[-1])
    k, v = flat(k * factor, *k.shape[-2:]), flat(v, *v.shape[-2:])

    def push(dq: Tensor | None, dk: Tensor | None, dv: Tensor | None, dm: Tensor | None) -> Any:
        moved = None if dq is None else flat(dq, *q.shape[-2:]) @ k.mT
        moved = product(moved, q, None if dk is None else flat(dk, *k.shape[-2:]).mT)
        moved = plus(moved, None if dm is None else flat(dm, rows, columns))
        if moved is not None:
            moved = torch._softmax_backward_data(moved.to(p.dtype), p, -1, p.dtype) @ v
        return product(moved, p, None if dv is None else flat(dv, *v.shape[-2:])).reshape(result.shape)

    return dual(result, push, query, key, value, mask)


def _mask(mask: Any, causal: bool, q: Tensor, k: Tensor) -> Any:
    """What is added to the scores (None: nothing): −∞ where nothing may be attended to."""
    if causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    if mask is not None and mask.dtype is torch.bool:
        return torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf)
    return mask
