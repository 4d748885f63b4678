"""``python -m adapt fit``: from pictures, texts or a table to a model and a page on it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from adapt.adapter.storage import CARD, CONFIG
from adapt.app.commands.arguments import Plain, add_groups
from adapt.app.folders import LOCK, alone
from adapt.app.progress import line
from adapt.compare.groups import Groups
from adapt.errors import AdaptError
from adapt.own_data import Answer, fit_data
from adapt.own_data.answer import PAGE
from adapt.own_data.cost import InferenceCost
from adapt.own_data.groups import check_gap, refusal
from adapt.own_data.trial import METHODS

__all__ = ["main"]

#: What a fit leaves that was killed before it had written all of a model.
OURS = re.compile(
    rf"{LOCK}(-journal)?|{PAGE}|{CARD}|(adapter_model|examples)-[0-9a-f]{{16}}\.safetensors|\.adapter_model\.\w{{8}}"
)
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def main(arguments: list[str]) -> None:
    """Fit, and write a folder.

    Raises:
        AdaptError: data or options that cannot be used.
    """
    parser = Plain("fit", "Learn from your own pictures, texts or table; all classes, all examples.")
    parser.add_argument("data", help="a folder with one folder of pictures per class, or a CSV file")
    parser.add_argument("--out", metavar="FOLDER", help="where the model goes (default: DATA_model)")
    parser.add_argument("--force", action="store_true", help="write over a model that is there")
    parser.add_argument(
        "--test", metavar="DATA", help="labelled examples to measure on; nothing is learned from them"
    )
    parser.add_argument("--target", metavar="COLUMN", help="the column that is to be predicted")
    parser.add_argument("--text", metavar="COLUMN", help="the column of texts")
    parser.add_argument("--method", default="auto", help=f"{', '.join(METHODS)} (default: auto)")
    parser.add_argument("--time", metavar="SECONDS", help="what it may take: 60s, 5m")
    parser.add_argument("--backbone", metavar="NAME", help="another network")
    parser.add_argument(
        "--as", dest="kind", default="auto", help="what a table predicts: classes, values, auto"
    )
    parser.add_argument(
        "--ignore", metavar="COLUMN", action="append", default=[], help="no input; several times"
    )
    parser.add_argument(
        "--categorical", metavar="COLUMN", action="append", default=[], help="its numbers are names"
    )
    parser.add_argument("--encoding", default="utf-8", help="of files (default: utf-8)")
    parser.add_argument("--decimal", default=".", help="the mark of decimals in a table: . or ,")
    parser.add_argument(
        "--register", metavar="NAME", help="also a version of this registered model in MLflow"
    )
    add_groups(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the division into parts")
    given = parser.parse_args(arguments)
    if given.kind not in ("auto", "classes", "values"):
        raise AdaptError(f"--as {given.kind} is unknown: use classes, values or auto")
    check_gap(given.max_gap, given.group)
    out = Path(given.out) if given.out else _beside(Path(given.data))
    if given.register is not None:
        from adapt.tracking.model import check_name

        check_name(given.register)
    with _claimed(out, given.force):
        answer = fit_data(
            given.data,
            test=given.test,
            target=given.target,
            text=given.text,
            method=given.method,
            seconds=None if given.time is None else seconds_of(given.time),
            backbone=given.backbone,
            kind=given.kind,
            ignore=given.ignore,
            categorical=given.categorical,
            encoding=given.encoding,
            decimal=given.decimal,
            groups=given.group,
            seed=given.seed,
            say=line,
        )
        answer.save(out)
        line(f"model: {out}, page: {out / PAGE}")
    unfair = refusal([Groups.from_dict(kept) for kept in answer.about["groups"]], given.max_gap)
    if unfair is not None:
        raise AdaptError(f"{unfair}. The model is in {out}" + (", not registered" if given.register else ""))
    if given.register is not None:
        _register(answer, out, given.register, Path(given.data))


def _register(answer: Answer, out: Path, name: str, data: Path) -> None:
    from adapt.tracking.fitted import register

    about, task = answer.about, data.expanduser().resolve().stem
    score = about["score"]
    accurate = score["metric"] == "accuracy"
    metrics = {"time/adapt_seconds": about["seconds"]}
    if score["n"]:
        metrics["eval/accuracy" if accurate else "eval/r2"] = score["value"]
    if accurate and score["n"]:
        metrics["eval/accuracy_ci95"] = (score["high"] - score["low"]) / 2
    metrics |= about["trust"] | InferenceCost(**about["inference"]).metrics()
    if about["worse"]:
        metrics[f"trust/{'accuracy' if accurate else 'r2'}_worse"] = about["worse"]["worse"]["value"]
    for kept in about["groups"]:
        metrics |= Groups.from_dict(kept).metrics()
    tags = {"method": about["method"], "experiment": "fit", "task": task, "backbone": about["network"]}
    version = register(out, name, f"{task} · {about['method']}", metrics, tags, Path.cwd())
    line(f"registered: models:/{name}/{version}")


def seconds_of(written: str) -> float:
    """The seconds of ``60s``, ``5m``, ``1.5h`` or ``90``.

    Raises:
        AdaptError: it is none of these.

    >>> seconds_of("5m")
    300.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", written.strip().lower())
    if found is None or found[2] not in UNITS or not float(found[1]) > 0:
        raise AdaptError(f"--time {written}: give a time such as 60s, 5m or 1h")
    return float(found[1]) * UNITS[found[2]]


def _beside(data: Path) -> Path:
    """A folder in the working directory named after the data."""
    name = data.expanduser().resolve()
    return Path(f"{name.name if name.is_dir() else name.stem}_model")


@contextmanager
def _claimed(out: Path, force: bool) -> Iterator[None]:
    """Keep other processes out of ``out``, and see that it can be written before anything takes long."""
    _check_out(out, force)
    new, held = not out.exists(), False
    try:
        with alone(out):
            held = True
            _check_out(out, force)  # somebody may have been quicker
            yield
    finally:
        if held:
            with suppress(OSError):
                (out / LOCK).unlink()
                if new:
                    out.rmdir()  # unless something has come of it


def _check_out(out: Path, force: bool) -> None:
    """Refuse before anything takes long what could not be written in the end."""
    try:
        kind = out.stat().st_mode if out.exists() else None
    except OSError as error:
        raise AdaptError(f"--out {str(out)[:100]} cannot be used ({error.strerror}): name a folder") from None
    if kind is not None and not S_ISDIR(kind):
        raise AdaptError(f"--out {out} is a file: name a folder")
    if not out.is_dir():
        return
    if (out / CONFIG).is_file():
        if not force:
            raise AdaptError(
                f"--out {out} holds a model: name another folder, or add --force to write over it"
            )
    elif not all(OURS.fullmatch(path.name) for path in out.iterdir()):
        raise AdaptError(f"--out {out} holds other files: name a folder that is empty or new")
