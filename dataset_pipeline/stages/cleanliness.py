"""How near the test split is to the training split, and what stricter or looser rules would cost.

Belongs here: measuring what is left between splits that are already free of leaks, beside a random split of
the same items, and counting groups over a range of thresholds. Does not belong here: finding leaks
(``leakage``), deciding what a duplicate is (``similarity``) and removing any (``duplicates``).

``reports/cleanliness.json`` holds two parts.

``nearest_in_train``: for each of 'image' and 'text' that both test and train have, in both splits

- ``measure``, ``method``: what was compared with what, in words; ``threshold``: from where on the
  configuration may call two of them the same;
- ``edges``: of the histograms, 0 to 1;
- ``this_split`` and ``random_split``: ``in_test`` (distinct pictures or texts of the test split), ``compared``
  (of these, all or a sample), ``histogram``, ``quantiles`` of the similarity to the nearest one in 'train',
  ``identical`` (are in 'train' themselves) and ``at_threshold``, both as shares of those compared.

``price``: ``items`` (cleaned items, before duplicates were removed), ``effective_classes`` of them, and for each
of 'image' and 'text' ``method``, ``threshold`` (the configured one) and ``rows``, one a threshold and rule:

- ``rule``: 'configured' (all that the configuration asks of a pair, but for this threshold) or 'similarity
  alone'; ``threshold``; 1 stands for identical ones alone;
- ``pairs``: of distinct pictures or texts that count as the same, identical ones apart;
- ``groups``: of items joined by these pairs and by identical pictures or texts, which is also the number of
  items that would remain if each group kept one; ``largest_group``: items in it;
- ``items_merged``: items that would remain if, within a group, only those were merged that share the other of
  picture and text, and every column of ``duplicates.distinct_by``;
- ``effective_classes``: of the first item of every group.

Groups are connected components: a chain of pairs makes one group, as it does in the split.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from dataset_pipeline.config import DatasetConfig, Duplicates, ImageDuplicates, Split, TextDuplicates
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.similarity import (
    Flags,
    Floats,
    Integers,
    Pixels,
    Shingles,
    are_long,
    compare_pictures,
    components,
    first_of_equal_words,
    load_thumbnails,
    near_pictures,
    pictures_of,
    shingles,
    slices,
    standardised,
    text_chars,
    text_key,
    word_codes,
)
from dataset_pipeline.stages.split import split_items
from dataset_pipeline.stages.statistics import balance
from dataset_pipeline.tables import PAIRS, empty

COMPARISONS: Final = 400_000_000
"""So many comparisons of test with train are made at most; where that is not enough for all, a sample of test."""

MEASURED_PICTURES: Final = 10_000
"""Up to so many distinct pictures, all pairs are looked at anew for the price; beyond, the pairs that the
search for duplicates has found, which are those from the configured threshold on."""

MEASURED_SHINGLES: Final = 1_000_000_000
"""The same for texts, by the number of times that two of them share a sequence of characters."""

MEASURED_PAIRS: Final = 500_000
"""So many pairs of pictures are measured at most: the loosest thresholds are left out where there are more."""

IMAGE_THRESHOLDS: Final = (0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999, 1.0)
TEXT_THRESHOLDS: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

PRICE: Final = {
    "rule": pl.String(),
    "threshold": pl.Float64(),
    "pairs": pl.Int64(),
    "groups": pl.Int64(),
    "largest_group": pl.Int64(),
    "items_merged": pl.Int64(),
    "effective_classes": pl.Float64(),
}
"""Columns of the rows of ``price``."""

_BINS = 50
_ROWS = 1024
_LOADED_AT_ONCE = 65_536
_PRODUCTS_AT_ONCE = 1 << 21
_EDGES_AT_ONCE = 1 << 20
_GEMM_SLACK = 1e-3
_LESS_THAN_IDENTICAL = 0.9999
_QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}


def cleanliness_report(
    items: pl.LazyFrame,
    cleaned: pl.LazyFrame,
    pairs: pl.LazyFrame,
    images: pl.LazyFrame,
    text_names: Sequence[str],
    config: DatasetConfig,
) -> dict[str, Any]:
    """Contents of ``reports/cleanliness.json``.

    ``items``: SPLIT_ITEMS + texts; ``cleaned``: ITEMS + texts, before duplicates were removed; ``pairs``: PAIRS
    among them; ``images``: sha256, pixel_hash, phash, thumbnail.
    """
    return {
        "nearest_in_train": nearest_in_train(items, images, text_names, config),
        "price": price(
            cleaned, pairs, images, text_names, config.duplicates, config.split.min_link_text_chars
        ),
        "seed": config.seed,
    }


# -- other ways to divide the items --------------------------------------------------------


def random_split(items: pl.DataFrame, seed: int) -> pl.Series:
    """The splits of ``items`` (sorted by item_id) dealt out anew to single items: what most datasets do.

    Sizes stay. It is the random split that ``leakage`` reports on.
    """
    return items["split"].gather(np.random.default_rng(seed).permutation(items.height))


def other_clean_split(items: pl.DataFrame, settings: Split, seed: int) -> pl.Series | None:
    """Another split of ``items`` (SPLIT_ITEMS, sorted by item_id) without leaks, made with another seed.

    It is what a random split has to be compared with: it differs from the released one in nothing but chance.
    None where the leak groups cannot be divided in that way, though a published split could be kept, and for a
    split that follows time, of which there is only one.
    """
    if settings.method == "temporal":
        return None
    grouped = (
        items.lazy().drop("split").with_columns(group_keys=pl.concat_list("leak_group")).drop("leak_group")
    )
    changes = {"method": "stratified", "link": ("group_keys",), "folds": 0}
    try:
        made = split_items(grouped, empty(PAIRS), (), settings.model_copy(update=changes), seed + 1)
    except GateError:
        return None
    return made.items.sort("item_id").collect()["split"]


# -- how near test is to train -------------------------------------------------------------


class _Side:
    """One division of the items: which distinct pictures (or texts) are in test, and which in train."""

    def __init__(self, codes: Integers, splits: pl.Series, count: int, seed: int) -> None:
        """``codes``: the picture of every item; ``splits``: the split of every item."""
        self.is_train = np.zeros(count, bool)
        self.is_train[codes[(splits == "train").to_numpy()]] = True
        tested = np.unique(codes[(splits == "test").to_numpy()])
        self.in_test = len(tested)
        room = max(COMPARISONS // max(int(self.is_train.sum()), 1), 1)
        self.queries = tested
        if len(tested) > room:
            self.queries = np.sort(np.random.default_rng(seed).permutation(tested)[:room])

    @property
    def is_comparable(self) -> bool:
        return len(self.queries) > 0 and bool(self.is_train.any())


def nearest_in_train(
    items: pl.LazyFrame, images: pl.LazyFrame, text_names: Sequence[str], config: DatasetConfig
) -> dict[str, Any]:
    """Similarity of every distinct test picture and text to the nearest one in 'train', here and at random.

    Distinct pictures and texts are compared, however many items have them.
    """
    table = (
        items.select("item_id", "split", "image_sha256", text_key=text_key(text_names))
        .sort("item_id")
        .collect()
    )
    table = table.with_columns(random=random_split(table, config.seed))
    found: dict[str, Any] = {}

    pictures, table = _with_pictures(table, images)
    sides = _sides(table, "picture", pictures.height, config.seed)
    if sides is not None:
        nearest = _nearest_pictures(images, pictures["sha256"], sides)
        found["image"] = {
            "measure": "correlation of softened colour thumbnails of 32 x 32 pixels",
            "method": _said(sides, "pictures"),
            **_compared(nearest, sides, config.duplicates.image.min_similarity),
        }
    texts, table = _with_texts(table)
    sides = _sides(table, "text", len(texts), config.seed)
    if sides is not None:
        nearest = _nearest_texts(texts, config.duplicates.text.shingle_chars, sides)
        chars = config.duplicates.text.shingle_chars
        found["text"] = {
            "measure": f"shared over all character sequences of length {chars} (Jaccard similarity)",
            "method": _said(sides, "texts"),
            **_compared(nearest, sides, config.duplicates.text.min_jaccard),
        }
    return found


def _with_pictures(table: pl.DataFrame, images: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Distinct pictures (pixel_hash, sha256), and ``table`` with the number of each item's ``picture``."""
    files = pictures_of(table.lazy(), images)
    pictures = (
        files.group_by("pixel_hash").agg(pl.col("sha256").min()).sort("pixel_hash").with_row_index("picture")
    )
    numbers = files.select("sha256", "pixel_hash").join(pictures.drop("sha256"), on="pixel_hash")
    numbered = table.join(
        numbers.select("sha256", pl.col("picture").cast(pl.Int64)),
        left_on="image_sha256",
        right_on="sha256",
        how="left",
        maintain_order="left",
    )
    return pictures, numbered


