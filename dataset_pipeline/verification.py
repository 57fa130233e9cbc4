"""``dataset-pipeline verify RELEASE``: whether a release folder holds what it says; needs no config.

Belongs here: every test that anyone can repeat on the folder alone: checksums, layout, schema, ids,
counts, documents, and the leak test on the released pictures and texts. Does not belong here: tests
that need the sources. Nothing in the folder is executed or followed: links and paths that lead out
of it are findings and stay unread, and files that would fill the memory are not read.
"""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import TemplateError
from numpy.typing import NDArray

from dataset_pipeline.adapters import packages, shards
from dataset_pipeline.adapters.cache import code_version, settings_version
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import CleanImages, DatasetConfig, PiiImages, is_inside, yaml_texts
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import (
    croissant,
    datacite,
    gates,
    identity,
    leakage,
    remade,
    ro_crate,
    sample,
    scores,
    temporal,
)
from dataset_pipeline.stages.leak_groups import IMAGE_KINDS
from dataset_pipeline.stages.release import changes, quality_report
from dataset_pipeline.stages.similarity import text_chars, text_key
from dataset_pipeline.tables import (
    IMAGE_WARNINGS,
    IMAGES,
    PAIR_KINDS,
    PAIRS,
    REASONS,
    REASONS_OF_STAGES,
    RELEASED_ITEMS,
    RELEASED_WHERE_THERE,
    REMOVED,
    SPLIT_ITEMS,
    THUMBNAIL_SIDE_PX,
)

CHECKS: Final[Mapping[str, str]] = {
    "unsafe_path": "a link, a special file or a path that leads out of the release",
    "checksum": "a file is not what SHA256SUMS or croissant.json says",
    "file_missing": "a file that SHA256SUMS or the layout names is not there",
    "file_not_listed": "a file that SHA256SUMS does not name",
    "unreadable": "a file that cannot be read as what it should be",
    "schema": "a table lacks a column, or has one of another type",
    "shards": "shards are not numbered completely, or hold another split than their name says",
    "row_group": "a row group of pictures is over 100 MB or 1,000 rows, or has no page index, which viewers need",
    "duplicate_id": "two rows have one item id",
    "data_metadata_differ": "the shards and metadata/items.parquet disagree",
    "released_and_removed": "an item is both released and removed",
    "reason_unknown": "a removed row has a reason that is not documented, or that its stage does not give",
    "reference_unknown": "a row names an item that is not in the release",
    "group_crosses_splits": "a leak group or a duplicate group is in more than one split",
    "group_crosses_folds": "a leak group is in more than one fold",
    "pair_crosses_splits": "a duplicate pair is in two splits",
    "time_crosses_splits": "of splits in time, one holds what is later than the beginning of the next, or other dates than it says",
    "leak": "the same or nearly the same picture or text is in two splits",
    "picture": "a picture is missing, cannot be decoded, or its file name is no plain name",
    "picture_metadata": "a picture's file holds more than the picture: EXIF, GPS, XMP, comments, trailing bytes",
    "face": "a picture shows a face, in a release that says that they were blurred or removed",
    "variant": "a variant of the pictures is not described, larger than it says, or shows other pictures",
    "package": "tars or the zip do not hold the same items, values and pictures as the Parquet files",
    "sample": "the sample in mini/ is no good release, no part of this one, or larger than it says",
    "count": "a number in a report or a document is not what the tables give",
    "description": "croissant.json, ro-crate-metadata.json or datacite.json is wrong about the release, or two documents "
    "disagree about what it is",
    "prediction": "predictions name what the test split does not have, or do not give the scores that are reported",
}

LEAKAGE: Final = "reports/leakage.json"
SPLIT: Final = "reports/split.json"
REPORT: Final = "reports/report.html"
DIFF: Final = "reports/diff.json"
BASELINES: Final = "reports/baselines.json"

_MAX_DOCUMENT_BYTES: Final = 64 << 20
_MAX_ROW_GROUP_BYTES: Final = 2 << 30
"""Larger ones are not read."""
_GOOD_ROW_GROUP_BYTES: Final = 100_000_000
_GOOD_ROW_GROUP_ROWS: Final = 1000
_SCAN_BATCH: Final = 256
_EXAMPLES: Final = 3
_REQUIRED: Final = (
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "CHANGELOG.md",
    "datasheet.md",
    "croissant.json",
    "datacite.json",
    "ro-crate-metadata.json",
    "provenance.json",
    "metadata/items.parquet",
    "metadata/removed.parquet",
    "metadata/duplicate_pairs.parquet",
    "reports/quality.json",
    "SHA256SUMS",
)
_UNREADABLE: Final = (
    pa.ArrowException,
    pl.exceptions.PolarsError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)


@dataclass(frozen=True)
class Finding:
    """One fault: its check (a key of CHECKS), what was found, and where."""

    check: str
    detail: str
    path: str | None = None

    def __str__(self) -> str:
        where = f"{_shown(self.path)}: " if self.path else ""
        return f"{self.check}: {where}{self.detail}"


@dataclass(frozen=True)
class VerifyResult:
    """What was found, and how much was looked at."""

    findings: tuple[Finding, ...]
    """Faults; none: the release holds what it says."""
    warnings: tuple[str, ...]
    """What a good release would have beside: descriptions that the author left open."""
    facts: Mapping[str, int]
    """Files, items and pictures that were checked."""

    @property
    def is_good(self) -> bool:
        """Whether there is no fault."""
        return not self.findings


