"""Writing and reading what leaves the process: JSON and safetensors, never pickle.

What is written is there whole or not at all, after a power cut too. Whatever goes wrong with reading becomes
one error, :func:`reading`, since what is read may come from anywhere.
"""

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from glob import escape
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapt.errors import AdaptError
from tasks.readers.regular import read_regular, regular_file

__all__ = [
    "PRETRAINED",
    "Staging",
    "incomplete",
    "json_text",
    "meant",
    "parse_json",
    "read_json",
    "read_json_text",
    "read_metadata",
    "read_tensors",
    "reading",
    "remove",
    "shipped",
    "staging",
    "sweep",
    "tensors_writer",
    "write_json",
    "write_tensors",
    "write_text",
    "writing",
]

_Value = TypeVar("_Value")

#: Folder of the artifacts that ship inside the package.
PRETRAINED = Path(__file__).parent / "pretrained"
#: Bytes of a JSON file, levels of its nesting, and bits of a whole number in it. None of ours comes near.
LARGEST_JSON, DEEPEST, WIDEST = 1 << 28, 100, 128
#: Seconds after which a file that somebody was writing is one that a killed process left.
ABANDONED = 86400
#: Characters of a reason that are shown: it may quote what was read.
LONGEST_REASON = 200


# ------------------------------------------------------------------------------------------ the boundary


@contextmanager
def reading(
    path: str | os.PathLike[str],
    fault: str,
    remedy: str = "it is damaged or of another format",
    missing: str = "check the path",
) -> Iterator[None]:
    """Turns whatever goes wrong with reading ``path`` into one error that names it.

    Inside there is nothing but the reading and decoding of this file: an exception of any kind then says
    something about the file.

    Args:
        path: as shown to the user.
        fault: what is wrong if it cannot be decoded: ``is not valid JSON``.
        remedy: what to do then.
        missing: what to do where there is no such file.

    Raises:
        AdaptError: instead of any other exception.
    """
    try:
        yield
    except AdaptError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise AdaptError(f"{path} does not exist: {missing}") from None
    except OSError as error:
        reason = _shortened(error.strerror or str(error))
        raise AdaptError(f"{path} cannot be read ({reason}): give a regular file that you may read") from None
    except MemoryError:
        raise AdaptError(f"{path} does not fit into memory: give a smaller file") from None
    except RecursionError:
        raise AdaptError(f"{path} {fault} (it is nested too deeply): {remedy}") from None
    except Exception as error:
        reason = _shortened(str(error)) or type(error).__name__
        raise AdaptError(f"{path} {fault} ({reason}): {remedy}") from None


def _shortened(reason: str) -> str:
    line = " ".join(next(iter(reason.splitlines()), "").split())
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} …"


def shipped(name: str | os.PathLike[str]) -> Path:
    """The folder that ``name`` means: an existing path as it is, otherwise the artifact of that name shipped
    in the package.

    Raises:
        AdaptError: neither exists.
    """
    path = Path(name)
    if _is_folder(path):
        return path
    if path.name == str(name) and _is_folder(PRETRAINED / path):
        return PRETRAINED / path
    names = sorted(folder.name for folder in PRETRAINED.iterdir() if folder.is_dir())
    other = f"; did you mean {close}?" if (close := meant(path, names)) else ""
    raise AdaptError(
        f"'{_shortened(str(name))}' is neither a folder nor a shipped artifact: give a path, or one of "
        f"{', '.join(names) or '(none)'}{other}"
    )


def meant(path: Path, names: Sequence[str] = ()) -> str:
    """Which artifact of the same folder, or which other name, may be meant by a path that is none; or ""."""
    beside: list[Path] = []
    with suppress(OSError, ValueError):
        beside = [found for found in path.parent.iterdir() if (found / "adapter_config.json").is_file()]
    known = {**{name: name for name in names}, **{found.name: str(found) for found in beside}}
    close = get_close_matches(path.name, known, n=1)
    return known[close[0]] if close else ""


def _is_folder(path: Path) -> bool:
    with suppress(OSError, ValueError):  # too long a name, a loop of links, a NUL
        return path.is_dir()
    return False


def parse_json(
    content: str | bytes,
    name: str | os.PathLike[str],
    *,
    finite: bool = True,
    fix: str = "the file is damaged, write it again",
) -> Any:
    """The plain value that JSON from outside holds; ``name`` is that of its source.

    Args:
        finite: refuse NaN and infinity, which are not JSON.
        fix: what can be done, for messages.

    Raises:
        AdaptError: it is not JSON, not UTF-8, nested more deeply than a hundred levels, or holds numbers
            that no file of ours has, or half a character.
    """
    with reading(name, "is not valid JSON", fix):
        value = json.loads(content.decode("utf-8") if isinstance(content, bytes) else content)
        _check_plain(value, finite)
        return value


