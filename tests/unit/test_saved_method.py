"""A saved adapter as a method of a comparison, on its own backbone or on the comparison's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapt.adapter import Context, FewShotAdapter, Predictor, Saved, Support
from adapt.backbones import Conv4, fingerprint, load_backbone, save_backbone
from adapt.errors import AdaptError
from adapt.heads import Ridge
from adapt.inner import Descent, GaussNewton
from tasks import Distribution, Episode
from tests.helpers import SIDE, Untouchable, make_adapter, make_source, randomised, tiny_conv4


@pytest.fixture
def episode() -> Episode:
    return Distribution(make_source(), ways=3, shots=2, queries=4).episode(0)


def adapted(method: Saved, backbone: nn.Module, episode: Episode) -> Predictor:
    """The comparison's own adapter and pool are no business of a saved one."""
    untouchable: Any = Untouchable()
    adapt = method.prepare(Context(backbone, untouchable, untouchable, seed=0))
    support = Support(episode.support_x, episode.support_y, episode.meta.classes)
    return adapt(support, lambda predictor: None)


def expected(adapter: FewShotAdapter, episode: Episode) -> Tensor:
    return adapter.fit(episode.support_x, episode.support_y).logits(episode.query_x)


def test_it_predicts_what_the_adapter_does_that_was_saved(tmp_path: Path, episode: Episode) -> None:
    backbone = tiny_conv4()
    adapter = make_adapter(backbone).replace(solver=GaussNewton(steps=2), head=Ridge())
    adapter.save_pretrained(tmp_path)
    before = fingerprint(backbone)
    predictor = adapted(Saved(str(tmp_path)), backbone, episode)
    assert torch.equal(predictor(episode.query_x), expected(adapter, episode))
    assert fingerprint(backbone) == before


def test_another_solver(tmp_path: Path, episode: Episode) -> None:
    backbone, descent = tiny_conv4(), Descent(steps=2)
    adapter = make_adapter(backbone)
    adapter.save_pretrained(tmp_path)
    found = adapted(Saved(str(tmp_path), solver=descent), backbone, episode)(episode.query_x)
    assert torch.equal(found, expected(adapter.replace(solver=descent), episode))
    assert not torch.equal(found, expected(adapter, episode))


def test_one_that_names_its_backbone_runs_on_that_one(tmp_path: Path, episode: Episode) -> None:
    folder = tmp_path / "backbone"
    save_backbone(
        folder,
        randomised(Conv4(width=5), seed=7),
        architecture="conv4",
        arguments={"width": 5},
        input_shape=(1, SIDE, SIDE),
        training={},
    )
    adapter = make_adapter(load_backbone(folder)[0]).replace(backbone_name=str(folder))
    adapter.save_pretrained(tmp_path / "adapter")
    shared = tiny_conv4()  # of another width: nothing of it would fit
    before = fingerprint(shared)
    predictor = adapted(Saved(str(tmp_path / "adapter")), shared, episode)
    assert torch.equal(predictor(episode.query_x), expected(adapter, episode))
    assert fingerprint(shared) == before


def test_one_that_names_none_does_not_run_on_other_weights(tmp_path: Path, episode: Episode) -> None:
    make_adapter(tiny_conv4()).save_pretrained(tmp_path)
    with pytest.raises(AdaptError, match=r"not those .* was made for"):
        adapted(Saved(str(tmp_path)), tiny_conv4(seed=1), episode)


def test_a_missing_adapter_is_a_clear_error(episode: Episode) -> None:
    with pytest.raises(AdaptError, match="'nowhere' is neither a folder nor a shipped artifact"):
        adapted(Saved("nowhere"), tiny_conv4(), episode)
