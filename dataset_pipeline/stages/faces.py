"""Faces in pictures: which findings count, what is said of items whose picture shows one, and the report of it.

Belongs here: decisions and counts. Does not belong here: finding (``adapters/face_detector.py``), hiding
(``adapters/released_images.py``) and the verdict on an item (``clean.py``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import PiiImages
from dataset_pipeline.stages.intervals import wilson_interval
from dataset_pipeline.tables import FACES

REMOVING: Final[Mapping[str, str]] = {"drop": "image_faces", "review": "image_faces_unsure"}
"""Action -> the reason for which it removes an item."""

NOT_SEARCHED_FOR: Final[Sequence[str]] = ("number plates", "text in pictures", "bodies", "tattoos")
"""What may tell who somebody is, and is not looked for in pictures."""

COUNT: Final = pl.col("faces").list.len().fill_null(0)
"""Faces of a picture; 0 also where none were looked for."""

FOUND: Final = pl.format(
    "{} {}, the surest with score {}",
    COUNT,
    pl.when(COUNT == 1).then(pl.lit("face")).otherwise(pl.lit("faces")),
    pl.col("faces").list.eval(pl.element().struct.field("score")).list.max().cast(pl.Float64).round(3),
)
"""What was found, in words."""

BOXES: Final = (
    pl.col("faces")
    .list.eval(
        pl.format(
            "{} {} {} {}", *(pl.element().struct.field(side) for side in ("left", "top", "right", "bottom"))
        )
    )
    .list.join(";")
)
"""Where the faces are, as one text."""

_HEIGHTS_PX: Final = (0, 32, 64, 128, 256)
_NAMES_ITS_PICTURE: Final = "image_ref"


def with_faces(images: pl.LazyFrame, found: pl.LazyFrame, settings: PiiImages) -> pl.LazyFrame:
    """``IMAGES`` with the faces that count: a score of ``min_score`` or more.

    ``found``: sha256 and faces of all pictures that were searched, whatever the score; null: it could not be.
    """
    counted = found.select(
        "sha256",
        faces=pl.col("faces").list.filter(
            pl.element().struct.field("score").cast(pl.Float64).round(4) >= settings.min_score
        ),
    )
    order = images.collect_schema().names()
    return images.drop("faces").join(counted, on="sha256", how="left", maintain_order="left").select(order)


def with_blurred(images: pl.LazyFrame, blurred: pl.LazyFrame) -> pl.LazyFrame:
    """``IMAGES`` with what ``blurred`` (sha256 and facts about pixels) says of pictures whose faces are blurred."""
    facts = [name for name in blurred.collect_schema().names() if name != "sha256"]
    order = images.collect_schema().names()
    return (
        images.join(
            blurred.with_columns(pl.lit(True).alias("//is_blurred")), on="sha256", how="left", suffix="//"
        )
        .with_columns(
            pl.when(pl.col("//is_blurred")).then(pl.col(f"{name}//")).otherwise(pl.col(name)).alias(name)
            for name in facts
        )
        .sort(_NAMES_ITS_PICTURE)
        .select(order)
    )


def face_warnings(kept: pl.LazyFrame, settings: PiiImages) -> pl.LazyFrame:
    """``IMAGE_WARNINGS`` of items that stay with faces in their picture, reported, blurred, or kept by a person."""
    said = pl.concat_str(FOUND, pl.lit(", blurred" if settings.faces == "blur" else ""))
    shown = kept.filter(COUNT > 0)
    return shown.select("item_id", pl.lit("image_faces").alias("warning"), said.alias("detail"))


def face_report(
    items: pl.LazyFrame,
    removed: pl.LazyFrame,
    raw: pl.LazyFrame,
    images: pl.LazyFrame,
    settings: PiiImages,
    detector: str,
) -> dict[str, Any]:
    """``images`` of ``reports/pii.json``: what was looked for in pictures, how often it was found, and what was done.

    ``items``: item_id and image_ref of items that cleaning leaves; ``removed``: ``REMOVED`` by it; ``raw``: item_id and
    image_ref of all; ``images``: ``IMAGES``. Shares are of different pictures, of items that are left or were removed
    for their faces; the interval is Wilson's at 95 %: it says how far the share of another sample from the same
    sources may lie, not how often the detector errs. Heights are those of the faces, in pixels of the picture.
    """
    said: dict[str, Any] = {"action": settings.faces, "not_searched_for": list(NOT_SEARCHED_FOR)}
    if settings.faces == "off":
        has_pictures = not images.select("image_ref").head(1).collect().is_empty()
        return {**said, "statement": _NOT_SEARCHED if has_pictures else ""}
    for_faces = removed.filter(pl.col("reason").is_in(list(REMOVING.values()))).select("item_id")
    of_items = pl.concat(
        [
            items.select("item_id", "image_ref"),
            raw.join(for_faces, on="item_id", how="semi").select("item_id", "image_ref"),
        ]
    )
    looked_at = (
        of_items.join(images.select("image_ref", "sha256", "faces"), on="image_ref")
        .filter(pl.col("faces").is_not_null())
        .select("item_id", "sha256", "faces")
        .collect()
    )
    pictures = looked_at.unique("sha256", keep="any")
    shown = pictures.filter(COUNT > 0)
    low, high = wilson_interval(shown.height, pictures.height)
    counts = {
        **said,
        "detector": detector,
        **settings.model_dump(include={"min_score", "min_side_px", "max_side_px"}),
        "pictures_searched": pictures.height,
        "pictures_with_faces": shown.height,
        "share": round(shown.height / pictures.height, 6) if pictures.height else 0.0,
        "interval": [round(low, 6), round(high, 6)] if pictures.height else None,
        "faces": int(shown.select(COUNT.sum()).item()),
        "items_with_faces": looked_at.filter(COUNT > 0).height,
        "items_removed": int(for_faces.select(pl.len()).collect().item()),
        "by_height_px": _by_height(shown),
    }
    return {**counts, "statement": _statement(counts)}


_NOT_SEARCHED: Final = (
    f"Pictures were not searched for faces, {', '.join(NOT_SEARCHED_FOR[:-1])} or {NOT_SEARCHED_FOR[-1]}."
)
_DONE: Final[Mapping[str, str]] = {
    "report": "they are released as they are",
    "blur": "these faces are blurred in every released picture",
    "drop": "their items were removed, unless a person decided to keep one",
    "review": "their items were held back for review, unless a person decided to keep one",
}


def _statement(counts: Mapping[str, Any]) -> str:
    """What was found and done, and what was not looked for, in words."""
    if not counts["pictures_searched"]:
        return ""
    low, high = (f"{100 * bound:.1f}" for bound in counts["interval"])
    shown = counts["pictures_with_faces"]
    return (
        f"{shown:,} of {counts['pictures_searched']:,} different pictures show a face by the detector {counts['detector']} "
        f"({100 * counts['share']:.1f} %, 95 % interval {low} to {high} %)"
        + (f"; {_DONE[counts['action']]}" if shown else "")
        + ". It misses faces, small and turned ones above all, and takes other things for faces. Not looked for: "
        + f"{', '.join(counts['not_searched_for'])}."
    )


def _by_height(shown: pl.DataFrame) -> list[dict[str, Any]]:
    """Faces from one height (included) to the next (None: without end)."""
    faces = shown.select(pl.col("faces").cast(FACES)).explode("faces").unnest("faces")
    heights = faces.select((pl.col("bottom") - pl.col("top")).alias("height"))["height"]
    return [
        {
            "from_px": low,
            "to_px": high,
            "faces": int(((heights >= low) & (heights < (high or 1 << 30))).sum()),
        }
        for low, high in zip(_HEIGHTS_PX, (*_HEIGHTS_PX[1:], None), strict=True)
    ]
