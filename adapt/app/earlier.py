"""What earlier versions called otherwise, and how what they recorded compares with today's settings."""

from collections.abc import Mapping
from typing import Any

__all__ = ["MOVED", "comparable"]

#: Keys that there were once: what one types today.
MOVED = {
    "task.label_noise": "task=noisy task.share=0.2; what is made noisy is task.base (task@task.base=digits)",
    "task.corruption": "task=corrupted task.corruption.kind=contrast; what is corrupted is task.base",
    "task.corrupted": "task=corrupted task.part=query",
    "task.mixture": "task=mixture; its parts are task.components, and how often each comes is task.weights",
    "task.curriculum": "task=curriculum; its stages are task.stages, by the number of their first task",
}


def comparable(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``before``, settings of a task (their keys begin with ``prefix``), as far as ``now`` says them too.

    Once every task had all settings that any task can have and no ``_target_``: what one of the two lacks
    decided nothing, or it stands elsewhere, where it is typed differently. Settings of today come back whole.

    Example:
        >>> comparable({"shots": 1, "outside": 0}, {"_target_": "tasks.Distribution", "shots": 5})
        {'shots': 1, '_target_': 'tasks.Distribution'}
    """
    if f"{prefix}_target_" in before:
        return dict(before)
    kept = {key: value for key, value in before.items() if key in now or not key.startswith(prefix)}
    return kept | {key: value for key, value in now.items() if key.startswith(prefix) and key not in before}
