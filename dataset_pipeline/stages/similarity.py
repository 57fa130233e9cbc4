"""What "the same" and "nearly the same" mean, for pictures and for texts.

Belongs here: definitions and exact measures of a *given* pair, shared by ``duplicates``, ``split`` and
``leakage``, so that the three never disagree on what a leak is. Does not belong here: searching for
pairs. ``duplicates`` and ``leakage`` each have a search of their own, so that one can find out the other.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import ImageDuplicates, TextDuplicates
from dataset_pipeline.tables import THUMBNAIL_SIDE_PX

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]

THUMBNAIL_BYTES = THUMBNAIL_SIDE_PX * THUMBNAIL_SIDE_PX * 3
BLOCK_PX = 4  # a block begins at every other pixel, so that no small difference is shared out among several
_THUMBNAILS_AT_ONCE = 16_384
_BLACK, _WHITE = 4, 251  # beyond, a brighter or darker copy has lost the value
_SLACK = 1e-3  # float32 sums differ by their order; what is near a limit is measured again
_FLAT = 0.1  # length of the deviations of a picture that is of one colour, but for rounding
_EDGE_PX = 2  # more than MAX_CROP
_INSIDE = np.s_[:, _EDGE_PX:-_EDGE_PX, _EDGE_PX:-_EDGE_PX]
_INSIDE_PX = THUMBNAIL_SIDE_PX - 2 * _EDGE_PX
_FITTING_STEPS = 5
_CENTRE = (THUMBNAIL_SIDE_PX - 1) / 2
_AXIS = np.arange(THUMBNAIL_SIDE_PX, dtype=np.float32) - np.float32(_CENTRE)
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_STRONG_EDGE = 20.0  # standard deviation within a block
_FEW_BLOCKS = 8  # with fewer at strong edges, all count
_NOTHING_TO_SEE = 3.0  # grey levels
_PARTS = 4  # a picture is compared in so many parts across, and down
_PART_PX = THUMBNAIL_SIDE_PX // _PARTS
_PAIRS_AT_ONCE = 128  # what is worked on, several times 1.5 MB, stays in the processor's cache

TEXT_SEPARATOR = "\x1f"
_PUNCTUATION = r"[\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}.,;:!?'\"…·¡¿、。，；：！？]+"
_TEXTS_AT_ONCE = 1 << 16  # as many rows as a tag can tell apart
_CHARS_AT_ONCE = 1 << 22
_SHINGLES_AT_ONCE = 1 << 17  # a sort of 1 MB stays in the processor's cache
_TAG_BITS, _VALUE_BITS, _VALUE_MASK = np.uint64(16), np.uint64(48), np.uint64((1 << 48) - 1)
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
    for rows, thumbnails in thumbnail_batches(images, sha256):
        matrix[rows] = thumbnails
    return matrix


def thumbnail_batches(images: pl.LazyFrame, sha256: pl.Series) -> Iterator[tuple[Integers, Pixels]]:
    """Thumbnails of these files with their positions, batch by batch, in any order; raises like ``load_thumbnails``."""
    is_there = np.zeros(len(sha256), bool)
    rows = pl.LazyFrame({"sha256": sha256, "row": np.arange(len(sha256))})
    wanted = images.select("sha256", "thumbnail").join(rows, on="sha256").select("row", "thumbnail")
    for batch in wanted.collect_batches(chunk_size=_THUMBNAILS_AT_ONCE):
        whole = batch.filter(pl.col("thumbnail").bin.size() == THUMBNAIL_BYTES)
        at = whole["row"].to_numpy()
        is_there[at] = True
        yield at, np.frombuffer(b"".join(whole["thumbnail"].to_list()), np.uint8).reshape(-1, THUMBNAIL_BYTES)
    if not is_there.all():
        raise ValueError(f"{int((~is_there).sum())} pictures have no thumbnail of {THUMBNAIL_BYTES} bytes")


class Quick(NamedTuple):
    """Of pictures, what rules nearly all pairs out by products of matrices."""

    colours: Values
    """Softened colour values minus their mean, of length 1; shape (pictures, values)."""
    greys: Values
    """Smooth luminance of the inner part, likewise."""
    slopes: Values
    """How ``greys`` changes when the picture is moved or stretched a little: itself and four directions, made
    orthonormal; shape (5, pictures, values)."""
    parts: Values
    """Luminance of every part of a picture with detail all over it, likewise; shape (parts, pictures, values)."""


def quick(thumbnails: Pixels, settings: ImageDuplicates) -> Quick:
    """For ``may_be_near``."""
    colours, pictures = standardised(thumbnails), _square(thumbnails)
    none = colours[None, :, :0]
    greys, slopes = _greys(pictures) if {"colour", "crop"} & set(settings.changes) else (none[0], none)
    return Quick(colours, greys, slopes, _parts(pictures) if "overlay" in settings.changes else none)


def may_be_near(rows: Quick, columns: Quick, settings: ImageDuplicates) -> Flags:
    """Matrix of the pairs worth a look with ``near_pictures``: no other pair is near as it lies."""
    found = np.asarray(rows.colours @ columns.colours.T >= settings.min_similarity - _SLACK)
    if {"colour", "crop"} & set(settings.changes):
        one, other = np.zeros((2, *found.shape), np.float32)
        for row_slope, column_slope in zip(rows.slopes, columns.slopes, strict=True):
            one += np.square(rows.greys @ column_slope.T)
            other += np.square(row_slope @ columns.greys.T)
        found |= np.maximum(one, other, out=one) >= (MIN_LOOSE_SIMILARITY - _SLACK) ** 2
    if "overlay" in settings.changes:
        i, j = (np.flatnonzero(side.parts.any(axis=(0, 2))) for side in (rows, columns))
        alike = np.zeros((len(i), len(j)), np.uint8)
        for part, other_part in zip(rows.parts[:, i], columns.parts[:, j], strict=True):
            alike += part @ other_part.T >= MIN_PART_SIMILARITY - _SLACK
        found[np.ix_(i, j)] |= alike >= MIN_ALIKE_PARTS
    return found


def standardised(thumbnails: Pixels) -> Values:
    """Softened thumbnails minus their mean, of length 1: their products are similarities. One colour gives zeros."""
    return _unit(_softened(_square(thumbnails)))


def luminance(thumbnails: Pixels) -> Values:
    """Softened luminance of thumbnails, shape (pictures, side, side)."""
    grey = np.empty((len(thumbnails), THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), np.float32)
    for start, stop in slices(len(grey), _PAIRS_AT_ONCE):
        grey[start:stop] = _softened((_square(thumbnails[start:stop]) @ LUMINANCE)[..., None])[..., 0]
    return grey


def are_textured(thumbnails: Pixels) -> Flags:
    """Which have detail all over (TEXTURED_SHARE): only over these an overlay is looked for."""
    return np.concatenate(
        [
            np.zeros(0, bool),
            *(
                _are_textured(_square(thumbnails[start:stop]) @ LUMINANCE)
                for start, stop in slices(len(thumbnails), _PAIRS_AT_ONCE)
            ),
        ]
    )


def cropped(thumbnails: Pixels, left: float, top: float, right: float, bottom: float) -> Values:
    """Thumbnails as they would be without these shares of the width and height, linearly interpolated."""
    half = THUMBNAIL_SIDE_PX / 2
    place = np.array(
        [[1 - left - right, (left - right) * half, 1 - top - bottom, (top - bottom) * half]], np.float32
    )
    pictures = _resampled(_square(thumbnails), np.repeat(place, len(thumbnails), axis=0))
    return pictures.reshape(thumbnails.shape)


def turned(thumbnails: Pixels, settings: ImageDuplicates) -> Iterator[Pixels]:
    """The thumbnails in every position in which a copy counts: as they are, mirrored, turned."""
    squares = thumbnails.reshape(-1, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX, 3)
    for quarters in range(4 if "turn" in settings.changes else 1):
        for is_mirrored in (False, True) if "mirror" in settings.changes else (False,):
            upright = np.rot90(squares, quarters, axes=(1, 2))
            yield (upright[:, :, ::-1] if is_mirrored else upright).reshape(thumbnails.shape)


class PictureMatch(NamedTuple):
    """Measures of pairs of thumbnails; every array has one value a pair."""

    similarity: Floats
    """Pearson correlation of the softened colour values, -1 to 1; 0 where a thumbnail is of one colour."""
    block_difference: Floats
    """Largest difference of any block's mean in any channel; grey levels of 255."""
    toned_difference: Floats
    """The same after the best change of brightness and contrast of the whole picture, clipping included."""
    tone_difference: Floats
    """Difference of the means plus difference of the standard deviations; grey levels of 255."""


