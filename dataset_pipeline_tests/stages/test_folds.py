"""Folds of whole groups, even within every split; they stay, and the audit looks at them."""

import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Split
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.folds import FOLDS
from dataset_pipeline.stages.leakage import audit_leakage
from dataset_pipeline.stages.split import SplitResult, split_items
from dataset_pipeline.tables import IMAGES, PAIRS, empty
from dataset_pipeline_tests.stages.crafted import deduplicated, minimal_config

HALVES = {"train": 0.5, "test": 0.5}


def split(rows: list[dict[str, Any]], released: pl.DataFrame | None = None, **options: Any) -> SplitResult:
    chosen = Split(**{"folds": 4, "stratify": ["label"], **options})
    return split_items(deduplicated(rows), empty(PAIRS), ["title"], chosen, 0, released)


def items_of(result: SplitResult) -> pl.DataFrame:
    return result.items.select("item_id", "leak_group", "split", "fold", "label").collect()


def lone(count: int) -> list[dict[str, Any]]:
    return [{"item_id": f"{n:03}", "label": "xxxy"[n % 4]} for n in range(count)]


def test_each_split_and_each_label_in_it_is_divided_evenly() -> None:
    result = split(lone(400), ratios={"train": 0.8, "test": 0.2})
    counted = items_of(result).group_by("split", "label", "fold").len().sort("split", "label", "fold")
    assert counted["len"].to_list() == [15] * 4 + [5] * 4 + [60] * 4 + [20] * 4
    assert dict(result.folds.schema) == dict(FOLDS)
    assert result.folds.rows() == [
        (fold, name, items, items, 2) for fold in range(4) for name, items in (("train", 80), ("test", 20))
    ]
    assert result.report["folds"] == result.folds.to_dicts()


def test_without_folds_the_column_is_empty() -> None:
    result = split(lone(20), folds=0)
    assert items_of(result)["fold"].null_count() == 20
    assert result.folds.is_empty()


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from("xyz")), min_size=8, max_size=60),
    st.integers(2, 4),
)
@settings(max_examples=20, deadline=None)
def test_no_group_is_cut_and_every_fold_has_items(items: list[tuple[int, str]], folds: int) -> None:
    rows = [
        {"item_id": f"{n:02}", "label": label, "group_keys": [f"k={key}"]}
        for n, (key, label) in enumerate(items)
    ]
    sizes = np.bincount([key for key, _ in items])
    if (sizes > 0).sum() < folds or sizes.max() > np.ceil(len(items) / folds):
        with pytest.raises(GateError, match="connected items"):
            split(rows, folds=folds, ratios=HALVES)
        return
    result = split(rows, folds=folds, ratios=HALVES)
    found = items_of(result)
    assert found.group_by("leak_group").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert set(found["fold"]) == set(range(folds))
    shuffled = rows.copy()
    random.Random(folds).shuffle(shuffled)
    assert items_of(split(shuffled, folds=folds, ratios=HALVES)).equals(found)


def test_released_folds_stay_where_there_are_as_many() -> None:
    before = items_of(split(lone(40))).select("item_id", "split", "fold")
    grown = items_of(split(lone(80), before))
    kept = grown.join(before, on="item_id", suffix="_before")
    assert kept.filter(pl.col("fold") != pl.col("fold_before")).is_empty()
    assert grown["fold"].value_counts()["count"].to_list() == [20] * 4
    other = items_of(split(lone(80), before, folds=5))
    assert other["fold"].value_counts()["count"].to_list() == [16] * 5
    # A new link between two folds: the whole group is in the first of them.
    rows = lone(40)
    first, last = (before.filter(pl.col("fold") == fold)["item_id"][0] for fold in (0, 3))
    for row in rows:
        if row["item_id"] in (first, last):
            row["group_keys"] = ["k=1"]
    joined = items_of(split(rows, before))
    assert joined.filter(pl.col("item_id").is_in([first, last]))["fold"].to_list() == [0, 0]


def test_fewer_groups_than_folds_and_a_group_larger_than_a_fold() -> None:
    rows = [{"item_id": f"{n}", "group_keys": [f"k={n % 3}"]} for n in range(9)]
    with pytest.raises(
        GateError, match=r"split\.folds: 5 folds need as many groups of connected items, found 3"
    ):
        split(rows, folds=5, ratios=HALVES)
    large = [{"item_id": f"{n:02}", "group_keys": ["k=1"] if n < 8 else []} for n in range(20)]
    with pytest.raises(GateError) as caught:
        split(large, folds=5, ratios=HALVES)
    assert (
        "one group of connected items (of '00') holds 8 of 20 items; each of 5 folds is to hold 4"
        in caught.value.message
    )
    assert "Ask for 2 folds or fewer" in (caught.value.hint or "")


def audited(rows: list[dict[str, Any]], folds: list[int]) -> dict[str, Any]:
    frame = deduplicated(rows).with_columns(split=pl.lit("train"), fold=pl.Series(folds, dtype=pl.Int64))
    images = pl.LazyFrame(schema=dict(IMAGES))
    return audit_leakage(frame, images, ["title"], minimal_config()).report


def test_the_audit_counts_links_between_folds() -> None:
    text = "a text that is long enough to be compared by what it shares with others"
    rows = [
        {"item_id": "a", "title": text, "group_keys": ["k=1"]},
        {"item_id": "b", "title": f"{text} x", "group_keys": ["k=1"]},
        {"item_id": "c", "title": text},
        {"item_id": "d", "title": "something else entirely, and about as long as the other one is"},
    ]
    apart = audited(rows, [0, 1, 1, 0])
    assert (apart["folds"], apart["cross_split_pairs"]) == (2, 0)
    found = {kind: pairs for kind, pairs in apart["cross_fold_by_kind"].items() if pairs}
    assert found == {"group_keys": 1, "same_text": 1, "near_text": 1}
    assert apart["cross_fold_pairs"] == 3
    assert audited(rows, [1, 1, 1, 0])["cross_fold_pairs"] == 0
