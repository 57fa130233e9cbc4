"""Decisions of people, which override what the machine decided.

Belongs here: what a row of decisions.csv may say, contradictions among rows, and which items each is about. Does not
belong here: reading the file (``adapters/sources.py``), and the rules that a decision overrides (``clean.py``,
``duplicates.py``).
"""

import datetime
import difflib
import re
from collections.abc import Iterator
from typing import Final

import polars as pl

from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.cells import plain_cell
from dataset_pipeline.tables import DECISIONS, empty

KINDS: Final = {
    "keep": "the item stays, whatever a measure, a rule of labels or of texts, or a likeness says",
    "drop": "the item is removed",
    "relabel": "value is the item's label, given by a person",
    "language": "value is the item's language (BCP 47)",
    "duplicate": "the item is removed as a duplicate of the item in value",
    "not_duplicate": "the item and the one in value are two",
    "confirm": "looked at, and right as it is: not offered for review again",
}
"""What a decision may be."""

PAIR_KINDS: Final = frozenset({"duplicate", "not_duplicate"})
"""Decisions about two items; ``confirm`` may be about one or two."""

FINAL_REASONS: Final = frozenset(
    {
        "taken_down",
        "duplicate_of_taken_down",
        "decided_drop",
        "licence_no_derivatives",
        "licence_missing",
        "image_path_outside_root",
        "image_not_named",
        "image_missing",
        "image_without_row",
        "image_empty",
        "image_undecodable",
        "image_is_text",
        "image_truncated",
        "image_too_large",
        "text_too_long",
    }
)
"""Reasons that 'keep' does not override: there is nothing to release, or nobody may."""

SHOWN_FAULTS: Final = 5


def parse(rows: pl.DataFrame, where: str) -> pl.DataFrame:
    """``DECISIONS`` of rows as they were read (item_id, decision, value, by, date; String), sorted.

    Rows that say the same twice count once. Raises ``ConfigError``, with the first few faults by line (the head is
    line 1), for a word that is no decision, a missing value, person or date, and contradictions.
    """
    cells = rows.with_columns(plain_cell(name).str.strip_chars() for name in DECISIONS).with_columns(
        pl.when(pl.col(name) != "").then(pl.col(name)) for name in DECISIONS
    )
    numbered = cells.with_row_index("line", offset=2)
    faults = [*_row_faults(numbered), *_contradictions(numbered)]
    if faults:
        lines = [f"{where}:{line}: {fault}" for line, fault in sorted(faults)[:SHOWN_FAULTS]]
        more = len(faults) - len(lines)
        raise ConfigError("\n".join(lines) + (f"\n... and {more} more" if more > 0 else ""))
    return (
        cells.select(pl.col(name).cast(dtype) for name, dtype in DECISIONS.items())
        .unique(["item_id", "decision", "value"], keep="first", maintain_order=True)
        .sort("item_id", "decision", "value", nulls_last=True)
    )


Faults = Iterator[tuple[int, str]]


def _row_faults(rows: pl.DataFrame) -> Faults:
    for row in rows.iter_rows(named=True):
        line, decision, value = row["line"], row["decision"], row["value"]
        for name in ("item_id", "decision", "by", "date"):
            if row[name] is None:
                yield line, f"no '{name}': say which item, what is decided, who decided it and when"
        if decision is None:
            continue
        if decision not in KINDS:
            near = difflib.get_close_matches(decision, KINDS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(KINDS)}"
            yield line, f"'{decision}' is no decision; {hint}"
        elif decision in ("relabel", "language", *PAIR_KINDS) and value is None:
            yield line, f"'{decision}' needs a value: {KINDS[decision]}"
        elif decision in ("keep", "drop") and value is not None:
            yield line, f"'{decision}' takes no value, found '{value}'"
        elif decision == "language" and not re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*", value or ""):
            yield line, f"'{value}' is no language tag (BCP 47), such as 'en' or 'pt-BR'"
        elif decision in PAIR_KINDS and value == row["item_id"]:
            yield line, f"'{decision}' is about two items, found '{value}' twice"
        if row["date"] is not None and not _is_date(row["date"]):
            yield line, f"'{row['date']}' is no date; expected one such as 2026-11-25"


