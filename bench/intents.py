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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.backbones import load_backbone
from adapt.files import read_json, write_json
from adapt.heads import Head, Logistic, LogisticCV, Prototype, Ridge, one_hot
from adapt.inner import Linearised
from adapt.spaces import lora
from bench.lib.intent_baselines import Budget, Predict, peft_lora, setfit, train_whole
from bench.lib.intent_data import Benchmark, benchmarks, small_benchmarks
from bench.lib.record import Row, folder_of, report
from bench.lib.text_learning import Learning, Settings, held_out, kept_tensor
from bench.lib.text_study import Scores, gap_row, processor, score_rows, until_option, work_off
from bench.lib.texts import Bag, Encoder, fit

DEPENDS = (
    "adapt/adapter", "adapt/backbones", "adapt/forward", "adapt/heads", "adapt/inner", "adapt/spaces",
    "bench/lib/intent_baselines.py", "bench/lib/intent_data.py", "bench/lib/text_learning.py",
    "bench/lib/texts.py",
)  # fmt: skip
BACKBONE, TOKENS, RANK = "hf:minilm", 32, 4
HEAD = LogisticCV(l2=(0.003, 0.01, 0.03))
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FORWARD = [(k, steps, 1.0) for k in (2, 8) for steps in (1, 5)]
SHARES = (0.0, 0.25, 0.5, 1.0)
REFERENCE, LINEAR = "frozen, logistic", "forward, linearised"


