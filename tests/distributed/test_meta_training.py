"""Several processes learn what one learns: in double precision the same but for the order of sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapt.adapter import initial_state
from adapt.adapter.mixture import mixture_of
from adapt.errors import AdaptError
from adapt.files import read_tensors
from adapt.inner import GaussNewton
from adapt.meta import MetaTraining, meta_train
from adapt.ranks import ALONE, Ranks
from tasks import FunctionTasks, Sinusoid
from tests.distributed.together import finished
from tests.planted import REGRESSION, tiny_mlp

TASKS = FunctionTasks(Sinusoid(), shots=5, queries=4)
SMALL = {"steps": 6, "tasks_per_step": 4, "validation_tasks": 5, "validate_every": 3}
#: By name, what is learned and how.
SETTINGS = {
    "exact": MetaTraining(k=3, ema=0.5, **SMALL),  # type: ignore[arg-type]
    "nested, of few tasks": MetaTraining(k=3, nested=(1, 3), distinct_tasks=7, **SMALL),  # type: ignore[arg-type]
    "reptile": MetaTraining(k=3, gradient="reptile", learn=("origin",), lr=0.1, **SMALL),  # type: ignore[arg-type]
    "a mixture": MetaTraining(k=1, subspaces=2, balance=0.5, **SMALL),  # type: ignore[arg-type]
    "a task at a time": MetaTraining(k=3, chunk=1, **SMALL),  # type: ignore[arg-type]
}
COMMAND = """
import sys
from pathlib import Path
from torch import distributed
from adapt.files import write_tensors
from adapt.ranks import ranks
from tests.distributed.test_meta_training import learned
distributed.init_process_group("gloo")
folder = Path(sys.argv[1])
tensors = learned(sys.argv[2], ranks(), folder / "checkpoint")
write_tensors(folder / f"{ranks().index}", tensors, {})
"""


def learned(name: str, ranks: Ranks = ALONE, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    """The state, and the metrics of all validation tasks."""
    network, space = tiny_mlp(torch.float64)
    generator, settings = torch.Generator().manual_seed(1), SETTINGS[name]
    bases = 0.3 * torch.randn(settings.subspaces, space.size, settings.k, generator=generator).double()
    starts = [initial_state(space.initial + number, basis) for number, basis in enumerate(bases)]
    router = torch.randn(settings.subspaces, 7, generator=generator).double()
    state, metrics = meta_train(
        network,
        space,
        None if not ranks.first else mixture_of(starts, router) if len(starts) > 1 else starts[0],
        GaussNewton(steps=2),
        REGRESSION,
        TASKS,
        TASKS,
        settings,
        checkpoint=checkpoint,
        ranks=ranks,
    )
    return {**state._asdict(), **{key: torch.tensor(value).double() for key, value in metrics.items()}}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("count", [2, 3])
def test_as_many_processes_as_one_likes_learn_the_same(name: str, count: int, tmp_path: Path) -> None:
    alone = learned(name)
    for done in finished(["-W", "error", "-c", COMMAND, str(tmp_path), name], Path.cwd(), count):
        assert done.returncode == 0, done.stderr
    for rank in range(count):
        found = read_tensors(tmp_path / str(rank))
        for field, value in alone.items():
            torch.testing.assert_close(found[field], value, rtol=1e-12, atol=1e-12)
    assert (tmp_path / "checkpoint").is_file()


def test_more_processes_than_tasks_are_refused() -> None:
    with pytest.raises(AdaptError, match=r"tasks_per_step=4 are fewer than the 5 processes"):
        learned("exact", Ranks(4, 5))


@pytest.mark.parametrize("number", [0, 1, 7, 8])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_everything_is_done_once(number: int, count: int) -> None:
    parts = [Ranks(index, count).part(number) for index in range(count)]
    assert [one for part in parts for one in part] == [*range(number)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
