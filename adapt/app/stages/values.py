"""A run on one's own table whose target turns out to be a number: heads for classes give way to ridge
regression."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from adapt.app.components import COMPONENTS
from adapt.app.progress import console

__all__ = ["OWN", "for_values"]

#: Which data it is about: an experiment that is written for numbers names its own heads.
OWN = "tasks.own_tasks"
RIDGE = {"_target_": "adapt.heads.Ridge", "l2": 0.01, "scale": 1.0}
HEADS = ("head", "support_head")


def for_values(config: DictConfig) -> DictConfig:
    """``config`` with heads that predict numbers, and without methods that are for classes alone, where its
    tasks are those of one's own data; said in a line. Otherwise as it is."""
    if config.task.get("_target_") != OWN:
        return config
    found = config.copy()
    left_out = []
    with open_dict(found):
        for name in HEADS:
            if not _predicts_values(found[name]):
                found[name] = RIDGE
        for name in [*found.method]:
            node = OmegaConf.to_container(found.method[name], resolve=True)
            assert isinstance(node, Mapping)
            head = node.get("head")
            if head is not None and not _predicts_values(head):
                left_out.append(str(name))
                del found.method[name]
            elif head is not None:
                found.method[name].head = {**RIDGE, "l2": head["l2"]} if _is_ridge(head) else head
    text = f"; left out, as they are for classes: {', '.join(left_out)}" if left_out else ""
    console.print(f"numbers are predicted: heads are ridge regression{text}", soft_wrap=True, markup=False)
    return found


def _is_ridge(node: Mapping[str, Any]) -> bool:
    return node.get("_target_") == RIDGE["_target_"]


def _predicts_values(node: Mapping[str, Any]) -> bool:
    """Whether the head of a node says so."""
    component = COMPONENTS.get(str(node.get("_target_")))
    return component is None or bool(getattr(component, "supports_regression", False))
