"""What is in the dataset: the usual questions of reviewers and users, as one JSON report.

Keys of ``statistics.json``: ``counts`` (raw, released, removed, by split), ``flow`` (items left
after each stage), ``missing`` (column -> items without a value), ``classes`` and ``languages``
(rows with items by split) with ``class_balance`` and ``language_balance``, ``texts`` (one entry a
text column), ``images``, ``duplication``, ``richness``, ``label_sources``, ``sources``, ``profiles`` (``label``,
``language`` and ``source``: what the items of each value are like), ``drift`` (train against test).

Belongs here: numbers. Does not belong here: drawing them (``figures.py``, ``report.py``), and judging labels
(``labels.py``).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import Statistics as StatisticsSettings

QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
HISTOGRAM_BINS = 30
RARE_BELOW = 10
"""Fewer items of a class are too few to learn it from, or to test it with."""
SAMPLED_WORDS = 1000
_WORD = r"[\p{L}\p{N}\p{M}]+"


def statistics(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    removed: pl.LazyFrame,
    text_names: Sequence[str],
    settings: StatisticsSettings,
) -> dict[str, Any]:
    """The report described above.

    ``items``: SPLIT_ITEMS and texts; ``images``: IMAGES; ``removed``: REMOVED of all stages.
    """
    facts = images.select("sha256", "width_px", "height_px", "format", "mode", "size_bytes", "brightness",
                          "contrast", "entropy_bits", "sharpness").unique("sha256", keep="any")  # fmt: skip
    pictured = items.select("item_id", "split", "image_sha256").join(
        facts, left_on="image_sha256", right_on="sha256", how="inner"
    )
    splits = _counts(items, "split")
    released = sum(row["items"] for row in splits)
    by_stage = removed.group_by("stage").len().collect()
    by_reason = (
        removed.group_by("stage", "reason").len("items").sort("items", "reason", descending=[True, False])
    )
    return {
        "counts": {
            "raw_items": released + int(by_stage["len"].sum()),
            "released_items": released,
            "removed_items": int(by_stage["len"].sum()),
            "splits": splits,
        },
        "removed": by_reason.collect().to_dicts(),
        "missing": _missing(items, text_names),
        "classes": items_by_split(items, "label"),
        "class_balance": balance(items, "label"),
        "languages": items_by_split(items, "language"),
        "language_balance": balance(items, "language"),
        "texts": {name: _text(items, name, settings.top_words) for name in text_names},
        "images": _images(pictured),
        "duplication": _duplication(items, removed, text_names),
        "richness": _richness(items, text_names),
        "label_sources": items_by_split(items, "label_source"),
        "sources": items_by_split(items, "source"),
        "profiles": {
            column: _profile(items, column, text_names) for column in ("label", "language", "source")
        },
        "drift": _drift(items, pictured, text_names),
    }


def balance(items: pl.LazyFrame, column: str) -> dict[str, Any]:
    """How evenly items spread over the values of a column.

    ``entropy_bits`` (Shannon) and ``evenness`` (entropy over its maximum, Pielou, 1966),
    ``effective_classes`` (two to the entropy, Hill, 1973), ``gini`` (0: all equal),
    ``imbalance_ratio`` (largest over smallest), and the tail: ``largest_tenth_share`` (items of the tenth of the
    values, rounded up, that have most) and ``rare_values`` (values with fewer than ``rare_below`` items).
    """
    counts = np.sort(np.array([row["items"] for row in _counts(items, column)], dtype=np.float64))
    if len(counts) == 0:
        return {"values": 0}
    share = counts / counts.sum()
    entropy = float(-(share * np.log2(share)).sum()) + 0.0
    ranks = np.arange(1, len(counts) + 1)
    return {
        "values": len(counts),
        "entropy_bits": _rounded(entropy),
        "evenness": _rounded(entropy / np.log2(len(counts))) if len(counts) > 1 else None,
        "effective_classes": _rounded(2**entropy),
        "gini": _rounded((2 * (ranks * counts).sum() / counts.sum() - len(counts) - 1) / len(counts)),
        "imbalance_ratio": _rounded(counts[-1] / counts[0]),
        "largest": int(counts[-1]),
        "smallest": int(counts[0]),
        "largest_tenth_share": _rounded(counts[-math.ceil(len(counts) / 10) :].sum() / counts.sum()),
        "rare_values": int((counts < RARE_BELOW).sum()),
        "rare_below": RARE_BELOW,
    }


def class_balance_table(report: dict[str, Any]) -> pl.DataFrame:
    """label, items, share: the classes of ``statistics.json`` as a table."""
    total = report["counts"]["released_items"]
    rows = [
        (row["value"], row["items"], row["items"] / total)
        for row in report["classes"]
        if row["value"] is not None
    ]
    return pl.DataFrame(
        rows, schema={"label": pl.String, "items": pl.Int64, "share": pl.Float64}, orient="row"
    )


# -- parts ---------------------------------------------------------------------------------


def _height(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _counts(items: pl.LazyFrame, column: str) -> list[dict[str, Any]]:
    """[{value, items}], most frequent first; nulls are left out."""
    counted = items.select(pl.col(column).alias("value")).drop_nulls().group_by("value").len("items")
    return counted.sort("items", "value", descending=[True, False]).collect().to_dicts()


def items_by_split(items: pl.LazyFrame, column: str) -> list[dict[str, Any]]:
    """[{value, items, splits: {split: items}}] of a column, most frequent first; a null value counts too."""
    counted = items.group_by(pl.col(column).alias("value"), "split").len("n").collect()
    rows = []
    for value, group in counted.group_by("value"):
        splits = dict(group.select("split", "n").sort("split").iter_rows())
        rows.append({"value": value[0], "items": sum(splits.values()), "splits": splits})
    return sorted(rows, key=lambda row: (-row["items"], row["value"] is None, str(row["value"])))


def _missing(items: pl.LazyFrame, text_names: Sequence[str]) -> dict[str, int]:
    columns = ["image_sha256", "label", "label_source", "language", "licence", "author", *text_names]
    return {
        name: int(count)
        for name, count in items.select(pl.col(columns).null_count()).collect().to_dicts()[0].items()
    }


def _quantiles(values: pl.Series) -> dict[str, float] | None:
    values = values.drop_nulls()
    if values.is_empty():
        return None
    found = {name: _rounded(values.quantile(q, "linear")) for name, q in QUANTILES.items()}
    return {**found, "mean": _rounded(values.mean())}


def histogram(values: pl.Series, bins: int = HISTOGRAM_BINS) -> dict[str, list[float]] | None:
    """Edges and counts (one fewer) from the smallest value to the 99 % quantile; the last bin takes the tail.

    Whole numbers get at most ``bins`` bins, each as wide as the same count of whole numbers: bins that
    hold now two and now three of them would draw a comb.
    """
    values = values.drop_nulls()
    if values.is_empty():
        return None
    numbers = values.cast(pl.Float64).to_numpy()
    low, top = float(numbers.min()), float(np.quantile(numbers, 0.99))
    if values.dtype.is_integer():
        steps = int(np.ceil(top) - low) + 1
        width = -(-steps // bins)
        edges = low + width * np.arange(-(-steps // width) + 1, dtype=np.float64)
    else:
        edges = np.linspace(low, top if top > low else low + 1.0, bins + 1)
    counts = np.bincount(
        np.minimum(np.searchsorted(edges, numbers, side="right") - 1, len(edges) - 2),
        minlength=len(edges) - 1,
    )
    return {"edges": [_rounded(edge) for edge in edges], "counts": counts.tolist()}


def _text(items: pl.LazyFrame, name: str, top_words: int) -> dict[str, Any]:
    texts = items.select("split", pl.col(name).alias("text")).drop_nulls("text")
    lengths = texts.select(
        chars=pl.col("text").str.len_chars(), words=pl.col("text").str.count_matches(_WORD), text="text"
    ).collect()
    words = texts.select(
        pl.col("text").str.to_lowercase().str.extract_all(_WORD).explode().alias("word")
    ).drop_nulls()
    counted = words.group_by("word").len("n").sort("n", "word", descending=[True, False]).collect()
    running = int(counted["n"].sum())
    return {
        "items": lengths.height,
        "distinct": lengths["text"].n_unique(),
        "chars": _quantiles(lengths["chars"]),
        "words": _quantiles(lengths["words"]),
        "chars_histogram": histogram(lengths["chars"]),
        "vocabulary": counted.height,
        "running_words": running,
        "type_token_ratio": _rounded(counted.height / running) if running else None,
        "words_in_sample": min(SAMPLED_WORDS, running),
        "expected_vocabulary": rarefied(counted["n"].to_numpy(), SAMPLED_WORDS) if running else None,
        "words_seen_once": int((counted["n"] == 1).sum()),
        "top_words": counted.head(top_words).rename({"word": "value", "n": "items"}).to_dicts(),
    }


def rarefied(counts: npt.NDArray[np.integer[Any]], size: int) -> float:
    """How many different values ``size`` draws without replacement show on average (Hurlbert, 1971).

    ``counts``: how often each value occurs. Unlike the ratio of different to all words, it does not fall merely
    because there are more texts, so datasets of any size compare. Fewer occurrences than ``size``: all are drawn.
    """
    from scipy.special import gammaln

    total = int(counts.sum())
    size = min(size, total)
    common = counts.astype(np.float64)
    # log of C(total - count, size) / C(total, size): the chance that a value is not drawn; impossible where it must be
    rest = np.maximum(total - common, size)

    missed = gammaln(rest + 1) - gammaln(rest - size + 1) - gammaln(total + 1.0) + gammaln(total - size + 1.0)
    is_possible = total - common >= size
    return _rounded(float((1 - np.where(is_possible, np.exp(missed), 0.0)).sum()))


def _profile(items: pl.LazyFrame, column: str, text_names: Sequence[str]) -> list[dict[str, Any]]:
    """[{value, items, pictures, groups, chars}] of each value of ``column``, most frequent first.

    ``pictures``: different files; ``groups``: leak groups, the number of independent observations; ``chars``:
    median length of each text.
    """
    rows = (
        items.group_by(pl.col(column).alias("value"))
        .agg(
            items=pl.len(),
            pictures=pl.col("image_sha256").drop_nulls().n_unique(),
            groups=pl.col("leak_group").n_unique(),
            chars=pl.struct(
                [pl.col(name).str.len_chars().median().round(1).alias(name) for name in text_names]
            )
            if text_names
            else pl.lit(None),
        )
        .collect()
        .to_dicts()
    )
    return sorted(rows, key=lambda row: (-row["items"], row["value"] is None, str(row["value"])))


def _images(pictured: pl.LazyFrame) -> dict[str, Any]:
    frame = pictured.drop("item_id", "split").unique("image_sha256", keep="any").collect()
    if frame.is_empty():
        return {"pictures": 0}
    frame = frame.with_columns(
        megapixels=pl.col("width_px").cast(pl.Float64) * pl.col("height_px") / 1e6,
        aspect_ratio=pl.col("width_px") / pl.col("height_px"),
    )
    measures = ("width_px", "height_px", "megapixels", "aspect_ratio", "size_bytes", "brightness", "contrast",
                "entropy_bits", "sharpness")  # fmt: skip
    return {
        "pictures": frame.height,
        "formats": _counts(frame.lazy(), "format"),
        "modes": _counts(frame.lazy(), "mode"),
        **{name: _quantiles(frame[name]) for name in measures},
        "brightness_histogram": histogram(frame["brightness"]),
    }


def _duplication(items: pl.LazyFrame, removed: pl.LazyFrame, text_names: Sequence[str]) -> dict[str, Any]:
    sizes = (
        items.group_by("duplicate_group").len("size").group_by("size").len("groups").sort("size").collect()
    )
    leaks = (
        items.group_by("leak_group")
        .len("size")
        .select(groups=pl.len(), largest=pl.col("size").max(), alone=(pl.col("size") == 1).sum())
    )
    return {
        "removed_as_duplicates": _height(removed.filter(pl.col("reason") == "duplicate")),
        "items_without_a_duplicate": _rounded(
            sum(row["groups"] for row in sizes.to_dicts() if row["size"] == 1) / max(1, _height(items))
        ),
        "distinct_pictures": _height(items.select("image_sha256").drop_nulls().unique()),
        "distinct_texts": {name: _height(items.select(name).drop_nulls().unique()) for name in text_names},
        "duplicate_group_sizes": sizes.to_dicts(),
        "leak_groups": {name: value or 0 for name, value in leaks.collect().to_dicts()[0].items()},
    }


def _richness(items: pl.LazyFrame, text_names: Sequence[str]) -> dict[str, Any]:
    has = {
        "picture": pl.col("image_sha256").is_not_null(),
        "label": pl.col("label").is_not_null(),
        "known_language": pl.col("language").is_not_null() & (pl.col("language") != "und"),
        "author": pl.col("author").is_not_null(),
        **{f"text '{name}'": pl.col(name).is_not_null() for name in text_names},
    }
    shares = items.select(
        **{name: expression.mean() for name, expression in has.items()},
        everything=pl.all_horizontal(*has.values()).mean(),
    )
    return {name: _rounded(value or 0.0) for name, value in shares.collect().to_dicts()[0].items()}


def _drift(items: pl.LazyFrame, pictured: pl.LazyFrame, text_names: Sequence[str]) -> list[dict[str, Any]]:
    """Train against test: Cramér's V for categories, the Kolmogorov-Smirnov distance for numbers.

    Both effect sizes are 0 for equal distributions and 1 for disjoint ones. Whole groups are split,
    so items are not independent and a p-value would promise too much: none is given.
    """
    rows = []
    for name in ("label", "language", "source"):
        effect = _cramers_v(items, name)
        if effect is not None:
            rows.append({"feature": name, "measure": "Cramér's V", "effect": effect})
    lengths = items.select("split", *(pl.col(name).str.len_chars() for name in text_names))
    numbers = [(lengths, name, f"length of '{name}'") for name in text_names]
    numbers += [(pictured, name, name) for name in ("brightness", "contrast", "width_px", "height_px")]
    for frame, column, feature in numbers:
        effect = _ks_distance(frame, column)
        if effect is not None:
            rows.append({"feature": feature, "measure": "Kolmogorov-Smirnov", "effect": effect})
    return rows


def _cramers_v(items: pl.LazyFrame, column: str) -> float | None:
    table = (
        items.filter(pl.col("split").is_in(["train", "test"])).drop_nulls(column).group_by(column, "split").len("n")
        .collect().pivot("split", index=column, values="n").fill_null(0)
    )  # fmt: skip
    if table.width < 3 or table.height < 2:
        return None
    observed = table.drop(column).to_numpy().astype(np.float64)
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0, keepdims=True) / observed.sum()
    chi_square = ((observed - expected) ** 2 / expected).sum()
    return _rounded(np.sqrt(chi_square / observed.sum()))


def _ks_distance(frame: pl.LazyFrame, column: str) -> float | None:
    """The largest distance between the two empirical distribution functions."""
    values = frame.select("split", column).drop_nulls().collect()
    parts = [values.filter(pl.col("split") == name)[column].sort().to_numpy() for name in ("train", "test")]
    if min(len(part) for part in parts) == 0:
        return None
    everywhere = np.concatenate(parts)
    train, test = (np.searchsorted(part, everywhere, side="right") / len(part) for part in parts)
    return _rounded(np.abs(train - test).max())


def _rounded(value: Any) -> float:
    return float(f"{float(value):.6g}")
