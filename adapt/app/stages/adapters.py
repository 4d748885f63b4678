"""The adapter that a run starts from: a saved one, or the backbone as it is."""

from omegaconf import DictConfig
from torch import nn

import adapt
from adapt.adapter import FewShotAdapter, Matching, identity_state, layered_state
from adapt.adapter.untrained import PARTS
from adapt.app.build import build
from adapt.app.progress import console
from adapt.backbones import BackboneInfo
from adapt.errors import AdaptError
from adapt.inner import CrossEntropy, SquaredError
from adapt.own_data.starts import shipped_for, start_of
from tasks import Tasks

__all__ = ["AUTO", "adapter_of", "untrained"]

#: What ``adapter`` says for whatever ships for the backbone.
AUTO = "auto"
#: Adaptable numbers that need no choice of directions.
FEW = 32


def untrained(config: DictConfig, backbone: nn.Module, info: BackboneInfo, tasks: Tasks) -> FewShotAdapter:
    """The adapter of ``config``, its state still to be learned; says at once what does not fit together."""
    space = build(config.space, "space", config.allow)(backbone)
    solver, head, support_head = (
        build(config[name], name, config.allow) for name in ("inner", "head", "support_head")
    )
    return FewShotAdapter(
        backbone,
        space,
        identity_state(space),
        solver,
        head,
        support_head,
        SquaredError() if tasks.regression else CrossEntropy(),
        info.input_shape,
        info.name,
        match=_match(config),
    )


def adapter_of(config: DictConfig, backbone: nn.Module, info: BackboneInfo, tasks: Tasks) -> FewShotAdapter:
    """The saved adapter that ``config`` names; where it names none, one that scales parts of the backbone.
    ``auto`` names the start that ships for the backbone, if it is of the space that ``config`` asks for, or
    none.

    Raises:
        AdaptError: it was made for another space.
    """
    start = _shipped(config, backbone, info) if config.adapter == AUTO else None
    if config.adapter is None:
        adapter = untrained(config, backbone, info, tasks)
        # Of so few numbers each is a direction.
        few = adapter.space.size <= FEW
        return adapter.replace(
            state=identity_state(adapter.space) if few else layered_state(adapter.space, PARTS)
        )
    adapter = _loaded(config.adapter, backbone) if start is None else start
    if config.match is not None:
        adapter = adapter.replace(match=_match(config))
    wanted = build(config.space, "space", config.allow)(backbone)
    if wanted.shapes != adapter.space.shapes:
        raise AdaptError(
            f"space={wanted.name} has {wanted.size} parameters, but adapter '{config.adapter}' was "
            f"meta-trained for {adapter.space.size} of space '{adapter.space.name}': make one with "
            f"stage=meta space={wanted.name}, then pass adapter=<its folder>"
        )
    return adapter


def _shipped(config: DictConfig, backbone: nn.Module, info: BackboneInfo) -> FewShotAdapter | None:
    """The start that ships, if it fits; ``config`` and the terminal say from now on which it is."""
    start = start_of(backbone, info.name)
    space = build(config.space, "space", config.allow)(backbone)
    if start is not None and start.space.shapes != space.shapes:
        start = None
    config.adapter = None if start is None else shipped_for(info.name)
    console.print(f"adapter: {config.adapter or 'none ships for this backbone in this space'}")
    return start


def _loaded(folder: str, backbone: nn.Module) -> FewShotAdapter:
    try:
        found: FewShotAdapter = adapt.load(folder, backbone)
    except AdaptError as error:
        raise AdaptError(f"{error}; or adapter=null, if there is none") from None
    return found


def _match(config: DictConfig) -> Matching | None:
    return None if config.match is None else build(config.match, "match", config.allow)
