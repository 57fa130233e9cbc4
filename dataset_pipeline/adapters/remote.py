"""Storage in a bucket: the local folder is a working copy of it.

Belongs here: which objects are what, when they travel, and who may change them. Does not belong here: requests
(``bucket.py``) and what snapshots mean (``store.py``). Layout below ``s3://BUCKET/PREFIX/<dataset>/``: that of the
storage folder, and beside every immutable folder ``<folder>.json``, its files with size and SHA-256. That list is
sent last and makes the folder visible; it is deleted first where a folder is replaced. ``state/<asset>.json``
follows its snapshot. So a reader sees what was there before or what is there now, and a killed process harms nothing.

One process builds a dataset at a time: it holds a lease, an object that it writes again every few seconds. Where
the server knows conditional writes (``If-None-Match``, ``If-Match``) nobody can take a lease that another one
holds; where it does not, whoever wrote last has it, after a pause that lets a second one be seen.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dataset_pipeline.adapters.bucket import Bucket, ConditionError
from dataset_pipeline.adapters.destinations import Retries
from dataset_pipeline.adapters.store import file_sha256, is_running, write_atomically
from dataset_pipeline.config import is_inside
from dataset_pipeline.errors import ConfigError, OutsideWorldError

WORKING_FOLDER_VARIABLE: Final = "DATASET_PIPELINE_WORKING_FOLDER"
_SCHEME: Final = "s3://"
_PARALLEL: Final = 8
_ATTEMPTS: Final = 5
"""Of each request: some 15 s of waiting before a storage that has gone is reported."""
_PUT_BYTES: Final = 64 << 20
"""Larger files are sent in parts."""
_COPY_BYTES: Final = 5 << 30
LEASE_SECONDS: Final = 60.0
"""How long a lease lasts after its holder's last sign."""
_SIGN_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 2.0
_SETTLING_SECONDS: Final = 1.0
"""A server without conditional writes: how long to wait for another one who writes a lease at the same time."""


def is_remote(root: str | Path) -> bool:
    """Whether a storage is a bucket and not a folder."""
    return str(root).startswith(_SCHEME)


def working_folder(root: str | Path) -> Path:
    """The local folder of a storage: itself, or the working copy of a bucket.

    The latter lies below ``$DATASET_PIPELINE_WORKING_FOLDER``, by default ``~/.cache/dataset-pipeline``, one folder
    for each server, bucket and prefix. Raises ``ConfigError`` for an address without a bucket.
    """
    if not is_remote(root):
        return Path(root).absolute()
    bucket, prefix = _parts(root)
    home = os.environ.get(WORKING_FOLDER_VARIABLE)
    base = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dataset-pipeline"
    server = re.sub(r"[^\w.-]", "_", urlsplit(_endpoint() or "//s3.amazonaws.com").netloc)
    return base.expanduser().absolute() / server / bucket / prefix


