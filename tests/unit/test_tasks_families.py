"""Functions of several families as one source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tasks import Digits, Families, FunctionTasks, Sinusoid, TaskError, VehicleDynamics

FAMILIES: dict[str, Any] = {"vehicle": VehicleDynamics(), "sinusoid": Sinusoid()}
BOTH = Families(FAMILIES)


@pytest.mark.parametrize("seed", range(6))
def test_a_task_is_one_of_its_family_padded_with_zeros(seed: int) -> None:
    *arrays, parameters = BOTH.draw(np.random.default_rng(seed), 4, 3)
    rng = np.random.default_rng(seed)
    number = int(rng.choice(2, p=[0.5, 0.5]))  # what is left of the stream is the family's
    family = [*FAMILIES.values()][number]
    *wanted, drawn = family.draw(rng, 4, 3)
    assert parameters == {"family": number, **drawn}
    for found, own, width in zip(arrays, wanted, (5, 3, 5, 3), strict=True):
        assert found.shape == (len(own), width) and found.dtype == np.float32
        np.testing.assert_array_equal(found[:, : own.shape[1]], own)
        assert not found[:, own.shape[1] :].any()


def test_families_come_as_often_as_their_weights_say() -> None:
    tasks = FunctionTasks(Families(FAMILIES, {"sinusoid": 3, "vehicle": 1}), shots=1, queries=1)
    share = np.mean([it.meta.parameters["family"] for it in tasks.episodes(0, 400)])
    assert share == pytest.approx(0.75, abs=0.07)
    only = FunctionTasks(Families(FAMILIES, {"sinusoid": 0, "vehicle": 1}), shots=2, queries=1)
    assert {it.meta.parameters["family"] for it in only.episodes(0, 20)} == {0.0}


def test_what_it_is_says_its_digest() -> None:
    others = [{**FAMILIES, "sinusoid": Sinusoid(0.1)}, dict(reversed(FAMILIES.items()))]
    digests = {BOTH.digest(), Families(FAMILIES, {"vehicle": 1, "sinusoid": 2}).digest()}
    digests |= {Families(other).digest() for other in others}
    assert len(digests) == 4 and Families(FAMILIES, {"vehicle": 2, "sinusoid": 2}).digest() == BOTH.digest()
    assert BOTH.card.description.startswith("vehicle: ")


def test_one_network_reads_a_batch_of_both() -> None:
    batch = FunctionTasks(BOTH, shots=3, queries=2).batch(0, 8)
    assert batch.support_x.shape == (8, 3, 5) and torch.isfinite(batch.query_y).all()


@pytest.mark.parametrize(
    ("families", "weights", "said"),
    [
        ({"one": Sinusoid()}, None, "give at least two"),
        ([Sinusoid(), Sinusoid()], None, "by name"),
        ({**FAMILIES, "digits": Digits()}, None, "families.digits is no family of functions"),
        (FAMILIES, {"vehicle": 1}, "give one for each"),
        (FAMILIES, [1, 2], "weights is a list"),
        ({1: Sinusoid(), 2: Sinusoid()}, None, "by name"),
        (FAMILIES, {"vehicle": 0, "sinusoid": 0}, "not 0 for all"),
        (FAMILIES, {"vehicle": -1, "sinusoid": 1}, "weights.vehicle=-1"),
    ],
)
def test_what_are_no_families(families: Any, weights: Any, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        Families(families, weights)
