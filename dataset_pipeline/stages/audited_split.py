"""Split and audit in turn, until the audit finds no pair that the search for duplicates has missed.

Belongs here: what is done about such pairs, and when it is enough. Does not belong here: splitting (``split``)
and looking for leaks (``leakage``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.leakage import Leakage, audit_leakage
from dataset_pipeline.stages.split import SplitResult, split_items

MAX_ROUNDS = 3
"""So often a split is made and audited: each round keeps together what the audit of the last one has found."""


@dataclass(frozen=True)
class AuditedSplit:
    """A split, what its audit found, and how they came about."""

    split: SplitResult
    leakage: Leakage
    rounds: int
    """Splits that were made and audited."""
    pairs_of_the_audit: int
    """Near pairs that the audits alone have found, and that the split keeps together."""


def audited_split(
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    pairs: pl.DataFrame,
    text_names: Sequence[str],
    config: DatasetConfig,
    released: pl.DataFrame | None = None,
) -> AuditedSplit:
    """``split_items``, then ``audit_leakage``: pairs that the audit finds beyond ``pairs`` are kept together too.

    Arguments and errors as there. What the last of MAX_ROUNDS rounds still finds is left to the gate. A
    published split is audited once: nothing may change it.
    """
    known, attempt = pairs, None
    for round_number in range(1, MAX_ROUNDS + 1):
        result = split_items(items, known, text_names, config.split, config.seed, released, attempt)
        found = audit_leakage(result.items.lazy(), images, text_names, config)
        missed = missed_pairs(found.crossing, known)
        if missed.is_empty() or config.split.method == "published" or round_number == MAX_ROUNDS:
            break
        known, attempt = pl.concat([known, missed]), result.items.select("item_id", "split", "fold").collect()
    return AuditedSplit(result, found, round_number, known.height - pairs.height)


def missed_pairs(crossing: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Near pairs (PAIRS) that an audit found across splits and that are not among ``pairs``.

    Two searches that approximate, each in its own way, miss different pairs; a pair that either has verified
    must not cross. Exact kinds are not taken over: if one crosses, the split is at fault and the gate must say so.
    """
    near = crossing.filter(pl.col("kind").is_in(["near_image", "near_text"]))
    return near.join(pairs, on=["item_id", "other_item_id", "kind"], how="anti").select(pairs.columns)
