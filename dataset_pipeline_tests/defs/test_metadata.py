"""What an asset's page and a check's page show, and that data cannot become markup there."""

import base64
import io
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from PIL import Image

from dataset_pipeline.adapters.store import Snapshot, SnapshotWriter, Store
from dataset_pipeline.defs import assets, metadata
from dataset_pipeline.stages import review
from dataset_pipeline.stages.diff import table_changes
from dataset_pipeline.stages.gates import Outcome
from dataset_pipeline.tables import THUMBNAIL_SIDE_PX
from dataset_pipeline_tests.building import Bench

MAX_BYTES = 100_000
"""Metadata live in the event log: every value has to be small."""


def shown_of(built: Bench, asset: str) -> dict[str, Any]:
    event = built.instance.get_latest_materialization_event(built.lineage.dataset.key(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


def test_every_asset_shows_rows_size_schema_and_a_table_or_pictures(built: Bench) -> None:
    rows = {}
    for name, stage in built.lineage.stages.items():
        shown = shown_of(built, name)
        snapshot = built.store.latest(name)
        assert snapshot is not None
        assert stage.main_table is not None
        table = snapshot.table(stage.main_table)
        assert shown["dagster/row_count"].value == table.select(pl.len()).collect().item()
        rows[name] = shown["dagster/row_count"].value
        schema = shown["dagster/column_schema"].schema
        assert [column.name for column in schema.columns] == table.collect_schema().names()
        assert shown["dagster/size_bytes"].value == sum(
            path.stat().st_size for path in snapshot.folder.rglob("*") if path.is_file()
        )
        assert shown["dagster/uri"].value == str(snapshot.folder)
        if name not in ("raw_texts", "review"):  # texts as they came may hold personal data
            assert any(isinstance(value, dg.MarkdownMetadataValue) for value in shown.values()), name
    assert rows.pop("label_quality") <= 40  # noise has no right number of candidates
    assert rows == {
        "raw_texts": 40, "raw_images": 40, "cleaned_items": 40, "deduplicated_items": 40, "train_test_split": 40,
        "review": built.store.latest("review").table("review").select(pl.len()).collect().item(),
        "statistics": 3, "clip_baselines": 3, "published_archive": 40,
    }  # fmt: skip


def test_no_value_is_large(built: Bench) -> None:
    for name in built.lineage.stages:
        for key, value in shown_of(built, name).items():
            assert len(str(value.value)) < MAX_BYTES, f"{name}: {key}"


def test_data_version_is_the_snapshot_and_its_content_hash(built: Bench) -> None:
    for name in built.lineage.stages:
        event = built.instance.get_latest_materialization_event(built.lineage.dataset.key(name))
        assert event is not None
        assert event.asset_materialization is not None
        tags = event.asset_materialization.tags or {}
        snapshot = built.store.latest(name)
        assert snapshot is not None
        assert tags["dagster/data_version"] == snapshot.id == snapshot.folder.name


def test_raw_texts_show_no_text(built: Bench) -> None:
    assert "sold in shop" not in str({k: v.value for k, v in shown_of(built, "raw_texts").items()})


def test_removed_rows_are_counted_by_reason(tmp_path: Path) -> None:
    with Store(tmp_path, "toy").writing("asset", {}) as writer:
        writer.table("items", pl.DataFrame({"item_id": ["a"]}))
        writer.table("removed", pl.DataFrame({"reason": ["duplicate", "image_blank", "duplicate"]}))
    snapshot = Store(tmp_path, "toy").latest("asset")
    assert snapshot is not None
    shown = metadata.of_snapshot(snapshot, "items", is_private=False)
    assert shown["removed_rows"] == 3
    assert shown["removed_by_reason"].value.splitlines()[2:] == ["| duplicate | 2 |", "| image\\_blank | 1 |"]
    assert metadata.outcome_line(shown) == "1 rows, 3 removed"


def sheet(tmp_path: Path, count: int) -> str | None:
    """The pictures shown of a table with so many thumbnails, of which every third is missing."""
    thumbnails = [None if n % 3 == 1 else bytes([n % 256]) * THUMBNAIL_SIDE_PX**2 * 3 for n in range(count)]
    writer = SnapshotWriter(tmp_path)
    writer.table("images", pl.DataFrame({"thumbnail": thumbnails}, schema={"thumbnail": pl.Binary}))
    value = metadata.of_snapshot(Snapshot("a", "0", tmp_path), "images", is_private=False).get("pictures")
    return None if value is None else str(value.value)


@pytest.mark.parametrize(("count", "pictures"), [(1, 1), (9, 6), (40, 12), (1000, 12)])
def test_pictures_are_spread_over_the_table(count: int, pictures: int, tmp_path: Path) -> None:
    text = sheet(tmp_path, count)
    assert text is not None
    data = base64.b64decode(text.split("base64,")[1].rstrip(")"))
    image = Image.open(io.BytesIO(data))
    assert image.size == (2 * THUMBNAIL_SIDE_PX * pictures, 2 * THUMBNAIL_SIDE_PX)
    assert len(data) < MAX_BYTES
    if count == 1000:
        # grey levels repeat every 256 rows; the last picture is not near the first
        assert image.convert("L").getpixel((image.width - 20, 20)) != image.convert("L").getpixel((20, 20))


def test_no_pictures_is_no_sheet(tmp_path: Path) -> None:
    assert sheet(tmp_path, 0) is None


def test_data_cannot_become_markup() -> None:
    evil = "<img src=x onerror=alert(1)> | [link](javascript:alert(1)) `code` **bold**\n# head ![p](http://x)"
    line = metadata.markdown_table(pl.DataFrame({"a": [evil]})).value.splitlines()[-1]
    assert line.count("|") - line.count("\\|") == 2, "one cell"
    assert "<" not in line
    for raw in ("](", "**", " `", "# head", "!["):
        assert raw not in line.replace("\\", "\\ "), raw


def test_outcome_of_a_failed_check(tmp_path: Path) -> None:
    outcome = Outcome(False, "2 rows", {"rows": 2}, pl.DataFrame({"item_id": ["a", "b"]}))
    shown = metadata.of_outcome(outcome, "abc", "No rows.", "Mend it.")
    assert (shown["expected"], shown["found"]) == ("No rows.", "2 rows")
    assert shown["rows"] == 2
    assert shown["snapshot"] == "abc"
    assert shown["remedy"] == "Mend it."
    assert shown["examples"].value.splitlines() == ["| item_id |", "| --- |", "| a |", "| b |"]


def test_a_passed_check_needs_no_remedy() -> None:
    assert metadata.of_outcome(Outcome(True, "fine"), "abc", "Fine.", "Mend it.") == {
        "expected": "Fine.",
        "found": "fine",
        "snapshot": "abc",
    }


def references(monkeypatch: pytest.MonkeyPatch, config: Path, **variables: str) -> list[tuple[str, str]]:
    """(where it leads, label) of an asset's code references under these environment variables."""
    for name in (metadata.CODE_VARIABLE, "DAGSTER_IS_DEV_CLI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shown = metadata.of_code(assets.build_review, [review], config).get("dagster/code_references")
    return [(one.source, one.label) for one in shown.code_references] if shown else []


def test_code_is_a_file_where_it_is_developed_and_an_address_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "sets" / "dataset.yaml"
    line = assets.build_review.__code__.co_firstlineno
    assert references(monkeypatch, config) == [], "paths of another machine lead nowhere"
    assert references(monkeypatch, config, DAGSTER_IS_DEV_CLI="1") == [
        (f"{assets.__file__}:{line}", "build_review"),
        (f"{review.__file__}:1", "stages.review"),
        (f"{config}:1", "dataset.yaml"),
    ]
    address = "https://git.example/you/sets/blob/abc123"
    program = [
        (f"{address}/dataset_pipeline/defs/assets.py#L{line}", "build_review"),
        (f"{address}/dataset_pipeline/stages/review.py#L1", "stages.review"),
    ]
    assert references(monkeypatch, config, **{metadata.CODE_VARIABLE: f"{address}/"}) == program
    monkeypatch.chdir(tmp_path)
    told = references(monkeypatch, config, **{metadata.CODE_VARIABLE: address})
    assert told == [*program, (f"{address}/sets/dataset.yaml#L1", "dataset.yaml")]


def test_what_differs_from_the_version_before() -> None:
    old = pl.LazyFrame({"item_id": ["a", "b", "c"], "label": ["x", "y", None], "gone": [1, 2, 3]})
    new = pl.LazyFrame({"item_id": ["b", "c", "d"], "label": ["y", "z", "x"], "tags": [["p"], [], None]})
    changes = table_changes(old, new, "item_id")
    shown = metadata.of_changes(changes, Snapshot("a", "before", Path()))
    assert shown.pop("changed_columns").value.splitlines()[2:] == ["| label | 1 |"]
    assert shown == {
        "rows_added": 1, "rows_removed": 1, "rows_changed": 1, "compared_with": "before",
        "columns_added": "tags", "columns_gone": "gone",
    }  # fmt: skip
    assert metadata.of_changes(None, None) == {}
    same = table_changes(new, new, "item_id")
    assert (same.added, same.removed, same.changed, same.changed_by_column) == (0, 0, 0, {})
