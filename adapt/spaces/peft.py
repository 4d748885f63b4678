"""Checkpoints of Hugging Face's PEFT library, LoRA and (IA)³: read as a starting point, written as a result.

    base_model.model.<module>.lora_A.weight  [r, in]  ↔  <module>.lora_A        B, and convolutions, alike
    base_model.model.<module>.ia3_l  [out, 1]         ↔  <module>.ia3_l  [out]  [1, in] for feedforward

The layout is that of ``peft.PeftModel.save_pretrained`` (Mangrulkar et al. 2022, *PEFT: State-of-the-art
Parameter-Efficient Fine-Tuning methods*, version 0.21): ``adapter_config.json`` and
``adapter_model.safetensors``. PEFT itself is not needed.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from glob import escape
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.errors import AdaptError
from adapt.files import json_text, read_json_text, read_metadata, read_tensors, staging, tensors_writer
from adapt.spaces.base import Space
from adapt.spaces.ia3 import Scaled, ia3
from adapt.spaces.layers import Layer
from adapt.spaces.lora import LowRank, lora

__all__ = ["read_peft", "write_peft"]

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
#: Beside the tensors of a checkpoint of ours: the sha256 of its config.
WITH = "adapter_config_sha256"
ROOT = "base_model.model."
#: Options that say nothing about what the adapted network computes beyond what we read.
READ = {
    *("auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "feedforward_modules"),
    *("inference_mode", "init_ia3_weights", "init_lora_weights", "layers_pattern", "layers_to_transform"),
    *("lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r"),
    *("revision", "runtime_config", "target_modules", "task_type", "use_rslora"),
}
#: Names of modules, as a file may list them.
NAME = re.compile(r"[\w.-]+")
#: Ways to start that leave the weights of the base model as they are.
STARTS = (None, True, False, "gaussian", "orthogonal", "eva")


def read_peft(
    folder: str | os.PathLike[str], backbone: nn.Module, prefixes: tuple[str, str] = ("", "")
) -> tuple[Space, Tensor]:
    """The space of a PEFT checkpoint in ``backbone``, and φ ``[P]`` at which it computes what was trained.

    Args:
        folder: with ``adapter_config.json`` and ``adapter_model.safetensors``.
        backbone: the network it was trained for; its weights are not changed, and not verified.
        prefixes: how the names of the checkpoint's modules begin, and how the backbone's do instead:
            ``("bert.", "encoder.")``.

    Raises:
        AdaptError: damaged files, an option that has no equal here (DoRA, rank patterns, trained biases, …),
            or modules that the backbone does not have in these sizes.
    """
    path = Path(folder)
    config, text = read_json_text(path / CONFIG)
    tensors, made_with = read_tensors(path / TENSORS), read_metadata(path / TENSORS).get(WITH)
    if made_with not in (None, _sha256(text)):
        raise AdaptError(
            f"{path / TENSORS} was written with another {CONFIG}: one of the two was changed, or is being "
            "written; read them again, or export them again"
        )
    kind = config.get("peft_type")
    if kind not in ("LORA", "IA3"):
        raise AdaptError(f"{path / CONFIG} has peft_type {kind!r}: only LORA and IA3 can be read")
    _refuse_what_differs(path, config)
    found: dict[str, dict[str, Tensor]] = {}
    suffixes = {"LORA": r"(lora_A|lora_B)\.weight", "IA3": "(ia3_l)"}
    for key, value in tensors.items():
        matched = re.fullmatch(re.escape(ROOT + prefixes[0]) + rf"(.+)\.{suffixes[kind]}", key)
        if matched is None:
            raise AdaptError(
                f"{path / TENSORS} holds {key}, which does not read {ROOT}{prefixes[0]}<module>."
                f"{suffixes[kind]}: pass the right prefixes=(theirs, ours), or save it without this tensor"
            )
        found.setdefault(prefixes[1] + matched[1], {})[matched[2]] = value
    try:
        space = _lora(config, found, backbone) if kind == "LORA" else _ia3(config, found, backbone, prefixes)
        own = {f"{module}.{name}": t for module, its in found.items() for name, t in its.items()}
        for name, shape in space.shapes.items():
            rows = own[name].flatten() if len(shape) == 1 else own[name].flatten(1)
            if tuple(rows.shape) != shape:
                raise AdaptError(
                    f"{path / TENSORS}: {name} has shape {tuple(own[name].shape)}, but in "
                    f"{type(backbone).__name__} {shape} is needed: it was made for another backbone"
                )
        phi = torch.cat([own[name].reshape(-1).to(space.initial) for name in space.shapes])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, AdaptError):
            raise
        raise AdaptError(f"{path} is not a complete PEFT checkpoint ({error!r}): save it again") from None
    return space, phi


def write_peft(
    folder: str | os.PathLike[str],
    space: Space,
    phi: Tensor,
    *,
    base_model_name: str | None = None,
    prefixes: tuple[str, str] = ("", ""),
) -> None:
    """Write ``phi [P]`` of ``space`` as a checkpoint that ``peft.PeftModel.from_pretrained(model, folder)``
    puts on the plain model.

    Args:
        folder: is made if it does not exist.
        space: of :func:`adapt.spaces.lora` or :func:`adapt.spaces.ia3`.
        phi: its adaptable numbers.
        base_model_name: of the model on the Hub, as a note for readers.
        prefixes: how the names of the model's modules begin, and how those of the backbone that wraps it do
            instead: ``("", "encoder.")``.

    Raises:
        AdaptError: another space, modules whose names begin otherwise, or grouped convolutions, which PEFT
            factorises differently.

    Example:
        >>> import tempfile
        >>> net = nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 3))
        >>> space = lora(net, rank=2, targets="0")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_peft(folder, space, space.initial)
        ...     again, phi = read_peft(folder, net)
        >>> again.shapes == space.shapes, torch.equal(phi, space.initial)
        (True, True)
    """
    merge = space.merge
    if not isinstance(merge, LowRank | Scaled):
        raise AdaptError(
            f"space '{space.name}' has no equal in PEFT: only 'lora' and 'ia3' can be written, one at a time"
        )
    layers = list(merge.layers) if isinstance(merge, LowRank) else [*merge.rows, *merge.columns]
    names = {layer.name: _theirs(layer, prefixes) for layer in layers}
    config: dict[str, Any] = {
        "base_model_name_or_path": base_model_name,
        "fan_in_fan_out": any(layer.transposed for layer in layers),
        "inference_mode": True,
        "target_modules": sorted(names.values()),
        "task_type": None,
    }
    own, tensors = space.tensors(phi.detach()), dict[str, Tensor]()
    if isinstance(merge, LowRank):
        rank = len(own[layers[0].own("lora_A")])
        config |= {"peft_type": "LORA", "r": rank, "lora_alpha": merge.scale * rank, "lora_dropout": 0.0}
        config |= {"bias": "none", "init_lora_weights": True}
        for layer in layers:
            key, kernel = f"{ROOT}{names[layer.name]}", layer.parameter.shape[2:]
            inputs = layer.inputs // prod(kernel)
            tensors[f"{key}.lora_A.weight"] = own[layer.own("lora_A")].reshape(rank, inputs, *kernel)
            b = own[layer.own("lora_B")]
            tensors[f"{key}.lora_B.weight"] = b.reshape(*b.shape, *(1 for _ in kernel))
    else:
        config |= {"peft_type": "IA3", "feedforward_modules": sorted(names[x.name] for x in merge.columns)}
        for layer in layers:
            value, kernel = own[layer.own("ia3_l")], layer.parameter.shape[2:]
            row = layer in merge.columns or bool(kernel)  # linear layers have a column for their outputs
            shape = (1, len(value), *(1 for _ in kernel)) if row else (len(value), 1)
            tensors[f"{ROOT}{names[layer.name]}.ia3_l"] = value.reshape(shape)
    text = json_text(config)
    # PEFT reads these two names only: both are on the disk before the first takes its place, and the tensors
    # say which config they go with.
    write = tensors_writer(tensors, {"format": "pt", WITH: _sha256(text.encode())})
    with staging(Path(folder), TENSORS) as staged:
        write(staged.file(TENSORS))
        staged.file(CONFIG).write_text(text, encoding="utf-8")


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _refuse_what_differs(path: Path, config: Mapping[str, Any]) -> None:
    if (start := config.get("init_lora_weights")) not in STARTS:
        raise AdaptError(
            f"{path / CONFIG}: init_lora_weights={start!r} changes the weights of the base model, which stay "
            "as they are here: convert it with PEFT (path_initial_model_for_weight_conversion) first"
        )
    for option, value in config.items():
        if option not in READ and value and not (option == "bias" and value == "none"):
            raise AdaptError(f"{path / CONFIG}: {option}={value!r} has no equal here: train without it")


def _lora(config: Mapping[str, Any], found: Mapping[str, Any], backbone: nn.Module) -> Space:
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    for module, its in found.items():  # what the tensors do not hold is not made
        shape = tuple(its["lora_A"].flatten(1).shape)
        if shape[0] != rank:
            raise AdaptError(
                f"{TENSORS}: {module}.lora_A has shape {shape}, but of rank r={str(rank)[:30]} "
                f"({str(rank)[:30]}, {shape[1]}) is needed: one of the two files is another's"
            )
    alpha = alpha * sqrt(rank) if config.get("use_rslora") else alpha  # there the factor is α/√r
    return lora(backbone, rank, alpha, _targets(found))


def _ia3(
    config: Mapping[str, Any], found: Mapping[str, Any], backbone: nn.Module, prefixes: tuple[str, str]
) -> Space:
    wanted = config.get("feedforward_modules") or []
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if odd := [name for name in names if not isinstance(name, str) or not NAME.fullmatch(name)]:
        raise AdaptError(
            f"PEFT's feedforward_modules={str(odd[0])[:100]!r} is no name of a module, and patterns in files "
            "are not followed: list the modules by name in adapter_config.json"
        )

    def feedforward(module: str) -> bool:  # as PEFT decides it
        theirs = prefixes[0] + module.removeprefix(prefixes[1])
        return theirs == wanted if isinstance(wanted, str) else theirs.endswith(tuple(names))

    columns = [module for module in found if feedforward(module)]
    rows = [module for module in found if module not in columns]
    return ia3(backbone, _targets(rows), _targets(columns))


def _targets(modules: Iterable[str]) -> str:
    """Patterns that match these ``modules`` and no others: names in a file are no patterns."""
    for module in modules:
        if "," in module or module != module.strip():
            raise AdaptError(f"{TENSORS}: {module[:100]!r} is no name of a module")
    return ",".join(map(escape, modules))


def _theirs(layer: Layer, prefixes: tuple[str, str]) -> str:
    if not layer.name.startswith(prefixes[1]) or layer.name == prefixes[1]:
        raise AdaptError(
            f"prefixes={prefixes}: the backbone's {layer.name or 'only layer'} does not begin with "
            f"'{prefixes[1]}': adapt other targets, or pass the right prefixes=(theirs, ours)"
        )
    if not layer.alone:
        raise AdaptError(
            f"{layer.name} is one of several matrices of a {type(layer.module).__name__}, for which PEFT has "
            "no name: leave it out (targets)"
        )
    if getattr(layer.module, "groups", 1) > 1:
        raise AdaptError(
            f"{layer.name} is a grouped convolution, which PEFT factorises differently: leave it out"
        )
    return prefixes[0] + layer.name.removeprefix(prefixes[1])
