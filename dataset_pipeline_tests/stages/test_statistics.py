"""Statistics: every number by hand on rows small enough to count."""

import itertools
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Statistics
from dataset_pipeline.stages import statistics as stage
from dataset_pipeline.tables import IMAGES, REMOVED, SPLIT_ITEMS

TEXTS = {"title": pl.String(), "description": pl.String()}


def items(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    made = [
        {
            "item_id": f"{number:02}", "source": "shop", "split": "train", "leak_group": f"g{number}",
            "duplicate_group": f"{number:02}", **row,
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    return pl.LazyFrame(made, schema={**SPLIT_ITEMS, **TEXTS})


def images(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    facts = {"width_px": 100, "height_px": 50, "format": "PNG", "mode": "RGB", "size_bytes": 10, "brightness": 1.0,
             "contrast": 2.0, "entropy_bits": 3.0, "sharpness": 4.0}  # fmt: skip
    return pl.LazyFrame([{**facts, **row} for row in rows], schema=dict(IMAGES))


def removed(*rows: tuple[str, str, str]) -> pl.LazyFrame:
    """(stage, reason, kept_item_id) of each."""
    return pl.LazyFrame(
        [
            {"item_id": f"r{number}", "stage": at, "reason": reason, "kept_item_id": kept}
            for number, (at, reason, kept) in enumerate(rows)
        ],
        schema=dict(REMOVED),
    )


def report(
    rows: list[dict[str, Any]],
    pictures: list[dict[str, Any]] | None = None,
    gone: pl.LazyFrame | None = None,
    names: tuple[str, ...] = ("title", "description"),
    top_words: int = 30,
) -> dict[str, Any]:
    return stage.statistics(
        items(rows), images(pictures or []), removed() if gone is None else gone, names, Statistics(top_words=top_words)
    )  # fmt: skip


# -- counts --------------------------------------------------------------------------------


def test_counts_add_up_and_reasons_are_counted_by_stage() -> None:
    gone = removed(
        ("clean", "image_blank", ""), ("raw", "image_missing", ""), ("clean", "image_blank", ""),
        ("duplicates", "duplicate", "00"),
    )  # fmt: skip
    found = report([{"split": "test"}, {}, {}], gone=gone)
    assert found["counts"] == {
        "raw_items": 7,
        "released_items": 3,
        "removed_items": 4,
        "splits": [{"value": "train", "items": 2}, {"value": "test", "items": 1}],
    }
    # Equal counts are in order of the reason's name, whatever order the rows came in.
    assert found["removed"] == [
        {"stage": "clean", "reason": "image_blank", "items": 2},
        {"stage": "duplicates", "reason": "duplicate", "items": 1},
        {"stage": "raw", "reason": "image_missing", "items": 1},
    ]


def test_values_are_counted_by_split_and_a_missing_value_is_a_row() -> None:
    found = report(
        [{"label": "hat"}, {"label": "hat", "split": "test"}, {}, {"label": "boot"}, {"label": "boot"}]
    )
    assert found["classes"] == [
        {"value": "boot", "items": 2, "splits": {"train": 2}},
        {"value": "hat", "items": 2, "splits": {"test": 1, "train": 1}},
        {"value": None, "items": 1, "splits": {"train": 1}},
    ]
    # A missing label is no class.
    assert found["class_balance"]["values"] == 2
    table = stage.class_balance_table(found)
    assert table.rows() == [("boot", 2, 0.4), ("hat", 2, 0.4)]


def test_missing_values_and_richness() -> None:
    found = report(
        [
            {"image_sha256": "p", "label": "hat", "language": "en", "author": "Ada", "title": "a", "description": "b"},
            {"image_sha256": "p", "label": "hat", "language": "und", "title": "a"},  # 'und' is no known language
            {"label": "hat", "licence": "MIT", "description": "b"},
            {},
        ]
    )  # fmt: skip
    assert found["missing"] == {
        "image_sha256": 2, "label": 1, "label_source": 4, "language": 2, "licence": 3, "author": 3, "title": 2,
        "description": 2,
    }  # fmt: skip
    assert found["richness"] == {
        "picture": 0.5, "label": 0.75, "known_language": 0.25, "author": 0.25, "text 'title'": 0.5,
        "text 'description'": 0.5, "everything": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize("names", [(), ("title", "description")])
def test_an_empty_table_gives_zeros_and_no_error(names: tuple[str, ...]) -> None:
    found = report([], names=names)
    assert found["counts"] == {"raw_items": 0, "released_items": 0, "removed_items": 0, "splits": []}
    assert found["class_balance"] == {"values": 0}
    assert found["images"] == {"pictures": 0}
    assert found["drift"] == []
    assert found["duplication"]["leak_groups"] == {"groups": 0, "largest": 0, "alone": 0}
    assert set(found["richness"].values()) == {0.0}
    assert sorted(found["texts"]) == sorted(names)
    for text in found["texts"].values():
        assert (text["items"], text["chars"], text["chars_histogram"], text["type_token_ratio"]) == (
            0, None, None, None,
        )  # fmt: skip
    assert stage.class_balance_table(found).height == 0


def test_duplication_counts_groups_and_their_sizes() -> None:
    found = report(
        [
            {"duplicate_group": "a", "leak_group": "x", "image_sha256": "p", "title": "one"},
            {"duplicate_group": "a", "leak_group": "x", "image_sha256": "p", "title": "two"},
            {"duplicate_group": "b", "leak_group": "x", "image_sha256": "q", "title": "two"},
            {"duplicate_group": "c", "leak_group": "y", "title": None},
        ],
        gone=removed(("duplicates", "duplicate", "00"), ("clean", "label_missing", "")),
        names=("title",),
    )
    assert found["duplication"] == {
        "removed_as_duplicates": 1,
        "items_without_a_duplicate": 0.5,
        "distinct_pictures": 2,
        "distinct_texts": {"title": 2},
        "duplicate_group_sizes": [{"size": 1, "groups": 2}, {"size": 2, "groups": 1}],
        "leak_groups": {"groups": 2, "largest": 3, "alone": 1},
    }


# -- balance -------------------------------------------------------------------------------


def test_balance_of_four_equal_classes() -> None:
    found = report([{"label": label} for label in "abcd"])["class_balance"]
    assert found == {
        "values": 4, "entropy_bits": 2.0, "evenness": 1.0, "effective_classes": 4.0, "gini": 0.0,
        "imbalance_ratio": 1.0, "largest": 1, "smallest": 1,
        "largest_tenth_share": 0.25, "rare_values": 4, "rare_below": 10,
    }  # fmt: skip


def test_balance_of_unequal_classes() -> None:
    # Shares 1/8, 1/8, 1/4, 1/2: entropy 3/8 + 3/8 + 1/2 + 1/2 = 1.75 bits.
    # Gini: 2 * (1*1 + 2*1 + 3*2 + 4*4) / (4*8) - 5/4 = 50/32 - 40/32.
    found = report([{"label": label} for label in "abccdddd"])["class_balance"]
    assert found["entropy_bits"] == 1.75
    assert found["evenness"] == 0.875
    assert found["effective_classes"] == pytest.approx(2**1.75, rel=1e-5)
    assert found["gini"] == 0.3125
    assert (found["imbalance_ratio"], found["largest"], found["smallest"]) == (4.0, 4, 1)


def test_balance_of_one_class_has_no_evenness() -> None:
    found = report([{"label": "a"}, {"label": "a"}])["class_balance"]
    assert (found["entropy_bits"], found["evenness"], found["effective_classes"], found["gini"]) == (
        0.0, None, 1.0, 0.0,
    )  # fmt: skip
    assert math.copysign(1, found["entropy_bits"]) == 1  # not "-0.0"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
@settings(deadline=None, max_examples=40)
def test_balance_agrees_with_the_definitions(counts: list[int]) -> None:
    frame = pl.LazyFrame({"label": [f"c{place}" for place, n in enumerate(counts) for _ in range(n)]})
    found = stage.balance(frame, "label")
    shares = [n / sum(counts) for n in counts]
    mean_difference = sum(abs(a - b) for a in counts for b in counts) / len(counts) ** 2
    assert found["gini"] == pytest.approx(mean_difference / (2 * sum(counts) / len(counts)), abs=1e-5)
    assert found["entropy_bits"] == pytest.approx(-sum(s * math.log2(s) for s in shares), rel=1e-4, abs=1e-5)


# -- texts ---------------------------------------------------------------------------------


def test_texts_are_measured_in_characters_and_words() -> None:
    found = report([{"title": "Red hat"}, {"title": "RED, red!"}, {"title": "Été"}, {}], names=("title",))
    text = found["texts"]["title"]
    assert (text["items"], text["distinct"]) == (3, 3)
    assert text["chars"] == {
        "min": 3.0, "q05": 3.4, "q25": 5.0, "median": 7.0, "q75": 8.0, "q95": 8.8, "max": 9.0, "mean": 6.33333,
    }  # fmt: skip
    assert text["words"]["max"] == 2
    assert (text["vocabulary"], text["running_words"], text["words_seen_once"]) == (3, 5, 2)
    assert text["type_token_ratio"] == 0.6
    assert text["top_words"] == [
        {"value": "red", "items": 3}, {"value": "hat", "items": 1}, {"value": "été", "items": 1},
    ]  # fmt: skip


def test_top_words_are_cut_where_the_settings_say() -> None:
    found = report([{"title": "b a c a"}], names=("title",), top_words=2)["texts"]["title"]
    assert [row["value"] for row in found["top_words"]] == ["a", "b"]
    assert found["vocabulary"] == 3


def test_words_of_scripts_with_combining_marks_stay_whole() -> None:
    # Hindi vowel signs and Arabic marks are no letters (\p{L}), but belong to the word.
    found = report([{"title": "हिन्दी كِتَاب"}], names=("title",))["texts"]["title"]
    assert found["running_words"] == 2


def test_a_text_without_any_word_has_characters_only() -> None:
    found = report([{"title": "!?"}], names=("title",))["texts"]["title"]
    assert (found["items"], found["running_words"], found["vocabulary"]) == (1, 0, 0)
    assert found["type_token_ratio"] is None
    assert found["top_words"] == []


# -- histograms ----------------------------------------------------------------------------


def test_a_histogram_of_whole_numbers_has_bins_of_equally_many_whole_numbers() -> None:
    # 1..8 in 4 bins: 1-2, 3-4, 5-6, 7-8.
    found = stage.histogram(pl.Series([1, 2, 3, 3, 4, 6, 7, 8]), bins=4)
    assert found == {"edges": [1.0, 3.0, 5.0, 7.0, 9.0], "counts": [2, 3, 1, 2]}


def test_the_last_bin_of_a_histogram_takes_the_tail() -> None:
    # The 99 % quantile of 0..99 and one 10,000 is 99: the outlier is counted, and widens nothing.
    found = stage.histogram(pl.Series([*range(100), 10_000]), bins=10)
    assert found == {"edges": [float(edge) for edge in range(0, 101, 10)], "counts": [10] * 9 + [11]}
    real = stage.histogram(pl.Series([0.0] * 100 + [1.0] * 100 + [500.0]), bins=2)
    assert real == {"edges": [0.0, 0.5, 1.0], "counts": [100, 101]}


@pytest.mark.parametrize("values", [[7], [7, 7, 7], [0.5], [0.5, 0.5]])
def test_a_histogram_of_one_value_has_width(values: list[float]) -> None:
    found = stage.histogram(pl.Series(values))
    assert found is not None
    assert sum(found["counts"]) == len(values)
    assert all(a < b for a, b in zip(found["edges"], found["edges"][1:], strict=False))


def test_no_values_give_no_histogram() -> None:
    assert stage.histogram(pl.Series([None, None], dtype=pl.Int64)) is None
    assert stage.histogram(pl.Series([], dtype=pl.Float32)) is None


@given(
    st.one_of(
        st.lists(st.integers(-50, 5000), min_size=1, max_size=80),
        st.lists(st.floats(-10, 1e4, width=32), min_size=1, max_size=80),
    )
)
@settings(deadline=None, max_examples=80)
def test_a_histogram_counts_every_value_once_and_in_its_bin(values: list[float]) -> None:
    found = stage.histogram(pl.Series(values))
    assert found is not None
    edges, counts = found["edges"], found["counts"]
    assert len(edges) == len(counts) + 1 <= stage.HISTOGRAM_BINS + 1
    assert sum(counts) == len(values)
    assert edges[0] == pytest.approx(min(values), rel=1e-5)
    if all(isinstance(value, int) for value in values):
        for low, high, count in zip(edges[:-1], [*edges[1:-1], math.inf], counts, strict=True):
            assert count == sum(low <= value < high for value in values)


# -- pictures ------------------------------------------------------------------------------


def test_a_picture_counts_once_however_many_items_and_files_show_it() -> None:
    found = report(
        [{"image_sha256": "p"}, {"image_sha256": "p"}, {"image_sha256": "q"}, {}],
        # The file of p lies there twice; r belongs to no item.
        [
            {"sha256": "p", "width_px": 200, "height_px": 100},
            {"sha256": "p", "width_px": 200, "height_px": 100},
            {"sha256": "q", "width_px": 1000, "height_px": 2000, "format": "JPEG", "brightness": 255.0},
            {"sha256": "r", "width_px": 9999},
        ],
    )["images"]
    assert found["pictures"] == 2
    assert found["width_px"]["max"] == 1000
    assert (found["megapixels"]["min"], found["megapixels"]["max"]) == (0.02, 2.0)
    assert (found["aspect_ratio"]["min"], found["aspect_ratio"]["max"]) == (0.5, 2.0)
    assert found["formats"] == [{"value": "JPEG", "items": 1}, {"value": "PNG", "items": 1}]
    assert sum(found["brightness_histogram"]["counts"]) == 2


# -- train against test --------------------------------------------------------------------


def drift_of(rows: list[dict[str, Any]], feature: str, pictures: list[dict[str, Any]] | None = None) -> Any:
    found = {row["feature"]: row["effect"] for row in report(rows, pictures)["drift"]}
    return found.get(feature)


def rows_of(train: list[Any], test: list[Any], column: str) -> list[dict[str, Any]]:
    return [{"split": "train", column: v} for v in train] + [{"split": "test", column: v} for v in test]


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ("aabb", "ab", 0.0),  # the same shares
        ("aa", "bb", 1.0),  # nothing in common
        # Table [[3, 1], [1, 3]]: chi-square 8 * (9 - 1)^2 / 4^4 = 2, V = sqrt(2 / 8).
        ("aaab", "abbb", 0.5),
    ],
)
def test_cramers_v_by_hand(train: str, test: str, expected: float) -> None:
    assert drift_of(rows_of(list(train), list(test), "label"), "label") == expected


def test_cramers_v_needs_two_values_and_both_splits() -> None:
    assert drift_of(rows_of(["a", "a"], ["a"], "label"), "label") is None
    assert drift_of(rows_of(["a", "b"], [], "label"), "label") is None
    # A label missing everywhere in one split leaves nothing to compare; validation has no say.
    rows = [*rows_of(["a", "b"], [None, None], "label"), {"split": "validation", "label": "b"}]
    assert drift_of(rows, "label") is None


def test_kolmogorov_smirnov_by_hand() -> None:
    # Up to length 2: three quarters of train, a quarter of test.
    train, test = ["a", "bb", "cc", "dddd"], ["aa", "bbbb", "cccc", "dddd"]
    assert drift_of(rows_of(train, test, "title"), "length of 'title'") == 0.5
    assert drift_of(rows_of(["a"], [None], "title"), "length of 'title'") is None


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30)
)
@settings(deadline=None, max_examples=30)
def test_effect_sizes_agree_with_their_definitions(train: list[int], test: list[int]) -> None:
    from scipy.stats.contingency import association

    frame = pl.LazyFrame(
        {"split": ["train"] * len(train) + ["test"] * len(test), "value": [*train, *test]}
    ).with_columns(name=pl.col("value").cast(pl.String))
    shares = [[np.mean(np.array(part) <= value) for part in (train, test)] for value in range(7)]
    assert stage._ks_distance(frame, "value") == pytest.approx(max(abs(a - b) for a, b in shares), abs=1e-5)
    values = sorted({*train, *test})
    table = np.array([[part.count(value) for part in (train, test)] for value in values])
    found = stage._cramers_v(frame, "name")
    if len(values) < 2:
        assert found is None
    else:
        assert found == pytest.approx(association(table, method="cramer"), abs=1e-6)


def test_picture_drift_weighs_a_picture_by_its_items() -> None:
    rows = [*rows_of(["p", "p", "q"], ["q"], "image_sha256")]
    pictures = [{"sha256": "p", "brightness": 10.0}, {"sha256": "q", "brightness": 200.0}]
    assert drift_of(rows, "brightness", pictures) == pytest.approx(2 / 3, abs=1e-5)


# -- laws ----------------------------------------------------------------------------------


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(5)
    rows = [
        {
            "item_id": f"{number:03}", "split": str(generator.choice(["train", "test"])),
            "label": str(generator.choice(["a", "b", "c"])), "language": str(generator.choice(["en", "de"])),
            "title": "word " * int(generator.integers(1, 9)), "image_sha256": f"p{number % 7}",
        }
        for number in range(40)
    ]  # fmt: skip
    pictures = [{"sha256": f"p{number}", "brightness": float(number)} for number in range(7)]
    first = report(rows, pictures)
    assert report(rows[::-1], pictures[::-1]) == first


# -- what does not depend on size ----------------------------------------------------------


def test_expected_vocabulary_is_the_mean_over_all_samples() -> None:
    words = "aaabbc"
    samples = list(itertools.combinations(range(len(words)), 3))
    mean = sum(len({words[i] for i in sample}) for sample in samples) / len(samples)
    assert stage.rarefied(np.array([3, 2, 1]), 3) == pytest.approx(mean, abs=1e-6)


@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=30), size=st.integers(1, 2000))
@settings(max_examples=60, deadline=None)
def test_expected_vocabulary_has_its_bounds_and_grows_with_the_sample(counts: list[int], size: int) -> None:
    found = stage.rarefied(np.array(counts), size)
    assert 1 - 1e-6 <= found <= min(len(counts), size) + 1e-6
    assert found <= stage.rarefied(np.array(counts), size + 1) + 1e-6
    if size >= sum(counts):
        assert found == pytest.approx(len(counts), abs=1e-6)


