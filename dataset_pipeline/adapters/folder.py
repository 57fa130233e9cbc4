"""Publication of a release to a local or mounted folder.

Belongs here: copying that can be repeated after any interruption. Layout at the destination::

    FOLDER/<name>/<version>/           a published release; never changed again
    FOLDER/<name>/.<version>.partial/  one that is being sent
    FOLDER/<name>/latest               a text file: the highest published version, on one line

``latest`` is a file and not a link, because mounted file systems often have no links. Does not
belong here: which release is sent, and whether it passed its gates.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dataset_pipeline.adapters.destinations import (
    CHECKSUMS,
    CHUNK_BYTES,
    LocalRelease,
    Progress,
    Publication,
    later,
    read_checksums,
    refuse_other_content,
)
from dataset_pipeline.adapters.store import explained_os_errors, file_sha256, write_atomically
from dataset_pipeline.errors import ConfigError, GateError, OutsideWorldError

_SENDING: Final = ".sending"


def publish_folder(
    release: LocalRelease,
    target: Path,
    *,
    is_dry_run: bool = False,
    progress: Progress | None = None,
) -> Publication:
    """Copy a release folder to ``target/<name>/<version>``; a repeated call sends only what is missing.

    Every file is read back after it was written; the version appears, by one rename, when all of them
    are there, and ``latest`` is switched last. ``progress`` gets bytes done and bytes in all. Raises
    ``ConfigError`` where the version is published already with other content, ``GateError`` where the
    release is not what its checksums say, ``OutsideWorldError`` for a full disk, a missing permission
    or a copy that comes back different.
    """
    expected, version = release.checksums, release.version
    home = target / release.name
    place, partial = home / version, home / f".{version}.partial"
    with explained_os_errors(target):
        if not target.exists() and not target.parent.is_dir():
            raise OutsideWorldError(
                f"{target}: neither it nor the folder above it is there",
                hint="Mount or create the folder, or correct 'publish' in dataset.yaml",
            )
        before = _latest(home)
        after = later(version, before)
        is_published = os.path.lexists(place)
        if is_published:
            _refuse_other_content(place, expected, version)
        kept = (
            set(expected)
            if is_published
            else {path for path in expected if _has(partial / path, expected[path])}
        )
        to_send = (
            [] if is_published else [path for path in [*sorted(expected), CHECKSUMS] if path not in kept]
        )
        leftovers = [] if is_published else _leftovers(partial, kept)
        sizes = release.sizes
        plan = Publication(
            str(place),
            tuple(to_send),
            tuple(sorted(kept)),
            sum(sizes[path] for path in to_send),
            is_dry_run,
            (
                *([] if is_published or partial.exists() else [f"create {partial}"]),
                *(f"delete {path}" for path in leftovers),
                *(f"send {path} ({sizes[path]} bytes)" for path in to_send),
                *([] if is_published else [f"rename {partial} to {place}"]),
                *(
                    []
                    if before == after
                    else [f"set {home / 'latest'} from {before or 'nothing'} to {after}"]
                ),
            ),
        )
        if is_dry_run:
            return plan
        if not is_published:
            partial.mkdir(parents=True, exist_ok=True)
            for leftover in leftovers:
                leftover.unlink()
            done = 0
            for path in to_send:
                _send(release.folder / path, partial / path, expected.get(path))
                done += sizes[path]
                if progress is not None:
                    progress(done, plan.sent_bytes)
            partial.rename(place)
            _sync(home)
        if before != after:
            write_atomically(home / "latest", f"{after}\n".encode(), is_shared=True)
    return plan


def _refuse_other_content(place: Path, expected: Mapping[str, str], version: str) -> None:
    """Published is final: the same content may be sent again, other content needs a new version."""
    try:
        published = read_checksums(place)
    except ConfigError:
        published = {}
    refuse_other_content(str(place), version, published, expected)
    damaged = sorted(path for path, checksum in published.items() if not _has(place / path, checksum))
    if damaged:
        raise OutsideWorldError(
            f"{place}: {len(damaged)} published files are missing or damaged, such as {damaged[0]}",
            hint=f"Move {place} away and publish again",
        )


def _leftovers(partial: Path, kept: set[str]) -> list[Path]:
    """Files of an interrupted sending that are no part of this one, or not whole."""
    if not partial.is_dir():
        return []
    return sorted(
        path
        for path in partial.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.relative_to(partial).as_posix() not in kept
    )


def _send(source: Path, place: Path, checksum: str | None) -> None:
    """Copy under a temporary name, read back, then rename."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(place.name + _SENDING)
    digest = hashlib.sha256()
    with source.open("rb") as stream, temporary.open("wb") as copy:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if checksum is not None and digest.hexdigest() != checksum:
        temporary.unlink()
        raise GateError(f"{source}: not what {CHECKSUMS} says", hint="Build the release again")
    if file_sha256(temporary) != digest.hexdigest():
        temporary.unlink()
        raise OutsideWorldError(
            f"{place}: the copy reads back different", hint="Check the destination's disk"
        )
    temporary.replace(place)


def _has(path: Path, checksum: str) -> bool:
    return path.is_file() and not path.is_symlink() and file_sha256(path) == checksum


def _latest(home: Path) -> str | None:
    """What ``latest`` says; None where there is no such file."""
    try:
        text = (home / "latest").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return text.strip() or None


def _sync(folder: Path) -> None:
    """Make a rename durable where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems do not sync folders
    finally:
        os.close(handle)
