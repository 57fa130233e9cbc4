"""Dates as people write them, and cuts in time that let nothing of the future into train."""

import datetime as dt
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Split
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.split import SplitResult, split_items
from dataset_pipeline.stages.temporal import PERIODS, parsed_dates
from dataset_pipeline.tables import PAIRS, empty
from dataset_pipeline_tests.stages.crafted import deduplicated

RATIOS = {"train": 0.6, "validation": 0.2, "test": 0.2}
END = dt.timedelta(days=1) - dt.timedelta(microseconds=1)


def split(rows: list[dict[str, Any]], released: dict[str, str] | None = None, **options: Any) -> SplitResult:
    before = None
    if released is not None:
        before = pl.DataFrame(
            {"item_id": list(released), "split": list(released.values())}
        ).with_columns(fold=pl.lit(None, pl.Int64))  # fmt: skip
    chosen = Split(method="temporal", **{"ratios": RATIOS, **options})
    return split_items(deduplicated(rows), empty(PAIRS), ["title"], chosen, 0, before)


def splits_of(result: SplitResult) -> dict[str, str]:
    return dict(result.items.select("item_id", "split").collect().iter_rows())


def days(count: int) -> list[dict[str, Any]]:
    """An item a day, from the first of January on."""
    first = dt.date(2026, 1, 1)
    return [{"item_id": f"{n:03}", "date": str(first + dt.timedelta(days=n))} for n in range(count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-31", dt.datetime(2024, 5, 31) + END),
        (" 2024-05-31 ", dt.datetime(2024, 5, 31) + END),
        ("2024-02", dt.datetime(2024, 2, 29) + END),  # a month stands for the end of its last day
        ("2024", dt.datetime(2024, 12, 31) + END),
        ("2024-05-31T12:30", dt.datetime(2024, 5, 31, 12, 30)),
        ("2024-05-31T12:30:15Z", dt.datetime(2024, 5, 31, 12, 30, 15)),
        ("2024-05-31 12:30:15.25", dt.datetime(2024, 5, 31, 12, 30, 15, 250_000)),
        ("2024-05-31 00:30:00+02:00", dt.datetime(2024, 5, 30, 22, 30)),
        ("2024-05-31 23:30:00-0330", dt.datetime(2024, 6, 1, 3, 0)),
        ("2024-05-31 12:00:00 UTC", dt.datetime(2024, 5, 31, 12)),
        *((odd, None) for odd in ("31/12/2020", "2024-13-01", "2023-02-29", "2024-05-31T25:00", "yesterday", "", "20240531")),
        (None, None),
    ],
)  # fmt: skip
def test_dates(text: str | None, expected: dt.datetime | None) -> None:
    frame = pl.DataFrame({"date": [text]}, schema={"date": pl.String})
    assert frame.select(parsed_dates(pl.col("date"))).item() == expected


def test_cuts_are_where_the_shares_are_nearest_and_are_reported() -> None:
    result = split(days(20))
    assert result.summary["items"].to_list() == [12, 4, 4]
    first = dt.datetime(2026, 1, 1) + END
    cuts = [first + dt.timedelta(days=n) for n in (11, 15, 19)]
    assert dict(result.periods.schema) == dict(PERIODS)
    assert result.periods.rows() == [
        ("train", None, cuts[0], 12, 0),
        ("validation", cuts[0], cuts[1], 4, 0),
        ("test", cuts[1], cuts[2], 4, 0),
    ]
    assert result.report["periods"][0]["until"] == "2026-01-12T23:59:59Z"


def test_a_group_goes_by_its_latest_item_and_what_is_earlier_is_counted() -> None:
    rows = days(20)
    for number in (0, 1, 19):
        rows[number]["group_keys"] = ["k=1"]
    result = split(rows)
    splits = splits_of(result)
    assert {splits[f"{n:03}"] for n in (0, 1, 19)} == {"test"}
    assert result.periods["items_before"].to_list() == [0, 0, 2]


