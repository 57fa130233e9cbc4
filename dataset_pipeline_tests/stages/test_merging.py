"""What kept items take over from their removed duplicates."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Duplicates, MergeDuplicates
from dataset_pipeline.stages.duplicates import deduplicate, duplicates_report, find_pairs
from dataset_pipeline.stages.merging import Merged, merge, merging_report
from dataset_pipeline_tests.stages.crafted import items, smooth, thumbnails_as_images

TEXTS = ("title", "body")
IMAGES = thumbnails_as_images(smooth(5, 3), ["p", "q", "r"])
COMMON = {"image_sha256": "p", "language": "en", "licence": "CC0-1.0", "author": "Ada"}


def merged(rows: list[dict[str, Any]], decided: tuple[str, ...] = (), **chosen: Any) -> Merged:
    """Items of one picture each, so that the picture alone makes duplicates; the longest texts stay."""
    table = items([{**COMMON, **row} for row in rows], TEXTS)
    rules = Duplicates(item="image", distinct_by=(), merge=MergeDuplicates(**chosen))
    pairs = find_pairs(table, IMAGES, TEXTS, rules)
    found = deduplicate(table, IMAGES, pairs, TEXTS, rules, ["human"])
    ids = pl.Series(decided, dtype=pl.String)
    result = merge(found, table, TEXTS, rules.merge, ["human"], ids)
    assert result.result.items.collect_schema() == found.items.collect_schema()
    assert result.result.items.collect().height + result.result.removed.collect().height == len(rows)
    return result


def kept(result: Merged, *columns: str) -> list[tuple[Any, ...]]:
    return result.result.items.select("item_id", *columns).collect().rows()


def changes(result: Merged) -> list[tuple[Any, ...]]:
    return result.changes.select("item_id", "column", "value", "former", "from_item_id").rows()


def test_nothing_is_taken_over_unless_it_is_asked_for() -> None:
    rows = [
        {"item_id": "a", "title": "long title", "label": "hat"},
        {"item_id": "b", "body": "b", "label": "cap"},
    ]
    result = merged(rows)

    assert kept(result, "title", "body", "label") == [("a", "long title", None, "hat")]
    assert changes(result) == []


def test_missing_texts_come_from_the_best_duplicate_that_has_them() -> None:
    result = merged(
        [
            {"item_id": "a", "title": "the longest of all titles", "body": "  "},
            {"item_id": "b", "title": "short", "body": "of b"},
            # More text than b, so that it is preferred to b, and its title is not needed.
            {"item_id": "c", "title": "longer than b", "body": "and of c"},
            {"item_id": "d", "image_sha256": "q", "title": "another picture"},
        ],
        texts="fill",
    )

    assert kept(result, "title", "body") == [
        ("a", "the longest of all titles", "and of c"),
        ("d", "another picture", None),
    ]
    assert changes(result) == [("a", "body", "and of c", "  ", "c")]


@pytest.mark.parametrize("column", ["language", "licence", "author"])
def test_no_text_of_another_language_licence_or_author(column: str) -> None:
    result = merged(
        [{"item_id": "a", "title": "the longest title"}, {"item_id": "b", "body": "of b", column: "other"}],
        texts="fill",
    )

    assert kept(result, "body") == [("a", None)]


def test_an_item_without_texts_takes_over_texts_of_one_language() -> None:
    rows = [
        {"item_id": "a", "label": "hat", "label_source": "human", "language": None},
        {"item_id": "b", "title": "ein langer Titel", "language": "de"},
        {"item_id": "c", "title": "a title", "body": "a body"},
    ]
    # By 'human_label' a stays; the longest text, of b, decides the language, and the body is of another one.
    result = merged(rows, texts="fill")

    assert kept(result, "title", "body", "language") == [("a", "ein langer Titel", None, "de")]
    assert changes(result) == [
        ("a", "language", "de", None, "b"),
        ("a", "title", "ein langer Titel", None, "b"),
    ]


def label_rows(*labels: tuple[str | None, str | None]) -> list[dict[str, Any]]:
    """Items a, b, ... of one picture, each with a label and who gave it; a has the longest text and stays."""
    return [
        {"item_id": chr(97 + n), "title": "x" * (9 - n), "label": label, "label_source": source}
        for n, (label, source) in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # Two models against one; the source is that of the first of them.
        ([("hat", "m1"), ("cap", "m2"), ("cap", "m3")], ("cap", "m2")),
        # Among equals the kept item's own label stays.
        ([("hat", "m1"), ("cap", "m2")], ("hat", "m1")),
        # Among equals without it, the better duplicate's.
        ([(None, None), ("zebra", "m2"), ("cap", "m3")], ("zebra", "m2")),
        # A person outvotes any number of others (and is kept first).
        ([("cap", "m1"), ("cap", "m2"), ("hat", "human")], ("hat", "human")),
        ([("hat", "human"), ("cap", "human"), ("cap", "human"), ("shoe", "m")], ("cap", "human")),
        ([(None, None), (None, None)], (None, None)),
    ],
)
def test_label_of_most(
    labels: list[tuple[str | None, str | None]], expected: tuple[str | None, str | None]
) -> None:
    result = merged(label_rows(*labels), labels="majority")

    ((_, *found),) = kept(result, "label", "label_source")
    assert tuple(found) == expected


def test_label_that_is_taken_over_is_recorded() -> None:
    result = merged(label_rows(("hat", "m1"), ("cap", "m2"), ("cap", "m2")), labels="majority")

    assert changes(result) == [("a", "label", "cap", "hat", "b"), ("a", "label_source", "m2", "m1", "b")]
    assert merging_report(result.changes, result.result.removed.collect()) == {
        "values_by_column": {"label": 1, "label_source": 1},
        "items": 1,
        "contradicted_items": 0,
        "examples": [
            {"item_id": "a", "column": "label", "from_item_id": "b"},
            {"item_id": "a", "column": "label_source", "from_item_id": "b"},
        ],
    }
    # What they disagreed on is still told: the estimate of label noise is made from it.
    differing = result.result.conflicts.filter(pl.col("column") == "label").select(
        "item_id", "value", "kept_value"
    )
    assert differing.rows() == [("b", "cap", "hat"), ("c", "cap", "hat")]


def test_contradicting_sets_are_held_back_whole() -> None:
    rows = [
        *label_rows(("hat", "m1"), ("cap", "m2"), (None, None)),
        {"item_id": "x", "image_sha256": "q", "title": "xx", "label": "shoe"},
        {"item_id": "y", "image_sha256": "q", "title": "y", "label": "shoe"},
    ]
    result = merged(rows, labels="unsure", texts="fill")

    assert kept(result, "label") == [("x", "shoe")]
    assert result.result.removed.select("item_id", "reason", "detail", "kept_item_id").collect().rows() == [
        *((name, "label_contradicted", "labels of duplicates: cap, hat", None) for name in "abc"),
        ("y", "duplicate", "same_bytes", "x"),
    ]
    report = duplicates_report(result.result, pl.DataFrame(schema={"kind": pl.String}), Duplicates())
    assert (report["kept"], report["removed"]) == (1, 1)


def test_one_person_or_a_decision_settles_a_contradiction() -> None:
    with_a_person = label_rows(("hat", "human"), ("cap", "m2"), ("cap", "m3"))
    assert kept(merged(with_a_person, labels="unsure"), "label") == [("a", "hat")]
    undecided = label_rows(("hat", "m1"), ("cap", "m2"))
    assert kept(merged(undecided, labels="unsure"), "label") == []
    assert kept(merged(undecided, decided=("a",), labels="unsure"), "label") == [("a", "hat")]


_VALUE = st.sampled_from([None, "", "one", "two"])
_ROW = st.fixed_dictionaries(
    {
        "image_sha256": st.sampled_from(["p", "q"]),
        "title": _VALUE,
        "body": _VALUE,
        "label": st.sampled_from([None, "hat", "cap"]),
        "label_source": st.sampled_from([None, "human", "m"]),
        "language": st.sampled_from(["de", "en"]),
        "licence": st.sampled_from(["CC0-1.0", "MIT"]),
    }
)


@settings(deadline=None, max_examples=40)
@given(st.lists(_ROW, min_size=1, max_size=7), st.sampled_from(["keep", "majority", "unsure"]), st.randoms())
def test_merging_keeps_its_word(rows: list[dict[str, Any]], labels: Any, random: Any) -> None:
    """No value is lost or made up, and the order of the rows does not matter."""
    named = [{"item_id": f"{number}", **row} for number, row in enumerate(rows)]
    result = merged(named, texts="fill", labels=labels)
    shuffled = random.sample(named, len(named))
    other = merged(shuffled, texts="fill", labels=labels)
    assert kept(result, *TEXTS, "label", "language") == kept(other, *TEXTS, "label", "language")
    assert changes(result) == changes(other)

    before = {row["item_id"]: {**COMMON, **row} for row in named}
    stands_for = dict(
        result.result.removed.filter(pl.col("reason") == "duplicate")
        .select("item_id", "kept_item_id")
        .collect()
        .rows()
    )
    for item, column, value, former, origin in changes(result):
        assert stands_for[origin] == item
        assert (before[origin][column], before[item][column]) == (value, former)
        if column in TEXTS:
            assert before[origin]["licence"] == before[item]["licence"]
    for item, title, _body in kept(result, *TEXTS):
        if before[item]["title"]:
            assert title == before[item]["title"]
