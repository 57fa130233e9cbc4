"""Immutable, content-named snapshots of every asset, and the record of which were audited.

Layout below ``STORAGE/<dataset>/``::

    snapshots/<asset>/<id>/     files of one snapshot; <id> is a hash of their names and bytes
    state/<asset>.json          the latest snapshot, what was read to make it, its audit
    releases/<version>/         the released archive: a snapshot that passed its audit
    cache/                      see ``cache.py``
    tmp/                        folders being written; never read
    build.lock                  held by the one process that builds
    layout.json                 the number of this layout, by which code finds out whether it knows it

A snapshot is written in ``tmp`` and renamed into place, so a killed process leaves nothing that a
reader could see. Readers go through :meth:`Store.audited`, which gives a snapshot only when all of
its blocking checks have passed. Does not belong here: what the checks are, and Dagster.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from filelock import FileLock, Timeout

from dataset_pipeline.errors import ConfigError, GateError, OutsideWorldError

if TYPE_CHECKING:
    from dataset_pipeline.adapters.remote import Remote

LAYOUT: Final = 1
"""Raised with every change after which older code would misread a storage folder, or this code an older one."""
_STATE_KEYS: Final = frozenset({"latest", "inputs", "audit", "good"})
_ID_CHARS = 16
_NOT_CONTENT = frozenset({"provenance.json", "SHA256SUMS"})


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check of one snapshot."""

    check: str
    is_passed: bool
    is_blocking: bool
    summary: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    made_from: str | None = None
    """What the snapshot was made from, and by which program, when the check ran; see :meth:`Store.keep`."""


@dataclass(frozen=True)
class Snapshot:
    """The files of one materialisation of one asset."""

    asset: str
    id: str
    folder: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    """asset -> snapshot id of everything that was read, directly or through other assets."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON facts for people: row counts, removed rows by reason."""
    run_id: str | None = None
    """The run that wrote it."""

    def table(self, name: str) -> pl.LazyFrame:
        """A Parquet table of the snapshot."""
        return pl.scan_parquet(self.folder / f"{name}.parquet", glob=False)

    def json(self, name: str) -> Any:
        """A JSON document of the snapshot."""
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))


class SnapshotWriter:
    """Files of a snapshot that is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {}
        self._scratch: list[Path] = []
        self.cached: tuple[str, ...] = ()
        """Tables of cached results that went into it."""

    def kept_once(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The same rows from a file that is gone when the snapshot is complete: for what several tables are made of."""
        path = self.folder / f"scratch-{len(self._scratch)}.parquet"
        frame.sink_parquet(path, maintain_order=True)
        self._scratch.append(path)
        return pl.scan_parquet(path, glob=False)

    def forget_scratch(self) -> None:
        """Delete what ``kept_once`` has written."""
        for path in self._scratch:
            path.unlink()
        self._scratch.clear()

    def table(self, name: str, frame: pl.LazyFrame | pl.DataFrame) -> None:
        """Write a table as ``<name>.parquet``, streaming where the frame is lazy."""
        path = self.folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        # A fixed row group size keeps the bytes the same on machines with other core counts; one of bytes (thumbnails of
        # 3 KB) has to be small, since readers hold several row groups.
        is_wide = any(dtype == pl.Binary for dtype in frame.lazy().collect_schema().dtypes())
        size = 8_192 if is_wide else 65_536
        if isinstance(frame, pl.DataFrame):
            frame.write_parquet(path, row_group_size=size)
        else:
            frame.sink_parquet(path, row_group_size=size, maintain_order=True)

    def json(self, name: str, document: Any) -> None:
        """Write a JSON document as ``<name>.json``."""
        self.file(f"{name}.json", to_json(document).encode())

    def file(self, name: str, content: bytes) -> None:
        """Write any file; ``name`` may hold folders."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def to_json(document: Any) -> str:
    """JSON as every report is written: sorted keys, indented, UTF-8, no NaN."""
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n"


@contextlib.contextmanager
def explained_os_errors(where: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission and the like into one clear line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutsideWorldError(
            f"{error.filename or where}: {reason}",
            hint=f"Check free space and permissions of {where}, then run the same command again: "
            "what is finished is kept",
        ) from error
    except pl.exceptions.ComputeError as error:
        # polars reports a failed write (a full disk, say) under its own exception
        if "os error" in str(error).lower() or "no space" in str(error).lower():
            raise OutsideWorldError(f"{where}: {str(error).splitlines()[0]}") from error
        raise


_LAYOUT_FILE: Final = "layout.json"
_PRIVATE_NOTE = """# What may leave this folder

