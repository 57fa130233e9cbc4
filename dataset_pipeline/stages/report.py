"""The HTML report: one self-contained page for people, made from the JSON reports alone.

Belongs here: what is shown and in which order. Does not belong here: computing numbers
(``statistics.py`` and the other reports) and drawing figures (``figures.py``). Everything that came
from data is escaped; pictures are thumbnails embedded as data, so the page opens anywhere.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.faces import COUNT as FACES_OF_PICTURE
from dataset_pipeline.stages.faces import REMOVING
from dataset_pipeline.stages.figures import file_part
from dataset_pipeline.stages.former_splits import REPAIRS
from dataset_pipeline.stages.leak_groups import IMAGE_KINDS
from dataset_pipeline.stages.split_report import RARE_RULES
from dataset_pipeline.tables import MATCH_KINDS, PAIR_KINDS, REASONS, THUMBNAIL_SIDE_PX

_SHOWN_PX = 64
_SHOWN_CHARS = 300
_STRIP = 8
"""Pictures of a class that are shown."""
_NOT_SHOWN = frozenset(
    {
        "duplicate",
        "taken_down",
        "duplicate_of_taken_down",
        "decided_drop",
        "licence_no_derivatives",
        "licence_missing",
        "personal_data",
        "personal_data_unsure",
        *REMOVING.values(),
    }
)
"""Reasons of removed items whose pictures a published page does not show: nobody may, or may not want to, pass them on."""
_ENTITIES = {
    "EMAIL_ADDRESS": "e-mail address",
    "IBAN_CODE": "bank account number",
    "IP_ADDRESS": "address of a computer",
    "LOCATION": "place",
    "NRP": "nationality, religious or political group",
    "PERSON": "name of a person",
    "URL": "web address",
    "CRYPTO": "address of a cryptocurrency wallet",
    "NATIONAL_ID": "identity, social security or tax number of a person",
    "ADDRESS": "postal address",
    "SOCIAL_HANDLE": "account of a person on a platform",
    "PROFILE_URL": "link to a person's page",
}
"""Kinds of personal data whose name does not say what they are."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail (``THUMBNAIL_SIDE_PX`` square sRGB bytes) and what to say under it."""

    thumbnail: bytes
    caption: str


@dataclass(frozen=True)
class PicturePair:
    """Two pictures side by side and what they have in common."""

    first: Picture
    second: Picture
    caption: str


@dataclass(frozen=True)
class ClassSheet:
    """Examples of one class: a strip of pictures as a data URI."""

    label: str
    items: int
    strip: str


@dataclass(frozen=True)
class TextPair:
    """Two released texts, how similar they are, and the splits that they are in."""

    first: str
    second: str
    similarity: float
    splits: str


@dataclass(frozen=True)
class Pictures:
    """Pictures of the report, few enough to embed."""

    random: Sequence[Picture] = ()
    removed: Sequence[Picture] = ()
    merged: Sequence[PicturePair] = ()
    nearest: Sequence[PicturePair] = ()
    alike: Sequence[PicturePair] = ()
    classes: Sequence[ClassSheet] = ()
    suspicious: Sequence[Picture] = ()
    leaking: Sequence[PicturePair] = ()
    nearest_texts: Sequence[TextPair] = ()
    reported: Sequence[Picture] = ()


