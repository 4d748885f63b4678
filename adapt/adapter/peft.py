"""A fitted task as a checkpoint of Hugging Face's PEFT library."""

import os

from adapt.adapter.fitted import FittedTask
from adapt.spaces.peft import write_peft

__all__ = ["export_peft"]


def export_peft(
    task: FittedTask,
    folder: str | os.PathLike[str],
    *,
    base_model_name: str | None = None,
    prefixes: tuple[str, str] = ("", ""),
) -> None:
    """Write where ``task`` moved the backbone, φ₀ + U z; ``peft.PeftModel.from_pretrained(model, folder)``
    puts it on the plain model.

    The head is not part of it: PEFT's model gives the adapted features (before pooling, where the backbone
    pools).

    Args:
        task: of an adapter whose space is ``lora`` or ``ia3``.
        folder: to write to.
        base_model_name: of the model on the Hub, as a note for readers.
        prefixes: how the names of the model's modules begin, and how those of the backbone that wraps it do
            instead: ``("", "encoder.")``.

    Raises:
        AdaptError: a space that PEFT has no equal for.
    """
    phi = task.adapter.state.origin + task.adapter.subspace.move(task.z)
    write_peft(folder, task.adapter.space, phi, base_model_name=base_model_name, prefixes=prefixes)
