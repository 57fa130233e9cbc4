"""The release folder: data files, metadata tables, documents and checksums.

Belongs here: bytes on disk, in the layout that docs describe. Does not belong here: the Parquet shards
with pictures (``shards.py``), what the documents say (``stages/release.py``, ``stages/croissant.py``), and
moving the folder into place (``adapters/store.py``).

The same input gives the same bytes: rows are in a fixed order, writers carry no time, and only
``provenance.json`` (and its line in ``SHA256SUMS``) may differ between two builds.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from dataset_pipeline.adapters.destinations import CHECKSUMS
from dataset_pipeline.adapters.packages import write_webdataset, write_zip
from dataset_pipeline.adapters.shards import (
    DataFiles,
    Progress,
    ReadImage,
    ReleaseImage,
    file_name,
    released_columns,
    write_data,
    write_table,
)
from dataset_pipeline.adapters.store import explained_os_errors, file_sha256, to_json
from dataset_pipeline.config import VERSION_PATTERN, DatasetConfig, is_inside, version_order
from dataset_pipeline.errors import ConfigError, OutsideWorldError
from dataset_pipeline.tables import (
    DECISIONS,
    IMAGE_WARNINGS,
    PAIRS,
    REFERENCES,
    REMOVED,
)

PROVENANCE: Final = "provenance.json"
CROISSANT: Final = "croissant.json"
RO_CRATE: Final = "ro-crate-metadata.json"
_ITEMS: Final = "metadata/items.parquet"
_REMOVED: Final = "metadata/removed.parquet"


@dataclass(frozen=True)
class ReleaseTables:
    """The tables a release is made of, as ``tables.py`` describes them."""

    items: pl.LazyFrame
    """SPLIT_ITEMS and one column per text."""
    images: pl.LazyFrame
    """IMAGES; only image_ref, location and sha256 are read, and faces where they are blurred."""
    removed: pl.LazyFrame
    pairs: pl.LazyFrame
    references: pl.LazyFrame
    """REFERENCES."""
    decisions: pl.LazyFrame
    """DECISIONS and state."""
    image_warnings: pl.LazyFrame | None = None
    """IMAGE_WARNINGS of cleaned items; None: pictures were not checked."""
    former_shards: pl.DataFrame | None = None
    """``shards.former_shards`` of the release before; None: there is none."""


@dataclass(frozen=True)
class ReleasedFile:
    """One file of the release."""

    path: str
    """POSIX, relative to the release folder."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ReleaseParts:
    """Everything of a release that is not computed here. Paths are relative POSIX paths."""

    reports: Mapping[str, Mapping[str, Any]]
    """Name -> ``reports/<name>.json``."""
    documents: Callable[[DataFiles], Mapping[str, str]]
    """Gives the documents (README.md, ...) once the data files are known."""
    croissant: Callable[[DataFiles, list[ReleasedFile]], Mapping[str, Any]]
    """Gives croissant.json once every file but itself, the checksums and the provenance is written."""
    ro_crate: Callable[[list[ReleasedFile]], Mapping[str, Any]]
    """Gives ro-crate-metadata.json, likewise, croissant.json included."""
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
    sample: Callable[[Path, DataFiles], None] | None = None
    """Writes a sample of the release, itself a release, into a folder of its own below the one it is given."""
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
        data = write_data(
            folder,
            config,
            tables.items,
            tables.images,
            tables.former_shards,
            read_image,
            release_image,
            progress,
        )
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
            write_table(path, frame.lazy())
        if parts.attributions is not None:
            parts.attributions.sink_csv(folder / "ATTRIBUTION.csv", line_terminator="\n", maintain_order=True)
        for name, text in sorted(parts.documents(data).items()):
            _write(folder, name, text)
        if parts.notebook is not None:
            _write(folder, "notebook/explore.ipynb", parts.notebook(folder))
        if parts.sample is not None:
            parts.sample(folder, data)
        if "webdataset" in config.release.formats:
            write_webdataset(folder, config, data)
        if "zip" in config.release.formats:
            write_zip(folder, config, data)
        files = list_files(folder)
        _write(folder, CROISSANT, to_json(parts.croissant(data, files)))
        files.append(_file(folder, CROISSANT))
        _write(folder, RO_CRATE, to_json(parts.ro_crate(files)))
        _write(folder, PROVENANCE, to_json(parts.provenance))
        files = sorted(
            [*files, _file(folder, RO_CRATE), _file(folder, PROVENANCE)], key=lambda file: file.path
        )
        _write(folder, CHECKSUMS, checksums(files))
    return files


