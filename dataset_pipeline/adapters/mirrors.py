"""Whether the places that a version was published at still give its bytes, and how fast.

Belongs here: downloading every file from every place, comparing checksums, and measuring. Nothing is kept on
disk but the archive that a record has, for as long as it is read. Does not belong here: which places there are
(``stages/mirrors.py``).
"""

import functools
import hashlib
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from dataset_pipeline.adapters.destinations import CHUNK_BYTES, Retries, TransientError, retry_after
from dataset_pipeline.errors import ConfigError, OutsideWorldError

_STREAMS: Final = 4


@dataclass(frozen=True)
class MirrorHealth:
    """What one place gave."""

    name: str
    base: str
    files: int
    """Files that were compared."""
    faults: tuple[str, ...]
    """``path: what is wrong``, one a file."""
    first_byte_ms: float | None
    """Median time to the first byte; None where nothing came."""
    mib_per_s: float | None
    """One file after the other."""
    mib_per_s_4: float | None
    """Four at a time."""

    @property
    def is_good(self) -> bool:
        """Whether every file is there with its bytes."""
        return not self.faults


def check_mirror(
    name: str,
    base: str,
    places: Mapping[str, tuple[str, str | None]],
    checksums: Mapping[str, str],
    *,
    retries: Retries | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> MirrorHealth:
    """Download every file of a version from one place; nothing that is wrong there raises.

    ``places``: path -> (address, member of the archive there, or None); ``checksums``: path -> SHA-256 as it was
    published.
    """
    reader = _Reader(retries or Retries(attempts=3), clock)
    direct = [path for path, (_, member) in places.items() if member is None]
    archived = [path for path in places if path not in direct]
    faults: dict[str, str] = {}
    began = clock()
    for path in direct:
        _compare(faults, path, checksums[path], functools.partial(reader.sha256, places[path][0]))
    for url in sorted({places[path][0] for path in archived}):
        members = {path: str(places[path][1]) for path in archived if places[path][0] == url}
        _compare_archive(faults, reader, url, members, checksums)
    one, first_byte_s = _rate(reader.bytes, clock() - began), list(reader.first_byte_s)
    whole = [path for path in direct if path not in faults]
    began, before = clock(), reader.bytes
    with ThreadPoolExecutor(_STREAMS) as pool:
        for path, job in [(path, pool.submit(reader.sha256, places[path][0])) for path in whole]:
            _compare(faults, path, checksums[path], job.result)
    return MirrorHealth(
        name,
        base,
        len(places),
        tuple(f"{path}: {fault}" for path, fault in sorted(faults.items())),
        round(1000 * statistics.median(first_byte_s), 1) if first_byte_s else None,
        one,
        _rate(reader.bytes - before, clock() - began),
    )


def read_measured(path: Path) -> dict[str, float]:
    """Destination -> MiB/s of a file that :func:`table` gives; empty where there is none."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["mirrors"]
        return {
            str(row["name"]): float(row["mib_per_s"])
            for row in rows
            if row["mib_per_s"] and not row["faults"]
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path}: not a list of measured mirrors",
            hint="Write it anew with: dataset-pipeline mirrors CONFIG",
        ) from None


def table(found: list[MirrorHealth], version: str, checked_at: str) -> dict[str, Any]:
    """What was found, as JSON, the fastest place without faults first."""
    rows = sorted(found, key=lambda health: (not health.is_good, -(health.mib_per_s or 0.0), health.name))
    return {
        "version": version,
        "checked_at": checked_at,
        "mirrors": [
            {
                "name": row.name,
                "base": row.base,
                "files": row.files,
                "faults": list(row.faults),
                "first_byte_ms": row.first_byte_ms,
                "mib_per_s": row.mib_per_s,
                "mib_per_s_4": row.mib_per_s_4,
            }
            for row in rows
        ],
    }


def _compare(faults: dict[str, str], path: str, checksum: str, read: Callable[[], str]) -> None:
    try:
        if read() != checksum:
            faults[path] = "changed: other bytes than were published"
    except (OutsideWorldError, _GoneError) as error:
        faults[path] = str(error)


def _compare_archive(
    faults: dict[str, str],
    reader: "_Reader",
    url: str,
    members: Mapping[str, str],
    checksums: Mapping[str, str],
) -> None:
    with tempfile.TemporaryFile() as stream:
        try:
            reader.sha256(url, stream)
            archive = zipfile.ZipFile(stream)
        except (OutsideWorldError, _GoneError, zipfile.BadZipFile) as error:
            faults.update(dict.fromkeys(members, f"its archive: {error}"))
            return
        for path, member in members.items():
            try:
                digest = hashlib.sha256()
                with archive.open(member) as source:
                    while chunk := source.read(CHUNK_BYTES):
                        digest.update(chunk)
            except (KeyError, zipfile.BadZipFile):
                faults[path] = "missing in its archive, or damaged there"
                continue
            if digest.hexdigest() != checksums[path]:
                faults[path] = "changed: other bytes than were published"


def _rate(size: int, seconds: float) -> float | None:
    return round(size / 2**20 / seconds, 3) if size and seconds > 0 else None


class _GoneError(Exception):
    """The place answers, and does not have the file."""


class _Reader:
    """Downloads, and what they took."""

    def __init__(self, retries: Retries, clock: Callable[[], float]) -> None:
        self._retries, self._clock = retries, clock
        self.first_byte_s: list[float] = []
        self.bytes = 0

    def sha256(self, url: str, copy: IO[bytes] | None = None) -> str:
        """SHA-256 of what an address gives, which is also written to ``copy``."""
        return self._retries.call(lambda: self._once(url, copy), url)

    def _once(self, url: str, copy: IO[bytes] | None) -> str:
        import requests

        if copy is not None:
            copy.seek(0)
            copy.truncate()

        digest, size, began = hashlib.sha256(), 0, self._clock()
        try:
            with requests.get(
                url, stream=True, timeout=(20, 60), headers={"Accept-Encoding": "identity"}
            ) as answer:
                if answer.status_code in (429, 500, 502, 503, 504):
                    raise TransientError(
                        f"the host answered {answer.status_code}", retry_after(answer.headers)
                    )
                if not answer.ok:
                    raise _GoneError(f"missing: the host answered {answer.status_code}")
                for number, chunk in enumerate(answer.iter_content(CHUNK_BYTES)):
                    if number == 0:
                        self.first_byte_s.append(self._clock() - began)
                    digest.update(chunk)
                    size += len(chunk)
                    if copy is not None:
                        copy.write(chunk)
                expected = answer.headers.get("Content-Length")
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise TransientError(f"{type(error).__name__}: the connection broke or gave no answer") from None
        if expected is not None and size != int(expected):
            raise TransientError("the answer was cut short")
        self.bytes += size
        return digest.hexdigest()
