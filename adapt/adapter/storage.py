"""Adapters and fitted tasks on disk: ``adapter_config.json``, ``adapter_model.safetensors``, ``README.md``;
never pickle."""

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from adapt.adapter.card import model_card
from adapt.adapter.moved import moved
from adapt.adapter.record import AdapterRecord, TaskRecord
from adapt.adapter.state import AdapterState, initial_state
from adapt.backbones import check_structure, device_of, fingerprint, info_of
from adapt.backbones.declared import load_declared
from adapt.budget import declared
from adapt.errors import AdaptError
from adapt.files import json_text, read_json, read_tensors, shipped, write_tensors, write_text
from adapt.forward.estimators import ESTIMATORS
from adapt.heads import HEADS
from adapt.inner import LOSSES, SOLVERS, Trace
from adapt.spaces.saved import describe, rebuild
from adapt.version import __version__

__all__ = ["CONFIG", "read_adapter", "read_task", "save_adapter", "save_task"]

Folder = str | os.PathLike[str]
Adapter = TypeVar("Adapter", bound=AdapterRecord)
Task = TypeVar("Task", bound=TaskRecord)

CONFIG, TENSORS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
FORMAT = 3
#: Fields that say what a component can do; they are no settings.
FLAGS = ("exact", "regression", "supports_regression")


def save_adapter(adapter: AdapterRecord, folder: Folder) -> None:
    """Write ``adapter``; see :meth:`adapt.FewShotAdapter.save_pretrained`."""
    config = _config(adapter, "adapter")
    _write(Path(folder), config, adapter.state._asdict())


def read_adapter(folder: Folder, backbone: nn.Module | None, kind: type[Adapter]) -> Adapter:
    """What :func:`save_adapter` wrote, as one of ``kind``."""
    path = shipped(folder)
    config, tensors = _read(path)
    return _adapter(path, config, tensors, backbone, kind)


def save_task(task: TaskRecord, folder: Folder) -> None:
    """Write ``task``; see :meth:`adapt.FittedTask.save_pretrained`."""
    config = _config(task.adapter, "task") | {
        "classes": task.classes_.tolist(),
        "classes_dtype": task.classes_.dtype.str,
        "outputs": task.outputs,
    }
    tensors = task.adapter.state._asdict() | {
        "z": task.z,
        "losses": task.trace.losses,
        "head_state": task.head_state,
    }
    tensors |= {f"parameters.{name}": value for name, value in _adapted(task).items()}
    config |= {"forward_equivalents": task.trace.forward_equivalents, "choice": task.trace.choice}
    _write(Path(folder), config, tensors)


def read_task(
    folder: Folder, backbone: nn.Module | None, kind: type[Task], adapter_kind: type[AdapterRecord]
) -> Task:
    """What :func:`save_task` wrote, as one of ``kind``, of an adapter of ``adapter_kind``."""
    path = shipped(folder)
    config, tensors = _read(path)
    adapter = _adapter(path, config, tensors, backbone, adapter_kind)
    tensors = {name: value.to(adapter.state.origin.device) for name, value in tensors.items()}
    prefix = "parameters."
    try:
        parameters = {
            name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
        }
        if set(parameters) == set(adapter.space.shapes):
            parameters = adapter.space.merged(parameters)
        classes = np.array(config["classes"], dtype=np.dtype(config["classes_dtype"]))
        trace = Trace(tensors["losses"], float(config["forward_equivalents"]), str(config["choice"]))
        state = tensors["head_state"]
        # Earlier versions did not say. Ridge, their default for regression, has one column per output.
        outputs = int(config.get("outputs", len(classes) or state.shape[-1]))
        return kind(adapter, parameters, state, classes, tensors["z"], trace, outputs)
    except (KeyError, TypeError, ValueError) as error:
        raise AdaptError(f"{path} is not a complete fitted task ({error}): save it again") from None


def _adapted(task: TaskRecord) -> dict[str, torch.Tensor]:
    """The adapted tensors themselves, not only z: predictions are then the same bits on any machine that runs
    the network the same way.

    Of a space that merges its own tensors into large ones, its own, if they make the same bits here.
    """
    space, state = task.adapter.space, task.adapter.state
    if space.merge is None:
        return task.parameters
    own = space.tensors(state.origin + task.adapter.subspace.move(task.z))
    again = space.merged(own)
    same = all(torch.equal(again[name], value) for name, value in task.parameters.items())
    return own if same else task.parameters


def _config(adapter: AdapterRecord, kind: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": kind,
        "library_version": __version__,
        "backbone": _backbone(adapter),
        "input_shape": list(adapter.input_shape) if adapter.input_shape else None,
        "space": describe(adapter.space)
        | ({"left_out": list(adapter.space.left_out)} if adapter.space.left_out else {}),
        "loss": describe_component(adapter.loss, LOSSES),
        "support_head": describe_component(adapter.support_head, HEADS),
        "head": describe_component(adapter.head, HEADS),
        "solver": describe_component(adapter.solver, SOLVERS),
        "info": dict(adapter.info),
    }


