"""`list` and `show`: what they print is what the config files say, and what a run would be made of."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hydra")

import yaml
from rich.console import Console

from adapt.app.commands import list as listing
from adapt.app.commands import show
from adapt.app.config import config_folder
from adapt.errors import AdaptError
from tests.command_line import call

CONFIGS = sorted(config_folder().glob("*/*.yaml"))


def said(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints, which must succeed."""
    code = call(arguments, folder)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command is refused with."""
    assert call(arguments, folder) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of configs as a user writes them: an experiment, a group of another name, one of our names."""
    files = {
        "experiment/mine.yaml": "# @package _global_\n# Letters [ours], from one shot.\ndefaults:\n"
        "  - sinusoid\n  - override /task: volatility\n  - _self_\nname: mine\ntask:\n  shots: 1\n",
        "backbone/wide.yaml": "_target_: my_net.backbone # no line of its own\n# not the first\n",
        "backbone/conv4.yaml": "# Never reached.\n",
        "hydra/launcher/ours.yaml": "# Hydra's.\n",
    }
    for name, text in files.items():
        path = tmp_path / "my conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_config_says_in_a_sentence_what_it_is(path: Path) -> None:
    first, second = (*path.read_text(encoding="utf-8").splitlines(), "")[:2]
    line = second if first == "# @package _global_" else first
    assert line.startswith("# ") and line.endswith(".")
    assert listing.sentence(path) == line[2:]


def test_list_has_every_option_with_its_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["list"], tmp_path, capsys)
    groups = {block.split("=\n")[0]: block.splitlines()[1:] for block in found.split("\n\n")}
    written: dict[str, list[tuple[str, str]]] = {}
    for path in CONFIGS:
        written.setdefault(path.parent.name, []).append((path.stem, listing.sentence(path)))
    rows = {name: [tuple(row.split(maxsplit=1)) for row in lines] for name, lines in groups.items()}
    assert {name: sorted(lines) for name, lines in rows.items()} == written
    assert [*rows][:4] == ["experiment", "backbone", "space", "head"]


def test_the_page_on_experiments_names_every_group_and_no_option_that_is_not_there() -> None:
    page = (config_folder().parent / "docs" / "experiments.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE))
    for group in {path.parent.name for path in CONFIGS}:
        for option in re.findall(r"`(\w+)`", named[group]):
            assert (config_folder() / group / f"{option}.yaml").is_file(), f"there is no {group}={option}"


def test_list_of_some_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["list", "head", "inner", "head"], tmp_path, capsys)
    assert [line for line in found.splitlines() if line and line[0] != " "] == ["head=", "inner="]
    assert ["ridge", "Ridge regression on one-hot targets (Bertinetto et al. 2019)."] in [
        line.split(maxsplit=1) for line in found.splitlines()
    ]


def test_list_of_own_configs(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["list", "--config-dir", "my conf", "experiment", "backbone"], own, capsys)
    lines = [line.split(maxsplit=1) for line in found.splitlines()]
    assert ["mine", "Letters [ours], from one shot."] in lines and ["wide"] in lines
    assert "quickstart" in found and "Never reached" not in found


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("list", "experiments"), "there is no group experiments: did you mean experiment?"),
        (("list", "zzz"), "there is no group zzz: there are experiment, backbone, space, head,"),
        (("list", "--config-dir", "nowhere"), "--config-dir nowhere: there is no such folder"),
        (("list", "--all"), "unrecognized arguments: --all: see python -m adapt list --help"),
        (("show", "-cd", "nowhere"), "--config-dir nowhere: there is no such folder"),
        (("show", "experiment=quickstrat"), "Could not find 'experiment/quickstrat'"),
        (("show", "auto"), "'auto' cannot be read as a setting: write NAME=VALUE, such as inner=auto"),
        (("show", "name=a=b"), "'name=a=b' cannot be read as a setting: write NAME=VALUE"),
        (("show", "task.shots=[1,"), "in quotes if VALUE has spaces, brackets or ="),
        (("show", "taks.shots=3"), "taks is not a setting: did you mean task?"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint in refused(arguments, tmp_path, capsys)


def test_on_a_terminal_sentences_are_folded_beside_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=40)
    monkeypatch.setattr(listing, "console", terminal)
    lines = {"short": "One [bracket] more than fits into a line of forty.", "longer": "Two."}
    for part in listing.rows(lines):
        terminal.print(part)
    assert isinstance(terminal.file, io.StringIO)
    printed = [line.rstrip() for line in terminal.file.getvalue().splitlines()]
    assert printed == [
        "  short   One [bracket] more than fits",
        "          into a line of forty.",
        "  longer  Two.",
    ]


