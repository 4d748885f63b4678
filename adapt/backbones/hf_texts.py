"""The models of texts of transformers: what they pad with, where they cut, and how they leave padding out."""

from typing import Any

import torch
from torch import nn

from adapt.backbones.preamble import LEAVE, check_going_on, split_preamble
from adapt.backbones.texts import Masking, Texts
from adapt.errors import AdaptError

__all__ = ["texts_of"]

#: How far apart states may be that are equal but for rounding, relative to the largest.
EQUAL = 1e-4


def texts_of(
    model: Any,
    tokenizer: Any,
    name: str,
    pooling: str | None,
    max_tokens: int,
    prompts: int,
    seed: int,
    preamble: str | None = None,
) -> Texts:
    """:class:`Texts` around a model of transformers, for its tokenizer.

    Raises:
        AdaptError: a tokenizer that cannot pad, a model that cannot leave the padding out, or a preamble that
            it cannot go on from.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise AdaptError(
                f"the tokenizer of hf:{name} has neither a padding nor an end token: set its pad_token"
            )
        tokenizer.pad_token = tokenizer.eos_token
    pad = tokenizer.pad_token_id
    before, leading = ([], 0) if preamble is None else split_preamble(tokenizer, preamble, name)
    taken = prompts + len(before)
    longest = getattr(model.config, "max_position_embeddings", None) or max_tokens + taken
    # Positions of some models (RoBERTa) begin behind that of the padding.
    longest -= pad + 1 if getattr(model.config, "pad_token_id", None) == pad and _offset(model) else 0
    masking = _masking(model.eval(), pad, name)
    default = "last" if masking == "none" else "mean"
    if before:
        _check_preamble(model, before, name, masking, longest - taken)
    return Texts(
        model,
        tokenizer,
        pad=pad,
        pooling=pooling or default,  # type: ignore[arg-type]  # checked there
        max_tokens=min(max_tokens, longest - taken, tokenizer.model_max_length),
        masking=masking,
        prompts=prompts,
        seed=seed,
        preamble=before,
        leading=leading,
    )


def _check_preamble(model: Any, ids: list[int], name: str, masking: Masking, left: int) -> None:
    if masking != "none":
        raise AdaptError(
            f"hf:{name} is an encoder: what it makes of a preamble depends on the text that follows; {LEAVE}"
        )
    if left < 1:
        raise AdaptError(
            f"hf:{name}: the preamble has {len(ids)} tokens and leaves no place for a text, the model has "
            f"{len(ids) + left} for both: shorten it by {1 - left} or more"
        )
    check_going_on(model, torch.tensor(ids), EQUAL, name)


def _offset(model: nn.Module) -> bool:
    """Whether positions are counted from behind the padding's id."""
    return any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules())


@torch.no_grad()
def _masking(model: Any, pad: int, name: str) -> Masking:
    """The first way to hide padding under which it changes nothing, found by trying: a decoder needs none."""
    a, b = [token for token in range(3) if token != pad][:2]
    kinds: list[Masking] = ["none", "added", "ones"]
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        kinds.remove("added")  # it would take the place of the windows
    for kind in kinds:
        network = Texts(model, lambda *_: None, pad=pad, masking=kind)
        try:
            short, padded = (network.states(torch.tensor([ids]))[0] for ids in ([a, b], [a, b, pad, pad]))
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue  # it does not take such a mask
        if float((short - padded[:, :2]).abs().max()) <= EQUAL * float(short.abs().max()):
            return kind
    raise AdaptError(
        f"hf:{name}: padding changes its features, however it is masked: it cannot be used with several texts"
    )
