"""Personal data in texts: which findings count, what happens to them, and the report of it.

Belongs here: decisions and counts. Does not belong here: finding (``adapters/presidio.py``), and what a replacement
looks like (``surrogates.py``).
No function here returns or raises anything that holds the value of a finding.
"""

import bisect
import functools
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, get_args

import polars as pl
import regex

from dataset_pipeline.config import KEYED_ACTIONS, DatasetConfig, PersonalDataEntity, Pii
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.intervals import wilson_interval
from dataset_pipeline.stages.surrogates import HASH_CHARS, hashed, masked, surrogate

FINDINGS: Final = {
    "item_id": pl.String(),
    "column": pl.String(),
    "entity": pl.String(),
    "score": pl.Float32(),
    "action": pl.String(),
}
"""One row per finding in an item's text."""

TO_REVIEW: Final = {**FINDINGS, "excerpt": pl.String()}
"""One row per finding that a person should look at; ``excerpt`` is the text around it with every finding redacted."""

_UNSURE_BELOW: Final = 0.6
_MAX_ALLOWED_CHARS: Final = (
    200  # a longer value is no brand's name; bounds what a pattern of ``allow_patterns`` reads
)
_MAX_SECONDS: Final = 5.0
"""For one value and pattern of the author's, where microseconds are usual: no result hangs on it, the build ends."""

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


PLACEHOLDER_PATTERN: Final = f"<(?:{'|'.join(get_args(PersonalDataEntity))})(?::[0-9a-f]{{{HASH_CHARS}}})?>"
"""Matches every placeholder, hashes included; for Python's and for polars' regular expressions."""


