"""The data files of a release: Parquet shards with pictures, in an order and with bounds that stay.

Belongs here: which rows go into which row group and shard, and the bytes of both, streamed picture by
picture. Does not belong here: the rest of the release folder (``archive.py``), and what a released
picture looks like (``released_images.py``).

Rows are ordered by a hash of their picture, so that every stretch of a shard is a random sample of its
split and rows of one picture are neighbours. Row groups and shards end where the content says so (see
:class:`Bounds`), not after a fixed number of rows: a row that comes or goes moves the bounds near it and
leaves the others. Items of the release before stay in their shard, and new ones go into the last shard
and those after it. So a version that adds items rewrites its last shard alone, and one that loses an item
rewrites the shard that held it.

Source of content-defined bounds: Muthitacharoen, Chen and Mazieres, "A Low-bandwidth Network File
System", SOSP 2001.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_pipeline.config import DatasetConfig, Release
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.tables import FACES, RELEASED_ITEMS, RELEASED_WHERE_THERE

_ROW_GROUP_BYTES: Final = 64 << 20
"""A row group ends early here: viewers refuse groups over 286 MiB, and this much is in memory."""
_DICTIONARY_BYTES: Final = 128 << 20
"""Above any row group's pictures, so that a shared picture is stored once however large it is."""
_SHARED_ENOUGH: Final = 1.25
"""Rows per distinct picture from which pictures are dictionary-encoded. Where nearly every row has
its own, a dictionary saves nothing and takes random access within the row group away."""
_TABLE_ROW_GROUP_ROWS: Final = 50_000
_COMPRESSION: Final = "zstd"
_COLUMN_BYTES: Final = 512
"""At most what a file's footer and its indexes say of one column of a row group."""
_LEAST_SHARE: Final = 0.5
"""Of the largest size that a row group or a shard may have: before it, none ends."""

ReadImage = Callable[[str], bytes]
ReleaseImage = Callable[[bytes, Sequence[Mapping[str, Any]]], Sequence[tuple[bytes, str]]]
"""Source bytes, boxes of faces to hide -> (bytes, extension) for every variant of the config, in order."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DataFiles:
    """What the data files hold: given to the documents, which cannot read files."""

    columns: Mapping[str, str]
    """Column of the shards -> Hugging Face feature: 'image', 'string' or 'int64', in order."""
    shards: Mapping[str, tuple[str, ...]]
    """Split -> paths of its shards, in order."""
    rows: Mapping[str, int]
    """Split -> rows."""
    bytes: Mapping[str, Mapping[str, int]]
    """Folder -> split -> bytes of its shards."""
    sizes: pl.DataFrame
    """item_id and picture_bytes: of the picture as ``data/`` holds it, 0 where there is none."""


class Bounds:
    """Where a sequence of pieces is cut into parts of at most ``limit``: before pieces that their own content chooses.

    Ends are spread evenly over the second half of the limit: there a part ends before a piece with a chance, taken from
    the piece's draw, that grows as the part does. Two sequences that are alike from some piece on get the same cuts
    soon after it.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._size = 0.0

    def falls_before(self, weight: float, draw: float, *, was_end: bool = False) -> bool:
        """Whether a part ends before a piece of this weight.

        ``draw``: of the piece, from 0 to 1; ``was_end``: whether a part ended here in the release before.
        """
        room = self._limit - self._size
        if self._size == 0:
            return False
        if was_end and self._size >= self._limit * _LEAST_SHARE / 2:
            return True
        return weight > room or (room <= self._limit * (1 - _LEAST_SHARE) and draw * (room + weight) < weight)

    def add(self, weight: float, *, begins: bool) -> None:
        """Put a piece into the part that is being made, or into a new one that it ``begins``."""
        self._size = weight + (0.0 if begins else self._size)


