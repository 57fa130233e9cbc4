"""``check``: is this config ready to build? Looks at the first rows only, so it takes seconds."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters import sources
from dataset_pipeline.config import DatasetConfig, Source, load_config
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import licences, raw

_ROWS = 1000


@dataclass(frozen=True)
class CheckResult:
    """What is good to know, and what is allowed but probably not meant."""

    facts: tuple[str, ...]
    warnings: tuple[str, ...]


def check(config_path: Path) -> CheckResult:
    """Validate a config and the first rows of its sources.

    Raises ``ConfigError`` for what a build could not get past, with every fault found.
    """
    config = load_config(config_path)
    base = config_path.absolute().parent
    facts = [f"{config_path}: {config.name} {config.version}, {len(config.sources)} source(s)"]
    warnings = list(_author_warnings(config))
    faults = [
        f"{what}: {problem}"
        for what, licence in _licences(config)
        if (problem := licences.spdx_problem(licence))
    ]
    for source in config.sources:
        try:
            rows, found = _look_at(source, base)
        except ConfigError as error:
            faults.append(str(error))
            continue
        facts.append(f"source {source.id}: {rows}")
        warnings += [f"source {source.id}: {line}" for line in found]
        evidence = source.permission.evidence if source.permission else None
        if evidence and "://" not in evidence and not (base / evidence).is_file():
            faults.append(f"source {source.id}: permission.evidence: no such file: {base / evidence}")
    takedowns = sources.read_takedowns(config.takedowns, base)
    if takedowns is not None:
        facts.append(f"takedowns: {takedowns.height:,} items")
    if faults:
        raise ConfigError("\n".join(faults))
    return CheckResult(tuple(facts), tuple(warnings))


def _licences(config: DatasetConfig) -> list[tuple[str, str]]:
    return [("licence", config.licence), *((f"sources.{s.id}.licence", s.licence) for s in config.sources)]


def _author_warnings(config: DatasetConfig) -> list[str]:
    missing = [key for key in ("title", "description", "creators", "date", "url") if not getattr(config, key)]
    lines = [f"not set: {', '.join(missing)}; the card and the citation will lack them"] if missing else []
    unproven = [source.id for source in config.sources if source.permission is None]
    if unproven:
        lines.append(f"sources without a 'permission': {', '.join(unproven)}")
    return lines


def _look_at(source: Source, base: Path) -> tuple[str, list[str]]:
    """What the first rows of a source look like, and what looks odd in them."""
    manifest = sources.read_manifest(source, base)
    rows = raw.raw_items(manifest.head(_ROWS), source).collect()
    if rows.height == 0:
        raise ConfigError(
            f"source {source.id}: no rows in {', '.join(source.paths)}", hint="Expected at least one"
        )
    odd = []
    if twice := rows.filter(pl.col("item_id").is_duplicated())["item_id"].unique().sort().to_list():
        raise ConfigError(
            f"source {source.id}: item ids must be unique, found more than once: {twice[:5]}",
            hint="Mend the manifest, or choose another column for columns.item_id",
        )
    for problem, count in rows["problem"].drop_nulls().value_counts(sort=True).iter_rows():
        odd.append(f"{count:,} of the first {rows.height:,} rows: {problem}")
    if source.columns.label is None:
        odd.append("no columns.label: statistics by class, stratification and baselines need one")
    parts = [f"first {rows.height:,} rows read" if rows.height == _ROWS else f"{rows.height:,} rows"]
    parts.append(f"{rows['label'].n_unique():,} labels")
    parts += [f"text '{name}'" for name in source.columns.texts]
    return ", ".join(parts), odd
