"""Which raw items stay: labels, pictures, texts and personal data against the rules of the config.

Belongs here: one verdict per raw item and its reason. Does not belong here: what is wrong with a
picture (``image_checks.py`` judges it) or a text (``texts.py`` cleans it).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, get_args

import polars as pl

from dataset_pipeline.config import DatasetConfig, PersonalDataEntity
from dataset_pipeline.stages import licences
from dataset_pipeline.stages.decisions import FINAL_REASONS, of_kind
from dataset_pipeline.stages.faces import COUNT, FOUND, REMOVING, face_warnings
from dataset_pipeline.stages.image_checks import (
    MEASURES,
    check_counts,
    image_checks,
    image_warnings,
    with_shared_pixels,
)
from dataset_pipeline.stages.language import UNDETERMINED
from dataset_pipeline.stages.pii import FINDINGS, PLACEHOLDER_PATTERN, TO_REVIEW
from dataset_pipeline.stages.takedowns import with_takedowns
from dataset_pipeline.stages.texts import TOO_LONG
from dataset_pipeline.tables import DECISIONS, ITEMS, REFERENCES, REMOVED, empty

_FOR_PERSONAL_DATA: Final = ("personal_data", "personal_data_unsure")

LANGUAGE_DOUBTS: Final = {
    "item_id": pl.String(),
    "column": pl.String(),
    "declared": pl.String(),
    "evidence": pl.String(),
    "found": pl.String(),
    "confidence": pl.Float64(),
}
"""One row per text that does not look like its declared language: ``language.Doubt``."""

CHANGES: Final = {"item_id": pl.String(), "column": pl.String(), "rule": pl.String()}
"""One row per text of a kept item and rule that changed it."""


class Cleaned(NamedTuple):
    """What cleaning leaves; every table is sorted by ``item_id``."""

    items: pl.LazyFrame
    """``ITEMS`` and one column per text: what stays."""
    removed: pl.LazyFrame
    """``REMOVED``: every other raw item, with the first reason that applies."""
    changes: pl.LazyFrame
    """``CHANGES``."""
    findings: pl.LazyFrame
    """``FINDINGS`` of items that stay and of those removed for personal data."""
    to_review: pl.LazyFrame
    """``TO_REVIEW``: those of the findings that a person should look at."""
    references: pl.LazyFrame
    """``REFERENCES``: removed items that are listed by hash and URL."""
    taken_down: pl.LazyFrame
    """``ITEMS`` and texts of items that were taken down: to find what else is the same."""
    image_warnings: pl.LazyFrame
    """``IMAGE_WARNINGS`` of items that stay."""
    image_checks: pl.LazyFrame
    """``image_checks.COUNTS`` over all items with a usable image."""
    language_doubts: pl.LazyFrame
    """``LANGUAGE_DOUBTS`` of items that stay and of those removed for one."""
    kept_by_decision: pl.LazyFrame
    """item_id of items that stay and that a person decided to keep, whatever a check says of them."""


def distinct_texts(raw: pl.LazyFrame, text_names: Sequence[str]) -> pl.LazyFrame:
    """Distinct pairs (text, declared_language) of all text columns, sorted: what is to be analysed."""
    columns = [
        raw.select(text=pl.col(name), declared_language=pl.col("language")).drop_nulls("text")
        for name in text_names
    ]
    empty = pl.LazyFrame(schema={"text": pl.String(), "declared_language": pl.String()})
    return pl.concat([empty, *columns]).unique().sort("text", "declared_language", nulls_last=True)


def clean_items(
    raw: pl.LazyFrame,
    images: pl.LazyFrame,
    texts: pl.LazyFrame,
    config: DatasetConfig,
    takedowns: pl.DataFrame | None,
    decisions: pl.DataFrame | None = None,
    kept_once: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda frame: frame,
) -> Cleaned:
    """Judge every raw item.

    ``raw``: ``RAW_ITEMS`` with text columns, orphaned images included; ``images``: ``IMAGES``;
    ``texts``: ``TEXTS`` of every pair that ``distinct_texts`` names; ``takedowns``: item_id, sha256, url, date;
    ``decisions``: ``DECISIONS``, of which 'keep' and 'drop' are for here; ``kept_once``: computes a frame and gives one that
    is read again for each of the tables, where that is cheaper than computing it for each.
    The first reason that applies is given, in this order: taken down, problems found while reading, licence, decided by
    a person, label, picture unusable, picture's measures, faces, text too long, personal data to drop the item for,
    language in doubt, text empty, without letters, too short. Kept and removed items together are the raw ones. An item's
    language is the declared one, else that of its longest text; null where it has no text.

    Raises ``ValueError`` where a text was not analysed: it must not be released.
    """
    names = config.text_names
    _require_analysis(raw, texts, names)
    found = raw.select(pl.col("licence").unique()).collect().to_series().to_list()
    withheld = licences.withheld(found, config)
    decided = empty(DECISIONS) if decisions is None else decisions
    judged = kept_once(_judged(_joined(raw, images, texts, config, takedowns, decided), config, withheld))
    kept, removed = judged.filter(pl.col("reason").is_null()), judged.filter(pl.col("reason").is_not_null())
    findings = _findings(judged, config)
    return Cleaned(
        items=_items(kept, config),
        removed=removed.select(
            "item_id",
            stage=pl.when("is_raw_problem").then(pl.lit("raw")).otherwise(pl.lit("clean")),
            reason="reason",
            detail="detail",
            kept_item_id=pl.lit(None, pl.String),
        )
        .select(*REMOVED)
        .sort("item_id", "reason", "detail"),
        changes=_changes(kept, names),
        findings=findings.select(*FINDINGS),
        to_review=findings.filter(pl.col("excerpt").is_not_null()).select(*TO_REVIEW),
        references=_references(removed, withheld),
        taken_down=_items(judged.filter("is_taken_down"), config),
        image_warnings=pl.concat(
            [image_warnings(kept, config.clean.images), face_warnings(kept, config.pii.images)]
        ).sort("item_id", "warning"),
        image_checks=check_counts(judged, config.clean.images),
        language_doubts=_doubts(judged, names),
        kept_by_decision=kept.filter("decided_keep").select("item_id").sort("item_id"),
    )


def _items(rows: pl.LazyFrame, config: DatasetConfig) -> pl.LazyFrame:
    """``ITEMS`` and one column per text."""
    names, is_replaced = config.text_names, config.clean.language.declared == "replace"
    return (
        rows.select(
            *(pl.col(name).cast(dtype) for name, dtype in ITEMS.items() if name != "language"),
            _item_language(names, is_replaced).alias("language"),
            *(_released(name).alias(name) for name in names),
        )
        .select(*ITEMS, *names)
        .sort("item_id", "source")
    )


def _require_analysis(raw: pl.LazyFrame, texts: pl.LazyFrame, names: Sequence[str]) -> None:
    wanted = distinct_texts(raw, names)
    keys = ["text", "declared_language"]
    missing = wanted.join(texts.select(keys), on=keys, how="anti", nulls_equal=True)
    count = missing.select(pl.len()).collect(engine="streaming").item()
    if count:
        raise ValueError(
            f"{count} texts have not been analysed: texts must hold every pair of distinct_texts(raw)"
        )


# -- one row per raw item, with all that is known of it ------------------------------------------


def _joined(
    raw: pl.LazyFrame,
    images: pl.LazyFrame,
    texts: pl.LazyFrame,
    config: DatasetConfig,
    takedowns: pl.DataFrame | None,
    decisions: pl.DataFrame,
) -> pl.LazyFrame:
    """Raw items beside their picture's measures, their texts' analyses, their takedown and decisions."""
    picture = images.select(
        "image_ref",
        image_sha256="sha256",
        image_pixel_hash="pixel_hash",
        image_problem="problem",
        image_problem_detail="problem_detail",
        faces="faces",
        is_image_there=pl.lit(True),
        **{name: name for name in MEASURES},
    )
    rows = raw.join(picture, on="image_ref", how="left")
    for name in config.text_names:
        analysis = texts.select(
            pl.col("text").alias(name),
            pl.col("declared_language").alias("language"),
            pl.col("cleaned").alias(_cleaned(name)),
            pl.col("changes").alias(_changes_of(name)),
            pl.col("language").alias(_language_of(name)),
            pl.col("findings").alias(_findings_of(name)),
            pl.col("language_doubt").alias(_doubt_of(name)),
        )
        rows = rows.join(analysis, on=[name, "language"], how="left", nulls_equal=True)
    rows = with_shared_pixels(rows, {name: _language_of(name) for name in config.text_names})
    rows = with_takedowns(rows, takedowns)
    for kind in ("keep", "drop", "language"):
        ids = (
            of_kind(decisions, kind)
            .select("item_id")
            .unique()
            .with_columns(pl.lit(True).alias(f"decided_{kind}"))
        )
        rows = rows.join(ids.lazy(), on="item_id", how="left")
    return rows.with_columns(
        content_chars=pl.max_horizontal(
            pl.lit(0, pl.UInt32), *(_content_chars(name) for name in config.text_names)
        )
    )


def _cleaned(name: str) -> str:
    return f"{name}//cleaned"  # "//" is in no text column's name


def _changes_of(name: str) -> str:
    return f"{name}//changes"


def _language_of(name: str) -> str:
    return f"{name}//language"


def _findings_of(name: str) -> str:
    return f"{name}//findings"


def _doubt_of(name: str) -> str:
    return f"{name}//doubt"


def _is_doubted(name: str) -> pl.Expr:
    """Whether a text does not look like its declared language, and no person has said that it is the item's."""
    return pl.col(_doubt_of(name)).is_not_null() & pl.col("decided_language").is_null()


