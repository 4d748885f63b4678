"""Ways around what counts only when it is typed: names that lead out, arguments without a name, texts read
twice; and configurations that are larger than they look."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra")

from omegaconf import OmegaConf

from adapt.app.build import check
from adapt.app.commands.resume import started
from adapt.app.compose import compose_run
from adapt.app.sizes import check_file
from adapt.app.trust import split_read
from adapt.errors import AdaptError
from adapt.files import write_json
from tests.command_line import call
from tests.processes import run

GLOBAL = "# @package _global_\n"
EVIL = "hydra: {callbacks: {e: {_target_: os.mkdir, path: proof}}}\n"
UP = "../" * 20


def own(root: Path, **files: str) -> Path:
    """A folder of configs with these experiments; FOLDER in them is its own path."""
    (root / "conf" / "experiment").mkdir(parents=True)
    for name, text in files.items():
        path = root / "conf" / "experiment" / f"{name}.yaml"
        path.write_text(GLOBAL + text.replace("FOLDER", str(root)), encoding="utf-8")
    return root / "conf"


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("", f"experiment={UP}FOLDER/evil"),
        (f"defaults: ['/method/{UP}FOLDER/evil']", "experiment=a"),
        ("defaults: ['/FOLDER/evil']", "experiment=a"),
        (f"defaults: [{{'/method/{UP}FOLDER': evil}}]", "experiment=a"),
        ("defaults: [../../evil]", "experiment=a"),
    ],
    ids=["override", "default", "absolute", "group", "beside"],
)
def test_an_option_may_lie_elsewhere_and_is_looked_at(text: str, override: str, tmp_path: Path) -> None:
    folder = own(tmp_path, a=text)
    (tmp_path / "evil.yaml").write_text(GLOBAL + EVIL, encoding="utf-8")
    with pytest.raises(AdaptError, match=r"type it if you want it|configs come from folders"):
        compose_run([override.replace("FOLDER", str(tmp_path))], folder)


@pytest.mark.parametrize(
    "text",
    [
        "task: {root: /elsewhere}\noutput: '${task.root}'",
        "task: {root: /elsewhere}\ntracking: {root: '${task.root}'}",
        "output: 'a/${now:..}/b'",
        "task: {root: ../x}\nhydra: {job: {name: '${task.root}'}}",
        "task: {root: /elsewhere}\nhydra: {sweeper: {params: {output: '${task.root}'}}}",
        # Read once it is text, and read again an interpolation.
        "task: {root: $}\nname: '${task.root}{oc.env:HOME}'",
        "task: {root: '{oc.env:HOME}'}\nname: '$${task.root}'",
        "task: {root: $, file: '{oc.env:HOME}'}\nname: '${task.root}${task.file}'",
        "task: {root: $}\nhydra: {sweeper: {params: {name: \"'${task.root}{oc.env:HOME}'\"}}}",
    ],
)
def test_interpolations_hide_nothing(text: str, tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match="type it if you want it"):
        compose_run(["experiment=a"], own(tmp_path, a=text))


def test_interpolations_that_are_of_use(tmp_path: Path) -> None:
    made = compose_run(["experiment=a"], own(tmp_path, a="name: mine\noutput: 'kept/${name}/${seed}'\n"))
    assert made.config.output == "kept/mine/0"


@pytest.mark.parametrize("text", ["output=${task.root}", "name=$${x}", "name='${x}{oc.env:HOME}'"])
def test_nor_do_those_of_overrides(text: str) -> None:
    assert split_read(["output=kept/${name}", text]) == (["output=kept/${name}"], [text])


@pytest.mark.parametrize("key", ["_args_", "_kwargs_", "_x"])
def test_arguments_have_names(key: str) -> None:
    node = {"_target_": "adapt.tracking.TrackingSettings", key: [True, ".", "http://a"]}
    with pytest.raises(AdaptError, match=f"tracking.{key} is not a setting"):
        check(node, "tracking")


# ---------------------------------------------------------------------------------------- a folder of a run


def noted(folder: Path, **changes: Any) -> Path:
    """The folder of an interrupted run, as somebody else may send it."""
    found: dict[str, Any] = {
        "mode": "RUN",
        "overrides": {"task": ["experiment=quickstart", "seed=nonsense"], "hydra": []},
        "job": {"config_name": "config"},
        "runtime": {"cwd": str(folder.parent), "config_sources": []},
    }
    config = OmegaConf.create(found)
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({"hydra": config}), folder / ".hydra" / "hydra.yaml")
    return folder


def test_the_first_config_of_a_resumed_folder_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text(EVIL, encoding="utf-8")
    noted(tmp_path / "run", **{"job.config_name": f"{UP}{tmp_path}/evil"})
    done = run(["-m", "adapt", "resume", "run"], tmp_path)
    assert done.returncode == 2 and "type it if you want it" in done.stderr, done.stderr
    assert not (tmp_path / "proof").exists()


def test_a_resumed_folder_does_not_choose_where_results_go(tmp_path: Path, capsys: Any) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    folder = noted(tmp_path / "here" / "run", **{"runtime.cwd": str(tmp_path / "there")})
    for where in (tmp_path / "here", tmp_path):
        assert call(["resume", str(folder)], where) == 2
        assert f"cd {shlex.quote(str(tmp_path / 'there'))}" in capsys.readouterr().err
    assert call(["resume", str(folder)], tmp_path / "there") == 2
    assert "seed" in capsys.readouterr().err, "it was started"


@pytest.mark.parametrize(
    "changes",
    [
        {"job.config_name": "--experimental-rerun=x"},
        {"job.config_name": None},
        {"runtime.cwd": 3},
        {"overrides.hydra": [1]},
        {"overrides.task": [None]},
        {"runtime.config_sources": [1]},
        {"runtime.config_sources": [{"path": "--info", "provider": "command-line"}]},
    ],
    ids=str,
)
def test_notes_that_are_none(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match="is not whole"):
        started(noted(tmp_path / "run", **changes))


# --------------------------------------------------------------------------------- larger than it looks


def doubled(form: str, levels: int = 40) -> str:
    """Each line holds the one before it twice."""
    return "task:\n  x0: &x0 [1, 2]\n" + "".join(
        "  " + form.replace("NEW", f"x{k}").replace("OLD", f"x{k - 1}") + "\n" for k in range(1, levels)
    )


BOMBS = {
    "aliases": (doubled("NEW: &NEW [*OLD, *OLD]"), "by aliases"),
    "a loop": ("task: &a {x: *a}", "holds itself"),
    "texts": (doubled("NEW: '${task.OLD} ${task.OLD}'"), "refer to each other"),
    "nodes": (doubled("NEW: {a: '${task.OLD}', b: '${task.OLD}'}"), "refer to each other"),
    "depth": (f"task: {'[' * 1000}{']' * 1000}", "nested too deeply"),
    "digits": (f"seed: {'9' * 5000}", "cannot be read"),
    "defaults": ("defaults: [a]", "name each other"),
    "runs": ("hydra: {sweeper: {params: {seed: 'range(0, 100000000)'}}}", "hydra.sweeper.params.seed"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_few_lines_do_not_fill_the_memory(case: str, tmp_path: Path) -> None:
    text, reason = BOMBS[case]
    with pytest.raises(AdaptError, match=reason):
        compose_run(["experiment=a"], own(tmp_path, a=text))


@pytest.mark.parametrize("text", ["seed=range(0,1000000000)", f"task.x={'[' * 500}", "seed=range(0,1,0)"])
def test_nor_does_an_override(text: str) -> None:
    assert split_read(["seed=range(0,5)", text]) == (["seed=range(0,5)"], [text])


def test_a_config_is_a_regular_file_of_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "zero", "latin", "holes"):
        with pytest.raises(AdaptError, match=name):
            check_file(tmp_path / name)


# --------------------------------------------------------------------------------- notes of another kind

RECORDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "tune.json": (["tune", "folder=run"], {"overrides": ["hparams_search=methods"], "config_dir": None}),
    "run.json": (["resume", "run"], {"status": "running", "overrides": ["seed=0"], "config": {}}),
    "sweep.json": (["resume", "run"], {"status": "running", "id": "x", "run_id": None, "swept": []}),
}


@pytest.mark.parametrize("value", [None, 3, [1], {"a": 1}], ids=str)
@pytest.mark.parametrize("name", RECORDS)
def test_records_of_another_kind_are_one_error(
    name: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, record = RECORDS[name]
    for entry in record:
        kinds = (dict, list) if entry == "swept" else dict if entry == "config" else type(record[entry])
        if isinstance(value, kinds):
            continue  # as it may be
        folder = tmp_path / entry
        noted(folder / "run", **{"overrides.task": ["adapter=nowhere", "tracking=none"]})
        if name == "sweep.json":
            (folder / "run" / ".hydra" / "hydra.yaml").rename(folder / "run" / "multirun.yaml")
        write_json(folder / "run" / name, {**record, entry: value})
        assert call(command, folder) == 2
        assert capsys.readouterr().err.startswith("error: "), entry
