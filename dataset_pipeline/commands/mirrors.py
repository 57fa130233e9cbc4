"""``dataset-pipeline mirrors``: whether every public place still gives the published bytes, and how fast.

Belongs here: the call and what it prints. Does not belong here: the downloads (``adapters/mirrors.py``).
"""

import datetime
from dataclasses import dataclass
from pathlib import Path

from dataset_pipeline.adapters.mirrors import MirrorHealth, table
from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.adapters.store import explained_os_errors, to_json, write_atomically
from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.publication import check_mirrors


@dataclass(frozen=True)
class MirrorsResult:
    """What every place gave, and where that was written."""

    found: tuple[MirrorHealth, ...]
    path: Path

    @property
    def is_good(self) -> bool:
        """Whether every place gives every file."""
        return all(health.is_good for health in self.found)

    def lines(self) -> list[str]:
        """What to print, one line each."""
        lines = []
        for health in self.found:
            speeds = ", ".join(
                f"{value} {unit}"
                for value, unit in (
                    (health.first_byte_ms, "ms to the first byte"),
                    (health.mib_per_s, "MiB/s"),
                    (health.mib_per_s_4, "MiB/s four at a time"),
                )
                if value is not None
            )
            lines.append(
                f"{health.name}: {health.files} files, {len(health.faults)} faults; {speeds or 'no answer'}"
            )
            lines += [f"  {fault}" for fault in health.faults[:5]]
            lines += [f"  ... and {len(health.faults) - 5} more"] if len(health.faults) > 5 else []
        return [*lines, f"wrote {self.path}: the next build's card and download.py follow it"]


def check(config_path: Path, storage: str | Path) -> MirrorsResult:
    """Check the configured version's places and write the table beside dataset.yaml.

    Raises ``ConfigError`` where nothing has been published to a public place.
    """
    dataset = load_dataset(config_path)
    config = dataset.config
    found = check_mirrors(config, open_store(storage, config.name))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    path = dataset.base / config.mirrors
    with explained_os_errors(path):
        write_atomically(path, to_json(table(found, config.version, now)).encode(), is_shared=True)
    return MirrorsResult(tuple(found), path)
