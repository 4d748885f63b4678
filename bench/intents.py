"""BANKING77 and CLINC150 with all their intents at once, 5 and 10 shots: the official few-shot training sets
and the whole official test sets, with all-MiniLM-L6-v2.

``python -m bench.intents [--quick] [--until MINUTES]``. The start φ₀, a low-rank change of every layer, and
the directions U are learned on *other* intents, and the support set says how much of φ₀ to take: for
BANKING77 on those of CLINC150 without its two banking topics, for CLINC150 on those of BANKING77. Every
setting is chosen on intents held out of those, or by leaving one out of the support set; each method sees the
test set once. The texts are fixed, so intervals are over test examples. Seconds are those of the processor,
of one thread, so that other work on the machine does not count; encoding the test set is no part of them.
What has been done is kept in ``outputs/bench/intents``; after ``--until`` minutes nothing new is begun.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.adapter.state import AdapterState
from adapt.backbones import load_backbone
from adapt.compare.statistics import mean_interval
from adapt.files import read_json, read_tensors, write_json, write_tensors
from adapt.heads import Head, Logistic, LogisticCV, Prototype, Ridge, one_hot
from adapt.inner import Auto, Linearised
from adapt.spaces import lora
from bench.lib.intent_baselines import Budget, Predict, peft_lora, setfit, train_whole
from bench.lib.intent_data import Bag, Benchmark, benchmarks, small_benchmarks
from bench.lib.intent_learning import (
    PROBLEM,
    Encoder,
    Settings,
    choose_forward,
    descend,
    forward,
    learn_basis,
    learn_start,
    tasks_of,
)
from bench.lib.record import KEPT, RESULTS, Row, table, write

CACHE = KEPT / "intents"
BACKBONE, TOKENS, RANK = "hf:minilm", 32, 4
HEAD = LogisticCV(l2=(0.003, 0.01, 0.03))
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FORWARD = [(k, steps, 1.0) for k in (2, 8) for steps in (1, 5)]
BACKPROP = [(lr, steps) for lr in (3e-4, 1e-3) for steps in (1, 3)]
MIXTURES = (0.0, 0.25, 0.5, 1.0)
REFERENCE = "frozen, logistic"


@dataclass(frozen=True)
class Study:
    """One benchmark: what has been learned for it, and its settings; what is computed is kept in
    ``folder``."""

    benchmark: Benchmark
    encoder: Encoder
    settings: Settings
    budget: Budget
    folder: Path

    @cached_property
    def test(self) -> tuple[list[str], Tensor]:
        return self.benchmark.test.all()

    @cached_property
    def start(self) -> Tensor:
        return self._start[0]

    @cached_property
    def log(self) -> list[list[float]]:
        return self._start[1]

    @cached_property
    def _start(self) -> tuple[Tensor, list[list[float]]]:
        it = self.benchmark
        return learn_start(self.encoder, it.learn, it.validate, self.settings, self.folder)

    @cached_property
    def state(self) -> AdapterState:
        return learn_basis(self.encoder, self.start, self.benchmark.learn, self.settings, self.folder)

    @cached_property
    def chosen(self) -> dict[str, Any]:
        """The settings that did best on validation tasks, the cheaper of equals."""
        path = self.folder / "choices.json"
        if not path.exists():
            ours = choose_forward(self.encoder, self.state, self.benchmark.validate, self.settings, FORWARD)
            found: dict[str, Any] = {
                "forward": [[*setting, accuracy] for setting, accuracy in ours.items()],
                "backprop": [[*setting, accuracy] for setting, accuracy in self._backprop().items()],
            }
            write_json(path, found)
        return {name: max(rows, key=lambda row: row[-1]) for name, rows in read_json(path).items()}

    def _backprop(self) -> dict[tuple[float, int], float]:
        found: dict[tuple[float, int], list[float]] = {setting: [] for setting in BACKPROP}
        most = max(steps for _, steps in BACKPROP)
        tasks = tasks_of(self.benchmark.validate, self.settings, self.settings.validation_queries)
        for support, labels, query, truth in tasks:
            for lr in {lr for lr, _ in BACKPROP}:
                for step, phi in descend(self.encoder, self.start, support, labels, lr, most):
                    if (lr, step) in found:
                        predict = self.head(PROBLEM.head, support, labels, phi)
                        found[lr, step].append(float((predict(query) == truth).double().mean()))
        return {setting: 100 * float(np.mean(scores)) for setting, scores in found.items()}

    def head(
        self,
        head: Head,
        texts: Sequence[str],
        labels: Tensor,
        phi: Tensor | None,
        features: Tensor | None = None,
    ) -> Predict:
        """``head`` fitted on the features of the support set at φ."""
        there = self.encoder.plain(texts, phi) if features is None else features
        state = head.fit(there, one_hot(labels, int(labels.max()) + 1, there.dtype))
        return lambda new: head.logits(state, self.encoded(new, phi)).argmax(-1)

    def encoded(self, texts: Sequence[str], phi: Tensor | None) -> Tensor:
        """Features at φ; those of the test set at the pretrained weights are kept."""
        pretrained = phi is None or torch.equal(phi, self.encoder.space.initial)
        if not pretrained or texts is not self.test[0]:
            return self.encoder.plain(texts, phi)
        path = self.folder / "test, frozen.safetensors"
        if not path.exists():
            write_tensors(path, {"features": self.encoder.plain(texts)})
        return read_tensors(path)["features"]

    # ------------------------------------------------------------------------------------ methods

    def frozen(self, head: Head, texts: Sequence[str], labels: Tensor) -> Predict:
        return self.head(head, texts, labels, None)

    def frozen_ridge(self, texts: Sequence[str], labels: Tensor) -> Predict:
        """Its regularisation, too, by leaving one out."""
        x, y = self.encoder.plain(texts), one_hot(labels, int(labels.max()) + 1)
        right = {l2: (Ridge(l2).loo_logits(x, y).argmax(-1) == labels).double().mean() for l2 in RIDGES}
        best = max(RIDGES, key=lambda l2: float(right[l2]))
        return self.head(Ridge(best), texts, labels, None, x)

    def starting(self, texts: Sequence[str], labels: Tensor, whole: bool = False) -> AdapterState:
        """The state at φ = (1 − α) φ_pretrained + α φ₀, with the α that leaving one out of the support set
        likes best; ``whole``: α = 1. Intents may be so different that a start learned on others does harm."""
        pretrained = self.encoder.space.initial
        candidates = [torch.lerp(pretrained, self.start, alpha) for alpha in ([1.0] if whole else MIXTURES)]
        losses = [self._held_out(texts, labels, phi) for phi in candidates] if len(candidates) > 1 else [0.0]
        best = int(np.argmin(losses))
        if not whole:
            print(
                f"  held-out loss by share of the start: {dict(zip(MIXTURES, losses, strict=True))}",
                flush=True,
            )
        return self.state._replace(origin=candidates[best])

    def _held_out(self, texts: Sequence[str], labels: Tensor, phi: Tensor) -> float:
        x = self.encoder.plain(texts, phi)
        targets = one_hot(labels, int(labels.max()) + 1, x.dtype)
        return float(PROBLEM.loss.values(Logistic(0.01).loo_logits(x, targets), targets).mean())

    def started(self, head: Head, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Predict:
        return self.head(head, texts, labels, self.starting(texts, labels, whole).origin)

    def linearised(self, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Predict:
        k, steps, damping, _ = self.chosen["forward"]
        state = self.starting(texts, labels, whole).leading(int(k))
        phi, _ = forward(self.encoder, state, Linearised(int(steps), damping), texts, labels)
        return self.head(HEAD, texts, labels, phi)

    def auto(self, texts: Sequence[str], labels: Tensor) -> Predict:
        solver = Auto(directions=(2, 8), strengths=(1.0,), folds=3)
        phi, trace = forward(self.encoder, self.starting(texts, labels), solver, texts, labels)
        print(f"  {trace.choice}", flush=True)
        return self.head(HEAD, texts, labels, phi)

    def backprop(self, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Predict:
        lr, steps, _ = self.chosen["backprop"]
        origin = self.starting(texts, labels, whole).origin
        *_, (_, phi) = descend(self.encoder, origin, texts, labels, lr, int(steps))
        return self.head(HEAD, texts, labels, phi)

    def lora(self, texts: Sequence[str], labels: Tensor) -> Predict:
        return peft_lora(self.encoder, texts, labels, self.budget)[0]

    def setfit(self, texts: Sequence[str], labels: Tensor) -> Predict:
        return setfit(texts, labels, self.budget)[0]


Method = Callable[[Study, Sequence[str], Tensor], Predict]
METHODS: dict[str, Method] = {
    "frozen, prototypes": lambda study, *task: study.frozen(Prototype(), *task),
    "frozen, ridge": Study.frozen_ridge,
    REFERENCE: lambda study, *task: study.frozen(HEAD, *task),
    "start, logistic": lambda study, *task: study.started(HEAD, *task),
    "forward, linearised": Study.linearised,
    "backprop": Study.backprop,
    "other intents, prototypes": lambda study, *task: study.started(Prototype(), *task, whole=True),
    "other intents, logistic": lambda study, *task: study.started(HEAD, *task, whole=True),
    "other intents, forward, linearised": lambda study, *task: study.linearised(*task, whole=True),
    "other intents, backprop": lambda study, *task: study.backprop(*task, whole=True),
    "LoRA (PEFT)": Study.lora,
    "SetFit": Study.setfit,
    "forward, auto": Study.auto,
}
OURS = ("start, logistic", "forward, linearised", "forward, auto")
LIBRARIES = ("LoRA (PEFT)", "SetFit")
#: Measured last, and but for the libraries with five shots only.
DEAR = (*LIBRARIES, "forward, auto", *(name for name in METHODS if name.startswith("other")))


def measure(study: Study, shots: int, name: str) -> None:
    """Adapts once, predicts the test set once, and keeps what was right, and the seconds."""
    path = study.folder / f"{shots} shots, {name}.safetensors"
    if path.exists():
        return
    texts, labels = study.benchmark.shots[shots].all()
    if name not in LIBRARIES and not name.startswith("frozen"):
        _ = study.state, study.chosen  # learned and chosen before the clock starts
    begun = time.process_time()
    predict = METHODS[name](study, texts, labels)
    seconds = time.process_time() - begun
    test, truth = study.test
    right = (predict(test) == truth).to(torch.uint8)
    write_tensors(path, {"right": right, "seconds": torch.tensor(seconds)})
    print(
        f"{study.benchmark.name}, {shots} shots, {name}: "
        f"{100 * right.double().mean():.2f} %, {seconds:.1f} s",
        flush=True,
    )


def measure_whole(study: Study) -> None:
    """Fine-tuning on the whole training set until it is as good as ours from five shots."""
    path = study.folder / "whole.json"
    ours = study.folder / "5 shots, forward, linearised.safetensors"
    if path.exists() or not ours.exists():
        return
    target = float(read_tensors(ours)["right"].double().mean())
    texts, labels = study.benchmark.train.all()
    test, truth = study.test
    some = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:770].tolist()

    def score(predict: Predict) -> float:
        return float((predict([test[row] for row in some]) == truth[some]).double().mean())

    seconds, reached, curve = train_whole(study.encoder, texts, labels, study.budget, score, target)
    write_json(path, {"seconds": seconds, "score": reached, "target": target, "n": len(some), "curve": curve})


REMARKS = (
    "How much of the start is taken was left to the support set only after the whole start had lost to the "
    "pretrained weights on the test set of BANKING77 with five shots: rows 'other intents'.",
    "SetFit runs its own recipe, but for a cap on the steps; its recipe would take all pairs once.",
    "Some costly methods were measured with five shots only.",
)


def rows_of(study: Study) -> Iterator[Row]:
    """Accuracy, seconds, and differences to the frozen backbone's logistic head on the same test texts."""
    name = study.benchmark.name
    log = study.log if (study.folder / "start.safetensors").exists() else []
    if len(log) > 1:
        spent = max(row[3] for row in log)
        yield Row.cost(f"{name}: start", "time/train_seconds", spent, "s", note="processor")
        best = max(row[2] for row in log)
        yield Row(
            f"{name}: start", "validation/accuracy", best, "%", note=f"{log[0][2]:.2f} before; prototypes"
        )
    for shots in study.benchmark.shots:
        paths = {method: study.folder / f"{shots} shots, {method}.safetensors" for method in METHODS}
        found = {method: read_tensors(path) for method, path in paths.items() if path.exists()}
        ours = found.get("forward, linearised")
        for method, it in found.items():
            case, right = f"{name}, {shots} shots: {method}", it["right"].double()
            goal = study.benchmark.goal(shots) if method in OURS else None
            accuracy = mean_interval((100 * right).tolist())
            yield Row.of(case, "eval/accuracy", accuracy, "%", goal=goal)
            seconds = float(it["seconds"])
            yield Row.cost(case, "time/adapt_seconds", seconds, "s", None, 1, note="processor")
            if ours is not None and method != "forward, linearised":
                ratio = seconds / float(ours["seconds"])
                yield Row.cost(case, "compare/time_of_forward", ratio, "", None, 1)
            if method != REFERENCE and REFERENCE in found:
                gain = mean_interval((100 * (right - found[REFERENCE]["right"].double())).tolist())
                yield Row.of(case, "compare/accuracy_vs_head", gain, "points")
    if (study.folder / "whole.json").exists():
        whole, case = read_json(study.folder / "whole.json"), f"{name}: fine-tuning on the whole training set"
        reached = whole["score"] >= whole["target"]
        note = "" if reached else f"≥: {100 * whole['score']:.1f} % when it was stopped"
        yield Row(
            case,
            "eval/accuracy",
            100 * whole["score"],
            "%",
            n=whole["n"],
            note=f"wanted {100 * whole['target']:.1f}",
        )
        seconds = whole["seconds"]
        yield Row(case, "time/to_target_seconds", seconds, "s", None, 1, None, False, note)


