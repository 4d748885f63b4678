"""One composition of a configuration in place of two.

Hydra composes everything once to see ``hydra.mode``, and then again, with that mode, to run. This takes a
tenth of a second and more, and both are the same.
"""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

__all__ = ["ComposedOnce"]

#: What Hydra adds to what is typed once it knows the mode.
MODES = {f"hydra.mode={mode.name}": mode for mode in RunMode}


class ComposedOnce(ConfigLoaderImpl):
    """Hydra's own loader, which keeps what it has composed to see the mode until the next call."""

    _kept: tuple[Any, tuple[RunMode, ...], DictConfig] | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """See Hydra. Only a look at the mode leaves sweeps unchecked."""
        compose = super().load_configuration
        if not validate_sweep_overrides:
            modes: tuple[RunMode, ...] = (RunMode.RUN, RunMode.MULTIRUN)
            try:
                config = compose(config_name, overrides, RunMode.RUN, from_shell, False)
            except Exception:  # as where only the runs of a sweep say which config of a group they take
                modes = (run_mode,)
                config = compose(config_name, overrides, run_mode, from_shell, False)
            self._kept = (config_name, [*overrides], from_shell), modes, config
            return config
        kept, self._kept = self._kept, None
        typed = [text for text in overrides if text not in MODES]
        if kept is None or run_mode not in kept[1] or kept[0] != (config_name, typed, from_shell):
            return compose(config_name, overrides, run_mode, from_shell, True)
        parsed = OverridesParser.create().parse_overrides(overrides)
        self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        config = kept[2]
        for text in overrides[len(typed) :]:
            config.hydra.mode = MODES[text]
            config.hydra.overrides.hydra.append(text)
        return config
