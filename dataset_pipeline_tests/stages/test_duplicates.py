"""Pairs that are found, which item stays, and the report; fast searches against brute force."""

import itertools
import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from dataset_pipeline.config import Duplicates, ImageDuplicates, TextDuplicates
from dataset_pipeline.stages import duplicates, pair_search, picture_pairs, similarity, text_pairs
from dataset_pipeline.stages.duplicates import Deduplicated, deduplicate, find_pairs
from dataset_pipeline.stages.similarity import Flags, Floats, Integers, Pixels
from dataset_pipeline.tables import DEDUPLICATED, IMAGES, PAIRS, REMOVED, empty
from dataset_pipeline_tests.pictures import encoded, labelled, picture
from dataset_pipeline_tests.stages.crafted import (
    brighter,
    drifted,
    items,
    repainted,
    scanned,
    smooth,
    thumbnails_as_images,
)

NO_IMAGES = pl.LazyFrame(schema={name: IMAGES[name] for name in IMAGES})
Row = dict[str, Any]


def pairs_of(
    rows: list[Row], images: pl.LazyFrame = NO_IMAGES, texts: tuple[str, ...] = ("title",), **options: Any
) -> list[tuple[str, str, str]]:
    found = find_pairs(items(rows, texts), images, texts, Duplicates(**options))
    assert dict(found.schema) == dict(PAIRS)
    assert (found["item_id"] < found["other_item_id"]).all()
    return found.select("item_id", "other_item_id", "kind").rows()


def run(
    rows: list[Row],
    images: pl.LazyFrame = NO_IMAGES,
    texts: tuple[str, ...] = ("title",),
    human_sources: tuple[str, ...] = ("human",),
    **options: Any,
) -> Deduplicated:
    table, chosen = items(rows, texts), Duplicates(**options)
    return deduplicate(table, images, find_pairs(table, images, texts, chosen), texts, chosen, human_sources)


def removed(result: Deduplicated) -> dict[str, str]:
    """Removed items and what each was removed for."""
    return dict(result.removed.select("item_id", "kept_item_id").collect().iter_rows())


def kept(result: Deduplicated) -> list[str]:
    return result.items.select("item_id").collect().to_series().to_list()


# -- pairs ---------------------------------------------------------------------------------


def test_exact_kinds_are_stars_around_the_first_item() -> None:
    original = picture(1)
    images = scanned(
        {"png": encoded(original), "other": encoded(original, compress_level=1), "far": encoded(picture(2))}
    )
    rows = [
        {"item_id": "c", "image_sha256": "png", "title": "Red shirt"},
        {"item_id": "a", "image_sha256": "png", "title": "something"},
        {"item_id": "b", "image_sha256": "other", "title": "red  SHIRT"},
        {"item_id": "d", "image_sha256": "png", "title": "red shirt "},
        {"item_id": "e", "image_sha256": "far", "title": None},
        {"item_id": "f", "image_sha256": None, "title": None},
    ]
    assert pairs_of(rows, images) == [
        ("a", "b", "same_pixels"),  # between files, each by its first item
        ("a", "c", "same_bytes"),
        ("a", "d", "same_bytes"),
        ("b", "c", "same_text"),
        ("b", "d", "same_text"),
    ]