def _content_chars(name: str) -> pl.Expr:
    """Characters of a cleaned text without placeholders: an e-mail address alone is no caption."""
    text = pl.col(_cleaned(name))
    rest = text.str.replace_all(PLACEHOLDER_PATTERN, "").str.strip_chars(" \n.,;:!?-")
    is_redacted = text.str.contains(PLACEHOLDER_PATTERN)
    return pl.when(is_redacted).then(rest.str.len_chars()).otherwise(text.str.len_chars()).fill_null(0)


def _released(name: str) -> pl.Expr:
    """The cleaned text, null where nothing is left of it."""
    text = pl.col(_cleaned(name))
    return pl.when(text.str.len_chars() > 0).then(text)


def _item_language(names: Sequence[str], is_replaced: bool) -> pl.Expr:
    """The declared language, else that of the longest text with one, else "und"; null without texts.

    ``is_replaced``: a declared language that a text speaks against is as none.
    """
    ranks, languages = [], []
    for place, name in enumerate(names):
        chars = pl.col(_cleaned(name)).str.len_chars().cast(pl.Int64)
        is_known = (pl.col(_language_of(name)) != UNDETERMINED).cast(pl.Int64)
        # Known languages first, then length, then the order of the columns.
        ranks.append(pl.when(chars > 0).then(is_known * 2**48 + chars * 2**16 - place))
        languages.append(pl.col(_language_of(name)))
    best = pl.max_horizontal(pl.lit(None, pl.Int64), *ranks)
    of_longest = [
        pl.when(rank == best).then(language) for rank, language in zip(ranks, languages, strict=True)
    ]
    declared = pl.col("language")
    if is_replaced:
        declared = pl.when(~pl.any_horizontal(pl.lit(False), *(_is_doubted(name) for name in names))).then(
            declared
        )
    return pl.coalesce(declared, *of_longest, pl.lit(None, pl.String))


