"""Where the values of a network of another library come from: its pretrained weights, a file, or a seed.

weights: pretrained      the library's own, downloaded by it once
weights: random          drawn as the library draws them, from ``seed``
weights: my/file.safetensors     or .pt, .pth, .bin, read without running anything of the file
weights: data:weights/file.safetensors     below $ADAPT_DATA, by default ~/.cache/adapt
weights: package:efficientnet_lite0        inside a package, see adapt/backbones/packaged.py
"""

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.backbones.packaged import PACKAGE, packaged
from adapt.checks import SEED, check_setting
from adapt.errors import AdaptError
from adapt.files import read_tensors, reading
from tasks.readers.regular import regular_file

__all__ = ["DATA", "PRETRAINED", "RANDOM", "drawn", "is_local", "load_file", "pretrained", "regular_files"]

PRETRAINED, RANDOM = "pretrained", "random"
#: What ``data:`` stands for is found on every machine that has the data.
DATA = "data:"


def is_local(weights: str) -> bool:
    """Whether ``weights`` is a file that another machine need not have."""
    return weights not in (PRETRAINED, RANDOM) and not weights.startswith((DATA, PACKAGE))


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """Random numbers of torch from ``seed``; the caller's own are left as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_setting("seed", seed, SEED))
        yield


@contextmanager
def pretrained(name: str, download: bool = True) -> Iterator[None]:
    """Turns what libraries raise where weights cannot be had into one error that says what to do; nothing
    without ``download``."""
    try:
        yield
    except AdaptError:
        raise
    except ImportError:
        raise
    except Exception as error:  # each library has its own, and so have those that it reads files with
        if not download:
            raise
        first = next(iter(str(error).splitlines()), "")
        if "custom code" in str(error):
            raise AdaptError(
                f"{name} comes with code of its own, which is never run here: choose a model whose class is "
                "part of the library"
            ) from None
        raise AdaptError(
            f"the pretrained weights of {name} cannot be had ({first}): check the name and the connection "
            "(they are downloaded once, then kept), or pass weights=<a .safetensors file> or weights=random"
        ) from error


def regular_files(folder: str) -> None:
    """Refuse a folder, if it is one, in which a file is a pipe or a device: libraries open what they find.

    Raises:
        OSError: names it.
    """
    if os.path.isdir(folder):
        for path in Path(folder).iterdir():
            if not path.is_dir():
                regular_file(path)


def load_file(network: nn.Module, weights: str, *, ignored: Sequence[str] = (), prefix: str = "") -> None:
    """Write the tensors of a file into ``network``; they must be all of its own, and no others.

    Args:
        weights: path of the file, ``data:…`` or ``package:…``.
        ignored: beginnings of the names of tensors that are not wanted: those of the classifier.
        prefix: that all names in the file may begin with.

    Raises:
        AdaptError: no such file, one that cannot be read without running it, or other tensors than those of
            the network.
    """
    path, tensors = _tensors(weights)
    own = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    found = {name.removeprefix(prefix): value for name, value in tensors.items()}
    # A batch norm counts its batches; frozen it does not, and files need not say.
    found = {
        name: value
        for name, value in found.items()
        if name in own or not (name.startswith(tuple(ignored)) or name.endswith("num_batches_tracked"))
    }
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in own]
    other = [
        f"{name} {tuple(found[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    for what, names in (("lacks", missing), ("also holds", unexpected), ("has other shapes:", other)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise AdaptError(
                f"{path} {what} {', '.join(names[:3])}{more}: it was not made for "
                f"{type(network).__name__} as it is configured here, give its own file"
            )
    network.load_state_dict(found, strict=False)


def _tensors(weights: str) -> tuple[Path, Mapping[str, Tensor]]:
    if weights.startswith(PACKAGE):
        return packaged(weights)
    path = _path(weights)
    return path, read_tensors(path) if path.suffix == ".safetensors" else _unpickled(path)


def _path(weights: str) -> Path:
    root = Path(os.environ.get("ADAPT_DATA") or Path.home() / ".cache" / "adapt")
    path = root / weights.removeprefix(DATA) if weights.startswith(DATA) else Path(weights)
    if weights.startswith(DATA) and not path.resolve().is_relative_to(root.resolve()):
        raise AdaptError(f"weights={weights}: {path} is outside of {root}: {DATA} names what lies below it")
    try:
        regular_file(path)
    except FileNotFoundError:
        hint = (
            "set ADAPT_DATA to the folder that holds it"
            if weights.startswith(DATA)
            else f"give the path of a file, or {PRETRAINED} or {RANDOM}"
        )
        raise AdaptError(f"weights={weights}: {path} does not exist: {hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AdaptError(
            f"weights={weights}: {path} cannot be read ({reason}): give a regular file"
        ) from None
    return path


def _check_packed(path: Path) -> None:
    """Refuse a file whose content is larger than the file: torch packs nothing, and what it reads fills the
    memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content = sum(member.file_size for member in archive.infolist())
        if content > path.stat().st_size:
            raise AdaptError(
                f"{path} is a file of {path.stat().st_size:,} bytes that says to hold {content:,}: save the "
                "state dict as safetensors"
            )


def _unpickled(path: Path) -> Mapping[str, Tensor]:
    """The state dict of a .pt, .pth or .bin file; of a checkpoint, that under its key state_dict or model."""
    with reading(path, "cannot be read as tensors alone", "save the state dict as safetensors"):
        _check_packed(regular_file(path))
        value: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        value = value.get(key, value) if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise AdaptError(f"{path} holds no state dict: save network.state_dict(), as safetensors")
    return value
