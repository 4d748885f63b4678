"""After a sweep: one table and one figure over all its comparisons (score against shots)."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from adapt.app.progress import console
from adapt.compare import Comparison
from adapt.files import read_json

__all__ = ["SweepSummary"]


class SweepSummary(Callback):
    """Reads what the jobs of a sweep wrote, so it works with any launcher."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Draw the score against shots, if the jobs differ in shots and in nothing else but seeds."""
        folder = Path(config.hydra.sweep.dir)
        results = [Comparison.from_dict(read_json(path)) for path in sorted(folder.glob("*/comparison.json"))]
        points = {(result.task["shots"], result.seed) for result in results}
        metrics = {result.metric.name: result.metric for result in results}
        if len({shots for shots, _ in points}) < 2 or len(points) < len(results) or len(metrics) > 1:
            return
        if not all(isinstance(shots, int) for shots, _ in points):
            return  # drawn task by task: no place on an axis
        from adapt.compare.figures import save, score_against_shots

        (metric,) = metrics.values()
        paths = save(score_against_shots(results), folder / f"{metric.name}_against_shots")
        console.print(f"\n{metric.noun} against shots: {paths[0].parent / paths[0].stem}.png", soft_wrap=True)
