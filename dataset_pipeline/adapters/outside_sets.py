"""Read the outside sets that the dataset must not overlap with: texts, hashes, embeddings, and where their pictures are.

Belongs here: files of ``decontaminate``. Does not belong here: matching (``stages/decontamination.py``).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_pipeline.adapters.cache import settings_version
from dataset_pipeline.adapters.sources import image_root, list_images, read_manifest, source_fingerprint
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import (
    Columns,
    DatasetConfig,
    OutsideEmbeddings,
    OutsideSet,
    Source,
    template_columns,
)
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.tables import OUTSIDE_LINES

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}")


def image_source(outside: OutsideSet, base: Path) -> Source | None:
    """The set's pictures as a source, so that they are listed and scanned like any others; None: it has none."""
    if outside.images is None:
        return None
    is_folder = (base / outside.images).is_dir()
    return Source(
        id=outside.name,
        path=outside.images,
        image_root=outside.image_root,
        columns=Columns(image=None if is_folder else outside.image_column),
        licence="NOASSERTION",  # nothing of it is released
        unlisted_images="report" if is_folder else "ignore",
    )


def faults(config: DatasetConfig, base: Path) -> Iterator[str]:
    """What a build could not read of the outside sets, a line each; pictures are listed, not decoded."""
    for outside in config.decontaminate:
        for read in (read_texts, read_hashes, require_images, read_embeddings):
            try:
                read(outside, base)
            except ConfigError as error:
                yield str(error)


def require_images(outside: OutsideSet, base: Path) -> None:
    """Raise ``ConfigError`` where the set's folder or manifest is missing, unreadable or without a picture."""
    source = image_source(outside, base)
    if source is None:
        return
    with _ErrorsOf(outside, "images"):
        manifest = read_manifest(source, base)
        if source.columns.image is not None:
            there = manifest.collect_schema().names()
            image = source.columns.image
            needed = [image] if image in there else template_columns(image) or [image]
            if missing := [name for name in needed if name not in there]:
                raise ConfigError(
                    f"{outside.images} has no column '{missing[0]}'",
                    hint=f"Its columns are {', '.join(there)}: name the one with pictures in image_column",
                )
            image_root(source, base)
        if list_images(source, base, manifest).is_empty():
            raise ConfigError(
                f"none of the pictures that {outside.images} names is there", hint=_AT_LEAST_ONE
            )


def read_texts(outside: OutsideSet, base: Path) -> pl.DataFrame:
    """OUTSIDE_LINES: the set's texts; of a .txt file every line that is not blank.

    Raises ``ConfigError`` for a file that is missing or unreadable, a column that it lacks, or no text at all.
    """
    if outside.texts is None:
        return pl.DataFrame(schema=dict(OUTSIDE_LINES))
    with _ErrorsOf(outside, "texts"):
        if outside.texts.endswith(".txt"):
            found = _lines(base / outside.texts, outside.name)
        else:
            source = Source(id=outside.name, path=outside.texts, licence="NOASSERTION")
            if (base / outside.texts).is_dir():
                raise ConfigError(f"{outside.texts} is a folder, expected a file such as texts.csv")
            found = _cells(read_manifest(source, base), outside)
        if found.is_empty():
            raise ConfigError(f"no text in {outside.texts}", hint=_AT_LEAST_ONE)
    return found


def read_hashes(outside: OutsideSet, base: Path) -> pl.DataFrame:
    """OUTSIDE_LINES: the set's hashes in lower case, one a line; what follows on a line names it, as sha256sum writes.

    Raises ``ConfigError`` for a file that is missing or empty, and for a line that starts with no hash.
    """
    if outside.hashes is None:
        return pl.DataFrame(schema=dict(OUTSIDE_LINES))
    with _ErrorsOf(outside, "hashes"):
        rows = []
        for _, line, text in _lines(base / outside.hashes, outside.name).iter_rows():
            value, _, name = text.strip().partition(" ")
            value = value.lower()
            if not _HASH.fullmatch(value):
                raise ConfigError(
                    f"{outside.hashes}: {line}: expected 64 hexadecimal digits (SHA-256) or 16 (pHash), "
                    f"found {len(value)} characters: '{value[:24]}{'…' * (len(value) > 24)}'"
                )
            rows.append((outside.name, name.strip(" *") or line, value))
        if not rows:
            raise ConfigError(f"no hash in {outside.hashes}", hint=_AT_LEAST_ONE)
    return pl.DataFrame(rows, schema=dict(OUTSIDE_LINES), orient="row")


def read_embeddings(outside: OutsideSet, base: Path) -> npt.NDArray[np.float32] | None:
    """The set's vectors, each of length 1, shape (vectors, dimensions), or None where it has none.

    Raises ``ConfigError`` for a file that is missing, unreadable or empty, that says of another model (key 'model' of a
    Parquet file's metadata), and for vectors of different lengths, of zeros, or that are not finite.
    """
    of = outside.embeddings
    if of is None:
        return None
    with _ErrorsOf(outside, "embeddings"):
        values = _npy(base / of.path) if of.path.endswith(".npy") else _parquet_vectors(base / of.path, of)
        if values.ndim != 2 or not values.size:
            raise ConfigError(
                f"{of.path} has shape {values.shape}, expected (vectors, dimensions)", hint=_AT_LEAST_ONE
            )
        lengths = np.linalg.norm(values, axis=1)
        if len(wrong := np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))):
            raise ConfigError(
                f"{of.path}: row {wrong[0] + 1} is zero or not finite, expected a vector with a direction"
            )
    return np.asarray(values / lengths[:, None], np.float32)