def render_report(
    config: DatasetConfig,
    reports: Mapping[str, Mapping[str, Any]],
    figures: Mapping[str, bytes],
    pictures: Pictures,
) -> str:
    """The page. ``reports``: name -> JSON report; ``figures``: file name -> SVG; both may lack some."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("dataset_pipeline"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["share"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["number"] = _number
    environment.filters["file_part"] = file_part
    return environment.get_template("report.html.j2").render(
        config=config,
        reports=reports,
        statistics=reports["statistics"],
        # SVG is drawn by figures.py from numbers; matplotlib escapes the labels in it.
        figures={name: Markup(_inline_svg(svg)) for name, svg in figures.items()},  # noqa: S704
        pictures=pictures,
        reasons=REASONS,
        pair_kinds=PAIR_KINDS,
        match_kinds=MATCH_KINDS,
        repairs=REPAIRS,
        rare_rules=RARE_RULES,
        entities=_ENTITIES,
        data_uri=data_uri,
    )


def report_pictures(
    items: pl.LazyFrame,
    removed: pl.LazyFrame,
    raw_items: pl.LazyFrame,
    images: pl.LazyFrame,
    pairs: pl.LazyFrame,
    nearest: pl.LazyFrame,
    crossing: pl.LazyFrame,
    warnings: pl.LazyFrame,
    limit: int,
    seed: int,
    suspicious: Sequence[Mapping[str, Any]] = (),
) -> Pictures:
    """A few pictures of each kind: random items, removed ones, near-identical pairs, the nearest
    pairs across splits, pairs that leak, items whose label is probably wrong, and released ones
    that an image check reports.

    ``removed``, ``pairs``, ``nearest``, ``crossing``: as the stages before hold them; ``raw_items``: item_id,
    image_ref of all raw items; ``warnings``: IMAGE_WARNINGS; ``suspicious``: item_id, label and suggested, in
    order; at most ``limit`` pictures of each kind. Texts are shown of released items alone, and no removed picture
    that shows a face or went for a reason of ``_NOT_SHOWN``.
    """
    refs = images.select("image_ref", "thumbnail").drop_nulls("thumbnail")
    shown = items.select("item_id", "image_ref", "image_sha256", "label", "language")
    random = shown.join(refs.select("image_ref"), on="image_ref", how="semi").sort("item_id").collect()
    random = random.unique("image_sha256", keep="first", maintain_order=True)
    random = random.sample(min(limit, random.height), seed=seed).sort("item_id")
    # An orphan's id is its image's reference; the others are found by their rows.
    without_faces = images.filter(FACES_OF_PICTURE == 0).select("image_ref")
    gone = (
        removed.filter(~pl.col("reason").is_in(list(_NOT_SHOWN)))
        .join(raw_items.select("item_id", "image_ref"), on="item_id", how="left")
        .with_columns(pl.coalesce("image_ref", "item_id").alias("image_ref"))
        .select("item_id", "reason", "image_ref")
        .join(refs.select("image_ref"), on="image_ref", how="semi")
        .join(without_faces, on="image_ref", how="semi")
        .sort("item_id")
        .collect()
        .unique("image_ref", keep="first", maintain_order=True)
    )
    gone = gone.sample(min(limit // 2, gone.height), seed=seed).sort("reason", "item_id")
    near = pairs.filter(pl.col("kind") == "near_image").sort("item_id", "other_item_id").collect()
    near = near.sample(min(limit // 4, near.height), seed=seed).sort("score")
    by_likeness = nearest.sort("similarity", descending=True)
    apart, alike = (
        by_likeness.filter(pl.col("kind") == kind).head(limit // 4).collect()
        for kind in ("image", "semantic_image")
    )
    leaking = crossing.filter(pl.col("kind").is_in(IMAGE_KINDS)).sort("item_id", "other_item_id").collect()
    leaking = leaking.sample(min(limit // 2, leaking.height), seed=seed).sort("score", descending=True)
    told = (
        warnings.join(shown.select("item_id", "image_ref"), on="item_id")
        .join(refs.select("image_ref"), on="image_ref", how="semi")
        .sort("warning", "item_id")
        .collect()
        .unique(["warning", "image_ref"], keep="first", maintain_order=True)
    )
    told = told.filter(pl.int_range(pl.len()).shuffle(seed).over("warning", order_by="item_id") < limit // 8)
    ids = pl.concat(
        [table[name] for table in (near, apart, alike, leaking) for name in ("item_id", "other_item_id")]
    ).unique()
    splits = dict(
        items.filter(pl.col("item_id").is_in(ids.implode())).select("item_id", "split").collect().iter_rows()
    )
    doubted = list(suspicious)[: limit // 2]
    ids = pl.concat([ids, pl.Series(values=[row["item_id"] for row in doubted], dtype=pl.String)]).unique()
    of_pairs = (
        raw_items.filter(pl.col("item_id").is_in(ids.implode())).select("item_id", "image_ref").collect()
    )
    wanted = pl.concat(
        [random["image_ref"], gone["image_ref"], of_pairs["image_ref"], told["image_ref"]]
    ).unique()
    thumbnails = dict(refs.filter(pl.col("image_ref").is_in(wanted.implode())).collect().iter_rows())
    place = dict(of_pairs.iter_rows())

    def pair(row: Mapping[str, Any], caption: str) -> list[PicturePair]:
        found = [thumbnails.get(place.get(row[name], "")) for name in ("item_id", "other_item_id")]
        if found[0] is None or found[1] is None:
            return []
        return [
            PicturePair(Picture(found[0], row["item_id"]), Picture(found[1], row["other_item_id"]), caption)
        ]

    return Pictures(
        random=[
            Picture(thumbnails[row["image_ref"]], row["label"] or row["item_id"]) for row in random.to_dicts()
        ],
        removed=[
            Picture(thumbnails[row["image_ref"]], row["reason"].replace("_", " ")) for row in gone.to_dicts()
        ],
        reported=[
            Picture(
                thumbnails[row["image_ref"]],
                f"{row['warning'].removeprefix('image_')}: {row['detail']}".replace("_", " "),
            )
            for row in told.to_dicts()
        ],
        merged=[found for row in near.to_dicts() for found in pair(row, f"similarity {row['score']:.3f}")],
        suspicious=[
            Picture(thumbnail, f"{row['label']} – rather {row['suggested']}?")
            for row in doubted
            if (thumbnail := thumbnails.get(place.get(row["item_id"], ""))) is not None
        ],
        leaking=[
            found
            for row in leaking.to_dicts()
            for found in pair(
                row,
                f"{row['kind'].replace('_', ' ')}, {splits[row['item_id']]} and {splits[row['other_item_id']]}",
            )
        ],
        nearest=[
            found
            for row in apart.to_dicts()
            for found in pair(
                row, f"similarity {row['similarity']:.3f}, {row['split']} and {row['other_split']}"
            )
        ],
        alike=tuple(
            found
            for row in alike.to_dicts()
            for found in pair(row, f"cosine {row['similarity']:.3f}, {row['split']} and {row['other_split']}")
        ),
    )


def class_sheets(
    items: pl.LazyFrame, images: pl.LazyFrame, classes: Sequence[Mapping[str, Any]], limit: int
) -> list[ClassSheet]:
    """A strip of different pictures for each of the largest and the smallest classes.

    Of a class, those whose checksums come first: as good as at random.

    ``classes``: of ``statistics.json``, largest first; ``limit``: pictures of the other grids, of which half as
    many classes are shown. A class without a picture has no strip.
    """
    named = [row for row in classes if row["value"] is not None]
    half = limit // 4
    shown = named if len(named) <= 2 * half else [*named[:half], *named[-half:]] if half else []
    pictured = (
        items.filter(pl.col("label").is_in([row["value"] for row in shown]))
        .select("label", "image_sha256", "image_ref")
        .join(images.select("image_ref", "thumbnail").drop_nulls("thumbnail"), on="image_ref", how="semi")
        .drop_nulls("image_sha256")
        .collect()
        .sort("label", "image_sha256", "image_ref")
        .unique(["label", "image_sha256"], keep="first", maintain_order=True)
        .filter(pl.int_range(pl.len()).over("label") < _STRIP)
    )
    thumbnails = dict(
        images.filter(pl.col("image_ref").is_in(pictured["image_ref"].unique().implode()))
        .select("image_ref", "thumbnail")
        .collect()
        .iter_rows()
    )
    by_label = {
        name[0]: [thumbnails[ref] for ref in rows["image_ref"]]
        for name, rows in pictured.group_by("label", maintain_order=True)
    }
    return [
        ClassSheet(row["value"], row["items"], _strip(by_label[row["value"]]))
        for row in shown
        if row["value"] in by_label
    ]


def _strip(thumbnails: Sequence[bytes]) -> str:
    """Thumbnails side by side, as a JPEG data URI."""
    from PIL import Image

    side, gap = THUMBNAIL_SIDE_PX, 2
    sheet = Image.new("RGB", (len(thumbnails) * (side + gap) - gap, side), "white")
    for column, thumbnail in enumerate(thumbnails):
        sheet.paste(Image.frombytes("RGB", (side, side), thumbnail), (column * (side + gap), 0))
    return _uri(sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.BICUBIC), "JPEG")


def nearest_texts(
    items: pl.LazyFrame, nearest: pl.LazyFrame, text_names: Sequence[str], limit: int
) -> list[TextPair]:
    """The ``limit`` most similar texts of ``nearest`` (NEAREST, kind 'text'), as they are released."""
    pairs = nearest.filter(pl.col("kind") == "text").sort("similarity", descending=True).head(limit).collect()
    if pairs.is_empty():
        return []
    ids = pl.concat([pairs["item_id"], pairs["other_item_id"]])
    words = pl.concat_str([pl.col(name) for name in text_names], separator=" / ", ignore_nulls=True)
    shown = items.filter(pl.col("item_id").is_in(ids.implode())).select("item_id", words).collect()
    text = dict(shown.iter_rows())
    return [
        TextPair(
            _shortened(text[row["item_id"]]),
            _shortened(text[row["other_item_id"]]),
            round(row["similarity"], 3),
            f"{row['split']}, {row['other_split']}",
        )
        for row in pairs.to_dicts()
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def thumbnails_of(items: pl.LazyFrame, item_ids: pl.Series, images: pl.LazyFrame) -> pl.DataFrame:
    """item_id, thumbnail of those of a few items that have one: no more of ``images`` (image_ref, thumbnail) is read than these.

    ``items``: item_id and image_ref.
    """
    wanted = items.filter(pl.col("item_id").is_in(item_ids.drop_nulls().unique().implode()))
    refs = wanted.select("item_id", "image_ref").drop_nulls().collect()
    shown = images.filter(pl.col("image_ref").is_in(refs["image_ref"].unique().implode()))
    return refs.join(
        shown.select("image_ref", "thumbnail").drop_nulls().collect(), on="image_ref", maintain_order="left"
    ).select("item_id", "thumbnail")


def pair_sheet(pairs: pl.DataFrame, items: pl.LazyFrame, images: pl.LazyFrame, limit: int = 12) -> str | None:
    """The first pairs (item_id, other_item_id), each one above the other, as one JPEG data URI; None: no pictures."""
    from PIL import Image

    first = pairs.head(limit).lazy().select("item_id", "other_item_id")
    ids = pl.concat([pairs.head(limit)["item_id"], pairs.head(limit)["other_item_id"]])
    place = thumbnails_of(items, ids, images).lazy()
    both = (
        first.join(place.select("item_id", upper="thumbnail"), on="item_id", maintain_order="left")
        .join(
            place.select(other_item_id="item_id", lower="thumbnail"),
            on="other_item_id",
            maintain_order="left",
        )
        .drop_nulls(["upper", "lower"])
        .collect()
    )
    if both.is_empty():
        return None
    side, gap = THUMBNAIL_SIDE_PX, 2
    sheet = Image.new("RGB", (both.height * (side + gap), 2 * side), "white")
    for column, row in enumerate(both.select("upper", "lower").iter_rows()):
        for line, thumbnail in enumerate(row):
            sheet.paste(Image.frombytes("RGB", (side, side), thumbnail), (column * (side + gap), line * side))
    # JPEG: it lives in an event log, and photos as PNG would take five times the room there.
    return _uri(sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.BICUBIC), "JPEG")


def data_uri(picture: Picture) -> str:
    """The thumbnail as a PNG data URI."""
    from PIL import Image

    image = Image.frombytes("RGB", (THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), picture.thumbnail)
    return _uri(image.resize((_SHOWN_PX, _SHOWN_PX), Image.Resampling.BICUBIC), "PNG")


def _uri(image: Any, kind: str) -> str:
    stream = io.BytesIO()
    image.save(stream, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _inline_svg(svg: bytes) -> str:
    """The ``<svg>`` element alone: no XML head, which HTML does not know."""
    text = svg.decode("utf-8")
    return text[text.index("<svg") :]


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
