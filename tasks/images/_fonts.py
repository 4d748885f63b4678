"""Rendering characters of the fonts that matplotlib ships: which there are, and what they look like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tasks.readers.regular import read_regular

__all__ = ["Font", "load_fonts"]

# Upright regular fonts first: the first font that has a character is its reference rendering.
FILES = (
    *("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"),
    *("DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono-Bold", "STIXGeneralBol"),
    *("DejaVuSans-Oblique", "DejaVuSerif-Italic", "DejaVuSansMono-Oblique", "STIXGeneralItalic"),
    *("DejaVuSans-BoldOblique", "DejaVuSerif-BoldItalic", "DejaVuSansMono-BoldOblique", "STIXGeneralBolIta"),
)
INK_SHARE = 26 / 32  # largest side of the ink as a fraction of the image's: leaves room for transforms
OVERSAMPLING = 2  # ink is drawn about this much larger than needed, then averaged down


@dataclass(frozen=True)
class Font:
    """One font file and the code points it can draw."""

    path: Path
    code_points: frozenset[int]
    _faces: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(read_regular(self.path)).hexdigest()

    def render(self, code_point: int, size: int) -> np.ndarray | None:
        """White ink on black, uint8 [size, size], or None where the glyph is blank.

        The ink is cropped, scaled so that its larger side is `INK_SHARE` of `size`, and centred. So a full
        stop and a bullet look alike, and position and size say nothing about the class.
        """
        from PIL import Image

        ink_side = max(round(size * INK_SHARE), 1)
        em = OVERSAMPLING * size
        ink = self._ink(code_point, em)
        if ink is None:
            return None
        if max(ink.size) < ink_side:  # a dot: draw it larger instead of scaling pixels up
            larger = min(OVERSAMPLING * ink_side / max(ink.size), 16)
            ink = self._ink(code_point, round(em * larger)) or ink
        scale = ink_side / max(ink.size)
        width, height = (max(round(side * scale), 1) for side in ink.size)
        canvas = Image.new("L", (size, size))
        small = ink.resize((width, height), Image.Resampling.HAMMING)
        canvas.paste(small, ((size - width) // 2, (size - height) // 2))
        return np.asarray(canvas)

    def _ink(self, code_point: int, em: int) -> Any:
        """The glyph at `em` pixels per em, cropped to its ink: a Pillow image, or None if blank."""
        from PIL import Image, ImageFont

        face = self._faces.get(em)
        if face is None:
            # BASIC: one code point, one glyph. The default shapes text where libraqm happens to be installed.
            face = ImageFont.truetype(str(self.path), em, layout_engine=ImageFont.Layout.BASIC)
            self._faces[em] = face
        mask = face.getmask(chr(code_point), mode="L")
        if 0 in mask.size:
            return None
        image = Image.frombytes("L", mask.size, bytes(mask))
        box = image.getbbox()
        return None if box is None else image.crop(box)


def load_fonts(files: Iterable[str] = FILES) -> tuple[Font, ...]:
    """The fonts in matplotlib's data folder, in the order of `files`, without drawing anything yet."""
    import matplotlib
    import PIL.ImageFont  # noqa: F401  (drawing needs it: fail here, before anything is drawn)
    from matplotlib.ft2font import FT2Font

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = []
    for name in files:
        path = folder / f"{name}.ttf"
        # Glyph 0 is .notdef, the box drawn for what a font lacks.
        drawable = frozenset(code for code, glyph in FT2Font(str(path)).get_charmap().items() if glyph)
        fonts.append(Font(path, drawable))
    return tuple(fonts)
