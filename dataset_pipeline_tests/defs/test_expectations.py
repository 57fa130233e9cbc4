"""Great Expectations suites: each expectation of each suite is seen failing on bad data."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataset_pipeline.adapters.store import Snapshot
from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.defs.expectations import suite_gates
from dataset_pipeline.defs.stage import Audit, Dataset

CONFIG = DatasetConfig.model_validate(
    {
        "name": "toy",
        "version": "1.0.0",
        "licence": "CC0-1.0",
        "sources": [
            {
                "id": "a",
                "path": "a.csv",
                "licence": "CC0-1.0",
                "columns": {"texts": {"title": "t", "caption": "c"}},
            }
        ],
    }
)

GOOD: dict[str, dict[str, dict[str, list[Any]]]] = {
    "raw_texts": {"items": {"item_id": ["a", "b"], "label": ["x", "y"], "problem": [None, None]}},
    "raw_images": {
        "images": {
            "image_ref": ["s/a", "s/b"], "sha256": ["0" * 64, None], "brightness": [12.0, None], "format": ["PNG", None],
        }
    },
    "cleaned_items": {
        "items": {"item_id": ["a", "b"], "language": ["en", "zh-Hans"], "title": ["red <3", None], "caption": ["x", "y"]}
    },
    "deduplicated_items": {
        "items": {"item_id": ["a", "b"], "duplicate_group": ["a", "a"]}, "duplicate_pairs": {"score": [0.99, 1.0]},
    },
    "train_test_split": {"items": {"item_id": ["a", "b"], "split": ["train", "test"], "leak_group": ["a", "b"]}},
}  # fmt: skip

BAD: dict[str, dict[str, tuple[str, str, list[Any]]]] = {
    "raw_texts": {
        "has_rows": ("items", "item_id", []),
        "item_ids_present": ("items", "item_id", ["a", None]),
        "item_ids_unique": ("items", "item_id", ["a", "a"]),
        "labels_present": ("items", "label", [None, None]),
        "rows_readable": ("items", "problem", ["image_path_outside_root", None]),
    },
    "raw_images": {
        "image_refs_unique": ("images", "image_ref", ["s/a", "s/a"]),
        "image_hashes_well_formed": ("images", "sha256", ["abc", None]),
        "brightness_in_range": ("images", "brightness", [300.0, None]),
        "formats_common": ("images", "format", ["PSD", "PNG"]),
    },
    "cleaned_items": {
        "item_ids_unique": ("items", "item_id", ["a", "a"]),
        "no_control_characters_title": ("items", "title", ["a\x00b", None]),
        "no_control_characters_caption": ("items", "caption", ["a\x1bb", "y"]),
        "no_markup_title": ("items", "title", ["<b>red</b>", None]),
        "no_markup_caption": ("items", "caption", ["<br/>", "y"]),
        "languages_well_formed": ("items", "language", ["English!", "en"]),
        "languages_known": ("items", "language", ["und", "und"]),
    },
    "deduplicated_items": {
        "item_ids_unique": ("items", "item_id", ["a", "a"]),
        "groups_present": ("items", "duplicate_group", [None, "a"]),
        "scores_in_range": ("duplicate_pairs", "score", [1.5, 1.0]),
    },
    "train_test_split": {
        "item_ids_unique": ("items", "item_id", ["a", "a"]),
        "splits_known": ("items", "split", ["train", "dev"]),
        "splits_assigned": ("items", "split", [None, "test"]),
        "leak_groups_present": ("items", "leak_group", [None, "a"]),
    },
}


def audit(folder: Path, tables: dict[str, dict[str, list[Any]]]) -> Audit:
    for name, columns in tables.items():
        types = {c: pl.Float64 if c in {"brightness", "score"} else pl.String for c in columns}
        pl.DataFrame(columns, schema=types).write_parquet(folder / f"{name}.parquet")
    return Audit(Dataset(CONFIG, folder), Snapshot("asset", "0", folder), {})


@pytest.mark.parametrize("asset", sorted(GOOD))
def test_good_tables_pass(asset: str, tmp_path: Path) -> None:
    for gate in suite_gates(asset, CONFIG):
        outcome = gate.judge(audit(tmp_path, GOOD[asset]))
        assert outcome.is_passed, f"{gate.name}: {outcome.summary}"


def test_every_expectation_has_a_bad_table_here() -> None:
    named = {asset: {gate.name for gate in suite_gates(asset, CONFIG)} for asset in BAD}
    assert named == {asset: set(cases) for asset, cases in BAD.items()}


@pytest.mark.parametrize(
    ("asset", "name"), [(a, n) for a, cases in sorted(BAD.items()) for n in sorted(cases)]
)
def test_bad_tables_fail(asset: str, name: str, tmp_path: Path) -> None:
    table, column, values = BAD[asset][name]
    columns = {c: v[: len(values)] for c, v in GOOD[asset][table].items()} | {column: values}
    gate = next(gate for gate in suite_gates(asset, CONFIG) if gate.name == name)
    outcome = gate.judge(audit(tmp_path, {**GOOD[asset], table: columns}))
    assert not outcome.is_passed
    assert outcome.summary


def test_examples_show_ids_and_mask_texts(tmp_path: Path) -> None:
    gate = next(g for g in suite_gates("cleaned_items", CONFIG) if g.name == "no_control_characters_title")
    items = {**GOOD["cleaned_items"]["items"], "title": ["Ada\x00 17", None]}
    outcome = gate.judge(audit(tmp_path, {"items": items}))
    assert outcome.examples is not None
    assert outcome.examples.to_dicts() == [{"item_id": "a", "title": "xxx\x00 99"}]


def test_a_column_that_is_not_there_fails_and_says_which_are(tmp_path: Path) -> None:
    gate = next(g for g in suite_gates("deduplicated_items", CONFIG) if g.name == "groups_present")
    outcome = gate.judge(audit(tmp_path, {"items": {"item_id": ["a"]}}))
    assert not outcome.is_passed
    assert "duplicate_group" in outcome.summary


def test_a_misspelt_severity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make a critical gate one that stops nothing."""
    suite = {"expectations": [{"type": "x", "kwargs": {}, "severity": "Critical", "meta": {"name": "gate"}}]}
    monkeypatch.setattr("json.loads", lambda _text: suite)
    with pytest.raises(ValueError, match="raw_texts: gate: severity 'Critical' is unknown"):
        suite_gates("raw_texts", CONFIG)
