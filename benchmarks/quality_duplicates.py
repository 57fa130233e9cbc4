"""Recall of known copies and the most similar different pictures: the tables of docs/quality/duplicates.md.

    python benchmarks/quality_duplicates.py [FOLDER ...] [--limit N]

Every picture of a folder is copied with known changes (to the file, not to a thumbnail), scanned as the
pipeline scans it, and compared with its original by the pipeline's own measure and default settings. Prints
markdown. Without folders: the emoji pictures, and the clothing photos where they are.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageEnhance

from dataset_pipeline.adapters.images import on_white, scan_image
from dataset_pipeline.config import CleanImages, ImageDuplicates
from dataset_pipeline.stages import similarity
from dataset_pipeline.stages.similarity import THUMBNAIL_BYTES

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "datasets/emoji/source/images", ROOT / "datasets/clothing/source/images")
Change = Callable[[Image.Image], bytes]


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float) -> bytes:
    """A copy of another size."""
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return encoded(image.resize(size, Image.Resampling.LANCZOS), "PNG")


def cropped(image: Image.Image, share: float) -> bytes:
    """A copy that lacks ``share`` of the width and height at every edge."""
    x, y = round(image.width * share), round(image.height * share)
    return encoded(image.crop((x, y, image.width - x, image.height - y)), "PNG")


CHANGES: dict[str, Change] = {
    "saved as PNG": lambda i: encoded(i, "PNG"),
    "JPEG, quality 90": lambda i: encoded(i, "JPEG", quality=90),
    "JPEG, quality 75": lambda i: encoded(i, "JPEG", quality=75),
    "JPEG, quality 30": lambda i: encoded(i, "JPEG", quality=30),
    "WebP, quality 60": lambda i: encoded(i, "WEBP", quality=60),
    "three quarters of the size": lambda i: resized(i, 0.75),
    "half the size": lambda i: resized(i, 0.5),
    "twice the size": lambda i: resized(i, 2.0),
    "10 % brighter": lambda i: encoded(ImageEnhance.Brightness(i).enhance(1.1), "PNG"),
    "10 % darker": lambda i: encoded(ImageEnhance.Brightness(i).enhance(0.9), "PNG"),
    "20 % darker": lambda i: encoded(ImageEnhance.Brightness(i).enhance(0.8), "PNG"),
    "15 % less contrast": lambda i: encoded(ImageEnhance.Contrast(i).enhance(0.85), "PNG"),
    "30 % less colour": lambda i: encoded(ImageEnhance.Color(i).enhance(0.7), "PNG"),
    "grey": lambda i: encoded(i.convert("L"), "PNG"),
    "2 % cropped at every edge": lambda i: cropped(i, 0.02),
    "mirrored": lambda i: encoded(i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG"),
}


def scanned(data: bytes) -> tuple[bytes, int, str]:
    """Thumbnail, pHash and pixel hash."""
    facts = scan_image(data, CleanImages())
    return facts["thumbnail"], facts["phash"], facts["pixel_hash"]


def matrix(thumbnails: list[bytes]) -> similarity.Pixels:
    """Thumbnails as rows."""
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES)


def recall(files: list[Path], settings: ImageDuplicates) -> pl.DataFrame:
    """Share of copies found by: all pairs compared; only pHash candidates compared."""
    rows = []
    for name, change in CHANGES.items():
        originals, copies, distances = [], [], []
        for file in files:
            data = file.read_bytes()
            thumbnail, phash, _ = scanned(data)
            with Image.open(io.BytesIO(data)) as image:
                copy, copy_phash, _ = scanned(change(on_white(image.convert("RGBA"))))
            originals.append(thumbnail)
            copies.append(copy)
            distances.append((phash ^ copy_phash).bit_count())
        count = len(files)
        match = similarity.compare_pictures(
            matrix(originals + copies), np.arange(count), np.arange(count, 2 * count)
        )
        holds = similarity.is_near(match, settings)
        is_candidate = np.array(distances) <= settings.max_hash_distance
        rows.append((name, holds.mean(), is_candidate.mean(), (holds & is_candidate).mean()))
    return pl.DataFrame(
        rows, schema=["change", "measured as near", "pHash candidate", "both"], orient="row"
    ).with_columns(pl.col(pl.Float64).round(3))


def alike(files: list[Path], settings: ImageDuplicates) -> pl.DataFrame:
    """Pairs of different files that count as one picture, the least similar first."""
    facts = [scanned(file.read_bytes()) for file in files]
    first = {pixel_hash: row for row, (_, _, pixel_hash) in reversed(list(enumerate(facts)))}
    rows = np.array(sorted(first.values()))
    thumbnails = matrix([facts[row][0] for row in rows])
    found = []
    for start in range(0, len(rows), 1024):
        product = (
            similarity.standardised(thumbnails[start : start + 1024]) @ similarity.standardised(thumbnails).T
        )
        i, j = np.nonzero(product >= settings.min_similarity - 1e-3)
        left, right = i[i + start < j] + start, j[i + start < j]
        match = similarity.compare_pictures(thumbnails, left, right)
        near = similarity.is_near(match, settings)
        found += [
            (files[rows[a]].stem, files[rows[b]].stem, round(score, 4), round(block, 1))
            for a, b, score, block in zip(
                left[near], right[near], match.similarity[near], match.block_difference[near], strict=True
            )
        ]
    schema = ["picture", "other picture", "similarity", "block difference"]
    types = dict(zip(schema, [pl.String, pl.String, pl.Float64, pl.Float64], strict=True))
    return pl.DataFrame(found, schema=types, orient="row").sort(
        "block difference", "picture", descending=[True, False]
    )


def markdown(table: pl.DataFrame) -> str:
    """The table as markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * table.width]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in table.iter_rows()]
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[f for f in FOLDERS if f.is_dir()])
    parser.add_argument(
        "--limit", type=int, default=300, help="pictures that are copied, spread over a folder"
    )
    arguments = parser.parse_args()
    settings = ImageDuplicates()
    for folder in arguments.folders:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        some = files[:: max(1, len(files) // arguments.limit)]
        print(f"\n### {folder.parent.parent.name}: copies found, of {len(some)} pictures\n")
        print(markdown(recall(some, settings)))
        pairs = alike(files, settings)
        print(
            f"\n### {folder.parent.parent.name}: {pairs.height} pairs of {len(files)} files count as one picture\n"
        )
        print("The 15 that differ most in one place:\n")
        print(markdown(pairs.head(15)))


if __name__ == "__main__":
    main()
