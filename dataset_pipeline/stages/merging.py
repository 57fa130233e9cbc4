"""What the item that stays takes over from its removed duplicates: texts that it lacks, and the label of most.

Belongs here: merging of values, and where each comes from. Does not belong here: which item stays (``duplicates``).
Values are those of cleaned items, personal data replaced and languages known; nothing else is ever taken over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import MergeDuplicates
from dataset_pipeline.stages.duplicates import Deduplicated
from dataset_pipeline.tables import MERGED, REMOVED, Schema, empty

_SAME_RIGHTS: Final = ("licence", "author")
"""A text comes from items that agree in these: the kept item states them for all that it holds."""

_CONTRADICTED: Final[Schema] = {"kept": pl.String(), "labels": pl.String()}
_EXAMPLES: Final = 10


@dataclass(frozen=True)
class Merged:
    """Duplicates after merging, and every value that was taken over."""

    result: Deduplicated
    changes: pl.DataFrame
    """MERGED, sorted."""


def merge(
    result: Deduplicated,
    items: pl.LazyFrame,
    text_names: Sequence[str],
    settings: MergeDuplicates,
    human_sources: Sequence[str],
    decided: pl.Series,
) -> Merged:
    """Merge values of removed duplicates into the items that stay for them, as ``settings`` say.

    ``items``: ITEMS + texts that ``result`` was made from; ``decided``: ids of items that a person decided to keep.
    ``texts: fill``: of every text that the kept item lacks, that of its best removed duplicate (in the order of
    ``duplicates.keep``) which has one, in the kept item's language, under its licence and by its author. An item without
    any text takes the language over, too. ``labels: majority``: the label of most, where a person has labelled
    any of them of most persons; the kept item's among equals, else the best duplicate's. ``labels: unsure``: a set
    whose labels contradict is removed for review, unless a person keeps the item. Rows and order of everything else stay.
    """
    changes, contradicted = empty(MERGED), empty(_CONTRADICTED)
    if settings.texts == "keep" and settings.labels == "keep":
        return Merged(result, changes)
    members = _members(result, items, text_names)
    if settings.texts == "fill" and text_names:
        changes = pl.concat([changes, _filled(members, text_names)])
    votes = _votes(members, human_sources)
    if settings.labels == "majority":
        changes = pl.concat([changes, _majority(votes, members)])
    if settings.labels == "unsure":
        contradicted = _contradictions(votes).filter(~pl.col("kept").is_in(decided.implode()))
    gone = contradicted["kept"].implode()
    changes = changes.filter(~pl.col("item_id").is_in(gone)).sort("item_id", "column")
    kept = _changed(result.items, changes).filter(~pl.col("item_id").is_in(gone))
    return Merged(
        replace(result, items=kept, removed=_removed(result.removed, contradicted)),
        changes,
    )


def _members(result: Deduplicated, items: pl.LazyFrame, text_names: Sequence[str]) -> pl.DataFrame:
    """Items of every set of several: ``kept`` names the one that stays, which has place 0; the others follow by rank."""
    removed = (
        result.removed.filter(pl.col("reason") == "duplicate")
        .select("item_id", kept="kept_item_id")
        .collect()
    )
    kept = removed.select(item_id="kept", kept="kept").unique()
    ranks = result.ranks.select("item_id", place=pl.col("rank").cast(pl.Int64) + 1)
    wanted = ["label", "label_source", "language", *_SAME_RIGHTS, *text_names]
    return (
        pl.concat([removed, kept])
        .join(ranks, on="item_id")
        .with_columns(place=pl.when(pl.col("item_id") == pl.col("kept")).then(0).otherwise("place"))
        .lazy()
        .join(items.select("item_id", *dict.fromkeys(wanted)), on="item_id")
        .sort("kept", "place")
        .collect()
    )


def _is_there(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.strip_chars() != ""


def _filled(members: pl.DataFrame, text_names: Sequence[str]) -> pl.DataFrame:
    """MERGED: texts, and languages, that kept items take over."""
    has_text = pl.any_horizontal(_is_there(name) for name in text_names)
    own = members.filter(pl.col("place") == 0).with_columns(has_text=has_text)
    rights = own.select("kept", "has_text", *(pl.col(name).alias(f"own_{name}") for name in _SAME_RIGHTS))
    donors = members.filter((pl.col("place") > 0) & has_text).join(rights, on="kept")
    donors = donors.filter(
        pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"own_{name}")) for name in _SAME_RIGHTS)
    ).sort("kept", "place")
    first = donors.unique("kept", keep="first", maintain_order=True)
    spoken = own.join(first.select("kept", theirs="language", donor="item_id"), on="kept").select(
        "kept",
        "has_text",
        "donor",
        own_language="language",
        language=pl.when("has_text").then("language").otherwise("theirs"),
    )
    donors = donors.join(spoken.select("kept", wanted="language"), on="kept").filter(
        pl.col("language").eq_missing(pl.col("wanted"))
    )
    parts = []
    for name in text_names:
        lacking = own.filter(~_is_there(name)).select("kept", former=pl.col(name))
        given = donors.filter(_is_there(name)).unique("kept", keep="first", maintain_order=True)
        parts.append(
            lacking.join(given.select("kept", "item_id", value=name), on="kept").select(
                "former", "value", item_id="kept", column=pl.lit(name), from_item_id="item_id"
            )
        )
    adopted = spoken.filter(~pl.col("has_text") & pl.col("own_language").ne_missing(pl.col("language")))
    parts.append(
        adopted.select(
            item_id="kept", column=pl.lit("language"), value="language", former="own_language",
            from_item_id="donor",
        )
    )  # fmt: skip
    return pl.concat([_shaped(part) for part in parts])


def _shaped(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(dtype) for name, dtype in MERGED.items())


def _votes(members: pl.DataFrame, human_sources: Sequence[str]) -> pl.DataFrame:
    """Labelled members; where a person has labelled any of a set, only those that persons labelled."""
    is_human = pl.col("label_source").is_in(list(human_sources)).fill_null(False)
    return members.drop_nulls("label").filter(is_human | ~is_human.any().over("kept"))


def _majority(votes: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """MERGED: labels of most, and their sources, where they are not the kept item's."""
    elected = (
        votes.sort("kept", "place")
        .group_by("kept", "label", maintain_order=True)
        .agg(pl.len().alias("votes"), pl.col("place", "item_id", "label_source").first())
        .sort("kept", "votes", "place", descending=[False, True, False])
        .unique("kept", keep="first", maintain_order=True)
    )
    own = members.filter(pl.col("place") == 0).select("kept", own="label", own_source="label_source")
    changed = elected.join(own, on="kept").filter(pl.col("own").ne_missing(pl.col("label")))
    source = changed.filter(pl.col("own_source").ne_missing(pl.col("label_source")))
    return pl.concat(
        [
            _shaped(
                rows.select(
                    item_id="kept", column=pl.lit(column), value=column, former=former, from_item_id="item_id"
                )
            )
            for rows, column, former in ((changed, "label", "own"), (source, "label_source", "own_source"))
        ]
    )


