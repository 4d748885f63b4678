"""Intervals of committed results anew, where every score is kept: ``python -m bench.lib.intervals``.

Accuracies and their differences in ``digits.json`` and ``time_to_accuracy.json`` get the intervals that
:mod:`adapt.compare.statistics` has today, from the scores in ``….runs.json``; what examples the tasks share
follows from their seeds. Nothing else is changed, and a value that would change is an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from adapt.compare import Comparison, pool
from adapt.errors import AdaptError
from adapt.files import read_json, write_json
from bench import digits, time_to_accuracy
from bench.lib.paths import RESULTS
from bench.lib.record import INTERVALS, Row
from bench.lib.runs import with_examples


def kept(name: str) -> list[Comparison]:
    """The comparisons behind a result, without the curves, of which not all are kept."""
    runs = [Comparison.from_dict(run) for run in read_json(RESULTS / f"{name}.runs.json")["runs"]]
    bare = [{key: replace(m, curves=()) for key, m in run.methods.items()} for run in runs]
    return [with_examples(replace(run, methods=m)) for run, m in zip(runs, bare, strict=True)]


def renewed(rows: Sequence[Mapping[str, Any]], found: Sequence[Row]) -> list[dict[str, Any]]:
    """``rows`` with the intervals of ``found``, which has the same means."""
    intervals = {(row.case, row.metric): row for row in found if row.unit in ("%", "points")}
    new = []
    for row in rows:
        again = intervals.get((row["case"], row["metric"]))
        if again is not None and abs(again.value - row["value"]) > 0.01:  # scores are kept to four digits
            raise AdaptError(f"{row['case']}, {row['metric']}: {again.value} is not {row['value']}")
        new.append({**row, **({} if again is None else {"ci95": again.ci95})})
    return new


def main() -> None:
    runs = sorted(kept("digits"), key=lambda run: run.task["shots"])
    pooled = [pool(list(group)) for _, group in groupby(runs, key=lambda run: run.task["shots"])]
    found = {
        "digits": [row for run in pooled for row in digits.rows_of(run)],
        "time_to_accuracy": [
            row for run in kept("time_to_accuracy") for row in time_to_accuracy.rows_of(run)
        ],
    }
    for name, rows in found.items():
        path = RESULTS / f"{name}.json"
        result = read_json(path)
        write_json(path, {**result, "intervals": INTERVALS, "rows": renewed(result["rows"], rows)})
        print(path)


if __name__ == "__main__":
    main()
