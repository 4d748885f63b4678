"""Numbers that people set: one check of type and range, in place of a comparison in each class.

`2.0` and `True` are no whole numbers, NaN and infinity are no numbers, and `"3"` is a string. Scalars of
numpy become those of Python, which is what JSON and hashing want.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "MOST",
    "SEED",
    "Number",
    "between",
    "check",
    "checked",
    "least",
    "list_of",
    "optional",
    "positive",
]


@dataclass(frozen=True)
class Number:
    """What a setting may be.

    Args:
        whole: whether it counts something.
        least, most: bounds that belong to the range; above, below: bounds that do not. None: there is none.
        why: what to say of a number outside; None: the bound that it breaks.
        none: whether None is a value as well.
        several: whether it is a sequence of such numbers; a tuple comes back.
        ceiling: a bound that no use comes near: it keeps out what a file, or a slip of the finger, claims.
    """

    whole: bool = False
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    why: str | None = None
    none: bool = False
    several: bool = False
    ceiling: float | None = None

    def bounds(self) -> list[tuple[str, float]]:
        """Sign and bound, as they follow the name of the setting."""
        signs = {">=": self.least, ">": self.above, "<=": self.most, "<": self.below}
        return [(sign, bound) for sign, bound in signs.items() if bound is not None]


HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
LARGEST = sys.float_info.max
#: Of numbers that are no counts: their squares, products and quotients are numbers too, in float64 and as
#: they are in Python, which raises where torch goes to infinity.
HUGE = 1e30
#: Whole numbers beyond it are no longer told apart as floating-point ones, and torch takes none of 64 bits.
EXACT = 2**53

#: What nothing that is counted comes near; many counts have a lower one of their own.
MOST = 10**9
#: Numbers in a list.
LONGEST = 10_000

#: Of a random generator: what torch and numpy both take.
SEED = Number(whole=True, least=0, most=2**63 - 1)


def least(bound: int, why: str | None = None, most: int | None = None, ceiling: int = MOST) -> Number:
    """A whole number from `bound` on, up to `most` or, at any rate, `ceiling`."""
    return Number(whole=True, least=bound, most=most, why=why, ceiling=ceiling if most is None else None)


def positive(why: str | None = None) -> Number:
    """A finite number above 0."""
    return Number(above=0, why=why)


def between(low: float, high: float | None, why: str | None = None) -> Number:
    """A finite number from `low` to `high`, both included; None: without an end."""
    return Number(least=low, most=high, why=why)


def optional(number: Number) -> Number:
    """The same, or None."""
    return Number(**{**vars(number), "none": True})


def list_of(number: Number) -> Number:
    """A sequence of such numbers."""
    return Number(**{**vars(number), "several": True})


def checked(name: str, value: Any, number: Number, error: type[ValueError]) -> Any:
    """`value` as a number of Python.

    Raises:
        error: another type, NaN, infinity, or outside the range; the message gives name, value and range.

    Example:
        >>> checked("steps", np.int64(3), least(1), ValueError)
        3
        >>> checked("steps", True, least(1), ValueError)
        Traceback (most recent call last):
        ValueError: steps=True is no whole number: use steps>=1
    """
    if value is None and number.none:
        return None
    if number.several:
        one = Number(**{**vars(number), "several": False})
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise error(f"{name}={value!r} is no list of numbers: give for instance {name}=[1, 2]")
        if len(value) > LONGEST:
            raise error(f"{name} is a list of {len(value):,} numbers: give {LONGEST:,} at most")
        return tuple(checked(name, item, one, error) for item in value)
    if isinstance(value, np.generic):
        value = value.item()
    short = name.rpartition(" ")[2]  # of "digits: size"
    # A bound that only keeps out what no machine holds is told to whoever breaks it.
    near = [f"{short}{sign}{bound:g}" for sign, bound in number.bounds() if abs(bound) < 10**9]
    use = f"use {' and '.join(near)}" if near else "give one"
    if number.none:
        use += ", or None (null in a config)"
    if number.whole and (not isinstance(value, int) or isinstance(value, bool)):
        raise error(f"{name}={value!r} is no whole number: {use}")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise error(f"{name}={value!r} is no number: {use}")
    if not number.whole and not -LARGEST <= value <= LARGEST:
        raise error(f"{name}={_short(value)} is no finite number: {number.why or use}")
    if not number.whole and abs(value) >= 2**63:
        value = float(value)  # a whole number so large is none to torch
    for sign, bound in number.bounds():
        if not HOLDS[sign](value, bound):
            fault = f"too {'small' if '>' in sign else 'large'}: use {short}{sign}{_shown(bound)}"
            shown = _short(value)
            raise error(f"{name}={shown}: {number.why}" if number.why else f"{name}={shown} is {fault}")
    if number.ceiling is not None and value > number.ceiling:
        raise error(f"{name}={_short(value)} is too large: use {short}<={_shown(number.ceiling)}")
    if not number.whole:
        if abs(value) > HUGE:
            raise error(f"{name}={_short(value)} is too far from 0: use a number of {HUGE:g} at most")
        if number.above == 0 and value < 1 / HUGE:
            raise error(f"{name}={value} is too small: use {short}>={1 / HUGE:g}")
        if abs(value) > EXACT:
            return float(value)
    return value


def check(settings: Any, prefix: str, error: type[ValueError], rules: dict[str, Number]) -> None:
    """Check fields of a (frozen) dataclass; messages call them `prefix.name`. See :func:`checked`.

    Raises:
        error: a field that its rule does not allow.
    """
    for name, number in rules.items():
        value = checked(f"{prefix}.{name}" if prefix else name, getattr(settings, name), number, error)
        object.__setattr__(settings, name, value)


def _short(value: Any) -> str:
    """A number for a message; Python writes no whole one of thousands of digits."""
    short = isinstance(value, float) or abs(value) < 10**30
    return str(value) if short else "a number of more than 30 digits"


def _shown(bound: float) -> str:
    if bound == 2**63 - 1:
        return "2**63 - 1"
    return f"{bound:g}" if abs(bound) < 10**6 else f"{bound:,}"
