"""The configuration of a run, as Hydra composes it from the options of the groups and from overrides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from adapt.app.config import Config, config_folder
from adapt.app.trust import guarded

__all__ = ["Composed", "compose_run", "forget_unchosen"]

ConfigStore.instance().store(name="schema", node=Config)  # as config.yaml calls it


@dataclass(frozen=True)
class Composed:
    """A run as Hydra composes it.

    ``options``: (group, option) in the order of ``config.yaml``, several of one group where several were
    chosen; ``config`` without Hydra's own part; ``sweep``: what the run goes through by itself, as
    ``{"seed": "0,1,2"}``.
    """

    options: list[tuple[str, str]]
    config: DictConfig
    sweep: dict[str, str]


def compose_run(overrides: Sequence[str], own: str | Path | None = None) -> Composed:
    """Compose ``config.yaml`` with ``overrides``, as typed; ``own`` is a folder of configs beside ours.

    Raises:
        AdaptError: a file of ``own`` says what counts only when it is typed (:mod:`adapt.app.trust`).

    >>> made = compose_run(["experiment=sinusoid", "seed=3"])
    >>> made.options[0], made.config.seed, made.config.adapter
    (('backbone', 'mlp'), 3, 'mlp_sinusoid')
    """
    typed = list(overrides)
    if own is not None:
        path = str(Path(own).resolve()).replace("\\", "\\\\").replace("'", "\\'")
        typed.append(f"hydra.searchpath=['file://{path}']")
    with guarded(), initialize_config_dir(str(config_folder()), version_base="1.3"):
        whole = compose("config", typed, return_hydra_config=True)
        chosen = GlobalHydra.instance().config_loader().compute_defaults_list("config", typed, RunMode.RUN)
    options = []
    for default in chosen.defaults:
        group, _, option = (default.config_path or "").rpartition("/")
        if default.parent == "config" and group:
            part = default.package
            options.append((group if part in (group, "") else f"{group}@{part}", option))
    hydra = whole.hydra
    config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
    forget_unchosen(config, hydra.overrides.task)
    sweep = hydra.sweeper.get("params") or {}
    return Composed(options, config, {str(key): str(value) for key, value in sweep.items()})


def forget_unchosen(config: DictConfig, typed: Sequence[str]) -> None:
    """Drop what an experiment sets of methods that ``method=...`` leaves out; what was typed stays, to be
    complained of."""
    keys = [override.lstrip("+~").split("=")[0].split(".") for override in typed]
    mentioned = {key[1] for key in keys if key[0] == "method" and len(key) > 1}
    with open_dict(config.method):
        for name in config.method.keys() - mentioned:
            if isinstance(config.method[name], DictConfig) and "_target_" not in config.method[name]:
                del config.method[name]
