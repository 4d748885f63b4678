"""docs/results.md, the tables of docs/forward-mode.md and docs/when.md and their figures from the committed
JSON of ``bench/results``; no number in them is typed.

``python -m bench.render`` writes; with ``--check`` it fails if a page is not what it would write, but
for the ages of results, which change with every commit.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapt.compare import Comparison
from adapt.compare.figures import (
    break_even,
    errors_beside,
    save,
    score_against_seconds,
    score_against_shots,
    speedup_bars,
    time_to_score,
)
from adapt.compare.verdict import verdict
from adapt.files import read_json, write_text
from bench.lib.age import without_ages
from bench.lib.blocks import committed, reached
from bench.lib.figures import (
    adaptation_memory,
    memory_against_depth,
    memory_against_horizon,
    training_curves,
)
from bench.lib.paths import DOCS, RESULTS
from bench.lib.record import provenance
from bench.lib.runs import with_examples
from bench.pages import (
    distil,
    edge,
    forward_mode,
    heads,
    mixture,
    overhead,
    physics,
    posterior,
    prompts,
    scaling,
    starts,
    trust,
    when,
)

#: Pages with generated parts; of one page that of several results, one after the other.
EXPLAINED = (
    edge, distil, forward_mode, heads, mixture, overhead, physics, posterior, prompts, scaling, starts, trust,
    when,
)  # fmt: skip

TITLES = {
    "digits": "Real handwritten digits, glyph-pretrained conv4",
    "time_to_accuracy": "Time to accuracy: when the others get as far as forward",
    "time_to_error": "Time to error: trajectories of predators and prey",
    "vision": "Public images, inside a domain and across domains",
    "intents": "Intents: BANKING77 and CLINC150, all classes at once",
    "relations": "Relations in medical abstracts: FewRel 2.0",
    "fields": "Tables, forecasting, behaviour cloning",
    "volatility": "Volatility, day after day",
    "reviews": "Reviews of goods that are new: the twelve tasks of ARSC",
    "many_tasks": "Many tasks at once",
    "scaling": "Many processes",
    "edge": "Small devices",
    "distil": "Small devices: a smaller network",
    "trust": "How far a model may be believed",
    "privacy": "Little of any single example",
    "mixture": "Tasks of several kinds, and a mixture of subspaces",
    "meta_training": "Meta-training beside learn2learn and higher",
    "episodes": "Drawing episodes",
    "heads": "Heads on frozen features, beside easyfsl",
    "starts": "A start for everybody, on domains that it has not seen",
    "one_shot": "One shot: views of the only example of a class",
    "conditions": "The same classes under other conditions",
    "conditions.networks": "The same classes under other conditions, other networks",
    "physics": "Unknown physics: trajectories of new environments",
    "control": "Control: a pendulum after a hundred transitions",
    "selection": "Choice of hyper-parameters on validation tasks",
}
EXPLANATIONS = {
    "digits": """\
