"""Classes named by words of a language model: its scores at first, logistic regression around them after.

    W₀ = s [e_word(1) … e_word(C)]                              0 shots: the language model's own scores
    W  = argmin Σ_i CE(y_i, Wᵀx_i) + (λ/2)·D·‖W − W₀‖² ,   logits(f) = Wᵀ x

with e_word the output embedding of the word that names a class (the mean of its tokens): Schick and Schütze
(2021), *Exploiting Cloze Questions for Few Shot Text Classification and Natural Language Inference*, section
3.1 (verbalisers). Differences: instead of fine-tuning the model, examples move W away from W₀, the mean of
its prior (as in Chelba and Acero 2006, *Adaptation of Maximum Entropy Capitalizer*); features are normalised,
which changes how sharp the probabilities are and not which word wins, and s sets that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapt.checks import STEPS, check_settings, least, positive
from adapt.errors import AdaptError
from adapt.heads.base import check_features, normalise, with_constant
from adapt.heads.leave_one_out import leave_one_out
from adapt.heads.logistic import Logistic
from adapt.precision import full_precision

__all__ = ["LabelWords", "label_words"]


@dataclass(frozen=True)
class LabelWords:
    """``prior [C][D]``: the embedding of each class's word, classes in sorted order, as numbers, so that the
    head can be compared and saved like any other; empty: no words, W₀ = 0. ``scale`` s > 0; ``l2`` λ > 0 per
    feature dimension; ``steps`` of Newton.

    Example:
        >>> import torch
        >>> head = LabelWords(prior=((1.0, 0.0), (0.0, 1.0)))
        >>> state = head.fit(torch.zeros(0, 2), torch.zeros(0, 2))  # no examples: the words alone
        >>> head.logits(state, torch.tensor([[0.1, 2.0]])).argmax().item()
        1
    """

    prior: tuple[tuple[float, ...], ...] = ()
    scale: float = 1.0
    l2: float = 0.03
    steps: int = 8
    supports_regression: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "prior", tuple(map(tuple, self.prior)))  # JSON brings lists
        if self.prior and (len(self.prior) < 2 or len({len(row) for row in self.prior}) != 1):
            raise AdaptError(
                "head.prior: one embedding per class, all of one length, for at least two classes, or none"
            )
        if not all(math.isfinite(number) for row in self.prior for number in row):
            raise AdaptError("head.prior holds NaN or infinity: give embeddings that are numbers")
        check_settings(
            self,
            "head",
            scale=positive("it must be positive"),
            l2=positive("it must be positive"),
            steps=least(1, "at least one Newton step is needed", ceiling=STEPS),
        )

    @full_precision
    def fit(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Weights ``[D + 1, C]``, the intercept last; without examples, W₀.

        Raises:
            AdaptError: features or targets of other sizes than the prior's.
        """
        check_features(features, weights)
        x = with_constant(normalise(features))
        start = self._start(x, targets)
        if not len(x):
            return start
        return start + self._moved(
            x, targets, targets.new_ones(len(x)) if weights is None else weights, start
        )

    def state_shape(self, features: int | None, outputs: int) -> tuple[int | None, ...]:
        """``[D + 1, C]``."""
        return None if features is None else features + 1, outputs

    @full_precision
    def logits(self, state: Tensor, features: Tensor) -> Tensor:
        """``[m, C]`` = X W."""
        return with_constant(normalise(features)) @ state

    @full_precision
    def loo_logits(self, features: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """``[n, C]``: exactly, by n fits; of large problems approximately
        (:mod:`adapt.heads.leave_one_out`)."""
        x = with_constant(normalise(features))
        start, ridge = self._start(x, targets), self.l2 * features.shape[-1]
        return leave_one_out(
            lambda mask: start + self._moved(x, targets, mask, start), x, targets, weights, ridge
        )

    def _moved(self, x: Tensor, y: Tensor, mask: Tensor, start: Tensor) -> Tensor:
        """W − W₀ ``[D + 1, C]``: logistic regression on top of the words' scores."""
        return Logistic(self.l2, self.steps)._weights(x, y, mask, x @ start if self.prior else None)

    def _start(self, x: Tensor, targets: Tensor) -> Tensor:
        """W₀ ``[D + 1, C]``, without an intercept."""
        if not self.prior:
            return x.new_zeros(x.shape[1], targets.shape[1])
        ways, size = len(self.prior), len(self.prior[0])
        if (targets.shape[1], x.shape[1] - 1) != (ways, size):
            raise AdaptError(
                f"the head names {ways} classes by words of {size} numbers, but the task has "
                f"{targets.shape[1]} classes and features of {x.shape[1] - 1}: make one for "
                "this task with label_words"
            )
        words = torch.tensor(self.prior, dtype=x.dtype, device=x.device)  # [C, D]
        return self.scale * torch.cat([words.T, words.new_zeros(1, ways)])


def label_words(
    backbone: nn.Module, words: Sequence[str], *, tokenizer: Any = None, **settings: Any
) -> LabelWords:
    """The head that names classes by ``words``, in the sorted order of the task's labels.

    Args:
        backbone: a transformer with the features that its language model scores words with (the last token's
            state), or a module that holds one as ``transformer``; its output embeddings are those of
            ``get_output_embeddings()``, or the input ones where the model ties them.
        words: one per class; as they stand in a text, so often with a space before them.
        tokenizer: of the transformer; None: the backbone's.
        settings: fields of :class:`LabelWords`.

    Raises:
        AdaptError: no tokenizer, a word without tokens, or a model whose output embeddings are not there.
    """
    inner = getattr(backbone, "transformer", None)
    model: Any = inner if hasattr(inner, "get_input_embeddings") else backbone
    tokenizer = tokenizer or getattr(backbone, "tokenizer", None)
    if tokenizer is None or not hasattr(model, "get_input_embeddings"):
        raise AdaptError(
            f"{type(backbone).__name__} has no tokenizer or no embeddings of words: label_words needs "
            "a transformer, and its tokenizer"
        )
    output = model.get_output_embeddings()
    if output is None and not getattr(model.config, "tie_word_embeddings", False):
        raise AdaptError(
            f"{type(model).__name__} scores words with embeddings of their own, which it was loaded without: "
            "pass the model with its language head"
        )
    table = (model.get_input_embeddings() if output is None else output).weight.detach()  # [V, D]
    rows = []
    for word in words:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        if not ids:
            raise AdaptError(f"the label word {word!r} has no tokens: name the class by a word")
        rows.append(table[torch.as_tensor(ids)].mean(0).tolist())
    return LabelWords(tuple(map(tuple, rows)), **settings)
