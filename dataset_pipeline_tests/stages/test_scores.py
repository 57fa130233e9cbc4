"""Scores from prediction tables: by hand, against scikit-learn and obvious versions, and found wrong when they are."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from dataset_pipeline.config import Baselines
from dataset_pipeline.stages import baselines, scores
from dataset_pipeline_tests.stages.test_baselines import items, separable

SETTINGS = Baselines(bootstrap_samples=100)


def table(label: str, predicted: str, confidence: list[float] | None = None) -> pl.DataFrame:
    """One letter an item."""
    return pl.DataFrame(
        {
            "item_id": [f"{n:03}" for n in range(len(label))],
            "label": list(label),
            "predicted": list(predicted),
            "score": [0.0] * len(label),
            "confidence": confidence or [0.5] * len(label),
            "top5": [[letter] for letter in predicted],
        },
        schema=scores.PREDICTIONS,
    )


def test_calibration_by_hand() -> None:
    found = scores.calibration(table("aaaa", "aabb", [0.95, 0.95, 0.95, 0.2]))
    # Bin of .95: mean confidence .95, two of three right; bin of .2: none right.
    assert found["ece"] == pytest.approx((3 * abs(0.95 - 2 / 3) + 0.2) / 4, abs=1e-6)
    assert found["bins"] == [
        {"confidence": 0.2, "accuracy": 0.0, "items": 1},
        {"confidence": 0.95, "accuracy": 0.666667, "items": 3},
    ]
    assert scores.calibration(table("aa", "aa", [1.0, 1.0]))["ece"] == 0


def test_calibrated_answers_have_a_small_error() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.2, 1, 20_000)
    right = generator.random(20_000) < confidence
    predicted = "".join("a" if is_right else "b" for is_right in right)
    found = scores.calibration(table("a" * 20_000, predicted, confidence.tolist()))
    assert found["ece"] < 0.015


def test_a_better_baseline_is_told_from_an_equal_one() -> None:
    count = 200
    truth = "a" * count
    predictions = {
        "best": table(truth, "a" * 180 + "b" * 20),
        "equal": table(truth, "b" * 20 + "a" * 180),
        "worse": table(truth, "a" * 100 + "b" * 100),
    }
    groups = {f"{n:03}": f"g{n // 2}" for n in range(count)}
    found = scores.paired_against_best(predictions, groups, 500, 0)
    assert found is not None
    assert found["best"] == "best"
    equal, worse = found["rows"]
    assert (equal["name"], equal["difference"]) == ("equal", 0.0)
    assert equal["p"] > 0.9
    assert worse["difference"] == pytest.approx(0.4)
    assert worse["low"] > 0.3
    assert worse["p"] == pytest.approx(1 / 501, abs=1e-6)
    assert worse["p_holm"] == pytest.approx(2 * worse["p"], abs=2e-6)
    assert scores.paired_against_best(predictions, groups, 500, 0) == found


def test_few_groups_give_no_certainty() -> None:
    """100 items that all differ are one observation where they are one group."""
    predictions = {"a": table("a" * 100, "a" * 100), "b": table("a" * 100, "b" * 100)}
    groups = {f"{n:03}": "one" for n in range(100)}
    found = scores.paired_against_best(predictions, groups, 200, 0)
    assert found is not None
    assert found["rows"][0]["p"] == 1.0


def test_the_permutation_test_keeps_its_level() -> None:
    generator = np.random.default_rng(4)
    below = 0
    for seed in range(80):
        gain = generator.choice([-1.0, 0.0, 1.0], 60)
        below += scores._sign_flip_p(gain, np.arange(60) // 2, 100, seed) <= 0.1
    assert below / 80 <= 0.2


def test_pairs_are_compared_on_common_items_alone() -> None:
    part = table("a" * 10, "b" * 10).head(4)
    found = scores.paired_against_best(
        {"all": table("a" * 10, "a" * 10), "part": part}, {f"{n:03}": str(n) for n in range(10)}, 50, 0
    )
    assert found is not None
    assert found["rows"][0]["n_test"] == 4
    assert scores.paired_against_best({"one": part}, {}, 50, 0) is None


def test_seeds_are_summed_up() -> None:
    rows = [
        {"model": name, "task": "k-NN", "inputs": "image", "top1": top1, "macro_f1": top1 / 2}
        for name, top1 in (("m", 0.5), ("m (seed 1)", 0.7), ("other", 0.1))
    ]
    found = scores.over_seeds(pl.DataFrame(rows), {"m": ["m", "m (seed 1)"]})
    assert found == [
        {
            "model": "m", "task": "k-NN", "inputs": "image", "seeds": 2, "top1_mean": 0.6,
            "top1_sd": pytest.approx(0.141421, abs=1e-6), "macro_f1_mean": 0.3,
            "macro_f1_sd": pytest.approx(0.070711, abs=1e-6),
        }
    ]  # fmt: skip


# -- recomputing ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated() -> tuple[pl.DataFrame, baselines.Results]:
    rows, found = separable(seed=3)
    return rows, baselines.evaluate(rows, {"a/b c": found}, SETTINGS, 7)


def test_every_row_is_computed_again_from_its_predictions(
    evaluated: tuple[pl.DataFrame, baselines.Results],
) -> None:
    rows, results = evaluated
    assert results.report["leaderboard"]
    assert results.report["retrieval"]
    assert scores.differing_rows(results.report, results.predictions, rows) == []


@pytest.mark.parametrize("key", ["leaderboard", "retrieval"])
def test_a_number_that_predictions_do_not_give_is_named(
    key: str, evaluated: tuple[pl.DataFrame, baselines.Results]
) -> None:
    rows, results = evaluated
    for column, value in results.report[key][0].items():
        if not isinstance(value, (int, float)) or column == "candidates":
            continue
        changed = {**results.report, key: [{**results.report[key][0], column: value + 0.01}]}
        [line] = scores.differing_rows(changed, results.predictions, rows)
        assert column in line
        missing: dict[str, Any] = {**results.report, key: [{**results.report[key][0], column: None}]}
        assert scores.differing_rows(missing, results.predictions, rows)


def test_changed_or_missing_predictions_are_named(evaluated: tuple[pl.DataFrame, baselines.Results]) -> None:
    rows, results = evaluated
    name = "a-b-c__linear-probe__image"
    other = results.predictions[name].with_columns(predicted=pl.lit("hat"))
    lines = scores.differing_rows(results.report, {**results.predictions, name: other}, rows)
    assert len(lines) == 1
    assert name in lines[0]
    gone = {key: value for key, value in results.predictions.items() if key != name}
    assert scores.differing_rows(results.report, gone, rows) == [
        f"leaderboard: predictions/{name}.parquet is not there"
    ]


@pytest.mark.parametrize("samples", [0, 10**9, "many", None, float("inf")])
def test_a_report_that_asks_for_too_much_is_refused(samples: Any) -> None:
    report = {"bootstrap_samples": samples, "leaderboard": [{}]}
    [line] = scores.differing_rows(report, {}, items([]))
    assert line.startswith("bootstrap_samples is")


def test_no_baselines_have_nothing_to_differ() -> None:
    assert scores.differing_rows({"leaderboard": [], "models": {}, "similarity": {}}, {}, items([])) == []
