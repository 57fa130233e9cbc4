"""Snapshots and releases in a bucket, with the local folder as their working copy.

Belongs here: when what the store does to its folder is done to the bucket. Does not belong here: objects and leases
(``remote.py``). While a dataset is built, its working copy is what the bucket holds; whoever only reads asks the
bucket for every record, and fetches a snapshot or a release where the working copy has it not.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dataset_pipeline.adapters.remote import Lease, Remote, is_remote, working_folder
from dataset_pipeline.adapters.store import Snapshot, Store, content_id, explained_os_errors
from dataset_pipeline.config import VERSION_PATTERN, version_order
from dataset_pipeline.errors import OutsideWorldError


def open_store(root: str | Path, dataset: str) -> Store:
    """The store of a dataset in a storage folder, or in a bucket where ``root`` is s3://BUCKET/PREFIX.

    Raises ``ConfigError`` for an address without a bucket.
    """
    return RemoteStore(root, dataset) if is_remote(root) else Store(root, dataset)


class RemoteStore(Store):
    """Snapshots and releases of one dataset in a bucket."""

    def __init__(self, root: str | Path, dataset: str) -> None:
        """``root``: s3://BUCKET/PREFIX, shared by all datasets."""
        super().__init__(working_folder(root), dataset)
        self.remote: Remote = Remote(root, dataset)
        self._lease: Lease | None = None

    @property
    def where(self) -> str:
        """See the base class."""
        return self.remote.where

    @contextlib.contextmanager
    def building(self, waiting: Callable[[], None]) -> Iterator[None]:
        """See the base class: nobody else on any machine builds meanwhile."""
        with super().building(waiting), self.remote.leased(waiting) as lease:
            self._require_known_layout()
            with explained_os_errors(self.folder):
                self.remote.pull("state")
                if self.remote.read("layout.json") is None:
                    self.remote.send(["layout.json"])
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def release(self, snapshot: Snapshot, version: str) -> Path:
        """See the base class."""
        self.remote.forget(f"releases/{version}")
        place = super().release(snapshot, version)
        with explained_os_errors(self.folder):
            self.remote.send_folder(f"releases/{version}", like=f"snapshots/{snapshot.asset}/{snapshot.id}")
        return place

    def hand_out(self, name: str, snapshot: Snapshot, files: tuple[str, ...]) -> None:
        """See the base class."""
        super().hand_out(name, snapshot, files)
        self.remote.send(f"{name}/{file}" for file in files)

    def keep_record(self, record: Path) -> None:
        """See the base class."""
        self.remote.send([record.relative_to(self.folder).as_posix()])

    def release_folder(self, version: str) -> Path | None:
        """See the base class."""
        with explained_os_errors(self.folder):
            return self.releases / version if self.remote.fetch_folder(f"releases/{version}") else None

    def releases_before(self, version: str) -> Path:
        """See the base class."""
        lists = [re.fullmatch(r"releases/([^/]+)\.json", path) for path in self.remote.listed("releases")]
        versions = [match[1] for match in lists if match and re.fullmatch(VERSION_PATTERN, match[1])]
        lower = [found for found in versions if version_order(found) < version_order(version)]
        if lower:
            self.release_folder(max(lower, key=version_order))
        return self.releases

    def publications(self) -> Path:
        """See the base class."""
        with explained_os_errors(self.folder):
            self.remote.pull("publications")
        return super().publications()

    # -- internals ---------------------------------------------------------------------------

    def _mark_private(self) -> None:
        note = self.folder / "PRIVATE.md"
        is_new = not note.exists()
        super()._mark_private()
        if is_new:
            self.remote.send([note.name])

    def _read(self, path: str) -> bytes | None:
        is_current = self._lease is not None and path.startswith("state/")
        return super()._read(path) if is_current else self.remote.read(path)

    def _snapshot(self, asset: str, identity: str | None) -> Snapshot | None:
        folder = f"snapshots/{asset}/{identity}"
        if identity is not None and not (self.folder / folder).is_dir():
            with explained_os_errors(self.folder):
                if self.remote.fetch_folder(folder) and content_id(self.folder / folder) != identity:
                    raise OutsideWorldError(
                        f"{self.where}/{folder}: its content is not what its name says",
                        hint=f"Delete {self.where}/{folder}.json and build again",
                    )
        return super()._snapshot(asset, identity)

    def _save_state(self, asset: str, state: Mapping[str, Any]) -> None:
        if self._lease is None:
            raise RuntimeError("a remote storage is written by whoever builds, and nobody does")
        self.remote.send_folder(f"snapshots/{asset}/{state['latest']}")
        super()._save_state(asset, state)
        self._lease.require_held()
        self.remote.send([f"state/{asset}.json"])

    def _prune(self, asset: str) -> None:
        super()._prune(asset)
        state = self._state(asset)
        kept = {state["latest"], state["good"]}
        there = {
            path.split("/")[2].removesuffix(".json") for path in self.remote.listed(f"snapshots/{asset}")
        }
        for identity in sorted(there - kept):
            self.remote.remove_folder(f"snapshots/{asset}/{identity}")
