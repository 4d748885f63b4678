"""What a task knows besides its parameters, as tensors of a file: the posterior of z, and the examples that
it keeps.

    precision [k, k]   prior [k]   scales [3] (spread, noise, n)
    memory.base [n, D]   memory.columns [k, n, D]   memory.targets [n, C]   (of ``fit(…, keep=True)``; without
                                                                            a posterior columns are [0, n, D])
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from adapt.adapter.problem import Memory
from adapt.errors import AdaptError
from adapt.inner.change import Watch
from adapt.inner.posterior import Posterior, is_positive
from adapt.precision import double

__all__ = ["KNOWN", "POSTERIOR", "check_known", "known_from", "known_tensors", "moved_known", "moved_watch"]

POSTERIOR = ("precision", "prior", "scales")
MEMORY = ("memory.base", "memory.columns", "memory.targets")
#: Names of all of these tensors.
KNOWN = (*POSTERIOR, *MEMORY)


def known_tensors(posterior: Posterior | None, memory: Memory | None) -> dict[str, Tensor]:
    """What is saved of them, besides z."""
    found = {} if memory is None else dict(zip(MEMORY, memory, strict=True))
    if posterior is None:
        return found
    scales = torch.stack([posterior.spread, posterior.noise, posterior.examples])
    return found | dict(zip(POSTERIOR, (posterior.precision, posterior.prior, scales), strict=True))


def known_from(tensors: Mapping[str, Tensor]) -> tuple[Posterior | None, Memory | None]:
    """The posterior and the examples of a saved task with ``tensors``; None if it was saved without."""
    memory = Memory(*(tensors[name] for name in MEMORY)) if MEMORY[0] in tensors else None
    if "precision" not in tensors:
        return None, memory
    precision, scales = double(tensors["precision"]), double(tensors["scales"])
    return Posterior(tensors["z"], precision, tensors["prior"], *scales), memory


def check_known(where: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors, of the right shapes and finite, that are of no Gaussian, and examples that are none.

    Raises:
        AdaptError: says which.
    """
    if "precision" in tensors:
        if not bool((tensors["scales"][:2] > 0).all() and tensors["scales"][2] >= 0):
            raise AdaptError(f"{where}: 'scales' are not positive: it is damaged")
        if bool((tensors["prior"] < 0).any()):
            raise AdaptError(f"{where}: 'prior' holds a negative precision: it is damaged")
        if not is_positive(double(tensors["precision"])):
            raise AdaptError(
                f"{where}: 'precision' is not symmetric and positive, so of no Gaussian: it is damaged"
            )
    if MEMORY[0] in tensors:
        base, columns, targets = (tensors[name] for name in MEMORY)
        if not len(base) or columns.shape[1:] != base.shape or len(targets) != len(base):
            raise AdaptError(f"{where}: the tensors of 'memory' are not of the same examples: it is damaged")


def moved_known(posterior: Posterior | None, like: Tensor) -> Posterior | None:
    """``posterior`` on the device of ``like``; z and the prior in its dtype, the rest as wide as it is."""
    if posterior is None:
        return None
    dtype = torch.float32 if like.device.type == "mps" else torch.float64  # see adapt.precision.double
    there = Posterior(*(it.to(device=like.device, dtype=dtype) for it in posterior))
    return there._replace(z=posterior.z.to(like), prior=posterior.prior.to(like))


def moved_watch(watch: Watch | None, like: Tensor) -> Watch | None:
    """The same of what a change is noticed by."""
    return None if watch is None else watch._replace(rival=moved_known(watch.rival, like))
