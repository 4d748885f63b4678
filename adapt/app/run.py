"""One run: check the whole config before any work starts, then do what its stage says."""

from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from adapt.app import build
from adapt.app.compare_stage import run_compare
from adapt.app.config import Stage
from adapt.app.session import Session
from adapt.app.train_stages import run_meta, run_pretrain
from adapt.memory import keep_freed_memory

__all__ = ["run"]

STAGES = {Stage.compare: run_compare, Stage.meta: run_meta, Stage.pretrain: run_pretrain}


def run(config: DictConfig) -> float | None:
    """Run ``config``; returns what a sweep may optimise: accuracy of ours, or validation accuracy."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    for key, node in plain.items():
        build.check(node, key, list(config.allow))
    keep_freed_memory()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    return STAGES[config.stage](config, Session(folder, plain, list(hydra.overrides.task)))
