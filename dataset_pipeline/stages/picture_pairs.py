"""Find pictures that are nearly the same.

Belongs here: the search for pairs. Does not belong here: what counts as nearly the same (``similarity``), and
what is done about it (``duplicates``). Candidates are by 64-bit pHash within ``max_hash_distance`` (exact, by the
pigeonhole principle: of d + 1 bands of bits one must be equal) and by hashes of what changed copies would look like, or
all pairs of up to EXHAUSTIVE_PICTURES; they are verified on thumbnails.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import ImageDuplicates
from dataset_pipeline.stages.pair_search import (
    Hashes,
    Pair,
    PairList,
    pairs_with_equal_keys,
    parts_of,
    verify,
)
from dataset_pipeline.stages.similarity import (
    Flags,
    Floats,
    Integers,
    Pixels,
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
beyond, those whose hashes are near."""

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

_GEMM_ROWS = 2048
_LARGE_CLASS = 256


def near_picture_pairs(
    pictures: pl.DataFrame, images: pl.LazyFrame, settings: ImageDuplicates
) -> tuple[Integers, Integers, Floats]:
    """Nearly identical pictures as positions in ``pictures`` (item_id, sha256, phash), and scores."""
    hashes = pictures["phash"].to_numpy()
    found = PairList(pictures.height)
    if pictures.height <= EXHAUSTIVE_PICTURES:
        thumbnails = load_thumbnails(images, pictures["sha256"])
        every = np.arange(pictures.height)
        verify(found, _products(thumbnails, every, None, settings), _measure(thumbnails, settings))
        return found.pairs()
    # Two passes, so that only thumbnails that some candidate needs are in memory.
    views = _hashes_of_views(images, pictures["sha256"], settings)
    is_involved = np.zeros(pictures.height, bool)
    for left, right in itertools.chain(
        _near_hashes(hashes, settings.max_hash_distance), _near_views(views, settings.max_hash_distance)
    ):
        is_involved[left] = is_involved[right] = True
    involved = np.flatnonzero(is_involved)
    thumbnails = load_thumbnails(images, pictures["sha256"].gather(involved))
    candidates = itertools.chain(
        _near_hash_pictures(hashes[involved], thumbnails, settings),
        _near_views(views[involved], settings.max_hash_distance),
    )
    inner = PairList(len(involved))
    verify(inner, candidates, _measure(thumbnails, settings))
    left, right, score = inner.pairs()
    # A pair may come up in several views.
    left, right = np.minimum(left, right), np.maximum(left, right)
    _, once = np.unique(left * len(involved) + right, return_index=True)
    return involved[left[once]], involved[right[once]], score[once]


def _measure(
    thumbnails: Pixels, settings: ImageDuplicates
) -> Callable[[Integers, Integers], tuple[Flags, Floats]]:
    return lambda left, right: near_pictures(thumbnails, left, right, settings)


def _hashes_of_views(images: pl.LazyFrame, sha256: pl.Series, settings: ImageDuplicates) -> Hashes:
    """64-bit hashes of every picture as a changed copy would look, shape (pictures, views); as it is comes first.

    Signs of the 8 x 8 lowest frequencies of luminance about their median, as in pHash, of the thumbnail: cropped by
    each of CROPS; and in every position of ``settings.changes``.
    """
    crops = CROPS if "crop" in settings.changes else CROPS[:1]
    waves = [(_waves(top, bottom), _waves(left, right)) for left, top, right, bottom in crops]
    parts: list[Hashes] = []
    order: list[Integers] = []
    for at, thumbnails in thumbnail_batches(images, sha256):
        columns = []
        for number, lying in enumerate(turned(thumbnails, settings)):
            grey = luminance(lying)
            for down, across in waves if number == 0 else waves[:1]:
                low = (down @ grey @ across.T).reshape(len(grey), 64)
                bits = low > np.median(low, axis=1, keepdims=True)
                columns.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
        parts.append(np.stack(columns, axis=1))
        order.append(at)
    return np.concatenate(parts)[np.argsort(np.concatenate(order))]


def _waves(start: float, end: float) -> npt.NDArray[np.float32]:
    """Matrix from a row of pixels to the 8 lowest cosines of it without these shares of its length at its ends."""
    side = THUMBNAIL_SIDE_PX
    at = (np.arange(side) + 0.5) / side
    place = np.clip((start + at * (1 - start - end)) * side - 0.5, 0, side - 1)
    between = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(side)))
    cosines = np.cos(np.pi * np.arange(8)[:, None] * at)
    cosines[0] *= np.sqrt(0.5)
    return np.asarray(cosines @ between, np.float32)


