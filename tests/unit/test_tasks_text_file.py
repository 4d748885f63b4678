"""Files of one's own texts: what is read, how it is divided, and what is said of each mistake."""

from __future__ import annotations

import csv
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import Distribution, TaskError, TaskWarning, TextFile
from tasks.text.source import same

GOOD = "text,label\nhi,greet\nhello,greet\nbye,part\nso long,part\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: str | bytes, name: str = "my.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def table(rows: Sequence[tuple[str, ...]], delimiter: str = ",", columns: str = "text,label") -> str:
    """A table as the csv module writes it."""
    lines = io.StringIO(newline="")
    csv.writer(lines, delimiter=delimiter).writerows([columns.split(","), *rows])
    return lines.getvalue()


def held(source: TextFile, split: str) -> dict[str, list[str]]:
    return {name: [source.texts[i] for i in rows] for name, rows in source.classes(split).items()}


def quiet(*args: Any, **settings: Any) -> TextFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TaskWarning)
        return TextFile(*args, **settings)


def many(classes: int, each: int = 5, split: str | None = None) -> list[tuple[str, ...]]:
    more = () if split is None else (split,)
    return [(f"text {j} of {i}", f"c{i:02}", *more) for i in range(classes) for j in range(each)]


# ------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings_and_ends_of_lines(write: Any, newline: str, encoding: str) -> None:
    path = write(GOOD.replace("bye", "adiós").replace("\n", newline).encode(encoding))
    said = "utf-8" if encoding.startswith("utf-8") else encoding
    assert "adiós" in TextFile(path, encoding=said).texts


def test_columns_may_be_called_otherwise_and_stand_anywhere(write: Any) -> None:
    path = write("id; intent ;utterance\n1;a;hi\n2;a;hello\n3;b;bye\n4;b;so long\n")
    source = TextFile(path, text_column="utterance", label_column="intent")
    assert source.texts == ["hi", "hello", "bye", "so long"]


def test_numbers_truth_and_null_in_json(write: Any) -> None:
    values = [("a", 1), ("b", 1), ("c", 2.5), ("d", 2.5), ("e", True), ("f", True), ("g", None), (3, 1)]
    path = write("\n".join(json.dumps({"text": text, "label": label}) for text, label in values), "my.jsonl")
    with pytest.warns(TaskWarning, match=r"1 row .* no text or no label \(the first in line 7\)"):
        source = TextFile(path)
    assert [*source.classes("query")] == ["1", "2.5", "true"]
    assert "3" in source.texts


def test_quotation_marks_may_be_part_of_texts(write: Any) -> None:
    path = write(GOOD.replace("bye", '"bye').replace("hello", 'say "hello"').replace(",", "\t"), "my.tsv")
    assert TextFile(path, quotes=False).texts[1:3] == ['say "hello"', '"bye']


