"""What is to be said of a split: shares, strata, how far off they are, rare labels, and counts.

Belongs here: tables and numbers about a finished split. Does not belong here: making one (``split``), and looking
for leaks (``leakage``).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from dataset_pipeline.config import Split
from dataset_pipeline.stages.former_splits import counts
from dataset_pipeline.stages.similarity import Floats, Integers
from dataset_pipeline.tables import Schema

RARE_LABELS: Schema = {
    "label": pl.String(),
    "items": pl.Int64(),
    "groups": pl.Int64(),
    "train_items": pl.Int64(),
    "test_items": pl.Int64(),
    "rule": pl.String(),
}
"""One row per label that a rule for rare labels has decided about, or that is not in both train and test."""

RARE_RULES: Mapping[str, str] = {
    "one_group": "all its items are one leak group, which goes to train: nobody could learn it from elsewhere",
    "under_minimum": "it cannot have split.min_test_per_label items in test and as many outside: it goes to train, "
    "but for items that are held elsewhere",
    "not_in_train": "it has no item in train",
    "not_in_test": "it has no item in test",
}
"""Why a label is among RARE_LABELS; the first that holds."""

DEVIATION: Schema = {
    "stratum": pl.String(),
    "items": pl.Int64(),
    "groups": pl.Int64(),
    "off": pl.Float64(),
    "least_off": pl.Float64(),
}
"""One row per stratum: its items beyond the targets of the splits they are in, and how many no split of these groups
could have fewer of, looking at this stratum alone."""


def split_summary(items: pl.LazyFrame, table: pl.DataFrame, settings: Split) -> pl.DataFrame:
    """One row a split."""
    languages = items.select("item_id", "language").collect()
    counts = (
        table.join(languages, on="item_id")
        .group_by("split")
        .agg(
            items=pl.len().cast(pl.Int64),
            groups=pl.col("leak_group").n_unique().cast(pl.Int64),
            labels=pl.col("label").drop_nulls().n_unique().cast(pl.Int64),
            languages=pl.col("language").drop_nulls().n_unique().cast(pl.Int64),
        )
    )
    ratios: Mapping[str, float] = settings.ratios
    wanted = pl.DataFrame(
        {"split": list(ratios), "target_share": list(ratios.values())},
        schema={"split": pl.String, "target_share": pl.Float64},
    )
    return wanted.join(counts, on="split", how="left", maintain_order="left").select(
        "split",
        "items",
        share=(pl.col("items") / table.height).round(6),
        target_share="target_share",
        groups="groups",
        labels="labels",
        languages="languages",
    )


def split_strata(table: pl.DataFrame, settings: Split) -> pl.DataFrame:
    """Every stratum in every split, sorted by stratum, splits in the config's order; zeros included."""
    ratios = pl.DataFrame(
        {"split": list(settings.ratios), "ratio": list(settings.ratios.values())},
        schema={"split": pl.String, "ratio": pl.Float64},
    ).with_row_index("position")
    sizes = table.group_by("stratum").len("size")
    counts = table.group_by("stratum", "split").len("items")
    return (
        sizes.join(ratios, how="cross")
        .join(counts, on=["stratum", "split"], how="left")
        .sort("stratum", "position")
        .select(
            "stratum",
            "split",
            items=pl.col("items").fill_null(0).cast(pl.Int64),
            target=(pl.col("size") * pl.col("ratio")).round(3),
        )
    )


def split_deviation(
    table: pl.DataFrame, held: pl.Series, strata: pl.DataFrame, settings: Split
) -> pl.DataFrame:
    """DEVIATION; ``held`` leak groups are where something else has put them, and cannot be elsewhere."""
    names = list(settings.ratios)
    is_free = ~pl.col("leak_group").is_in(held.implode())
    by_group = table.group_by("stratum", "leak_group", "split").agg(items=pl.len(), is_free=is_free.first())
    facts = (
        by_group.group_by("stratum")
        .agg(
            pl.col("items").sum().cast(pl.Int64),
            groups=pl.len().cast(pl.Int64),
            largest=pl.col("items").filter("is_free").max().fill_null(0),
            **{
                f"fixed{n}": pl.col("items").filter(~pl.col("is_free"), pl.col("split") == name).sum()
                for n, name in enumerate(names)
            },
        )
        .sort("stratum")
    )
    found = strata["items"].to_numpy().reshape(-1, len(names))
    target = facts["items"].to_numpy()[:, None] * np.array(list(settings.ratios.values()))
    fixed = facts.select(f"fixed{n}" for n in range(len(names))).to_numpy().astype(np.float64)
    least = _least_off(target, fixed, facts["largest"].to_numpy())
    return facts.with_columns(
        off=pl.Series(np.maximum(found - target, 0).sum(axis=1)).round(3), least_off=pl.Series(least).round(3)
    ).select(*DEVIATION)


