"""Planted leaks are found and counted exactly; splits of our own have none; a broken search shows."""

import itertools
import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import ImageDuplicates
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages import duplicates, leak_search, leakage, pair_search, similarity
from dataset_pipeline.stages.leakage import Leakage, audit_leakage
from dataset_pipeline.stages.similarity import Flags, Floats, Integers, Pixels
from dataset_pipeline.stages.split import split_items
from dataset_pipeline.tables import IMAGES, PAIRS
from dataset_pipeline_tests.stages.crafted import (
    brighter,
    drifted,
    items,
    minimal_config,
    smooth,
    thumbnails_as_images,
)

Row = dict[str, Any]
NO_IMAGES = pl.LazyFrame(schema={name: IMAGES[name] for name in IMAGES})
KINDS = ("group_keys", "near_image", "near_text", "same_bytes", "same_pixels", "same_text")
LONG = "a red cotton shirt with long sleeves and two pockets on the front"


def audit(rows: list[Row], images: pl.LazyFrame = NO_IMAGES, **options: Any) -> Leakage:
    splits = pl.LazyFrame(
        {"item_id": [row["item_id"] for row in rows], "split": [row["split"] for row in rows]},
        schema={"item_id": pl.String(), "split": pl.String()},
    )
    table = items([{k: v for k, v in row.items() if k != "split"} for row in rows])
    return audit_leakage(table.join(splits, on="item_id"), images, ["title"], minimal_config(**options))


def found_kinds(result: Leakage) -> dict[str, int]:
    """Counts of kinds that are not 0."""
    return {kind: count for kind, count in result.report["by_kind"].items() if count}


def pictures(*thumbnails: Pixels) -> pl.LazyFrame:
    """Pictures named p0, p1, ..."""
    stacked = np.concatenate(thumbnails)
    return thumbnails_as_images(stacked, [f"p{n}" for n in range(len(stacked))])


# -- planted leaks -------------------------------------------------------------------------


def test_no_leak_is_reported_where_there_is_none() -> None:
    rows = [
        {
            "item_id": f"{n}",
            "split": split,
            "image_sha256": f"p{n}",
            "title": f"{n} {LONG[n * 9 :]}",
            "group_keys": [f"k={n}"],
        }
        for n, split in enumerate(["train", "train", "validation", "test"])
    ]
    result = audit(rows, pictures(smooth(1, 4)))
    assert result.report["by_kind"] == dict.fromkeys(KINDS, 0)
    assert result.report["cross_split_pairs"] == result.report["leaked_items"] == 0
    assert result.crossing.height == 0
    assert dict(result.crossing.schema) == dict(PAIRS)


def test_group_keys_that_cross() -> None:
    # k=1: 2 in train, 1 in test, 1 in validation: 2 + 2 + 1 pairs. k=2 stays in train.
    rows: list[Row] = [
        {"item_id": "a", "split": "train", "group_keys": ["k=1", "k=2"]},
        {"item_id": "b", "split": "train", "group_keys": ["k=1", "k=2"]},
        {"item_id": "c", "split": "test", "group_keys": ["k=1", "k=3"]},
        {"item_id": "d", "split": "validation", "group_keys": ["k=1"]},
        {"item_id": "e", "split": "test"},
    ]
    result = audit(rows)
    assert found_kinds(result) == {"group_keys": 5}
    assert result.report["leaked_items"] == 2
    assert result.report["items_outside_train"] == 3
    assert result.report["leaked_share"] == round(2 / 3, 6)
    assert result.crossing.rows() == [("a", "c", "group_keys", 1.0), ("a", "d", "group_keys", 1.0)]


def test_same_files_and_same_pixels_count_once() -> None:
    # p0 and p1 are two files of the same pixels. p0: train 2, test 1. p1: train 1, test 1.
    # same_bytes: 2 + 1. All five items have the same pixels: 3 x 2 = 6 pairs, of which 3 are same_bytes.
    images = pictures(smooth(1, 1), smooth(1, 1))
    rows = [
        {"item_id": f"{n}", "split": split, "image_sha256": file}
        for n, (split, file) in enumerate(
            [("train", "p0"), ("train", "p0"), ("test", "p0"), ("train", "p1"), ("test", "p1")]
        )
    ]
    result = audit(rows, images)
    assert found_kinds(result) == {"same_bytes": 3, "same_pixels": 3}
    assert result.report["leaked_items"] == 2
    assert result.report["cross_split_pairs"] == 6


