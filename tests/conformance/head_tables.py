"""The table of heads, each with what it is by other means: closed forms, loops, other people's solvers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import torch
from torch import nn

from adapt import heads
from adapt.heads import (
    TIM,
    Direct,
    Head,
    KernelRidge,
    LabelWords,
    LaplacianShot,
    Linear,
    Logistic,
    LogisticCV,
    Mahalanobis,
    Matching,
    OptimalTransport,
    Prototype,
    Ridge,
    SimpleShot,
)
from tests.conformance.tables import F64


@dataclass(frozen=True)
class HeadRow:
    """A head as it is tried."""

    head: Any

    @property
    def reference(self) -> Callable[[Any, np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None:
        """``reference(head, X, Y, Q)``: outputs for Q by other means, on features whose rows have length √D
        (any length, where nothing is learned)."""
        return REFERENCES.get(type(self.head))

    @property
    def learns(self) -> bool:
        """Whether there is anything in its state."""
        return self.head.fit(torch.ones(2, 3), torch.eye(2, 3)).numel() > 0


def prototypes_by_hand(head: Prototype, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (cosines_by_hand if head.metric == "cosine" else class_means_by_hand)(head, x, y, q)


def trimmed_mean(rows: list[np.ndarray], axis: int) -> Any:
    cut = (len(rows) + 5) // 10  # a tenth, rounded
    return np.mean(np.sort(np.array(rows), axis)[cut : len(rows) - cut], axis)


def class_means_by_hand(head: Prototype, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = {"mean": np.mean, "median": np.median, "trimmed": trimmed_mean}[head.center]
    means = [middle([row for row, label in zip(x, y, strict=True) if label[c]], 0) for c in range(y.shape[1])]
    squared = np.array([[np.sum((row - mean) ** 2) for mean in means] for row in q])
    return -squared / (2 * head.temperature * x.shape[1])


def primal_ridge(head: Ridge, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    x1, q1 = with_intercept(x), with_intercept(q)
    gram = x1.T @ x1 + head.l2 * x.shape[1] * np.eye(x1.shape[1])
    return head.scale * q1 @ np.linalg.solve(gram, x1.T @ y)


def scipy_logistic(
    head: Logistic | LabelWords, x: np.ndarray, y: np.ndarray, q: np.ndarray, prior: np.ndarray | float = 0.0
) -> np.ndarray:
    x1, q1 = with_intercept(x), with_intercept(q)
    ridge = head.l2 * x.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(x1.shape[1], -1)
        z = x1 @ w
        log_p = z - scipy.special.logsumexp(z, axis=1, keepdims=True)
        gradient = x1.T @ (np.exp(log_p) - y) + ridge * (w - prior)
        return -(y * log_p).sum() + 0.5 * ridge * ((w - prior) ** 2).sum(), gradient.ravel()

    start = np.zeros(x1.shape[1] * y.shape[1])
    found = scipy.optimize.minimize(
        objective, start, jac=True, tol=1e-14, options={"maxiter": 10_000, "gtol": 1e-11}
    )
    return q1 @ found.x.reshape(x1.shape[1], -1)


def cosines_by_hand(head: Prototype, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    means = [x[y[:, c] == 1].mean(0) for c in range(y.shape[1])]
    cosines = [[row @ m / np.linalg.norm(row) / np.linalg.norm(m) for m in means] for row in q]
    return np.array(cosines) / head.temperature


def dense_mahalanobis(head: Mahalanobis, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The covariance of every class, made and inverted; ``np.cov`` has none of a single example."""
    every, columns, d = np.cov(x.T), [], x.shape[1]
    for own in (x[y[:, c] == 1] for c in range(y.shape[1])):
        share = len(own) / (len(own) + 1)
        alone = np.cov(own.T) if len(own) > 1 else np.zeros((d, d))
        off = q - own.mean(0)
        spread = share * alone + (1 - share) * every + head.l2 * np.eye(d)
        columns.append(-np.einsum("md,de,me->m", off, np.linalg.inv(spread), off))
    return np.stack(columns, 1) / (2 * head.temperature * d)


def attention_by_hand(head: Matching, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    alike = q @ x.T / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(x, axis=1))
    return np.log(np.exp((alike - 1) / head.temperature) @ y)