def _contradictions(votes: pl.DataFrame) -> pl.DataFrame:
    """_CONTRADICTED: sets with several labels."""
    labels = votes.group_by("kept").agg(pl.col("label").unique().sort())
    several = labels.filter(pl.col("label").list.len() > 1)
    return several.select("kept", labels=pl.col("label").list.join(", ")).sort("kept")


def _changed(items: pl.LazyFrame, changes: pl.DataFrame) -> pl.LazyFrame:
    """Items with the values that they take over."""
    columns = items.collect_schema().names()
    for name in changes["column"].unique().sort():
        values = changes.filter(pl.col("column") == name).select("item_id", __value="value")
        items = (
            items.join(values.lazy(), on="item_id", how="left", maintain_order="left")
            .with_columns(pl.coalesce("__value", name).alias(name))
            .select(columns)
        )
    return items


def _removed(removed: pl.LazyFrame, contradicted: pl.DataFrame) -> pl.LazyFrame:
    """REMOVED: as it was, but whole sets whose labels contradict are removed for that."""
    if contradicted.is_empty():
        return removed
    why = contradicted.lazy().select("kept", why=pl.format("labels of duplicates: {}", "labels"))
    members = removed.join(why, left_on="kept_item_id", right_on="kept", how="left")
    is_one = pl.col("why").is_not_null()
    others = members.with_columns(
        reason=pl.when(is_one).then(pl.lit("label_contradicted")).otherwise("reason"),
        detail=pl.when(is_one).then("why").otherwise("detail"),
        kept_item_id=pl.when(~is_one).then("kept_item_id"),
    ).select(*REMOVED)
    kept = why.select(
        item_id="kept",
        stage=pl.lit("duplicates"),
        reason=pl.lit("label_contradicted"),
        detail="why",
        kept_item_id=pl.lit(None, pl.String),
    )
    return pl.concat([others, kept]).sort("item_id")


def merging_report(changes: pl.DataFrame, removed: pl.DataFrame) -> dict[str, Any]:
    """What ``reports/duplicates.json`` says of it under ``merged``: counts by column, and values' origins."""
    counts = changes.group_by("column").len().sort("column")
    return {
        "values_by_column": dict(counts.iter_rows()),
        "items": changes["item_id"].n_unique(),
        "contradicted_items": int((removed["reason"] == "label_contradicted").sum()),
        "examples": changes.select("item_id", "column", "from_item_id").head(_EXAMPLES).to_dicts(),
    }