class Limits(NamedTuple):
    """The least similarity and the largest differences that one picture and its copy have."""

    similarity: float
    block_difference: float
    toned_difference: float
    tone_difference: float


EXPLAINED_SHARE = 2 / 3
"""A change explains away much of a difference (another tone, less colour, one picture laid over the other), so what it
leaves may be so much less than ``max_block_difference``."""

MIN_EVENNESS, EVEN_ENOUGH, EVEN_ALLOWANCE = 0.15, 0.3, 1.35
"""Encoding, resizing and blur leave a little at every edge; a drawing that was drawn differently differs in one place and
nowhere else. So the difference of two drawings is no copy's where the median of the blocks with strong edges is less than
MIN_EVENNESS of the largest; and where it is EVEN_ENOUGH, the limits are EVEN_ALLOWANCE times as wide."""

MIN_LOOSE_SIMILARITY = 0.965
"""Correlation in smooth luminance, a small crop apart, that pictures have at least before either is tried."""

MIN_COLOUR_LOSS = 0.1
"""Share of its colour that a copy must have lost for that to be a change."""

TEXTURED_SHARE, TEXTURED_LEVELS = 0.8, 1.0
"""A picture has detail all over it where the luminance of so many of its 4x4 blocks deviates by so much: a photo, hardly
ever a drawing. Drawings share most of their strokes with others, which agree outside of what tells them apart."""

MIN_ALIKE_PARTS, MIN_PART_SIMILARITY = 8, 0.9
"""So many of the 16 parts of a picture correlate by so much in luminance before an overlay is looked for."""

