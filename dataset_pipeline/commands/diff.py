"""``dataset-pipeline diff OLD NEW``: what changed between two release folders.

Belongs here: reading the folders and wording the answer. Does not belong here: the comparison
(``stages/diff.py``).
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.diff import Bump, ReleaseDiff, compare


@dataclass(frozen=True)
class DiffResult:
    """The comparison of two release folders."""

    old: Path
    new: Path
    difference: ReleaseDiff

    @property
    def bump(self) -> Bump:
        """The smallest honest step of the version."""
        return self.difference.bump

    def lines(self) -> list[str]:
        """What to print: counts, the first ids of each kind, the proposed step."""
        found = self.difference
        lines = [f"{found.old_items} -> {found.new_items} items", *found.lines()]
        for kind, examples in found.examples.items():
            if examples:
                lines.append(
                    f"{kind}, first: {', '.join(ascii(identifier)[1:-1] for identifier in examples)}"
                )
        if self.bump == "none":
            return [*lines, "no item differs: a patch version, if documents changed"]
        return [*lines, f"proposed version step: {self.bump}"]


def diff(old: Path, new: Path) -> DiffResult:
    """Compare two release folders by item id. Raises ``ConfigError`` where one is no release."""
    try:
        difference = compare(_table(old, "items"), _table(new, "items"), _table(new, "removed"))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{old} and {new} cannot be compared: {reason}") from None
    return DiffResult(old, new, difference)


def _table(release: Path, name: str) -> pl.LazyFrame:
    path = release / "metadata" / f"{name}.parquet"
    if not path.is_file():
        raise ConfigError(f"{release}: expected a release folder, found no metadata/{name}.parquet")
    return pl.scan_parquet(path, glob=False)
