"""Sentences and lines that many texts share: terms of delivery, greetings, "see the size chart".

Belongs here: finding such passages over all texts, and taking them out. Does not belong here: what is wrong with
one text alone (``texts.py``).

A passage is boilerplate where many *different* texts hold it. A text that many items share as a whole is one text, and
may well be a good caption; but one that is nothing but boilerplate elsewhere is emptied with it.
"""

from typing import Any, Final, NamedTuple

import polars as pl

from dataset_pipeline.config import Boilerplate
from dataset_pipeline.stages.texts import BOILERPLATE

PASSAGES: Final = {
    "passage": pl.String(),
    "texts": pl.Int64(),
    "share": pl.Float64(),
    "is_kept": pl.Boolean(),
}
"""Boilerplate, most frequent first: as it is first written, and in how many different texts it stands."""

# A passage and the white space after it, up to the end of a sentence or line: the passages of a text, one after the
# other, are the text. A full stop within a word or number ("v1.2", "example.org") ends no sentence.
_PASSAGE: Final = r"(?:[^\n.!?。！？]|[.!?]+[^\s.!?。！？])+(?:[.!?]+|[。！？]+)?\s*|[\s.!?。！？]+"


class Cleared(NamedTuple):
    """Texts without boilerplate, and what it was."""

    texts: pl.LazyFrame
    """``TEXTS``, in any order; where something was taken out, ``BOILERPLATE`` is among the changes."""
    passages: pl.DataFrame
    """``PASSAGES``."""


def without_boilerplate(texts: pl.LazyFrame, settings: Boilerplate) -> Cleared:
    """Find the passages that many of the different cleaned ``texts`` (``TEXTS``) share; remove them if that is the action.

    Passages are compared without letter case and outer white space. Linear in the length of all texts.
    """
    if settings.action == "off":
        return Cleared(texts, pl.DataFrame(schema=PASSAGES))
    passages = find_passages(texts.select("cleaned"), settings)
    gone = passages.filter(~pl.col("is_kept")).select(_key(pl.col("passage")).alias("key"))
    if settings.action == "report" or gone.is_empty():
        return Cleared(texts, passages)
    return Cleared(_without(texts, gone.lazy()), passages)


def find_passages(texts: pl.LazyFrame, settings: Boilerplate) -> pl.DataFrame:
    """``PASSAGES`` of the different texts in column ``cleaned``."""
    different = texts.filter(pl.col("cleaned").str.len_chars() >= settings.min_chars).unique("cleaned")
    total = texts.select(pl.col("cleaned").filter(pl.col("cleaned") != "").n_unique()).collect().item()
    least = max(settings.min_texts, settings.min_share * total)
    keep = pl.Series(list(settings.keep), dtype=pl.String)
    return (
        different.select(
            "cleaned",
            passage=pl.col("cleaned").str.extract_all(_PASSAGE),
        )
        .explode("passage", empty_as_null=True, keep_nulls=True)
        .with_columns(pl.col("passage").str.strip_chars())
        .filter(pl.col("passage").str.len_chars() >= settings.min_chars)
        .with_columns(key=_key(pl.col("passage")))
        .unique(["cleaned", "key"])
        .group_by("key")
        .agg(pl.col("passage").min(), texts=pl.len().cast(pl.Int64))
        .filter(pl.col("texts") >= least)
        .select(
            "passage",
            "texts",
            share=pl.col("texts") / max(1, total),
            is_kept=pl.col("key").is_in(keep.str.strip_chars().str.to_lowercase().implode()),
        )
        .sort("texts", "passage", descending=[True, False])
        .collect(engine="streaming")
    )


def _without(texts: pl.LazyFrame, gone: pl.LazyFrame) -> pl.LazyFrame:
    """``texts`` without the passages whose keys are in ``gone``."""
    passages = (
        texts.select("cleaned")
        .unique()
        .with_columns(passage=pl.col("cleaned").str.extract_all(_PASSAGE))
        .with_columns(place=pl.int_ranges(pl.col("passage").list.len()))
        .explode("passage", "place", empty_as_null=True, keep_nulls=True)
        .with_columns(key=_key(pl.col("passage")))
    )
    touched = passages.join(gone, on="key", how="semi").select("cleaned").unique()
    left = (
        passages.join(touched, on="cleaned", how="semi")
        .join(gone, on="key", how="anti")
        .group_by("cleaned")
        .agg(left=pl.col("passage").sort_by("place").str.join(""))
    )
    changed = touched.join(left, on="cleaned", how="left").select(
        "cleaned", left=pl.col("left").str.strip_chars().fill_null("")
    )
    is_changed = pl.col("left").is_not_null()
    return (
        texts.join(changed, on="cleaned", how="left")
        .with_columns(
            cleaned=pl.when(is_changed).then("left").otherwise("cleaned"),
            changes=pl.when(is_changed)
            .then(pl.col("changes").list.concat(pl.lit([BOILERPLATE])))
            .otherwise("changes"),
        )
        .drop("left")
    )


def _key(passage: pl.Expr) -> pl.Expr:
    return passage.str.strip_chars().str.to_lowercase()


def boilerplate_report(passages: pl.DataFrame, settings: Boilerplate, limit: int) -> dict[str, Any]:
    """For ``reports/texts.json``: the action and the most frequent passages."""
    return {
        "action": settings.action,
        "thresholds": settings.model_dump(mode="json", include={"min_texts", "min_share", "min_chars"}),
        "found": passages.height,
        "passages": passages.head(limit).to_dicts(),
    }
