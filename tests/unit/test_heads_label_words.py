"""Label words against transformers' own language-model scores, on a small random GPT-2."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from adapt import AdaptError
from adapt.adapter.storage import build_component, describe_component
from adapt.backbones import require
from adapt.heads import HEADS, LabelWords, Logistic, label_words, one_hot
from adapt.heads.base import normalise
from tests.conformance.head_tables import scipy_logistic
from tests.helpers import distance

WORDS = {" good": [5], " bad": [7], " so so": [11, 12], "": []}


def tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
    assert not add_special_tokens
    return {"input_ids": WORDS[text]}


@pytest.fixture(scope="module")
def model() -> Any:
    transformers = require("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=40, n_positions=16, n_embd=12, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


def features_and_scores(model: Any) -> tuple[Tensor, Tensor]:
    """The last token's state ``[n, D]`` and the scores of all words as the next one ``[n, V]``."""
    ids = torch.randint(40, (9, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states = model.transformer(ids).last_hidden_state[:, -1]
        return states, model(ids).logits[:, -1]


def test_without_examples_these_are_the_scores_of_the_language_model(model: Any) -> None:
    states, scores = features_and_scores(model)
    head = label_words(model, [" good", " bad"], tokenizer=tokenizer)
    state = head.fit(states[:0], torch.zeros(0, 2))
    ours, lengths = head.logits(state, states), states.norm(dim=1, keepdim=True) / 12**0.5
    assert distance(ours * lengths, scores[:, [5, 7]]) <= 1e-6
    assert torch.equal(ours.argmax(1), scores[:, [5, 7]].argmax(1))


def test_a_word_of_several_tokens_is_their_mean(model: Any) -> None:
    states, scores = features_and_scores(model)
    head = label_words(model, [" good", " so so"], tokenizer=tokenizer, scale=2.0)
    ours = (
        head.logits(head.fit(states[:0], torch.zeros(0, 2)), states)
        * states.norm(dim=1, keepdim=True)
        / 12**0.5
    )
    assert distance(ours, 2 * torch.stack([scores[:, 5], scores[:, [11, 12]].mean(1)], 1)) <= 1e-6


def test_a_headless_model_has_tied_embeddings_or_none(model: Any) -> None:
    """As the backbones hold it: without the language head, whose weights are the input embeddings."""
    texts = nn.Module()
    texts.transformer = model.transformer
    texts.tokenizer = tokenizer
    assert label_words(texts, [" good", " bad"]) == label_words(model, [" good", " bad"], tokenizer=tokenizer)
    untied = SimpleNamespace(
        get_input_embeddings=lambda: None, get_output_embeddings=lambda: None, config=SimpleNamespace()
    )
    with pytest.raises(AdaptError, match="without: pass the model with its language head"):
        label_words(untied, [" good", " bad"], tokenizer=tokenizer)  # type: ignore[arg-type]


def test_examples_move_it_from_the_words_to_the_labels(model: Any) -> None:
    """A strong prior keeps the words' scores, a weak one fits labels that contradict them."""
    states, _ = features_and_scores(model)
    head = label_words(model, [" good", " bad"], tokenizer=tokenizer)
    words = head.logits(head.fit(states[:0], torch.zeros(0, 2)), states)
    against = one_hot(words.argmin(1), 2)

    def fitted(l2: float) -> Tensor:
        other = LabelWords(head.prior, l2=l2)
        return other.logits(other.fit(states, against), states)

    assert distance(fitted(1e4), words) <= 1e-2
    assert torch.equal(fitted(1e-3).argmax(1), against.argmax(1))
    nothing = LabelWords(((0.0,) * 12,) * 2, l2=0.1)
    plain = Logistic(l2=0.1)
    assert distance(nothing.fit(states, against), plain.fit(states, against)) <= 1e-5


def draw(ways: int, size: int) -> tuple[LabelWords, Tensor, Tensor, Tensor]:
    """A head, a task and queries, in double precision."""
    generator = torch.Generator().manual_seed(2)
    prior, x, q = (torch.randn(n, size, generator=generator, dtype=torch.float64) for n in (ways, 9, 4))
    return (
        LabelWords(tuple(prior.tolist()), 0.5, steps=12),
        x,
        one_hot(torch.arange(9) % ways, ways, x.dtype),
        q,
    )


@pytest.mark.parametrize("size", [12, 3], ids=["n < D", "n > D"])
def test_with_examples_it_is_scipys_optimum_around_the_words(size: int) -> None:
    head, x, y, q = draw(3, size)
    rows = [normalise(it).numpy() for it in (x, q)]
    start = np.vstack([0.5 * np.array(head.prior).T, np.zeros((1, 3))])
    expected = scipy_logistic(head, rows[0], y.numpy(), rows[1], start)
    assert distance(head.logits(head.fit(x, y), q), torch.from_numpy(expected)) <= 1e-6


def test_leaving_one_out_is_fitting_without_it() -> None:
    head, x, y, _ = draw(3, 5)
    for i, row in enumerate(head.loo_logits(x, y)):
        others = torch.arange(9) != i
        weighted = head.logits(head.fit(x, y, others.to(x.dtype)), x)[i]
        assert distance(row, head.logits(head.fit(x[others], y[others]), x)[i]) <= 1e-9
        assert distance(row, weighted) <= 1e-9


def test_gradients_are_those_of_differences() -> None:
    head, x, y, q = draw(2, 4)
    inputs = (x.requires_grad_(True), q.requires_grad_(True))
    assert gradcheck(lambda x, q: head.logits(head.fit(x, y), q).softmax(-1), inputs, fast_mode=True)


def test_it_is_saved_as_settings(model: Any, tmp_path: Any) -> None:
    head = label_words(model, [" good", " bad"], tokenizer=tokenizer, l2=0.2)
    assert build_component(describe_component(head, HEADS), HEADS, tmp_path) == head


def test_what_does_not_fit_is_refused(model: Any) -> None:
    head = label_words(model, [" good", " bad"], tokenizer=tokenizer)
    with pytest.raises(
        AdaptError, match="names 2 classes by words of 12 numbers, but the task has 3 classes"
    ):
        head.fit(torch.randn(3, 12), torch.eye(3))
    with pytest.raises(AdaptError, match="label word '' has no tokens"):
        label_words(model, [" good", ""], tokenizer=tokenizer)
    with pytest.raises(AdaptError, match="Linear has no tokenizer or no embeddings"):
        label_words(nn.Linear(2, 2), ["a", "b"])
    for settings, message in (
        ({"prior": ((1.0,),)}, "one embedding per class"),
        ({"prior": ((1.0,), (1.0, 2.0))}, "all of one length"),
        ({"prior": ((1.0,), (2.0,)), "scale": 0.0}, "head.scale=0.0"),
        ({"prior": ((1.0,), (2.0,)), "steps": 0}, "head.steps=0"),
    ):
        with pytest.raises(AdaptError, match=message):
            LabelWords(**settings)  # type: ignore[arg-type]