MAX_COVERED = 0.25
"""Share of the pixels that an overlay may cover: what differs by more than EXPLAINED_SHARE of max_block_difference."""

MIN_FINE_SIMILARITY = 0.9
"""Correlation, in fine luminance, of what an overlay leaves: a background alone, lit the same, has none in common."""

MAX_CROP = 0.065
"""Share of the width or height by which an edge may move: 5 % and what the fit may be off by."""


def limits(settings: ImageDuplicates, block_share: float = 1.0, toned_share: float | None = None) -> Limits:
    """The limits, with these shares of ``max_block_difference`` (for the toned one, EXPLAINED_SHARE)."""
    return Limits(
        settings.min_similarity,
        settings.max_block_difference * block_share,
        settings.max_block_difference * (EXPLAINED_SHARE if toned_share is None else toned_share),
        settings.max_tone_difference,
    )


def is_near(match: PictureMatch, limit: Limits) -> Flags:
    """Which pairs are within the limits.

    Correlation alone merges drawings that differ in one small place; the largest difference of any block alone
    misses every copy that was made lighter. So a block may differ as it is, or else a global change of tone
    must explain nearly all of the difference.
    """
    as_it_is = match.block_difference <= limit.block_difference
    toned = match.toned_difference <= limit.toned_difference
    return np.asarray(
        (match.similarity >= limit.similarity)
        & (as_it_is | toned)
        & (match.tone_difference <= limit.tone_difference)
    )


def compare_pictures(thumbnails: Pixels, left: Integers, right: Integers) -> PictureMatch:
    """Measures of the pairs (thumbnails[left[i]], thumbnails[right[i]]) as they are; symmetric in the two."""
    parts = [
        _measures(_square(thumbnails[left[start:stop]]), _square(thumbnails[right[start:stop]]), None)
        for start, stop in slices(len(left), _PAIRS_AT_ONCE)
    ]
    none = np.zeros(0)
    columns = [np.concatenate([none, *(part[k] for part in parts)]) for k in range(4)]
    return PictureMatch(*columns)


def near_pictures(
    thumbnails: Pixels, left: Integers, right: Integers, settings: ImageDuplicates
) -> tuple[Flags, Floats]:
    """Which pairs count as one picture, and the similarity that says so; symmetric in the two.

    They do when the two are within the ``limits`` as they are: re-encoded, resized, softened, or changed a little
    in brightness or contrast; what differs between drawings must not be in one place alone (MIN_EVENNESS). Or, with less left over (EXPLAINED_SHARE), after a change of ``settings.changes``:
    'colour' takes colour from the more colourful one until it has no more than the other; 'crop' lays one over the
    other, moved and stretched by up to MAX_CROP at every edge, and compares what both show; 'overlay' leaves out up to
    MAX_COVERED of the pixels of two pictures that have detail all over. 'mirror' and 'turn' try the same with one of them mirrored or turned. Otherwise the similarity is that of the two as they are.
    """
    holds, similarity = np.zeros(len(left), bool), np.zeros(len(left))
    for start, stop in slices(len(left), _PAIRS_AT_ONCE):
        others = _square(thumbnails[right[start:stop]])
        for number, pictures in enumerate(turned(thumbnails[left[start:stop]], settings)):
            rest = np.flatnonzero(~holds[start:stop])
            found, score = _are_near(_square(pictures[rest]), others[rest], settings)
            told = found if number else np.ones(len(rest), bool)
            holds[start + rest[told]], similarity[start + rest[told]] = found[told], score[told]
    return holds, similarity


def _are_near(a: Values, b: Values, settings: ImageDuplicates) -> tuple[Flags, Floats]:
    """``near_pictures`` of pictures, shape (pairs, side, side, 3), as they lie."""
    whole = a, b
    holds, similarity = np.zeros(len(a), bool), np.zeros(len(a))

    def decide(pairs: Integers, a: Values, b: Values, limit: Limits) -> Floats:
        match = _measures(a, b, limit)
        found = is_near(match, limit)
        holds[pairs[found]], similarity[pairs[found]] = True, match.similarity[found]
        return match.similarity

    def decide_evenly(pairs: Integers, a: Values, b: Values, limit: Limits) -> Floats:
        wider = limit._replace(
            block_difference=limit.block_difference * EVEN_ALLOWANCE,
            toned_difference=limit.toned_difference * EVEN_ALLOWANCE,
        )
        match = _measures(a, b, wider._replace(block_difference=limit.block_difference))
        near = np.flatnonzero(is_near(match, wider))
        evenness = _evenness(a[near], b[near], match.toned_difference[near] <= wider.toned_difference)
        are_photos = np.logical_and(*(_are_textured(one[pairs[near]] @ LUMINANCE) for one in whole))
        found = is_near(match, limit)[near] & (are_photos | (evenness >= MIN_EVENNESS))
        near = near[found | (evenness >= EVEN_ENOUGH)]
        holds[pairs[near]], similarity[pairs[near]] = True, match.similarity[near]
        return match.similarity

    as_they_are = decide_evenly(np.arange(len(a)), a, b, limits(settings))
    similarity[~holds] = as_they_are[~holds]

    if "overlay" in settings.changes:
        rest = np.flatnonzero(~holds)
        rest = rest[_have_alike_parts(a[rest], b[rest])]
        found, score = _overlaid(a[rest], b[rest], settings)
        holds[rest[found]], similarity[rest[found]] = True, score[found]
    if not {"colour", "crop"} & set(settings.changes):
        return holds, similarity
    rest = np.flatnonzero(~holds)
    rest = rest[_loose_similarity(a[rest], b[rest]) >= MIN_LOOSE_SIMILARITY]
    # Less colour and another brightness together explain too much: a black square as a red one's copy.
    less_colour, moved = limits(settings, EXPLAINED_SHARE, 0), limits(settings, EXPLAINED_SHARE)
    if "colour" in settings.changes:
        one, other, has_less = _equally_colourful(a[rest], b[rest])
        decide(rest[has_less], one, other, less_colour)
    if "crop" in settings.changes:
        rest = rest[~holds[rest]]
        a, b, fits = _laid_over(a[rest], b[rest])
        rest, a, b = rest[fits], a[fits], b[fits]
        decide_evenly(rest, a, b, moved)
    if {"colour", "crop"} <= set(settings.changes):
        is_open = ~holds[rest]
        one, other, has_less = _equally_colourful(a[is_open], b[is_open])
        decide(rest[is_open][has_less], one, other, less_colour)
    return holds, similarity


