"""stage=compare: every configured method on the same tasks, to the terminal, the run's folder and MLflow."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from adapt.adapter import Context, Method
from adapt.adapter.method import no_pool
from adapt.app.build import build
from adapt.app.environment import choose_device, environment
from adapt.app.progress import console, line, progress
from adapt.app.ranks import led, local_rank
from adapt.app.stages.adapters import AUTO, adapter_of
from adapt.app.stages.governance import audited, governance_markdown, governance_tags, seen_by
from adapt.app.stages.pools import pool_from, pool_split
from adapt.app.stages.report import show
from adapt.app.stages.session import Parts, Session, distribution
from adapt.app.stages.state import PROGRESS
from adapt.app.stages.tracked import tracked
from adapt.app.stages.values import OWN, for_values
from adapt.backbones import BackboneInfo
from adapt.compare import Comparison, compare
from adapt.compare.figures import draw_all, interactive
from adapt.compare.judge import Evaluate
from adapt.compare.many import check_count
from adapt.compare.markdown import comparison_markdown
from adapt.compare.runner import take_part
from adapt.compare.verdict import run_title, size_text
from adapt.errors import AdaptError
from adapt.files import write_json, write_text
from adapt.ranks import ranks
from adapt.tracking import Run
from tasks import Source, Tasks
from tasks.elsewhere import leaves
from tasks.own_tasks import said

__all__ = ["context_of", "describe", "follow_compare", "run_compare"]


def run_compare(config: DictConfig, session: Session) -> float | None:
    """Compare, write and show; returns the mean score of ours (or of the only method): accuracy (0 … 1), or
    the squared error of a regression."""
    device = choose_device(config.device, local_rank())
    chosen = config.adapter == AUTO
    config, methods, tasks, context = _prepared(config, device)
    task = describe(config, tasks)
    session.title = run_title(task, config.seed)
    if OWN in str(config.task):
        for known in dict.fromkeys(filter(None, map(said, leaves(tasks)))):
            console.print(f"{tasks.source.name}: {known}", soft_wrap=True, markup=False, highlight=False)
    where = environment(device) | ({"adapter": config.adapter} if chosen else {})
    electricity = build(config.energy, "energy", config.allow)
    backbone_name = context.adapter.backbone_name
    with tracked(config, session, tasks.source, backbone_name, device, "evaluation") as run:
        with led(session.config):
            result = compare(
                methods,
                tasks,
                context,
                experiment=config.name,
                task=task,
                tasks=task["tasks"],
                device=device,
                environment=where,
                electricity=electricity,
                checkpoint=session.folder / PROGRESS,
                ours=config.ours,
                memory=config.memory,
                evaluate=_evaluate(config),
                progress=progress(f"{config.name}: {task['tasks']} tasks, {size_text(task)}"),
                say=line,
                ranks=ranks(),
            )
        documents, figures = _write(result, session, config.figures)
        if config.evaluate.governance:
            documents.append(_governed(result, context, tasks, session, run))
        run.log_comparison(result, files=[*documents, *figures], title=session.title)
    session.metric = result.metric.name
    show(
        result, figure=figures[1] if figures else None, folder=session.folder, ui=run.ui_hint, console=console
    )
    best = result.ours or next(iter(result.methods.values()))
    return best.mean_score.mean


def follow_compare(config: DictConfig) -> None:
    """Do this process's part of what the first one does in :func:`run_compare`."""
    device = choose_device(config.device, local_rank())
    config, methods, tasks, context = _prepared(config, device)
    take_part(
        methods,
        tasks,
        context,
        tasks=config.task.tasks,
        device=device,
        ranks=ranks(),
        evaluate=_evaluate(config),
    )


def _evaluate(config: DictConfig) -> Evaluate:
    """What is measured besides the score."""
    return Evaluate(config.evaluate.calibration, config.evaluate.robustness)


def _governed(result: Comparison, context: Context, tasks: Tasks, session: Session, run: Run) -> Path:
    """The page ``governance.md``, and its tags."""
    reports, seen = audited(tasks), seen_by(context.adapter, tasks)
    run.log_tags(governance_tags(reports, seen))
    page = session.folder / "governance.md"
    write_text(page, governance_markdown(result, reports, seen))
    return page


def _prepared(
    config: DictConfig, device: torch.device
) -> tuple[DictConfig, dict[str, Method], Tasks, Context]:
    """What comparing needs, and every process that takes part makes for itself; first what ``config`` turns
    out to be for these tasks."""
    torch.manual_seed(config.seed)
    parts = Parts(config)
    tasks: Tasks = distribution(config, parts)
    backbone, info = parts.network
    if tasks.regression:
        config = for_values(config)
    methods: dict[str, Method] = {
        name: build(node, f"method.{name}", config.allow) for name, node in config.method.items()
    }
    return config, methods, tasks, context_of(config, backbone, info, tasks, device)


def context_of(
    config: DictConfig,
    backbone: nn.Module,
    info: BackboneInfo,
    tasks: Tasks,
    device: torch.device,
) -> Context:
    """What all methods share: the network, the adapter, the pool for retraining.

    Raises:
        AdaptError: examples of another shape or range than the network takes, or another space.
    """
    source = tasks.source
    if info.input_shape is not None and source.shape != tuple(info.input_shape):
        raise AdaptError(
            f"task '{source.name}' has examples of shape {source.shape} but backbone "
            f"'{info.name}' takes {info.input_shape}: choose another backbone, or where the source can make "
            f"them as large, set task.source.size={info.input_shape[-1]}"
        )
    adapter = adapter_of(config, backbone, info, tasks)
    first = tasks.episode(0)
    shown = first.support_x if len(first.support_x) else first.query_x
    adapter.examples(shown)  # of the range that the backbone was trained on
    pool = pool_from(source, pool_split(tasks), device) if isinstance(source, Source) else no_pool
    return Context(backbone.to(device), adapter.to(device), pool, config.seed)


def describe(config: DictConfig, tasks: Tasks) -> dict[str, Any]:
    """What the tasks were; ``ways`` is left out where there are no classes. A size that differs from task to
    task is a text, such as ``1–10``."""
    names = ("shots", "queries") if tasks.regression else ("ways", "shots", "queries")
    sizes = {name: getattr(tasks, name, None) for name in names}
    if "ways" in sizes and sizes["ways"] is None:  # all groups have the same classes
        sizes["ways"] = len(tasks.episode(0).meta.classes)
    return {
        "source": tasks.source.name,
        **{name: size if isinstance(size, int) else str(size) for name, size in sizes.items()},
        "tasks": check_count(config.task.tasks, tasks),
        **tasks.described,
    }


def _write(result: Comparison, session: Session, drawn: bool) -> tuple[list[Path], list[Path]]:
    """In the run's folder: where they are ``drawn``, figures as SVG and PNG, that of the score against
    seconds first, and all of them as a page to look at closely; ``comparison.md``, and last
    ``comparison.json``."""
    figures = draw_all(result, session.folder) if drawn else []
    page, numbers = session.folder / "comparison.md", session.folder / "comparison.json"
    # Some megabytes: a sweep draws one for all of its runs.
    closer = interactive(result, session.folder / "comparison.html") if drawn and not session.label else None
    write_text(page, comparison_markdown(result))
    write_json(numbers, result.to_dict())
    return [numbers, page, *([closer] if closer is not None else [])], figures
