"""Noticing that a regression has become another one, as its examples come.

    r_t = σ² NIS_t / d_t ,   scale_t = (ν σ² + Σ_s d_s r_s) / (ν + Σ_s d_s)    surprise in units of what is
    usual here
    suspicion:  r_t / scale_t > τ                                             a rival starts from the prior
    S_t = S_{t−1} + d_t/2 · log(‖y − o(z)‖² / ‖y − o(z_rival)‖²)               who predicts better from then
    on S_t > h: the rival is the task; not within so many examples: it was none

The innovation of a task that merely enters a region in which the network is poor is as large as that of
another task, but only there does somebody who knows nothing of the past predict better soon. The second line
is the ratio of F of Student's t with an inverse-gamma prior of ν degrees; the third a generalised likelihood
ratio with
unknown scale: Willsky and Jones (1976), *A Generalized Likelihood Ratio Approach to the Detection and
Estimation of Jumps in Linear Systems*, summed as by Page (1954), *Continuous Inspection Schemes*. τ, h, ν and
the number of examples were chosen on 400 streams of validation vehicles: of all that raised no alarm without
a change, about the least error after one.
"""

from collections.abc import Callable
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from adapt.inner.posterior import Posterior, innovation
from adapt.precision import double

__all__ = ["Watch", "fresh", "watched"]

#: τ, h, ν, and the examples within which a rival has to prove itself.
SUSPICIOUS, BETTER, USUAL, PATIENCE = 8.0, 6.0, 30.0, 20
#: Squares below it are rounding.
LEAST = 1e-200


class Watch(NamedTuple):
    """What is kept to notice a change by.

    Attributes:
        surprises: Σ d r, in squared units of the values, of ``degrees`` numbers Σ d.
        rival: what the examples since a suspicion say alone, or None; it has predicted better by ``gain``, S,
            over ``examples``.
    """

    surprises: float = 0.0
    degrees: float = 0.0
    rival: Posterior | None = None
    gain: float = 0.0
    examples: int = 0


def fresh(posterior: Posterior) -> Posterior:
    """What is known before any example."""
    nothing = torch.zeros_like(posterior.examples)
    known = torch.diag(double(posterior.prior))
    return posterior._replace(z=torch.zeros_like(posterior.z), precision=known, examples=nothing)


def watched(
    posterior: Posterior,
    watch: Watch,
    evaluate: Callable[[Posterior], tuple[Tensor, Tensor]],
    learn: Callable[[Posterior, Tensor, Tensor], Posterior],
    targets: Tensor,
) -> tuple[Posterior, Watch]:
    """What is known after further examples, and what is then kept; a change was noticed if ``degrees`` of
    that is 0 again.

    Args:
        evaluate: outputs ``[n, C]`` of the new examples at the mean of a posterior, and their derivatives
            ``[k, n, C]``; called once, twice while there is a rival.
        learn: what is known after them, of a posterior and what ``evaluate`` says of it.
        targets: theirs ``[n, C]``.
    """
    numbers = targets.numel()
    outputs, columns = evaluate(posterior)
    noise = float(posterior.noise)  # which may be learned on the way, so that sums are not in units of it
    surprise = noise * float(innovation(posterior, outputs, columns, targets))
    after = learn(posterior, outputs, columns)
    usual = (USUAL * noise + watch.surprises) / (USUAL + watch.degrees)
    grown = watch._replace(surprises=watch.surprises + surprise, degrees=watch.degrees + numbers)
    suspicious = surprise / numbers / usual > SUSPICIOUS
    rival = watch.rival if watch.rival is not None else fresh(posterior) if suspicious else None
    if rival is None:
        return after, grown
    theirs, their_columns = evaluate(rival)
    rival = learn(rival, theirs, their_columns)
    if watch.rival is None:
        return after, grown._replace(rival=rival, gain=0.0, examples=0)
    errors = [max(float((double(targets) - double(it)).square().sum()), LEAST) for it in (outputs, theirs)]
    gain = watch.gain + 0.5 * numbers * (log(errors[0]) - log(errors[1]))
    if gain > BETTER:
        return rival, Watch()
    if watch.examples + len(targets) >= PATIENCE:
        return after, grown._replace(rival=None, gain=0.0, examples=0)
    return after, grown._replace(rival=rival, gain=gain, examples=watch.examples + len(targets))