# -- the verdict ---------------------------------------------------------------------------------


class _Fault(NamedTuple):
    """Where ``applies`` holds, the item is removed for ``reason``."""

    applies: pl.Expr
    reason: pl.Expr
    detail: pl.Expr


def _judged(
    rows: pl.LazyFrame, config: DatasetConfig, withheld: Mapping[str | None, tuple[str, str]]
) -> pl.LazyFrame:
    """Rows with the reason and the detail of the first fault; null where there is none."""
    faults = [
        _Fault(
            pl.col("is_taken_down"),
            pl.lit("taken_down"),
            pl.format("on {}", pl.col("takedown_date")),
        ),
        _Fault(pl.col("problem").is_not_null(), pl.col("problem"), pl.col("problem_detail")),
        *_licence_faults(withheld),
        _Fault(pl.col("decided_drop").fill_null(False), pl.lit("decided_drop"), pl.lit(None, pl.String)),
        *_label_faults(config),
        _Fault(
            pl.col("image_ref").is_not_null() & pl.col("is_image_there").is_null(),
            pl.lit("image_missing"),
            pl.col("image_ref"),
        ),
        _Fault(
            pl.col("image_problem").is_not_null(), pl.col("image_problem"), pl.col("image_problem_detail")
        ),
        *(
            _Fault(check.applies, pl.lit(check.reason), check.detail)
            for check in image_checks(config.clean.images)
            if check.action == "drop"
        ),
        *_face_faults(config),
        *_text_faults(config),
    ]
    reason, detail = pl.lit(None, pl.String), pl.lit(None, pl.String)
    is_kept = pl.col("decided_keep").fill_null(False)
    for fault in reversed(faults):
        applies = fault.applies & ~(is_kept & ~fault.reason.is_in(list(FINAL_REASONS)))
        reason = pl.when(applies).then(fault.reason).otherwise(reason)
        detail = pl.when(applies).then(fault.detail).otherwise(detail)
    return rows.with_columns(
        reason=reason,
        detail=detail,
        is_raw_problem=pl.col("problem").is_not_null() & ~pl.col("is_taken_down"),
    )


