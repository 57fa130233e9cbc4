"""The release folder: what other programs read from it, and that two builds give the same bytes."""

import hashlib
import os
import re
import subprocess
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from dataset_pipeline.adapters import archive, shards
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.tables import RELEASED_ITEMS
from dataset_pipeline_tests.toy_release import LANGUAGES, toy


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "1.0.0"
    toy().write(folder)
    return folder


def test_the_layout_is_the_documented_one(written: Path) -> None:
    assert [path.relative_to(written).as_posix() for path in sorted(written.rglob("*")) if path.is_file()] == sorted(
        [
            "CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "SHA256SUMS", "croissant.json",
            "data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet",
            "data/validation-00000-of-00001.parquet", "datacite.json", "ro-crate-metadata.json", "datasheet.md", "metadata/decisions.parquet", "metadata/duplicate_pairs.parquet",
            "metadata/items.parquet", "metadata/references.parquet", "metadata/removed.parquet", "provenance.json", "reports/diff.json", "reports/figures/classes.svg",
            "reports/leakage.json", "reports/quality.json", "reports/report.html", "reports/tables/splits.csv",
        ]
    )  # fmt: skip


def test_sha256sum_accepts_the_checksums(written: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=written, check=True)
    listed = {line.split("  ", 1)[1] for line in (written / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    assert listed == there - {"SHA256SUMS"}


def test_two_builds_differ_in_the_provenance_and_its_checksum_alone(tmp_path: Path) -> None:
    # The order of input rows, and the time, must not show.
    first, second = toy(), toy()
    second.items = second.items.sample(fraction=1, shuffle=True, seed=3)
    second.images = second.images.reverse()
    one = {file.path: file.sha256 for file in first.write(tmp_path / "one")}
    two = {file.path: file.sha256 for file in second.write(tmp_path / "two")}
    assert [path for path in one if one[path] != two[path]] == ["provenance.json"]
    assert one.keys() == two.keys()


def test_polars_reads_the_shards_and_the_metadata_alike(written: Path) -> None:
    data = pl.read_parquet(written / "data" / "*.parquet")
    items = pl.read_parquet(written / "metadata" / "items.parquet")
    assert items.columns == [*RELEASED_ITEMS, "name"]
    assert data.columns == ["image", *items.columns]
    assert data.drop("image").sort("item_id").equals(items.sort("item_id"))
    assert items["item_id"].is_sorted()


def test_pictures_are_the_released_bytes_under_a_plain_name(written: Path) -> None:
    example = toy()
    stored = {hashlib.sha256(data).hexdigest(): data for data in example.pictures.values()}
    for image, sha256 in (
        pl.read_parquet(written / "data" / "*.parquet").select("image", "image_sha256").iter_rows()
    ):
        assert image == {"bytes": stored[sha256], "path": f"{sha256}.png"}


def test_datasets_loads_the_folder_with_decoded_pictures(written: Path, tmp_path: Path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    # Not by environment variables: they are read once, when the library is loaded, and would hold for every later test.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(str(written), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 36, "validation": 12, "test": 12}
    assert loaded["train"].features["image"] == datasets.Image()
    assert loaded["train"][0]["image"].size == (40, 40)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlcroissant_loads_every_record(written: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(written / "croissant.json")
    assert not dataset.metadata.issues.errors
    assert not dataset.metadata.issues.warnings
    records = list(dataset.records("items"))
    items = pl.read_parquet(written / "metadata" / "items.parquet")
    assert sorted(record["items/item_id"].decode() for record in records) == items["item_id"].to_list()
    assert records[0]["items/image"].size == (40, 40)


def test_row_groups_are_small_and_have_a_page_index(written: Path) -> None:
    file = pq.ParquetFile(written / "data" / "train-00000-of-00001.parquet")
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        assert group.num_rows <= 100
        assert all(group.column(column).has_offset_index for column in range(group.num_columns))


def test_a_picture_of_many_rows_is_stored_about_once(tmp_path: Path) -> None:
    # 30 pictures of 12 KB, 14 rows each: the demo's shape. Plain encoding would take 14 times as much.
    example = toy(pictures=30, side=64)
    example.items = pl.concat(
        example.items.filter(pl.col("language") == "en").with_columns(pl.col("item_id") + f"-{copy}")
        for copy in range(14)
    )
    example.write(tmp_path / "out")
    stored = sum(path.stat().st_size for path in (tmp_path / "out" / "data").iterdir())
    once = sum(len(data) for data in example.pictures.values())
    assert stored < 1.6 * once


def test_each_shared_picture_is_read_once_and_row_groups_are_bounded_in_bytes(
    tmp_path: Path, monkeypatch
) -> None:
    reads: list[str] = []
    example = toy()
    monkeypatch.setattr(shards, "_ROW_GROUP_BYTES", 20_000)
    example.write(
        tmp_path / "out", read_image=lambda place: (reads.append(place), example.pictures[place])[1]
    )
    assert sorted(reads) == sorted(example.pictures)
    file = pq.ParquetFile(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    assert file.num_row_groups > 1
    assert file.metadata.num_rows == 12 * len(LANGUAGES)


def test_a_split_over_the_limit_gets_several_shards(tmp_path: Path) -> None:
    example = toy(pictures=40, side=160, release={"max_shard_mib": 1, "rows_per_row_group": 3})
    example.write(tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "data").glob("train-*"))
    assert len(names) > 1
    assert names == [f"train-{n:05d}-of-{len(names):05d}.parquet" for n in range(len(names))]
    assert all(path.stat().st_size <= 1 << 20 for path in (tmp_path / "out" / "data").iterdir())


def test_texts_without_pictures(tmp_path: Path) -> None:
    example = toy()
    example.items = example.items.with_columns(
        image_ref=pl.lit(None, pl.String), image_sha256=pl.lit(None, pl.String)
    )
    example.images = example.images.clear()
    example.write(tmp_path / "out")
    assert "image" not in pl.read_parquet_schema(tmp_path / "out" / "data" / "test-00000-of-00001.parquet")
    assert '"items/image"' not in (tmp_path / "out" / "croissant.json").read_text()


def test_pictures_without_texts(tmp_path: Path) -> None:
    source = {"id": "noise", "path": "items.csv", "licence": "CC0-1.0", "columns": {"image": "picture"}}
    example = toy(sources=[source])
    example.items = example.items.drop("name").filter(pl.col("language") == "en")
    example.write(tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "metadata" / "items.parquet").columns == list(RELEASED_ITEMS)
    # Every row has a picture of its own: a dictionary would only be in the way.
    group = pq.ParquetFile(tmp_path / "out" / "data" / "train-00000-of-00001.parquet").metadata.row_group(0)
    assert group.column(0).path_in_schema == "image.bytes"
    assert not any("DICTIONARY" in encoding for encoding in group.column(0).encodings)


def test_a_source_that_changed_during_the_build_is_the_outside_world(tmp_path: Path) -> None:
    example = toy()
    with pytest.raises(OutsideWorldError, match="is not the one that was scanned"):
        example.write(tmp_path / "out", read_image=lambda _place: b"other bytes")


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    def full(_data: bytes, _faces: object) -> tuple[bytes, str]:
        raise OSError(28, os.strerror(28), str(tmp_path / "out"))

    with pytest.raises(OutsideWorldError, match="No space left on device"):
        toy().write(tmp_path / "out", release_image=full)


def test_an_extension_cannot_lead_out_of_the_picture_folder(tmp_path: Path) -> None:
    toy().write(tmp_path / "out", release_image=lambda data, _faces: [(data, "/../../x.png")])
    names = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")["image"].struct.field("path")
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


@pytest.mark.parametrize("path", ["../outside.md", "/etc/outside.md"])
def test_a_document_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    example = toy()
    example.parts["documents"] = lambda _data: {path: "text"}
    with pytest.raises(ValueError, match="leaves the release folder"):
        example.write(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small-clip.image", "small-clip.image"),
        ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32_laion2b_s34b_b79k"),  # a model's name is no folder
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "_"),
    ],
)
def test_file_names_are_plain(name: str, expected: str) -> None:
    assert shards.file_name(name) == expected


def test_the_release_before_is_the_newest_of_a_lower_version(tmp_path: Path) -> None:
    for name in ("1.2.0", "1.10.0", "1.10.1-rc.1", "2.0.0", "0.9.9", "3.0", "notes", "1.10.0-copy of mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "SHA256SUMS").touch()
    (tmp_path / "1.9.9").mkdir()  # nothing in it that a release has

    def before(version: str) -> str | None:
        found = archive.previous_release(tmp_path, version)
        return found and found.name

    assert before("2.0.0") == "1.10.1-rc.1"  # numbers are compared as numbers, and itself is none of them
    assert before("1.10.1") == "1.10.1-rc.1"  # a pre-release comes before its release
    assert before("1.10.1-rc.1") == "1.10.0"
    assert before("1.10.0") == "1.2.0"
    assert before("0.9.9") is None
    assert archive.previous_release(tmp_path / "nowhere", "1.0.0") is None
