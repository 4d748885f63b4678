"""Texts for a transformer: a tokeniser, and one vector of features per text.

    features = Σ_t w_t state_t ,   w = 1/length on the text's tokens (mean), or 1 on its first (cls) or last

The mean over tokens is that of Reimers and Gurevych (2019), *Sentence-BERT*, section 3; the last token is the
only one of a decoder that has seen the whole text. Padding stands at the end and changes nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from adapt.backbones.preamble import States, going_on, states_of
from adapt.checks import DEPTH, MOST, SEED, Number, check_setting, least, list_of
from adapt.errors import AdaptError
from tasks.readers.texts import read_texts

__all__ = ["Masking", "Pooling", "Texts"]

Pooling = Literal["mean", "last", "cls"]
#: How a transformer learns of the padding: not at all, since it looks at no later token; by what is added to
#: its attention; by ones and zeros.
Masking = Literal["none", "added", "ones"]


class Texts(nn.Module):
    """Token ids ``[n, L]`` to features ``[n, D]``.

    Args:
        transformer: called with ``inputs_embeds [n, L, E]`` or ``input_ids [n, L]``, and ``attention_mask``;
            returns an object with ``last_hidden_state [n, L, D]``.
        tokenizer: of transformers, or anything that is called as those are.
        pad: id of the padding. At the end of a row it is padding; elsewhere it is a token like any other.
        pooling: see above.
        max_tokens: where texts are cut.
        masking: how the transformer learns of the padding.
        prompts: vectors that are put behind the first token, for a space to move: parameter ``prompt
            [prompts, E]``. They begin as the embeddings of tokens drawn from ``seed``.
        preamble: token ids that precede every text; of decoders. Features are of the texts' own tokens.
        leading: tokens that the tokenizer puts before a text, and that stand before the preamble instead.
    """

    def __init__(
        self,
        transformer: nn.Module,
        tokenizer: Callable[..., Any],
        *,
        pad: int,
        pooling: Pooling = "mean",
        max_tokens: int = 128,
        masking: Masking = "added",
        prompts: int = 0,
        seed: int = 0,
        preamble: Sequence[int] = (),
        leading: int = 0,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise AdaptError(f"pooling={pooling}: of texts choose {', '.join(get_args(Pooling))}")
        max_tokens = check_setting(
            "max_tokens", max_tokens, least(1, "at least one token is needed", ceiling=10**6)
        )
        prompts = check_setting("prompts", prompts, least(0, ceiling=DEPTH))
        seed = check_setting("seed", seed, SEED)
        self.transformer, self.tokenizer = transformer, tokenizer
        self.pad, self.pooling, self.max_tokens, self.masking = pad, pooling, max_tokens, masking
        self.leading = leading
        if len(preamble):
            if masking != "none":
                raise AdaptError(
                    f"masking={masking}: only what looks at no later token, masking=none, can go on from a "
                    "preamble"
                )
            table = getattr(transformer, "get_input_embeddings", None)
            words = MOST if table is None else len(table().weight)
            check_setting("preamble", [*preamble], list_of(Number(least=0, below=words, whole=True)))
            self.preamble = nn.Buffer(torch.as_tensor(preamble, dtype=torch.int64))
            # In its place, whoever has computed it gives what remembered() returns.
            self.known = nn.Buffer(next(transformer.parameters()).new_empty(0), persistent=False)
        if prompts:
            table = transformer.get_input_embeddings().weight.detach()  # type: ignore[operator]  # [V, E]
            rows = torch.randint(len(table), (prompts,), generator=torch.Generator().manual_seed(seed))
            self.prompt = nn.Parameter(table[rows].clone())

    def tokenise(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int64 ``[n, L]``, padded to the longest of ``texts``, cut after ``max_tokens``.

        Raises:
            AdaptError: no list of texts.
        """
        texts = read_texts(texts, AdaptError, "texts")
        longest = self.max_tokens + self.leading
        rows = [
            row[self.leading :]
            for row in self.tokenizer(texts, truncation=True, max_length=longest)["input_ids"]
        ]
        ids = np.full((len(rows), max([1, *map(len, rows)])), self.pad, dtype=np.int64)
        for row, tokens in zip(ids, rows, strict=True):
            row[: len(tokens)] = tokens
        return ids

    def forward(self, ids: Tensor) -> Tensor:
        """Features ``[n, D]`` of token ids ``[n, L]``.

        Raises:
            AdaptError: no rows of whole numbers.
        """
        if ids.ndim != 2 or ids.is_floating_point():
            raise AdaptError(
                f"this backbone takes token ids [n, L], whole numbers, got {ids.dtype} of shape "
                f"{tuple(ids.shape)}: use its tokenise(texts)"
            )
        states, mask = self.states(ids)
        return (states * self._weights(mask, states.dtype)[..., None]).sum(1)

    def states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The last states ``[n, L, D]`` of ``ids [n, L]``, and which are no padding ``[n, L]``; with prompts
        L is longer by their number."""
        mask = self.mask(ids)
        if not hasattr(self, "prompt"):
            given = {"input_ids": ids}
        else:
            vectors = self.transformer.get_input_embeddings()(ids)  # type: ignore[operator]
            prompt = self.prompt.expand(len(ids), -1, -1)
            given = {"inputs_embeds": torch.cat([vectors[:, :1], prompt, vectors[:, 1:]], 1)}
            mask = torch.cat([mask[:, :1].expand(-1, prompt.shape[1]), mask], 1)
        if self.masking == "ones":
            given["attention_mask"] = mask.long()
        elif self.masking == "added":
            dtype = next(self.transformer.parameters()).dtype
            hidden = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
            # [n, 1, L, L]: one row for every query. A mask of two axes is looked at, which vmap cannot do.
            given["attention_mask"] = hidden[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
        if hasattr(self, "preamble"):
            given |= going_on(self.transformer, self.remembered(), ids.shape[0])
        return self.transformer(**given).last_hidden_state, mask

    def remembered(self) -> States:
        """What the transformer remembers of the preamble: as it was given, else computed."""
        if self.known.numel():
            return [(keys, values) for keys, values in self.known]
        return states_of(self.transformer, self.preamble)

    def mask(self, ids: Tensor) -> Tensor:
        """True up to the last token ``[n, L]`` that is no padding, and for the first in any case: the padding
        of some tokenizers is a token of others' texts."""
        first = torch.arange(ids.shape[1], device=ids.device) == 0
        return ((ids != self.pad) | first).long().flip(1).cumsum(1).flip(1) > 0

    def _weights(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """What each state counts ``[n, L]``, from where there is a token."""
        if self.pooling == "mean":
            counts = mask.to(dtype)
            return counts / counts.sum(1, keepdim=True)
        if self.pooling == "cls":
            return (torch.arange(mask.shape[1], device=mask.device) == 0).to(dtype).expand(mask.shape)
        after = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        return (mask & ~after).to(dtype)
