"""Comparing two releases: each kind of change alone, and the version step it asks for."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_pipeline.commands.diff import diff
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import gates, takedowns
from dataset_pipeline.stages.diff import compare, diff_report, next_version
from dataset_pipeline.stages.diff import facts as diff_facts
from dataset_pipeline.tables import REMOVED
from dataset_pipeline_tests.toy_release import toy

OLD = toy(pictures=10).items.drop("image_ref", "group_keys", "published_split", "strata")
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
        # What is said about an item is corrected: the data are the same, in test as well.
        (change("author", "x", FIRST), ["1 item changed (author: 1)"], "patch"),
        (change("licence", "x", TEST), ["1 item changed (licence: 1)"], "patch"),
        # A corrected text: a model that was trained on the old one is not one of this version.
        (change("name", "x", FIRST), ["1 item changed (name: 1)"], "major"),
        # In test the correction changes what is measured as well.
        (
            change("name", "x", TEST),
            [
                "1 item changed (name: 1)",
                "differences in the test split (1 item): results are not comparable; 5 items of the old one are as they were",
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
        # Another type of values is another column.
        (
            lambda frame: frame.with_columns(label=pl.lit(1)),
            ["columns added: label", "columns removed: label"],
            "major",
        ),
        # An item added to test: all of the old test split can still be scored on.
        (
            lambda frame: pl.concat([frame, frame.filter(TEST).with_columns(item_id=pl.lit("new"))]),
            [
                "1 item added",
                "differences in the test split (1 item): results are not comparable; 6 items of the old one are as they were",
            ],
            "minor",
        ),
        # Groups are named after members: another name is no change of an item.
        (change("leak_group", "x", FIRST), [], "none"),
    ],
)
def test_each_kind_of_change(
    edit: Callable[[pl.DataFrame], pl.DataFrame], facts: list[str], bump: str
) -> None:
    found = compare(OLD.lazy(), edit(OLD).lazy(), NO_REMOVED)
    assert diff_facts(diff_report("9.0.0", "1.0.0", found, found.new_items)) == facts
    assert found.bump == bump
    # The rows of the splits tell the same story.
    total = {
        name: sum(row[name] for row in found.splits)
        for name in ("old", "new", "added", "removed", "moved_in", "moved_out", "changed")
    }
    assert total == {
        "old": found.old_items, "new": found.new_items, "added": found.added, "removed": found.removed,
        "moved_in": found.moved, "moved_out": found.moved, "changed": found.changed,
    }  # fmt: skip


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
    assert found.examples["removed"] == ()  # an id can say as much as a text


def test_an_item_that_was_taken_down_and_is_gone_from_the_sources_is_counted_and_not_named() -> None:
    gone = pl.col("item_id").is_in(["0000-de", "0001-de", "0002-de"])
    picture = OLD.filter(pl.col("item_id") == "0001-de")["image_sha256"][0]
    listed = takedowns.listed(
        OLD.lazy(), pl.DataFrame({"item_id": [" 0000-de ", None], "sha256": [None, picture.upper()]})
    )
    found = compare(OLD.lazy(), OLD.filter(~gone).lazy(), NO_REMOVED, listed)
    assert found.removed_by_reason == {"taken_down": 2, "not_in_sources": 1}
    assert found.examples["removed"] == ("0002-de",)
    assert "0000-de" not in str(diff_report("2.0.0", "1.0.0", found, found.new_items))


@given(st.lists(st.sampled_from(["same", "gone", "new", "moved", "changed"]), min_size=1, max_size=30))
def test_counts_are_those_of_an_obvious_count(kinds: list[str]) -> None:
    rows = [
        {"item_id": f"{n:02}", "split": "test" if n % 3 else "train", "text": "a"} for n in range(len(kinds))
    ]
    old = [row for row, kind in zip(rows, kinds, strict=True) if kind != "new"]
    new = [
        {
            **row,
            "split": "validation" if kind == "moved" else row["split"],
            "text": "b" if kind == "changed" else "a",
        }
        for row, kind in zip(rows, kinds, strict=True)
        if kind != "gone"
    ]
    schema = {"item_id": pl.String, "split": pl.String, "text": pl.String}
    found = compare(pl.LazyFrame(old, schema=schema), pl.LazyFrame(new, schema=schema), NO_REMOVED)
    told = {"gone": found.removed, "new": found.added, "moved": found.moved, "changed": found.changed}
    assert told == {kind: kinds.count(kind) for kind in told}
    old_test = [
        kind for row, kind in zip(rows, kinds, strict=True) if row["split"] == "test" and kind != "new"
    ]
    assert found.test_kept == old_test.count("same")
    is_major = {"gone", "moved", "changed"} & {*kinds}
    expected = "major" if is_major else "minor" if "new" in kinds else "none"
    assert found.bump == expected


def test_a_value_that_becomes_null_is_a_change() -> None:
    new = OLD.with_columns(label=pl.when(FIRST).then(None).otherwise("label"))
    assert compare(OLD.lazy(), new.lazy(), NO_REMOVED).changed_by_column == {"label": 1}


def test_counts_add_up() -> None:
    found = compare(OLD.head(20).lazy(), OLD.tail(15).lazy(), NO_REMOVED)
    assert found.old_items - found.removed + found.added == found.new_items == 15


@pytest.mark.parametrize(
    ("version", "bump", "expected"),
    [
        ("1.2.3", "major", "2.0.0"), ("1.2.3", "minor", "1.3.0"), ("1.2.3", "patch", "1.2.4"), ("1.2.3", "none", "1.2.3"),
        ("2.0.0-rc.1", "patch", "2.0.0"), ("2.0.0-rc.1", "major", "2.0.0"),  # a pre-release promises nothing
        ("0.4.1", "major", "0.5.0"), ("0.4.1", "minor", "0.5.0"), ("0.4.1", "patch", "0.4.2"),  # nor does 0.x
    ],
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
    assert lines[-2:] == [
        "proposed version step: major",
        "proposed version after 1.0.0: 2.0.0; both are 1.0.0: one version must not have two contents",
    ]
    (tmp_path / "old" / "croissant.json").unlink()  # a version that nobody knows is not compared
    assert diff(tmp_path / "old", tmp_path / "new").lines() == lines[:-1]


@pytest.mark.parametrize(
    ("version", "told"),
    [("1.0.1", "which is too low"), ("1.9.9", "which is too low"), ("2.0.0", "which fits"), ("2.0.0-rc.1", "which fits"), ("3.1.0", "which fits")],
)  # fmt: skip
def test_the_version_of_the_new_release_is_held_against_what_changed(
    tmp_path: Path, version: str, told: str
) -> None:
    toy(pictures=10).write(tmp_path / "old")
    example = toy(pictures=10, version=version)
    example.items = example.items.filter(~FIRST)
    example.write(tmp_path / "new")
    expected = f"proposed version after 1.0.0: 2.0.0; {tmp_path / 'new'} says {version}, {told}"
    assert diff(tmp_path / "old", tmp_path / "new").lines()[-1] == expected
    report = diff_report(version, "1.0.0", diff(tmp_path / "old", tmp_path / "new").difference, 29)
    assert gates.version_fits(report).is_passed == (told == "which fits")


def test_column_names_of_a_stranger_do_not_reach_the_terminal(tmp_path: Path) -> None:
    for name, column in (("old", "a"), ("new", "a\x1b[2J")):
        (tmp_path / name / "metadata").mkdir(parents=True)
        frame = pl.DataFrame({"item_id": ["\x1b[31m"], "split": ["test"], column: ["x"]})
        frame.write_parquet(tmp_path / name / "metadata" / "items.parquet")
        NO_REMOVED.collect().write_parquet(tmp_path / name / "metadata" / "removed.parquet")
    assert all(line.isprintable() for line in diff(tmp_path / "old", tmp_path / "new").lines())


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a release folder, found no metadata"):
        diff(tmp_path, tmp_path)


def test_a_table_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for name in ("items", "removed"):
        (tmp_path / "metadata" / f"{name}.parquet").write_text("not Parquet")
    with pytest.raises(ConfigError, match="cannot be compared"):
        diff(tmp_path, tmp_path)
