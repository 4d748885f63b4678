"""What a run is accountable for: its data, their licence and audit, what the network had seen of them, and
which questions of frameworks its figures answer."""

from collections.abc import Iterator, Mapping
from typing import Any

from adapt.adapter.record import AdapterRecord
from adapt.backbones import info_of
from adapt.compare import Comparison
from adapt.compare.governance import frameworks
from adapt.compare.verdict import verdict
from tasks import AnySource, Tasks
from tasks.audit import audit
from tasks.audit.report import Report
from tasks.elsewhere import leaves
from tasks.readers.shown import inline

__all__ = ["Seen", "audited", "governance_markdown", "governance_tags", "seen_by"]

#: Examples of a source that an audit in passing reads.
SAMPLE = 2000


class Seen:
    """What a network or a start had learned from, beside what tasks are drawn from.

    Attributes:
        verdict: ``same split``, ``same data``, ``other data`` or ``not known``; the worst of all.
        lines: what is known of each, in words.
    """

    ORDER = ("same split", "same data", "not known", "other data")

    def __init__(self, found: Mapping[str, tuple[str, str]]) -> None:
        self.lines = [f"{name}: {text}" for name, (_, text) in found.items()]
        self.verdict = min((kind for kind, _ in found.values()), key=self.ORDER.index)


def seen_by(adapter: AdapterRecord, tasks: Tasks) -> Seen:
    """What is known of contamination: by the names and digests of data and by splits, as training wrote them
    down; not by looking at examples."""
    info = info_of(adapter.backbone)
    known = {f"the network {adapter.backbone_name or 'of your own'}": {} if info is None else info.training}
    if training := adapter.info.get("training"):
        known["the adapter"] = training
    return Seen({name: _beside(training, tasks) for name, training in known.items()})


def _beside(training: Mapping[str, Any], tasks: Tasks) -> tuple[str, str]:
    data, split = training.get("data"), training.get("split")
    if not data:
        return "not known", "what it learned from is not recorded here; look for it in its own card"
    for part in leaves(tasks):
        source: AnySource = part.source
        splits = {getattr(part, name, None) for name in ("support_split", "query_split", "split")} - {None}
        if source.name != data and source.digest() != training.get("data_sha256"):
            continue
        if split in splits:
            return "same split", f"it learned from {data}, split {split}, from which tasks are drawn too"
        here = ", ".join(sorted(map(str, splits)))
        return "same data", f"it learned from {data}, split {split}; tasks are of {here}"
    return "other data", f"it learned from {data}, split {split}, and tasks are of other data"


def audited(tasks: Tasks) -> list[Report]:
    """Each source of the tasks, a sample of it."""
    sources = {part.source.digest(): part.source for part in leaves(tasks)}
    return [audit(source, sample=SAMPLE) for source in sources.values()]


def governance_tags(reports: list[Report], seen: Seen) -> dict[str, str]:
    """Tags of the run: ``audit`` and ``contamination``."""
    counts = {kind: sum(report.count(kind) for report in reports) for kind in ("error", "warning")}
    said = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items() if count)
    return {"audit": said or "ok", "contamination": seen.verdict}


def governance_markdown(result: Comparison, reports: list[Report], seen: Seen) -> str:
    """The page ``governance.md``."""
    parts = [f"# {inline(result.experiment)}: data, licences, audit, frameworks"]
    for report in reports:
        parts += ["\n".join(_data(report))]
    parts += ["## What had been seen before", "\n".join(f"- {inline(line)}" for line in seen.lines)]
    parts += ["## Which questions it answers", frameworks(_facts(result, reports, seen))]
    return "\n\n".join(parts) + "\n"


def _data(report: Report) -> Iterator[str]:
    card = report.card
    yield f"## Data: {inline(report.name)}"
    yield ""
    yield f"- {inline(card['description'])}"
    yield f"- from: {inline(card['origin'])}"
    yield f"- licence: {inline(card['licence'])}; {inline(card['terms'])}"
    yield f"- personal data: {inline(card['personal_data'])}"
    yield from (f"- known issue: {inline(issue)}" for issue in card["known_issues"])
    yield f"- audit: {inline(report.verdict())}"
    yield from (f"  - {it.severity}, {it.check}: {inline(it.what)}" for it in report.findings)


def _facts(result: Comparison, reports: list[Report], seen: Seen) -> dict[str, str]:
    best = result.ours or next(iter(result.methods.values()))
    figures, versions = result.method_metrics(best), result.environment.get("versions", {})
    facts = {
        "tests": f"{result.task['source']}, {best.n} tasks; comparison.md says how they were measured",
        "score": f"{best.name}: {result.metric.phrase(best.mean_score)}",
        "limits": verdict(result),
        "pretrained": "; ".join(seen.lines),
        "data": "; ".join(f"{report.name} ({report.card['licence']})" for report in reports),
        "version": ", ".join(f"{key} {value}" for key, value in versions.items()),
    }
    if (ece := figures.get("trust/ece")) is not None:
        perfect = figures["trust/ece_expected"]
        right = f"of probabilities that are right it would be {100 * perfect:.1f} %"
        facts["calibration"] = f"ECE {100 * ece:.1f} % ({right})"
    worse = figures.get(f"trust/{result.metric.name}_worse")
    if worse is not None:
        facts["robustness"] = f"{result.metric.noun} {worse * result.metric.scale:.3g} on worse queries"
    if (energy := figures.get("cost/energy_wh")) is not None:
        facts["energy"] = f"{energy:.3g} Wh an adaptation ({result.energy_source})"
    return facts
