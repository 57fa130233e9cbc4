"""Manifest rows as raw items."""

import polars as pl
import pytest

from dataset_pipeline.config import Source
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.raw import image_table, orphan_rows, raw_items
from dataset_pipeline.tables import IMAGES, RAW_ITEMS


def items(manifest: dict[str, list[str | None]], **columns: object) -> pl.DataFrame:
    source = Source.model_validate(
        {"id": "s", "path": "a.csv", "licence": "CC0-1.0", "author": "Ada", "columns": columns}
    )
    types = dict.fromkeys(manifest, pl.String)
    return raw_items(pl.LazyFrame(manifest, schema=types), source).collect()


def test_columns_constants_and_templates() -> None:
    frame = items(
        {"id": ["1", "2"], "dir": ["a", "b"], "kind": ["hat", " "], "who": ["x", None], "t": ["Red hat", ""]},
        item_id="id", image="{dir}/{id}.jpg", texts={"title": "t"}, label="kind", label_source="human",
        language="en", group_keys=["who", "dir"],
    )  # fmt: skip
    assert frame.columns == [*RAW_ITEMS, "title"]
    assert frame.select("item_id", "image_ref", "label", "label_source", "language", "licence", "author", "title").rows() == [
        ("1", "s/a/1.jpg", "hat", "human", "en", "CC0-1.0", "Ada", "Red hat"),
        ("2", "s/b/2.jpg", None, "human", "en", "CC0-1.0", "Ada", None),
    ]  # fmt: skip
    assert frame["group_keys"].to_list() == [["who=x", "dir=a"], ["dir=b"]]
    assert frame["problem"].null_count() == 2


def test_a_column_wins_over_a_constant_of_the_same_name() -> None:
    frame = items({"id": ["1"], "lang": ["cs"]}, item_id="id", language="lang")
    assert frame["language"].to_list() == ["cs"]


@pytest.mark.parametrize("path", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg", "a\0b.jpg"])
def test_paths_that_leave_the_root_are_removed_rows(path: str) -> None:
    frame = items({"id": ["1"], "file": [path]}, item_id="id", image="file")
    assert frame["problem"].to_list() == ["image_path_outside_root"]
    assert frame["image_ref"].to_list() == [None]


def test_a_row_without_an_image_says_so() -> None:
    frame = items({"id": ["1", None], "file": ["", "b.jpg"]}, item_id="file", image="{id}.jpg")
    assert frame["problem"].to_list() == [None, "image_not_named"]


def test_ids_where_none_are_named() -> None:
    assert items({"file": ["a.jpg", None]}, image="file")["item_id"].to_list() == ["a.jpg", "row-2"]
    assert items({"t": ["x", "y"]}, texts={"title": "t"})["item_id"].to_list() == ["s-1", "s-2"]


def test_missing_columns_are_named_with_those_there() -> None:
    with pytest.raises(
        ConfigError, match=r"columns\.label: 'kind', columns\.texts\.title: 't'.*columns there: id, label"
    ):
        items({"id": ["1"], "label": ["x"]}, label="kind", texts={"title": "t"})


def test_images_that_no_row_names() -> None:
    raw = items({"id": ["1"], "file": ["a.jpg"]}, item_id="id", image="file").lazy()
    images = pl.LazyFrame({"image_ref": ["s/b.jpg", "s/a.jpg"]})
    orphans = orphan_rows(raw, images).collect()
    assert orphans.select("item_id", "source", "problem").rows() == [("s/b.jpg", "s", "image_without_row")]


def test_image_table_keeps_every_listed_image() -> None:
    listed = pl.LazyFrame(
        {"image_ref": ["s/b", "s/a"], "location": ["b", "a"], "size_bytes": [1, 2], "problem": [None, None],
         "problem_detail": [None, None], "sha256": ["1", None]},
        schema_overrides={"problem": pl.String, "problem_detail": pl.String},
    )  # fmt: skip
    facts = {name: [None] for name in IMAGES if name not in {"image_ref", "location", "size_bytes", "sha256"}}
    scanned = pl.LazyFrame(
        {"sha256": ["1"], **facts}, schema={n: t for n, t in IMAGES.items() if n in facts or n == "sha256"}
    )
    table = image_table(listed, scanned).collect()
    assert table.select("image_ref", "problem").rows() == [("s/a", "image_undecodable"), ("s/b", None)]
