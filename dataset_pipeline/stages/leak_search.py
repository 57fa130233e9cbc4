"""Searches for nearly equal pictures and texts that know nothing of those in ``duplicates``.

Belongs here: finding pairs for the audit of a split (``leakage``), and copies to plant, which tell how much the
searches miss. Does not belong here: what counts as nearly the same (``similarity``), and counting what crosses
splits. Pictures are all compared with each other, or through random projections instead of cells and pHash; texts through
prefix filtering, which is exact, instead of MinHash.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import ImageDuplicates, TextDuplicates
from dataset_pipeline.stages.similarity import (
    LUMINANCE,
    Flags,
    Floats,
    Integers,
    Pixels,
    Shingles,
    compare_pictures,
    cropped,
    jaccard,
    luminance,
    may_be_near,
    near_pictures,
    quick,
    standardised,
    turned,
)
from dataset_pipeline.tables import THUMBNAIL_SIDE_PX

EXHAUSTIVE_PICTURES = 20_000
"""Up to so many distinct pictures, every one is compared with every other one."""

PROJECTION_TABLES, PROJECTION_BITS = 12, 28
"""Beyond: pictures that agree in all bits of one of 12 tables, one of them as a cropped, mirrored or turned copy would
look, are compared. Two vectors at an angle of a agree in one bit with 1 - a / pi. What is missed is measured and
reported."""

LOOKS = (
    (0, 0, 0, 0),
    (0.03, 0.03, 0.03, 0.03),
    (0.05, 0.05, 0.05, 0.05),
    (0.04, 0, 0, 0),
    (0, 0.04, 0, 0),
    (0, 0, 0.04, 0),
    (0, 0, 0, 0.04),
)
"""Shares that a cropped copy may lack at the left, top, right and bottom."""

MAX_DIFFERING_BITS = 0.08
"""Of the bits of all tables together: so many differ at the most between a picture and a look of another."""

PROJECTION_WINDOW = 256
"""In one table a picture is compared with at most so many others of one key; more is counted."""

PLANTED_COPIES = 100
NEAREST_PAIRS = 24

_ROWS = 2048
_LOOKUPS_AT_ONCE = 1 << 16
_GRID = 8
_INSET = 0.07  # of every edge, which a border may cover and a crop may take
_PRODUCTS_AT_ONCE = 1 << 21
_SHARED_IN_PREFIX = 8  # with 1, every pair of texts with a rare word in common would be measured

Edges = tuple[Integers, Integers, Floats]
"""Positions left and right, and the similarity of each pair."""
Wanted = Callable[[Integers, Integers], Flags]
"""Which pairs of positions are worth measuring."""


def joined(parts: list[Edges]) -> Edges:
    """All parts as one."""
    none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    left, right, score = (np.concatenate([part[k] for part in [none, *parts]]) for k in range(3))
    return left, right, score


def best_crossing(left: Integers, right: Integers, score: Floats, splits: Integers) -> Edges:
    """The NEAREST_PAIRS pairs of highest score whose ends are in different splits."""
    crosses = np.flatnonzero(splits[left] != splits[right])
    best = crosses[np.lexsort((right[crosses], left[crosses], -score[crosses]))[:NEAREST_PAIRS]]
    return left[best], right[best], score[best]


# -- pictures ------------------------------------------------------------------------------


class PictureSearch:
    """Nearly identical thumbnails: all pairs where that is affordable, else random projections."""

    def __init__(self, thumbnails: Pixels, settings: ImageDuplicates, seed: int) -> None:
        self.thumbnails = thumbnails
        self.settings = settings
        self.seed = seed
        self.uncompared = 0
        self.is_exhaustive = len(thumbnails) <= EXHAUSTIVE_PICTURES

    @property
    def method(self) -> str:
        """How the search went, in words, once it is done."""
        if self.is_exhaustive:
            return f"all pairs of {len(self.thumbnails):,} pictures (planted copies included) compared"
        return (
            f"random projections of pictures as they are and as copies would look, {PROJECTION_TABLES} tables of "
            f"{PROJECTION_BITS} bits; "
            f"{self.uncompared:,} comparisons left out in crowded tables"
        )

    def near(self, are_wanted: Wanted) -> Iterator[Edges]:
        """Wanted pairs that count as one picture: (left, right, similarity), left < right, part by part."""
        for left, right in self._candidates():
            is_wanted = are_wanted(left, right)
            i, j = left[is_wanted], right[is_wanted]
            holds, similarity = near_pictures(self.thumbnails, i, j, self.settings)
            yield i[holds], j[holds], similarity[holds]

    def nearest(self, splits: Integers, count: int) -> Edges:
        """The most similar pairs among the first ``count`` thumbnails that are in different splits."""
        best = joined([])
        for left, right, score in self._hopeful(splits, count):
            best = best_crossing(*joined([best, (left, right, score)]), splits)
        similarity = compare_pictures(self.thumbnails, best[0], best[1]).similarity
        return best_crossing(best[0], best[1], similarity, splits)

    def _hopeful(self, splits: Integers, count: int) -> Iterator[Edges]:
        """Of every block (or table), the crossing pairs that may be among the most similar ones of all."""
        if not self.is_exhaustive:
            for left, right in self._projected(looks=1):
                inside = (left < count) & (right < count)
                inside[inside] &= splits[left[inside]] != splits[right[inside]]
                score = compare_pictures(self.thumbnails, left[inside], right[inside]).similarity
                yield left[inside], right[inside], score
            return
        for start, other, product in self._products(count):
            rows, columns = (
                splits[at : at + size] for at, size in zip((start, other), product.shape, strict=True)
            )
            product[rows[:, None] == columns[None, :]] = -2
            flat = product.ravel()
            best = np.argpartition(flat, -min(NEAREST_PAIRS, len(flat)))[-NEAREST_PAIRS:]
            best = best[flat[best] > -2]
            i, j = np.divmod(best, product.shape[1])
            once = i + start < j + other
            yield i[once] + start, j[once] + other, flat[best][once].astype(np.float64)

    def _candidates(self) -> Iterator[tuple[Integers, Integers]]:
        if not self.is_exhaustive:
            yield from self._projected()
            return
        for start in range(0, len(self.thumbnails), _ROWS):
            rows = quick(self.thumbnails[start : start + _ROWS], self.settings)
            for other in range(start, len(self.thumbnails), _ROWS):
                found = np.logical_or.reduce(
                    [
                        may_be_near(rows, quick(lying, self.settings), self.settings)
                        for lying in turned(self.thumbnails[other : other + _ROWS], self.settings)
                    ]
                )
                i, j = np.nonzero(found)
                once = i + start < j + other
                yield i[once] + start, j[once] + other

    def _products(self, count: int) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
        """Correlations of all pairs of the first ``count`` thumbnails, block by block: (row, column, block)."""
        for start in range(0, count, _ROWS):
            rows = standardised(self.thumbnails[start : min(start + _ROWS, count)])
            for other in range(start, count, _ROWS):
                columns = (
                    rows
                    if other == start
                    else standardised(self.thumbnails[other : min(other + _ROWS, count)])
                )
                yield start, other, rows @ columns.T

    def _projected(self, looks: int | None = None) -> Iterator[tuple[Integers, Integers]]:
        """Pairs of which one, as it is, agrees with a look of the other in all bits of a table (Charikar 2002).

        Each comes once, in the first table, look and direction in which it does. Of ``looks``, None are all. Pictures of
        one luminance are left out.
        """
        keys, rows = self._keys()
        keys = keys[:, :looks]
        self.uncompared = 0
        for table, look in itertools.product(range(keys.shape[2]), range(keys.shape[1])):
            order = np.argsort(keys[:, 0, table], kind="stable")
            ordered, wanted = keys[order, 0, table], keys[:, look, table]
            first = np.searchsorted(ordered, wanted)
            if look == 0:  # with those before it
                counts = np.empty_like(order)
                counts[order] = np.arange(len(order))
                counts -= first
            else:
                counts = np.searchsorted(ordered, wanted, side="right") - first
            self.uncompared += int(np.maximum(counts - PROJECTION_WINDOW, 0).sum())
            counts = np.minimum(counts, PROJECTION_WINDOW)
            ends = np.cumsum(counts)
            for start in range(0, int(ends[-1]) if len(ends) else 0, _LOOKUPS_AT_ONCE):
                number = np.arange(start, min(start + _LOOKUPS_AT_ONCE, ends[-1]))
                one = np.searchsorted(ends, number, side="right")
                other = order[first[one] + number - ends[one] + counts[one]]
                one, other = one[one != other], other[one != other]
                is_near = _differing(keys[one, look] ^ keys[other, 0]) <= MAX_DIFFERING_BITS
                one, other = one[is_near], other[is_near]
                left, right = np.minimum(one, other), np.maximum(one, other)
                here = (table * keys.shape[1] + look) * 2 + ((one > other) & (look > 0))
                is_new = _first_agreement(keys[left], keys[right]) == here
                yield rows[left[is_new]], rows[right[is_new]]

    def _keys(self) -> tuple[npt.NDArray[np.uint32], Integers]:
        """Bits of every table of every look, shape (pictures, looks, tables), and which pictures these are.

        The bits are of smooth luminance on a grid, less what pictures have in common, without the edges.
        """
        looks = LOOKS if "crop" in self.settings.changes else LOOKS[:1]
        grids = [(_grid(top, bottom), _grid(left, right)) for left, top, right, bottom in looks]
        generator = np.random.default_rng(self.seed)
        planes = generator.standard_normal((_GRID**2, PROJECTION_TABLES * PROJECTION_BITS), np.float32)
        weights = np.uint32(1) << np.arange(PROJECTION_BITS, dtype=np.uint32)
        spread = np.linspace(0, len(self.thumbnails) - 1, _ROWS).astype(np.int64)
        common = _on_grid(luminance(self.thumbnails[spread]), grids[0]).mean(axis=0)
        keys, rows = [], []
        for start in range(0, len(self.thumbnails), _ROWS):
            vectors = []
            for number, lying in enumerate(turned(self.thumbnails[start : start + _ROWS], self.settings)):
                grey = luminance(lying)
                vectors += [_on_grid(grey, grid) for grid in (grids if number == 0 else grids[:1])]
            is_flat = ~vectors[0].any(axis=1)
            values = np.stack(vectors, axis=1)[~is_flat] - common
            bits = (values @ planes > 0).reshape(*values.shape[:2], PROJECTION_TABLES, PROJECTION_BITS)
            keys.append((bits * weights).sum(axis=3, dtype=np.uint32))
            rows.append(start + np.flatnonzero(~is_flat))
        return np.concatenate(keys), np.concatenate(rows)


def _grid(start: float, end: float) -> npt.NDArray[np.float32]:
    """Matrix from a row of pixels to smooth samples of it without these shares, nor _INSET of the rest, at its ends."""
    rest = 1 - start - end
    start, end = start + _INSET * rest, end + _INSET * rest
    place = (start + (np.arange(_GRID) + 0.5) / _GRID * (1 - start - end)) * THUMBNAIL_SIDE_PX - 0.5
    width = THUMBNAIL_SIDE_PX / _GRID
    hats = np.maximum(1 - np.abs(place[:, None] - np.arange(THUMBNAIL_SIDE_PX)) / width, 0)
    return np.asarray(hats / hats.sum(axis=1, keepdims=True), np.float32)


def _on_grid(
    grey: npt.NDArray[np.float32], grid: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Luminance on a grid less its mean, of length 1; of one luminance: zeros. Shape (pictures, samples)."""
    down, across = grid
    values = (down @ grey @ across.T).reshape(len(grey), _GRID**2)
    values -= values.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.asarray(values / np.where(length > 1, length, np.inf)[:, None], np.float32)


