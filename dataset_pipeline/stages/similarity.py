"""What "the same" and "nearly the same" mean, for pictures and for texts.

Belongs here: definitions and exact measures of a *given* pair, shared by ``duplicates``, ``split`` and
``leakage``, so that the three never disagree on what a leak is. Does not belong here: searching for
pairs. ``duplicates`` and ``leakage`` each have a search of their own, so that one can find out the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import ImageDuplicates
from dataset_pipeline.tables import THUMBNAIL_SIDE_PX

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

THUMBNAIL_BYTES = THUMBNAIL_SIDE_PX * THUMBNAIL_SIDE_PX * 3
BLOCK_PX = 4
_BLOCKS = THUMBNAIL_SIDE_PX // BLOCK_PX
_THUMBNAILS_AT_ONCE = 16_384
_BLACK, _WHITE = 4, 251  # beyond, a brighter or darker copy has lost the value
_PAIRS_AT_ONCE = 128  # what is worked on, several times 1.5 MB, stays in the processor's cache

TEXT_SEPARATOR = "\x1f"
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing modulo 2**64


# -- pictures ------------------------------------------------------------------------------


def pictures_of(items: pl.LazyFrame, images: pl.LazyFrame) -> pl.DataFrame:
    """Distinct image files of ``items``: sha256, item_id (the smallest), pixel_hash, phash; sorted by item_id."""
    scanned = (
        images.select("sha256", "pixel_hash", "phash").drop_nulls("pixel_hash").unique("sha256", keep="any")
    )
    return (
        items.select("item_id", sha256="image_sha256")
        .drop_nulls("sha256")
        .group_by("sha256")
        .agg(pl.col("item_id").min())
        .join(scanned, on="sha256")
        .sort("item_id")
        .collect()
    )


def load_thumbnails(images: pl.LazyFrame, sha256: pl.Series) -> Pixels:
    """Thumbnails of these files, shape (files, THUMBNAIL_BYTES), in their order, read in batches.

    Raises ``ValueError`` for a file that ``images`` has no thumbnail of, or one of another length.
    """
    matrix = np.zeros((len(sha256), THUMBNAIL_BYTES), np.uint8)
    is_there = np.zeros(len(sha256), bool)
    rows = pl.LazyFrame({"sha256": sha256, "row": np.arange(len(sha256))})
    wanted = images.select("sha256", "thumbnail").join(rows, on="sha256").select("row", "thumbnail")
    for batch in wanted.collect_batches(chunk_size=_THUMBNAILS_AT_ONCE):
        whole = batch.filter(pl.col("thumbnail").bin.size() == THUMBNAIL_BYTES)
        at = whole["row"].to_numpy()
        values = np.frombuffer(b"".join(whole["thumbnail"].to_list()), np.uint8)
        matrix[at] = values.reshape(-1, THUMBNAIL_BYTES)
        is_there[at] = True
    if not is_there.all():
        raise ValueError(f"{int((~is_there).sum())} pictures have no thumbnail of {THUMBNAIL_BYTES} bytes")
    return matrix


def standardised(thumbnails: Pixels) -> npt.NDArray[np.float32]:
    """Thumbnails minus their mean, of length 1: their products are correlations. One colour gives zeros."""
    values = thumbnails.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", values, values))
    values /= np.where(length > 0, length, 1)[:, None]
    return values


class PictureMatch(NamedTuple):
    """Measures of pairs of thumbnails; every array has one value a pair."""

    similarity: Floats
    """Pearson correlation of the colour values, -1 to 1; 0 where a thumbnail is of one colour."""
    block_difference: Floats
    """Largest difference of any block's mean in any channel; grey levels of 255."""
    toned_difference: Floats
    """The same after the best change of brightness and contrast of the whole picture, clipping included."""
    tone_difference: Floats
    """Difference of the means plus difference of the standard deviations; grey levels of 255."""


TONED_SHARE = 2 / 3
"""A change of tone explains away much, so what it leaves may be so much less than ``max_block_difference``."""


