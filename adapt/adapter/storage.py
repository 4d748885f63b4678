"""Adapters and fitted tasks on disk: ``adapter_config.json``, ``adapter_model-<hash>.safetensors``,
``README.md``; never pickle.

How a folder is written and read whole is :mod:`adapt.artifact`; what must be in it, and is checked when it is
saved and when it is loaded, :mod:`adapt.adapter.verified`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from adapt.adapter.calibration import Calibration, described
from adapt.adapter.card import model_card
from adapt.adapter.described import build_component, describe_component, read_settings
from adapt.adapter.formats import FORMAT, upgraded
from adapt.adapter.known import KNOWN, known_from, known_tensors
from adapt.adapter.labelling import suspects
from adapt.adapter.matching import Matching
from adapt.adapter.moved import moved
from adapt.adapter.record import AdapterRecord, TaskRecord
from adapt.adapter.state import AdapterState
from adapt.adapter.verified import (
    PARAMETERS,
    check_arrived,
    check_state,
    check_task,
    classes_of,
    cost_of,
    decisive_sha256,
    entry,
)
from adapt.artifact import TENSORS, Layout, publish, read
from adapt.backbones import check_structure, device_of, fingerprint, info_of
from adapt.backbones.declared import load_declared
from adapt.backbones.own import made_on, takes
from adapt.budget import declared
from adapt.errors import AdaptError
from adapt.files import json_text, shipped
from adapt.heads import HEADS
from adapt.inner import LOSSES, SOLVERS, Trace
from adapt.spaces.saved import describe, rebuild
from adapt.version import __version__

__all__ = [
    "CARD",
    "CONFIG",
    "LAYOUT",
    "Stored",
    "check_saved",
    "read_adapter",
    "read_stored",
    "read_task",
    "save_adapter",
    "save_task",
]

Folder = str | os.PathLike[str]
Adapter = TypeVar("Adapter", bound=AdapterRecord)
Task = TypeVar("Task", bound=TaskRecord)

CONFIG, CARD = "adapter_config.json", "README.md"
LAYOUT = Layout(CONFIG, "adapter_model", ("examples",))
#: Key of a config: the hash of its entries that predictions follow from. Whoever edits one removes it.
SETTINGS = "settings_sha256"
#: What a task has besides the tensors of its adapter, and besides the adapted ones.
TASK = ("z", "losses", "head_state", *KNOWN)
#: Labels that look wrong in a model card, at most.
SUSPECTS = 10


class Stored(NamedTuple):
    """What a folder holds: its ``config`` in the present format, and ``tensors`` that are not checked yet.

    Attributes:
        hashed: the config names the tensors by their hash.
        edited: the config is no longer what was saved.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    hashed: bool
    edited: bool

    @property
    def kind(self) -> Any:
        """Of what was saved: ``adapter``, ``task``."""
        return self.config.get("kind")

    @property
    def names_backbone(self) -> bool:
        """Whether the backbone can be loaded by its name."""
        return _backbone_of(self)["name"] is not None


def read_stored(folder: Folder) -> Stored:
    """What ``folder`` holds, a path or the name of a shipped adapter.

    Raises:
        AdaptError: missing or damaged files, or an unknown format.
    """
    path = shipped(folder)
    config, tensors = read(path, LAYOUT)
    said = config.get(SETTINGS) if config.get("format") in (4, FORMAT) else None
    edited = said is not None and said != decisive_sha256(config)
    now, tensors = upgraded(path / CONFIG, config, tensors)
    return Stored(path, now, tensors, TENSORS in config, edited)


# ------------------------------------------------------------------------------------------ saving


def check_saved(adapter: AdapterRecord) -> None:
    """Refuse an adapter that could not be saved, before the hours that it takes to train it.

    Raises:
        AdaptError: a solver, head, loss or space that nobody could make again.
    """
    json_text(_config(adapter, "adapter"))


def save_adapter(adapter: AdapterRecord, folder: Folder) -> None:
    """Write ``adapter``; see :meth:`adapt.FewShotAdapter.save_pretrained`."""
    tensors = adapter.state.tensors()
    check_state(Path(folder), tensors, adapter.space)
    config = _config(adapter, "adapter")
    _write(Path(folder), config, tensors, {CARD: model_card(config, tensors)})