def test_copies_of_a_picture_are_near_and_other_pictures_are_not() -> None:
    original = picture(1, (200, 150))
    files = {
        "a-original": encoded(original),
        "b-jpeg": encoded(original, "JPEG", quality=70),
        "c-half": encoded(original.resize((100, 75), Image.Resampling.LANCZOS)),
        "d-brighter": encoded(ImageEnhance.Brightness(original).enhance(1.08)),
        "e-other": encoded(picture(2, (200, 150))),
        "f-mirrored": encoded(original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    }
    rows = [{"item_id": name, "image_sha256": name} for name in files]
    found = pairs_of(rows, scanned(files), ())
    copies = ["a-original", "b-jpeg", "c-half", "d-brighter"]
    assert found == [(a, b, "near_image") for a, b in itertools.combinations(copies, 2)]


def test_blank_pictures_are_not_near_each_other() -> None:
    # Two sizes of white, another white, black: only the one that is there twice is a duplicate.
    files = {
        "a": encoded(Image.new("RGB", (64, 64), "white")),
        "b": encoded(Image.new("RGB", (64, 64), "white"), compress_level=0),
        "c": encoded(Image.new("RGB", (32, 32), "white")),
        "d": encoded(Image.new("RGB", (64, 64), "#fefefe")),
        "e": encoded(Image.new("RGB", (64, 64), "black")),
    }
    rows = [{"item_id": name, "image_sha256": name} for name in files]
    assert pairs_of(rows, scanned(files), ()) == [("a", "b", "same_pixels")]


def test_near_texts_need_enough_characters_and_enough_in_common() -> None:
    long = "a red cotton shirt with long sleeves and two pockets"
    rows = [
        {"item_id": "a", "title": long},
        {"item_id": "b", "title": long + "."},
        {"item_id": "c", "title": long.replace("red", "blue").replace("two", "four")},
        {"item_id": "d", "title": "red cotton shirt"},
        {"item_id": "e", "title": "red cotton shirts"},  # 13 of 14 shingles, but short
    ]
    assert pairs_of(rows) == [("a", "b", "near_text")]
    assert ("d", "e", "near_text") in pairs_of(rows, text={"min_chars": 10})
    assert pairs_of(rows, text={"near": False}) == []


def test_the_score_of_a_near_text_is_its_jaccard_similarity() -> None:
    # 24 letters have 21 shingles of 4; one more letter adds one.
    rows = [
        {"item_id": "a", "title": "abcdefghijklmnopqrstuvwx"},
        {"item_id": "b", "title": "abcdefghijklmnopqrstuvwxy"},
    ]
    found = find_pairs(items(rows), NO_IMAGES, ["title"], Duplicates())
    assert found.rows() == [("a", "b", "near_text", round(21 / 22, 6))]


def test_a_picture_or_text_of_many_items_is_compared_once() -> None:
    thumbnails = np.concatenate([smooth(1, 1), brighter(smooth(1, 1), 5)])
    images = thumbnails_as_images(thumbnails, ["x", "y"])
    rows = [{"item_id": f"{n}", "image_sha256": "xy"[n % 2]} for n in range(6)]
    kinds = [kind for _, _, kind in pairs_of(rows, images, ())]
    assert sorted(kinds) == ["near_image"] + ["same_bytes"] * 4


def test_nothing_is_near_when_switched_off() -> None:
    images = thumbnails_as_images(np.concatenate([smooth(1, 1), brighter(smooth(1, 1), 5)]), ["x", "y"])
    rows = [{"item_id": "a", "image_sha256": "x"}, {"item_id": "b", "image_sha256": "y"}]
    assert pairs_of(rows, images, (), image={"near": False}) == []


def test_no_items() -> None:
    assert pairs_of([]) == []
    result = run([])
    assert kept(result) == []
    assert removed(result) == {}


def test_pairs_do_not_depend_on_the_order_of_rows() -> None:
    base = smooth(1, 5)
    images = thumbnails_as_images(np.concatenate([base, brighter(base, 9)]), [f"{n}" for n in range(10)])
    title = "one of several long titles that are alike, number "
    rows = [{"item_id": f"i{n}", "image_sha256": f"{n % 10}", "title": f"{title}{n % 7}"} for n in range(30)]
    expected = pairs_of(rows, images)
    assert {kind for _, _, kind in expected} == {"same_bytes", "same_text", "near_image", "near_text"}
    random.Random(1).shuffle(rows)
    assert pairs_of(rows, images.reverse()) == expected


# -- searches against brute force ----------------------------------------------------------


@st.composite
def hashes(draw: st.DrawFn) -> list[int]:
    """64-bit numbers, most of them a few bits from another."""
    values = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6))
    for _ in range(draw(st.integers(0, 25))):
        value = draw(st.sampled_from(values))
        for bit in draw(st.lists(st.integers(0, 63), max_size=6)):
            value ^= 1 << bit
        values.append(value)
    return values


@given(hashes(), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_near_hashes_are_all_pairs_within_the_distance(values: list[int], distance: int) -> None:
    found = [
        (min(i, j), max(i, j))
        for left, right in picture_pairs._near_hashes(np.array(values, np.uint64), distance)
        for i, j in zip(left.tolist(), right.tolist(), strict=True)
    ]
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(len(values)), 2)
        if (values[i] ^ values[j]).bit_count() <= distance
    ]
    assert sorted(found) == expected  # each once


@given(st.lists(st.integers(0, 5), max_size=40))
@settings(deadline=None)
def test_equal_keys_are_paired_once_in_parts_of_any_size(keys: list[int]) -> None:
    expected = [(i, j) for i, j in itertools.combinations(range(len(keys)), 2) if keys[i] == keys[j]]
    for size in (1, 7, 1 << 17):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pair_search, "_CANDIDATES_AT_ONCE", size)
            parts = list(pair_search.pairs_with_equal_keys(np.array(keys, np.int64)))
        found = [(i, j) for left, right in parts for i, j in zip(left.tolist(), right.tolist(), strict=True)]
        assert sorted((min(pair), max(pair)) for pair in found) == expected


def crowd() -> tuple[Pixels, np.ndarray[Any, np.dtype[np.uint64]]]:
    """100 pictures in families of near copies, and pHashes: crowded classes, classes nearby, lone ones."""
    generator = np.random.default_rng(5)
    base = smooth(5, 20)
    noisy = np.clip(base + generator.normal(0, 8, base.shape), 0, 255).astype(np.uint8)
    # Four of each family are near each other in four ways; the fifth is another picture that looks like them.
    family = [base, brighter(base, 8), drifted(base, 12), noisy, repainted(base, 60)]
    codes = np.array([0, 1, 3, 1 << 40, 0xFFFF_0000_FFFF], np.uint64)
    return np.stack(family, axis=1).reshape(100, -1), codes[generator.integers(0, len(codes), 100)]


