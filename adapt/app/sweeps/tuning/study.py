"""The trials of one method, kept in an Optuna study: what to try next, and what was found.

Only finished trials are stored, and a proposal follows from them, the seed and nothing else: a search that
was interrupted, by whatever, goes on as if it had not been.
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adapt.app.earlier import comparable
from adapt.app.sweeps.tuning.search import Range, Search, Setting, Value
from adapt.errors import AdaptError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["MethodStudy", "Trial", "opened", "propose"]

#: Trials that are drawn at random before their results say where to look.
STARTUP = 5
#: How often a proposal that was tried before is drawn anew.
REDRAWS = 20
#: Of proposed numbers: nobody wants to read or type more.
DIGITS = 4


@dataclass(frozen=True)
class Trial:
    """One setting of one method, judged on the validation tasks.

    Attributes:
        method: its name.
        number: its place, from 0.
        params: key of the config → value.
        own: whether it is the setting of the config itself; where the space has that, it is trial 0.
        scores: on each task ``[n]``; of a training run, the one validation score. Empty: the trial failed.
        ci95: half-width of the 95 % interval of the mean score; None: it has none, as of one task.
        seconds: to adapt, median over tasks; of a training run, what it took.
        spent: seconds that the whole trial took.
        run_id: of its MLflow run, None if it has none.
        problem: why it failed.
        cost: of one adaptation, in forward equivalents, which are counted and not measured; None: not known.
    """

    method: str
    number: int
    params: Mapping[str, Value]
    own: bool = False
    scores: tuple[float, ...] = ()
    ci95: float | None = None
    seconds: float = math.nan
    spent: float = 0.0
    run_id: str | None = None
    problem: str | None = None
    cost: float | None = None

    @property
    def score(self) -> float:
        """Mean over tasks; NaN if the trial failed."""
        return float(np.mean(self.scores)) if self.scores else math.nan

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is not known is None."""
        known = {"score": self.score, "n": len(self.scores), **asdict(self), "scores": list(self.scores)}
        return {key: None if value != value else value for key, value in known.items()}


class MethodStudy:
    """The study of one method.

    Args:
        storage: Optuna's.
        study: name in the storage.
        method: name of the method.
        space: its settings.
        search: budget, sampler and seed.
        own: values of the config, tried first; None: not in the space.
        higher_is_better: direction of the score.
    """

    def __init__(
        self,
        storage: "BaseStorage",
        study: str,
        method: str,
        space: Mapping[str, Setting],
        search: Search,
        own: Mapping[str, Value] | None,
        higher_is_better: bool,
    ) -> None:
        import optuna

        self.method, self._space, self._search, self._own = method, space, search, own
        self._higher = higher_is_better
        self._study: Study = optuna.create_study(
            study_name=study,
            storage=storage,
            direction="maximize" if higher_is_better else "minimize",
            load_if_exists=True,
        )

    def agree(self, settings: Mapping[str, str]) -> None:
        """Note what the trials depend on, or check that it is what it was.

        Raises:
            AdaptError: the trials so far were made with other settings.
        """
        before = self._study.user_attrs.get("settings")
        if before is None:
            self._study.set_user_attr("settings", dict(settings))
            return
        before = comparable(before, settings, "task.")
        for key in sorted({*before, *settings}):
            if before.get(key) != settings.get(key):
                raise AdaptError(
                    f"the search that folder= names was started with {key}={before.get(key)}, not "
                    f"{settings.get(key)}: go on with the settings it had, or use another folder="
                )

    @property
    def trials(self) -> list[Trial]:
        """Finished ones, failed ones included, in order."""
        return [_read(self.method, number, trial) for number, trial in enumerate(self._finished())]

    @property
    def open(self) -> bool:
        """Whether some of the budget is left."""
        trials, seconds = self.trials, self._search.seconds
        spent = sum(trial.spent for trial in trials)
        return len(trials) < self._search.trials and (seconds is None or spent < seconds)

    def next(self) -> Trial | None:
        """What to try now; None: the budget is spent."""
        if not self.open:
            return None
        done = self._finished()
        params = propose(done, self.method, self._space, self._search, self._own, self._higher)
        return Trial(self.method, len(done), params, own=not done and self._own is not None)

    def add(self, trial: Trial) -> None:
        """Store a finished trial."""
        from optuna.trial import TrialState, create_trial

        kept = {key: value for key, value in trial.to_dict().items() if key not in ("params", "score", "n")}
        self._study.add_trial(
            create_trial(
                # To the sampler a trial that was stopped is worse than any other.
                state=TrialState.COMPLETE if trial.scores else TrialState.PRUNED,
                value=trial.score if trial.scores else None,
                params=dict(trial.params),
                distributions=_distributions(self._space),
                user_attrs=kept,
            )
        )

    def _finished(self) -> "list[FrozenTrial]":
        return self._study.get_trials(deepcopy=False)


