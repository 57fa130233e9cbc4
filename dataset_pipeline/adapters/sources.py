"""Reads what users have: csv, tsv, jsonl and Parquet manifests, folder trees, and image files.

Belongs here: files, encodings, paths that must not leave their root, and fingerprints. Does not
belong here: what a column means (``stages/raw.py``) and decoding pictures (``images.py``).
"""

import difflib
import hashlib
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

import polars as pl

from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import Source, is_inside, template_columns
from dataset_pipeline.errors import ConfigError, OutsideWorldError
from dataset_pipeline.tables import DECISIONS, IMAGE_BYTES_ROW, empty

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_MANIFEST_SUFFIXES = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": "", ".parquet": ""}
FILE_IDENTITY: Final = ("location", "size_bytes", "mtime_ns", "ctime_ns")
"""What the content of a file is taken to follow from until it is read again. The last is when its inode has changed: it
also tells a file that was replaced by one of equal size and time."""
_IDENTITY: Final = {"location": pl.String(), **dict.fromkeys(FILE_IDENTITY[1:], pl.Int64())}
FILES: Final = {"ref": pl.String(), **_IDENTITY}
MANIFEST_REF: Final = "//manifest/"
_LISTED = {
    "image_ref": pl.String(),
    **_IDENTITY,
    "problem": pl.String(),
    "problem_detail": pl.String(),
}

_Row = tuple[str, str, int, int, int, str | None, str | None]


def read_manifest(source: Source, base: Path) -> pl.LazyFrame:
    """All rows of a source, every column as text (image bytes excepted), in the order of its files.

    ``base``: the folder of ``dataset.yaml``, where relative paths start. A folder tree gives the
    columns ``item_id``, ``image`` (path below the folder) and ``label`` (the first folder's name).
    Raises ``ConfigError`` for what is missing, unreadable as its format, or empty of columns.
    """
    paths = _paths(source, base)
    if len(paths) == 1 and paths[0].is_dir():
        return _read_tree(source, paths[0])
    frames = [_read_file(source, path, number) for number, path in enumerate(paths)]
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal")


def list_images(source: Source, base: Path, manifest: pl.LazyFrame | None = None) -> pl.DataFrame:
    """Images of a source, sorted by reference: those below its image root, and those that rows name.

    ``manifest``: the source's rows; read here where they are needed and not given. A named file that is not there is
    left out: the row that names it says so later. Files outside the image root, also by a symbolic link, are never
    listed. With ``unlisted_images: ignore`` only named files are.
    """
    paths = _paths(source, base)
    is_tree = len(paths) == 1 and paths[0].is_dir()
    if is_tree:
        return _listed_files(source.id, image_root(source, base), set())  # its rows are its files
    manifest = read_manifest(source, base) if manifest is None else manifest
    if has_image_bytes(source, manifest):
        return _list_image_bytes(source, paths, manifest)
    if source.columns.image is None:
        return pl.DataFrame(schema=_LISTED)
    named = set(_named_files(source, manifest))
    return _listed_files(
        source.id, image_root(source, base), named, is_ignoring=source.unlisted_images == "ignore"
    )


def has_image_bytes(source: Source, manifest: pl.LazyFrame) -> bool:
    """Whether the pictures are in a column of the manifest, and not in files of their own."""
    return source.columns.image is not None and IMAGE_BYTES_ROW in manifest.collect_schema()


def list_files(source: Source, base: Path) -> pl.DataFrame:
    """``FILES`` that hold the source's rows and pictures, sorted by ``ref``, which for manifests begins with ``MANIFEST_REF``."""
    paths = [path for path in _paths(source, base) if path.is_file()]
    manifests = pl.DataFrame(
        [
            (f"{MANIFEST_REF}{number:06d}", str(path), *_identity(os.stat(path)))
            for number, path in enumerate(paths)
        ],
        schema=FILES,
        orient="row",
    )
    manifest = read_manifest(source, base) if paths else None
    if manifest is not None and has_image_bytes(source, manifest):
        return manifests
    listed = list_images(source, base, manifest)
    return pl.concat([manifests, listed.select(pl.col("image_ref").alias("ref"), *FILE_IDENTITY)]).sort("ref")