@pytest.mark.parametrize("large_class", [2, 1000])
def test_the_search_among_many_pictures_finds_every_near_pair_once(
    large_class: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # large_class: whether pictures of one pHash are candidates for that alone.
    thumbnails, phash = crowd()
    images = thumbnails_as_images(thumbnails, [f"{n:03}" for n in range(100)], phash.tolist())
    rows = [{"item_id": f"{n:03}", "image_sha256": f"{n:03}"} for n in range(100)]
    left, right = np.triu_indices(100, 1)
    holds, _ = similarity.near_pictures(thumbnails, left, right, ImageDuplicates(changes=()))
    every = [(f"{i:03}", f"{j:03}") for i, j in zip(left[holds], right[holds], strict=True)]
    assert len(every) == 20 * 6
    assert [pair[:2] for pair in pairs_of(rows, images, (), image={"changes": ()})] == every
    monkeypatch.setattr(picture_pairs, "EXHAUSTIVE_PICTURES", 10)
    monkeypatch.setattr(picture_pairs, "_LARGE_CLASS", large_class)
    monkeypatch.setattr(picture_pairs, "_GEMM_ROWS", 16)
    monkeypatch.setattr(picture_pairs, "_PAIRS_AT_ONCE", 64)
    assert [pair[:2] for pair in pairs_of(rows, images, (), image={"changes": ()})] == every


def unit_vectors(count: int, seed: int) -> similarity.Values:
    vectors = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_cells_find_a_vectors_own_neighbourhood_and_nothing_less_similar() -> None:
    centres, noise = unit_vectors(40, 1), unit_vectors(400, 2)
    vectors = np.repeat(centres, 10, axis=0) + 0.05 * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = 0  # a picture of one luminance
    query, row, score = picture_pairs._Cells(vectors).near(vectors, 0.98)
    assert np.allclose(score, np.einsum("ij,ij->i", vectors[query], vectors[row]), atol=1e-6)
    assert not (set(query.tolist()) | set(row.tolist())) & {7}
    found = set(zip(query.tolist(), row.tolist(), strict=True))
    left, right = np.nonzero(vectors @ vectors.T >= 0.98)
    expected = set(zip(left.tolist(), right.tolist(), strict=True))
    assert len(expected) > 3000
    assert found <= expected
    assert len(found) >= 0.99 * len(expected)


@pytest.mark.parametrize("size", [4, 25, 200])
def test_cells_find_near_copies_however_many_centres_lie_among_them(size: int) -> None:
    # Families of near copies: with 25 or more of them in 4,000 vectors, often more centres than are probed.
    vectors = np.repeat(unit_vectors(4000 // size, 4), size, axis=0) + 0.002 * unit_vectors(4000, 5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.random.default_rng(6).permutation(4000)
    query, row, _ = picture_pairs._Cells(vectors[order]).near(vectors[order], 0.9999)
    assert np.array_equal(order[query] // size, order[row] // size)
    found = np.bincount(query, minlength=4000)
    assert found.min() >= min(size, picture_pairs.NEIGHBOURS + 1)


def test_cells_of_equal_vectors_and_of_none() -> None:
    # All equal: a query is shown a bounded number of others, whatever their number.
    equal = np.repeat(unit_vectors(1, 3), 5000, axis=0)
    query, row, _ = picture_pairs._Cells(equal).near(equal[:100], 0.9)
    assert np.bincount(query).tolist() == [picture_pairs.NEIGHBOURS + 1] * 100
    assert len(np.unique(row)) < 500
    nothing = np.zeros((3, 8), np.float32)
    assert len(picture_pairs._Cells(nothing).near(nothing, 0.9)[0]) == 0


def test_the_best_others_of_a_row_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_pairs, "NEIGHBOURS", 2)
    row, other = np.array([5, 5, 5, 5, 1, 5]), np.array([2, 3, 2, 4, 9, 8])
    left, right = picture_pairs._best(row, other, np.array([0.97, 0.98, 0.99, 0.96, 0.96, 0.98], np.float32))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(1, 9), (5, 2), (5, 3)]


def test_crowds_of_equal_hash_bits_are_left_out_on_request() -> None:
    crowd_of_one = np.array([7 << 20] * 10 + [(7 << 20) ^ 1, 1 << 60, (1 << 60) | 3], np.uint64)
    every = [np.stack(part) for part in picture_pairs._near_hashes(crowd_of_one, 2)]
    assert np.concatenate(every, axis=1).shape[1] == 45 + 10 + 1
    few = np.concatenate([np.stack(part) for part in picture_pairs._near_hashes(crowd_of_one, 2, 4)], axis=1)
    assert set(map(tuple, np.sort(few, axis=0).T.tolist())) == {(11, 12)}


def test_changed_copies_are_found_among_many_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_pairs, "EXHAUSTIVE_PICTURES", 2)
    original = picture(1, (200, 160))
    files = {
        "a-original": encoded(original),
        "b-cropped": encoded(original.crop((10, 8, 190, 152))),
        "c-left-off": encoded(original.crop((8, 0, 200, 160))),
        "d-grey": encoded(original.convert("L")),
        "e-turned": encoded(original.transpose(Image.Transpose.ROTATE_270)),
        "f-other": encoded(picture(2, (200, 160))),
        "g-labelled": encoded(labelled(original)),
    }
    rows = [{"item_id": name, "image_sha256": name} for name in files]

    def copies(*changes: str, linked: tuple[str, ...] = ()) -> set[str]:
        chosen = {"changes": changes, "linked_changes": linked}
        found = pairs_of(rows, scanned(files), (), image=chosen)
        assert len(found) == len(set(found))
        return {other[0] for one, other, _ in found if one == "a-original"}

    assert copies() == set()
    assert copies("crop") == {"b", "c"}
    assert copies("colour") == {"d"}
    assert copies("colour", "crop", "turn") == {"b", "c", "d", "e"}
    assert copies("overlay") == copies(linked=("overlay",)) == {"g"}


WORDS = ("red", "blue", "cotton", "linen", "shirt", "trousers", "with", "sleeves", "pockets", "size")
long_text = st.lists(st.sampled_from(WORDS), min_size=4, max_size=9).map(" ".join)


@st.composite
def related_texts(draw: st.DrawFn) -> list[str]:
    texts = draw(st.lists(long_text, min_size=2, max_size=5))
    for _ in range(draw(st.integers(0, 8))):
        text = draw(st.sampled_from(texts))
        at = draw(st.integers(0, len(text) - 1))
        texts.append(
            draw(st.sampled_from([text[:at] + text[at + 1 :], f"{text} x", text[:at] + "z" + text[at:]]))
        )
    return texts


@given(related_texts())
@settings(max_examples=150, deadline=None, derandomize=True)  # MinHash misses 1 in 10,000 at the limit
def test_near_texts_are_all_pairs_of_that_jaccard_similarity(texts: list[str]) -> None:
    rows = [{"item_id": f"{n:02}", "title": text} for n, text in enumerate(texts)]
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(" ".join(row["title"].split()), row["item_id"])

    def grams(text: str) -> set[str]:
        return {text[i : i + 4] for i in range(len(text) - 3)}

    expected = [
        (i, j)
        for (a, i), (b, j) in itertools.combinations(first.items(), 2)
        if min(len(a), len(b)) >= 24 and len(grams(a) & grams(b)) >= 0.85 * len(grams(a) | grams(b))
    ]
    assert [(a, b) for a, b, kind in pairs_of(rows) if kind == "near_text"] == expected


def test_band_rows_keep_the_promised_chance_of_a_miss() -> None:
    for permutations, threshold in itertools.product((16, 64, 128, 256), (0.5, 0.85, 0.95)):
        rows = text_pairs.band_rows(permutations, threshold)
        if rows > 1:
            assert (1 - threshold**rows) ** (permutations // rows) <= text_pairs.EXACT_MINHASH_MISSES
    assert text_pairs.band_rows(128, 0.85) > 5  # else everything would be a candidate
    assert text_pairs.band_rows(16, 0.05) == 1  # nothing fits: as fine as possible


# -- bounded worst cases -------------------------------------------------------------------


def test_20_000_items_of_one_picture_and_text_leave_one() -> None:
    images = scanned({"one": encoded(Image.new("RGB", (32, 32), "white"))})
    rows = [
        {"item_id": f"{n:05}", "image_sha256": "one", "title": "the same long title everywhere"}
        for n in range(20_000)
    ]
    table, chosen = items(rows), Duplicates()
    pairs = find_pairs(table, images, ["title"], chosen)
    assert pairs["kind"].value_counts().sort("kind").rows() == [("same_bytes", 19_999), ("same_text", 19_999)]
    result = deduplicate(table, images, pairs, ["title"], chosen, [])
    assert kept(result) == ["00000"]
    assert result.removed.select(pl.len()).collect().item() == 19_999


def test_20_000_nearly_equal_texts_are_one_set_of_bounded_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nearly all 200 million pairs are near; the list stays short, and the set is whole all the same.
    monkeypatch.setattr(pair_search, "PAIRS_PER_NODE", 2)
    monkeypatch.setattr(pair_search, "MIN_LISTED_PAIRS", 0)
    monkeypatch.setattr(pair_search, "_CANDIDATES_AT_ONCE", 4096)
    title = "a product description that is the same for every product of this shop, apart from its number: "
    rows = [{"item_id": f"{n:05}", "title": f"{title}{n:05}"} for n in range(20_000)]
    pairs = find_pairs(items(rows), NO_IMAGES, ["title"], Duplicates())
    assert 19_999 <= pairs.height <= 20_000 * 10
    ids = {row["item_id"]: n for n, row in enumerate(rows)}
    ends = [
        pairs[side].replace_strict(ids, return_dtype=pl.Int64).to_numpy()
        for side in ("item_id", "other_item_id")
    ]
    assert not similarity.components(20_000, *ends).any()


def test_many_nearly_equal_pictures_of_one_hash_are_one_set_of_bounded_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picture_pairs, "EXHAUSTIVE_PICTURES", 100)
    monkeypatch.setattr(pair_search, "PAIRS_PER_NODE", 2)
    monkeypatch.setattr(pair_search, "MIN_LISTED_PAIRS", 0)
    monkeypatch.setattr(pair_search, "_CANDIDATES_AT_ONCE", 1024)
    noise = np.random.default_rng(1).integers(-3, 4, (1500, 3072))
    thumbnails = np.clip(smooth(1, 1).astype(int) + noise, 0, 255).astype(np.uint8)
    names = [f"{n:04}" for n in range(1500)]
    rows = [{"item_id": name, "image_sha256": name} for name in names]
    pairs = find_pairs(items(rows, ()), thumbnails_as_images(thumbnails, names), [], Duplicates())
    assert 1499 <= pairs.height <= 1500 * 5
    ends = [pairs[side].cast(pl.Int64).to_numpy() for side in ("item_id", "other_item_id")]
    assert not similarity.components(1500, *ends).any()


def test_many_different_pictures_of_one_hash_are_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blank pages with a little of something: one pHash, and three true copies among 2,500.
    monkeypatch.setattr(picture_pairs, "EXHAUSTIVE_PICTURES", 100)
    thumbnails = smooth(2, 2500)
    thumbnails[2000:2003] = brighter(thumbnails[:3], 6)
    names = [f"{n:04}" for n in range(2500)]
    rows = [{"item_id": name, "image_sha256": name} for name in names]
    found = pairs_of(rows, thumbnails_as_images(thumbnails, names), ())
    assert found == [(f"{n:04}", f"{2000 + n}", "near_image") for n in range(3)]


def test_a_long_chain_of_texts_takes_few_comparisons_an_item(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each text is the next 60 of many letters: near to the four before and after it, and joined to all others.
    letters = "".join(map(chr, np.random.default_rng(1).integers(0x4E00, 0x9FFF, 4_060).tolist()))
    rows = [{"item_id": f"{n:04}", "title": letters[n : n + 60]} for n in range(4_000)]
    compared = 0

    def counting(
        keys: pl.Series, left: Integers, right: Integers, chosen: TextDuplicates
    ) -> tuple[Flags, Floats]:
        nonlocal compared
        compared += len(left)
        return similarity.near_texts(keys, left, right, chosen)

    monkeypatch.setattr(duplicates, "near_texts", counting)
    result = run(rows, keep=())
    assert removed(result) == {f"{n:04}": f"{n - n % 5:04}" for n in range(4_000) if n % 5}
    assert compared <= 2 * len(rows)
    assert result.items.collect()["duplicate_group"].unique().to_list() == ["0000"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] < pair[1])))