class _Allowed:
    """The strings and patterns that are never personal data."""

    def __init__(self, strings: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        self._strings = frozenset(" ".join(string.casefold().split()) for string in strings)
        self._patterns = {pattern: regex.compile(pattern) for pattern in patterns}

    def __contains__(self, value: str) -> bool:
        if len(value) > _MAX_ALLOWED_CHARS:
            return False
        return " ".join(value.casefold().split()) in self._strings or any(
            self._is_match(pattern, value) for pattern in self._patterns
        )

    def _is_match(self, pattern: str, value: str) -> bool:
        try:
            return self._patterns[pattern].fullmatch(value, timeout=_MAX_SECONDS) is not None
        except TimeoutError:
            raise ConfigError(
                f"pii.allow_patterns: '{pattern}' was not done with a value of {len(value)} characters after "
                f"{_MAX_SECONDS:g} seconds",
                hint="Write it without alternatives or repetitions inside of a repetition",
            ) from None


# Lists of brands are long, and made into sets once.
_allowed = functools.lru_cache(maxsize=4)(_Allowed)


def resolve(text: str, found: Sequence[tuple[str, int, int, float]], settings: Pii) -> list[Finding]:
    """The findings that count, in order of place and without overlap.

    Left out: scores under the entity's threshold, entities not asked for, allowed values. Where findings
    that change the text overlap, one finding covers all of them, so that no part of any stays; it is
    named after the strictest action, then the best score, then the longest. A finding that is only
    reported gives way to one that changes the text, to a better one of another kind that is only reported, and
    to a longer one of its own kind: a model that finds a surname confirms the whole name.
    """
    allowed = _allowed(settings.allow, settings.allow_patterns)
    counted = sorted(
        {
            Finding(entity, start, end, round(float(score), 6))
            for entity, start, end, score in found
            if score >= settings.threshold(entity)
            and entity in settings.entities
            and 0 <= start < end <= len(text)
            and text[start:end] not in allowed
        },
        key=lambda finding: (finding.start, finding.end, finding.entity, finding.score),
    )
    changing = _merged([f for f in counted if settings.action(f.entity) != "report"], settings)
    reported = list[Finding]()
    for finding in sorted(
        _as_good_as_neighbours([f for f in counted if settings.action(f.entity) == "report"]),
        key=lambda f: (-f.score, f.start - f.end, f.start, f.entity),
    ):
        if not _overlaps(finding, changing) and not _overlaps(finding, reported):
            bisect.insort(reported, finding, key=lambda f: f.start)
    return sorted([*changing, *reported], key=lambda finding: finding.start)


def _as_good_as_neighbours(findings: Sequence[Finding]) -> list[Finding]:
    """Each with the best score of those of its kind that it is connected to by overlaps; sorted by start."""
    clusters: dict[str, tuple[int, int]] = {}  # of each kind the last cluster, and where it ends
    best, places = list[float](), list[int]()
    for finding in findings:
        cluster, end = clusters.get(finding.entity, (-1, -1))
        if finding.start < end:
            best[cluster] = max(best[cluster], finding.score)
        else:
            cluster = len(best)
            best.append(finding.score)
        clusters[finding.entity] = (cluster, max(end, finding.end))
        places.append(cluster)
    return [finding._replace(score=best[place]) for finding, place in zip(findings, places, strict=True)]


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


_STRICTNESS: Final = {"drop": 2, "review": 1}


def _rank(finding: Finding, settings: Pii) -> tuple[int, float, int, str]:
    strictness = _STRICTNESS.get(settings.action(finding.entity), 0)
    return strictness, finding.score, finding.end - finding.start, finding.entity


def _overlaps(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether ``finding`` shares a character with one of ``others``, which are sorted and disjoint."""
    first = bisect.bisect_right(others, finding.start, key=lambda f: f.end)
    return first < len(others) and others[first].start < finding.end


def redact(
    text: str, findings: Sequence[Finding], settings: Pii, language: str = "", secret: bytes | None = None
) -> str:
    """``text`` after the actions of its findings, which are resolved. What is only reported stays.

    ``secret``: the key of hashes and surrogates. Raises ``ValueError`` where an action needs it and it is missing.
    """
    parts, position = list[str](), 0
    for finding in findings:
        action = settings.action(finding.entity)
        if action == "report":
            continue
        value = text[finding.start : finding.end]
        parts += [
            text[position : finding.start],
            _replacement(finding.entity, value, action, language, secret),
        ]
        position = finding.end
    return "".join([*parts, text[position:]])


def _replacement(entity: str, value: str, action: str, language: str, secret: bytes | None) -> str:
    if action == "mask":
        return masked(value)
    if action in KEYED_ACTIONS:
        if secret is None:
            raise ValueError(f"the action '{action}' of {entity} needs a key")
        if action == "hash":
            return f"<{entity}:{hashed(entity, value, secret)}>"
        return surrogate(entity, value, language, secret) or placeholder(entity)
    return placeholder(entity)


def excerpts(text: str, findings: Sequence[Finding], settings: Pii) -> list[str | None]:
    """For each finding that a person should look at: what stands around it, with every finding redacted.

    These are the findings whose action is to review, and those that change the text and are not sure.
    """
    wanted = [_is_for_review(finding, settings) for finding in findings]
    if not any(wanted):
        return [None] * len(findings)
    parts, places, position, length = list[str](), list[int](), 0, 0
    for finding in findings:
        before, shown = text[position : finding.start], placeholder(finding.entity)
        places.append(length + len(before))
        parts += [before, shown]
        length += len(before) + len(shown)
        position = finding.end
    redacted = "".join([*parts, text[position:]])
    return [
        _surroundings(redacted, place, place + len(placeholder(finding.entity))) if is_wanted else None
        for finding, place, is_wanted in zip(findings, places, wanted, strict=True)
    ]


def _is_for_review(finding: Finding, settings: Pii) -> bool:
    action = settings.action(finding.entity)
    return action == "review" or (action not in {"report", "drop"} and finding.score < _UNSURE_BELOW)


def pii_report(findings: pl.LazyFrame, items: pl.LazyFrame, config: DatasetConfig) -> dict[str, Any]:
    """``reports/pii.json``: what was searched for, how often it was found, and what was done.

    ``findings``: as ``clean_items`` returns them, also of items removed for personal data; ``items``:
    the items that are left. Shares are of items with a text (``items_searched``: left, or removed for what was
    found in them), in ``by_column`` of items that are left with a text in the column; intervals are Wilson's at 95 %,
    and say how far the share of another sample from the same sources may lie, not how often the search errs. Examples
    are the surroundings of placeholders, from texts in which nothing but placeholders was found.
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
    removed = of_items.filter(language="removed").get_column("item_id").n_unique()
    is_with_text = pl.any_horizontal(pl.lit(False), *(pl.col(name).is_not_null() for name in names))
    searched = removed + int(kept.select(is_with_text.sum()).collect(engine="streaming").item())
    return {
        "is_enabled": config.pii.enabled,
        "entities": {entity: config.pii.action(entity) for entity in sorted(config.pii.entities)},
        "models": {
            language: model.model if model.engine == "spacy" else f"{model.engine}: {model.model}"
            for language, model in sorted(config.pii.ner_models.items())
        },
        "min_score": config.pii.min_score,
        "min_scores": dict(sorted(config.pii.min_scores.items())),
        "items_searched": searched,
        "findings": found.height,
        "items_with_findings": found.get_column("item_id").n_unique(),
        "items_removed": removed,
        "by_entity": [{**row, **_share(row["items"], searched)} for row in _counts(found, "entity")],
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
                **_share(n, texts_in[name]),
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


def _share(part: int, whole: int) -> dict[str, Any]:
    """A share and its interval."""
    low, high = wilson_interval(part, whole)
    return {
        "share": round(part / whole, 6) if whole else 0.0,
        "interval": [round(low, 6), round(high, 6)] if whole else None,
    }


def _counts(found: pl.DataFrame, by: str) -> list[dict[str, Any]]:
    """Findings and items per value of one column."""
    return found.group_by(by).agg(findings=pl.len(), items=pl.col("item_id").n_unique()).sort(by).to_dicts()


def _examples(found: pl.DataFrame, affected: pl.DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    """A few redacted texts per entity, cut to the placeholder's surroundings."""
    clean = (
        found.group_by("item_id", "column")
        .agg(
            entities=pl.col("entity").unique().sort(),
            is_all_redacted=pl.col("action").is_in(["redact", "review", "hash"]).all(),
        )
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
        shown = dict.fromkeys(
            _first_placeholder(text, str(entity)) for text in rows.get_column("text") if text
        )
        examples[str(entity)] = list(shown)[:_EXAMPLES_PER_ENTITY]
    return {entity: shown for entity, shown in sorted(examples.items()) if shown}


def _first_placeholder(text: str, entity: str) -> str:
    """The first placeholder of ``entity`` with a little text on both sides; of a hash, without it."""
    text = re.sub(PLACEHOLDER_PATTERN, lambda match: f"{match[0].partition(':')[0].rstrip('>')}>", text)
    place = text.find(placeholder(entity))
    if place < 0:
        return placeholder(entity)
    return _surroundings(text, place, place + len(placeholder(entity)))


def _surroundings(text: str, start: int, end: int) -> str:
    """A stretch of a text with a little of it on both sides."""
    first, last = start - _EXAMPLE_CONTEXT_CHARS, end + _EXAMPLE_CONTEXT_CHARS
    return (
        ("…" if first > 0 else "")
        + " ".join(text[max(first, 0) : last].split())
        + ("…" if last < len(text) else "")
    )
