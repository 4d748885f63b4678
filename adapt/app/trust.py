"""What counts only when it is typed.

A configuration is made of our own options, of files that somebody else may have written (a folder of configs,
the notes in a run's folder, the overrides of a registered model) and of what is typed. Files say what is run.
What opens the machine further is for the command line alone: which other code may be called (``allow``), what
Hydra does and starts (``hydra``), addresses that data are sent to, variables of the environment, and folders
outside the present one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hydra._internal import hydra as hydra_internal
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep, Transformer
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adapt.app.config import config_folder
from adapt.app.once import ComposedOnce
from adapt.app.reading import checked_files
from adapt.app.sizes import bounded, check_interpolations, leads_out, measured
from adapt.errors import AdaptError

__all__ = ["check_name", "check_read", "guarded", "split_read"]

#: Keys that are not taken from what is read.
TYPED = ("allow", "tracking.uri", "hparams_search.storage")
#: Nor is ``hydra``, but for what starts only runs of this program, and the name of a job.
INERT = ("hydra.mode", "hydra.sweeper.params", "hydra.job.name")
#: What an interpolation in a file may call.
RESOLVERS = ("oc.select", "oc.dict.keys", "oc.dict.values", "now", "hydra", "python_version")
#: An interpolation that holds no other.
INNERMOST = re.compile(r"\$\{([^${}]*)\}")
#: Of these the values are checked by themselves: a name, a number, an option.
CHECKED = re.compile(r"\$\{(?:name|seed|stage)\}")
#: Runs of a sweep that a range may stand for.
RUNS = 10_000
HIDDEN = "\0"
#: What comes of interpolations that touch each other, a brace or a dollar may be an interpolation again,
#: where it is read a second time, as the values of a sweep are: nobody has seen that one.
JOINED = (f"${HIDDEN}", HIDDEN + "{", HIDDEN * 2)


def check_read(config: Any, where: str) -> None:
    """Check what was read, from the root of the configuration on (a config, or plain containers).

    Raises:
        AdaptError: it says what counts only when it is typed.
    """
    found = next(_refused(config), None)
    if found is not None:
        raise AdaptError(f"{where} sets {found}: take it out there, and type it if you want it")


def split_read(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides that were read, as what is taken over and what counts only when it is typed.

    Example:
        >>> split_read(["experiment=digits", "allow=[evil]", "+hydra.callbacks.x._target_=os.abort"])
        (['experiment=digits'], ['allow=[evil]', '+hydra.callbacks.x._target_=os.abort'])
    """
    taken: list[str] = []
    left: list[str] = []
    for text in overrides:
        (left if _override_refused(text) else taken).append(text)
    return taken, left


@contextmanager
def guarded() -> Iterator[None]:
    """Inside, Hydra composes under these rules."""
    loader = mock.patch.object(hydra_internal, "ConfigLoaderImpl", _Loader)
    with measured(_ours), checked_files(), loader:
        yield


class _Loader(ComposedOnce):
    """Hydra's own, which looks at every file before it becomes a part of the configuration."""

    def _load_single_config(self, default: ResultDefault, repo: Any) -> ConfigResult:
        found = super()._load_single_config(default, repo)
        if not _ours(found.path, default.config_path):
            # By now the file stands where its package puts it.
            check_read(found.config, f"{found.path.removeprefix('file://')}/{default.config_path}.yaml")
        return found

    def _process_config_searchpath(self, config_name: str | None, parsed: list[Override], repo: Any) -> None:
        # Before any other: the first file may name folders, and packages, to search.
        source = next((s for s in repo.get_sources() if config_name and _holds(s, config_name)), None)
        if source is not None and not _ours(source.full_path(), config_name):
            found = source.load_config(config_name)
            check_read(found.config, f"{source.path}/{config_name}.yaml")
        super()._process_config_searchpath(config_name, parsed, repo)

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        with bounded():
            config = super().load_configuration(*args, **kwargs)
        check_interpolations(config)
        check_name(config.get("name"))
        return config


def check_name(name: Any) -> None:
    """Check the name of a run, which folders are called by.

    Raises:
        AdaptError: a name that leads out of its folder.
    """
    if name is not None and name != "???" and not _plain(name):
        raise AdaptError(
            f"name={name}: a folder is called so, in which the run writes; give a plain name, as name=my_run"
        )


def _plain(name: Any) -> bool:
    parts = re.split(r"[/\\]", str(name))
    return str(name).isprintable() and len(str(name)) <= 200 and not {"", ".", ".."} & set(parts)


def _holds(source: Any, config_name: str) -> bool:
    return bool(source.available() and source.is_config(config_name))