def _is_date(text: str) -> bool:
    try:
        return bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}", text)) and bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False


def _contradictions(rows: pl.DataFrame) -> Faults:
    """Later rows that cannot hold beside earlier ones."""
    said: dict[tuple[str, str], tuple[int, str | None]] = {}
    pairs: dict[tuple[str, str], tuple[int, str]] = {}
    stands_for: dict[str, str] = {}
    for row in rows.iter_rows(named=True):
        line, item, decision, value = row["line"], row["item_id"], row["decision"], row["value"]
        if item is None or decision not in KINDS or decision == "confirm":
            continue
        for other, other_value in _excluded(decision, value):
            earlier = said.get((item, other))
            if earlier is not None and (other_value is None or earlier[1] != other_value):
                shown = f"{other} {earlier[1]}" if earlier[1] and other == decision else other
                yield line, f"item '{item}': '{decision}' contradicts '{shown}' in line {earlier[0]}"
        said.setdefault((item, decision), (line, value))
        if decision not in PAIR_KINDS or value is None or value == item:
            continue
        pair = (min(item, value), max(item, value))
        if (before := pairs.get(pair)) is not None and before[1] != decision:
            yield (
                line,
                f"items '{item}' and '{value}': '{decision}' contradicts '{before[1]}' in line {before[0]}",
            )
        pairs.setdefault(pair, (line, decision))
        if decision == "duplicate":
            stands_for.setdefault(item, value)
            seen, at = {item}, value
            while at in stands_for and at not in seen:
                seen.add(at)
                at = stands_for[at]
            if at == item:
                yield line, f"item '{item}' would be a duplicate of itself, through '{value}'"


def _excluded(decision: str, value: str | None) -> list[tuple[str, str | None]]:
    """Decisions on the same item that cannot hold beside this one; with a value: unless theirs is the same."""
    if decision in ("relabel", "language"):
        return [(decision, value), ("drop", None)]
    excluded: dict[str, list[tuple[str, str | None]]] = {
        "keep": [("drop", None), ("duplicate", None)],
        "drop": [("keep", None), ("relabel", None), ("language", None), ("duplicate", None)],
        "duplicate": [("duplicate", value), ("keep", None), ("drop", None)],
    }
    return excluded.get(decision, [])


# -- what they do --------------------------------------------------------------------------------


def of_kind(decisions: pl.DataFrame, *kinds: str) -> pl.DataFrame:
    """The rows of these kinds."""
    return decisions.filter(pl.col("decision").is_in(kinds))


def decided_items(raw: pl.LazyFrame, decisions: pl.DataFrame, human_source: str) -> pl.LazyFrame:
    """Raw items with decided labels (and ``label_source`` set to ``human_source``) and languages."""
    if decisions.is_empty():
        return raw
    values = [
        of_kind(decisions, kind).lazy().select("item_id", pl.col("value").alias(f"_{kind}"))
        for kind in ("relabel", "language")
    ]
    columns = raw.collect_schema().names()
    return (
        raw.join(values[0], on="item_id", how="left", maintain_order="left")
        .join(values[1], on="item_id", how="left", maintain_order="left")
        .with_columns(
            label=pl.coalesce("_relabel", "label"),
            label_source=pl.when(pl.col("_relabel").is_not_null())
            .then(pl.lit(human_source))
            .otherwise(pl.col("label_source")),
            language=pl.coalesce("_language", "language"),
        )
        .select(columns)
    )