def save_task(
    task: TaskRecord,
    folder: Folder,
    texts: Mapping[str, str] | None = None,
    named: Mapping[str, bytes] | None = None,
    sections: Mapping[str, str] | None = None,
) -> None:
    """Write ``task``; see :meth:`adapt.FittedTask.save_pretrained`. What ``texts`` and ``named`` are, and are
    published with it: :func:`adapt.artifact.publish`; ``sections``: see
    :func:`adapt.adapter.card.model_card`."""
    config = _config(task.adapter, "task") | {
        "classes": task.classes_.tolist(),
        "classes_dtype": task.classes_.dtype.str,
        "outputs": task.outputs,
        "forward_equivalents": task.trace.forward_equivalents,
        "choice": task.trace.choice,
    }
    tensors = task.adapter.state.tensors() | {
        "z": task.z,
        "losses": task.trace.losses.nan_to_num(inf, inf, -inf),  # one that is no number is as bad as any
        "head_state": task.head_state,
    }
    tensors |= known_tensors(task.posterior, task.memory)
    tensors |= {PARAMETERS + name: value for name, value in _adapted(task).items()}
    check_task(Path(folder), tensors, task.adapter.space, task.adapter.head, task.outputs)
    card = model_card(config, tensors, suspects(task, SUSPECTS), sections)
    _write(Path(folder), config, tensors, {CARD: card, **(texts or {})}, named)


def _write(
    folder: Path,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    texts: Mapping[str, str],
    named: Mapping[str, bytes] | None = None,
) -> None:
    if folder.exists() and not folder.is_dir():
        raise AdaptError(f"{folder} is a file: name a folder to save to")
    json_text(config)  # what cannot be written says so
    config = config | {SETTINGS: decisive_sha256(config)}
    publish(folder, LAYOUT, config, tensors, texts, named)


def _adapted(task: TaskRecord) -> dict[str, Tensor]:
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
        "calibration": described(adapter.calibration),
        **({} if adapter.match is None else {"match": asdict(adapter.match)}),
        "info": dict(adapter.info),
    }


def _backbone(adapter: AdapterRecord) -> dict[str, Any]:
    """What makes the backbone again (``name`` and ``settings``); ``was``: what it was, if nothing does."""
    found, name, info = fingerprint(adapter.backbone), adapter.backbone_name, info_of(adapter.backbone)
    if info is None or name not in (None, info.name):
        return {"name": name, "settings": {}, "fingerprint": found}
    if info.settings is None or info.fingerprint != found:  # a file of this machine, or changed since
        said = takes(adapter.backbone)
        more = {} if said is None else {"takes": said}
        return {"name": None, "settings": {}, "fingerprint": found, "was": info.name, **more}
    return {"name": info.name, "settings": dict(info.settings), "fingerprint": found}


# ------------------------------------------------------------------------------------------ loading


def read_adapter(stored: Stored, backbone: nn.Module | None, kind: type[Adapter]) -> Adapter:
    """What :func:`save_adapter` wrote, or the adapter of a task, as one of ``kind``.

    Raises:
        AdaptError: a damaged folder, or a backbone with other weights.
    """
    adapter = _adapter(stored, backbone, kind)
    _check_unedited(stored)
    return adapter


def read_task(
    stored: Stored, backbone: nn.Module | None, kind: type[Task], adapter_kind: type[AdapterRecord]
) -> Task:
    """What :func:`save_task` wrote, as one of ``kind``, of an adapter of ``adapter_kind``.

    Raises:
        AdaptError: a damaged folder, or a backbone with other weights.
    """
    path, config = stored.path / CONFIG, stored.config
    if missing := [
        name for name in ("classes", "classes_dtype", "forward_equivalents") if name not in config
    ]:
        raise AdaptError(f"{stored.path} is not a complete fitted task ('{missing[0]}'): save it again")
    adapter = _adapter(stored, backbone, adapter_kind)
    classes = classes_of(path, config)
    outputs = _outputs(stored, len(classes), adapter.loss.regression)
    check_task(stored.path, stored.tensors, adapter.space, adapter.head, outputs)
    if not stored.hashed:
        check_arrived(stored.path, stored.tensors, adapter.space, adapter.state)
    tensors = {name: _copied(value, adapter.state.origin) for name, value in stored.tensors.items()}
    parameters = {n.removeprefix(PARAMETERS): t for n, t in tensors.items() if n.startswith(PARAMETERS)}
    if set(parameters) == set(adapter.space.shapes):
        parameters = adapter.space.merged(parameters)
    trace = Trace(tensors["losses"], cost_of(path, config), entry(path, config, "choice", str))
    _check_unedited(stored)
    arrived = tensors["head_state"], classes, tensors["z"], trace, outputs
    return kind(adapter, parameters, *arrived, *known_from(tensors))