def _face_faults(config: DatasetConfig) -> list[_Fault]:
    reason = REMOVING.get(config.pii.images.faces)
    return [] if reason is None else [_Fault(COUNT > 0, pl.lit(reason), FOUND)]


def _licence_faults(withheld: Mapping[str | None, tuple[str, str]]) -> list[_Fault]:
    """``withheld``: licence -> (reason, action), as ``licences.withheld`` gives it."""
    return [
        _Fault(
            pl.col("licence").eq_missing(pl.lit(licence, pl.String)),
            pl.lit(reason),
            pl.concat_str(pl.lit(f"{licence or 'no licence'}; "), pl.lit(_LICENCE_ACTIONS[action])),
        )
        for licence, (reason, action) in withheld.items()
    ]


_LICENCE_ACTIONS: Final = {"drop": "left out", "reference": "listed in metadata/references.parquet"}


def _references(removed: pl.LazyFrame, withheld: Mapping[str | None, tuple[str, str]]) -> pl.LazyFrame:
    """What may be named of removed items whose licence says no more than that."""
    named = [licence for licence, (_reason, action) in withheld.items() if action == "reference"]
    reasons = sorted({reason for reason, _action in withheld.values()})
    return (
        removed.filter(pl.col("reason").is_in(reasons) & pl.col("licence").is_in(named, nulls_equal=True))
        .select(pl.col(name).cast(dtype) for name, dtype in REFERENCES.items())
        .sort("item_id", "source")
    )


def _label_faults(config: DatasetConfig) -> list[_Fault]:
    label, settings = pl.col("label"), config.labels
    named = pl.format("label '{}'", label)
    faults = [
        _Fault(label.is_in(settings.drop), pl.lit("label_dropped"), named),
        _Fault(label.is_in(settings.unsure), pl.lit("label_unsure"), named),
    ]
    labelled = [source.id for source in config.sources if source.columns.label is not None]
    if settings.required:
        is_missing = label.is_null() & pl.col("source").is_in(labelled)
        faults.append(_Fault(is_missing, pl.lit("label_missing"), pl.lit(None, pl.String)))
    return faults


_WORDLESS: Final = r"^[\p{N}\p{P}\p{Sm}\p{Sc}\p{Sk}\s]*$"
"""Letters, marks, and symbols such as emoji say something; numbers and punctuation alone do not."""


