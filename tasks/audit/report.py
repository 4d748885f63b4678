"""Findings, and the report that holds them: as plain containers, as Markdown, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.readers.shown import inline, row

__all__ = ["EXAMPLES", "SEVERITIES", "Finding", "Place", "Report"]

#: From what must be mended to what is good to know.
SEVERITIES = ("error", "warning", "note")
#: At most so many are shown of each finding.
EXAMPLES = 5


@dataclass(frozen=True)
class Place:
    """Where an example stands: its index, and the class and split that it is in."""

    index: int
    label: str
    split: str

    def __str__(self) -> str:
        return f"{self.index} ({self.split}, {self.label!r})"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Args:
        check: what was looked at, e.g. "duplicates".
        severity: "error": a result would mislead; "warning": it may; "note": good to know.
        what: what was found, in a sentence.
        count: of how many examples, classes or fields.
        fix: what to do.
        examples: up to five; each the places of the examples that belong together.
    """

    check: str
    severity: str
    what: str
    count: int
    fix: str
    examples: tuple[tuple[Place, ...], ...] = ()


@dataclass(frozen=True)
class Report:
    """What the audit of one source found.

    Args:
        name: of the source.
        digest: of the source: the report is about exactly this data.
        card: its data sheet.
        kind: "images", "texts", "arrays" or "drawn".
        splits: per split the numbers of its classes and examples, and the sizes of its extreme classes.
        apart: pairs of splits that were held to have nothing in common.
        method: how it was looked for, a sentence each.
        examined: how many examples were read.
        total: how many the source has in its splits.
        findings: the worst first.
    """

    name: str
    digest: str
    card: Mapping[str, Any]
    kind: str
    splits: Mapping[str, Mapping[str, int]]
    apart: tuple[tuple[str, str], ...]
    method: tuple[str, ...]
    examined: int
    total: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def count(self, severity: str) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def verdict(self) -> str:
        """One line: how many findings of which severity, on how many examples."""
        counts = ", ".join(_counted(self.count(severity), severity) for severity in SEVERITIES)
        read = f"{self.examined:,} of {self.total:,} examples" if self.total else "no stored examples"
        return f"{self.name}: {counts} ({read})"

    def table(self) -> str:
        """The findings as plain text, a line each."""
        rows = [("severity", "check", "count", "finding")]
        rows += [(f.severity, f.check, f"{f.count:,}", f.what) for f in self.findings]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows
        ]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The whole report."""
        card = self.card
        about = [
            ("data", card["description"]),
            ("origin", card["origin"]),
            ("licence", card["licence"]),
            ("terms", card["terms"]),
            ("personal data", card["personal_data"]),
            ("digest (sha256)", f"`{self.digest}`"),
        ]
        lines = [
            f"# Audit of {inline(self.name)}",
            "",
            inline(self.verdict()) + ".",
            "",
            *_table(("", ""), about),
        ]
        if self.splits:
            header = ("split", *next(iter(self.splits.values())))
            rows = [(name, *map(str, numbers.values())) for name, numbers in self.splits.items()]
            lines += ["## Splits", "", *_table(header, rows)]
        lines += ["## Findings", ""]
        for finding in self.findings:
            lines += [
                f"### {finding.severity}: {finding.check}",
                "",
                inline(finding.what),
                "",
                f"What to do: {inline(finding.fix)}",
                "",
                *(f"- {inline(' = '.join(map(str, places)))}" for places in finding.examples),
                *([""] if finding.examples else []),
            ]
        if not self.findings:
            lines += ["None.", ""]
        lines += ["## Known issues, from the card", ""]
        lines += [*(f"- {inline(issue)}" for issue in card["known_issues"] or ("none named",)), ""]
        lines += ["## How it was checked", "", *(f"- {sentence}" for sentence in self.method), ""]
        return "\n".join(lines)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [row(header), "|" + "---|" * len(header), *map(row, rows), ""]