def _listed_files(source_id: str, root: Path, named: set[str], *, is_ignoring: bool = False) -> pl.DataFrame:
    """Images below ``root``, one system call a file: a million take seconds."""
    real_root = os.path.realpath(root)

    def rows() -> Iterator[_Row]:
        for name, path, stat, may_lead_out in _named(root, named) if is_ignoring else _walk(root, named):
            if stat is None or not S_ISREG(stat.st_mode):
                continue
            if may_lead_out and not os.path.realpath(path).startswith(real_root + os.sep):
                continue
            yield f"{source_id}/{name}", path, *_identity(stat), None, None

    return _listed(rows()).unique("image_ref").sort("image_ref")


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


_ROWS_AT_ONCE = 65_536


def _listed(rows: Iterator[_Row]) -> pl.DataFrame:
    """A table of rows that are never all there as objects of Python."""
    frames = [pl.DataFrame(schema=_LISTED)]
    while chunk := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        frames.append(pl.DataFrame(chunk, schema=_LISTED, orient="row"))
    return pl.concat(frames)


def read_image_bytes(location: str) -> bytes:
    """Bytes of one image; ``location`` comes from :func:`list_images`.

    Raises ``OSError`` where they cannot be read.
    """
    return next(read_images([location]))


def read_images(locations: list[str]) -> Iterator[bytes]:
    """Bytes of images, in the order given; neighbours in one Parquet file are read together."""
    cached_path, cached = "", pl.Series(dtype=pl.Binary)
    for location in locations:
        path, separator, row = location.partition("\0")
        if not separator:
            yield Path(path).read_bytes()
            continue
        column, number = row.split("\0")
        group = int(number) // _BYTES_WINDOW
        key = f"{path}\0{column}\0{group}"
        if key != cached_path:
            window = (
                pl.scan_parquet(path)
                .select(_image_bytes(path, column))
                .slice(group * _BYTES_WINDOW, _BYTES_WINDOW)
            )
            cached_path, cached = key, window.collect().to_series()
        yield cached[int(number) % _BYTES_WINDOW] or b""


def manifest_fingerprint(source: Source, base: Path) -> str:
    """Hash of what :func:`read_manifest` reads: the manifests' bytes, or the names below a folder."""
    digest = hashlib.sha256()
    for path in _paths(source, base):
        if path.is_dir():
            digest.update(repr([found[0] for found in _walk(path, set())]).encode())
            continue
        try:
            digest.update(bytes.fromhex(file_sha256(path)))
        except OSError as error:
            raise OutsideWorldError(f"source {source.id}: {path}: {error.strerror or error}") from None
    return digest.hexdigest()[:16]


def source_fingerprint(source: Source, base: Path) -> str:
    """Hash of every manifest's and image's name, size and times of change: no content is read.

    A file that was touched counts as changed; ``observation.py`` looks closer.
    """
    digest = hashlib.sha256()
    for row in list_files(source, base).iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()[:16]


_TAKEDOWN_KEYS: Final = ("item_id", "sha256", "url")


def read_takedowns(path: str | None, base: Path) -> pl.DataFrame | None:
    """The takedowns file: what is meant (``item_id``, ``sha256`` or ``url``), ``reason`` and ``date``; None: no file.

    Raises ``ConfigError`` where a row says of nothing what it means, or a ``sha256`` is none.
    """
    if path is None:
        return None
    frame = _read_beside("takedowns", path, base, ())
    if not set(_TAKEDOWN_KEYS) & set(frame.columns):
        raise ConfigError(
            f"takedowns: {base / path}: expected a column 'item_id', 'sha256' or 'url', found {frame.columns}"
        )
    wanted = frame.select(
        pl.col(c).cast(pl.String).str.strip_chars().replace("", None)
        if c in frame.columns
        else pl.lit(None, pl.String).alias(c)
        for c in (*_TAKEDOWN_KEYS, "reason", "date")
    )
    nameless = wanted.filter(pl.all_horizontal(pl.col(c).is_null() for c in _TAKEDOWN_KEYS)).height
    if nameless:
        raise ConfigError(f"takedowns: {base / path}: {nameless:,} rows have no item_id, sha256 or url")
    wrong = wanted.filter(~pl.col("sha256").str.contains(r"^[0-9a-fA-F]{64}$"))["sha256"].to_list()
    if wrong:
        raise ConfigError(
            f"takedowns: {base / path}: '{wrong[0]}' is no SHA-256: expected 64 hexadecimal digits"
        )
    return wanted


