"""Numbers in cells: one way of writing them is read, the others are recognised and named.

`1_0` is an identifier and `0123` a postcode, whatever Python would make of them; `1,5`, `1,234.50`, `12 %`,
`$3`, `5 kg` and `31.01.2024` are numbers and dates that must not become categories.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tasks.source import TaskError

__all__ = ["check_decimal", "number", "odd_way", "written_otherwise"]

DECIMALS = (".", ",")
#: What a postcode such as 01067 is.
PADDED = "a number that begins with a zero"
DATE = "a date or time"
_DIGITS = {
    mark: re.compile(
        rf"[+-]?(?:(?P<whole>[0-9]+)(?:{re.escape(mark)}[0-9]*)?|{re.escape(mark)}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    )
    for mark in DECIMALS
}
_SPACES = " \u00a0\u2009\u202f"  # plain, fixed, thin, fixed and thin: all stand between thousands
_CODES = "USD|EUR|GBP|JPY|CHF|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|KRW"
_MONEY = rf"(?:Rs\.?|(?:R|US|C|A)?[$€£¥₹₽₩₺]|(?:{_CODES})(?![a-z]))"
_NUMBER = rf"[+-]?[0-9]+(?:[.,'{_SPACES}][0-9]+)*"
_SIGNED = rf"\(?[+\-−–]?\s*{_NUMBER}\)?"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?:\s*[ap]\.?m\.?)?"
_ZONE = r"(?:\s*(?:z|utc|gmt|[+-][0-9]{2}:?[0-9]{2}))?"
_DATE = (
    r"(?:[0-9]{4}([-/.])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([-/.])[0-9]{1,2}\2(?:[0-9]{4}|[0-9]{2})"
    rf"|[0-9]{{1,2}}\.?[ -]{_MONTH},?[ -][0-9]{{2,4}}|{_MONTH} [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}"
    r"|[0-9]{4}-w[0-9]{2}(?:-[0-9])?|[0-9]{4}-(?:0[1-9]|1[0-2])|(?:0?[1-9]|1[0-2])/[0-9]{4}"
    rf"|[0-9]{{4}}/(?:0[1-9]|1[0-2])|{_MONTH}[ -][0-9]{{4}}|{_MONTH}-'?[0-9]{{2}}"
    r"|[0-9]{1,2}\.? [^\W\d_]{3,9}\.? [0-9]{4}"  # with the month in any language
    r"|[0-9]{4}[- ]?q[1-4]|q[1-4][- /]?[0-9]{4}"
    rf"|(?:mon|tue|wed|thu|fri|sat|sun)[a-z]* {_MONTH} +[0-9]{{1,2}} {_CLOCK} [0-9]{{4}})"
)
_DURATION = r"[+-]?p(?=[0-9t])(?:[0-9]+[ymwd])*(?:t(?:[0-9.]+[hms])+)?|[0-9]{1,2}h[0-9]{2}(?:m|min)?"
_MARKS = rf"['’{_SPACES}]"
#: What is recognised, in this order: a pattern of the whole cell, what it is, and what can be done.
_WAYS = (
    (
        rf"{_DATE}(?:[T ,]+(?:{_CLOCK}|[0-9]{{2}}))?{_ZONE}|{_CLOCK}{_ZONE}|{_DURATION}",
        DATE,
        "write numbers, such as days since a first day",
    ),
    (rf"{_SIGNED}\s*[%‰]\)?|[%‰]\s*{_SIGNED}", "a percentage", "write the number alone"),
    (
        rf"[+\-−]?\s*{_MONEY}\s*{_SIGNED}|{_SIGNED}\s*{_MONEY}|\({_NUMBER}\)|{_NUMBER}-",
        "an amount of money",
        "write the number alone",
    ),
    (
        r"[+-]?[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?"
        r"|[+-]?[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+|[+-]?[0-9]{1,3}(?:,[0-9]{3}){2,}"
        r"|[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,}"
        rf"|[+-]?[0-9]{{1,3}}(?:{_MARKS}[0-9]{{3}})+(?:[.,][0-9]+)?",
        "a number with marks between thousands",
        "leave the marks out",
    ),
    (
        rf"[<>≤≥~≈±]=?\s*{_SIGNED}|{_SIGNED}\s*(?:±|\+/-)\s*{_NUMBER}",
        "a bound or an interval",
        "write one number",
    ),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), what, fix) for pattern, what, fix in _WAYS)
#: Letters for a thousand, a million and so on: one column may hold several.
MULTIPLES = {"k", "K", "m", "M", "b", "B", "bn", "G", "T"}
_UNIT = re.compile(rf"({_NUMBER})\s*([^\W\d_]{{1,6}}|°\s?[CF]?|µ[a-z]{{1,3}})")


def check_decimal(decimal: str) -> None:
    """Refuse a mark of decimals that is none.

    Raises:
        TaskError: names the two that are read.
    """
    if decimal not in DECIMALS:
        raise TaskError(f"decimal={decimal!r} is no mark of decimals: use '.' or ','")


def number(cell: str, decimal: str = ".", padded: bool = False) -> float | None:
    """The finite number in a cell, NaN for an empty one, None for anything else.

    Digits, a sign, a mark of decimals and an exponent are read, no other characters. A whole number that
    begins with a zero is taken for an identifier.

    Args:
        decimal: "." or ",".
        padded: whether zeros in front are read.

    Example:
        >>> [number(cell) for cell in ("1.5", "-2e3", "1_0", "0123", "1,5")]
        [1.5, -2000.0, None, None, None]
        >>> number("1,5", decimal=",")
        1.5
    """
    if not cell:
        return math.nan
    found = _DIGITS[decimal].fullmatch(cell)
    if found is None:
        return None
    whole = found["whole"] or ""
    if len(whole) > 1 and whole[0] == "0" and not padded:
        return None
    value = float(cell.replace(decimal, "."))
    return value if math.isfinite(value) else None


def odd_way(cell: str, decimal: str = ".") -> tuple[str, str] | None:
    """What a cell is that holds a number or date but not as :func:`number` reads it, and what to do about it;
    None for any other text.

    Example:
        >>> odd_way("12 %"), odd_way("north")
        (('a percentage', 'write the number alone'), None)
    """
    if not cell or number(cell, decimal) is not None:
        return None
    for pattern, what, fix in _PATTERNS:
        if pattern.fullmatch(cell):
            return what, fix
    other = "," if decimal == "." else "."
    if number(cell, other) is not None:
        thousands = f", or leave out {other!r} if it stands between thousands"
        parts = cell.split(other)
        return (
            f"a number with a decimal {'comma' if other == ',' else 'point'}",
            f"set decimal={other!r}" + (thousands if len(parts[-1]) == 3 and len(parts[0]) <= 4 else ""),
        )
    if number(cell, decimal, padded=True) is not None:
        return PADDED, "list the column in categorical if it names something, else leave the zeros out"
    if number(cell.replace("−", "-").replace("–", "-"), decimal) is not None:
        return "a number with a minus sign of typesetting", "write '-'"
    if cell.isdecimal():
        return "a number in other digits than 0 to 9", "write 0 to 9"
    return None


def written_otherwise(cells: Sequence[str], decimal: str = ".") -> tuple[int, str, str] | None:
    """Whether most of the cells that are not empty are numbers or dates, in ways that are not read.

    Returns:
        The number of the first such cell, what it is, and what to do; None: they are something else.
    """
    given = [row for row, cell in enumerate(cells) if cell]
    found = {row: odd_way(cells[row], decimal) for row in given if number(cells[row], decimal) is None}
    ways = {row: way for row, way in found.items() if way is not None}
    plain = len(given) - len(found)
    if ways and 2 * (len(ways) + plain) > len(given):
        row = min(ways)
        return row, *ways[row]
    units = {match[2] if (match := _UNIT.fullmatch(cells[row])) else "" for row in given}
    if "" not in units and (len(units) == 1 or (units and units <= MULTIPLES)):
        return given[0], "a number with a unit", "write the number alone"
    return None
