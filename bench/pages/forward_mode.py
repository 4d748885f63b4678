"""What docs/forward-mode.md says in numbers: its generated blocks, from the JSON of ``bench/results``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapt.files import read_json
from bench.lib.blocks import Result, by_case, fill, markdown_table, measured
from bench.lib.paths import DOCS, RESULTS
from bench.lib.record import provenance

__all__ = ["PAGE", "filled"]

PAGE = DOCS / "forward-mode.md"


def filled(text: str) -> str:
    """``text`` with every generated block replaced by what the results say."""
    blocks = {
        "pushforward": measured("pushforward", _pushforward),
        "forward_vs_backprop": measured("forward_vs_backprop", _training),
        "gpu": _gpu,
    }
    return fill(text, blocks)


# ----------------------------------------------------------------------------------------- pushforward

PLACEMENTS = ("everywhere", "last third", "head")


def _pushforward(result: Result) -> str:
    found = {(*_case(row["case"]), row["metric"]): row for row in result["rows"]}
    networks = list(dict.fromkeys(network for network, *_ in found))
    ks = sorted({k for _, _, k, _ in found})
    header = ["k = 8", "forward pass", "`fast`", "`reference`", "`compiled`", "backprop"]
    parts = [
        "Seconds and peak memory of one pass over 25 examples, in units of one forward pass of the same "
        "examples; in brackets the 95 % interval of the ratio. *Everywhere* adapts scale and shift of all "
        "norms, *last third* those of the last third, *head* the last layer; backprop is one gradient of all "
        "these parameters, not only of k directions. Freed memory is kept, for all alike.\n",
        markdown_table(
            [*header, "memory `fast`", "memory backprop"],
            [_row_of_k8(found, network, placement) for network in networks for placement in PLACEMENTS],
        ),
        "\n".join([*_goals(result["rows"]), _per_gradient(found, networks)]) + "\n",
        "The same for other numbers of tangents (`fast`, everywhere):\n",
        markdown_table(
            ["", *(f"k = {k}" for k in ks), "backprop"],
            [
                [
                    network,
                    *(_number(found.get((network, "everywhere", k, "cost/fast"))) for k in ks),
                    _number(found.get((network, "everywhere", 8, "cost/backprop"))),
                ]
                for network in networks
            ],
        ),
        provenance(result) + "\n",
    ]
    return "\n".join(parts)


def _per_gradient(found: Mapping[Any, Result], networks: Sequence[str]) -> str:
    """Whether forward mode is the cheaper gradient anywhere, even with a single tangent."""
    pairs = [
        (found[network, "everywhere", 1, "cost/fast"], found[network, "everywhere", 1, "cost/backprop"])
        for network in networks
    ]
    cheaper = sum(tangent["value"] < backprop["value"] for tangent, backprop in pairs)
    return (
        f"- A single tangent costs less than one backprop gradient of all adapted parameters on {cheaper} of "
        f"{len(pairs)} networks (everywhere, k = 1)."
    )


def _case(case: str) -> tuple[str, str, int]:
    network, placement, k = case.split(", ")
    return network, placement, int(k.removeprefix("k = "))


def _row_of_k8(found: Mapping[Any, Result], network: str, placement: str) -> list[str]:
    def row(metric: str) -> Result | None:
        return found.get((network, placement, 8, metric))

    seconds = row("time/forward")
    return [
        f"{network}, {placement}",
        f"{1000 * seconds['value']:.1f} ms" if seconds else "",
        *(_with_interval(row(f"cost/{which}")) for which in ("fast", "reference", "compiled", "backprop")),
        *(_number(row(f"memory/{which}")) for which in ("fast", "backprop")),
    ]


def _number(row: Result | None) -> str:
    return f"{row['value']:.2f}" if row else ""


def _with_interval(row: Result | None) -> str:
    return f"{row['value']:.2f} ({row['note'].split(';')[0].replace(' to ', '–')})" if row else ""


def _goals(rows: Sequence[Result]) -> list[str]:
    lines = []
    for placement in PLACEMENTS:
        goals = [row for row in rows if row["goal"] is not None and _case(row["case"])[1] == placement]
        if not goals:
            continue
        reached = [_case(row["case"])[0] for row in goals if row["value"] <= row["goal"]]
        missed = [
            f"{_case(row['case'])[0]} ({row['value']:.2f})" for row in goals if row["value"] > row["goal"]
        ]
        lines.append(
            f"- Goal for k = 8, {placement}: at most {goals[0]['goal']:g} forward passes. Reached by "
            f"{', '.join(reached) or 'none'}; missed by {', '.join(missed) or 'none'}."
        )
    return lines


# --------------------------------------------------------------------------------- forward_vs_backprop

COSTS = ("pushforward", "forward_gradient", "backprop")


def _training(result: Result) -> str:
    rows = by_case(result)
    cases = list(dict.fromkeys(case for case, _ in rows))
    costly = [case for case in cases if (case, "cost/ratio") in rows]
    trained = [case for case in cases if (case, "train/test_accuracy") in rows]
    parts = [
        "**Time of one gradient**, in evaluations of the loss on 64 digits: one tangent pushed through the "
        "network; the whole forward gradient, which also draws the direction and scales it; one backprop "
        "gradient; and forward gradient ÷ backprop. Depths count hidden layers.\n",
        markdown_table(
            ["", "pushforward", "forward gradient", "backprop", "forward ÷ backprop", "memory"],
            [_row_of_cost(rows, case) for case in costly],
        ),
        "Memory: peak of the forward gradient beside that of backprop, in MiB.\n",
        _claim([rows[case, "cost/ratio"] for case in costly]),
        "![memory against depth](figures/forward_memory.svg)\n",
        "**Training an MLP on real digits from scratch**, the same seconds for everyone, learning rates "
        "chosen on validation images, three seeds:\n",
        markdown_table(
            ["", "test accuracy", "loss", "steps", "rate", "seconds to 90 %", "cosine to ∇, untrained"],
            [_row_of_training(rows, case) for case in trained],
        ),
        "![loss against seconds](figures/forward_training.svg)\n",
        provenance(result) + "\n",
    ]
    return "\n".join(parts)


def _row_of_cost(rows: Mapping[Any, Result], case: str) -> list[str]:
    memory = [_mib(rows.get((case, f"memory/{which}_mib"))) for which in ("forward_gradient", "backprop")]
    return [
        case,
        *(_number(rows.get((case, f"cost/{which}"))) for which in COSTS),
        _with_interval(rows[case, "cost/ratio"]),
        " / ".join(memory),
    ]


def _mib(row: Result | None) -> str:
    return f"{row['value']:.1f}" if row else "–"


def _row_of_training(rows: Mapping[Any, Result], case: str) -> list[str]:
    def of(metric: str) -> Result | None:
        return rows.get((case, metric))

    reached, cosine = (
        of("train/seconds_to_90"),
        of("cosine/mean") or rows.get((f"{case}, untrained", "cosine/mean")),
    )
    bound = "≥ " if reached and "not reached" in reached["note"] else ""
    return [
        case,
        f"{_measured(of('train/test_accuracy'), 1)} %",
        _measured(of("train/loss"), 2) or "diverged",
        _measured(of("train/steps"), 0),
        f"{rows[case, 'train/rate']['value']:g}",
        f"{bound}{reached['value']:.2f}" if reached else "",
        _measured(cosine, 3),
    ]


def _measured(row: Result | None, digits: int) -> str:
    if row is None:
        return ""
    interval = f" ± {row['ci95']:.{digits}f}" if row["ci95"] is not None else ""
    return f"{row['value']:.{digits}f}{interval}"


def _claim(ratios: Sequence[Result]) -> str:
    """What the measured ratios say about "up to twice as fast"."""
    values = [row["value"] for row in ratios]
    faster = sum(value < 1 for value in values)
    said = "In none of these cases is" if not faster else f"In {faster} of these {len(values)} cases is"
    return (
        "Baydin et al. report training with forward gradients up to twice as fast as with backprop. "
        f"{said} one forward gradient faster than one backprop gradient here; the ratio is between "
        f"{min(values):.2f} and {max(values):.2f}.\n"
    )


# ------------------------------------------------------------------------------------------------- gpu


def _gpu() -> str:
    paths = sorted(RESULTS.glob("gpu.*.json"))
    if not paths:
        return (
            "It has not been run on a GPU yet: none was at hand. Its code runs in miniature in the tests, on "
            "the CPU.\n"
        )
    return "\n".join(_gpu_table(path) for path in paths)


def _gpu_table(path: Path) -> str:
    result = read_json(path)
    rows = [
        [row["case"], f"`{row['metric']}`", f"{row['value']:.4g} {row['unit']}".strip()]
        for row in result["rows"]
    ]
    return markdown_table(["case", "metric", "value"], rows) + "\n" + provenance(result) + "\n"