def read_decisions(path: str | None, base: Path) -> pl.DataFrame:
    """The decisions file as text, cells as they were before a spreadsheet saw them; no rows where there is no file.

    Raises ``ConfigError`` for a file that is not there or lacks a column.
    """
    if path is None:
        return empty(DECISIONS)
    needed = tuple(name for name in DECISIONS if name != "value")
    frame = _read_beside("decisions", path, base, needed)
    return frame.select(
        pl.col(c).cast(pl.String) if c in frame.columns else pl.lit(None, pl.String).alias(c)
        for c in DECISIONS
    )


def read_audit(path: str | None, base: Path) -> pl.DataFrame | None:
    """A filled-in audit sheet: ``item_id``, ``label`` and ``verdict``; None where there is none.

    An apostrophe that keeps a spreadsheet from reading a value as a formula is taken off again.
    """
    if path is None:
        return None
    frame = _read_beside("audit", path, base, ("item_id", "label", "verdict"))
    formula = pl.col("item_id", "label").str.replace(r"^'([\s]*[=+\-@＝＋－＠\t\r\n])", "$1")
    return frame.select("item_id", "label", "verdict").with_columns(formula)


_COMPARISON_COLUMNS: Final = ("dataset", "figure", "value", "source")


def read_comparison(path: str | None, base: Path) -> list[dict[str, Any]]:
    """Rows of the file of datasets to compare with; none where there is none."""
    return [] if path is None else _read_beside("comparison", path, base, _COMPARISON_COLUMNS).to_dicts()


def _read_beside(key: str, path: str, base: Path, columns: Sequence[str]) -> pl.DataFrame:
    """A table that a key of the configuration names, which has ``columns``."""
    if (base / path).is_dir():
        raise ConfigError(f"{key}: {base / path}: is a folder, expected a file such as {key}.csv")
    try:
        frame = read_manifest(Source(id=key, path=path, licence="CC0-1.0"), base).collect()
    except ConfigError as error:
        problem = error.message.removeprefix(f"source {key}: ").removeprefix("path: ")
        raise ConfigError(f"{key}: {problem}", hint=error.hint) from None
    for column in columns:
        if column not in frame.columns:
            raise ConfigError(f"{key}: {base / path}: expected a column '{column}', found {frame.columns}")
    return frame


# -- manifests -----------------------------------------------------------------------------

_BYTES_WINDOW = 256
"""Rows of image bytes that are read from a Parquet file at a time."""


def _paths(source: Source, base: Path) -> list[Path]:
    paths = []
    for given in source.paths:
        if "://" in given:
            raise ConfigError(
                f"source {source.id}: path: found {given}; remote sources cannot be read yet",
                hint="Download it and give the local path",
            )
        path = base / given
        if not path.exists():
            raise ConfigError(f"source {source.id}: path: no such file or folder: {path}{_near(path)}")
        paths.append(path)
    return paths


def _near(path: Path) -> str:
    """A hint at the entry of the same folder whose name is nearest."""
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    except OSError:
        return ""
    return f"; did you mean '{near[0]}'?" if near else ""


def _read_tree(source: Source, root: Path) -> pl.LazyFrame:
    names = [found[0] for found in _walk(root, set())]
    if not names:
        raise ConfigError(f"source {source.id}: {root}: no images found", hint="Expected a folder per class")
    return pl.LazyFrame(
        {"item_id": names, "image": names}, schema={"item_id": pl.String, "image": pl.String}
    ).with_columns(
        label=pl.when(pl.col("image").str.contains("/")).then(pl.col("image").str.split("/").list.first())
    )


