"""The commands that docs/experiments.md has for tasks are of tasks and networks that fit together."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from adapt.app.build import check_all
from adapt.app.compose import compose_run
from adapt.app.config import Stage
from adapt.app.stages.compare import context_of
from adapt.app.stages.meta import _check_split
from adapt.app.stages.session import Parts, distribution

PAGE = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
#: From `## Tasks` to the next heading; what needs data of one's own has tests of its own.
COMMANDS = [
    line.partition("#")[0].strip()
    for line in re.findall(r"^python -m adapt (.*)$", PAGE.split("\n## Tasks\n")[1].split("\n## ")[0], re.M)
    if not re.search("my/|experiment=", line)
]


def test_the_page_has_them() -> None:
    assert len(COMMANDS) >= 8 and any("stage=meta" in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_tasks_and_network_of_a_command_fit_together(command: str, data: Path) -> None:
    typed = [
        word for word in shlex.split(command) if word != "adapter=my_adapter"
    ]  # which another one writes
    config = compose_run(typed).config
    check_all(OmegaConf.to_container(config, resolve=True, enum_to_str=True), [])  # type: ignore[arg-type]
    parts = Parts(config)
    tasks = distribution(config, parts)
    context_of(config, *parts.network, tasks, torch.device("cpu"))
    if config.stage is Stage.meta:
        _check_split(tasks)
