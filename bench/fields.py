"""Other fields than pictures and texts: a table (breast cancer), forecasts (volatility), decisions
(gridworld).

``python -m bench.fields [names] [--quick] [--train]``. For each field a small network's start and directions
are meta-trained from random weights on training tasks; directions, solver, and the settings of every rival
are chosen on validation tasks; test tasks are looked at once, all methods on the same ones. Adapters stay in
``outputs/bench/fields``: what is there is not trained again, and an interrupted training goes on.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapt.adapter import FewShotAdapter
from adapt.adapter.problem import Problem
from adapt.backbones import load_backbone
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval, paired_difference
from adapt.heads import Direct, Logistic, Prototype
from adapt.inner import CrossEntropy, GaussNewton, Linearised, Solver, SquaredError
from adapt.memory import keep_freed_memory
from adapt.meta import MetaTraining, initial_basis, meta_train
from adapt.spaces import full
from bench.lib.record import Row, folder_of, options, report
from tasks import BreastCancer, Episode, FunctionTasks, Gridworld, GroupedTasks, Tasks, Volatility

DEPENDS = (
    "adapt/adapter", "adapt/forward", "adapt/heads", "adapt/inner", "adapt/meta", "adapt/spaces",
    "tasks/control", "tasks/functions.py", "tasks/grouped.py", "tasks/regression", "tasks/tables",
)  # fmt: skip
TEST_TASKS, CHOICE_TASKS = 300, 60
CHOICE = 10**6  # the first validation task of those that choices are made on: none is seen in training
LEARN = ("origin", "basis", "log_precision")
SHARP = (*LEARN, "log_sharpness")
OURS, STILL = "forward", "start, not moved"
#: A task's support and queries -> what is predicted for the queries, [m]: labels or values.
Rival = Callable[[Episode], np.ndarray]


@dataclass(frozen=True)
class Field:
    """Tasks of a split, the network, how it is trained, and the rivals: name -> settings -> rival."""

    name: str
    tasks: Callable[[str], Tasks]
    network: str
    meta: MetaTraining
    rivals: Callable[["Field"], dict[str, dict[str, Rival]]]
    note: str = ""

    @property
    def problem(self) -> Problem:
        if self.tasks("train").regression:
            return Problem(SquaredError(), Direct(), Direct())
        return Problem(CrossEntropy(), Prototype(), Logistic())


# --------------------------------------------------------------------------------------------- rivals


def classifiers(field: Field) -> dict[str, dict[str, Rival]]:
    """Of scikit-learn, on the inputs as they are."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    return {
        "logistic": {
            f"C={c}": fitted(lambda c=c: LogisticRegression(C=c, max_iter=1000)) for c in (0.01, 0.1, 1.0)
        },
        "nearest neighbours": {f"k={k}": fitted(lambda k=k: KNeighborsClassifier(k)) for k in (1, 3, 5)},
    }


def with_boosting(field: Field) -> dict[str, dict[str, Rival]]:
    """The same, and what wins on tables with many rows."""
    from sklearn.ensemble import GradientBoostingClassifier

    boosting = {
        f"n={n}": fitted(lambda n=n: GradientBoostingClassifier(n_estimators=n, random_state=0))
        for n in (10, 50)
    }
    return {**classifiers(field), "gradient boosting": boosting}


def fitted(make: Callable[[], Any]) -> Rival:
    """A classifier, made anew and fitted for every task."""

    def rival(episode: Episode) -> np.ndarray:
        x, y, q = (tensor.numpy() for tensor in episode[:3])
        return make().fit(x, y).predict(q)

    return rival


