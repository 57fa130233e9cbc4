"""Personal data in texts: which findings count, what happens to them, and the report of it.

Belongs here: decisions and counts. Does not belong here: finding (``adapters/presidio.py``).
No function here returns or raises anything that holds the value of a finding.
"""

import bisect
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, get_args

import polars as pl

from dataset_pipeline.config import DatasetConfig, PersonalDataEntity, Pii

FINDINGS: Final = {
    "item_id": pl.String(),
    "column": pl.String(),
    "entity": pl.String(),
    "score": pl.Float32(),
    "action": pl.String(),
}
"""One row per finding in an item's text."""

_EXAMPLES_PER_ENTITY: Final = 3
_EXAMPLE_CONTEXT_CHARS: Final = 24


class Finding(NamedTuple):
    """A stretch of a text that is personal data; offsets in characters."""

    entity: str
    start: int
    end: int
    score: float


class PersonalDataFinder(Protocol):
    """Searches texts for personal data."""

    def find(self, texts: Sequence[str], languages: Sequence[str]) -> list[list[tuple[str, int, int, float]]]:
        """For each text, in any order and possibly overlapping: entity, start, end, score in 0..1."""
        ...


def placeholder(entity: str) -> str:
    """What stands in a text where ``entity`` was found."""
    return f"<{entity}>"


PLACEHOLDER_PATTERN: Final = f"<(?:{'|'.join(get_args(PersonalDataEntity))})>"
"""Matches every placeholder; for Python's and for polars' regular expressions."""


def resolve(text: str, found: Sequence[tuple[str, int, int, float]], settings: Pii) -> list[Finding]:
    """The findings that count, in order of place and without overlap.

    Left out: scores under ``min_score``, entities not asked for, values in ``allow``. Where findings
    that change the text overlap, one finding covers all of them, so that no part of any stays; it is
    named after the strictest action, then the best score, then the longest. A finding that is only
    reported gives way to one that changes the text, and to a better one that is only reported.
    """
    allowed = frozenset(settings.allow)
    counted = sorted(
        {
            Finding(entity, start, end, round(float(score), 6))
            for entity, start, end, score in found
            if score >= settings.min_score
            and entity in settings.entities
            and 0 <= start < end <= len(text)
            and (not allowed or text[start:end] not in allowed)
        },
        key=lambda finding: (finding.start, finding.end, finding.entity, finding.score),
    )
    changing = _merged([f for f in counted if settings.action(f.entity) != "report"], settings)
    reported = list[Finding]()
    for finding in sorted(
        (f for f in counted if settings.action(f.entity) == "report"),
        key=lambda f: (-f.score, f.start - f.end, f.start, f.entity),
    ):
        if not _overlaps(finding, changing) and not _overlaps(finding, reported):
            bisect.insort(reported, finding, key=lambda f: f.start)
    return sorted([*changing, *reported], key=lambda finding: finding.start)


def _merged(findings: Sequence[Finding], settings: Pii) -> list[Finding]:
    """Overlapping findings as one each; ``findings`` are sorted by start."""
    merged = list[Finding]()
    best = list[Finding]()  # of each merged one, the finding that names it
    for finding in findings:
        if merged and finding.start < merged[-1].end:
            best[-1] = max(best[-1], finding, key=lambda f: _rank(f, settings))
            end = max(merged[-1].end, finding.end)
            merged[-1] = Finding(best[-1].entity, merged[-1].start, end, best[-1].score)
        else:
            merged.append(finding)
            best.append(finding)
    return merged


def _rank(finding: Finding, settings: Pii) -> tuple[bool, float, int, str]:
    is_drop = settings.action(finding.entity) == "drop"
    return is_drop, finding.score, finding.end - finding.start, finding.entity