def test_near_pictures_are_counted_per_pair_of_items() -> None:
    # p0 (train 2, test 1) is near p1 (train 1, test 3), not p2: 2 x 3 + 1 x 1 = 7 pairs besides the same files.
    base = smooth(1, 1)
    images = pictures(base, brighter(base, 8), smooth(2, 1))
    counts = {("p0", "train"): 2, ("p0", "test"): 1, ("p1", "train"): 1, ("p1", "test"): 3, ("p2", "test"): 2}
    rows = [
        {"item_id": f"{file}-{split}-{n}", "split": split, "image_sha256": file}
        for (file, split), count in counts.items()
        for n in range(count)
    ]
    result = audit(rows, images)
    assert found_kinds(result) == {"same_bytes": 2 + 3, "near_image": 7}
    assert result.report["leaked_items"] == 4
    near = result.crossing.filter(pl.col("kind") == "near_image")
    assert near.select("item_id", "other_item_id").rows() == [
        ("p0-test-0", "p1-train-0"),
        ("p0-train-0", "p1-test-0"),
    ]


def test_same_and_near_texts() -> None:
    # LONG: train 2, test 1. With a full stop: test 2. Same: 2. Near: 2 x 2 (the test ones do not cross).
    rows = [
        {"item_id": f"{n}", "split": split, "title": title}
        for n, (split, title) in enumerate(
            [
                ("train", LONG),
                ("train", LONG.upper()),
                ("test", LONG),
                ("test", f"{LONG}."),
                ("test", f"{LONG}."),
            ]
        )
    ]
    result = audit(rows)
    assert found_kinds(result) == {"same_text": 2, "near_text": 4}
    assert result.report["leaked_items"] == 3


def test_a_near_copy_leaks_whichever_of_the_two_is_in_train() -> None:
    for splits in (("train", "test"), ("test", "train")):
        rows = [
            {"item_id": f"{n}", "split": split, "title": title, "image_sha256": f"p{n}"}
            for n, (split, title) in enumerate(zip(splits, (LONG, f"{LONG}."), strict=True))
        ]
        assert audit(rows).report["leaked_items"] == 1
        pictures_only = [{**row, "title": None} for row in rows]
        near = audit(pictures_only, pictures(smooth(1, 1), brighter(smooth(1, 1), 8)))
        assert found_kinds(near) == {"near_image": 1}
        assert near.report["leaked_items"] == 1


def test_splits_other_than_train_leak_too_but_no_item_is_leaked() -> None:
    rows = [
        {"item_id": f"{n}", "split": split, "title": LONG} for n, split in enumerate(["validation", "test"])
    ]
    result = audit(rows)
    assert (result.report["cross_split_pairs"], result.report["leaked_items"]) == (1, 0)


def test_short_texts_are_counted_apart() -> None:
    titles = ["shirt", "shirt", LONG, f"{LONG}.", f"{LONG} {LONG[::-1]}", f"{LONG} {LONG[::-1]}."]
    rows = [
        {"item_id": f"{n}", "split": ["train", "test"][n % 2], "title": title}
        for n, title in enumerate(titles)
    ]
    everything = audit(rows)
    assert found_kinds(everything) == {"same_text": 1, "near_text": 2}
    assert everything.report["not_linked_by_kind"] == {}
    long_only = audit(rows, split={"min_link_text_chars": 100})
    assert found_kinds(long_only) == {"near_text": 1}
    assert long_only.report["not_linked_by_kind"] == {"same_short_text": 1, "near_short_text": 1}
    assert long_only.report["leaked_items"] == 1