def previous_release(releases: Path, version: str) -> Path | None:
    """The folder of the highest version below ``version``, by semantic versioning; None where there is none.

    What is released under the same version, by an earlier build of it, has no part in this.
    """
    lower = [
        place
        for place in (releases.iterdir() if releases.is_dir() else ())
        if re.fullmatch(VERSION_PATTERN, place.name)
        and version_order(place.name) < version_order(version)
        and (place / CHECKSUMS).is_file()
    ]
    return max(lower, key=lambda place: version_order(place.name), default=None)


@contextlib.contextmanager
def explained_release(release: Path, remedy: str = "move its folder away") -> Iterator[None]:
    """Raises ``OutsideWorldError`` where the tables of a release folder cannot be read."""
    with explained_os_errors(release):
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise OutsideWorldError(
                f"{release}: not the tables of a release ({str(error).splitlines()[0]})",
                hint=f"Restore that release, or {remedy}",
            ) from error


def released_splits(release: Path) -> pl.DataFrame:
    """item_id, split and fold (null where the release has none) of every item of a release folder.

    Raises ``OutsideWorldError`` where the folder does not hold them.
    """
    with explained_release(release, "build without it: split.keep: none"):
        frame = pl.scan_parquet(release / _ITEMS, glob=False)
        fold = pl.col("fold") if "fold" in frame.collect_schema() else pl.lit(None, pl.Int64).alias("fold")
        return frame.select("item_id", "split", fold).collect()


def released_duplicates(release: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Removed rows of a release folder, and item_id and image_sha256 of its items.

    Raises ``OutsideWorldError`` where the folder does not hold them.
    """
    with explained_release(release):
        return (
            pl.read_parquet(release / _REMOVED, glob=False),
            pl.read_parquet(release / _ITEMS, columns=["item_id", "image_sha256"], glob=False),
        )


def released_items(release: Path) -> pl.LazyFrame:
    """Every item of a release folder; read it inside :func:`explained_release`."""
    return pl.scan_parquet(release / _ITEMS, glob=False)


def changelog_of(release: Path) -> str:
    """CHANGELOG.md of a release folder; raises ``OutsideWorldError`` where there is none."""
    with explained_release(release):
        return (release / "CHANGELOG.md").read_text(encoding="utf-8", errors="replace")


def items_checksum(release: Path) -> str:
    """SHA-256 of the items of a release folder."""
    with explained_os_errors(release):
        return file_sha256(release / _ITEMS)


def list_checksum(release: Path) -> str:
    """SHA-256 of the list of checksums of a release folder, which stands for every file in it."""
    with explained_os_errors(release):
        return file_sha256(release / CHECKSUMS)


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


# -- other files ---------------------------------------------------------------------------


def _write_metadata(folder: Path, config: DatasetConfig, tables: ReleaseTables) -> None:
    """The tables without pictures, sorted by id."""
    metadata = folder / "metadata"
    metadata.mkdir()
    write_table(metadata / "items.parquet", tables.items.select(released_columns(config)).sort("item_id"))
    write_table(
        metadata / "removed.parquet",
        tables.removed.select(list(REMOVED)).sort("item_id", "stage", "reason", "detail", nulls_last=True),
    )
    write_table(
        metadata / "references.parquet", tables.references.select(list(REFERENCES)).sort("item_id", "source")
    )
    write_table(
        metadata / "decisions.parquet",
        tables.decisions.select(*DECISIONS, "state").sort("item_id", "decision", "value", nulls_last=True),
    )
    write_table(
        metadata / "duplicate_pairs.parquet",
        tables.pairs.select(list(PAIRS)).sort("item_id", "other_item_id", "kind", "score"),
    )
    if tables.image_warnings is not None:
        released = tables.items.select("item_id")
        warnings = tables.image_warnings.join(released, on="item_id", how="semi")
        write_table(
            metadata / "image_warnings.parquet",
            warnings.select(list(IMAGE_WARNINGS)).sort("item_id", "warning"),
        )


def metadata_table(release: Path, name: str) -> Path:
    """``metadata/<name>.parquet`` of a release folder; raises ``ConfigError`` where it is not there."""
    path = release / "metadata" / f"{name}.parquet"
    if not path.is_file():
        raise ConfigError(f"{release}: expected a release folder, found no metadata/{name}.parquet")
    return path


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
