"""``dataset-pipeline publish``: send a release to one destination of the config.

Belongs here: finding the destination. Does not belong here: what has to be true before and how bytes get
there (``publication.py``, ``adapters``), and which release is current (the store).
"""

import difflib
import getpass
from pathlib import Path

from dataset_pipeline.adapters.destinations import Progress, Publication
from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.defs.publish import audited_archive
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.publication import Request, publish_release


def publish(
    config_path: Path,
    destination: str,
    storage: str | Path,
    *,
    is_dry_run: bool = False,
    is_final: bool = False,
    progress: Progress | None = None,
) -> Publication:
    """Send the current release to the destination that the config's ``publish`` calls ``destination``.

    Whoever types the command approves the version, unless an approvals file is there: then that decides.
    Raises ``ConfigError`` for a destination that is not there, ``GateError`` for a release that is not built or
    did not pass, and what :func:`publish_release` raises.
    """
    dataset = load_dataset(config_path)
    config = dataset.config
    if destination not in config.publish:
        near = difflib.get_close_matches(destination, config.publish, n=1)
        there = ", ".join(sorted(config.publish)) or "none"
        raise ConfigError(
            f"no destination {destination!r} under 'publish' in dataset.yaml; there: {there}",
            hint=f"Did you mean '{near[0]}'?" if near else None,
        )
    store = open_store(storage, config.name)
    if store.release_folder(config.version) is None:
        raise ConfigError(
            f"{store.where}/releases/{config.version}: version {config.version} of {config.name} is not built",
            hint=f"Run: dataset-pipeline build {config_path}",
        )
    request = Request(
        config,
        dataset.base,
        destination,
        store,
        audited_archive(dataset, store),
        is_dry_run=is_dry_run,
        is_final=is_final,
        confirmed_by=f"{_user()}, by the command",
    )
    return publish_release(request, progress).publication


def describe(publication: Publication) -> list[str]:
    """What to print, one line each."""
    if not publication.steps and publication.is_final:
        return [f"{publication.place}: already published, nothing to send", *publication.notes]
    prefix = "would " if publication.is_dry_run else ""
    copied = (
        f", {len(publication.copied)} are copied there from an earlier version" if publication.copied else ""
    )
    return [
        *(f"{prefix}{step}" for step in publication.steps),
        f"{prefix}send {len(publication.sent)} files, {publication.sent_bytes} bytes; "
        f"{len(publication.unchanged)} files are there already{copied}",
        *publication.notes,
    ]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return "somebody"