# ----------------------------------------------------------------------------------------------- show


def section(page: str, title: str) -> list[str]:
    """The lines below a title, without their indentation by two."""
    return page.split(f"{title}\n")[1].split("\n\n")[0].replace("\n  ", "\n").strip("\n ").splitlines()


@pytest.mark.parametrize("name", ["quickstart", "digits", "own_text", "pretrain_fc100_resnet12", "sinusoid"])
def test_show_has_the_configuration_that_would_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"experiment={name}", "seed=7"]
    page = said(["show", *typed], tmp_path, capsys)
    composed = yaml.safe_load(said([*typed, "--cfg", "job", "--resolve"], tmp_path, capsys))
    shown = yaml.safe_load(page.split("The whole configuration\n")[1].split("\n\n")[0])

    def without_unchosen(config: dict[str, Any]) -> dict[str, Any]:
        """What a run leaves out: methods that are not compared, options that are made of others."""
        methods = {k: v for k, v in config["method"].items() if "_target_" in v}
        about = ("experiment", "launcher", "hparams_search")
        return {**{k: v for k, v in config.items() if k not in about}, "method": methods}

    assert shown == without_unchosen(composed)
    assert section(page, "Run it") == [f"python -m adapt experiment={name} seed=7"]
    assert page.startswith(
        f"{listing.sentence(config_folder() / 'experiment' / f'{name}.yaml')}\n\nMade of\n"
    )


def test_show_says_what_was_chosen_and_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = said(["show", "experiment=pretrain_fc100_resnet12", "method=[head,forward]"], tmp_path, capsys)
    options = [line.split()[0] for line in section(page, "Made of")]
    assert options[:4] == [
        "backbone=resnet12_untrained",
        "space=film",
        "head=logistic",
        "head@support_head=prototype",
    ]
    assert [option for option in options if option.startswith("method=")] == ["method=head", "method=forward"]
    made = section(page, "Set by the experiment")
    assert made[:3] == ["backbone=resnet12_untrained", "meta=pretraining", "task=fc100"]
    assert {"name=pretrain_fc100_resnet12", "meta.steps=30000", "backbone.width=64"} <= {*made}
    assert not any(line.startswith(("meta.steps=12000", "defaults", "_self_")) for line in made)


def test_show_says_what_an_experiment_sweeps_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = said(["show", "experiment=digits"], tmp_path, capsys)
    assert section(page, "One run for each of") == ["task.shots=1,5,10", "seed=0,1,2"]
    assert section(page, "Set by the experiment") == ["name=digits", "task.tasks=200", "task.costly_tasks=50"]
    assert "One run for each of" not in said(["show", "experiment=sinusoid"], tmp_path, capsys)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("task.shotz=1", "task.shotz is not a setting of tasks.Distribution: did you mean shots?"),
        ("task.source.sise=8", "task.source.sise is not a setting of tasks.Digits: did you mean size?"),
        ("task.label_noise=0.2", "task.label_noise is no setting any more: use task=noisy"),
    ],
)
def test_show_refuses_settings_of_tasks_that_there_are_not(typed: str, message: str) -> None:
    with pytest.raises(AdaptError, match=re.escape(message)):
        show.main(["task=digits", typed])


def test_show_of_own_configs(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = said(["show", "experiment=mine", "-cd", "my conf", "seed=3"], own, capsys)
    assert page.startswith("Letters [ours], from one shot.\n")
    assert "experiment=mine" in page and page.count("Letters [ours], from one shot.") == 2
    made = section(page, "Set by the experiment")
    assert {"task=volatility", "method=[forward,maml,cavia]", "name=mine", "task.shots=1"} <= {*made}
    (command,) = section(page, "Run it")
    assert shlex.split(command)[3:] == ["--config-dir", "my conf", "experiment=mine", "seed=3"]