def test_who_stays_for_whom_along_pairs(pairs: list[tuple[int, int]]) -> None:
    keeper: dict[int, int] = {}
    for row, other in itertools.product(range(10), repeat=2):
        if (row, other) in pairs and row not in keeper and other not in keeper:
            keeper[other] = row
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    leaders, followers = duplicates._along(left, right, 10)
    assert dict(zip(followers.tolist(), leaders.tolist(), strict=True)) == keeper


# -- which one stays -----------------------------------------------------------------------

LONG = "a red cotton shirt with long sleeves and two pockets on the front"


def test_the_kept_item_by_every_rule() -> None:
    small, large = (encoded(picture(1, size), "PNG") for size in ((64, 48), (128, 96)))
    images = scanned({"small": small, "large": large})
    both = [
        {
            "item_id": "a",
            "image_sha256": "small",
            "label": "x",
            "label_source": "model",
            "title": f"{LONG}  ",
        },
        {"item_id": "b", "image_sha256": "large", "label": "x", "label_source": "model", "title": LONG},
        {"item_id": "c", "image_sha256": "small", "label": "x", "label_source": "human", "title": LONG},
    ]
    assert kept(run(both, images)) == ["c"]  # a label given by a person first
    assert kept(run(both, images, human_sources=("model",))) == ["b"]  # then the larger picture
    assert kept(run(both, images, keep=("resolution",))) == ["b"]
    assert kept(run(both, images, keep=("text_length",))) == ["a"]  # two spaces longer
    assert kept(run(both, images, keep=())) == ["a"]  # the id alone
    assert kept(run([{**row, "label": None} for row in both], images, keep=("human_label",))) == ["a"]


