"""A text before all texts: what a decoder remembers of it, computed once and not for every text.

    states_t = decoder(preamble, text)_t   for t in the text
             = decoder(text | K, V)_t ,    (K, V)_l = keys and values of the preamble in layer l

A decoder looks at no later token, so that what its layers hold of the preamble depends on no text: it is
computed for one row, and every text goes on from there (Gim et al. 2024, *Prompt Cache: Modular Attention
Reuse for Low-Latency Inference*). Where parameters move that the preamble goes through, K and V move with
them, and carry their tangents: still those of one row.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adapt.errors import AdaptError

__all__ = ["LEAVE", "States", "check_going_on", "going_on", "split_preamble", "states_of"]

#: Keys and values ``[1, heads, P, d]`` of each layer.
States = Iterable[tuple[Tensor, Tensor]]
LEAVE = "leave preamble out and write it in front of every text, or choose a decoder (GPT, Llama, …)"


def states_of(decoder: Any, ids: Tensor) -> States:
    """What ``decoder`` remembers of ``ids [P]``."""
    cache = _cache(decoder)
    decoder(input_ids=ids[None], past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def going_on(decoder: Any, states: States, n: int) -> dict[str, Any]:
    """What ``decoder`` is called with besides ``n`` texts, to go on from ``states``: positions and masks are
    then those behind the preamble. The rows are views of one until a layer puts the texts' own keys and
    values behind, and these are forgotten with the layer: nothing is to follow the texts."""
    cache = _cache(decoder)
    for place, (keys, values) in enumerate(states):
        cache.update(keys, values, place)
        layer = cache.layers[place]
        layer.keys, layer.values = (kept.expand(n, -1, -1, -1) for kept in (layer.keys, layer.values))
        layer.update = partial(_behind, layer.keys, layer.values)  # and not the layer, which keeps them
    return {"past_key_values": cache, "use_cache": True}


def _behind(
    before: Tensor, values_before: Tensor, keys: Tensor, values: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, Tensor]:
    """All keys and values ``[n, heads, P + L, d]`` that a layer's tokens may look at."""
    return torch.cat([before, keys], -2), torch.cat([values_before, values], -2)


def _cache(decoder: Any) -> Any:
    from transformers.cache_utils import DynamicCache  # it is there, since the decoder is of it

    return DynamicCache(config=decoder.config)


def split_preamble(tokenizer: Callable[..., Any], preamble: str, name: str) -> tuple[list[int], int]:
    """The token ids of ``preamble``, and how many tokens of its own the tokenizer puts before any text: with
    a preamble they stand before that alone. What it puts behind texts (an end) stands behind these alone.

    Raises:
        AdaptError: a text without a token.
    """
    whole = tokenizer(preamble)["input_ids"]
    plain = tokenizer(preamble, add_special_tokens=False)["input_ids"]
    if not plain:
        raise AdaptError(f"hf:{name}: preamble={preamble!r} holds no token: write a text, or leave it out")
    places = range(len(whole) - len(plain) + 1)
    leading = next((i for i in places if whole[i : i + len(plain)] == plain), 0)
    return whole[: leading + len(plain)], leading


@torch.no_grad()
def check_going_on(decoder: Any, ids: Tensor, equal: float, name: str) -> None:
    """Refuse a decoder that does not go on from the states of ``ids [P]`` as if it had read them, found by
    trying.

    Raises:
        AdaptError: says what to do instead.
    """
    text = ids[:2]
    whole = decoder(input_ids=torch.cat([ids, text])[None]).last_hidden_state[:, len(ids) :]
    try:
        states = list(states_of(decoder, ids))
        kept = min(keys.shape[-2] for keys, _ in states)
        found = decoder(input_ids=text[None], **going_on(decoder, states, 1)).last_hidden_state
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise AdaptError(f"hf:{name} keeps no states of earlier tokens ({error}): {LEAVE}") from error
    if kept < len(ids):
        raise AdaptError(
            f"hf:{name} looks back at {kept + 1} tokens, and the preamble has {len(ids)}: shorten it"
        )
    if float((found - whole).abs().max()) > equal * float(whole.abs().max()):
        raise AdaptError(f"hf:{name} does not go on from the states of earlier tokens: {LEAVE}")