def write_data(
    folder: Path,
    config: DatasetConfig,
    items: pl.LazyFrame,
    images: pl.LazyFrame,
    former: pl.DataFrame | None,
    read_image: ReadImage,
    release_image: ReleaseImage,
    progress: Progress | None = None,
) -> DataFiles:
    """Write ``<split>-NNNNN-of-NNNNN.parquet`` for every split of the config that has rows.

    ``items``: SPLIT_ITEMS and texts; ``images``: IMAGES; ``former``: :func:`former_shards` of the release before. The
    first variant of the pictures is written to ``data/``, each other one to its :func:`variant_folders`. At most one
    row group of pictures is in memory.
    """
    rows = _rows(config, items, images, former)
    has_images = rows["image_sha256"].is_not_null().any()
    schema = _schema(config, has_images)
    pictures = _Pictures(read_image, release_image, len(config.release.images) if has_images else 1)
    shards: dict[str, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    sizes = [pl.DataFrame(schema={"item_id": pl.String, "picture_bytes": pl.Int64})]
    done = 0
    folders = variant_folders(config) if has_images else ["data"]
    for name in folders:
        (folder / name).mkdir(parents=True)
    in_bytes: dict[str, dict[str, int]] = {name: {} for name in folders}
    for split in config.split.ratios:
        part = rows.filter(pl.col("split") == split)
        if part.is_empty():
            continue
        is_shared = has_images and part.height >= _SHARED_ENOUGH * part["image_sha256"].n_unique()
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(_ShardWriter(folder / name, split, schema, config.release, is_shared))
                for name in folders
            ]
            for group in _row_groups(part, schema, pictures, config.release.rows_per_row_group):
                for writer, table, weight in zip(
                    writers, group.tables, group.distinct_bytes if is_shared else group.bytes, strict=True
                ):
                    writer.write(table, weight, group.draw, was_end=group.was_end)
                sizes.append(group.sizes)
                done += group.tables[0].num_rows
                if progress is not None:
                    progress(done, rows.height)
        shards[split] = tuple(f"data/{name}" for name in writers[0].names)
        for name, writer in zip(folders, writers, strict=True):
            in_bytes[name][split] = sum((folder / name / file).stat().st_size for file in writer.names)
        counts[split] = part.height
    if unknown := sorted(set(rows["split"].unique().to_list()) - set(config.split.ratios)):
        raise ValueError(f"items carry splits that split.ratios does not name: {unknown}")
    columns = {name: "image" if name == "image" else str(schema.field(name).type) for name in schema.names}
    return DataFiles(columns, shards, counts, in_bytes, pl.concat(sizes))


def variant_folders(config: DatasetConfig) -> list[str]:
    """Folder of every variant of the pictures, in order: data/, then variants/<name>/."""
    return ["data", *(f"variants/{variant.name}" for variant in config.release.images[1:])]


def described_variants(config: DatasetConfig) -> list[dict[str, Any]]:
    """Name, folder, largest side and JPEG quality of every variant, for reports/images.json."""
    return [
        {
            "name": variant.name,
            "folder": folder,
            "max_side_px": variant.max_side,
            "jpeg_quality": variant.quality,
        }
        for variant, folder in zip(config.release.images, variant_folders(config), strict=True)
    ]


def released_columns(config: DatasetConfig) -> list[str]:
    """Columns of ``metadata/items.parquet``, in order; the shards add ``image`` in front."""
    is_there = {"fold": config.split.folds > 0, "date": config.has_dates}
    return [*RELEASED_ITEMS, *(name for name in RELEASED_WHERE_THERE if is_there[name]), *config.text_names]


def file_name(name: str) -> str:
    """``name`` with everything but letters, digits, dot, dash and underscore replaced: no path."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")
    return clean or "_"


def former_shards(release: Path) -> pl.DataFrame:
    """item_id, split and shard (its number, from 0) of every item in ``data/`` of a release folder.

    Raises ``OutsideWorldError`` where its shards cannot be read.
    """
    parts = [pl.DataFrame(schema={"item_id": pl.String, "split": pl.String, "shard": pl.UInt32})]
    for path in sorted((release / "data").glob("*.parquet")):
        match = re.search(r"-(\d{5})-of-\d{5}\.parquet$", path.name)
        try:
            part = pl.read_parquet(path, columns=["item_id", "split"], glob=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise OutsideWorldError(
                f"{path}: not a shard of a release ({str(error).splitlines()[0]})",
                hint="Restore that release, or move its folder away",
            ) from error
        if match is not None:
            parts.append(part.with_columns(shard=pl.lit(int(match[1]), pl.UInt32)))
    return pl.concat(parts)


def _rows(
    config: DatasetConfig, items: pl.LazyFrame, images: pl.LazyFrame, former: pl.DataFrame | None
) -> pl.DataFrame:
    """Every released row with where its picture is and its draws, in release order; no bytes yet."""
    is_blurred = config.pii.images.faces == "blur"
    places = (
        images.select(
            "image_ref", "location", pl.col("faces") if is_blurred else pl.lit(None, FACES).alias("faces")
        )
        .filter(pl.col("image_ref").is_not_null())
        .unique("image_ref", keep="any")
    )
    frame = (
        items.select(*released_columns(config), "image_ref")
        .join(places, on="image_ref", how="left")
        .collect()
    )
    frame = _with_draws(frame.drop("image_ref"))
    if former is None:
        placed = frame.with_columns(shard=pl.lit(0, pl.UInt32))
    else:
        # The last shard is not full: what is new goes there and behind it.
        last = former.group_by("split").agg(pl.col("shard").max().alias("last"))
        placed = (
            frame.join(former, on=["item_id", "split"], how="left")
            .join(last, on="split", how="left")
            .with_columns(pl.coalesce("shard", "last", pl.lit(0, pl.UInt32)).alias("shard"))
            .drop("last")
        )
    placed = placed.sort("shard", "order", "image_sha256", "item_id", nulls_last=True)
    was_end = pl.col("shard").ne(pl.col("shard").shift().over("split")).fill_null(False)
    return placed.with_columns(was_end=was_end).drop("shard", "order")


def _with_draws(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with order (64 bits), group_draw and shard_draw (from 0 to 1): of a row's picture, or of its id.

    From SHA-256, because it is the same in every version of every library.
    """
    key = frame.select(pl.coalesce("image_sha256", "item_id")).to_series()
    distinct = key.unique().sort()
    numbers = np.empty((len(distinct), 3), np.uint64)
    for row, value in enumerate(distinct):
        numbers[row] = np.frombuffer(hashlib.sha256(value.encode()).digest()[:24], ">u8")
    draws = pl.DataFrame(
        {
            "key": distinct,
            "order": numbers[:, 0],
            "group_draw": numbers[:, 1] / 2.0**64,
            "shard_draw": numbers[:, 2] / 2.0**64,
        }
    )
    return frame.with_columns(key.alias("key")).join(draws, on="key", how="left").drop("key")


