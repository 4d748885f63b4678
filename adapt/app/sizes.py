"""How large a configuration may become: a few lines of YAML can stand for more than any memory holds.

An alias stands for all that its anchor holds, and an interpolation for all that it refers to; forty of which
each takes the one before it twice are a bomb. Files are measured before they are loaded, and what is composed
of them before anything of it is used.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any
from unittest import mock

import yaml
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra.plugins.config_source import ConfigResult
from omegaconf import Container, DictConfig, ListConfig, OmegaConf

from adapt.app.reading import text_of
from adapt.errors import AdaptError

__all__ = ["bounded", "check_file", "check_interpolations", "leads_out", "measured"]

#: Values in a file of configs, aliases replaced by what they stand for.
VALUES = 100_000
#: Interpolations that are resolved for a whole configuration, and characters that come of them.
RESOLVED, CHARACTERS = 1_000, 10_000_000
#: Configs that one configuration is composed of, those of lists of defaults as often as they are named.
CONFIGS = 2_000


def leads_out(name: str | None) -> bool:
    """Whether a name of a config leads out of the folder of configs that it is looked for in.

    Example:
        >>> leads_out("experiment/digits"), leads_out("experiment/../../x"), leads_out("/x")
        (False, True, True)
    """
    path = PurePath(name or "")
    return bool(path.anchor) or ".." in path.parts


def check_file(path: Path) -> None:
    """Refuse a file of YAML that cannot be read, or becomes too large when it is.

    Raises:
        AdaptError: names the file; what is no YAML passes, for whoever loads it says where.
    """
    try:
        with contextlib.suppress(yaml.YAMLError):
            root = yaml.compose(text_of(path), Loader=yaml.SafeLoader)
            if root is None:  # nothing but comments
                return
            _expanded(root, {})
            yaml.constructor.SafeConstructor().construct_document(root)
    except RecursionError:
        raise AdaptError(f"{path} is nested too deeply, or holds itself: make it plainer") from None
    except ValueError as error:  # a number of thousands of digits, a date that there is not
        raise AdaptError(f"{path} holds a value that cannot be read ({error}): put it in quotes") from None
    except OverflowError:
        raise AdaptError(
            f"{path} stands for more than {VALUES:,} values, by aliases: write out what is needed"
        ) from None


def _expanded(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a node stands for; nodes that aliases share are known by what they are."""
    size = known.get(id(node))
    if size == 0:  # it is being counted: it holds itself
        raise RecursionError
    if size is None:
        known[id(node)] = 0
        parts: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        size = known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    if size > VALUES:
        raise OverflowError
    return size


@contextmanager
def measured(ours: Callable[[str, str], bool]) -> Iterator[None]:
    """Inside, Hydra loads no file of configs before :func:`check_file`, unless it is one of ``ours``, by its
    source and its name."""
    load = ConfigRepository.load_config

    def checked(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = next((source for source in self.sources if source.is_config(config_path)), None)
        if source is not None and not ours(source.full_path(), config_path):
            if source.scheme() != "file":
                raise AdaptError(f"{config_path} is in {source.full_path()}: configs come from folders")
            check_file(Path(source.path, source._normalize_file_name(config_path)))
        return load(self, config_path)

    with mock.patch.object(ConfigRepository, "load_config", checked):
        yield


@contextmanager
def bounded() -> Iterator[None]:
    """Inside, Hydra composes one configuration.

    Raises:
        AdaptError: of too many files, or of files that name each other as their defaults.
    """
    load, loaded = CachingConfigRepository.load_config, 0

    def counted(self: CachingConfigRepository, config_path: str) -> ConfigResult | None:
        nonlocal loaded
        loaded += 1
        if loaded > CONFIGS:
            raise AdaptError(
                f"{config_path}: lists of defaults name more than {CONFIGS:,} configs: use fewer"
            )
        return load(self, config_path)

    try:
        with mock.patch.object(CachingConfigRepository, "load_config", counted):
            yield
    except RecursionError:
        raise AdaptError("the defaults of some configs name each other: take one of them out") from None


def check_interpolations(config: Container) -> None:
    """Refuse a configuration whose interpolations refer to each other so often that nobody can wait for them.

    Raises:
        AdaptError: says so.
    """
    spent, written = 0, 0
    resolve = Container.resolve_parse_tree

    def counted(self: Container, *args: Any, **kwargs: Any) -> Any:
        nonlocal spent, written
        spent += 1
        if spent > RESOLVED or written > CHARACTERS:
            raise OverflowError  # which OmegaConf makes one of its own errors
        value = resolve(self, *args, **kwargs)
        written += len(value) if isinstance(value, str) else 0
        return value

    with mock.patch.object(Container, "resolve_parse_tree", counted):
        for node in _interpolations(config):
            with contextlib.suppress(Exception):  # what cannot be resolved is somebody else's complaint
                value = node._dereference_node()
                if isinstance(value, Container):
                    OmegaConf.to_container(value, resolve=True)
    if spent > RESOLVED or written > CHARACTERS:
        raise AdaptError(
            "the interpolations of the configuration refer to each other too often: write out what they say"
        )


def _interpolations(config: Any) -> Iterator[Any]:
    if config._is_interpolation():
        yield config
    elif isinstance(config, DictConfig | ListConfig) and not (config._is_none() or config._is_missing()):
        keys: Any = config.keys() if isinstance(config, DictConfig) else range(len(config))
        for key in keys:
            yield from _interpolations(config._get_node(key))
