"""What the benchmark of relations reads off a sentence, and that its tasks are fair."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import relations
from bench.lib import relation_text as texts
from bench.lib.text_study import work_off
from bench.lib.texts import Bag, Encoder, Pool, made_up

WORDS = ["pad", "[E1]", "[/E1]", "[E2]", "[/E2]", "the", "bridge", "crosses", "river", "wide"]


class Words(nn.Module):
    """The state of a word is its number, and the square of it."""

    def tokenizer(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[WORDS.index(word) for word in text.split()] for text in texts]}

    def states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return torch.stack([ids, ids**2], -1).double(), ids != 0


def expected(words: str) -> list[float]:
    numbers = np.array([WORDS.index(word) for word in words.split()])
    return [float(numbers.mean()), float((numbers**2).mean())]


@pytest.mark.parametrize(
    ("sentence", "first", "second"),
    [
        ("the [E1] bridge [/E1] crosses [E2] the river [/E2] pad pad", "bridge", "the river"),
        ("[E2] wide river [/E2] [E1] bridge [/E1]", "bridge", "wide river"),
        ("[E1] the [E2] river [/E2] bridge [/E1]", "the [E2] river [/E2] bridge", "river"),
        ("the [E1] bridge [/E1] crosses [E2] the", "bridge", "the"),
        ("the [E1] bridge [/E1] crosses", "bridge", "the [E1] bridge [/E1] crosses"),
    ],
    ids=["both", "the other way round", "one within the other", "cut in the second", "cut before it"],
)
def test_features_of_a_sentence(sentence: str, first: str, second: str) -> None:
    ids = torch.tensor(Words().tokenizer([sentence])["input_ids"])
    whole = sentence.replace("pad", "").strip()
    things = [*expected(first), *expected(second)]
    assert texts.Marked(Words(), "things")(ids)[0].tolist() == pytest.approx(things)
    assert texts.Marked(Words(), "mean")(ids)[0].tolist() == pytest.approx(expected(whole))
    both = texts.Marked(Words(), "things and mean")(ids)[0].tolist()
    assert both == pytest.approx([*things, *expected(whole)])
    openings = expected("[E1]") + expected("[E2]" if "[E2]" in sentence else whole)
    assert texts.Marked(Words(), "openings")(ids)[0].tolist() == pytest.approx(openings)


def test_tasks_repeat_and_queries_are_no_supports() -> None:
    pool = Pool({c: [f"{c}{i}" for i in range(8)] for c in "abcdefg"})
    drawn = [pool.task(5, 3, 2, (5, 3, number)) for number in range(20)]
    again = [pool.task(5, 3, 2, (5, 3, number)) for number in range(20)]
    for (support, labels, query, truth), same in zip(drawn, again, strict=True):
        assert (support, query) == (same[0], same[2])
        assert not set(support) & set(query)
        assert labels.tolist() == sorted([*range(5)] * 3) and truth.tolist() == sorted([*range(5)] * 2)
        named = {text[0]: int(label) for text, label in zip(support, labels, strict=True)}
        assert len(named) == 5
        assert [named[text[0]] for text in query] == truth.tolist()
    assert len({tuple(task[0]) for task in drawn}) == 20


def test_a_table_holds_what_the_encoder_computes() -> None:
    """Batches of similar lengths come back in order."""
    reader = Bag()
    pool = made_up()(0, 4, 12)
    encoder = Encoder(reader, None)
    table = texts.Table.of(encoder, pool)
    some = pool.all()[0][5:25:3]
    alone = torch.cat([reader(torch.from_numpy(reader.tokenise([text]))) for text in some])
    assert torch.allclose(table.features_of(some), alone, atol=1e-6)


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    def jobs(study: relations.Study) -> list[Callable[[], None]]:
        moving = [partial(study.by_moving, study.sizes[1], number) for number in range(2)]
        return [*(partial(study.by_heads, size) for size in study.sizes), *moving]

    def results(folder: Path) -> list[tuple[str, str, float]]:
        rows = relations.rows_of(relations.small(folder))
        return [(row.case, row.metric, row.value) for row in rows if not row.metric.startswith("time")]

    work_off(jobs(relations.small(tmp_path / "at once")), 1e9)
    stopped = tmp_path / "stopped"
    work_off(jobs(relations.small(stopped)), 0.0)
    assert [metric for _, metric, _ in results(stopped)] == ["validation/accuracy"]
    work_off(jobs(relations.small(stopped))[:3], 1e9)
    work_off(jobs(relations.small(stopped)), 1e9)
    assert results(stopped) == results(tmp_path / "at once")
    scores = relations.small(stopped).scores(relations.small(stopped).sizes[1])
    assert len(scores.of("backprop")) == len(scores.seconds("backprop")) == 2
