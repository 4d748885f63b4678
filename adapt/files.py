"""Writing and reading what leaves the process: JSON and safetensors, atomically, never pickle."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapt.errors import AdaptError

__all__ = [
    "PRETRAINED",
    "json_text",
    "read_json",
    "read_metadata",
    "read_tensors",
    "shipped",
    "write_json",
    "write_tensors",
    "write_text",
]

_Value = TypeVar("_Value")

#: Folder of the artifacts that ship inside the package.
PRETRAINED = Path(__file__).parent / "pretrained"


def shipped(name: str | os.PathLike[str]) -> Path:
    """The folder that ``name`` means: an existing path as it is, otherwise the artifact of that name shipped
    in the package.

    Raises:
        AdaptError: neither exists.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if (PRETRAINED / path).is_dir() and path.name == str(name):
        return PRETRAINED / path
    names = sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir())
    raise AdaptError(
        f"'{name}' is neither a folder nor a shipped artifact: give a path, or one of "
        f"{', '.join(names) or '(none)'}"
    )


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that readers see the old file or the new one, never half of it."""
    _atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """``value`` as indented JSON.

    Raises:
        AdaptError: it holds something that JSON has no word for, NaN and infinity included.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        text.encode()  # half a character (a lone surrogate) is none that a file can hold
        return text
    except (TypeError, ValueError) as error:
        raise AdaptError(
            f"cannot be written as JSON ({error}): use plain strings, finite numbers, lists and dicts"
        ) from None


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named ``tensors`` as safetensors, atomically."""
    # safetensors refuses tensors that share memory, as tied weights do: each gets its own.
    contiguous = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    _atomically(path, lambda temporary: save_file(contiguous, temporary, metadata=dict(metadata or {})))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        AdaptError: the file is missing or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdaptError(f"{path} does not exist: {path.parent} is not a complete artifact folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AdaptError(f"{path} is not valid JSON ({error}): the file is damaged, write it again") from None
    if not isinstance(value, dict):
        raise AdaptError(
            f"{path} holds {type(value).__name__}, not a JSON object: it is not one of our files"
        )
    return value


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        AdaptError: the file is missing, truncated or not safetensors.
    """
    return _read_safetensors(path, load_file)


def read_metadata(path: Path) -> dict[str, str]:
    """The texts beside the tensors of a safetensors file.

    Raises:
        AdaptError: the file is missing, truncated or not safetensors.
    """

    def read(path: Path) -> dict[str, str]:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}

    return _read_safetensors(path, read)


def _read_safetensors(path: Path, read: Callable[[Path], _Value]) -> _Value:
    if not path.is_file():
        raise AdaptError(f"{path} does not exist: {path.parent} is not a complete artifact folder")
    try:
        return read(path)
    except SafetensorError as error:
        raise AdaptError(
            f"{path} is not a readable safetensors file ({error}): it is damaged or of another format"
        ) from None


def _atomically(path: Path, write: Callable[[str], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes it private; an artifact is as readable as any other file
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
