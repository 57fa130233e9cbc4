"""What the machine is unsure of, for people to look at, the most valuable first.

Belongs here: which rows are offered, why, and which decisions they allow. Does not belong here: deciding (people do, in
decisions.csv: ``decisions.py``) and thresholds of the stages that found the rows. The review may show personal data: it is
kept in the storage folder and never in a release.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.cells import safe_cells
from dataset_pipeline.stages.faces import REMOVING
from dataset_pipeline.stages.report import Picture, data_uri, thumbnails_of
from dataset_pipeline.tables import REVIEW, empty

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "label_conflict": ("Duplicates with different labels: which one is right?", "relabel, keep, confirm"),
    "label_error": ("A model finds another label more likely: which one is right?", "relabel, confirm"),
    "label_unsure": ("The label is marked as unsure: what is it?", "relabel, keep, drop"),
    "personal_data": ("Is this personal data?", "drop, confirm"),
    "language_doubt": (
        "A text does not look like its declared language: which is it?",
        "language, drop, confirm",
    ),
    "face": ("Removed for a face in its picture: may it be shown?", "keep, confirm"),
    "taken_down_relative": ("Related to an item that was taken down: should it go too?", "drop, confirm"),
    "taken_down_same": ("Held back as the same as a taken-down item: is it something else?", "keep, confirm"),
    "merged_pair": ("Removed as a duplicate, barely: are the two one?", "not_duplicate, confirm"),
    "similar_pair": ("Kept apart, barely: are the two one?", "duplicate, confirm"),
    "odd_picture": ("A picture unlike the rest: does it belong?", "drop, confirm"),
}
"""Kind -> what is asked, and the decisions that answer it."""

PAIR_MARGIN: Final = 0.01
"""Pairs whose similarity is so much above the threshold, at most, are offered."""

NEAR_MISS: Final = 0.03
"""Pairs whose similarity is so much below the threshold, at most, are offered: what is further off is two things."""

ODD_DEVIATIONS: Final = 8.0
"""Pictures with a measure so many median absolute deviations from the median are offered."""

_MEASURES: Final = ("brightness", "contrast", "entropy_bits", "sharpness", "aspect")
_TEXT_CHARS: Final = 300


@dataclass(frozen=True)
class Found:
    """The tables of the build that say what is unsure; see ``tables.py``."""

    raw: pl.LazyFrame
    items: pl.LazyFrame
    """Released items (ITEMS or more)."""
    removed: pl.LazyFrame
    images: pl.LazyFrame
    pairs: pl.DataFrame
    nearest: pl.LazyFrame
    """The nearest pairs across splits: item_id, other_item_id, kind, similarity."""
    conflicts: pl.LazyFrame
    findings: pl.LazyFrame
    """TO_REVIEW: personal data that is not sure, or that a person is to look at."""
    neighbours: pl.LazyFrame
    """SAME: items related to taken-down ones."""
    candidates: pl.LazyFrame
    """LABEL_CANDIDATES: items whose label a model thinks is wrong."""
    doubts: pl.LazyFrame
    """LANGUAGE_DOUBTS: texts that do not look like their declared language."""


def review_rows(found: Found, decisions: pl.DataFrame, config: DatasetConfig) -> pl.DataFrame:
    """``REVIEW``, at most ``config.review.max_rows``, the most valuable first.

    ``value`` is the doubt (0..1) times the number of items in question. What somebody has decided about an item, or
    about a pair, is not asked again.
    """
    offered = pl.concat(
        [
            empty(REVIEW),
            *(
                frame.select(pl.col(name).cast(dtype) for name, dtype in REVIEW.items())
                for frame in (
                    _label_conflicts(found),
                    _unsure_labels(found),
                    _label_errors(found),
                    _personal_data(found),
                    *([_languages(found)] if config.clean.language.declared == "review" else []),
                    _faces(found),
                    _taken_down(found),
                    _pairs(found, config),
                    _odd_pictures(found),
                )
            ),
        ]
    )
    return (
        _undecided(offered, decisions)
        .sort(
            "value",
            "kind",
            "item_id",
            "other_item_id",
            descending=[True, False, False, False],
            nulls_last=True,
        )
        .unique(["kind", "item_id", "other_item_id"], keep="first", maintain_order=True)
        .head(config.review.max_rows)
    )


def _undecided(offered: pl.DataFrame, decisions: pl.DataFrame) -> pl.DataFrame:
    single = decisions.filter(
        ~pl.col("decision").is_in(["duplicate", "not_duplicate"]) & pl.col("value").is_null()
    )
    single = pl.concat([single, decisions.filter(pl.col("decision").is_in(["relabel", "language"]))])
    two = decisions.filter(pl.col("decision").is_in(["duplicate", "not_duplicate", "confirm"]))
    two = two.drop_nulls("value").select(item_id="item_id", other_item_id="value")
    two = pl.concat([two, two.select(item_id="other_item_id", other_item_id="item_id")])
    return offered.join(single.select("item_id").unique(), on="item_id", how="anti").join(
        two.unique(), on=["item_id", "other_item_id"], how="anti"
    )


def _label_conflicts(found: Found) -> pl.DataFrame:
    return (
        found.conflicts.filter(pl.col("column") == "label")
        .select(
            kind=pl.lit("label_conflict"),
            item_id="kept_item_id",
            other_item_id="item_id",
            value=pl.lit(2.0),
            found=pl.format(
                "kept with '{}', removed with '{}'",
                pl.col("kept_value").fill_null("-"),
                pl.col("value").fill_null("-"),
            ),
        )
        .collect()
    )


def _removed_for(found: Found, reason: str, kind: str, doubt: float, said: pl.Expr) -> pl.LazyFrame:
    """A question of ``kind`` about every item that was removed for ``reason``."""
    return found.removed.filter(pl.col("reason") == reason).select(
        kind=pl.lit(kind),
        item_id="item_id",
        other_item_id=pl.lit(None, pl.String),
        value=pl.lit(doubt),
        found=said,
    )


def _unsure_labels(found: Found) -> pl.DataFrame:
    return _removed_for(found, "label_unsure", "label_unsure", 0.8, pl.col("detail")).collect()


def _label_errors(found: Found) -> pl.DataFrame:
    surer = pl.col("suggested_probability").cast(pl.Float64) - pl.col("own_probability").cast(pl.Float64)
    return found.candidates.select(
        kind=pl.lit("label_error"),
        item_id="item_id",
        other_item_id=pl.lit(None, pl.String),
        value=surer.fill_nan(0).fill_null(0).clip(0, 1),
        found=pl.format(
            "'{}', more probably '{}' ({} against {})",
            pl.col("label").fill_null("-"),
            pl.col("suggested").fill_null("-"),
            pl.col("suggested_probability").round(2),
            pl.col("own_probability").round(2),
        ),
    ).collect()


def _personal_data(found: Found) -> pl.DataFrame:
    said = pl.format(
        "{} in {} ({}, {}): {}", "entity", "column", pl.col("score").round(2), "action", "excerpt"
    )
    return (
        found.findings.sort("item_id", "score", "column", "entity")
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("score").min(), found=said.str.join("; "))
        .select(
            kind=pl.lit("personal_data"),
            item_id="item_id",
            other_item_id=pl.lit(None, pl.String),
            value=(1 - pl.col("score").cast(pl.Float64)).clip(0.05, 1),
            found="found",
        )
        .collect()
    )


def _languages(found: Found) -> pl.DataFrame:
    said = pl.format("{}: declared {}, {} {}", "column", "declared", "evidence", "found")
    return (
        found.doubts.sort("item_id", "column")
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("confidence").max(), found=said.str.join("; "))
        .select(
            kind=pl.lit("language_doubt"),
            item_id="item_id",
            other_item_id=pl.lit(None, pl.String),
            value=pl.col("confidence").clip(0.05, 1),
            found="found",
        )
        .collect()
    )


def _faces(found: Found) -> pl.DataFrame:
    return _removed_for(found, REMOVING["review"], "face", 0.8, pl.col("detail")).collect()


def _taken_down(found: Found) -> pl.DataFrame:
    related = found.neighbours.select(
        kind=pl.lit("taken_down_relative"),
        item_id="item_id",
        other_item_id=pl.lit(None, pl.String),
        value=pl.lit(1.5),
        found=pl.format("in one duplicate group with '{}', which was taken down", "taken_item_id"),
    )
    said = pl.format("the same as '{}', which was taken down", "detail")
    same = _removed_for(found, "duplicate_of_taken_down", "taken_down_same", 0.7, said)
    return pl.concat([related, same]).collect()


def _pairs(found: Found, config: DatasetConfig) -> pl.DataFrame:
    """Pairs that were merged by a small margin, and the nearest ones that were not."""
    least = {
        "near_image": config.duplicates.image.min_similarity,
        "near_text": config.duplicates.text.min_jaccard,
    }
    margin = pl.col("score") - pl.col("kind").replace_strict(least, default=None, return_dtype=pl.Float64)
    merged = (
        found.pairs.lazy()
        .filter(pl.col("kind").is_in(list(least)))
        .with_columns(margin=margin)
        .filter(pl.col("margin") <= PAIR_MARGIN)
    )
    removed = found.removed.filter(pl.col("reason") == "duplicate").select("item_id", "kept_item_id")
    ends = [("item_id", "other_item_id"), ("other_item_id", "item_id")]
    of_removed = [
        merged.join(removed, left_on=list(pair), right_on=["item_id", "kept_item_id"], how="semi").select(
            kind=pl.lit("merged_pair"),
            item_id=pair[0],
            other_item_id=pair[1],
            value=2 * (1 - pl.col("margin") / PAIR_MARGIN),
            found=pl.format("{} {}", "kind", pl.col("score").round(4)),
        )
        for pair in ends
    ]
    least_apart = (
        pl.when(pl.col("kind").str.contains("image")).then(least["near_image"]).otherwise(least["near_text"])
    )
    similarity = pl.col("similarity").cast(pl.Float64)
    apart = (
        found.nearest.with_columns(missing=(least_apart - similarity).clip(0))
        .filter(pl.col("missing") <= NEAR_MISS)
        .select(
            kind=pl.lit("similar_pair"),
            item_id="item_id",
            other_item_id="other_item_id",
            value=2 * (1 - pl.col("missing") / NEAR_MISS),
            found=pl.format("{} {}, in two splits", "kind", similarity.round(4)),
        )
    )
    return pl.concat([*of_removed, apart]).collect()


def _odd_pictures(found: Found) -> pl.DataFrame:
    """Released pictures far from the rest in a measure, by its median absolute deviation (Leys et al. 2013).

    Leys, Ley, Klein, Bernard and Licata, "Detecting outliers: Do not use standard deviation around the mean, use absolute
    deviation around the median", Journal of Experimental Social Psychology 49(4), 2013.
    """
    pictures = (
        found.items.select("item_id", "image_sha256")
        .drop_nulls()
        .join(
            found.images.select(
                "sha256",
                "brightness",
                "contrast",
                "entropy_bits",
                "sharpness",
                aspect=(pl.col("width_px") / pl.col("height_px")).log(),
            ).unique("sha256", keep="any"),
            left_on="image_sha256",
            right_on="sha256",
        )
        .sort("item_id")
        .unique("image_sha256", keep="first", maintain_order=True)
        .with_columns(pl.col(name).cast(pl.Float64).fill_nan(None) for name in _MEASURES)
        .with_columns(sharpness=pl.col("sharpness").log1p())  # its spread is that of ratios
    )
    away = {name: (pl.col(name) - pl.col(name).median()).abs() for name in _MEASURES}
    scaled = {
        name: pl.when(distance.median() > 0).then(distance / (1.4826 * distance.median())).fill_null(0.0)
        for name, distance in away.items()
    }
    farthest = pl.max_horizontal(f"_{name}" for name in _MEASURES)
    which = pl.coalesce(
        pl.when(pl.col(f"_{name}") == pl.col("farthest")).then(pl.lit(name)) for name in _MEASURES
    )
    return (
        pictures.with_columns(scale.alias(f"_{name}") for name, scale in scaled.items())
        .with_columns(farthest=farthest)
        .filter(pl.col("farthest") > ODD_DEVIATIONS)
        .select(
            kind=pl.lit("odd_picture"),
            item_id="item_id",
            other_item_id=pl.lit(None, pl.String),
            value=1 - ODD_DEVIATIONS / pl.col("farthest"),
            found=pl.format("{} is {} deviations from the median", which, pl.col("farthest").round(1)),
        )
        .collect()
    )


# -- for people ----------------------------------------------------------------------------------


def review_sheet(
    rows: pl.DataFrame, raw: pl.LazyFrame, cleaned: pl.LazyFrame, text_names: Sequence[str]
) -> pl.DataFrame:
    """The rows of review.csv: what is asked, the items' labels as they came, their texts, the decisions to choose from.

    Texts are those of ``cleaned``: the sheet goes from hand to hand, so it must not hold personal data that cleaning
    replaced. An item that cleaning removed shows none. Cells are safe in a spreadsheet; ids read back as they were (``cells.plain_cell``).
    """
    texts = [pl.col(name) for name in text_names]
    described = raw.select("item_id", "label").join(
        cleaned.select(
            "item_id",
            text=pl.concat_str(texts, separator=" | ", ignore_nulls=True).str.slice(0, _TEXT_CHARS)
            if texts
            else pl.lit(None, pl.String),
        ),
        on="item_id",
        how="left",
    )
    ids = pl.concat([rows["item_id"], rows["other_item_id"]]).drop_nulls().unique().implode()
    known = described.filter(pl.col("item_id").is_in(ids)).collect()
    questions = {kind: question for kind, (question, _answers) in KINDS.items()}
    answers = {kind: answer for kind, (_question, answer) in KINDS.items()}
    sheet = (
        rows.join(known, on="item_id", how="left", maintain_order="left")
        .join(
            known.rename({"item_id": "other_item_id", "label": "other_label", "text": "other_text"}),
            on="other_item_id",
            how="left",
            maintain_order="left",
        )
        .select(
            "kind",
            "item_id",
            "other_item_id",
            question=pl.col("kind").replace_strict(questions, return_dtype=pl.String),
            found="found",
            decisions=pl.col("kind").replace_strict(answers, return_dtype=pl.String),
            value=pl.col("value").round(4).cast(pl.String),
            label="label",
            other_label="other_label",
            text="text",
            other_text="other_text",
        )
    )
    return sheet.with_columns(safe_cells(sheet.columns))


def review_page(
    sheet: pl.DataFrame, thumbnails: Mapping[str, bytes], config: DatasetConfig, *, limit: int
) -> str:
    """One self-contained page of the first ``limit`` rows, with a picture for each item that has one.

    ``thumbnails``: item_id -> THUMBNAIL_SIDE_PX square sRGB bytes. Everything that came from data is escaped.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("dataset_pipeline").joinpath("templates", "review.html.j2")

    def picture(item: str | None) -> str | None:
        found = thumbnails.get(item) if item is not None else None
        return data_uri(Picture(found, "")) if found is not None else None

    rows: list[dict[str, Any]] = [
        {**row, "picture": picture(row["item_id"]), "other_picture": picture(row["other_item_id"])}
        for row in sheet.head(limit).to_dicts()
    ]
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        config=config, rows=rows, total=sheet.height
    )


def shown_pictures(
    rows: pl.DataFrame, raw: pl.LazyFrame, images: pl.LazyFrame, limit: int
) -> dict[str, bytes]:
    """item_id -> thumbnail of the items of the first ``limit`` rows."""
    first = rows.head(limit)
    ids = pl.concat([first["item_id"], first["other_item_id"]])
    return dict(thumbnails_of(raw, ids, images).iter_rows())
