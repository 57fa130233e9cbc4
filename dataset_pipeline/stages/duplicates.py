"""Find duplicate items, keep one of each set, and name the sets.

Belongs here: which of two duplicates stays, what becomes of the other, and the report. Does not belong here: what
counts as the same (``similarity``), the searches for pairs (``picture_pairs``, ``text_pairs``), and what may not cross
splits (``split``).

The searches work on distinct pictures and distinct texts, never on items, so that a million copies cost as much as one.
Choosing takes a bounded number of comparisons an item, however large a set is (SMALL_SET).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from dataset_pipeline.config import Duplicates
from dataset_pipeline.stages.decisions import decided_removals
from dataset_pipeline.stages.pair_search import Pair
from dataset_pipeline.stages.picture_pairs import near_picture_pairs
from dataset_pipeline.stages.similarity import (
    Flags,
    Floats,
    Integers,
    components,
    load_thumbnails,
    near_pictures,
    near_texts,
    pictures_of,
    text_key,
)
from dataset_pipeline.stages.text_pairs import near_text_pairs
from dataset_pipeline.tables import DEDUPLICATED, PAIRS, REMOVED, empty

CONFLICT_COLUMNS = ("label", "licence", "author", "published_split")

SMALL_SET = 64
"""In a set of so many items, those that stay and all others are compared with each other. In a larger one the same is
done as long as every kept item removes LEAST_GAIN of what is left; then only listed pairs count, and those that further
searches among what is left list, until they find none or have looked at SEARCHED_AGAIN times as many items."""

LEAST_GAIN = 1 / 16
SEARCHED_AGAIN = 2


@dataclass(frozen=True)
class Deduplicated:
    """Kept items (DEDUPLICATED + texts), removed rows (REMOVED), and what duplicates disagreed on."""

    items: pl.LazyFrame
    removed: pl.LazyFrame
    conflicts: pl.DataFrame
    """item_id (removed), kept_item_id, column, value, kept_value: where the two differ."""
    ranks: pl.DataFrame
    """item_id, rank: the order in which items are preferred, best first."""


# -- pairs ---------------------------------------------------------------------------------


def find_pairs(
    items: pl.LazyFrame, images: pl.LazyFrame, text_names: Sequence[str], settings: Duplicates
) -> pl.DataFrame:
    """Verified duplicate pairs of ``items`` (ITEMS + texts): PAIRS, sorted, each pair once a kind.

    ``images``: sha256, pixel_hash, phash, thumbnail of every picture. Identical files, identical pixels and
    identical texts are stars around their first item; ``near_image`` pairs join the first items of
    two pictures, ``near_text`` those of two texts.
    """
    keyed = items.select("item_id", "image_sha256", text_key=text_key(text_names)).sort("item_id").collect()
    found = [empty(PAIRS), _star(keyed, "image_sha256", "same_bytes"), _star(keyed, "text_key", "same_text")]

    files = pictures_of(keyed.lazy(), images)
    found.append(_star(files, "pixel_hash", "same_pixels"))
    return pl.concat([*found, *_near_pairs(keyed, files, images, settings)]).sort(
        "item_id", "other_item_id", "kind"
    )


def _near_pairs(
    keyed: pl.DataFrame, files: pl.DataFrame, images: pl.LazyFrame, settings: Duplicates
) -> list[pl.DataFrame]:
    """PAIRS of near pictures and of near texts; ``keyed``: item_id, text_key; ``files``: its ``pictures_of``."""
    found = []
    if settings.image.near:
        pictures = (
            files.group_by("pixel_hash")
            .agg(pl.col("item_id").min(), pl.col("sha256").min(), pl.col("phash").sort_by("sha256").first())
            .sort("item_id")
        )
        near = near_picture_pairs(pictures, images, settings.image.linking)
        found.append(_pair_table(pictures["item_id"], near, "near_image"))
    if settings.text.near:
        texts = keyed.drop_nulls("text_key").group_by("text_key").agg(pl.col("item_id").min()).sort("item_id")
        found.append(
            _pair_table(texts["item_id"], near_text_pairs(texts["text_key"], settings.text), "near_text")
        )
    return found


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


# -- which one stays -----------------------------------------------------------------------


def deduplicate(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    pairs: pl.DataFrame,
    text_names: Sequence[str],
    settings: Duplicates,
    human_sources: Sequence[str],
    decisions: pl.DataFrame | None = None,
) -> Deduplicated:
    """Keep one item of every set of duplicates; all others are removed, each naming the kept one.

    Two items are duplicates when they share what ``settings.item`` says, exactly or nearly, and do not differ
    in a column of ``settings.distinct_by``. Of picture and text only one may be nearly the same: variants differ
    a little in both (a drawing of two men holding hands, one of two women, and one word of the caption); they
    stay, joined by their pairs. A removed item was compared with the kept item itself: being like something
    that is like it is not enough. Of the kept items of one set no two are duplicates; in sets beyond SMALL_SET of which
    most items are unlike, as far as searches among them find any. The kept item takes over the group keys of those it stands for.

    ``duplicate_group`` is the smallest kept item_id among all items joined by any chain of ``pairs``.
    Rows are sorted by item_id; kept and removed rows together are the rows of ``items``. ``decisions`` (DECISIONS) of
    people override what is found.
    """
    table = _ranked(items, images, text_names, settings, human_sources)
    mode = _mode(table, text_names, settings)
    removals = _removals(table, images, pairs, mode, settings)
    if decisions is not None:
        removals = decided_removals(removals, table["item_id"], decisions)
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
    return Deduplicated(kept, removed.lazy(), _conflicts(items, removals), table.select("item_id", "rank"))


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


_NEAR_KINDS = {"pixel_hash": "near_image", "text_key": "near_text"}
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
    listed: dict[str, pl.DataFrame] = {}
    for key in shared:
        codes = _codes(table[key])
        table = table.with_columns(pl.Series(f"{key}_code", codes))
        near = listed[key] = _near_codes(table, pairs, key)
        sets = components(int(codes.max(initial=0)) + 1, near["one"].to_numpy(), near["other"].to_numpy())
        table = table.with_columns(pl.Series(f"{key}_set", sets[codes]))
    table = table.with_columns(
        pl.col(name).sort_by("rank").first().over(*shared, "apart").alias(f"best_{name}") for name in best
    )
    removals = _near_removals(
        table.filter(pl.col("item_id") == pl.col("best_item_id")), images, listed, settings
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
        table.join(removals, left_on="best_item_id", right_on="item_id", how="left")
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
    listed: dict[str, pl.DataFrame],
    settings: Duplicates,
) -> pl.DataFrame:
    """Of items that equal no better one, those that are nearly equal to a better one.

    Only items whose pictures and whose texts are joined by some chain of near pairs can be; among them the best
    is kept, all others are compared with it, and those it does not stand for go on to the next round: up to SMALL_SET
    rounds, or one for every LEAST_GAIN removed. Where a round does less in a large set, the rest of it is decided along
    the listed pairs: not all are in a crowd such as that of texts by a template, so what is left is searched again.
    """
    joined = [*(f"{key}_set" for key in listed), "apart"]
    table = (
        table.filter(pl.len().over(joined) > 1)
        .with_columns(group=pl.col("rank").min().over(joined))
        .sort("group", "rank")
    )
    if table.height == 0:
        return empty(_REMOVALS)
    compare = _Comparison(table, images, "pixel_hash" in listed, "text_key" in listed, settings)
    removed, kept = [], []
    details: list[str] = []

    def take(leaders: Integers, followers: Integers) -> Flags:
        is_duplicate, detail = compare(leaders, followers)
        removed.append(followers[is_duplicate])
        kept.append(leaders[is_duplicate])
        details.extend(text for text, holds in zip(detail, is_duplicate, strict=True) if holds)
        return is_duplicate

    group = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
    remaining, unlike = np.arange(table.height), []
    while len(remaining):
        is_leader = np.ones(len(remaining), bool)
        is_leader[1:] = group[remaining[1:]] != group[remaining[:-1]]
        leaders = remaining[is_leader][np.cumsum(is_leader) - 1]
        followers = remaining[~is_leader]
        is_duplicate = take(leaders[~is_leader], followers)
        sizes, gains = np.bincount(group[followers]), np.bincount(group[followers[is_duplicate]])
        gains = np.append(gains, np.zeros(len(sizes) - len(gains)))
        is_crowd = ((sizes > SMALL_SET) & (gains < LEAST_GAIN * sizes))[group[followers]]
        unlike.append(followers[~is_duplicate & is_crowd])
        remaining = followers[~is_duplicate & ~is_crowd]
    rest = np.sort(np.concatenate(unlike))
    room = SEARCHED_AGAIN * len(rest)
    while len(rest):
        leaders, followers = _along(*_listed_pairs(table[rest], listed), len(rest))
        gone = followers[take(rest[leaders], rest[followers])]
        rest = np.delete(rest, gone)
        room -= len(rest)
        if len(gone) == 0 or room < 0:
            break
        listed = _listed_again(table[rest], images, list(listed), settings)
    ids = table["item_id"]
    return pl.DataFrame(
        {
            "item_id": ids.gather(np.concatenate(removed)),
            "kept_item_id": ids.gather(np.concatenate(kept)),
            "detail": details,
        },
        schema=_REMOVALS,
    )


def _listed_again(
    table: pl.DataFrame, images: pl.LazyFrame, keys: Sequence[str], settings: Duplicates
) -> dict[str, pl.DataFrame]:
    """Of each of these keys, the codes (one, other) that a search among the rows of ``table`` finds to be near."""
    keyed = table.sort("item_id")
    if "text_key" not in keys:
        keyed = keyed.with_columns(text_key=pl.lit(None, pl.String))
    shown = keyed if "pixel_hash" in keys else keyed.clear()
    near = pl.concat([empty(PAIRS), *_near_pairs(keyed, pictures_of(shown.lazy(), images), images, settings)])
    return {key: _near_codes(table, near, key) for key in keys}


def _near_codes(table: pl.DataFrame, pairs: pl.DataFrame, key: str) -> pl.DataFrame:
    """Codes (one, other) of the near pairs of a key."""
    codes = table[f"{key}_code"].to_numpy()
    one, other = _positions(table["item_id"], pairs, _NEAR_KINDS[key])
    return pl.DataFrame({"one": codes[one], "other": codes[other]})


def _listed_pairs(table: pl.DataFrame, listed: dict[str, pl.DataFrame]) -> Pair:
    """Rows of ``table`` that the listed near pairs make duplicates; the better one first.

    ``listed``: of every key that counts, the codes (one, other) that are near. Two rows must be equal in the other key.
    """
    rows = table.with_row_index("row")
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for key, near in listed.items():
        code = f"{key}_code"
        shared = [f"{name}_code" for name in listed if name != key] + ["apart"]
        counts = rows.group_by(code).len("items")
        # From the end with fewer items, so that a picture of a million texts is not laid out for every neighbour.
        is_fewer = pl.col("items") <= pl.col("items_other")
        near = (  # noqa: PLW2901
            near.join(counts, left_on="one", right_on=code)
            .join(counts, left_on="other", right_on=code, suffix="_other")
            .select(
                few=pl.when(is_fewer).then("one").otherwise("other"),
                many=pl.when(is_fewer).then("other").otherwise("one"),
            )
        )
        ends = near.join(rows.select("row", *shared, few=code), on="few").join(
            rows.select("row", *shared, many=code), on=["many", *shared], suffix="_other"
        )
        found.append((ends["row"].cast(pl.Int64).to_numpy(), ends["row_other"].cast(pl.Int64).to_numpy()))
    one, other = (np.concatenate([part[k] for part in found]) for k in (0, 1))
    return np.minimum(one, other), np.maximum(one, other)


def _along(left: Integers, right: Integers, count: int) -> Pair:
    """Who stays for whom: in order, a row that nothing before it removed removes those that it is paired with.

    ``left`` < ``right``, of ``count`` rows.
    """
    order = np.lexsort((right, left))
    right = right[order]
    offsets = np.searchsorted(left[order], np.arange(count + 1)).tolist()
    keeper = np.full(count, -1)
    for row in range(count):
        if keeper[row] < 0 and offsets[row] < offsets[row + 1]:
            others = right[offsets[row] : offsets[row + 1]]
            keeper[others[keeper[others] < 0]] = row
    followers = np.flatnonzero(keeper >= 0)
    return keeper[followers], followers


def _positions(ids: pl.Series, pairs: pl.DataFrame, kind: str | None = None) -> Pair:
    """Both ends of the pairs (of one kind) as positions in ``ids``; pairs with an end elsewhere are left out."""
    where = pl.DataFrame({"id": ids}).with_row_index("position")
    ends = (
        pairs.filter(True if kind is None else pl.col("kind") == kind)
        .select("item_id", "other_item_id")
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
            self._keys = table["text_key"].fill_null("")

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
        rows, ends = np.unique(np.concatenate([left, right]), return_inverse=True)
        holds, score = near_texts(self._keys.gather(rows), ends[: len(left)], ends[len(left) :], settings)
        return holds & settings.near, score


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
    removed = result.removed.filter(pl.col("reason") == "duplicate").collect()
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