def _least_off(target: Floats, fixed: Floats, largest: Integers) -> Floats:
    """Items beyond their targets that are certain, a stratum: shape (strata, splits) but for ``largest``.

    ``fixed`` items are in a split already, one free group has ``largest`` items and is whole, and items are
    no fractions. The others may go anywhere, one by one, so this is a bound and not always reached.
    """
    whole = np.floor(target + 1e-9)
    least = np.full(len(target), np.inf)
    for split in range(target.shape[1]):
        there = fixed.copy()
        there[:, split] += largest
        off = np.maximum(there - target, 0).sum(axis=1)
        missing = np.rint(target.sum(axis=1) - np.maximum(there, whole).sum(axis=1))
        # A split that is filled up to the whole items of its target takes one more for what it then has too much.
        one_more = np.sort(np.where(there <= whole, 1 - (target - whole), np.inf), axis=1)
        off += np.where(np.arange(target.shape[1]) < missing[:, None], one_more, 0).sum(axis=1)
        least = np.minimum(least, off)
    return least


def rare_labels(table: pl.DataFrame, low: frozenset[str], settings: Split) -> pl.DataFrame:
    """RARE_LABELS, sorted by label. ``low``: labels sent to train because they cannot have enough test items."""
    has_rules = settings.method in ("stratified", "repaired")
    is_one_group = pl.lit(has_rules) & (pl.col("groups") == 1) & (pl.col("train_items") == pl.col("items"))
    return (
        table.drop_nulls("label")
        .group_by("label")
        .agg(
            items=pl.len().cast(pl.Int64),
            groups=pl.col("leak_group").n_unique().cast(pl.Int64),
            train_items=(pl.col("split") == "train").sum().cast(pl.Int64),
            test_items=(pl.col("split") == "test").sum().cast(pl.Int64),
        )
        .with_columns(
            rule=pl.when(is_one_group)
            .then(pl.lit("one_group"))
            .when(pl.col("label").is_in(sorted(low)))
            .then(pl.lit("under_minimum"))
            .when(pl.col("train_items") == 0)
            .then(pl.lit("not_in_train"))
            .when(pl.col("test_items") == 0)
            .then(pl.lit("not_in_test"))
        )
        .drop_nulls("rule")
        .select(*RARE_LABELS)
        .sort("label")
    )


def split_report(
    table: pl.DataFrame,
    former: pl.DataFrame,
    deviation: pl.DataFrame,
    moved: pl.DataFrame,
    rare: pl.DataFrame,
    settings: Split,
) -> dict[str, Any]:
    """What was kept, what moved, what is new, and how far strata are off their targets: counts of items."""
    present = former.join(table.select("item_id", "split"), on="item_id", how="inner")
    kept = present.filter(pl.col("old_split") == pl.col("split"))
    cut = present.group_by("leak_group").agg(pl.col("old_split").n_unique()).filter(pl.col("old_split") > 1)
    return {
        "method": settings.method,
        "items": table.height,
        "kept_released": kept.filter("is_released").height,
        "kept_published": kept.filter(~pl.col("is_released")).height,
        "new": table.height - present.height,
        "moved": moved.height,
        "moved_by_reason": counts(moved["reason"]),
        "moved_by_splits": counts(
            moved.select(pl.col("old_split") + " -> " + pl.col("new_split")).to_series()
        ),
        "groups_cut_before": cut.height,
        "rare_labels": counts(rare["rule"]),
        "items_off_target": round(float(deviation["off"].sum()), 3),
        "items_off_target_at_least": round(float(deviation["least_off"].sum()), 3),
    }
