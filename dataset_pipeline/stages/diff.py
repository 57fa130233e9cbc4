"""What changed between two releases of a dataset, and which version number says so.

Belongs here: comparing two tables of released items, ``reports/diff.json``, and its facts in words. Does not
belong here: reading release folders (``commands/diff.py``, ``defs/``) and the changelog (``release.py``).

Source of the version numbers: Semantic Versioning 2.0.0 as the Croissant Format Specification 1.1 applies it to data:
major where existing data was edited, removed or moved between splits, minor where it is all there and more was added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from dataset_pipeline.config import version_order

Bump = Literal["none", "patch", "minor", "major"]

EXAMPLES: Final = 5
"""Ids listed per kind of change."""
SHOWN_LABELS: Final = 10
"""Labels listed whose number of items changed most."""
NOT_IN_SOURCES: Final = "not_in_sources"
TAKEN_DOWN: Final = frozenset({"taken_down", "duplicate_of_taken_down"})
"""Reasons whose items are counted, and named nowhere: an id can say as much as a text."""

_DERIVED: Final = frozenset({"item_id", "split", "fold", "duplicate_group", "leak_group"})
"""Not facts of an item: ``split`` is compared on its own, folds are numbers that other items decide as well, and
groups are named after their members."""
_ABOUT: Final = frozenset({"label_source", "language", "source", "licence", "author", "url", "date"})
"""Said about an item: another value is a correction of metadata. Every other column is the data itself."""
_COUNTS: Final = ("old", "new", "added", "removed", "moved_in", "moved_out", "changed")


@dataclass(frozen=True)
class TableChanges:
    """What differs between two versions of a table that has one row per key."""

    added: int
    removed: int
    changed: int
    """Rows in both of which any column differs."""
    changed_by_column: Mapping[str, int]
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]


def table_changes(old: pl.LazyFrame, new: pl.LazyFrame, key: str) -> TableChanges:
    """Compare two versions of a table by ``key``; a key that occurs several times counts once, in its first row.

    Values are compared by their hashes, so that of each row no more than 8 bytes a column are held.
    """
    before, after = old.collect_schema(), new.collect_schema()
    shared = [name for name in after if before.get(name) == after[name] and name != key]

    def hashed(table: pl.LazyFrame) -> pl.LazyFrame:
        found = table.select(key, *(pl.col(name).hash() for name in shared))
        return found.drop_nulls(key).unique(key, keep="first", maintain_order=True)

    one, other = hashed(old).collect(), hashed(new).collect()
    both = one.join(other, on=key, suffix="//new")
    differs = both.select(pl.col(name).ne_missing(pl.col(f"{name}//new")) for name in shared)
    counts = {name: int(differs[name].sum()) for name in shared}
    return TableChanges(
        added=other.height - both.height,
        removed=one.height - both.height,
        changed=int(differs.select(pl.any_horizontal(shared).sum()).item()) if shared else 0,
        changed_by_column={name: count for name, count in counts.items() if count},
        columns_added=tuple(name for name in after if after[name] != before.get(name)),
        columns_removed=tuple(name for name in before if before[name] != after.get(name)),
    )


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
    """Items in both of which any column differs."""
    edited: int
    """Those of them whose picture, label or texts differ."""
    changed_by_column: Mapping[str, int]
    moved: int
    moved_by_splits: Mapping[str, int]
    """'old -> new' -> items."""
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    """Also those that hold another type of values now."""
    test_changed: int
    """Rows of the old test split that are gone, elsewhere or edited, and rows new in it: above zero, a result on
    one release is no result on the other."""
    test_kept: int
    """Rows of the old test split that are in the new one, not edited."""
    splits: tuple[Mapping[str, Any], ...]
    """One row a split: its name, its items in ``old`` and ``new``, and what makes the difference."""
    labels: tuple[Mapping[str, Any], ...]
    """Labels with another number of items, the largest difference first: label, old, new."""
    examples: Mapping[str, tuple[str, ...]]
    """'added', 'removed', 'changed', 'moved' -> the first ids; items that were taken down are not among them."""

    @property
    def bump(self) -> Bump:
        """The smallest semantic version step that is honest.

        major: items or columns are gone, items are in another split, or have another picture, label or text; minor:
        items or columns were added; patch: what is said about items differs; none: the items are the same (documents
        may differ: a patch).
        """
        if self.columns_removed or self.removed or self.moved or self.edited:
            return "major"
        if self.added or self.columns_added:
            return "minor"
        return "patch" if self.changed else "none"


def _items(count: int) -> str:
    return f"{count:,} item{'' if count == 1 else 's'}"


def compare(
    old: pl.LazyFrame, new: pl.LazyFrame, new_removed: pl.LazyFrame, taken: pl.LazyFrame | None = None
) -> ReleaseDiff:
    """Compare two ``metadata/items.parquet`` tables by ``item_id``.

    ``new_removed``: the new release's ``metadata/removed.parquet``, which says why an item is gone. ``taken``:
    item_id of items that the takedowns file lists, for those that are gone from the sources as well.
    """
    old_kinds, new_kinds = old.collect_schema(), new.collect_schema()
    same = {name for name, kind in new_kinds.items() if old_kinds.get(name) == kind}
    compared = [name for name in new_kinds if name in same and name not in _DERIVED]
    both = old.join(new, on="item_id", how="inner", suffix="__new")
    flags = {name: f"is_changed_{name}" for name in compared}
    verdicts = both.select(
        "item_id", "split", "split__new",
        pl.col("split").ne_missing(pl.col("split__new")).alias("is_moved"),
        *(pl.col(name).ne_missing(pl.col(f"{name}__new")).alias(flag) for name, flag in flags.items()),
    ).with_columns(
        is_changed=pl.any_horizontal(pl.lit(False), *flags.values()),
        is_edited=pl.any_horizontal(pl.lit(False), *(flag for name, flag in flags.items() if name not in _ABOUT)),
    ).collect()  # fmt: skip
    added = new.join(old.select("item_id"), on="item_id", how="anti").select("item_id", "split").collect()
    listed = pl.LazyFrame(schema={"item_id": pl.String()}) if taken is None else taken.select("item_id")
    gone = (
        old.join(new.select("item_id"), on="item_id", how="anti")
        .select("item_id", "split")
        .join(new_removed.select("item_id", "reason"), on="item_id", how="left")
        .join(listed.unique().with_columns(is_listed=pl.lit(True)), on="item_id", how="left")
        .with_columns(
            reason=pl.coalesce(
                "reason", pl.when("is_listed").then(pl.lit("taken_down")), pl.lit(NOT_IN_SOURCES)
            )
        )
        .collect()
    )
    moved, changed = verdicts.filter("is_moved"), verdicts.filter("is_changed")
    was_test, is_test = pl.col("split") == "test", pl.col("split__new") == "test"
    touched = verdicts.filter((was_test | is_test) & (pl.col("is_moved") | pl.col("is_edited"))).height
    named = {
        "added": added,
        "removed": gone.filter(~pl.col("reason").is_in(TAKEN_DOWN)),
        "changed": changed,
        "moved": moved,
    }
    return ReleaseDiff(
        old_items=verdicts.height + gone.height,
        new_items=verdicts.height + added.height,
        added=added.height,
        removed=gone.height,
        removed_by_reason=_value_counts(gone["reason"]),
        changed=changed.height,
        changed_by_column={
            name: count for name, flag in flags.items() if (count := int(verdicts[flag].sum() or 0))
        },
        edited=verdicts.filter("is_edited").height,
        moved=moved.height,
        moved_by_splits=_value_counts(
            moved.select(pl.concat_str("split", "split__new", separator=" -> ")).to_series()
        ),
        columns_added=tuple(name for name in new_kinds if name not in same),
        columns_removed=tuple(name for name in old_kinds if name not in same),
        test_changed=touched
        + added.filter(pl.col("split") == "test").height
        + gone.filter(pl.col("split") == "test").height,
        test_kept=verdicts.filter(was_test & ~pl.col("is_moved") & ~pl.col("is_edited")).height,
        splits=_splits(verdicts, added, gone),
        labels=_labels(old, new) if "label" in same else (),
        examples={
            kind: tuple(frame["item_id"].sort().head(EXAMPLES).to_list()) for kind, frame in named.items()
        },
    )


def _splits(both: pl.DataFrame, added: pl.DataFrame, gone: pl.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """A row of counts per split, in order of name."""

    def counted(frame: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
        return frame.group_by(split=pl.col(column)).len(name)

    moved = both.filter("is_moved")
    parts = [
        counted(
            pl.concat([both.select("item_id", "split"), gone.select("item_id", "split")]), "split", "old"
        ),
        counted(pl.concat([both.select("item_id", split="split__new"), added]), "split", "new"),
        counted(added, "split", "added"),
        counted(gone, "split", "removed"),
        counted(moved, "split__new", "moved_in"),
        counted(moved, "split", "moved_out"),
        counted(both.filter("is_changed"), "split__new", "changed"),
    ]
    table = parts[0]
    for part in parts[1:]:
        table = table.join(part, on="split", how="full", coalesce=True)
    return tuple(table.select("split", pl.col(_COUNTS).fill_null(0).cast(pl.Int64)).sort("split").to_dicts())


def _labels(old: pl.LazyFrame, new: pl.LazyFrame) -> tuple[Mapping[str, Any], ...]:
    """Labels with another number of items."""
    counts = [
        frame.drop_nulls("label").group_by("label").len(name).with_columns(pl.col(name).cast(pl.Int64))
        for frame, name in ((old, "old"), (new, "new"))
    ]
    both = counts[0].join(counts[1], on="label", how="full", coalesce=True).fill_null(0)
    difference = (pl.col("new") - pl.col("old")).abs()
    return tuple(
        both.filter(difference > 0).sort(difference, "label", descending=[True, False]).collect().to_dicts()
    )


# -- the report ----------------------------------------------------------------------------


def diff_report(version: str, previous: str | None, found: ReleaseDiff | None, items: int) -> dict[str, Any]:
    """``reports/diff.json``: how ``version``, of ``items`` items, differs from the release before it.

    ``previous`` and ``found`` are None for a first release.
    """
    if previous is None or found is None:
        return {"version": version, "previous": None, "new_items": items}
    proposed = next_version(previous, "patch" if found.bump == "none" else found.bump)
    return {
        "version": version,
        "previous": previous,
        "step": found.bump,
        "proposed_version": proposed,
        "is_version_fitting": fits(version, proposed),
        "old_items": found.old_items,
        "new_items": found.new_items,
        "added": found.added,
        "removed": found.removed,
        "removed_by_reason": dict(found.removed_by_reason),
        "changed": found.changed,
        "edited": found.edited,
        "changed_by_column": dict(found.changed_by_column),
        "moved": found.moved,
        "moved_by_splits": dict(found.moved_by_splits),
        "columns_added": list(found.columns_added),
        "columns_removed": list(found.columns_removed),
        "test_changed": found.test_changed,
        "test_kept": found.test_kept,
        "splits": [dict(row) for row in found.splits],
        "labels": [dict(row) for row in found.labels[:SHOWN_LABELS]],
        "labels_not_shown": max(0, len(found.labels) - SHOWN_LABELS),
        "examples": {kind: list(ids) for kind, ids in found.examples.items()},
    }


def facts(report: Mapping[str, Any]) -> list[str]:
    """The difference in words, one fact a line; empty where there is none. ``report``: of :func:`diff_report`."""
    lines = []
    if report["added"]:
        lines.append(f"{_items(report['added'])} added")
    if report["removed"]:
        lines.append(f"{_items(report['removed'])} removed ({_counts(report['removed_by_reason'])})")
    if report["changed"]:
        lines.append(f"{_items(report['changed'])} changed ({_counts(report['changed_by_column'])})")
    if report["moved"]:
        lines.append(f"{_items(report['moved'])} moved between splits ({_counts(report['moved_by_splits'])})")
    if report["columns_added"]:
        lines.append(f"columns added: {', '.join(report['columns_added'])}")
    if report["columns_removed"]:
        lines.append(f"columns removed: {', '.join(report['columns_removed'])}")
    if report["test_changed"]:
        lines.append(
            f"differences in the test split ({_items(report['test_changed'])}): results are not comparable; "
            f"{_items(report['test_kept'])} of the old one are as they were"
        )
    return lines


def verdict(report: Mapping[str, Any]) -> str:
    """Whether the version says what changed, in one line. ``report``: of :func:`diff_report`."""
    if report["previous"] is None:
        return f"{report['version']} is the first release: {_items(report['new_items'])}"
    what = "; ".join(facts(report)) or "no item differs"
    proposed = f"{report['version']} follows {report['previous']}: {what}"
    return (
        proposed
        if report["is_version_fitting"]
        else f"{proposed}: expected {report['proposed_version']} or higher"
    )


# -- version numbers -----------------------------------------------------------------------


def next_version(version: str, bump: Bump) -> str:
    """``version`` after a step; 'none' leaves it as it is.

    A pre-release is followed by its own release, whatever changes. Below 1.0.0 nothing is promised yet: what is a
    major step later is a minor one.
    """
    core, _, extra = version.partition("-")
    major, minor, patch = (int(part) for part in core.split("."))
    if bump == "none":
        return version
    if extra:
        return core
    if bump == "major" and major:
        return f"{major + 1}.0.0"
    if bump in ("major", "minor"):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def fits(version: str, proposed: str) -> bool:
    """Whether ``version``, or the release that it is a pre-release of, is ``proposed`` or higher."""
    return version_order(version.partition("-")[0]) >= version_order(proposed.partition("-")[0])


def _value_counts(values: pl.Series) -> dict[str, int]:
    """Counts, largest first, then by name."""
    counted = values.drop_nulls().value_counts().rows()
    return {
        str(value): int(count) for value, count in sorted(counted, key=lambda row: (-row[1], str(row[0])))
    }


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
