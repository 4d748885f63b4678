"""The model card written beside every saved adapter, from its own config and figures."""

import json
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adapt.heads import HEADS, is_transductive
from adapt.inner import LOSSES
from tasks.readers.shown import inline, row

__all__ = ["model_card"]

#: Of a data sheet (``tasks.Card.to_dict``), in this order; what it has besides follows.
DATA = (
    "name",
    "description",
    "origin",
    "licence",
    "terms",
    "commercial",
    "personal_data",
    "domain",
    "counts",
)
COMMERCIAL = {True: "allowed", False: "**not allowed**", None: "the licence does not say"}


def model_card(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    doubtful: Mapping[int, str] | None = None,
    sections: Mapping[str, str] | None = None,
) -> str:
    """Markdown with Hugging Face front matter; every number in it comes from ``config`` or ``tensors``.

    ``doubtful`` are positions of examples whose labels look wrong, with what is said of each; None where no
    examples are kept. Of ``config["info"]``, ``title`` and ``licence`` go to the top, ``data_card`` (the data
    sheet of what the adapter was trained on) becomes the section *Training data*, and everything else a
    section of its own: ``sections`` are some of these, written already.
    """
    info = dict(config["info"])
    data = info.pop("data_card", None)
    fitted = config["kind"] == "task"
    what = "A task that has been adapted to" if fitted else "A few-shot adapter"
    usage = (
        ["task = adapt.load(folder)"]
        if fitted
        else ["adapter = adapt.load(folder)", "task = adapter.fit(x, y)  # a few labelled examples"]
    )
    values = LOSSES[config["loss"]["name"]]().regression
    predicting = "predict(x_new, return_std=True)" if values else "predict_proba(x_new)"
    lines = [
        "---",
        "library_name: adaptive-behavior",
        f"license: {_scalar(info.pop('licence', 'apache-2.0'))}",
        "tags: [few-shot, forward-gradients]",
        "---",
        "",
        f"# {inline(info.pop('title', what))}",
        "",
        f"{what} on the backbone `{inline(config['backbone']['name'] or 'of your own')}` (weights sha256 "
        f"`{config['backbone']['fingerprint'][:16]}…`): "
        f"space `{config['space']['name']}` ({tensors['origin'].numel()} parameters), "
        f"{tensors['basis'].shape[-1]} directions, "
        f"solver `{config['solver']['name']}`, head `{config['head']['name']}`.",
        "",
        *_together(config["head"]["name"]),
        "```python",
        "import adapt",
        "",
        *usage,
        f"task.{predicting}",
        "```",
        "",
    ]
    if left := config["space"].get("left_out"):
        more = f" and {len(left) - 8} more" if len(left) > 8 else ""
        lines += [
            f"Not known to be of this space's kind, and so fixed: `{inline('`, `'.join(left[:8]))}`{more}.",
            "",
        ]
    if fitted and config["classes"]:
        lines += [f"Classes: {', '.join(map(inline, config['classes']))}.", ""]
    if doubtful is not None:
        lines += _doubtful_section(doubtful)
    if isinstance(data, Mapping):
        lines += _data_section(data)
    for key, value in info.items():
        written = (sections or {}).get(str(key))
        lines += _section(str(key), value) if written is None else [written]
    return "\n".join(lines)


def _together(head: str) -> list[str]:
    if not is_transductive(HEADS.get(head)):
        return []
    said = "predicts a batch of examples together (transductive): what it says of one depends on the others"
    return [f"The head {said}.", ""]


def _data_section(card: Mapping[str, Any]) -> list[str]:
    """What one must know of the training data before using what was trained on it."""
    shown = {key: card[key] for key in DATA if card.get(key) not in (None, "", {})}
    shown["commercial use"] = COMMERCIAL.get(card.get("commercial"), str(card.get("commercial")))
    shown.pop("commercial", None)
    others = {key: value for key, value in card.items() if key not in (*DATA, "known_issues")}
    issues = card.get("known_issues") or ["None named."]
    warning = (
        [
            f"> The licence of the training data ({inline(card.get('licence'))}) does not allow "
            "commercial use.",
            "",
        ]
        if card.get("commercial") is False
        else []
    )
    return [
        "## Training data",
        "",
        *warning,
        *_table(shown | others),
        "Known issues of the data:",
        "",
        *(f"- {inline(issue)}" for issue in issues),
        "",
    ]


def _doubtful_section(doubtful: Mapping[int, str]) -> list[str]:
    """Of examples that the task keeps."""
    where = "Position among the examples that the task keeps, from 0, in the order in which they came:"
    found = [where, "", *_table(doubtful)] if doubtful else ["None of the examples that the task keeps.", ""]
    return ["## Labels that look wrong", "", *found]


def _section(key: str, value: Any) -> list[str]:
    heading = [f"## {inline(key.replace('_', ' ').capitalize())}", ""]
    return [*heading, *(_table(value) if isinstance(value, Mapping) else [inline(value), ""])]


def _table(values: Mapping[Any, Any]) -> list[str]:
    rows = (row((str(name).replace("_", " "), _cell(item))) for name, item in values.items())
    return ["| | |", "|---|---|", *rows, ""]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{str(name).replace('_', ' ')} {_cell(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _scalar(value: Any) -> str:
    """A value of YAML in one line."""
    text = inline(value)
    return text if re.fullmatch(r"[\w.+-]+", text) else json.dumps(text)
