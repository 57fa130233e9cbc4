"""A made-up dataset of any size whose truth is known, for ``million.py``: pictures, texts, faults and copies planted.

Pictures are two crops of real photos laid over one another with mixed colours, texts are words of one language in a new
order: so any two are different unless one is a copy. Items are made in blocks, each from its own number, so that they
are the same however many processes make them.

Belongs here: what is planted, and what a release has to say about it. Does not belong here: running and measuring.
"""

import functools
import hashlib
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import yaml
from personal_data_values import email, iban
from PIL import Image

BLOCK = 5_000
"""Items that are made together; a copy lies in its original's block."""
FOLDER_PICTURES = 1_000
LABELS = 200
PHOTO_SIDES = (208, 304)
"""Shorter sides that photos are cropped at."""
TRUTH = {
    "item_id": pl.String(),
    "kind": pl.String(),
    "original": pl.String(),  # the item that this one is a copy of
    "secret": pl.String(),  # personal data in its text
}
COPIES = {
    "same_bytes": 0.01,
    "re_encoded": 0.01,
    "resized": 0.01,
    "cropped": 0.01,
    "near_text": 0.01,
}
"""Kinds of copies with their shares of the items: of such a copy and its original one has to go."""
LEAKS = {"text_again": 0.01, "picture_again": 0.01}
"""What repeats one of picture and text, with a change: both stay, in one split."""
FAULTS = {
    "image_empty": 0.001,
    "image_is_text": 0.001,
    "image_truncated": 0.001,
    "image_undecodable": 0.001,
    "image_missing": 0.001,
    "label_missing": 0.002,
}
"""Reasons for which an item has to be removed."""
PERSONAL = 0.02
"""Share of the items whose text holds an e-mail address or an IBAN: they stay, and it goes."""
PLAIN = "plain"
MEMBERS_OF_A_GROUP = 2
CROWDS, IN_CROWDS = 100, 0.02
"""Groups that are large, and the share of the items in them."""


class Material(NamedTuple):
    """What items are made from."""

    photos: tuple[Path, ...]
    words: Mapping[str, tuple[str, ...]]
    """Words of each language."""


@functools.cache
def _photo(path: Path, side: int) -> Image.Image:
    """A photo at a shorter side of so many pixels, in RGB."""
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        rgb = image.convert("RGB")
    scale = side / min(rgb.size)
    return rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BILINEAR)


def planted_kinds(count: int) -> list[str]:
    """Kinds of the items of a block, the plain ones first; no kind is left out, however few they are."""
    planted = {**COPIES, **LEAKS, **FAULTS, "personal": PERSONAL}
    kinds = [kind for kind, share in planted.items() for _ in range(max(1, round(share * count)))]
    return [PLAIN] * (count - len(kinds)) + kinds


