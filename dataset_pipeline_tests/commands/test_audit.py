"""The audit of labels: a sheet with pictures, verdicts, and an estimate."""

import csv
from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline.commands import audit
from dataset_pipeline.errors import ConfigError
from dataset_pipeline_tests.toy_release import toy


@pytest.fixture
def release(tmp_path: Path) -> Path:
    toy().write(tmp_path / "release")
    return tmp_path / "release"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_sheet_is_written_filled_in_and_read_back(release: Path, tmp_path: Path) -> None:
    sheet = audit.write_sheet(release, tmp_path / "audit", 0.001, 0.5, 0, force=False)
    items = pl.read_parquet(release / "metadata" / "items.parquet").drop_nulls("label")
    rows = rows_of(sheet.path)
    assert (sheet.items, sheet.population) == (len(rows), items.height) == (items.height,) * 2
    assert all(not row["verdict"] for row in rows)
    assert {row["item_id"].removeprefix("'") for row in rows} == set(items["item_id"])
    pictures = {row["picture"] for row in rows if row["picture"]}
    assert pictures
    assert all((sheet.path.parent / picture).stat().st_size for picture in pictures)
    for number, row in enumerate(rows):
        row["verdict"] = "wrong" if number == 0 else "right"
    with sheet.path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = audit.read_sheet(release, sheet.path)
    assert (found["looked_at"], found["wrong"], found["outdated"]) == (items.height, 1, 0)
    assert 0 < found["interval"][0] < found["share"] < found["interval"][1] < 1
    lines = audit.estimate_lines(found)
    assert lines[0] == f"1 of {items.height} labels are wrong"
    assert f"wrong labels in the release: {found['share']:.2%}" in lines[-1]


def test_a_sheet_with_verdicts_is_not_overwritten(release: Path, tmp_path: Path) -> None:
    audit.write_sheet(release, tmp_path / "audit", 0.001, 0.5, 0, force=False)
    with pytest.raises(ConfigError, match=r"sheet\.csv is there already"):
        audit.write_sheet(release, tmp_path / "audit", 0.001, 0.5, 0, force=False)
    audit.write_sheet(release, tmp_path / "audit", 0.001, 0.5, 0, force=True)


def test_what_cannot_be_audited_is_one_clear_line(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a release folder, found no metadata/items\.parquet"):
        audit.write_sheet(tmp_path, tmp_path / "audit", 0.001, 0.5, 0, force=False)
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("item_id,label\na,b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"audit: .*expected a column 'verdict'"):
        audit.read_sheet(release, sheet)
    path = release / "metadata" / "items.parquet"
    pl.read_parquet(path).with_columns(label=pl.lit(None, pl.String)).write_parquet(path)
    with pytest.raises(ConfigError, match="no item has a label"):
        audit.write_sheet(release, tmp_path / "audit", 0.001, 0.5, 0, force=False)


def test_an_empty_sheet_says_so(release: Path, tmp_path: Path) -> None:
    sheet = audit.write_sheet(release, tmp_path / "audit", 0.001, 0.5, 0, force=False)
    found = audit.read_sheet(release, sheet.path)
    assert audit.estimate_lines(found) == [
        f"no verdict 'right' or 'wrong' on an item of this release ({sheet.items} not filled in)"
    ]
