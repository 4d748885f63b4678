"""What a fitted task knows of its own uncertainty: the posterior of z, carried to outputs.

    o(x, z) ≈ o(x, z*) + J_x (z − z*) ,   z ~ N(z*, s A⁻¹)

Formulas and sources are in :mod:`adapt.inner.posterior`. The head is held as it was fitted at z*: what a
convex head itself is unsure of is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from torch import Tensor

from adapt.adapter.adapting import WORSE
from adapt.adapter.calibration import scales
from adapt.adapter.conditions import FOLLOWED
from adapt.adapter.inputs import Examples
from adapt.adapter.problem import features_of
from adapt.adapter.record import AdapterRecord, TaskRecord
from adapt.adapter.verified import check_head_state
from adapt.errors import AdaptError
from adapt.forward import pushforward
from adapt.heads import is_transductive
from adapt.inner import Trace
from adapt.inner.posterior import Posterior, posterior_of, variances
from adapt.precision import double, outside_autocast, wide

__all__ = [
    "Predictive",
    "known",
    "linearised",
    "moving_features",
    "outputs_of",
    "pooled",
    "posterior_at",
    "predicted",
    "predictive_of",
    "through",
]


@dataclass(frozen=True)
class Predictive:
    """Of the outputs for m examples, over what is not known of z.

    Attributes:
        mean: predicted values, or logits ``[m, C]``.
        epistemic: their variance ``[m, C]``, float64, in squared units of the outputs: what more examples
            would lower.
        noise: regression: variance of an observation around the mean that one more example would not lower;
            classes: the temperature.
        regression: whether outputs are values; else they are logits.
    """

    mean: np.ndarray
    epistemic: np.ndarray
    noise: float
    regression: bool

    @property
    def std(self) -> np.ndarray:
        """Regression: standard deviation of an observation ``[m, C]``, both parts together.

        Raises:
            AdaptError: of classes, which have probabilities.
        """
        if not self.regression:
            raise AdaptError("classes have no standard deviation: use probabilities")
        found: np.ndarray = np.sqrt(self.epistemic + self.noise).astype(self.mean.dtype)
        return found

    @property
    def probabilities(self) -> np.ndarray:
        """Classes: probabilities ``[m, C]``, averaged over z.

            softmax_c( o_c / √(τ² + π v_c / 8) )

        The probit approximation of MacKay (1992), *The Evidence Framework Applied to Classification
        Networks*, equation 10, class by class.

        Raises:
            AdaptError: of values, which have a standard deviation.
        """
        if self.regression:
            raise AdaptError("values have no probabilities: use mean and std")
        scaled = self.mean / np.sqrt(self.noise**2 + pi / 8 * self.epistemic)
        shifted = np.exp(scaled - scaled.max(1, keepdims=True))
        found: np.ndarray = (shifted / shifted.sum(1, keepdims=True)).astype(self.mean.dtype)
        return found


def posterior_at(
    adapter: AdapterRecord, z: Tensor, trace: Trace, value: Tensor, shape: Sequence[int]
) -> Posterior | None:
    """The posterior around z ``[k]`` where a solver ended with ``trace`` and a support loss of ``value``, by
    targets of ``shape`` n, C; None if it has no curvature.

    It is that of the linearisation that z was solved for, which is there already: it costs no pass.
    """
    if trace.curvature is None or trace.prior is None or not bool(torch.isfinite(trace.curvature).all()):
        return None
    return posterior_from(adapter, z, trace.curvature, trace.prior, value, shape)


def posterior_from(
    adapter: AdapterRecord, z: Tensor, curvature: Tensor, prior: Tensor, value: Tensor, shape: Sequence[int]
) -> Posterior:
    """The same of a ``curvature [k, k]`` that is finite; vmappable."""
    spread, noise = scales(adapter.calibration, adapter.loss, value, z, prior, shape)
    return posterior_of(z, curvature, prior, spread, noise, shape[0])


def known(task: TaskRecord) -> Posterior:
    """The posterior of ``task``.

    Raises:
        AdaptError: it has none; says why.
    """
    if is_transductive(task.adapter.head):
        raise AdaptError(
            f"the head {type(task.adapter.head).__name__} predicts examples together, and has no posterior "
            "for one of them: use a head that predicts each alone, such as heads.Logistic()"
        )
    if task.posterior is None:
        name, said = type(task.adapter.solver).__name__, task.trace.choice
        if said.startswith(FOLLOWED):
            raise AdaptError(
                "this task was adapted to other conditions, and keeps no posterior: ask the one that it was, "
                "or fit the adapter to examples of these conditions"
            )
        why = (
            said
            if said not in ("", WORSE)  # which is no reason: others were worse, and have one
            else f"the solver {name} makes no Jacobian, the network has none here that is finite, or an "
            "earlier version saved the task"
        )
        raise AdaptError(
            f"this task has no posterior ({why}): fit with inner.GaussNewton(), Linearised() or "
            "Auto(backprop_steps=0) and two examples of every class, or more (Auto: three)"
        )
    return task.posterior


def moving_features(adapter: AdapterRecord, examples: Tensor, posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Features ``[m, D]`` at z and their derivatives ``[k, m, D]``, 0 along directions that are held; one
    pass of the network with a tangent for each of the others.

    Raises:
        AdaptError: some are not finite: nothing can be known of them.
    """
    compute = features_of(adapter.backbone, adapter.space, adapter.state, examples, adapter.rows)
    free = torch.isfinite(posterior.precision.diagonal())
    tangents = torch.eye(len(free), dtype=posterior.z.dtype, device=posterior.z.device)[free]
    with torch.no_grad():
        features, moved = map(wide, pushforward(compute, posterior.z, tangents))
    columns = features.new_zeros(len(free), *features.shape)
    columns[free] = moved
    bad = ~(torch.isfinite(features).all(1) & torch.isfinite(columns).all(2).all(0))
    if bool(bad.any()):
        raise AdaptError(
            f"the network gives NaN or infinity for x[{int(bad.nonzero()[0])}], or for its derivatives "
            "there: scale the examples as in fit, or compute in float32 (task.to(torch.float32))"
        )
    return features, columns