def _differing(bits: npt.NDArray[np.uint32]) -> Floats:
    """Share of bits that are set, over the tables (last axis)."""
    return np.asarray(
        np.bitwise_count(bits).sum(axis=-1, dtype=np.int64) / (bits.shape[-1] * PROJECTION_BITS)
    )


def _first_agreement(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> Integers:
    """Of pairs of keys, shape (pairs, looks, tables): the first table, look and direction in which they agree."""
    across = np.stack([left ^ right[:, :1], right ^ left[:, :1]], axis=2)
    agree = (across == 0) & (_differing(across) <= MAX_DIFFERING_BITS)[..., None]
    looks, tables = left.shape[1:]
    return np.asarray(agree.transpose(0, 3, 1, 2).reshape(len(agree), tables * looks * 2).argmax(axis=1))


def planted_pictures(
    thumbnails: Pixels, settings: ImageDuplicates, seed: int
) -> tuple[Integers, Pixels, list[str]]:
    """Transformed copies of up to PLANTED_COPIES thumbnails: (origin of each, copies, name of each's change).

    The changes imitate, at the size of a thumbnail, what re-encoding, resizing, editing and those of
    ``settings.changes`` do to it.
    """
    generator = np.random.default_rng(seed)
    spread = thumbnails.std(axis=1) > 8  # on a picture of one colour no change can be recognised
    eligible = np.flatnonzero(spread)
    chosen = np.sort(generator.permutation(eligible)[:PLANTED_COPIES])
    values = thumbnails[chosen].astype(np.float64)
    noise = generator.normal(0, 3, values.shape)
    side = THUMBNAIL_SIDE_PX
    square = values.reshape(-1, side, side, 3)
    padded = np.pad(square, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    blurred = sum(
        weight * padded[:, 1 + dy : side + 1 + dy, 1 + dx : side + 1 + dx]
        for dy, dx, weight in ((0, 0, 0.6), (0, 1, 0.1), (0, -1, 0.1), (1, 0, 0.1), (-1, 0, 0.1))
    )
    changed = {
        "noise of re-encoding": values + noise,
        "softened by resizing": np.asarray(blurred).reshape(values.shape),
        "10 % darker": values * 0.9,
        "10 % less contrast": values * 0.9 + 12.75,
        "10 % brighter": values * 1.1,
    }
    if "colour" in settings.changes:
        changed["colour taken away"] = np.repeat(square @ LUMINANCE, 3).reshape(values.shape)
    if "crop" in settings.changes:
        changed["4 % cropped at every edge"] = cropped(thumbnails[chosen], 0.04, 0.04, 0.04, 0.04)
        changed["5 % cropped at the left"] = cropped(thumbnails[chosen], 0.05, 0, 0, 0)
    if "mirror" in settings.changes:
        changed["mirrored"] = square[:, :, ::-1].reshape(values.shape)
    if "turn" in settings.changes:
        changed["turned"] = np.rot90(square, axes=(1, 2)).reshape(values.shape)
    copies = [np.clip(np.rint(value), 0, 255).astype(np.uint8) for value in changed.values()]
    names = [name for name in changed for _ in chosen]
    return np.tile(chosen, len(changed)), np.concatenate(copies), names


# -- texts ---------------------------------------------------------------------------------


def near_texts(sets: Shingles, settings: TextDuplicates, are_wanted: Wanted) -> Iterator[Edges]:
    """Wanted pairs of texts that share a rare shingle, with their true Jaccard similarity (left, right, score).

    Part by part, in bounded memory, left < right. Every wanted pair at or above ``min_jaccard`` is among them:
    prefix filtering (Chaudhuri, Ganti and Kaushik 2006; with several shared shingles: Wang, Li and Feng 2012).
    With shingles in one order for all texts, rarest first, two sets of that similarity share k of their first
    |s| - ceil(t |s|) + k shingles, for any k up to the number that they share. Pairs below the threshold that
    came up are there too; they are the near misses.
    """
    from scipy.sparse import csr_array

    sizes = sets.sizes
    text = np.repeat(np.arange(len(sizes)), sizes)
    _, shingle, frequency = np.unique(sets.values, return_inverse=True, return_counts=True)
    order = np.lexsort((shingle, frequency[shingle], text))
    text, shingle = text[order], shingle[order]
    rank = np.arange(len(text)) - sets.offsets[:-1][text]
    needed = np.ceil(settings.min_jaccard * sizes - 1e-9).astype(np.int64)
    prefix = sizes - needed + _SHARED_IN_PREFIX
    in_prefix = rank < prefix[text]
    text, shingle = text[in_prefix], shingle[in_prefix]
    rows = csr_array(
        (np.ones(len(text), np.int32), (text, shingle)), shape=(len(sizes), max(len(frequency), 1))
    )
    columns = rows.T.tocsr()
    load = np.bincount(text, weights=np.diff(columns.indptr)[shingle], minlength=len(sizes))
    start = 0
    total = np.cumsum(load)
    while start < len(sizes):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + _PRODUCTS_AT_ONCE, side="right")), start + 1)
        shared = (rows[start:stop] @ columns).tocoo()
        left, right = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        small, large = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        keep = (left < right) & (small >= settings.min_jaccard * large - 1e-9)
        keep &= shared.data >= np.minimum(np.maximum(needed[left], needed[right]), _SHARED_IN_PREFIX)
        left, right = left[keep], right[keep]
        is_wanted = are_wanted(left, right)
        left, right = left[is_wanted], right[is_wanted]
        score = jaccard(sets, left, right)
        close = score >= min(0.6, settings.min_jaccard)
        yield left[close], right[close], score[close]
        start = stop


def planted_texts(keys: pl.Series, seed: int) -> tuple[Integers, pl.Series, list[str]]:
    """Changed copies of up to PLANTED_COPIES texts: (origin of each, copies, name of each's change)."""
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(keys))[:PLANTED_COPIES])
    origins: list[int] = []
    copies: list[str] = []
    names: list[str] = []
    for row, text in zip(chosen.tolist(), keys.gather(chosen).to_list(), strict=True):
        at = int(generator.integers(0, len(text)))
        changed = {
            "a letter left out": text[:at] + text[at + 1 :],
            "two letters added": f"{text} x",
            "first word moved to the end": " ".join([*text.split(" ")[1:], text.split(" ")[0]]),
        }
        origins += [row] * len(changed)
        copies += changed.values()
        names += changed
    return np.array(origins, np.int64), pl.Series(copies, dtype=pl.String), names
