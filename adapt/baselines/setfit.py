"""SetFit: the encoder of texts moves so that texts of a class are alike, then a head on its features.

    θ ← θ − AdamW(∇ (cos(f(x_i; θ), f(x_j; θ)) − [y_i = y_j])²)       over pairs of the support set

Tunstall et al. (2022), *Efficient Few-Shot Learning Without Prompts*, section 3, by the authors' library: its
pairs (as many alike as unlike ones: the fewer are repeated), its trainer and its defaults. Differences: the
head is one of ours (a logistic regression there, too), so that methods differ in the features alone; and
``max_steps`` cuts what grows with the square of the number of examples. The pairs are drawn in the library's
fixed order; ``seed`` is that of dropout and batches.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter.method import Adapt, Context, Predictor, Role, Support, Unfinished, Watch
from adapt.backbones import plain_call, require
from adapt.backbones.inputs import tokeniser
from adapt.baselines._module import trainable_copy, trained
from adapt.baselines._targets import support_for, targets_of
from adapt.checks import STEPS, TRAINING, WIDTH, check_settings, least, optional, positive
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic

__all__ = ["SetFit"]


@dataclass(frozen=True)
class SetFit:
    """``epochs`` over the pairs, ``batch`` pairs a step and at most ``max_steps`` steps (None = all), peak
    rate ``lr``, then ``head``. Accuracy is watched up to ``watches`` times on the way, first
    before the first step."""

    lr: float = 2e-5
    epochs: int = 1
    batch: int = 16
    max_steps: int | None = 100
    watches: int = 4
    head: Head = field(default_factory=Logistic)
    max_tasks: int | None = None
    role: Role = "finetune"
    keeps_backbone: bool = True

    def __post_init__(self) -> None:
        check_settings(
            self,
            "setfit",
            lr=positive(),
            epochs=least(1, ceiling=STEPS),
            batch=least(1, ceiling=WIDTH),
            watches=least(0),
            max_steps=optional(least(1, ceiling=TRAINING)),
            max_tasks=optional(least(1)),
        )

    def prepare(self, context: Context) -> Adapt:
        """See :class:`adapt.adapter.Method`.

        Raises:
            AdaptError: the backbone does not read texts, or SetFit is not installed.
        """
        if tokeniser(context.backbone) is None:
            raise AdaptError(
                f"setfit fine-tunes encoders of texts, and {type(context.backbone).__name__} does not read "
                "texts: leave setfit out of method=, or choose backbone=minilm and a task of texts"
            )
        library, transformers = require("setfit"), require("transformers")

        def adapt(support: Support, watch: Watch) -> Predictor:
            if support.regression:
                raise AdaptError(
                    "setfit learns from classes, and this task is a regression: leave setfit out of method="
                )
            support = support_for(context.backbone, support)
            body = _Rows(trained(trainable_copy(context.backbone)), support.x)
            with _undisturbed(transformers):
                self._train(library, transformers, body, support, watch, context.seed)
            body.to(support.x.device).eval()
            return self._predictor(body.network, support)

        return adapt

    def steps(self, labels: Sequence[int]) -> int:
        """Steps on a support set of these labels: with n_c examples of class c there are Σ n_c(n_c + 1)/2
        pairs that are alike, each example with itself among them."""
        counts, n = np.bincount(labels), len(labels)
        alike = int((counts * (counts + 1) // 2).sum())
        pairs = 2 * max(alike, n * (n + 1) // 2 - alike)
        steps = self.epochs * -(-pairs // self.batch)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def _train(
        self,
        library: ModuleType,
        transformers: ModuleType,
        body: "_Rows",
        support: Support,
        watch: Watch,
        seed: int,
    ) -> None:
        labels = support.y.tolist()
        steps = self.steps(labels)
        seen = {steps * i // max(self.watches, 1) for i in range(self.watches)}

        def on_step_begin(_: Any, arguments: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.global_step in seen:  # steps that are done
                body.eval()
                watch(Unfinished(lambda: self._predictor(body.network, support)))
                body.train()

        watching = type("Watching", (transformers.TrainerCallback,), {"on_step_begin": on_step_begin})
        sentences = require("sentence_transformers")
        with tempfile.TemporaryDirectory() as folder:
            model = library.SetFitModel(
                sentences.SentenceTransformer(modules=[body], device=str(support.x.device))
            )
            trainer = library.Trainer(
                model=model,
                args=library.TrainingArguments(
                    output_dir=folder,
                    batch_size=self.batch,
                    max_steps=steps,
                    body_learning_rate=self.lr,
                    report_to="none",
                    save_strategy="no",
                    logging_strategy="no",
                    seed=seed,
                ),
                callbacks=[watching()],
            )
            trainer.pop_callback(transformers.PrinterCallback)
            trainer.st_trainer.args.dataloader_pin_memory = False  # warns where there is no GPU
            trainer.train_embeddings([str(row) for row in range(len(labels))], labels, args=trainer.args)

    def _predictor(self, network: nn.Module, support: Support) -> Predictor:
        """The head on the network's features. The trainer may have put the network on a GPU that nothing else
        uses."""
        device = next(network.parameters()).device

        def features(x: Tensor) -> Tensor:
            return plain_call(network, x.to(device)).to(x.device)

        with torch.no_grad():
            state = self.head.fit(features(support.x), targets_of(support))
        return lambda x: self.head.logits(state, features(x))


class _Rows(nn.Module):
    """A backbone as a module of sentence-transformers. Its "texts" are numbers of rows of ``ids [n, L]``: the
    support set has been tokenised, and decoding tokens would not give back every text."""

    def __init__(self, network: nn.Module, ids: Tensor) -> None:
        super().__init__()
        self.network, self._ids = network, ids

    def preprocess(self, inputs: Sequence[str], **_: Any) -> dict[str, Tensor]:
        return {"input_ids": self._ids[[int(row) for row in inputs]]}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**features, "sentence_embedding": self.network(features["input_ids"])}


@contextmanager
def _undisturbed(transformers: ModuleType) -> Iterator[None]:
    """No progress bars and messages, and the global generators as they were: the trainer seeds them."""
    log, own = transformers.logging, require("setfit").logging
    levels, bars = (log.get_verbosity(), own.get_verbosity()), log.is_progress_bar_enabled()
    state, arrays = random.getstate(), np.random.get_state()
    try:
        log.set_verbosity_error()
        own.set_verbosity_error()
        log.disable_progress_bar()
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(arrays)
        log.set_verbosity(levels[0])
        own.set_verbosity(levels[1])
        if bars:
            log.enable_progress_bar()
