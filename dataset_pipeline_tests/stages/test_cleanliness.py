"""How near test is to train, and the price of cleanliness: crafted numbers, and slow versions beside the fast ones."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import DatasetConfig, Duplicates, ImageDuplicates, Source, Split, TextDuplicates
from dataset_pipeline.stages import cleanliness as stage
from dataset_pipeline.stages.cleanliness import (
    cleanliness_report,
    nearest_in_train,
    other_clean_split,
    price,
    random_split,
)
from dataset_pipeline.stages.leakage import audit_leakage
from dataset_pipeline.stages.similarity import Pixels, compare_pictures, components
from dataset_pipeline.tables import IMAGES, ITEMS, PAIRS, SPLIT_ITEMS
from dataset_pipeline_tests.stages.crafted import brighter, drifted, repainted, smooth, thumbnails_as_images

NO_IMAGES = pl.LazyFrame(schema=dict(IMAGES))
NO_PAIRS = pl.LazyFrame(schema=dict(PAIRS))
SETTINGS = Duplicates()


def config(**duplicates: Any) -> DatasetConfig:
    source = Source(id="s", path="x.csv", licence="CC0-1.0")
    return DatasetConfig(
        name="d", version="1.0.0", licence="CC0-1.0", sources=(source,), duplicates=Duplicates(**duplicates)
    )


def split_items(rows: Sequence[dict[str, Any]]) -> pl.LazyFrame:
    made = [
        {"item_id": f"i{number:03}", "group_keys": [], "leak_group": f"i{number:03}", **row}
        for number, row in enumerate(rows)
    ]
    return pl.LazyFrame(made, schema={**SPLIT_ITEMS, "title": pl.String()})


def cleaned_items(rows: Sequence[dict[str, Any]]) -> pl.LazyFrame:
    made = [{"item_id": f"i{number:03}", "group_keys": [], **row} for number, row in enumerate(rows)]
    return pl.LazyFrame(made, schema={**ITEMS, "title": pl.String()})


def by_threshold(found: dict[str, Any], rule: str = "configured") -> dict[float, dict[str, Any]]:
    return {row["threshold"]: row for row in found["rows"] if row["rule"] == rule}


def correlation(thumbnails: Pixels, i: int, j: int) -> float:
    """What ``similarity`` says of one pair; that it says right is tested there."""
    return float(compare_pictures(thumbnails, np.array([i]), np.array([j])).similarity[0])


# -- how near test is to train -------------------------------------------------------------


def test_the_nearest_training_picture_counts() -> None:
    base = smooth(0, 3)
    # 0 is tested; 3 is nearest to it, 4 is nearer but in validation, 1 is tested and in train.
    pictures = np.concatenate([base, repainted(base[:1], 150), repainted(base[:1], 20)])
    places = [("test", 0), ("test", 1), ("train", 1), ("train", 2), ("train", 3), ("validation", 4)]
    items = split_items([{"split": split, "image_sha256": f"p{at}"} for split, at in places])
    images = thumbnails_as_images(pictures, [f"p{at}" for at in range(5)])
    found = nearest_in_train(items, images, ("title",), config())
    assert list(found) == ["image"]  # nobody has a text
    side = found["image"]["this_split"]
    nearest = correlation(pictures, 0, 3)
    assert 0.8 < nearest < 0.98 < correlation(pictures, 0, 4)
    assert (side["in_test"], side["compared"], side["identical"]) == (2, 2, 0.5)
    assert side["quantiles"]["min"] == pytest.approx(nearest, abs=1e-4)
    assert side["quantiles"]["max"] == 1
    edges, counts = found["image"]["edges"], side["histogram"]
    assert sum(counts) == 2
    assert counts[-1] == 1  # the identical one, in the bin that ends at 1
    assert counts[np.searchsorted(edges, nearest) - 1] == 1


def test_a_picture_of_one_colour_is_identical_to_itself_and_like_no_other() -> None:
    flat = np.full((2, smooth(0, 1).shape[1]), 90, np.uint8)
    flat[1] = 200
    items = split_items(
        [{"split": split, "image_sha256": name} for split, name in (("test", "a"), ("train", "b"))]
    )
    found = nearest_in_train(items, thumbnails_as_images(flat, ["a", "b"]), (), config())
    assert found["image"]["this_split"]["quantiles"]["max"] == 0
    both = split_items(
        [{"split": split, "image_sha256": name} for split, name in (("test", "a"), ("train", "a"))]
    )
    found = nearest_in_train(both, thumbnails_as_images(flat, ["a", "b"]), (), config())
    assert found["image"]["this_split"]["identical"] == 1


def test_two_files_of_equal_thumbnails_are_not_called_identical() -> None:
    same = np.concatenate([smooth(4, 1)] * 2)
    images = thumbnails_as_images(same, ["a", "b"]).with_columns(pixel_hash="sha256")
    items = split_items(
        [{"split": split, "image_sha256": name} for split, name in (("test", "a"), ("train", "b"))]
    )
    side = nearest_in_train(items, images, (), config())["image"]["this_split"]
    assert (side["identical"], side["quantiles"]["max"], side["at_threshold"]) == (0, 0.9999, 1)


@pytest.mark.parametrize("rows", [2, 1024])
def test_pictures_as_the_slow_version_finds_them(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(stage, "_ROWS", rows)
    monkeypatch.setattr(stage, "_LOADED_AT_ONCE", 7)
    count = 24
    pictures = smooth(1, count)
    splits = ["train", "test", "train"] * 16
    table = split_items(
        [{"split": split, "image_sha256": f"p{at % count}"} for at, split in enumerate(splits)]
    )
    found = nearest_in_train(
        table, thumbnails_as_images(pictures, [f"p{at}" for at in range(count)]), (), config()
    )
    frame = table.sort("item_id").collect()
    for name, assigned in (("this_split", frame["split"]), ("random_split", random_split(frame, 0))):
        where = {
            split: {at % count for at, here in enumerate(assigned.to_list()) if here == split}
            for split in ("train", "test")
        }
        nearest = [max(correlation(pictures, i, j) for j in where["train"]) for i in where["test"]]
        side = found["image"][name]
        assert side["in_test"] == len(where["test"])
        assert side["identical"] == pytest.approx(len(where["test"] & where["train"]) / len(where["test"]))
        assert side["quantiles"]["median"] == pytest.approx(np.median(nearest), abs=2e-4)
        assert side["quantiles"]["min"] == pytest.approx(min(nearest), abs=2e-4)


def slow_jaccard(one: str, other: str, chars: int = 4) -> float:
    a, b = ({text[at : at + chars] for at in range(len(text) - chars + 1)} for text in (one, other))
    return len(a & b) / len(a | b) if a and b else float(one == other)


words = st.text(alphabet="ab ", min_size=1, max_size=9).map(lambda text: text + "x")


@given(st.lists(st.tuples(st.sampled_from(["train", "test"]), words), min_size=2, max_size=16))
@settings(deadline=None, max_examples=60)
def test_texts_as_the_slow_version_finds_them(rows: list[tuple[str, str]]) -> None:
    items = split_items([{"split": split, "title": text} for split, text in rows])
    found = nearest_in_train(items, NO_IMAGES, ("title",), config())
    keyed = [(split, " ".join(text.split())) for split, text in rows]
    train, test = ({text for split, text in keyed if split == wanted} for wanted in ("train", "test"))
    if not train or not test:
        assert found == {}
        return
    # Every item has a text, so the random split, of the same sizes, has something to compare too.
    nearest = [max(slow_jaccard(one, other) for other in train) for one in test]
    side = found["text"]["this_split"]
    assert side["in_test"] == len(test)
    assert side["identical"] == pytest.approx(len(test & train) / len(test), abs=1e-6)
    assert side["quantiles"]["median"] == pytest.approx(np.median(nearest), abs=2e-4)
    assert side["quantiles"]["max"] == pytest.approx(max(nearest), abs=2e-4)


def test_a_random_split_has_the_twins_that_this_split_lacks() -> None:
    # 40 pictures with two captions each, kept together here.
    texts = [f"caption of a thing number {number:03}" for number in range(40)]
    rows = [
        {"split": "test" if number < 8 else "train", "image_sha256": f"p{number}", "title": f"{text} {copy}"}
        for number, text in enumerate(texts)
        for copy in "ab"
    ]
    images = thumbnails_as_images(smooth(2, 40), [f"p{number}" for number in range(40)])
    found = nearest_in_train(split_items(rows), images, ("title",), config())
    assert found["image"]["this_split"]["identical"] == 0
    assert found["image"]["random_split"]["identical"] > 0.5
    assert found["text"]["this_split"]["identical"] == found["text"]["random_split"]["identical"] == 0
    assert (
        found["text"]["random_split"]["quantiles"]["median"]
        > found["text"]["this_split"]["quantiles"]["median"]
    )


def test_beyond_the_bound_a_sample_of_the_test_split_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "COMPARISONS", 50)
    rows = [
        {"split": "test" if at % 2 else "train", "title": f"a long enough text {at:03}"} for at in range(40)
    ]
    found = nearest_in_train(split_items(rows), NO_IMAGES, ("title",), config())
    for side in ("this_split", "random_split"):
        assert found["text"][side]["in_test"] == 20
        assert found["text"][side]["compared"] == 2  # 50 comparisons with 20 training texts
        assert sum(found["text"][side]["histogram"]) == 2
    assert "random sample" in found["text"]["method"]
    assert found == nearest_in_train(split_items(rows), NO_IMAGES, ("title",), config())


def test_parts_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"split": "test" if at % 3 else "train", "title": f"text {at % 5} {at % 7} of some length"}
        for at in range(60)
    ]
    whole = nearest_in_train(split_items(rows), NO_IMAGES, ("title",), config())
    monkeypatch.setattr(stage, "_PRODUCTS_AT_ONCE", 3)
    monkeypatch.setattr(stage, "_LOADED_AT_ONCE", 4)
    assert nearest_in_train(split_items(rows), NO_IMAGES, ("title",), config()) == whole


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"split": "train", "title": "only train has a text"}, {"split": "test"}],
        [{"split": "test", "title": "only test has a text"}, {"split": "train"}],
        [{"split": "train"}, {"split": "test"}],
    ],
    ids=["nothing", "no text in test", "no text in train", "no texts"],
)
def test_where_there_is_nothing_to_compare_there_is_no_number(rows: list[dict[str, Any]]) -> None:
    assert nearest_in_train(split_items(rows), NO_IMAGES, ("title",), config()) == {}


def test_the_random_split_is_the_one_that_the_audit_counts() -> None:
    rows = [
        {"split": ("train", "train", "test")[at % 3], "image_sha256": f"p{at % 7}", "title": f"t{at}"}
        for at in range(30)
    ]
    items = split_items(rows)
    images = thumbnails_as_images(smooth(3, 7), [f"p{at}" for at in range(7)])
    wanted = audit_leakage(items, images, ("title",), config()).report["random_by_kind"]["same_bytes"]
    frame = items.sort("item_id").collect()
    splits = random_split(frame, 0).to_list()
    files = frame["image_sha256"].to_list()
    crossing = sum(
        files[i] == files[j] and splits[i] != splits[j] for i, j in itertools.combinations(range(30), 2)
    )
    assert crossing == wanted > 0


# -- the price of cleanliness --------------------------------------------------------------


def test_pictures_by_all_rules_and_by_similarity_alone() -> None:
    base = smooth(5, 2)
    # 0 and 2 differ in brightness; 3 is 0 with one block changed: it correlates but is another picture.
    pictures = np.concatenate([base, brighter(base[:1], 8), repainted(base[:1], 90)])
    assert 0.95 < correlation(pictures, 0, 3) < 0.999
    rows = [
        {"image_sha256": f"p{at}", "label": label, "title": title}
        for at, label, title in [
            (0, "hat", "x"), (0, "hat", "y"), (1, "boot", "x"), (2, "hat", "x"), (3, "hat", "x"),
        ]
    ] + [{"label": "boot", "title": "no picture"}]  # fmt: skip
    images = thumbnails_as_images(pictures, [f"p{at}" for at in range(4)])
    found = price(cleaned_items(rows), NO_PAIRS, images, ("title",), SETTINGS)
    assert found["items"] == 6
    assert found["image"]["threshold"] == 0.98
    configured = by_threshold(found["image"])
    alone = by_threshold(found["image"], "similarity alone")
    assert sorted(configured) == sorted(alone) == sorted(stage.IMAGE_THRESHOLDS)
    # Identical pictures only: {0, 0}, {1}, {2}, {3}, and the item without a picture.
    strict = {"rule": "configured", "threshold": 1.0, "pairs": 0, "groups": 5, "largest_group": 2}
    assert {key: configured[1.0][key] for key in strict} == strict
    assert configured[1.0]["items_merged"] == 6
    # Of all pictures, 0 and 2 are one; 0 and 2 with the text 'x' would be one item.
    for threshold in (0.98, 0.9):
        loose = configured[threshold]
        assert (loose["pairs"], loose["groups"], loose["largest_group"]) == (1, 4, 3)
        assert loose["items_merged"] == 5
    assert (alone[0.9]["pairs"], alone[0.9]["groups"], alone[0.9]["largest_group"]) == (3, 3, 4)
    assert alone[0.9]["items_merged"] == 4
    # One hat and two boots are left: two to the entropy of 1/3 and 2/3.
    assert alone[0.9]["effective_classes"] == pytest.approx(2 ** (np.log2(3) - 2 / 3), abs=1e-4)


def test_pairs_that_only_the_search_has_found_count_too() -> None:
    # A cropped copy, say, does not correlate as it is.
    images = thumbnails_as_images(smooth(11, 3), ["a", "b", "c"])
    rows = [{"image_sha256": name} for name in "abc"]
    pairs = pl.LazyFrame([("i000", "i002", "near_image", 0.992)], schema=dict(PAIRS), orient="row")
    found = price(cleaned_items(rows), pairs, images, (), SETTINGS)["image"]
    configured, alone = by_threshold(found), by_threshold(found, "similarity alone")
    assert [(configured[at]["pairs"], configured[at]["groups"]) for at in (0.995, 0.99, 0.9)] == [
        (0, 3), (1, 2), (1, 2),
    ]  # fmt: skip
    assert alone[0.9]["pairs"] == 0


def test_a_pair_that_both_have_found_counts_once() -> None:
    base = smooth(12, 1)
    images = thumbnails_as_images(np.concatenate([base, brighter(base, 5)]), ["a", "b"])
    rows = [{"image_sha256": name} for name in "ab"]
    pairs = pl.LazyFrame([("i000", "i001", "near_image", 0.99)], schema=dict(PAIRS), orient="row")
    found = by_threshold(price(cleaned_items(rows), pairs, images, (), SETTINGS)["image"])
    assert (found[0.98]["pairs"], found[0.98]["groups"]) == (1, 1)


def test_texts_by_hand() -> None:
    # Shingles of 4: 'abcdefghij' has 7, and one letter more gives 8, of which 7 are shared: 0.875.
    rows = [
        {"title": title} for title in ("abcdefghij", "abcdefghijk", "abcdefghijk", "zyxwvutsrq", "abc", "abc")
    ]
    found = price(
        cleaned_items(rows), NO_PAIRS, NO_IMAGES, ("title",), Duplicates(text=TextDuplicates(min_chars=4))
    )
    assert "image" not in found
    assert found["effective_classes"] is None
    rows_by = by_threshold(found["text"])
    assert sorted(rows_by) == sorted(stage.TEXT_THRESHOLDS)
    assert [(rows_by[at]["pairs"], rows_by[at]["groups"]) for at in (1.0, 0.9, 0.85, 0.5)] == [
        (0, 4), (0, 4), (1, 3), (1, 3),
    ]  # fmt: skip
    assert rows_by[0.85]["largest_group"] == 3


def test_texts_too_short_to_link_leave_their_items_apart() -> None:
    rows = [{"title": title} for title in ("abc", "abc", "a longer title", "a longer title")]
    found = price(cleaned_items(rows), NO_PAIRS, NO_IMAGES, ("title",), SETTINGS, min_link_text_chars=4)
    assert by_threshold(found["text"])[1.0]["groups"] == 3


def test_columns_that_keep_items_apart() -> None:
    rows = [{"title": "the same title", "language": language} for language in ("en", "de", "de")]
    found = price(cleaned_items(rows), NO_PAIRS, NO_IMAGES, ("title",), SETTINGS)
    row = by_threshold(found["text"])[1.0]
    assert (row["groups"], row["items_merged"]) == (1, 2)


def test_a_configured_threshold_is_among_the_rows() -> None:
    images = thumbnails_as_images(smooth(6, 3), ["a", "b", "c"])
    rows = [{"image_sha256": name} for name in "abc"]
    settings = Duplicates(image=ImageDuplicates(min_similarity=0.973))
    found = price(cleaned_items(rows), NO_PAIRS, images, (), settings)
    assert 0.973 in by_threshold(found["image"])


def test_beyond_the_bounds_the_known_pairs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MEASURED_PICTURES", 2)
    monkeypatch.setattr(stage, "MEASURED_SHINGLES", 2)
    images = thumbnails_as_images(smooth(7, 3), ["a", "b", "c"])
    rows = [{"image_sha256": name, "title": f"a title that is long enough {name}"} for name in "abc"]
    pairs = pl.LazyFrame(
        [
            ("i000", "i001", "near_image", 0.991),
            ("i001", "i002", "near_image", 0.982),
            ("i000", "i001", "near_text", 0.87),
            ("i000", "gone", "near_text", 0.99),  # not among these items
        ],
        schema=dict(PAIRS),
        orient="row",
    )
    found = price(cleaned_items(rows), pairs, images, ("title",), SETTINGS)
    assert "from the configured threshold on" in found["image"]["method"]
    assert "from the configured threshold on" in found["text"]["method"]
    image, text = by_threshold(found["image"]), by_threshold(found["text"])
    assert {at: row["groups"] for at, row in image.items()} == {
        0.98: 1, 0.985: 2, 0.99: 2, 0.995: 3, 0.999: 3, 1.0: 3,
    }  # fmt: skip
    assert {at: row["pairs"] for at, row in text.items()} == {0.85: 1, 0.9: 0, 0.95: 0, 1.0: 0}
    assert not by_threshold(found["image"], "similarity alone")


def test_thresholds_with_too_many_pairs_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MEASURED_PAIRS", 1)
    base = smooth(8, 1)
    pictures = np.concatenate([base, repainted(base, 90), repainted(base, 90, (1, 5)), drifted(base, 10)])
    images = thumbnails_as_images(pictures, list("abcd"))
    rows = [{"image_sha256": name} for name in "abcd"]
    found = price(cleaned_items(rows), NO_PAIRS, images, (), SETTINGS)["image"]
    kept = sorted(by_threshold(found))
    assert kept[-1] == 1
    assert kept[0] > 0.9
    assert f"below {kept[0]:g}" in found["method"]
    assert by_threshold(found, "similarity alone")[kept[0]]["pairs"] <= 1


def test_near_duplicates_that_are_switched_off_are_not_looked_for() -> None:
    base = smooth(9, 1)
    images = thumbnails_as_images(np.concatenate([base, brighter(base, 5)]), ["a", "b"])
    rows = [{"image_sha256": name, "title": "one title that is long enough"} for name in "ab"]
    settings = Duplicates(image=ImageDuplicates(near=False), text=TextDuplicates(near=False))
    found = price(cleaned_items(rows), NO_PAIRS, images, ("title",), settings)
    assert {row["groups"] for row in found["image"]["rows"]} == {2}
    assert {row["groups"] for row in found["text"]["rows"]} == {1}


edges = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.9, 0.93, 0.95, 0.98, 0.9999])),
    max_size=40,
).map(
    lambda listed: [
        edge for edge in {(min(e[:2]), max(e[:2])): e for e in listed}.values() if edge[0] != edge[1]
    ]
)


@given(edges)
@settings(deadline=None, max_examples=60)
def test_a_forest_has_the_components_of_all_pairs(listed: list[tuple[int, int, float]]) -> None:
    thresholds = (0.9, 0.95, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_EDGES_AT_ONCE", 3)
        forest = stage._Forest(10, thresholds)
        for start in range(0, len(listed), 2):
            part = listed[start : start + 2]
            left, right = (np.array([min(e[:2]) for e in part]), np.array([max(e[:2]) for e in part]))
            forest.add(left, right, np.array([e[2] for e in part]))
        for threshold in thresholds:
            holding = [e for e in listed if e[2] >= threshold]
            wanted = components(
                10, np.array([e[0] for e in holding], np.int64), np.array([e[1] for e in holding], np.int64)
            )
            assert forest.components(threshold).tolist() == wanted.tolist()
            assert forest.pairs(threshold) == len(holding)


def test_a_dataset_without_anything() -> None:
    found = cleanliness_report(split_items([]), cleaned_items([]), NO_PAIRS, NO_IMAGES, ("title",), config())
    assert found == {
        "nearest_in_train": {}, "price": {"items": 0, "effective_classes": None}, "seed": 0,
    }  # fmt: skip


# -- other splits --------------------------------------------------------------------------


def many(groups: int = 60) -> pl.DataFrame:
    rows = [
        {"label": "ab"[group % 2], "language": "en", "split": "train", "leak_group": f"g{group:03}"}
        for group in range(groups)
        for _ in range(3)
    ]
    return split_items(rows).sort("item_id").collect()


def test_another_clean_split_cuts_no_group_and_depends_on_the_seed_alone() -> None:
    items = many()
    first, again, other = (other_clean_split(items, Split(), seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.to_list() == again.to_list() != other.to_list()
    per_group = items.with_columns(split=first).group_by("leak_group").agg(pl.col("split").n_unique())
    assert per_group["split"].unique().to_list() == [1]
    assert sorted(first.unique()) == ["test", "train", "validation"]


def test_of_a_published_split_that_cannot_be_made_otherwise_there_is_no_other() -> None:
    items = many().with_columns(leak_group=pl.lit("g"), published_split="split")
    assert other_clean_split(items, Split(method="published"), 0) is None


def test_a_random_split_keeps_the_sizes() -> None:
    items = many().with_columns(split=pl.Series(["train"] * 150 + ["test"] * 30))
    made = random_split(items, 3)
    assert sorted(made) == sorted(items["split"])
    assert made.to_list() != items["split"].to_list()
    assert made.to_list() == random_split(items, 3).to_list()
