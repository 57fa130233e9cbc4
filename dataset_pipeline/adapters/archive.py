"""The release folder: Parquet shards with pictures, metadata tables, documents and checksums.

Belongs here: bytes on disk, in the layout that docs describe, streamed picture by picture. Does
not belong here: what the documents say (``stages/release.py``, ``stages/croissant.py``), and
moving the folder into place (``adapters/store.py``).

The same input gives the same bytes: rows are in a fixed order, writers carry no time, and only
``provenance.json`` (and its line in ``SHA256SUMS``) may differ between two builds.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_pipeline.adapters.store import explained_os_errors, file_sha256, to_json
from dataset_pipeline.config import DatasetConfig, Release, is_inside
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.tables import (
    DECISIONS,
    IMAGE_WARNINGS,
    PAIRS,
    REFERENCES,
    RELEASED_ITEMS,
    RELEASED_WHERE_THERE,
    REMOVED,
)

CHECKSUMS: Final = "SHA256SUMS"
PROVENANCE: Final = "provenance.json"
CROISSANT: Final = "croissant.json"
_ITEMS: Final = "metadata/items.parquet"
_REMOVED: Final = "metadata/removed.parquet"

_ROW_GROUP_BYTES: Final = 64 << 20
"""A row group ends early here: viewers refuse groups over 286 MiB, and this much is in memory."""
_DICTIONARY_BYTES: Final = 128 << 20
"""Above any row group's pictures, so that a shared picture is stored once however large it is."""
_SHARED_ENOUGH: Final = 1.25
"""Rows per distinct picture from which pictures are dictionary-encoded. Where nearly every row has
its own, a dictionary saves nothing and takes random access within the row group away."""
_TABLE_ROW_GROUP_ROWS: Final = 50_000
_COMPRESSION: Final = "zstd"

ReadImage = Callable[[str], bytes]
ReleaseImage = Callable[[bytes], Sequence[tuple[bytes, str]]]
"""Source bytes -> (bytes, extension) for every variant of the config, in order."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReleaseTables:
    """The tables a release is made of, as ``tables.py`` describes them."""

    items: pl.LazyFrame
    """SPLIT_ITEMS and one column per text."""
    images: pl.LazyFrame
    """IMAGES; only image_ref, location and sha256 are read."""
    removed: pl.LazyFrame
    pairs: pl.LazyFrame
    references: pl.LazyFrame
    """REFERENCES."""
    decisions: pl.LazyFrame
    """DECISIONS and state."""
    image_warnings: pl.LazyFrame | None = None
    """IMAGE_WARNINGS of cleaned items; None: pictures were not checked."""


@dataclass(frozen=True)
class ReleasedFile:
    """One file of the release."""

    path: str
    """POSIX, relative to the release folder."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class DataFiles:
    """What the data files hold: given to the documents, which cannot read files."""

    columns: Mapping[str, str]
    """Column of the shards -> Hugging Face feature: 'image', 'string' or 'int64', in order."""
    shards: Mapping[str, tuple[str, ...]]
    """Split -> paths of its shards, in order."""
    rows: Mapping[str, int]
    """Split -> rows."""


@dataclass(frozen=True)
class ReleaseParts:
    """Everything of a release that is not computed here. Paths are relative POSIX paths."""

    reports: Mapping[str, Mapping[str, Any]]
    """Name -> ``reports/<name>.json``."""
    documents: Callable[[DataFiles], Mapping[str, str]]
    """Gives the documents (README.md, ...) once the data files are known."""
    croissant: Callable[[DataFiles, list[ReleasedFile]], Mapping[str, Any]]
    """Gives croissant.json once every file but itself, the checksums and the provenance is written."""
    provenance: Mapping[str, Any]
    report_html: str | None = None
    figures: Mapping[str, bytes] = field(default_factory=dict)
    """File name -> ``reports/figures/<file name>``."""
    result_tables: Mapping[str, str] = field(default_factory=dict)
    """File name -> ``reports/tables/<file name>``."""
    paper: Mapping[str, bytes] = field(default_factory=dict)
    """Path below the paper's folder -> ``reports/paper/<path>``."""
    predictions: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """Name -> ``predictions/<name>.parquet``."""
    attributions: pl.LazyFrame | None = None
    """Rows of ATTRIBUTION.csv."""
    notebook: Callable[[Path], str] | None = None
    """Gives ``notebook/explore.ipynb``, executed in the release folder it is given."""