@contextmanager
def opened(url: str) -> "Iterator[BaseStorage]":
    """The storage at a database URL, closed at the end.

    Raises:
        AdaptError: Optuna is not installed, or the database cannot be opened.
    """
    try:
        import optuna
    except ImportError:
        raise AdaptError('tune needs Optuna: pip install "adaptive-behavior[sweeps]"') from None
    from sqlalchemy.exc import SQLAlchemyError

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a line per study and per trial, on stderr
    try:
        try:
            storage = optuna.storages.RDBStorage(url)
        except (SQLAlchemyError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise AdaptError(
                f"hparams_search.storage={url} cannot be opened ({reason}): give a database URL, as "
                "sqlite:///my.db, or null for study.db in the folder of the search"
            ) from None
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(level)


def propose(
    done: "Sequence[FrozenTrial]",
    method: str,
    space: Mapping[str, Setting],
    search: Search,
    own: Mapping[str, Value] | None,
    higher_is_better: bool,
) -> dict[str, Value]:
    """What to try after ``done``: first ``own``, then what the sampler says, which follows from ``done``, the
    seed, and the method's name. What was tried before comes again only where hardly anything else is left.
    """
    import optuna

    if not done and own is not None:
        return dict(own)
    distributions = _distributions(space)
    tried = [trial.params for trial in done]
    params: dict[str, Value] = {}
    for attempt in range(REDRAWS):
        entropy = [search.seed, zlib.crc32(method.encode()), len(done), attempt]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        study = optuna.create_study(
            direction="maximize" if higher_is_better else "minimize", sampler=_sampler(search.sampler, seed)
        )
        study.add_trials(done)
        drawn = study.ask(distributions).params
        params = {key: _rounded(drawn[key], setting) for key, setting in space.items()}
        if params not in tried:
            break
    return params


def _sampler(name: str, seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    if name == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=STARTUP)


def _distributions(space: Mapping[str, Setting]) -> "dict[str, BaseDistribution]":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, setting in space.items():
        if not isinstance(setting, Range):
            found[key] = CategoricalDistribution(setting.values)
        elif setting.whole:
            found[key] = IntDistribution(int(setting.low), int(setting.high), log=setting.log)
        else:
            found[key] = FloatDistribution(setting.low, setting.high, log=setting.log)
    return found


def _rounded(value: Any, setting: Setting) -> Value:
    """A number in few digits that still lies in its range."""
    if not isinstance(setting, Range) or setting.whole:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), setting.low), setting.high)


def _read(method: str, number: int, trial: "FrozenTrial") -> Trial:
    known = trial.user_attrs
    seconds = known["seconds"]
    return Trial(
        method,
        number,
        dict(trial.params),
        known["own"],
        tuple(known["scores"]),
        known["ci95"],
        math.nan if seconds is None else seconds,
        known["spent"],
        known["run_id"],
        known["problem"],
        known.get("cost"),  # searches of before have none
    )
