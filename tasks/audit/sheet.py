"""The data sheet of a source: is it filled in, is it right, and what does the licence allow?"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.source import Card

from .report import Finding

__all__ = ["card_findings"]

#: Without these nobody can tell whether data may be used.
NEEDED = ("origin", "licence")
WANTED = ("description", "terms", "personal_data", "domain")


def card_findings(card: Card, examples: int | None) -> Iterator[Finding]:
    """What is missing or wrong in `card`; `examples` is how many there are, None for functions."""
    for names, severity in ((NEEDED, "error"), (WANTED, "warning")):
        empty = [name for name in names if not getattr(card, name).strip()]
        if empty:
            yield Finding(
                "card",
                severity,
                f"the card says nothing of: {', '.join(name.replace('_', ' ') for name in empty)}.",
                len(empty),
                "fill it in: nobody else can know it.",
            )
    claimed = card.counts.get("examples")
    if examples is not None and claimed != examples:
        says = "no number of examples" if claimed is None else f"{claimed:,} examples"
        yield Finding(
            "card",
            "note" if claimed is None or claimed > examples else "warning",
            f"the card counts {says}, the splits hold {examples:,}.",
            abs((claimed or 0) - examples),
            "correct the count, or name in the card the examples that are in no split.",
        )
    if card.commercial is False:
        yield Finding(
            "licence",
            "warning",
            f"the licence ({card.licence}) does not allow commercial use.",
            1,
            "use it for research only; what is trained on it may be bound by the same terms.",
        )
    elif card.commercial is None:
        yield Finding(
            "licence",
            "note",
            f"the card does not say whether the licence ({card.licence or 'none'}) allows commercial use.",
            1,
            "read the terms, then set commercial to true or false in the card.",
        )
