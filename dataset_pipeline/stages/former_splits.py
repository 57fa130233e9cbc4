"""Where items were before: in the release before this one, or in the split that their source publishes.

Belongs here: where that puts a leak group whose items were in several splits, what then moves, and how few moves a
repair of a published split takes. Does not belong here: what becomes of items that were in no split (``split``).
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from dataset_pipeline.config import Split
from dataset_pipeline.errors import GateError
from dataset_pipeline.tables import Schema

NAMED_IN_ERRORS = 5

MOVED: Schema = {
    "item_id": pl.String(),
    "old_split": pl.String(),
    "new_split": pl.String(),
    "leak_group": pl.String(),
    "reason": pl.String(),
    "links": pl.String(),
    "follows_item_id": pl.String(),
}
"""One row per item that is not where the release before, or the published split, had it. ``links``: the kinds of
link that tie it to its leak group; ``follows_item_id``: the group's smallest id that was in the new split before;
``reason``: 'group_cut': items of its leak group were in several splits; 'label_source': a label of its leak group comes
from elsewhere than ``split.test_label_sources``; 'date': the latest item of its leak group is on the other side of a cut
in time; 'split_unknown': ``split.ratios`` does not name its former split any more."""

REPAIRS: Mapping[str, str] = {
    "fewest_moves": "a cut group goes where most of its items are; among equals to test, train last",
    "test_stays": "a cut group goes to test if any of its items is there, else to the others, train last",
}
"""Rules by which a split that cuts groups is repaired: values of ``split.repair``."""


def refuse_published(table: pl.DataFrame, settings: Split) -> None:
    """Raise ``GateError`` unless a published split that is to be used is one that is configured.

    Only a repair fills gaps.
    """
    if settings.method not in ("published", "repaired"):
        return
    published = table["published_split"]
    wrong = published.filter(~published.is_in(list(settings.ratios)).fill_null(settings.method == "repaired"))
    if len(wrong):
        counts = wrong.fill_null("(missing)").rename("value").value_counts().sort("value")
        named = ", ".join(f"{value} ({n:,})" for value, n in counts.head(NAMED_IN_ERRORS).iter_rows())
        more = counts.height - NAMED_IN_ERRORS
        raise GateError(
            f"{len(wrong):,} items have no published split that is in split.ratios: {named}"
            f"{f' and {more} more values' if more > 0 else ''}; expected {', '.join(settings.ratios)}",
            hint="Name these splits in split.ratios, fill the column of columns.split, "
            "or use split.method: stratified.",
        )


def former_splits(
    table: pl.DataFrame, members: pl.DataFrame, released: pl.DataFrame | None, settings: Split
) -> pl.DataFrame:
    """item_id, leak_group, old_split, is_released: members of today's groups that have been in a split.

    What was released decides before what the source published. A removed item has no published split here.
    """
    parts = [members.head(0).with_columns(old_split=pl.lit("", pl.String), is_released=pl.lit(True))]
    if released is not None and settings.keep == "released" and settings.method != "published":
        earlier = released.select("item_id", old_split="split")
        parts.append(members.join(earlier, on="item_id", how="inner").with_columns(is_released=pl.lit(True)))
    if settings.method in ("published", "repaired"):
        published = table.select(
            "item_id", "leak_group", old_split="published_split", is_released=pl.lit(False)
        )
        parts.append(published.drop_nulls("old_split").join(parts[-1], on="item_id", how="anti"))
    return pl.concat(parts).sort("item_id")


def decided(
    former: pl.DataFrame, barred: pl.Series, settings: Split, repair: str | None = None
) -> pl.DataFrame:
    """leak_group, split: where groups have to stay, or go; ``barred`` groups may not be in test.

    ``repair``: a key of REPAIRS; absent: the configured one. It counts among items that were published alone:
    what was released goes to the safest split in which any item of its group was.
    """
    safety = {name: rank for rank, name in enumerate(_safest_first(settings))}
    by_count = (repair or settings.repair) == "fewest_moves"
    votes = (
        former.filter(pl.col("old_split").is_in(list(settings.ratios)))
        .filter(~((pl.col("old_split") == "test") & pl.col("leak_group").is_in(barred.implode())))
        .group_by("leak_group", "is_released", "old_split")
        .agg(items=pl.len())
    )
    return (
        votes.with_columns(
            items=pl.when(pl.col("is_released") | (not by_count)).then(0).otherwise("items"),
            rank=pl.col("old_split").replace_strict(safety, return_dtype=pl.Int64),
        )
        .sort("leak_group", "is_released", "items", "rank", descending=[False, True, True, False])
        .unique("leak_group", keep="first", maintain_order=True)
        .select("leak_group", split="old_split")
    )


def _safest_first(settings: Split) -> list[str]:
    """Splits in the order in which they claim a group that has been in several: what was test is never trained on."""
    others = [name for name in settings.ratios if name not in {"train", "test"}]
    return ["test", *others, "train"]


def moved_items(
    former: pl.DataFrame, now: pl.DataFrame, links: pl.DataFrame, barred: pl.Series, settings: Split
) -> pl.DataFrame:
    """MOVED: every item that is elsewhere than before, and why. ``now``: item_id, leak_group, split."""
    moved = (
        former.select("item_id", "old_split")
        .join(now.select("item_id", "leak_group", new_split="split"), on="item_id")
        .filter(pl.col("old_split") != pl.col("new_split"))
    )
    ends = pl.concat([links.select(item_id="a", kind="kind"), links.select(item_id="b", kind="kind")])
    kinds = (
        ends.join(moved, on="item_id", how="semi")
        .group_by("item_id")
        .agg(links=pl.col("kind").unique().sort().str.join(", "))
    )
    first = former.group_by("leak_group", new_split="old_split").agg(follows_item_id=pl.col("item_id").min())
    is_barred = pl.col("leak_group").is_in(barred.implode())
    return (
        moved.join(kinds, on="item_id", how="left")
        .join(first, on=["leak_group", "new_split"], how="left")
        .with_columns(
            reason=pl.when(~pl.col("old_split").is_in(list(settings.ratios)))
            .then(pl.lit("split_unknown"))
            .when(pl.lit(settings.method == "temporal"))
            .then(pl.lit("date"))
            .when((pl.col("old_split") == "test") & is_barred)
            .then(pl.lit("label_source"))
            .otherwise(pl.lit("group_cut"))
        )
        .select(*MOVED)
        .sort("item_id")
    )


def proposed_repairs(
    former: pl.DataFrame, links: pl.DataFrame, barred: pl.Series, settings: Split
) -> dict[str, pl.DataFrame]:
    """For each rule of REPAIRS, the items that it moves (MOVED): each is one complete repair.

    'fewest_moves' is the smallest there is: groups do not depend on one another, and of each all but the items of
    one split have to move.
    """
    found = {}
    for rule in REPAIRS:
        goals = decided(former, barred, settings, rule)
        now = former.select("item_id", "leak_group").join(goals, on="leak_group")
        found[rule] = moved_items(former, now, links, barred, settings)
    return found


def repair_report(
    former: pl.DataFrame, repairs: Mapping[str, pl.DataFrame], settings: Split
) -> dict[str, dict[str, Any]]:
    """Rule -> moved items, by splits, and how many items of ``former`` each split has then."""
    before = former.group_by("old_split").len("items")
    report = {}
    for rule, moved in repairs.items():
        gone = moved.group_by(old_split="old_split").len("gone")
        came = moved.group_by(old_split="new_split").len("came")
        after = (
            before.join(gone, on="old_split", how="left")
            .join(came, on="old_split", how="left")
            .with_columns(pl.col("gone", "came").fill_null(0))
        )
        after = after.select("old_split", items=pl.col("items") - pl.col("gone") + pl.col("came"))
        sizes = dict(after.iter_rows())
        report[rule] = {
            "moved": moved.height,
            "moved_by_splits": counts(
                moved.select(pl.col("old_split") + " -> " + pl.col("new_split")).to_series()
            ),
            "items_after": {name: sizes[name] for name in settings.ratios if name in sizes},
        }
    return report


def counts(values: pl.Series) -> dict[str, int]:
    """Value -> how often, by name."""
    return dict(values.rename("value").value_counts().sort("value").iter_rows())