def _near_views(views: Hashes, distance: int) -> Iterator[Pair]:
    """Pairs of which one as it is (column 0) is within ``distance`` bits of a view (another column) of the other.

    Exact, by the pigeonhole principle: of distance + 2 bands of bits two must be equal. Hashes that more than
    _LARGE_CLASS pictures share, mostly of blank ones, are left out: such pictures are compared as they are.
    """
    if views.shape[1] < 2:
        return
    count, others = len(views), views.shape[1] - 1
    plain, changed = views[:, 0], views[:, 1:].ravel()
    edges = np.linspace(0, 64, distance + 3).astype(int)
    rows, columns = (np.flatnonzero(_is_rare(values)) for values in (plain, changed))
    for bands in itertools.combinations(itertools.pairwise(edges), 2):
        mask = np.uint64(sum(((1 << int(high - low)) - 1) << int(low) for low, high in bands))
        keys, order = plain[rows] & mask, np.argsort(changed[columns] & mask, kind="stable")
        ordered = (changed[columns] & mask)[order]
        first = np.searchsorted(ordered, keys)
        counts = np.searchsorted(ordered, keys, side="right") - first
        for start, stop in parts_of(counts):
            part = counts[start:stop]
            left = np.repeat(np.arange(start, stop), part)
            within = np.arange(len(left)) - np.repeat(np.cumsum(part) - part, part)
            left, right = rows[left], columns[order[first[left] + within]]
            is_near_hash = np.bitwise_count(plain[left] ^ changed[right]) <= distance
            left, right = left[is_near_hash], right[is_near_hash] // others
            pairs = np.unique(np.minimum(left, right) * count + np.maximum(left, right))
            left, right = np.divmod(pairs, count)
            yield left[left < right], right[left < right]


def _is_rare(values: Hashes) -> Flags:
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(sizes[group] <= _LARGE_CLASS)


def _near_hash_pictures(hashes: Hashes, thumbnails: Pixels, settings: ImageDuplicates) -> Iterator[Pair]:
    """Candidates: pictures of equal pHash, then of pHashes that differ in a few bits."""
    values, group, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    members = np.argsort(group, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    for large in np.flatnonzero(sizes > _LARGE_CLASS):
        # Many pictures of one pHash: mostly blank ones. A matrix product rules pairs out 100 times faster.
        rows = members[offsets[large] : offsets[large + 1]]
        yield from _products(thumbnails, rows, None, settings)
    small = np.flatnonzero(sizes[group] <= _LARGE_CLASS)
    for left, right in pairs_with_equal_keys(hashes[small]):
        yield small[left], small[right]
    for a, b in _near_hashes(values, settings.max_hash_distance):
        is_large = sizes[a] * sizes[b] > _LARGE_CLASS**2
        for i, j in zip(a[is_large], b[is_large], strict=True):
            rows, others = (members[offsets[of] : offsets[of + 1]] for of in (i, j))
            yield from _products(thumbnails, rows, others, settings)
        a, b = a[~is_large], b[~is_large]  # noqa: PLW2901
        counts = sizes[a] * sizes[b]
        for start, stop in parts_of(counts):
            part = counts[start:stop]
            pair = np.repeat(np.arange(start, stop), part)
            within = np.arange(len(pair)) - np.repeat(np.cumsum(part) - part, part)
            yield (
                members[offsets[a[pair]] + within // sizes[b[pair]]],
                members[offsets[b[pair]] + within % sizes[b[pair]]],
            )


def _near_hashes(hashes: Hashes, distance: int) -> Iterator[Pair]:
    """All pairs of 64-bit hashes that differ in at most ``distance`` bits, each once."""
    edges = np.linspace(0, 64, distance + 2).astype(int)
    bands = [
        (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        for low, high in itertools.pairwise(edges)
    ]
    for number, band in enumerate(bands):
        for left, right in pairs_with_equal_keys(band):
            is_near_hash = np.bitwise_count(hashes[left] ^ hashes[right]) <= distance
            left, right = left[is_near_hash], right[is_near_hash]  # noqa: PLW2901
            for earlier in bands[:number]:
                is_new = earlier[left] != earlier[right]
                left, right = left[is_new], right[is_new]  # noqa: PLW2901
            yield left, right


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
