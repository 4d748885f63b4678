"""What a comparison scores a task by: accuracy for classification, mean squared error for regression.

Whatever differs between the two is said here, as flags and texts of one object; nobody asks for its name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from adapt.compare.statistics import Interval
from adapt.errors import AdaptError

__all__ = ["ACCURACY", "METRICS", "MSE", "Metric", "metric_of"]


@dataclass(frozen=True)
class Metric:
    """A number per task, and how it is written.

    Attributes:
        name: in JSON, MLflow and file names.
        noun: in sentences.
        higher_is_better: the direction.
        each: ``(outputs [m, C], targets) → [m]``, float64, a score for each query; targets are labels ``[m]``
            or values ``[m, C]``.
        most: the largest score there is.
        scale: what is shown ÷ what is stored.
        unit: after a shown score; empty: the noun stands before it instead.
        difference_unit: after a shown difference.
        decimals: of a shown score and of a shown difference; None: three significant digits.
        log_axis: scores may lie decades apart, and then belong on a log axis.
        share: whether a score is the share of the queries that are right.
    """

    name: str
    noun: str
    higher_is_better: bool
    each: Callable[[Tensor, Tensor], Tensor]
    most: float
    scale: float
    unit: str
    difference_unit: str
    decimals: tuple[int, int] | None
    log_axis: bool
    share: bool

    def measure(self, outputs: Tensor, targets: Tensor) -> float:
        """The score of a task: the mean of :attr:`each`."""
        return float(self.each(outputs, targets).mean())

    def gain(self, difference: float) -> float:
        """``difference`` of scores (or a score), with the sign that makes more better."""
        return difference if self.higher_is_better else -difference

    def reached(self, score: float, target: float) -> bool:
        """True if ``score`` is as good as ``target`` or better."""
        return self.gain(score) >= self.gain(target)

    @property
    def column(self) -> str:
        """Heading of a table column: ``accuracy %``, ``MSE``."""
        return f"{self.noun} {self.unit}".strip()

    @property
    def axis(self) -> str:
        """Label of an axis: ``accuracy on the queries, %``."""
        return f"{self.noun} on the queries" + (f", {self.unit}" if self.unit else "")

    def text(self, score: Interval) -> str:
        """A score with its interval, which a single task has none of: ``97.1 ± 0.3``, ``0.0123 ± 0.0004``."""
        return self._text(score, "", self.decimals and self.decimals[0])

    def difference_text(self, difference: Interval) -> str:
        """A difference with sign and interval, in ``difference_unit``: ``+0.92 ± 0.40``."""
        return self._text(difference, "+", self.decimals and self.decimals[1])

    def phrase(self, score: Interval) -> str:
        """A score in a sentence: ``97.1 ± 0.3 %``, ``MSE 0.0123 ± 0.0004``."""
        return f"{self.text(score)} {self.unit}" if self.unit else f"{self.noun} {self.text(score)}"

    def _text(self, value: Interval, sign: str, decimals: int | None) -> str:
        mean, ci95, _ = value.times(self.scale)
        power = 0
        if decimals is None:
            largest = max(abs(mean), ci95 or 0.0)
            exponent = math.floor(math.log10(largest)) if largest > 0 else 0
            # Zeros that nobody wants to count become a power of ten.
            power = 0 if -5 < exponent < 6 else exponent
            decimals = max(0, 2 - exponent + power)
        end = f"e{power}" if power else ""
        text = f"{mean / 10.0**power:{sign}.{decimals}f}".replace("-", "−") + end
        if ci95 is None or value.n < 2:
            return text
        return f"{text} ± {ci95 / 10.0**power:.{decimals}f}{end}"


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 for queries whose largest output is that of their class, else 0."""
    return (outputs.argmax(-1) == targets).double()


def _squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """The squared error of each query, mean over outputs."""
    if outputs.shape != targets.shape:  # they would broadcast to a number that means nothing
        raise AdaptError(
            f"a method predicts values of shape {tuple(outputs.shape)} where the queries' are "
            f"{tuple(targets.shape)}: predict one row per query and one column per output"
        )
    return (outputs.double() - targets.double()).square().flatten(1).mean(1)


ACCURACY = Metric(
    "accuracy", "accuracy", True, _right, 1.0, 100, "%", "points", (1, 2), log_axis=False, share=True
)
MSE = Metric("mse", "MSE", False, _squares, math.inf, 1, "", "MSE", None, log_axis=True, share=False)

#: By name, as ``comparison.json`` says it.
METRICS = {metric.name: metric for metric in (ACCURACY, MSE)}


def metric_of(targets: Tensor) -> Metric:
    """What tasks with such targets are scored by: real values are regressed on, labels are classified."""
    return MSE if targets.is_floating_point() else ACCURACY