def _parts(root: str | Path) -> tuple[str, str]:
    bucket, _, prefix = str(root).removeprefix(_SCHEME).partition("/")
    prefix = prefix.strip("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) or ".." in prefix.split("/"):
        raise ConfigError(f"storage: found '{root}', expected s3://BUCKET or s3://BUCKET/PREFIX")
    return bucket, prefix


def _endpoint() -> str | None:
    """The server, as every tool of Amazon's finds it."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


class Remote:
    """One dataset's part of a bucket, and the working copy of it; paths are relative to both."""

    def __init__(self, root: str | Path, dataset: str, retries: Retries | None = None) -> None:
        """``root``: s3://BUCKET/PREFIX. Raises ``ConfigError`` for any other address."""
        name, prefix = _parts(root)
        self.folder = working_folder(root) / dataset
        self._bucket = Bucket(
            name,
            _endpoint(),
            os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            _PARALLEL,
            retries or Retries(attempts=_ATTEMPTS),
        )
        self._home = "/".join(part for part in (prefix, dataset) if part)
        self.where = f"{_SCHEME}{name}/{self._home}"

    # -- objects -----------------------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        """A small object, or None."""
        return self._bucket.read(self._key(path), self._what(path, "reading"))

    def write(self, path: str, data: bytes) -> None:
        """Replace a small object."""
        self._bucket.call(
            "put_object", self._what(path, "writing"), Key=self._key(path), Body=data, ContentMD5=_md5(data)
        )

    def remove(self, paths: Iterable[str]) -> None:
        """Delete objects; what is not there is gone already."""
        self._bucket.each(
            lambda path: self._bucket.call(
                "delete_object", self._what(path, "deleting"), Key=self._key(path)
            ),
            paths,
        )

    def listed(self, folder: str) -> dict[str, int]:
        """Path -> size in bytes of every object below ``folder``."""
        return {path: size for path, (size, _) in self.ages(folder).items()}

    def ages(self, folder: str) -> dict[str, tuple[int, float]]:
        """Path -> size in bytes and time of change (seconds since 1970) of every object below ``folder``.

        A key may be any text: one that would lead out of the working copy names no file of ours.
        """
        start = len(self._home) + 1
        pages = self._bucket.pages(
            "list_objects_v2", self._what(folder, "listing"), Prefix=self._key(f"{folder}/")
        )
        return {
            entry["Key"][start:]: (int(entry["Size"]), entry["LastModified"].timestamp())
            for page in pages
            for entry in page.get("Contents", [])
            if is_inside(entry["Key"][start:])
        }

    # -- files -------------------------------------------------------------------------------

    def send(self, paths: Iterable[str]) -> None:
        """Send files of the working copy, each whole or not at all."""
        self._bucket.each(self._send, paths)

    def fetch(self, paths: Iterable[str]) -> None:
        """Bring objects into the working copy, each whole or not at all; what has gone meanwhile is left out."""
        self._bucket.each(self._fetch, paths)

    def pull(self, folder: str) -> None:
        """Make the files below ``folder``, which may change, what they are in the bucket."""
        there = self.listed(folder)
        self.fetch(there)
        for place in sorted((self.folder / folder).rglob("*")):
            if place.is_file() and place.relative_to(self.folder).as_posix() not in there:
                place.unlink()

    def pull_parts(self, folder: str) -> None:
        """Bring a folder whose files never change up to date, without those that were put together meanwhile.

        Files that have never been in the bucket stay: a killed process could not send them.
        """
        there = self.listed(folder)
        for path in sorted(self._known(folder) - set(there)):
            (self.folder / path).unlink(missing_ok=True)
        self.fetch(path for path in there if not (self.folder / path).exists())
        self._mark(folder, json.dumps(sorted(there)).encode())

    def push_parts(self, folder: str, pattern: str = "*") -> None:
        """Make a folder of the bucket hold the files that this one holds now, some time after ``pull_parts``."""
        there = self.listed(folder)
        here = {
            place.relative_to(self.folder).as_posix()
            for place in (self.folder / folder).glob(pattern)
            if place.is_file()
        }
        self.send(sorted(here - set(there)))
        self.remove(sorted((self._known(folder) & set(there)) - here))
        self._mark(folder, json.dumps(sorted(here)).encode())

    def send_folder(self, folder: str, like: str | None = None) -> None:
        """Send an immutable folder; ``like``: one that is there and holds the same files, to copy from.

        A folder of the same name with other files is replaced. It appears when all of it is there.
        """
        present = self.read(f"{folder}.json")
        if present is not None and present == self._marked(folder):
            return
        files = _listing(self.folder / folder)
        expected = json.dumps(files, sort_keys=True).encode()
        if present == expected:
            self._mark(folder, expected)
            return
        before = _files(present)
        if present is not None:
            self.remove([f"{folder}.json"])
        there = self.listed(folder)
        names = [
            name
            for name, facts in files.items()
            if not (before.get(name) == facts and f"{folder}/{name}" in there)
        ]
        copies = _files(self.read(f"{like}.json")) if like is not None else {}
        is_there = {name: copies.get(name) == files[name] and files[name][0] <= _COPY_BYTES for name in names}
        self._bucket.each(
            lambda name: self._copy(f"{like}/{name}", f"{folder}/{name}"), filter(is_there.get, names)
        )
        self.send(f"{folder}/{name}" for name in names if not is_there[name])
        self.remove(path for path in there if path.removeprefix(f"{folder}/") not in files)
        self.write(f"{folder}.json", expected)
        self._mark(folder, expected)

    def fetch_folder(self, folder: str) -> bool:
        """Bring an immutable folder into the working copy, checked file by file; False where there is none.

        Raises ``OutsideWorldError`` where what arrives is not what was sent.
        """
        listed = self.read(f"{folder}.json") if is_inside(folder) else None  # a record of the bucket names it
        if listed is None:
            return False
        place = self.folder / folder
        if place.is_dir() and self._marked(folder) == listed:
            return True
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-fetched-", dir=self.folder / "tmp"))
        try:
            for name in _files(listed):
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            self._bucket.each(
                lambda file: self._fetch_checked(folder, temporary, *file), _files(listed).items()
            )
            shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
            self._mark(folder, listed)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return True

    def remove_folder(self, folder: str) -> None:
        """Delete an immutable folder; it disappears at once."""
        self.remove([f"{folder}.json"])
        self.remove(self.listed(folder))

    def forget(self, folder: str) -> None:
        """The folder of the working copy has changed: ask no more whether it is what the bucket holds."""
        self._mark_of(folder).unlink(missing_ok=True)

    # -- internals -----------------------------------------------------------------------------

    def _mark_of(self, folder: str) -> Path:
        return self.folder / "synchronised" / f"{folder}.json"

    def _mark(self, folder: str, listing: bytes) -> None:
        """Remember what the bucket held of a folder when the working copy was the same."""
        place = self._mark_of(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, listing)

    def _marked(self, folder: str) -> bytes | None:
        try:
            return self._mark_of(folder).read_bytes()
        except FileNotFoundError:
            return None

    def _known(self, folder: str) -> set[str]:
        return set(json.loads(self._marked(folder) or b"[]"))

    def _send(self, path: str) -> None:
        place, what = self.folder / path, self._what(path, "sending")
        if place.stat().st_size <= _PUT_BYTES:
            self.write(path, place.read_bytes())
        else:
            self._bucket.upload(place, self._key(path), what)

    def _fetch(self, path: str) -> str | None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, suffix=".partial")
        os.close(handle)
        try:
            sha256 = self._bucket.download(self._key(path), Path(temporary), self._what(path, "fetching"))
            if sha256 is not None:
                os.replace(temporary, place)
            return sha256
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _fetch_checked(self, folder: str, to: Path, name: str, facts: list[Any]) -> None:
        path = f"{folder}/{name}"
        found = self._bucket.download(self._key(path), to / name, self._what(path, "fetching"))
        if found != facts[1]:
            raise OutsideWorldError(
                f"{self.where}/{path}: {'not there' if found is None else 'not the bytes that were sent'}",
                hint=f"Another build may have replaced it: run the same command again; if it stays so, delete "
                f"{self.where}/{folder}.json and build again",
            )

    def _copy(self, source: str, target: str) -> None:
        self._bucket.call(
            "copy_object",
            self._what(target, "copying"),
            Key=self._key(target),
            CopySource={"Bucket": self._bucket.name, "Key": self._key(source)},
        )

    def _key(self, path: str) -> str:
        return f"{self._home}/{path}"

    def _what(self, path: str, doing: str) -> str:
        return f"{self.where}/{path}: {doing}"

    # -- the lease -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def leased(self, waiting: Callable[[], None]) -> Iterator["Lease"]:
        """Hold the dataset's lease; where another process holds it, ``waiting`` is called once, and this waits."""
        lease = Lease(self)
        lease.acquire(waiting)
        try:
            yield lease
        finally:
            lease.release()

    def read_lease(self) -> "tuple[Mapping[str, Any], str, float] | None":
        """What the lease says, its ETag, and its age in seconds by the server's own clock."""
        found = self._bucket.call("head_object", self._what(_LEASE, "reading"), Key=self._key(_LEASE))
        data = self.read(_LEASE) if found is not None else None
        if found is None or data is None:
            return None
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        try:
            said = json.loads(data)
        except ValueError:
            said = {}
        return said, found["ETag"], (now - found["LastModified"]).total_seconds()

    def write_lease(self, data: bytes, **condition: str) -> bool:
        """Write the lease; False where ``condition`` does not hold and the server knows conditions."""
        try:
            self._bucket.call(
                "put_object", self._what(_LEASE, "writing"), Key=self._key(_LEASE), Body=data, **condition
            )
        except ConditionError:
            return False
        return True