def _schema(config: DatasetConfig, has_images: bool) -> pa.Schema:
    """Arrow schema of the shards, with the features that Hugging Face's libraries look for."""
    columns = released_columns(config)
    numbers = {name for name, dtype in RELEASED_WHERE_THERE.items() if dtype == pl.Int64()}
    fields = [pa.field(name, pa.int64() if name in numbers else pa.string()) for name in columns]
    features: dict[str, Any] = {
        column.name: {"dtype": str(column.type), "_type": "Value"} for column in fields
    }
    if has_images:
        fields.insert(0, pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        features = {"image": {"_type": "Image"}, **features}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


class _Pictures:
    """Released pictures by content; the last one is kept, because rows of one picture are adjacent."""

    def __init__(self, read_image: ReadImage, release_image: ReleaseImage, variants: int) -> None:
        self._read = read_image
        self._release = release_image
        self.variants = variants
        self._last: tuple[str, list[dict[str, Any] | None]] | None = None

    def get(
        self,
        sha256: str | None,
        location: str | None,
        item_id: str,
        faces: Sequence[Mapping[str, Any]] | None,
    ) -> list[dict[str, Any] | None]:
        """The ``image`` cell of a row in every variant: bytes and a file name, its checksum and extension.

        ``faces``: what is hidden in it.
        """
        if sha256 is None:
            return [None] * self.variants
        if self._last is not None and self._last[0] == sha256:
            return self._last[1]
        if location is None:
            raise OutsideWorldError(
                f"item {item_id!r}: its picture is not among the scanned ones", hint=_AGAIN
            )
        data = self._read(location)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise OutsideWorldError(
                f"{location}: the picture of item {item_id!r} is not the one that was scanned", hint=_AGAIN
            )
        try:
            released = self._release(data, faces or ())
        except ValueError as error:
            raise OutsideWorldError(
                f"{location}: the picture of item {item_id!r} cannot be written ({error})", hint=_AGAIN
            ) from error
        assert len(released) == self.variants, "one picture a variant"
        cells: list[dict[str, Any] | None] = [
            {"bytes": content, "path": f"{sha256}{file_name('x' + extension)[1:]}"}
            for content, extension in released
        ]
        self._last = (sha256, cells)
        return cells


_AGAIN: Final = "The source changed during the build: run it again"


@dataclass(frozen=True)
class _Group:
    """A row group of every variant."""

    tables: list[pa.Table]
    bytes: list[int]
    """Of the pictures, a variant."""
    distinct_bytes: list[int]
    """Likewise, a picture of several rows counted once."""
    sizes: pl.DataFrame
    """item_id and picture_bytes of the first variant."""
    draw: float
    was_end: bool
    """Whether a shard ended before it in the release before."""


def _row_groups(rows: pl.DataFrame, schema: pa.Schema, pictures: _Pictures, size: int) -> Iterator[_Group]:
    """Row groups of at most ``size`` rows and about ``_ROW_GROUP_BYTES`` of pictures, rows of one picture together if
    they fit."""
    in_rows, in_bytes = Bounds(size), Bounds(_ROW_GROUP_BYTES)
    cells: list[list[dict[str, Any] | None]] = []
    start, former = 0, None
    draws, was_end = rows["shard_draw"], rows["was_end"]

    def made(end: int) -> _Group:
        columns = list(zip(*cells, strict=True))
        sizes = [[len(cell["bytes"]) if cell else 0 for cell in column] for column in columns]
        is_new = [place == 0 or row is not cells[place - 1] for place, row in enumerate(cells)]
        part = rows.slice(start, end - start)
        return _Group(
            [_table(part, list(column), schema) for column in columns],
            [sum(of_variant) for of_variant in sizes],
            [sum(n for n, new in zip(of_variant, is_new, strict=True) if new) for of_variant in sizes],
            part.select("item_id", pl.Series("picture_bytes", sizes[0], dtype=pl.Int64)),
            draws[start],
            was_end[start],
        )

    for position, (sha256, location, item_id, draw, faces) in enumerate(
        rows.select("image_sha256", "location", "item_id", "group_draw", "faces").iter_rows()
    ):
        row = pictures.get(sha256, location, item_id, faces)
        weight = sum(len(cell["bytes"]) for cell in row if cell)
        draw_here = 1.0 if sha256 is not None and sha256 == former else draw
        is_end = position > 0 and (
            was_end[position]
            or in_rows.falls_before(1, draw_here)
            or in_bytes.falls_before(weight, draw_here)
        )
        if is_end:
            yield made(position)
            start, cells = position, []
        in_rows.add(1, begins=is_end)
        in_bytes.add(weight, begins=is_end)
        cells.append(row)
        former = sha256
    yield made(rows.height)


def _table(rows: pl.DataFrame, cells: list[dict[str, Any] | None], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(cells, type=column.type)
        if column.name == "image"
        else rows[column.name].to_arrow().cast(column.type)
        for column in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


class _ShardWriter:
    """Shards of one split: numbered while written, named with their total at the end."""

    def __init__(
        self, folder: Path, split: str, schema: pa.Schema, settings: Release, is_shared: bool
    ) -> None:
        self._folder = folder
        self._split = split
        self._schema = schema
        self._limit = settings.max_shard_mib << 20
        self._bounds = Bounds(self._limit)
        dictionary = [column.name for column in schema if column.name not in ("image", "item_id")]
        self._options: dict[str, Any] = {
            "use_dictionary": [*dictionary, "image.bytes", "image.path"] if is_shared else dictionary,
            # The smallest and the largest picture of every row group and page tell nobody anything.
            "write_statistics": [column.name for column in schema if column.name != "image"],
            # Pictures are compressed already: a second pass costs time and gains about nothing.
            "compression": {
                **{column.name: _COMPRESSION for column in schema if column.name != "image"},
                **({"image.bytes": "NONE", "image.path": _COMPRESSION} if "image" in schema.names else {}),
            },
        }
        self._open: tuple[BinaryIO, pq.ParquetWriter] | None = None
        self._count = 0
        self.names: list[str] = []

    def __enter__(self) -> "_ShardWriter":
        return self

    def write(self, group: pa.Table, picture_bytes: int, draw: float, *, was_end: bool) -> None:
        """Append a row group; a new shard begins where the bounds fall, or where this one would pass the limit."""
        columns = [name for name in group.column_names if name != "image"]
        weight = picture_bytes + group.select(columns).nbytes + _COLUMN_BYTES * group.num_columns
        is_over = self._open is not None and self._open[0].tell() + weight > self._limit
        is_end = self._bounds.falls_before(weight, draw, was_end=was_end) or is_over
        self._bounds.add(weight, begins=is_end)
        if is_end:
            self._close()
        if self._open is None:
            stream = self._temporary(self._count).open("wb")
            self._open = (stream, parquet_writer(stream, self._schema, **self._options))
            self._count += 1
        self._open[1].write_table(group, row_group_size=group.num_rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close()
        if kind is None:
            for number in range(self._count):
                name = f"{self._split}-{number:05d}-of-{self._count:05d}.parquet"
                self._temporary(number).rename(self._folder / name)
                self.names.append(name)

    def _close(self) -> None:
        if self._open is not None:
            stream, writer = self._open
            self._open = None
            writer.close()
            stream.close()

    def _temporary(self, number: int) -> Path:
        return self._folder / f"{self._split}-{number:05d}.writing"


def parquet_writer(target: BinaryIO | Path, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """A writer with what viewers and deduplicating stores ask for: page index, content-defined chunks."""
    return pq.ParquetWriter(
        target,
        schema,
        **{
            "compression": _COMPRESSION,
            "write_page_index": True,
            "use_content_defined_chunking": True,
            "dictionary_pagesize_limit": _DICTIONARY_BYTES,
            **options,
        },
    )


def write_table(path: Path | BinaryIO, frame: pl.LazyFrame) -> None:
    """A table of this size fits in memory: pictures are what does not."""
    table = _with_plain_strings(frame.collect().to_arrow())
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=_TABLE_ROW_GROUP_ROWS)


def _with_plain_strings(table: pa.Table) -> pa.Table:
    """Polars' large and view types as the ones that every reader knows."""
    return table.cast(pa.schema([pa.field(column.name, _plain(column.type)) for column in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(part.name, _plain(part.type)) for part in kind])
    return kind