@dataclass
class _Release:
    """The folder while it is being verified."""

    folder: Path
    scratch: Path
    """An empty folder for the time of the verification."""
    files: set[str] = field(default_factory=set)
    """Regular files, POSIX paths: nothing else is ever opened."""
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    pictures: pl.DataFrame | None = None
    """item_id and released_sha256 of every row of ``data/``; None where that cannot be read."""
    admitted: dict[str, Any] = field(default_factory=dict)
    """The release's own leak report, where it keeps a published split although that leaks; else empty."""

    def report_leak(self, check: str, detail: str, path: str | None = None) -> None:
        """A fault, or a warning where the release says itself that its split leaks."""
        if self.admitted:
            self.warnings.append(str(Finding(check, detail, path)))
        else:
            self.report(check, detail, path)

    def report(self, check: str, detail: str, path: str | None = None) -> None:
        assert check in CHECKS, check
        self.findings.append(Finding(check, detail, path))

    def rules(self, text_names: tuple[str, ...]) -> DatasetConfig:
        """What counts as a leak in this release, as its report says; where that differs, a warning tells."""
        told: Any = {}
        with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
            if LEAKAGE in self.files and (self.folder / LEAKAGE).stat().st_size <= _MAX_DOCUMENT_BYTES:
                told = json.loads((self.folder / LEAKAGE).read_text(encoding="utf-8")).get("thresholds", {})
        default = _rules({}, text_names)
        try:
            found = _rules(told, text_names)
        except (ValueError, TypeError):
            self.report("unreadable", "its thresholds are no settings of a split", LEAKAGE)
            return default
        pairs = {
            "split.link": (found.split.link, default.split.link),
            "split.min_link_text_chars": (
                found.split.min_link_text_chars,
                default.split.min_link_text_chars,
            ),
            "duplicates.image": (found.duplicates.image, default.duplicates.image),
            "duplicates.text": (found.duplicates.text, default.duplicates.text),
        }
        differing = ", ".join(name for name, (own, usual) in pairs.items() if own != usual)
        warning = f"the leak test follows the release's own rules, which are not the defaults: {differing}"
        if differing and warning not in self.warnings:
            self.warnings.append(warning)
        return found

    def table(self, name: str) -> pl.DataFrame | None:
        return self.tables.get(name)

    def sha256(self, path: str) -> str:
        """Of a file's bytes, which are read once."""
        if path not in self.hashes:
            self.hashes[path] = file_sha256(self.folder / path)
        return self.hashes[path]

    def document(self, path: str) -> str | None:
        """A text of the release; None where it is missing, which is reported once elsewhere."""
        if path not in self.files:
            return None
        if (self.folder / path).stat().st_size > _MAX_DOCUMENT_BYTES:
            self.report("unreadable", f"larger than {_MAX_DOCUMENT_BYTES >> 20} MiB", path)
            return None
        try:
            return (self.folder / path).read_text(encoding="utf-8")
        except ValueError:
            self.report("unreadable", "not UTF-8", path)
            return None

    def json(self, path: str) -> dict[str, Any] | None:
        text = self.document(path)
        if text is None:
            return None
        try:
            loaded = json.loads(text)
        except (ValueError, RecursionError):
            self.report("unreadable", "not JSON", path)
            return None
        if not isinstance(loaded, dict):
            self.report("unreadable", "not a JSON object", path)
            return None
        return loaded