def test_items_that_differ_in_distinct_by_are_never_merged() -> None:
    rows = [
        {"item_id": "a", "language": "en", "label": "x", "source": "s", "title": LONG},
        {"item_id": "b", "language": "de", "label": "x", "source": "s", "title": LONG},
        {"item_id": "c", "language": "en", "label": "y", "source": "s", "title": LONG},
        {"item_id": "d", "language": None, "label": "x", "source": "t", "title": LONG},
        {"item_id": "e", "language": None, "label": "x", "source": "s", "title": LONG},
    ]
    assert removed(run(rows)) == {"c": "a", "e": "d"}  # no language is one of its own
    assert removed(run(rows, distinct_by=())) == dict.fromkeys("bcde", "a")
    assert removed(run(rows, distinct_by=("label",))) == {"b": "a", "d": "a", "e": "a"}
    assert removed(run(rows, distinct_by=("language", "label", "source"))) == {}


@pytest.fixture
def four() -> tuple[list[Row], pl.LazyFrame]:
    """Two pictures and two texts in every combination."""
    images = thumbnails_as_images(smooth(1, 2), ["x", "y"])
    rows = [
        {"item_id": f"{sha}{number}", "image_sha256": sha, "title": title}
        for sha in "xy"
        for number, title in enumerate(["one title", "another title"])
    ]
    return [*rows, {**rows[3], "item_id": "y1-again"}], images


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("image_and_text", {"y1-again": "y1"}),
        ("auto", {"y1-again": "y1"}),
        ("image", {"x1": "x0", "y1": "y0", "y1-again": "y0"}),
        ("text", {"y0": "x0", "y1": "x1", "y1-again": "x1"}),
        ("never", {}),
    ],
)
def test_what_two_items_must_share(
    item: str, expected: dict[str, str], four: tuple[list[Row], pl.LazyFrame]
) -> None:
    rows, images = four
    assert removed(run(rows, images, item=item, keep=())) == expected


def test_auto_takes_what_the_dataset_has() -> None:
    images = thumbnails_as_images(smooth(1, 1), ["x"])
    pictures = [{"item_id": name, "image_sha256": "x"} for name in "ab"]
    assert removed(run(pictures, images, ())) == {"b": "a"}
    texts = [{"item_id": name, "title": "one title"} for name in "ab"]
    assert removed(run(texts)) == {"b": "a"}