def is_near(match: PictureMatch, settings: ImageDuplicates) -> Flags:
    """Which pairs count as one picture, re-encoded, resized or changed a little in brightness or contrast.

    Correlation alone merges drawings that differ in one small place; the largest difference of any block alone
    misses every copy that was made lighter. So a block may differ as it is, or else a global change of tone
    must explain nearly all of the difference.
    """
    as_it_is = match.block_difference <= settings.max_block_difference
    toned = match.toned_difference <= settings.max_block_difference * TONED_SHARE
    return np.asarray(
        (match.similarity >= settings.min_similarity)
        & (as_it_is | toned)
        & (match.tone_difference <= settings.max_tone_difference)
    )


def compare_pictures(thumbnails: Pixels, left: Integers, right: Integers) -> PictureMatch:
    """Measures of the pairs (thumbnails[left[i]], thumbnails[right[i]]); symmetric in the two."""
    parts = [
        _compare_some(thumbnails[left[start:stop]], thumbnails[right[start:stop]], None)
        for start, stop in slices(len(left), _PAIRS_AT_ONCE)
    ]
    none = np.zeros(0)
    columns = [np.concatenate([none, *(part[k] for part in parts)]) for k in range(4)]
    return PictureMatch(*columns)


def near_pictures(
    thumbnails: Pixels, left: Integers, right: Integers, settings: ImageDuplicates
) -> tuple[Flags, Floats]:
    """``is_near`` and the similarity of the pairs, measuring of each no more than that takes."""
    holds, similarity = np.zeros(len(left), bool), np.zeros(len(left))
    for start, stop in slices(len(left), _PAIRS_AT_ONCE):
        match = _compare_some(thumbnails[left[start:stop]], thumbnails[right[start:stop]], settings)
        holds[start:stop], similarity[start:stop] = is_near(match, settings), match.similarity
    return holds, similarity


