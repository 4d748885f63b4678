"""What this program left in a folder of runs, which somebody else may have written or damaged since."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.errors import AdaptError
from adapt.files import read_json

__all__ = ["NUMBER", "OBJECT", "TEXT", "TEXTS", "WHOLE", "recorded"]

#: Kinds of an entry: a text, a number, an object or nothing (all may be null), and a list of texts.
TEXT, NUMBER, WHOLE, OBJECT = (
    (str, type(None)),
    (int, float, type(None)),
    (int, type(None)),
    (dict, type(None)),
)
TEXTS = list


def recorded(path: Path, kinds: Mapping[str, Any], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON object in ``path``, its entries of the ``kinds`` that are given for them.

    Args:
        path: of the file.
        kinds: what entries may be; entries that have none here are left as they are.
        needed: entries that there must be.

    Raises:
        AdaptError: a file that cannot be read, or is not of this form.
    """
    found = read_json(path)
    for key, kind in kinds.items():
        value = found.get(key)
        fits = isinstance(value, kind)
        fits = fits and (not isinstance(value, list) or all(isinstance(text, str) for text in value))
        if key in found and not fits:
            raise AdaptError(
                f"{path} holds a {type(value).__name__} for '{key}': it is damaged, or of another version of "
                "this package; start anew"
            )
    if missing := [key for key in needed if key not in found]:
        raise AdaptError(
            f"{path} lacks '{missing[0]}': it is damaged, or of another version of this package; start anew"
        )
    return found
