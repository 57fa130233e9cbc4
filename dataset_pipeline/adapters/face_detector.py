"""Looks for faces in pictures with MTCNN, whose weights come inside the package facenet-pytorch, where it is installed.

Belongs here: loading the detector and reading its answers. Does not belong here: what happens to a picture that shows a
face (``stages/faces.py``) and hiding one (``released_images.py``). What the detector finds and misses is measured
in docs/quality/faces.md. Nothing but faces is looked for: no number plates, no text, no bodies.

Zhang, Zhang, Li and Qiao, "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE
Signal Processing Letters 23(10), 2016.
"""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import polars as pl
import pyarrow.parquet as pq
from PIL import Image

from dataset_pipeline.adapters.engine import one_torch_thread
from dataset_pipeline.adapters.images import open_rgb
from dataset_pipeline.adapters.released_images import hidden_area
from dataset_pipeline.adapters.sources import read_images
from dataset_pipeline.config import PiiImages
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.tables import FACES

DETECTOR: Final = "MTCNN (facenet-pytorch)"
_PACKAGE, _MODULE = "facenet-pytorch", "facenet_pytorch"
_HOW: Final = "pip install 'dataset-pipeline[faces]'; or set pii.images.faces: off"

FOUND: Final = {"sha256": pl.String(), "faces": FACES}
"""Where faces are in a picture, whatever their score; missing: it could not be searched."""

STILL_THERE: Final = {"item_id": pl.String(), "folder": pl.String(), "score": pl.Float64()}
"""A face that is found in a released picture."""


class Detector(Protocol):
    """Finds faces."""

    def find(self, picture: Image.Image) -> list[dict[str, Any]]:
        """The boxes of all faces in an upright RGB picture, whatever their score, the best first."""
        ...


