"""The gradient's orthogonal projection on the span of given directions, from one forward pass.

    g = Q Qᵀ∇f ,   Q an orthonormal basis of span(v_1 … v_k)

It equals V (VᵀV)⁻¹ Vᵀ∇f, but VᵀV, whose condition number is the square of that of V, is never formed: the
basis comes first, by Householder QR, and its columns are what is pushed forward (Golub and Van Loan (2013),
*Matrix Computations*, sections 5.2 and 5.5). A projection is never longer than the gradient, and projecting
twice changes nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from adapt.forward.pushforward import pushforward

__all__ = ["project"]


def project(f: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, int]:
    """Project the gradient of ``f`` at ``x``.

    Args:
        f: scalar loss.
        x: the point, ``[P]``.
        directions: ``[k, P]``, of any lengths; they may depend on each other, be zero, or be more than P.

    Returns:
        ``f(x)``, the projection ``[P]``, and how many tangents it took: the smaller of k and P.

    Example:
        >>> import torch
        >>> value, gradient, tangents = project(lambda z: z @ z, torch.ones(3), torch.tensor([[5.0, 0, 0]]))
        >>> gradient
        tensor([2., 0., 0.])
    """
    # Unit lengths first: a short direction must not pass for one that depends on the others. Dividing by the
    # largest entry before squaring keeps very short and very long ones from under- and overflowing.
    tiny = torch.finfo(x.dtype).tiny
    scaled = directions / directions.abs().amax(1, keepdim=True).clamp(min=tiny)
    rows = scaled / scaled.norm(dim=1, keepdim=True).clamp(min=tiny)
    q, r = torch.linalg.qr(rows.T)  # [P, t], [t, k]
    rotation, singular, _ = torch.linalg.svd(r, full_matrices=False)  # [t, t], [t]
    # What is in the span by rounding only is set to zero, not cut out: under vmap shapes are fixed. Rounding
    # grows about like √P: it left 0.4 √P eps at most of dependent directions, for P up to a million.
    rounding = 4 * max(rows.shape) ** 0.5 * torch.finfo(x.dtype).eps
    independent = singular > singular[:1] * rounding
    basis = (q @ rotation * independent).T  # [t, P]
    value, slopes = pushforward(f, x, basis)  # slopes [t]
    return value, slopes @ basis, len(basis)
