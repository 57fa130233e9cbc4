"""``check``: is this config ready to build? Reads manifests and looks at the first pictures, in seconds.

Belongs here: what a build would stumble over, found before it starts. Does not belong here: the shape of the
config (``config.py``) and judging every item (the gates do that).
"""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters import clip, face_detector, images, outside_sets, pii_files, presidio, sources
from dataset_pipeline.config import (
    CleanImages,
    DatasetConfig,
    FolderDestination,
    Source,
    is_inside,
    load_config,
)
from dataset_pipeline.errors import ConfigError, OutsideWorldError
from dataset_pipeline.stages import comparison, decisions, licences, raw
from dataset_pipeline.tables import IMAGE_BYTES_ROW

_ROWS = 1000
_PICTURES = 32


@dataclass(frozen=True)
class CheckResult:
    """What is good to know, and what is allowed but probably not meant."""

    facts: tuple[str, ...]
    warnings: tuple[str, ...]


def check(config_path: Path) -> CheckResult:
    """Validate a config, its sources and their first pictures.

    Raises ``ConfigError`` for what a build could not get past, with every fault found.
    """
    config = load_config(config_path)
    base = config_path.absolute().parent
    facts = [f"{config_path}: {config.name} {config.version}, {len(config.sources)} source(s)"]
    warnings = [*_author_warnings(config), *_destination_warnings(config, base)]
    faults = [
        *_faults_of_settings(config, base),
        *_missing_finders(config),
        *_missing_weights(config, base),
    ]
    tables = []
    for source in config.sources:
        try:
            rows, fact, found = _look_at(source, base, config.clean.images)
        except ConfigError as error:
            faults.append(str(error))
            continue
        tables.append(rows)
        facts.append(f"source {source.id}: {fact}")
        warnings += [f"source {source.id}: {line}" for line in found]
    if len(tables) == len(config.sources):
        everything = pl.concat(tables)
        faults += _row_faults(everything, config)
        warnings += _label_warnings(everything, config)
        if config.takedowns is not None and not faults:
            fact, found = _look_at_takedowns(config, base, everything)
            facts.append(fact)
            warnings += found
        if config.decisions is not None and not faults:
            fact, found = _look_at_decisions(config, base, everything)
            facts.append(fact)
            warnings += found
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return CheckResult(tuple(facts), tuple(warnings))


def require_sound_settings(config: DatasetConfig, base: Path) -> None:
    """Say what the config alone shows before an hour is spent.

    Raises ``ConfigError`` for what it names wrongly, ``OutsideWorldError`` for a model that is not installed.
    """
    if faults := list(_faults_of_settings(config, base)):
        raise ConfigError("\n".join(faults))
    if missing := _missing_finders(config):
        raise OutsideWorldError("\n".join(missing))
    for model in config.baselines.models if config.baselines.enabled else ():
        clip.require_weights(model, base)


def _faults_of_settings(config: DatasetConfig, base: Path) -> Iterator[str]:
    """What is wrong without a look at any row: licence ids, files and folders that are named."""
    named = [("licence", config.licence), *((f"sources.{s.id}.licence", s.licence) for s in config.sources)]
    for key, licence in named:
        if licence == "CHANGE-ME":  # as init writes it
            yield f"{key}: 'CHANGE-ME' is no SPDX id; choose one, such as CC-BY-4.0"
        elif problem := licences.spdx_problem(licence, may_be_absent=key != "licence"):
            yield f"{key}: {problem}"
    for source in config.sources:
        evidence = source.permission.evidence if source.permission else None
        if evidence and "://" not in evidence and not (base / evidence).is_file():
            yield f"source {source.id}: permission.evidence: no such file: {base / evidence}"
        if config.split.method == "published" and source.columns.split is None:
            yield f"source {source.id}: columns.split: missing, and split.method is 'published'"
    if config.split.method == "repaired" and all(source.columns.split is None for source in config.sources):
        yield "columns.split: missing in every source, and split.method is 'repaired'"
    readers: tuple[Callable[[], object], ...] = (
        lambda: sources.read_takedowns(config.takedowns, base),
        lambda: sources.read_audit(config.label_quality.audit, base),
        lambda: comparison.with_rows(
            sources.read_comparison(config.comparison, base), str(config.comparison)
        ),
        lambda: pii_files.read_key(config.pii, base),
        lambda: pii_files.with_allowed(config, base),
    )
    for read in readers:
        try:
            read()
        except ConfigError as error:
            yield str(error)
    yield from outside_sets.faults(config, base)
    for name, destination in sorted(config.publish.items()):
        if isinstance(destination, FolderDestination) and (base / destination.path).is_file():
            yield f"publish.{name}.path: is a file, expected a folder: {base / destination.path}"


def _missing_finders(config: DatasetConfig) -> list[str]:
    """What is not installed of that which finds personal data, one line each."""
    of_pictures = face_detector.missing(config.pii.images)
    return [*presidio.missing_models(config.pii), *([of_pictures] if of_pictures else [])]


def _missing_weights(config: DatasetConfig, base: Path) -> Iterator[str]:
    for model in config.baselines.models if config.baselines.enabled else ():
        try:
            clip.require_weights(model, base)
        except (ConfigError, OutsideWorldError) as error:
            yield str(error)


def _author_warnings(config: DatasetConfig) -> Iterator[str]:
    missing = [key for key in ("title", "description", "creators", "date", "url") if not getattr(config, key)]
    if missing:
        yield f"not set: {', '.join(missing)}; the card and the citation will lack them"
    for source in config.sources:
        if lacking := licences.missing_permission(source):
            yield f"source {source.id}: {lacking}; without it nothing is published"


