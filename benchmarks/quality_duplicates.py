"""How well duplicates and leaks are found, where the truth is known: docs/quality/duplicates.md.

    python benchmarks/quality_duplicates.py [--write] [--limit N]

Pictures: every one of some is copied with known changes (to the file, not to a thumbnail) and scanned as the
pipeline scans it; a copy and its original are one picture, two files of different pixels are two. Texts: known edits
of emoji names. Prints markdown; with --write it goes to docs/quality/duplicates.md. Needs the emoji source data
(`make demo-data`); the clothing photos are measured where they are.
"""

import argparse
import io
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import imagehash
import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from dataset_pipeline.adapters.colour import on_page
from dataset_pipeline.adapters.images import scan_image
from dataset_pipeline.config import CleanImages, Duplicates, ImageDuplicates, TextDuplicates
from dataset_pipeline.stages import (
    duplicates,
    leak_search,
    picture_pairs,
    similarity,
    text_pairs,
)
from dataset_pipeline.stages.similarity import THUMBNAIL_BYTES, Flags, Integers, Pixels
from dataset_pipeline.tables import ITEMS

ROOT = Path(__file__).parent.parent
EMOJI = ROOT / "datasets" / "emoji" / "source"
CLOTHING = (
    ROOT / "datasets" / "clothing" / "source" / "images",
    ROOT.parent / "shared" / "data" / "clothing" / "images",
)
DOCUMENT = ROOT / "docs" / "quality" / "duplicates.md"
LANGUAGES = ("en", "de", "fr", "ru")
SEED = 0
PICTURES, TEXTS = ImageDuplicates(), TextDuplicates()
LINKING = PICTURES.linking
LOOSEST = {"min_similarity": 0.95, "max_block_difference": 32, "max_tone_difference": 128}
Change = Callable[[Image.Image], bytes]


def everything(left: Integers, _: Integers) -> Flags:
    """Of a leak search: every pair is wanted."""
    return np.ones(len(left), bool)


# -- pictures ------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str = "BMP", **options: int) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def resized(image: Image.Image, factor: float) -> bytes:
    """A copy of another size."""
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return encoded(image.resize(size, Image.Resampling.LANCZOS))


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> bytes:
    """A copy that lacks these shares of the width and the height at its edges."""
    x, y = image.width, image.height
    return encoded(image.crop((round(x * left), round(y * top), x - round(x * right), y - round(y * bottom))))


def unevenly_cropped(image: Image.Image) -> bytes:
    """A copy that lacks up to 5 % at every edge, at each another share: drawn by the picture's content."""
    generator = np.random.default_rng(zlib.crc32(image.tobytes()))
    return cropped(image, *generator.uniform(0, 0.05, 4))


def framed(image: Image.Image, share: float, colour: str) -> bytes:
    """A copy with a border of ``share`` of the width (height) at every edge."""
    x, y = max(1, round(image.width * share)), max(1, round(image.height * share))
    return encoded(ImageOps.expand(image, (x, y), colour))


def blurred(image: Image.Image, share: float) -> bytes:
    """A copy blurred with a Gaussian of a radius of ``share`` of the shorter side."""
    return encoded(image.filter(ImageFilter.GaussianBlur(share * min(image.size))))