Publish what is in `releases/`, and nothing else.

`snapshots/raw_texts/` and `snapshots/raw_images/` hold the rows of the sources as they were collected, personal data
included: they are for those alone who may see the sources. The rest holds texts after cleaning, in which every
value that `pii.actions` replaces is replaced.
"""


class Store:
    """Snapshots and releases of one dataset."""

    def __init__(self, root: str | Path, dataset: str) -> None:
        """``root``: the storage folder, shared by all datasets; created when first written."""
        self.folder = Path(root).absolute() / dataset
        self.releases = self.folder / "releases"
        self.cache = self.folder / "cache"
        self.remote: Remote | None = None
        """The bucket that the folder is a working copy of (see ``remote_store.py``)."""
        self._has_known_layout = False

    @property
    def where(self) -> str:
        """The storage of the dataset, for people."""
        return str(self.folder)

    # -- writing ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def building(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Build alone: no other build of this dataset in this storage folder runs meanwhile.

        Where one does, ``waiting`` is called once, and this waits until it has ended; Ctrl-C ends the wait. A
        process lets go when it ends, however it ends. Raises ``OutsideWorldError`` when the disk says no.
        """
        # Any thread of the holder may let go, and each holder waits for every other one, in this process, too.
        lock = FileLock(self.folder / "build.lock", thread_local=False)
        with explained_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                waiting()
                lock.acquire(poll_interval=0.25)
        try:
            self._mark_layout()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def writing(
        self,
        asset: str,
        inputs: Mapping[str, Snapshot],
        settings: Mapping[str, str] | None = None,
        run_id: str | None = None,
        made_from: str | None = None,
    ) -> Iterator[SnapshotWriter]:
        """Write a snapshot; it becomes the asset's latest when the block ends without an error.

        ``settings``: name -> fingerprint of every setting that decides about the asset. An earlier audit
        stays valid where content, inputs and settings are what they were. ``run_id``: the run that writes.
        ``made_from``: fingerprint of everything that decides about the content, by which :meth:`keep` finds it again.
        Raises ``OutsideWorldError`` when the disk says no.
        """
        temporary = self._temporary(asset)
        try:
            with explained_os_errors(self.folder):
                self._mark_private()
                writer = SnapshotWriter(temporary)
                yield writer
                writer.forget_scratch()
                files = _checksums(temporary)
                identity = _content_id(files)
                place = self.folder / "snapshots" / asset / identity
                place.parent.mkdir(parents=True, exist_ok=True)
                is_there = place.is_dir()
                if is_there and _content_id(there := _checksums(place)) == identity:
                    files = there
                elif is_there:
                    # Someone or something has changed it since: what was written now is right.
                    os.replace(place, self._temporary("damaged"))
                if not place.is_dir():
                    os.replace(temporary, place)
                previous = self._state(asset)
                made_of = {"latest": identity, "inputs": _all_read(inputs), "settings": dict(settings or {})}
                keeps_audit = all(previous.get(name) == value for name, value in made_of.items())
                self._save_state(
                    asset,
                    {
                        **made_of,
                        "facts": writer.facts,
                        "run_id": run_id,
                        "audit": previous.get("audit", {}) if keeps_audit else {},
                        "good": previous.get("good"),
                        "made_from": made_from,
                        "files": files,
                        "cached": writer.cached,
                    },
                )
                self._prune(asset)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def keep(self, asset: str, made_from: str, inputs: Mapping[str, Snapshot], run_id: str) -> bool:
        """Whether the newest snapshot was made from just this, and is there byte for byte: then it stays.

        The run ``run_id`` is remembered as the one that kept it, for :meth:`kept_verdicts`. Verdicts stay, unless
        something further upstream has changed and come to the same inputs.
        """
        with explained_os_errors(self.folder):
            state = self._state(asset)
            snapshot = self.latest(asset)
            if snapshot is None or state.get("made_from") != made_from:
                return False
            if _checksums(snapshot.folder) != state["files"]:
                return False
            read = _all_read(inputs)
            audit = state["audit"] if state["inputs"] == read else {}
            self._save_state(asset, {**state, "inputs": read, "audit": audit, "kept_by": run_id})
        return True

    def _mark_private(self) -> None:
        """Say in the folder itself what must not leave it: whoever copies it has not read the documentation."""
        note = self.folder / "PRIVATE.md"
        if not note.exists():
            write_atomically(note, _PRIVATE_NOTE.encode())

    def record_audit(
        self, snapshot: Snapshot, verdicts: list[Verdict], blocking_checks: frozenset[str]
    ) -> None:
        """Remember the outcome of checks of a snapshot, beside those that are known already.

        With all of ``blocking_checks`` passed it becomes the last good one, which is kept when worse
        ones follow.
        """
        with explained_os_errors(self.folder):
            state = self._state(snapshot.asset)
            if state.get("latest") != snapshot.id:
                return  # a newer snapshot took its place while it was being checked
            audit = {**state["audit"], **{verdict.check: asdict(verdict) for verdict in verdicts}}
            state["audit"] = audit
            if all(name in audit and audit[name]["is_passed"] for name in blocking_checks):
                state["good"] = snapshot.id
            self._save_state(snapshot.asset, state)

    def release(self, snapshot: Snapshot, version: str) -> Path:
        """Make an audited snapshot the release ``version``; the previous one goes when it is in place."""
        place = self.releases / version
        with explained_os_errors(self.folder):
            temporary = self._temporary("release")
            shutil.copytree(snapshot.folder, temporary, dirs_exist_ok=True, copy_function=_link_or_copy)
            place.parent.mkdir(parents=True, exist_ok=True)
            old = self._temporary("replaced")
            is_replacing = place.exists()
            if is_replacing:
                os.replace(place, old)
            try:
                os.replace(temporary, place)
            except OSError:
                if is_replacing:
                    os.replace(old, place)
                raise
            shutil.rmtree(old, ignore_errors=True)
        return place

    def hand_out(self, name: str, snapshot: Snapshot, files: tuple[str, ...]) -> None:
        """Copy files of an audited snapshot to the folder ``name`` beside the releases, each whole or not at all."""
        with explained_os_errors(self.folder):
            folder = self.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                write_atomically(folder / file, (snapshot.folder / file).read_bytes())

    def keep_record(self, record: Path) -> None:
        """Keep a record below the folder ``publications`` that was written or changed."""

    def sweep(self) -> None:
        """Delete folders that killed processes left in ``tmp``."""
        for leftover in (self.folder / "tmp").glob("*"):
            if _writer_of(leftover) is None:
                shutil.rmtree(leftover, ignore_errors=True)

    def writers(self) -> list[int]:
        """Processes of this machine that are writing a snapshot or a release."""
        return sorted({found for path in (self.folder / "tmp").glob("*") if (found := _writer_of(path))})

    def _mark_layout(self) -> None:
        """Say in the storage which layout it has."""
        self._require_known_layout()
        if not (self.folder / _LAYOUT_FILE).exists():
            with explained_os_errors(self.folder):
                write_atomically(self.folder / _LAYOUT_FILE, to_json({"layout": LAYOUT}).encode())

    def _require_known_layout(self) -> None:
        """Raise ``ConfigError`` for a storage that other code wrote in another layout."""
        if self._has_known_layout:
            return
        found = self._read(_LAYOUT_FILE)
        if found is not None:
            try:
                number = json.loads(found)["layout"]
            except (ValueError, KeyError, TypeError):
                number = None
            if number != LAYOUT:
                raise ConfigError(
                    f"{self.where}: found layout {number} of storage, expected {LAYOUT}: another version of "
                    "dataset-pipeline wrote it",
                    hint="Build with that version, or into another storage; releases in it stay as they are",
                )
        self._has_known_layout = True

    # -- reading ---------------------------------------------------------------------------

    def latest(self, asset: str) -> Snapshot | None:
        """The newest snapshot, audited or not; None where there is none."""
        return self._snapshot(asset, self._state(asset).get("latest"))

    def audit(self, asset: str) -> dict[str, Verdict]:
        """Verdicts on the newest snapshot, by check."""
        return {name: Verdict(**verdict) for name, verdict in self._state(asset).get("audit", {}).items()}

    def made_from(self, asset: str) -> str | None:
        """Fingerprint of everything that the newest snapshot was made from; None where nobody knows that."""
        found: str | None = self._state(asset).get("made_from")
        return found

    def is_whole(self, snapshot: Snapshot, name: str) -> bool:
        """Whether a table of the newest snapshot is what was written."""
        files, path = self._state(snapshot.asset).get("files", {}), f"{name}.parquet"
        place = snapshot.folder / path
        return path in files and place.is_file() and file_sha256(place) == files[path]

    def cached(self, asset: str) -> tuple[str, ...]:
        """Tables of cached results that went into the newest snapshot."""
        return tuple(self._state(asset).get("cached", ()))

    def kept_verdicts(self, asset: str, run_id: str) -> dict[str, Verdict]:
        """Passed checks that hold in the run ``run_id``: it has kept the snapshot, and they were made as it would make them."""
        if self._state(asset).get("kept_by") != run_id:
            return {}
        made_from = self.made_from(asset)
        return {
            name: verdict
            for name, verdict in self.audit(asset).items()
            if verdict.is_passed and verdict.made_from == made_from
        }

    def audited(
        self, asset: str, blocking_checks: frozenset[str], settings: Mapping[str, str] | None = None
    ) -> Snapshot:
        """The newest snapshot, if every one of ``blocking_checks`` has passed on it.

        Raises ``GateError`` that names the failed or missing check, or the one of ``settings`` that is not
        what it was when the snapshot was made: the checks' verdict was on another rule then.
        """
        snapshot = self.latest(asset)
        if snapshot is None:
            raise GateError(f"{asset} has never been built", hint=f"Materialise {asset} first")
        made_with = self._state(asset).get("settings", {})
        if changed := sorted(
            name for name, value in (settings or {}).items() if made_with.get(name) != value
        ):
            raise GateError(
                f"{asset} was built before {', '.join(changed)} in dataset.yaml changed",
                hint=f"Materialise {asset} again first",
            )
        verdicts = self.audit(asset)
        for check in sorted(blocking_checks):
            if check not in verdicts:
                raise GateError(
                    f"{asset}: the check '{check}' has not run on the newest snapshot",
                    hint=f"Materialise {asset} together with its checks, or run the check alone",
                )
            if not verdicts[check].is_passed:
                raise GateError(
                    f"{asset}: the check '{check}' failed: {verdicts[check].summary}",
                    hint=f"Mend the data or the config, then materialise {asset} again",
                )
        return snapshot

    def release_folder(self, version: str) -> Path | None:
        """The folder of a release; None where it is not built."""
        place = self.releases / version
        return place if place.is_dir() else None

    def releases_before(self, version: str) -> Path:  # noqa: ARG002 - a remote storage fetches what may be asked for
        """The folder of the releases, among them the highest one below ``version``, whole."""
        return self.releases

    def publications(self) -> Path:
        """The folder of the records of publications, as they are now."""
        return self.folder / "publications"

    # -- internals -------------------------------------------------------------------------

    def _snapshot(self, asset: str, identity: str | None) -> Snapshot | None:
        folder = self.folder / "snapshots" / asset / str(identity)
        if identity is None or not folder.is_dir():
            return None
        state = self._state(asset)
        return Snapshot(
            asset, identity, folder, state.get("inputs", {}), state.get("facts", {}), state.get("run_id")
        )

    def _state(self, asset: str) -> dict[str, Any]:
        """The record of an asset; raises ``ConfigError`` where code wrote it that kept other records."""
        self._require_known_layout()
        path = f"state/{asset}.json"
        found = self._read(path)
        if found is None:
            return {}
        try:
            state = json.loads(found)
        except ValueError:
            state = None
        if not isinstance(state, dict) or not set(state) >= _STATE_KEYS:
            raise ConfigError(
                f"{self.where}/{path}: not the record of a snapshot as this version of dataset-pipeline keeps it",
                hint=f"Delete {self.where}/state, which makes the next build run every stage again; "
                "results for single items and releases stay",
            )
        return state

    def _read(self, path: str) -> bytes | None:
        """A small file of the storage; None where it is not there."""
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            return None

    def _save_state(self, asset: str, state: Mapping[str, Any]) -> None:
        path = self.folder / "state" / f"{asset}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(state).encode())

    def _prune(self, asset: str) -> None:
        """Keep the newest snapshot and the newest good one; nothing refers to the others."""
        state = self._state(asset)
        for folder in (self.folder / "snapshots" / asset).iterdir():
            if folder.name not in {state["latest"], state["good"]}:
                shutil.rmtree(folder, ignore_errors=True)

    def _temporary(self, label: str) -> Path:
        with explained_os_errors(self.folder):
            parent = self.folder / "tmp"
            parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-{label}-", dir=parent))


