"""Every gate of our own is seen passing and failing."""

from typing import Any

import polars as pl

from dataset_pipeline.stages import gates
from dataset_pipeline.tables import PAIRS, REMOVED


def ids(*names: str) -> pl.LazyFrame:
    return pl.LazyFrame({"item_id": list(names)}, schema={"item_id": pl.String})


def removed(**reasons: str) -> pl.LazyFrame:
    rows = [{"item_id": name, "stage": "clean", "reason": reason} for name, reason in reasons.items()]
    return pl.LazyFrame(rows, schema=dict(REMOVED))


def test_rows_conserved() -> None:
    assert gates.rows_conserved(ids("a", "b"), ids("a"), removed(b="image_blank")).is_passed
    lost = gates.rows_conserved(ids("a", "b"), ids("a"), removed())
    assert not lost.is_passed
    assert "['b']" in lost.summary
    assert not gates.rows_conserved(ids("a"), ids("a"), removed(a="image_blank")).is_passed  # in both
    assert not gates.rows_conserved(ids("a"), ids("a", "x"), removed()).is_passed  # from nowhere
    assert not gates.rows_conserved(ids("a", "a"), ids("a"), removed()).is_passed  # twice


def test_reasons_known() -> None:
    assert gates.reasons_known(removed(a="image_blank")).is_passed
    outcome = gates.reasons_known(removed(a="because", b="image_blank"))
    assert not outcome.is_passed
    assert outcome.summary == "1 of 2 removed rows have no documented reason, but because"
    assert outcome.numbers == {"removed_rows": 2, "undocumented_rows": 1}
    none = pl.LazyFrame([{"item_id": "a", "stage": "clean"}], schema=dict(REMOVED))
    assert not gates.reasons_known(none).is_passed


def test_share_at_least() -> None:
    assert gates.share_at_least(5, 10, 0.5, "pictures decode").is_passed
    assert not gates.share_at_least(4, 10, 0.5, "pictures decode").is_passed
    assert not gates.share_at_least(0, 0, 0.0, "pictures decode").is_passed


def test_not_empty_says_why_everything_went() -> None:
    assert gates.not_empty(ids("a"), removed()).is_passed
    outcome = gates.not_empty(ids(), removed(a="image_blank", b="image_blank"))
    assert not outcome.is_passed
    assert "image_blank 2" in outcome.summary
    assert outcome.numbers == {"rows": 0, "removed_image_blank": 2}


def test_no_leak() -> None:
    report = {"cross_split_pairs": 0, "random_split_pairs": 12, "by_kind": {"same_pixels": 0}}
    pair = {"item_id": "a", "other_item_id": "b", "kind": "same_pixels", "score": 1.0}
    assert gates.no_leak(report, pl.LazyFrame(schema=dict(PAIRS))).is_passed
    bad = {**report, "cross_split_pairs": 2, "by_kind": {"same_pixels": 2}}
    outcome = gates.no_leak(bad, pl.LazyFrame([pair] * 9, schema=dict(PAIRS)))
    assert not outcome.is_passed
    assert "same_pixels 2" in outcome.summary
    assert outcome.examples is not None
    assert outcome.examples.to_dicts() == [pair] * gates.EXAMPLE_ROWS


def test_licences_compatible() -> None:
    report = {"dataset_licence": "CC0-1.0", "by_licence": [], "incompatible_items": {"count": 0, "first": []}}
    assert gates.licences_compatible(report).is_passed
    bad = {
        **report,
        "by_licence": [{"licence": "MIT", "why": "asks for attribution"}, {"licence": None, "why": "none"}],
        "incompatible_items": {
            "count": 7,
            "first": [{"item_id": name, "licence": None if name == "b" else "MIT"} for name in "abcdef"],
        },
    }
    outcome = gates.licences_compatible(bad)
    assert not outcome.is_passed
    assert outcome.numbers == {"incompatible_items": 7}
    assert outcome.summary.endswith("under CC0-1.0: 'a', 'b', 'c', 'd', 'e', 'f', ...")
    assert outcome.examples is not None
    assert outcome.examples.rows() == [
        ("a", "MIT", "asks for attribution"),
        ("b", None, "none"),
        ("c", "MIT", "asks for attribution"),
    ]