def write_release(
    folder: Path,
    config: DatasetConfig,
    tables: ReleaseTables,
    parts: ReleaseParts,
    read_image: ReadImage,
    release_image: ReleaseImage,
    progress: Progress | None = None,
) -> list[ReleasedFile]:
    """Write a whole release into ``folder``, which is empty or absent; gives its files, sorted by path.

    ``read_image`` gives a picture's source bytes by IMAGES.location; ``release_image`` turns them
    into released bytes and an extension such as ``.jpg``, once for every variant. Raises
    ``OutsideWorldError`` for a full disk, a missing permission, and a picture that is not what it was
    when it was scanned.
    """
    with explained_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if found := sorted(path.name for path in folder.iterdir()):
            raise OutsideWorldError(f"{folder}: expected an empty folder, found {', '.join(found[:3])}")
        data = write_data(folder, config, tables, read_image, release_image, progress)
        _write_metadata(folder, config, tables)
        for name, report in sorted(parts.reports.items()):
            _write(folder, f"reports/{name}.json", to_json(report))
        if parts.report_html is not None:
            _write(folder, "reports/report.html", parts.report_html)
        for name, figure in sorted(parts.figures.items()):
            _write(folder, f"reports/figures/{name}", figure)
        for name, text in sorted(parts.result_tables.items()):
            _write(folder, f"reports/tables/{name}", text)
        for name, content in sorted(parts.paper.items()):
            _write(folder, f"reports/paper/{name}", content)
        for name, frame in sorted(parts.predictions.items()):
            path = _place(folder, f"predictions/{file_name(name)}.parquet")
            _write_table(path, frame.lazy())
        if parts.attributions is not None:
            parts.attributions.sink_csv(folder / "ATTRIBUTION.csv", line_terminator="\n", maintain_order=True)
        for name, text in sorted(parts.documents(data).items()):
            _write(folder, name, text)
        if parts.notebook is not None:
            _write(folder, "notebook/explore.ipynb", parts.notebook(folder))
        files = list_files(folder)
        _write(folder, CROISSANT, to_json(parts.croissant(data, files)))
        _write(folder, PROVENANCE, to_json(parts.provenance))
        files = sorted(
            [*files, _file(folder, CROISSANT), _file(folder, PROVENANCE)], key=lambda file: file.path
        )
        _write(folder, CHECKSUMS, checksums(files))
    return files


def previous_release(releases: Path, version: str) -> Path | None:
    """The folder of the highest version below ``version``; None where there is none."""
    lower = [
        place
        for place in (releases.iterdir() if releases.is_dir() else ())
        if place.is_dir() and _numbers(place.name) < _numbers(version) and (place / CHECKSUMS).is_file()
    ]
    return max(lower, key=lambda place: _numbers(place.name), default=None)


def released_splits(release: Path) -> pl.DataFrame:
    """item_id, split and fold (null where the release has none) of every item of a release folder.

    Raises ``OutsideWorldError`` where the folder does not hold them.
    """
    path = release / _ITEMS
    with explained_os_errors(release):
        try:
            frame = pl.scan_parquet(path, glob=False)
            fold = (
                pl.col("fold") if "fold" in frame.collect_schema() else pl.lit(None, pl.Int64).alias("fold")
            )
            return frame.select("item_id", "split", fold).collect()
        except pl.exceptions.PolarsError as error:
            raise OutsideWorldError(
                f"{path}: not the items of a release ({str(error).splitlines()[0]})",
                hint="Restore that release, or build without it: split.keep: none",
            ) from error


