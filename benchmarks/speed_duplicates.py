"""How the searches for near pictures and near texts grow, against brute force at the smallest size.

    python benchmarks/speed_duplicates.py [--quick]

Prints a markdown table. Hashes: one in ten is another one's with up to four bits changed. Texts: made-up words, one
in ten is another one with a letter left out. Brute force compares all pairs with numpy, in the same run and with the
same answer, or the run fails. --quick leaves the largest sizes out.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from dataset_pipeline.config import ImageDuplicates, TextDuplicates
from dataset_pipeline.stages import leak_search, pair_search, picture_pairs, similarity, text_pairs

SMALL = 10_000
DISTANCE = ImageDuplicates().max_hash_distance
TEXTS = TextDuplicates()
Pairs = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def made_hashes(count: int) -> pair_search.Hashes:
    """Random 64-bit hashes, and near copies."""
    generator = np.random.default_rng(count)
    hashes = generator.integers(0, 2**64, count, np.uint64)
    copies = count // 10
    changed = hashes[copies : 2 * copies].copy()
    for _ in range(DISTANCE):
        changed ^= np.uint64(1) << generator.integers(0, 64, copies).astype(np.uint64)
    hashes[:copies] = changed
    return hashes


def made_texts(count: int) -> pl.Series:
    """Distinct texts of 8 to 16 made-up words, and copies that lack a letter."""
    generator = np.random.default_rng(count)
    letters = np.array(list("abcdefghijklmnoprstuvwz"))
    words = ["".join(generator.choice(letters, size)) for size in generator.integers(3, 9, 5000)]
    texts = [
        " ".join(words[word] for word in generator.integers(0, len(words), size))
        for size in generator.integers(8, 17, count)
    ]
    copies = count // 10
    texts[:copies] = [text[:9] + text[10:] for text in texts[copies : 2 * copies]]
    return pl.Series(texts).unique().sort()


def ordered(left: similarity.Integers, right: similarity.Integers) -> Pairs:
    """Pairs in one order, so that two searches can be compared."""
    pairs = np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def near_hashes(hashes: pair_search.Hashes) -> Pairs:
    """The pipeline's search: bands of bits."""
    parts = [np.stack(part) for part in picture_pairs._near_hashes(hashes, DISTANCE)]
    return ordered(*np.concatenate(parts, axis=1))


def near_hashes_by_force(hashes: pair_search.Hashes) -> Pairs:
    """Every pair of hashes compared."""
    found = []
    for row in range(len(hashes)):
        near = row + 1 + np.flatnonzero(np.bitwise_count(hashes[row] ^ hashes[row + 1 :]) <= DISTANCE)
        found.append(np.stack([np.full(len(near), row), near]))
    return ordered(*np.concatenate(found, axis=1))


def near_texts(texts: pl.Series) -> Pairs:
    """The search of the duplicates stage: MinHash bands."""
    left, right, _ = text_pairs.near_text_pairs(texts, TEXTS)
    return ordered(left, right)


def near_texts_audited(texts: pl.Series) -> Pairs:
    """The search of the leak audit: equal parts of sets."""
    search = leak_search.TextSearch(texts, TEXTS)
    found = leak_search.joined(list(search.near(lambda left, _: np.ones(len(left), bool))))
    holds = found[2] >= TEXTS.min_jaccard
    return ordered(found[0][holds], found[1][holds])


def near_texts_by_force(texts: pl.Series) -> Pairs:
    """Shared shingles of every pair of texts, by products of sparse matrices."""
    sets = similarity.shingles(texts, TEXTS.shingle_chars)
    _, columns = np.unique(sets.values, return_inverse=True)
    matrix = csr_array((np.ones(len(columns), np.int32), columns, sets.offsets))
    across = matrix.T.tocsr()
    found = []
    for start, stop in similarity.slices(len(texts), 500):
        shared = (matrix[start:stop] @ across).toarray()
        sizes = sets.sizes[start:stop, None] + sets.sizes[None, :] - shared
        i, j = np.nonzero(shared >= TEXTS.min_jaccard * sizes)
        i += start
        found.append(np.stack([i, j])[:, i < j])
    return ordered(*np.concatenate(found, axis=1))


def seconds(search: Callable[[], Pairs]) -> tuple[float, Pairs]:
    """How long it takes, and what it finds."""
    started = time.perf_counter()
    found = search()
    return time.perf_counter() - started, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print("| search | items | seconds | items a second | pairs found |")
    print("|---|---|---|---|---|")

    def report(name: str, count: int, search: Callable[[], Pairs]) -> Pairs:
        took, found = seconds(search)
        print(f"| {name} | {count:,} | {took:.2f} | {count / took:,.0f} | {len(found):,} |", flush=True)
        return found

    for count in (SMALL, 100_000) if quick else (SMALL, 100_000, 1_000_000):
        hashes = made_hashes(count)
        found = report(f"pHashes within {DISTANCE} bits: bands", count, lambda h=hashes: near_hashes(h))
        if count == SMALL:
            every = report("pHashes: all pairs", count, lambda h=hashes: near_hashes_by_force(h))
            assert np.array_equal(found, every), "the two searches differ"
    for count in (SMALL,) if quick else (SMALL, 100_000):
        texts = made_texts(count)
        found = report("near texts: MinHash bands", len(texts), lambda t=texts: near_texts(t))
        audited = report("near texts: equal parts of sets", len(texts), lambda t=texts: near_texts_audited(t))
        assert np.array_equal(found, audited), "the two searches differ"
        if count == SMALL:
            every = report("near texts: all pairs", len(texts), lambda t=texts: near_texts_by_force(t))
            assert np.array_equal(found, every), "the two searches differ"


if __name__ == "__main__":
    main()
