"""``dataset-pipeline publish``: send a release to one destination of the config.

Belongs here: finding the destination. Does not belong here: how bytes get there (``adapters``) and
which release is current (the store).
"""

import difflib
from pathlib import Path

from dataset_pipeline.adapters.folder import Progress, Publication, publish_folder
from dataset_pipeline.adapters.store import Store
from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.errors import ConfigError


def publish(
    config_path: Path,
    destination: str,
    storage: str | Path,
    *,
    is_dry_run: bool = False,
    progress: Progress | None = None,
) -> Publication:
    """Send the current release to the destination that the config's ``publish`` calls ``destination``.

    The release must have passed its gates. Raises ``ConfigError`` for a destination that is not there,
    ``GateError`` for a release that is not built or did not pass, and what :func:`publish_folder` raises.
    """
    dataset = load_dataset(config_path)
    config, base = dataset.config, dataset.base
    if destination not in config.publish:
        near = difflib.get_close_matches(destination, config.publish, n=1)
        there = ", ".join(sorted(config.publish)) or "none"
        raise ConfigError(
            f"no destination {destination!r} under 'publish' in dataset.yaml; there: {there}",
            hint=f"Did you mean '{near[0]}'?" if near else None,
        )
    store = Store(storage, config.name)
    release = store.releases / config.version
    if not release.is_dir():
        raise ConfigError(
            f"{release}: version {config.version} of {config.name} is not built",
            hint=f"Run: dataset-pipeline build {config_path}",
        )
    archive = lineage(dataset).stages["published_archive"]
    store.audited(archive.name, archive.blocking_gates)
    target = base / config.publish[destination].path
    return publish_folder(
        release, target, config.name, config.version, is_dry_run=is_dry_run, progress=progress
    )


def describe(publication: Publication) -> list[str]:
    """What to print, one line each."""
    if not publication.steps:
        return [f"{publication.place}: already published, nothing to send"]
    prefix = "would " if publication.is_dry_run else ""
    return [
        *(f"{prefix}{step}" for step in publication.steps),
        f"{prefix}send {len(publication.sent)} files, {publication.sent_bytes} bytes; "
        f"{len(publication.unchanged)} files are there already",
    ]