def test_paths(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(GOOD)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    digests = {TextFile(file).digest() for file in (path, str(path), "my.csv", "~/my.csv")}
    assert len(digests) == 1
    assert path.read_text() == GOOD


# ------------------------------------------------------------------------------------------ mistakes

MISTAKES: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "nothing": ("", {}, r"my\.csv is empty"),
    "blank": (" \n\n", {}, r"my\.csv is empty"),
    "header only": ("text,label\n", {}, "holds no texts"),
    "misspelt": (
        "txt,label\na,b\n",
        {},
        r"line 1: there is no column 'text' .*did you mean 'txt'\?.*text_column",
    ),
    "capital": ("text,Label\na,b\n", {}, r"no column 'label' .*did you mean 'Label'\?.*label_column"),
    "no header": ("hi there,greet\na,b\n", {}, "no column 'text' among 'hi there', 'greet': .*first line"),
    "asked for": (GOOD, {"text_column": "body"}, "no column 'body' among 'text', 'label'"),
    "split asked for": (GOOD, {"split_column": "part"}, "no column 'part' .*split_column"),
    "the same": (GOOD, {"text_column": "label"}, "text_column=label, label_column=label"),
    "twice": ("text,label,text\na,b,c\n", {}, "line 1: column 'text' is there twice"),
    "ragged": (
        GOOD + "one, two,greet\n",
        {},
        r"line 6 has 3 cells, .* has 2: .* ',' between quot",
    ),
    "short": (GOOD + "\nalone\n", {}, "line 7 has 1 cells, but the header has 2"),
    "open quote": (
        GOOD + 'one,a\n"two,b\nthree,a\n',
        {},
        r"line 7: the row that begins here .*close its quotes",
    ),
    "stray quote": (GOOD + '"a" b,part\n', {}, r"line 6: .*quotes=false"),
    "huge": (GOOD + "x" * 131_073 + ",a\n", {}, r"line 6: .*limit .*shorten"),
    "not UTF-8": (
        "text,label\nhi,a\nol\xe9,b\n".encode("latin-1"),
        {},
        r"line 3: byte 0xe9 at position 18 .*=latin-1",
    ),
    "UTF-16": (GOOD.encode("utf-16"), {}, r"line 1: byte 0xff .*encoding=utf-16"),
    "UTF-16, no mark": (GOOD.encode("utf-16-le"), {}, "line 1: there is a null .*encoding=utf-16"),
    "spreadsheet": (b"PK\x03\x04 and more", {}, "compressed file or a spreadsheet: save it as CSV"),
    "no encoding": (GOOD, {"encoding": "utf-9"}, "encoding=utf-9 is not known"),
    "one class": ("text,label\na,x\nb,x\nc,x\n", {}, r"only the class 'x' of at least 2 .*add texts"),
    "one text each": (
        "text,label\na,x\nb,y\nc,z\n",
        {},
        "no class of at least 2 .*3 classes .*'x', 'y', 'z'.*label_column",
    ),
    "no labels": (
        "text,label\na,\nb,\n",
        {},
        r"no class .*2 rows were left out for having no text or no label",
    ),
    "no such way": (
        GOOD,
        {"split_by": "class"},
        "split_by=class is unknown: use one of auto, classes, examples",
    ),
    "few classes": (
        table(many(9)),
        {"split_by": "classes"},
        r"my\.csv: 9 classes are too few .*split_by=examples, or add classes until there are 10",
    ),
    "least": (GOOD, {"least": 1}, "least=1"),
    "seed": (GOOD, {"seed": -1}, "seed=-1"),
    "split of another name": (
        "text,label,split\na,x,train\nb,x,tset\n",
        {},
        r"line 3, column 'split': 'tset' is no split",
    ),
    "split left blank": (
        "text,label,split\na,x,train\nb,x,\n",
        {},
        r"line 3, column 'split': '' is no split",
    ),
    "train only": (
        table(many(3, split="train"), columns="text,label,split"),
        {},
        "only split is train: write test .*split_column=null to divide the texts anew",
    ),
    "test only": (table(many(3, split="test"), columns="text,label,split"), {}, "only split is test: write"),
}