def centred_means_by_hand(head: SimpleShot, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    def length(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) * rows.shape[1] ** 0.5

    means = np.array([x[y[:, c] == 1].mean(0) for c in range(y.shape[1])])
    s, q = length(x - means.mean(0)), length(q - means.mean(0))
    means = np.array([s[y[:, c] == 1].mean(0) for c in range(y.shape[1])])
    squared = np.array([[np.sum((row - mean) ** 2) for mean in means] for row in q])
    return -squared / (2 * head.temperature * x.shape[1])


def scikit_kernel_ridge(head: KernelRidge, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    from sklearn.kernel_ridge import KernelRidge as Theirs
    from sklearn.metrics.pairwise import rbf_kernel

    gamma = 1 / (2 * head.length**2 * x.shape[1])
    model = Theirs(alpha=head.l2, kernel="precomputed").fit(rbf_kernel(x, x, gamma) + 1, y)
    return head.scale * model.predict(rbf_kernel(q, x, gamma) + 1)


def torch_descent(head: Linear, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``torch.optim.SGD`` with its own momentum and weight decay."""
    inputs, targets = torch.from_numpy(with_intercept(x)), torch.from_numpy(y)
    w = torch.zeros(inputs.shape[1], targets.shape[1], dtype=F64, requires_grad=True)
    size = x.shape[1]
    optimizer = torch.optim.SGD([w], head.lr / size, head.momentum, weight_decay=head.l2 * size)
    for _ in range(head.steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(inputs @ w, targets).backward()
        optimizer.step()
    return with_intercept(q) @ w.detach().numpy()


def scipy_logistic_cv(head: LogisticCV, x: np.ndarray, y: np.ndarray, q: np.ndarray) -> np.ndarray:
    def held_out(one: Logistic, i: int) -> float:
        others = np.arange(len(x)) != i
        z = scipy_logistic(one, x[others], y[others], x[i : i + 1])[0]
        return float(scipy.special.logsumexp(z) - y[i] @ z)

    grid = [Logistic(l2) for l2 in head.l2]
    scores = [sum(held_out(one, i) for i in range(len(x))) for one in grid]
    return scipy_logistic(grid[int(np.argmin(scores))], x, y, q)


def with_intercept(x: np.ndarray) -> np.ndarray:
    return np.hstack([x, np.full((len(x), 1), x.shape[1] ** 0.5)])


REFERENCES: dict[type, Callable[[Any, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    Direct: lambda head, x, y, q: q,
    KernelRidge: scikit_kernel_ridge,
    LabelWords: scipy_logistic,
    Linear: torch_descent,
    Logistic: scipy_logistic,
    LogisticCV: scipy_logistic_cv,
    Mahalanobis: dense_mahalanobis,
    Matching: attention_by_hand,
    Prototype: prototypes_by_hand,
    Ridge: primal_ridge,
    SimpleShot: centred_means_by_hand,
}
#: With more steps than by default, so that nothing is left of how they converge.
CONVERGED: dict[str, Any] = {
    "logistic": Logistic(steps=12),
    "logistic_cv": LogisticCV(l2=(0.03, 1.0), steps=10),
    "linear": Linear(steps=20),
    "tim": TIM(steps=10),
    "label_words": LabelWords(steps=12),
}
#: Every head there is, and some with other settings.
HEADS = {name: HeadRow(CONVERGED.get(name, kind())) for name, kind in heads.HEADS.items()} | {
    "prototype, sharp": HeadRow(Prototype(temperature=0.01)),
    "prototype, medians": HeadRow(Prototype(center="median")),
    "prototype, trimmed means": HeadRow(Prototype(center="trimmed")),
    "prototype, cosine": HeadRow(Prototype(metric="cosine")),
    "ridge, weak": HeadRow(Ridge(l2=1e-3, scale=1.0)),
    "logistic, strong": HeadRow(Logistic(l2=1.0)),
    "logistic, by conjugate gradients": HeadRow(Logistic(steps=12, dense=0)),
    "logistic, strong, by conjugate gradients": HeadRow(Logistic(l2=1.0, dense=0)),
    "linear, plain descent": HeadRow(Linear(lr=0.3, steps=10, momentum=0.0, l2=0.0)),
    "mahalanobis, narrow": HeadRow(Mahalanobis(l2=0.01)),
    "kernel_ridge, short": HeadRow(KernelRidge(length=0.3, l2=1e-2, scale=1.0)),
}


#: One head of every way of computing: for what is tried with every head and much else.
PLAIN_HEADS: dict[str, Head] = {
    "prototype": Prototype(),
    "cosine": Prototype(metric="cosine"),
    "ridge": Ridge(),
    "kernel_ridge": KernelRidge(),
    "logistic": Logistic(),
    "logistic, by conjugate gradients": Logistic(dense=0),
    "logistic_cv": LogisticCV(l2=(0.03, 0.3), steps=4),
    "linear": Linear(steps=10),
    "label_words": LabelWords(),
    "mahalanobis": Mahalanobis(),
    "matching": Matching(),
    "simple_shot": SimpleShot(power=0.5),
    "optimal_transport": OptimalTransport(steps=2),
    "laplacian_shot": LaplacianShot(steps=3),
    "tim": TIM(steps=3),
}
