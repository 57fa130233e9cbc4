"""Rounds of splitting and auditing: what the audit alone finds is kept together, and the rest stays where it is."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.audited_split import MAX_ROUNDS, AuditedSplit, audited_split, missed_pairs
from dataset_pipeline.stages.similarity import Pixels
from dataset_pipeline.tables import PAIRS, empty
from dataset_pipeline_tests.stages.crafted import (
    brighter,
    deduplicated,
    minimal_config,
    smooth,
    thumbnails_as_images,
)

NO_PAIRS = empty(PAIRS)


def config(**split: Any) -> DatasetConfig:
    return minimal_config(split={"stratify": [], **split})


def run(rows: list[dict[str, Any]], pictures: Pixels, **split: Any) -> AuditedSplit:
    names = [f"p{number}" for number in range(len(pictures))]
    images = thumbnails_as_images(pictures, names)
    given = [
        {"item_id": f"{n:03}", "image_sha256": name, **row}
        for n, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    return audited_split(deduplicated(given), images, NO_PAIRS, ["title"], config(**split))


def twins(count: int) -> Pixels:
    """Picture n + count is a brighter copy of picture n."""
    one = smooth(5, count)
    return np.concatenate([one, brighter(one, 8)])


def test_a_blind_search_for_duplicates_is_made_up_for() -> None:
    """Forty pairs that nobody told of: about half of them are cut at first."""
    made = run([{}] * 80, twins(40), ratios={"train": 0.5, "test": 0.5}, folds=4)
    assert made.leakage.report["cross_split_pairs"] == made.leakage.report["cross_fold_pairs"] == 0
    assert 1 < made.rounds <= MAX_ROUNDS
    assert made.pairs_of_the_audit >= 10
    items = made.split.items.select("item_id", "split", "fold").collect()
    for number in range(40):
        pair = items.filter(pl.col("item_id").is_in([f"{number:03}", f"{number + 40:03}"]))
        assert pair.select(pl.all().exclude("item_id").n_unique()).row(0) == (1, 1)
    assert abs(made.split.summary["items"][0] - 40) <= 2


def test_where_nothing_was_missed_one_round_is_enough() -> None:
    made = run([{}] * 30, smooth(6, 30))
    assert (made.rounds, made.pairs_of_the_audit) == (1, 0)


def test_a_published_split_is_audited_once_and_stays() -> None:
    rows = [{"published_split": ("train", "test")[n // 10]} for n in range(20)]
    made = run(rows, twins(10), ratios={"train": 0.5, "test": 0.5}, method="published")
    assert made.rounds == 1
    assert made.leakage.report["by_kind"]["near_image"] == 10
    assert made.split.items.collect()["split"].to_list() == ["train"] * 10 + ["test"] * 10


@pytest.mark.parametrize(
    ("kind", "is_kept"), [("near_image", True), ("near_text", True), ("same_bytes", False)]
)
def test_only_near_pairs_are_taken_over(kind: str, is_kept: bool) -> None:
    crossing = pl.DataFrame([("a", "b", kind, 1.0)], schema=dict(PAIRS), orient="row")
    assert (missed_pairs(crossing, NO_PAIRS).height == 1) is is_kept
    assert missed_pairs(crossing, crossing).is_empty()
