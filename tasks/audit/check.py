"""The audit itself: all checks, on one source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from tasks._settings import SEED, check_setting, least
from tasks.grouped import GroupSource
from tasks.source import AnySource, Source

from .contents import Contents, read
from .members import Members, check_pairs, held_apart, member_findings
from .report import EXAMPLES, SEVERITIES, Finding, Place, Report
from .sheet import card_findings

__all__ = ["SAMPLE", "audit"]


#: Sources of more examples than this are sampled.
SAMPLE = 100_000
#: Repeats and conflicts among more than this part of the examples are an error, fewer a warning.
TOLERATED = 0.01


def audit(
    source: AnySource,
    *,
    apart: Sequence[tuple[str, str]] | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> Report:
    """Check a source.

    Args:
        source: of examples or texts; of functions or groups there is little more than the card to check.
        apart: pairs of splits that must have nothing in common; None: see :func:`.members.held_apart`.
        sample: read at most this many examples, drawn at random; counts are then lower bounds.
        seed: of that draw.

    Raises:
        TaskError: `sample` is no number of examples, or `apart` names a split that is none.

    Example:
        >>> from tasks import Digits
        >>> report = audit(Digits())
        >>> report.ok, report.splits["query"]["classes"]
        (True, 10)
    """
    check_setting("sample", sample, least(1))
    check_setting("seed", seed, SEED)
    if not isinstance(source, Source):
        return _drawn(source)
    everything = Members.of(source)
    pairs = held_apart(everything) if apart is None else tuple(apart)
    check_pairs(pairs, everything.splits)
    rows = np.unique(everything.index)
    total = len(rows)
    method = [
        "Exact duplicates: equal bytes of what `load` returns; of texts, equal without case and spacing."
    ]
    if total > sample:
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
        method.append(
            f"A random sample (seed {seed}) of {sample:,} of {total:,} examples was read: counts of what "
            "examples hold are lower bounds."
        )
    members, contents = everything.only(rows), read(source, rows)
    findings = [
        *card_findings(source.card, total),
        *member_findings(source, everything, pairs),
        *_broken(members, contents),
        *_conflicts(members, contents),
        *_repeats(members, contents),
        *_leaks(members, contents, pairs),
    ]
    if contents.near is not None:
        method.append(contents.near.method)
    elif contents.missing.startswith("pip"):
        message = f"near duplicates were not looked for: {contents.missing}."
        findings.append(Finding("near duplicates", "warning", message, 0, contents.missing))
    return Report(
        name=source.name,
        digest=source.digest(),
        card=source.card.to_dict(),
        kind=contents.kind,
        splits={split: _numbers(source, split) for split in source.splits},
        apart=pairs,
        method=tuple(method),
        examined=len(rows),
        total=total,
        findings=_sorted(findings),
    )


def _drawn(source: AnySource) -> Report:
    """Functions and groups hand out examples only as tasks."""
    findings = [*card_findings(source.card, None)]
    splits: dict[str, dict[str, int]] = {}
    if isinstance(source, GroupSource):
        groups = {split: source.groups(split) for split in source.splits}
        splits = {split: {"groups": len(names)} for split, names in groups.items()}
        for one, other in combinations(groups, 2):
            if common := sorted(groups[one].keys() & groups[other].keys()):
                what = (
                    f"groups in both split {one!r} and split {other!r}: {len(common)}, {common[0]!r} first."
                )
                findings.append(Finding("groups", "error", what, len(common), "leave each in one split."))
    findings.append(
        Finding(
            "examples",
            "note",
            "tasks are drawn, and no example stands in a split by itself: their contents were not read.",
            0,
            "nothing; the card says how tasks of the splits differ.",
        )
    )
    method = ("Card, digest, and the names of groups, where there are any.",)
    card, digest = source.card.to_dict(), source.digest()
    return Report(source.name, digest, card, "drawn", splits, (), method, 0, 0, _sorted(findings))


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def _numbers(source: Source, split: str) -> dict[str, int]:
    sizes = [len(indices) for indices in source.classes(split).values()]
    least, most = min(sizes, default=0), max(sizes, default=0)
    return {"classes": len(sizes), "examples": sum(sizes), "smallest class": least, "largest class": most}


def _severity(count: int, of: int) -> str:
    return "error" if count > TOLERATED * of else "warning"


def _first(members: Members, example: int, split: str | None = None) -> Place:
    return next(members.places(example, split))


def _broken(members: Members, contents: Contents) -> Iterator[Finding]:
    if len(bad := contents.rows[contents.broken]):
        yield Finding(
            "numbers",
            "error",
            f"examples with NaN or infinite numbers: {len(bad):,}.",
            len(bad),
            "leave them out, or mend what reads them.",
            tuple((_first(members, int(row)),) for row in bad[:EXAMPLES]),
        )


def _conflicts(members: Members, contents: Contents) -> Iterator[Finding]:
    """Equal contents under two class names, anywhere in the source."""
    same = contents.same[np.searchsorted(contents.rows, members.index)]
    pairs = np.unique(np.stack([same, members.label], axis=1), axis=0)
    found, labels = np.unique(pairs[:, 0], return_counts=True)
    if not len(found := found[labels > 1]):
        return
    involved = int(np.isin(contents.same, found).sum())
    examples = []
    for number in found[:EXAMPLES]:
        rows = np.flatnonzero(same == number)
        _, first = np.unique(members.label[rows], return_index=True)
        examples.append(
            tuple(
                Place(
                    int(members.index[row]),
                    members.labels[members.label[row]],
                    members.splits[members.split[row]],
                )
                for row in rows[np.sort(first)]
            )
        )
    yield Finding(
        "labels",
        _severity(involved, len(contents.rows)),
        f"contents under more than one class: {len(found):,} ({involved:,} examples).",
        len(found),
        "decide which class is right, or leave them out: no method can get both.",
        tuple(examples),
    )


def _repeats(members: Members, contents: Contents) -> Iterator[Finding]:
    """Examples of a split that repeat another of the same split."""
    for split in members.splits:
        rows = members.of_split(split)
        same = contents.same[np.searchsorted(contents.rows, rows)]
        _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
        again = np.flatnonzero(first[inverse] != np.arange(len(rows)))
        if len(again):
            shown = ((rows[first[inverse[k]]], rows[k]) for k in again[:EXAMPLES])
            yield Finding(
                "duplicates",
                "warning",
                f"examples of split {split!r} that repeat another of it: {len(again):,} of {len(rows):,}.",
                len(again),
                "drop the repeats: a support and a query of one task may be the same.",
                tuple(tuple(_first(members, int(i), split) for i in pair) for pair in shown),
            )


def _leaks(members: Members, contents: Contents, apart: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Exact and near duplicates between two splits, of examples that are not in both."""
    for one, other in apart:
        both = (members.of_split(one), members.of_split(other))
        rows = [np.setdiff1d(side, rest) for side, rest in zip(both, both[::-1], strict=True)]
        a, b = (np.searchsorted(contents.rows, side) for side in rows)
        if not min(len(a), len(b)):
            continue
        severity = _severity(len(found := _equal(contents, a, b)), min(len(a), len(b)))
        yield from _leak("duplicates", "repeat", severity, members, contents, (one, other), found)
        if contents.near is not None:
            mates = contents.near.mates(a, b)
            found = [(int(mates[j]), int(b[j])) for j in np.flatnonzero(mates >= 0)]
            yield from _leak(
                "near duplicates", "nearly repeat", "warning", members, contents, (one, other), found
            )


def _equal(contents: Contents, a: np.ndarray, b: np.ndarray) -> list[tuple[int, int]]:
    """For each position in `b` that equals one in `a`: both positions."""
    numbers, first = np.unique(contents.same[a], return_index=True)
    slot = np.minimum(np.searchsorted(numbers, contents.same[b]), len(numbers) - 1)
    hits = np.flatnonzero(numbers[slot] == contents.same[b])
    return [(int(a[first[slot[j]]]), int(b[j])) for j in hits]


def _leak(
    check: str,
    verb: str,
    severity: str,
    members: Members,
    contents: Contents,
    splits: tuple[str, str],
    found: Sequence[tuple[int, int]],
) -> Iterator[Finding]:
    if not found:
        return
    one, other = splits
    shown = (
        tuple(_first(members, int(contents.rows[k]), split) for k, split in zip(pair, splits, strict=True))
        for pair in found[:EXAMPLES]
    )
    yield Finding(
        check,
        severity,
        f"examples of split {other!r} that {verb} one of split {one!r}: {len(found):,}.",
        len(found),
        "take them out of the split that is learned from."
        if check == "duplicates"
        else "look at them; if they show the same thing, split by what they have in common, not by example.",
        tuple(shown),
    )
