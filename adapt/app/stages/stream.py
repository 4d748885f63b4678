"""stage=stream: a task whose examples come a few at a time, and that then becomes another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.app.environment import choose_device
from adapt.app.progress import console, progress
from adapt.app.stages.adapters import adapter_of
from adapt.app.stages.session import Parts, Session, distribution
from adapt.app.stages.tracked import tracked
from adapt.checks import between, check_setting, least
from adapt.compare.figures.style import empty_figure, save
from adapt.errors import AdaptError
from adapt.files import write_json
from adapt.heads import Direct
from tasks import Episode, Tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["run_stream"]


def run_stream(config: DictConfig, session: Session) -> float:
    """Adapt to streams of examples, in three ways; returns the squared error at the end of the one that
    notices changes."""
    part = check_setting("stream.part", config.stream.part, least(1, "one example at a time, or more"))
    forget = check_setting("stream.forget", config.stream.forget, between(0, 1))
    parts = Parts(config)
    tasks = distribution(config, parts)
    if not tasks.regression:
        raise AdaptError("stage=stream needs tasks of values: classes come in no order; use stage=compare")
    device = choose_device(config.device)
    adapter = adapter_of(config, *parts.network, tasks).to(device)
    ways: dict[str, dict[str, Any]] = {
        "online": {},
        "forgetting": {"forget": forget},
        "noticed": {"on_change": "forget"},
    }
    with tracked(config, session, tasks.source, adapter.backbone_name, device, "evaluation") as run:
        bar = progress("streams")
        found = [_stream(adapter, tasks, number, part, ways) for number in bar(range(config.task.tasks))]
        means: dict[str, np.ndarray] = {name: np.mean([it[name] for it in found], 0) for name in found[0]}
        seen = _counts(tasks, part)
        for step, count in enumerate(seen):
            run.log_metrics({f"stream/{name}": float(row[step]) for name, row in means.items()}, step=count)
        curves = {name: row.tolist() for name, row in means.items()}
        path = session.folder / "stream.json"
        write_json(path, {"examples": seen, "change": seen[-1] // 2, "streams": len(found), **curves})
        run.log_files([path, *save(_figure(seen, curves), session.folder / "stream")])
    ends = ", ".join(f"{name} {curves[f'mse_{name}'][-1]:.4f}" for name in ways)
    console.print(f"squared error at the end: {ends}; {path}", soft_wrap=True, markup=False)
    session.metric = "mse"
    return float(means["mse_noticed"][-1])


def _counts(tasks: Tasks, part: int) -> list[int]:
    """How many examples have come after each step; the last part of a task may be smaller."""
    n = len(tasks.episode(0).support_y)
    once = [*range(part, n, part), n]
    return once + [n + count for count in once]


def _stream(
    adapter: FewShotAdapter, tasks: Tasks, number: int, part: int, ways: dict[str, dict[str, Any]]
) -> dict[str, list[float]]:
    """Two tasks one after the other, ``part`` examples at a time: after each the squared error on the queries
    of the task that it is then, and how surprising the part was (−log₁₀ p, 0 of the first)."""
    found: dict[str, list[float]] = {name: [] for name in ("surprise", *map("mse_{}".format, ways))}
    now: dict[str, FittedTask] = {}
    for episode in (tasks.episode(2 * number), tasks.episode(2 * number + 1)):
        for start in range(0, len(episode.support_y), part):
            x, y = (it[start : start + part] for it in (episode.support_x, episode.support_y))
            if now:
                chance = max(now["online"].surprise(x, y).p_value, 1e-300)
                found["surprise"].append(-float(np.log10(chance)))
                now = {name: now[name].partial_fit(x, y, **how) for name, how in ways.items()}
            else:
                found["surprise"].append(0.0)
                keep = not isinstance(adapter.head, Direct)  # a head that is fitted needs all of them
                now = dict.fromkeys(ways, adapter.fit(x, y, keep=keep))
            for name, task in now.items():
                found[f"mse_{name}"].append(_error(task, episode))
    return found


def _error(task: FittedTask, episode: Episode) -> float:
    return float(((task.predict(episode.query_x) - episode.query_y.cpu().numpy()) ** 2).mean())


def _figure(seen: list[int], curves: dict[str, list[float]]) -> Figure:
    """Error against examples; the change is marked."""
    with empty_figure() as (figure, axes):
        for name, values in curves.items():
            if name.startswith("mse_"):
                axes.plot(seen, values, marker=".", label=name.removeprefix("mse_"))
        axes.axvline(seen[-1] / 2, color="#999999", lw=0.8, ls=":", label="the task becomes another one")
        axes.set_yscale("log")
        axes.set_xlabel("examples so far")
        axes.set_ylabel("squared error")
        axes.legend(frameon=False)
        return figure