def _check_plain(value: Any, finite: bool) -> None:
    """Refuse what is JSON, but breaks whoever works with it: level by level, since it may be deep."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, str):
                entry.isascii() or entry.encode()
            elif isinstance(entry, float):
                if finite and not isfinite(entry):
                    raise ValueError(f"it holds {entry}, which is no JSON")
            elif isinstance(entry, int):
                if entry.bit_length() > WIDEST:
                    raise ValueError(f"it holds a whole number of {entry.bit_length()} bits")
            elif isinstance(entry, dict):
                below += [*entry, *entry.values()]
            elif isinstance(entry, list):
                below += entry
        level, depth = below, depth + 1
        if depth > DEEPEST:
            raise RecursionError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        AdaptError: the file is missing, cannot be read, is no regular file, or is not a JSON object
            (:func:`parse_json`).
    """
    return read_json_text(path)[0]


def read_json_text(path: Path) -> tuple[dict[str, Any], bytes]:
    """The same, and the bytes that it was read from."""
    with reading(path, "is not valid JSON", missing=incomplete(path.parent)):
        content = read_regular(path, most=LARGEST_JSON)
        value = parse_json(content, path)
    if not isinstance(value, dict):
        raise AdaptError(
            f"{path} holds {type(value).__name__}, not a JSON object: it is not one of our files"
        )
    return value, content


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
    with reading(path, "is not a readable safetensors file", missing=incomplete(path.parent)):
        return read(regular_file(path))


def incomplete(folder: Path) -> str:
    """What to say of a folder in which a file is missing."""
    return f"{folder} is not a complete artifact folder"


# ------------------------------------------------------------------------------------------ writing


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that readers see the old file or the new one, never half of it."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    except (TypeError, ValueError, RecursionError) as error:
        raise AdaptError(
            f"cannot be written as JSON ({error}): use plain strings, finite numbers, lists and dicts"
        ) from None


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named ``tensors`` as safetensors, atomically."""
    write = tensors_writer(tensors, metadata)
    with writing(path) as temporary:
        write(temporary)


def tensors_writer(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Callable[[Path], None]:
    """What writes ``tensors`` to a path, for a :class:`Staging`.

    Raises:
        OSError: when called, if they cannot be written.
    """
    # safetensors refuses tensors that share memory, as tied weights do: each gets its own.
    contiguous = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }

    def write(path: Path) -> None:
        try:
            save_file(contiguous, str(path), metadata=dict(metadata or {}))
        except SafetensorError as error:  # its words for a disk that is full
            raise OSError(errno.EIO, f"cannot be written: {error}", str(path)) from None

    return write


class Staging:
    """Files of one folder that are written in another inside it, and take their places together; see
    :func:`staging`."""

    def __init__(self, folder: Path, label: str) -> None:
        self._folder, self._label = folder, label
        self._scratch = Path(tempfile.mkdtemp(dir=folder, prefix=f".{label}."))
        self._placed: list[tuple[Path, Path]] = []

    def file(self, name: str | None = None) -> Path:
        """A path to write a file to, which is to become ``name``, after those before it; None: later
        :meth:`place` says what."""
        path = self._scratch / str(len(self._placed))
        self._placed.append((path, self._folder / (name or "")))
        return path

    def place(self, path: Path, name: str) -> None:
        """``path``, from :meth:`file`, is to become ``name``."""
        number = int(path.name)
        self._placed[number] = path, self._folder / name

    def publish(self) -> None:
        """Rename; what fails for want of room has failed before."""
        for path, _ in self._placed:
            os.chmod(path, 0o644)  # an artifact is as readable as any other file
            _to_disk(path)
        for path, target in self._placed:
            os.replace(path, target)
        _to_disk(self._folder)

    def tidy(self) -> None:
        """Remove what is left of the writing, and what killed processes have left of theirs."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        sweep(self._folder, self._label)


def sweep(folder: Path, label: str, seconds: float = ABANDONED) -> None:
    """Remove what killed processes have left of writing ``label``, untouched for so many ``seconds``."""
    for left in folder.glob(f".{escape(label)}.????????"):
        with suppress(OSError):
            if left.stat().st_mtime <= time.time() - seconds:
                remove(left)


def remove(path: Path) -> None:
    """A file, or a folder with what is in it; whatever cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def staging(folder: Path, label: str) -> Iterator[Staging]:
    """Files that are written to ``folder`` together: they are on the disk before the first of them takes its
    place, and the old ones stay if anything fails. ``label`` is in the name of what they are written in.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staged = Staging(folder, label)
    try:
        yield staged
        staged.publish()
    finally:
        staged.tidy()


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A path to write to, that becomes ``path`` at the end, if nothing fails."""
    with staging(path.parent, path.name) as staged:
        yield staged.file(path.name)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # there are file systems that cannot say
            raise
    finally:
        os.close(handle)
