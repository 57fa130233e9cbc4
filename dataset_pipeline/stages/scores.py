"""Scores of baselines, computed from prediction tables alone.

Belongs here: everything that turns ``predictions/*.parquet`` and ``metadata/items.parquet`` into a number of
``baselines.json``, so that anybody can do it again. Does not belong here: making predictions (``baselines.py``).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LEADERBOARD: Final = {
    "model": pl.String(),
    "task": pl.String(),
    "inputs": pl.String(),
    "top1": pl.Float64(),
    "top1_low": pl.Float64(),
    "top1_high": pl.Float64(),
    "top5": pl.Float64(),
    "macro_f1": pl.Float64(),
    "ece": pl.Float64(),
    "n_test": pl.Int64(),
}
RETRIEVAL: Final = {
    "model": pl.String(),
    "direction": pl.String(),
    "recall_at_1": pl.Float64(),
    "recall_at_1_low": pl.Float64(),
    "recall_at_1_high": pl.Float64(),
    "recall_at_5": pl.Float64(),
    "recall_at_10": pl.Float64(),
    "median_rank": pl.Float64(),
    "queries": pl.Int64(),
    "candidates": pl.Int64(),
}
PREDICTIONS: Final = {
    "item_id": pl.String(),
    "label": pl.String(),
    "predicted": pl.String(),
    "score": pl.Float64(),
    "confidence": pl.Float64(),
    "top5": pl.List(pl.String()),
}
"""One row per test item. ``score``: of the predicted label, as the model gives it; ``confidence``: as a probability."""
RANKINGS: Final = {"item_id": pl.String(), "rank": pl.Int64(), "retrieved": pl.List(pl.String())}
"""One row per query, named by its first item: the rank of the first right answer, and the first ten answers."""

CALIBRATION_BINS: Final = 15
_MAX_SAMPLES: Final = 100_000


def prediction_name(model: str, task: str, inputs: str) -> str:
    """File name (without ending) of a row's predictions: letters, digits, dot, dash and underscore alone."""
    name = f"{model}__{task}__{inputs}".replace("/", "-").replace(" ", "-")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")


def leaderboard_row(table: pl.DataFrame, groups: Ints, samples: int, seed: int) -> dict[str, Any]:
    """Metrics of one prediction table; ``groups``: (rows,) the unit that the bootstrap draws."""
    right = (table["predicted"] == table["label"]).to_numpy()
    low, high = cluster_bootstrap(right, groups, samples, seed)
    in_top = table.select(pl.col("top5").list.contains(pl.col("label"))).to_series()
    return {
        "top1": rounded(right.mean()),
        "top1_low": rounded(low),
        "top1_high": rounded(high),
        "top5": rounded(float(in_top.mean() or 0.0)),  # type: ignore[arg-type]
        "macro_f1": rounded(macro_f1(table["label"], table["predicted"])),
        "ece": calibration(table)["ece"],
        "n_test": table.height,
    }


def calibration(table: pl.DataFrame) -> dict[str, Any]:
    """Expected calibration error (Guo et al., 2017) and its bins, of equal width over 0 to 1.

    ``bins``: [{confidence, accuracy, items}], means of the items in it. ``ece`` is the mean distance of the
    two, weighted by items.
    """
    right = (table["predicted"] == table["label"]).to_numpy().astype(np.float64)
    confidence = table["confidence"].to_numpy()
    place = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    counts = np.bincount(place, minlength=CALIBRATION_BINS)
    sums = np.bincount(place, weights=confidence, minlength=CALIBRATION_BINS)
    hits = np.bincount(place, weights=right, minlength=CALIBRATION_BINS)
    used = counts > 0
    bins = [
        {"confidence": rounded(s / n), "accuracy": rounded(h / n), "items": int(n)}
        for s, h, n in zip(sums[used], hits[used], counts[used], strict=True)
    ]
    return {"ece": rounded(np.abs(sums - hits).sum() / max(1, len(right))), "bins": bins}


