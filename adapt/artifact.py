"""A folder of a JSON config and its tensors, published whole and read whole.

    backbone.json                             names the file of the tensors, and its sha256
    backbone-<hash>.safetensors               tensors of another content have another name
    examples-<hash>.safetensors               other files that the config names, if it does

A writer puts the tensors beside those that are there, then replaces the config: that is the moment at which
the artifact becomes the new one. Until then, and if the writer is killed or the disk is full, it is the old
one. Then what no config names is swept. A reader that has read the old config a moment before finds its
tensors gone and the config changed, and begins again.

No writer waits for another, and each may be the last. What one has written and not yet named, another must
not sweep: writers share a lock on the folder, and sweep when they have it alone. Where a file system has no
such locks, what is swept is a day old.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from adapt.errors import AdaptError
from adapt.files import (
    ABANDONED,
    incomplete,
    json_text,
    read_json_text,
    read_tensors,
    reading,
    remove,
    staging,
    tensors_writer,
)
from tasks.readers.regular import open_regular

__all__ = ["TENSORS", "Layout", "copy", "generation", "publish", "read"]

Value = TypeVar("Value")

#: Key of a config under which its tensors are named.
TENSORS = "tensors"
#: Bytes of a file of tensors: more cannot be told from a file with holes.
LARGEST = 1 << 37
#: A reader that never finds two files that belong together gives up: nobody writes so often.
ATTEMPTS = 1000


class Layout(NamedTuple):
    """Names of the files: ``config``; those of tensors begin with ``stem``. Earlier versions wrote the
    tensors to ``<stem>.safetensors``, and their configs do not name them. ``others`` are how the names of
    other files begin that a config may name."""

    config: str
    stem: str
    others: tuple[str, ...] = ()

    @property
    def earlier(self) -> str:
        """The name of the tensors where the config does not give it."""
        return f"{self.stem}.safetensors"

    def name(self, sha256: str) -> str:
        """That of tensors in a file with this hash."""
        return f"{self.stem}-{sha256[:16]}.safetensors"


def publish(
    folder: Path,
    layout: Layout,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    texts: Mapping[str, str] | None = None,
    named: Mapping[str, bytes] | None = None,
) -> None:
    """Write ``config``, which will name the ``tensors``, and ``texts`` by file name, such as a README.

    Args:
        named: other files by names that stand in ``config``, each with the hash of what it holds.

    Raises:
        AdaptError: a config that JSON cannot hold; nothing has changed.
        OSError: they cannot be written; what was there is still there.
    """
    json_text(config)  # what cannot be written fails before a folder is made
    write = tensors_writer(tensors, {"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    with _shared(folder) as lock:
        with staging(folder, layout.stem) as staged:
            file = staged.file()
            write(file)
            sha256 = _sha256(file)
            staged.place(file, layout.name(sha256))
            for other, content in (named or {}).items():
                staged.file(other).write_bytes(content)
            whole = {**config, TENSORS: {"file": layout.name(sha256), "sha256": sha256}}
            for name, text in {**(texts or {}), layout.config: json_text(whole)}.items():
                staged.file(name).write_text(text, encoding="utf-8")
        _sweep(folder, layout, alone=_alone(lock))


def read(folder: Path, layout: Layout) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and its tensors, which may still lie in the file: copy what is to stay.

    Raises:
        AdaptError: missing or damaged files, or tensors that are not those of the config.
    """
    config, _, tensors = _whole(folder, layout, lambda config: _read(folder, layout, config))
    return config, tensors


def copy(folder: Path, target: Path, layout: Layout, texts: tuple[str, ...] = ()) -> None:
    """Copy the artifact in ``folder``, byte for byte, to the empty folder ``target``; ``texts`` where they
    are there.

    Raises:
        AdaptError: missing or damaged files.
        OSError: ``target`` cannot be written.
    """
    config, text, _ = _whole(folder, layout, lambda config: _copy_tensors(folder, target, layout, config))
    (target / layout.config).write_bytes(text)
    _read(target, layout, config)  # what was copied is whole
    for name in texts:
        if (folder / name).is_file() and _inside(folder / name, folder):
            _copy_file(folder / name, target / name)


