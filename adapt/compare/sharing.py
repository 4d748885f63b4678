"""How much of the variance of a mean comes from examples that tasks share: the computation behind
:mod:`adapt.compare.examples`, whose docstring has the model, the formulas and the sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["Sharing"]

#: Standard errors above an estimated share, up to which it may lie: its one-sided 95 % limit.
LIMIT = 1.645
#: Shares between 0 and 1 that are tried.
SHARES = np.linspace(0, 1, 201)
#: Tasks whose kernels are held at once.
BLOCK = 512
ROUNDING = 1e-9


class Sharing:
    """Tasks that draw from one or two roles: the support and the queries, or the groups.

    Args:
        roles: by role, of every task, what it holds; what has the same number in two roles is the same
            example. A task that holds nothing shares nothing.
    """

    def __init__(self, roles: Sequence[Sequence[Sequence[int]]]) -> None:
        self._tasks = len(roles[0])
        vectors = _incidence(roles)
        self._sides = [(vector, vector) for vector in vectors]
        if len(vectors) == 2:
            self._sides.append((vectors[0], vectors[1]))
        total, self._gram, squares, rows = self._sums()
        n = max(self._tasks, 1)
        # Means over all T² pairs of what lies off the diagonal; the cross kernel counts both ways.
        self._kappa = np.array(total) / n**2
        pairs = max(n * (n - 1), 1)
        self._offset = np.array(total) / pairs
        self._gram -= np.outer(total, total) / pairs  # of kernels less their means
        self._freedom = [_freedom(n, *each) for each in zip(squares, rows, strict=True)]
        self._active = [i for i, size in enumerate(np.diag(self._gram)) if size > ROUNDING * n]
        self._errors = self._standard_errors()

    @property
    def effective_tasks(self) -> float:
        """See :attr:`adapt.compare.examples.Examples.effective_tasks`."""
        return 1 / min(float(self._parts(np.ones(3)).sum()), 1.0)

    def variance(self, residuals: np.ndarray, within: float | None = None) -> tuple[float, float]:
        """See :meth:`adapt.compare.examples.Examples.variance`."""
        n, square = self._tasks, float(residuals @ residuals)
        if not self._kappa.any():  # the ordinary case, exactly
            return square / (n * (n - 1)), float(n - 1)
        limits = self._limits(residuals)
        if within is not None and len(self._sides) > 1:
            limits[1] = min(limits[1], within / (square / n))
        parts = self._parts(limits)
        ratio = min(float(parts.sum()), 1 - ROUNDING)
        freedoms = [n - 1, *self._freedom, min(self._freedom)]
        spread = sum(p * p / f for p, f in zip(parts, freedoms, strict=False))
        return square / n * ratio / (1 - ratio), float(ratio**2 / spread)

    def _sums(self) -> tuple[list[float], np.ndarray, list[float], list[np.ndarray]]:
        """Of the kernels, without their diagonals: sums and inner products; and of the first ones, whole, the
        square of all and the sums of rows."""
        own = len(self._sides) - (len(self._sides) == 3)
        total, gram = [0.0] * len(self._sides), np.zeros((len(self._sides),) * 2)
        squares, rows = [0.0] * own, [np.empty(self._tasks) for _ in range(own)]
        for start in range(0, self._tasks, BLOCK):
            found = list(self._kernels(start))
            here = np.arange(len(found[0]))
            for i, kernel in enumerate(found):
                if i < own:
                    squares[i] += float((kernel**2).sum())
                    rows[i][start : start + len(here)] = kernel.sum(1)
                kernel[here, start + here] = 0
                total[i] += float(kernel.sum())
            gram += [[float(np.vdot(a, b)) for b in found] for a in found]
        return total, gram, squares, rows

    def _kernels(self, start: int) -> Iterator[np.ndarray]:
        """Rows of every kernel from ``start`` on, ``[≤ BLOCK, T]``."""
        stop = start + BLOCK
        for one, other in self._sides:
            kernel = (one[start:stop] @ other.T).toarray()
            yield kernel if one is other else kernel + (other[start:stop] @ one.T).toarray()

    def _standard_errors(self) -> np.ndarray:
        """Of the shares of σ², ``[3]``: infinite for kernels that do not vary, and for all of them where they
        cannot be told apart."""
        errors = np.full(3, np.inf)
        self._inverse = np.zeros((0, 0))
        if self._active:
            gram = self._gram[np.ix_(self._active, self._active)]
            size = np.sqrt(np.diag(gram))
            if np.linalg.eigvalsh(gram / np.outer(size, size))[0] > 1e-6:
                self._inverse = np.linalg.inv(gram)
                errors[self._active] = np.sqrt(2 * np.diag(self._inverse))  # each pair is there twice
        return errors

    def _limits(self, residuals: np.ndarray) -> np.ndarray:
        """The largest plausible shares ``[3]``, each from 0 to 1."""
        limits = np.ones(3)
        if len(self._inverse):
            square = float(residuals @ residuals)
            products = [self._product(*self._sides[i], residuals) for i in self._active]
            # Products of different tasks sum to −square, so that a kernel's mean adds to its slope.
            slopes = self._inverse @ (np.array(products) + self._offset[self._active] * square)
            shares = slopes / (square / self._tasks) + LIMIT * self._errors[self._active]
            limits[self._active] = np.clip(shares, 0, 1)
        return limits

    def _product(self, one: Any, other: Any, residuals: np.ndarray) -> float:
        """Σ r_t r_u K_tu over pairs of different tasks."""
        own = np.asarray(one.multiply(other).sum(1)).ravel()  # the diagonal
        whole = float((one.T @ residuals) @ (other.T @ residuals) - residuals**2 @ own)
        return whole if one is other else 2 * whole

    def _parts(self, limits: np.ndarray) -> np.ndarray:
        """What makes up R, for the shares within ``limits`` that make it largest: what tasks do not share,
        then each kernel, with its diagonal but for the last, which has none."""
        first = np.minimum(SHARES, limits[0])
        if len(self._sides) == 1:
            shares, own = np.stack([first]), np.ones(1)
        else:
            second = np.minimum(1 - first, limits[1])
            cross = np.minimum(np.sqrt(first * second), limits[2])
            shares, own = np.stack([first, second, cross]), np.array([1.0, 1.0, 0.0])
        alone = (1 - own @ shares)[None]
        parts = np.concatenate([alone / self._tasks, (self._kappa + own / self._tasks)[:, None] * shares])
        return parts[:, parts.sum(0).argmax()]


def _incidence(roles: Sequence[Sequence[Sequence[int]]]) -> list[Any]:
    """By role, what every task holds as a sparse matrix ``[tasks, examples]`` with rows of length 1."""
    from scipy import sparse

    kept = [
        [task or (-1 - len(roles) * place - side,) for place, task in enumerate(role)]  # shared by nobody
        for side, role in enumerate(roles)
    ]
    flat = [np.fromiter((i for task in role for i in task), np.int64) for role in kept]
    names, number = np.unique(np.concatenate(flat), return_inverse=True)
    found, start = [], 0
    for role, indices in zip(kept, flat, strict=True):
        rows = np.repeat(np.arange(len(role)), [len(task) for task in role])
        columns = number[start : start + len(indices)]
        start += len(indices)
        shape = (len(role), len(names))
        counts = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        length = np.sqrt(np.asarray(counts.multiply(counts).sum(1)).ravel())
        found.append((sparse.diags_array(1 / length) @ counts).tocsr())
    return found


def _freedom(n: int, square: float, rows: np.ndarray) -> float:
    """tr(CKC)² / ‖CKC‖² for C that takes the mean away, of a kernel with ones on its diagonal."""
    total = float(rows.sum())
    size = square - 2 / n * float(rows @ rows) + total**2 / n**2
    return max((n - total / n) ** 2 / size, ROUNDING) if size > ROUNDING else ROUNDING
