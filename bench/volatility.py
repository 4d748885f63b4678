"""The volatility of an asset that is new, day after day: what each method has learned of it by then.

``python -m bench.volatility [--quick] [--train]``. Every test asset is followed for a year after its first
ten windows; on each day all methods forecast the next week from what is known by then, and learn from the
week that has just ended. The adapter is that of ``experiment=meta_volatility`` and stays in
``outputs/bench/volatility``. Settings are chosen on validation assets; so is the line by which the forecasts
of methods that forecast something else (a variance, or last week again) become forecasts of the logarithm.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.app.progress import progress
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.memory import keep_freed_memory
from bench.fields import corsi
from bench.lib.posterior_adapters import learned
from bench.lib.record import Row, folder_of, options, report
from tasks import Episode, FunctionTasks, Volatility

DEPENDS = (
    "adapt/adapter", "adapt/forward", "adapt/inner", "adapt/meta", "adapt/spaces", "conf/experiment",
    "tasks/functions.py", "tasks/regression",
)  # fmt: skip
FIRST, DAYS = 10, 250
JUDGED, ASSETS, POOLED = 30, 60, 2_000
WEEK = 5  # days between two fits of a GARCH
PARTS = {"days 1 to 21": (0, 21), "days 22 to 63": (21, 63), "days 64 to 250": (63, 250)}
OURS = "learning every day"
Array = NDArray[np.float64]
#: An asset -> its forecasts [days], each made of what is known on the day.
Forecaster = Callable[[Episode], Array]


class Choice(NamedTuple):
    """A method's setting, in words, the method, and the line that reads its forecasts: constant, slope."""

    said: str
    forecast: Forecaster
    line: tuple[float, float]


def assets(split: str, days: int) -> FunctionTasks:
    return FunctionTasks(Volatility(), FIRST, days, split)