def _backbone(adapter: AdapterRecord) -> dict[str, Any]:
    """What makes the backbone again (``name`` and ``settings``); ``was``: what it was, if nothing does."""
    found, name, info = fingerprint(adapter.backbone), adapter.backbone_name, info_of(adapter.backbone)
    if info is None or name not in (None, info.name):
        return {"name": name, "settings": {}, "fingerprint": found}
    if info.settings is None or info.fingerprint != found:  # a file of this machine, or changed since
        return {"name": None, "settings": {}, "fingerprint": found, "was": info.name}
    return {"name": info.name, "settings": dict(info.settings), "fingerprint": found}


def _load_backbone(path: Path, config: dict[str, Any]) -> nn.Module:
    if config["name"] is None:
        was = f" ({config['was']})" if config.get("was") else ""
        raise AdaptError(
            f"{path} was made on a backbone of your own{was}: pass it as adapt.load(folder, backbone=…)"
        )
    return load_declared(str(path / CONFIG), config["name"], config["settings"])


def describe_component(component: Any, known: dict[str, type]) -> dict[str, Any]:
    names = [name for name, cls in known.items() if type(component) is cls]
    if not names:
        raise AdaptError(
            f"{type(component).__name__} cannot be saved: only {', '.join(known)} can; use "
            "adapter.replace(…) before saving"
        )
    settings: dict[str, Any] = {}
    for field in fields(component):
        value = getattr(component, field.name)
        if is_dataclass(value):
            settings[field.name] = describe_component(value, ESTIMATORS)
        elif field.name not in FLAGS:
            settings[field.name] = value
    return {"name": names[0], **settings}


def build_component(description: dict[str, Any], known: dict[str, type], path: Path) -> Any:
    name = description["name"]
    if name not in known:
        raise AdaptError(
            f"{path / CONFIG} names '{name}', which this version does not know: known are {', '.join(known)}"
        )
    arguments = {
        k: build_component(v, ESTIMATORS, path) if isinstance(v, dict) else v
        for k, v in description.items()
        if k != "name"
    }
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise AdaptError(f"{path / CONFIG}: '{name}' does not take these settings ({error})") from None


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    # The config goes last, and an old one goes first: a folder that has one is complete, and its tensors are
    # those of the config.
    text = json_text(config)  # what cannot be written fails here, before anything is lost
    (folder / CONFIG).unlink(missing_ok=True)
    write_tensors(folder / TENSORS, tensors, {"format": "pt", "library_version": __version__})
    write_text(folder / CARD, model_card(config, tensors))
    write_text(folder / CONFIG, text)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config, tensors = read_json(path / CONFIG), read_tensors(path / TENSORS)
    if config.get("format") == 1:
        config, tensors = _from_format_1(config, tensors)
    if config.get("format") == 2:
        config = _from_format_2(config)
    if config.get("format") != FORMAT:
        raise AdaptError(
            f"{path / CONFIG} has format {config.get('format')!r}; this version reads format "
            f"{FORMAT}: update adaptive-behavior"
        )
    return config, tensors


def _from_format_1(
    config: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Version 0.1 had one precision for all directions, and nothing but classification by prototypes."""
    later = {"loss": {"name": "cross_entropy"}, "support_head": {"name": "prototype"}, "choice": ""}
    if {"log_damping", "origin", "basis"} <= set(tensors):
        state = initial_state(tensors["origin"], tensors["basis"])
        one = {
            "log_precision": state.log_precision + tensors["log_damping"],
            "log_damping": state.log_damping,
        }
        tensors = tensors | one | {"log_rates": state.log_rates}
    return {**later, **config, "format": 2}, tensors


def _from_format_2(config: dict[str, Any]) -> dict[str, Any]:
    """Backbones had no settings, and spaces were known by the names of the backbone's tensors."""
    backbone, space = config.get("backbone"), config.get("space")
    if isinstance(backbone, dict):
        config = config | {"backbone": {"settings": {}, **backbone}}
    if isinstance(space, dict):
        config = config | {"space": {"settings": None, **space}}
    return config | {"format": FORMAT}


def _adapter(
    path: Path,
    config: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    backbone: nn.Module | None,
    kind: type[Adapter],
) -> Adapter:
    try:
        name, expected = config["backbone"]["name"], config["backbone"]["fingerprint"]
        network = backbone if backbone is not None else _load_backbone(path, config["backbone"])
        check_structure(network)
        if fingerprint(network) != expected:
            raise AdaptError(
                f"the backbone's weights are not those {path} was made for: load the same "
                "weights, or meta-train an adapter for these"
            )
        state = AdapterState(**{field: tensors[field] for field in AdapterState._fields})
        shape = config["input_shape"]
        with declared(state.origin.numel()):  # a space has as many numbers as the file holds of it
            space = rebuild(config["space"], network)
        adapter = kind(
            network,
            space,
            state,
            build_component(config["solver"], SOLVERS, path),
            build_component(config["head"], HEADS, path),
            build_component(config["support_head"], HEADS, path),
            build_component(config["loss"], LOSSES, path),
            tuple(shape) if shape else None,
            name or getattr(info_of(network), "name", None),
            config.get("info", {}),
        )
        return moved(adapter, device_of(network))
    except KeyError as error:
        raise AdaptError(
            f"{path} lacks {error}: it is not a complete adapter folder, save it again"
        ) from None
    except TypeError as error:
        raise AdaptError(
            f"{path / CONFIG} holds a value of the wrong type ({error}): the file is damaged, save it again"
        ) from None
