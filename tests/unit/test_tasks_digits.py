"""The handwritten digits: pools, scale, orientation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks import Digits, TaskError

EVERYTHING = np.arange(1797)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def test_pools_hold_every_scan_once(digits: Digits) -> None:
    assert digits.splits == ("support", "query")
    pools = [np.concatenate([*digits.classes(split).values()]) for split in digits.splits]
    assert np.array_equal(np.sort(np.concatenate(pools)), EVERYTHING)


def test_pools_are_stratified(digits: Digits) -> None:
    for name, pool in digits.classes("support").items():
        share = len(pool) / (len(pool) + len(digits.classes("query")[name]))
        assert share == pytest.approx(0.6, abs=0.004)


def test_pools_are_the_same_every_time(digits: Digits) -> None:
    assert Digits().digest() == digits.digest()
    assert Digits(size=16).classes("query")["3"].tolist() == digits.classes("query")["3"].tolist()


def test_class_names_are_the_labels(digits: Digits) -> None:
    from sklearn.datasets import load_digits

    target = load_digits().target
    for split in digits.splits:
        assert [*digits.classes(split)] == list("0123456789")
        assert all((target[pool] == int(name)).all() for name, pool in digits.classes(split).items())


def test_scans_are_scaled_and_framed(digits: Digits) -> None:
    x = digits.load(EVERYTHING)
    assert x.shape == (1797, *digits.shape) == (1797, 1, 32, 32)
    assert x.dtype == torch.float32
    assert x.min() == 0
    assert x.max() == 1
    frame = x.clone()
    frame[..., 2:-2, 2:-2] = 0
    assert not frame.any()
    assert x[..., 2, :].any()  # ink reaches the edge of the inner 28 x 28


@pytest.mark.parametrize("size", [8, 9, 28, 33, 64])
def test_any_size(size: int) -> None:
    assert Digits(size).load(np.array([0, 5])).shape == (2, 1, size, size)


def test_too_small_a_size_names_the_fix() -> None:
    with pytest.raises(TaskError, match=r"size=7 .* use size>=8"):
        Digits(7)


def test_card(digits: Digits) -> None:
    assert digits.name == "digits"
    assert digits.card.licence == "CC BY 4.0"
    assert digits.card.counts["support examples"] + digits.card.counts["query examples"] == 1797
    assert any("writer" in issue for issue in digits.card.known_issues)
