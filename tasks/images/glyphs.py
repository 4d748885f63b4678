"""Thousands of classes without a download: characters of the fonts that matplotlib ships, minus digits."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks import _cache
from tasks._settings import SEED, check_setting, least, optional
from tasks.images import _characters, _fonts, _lookalikes
from tasks.source import ArraySource, Card, TaskError

__all__ = ["Glyphs"]

SPLITS = {"pretrain": 0.6, "train": 0.2, "validation": 0.1, "test": 0.1}
BLOCK = 256  # classes judged for twins at a time: large enough for matrix products to pay

Progress = Callable[[Iterable[int]], Iterable[int]]


class Glyphs(ArraySource):
    """Characters rendered in up to 16 fonts, white ink on black, as [1, size, size] in [0, 1].

    One class per code point, one image per font that has it (at least two), ink scaled to a fixed box. Left
    out is whatever depicts a digit in any script, whatever looks like one of 0-9 in any of the fonts, and of
    characters that look alike (Latin and Cyrillic A) all but the first. Splits are disjoint in classes:
    pretrain, train, validation and test hold 60, 20, 10 and 10 % of them.

    The full set takes some 15 s to render, once: it is then kept, see `tasks._cache`.

    Args:
        size: side of an image in pixels, at least 8.
        max_classes: stop at this many classes, drawn at random: a small version for tests, never cached.
        seed: decides the splits, and which classes a small version has.
        progress: wraps the characters to render, as `tqdm` does.

    Raises:
        TaskError: if `size` or `max_classes` is too small.

    Example:
        >>> glyphs = Glyphs(max_classes=20)
        >>> glyphs.shape, len(glyphs.classes("pretrain"))
        ((1, 32, 32), 12)
    """

    def __init__(
        self,
        size: int = 32,
        max_classes: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        check_setting("glyphs: size", size, least(8, most=1024))
        check_setting("glyphs: max_classes", max_classes, optional(least(20)))  # for four splits
        check_setting("glyphs: seed", seed, SEED)
        try:
            fonts = _fonts.load_fonts()
        except ImportError as error:
            raise TaskError("glyphs need fonts and a rasteriser: pip install matplotlib pillow") from error
        rng = np.random.default_rng(seed)
        candidates = np.array(_candidates(fonts))
        if max_classes is None:
            path = _cache.cache_folder() / f"glyphs-{size}-{_key(fonts, size)}.npz"
            drawn = _cache.cached_arrays(path, lambda: _draw(fonts, candidates, size, None, progress))
        else:
            drawn = _draw(fonts, rng.permutation(candidates), size, max_classes, progress)
        images, owner = drawn["images"], drawn["code_points"]

        present = np.unique(owner)
        rows = dict(zip(present.tolist(), _rows(owner, present), strict=True))
        members: dict[str, dict[str, np.ndarray]] = {}
        shuffled = rng.permutation(present)
        cuts = np.round(np.cumsum([*SPLITS.values()])[:-1] * len(present)).astype(int)
        for split, part in zip(SPLITS, np.split(shuffled, cuts), strict=True):
            members[split] = {_name(code): rows[code] for code in sorted(part.tolist())}
        counts = {f"{split} classes": len(classes) for split, classes in members.items()}
        card = _card({"examples": len(images), "classes": len(present), "fonts": len(fonts), **counts})
        super().__init__(card, images, members)


def _candidates(fonts: Sequence[_fonts.Font]) -> list[int]:
    """Code points, ascending, that at least two fonts have and that Unicode does not rule out."""
    everywhere = sorted(frozenset().union(*(font.code_points for font in fonts)))
    return [
        code
        for code in everywhere
        if _characters.is_candidate(code)
        and not _characters.is_numeric(code)
        and not _characters.is_restyled(code)
        and sum(code in font.code_points for font in fonts) >= 2
    ]


def _draw(
    fonts: Sequence[_fonts.Font],
    candidates: np.ndarray,
    size: int,
    max_classes: int | None,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Render candidates until there are `max_classes`, leaving out lookalikes.

    Returns:
        images: uint8 [n, 1, size, size], sorted by code point, then in the order of `fonts`.
        code_points: int64 [n], which character each image shows.
    """
    digits = _lookalikes.DigitFilter(np.concatenate([_renderings(fonts, ord(d), size) for d in "0123456789"]))
    twins = _lookalikes.TwinFilter()
    kept: dict[int, np.ndarray] = {}
    waiting: dict[int, np.ndarray] = {}

    def judge_waiting() -> None:
        for keep in (digits.keep, twins.keep):
            verdicts = keep([*waiting.values()])
            for code, verdict in zip([*waiting], verdicts, strict=True):
                if not verdict:
                    del waiting[code]
        kept.update(waiting)
        waiting.clear()

    # Small versions are judged in small blocks: what is rendered beyond max_classes is thrown away.
    block = BLOCK if max_classes is None else min(BLOCK, max(max_classes // 2, 16))
    codes: Iterable[int] = candidates.tolist()
    for code in codes if progress is None else progress(codes):
        images = _renderings(fonts, code, size)
        if len(images) >= 2:
            waiting[code] = images
        if len(waiting) == block:
            judge_waiting()
            if max_classes is not None and len(kept) >= max_classes:
                break
    judge_waiting()

    chosen = sorted([*kept][:max_classes])
    return {
        "images": np.concatenate([kept[code] for code in chosen])[:, None],
        "code_points": np.repeat(np.array(chosen, dtype=np.int64), [len(kept[code]) for code in chosen]),
    }


def _renderings(fonts: Sequence[_fonts.Font], code_point: int, size: int) -> np.ndarray:
    """A character in every font that draws it, without exact repeats: uint8 [m, size, size], m may be 0."""
    images: dict[bytes, np.ndarray] = {}
    for font in fonts:
        if code_point in font.code_points:
            image = font.render(code_point, size)
            if image is not None:
                images.setdefault(image.tobytes(), image)  # oblique symbols often repeat the upright ones
    return np.stack([*images.values()]) if images else np.empty((0, size, size), np.uint8)


def _rows(owner: np.ndarray, present: np.ndarray) -> list[np.ndarray]:
    """Indices of the images of each code point; owner [n] is sorted, present [c] are its unique values."""
    return np.split(np.arange(len(owner)), np.searchsorted(owner, present)[1:])


def _name(code_point: int) -> str:
    return f"U+{code_point:04X} {unicodedata.name(chr(code_point), '')}".rstrip()


def _key(fonts: Sequence[_fonts.Font], size: int) -> str:
    """Changes with anything that may change a pixel or a class: fonts, rasteriser, Unicode, this code."""
    import PIL
    from PIL import features

    code: list[Any] = [module.__file__ for module in (_fonts, _characters, _lookalikes)] + [__file__]
    parts = [str(size), PIL.__version__, str(features.version("freetype2")), unicodedata.unidata_version]
    parts += [font.sha256 for font in fonts]
    parts += [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in code]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _card(counts: dict[str, int]) -> Card:
    return Card(
        name="glyphs",
        description="Characters of the DejaVu and STIX fonts, digits left out, white ink on black, centred.",
        origin="Rendered by Pillow from the font files that matplotlib ships (DejaVu and STIX).",
        licence="Bitstream Vera and Arev licences, DejaVu changes in the public domain; STIX Font License",
        terms="Free to use; font files keep their notices, are not sold alone, and are renamed if changed.",
        counts=counts,
        known_issues=(
            "Renderings of a class in related fonts (a bold and its oblique) are near-duplicates.",
            "A few renderings are the same in two classes: characters that some font draws alike.",
            "Accented letters and their base letters are separate classes, often in different splits.",
            "The set of classes depends on the versions of the fonts, of Pillow and of Python's Unicode.",
        ),
        personal_data="None.",
        domain="vision",
        commercial=True,
    )
