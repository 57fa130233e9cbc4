"""Find pictures that are nearly the same.

Belongs here: the search for pairs. Does not belong here: what counts as nearly the same (``similarity``), and
what is done about it (``duplicates``). Candidates are all pairs of up to EXHAUSTIVE_PICTURES; beyond, those of a 64-bit
pHash within ``max_hash_distance``, and those of which one looks like what a changed copy of the other would. They are
verified on thumbnails. Time and memory stay bounded whatever the pictures are: a picture is a candidate with
NEIGHBOURS others at the most, and with so many more of nearly equal pHash.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl

from dataset_pipeline.config import ImageDuplicates
from dataset_pipeline.stages.pair_search import (
    Hashes,
    Pair,
    PairList,
    pairs_with_equal_keys,
    verify,
)
from dataset_pipeline.stages.similarity import (
    Flags,
    Floats,
    Integers,
    Pixels,
    Values,
    are_textured,
    load_thumbnails,
    luminance,
    may_be_near,
    near_pictures,
    quick,
    slices,
    thumbnail_batches,
    turned,
)
from dataset_pipeline.tables import THUMBNAIL_SIDE_PX

EXHAUSTIVE_PICTURES = 20_000
"""Up to so many distinct pictures, every one is compared with every other one (about a minute at the most);
beyond, those whose hashes or views are near."""

CROPS = (
    (0, 0, 0, 0),
    (0.025, 0.025, 0.025, 0.025),
    (0.05, 0.05, 0.05, 0.05),
    (0.04, 0, 0, 0),
    (0, 0.04, 0, 0),
    (0, 0, 0.04, 0),
    (0, 0, 0, 0.04),
)
"""Beyond, cropped copies are looked for as if these shares were missing at the left, top, right and bottom."""

STRIPS = ((0, 0, 0, 0.6), (0, 0.6, 0, 0), (0, 0, 0.6, 0), (0.6, 0, 0, 0))
"""Beyond, copies with something laid over them are looked for by these parts alone: at the top, the bottom, the left
and the right. Of photos, whose parts are hardly ever alike otherwise."""

VIEW_SIMILARITY = 0.96
"""Correlation, in the lowest frequencies of luminance, of a picture and a view of another that may be its copy."""

NEIGHBOURS = 32
"""So many other pictures, the most similar ones, are looked at for each."""

_GEMM_ROWS = 2048
_PAIRS_AT_ONCE = 1 << 17
_LARGE_CLASS = 64  # pictures of equal hash bits; more are mostly blank ones
_EDGE = 0.06  # what a border may cover, and what a crop may take, is left out of every view
_WAVES = 8
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_CELLS_PER_ROOT = 4
_PROBED_CELLS = 2
_CROWD = 8  # times the mean size of a cell
_LLOYD_STEPS, _SAMPLE_PER_CELL = 4, 32
_SAME_CENTRE, _CENTRES_JOINED = 0.999, 4  # cosine of centres that are joined, and of so many one is made


def near_picture_pairs(
    pictures: pl.DataFrame, images: pl.LazyFrame, settings: ImageDuplicates
) -> tuple[Integers, Integers, Floats]:
    """Nearly identical pictures as positions in ``pictures`` (item_id, sha256, phash), and scores."""
    if pictures.height <= EXHAUSTIVE_PICTURES:
        found = PairList(pictures.height)
        thumbnails = load_thumbnails(images, pictures["sha256"])
        every = np.arange(pictures.height)
        verify(found, _products(thumbnails, every, None, settings), _measure(thumbnails, settings))
        return found.pairs()
    # Candidates first, so that only thumbnails that one of them needs are in memory.
    keys = _pair_keys(
        itertools.chain(
            _near_hashes(pictures["phash"].to_numpy(), settings.max_hash_distance, _LARGE_CLASS),
            _near_views(images, pictures["sha256"], settings),
        ),
        pictures.height,
    )
    left, right = np.divmod(keys, pictures.height)
    involved = np.unique(np.concatenate([left, right]))
    thumbnails = load_thumbnails(images, pictures["sha256"].gather(involved))
    inner = PairList(len(involved))
    candidates = (
        (np.searchsorted(involved, left[start:stop]), np.searchsorted(involved, right[start:stop]))
        for start, stop in slices(len(left), _PAIRS_AT_ONCE)
    )
    verify(inner, candidates, _measure(thumbnails, settings))
    left, right, score = inner.pairs()
    return involved[left], involved[right], score


def _pair_keys(pairs: Iterable[Pair], count: int) -> Integers:
    """Distinct pairs as ``smaller * count + larger``, sorted."""
    found, new, room = np.zeros(0, np.int64), [], 0
    for left, right in pairs:
        new.append(np.minimum(left, right) * count + np.maximum(left, right))
        room += len(left)
        if room > max(len(found), _PAIRS_AT_ONCE):  # merged now and then: a pair comes up in many views
            found, new, room = np.unique(np.concatenate([found, *new])), [], 0
    return np.unique(np.concatenate([found, *new]))


def _measure(
    thumbnails: Pixels, settings: ImageDuplicates
) -> Callable[[Integers, Integers], tuple[Flags, Floats]]:
    return lambda left, right: near_pictures(thumbnails, left, right, settings)


def _near_hashes(hashes: Hashes, distance: int, largest: int | None = None) -> Iterator[Pair]:
    """All pairs of 64-bit hashes that differ in at most ``distance`` bits, each once.

    Exact, by the pigeonhole principle: of distance + 2 bands of bits two must be equal. With ``largest``, sets of more
    than that many hashes that are equal in two bands are left out, which bounds the time.
    """
    edges = np.linspace(0, 64, distance + 3).astype(int)
    bands = [np.uint64(((1 << int(high - low)) - 1) << int(low)) for low, high in itertools.pairwise(edges)]
    masks = [one | other for one, other in itertools.combinations(bands, 2)]
    numbers = np.arange(len(hashes), dtype=np.uint64)
    number_bits = np.uint64(len(hashes).bit_length())
    numbers_mask = (np.uint64(1) << number_bits) - np.uint64(1)
    for number, mask in enumerate(masks):
        # Sorting one number, of a hash of the bits and the position, takes a tenth of the time of an argsort.
        keys = (hashes & mask) * _SPREAD & ~numbers_mask | numbers
        keys.sort()
        rows = (keys & numbers_mask).astype(np.int64)
        keys >>= number_bits
        starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        sizes = np.diff(starts, append=len(keys))
        is_searched = np.repeat((sizes > 1) & (sizes <= (largest or len(keys))), sizes)
        rows, keys = rows[is_searched], keys[is_searched]
        for one, other in pairs_with_equal_keys(keys, order=np.arange(len(keys))):
            left, right = rows[one], rows[other]
            bits = hashes[left] ^ hashes[right]
            is_new = (np.bitwise_count(bits) <= distance) & (bits & mask == 0)
            for earlier in masks[:number] if largest is None else ():
                is_new &= (bits & earlier) != 0
            yield left[is_new], right[is_new]


def _near_views(images: pl.LazyFrame, sha256: pl.Series, settings: ImageDuplicates) -> Iterator[Pair]:
    """Pairs of which one looks like a view of the other: the other as it is, cropped, mirrored or turned; or of which a
    strip looks like the same strip of the other.

    At most NEIGHBOURS others a picture, those whose views correlate most with it, VIEW_SIMILARITY or more. A pair
    may come up twice. What is compared are the lowest frequencies of luminance, as in pHash, but their values and
    not their signs; without the edges, so that a border covers nothing of it. Pictures of one luminance are left out.
    """
    crops = CROPS if "crop" in settings.changes else CROPS[:1]
    plain, *_ = waves = [(_waves(top, bottom), _waves(left, right)) for left, top, right, bottom in crops]

    def views(thumbnails: Pixels) -> Iterator[Values]:
        for number, lying in enumerate(turned(thumbnails, settings)):
            grey = luminance(lying)
            yield from (_spectra(grey, view) for view in (waves if number == 0 else waves[:1]))

    yield from _alike(images, sha256, lambda thumbnails: _spectra(luminance(thumbnails), plain), views)
    for left, top, right, bottom in STRIPS if "overlay" in settings.changes else ():
        strip = (_waves(top, bottom), _waves(left, right))
        yield from _alike(images, sha256, functools.partial(_spectra_of_photos, waves=strip))


def _spectra_of_photos(thumbnails: Pixels, waves: tuple[Values, Values]) -> Values:
    return _spectra(luminance(thumbnails), waves) * are_textured(thumbnails)[:, None]


def _alike(
    images: pl.LazyFrame,
    sha256: pl.Series,
    own: Callable[[Pixels], Values],
    views: Callable[[Pixels], Iterable[Values]] | None = None,
) -> Iterator[Pair]:
    """Pairs of which a view of one (None: what it is itself) correlates with the other as ``own`` has it."""
    vectors = np.zeros((len(sha256), _WAVES**2), np.float32)
    for at, thumbnails in thumbnail_batches(images, sha256):
        vectors[at] = own(thumbnails)
    if not vectors.any():
        return
    cells = _Cells(vectors)
    del vectors
    for at, thumbnails in thumbnail_batches(images, sha256):
        parts = [
            cells.near(view, VIEW_SIMILARITY) for view in (views(thumbnails) if views else [own(thumbnails)])
        ]
        row, other, similarity = (np.concatenate([part[k] for part in parts]) for k in range(3))
        row = at[row]
        is_other = row != other
        yield _best(row[is_other], other[is_other], similarity[is_other])


def _best(row: Integers, other: Integers, similarity: Values) -> Pair:
    """Of every row the NEIGHBOURS others of the highest similarity, each once."""
    order = np.lexsort((-similarity, other, row))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(row[order]) != 0) | (np.diff(other[order]) != 0)
    order = order[is_first]
    order = order[np.lexsort((other[order], -similarity[order], row[order]))]
    starts = np.flatnonzero(np.diff(row[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    order = order[place < NEIGHBOURS]
    return row[order], other[order]


def _waves(start: float, end: float) -> Values:
    """Matrix from a row of pixels to the lowest cosines of it without these shares, nor _EDGE of the rest, at its ends."""
    side, rest = THUMBNAIL_SIDE_PX, 1 - start - end
    start, end = start + _EDGE * rest, end + _EDGE * rest
    at = (np.arange(side) + 0.5) / side
    place = np.clip((start + at * (1 - start - end)) * side - 0.5, 0, side - 1)
    between = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(side)))
    cosines = np.cos(np.pi * np.arange(_WAVES)[:, None] * at)
    cosines[0] *= np.sqrt(0.5)
    return np.asarray(cosines @ between, np.float32)


def _spectra(grey: Values, waves: tuple[Values, Values]) -> Values:
    """Lowest frequencies of luminance but its mean, of length 1; of one luminance: zeros. Shape (pictures, waves)."""
    down, across = waves
    low = (down @ grey @ across.T).reshape(len(grey), _WAVES**2)
    low[:, 0] = 0
    length = np.sqrt(np.einsum("ij,ij->i", low, low))
    return np.asarray(low / np.where(length > 1, length, np.inf)[:, None], np.float32)


class _Cells:
    """Vectors of length 1 by the nearest of some centres: an inverted file (Sivic and Zisserman 2003).

    The centres follow the vectors (spherical k-means; Dhillon and Modha 2001), so that no cell is much larger than
    others. One that is all the same lists only its first vectors, which bounds the time whatever the vectors are.
    Centres that nearly coincide are joined: near copies would lie in more cells than are looked at.
    """

    def __init__(self, vectors: Values) -> None:
        """Vectors of length 0 are left out."""
        rows = np.flatnonzero(np.einsum("ij,ij->i", vectors, vectors) > 0)
        count = max(1, round(_CELLS_PER_ROOT * np.sqrt(len(rows))))
        self._centres = _apart(self._fitted(vectors, rows, min(count, len(rows))))
        homes = self._nearest(vectors[rows], 1)[:, 0]
        order = np.argsort(homes, kind="stable")
        rows, homes = rows[order], homes[order]
        place = np.arange(len(rows)) - np.searchsorted(homes, homes)
        is_listed = place < max(NEIGHBOURS, _CROWD * len(rows) // count)
        self._rows, homes = rows[is_listed], homes[is_listed]
        self._vectors = vectors[self._rows]
        self._offsets = np.searchsorted(homes, np.arange(len(self._centres) + 1))

    def near(self, queries: Values, least: float) -> tuple[Integers, Integers, Values]:
        """Query, row of a vector and similarity, ``least`` or more, of those in the cells nearest to each query.

        Where many are, a query has its NEIGHBOURS + 1 most similar of each cell: one of them may be itself.
        """
        cells = self._nearest(queries, _PROBED_CELLS)
        asking = np.repeat(np.arange(len(queries)), cells.shape[1])
        order = np.argsort(cells.ravel(), kind="stable")
        asking, cells = asking[order], cells.ravel()[order]
        starts = np.flatnonzero(np.diff(cells, prepend=-1))
        none = np.zeros(0, np.int64)
        found = [(none, none, np.zeros(0, np.float32))]
        for start, stop in zip(starts, [*starts[1:], len(cells)], strict=True):
            first, last = self._offsets[cells[start]], self._offsets[cells[start] + 1]
            for begin in range(start, stop, _GEMM_ROWS):
                ask = asking[begin : min(begin + _GEMM_ROWS, stop)]
                products = queries[ask] @ self._vectors[first:last].T
                is_near = products >= least
                if np.count_nonzero(is_near) > (NEIGHBOURS + 1) * len(ask):
                    best = np.argpartition(products, -NEIGHBOURS - 1, axis=1)[:, -NEIGHBOURS - 1 :]
                    is_best = np.zeros_like(is_near)
                    np.put_along_axis(is_best, best, True, axis=1)
                    is_near &= is_best
                i, j = np.nonzero(is_near)
                found.append((ask[i], self._rows[first + j], products[i, j]))
        query, row, similarity = (np.concatenate([part[k] for part in found]) for k in range(3))
        return query, row, similarity

    def _nearest(self, queries: Values, count: int) -> Integers:
        """The nearest centres of every query that has a length, shape (queries, count); fewer if there are fewer."""
        count = min(count, len(self._centres))
        nearest = np.zeros((len(queries), count), np.int64)
        for start, stop in slices(len(queries), _GEMM_ROWS):
            products = queries[start:stop] @ self._centres.T
            for number in range(count):
                best = products.argmax(axis=1)
                nearest[start:stop, number] = best
                products[np.arange(len(best)), best] = -np.inf
        return nearest

    def _fitted(self, vectors: Values, rows: Integers, count: int) -> Values:
        """Centres of the vectors at ``rows``, by Lloyd's steps on a sample spread evenly over them."""
        if count == 0:
            return np.zeros((1, vectors.shape[1]), np.float32)
        size = min(len(rows), count * _SAMPLE_PER_CELL)
        sample = vectors[rows[np.arange(size) * len(rows) // size]]
        centres = sample[np.arange(count) * size // count]
        for _ in range(_LLOYD_STEPS):
            self._centres = centres
            homes = self._nearest(sample, 1)[:, 0]
            order = np.argsort(homes, kind="stable")
            present, starts = np.unique(homes[order], return_index=True)
            sums = np.add.reduceat(sample[order], starts, axis=0)
            length = np.sqrt(np.einsum("ij,ij->i", sums, sums))[:, None]
            centres = centres.copy()
            centres[present] = np.where(length > 0, sums / np.maximum(length, 1e-6), centres[present])
        return centres


def _apart(centres: Values) -> Values:
    """Centres without those that nearly coincide with one that stays; each of these stands for _CENTRES_JOINED at most,
    as one for all of a large crowd would make a cell that lists only a part of it."""
    stands_for = np.zeros(len(centres), np.int64)
    for number, centre in enumerate(centres):
        has_room = np.flatnonzero((stands_for > 0) & (stands_for < _CENTRES_JOINED))
        same = has_room[centres[has_room] @ centre >= _SAME_CENTRE]
        stands_for[same[0] if len(same) else number] += 1
    return centres[stands_for > 0]


def _products(
    thumbnails: Pixels, rows: Integers, others: Integers | None, settings: ImageDuplicates
) -> Iterator[Pair]:
    """Pairs of ``rows`` and ``others`` (None: all pairs among ``rows``) that may be near, by products of blocks of a
    matrix."""
    columns = rows if others is None else others
    for other, end in slices(len(columns), _GEMM_ROWS):
        lying = [quick(block, settings) for block in turned(thumbnails[columns[other:end]], settings)]
        for start, stop in slices(len(rows) if others is not None else end, _GEMM_ROWS):
            block = (
                lying[0]
                if others is None and start == other
                else quick(thumbnails[rows[start:stop]], settings)
            )
            found = np.logical_or.reduce([may_be_near(block, one, settings) for one in lying])
            i, j = np.nonzero(found)
            if others is None:
                is_once = start + i < other + j
                i, j = i[is_once], j[is_once]
            yield rows[start + i], columns[other + j]
