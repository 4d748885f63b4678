"""What the licence of the data forbids, said where it cannot be missed: on the terminal and in MLflow."""

import textwrap

from rich.console import Console

from tasks import Card

__all__ = ["licence_tags", "warn_about_licence"]

#: Longest licence in a tag: some cards hold the names of several.
LENGTH = 250


def licence_tags(card: Card) -> dict[str, str]:
    """Tags of a run on this data, to find or to exclude it by: ``data_licence`` and ``data_commercial_use``.

    Example:
        >>> from tasks import Digits
        >>> licence_tags(Digits().card)["data_licence"]
        'CC BY 4.0'
    """
    allowed = {True: "allowed", False: "not allowed", None: "not stated"}[card.commercial]
    licence = textwrap.shorten(card.licence, LENGTH, placeholder=" …") or "none"
    return {"data_licence": licence, "data_commercial_use": allowed}


def warn_about_licence(card: Card, console: Console) -> bool:
    """One visible line if the licence of the data forbids commercial use; returns whether it does."""
    if card.commercial is not False:
        return False
    console.print(
        f"licence: {card.name} ({card.licence}) may not be used commercially; what is trained on it may be "
        "bound by the same terms",
        style="bold yellow",
        markup=False,
        soft_wrap=True,
    )
    return True
