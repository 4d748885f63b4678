"""FewRel: which relation a sentence states between two things that it names."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.data import DataFile, fetch_any
from tasks.readers.regular import read_regular
from tasks.source import Card, TaskError
from tasks.text._pools import Members
from tasks.text.source import TextSource, same

__all__ = ["FewRel", "marked"]

_OFFICIAL = "https://raw.githubusercontent.com/thunlp/FewRel/master/data"
#: The official files, and the same compressed.
_WIKI = (
    DataFile(
        "fewrel/val_wiki.json",
        ("76bb44c2485b6faed358a3ce040eadafcc8a8835245cd7e6afc1bef672d4a0bf",),
        f"{_OFFICIAL}/val_wiki.json",
    ),
    DataFile(
        "fewrel/val_wiki.json.gz", ("03550a24be998b309f450b22877b8a35c8930e18efd0e9c6dc212fce15773efc",)
    ),
)
_PUBMED = (
    DataFile(
        "fewrel/val_pubmed.json",
        ("fc0f13b534f6664fe0d8aec231d7590313bc6510d00dbc1b6746147f6a2b46e6",),
        f"{_OFFICIAL}/val_pubmed.json",
    ),
    DataFile(
        "fewrel/val_pubmed.json.gz", ("b8608929261da704f77d6e25cb491233f110b9c1b7e06c4ae787e53abe9d8151",)
    ),
)
#: Relation -> rows {"tokens", "h", "t"}; h and t end with lists of token numbers, one for each mention.
Relations = dict[str, list[Any]]
#: Relations of Wikipedia's part, by property number at Wikidata. Neighbours in meaning stay together, so that
#: those kept for validation (waters and sport) are new there.
_TRAIN = {
    "P25": "mother",
    "P26": "spouse",
    "P40": "child",
    "P59": "constellation",
    "P155": "follows",
    "P361": "part of",
    "P364": "original language",
    "P410": "military rank",
    "P412": "voice type",
    "P463": "member of",
    "P921": "main subject",
}
_VALIDATION = {
    "P177": "crosses",
    "P206": "located by water",
    "P413": "position played",
    "P641": "sport",
    "P2094": "competition class",
}


class FewRel(TextSource):
    """Sentences with two marked things, by the relation between them.

    Han et al. (2018), *FewRel: a large-scale supervised few-shot relation classification dataset*, and Gao et
    al. (2019), *FewRel 2.0: towards more challenging few-shot relation classification*: the public validation
    parts `fewrel/val_wiki.json` and `fewrel/val_pubmed.json`, or the same as .gz. The test parts are not
    public.

    Splits are disjoint in relations, and the last in domain: `train` (11 relations, Wikipedia), `validation`
    (5 relations, Wikipedia), `test` (10 relations, PubMed).

    Args:
        root: folder of the data sets; None: `$ADAPT_DATA`, or `~/.cache/adapt`.
        markers: put `[E1] … [/E1]` around the first thing of the relation and `[E2] … [/E2]` around the
            second (:func:`marked`); without them a text does not say which two things are meant.
        download: get the official files if they are not there.

    Raises:
        TaskError: a file is not there or is another one.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None = None, markers: bool = True, download: bool = False
    ) -> None:
        wiki, pubmed = (_read(files, root, download) for files in (_WIKI, _PUBMED))
        parts: dict[str, dict[str, Sequence[Any]]] = {
            "train": {f"{name} ({number})": wiki[number] for number, name in _TRAIN.items()},
            "validation": {f"{name} ({number})": wiki[number] for number, name in _VALIDATION.items()},
            "test": {name.replace("_", " "): rows for name, rows in sorted(pubmed.items())},
        }
        texts: list[str] = []
        members: dict[str, Members] = {split: {} for split in parts}
        seen: set[str] = set()
        sentences: dict[str, set[str]] = {}  # sentence -> relations that it is given for
        repeats = total = 0
        for split, relation, row in _rows(parts):
            sentence = " ".join(row["tokens"])
            text = marked(row["tokens"], row["h"][2][0], row["t"][2][0]) if markers else sentence
            held = members[split].setdefault(relation, [])
            sentences.setdefault(same(sentence), set()).add(relation)
            total += 1
            if same(text) in seen:
                repeats += 1
                continue
            seen.add(same(text))
            held.append(len(texts))
            texts.append(text)
        several = sum(len(relations) > 1 for relations in sentences.values())
        again = total - len(sentences)
        card = Card(
            name="fewrel",
            description="English sentences of Wikipedia (train, validation) and of PubMed's abstracts (test, "
            "lower-cased), each by the relation between two things in it.",
            origin="Han et al. (2018) and Gao et al. (2019), https://github.com/thunlp/FewRel",
            licence="MIT",
            terms="Keep the notice.",
            counts={
                "examples": len(texts),
                "classes": sum(map(len, parts.values())),
                **{f"{s} examples": sum(map(len, classes.values())) for s, classes in members.items()},
                **{f"{s} classes": len(classes) for s, classes in members.items()},
            },
            known_issues=(
                f"{repeats} of {total} rows repeat the text of an earlier row: left out.",
                f"{again} of {total} rows repeat the sentence of an earlier row, mostly about other things.",
                f"{several} sentences are given for two or more relations.",
                "Relations were found by aligning texts with a knowledge base, then checked by people "
                "(Wikipedia), so some labels are wrong.",
                "Where a thing is named several times in a sentence, the first listed mention is marked.",
                "The division into train and validation is ours: the official training part is not read.",
            ),
            personal_data="Sentences of Wikipedia name people; abstracts describe patients without names.",
            domain="knowledge extraction",
            commercial=True,
        )
        super().__init__(card, texts, members)


def marked(tokens: Sequence[str], first: Sequence[int], second: Sequence[int]) -> str:
    """The sentence, with markers around its first and its second thing.

    The things may stand in either order, and one within the other: markers close before others open, and the
    longer one is outside; of two that span the same tokens, the first is outside.

    Args:
        tokens: words of the sentence.
        first: numbers of the first thing's tokens, in any order; marked from the least to the greatest.
        second: the same of the second thing.

    Raises:
        TaskError: if a thing has no tokens, or one outside the sentence.

    Example:
        >>> marked("the bridge crosses the river".split(), [1], [3, 4])
        'the [E1] bridge [/E1] crosses [E2] the river [/E2]'
    """
    spans = []
    for name, numbers in (("E1", first), ("E2", second)):
        if not numbers or min(numbers) < 0 or max(numbers) >= len(tokens):
            raise TaskError(
                f"thing {name} spans the tokens {list(numbers)} of a sentence of {len(tokens)}: "
                f"name at least one of 0..{len(tokens) - 1}"
            )
        spans.append((min(numbers), max(numbers), name))
    words = [*tokens]
    for start, _, name in sorted(spans, key=lambda span: (-span[1], span[2]), reverse=True):  # inside first
        words[start] = f"[{name}] {words[start]}"
    for _, end, name in sorted(spans, key=lambda span: (span[0], span[2]), reverse=True):
        words[end] = f"{words[end]} [/{name}]"
    return " ".join(words)


def _read(files: Sequence[DataFile], root: str | os.PathLike[str] | None, download: bool) -> Relations:
    data = read_regular(fetch_any(files, root=root, download=download))
    found: Relations = json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    return found


def _rows(parts: Mapping[str, Mapping[str, Sequence[Any]]]) -> Iterator[tuple[str, str, Any]]:
    """(split, relation, row), in order."""
    for split, relations in parts.items():
        for relation, rows in relations.items():
            for row in rows:
                yield split, relation, row
