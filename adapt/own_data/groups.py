"""Whether a fit does as well by all groups that a column of its file makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from adapt.checks import check_setting, optional, positive
from adapt.compare.groups import Groups
from adapt.errors import AdaptError
from adapt.own_data.answer import Evaluation, read
from tasks.own import OwnExamples, Reader
from tasks.own.groups import Grouping

__all__ = ["check_gap", "divided", "groups_of", "refusal"]


def divided(
    reader: Reader, path: Path, examples: OwnExamples, typed: Sequence[str]
) -> dict[str, dict[str, str]]:
    """The group of each of the ``examples`` of a file, by what was typed and by their names.

    Raises:
        AdaptError: it names no column, or one that makes no groups.
    """
    names = examples.names
    by = [read(partial(Grouping.of, text)) for text in typed]
    groups = {str(it): read(partial(it.of_examples, reader, path, names)) for it in by}
    return {name: dict(zip(names, found, strict=True)) for name, found in groups.items()}


def groups_of(divided: Mapping[str, Mapping[str, str]], found: Evaluation) -> tuple[Groups, ...]:
    """How well each group of :func:`divided` is predicted.

    Raises:
        AdaptError: all are of one group.
    """
    given = found.predictions
    regression = given.probabilities is None
    return tuple(
        Groups.of(name, [of[it] for it in given.names], given.labels, found.truth, regression=regression)
        for name, of in divided.items()
    )


def check_gap(most: float | None, by: Sequence[str]) -> None:
    """Refuse a limit that makes no sense.

    Raises:
        AdaptError: not above 0, or without groups.
    """
    check_setting("--max-gap", most, optional(positive("how much worse than all others a group may be")))
    if most is not None and not by:
        raise AdaptError("--max-gap needs --group COLUMN")


def refusal(found: Sequence[Groups], most: float | None) -> str | None:
    """Which groups are shown to be worse than all others by more than ``most``, in words; None: none are."""
    refused = [(groups.by, group) for groups in found for group in groups.refused(most or 0.0)]
    if most is None or not refused:
        return None
    named = ", ".join(
        f"{group.name!r} by {by} ({group.score:.3g}, {group.gap:.3g} worse than all others, of {group.n})"
        for by, group in refused
    )
    return f"shown to be worse than all others by more than {most:g}: {named}"
