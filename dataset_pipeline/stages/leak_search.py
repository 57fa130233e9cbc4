"""Searches for nearly equal pictures and texts that know nothing of those in ``duplicates``.

Belongs here: finding pairs for the audit of a split (``leakage``), and copies to plant, which tell how much the
searches miss. Does not belong here: what counts as nearly the same (``similarity``), and counting what crosses
splits. Pictures are all compared with each other, or through random projections instead of cells and pHash; texts through
equal parts of their sets of shingles, which is exact, and in crowds through their rarest shingles, instead of MinHash.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import ImageDuplicates, TextDuplicates
from dataset_pipeline.stages.pair_search import Hashes, pairs_with_equal_keys
from dataset_pipeline.stages.similarity import (
    LUMINANCE,
    Flags,
    Floats,
    Integers,
    Pixels,
    Values,
    are_long,
    are_textured,
    compare_pictures,
    cropped,
    jaccard_of_texts,
    luminance,
    may_be_near,
    near_pictures,
    quick,
    shingle_blocks,
    slices,
    standardised,
    turned,
    word_codes,
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

SIDES = ((0, 0, 0, 0.65), (0, 0.65, 0, 0), (0, 0, 0.65, 0), (0.65, 0, 0, 0))
"""What is left out (left, top, right, bottom) to see one side alone, where a label on another side does not matter."""

MAX_DIFFERING_BITS = 0.08
"""Of the bits of all tables together: so many differ at the most between a picture and a look of another."""

PROJECTION_WINDOW = 256
"""In one table a picture is compared with at most so many others of one key; more is counted."""

PARTS = 35
"""So many parts of the shingles of a text are compared at the most: 595 pairs of parts."""

FEW_TEXTS = 1024
"""So many texts of one size are all compared."""

COMPARED_PER_TEXT, MIN_COMPARED = 8, 1 << 22
"""By one pair of parts so many comparisons a text are made, and so many at least; where more texts have both in common,
such as those by a template, they are a crowd."""

RAREST, RARE_WINDOW = 12, 16
"""In a crowd, texts that have two of their so many rarest shingles in common are compared, each with so many."""

EQUAL_WORDS_WINDOW = 64
"""Of texts that differ in punctuation only, each is paired with so many."""

MEASURED_PER_TEXT, MIN_MEASURED, NEAR_MISSES, LEAST_NEAR_MISS = 8, 1_000_000, 200_000, 0.6
"""So many candidates are measured a text, and so many at least. Among the first NEAR_MISSES, those of a similarity of
LEAST_NEAR_MISS are listed, below the threshold too."""

PLANTED_COPIES = 100
NEAREST_PAIRS = 24

_ROWS = 2048
_LOOKUPS_AT_ONCE = 1 << 16
_GRID = 8
_INSET = 0.07  # of every edge, which a border may cover and a crop may take
_SKETCH_WORDS = 4
_COUNTERS, _COUNT_BITS, _NAME_BITS = np.uint64(22), np.uint64(24), np.uint64(24)
_KEYS_AT_ONCE = 1 << 24
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_ROUNDING = 1e-9

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
        """Pairs of which one, as it is, agrees with a look of the other in all bits of a table (Charikar 2002); or of
        which one side agrees with the same side of the other.

        Each comes once, in the first table, look and direction in which it does. Of ``looks``, None are all. Pictures of
        one luminance are left out.
        """
        keys, rows, sides = self._keys()
        keys = keys[:, :looks]
        as_is = np.where(np.arange(keys.shape[1]) < sides, 0, np.arange(keys.shape[1]))
        self.uncompared = 0
        for table, look in itertools.product(range(keys.shape[2]), range(keys.shape[1])):
            order = np.argsort(keys[:, as_is[look], table], kind="stable")
            ordered, wanted = keys[order, as_is[look], table], keys[:, look, table]
            first = np.searchsorted(ordered, wanted)
            is_itself = as_is[look] == look
            if is_itself:  # with those before it
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
                is_near = _differing(keys[one, look] ^ keys[other, as_is[look]]) <= MAX_DIFFERING_BITS
                one, other = one[is_near], other[is_near]
                left, right = np.minimum(one, other), np.maximum(one, other)
                here = (table * keys.shape[1] + look) * 2 + ((one > other) & (not is_itself))
                is_new = _first_agreement(keys[left], keys[right], as_is) == here
                yield rows[left[is_new]], rows[right[is_new]]

    def _keys(self) -> tuple[npt.NDArray[np.uint32], Integers, int]:
        """Bits of every table of every look, shape (pictures, looks, tables), which pictures these are, and the first
        look that is a side.

        The bits are of smooth luminance on a grid, less what pictures have in common, without the edges. A side of a
        picture over which no overlay is looked for has bits of its own.
        """
        looks = LOOKS if "crop" in self.settings.changes else LOOKS[:1]
        parts = SIDES if "overlay" in self.settings.changes else ()
        grids, sides = (
            [(_grid(top, bottom), _grid(left, right)) for left, top, right, bottom in shares]
            for shares in (looks, parts)
        )
        generator = np.random.default_rng(self.seed)
        planes = generator.standard_normal((_GRID**2, PROJECTION_TABLES * PROJECTION_BITS), np.float32)
        weights = np.uint32(1) << np.arange(PROJECTION_BITS, dtype=np.uint32)
        spread = np.linspace(0, len(self.thumbnails) - 1, _ROWS).astype(np.int64)
        sample = luminance(self.thumbnails[spread])
        common, *common_sides = (_on_grid(sample, grid).mean(axis=0) for grid in (grids[0], *sides))
        keys, rows, moved = [], [], 0
        for start in range(0, len(self.thumbnails), _ROWS):
            vectors = []
            for number, lying in enumerate(turned(self.thumbnails[start : start + _ROWS], self.settings)):
                grey = luminance(lying)
                vectors += [_on_grid(grey, grid) - common for grid in (grids if number == 0 else grids[:1])]
            moved = len(vectors)
            grey = luminance(self.thumbnails[start : start + _ROWS])
            is_flat = ~_on_grid(grey, grids[0]).any(axis=1)
            vectors += [_on_grid(grey, grid) - mean for grid, mean in zip(sides, common_sides, strict=True)]
            values = np.stack(vectors, axis=1)[~is_flat]
            bits = (values @ planes > 0).reshape(*values.shape[:2], PROJECTION_TABLES, PROJECTION_BITS)
            found = (bits * weights).sum(axis=3, dtype=np.uint32)
            here = start + np.flatnonzero(~is_flat)
            plain = np.flatnonzero(~are_textured(self.thumbnails[here]))
            found[plain, moved:] = (here[plain] + (1 << PROJECTION_BITS))[:, None, None]
            keys.append(found)
            rows.append(here)
        return np.concatenate(keys), np.concatenate(rows), moved


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


def _first_agreement(
    left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32], as_is: Integers
) -> Integers:
    """Of pairs of keys, shape (pairs, looks, tables): the first table, look and direction in which they agree."""
    across = np.stack([left ^ right[:, as_is], right ^ left[:, as_is]], axis=2)
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
    spread = np.zeros(len(thumbnails), bool)
    for start, stop in slices(len(thumbnails), _ROWS):
        spread[start:stop] = (
            thumbnails[start:stop].std(axis=1) > 8
        )  # on a picture of one colour no change can be recognised
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
    if "overlay" in settings.changes:
        changed |= dict(zip(("label laid over", "letters laid over"), _with_overlays(square), strict=True))
    if "mirror" in settings.changes:
        changed["mirrored"] = square[:, :, ::-1].reshape(values.shape)
    if "turn" in settings.changes:
        changed["turned"] = np.rot90(square, axes=(1, 2)).reshape(values.shape)
    copies = np.concatenate(
        [np.clip(np.rint(value.reshape(values.shape)), 0, 255).astype(np.uint8) for value in changed.values()]
    )
    names = np.repeat(list(changed), len(chosen))
    # Over a drawing no overlay is looked for.
    is_fair = np.tile(are_textured(thumbnails[chosen]), len(changed)) | ~np.char.endswith(names, "laid over")
    return np.tile(chosen, len(changed))[is_fair], copies[is_fair], names[is_fair].tolist()


def _with_overlays(squares: Values) -> tuple[Values, Values]:
    """Pictures, shape (count, side, side, 3), with a dark label in a corner, and with pale letters across the middle."""
    side = THUMBNAIL_SIDE_PX
    labelled, lettered = squares.copy(), squares.copy()
    labelled[:, -side // 8 :, -side * 3 // 8 :] = 32
    strokes = np.zeros((side, side, 1), bool)
    strokes[side * 3 // 8 : side * 5 // 8, 2:-2:3] = True
    return labelled, np.where(strokes, (lettered + 255) / 2, lettered)


# -- texts ---------------------------------------------------------------------------------


class TextSearch:
    """Pairs of texts of ``min_jaccard`` and more, by parts of their sets of shingles that are equal; those of equal words.

    Two sets of that similarity differ in a few shingles, d at the most, given their sizes. All shingles are divided
    among d + 2 parts by their hashes, so of two such sets two parts at least are equal: every such pair is a candidate
    (PartEnum; Arasu, Ganti and Kaushik 2006). Where d + 2 is more than PARTS, so many parts are looked at, and a pair
    of long texts is missed with a chance of 2e-6 (two of 35 parts, each equal with a chance of 1 / e, binomial).

    Where too many texts have both parts in common, such as those by a template, what tells them apart is their rarest
    shingles: two texts of that similarity share two of the first n - ceil(n * min_jaccard) + 2 of n, the rarest first
    (prefix filtering; Bayardo, Ma and Srikant 2007, with prefixes of two as by Wang, Li and Feng 2012). Of a long text
    the RAREST ones are looked at, and of those that share the same two each is compared with RARE_WINDOW others.

    Memory and time are in proportion to the texts: what is left out of crowds is counted.
    """

    def __init__(self, keys: pl.Series, settings: TextDuplicates) -> None:
        """Texts shorter than ``min_chars`` are near to those of equal words only."""
        self.uncompared = 0
        """Comparisons left out, once the search is done."""
        self._settings = settings
        has_shingles = (keys.str.len_chars() >= settings.shingle_chars).to_numpy()
        self._rows = np.flatnonzero(are_long(keys, settings) & has_shingles)
        self._keys = keys.gather(self._rows)
        self._words = word_codes(keys)
        self._sizes = np.zeros(len(self._rows), np.int64)
        self._sketches = np.zeros((_SKETCH_WORDS, len(self._rows)), np.uint64)
        start = 0
        for sets in shingle_blocks(self._keys, settings.shingle_chars):
            stop = start + len(sets.sizes)
            self._sizes[start:stop] = sets.sizes
            bit = np.uint64(1) << (sets.values & np.uint64(63))
            word = (sets.values >> np.uint64(6)) % np.uint64(_SKETCH_WORDS)
            for number in range(_SKETCH_WORDS):
                bits = np.where(word == number, bit, np.uint64(0))
                self._sketches[number, start:stop] = np.bitwise_xor.reduceat(bits, sets.offsets[:-1])
            start = stop

    @property
    def method(self) -> str:
        """How the search went, in words, once it is done."""
        exact = [top for _, top, parts in self._levels() if parts <= PARTS]
        said = "exact"
        if len(exact) < len(list(self._levels())):
            said += f" up to {max(exact, default=0)} shingles; of longer ones a pair is missed with a chance of 2e-6"
        return (
            f"equal parts of sets of character shingles ({said}), verified by Jaccard; "
            f"{self.uncompared:,} comparisons left out in crowds"
        )

    def near(self, are_wanted: Wanted, come_first: Wanted | None = None) -> Iterator[Edges]:
        """Wanted pairs with their similarity (``near_texts``), part by part: (left, right, score), left < right, each once.

        Pairs below ``min_jaccard`` that came up are there too, of the first NEAR_MISSES candidates: the near misses.
        MEASURED_PER_TEXT pairs a text are measured, on average; of those that ``come_first``, as many again.
        """
        room = MEASURED_PER_TEXT * len(self._rows) + MIN_MEASURED
        rooms, near_misses = [room, room], NEAR_MISSES
        least = min(LEAST_NEAR_MISS, self._settings.min_jaccard)
        self.uncompared = 0
        measured = _Pairs(len(self._rows))
        for left, right, may_be_known in self._candidates():
            # Sketches differ in no more bits than sets in shingles (Mitzenmacher, Pagh and Pham 2014).
            bits = np.bitwise_count(self._sketches[:, left] ^ self._sketches[:, right]).sum(axis=0)
            total = self._sizes[left] + self._sizes[right]
            may_be = bits <= _most_differing(total, least if near_misses > 0 else self._settings.min_jaccard)
            left, right = left[may_be], right[may_be]  # noqa: PLW2901
            is_wanted = are_wanted(self._rows[left], self._rows[right])
            if may_be_known:
                left, right = left[is_wanted], right[is_wanted]  # noqa: PLW2901
                is_new = measured.are_new(left, right)
                left, right = left[is_new], right[is_new]  # noqa: PLW2901
                is_wanted = np.ones(len(left), bool)
            i, j = self._rows[left], self._rows[right]
            first = is_wanted if come_first is None else is_wanted & come_first(i, j)
            for number, chosen in enumerate((first, is_wanted & ~first)):
                taken = np.flatnonzero(chosen)
                self.uncompared += max(len(taken) - rooms[number], 0)
                taken = taken[: rooms[number]]
                rooms[number] -= len(taken)
                near_misses -= len(taken)
                measured.add(left[taken], right[taken])
                score = jaccard_of_texts(self._keys, left[taken], right[taken], self._settings.shingle_chars)
                left_words, right_words = self._words[i[taken]], self._words[j[taken]]
                close = (score >= least) & ((left_words != right_words) | (left_words < 0))
                yield i[taken][close], j[taken][close], score[close]
        yield from self._equal_words(are_wanted)

    def _equal_words(self, are_wanted: Wanted) -> Iterator[Edges]:
        """Wanted pairs of equal words: of many that have the same, each with so many that follow it."""
        rows = np.flatnonzero(self._words >= 0)
        codes = self._words[rows]
        sizes = np.unique(codes, return_counts=True)[1]
        crowds = sizes[sizes > EQUAL_WORDS_WINDOW + 1]
        compared = EQUAL_WORDS_WINDOW * crowds - EQUAL_WORDS_WINDOW * (EQUAL_WORDS_WINDOW + 1) // 2
        self.uncompared += int((crowds * (crowds - 1) // 2 - compared).sum())
        for left, right in pairs_with_equal_keys(codes, window=EQUAL_WORDS_WINDOW):
            i, j = rows[np.minimum(left, right)], rows[np.maximum(left, right)]
            is_wanted = are_wanted(i, j)
            yield i[is_wanted], j[is_wanted], np.ones(int(is_wanted.sum()))

    def _levels(self) -> Iterator[tuple[Integers, int, int]]:
        """Texts of two neighbouring classes of sizes, the largest size of the first class, and their number of parts.

        Sizes within a class, and those of near texts, differ by the factor ``min_jaccard`` at the most; so two near
        texts are of one class or of neighbouring ones.
        """
        least, low = self._settings.min_jaccard, 1
        order = np.argsort(self._sizes, kind="stable")
        ordered = self._sizes[order]
        while len(ordered) and low <= ordered[-1]:
            above = int(low / least + _ROUNDING) + 1
            first, second, third = np.searchsorted(ordered, [low, above, int(above / least + _ROUNDING) + 1])
            if second > first and third > first + 1:
                top = int(ordered[second - 1])
                largest = min(int(top / least + _ROUNDING), int(ordered[third - 1]))
                yield np.sort(order[first:third]), top, int(_most_differing(top + largest, least)) + 2
            low = above

    def _candidates(self) -> Iterator[tuple[Integers, Integers, bool]]:
        """Pairs of two equal parts, left < right, and whether some of them may have come before. Of few texts, all pairs.

        A pair comes in the first two parts that are equal; of texts in crowds in others, too, and by rare shingles.
        """
        for rows, top, count in self._levels():
            if len(rows) <= FEW_TEXTS:
                left, right = np.triu_indices(len(rows), 1)
                is_new = self._fit(rows[left], rows[right], top)
                yield rows[left[is_new]], rows[right[is_new]], False
                continue
            parts = self._parts(rows, count)
            # The most telling ones first, so that few pairs are first equal in what all have in common.
            distinct = np.array([len(np.unique(part)) for part in parts])
            parts = parts[np.argsort(-distinct, kind="stable")]
            is_crowded = np.zeros(len(rows), bool)
            for other, one in itertools.combinations(range(len(parts)), 2):
                key = parts[other].astype(np.uint64) << np.uint64(32) | parts[one]
                order, are_crowds = self._crowds(key)
                for left, right in pairs_with_equal_keys(key[order[~are_crowds]]):
                    left, right = order[~are_crowds][left], order[~are_crowds][right]  # noqa: PLW2901
                    is_new = self._fit(rows[left], rows[right], top)
                    for earlier in range(one):
                        if earlier != other:
                            agree = parts[earlier, left[is_new]] == parts[earlier, right[is_new]]
                            is_new[is_new] = ~agree | is_crowded[left[is_new]]
                    i, j = rows[left[is_new]], rows[right[is_new]]
                    yield np.minimum(i, j), np.maximum(i, j), bool(is_crowded.any())
                is_crowded[order[are_crowds]] = True
            for left, right in self._rare(rows[is_crowded]):
                fit = self._fit(left, right, top)
                yield np.minimum(left[fit], right[fit]), np.maximum(left[fit], right[fit]), True

    def _fit(self, left: Integers, right: Integers, top: int) -> Flags:
        """Whether the sizes allow for a near pair of this level, one of which has ``top`` shingles at the most."""
        small = np.minimum(self._sizes[left], self._sizes[right])
        large = np.maximum(self._sizes[left], self._sizes[right])
        return np.asarray((small <= top) & (small >= self._settings.min_jaccard * large - _ROUNDING))

    def _crowds(self, key: Hashes) -> tuple[Integers, Flags]:
        """Order of the keys, and which places in it are of keys that too many texts have: those are not compared."""
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=~key[order[:1]]))
        sizes = np.diff(starts, append=len(key))
        cost = sizes * (sizes - 1) // 2
        by_cost = np.argsort(cost, kind="stable")
        is_crowd = np.zeros(len(sizes), bool)
        is_crowd[by_cost] = np.cumsum(cost[by_cost]) > COMPARED_PER_TEXT * len(key) + MIN_COMPARED
        self.uncompared += int(cost[is_crowd].sum())
        return order, np.repeat(is_crowd, sizes)

    def _rare(self, rows: Integers) -> Iterator[tuple[Integers, Integers]]:
        """Pairs of these texts that have two of their rarest shingles in common; a pair may be there several times.

        Of many that have the same two, each is compared with RARE_WINDOW next to it in the order of the rarest ones.
        """
        rarest = self._rarest(rows)
        order = np.lexsort(rarest[:, ::-1].T)
        rows, rarest = rows[order], rarest[order]
        bits = np.uint64(len(rows).bit_length())
        mask = (np.uint64(1) << bits) - np.uint64(1)
        columns = list(itertools.combinations(range(rarest.shape[1]), 2))
        passes = np.uint64(len(columns) * len(rows) // _KEYS_AT_ONCE + 1)
        for number in range(int(passes)):
            chosen = []
            for one, other in columns:
                pair = (rarest[:, one] * _SPREAD + rarest[:, other]) * _SPREAD
                pair = (pair ^ (pair >> np.uint64(32))) * _SPREAD
                here = rarest[:, other] != 0
                here &= ((pair & mask) * passes >> bits) == np.uint64(number)
                at = np.flatnonzero(here)
                chosen.append(pair[at] & ~mask | at.astype(np.uint64))
            keys = np.concatenate(chosen)
            keys.sort()  # by the two shingles, then by the text
            at = (keys & mask).astype(np.int64)
            keys >>= bits
            for left, right in pairs_with_equal_keys(keys, order=np.arange(len(keys)), window=RARE_WINDOW):
                yield rows[at[left]], rows[at[right]]

    def _rarest(self, rows: Integers) -> Hashes:
        """The rarest shingles of every one of these texts, the rarest first, shape (texts, RAREST); 0 where there is none.

        No more than near texts must have two in common of.
        """
        counts = np.zeros(1 << int(_COUNTERS), np.int64)
        keys, chars = self._keys.gather(rows), self._settings.shingle_chars
        for sets in shingle_blocks(keys, chars):
            counts += np.bincount(_counter(sets.values), minlength=len(counts))
        counts = np.clip(counts, 1, (1 << int(_COUNT_BITS)) - 1).astype(np.uint64)
        found, start = np.zeros((len(rows), RAREST), np.uint64), 0
        for sets in shingle_blocks(keys, chars):
            text = np.repeat(np.arange(len(sets.sizes), dtype=np.uint64), sets.sizes)
            names = counts[_counter(sets.values)] << _NAME_BITS | (sets.values >> _NAME_BITS)
            tagged = text << (_COUNT_BITS + _NAME_BITS) | names
            tagged.sort()
            names = tagged & ((np.uint64(1) << (_COUNT_BITS + _NAME_BITS)) - np.uint64(1))
            must_share = np.ceil(self._settings.min_jaccard * sets.sizes - _ROUNDING).astype(np.int64)
            looked_at = np.minimum(sets.sizes, sets.sizes - must_share + 2)
            place = np.arange(RAREST)
            at = np.minimum(sets.offsets[:-1, None] + place, len(names) - 1)
            stop = start + len(sets.sizes)
            found[start:stop] = np.where(place < looked_at[:, None], names[at], 0)
            start = stop
        return found

    def _parts(self, rows: Integers, count: int) -> npt.NDArray[np.uint32]:
        """Hash of every one of ``count`` parts of every text, the first PARTS of them, shape (parts, texts)."""
        used = min(count, PARTS)
        parts = np.zeros((used, len(rows)), np.uint32)
        start = 0
        for sets in shingle_blocks(self._keys.gather(rows), self._settings.shingle_chars):
            stop = start + len(sets.sizes)
            text = np.repeat(np.arange(stop - start), sets.sizes)
            part = ((sets.values >> np.uint64(24)) * np.uint64(count) >> np.uint64(24)).astype(np.int64)
            value = (sets.values * _SPREAD >> np.uint64(32)).astype(np.float64)
            at = text * used + part
            if used < count:
                at, value = at[part < used], value[part < used]
            # Sums of 32-bit numbers are exact in a float64.
            sums = np.bincount(at, value, (stop - start) * used).astype(np.uint64)
            parts[:, start:stop] = (sums * _SPREAD >> np.uint64(32)).reshape(-1, used).T
            start = stop
        return parts


def _counter(shingles: Hashes) -> Integers:
    """Which counter counts a shingle; with others, which only makes it seem less rare."""
    return np.asarray((shingles * _SPREAD >> (np.uint64(64) - _COUNTERS)).astype(np.int64))


class _Pairs:
    """A set of pairs of positions, in sorted runs of growing lengths."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._runs: list[Integers] = []

    def add(self, left: Integers, right: Integers) -> None:
        """Pairs that are not there."""
        run = np.sort(left * self._count + right)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)

    def are_new(self, left: Integers, right: Integers) -> Flags:
        """Which pairs are not there; of equal ones among these, the first."""
        codes = left * self._count + right
        is_new = np.zeros(len(codes), bool)
        is_new[np.unique(codes, return_index=True)[1]] = True
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, codes), len(run) - 1)
            if len(run):
                is_new &= run[at] != codes
        return is_new


def _most_differing(total: Integers | int, least: float) -> Integers:
    """In how many elements two sets of so many together differ at the most, at a Jaccard similarity of ``least``."""
    return np.asarray((1 - least) / (1 + least) * total + _ROUNDING).astype(np.int64)


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
            "a comma and a full stop added": text.replace(" ", ", ", 1) + ".",
            "first word moved to the end": " ".join([*text.split(" ")[1:], text.split(" ")[0]]),
        }
        origins += [row] * len(changed)
        copies += changed.values()
        names += changed
    return np.array(origins, np.int64), pl.Series(copies, dtype=pl.String), names