def content_id(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files below ``folder``, shortened to 64 bits.

    ``provenance.json`` and the list of checksums that names it tell how a release was made, not
    what is in it, and stay out.
    """
    return _content_id(_checksums(folder))


def _content_id(files: Mapping[str, str]) -> str:
    return _digest({path: sha for path, sha in files.items() if path.split("/")[-1] not in _NOT_CONTENT})


def _checksums(folder: Path) -> dict[str, str]:
    """Path below ``folder`` -> SHA-256 of every file, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def _digest(files: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for path, sha256 in files.items():
        digest.update(path.encode() + b"\0")
        digest.update(bytes.fromhex(sha256))
    return digest.hexdigest()[:_ID_CHARS]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes, *, is_shared: bool = False) -> None:
    """Replace a file so that a reader sees the old or the new content and nothing between.

    Others may read it where ``is_shared``, as far as the process lets them read what it makes; else its owner alone.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666 if is_shared else 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def require_made_from(snapshot: Snapshot, inputs: Mapping[str, Snapshot]) -> None:
    """Raise ``GateError`` where ``snapshot`` was made from other snapshots than ``inputs``."""
    for name, current in sorted(inputs.items()):
        if snapshot.inputs.get(name) != current.id:
            raise GateError(
                f"{snapshot.asset} was made from an older version of {name}",
                hint=f"Materialise {snapshot.asset} again first",
            )


def _all_read(inputs: Mapping[str, Snapshot]) -> dict[str, str]:
    """asset -> snapshot id of ``inputs`` and of everything that was read to make them."""
    return {**_ancestors(inputs), **{name: snapshot.id for name, snapshot in inputs.items()}}


def _ancestors(inputs: Mapping[str, Snapshot]) -> dict[str, str]:
    """Everything that was read to make ``inputs``; raises ``GateError`` where two of them disagree."""
    read: dict[str, str] = {}
    for name, snapshot in sorted(inputs.items()):
        for ancestor, identity in snapshot.inputs.items():
            current = inputs[ancestor].id if ancestor in inputs else read.get(ancestor, identity)
            if current != identity:
                raise GateError(
                    f"{name} was made from an older version of {ancestor}",
                    hint=f"Materialise {name} again first",
                )
            read[ancestor] = identity
    return read


def _link_or_copy(source: str, target: str) -> str:
    """A hard link costs no disk; a file system without them gets a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _writer_of(temporary: Path) -> int | None:
    """The process that writes a folder in ``tmp``; None where it has ended."""
    process = temporary.name.split("-")[0]
    return int(process) if process.isdigit() and is_running(int(process)) else None


def is_running(process: int) -> bool:
    """Whether a process of this machine runs."""
    """Whether a process of this machine with that number is there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