def stamped(image: Image.Image) -> bytes:
    """A copy with a dark label of 5 % of the area, with white text in it, in the lower right corner."""
    x, y = round(image.width * 0.4), round(image.height * 0.125)
    label = Image.new("RGB", (x, y), "#202020")
    text = "for sale"
    size = max(1, round(y * 0.5))
    ImageDraw.Draw(label).text((x // 10, y // 5), text, "white", ImageFont.load_default(size))
    copy = image.copy()
    copy.paste(label, (image.width - x, image.height - y))
    return encoded(copy)


def watermarked(image: Image.Image) -> bytes:
    """A copy with half transparent white letters across the middle; they cover about 5 % of the area."""
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    font = ImageFont.load_default(image.width / 4.5)
    draw.text((image.width / 2, image.height / 2), "SAMPLE", 128, font, anchor="mm")
    copy = image.copy()
    copy.paste("white", (0, 0), mask)
    return encoded(copy)


def turned(image: Image.Image, how: Image.Transpose) -> bytes:
    """A mirrored or turned copy."""
    return encoded(image.transpose(how))


CHANGES: dict[str, dict[str, Change]] = {
    "re-encoding": {
        "JPEG, quality 90": lambda i: encoded(i, "JPEG", quality=90),
        "JPEG, quality 60": lambda i: encoded(i, "JPEG", quality=60),
        "JPEG, quality 30": lambda i: encoded(i, "JPEG", quality=30),
        "WebP, quality 60": lambda i: encoded(i, "WEBP", quality=60),
    },
    "resizing": {
        "half the size": lambda i: resized(i, 0.5),
        "three quarters of the size": lambda i: resized(i, 0.75),
        "twice the size": lambda i: resized(i, 2.0),
    },
    "tone": {
        "20 % brighter": lambda i: encoded(ImageEnhance.Brightness(i).enhance(1.2)),
        "20 % darker": lambda i: encoded(ImageEnhance.Brightness(i).enhance(0.8)),
        "20 % more contrast": lambda i: encoded(ImageEnhance.Contrast(i).enhance(1.2)),
        "20 % less contrast": lambda i: encoded(ImageEnhance.Contrast(i).enhance(0.8)),
    },
    "blur": {
        "blur, radius 1 %": lambda i: blurred(i, 0.01),
        "blur, radius 2 %": lambda i: blurred(i, 0.02),
    },
    "colour": {
        "half the saturation": lambda i: encoded(ImageEnhance.Color(i).enhance(0.5)),
        "grey": lambda i: encoded(i.convert("L")),
    },
    "crop": {
        "2 % cropped at every edge": lambda i: cropped(i, 0.02, 0.02, 0.02, 0.02),
        "5 % cropped at every edge": lambda i: cropped(i, 0.05, 0.05, 0.05, 0.05),
        "5 % cropped at the left": lambda i: cropped(i, 0.05, 0, 0, 0),
        "up to 5 % cropped unevenly": unevenly_cropped,
    },
    "border": {
        "white border of 2 %": lambda i: framed(i, 0.02, "white"),
        "white border of 5 %": lambda i: framed(i, 0.05, "white"),
        "black border of 5 %": lambda i: framed(i, 0.05, "black"),
    },
    "overlay": {"label on 5 % of the area": stamped, "watermark of letters": watermarked},
    "mirror": {"mirrored": lambda i: turned(i, Image.Transpose.FLIP_LEFT_RIGHT)},
    "turn": {
        "turned by 90 degrees": lambda i: turned(i, Image.Transpose.ROTATE_90),
        "turned by 180 degrees": lambda i: turned(i, Image.Transpose.ROTATE_180),
    },
}
"""Kinds of changes, and changes of each kind, at the strengths that the method is made for and below."""

EVERY_CHANGE = {change: make for changes in CHANGES.values() for change, make in changes.items()}
CLAIMED = ("re-encoding", "resizing", "tone", "blur", "colour", "crop", "border")
"""Kinds that are to be found with the default settings."""
LINKED = ("overlay",)
"""Kinds that link by default, and merge nothing."""


@dataclass
class Scans:
    """Pictures as the pipeline sees them, and the plain pHash of imagehash to compare with."""

    thumbnails: Pixels
    phash: similarity.Integers
    pixel_hash: list[str]
    plain_phash: similarity.Integers

    @staticmethod
    def of(files: list[bytes]) -> "Scans":
        """Scan these files."""
        facts = [scan_image(data, CleanImages()) for data in files]
        plain = []
        for data in files:
            with Image.open(io.BytesIO(data)) as image:
                bits = imagehash.phash(on_page(image.convert("RGBA"))).hash
            plain.append(int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big"))
        return Scans(
            np.frombuffer(b"".join(fact["thumbnail"] for fact in facts), np.uint8).reshape(
                -1, THUMBNAIL_BYTES
            ),
            np.array([fact["phash"] for fact in facts], np.uint64),
            [fact["pixel_hash"] for fact in facts],
            np.array(plain, np.uint64),
        )


class Collection:
    """Every other distinct picture of a folder, copies of some of them, and the pairs that look alike.

    Thresholds are chosen on the ``half`` 0 (pictures at even positions); what is reported is measured on the
    half 1, of which nothing was seen before.
    """

    def __init__(self, name: str, folder: Path, half: int, limit: int) -> None:
        self.name = name
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        data = [file.read_bytes() for file in files]
        scans = Scans.of(data)
        first = {pixels: row for row, pixels in reversed(list(enumerate(scans.pixel_hash)))}
        rows = np.array(sorted(first.values())[half::2])
        self.names = [files[row].stem for row in rows]
        self.originals = Scans(
            scans.thumbnails[rows],
            scans.phash[rows],
            [scans.pixel_hash[row] for row in rows],
            scans.plain_phash[rows],
        )
        self.chosen = np.arange(0, len(rows), max(1, len(rows) // limit))[:limit]
        self.copies: dict[str, Scans] = {}
        sources = []
        for row in rows[self.chosen]:
            with Image.open(io.BytesIO(data[row])) as image:
                sources.append(on_page(image.convert("RGBA")))
        for change, make in EVERY_CHANGE.items():
            self.copies[change] = Scans.of([make(source) for source in sources])
        self.views = views_of(self.originals.thumbnails)
        self.left, self.right = self._alike()

    @property
    def pairs(self) -> int:
        """Pairs of different pictures."""
        return len(self.names) * (len(self.names) - 1) // 2

    def _alike(self) -> tuple[Integers, Integers]:
        """Pairs of different pictures that count as one under the loosest settings of the tables below."""
        loosest = ImageDuplicates(**LOOSEST)
        every = np.arange(len(self.names))
        found = list(picture_pairs._products(self.originals.thumbnails, every, None, loosest))
        left, right = (np.concatenate([part[side] for part in found]) for side in (0, 1))
        with mock.patch.multiple(
            similarity, EXPLAINED_SHARE=1.0, MIN_EVENNESS=0, EVEN_ENOUGH=0, EVEN_ALLOWANCE=1.5
        ):
            holds, _ = similarity.near_pictures(self.originals.thumbnails, left, right, loosest)
        return left[holds], right[holds]

    def near(self, change: str, settings: ImageDuplicates = PICTURES) -> Flags:
        """Which copies count as their original."""
        count = len(self.chosen)
        both = np.concatenate([self.originals.thumbnails[self.chosen], self.copies[change].thumbnails])
        return similarity.near_pictures(both, np.arange(count), np.arange(count, 2 * count), settings)[0]

    def is_candidate(self, change: str, least: float = picture_pairs.VIEW_SIMILARITY) -> Flags:
        """Which copies look like a view of their original, or the other way round."""
        return alike_views(self.views[self.chosen], views_of(self.copies[change].thumbnails), least)

    def plain(self, change: str, distance: int) -> Flags:
        """Which copies have a plain pHash that near."""
        copies = self.copies[change].plain_phash
        return np.asarray(np.bitwise_count(self.originals.plain_phash[self.chosen] ^ copies) <= distance)

    def plain_false(self, distance: int) -> int:
        """Pairs of different pictures whose plain pHashes are that near."""
        hashes = self.originals.plain_phash
        return sum(
            int((np.bitwise_count(hashes[row] ^ hashes[row + 1 :]) <= distance).sum())
            for row in range(len(hashes))
        )

    def recall(self, holds: Callable[[str], Flags], kinds: Sequence[str] = CLAIMED) -> float:
        """Share of copies found, over all changes of these kinds."""
        return float(np.mean([holds(change).mean() for kind in kinds for change in CHANGES[kind]]))

    def false(self, settings: ImageDuplicates) -> Flags:
        """Which of the pairs that look alike count as one."""
        return similarity.near_pictures(self.originals.thumbnails, self.left, self.right, settings)[0]


def views_of(thumbnails: Pixels) -> similarity.Values:
    """What the pipeline compares among many pictures: as it is and as cropped copies would look."""
    grey = similarity.luminance(thumbnails)
    return np.stack(
        [
            picture_pairs._spectra(
                grey, (picture_pairs._waves(top, bottom), picture_pairs._waves(left, right))
            )
            for left, top, right, bottom in picture_pairs.CROPS
        ],
        axis=1,
    )


def alike_views(one: similarity.Values, other: similarity.Values, least: float) -> Flags:
    """Which pairs correlate by that: one as it is, and a view of the other."""
    across = [np.einsum("ij,ikj->ik", a[:, 0], b).max(axis=1) for a, b in ((one, other), (other, one))]
    return np.asarray(np.maximum(*across) >= least)


def percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def precision(collection: Collection, recall: float, false: int) -> str:
    """Of the pairs found among the originals and one set of copies, those that are true."""
    true = recall * sum(len(CHANGES[kind]) for kind in CLAIMED) * len(collection.chosen)
    return percent(true / (true + false)) if true + false else "-"


def methods(collection: Collection) -> pl.DataFrame:
    """The pipeline's measure against thresholds of pHash alone."""
    rows = []

    def add(method: str, holds: Callable[[str], Flags], false: int) -> None:
        recall = collection.recall(holds)
        rows.append((method, percent(recall), f"{false:,}", precision(collection, recall, false)))

    false = collection.false(PICTURES)
    add(
        f"this pipeline, up to {picture_pairs.EXHAUSTIVE_PICTURES:,} pictures (all pairs)",
        collection.near,
        int(false.sum()),
    )
    left, right, views = collection.left, collection.right, collection.views
    is_candidate = alike_views(views[left], views[right], picture_pairs.VIEW_SIMILARITY)
    add(
        "this pipeline, more pictures (views in cells)",
        lambda change: collection.near(change) & collection.is_candidate(change),
        int((false & is_candidate).sum()),
    )
    for distance in (0, 4, 8):
        add(
            f"pHash alone, distance <= {distance}",
            lambda change, d=distance: collection.plain(change, d),
            collection.plain_false(distance),
        )
    return table(rows, "method", "copies found", "different pictures taken for one", "precision")


def by_change(collection: Collection) -> pl.DataFrame:
    """Recall of every change."""
    rows = []
    for kind, changes in CHANGES.items():
        for change in changes:
            found = [
                collection.near(change, LINKING if kind in LINKED else PICTURES),
                *(collection.plain(change, distance) for distance in (0, 4, 8)),
            ]
            claim = "yes" if kind in CLAIMED else "links" if kind in LINKED else "no"
            rows.append((kind, change, claim, *(percent(holds.mean()) for holds in found)))
    return table(rows, "kind", "change", "by default", "this pipeline", "pHash 0", "pHash 4", "pHash 8")


def switched_on(collections: list[Collection]) -> pl.DataFrame:
    """Kinds that are off by default, each switched on; false pairs among the pictures of the last collection."""
    rows = []
    last = collections[-1]
    every = np.arange(len(last.names))
    for kind in ("mirror", "turn"):
        settings = ImageDuplicates.model_validate({"changes": [*PICTURES.changes, kind]})
        found = [
            one.recall(lambda change, o=one, s=settings: o.near(change, s), [kind]) for one in collections
        ]
        alike = list(picture_pairs._products(last.originals.thumbnails, every, None, settings))
        left, right = (np.concatenate([part[side] for part in alike]) for side in (0, 1))
        holds, _ = similarity.near_pictures(last.originals.thumbnails, left, right, settings)
        rows.append((kind, *map(percent, found), f"{int(holds.sum()):,}"))
    return table(
        rows,
        "switched on",
        *(f"{one.name}: copies found" for one in collections),
        f"{last.name}: false pairs",
    )


def bold(value: float, default: float, form: str = "g") -> str:
    """The value, bold if it is the default."""
    return f"**{value:{form}}**" if value == default else f"{value:{form}}"


def curve(collections: list[Collection], name: str, values: tuple[float, ...]) -> pl.DataFrame:
    """One threshold moved, all others at their defaults."""
    rows = []
    for value in values:
        settings = PICTURES.model_copy(update={name: value})
        row = [bold(value, getattr(PICTURES, name))]
        for one in collections:
            found = one.recall(lambda change, o=one, s=settings: o.near(change, s))
            row += [percent(found), f"{int(one.false(settings).sum()):,}"]
        rows.append(tuple(row))
    return table(
        rows,
        name,
        *(f"{one.name}: {what}" for one in collections for what in ("copies found", "false pairs")),
    )


def explained_curve(collections: list[Collection]) -> pl.DataFrame:
    """How much of max_block_difference a change may leave."""
    rows = []
    for share in (1 / 3, 1 / 2, 2 / 3, 1.0):
        row = [bold(share, similarity.EXPLAINED_SHARE, ".2f")]
        with mock.patch.object(similarity, "EXPLAINED_SHARE", share):
            for one in collections:
                kinds = (("tone",), ("colour",), ("crop", "border"))
                row += [percent(one.recall(one.near, names)) for names in kinds]
                row.append(f"{int(one.false(PICTURES).sum()):,}")
        rows.append(tuple(row))
    columns = ("tone", "colour", "crop", "false pairs")
    return table(rows, "share", *(f"{one.name}: {what}" for one in collections for what in columns))


def limit_curve(
    name: str, values: Sequence[float], columns: Iterable[str], cells: Callable[[], Iterable[str]]
) -> pl.DataFrame:
    """One limit of ``similarity`` moved, all others as they are."""
    rows = []
    for value in values:
        with mock.patch.object(similarity, name, value):
            found = tuple(cells())
        rows.append((bold(value, getattr(similarity, name)), *found))
    return table(rows, name, *columns)


def evenness_curve(collections: list[Collection], name: str, values: tuple[float, ...]) -> pl.DataFrame:
    """How drawings that differ in one place are told from copies."""

    def cells() -> Iterator[str]:
        for one in collections:
            yield from (percent(one.recall(one.near)), f"{int(one.false(PICTURES).sum()):,}")

    columns = (f"{one.name}: {what}" for one in collections for what in ("copies found", "false pairs"))
    return limit_curve(name, values, columns, cells)


class Overlays:
    """Of a collection, the pairs that the loosest limits below take for overlaid copies, and what the limits say."""

    def __init__(self, collection: Collection) -> None:
        self.name = collection.name
        originals = collection.originals.thumbnails
        with mock.patch.multiple(similarity, TEXTURED_SHARE=0.7, MIN_ALIKE_PARTS=4):
            alone = PICTURES.model_copy(update={"changes": ("overlay",), "min_similarity": 1.0})
            found = list(picture_pairs._products(originals, np.arange(len(originals)), None, alone))
        left, right = (np.concatenate([part[side] for part in found]) for side in (0, 1))
        is_new = ~similarity.near_pictures(originals, left, right, PICTURES)[0]
        left, right = left[is_new], right[is_new]
        loosest = {"TEXTURED_SHARE": 0.7, "MIN_ALIKE_PARTS": 4, "MAX_COVERED": 0.4, "MIN_FINE_SIMILARITY": 0}
        with mock.patch.multiple(similarity, **loosest):
            holds = self._hold(originals[left], originals[right])
        self.different = originals[left[holds]], originals[right[holds]]
        copies = np.concatenate(
            [collection.copies[change].thumbnails for kind in LINKED for change in CHANGES[kind]]
        )
        sources = np.tile(originals[collection.chosen], (len(copies) // len(collection.chosen), 1))
        self.copies = sources, copies

    @staticmethod
    def _hold(left: Pixels, right: Pixels) -> Flags:
        holds = np.zeros(len(left), bool)
        for start, stop in similarity.slices(len(left), 1024):
            one, other = (similarity._square(side[start:stop]) for side in (left, right))
            holds[start:stop] = similarity._have_alike_parts(one, other)
            holds[start:stop] &= similarity._overlaid(one, other, LINKING)[0]
        return holds

    def found(self) -> tuple[str, str]:
        """Copies found, and false pairs."""
        return percent(self._hold(*self.copies).mean()), f"{int(self._hold(*self.different).sum()):,}"


def overlay_curve(overlays: list[Overlays], name: str, values: tuple[float, ...]) -> pl.DataFrame:
    """How overlaid copies are told from pictures that are alike otherwise."""
    columns = (f"{one.name}: {what}" for one in overlays for what in ("overlaid copies found", "false pairs"))
    return limit_curve(
        name, values, columns, lambda: itertools.chain.from_iterable(one.found() for one in overlays)
    )


def hash_curve(collections: list[Collection]) -> pl.DataFrame:
    """What the pHash of the pipeline adds to the candidates, by distance."""
    rows = []
    for distance in range(5):
        row = [bold(distance, PICTURES.max_hash_distance)]
        for one in collections:
            hashes = one.originals.phash
            changes = [change for kind in CLAIMED for change in CHANGES[kind]]
            near = np.concatenate([one.near(change) for change in changes])
            bits = [np.bitwise_count(hashes[one.chosen] ^ one.copies[change].phash) for change in changes]
            pairs = sum(len(left) for left, _ in picture_pairs._near_hashes(hashes, distance))
            row += [percent((np.concatenate(bits) <= distance)[near].mean()), f"{pairs:,}"]
        rows.append(tuple(row))
    columns = ("near copies that are candidates", "pairs of originals that are")
    return table(
        rows, "max_hash_distance", *(f"{one.name}: {what}" for one in collections for what in columns)
    )


def view_curve(collections: list[Collection]) -> pl.DataFrame:
    """Near copies that are candidates, and what else is, by the correlation of views."""
    rows = []
    for least in (0.9, 0.93, 0.96, 0.98, 0.99):
        row = [bold(least, picture_pairs.VIEW_SIMILARITY)]
        for one in collections:
            near = [one.near(change) for kind in CLAIMED for change in CHANGES[kind]]
            found = [one.is_candidate(change, least) for kind in CLAIMED for change in CHANGES[kind]]
            share = np.concatenate(found)[np.concatenate(near)].mean()
            every = [one.views[:, 0] @ view.T for view in one.views.swapaxes(0, 1)]
            alike = np.logical_or.reduce([view >= least for view in every])
            row += [percent(share), f"{int(np.triu(alike | alike.T, 1).sum()):,}"]
        rows.append(tuple(row))
    columns = ("near copies that are candidates", "pairs of originals that are")
    return table(rows, "correlation", *(f"{one.name}: {what}" for one in collections for what in columns))


def closest_false_pairs(collection: Collection) -> str:
    """What the pairs of different pictures are that count as one."""
    false = np.flatnonzero(collection.false(PICTURES))
    if len(false) == 0:
        return "No two different pictures of this collection count as one."
    of: dict[str, str] = {}
    if collection.name == "emoji":
        manifest = pl.read_csv(EMOJI / "items.csv", infer_schema=False).drop_nulls("base_emoji")
        names = pl.col("image").str.replace(r"\.png$", "")
        of = dict(manifest.select(names, "base_emoji").unique().iter_rows())
    left, right = (
        [collection.names[row] for row in ends[false]] for ends in (collection.left, collection.right)
    )
    bases = [(of.get(a, a), of.get(b, b)) for a, b in zip(left, right, strict=True)]
    others = [k for k, (a, b) in enumerate(bases) if a != b]
    match = similarity.compare_pictures(
        collection.originals.thumbnails, collection.left[false], collection.right[false]
    )
    usual = similarity.compare_pictures(
        np.concatenate(
            [
                collection.originals.thumbnails[collection.chosen],
                collection.copies["JPEG, quality 60"].thumbnails,
            ]
        ),
        np.arange(len(collection.chosen)),
        len(collection.chosen) + np.arange(len(collection.chosen)),
    ).block_difference
    least = float(np.median(usual))
    shown = "; ".join(
        f"{left[k]} and {right[k]}" for k in sorted(others, key=lambda k: -match.similarity[k])[:8]
    )
    return (
        f"Of the {len(false):,} pairs of different pictures that count as one, {len(false) - len(others):,} are skin-tone "
        f"or gender variants of one emoji by the Unicode standard; {int((match.block_difference <= least).sum()):,} differ nowhere by more than "
        f"half the copies in JPEG of quality 60 do from their originals ({least:.0f} grey levels of a block). The most similar of the other {len(others):,}: {shown}."
    )


def searches(collection: Collection) -> pl.DataFrame:
    """Near pairs among originals and copies: what each search finds of what comparing all pairs finds."""
    copies = [collection.copies[change] for kind in (*CLAIMED, *LINKED) for change in CHANGES[kind]]
    # Of every fourth copied picture: all copies of one are pairs, and this is about finding them.
    thumbnails = np.concatenate([collection.originals.thumbnails, *(one.thumbnails[::4] for one in copies)])
    phash = np.concatenate([collection.originals.phash, *(one.phash[::4] for one in copies)])
    names = [f"{row:06}" for row in range(len(thumbnails))]
    images = pl.LazyFrame(
        {
            "sha256": names,
            "pixel_hash": names,
            "phash": phash,
            "thumbnail": [row.tobytes() for row in thumbnails],
        }
    )
    items = pl.LazyFrame({"item_id": names, "image_sha256": names}, schema_overrides=dict(ITEMS))
    ends = ["item_id", "other_item_id"]

    def pairs() -> set[tuple[str, str]]:
        found = duplicates.find_pairs(items, images, [], Duplicates())
        return set(found.select(ends).iter_rows())

    def audited() -> set[tuple[str, str]]:
        search = leak_search.PictureSearch(thumbnails, LINKING, SEED)
        edges = search.near(everything)
        return {(names[i], names[j]) for left, right, _ in edges for i, j in zip(left, right, strict=True)}

    every = pairs()
    rows = [("duplicates: all pairs, by products of matrices", len(every))]
    with mock.patch.object(picture_pairs, "EXHAUSTIVE_PICTURES", 0):
        rows.append(("duplicates: views in cells", len(pairs() & every)))
    rows.append(("leak audit: all pairs", len(audited() & every)))
    with mock.patch.object(leak_search, "EXHAUSTIVE_PICTURES", 0):
        rows.append(("leak audit: random projections of looks", len(audited() & every)))
    return table(
        [(name, f"{count:,}", percent(count / len(every))) for name, count in rows],
        "search",
        "near pairs found",
        "share",
    )


# -- texts ---------------------------------------------------------------------------------


def typo(text: str, generator: np.random.Generator) -> str:
    at = int(generator.integers(1, len(text) - 1))
    return text[:at] + text[at + 1 :]


def swapped(text: str, generator: np.random.Generator) -> str:
    at = int(generator.integers(1, len(text) - 2))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def without_a_word(text: str, generator: np.random.Generator) -> str:
    words = text.split(" ")
    del words[int(generator.integers(0, len(words)))]
    return " ".join(words)


def with_another_word(text: str, generator: np.random.Generator) -> str:
    words = text.split(" ")
    words[int(generator.integers(0, len(words)))] = "qwertz"
    return " ".join(words)


Edit = Callable[[str, np.random.Generator], str]
EDITS: dict[str, Edit] = {
    "a letter left out": typo,
    "two letters left out": lambda text, g: typo(typo(text, g), g),
    "two letters swapped": swapped,
    "a full stop added": lambda text, _: f"{text}.",
    "all commas left out": lambda text, _: text.replace(",", ""),
    "first part moved to the end": lambda text, _: ", ".join([*text.split(", ")[1:], text.split(", ")[0]]),
    "a word left out": without_a_word,
    "a word replaced": with_another_word,
    "a third cut off": lambda text, _: text[: len(text) * 2 // 3],
}


def emoji_names() -> pl.DataFrame:
    """Distinct names of emoji: lang, name."""
    return (
        pl.read_csv(EMOJI / "items.csv", infer_schema=False)
        .select("lang", pl.col("name").str.to_lowercase())
        .filter(pl.col("lang").is_in(LANGUAGES))
        .unique()
        .drop_nulls()
        .sort("lang", "name")
    )


def joined_names(names: pl.DataFrame, count: int) -> list[str]:
    """Texts of several names of one language, about 60 to 250 characters."""
    generator = np.random.default_rng(SEED)
    texts = []
    for language in LANGUAGES:
        of = names.filter(pl.col("lang") == language)["name"].to_list()
        for _ in range(count // len(LANGUAGES)):
            chosen: list[str] = []
            length = generator.integers(60, 250)
            while sum(len(name) + 2 for name in chosen) < length:
                chosen.append(of[int(generator.integers(0, len(of)))])
            texts.append(", ".join(chosen))
    return texts


def signatures(
    texts: Sequence[str], settings: TextDuplicates
) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """MinHash of every text, shape (texts, permutations)."""
    sets = similarity.shingles(pl.Series(texts), settings.shingle_chars)
    return text_pairs.minhash_signatures(sets, settings.permutations).T


class Edited:
    """Texts, edited copies of them, and their measures."""

    def __init__(self, texts: list[str], settings: TextDuplicates) -> None:
        generator = np.random.default_rng(SEED)
        self.copies = {name: [edit(text, generator) for text in texts] for name, edit in EDITS.items()}
        self.jaccard: dict[str, similarity.Floats] = {}
        self.estimate: dict[str, similarity.Floats] = {}
        here = np.arange(len(texts))
        originals = signatures(texts, settings)
        for name, copies in self.copies.items():
            both = pl.Series([*texts, *copies])
            self.jaccard[name] = similarity.near_texts(both, here, here + len(texts), settings)[1]
            self.estimate[name] = (originals == signatures(copies, settings)).mean(axis=1)


def long_names(names: pl.DataFrame, language: str) -> pl.Series:
    """Names of a language that are long enough to be compared for near ones."""
    return names.filter((pl.col("lang") == language) & (pl.col("name").str.len_chars() >= TEXTS.min_chars))[
        "name"
    ]


def pairs_of_names(names: pl.DataFrame) -> int:
    """Pairs of different names of one language."""
    counts = [len(long_names(names, language)) for language in LANGUAGES]
    return sum(count * (count - 1) // 2 for count in counts)


def alike_names(names: pl.DataFrame, settings: TextDuplicates) -> similarity.Floats:
    """Similarity of all pairs of different names that reach ``settings.min_jaccard``."""
    scores = [np.zeros(0)]
    for language in LANGUAGES:
        search = leak_search.TextSearch(long_names(names, language), settings)
        scores += [score for _, _, score in search.near(everything)]
        assert search.uncompared == 0
    score = np.concatenate(scores)
    return score[score >= settings.min_jaccard]


def estimated_names(names: pl.DataFrame, limit: float) -> tuple[int, int]:
    """Pairs of different names whose MinHash estimate reaches the limit; those of them whose similarity does not."""
    reached, wrong = 0, 0
    for language in LANGUAGES:
        of = long_names(names, language)
        sets = similarity.shingles(of, TEXTS.shingle_chars)
        minhash = signatures(of.to_list(), TEXTS)
        for row in range(len(of)):
            near = row + 1 + np.flatnonzero((minhash[row] == minhash[row + 1 :]).mean(axis=1) >= limit)
            reached += len(near)
            wrong += int((similarity.jaccard(sets, np.full(len(near), row), near) < limit).sum())
    return reached, wrong


def text_methods(edited: Edited, names: pl.DataFrame) -> pl.DataFrame:
    """The pipeline's measure against the MinHash estimate alone."""
    limit = TEXTS.min_jaccard
    rows = [
        (
            name,
            percent((edited.jaccard[name] >= limit).mean()),
            percent((edited.estimate[name] >= limit).mean()),
        )
        for name in EDITS
    ]
    reached, _ = estimated_names(names, limit)
    what = f"different names taken for one, of {pairs_of_names(names):,} pairs"
    rows.append((what, f"{len(alike_names(names, TEXTS)):,}", f"{reached:,}"))
    return table(rows, "edit", f"this pipeline (Jaccard >= {limit:g})", f"MinHash estimate >= {limit:g}")


def jaccard_curve(texts: list[str], names: pl.DataFrame) -> pl.DataFrame:
    """Recall of edits and false pairs of names, by threshold and length of shingles."""
    rows = []
    for chars in (3, 4, 5):
        settings = TEXTS.model_copy(update={"shingle_chars": chars})
        edited = Edited(texts, settings)
        alike = alike_names(names, settings.model_copy(update={"min_jaccard": 0.7}))
        for limit in (0.7, 0.8, 0.85, 0.9, 0.95):
            is_default = chars == TEXTS.shingle_chars and limit == TEXTS.min_jaccard
            small = [edited.jaccard[name] for name in list(EDITS)[:6]]
            words = [edited.jaccard[name] for name in list(EDITS)[6:8]]
            values = (
                f"{chars}",
                f"{limit:g}",
                percent((np.concatenate(small) >= limit).mean()),
                percent((np.concatenate(words) >= limit).mean()),
                f"{int((alike >= limit).sum()):,}",
            )
            rows.append(tuple(f"**{value}**" if is_default else value for value in values))
    return table(
        rows,
        "shingle_chars",
        "min_jaccard",
        "small edits found",
        "word edits found",
        f"different names taken for one, of {pairs_of_names(names):,}",
    )


def text_searches(texts: list[str], edited: Edited) -> pl.DataFrame:
    """Near pairs among texts and edits: MinHash bands against the exact search of the leak audit."""
    keys = pl.Series([*texts, *itertools.chain.from_iterable(edited.copies.values())]).unique().sort()
    rows = []
    search = leak_search.TextSearch(keys, TEXTS)
    edges = list(search.near(everything))
    assert search.uncompared == 0
    truth = {
        (int(i), int(j))
        for left, right, s in edges
        for i, j, score in zip(left, right, s, strict=True)
        if score >= TEXTS.min_jaccard
    }
    for permutations in (32, 64, 128, 256):
        settings = TEXTS.model_copy(update={"permutations": permutations})
        left, right, _ = text_pairs.near_text_pairs(keys, settings)
        found = {(min(int(i), int(j)), max(int(i), int(j))) for i, j in zip(left, right, strict=True)}
        assert found <= truth, "MinHash bands found a pair that the exact search missed"
        rows.append(
            (
                bold(permutations, TEXTS.permutations),
                f"{len(found):,}",
                percent(len(found) / len(truth)),
            )
        )
    rows.append(("leak audit: equal parts of sets", f"{len(truth):,}", percent(1.0)))
    return table(rows, "permutations", "near pairs found", "share")


# -- the document --------------------------------------------------------------------------


def table(rows: list[tuple[str, ...]], *columns: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(columns), orient="row")


def markdown(found: pl.DataFrame) -> str:
    """The table as markdown."""
    lines = ["| " + " | ".join(found.columns) + " |", "|" + "---|" * found.width]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in found.iter_rows()]
    return "\n".join(lines)


def document(seen: list[Collection], unseen: list[Collection], limit: int) -> Iterator[str]:
    """Paragraphs of docs/quality/duplicates.md."""
    yield "# How well duplicates and leaks are found"
    yield (
        "Written by `python benchmarks/quality_duplicates.py --write`; no number here is typed by hand. Pictures: of each "
        "collection some are copied with known changes to the file and scanned as the pipeline scans them. A copy and its "
        "original are one picture; two files of different pixels are two, however alike: many emoji are drawn so alike that "
        "no copy could be told from them, and count against the method all the same. *Copies found* is the mean over "
        "the changes that are found by default; *precision* is of the pairs found between originals and these copies and "
        "among all originals. The thresholds are the defaults of `duplicates` in dataset.yaml. They were chosen on one half "
        "of the pictures (even positions; the curves), and every other table is of the other half."
    )
    for one in unseen:
        yield f"## Pictures: {one.name}"
        yield (
            f"{len(one.names):,} different pictures, {one.pairs:,} pairs; {len(one.chosen)} of them with "
            f"{len(EVERY_CHANGE)} changes each."
        )
        yield markdown(methods(one))
        yield closest_false_pairs(one)
        yield markdown(by_change(one))
    yield (
        "Mirrored and turned copies are found where `changes` has `mirror` or `turn`, which cost a search each for every "
        "position. Copies with something laid over them (*links*) are listed as pairs and kept in one split by "
        "`linked_changes`, and not merged. They are looked for over photos only: icons that differ in one small place, and "
        "products cut out on white of which only the print differs, agree in all the rest as well."
    )
    yield markdown(switched_on(unseen))
    yield "## Why these thresholds: pictures"
    yield (
        "One threshold is moved, the others keep their defaults (bold). *False pairs* are different pictures of the "
        "collection that count as one."
    )
    for name, values in (
        ("min_similarity", (0.95, 0.97, 0.98, 0.99, 0.995)),
        ("max_block_difference", (8, 12, 16, 20, 24, 32)),
        ("max_tone_difference", (16, 32, 64, 128)),
    ):
        yield markdown(curve(seen, name, values))
    yield (
        "Where a block differs by more, a change must explain all but a share of that (not a setting: "
        "`similarity.EXPLAINED_SHARE`): another brightness and contrast of the whole picture, less colour, or one picture "
        "laid over the other. Copies found by kind of change:"
    )
    yield markdown(explained_curve(seen))
    yield (
        "Encoding, resizing and blur leave a little at every edge; a drawing that was drawn differently differs in one place "
        "and nowhere else. What is compared is the median difference of the blocks with strong edges with the largest "
        "(not settings: `similarity.MIN_EVENNESS`, below which two drawings are different; `EVEN_ENOUGH`, from which the "
        "limits above are `EVEN_ALLOWANCE` times as wide). It is what a thumbnail of 32 pixels tells: of a small drawing with "
        "a few pixels of skin in another tone, no more is left than of a copy with another brightness."
    )
    for name, values in (
        ("MIN_EVENNESS", (0.0, 0.1, 0.15, 0.2, 0.25)),
        ("EVEN_ENOUGH", (0.2, 0.3, 0.4, 0.5)),
        ("EVEN_ALLOWANCE", (1.0, 1.2, 1.35, 1.5)),
    ):
        yield markdown(evenness_curve(seen, name, values))
    yield (
        "Overlays, one limit of `similarity` moved: how much of a picture has to have detail (`TEXTURED_SHARE`), how many of "
        "its 16 parts agree (`MIN_ALIKE_PARTS`), how much may be covered (`MAX_COVERED`), and how much the rest correlates in "
        "fine detail (`MIN_FINE_SIMILARITY`). *False pairs* are those that are not near without an overlay."
    )
    overlays = [Overlays(one) for one in seen]
    for name, values in (
        ("TEXTURED_SHARE", (0.7, 0.75, 0.8, 0.85, 0.9)),
        ("MIN_ALIKE_PARTS", (4, 6, 8, 10, 12)),
        ("MAX_COVERED", (0.05, 0.1, 0.15, 0.25, 0.4)),
        ("MIN_FINE_SIMILARITY", (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)),
    ):
        yield markdown(overlay_curve(overlays, name, values))
    yield (
        "Beyond the size up to which all pairs are compared, candidates are those whose pHashes are near. More than 4 bits "
        "would add pairs and hardly a copy that no view finds:"
    )
    yield markdown(hash_curve(seen))
    yield (
        "And those of which one looks like a "
        "view of the other (`picture_pairs.CROPS`): their lowest frequencies of luminance correlate so much "
        "(`picture_pairs.VIEW_SIMILARITY`):"
    )
    yield markdown(view_curve(seen))
    yield "## Searches against comparing all pairs: pictures"
    yield "The same originals and copies of some of them; *share* is of the near pairs that comparing all pairs finds."
    for one in unseen:
        yield f"{one.name}:"
        yield markdown(searches(one))

    names = emoji_names()
    texts = joined_names(names, limit * 3)
    edited = Edited(texts, TEXTS)
    yield "## Texts"
    yield (
        f"{len(texts)} texts of 60 to 250 characters, each of several emoji names in one of {len(LANGUAGES)} languages "
        f"({', '.join(LANGUAGES)}), and a copy with each edit. The last rows are single names of {TEXTS.min_chars} characters "
        "and more: two different names are two texts, although many differ in one word only (*man*, *woman*)."
    )
    yield markdown(text_methods(edited, names))
    yield (
        "Names that differ in a word are near by any measure of characters. Therefore an item that has a picture and a "
        "text is removed only for one that has both, and of the two only one may be nearly the same. What is nearly the "
        "same in both stays, in the same split: to keep different items together costs nothing, to lose one does."
    )
    yield "## Why these thresholds: texts"
    yield "Small edits are the first six rows above, word edits the two after them. The defaults are bold."
    yield markdown(jaccard_curve(texts, names))
    yield "The search by MinHash bands, against the exact one of the leak audit, on all these texts and edits:"
    yield markdown(text_searches(texts, edited))


def picture_folders() -> dict[str, Path]:
    """Collection -> folder of its pictures: the emoji and, where they are, the clothing photos."""
    folders = {"emoji": EMOJI / "images"}
    for folder in CLOTHING:
        if folder.is_dir():
            folders.setdefault("clothing", folder)
    return folders


def arguments_for(page: Path, description: str | None, limit: int) -> argparse.Namespace:
    """``write`` and ``limit`` of the command line; ends where the emoji source data are not there."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write {page.relative_to(ROOT)}")
    parser.add_argument("--limit", type=int, default=limit, help="pictures that are copied, a collection")
    arguments = parser.parse_args()
    if not (EMOJI / "items.csv").is_file():
        parser.error(f"{EMOJI.relative_to(ROOT)} has no items.csv: run make demo-data first")
    return arguments


def main() -> None:
    """Print the document or write it."""
    arguments = arguments_for(DOCUMENT, __doc__, 100)
    seen, unseen = (
        [Collection(name, folder, half, arguments.limit) for name, folder in picture_folders().items()]
        for half in (0, 1)
    )
    text = "\n\n".join(document(seen, unseen, arguments.limit)) + "\n"
    if arguments.write:
        DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
