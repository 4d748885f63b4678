"""A fitted task as one file that needs neither this library nor, as ONNX, torch.

    outputs [m, C] = head(backbone(x; φ₀ + U z))

Adapted weights are merged into the network and the head is part of the graph. What the numbers mean (labels,
whether they are logits or values) is in the file, as JSON; how examples become tensors is not: what is passed
to the graph is what ``task.adapter.examples(x)`` gives.
"""

from __future__ import annotations

import copy
import io
import json
import os
import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from adapt.adapter.moved import first_line
from adapt.adapter.record import TaskRecord
from adapt.backbones import require
from adapt.errors import AdaptError
from adapt.files import writing
from adapt.heads import Head, is_transductive

__all__ = [
    "FORMATS",
    "Format",
    "check_agrees",
    "check_target",
    "exported",
    "merged",
    "onnx_written",
    "traced",
]

Format = Literal["onnx", "torch.export"]
FORMATS: tuple[Format, ...] = ("onnx", "torch.export")
#: By how much exported outputs may differ, relative to the largest.
AGREES = 1e-3


class Merged(nn.Module):
    """Outputs ``[m, C]`` of the adapted network and its head."""

    def __init__(self, backbone: nn.Module, head: Head, head_state: Tensor) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.head_state = nn.Buffer(head_state.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of ``x [m, …]``."""
        return self.head.logits(self.head_state, self.backbone(x))


def merged(task: TaskRecord) -> nn.Module:
    """The task as a module that holds all of its tensors.

    Raises:
        AdaptError: a head that predicts examples together, which no graph of single ones can.
    """
    if is_transductive(task.adapter.head):
        raise AdaptError(
            f"head '{type(task.adapter.head).__name__}' predicts examples together, which an exported model "
            "cannot: adapt with another head"
        )
    network = copy.deepcopy(task.adapter.backbone).requires_grad_(False).eval()
    network._apply(torch.Tensor.contiguous)  # a program is saved as it would lie in a file
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for name, value in task.parameters.items():
            own[name].copy_(value)
    return Merged(network, task.adapter.head, task.head_state).eval()


def exported(task: TaskRecord, path: Path, given: Tensor, wanted: Tensor, format: Format) -> Path:
    """Write ``task``, which is on the CPU in float32; see :meth:`adapt.FittedTask.export`.

    Args:
        given: examples as the network takes them ``[m, …]``.
        wanted: what the task makes of them ``[m, C]``.
    """
    module = merged(task)
    about = {
        "classes": json.dumps(task.classes_.tolist(), default=str),
        "outputs": "values" if task.adapter.loss.regression else "logits",
        "backbone": str(task.adapter.backbone_name),
    }
    with writing(path) as there:
        if format == "onnx":
            found = onnx_written(module, (given,), there, about)
        else:
            program = traced(module, (given,))
            archive = io.BytesIO()  # by its name torch would know that the file is not at its place yet
            torch.export.save(program, archive, extra_files=about)
            there.write_bytes(archive.getvalue())
            found = program.module()(given)
        check_agrees(path, found, wanted)
    return path


def check_target(path: str | os.PathLike[str], format: str) -> Path:
    """The file to write to, before anything is computed.

    Raises:
        AdaptError: another format, or no path of a file.
    """
    if format not in FORMATS:
        raise AdaptError(f"format={format!r} is not known: choose {', '.join(FORMATS)}")
    said = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(said, str) or not said or "\0" in said:
        raise AdaptError(f"path={path!r} names no file: give the path to write to, such as 'task.onnx'")
    found = Path(said)
    if found.is_dir():
        raise AdaptError(f"{found} is a folder: name a file")
    if any(above.exists() and not above.is_dir() for above in found.parents):
        raise AdaptError(f"{found} lies below a file: name another folder")
    return found


def check_agrees(path: Path, found: Tensor, wanted: Tensor) -> None:
    """Refuse to write to ``path`` what does not compute what it should.

    Raises:
        AdaptError: ``found`` is not ``wanted``.
    """
    if not float((found - wanted).abs().max()) <= AGREES * (1 + float(wanted.abs().max())):
        raise AdaptError(f"{path}: what was exported computes something else: it is not written")


def traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """``module`` as a graph for any number of examples, the rows of the first of ``inputs``; of tokens, for
    texts of any length.

    Raises:
        AdaptError: torch cannot follow what the network does.
    """
    first, *others = inputs
    several = first if len(first) > 1 else first.expand(2, *first.shape[1:]).clone()  # 1 would be a constant
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch's own parts, about each other
            axes = [0] if first.is_floating_point() else [0, 1]
            sizes = (dict.fromkeys(axes, torch.export.Dim.DYNAMIC), *({} for _ in others))
            return torch.export.export(module, (several, *others), dynamic_shapes=sizes)
    except Exception as error:  # whatever the network does that cannot be followed
        said = f"{type(error).__name__}: {first_line(error)}"
        raise AdaptError(f"this network cannot be exported: {said}") from error


def onnx_written(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, about: dict[str, str]) -> Tensor:
    """Write ``module`` to ``path``; what ONNX Runtime makes of ``inputs``.

    Raises:
        AdaptError: a package that is missing, or an operation that ONNX does not have.
    """
    require("onnx")  # which torch imports itself
    require("onnxscript")
    runtime = require("onnxruntime")
    program, names = traced(module, inputs), [f"x{index}" if index else "x" for index in range(len(inputs))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                program, inputs, input_names=names, output_names=["outputs"], dynamo=True, verbose=False
            )
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise AdaptError(f"this network cannot be written as ONNX: {said}") from error
    assert made is not None
    made.model.metadata_props.update(about)
    path.write_bytes(made.model_proto.SerializeToString())
    fed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    try:
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, fed)[0])
    except Exception as error:  # kernels that ONNX Runtime lacks
        raise AdaptError(f"ONNX Runtime cannot run this network: {first_line(error)}") from error