def test_expected_vocabulary_compares_datasets_of_different_size() -> None:
    small = report([{"title": f"word{i % 40} red"} for i in range(1000)])["texts"]["title"]
    large = report([{"title": f"word{i % 40} red"} for i in range(4000)])["texts"]["title"]
    assert small["type_token_ratio"] == pytest.approx(4 * large["type_token_ratio"], rel=0.01)
    assert small["expected_vocabulary"] == pytest.approx(large["expected_vocabulary"], rel=0.01)
    assert small["words_in_sample"] == 1000


def test_profiles_say_what_the_items_of_a_value_are_like() -> None:
    found = report(
        [
            {"label": "hat", "image_sha256": "p", "leak_group": "x", "title": "one", "language": "en"},
            {"label": "hat", "image_sha256": "p", "leak_group": "x", "title": "eleven", "language": "de"},
            {"label": None, "leak_group": "y"},
            {"label": "bag", "image_sha256": "q", "leak_group": "z", "title": "z"},
            {"label": "bag", "image_sha256": "r", "leak_group": "z"},
        ],
        names=("title",),
    )["profiles"]
    assert found["label"] == [
        {"value": "bag", "items": 2, "pictures": 2, "groups": 1, "chars": {"title": 1.0}},
        {"value": "hat", "items": 2, "pictures": 1, "groups": 1, "chars": {"title": 4.5}},
        {"value": None, "items": 1, "pictures": 0, "groups": 1, "chars": {"title": None}},
    ]
    assert [row["value"] for row in found["source"]] == ["shop"]


def test_the_tail_of_a_balance() -> None:
    rows = [{"label": f"c{i:02}"} for i in range(20) for _ in range(30 if i < 2 else 5 if i < 5 else 10)]
    found = report(rows)["class_balance"]
    assert found["largest_tenth_share"] == pytest.approx(60 / 225, abs=1e-6)
    assert found["rare_values"] == 3