@dataclass(frozen=True)
class Study:
    """One benchmark: what has been learned for it, and what is measured on it."""

    benchmark: Benchmark
    learning: Learning
    budget: Budget

    @property
    def encoder(self) -> Encoder:
        return self.learning.encoder

    @property
    def folder(self) -> Path:
        return self.learning.folder

    @cached_property
    def test(self) -> tuple[list[str], Tensor]:
        return self.benchmark.test.all()

    @cached_property
    def scores(self) -> dict[int, Scores]:
        """By number of shots."""
        return {shots: Scores(self.folder / f"{shots} shots.json") for shots in self.benchmark.shots}

    def head(
        self,
        head: Head,
        texts: Sequence[str],
        labels: Tensor,
        phi: Tensor | None,
        features: Tensor | None = None,
    ) -> Predict:
        """``head`` fitted on the features of the support set at φ."""
        state = fit(head, self.encoder.plain(texts, phi) if features is None else features, labels)
        return lambda new: head.logits(state, self.encoded(new, phi)).argmax(-1)

    def encoded(self, texts: Sequence[str], phi: Tensor | None) -> Tensor:
        """Features at φ; those of the test set at the pretrained weights are kept."""
        pretrained = phi is None or torch.equal(phi, self.encoder.space.initial)
        if not pretrained or texts is not self.test[0]:
            return self.encoder.plain(texts, phi)
        return kept_tensor(self.folder / "test, frozen.safetensors", lambda: self.encoder.plain(texts))

    # ------------------------------------------------------------------------------------ methods

    def frozen(self, head: Head, texts: Sequence[str], labels: Tensor) -> Predict:
        return self.head(head, texts, labels, None)

    def frozen_ridge(self, texts: Sequence[str], labels: Tensor) -> Predict:
        """Its regularisation, too, by leaving one out."""
        x, y = self.encoder.plain(texts), one_hot(labels, int(labels.max()) + 1)
        right = {l2: (Ridge(l2).loo_logits(x, y).argmax(-1) == labels).double().mean() for l2 in RIDGES}
        best = max(RIDGES, key=lambda l2: float(right[l2]))
        return self.head(Ridge(best), texts, labels, None, x)

    def origin(self, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Tensor:
        """φ at the share of φ₀ that leaving one out of the support set likes best; ``whole``: φ₀. Intents may
        be so different that a start learned on others does harm."""
        if whole:
            return self.learning.start
        there = {share: self.encoder.plain(texts, self.learning.at(share)) for share in SHARES}
        losses = {share: held_out(Logistic(0.01), x, labels) for share, x in there.items()}
        print(f"  held-out loss by share of the start: {losses}", flush=True)
        return self.learning.at(min(losses, key=losses.__getitem__))

    def started(self, head: Head, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Predict:
        return self.head(head, texts, labels, self.origin(texts, labels, whole))

    def linearised(self, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Predict:
        phi = self.learning.linearised(self.origin(texts, labels, whole), texts, labels)
        return self.head(HEAD, texts, labels, phi)

    def auto(self, texts: Sequence[str], labels: Tensor) -> Predict:
        phi, trace = self.learning.auto(self.origin(texts, labels), texts, labels, 1.0)
        print(f"  {trace.choice}", flush=True)
        return self.head(HEAD, texts, labels, phi)

    def backprop(self, texts: Sequence[str], labels: Tensor, whole: bool = False) -> Predict:
        phi = self.learning.backprop(self.origin(texts, labels, whole), texts, labels)
        return self.head(HEAD, texts, labels, phi)

    def lora(self, texts: Sequence[str], labels: Tensor) -> Predict:
        return peft_lora(self.encoder, texts, labels, self.budget)

    def setfit(self, texts: Sequence[str], labels: Tensor) -> Predict:
        return setfit(texts, labels, self.budget)


Method = Callable[[Study, Sequence[str], Tensor], Predict]
METHODS: dict[str, Method] = {
    "frozen, prototypes": lambda study, *task: study.frozen(Prototype(), *task),
    "frozen, ridge": Study.frozen_ridge,
    REFERENCE: lambda study, *task: study.frozen(HEAD, *task),
    "start, logistic": lambda study, *task: study.started(HEAD, *task),
    LINEAR: Study.linearised,
    "backprop": Study.backprop,
    "other intents, prototypes": lambda study, *task: study.started(Prototype(), *task, whole=True),
    "other intents, logistic": lambda study, *task: study.started(HEAD, *task, whole=True),
    "other intents, forward, linearised": lambda study, *task: study.linearised(*task, whole=True),
    "other intents, backprop": lambda study, *task: study.backprop(*task, whole=True),
    "LoRA (PEFT)": Study.lora,
    "SetFit": Study.setfit,
    "forward, auto": Study.auto,
}
OURS = ("start, logistic", LINEAR, "forward, auto")
LIBRARIES = ("LoRA (PEFT)", "SetFit")
#: Measured last, and but for the libraries with five shots only.
DEAR = (*LIBRARIES, "forward, auto", *(name for name in METHODS if name.startswith("other")))


def measure(study: Study, shots: int, name: str) -> None:
    """Adapts once, predicts the test set once, and keeps what was right, and the seconds."""
    scores = study.scores[shots]
    if scores.of(name):
        return
    texts, labels = study.benchmark.shots[shots].all()
    if name not in LIBRARIES and not name.startswith("frozen"):
        _ = study.learning.state, study.learning.chosen  # learned and chosen before the clock starts
    predict, seconds = processor(METHODS[name], study, texts, labels)
    test, truth = study.test
    right = (predict(test) == truth).double()
    scores.add(name, right.tolist(), [seconds])
    scores.save()
    told = f"{100 * right.mean():.2f} %, {seconds:.1f} s"
    print(f"{study.benchmark.name}, {shots} shots, {name}: {told}", flush=True)


def measure_whole(study: Study) -> None:
    """Fine-tuning on the whole training set until it is as good as ours from five shots."""
    path, ours = study.folder / "whole.json", study.scores[5].of(LINEAR)
    if path.exists() or not ours:
        return
    target = float(np.mean(ours))
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
    yield from study.learning.rows(f"{name}: start")
    for shots, scores in study.scores.items():
        for method in METHODS:
            if not scores.of(method):
                continue  # --until came first
            case, (seconds,) = f"{name}, {shots} shots: {method}", scores.seconds(method)
            goal = study.benchmark.goal(shots) if method in OURS else None
            yield from score_rows(case, scores.of(method), [seconds], goal=goal, note="processor")
            if scores.of(LINEAR) and method != LINEAR:
                ratio = seconds / scores.seconds(LINEAR)[0]
                yield Row.cost(case, "compare/time_of_forward", ratio, n=1)
            if method != REFERENCE and scores.of(REFERENCE):
                yield gap_row(case, "compare/accuracy_vs_head", scores.of(method), scores.of(REFERENCE))
    if (study.folder / "whole.json").exists():
        whole, case = read_json(study.folder / "whole.json"), f"{name}: fine-tuning on the whole training set"
        score, target, n = 100 * whole["score"], 100 * whole["target"], whole["n"]
        note = "" if score >= target else f"≥: {score:.1f} % when it was stopped"
        yield Row(case, "eval/accuracy", score, "%", n=n, note=f"wanted {target:.1f}")
        yield Row.cost(case, "time/to_target_seconds", whole["seconds"], "s", n=1, note=note)


def save(study: Study) -> None:
    """The adapter as it was chosen, for others to use."""
    it = study.learning
    k, steps, damping, _ = it.chosen["forward"]
    settings = {name: str(value) for name, value in vars(it.settings).items()}
    adapter = FewShotAdapter(
        it.encoder.backbone,
        it.encoder.space,
        it.state.leading(int(k)),
        Linearised(int(steps), damping),
        LogisticCV(),
        backbone_name=BACKBONE,
        info={"training": {"log": it.log, "settings": settings}},
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


def studies_of(quick: bool, folder: Path) -> list[Study]:
    backbone = Bag().eval().requires_grad_(False) if quick else load_backbone(BACKBONE, max_tokens=TOKENS)[0]
    encoder = Encoder(backbone, lora(backbone, rank=RANK))
    settings, budget = (SMALL, Budget(seconds=0.2, watch_every=0.1)) if quick else (Settings(), Budget())
    return [
        Study(it, Learning(encoder, it.learn, it.validate, settings, folder / it.name, FORWARD), budget)
        for it in (small_benchmarks() if quick else benchmarks())
    ]


def main() -> None:
    arguments = until_option(__doc__).parse_args()
    studies = studies_of(arguments.quick, folder_of("intents", arguments))
    methods = [name for name in METHODS if not (arguments.quick and name in LIBRARIES)]
    work: list[Callable[[], None]] = []
    for study in studies:
        cheap = [name for name in methods if name not in DEAR]
        work += [partial(measure, study, shots, name) for shots in (5, 10) for name in cheap]
        work += [partial(save, study)]
    for study in studies:
        work += [partial(measure, study, 5, name) for name in methods if name in DEAR]
    work += [partial(measure_whole, study) for study in studies]
    work += [partial(measure, study, 10, name) for study in studies for name in methods if name in LIBRARIES]
    work_off(work, arguments.until)
    found = [row for study in studies for row in rows_of(study)]
    report("intents", found, arguments, remarks=REMARKS)


if __name__ == "__main__":
    main()
