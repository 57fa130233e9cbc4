"""Splits that follow one another in time.

Belongs here: reading dates, and where time is cut. Does not belong here: other ways to split (``split``).

The rule: a leak group goes by its *latest* item, and groups of one date stay together. So nothing in a split is
later than the cut after it: a model is never trained on what came after its test began. A later split may hold
items from before its cut, where they belong to a group that goes on; they are counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.similarity import Integers
from dataset_pipeline.tables import Schema

PERIODS: Schema = {
    "split": pl.String(),
    "after": pl.Datetime("us"),
    "until": pl.Datetime("us"),
    "items": pl.Int64(),
    "items_before": pl.Int64(),
}
"""One row a split, in order of time: the latest item of every group is later than ``after`` (null: none is before)
and not later than ``until``; ``items_before``: those that are themselves not later than ``after``."""

_NAMED_IN_ERRORS = 5
_DATE = (
    r"^(?<year>\d{4})(?:-(?<month>\d{2})(?:-(?<day>\d{2})"
    r"(?:[T ](?<clock>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d{1,9}))?)?(?<zone> ?UTC|Z|[+-]\d{2}:?\d{2})?)?)?)?$"
)


def parsed_dates(values: pl.Expr) -> pl.Expr:
    """ISO 8601 dates, with or without a time and its zone, as times of UTC; null: not understood.

    A date without a time stands for the end of its day, a month or a year alone for the end of its last day: that
    is the latest it can mean, so that nothing later can be in an earlier split.
    """
    part = values.str.strip_chars().str.extract_groups(_DATE).struct
    year, month, day = (part.field(name) for name in ("year", "month", "day"))
    zone = part.field("zone").str.replace_all("[ :UTCZ]", "")
    known_day = pl.concat_str(
        year, month.fill_null("12"), day.fill_null("01"), separator="-", ignore_nulls=False
    ).str.to_date("%Y-%m-%d", strict=False)
    whole_day = pl.when(day.is_null()).then(known_day.dt.month_end()).otherwise(known_day)
    clock = pl.concat_str(
        part.field("clock"), pl.lit(":"), part.field("second").fill_null("00"), ignore_nulls=False
    )
    time = clock.str.to_time("%H:%M:%S", strict=False)
    end_of_day = pl.duration(days=1) - pl.duration(microseconds=1)
    fraction = part.field("fraction").str.pad_end(9, "0").cast(pl.Int64, strict=False).fill_null(0) // 1000
    hours = zone.str.slice(0, 3).cast(pl.Int64, strict=False).fill_null(0)
    minutes = (
        pl.concat_str(zone.str.slice(0, 1), zone.str.slice(3, 2)).cast(pl.Int64, strict=False).fill_null(0)
    )
    moment = whole_day.cast(pl.Datetime("us")) + pl.when(part.field("clock").is_null()).then(
        end_of_day
    ).otherwise(time.cast(pl.Duration("us")) + pl.duration(microseconds=fraction))
    return moment - pl.duration(hours=hours, minutes=minutes)


def temporal_splits(
    table: pl.DataFrame, former: pl.DataFrame, ratios: dict[str, float]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(leak_group and split of every group, PERIODS). ``table``: item_id, leak_group, date (as text).

    ``ratios``: split -> share of the items, in order of time. Each cut is where the shares are nearest; but first
    of all where the fewest items of ``former`` (leak_group, old_split) leave a split for an earlier one, then for a
    later one: what was released in test is not trained on. Raises ``GateError`` for dates that are missing or not
    understood, and for fewer dates than splits.
    """
    dated = table.select("item_id", "leak_group", "date", moment=parsed_dates(pl.col("date")))
    _refuse_dates(dated)
    groups = (
        dated.group_by("leak_group").agg(pl.col("moment").max(), items=pl.len()).sort("moment", "leak_group")
    )
    moments = groups["moment"].unique().sort()
    names = list(ratios)
    if len(moments) < len(names):
        raise GateError(
            f"{len(names)} splits ({', '.join(names)}) need as many different dates of groups, found {len(moments)}",
            hint="Name fewer splits in split.ratios, or give dates to the day or the second.",
        )
    place = groups["moment"].rank("dense").cast(pl.Int64).to_numpy() - 1
    cuts = _cuts(place, groups, former, ratios)
    number = np.searchsorted(cuts, place, side="right")
    assigned = groups.select("leak_group", split=pl.Series(names, dtype=pl.String).gather(number))
    until = [moments[int(cut) - 1] for cut in cuts] + [moments[-1]]
    return assigned, _periods(dated.join(assigned, on="leak_group"), until, names)


