"""Damage as hypothesis draws it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

__all__ = ["damage"]


def damage(data: st.DataObject, path: Path) -> None:
    """Cut a file somewhere, or change one of its bytes."""
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
