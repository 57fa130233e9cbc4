"""What people decide: which rows are allowed, and that they override the machine."""

from typing import Any

import polars as pl
import pytest

from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.clean import Cleaned
from dataset_pipeline.stages.decisions import (
    FINAL_REASONS,
    KINDS,
    decided_items,
    decided_removals,
    parse,
    states,
)
from dataset_pipeline.tables import DECISIONS, REASONS, REMOVED
from dataset_pipeline_tests.stages.test_clean import RAW_SCHEMA, clean, image, raw_item, verdicts


def rows(*given: tuple[str | None, ...]) -> pl.DataFrame:
    """(item_id, decision, value) rows; who and when are filled in."""
    full = [(*row, *("Ada", "2026-11-01")[len(row) - 3 :]) if len(row) < 5 else row for row in given]
    return pl.DataFrame(full, schema=dict(DECISIONS), orient="row")


def decided(*given: tuple[str | None, ...]) -> pl.DataFrame:
    return parse(rows(*given), "decisions.csv")


# -- what a row may say --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("a", "kep", None)], "decisions.csv:2: 'kep' is no decision; did you mean 'keep'?"),
        ([("a", "xyz", None)], f"'xyz' is no decision; expected one of {', '.join(KINDS)}"),
        ([("a", None, None)], "decisions.csv:2: no 'decision'"),
        ([(None, "keep", None)], "no 'item_id'"),
        ([("a", "keep", None, None, "2026-11-01")], "no 'by': say which item, what is decided, who decided it and when"),
        ([("a", "keep", None, "Ada", None)], "no 'date'"),
        ([("a", "keep", None, "Ada", "1.11.2026")], "'1.11.2026' is no date; expected one such as 2026-11-25"),
        ([("a", "keep", None, "Ada", "2026-02-30")], "'2026-02-30' is no date"),
        ([("a", "relabel", None)], "'relabel' needs a value"),
        ([("a", "relabel", "  ")], "'relabel' needs a value"),
        ([("a", "keep", "b")], "'keep' takes no value, found 'b'"),
        ([("a", "language", "English")], "'English' is no language tag"),
        ([("a", "duplicate", "a")], "is about two items"),
        # contradictions, with both lines
        ([("a", "keep", None), ("a", "drop", None)], "decisions.csv:3: item 'a': 'drop' contradicts 'keep' in line 2"),
        ([("a", "relabel", "x"), ("a", "relabel", "y")], "'relabel' contradicts 'relabel x' in line 2"),
        ([("a", "drop", None), ("a", "relabel", "y")], "'relabel' contradicts 'drop' in line 2"),
        ([("a", "keep", None), ("a", "duplicate", "b")], "'duplicate' contradicts 'keep' in line 2"),
        ([("a", "duplicate", "b"), ("a", "duplicate", "c")], "'duplicate' contradicts 'duplicate b' in line 2"),
        ([("a", "duplicate", "b"), ("b", "not_duplicate", "a")], "'not_duplicate' contradicts 'duplicate' in line 2"),
        ([("a", "duplicate", "b"), ("b", "duplicate", "a")], "would be a duplicate of itself, through 'a'"),
        (
            [("a", "duplicate", "b"), ("b", "duplicate", "c"), ("c", "duplicate", "a")],
            "decisions.csv:4: item 'c' would be a duplicate of itself",
        ),
    ],
)  # fmt: skip
def test_what_a_row_may_not_say(given: list[tuple[str | None, ...]], message: str) -> None:
    with pytest.raises(ConfigError) as found:
        decided(*given)
    assert message in str(found.value)
    assert found.value.exit_status == 2


def test_many_faults_are_counted() -> None:
    with pytest.raises(ConfigError, match=r"and 7 more"):
        decided(*[(f"i{n}", "nope", None) for n in range(12)])


def test_rows_are_trimmed_sorted_and_counted_once() -> None:
    found = decided(
        (" b ", "relabel", " hat "), ("a", "keep", ""), ("a", "keep", None), ("b", "relabel", "hat"),
        ("a", "confirm", None), ("c", "not_duplicate", "a"), ("a", "not_duplicate", "c"),
        ("'=x", "drop", None),  # as a spreadsheet gives it back
    )  # fmt: skip
    assert found.select("item_id", "decision", "value").rows() == [
        ("=x", "drop", None),
        ("a", "confirm", None),
        ("a", "keep", None),
        ("a", "not_duplicate", "c"),
        ("b", "relabel", "hat"),
        ("c", "not_duplicate", "a"),
    ]


# -- cleaning ------------------------------------------------------------------------------------


def cleaned_with(*given: tuple[str | None, ...], **settings: Any) -> Cleaned:
    items = [
        raw_item("good"),
        raw_item("small"),
        raw_item("unsure", label="Not sure"),
        raw_item("short", title="x"),
        raw_item("broken"),
        raw_item("nd", licence="CC-BY-ND-4.0"),
    ]
    images = [image(row["item_id"]) for row in items]
    images[1] = image("small", width_px=9)
    images[4] = image("broken", problem="image_truncated", width_px=None, height_px=None, contrast=None)
    return clean(
        items,
        images=images,
        decisions=decided(*given) if given else None,
        labels={"unsure": ["Not sure"]},
        clean={"texts": {"min_chars": 2}},
        licences={"no_derivatives": "drop"},
        **settings,
    )


def test_keep_overrides_measures_and_nothing_that_is_final() -> None:
    before = verdicts(cleaned_with())
    assert {name for name, verdict in before.items() if verdict is None} == {"good"}
    everything = [(name, "keep", None) for name in before]
    after = verdicts(cleaned_with(*everything))
    assert {name for name, verdict in after.items() if verdict is None} == {
        "good",
        "small",
        "unsure",
        "short",
    }
    assert after["broken"] == before["broken"]
    assert after["nd"] == before["nd"]