def _cuts(place: Integers, groups: pl.DataFrame, former: pl.DataFrame, ratios: dict[str, float]) -> Integers:
    """For every split but the first, the number of the first date that is in it."""
    count = int(place[-1]) + 1
    items = np.bincount(place, weights=groups["items"].to_numpy(), minlength=count)
    before = np.concatenate([[0], np.cumsum(items)])  # items before each date
    shares = np.cumsum(list(ratios.values()))[:-1]
    rank = {name: number for number, name in enumerate(ratios)}
    known = former.filter(pl.col("old_split").is_in(list(ratios))).join(
        groups.select("leak_group", place=pl.Series(place)), on="leak_group"
    )
    known_place, known_rank = (
        known["place"].to_numpy(),
        known["old_split"].replace_strict(rank, return_dtype=pl.Int64).to_numpy(),
    )
    cuts: list[int] = []
    for number, share in enumerate(shares, start=1):
        lowest = cuts[-1] + 1 if cuts else 1
        tried = np.arange(lowest, count - (len(shares) - number))
        is_late = known_rank >= number
        too_early = np.concatenate([[0], np.cumsum(np.bincount(known_place[is_late], minlength=count))])
        too_late = np.bincount(known_place[~is_late], minlength=count)[::-1].cumsum()[::-1]
        off = np.abs(before[tried] - share * before[-1])
        cuts.append(int(tried[np.lexsort((off, too_late[tried], too_early[tried]))[0]]))
    return np.array(cuts, np.int64)


def periods_of(items: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """PERIODS, with times as text, of a finished split, whose splits are in the order of ``names``.

    ``items``: leak_group, split, date.
    """
    dated = items.select("leak_group", "split", moment=parsed_dates(pl.col("date")))
    latest = dated.group_by("leak_group", "split").agg(pl.col("moment").max())
    until = dict(latest.group_by("split").agg(pl.col("moment").max()).iter_rows())
    return readable(_periods(dated, [until.get(name) for name in names], names))


def readable(periods: pl.DataFrame) -> pl.DataFrame:
    """PERIODS with times as text of seconds in UTC."""
    return periods.with_columns(pl.col("after", "until").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _periods(dated: pl.DataFrame, until: Sequence[Any], names: Sequence[str]) -> pl.DataFrame:
    limits = pl.DataFrame(
        {"split": names, "after": [None, *until[:-1]], "until": until},
        schema={name: PERIODS[name] for name in ("split", "after", "until")},
    )
    counted = (
        dated.join(limits, on="split")
        .group_by("split")
        .agg(
            items=pl.len().cast(pl.Int64),
            items_before=(pl.col("moment") <= pl.col("after")).fill_null(False).sum().cast(pl.Int64),
        )
    )
    return limits.join(counted, on="split", maintain_order="left").select(*PERIODS)


def _refuse_dates(dated: pl.DataFrame) -> None:
    wrong = dated.filter(pl.col("moment").is_null())
    if wrong.is_empty():
        return
    missing = wrong.filter(pl.col("date").is_null())
    told = [f"{missing.height:,} are missing (of {_some(missing['item_id'])})"] if missing.height else []
    odd = wrong.drop_nulls("date")
    if odd.height:
        examples = ", ".join(
            f"{value!r} of {item}"
            for item, value in odd.select("item_id", "date").head(_NAMED_IN_ERRORS).iter_rows()
        )
        more = ", ..." if odd.height > _NAMED_IN_ERRORS else ""
        told.append(f"{odd.height:,} are no dates ({examples}{more})")
    raise GateError(
        f"split.method 'temporal' needs the date of every item; of {dated.height:,} dates {' and '.join(told)}; "
        "expected such as 2024-05-31 or 2024-05-31T12:00:00Z",
        hint="Mend the column that columns.date names, or leave these rows out.",
    )


def _some(values: pl.Series) -> str:
    return ", ".join(values.head(_NAMED_IN_ERRORS)) + (", ..." if len(values) > _NAMED_IN_ERRORS else "")