5-way tasks of scikit-learn's digits, which neither pretraining nor meta-training has seen; the tasks of all
seeds together. Differences are paired by task and come in points of accuracy. `compare/speedup_vs_retrain`
is the time in which full retraining (random initialisation, all training-pool images of the task's classes)
first reaches the method's accuracy on the same task, divided by the method's own time; other speed-ups are
ratios of whole times. They are medians over tasks, with a 95 % interval. All times come from one interleaved
run per seed and shots. The tasks share 719 query images, which is why ± is wider than 600 tasks would make it
([statistics](statistics.md)).""",
    "time_to_accuracy": """\
Every method on every task, five seeds together. `time/to_target_seconds` is when a method was first as
accurate as `forward` on the same task's queries, median over tasks; a method that can be looked at on its way
is judged at every look, which nobody could do without the labels of the queries, so this favours the others.
`time/to_target_failures` counts the tasks on which it never got there; its median is then a lower bound. A
speed-up against retraining counts the time to that accuracy, the others the whole of their time. Break-even
is the number of tasks after which meta-training has paid off against retraining each time.""",
    "time_to_error": """\
One trajectory of an environment that is new, and the error on sixteen others of it, each method as
`experiment=quickstart_physics` has it, but for retraining, which goes on for far longer.
Environments are those of split `wide`. `time/to_target_seconds` is when a method's error was first as small
as that of `forward`.""",
    "vision": """\
Each row is a start, a test and a method. Starts: `omniglot` and `cifar_fs` are conv4 networks trained on the
training classes of that data set; `conv4` is the one that was trained on glyphs; `signs` and `elsewhere` are
MobileNetV2 with weights of ImageNet at 96 px, meta-trained on other classes of traffic signs, and on
characters, photographs and glyphs but no signs. `pretrained` rows use nothing that was meta-learned; `start`
is the meta-learned φ₀ with a logistic head, `forward` moves from there by forward tangents, `backprop` by
backpropagation in the same space. Settings are chosen on validation classes of the start's own training
domains. With one shot nothing is left when an example is left out: `forward` then stays at φ₀. Splits of
Omniglot are disjoint in alphabets, which the usual split of the literature is not. Differences are paired by
task, in points.""",
    "intents": """\
The official 5-shot and 10-shot training sets and the official test sets, all intents at once, encoded by
all-MiniLM-L6-v2. Meta-training saw intents of the other data set only, without the topics they share.
Intervals are over test queries; there is one published training set of each size. `start` rows take the share
of the meta-learned start that leave-one-out on the support set chooses, `forward` and `backprop` move from
there; `other intents` rows take the whole of it. Seconds are of the processor.""",
    "relations": """\
5-way and 10-way tasks of the ten test relations of FewRel 2.0 (sentences of PubMed), encoded by
all-MiniLM-L6-v2; the two marked things and the sentence are averaged each. Meta-training and every choice saw
relations of Wikipedia only. `frozen` rows fit a head on the pretrained features, `whole start` rows on those
at the meta-learned φ₀; `start`, `forward` and `backprop` begin at the share of φ₀ (none, half, all) that
leave-one-out on the support set likes best. Differences are paired by task, in points. Seconds are of the
processor.""",
    "fields": """\
Small networks, meta-trained on training tasks of each field, beside the best cheap baseline. Settings are
chosen on validation tasks; test tasks are measured once. Differences are paired by task.""",
    "volatility": """\
Assets that are new, for a year of trading days after their first ten windows. Every day each method forecasts
the logarithm of the volatility of the next week from what is known by then. `learning every day` goes on by
`partial_fit`, one window a day; `forward` in differences is that. GARCH is fitted once a week, ridge on the
features of Corsi (2009) every day; `all assets` is of training assets. Forecasts that are of something else,
those of GARCH and last week's volatility, are read through a line fitted to validation assets. Settings are
chosen there too. Errors are squared, means over assets; differences are paired by asset.""",
    "episodes": """\
Tasks drawn per second, beside learn2learn's `TaskDataset` on the same arrays, in one interleaved run.""",
    "heads": """\
Five-way tasks on features of EfficientNet-Lite0 (ImageNet, 128 pixels), the same for all; fifteen queries of
each class, equally many, which transductive methods take for granted. Settings are the best on validation
tasks of Omniglot, CIFAR-FS and GTSRB together. `best` rows hold the method of ours that was best there
against that of easyfsl, inductive and transductive. `photographs`: features were centred on the mean of
photographs of training classes of CIFAR-FS. Of easyfsl, methods that are networks to be trained on episodes
are left out (FEAT, matching and relation networks). Differences are paired by task. Times are of adapting and
predicting, features at hand.""",
    "starts": """\
Every start was learned without the domain that it is tested on and without what is like it: characters by
hand and of fonts count as one for digits, too. `free` starts know only what anybody may use for anything,
`all` starts photographs and road signs as well. A logistic head on features of EfficientNet-Lite0 at 128
pixels, adapted not at all beyond that. `chosen` takes of none, half and all of the way what held-out examples
of the task speak for, and half of it with one example of a class. Differences to the network as it is are
paired by task, in points.""",
    "reviews": """\
MiniLM as it is, and where seventeen other kinds of goods taught it to start; from there, forward and backprop
steps on the ten labelled reviews, and a head of other goods' reviews that sees none of the task's (`head of
other goods`), or whose directions the ten reviews move along. Heads and settings were chosen on two further
kinds of goods. Test parts are as published, most of them praise: a method that knows no better is below the
most frequent class. Intervals are over the four kinds of goods.""",
    "meta_training": """\
MAML (second order) of the same network on the same tasks, with the same steps and rates; an outer step is 25
tasks, or 100: ours spends its time on the program of a step, whatever number of tasks it holds. Times are of
the processor, one thread, outer step by outer step in turns. `eval/mse` is the error on queries of others
after as many tasks each, and ours minus theirs is paired by task.""",
    "scaling": """\
Outer steps of meta-training by one process and by two (torchrun, gloo, one thread each), in turns, on one
machine; times of more are simulated, see [scaling](scaling.md). `cost/bytes`: what a process sends for one
step of one task of 25 examples. `clients`: vehicles on slippery roads, squared errors on moments of others
like them.""",
    "edge": """\
The same tasks by torch with exact tangents and by ONNX Runtime with central differences, whose width was
chosen on validation tasks, in floating point and with convolutions or matrix products in eight bits.
Differences are paired by task, in points. `cost/memory`: the process's peak of loading and adapting by that
of loading and one inference of the support set.""",
    "mixture": """\
Vehicles and sinusoids in one distribution, padded to one shape, and it is not said which a task is; seeds
together, each with an adapter of its own. `told the family` are two adapters, each learned on one family alone
in as many steps. `by evidence` also tries each subspace alone. Conditions: classes that stay, two labels of
each, under kinds of corruption; one training each.""",
    "trust": """\
Everything by its defaults. `tempered`: with the temperature that the support examples ask for, each held out.
`trust/refused`: the share that `predict(reject=0.05)` masks; of `queries` it should be 5 % at most. Wrong
labels: a fifth of each support set, changed at random.""",
    "privacy": """\
One step of Gauss–Newton from the sums of one driver's examples, clipped and with the noise that (ε, δ) asks
for, δ = 1e-5. The clip is chosen on validation vehicles.""",
    "distil": """\
The teacher is adapted to the labelled examples of a task. `labelled examples alone`: the student learned from
the same ones, by a head or by fine-tuning; `taught` students also learned what the teacher says of other
images of the same classes, none of which are queries or of the pool that queries are from (one of physical
signs, or of scans). `eight bits` is the teacher adapted and run as in the section above. Settings were chosen
on validation tasks: of other signs, and of characters by hand for digits. Differences are paired by task, in
points. `cost/size` is of the exported file, `time/inference` of one example by ONNX Runtime, one thread.""",
    "many_tasks": """\
`fit_many` and `predict_many` beside one call a task, in processor time of one thread. `stacked` adapts all
tasks as one program whatever the size of the network, which `fit_many` does for small ones: a convolutional
network spends its time on numbers, and a stack of tasks only moves them out of the cache.""",
    "one_shot": """\
Tasks with one example of a class. `views` rows have four slightly changed copies of it besides, which teach
the head, or head and z; `trained at one shot` rows use an adapter whose meta-training had the same, the
others one of five-shot tasks. `trained` rows differ from `head` in their starting point too. What was chosen
on validation tasks is marked; test tasks were measured once. Differences are paired by task.""",
    "conditions": """\
CIFAR-100's 20 coarse classes under one or two of CIFAR-C's corruptions, the same for 40 support photographs
(two of a class, unless said otherwise) and the queries of a task. `head` rows fit a head to the support;
`classifier` rows and those without labels keep one of a thousand clean training photographs. `forward` and
`ours` move along meta-learned directions, all others in all of FiLM; `norms` have the statistics of the
support, or, in networks with layer or group norms, channel means as on clean photographs. FOA is the learning
rule alone, on FiLM in place of a prompt. Settings are chosen on validation kinds, which no meta-training saw;
test tasks were measured once. Differences are paired by task, in points. `worst kind` is the mean over the
tasks that a kind is part of, of the kind for which it is least.""",
    "conditions.networks": """\
The same tasks and methods with networks that were trained on the same clean photographs in minutes, and are
weaker for it; fewer tasks.""",
    "physics": """\
Mean squared error of whole trajectories, from one of an environment that is new (pendulum: five). `forward`
takes Gauss–Newton steps along the directions that the auto-decoder learned, `continuation` ten of them on
ever more of the trajectory; `descent on z` is Adam by backpropagation along the same directions, as CoDA
adapts its context; `all weights` fine-tunes the field from the same start; `maml` and `cavia` were
meta-trained for themselves, for about as long; `the equations` are known to the last method, which fits their
constants. Settings are chosen on validation environments. `compare/time_of_this` is the time of a method by
that of ten steps of ours; `compare/time_to_the_same_error` that of descent until it explains the given
trajectories as well as the forward method that validation environments chose. Goals for the error are what
CoDA reports (Kirchmeyer et al. 2022, table 1), which counts the given beginning of a trajectory as well.""",
    "control": """\
A cross-entropy planner swings a pendulum up for ten seconds. Returns are those of Pendulum-v1 of gymnasium, 0
at best; differences are paired by pendulum.""",
    "selection": """\
Tasks of glyph classes that neither pretraining nor meta-training uses, drawn as in meta-training. Every
method has at most nine settings on the same tasks; chosen is the cheapest within a tenth of a point of the
most accurate. Retraining is chosen by its time to 98 % on images held out of the digits' training pool.
Forward with `steps=0` is the meta-learned starting point alone, without adapting the backbone.""",
}