def test_a_kept_item_is_removed_for_a_final_reason_behind_one_that_is_not() -> None:
    row = raw_item("a", label="Not sure")
    broken = image("a", problem="image_truncated", width_px=None, height_px=None, contrast=None)
    found = clean(
        [row], images=[broken], decisions=decided(("a", "keep", None)), labels={"unsure": ["Not sure"]}
    )
    assert verdicts(found) == {"a": ("clean", "image_truncated", None)}


def test_takedowns_come_before_decisions() -> None:
    taken = pl.DataFrame({"item_id": ["good", "small"]})
    found = verdicts(cleaned_with(("good", "keep", None), ("small", "drop", None), takedowns=taken))
    assert found["good"] == ("clean", "taken_down", None)
    assert found["small"] == ("clean", "taken_down", None)


def test_drop_says_who_did_it_nowhere_but_in_the_decisions() -> None:
    assert verdicts(cleaned_with(("good", "drop", None)))["good"] == ("clean", "decided_drop", None)


def test_final_reasons_are_reasons() -> None:
    assert set(REASONS) >= FINAL_REASONS


def test_labels_and_languages() -> None:
    raw = pl.LazyFrame(
        [raw_item("a", label="cap", label_source="model", language="de"), raw_item("b", label="hat")],
        schema=RAW_SCHEMA,
    )
    found = decided_items(
        raw, decided(("a", "relabel", "hat"), ("a", "language", "fr"), ("zz", "relabel", "x")), "human"
    )
    assert found.collect_schema() == raw.collect_schema()
    assert found.select("item_id", "label", "label_source", "language").collect().rows() == [
        ("a", "hat", "human", "fr"),
        ("b", "hat", "human", None),
    ]


# -- duplicates ----------------------------------------------------------------------------------

IDS = pl.Series(list("abcdef"))


def removals(*found: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [(item, kept, "same_bytes") for item, kept in found],
        schema=dict.fromkeys(("item_id", "kept_item_id", "detail"), pl.String()),
        orient="row",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], [("b", "a"), ("c", "a")]),
        ([("b", "keep", None)], [("c", "a")]),
        ([("b", "not_duplicate", "a")], [("c", "a")]),
        ([("a", "not_duplicate", "b")], [("c", "a")]),  # in either order
        ([("b", "not_duplicate", "c")], [("b", "a"), ("c", "a")]),  # the two were never merged
        ([("d", "duplicate", "a")], [("b", "a"), ("c", "a"), ("d", "a")]),
        ([("d", "duplicate", "b")], [("b", "a"), ("c", "a"), ("d", "a")]),  # b is gone: a stands for it
        ([("a", "duplicate", "d")], [("a", "d"), ("b", "d"), ("c", "d")]),  # and so is what a stood for
        ([("a", "duplicate", "b")], [("a", "b"), ("c", "b")]),  # the other one shall stay
        (
            [("d", "duplicate", "e"), ("e", "duplicate", "f")],
            [("b", "a"), ("c", "a"), ("d", "f"), ("e", "f")],
        ),
        ([("d", "duplicate", "zz")], [("b", "a"), ("c", "a")]),  # there is no such item
        ([("b", "confirm", "a"), ("b", "relabel", "x")], [("b", "a"), ("c", "a")]),
    ],
)
def test_decisions_on_duplicates(
    given: list[tuple[str | None, ...]], expected: list[tuple[str, str]]
) -> None:
    found = decided_removals(removals(("b", "a"), ("c", "a")), IDS, decided(*given) if given else rows())
    assert found.select("item_id", "kept_item_id").rows() == expected
    gone = set(found["item_id"])
    assert not gone & set(found["kept_item_id"]), "what stands for another stays itself"
    told = {row[0] for row in found.filter(pl.col("detail") == "decided").iter_rows()}
    assert told == {item for item, decision, value in given if decision == "duplicate" and value != "zz"}


# -- what became of them -----------------------------------------------------------------------------


def test_states() -> None:
    made = decided(
        ("kept", "keep", None), ("broken", "keep", None), ("gone", "drop", None), ("nobody", "drop", None),
        ("kept", "relabel", "x"), ("broken", "relabel", "x"), ("twin", "duplicate", "kept"),
        ("kept", "not_duplicate", "other"), ("kept", "not_duplicate", "nobody"), ("gone", "confirm", None),
    )  # fmt: skip
    ids = pl.LazyFrame({"item_id": ["kept", "broken", "gone", "twin", "other"]})
    removed = pl.LazyFrame(
        [
            ("broken", "clean", "image_empty", None, None),
            ("gone", "clean", "decided_drop", None, None),
            ("twin", "duplicates", "duplicate", "decided", "kept"),
        ],
        schema=dict(REMOVED), orient="row",
    )  # fmt: skip
    found = states(made, ids, removed, pl.LazyFrame({"item_id": ["kept", "other"]}))
    assert {(row["item_id"], row["decision"], row["value"]): row["state"] for row in found.to_dicts()} == {
        ("kept", "keep", None): "in_force",
        ("broken", "keep", None): "overruled",
        ("gone", "drop", None): "in_force",
        ("gone", "confirm", None): "in_force",
        ("nobody", "drop", None): "unknown_item",
        ("kept", "relabel", "x"): "in_force",
        ("broken", "relabel", "x"): "overruled",
        ("twin", "duplicate", "kept"): "in_force",
        ("kept", "not_duplicate", "other"): "in_force",
        ("kept", "not_duplicate", "nobody"): "unknown_item",
    }
