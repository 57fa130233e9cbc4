"""Publication of a release: what has to be true before, the destination that is asked, the record that stays.

Belongs here: what the command and the assets share. A release leaves when it was verified, its licences and
permissions are complete, no personal data is open, nothing leaks, and a person has said so. Does not belong
here: how bytes reach a host (``adapters``), the questions themselves (``stages/clearance.py``), Dagster.

Records are kept in ``STORAGE/<dataset>/publications/<destination>/<version>.json``.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dataset_pipeline.adapters.destinations import (
    CHECKSUMS,
    LocalRelease,
    Progress,
    Publication,
    Retries,
)
from dataset_pipeline.adapters.folder import publish_folder
from dataset_pipeline.adapters.mirrors import MirrorHealth, check_mirror
from dataset_pipeline.adapters.store import (
    Snapshot,
    Store,
    content_id,
    explained_os_errors,
    file_sha256,
    to_json,
    write_atomically,
)
from dataset_pipeline.config import (
    DatasetConfig,
    FolderDestination,
    HuggingFaceDestination,
    S3Destination,
    ZenodoDestination,
    load_approvals,
)
from dataset_pipeline.errors import ConfigError, GateError
from dataset_pipeline.stages import clearance
from dataset_pipeline.stages.datacite import invenio_metadata
from dataset_pipeline.stages.mirrors import addresses, mirrors

_ITEMS: Final = "metadata/items.parquet"
_ITEM_FILES: Final = ("data/", "variants/", "metadata/")
_RAISE_VERSION: Final = (
    "Raise 'version' in dataset.yaml and build again: a published version is never changed"
)
_REPORTS: Final = ("leakage", "licences", "pii")


@dataclass(frozen=True)
class Request:
    """One version, one destination, and how far to go."""

    config: DatasetConfig
    base: Path
    """The folder that relative paths of the configuration start from."""
    destination: str
    store: Store
    snapshot: Snapshot
    """The audited archive."""
    is_dry_run: bool = False
    is_final: bool = False
    """Whether what cannot be undone is done: only Zenodo asks."""
    confirmed_by: str | None = None
    """Who stands behind this very call; counts where there is no approvals file."""

    @property
    def release(self) -> Path:
        """The release folder."""
        return self.store.releases / self.config.version


@dataclass(frozen=True)
class Record:
    """A publication, and the JSON that stays of it; a dry run leaves none."""

    publication: Publication
    facts: Mapping[str, Any]


def publish_release(request: Request, progress: Progress | None = None) -> Record:
    """Send a release to one destination and keep the record; a repeated call changes nothing.

    Raises ``GateError`` where something keeps the release from leaving, ``ConfigError`` for a version that is
    not built, and what the destination raises.
    """
    config = request.config
    release = LocalRelease.open(request.release, config.name, config.version, config.display_title)
    _require_audited(request, release)
    if found := clearance.obstacles(
        config, _reports(request.release), _missing_evidence(config, request.base)
    ):
        raise GateError(f"{config.name} {config.version} cannot be published: " + "; ".join(found))
    if found := published_otherwise(request.store, config.version, release.checksums, request.destination):
        raise ConfigError(f"{config.name} {config.version} {found[0]}", hint=_RAISE_VERSION)
    approved_by = _approved_by(request)
    publication = _send(request, release, progress)
    if request.is_dry_run:
        return Record(publication, {})
    place = record_path(request.store, request.destination, config.version)
    before = read_record(place)
    if before is not None and not publication.steps:
        return Record(
            publication, before
        )  # as it was published, also where the release was built again since
    facts = {
        "dataset": config.name,
        "version": config.version,
        "destination": request.destination,
        "kind": config.publish[request.destination].kind,
        "place": publication.place,
        "is_public": publication.is_public,
        "is_final": publication.is_final,
        "doi": publication.doi,
        "approved_by": approved_by,
        "snapshot": request.snapshot.id,
        "checksums": dict(release.checksums),
        "checksums_sha256": file_sha256(request.release / CHECKSUMS),
        "bytes": sum(release.sizes.values()),
        "addresses": dict(publication.files),
    }
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    facts |= {"published_at": now}
    with explained_os_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, to_json(facts).encode())
        request.store.keep_record(place)
    return Record(publication, facts)


def check_mirrors(
    config: DatasetConfig, store: Store, only: str | None = None, retries: Retries | None = None
) -> list[MirrorHealth]:
    """Download every file of the published version from every public place, or ``only`` one, and compare.

    The checksums are those of the records of the publications. Raises ``ConfigError`` where nothing has been
    published to a public place.
    """
    found = []
    store.publications()
    for place in mirrors(config):
        record = read_record(record_path(store, place.name, config.version))
        if record is None or not record["is_final"] or only not in (None, place.name):
            continue
        checksums = {**record["checksums"], CHECKSUMS: record["checksums_sha256"]}
        places = addresses(place, checksums, config.name, config.version)
        found.append(check_mirror(place.name, place.base, places, checksums, retries=retries))
    if not found:
        raise ConfigError(
            f"version {config.version} of {config.name} has not been published to any place that anybody can read",
            hint="Publish it first: dataset-pipeline publish CONFIG --to NAME",
        )
    return found


def _require_audited(request: Request, release: LocalRelease) -> None:
    """Raise where the release folder is not, to the byte, what the gates have passed; new checksums hide nothing."""
    with explained_os_errors(request.release):
        if content_id(request.release) == request.snapshot.id:
            return
    for path in sorted(release.checksums):
        release.checked(path)  # names the file, where its checksum tells
    raise GateError(
        f"{request.release}: is not the archive that passed its gates: files were changed, added or lost since",
        hint="Build the release again",
    )


def publication_states(config: DatasetConfig, base: Path, store: Store) -> list[str]:
    """Of every destination, one line: whether the built version is published there, approved, or waits for a person."""
    release, lines = store.releases / config.version, []
    approvals = load_approvals(base / config.approvals)
    checksum = file_sha256(release / _ITEMS) if approvals else ""
    for destination in sorted(config.publish):
        record = read_record(record_path(store, destination, config.version))
        by, why = clearance.approval(approvals, config.version, destination, checksum)
        if record is not None and record["is_final"]:
            state = f"published on {record['published_at'][:10]}, approved by {record['approved_by']}"
        elif by is not None:
            state = f"approved by {by}, not published"
        elif approvals is None:
            state = "not published; publishing it is a person's word"
        else:
            state = f"not approved: {why}"
        lines.append(f"{destination}: {state}")
    return lines


def published_otherwise(
    store: Store, version: str, checksums: Mapping[str, str], besides: str | None = None
) -> list[str]:
    """Where ``version`` is published with other items than those of ``checksums``, one line a destination.

    ``checksums``: path -> SHA-256 of a release. Documents may differ: a DOI or a new mirror is named in them.
    ``besides``: a destination that is not asked, because it is compared file by file when it is published to.
    """
    found = []
    for path in sorted(store.publications().glob(f"*/{version}.json")):
        record = read_record(path)
        if record is None or not record["is_final"] or path.parent.name == besides:
            continue
        there = record["checksums"]
        differing = sorted(
            name
            for name in {*there, *checksums}
            if name.startswith(_ITEM_FILES) and there.get(name) != checksums.get(name)
        )
        if differing:
            found.append(
                f"is published already, at {path.parent.name}, with other items "
                f"({len(differing)} files differ, such as {differing[0]})"
            )
    return found


def record_path(store: Store, destination: str, version: str) -> Path:
    """Where the record of a publication is."""
    return store.folder / "publications" / destination / f"{version}.json"


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None where there is none."""
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return loaded