def cluster_bootstrap(right: NDArray[np.bool_], groups: Ints, samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``right``, drawing whole groups (Field & Welsh, 2007)."""
    return _interval(right.astype(np.float64), groups, samples, seed)


def _interval(values: NDArray[np.float64], groups: Ints, samples: int, seed: int) -> tuple[float, float]:
    _names, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    sums = np.bincount(codes, weights=values)
    generator = np.random.default_rng(seed)
    means = np.empty(samples)
    for number in range(samples):  # one draw at a time: memory stays that of one draw
        drawn = generator.integers(0, len(sizes), len(sizes))
        means[number] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_macro_f1(table: pl.DataFrame, groups: Ints, samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of :func:`macro_f1` of a prediction table, drawing whole groups."""
    names = pl.concat([table["label"], table["predicted"]]).unique().sort()
    label, predicted = (
        table[name].replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy()
        for name in ("label", "predicted")
    )
    _names, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    generator = np.random.default_rng(seed)
    values = np.empty(samples)
    for number in range(samples):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count)[codes].astype(np.float64)
        truth, guessed, hits = (
            np.bincount(of, weights=drawn * holds, minlength=len(names))
            for of, holds in ((label, 1), (predicted, 1), (label, label == predicted))
        )
        is_there = truth > 0
        values[number] = (2 * hits[is_there] / (truth + guessed)[is_there]).mean()
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(label: pl.Series, predicted: pl.Series) -> float:
    """Mean F1 over the labels of the test items; a label that is never predicted counts 0."""
    frame = pl.DataFrame({"label": label, "predicted": predicted})
    truth = frame.group_by("label").agg(n=pl.len(), hits=(pl.col("label") == pl.col("predicted")).sum())
    guesses = frame.group_by("predicted").agg(guessed=pl.len())
    both = truth.join(guesses, left_on="label", right_on="predicted", how="left").fill_null(0)
    f1 = (
        both.sort("label")
        .select((2 * pl.col("hits") / (pl.col("n") + pl.col("guessed"))).alias("f1"))
        .to_series()
    )
    return float(f1.mean() or 0.0)  # type: ignore[arg-type]


