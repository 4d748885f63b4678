"""Data as people have them, whom nobody told how they should be: read, or one message on what to do."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adapt
from adapt import AdaptError
from adapt.app.serving.service import Csv, Service
from adapt.own_data import Answer, fit_data
from adapt.own_data.words import in_options
from tasks import TaskError
from tasks.own import Learned, learn

ROWS = 80


def written(folder: Path, columns: dict[str, list[object]], name: str = "t.csv") -> Path:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder / name


def table(folder: Path, **others: list[object]) -> Path:
    """Kilos that tell cats from dogs, and other columns."""
    kilos: list[object] = [3 + 6 * (row % 2) + row / 100 for row in range(ROWS)]
    label: list[object] = ["dog" if row % 2 else "cat" for row in range(ROWS)]
    return written(folder, {**others, "kilos": kilos, "label": label})


def read(path: Path) -> tuple[Learned, str]:
    learned = learn(path)
    return learned, " ".join(learned.train.examples.notes)


def columns_of(learned: Learned) -> list[str]:
    return [column["name"] for column in learned.reader.to_dict()["columns"]["columns"]]


# Of more different cells than a column of names has, and of few: what is decided does not depend on it.
@pytest.mark.parametrize("different", [9, 28])
@pytest.mark.parametrize(
    "form", ["2024-{:02}-{:02}", "{1}.{0}.2024", "{:02}:{:02}", "{:02}/{:02}/2024 10:30"]
)
def test_dates_are_left_out_and_named(tmp_path: Path, form: str, different: int) -> None:
    cells: list[object] = [form.format(row % 9 + 1, row % different + 1) for row in range(ROWS)]
    learned, notes = read(table(tmp_path, day=cells))
    assert columns_of(learned) == ["kilos"] and "'day' is left out: it holds dates or times" in notes


@pytest.mark.parametrize("different", [7, ROWS])
@pytest.mark.parametrize("form", ["{} %", "€ {}", "{}.000.000", "{} kg", "1'{}0", "{} EUR"])
def test_numbers_written_otherwise_are_never_lost(tmp_path: Path, form: str, different: int) -> None:
    cells: list[object] = [form.format(10 + row % different) for row in range(ROWS)]
    with pytest.raises(AdaptError, match=r"line 2: .* in column 'share'.*--ignore"):
        fit_data(table(tmp_path, share=cells))


@pytest.mark.parametrize("different", [5, ROWS])
def test_postcodes_are_names(tmp_path: Path, different: int) -> None:
    learned, notes = read(table(tmp_path, zip=[f"{1000 + row % different:05}" for row in range(ROWS)]))
    assert ("zip" in columns_of(learned)) == (different == 5)
    assert ("read as names: zip" in notes) == (different == 5)
    assert ("different names" in notes) == (different == ROWS)


def test_an_index_without_a_name_numbers_the_rows(tmp_path: Path) -> None:
    path = table(tmp_path, **{"": [*range(ROWS)]})
    learned, notes = read(path)
    assert columns_of(learned) == ["kilos"] and "it numbers the rows" in notes
    path.write_text(re.sub(r"(?m)^[^,]*,", "", path.read_text()))  # later, without it
    assert len(learned.reader.labelled(path)) == ROWS
    path.write_text(path.read_text().replace("\n", ",\n") + ",")  # each line ends with a delimiter
    assert columns_of(learn(path)) == ["kilos"]


def test_texts_in_a_table_are_named(tmp_path: Path) -> None:
    texts: list[object] = [f"it is number {row} of all" for row in range(ROWS)]
    _, notes = read(table(tmp_path, remark=texts, shop=["ab"[row % 2] for row in range(ROWS)]))
    assert "--text 'remark'" in notes


@pytest.mark.parametrize("texts", [True, False])
def test_a_first_line_that_is_an_example(tmp_path: Path, texts: bool) -> None:
    path = table(tmp_path)
    if texts:
        path = written(
            tmp_path,
            {
                "text": [f"is it {'barking' if n % 2 else 'purring'} {n}" for n in range(20)],
                "label": ["dog" if n % 2 else "cat" for n in range(20)],
            },
        )
    lines = path.read_text().splitlines()
    for header, told in ((lines[0], False), (lines[1], True)):
        path.write_text("\n".join([header, *lines[1:]]))
        learned = learn(path, target=header.split(",")[-1])
        assert ("put a line of names above it" in " ".join(learned.train.examples.notes)) == told


def test_a_first_line_of_numbers_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\n".join(f"{n},{n / 7:.2f},{n * n}" for n in range(1, 30)))
    with pytest.raises(AdaptError, match="first line holds numbers, where the names"):
        fit_data(tmp_path / "t.csv")


def test_classes_of_one_example_are_not_counted_as_mistakes(tmp_path: Path) -> None:
    path = table(tmp_path)
    path.write_text(path.read_text() + "\n900,whale\n0.1,mouse")
    answer = adapt.fit_table(path, method="head")
    assert answer.about["score"]["n"] == ROWS and answer.about["examples"] == ROWS + 2
    assert "2 classes have one row only" in answer.page
    assert {*re.findall("<strong>(.*?)</strong>", answer.page)} <= {"cat", "dog"}
    alone = written(tmp_path, {"kilos": [1, 5, 9], "label": ["cat", "dog", "seal"]})
    said: list[str] = []
    answer = fit_data(alone, method="head", say=said.append)
    assert answer.about["score"]["n"] == 0 and any("not measured" in line for line in said)
    assert "not measured" in answer.page and "% right" not in answer.page
    answer.save(tmp_path / "model")
    assert [*Answer.load(tmp_path / "model").predict(alone).labels] == ["cat", "dog", "seal"]


def test_values_are_not_predicted_from_texts(tmp_path: Path) -> None:
    texts: list[object] = [f"it was number {n}" for n in range(30)]
    with pytest.raises(TaskError, match="30 different numbers, and from texts classes are predicted"):
        learn(written(tmp_path, {"review": texts, "rating": [n / 7 for n in range(30)]}))
    two = written(tmp_path, {"review": texts, "rating": [n % 2 for n in range(30)]})
    assert len(learn(two).train) == 30


def pictures(folder: Path, *classes: str) -> Path:
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for n in range(3):
            Image.fromarray(np.full((9, 9), 60 * c + n, np.uint8)).save(folder / name / f"{n}.png")
    return folder


def test_the_folder_above_the_classes(tmp_path: Path) -> None:
    pictures(tmp_path / "mine" / "all", "cat", "dog")
    with pytest.raises(AdaptError, match=r"name \S*mine/all, if its folders \(cat, dog\) are the classes"):
        adapt.fit_folder(tmp_path / "mine", backbone="conv4_glyphs")


def test_one_class_is_named_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match="of one class, 'only'"):
        adapt.fit_folder(pictures(tmp_path / "p", "only"), backbone="conv4_glyphs")


def test_a_folder_to_predict_is_read_as_one_to_fit(tmp_path: Path) -> None:
    root = pictures(tmp_path / "p", "cat", "dog")
    reader = learn(root, size=16).reader
    for place in ("__MACOSX/cat/0.png", ".trash/0.png", "cat/._0.png", "dog/broken.jpg", "dog/note.txt"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"no picture")
    found = reader.unlabelled([root])
    assert sorted(found.names) == sorted(str(p) for p in root.glob("[cd]*/[0-9].png"))
    assert found.notes == (
        f"files that cannot be read, left out: 1 (first: {root / 'dog/broken.jpg'}: its content is no image)",
    )
    with pytest.raises(TaskError, match=r"broken\.jpg cannot be read"):
        reader.unlabelled([root, root / "dog/broken.jpg"])


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("text,label\nf\xfcr mich ist das,a\n".encode("latin-1"), {}, "--encoding latin-1"),
        (b"text,label\nso it is here,a\n", {"encoding": "klingon"}, "encoding=klingon is not known"),
        (b'text,label\n"so it is here,a\n', {}, "close its quotes$"),
        (b"x;label\n1,5;1,5\n2,5;2,5\n", {}, "--decimal ,"),
        (b"x,label\n1,a\n2,3,b\n", {}, "between quotation marks$"),
    ],
)
def test_messages_name_the_options_that_there_are(
    tmp_path: Path, content: bytes, settings: dict[str, str], said: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(AdaptError, match=said) as raised:
        fit_data(tmp_path / "t.csv", **settings)  # type: ignore[arg-type]
    assert "task." not in str(raised.value)


def test_of_one_class_a_message_names_the_option() -> None:
    said = "t.csv has only the class 'a' of at least 1 different texts: add texts until there are two such "
    said += "classes, or check which column task.source.label_column names"
    assert in_options(said).startswith("t.csv has only the class 'a': ") and "--target" in in_options(said)


def test_of_later_data_nothing_can_be_set(tmp_path: Path) -> None:
    answer = adapt.fit_table(table(tmp_path), method="head")
    (tmp_path / "later.csv").write_bytes("kilos,label\n3,k\xe4tzchen\n".encode("latin-1"))
    for use in (answer.predict, answer.evaluate):
        with pytest.raises(AdaptError, match=r"save the file as UTF-8$"):
            use(tmp_path / "later.csv")
    assert "--" not in in_options("mend it, or list the column in categorical or ignore", later=True)
    (tmp_path / "l.jsonl").write_text('{"kilos": 3}')
    with pytest.raises(AdaptError, match="is JSON lines, and a table is read from CSV"):
        answer.predict(tmp_path / "l.jsonl")
    for content in (b"weight\n3\n", b"kilos,label\nheavy,cat\n", b"", b"\xff\xfe"):
        with pytest.raises(AdaptError) as raised:
            Service(answer, None).predict(Csv(content))
        assert str(raised.value).startswith("the request") and "/" not in str(raised.value)