def _read_file(source: Source, path: Path, number: int) -> pl.LazyFrame:
    suffix = path.suffix.lower()
    if suffix not in _MANIFEST_SUFFIXES or path.is_dir():
        raise ConfigError(
            f"source {source.id}: {path}: expected one of {', '.join(_MANIFEST_SUFFIXES)}"
            + (", found a folder among several paths" if path.is_dir() else "")
        )
    try:
        if suffix == ".parquet":
            return _read_parquet(source, path, number)
        text = _decoded(source, path)
        frame = (
            _parse_jsonl(source, path, text)
            if suffix in {".jsonl", ".ndjson"}
            else _parse_csv(source, path, text)
        )
    except OSError as error:
        raise OutsideWorldError(f"source {source.id}: {path}: {error.strerror or error}") from None
    if not frame.columns:
        raise ConfigError(f"source {source.id}: {path}: empty; expected a header and rows")
    return frame.lazy()


def _decoded(source: Source, path: Path) -> bytes:
    """The file as UTF-8 bytes without a byte order mark."""
    raw = path.read_bytes()
    try:
        text = raw.decode(source.encoding)
    except LookupError:
        raise ConfigError(
            f"source {source.id}: encoding: found '{source.encoding}', which is no known encoding"
        ) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"source {source.id}: {path}:{line}: byte {error.start} is not {source.encoding}",
            hint="Set the source's 'encoding' (often latin-1 or cp1252), or convert the file",
        ) from None
    return text.removeprefix("﻿").encode()


def _parse_csv(source: Source, path: Path, text: bytes) -> pl.DataFrame:
    if not text.strip():
        raise ConfigError(f"source {source.id}: {path}: empty; expected a header and rows")
    separator = _MANIFEST_SUFFIXES[path.suffix.lower()]
    try:
        frame = pl.read_csv(text, separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        where = _too_long_row(text, separator) or f": not valid {path.suffix[1:]}: {_first_line(error)}"
        raise ConfigError(
            f"source {source.id}: {path}{where}",
            hint="Every row needs as many cells as the header, with quotes around cells that hold separators",
        ) from None
    if twice := [name for name in frame.columns if "_duplicated_" in name]:
        raise ConfigError(f"source {source.id}: {path}: column names must be unique, found twice: {twice}")
    return frame


def _too_long_row(text: bytes, separator: str) -> str | None:
    """Line and length of the first row with more cells than the header."""
    import csv

    reader = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=separator)
    try:
        header = len(next(reader))
        for row in reader:
            if len(row) > header:
                return f":{reader.line_num}: found {len(row)} cells, expected {header}"
    except csv.Error:
        pass
    return None


def _parse_jsonl(source: Source, path: Path, text: bytes) -> pl.DataFrame:
    lines = [line for line in text.split(b"\n") if line.strip()]
    if not lines:
        raise ConfigError(f"source {source.id}: {path}: empty; expected one JSON object a line")
    try:
        frame = pl.read_ndjson(b"\n".join(lines), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(
            f"source {source.id}: {path}:{_broken_json_line(text)}: not a JSON object: {_first_line(error)}",
            hint="Expected one JSON object a line",
        ) from None
    return frame.select(_as_text(name, dtype) for name, dtype in frame.schema.items())


def _broken_json_line(text: bytes) -> int:
    import json

    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            try:
                if not isinstance(json.loads(line), dict):
                    return number
            except ValueError:
                return number
    return 1


def _read_parquet(source: Source, path: Path, number: int) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"source {source.id}: {path}: not a Parquet file: {_first_line(error)}") from None
    image = source.columns.image
    parts = []
    for name, dtype in schema.items():
        if dtype == pl.Binary or (isinstance(dtype, pl.Struct) and name == image):
            # Presence only: the bytes themselves are read when the picture is decoded.
            parts.append(pl.when(_image_bytes(str(path), name).is_not_null()).then(pl.lit(b"")).alias(name))
        else:
            parts.append(_as_text(name, dtype))
    rows = frame.select(parts)
    if (
        image is not None
        and image in schema
        and (schema[image] == pl.Binary or isinstance(schema[image], pl.Struct))
    ):
        rows = rows.with_row_index(IMAGE_BYTES_ROW).with_columns(
            pl.concat_str(pl.lit(f"#{number}:"), pl.col(IMAGE_BYTES_ROW).cast(pl.String)).alias(
                IMAGE_BYTES_ROW
            )
        )
    return rows


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, (pl.List, pl.Array)):
        return pl.col(name).cast(pl.List(pl.String)).list.join(" ").alias(name)
    if isinstance(dtype, pl.Struct):
        return pl.col(name).struct.json_encode().alias(name)
    return pl.col(name).cast(pl.String)


