"""Noticing that examples are of another kind."""

import numpy as np
import pytest

from adapt.drift import Martingale, Monitor, martingale
from adapt.drift.martingale import BETS, JUMP
from adapt.errors import AdaptError


def by_definition(usual: list[float], stream: list[float], seed: int) -> list[float]:
    """log10 S_t, by the lines of the module's formula, without logarithms on the way."""
    generator, seen, capital, found = np.random.default_rng(seed), [*usual], np.zeros(len(BETS)), []
    for t, score in enumerate(stream, 1):
        seen.append(score)
        p = (sum(s > score for s in seen) + generator.random() * sum(s == score for s in seen)) / len(seen)
        started = 1 / (t * (t + 1))
        placed = (1 - JUMP) * capital + (JUMP * capital.sum() + started) / len(BETS)
        capital = placed * BETS * p ** (BETS - 1)
        found.append(float(np.log10(1 / (t + 1) + capital.sum())))
    return found


def test_evidence_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    usual = [*rng.integers(0, 9, 30).astype(float)]  # with many equals
    stream = [*rng.integers(0, 9, 40).astype(float), *rng.integers(5, 14, 20).astype(float), np.inf]
    evidence = Martingale(usual, seed=3)
    assert [evidence.see(score) for score in stream] == pytest.approx(by_definition(usual, stream, 3))


def test_false_alarms_are_no_more_than_promised_however_long_one_looks() -> None:
    rng = np.random.default_rng(1)
    false = 0
    for number in range(100):
        monitor = Monitor({"a": rng.normal(size=50), "b": rng.random(50)}, false_alarms=0.2, seed=number)
        for a, b in zip(rng.normal(size=500), rng.random(500), strict=True):
            monitor.see({"a": a, "b": b})
        false += monitor.alarm is not None
    assert false <= 20 + 2 * 4  # of 100 streams, with two standard deviations


def test_a_change_that_comes_late_is_noticed() -> None:
    rng = np.random.default_rng(2)
    monitor = Monitor({"far": rng.normal(size=50)})
    for score in rng.normal(size=5000):
        monitor.see({"far": score})
    assert monitor.alarm is None
    for score in rng.normal(3, size=30):
        monitor.see({"far": score})
    assert monitor.alarm is not None and 5000 < monitor.alarm.example < 5030


def test_signals_that_an_example_does_not_have_are_left_out() -> None:
    monitor = Monitor({"surprise": [0.0, 1.0], "far": [0.0, 1.0], "empty": []})
    monitor.see({"far": 0.5, "unknown": 1.0})
    assert monitor.seen == 1 and monitor.evidence["surprise"] == 0 != monitor.evidence["far"]
    assert "empty" not in monitor.evidence


def test_mistakes_say_what_to_do() -> None:
    with pytest.raises(AdaptError, match="nothing is known of usual examples"):
        Monitor({"far": []})
    with pytest.raises(AdaptError, match="false_alarms"):
        Monitor({"far": [1.0]}, false_alarms=0.0)
    with pytest.raises(AdaptError, match="no number"):
        Martingale([1.0]).see(float("nan"))


def test_memory_stays_flat_and_false_alarms_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(martingale, "MOST", 200)
    rng = np.random.default_rng(5)
    false = 0
    for number in range(40):
        evidence = Martingale(rng.normal(size=100), seed=number)
        false += max(evidence.see(score) for score in rng.normal(size=4000)) >= np.log10(1 / 0.05)
        assert len(evidence._seen) == 200
    assert false <= 5