def accuracy_by(table: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """[{value, accuracy, n}], by value."""
    counted = (
        table.drop_nulls(column)
        .group_by(column)
        .agg(accuracy=(pl.col("label") == pl.col("predicted")).mean().round(6), n=pl.len())
    )
    return [
        {"value": value, "accuracy": accuracy, "n": n}
        for value, accuracy, n in counted.sort(column).iter_rows()
    ]


def paired_against_best(
    predictions: Mapping[str, pl.DataFrame], groups: Mapping[str, Any], samples: int, seed: int
) -> dict[str, Any] | None:
    """Whether the best baseline is better than each other one by more than luck, on the items that both predict.

    ``predictions``: name -> PREDICTIONS, of the classification baselines; ``groups``: item_id -> leak group.
    ``difference`` of top-1 accuracy with its interval by a bootstrap of groups; ``p`` by a permutation test that
    swaps the two models' answers in whole groups (sign flips; Pitman, 1937); ``p_holm`` corrected for their
    number (Holm, 1979). None where there are not two.
    """
    if len(predictions) < 2:
        return None
    accuracy = {
        name: float((table["predicted"] == table["label"]).mean() or 0.0)  # type: ignore[arg-type]
        for name, table in predictions.items()
    }
    best = max(sorted(accuracy), key=lambda name: accuracy[name])
    right = {name: _right(table) for name, table in predictions.items()}
    rows = []
    for name in sorted(accuracy):
        if name == best:
            continue
        both = right[best].join(right[name], on="item_id", suffix="_other").sort("item_id")
        if both.is_empty():
            continue
        units = both["item_id"].replace_strict(groups, return_dtype=pl.String).rank("dense").to_numpy()
        gain = both["right"].to_numpy().astype(np.float64) - both["right_other"].to_numpy()
        low, high = _interval(gain, units, samples, seed)
        rows.append(
            {
                "name": name,
                "difference": rounded(gain.mean()),
                "low": rounded(low),
                "high": rounded(high),
                "p": _sign_flip_p(gain, units, samples, seed),
                "n_test": both.height,
            }
        )
    by_p: list[dict[str, Any]] = sorted(rows, key=lambda row: (row["p"], row["name"]))
    running = 0.0
    for place, row in enumerate(by_p):
        running = max(running, min(1.0, row["p"] * (len(by_p) - place)))
        row["p_holm"] = rounded(running)
    return {"best": best, "rows": rows}


def _right(table: pl.DataFrame) -> pl.DataFrame:
    return table.select("item_id", right=pl.col("predicted") == pl.col("label"))


def _sign_flip_p(gain: NDArray[np.float64], units: Ints, samples: int, seed: int) -> float:
    _names, codes = np.unique(units, return_inverse=True)
    sums = np.bincount(codes, weights=gain)
    generator = np.random.default_rng(seed)
    found = abs(sums.sum())
    beyond = 1  # the data as they are
    for _ in range(samples):
        signs = 2 * generator.integers(0, 2, len(sums), dtype=np.int8) - 1
        beyond += abs(float(signs @ sums)) >= found - 1e-9
    return rounded(beyond / (samples + 1))


def over_seeds(leaderboard: pl.DataFrame, members: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over models that differ in nothing but their seed; ``members``: name -> models."""
    rows = []
    for name, models in sorted(members.items()):
        own = leaderboard.filter(pl.col("model").is_in(list(models)))
        for (task, inputs), part in own.group_by("task", "inputs", maintain_order=True):
            top1, f1 = part["top1"].to_numpy(), part["macro_f1"].to_numpy()
            rows.append(
                {
                    "model": name,
                    "task": task,
                    "inputs": inputs,
                    "seeds": part.height,
                    "top1_mean": rounded(top1.mean()),
                    "top1_sd": rounded(top1.std(ddof=1)) if part.height > 1 else None,
                    "macro_f1_mean": rounded(f1.mean()),
                    "macro_f1_sd": rounded(f1.std(ddof=1)) if part.height > 1 else None,
                }
            )
    return rows


def retrieval_row(
    table: pl.DataFrame, groups: Ints, candidates: int, samples: int, seed: int
) -> dict[str, Any]:
    """Metrics of one ranking table (RANKINGS); ``groups``: (rows,) the unit that the bootstrap draws."""
    rank = table["rank"].to_numpy()
    low, high = cluster_bootstrap(rank <= 1, groups, samples, seed)
    return {
        "recall_at_1": rounded((rank <= 1).mean()),
        "recall_at_1_low": rounded(low),
        "recall_at_1_high": rounded(high),
        "recall_at_5": rounded((rank <= 5).mean()),
        "recall_at_10": rounded((rank <= 10).mean()),
        "median_rank": rounded(np.median(rank)),
        "queries": table.height,
        "candidates": candidates,
    }


def differing_rows(
    report: Mapping[str, Any], predictions: Mapping[str, pl.DataFrame], items: pl.DataFrame
) -> list[str]:
    """Rows of ``baselines.json`` that its predictions do not give again, each as a line; none: all do.

    ``predictions``: name -> table; ``items``: item_id and leak_group of the release.
    """
    if not report.get("leaderboard") and not report.get("retrieval"):
        return []
    samples, seed = report.get("bootstrap_samples"), report.get("seed", 0)
    if not isinstance(samples, int) or not 1 <= samples <= _MAX_SAMPLES:
        return [f"bootstrap_samples is {samples}, expected 1 to {_MAX_SAMPLES}"]
    if not isinstance(seed, int) or seed < 0:
        return [f"seed is {seed}, expected a whole number"]
    groups = items.select("item_id", unit=pl.col("leak_group").rank("dense").cast(pl.Int64))
    found = []
    kinds = (("leaderboard", ("model", "task", "inputs")), ("retrieval", ("model", "direction")))
    for key, naming in kinds:
        for row in report.get(key) or []:
            parts = [str(row[name]) for name in naming]
            name = (
                prediction_name(*parts) if key == "leaderboard" else prediction_name(parts[0], key, parts[1])
            )
            table = predictions.get(name)
            if table is None:
                found.append(f"{key}: predictions/{name}.parquet is not there")
                continue
            units = table.join(groups, on="item_id", how="left", maintain_order="left")["unit"].to_numpy()
            again = (
                leaderboard_row(table, units, samples, seed)
                if key == "leaderboard"
                else retrieval_row(table, units, int(row["candidates"]), samples, seed)
            )
            odd = [column for column, value in again.items() if not _is_equal(row.get(column), value)]
            if odd:
                found.append(
                    f"{key}: {name}: {odd[0]} is {row.get(odd[0])}, its predictions give {again[odd[0]]}"
                )
    return found


def _is_equal(told: Any, value: Any) -> bool:
    return isinstance(told, (int, float)) and abs(float(told) - float(value)) < 2e-6


def rounded(value: Any) -> float:
    """To six digits after the point, as reports hold it."""
    return round(float(value), 6)