def test_kinds_that_are_not_linked_are_counted_but_are_no_leaks() -> None:
    images = pictures(smooth(1, 1), brighter(smooth(1, 1), 8))
    rows = [
        {"item_id": f"{n}", "split": split, "title": LONG, "image_sha256": f"p{n}", "group_keys": ["k=1"]}
        for n, split in enumerate(["train", "test"])
    ]
    result = audit(rows, images, split={"link": ["group_keys"]})
    assert result.report["cross_split_pairs"] == 1
    assert result.report["by_kind"] == {"group_keys": 1}
    assert result.report["not_linked_by_kind"] == {
        "near_image": 1,
        "near_text": 0,
        "same_bytes": 0,
        "same_pixels": 0,
        "same_text": 1,
    }


def test_a_release_has_no_group_keys() -> None:
    # What verifies a release has only its published columns, and leak_group.
    table = pl.LazyFrame(
        {
            "item_id": ["a", "b", "c"],
            "split": ["train", "test", "train"],
            "image_sha256": pl.Series([None] * 3, dtype=pl.String),
            "title": [LONG, LONG, "other"],
            "leak_group": ["a", "a", "c"],
        }
    )
    report = audit_leakage(table, NO_IMAGES, ["title"], minimal_config()).report
    assert report["by_kind"]["same_text"] == report["cross_split_pairs"] == 1
    assert report["largest_group"] == {"items": 2, "share": round(2 / 3, 6)}


def test_crossing_pairs_beyond_the_list_are_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "LISTED_PAIRS", 5)
    rows = [
        {"item_id": f"{n:02}", "split": ["train", "test"][n % 2], "title": f"{LONG} {n:02}"}
        for n in range(40)
    ]
    result = audit(rows)
    assert found_kinds(result) == {"near_text": 20 * 20}
    assert result.crossing.height == 5


# -- the random split ----------------------------------------------------------------------


def slow_counts(rows: list[Row], splits: list[str]) -> dict[str, int]:
    """Crossing pairs of same_text and group_keys, pair by pair."""
    counts = {"same_text": 0, "group_keys": 0}
    for (a, i), (b, j) in itertools.combinations(zip(rows, splits, strict=True), 2):
        if i != j:
            counts["same_text"] += a["title"] == b["title"]
            counts["group_keys"] += len(set(a["group_keys"]) & set(b["group_keys"]))
    return counts


def test_the_random_split_has_the_same_sizes_and_its_leaks_are_counted_the_same_way() -> None:
    rows = [
        {
            "item_id": f"{n:02}",
            "split": "train" if n < 40 else "test",
            "title": f"t{n // 4}",
            "group_keys": [f"k={n // 10}"],
        }
        for n in range(50)
    ]
    report = audit(rows, seed=3).report
    shuffled = np.random.default_rng(3).permutation([row["split"] for row in rows]).tolist()
    assert sorted(shuffled) == sorted(row["split"] for row in rows)
    expected = slow_counts(rows, shuffled)
    assert {kind: report["random_by_kind"][kind] for kind in expected} == expected
    assert report["random_split_pairs"] == sum(expected.values()) > 0
    assert report["random_leaked_items"] == sum(
        split == "test"
        and any(
            other == "train" and (a["title"] == b["title"] or a["group_keys"] == b["group_keys"])
            for b, other in zip(rows, shuffled, strict=True)
        )
        for a, split in zip(rows, shuffled, strict=True)
    )
    # Groups of 10 and of 4 that end where the splits meet: here nothing leaks.
    assert report["cross_split_pairs"] == 0


def test_near_links_that_only_the_random_split_cuts_are_counted() -> None:
    # 20 nearly equal titles in train, one other in test: the random split moves one of the 20 to test, or none.
    rows = [{"item_id": f"{n:02}", "split": "train", "title": f"{LONG} {n:02}"} for n in range(20)]
    rows.append({"item_id": "20", "split": "test", "title": "another"})
    for seed in range(4):
        shuffled = np.random.default_rng(seed).permutation([row["split"] for row in rows]).tolist()
        report = audit(rows, seed=seed).report
        assert report["by_kind"]["near_text"] == 0
        assert report["random_by_kind"]["near_text"] == (0 if shuffled[20] == "test" else 19)


# -- splits of our own have no leaks -------------------------------------------------------