@pytest.mark.parametrize(("content", "settings", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_its_place_and_its_fix(
    write: Any, content: str | bytes, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(TaskError, match=f"(?s){says}"):
        quiet(write(content), **settings)


def test_files_that_cannot_be_opened(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(GOOD)
    with pytest.raises(TaskError, match=r"mi\.csv does not exist: did you mean my\.csv\?"):
        TextFile(tmp_path / "mi.csv")
    with pytest.raises(TaskError, match=r"nowhere/my\.csv does not exist: give its path as task\.file"):
        TextFile(tmp_path / "nowhere" / "my.csv")
    with pytest.raises(TaskError, match="is a folder: name one file"):
        TextFile(tmp_path)
    with pytest.raises(TaskError, match=r"task\.file is not set"):
        TextFile(None)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # whoever runs the tests may be allowed to read anything
    with pytest.raises(TaskError, match=r"my\.csv may not be read: .*chmod"):
        TextFile(path)


# ------------------------------------------------------------------------------------------ what is counted

COUNTED = {
    "blank": (GOOD + "\n ,greet\nnan,part\nx,NaN\n", "3 rows were left out for having no text .*line 7"),
    "repeats": (GOOD + "HI ,greet\nBye,part\n", "2 rows were left out for repeating .*line 6"),
    "conflict": (
        GOOD + "one,greet\nOne,part\n",
        r"2 rows were left out for having a text that other rows label .*line 6",
    ),
    "small class": (GOOD + "one,alone\n", r"1 class was left out for having fewer than 2 texts: 'alone'"),
    "alike": (
        GOOD + "one,Greet\ntwo,Greet\n",
        r"1 label is spelt in several ways, .*'greet' and 'Greet'.*kept apart",
    ),
}


@pytest.mark.parametrize(("content", "says"), COUNTED.values(), ids=COUNTED.keys())
def test_what_is_left_out_is_counted(write: Any, content: str, says: str) -> None:
    with pytest.warns(TaskWarning, match=says) as told:
        source = TextFile(write(content))
    assert len(told) == len(source.card.known_issues) == 1
    assert str(told[0].message).endswith(source.card.known_issues[0])
    assert source.texts[:4] == ["hi", "hello", "bye", "so long"]


def test_nothing_is_said_of_a_good_file(write: Any) -> None:
    assert TextFile(write(GOOD)).card.known_issues == ()  # and a warning would be an error here


def test_labels_are_merged_under_the_usual_name_if_asked(write: Any) -> None:
    path = write(GOOD + "one,Greet\ntwo,GREET \nthree,GREET \nfour,GREET \n")
    with pytest.warns(TaskWarning, match="1 label is spelt in several ways.*made one"):
        source = TextFile(path, merge_case=True)
    assert [*source.classes("query")] == ["GREET ", "part"]
    assert sum(len(source.classes(split)["GREET "]) for split in source.splits) == 6


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "A ", "b", "c", "d", "e", ""]), st.sampled_from("xyz")), max_size=30
    ),
    st.integers(0, 3),
)
def test_what_stays_is_what_should(tmp_path: Path, rows: list[tuple[str, str]], seed: int) -> None:
    labels: dict[str, set[str]] = {}
    for text, label in rows:
        if text.strip():
            labels.setdefault(same(text), set()).add(label)
    clear = {key: found.copy().pop() for key, found in labels.items() if len(found) == 1}
    sizes = Counter(clear.values())
    expected = {key: label for key, label in clear.items() if sizes[label] >= 2}
    path = tmp_path / "my.csv"
    path.write_text(table(rows), encoding="utf-8", newline="")
    if len(set(expected.values())) < 2:
        with pytest.raises(TaskError):
            quiet(path, seed=seed)
        return
    source = quiet(path, seed=seed)
    found = [
        (same(text), name)
        for split in source.splits
        for name, texts in held(source, split).items()
        for text in texts
    ]
    assert len(found) == len(expected) and dict(found) == expected


# ------------------------------------------------------------------------------------------ division


def test_few_classes_are_divided_by_examples(write: Any) -> None:
    source = TextFile(write(table(many(24, each=10))))
    assert source.splits == ("support", "query")
    for name, rows in source.classes("support").items():
        assert len(rows) == 6 and len(source.classes("query")[name]) == 4
        assert all(source.texts[i].endswith(f" of {int(name[1:])}") for i in rows)
    assert source.card.counts["support examples"] == 144


@pytest.mark.parametrize(
    ("classes", "parts"), [(10, (6, 2, 2)), (17, (10, 4, 3)), (25, (15, 5, 5)), (28, (17, 5, 6))]
)
def test_many_classes_are_divided_by_classes(write: Any, classes: int, parts: tuple[int, ...]) -> None:
    path = write(table(many(classes)))
    source = TextFile(path) if classes >= 25 else TextFile(path, split_by="classes")
    assert source.splits == ("train", "validation", "support", "query")
    assert [len(source.classes(split)) for split in ("train", "validation", "query")] == [*parts]
    assert [*source.classes("support")] == [*source.classes("query")]
    names = [name for split in source.splits[:3] for name in source.classes(split)]
    assert sorted(names) == sorted({*names}) and len(names) == classes
    indices = np.concatenate([rows for split in source.splits for rows in source.classes(split).values()])
    assert np.array_equal(np.sort(indices), np.arange(5 * classes))


def test_the_division_is_that_of_the_seed(write: Any) -> None:
    path = write(table(many(25)))
    assert TextFile(path).digest() == TextFile(path).digest() != TextFile(path, seed=1).digest()
    other = write(table(many(25)[::-1]), "other.csv")  # the order of the rows decides no class's part
    assert [*TextFile(path).classes("query")] == [*TextFile(other).classes("query")]


def given_file(write: Any, *rows: tuple[str, ...]) -> Path:
    path: Path = write(table([*rows], columns="text,label,split"))
    return path


