"""Manifests and image listings: what users have, and how rubbish is answered."""

from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline.adapters import sources
from dataset_pipeline.adapters.sources import (
    list_images,
    read_comparison,
    read_image_bytes,
    read_images,
    read_manifest,
    read_takedowns,
    source_fingerprint,
)
from dataset_pipeline.config import Source
from dataset_pipeline.errors import ConfigError
from dataset_pipeline_tests.pictures import encoded, picture


def source(path: str | tuple[str, ...] = "items.csv", **keys: object) -> Source:
    return Source.model_validate({"id": "s", "path": path, "licence": "CC0-1.0", **keys})


def rows(folder: Path, name: str, content: bytes, **keys: object) -> list[dict[str, object]]:
    (folder / name).write_bytes(content)
    return read_manifest(source(name, **keys), folder).collect().to_dicts()


GOOD = [{"id": "1", "name": "red, shirt"}, {"id": "2", "name": None}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'id,name\n1,"red, shirt"\n2,\n'),
        ("a.csv", b'\xef\xbb\xbfid,name\r\n1,"red, shirt"\r\n2,\r\n'),  # what Excel writes
        ("a.tsv", b"id\tname\n1\tred, shirt\n2\t\n"),
        ("a.jsonl", b'{"id": 1, "name": "red, shirt"}\n\n{"id": 2, "name": null}\n'),
    ],
)
def test_text_manifests(tmp_path: Path, name: str, content: bytes) -> None:
    assert rows(tmp_path, name, content) == GOOD


def test_quoted_newlines_stay_in_their_cell(tmp_path: Path) -> None:
    assert rows(tmp_path, "a.csv", b'id,name\n1,"two\nlines"\n') == [{"id": "1", "name": "two\nlines"}]


def test_parquet_of_any_type_reads_as_text(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2], "name": ["red, shirt", None]}).write_parquet(tmp_path / "a.parquet")
    assert read_manifest(source("a.parquet"), tmp_path).collect().to_dicts() == GOOD


def test_several_files_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n2\n")
    (tmp_path / "b.csv").write_text("id,name\n1,x\n")
    frame = read_manifest(source(("a.csv", "b.csv")), tmp_path).collect()
    assert frame.to_dicts() == [{"id": "2", "name": None}, {"id": "1", "name": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.csv",
            "id,name\n1,caf\xe9\n".encode("latin-1"),
            r"a\.csv:2: byte 13 is not utf-8.*Set the source's 'encoding'",
        ),
        ("a.csv", b"", "empty; expected a header"),
        ("a.csv", b"id,name\n1,2,3\n", r"a\.csv:2: found 3 cells, expected 2.*as many cells as the header"),
        ("a.csv", b"id,id\n1,2\n", "column names must be unique"),
        ("a.jsonl", b'{"id": 1}\n{"id": \n', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", b"\n\n", "empty; expected one JSON object a line"),
        ("a.parquet", b"no parquet", "not a Parquet file"),
        ("a.xlsx", b"", r"expected one of \.csv"),
    ],
)
def test_broken_manifests_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        rows(tmp_path, name, content)
    assert "\n" not in str(caught.value)


def test_latin_1_reads_when_it_is_said(tmp_path: Path) -> None:
    assert rows(tmp_path, "a.csv", "id\ncaf\xe9\n".encode("latin-1"), encoding="latin-1") == [{"id": "café"}]


def test_missing_manifest_names_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "item.csv").write_text("id\n1\n")
    with pytest.raises(
        ConfigError, match=r"no such file or folder: .*items\.csv; did you mean 'item\.csv'\?"
    ):
        read_manifest(source(), tmp_path)


