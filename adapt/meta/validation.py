"""Mean query loss and metric on tasks that are held out."""

import torch

from adapt.adapter.state import AdapterState
from adapt.meta.batches import map_tasks
from adapt.meta.query import Learner, Score
from tasks import Episode

__all__ = ["validate"]

Metrics = dict[str, float]


def validate(
    learner: Learner, state: AdapterState, batch: Episode, *, chunk: int, sizes: tuple[int, ...] = ()
) -> Metrics:
    """``validation/loss`` and ``validation/accuracy`` (regression: ``validation/mse``) on the stacked tasks
    of ``batch``; the same with ``_k2`` and so on after it for the first ``sizes`` directions."""
    metric = "mse" if learner.problem.loss.regression else "accuracy"
    means: Metrics = {}
    with torch.no_grad():
        for suffix, part in [("", state), *((f"_k{size}", state.leading(size)) for size in sizes)]:

            def one(episode: Episode, part: AdapterState = part) -> Score:
                return learner.score(learner.adapt(part, episode)[1], episode)

            losses, metrics = zip(*map_tasks(one, batch, chunk), strict=True)
            means[f"validation/{metric}{suffix}"] = float(torch.cat(metrics).double().mean())
            means[f"validation/loss{suffix}"] = float(torch.cat(losses).double().mean())
    return means
