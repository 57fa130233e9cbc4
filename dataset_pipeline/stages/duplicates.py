"""Find duplicate items, keep one of each set, and name the sets.

Belongs here: the search for candidate pairs, which of two duplicates stays, and the report. Does not
belong here: what counts as the same (``similarity``), and what may not cross splits (``split``).

The search works on distinct pictures and distinct texts, never on items, so that a million copies cost
as much as one. Its worst case is bounded in memory, always: candidates come as a stream, and once
PAIRS_PER_NODE pairs a picture (or text) are listed, only pairs that join two sets are looked for. Sets of
duplicates are exact all the same; only the list of pairs inside one huge set is cut short.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import Duplicates, ImageDuplicates, TextDuplicates
from dataset_pipeline.stages.similarity import (
    Flags,
    Floats,
    Integers,
    Pixels,
    Shingles,
    components,
    jaccard,
    load_thumbnails,
    luminance,
    may_be_near,
    near_pictures,
    pictures_of,
    quick,
    shingles,
    slices,
    text_chars,
    text_key,
    thumbnail_batches,
    turned,
)
from dataset_pipeline.tables import DEDUPLICATED, PAIRS, REMOVED, THUMBNAIL_SIDE_PX, empty

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

PAIRS_PER_NODE = 64
"""So many pairs are listed per distinct picture or text, on average, before only joining ones are."""

EXACT_MINHASH_MISSES = 1e-4
"""Chance, at most, that MinHash misses a pair of texts whose similarity is exactly the threshold."""

CONFLICT_COLUMNS = ("label", "licence", "author", "published_split")

_CANDIDATES_AT_ONCE = 1 << 17
_GEMM_ROWS = 2048
_LARGE_CLASS = 256

Pair = tuple[Integers, Integers]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Deduplicated:
    """Kept items (DEDUPLICATED + texts), removed rows (REMOVED), and what duplicates disagreed on."""

    items: pl.LazyFrame
    removed: pl.LazyFrame
    conflicts: pl.DataFrame
    """item_id (removed), kept_item_id, column, value, kept_value: where the two differ."""


# -- pairs ---------------------------------------------------------------------------------


def find_pairs(
    items: pl.LazyFrame, images: pl.LazyFrame, text_names: Sequence[str], settings: Duplicates
) -> pl.DataFrame:
    """Verified duplicate pairs of ``items`` (ITEMS + texts): PAIRS, sorted, each pair once a kind.

    ``images``: sha256, pixel_hash, phash, thumbnail of every picture. Identical files, identical pixels and
    identical texts are stars around their first item; ``near_image`` pairs join the first items of
    two pictures, ``near_text`` those of two texts.

    Pictures: candidates by 64-bit pHash within ``max_hash_distance`` (exact, by the pigeonhole principle: of
    d + 1 bands of bits one must be equal) and by hashes of what changed copies would look like, or all pairs of up to
    EXHAUSTIVE_PICTURES; verified on thumbnails.
    Texts: MinHash (Broder 1997) with banding (Leskovec, Rajaraman and Ullman, ch. 3); verified by Jaccard.
    """
    keyed = items.select("item_id", "image_sha256", text_key=text_key(text_names)).sort("item_id").collect()
    found = [empty(PAIRS), _star(keyed, "image_sha256", "same_bytes"), _star(keyed, "text_key", "same_text")]

    files = pictures_of(keyed.lazy(), images)
    found.append(_star(files, "pixel_hash", "same_pixels"))
    if settings.image.near:
        pictures = (
            files.group_by("pixel_hash")
            .agg(pl.col("item_id").min(), pl.col("sha256").min(), pl.col("phash").sort_by("sha256").first())
            .sort("item_id")
        )
        near = _near_pictures(pictures, images, settings.image)
        found.append(_pair_table(pictures["item_id"], near, "near_image"))
    if settings.text.near:
        texts = (
            keyed.drop_nulls("text_key")
            .group_by("text_key")
            .agg(pl.col("item_id").min())
            .filter(text_chars(pl.col("text_key")) >= settings.text.min_chars)
            .sort("item_id")
        )
        found.append(
            _pair_table(texts["item_id"], _near_texts(texts["text_key"], settings.text), "near_text")
        )
    return pl.concat(found).sort("item_id", "other_item_id", "kind")


def _star(frame: pl.DataFrame, key: str, kind: str) -> pl.DataFrame:
    """Every row paired with the first id that has the same key."""
    return (
        frame.lazy()
        .select("item_id", key)
        .drop_nulls(key)
        .with_columns(first=pl.col("item_id").min().over(key))
        .filter(pl.col("item_id") != pl.col("first"))
        .select(
            item_id="first",
            other_item_id="item_id",
            kind=pl.lit(kind, pl.String),
            score=pl.lit(1.0, pl.Float64),
        )
        .collect()
    )


def _pair_table(ids: pl.Series, found: tuple[Integers, Integers, Floats], kind: str) -> pl.DataFrame:
    left, right, score = found
    return pl.DataFrame(
        {
            "item_id": ids.gather(np.minimum(left, right)),
            "other_item_id": ids.gather(np.maximum(left, right)),
            "kind": pl.repeat(kind, len(left), dtype=pl.String, eager=True),
            "score": np.round(np.clip(score, 0.0, 1.0), 6),
        },
        schema=dict(PAIRS),
    )


class _PairList:
    """Verified pairs so far; knows which nodes they already join once there are many."""

    def __init__(self, count: int) -> None:
        self.labels: Integers = np.arange(count)
        self._room = PAIRS_PER_NODE * count
        self._kept: list[tuple[Integers, Integers, Floats]] = []

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    def unknown(self, left: Integers, right: Integers) -> Flags:
        """Which candidates are worth a look: all, or once full those that may join two sets."""
        if self.is_full:
            return np.asarray(self.labels[left] != self.labels[right])
        return np.ones(len(left), bool)

    def add(self, left: Integers, right: Integers, score: Floats) -> None:
        if len(left) == 0:
            return
        self._kept.append((left, right, score))
        self._room -= len(left)
        nodes = np.arange(len(self.labels))
        self.labels = components(
            len(nodes), np.concatenate([nodes, left]), np.concatenate([self.labels, right])
        )

    def pairs(self) -> tuple[Integers, Integers, Floats]:
        none = np.zeros(0, np.int64)
        kept = [(none, none, np.zeros(0)), *self._kept]
        left, right, score = (np.concatenate([part[k] for part in kept]) for k in range(3))
        return left, right, score


def _verified(
    found: _PairList,
    candidates: Iterable[Pair],
    measure: Callable[[Integers, Integers], tuple[Flags, Floats]],
) -> None:
    """Measure the candidates and keep those that hold."""
    for left, right in candidates:
        for start in range(0, len(left), _CANDIDATES_AT_ONCE):
            i, j = left[start : start + _CANDIDATES_AT_ONCE], right[start : start + _CANDIDATES_AT_ONCE]
            unknown = found.unknown(i, j)
            i, j = i[unknown], j[unknown]
            holds, score = measure(i, j)
            found.add(i[holds], j[holds], score[holds])


def _pairs_with_equal_keys(keys: npt.NDArray[np.generic], found: _PairList | None = None) -> Iterator[Pair]:
    """All pairs of positions whose keys are equal, in parts of bounded size.

    With a full ``found``, sets of equal keys that are joined already are left out.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_start = np.ones(len(keys), bool)
    is_start[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_start)
    group = np.cumsum(is_start) - 1
    ends = np.append(starts[1:], len(keys))[group]
    partners = ends - np.arange(len(keys)) - 1
    position = 0
    while position < len(keys):
        if found is not None and found.is_full:
            labels = found.labels[order]
            is_joined = np.minimum.reduceat(labels, starts) == np.maximum.reduceat(labels, starts)
            partners = np.where(is_joined[group], 0, partners)
        total = np.cumsum(partners[position:])
        step = max(int(np.searchsorted(total, _CANDIDATES_AT_ONCE)), 1)
        rows = np.arange(position, min(position + step, len(keys)))
        counts = partners[rows]
        left = np.repeat(rows, counts)
        if len(left):
            right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
            yield order[left], order[right]
        position += step


