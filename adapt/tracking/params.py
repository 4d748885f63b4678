"""A nested config as MLflow parameters, within MLflow's limits."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

__all__ = ["clean_key", "flatten", "method_config", "plain"]

KEY_LENGTH = 250
VALUE_LENGTH = 6000
NOTE = " … (cut; whole in config.yaml)"


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
    """``{"task": {"ways": 5}}`` → ``{"task.ways": "5"}``; texts as they are, anything else as JSON."""
    texts = {".".join(path): _text(value) for path, value in _leaves(plain(config), ())}
    return {
        clean_key(key): value if len(value) <= VALUE_LENGTH else value[: VALUE_LENGTH - len(NOTE)] + NOTE
        for key, value in texts.items()
    }


def method_config(config: Mapping[str, Any], method: str) -> dict[str, Any]:
    """``config`` without the settings of the other methods."""
    methods = config.get("method")
    if not isinstance(methods, Mapping):
        return dict(config)
    return {**config, "method": {name: value for name, value in methods.items() if name == method}}


def plain(value: Any) -> Any:
    """Dicts, lists, texts, numbers, booleans and None only; enums by name, anything else as text."""
    return json.loads(
        json.dumps(value, default=lambda found: found.name if isinstance(found, Enum) else str(found))
    )


def clean_key(key: str) -> str:
    """A name that MLflow accepts for a parameter or metric; long ones stay unique by a hash."""
    key = re.sub(r"[^\w.\- /]", "_", key)
    if len(key) <= KEY_LENGTH:
        return key
    return f"{key[: KEY_LENGTH - 9]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif path:
        yield path, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