def _compare_some(left: Pixels, right: Pixels, settings: ImageDuplicates | None) -> PictureMatch:
    """With ``settings``, the toned difference is measured only where it decides; elsewhere it is infinite."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    deviation_a, deviation_b = a.std(axis=1), b.std(axis=1)
    scale = deviation_a.astype(np.float64) * deviation_b
    is_flat = scale <= 0
    covariance = np.einsum("ij,ij->i", a - mean_a[:, None], b - mean_b[:, None]) / THUMBNAIL_BYTES
    similarity = np.where(is_flat, 0.0, covariance / np.where(is_flat, 1.0, scale))
    difference = _largest_block(a - b)
    tone = np.abs(mean_a - mean_b) + np.abs(deviation_a - deviation_b)
    open_pairs = np.ones(len(a), bool)
    if settings is not None:
        open_pairs = is_near(PictureMatch(similarity, difference, np.zeros(len(a)), tone), settings)
        open_pairs &= difference > settings.max_block_difference
    toned = np.full(len(a), np.inf)
    a, b = a[open_pairs], b[open_pairs]
    # Either may be the one that was brightened until it clipped.
    toned[open_pairs] = np.minimum(np.minimum(_toned(a, b), _toned(b, a)), difference[open_pairs])
    return PictureMatch(similarity, difference, toned, tone.astype(np.float64))


def _toned(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> Floats:
    """Largest block difference between ``b`` and ``a`` under the least-squares change of tone towards it."""
    inside = (a > _BLACK) & (a < _WHITE) & (b > _BLACK) & (b < _WHITE)
    weight = np.maximum(inside.sum(axis=1, dtype=np.float32), 1)[:, None]
    mean_a = (a * inside).sum(axis=1, keepdims=True) / weight
    mean_b = (b * inside).sum(axis=1, keepdims=True) / weight
    centred = (a - mean_a) * inside
    variance = (centred * centred).sum(axis=1, keepdims=True)
    gain = (centred * (b - mean_b)).sum(axis=1, keepdims=True) / np.maximum(variance, 1e-6)
    fitted = np.clip((a - mean_a) * gain + mean_b, 0, 255)
    return _largest_block(fitted - b)


def _largest_block(difference: npt.NDArray[np.float32]) -> Floats:
    # Rows first, then columns: one step over both axes takes three times as long.
    strips = difference.reshape(-1, _BLOCKS, BLOCK_PX, THUMBNAIL_SIDE_PX * 3).sum(axis=2)
    blocks = strips.reshape(-1, _BLOCKS * _BLOCKS, BLOCK_PX, 3).sum(axis=2)
    return np.asarray(np.abs(blocks).max(axis=(1, 2)) / BLOCK_PX**2, np.float64)


# -- texts ---------------------------------------------------------------------------------


def text_key(names: Sequence[str]) -> pl.Expr:
    """The texts of an item in the form in which equal texts are equal; null where all are empty.

    Letter case and runs of white space do not count. Which text is in which column does.
    """
    if not names:
        return pl.lit(None, pl.String)
    parts = [
        pl.col(name).fill_null("").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
        for name in names
    ]
    joined = pl.concat_str(parts, separator=TEXT_SEPARATOR)
    is_empty = pl.all_horizontal([part == "" for part in parts])
    return pl.when(~is_empty).then(joined)


def text_chars(key: pl.Expr) -> pl.Expr:
    """Characters of a text key, separators of columns apart."""
    return key.str.len_chars() - key.str.count_matches(TEXT_SEPARATOR, literal=True)


class Shingles(NamedTuple):
    """Sets of hashed character n-grams in compressed rows: text i has values[offsets[i]:offsets[i + 1]]."""

    values: npt.NDArray[np.uint64]
    offsets: Integers

    @property
    def sizes(self) -> Integers:
        """Number of distinct shingles of every text."""
        return np.diff(self.offsets)


def shingles(keys: pl.Series, chars: int) -> Shingles:
    """Distinct n-grams of ``chars`` characters of every text, hashed to 64 bits and sorted.

    A text shorter than ``chars`` has none. Two n-grams share a hash with a chance of about 2**-64, so a
    million texts are safe; a collision would make two texts look more alike, never less.
    """
    lengths = keys.str.len_chars().to_numpy().astype(np.int64)
    codes = np.frombuffer("".join(keys.to_list()).encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.maximum(lengths - chars + 1, 0)
    rows = np.repeat(np.arange(len(lengths)), counts)
    first = np.concatenate([[0], np.cumsum(counts)])
    positions = np.arange(first[-1]) - first[rows] + starts[rows]
    hashes = np.zeros(len(positions), np.uint64)
    for offset in range(chars):
        hashes = hashes * _BASE + _mixed(codes[positions + offset])
    hashes = _mixed(hashes)
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    sizes = np.bincount(rows[is_new], minlength=len(lengths))
    return Shingles(hashes[is_new], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def _mixed(values: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit moves every output bit."""
    z = values.astype(np.uint64) + _BASE
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def jaccard(sets: Shingles, left: Integers, right: Integers) -> Floats:
    """True Jaccard similarity of the pairs (left[i], right[i]): shared shingles over all shingles, 0 to 1."""
    found = np.zeros(len(left))
    sizes = sets.sizes
    for start, stop in slices(len(left), 65_536):
        i, j = left[start:stop], right[start:stop]
        pair = np.concatenate(
            [np.repeat(np.arange(len(i)), sizes[i]), np.repeat(np.arange(len(j)), sizes[j])]
        )
        values = np.concatenate([sets.values[_gather(sets, i)], sets.values[_gather(sets, j)]])
        order = np.lexsort((values, pair))
        pair, values = pair[order], values[order]
        is_shared = (pair[1:] == pair[:-1]) & (values[1:] == values[:-1])
        shared = np.bincount(pair[1:][is_shared], minlength=len(i))
        either = sizes[i] + sizes[j] - shared
        found[start:stop] = shared / np.maximum(either, 1)
    return found


def _gather(sets: Shingles, rows: Integers) -> Integers:
    """Positions in ``sets.values`` of all shingles of these rows, one row after the other."""
    sizes = sets.sizes[rows]
    ends = np.cumsum(sizes)
    return (
        np.arange(ends[-1] if len(ends) else 0)
        - np.repeat(ends - sizes, sizes)
        + np.repeat(sets.offsets[rows], sizes)
    )


# -- components ----------------------------------------------------------------------------


def components(count: int, left: Integers, right: Integers) -> Integers:
    """Component of each of ``count`` nodes under the edges (left[i], right[i]): its smallest node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if count == 0:
        return np.zeros(0, np.int64)
    edges = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
    _, labels = connected_components(edges, directed=False)
    smallest = np.full(int(labels.max()) + 1, count, np.int64)
    np.minimum.at(smallest, labels, np.arange(count))
    return np.asarray(smallest[labels])


def slices(count: int, size: int) -> list[tuple[int, int]]:
    """Consecutive ranges of at most ``size``."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]
