"""Near duplicates: images by perceptual hash and correlation, texts by MinHash, other arrays by rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["ImageMates", "RoundedMates", "TextMates"]


class ImageMates:
    """Images whose perceptual hashes (DCT, 64 bits) differ in at most `bits` bits and whose grey thumbnails
    correlate by at least `correlation`.

    Hashes alone take different line drawings for one another; the correlation keeps those apart.

    Args:
        thumbnails: uint8 [n, 32, 32].
        same: [n] equal numbers mean equal images.
        bits, correlation: thresholds.

    Raises:
        ImportError: without `imagehash`.

    References:
        C. Zauner (2010), Implementation and benchmarking of perceptual image hash functions.
    """

    CHUNK = 1024  # images compared with all others at a time
    PAIRS = 20_000  # pairs correlated at a time

    def __init__(
        self, thumbnails: np.ndarray, same: np.ndarray, bits: int = 8, correlation: float = 0.95
    ) -> None:
        import imagehash
        from PIL import Image

        self.method = (
            f"Near duplicates of images: perceptual hashes (imagehash.phash) that differ in at most {bits} "
            f"of 64 bits, and a correlation of the grey thumbnails of at least {correlation}."
        )
        self._bits, self._correlation, self._same = bits, correlation, same
        hashes = [imagehash.phash(Image.fromarray(image)).hash.ravel() for image in thumbnails]
        self._signs = torch.from_numpy(np.array(hashes)).float() * 2 - 1  # [n, 64]
        self._thumbnails = torch.from_numpy(thumbnails).flatten(1)  # uint8 [n, 1024]

    def mates(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """For each position in `other` the most alike of `one`, if alike enough; else -1."""
        found = np.full(len(other), -1)
        against = self._signs[one].T
        for start in range(0, len(other), self.CHUNK):
            part = other[start : start + self.CHUNK]
            distance = (64 - self._signs[part] @ against) / 2  # of ±1 vectors: how many signs differ
            i, j = (side.numpy() for side in torch.nonzero(distance <= self._bits, as_tuple=True))
            different = self._same[part[i]] != self._same[one[j]]
            i, j = i[different], j[different]
            score = self._correlations(part[i], one[j])
            order = np.argsort(score, kind="stable")  # the best is written last
            order = order[score[order] >= self._correlation]
            found[start + i[order]] = one[j[order]]
        return found

    def _correlations(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        scores = []
        for start in range(0, len(one), self.PAIRS):
            sides = [self._thumbnails[side[start : start + self.PAIRS]].float() for side in (one, other)]
            a, b = (torch.nn.functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in sides)
            scores.append((a * b).sum(1).numpy())
        return np.concatenate(scores) if scores else np.empty(0)


class TextMates:
    """Texts whose sets of four-character pieces have a Jaccard index of at least `jaccard`.

    Candidates come from MinHash (Broder 1997) with locality-sensitive hashing, which misses a few; each is
    then compared exactly.

    Args:
        texts: normalised.
        same: [n] equal numbers mean equal texts.
        jaccard: threshold.

    Raises:
        ImportError: without `datasketch`.
    """

    PIECE = 4
    PERMUTATIONS = 64
    CANDIDATES = 0.65  # below the threshold: less is missed, and the exact comparison removes the rest

    def __init__(self, texts: Sequence[str], same: np.ndarray, jaccard: float = 0.8) -> None:
        from datasketch import MinHash

        self.method = (
            f"Near duplicates of texts: sets of {self.PIECE}-character pieces with a Jaccard index of at "
            f"least {jaccard}; candidates by MinHash (datasketch, {self.PERMUTATIONS} permutations), which "
            "misses a few."
        )
        self._texts, self._same, self._jaccard = texts, same, jaccard
        pieces = ([piece.encode() for piece in sorted(self._pieces(text))] for text in texts)
        self._hashes = [*MinHash.generator(pieces, num_perm=self.PERMUTATIONS, seed=1)]

    def mates(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """For each position in `other` the most alike of `one`, if alike enough; else -1."""
        from datasketch import MinHashLSH

        index = MinHashLSH(threshold=self.CANDIDATES, num_perm=self.PERMUTATIONS)
        for position in one.tolist():
            index.insert(position, self._hashes[position])
        return np.array(
            [self._best(position, index.query(self._hashes[position])) for position in other], int
        )

    def _best(self, position: int, candidates: Sequence[int]) -> int:
        mine = self._pieces(self._texts[position])
        best = (self._jaccard, -1)
        for candidate in sorted(candidates):
            theirs = self._pieces(self._texts[candidate])
            score = len(mine & theirs) / len(mine | theirs)
            if score >= best[0] and self._same[candidate] != self._same[position]:
                best = (score, candidate)
        return best[1]

    def _pieces(self, text: str) -> set[str]:
        return {text[k : k + self.PIECE] for k in range(max(len(text) - self.PIECE + 1, 1))}


class RoundedMates:
    """Arrays that are equal once each number is rounded.

    Args:
        rounded: [n] equal numbers mean equal after rounding.
        same: [n] equal numbers mean equal without.
    """

    method = (
        "Near duplicates of other arrays: equal once every number is rounded to a hundredth of its standard "
        "deviation; two that are as close but on two sides of a rounding edge are missed."
    )

    def __init__(self, rounded: np.ndarray, same: np.ndarray) -> None:
        self._rounded, self._same = rounded, same

    def mates(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """For each position in `other` the first of `one` that is equal after rounding only; else -1."""
        holders: dict[int, list[int]] = {}
        for position in one.tolist():
            holders.setdefault(int(self._rounded[position]), []).append(position)
        return np.array(
            [
                next(
                    (p for p in holders.get(int(self._rounded[q]), ()) if self._same[p] != self._same[q]), -1
                )
                for q in other.tolist()
            ],
            int,
        )
