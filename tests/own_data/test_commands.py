"""``adapt fit``, ``predict``, ``evaluate`` and ``serve`` as somebody types them who reads no configs."""

import csv
import http.client
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.processes import run
from tests.served import served

SPECIES = {"gentoo": (47.0, 217.0), "adelie": (39.0, 190.0), "chinstrap": (49.0, 196.0)}


def penguins(path: Path, n: int, seed: int) -> Path:
    """A table like the well-known one: measures, an island, missing cells."""
    rng = np.random.default_rng(seed)
    lines = ["species,island,bill_mm,flipper_mm,sex"]
    for row in range(n):
        name = [*SPECIES][row % 3]
        bill, flipper = rng.normal(SPECIES[name], (2.0, 5.0))
        island = "biscoe" if name == "gentoo" else rng.choice(["dream", "torgersen"])
        measured, sex = "NA" if row % 29 == 5 else f"{bill:.1f}", rng.choice(["male", "female", ""])
        lines.append(f"{name},{island},{measured},{flipper:.0f},{sex}")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a table, and a model of it."""
    root = tmp_path_factory.mktemp("mine")
    penguins(root / "penguins.csv", 120, 0)
    penguins(root / "test.csv", 60, 1)
    done = run(["-m", "adapt", "fit", "penguins.csv", "--test", "test.csv", "--out", "model"], root)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d % right \(95 % interval .* of 60, a test set", done.stderr)
    return root


def test_what_fit_writes(folder: Path) -> None:
    assert {path.name for path in (folder / "model").iterdir()} >= {
        "adapter_config.json",
        "README.md",
        "report.html",
    }
    assert "of 3 classes" in (folder / "model" / "report.html").read_text(encoding="utf-8")


def test_predict_and_evaluate(folder: Path) -> None:
    done = run(["-m", "adapt", "predict", "model", "test.csv"], folder)
    assert done.returncode == 0, done.stderr
    rows = [*csv.DictReader(io.StringIO(done.stdout))]
    truth = [row["species"] for row in csv.DictReader(io.StringIO((folder / "test.csv").read_text()))]
    right = sum(row["prediction"] == label for row, label in zip(rows, truth, strict=True))
    done = run(["-m", "adapt", "evaluate", "model", "test.csv", "--csv", "out.csv"], folder)
    assert done.stdout.startswith(f"{100 * right / 60:.1f} % right") and right > 50
    assert (folder / "out.csv").read_text().count("\n") == 61


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["fit", "penguin.csv"], "did you mean penguins.csv"),
        (["fit", "penguins.csv", "--target", "specie"], "did you mean 'species'"),
        (["fit", "penguins.csv", "--metod", "head"], "did you mean --method"),
        (["fit", "penguins.csv", "--method", "best"], "use one of auto, head, forward, backprop"),
        (["fit", "penguins.csv", "--time", "soon"], "60s, 5m or 1h"),
        (["fit", "penguins.csv", "--out", "model"], "add --force"),
        (["fit", "penguins.csv", "--out", "."], "holds other files"),
        (["fit", "penguins.csv", "--as", "number"], "classes, values or auto"),
        (["fit"], "required: data"),
        (["predict", "modell", "test.csv"], "modell"),
        (["predict", "model", "no.csv"], "does not exist"),
        (["evaluate", "conv4_glyphs_film", "test.csv"], "was not made by `adapt fit`"),
        (["serve", "conv4_glyphs_film"], "has learned no task yet"),
        (["serve", "model", "--port", "99999"], "from 0 to 65535"),
        (["serve", "model", "--host", ""], "--host is empty"),
        (["fit", "penguins.csv", "--out", "new", "--seed", "-1"], "seed"),
    ],
)
def test_mistakes_are_one_line(folder: Path, typed: list[str], said: str) -> None:
    done = run(["-m", "adapt", *typed], folder)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with served("model", folder) as address:
        yield address


def ask(
    url: str, content: bytes | None = None, kind: str = "application/json", **headers: str
) -> tuple[int, str]:
    request = urllib.request.Request(
        url, content, {"Content-Type": kind, **headers} if content is not None else headers
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_server_answers(folder: Path, server: str) -> None:
    assert ask(f"{server}/health") == (200, '{"status":"ok"}')
    assert json.loads(ask(f"{server}/version")[1])["adapt"]
    row = {"bill_mm": 47, "flipper_mm": 218, "island": "biscoe"}
    status, said = ask(f"{server}/predict", json.dumps(row).encode())
    assert status == 200 and json.loads(said)["predictions"][0]["label"] == "gentoo"
    done = run(["-m", "adapt", "predict", "model", "test.csv"], folder)
    theirs = [row["prediction"] for row in csv.DictReader(io.StringIO(done.stdout))]
    _, said = ask(f"{server}/predict", (folder / "test.csv").read_bytes(), "text/csv")
    assert [found["label"] for found in json.loads(said)["predictions"]] == theirs
    status, page = ask(f"{server}/")
    assert status == 200 and "Try the model" in page


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "not valid JSON"),
        (b"[" * 100_000, "application/json", 400, "not valid JSON"),
        (b'{"bill_mm": NaN}', "application/json", 400, "JSON"),
        (b'{"bil_mm": 3}', "application/json", 400, "did you mean 'bill_mm'"),
        (b"3", "application/json", 400, "send the cells of a row"),
        (b"", "application/json", 400, "empty"),
        (b"x", "image/png", 415, "this model reads rows"),
        (b"x", "text/plain", 415, "content type text/plain"),
        (b"a,b\n1,2\n", "text/csv", 400, "no column"),
    ],
)
def test_a_server_refuses_in_words(server: str, content: bytes, kind: str, status: int, said: str) -> None:
    found, text = ask(f"{server}/predict", content, kind)
    assert found == status and said in json.loads(text)["error"]


def test_a_server_refuses_what_is_too_large_before_it_comes(server: str) -> None:
    connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(1 << 34))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "send several" in answer.read().decode()
    connection.close()


def test_a_correction_is_learned_and_kept(folder: Path, server: str) -> None:
    row = json.dumps({"bill_mm": 60, "flipper_mm": 150, "island": "nowhere"}).encode()
    before = json.loads(ask(f"{server}/predict", row)[1])["predictions"][0]
    other = next(name for name in SPECIES if name != before["label"])
    for _ in range(5):
        assert ask(f"{server}/correct?label={other}", row)[0] == 200
    after = json.loads(ask(f"{server}/predict", row)[1])["predictions"][0]
    assert after["probabilities"][other] > before["probabilities"][other]
    status, said = ask(f"{server}/correct?label=penguin", row)
    assert status == 400 and "no class of this model" in said
    status, said = ask(f"{server}/correct?label={other}", row, Origin="http://elsewhere.example")
    assert status == 403
    assert ask(f"{server}/health", Host="elsewhere.example")[0] == 400
    from adapt.own_data import Answer

    kept = Answer.load(folder / "model").request(json.loads(row))
    assert kept.probabilities is not None
    assert kept.probabilities[0, kept.classes.index(other)] == pytest.approx(
        after["probabilities"][other], abs=1e-5
    )


def test_few_pictures(tmp_path: Path) -> None:
    """Six in each of three classes, with the network that is always there."""
    rng = np.random.default_rng(0)
    for name in ("dots", "lines", "blank"):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for n in range(6):
            image = np.full((40, 40), 250 + n, np.uint8)
            if name == "dots":
                image[rng.integers(40, size=60), rng.integers(40, size=60)] = 0
            if name == "lines":
                image[rng.integers(40, size=5)] = 0
            Image.fromarray(image).save(tmp_path / "shapes" / name / f"{n}.png")
    done = run(["-m", "adapt", "fit", "shapes", "--backbone", "conv4_glyphs"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 pictures of 3 classes" in done.stderr
    done = run(["-m", "adapt", "predict", "shapes_model", "shapes/lines", "shapes/dots/1.png"], tmp_path)
    labels = [row["prediction"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert labels == 6 * ["lines"] + ["dots"]