def _measures(a: Values, b: Values, limit: Limits | None) -> PictureMatch:
    """Measures of pictures, shape (pairs, side, side, 3).

    With a ``limit``, the toned difference is measured only where it decides; elsewhere it is infinite.
    """
    count, side = a.shape[:2]
    similarity = np.einsum("ij,ij->i", _unit(_softened(a)), _unit(_softened(b)), dtype=np.float64)
    difference = _largest_block(a - b)
    a, b = (one.reshape(count, side * side * 3) for one in (a, b))
    (mean_a, deviation_a), (mean_b, deviation_b) = _mean_and_deviation(a), _mean_and_deviation(b)
    tone = np.abs(mean_a - mean_b) + np.abs(deviation_a - deviation_b)
    is_open = np.ones(count, bool)
    if limit is not None:
        is_open = is_near(PictureMatch(similarity, difference, np.zeros(count), tone), limit)
        is_open &= (difference > limit.block_difference) & (limit.toned_difference > 0)
    toned = np.full(count, np.inf)
    a, b = a[is_open], b[is_open]
    # Either may be the one that was brightened until it clipped.
    there, back = _largest_block(_toned(a, b, side)), _largest_block(_toned(b, a, side))
    toned[is_open] = np.minimum(np.minimum(there, back), difference[is_open])
    return PictureMatch(similarity, difference, toned, tone)


def _mean_and_deviation(flat: Values) -> tuple[Floats, Floats]:
    mean = flat.mean(axis=1, keepdims=True)
    deviations = flat - mean
    variance = np.einsum("ij,ij->i", deviations, deviations, dtype=np.float64) / flat.shape[1]
    return np.asarray(mean[:, 0], np.float64), np.sqrt(variance)


def _evenness(a: Values, b: Values, are_toned: Flags) -> Floats:
    """Median of the differences at strong edges over the largest, 0 to 1; 1 where there is nothing to see.

    A difference is the root mean square within a block; of the pairs that ``are_toned``, under the best change of tone.
    """
    if len(a) == 0:
        return np.zeros(0)
    rest = a - b
    if are_toned.any():
        count, side = int(are_toned.sum()), a.shape[1]
        one, other = (flat[are_toned].reshape(count, side * side * 3) for flat in (a, b))
        there, back = _toned(one, other, side), _toned(other, one, side)
        is_there = _largest_block(there) <= _largest_block(back)
        rest[are_toned] = np.where(is_there[:, None, None, None], there, back)
    differs = np.sqrt(_block_means(np.square(rest)).mean(axis=3)).reshape(len(a), -1)
    contrast = np.minimum(
        *(
            np.maximum(_block_means(np.square(one)) - np.square(_block_means(one)), 0).max(axis=3)
            for one in (a, b)
        )
    ).reshape(differs.shape)
    is_edge = contrast >= _STRONG_EDGE**2
    is_edge[is_edge.sum(axis=1) < _FEW_BLOCKS] = True
    typical = np.nanmedian(np.where(is_edge, differs, np.nan), axis=1)
    largest = differs.max(axis=1, initial=0)
    return np.asarray(np.where(largest <= _NOTHING_TO_SEE, 1.0, typical / np.maximum(largest, 1)), np.float64)


def _toned(a: Values, b: Values, side: int) -> Values:
    """Differences between ``b`` and ``a`` under the least-squares change of tone towards it, (pairs, side, side, 3)."""
    inside = (a > _BLACK) & (a < _WHITE) & (b > _BLACK) & (b < _WHITE)
    weight = np.maximum(inside.sum(axis=1, dtype=np.float32), 1)[:, None]
    mean_a = (a * inside).sum(axis=1, keepdims=True) / weight
    mean_b = (b * inside).sum(axis=1, keepdims=True) / weight
    centred = (a - mean_a) * inside
    variance = (centred * centred).sum(axis=1, keepdims=True)
    gain = (centred * (b - mean_b)).sum(axis=1, keepdims=True) / np.maximum(variance, 1e-6)
    fitted = np.clip((a - mean_a) * gain + mean_b, 0, 255)
    return np.asarray((fitted - b).reshape(-1, side, side, 3))


