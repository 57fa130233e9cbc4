"""dagster-pandas types of result tables: each column is seen violating what its readers rely on."""

from typing import Any

import polars as pl
import pytest

from dataset_pipeline.defs.frame_types import frame_types, judge_frame
from dataset_pipeline.stages.gates import EXAMPLE_ROWS

GOOD: dict[str, dict[str, list[Any]]] = {
    "split_summary": {
        "split": ["train", "test"], "items": [8, 2], "share": [0.8, 0.2], "target_share": [0.8, 0.2],
        "groups": [5, 1],
    },
    "class_balance": {"label": ["a", "b"], "items": [1, 1], "share": [0.5, 0.5]},
    "leaderboard": {
        "model": ["majority"], "task": ["classification"], "inputs": ["none"], "top1": [0.2], "top1_low": [0.1],
        "top1_high": [0.3], "top5": [0.9], "macro_f1": [0.1], "ece": [0.1], "n_test": [10],
    },
    "retrieval": {
        "model": ["m"], "direction": ["image-to-text"], "recall_at_1": [0.2], "recall_at_1_low": [0.1],
        "recall_at_1_high": [0.3], "recall_at_5": [0.4], "recall_at_10": [0.5], "median_rank": [7.5], "queries": [10],
        "candidates": [12],
    },
}  # fmt: skip

BAD = [
    ("split_summary", "split", ["train", "train"]),
    ("split_summary", "split", ["train", None]),
    ("split_summary", "items", [8, 0]),
    ("split_summary", "share", [0.8, 1.2]),
    ("split_summary", "target_share", [0.8, -0.2]),
    ("split_summary", "groups", [5, None]),
    ("class_balance", "label", ["a", "a"]),
    ("class_balance", "label", ["a", None]),
    ("class_balance", "items", [0, 1]),
    ("class_balance", "share", [0.5, 2.0]),
    ("leaderboard", "model", [None]),
    ("leaderboard", "task", [None]),
    ("leaderboard", "inputs", [None]),
    ("leaderboard", "top1", [1.5]),
    ("leaderboard", "top1_low", [-0.1]),
    ("leaderboard", "top1_high", [None]),
    ("leaderboard", "top5", [1.01]),
    ("leaderboard", "macro_f1", [None]),
    ("leaderboard", "ece", [1.1]),
    ("leaderboard", "n_test", [0]),
    ("retrieval", "model", [None]),
    ("retrieval", "direction", [None]),
    ("retrieval", "recall_at_1", [1.1]),
    ("retrieval", "recall_at_1_low", [-0.1]),
    ("retrieval", "recall_at_1_high", [None]),
    ("retrieval", "recall_at_5", [1.1]),
    ("retrieval", "recall_at_10", [None]),
    ("retrieval", "median_rank", [0.5]),
    ("retrieval", "queries", [0]),
    ("retrieval", "candidates", [1]),
]


def frame(name: str, **changes: list[Any]) -> pl.DataFrame:
    return pl.DataFrame({**GOOD[name], **changes}, schema=pl.DataFrame(GOOD[name]).schema)


def test_every_column_of_every_type_has_a_bad_case_here() -> None:
    assert {(name, column) for name, column, _ in BAD} == {
        (name, column) for name, columns in GOOD.items() for column in columns
    }
    assert set(frame_types()) == set(GOOD)


@pytest.mark.parametrize("name", GOOD)
def test_good_tables_pass(name: str) -> None:
    outcome = judge_frame(frame(name), name)
    assert outcome.is_passed, outcome.summary
    assert outcome.numbers == {"rows": frame(name).height}


@pytest.mark.parametrize(("name", "column", "values"), BAD)
def test_bad_tables_fail_and_name_the_column(name: str, column: str, values: list[Any]) -> None:
    outcome = judge_frame(frame(name, **{column: values}), name)
    assert not outcome.is_passed
    assert f'"{column}"' in outcome.summary
    assert "\n" not in outcome.summary
    assert outcome.examples is not None
    assert outcome.examples.height <= EXAMPLE_ROWS


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_column_and_one_of_another_type_fail(name: str) -> None:
    for column in GOOD[name]:
        missing = judge_frame(frame(name).drop(column), name)
        assert not missing.is_passed
        assert column in missing.summary
        wrong = 7 if isinstance(GOOD[name][column][0], str) else "7"
        other = judge_frame(frame(name).with_columns(pl.lit(wrong).alias(column)), name)
        assert not other.is_passed, column


def test_no_labels_are_no_fault() -> None:
    """A dataset without labels has a class balance without rows."""
    assert judge_frame(frame("class_balance").head(0), "class_balance").is_passed
    assert judge_frame(frame("leaderboard").head(0), "leaderboard").is_passed
    assert judge_frame(frame("retrieval").head(0), "retrieval").is_passed