def _image_bytes(path: str, column: str) -> pl.Expr:
    """Bytes of a binary column, or of a ``struct{bytes, path}`` column as Hugging Face writes it."""
    dtype = pl.scan_parquet(path, glob=False).collect_schema()[column]
    if isinstance(dtype, pl.Struct):
        names = [field.name for field in dtype.fields]
        if "bytes" not in names:
            raise ConfigError(
                f"{path}: column '{column}': expected struct{{bytes, path}}, found fields {names}"
            )
        return pl.col(column).struct.field("bytes").alias(column)
    return pl.col(column)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


# -- images --------------------------------------------------------------------------------


def image_root(source: Source, base: Path) -> Path:
    """The folder that images may not leave. Raises ``ConfigError`` where it is not there."""
    path = _paths(source, base)[0]
    root = base / source.image_root if source.image_root else (path if path.is_dir() else path.parent)
    if not root.is_dir():
        raise ConfigError(f"source {source.id}: image_root: no such folder: {root}{_near(root)}")
    return root


def _named_files(source: Source, manifest: pl.LazyFrame) -> list[str]:
    """Image paths that rows name, as written; faulty ones included."""
    from_column = source.columns.image
    schema = manifest.collect_schema()
    if from_column is None:
        return []
    parts = template_columns(from_column)
    if from_column in schema or not parts:
        if from_column not in schema:
            return []  # said with all missing columns when the rows are read
        values = manifest.select(pl.col(from_column).cast(pl.String))
    elif all(part in schema for part in parts):
        template = from_column
        for part in parts:
            template = template.replace(f"{{{part}}}", "{}", 1)
        values = manifest.select(pl.format(template, *(pl.col(part).cast(pl.String) for part in parts)))
    else:
        return []
    return [v.replace("\\", "/") for v in values.collect().to_series().drop_nulls().unique().sort().to_list()]


_Found = tuple[str, str, os.stat_result | None, bool]


def _walk(root: Path, named: set[str]) -> Iterator[_Found]:
    """(path below root, file, its facts, whether it may be elsewhere) of images below ``root``: known suffixes, and whatever
    rows name.

    Hidden files and folders are left out, unless a row names them; linked folders are not entered. A dangling link, or
    a file that went away, has no facts: it is as good as not there.
    """
    pending = [("", str(root))]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if name not in named:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((f"{name}/", entry.path))
                        continue
                    if os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
                        continue
                try:
                    yield name, entry.path, entry.stat(), entry.is_symlink()
                except OSError:
                    yield name, entry.path, None, False


def _named(root: Path, named: set[str]) -> Iterator[_Found]:
    """The same of the files that rows name, and no others; folders on the way were not looked at, and may be links."""
    for name in sorted(named):
        if is_inside(name):
            path = str(root / name)
            try:
                yield name, path, os.stat(path), True
            except OSError:
                yield name, path, None, False


def _list_image_bytes(source: Source, paths: list[Path], manifest: pl.LazyFrame) -> pl.DataFrame:
    column = str(source.columns.image)
    places = manifest.filter(pl.col(column).is_not_null()).select(IMAGE_BYTES_ROW).collect().to_series()
    files = [(str(path), os.stat(path)) for path in paths]

    def rows() -> Iterator[_Row]:
        for place in places:
            number, row = place[1:].split(":")
            path, stat = files[int(number)]
            yield f"{source.id}/{place}", f"{path}\0{column}\0{row}", *_identity(stat), None, None

    return _listed(rows()).sort("image_ref")