FAMILIES = np.concatenate([*(drifted(smooth(7, 2), 14 * step) for step in range(3)), smooth(8, 4)])
FAMILY_IMAGES = thumbnails_as_images(FAMILIES, [f"p{n}" for n in range(len(FAMILIES))])
TITLES = (
    *(f"{LONG}{end}" for end in ("", ".", ", ironed", ", ironed twice")),
    *(f"item {n}" for n in range(20)),
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "image_sha256": st.sampled_from([None, *(f"p{n}" for n in range(len(FAMILIES)))]),
                "title": st.sampled_from(TITLES),
                "language": st.sampled_from(["en", "de"]),
                "label": st.sampled_from(["x", "y"]),
                "group_keys": st.lists(st.integers(0, 30).map("k={}".format), max_size=1),
            }
        ),
        min_size=8,
        max_size=30,
    ),
    st.integers(0, 2),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_items_split_by_split_items_have_no_leak(drawn: list[Row], seed: int) -> None:
    rows = [{"item_id": f"i{n:02}", **row} for n, row in enumerate(drawn)]
    chosen = minimal_config(split={"ratios": {"train": 0.7, "test": 0.3}}, seed=seed)
    table = items(rows)
    pairs = duplicates.find_pairs(table, FAMILY_IMAGES, ["title"], chosen.duplicates)
    result = duplicates.deduplicate(table, FAMILY_IMAGES, pairs, ["title"], chosen.duplicates, [])
    try:
        split = split_items(result.items, pairs, ["title"], chosen.split, seed)
    except GateError:
        return  # everything is connected
    report = audit_leakage(split.items, FAMILY_IMAGES, ["title"], chosen).report
    assert not any(report["by_kind"].values())
    assert report["cross_split_pairs"] == 0


# -- the searches --------------------------------------------------------------------------


def every(left: Integers, right: Integers) -> Flags:
    return np.ones(len(left), bool)


def photo_like(count: int) -> Pixels:
    """Pictures and, of every third, a copy with noise: fine detail and a light that differs, as in photos."""
    generator = np.random.default_rng(9)
    base = np.clip(smooth(9, count) + generator.normal(0, 12, (count, 3072)), 0, 255)
    copies = base[::3] + generator.normal(0, 3, base[::3].shape)
    return np.clip(np.concatenate([base, copies]), 0, 255).astype(np.uint8)


def search(thumbnails: Pixels) -> set[tuple[int, int]]:
    found = leak_search.PictureSearch(thumbnails, minimal_config().duplicates.image, 0).near(every)
    edges = [pair for left, right, _ in found for pair in zip(left.tolist(), right.tolist(), strict=True)]
    assert len(edges) == len(set(edges))
    return set(edges)


def test_projections_find_what_comparing_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = photo_like(240)
    monkeypatch.setattr(leak_search, "_ROWS", 64)  # several blocks
    exhaustive = search(thumbnails)
    assert exhaustive == {(3 * n, 240 + n) for n in range(80)}
    monkeypatch.setattr(leak_search, "EXHAUSTIVE_PICTURES", 10)
    monkeypatch.setattr(leak_search, "_LOOKUPS_AT_ONCE", 50)
    assert search(thumbnails) == exhaustive


def test_projections_find_changed_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak_search, "EXHAUSTIVE_PICTURES", 10)
    chosen = ImageDuplicates(changes=("colour", "crop", "overlay", "mirror", "turn"))
    thumbnails = photo_like(240)
    origins, copies, names = leak_search.planted_pictures(thumbnails[:240], chosen, 0)
    found = list(leak_search.PictureSearch(np.concatenate([thumbnails, copies]), chosen, 0).near(every))
    pairs = {pair for left, right, _ in found for pair in zip(left.tolist(), right.tolist(), strict=True)}
    missed = [
        name
        for number, (origin, name) in enumerate(zip(origins.tolist(), names, strict=True))
        if (origin, len(thumbnails) + number) not in pairs
    ]
    assert {"mirrored", "turned", "5 % cropped at the left", "label laid over"} <= set(names)
    assert len(missed) <= 0.01 * len(names), missed
    assert len(pairs) == sum(len(left) for left, _, _ in found)  # each once, in whatever way it is found