def _send(request: Request, release: LocalRelease, progress: Progress | None) -> Publication:
    destination = request.config.publish[request.destination]
    if isinstance(destination, FolderDestination):
        target = request.base / destination.path
        return publish_folder(release, target, is_dry_run=request.is_dry_run, progress=progress)
    if isinstance(destination, S3Destination):
        from dataset_pipeline.adapters.s3 import publish_s3

        return publish_s3(release, destination, is_dry_run=request.is_dry_run, progress=progress)
    if isinstance(destination, HuggingFaceDestination):
        from dataset_pipeline.adapters.huggingface import publish_huggingface

        return publish_huggingface(release, destination, is_dry_run=request.is_dry_run, progress=progress)
    if isinstance(destination, ZenodoDestination):
        from dataset_pipeline.adapters.zenodo import publish_zenodo

        return publish_zenodo(
            release,
            destination,
            invenio_metadata(request.config, destination.publisher),
            request.config.doi,
            is_final=request.is_final,
            is_dry_run=request.is_dry_run,
            progress=progress,
        )
    raise ConfigError(f"publish.{request.destination}: a destination of an unknown kind")


def _approved_by(request: Request) -> str:
    """Who approved it; raises ``GateError`` where nobody did."""
    config = request.config
    approvals = load_approvals(request.base / config.approvals)
    checksum = file_sha256(request.release / _ITEMS) if approvals else ""
    name, why = clearance.approval(approvals, config.version, request.destination, checksum)
    if name is None and approvals is None:
        name = request.confirmed_by
    if name is None:
        raise GateError(
            f"{config.name} {config.version} is not approved for {request.destination}: {why}",
            hint=f"Add an entry to {request.base / config.approvals}"
            + ("" if approvals is not None else ", or confirm the version in this launch's run config"),
        )
    return name


def _reports(release: Path) -> dict[str, dict[str, Any]]:
    """The reports that decide, of the release folder itself."""
    found = {}
    for name in _REPORTS:
        path = release / "reports" / f"{name}.json"
        if path.is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _missing_evidence(config: DatasetConfig, base: Path) -> list[str]:
    return [
        source.id
        for source in config.sources
        if source.permission
        and source.permission.evidence
        and "://" not in source.permission.evidence
        and not (base / source.permission.evidence).is_file()
    ]
