"""A small sample of a release, which is a release itself: to look at the data and to try code.

Belongs here: which items are in it, and what its documents say of it. Does not belong here: writing it
(``adapters/archive.py``). A part of a dataset without leaks has none.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.release import quality_report

FOLDER: Final = "mini"
LARGEST_SHARE: Final = 0.05
_AIM: Final = 0.045
"""Share of pictures and texts that is taken: what a file holds beside them weighs more in small files."""


def draw_sample(items: pl.DataFrame, sizes: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    """item_id of the items of the sample, and their share of all pictures and texts in bytes.

    ``items``: SPLIT_ITEMS and texts; ``sizes``: item_id and picture_bytes. In the sample are an item of every class and
    of every split, whatever these need. As many as fit into ``LARGEST_SHARE`` come to them, in this order: of every class
    in each split, of every language in each split, and any others, by a hash of their picture, so that a version that
    adds items draws nearly the same ones. A picture that several items show counts once.
    """
    texts = [name for name, kind in items.schema.items() if kind == pl.String]
    frame = items.join(sizes, on="item_id", how="left").select(
        "item_id", "split", "label", "language",
        pl.coalesce("image_sha256", "item_id").alias("picture"),
        pl.col("picture_bytes").fill_null(0),
        text_bytes=pl.sum_horizontal(pl.col(name).str.len_bytes().fill_null(0) for name in texts),
    )  # fmt: skip
    pictures = frame["picture"].unique().sort()
    hashed = pl.Series(
        [hashlib.sha256(f"sample\0{name}".encode()).hexdigest() for name in pictures], dtype=pl.String
    )
    ranked = frame.with_columns(order=pl.col("picture").replace_strict(pictures, hashed)).sort(
        "order", "item_id"
    )

    def first_of(*columns: str) -> pl.Expr:
        return pl.struct(*columns).is_first_distinct()

    tier = (
        pl.when(first_of("label") | first_of("split")).then(0)
        .when(first_of("split", "label")).then(1)
        .when(first_of("split", "language")).then(2)
        .otherwise(3)
    )  # fmt: skip
    ranked = ranked.with_columns(tier=tier).sort("tier", maintain_order=True)
    cost = pl.col("text_bytes") + pl.when(first_of("picture")).then("picture_bytes").otherwise(0)
    ranked = ranked.with_columns(cost=cost).with_columns(sum=pl.col("cost").cum_sum())
    total = int(ranked["cost"].sum())
    drawn = ranked.filter((pl.col("tier") == 0) | (pl.col("sum") <= _AIM * total))
    return drawn.select("item_id"), (int(drawn["cost"].sum()) / total if total else 1.0)


def sample_config(config: DatasetConfig, drawn: int, released: int) -> DatasetConfig:
    """The config as the sample's documents tell it."""
    whole = f"{config.display_title} {config.version}"
    about = (
        f"**This is a sample**: {drawn} of the {released} items of {whole}, drawn by a hash so that every class and every split is "
        "in it. It is for a look at the data and for trying code; figures measured on it say nothing about the dataset."
    )
    return config.model_copy(
        update={
            "name": f"{config.name[:57]}-mini",
            "title": f"{config.display_title} (sample)",
            "description": f"{about}\n\n{config.description}" if config.description else about,
            "release": config.release.model_copy(
                update={
                    "images": config.release.images[:1],
                    "formats": ("parquet",),
                    "mini": False,
                    "notebook": False,
                }
            ),
            "publish": {},
        }
    )


def sample_reports(
    config: DatasetConfig,
    reports: Mapping[str, Mapping[str, Any]],
    items: pl.DataFrame,
    pairs: pl.DataFrame,
    share: float,
) -> dict[str, dict[str, Any]]:
    """JSON reports of the sample: its counts, what it is a sample of, and the leak report of the whole.

    ``config``: of the whole; ``items`` and ``pairs``: of the sample; ``share``: see :func:`draw_sample`.
    """
    removed = pl.DataFrame(schema={"stage": pl.String, "reason": pl.String})
    quality = quality_report(items.lazy(), removed.lazy(), pairs.lazy())
    quality["sample"] = {
        "of": config.name,
        "version": config.version,
        "of_items": reports["quality"]["counts"]["released_items"],
        "share_of_size": round(share, 6),
        "is_larger_than_asked": share > LARGEST_SHARE,
        "asked_share_of_size": LARGEST_SHARE,
    }
    told = {name: value for name, value in reports["leakage"].items() if name != "random_split_pairs"}
    return {
        "quality": quality,
        "leakage": {**told, "is_of_the_whole": True},
        **({"split": {"method": reports["split"].get("method")}} if "split" in reports else {}),
    }