def _with_texts(table: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Distinct text keys, sorted, and ``table`` with the number of each item's ``text``."""
    texts = table["text_key"].drop_nulls().unique().sort()
    return texts, table.with_columns(text=table["text_key"].rank("dense").cast(pl.Int64) - 1)


def _sides(table: pl.DataFrame, column: str, count: int, seed: int) -> dict[str, _Side] | None:
    """This split and the random one; None where one of the two has nothing to compare."""
    rows = table.drop_nulls(column)
    codes = rows[column].to_numpy()
    sides = {
        name: _Side(codes, rows[split], count, seed)
        for name, split in (("this_split", "split"), ("random_split", "random"))
    }
    return sides if all(side.is_comparable for side in sides.values()) else None


def _said(sides: dict[str, _Side], what: str) -> str:
    if all(len(side.queries) == side.in_test for side in sides.values()):
        return f"every one of the test {what} with every one of the training {what}"
    return f"a random sample of the test {what} with every one of the training {what}"


def _nearest_pictures(images: pl.LazyFrame, sha256: pl.Series, sides: dict[str, _Side]) -> dict[str, Floats]:
    """For the queries of each side, the correlation with the nearest thumbnail in train."""
    wanted = np.unique(np.concatenate([side.queries for side in sides.values()]))
    thumbnails = load_thumbnails(images, sha256.gather(wanted))
    query = standardised(thumbnails)
    best = {name: np.full(len(wanted), -2.0, np.float32) for name in sides}
    place = {name: np.zeros(len(wanted), np.int64) for name in sides}
    for first, last in slices(len(sha256), _LOADED_AT_ONCE):
        loaded = load_thumbnails(images, sha256[first:last])
        for start, stop in slices(len(loaded), _ROWS):
            product = query @ standardised(loaded[start:stop]).T
            for name, side in sides.items():
                is_train = side.is_train[first + start : first + stop]
                scores = np.where(is_train, product, np.float32(-2))
                at = scores.argmax(axis=1)
                top = scores[np.arange(len(wanted)), at]
                is_better = top > best[name]
                best[name][is_better] = top[is_better]
                place[name][is_better] = first + start + at[is_better]
    found = {}
    for name, side in sides.items():
        rows = np.searchsorted(wanted, side.queries)
        others, other = np.unique(place[name][rows], return_inverse=True)
        both = np.concatenate([thumbnails[rows], load_thumbnails(images, sha256.gather(others))])
        # Measured again: sums of a matrix product differ with the shape of its blocks.
        exact = compare_pictures(both, np.arange(len(rows)), len(rows) + other).similarity
        found[name] = np.where(side.is_train[side.queries], 1.0, np.minimum(exact, _LESS_THAN_IDENTICAL))
    return found


def _nearest_texts(texts: pl.Series, chars: int, sides: dict[str, _Side]) -> dict[str, Floats]:
    """For the queries of each side, the Jaccard similarity with the nearest text in train; exact."""
    wanted = np.unique(np.concatenate([side.queries for side in sides.values()]))
    sets = shingles(texts.gather(wanted), chars)
    best = {name: np.zeros(len(wanted)) for name in sides}
    for first, last in slices(len(texts), _LOADED_AT_ONCE):
        for i, j, score in _overlapping(sets, shingles(texts[first:last], chars)):
            for name, side in sides.items():
                is_train = side.is_train[first + j]
                np.maximum.at(best[name], i[is_train], score[is_train])
    found = {}
    for name, side in sides.items():
        nearest = best[name][np.searchsorted(wanted, side.queries)]
        found[name] = np.where(side.is_train[side.queries], 1.0, np.minimum(nearest, _LESS_THAN_IDENTICAL))
    return found


def _overlapping(sets: Shingles, others: Shingles) -> Iterator[tuple[Integers, Integers, Floats]]:
    """Every pair of a text of ``sets`` and one of ``others`` that share a shingle, with its Jaccard similarity."""
    from scipy.sparse import csr_array

    vocabulary, column = np.unique(sets.values, return_inverse=True)
    if len(vocabulary) == 0:
        return
    at = np.minimum(np.searchsorted(vocabulary, others.values), len(vocabulary) - 1)
    is_known = vocabulary[at] == others.values
    other = np.repeat(np.arange(len(others.sizes)), others.sizes)[is_known]
    rows = csr_array(
        (np.ones(len(column), np.int32), column, sets.offsets), shape=(len(sets.sizes), len(vocabulary))
    )
    columns = csr_array(
        (np.ones(len(other), np.int32), (at[is_known], other)), shape=(len(vocabulary), len(others.sizes))
    )
    row_of = np.repeat(np.arange(len(sets.sizes)), sets.sizes)
    hits = np.diff(columns.indptr)[column].astype(np.float64)
    load = np.asarray(np.bincount(row_of, weights=hits, minlength=len(sets.sizes)), np.float64)
    for start, stop in _parts(load, _PRODUCTS_AT_ONCE):
        shared = (rows[start:stop] @ columns).tocoo()
        i, j = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        yield i, j, shared.data / (sets.sizes[i] + others.sizes[j] - shared.data)


def _parts(load: Floats, size: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges whose loads add up to about ``size``."""
    total = np.cumsum(load)
    start = 0
    while start < len(load):
        done = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, done + size, side="right")), start + 1)
        yield start, stop
        start = stop


def _compared(nearest: dict[str, Floats], sides: dict[str, _Side], threshold: float) -> dict[str, Any]:
    edges = np.round(np.linspace(0, 1, _BINS + 1), 6)
    found: dict[str, Any] = {"threshold": threshold, "edges": edges.tolist()}
    for name, values in nearest.items():
        rounded = np.round(np.clip(values, 0, 1), 4)
        found[name] = {
            "in_test": sides[name].in_test,
            "compared": len(values),
            "identical": _share(values == 1),
            "at_threshold": _share(rounded >= threshold),
            "quantiles": {key: round(float(np.quantile(rounded, at)), 4) for key, at in _QUANTILES.items()},
            "histogram": np.histogram(rounded, edges)[0].tolist(),
        }
    return found


def _share(holds: Flags) -> float:
    return round(float(holds.mean()), 6)


# -- the price of cleanliness --------------------------------------------------------------


class _Forest:
    """Pairs by similarity, of which only those are kept that join two sets: a maximum spanning forest.

    It has the same connected components as all pairs at every threshold, in memory for as many as there are nodes.
    """

    def __init__(self, count: int, thresholds: Sequence[float]) -> None:
        self._count = count
        self._thresholds = np.array(sorted(thresholds))
        self._pairs = np.zeros(len(thresholds) + 1, np.int64)
        none = np.zeros(0, np.int64)
        self._kept = (none, none, np.zeros(0))
        self._new = [self._kept]
        self._waiting = 0

    def add(self, left: Integers, right: Integers, score: Floats) -> None:
        """Pairs that were not added before; a score below the loosest threshold does not count."""
        level = np.searchsorted(self._thresholds, score, side="right")
        self._pairs += np.bincount(level, minlength=len(self._pairs))
        self._new.append((left, right, score))
        self._waiting += len(left)
        if self._waiting > _EDGES_AT_ONCE:
            self._reduce()

    def _reduce(self) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import minimum_spanning_tree

        left, right, score = (
            np.concatenate([self._kept[k], *(part[k] for part in self._new)]) for k in range(3)
        )
        # Weights are at least 1, since 0 would stand for no edge.
        weights = coo_array((2 - score, (left, right)), shape=(self._count, self._count))
        tree = minimum_spanning_tree(weights.tocsr()).tocoo()
        self._kept = (tree.row.astype(np.int64), tree.col.astype(np.int64), 2 - tree.data)
        self._new, self._waiting = [], 0

    def pairs(self, threshold: float) -> int:
        """Pairs of that similarity or more."""
        return int(self._pairs[np.searchsorted(self._thresholds, threshold, side="right") :].sum())

    def components(self, threshold: float) -> Integers:
        """Component of every node under the pairs of that similarity or more."""
        if self._new:
            self._reduce()
        left, right, score = self._kept
        # Subtracting from 2 costs a score its last bits.
        holds = score >= threshold - 1e-12
        return components(self._count, left[holds], right[holds])


def price(
    cleaned: pl.LazyFrame,
    pairs: pl.LazyFrame,
    images: pl.LazyFrame,
    text_names: Sequence[str],
    settings: Duplicates,
    min_link_text_chars: int = 1,
) -> dict[str, Any]:
    """What remains at each threshold of picture and text similarity."""
    columns = list(dict.fromkeys(["item_id", "image_sha256", "label", *settings.distinct_by]))
    table = cleaned.select(*columns, text_key=text_key(text_names)).sort("item_id").collect()
    pictures, table = _with_pictures(table, images)
    texts, table = _with_texts(table)
    found: dict[str, Any] = {"items": table.height, "effective_classes": _effective_classes(table)}
    known = pairs.filter(pl.col("kind").is_in(["near_image", "near_text"])).collect()
    if pictures.height:
        rules, method = _picture_forests(pictures, table, images, known, settings.image)
        rows = _price_rows(table, "picture", "text", rules, settings)
        found["image"] = {"method": method, "threshold": settings.image.min_similarity, "rows": rows}
    if len(texts):
        rules, method = _text_forests(texts, table, known, settings.text)
        # Items of a text too short to link anything stay apart.
        chars = texts.to_frame("key").select(text_chars(pl.col("key"))).to_series().to_numpy()
        links = pl.Series(chars >= min_link_text_chars)
        linked = table.with_columns(
            linked=pl.when(links.gather(table["text"])).then(pl.col("text"))  # null stays null
        )
        rows = _price_rows(linked, "linked", "picture", rules, settings)
        found["text"] = {"method": method, "threshold": settings.text.min_jaccard, "rows": rows}
    return found


def _effective_classes(items: pl.DataFrame) -> float | None:
    value = balance(items.lazy(), "label").get("effective_classes")
    return None if value is None else float(value)


def _price_rows(
    table: pl.DataFrame,
    column: str,
    other: str,
    rules: dict[str, "tuple[_Forest, list[float]]"],
    settings: Duplicates,
) -> list[dict[str, Any]]:
    """One row a rule and threshold, the strictest first."""
    rows = []
    present = np.flatnonzero(table[column].is_not_null().to_numpy())
    codes = table[column].gather(present).to_numpy()
    for rule, (forest, thresholds) in rules.items():
        for threshold in sorted(thresholds, reverse=True):
            # An item without a picture is a group of its own; its number is one that no group has.
            group = -1 - np.arange(table.height)
            group[present] = forest.components(threshold)[codes]
            grouped = table.with_columns(group=group)
            first = grouped.unique("group", keep="first", maintain_order=True)
            sizes = grouped.group_by("group").len()["len"]
            rows.append(
                {
                    "rule": rule,
                    "threshold": threshold,
                    "pairs": forest.pairs(threshold),
                    "groups": first.height,
                    "largest_group": int(sizes.max() or 0),  # type: ignore[arg-type]
                    "items_merged": grouped.select("group", other, *settings.distinct_by).n_unique(),
                    "effective_classes": _effective_classes(first),
                }
            )
    return rows


def _thresholds(wanted: Sequence[float], configured: float, loosest: float) -> list[float]:
    return sorted(value for value in {*wanted, configured} if value >= loosest)


def _known_pairs(table: pl.DataFrame, column: str, known: pl.DataFrame) -> tuple[Integers, Integers, Floats]:
    """The pairs that the search for duplicates has found, between numbers of ``column``, the smaller first."""
    places = table.select("item_id", column)
    ends = (
        known.join(places, on="item_id", maintain_order="left")
        .join(places, left_on="other_item_id", right_on="item_id", suffix="_other", maintain_order="left")
        .drop_nulls([column, f"{column}_other"])
    )
    one, other = ends[column].to_numpy(), ends[f"{column}_other"].to_numpy()
    return np.minimum(one, other), np.maximum(one, other), _not_identical(ends["score"].to_numpy())


def _known_forest(
    count: int, pairs: tuple[Integers, Integers, Floats], thresholds: list[float]
) -> tuple[dict[str, tuple[_Forest, list[float]]], str]:
    """Rule -> the pairs that the search for duplicates has found."""
    forest = _Forest(count, thresholds)
    forest.add(*pairs)
    how = "the pairs that the search for duplicates has found, from the configured threshold on"
    return {"configured": (forest, thresholds)}, how


def _not_identical(score: Floats) -> Floats:
    return np.minimum(score, _LESS_THAN_IDENTICAL)


def _picture_forests(
    pictures: pl.DataFrame,
    table: pl.DataFrame,
    images: pl.LazyFrame,
    known: pl.DataFrame,
    settings: ImageDuplicates,
) -> tuple[dict[str, tuple[_Forest, list[float]]], str]:
    """Rule -> pairs and the thresholds they are good for; and how they were found."""
    count = pictures.height
    verified = _known_pairs(table, "picture", known.filter(pl.col("kind") == "near_image"))
    if count > MEASURED_PICTURES or not settings.near:
        thresholds = _thresholds(IMAGE_THRESHOLDS, settings.min_similarity, settings.min_similarity)
        return _known_forest(count, verified, thresholds)
    thumbnails = load_thumbnails(images, pictures["sha256"])
    candidates = _thresholds(IMAGE_THRESHOLDS, settings.min_similarity, 0)
    found = np.zeros(len(candidates), np.int64)
    for left, _right, product in _correlated(thumbnails, candidates[0]):
        level = np.searchsorted(candidates, product + _GEMM_SLACK, side="right")
        found += np.bincount(level, minlength=len(candidates) + 1)[1:] if len(left) else 0
    at_least = found[::-1].cumsum()[::-1]
    thresholds = [
        value
        for value, pairs in zip(candidates, at_least, strict=True)
        if pairs <= MEASURED_PAIRS or value == 1
    ]
    method = f"all pairs of {count:,} pictures, below the configured threshold as they are"
    if len(thresholds) < len(candidates):
        method += f"; below {thresholds[0]:g} there are more than {MEASURED_PAIRS:,} pairs"
    configured, alone = _Forest(count, thresholds), _Forest(count, thresholds)
    # The search has found what is the same from the configured threshold on, after a crop, say, too. Below it,
    # pictures are compared as they are: fitting crops of all that look a little alike would take minutes.
    loose = settings.model_copy(update={"min_similarity": thresholds[0], "changes": ()})
    configured.add(*verified)
    found_before = verified[0] * count + verified[1]
    for left, right, product in _correlated(thumbnails, thresholds[0]):
        alone.add(left, right, _not_identical(product))
        is_new = ~np.isin(left * count + right, found_before)
        i, j = left[is_new], right[is_new]
        holds, similarity = near_pictures(thumbnails, i, j, loose)
        configured.add(i[holds], j[holds], _not_identical(similarity[holds]))
    return {"configured": (configured, thresholds), "similarity alone": (alone, thresholds)}, method


def _correlated(thumbnails: Pixels, least: float) -> Iterator[tuple[Integers, Integers, Floats]]:
    """Pairs of thumbnails that correlate by about ``least`` or more, block by block."""
    for start, stop in slices(len(thumbnails), _ROWS):
        block = standardised(thumbnails[start:stop])
        for other, end in slices(len(thumbnails), _ROWS):
            if other < start:
                continue
            product = block @ standardised(thumbnails[other:end]).T
            i, j = np.nonzero(product >= least - _GEMM_SLACK)
            is_once = i + start < j + other
            i, j = i[is_once], j[is_once]
            yield i + start, j + other, product[i, j].astype(np.float64)


def _text_forests(
    texts: pl.Series, table: pl.DataFrame, known: pl.DataFrame, settings: TextDuplicates
) -> tuple[dict[str, tuple[_Forest, list[float]]], str]:
    """As for pictures; texts shorter than ``min_chars`` are the same only where their words are equal."""
    long = np.flatnonzero(are_long(texts, settings))
    sets = shingles(texts.gather(long), settings.shingle_chars)
    _, frequency = np.unique(sets.values, return_counts=True)
    if int((frequency**2).sum()) > MEASURED_SHINGLES or not settings.near:
        thresholds = _thresholds(TEXT_THRESHOLDS, settings.min_jaccard, settings.min_jaccard)
        verified = _known_pairs(table, "text", known.filter(pl.col("kind") == "near_text"))
        return _known_forest(len(texts), verified, thresholds)
    thresholds = _thresholds(TEXT_THRESHOLDS, settings.min_jaccard, 0)
    forest = _Forest(len(texts), thresholds)
    for left, right, score in _overlapping(sets, sets):
        is_near = (left < right) & (score >= thresholds[0])
        forest.add(long[left[is_near]], long[right[is_near]], _not_identical(score[is_near]))
    first, other = first_of_equal_words(word_codes(texts))
    forest.add(first, other, _not_identical(np.ones(len(other))))
    how = (
        f"all pairs of {len(long):,} texts of {settings.min_chars} characters or more; shorter ones only where their "
        "words are equal"
    )
    return {"configured": (forest, thresholds)}, how
