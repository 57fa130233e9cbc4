"""``dataset-pipeline diff OLD NEW``: what changed between two release folders.

Belongs here: reading the folders and wording the answer. Does not belong here: the comparison
(``stages/diff.py``).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters.archive import metadata_table
from dataset_pipeline.config import VERSION_PATTERN
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.diff import Bump, ReleaseDiff, compare, diff_report, facts


@dataclass(frozen=True)
class DiffResult:
    """The comparison of two release folders."""

    old: Path
    new: Path
    old_version: str | None
    """As the release says itself; None where it does not."""
    new_version: str | None
    difference: ReleaseDiff

    @property
    def bump(self) -> Bump:
        """The smallest honest step of the version."""
        return self.difference.bump

    def lines(self) -> list[str]:
        """What to print: counts, the first ids of each kind, the proposed step and version; safe for a terminal."""
        return ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in self._told()]

    def _told(self) -> list[str]:
        found = self.difference
        report = diff_report(self.new_version or "", self.old_version or "0.0.0", found, found.new_items)
        lines = [f"{found.old_items} -> {found.new_items} items", *facts(report)]
        for kind, examples in found.examples.items():
            if examples:
                lines.append(f"{kind}, first: {', '.join(examples)}")
        if self.bump == "none":
            lines.append("no item differs: a patch version, if documents changed")
        else:
            lines.append(f"proposed version step: {self.bump}")
        if self.old_version is None or self.new_version is None:
            return lines
        if self.bump == "none" and self.old_version == self.new_version:
            return lines
        told = f"proposed version after {self.old_version}: {report['proposed_version']}"
        if self.old_version == self.new_version:
            return [*lines, f"{told}; both are {self.new_version}: one version must not have two contents"]
        fitting = "which fits" if report["is_version_fitting"] else "which is too low"
        return [*lines, f"{told}; {self.new} says {self.new_version}, {fitting}"]


def diff(old: Path, new: Path) -> DiffResult:
    """Compare two release folders by item id. Raises ``ConfigError`` where one is no release."""
    try:
        difference = compare(_table(old, "items"), _table(new, "items"), _table(new, "removed"))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{old} and {new} cannot be compared: {reason}") from None
    return DiffResult(old, new, _version(old), _version(new), difference)


def _version(release: Path) -> str | None:
    """The version that a release's description names."""
    try:
        document = json.loads((release / "croissant.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, str) and re.fullmatch(VERSION_PATTERN, version) else None


def _table(release: Path, name: str) -> pl.LazyFrame:
    return pl.scan_parquet(metadata_table(release, name), glob=False)
