"""An adapter → the same adapter, meta-trained, in one call."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from adapt.adapter.few_shot import FewShotAdapter
from adapt.adapter.parts import check_names
from adapt.adapter.record import AdapterRecord
from adapt.errors import AdaptError
from adapt.meta.calibration import CALIBRATION, calibrated
from adapt.meta.outer import meta_train
from adapt.meta.sets import WANTED, Sets, tasks_of
from adapt.meta.settings import MetaTraining
from adapt.meta.start import initial_basis
from adapt.meta.validation import Metrics
from tasks import Tasks
from tasks.elsewhere import leaves, on_split, with_seed

__all__ = ["trained"]

#: The first of the tasks that make the first basis: none of them is trained on.
BASIS_EPISODES = 10**6
Adapter = TypeVar("Adapter", bound=FewShotAdapter)


def trained(
    adapter: Adapter,
    tasks: Tasks | Sets,
    validation: Tasks | Sets | None = None,
    *,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda steps: steps,
    report: Callable[[int, Metrics], None] = lambda step, metrics: None,
    **settings: Any,
) -> Adapter:
    """``adapter`` with a start, directions and a prior that are learned from ``tasks``.

    Args:
        adapter: what it is made of stays as it is, but for its state.
        tasks: a distribution of tasks, or a list of pairs (x, y), one for each task.
        validation: the state that does best on these is returned. None: the split ``validation`` of the same
            distribution, if there is one, else other draws from the same; of a list the last fifth.
        seed: of what is drawn.
        progress: wraps the iteration over steps (a progress bar).
        report: called with the training loss after every step, and with validation metrics.
        settings: of :class:`adapt.meta.MetaTraining`, by name.

    Raises:
        AdaptError: tasks or settings that cannot be used.
    """
    chosen = _settings(settings)
    train, judged = _tasks(adapter, tasks, seed)
    if validation is not None:
        judged = _tasks(adapter, validation, seed + 1)[0]
    basis = train.episodes(BASIS_EPISODES, BASIS_EPISODES + chosen.basis_tasks)
    start = initial_basis(adapter.backbone, adapter.space, adapter.problem, basis, chosen, seed=seed)
    state, metrics = meta_train(
        adapter.backbone,
        adapter.space,
        start,
        adapter.solver,
        adapter.problem,
        train,
        judged,
        chosen,
        seed=seed,
        progress=progress,
        report=report,
        match=adapter.match,
    )
    known = {"steps": chosen.steps, "seed": seed, **metrics}
    found = adapter.replace(state=state, info={**adapter.info, "training": known})
    return calibrated(found, judged, min(CALIBRATION, chosen.validation_tasks))


def _settings(given: dict[str, Any]) -> MetaTraining:
    check_names(given, [setting.name for setting in fields(MetaTraining)], "meta-training has no setting")
    return MetaTraining(**given)


def _tasks(adapter: AdapterRecord, tasks: Tasks | Sets, seed: int) -> tuple[Tasks, Tasks]:
    """What to train on, and what to judge by."""
    if isinstance(tasks, Sequence):
        return tasks_of(adapter, tasks, seed)
    if not hasattr(tasks, "episode"):
        raise AdaptError(f"tasks is a {type(tasks).__name__}: {WANTED}")
    judged: Tasks = with_seed(tasks, seed + 1)
    if all("validation" in part.source.splits for part in leaves(tasks)):
        judged = on_split(tasks, "validation", seed + 1)
    return tasks, judged
