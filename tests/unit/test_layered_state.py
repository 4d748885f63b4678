"""The start that needs no data: each direction scales one part of the backbone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt import AdaptError, FewShotAdapter
from adapt.adapter import layered_state
from adapt.backbones import Conv4
from adapt.spaces import bias, film, full
from tests.helpers import tiny_conv4

SPACE = film(tiny_conv4())  # eight tensors of four numbers


@given(k=st.integers(1, 12))
def test_directions_divide_the_tensors_into_consecutive_parts(k: int) -> None:
    state = layered_state(SPACE, k, share=0.25)
    parts = min(k, 8)
    assert state.k == parts and torch.equal(state.origin, SPACE.initial)
    # Together they scale everything by the share, and every number belongs to one of them.
    assert torch.allclose(state.basis.sum(1), 0.25 * SPACE.initial)
    assert int((state.basis != 0).sum(1).max()) == 1
    owner = state.basis.abs().argmax(1)[state.basis.abs().sum(1) > 0]
    assert bool((owner.diff() >= 0).all()) and owner.unique().tolist() == list(range(parts))
    for tensor in state.basis.split(4):
        assert int((tensor.abs().sum(0) > 0).sum()) == 1, "a tensor is divided"


def test_tensors_that_are_zero_do_not_move() -> None:
    fresh = Conv4(width=4)  # biases start at zero
    assert not bool(layered_state(bias(fresh), 3).basis.any())
    space = full(fresh)
    assert torch.equal(layered_state(space, 3).basis.sum(1) == 0, space.initial == 0)


def test_it_adapts_and_is_saved(
    support: tuple[torch.Tensor, list[str]], tmp_path: pytest.TempPathFactory
) -> None:
    backbone = tiny_conv4()
    space = film(backbone)
    adapter = FewShotAdapter(backbone, space, layered_state(space, 4), input_shape=(1, 16, 16))
    task = adapter.fit(*support)
    assert task.z.shape == (4,) and bool(task.z.any())
    adapter.save_pretrained(str(tmp_path))
    again = FewShotAdapter.from_pretrained(str(tmp_path), backbone).fit(*support)
    assert torch.equal(again.z, task.z)


def test_no_direction_is_refused() -> None:
    with pytest.raises(AdaptError, match="k=0: at least one direction"):
        layered_state(SPACE, 0)
