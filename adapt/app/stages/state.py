"""What became of a run: ``run.json`` in its folder, by which a resume and a sweep know what is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.types import RunMode

from adapt.app.earlier import comparable
from adapt.app.recorded import NUMBER, OBJECT, TEXT, TEXTS, WHOLE, recorded
from adapt.errors import AdaptError
from adapt.files import write_json
from adapt.tracking.journal import FOLDER, Journal, left

__all__ = [
    "MULTIRUN",
    "OCCUPIED",
    "PROGRESS",
    "RUN",
    "STATE",
    "State",
    "Sweep",
    "begin",
    "clear",
    "kept",
    "read_sweep",
    "resumed",
    "sweep_of",
]

STATE, SWEEP = "run.json", "sweep.json"
#: What Hydra notes of how a run, or a sweep, was started.
RUN, MULTIRUN = Path(".hydra", "hydra.yaml"), Path("multirun.yaml")
#: In a sweep's folder: states of runs that were not started, by number, since others were at work in theirs.
OCCUPIED = "occupied"
#: What a comparison has done so far, see :func:`adapt.compare.compare`.
PROGRESS = "progress.jsonl"
#: Entries of a state by type, where it has them.
KINDS: dict[str, Any] = {
    **{"status": str, "overrides": TEXTS, "config": OBJECT, "number": WHOLE, "score": NUMBER},
    **dict.fromkeys(("sweep", "stage", "metric", "run_id", "error"), TEXT),
}
KINDS_OF_SWEEP: dict[str, Any] = {
    **{
        "id": str,
        "run_id": TEXT,
        "status": str,
        "swept": (dict, list),
        "overrides": TEXTS,
        "process": OBJECT,
    },
}

#: So many changed settings are named.
NAMED = 3
#: The folder that ``python -m adapt resume`` goes on in, while it does.
resumed: ContextVar[Path | None] = ContextVar("resumed", default=None)


@dataclass(frozen=True)
class State:
    """One run, alone or in a sweep.

    Attributes:
        status: "running" (or killed), "finished" or "failed".
        overrides: what was typed for it.
        config: resolved, as plain containers; None if it could not be.
        sweep: id of the sweep that it belongs to, None if it was started by itself.
        number: in the sweep.
        stage: what it does.
        score: what it returned, see ``metric``.
        metric: name of the score, None if nobody said.
        run_id: MLflow's, None if it was not recorded.
        error: why it failed.
    """

    status: str
    overrides: Sequence[str] = ()
    config: Mapping[str, Any] | None = None
    sweep: str | None = None
    number: int | None = None
    stage: str | None = None
    score: float | None = None
    metric: str | None = None
    run_id: str | None = None
    error: str | None = None

    def write(self, folder: Path, **changes: Any) -> State:
        """Write it, with ``changes``, to ``folder``; returns what was written."""
        state = replace(self, **changes)
        write_json(folder / STATE, asdict(state))
        return state

    @classmethod
    def read(cls, folder: Path) -> State | None:
        """That of ``folder``, None if there is none.

        Raises:
            AdaptError: a file that is none of ours.
        """
        if not (folder / STATE).is_file():
            return None
        found = recorded(folder / STATE, KINDS, ("status",))
        try:
            return cls(**found)
        except TypeError:
            raise AdaptError(f"{folder / STATE} is of another version of this package: start anew") from None


@dataclass(frozen=True)
class Sweep:
    """What the runs of a sweep know of it.

    Attributes:
        folder: in which each of them has one of its own.
        id: of the sweep.
        run_id: of its MLflow run, if it has one.
        swept: keys that its runs differ in.
        process: that started it, see :mod:`adapt.app.stages.parent`.
    """

    folder: Path
    id: str
    run_id: str | None = None
    swept: tuple[str, ...] = ()
    process: Mapping[str, Any] = field(default_factory=dict)

    def label(self, overrides: Sequence[str]) -> str:
        """What tells the run with these overrides from the others: ``seed=0 method.forward.k=2``."""
        keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
        return " ".join(text for key, text in zip(keys, overrides, strict=True) if key in self.swept)


def sweep_of(hydra: Any) -> Sweep | None:
    """The sweep that a run belongs to, by its Hydra config; None if it was started by itself."""
    if hydra.mode is not RunMode.MULTIRUN:
        return None
    folder = Path(hydra.runtime.cwd) / hydra.sweep.dir
    if not (folder / SWEEP).is_file():
        return None
    found = read_sweep(folder, "id", "run_id", "swept")
    return Sweep(folder, found["id"], found["run_id"], tuple(found["swept"]), found.get("process") or {})


def read_sweep(folder: Path, *needed: str) -> dict[str, Any]:
    """What is noted of the sweep in ``folder``; ``needed`` are entries that there must be.

    Raises:
        AdaptError: there is nothing, or a file that is none of ours.
    """
    return recorded(folder / SWEEP, KINDS_OF_SWEEP, needed)


def begin(folder: Path, state: State) -> tuple[State, bool]:
    """What a run of ``state`` starts from in ``folder``, and whether it goes on with an earlier try at the
    same run. If that was finished, its state comes back as it is: there is nothing left to do.

    Where it goes on, it finds everything there. What another run left behind is not taken up.

    Raises:
        AdaptError: the settings are no longer those that the run was started with.
    """
    state = replace(state, config=_plain(state.config))
    earlier = State.read(folder)
    goes_on = earlier is not None and _same_run(earlier, state, folder)
    if earlier is not None and goes_on:
        if earlier.config is not None and (changed := [*_changed(earlier.config, state.config)]):
            more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
            raise AdaptError(
                f"{folder} was started with other settings ({'; '.join(changed[:NAMED])}{more}): start a new "
                "run, or undo the change"
            )
        if earlier.status == "finished":
            return earlier, True
        state = replace(state, run_id=earlier.run_id)
    else:
        clear(folder)
    return state.write(folder), goes_on


def kept(noted: Path) -> Path:
    """A resume's copy of what Hydra noted: Hydra writes its own anew, and half of it if it is killed."""
    return noted.with_suffix(".kept.yaml")


def clear(folder: Path) -> None:
    """Take up nothing that another run left in ``folder``; what MLflow was not sent of that one is kept."""
    for path in (Path(PROGRESS), kept(RUN), kept(MULTIRUN)):
        (folder / path).unlink(missing_ok=True)
    if not left(folder) or (journal := Journal.found(folder / FOLDER)) is None:
        return
    journal.put_aside()
    journal.close()


def _same_run(earlier: State, state: State, folder: Path) -> bool:
    if state.sweep is not None:
        return earlier.sweep == state.sweep
    return resumed.get() == folder


def _changed(before: Mapping[str, Any], now: Any) -> Iterator[str]:
    if "task" in before and "task" in now:
        before = {**before, "task": comparable(before["task"], now["task"])}
    return _changes(before, now)


def _changes(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """What differs between two nested configs: ``task.shots was 5, is 1``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from _changes(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield f"{path} was {before}, is {now}"


def _plain(config: Any) -> Any:
    """As JSON will have it, where infinity is a text."""
    return json.loads(json.dumps(config, default=str), parse_constant=str)
