"""Find texts that are nearly the same.

Belongs here: the search for pairs. Does not belong here: what counts as nearly the same (``similarity``), and
what is done about it (``duplicates``). Candidates are by MinHash (Broder 1997) with banding (Leskovec, Rajaraman and
Ullman, ch. 3); they are verified by Jaccard similarity.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl

from dataset_pipeline.config import TextDuplicates
from dataset_pipeline.stages.pair_search import Hashes, Pair, PairList, pairs_with_equal_keys, verify
from dataset_pipeline.stages.similarity import Flags, Floats, Integers, Shingles, jaccard, shingles

EXACT_MINHASH_MISSES = 1e-4
"""Chance, at most, that MinHash misses a pair of texts whose similarity is exactly the threshold."""


def near_text_pairs(keys: pl.Series, settings: TextDuplicates) -> tuple[Integers, Integers, Floats]:
    """Nearly identical texts as positions in ``keys``, and their Jaccard similarity."""
    found = PairList(len(keys))
    sets = shingles(keys, settings.shingle_chars)
    has_shingles = np.flatnonzero(sets.sizes > 0)
    if len(has_shingles) < 2:
        return found.pairs()

    def measure(left: Integers, right: Integers) -> tuple[Flags, Floats]:
        score = jaccard(sets, left, right)
        return np.asarray(score >= settings.min_jaccard), score

    rows_per_band = band_rows(settings.permutations, settings.min_jaccard)
    bands = _minhash_bands(sets, settings.permutations, rows_per_band)

    def candidates() -> Iterator[Pair]:
        for number in range(bands.shape[1]):
            for i, j in pairs_with_equal_keys(bands[has_shingles, number], found):
                left, right = has_shingles[i], has_shingles[j]
                # Similarity is at most the ratio of the sizes; a pair of an earlier band is known.
                small = np.minimum(sets.sizes[left], sets.sizes[right])
                large = np.maximum(sets.sizes[left], sets.sizes[right])
                is_new = small >= settings.min_jaccard * large
                for earlier in range(number):
                    is_new &= bands[left, earlier] != bands[right, earlier]
                yield left[is_new], right[is_new]

    verify(found, candidates(), measure)
    return found.pairs()


def band_rows(permutations: int, min_jaccard: float) -> int:
    """Hashes a band, as many as leave a pair at the threshold a chance of EXACT_MINHASH_MISSES to be missed."""
    fitting = [
        rows
        for rows in range(1, permutations + 1)
        if (1 - min_jaccard**rows) ** (permutations // rows) <= EXACT_MINHASH_MISSES
    ]
    return max(fitting, default=1)


def _minhash_bands(sets: Shingles, permutations: int, rows: int) -> Hashes:
    """Hashes of the bands of every text's MinHash digest: shape (texts, bands)."""
    from rensa import RMinHash

    count = permutations // rows
    bands = np.zeros((len(sets.sizes), count), np.uint64)
    step = 8192  # digests pass through Python integers: 8192 x permutations of them at a time
    for start in range(0, len(bands), step):
        stop = min(start + step, len(bands))
        offsets = sets.offsets[start : stop + 1]
        flat = np.ascontiguousarray(sets.values[offsets[0] : offsets[-1]])
        digests = RMinHash.digest_matrix_from_flat_token_hashes(
            flat, (offsets - offsets[0]).astype(np.uint64), permutations, 1
        )
        matrix = np.array(digests.to_rows(), dtype=np.uint64)[:, : count * rows]
        folded = np.zeros((stop - start, count), np.uint64)
        for row in range(rows):
            folded = folded * np.uint64(0x9E3779B97F4A7C15) + matrix[:, row::rows]
        bands[start:stop] = folded
    return bands