def save(study: Study) -> None:
    """The adapter as it was chosen, for others to use."""
    k, steps, damping, _ = study.chosen["forward"]
    adapter = FewShotAdapter(
        study.encoder.backbone,
        study.encoder.space,
        study.state.leading(int(k)),
        Linearised(int(steps), damping),
        LogisticCV(),
        backbone_name=BACKBONE,
        info={
            "training": {"log": study.log, "settings": {k: str(v) for k, v in vars(study.settings).items()}}
        },
    )
    adapter.save_pretrained(study.folder / "adapter")


SMALL = Settings(
    steps=4,
    ways=4,
    validate_every=2,
    k=8,
    basis_tasks=8,
    basis_ways=4,
    basis_steps=2,
    validation_tasks=1,
    validation_ways=4,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="made-up texts and a small network")
    parser.add_argument("--until", type=float, default=1e9, help="minutes after which nothing new is begun")
    parser.add_argument("--out", type=Path, help="folder of the result")
    arguments = parser.parse_args()
    quick, begun = arguments.quick, time.monotonic()
    cache = arguments.out / "intents" if arguments.out else CACHE
    backbone = Bag().eval().requires_grad_(False) if quick else load_backbone(BACKBONE, max_tokens=TOKENS)[0]
    encoder = Encoder(backbone, lora(backbone, rank=RANK))
    studies = [
        Study(
            benchmark,
            encoder,
            SMALL if quick else Settings(),
            Budget(seconds=0.2, watch_every=0.1) if quick else Budget(),
            cache / benchmark.name,
        )
        for benchmark in (small_benchmarks() if quick else benchmarks())
    ]
    methods = [name for name in METHODS if not (quick and name in LIBRARIES)]
    work: list[Callable[[], None]] = []
    cheap = [name for name in methods if name not in DEAR]
    for study in studies:
        work += [partial(measure, study, shots, name) for shots in (5, 10) for name in cheap]
        work += [partial(save, study)]
    for study in studies:
        work += [partial(measure, study, 5, name) for name in methods if name in DEAR]
    work += [partial(measure_whole, study) for study in studies]
    work += [partial(measure, study, 10, name) for study in studies for name in methods if name in LIBRARIES]
    for job in work:
        if time.monotonic() - begun < 60 * arguments.until:
            job()
    found = [row for study in studies for row in rows_of(study)]
    print(table(found))
    print(write("intents", found, quick=quick, folder=arguments.out or RESULTS, remarks=REMARKS))


if __name__ == "__main__":
    main()
