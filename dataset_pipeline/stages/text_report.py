"""What cleaning did to texts, for people to judge.

Belongs here: ``reports/texts.json``: how often each rule changed a text, a few texts before and after, passages that
many texts share, and texts that do not look like their declared language. Does not belong here: the rules
(``texts.py``, ``boilerplate.py``, ``language.py``).
"""

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

import polars as pl

from dataset_pipeline.config import DatasetConfig, TextRule
from dataset_pipeline.stages.boilerplate import boilerplate_report
from dataset_pipeline.stages.texts import PERSONAL_DATA, RULES, TOO_LONG

EXAMPLES: Final = {
    "item_id": pl.String(),
    "column": pl.String(),
    "rule": pl.String(),
    "before": pl.String(),
    "after": pl.String(),
}
"""Excerpts of a text around the first place that a rule changed, before and after cleaning."""

_PER_RULE: Final = 3
_CONTEXT_CHARS: Final = 40
_CANDIDATES: Final = 12
_PASSAGES: Final = 50
_DOUBTS: Final = 100


def text_examples(
    changes: pl.LazyFrame,
    raw_items: pl.LazyFrame,
    items: pl.LazyFrame,
    findings: pl.LazyFrame,
    holds_personal_data: Callable[[Sequence[str]], list[bool]],
) -> pl.DataFrame:
    """``EXAMPLES`` of each rule, at most three, drawn by hash from texts of items that stay.

    ``changes``: ``clean.CHANGES``; ``findings``: ``pii.FINDINGS``. What a rule took out was never searched for personal
    data, such as a comment in HTML: an excerpt in which ``holds_personal_data`` finds any is not shown. Nor are texts
    that were emptied, or had findings.
    """
    rules = [rule for rule in RULES if rule not in (TOO_LONG, PERSONAL_DATA)]
    key = ["item_id", "column"]
    emptied = changes.filter(pl.col("rule") == TOO_LONG)
    place = pl.concat_str(*key, separator="\x00").map_batches(_draws, return_dtype=pl.Binary)
    drawn = (
        changes.filter(pl.col("rule").is_in(rules))
        .join(findings.select(key), on=key, how="anti")
        .join(emptied.select(key), on=key, how="anti")
        .sort("rule", place, *key)
        .group_by("rule", maintain_order=True)
        .head(_CANDIDATES)
        .collect()
    )
    ids = drawn["item_id"].unique().implode()
    columns = sorted(drawn["column"].unique())
    before, after = (
        {
            row["item_id"]: row
            for row in table.filter(pl.col("item_id").is_in(ids))
            .select("item_id", *columns)
            .collect()
            .to_dicts()
        }
        for table in (raw_items, items)
    )
    excerpts = [
        _excerpts(before[row["item_id"]][row["column"]] or "", after[row["item_id"]][row["column"]] or "")
        for row in drawn.iter_rows(named=True)
    ]
    hidden = holds_personal_data([part for part, _after in excerpts])
    rows = [
        {**row, "before": _visible(first), "after": _visible(last)}
        for row, (first, last), is_hidden in zip(drawn.to_dicts(), excerpts, hidden, strict=True)
        if not is_hidden
    ]
    return (
        pl.DataFrame(rows, schema=EXAMPLES)
        .group_by("rule", maintain_order=True)
        .head(_PER_RULE)
        .select(*EXAMPLES)
    )


def _draws(names: pl.Series) -> pl.Series:
    """A place in a random order for each name: the same in every version of every library."""
    return pl.Series([hashlib.sha256(name.encode()).digest()[:8] for name in names], dtype=pl.Binary)


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Both texts from a little before the first difference to a little after the last one."""
    start = _common(before, after)
    same = _common(before[start:][::-1], after[start:][::-1])
    shown = []
    for text in (before, after):
        first, last = max(0, start - _CONTEXT_CHARS // 2), max(start, len(text) - same) + _CONTEXT_CHARS // 2
        cut = text[first : min(last, first + 3 * _CONTEXT_CHARS)]
        shown.append(("…" if first else "") + cut + ("…" if first + len(cut) < len(text) else ""))
    return shown[0], shown[1]


def _common(one: str, other: str) -> int:
    """Length of what both begin with."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def _visible(text: str) -> str:
    """Characters that show nothing are named: U+200B becomes ⟨U+200B⟩, a line break ⏎, spaces at an end ␣."""
    inner = text.strip(" ")
    before, after = text[: len(text) - len(text.lstrip(" "))], text[len(text.rstrip(" ")) :] if inner else ""
    return "␣" * len(before) + _named(inner) + "␣" * len(after)


def _named(text: str) -> str:
    return "".join(
        "⏎"
        if c == "\n"
        else c
        if c == " " or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp")
        else f"⟨U+{ord(c):04X}⟩"
        for c in text
    )


def text_report(
    changes: pl.LazyFrame,
    examples: pl.DataFrame,
    passages: pl.DataFrame,
    doubts: pl.LazyFrame,
    released: pl.LazyFrame,
    config: DatasetConfig,
) -> dict[str, Any]:
    """``reports/texts.json``. ``changes``: ``clean.CHANGES``; ``doubts``: ``clean.LANGUAGE_DOUBTS``; ``released``: item_id."""
    rules, language = config.clean.texts, config.clean.language
    here = changes.join(released.select("item_id"), on="item_id", how="semi")
    counted = (
        here.group_by("rule")
        .agg(texts=pl.len(), items=pl.col("item_id").n_unique())
        .collect()
        .rows_by_key("rule", named=True, unique=True)
    )
    items = released.select(pl.len()).collect().item()
    shown = examples.join(
        released.select("item_id").collect(), on="item_id", how="semi", maintain_order="left"
    )
    doubted = doubts.join(released.select("item_id"), on="item_id", how="semi").collect()
    return {
        "rules": [
            {
                "rule": rule,
                "meaning": meaning,
                "texts": counted.get(rule, {}).get("texts", 0),
                "items": counted.get(rule, {}).get("items", 0),
                "share": counted.get(rule, {}).get("items", 0) / max(1, items),
                "examples": shown.filter(pl.col("rule") == rule).select("before", "after").to_dicts(),
            }
            for rule, meaning in RULES.items()
            if rule in counted or rule in rules.rules
        ],
        "switched_off": [rule for rule in get_args(TextRule) if rule not in rules.rules],
        "boilerplate": boilerplate_report(passages, rules.boilerplate, _PASSAGES),
        "languages": {
            "action": language.declared,
            "thresholds": language.model_dump(mode="json", include={"min_doubt", "min_doubt_letters"}),
            "items_in_doubt": doubted["item_id"].n_unique(),
            "doubts": doubted.group_by("declared", "evidence", "found")
            .agg(texts=pl.len(), example=pl.col("item_id").min())
            .sort("texts", "declared", "found", "evidence", descending=[True, False, False, False])
            .head(_DOUBTS)
            .to_dicts(),
        },
    }