def test_splits_that_share_classes_are_pools(write: Any) -> None:
    rows = [
        ("a", "x", "Train"),
        ("b", "y", "training"),
        ("c", "x", "dev"),
        ("d", "y", "test"),
        ("e", "x", "TEST"),
    ]
    source = TextFile(given_file(write, *rows, ("f", "z", "train"), ("g", "z", "train")))
    assert source.splits == ("support", "validation", "query")
    assert held(source, "support") == {"x": ["a"], "y": ["b"], "z": ["f", "g"]}
    assert held(source, "validation") == {"x": ["c"]}
    assert held(source, "query") == {"x": ["e"], "y": ["d"]}
    assert Distribution(source, 2, 1, 1, "support", "query").class_names == ("x", "y")
    no_test = [(f"{split}{c}{i}", c, split) for split in ("train", "val") for c in "ab" for i in "12"]
    source = TextFile(given_file(write, *no_test))
    assert source.splits == ("support", "query")
    assert held(source, "query")["a"] == ["vala1", "vala2"]


def test_splits_that_share_no_class_are_disjoint_in_classes(write: Any) -> None:
    parts = {"train": ("a", "b", "c"), "validation": ("d", "e"), "test": ("f", "g")}
    rows = [(f"{c}{i}", c, split) for split, names in parts.items() for c in names for i in range(5)]
    source = TextFile(given_file(write, *rows))
    assert source.splits == ("train", "validation", "support", "query")
    given_names = {**parts, "support": parts["test"], "query": parts["test"]}
    assert all(tuple(source.classes(split)) == given_names[split] for split in source.splits)
    assert TextFile(given_file(write, *rows), split_by="classes").digest() == source.digest()
    with pytest.raises(
        TaskError, match=r"0 classes are in both train and test.*or set task\.source\.split_by=classes"
    ):
        TextFile(given_file(write, *rows), split_by="examples")


def test_a_class_in_two_splits_of_classes_is_named(write: Any) -> None:
    rows = [
        (f"{c}{i}", c, split)
        for split, names in (("train", "abc"), ("test", "cd"))
        for c in names
        for i in "12"
    ]
    path = given_file(write, *[(f"{split} {text}", c, split) for text, c, split in rows])
    with pytest.raises(
        TaskError,
        match=r"'c' is in train and test, but 'd' is in test only: move its rows .*split_column=null",
    ):
        TextFile(path)
    alone = [row for row in rows if row[1] != "c"]
    with pytest.raises(TaskError, match=r"split test: there is one class, 'd', .*add another"):
        TextFile(given_file(write, *alone))
    no_test = [(f"{c}{i}", c, "train" if c in "ab" else "validation") for c in "abcd" for i in "12"]
    with pytest.raises(TaskError, match="no class is of split test: write test"):
        TextFile(given_file(write, *no_test))
    both = [(f"{split}{c}{i}", c, split) for split in ("train", "test") for c in "ab" for i in "12"]
    with pytest.raises(TaskError, match="class 'a' is in train and test: move"):
        TextFile(given_file(write, *both), split_by="classes")


def test_a_text_of_two_splits_stays_where_it_is_measured(write: Any) -> None:
    rows = [(f"{split}{c}{i}", c, split) for split in ("train", "test") for c in "ab" for i in "12"]
    path = given_file(
        write, ("HELLO", "a", "train"), *rows, ("hello", "a", "test"), ("hello ", "a", "validation")
    )
    with pytest.warns(TaskWarning, match=r"2 rows were left out for repeating .*\(the first in line 2\)"):
        source = TextFile(path)
    assert "hello" in held(source, "query")["a"]
    assert "HELLO" not in source.texts and "validation" not in source.splits


def test_the_split_column_can_be_ignored(write: Any) -> None:
    path = write(table(many(3, split="test"), columns="text,label,split"))
    assert TextFile(path, split_column=None).splits == ("support", "query")


def test_card_is_complete(write: Any) -> None:
    card = TextFile(write(GOOD), licence="CC0", domain="talk").card
    assert (card.name, card.licence, card.domain, card.commercial) == ("my", "CC0", "talk", None)
    assert card.counts["examples"] == 4 and card.counts["classes"] == 2
    assert card.counts["query examples"] == card.counts["query classes"] == 2
    assert card.personal_data and card.origin and card.description