def _destination_warnings(config: DatasetConfig, base: Path) -> Iterator[str]:
    for name, destination in sorted(config.publish.items()):
        if not isinstance(destination, FolderDestination):
            continue  # the network is asked when something is published
        target = base / destination.path
        if not target.exists() and not target.parent.is_dir():
            yield f"publish.{name}.path: neither it nor the folder above it is there now: {target}"


def _look_at(source: Source, base: Path, settings: CleanImages) -> tuple[pl.DataFrame, str, list[str]]:
    """Ids, labels and licences of a source, what it looks like, and what looks odd in its first rows."""
    manifest = sources.read_manifest(source, base)
    items = raw.raw_items(manifest, source)
    rows = items.select("item_id", "label", "licence").collect()
    if rows.height == 0:
        raise ConfigError(
            f"source {source.id}: no rows in {', '.join(source.paths)}", hint="Expected at least one"
        )
    first = items.head(_ROWS).collect()
    odd = [
        f"{count:,} of the first {first.height:,} rows: {problem}"
        for problem, count in first["problem"].drop_nulls().value_counts(sort=True).iter_rows()
    ]
    if first["image_ref"].null_count() < first.height and IMAGE_BYTES_ROW not in manifest.collect_schema():
        odd += _look_at_pictures(source, base, first, settings)
    if rows["label"].null_count() == rows.height:
        odd.append("no labels: statistics by class, stratification and baselines need columns.label")
    parts = [f"{rows.height:,} rows", f"{rows['label'].drop_nulls().n_unique():,} labels"]
    parts += [f"text '{name}'" for name in source.columns.texts]
    return rows, ", ".join(parts), odd


def _look_at_pictures(
    source: Source, base: Path, first: pl.DataFrame, settings: CleanImages
) -> Iterator[str]:
    """Whether the files that the first rows name are there, and the first of them are pictures."""
    root = sources.image_root(source, base)
    names = first["image_ref"].drop_nulls().str.strip_prefix(f"{source.id}/").to_list()
    there = [name for name in names if is_inside(name) and (root / name).is_file()]
    if not there:
        raise ConfigError(
            f"source {source.id}: none of the images of the first {len(names):,} rows is in {root}; "
            f"the first one is named '{names[0]}'",
            hint="Correct columns.image or image_root",
        )
    if len(there) < len(names):
        missing = next(name for name in names if name not in there)
        yield f"{len(names) - len(there):,} images of the first {first.height:,} rows are missing, such as '{missing}'"
    for name in there[:_PICTURES]:
        facts = images.scan_image(sources.read_image_bytes(str(root / name)), settings)
        if facts.get("problem"):
            yield f"'{name}': {facts['problem']}: {facts['problem_detail']}"


def _row_faults(rows: pl.DataFrame, config: DatasetConfig) -> Iterator[str]:
    twice = rows.filter(pl.col("item_id").is_duplicated() & pl.col("item_id").is_not_null())["item_id"]
    if ids := twice.unique().sort().to_list():
        yield (
            f"item ids must be unique, within a source and across sources; found {len(ids):,} more than once: "
            f"{_some(ids)}. Mend the manifest, or choose another column for columns.item_id"
        )
    if count := rows["item_id"].null_count():
        yield f"{count:,} rows have no item id. Fill the column that columns.item_id names"
    declared = {config.licence, *(source.licence for source in config.sources)}
    for licence in rows["licence"].drop_nulls().unique().sort().to_list():
        if licence not in declared and (problem := licences.spdx_problem(licence, may_be_absent=True)):
            yield f"licence of an item: {problem}"


def _label_warnings(rows: pl.DataFrame, config: DatasetConfig) -> Iterator[str]:
    known = rows["label"].drop_nulls().unique().sort().to_list()
    for key in ("drop", "unsure"):
        for label in getattr(config.labels, key):
            if known and label not in known:
                near = difflib.get_close_matches(label, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                yield f"labels.{key}: no row has the label '{label}'{hint}"


def _look_at_takedowns(config: DatasetConfig, base: Path, rows: pl.DataFrame) -> tuple[str, list[str]]:
    takedowns = sources.read_takedowns(config.takedowns, base)
    assert takedowns is not None
    by_id = takedowns.drop_nulls("item_id")
    unknown = by_id.join(rows, on="item_id", how="anti")["item_id"].unique().sort().to_list()
    warnings = []
    if takedowns["url"].drop_nulls().len() and all(source.columns.url is None for source in config.sources):
        warnings.append("takedowns: rows with a url, and no source names a column for it (columns.url)")
    if unknown:
        warnings.append(
            f"takedowns: {len(unknown):,} ids are in no source (good, if they are deleted there): {_some(unknown)}"
        )
    return f"takedowns: {takedowns.height:,} rows", warnings


def _read_decisions(path: str | None, base: Path) -> pl.DataFrame:
    return decisions.parse(sources.read_decisions(path, base), path or "")


def _look_at_decisions(config: DatasetConfig, base: Path, rows: pl.DataFrame) -> tuple[str, list[str]]:
    decided = _read_decisions(config.decisions, base)
    named = [
        decided["item_id"],
        decided.filter(pl.col("decision").is_in(list(decisions.PAIR_KINDS)))["value"],
    ]
    unknown = sorted({item for ids in named for item in ids} - set(rows["item_id"]))
    warnings = (
        [f"decisions: {len(unknown):,} rows name items that no source has: {_some(unknown)}"]
        if unknown
        else []
    )
    return f"decisions: {decided.height:,} rows", warnings


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")