def forecasters(field: Field) -> dict[str, dict[str, Rival]]:
    """Naive ones, ridge regression per series on the features of Corsi (2009), *A Simple Approximate
    Long-Memory Model of Realized Volatility* (with a leverage term), and one model for all series."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge

    episodes = [*field.tasks("train").episodes(CHOICE, CHOICE + 40 * field.meta.tasks_per_step)]
    x, y = (np.concatenate([e[i].numpy() for e in episodes for i in (one, one + 2)]) for one in (0, 1))

    def ridge(alpha: float) -> Rival:
        def rival(episode: Episode) -> np.ndarray:
            support_x, support_y, query_x = (tensor.numpy() for tensor in episode[:3])
            return Ridge(alpha).fit(corsi(support_x), support_y[:, 0]).predict(corsi(query_x))

        return rival

    def pooled(model: HistGradientBoostingRegressor | Ridge) -> Rival:
        both = model.fit(np.hstack([x, corsi(x)]), y[:, 0])
        return lambda e: both.predict(np.hstack([e.query_x.numpy(), corsi(e.query_x.numpy())]))

    return {
        "mean of the support": {"": lambda e: np.full(len(e.query_y), e.support_y.mean().item())},
        "last week's volatility": {"": lambda e: corsi(e.query_x.numpy())[:, 1]},
        "ridge, per series": {f"alpha={a}": ridge(a) for a in (1.0, 10.0, 100.0)},
        "ridge, all series": {"": pooled(Ridge(1.0))},
        "gradient boosting, all series": {
            f"n={n}": pooled(HistGradientBoostingRegressor(max_iter=n, learning_rate=0.05, random_state=0))
            for n in (100, 200)
        },
    }


def corsi(x: np.ndarray) -> np.ndarray:
    """Log volatility of the last day, week and month, and the last return where it is a loss: [n, 4]."""
    logs = [np.log(np.sqrt((x[:, -days:] ** 2).mean(1)) + 0.05) for days in (1, 5, x.shape[1])]
    return np.stack([*logs, np.minimum(x[:, -1], 0)], axis=1)


SMALL = MetaTraining(k=8, basis="random", radius=2.0, learn=LEARN)
FIELDS = (
    Field(
        "breast cancer, 5-shot",
        lambda split: GroupedTasks(BreastCancer(), 5, 15, split),
        "mlp:30-64-32:tanh",
        replace(
            SMALL, k=4, learn=SHARP, steps=160, tasks_per_step=8, validate_every=20, validation_tasks=200
        ),
        with_boosting,
        note="tasks share the 171 rows of the test pool",
    ),
    Field(
        "volatility, 50-shot",
        lambda split: FunctionTasks(Volatility(), 50, 50, split),
        "mlp:20-64-64-1:tanh",
        replace(SMALL, steps=1500, tasks_per_step=25, lr=2e-3, validate_every=250, validation_tasks=300),
        forecasters,
    ),
    Field(
        "gridworld, 5-shot",
        lambda split: GroupedTasks(Gridworld(size=6, view="agent", flat=True), 5, 10, split),
        "mlp:605-64-64-32",
        replace(
            SMALL,
            learn=SHARP,
            steps=700,
            tasks_per_step=6,
            distinct_tasks=3000,
            validate_every=100,
            validation_tasks=150,
        ),
        classifiers,
    ),
)

# ----------------------------------------------------------------------------------------------- ours


def train(field: Field, folder: Path) -> FewShotAdapter:
    """The meta-trained adapter, from its folder if it is there."""
    home = folder / field.name.replace(", ", "_").replace(" ", "_")
    if (home / "adapter_config.json").exists():
        return FewShotAdapter.from_pretrained(home)
    backbone, info = load_backbone(field.network)
    space, checkpoint = full(backbone), home.with_suffix(".checkpoint")
    folder.mkdir(parents=True, exist_ok=True)
    resume = checkpoint if checkpoint.exists() else None
    start = initial_basis(backbone, space, field.problem, (), field.meta)
    state, metrics = meta_train(
        backbone,
        space,
        None if resume else start,
        GaussNewton(),
        field.problem,
        field.tasks("train"),
        field.tasks("validation"),
        field.meta,
        report=lambda step, values: _say(field.name, step, values),
        checkpoint=checkpoint,
        resume=resume,
    )
    loss, support_head, head = field.problem
    adapter = FewShotAdapter(
        backbone,
        space,
        state,
        GaussNewton(),
        head,
        support_head,
        loss,
        info.input_shape,
        info.name,
        {"title": field.name, "training": metrics},
    )
    adapter.save_pretrained(home)
    checkpoint.unlink()
    return adapter


def _say(name: str, step: int, values: dict[str, float]) -> None:
    if "validation/loss" in values:
        print(f"{name}, step {step}: validation loss {values['validation/loss']:.4f}", flush=True)


def ours(adapter: FewShotAdapter) -> dict[str, dict[str, Rival]]:
    """Numbers of directions and solvers; and the same start without any move."""
    solvers: dict[str, Solver] = {
        "1 step": GaussNewton(),
        "3 steps": GaussNewton(3),
        "linearised": Linearised(),
    }
    options = {
        f"k={k}, {name}": replace(adapter, state=adapter.state.leading(k), solver=solver)
        for k in sorted({max(adapter.state.k // 2, 1), adapter.state.k})
        for name, solver in solvers.items()
    }
    state = adapter.state.leading(1)
    still = replace(adapter, state=state._replace(basis=torch.zeros_like(state.basis)))

    def predicting(moving: FewShotAdapter) -> Rival:
        def rival(episode: Episode) -> np.ndarray:
            outputs = moving.fit(episode.support_x, episode.support_y).predict(episode.query_x)
            return np.asarray(outputs).reshape(len(episode.query_y))

        return rival

    return {
        OURS: {name: predicting(option) for name, option in options.items()},
        STILL: {"": predicting(still)},
    }


# -------------------------------------------------------------------------------------------- results


def score(rival: Rival, episodes: Iterable[Episode], regression: bool) -> np.ndarray:
    """Per task [T]: mean squared error, or accuracy in percent."""
    scores = []
    for episode in episodes:
        truth = episode.query_y.numpy().reshape(-1)
        found = rival(episode)
        scores.append(np.mean((found - truth) ** 2) if regression else 100 * np.mean(found == truth))
    return np.array(scores)


def rows(field: Field, adapter: FewShotAdapter, *, quick: bool) -> list[Row]:
    """Choose on validation tasks, then test."""
    regression = field.tasks("train").regression
    chosen: dict[str, tuple[str, float, Rival]] = {}
    held = [*field.tasks("validation").episodes(CHOICE, CHOICE + (2 if quick else CHOICE_TASKS))]
    for name, settings in {**ours(adapter), **field.rivals(field)}.items():
        means = {key: float(score(rival, held, regression).mean()) for key, rival in settings.items()}
        best = (min if regression else max)(means, key=means.__getitem__)
        chosen[name] = best, means[best], settings[best]
    rivals = [name for name in chosen if name not in (OURS, STILL)]
    strongest = (min if regression else max)(rivals, key=lambda name: chosen[name][1])
    test = [*field.tasks("test").episodes(0, 2 if quick else TEST_TASKS)]
    scores = {name: score(rival, test, regression) for name, (_, _, rival) in chosen.items()}
    drawn = Examples.of(episode.meta for episode in test)
    metric, unit = ("mse", "") if regression else ("accuracy", "%")
    found = []
    for name, (setting, _, _) in chosen.items():
        case, mean = f"{field.name}: {name}", mean_interval([*scores[name]], drawn)
        words = [setting, "the best rival in validation" if name == strongest else "", field.note]
        note = "; ".join(word for word in words if word)
        better = not regression
        found.append(Row.of(case, f"eval/{metric}", mean, unit, higher_is_better=better, note=note))
        if name != OURS:
            gap = paired_difference([*scores[OURS]], [*scores[name]], drawn)
            points = "points" if not regression else ""
            found.append(
                Row(
                    case,
                    f"compare/forward_minus_this_{metric}",
                    gap.mean,
                    points,
                    gap.ci95,
                    gap.n,
                    0.0 if name == strongest else None,
                    better,
                    note,
                )
            )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    names = "beginnings of the names of fields; all if there are none"
    parser = options(__doc__, names=names, train="meta-train only")
    given = parser.parse_args(arguments)
    keep_freed_memory()
    folder = folder_of("fields", given)
    found: list[Row] = []
    for field in FIELDS:
        if given.names and not field.name.startswith(tuple(given.names)):
            continue
        if given.quick:
            small = replace(
                field.meta, steps=1, tasks_per_step=2, distinct_tasks=0, validation_tasks=2, validate_every=1
            )
            field = replace(field, meta=small)
        adapter = train(field, folder)
        if not given.train:
            found += rows(field, adapter, quick=given.quick)
    if found:
        report("fields", found, given)


if __name__ == "__main__":
    main()