def test_remote_sources_are_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="remote sources cannot be read yet"):
        read_manifest(source("s3://bucket/items.csv"), tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("shirt/1.png", "shirt/2.PNG", "hat/3.jpg", "4.png", ".hidden/5.png", "shirt/notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture()))
    return tmp_path


def test_a_folder_per_class(tree: Path) -> None:
    manifest = read_manifest(source("photos"), tree).collect().sort("image")
    assert manifest.select("image", "label").rows() == [
        ("4.png", None), ("hat/3.jpg", "hat"), ("shirt/1.png", "shirt"), ("shirt/2.PNG", "shirt"),
    ]  # fmt: skip
    listed = list_images(source("photos"), tree, manifest.lazy())
    assert listed["image_ref"].to_list() == ["s/4.png", "s/hat/3.jpg", "s/shirt/1.png", "s/shirt/2.PNG"]


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ConfigError, match="no images found"):
        read_manifest(source("photos"), tmp_path).collect()


def listing(folder: Path, names: list[str], **keys: object) -> list[str]:
    manifest = pl.LazyFrame({"file": names})
    settings = source("photos/items.csv", columns={"image": "file"}, **keys)
    (folder / "photos" / "items.csv").write_text("file\n")
    return list_images(settings, folder, manifest)["image_ref"].to_list()


def test_unlisted_images_are_found_or_ignored(tree: Path) -> None:
    assert len(listing(tree, ["4.png"])) == 4
    assert listing(tree, ["4.png", "gone.png"], unlisted_images="ignore") == ["s/4.png"]


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 5])
def test_listings_are_the_same_in_chunks_of_any_size(
    tree: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    whole = listing(tree, ["4.png"])
    monkeypatch.setattr(sources, "_ROWS_AT_ONCE", at_once)
    assert listing(tree, ["4.png"]) == whole
    assert len(whole) == 4


def test_named_files_count_whatever_their_suffix(tree: Path) -> None:
    assert "s/shirt/notes.txt" in listing(tree, ["shirt/notes.txt"])


def test_nothing_outside_the_root_is_listed(tree: Path) -> None:
    (tree / "secret.png").write_bytes(encoded(picture()))
    (tree / "photos" / "link.png").symlink_to(tree / "secret.png")
    (tree / "photos" / "linked").symlink_to(tree)
    names = ["../secret.png", str(tree / "secret.png"), "link.png", "linked/secret.png", "a\0b.png"]
    for mode in ("report", "ignore"):
        assert not any("secret" in ref or "link" in ref for ref in listing(tree, names, unlisted_images=mode))


@pytest.mark.parametrize("as_struct", [False, True])
def test_image_bytes_in_parquet(tmp_path: Path, as_struct: bool) -> None:
    pictures = [encoded(picture(0)), None, encoded(picture(2))]
    images = (
        [{"bytes": data, "path": "x.png"} if data else None for data in pictures] if as_struct else pictures
    )
    pl.DataFrame({"id": ["a", "b", "c"], "image": images}).write_parquet(tmp_path / "a.parquet")
    settings = source("a.parquet", columns={"image": "image", "item_id": "id"})
    manifest = read_manifest(settings, tmp_path)
    listed = list_images(settings, tmp_path, manifest)
    assert listed["image_ref"].to_list() == ["s/#0:0", "s/#0:2"]
    assert list(read_images(listed["location"].to_list())) == [pictures[0], pictures[2]]
    assert read_image_bytes(listed["location"][1]) == pictures[2]


def test_fingerprint_follows_the_content(tree: Path) -> None:
    before = source_fingerprint(source("photos"), tree)
    assert source_fingerprint(source("photos"), tree) == before
    (tree / "photos" / "4.png").write_bytes(encoded(picture(9)))
    assert source_fingerprint(source("photos"), tree) != before


def test_takedowns(tmp_path: Path) -> None:
    assert read_takedowns(None, tmp_path) is None
    (tmp_path / "t.csv").write_text("item_id,reason\na,asked\n")
    frame = read_takedowns("t.csv", tmp_path)
    assert frame is not None
    assert frame.to_dicts() == [
        {"item_id": "a", "sha256": None, "url": None, "reason": "asked", "date": None}
    ]
    (tmp_path / "t.csv").write_text("id\na\n")
    with pytest.raises(ConfigError, match="expected a column 'item_id'"):
        read_takedowns("t.csv", tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "comparison: no such file or folder"),
        (
            "dataset,figure,value\nA,pictures,5\n",
            "expected a column 'source', found ['dataset', 'figure', 'value']",
        ),
    ],
)
def test_a_wrong_file_of_datasets_to_compare_with(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "others.csv").write_text(content)
    with pytest.raises(ConfigError) as error:
        read_comparison("others.csv", tmp_path)
    assert said in str(error.value)


def test_datasets_to_compare_with_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "others.csv").write_text("dataset,figure,value,source\nA,pictures,5,https://a.example\n")
    assert read_comparison("others.csv", tmp_path) == [
        {"dataset": "A", "figure": "pictures", "value": "5", "source": "https://a.example"}
    ]
    assert read_comparison(None, tmp_path) == []