def _npy(path: Path) -> npt.NDArray[np.float32]:
    try:
        found = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from None
    if found.dtype.kind not in "fiu":
        raise ConfigError(f"{path.name} holds {found.dtype}, expected numbers")
    return np.asarray(found, np.float32)


def _parquet_vectors(path: Path, of: OutsideEmbeddings) -> npt.NDArray[np.float32]:
    """The column of vectors of a Parquet file."""
    try:
        file = pq.ParquetFile(path)
        known = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
        names = file.schema_arrow.names
        if known.get("model", of.model) != of.model:
            raise ConfigError(
                f"{of.path} says that {known['model']} made it, and embeddings.model is {of.model}"
            )
        if of.column not in names:
            raise ConfigError(
                f"{of.path} has no column '{of.column}'",
                hint=f"Its columns are {', '.join(names)}: name one in column",
            )
        column = pl.DataFrame(file.read([of.column]))[of.column]
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{of.path} cannot be read: {error}") from None
    if not isinstance(column.dtype, pl.List | pl.Array) or not column.dtype.inner.is_numeric():
        raise ConfigError(f"{of.path}: column '{of.column}' holds {column.dtype}, expected lists of numbers")
    lists = column.cast(pl.List(pl.Float32))
    sizes = lists.list.len().fill_null(0)
    if sizes.n_unique() > 1:
        raise ConfigError(
            f"{of.path}: vectors of {sizes.min()!r} to {sizes.max()!r} numbers, expected as many in all"
        )
    flat = lists.explode(empty_as_null=True, keep_nulls=True).fill_null(float("nan"))
    return np.asarray(flat.to_numpy().reshape(len(lists), -1 if len(lists) else 0), np.float32)


def fingerprints(config: DatasetConfig, base: Path) -> dict[str, str]:
    """Set -> hash of what its files hold; of pictures in files of their own, names, sizes and times of change."""
    found = {}
    for outside in config.decontaminate:
        hashes = []
        embeddings = outside.embeddings.path if outside.embeddings else None
        for key, path in (("texts", outside.texts), ("hashes", outside.hashes), ("embeddings", embeddings)):
            with _ErrorsOf(outside, key):
                hashes.append(None if path is None else file_sha256(base / path))
        source = image_source(outside, base)
        with _ErrorsOf(outside, "images"):
            pictures = None if source is None else source_fingerprint(source, base)
        found[f"decontaminate ({outside.name})"] = settings_version(hashes, pictures)
    return found


_AT_LEAST_ONE = "Expected at least one: a set that holds nothing protects nothing"


class _ErrorsOf:
    """Names the set and the key in what readers of sources complain of."""

    def __init__(self, outside: OutsideSet, key: str) -> None:
        self._source, self._key = f"source {outside.name}: ", f"decontaminate.{outside.name}.{key}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ConfigError):
            problem = error.message.removeprefix(self._source).removeprefix("path: ")
            raise ConfigError(f"{self._key}: {problem}", hint=error.hint) from None
        if isinstance(error, FileNotFoundError):
            raise ConfigError(f"{self._key}: no such file: {error.filename}") from None
        if isinstance(error, UnicodeDecodeError):
            raise ConfigError(f"{self._key}: not UTF-8 at byte {error.start}") from None
        if isinstance(error, OSError):
            raise ConfigError(f"{self._key}: {error.filename} cannot be read: {error.strerror}") from None


def _cells(manifest: pl.LazyFrame, outside: OutsideSet) -> pl.DataFrame:
    """OUTSIDE_LINES of the text columns of a manifest, row by row."""
    there = manifest.collect_schema().names()
    names = outside.text_columns or (tuple(there) if len(there) == 1 else ())
    if missing := [name for name in names if name not in there]:
        raise ConfigError(
            f"{outside.texts} has no column '{missing[0]}'",
            hint=f"Its columns are {', '.join(there)}: name those with texts in text_columns",
        )
    if not names:
        raise ConfigError(
            f"{outside.texts} has several columns: {', '.join(there)}",
            hint="Name those with texts in text_columns",
        )
    frame = manifest.select(names).collect()
    number = pl.int_range(1, pl.len() + 1).cast(pl.String)
    columns = [
        frame.select(
            set=pl.lit(outside.name, pl.String),
            name=pl.concat_str(pl.lit("row "), number, pl.lit("" if len(names) == 1 else f", {name}")),
            value=pl.col(name).cast(pl.String),
        )
        for name in names
    ]
    return pl.concat(columns).filter(pl.col("value").str.strip_chars() != "")


def _lines(path: Path, name: str) -> pl.DataFrame:
    """OUTSIDE_LINES: lines of a text file that are not blank, with their numbers from 1."""
    text = path.read_text(encoding="utf-8-sig")
    lines = [
        (name, f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()
    ]
    return pl.DataFrame(lines, schema=dict(OUTSIDE_LINES), orient="row")
