"""What changed between two releases of a dataset, and which version number says so.

Belongs here: comparing two tables of released items. Does not belong here: reading release folders
(``commands/diff.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

Bump = Literal["none", "patch", "minor", "major"]

EXAMPLES: Final = 5
"""Ids listed per kind of change."""

_DERIVED: Final = frozenset({"item_id", "split", "fold", "duplicate_group", "leak_group"})
"""Not facts of an item: ``split`` is compared on its own, folds are numbers that other items decide as well, and
groups are named after their members."""


@dataclass(frozen=True)
class ReleaseDiff:
    """Counts and example ids of everything that differs between two releases."""

    old_items: int
    new_items: int
    added: int
    removed: int
    removed_by_reason: Mapping[str, int]
    """Reason in the new release's removed.parquet -> items; 'not_in_sources': no longer a raw item."""
    changed: int
    """Items in both whose picture, texts, label or other columns differ."""
    changed_by_column: Mapping[str, int]
    moved: int
    moved_by_splits: Mapping[str, int]
    """'old -> new' -> items."""
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    test_changed: int
    """Rows of the old test split that are gone, elsewhere, or have another picture, text or label,
    and rows new in it: above zero, results on the two releases cannot be compared."""
    examples: Mapping[str, tuple[str, ...]]
    """'added', 'removed', 'changed', 'moved' -> the first ids."""

    @property
    def bump(self) -> Bump:
        """The smallest semantic version step that is honest.

        major: results or programs of the old release no longer hold (test split changed, items or
        columns gone, items in another split); minor: items or columns added, or items outside the test
        split corrected; none: the items are the same (documents may differ: a patch).
        """
        if self.columns_removed or self.removed or self.moved or self.test_changed:
            return "major"
        if self.added or self.columns_added:
            return "minor"
        return "patch" if self.changed else "none"

    def lines(self) -> list[str]:
        """The difference in words, one fact a line; empty where there is none."""
        lines = []
        if self.added:
            lines.append(f"{_items(self.added)} added")
        if self.removed:
            lines.append(f"{_items(self.removed)} removed ({_counts(self.removed_by_reason)})")
        if self.changed:
            lines.append(f"{_items(self.changed)} changed ({_counts(self.changed_by_column)})")
        if self.moved:
            lines.append(f"{_items(self.moved)} moved between splits ({_counts(self.moved_by_splits)})")
        if self.columns_added:
            lines.append(f"columns added: {', '.join(self.columns_added)}")
        if self.columns_removed:
            lines.append(f"columns removed: {', '.join(self.columns_removed)}")
        if self.test_changed:
            lines.append(
                f"differences in the test split ({_items(self.test_changed)}): results are not comparable"
            )
        return lines


def _items(count: int) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}"


def compare(old: pl.LazyFrame, new: pl.LazyFrame, new_removed: pl.LazyFrame) -> ReleaseDiff:
    """Compare two ``metadata/items.parquet`` tables by ``item_id``.

    ``new_removed``: the new release's ``metadata/removed.parquet``, which says why an item is gone.
    """
    old_columns, new_columns = old.collect_schema().names(), new.collect_schema().names()
    compared = [name for name in new_columns if name in old_columns and name not in _DERIVED]
    both = old.join(new, on="item_id", how="inner", suffix="__new")
    verdicts = both.select(
        "item_id",
        (pl.col("split") + " -> " + pl.col("split__new")).alias("move"),
        pl.col("split").ne_missing(pl.col("split__new")).alias("is_moved"),
        ((pl.col("split") == "test") | (pl.col("split__new") == "test")).fill_null(False).alias("touches_test"),
        *(pl.col(name).ne_missing(pl.col(f"{name}__new")).alias(f"is_changed_{name}") for name in compared),
    ).with_columns(
        (pl.any_horizontal([f"is_changed_{name}" for name in compared]) if compared else pl.lit(False)).alias(
            "is_changed"
        )
    ).collect()  # fmt: skip
    added = new.join(old.select("item_id"), on="item_id", how="anti").select("item_id", "split").collect()
    gone = (
        old.join(new.select("item_id"), on="item_id", how="anti")
        .select("item_id", "split")
        .join(new_removed.select("item_id", "reason"), on="item_id", how="left")
        .with_columns(pl.col("reason").fill_null("not_in_sources"))
        .collect()
    )
    moved = verdicts.filter("is_moved")
    changed = verdicts.filter("is_changed")
    test_changed = (
        verdicts.filter(pl.col("touches_test") & (pl.col("is_moved") | pl.col("is_changed"))).height
        + added.filter(pl.col("split") == "test").height
        + gone.filter(pl.col("split") == "test").height
    )
    return ReleaseDiff(
        old_items=verdicts.height + gone.height,
        new_items=verdicts.height + added.height,
        added=added.height,
        removed=gone.height,
        removed_by_reason=_value_counts(gone["reason"]),
        changed=changed.height,
        changed_by_column={
            name: count for name in compared if (count := int(verdicts[f"is_changed_{name}"].sum() or 0))
        },
        moved=moved.height,
        moved_by_splits=_value_counts(moved["move"]),
        columns_added=tuple(name for name in new_columns if name not in old_columns),
        columns_removed=tuple(name for name in old_columns if name not in new_columns),
        test_changed=test_changed,
        examples={
            kind: tuple(frame["item_id"].sort().head(EXAMPLES).to_list())
            for kind, frame in (("added", added), ("removed", gone), ("changed", changed), ("moved", moved))
        },
    )


def next_version(version: str, bump: Bump) -> str:
    """``version`` after a step, without its pre-release part; 'none' leaves it as it is."""
    major, minor, patch = (int(part) for part in version.split("-", 1)[0].split("."))
    if bump == "major":
        return f"{major + 1}.0.0"
    if bump == "minor":
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}" if bump == "patch" else version


def _value_counts(values: pl.Series) -> dict[str, int]:
    """Counts, largest first, then by name."""
    counted = values.drop_nulls().value_counts().rows()
    return {
        str(value): int(count) for value, count in sorted(counted, key=lambda row: (-row[1], str(row[0])))
    }


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
