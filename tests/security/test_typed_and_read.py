"""What is read is not what is typed: configs, folders of runs and of searches, registered overrides."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("hydra")

from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from adapt.app.commands.gate_tasks import task_overrides
from adapt.app.commands.resume import started
from adapt.app.commands.tune import tune
from adapt.app.compose import compose_run
from adapt.app.trust import check_name, check_read, split_read
from adapt.errors import AdaptError
from adapt.files import write_json
from tests.processes import run

EVIL = "{_target_: os.mkdir, path: proof}"
#: Files of a folder of configs, each with what must not count, and what the refusal names.
FILES = {
    "a callback": (
        "experiment/x.yaml",
        f"# @package _global_\nhydra: {{callbacks: {{e: {EVIL}}}}}",
        "hydra.callbacks",
    ),
    "a callback by its package": (
        "evil/cb.yaml",
        f"# @package hydra.callbacks\ne: {EVIL}",
        "hydra.callbacks",
    ),
    "a launcher": ("hydra/launcher/mine.yaml", EVIL, "hydra.launcher"),
    "logging": ("experiment/x.yaml", "# @package hydra.job_logging\nclass: evil", "hydra.job_logging"),
    "the environment": (
        "experiment/x.yaml",
        "# @package _global_\nhydra: {job: {env_set: {A: b}}}",
        "hydra.job",
    ),
    "another folder": ("experiment/x.yaml", "# @package _global_\nhydra: {run: {dir: /tmp/x}}", "hydra.run"),
    "allow": ("experiment/x.yaml", "# @package _global_\nallow: [os]", "allow=['os']"),
    "allow, swept": (
        "experiment/x.yaml",
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {allow: '[os],[sys]'}}}",
        "hydra.sweeper.params.allow",
    ),
    "another sweeper": (
        "experiment/x.yaml",
        "# @package _global_\nhydra: {sweeper: {_target_: os.mkdir}}",
        "hydra.sweeper",
    ),
    "an address": ("tracking/x.yaml", "uri: http://localhost:1", "tracking.uri"),
    "an address elsewhere": (
        "experiment/x.yaml",
        "# @package _global_\ntracking: {uri: http://a}",
        "tracking.uri",
    ),
    "a study": (
        "experiment/x.yaml",
        "# @package _global_\nhparams_search: {storage: http://a}",
        "hparams_search.storage",
    ),
    "a variable": ("experiment/x.yaml", "# @package _global_\nname: ${oc.env:HOME}", "${oc.env:HOME}"),
    "a variable, hidden": (
        "experiment/x.yaml",
        "# @package _global_\na: oc.env\nname: '${oc.decode:\"$\\{${a}:HOME}\"}'",
        "oc.decode",
    ),
    "another place": (
        "experiment/x.yaml",
        "# @package _global_\noutput: ../../elsewhere",
        "output=../../elsewhere",
    ),
    "another store": (
        "experiment/x.yaml",
        "# @package _global_\ntracking: {root: /elsewhere}",
        "tracking.root=/elsewhere",
    ),
}


def folder_of(root: Path, file: str, text: str) -> tuple[Path, str]:
    """A folder of configs with ``file``, and the override that chooses it."""
    path = root / "conf" / file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    group = str(path.parent.relative_to(root / "conf"))
    return root / "conf", f"{'+' if group == 'evil' else ''}{group}={path.stem}"


@pytest.mark.parametrize("case", FILES)
def test_a_folder_of_configs_does_not_say_it(case: str, tmp_path: Path) -> None:
    file, text, named = FILES[case]
    own, choice = folder_of(tmp_path, file, text)
    with pytest.raises(AdaptError) as refusal:
        compose_run([choice], own)
    assert named in str(refusal.value) and file in str(refusal.value)
    assert "type it" in str(refusal.value)


def test_what_a_folder_of_configs_may_say(tmp_path: Path) -> None:
    text = "# @package _global_\nname: mine\noutput: kept/here\n"
    text += "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}"
    own, choice = folder_of(tmp_path, "experiment/x.yaml", text + "\ntask: {shots: '${seed}'}")
    made = compose_run([choice], own)
    assert made.config.name == "mine" and made.sweep == {"seed": "0,1"}


@pytest.mark.parametrize("way", ["config-dir", "config-path", "config-name", "searchpath"])
def test_the_command_line_refuses_before_anything_runs(way: str, tmp_path: Path) -> None:
    text = f"hydra: {{callbacks: {{e: {EVIL}}}}}"
    own, _ = folder_of(tmp_path, "experiment/x.yaml", f"# @package _global_\n{text}")
    (own / "primary.yaml").write_text("hydra: {searchpath: ['pkg://evil']}\n", encoding="utf-8")
    (tmp_path / "evil.py").write_text("open('proof', 'w').write('')", encoding="utf-8")
    typed = {
        "config-dir": ["--config-dir", "conf", "experiment=x"],
        "config-path": ["--config-path", str(own), "--config-name", "primary"],
        "config-name": ["--config-dir", "conf", "--config-name", "primary"],
        "searchpath": [f"hydra.searchpath=[file://{own}]", "experiment=x"],
    }
    done = run(["-m", "adapt", *typed[way]], tmp_path)
    assert done.returncode == 2 and "type it" in done.stderr and "hydra." in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "proof").exists()


def test_hydra_unpickles_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.pickle").write_bytes(b"cos\nmkdir\n(S'proof'\ntR.")
    done = run(["-m", "adapt", "--exp", "config.pickle"], tmp_path)
    assert done.returncode == 2 and "adapt resume" in done.stderr
    assert not (tmp_path / "proof").exists()


def test_what_is_typed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "here")
    typed = ["allow=[mine]", "tracking.uri=http://a", "output=/elsewhere/x", "name=${oc.env:WHERE}"]
    config = compose_run(typed).config
    assert (config.allow, config.tracking.uri, config.output) == (["mine"], "http://a", "/elsewhere/x")
    assert config.name == "here"


KEPT = [
    "experiment=digits",
    "task.shots=1,5",
    "method=[head,forward]",
    "seed=3",
    "launcher=joblib",
    "task.root=/data",
    "hydra.mode=MULTIRUN",
    "hydra.job.name=x",
    "hydra.sweeper.params.seed='0,1'",
]
LEFT = [
    "hydra.job.name=../x",
    "hydra.job.env_set.PATH=.",
    "hydra.job={name:x,chdir:true}",
    "hydra.mode@hydra.callbacks=x",
    "+hydra.sweeper._target_=os.abort",
    "+hydra.sweeper.params.allow='[os],[sys]'",
    "~tracking.uri",
    "allow=[os]",
    "+allow=[os]",
    "++allow=[os]",
    "~allow",
    "allow=[a],[b]",
    "hydra.run.dir=x",
    "hydra/launcher=joblib",
    "+hydra.callbacks.e._target_=os.abort",
    "experiment@hydra.callbacks=x",
    "+x@_global_.hydra.callbacks=y",
    "tracking.uri=http://a",
    "tracking={uri:http://a}",
    "tracking={enabled:true},{uri:http://a}",
    "++tracking.uri=a",
    "hparams_search.storage=sqlite:///x",
    "name=${oc.env:HOME}",
    "name=${ oc.env:HOME}",
    "name=${oc.${a}:HOME}",
    "name=${oc.decode:x}",
    "name=${oc.create:x}",
    "output=/elsewhere",
    "output=../x",
    "tracking.root=..",
    "a b",
    "hydra={callbacks:{}}",
    "'allow'=[os]",
]


@pytest.mark.parametrize("text", LEFT)
def test_read_overrides_that_are_left(text: str) -> None:
    assert split_read([*KEPT, text]) == (KEPT, [text])


def test_registered_overrides_are_of_tasks_only() -> None:
    lines = [*KEPT, *LEFT, "meta.steps=3", "tracking.experiment=x", "device=cuda"]
    assert task_overrides("\n".join(lines)) == [
        "experiment=digits",
        "task.shots=1,5",
        "method=[head,forward]",
        "task.root=/data",
    ]


@given(
    st.recursive(
        st.text("ab:.${} \\oc.env", max_size=12),
        lambda inner: st.tuples(inner, inner).map("".join),
        max_leaves=4,
    )
)
def test_whatever_passes_reads_no_variable(text: str) -> None:
    """Written as somebody may who hides what it is."""
    try:
        check_read({"name": text, "a": "HOME", "b": "oc.env"}, "file")
        value = OmegaConf.create({"name": text, "a": "HOME", "b": "oc.env"}).name
    except Exception:
        return
    assert os.environ["HOME"] not in str(value)


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "..", "", "a//b", "a\\..\\b", "a\nb", "x" * 300, "a/"]
)
def test_a_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(AdaptError, match="plain name"):
        check_name(name)
    with pytest.raises(AdaptError, match="plain name"):
        compose_run([f"name='{name}'" if name.isprintable() and "\\" not in name else "name=.."])


@pytest.mark.parametrize("method", ["../../x", "a/b", "", " x"])
def test_so_does_a_method(method: str, tmp_path: Path) -> None:
    from adapt.app.build import check_all

    with pytest.raises(AdaptError, match="files are called so"):
        check_all({"method": {method: {"_target_": "adapt.baselines.HeadOnly"}}})


def recorded(folder: Path, task: list[str], hydra: list[str], own: Path) -> Path:
    """The folder of an interrupted run, as somebody else may send it."""
    sources = [{"path": str(own), "schema": "file", "provider": "command-line"}]
    noted = {
        "mode": "RUN",
        "overrides": {"task": task, "hydra": hydra},
        "job": {"config_name": "config"},
        "runtime": {"cwd": str(folder.parent), "config_sources": sources},
    }
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({"hydra": noted}), folder / ".hydra" / "hydra.yaml")
    return folder


def test_a_resumed_folder_does_not_say_it(tmp_path: Path) -> None:
    own, _ = folder_of(tmp_path, "experiment/x.yaml", "# @package _global_\nname: x")
    task = ["experiment=x", "allow=[os]", "tracking=none", f"+method.evil={EVIL.replace(' ', '')}"]
    folder = recorded(tmp_path / "run", task, ["hydra.callbacks.summary._target_=os.mkdir"], own)
    found = started(folder)
    assert "experiment=x" in found.arguments and not any("hydra.callbacks" in a for a in found.arguments)
    assert found.left == ["allow=[os]", "hydra.callbacks.summary._target_=os.mkdir"]
    done = run(["-m", "adapt", "resume", "run"], tmp_path)
    assert done.returncode == 2 and "os.mkdir is not allowed" in done.stderr, done.stderr
    assert "going on in" in done.stdout and "experiment=x" in done.stdout
    assert "not taken over: 'allow=[os]'" in done.stdout
    assert not (tmp_path / "proof").exists()


def test_a_folder_of_a_search_does_not_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = f"+method.evil={EVIL.replace(' ', '')}"
    for name, text in (("overrides", evil), ("variables", "name=${oc.env:HOME}")):
        folder = tmp_path / name
        folder.mkdir()
        overrides = ["hparams_search=methods", "allow=[os]", text]
        write_json(folder / "tune.json", {"overrides": overrides, "config_dir": None})
    with pytest.raises(AdaptError, match=r"os\.mkdir is not allowed"):
        tune([], folder=tmp_path / "overrides")
    said = capsys.readouterr().out
    assert "goes on with: hparams_search=methods" in said and "not taken over: 'allow=[os]'" in said
    assert sys.path and not Path("proof").exists()
