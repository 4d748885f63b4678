"""Hyper-parameters of every method, chosen on validation tasks: glyph classes seen in no training.

``python -m bench.selection [--quick]``. Every method gets the same tasks and at most nine settings. The
winners are what ``conf/`` holds. Digits are not touched here, except that the rate of retraining is chosen on
held-out images of the digits' *training* pool.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import torch

from adapt.adapter import Context, Forward, Method, load
from adapt.app.progress import progress
from adapt.app.stages.session import distribution
from adapt.backbones import load_backbone
from adapt.baselines import Backprop, Finetune, HeadOnly, Retrain
from adapt.compare import ACCURACY, Comparison, compare
from adapt.files import read_json
from adapt.heads import Logistic, Prototype, Ridge
from adapt.inner import Descent, GaussNewton
from bench.lib.domain_tasks import MINIATURE, composed
from bench.lib.paths import RESULTS
from bench.lib.record import Row, options, report
from tasks import ArraySource, Digits, Distribution

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/baselines", "adapt/forward", "adapt/heads", "adapt/inner",
    "adapt/pretrained", "adapt/spaces", "tasks/distribution.py", "tasks/images",
)  # fmt: skip
METHODS = ("logistic", "ridge", "forward", "backprop", "finetune", "retrain")


def grids(head: Logistic) -> dict[str, dict[str, Method]]:
    """Settings by method, at most nine each, all with ``head`` on the adapted features."""
    heads = {f"l2={l2}": HeadOnly(Logistic(l2=l2)) for l2 in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
    ridge = {f"l2={l2}": HeadOnly(Ridge(l2=l2)) for l2 in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
    forward = {
        f"steps={s} k={k} damping={d}": Forward(GaussNewton(s, d), head, k)
        for s, k, d in [
            (1, 8, 1.0),
            (2, 8, 1.0),
            (3, 8, 1.0),
            (1, 8, 0.3),
            (1, 8, 3.0),
            (1, 4, 1.0),
            (1, 2, 1.0),
            (2, 4, 1.0),
            (0, 8, 1.0),
        ]
    }
    backprop = {
        f"lr={lr} steps={s}": Backprop(Descent("adam", lr, s), head)
        for lr, s in product((0.001, 0.003, 0.01), (3, 5, 10))
    }
    finetune = {
        f"lr={lr} steps={s}": Finetune(lr, s, head) for lr, s in product((3e-5, 1e-4, 3e-4), (3, 5, 10))
    }
    return {"logistic": heads, "ridge": ridge, "forward": forward, "backprop": backprop, "finetune": finetune}


def run(
    methods: Mapping[str, Method], tasks: Distribution, context: Context, n: int, name: str
) -> Comparison:
    """All settings of one method, interleaved on the same tasks."""
    return compare(
        methods,
        tasks,
        context,
        experiment=name,
        task={},
        tasks=n,
        device=torch.device("cpu"),
        memory=False,
        progress=progress(name),
    )


def rows_of(result: Comparison, name: str) -> list[Row]:
    """Accuracy and cost of every setting; chosen is the cheapest within a tenth of a point of the best."""
    best = max(m.mean_score.mean for m in result.methods.values())
    near = [m for m in result.methods.values() if best - m.mean_score.mean <= 0.001 + 1e-9]
    chosen = min(near, key=lambda m: (round(m.forward_equivalents, 2), -m.mean_score.mean))
    rows = []
    for method in result.methods.values():
        accuracy = method.mean_score.times(100)
        case = f"{name}: {method.name}"
        note = "chosen" if method is chosen else ""
        rows.append(Row.of(case, "eval/accuracy", accuracy, "%", note=note))
        rows.append(Row.cost(case, "cost/forward_equivalents", method.forward_equivalents, "FE"))
    return rows


def retrain_rows(context: Context, quick: bool) -> list[Row]:
    """Rate and batch of retraining, judged on a fifth of the digits' training pool, trained on the rest."""
    digits = Digits()
    pool = digits.classes("support")
    everything = digits.load(np.arange(digits.card.counts["examples"])).numpy()
    members: dict[str, dict[str, np.ndarray]] = {"support": {}, "query": {}}
    for label, rows in pool.items():
        shuffled = np.random.default_rng(0).permutation(rows)
        cut = len(shuffled) // 5
        members["query"][label], members["support"][label] = shuffled[:cut], shuffled[cut:]
    source = ArraySource(digits.card, everything, members)
    small = {"ways": 2, "queries": 3} if quick else {}
    tasks = Distribution(source, support_split="support", query_split="query", seed=10**6, **small)

    def train_pool(
        classes: tuple[str, ...], reserved: tuple[int, ...] = ()
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = [members["support"][name] for name in classes]
        labels = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        return source.load(np.concatenate(chosen)), torch.as_tensor(labels)

    settings = list(product((1e-3, 3e-3, 1e-2), (16, 32, 64)))[: 1 if quick else None]
    methods = {
        f"lr={lr} batch={b}": Retrain(lr=lr, batch=b, epochs=1 if quick else 8, max_tasks=None)
        for lr, b in settings
    }
    n = 1 if quick else 3
    result = run(methods, tasks, context._replace(pool=train_pool), n, "retrain")
    rows = []
    for method in result.methods.values():
        reached = [
            c.first_reach(0.98, ACCURACY) or s for c, s in zip(method.curves, method.seconds, strict=True)
        ]
        case, accuracy = f"retrain: {method.name}", method.mean_score.times(100)
        rows.append(
            Row(
                case,
                "eval/accuracy",
                accuracy.mean,
                "%",
                accuracy.ci95,
                n,
            )
        )
        rows.append(Row.cost(case, "time/to_98_percent", float(np.median(reached)), "s", n=n))
    fastest = min((row for row in rows if row.metric.startswith("time/")), key=lambda row: row.value)
    return [Row(**{**vars(row), "note": "chosen" if row.case == fastest.case else ""}) for row in rows]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=METHODS, help="choose for these only"
    )
    arguments = parser.parse_args()
    config = composed("experiment=meta_glyphs", *(MINIATURE if arguments.quick else ()))
    # Episodes that meta-training's own validation, the first hundred, has not seen.
    tasks = distribution(config, split="validation", seed=10**6)
    backbone, _ = load_backbone("conv4_glyphs")
    context = Context(
        backbone, load("conv4_glyphs_film", backbone), lambda classes: (torch.empty(0), torch.empty(0)), 0
    )
    n = 2 if arguments.quick else 100
    rows = rows_of(run({"default": HeadOnly(Prototype())}, tasks, context, n, "prototype"), "prototype")
    for name, grid in grids(Logistic()).items():
        methods = dict(list(grid.items())[:2]) if arguments.quick else grid
        if name in arguments.methods:
            rows += rows_of(run(methods, tasks, context, n if name != "finetune" else min(n, 40), name), name)
    if "retrain" in arguments.methods:
        rows += retrain_rows(context, arguments.quick)
    if set(arguments.methods) != set(METHODS):  # the rest as it was measured before
        done = {row.case.split(":")[0] for row in rows}
        before = [Row(**row) for row in read_json(RESULTS / "selection.json")["rows"]]
        rows += [row for row in before if row.case.split(":")[0] not in done]
    report("selection", rows, arguments)


if __name__ == "__main__":
    main()
