"""From a series to a task of forecasting: windows that follow each other, and no look ahead.

    input_o = z_{o−L} … z_{o−1} ,   target_o = z_o … z_{o+h−1} ,   or log √mean(z_o² … z_{o+h−1}²)

z is the series in units of what the support tells of it. The first query is made when the last target of the
support is known.
"""

from __future__ import annotations

import numpy as np

__all__ = ["TARGETS", "length", "windows"]

#: "value": the next h values, of a series shifted and scaled; "return": the same of one that is only scaled;
#: "volatility": the logarithm of its root mean square over h steps (Andersen et al. 2003).
TARGETS = ("value", "return", "volatility")
FLOOR = 0.01  # least root mean square, of which there is a logarithm


def length(lags: int, horizon: int, support: int, queries: int) -> int:
    """Steps of a series that so many windows take."""
    return lags + support + queries + 2 * horizon - 2


def windows(
    series: np.ndarray, lags: int, horizon: int, support: int, queries: int, target: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Support x [support, lags] and y [support, outputs], the same of the queries, float32; and the scale.

    Args:
        series: [T], of which the first `length(...)` steps are used.
        target: one of `TARGETS`. For "value" the mean of the part that the support covers is subtracted, and
            its standard deviation divided by; else its root mean square.
    """
    origins = lags + np.arange(support)
    known = lags + support - 1 + horizon  # steps when the last target of the support is known
    later = known + np.arange(queries)
    past = series[:known].astype(np.float64)
    level = past.mean() if target == "value" else 0.0
    scale = float(np.sqrt(((past - level) ** 2).mean())) or 1.0
    z = (series - level) / scale
    before = np.lib.stride_tricks.sliding_window_view(z, lags)  # row i: z_i … z_{i+L−1}
    after = np.lib.stride_tricks.sliding_window_view(z, horizon)
    if target == "volatility":
        after = np.log(np.maximum(np.sqrt((after**2).mean(1, keepdims=True)), FLOOR))
    arrays = (before[origins - lags], after[origins], before[later - lags], after[later])
    x, y, q, t = (np.array(array, np.float32) for array in arrays)
    return x, y, q, t, scale