def _text_faults(config: DatasetConfig) -> list[_Fault]:
    """Rules of texts, for the columns that the item's own source has."""
    names, settings = config.text_names, config.clean.texts
    if not names:
        return []
    too_long = {name: pl.col(_changes_of(name)).list.contains(TOO_LONG).fill_null(False) for name in names}
    with_texts = [source.id for source in config.sources if source.columns.texts]
    chars = pl.col("content_chars")
    faults = [
        _Fault(
            pl.any_horizontal(*too_long.values()),
            pl.lit("text_too_long"),
            pl.concat_str(
                pl.lit("more than "),
                pl.lit(f"{settings.max_chars} characters: "),
                _names_where(too_long),
            ),
        )
    ]
    for action, reason in (("drop", "personal_data"), ("review", "personal_data_unsure")):
        entities = [e for e in get_args(PersonalDataEntity) if config.pii.action(e) == action]
        found = {
            name: pl.col(_findings_of(name))
            .list.eval(pl.element().struct.field("entity").is_in(entities))
            .list.any()
            .fill_null(False)
            for name in names
        }
        if entities:
            faults.append(_Fault(pl.any_horizontal(*found.values()), pl.lit(reason), _names_where(found)))
    if config.clean.language.declared == "drop":
        doubted = {name: _is_doubted(name) for name in names}
        faults.append(
            _Fault(
                pl.any_horizontal(*doubted.values()),
                pl.lit("language_doubtful"),
                pl.concat_str(
                    pl.format("declared {}, not so in ", pl.col("language")), _names_where(doubted)
                ),
            )
        )
    if settings.required:
        is_empty = (chars == 0) & pl.col("source").is_in(with_texts)
        faults.append(_Fault(is_empty, pl.lit("text_empty"), pl.lit(None, pl.String)))
    if settings.require_letters:
        wordless = pl.all_horizontal(
            pl.col(_cleaned(name)).str.contains(_WORDLESS).fill_null(True) for name in names
        )
        faults.append(_Fault((chars > 0) & wordless, pl.lit("text_without_letters"), pl.lit(None, pl.String)))
    faults.append(
        _Fault(
            (chars > 0) & (chars < settings.min_chars),
            pl.lit("text_too_short"),
            pl.format("longest has {} characters", chars),
        )
    )
    return faults


def _names_where(columns: dict[str, pl.Expr]) -> pl.Expr:
    """The text columns for which the expression holds, joined by commas."""
    named = [pl.when(applies).then(pl.lit(name)) for name, applies in columns.items()]
    return pl.concat_str(*named, separator=", ", ignore_nulls=True)


# -- what was changed and found ------------------------------------------------------------------


def _changes(kept: pl.LazyFrame, names: Sequence[str]) -> pl.LazyFrame:
    columns = [
        kept.select(
            "item_id",
            column=pl.lit(name),
            rule=pl.col(_changes_of(name)),
        )
        .filter(pl.col("rule").list.len() > 0)
        .explode("rule", empty_as_null=True, keep_nulls=True)
        for name in names
    ]
    return pl.concat([pl.LazyFrame(schema=CHANGES), *columns]).sort("item_id", "column", "rule")


def _doubts(judged: pl.LazyFrame, names: Sequence[str]) -> pl.LazyFrame:
    counted = judged.filter(pl.col("reason").is_null() | (pl.col("reason") == "language_doubtful"))
    columns = [
        counted.filter(_is_doubted(name)).select(
            "item_id",
            column=pl.lit(name),
            declared="language",
            evidence=pl.col(_doubt_of(name)).struct.field("evidence"),
            found=pl.col(_doubt_of(name)).struct.field("found"),
            confidence=pl.col(_doubt_of(name)).struct.field("confidence"),
        )
        for name in names
    ]
    return pl.concat([pl.LazyFrame(schema=LANGUAGE_DOUBTS), *columns]).sort("item_id", "column")


def _findings(judged: pl.LazyFrame, config: DatasetConfig) -> pl.LazyFrame:
    counted = judged.filter(pl.col("reason").is_null() | pl.col("reason").is_in(_FOR_PERSONAL_DATA))
    actions = {entity: config.pii.action(entity) for entity in get_args(PersonalDataEntity)}
    columns = [
        counted.select("item_id", column=pl.lit(name), finding=pl.col(_findings_of(name)))
        .filter(pl.col("finding").list.len() > 0)
        .explode("finding", empty_as_null=True, keep_nulls=True)
        .select(
            "item_id",
            "column",
            start=pl.col("finding").struct.field("start"),
            entity=pl.col("finding").struct.field("entity"),
            score=pl.col("finding").struct.field("score"),
            excerpt=pl.col("finding").struct.field("excerpt"),
        )
        for name in config.text_names
    ]
    empty = pl.LazyFrame(schema={**TO_REVIEW, "start": pl.Int32()}).select(
        "item_id", "column", "start", "entity", "score", "excerpt"
    )
    return (
        pl.concat([empty, *columns])
        .sort("item_id", "column", "start", "entity")
        .with_columns(action=pl.col("entity").replace_strict(actions, return_dtype=pl.String))
        .select(*TO_REVIEW)
    )
