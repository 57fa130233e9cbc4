"""Comparing two releases: each kind of change alone, and the version step it asks for."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline.commands.diff import diff
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.diff import compare, next_version
from dataset_pipeline.tables import REMOVED
from dataset_pipeline_tests.toy_release import toy

OLD = toy(pictures=10).items.drop("image_ref", "group_keys", "published_split")
NO_REMOVED = pl.LazyFrame(schema=dict(REMOVED))
FIRST = pl.col("item_id") == "0000-de"  # in train
TEST = pl.col("item_id") == "0004-de"  # in test


def change(column: str, value: str, where: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(
        pl.when(where).then(pl.lit(value)).otherwise(column).alias(column)
    )


@pytest.mark.parametrize(
    ("edit", "facts", "bump"),
    [
        (lambda frame: frame, [], "none"),
        # Only the order differs.
        (lambda frame: frame.reverse(), [], "none"),
        # A corrected text in train: results stay comparable.
        (change("name", "x", FIRST), ["1 item changed (name: 1)"], "patch"),
        # The same correction in test changes what is measured.
        (
            change("name", "x", TEST),
            [
                "1 item changed (name: 1)",
                "differences in the test split (1 item): results are not comparable",
            ],
            "major",
        ),
        (change("item_id", "new", FIRST), ["1 item added", "1 item removed (not_in_sources: 1)"], "major"),
        (lambda frame: frame.filter(~FIRST), ["1 item removed (not_in_sources: 1)"], "major"),
        (
            change("split", "validation", FIRST),
            ["1 item moved between splits (train -> validation: 1)"],
            "major",
        ),
        (lambda frame: frame.drop("name"), ["columns removed: name"], "major"),
        (lambda frame: frame.with_columns(caption=pl.lit("x")), ["columns added: caption"], "minor"),
        # Groups are named after members: another name is no change of an item.
        (change("leak_group", "x", FIRST), [], "none"),
    ],
)
def test_each_kind_of_change(
    edit: Callable[[pl.DataFrame], pl.DataFrame], facts: list[str], bump: str
) -> None:
    found = compare(OLD.lazy(), edit(OLD).lazy(), NO_REMOVED)
    assert found.lines() == facts
    assert found.bump == bump


def test_an_added_item_outside_test_is_a_minor_step() -> None:
    found = compare(OLD.filter(~FIRST).lazy(), OLD.lazy(), NO_REMOVED)
    assert (found.added, found.bump, found.examples["added"]) == (1, "minor", ("0000-de",))


def test_a_removed_item_is_listed_with_its_reason() -> None:
    removed = pl.LazyFrame(
        [
            {
                "item_id": "0000-de",
                "stage": "clean",
                "reason": "taken_down",
                "detail": None,
                "kept_item_id": None,
            }
        ],
        schema=dict(REMOVED),
    )
    found = compare(OLD.lazy(), OLD.filter(~FIRST).lazy(), removed)
    assert found.removed_by_reason == {"taken_down": 1}


def test_a_value_that_becomes_null_is_a_change() -> None:
    new = OLD.with_columns(label=pl.when(FIRST).then(None).otherwise("label"))
    assert compare(OLD.lazy(), new.lazy(), NO_REMOVED).changed_by_column == {"label": 1}


def test_counts_add_up() -> None:
    found = compare(OLD.head(20).lazy(), OLD.tail(15).lazy(), NO_REMOVED)
    assert found.old_items - found.removed + found.added == found.new_items == 15


@pytest.mark.parametrize(
    ("version", "bump", "expected"),
    [("1.2.3", "major", "2.0.0"), ("1.2.3", "minor", "1.3.0"), ("1.2.3-rc.1", "patch", "1.2.4"), ("1.2.3", "none", "1.2.3")],
)  # fmt: skip
def test_next_version(version: str, bump: str, expected: str) -> None:
    assert next_version(version, bump) == expected  # type: ignore[arg-type]


def test_folders_are_compared(tmp_path: Path) -> None:
    example = toy(pictures=10)
    example.write(tmp_path / "old")
    example.items = example.items.filter(~FIRST)
    example.write(tmp_path / "new")
    lines = diff(tmp_path / "old", tmp_path / "new").lines()
    assert lines[0] == "30 -> 29 items"
    assert lines[-1] == "proposed version step: major"


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a release folder, found no metadata"):
        diff(tmp_path, tmp_path)


def test_a_table_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for name in ("items", "removed"):
        (tmp_path / "metadata" / f"{name}.parquet").write_text("not Parquet")
    with pytest.raises(ConfigError, match="cannot be compared"):
        diff(tmp_path, tmp_path)
