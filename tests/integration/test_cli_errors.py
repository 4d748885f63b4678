"""Mistakes end with exit code 2 and one line that names what is wrong and what to do."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from adapt.app.config import config_folder
from tests.command_line import TINY, call, start

GROUPS = sorted(path.name for path in config_folder().iterdir() if path.is_dir())
HERE = "PROOF"  # stands for a file that only a config that was wrongly executed would create


@dataclass(frozen=True)
class Mistake:
    """What was typed, and what the message must contain: the wrong thing, then the fix."""

    typed: tuple[str, ...]
    says: tuple[str, ...]


def mistake(typed: str, *says: str) -> Mistake:
    return Mistake(tuple(typed.split(" ")), says)


MISTAKES = [
    # misspelt
    mistake("inner.stepz=2", "inner.stepz", "did you mean steps?"),
    mistake("task.shotz=1", "task.shotz", "did you mean shots?"),
    mistake("seeed=1", "seeed", "did you mean seed?"),
    mistake("match=null", "no null", "~match"),
    mistake("backbone=resnet99", "backbone/resnet99", "did you mean resnet12?", "conv4"),
    mistake("method=nope", "method/nope", "forward"),
    mistake("method=[head,forwrd]", "method/forwrd", "did you mean forward?"),
    mistake("experiment=quickstar", "experiment/quickstar", "did you mean quickstart?"),
    mistake("experiment=own_txt", "experiment/own_txt", "did you mean own_text?"),
    mistake("head=rigde", "'head/rigde': did you mean ridge?", "kernel_ridge"),
    mistake("nogroup=x", "nogroup"),
    mistake("--help-me", "unrecognized arguments: --help-me", "python -m adapt --help"),
    mistake("--cfg x", "invalid choice: 'x'", "python -m adapt --help"),
    mistake("backbone=module", "backbone.module has no value yet", "set backbone.module._target_="),
    mistake("stage=train", "train", "compare, meta, pretrain"),
    # called otherwise now
    mistake("task.label_noise=0.2", "task.label_noise", "use task=noisy task.share=0.2"),
    mistake("task.mixture.glyphs.weight=3", "task.mixture", "use task=mixture"),
    # of other tasks than those that are made of them
    mistake("task=noisy", "task.ways is not a setting", "did you mean base.ways?"),
    # of the wrong type
    mistake("method.forward.head=[1]", "method.forward.head=[1] is not a component", "_target_"),
    mistake("inner.steps=abc", "inner.steps=abc", "int"),
    mistake("inner.damping=[1]", "inner.damping", "float"),
    mistake("task.shots=many", "many", "task.shots"),
    mistake("seed=1.5", "1.5", "seed"),
    mistake("inner=7", "Config group override must be a string"),
    mistake("+method.own=7", "method.own=7", "_target_"),
    mistake("+method.own={lr:1}", "method.own=", "_target_"),
    mistake("task.source=letters", "task.source=letters", "_target_"),
    mistake("tracking=mlflow tracking.root=7", "tracking.root=7", "str"),
    # out of range
    mistake("task.ways=11", "task.ways=11", "use task.ways<=10"),
    mistake("task.ways=1", "task.ways=1", "use task.ways>=2"),
    mistake("task.shots=0", "task.shots=0", "use task.shots>=1"),
    mistake("task.shots=10000", "task.shots=10000", "use task.shots<="),
    mistake("task.queries=10000", "task.queries=10000", "use task.queries<="),
    mistake("task.tasks=0", "task.tasks=0", "at least one task"),
    mistake("ours=head method=[head,forward]", "ours=head", "there are forward"),
    mistake("inner.damping=-1", "inner.damping=-1", "zero or positive"),
    mistake("inner.steps=-1", "inner.steps=-1", "cannot be negative"),
    mistake("method.forward.k=10000", "k=10000", "choose 0 …"),
    mistake("seed=-1", "seed=-1", "seed>=0"),
    mistake("task.support_split=nope", "nope", "support"),
    mistake("task.source.size=16", "(1, 16, 16)", "(1, 32, 32)"),
    # what does not exist, or does not go together
    mistake("device=tpu", "device=tpu", "cpu, cuda"),
    mistake("adapter=/nonexistent", "/nonexistent", "give a path, or one of"),
    mistake("space=bias", "space=bias", "stage=meta space=bias"),
    mistake("stage=meta meta=pretraining", "stage=meta", "meta=outer"),
    mistake("stage=pretrain meta=outer", "stage=pretrain", "meta=pretraining"),
    mistake("method=[]", "no method", "method=forward"),
    # what has another name now
    mistake(
        "hydra.callbacks.summary._target_=adapt.app.sweep.SweepSummary",
        "_target_=adapt.app.sweep.SweepSummary",
        "adapt.app.sweeps.callback.SweepSummary",
    ),
    # code from elsewhere
    mistake("method.forward._target_=os.system", "method.forward._target_=os.system", "allow=["),
    mistake(
        "method.forward.solver={_target_:subprocess.run,args:[touch,PROOF]}",
        "method.forward.solver._target_=subprocess.run",
        "allow=[",
    ),
    mistake("inner._target_=subprocess.run +inner.args=[touch,PROOF]", "inner._target_", "is not allowed"),
    mistake("+method.own={_target_:pathlib.Path.touch,self:PROOF}", "method.own._target_", "is not allowed"),
    mistake(
        "+method.own={_target_:adapt.files.os.mkdir,path:PROOF}", "method.own._target_=adapt.files.os.mkdir"
    ),
    mistake("+method.forward.deep=[[{_target_:os.mkdir,path:PROOF}]]", "method.forward.deep"),
    mistake("+task.source.more={_target_:os.mkdir,path:PROOF}", "task.source.more"),
    mistake("tracking._target_=os.mkdir +tracking.path=PROOF", "tracking._target_=os.mkdir", "allow=["),
    mistake("+evil={_target_:os.mkdir,path:PROOF}", "evil"),
]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: " ".join(case.typed))
def test_mistake_is_one_clear_line(case: Mistake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof = tmp_path / "proof"

    code = call([*TINY, *(word.replace(HERE, str(proof)) for word in case.typed)], tmp_path)

    said = capsys.readouterr()
    assert_one_line(code, said.err)
    assert [text for text in case.says if text not in said.err] == [], said.err
    assert not proof.exists(), "the config was executed"
    assert "accuracy" not in said.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = call([*TINY, "device=cuda"], tmp_path)

    error = capsys.readouterr().err
    assert_one_line(code, error)
    assert "device=cuda" in error and "use device=cpu" in error


def test_mistake_in_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = call(["-m", *TINY, "hydra.sweep.dir=sweep", "task.ways=11,12"], tmp_path)

    error = capsys.readouterr().err
    assert_one_line(code, error)
    assert "task.ways=11" in error


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "adapt", "inner.stepz=2"],
        [str(Path(sys.executable).parent / "adapt"), *TINY, "task.ways=11"],
    ],
    ids=["module, before torch is loaded", "console script, after it"],
)
def test_in_a_process_of_its_own(command: list[str], tmp_path: Path) -> None:
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")

    ended = start(command, tmp_path)

    assert_one_line(ended.returncode, ended.stderr)
    assert ended.stdout == ""


@pytest.fixture(scope="module")
def help_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr(sys.stdout, "write", lambda text: written.append(text) or len(text))
        assert call(["--help"], tmp_path_factory.mktemp("help")) == 0
    return "".join(written)


@pytest.mark.parametrize("group", GROUPS)
def test_help_explains_group(group: str, help_text: str) -> None:
    options = [path.stem for path in (config_folder() / group).glob("*.yaml")]
    listed = next(line for line in help_text.splitlines() if line.startswith(f"{group}: "))

    assert [option for option in options if option not in listed] == []
    assert re.search(rf"^\s+{group} {{2,}}\w+,? \w+", help_text, re.MULTILINE), help_text


def test_help_has_examples(help_text: str) -> None:
    assert "python -m adapt experiment=quickstart" in help_text
    assert "$" not in help_text, "a placeholder was not filled"


def test_config_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = call(["experiment=quickstart", "task.shots=3", "--cfg", "job"], tmp_path)

    printed = capsys.readouterr().out
    assert code == 0
    assert "name: quickstart" in printed and "shots: 3" in printed and "adapt.inner.GaussNewton" in printed
    assert [*tmp_path.iterdir()] == []


def assert_one_line(code: int, error: str) -> None:
    assert code == 2, error
    assert error.startswith("error: ") and error.endswith("\n") and error.count("\n") == 1, error
    assert "Traceback" not in error
