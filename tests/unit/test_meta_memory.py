"""However long meta-training goes on, it holds as many tensors as at its beginning."""

import gc

import torch

from bench.lib.shared_steps import training_of


def tensors() -> int:
    gc.collect()
    return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())


def test_memory_is_flat() -> None:
    training, now = training_of("mlp_vehicle_dynamics", 2)
    counts = []
    for _ in range(4):
        for _ in range(25):
            now, _ = training.step(now)
        counts.append(tensors())
    assert now.step == 101
    assert len({*counts}) == 1
