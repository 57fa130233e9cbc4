"""Small tables for tests of duplicates, splits and leakage: items, and pictures as a scan describes them; a config."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from dataset_pipeline.adapters.images import scan_image
from dataset_pipeline.config import CleanImages, DatasetConfig
from dataset_pipeline.stages.similarity import THUMBNAIL_BYTES, Pixels
from dataset_pipeline.tables import DEDUPLICATED, IMAGES, ITEMS, THUMBNAIL_SIDE_PX

SIDE = THUMBNAIL_SIDE_PX


def minimal_config(**options: Any) -> DatasetConfig:
    """What a config cannot do without, and ``options``."""
    source = {"id": "s", "path": "items.csv", "licence": "CC0-1.0"}
    head = {"name": "toy", "version": "1.0.0", "licence": "CC0-1.0", "sources": [source]}
    return DatasetConfig.model_validate({**head, **options})


def items(rows: Sequence[Mapping[str, Any]], texts: Sequence[str] = ("title",)) -> pl.LazyFrame:
    """ITEMS + texts; what a row leaves out is null, except ``group_keys``, which are none."""
    schema = {**ITEMS, **dict.fromkeys(texts, pl.String())}
    return pl.LazyFrame([{"group_keys": [], **row} for row in rows], schema=schema)


def deduplicated(rows: Sequence[Mapping[str, Any]], texts: Sequence[str] = ("title",)) -> pl.LazyFrame:
    """DEDUPLICATED + texts; every item is a duplicate group of its own."""
    return items(rows, texts).with_columns(duplicate_group="item_id").select(*DEDUPLICATED, *texts)


def scanned(pictures: Mapping[str, bytes]) -> pl.LazyFrame:
    """Scans of these files; ``sha256`` is the name that the test gives each."""
    rows = [{**scan_image(data, CleanImages()), "sha256": name} for name, data in pictures.items()]
    return pl.LazyFrame(rows, schema={name: IMAGES[name] for name in (*rows[0],)})


def thumbnails_as_images(
    thumbnails: Pixels, names: Sequence[str], phash: Sequence[int] | None = None
) -> pl.LazyFrame:
    """Pictures of which only the thumbnails exist; all pHashes are 0 unless given."""
    return pl.LazyFrame(
        {
            "sha256": list(names),
            "pixel_hash": [hashlib.sha256(row.tobytes()).hexdigest() for row in thumbnails],
            "phash": [0] * len(names) if phash is None else list(phash),
            "width_px": [SIDE] * len(names),
            "height_px": [SIDE] * len(names),
            "thumbnail": [row.tobytes() for row in thumbnails],
        },
        schema={
            name: IMAGES[name]
            for name in ("sha256", "pixel_hash", "phash", "width_px", "height_px", "thumbnail")
        },
    )


def smooth(seed: int, count: int) -> Pixels:
    """Thumbnails of ``count`` different smooth pictures."""
    coarse = np.random.default_rng(seed).integers(30, 220, (count, 8, 8, 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).reshape(count, THUMBNAIL_BYTES).astype(np.uint8)


def brighter(thumbnails: Pixels, levels: int) -> Pixels:
    """The same, every value higher by ``levels``."""
    return np.clip(thumbnails.astype(int) + levels, 0, 255).astype(np.uint8)


def drifted(thumbnails: Pixels, levels: int) -> Pixels:
    """The same, but for every other block of 4 x 4 pixels, as on a chessboard, that is lighter by ``levels``."""
    squares = thumbnails.reshape(-1, SIDE, SIDE, 3).astype(int)
    row, column = np.indices((SIDE, SIDE)) // 4
    squares[:, (row + column) % 2 == 0] += levels
    return np.clip(squares, 0, 255).astype(np.uint8).reshape(thumbnails.shape)


def repainted(thumbnails: Pixels, levels: int, block: tuple[int, int] = (3, 3)) -> Pixels:
    """The same, but for one block of 4 x 4 pixels that is lighter or darker by ``levels``."""
    squares = thumbnails.reshape(-1, SIDE, SIDE, 3).astype(int)
    row, column = block[0] * 4, block[1] * 4
    squares[:, row : row + 4, column : column + 4] += levels
    return np.clip(squares, 0, 255).astype(np.uint8).reshape(thumbnails.shape)
