"""Find texts that are nearly the same.

Belongs here: the search for pairs. Does not belong here: what counts as nearly the same (``similarity``), and
what is done about it (``duplicates``). Candidates are by MinHash (Broder 1997) with banding (Leskovec, Rajaraman and
Ullman, ch. 3); they are verified by Jaccard similarity. Texts of equal words are found by sorting.

Memory grows with the number of texts, not with their length. Time is bounded: a band of many equal hashes, as of texts
that share most of their words, is searched along an order only (CROWD).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import TextDuplicates
from dataset_pipeline.stages.pair_search import Hashes, Pair, PairList, pairs_with_equal_keys, verify
from dataset_pipeline.stages.similarity import (
    Flags,
    Floats,
    Integers,
    Shingles,
    are_long,
    first_of_equal_words,
    jaccard_of_texts,
    shingle_blocks,
    word_codes,
)

EXACT_MINHASH_MISSES = 1e-4
"""Chance, at most, that MinHash misses a pair of texts whose similarity is exactly the threshold."""

CROWD = 64
"""A text is compared with so many others of an equal band at most, those next to it in the order of the bands that
follow: the more bands two texts have in common, the nearer they lie."""

_ESTIMATE_DEVIATIONS = 4
"""A candidate is measured if its share of equal hashes is no more standard deviations under the threshold."""

_TEXTS_AT_ONCE = 512  # what is worked on, about 500 KB of short texts, stays in the processor's cache


def near_text_pairs(keys: pl.Series, settings: TextDuplicates) -> tuple[Integers, Integers, Floats]:
    """Nearly identical texts as positions in ``keys`` (left < right, sorted), and their similarity (``near_texts``).

    Texts of equal words are each paired with the first of them.
    """
    codes = word_codes(keys)
    first, other = first_of_equal_words(codes)
    left, right, score = _alike(keys, settings)
    score[(codes[left] == codes[right]) & (codes[left] >= 0)] = 1.0
    left, right = np.concatenate([left, first]), np.concatenate([right, other])
    _, once = np.unique(left * len(keys) + right, return_index=True)
    return left[once], right[once], np.concatenate([score, np.ones(len(other))])[once]


def _alike(keys: pl.Series, settings: TextDuplicates) -> tuple[Integers, Integers, Floats]:
    """Texts of ``min_chars`` whose shingles are alike, left < right, and their Jaccard similarity; a pair may be there twice."""
    has_shingles = (keys.str.len_chars() >= settings.shingle_chars).to_numpy()
    long = np.flatnonzero(are_long(keys, settings) & has_shingles)
    texts = keys.gather(long)
    found = PairList(len(texts))
    if len(texts) < 2:
        return found.pairs()
    minhash = MinHash(texts, settings)

    def measure(left: Integers, right: Integers) -> tuple[Flags, Floats]:
        score = np.zeros(len(left))
        may_be = np.flatnonzero(minhash.may_be_near(left, right))
        score[may_be] = jaccard_of_texts(texts, left[may_be], right[may_be], settings.shingle_chars)
        return np.asarray(score >= settings.min_jaccard), score

    verify(found, minhash.candidates(found), measure)
    left, right, score = found.pairs()
    return long[np.minimum(left, right)], long[np.maximum(left, right)], score


class MinHash:
    """MinHash signatures of texts, and the pairs that they make candidates."""

    def __init__(self, texts: pl.Series, settings: TextDuplicates) -> None:
        """Each text has at least one shingle."""
        self._min_jaccard = settings.min_jaccard
        rows = band_rows(settings.permutations, settings.min_jaccard)
        self.bands: Hashes = np.zeros((settings.permutations // rows, len(texts)), np.uint64)
        """Hash of every band of every text, shape (bands, texts)."""
        self._low = np.zeros((len(texts), settings.permutations), np.uint8)
        self._sizes = np.zeros(len(texts), np.int64)
        start = 0
        for block in shingle_blocks(texts, settings.shingle_chars):
            stop = start + len(block.sizes)
            self._sizes[start:stop] = block.sizes
            signatures = minhash_signatures(block, settings.permutations)
            self._low[start:stop] = signatures.T.astype(np.uint8)
            for number in range(len(self.bands)):
                for signature in signatures[number * rows : (number + 1) * rows]:
                    self.bands[number, start:stop] *= np.uint64(0x9E3779B97F4A7C15)
                    self.bands[number, start:stop] += signature
            start = stop

    def candidates(self, found: PairList) -> Iterator[Pair]:
        """Pairs of texts that agree in a band and whose sizes do not rule them out."""
        is_crowded = np.zeros(self.bands.shape, bool)
        for number, band in enumerate(self.bands):
            order = np.argsort(band, kind="stable")
            _, sizes = np.unique(band[order], return_counts=True)
            crowded = np.repeat(sizes > CROWD + 1, sizes)
            rows = order[crowded]
            is_crowded[number, rows] = True
            following = [
                self.bands[(number + k) % len(self.bands), rows] for k in range(min(4, len(self.bands)))
            ]
            order[crowded] = rows[np.lexsort(following[::-1])]
            for left, right in pairs_with_equal_keys(band, found, order, CROWD):
                small = np.minimum(self._sizes[left], self._sizes[right])
                large = np.maximum(self._sizes[left], self._sizes[right])
                is_new = small >= self._min_jaccard * large  # similarity is at most the ratio of the sizes
                for earlier in range(number):
                    agree = self.bands[earlier, left] == self.bands[earlier, right]
                    is_new &= ~agree | is_crowded[earlier, left]
                yield left[is_new], right[is_new]

    def may_be_near(self, left: Integers, right: Integers) -> Flags:
        """Which pairs have enough equal hashes; those of the threshold's similarity have, but for a chance of 1e-4."""
        count = self._low.shape[1]
        deviation = np.sqrt(self._min_jaccard * (1 - self._min_jaccard) * count)
        least = self._min_jaccard * count - _ESTIMATE_DEVIATIONS * deviation
        equal = np.count_nonzero(self._low[left] == self._low[right], axis=1)
        return np.asarray(equal >= least)


def band_rows(permutations: int, min_jaccard: float) -> int:
    """Hashes a band, as many as leave a pair at the threshold a chance of EXACT_MINHASH_MISSES to be missed."""
    fitting = [
        rows
        for rows in range(1, permutations + 1)
        if (1 - min_jaccard**rows) ** (permutations // rows) <= EXACT_MINHASH_MISSES
    ]
    return max(fitting, default=1)


def minhash_signatures(sets: Shingles, permutations: int) -> npt.NDArray[np.uint32]:
    """For every permutation and text the smallest hash of its shingles, shape (permutations, texts).

    Hashing is multiply-shift (Dietzfelbinger and others 1997) of shingles that are well mixed already. Two texts of
    similarity s have the same smallest hash with chance s. No text may be without shingles.
    """
    factors = np.random.default_rng(1).integers(0, 2**63, permutations, np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    signatures = np.zeros((permutations, len(sets.sizes)), np.uint32)
    for start in range(0, len(sets.sizes), _TEXTS_AT_ONCE):
        offsets = sets.offsets[start : start + _TEXTS_AT_ONCE + 1]
        values = sets.values[offsets[0] : offsets[-1]]
        hashes = np.zeros(len(values), np.uint64)
        for number, factor in enumerate(factors):
            np.multiply(values, factor, out=hashes)
            smallest = np.minimum.reduceat(hashes, offsets[:-1] - offsets[0])
            signatures[number, start : start + len(smallest)] = smallest >> np.uint64(32)
    return signatures
