"""Find items that outside sets hold already, such as the test set of a benchmark, and take them out.

Belongs here: matching items with the pictures, texts, hashes and embeddings of outside sets, and the report. Does not belong here:
reading those sets (``adapters/outside_sets.py``) and what counts as the same or nearly the same (``similarity``).

An item matches a set by its picture or by one of its texts; either is enough, as either gives an answer away.
Two searches look for what is nearly the same: the one that removes compares everything with everything where that is
affordable; the one that audits what stayed is that of ``duplicates``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from dataset_pipeline.config import Duplicates, ImageDuplicates, OutsideSet, TextDuplicates
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.leak_search import TextSearch
from dataset_pipeline.stages.picture_pairs import near_picture_pairs
from dataset_pipeline.stages.semantic import SLACK, Vectors
from dataset_pipeline.stages.similarity import (
    Floats,
    Integers,
    Values,
    load_thumbnails,
    may_be_near,
    near_pictures,
    pictures_of,
    quick,
    slices,
    text_key,
    thumbnail_batches,
    turned,
)
from dataset_pipeline.stages.text_pairs import near_text_pairs
from dataset_pipeline.tables import MATCH_KINDS, MATCHES, OUTSIDE_PICTURES, REMOVED, empty

EXHAUSTIVE_COMPARISONS: Final = 1_000_000_000
"""Up to so many pairs of a picture of the dataset and one of a set are all compared; beyond, those that the search for
duplicates takes for candidates."""

EXAMPLES: Final = 10
_ROWS = 2048
_EDGES: Final = {"one": pl.String(), "other": pl.String(), "score": pl.Float64()}


@dataclass(frozen=True)
class Outside:
    """What the outside sets hold."""

    pictures: pl.LazyFrame
    """OUTSIDE_PICTURES"""
    texts: pl.DataFrame
    """OUTSIDE_LINES: texts as they came."""
    hashes: pl.DataFrame
    """OUTSIDE_LINES: lower-case hexadecimal: 64 digits (SHA-256 of a file or of pixels) or 16 (pHash)."""

    def of(self, names: Sequence[str]) -> "Outside":
        """What the sets of these names hold."""
        is_one = pl.col("set").is_in(list(names))
        return Outside(self.pictures.filter(is_one), self.texts.filter(is_one), self.hashes.filter(is_one))


@dataclass(frozen=True)
class OutsideVectors:
    """Embeddings of an outside set."""

    values: Values
    """Shape (vectors, dimensions), each of length 1."""

    def name(self, rows: Integers) -> pl.Series:
        """What the vectors at these positions are called: by their row, from 1."""
        return pl.select(pl.format("row {}", pl.Series(rows + 1))).to_series()


def removing(sets: Sequence[OutsideSet]) -> list[OutsideSet]:
    """The sets whose items are left out."""
    return [one for one in sets if one.action == "remove"]


def outside_pictures(images: pl.LazyFrame) -> pl.LazyFrame:
    """OUTSIDE_PICTURES of the IMAGES of outside sets; what cannot be decoded has no hash of pixels and no thumbnail."""
    reference = pl.col("image_ref").str.splitn("/", 2).struct
    return images.with_columns(set=reference[0], name=reference[1]).select(*OUTSIDE_PICTURES)


def find_matches(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    outside: Outside,
    text_names: Sequence[str],
    sets: Sequence[OutsideSet],
    settings: Duplicates,
    *,
    is_audit: bool = False,
    embedded: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """MATCHES: for every item and outside set that match, the surest way in which they do; sorted.

    ``items``: ITEMS + texts; ``images``: sha256, pixel_hash, phash, thumbnail. Nearly the same is what
    ``duplicates`` calls so, with the same thresholds; a listed pHash counts by its bits, as there are no pixels
    that could verify it. With ``is_audit``, near matches are searched for as duplicates are. ``embedded``: MATCHES by ``embedding_matches``.
    """
    if not sets:
        return empty(MATCHES)
    found = pl.concat(
        [
            empty(MATCHES),
            _picture_matches(items, images, outside, sets, settings.image.linking, is_audit=is_audit),
            _text_matches(items, outside.texts, text_names, sets, settings.text, is_audit=is_audit),
            *([] if embedded is None else [embedded]),
        ]
    )
    strength = {kind: number for number, kind in enumerate(MATCH_KINDS)}
    return (
        found.with_columns(strength=pl.col("kind").replace_strict(strength, return_dtype=pl.Int64))
        .sort("item_id", "set", "strength", pl.col("score").neg(), "outside")
        .unique(["item_id", "set"], keep="first", maintain_order=True)
        .drop("strength")
    )


def contaminated(matches: pl.DataFrame, sets: Sequence[OutsideSet], kept: pl.Series) -> pl.DataFrame:
    """REMOVED: every item that matches a set whose action is 'remove', sorted by id, but for those that people keep."""
    names = [one.name for one in removing(sets)]
    score = pl.col("score").clip(0, 0.9999).round(4).cast(pl.String)
    how = (
        pl.when(pl.col("kind").is_in(["near_image", "near_text", "near_embedding"]))
        .then(pl.format("{} {}", "kind", score))
        .otherwise("kind")
    )
    return (
        matches.filter(pl.col("set").is_in(names) & ~pl.col("item_id").is_in(kept.implode()))
        .sort("item_id", "set")
        .group_by("item_id", maintain_order=True)
        .agg(detail=pl.format("{}: {} of {}", "set", how, "outside").str.join("; "))
        .select(
            "item_id",
            stage=pl.lit("decontamination"),
            reason=pl.lit("in_outside_set"),
            detail="detail",
            kept_item_id=pl.lit(None, pl.String),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in REMOVED.items())
    )


def decontamination_report(
    items: int,
    matches: pl.DataFrame,
    removed: pl.DataFrame,
    outside: Outside,
    sets: Sequence[OutsideSet],
    settings: Duplicates,
    vectors: Mapping[str, OutsideVectors] | None = None,
) -> dict[str, Any]:
    """Contents of ``reports/decontamination.json``; ``vectors``: of sets that have embeddings; ``items``: how many there were; ``removed``: REMOVED."""
    pictures = outside.pictures.select("set", is_read=pl.col("pixel_hash").is_not_null()).collect()
    long, short = (pl.col("value").str.len_chars() == digits for digits in (64, 16))
    held = {
        "pictures": pictures.filter("is_read"),
        "unreadable_pictures": pictures.filter(~pl.col("is_read")),
        "texts": outside.texts,
        "sha256": outside.hashes.filter(long),
        "phash": outside.hashes.filter(short),
    }
    gone = removed["item_id"].implode()
    by_set = {
        one.name: {
            "action": one.action,
            **{what: int((table["set"] == one.name).sum()) for what, table in held.items()},
            "embeddings": len(vectors[one.name].values) if vectors and one.name in vectors else 0,
            "matching_items": (of := matches.filter(pl.col("set") == one.name)).height,
            "removed_items": int(of["item_id"].is_in(gone).sum()) if one.action == "remove" else 0,
            "by_kind": {kind: count for kind in MATCH_KINDS if (count := int((of["kind"] == kind).sum()))},
            "most_matched": of.group_by("outside", "kind")
            .len("items")
            .sort("items", "outside", "kind", descending=[True, False, False])
            .head(EXAMPLES)
            .to_dicts(),
            "max_hash_distance": one.max_hash_distance,
            "min_text_chars": one.min_text_chars,
            "embedding": None if one.embeddings is None else one.embeddings.model_dump(exclude={"path"}),
        }
        for one in sets
    }
    return {
        "items": items,
        "removed": removed.height,
        "sets": by_set,
        "examples": [
            row
            for one in sets
            for row in matches.filter(pl.col("set") == one.name)
            .sort(pl.col("score"), "item_id")
            .head(EXAMPLES)
            .to_dicts()
        ],
        "thresholds": settings.model_dump(mode="json", include={"image", "text"}),
    }


# -- pictures ------------------------------------------------------------------------------


def _picture_matches(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    outside: Outside,
    sets: Sequence[OutsideSet],
    settings: ImageDuplicates,
    *,
    is_audit: bool,
) -> pl.DataFrame:
    files = pictures_of(items, images)
    theirs = outside.pictures.select("set", "name", "sha256", "pixel_hash", "phash").collect().sort("name")
    listed = outside.hashes.filter(pl.col("value").str.len_chars() == 64)
    exact = [
        _equal(files, "sha256", theirs, "sha256", "same_bytes"),
        _equal(files, "sha256", listed, "value", "same_bytes"),
        _equal(files, "pixel_hash", theirs, "pixel_hash", "same_pixels"),
        _equal(files, "pixel_hash", listed, "value", "same_pixels"),
    ]
    found = pl.concat(
        [
            *exact,
            _near_pictures(files, theirs, images, outside.pictures, settings, is_audit=is_audit),
            _near_hashes(files, outside.hashes, sets),
        ]
    )
    return (
        items.select("item_id", sha256="image_sha256")
        .join(found.lazy(), on="sha256")
        .select("item_id", "set", "kind", "score", outside="name")
        .collect()
    )


def _equal(files: pl.DataFrame, key: str, theirs: pl.DataFrame, value: str, kind: str) -> pl.DataFrame:
    """sha256, set, name, kind, score of files whose ``key`` is a ``value`` of a set, the first one of each set."""
    first = theirs.drop_nulls(value).unique(["set", value], keep="first", maintain_order=True)
    own = files.select(file="sha256", key=key)
    return own.join(first.select("set", "name", key=value), on="key").select(
        "set", "name", sha256="file", kind=pl.lit(kind), score=pl.lit(1.0)
    )[["sha256", "set", "name", "kind", "score"]]


def _near_pictures(
    files: pl.DataFrame,
    theirs: pl.DataFrame,
    images: pl.LazyFrame,
    pictures: pl.LazyFrame,
    settings: ImageDuplicates,
    *,
    is_audit: bool,
) -> pl.DataFrame:
    """sha256 of an item's file, set, name, kind and score: the most similar picture of every set that is near."""
    theirs = theirs.drop_nulls("pixel_hash")
    ours = files.unique("pixel_hash", keep="first", maintain_order=True)
    others = theirs.sort("pixel_hash", "sha256").unique("pixel_hash", keep="first", maintain_order=True)
    first = theirs.unique(["set", "pixel_hash"], keep="first", maintain_order=True)
    found = [
        pl.DataFrame(
            schema={"one": pl.String(), "set": pl.String(), "name": pl.String(), "score": pl.Float64()}
        )
    ]
    if settings.near and ours.height and others.height:
        is_affordable = ours.height * others.height <= EXHAUSTIVE_COMPARISONS
        search = _all_near if is_affordable and not is_audit else _candidates_near
        for edges in search(ours, others, images, pictures, settings):
            of_sets = edges.join(first.select("set", "name", other="pixel_hash"), on="other")
            found.append(_best(of_sets.select("one", "set", "name", "score"), "one"))
    best = _best(pl.concat(found), "one")
    return best.join(files.select("sha256", one="pixel_hash"), on="one").select(
        "sha256", "set", "name", kind=pl.lit("near_image"), score="score"
    )


