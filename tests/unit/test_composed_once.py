"""What is composed once is what Hydra composes in its second go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra._internal import hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from adapt.app.once import ComposedOnce
from tests.command_line import call

WITH_MISSING = "defaults:\n  - override /head: ???\n"
FOLDER = "hydra.run.dir=run"


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What commands compose to see the mode, and then to run, as YAML; there they end."""
    found = list[str]()
    compose = hydra_internal.Hydra.compose_config

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = compose(self, *args, **kwargs)
        found.append(OmegaConf.to_yaml(config))
        if len(found) == 2:
            raise SystemExit(0)
        return config

    monkeypatch.setattr(hydra_internal.Hydra, "compose_config", noted)
    return found


@pytest.mark.parametrize(
    ("typed", "compositions"),
    [
        (["experiment=quickstart", "seed=3"], 1),
        (["hydra.job.name=x", "experiment=quickstart"], 1),
        (["-m", "seed=0,1", "hydra.sweep.dir=run"], 1),
        (["experiment=digits", "hydra.sweep.dir=run"], 1),  # says itself that it is a sweep
        (["experiment=digits", "hydra.mode=RUN"], 2),
        (["seed=0,1"], 1),
        (["-m", "hydra.job.name=a,b"], 1),
        (["-m", "--config-dir=own", "experiment=open", "head=ridge,logistic", "hydra.sweep.dir=run"], 2),
        (["--config-dir=own", "experiment=open"], 3),
        (["no_such_key=1"], 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_the_same(
    typed: list[str],
    compositions: int,
    composed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "own" / "experiment" / "open.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(f"# @package _global_\n{WITH_MISSING}", encoding="utf-8")
    done = 0
    implementation = ConfigLoaderImpl._load_configuration_impl

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal done
        done += 1
        return implementation(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    results = []
    for loader in (ComposedOnce.load_configuration, ConfigLoaderImpl.load_configuration):
        monkeypatch.setattr(ComposedOnce, "load_configuration", loader)
        composed.clear()
        code = call([*typed, *([] if "-m" in typed else [FOLDER])], tmp_path)
        results.append((code, composed[1:], capsys.readouterr()))
        if loader is not ConfigLoaderImpl.load_configuration:
            assert done == compositions
    assert results[0] == results[1]