def test_nearest_pairs_are_the_most_similar_ones_across_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = np.concatenate([photo_like(90), smooth(3, 3)])
    splits = np.random.default_rng(1).integers(0, 3, len(thumbnails))
    left, right = np.triu_indices(len(thumbnails), 1)
    crosses = splits[left] != splits[right]
    left, right = left[crosses], right[crosses]
    score = similarity.compare_pictures(thumbnails, left, right).similarity
    best = np.argsort(-score)[: leak_search.NEAREST_PAIRS]
    expected = set(zip(left[best].tolist(), right[best].tolist(), strict=True))
    monkeypatch.setattr(leak_search, "_ROWS", 32)
    one = leak_search.PictureSearch(thumbnails, minimal_config().duplicates.image, 0)
    i, j, found = one.nearest(splits, len(thumbnails))
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected
    assert found.tolist() == sorted(found.tolist(), reverse=True)


def test_a_crowd_of_alike_pictures_costs_a_bounded_number_of_comparisons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # All share every table's key; what is left out is counted and said in the report.
    monkeypatch.setattr(leak_search, "EXHAUSTIVE_PICTURES", 10)
    monkeypatch.setattr(leak_search, "PROJECTION_WINDOW", 5)
    thumbnails = np.repeat(smooth(1, 1), 100, axis=0)
    one = leak_search.PictureSearch(thumbnails, ImageDuplicates(changes=()), 0)
    edges = [(left, right) for left, right, _ in one.near(every)]
    left, right = (np.concatenate([part[side] for part in edges]) for side in (0, 1))
    assert len(left) == sum(min(before, 5) for before in range(100))
    assert not similarity.components(100, left, right).any()  # one set all the same
    left_out = 99 * 100 // 2 - len(left)
    assert one.uncompared == leak_search.PROJECTION_TABLES * left_out
    assert f"{leak_search.PROJECTION_TABLES * left_out:,} comparisons left out" in one.method


WORDS = ("red", "blue", "cotton", "linen", "shirt", "trousers", "with", "sleeves", "pockets", "size")


def near_texts(
    texts: pl.Series, **options: Any
) -> tuple[dict[tuple[int, int], float], leak_search.TextSearch]:
    """Every pair that the search finds, each once, with its score."""
    search = leak_search.TextSearch(texts, minimal_config(duplicates={"text": options}).duplicates.text)
    left, right, score = leak_search.joined(list(search.near(every)))
    assert (left < right).all()
    found = dict(zip(zip(left.tolist(), right.tolist(), strict=True), score.tolist(), strict=True))
    assert len(found) == len(left)
    return found, search


def slow_near_texts(texts: pl.Series, threshold: float) -> dict[tuple[int, int], float]:
    """Every pair compared, with sets of strings; 1 where the words are equal."""
    words = [re.findall("[a-z0-9]+", text) for text in texts]
    sets = [{text[at : at + 4] for at in range(len(text) - 3)} for text in texts]
    scores = {
        (i, j): 1.0 if words[i] == words[j] else len(sets[i] & sets[j]) / max(len(sets[i] | sets[j]), 1)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if words[i] or words[j]
    }
    return {pair: score for pair, score in scores.items() if score >= threshold}


def above(found: dict[tuple[int, int], float], threshold: float) -> dict[tuple[int, int], float]:
    return {pair: pytest.approx(score) for pair, score in found.items() if score >= threshold}


