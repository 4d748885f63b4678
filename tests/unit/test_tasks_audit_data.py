"""What the audit finds in public data, as it was verified by hand."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks import GTSRB, ArraySource, Banking77, Omniglot, TextSource
from tasks.audit import Report, audit
from tests.audited import CARD, found

CSV = {"support": "train", "validation": "valid", "query": "test"}


def counts(report: Report, check: str) -> dict[str, int]:
    return {finding.what.split(":")[0]: finding.count for finding in found(report, check)}


def test_repeats_in_the_raw_files_of_banking77_which_the_source_leaves_out(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)  # equal texts are enough here, and quick
    texts: list[str] = []
    pools: dict[str, dict[str, list[int]]] = {}
    for split, name in CSV.items():
        with (data / "intents" / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                pools.setdefault(split, {}).setdefault(row["label"], []).append(len(texts))
                texts.append(row["text"])
    raw = audit(TextSource(CARD, texts, pools))
    assert counts(raw, "duplicates") == {
        "examples of split 'support' that repeat another of it": 4,
        "examples of split 'validation' that repeat another of it": 159,
        "examples of split 'query' that repeat another of it": 1,
        "examples of split 'query' that repeat one of split 'support'": 4,
        "examples of split 'query' that repeat one of split 'validation'": 3,
    }
    assert not found(audit(Banking77()), "duplicates")


@pytest.mark.slow
def test_frames_of_a_gtsrb_track_are_near_duplicates_across_pools_that_split_tracks(data: Path) -> None:
    signs = GTSRB()
    pools = {pool: signs.classes(f"test_{pool}") for pool in ("support", "query")}
    rows = np.concatenate([indices for classes in pools.values() for indices in classes.values()])
    x = signs.load(rows).numpy()
    place = {int(row): k for k, row in enumerate(rows)}
    by_track = {
        pool: {name: np.array([place[int(row)] for row in indices]) for name, indices in classes.items()}
        for pool, classes in pools.items()
    }
    rng = np.random.default_rng(0)
    by_frame: dict[str, dict[str, np.ndarray]] = {"support": {}, "query": {}}
    for name in by_track["support"]:
        mixed = rng.permutation(np.concatenate([by_track[pool][name] for pool in by_track]))
        by_frame["support"][name], by_frame["query"][name] = np.array_split(mixed, 2)
    card = replace(CARD, counts={"examples": len(x)})
    assert not found(audit(ArraySource(card, x, by_track)), "near duplicates")
    (leak,) = found(audit(ArraySource(card, x, by_frame)), "near duplicates")
    assert leak.count >= 20
    assert all(a.label == b.label for a, b in leak.examples)


@pytest.mark.slow
def test_no_drawing_of_omniglot_is_in_two_alphabets(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    report = audit(Omniglot())
    assert report.ok and report.examined == 32_460
    (repeat,) = found(report, "duplicates")  # the cell of one dot, drawn twice
    assert {place.label for place in repeat.examples[0]} == {"Braille/character01"}
    assert not found(report, "labels") and not found(report, "indices")