def test_licence_present() -> None:
    items = pl.LazyFrame({"item_id": ["a", "b"], "source": ["s", "s"], "licence": ["MIT", None]})
    assert not gates.licence_present(items).is_passed
    assert gates.licence_present(items.head(1)).is_passed


def test_examples_are_masked_outside_public_columns() -> None:
    shown = gates.redacted(pl.DataFrame({"item_id": ["a1"], "title": ["Ada 12, é"]}), {"item_id"})
    assert shown.to_dicts() == [{"item_id": "a1", "title": "xxx 99, x"}]


def test_no_script_shows_through_the_mask() -> None:
    """Combining vowel signs and digits of other scripts are part of what was written."""
    shown = gates.redacted(pl.DataFrame({"title": ["श्रीमती ४२", "ﷺ ١٢٣", "أحمدُ", "n\u0303"]}), set())
    assert shown["title"].to_list() == ["xxxx 99", "x 999", "xxxx"]


def test_no_leak_looks_at_folds_too() -> None:
    none: dict[str, Any] = {"cross_split_pairs": 0, "random_split_pairs": 1, "by_kind": {}, "folds": 3}
    nowhere = pl.LazyFrame(schema=dict(PAIRS))
    passed = gates.no_leak({**none, "cross_fold_pairs": 0, "cross_fold_by_kind": {}}, nowhere)
    assert passed.is_passed
    assert passed.summary == "0 pairs cross splits or folds; a random split would have leaked 1"
    failed = gates.no_leak({**none, "cross_fold_pairs": 4, "cross_fold_by_kind": {"same_text": 4}}, nowhere)
    assert not failed.is_passed
    assert failed.summary == "4 pairs cross folds (same_text 4)"


def planted(recognised: int, found: int, *, is_exhaustive: bool = True) -> dict[str, Any]:
    counts = {"planted": 100, "recognised": recognised, "found": found}
    whole = {"planted": 50, "recognised": 50, "found": 50}
    return {
        "planted": {"near_image": {"10 % darker": whole, "cropped": counts}},
        "is_exhaustive": is_exhaustive,
    }


def test_every_planted_copy_that_the_rule_knows_is_found_or_the_gate_fails() -> None:
    assert gates.planted_copies_found(planted(98, 98), 0.9).is_passed
    one_missed = gates.planted_copies_found(planted(98, 97), 0.9)
    assert not one_missed.is_passed
    assert one_missed.summary == (
        "planted copies found: near_image: 147 of 150; 1 that are near by the rule were missed by a search of all pairs"
    )
    assert one_missed.examples is not None
    assert one_missed.examples["change"].to_list() == ["cropped", "10 % darker"]
    # A search that does not look at every pair may miss some, but no more than it is allowed.
    assert gates.planted_copies_found(planted(98, 90, is_exhaustive=False), 0.9).is_passed
    assert not gates.planted_copies_found(planted(98, 80, is_exhaustive=False), 0.9).is_passed
    # And so may a rule that does not know what it should.
    assert "90% of near_image expected" in gates.planted_copies_found(planted(70, 70), 0.9).summary
    assert gates.planted_copies_found({"planted": {}, "is_exhaustive": True}, 1.0).is_passed


def test_a_split_in_time_has_nothing_of_the_future() -> None:
    rows = [
        ("a", "a", "train", "2026-01-01"),
        ("b", "b", "train", "2026-01-31"),
        ("c", "c", "test", "2026-02-01"),
        ("d", "e", "test", "2026-01-05"),  # of a group that goes on
        ("e", "e", "test", "2026-02-02"),
    ]
    items = pl.LazyFrame(rows, schema=["item_id", "leak_group", "split", "date"], orient="row")
    assert gates.time_ordered(items, ["train", "test"]).is_passed
    for odd in ("2026-02-01", "2026-02", None):
        late = items.with_columns(
            date=pl.when(pl.col("item_id") == "b").then(pl.lit(odd, pl.String)).otherwise("date")
        )
        outcome = gates.time_ordered(late, ["train", "test"])
        assert not outcome.is_passed
        assert outcome.numbers == {"late_items": 1}
        assert outcome.examples is not None
        assert outcome.examples["item_id"].to_list() == ["b"]