def _best(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """Of every key and set the row of the highest score, the first name among equals."""
    ordered = rows.sort(key, "set", pl.col("score").neg(), "name")
    return ordered.unique([key, "set"], keep="first", maintain_order=True)


def _all_near(
    ours: pl.DataFrame,
    others: pl.DataFrame,
    images: pl.LazyFrame,
    pictures: pl.LazyFrame,
    settings: ImageDuplicates,
) -> Iterator[pl.DataFrame]:
    """_EDGES: hashes of pixels of near pictures, all of ``ours`` against all ``others``, in bounded memory."""
    their_thumbnails = load_thumbnails(pictures, others["sha256"])
    for at, thumbnails in thumbnail_batches(images, ours["sha256"]):
        for other, end in slices(others.height, _ROWS):
            block = their_thumbnails[other:end]
            lying = [quick(one, settings) for one in turned(block, settings)]
            for start, stop in slices(len(at), _ROWS):
                rows = quick(thumbnails[start:stop], settings)
                may_be = np.logical_or.reduce([may_be_near(rows, one, settings) for one in lying])
                i, j = np.nonzero(may_be)
                both = np.concatenate([thumbnails[start:stop], block])
                holds, score = near_pictures(both, i, j + (stop - start), settings)
                yield _edges(
                    ours["pixel_hash"].gather(at[start + i[holds]]),
                    others["pixel_hash"].gather(other + j[holds]),
                    score[holds],
                )


def _candidates_near(
    ours: pl.DataFrame,
    others: pl.DataFrame,
    images: pl.LazyFrame,
    pictures: pl.LazyFrame,
    settings: ImageDuplicates,
) -> Iterator[pl.DataFrame]:
    """The same by the search for duplicates, among all pictures of both."""
    columns = ["pixel_hash", "sha256", "phash"]
    every = pl.concat([ours.select(columns), others.select(columns)])
    every = every.unique("pixel_hash", keep="first", maintain_order=True)
    thumbnails = pl.concat([images.select("sha256", "thumbnail"), pictures.select("sha256", "thumbnail")])
    pairs = near_picture_pairs(every.with_columns(item_id="pixel_hash"), thumbnails, settings)
    yield _across(every["pixel_hash"], pairs, ours["pixel_hash"], others["pixel_hash"])


def _near_hashes(files: pl.DataFrame, hashes: pl.DataFrame, sets: Sequence[OutsideSet]) -> pl.DataFrame:
    """sha256, set, name, kind and score of files whose pHash is listed, or nearly: the nearest one of each set."""
    found = [
        pl.DataFrame(
            schema={"sha256": pl.String(), "set": pl.String(), "name": pl.String(), "score": pl.Float64()}
        )
    ]
    files = files.drop_nulls("phash")
    own = files["phash"].to_numpy()
    for one in sets:
        listed = hashes.filter((pl.col("set") == one.name) & (pl.col("value").str.len_chars() == 16))
        listed = listed.unique("value", keep="first", maintain_order=True)
        theirs = np.array([int(value, 16) for value in listed["value"]], np.uint64)
        for start, stop in slices(len(own) if len(theirs) else 0, _ROWS):
            bits = np.bitwise_count(own[start:stop, None] ^ theirs[None, :])
            nearest = bits.argmin(axis=1)
            distance = bits[np.arange(stop - start), nearest]
            rows = np.flatnonzero(distance <= one.max_hash_distance)
            found.append(
                pl.DataFrame(
                    {
                        "sha256": files["sha256"].gather(start + rows),
                        "set": pl.repeat(one.name, len(rows), dtype=pl.String, eager=True),
                        "name": listed["name"].gather(nearest[rows]),
                        "score": 1 - distance[rows].astype(np.float64) / 64,
                    }
                )
            )
    return pl.concat(found).select("sha256", "set", "name", kind=pl.lit("near_phash"), score="score")


# -- embeddings ----------------------------------------------------------------------------


def embedding_matches(
    own: Mapping[str, Vectors],
    theirs: Mapping[str, OutsideVectors],
    sets: Sequence[OutsideSet],
    *,
    is_audit: bool = False,
) -> pl.DataFrame:
    """MATCHES of kind near_embedding: of every item and set, the most similar vector whose cosine is ``min_cosine`` or more.

    ``own``: by the name of a set, embeddings of the items by its model; ``theirs``: its own. All are compared with all, in
    bounded memory: an audit takes the vectors of the set one by one, and asks for SLACK more, as sums differ by their order.
    Raises ``ConfigError`` where the two have different numbers of dimensions: another model made the set's.
    """
    found = [empty(MATCHES)]
    for one in sets:
        if one.embeddings is None:
            continue
        mine, others = own[one.name], theirs[one.name]
        if len(mine.values) and mine.values.shape[1] != others.values.shape[1]:
            raise ConfigError(
                f"decontaminate.{one.name}.embeddings: {one.embeddings.path} has {others.values.shape[1]} dimensions, those of "
                f"{one.embeddings.model} have {mine.values.shape[1]}",
                hint="Name the model that made the vectors in decontaminate.embeddings.model",
            )
        row, nearest, score = (_most_similar_each if is_audit else _most_similar)(mine.values, others.values)
        holds = np.flatnonzero(score >= one.embeddings.min_cosine + (SLACK if is_audit else 0))
        near = pl.DataFrame(
            {"row": row[holds], "outside": others.name(nearest[holds]), "score": score[holds]},
            schema={"row": pl.Int64, "outside": pl.String, "score": pl.Float64},
        )
        found.append(
            mine.key.join(near, on="row").select(
                "item_id",
                pl.lit(one.name).alias("set"),
                pl.lit("near_embedding").alias("kind"),
                "score",
                "outside",
            )
        )
    return pl.concat(found).sort("item_id", "set")


def _most_similar(mine: Values, others: Values) -> tuple[Integers, Integers, Floats]:
    """Row of ``mine``, its most similar row of ``others`` (the first of equal ones), and their cosine."""
    best, nearest = np.full(len(mine), -np.inf), np.zeros(len(mine), np.int64)
    for start, stop in slices(len(mine), _ROWS):
        for other, end in slices(len(others), _ROWS):
            product = mine[start:stop] @ others[other:end].T
            at = product.argmax(axis=1)
            score = product[np.arange(stop - start), at].astype(np.float64)
            is_better = score > best[start:stop]
            best[start:stop][is_better], nearest[start:stop][is_better] = (
                score[is_better],
                other + at[is_better],
            )
    return np.arange(len(mine)), nearest, best


def _most_similar_each(mine: Values, others: Values) -> tuple[Integers, Integers, Floats]:
    """The same, one row of ``others`` after the other."""
    best, nearest = np.full(len(mine), -np.inf), np.zeros(len(mine), np.int64)
    for number, other in enumerate(others):
        score = (mine @ other).astype(np.float64)
        nearest[score > best] = number
        np.maximum(best, score, out=best)
    return np.arange(len(mine)), nearest, best


# -- texts ---------------------------------------------------------------------------------


def _text_matches(
    items: pl.LazyFrame,
    texts: pl.DataFrame,
    text_names: Sequence[str],
    sets: Sequence[OutsideSet],
    settings: TextDuplicates,
    *,
    is_audit: bool,
) -> pl.DataFrame:
    least = {one.name: one.min_text_chars for one in sets}
    theirs = (
        texts.select("set", "name", key=text_key(["value"]))
        .drop_nulls("key")
        .unique(["set", "key"], keep="first", maintain_order=True)
        .filter(pl.col("key").str.len_chars() >= pl.col("set").replace_strict(least, return_dtype=pl.Int64))
    )
    if not text_names or theirs.is_empty():
        return empty(MATCHES)
    ours = _own_texts(items, text_names)
    distinct = ours["key"].unique().sort()
    same = theirs.filter(pl.col("key").is_in(distinct.implode())).with_columns(
        kind=pl.lit("same_text"), score=pl.lit(1.0)
    )
    found = [same.select("key", "set", "name", "kind", "score")]
    if settings.near:
        across = _near_texts(distinct, theirs["key"].unique().sort(), settings, is_audit=is_audit)
        near = across.join(theirs.select("set", "name", other="key"), on="other")
        near = _best(near.select("set", "name", "score", key="one"), "key")
        found.append(near.select("key", "set", "name", kind=pl.lit("near_text"), score="score"))
    return ours.join(pl.concat(found), on="key").select("item_id", "set", "kind", "score", outside="name")


def _own_texts(items: pl.LazyFrame, text_names: Sequence[str]) -> pl.DataFrame:
    """item_id and key of every text of the items, and of all texts of an item in one."""
    together = pl.concat_str([pl.col(name) for name in text_names], separator=" ", ignore_nulls=True)
    texts = [pl.col(name) for name in text_names] + ([together] if len(text_names) > 1 else [])
    each = [items.select("item_id", text=text).select("item_id", key=text_key(["text"])) for text in texts]
    return pl.concat(each).drop_nulls("key").unique().collect()


def _near_texts(
    ours: pl.Series, theirs: pl.Series, settings: TextDuplicates, *, is_audit: bool
) -> pl.DataFrame:
    """_EDGES of texts that are nearly the same."""
    keys = pl.concat([ours, theirs]).unique().sort().rename("key")
    if is_audit:
        return _across(keys, near_text_pairs(keys, settings), ours, theirs)
    is_ours, is_theirs = (keys.is_in(side.implode()).to_numpy() for side in (ours, theirs))
    edges = [pl.DataFrame(schema=_EDGES)]
    search = TextSearch(keys, settings)
    for left, right, score in search.near(
        lambda i, j: np.asarray((is_ours[i] & is_theirs[j]) | (is_theirs[i] & is_ours[j]))
    ):
        holds = score >= settings.min_jaccard
        edges.append(_across(keys, (left[holds], right[holds], score[holds]), ours, theirs))
    if search.uncompared:  # in crowds the two searches look at different pairs
        edges.append(_across(keys, near_text_pairs(keys, settings), ours, theirs))
    return pl.concat(edges)


def _across(
    names: pl.Series, pairs: tuple[Integers, Integers, Floats], ours: pl.Series, theirs: pl.Series
) -> pl.DataFrame:
    """_EDGES: pairs of positions in ``names`` of which one end is ours and the other theirs."""
    is_ours, is_theirs = (names.is_in(side.implode()).to_numpy() for side in (ours, theirs))
    left, right, score = pairs
    ends = [pl.DataFrame(schema=_EDGES)]
    for one, other in ((left, right), (right, left)):
        holds = np.flatnonzero(is_ours[one] & is_theirs[other])
        ends.append(_edges(names.gather(one[holds]), names.gather(other[holds]), score[holds]))
    return pl.concat(ends)


def _edges(one: pl.Series, other: pl.Series, score: Floats) -> pl.DataFrame:
    return pl.DataFrame({"one": one, "other": other, "score": score}, schema=_EDGES)