def verify(release: Path, progress: Callable[[str], None] | None = None) -> VerifyResult:
    """Check a release folder. ``progress`` gets the name of each step before it starts.

    Raises ``ConfigError`` where ``release`` is no folder or nothing like a release; every fault of the
    release itself is a finding.
    """
    if not release.is_dir():
        raise ConfigError(
            f"{release}: expected a release folder, found {'a file' if release.exists() else 'nothing'}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        return _verified(_Release(release, Path(scratch)), progress)


def _verified(state: _Release, progress: Callable[[str], None] | None) -> VerifyResult:
    steps: tuple[tuple[str, Callable[[_Release], None]], ...] = (
        ("files", _list_files),
        ("checksums", _check_checksums),
        ("tables", _read_tables),
        ("admitted leaks", _read_admitted_leaks),
        ("ids and reasons", _check_ids),
        ("image warnings", _check_warnings),
        ("splits and groups", _check_groups),
        ("splits in time", _check_time),
        ("shards and pictures", _check_data),
        ("faces", _check_faces),
        ("tars and zip", _check_packages),
        ("sample", _check_sample),
        ("reports and documents", _check_counts),
        ("changes", _check_changes),
        ("description", _check_croissant),
        ("other descriptions", _check_descriptions),
        ("documents made again", _check_remade),
        ("predictions", _check_predictions),
    )
    for name, step in steps:
        if progress is not None:
            progress(name)
        try:
            step(state)
        except _UNREADABLE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            state.report("unreadable", f"{name} could not be checked: {reason[:200]}")
        if name == "files" and not state.files & {"SHA256SUMS", "metadata/items.parquet"}:
            raise ConfigError(
                f"{state.folder}: expected a release folder, found neither SHA256SUMS nor metadata"
            )
    return VerifyResult(tuple(state.findings), tuple(state.warnings), dict(state.facts))


# -- files ---------------------------------------------------------------------------------


def _list_files(state: _Release) -> None:
    """Regular files below the folder; links and special files are faults and stay unread."""
    folders = [state.folder]
    while folders:
        for entry in sorted(folders.pop().iterdir()):
            path = entry.relative_to(state.folder).as_posix()
            if entry.is_symlink():
                state.report("unsafe_path", "a link; a release holds plain files only", path)
            elif entry.is_dir():
                folders.append(entry)
            elif entry.is_file():
                state.files.add(path)
            else:
                state.report("unsafe_path", "not a plain file", path)
    for path in _REQUIRED:
        if path not in state.files:
            state.report("file_missing", "the layout of a release needs it", path)
    state.facts["files"] = len(state.files)


def _check_checksums(state: _Release) -> None:
    text = state.document("SHA256SUMS")
    if text is None:
        return
    listed: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match is None:
            state.report("unreadable", f"line {number} is not a SHA-256 and a path", "SHA256SUMS")
        elif not is_inside(match[2]):
            state.report("unsafe_path", f"line {number} leads out of the release", "SHA256SUMS")
        else:
            listed[match[2]] = match[1]
    for path, checksum in sorted(listed.items()):
        if path not in state.files:
            if path not in _REQUIRED:
                state.report("file_missing", "named in SHA256SUMS", path)
        elif state.sha256(path) != checksum:
            state.report("checksum", "not what SHA256SUMS says", path)
    for path in sorted(state.files - listed.keys() - {"SHA256SUMS"}):
        state.report("file_not_listed", "not named in SHA256SUMS", path)


# -- tables --------------------------------------------------------------------------------


def _read_tables(state: _Release) -> None:
    """The metadata tables, where their schema is right."""
    expected: dict[str, dict[str, pl.DataType]] = {
        "items": dict.fromkeys(RELEASED_ITEMS, pl.String()),
        "removed": dict(REMOVED),
        "duplicate_pairs": dict(PAIRS),
    }
    for name, schema in expected.items():
        path = f"metadata/{name}.parquet"
        if path not in state.files:
            continue
        try:
            frame = pl.read_parquet(state.folder / path, glob=False)
        except _UNREADABLE:
            state.report("unreadable", "not a Parquet file", path)
            continue
        if name == "items":
            schema |= {column: RELEASED_WHERE_THERE.get(column, pl.String()) for column in frame.columns
                       if column not in schema}  # fmt: skip
        faults = [column for column, kind in schema.items() if frame.schema.get(column) != kind]
        faults += [column for column in frame.columns if column not in schema]
        if faults:
            state.report("schema", f"columns missing, unknown or of another type: {_some(faults)}", path)
            continue
        state.tables[name] = frame
    items = state.table("items")
    if items is not None:
        state.facts["items"] = items.height
        if items.is_empty():
            state.report("count", "no item is released", "metadata/items.parquet")


def _read_admitted_leaks(state: _Release) -> None:
    """Whether the release keeps a published split and says in its reports that it leaks."""
    told = state.json(LEAKAGE) or {}
    method = (state.json(SPLIT) or {}).get("method")
    pairs = told.get("cross_split_pairs")
    if told.get("is_accepted") is True and method == "published" and isinstance(pairs, int) and pairs > 0:
        state.admitted = told
        state.warnings.append(
            f"this release keeps a published split that leaks: {pairs:,} pairs cross splits ({_brief(told.get('by_kind'))})"
        )


def _check_ids(state: _Release) -> None:
    items, removed, pairs = (state.table(name) for name in ("items", "removed", "duplicate_pairs"))
    if items is None or removed is None or pairs is None:
        return
    released = items["item_id"]
    for name, frame in (("items", items), ("removed", removed)):
        twice = frame["item_id"].filter(frame["item_id"].is_duplicated()).unique()
        if len(twice):
            state.report("duplicate_id", f"{len(twice)} ids: {_some(twice)}", f"metadata/{name}.parquet")
        if frame["item_id"].null_count():
            state.report("duplicate_id", "rows without an id", f"metadata/{name}.parquet")
    both = removed.filter(pl.col("item_id").is_in(released.implode()))["item_id"]
    if len(both):
        state.report("released_and_removed", f"{len(both)} items: {_some(both)}")
    documented = [f"{stage}/{reason}" for stage, reasons in REASONS_OF_STAGES.items() for reason in reasons]
    code = pl.concat_str("stage", "reason", separator="/", ignore_nulls=True)
    odd = removed.filter(~code.is_in(documented))
    if odd.height:
        codes = odd.select(code).to_series()
        state.report(
            "reason_unknown", f"{odd.height} rows: {_some(codes.unique().sort())}", "metadata/removed.parquet"
        )
    known = pl.concat([released, removed["item_id"]])
    references = {
        "metadata/removed.parquet": removed["kept_item_id"].drop_nulls(),
        "metadata/duplicate_pairs.parquet": pl.concat([pairs["item_id"], pairs["other_item_id"]]),
    }
    for path, named in references.items():
        allowed = released if path == "metadata/removed.parquet" else known
        unknown = named.filter(~named.is_in(allowed.implode())).unique()
        if len(unknown):
            state.report("reference_unknown", f"{len(unknown)} ids: {_some(unknown)}", path)
    kinds = sorted(set(pairs["kind"].unique().drop_nulls()) - set(PAIR_KINDS))
    if kinds:
        state.report("reason_unknown", f"pair kinds {_some(kinds)}", "metadata/duplicate_pairs.parquet")


def _check_warnings(state: _Release) -> None:
    """Where pictures were checked: known warnings, of released items."""
    path = "metadata/image_warnings.parquet"
    items = state.table("items")
    if path not in state.files or items is None:
        return
    warnings = pl.read_parquet(state.folder / path, glob=False)
    if dict(warnings.schema) != dict(IMAGE_WARNINGS):
        state.report("schema", f"expected the columns {', '.join(IMAGE_WARNINGS)}, as texts", path)
        return
    unknown = warnings.filter(~pl.col("warning").is_in(list(REASONS)).fill_null(False))["warning"].unique()
    if len(unknown):
        state.report("reason_unknown", f"warnings {_some(unknown)}", path)
    lonely = warnings.join(items, on="item_id", how="anti")["item_id"].unique()
    if len(lonely):
        state.report("reference_unknown", f"{len(lonely)} ids: {_some(lonely)}", path)
    report = state.json("reports/images.json") if "reports/images.json" in state.files else None
    if report is not None:
        counted = dict(warnings.group_by("warning").len().rows())
        checks = report.get("checks")
        for entry in checks if isinstance(checks, list) else []:
            if entry["released"] != counted.get(entry["reason"], 0):
                found = f"{entry['reason']} is {entry['released']}, the table gives {counted.get(entry['reason'], 0)}"
                state.report("count", found, "reports/images.json")


def _check_groups(state: _Release) -> None:
    items, pairs = state.table("items"), state.table("duplicate_pairs")
    if items is None:
        return
    names = _text_names(items)
    split_rules = state.rules(names).split
    # Chains of pairs that need not stay together may cross.
    links_all = {"image", "text"} <= set(split_rules.link) and split_rules.min_link_text_chars == 1
    for column in ("leak_group", "duplicate_group") if links_all else ("leak_group",):
        crossing = (
            items.filter(pl.col(column).is_not_null())
            .group_by(column)
            .agg(pl.col("split").n_unique().alias("splits"))
            .filter(pl.col("splits") > 1)[column]
        )
        if len(crossing):
            state.report_leak("group_crosses_splits", f"{column}: {len(crossing)} groups: {_some(crossing)}")
    if "fold" in items.columns:
        cut = (
            items.group_by("leak_group")
            .agg(pl.col("fold").n_unique())
            .filter(pl.col("fold") > 1)["leak_group"]
        )
        if len(cut):
            state.report("group_crosses_folds", f"{len(cut)} groups: {_some(cut)}")
        if items["fold"].null_count():
            state.report(
                "schema", f"{items['fold'].null_count()} items have no fold", "metadata/items.parquet"
            )
    for column in ("split", "leak_group"):
        if items[column].null_count():
            state.report(
                "schema", f"{items[column].null_count()} items have no {column}", "metadata/items.parquet"
            )
    if pairs is not None:
        split = items.select("item_id", "split", chars=text_chars(text_key(names)).fill_null(0))
        longer, shorter = (f("chars", "chars_other") for f in (pl.max_horizontal, pl.min_horizontal))
        minimum = split_rules.min_link_text_chars
        is_linked = (
            (pl.col("kind").is_in(IMAGE_KINDS) & ("image" in split_rules.link))
            | ((pl.col("kind") == "same_text") & (longer >= minimum) & ("text" in split_rules.link))
            | ((pl.col("kind") == "near_text") & (shorter >= minimum) & ("text" in split_rules.link))
        )
        crossing_pairs = (
            pairs.join(split, on="item_id")
            .join(split, left_on="other_item_id", right_on="item_id", suffix="_other")
            .filter((pl.col("split") != pl.col("split_other")) & is_linked)
        )
        if crossing_pairs.height:
            first = crossing_pairs.select(
                pl.concat_str("item_id", "other_item_id", separator=" / ")
            ).to_series()
            state.report_leak("pair_crosses_splits", f"{crossing_pairs.height} pairs: {_some(first)}")


def _check_time(state: _Release) -> None:
    """Where the split is one in time: the order of its splits, and the periods that the report gives them."""
    items, told = state.table("items"), state.json(SPLIT)
    if items is None or told is None or told.get("method") != "temporal":
        return
    periods = told.get("periods")
    names = (
        [str(row.get("split")) for row in periods if isinstance(row, dict)]
        if isinstance(periods, list)
        else []
    )
    if not isinstance(periods, list) or len(names) < len(periods) or not names:
        state.report("unreadable", "a split in time needs a list of periods", SPLIT)
        return
    if "date" not in items.columns:
        state.report("schema", "a split in time needs the column date", "metadata/items.parquet")
        return
    unknown = items["split"].filter(~items["split"].is_in(names)).unique()
    if len(unknown):
        state.report("time_crosses_splits", f"no period is given of {_some(unknown)}", SPLIT)
        return
    ordered = gates.time_ordered(items.lazy(), names)
    if not ordered.is_passed:
        examples = _some(ordered.examples["item_id"]) if ordered.examples is not None else ""
        state.report("time_crosses_splits", f"{ordered.summary}: {examples}", "metadata/items.parquet")
        return  # periods of splits without an order say nothing
    for row, found in zip(periods, temporal.periods_of(items, names).to_dicts(), strict=True):
        if differing := [name for name, value in found.items() if row.get(name) != value]:
            name = differing[0]
            state.report(
                "time_crosses_splits",
                f"{_shown(found['split'])}: {name} is {_brief(row.get(name))}, the dates give {_brief(found[name])}",
                SPLIT,
            )


# -- shards --------------------------------------------------------------------------------


def _check_data(state: _Release) -> None:
    """Read every shard once: numbering, schema, rows against the metadata, pictures, leaks."""
    items = state.table("items")
    shards = _shards(state)
    if items is None or not shards:
        if not shards:
            state.report("file_missing", "no shard data/<split>-NNNNN-of-NNNNN.parquet", "data")
        return
    data, scanned = _read_shards(state, shards, list(items.columns))
    if data is None:
        return
    _compare_with_metadata(state, data.drop("released_sha256"), items.select(data.columns[:-1]), "shards")
    state.pictures = data.select("item_id", "released_sha256")
    state.facts["pictures"] = 0 if scanned is None else _height(scanned)
    _check_leaks(state, data, scanned, _text_names(items))
    _check_variants(state, items, data, scanned)


def _read_shards(
    state: _Release, shards: list[tuple[str, str]], columns: list[str]
) -> tuple[pl.DataFrame | None, pl.LazyFrame | None]:
    """(rows with ``columns`` and the checksum of their released picture, scans of the different pictures).

    The scans lie in files: thumbnails of a million pictures are 3 GB.
    """
    parts: list[pl.DataFrame] = []
    scans: list[Path] = []
    seen: set[str] = set()
    for path, split in shards:
        file = pq.ParquetFile(state.folder / path)
        names = file.schema_arrow.names
        wanted = [*columns, "image"] if "image" in names else columns
        if sorted(names) != sorted(wanted):
            state.report(
                "schema",
                f"columns differ from metadata/items.parquet: {_some(set(names) ^ set(wanted))}",
                path,
            )
            continue
        rows, pictures = _read_shard(state, file, path, columns, seen)
        parts.extend(rows)
        if pictures:
            scans.append(state.scratch / f"{path.replace('/', '-')}")
            pl.concat(pictures).write_parquet(scans[-1])
        other = {value for part in rows for value in part["split"].unique() if value != split}
        if other:
            state.report("shards", f"holds rows of split {_some(other)}", path)
    return pl.concat(parts) if parts else None, pl.scan_parquet(scans, glob=False) if scans else None


def _height(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _text_names(items: pl.DataFrame) -> tuple[str, ...]:
    """Columns of the texts: those that are nothing else."""
    return tuple(name for name in items.columns if name not in {*RELEASED_ITEMS, *RELEASED_WHERE_THERE})


def _check_variants(
    state: _Release, items: pl.DataFrame, data: pl.DataFrame, scanned: pl.LazyFrame | None
) -> None:
    """Other resolutions: the same rows, no larger than described, and the pictures of ``data``."""
    there = {path.split("/")[1] for path in state.files if path.startswith("variants/")}
    report = state.json("reports/images.json") if "reports/images.json" in state.files else None
    told = report.get("variants") if report is not None else None
    described = {
        str(entry["folder"]).removeprefix("variants/"): entry.get("max_side_px")
        for entry in (told if isinstance(told, list) else [])
        if isinstance(entry, dict) and str(entry.get("folder", "")).startswith("variants/")
    }
    for name in sorted(there ^ described.keys()) if scanned is not None else []:
        fault = "not described in reports/images.json" if name in there else "described, but not there"
        state.report("variant", fault, f"variants/{name}")
    for name in sorted(there & described.keys()):
        folder = f"variants/{name}"
        rows, pictures = _read_shards(state, _shards(state, folder), data.columns[:-1])
        if rows is None or pictures is None or scanned is None:
            state.report("variant", "holds no pictures", folder)
            continue
        _compare_with_metadata(state, rows.drop("released_sha256"), items.select(data.columns[:-1]), folder)
        state.facts["pictures"] += _height(pictures)
        limit = described[name]
        if isinstance(limit, int):
            is_large = pl.max_horizontal("width_px", "height_px") > limit
            large = pictures.filter(is_large).select("image_ref").collect()
            if large.height:
                found = (
                    f"{large.height} pictures have a side over {limit} pixels: {_some(large['image_ref'])}"
                )
                state.report("variant", found, folder)
        thumbnail = [pl.col("image_ref").alias("released_sha256"), "thumbnail"]
        both = (
            data.lazy()
            .select("item_id", "released_sha256")
            .join(scanned.select(thumbnail), on="released_sha256")
            .select("item_id", main="thumbnail")
            .join(rows.lazy().select("item_id", "released_sha256"), on="item_id")
            .join(pictures.select(thumbnail), on="released_sha256")
        )
        far = [
            row["item_id"]
            for part in both.collect_batches(chunk_size=10_000)
            for row in part.filter(
                pl.Series(_differences(part["main"], part["thumbnail"])) > _MAX_VARIANT_DIFFERENCE
            ).iter_rows(named=True)
        ]
        if far:
            found = f"{len(far)} items show another picture than in data/: {_some(far)}"
            state.report("variant", found, folder)


_MAX_VARIANT_DIFFERENCE: Final = 32.0
"""Mean grey levels in which a quarter of a picture may differ between two resolutions of it."""


def _differences(first: pl.Series, second: pl.Series) -> NDArray[np.float64]:
    """Largest difference of two thumbnails' quarters (4 x 4), per row: what no change of resolution makes."""
    side = THUMBNAIL_SIDE_PX
    blocks = [
        np.frombuffer(b"".join(column), np.uint8).reshape(-1, 4, side // 4, 4, side // 4, 3).mean((2, 4))
        for column in (first, second)
    ]
    largest: NDArray[np.float64] = np.abs(blocks[0] - blocks[1]).max((1, 2, 3), initial=0.0)
    return largest


PERSONAL_DATA: Final = "reports/pii.json"
_FACES_LOOKED_FOR: Final = 200
"""Pictures: some seconds of work, whatever the size of the release."""
_UNSAFE_TO_OPEN: Final = frozenset({"picture", "row_group", "schema", "unreadable"})
_SURE_FACE: Final = 0.99
"""Score from which patterns are no longer taken for faces (docs/quality/faces.md): a release may be scaled down, and
what is found in it differs a little from what was found in the sources."""


def _check_faces(state: _Release) -> None:
    """Where faces were blurred or removed, and the detector is installed: a part of the pictures, the blurred ones first."""
    from dataset_pipeline.adapters import face_detector
    from dataset_pipeline.stages.faces import REMOVING

    items = state.table("items")
    report = state.json(PERSONAL_DATA) if PERSONAL_DATA in state.files else None
    told = (report or {}).get("images")
    if not isinstance(told, dict) or told.get("action") not in ("blur", *REMOVING):
        return
    if items is None or state.pictures is None or {f.check for f in state.findings} & _UNSAFE_TO_OPEN:
        return
    names = ("min_score", "min_side_px", "max_side_px")
    settings = PiiImages.model_validate({"faces": told["action"], **{name: told[name] for name in names}})
    if face_detector.missing(settings):
        state.warnings.append(
            "it says that faces were looked for in its pictures; they were not looked for again here, as the extra "
            "'faces' is not installed: pip install 'dataset-pipeline[faces]'"
        )
        return
    warned = pl.DataFrame(schema=dict(IMAGE_WARNINGS))
    with contextlib.suppress(*_UNREADABLE):  # reported where it is checked
        warned = pl.read_parquet(state.folder / "metadata/image_warnings.parquet", glob=False)
    shown = warned.filter(pl.col("warning") == "image_faces").select("item_id")
    with_picture = items.filter(pl.col("image_sha256").is_not_null())
    # Removed unless a person kept them: of these it is known that they show a face.
    blurred = (
        with_picture.join(shown, on="item_id", how="semi") if settings.faces == "blur" else items.clear()
    )
    others = with_picture.join(shown, on="item_id", how="anti")
    wanted = [name for part in (blurred, others) for name in part["image_sha256"].unique().sort()]
    largest = min(settings.max_side_px, PiiImages().max_side_px)  # what a stranger asks for is not paid for
    found, searched = face_detector.surest_faces(
        state.folder, set(wanted[:_FACES_LOOKED_FOR]), settings.model_copy(update={"max_side_px": largest})
    )
    state.facts["pictures for faces"] = searched
    sure = found.filter(pl.col("score") >= max(settings.min_score, _SURE_FACE))
    if sure.height:
        state.report(
            "face", f"{sure.height} of {searched} pictures that were looked at: {_some(sure['item_id'])}"
        )


def _shards(state: _Release, folder: str = "data") -> list[tuple[str, str]]:
    """(path, split) of every shard of a folder, sorted; the numbering is checked."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for path in sorted(path for path in state.files if path.startswith(f"{folder}/")):
        match = re.fullmatch(re.escape(folder) + r"/([a-z0-9][a-z0-9._-]*)-(\d{5})-of-(\d{5})\.parquet", path)
        if match is None:
            state.report("shards", "not named <split>-NNNNN-of-NNNNN.parquet", path)
        else:
            found.setdefault(match[1], []).append((int(match[2]), int(match[3]), path))
    for split, numbered in found.items():
        if [number for number, _, _ in numbered] != list(range(len(numbered))) or {
            total for _, total, _ in numbered
        } != {len(numbered)}:
            state.report("shards", f"split {split!r}: numbers are not complete", numbered[0][2])
    return [(path, split) for split, numbered in sorted(found.items()) for _, _, path in numbered]


def _read_shard(
    state: _Release, file: pq.ParquetFile, path: str, columns: list[str], seen: set[str]
) -> tuple[list[pl.DataFrame], list[pl.DataFrame]]:
    """Rows with the checksum of their released picture, and scans of pictures not ``seen`` before."""
    rows: list[pl.DataFrame] = []
    scans: list[pl.DataFrame] = []
    has_images = "image" in file.schema_arrow.names
    if has_images:
        _check_row_groups(state, file.metadata, path)
    waiting: dict[str, bytes] = {}
    for number in range(file.num_row_groups):
        if file.metadata.row_group(number).total_byte_size > _MAX_ROW_GROUP_BYTES:
            state.report("unreadable", f"row group {number} is over {_MAX_ROW_GROUP_BYTES >> 30} GiB", path)
            continue
        table = file.read_row_group(number)
        frame = pl.DataFrame(pl.from_arrow(table.select(columns)))
        checksums: list[str | None] = [None] * table.num_rows
        if has_images:
            for position, cell in enumerate(table.column("image")):
                data, name = _picture(cell)
                identifier = frame["item_id"][position]
                if data is None:
                    if frame["image_sha256"][position] is not None:
                        state.report("picture", f"item {_shown(identifier)} has none", path)
                    continue
                if not _is_plain_name(name):
                    state.report("picture", f"item {_shown(identifier)}: file name {_shown(name)}", path)
                checksums[position] = hashlib.sha256(data).hexdigest()
                if checksums[position] not in seen:
                    seen.add(str(checksums[position]))
                    waiting[str(checksums[position])] = data
        rows.append(frame.with_columns(pl.Series("released_sha256", checksums, dtype=pl.String)))
        if len(waiting) >= _SCAN_BATCH:
            scans.append(_scan(state, waiting, path))
            waiting = {}
    if waiting:
        scans.append(_scan(state, waiting, path))
    return rows, scans


def _check_row_groups(state: _Release, metadata: pq.FileMetaData, path: str) -> None:
    """Whether a viewer can show single rows without reading too much. One picture may have any size."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    large = [
        group
        for group in groups
        if (group.total_byte_size > _GOOD_ROW_GROUP_BYTES and group.num_rows > 1)
        or group.num_rows > _GOOD_ROW_GROUP_ROWS
    ]
    if large:
        most = max(group.total_byte_size for group in large)
        rows = max(group.num_rows for group in large)
        state.report(
            "row_group",
            f"{len(large)} of {len(groups)} row groups are too large: up to {rows:,} rows, {most / 1e6:,.1f} MB; "
            f"expected at most {_GOOD_ROW_GROUP_ROWS:,} rows and {_GOOD_ROW_GROUP_BYTES / 1e6:,.0f} MB",
            path,
        )
    if not all(
        group.column(place).has_offset_index for group in groups for place in range(group.num_columns)
    ):
        state.report("row_group", "has no page index", path)


def _picture(cell: Any) -> tuple[bytes | None, str | None]:
    """Bytes and file name of an ``image`` cell."""
    value = cell.as_py()
    if not isinstance(value, dict) or not isinstance(value.get("bytes"), bytes):
        return None, None
    name = value.get("path")
    return value["bytes"], name if isinstance(name, str) else None


def _is_plain_name(name: str | None) -> bool:
    return name is not None and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}", name) is not None


def _scan(state: _Release, pictures: Mapping[str, bytes], path: str) -> pl.DataFrame:
    """IMAGES rows of released pictures, by the checksum of their bytes; their faults are reported."""
    from dataset_pipeline.adapters import images
    from dataset_pipeline.adapters.released_images import metadata_in

    rows = [
        {
            **images.scan_image(data, CleanImages(), is_measured=False),
            "sha256": checksum,
            "image_ref": checksum,
        }
        for checksum, data in pictures.items()
    ]
    schema = {name: IMAGES[name] for name in IMAGES if name != "location"}
    scanned = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    broken = scanned.filter(pl.col("problem").is_not_null())
    if broken.height:
        reasons = _some(broken["problem"].unique())
        state.report("picture", f"{broken.height} pictures cannot be decoded: {reasons}", path)
    told = {checksum: found for checksum, data in pictures.items() if (found := metadata_in(data))}
    if told:
        kinds = _some({kind for found in told.values() for kind in found})
        state.report("picture_metadata", f"{len(told)} pictures, such as {_some(list(told))}: {kinds}", path)
    return scanned.filter(pl.col("problem").is_null())


def _compare_with_metadata(
    state: _Release,
    data: pl.DataFrame,
    items: pl.DataFrame,
    where: str,
    check: str = "data_metadata_differ",
) -> None:
    """The same rows with the same values, in any order."""
    if data.height != items.height:
        state.report(check, f"{data.height} rows in {where}, {items.height} in metadata/items.parquet")
    left, right = data.sort("item_id"), items.sort("item_id")
    only = pl.concat([left["item_id"], right["item_id"]])
    lonely = only.filter(
        ~only.is_in(left["item_id"].implode()) | ~only.is_in(right["item_id"].implode())
    ).unique()
    if len(lonely):
        state.report(check, f"{len(lonely)} ids are in one only: {_some(lonely)}")
        return
    if left.height != right.height:
        return
    for column in items.columns:
        differing = left["item_id"].filter(left[column].ne_missing(right[column]))
        if len(differing):
            state.report(check, f"{column}: {len(differing)} items: {_some(differing)}")


def _check_packages(state: _Release) -> None:
    """WebDataset tars and the zip, where there are any: the same items, values and pictures as in ``data/``."""
    items = state.table("items")
    if items is None or state.pictures is None:
        return
    expected = items.join(state.pictures.unique("item_id"), on="item_id", how="left")
    paths = sorted(path for path in state.files if path.startswith("webdataset/"))
    if paths:
        names = items["label"].drop_nulls().unique().sort().to_list()
        classes = {name: number for number, name in enumerate(names)}
        rows: list[dict[str, Any]] = []
        shards: dict[str, list[dict[str, Any]]] = {}
        for path in paths:
            match = re.fullmatch(r"webdataset/([a-z0-9][a-z0-9._-]*)-\d{5}\.tar", path)
            if match is not None:
                found = packages.read_tar(state.folder / path, _text_names(items), classes)
                for fault in found.faults[:_EXAMPLES]:
                    state.report("package", _shown(fault), path)
                other = {str(row.get("split")) for row in found.rows} - {match[1]}
                if other:
                    state.report("package", f"holds rows of split {_some(other)}", path)
                shards.setdefault(match[1], []).append({"name": Path(path).name, "items": len(found.rows)})
                rows.extend(found.rows)
            elif path != packages.WEBDATASET_INDEX:
                state.report("package", "not named <split>-NNNNN.tar", path)
        _compare_package(state, rows, expected, "webdataset")
        if state.json(packages.WEBDATASET_INDEX) != {"classes": names, "shards": shards}:
            state.report(
                "package",
                "does not list the classes, and the tars with their items",
                packages.WEBDATASET_INDEX,
            )
    for path in sorted(path for path in state.files if re.fullmatch(r"[^/]+\.zip", path)):
        found = packages.read_zip(state.folder / path, state.folder)
        for fault in found.faults[:_EXAMPLES]:
            state.report("package", _shown(fault), path)
        if not found.faults:
            _compare_package(state, found.rows, expected, path)


def _check_sample(state: _Release) -> None:
    """The sample, where there is one: a good release by itself, with every class and split, and a part of this one."""
    files = {path for path in state.files if path.startswith(f"{sample.FOLDER}/")}
    items = state.table("items")
    if not files or items is None or state.pictures is None:
        return
    nested = f"{sample.FOLDER}/{sample.FOLDER}/"
    if any(path.startswith(nested) for path in files):  # however deep they go, one is said of them
        state.report("sample", "a sample of a sample; expected none", nested)
        return
    whole, part = state.folder, _Release(state.folder / sample.FOLDER, state.scratch / sample.FOLDER)
    part.scratch.mkdir()
    try:
        result = verify(part.folder)
    except ConfigError as error:
        state.report("sample", _shown(error), sample.FOLDER)
        return
    for finding in result.findings:
        state.report("sample", str(finding), sample.FOLDER)
    if result.findings:
        return
    _list_files(part)
    _read_tables(part)
    rows, _ = _read_shards(part, _shards(part), items.columns)
    if rows is None:
        return
    expected = items.join(state.pictures, on="item_id").join(rows.select("item_id"), on="item_id", how="semi")
    _compare_with_metadata(state, rows, expected.select(rows.columns), sample.FOLDER, "sample")
    for column in ("label", "split"):
        missing = set(items[column].drop_nulls()) - set(rows[column])
        if missing:
            state.report("sample", f"has no item of the {column} {_some(missing)}", sample.FOLDER)
    told = (part.json("reports/quality.json") or {}).get("sample")
    share = told.get("share_of_size") if isinstance(told, dict) else None
    if not isinstance(share, float):
        state.report("sample", "does not say how large it is", f"{sample.FOLDER}/reports/quality.json")
        return
    paths = [path for path in files if path.startswith(f"{sample.FOLDER}/data/")]
    size = sum((whole / path).stat().st_size for path in paths)
    of = sum((whole / path).stat().st_size for path in state.files if path.startswith("data/"))
    allowed = max(share, sample.LARGEST_SHARE) * of + _FILE_BYTES * len(paths)
    if size > allowed:
        state.report(
            "sample", f"its data takes {size / of:.1%} of the size, and it says {share:.1%}", sample.FOLDER
        )


_FILE_BYTES: Final = 64 << 10
"""What a small Parquet file may hold beside pictures and texts: schema, footer, dictionaries."""


def _compare_package(state: _Release, rows: list[dict[str, Any]], expected: pl.DataFrame, where: str) -> None:
    odd = {name for row in rows for name in row.keys() ^ set(expected.columns)}
    if odd:
        state.report("package", f"columns differ from metadata/items.parquet: {_some(odd)}", where)
        return
    kinds = {name: int if kind.is_integer() else str for name, kind in expected.schema.items()}
    # Polars would take the number 7 for the text "7", and true for 1.
    typed = {(name, type(value)) for row in rows for name, value in row.items() if value is not None}
    if mistyped := {name for name, kind in typed if kind is not kinds[name]}:
        told = f"values of other types than in metadata/items.parquet: {_some(mistyped)}"
        state.report("package", told, where)
        return
    try:
        frame = pl.DataFrame(rows, schema=expected.schema)
    except (*_UNREADABLE, OverflowError):
        state.report("package", "values that metadata/items.parquet could not hold", where)
        return
    _compare_with_metadata(state, frame, expected, where, "package")


def _check_leaks(
    state: _Release, data: pl.DataFrame, pictures: pl.LazyFrame | None, text_names: tuple[str, ...]
) -> None:
    """The leak test on what is released: pixels and texts are compared anew, across splits."""
    found = leakage.audit_leakage(
        _audit_inputs(data, text_names).lazy(),
        pl.LazyFrame(schema=dict(IMAGES)) if pictures is None else pictures,
        text_names,
        state.rules(text_names),
    )
    crossing = found.report.get("cross_split_pairs")
    if crossing:
        kinds = _brief(found.report.get("by_kind", {}))
        # Group keys are not released; what is left may be all that the release admits, and not more.
        is_admitted = bool(state.admitted) and crossing <= state.admitted["cross_split_pairs"]
        (state.report_leak if is_admitted else state.report)(
            "leak", f"an independent search finds {crossing} pairs across splits: {kinds}"
        )
    crossing_folds = found.report.get("cross_fold_pairs")
    if crossing_folds:
        kinds = _brief(found.report["cross_fold_by_kind"])
        (state.report_leak if state.admitted else state.report)(
            "leak", f"an independent search finds {crossing_folds} pairs across folds: {kinds}"
        )


def _rules(thresholds: Mapping[str, Any], text_names: tuple[str, ...]) -> DatasetConfig:
    """What counts as a leak, from ``thresholds`` of reports/leakage.json; the defaults where that says nothing.

    Raises ``ValueError`` (pydantic's) where it says what cannot be.
    """
    if not isinstance(thresholds, Mapping):
        raise TypeError("expected an object")
    columns = {"texts": {name: name for name in text_names}}
    return DatasetConfig.model_validate(
        {
            "name": "release",
            "version": "0.0.0",
            "licence": "CC0-1.0",
            "sources": [{"id": "release", "path": "data", "licence": "CC0-1.0", "columns": columns}],
            "duplicates": {name: thresholds[name] for name in ("image", "text") if name in thresholds},
            "split": {
                name: thresholds[name] for name in ("link", "min_link_text_chars") if name in thresholds
            },
        }
    )


def _audit_inputs(data: pl.DataFrame, text_names: tuple[str, ...]) -> pl.DataFrame:
    """Released rows in the shape of SPLIT_ITEMS; group keys are not released."""
    given = {"image_ref": pl.col("released_sha256"), "image_sha256": pl.col("released_sha256")}
    return data.select(
        *(
            given.get(name, pl.col(name) if name in data.columns else pl.lit(None, dtype=kind)).alias(name)
            for name, kind in SPLIT_ITEMS.items()
        ),
        *text_names,
    )


# -- documents -----------------------------------------------------------------------------


def _check_counts(state: _Release) -> None:
    """Numbers of reports/quality.json and of the card against the tables."""
    items, removed, pairs = (state.table(name) for name in ("items", "removed", "duplicate_pairs"))
    if items is None or removed is None or pairs is None:
        return
    counted = quality_report(items.lazy(), removed.lazy(), pairs.lazy())["counts"]
    quality = state.json("reports/quality.json")
    if quality is not None:
        published = quality.get("counts")
        for name, value in counted.items():
            told = published.get(name) if isinstance(published, dict) else None
            if told != value:
                state.report(
                    "count",
                    f"{name} is {_brief(told)}, the tables give {_brief(value)}",
                    "reports/quality.json",
                )
    card = state.document("README.md")
    if card is not None:
        for what, pattern, value in (
            ("items", r"\*\*(\d+) items\*\*", counted["released_items"]),
            ("raw items", r"(?m)^(\d+) raw items came in", counted["raw_items"]),
            ("removed items", r"came in; (\d+) were removed", counted["removed_items"]),
        ):
            match = re.search(pattern, card)
            if match is None or int(match[1]) != value:
                state.report(
                    "count", f"{what}: {match[1] if match else 'none'}, the tables give {value}", "README.md"
                )
        front = dict(re.findall(r"(?m)^ +- name: '?(\w+)'?\n +num_examples: (\d+)$", card))
        by_split = {re.sub(r"\W", "_", name): str(count) for name, count in counted["items_by_split"].items()}
        if front != by_split:
            state.report(
                "count", f"splits are {_brief(front)}, the tables give {_brief(by_split)}", "README.md"
            )
    outside = state.json("reports/decontamination.json")
    gone = removed.filter(pl.col("reason") == "in_outside_set").height
    told_gone = 0 if outside is None else outside.get("removed")
    if told_gone != gone:
        state.report(
            "count",
            f"removed is {_brief(told_gone)}, the tables give {gone} items in outside sets",
            "reports/decontamination.json",
        )
    told_leaks = state.json(LEAKAGE)
    if told_leaks is not None and told_leaks.get("cross_split_pairs") != 0 and not state.admitted:
        told = _brief(told_leaks.get("cross_split_pairs"))
        state.report("leak", f"cross_split_pairs is {told}, a release needs 0", LEAKAGE)


def _check_changes(state: _Release) -> None:
    """What the release says of its own changes: CHANGELOG.md and reports/diff.json against each other and the items."""
    items, report = state.table("items"), state.json(DIFF)
    log = state.document("CHANGELOG.md")
    if items is None or report is None or log is None:
        return
    if report["new_items"] != items.height:
        state.report(
            "count", f"new_items is {_brief(report['new_items'])}, the table has {items.height}", DIFF
        )
    if report["previous"] is not None:
        found = {row["split"]: row["new"] for row in report["splits"] if row["new"]}
        counted = dict(items.group_by("split").len().sort("split").iter_rows())
        if found != counted:
            state.report("count", f"splits are {_brief(found)}, the table gives {_brief(counted)}", DIFF)
    heading = rf"(?m)^## {re.escape(str(report['version']))}( \(\d{{4}}-\d\d-\d\d\))?\n\n"
    if not re.search(heading + re.escape(changes(report)), log):
        told = f"does not say of version {_shown(report['version'])} what {DIFF} says"
        state.report("count", told, "CHANGELOG.md")


def _check_croissant(state: _Release) -> None:
    document = state.json("croissant.json")
    if document is None:
        return
    state.warnings.extend(croissant.lint(document))
    described = croissant.checksums(document)
    changed = set()
    for path, checksum in sorted(described.items()):
        if not is_inside(path):
            state.report("unsafe_path", f"names {_shown(path)}", "croissant.json")
        elif path not in state.files:
            state.report("file_missing", "named in croissant.json", path)
        elif re.fullmatch(r"[0-9a-f]{64}", checksum) and state.sha256(path) != checksum:
            changed.add(path)
            state.report("checksum", "not what croissant.json says", path)
    for path in sorted(state.files - described.keys() - croissant.NOT_DESCRIBED):
        state.report("file_not_listed", "not described in croissant.json", path)
    items = state.table("items")
    if items is not None:
        rows = dict(items.group_by("split").len().iter_rows())
        sizes = {path: (state.folder / path).stat().st_size for path in state.files - changed}
        for fault in croissant.faults(document, sizes, _schemas(state), rows):
            state.report("description", _shown(fault), "croissant.json")


def _check_descriptions(state: _Release) -> None:
    """RO-Crate and DataCite, and whether all documents are about one thing."""
    crate, cited = state.json(ro_crate.NAME), state.json(datacite.NAME)
    if crate is not None:
        state.warnings.extend(ro_crate.lint(crate))
        known = {
            str(finding.path) for finding in state.findings
            if finding.check in ("checksum", "file_missing", "file_not_listed")
        }  # fmt: skip
        there = state.files - ro_crate.NOT_DESCRIBED
        sizes = {path: (state.folder / path).stat().st_size for path in there}
        checksums = {path: state.sha256(path) for path in there}
        for fault in ro_crate.faults(crate, sizes, checksums, known):
            state.report("description", _shown(fault), ro_crate.NAME)
    items = state.table("items")
    if cited is not None:
        state.warnings.extend(datacite.lint(cited))
        if items is not None and cited.get("sizes") != [f"{items.height} items"]:
            told = f"sizes is {_brief(cited.get('sizes'))}, the tables give {items.height} items"
            state.report("description", told, datacite.NAME)
    citation = state.document("CITATION.cff")
    documents = {
        "croissant.json": state.json("croissant.json"),
        ro_crate.NAME: crate,
        datacite.NAME: cited,
        "CITATION.cff": None if citation is None else yaml_texts(citation),
        DIFF: state.json(DIFF),
    }
    for path, fault in identity.disagreements({path: d for path, d in documents.items() if d is not None}):
        state.report("description", _shown(fault), path)


def documents_code() -> str:
    """Fingerprint of the code that turns reports into documents."""
    return settings_version(code_version(*remade.CODE), remade.templates())


def _check_remade(state: _Release) -> None:
    """Documents and tables against the reports that their numbers come from, every one of them."""
    told = state.json("provenance.json")
    reports = {
        path.removeprefix("reports/").removesuffix(".json"): state.json(path)
        for path in sorted(path for path in state.files if re.fullmatch(r"reports/[^/]+\.json", path))
    }
    page = state.document(REPORT)
    if told is None or "quality" not in reports or None in reports.values():
        return
    if page is not None and remade.told_digest(page) != remade.digest(reports):
        state.report("count", "was made from other reports than those beside it", REPORT)
    if told.get("documents_code") != documents_code():
        state.warnings.append(
            "documents were made by other code, so they are not made again to compare their numbers"
        )
        return
    config = DatasetConfig.model_validate_json(told["config_json"])
    schemas = [columns for path, columns in _schemas(state).items() if path.startswith("data/")]
    given: Any = reports
    # Sizes are the card's own: a shard of another size has another checksum, which is found elsewhere.
    sizes = re.findall(r"(?m)^ +num_examples: \d+\n +num_bytes: (\d+)$", state.document("README.md") or "")
    by_split = given["quality"]["counts"]["items_by_split"]
    places = [
        (folder, split)
        for folder in shards.variant_folders(config)
        for split in config.split.ratios
        if split in by_split
    ]
    in_bytes: dict[str, dict[str, int]] = {}
    for (folder, split), size in zip(places, sizes, strict=False):
        in_bytes.setdefault(folder, {})[split] = int(size)
    try:
        made = remade.made_again(config, given, schemas[0], told["measured_mib_per_s"], in_bytes)
    except TemplateError as error:
        raise ValueError(f"a report lacks what a document says: {error}") from None
    for path, text in made.items():
        found = state.document(path)
        if found is None:
            state.report("file_missing", "it follows from the reports", path)
        elif found != text:
            state.report("count", _shown(remade.first_difference(found, text)), path)


def _schemas(state: _Release) -> dict[str, dict[str, str]]:
    """Path of a Parquet file -> column -> its type in the words of croissant.json; none of a file that is broken."""
    found = {}
    for path in sorted(path for path in state.files if path.endswith(".parquet")):
        with contextlib.suppress(*_UNREADABLE):  # reported where it is read
            schema = pq.read_schema(state.folder / path)
            found[path] = {column.name: _kind(column.type) for column in schema}
    return found


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "image" if {field.name for field in kind} == {"bytes", "path"} else "struct"
    return "string" if pa.types.is_large_string(kind) else str(kind)


def _check_predictions(state: _Release) -> None:
    items = state.table("items")
    if items is None:
        return
    test = items.filter(pl.col("split") == "test").select("item_id", pl.col("label").alias("true_label"))
    tables = {}
    for path in sorted(path for path in state.files if re.fullmatch(r"predictions/[^/]+\.parquet", path)):
        frame = pl.read_parquet(state.folder / path, glob=False)
        tables[path.removeprefix("predictions/").removesuffix(".parquet")] = frame
        if "retrieved" in frame.columns:
            named = pl.concat([frame["item_id"], frame["retrieved"].explode().drop_nulls()])
            unknown = named.filter(~named.is_in(test["item_id"].implode())).unique()
            if len(unknown):
                state.report("prediction", f"{len(unknown)} items are not in test: {_some(unknown)}", path)
            continue
        if not {"item_id", "label"} <= set(frame.columns):
            state.report("schema", "needs the columns item_id and label", path)
            continue
        joined = frame.select("item_id", "label").join(test, on="item_id", how="left")
        odd = joined.filter(pl.col("true_label").is_null() | (pl.col("label") != pl.col("true_label")))[
            "item_id"
        ]
        if len(odd):
            state.report("prediction", f"{len(odd)} rows: {_some(odd)}", path)
    report = state.json(BASELINES)
    if report is not None:
        for line in scores.differing_rows(report, tables, items):
            state.report("prediction", _shown(line), BASELINES)


# -- wording -------------------------------------------------------------------------------


def _some(values: pl.Series | list[str] | set[str] | set[Any]) -> str:
    """The first few values in order, safe to print."""
    listed = sorted(str(value) for value in values)
    more = f", and {len(listed) - _EXAMPLES} more" if len(listed) > _EXAMPLES else ""
    return ", ".join(_shown(value) for value in listed[:_EXAMPLES]) + more


def _shown(value: object) -> str:
    """Text from the release without control characters, which could rewrite the terminal."""
    text = str(value)[:200]
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _brief(value: object) -> str:
    return _shown(json.dumps(value, ensure_ascii=False, default=str))
