"""Folds for cross-validation, beside the splits.

Belongs here: dividing all items into folds of equal size that cut no leak group. Does not belong here: the splits
themselves (``split``).

Every item has a fold, test items too: whoever keeps the test split apart takes the folds of the others. So each
split and, within it, each stratum is divided evenly among the folds.
"""

import numpy as np
import polars as pl

from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.assignment import (
    Task,
    balanced_features,
    divide,
    improve,
    numbered,
    seeded_order,
)
from dataset_pipeline.tables import Schema

FOLDS: Schema = {
    "fold": pl.Int64(),
    "split": pl.String(),
    "items": pl.Int64(),
    "groups": pl.Int64(),
    "labels": pl.Int64(),
}
"""One row per fold and split; zeros included."""


def fold_items(
    table: pl.DataFrame, columns: list[str], folds: int, seed: int, former: pl.DataFrame | None = None
) -> pl.Series:
    """``fold``, 0 to ``folds`` - 1, of every row of ``table`` (item_id, leak_group, split, stratum and ``columns``).

    Whole leak groups, near equal shares of every stratum, in all and within every split, then of every split and
    every value of ``columns``. ``former``: leak_group and fold of items that were released with as many folds:
    their groups stay; one whose items were in several goes to the first. Raises ``GateError``: fewer groups than
    folds; a group larger than a fold.
    """
    from scipy.sparse import hstack

    ids, groups, sizes = numbered(table["leak_group"])
    if len(ids) < folds:
        raise GateError(
            f"split.folds: {folds} folds need as many groups of connected items, found {len(ids)}",
            hint="Ask for fewer folds, or connect less in split.link.",
        )
    largest = int(sizes.max(initial=0))
    if largest > int(np.ceil(table.height / folds)):
        raise GateError(
            f"split.folds: one group of connected items (of {ids[int(sizes.argmax())]!r}) holds {largest:,} of "
            f"{table.height:,} items; each of {folds} folds is to hold {table.height / folds:,.0f}",
            hint=f"Ask for {max(table.height // largest, 1)} folds or fewer, or connect less in split.link.",
        )
    within = table.with_columns(stratum=pl.concat_str("split", "stratum", separator="\0"))
    parts = [
        balanced_features(table, columns, groups, len(ids)),
        balanced_features(within, ["split"], groups, len(ids)),
    ]
    weights = hstack([part[0] for part in parts], format="csr")
    emphasis = np.concatenate([part[1] for part in parts])
    task = Task(weights, emphasis, np.full(folds, 1 / folds), np.ones((len(ids), folds), bool))
    fixed = np.full(len(ids), -1)
    if former is not None:
        known = former.group_by("leak_group").agg(pl.col("fold").min())
        joined = ids.to_frame("leak_group").join(known, on="leak_group", how="left", maintain_order="left")
        fixed = joined["fold"].fill_null(-1).cast(pl.Int64).to_numpy()
    order = seeded_order(ids, sizes, seed)
    assigned = divide(task, fixed, fixed < 0, order)
    assigned = improve(task, assigned, fixed < 0, order, seed)
    return pl.Series("fold", assigned[groups], dtype=pl.Int64)


def fold_table(table: pl.DataFrame, folds: int, splits: list[str]) -> pl.DataFrame:
    """FOLDS of ``table`` (fold, split, leak_group, label)."""
    every = pl.DataFrame({"fold": range(folds)}, schema={"fold": pl.Int64}).join(
        pl.DataFrame({"split": splits}), how="cross", maintain_order="left"
    )
    counted = table.group_by("fold", "split").agg(
        items=pl.len().cast(pl.Int64),
        groups=pl.col("leak_group").n_unique().cast(pl.Int64),
        labels=pl.col("label").drop_nulls().n_unique().cast(pl.Int64),
    )
    return (
        every.join(counted, on=["fold", "split"], how="left", maintain_order="left")
        .with_columns(pl.col("items", "groups", "labels").fill_null(0))
        .select(*FOLDS)
    )
