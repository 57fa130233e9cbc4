"""What is wrong with a picture that can be decoded: measures against thresholds, one reason code a check.

Belongs here: the rules, and what they find over a whole dataset. Does not belong here: measuring pixels
(``adapters/images.py``), the verdict on an item (``clean.py``). How often each check is right is measured in
docs/quality/images.md.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, get_args

import polars as pl

from dataset_pipeline.config import CleanImages, ImageAction, ImageCheck
from dataset_pipeline.tables import IMAGE_WARNINGS

MEASURES: Final = (
    "width_px",
    "height_px",
    "frames",
    "darkest",
    "brightest",
    "contrast",
    "entropy_bits",
    "fine_detail",
    "pixel_hash",
)
"""Columns of IMAGES that the checks read."""

OF_THE_DATASET: Final = frozenset({"odd_size", "placeholder"})
"""Checks that compare a picture with the others, and cannot judge it alone."""

COUNTS: Final = {
    "check": pl.String(),
    "reason": pl.String(),
    "action": pl.String(),
    "items": pl.Int64(),
    "removed": pl.Int64(),
    "reported": pl.Int64(),
}
"""One row per check: items with a usable image that do not pass it, those removed for it, those that stay."""

_LABELS, _TEXTS, _MEDIAN_SIDE = "//labels_of_pixels", "//texts_of_pixels", "//median_side"


class Check(NamedTuple):
    """One rule: where ``applies`` holds, the picture does not pass."""

    name: str
    action: ImageAction
    applies: pl.Expr
    """False, never null, where the measure is missing."""
    detail: pl.Expr
    """What was found."""

    @property
    def reason(self) -> str:
        """The check's reason code."""
        return f"image_{self.name}"


def image_checks(settings: CleanImages) -> list[Check]:
    """Every check with its action, in the order in which a reason is given.

    The expressions read ``MEASURES`` and what :func:`with_shared_pixels` adds.
    """
    width, height = pl.col("width_px"), pl.col("height_px")
    shorter, longer = pl.min_horizontal(width, height), pl.max_horizontal(width, height)
    size = pl.format("{} x {} px", width, height)
    factor = _side(width, height) / pl.col(_MEDIAN_SIDE)
    rules: Mapping[str, tuple[pl.Expr, pl.Expr]] = {
        "too_small": (shorter < settings.min_side_px, size),
        "extreme_aspect": (longer > settings.max_aspect_ratio * shorter, size),
        "blank": (pl.col("contrast") < settings.min_contrast, _measured("contrast")),
        "too_dark": (pl.col("brightest") < settings.min_brightest, _measured("brightest")),
        "too_bright": (pl.col("darkest") > settings.max_darkest, _measured("darkest")),
        "low_information": (pl.col("entropy_bits") < settings.min_entropy_bits, _measured("entropy_bits")),
        "blurred": (pl.col("fine_detail") < settings.min_fine_detail, _measured("fine_detail")),
        "odd_size": (
            pl.max_horizontal(factor, 1 / factor) > settings.max_size_factor,
            pl.format("{} x {} px, {} times the median side", width, height, factor.round(2)),
        ),
        "placeholder": (
            (pl.col(_LABELS) >= settings.placeholder_labels) | (pl.col(_TEXTS) >= settings.placeholder_texts),
            pl.format("the same pixels with {} labels and {} texts", pl.col(_LABELS), pl.col(_TEXTS)),
        ),
        "animated": (pl.col("frames") > 1, pl.format("{} frames", pl.col("frames"))),
    }
    assert sorted(rules) == sorted(get_args(ImageCheck)), "a check without a rule"
    return [
        Check(name, settings.action(name), applies.fill_null(False), detail)
        for name, (applies, detail) in rules.items()
    ]


