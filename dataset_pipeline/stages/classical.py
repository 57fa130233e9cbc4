"""Features of pictures and texts that need no trained model.

Belongs here: fixed descriptors, the same for every dataset. Does not belong here: learned embeddings
(``adapters/clip.py``). They see colour, rough shape and spelling, and no meaning: weak beside a pretrained model,
but free of any download, and of anything that was learnt from the labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dataset_pipeline.stages.baselines import Embeddings, rows_of
from dataset_pipeline.stages.similarity import thumbnail_batches
from dataset_pipeline.tables import THUMBNAIL_SIDE_PX

Floats = NDArray[np.float32]

_COLOUR_CELLS = 8
_SHAPE_CELLS = 4
_ORIENTATIONS = 8
_PICTURE_DIMENSIONS = 3 * _COLOUR_CELLS**2 + _ORIENTATIONS * _SHAPE_CELLS**2
_HASHED, _TEXT_DIMENSIONS = 1 << 14, 256
_BATCH = 4096


def classical_features(items: pl.DataFrame, images: pl.LazyFrame, sha256: pl.Series) -> Embeddings:
    """Features of the items' pictures and texts in the shape of a model's embeddings; none of labels.

    ``items``: image_sha256 and text, in order; ``images``: sha256 and thumbnail, read in batches; ``sha256``: the distinct
    pictures. Kept as float16: precise enough for what they are, and half the memory.
    """
    texts = items["text"].drop_nulls().unique().sort()
    pictures: NDArray[Any] = np.zeros((len(sha256), _PICTURE_DIMENSIONS), np.float16)
    for rows, thumbnails in thumbnail_batches(images, sha256):
        for start in range(0, len(rows), _BATCH):
            pictures[rows[start : start + _BATCH]] = _of_thumbnails(thumbnails[start : start + _BATCH])
    return Embeddings(
        description="colour, gradients and spelling: classical features, no trained model",
        image=pictures,
        image_row=rows_of(items["image_sha256"], sha256),
        text=text_features(texts.to_list()),
        text_row=rows_of(items["text"], texts),
        label=np.zeros((0, 0), np.float32),
    )


def picture_features(thumbnails: pl.Series) -> Floats:
    """(n, 320) features of n thumbnails (``THUMBNAIL_SIDE_PX`` square sRGB bytes).

    Mean colour of 8 x 8 cells, and histograms of gradient orientation of 4 x 4 cells (Dalal and Triggs, 2005).
    """
    parts = [
        _of_thumbnails(np.frombuffer(b"".join(batch.to_list()), np.uint8))
        for start in range(0, len(thumbnails), _BATCH)
        if len(batch := thumbnails.slice(start, _BATCH))
    ]
    return np.concatenate(parts) if parts else np.zeros((0, _PICTURE_DIMENSIONS), np.float32)


def _of_thumbnails(thumbnails: NDArray[np.uint8]) -> Floats:
    """The same of thumbnails in one array of bytes."""
    pixels = thumbnails.reshape(-1, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX, 3)
    return _of_pixels(pixels.astype(np.float32) / np.float32(255))


def _of_pixels(pixels: Floats) -> Floats:
    count, side = len(pixels), THUMBNAIL_SIDE_PX
    step = side // _COLOUR_CELLS
    colour = pixels.reshape(count, _COLOUR_CELLS, step, _COLOUR_CELLS, step, 3).mean(axis=(2, 4))
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    down, across = np.gradient(grey, axis=(1, 2))
    strength = np.hypot(down, across)
    angle = np.mod(np.arctan2(down, across), np.pi)  # light on dark and dark on light are one edge
    which = np.minimum((angle / np.pi * _ORIENTATIONS).astype(np.int64), _ORIENTATIONS - 1)
    cell = np.arange(side) // (side // _SHAPE_CELLS)
    place = (cell[:, None] * _SHAPE_CELLS + cell[None, :])[None] * _ORIENTATIONS + which
    width = _SHAPE_CELLS**2 * _ORIENTATIONS
    flat = (place + np.arange(count)[:, None, None] * width).ravel()
    shape = np.bincount(flat, weights=strength.ravel(), minlength=count * width).reshape(count, width)
    shape = np.sqrt(shape / np.maximum(shape.sum(axis=1, keepdims=True), 1e-6))
    return np.hstack([colour.reshape(count, -1), shape]).astype(np.float32)


def text_features(texts: Sequence[str]) -> NDArray[Any]:
    """(n, 256) float16 features of n texts: hashed character n-grams (2 to 4) under a fixed random projection.

    Feature hashing (Weinberger et al., 2009) and a sign projection (Achlioptas, 2003), which keep angles.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    hasher = HashingVectorizer(
        n_features=_HASHED, analyzer="char_wb", ngram_range=(2, 4), dtype=np.float32, alternate_sign=True
    )
    signs = np.random.default_rng(0).integers(0, 2, (_HASHED, _TEXT_DIMENSIONS), dtype=np.int8)
    projection = (2 * signs - 1).astype(np.float32) / np.sqrt(np.float32(_TEXT_DIMENSIONS))
    found = np.zeros((len(texts), _TEXT_DIMENSIONS), np.float16)
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        found[start : start + _BATCH] = hasher.transform(list(batch)) @ projection
    return found
