"""Corrupted images and wrong labels: formulas, what is left alone, and purity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks import Corrupted, Corruption, Digits, Distribution, FunctionTasks, NoisyLabels, Sinusoid, TaskError
from tests.unit.test_tasks_distribution import same, source
from tests.unit.test_tasks_sizes import counts

GENERATOR = torch.Generator()
IMAGES = torch.rand(3, 2, 40, 30, generator=torch.Generator().manual_seed(0))
TASKS = Distribution(Digits(size=16), 3, 2, 4, support_split="support", query_split="query", outside=2)


@pytest.mark.parametrize("kind", ["gaussian_noise", "gaussian_blur", "contrast", "pixelate"])
def test_more_severe_is_further_away(kind: str) -> None:
    smooth = torch.from_numpy(scipy.ndimage.gaussian_filter(IMAGES.numpy(), (0, 0, 2, 2)))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    away = []
    for severity in range(1, 6):
        before = smooth.clone()
        bad = Corruption(kind, severity)(smooth, GENERATOR.manual_seed(0))
        assert bad.shape == smooth.shape and bad.dtype == smooth.dtype
        assert bool(((bad >= 0) & (bad <= 1)).all())
        assert torch.equal(smooth, before), "changed its input"
        away.append(float((bad - smooth).square().mean()))
    assert min(away) > 0 and away[4] == max(away)
    if kind != "pixelate":  # where cells and pixels meet, half of each side is kinder than 0.6
        assert away == sorted(away)


def test_noise_has_its_standard_deviation() -> None:
    grey = torch.full((4, 1, 64, 64), 0.5)
    bad = Corruption("gaussian_noise", 1)(grey, GENERATOR.manual_seed(0))
    assert float(bad.std()) == pytest.approx(0.08, rel=0.02)
    assert float(bad.mean()) == pytest.approx(0.5, abs=0.005)
    again = Corruption("gaussian_noise", 1)(grey, GENERATOR.manual_seed(0))
    assert torch.equal(bad, again)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blur_is_scipys(severity: int) -> None:
    big = torch.rand(2, 3, 100, 60, generator=torch.Generator().manual_seed(1))
    sigma = {1: 1, 3: 3, 5: 6}[severity] / 224 * 100
    reference = scipy.ndimage.gaussian_filter(
        big.double().numpy(), (0, 0, sigma, sigma), mode="nearest", radius=int(np.ceil(4 * sigma))
    )
    found = Corruption("gaussian_blur", severity)(big.double(), GENERATOR)
    torch.testing.assert_close(found, torch.from_numpy(reference))


def test_contrast_keeps_the_mean_of_each_channel() -> None:
    bad = Corruption("contrast", 2)(IMAGES, GENERATOR)
    torch.testing.assert_close(bad.mean((2, 3)), IMAGES.mean((2, 3)))
    torch.testing.assert_close(bad.std((2, 3)), 0.3 * IMAGES.std((2, 3)))


def test_pixelate_is_pillows_where_cells_are_whole_pixels() -> None:
    """Box filter down, then up, as the code of the paper; Pillow rounds to bytes twice."""
    square = IMAGES[0, :1, :32, :20]
    picture = Image.fromarray((square[0] * 255).round().byte().numpy())
    box = Image.Resampling.BOX
    expected = np.asarray(picture.resize((5, 8), box).resize((20, 32), box)).astype(np.float32)
    found = Corruption("pixelate", 5)(square[None], GENERATOR)[0, 0]  # 0.25 of each side
    assert float((255 * found - torch.from_numpy(expected)).abs().max()) <= 1.5
    assert len(found.unique()) == 40


@pytest.mark.parametrize(
    ("part", "changed"), [("query", (False, True)), ("support", (True, False)), ("both", (True, True))]
)
def test_only_what_is_asked_for_is_corrupted(part: str, changed: tuple[bool, bool]) -> None:
    bad = Corrupted(TASKS, Corruption("gaussian_noise"), part)
    clean, worse = TASKS.episode(3), bad.episode(3)
    pairs = [(clean.support_x, worse.support_x), (clean.query_x, worse.query_x)]
    assert tuple(not torch.equal(a, b) for a, b in pairs) == changed
    assert torch.equal(clean.support_y, worse.support_y) and torch.equal(clean.query_y, worse.query_y)
    assert clean.meta.classes == worse.meta.classes
    assert same(worse, bad.episode(3)) and same(worse, next(bad.episodes(3, 4)))


def test_every_episode_has_noise_of_its_own_and_so_has_every_wrapper() -> None:
    grey = Distribution(source({"train": [9] * 4}), 2, 2, 2, transform=lambda x, g: 0 * x + 0.5)
    noise = Corruption("gaussian_noise")
    once = Corrupted(grey, noise)
    first = once.episode(0).query_x
    assert not torch.equal(first, once.episode(1).query_x)
    twice = Corrupted(once, noise).episode(0).query_x
    assert not torch.allclose(twice - first, first - 0.5)
    assert (once.shots, once.ways, once.queries, once.source, once.support_split) == (
        2, 2, 2, grey.source, "train",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Corruption("rain"), "corruption.kind='rain' is unknown: use one of gaussian_noise"),
        (lambda: Corruption("contrast", 6), "corruption.severity=6 is too large"),
        (lambda: Corrupted(TASKS, Corruption("contrast"), "queries"), "use one of query, support, both"),
        (
            lambda: Corruption("contrast")(torch.zeros(3, 4), GENERATOR),
            "needs images .* do not use Corrupted",
        ),
        (lambda: NoisyLabels(TASKS, 1.5), "task.share=1.5 is too large"),
        (lambda: NoisyLabels(FunctionTasks(Sinusoid()), 0.1), "sinusoid has numbers, no labels"),
        (
            lambda: NoisyLabels(Distribution(source({"train": [9] * 4}), 2, 1, 2), 0.1),
            r"task.share=0.1 of tasks with task.base.shots=1: .* so use task.base.shots>=2",
        ),
    ],
)
def test_mistakes_are_named(make: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make()


# ---------------------------------------------------------------------------------------- label noise


@settings(max_examples=50, deadline=None)
@given(
    ways=st.integers(2, 5),
    shots=st.integers(2, 6),
    fraction=st.floats(0, 1),
    index=st.integers(0, 2**40),
)
def test_label_noise_replaces_the_share_it_should(ways: int, shots: int, fraction: float, index: int) -> None:
    clean = Distribution(source({"train": [9] * 5}), ways, shots, 3)
    noisy = NoisyLabels(clean, fraction)
    before, after = clean.episode(index), noisy.episode(index)
    n, meta = ways * shots, after.meta
    assert meta.clean_y is not None
    assert int((meta.clean_y != after.support_y).sum()) == min(round(fraction * n), n - ways)
    counts(after.support_y)  # class-major, and no class is lost
    # Each row is still what meta says: its example, and the class that it really is of.
    assert after.support_x[:, 0, 0, 0].tolist() == meta.support_indices.tolist()
    shown = [f"c{int(label)}" for label in after.support_x[:, 0, 0, 1]]
    assert shown == [meta.classes[y] for y in meta.clean_y.tolist()]
    assert sorted(meta.support_indices) == sorted(before.meta.support_indices)
    kept = meta.clean_y == after.support_y
    assert {*meta.clean_y[kept].tolist()} == {*range(ways)}, "a class lost its last right example"
    assert torch.equal(before.query_x, after.query_x) and torch.equal(before.query_y, after.query_y)
    assert same(after, noisy.episode(index))


def test_wrong_labels_are_spread_evenly() -> None:
    noisy = NoisyLabels(Distribution(source({"train": [9] * 4}), 4, 5, 2), 0.4)
    table = np.zeros((4, 4))
    for episode in noisy.episodes(0, 300):
        assert episode.meta.clean_y is not None
        np.add.at(table, (episode.meta.clean_y.numpy(), episode.support_y.numpy()), 1)
    assert table[~np.eye(4, dtype=bool)].sum() == 300 * 8
    assert scipy.stats.chisquare(table[~np.eye(4, dtype=bool)]).pvalue > 1e-3
