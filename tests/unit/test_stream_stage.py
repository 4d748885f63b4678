"""Steps of ``stage=stream``: how many examples there are after each."""

from __future__ import annotations

import pytest

from adapt.app.stages.stream import _counts
from tasks import FunctionTasks, Sinusoid


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        (5, [5, 10, 15, 20]),
        (4, [4, 8, 10, 14, 18, 20]),
        (7, [7, 10, 17, 20]),
        (10, [10, 20]),
        (99, [10, 20]),
        (1, [*range(1, 21)]),
    ],
)
def test_the_last_part_of_a_task_may_be_smaller(part: int, counts: list[int]) -> None:
    assert _counts(FunctionTasks(Sinusoid(), 10, 3, "test"), part) == counts