def missing(settings: PiiImages) -> str | None:
    """What has to be installed before faces can be looked for, and how; None where nothing is missing."""
    if settings.faces == "off" or importlib.util.find_spec(_MODULE) is not None:
        return None
    return f"pii.images.faces is '{settings.faces}', which needs the package '{_PACKAGE}'. Install it with: {_HOW}"


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what is found."""
    return {name: importlib.metadata.version(name) for name in (_PACKAGE, "torch")}


def searched_as(settings: PiiImages) -> tuple[int, int]:
    """The settings that decide what is found (min_side_px, max_side_px); the others judge it."""
    return settings.min_side_px, settings.max_side_px


@functools.lru_cache(maxsize=2)
def load(min_side_px: int, max_side_px: int) -> Detector:
    """The detector of this process. Raises ``OutsideWorldError`` where it is not installed."""
    if problem := missing(PiiImages(faces="report")):
        raise OutsideWorldError(problem.partition(". ")[0], hint=f"Install it with: {_HOW}")
    return _Mtcnn(min_side_px, max_side_px)


def find_faces(batch: pl.DataFrame, settings: PiiImages) -> pl.DataFrame:
    """``FOUND`` for rows with ``sha256`` and ``location``; only :func:`searched_as` of the settings counts."""
    if batch.is_empty():
        return pl.DataFrame(schema=FOUND)
    detector = load(*searched_as(settings))
    found = [faces_in(data, detector) for data in read_images(batch["location"].to_list())]
    return pl.DataFrame({"sha256": batch["sha256"], "faces": found}, schema=FOUND)


def faces_in(data: bytes, detector: Detector) -> list[dict[str, Any]] | None:
    """Boxes of the faces in an encoded picture; None where it cannot be searched."""
    try:
        return detector.find(open_rgb(data))
    except (ArithmeticError, IndexError, OSError, RuntimeError, ValueError):
        # One odd picture must not stop a build; the gate faces_acted_on stops what would be released unsearched.
        return None


def still_there(release: Path, images: pl.LazyFrame, settings: PiiImages) -> tuple[pl.DataFrame, int]:
    """(``STILL_THERE``, pictures searched): faces found where one was hidden, in every variant of a release folder.

    ``images``: ``IMAGES`` with the faces that were hidden. A face counts where its middle lies in a hidden area.
    """
    hidden = {
        sha256: (width, height, faces)
        for sha256, width, height, faces in images.filter(pl.col("faces").list.len() > 0)
        .select("sha256", "width_px", "height_px", "faces")
        .unique("sha256", keep="any")
        .collect()
        .iter_rows()
    }
    detector = load(*searched_as(settings))
    found, searched = [], 0
    for folder in [
        "data",
        *sorted(p.relative_to(release).as_posix() for p in (release / "variants").glob("*")),
    ]:
        for path in sorted((release / folder).glob("*.parquet")):
            for cell, item_id, sha256 in _pictures(path, hidden):
                picture = open_rgb(cell)
                width, height, faces = hidden[sha256]
                areas = [hidden_area(face, (width, height)) for face in faces]
                searched += 1
                for face in detector.find(picture):
                    x = (face["left"] + face["right"]) / 2 * width / picture.width
                    y = (face["top"] + face["bottom"]) / 2 * height / picture.height
                    is_there = any(
                        left <= x < right and top <= y < bottom for left, top, right, bottom in areas
                    )
                    if is_there and face["score"] >= settings.min_score:
                        found.append({"item_id": item_id, "folder": folder, "score": face["score"]})
    return pl.DataFrame(found, schema=STILL_THERE), searched


def surest_faces(release: Path, wanted: Collection[str], settings: PiiImages) -> tuple[pl.DataFrame, int]:
    """(``STILL_THERE``, pictures searched): the surest face of each picture of ``data/`` in which any is found.

    ``wanted``: image_sha256 of the pictures to look at, which can be decoded.
    """
    detector = load(*searched_as(settings))
    found, searched = [], 0
    for path in sorted((release / "data").glob("*.parquet")):
        for cell, item_id, _sha256 in _pictures(path, wanted):
            searched += 1
            if faces := faces_in(cell, detector):
                best = max(face["score"] for face in faces)
                found.append({"item_id": item_id, "folder": "data", "score": best})
    return pl.DataFrame(found, schema=STILL_THERE), searched


def _pictures(path: Path, wanted: Collection[str]) -> Iterator[tuple[bytes, str, str]]:
    """Picture, item_id and image_sha256 of the rows of a shard whose image_sha256 is wanted; of each picture once."""
    file, seen = pq.ParquetFile(path), set[str]()
    for group in range(file.num_row_groups):
        names = file.read_row_group(group, columns=["item_id", "image_sha256"]).to_pydict()
        rows = []
        for row, sha256 in enumerate(names["image_sha256"]):
            if sha256 in wanted and sha256 not in seen:
                seen.add(sha256)
                rows.append(row)
        if not rows:
            continue
        cells = file.read_row_group(group, columns=["image"]).take(rows)["image"].to_pylist()
        for row, cell in zip(rows, cells, strict=True):
            yield cell["bytes"], names["item_id"][row], names["image_sha256"][row]


class _Mtcnn:
    """MTCNN on one thread, so that a score does not hang on the number of cores."""

    def __init__(self, min_side_px: int, max_side_px: int) -> None:
        from facenet_pytorch import MTCNN

        self._least, self._most = min_side_px, max_side_px
        self._network = MTCNN(
            keep_all=True,
            min_face_size=min_side_px,
            thresholds=[0.6, 0.7, 0.7],
            select_largest=False,
            device="cpu",
        )

    def find(self, picture: Image.Image) -> list[dict[str, Any]]:
        """See :class:`Detector`."""
        scale = min(1.0, self._most / max(picture.size))
        width, height = (max(1, round(side * scale)) for side in picture.size)
        if min(width, height) < self._least:
            return []
        seen = picture if scale == 1.0 else picture.resize((width, height), Image.Resampling.BILINEAR)
        with one_torch_thread():
            boxes, scores = self._network.detect(seen)
        if boxes is None:
            return []
        found = []
        for (left, top, right, bottom), score in zip(boxes, scores, strict=True):
            box = {
                "left": max(0, round(float(left) / scale)),
                "top": max(0, round(float(top) / scale)),
                "right": min(picture.width, round(float(right) / scale)),
                "bottom": min(picture.height, round(float(bottom) / scale)),
            }
            if box["left"] < box["right"] and box["top"] < box["bottom"]:
                found.append({**box, "score": round(float(score), 4)})
        return sorted(found, key=lambda face: (-face["score"], face["top"], face["left"]))