def test_items_that_have_nothing_are_not_duplicates_of_each_other() -> None:
    nothing = [{"item_id": name} for name in "ab"]
    for item in ("auto", "image_and_text", "image", "text"):
        assert removed(run(nothing, item=item)) == {}
    # An item without a picture is not one with the same text and a picture.
    images = thumbnails_as_images(smooth(1, 1), ["x"])
    rows = [{"item_id": "a", "image_sha256": "x", "title": LONG}, {"item_id": "b", "title": LONG}]
    assert removed(run(rows, images)) == {}
    assert removed(run(rows, images, item="text")) == {"b": "a"}


def test_details_say_how_alike_the_two_are() -> None:
    thumbnails = np.concatenate([smooth(1, 1), brighter(smooth(1, 1), 5)])
    images = thumbnails_as_images(thumbnails, ["x", "y"])
    same = thumbnails_as_images(thumbnails[:1], ["z"])  # another file of x's pixels
    rows = [
        {"item_id": "a", "image_sha256": "x", "title": LONG},
        {"item_id": "b", "image_sha256": "x", "title": LONG.upper()},
        {"item_id": "c", "image_sha256": "z", "title": LONG},
        {"item_id": "d", "image_sha256": "y", "title": LONG},
        {"item_id": "e", "image_sha256": "x", "title": f"{LONG}s"},
        {"item_id": "f", "image_sha256": "z", "title": f"{LONG}x"},
        {"item_id": "g", "image_sha256": "z", "title": f"({LONG})"},
    ]
    result = run(rows, pl.concat([images, same]), keep=())
    score = (len(LONG) - 3) / (len(LONG) - 2)
    assert result.removed.select("item_id", "detail").collect().rows() == [
        ("b", "same_bytes, same_text"),
        ("c", "same_pixels, same_text"),
        ("d", "near_image 0.9999, same_text"),  # 1 is for what is identical
        ("e", f"same_bytes, near_text {score:.4f}"),
        ("f", f"same_pixels, near_text {score:.4f}"),
        ("g", "same_pixels, near_text 0.9999"),  # the words are equal
    ]
    only_texts = run([{"item_id": "a", "title": LONG}, {"item_id": "b", "title": f"{LONG}s"}], keep=())
    assert only_texts.removed.select("detail").collect().item() == f"near_text {score:.4f}"


def test_what_is_only_nearly_the_same_in_picture_and_text_stays() -> None:
    # Two men holding hands, two women holding hands: a little differs in both, and that is the point.
    thumbnails = np.concatenate([smooth(1, 1), drifted(smooth(1, 1), 12)])
    images = thumbnails_as_images(thumbnails, ["men", "women"])
    rows = [
        {
            "item_id": "a",
            "image_sha256": "men",
            "title": "men holding hands medium-dark skin tone light skin tone",
        },
        {
            "item_id": "b",
            "image_sha256": "women",
            "title": "women holding hands medium-dark skin tone light skin tone",
        },
    ]
    assert [kind for _, _, kind in pairs_of(rows, images)] == ["near_image", "near_text"]
    result = run(rows, images)
    assert removed(result) == {}
    assert result.items.collect()["duplicate_group"].to_list() == ["a", "a"]
    # Either alone is enough.
    assert removed(run([{**row, "title": LONG} for row in rows], images)) == {"b": "a"}
    assert removed(run([{**row, "image_sha256": "men"} for row in rows], images, keep=())) == {"b": "a"}
    assert removed(run(rows, images, item="image", keep=())) == {"b": "a"}


def test_linked_changes_make_pairs_and_merge_nothing() -> None:
    # By default something laid over a photo; whether it spoils the one or the other is not for the pipeline to say.
    files = {"a": encoded(picture(1, (200, 160))), "b": encoded(labelled(picture(1, (200, 160))))}
    rows: list[Row] = [{"item_id": name, "image_sha256": name, "title": LONG} for name in files]
    images = scanned(files)
    assert [kind for _, _, kind in pairs_of(rows, images)] == ["near_image", "same_text"]
    result = run(rows, images)
    assert result.items.select("item_id", "duplicate_group").collect().rows() == [("a", "a"), ("b", "a")]
    assert removed(run(rows, images, image={"changes": ["overlay"]})) == {"b": "a"}
    assert pairs_of(rows, images, (), image={"linked_changes": []}) == []


def test_a_chain_does_not_merge_its_ends() -> None:
    # A, B, C and D are each 18 levels from the next in every other block: neighbours are near, A and C are not.
    base = smooth(1, 1)
    thumbnails = np.concatenate([drifted(base, 18 * step) for step in range(4)])
    images = thumbnails_as_images(thumbnails, list("wxyz"))
    rows = [{"item_id": name, "image_sha256": sha} for name, sha in zip("ABCD", "wxyz", strict=True)]
    assert pairs_of(rows, images, ()) == [(a, b, "near_image") for a, b in ("AB", "BC", "CD")]
    result = run(rows, images, ())
    assert removed(result) == {"B": "A", "D": "C"}
    # They are one set all the same, which no split will cut.
    assert result.items.select("item_id", "duplicate_group").collect().rows() == [("A", "A"), ("C", "A")]


def test_what_equals_a_removed_item_goes_to_the_same_kept_one() -> None:
    base = smooth(1, 1)
    images = thumbnails_as_images(np.concatenate([base, brighter(base, 5)]), ["x", "y"])
    rows = [{"item_id": name, "image_sha256": sha} for name, sha in (("a", "x"), ("b", "y"), ("c", "y"))]
    assert removed(run(rows, images, ())) == {"b": "a", "c": "a"}