def with_shared_pixels(rows: pl.LazyFrame, texts: Mapping[str, str]) -> pl.LazyFrame:
    """``rows`` (raw items and ``MEASURES``) with what a picture's rows tell together.

    ``texts``: text column -> the column of its language. Added are the number of labels, and the largest number
    of different texts of one column and one language, that the same pixels are shown for; and the median of the
    square root of the area over all different pixels.
    """
    pixels = rows.filter(pl.col("pixel_hash").is_not_null())
    labels = pixels.group_by("pixel_hash").agg(pl.col("label").drop_nulls().n_unique().alias(_LABELS))
    per_language = [
        pixels.group_by("pixel_hash", pl.col(language).alias("//language"))
        .agg(pl.col(name).drop_nulls().n_unique().alias(_TEXTS))
        .select("pixel_hash", _TEXTS)
        for name, language in texts.items()
    ]
    none = pl.LazyFrame(schema={"pixel_hash": pl.String(), _TEXTS: pl.UInt32()})
    most = pl.concat([none, *per_language]).group_by("pixel_hash").agg(pl.col(_TEXTS).max())
    median = pixels.unique("pixel_hash").select(
        _side(pl.col("width_px"), pl.col("height_px")).median().alias(_MEDIAN_SIDE)
    )
    return (
        rows.join(labels, on="pixel_hash", how="left")
        .join(most, on="pixel_hash", how="left")
        .with_columns(pl.col(_TEXTS).fill_null(0))
        .join(median, how="cross")
    )


def image_warnings(kept: pl.LazyFrame, settings: CleanImages) -> pl.LazyFrame:
    """``IMAGE_WARNINGS`` of the items that stay, sorted: every check that an item does not pass.

    An item that does not pass a check that drops stays where a person decided so.
    """
    found = [
        kept.filter(check.applies).select("item_id", warning=pl.lit(check.reason), detail=check.detail)
        for check in image_checks(settings)
        if check.action != "off"
    ]
    return pl.concat([pl.LazyFrame(schema=dict(IMAGE_WARNINGS)), *found]).sort("item_id", "warning")


def check_counts(judged: pl.LazyFrame, settings: CleanImages) -> pl.LazyFrame:
    """``COUNTS`` in the order of the checks. ``judged``: rows with ``reason``, null where the item stays."""
    usable = judged.filter(pl.col("pixel_hash").is_not_null())
    checks = [check for check in image_checks(settings) if check.action != "off"]
    rows = [
        usable.filter(check.applies).select(
            check=pl.lit(check.name),
            reason=pl.lit(check.reason),
            action=pl.lit(check.action),
            items=pl.len().cast(pl.Int64),
            removed=(pl.col("reason") == check.reason).sum().cast(pl.Int64),
            reported=pl.col("reason").is_null().sum().cast(pl.Int64),
        )
        for check in checks
    ]
    return pl.concat([pl.LazyFrame(schema=dict(COUNTS)), *rows])


def image_report(
    counts: pl.DataFrame, warnings: pl.LazyFrame, released: pl.LazyFrame, settings: CleanImages
) -> dict[str, Any]:
    """``images.json``: what each check found, with its threshold, its action and the first few items.

    ``counts``: ``COUNTS``; ``warnings``: ``IMAGE_WARNINGS`` of cleaned items; ``released``: item_id.
    """
    left = warnings.join(released.select("item_id"), on="item_id", how="semi").sort("item_id").collect()
    by_reason = {str(reason): part for (reason,), part in left.group_by("warning")}
    checks = []
    for row in counts.to_dicts():
        part = by_reason.get(row["reason"], left.head(0))
        checks.append(
            {
                **row,
                "thresholds": {name: getattr(settings, name) for name in _THRESHOLDS[row["check"]]},
                "released": part.height,
                "examples": part.select("item_id", "detail").head(_EXAMPLES).to_dicts(),
            }
        )
    off = [check.name for check in image_checks(settings) if check.action == "off"]
    return {
        "checks": checks,
        "switched_off": off,
        "released_items_with_a_warning": left["item_id"].n_unique(),
    }


_EXAMPLES: Final = 10
_THRESHOLDS: Final[Mapping[str, tuple[str, ...]]] = {
    "too_small": ("min_side_px",),
    "extreme_aspect": ("max_aspect_ratio",),
    "blank": ("min_contrast",),
    "too_dark": ("min_brightest",),
    "too_bright": ("max_darkest",),
    "low_information": ("min_entropy_bits",),
    "blurred": ("min_fine_detail",),
    "odd_size": ("max_size_factor",),
    "placeholder": ("placeholder_labels", "placeholder_texts"),
    "animated": (),
}


def _side(width: pl.Expr, height: pl.Expr) -> pl.Expr:
    """Side of the square of the same area."""
    return (width.cast(pl.Float64) * height.cast(pl.Float64)).sqrt()


def _measured(name: str) -> pl.Expr:
    return pl.format("{} {}", pl.lit(name.replace("_", " ")), pl.col(name).cast(pl.Float64).round(2))