def _overlaps(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether ``finding`` shares a character with one of ``others``, which are sorted and disjoint."""
    first = bisect.bisect_right(others, finding.start, key=lambda f: f.end)
    return first < len(others) and others[first].start < finding.end


def redact(text: str, findings: Sequence[Finding], settings: Pii) -> str:
    """``text`` with typed placeholders; ``findings`` are resolved. What is only reported stays."""
    parts, position = list[str](), 0
    for finding in findings:
        if settings.action(finding.entity) == "report":
            continue
        parts += [text[position : finding.start], placeholder(finding.entity)]
        position = finding.end
    return "".join([*parts, text[position:]])


def pii_report(findings: pl.LazyFrame, items: pl.LazyFrame, config: DatasetConfig) -> dict[str, Any]:
    """``reports/pii.json``: what was searched for, how often it was found, and what was done.

    ``findings``: as ``clean_items`` returns them, also of items removed for personal data; ``items``:
    the items that are left. Shares are of items that are left with a text in the column. Examples are
    the surroundings of placeholders, from texts in which nothing but placeholders was found.
    """
    names = config.text_names
    found = findings.collect(engine="streaming")
    kept = items.select("item_id", "language", *names)
    with_texts = kept.select(pl.col(name).is_not_null().sum() for name in names).collect(engine="streaming")
    affected = kept.join(found.lazy().select("item_id").unique(), on="item_id", how="semi").collect(
        engine="streaming"
    )
    languages = affected.select("item_id", pl.col("language").fill_null("und"))
    of_items = found.join(languages, on="item_id", how="left").with_columns(
        pl.col("language").fill_null("removed")
    )
    texts_in = {name: int(with_texts.item(0, name)) for name in names}
    return {
        "is_enabled": config.pii.enabled,
        "entities": {entity: config.pii.action(entity) for entity in sorted(config.pii.entities)},
        "models": {language: config.pii.ner_models[language] for language in sorted(config.pii.ner_models)},
        "min_score": config.pii.min_score,
        "findings": found.height,
        "items_with_findings": found.get_column("item_id").n_unique(),
        "items_removed": of_items.filter(language="removed").get_column("item_id").n_unique(),
        "by_entity": _counts(found, "entity"),
        "by_action": _counts(found, "action"),
        "by_column": [
            {
                "column": name,
                "texts": texts_in[name],
                "texts_with_findings": (
                    n := found.filter(column=name)
                    .join(languages, on="item_id", how="semi")
                    .get_column("item_id")
                    .n_unique()
                ),
                "share": round(n / texts_in[name], 6) if texts_in[name] else 0.0,
            }
            for name in names
        ],
        "by_language": _counts(of_items, "language"),
        "by_entity_language_column": (
            of_items.group_by("entity", "language", "column", "action")
            .agg(findings=pl.len(), items=pl.col("item_id").n_unique())
            .sort("entity", "language", "column", "action")
            .to_dicts()
        ),
        "examples": _examples(found, affected, names),
    }


def _counts(found: pl.DataFrame, by: str) -> list[dict[str, Any]]:
    """Findings and items per value of one column."""
    return found.group_by(by).agg(findings=pl.len(), items=pl.col("item_id").n_unique()).sort(by).to_dicts()


def _examples(found: pl.DataFrame, affected: pl.DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    """A few redacted texts per entity, cut to the placeholder's surroundings."""
    clean = (
        found.group_by("item_id", "column")
        .agg(entities=pl.col("entity").unique().sort(), is_all_redacted=(pl.col("action") == "redact").all())
        .filter("is_all_redacted")
        .explode("entities", empty_as_null=True, keep_nulls=True)
        .sort("entities", "item_id", "column")
    )
    examples: dict[str, list[str]] = {}
    texts = affected.unpivot(on=list(names), index="item_id", variable_name="column", value_name="text")
    for (entity,), group in clean.group_by("entities", maintain_order=True):
        rows = group.head(20 * _EXAMPLES_PER_ENTITY).join(
            texts, on=["item_id", "column"], how="inner", maintain_order="left"
        )
        shown = dict.fromkeys(_surroundings(text, str(entity)) for text in rows.get_column("text") if text)
        examples[str(entity)] = list(shown)[:_EXAMPLES_PER_ENTITY]
    return {entity: shown for entity, shown in sorted(examples.items()) if shown}


def _surroundings(text: str, entity: str) -> str:
    """The first placeholder of ``entity`` with a little text on both sides."""
    match = re.search(re.escape(placeholder(entity)), text)
    if match is None:
        return placeholder(entity)
    start, end = match.start() - _EXAMPLE_CONTEXT_CHARS, match.end() + _EXAMPLE_CONTEXT_CHARS
    return (
        ("…" if start > 0 else "")
        + " ".join(text[max(start, 0) : end].split())
        + ("…" if end < len(text) else "")
    )