def _equally_colourful(a: Values, b: Values) -> tuple[Values, Values, Flags]:
    """The pictures after the more colourful one has lost as much colour as brings it closest to the other.

    Only pairs of which one has lost MIN_COLOUR_LOSS at least, and which these are.
    """
    colour_a, colour_b = (one - (one @ LUMINANCE)[..., None] for one in (a, b))
    flat_a, flat_b = (one.reshape(len(a), int(np.prod(a.shape[1:]))) for one in (colour_a, colour_b))
    much_a, much_b, both = (
        np.einsum("ij,ij->i", one, other)
        for one, other in ((flat_a, flat_a), (flat_b, flat_b), (flat_a, flat_b))
    )
    loss = 1 - np.clip(both / np.maximum(np.maximum(much_a, much_b), 1e-6), 0, 1)
    has_less = loss >= MIN_COLOUR_LOSS
    loss_a, loss_b = (
        np.where(much_a >= much_b, loss, 0)[has_less],
        np.where(much_a >= much_b, 0, loss)[has_less],
    )
    return (
        a[has_less] - colour_a[has_less] * loss_a[:, None, None, None],
        b[has_less] - colour_b[has_less] * loss_b[:, None, None, None],
        has_less,
    )


def _are_textured(grey: Values) -> Flags:
    """``are_textured`` of luminance, shape (pictures, side, side)."""
    blocks = THUMBNAIL_SIDE_PX // BLOCK_PX
    deviation = grey.reshape(len(grey), blocks, BLOCK_PX, blocks, BLOCK_PX).std(axis=(2, 4))
    return np.asarray((deviation >= TEXTURED_LEVELS).mean(axis=(1, 2)) >= TEXTURED_SHARE)