def test_the_kept_item_inherits_group_keys() -> None:
    rows: list[Row] = [
        {"item_id": "a", "title": LONG, "group_keys": ["sender=2"]},
        {"item_id": "b", "title": LONG, "group_keys": ["sender=1", "shop=7"]},
        {"item_id": "c", "title": f"{LONG}.", "group_keys": []},
        {"item_id": "d", "title": "quite something else", "group_keys": ["sender=9", "sender=8"]},
    ]
    keys = dict(run(rows, keep=()).items.select("item_id", "group_keys").collect().iter_rows())
    assert keys == {"a": ["sender=1", "sender=2", "shop=7"], "d": ["sender=9", "sender=8"]}


def test_duplicate_group_is_the_smallest_kept_id_of_the_chain() -> None:
    rows = [
        {"item_id": "a", "label": None, "title": LONG},
        {"item_id": "b", "label": "x", "label_source": "human", "title": LONG},  # stays in place of a
        {"item_id": "c", "label": "x", "language": "de", "title": LONG},  # another language stays
        {"item_id": "d", "title": "alone"},
    ]
    result = run(rows)
    assert removed(result) == {"a": "b"}
    assert result.items.select("item_id", "duplicate_group").collect().rows() == [
        ("b", "b"),
        ("c", "b"),
        ("d", "d"),
    ]


def test_conflicts_are_where_a_removed_item_differs_from_the_kept_one() -> None:
    rows: list[Row] = [
        {"item_id": "a", "title": LONG, "label": "shirt", "licence": "CC0-1.0", "published_split": "train"},
        {"item_id": "b", "title": LONG, "label": "dress", "licence": "CC0-1.0", "published_split": "test"},
        {"item_id": "c", "title": LONG, "label": None, "licence": "CC0-1.0", "published_split": "train"},
    ]
    assert run(rows).conflicts.rows() == [
        ("b", "a", "label", "dress", "shirt"),
        ("b", "a", "published_split", "test", "train"),
        ("c", "a", "label", None, "shirt"),
    ]


# -- laws ----------------------------------------------------------------------------------

FAMILY = np.concatenate([*(drifted(smooth(7, 1), 14 * step) for step in range(4)), *(smooth(8, 2),)])
PICTURES = thumbnails_as_images(FAMILY, [f"p{n}" for n in range(len(FAMILY))])
TITLES = (
    "",
    LONG,
    f"{LONG}.",
    f"{LONG}, ironed",
    f"{LONG}, ironed twice",
    "a blue pair of trousers, never worn",
)

random_items = st.lists(
    st.fixed_dictionaries(
        {
            "image_sha256": st.sampled_from([None, *(f"p{n}" for n in range(len(FAMILY)))]),
            "title": st.sampled_from(TITLES),
            "language": st.sampled_from(["en", "de", None]),
            "label": st.sampled_from(["x", "y"]),
            "label_source": st.sampled_from(["human", "model"]),
            "group_keys": st.lists(st.sampled_from(["k=1", "k=2", "k=3"]), max_size=2),
        }
    ),
    max_size=14,
)
items_modes = st.sampled_from(["auto", "image_and_text", "image", "text", "never"])


def near_tables() -> tuple[Any, Any]:
    left, right = np.indices((len(FAMILY), len(FAMILY)))
    pictures, _ = similarity.near_pictures(FAMILY, left.ravel(), right.ravel(), ImageDuplicates())
    sets = similarity.shingles(pl.Series([title.lower() for title in TITLES]), 4)
    left, right = np.indices((len(TITLES), len(TITLES)))
    texts = similarity.jaccard(sets, left.ravel(), right.ravel()) >= TextDuplicates().min_jaccard
    return pictures.reshape(len(FAMILY), -1), texts.reshape(len(TITLES), -1)


NEAR_PICTURES, NEAR_TEXTS = near_tables()


def are_duplicates(a: Row, b: Row, item: str) -> bool:
    """The definition, word for word, of one pair."""
    if item == "never" or a["language"] != b["language"]:
        return False
    pictures = [row["image_sha256"] for row in (a, b)]
    texts = [row["title"] or None for row in (a, b)]
    same_picture, same_text = pictures[0] == pictures[1], texts[0] == texts[1]
    near_picture = same_picture or (
        None not in pictures and bool(NEAR_PICTURES[int(pictures[0][1:]), int(pictures[1][1:])])
    )
    near_text = same_text or (
        None not in texts and bool(NEAR_TEXTS[TITLES.index(texts[0]), TITLES.index(texts[1])])
    )
    if item == "image":
        return None not in pictures and near_picture
    if item == "text":
        return None not in texts and near_text
    if pictures == [None, None] and texts == [None, None]:
        return False
    return near_picture and near_text and (same_picture or same_text)


def test_the_random_items_have_chains() -> None:
    # Else the laws below would say little: neighbours are near, the ends are not; for pictures and texts.
    assert [bool(NEAR_PICTURES[i, j]) for i, j in ((0, 1), (1, 2), (2, 3), (0, 3))] == [True] * 3 + [False]
    assert [bool(NEAR_TEXTS[i, j]) for i, j in ((1, 2), (2, 3), (3, 4), (1, 4))] == [True] * 3 + [False]