def _adapter(stored: Stored, backbone: nn.Module | None, kind: type[Adapter]) -> Adapter:
    path, config = stored.path / CONFIG, stored.config
    described = _backbone_of(stored)
    network = backbone if backbone is not None else _load_backbone(stored.path, described)
    check_structure(network)
    said = entry(path, {"takes": None, **described}, "takes", dict, none=True)
    made = made_on(network, described["fingerprint"], said)
    if made is None:
        raise AdaptError(
            f"the backbone's weights are not those {stored.path} was made for: load the same "
            "weights, or meta-train an adapter for these"
        )
    network = made
    # A space has as many numbers as the file holds of it.
    with _damage(path), declared(stored.tensors["origin"].numel() if "origin" in stored.tensors else 0):
        space = rebuild(entry(path, config, "space", dict), network)
    own = {name: value for name, value in stored.tensors.items() if not _of_task(stored, name)}
    check_state(stored.path, own, space)
    adapter = kind(
        network,
        space,
        AdapterState.of({name: value.clone() for name, value in own.items()}),
        build_component(entry(path, config, "solver", dict), SOLVERS, path),
        build_component(entry(path, config, "head", dict), HEADS, path),
        build_component(entry(path, config, "support_head", dict), HEADS, path),
        build_component(entry(path, config, "loss", dict), LOSSES, path),
        _shape(path, config),
        described["name"] or getattr(info_of(network), "name", None),
        entry(path, {"info": {}, **config}, "info", dict),
        calibration=read_settings(path, config, "calibration", Calibration, later=("tail",)),
        match=read_settings(path, config, "match", Matching),
    )
    return moved(adapter, device_of(network))


def _of_task(stored: Stored, name: str) -> bool:
    return stored.kind == "task" and (name in TASK or name.startswith(PARAMETERS))


def _copied(tensor: Tensor, like: Tensor) -> Tensor:
    """In memory of its own: in the file it is as long as that is there, and bytes begin anywhere."""
    return tensor.to(like.device, copy=True)


def _backbone_of(stored: Stored) -> dict[str, Any]:
    path = stored.path / CONFIG
    described: dict[str, Any] = entry(path, stored.config, "backbone", dict)
    entry(path, described, "name", str, none=True)
    entry(path, described, "fingerprint", str)
    if described["name"] is not None:
        entry(path, described, "settings", dict)
    return described


def _load_backbone(path: Path, described: dict[str, Any]) -> nn.Module:
    if described["name"] is None:
        was = f" ({described['was']})" if described.get("was") else ""
        raise AdaptError(
            f"{path} was made on a backbone of your own{was}: pass it as adapt.load(folder, backbone=…)"
        )
    with _damage(path / CONFIG):
        return load_declared(str(path / CONFIG), described["name"], described["settings"])


def _shape(path: Path, config: dict[str, Any]) -> tuple[int, ...] | None:
    shape = entry(path, config, "input_shape", list, none=True)
    for size in shape or ():
        entry(path, {"input_shape": size}, "input_shape", int)
    return tuple(shape) if shape else None


def _outputs(stored: Stored, classes: int, regression: bool) -> int:
    """How many numbers the task predicts, which must be those of its labels."""
    path, state = stored.path / CONFIG, stored.tensors.get("head_state")
    if "outputs" in stored.config:
        outputs: int = entry(path, stored.config, "outputs", int)
        if outputs < 1:
            raise AdaptError(f"{path}: outputs={outputs} is none: the file is damaged, save it again")
    else:  # Earlier versions did not say. Ridge, their default for regression, has one column per output.
        outputs = classes or (state.shape[-1] if state is not None and state.ndim else 0)
    if classes != (0 if regression else outputs) or (not regression and classes < 2):
        of = "a regression" if regression else f"{outputs} outputs"
        raise AdaptError(f"{path} names {classes} classes of {of}: the file is damaged, save it again")
    return outputs


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What building from a config raises, where its entries are of types that nobody writes."""
    try:
        yield
    except AdaptError:
        raise
    except KeyError as error:
        raise AdaptError(
            f"{path.parent} lacks {error}: it is not a complete adapter folder, save it again"
        ) from None
    except (ArithmeticError, AttributeError, IndexError, RecursionError, TypeError, ValueError) as error:
        raise AdaptError(
            f"{path} holds a value of the wrong type ({error}): the file is damaged, save it again"
        ) from None


def _check_unedited(stored: Stored) -> None:
    """Last: what is wrong by itself has been named."""
    if stored.edited:
        raise AdaptError(
            f"{stored.path / CONFIG} is not as it was saved: a value that predictions follow from was "
            f"changed. Save it again; if the change is yours, remove the entry '{SETTINGS}'"
        )
