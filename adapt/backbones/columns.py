"""The columns of a table as features, each with a relevance that can move.

    z = x ⊙ r / √D ,   features = [z, √(R² − ‖z‖²)]                      (linear)
    features = √2 [cos(z W / ℓ), sin(z W / ℓ)] ,   W_ij ~ N(0, 1)         (waves)

Nothing is pretrained here: a table of one's own has columns that no network has seen. What can be adapted is
how much each column counts, r, MacKay's (1994, *Bayesian nonlinear modeling for the prediction competition*)
automatic relevance determination; at r = 1 a head on the linear features is the linear model of the
standardised columns, and one on the waves is the kernel machine of a Gaussian kernel of length ℓ (Rahimi and
Recht 2007, *Random Features for Large-Scale Kernel Machines*, theorem 1).

Heads scale features to one length (:func:`adapt.heads.base.normalise`), which of plain columns would throw
away how far a row is from the mean. So linear features are laid on a sphere of a radius R that is large
beside them, where this changes nothing; rows beyond R are drawn in. Those of waves have one length anyway.
"""

import torch
from torch import Tensor, nn

from adapt.backbones.built import Built
from adapt.checks import MOST, SEED, Number, check_settings, positive
from adapt.errors import AdaptError

__all__ = ["Columns", "from_columns"]

#: Of a row of independent standardised columns the length is about 1.
RADIUS = 4.0


class Columns(nn.Module):
    """``[n, columns] → [n, columns + 1]``, or ``[n, 2 · waves]``.

    Args:
        columns: standardised numbers of a row.
        waves: 0 for linear features.
        length: ℓ of the kernel, relative to the distance of independent rows.
        seed: of the waves.

    Example:
        >>> Columns(4)(torch.zeros(5, 4)).shape, Columns(4, waves=16)(torch.zeros(5, 4)).shape
        (torch.Size([5, 5]), torch.Size([5, 32]))
    """

    def __init__(self, columns: int, waves: int = 0, length: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.columns, self.waves, self.length, self.seed = columns, waves, length, seed
        whole = Number(least=0, whole=True, ceiling=MOST)
        check_settings(self, "columns", columns=whole, waves=whole, length=positive(), seed=SEED)
        if columns < 1:
            raise AdaptError("columns: a table has one column at least")
        # Columns are numbers of somebody's table, not pixels: in double precision, which costs little here.
        self.relevance = nn.Parameter(torch.ones(columns, dtype=torch.float64))
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(columns, waves, generator=generator).double() / length
        self.register_buffer("directions", directions)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``[n, D]`` of rows ``x [n, columns]``."""
        z = x * self.relevance / self.columns**0.5
        if self.waves:
            phases = z @ self.get_buffer("directions")
            return 2**0.5 * torch.cat([phases.cos(), phases.sin()], -1)
        squared = z.square().sum(-1, keepdim=True)
        z = z * (RADIUS / squared.clamp(min=RADIUS**2).sqrt())
        height = (RADIUS**2 - z.square().sum(-1, keepdim=True)).clamp(min=1e-6).sqrt()
        return torch.cat([z, height], -1)


def from_columns(name: str, *, waves: int = 0, length: float = 1.0, seed: int = 0) -> Built:
    """The network for a table of ``name`` columns: ``columns:4``.

    Raises:
        AdaptError: no such number, or settings out of range.
    """
    if not name.isdecimal() or len(name) > 9:
        raise AdaptError(f"backbone 'columns:{name}': write the number of columns as in columns:4")
    network = Columns(int(name), waves, length, seed)
    return Built(network, (int(name),))
