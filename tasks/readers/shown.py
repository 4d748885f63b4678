"""What others wrote, shown to people: names of files and classes, cards, notes of a run.

A terminal does what control characters say, among them to hide what was written before; a page of Markdown
shows HTML, and fetches pictures, that stand in a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

__all__ = ["harmless", "inline", "plain", "row", "writable"]

#: Shown in the place of a character that would act.
INSTEAD = "\N{REPLACEMENT CHARACTER}"
#: Control characters; of the formatting ones those that change the order of what follows.
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: What begins an HTML tag, a comment or an address between brackets.
TAG = re.compile(r"<(?=[A-Za-z/!?])")


def plain(text: str) -> str:
    r"""``text`` without characters that a terminal acts on, but for line breaks and tabs.

    Example:
        >>> plain("a\x1b[2Kb") == "a\N{REPLACEMENT CHARACTER}[2Kb"
        True
    """
    return ACTING.sub(INSTEAD, text)


def writable(name: str) -> str:
    r"""The name of a file as a file of text can hold it: bytes that are no UTF-8 are replaced.

    Example:
        >>> writable("a\udcff.png") == "a\N{REPLACEMENT CHARACTER}.png"
        True
    """
    return os.fsencode(name).decode("utf-8", "replace") if not name.isascii() else name


def harmless(text: object) -> str:
    r"""``text`` for a page of Markdown, in as many lines as it has: without HTML, links and pictures.

    Example:
        >>> harmless("<img src=x>\n[a](b)")
        '&lt;img src=x>\n[a]\\(b)'
    """
    return TAG.sub("&lt;", plain(str(text))).replace("](", "]\\(")


def inline(text: object) -> str:
    r"""The same as a part of one line.

    Example:
        >>> inline("a\n# c")
        'a # c'
    """
    return " ".join(harmless(text).split())


def row(cells: Iterable[object]) -> str:
    r"""A line of a table of Markdown.

    Example:
        >>> row(["a|b", 1])
        '| a\\|b | 1 |'
    """
    texts = (inline(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"
