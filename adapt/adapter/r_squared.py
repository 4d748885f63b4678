"""The coefficient of determination.

    R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)²

ȳ is the mean of each output; the sums run over examples and outputs. Draper and Smith (1998), *Applied
Regression Analysis*, section 1.3. Where y does not vary there is no variance to be explained: R² is then 1 if
ŷ is y, up to rounding, and 0 if not, as in scikit-learn.
"""

import numpy as np

__all__ = ["r_squared"]


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    """R² of values ``predicted [m, C]`` for ``truth [m, C]``, both of one dtype.

    Example:
        >>> y = np.array([[1.0], [2.0], [3.0]])
        >>> r_squared(y, y), r_squared(y, 0 * y + 2), r_squared(0 * y + 2, 0 * y + 2)
        (1.0, 0.0, 1.0)
    """
    rounding = 4 * max(np.finfo(array.dtype).eps for array in (truth, predicted))
    # Largest number 1: squares of any values can then be represented.
    scale = max(np.abs(truth).max(), np.abs(predicted).max()) or 1.0
    y, found = truth.astype(np.float64) / scale, predicted.astype(np.float64) / scale
    if bool((truth == truth[:1]).all()):  # the mean of equal numbers need not be equal to them
        return float((np.abs(y - found) <= rounding * np.abs(y)).all())
    return float(1 - np.square(y - found).sum() / np.square(y - y.mean(0)).sum())
