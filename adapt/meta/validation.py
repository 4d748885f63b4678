"""Mean query loss and metric on tasks that are held out."""

import torch
from torch import Tensor

from adapt.adapter.state import AdapterState
from adapt.meta.batches import map_tasks
from adapt.meta.query import Learner, Score
from adapt.ranks import ALONE, Ranks
from tasks import Episode

__all__ = ["validate"]

Metrics = dict[str, float]


def validate(
    learner: Learner,
    state: AdapterState,
    batch: Episode,
    *,
    chunk: int,
    sizes: tuple[int, ...] = (),
    ranks: Ranks = ALONE,
) -> Metrics:
    """``validation/loss`` and ``validation/accuracy`` (regression: ``validation/mse``) on the stacked tasks
    of ``batch``, and on those of the other ``ranks``; the same with ``_k2`` and so on after it for the first
    ``sizes`` directions."""
    metric = "mse" if learner.problem.loss.regression else "accuracy"
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for suffix, part in [("", state), *((f"_k{size}", state.leading(size)) for size in sizes)]:

            def one(episode: Episode, part: AdapterState = part) -> Score:
                return learner.score(learner.adapt(part, episode)[1], episode)

            losses, metrics = zip(*map_tasks(one, batch, chunk), strict=True)
            sums[f"validation/{metric}{suffix}"] = torch.cat(metrics).double().sum()
            sums[f"validation/loss{suffix}"] = torch.cat(losses).double().sum()
        number = state.origin.new_tensor(len(batch.support_y), dtype=torch.float64)
        *totals, number = ranks.total([*sums.values(), number])
    return {name: float(total / number) for name, total in zip(sums, totals, strict=True)}