def decided_removals(removals: pl.DataFrame, ids: pl.Series, decisions: pl.DataFrame) -> pl.DataFrame:
    """Removals of duplicates (item_id, kept_item_id, detail) as people have decided them.

    ``ids``: all items. An item to keep, and one that is no duplicate of the item kept for it, stays. An item that is
    a duplicate by decision goes, and what it stood for is now stood for by the item it duplicates.
    """
    if decisions.is_empty():
        return removals
    two = of_kind(decisions, "not_duplicate").select(
        pl.min_horizontal("item_id", "value").alias("_a"), pl.max_horizontal("item_id", "value").alias("_b")
    )
    rest = (
        removals.join(of_kind(decisions, "keep"), on="item_id", how="anti")
        .with_columns(
            pl.min_horizontal("item_id", "kept_item_id").alias("_a"),
            pl.max_horizontal("item_id", "kept_item_id").alias("_b"),
        )
        .join(two, on=["_a", "_b"], how="anti")
        .select(removals.columns)
    )
    there = pl.col("item_id").is_in(ids.implode()) & pl.col("value").is_in(ids.implode())
    decided = dict(of_kind(decisions, "duplicate").filter(there).select("item_id", "value").rows())
    if not decided:
        return rest.sort("item_id")
    kept = {**dict(rest.select("item_id", "kept_item_id").rows()), **decided}
    for target in decided.values():
        # The machine had removed the item that a person wants to stay, in favour of one that now goes.
        if target in kept and target not in decided and kept[target] in decided:
            del kept[target]
    details = dict(rest.select("item_id", "detail").rows())
    rows = [
        (item, _last(item, kept), "decided" if item in decided else details[item]) for item in sorted(kept)
    ]
    return pl.DataFrame(rows, schema=removals.schema, orient="row")


def _last(item: str, kept: dict[str, str]) -> str:
    """The item at the end of a chain of removals."""
    seen = set[str]()
    while item in kept and item not in seen:
        seen.add(item)
        item = kept[item]
    return item


def states(
    decisions: pl.DataFrame, raw_ids: pl.LazyFrame, removed: pl.LazyFrame, kept: pl.LazyFrame
) -> pl.DataFrame:
    """``DECISIONS`` with ``state``: what became of each.

    ``in_force``; ``unknown_item``: an item that it names is in no source; ``overruled``: the item is removed for a
    reason that no decision overrides, or the two items do not meet among the duplicates.
    """
    if decisions.is_empty():
        return empty({**DECISIONS, "state": pl.String()})
    known = raw_ids.select("item_id").unique().collect()["item_id"].implode()
    gone = (
        removed.join(decisions.lazy().select("item_id").unique(), on="item_id", how="semi")
        .select("item_id", "reason", "kept_item_id")
        .collect()
    )
    is_kept = pl.col("item_id").is_in(
        kept.join(decisions.lazy().select("item_id").unique(), on="item_id", how="semi")
        .select("item_id")
        .collect()["item_id"]
        .implode()
    )
    decision, value = pl.col("decision"), pl.col("value")
    is_pair = decision.is_in(list(PAIR_KINDS))
    holds = (
        pl.when(decision == "drop")
        .then(~is_kept)
        .when(decision == "duplicate")
        .then(pl.col("reason") == "duplicate")
        .when(decision == "not_duplicate")
        .then(pl.col("kept_item_id").is_null() | (pl.col("kept_item_id") != value))
        .when(decision == "confirm")
        .then(True)
        .otherwise(is_kept)
    )
    unknown = ~pl.col("item_id").is_in(known) | (is_pair & ~value.is_in(known))
    return (
        decisions.join(gone, on="item_id", how="left", maintain_order="left")
        .with_columns(
            state=pl.when(unknown)
            .then(pl.lit("unknown_item"))
            .when(holds.fill_null(False))
            .then(pl.lit("in_force"))
            .otherwise(pl.lit("overruled"))
        )
        .select(*DECISIONS, "state")
    )
