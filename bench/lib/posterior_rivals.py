"""What else says how sure a regression is, each as a function of a task's support set and queries.

Every rival is made with the same validation tasks, of the size of the test tasks, on which it chooses what
it has to choose, once: the ensemble two numbers of its variance, laplace-torch the precision of its prior and
the noise, BayesianRidge whose features it gets, the process with a shared prior its hyper-parameters.
"""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge
from torch import nn

from adapt.adapter import FewShotAdapter
from adapt.backbones import require
from adapt.inner import GaussNewton
from bench.lib.posterior_adapters import ensemble, is_trained
from tasks import Episode, FunctionTasks

__all__ = ["RIVALS", "Moments", "Rival", "Setting", "nll", "ours", "rivals"]

#: Mean and variance of an observation, both [m, C].
Moments = tuple[np.ndarray, np.ndarray]
Rival = Callable[[Episode], Moments]
LEAST = 1e-12
#: Grids of laplace-torch: the prior's precision, and the standard deviation of the noise.
FEWER = 30  # validation tasks, of the slow laplace-torch
PRECISIONS, NOISES = (1.0, 10.0, 100.0, 1e3), (0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Setting:
    """A domain with so many support points.

    Attributes:
        adapter: ours.
        judged: validation tasks.
        folder: of adapters that are made for rivals.
    """

    name: str
    adapter: FewShotAdapter
    tasks: FunctionTasks
    judged: Sequence[Episode]
    folder: Path
    quick: bool


def nll(moments: Moments, episode: Episode) -> float:
    """Mean −log density of the queries."""
    mean, variance = moments
    error = (mean - episode.query_y.numpy()) ** 2
    return float((0.5 * (np.log(2 * np.pi * variance) + error / variance)).mean())


def ours(adapter: FewShotAdapter, episode: Episode) -> Moments:
    mean, std = adapter.fit(episode.support_x, episode.support_y).predict(episode.query_x, return_std=True)
    return mean, std**2


def one_variance(setting: Setting) -> Rival:
    """Ours, with one variance for all outputs."""

    def mean(episode: Episode) -> np.ndarray:
        task = setting.adapter.fit(episode.support_x, episode.support_y)
        found: np.ndarray = task.predict(episode.query_x)
        return found

    errors = [((mean(it) - it.query_y.numpy()) ** 2).mean() for it in setting.judged]
    variance = float(np.mean(errors))
    return lambda episode: (found := mean(episode), np.full_like(found, variance))


# ------------------------------------------------------------------------------------------ ensemble


def maml_ensemble(setting: Setting) -> Rival:
    """Five MAMLs: their mean, and a + b × their variance, with a and b of the least NLL."""
    members = ensemble(setting.name, setting.tasks, setting.folder, quick=setting.quick)

    def raw(episode: Episode) -> Moments:
        means = np.stack(
            [it.fit(episode.support_x, episode.support_y).predict(episode.query_x) for it in members]
        )
        return means.mean(0), means.var(0, ddof=1)

    a, b = affine([raw(it) for it in setting.judged], setting.judged)

    def scaled(episode: Episode) -> Moments:
        mean, variance = raw(episode)
        return mean, a + b * variance

    return scaled


def affine(raw: Sequence[Moments], judged: Sequence[Episode]) -> tuple[float, float]:
    """a, b ≥ 0 of the least mean −log density with variances a + b v."""
    error = np.concatenate(
        [((mean - it.query_y.numpy()) ** 2).ravel() for (mean, _), it in zip(raw, judged, strict=True)]
    )
    variance = np.concatenate([it.ravel() for _, it in raw])

    def negative(logs: np.ndarray) -> float:
        whole = np.exp(logs[0]) + np.exp(logs[1]) * variance
        return float((np.log(whole) + error / whole).mean())

    start = np.array([np.log(error.mean() + LEAST), 0.0])
    found = minimize(negative, start, method="Nelder-Mead", options={"maxiter": 400}).x
    return float(np.exp(found[0])), float(np.exp(found[1]))


# ------------------------------------------------------------------------------------------ last layer


def _adapted(adapter: FewShotAdapter, episode: Episode) -> nn.Sequential:
    """The network after ours has adapted it: its last layer is linear."""
    task = adapter.fit(episode.support_x, episode.support_y)
    network = deepcopy(adapter.backbone).requires_grad_(True)
    network.load_state_dict({**network.state_dict(), **dict(task.parameters)})
    layers = network.layers
    assert isinstance(layers, nn.Sequential)
    return layers


def has_laplace() -> bool:
    return find_spec("laplace") is not None


def last_layer_laplace(setting: Setting) -> Rival:
    """laplace-torch on the last layer of the network that ours has adapted (Daxberger et al. 2021)."""

    def fitted(episode: Episode) -> Any:
        network = _adapted(setting.adapter, episode)
        examples = torch.utils.data.TensorDataset(episode.support_x, episode.support_y)
        found = laplace()(network, "regression", subset_of_weights="last_layer", hessian_structure="full")
        found.fit(torch.utils.data.DataLoader(examples, batch_size=len(examples)))
        return found

    grid = [*product(PRECISIONS, NOISES)]
    losses = np.zeros(len(grid))
    for episode in setting.judged[:FEWER]:
        found = fitted(episode)
        losses += [nll(_laplaced(found, *values, episode), episode) for values in grid]
    best = grid[int(losses.argmin())]
    return lambda episode: _laplaced(fitted(episode), *best, episode)


def laplace() -> Any:
    """The class of laplace-torch, imported: with it come libraries that torch deprecates things of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return require("laplace").Laplace


def _laplaced(found: Any, precision: float, noise: float, episode: Episode) -> Moments:
    found.prior_precision, found.sigma_noise = precision, noise
    with torch.no_grad():
        mean, covariance = found(episode.query_x)
    variance = covariance.diagonal(dim1=1, dim2=2).numpy() + noise**2
    return mean.numpy(), np.maximum(variance, LEAST)


def bayesian_ridge(setting: Setting) -> Rival:
    """scikit-learn's BayesianRidge, with its own hyper-parameters by evidence for every task and output, on
    the inputs of the last layer: at the start, or after ours has adapted."""

    def of(solver: GaussNewton) -> Rival:
        adapter = setting.adapter.replace(solver=solver)
        return lambda episode: _ridged(_adapted(adapter, episode)[:-1], episode)

    found = [of(GaussNewton(steps=0)), of(GaussNewton(steps=1))]
    losses = [np.mean([nll(it(episode), episode) for episode in setting.judged]) for it in found]
    return found[int(np.argmin(losses))]


def _ridged(features: nn.Module, episode: Episode) -> Moments:
    with torch.no_grad():
        x, new = (features(it).double().numpy() for it in (episode.support_x, episode.query_x))
    columns = episode.support_y.double().numpy().T
    parts = [BayesianRidge().fit(x, y).predict(new, return_std=True) for y in columns]
    mean, std = (np.stack(it, 1) for it in zip(*parts, strict=True))
    return mean, np.maximum(std**2, LEAST)


# ------------------------------------------------------------------------------------------ processes


def own_process(setting: Setting) -> Rival:
    """A Gaussian process with a length for every input, its hyper-parameters by marginal likelihood."""

    def found(episode: Episode) -> Moments:
        inputs = episode.support_x.shape[1]
        kernel = ConstantKernel() * RBF(np.ones(inputs)) + WhiteKernel(1e-2)
        model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of two points, they are at their bounds
            model.fit(episode.support_x.numpy(), episode.support_y.numpy())
            return _processed([model.predict(episode.query_x.numpy(), return_std=True)], episode)

    return found


def shared_process(setting: Setting) -> Rival:
    """One whose hyper-parameters, of each output, are those under which all validation tasks together are
    most probable: a prior that is learned from tasks, as ours is."""
    outputs = setting.judged[0].support_y.shape[1]
    sets = [
        (torch.cat([e.support_x, e.query_x]), torch.cat([e.support_y, e.query_y])) for e in setting.judged
    ]
    some = [(x[:40].double().numpy(), y[:40].double().numpy()) for x, y in sets[: 2 if setting.quick else 25]]
    center = np.concatenate([y for _, y in some]).mean(0)
    kernels = [prior([(x, y[:, c] - center[c]) for x, y in some]) for c in range(outputs)]

    def found(episode: Episode) -> Moments:
        x, y, new = (it.double().numpy() for it in (episode.support_x, episode.support_y, episode.query_x))
        parts = []
        for c, kernel in enumerate(kernels):
            model = GaussianProcessRegressor(kernel, optimizer=None).fit(x, y[:, c] - center[c])
            mean, std = model.predict(new, return_std=True)
            parts.append((mean + center[c], std))
        return _processed(parts, episode)

    return found


def prior(sets: Sequence[tuple[np.ndarray, np.ndarray]]) -> Any:
    """The kernel of the greatest sum of log marginal likelihoods."""
    scale = np.concatenate([x for x, _ in sets]).std(0) + 1e-6
    variance = float(np.concatenate([y for _, y in sets]).var()) + LEAST
    kernel = ConstantKernel(variance, (1e-6, 1e6)) * RBF(scale, (1e-3, 1e4)) + WhiteKernel(
        1e-2 * variance, (1e-7, 1e3)
    )
    models = [GaussianProcessRegressor(kernel, optimizer=None).fit(x, y) for x, y in sets]

    def negative(theta: np.ndarray) -> tuple[float, np.ndarray]:
        found = [it.log_marginal_likelihood(theta, eval_gradient=True) for it in models]
        return -sum(value for value, _ in found), -np.sum([slope for _, slope in found], 0)

    best = minimize(negative, kernel.theta, jac=True, bounds=kernel.bounds, options={"maxiter": 60}).x
    return kernel.clone_with_theta(best)


def _processed(parts: Sequence[tuple[np.ndarray, np.ndarray]], episode: Episode) -> Moments:
    shape = episode.query_y.shape
    mean, std = (np.stack([part[i].reshape(len(episode.query_y), -1) for part in parts], 1) for i in (0, 1))
    return mean.reshape(shape), np.maximum(std.reshape(shape) ** 2, LEAST)


#: By the names that tables have.
RIVALS: dict[str, Callable[[Setting], Rival]] = {
    "one variance": one_variance,
    "five MAMLs": maml_ensemble,
    "laplace-torch": last_layer_laplace,
    "BayesianRidge": bayesian_ridge,
    "process of the task": own_process,
    "process, shared prior": shared_process,
}


def rivals(setting: Setting) -> dict[str, Rival]:
    """Those that there can be here, made: an ensemble of two domains, if it has been trained; a library may
    not be installed."""
    left_out = set()
    if not is_trained(setting.name, setting.folder, quick=setting.quick):
        left_out.add("five MAMLs")
    if not has_laplace():
        left_out.add("laplace-torch")
        print("left out: laplace-torch is not installed")
    return {name: make(setting) for name, make in RIVALS.items() if name not in left_out}