def write_block(number: int, count: int, of: int, folder: Path, material: Material) -> pl.DataFrame:
    """Write the pictures of one block; returns its rows of the manifest with ``TRUTH``'s columns.

    ``count``: items of the block; ``of``: items of the whole dataset.
    """
    rng = random.Random(number)
    generator = np.random.default_rng(number)
    kinds = planted_kinds(count)
    plain = kinds.count(PLAIN)
    originals = iter(rng.sample(range(plain), plain))
    languages = sorted(material.words)
    weights = 1 / np.arange(1, LABELS + 1)
    labels = generator.choice(LABELS, count, p=weights / weights.sum())
    groups = generator.integers(0, max(1, of // MEMBERS_OF_A_GROUP), count)
    crowds = generator.integers(0, CROWDS, count)
    crowded = generator.random(count) < IN_CROWDS
    rows: list[dict[str, str | None]] = []
    for place, kind in enumerate(kinds):
        index = number * BLOCK + place
        name = hashlib.sha256(f"item {index}".encode()).hexdigest()[:16]
        path = f"{index // FOLDER_PICTURES:04}/{name}.jpg"
        language = rng.choice(languages)
        row: dict[str, str | None] = {
            "item_id": name,
            "image": path,
            "caption": sentence(rng, material.words[language]),
            "language": None if rng.random() < 0.1 else language,
            "label": f"class {labels[place]:03}",
            "sender": f"crowd {crowds[place]}" if crowded[place] else f"sender {groups[place]}",
            "kind": kind,
            "original": None,
            "secret": None,
        }
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if kind in COPIES or kind in LEAKS:
            original = rows[next(originals)]
            # A copy comes from elsewhere: nothing but what it repeats holds the two together.
            row.update(original=original["item_id"], label=original["label"], sender=None)
            row["language"] = original["language"]
            data = (folder / str(original["image"])).read_bytes()
            if kind in ("near_text", "text_again"):
                row["caption"] = edited(str(original["caption"]))
            elif kind != "picture_again":
                row["caption"] = original["caption"]
            file.write_bytes(
                picture(rng, material.photos, int(labels[place]))
                if kind == "text_again"
                else copied(data, kind)
            )
        else:
            data = picture(rng, material.photos, int(labels[place]))
            if kind in FAULTS:
                data = spoilt(data, kind)
            if kind == "label_missing":
                row["label"] = None
            if kind == "personal":
                secret = email(rng, "en", "report") if place % 2 else iban(rng, "en")
                row.update(secret=secret, caption=f"{row['caption']} {secret}")
            if kind != "image_missing":
                file.write_bytes(data)
        rows.append(row)
    return pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String))


def sentence(rng: random.Random, words: Sequence[str]) -> str:
    """8 to 20 words in a new order."""
    return " ".join(rng.choices(words, k=rng.randint(8, 20)))


def edited(text: str) -> str:
    """The text without its last letter: near by any measure, and not equal."""
    return text[:-1]


def picture(rng: random.Random, photos: Sequence[Path], label: int) -> bytes:
    """A JPEG of 128 to 200 pixels a side: two crops of photos, one over the other, colours mixed; each label has its hue."""
    size = (rng.randint(128, 200), rng.randint(128, 200))
    both = [_crop(rng, _photo(photo, rng.choice(PHOTO_SIDES)), size) for photo in rng.sample(photos, 2)]
    mixed = Image.blend(*both, alpha=rng.uniform(0.35, 0.65))
    hue = random.Random(label)
    matrix = []
    for channel in range(3):
        row = [rng.uniform(0, 0.35) for _ in range(3)]
        row[channel] += rng.uniform(0.5, 0.8)
        matrix += [value / max(1.0, sum(row)) for value in row] + [
            hue.uniform(-30, 30) + rng.uniform(-15, 15)
        ]
    return jpeg(mixed.convert("RGB", tuple(matrix)), rng.randint(60, 75))