def test_items_of_one_date_stay_together() -> None:
    rows = [{"item_id": f"{n}", "date": "2026-01-01" if n < 6 else f"2026-01-0{n}"} for n in range(10)]
    splits = splits_of(split(rows))
    assert {splits[f"{n}"] for n in range(6)} == {"train"}
    assert [splits[f"{n}"] for n in range(6, 10)] == ["validation", "validation", "test", "test"]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 15)), min_size=3, max_size=40), st.integers(0, 3)
)
@settings(max_examples=60, deadline=None)
def test_nothing_in_a_split_is_later_than_the_cut_after_it(items: list[tuple[int, int]], seed: int) -> None:
    rows = [
        {"item_id": f"{n:02}", "date": f"2026-01-{day + 1:02}", "group_keys": [f"k={key}"]}
        for n, (day, key) in enumerate(items)
    ]
    latest = {key: max(day for day, other in items if other == key) for _, key in items}
    if len(set(latest.values())) < 3:
        with pytest.raises(GateError, match="different dates"):
            split(rows)
        return
    result = split(rows)
    table = result.items.collect()
    order = list(RATIOS)
    until = dict(result.periods.select("split", pl.col("until").dt.date()).iter_rows())
    for name, day in table.select("split", pl.col("date").str.to_date()).iter_rows():
        assert day <= until[name]
    # Of each group, some item is later than the cut before its split.
    latest_of = table.group_by("leak_group", "split").agg(pl.col("date").str.to_date().max())
    for _, name, day in latest_of.iter_rows():
        assert order.index(name) == 0 or day > until[order[order.index(name) - 1]]
    assert set(table["split"]) == set(order)
    shuffled = rows.copy()
    random.Random(seed).shuffle(shuffled)
    assert split(shuffled).items.collect().equals(table)


def test_cuts_stay_between_what_was_released_on_either_side() -> None:
    before = splits_of(split(days(20)))
    grown = split(days(40), before)
    assert {name: splits_of(grown)[name] for name in before} == before
    assert grown.moved.is_empty()
    assert grown.summary["items"].to_list() == [
        12,
        4,
        24,
    ]  # what is new is later than the test split's beginning
    anew = split(days(40), before, keep="none")
    assert anew.summary["items"].to_list() == [24, 8, 8]


def test_a_released_item_with_a_later_twin_moves_and_says_so() -> None:
    before = splits_of(split(days(20)))
    rows = [*days(20), {"item_id": "late", "date": "2026-02-01", "group_keys": ["k=1"]}]
    rows[0]["group_keys"] = ["k=1"]
    grown = split(rows, before)
    assert splits_of(grown)["000"] == "test"
    moved = grown.moved.select("item_id", "old_split", "new_split", "reason").rows()
    assert moved == [("000", "train", "test", "date")]


def test_dates_that_are_missing_or_odd_are_named_with_their_items() -> None:
    rows = days(10)
    rows[3]["date"], rows[5]["date"] = None, "next week"
    with pytest.raises(GateError) as caught:
        split(rows)
    assert caught.value.message == (
        "split.method 'temporal' needs the date of every item; of 10 dates 1 are missing (of 003) and 1 are no "
        "dates ('next week' of 005); expected such as 2024-05-31 or 2024-05-31T12:00:00Z"
    )
    many = [{"item_id": f"{n:02}", "date": "?"} for n in range(30)]
    with pytest.raises(GateError, match=r"30 are no dates \('\?' of 00, .*\.\.\.\)"):
        split(many)


def test_fewer_dates_than_splits() -> None:
    rows = [{"item_id": f"{n}", "date": f"2026-01-0{1 + n % 2}"} for n in range(10)]
    with pytest.raises(
        GateError,
        match=r"3 splits \(train, validation, test\) need as many different dates of groups, found 2",
    ):
        split(rows)