def through(readout: Callable[[Tensor], Tensor], features: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """``readout`` of ``features [n, D]``, and its derivatives ``[k, n, C]`` from ``columns [k, n, D]``."""
    with torch.no_grad(), outside_autocast(features.device):
        # All tangents at once: a readout is so small that the number of calls is what it costs.
        found: tuple[Tensor, Tensor] = pushforward(readout, features, columns, chunk=max(len(columns), 1))
    return found


def linearised(task: TaskRecord, examples: Tensor, posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Outputs ``[m, C]`` of the task for ``examples [m, …]`` and their derivatives ``[k, m, C]`` in z.

    Raises:
        AdaptError: as :func:`moving_features`.
    """
    return outputs_of(task, *moving_features(task.adapter, examples, posterior))


def pooled(task: TaskRecord, x: Examples, posterior: Posterior) -> tuple[Tensor, Tensor]:
    """The same for ``x [m, …]`` of any size, in batches."""
    parts = [linearised(task, examples, posterior) for examples in task.adapter.batches(x, None)]
    if not parts:
        nothing = posterior.z.new_zeros(0, task.outputs)
        return nothing, nothing.expand(len(posterior.z), -1, -1)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts], 1)


def outputs_of(task: TaskRecord, features: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The same from ``features [m, D]`` and their derivatives ``[k, m, D]``."""
    head, state = task.adapter.head, task.head_state
    check_head_state(head, state, features.shape[-1], task.outputs)
    return through(lambda f: head.logits(state, f), features, columns)


def predictive_of(task: TaskRecord, x: Examples, batch_size: int | None) -> Predictive:
    """Moments of the outputs for ``x [m, *input_shape]``."""
    posterior = known(task)
    means = [posterior.z.new_zeros(0, task.outputs)]
    spreads = [double(means[0])]
    for examples in task.adapter.batches(x, batch_size):
        outputs, columns = linearised(task, examples, posterior)
        means.append(outputs)
        spreads.append(variances(posterior, columns))
    return _moments(task, posterior, torch.cat(means), torch.cat(spreads))


def predicted(task: TaskRecord, posterior: Posterior, outputs: Tensor, columns: Tensor) -> Predictive:
    """The same of ``outputs [m, C]`` with derivatives ``columns [k, m, C]``."""
    return _moments(task, posterior, outputs, variances(posterior, columns))


def _moments(task: TaskRecord, posterior: Posterior, mean: Tensor, variance: Tensor) -> Predictive:
    spread = variance.clamp(min=0).cpu().numpy()
    return Predictive(mean.cpu().numpy(), spread, float(posterior.noise), task.adapter.loss.regression)
