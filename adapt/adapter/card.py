"""The model card written beside every saved adapter, from its own config and figures."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["model_card"]


def model_card(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Markdown with Hugging Face front matter; every number in it comes from ``config`` or ``tensors``."""
    info = dict(config["info"])
    fitted = config["kind"] == "task"
    what = "A task that has been adapted to" if fitted else "A few-shot adapter"
    usage = (
        ["task = adapt.load(folder)"]
        if fitted
        else ["adapter = adapt.load(folder)", "task = adapter.fit(x, y)  # a few labelled examples"]
    )
    lines = [
        "---",
        "library_name: adaptive-behavior",
        f"license: {info.pop('licence', 'apache-2.0')}",
        "tags: [few-shot, forward-gradients]",
        "---",
        "",
        f"# {info.pop('title', what)}",
        "",
        f"{what} on the backbone `{config['backbone']['name'] or 'of your own'}` (weights sha256 "
        f"`{config['backbone']['fingerprint'][:16]}…`): "
        f"space `{config['space']['name']}` ({tensors['origin'].numel()} parameters), "
        f"{tensors['basis'].shape[-1]} directions, "
        f"solver `{config['solver']['name']}`, head `{config['head']['name']}`.",
        "",
        "```python",
        "import adapt",
        "",
        *usage,
        "task.predict_proba(x_new)",
        "```",
        "",
    ]
    if fitted and config["classes"]:
        lines += [f"Classes: {', '.join(map(str, config['classes']))}.", ""]
    for key, value in info.items():
        lines += _section(key, value)
    return "\n".join(lines)


def _section(key: str, value: Any) -> list[str]:
    heading = [f"## {key.replace('_', ' ').capitalize()}", ""]
    if isinstance(value, Mapping):
        return [
            *heading,
            "| | |",
            "|---|---|",
            *(f"| {name.replace('_', ' ')} | {_cell(item)} |" for name, item in value.items()),
            "",
        ]
    return [*heading, str(value), ""]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