# -- near pictures -------------------------------------------------------------------------


def _near_pictures(
    pictures: pl.DataFrame, images: pl.LazyFrame, settings: ImageDuplicates
) -> tuple[Integers, Integers, Floats]:
    """Nearly identical pictures as positions in ``pictures`` (item_id, sha256, phash), and scores."""
    hashes = pictures["phash"].to_numpy()
    found = _PairList(pictures.height)
    if pictures.height <= EXHAUSTIVE_PICTURES:
        thumbnails = load_thumbnails(images, pictures["sha256"])
        every = np.arange(pictures.height)
        _verified(found, _products(thumbnails, every, None, settings), _measure(thumbnails, settings))
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
    inner = _PairList(len(involved))
    _verified(inner, candidates, _measure(thumbnails, settings))
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
        for start, stop in _parts(counts, _CANDIDATES_AT_ONCE):
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
    for left, right in _pairs_with_equal_keys(hashes[small]):
        yield small[left], small[right]
    for a, b in _near_hashes(values, settings.max_hash_distance):
        is_large = sizes[a] * sizes[b] > _LARGE_CLASS**2
        for i, j in zip(a[is_large], b[is_large], strict=True):
            rows, others = (members[offsets[of] : offsets[of + 1]] for of in (i, j))
            yield from _products(thumbnails, rows, others, settings)
        a, b = a[~is_large], b[~is_large]  # noqa: PLW2901
        counts = sizes[a] * sizes[b]
        for start, stop in _parts(counts, _CANDIDATES_AT_ONCE):
            part = counts[start:stop]
            pair = np.repeat(np.arange(start, stop), part)
            within = np.arange(len(pair)) - np.repeat(np.cumsum(part) - part, part)
            yield (
                members[offsets[a[pair]] + within // sizes[b[pair]]],
                members[offsets[b[pair]] + within % sizes[b[pair]]],
            )


def _parts(counts: Integers, size: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges whose counts add up to about ``size``."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + size, side="right")), start + 1)
        yield start, stop
        start = stop


def _near_hashes(hashes: Hashes, distance: int) -> Iterator[Pair]:
    """All pairs of 64-bit hashes that differ in at most ``distance`` bits, each once."""
    edges = np.linspace(0, 64, distance + 2).astype(int)
    bands = [
        (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        for low, high in itertools.pairwise(edges)
    ]
    for number, band in enumerate(bands):
        for left, right in _pairs_with_equal_keys(band):
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


# -- near texts ----------------------------------------------------------------------------


def _near_texts(keys: pl.Series, settings: TextDuplicates) -> tuple[Integers, Integers, Floats]:
    """Nearly identical texts as positions in ``keys``, and their Jaccard similarity."""
    found = _PairList(len(keys))
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
            for i, j in _pairs_with_equal_keys(bands[has_shingles, number], found):
                left, right = has_shingles[i], has_shingles[j]
                # Similarity is at most the ratio of the sizes; a pair of an earlier band is known.
                small = np.minimum(sets.sizes[left], sets.sizes[right])
                large = np.maximum(sets.sizes[left], sets.sizes[right])
                is_new = small >= settings.min_jaccard * large
                for earlier in range(number):
                    is_new &= bands[left, earlier] != bands[right, earlier]
                yield left[is_new], right[is_new]

    _verified(found, candidates(), measure)
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


# -- which one stays -----------------------------------------------------------------------


def deduplicate(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    pairs: pl.DataFrame,
    text_names: Sequence[str],
    settings: Duplicates,
    human_sources: Sequence[str],
) -> Deduplicated:
    """Keep one item of every set of duplicates; all others are removed, each naming the kept one.

    Two items are duplicates when they share what ``settings.item`` says, exactly or nearly, and do not differ
    in a column of ``settings.distinct_by``. Of picture and text only one may be nearly the same: variants differ
    a little in both (a drawing of two men holding hands, one of two women, and one word of the caption); they
    stay, joined by their pairs. A removed item was compared with the kept item itself: being like something
    that is like it is not enough. The kept item takes over the group keys of those it stands for.

    ``duplicate_group`` is the smallest kept item_id among all items joined by any chain of ``pairs``.
    Rows are sorted by item_id; kept and removed rows together are the rows of ``items``.
    """
    table = _ranked(items, images, text_names, settings, human_sources)
    mode = _mode(table, text_names, settings)
    removals = _removals(table, images, pairs, mode, settings)
    removed = removals.select(
        "item_id",
        pl.lit("duplicates").alias("stage"),
        pl.lit("duplicate").alias("reason"),
        "detail",
        "kept_item_id",
    ).sort("item_id")
    kept = (
        items.join(removals.lazy().select("item_id"), on="item_id", how="anti")
        .join(_inherited_keys(items, removals).lazy(), on="item_id", how="left")
        .with_columns(pl.coalesce("inherited", "group_keys").alias("group_keys"))
        .join(_duplicate_groups(table["item_id"], pairs, removals).lazy(), on="item_id", how="left")
        .select(*DEDUPLICATED, *text_names)
        .sort("item_id")
    )
    removed = removed.select(pl.col(name).cast(dtype) for name, dtype in REMOVED.items())
    return Deduplicated(kept, removed.lazy(), _conflicts(items, removals))


Mode = Literal["image_and_text", "image", "text", "never"]


def _mode(table: pl.DataFrame, text_names: Sequence[str], settings: Duplicates) -> Mode:
    """What two items must share, once ``auto`` is resolved by what the dataset has."""
    if settings.item != "auto":
        return settings.item
    has_images = table["pixel_hash"].null_count() < table.height
    if not text_names:
        return "image"
    return "image_and_text" if has_images else "text"


def _ranked(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    text_names: Sequence[str],
    settings: Duplicates,
    human_sources: Sequence[str],
) -> pl.DataFrame:
    """One row an item, the one to keep first: its picture, its text and what keeps it apart."""
    rules = {
        "human_label": pl.col("label").is_not_null() & pl.col("label_source").is_in(list(human_sources)),
        "resolution": pl.col("area_px").fill_null(0),
        "text_length": pl.sum_horizontal(pl.col(name).str.len_chars().fill_null(0) for name in text_names)
        if text_names
        else pl.lit(0),
    }
    pictures = (
        images.select(
            "sha256",
            "pixel_hash",
            area_px=pl.col("width_px").cast(pl.Int64) * pl.col("height_px").cast(pl.Int64),
        )
        .drop_nulls("pixel_hash")
        .unique("sha256", keep="any")
    )
    return (
        items.join(pictures, left_on="image_sha256", right_on="sha256", how="left")
        .with_columns(rules[rule].fill_null(False).alias(f"rule_{rule}") for rule in settings.keep)
        .sort(
            *(f"rule_{rule}" for rule in settings.keep),
            "item_id",
            descending=[True] * len(settings.keep) + [False],
        )
        .select(
            "item_id",
            "image_sha256",
            "pixel_hash",
            text_key(text_names).alias("text_key"),
            apart=pl.concat_str(
                [pl.lit("")] + [pl.col(name).fill_null("\0") for name in settings.distinct_by],
                separator="\x1f",
            ),
        )
        .with_row_index("rank")
        .collect()
    )


_REMOVALS = {"item_id": pl.String(), "kept_item_id": pl.String(), "detail": pl.String()}


def _removals(
    table: pl.DataFrame, images: pl.LazyFrame, pairs: pl.DataFrame, mode: Mode, settings: Duplicates
) -> pl.DataFrame:
    """Removed items with the item that stays for them, and how alike the two are."""
    uses_image, uses_text = mode in ("image", "image_and_text"), mode in ("text", "image_and_text")
    shared = [name for name, used in (("pixel_hash", uses_image), ("text_key", uses_text)) if used]
    if not shared:
        return empty(_REMOVALS)
    table = table.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in shared))
    best = ["item_id", "image_sha256", "rank"]
    if uses_image:
        table = table.with_columns(picture_set=_set_of(table, pairs, "near_image", "pixel_hash"))
    if uses_text:
        table = table.with_columns(text_set=_set_of(table, pairs, "near_text", "text_key"))
    table = table.with_columns(
        pl.col(name).sort_by("rank").first().over(*shared, "apart").alias(f"best_{name}") for name in best
    )
    near = _near_removals(
        table.filter(pl.col("item_id") == pl.col("best_item_id")), images, uses_image, uses_text, settings
    )
    same_picture = (
        pl.when(pl.col("image_sha256").eq_missing(pl.col("best_image_sha256")))
        .then(pl.lit("same_bytes"))
        .otherwise(pl.lit("same_pixels"))
    )
    said = [
        pl.when(pl.col("pixel_hash").is_not_null()).then(same_picture) if uses_image else None,
        pl.when(pl.col("text_key").is_not_null()).then(pl.lit("same_text")) if uses_text else None,
    ]
    exact_detail = pl.concat_str(
        [part for part in said if part is not None], separator=", ", ignore_nulls=True
    )
    return (
        table.join(near, left_on="best_item_id", right_on="item_id", how="left")
        # What equals a removed item pixel for pixel and text for text was compared with it to the kept one.
        .filter(pl.col("kept_item_id").is_not_null() | (pl.col("item_id") != pl.col("best_item_id")))
        .select(
            "item_id",
            pl.coalesce("kept_item_id", "best_item_id").alias("kept_item_id"),
            pl.coalesce("detail", exact_detail).alias("detail"),
        )
        .sort("item_id")
    )


def _near_removals(
    table: pl.DataFrame,
    images: pl.LazyFrame,
    uses_image: bool,
    uses_text: bool,
    settings: Duplicates,
) -> pl.DataFrame:
    """Of items that equal no better one, those that are nearly equal to a better one.

    Only items whose pictures and whose texts are joined by some chain of near pairs can be; among them the best
    is kept, all others are compared with it, and those it does not stand for go on to the next round.
    """
    joined = [name for name in ("picture_set", "text_set") if name in table.columns] + ["apart"]
    table = (
        table.filter(pl.len().over(joined) > 1)
        .with_columns(group=pl.col("rank").min().over(joined))
        .sort("group", "rank")
    )
    if table.height == 0:
        return empty(_REMOVALS)
    compare = _Comparison(table, images, uses_image, uses_text, settings)
    group = table["group"].to_numpy()
    remaining = np.arange(table.height)
    removed, kept, details = [], [], []
    while len(remaining):
        is_leader = np.ones(len(remaining), bool)
        is_leader[1:] = group[remaining[1:]] != group[remaining[:-1]]
        leaders = remaining[is_leader][np.cumsum(is_leader) - 1]
        followers, leaders = remaining[~is_leader], leaders[~is_leader]
        is_duplicate, detail = compare(leaders, followers)
        removed.append(followers[is_duplicate])
        kept.append(leaders[is_duplicate])
        details += [text for text, holds in zip(detail, is_duplicate, strict=True) if holds]
        remaining = followers[~is_duplicate]
    ids = table["item_id"]
    return pl.DataFrame(
        {
            "item_id": ids.gather(np.concatenate(removed)),
            "kept_item_id": ids.gather(np.concatenate(kept)),
            "detail": details,
        },
        schema=_REMOVALS,
    )


def _set_of(table: pl.DataFrame, pairs: pl.DataFrame, kind: str, key: str) -> Integers:
    """For every row, a number that rows have in common whose keys are joined by pairs of that kind."""
    codes = table[key].rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    ends = _positions(table["item_id"], pairs.filter(pl.col("kind") == kind))
    count = int(codes.max()) + 1 if len(codes) else 0
    return np.asarray(components(count, codes[ends[0]], codes[ends[1]])[codes])


def _positions(ids: pl.Series, pairs: pl.DataFrame) -> Pair:
    """Both ends of the pairs as positions in ``ids``; pairs with an end elsewhere are left out."""
    where = pl.DataFrame({"id": ids}).with_row_index("position")
    ends = (
        pairs.select("item_id", "other_item_id")
        .join(where, left_on="item_id", right_on="id", maintain_order="left")
        .join(where, left_on="other_item_id", right_on="id", suffix="_other", maintain_order="left")
    )
    return (
        ends["position"].cast(pl.Int64).to_numpy(),
        ends["position_other"].cast(pl.Int64).to_numpy(),
    )


class _Comparison:
    """Compares items of one table with each other, directly: pixels and texts."""

    def __init__(
        self,
        table: pl.DataFrame,
        images: pl.LazyFrame,
        uses_image: bool,
        uses_text: bool,
        settings: Duplicates,
    ) -> None:
        self._settings = settings
        self._file = _codes(table["image_sha256"])
        self._picture = _codes(table["pixel_hash"]) if uses_image else None
        self._text = _codes(table["text_key"]) if uses_text else None
        if uses_image:
            files = table.drop_nulls("pixel_hash").group_by("pixel_hash").agg(pl.col("image_sha256").min())
            files = files.sort("image_sha256")
            rows = table.select("pixel_hash").join(
                files.with_row_index("row"), on="pixel_hash", how="left", maintain_order="left"
            )
            self._row = rows["row"].cast(pl.Int64).fill_null(-1).to_numpy()
            self._thumbnails = load_thumbnails(images, files["image_sha256"])
        if uses_text:
            self._sets = shingles(table["text_key"].fill_null(""), settings.text.shingle_chars)
            self._chars = table.select(text_chars(pl.col("text_key"))).to_series().fill_null(0).to_numpy()

    def __call__(self, left: Integers, right: Integers) -> tuple[Flags, list[str]]:
        """Whether the items are duplicates, and in what way."""
        holds = np.ones(len(left), bool)
        said: list[list[str]] = []
        same_picture, same_text = (
            np.zeros(len(left), bool) if codes is None else codes[left] == codes[right]
            for codes in (self._picture, self._text)
        )
        if self._picture is not None:
            may_differ = np.ones(len(left), bool) if self._text is None else same_text
            near, score = self._compare(same_picture, may_differ, left, right, self._near_pictures)
            holds &= near
            same = np.where(self._file[left] == self._file[right], "same_bytes", "same_pixels")
            same = np.where(self._picture[left] > 0, same, "")  # neither has a picture
            said.append([f"near_image {s:.4f}" if s < 1 else way for s, way in zip(score, same, strict=True)])
        if self._text is not None:
            may_differ = np.ones(len(left), bool) if self._picture is None else same_picture
            near, score = self._compare(same_text, may_differ, left, right, self._near_texts)
            holds &= near
            same = np.where(self._text[left] > 0, "same_text", "")
            said.append([f"near_text {s:.4f}" if s < 1 else way for s, way in zip(score, same, strict=True)])
        return holds, [", ".join(filter(None, parts)) for parts in zip(*said, strict=True)]

    @staticmethod
    def _compare(
        is_same: Flags,
        may_differ: Flags,
        left: Integers,
        right: Integers,
        near: Callable[[Integers, Integers], tuple[Flags, Floats]],
    ) -> tuple[Flags, Floats]:
        holds, score = is_same.copy(), np.ones(len(left))
        other = np.flatnonzero(~is_same & may_differ)
        is_near_pair, similarity = near(left[other], right[other])
        holds[other] = is_near_pair
        score[other] = np.minimum(similarity, 0.9999)  # 1 is for what is identical
        return holds, score

    def _near_pictures(self, left: Integers, right: Integers) -> tuple[Flags, Floats]:
        i, j = self._row[left], self._row[right]
        settings = self._settings.image
        holds, similarity = near_pictures(self._thumbnails, np.maximum(i, 0), np.maximum(j, 0), settings)
        return holds & (i >= 0) & (j >= 0) & settings.near, similarity

    def _near_texts(self, left: Integers, right: Integers) -> tuple[Flags, Floats]:
        settings = self._settings.text
        score = jaccard(self._sets, left, right)
        is_long = np.minimum(self._chars[left], self._chars[right]) >= settings.min_chars
        return np.asarray((score >= settings.min_jaccard) & is_long & settings.near), score


def _codes(values: pl.Series) -> Integers:
    """Equal numbers for equal values, null included."""
    return values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _inherited_keys(items: pl.LazyFrame, removals: pl.DataFrame) -> pl.DataFrame:
    """item_id of kept items that stand for others, and the group keys of all of them together."""
    if removals.height == 0:
        return empty({"item_id": pl.String(), "inherited": pl.List(pl.String())})
    who = pl.concat(
        [
            removals.select("item_id", "kept_item_id"),
            removals.select(item_id="kept_item_id", kept_item_id="kept_item_id").unique(),
        ]
    )
    return (
        items.select("item_id", "group_keys")
        .join(who.lazy(), on="item_id")
        .explode("group_keys", empty_as_null=True, keep_nulls=True)
        .group_by("kept_item_id")
        .agg(pl.col("group_keys").drop_nulls().unique().sort())
        .select(item_id="kept_item_id", inherited="group_keys")
        .collect()
    )


def _duplicate_groups(ids: pl.Series, pairs: pl.DataFrame, removals: pl.DataFrame) -> pl.DataFrame:
    """item_id of every item, and the smallest kept id among all that chains of pairs join it to."""
    ids = ids.sort()
    left, right = _positions(ids, pairs)
    table = pl.DataFrame({"item_id": ids, "component": components(len(ids), left, right)})
    kept = table.join(removals.select("item_id"), on="item_id", how="anti")
    names = kept.group_by("component").agg(duplicate_group=pl.col("item_id").min())
    return table.join(names, on="component", how="left").select("item_id", "duplicate_group")


def _conflicts(items: pl.LazyFrame, removals: pl.DataFrame) -> pl.DataFrame:
    """Where a removed item and the one kept for it differ."""
    columns = list(CONFLICT_COLUMNS)
    values = items.select("item_id", *columns)
    both = (
        removals.lazy()
        .select("item_id", "kept_item_id")
        .join(values, on="item_id")
        .join(values, left_on="kept_item_id", right_on="item_id", suffix="_kept")
    )
    parts = [
        both.filter(pl.col(column).ne_missing(pl.col(f"{column}_kept"))).select(
            "item_id",
            "kept_item_id",
            column=pl.lit(column, pl.String),
            value=pl.col(column),
            kept_value=pl.col(f"{column}_kept"),
        )
        for column in columns
    ]
    return pl.concat(parts).sort("item_id", "column").collect()


# -- report --------------------------------------------------------------------------------


def duplicates_report(result: Deduplicated, pairs: pl.DataFrame, settings: Duplicates) -> dict[str, Any]:
    """Contents of ``reports/duplicates.json``.

    A set is all items, removed ones included, that share a ``duplicate_group``; sets of one are not counted.
    """
    kept = result.items.select("item_id", "duplicate_group").collect()
    removed = result.removed.collect()
    members = pl.concat(
        [
            kept.select("duplicate_group"),
            removed.join(kept, left_on="kept_item_id", right_on="item_id").select("duplicate_group"),
        ]
    )
    sizes = members.group_by("duplicate_group").len("size").filter(pl.col("size") > 1)
    histogram = sizes.group_by("size").len("sets").sort("size")
    how = removed.select(pl.col("detail").str.replace_all(r" \d\.\d+", "")).to_series()
    items_in = kept.height + removed.height
    return {
        "items": items_in,
        "kept": kept.height,
        "removed": removed.height,
        "removed_share": round(removed.height / items_in, 6) if items_in else 0.0,
        "removed_by_likeness": _counts(how),
        "pairs": pairs.height,
        "pairs_by_kind": _counts(pairs["kind"]),
        "sets": sizes.height,
        "items_in_sets": int(sizes["size"].sum()),
        "largest_set": int(sizes["size"].max() or 0),  # type: ignore[arg-type]
        "set_sizes": {str(size): count for size, count in histogram.iter_rows()},
        "conflicts": result.conflicts.height,
        "conflicts_by_column": _counts(result.conflicts["column"]),
        "settings": settings.model_dump(mode="json"),
        "examples": removed.filter(pl.col("detail").str.contains("near"))
        .head(10)
        .select("item_id", "kept_item_id", "detail")
        .to_dicts(),
    }


def _counts(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, by value."""
    table = values.rename("value").drop_nulls().value_counts().sort("value")
    return {str(value): int(count) for value, count in table.iter_rows()}
