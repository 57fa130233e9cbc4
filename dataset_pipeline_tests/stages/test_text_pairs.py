"""The search for near texts beyond the small cases: blocks of any size, crowds, long texts."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import TextDuplicates
from dataset_pipeline.stages import leak_search, pair_search, similarity, text_pairs


def slow_pairs(texts: pl.Series, chosen: TextDuplicates) -> dict[tuple[int, int], float]:
    """Every pair compared, with sets of strings."""
    sets = [
        {text[at : at + chosen.shingle_chars] for at in range(len(text) - chosen.shingle_chars + 1)}
        for text in texts
    ]
    scores = {
        (i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in itertools.combinations(range(len(texts)), 2)
    }
    return {pair: score for pair, score in scores.items() if score >= chosen.min_jaccard}


def found_pairs(texts: pl.Series, chosen: TextDuplicates) -> dict[tuple[int, int], float]:
    left, right, score = text_pairs.near_text_pairs(texts, chosen)
    found = dict(zip(zip(left.tolist(), right.tolist(), strict=True), score.tolist(), strict=True))
    assert len(found) == len(left), "a pair is there twice"
    return found


ORDERS = pl.Series(
    [f"order number {n:04d} has been confirmed, thank you for buying with us" for n in range(300)]
)
"""Thousands of near pairs, in bands that nearly all texts share."""


def sets_of(count: int, pairs: dict[tuple[int, int], float]) -> list[int]:
    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    return similarity.components(count, ends[:, 0], ends[:, 1]).tolist()


def test_a_crowd_is_searched_along_an_order_and_its_sets_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = TextDuplicates()
    truth = slow_pairs(ORDERS, chosen)
    assert len(truth) > 10_000
    monkeypatch.setattr(text_pairs, "CROWD", 4)
    found = found_pairs(ORDERS, chosen)
    assert found.keys() < truth.keys()
    assert all(found[pair] == pytest.approx(truth[pair]) for pair in found)
    # No text is compared with more than 4 others that follow it in one of the bands.
    bands = chosen.permutations // text_pairs.band_rows(chosen.permutations, chosen.min_jaccard)
    assert len(found) <= 4 * bands * len(ORDERS)
    assert sets_of(len(ORDERS), found) == sets_of(len(ORDERS), truth)


def test_a_full_list_still_joins_every_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_search, "PAIRS_PER_NODE", 1)
    monkeypatch.setattr(pair_search, "MIN_LISTED_PAIRS", 0)
    monkeypatch.setattr(pair_search, "_CANDIDATES_AT_ONCE", 16)
    truth = slow_pairs(ORDERS, TextDuplicates())
    found = found_pairs(ORDERS, TextDuplicates())
    assert found.keys() < truth.keys()
    assert len(found) < 3 * len(ORDERS)
    assert sets_of(len(ORDERS), found) == sets_of(len(ORDERS), truth)


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("red shirt size m", "red shirt, size m.", True),
        ("t-shirt (red)", "t shirt red", True),
        ("«red» – blue!", "red blue", True),
        ("red shirt size m", "red shirt size l", False),
        ("red shirt 38", "red shirt 39", False),
        ("red shirt", "red skirt", False),
        ("keycap #", "keycap *", False),
        ("c++", "c", False),
        ("-5 degrees", "5 degrees", False),
        ("3.5 mm", "35 mm", False),
        ("golfer(in)", "golferin", False),
        ("red.\x1fshirt", "red\x1fshirt", True),
        ("red shirt\x1f", "red\x1fshirt", False),  # the words are in other columns
        ("!!!", "???", False),  # no words at all
        ("...\x1f", "\x1f!", False),
    ],
)
def test_texts_of_equal_words_are_near_however_short(one: str, other: str, are_same: bool) -> None:
    keys = pl.Series(sorted([one, other]))
    expected = {(0, 1): 1.0} if are_same else {}
    assert found_pairs(keys, TextDuplicates()) == expected
    holds, score = similarity.near_texts(keys, np.array([0]), np.array([1]), TextDuplicates())
    assert holds.tolist() == [are_same]
    assert (score.item() == 1.0) == are_same
    edges = leak_search.TextSearch(keys, TextDuplicates()).near(lambda left, _: np.ones(len(left), bool))
    left, right, score = leak_search.joined(list(edges))
    near = score >= TextDuplicates().min_jaccard
    assert dict(zip(zip(left[near], right[near], strict=True), score[near], strict=True)) == expected


def test_equal_words_join_texts_that_are_alike_too() -> None:
    long = "a red cotton shirt with long sleeves and two pockets on the front"
    keys = pl.Series([long, f"{long}!", f"{long}, ironed", long.replace(" ", ", ")])
    found = found_pairs(keys, TextDuplicates())
    assert found.keys() == {(0, 1), (0, 2), (1, 2), (0, 3)}
    assert [pair for pair, score in found.items() if score == 1.0] == [(0, 1), (0, 3)]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=30))
@settings(deadline=None)
def test_a_spanning_forest_joins_what_all_edges_join(edges: list[tuple[int, int]]) -> None:
    left, right = np.array(edges, np.int64).reshape(-1, 2).T
    chosen = pair_search._spanning(left, right)
    joined = similarity.components(8, left, right)
    assert similarity.components(8, left[chosen], right[chosen]).tolist() == joined.tolist()
    assert len(chosen) == 8 - len(set(joined.tolist()))


@given(st.lists(st.text("ab ", max_size=12), min_size=1, max_size=12), st.integers(2, 4))
@settings(deadline=None, max_examples=25)
def test_blocks_of_any_size_give_the_same_shingles_and_similarities(texts: list[str], chars: int) -> None:
    keys = pl.Series(texts, dtype=pl.String)
    whole = similarity.shingles(keys, chars)
    left, right = (ends.ravel() for ends in np.indices((len(texts), len(texts))))
    score = similarity.jaccard(whole, left, right)
    for size in (1, 5, 40):
        with pytest.MonkeyPatch.context() as patch:
            for name in ("_CHARS_AT_ONCE", "_SHINGLES_AT_ONCE", "_TEXTS_AT_ONCE"):
                patch.setattr(similarity, name, size)
            parts = list(similarity.shingle_blocks(keys, chars))
            assert np.concatenate([part.values for part in parts]).tolist() == whole.values.tolist()
            assert similarity.shingles(keys, chars).offsets.tolist() == whole.offsets.tolist()
            assert similarity.jaccard(whole, left, right).tolist() == score.tolist()
            assert similarity.jaccard_of_texts(keys, left, right, chars).tolist() == score.tolist()


def test_texts_of_a_megabyte_are_compared() -> None:
    letters = np.random.default_rng(1).integers(0x4E00, 0x9FFF, 1_000_000)  # 20,991 different ones
    text = "".join(map(chr, letters.tolist()))
    keys = pl.Series([text, text[:-1000], text[500_000:], text[::-1]])
    assert list(found_pairs(keys, TextDuplicates())) == [(0, 1)]


@pytest.mark.parametrize("similarity_of_two", [0.5, 0.85, 0.95])
def test_the_share_of_equal_hashes_estimates_the_similarity(similarity_of_two: float) -> None:
    generator = np.random.default_rng(3)
    shared = round(400 * similarity_of_two)
    rest = (400 - shared) // 2
    estimates = []
    for _ in range(50):
        values = generator.choice(2**48, shared + 2 * rest, replace=False).astype(np.uint64)
        one, other = (
            np.sort(values[: shared + rest]),
            np.sort(np.delete(values, np.s_[shared : shared + rest])),
        )
        sets = similarity.Shingles(
            np.concatenate([one, other]), np.array([0, len(one), len(one) + len(other)])
        )
        signatures = text_pairs.minhash_signatures(sets, 256)
        estimates.append((signatures[:, 0] == signatures[:, 1]).mean())
    # 50 x 256 coins of that chance: the mean deviates by 0.0044 at the most.
    assert np.mean(estimates) == pytest.approx(similarity_of_two, abs=4 * 0.0044)
