"""One's own data without a config: texts, photographs and a table, as somebody new has them.

``python -m bench.own_data [--quick]``. Each is fitted from files by ``adapt.own_data.fit_data`` with a head
and with ``auto``, measured on a test set, beside scikit-learn's logistic regression as it comes,
on the same features. Seconds are those of the processor, of one thread, without loading
libraries; ``passes`` are in units of the network's own pass over the examples. Last, a served model is asked
over HTTP, and in the same process, by turns.
"""

from __future__ import annotations

import csv
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from adapt.own_data import Answer, fit_data
from adapt.own_data.networks import network_for
from adapt.own_data.passes import rows_of
from adapt.own_data.support import features_of
from bench.lib.record import Row, options, report
from tasks import CifarFS
from tasks._cache import data_root

DEPENDS = ("adapt/own_data", "adapt/app/serving", "adapt/backbones", "adapt/heads", "tasks/own")
METHODS = ("head", "auto")
HEADER = "compare/accuracy_vs_scikit_learn"


def cells(path: Path) -> list[list[str]]:
    """The rows of a CSV file."""
    return [*csv.reader(path.read_text(encoding="utf-8").splitlines())]


def texts(folder: Path, classes: int, tests: int) -> tuple[Path, Path]:
    """Five examples of each of the first intents of CLINC150, and a part of their test set."""
    where = data_root() / "intents" / "clinc150"
    rows = {name: cells(where / f"{name}.csv")[1:] for name in ("train_5", "test")}
    kept = sorted({label for _, label in rows["test"]})[:classes]
    order = np.random.default_rng(0).permutation(len(rows["test"]))
    chosen = {
        "train": [row for row in rows["train_5"] if row[1] in kept],
        "test": [row for row in (rows["test"][i] for i in order) if row[1] in kept][:tests],
    }
    for name, found in chosen.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("utterance", "intent"), *found])
    return folder / "train.csv", folder / "test.csv"


def photographs(folder: Path, classes: int, shots: int, tests: int) -> tuple[Path, Path]:
    """Photographs of CIFAR-100, as PNG files in one folder per class."""
    source = CifarFS()
    members = {**source.classes("train"), **source.classes("test")}
    names = np.random.default_rng(0).permutation(sorted(members))[:classes]
    for name in names:
        images = (source.load(members[name][: shots + tests]).numpy() * 255).round().astype(np.uint8)
        for number, image in enumerate(images):
            path = folder / ("train" if number < shots else "test") / str(name) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return folder / "train", folder / "test"


def table(folder: Path, rows: int) -> tuple[Path, Path]:
    """German credit, a twentieth of its cells empty."""
    header, *body = cells(data_root() / "credit" / "german_credit.csv")
    rng = np.random.default_rng(0)
    rng.shuffle(body)
    target = header.index("target")
    for row in body:
        for i in range(len(row)):
            row[i] = row[i] if i == target or rng.random() > 0.05 else ""
    for name, part in (("train", body[:rows]), ("test", body[rows:])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *part])
    return folder / "train.csv", folder / "test.csv"


def rows(case: str, train: Path, test: Path, target: str | None) -> Iterator[Row]:
    """A fit by every method, and scikit-learn on the features of the first."""
    theirs: float | None = None
    for method in METHODS:
        begun = time.process_time()
        answer = fit_data(train, method=method, target=target)
        seconds = time.process_time() - begun
        score = answer.evaluate(test).score
        assert score.low is not None and score.high is not None
        name, note = f"{case}: {method}", f"chose {answer.about['method']}"
        half = 50 * (score.high - score.low)
        yield Row(name, "eval/accuracy", 100 * score.value, "%", half, score.n, note=note)
        yield Row.cost(name, "time/fit_seconds", seconds, "s", n=1)
        if answer.reader.kind != "table":
            goal = 2.0 if method == "head" else 3.0
            passes = seconds / answer.about["reading_seconds"]
            yield Row.cost(name, "time/passes", passes, n=1, goal=goal if "intents" in case else None)
        if theirs is None:
            theirs = scikit_learn(answer, test)
            yield Row(f"{case}: scikit-learn", "eval/accuracy", 100 * theirs, "%", None, score.n)
        yield Row(name, HEADER, 100 * (score.value - theirs), "points", half, score.n)


def scikit_learn(answer: Answer, test: Path) -> float:
    """Accuracy of logistic regression on the features that the head was fitted to."""
    assert answer.support is not None
    labelled = answer.reader.labelled(test)
    found = [features_of(answer.task, x).numpy() for x in rows_of(labelled.examples.x)]
    classes = answer.task.classes_.astype(str)
    truth = np.searchsorted(classes, np.array([*map(str, labelled.y)]))
    model = LogisticRegression(max_iter=300)
    model.fit(answer.support.features.numpy(), answer.support.positions.numpy())
    return float(model.score(np.concatenate(found), truth))


def served(answer: Answer, requests: int) -> Iterator[Row]:
    """One text over HTTP and in process, by turns; medians."""
    import uvicorn

    from adapt.app.serving.door import door_for
    from adapt.app.serving.http import application
    from adapt.app.serving.service import Service

    service = Service(answer, None)
    settings = uvicorn.Config(
        application(service, door_for("127.0.0.1", [])), "127.0.0.1", 0, log_level="error"
    )
    socket = settings.bind_socket()
    socket.listen()
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    text = "please wake me at seven and tell me how the weather will be"
    address = f"http://127.0.0.1:{socket.getsockname()[1]}/predict"
    asked = urllib.request.Request(address, json.dumps(text).encode(), {"Content-Type": "application/json"})
    times: dict[str, list[float]] = {"http": [], "here": []}
    for _ in range(requests):
        begun = time.perf_counter()
        with urllib.request.urlopen(asked) as said:
            said.read()
        times["http"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        service.predict(text)
        times["here"].append(time.perf_counter() - begun)
    server.should_exit = True
    thread.join(30)
    http, here = (float(np.median(seconds)) for seconds in times.values())
    yield Row.cost("one text, served", "time/p50_seconds", http, "s", n=requests)
    yield Row.cost("one text, in process", "time/p50_seconds", here, "s", n=requests)
    yield Row.cost("one text, served", "compare/time_of_in_process", http / here, n=requests, goal=1.2)


def main() -> None:
    arguments = options(__doc__).parse_args()
    quick, found = arguments.quick, list[Row]()
    for kind in ("texts",) if quick else ("texts", "pictures"):
        network_for(kind)  # loads what it needs
    with tempfile.TemporaryDirectory() as scratch:
        where = {name: Path(scratch, name) for name in ("texts", "many", "few", "table")}
        for folder in where.values():
            folder.mkdir()
        intents = texts(where["texts"], *((4, 20) if quick else (64, 1076)))
        found += rows("64 intents, 5 texts each", *intents, None)
        if not quick:
            found += rows("30 kinds, 40 photographs each", *photographs(where["many"], 30, 40, 20), None)
            found += rows("3 kinds, 6 photographs each", *photographs(where["few"], 3, 6, 100), None)
        credit = table(where["table"], 60 if quick else 344)
        found += rows("credit, 344 rows, cells missing", *credit, "target")
        found += served(fit_data(intents[0], method="head"), 5 if quick else 200)
    report("own_data", found, arguments)


if __name__ == "__main__":
    main()
