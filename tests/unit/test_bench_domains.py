"""The domains of the benchmark of inner loops: they build, share nothing that they must not, and repeat."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt import AdaptError
from adapt.backbones import fingerprint
from bench.lib import domain_weights as weights
from bench.lib import domains

NAMES = ("conv4", "resnet12", "vit_tiny", "minilm", "mobilenetv2")


def skip_unless_available(name: str, quick: bool) -> None:
    if reason := domains.available(name, quick=quick):
        pytest.skip(reason)


def test_names() -> None:
    assert domains.DOMAINS == NAMES
    with pytest.raises(AdaptError, match="choose conv4"):
        domains.domain("conv5")


@pytest.mark.parametrize("name", NAMES)
def test_quick_version(name: str) -> None:
    skip_unless_available(name, quick=True)
    before = torch.random.get_rng_state()
    chosen = domains.domain(name, quick=True)
    assert torch.equal(torch.random.get_rng_state(), before), "it disturbs the caller's random numbers"
    assert not any(module.training for module in chosen.backbone.modules())
    parameters = dict(chosen.backbone.named_parameters())
    assert not any(value.requires_grad for value in parameters.values())
    assert set(chosen.space.shapes) <= set(parameters)

    splits = (chosen.train, chosen.validation, chosen.test)
    for one, other in combinations(splits, 2):
        assert not set(one.class_names) & set(other.class_names)
    for tasks in splits:
        episode = tasks.episode(0)
        with torch.no_grad():
            features = chosen.backbone(episode.support_x)
        assert features.shape[0] == tasks.ways * tasks.shots and features.ndim == 2
        assert features.isfinite().all()

    again = domains.domain(name, quick=True, placement="everywhere")
    assert fingerprint(again.backbone) == fingerprint(chosen.backbone)
    assert torch.equal(again.test.episode(3).query_x, chosen.test.episode(3).query_x)
    if name == "conv4":
        assert again.space.shapes == chosen.space.shapes
    else:
        assert set(chosen.space.shapes) < set(again.space.shapes)


def test_centring_is_folded_into_the_last_norm() -> None:
    norm, batch_norm = torch.nn.LayerNorm(6), torch.nn.BatchNorm1d(6)
    batch_norm(3 + 2 * torch.randn(40, 6))  # statistics
    x = torch.randn(4, 6)
    expected = batch_norm.eval()(norm(x))
    weights.fold(batch_norm, norm)
    assert torch.allclose(norm(x), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet12", "vit_tiny"])
def test_weights_are_made_and_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_available(name, quick=True)
    glyphs, tasks = weights.glyphs, weights.TASKS[name]
    monkeypatch.setattr(weights, "KEPT", tmp_path)
    monkeypatch.setattr(weights, "glyphs", lambda experiment, quick: glyphs(experiment, True))
    monkeypatch.setitem(weights.RECIPES, name, weights.QUICK_RECIPES[name])
    monkeypatch.setitem(weights.TASKS, name, lambda quick: tasks(True))
    with pytest.raises(AdaptError, match=f"--prepare {name}"):
        domains.domain(name)
    assert weights.prepare(name).is_relative_to(tmp_path)
    made = domains.domain(name)
    assert fingerprint(made.backbone) == fingerprint(domains.domain(name, quick=True).backbone)
    other = replace(
        weights.QUICK_RECIPES[name], arguments={**weights.QUICK_RECIPES[name].arguments, "width": 6}
    )
    monkeypatch.setitem(weights.RECIPES, name, other)
    with pytest.raises(AdaptError, match="another recipe"):
        domains.domain(name)


@pytest.mark.parametrize("name", ["minilm", "mobilenetv2"])
def test_missing_data_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_available(name, quick=True)
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path))
    monkeypatch.setitem(domains.PACKAGES, name, ())
    reason = domains.available(name)
    assert str(tmp_path) in reason and "ADAPT_DATA" in reason
    with pytest.raises(AdaptError, match="does not exist"):
        domains.domain(name)


@pytest.mark.slow
def test_intents_share_no_text() -> None:
    skip_unless_available("minilm", quick=False)
    train, validation, test = domains.TASKS["minilm"](False)
    names = [set(tasks.class_names) for tasks in (train, validation, test)]
    assert [len(classes) for classes in names] == [89, 30, 77]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    seen = [
        {
            tuple(row)
            for row in test.source.load(np.concatenate([*test.source.classes(pool).values()])).tolist()
        }
        for pool in ("support", "query")
    ]
    assert len(seen[0]) > 8000 and len(seen[1]) > 3000
    assert not seen[0] & seen[1]


@pytest.mark.slow
def test_signs_share_no_track() -> None:
    """Frames of a track are near duplicates of each other."""
    skip_unless_available("mobilenetv2", quick=False)
    with zipfile.ZipFile(domains.data_file("gtsrb/gtsrb_small.zip")) as archive:
        paths = sorted(name for name in archive.namelist() if name.endswith(".png"))
    track = np.array([path.rsplit("_", 1)[0] for path in paths])  # gtsrb/class/track
    splits = domains.TASKS["mobilenetv2"](False)
    assert [len(tasks.class_names) for tasks in splits] == [18, 11, 14]
    for one, other in combinations(splits, 2):
        assert not set(one.class_names) & set(other.class_names)
    for tasks in splits:
        supports, queries = (tasks.source.classes(pool) for pool in (tasks.support_split, tasks.query_split))
        for label in tasks.class_names:
            for_support, for_query = set(track[supports[label]]), set(track[queries[label]])
            assert {name.split("/")[1] for name in for_support | for_query} == {label}
            assert not for_support & for_query and for_support and for_query
