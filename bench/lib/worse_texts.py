"""What worsens texts between training and use: slips of the keyboard, lost words, case."""

import random
from collections.abc import Callable, Sequence

__all__ = ["KINDS", "LEVELS"]

#: By severity: share of characters that are changed, and of words that are lost.
LEVELS = (0.05, 0.1, 0.2)


def typos(texts: Sequence[str], level: float, seed: int) -> list[str]:
    """Insertions, swaps, other characters and omissions, so many for each character (textnoisr)."""
    from textnoisr.noise import CharNoiseAugmenter

    noise = CharNoiseAugmenter(noise_level=level, seed=seed)
    return [noise.add_noise(text) or text for text in texts]


def lost_words(texts: Sequence[str], level: float, seed: int) -> list[str]:
    """Each word is missing with this chance; one is left."""
    drawn = random.Random(seed)
    kept = ([word for word in text.split() if drawn.random() >= level] for text in texts)
    return [" ".join(words) or text.split()[0] for words, text in zip(kept, texts, strict=True)]


def capitals(texts: Sequence[str], level: float, seed: int) -> list[str]:
    """Each word in capital letters with five times this chance: the last level is all of them."""
    drawn = random.Random(seed)
    return [
        " ".join(word.upper() if drawn.random() < 5 * level else word for word in text.split())
        for text in texts
    ]


#: By name.
KINDS: dict[str, Callable[[Sequence[str], float, int], list[str]]] = {
    "typos": typos,
    "lost words": lost_words,
    "capitals": capitals,
}
