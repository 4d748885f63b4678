"""A module of the caller's as a backbone, for configs: ``_target_: adapt.backbones.own``."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adapt.backbones.fingerprint import fingerprint
from adapt.backbones.frozen import frozen
from adapt.backbones.info import BackboneInfo, info_of, remember
from adapt.backbones.structure import check_structure, duplicate
from adapt.backbones.weights import load_file
from adapt.checks import Number, check_setting, check_shape, list_of
from adapt.errors import AdaptError
from adapt.forward.preflight import modes

__all__ = ["made_on", "own", "ready", "takes"]


def own(
    module: nn.Module,
    weights: str | None = None,
    input_shape: Sequence[int] | None = None,
    input_dtype: str | None = None,
    value_range: Sequence[float] | None = None,
) -> tuple[nn.Module, BackboneInfo]:
    """``module`` frozen, in evaluation mode, and what is known of it, as ``load_backbone`` returns them.

    Args:
        module: maps ``[n, *input_shape]`` to features ``[n, D]``; with a method ``tokenise(texts)`` it reads
            texts. It is changed in place.
        weights: file of its state dict; None: it has its values already.
        input_shape: of one example; None: the module checks for itself.
        input_dtype: in which it takes examples, such as ``float64``; None: that of its first layer.
        value_range: the least and the greatest value of the examples that it was trained on, for instance
            [0, 1]: bytes are then scaled to it, and values outside refused. None: not known.

    Raises:
        AdaptError: weights of another network, a file that cannot be read, an unknown dtype, a range that is
            none, or a module that is none (wrapped, scripted, without values).

    Example:
        >>> backbone, info = own(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_shape=[1, 2, 2])
        >>> info.name, info.input_shape
        ('Sequential', (1, 2, 2))
    """
    check_structure(module)
    taken = _checked(input_dtype, value_range)
    if weights is not None:
        load_file(module, weights)
    network = frozen(module)
    shape = check_shape(input_shape)
    info = _info(network, type(module).__name__, shape, taken)
    return remember(network, info), info


def ready(
    network: nn.Module,
    input_shape: Sequence[int] | None = None,
    input_dtype: str | None = None,
    value_range: Sequence[float] | None = None,
) -> tuple[nn.Module, BackboneInfo]:
    """What :func:`own` makes of a copy of ``network``, which stays as it is; one that is ready, since
    ``load_backbone`` or ``own`` returned it, is not copied.

    Raises:
        AdaptError: as :func:`own`; a module that cannot be copied; or something else said of a network than
            is known of it.
    """
    check_structure(network)
    info = info_of(network)
    if info is None:
        return own(_copy(network), None, input_shape, input_dtype, value_range)
    said = {"input_shape": input_shape, "input_dtype": input_dtype, "value_range": value_range}
    for name, value in said.items():
        known = getattr(info, name)
        if value is not None and value != known and tuple(value) != known:
            raise AdaptError(f"{name}={value}, but that of {info.name} is known to be {known}: leave it out")
    return network, info


def takes(network: nn.Module) -> dict[str, Any] | None:
    """What was said of the input of a module of the caller's, besides its shape; None if nothing was, or
    ``load_backbone`` knows it."""
    info = info_of(network)
    if info is None or info.settings is not None or (info.input_dtype, info.value_range) == (None, None):
        return None
    return {"input_dtype": info.input_dtype, "value_range": info.value_range}


def made_on(network: nn.Module, sha256: str, said: Mapping[str, Any] | None) -> nn.Module | None:
    """What an adapter was made on: ``network``, or what :func:`own` or ``eval()`` made of it.

    Whoever made it passed ``network`` too, and need not know what became of it. ``network`` stays as it is.

    Args:
        sha256: the fingerprint of what the adapter was made on.
        said: what :func:`takes` was then.

    Returns:
        None if it has other weights.

    Raises:
        AdaptError: ``said`` is nothing that can be said of a network.
    """
    found = network
    if fingerprint(network) != sha256:
        try:
            found = frozen(_copy(network))
        except AdaptError:
            return None
        if fingerprint(found) != sha256:
            return None
    elif modes(network):
        found = _copy(network).eval()
    if said and info_of(found) is None:
        taken = _checked(said.get("input_dtype"), said.get("value_range"))
        found = found if found is not network else _copy(network)
        remember(found, _info(found, type(network).__name__, None, taken))
    return found


Taken = tuple[str | None, tuple[float, float] | None]


def _checked(input_dtype: Any, value_range: Any) -> Taken:
    if input_dtype is not None and not isinstance(getattr(torch, str(input_dtype), None), torch.dtype):
        raise AdaptError(f"input_dtype={input_dtype}: torch knows no such dtype, try float32 or int64")
    if value_range is None:
        return input_dtype, None
    limits = tuple(check_setting("value_range", value_range, list_of(Number())))
    if len(limits) != 2 or not limits[0] < limits[1]:
        raise AdaptError(f"value_range={limits}: give the least and the greatest value, such as [0, 1]")
    return input_dtype, limits


def _info(network: nn.Module, name: str, shape: tuple[int, ...] | None, taken: Taken) -> BackboneInfo:
    return BackboneInfo(
        name,
        "own",
        {},
        shape,
        fingerprint(network),
        settings=None,
        input_dtype=taken[0],
        value_range=taken[1],
    )


def _copy(network: nn.Module) -> nn.Module:
    try:
        return duplicate(network)[0]
    except Exception as error:
        raise AdaptError(
            f"{type(network).__name__} cannot be copied ({error}), and it is to stay as it is: pass what "
            "adapt.backbones.own(network)[0] makes of it, which changes it in place"
        ) from error