def _crop(rng: random.Random, photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A part of a photo, mirrored or turned in any of eight ways."""
    turn = rng.choice((None, *Image.Transpose))
    width, height = size[::-1] if turn in _LYING else size
    left, top = rng.randint(0, photo.width - width), rng.randint(0, photo.height - height)
    part = photo.crop((left, top, left + width, top + height))
    return part if turn is None else part.transpose(turn)


_LYING = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)


def jpeg(image: Image.Image, quality: int) -> bytes:
    """The picture as a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def copied(data: bytes, kind: str) -> bytes:
    """A copy of a JPEG, changed as its kind says."""
    if kind in ("same_bytes", "near_text"):
        return data
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    width, height = image.size
    if kind == "resized":
        image = image.resize((round(width * 1.3), round(height * 1.3)), Image.Resampling.BICUBIC)
    elif kind == "cropped":
        left, top = round(width * 0.03), round(height * 0.03)
        image = image.crop((left, top, width - left, height - top))
    return jpeg(image, 88)


def spoilt(data: bytes, fault: str) -> bytes:
    """A file with that fault."""
    if fault == "image_empty":
        return b""
    if fault == "image_is_text":
        return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    if fault == "image_truncated":
        return data[: len(data) // 2]
    return data[::-1] if fault == "image_undecodable" else data


def write_config(folder: Path) -> Path:
    """``dataset.yaml`` beside ``items.parquet`` and ``images``: all stages but embeddings and models for names."""
    config = {
        "name": "million",
        "version": "1.0.0",
        "title": "A made-up dataset",
        "licence": "CC0-1.0",
        "date": "2026-11-01",
        "creators": [{"name": "Ada Example"}],
        "sources": [
            {
                "id": "made",
                "path": "items.parquet",
                "image_root": "images",
                "licence": "CC0-1.0",
                "permission": {"basis": "own-data"},
                "columns": {
                    "item_id": "item_id",
                    "image": "image",
                    "texts": {"caption": "caption"},
                    "label": "label",
                    "label_source": "rule",
                    "language": "language",
                    "group_keys": ["sender"],
                },
            }
        ],
        "baselines": {"enabled": False},
        "documentation": {"is_synthetic": True},
    }
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


# -- what the release has to say -----------------------------------------------------------


class Finding(NamedTuple):
    """How much of one planted kind the release treats as it should."""

    kind: str
    planted: int
    right: int
    demand: str


def recovered(truth: pl.DataFrame, release: Path) -> list[Finding]:
    """Every planted kind against ``metadata/items.parquet`` and ``removed.parquet`` of a release.

    The last rows are of what must not happen: two copies kept, a leak, an item removed that is no copy.
    """
    items = pl.read_parquet(release / "metadata/items.parquet", columns=["item_id", "split", "caption"])
    removed = pl.read_parquet(
        release / "metadata/removed.parquet", columns=["item_id", "reason", "kept_item_id"]
    )
    known = (
        truth.join(items, on="item_id", how="left")
        .join(removed.select("item_id", "reason"), on="item_id", how="left")
        .join(items.select(original="item_id", original_split="split"), on="original", how="left")
        .join(removed.select(original="item_id", original_reason="reason"), on="original", how="left")
    )
    is_kept, is_original_kept = pl.col("split").is_not_null(), pl.col("original_split").is_not_null()
    is_duplicate = (pl.col("reason") == "duplicate").fill_null(False)
    was_duplicate = (pl.col("original_reason") == "duplicate").fill_null(False)
    # An original may have several copies; two are one item where one of them is gone as a duplicate.
    one_is_gone = is_duplicate | was_duplicate
    together = ~(is_kept & is_original_kept) | (pl.col("split") == pl.col("original_split"))
    demands = {
        **dict.fromkeys(COPIES, (one_is_gone, "one of copy and original is gone")),
        **dict.fromkeys(LEAKS, (is_kept & is_original_kept & together, "both stay, in one split")),
        **{kind: ((pl.col("reason") == kind).fill_null(False), f"removed: {kind}") for kind in FAULTS},
        "personal": (
            is_kept & ~pl.col("caption").str.contains(pl.col("secret"), literal=True),
            "stays, without the address or account",
        ),
        PLAIN: (is_kept | was_or_has_copy(truth), "stays, or is gone for its copy"),
    }
    found = []
    for kind, (is_right, demand) in demands.items():
        of = known.filter(pl.col("kind") == kind)
        found.append(Finding(kind, of.height, of.filter(is_right.fill_null(False)).height, demand))
    both = truth.filter(pl.col("original").is_not_null())
    across = known.filter(is_kept & is_original_kept & (pl.col("split") != pl.col("original_split"))).height
    found.append(Finding("pairs that cross splits", both.height, both.height - across, "none"))
    return found


def was_or_has_copy(truth: pl.DataFrame) -> pl.Expr:
    """Whether an item is the original of a planted copy that may stay in its place."""
    originals = truth.filter(pl.col("kind").is_in(list(COPIES)))["original"].drop_nulls().unique()
    return pl.col("item_id").is_in(originals.to_list())


def blocks(items: int) -> Iterator[tuple[int, int]]:
    """(number, items) of every block."""
    for number, start in enumerate(range(0, items, BLOCK)):
        yield number, min(BLOCK, items - start)