def _ours(path: str, config: str | None) -> bool:
    """Whether a file ``config`` of a source of configs is this package's, Hydra's or a plugin's (which are
    installed): one whose name leads out of the source is somebody else's."""
    scheme, _, rest = path.partition("://")
    if leads_out(config):
        return False
    if scheme == "structured":
        return True
    if scheme == "pkg":
        return rest.split(".")[0] == "hydra" or rest.startswith("hydra/")
    return scheme == "file" and Path(rest).resolve() == config_folder().resolve()


def _refused(config: Any) -> Iterator[str]:
    """What in ``config`` counts only when it is typed, described for a message."""
    tree = config if isinstance(config, DictConfig) else OmegaConf.create(config)
    plain: Any = OmegaConf.to_container(tree, resolve=False)
    yield from (text for text in _texts(plain) if _calls(text))
    if not isinstance(plain, Mapping):
        return
    yield from _of_hydra(plain.get("hydra"))
    for key in TYPED:
        if (value := _at(plain, key)) is not None and value != []:
            yield f"{key}={value}"
    # Folders that are written to lie below the present one. A store that is there may be gone on with.
    output, root = _at(plain, "output"), _at(plain, "tracking.root")
    if _elsewhere(output):
        yield f"output={output}, outside the present folder"
    if _elsewhere(root) and not Path(root, "mlflow.db").is_file():
        yield f"tracking.root={root}, outside the present folder"


def _elsewhere(folder: Any) -> bool:
    if not isinstance(folder, str):
        return False
    folder = CHECKED.sub("x", folder)
    if "${" in folder:  # what it leads to may stand anywhere
        return True
    return Path(folder).expanduser().is_absolute() or ".." in Path(folder).parts


def _of_hydra(node: Any) -> Iterator[str]:
    for key, value in _leaves("hydra", node):
        inert = next((name for name in INERT if f"{key}.".startswith(f"{name}.")), None)
        if inert is None or (inert == "hydra.job.name" and (not _plain(value) or _elsewhere(value))):
            yield key
        elif inert == "hydra.sweeper.params" and _override_refused(f"{key.removeprefix(inert)[1:]}={value}"):
            yield key  # an override that was read


def _leaves(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaves(f"{path}.{name}", child)
    elif node is not None:
        yield path, node


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(node, Mapping):
            return node if isinstance(node, str) and "${" in node else None
        node = node.get(name)
    return node


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _texts(key)
            yield from _texts(child)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _texts(child)
    elif isinstance(node, str):
        yield node


def _calls(text: str) -> bool:
    """Whether an interpolation in ``text`` calls what it may not, or cannot be seen through."""
    while "${" in text:
        found = INNERMOST.search(text)
        if found is None:
            return True
        name, colon, _ = found[1].partition(":")
        if colon and name.strip() not in RESOLVERS:
            return True
        text = text[: found.start()] + HIDDEN + text[found.end() :]
    return any(joined in text for joined in JOINED)


def _override_refused(text: str) -> bool:
    try:
        override = OverridesParser.create().parse_override(text)
        key, package = override.key_or_group, override.package or ""
        if key.startswith("hydra/") or package.removeprefix("_global_.").split(".")[0] == "hydra":
            return True
        roots = {"hydra", *(typed.split(".")[0] for typed in TYPED)}
        if key == "hydra" or (override.is_delete() and key.split(".")[0] in roots):
            return True
        if any(f"{key}.".startswith(f"{typed}.") for typed in TYPED):
            return True
        if _calls(text) or _endless(override.value()):
            return True
        return any(next(_refused(tree), None) is not None for tree in _trees(override))
    except (HydraException, OmegaConfBaseException, ArithmeticError, RecursionError, ValueError):
        return True  # what cannot be read is not taken over


def _endless(value: Any) -> bool:
    """Whether this is a sweep of more runs than anybody starts."""
    if not isinstance(value, RangeSweep) or value.start is None or value.stop is None:
        return False
    return (value.stop - value.start) / value.step > RUNS


def _trees(override: Override) -> Iterator[DictConfig]:
    """What an override, or each value of a sweep, makes of an empty configuration."""
    key = override.key_or_group
    if override.is_delete() or "/" in key:
        return
    values: Iterable[Any] = [override.value()]
    if isinstance(given := override.value(), RangeSweep):
        values = [given.start]  # numbers, however many
    elif override.is_sweep_override():
        values = override.sweep_iterator(transformer=Transformer.identity)
    for value in values:
        tree = OmegaConf.create()
        OmegaConf.update(tree, key, value, force_add=True)
        yield tree