def _inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in the folder, and is no link to one elsewhere, which nobody meant to copy."""
    return path.resolve().is_relative_to(folder.resolve())


def _whole(
    folder: Path, layout: Layout, take: Callable[[dict[str, Any]], Value]
) -> tuple[dict[str, Any], bytes, Value]:
    """A config, its text, and what ``take`` finds for it: again while another config comes."""
    before = None
    for _ in range(ATTEMPTS):
        config, text = read_json_text(folder / layout.config)
        try:
            return config, text, take(config)
        except AdaptError:
            if text == before:  # nobody has changed it meanwhile: this is how it is
                raise
            before = text
    raise AdaptError(f"{folder} is written all the time: read it when its writers are done")


def _read(folder: Path, layout: Layout, config: Mapping[str, Any]) -> dict[str, Tensor]:
    name, sha256 = _named(folder, layout, config)
    path = folder / name
    if sha256 is not None:
        with reading(path, "is not a readable safetensors file", missing=incomplete(folder)):
            found = _sha256(path)
        if found != sha256:
            read_tensors(path)  # says what is wrong if it is no such file at all
            raise AdaptError(
                f"{path} is damaged: its sha256 is {found[:16]}…, and {layout.config} was written for "
                f"{sha256[:16]}…; save it again"
            )
    return read_tensors(path)


def _copy_tensors(folder: Path, target: Path, layout: Layout, config: Mapping[str, Any]) -> None:
    name, _ = _named(folder, layout, config)
    _copy_file(folder / name, target / name)


def _copy_file(source: Path, target: Path) -> None:
    with reading(source, "cannot be copied", missing=incomplete(source.parent)):
        file = open_regular(source)
    with file, target.open("wb") as copied:
        shutil.copyfileobj(file, copied)


def _named(folder: Path, layout: Layout, config: Mapping[str, Any]) -> tuple[str, str | None]:
    """File and sha256 of the tensors; no sha256 in folders of earlier versions."""
    if TENSORS not in config:
        return layout.earlier, None
    match config[TENSORS]:
        case {"file": str(name), "sha256": str(sha256), **more} if not more:
            if re.fullmatch("[0-9a-f]{64}", sha256) and name == layout.name(sha256):
                return name, sha256
    raise AdaptError(
        f"{folder / layout.config} does not name its tensors as this version writes it ('{TENSORS}'): the "
        "file is damaged, save it again"
    )


def generation(folder: Path, layout: Layout) -> str | None:
    """Tells what is published in ``folder`` from what was before and will be; None: nothing."""
    try:
        return hashlib.sha256(read_json_text(folder / layout.config)[1]).hexdigest()
    except AdaptError:
        return None


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise OSError(errno.EFBIG, f"has {size:,} bytes, and {LARGEST:,} are read at most", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------ sweeping


@contextmanager
def _shared(folder: Path) -> Iterator[int | None]:
    """A handle of the folder with the lock that its writers share; None where there are no locks."""
    handle = None
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH)
    except (ImportError, OSError):
        if handle is not None:
            os.close(handle)
        handle = None
    try:
        yield handle
    finally:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_UN)  # whoever was forked meanwhile has it too
            os.close(handle)


def _alone(handle: int | None) -> bool:
    """Whether nobody else writes, until the handle is closed."""
    if handle is None:
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _sweep(folder: Path, layout: Layout, *, alone: bool) -> None:
    """Remove what no config names: tensors of before, and what killed writers were writing."""
    try:  # the config as it is now: another writer may have published since
        config, text = read_json_text(folder / layout.config)
        name, _ = _named(folder, layout, config)
    except AdaptError:
        return
    stem, others = re.escape(layout.stem), "|".join(map(re.escape, layout.others))
    number = "-[0-9a-f]{16}"
    stale = re.compile(
        rf"{stem}({number})?\.safetensors|({others}){number}\.safetensors|"
        rf"\.({stem}|{re.escape(layout.config)})\.\w{{8}}"
    )
    for path in folder.iterdir():
        if stale.fullmatch(path.name) and path.name != name and f'"{path.name}"'.encode() not in text:
            with suppress(OSError):
                if alone or path.stat().st_mtime < time.time() - ABANDONED:
                    remove(path)