_LEASE: Final = "build.lease"


class Lease:
    """The right to change a dataset's storage, for as long as its holder gives a sign now and then."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._token = secrets.token_hex(8)
        self._data = json.dumps(
            {
                "token": self._token,
                "host": socket.gethostname(),
                "process": os.getpid(),
                "machine": _machine(),
            }
        ).encode()
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._give_signs, daemon=True)

    def acquire(self, waiting: Callable[[], None]) -> None:
        """Take the lease, after whoever has it; the holder's death ends a lease too."""
        is_told = False
        while not self._try():
            if not is_told:
                waiting()
                is_told = True
            time.sleep(_POLL_SECONDS)
        self._signs.start()

    def require_held(self) -> None:
        """Raise ``OutsideWorldError`` where another process has taken the lease since."""
        found = self._remote.read_lease()
        if found is None or found[0].get("token") != self._token:
            by = f"process {found[0].get('process')} of {found[0].get('host')}" if found else "somebody"
            raise OutsideWorldError(
                f"{self._remote.where}: {by} has taken the lease of this build, which gave no sign for "
                f"{LEASE_SECONDS:.0f} s or was ended by hand",
                hint="Run the same command again when no other build of the dataset runs",
            )

    def release(self) -> None:
        """Give the lease back; where the storage has gone, it ends by itself."""
        self._ended.set()
        self._signs.join()
        with contextlib.suppress(OutsideWorldError):
            self.require_held()
            self._remote.remove([_LEASE])

    def _try(self) -> bool:
        found = self._remote.read_lease()
        if found is None:
            is_written = self._remote.write_lease(self._data, IfNoneMatch="*")
        elif found[2] > LEASE_SECONDS or _has_ended(found[0]):
            is_written = self._remote.write_lease(self._data, IfMatch=found[1])
        else:
            return False
        if not is_written:
            return False
        if self._remote.write_lease(
            self._data, IfNoneMatch="*"
        ):  # it is there: this server knows no conditions
            time.sleep(_SETTLING_SECONDS)
        now = self._remote.read_lease()
        return now is not None and now[0].get("token") == self._token

    def _give_signs(self) -> None:
        while not self._ended.wait(_SIGN_SECONDS):
            with contextlib.suppress(OutsideWorldError):  # the build itself meets it, and says it
                self.require_held()
                self._remote.write_lease(self._data)


def _machine() -> str:
    """What tells apart machines, and containers that cannot see one another's processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            os.readlink("/proc/self/ns/pid"),
        ]
    return " ".join(parts)


def _has_ended(holder: Mapping[str, Any]) -> bool:
    """Whether the holder of a lease was a process of this machine that has ended."""
    process = holder.get("process")
    return holder.get("machine") == _machine() and isinstance(process, int) and not is_running(process)


def _listing(folder: Path) -> dict[str, list[Any]]:
    """Path -> [size, SHA-256] of every file below a folder."""
    return {
        place.relative_to(folder).as_posix(): [place.stat().st_size, file_sha256(place)]
        for place in sorted(folder.rglob("*"))
        if place.is_file()
    }


def _files(listing: bytes | None) -> dict[str, list[Any]]:
    """What :func:`_listing` gave; nothing where there is none. Paths that leave the folder are no paths."""
    try:
        found = json.loads(listing or b"{}")
    except ValueError:
        return {}
    return {name: facts for name, facts in found.items() if is_inside(name)}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