@given(
    st.lists(
        st.builds(
            str.join, st.sampled_from([" ", ", "]), st.lists(st.sampled_from(WORDS), min_size=0, max_size=9)
        ),
        max_size=25,
    ),
    st.sampled_from([0.5, 0.7, 0.85, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_near_texts_are_all_pairs_of_that_jaccard_similarity(texts: list[str], threshold: float) -> None:
    keys = pl.Series(texts, dtype=pl.String)
    expected = slow_near_texts(keys, threshold)
    for few, size in ((1024, 1), (0, 1), (0, 1 << 17)):  # all pairs; by equal parts, in many steps and in one
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leak_search, "FEW_TEXTS", few)
            patch.setattr(pair_search, "_CANDIDATES_AT_ONCE", size)
            found, search = near_texts(keys, min_jaccard=threshold, min_chars=1)
        assert above(found, threshold) == expected
        assert search.uncompared == 0


def changed_at_will(generator: np.random.Generator, text: str) -> str:
    """The text with some letters replaced, wherever that is, and some cut off at the end."""
    letters = list(text)
    for at in generator.integers(0, len(text), generator.integers(0, 2 + len(text) // 30)):
        letters[at] = chr(generator.integers(97, 123))
    return "".join(letters[: len(text) - generator.integers(0, 5)])


@pytest.mark.parametrize("chars", [30, 90, 190])
def test_texts_of_any_length_up_to_the_exact_one_are_all_found(
    chars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_search, "FEW_TEXTS", 0)
    # Pairs from far above the threshold to far below it, and at it: where differences lie is left to chance.
    generator = np.random.default_rng(chars)
    texts = ["".join(map(chr, generator.integers(97, 123, chars))) for _ in range(40)]
    texts += [changed_at_will(generator, text) for text in texts for _ in range(8)]
    keys = pl.Series(texts)
    expected = slow_near_texts(keys, 0.85)
    assert len(expected) > 50
    assert min(expected.values()) < 0.88
    found, search = near_texts(keys)
    assert above(found, 0.85) == expected
    assert "shingles (exact)" in search.method


def test_long_texts_are_found_though_not_all_parts_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak_search, "FEW_TEXTS", 0)
    generator = np.random.default_rng(1)
    texts = ["".join(map(chr, generator.integers(97, 123, 2000))) for _ in range(20)]
    texts += [changed_at_will(generator, changed_at_will(generator, text)) for text in texts]
    keys = pl.Series(texts)
    found, search = near_texts(keys)
    assert above(found, 0.85) == slow_near_texts(keys, 0.85) != {}
    assert "missed with a chance of 2e-6" in search.method


def test_two_equal_parts_of_35_are_as_likely_as_is_said() -> None:
    # Sets that differ in d of d + 2 parts' worth of elements: a part is untouched with a chance of 1 / e.
    equal = (1 - 1 / 300) ** 298
    missed = (1 - equal) ** leak_search.PARTS + leak_search.PARTS * equal * (1 - equal) ** (
        leak_search.PARTS - 1
    )
    assert 1e-6 < missed < 3e-6


ORDERS = pl.Series([f"order number {n:06d} confirmed, thank you for buying with us" for n in range(700)])
"""Nearly all texts have most parts in common."""


def test_a_crowd_of_alike_texts_costs_a_bounded_number_of_comparisons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leak_search, "FEW_TEXTS", 0)
    monkeypatch.setattr(leak_search, "MIN_COMPARED", 0)
    monkeypatch.setattr(leak_search, "COMPARED_PER_TEXT", 4)
    monkeypatch.setattr(leak_search, "MIN_MEASURED", 0)
    measured = 0

    def counting(keys: pl.Series, left: Integers, right: Integers, chars: int) -> Floats:
        nonlocal measured
        measured += len(left)
        return similarity.jaccard_of_texts(keys, left, right, chars)

    monkeypatch.setattr(leak_search, "jaccard_of_texts", counting)
    candidates = 0
    listed = pair_search.pairs_with_equal_keys

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal candidates
        for left, right in listed(*given, **named):
            candidates += len(left)
            yield left, right

    monkeypatch.setattr(leak_search, "pairs_with_equal_keys", counted)
    found, search = near_texts(ORDERS)
    truth = slow_near_texts(ORDERS, 0.85)
    assert len(truth) > 10 * len(ORDERS)
    assert above(found, 0.85).items() <= truth.items()
    pairs_of_parts = sum(
        min(count, leak_search.PARTS) * (min(count, leak_search.PARTS) - 1) // 2
        for _, _, count in search._levels()
    )
    pairs_of_shingles = leak_search.RAREST * (leak_search.RAREST - 1) // 2
    most = pairs_of_parts * 4 + pairs_of_shingles * leak_search.RARE_WINDOW
    assert candidates <= most * len(ORDERS)
    assert measured <= leak_search.MEASURED_PER_TEXT * len(ORDERS)
    assert search.uncompared > 0
    assert f"{search.uncompared:,} comparisons left out" in search.method


@given(
    st.lists(
        st.builds(str.join, st.just(" "), st.lists(st.sampled_from(WORDS), min_size=2, max_size=9)),
        max_size=25,
    ),
    st.sampled_from([0.7, 0.85, 1.0]),
    st.sampled_from([600, 1 << 24]),
)
@settings(max_examples=20, deadline=None)
def test_rare_shingles_alone_find_all_near_texts_where_none_are_left_out(
    texts: list[str], threshold: float, keys_at_once: int
) -> None:
    # Every equal part is a crowd, so that nothing is found by parts; one pass over the pairs of shingles, or many.
    keys = pl.Series(texts, dtype=pl.String)
    limits = {"FEW_TEXTS": 0, "MIN_COMPARED": 0, "COMPARED_PER_TEXT": 0, "RAREST": 24, "RARE_WINDOW": 25}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(leak_search, name, value)
        patch.setattr(leak_search, "_KEYS_AT_ONCE", keys_at_once)
        found, _ = near_texts(keys, min_jaccard=threshold, min_chars=1)
    assert above(found, threshold) == slow_near_texts(keys, threshold)


def test_copies_are_found_in_a_crowd_of_texts_by_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    # Any two texts have most of their shingles in common; a copy has those of its number, or some of them, with one only.
    limits = {"FEW_TEXTS": 0, "MIN_COMPARED": 0, "COMPARED_PER_TEXT": 0, "RARE_WINDOW": 8}
    for name, value in limits.items():
        monkeypatch.setattr(leak_search, name, value)
    origins, copies, names = leak_search.planted_texts(ORDERS, 0)
    both = pl.concat([ORDERS, copies])
    copy = len(ORDERS) + np.arange(len(copies))
    truth, _ = similarity.near_texts(both, origins, copy, minimal_config().duplicates.text)
    found, search = near_texts(both)
    missed = [names[n] for n in np.flatnonzero(truth) if (origins[n], copy[n]) not in found]
    assert search.uncompared > 100 * len(ORDERS)
    assert truth.sum() > 300
    assert missed == []


def test_a_leak_is_found_in_a_crowd_that_the_random_split_would_cut_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # All orders are in train but one near copy of one of them: it must not be crowded out by pairs that only count
    # for the random split.
    monkeypatch.setattr(leak_search, "FEW_TEXTS", 0)
    monkeypatch.setattr(leak_search, "MIN_MEASURED", 0)
    rows = [{"item_id": f"{n:04}", "split": "train", "title": title} for n, title in enumerate(ORDERS)]
    rows += [{"item_id": "x", "split": "test", "title": f"{ORDERS[300]}!"}]
    rows += [{"item_id": f"y{n}", "split": "test", "title": f"{n} another text {n}"} for n in range(100)]
    result = audit(rows)
    assert "0300" in result.crossing["item_id"].to_list()
    assert set(result.crossing["other_item_id"]) == {"x"}


# -- recall --------------------------------------------------------------------------------


def twelve() -> tuple[list[Row], pl.LazyFrame]:
    rows = [
        {
            "item_id": f"{n:02}",
            "split": ["train", "test"][n % 2],
            "image_sha256": f"p{n}",
            "title": f"{WORDS[n % 10]} {n} {LONG[::-1][n:]} {n * 7919}",
        }
        for n in range(12)
    ]
    return rows, pictures(smooth(4, 12))


def test_the_recall_of_a_whole_search_is_1_and_that_of_a_broken_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, images = twelve()
    recall = audit(rows, images).report["search_recall"]
    assert set(recall) == {"near_image", "near_text"}
    assert set(recall["near_text"].values()) == {1.0}
    assert recall["near_image"] == {
        "noise of re-encoding": 1.0,
        "softened by resizing": 1.0,
        "10 % darker": 1.0,
        "10 % less contrast": 1.0,
        "10 % brighter": 1.0,
        "colour taken away": 1.0,
        "4 % cropped at every edge": 1.0,
        "5 % cropped at the left": 1.0,
    }

    candidates, texts = leak_search.PictureSearch._candidates, leak_search.TextSearch.near

    def half_the_pictures(self: Any) -> Any:
        for left, right in candidates(self):
            yield left[left % 2 == 0], right[left % 2 == 0]

    def half_the_texts(*given: Any) -> Any:
        for left, right, score in texts(*given):
            yield left[left % 2 == 0], right[left % 2 == 0], score[left % 2 == 0]

    monkeypatch.setattr(leak_search.PictureSearch, "_candidates", half_the_pictures)
    monkeypatch.setattr(leak_search.TextSearch, "near", half_the_texts)
    recall = audit(rows, images).report["search_recall"]
    assert set(recall["near_image"].values()) == {0.5}
    assert all(share < 0.7 for share in recall["near_text"].values())


def test_recall_counts_what_the_thresholds_miss_too() -> None:
    # A limit so strict that a copy made 10 % darker is no copy any more: the report says so.
    rows, images = twelve()
    strict = {"image": {"max_tone_difference": 8, "max_block_difference": 1}}
    recall = audit(rows, images, duplicates=strict).report["search_recall"]["near_image"]
    assert recall["10 % darker"] == 0.0


def test_planted_copies_are_no_leaks_and_no_near_misses() -> None:
    rows, images = twelve()
    result = audit(rows, images)
    assert result.report["cross_split_pairs"] == 0
    assert set(result.nearest["item_id"]) | set(result.nearest["other_item_id"]) <= {
        row["item_id"] for row in rows
    }
    assert result.nearest.filter(pl.col("split") == pl.col("other_split")).height == 0


def test_planted_pictures_are_changed_copies_of_pictures_that_can_be_recognised() -> None:
    thumbnails = np.concatenate([smooth(1, 5), np.full((3, 3072), 200, np.uint8)])
    origins, copies, names = leak_search.planted_pictures(thumbnails, minimal_config().duplicates.image, 0)
    assert sorted(set(origins.tolist())) == [0, 1, 2, 3, 4]
    assert len(origins) == len(copies) == len(names) == 5 * 8
    assert not any((copy == thumbnails[origin]).all() for origin, copy in zip(origins, copies, strict=True))


def test_nearest_texts_are_the_near_misses() -> None:
    # One word of twelve: under the limit, and the closest pair across splits.
    rows = [
        {"item_id": "a", "split": "train", "title": LONG},
        {"item_id": "b", "split": "test", "title": LONG.replace("red", "blue")},
        {"item_id": "c", "split": "test", "title": "something else altogether, and long enough"},
    ]
    result = audit(rows)
    assert result.report["cross_split_pairs"] == 0
    assert result.nearest.drop("similarity").rows() == [("text", "b", "test", "a", "train")]
    assert 0.6 <= result.nearest["similarity"].item() < 0.85


# -- the report ----------------------------------------------------------------------------


def test_the_audit_does_not_depend_on_the_order_of_rows() -> None:
    base = smooth(1, 3)
    images = pictures(base, brighter(base, 8), drifted(base, 12))
    rows = [
        {
            "item_id": f"{n:02}",
            "split": ["train", "train", "test"][n % 3],
            "image_sha256": f"p{n % 9}",
            "title": f"{LONG} {n % 5}",
            "group_keys": [f"k={n % 4}"],
        }
        for n in range(30)
    ]
    one, other = audit(rows, images), audit(rows[::-1], images.reverse())
    assert one.report["cross_split_pairs"] > 0
    assert one.report == other.report
    assert one.crossing.equals(other.crossing)
    assert one.nearest.equals(other.nearest)


def test_what_is_not_there_is_not_claimed() -> None:
    no_text = audit([{"item_id": name, "split": split} for name, split in (("a", "train"), ("b", "test"))])
    assert no_text.report["cross_split_pairs"] == 0
    assert no_text.report["search_recall"] == {}
    assert "near_image" not in no_text.report["method"]
    near_off = audit(*twelve(), duplicates={"image": {"near": False}, "text": {"near": False}})
    assert near_off.report["search_recall"] == {}