@given(random_items, items_modes, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_item_is_kept_or_removed_for_a_kept_one_that_it_duplicates(
    drawn: list[Row], item: str, shuffler: random.Random
) -> None:
    rows = {f"i{n:02}": {"item_id": f"i{n:02}", **row} for n, row in enumerate(drawn)}
    has_pictures = any(row["image_sha256"] for row in drawn)
    mode = ("image_and_text" if has_pictures else "text") if item == "auto" else item
    result = run(list(rows.values()), PICTURES, item=item)
    stays, goes = kept(result), removed(result)
    # Conservation: every item once.
    assert sorted([*stays, *goes]) == sorted(rows)
    # Every removed item duplicates the kept one itself, and no two kept ones duplicate each other.
    assert set(goes.values()) <= set(stays)
    assert all(are_duplicates(rows[a], rows[b], mode) for a, b in goes.items())
    assert not any(are_duplicates(rows[a], rows[b], mode) for a, b in itertools.combinations(stays, 2))
    # Group keys are conserved.
    keys = dict(result.items.select("item_id", "group_keys").collect().iter_rows())
    assert {key for row in drawn for key in row["group_keys"]} == {
        key for found in keys.values() for key in found
    }
    for a, b in goes.items():
        assert set(rows[a]["group_keys"]) <= set(keys[b])
    # The order of rows does not matter.
    shuffled = list(rows.values())
    shuffler.shuffle(shuffled)
    again = run(shuffled, PICTURES, item=item)
    with pytest.MonkeyPatch.context() as patch:  # as in large sets of unlike items
        patch.setattr(duplicates, "SMALL_SET", 0)
        patch.setattr(duplicates, "LEAST_GAIN", 2.0)
        along = run(shuffled, PICTURES, item=item)
    assert along.removed.collect().equals(result.removed.collect())
    assert again.items.collect().equals(result.items.collect())
    assert again.removed.collect().equals(result.removed.collect())
    assert again.conflicts.equals(result.conflicts)
    # What is kept has no duplicates any more.
    second = run([rows[name] for name in stays], PICTURES, item=mode)
    assert kept(second) == stays


def test_what_stays_of_a_crowd_is_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Texts by a template: one set, of which most are unlike, and far more near pairs than are listed.
    monkeypatch.setattr(pair_search, "PAIRS_PER_NODE", 1)
    monkeypatch.setattr(pair_search, "MIN_LISTED_PAIRS", 0)
    numbers = np.sort(np.random.default_rng(0).permutation(100_000)[:2000])
    rows = [
        {
            "item_id": f"{n:05}",
            "title": f"order number {n:05} has been confirmed, thank you for buying with us",
        }
        for n in numbers
    ]

    def near_pairs_left() -> int:
        stay = run(rows).items.collect()
        assert stay["duplicate_group"].n_unique() == 1
        left, right = np.triu_indices(stay.height, 1)
        holds, _ = similarity.near_texts(stay["title"], left, right, TextDuplicates())
        return int(holds.sum())

    assert near_pairs_left() < 5
    monkeypatch.setattr(duplicates, "SEARCHED_AGAIN", 0)
    assert near_pairs_left() > 500


def test_tables_have_the_declared_columns() -> None:
    result = run([{"item_id": name, "title": LONG} for name in "ab"])
    assert dict(result.items.collect_schema()) == {**DEDUPLICATED, "title": pl.String()}
    assert dict(result.removed.collect_schema()) == dict(REMOVED)
    assert result.removed.collect().rows() == [("b", "duplicates", "duplicate", "same_text", "a")]


# -- report --------------------------------------------------------------------------------


def test_report_by_hand() -> None:
    images = thumbnails_as_images(np.concatenate([smooth(1, 1), brighter(smooth(1, 1), 5)]), ["x", "y"])
    rows = [
        {"item_id": "a", "image_sha256": "x", "label": "shirt"},
        {"item_id": "b", "image_sha256": "x", "label": "dress"},
        {"item_id": "c", "image_sha256": "y", "label": "shirt"},
        {"item_id": "d", "image_sha256": "x", "label": "shirt", "language": "de"},
        {"item_id": "e", "label": "shirt"},
    ]
    table, chosen = items(rows, ()), Duplicates()
    pairs = find_pairs(table, images, [], chosen)
    report = duplicates.duplicates_report(deduplicate(table, images, pairs, [], chosen, []), pairs, chosen)
    assert report.pop("settings") == chosen.model_dump(mode="json")
    assert report == {
        "items": 5,
        "kept": 3,
        "removed": 2,
        "removed_share": 0.4,
        "removed_by_likeness": {"near_image": 1, "same_bytes": 1},
        "pairs": 3,
        "pairs_by_kind": {"near_image": 1, "same_bytes": 2},
        "sets": 1,
        "items_in_sets": 4,
        "largest_set": 4,
        "set_sizes": {"4": 1},
        "conflicts": 1,
        "conflicts_by_column": {"label": 1},
        "examples": [{"item_id": "c", "kept_item_id": "a", "detail": "near_image 0.9999"}],
    }


def test_report_of_nothing() -> None:
    report = duplicates.duplicates_report(run([]), empty(PAIRS), Duplicates())
    assert (report["items"], report["removed_share"], report["largest_set"], report["set_sizes"]) == (
        0,
        0.0,
        0,
        {},
    )
