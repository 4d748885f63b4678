"""Near duplicates: planted ones are found, others are left alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tasks import ArraySource, TextSource
from tasks.audit import audit
from tasks.audit.contents import normalised
from tests.audited import CARD, POOLS, found, noise, pictures, places, the


def test_a_brighter_noisier_image_is_a_near_duplicate_and_another_one_is_not() -> None:
    x = pictures()
    changed = x[7].astype(float) * 0.8 + 20 + np.random.default_rng(1).normal(0, 4, x[7].shape)
    x[50] = changed.clip(0, 255).round().astype(np.uint8)
    report = audit(ArraySource(CARD, x, POOLS))
    near = the(report, "near duplicates")
    assert report.kind == "images"
    assert (near.severity, near.count, places(near)) == ("warning", 1, [(7, 50)])
    assert not found(report, "duplicates")
    x[50] = x[7]
    report = audit(ArraySource(CARD, x, POOLS))
    assert not found(report, "near duplicates") and the(report, "duplicates").count == 1


def test_images_of_one_colour_are_like_nothing() -> None:
    x = pictures()
    x[3], x[50], x[51] = 10, 200, 201
    assert not found(audit(ArraySource(CARD, x, POOLS)), "near duplicates")


def sentences(n: int = 80, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    letters = np.array([*"abcdefghijklmnopqrstuvwxyz"])
    return [" ".join("".join(rng.choice(letters, 6)) for _ in range(9)) for _ in range(n)]


def test_texts_are_compared_without_case_and_spacing_and_nearly_equal_ones_are_found() -> None:
    texts = sentences()
    texts[45] = f"  {texts[3].upper().replace(' ', '   ')}\n"
    texts[46] = texts[4][:-1] + "é"
    texts[47] = texts[5][:27] + texts[6][27:]  # half of one, half of another
    report = audit(
        TextSource(CARD, texts, {s: {c: r.tolist() for c, r in b.items()} for s, b in POOLS.items()})
    )
    assert report.kind == "texts"
    assert places(the(report, "duplicates")) == [(3, 45)]
    assert places(the(report, "near duplicates")) == [(4, 46)]


def test_near_texts_are_those_of_the_exact_jaccard_index() -> None:
    """Of sentences with one or two letters replaced, all above the threshold are found but for a few."""
    texts, rng = sentences(200), np.random.default_rng(3)
    for k in range(100):
        letters = [*texts[k]]
        for place in rng.choice(60, rng.integers(1, 3), replace=False):
            letters[place] = "#"
        texts[100 + k] = "".join(letters)
    pools = {
        "support": {"a": range(50), "b": range(50, 100)},
        "query": {"a": range(100, 150), "b": range(150, 200)},
    }

    def pieces(text: str) -> set[str]:
        return {text[k : k + 4] for k in range(len(text) - 3)}

    def jaccard(k: int) -> float:
        a, b = pieces(texts[k]), pieces(texts[100 + k])
        return len(a & b) / len(a | b)

    above = sum(jaccard(k) >= 0.8 for k in range(100))
    assert 20 < above < 80
    assert 0.9 * above <= the(audit(TextSource(CARD, texts, pools)), "near duplicates").count <= above


def test_normalised() -> None:
    assert normalised("  Straße\t\nＡＢＣ ") == "strasse abc"
    assert normalised("a b") != normalised("ab")


def test_rows_that_differ_by_less_than_rounding_are_near_duplicates() -> None:
    x = np.round(noise(), 1) * np.array([1, 10, 100, 1e3, 1e-3, 1, 1], np.float32)  # scales do not matter
    x[60] = x[0] * (1 + 1e-6)
    near = the(audit(ArraySource(CARD, x.astype(np.float32), POOLS)), "near duplicates")
    assert places(near) == [(0, 60)]


def test_token_ids_are_equal_or_not() -> None:
    x = np.arange(80 * 7).reshape(80, 7)
    x[60] = x[0]
    report = audit(ArraySource(CARD, x, POOLS))
    assert the(report, "duplicates").count == 1 and not found(report, "near duplicates")
    assert len(report.method) == 1


def test_without_the_library_the_report_says_what_was_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    finding = the(audit(ArraySource(CARD, pictures(), POOLS)), "near duplicates")
    assert finding.severity == "warning" and "pip install imagehash" in finding.what