#: Figures of ``time_to_accuracy``: name, what it shows, how it is drawn.
TIMES = {
    "seconds": ("accuracy against seconds", score_against_seconds),
    "reached": ("time to the accuracy of forward", time_to_score),
    "speedups": ("speed-ups of forward", speedup_bars),
    "break_even": ("total time against the number of tasks", break_even),
}


def page() -> str:
    """The whole of docs/results.md."""
    parts = [
        "# Results",
        "Generated by `python -m bench.render` from the files in `bench/results`; do not edit. The numbers "
        "of commits are of when it was rendered: `python -m bench.ages` prints those of today.",
    ]
    for name, title in TITLES.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts += _section(name, title, read_json(path))
    return "\n\n".join(parts) + "\n"


def _section(name: str, title: str, result: Mapping[str, Any]) -> list[str]:
    rows = result["rows"]
    parts = [f"## {title}", EXPLANATIONS[name], provenance(result)]
    parts += ["\n".join(f"- {remark}" for remark in result["remarks"])] if result.get("remarks") else []
    parts += _goals(rows)
    if name == "digits":
        parts.append(_verdicts())
        parts += ["![accuracy against seconds](figures/digits_seconds.svg)"]
        parts += ["![accuracy against shots](figures/digits_shots.svg)"]
    if name == "time_to_accuracy":
        parts += [f"![{text}](figures/time_to_accuracy_{key}.svg)" for key, (text, _) in TIMES.items()]
    common = [
        metric for metric, n in Counter(row["metric"] for row in rows).items() if n > len(_cases(rows)) / 2
    ]
    rest = [row for row in rows if row["metric"] not in common]
    parts.append(_pivot(rows, common))
    if rest:
        parts.append("\n".join(f"- {row['case']}: `{row['metric']}` {_cell(row)}" for row in rest))
    return parts


