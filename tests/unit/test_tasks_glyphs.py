"""Glyphs: no digits, no twins, disjoint splits, a cache that heals."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import Glyphs, TaskError, _cache
from tasks.images import _characters, _fonts, _lookalikes, glyphs

# Depict a number in some script, contain one, or are drawn like one. Each kind that the fonts hold is here.
DIGITS_IN_DISGUISE = (
    "0123456789½²₂①⒈⑴❶⓪٣५๓፫߃߇Ⅳⅷↁ〇一二㎡㋀⑳"  # Nd, Nl, No, and letters worth a number
    "🂢🃁🁣🀀⚀⚅♳♹♵∛∜⨧⏨%‰‱"  # cards, dominoes, mahjong, dice, resin codes, roots, composed of digits
    "ƻƧƨƼƽƄƅƷǮȜʒƐЗзЭѮҘЧчӴȢȣӠ"  # letters made from digits
    "OОΟo0оοօՕ◯QIl|ⅠǀІӀ∣│１Zbgqs𝐎𝟎𝖮𝗢"  # shapes
)
LETTERS = "AKMWXфжшщψξλאשע∑√≈→♞☂"


@pytest.fixture(scope="module")
def small() -> Glyphs:
    return Glyphs(max_classes=60)


@pytest.fixture(scope="module")
def fonts() -> tuple[_fonts.Font, ...]:
    return _fonts.load_fonts()


def drawn(fonts: tuple[_fonts.Font, ...], characters: str) -> str:
    """Those of the characters that become classes when drawn in this order."""
    possible = set(glyphs._candidates(fonts))
    candidates = [ord(c) for c in characters if ord(c) in possible]
    kept = glyphs._draw(fonts, np.array(candidates, dtype=np.int64), 32, None, None)["code_points"]
    return "".join(c for c in characters if ord(c) in kept)


def test_digits_in_disguise_are_left_out(fonts: tuple[_fonts.Font, ...]) -> None:
    assert drawn(fonts, "A" + DIGITS_IN_DISGUISE) == "A"


def test_other_characters_are_kept(fonts: tuple[_fonts.Font, ...]) -> None:
    assert drawn(fonts, LETTERS) == LETTERS


def test_every_kind_of_number_is_ruled_out_before_drawing(fonts: tuple[_fonts.Font, ...]) -> None:
    for font in fonts:
        for code in font.code_points:
            char = chr(code)
            if unicodedata.category(char)[0] == "N" or unicodedata.numeric(char, None) is not None:
                assert _characters.is_numeric(code), unicodedata.name(char)


def test_what_looks_alike_is_one_class(fonts: tuple[_fonts.Font, ...]) -> None:
    twins = "AΑАᎪꓮ" + "MΜМᎷ" + "·•∙⋅." + "µμ" + "ΩΩ"  # one shape per group
    kept = drawn(fonts, twins)
    assert kept.startswith("AM")
    assert len(kept) <= 5


def test_restyled_letters_are_not_classes_of_their_own(fonts: tuple[_fonts.Font, ...]) -> None:
    assert drawn(fonts, "AK𝐀𝐊𝗔𝗞𝑲ᵃᴷ𝕶") == "AK𝕶"


def test_twin_filter_keeps_the_first_within_and_across_calls() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (2, 32, 32), dtype=np.uint8) * (rng.random((2, 32, 32)) < 0.2) for _ in "ab")
    a, b = a.astype(np.uint8), b.astype(np.uint8)
    twins = _lookalikes.TwinFilter()
    assert twins.keep([]) == []
    assert twins.keep([a, a[::-1].copy(), b]) == [True, False, True]  # a twin of the second rendering, too
    assert twins.keep([b, a]) == [False, False]


def test_unassigned_private_combining_and_blank_are_no_candidates() -> None:
    for code in (0x20, 0xA0, 0x301, 0xE000, 0x378, 0xAD, 0x7F, 0x200B, 0x20DD):
        assert not _characters.is_candidate(code)


def test_splits_are_disjoint_and_complete(small: Glyphs) -> None:
    assert small.splits == ("pretrain", "train", "validation", "test")
    names = [name for split in small.splits for name in small.classes(split)]
    assert len(names) == len(set(names)) == 60
    assert [len(small.classes(split)) for split in small.splits] == [36, 12, 6, 6]
    indices = np.concatenate([i for split in small.splits for i in small.classes(split).values()])
    assert np.array_equal(np.sort(indices), np.arange(small.card.counts["examples"]))


def test_classes_have_at_least_two_different_renderings(small: Glyphs) -> None:
    for split in small.splits:
        for indices in small.classes(split).values():
            assert len(torch.unique(small.load(indices), dim=0)) == len(indices) >= 2


def test_ink_fills_a_centred_box(small: Glyphs) -> None:
    x = small.load(np.arange(small.card.counts["examples"]))[:, 0]
    assert small.shape == (1, 32, 32)
    assert x.min() == 0
    assert x.max() == 1
    rows, columns = x.amax(2) > 0, x.amax(1) > 0
    boxes = []
    for ink in (rows, columns):
        first, last = ink.int().argmax(1), 31 - ink.flip(1).int().argmax(1)
        assert (first + last - 31).abs().max() <= 3  # centred, up to rounding
        boxes.append(last - first + 1)
    longest = torch.maximum(*boxes)
    assert longest.max() == 26
    assert longest.min() >= 24  # thin ends may round to black


def test_seed_decides_and_repeats(small: Glyphs) -> None:
    assert Glyphs(max_classes=60).digest() == small.digest()
    assert Glyphs(max_classes=60, seed=1).digest() != small.digest()


def test_names_say_the_code_point(small: Glyphs) -> None:
    for name in small.classes("pretrain"):
        code, _, unicode_name = name.partition(" ")
        assert unicodedata.name(chr(int(code.removeprefix("U+"), 16))) == unicode_name


def test_progress_sees_the_characters(small: Glyphs) -> None:
    seen: list[int] = []

    def watch(codes: Iterable[int]) -> Iterator[int]:
        for code in codes:
            seen.append(code)
            yield code

    assert Glyphs(max_classes=60, progress=watch).digest() == small.digest()
    assert len(seen) >= 60


def test_errors_name_the_fix() -> None:
    with pytest.raises(TaskError, match=r"size=4 .* use size>=8"):
        Glyphs(size=4)
    with pytest.raises(TaskError, match=r"max_classes=5 .* use max_classes>=20"):
        Glyphs(max_classes=5)


def test_cache_is_read_once_written_and_heals(tmp_path: Path) -> None:
    made = 0

    def make() -> dict[str, np.ndarray]:
        nonlocal made
        made += 1
        return {"a": np.arange(1000)}

    path = tmp_path / "sub" / "x.npz"
    for _ in range(2):
        assert np.array_equal(_cache.cached_arrays(path, make)["a"], np.arange(1000))
    assert made == 1
    whole = path.read_bytes()
    for damaged in (b"", b"no zip at all", whole[: len(whole) // 2], whole[:60] + b"\0" * 40 + whole[100:]):
        path.write_bytes(damaged)
        assert np.array_equal(_cache.cached_arrays(path, make)["a"], np.arange(1000))
        assert path.read_bytes()[:2] == b"PK"
    assert made == 5
    assert [*path.parent.iterdir()] == [path]  # no partial files left behind


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arrays = _cache.cached_arrays(tmp_path / "file" / "x.npz", lambda: {"a": np.zeros(2)})
    assert arrays["a"].shape == (2,)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path))
    assert _cache.cache_folder() == tmp_path
    monkeypatch.delenv("ADAPT_DATA")
    assert _cache.cache_folder() == Path.home() / ".cache" / "adapt"


@pytest.mark.slow
def test_the_full_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path))
    full = Glyphs()
    assert full.card.counts["classes"] > 3000
    codes = {int(n.split()[0][2:], 16) for split in full.splits for n in full.classes(split)}
    assert not codes & {ord(c) for c in DIGITS_IN_DISGUISE}

    fonts = _fonts.load_fonts()
    digits = np.concatenate([glyphs._renderings(fonts, ord(d), 32) for d in "0123456789"])
    images = (full.load(np.arange(full.card.counts["examples"]))[:, 0] * 255).round().byte().numpy()
    assert _lookalikes.DigitFilter(digits).similarity(images).max() <= _lookalikes.DIGIT_THRESHOLD + 1e-6
    assert Glyphs().digest() == full.digest()  # from the cache