def released_duplicates(release: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Removed rows of a release folder, and item_id and image_sha256 of its items.

    Raises ``OutsideWorldError`` where the folder does not hold them.
    """
    with explained_os_errors(release):
        try:
            return (
                pl.read_parquet(release / _REMOVED, glob=False),
                pl.read_parquet(release / _ITEMS, columns=["item_id", "image_sha256"], glob=False),
            )
        except pl.exceptions.PolarsError as error:
            raise OutsideWorldError(
                f"{release}: not the tables of a release ({str(error).splitlines()[0]})",
                hint="Restore that release, or move its folder away",
            ) from error


def items_checksum(release: Path) -> str:
    """SHA-256 of the items of a release folder."""
    with explained_os_errors(release):
        return file_sha256(release / _ITEMS)


def _numbers(version: str) -> tuple[int, ...]:
    """Major, minor and patch of a version; nothing for what is none."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(part) for part in match.groups()) if match else ()


def list_files(folder: Path) -> list[ReleasedFile]:
    """Every file below ``folder`` but the list of checksums, sorted by path."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [_file(folder, path) for path in paths if path != CHECKSUMS]


def _file(folder: Path, path: str) -> ReleasedFile:
    place = folder / path
    return ReleasedFile(path, file_sha256(place), place.stat().st_size)


def checksums(files: list[ReleasedFile]) -> str:
    """The text of ``SHA256SUMS`` in the format of GNU coreutils."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files)


def file_name(name: str) -> str:
    """``name`` with everything but letters, digits, dot, dash and underscore replaced: no path."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")
    return clean or "_"


def released_columns(config: DatasetConfig) -> list[str]:
    """Columns of ``metadata/items.parquet``, in order; the shards add ``image`` in front."""
    is_there = {"fold": config.split.folds > 0, "date": config.has_dates}
    return [*RELEASED_ITEMS, *(name for name in RELEASED_WHERE_THERE if is_there[name]), *config.text_names]


# -- shards --------------------------------------------------------------------------------


def write_data(
    folder: Path,
    config: DatasetConfig,
    tables: ReleaseTables,
    read_image: ReadImage,
    release_image: ReleaseImage,
    progress: Progress | None = None,
) -> DataFiles:
    """Write ``<split>-NNNNN-of-NNNNN.parquet`` for every split of the config that has rows.

    The first variant of the pictures is written to ``data/``, each other one to its :func:`variant_folder`.
    Rows are ordered by a hash of their leak group, then by picture and id: a random-looking order
    that keeps the rows of one picture side by side. At most one row group of pictures is in memory.
    """
    rows = _rows(config, tables)
    has_images = rows["image_sha256"].is_not_null().any()
    schema = _schema(config, has_images)
    pictures = _Pictures(read_image, release_image, len(config.release.images) if has_images else 1)
    shards: dict[str, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    done = 0
    folders = variant_folders(config) if has_images else ["data"]
    for name in folders:
        (folder / name).mkdir(parents=True)
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
            for tables_of_group in _row_groups(part, schema, pictures, config.release.rows_per_row_group):
                for writer, group in zip(writers, tables_of_group, strict=True):
                    writer.write(group)
                done += tables_of_group[0].num_rows
                if progress is not None:
                    progress(done, rows.height)
        shards[split] = tuple(f"data/{name}" for name in writers[0].names)
        counts[split] = part.height
    if unknown := sorted(set(rows["split"].unique().to_list()) - set(config.split.ratios)):
        raise ValueError(f"items carry splits that split.ratios does not name: {unknown}")
    columns = {name: "image" if name == "image" else str(schema.field(name).type) for name in schema.names}
    return DataFiles(columns, shards, counts)


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


def _rows(config: DatasetConfig, tables: ReleaseTables) -> pl.DataFrame:
    """Every released row with where its picture is, in release order; no bytes yet."""
    places = (
        tables.images.select("image_ref", "location", pl.col("sha256").alias("scanned_sha256"))
        .filter(pl.col("image_ref").is_not_null())
        .unique("image_ref", keep="any")
    )
    items = tables.items.select(*released_columns(config), "image_ref").join(
        places, on="image_ref", how="left", maintain_order="left"
    )
    frame = items.drop("image_ref").collect()
    order = _hashes(frame["leak_group"])
    return frame.sort(order, pl.col("image_sha256"), pl.col("item_id"), nulls_last=True)


def _hashes(values: pl.Series) -> pl.Series:
    """64 bits of SHA-256 per value: the same order in every version of every library."""
    distinct = values.unique().sort()
    hashed = [
        pl.Series(
            [
                int.from_bytes(hashlib.sha256((value or "").encode()).digest()[:8], "big")
                for value in distinct.slice(start, 100_000)
            ],
            dtype=pl.UInt64,
        )
        for start in range(0, len(distinct), 100_000)
    ]
    if not hashed:
        return pl.Series("order", [], dtype=pl.UInt64)
    return values.replace_strict(distinct, pl.concat(hashed), return_dtype=pl.UInt64).alias("order")


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

    def get(self, sha256: str | None, location: str | None, item_id: str) -> list[dict[str, Any] | None]:
        """The ``image`` cell of a row in every variant: bytes and a file name, its checksum and extension."""
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
            released = self._release(data)
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


def _row_groups(
    rows: pl.DataFrame, schema: pa.Schema, pictures: _Pictures, size: int
) -> Iterator[list[pa.Table]]:
    """Arrow tables, one a variant, of at most ``size`` rows and about ``_ROW_GROUP_BYTES`` of pictures."""
    for batch in rows.iter_slices(size):
        cells: list[list[dict[str, Any] | None]] = []
        start, weight = 0, 0

        def tables(part: pl.DataFrame, cells: list[list[dict[str, Any] | None]]) -> list[pa.Table]:
            return [
                _table(part, [row[variant] for row in cells], schema) for variant in range(pictures.variants)
            ]

        for position, (sha256, location, item_id) in enumerate(
            batch.select("image_sha256", "location", "item_id").iter_rows()
        ):
            row = pictures.get(sha256, location, item_id)
            cost = sum(len(cell["bytes"]) for cell in row if cell)
            if cells and weight + cost > _ROW_GROUP_BYTES:
                yield tables(batch.slice(start, position - start), cells)
                start, weight, cells = position, 0, []
            cells.append(row)
            weight += cost
        yield tables(batch.slice(start), cells)


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

    def write(self, group: pa.Table) -> None:
        """Append a row group; a new shard begins where this one would pass the limit."""
        if self._open is not None and self._open[0].tell() + group.nbytes > self._limit:
            self._close()
        if self._open is None:
            stream = self._temporary(self._count).open("wb")
            self._open = (stream, _parquet_writer(stream, self._schema, **self._options))
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


def _parquet_writer(target: BinaryIO | Path, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
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


# -- other files ---------------------------------------------------------------------------


def _write_metadata(folder: Path, config: DatasetConfig, tables: ReleaseTables) -> None:
    """The tables without pictures, sorted by id."""
    metadata = folder / "metadata"
    metadata.mkdir()
    _write_table(metadata / "items.parquet", tables.items.select(released_columns(config)).sort("item_id"))
    _write_table(
        metadata / "removed.parquet",
        tables.removed.select(list(REMOVED)).sort("item_id", "stage", "reason", "detail", nulls_last=True),
    )
    _write_table(
        metadata / "references.parquet", tables.references.select(list(REFERENCES)).sort("item_id", "source")
    )
    _write_table(
        metadata / "decisions.parquet",
        tables.decisions.select(*DECISIONS, "state").sort("item_id", "decision", "value", nulls_last=True),
    )
    _write_table(
        metadata / "duplicate_pairs.parquet",
        tables.pairs.select(list(PAIRS)).sort("item_id", "other_item_id", "kind", "score"),
    )
    if tables.image_warnings is not None:
        released = tables.items.select("item_id")
        warnings = tables.image_warnings.join(released, on="item_id", how="semi")
        _write_table(
            metadata / "image_warnings.parquet",
            warnings.select(list(IMAGE_WARNINGS)).sort("item_id", "warning"),
        )


def _write_table(path: Path, frame: pl.LazyFrame) -> None:
    """A table of this size fits in memory: pictures are what does not."""
    table = _with_plain_strings(frame.collect().to_arrow())
    with _parquet_writer(path, table.schema) as writer:
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


def _write(folder: Path, path: str, content: str | bytes) -> None:
    data = content.encode("utf-8") if isinstance(content, str) else content
    _place(folder, path).write_bytes(data)


def _place(folder: Path, path: str) -> Path:
    """Where a file goes, its folder made. A path that leaves the release is a bug of the caller."""
    if not is_inside(path):
        raise ValueError(f"{path!r} leaves the release folder")
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