def _runs() -> list[Comparison]:
    """The single comparisons behind the digits table; empty if they are not committed."""
    path = RESULTS / "digits.runs.json"
    runs = read_json(path)["runs"] if path.exists() else []
    return [with_examples(Comparison.from_dict(run)) for run in runs]


def _verdicts() -> str:
    """What the comparison itself recommends, in its own words, for every number of shots."""
    runs = [run for run in _runs() if run.seed == 0]
    return "\n".join(
        f"- {run.task['shots']} shot{'s' * (run.task['shots'] > 1)}, seed 0: {verdict(run)}" for run in runs
    )


def _goals(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        if row["goal"] is not None:
            sign = "≥" if row["higher_is_better"] else "≤"
            found = reached((row["value"] >= row["goal"]) == row["higher_is_better"])
            lines.append(
                f"- Goal {row['case']}, `{row['metric']}` {sign} {row['goal']:g}: {_cell(row)}, {found}."
            )
    return ["\n".join(lines)] if lines else []


def _pivot(rows: Iterable[Mapping[str, Any]], metrics: list[str]) -> str:
    rows = list(rows)
    found = {(row["case"], row["metric"]): row for row in rows}
    lines = [
        "| | " + " | ".join(f"`{metric}`" for metric in metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for case in _cases(rows):
        cells = [_cell(found[case, metric]) if (case, metric) in found else "" for metric in metrics]
        chosen = any(found.get((case, metric), {}).get("note") == "chosen" for metric in metrics)
        lines.append(f"| {f'**{case}** (chosen)' if chosen else case} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cases(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["case"] for row in rows))


def _cell(row: Mapping[str, Any]) -> str:
    value, unit, interval = row["value"], row["unit"], row["ci95"]
    if unit == "s" and value < 1:
        value, unit, interval = 1000 * value, "ms", interval and 1000 * interval
    sign = "+" if unit == "points" and value > 0 else ""
    digits = 2 if unit in ("%", "points") or abs(value) < 10 else 1
    places = 2
    if 0 < abs(value) < 0.1 and unit not in ("%", "points"):
        digits = places = 4
    kind = "g" if 0 < abs(value) < 1e-3 and unit == "" else "f"  # errors of any size
    digits, places = (3, 2) if kind == "g" else (digits, places)
    text = (
        f"{sign}{value:.{digits}{kind}}"
        + (f" ± {interval:.{places}{kind}}" if interval is not None else "")
        + f" {unit}"
    )
    extra = [f"n = {row['n']}"] if row["n"] else []
    extra += [row["note"]] if row["note"] not in ("", "chosen") else []
    return text.strip() + (f" ({', '.join(extra)})" if extra else "")


def figures() -> Iterable[Path]:
    """The figures of the page, and the picture of the README."""
    yield from _forward_figures()
    if (result := committed("time_to_accuracy.runs")) is not None:
        (run,) = (with_examples(Comparison.from_dict(found)) for found in result["runs"])
        for name, (_, draw) in TIMES.items():
            yield from save(draw(run), DOCS / "figures" / f"time_to_accuracy_{name}")
    runs = _runs()
    if not runs:
        return
    if (result := committed("time_to_error.runs")) is not None:
        classes = next(run for run in runs if run.task["shots"] == 5)
        both = [classes, Comparison.from_dict(result["runs"][0])]
        yield from save(errors_beside(both), DOCS / "figures" / "error_against_seconds")
    first = next(r for r in runs if r.task["shots"] == 5 and any(m.curves for m in r.methods.values()))
    seconds = save(score_against_seconds(first), DOCS / "figures" / "digits_seconds")
    yield from [*seconds, *save(score_against_shots(runs), DOCS / "figures" / "digits_shots")]


def _forward_figures() -> Iterable[Path]:
    if (result := committed("memory")) is not None:
        yield from save(adaptation_memory(result), DOCS / "figures" / "adaptation_memory")
    if (result := committed("physics")) is not None:
        yield from save(memory_against_horizon(result), DOCS / "figures" / "horizon_memory")
    if (result := committed("forward_vs_backprop")) is not None:
        yield from save(training_curves(result), DOCS / "figures" / "forward_training")
        yield from save(memory_against_depth(result), DOCS / "figures" / "forward_memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="compare instead of writing; exit code 1 if out of date"
    )
    arguments = parser.parse_args()
    pages = {DOCS / "results.md": page()}
    for explained in EXPLAINED:
        text = pages.get(explained.PAGE) or explained.PAGE.read_text(encoding="utf-8")
        pages[explained.PAGE] = explained.filled(text)
    if arguments.check:
        for target, text in pages.items():
            found = target.read_text(encoding="utf-8") if target.exists() else ""
            if without_ages(found) != without_ages(text):
                sys.exit(f"docs/{target.name} is not what bench/results says: run python -m bench.render")
        return
    for target, text in pages.items():
        write_text(target, text)
    for path in figures():
        print(path)


if __name__ == "__main__":
    main()