def _parts(pictures: Values) -> Values:
    """``Quick.parts``."""
    grey = pictures @ LUMINANCE
    is_textured = _are_textured(grey)
    count, half = len(pictures), THUMBNAIL_SIDE_PX // 2
    soft = _softened(grey[is_textured][..., None])[..., 0].reshape(-1, half, 2, half, 2).mean(axis=(2, 4))
    parts = np.zeros((_PARTS**2, count, _PART_PX**2 // 4), np.float32)
    inside = soft.reshape(-1, _PARTS, _PART_PX // 2, _PARTS, _PART_PX // 2).transpose(1, 3, 0, 2, 4)
    inside = inside.reshape(_PARTS**2, len(soft), parts.shape[2])
    inside = inside - inside.mean(axis=2, keepdims=True)
    length = np.sqrt(np.einsum("kij,kij->ki", inside, inside))[..., None]
    parts[:, is_textured] = inside / np.where(length > 1, length, np.inf)
    return parts


def _have_alike_parts(a: Values, b: Values) -> Flags:
    """Which pairs have MIN_ALIKE_PARTS in common; without detail all over, none."""
    similarity = np.einsum("kij,kij->ki", _parts(a), _parts(b))
    return np.asarray((similarity >= MIN_PART_SIMILARITY).sum(axis=0) >= MIN_ALIKE_PARTS)


def _overlaid(a: Values, b: Values, settings: ImageDuplicates) -> tuple[Flags, Floats]:
    """Which pairs agree but for what covers one of them, and the correlation of the colours around that.

    Nothing is asked of the shape of what differs (a label, letters, a frame of several stickers): that the rest is the
    same down to its fine detail is what two different pictures cannot have in common.
    """
    soft_a, soft_b = _softened(a), _softened(b)
    covers = np.abs(soft_a - soft_b).max(axis=3) > settings.max_block_difference * EXPLAINED_SHARE
    # A pixel more on every side: there both are mixed.
    around = ~(_softened(covers[..., None].astype(np.float32))[..., 0] > 0)
    fine_a, fine_b = (_fine(one) for one in (soft_a, soft_b))
    fine = _correlation_within(fine_a, fine_b, around)
    similarity = _correlation_within(soft_a, soft_b, around)
    found = (covers.mean(axis=(1, 2)) <= MAX_COVERED) & (fine >= MIN_FINE_SIMILARITY)
    return found & (similarity >= settings.min_similarity), similarity


def _fine(soft: Values) -> Values:
    """Luminance of softened pictures less a still smoother one, one channel."""
    grey = smooth = (soft @ LUMINANCE)[..., None]
    for _ in range(3):
        smooth = _softened(smooth)
    return np.asarray(grey - smooth)


def _correlation_within(a: Values, b: Values, where: Flags) -> Floats:
    """Correlation of pairs over the pixels ``where``, of all channels; 0 where nothing is."""
    count, channels = len(a), a.shape[3]
    weight = np.repeat(where[..., None], channels, axis=3).reshape(count, int(np.prod(a.shape[1:])))
    a, b = (one.reshape(weight.shape) * weight for one in (a, b))
    size = np.maximum(weight.sum(axis=1, keepdims=True), 1)
    a, b = (one - one.sum(axis=1, keepdims=True) / size * weight for one in (a, b))
    length = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.maximum(length, 1e-6), np.float64)


def _laid_over(a: Values, b: Values) -> tuple[Values, Values, Flags]:
    """What both show once one is moved and stretched to fit the other, and whether no edge went beyond MAX_CROP.

    Least squares in luminance with a change of tone, by Gauss and Newton (Lucas and Kanade 1981), over all of the
    unmoved picture but its outermost pixels, where the other may show nothing, or a border.
    """
    source, target = (_softened((one @ LUMINANCE)[..., None])[..., 0] for one in (a, b))
    # The one with more detail is moved, whichever comes first.
    detail = [
        sum(np.square(np.diff(one, axis=k)).sum(axis=(1, 2)) for k in (1, 2)) for one in (source, target)
    ]
    swap = (detail[0] < detail[1])[:, None, None]
    source, target = np.where(swap, target, source), np.where(swap, source, target)
    a, b = np.where(swap[..., None], b, a), np.where(swap[..., None], a, b)
    wanted = target[_INSIDE].reshape(-1, _INSIDE_PX**2, 1)
    place = np.tile(np.array([1, 0, 1, 0], np.float32), (len(a), 1))  # stretch and shift across, then down
    step = np.array([0.05, 1, 0.05, 1], np.float32)
    for _ in range(_FITTING_STEPS):
        fitted = _resampled(source[..., None], place)[..., 0]
        across = np.gradient(fitted, axis=2) / place[:, 0, None, None]
        down = np.gradient(fitted, axis=1) / place[:, 2, None, None]
        changes = [across * _AXIS, across, down * _AXIS[:, None], down, fitted, np.ones_like(fitted)]
        rows = np.stack([one[_INSIDE] for one in changes], axis=1).reshape(-1, 6, _INSIDE_PX**2)
        normal = rows @ rows.transpose(0, 2, 1)
        # Without detail in a direction nothing is known of it: the ridge keeps the picture where it is.
        ridge = 1e-5 * np.trace(normal, axis1=1, axis2=2) + 1
        normal += np.eye(6, dtype=np.float32) * ridge[:, None, None]
        solved = np.linalg.solve(normal, rows @ wanted)[:, :, 0]
        gain = np.where(np.abs(solved[:, 4:5]) < 0.2, 0.2, solved[:, 4:5])
        place += np.clip(solved[:, :4] / gain, -step, step)
        place[:, ::2] = np.clip(place[:, ::2], 0.8, 1.25)
    growth, shift = (place[:, ::2] - 1) * THUMBNAIL_SIDE_PX / 2, place[:, 1::2]
    moved = np.abs(np.concatenate([shift - growth, shift + growth], axis=1)).max(axis=1)
    return _resampled(a, place)[_INSIDE], b[_INSIDE], moved <= MAX_CROP * THUMBNAIL_SIDE_PX


def _resampled(pictures: Values, place: Values) -> Values:
    """Pictures moved and stretched, linearly interpolated; beyond an edge the edge goes on."""
    count, side, _, channels = pictures.shape
    pixels = np.arange(side, dtype=np.float32)
    across, down = (
        np.maximum(1 - np.abs(np.clip(at + _CENTRE, 0, side - 1)[:, :, None] - pixels), 0)
        for at in (_AXIS * place[:, 0:1] + place[:, 1:2], _AXIS * place[:, 2:3] + place[:, 3:4])
    )
    rows = (down @ pictures.reshape(count, side, side * channels)).reshape(count, side, side, channels)
    lying = rows.transpose(0, 2, 1, 3).reshape(count, side, side * channels)
    return np.asarray((across @ lying).reshape(count, side, side, channels).transpose(0, 2, 1, 3))


def _loose_similarity(a: Values, b: Values) -> Values:
    """Correlation of pairs in smooth luminance, a small crop or border apart."""
    (grey_a, slopes_a), (grey_b, slopes_b) = _greys(a), _greys(b)
    one, other = np.einsum("ij,kij->ik", grey_a, slopes_b), np.einsum("ij,kij->ik", grey_b, slopes_a)
    return np.asarray(np.sqrt(np.maximum(np.square(one).sum(axis=1), np.square(other).sum(axis=1))))


def _greys(pictures: Values) -> tuple[Values, Values]:
    """``Quick.greys`` and ``Quick.slopes``.

    The length of one picture's greys projected on another's slopes is, to first order, their correlation after the
    best small crop (tangent distance; Simard, LeCun and Denker 1993).
    """
    grey = pictures @ LUMINANCE
    for _ in range(3):
        grey = _softened(grey[..., None])[..., 0]
    across, down = np.gradient(grey, axis=2), np.gradient(grey, axis=1)
    small = np.stack([grey, across, across * _AXIS, down, down * _AXIS[:, None]])
    half = THUMBNAIL_SIDE_PX // 2
    inside = small[:, :, 2:-2, 2:-2]
    rows = (
        inside[:, :, ::2] + inside[:, :, 1::2]
    )  # slices: a mean over two axes of two takes four times as long
    small = ((rows[..., ::2] + rows[..., 1::2]) * np.float32(0.25)).reshape(5, -1, (half - 2) ** 2)
    small -= small.mean(axis=2, keepdims=True)
    # Orthonormal by Gram and Schmidt; a direction in which hardly anything changes is left out.
    slopes = np.zeros_like(small)
    for k, rest in enumerate(small):
        for earlier in slopes[:k]:
            rest = rest - np.einsum("ij,ij->i", rest, earlier)[:, None] * earlier  # noqa: PLW2901
        length = np.sqrt(np.einsum("ij,ij->i", rest, rest))
        slopes[k] = rest / np.where(length > 1, length, np.inf)[:, None]
    return slopes[0], slopes


def _square(thumbnails: Pixels) -> Values:
    return thumbnails.reshape(-1, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX, 3).astype(np.float32)


def _softened(pictures: Values) -> Values:
    """Each pixel mixed with its neighbours: how finer detail looks depends on encoding, resizing and blur."""
    for _ in range(2):  # down, then across
        soft = pictures * np.float32(0.5)
        quarter = soft * np.float32(0.5)
        soft[:, 1:] += quarter[:, :-1]
        soft[:, :-1] += quarter[:, 1:]
        soft[:, 0] += quarter[:, 0]
        soft[:, -1] += quarter[:, -1]
        pictures = soft.swapaxes(1, 2)
    return pictures


def _unit(pictures: Values) -> Values:
    """Flat pictures minus their mean, of length 1; of one colour: zeros."""
    values = pictures.reshape(len(pictures), int(np.prod(pictures.shape[1:])))
    values = values - values.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("ij,ij->i", values, values))
    return np.asarray(values / np.where(length > _FLAT, length, np.inf)[:, None], np.float32)


def _largest_block(difference: Values) -> Floats:
    """Largest mean of any block of the differences, shape (pairs, side, side, 3)."""
    if len(difference) == 0:
        return np.zeros(0)
    return np.asarray(np.abs(_block_means(difference)).max(axis=(1, 2, 3)), np.float64)


def _block_means(pictures: Values) -> Values:
    """Mean of every block of pictures, shape (pairs, side, side, 3), one at every other pixel across and down."""
    count, side = pictures.shape[:2]
    half = BLOCK_PX // 2
    # Rows first, then columns: one step over both axes takes three times as long.
    strips = pictures.reshape(count, side // half, half, side * 3).sum(axis=2)
    strips = strips[:, 1:] + strips[:, :-1]
    columns = strips.reshape(count, side // half - 1, side // half, half, 3).sum(axis=3)
    return np.asarray((columns[:, :, 1:] + columns[:, :, :-1]) / BLOCK_PX**2)


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


def text_words(key: pl.Expr) -> pl.Expr:
    """The words of a text key, without what stands between them; null where that is all there is.

    Dashes, brackets, quotes, stops and commas do not count; signs that say something by themselves do (#, +, %, &),
    and so does the minus of a number.
    """
    minus = key.str.replace_all(r"(^|\s)\p{Pd}(\d)", "${1}\u2212${2}")
    words = minus.str.replace_all(_PUNCTUATION, " ").str.replace_all(r" +", " ")
    apart = words.str.replace_all(f" ?{TEXT_SEPARATOR} ?", TEXT_SEPARATOR).str.strip_chars(" ")
    return pl.when(apart.str.strip_chars(TEXT_SEPARATOR) != "").then(apart)


def word_codes(keys: pl.Series) -> Integers:
    """Equal numbers for texts of equal words; -1 where there are none."""
    words = keys.to_frame("key").select(text_words(pl.col("key"))).to_series()
    return (words.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()


def first_of_equal_words(codes: Integers) -> tuple[Integers, Integers]:
    """Of ``word_codes``: for every text but the first of its words, that first one, and itself."""
    first, place = np.unique(codes, return_index=True, return_inverse=True)[1:]
    other = np.flatnonzero((first[place] < np.arange(len(codes))) & (codes >= 0))
    return np.asarray(first[place[other]]), other


def are_long(keys: pl.Series, settings: TextDuplicates) -> Flags:
    """Which texts have ``min_chars``, and are compared by their shingles."""
    return np.asarray(
        keys.to_frame("key").select(text_chars(pl.col("key")) >= settings.min_chars).to_series().to_numpy()
    )


def near_texts(
    keys: pl.Series, left: Integers, right: Integers, settings: TextDuplicates
) -> tuple[Flags, Floats]:
    """Which pairs count as one text, and their similarity: 1 where the words are equal, else Jaccard of the shingles.

    Texts of equal words count, however short. Others need ``min_chars`` both, and ``min_jaccard``: in a short text a
    letter that is another one is as often another word (shirt, skirt) as a slip.
    """
    codes, long = word_codes(keys), are_long(keys, settings)
    same = (codes[left] == codes[right]) & (codes[left] >= 0)
    score = same.astype(np.float64)
    rest = np.flatnonzero(~same)
    score[rest] = jaccard_of_texts(keys, left[rest], right[rest], settings.shingle_chars)
    return np.asarray(same | ((score >= settings.min_jaccard) & long[left] & long[right])), score


class Shingles(NamedTuple):
    """Sets of hashed character n-grams in compressed rows: text i has values[offsets[i]:offsets[i + 1]]."""

    values: npt.NDArray[np.uint64]
    offsets: Integers

    @property
    def sizes(self) -> Integers:
        """Number of distinct shingles of every text."""
        return np.diff(self.offsets)


def shingles(keys: pl.Series, chars: int) -> Shingles:
    """Distinct n-grams of ``chars`` characters of every text, hashed to 48 bits and sorted.

    A text shorter than ``chars`` has none. Two n-grams share a hash with a chance of about 2**-48; a collision would
    make two texts look more alike, never less.
    """
    parts = [_shingles_of_block(keys[start:stop], chars) for start, stop in _text_blocks(keys)]
    sizes = np.concatenate([np.zeros(1, np.int64), *(part.sizes for part in parts)])
    values = np.concatenate([np.zeros(0, np.uint64), *(part.values for part in parts)])
    return Shingles(values, np.cumsum(sizes))


def shingle_blocks(keys: pl.Series, chars: int) -> Iterator[Shingles]:
    """``shingles`` of consecutive texts, in blocks of bounded size."""
    for start, stop in _text_blocks(keys):
        yield _shingles_of_block(keys[start:stop], chars)


def _text_blocks(keys: pl.Series) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of at most _TEXTS_AT_ONCE texts and about _CHARS_AT_ONCE characters."""
    total = np.cumsum(keys.str.len_chars().to_numpy().astype(np.int64))
    start = 0
    while start < len(keys):
        done = total[start - 1] if start else 0
        stop = int(np.searchsorted(total, done + _CHARS_AT_ONCE, side="right"))
        stop = min(max(stop, start + 1), start + _TEXTS_AT_ONCE)
        yield start, stop
        start = stop


def _shingles_of_block(keys: pl.Series, chars: int) -> Shingles:
    lengths = keys.str.len_chars().to_numpy().astype(np.int64)
    codes = _mixed(np.frombuffer("".join(keys.to_list()).encode("utf-32-le", "surrogatepass"), np.uint32))
    windows = max(len(codes) - chars + 1, 0)
    hashes = np.zeros(windows, np.uint64)
    for offset in range(chars):
        hashes = hashes * _BASE + codes[offset : offset + windows]
    # n-grams that run over the end of their text are no n-grams of it
    row = np.repeat(np.arange(len(lengths)), lengths)[:windows]
    is_inside = np.arange(windows) + chars <= np.cumsum(lengths)[row]
    tagged = _tagged(row[is_inside], _mixed(hashes[is_inside]) >> _TAG_BITS)
    tagged.sort()
    is_new = np.ones(len(tagged), bool)
    is_new[1:] = tagged[1:] != tagged[:-1]
    tagged = tagged[is_new]
    sizes = np.bincount((tagged >> _VALUE_BITS).astype(np.int64), minlength=len(lengths))
    return Shingles(tagged & _VALUE_MASK, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def _tagged(rows: Integers, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One number of each row (16 bits) and value (48 bits): one sort of them is a sort within every row."""
    return (rows.astype(np.uint64) << _VALUE_BITS) | values


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
    total = np.cumsum(sizes[left] + sizes[right])
    start = 0
    while start < len(left):
        done = total[start - 1] if start else 0
        stop = int(np.searchsorted(total, done + _SHINGLES_AT_ONCE, side="right"))
        stop = min(max(stop, start + 1), start + _TEXTS_AT_ONCE)
        i, j = left[start:stop], right[start:stop]
        pair = np.arange(len(i))
        tagged = np.concatenate(
            [_tagged(np.repeat(pair, sizes[of]), sets.values[_gather(sets, of)]) for of in (i, j)]
        )
        tagged.sort(kind="stable")  # merges the two halves, each of which is sorted
        shared = tagged[1:][tagged[1:] == tagged[:-1]] >> _VALUE_BITS
        counts = np.bincount(shared.astype(np.int64), minlength=len(i))
        either = sizes[i] + sizes[j] - counts
        found[start:stop] = counts / np.maximum(either, 1)
        start = stop
    return found


def jaccard_of_texts(keys: pl.Series, left: Integers, right: Integers, chars: int) -> Floats:
    """``jaccard`` of pairs of texts at these positions, in bounded memory however long the texts are."""
    found = np.zeros(len(left))
    if len(left) == 0:
        return found
    rows, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
    keys, left, right = keys.gather(rows), ends[: len(left)], ends[len(left) :]
    lengths = keys.str.len_chars().to_numpy().astype(np.int64)
    total = np.cumsum(lengths[left] + lengths[right])
    start = 0
    while start < len(left):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + 4 * _CHARS_AT_ONCE, side="right")), start + 1)
        ends = np.concatenate([left[start:stop], right[start:stop]])
        rows, position = np.unique(ends, return_inverse=True)
        found[start:stop] = jaccard(
            shingles(keys.gather(rows), chars), position[: stop - start], position[stop - start :]
        )
        start = stop
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
