"""Which items a takedown means, and what else may not come in their place."""

from typing import Any

import polars as pl
import pytest

from dataset_pipeline.stages.gates import taken_down_absent
from dataset_pipeline.stages.takedowns import NOTHING_RELEASED, SAME, of_release, removed_rows, with_takedowns
from dataset_pipeline.tables import REMOVED

SHA, PIXELS, OTHER = "a" * 64, "b" * 64, "c" * 64


def takedown(**values: str) -> dict[str, Any]:
    return {**dict.fromkeys(("item_id", "sha256", "url", "reason", "date")), **values}


def listed(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows), schema=dict.fromkeys(("item_id", "sha256", "url", "reason", "date"), pl.String())
    )


ITEM = {
    "item_id": "x",
    "image_sha256": SHA,
    "image_pixel_hash": PIXELS,
    "url": "https://www.example.org/x/#top",
}


@pytest.mark.parametrize(
    ("row", "is_meant"),
    [
        ({"item_id": "x"}, True),
        ({"item_id": " x "}, True),
        ({"item_id": "X"}, False),
        ({"sha256": SHA}, True),
        ({"sha256": SHA.upper()}, True),
        ({"sha256": PIXELS}, True),
        ({"sha256": OTHER}, False),
        ({"url": "http://example.org/x"}, True),  # http or https, with www or not, with a fragment or not
        ({"url": " https://www.example.org/x/ "}, True),
        ({"url": "https://example.org/xy"}, False),
        ({"url": "https://example.org/x?page=2"}, False),
    ],
)
def test_what_a_row_means(row: dict[str, str], is_meant: bool) -> None:
    items = pl.LazyFrame(
        [ITEM, {**dict.fromkeys(ITEM), "item_id": "bare"}], schema=dict.fromkeys(ITEM, pl.String())
    )
    found = with_takedowns(items, listed(takedown(**row, date="2026-11-01"))).collect()
    assert found.columns == [*ITEM, "is_taken_down", "takedown_date"]
    assert dict(found.select("item_id", "is_taken_down").rows()) == {"x": is_meant, "bare": False}
    assert dict(found.select("item_id", "takedown_date").rows()) == {
        "x": "2026-11-01" if is_meant else None,
        "bare": None,
    }


def test_the_first_date_counts_and_an_item_is_taken_down_once() -> None:
    rows = listed(
        takedown(item_id="x", date="2026-11-03"),
        takedown(item_id="x", date="2026-11-02"),
        takedown(sha256=SHA),
    )
    found = with_takedowns(pl.LazyFrame([ITEM]), rows).collect()
    assert found.select("is_taken_down", "takedown_date").rows() == [(True, "2026-11-02")]


@pytest.mark.parametrize("takedowns", [None, listed()])
def test_nothing_listed(takedowns: pl.DataFrame | None) -> None:
    found = with_takedowns(pl.LazyFrame([ITEM]), takedowns).collect()
    assert found.select("is_taken_down", "takedown_date").rows() == [(False, None)]


# -- what an earlier release knew --------------------------------------------------------------------


def released(*removed: tuple[str, str, str | None, str | None]) -> pl.DataFrame:
    """(item, reason, detail, kept) rows."""
    rows = [(item, "duplicates", reason, detail, kept) for item, reason, detail, kept in removed]
    return pl.DataFrame(rows, schema=dict(REMOVED), orient="row")


PICTURES = pl.DataFrame({"item_id": ["a", "k"], "image_sha256": [SHA, OTHER]})


def test_duplicates_of_what_is_taken_down_are_known_from_the_release_before() -> None:
    before = released(
        ("b", "duplicate", "same_bytes", "a"),
        ("t", "duplicate", "same_bytes", "k"),
        ("u", "duplicate", "same_bytes", "k"),
        ("z", "duplicate", "same_bytes", "y"),
        ("w", "text_empty", None, None),
    )
    by_id = of_release(before, PICTURES, listed(takedown(item_id="a"), takedown(item_id="t")))
    assert by_id.rows() == [
        ("b", "a"),
        ("k", "t"),
        ("u", "t"),
    ]  # also what stood for it, and its other copies
    assert of_release(before, PICTURES, listed(takedown(sha256=SHA))).rows() == [("b", "a")]
    assert of_release(before, PICTURES, listed(takedown(item_id="q"))).is_empty()
    assert of_release(before, PICTURES, None).is_empty()
    assert of_release(*NOTHING_RELEASED, listed(takedown(item_id="a"))).schema == pl.Schema(dict(SAME))


def test_what_was_held_back_stays_so_as_long_as_the_takedown_is_listed() -> None:
    before = released(("b", "duplicate_of_taken_down", "a", None))
    assert of_release(before, PICTURES, listed(takedown(item_id="a"))).rows() == [("b", "a")]
    assert of_release(before, PICTURES, listed(takedown(item_id="q"))).is_empty()
    # A hash may be of a picture that no source has any more: to be on the safe side.
    assert of_release(before, PICTURES, listed(takedown(sha256=OTHER))).rows() == [("b", "a")]


def test_removed_rows_name_the_item_that_was_taken_down() -> None:
    found = removed_rows(pl.DataFrame([("b", "a")], schema=dict(SAME), orient="row"))
    assert found.rows() == [("b", "duplicates", "duplicate_of_taken_down", "a", None)]


# -- the gate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "is_passed"),
    [
        ({"item_id": "x"}, False),
        ({"sha256": SHA}, False),
        ({"sha256": PIXELS.upper()}, False),
        ({"item_id": "y"}, True),
    ],
)
def test_the_gate_finds_what_is_released_all_the_same(row: dict[str, str], is_passed: bool) -> None:
    items = pl.LazyFrame({"item_id": ["x", "free"], "image_sha256": [SHA, None]})
    pixels = pl.LazyFrame({"sha256": [SHA], "pixel_hash": [PIXELS]})
    outcome = taken_down_absent(items, pixels, listed(takedown(**row)))
    assert outcome.is_passed is is_passed
    if not is_passed:
        assert outcome.examples is not None
        assert outcome.examples["item_id"].to_list() == ["x"]
    assert taken_down_absent(items, pixels, None).is_passed
