"""The lineage of columns names every column of the real tables, and nothing that is not there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.defs import columns
from dataset_pipeline_tests.building import Bench
from dataset_pipeline_tests.defs.test_metadata import shown_of
from dataset_pipeline_tests.small_dataset import HEADER, rows, write_dataset, write_manifest


def shown_lineage(built: Bench) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Asset -> column -> (asset, column) that it is computed from, as the UI gets it."""
    found = {}
    for name in built.lineage.stages:
        lineage = shown_of(built, name)["dagster/column_lineage"].value
        for deps in lineage.deps_by_column.values():
            assert {dep.asset_key.path[0] for dep in deps} <= {"small"}
        found[name] = {
            column: [(dep.asset_key.path[-1], dep.column_name) for dep in deps]
            for column, deps in lineage.deps_by_column.items()
        }
    return found


def test_every_column_is_named_and_comes_from_one_that_is_there(built: Bench) -> None:
    real: dict[str, list[str]] = {"source_shop": list(HEADER), "takedowns": ["item_id"]}
    for name, stage in built.lineage.stages.items():
        snapshot = built.store.latest(name)
        assert snapshot is not None
        assert stage.main_table is not None
        real[name] = snapshot.table(stage.main_table).collect_schema().names()
    for name, lineage in shown_lineage(built).items():
        assert sorted(lineage) == sorted(real[name])
        upstream = {*built.lineage.upstream(built.lineage.stages[name]), "source_shop"}
        for column, deps in lineage.items():
            for asset, dep in deps:
                assert asset in upstream, f"{name}.{column}"
                assert dep in real[asset], f"{name}.{column} from {asset}.{dep}"


def test_a_column_without_an_origin_says_why(built: Bench) -> None:
    for name, lineage in shown_lineage(built).items():
        described = {
            column.name: column.description
            for column in shown_of(built, name)["dagster/column_schema"].schema.columns
        }
        without = {column for column, deps in lineage.items() if not deps}
        for column in without:
            assert described[column], f"{name}.{column}"
    texts = shown_lineage(built)["raw_texts"]
    assert {column for column, deps in texts.items() if not deps} == {
        "source", "label_source", "licence", "author", "url", "published_split", "date", "strata",
    }  # fmt: skip
    assert texts["caption"] == [("source_shop", "caption")]
    assert texts["label"] == [("source_shop", "kind")]
    assert texts["image_ref"] == [("source_shop", "file")]
    described = {
        c.name: c.description for c in shown_of(built, "raw_texts")["dagster/column_schema"].schema.columns
    }
    assert described["label_source"].endswith("; the same for all rows of a source, as dataset.yaml says")
    assert described["url"].endswith("; no source gives it")


CONSTANT_OR_COLUMN = ("en", "lang")


@pytest.mark.parametrize("language", CONSTANT_OR_COLUMN)
def test_a_name_that_is_no_column_is_a_constant(language: str, tmp_path: Path) -> None:
    config = write_dataset(tmp_path, source={"columns": {"language": language}})
    made = columns.raw_texts(DatasetConfig.model_validate(_loaded(config)), {"shop": HEADER})
    assert made["language"].columns == ((("source_shop", "lang"),) if language == "lang" else ())


def test_a_template_names_all_its_columns_and_a_folder_its_own(tmp_path: Path) -> None:
    config = write_dataset(tmp_path, source={"columns": {"item_id": None, "image": "{owner}/{id}.png"}})
    made = columns.raw_texts(DatasetConfig.model_validate(_loaded(config)), {"shop": HEADER})
    assert (
        made["image_ref"].columns
        == made["item_id"].columns
        == (("source_shop", "owner"), ("source_shop", "id"))
    )
    config = write_dataset(tmp_path, source={"columns": None, "image_root": None, "path": "images"})
    made = columns.raw_texts(
        DatasetConfig.model_validate(_loaded(config)), {"shop": ["item_id", "image", "label"]}
    )
    assert made["image_ref"].columns == (("source_shop", "image"),)
    assert made["label"].columns == (("source_shop", "label"),)


def _loaded(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


# -- the lineage is true: what a column of a source changes is what comes from it ------------------


def changed(column: str) -> list[dict[str, str]]:
    """The manifest with other values in one column."""
    values = {
        "id": lambda row: f"x{row['id']}",
        "caption": lambda row: f"{row['caption']} and that is all",
        "kind": lambda row: {"boot": "hat", "hat": "shirt", "shirt": "boot"}[row["kind"]],
        "lang": lambda row: {"en": "de", "de": "en"}[row["lang"]],
        "owner": lambda row: f"{row['owner']}-b",
    }
    return [{**row, column: values[column](row)} for row in rows()]


def differing(before: Mapping[str, pl.DataFrame], after: Mapping[str, pl.DataFrame]) -> set[tuple[str, str]]:
    return {
        (asset, column)
        for asset, frame in before.items()
        for column in frame.columns
        if not frame[column].equals(after[asset][column], null_equal=True)
    }


def from_source(
    lineage: Mapping[str, Mapping[str, list[tuple[str, str]]]], column: str
) -> set[tuple[str, str]]:
    """Columns of assets that come, over others or directly, from a column of the source."""
    reached = {("source_shop", column)}
    for asset, of_asset in lineage.items():
        reached |= {(asset, name) for name, deps in of_asset.items() if set(deps) & reached}
    return reached - {("source_shop", column)}


def test_a_changed_column_of_a_source_changes_what_comes_from_it_alone(copy: Bench) -> None:
    assets = ("raw_texts", "raw_images", "cleaned_items", "deduplicated_items", "train_test_split")
    assert copy.run().success
    lineage = {name: of for name, of in shown_lineage(copy).items() if name in assets}

    def tables() -> dict[str, pl.DataFrame]:
        assert copy.run(*assets).success
        found = {}
        for name in assets:
            snapshot = copy.store.latest(name)
            main = copy.lineage.stages[name].main_table
            assert snapshot is not None
            assert main is not None
            found[name] = snapshot.table(main).collect()
        return found

    before = tables()
    for column in ("caption", "kind", "lang", "owner"):
        write_manifest(copy.config_path.parent / "items.csv", changed(column))
        found = differing(before, tables())
        assert found, column
        assert found <= from_source(lineage, column), column