def known_on(asset: Episode, day: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows whose target has been seen by then ``x [n, lags], y [n, 1]``."""
    ended = max(day - Volatility().horizon + 1, 0)
    return torch.cat([asset.support_x, asset.query_x[:ended]]), torch.cat(
        [asset.support_y, asset.query_y[:ended]]
    )


def series(asset: Episode, day: int) -> Array:
    """Returns known on the day ``[n]``."""
    first, later = asset.support_x.double().numpy(), asset.query_x[: day + 1].double().numpy()
    horizon = Volatility().horizon
    return np.concatenate([first[0], first[1:, -1], later[0, -horizon:], later[1:, -1]])


# ----------------------------------------------------------------------------------------------- ours


def followed(asset: Episode, begin: Callable[[Episode], FittedTask], forget: float | None) -> Array:
    """By a task that goes on with what each day brings, or, without ``forget``, does not."""
    task, found, horizon = begin(asset), [], Volatility().horizon
    for day in range(len(asset.query_x)):
        if forget is not None and day >= horizon:
            ended = slice(day - horizon, day - horizon + 1)
            task = task.partial_fit(asset.query_x[ended], asset.query_y[ended], forget=forget)
        found.append(task.predict(asset.query_x[day : day + 1]).item())
    return np.array(found)


def refitted(asset: Episode, adapter: FewShotAdapter) -> Array:
    """By a fit to everything that is known, every day anew."""
    days = range(len(asset.query_x))
    return np.array(
        [adapter.fit(*known_on(asset, day)).predict(asset.query_x[day : day + 1]).item() for day in days]
    )


def ours(adapter: FewShotAdapter) -> dict[str, dict[str, Forecaster]]:
    def begin(asset: Episode) -> FittedTask:
        return adapter.fit(asset.support_x, asset.support_y)

    def start(asset: Episode) -> FittedTask:
        state = adapter.state.leading(1)
        still = adapter.replace(state=state._replace(basis=torch.zeros_like(state.basis)))
        return still.fit(asset.support_x, asset.support_y)

    return {
        OURS: {
            f"forget={share}": partial(followed, begin=begin, forget=share) for share in (1.0, 0.995, 0.98)
        },
        "fitted every day anew": {"": partial(refitted, adapter=adapter)},
        "fitted to the first ten": {"": partial(followed, begin=begin, forget=None)},
        "start, not moved": {"": partial(followed, begin=start, forget=None)},
    }


# --------------------------------------------------------------------------------------------- rivals


def last_week(asset: Episode) -> Array:
    return corsi(asset.query_x.double().numpy())[:, 1]


def ridge(asset: Episode, alpha: float, common: Forecaster | None = None) -> Array:
    """Of the asset alone, every day anew, on Corsi's features; ``common``: that from which it deviates."""
    from sklearn.linear_model import Ridge

    found = []
    for day in range(len(asset.query_x)):
        (x, y), now = known_on(asset, day), asset.query_x[day : day + 1]
        given, target = corsi(x.double().numpy()), y.double().numpy()[:, 0]
        if common is None:
            found.append(Ridge(alpha).fit(given, target).predict(corsi(now.double().numpy())).item())
            continue
        left = target - common(asset._replace(query_x=x))
        more = Ridge(alpha).fit(given, left).predict(corsi(now.double().numpy())).item()
        found.append(common(asset._replace(query_x=now)).item() + more)
    return np.array(found)


def ridge_of_all(episodes: Sequence[Episode]) -> Forecaster:
    """One for all assets: of training."""
    from sklearn.linear_model import Ridge

    x, y = (torch.cat([part for e in episodes for part in (e[i], e[i + 2])]).double() for i in (0, 1))
    model = Ridge(1.0).fit(corsi(x.numpy()), y.numpy()[:, 0])
    return lambda asset: model.predict(corsi(asset.query_x.double().numpy()))


def garch(asset: Episode, leverage: int) -> Array:
    """Bollerslev (1986), *Generalized Autoregressive Conditional Heteroskedasticity*, with the asymmetry of
    Glosten, Jagannathan, Runkle (1993) if ``leverage`` is 1; by maximum likelihood of what is known, once a
    week (arch)."""
    from arch import arch_model

    found, constants = [], None
    for day in range(len(asset.query_x)):
        model = arch_model(series(asset, day), mean="Zero", p=1, o=leverage, q=1, rescale=False)
        if day % WEEK == 0:
            with warnings.catch_warnings():  # where last week's constants are at a bound, it begins anew
                warnings.simplefilter("ignore")
                fitted = model.fit(disp="off", show_warning=False, starting_values=constants)
            constants = fitted.params.to_numpy()
        variance = model.forecast(constants, horizon=Volatility().horizon).variance.to_numpy()[-1]
        found.append(0.5 * np.log(variance.mean()))
    return np.array(found)


def rivals(quick: bool) -> dict[str, dict[str, Forecaster]]:
    common = ridge_of_all([*assets("train", DAYS).episodes(0, 5 if quick else POOLED)])
    own = {f"alpha={a:g}": a for a in (1, 10, 100)}
    return {
        "last week's volatility": {"": last_week},
        "GARCH": {
            "GARCH(1, 1)": partial(garch, leverage=0),
            "GJR-GARCH(1, 1, 1)": partial(garch, leverage=1),
        },
        "ridge, per asset": {said: partial(ridge, alpha=a) for said, a in own.items()},
        "ridge, all assets": {"": common},
        "ridge, all assets and per asset": {
            said: partial(ridge, alpha=a, common=common) for said, a in own.items()
        },
    }


#: They forecast something else than the target's mean.
READ = ("last week's volatility", "GARCH")

# -------------------------------------------------------------------------------------------- results


def chosen(methods: Mapping[str, Mapping[str, Forecaster]], held: Sequence[Episode]) -> dict[str, Choice]:
    """Of every method the setting with the least error on validation assets, and its line."""
    found, truth = {}, np.concatenate([asset.query_y.double().numpy()[:, 0] for asset in held])
    for name, settings in progress("choosing")(methods.items()):
        errors = {}
        for said, forecast in settings.items():
            line = (0.0, 1.0)
            values = np.concatenate([forecast(asset) for asset in held])
            if name in READ:
                slope, constant = np.polyfit(values, truth, 1)
                line = float(constant), float(slope)
            errors[said] = float(np.mean((line[0] + line[1] * values - truth) ** 2)), line
        said = min(errors, key=lambda key: errors[key][0])
        found[name] = Choice(said, settings[said], errors[said][1])
        print(f"{name}: {said or 'nothing to choose'}", flush=True)
    return found


def rows(adapter: FewShotAdapter, *, quick: bool) -> Iterator[Row]:
    """Choose on validation assets, then test."""
    days, judged, many = (WEEK + 2, 1, 2) if quick else (DAYS, JUDGED, ASSETS)
    methods = chosen({**ours(adapter), **rivals(quick)}, [*assets("validation", days).episodes(0, judged)])
    errors: dict[str, list[Array]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in progress("assets")(range(many)):
        asset = assets("test", days).episode(number)
        truth = asset.query_y.double().numpy()[:, 0]
        for name, (_, forecast, (constant, slope)) in methods.items():
            started = time.perf_counter()
            values = forecast(asset)
            seconds[name].append((time.perf_counter() - started) / days)
            errors[name].append((constant + slope * values - truth) ** 2)
    for name, choice in methods.items():
        for part, (first, last) in {"the year": (0, days), **PARTS}.items():
            if first >= days:
                continue
            own, best = ([float(e[first:last].mean()) for e in errors[it]] for it in (name, OURS))
            case = f"{part}: {name}"
            yield Row.of(case, "eval/mse", mean_interval(own), higher_is_better=False, note=choice.said)
            if name != OURS:
                gap = paired_difference(best, own)
                yield Row.of(case, "compare/forward_minus_this_mse", gap, higher_is_better=False)
        milliseconds = 1000 * float(np.median(seconds[name]))
        yield Row.cost(f"the year: {name}", "time/day_milliseconds", milliseconds, "ms", n=many)


def main() -> None:
    arguments = options(__doc__, train="meta-train only").parse_args()
    keep_freed_memory()
    folder: Path = folder_of("volatility", arguments)
    adapter = learned("volatility", folder, quick=arguments.quick)
    if not arguments.train:
        report("volatility", [*rows(adapter, quick=arguments.quick)], arguments)


if __name__ == "__main__":
    main()
