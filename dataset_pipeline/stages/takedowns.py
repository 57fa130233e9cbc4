"""Takedowns: which items are meant, and which others are the same thing.

Belongs here: matching rows of the takedowns file with items, and finding what must not come in their place. Does not
belong here: reading the file (``adapters/sources.py``) and the other reasons for which items are removed (``clean.py``).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.duplicates import deduplicate, find_pairs
from dataset_pipeline.tables import REMOVED, Schema, empty

KEYS: Final = ("item_id", "sha256", "url")
"""Columns of the takedowns file that may say which item is meant; a row needs one."""

SAME: Final[Schema] = {"item_id": pl.String(), "taken_item_id": pl.String()}
"""An item, and the taken-down one that it is the same as, or related to."""


NOTHING_RELEASED: Final = (empty(REMOVED), empty({"item_id": pl.String(), "image_sha256": pl.String()}))
"""What :func:`of_release` is given where there was no earlier release."""


def with_takedowns(rows: pl.LazyFrame, takedowns: pl.DataFrame | None) -> pl.LazyFrame:
    """``rows`` (item_id, image_sha256, image_pixel_hash, url) with ``is_taken_down`` and ``takedown_date``.

    ``takedowns``: columns of KEYS, where they are there, and ``date``. ``sha256`` means a picture's file or its
    upright pixels (IMAGES.pixel_hash), so that every item with that picture goes. White space and the way a URL is
    written (scheme, fragment, last slash) must not save an item. Of the reason only the date goes on: it may name
    the person who asked.
    """
    ways = (
        ("item_id", pl.col("item_id").str.strip_chars()),
        ("sha256", pl.col("image_sha256")),
        ("sha256", pl.col("image_pixel_hash")),
        ("url", _plain_url(pl.col("url"))),
    )
    columns, numbers = rows.collect_schema().names(), range(len(ways))
    for number, (key, value) in enumerate(ways):
        names = {"value": f"_value_{number}", "date": f"_date_{number}", "is_listed": f"_is_listed_{number}"}
        rows = rows.join(
            _dates(takedowns, key).lazy().rename(names), left_on=value, right_on=names["value"], how="left"
        )
    return rows.select(
        *columns,
        is_taken_down=pl.any_horizontal(pl.col(f"_is_listed_{n}").fill_null(False) for n in numbers),
        takedown_date=pl.min_horizontal(f"_date_{n}" for n in numbers),
    )


def listed(items: pl.LazyFrame, takedowns: pl.DataFrame | None) -> pl.LazyFrame:
    """item_id of released items (item_id, image_sha256) that the takedowns file lists, by id or by picture."""
    unknown = pl.lit(None, pl.String)
    rows = items.select("item_id", "image_sha256", image_pixel_hash=unknown, url=unknown)
    return with_takedowns(rows, takedowns).filter("is_taken_down").select("item_id")


def _dates(takedowns: pl.DataFrame | None, key: str) -> pl.DataFrame:
    """value, date and is_listed of every distinct value of a key: the first date counts."""
    shape = {"value": pl.String(), "date": pl.String(), "is_listed": pl.Boolean()}
    if takedowns is None or key not in takedowns.columns:
        return pl.DataFrame(schema=shape)
    value = pl.col(key).cast(pl.String).str.strip_chars()
    date = pl.col("date").cast(pl.String) if "date" in takedowns.columns else pl.lit(None, pl.String)
    if key == "url":
        value = _plain_url(value)
    elif key == "sha256":
        value = value.str.to_lowercase()
    return (
        takedowns.select(value=value, date=date, is_listed=pl.lit(True))
        .filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
        .sort("value", "date", nulls_last=True)
        .unique("value", keep="first", maintain_order=True)
    )


def _plain_url(url: pl.Expr) -> pl.Expr:
    """A URL without what does not change where it leads."""
    return (
        url.str.strip_chars()
        .str.replace(r"^(?i)https?://(www\.)?", "")
        .str.replace(r"#.*$", "")
        .str.strip_chars_end("/")
    )


class Relatives(NamedTuple):
    """What is related to items that were taken down; both are ``SAME``, sorted by item_id."""

    substitutes: pl.DataFrame
    """Items that are the same by the rules for duplicates: none of them may come in its place."""
    neighbours: pl.DataFrame
    """Other items of its duplicate group: the same picture with another text, say."""


def relatives(
    items: pl.LazyFrame,
    taken: pl.LazyFrame,
    images: pl.LazyFrame,
    released: pl.DataFrame,
    config: DatasetConfig,
) -> Relatives:
    """Items (ITEMS + texts) that are related to ``taken`` ones (of the same shape), which are no longer among them.

    ``released``: SAME of an earlier release, which removed an item as a duplicate of one that has been taken down
    since; it knows of those that are gone from the sources too. The search is that for duplicates, with the
    taken-down items back among the others; without any it is not made.
    """
    there = items.select("item_id")
    known = released.lazy().join(there, on="item_id", how="semi").select(*SAME).collect()
    if taken.select(pl.len()).collect().item() == 0:
        return Relatives(_first(known), empty(SAME))
    names: Sequence[str] = config.text_names
    everything = pl.concat([items, taken])
    pairs = find_pairs(everything, images, names, config.duplicates)
    found = deduplicate(everything, images, pairs, names, config.duplicates, config.labels.human_sources)
    taken_ids = taken.select("item_id").collect()["item_id"]
    stars = found.removed.select("item_id", star="kept_item_id").collect()
    stars = pl.concat([stars, stars.select(item_id="star", star="star").unique()])
    groups = found.items.select("item_id", "duplicate_group").collect()
    of_removed = stars.join(groups, left_on="star", right_on="item_id").select("item_id", "duplicate_group")
    groups = pl.concat([groups, of_removed]).unique()
    same = _related(stars.rename({"star": "set"}), taken_ids)
    substitutes = _first(pl.concat([same, known]))
    related = _related(groups.rename({"duplicate_group": "set"}), taken_ids)
    return Relatives(substitutes, _first(related.join(substitutes, on="item_id", how="anti")))


def of_release(removed: pl.DataFrame, pictures: pl.DataFrame, takedowns: pl.DataFrame | None) -> pl.DataFrame:
    """``SAME`` of what an earlier release knew: its ``removed`` rows, and item_id and image_sha256 of its items.

    Items that it removed as duplicates of what has been taken down since, the items that stood for such duplicates, and
    those that it held back already.
    """
    if takedowns is None or takedowns.is_empty():
        return empty(SAME)
    hashes = takedowns["sha256"].str.to_lowercase().drop_nulls()
    by_hash = pictures.filter(pl.col("image_sha256").is_in(hashes.implode()))["item_id"]
    taken_ids = pl.concat([takedowns["item_id"].drop_nulls().str.strip_chars(), by_hash]).unique()
    stars = removed.filter(pl.col("reason") == "duplicate").select("item_id", set="kept_item_id")
    stars = pl.concat([stars, stars.select(item_id="set", set="set").unique()])
    held_back = removed.filter(pl.col("reason") == "duplicate_of_taken_down").select(
        "item_id", taken_item_id="detail"
    )
    if takedowns["sha256"].null_count() + takedowns["url"].null_count() == 2 * takedowns.height:
        # Every row names its item: what is no longer listed is no longer taken down.
        held_back = held_back.filter(pl.col("taken_item_id").is_in(taken_ids.implode()))
    return _first(pl.concat([_related(stars, taken_ids), held_back]))


def removed_rows(substitutes: pl.DataFrame) -> pl.DataFrame:
    """``REMOVED`` rows of substitutes (SAME); the detail names the item that was taken down."""
    return substitutes.select(
        "item_id",
        stage=pl.lit("duplicates"),
        reason=pl.lit("duplicate_of_taken_down"),
        detail="taken_item_id",
        kept_item_id=pl.lit(None, pl.String),
    ).select(*REMOVED)


def _related(sets: pl.DataFrame, taken_ids: pl.Series) -> pl.DataFrame:
    """Other members of the sets (item_id, set) that a taken-down item is in."""
    is_taken = pl.col("item_id").is_in(taken_ids.implode())
    of_sets = sets.filter(is_taken).group_by("set").agg(taken_item_id=pl.col("item_id").min())
    return sets.filter(~is_taken).join(of_sets, on="set").select(*SAME)


def _first(found: pl.DataFrame) -> pl.DataFrame:
    """One row per item, sorted."""
    return found.group_by("item_id").agg(pl.col("taken_item_id").min()).sort("item_id").select(*SAME)
