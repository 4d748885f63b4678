"""Data of one's own are what they look like: kinds, columns, and errors that say what to do."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import TaskError
from tasks._headers import Header, roles
from tasks.own import READERS, kind_of, learn, reader_of

TEXTS = "utterance,intent\n" + "\n".join(
    f"please {what} number {n} for me,{intent}"
    for n in range(4)
    for what, intent in (("play", "music"), ("wake", "alarm"))
)
PETS = "species,kilos,colour,id\n" + "\n".join(
    f"{'cat' if n % 2 else 'dog'},{3 + n % 2 + 0.1 * n if n else ''},{'black' if n % 3 else 'NA'},{n}"
    for n in range(30)
)


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def pictures(folder: Path, classes: int = 3, each: int = 4, first: int = 0) -> Path:
    for c in range(classes):
        (folder / f"class_{c}").mkdir(parents=True)
        for n in range(each):
            shade = np.full((12, 10, 3), 60 * c + first + n, np.uint8)
            Image.fromarray(shade).save(folder / f"class_{c}" / f"{n}.png")
    return folder


def test_texts_are_known_by_their_columns(tmp_path: Path) -> None:
    learned = learn(written(tmp_path, "orders.csv", TEXTS))
    assert learned.reader.kind == "texts"
    assert list(learned.train.y)[:2] == ["music", "alarm"]
    assert learned.train.examples.x[0] == "please play number 0 for me"
    assert learned.train.examples.names[0] == "line 2"


@pytest.mark.parametrize(
    ("header", "label", "text"),
    [
        ("text,label", "label", "text"),
        ("Sentence;Category", "Category", "Sentence"),
        ("message\tclass", "class", "message"),
        ("words,kind", "kind", "words"),  # by what stands in them
        ("label,text,id", "label", "text"),
    ],
)
def test_columns_are_found(tmp_path: Path, header: str, label: str, text: str) -> None:
    delimiter = next(d for d in ";\t," if d in header)
    names = header.split(delimiter)
    cells = {
        label: ["a", "b", "a", "b"],
        text: [f"some words that differ {n}" for n in range(4)],
        "id": [*"wxyz"],
    }
    rows = [delimiter.join(cells[name][n] for name in names) for n in range(4)]
    path = written(tmp_path, "mine.csv", "\n".join([header, *rows]))
    found = roles(Header.of(path, "utf-8"), None, None)
    assert (found.label, found.text) == (label, text)


def test_json_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"review": f"it was rather good {n}", "stars": "45"[n % 2]}) for n in range(4)]
    learned = learn(written(tmp_path, "r.jsonl", "\n".join(lines)), target="stars", text="review")
    assert learned.reader.kind == "texts" and list(learned.train.y) == ["4", "5", "4", "5"]


def test_a_table_with_missing_cells_and_row_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "pets.csv", PETS)
    learned = learn(path)
    assert learned.reader.kind == "table" and not learned.reader.regression
    assert [name for name in learned.reader.columns.names] == [
        *("kilos", "kilos is missing", "colour = missing", "colour = black", "colour is unseen")
    ]
    assert any("'id'" in note and "numbers the rows" in note for note in learned.train.examples.notes)
    # By hand: standardised by the rows that have a value.
    kilos = np.array([3 + n % 2 + 0.1 * n for n in range(1, 30)])
    expected = np.concatenate([[0.0], (kilos - kilos.mean()) / kilos.std()])
    np.testing.assert_allclose(np.asarray(learned.train.examples.x)[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert np.asarray(learned.train.examples.x)[:, 1].tolist() == [1.0] + 29 * [0.0]


def test_numbers_are_regressed_on(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{n % 7},{3.5 * n}" for n in range(40))
    learned = learn(written(tmp_path, "t.csv", f"a,b,y\n{rows}"), target="y")
    assert learned.reader.regression
    assert np.asarray(learned.train.y).tolist() == [3.5 * n for n in range(40)]


def test_pictures_and_their_test_folder(tmp_path: Path) -> None:
    pictures(tmp_path / "train")
    pictures(tmp_path / "test", each=2, first=10)
    learned = learn(tmp_path, size=16)
    assert np.asarray(learned.train.examples.x).shape == (12, 3, 16, 16)
    assert learned.test is not None and len(learned.test) == 6
    assert np.asarray(learned.train.examples.x)[0].max() == 0


@pytest.mark.parametrize("kind", sorted(READERS))
def test_what_was_learned_is_kept_as_json(tmp_path: Path, kind: str) -> None:
    path = {
        "pictures": lambda: pictures(tmp_path / "p"),
        "texts": lambda: written(tmp_path, "t.csv", TEXTS),
        "table": lambda: written(tmp_path, "p.csv", PETS),
    }[kind]()
    reader = learn(path).reader
    again = reader_of(json.loads(json.dumps({"kind": reader.kind, **reader.to_dict()})))
    assert again == reader
    one, other = again.labelled(path), reader.labelled(path)
    assert [*one.y] == [*other.y] and np.array_equal(np.asarray(one.examples.x), np.asarray(other.examples.x))


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"kind": "pictures"},
        {"kind": "pictures", "size": 10**9},
        {"kind": "pictures", "size": 64, "channels": 7},
        {"kind": "pictures", "size": 64, "weights": "x"},
        {"kind": ["pictures"]},
        {"kind": "texts", "text": 3, "label": "b", "encoding": "utf-8"},
        {"kind": "table", "columns": {}, "target": "a", "encoding": "utf-8", "regression": False},
        {
            "kind": "table",
            "columns": {"columns": [], "decimal": "."},
            "target": "a",
            "encoding": "",
            "regression": False,
        },
        {
            "kind": "table",
            "columns": {"columns": [{"name": "a"}], "decimal": "."},
            "target": "a",
            "encoding": "",
            "regression": 1,
        },
        {"kind": "os.system"},
    ],
)
def test_a_reader_from_elsewhere_is_checked(kept: dict[str, object]) -> None:
    with pytest.raises(TaskError):
        reader_of(kept)


@pytest.mark.parametrize(
    ("name", "content", "settings", "said"),
    [
        ("t.csv", TEXTS, {"target": "intend"}, "did you mean 'intent'"),
        ("t.csv", TEXTS, {"text": "utterence"}, "did you mean 'utterance'"),
        ("t.csv", "a,b,c\n1,2,3\n4,5,6\n", {}, "which column is to be predicted"),
        ("t.csv", "species,class,a\nx,y,1\n", {}, "species, class all look like it"),
        ("t.csv", "", {}, "is empty"),
        ("t.csv", "only\nx\ny\n", {}, "has one column"),
        ("t.csv", "kilos,label\n1,cat\n2,cat\n", {}, "1 labels: use two or more"),
        ("t.xlsx", "x", {}, "save the sheet as CSV"),
        ("t.parquet", "x", {}, "save it as CSV"),
        ("t.png", "x", {}, "is one picture"),
        ("t.csv", "day,label\n2020-01-01,a\n2020-01-02,b\n", {}, "date"),
    ],
)
def test_one_line_says_what_to_do(
    tmp_path: Path, name: str, content: str, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        learn(written(tmp_path, name, content), **settings)  # type: ignore[arg-type]


def test_a_path_with_a_slip(tmp_path: Path) -> None:
    written(tmp_path, "orders.csv", TEXTS)
    with pytest.raises(TaskError, match=r"did you mean .*orders\.csv"):
        kind_of(tmp_path / "order.csv")


def test_requests(tmp_path: Path) -> None:
    table = learn(written(tmp_path, "p.csv", PETS)).reader
    found = table.request([{"kilos": 4, "colour": "pink"}, {}])
    assert np.asarray(found.x)[0, -1] == 1 and np.asarray(found.x)[1, 1] == 1  # unseen, and missing
    with pytest.raises(TaskError, match="did you mean 'kilos'"):
        table.request({"kilo": 4})
    with pytest.raises(TaskError, match="send a string or a number"):
        table.request({"kilos": [4]})
    with pytest.raises(TaskError, match="no finite number"):
        table.request({"kilos": "heavy"})
    texts = learn(written(tmp_path, "t.csv", TEXTS)).reader
    assert list(texts.request(["a", "b"]).x) == ["a", "b"]
    with pytest.raises(TaskError, match="send a text"):
        texts.request(3)
    images = learn(pictures(tmp_path / "p"), size=16).reader
    with pytest.raises(TaskError, match="cannot be read"):
        images.request(b"no picture")
    content = (tmp_path / "p" / "class_0" / "0.png").read_bytes()
    assert np.asarray(images.request(content).x).shape == (1, 3, 16, 16)
