"""Read the outside sets that the dataset must not overlap with: texts, hashes, and where their pictures are.

Belongs here: files of ``decontaminate``. Does not belong here: matching (``stages/decontamination.py``).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters.cache import settings_version
from dataset_pipeline.adapters.sources import image_root, list_images, read_manifest, source_fingerprint
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import Columns, DatasetConfig, OutsideSet, Source, template_columns
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
        for read in (read_texts, read_hashes, require_images):
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


def fingerprints(config: DatasetConfig, base: Path) -> dict[str, str]:
    """Set -> hash of what its files hold; of pictures in files of their own, names, sizes and times of change."""
    found = {}
    for outside in config.decontaminate:
        hashes = []
        for key, path in (("texts", outside.texts), ("hashes", outside.hashes)):
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
