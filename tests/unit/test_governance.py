"""What a run is accountable for: data, licences, audit, what had been seen before, frameworks."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

import adapt
from adapt.adapter import FewShotAdapter
from adapt.app.stages.governance import audited, governance_markdown, governance_tags, seen_by
from adapt.backbones import load_backbone
from adapt.compare import Comparison, MethodResult
from adapt.compare.governance import DEPLOYER, EU, NIST, frameworks
from adapt.compare.robustness import Robustness
from adapt.spaces import film
from tasks import ArraySource, Card, Digits, Distribution, Glyphs, Tasks


def glyphs(split: str) -> Distribution:
    return Distribution(Glyphs(max_classes=80), 2, 1, 1, support_split=split)


@pytest.mark.parametrize(
    ("tasks", "verdict"),
    [
        (glyphs("train"), "same split"),  # the adapter's own
        (glyphs("pretrain"), "same split"),  # the network's
        (glyphs("test"), "same data"),
        (Distribution(Digits(), 2, 1, 2, support_split="support", query_split="query"), "other data"),
    ],
)
def test_what_had_been_seen_before(tasks: Tasks, verdict: str) -> None:
    seen = seen_by(adapt.load("conv4_glyphs_film"), tasks)
    assert seen.verdict == verdict and len(seen.lines) == 2
    assert "the adapter: it learned from glyphs, split train" in seen.lines[1]


def test_where_nobody_wrote_down_what_was_learned_from_that_is_said() -> None:
    adapter = FewShotAdapter.of(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).eval(), film
    )
    seen = seen_by(adapter, glyphs("test"))
    assert seen.verdict == "not known" and "look for it in its own card" in seen.lines[0]


def damaged() -> Distribution:
    """A third of the examples are there twice, under another label."""
    x = np.random.default_rng(0).random((60, 1, 8, 8), np.float32)
    x[40:] = x[:20]
    card = Card("planted", "Noise.", "here", "CC0", "none", {"examples": 60}, (), "None.")
    members = {"train": {"a": np.arange(40), "b": np.arange(40, 60)}}
    return Distribution(ArraySource(card, x, members), 2, 1, 2, support_split="train")


def test_the_page_and_the_tags() -> None:
    tasks = damaged()
    reports, seen = audited(tasks), seen_by(adapt.load("conv4_glyphs_film"), tasks)
    assert "error" in governance_tags(reports, seen)["audit"]
    clean = audited(Distribution(Digits(), 2, 1, 2, support_split="support", query_split="query"))
    assert "error" not in governance_tags(clean, seen)["audit"]
    method = MethodResult(
        "head", "head", (0.5, 0.7), (1.0, 1.0), 1.0, None, robustness=Robustness((0.4, 0.2))
    )
    result = Comparison("it", {"source": "planted", "tasks": 2}, 0, "cpu", {"head": method})
    page = governance_markdown(result, reports, seen)
    assert "licence: CC0" in page and "audit: planted:" in page and "## What had been seen before" in page
    assert "| MEASURE 2.7 | security and resilience are evaluated | accuracy 30 on worse queries |" in page
    silent = replace(result, methods={"head": replace(method, robustness=None)})
    assert "resilience are evaluated | not measured here |" in governance_markdown(silent, reports, seen)


def test_nothing_is_claimed_that_is_not_said() -> None:
    page = frameworks({})
    for name, asks, key in NIST:
        if key in ("score", "tests", "groups", "privacy", "robustness", "energy", "calibration", "limits"):
            assert f"| {name} | {asks} | not measured here |" in page
    assert page.count(DEPLOYER) == sum(key in ("purpose", "oversight", "risks") for _, key in EU)
    assert "| 97 %" in frameworks({"score": "97 %"})


def test_the_network_of_another_library_is_not_known_to_have_seen_nothing() -> None:
    backbone, _ = load_backbone("conv4_glyphs")
    adapter = FewShotAdapter.of(backbone, film)
    assert seen_by(adapter, glyphs("pretrain")).verdict == "same split"
