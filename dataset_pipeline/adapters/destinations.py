"""What all destinations of a release share: its files, what was done, retries, and texts without secrets.

Belongs here: what ``folder``, ``s3``, ``huggingface`` and ``zenodo`` would otherwise each have. Does not
belong here: how bytes reach one of them, and whether a release may leave (``publication.py``).
"""

import datetime
import email.utils
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import is_inside, version_order
from dataset_pipeline.errors import ConfigError, GateError, OutsideWorldError

CHECKSUMS: Final = "SHA256SUMS"
MAY_DIFFER: Final = frozenset({"provenance.json"})
"""Tells how a release was made, not what is in it: two builds of one version differ in it."""

CHUNK_BYTES: Final = 1 << 20

Progress = Callable[[int, int], None]
Result = TypeVar("Result")

_CONTENT_TYPES: Final = {
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".ipynb": "application/x-ipynb+json",
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".zip": "application/zip",
    ".tar": "application/x-tar",
    ".cff": "application/yaml",
    ".py": "text/x-python; charset=utf-8",
}


@dataclass(frozen=True)
class LocalRelease:
    """A release folder on this machine, and what its ``SHA256SUMS`` says of it."""

    folder: Path
    name: str
    version: str
    title: str
    checksums: Mapping[str, str]
    """Path -> SHA-256 of every file but the list itself."""
    sizes: Mapping[str, int]
    """Path -> bytes of every file, the list itself included."""

    @classmethod
    def open(cls, folder: Path, name: str, version: str, title: str | None = None) -> "LocalRelease":
        """Raises ``ConfigError`` where the folder is no release, ``GateError`` where a file is missing."""
        checksums = read_checksums(folder)
        sizes = {path: _size(folder, path) for path in [*sorted(checksums), CHECKSUMS]}
        return cls(folder, name, version, title or name, checksums, sizes)

    def checked(self, path: str) -> Path:
        """Where a file is, once its bytes have been found to be what its checksum says."""
        place = self.folder / path
        if path != CHECKSUMS and file_sha256(place) != self.checksums[path]:
            raise GateError(f"{place}: not what {CHECKSUMS} says", hint="Build the release again")
        return place


@dataclass(frozen=True)
class Publication:
    """What was done at a destination, or in a dry run what would be."""

    place: str
    """Where the version is, for people: a folder or an address."""
    sent: tuple[str, ...]
    unchanged: tuple[str, ...]
    sent_bytes: int
    is_dry_run: bool
    steps: tuple[str, ...]
    """Every change at the destination, in order, one line each; none: it is there already."""
    copied: tuple[str, ...] = ()
    """Files that the destination copied from an earlier version."""
    is_public: bool = False
    """Whether anyone may read it."""
    is_final: bool = True
    """Whether the version can be cited; a draft cannot."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> address it is read at, where there is one."""
    doi: str | None = None
    notes: tuple[str, ...] = ()
    """What is left to do, one line each."""


def read_checksums(release: Path) -> dict[str, str]:
    """Path -> SHA-256 of a release's ``SHA256SUMS``; raises ``ConfigError`` where it is no such file."""
    try:
        text = (release / CHECKSUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{release}: no {CHECKSUMS} there, so it is not a release",
            hint="Build it first: dataset-pipeline build",
        ) from None
    except OSError as error:
        raise OutsideWorldError(f"{release / CHECKSUMS}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{release / CHECKSUMS}: not UTF-8") from None
    return parse_checksums(text, f"{release / CHECKSUMS}")


def parse_checksums(text: str, where: str) -> dict[str, str]:
    """Path -> SHA-256 of the text of a ``SHA256SUMS``; raises ``ConfigError`` for any other text."""
    expected = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match is None or not is_inside(match[2]):
            raise ConfigError(f"{where}:{number}: expected a SHA-256 and a path inside the release")
        expected[match[2]] = match[1]
    return expected


def refuse_other_content(
    place: str, version: str, published: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    """Published is final: the same content may be sent again, other content needs another version."""
    differing = sorted(
        path for path in {*expected, *published} - MAY_DIFFER if expected.get(path) != published.get(path)
    )
    if differing:
        raise ConfigError(
            f"{place}: version {version} is published already with other content "
            f"({len(differing)} files differ, such as {differing[0]})",
            hint="Raise 'version' in dataset.yaml: a published version is never changed",
        )


def later(version: str, other: str | None) -> str:
    """The higher of two versions."""
    return version if other is None or version_order(version) >= version_order(other) else other


def content_type(path: str) -> str:
    """Media type that a browser needs to show a file of a release."""
    return _CONTENT_TYPES.get(PurePosixPath(path).suffix, "text/plain; charset=utf-8")


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes, hexadecimal: all that some hosts give; it finds accidents, not attacks."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _size(release: Path, path: str) -> int:
    try:
        return (release / path).stat().st_size
    except FileNotFoundError:
        raise GateError(
            f"{release / path}: named in {CHECKSUMS}, but missing", hint="Build the release again"
        ) from None


# -- retries -------------------------------------------------------------------------------


class TransientError(Exception):
    """A request that may well succeed when it is made again."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        """``reason``: what happened, without secrets; ``retry_after_s``: how long the host asks to wait."""
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Retries:
    """How often a request is made, and how long is waited in between."""

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0
    """A host that asks for more patience than this is reported."""
    sleep: Callable[[float], None] = time.sleep

    def call(self, request: Callable[[], Result], what: str) -> Result:
        """Make a request until it succeeds; ``what`` names the file and the place in the error.

        Raises ``OutsideWorldError`` when the attempts are used up.
        """
        wait = self.first_wait_s
        for attempt in range(1, self.attempts + 1):
            try:
                return request()
            except TransientError as error:
                asked = error.retry_after_s
                if attempt == self.attempts or (asked or 0) > self.longest_wait_s:
                    patience = f", which asks to wait {asked:.0f} s" if asked else ""
                    raise OutsideWorldError(
                        f"{what}: {error.reason}{patience} ({attempt} attempts)",
                        hint="Run the same command again later: what has arrived is not sent again",
                    ) from None
                self.sleep(wait if asked is None else asked)
                wait = min(2 * wait, self.longest_wait_s)
        raise AssertionError("unreachable")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110); a date counts from the server's own clock."""
    lower = {name.lower(): value for name, value in headers.items()}
    value = lower.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    try:
        now = email.utils.parsedate_to_datetime(lower.get("date", ""))
    except ValueError:
        now = datetime.datetime.now(datetime.timezone.utc)
    return max(0.0, (until - now).total_seconds())


# -- secrets -------------------------------------------------------------------------------

SECRET_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "ZENODO_TOKEN",
)
"""Environment variables whose values appear nowhere else."""


def without_secrets(text: str, *, limit: int = 300) -> str:
    """One printable line of ``text`` in which no credential and no signed address is left."""
    for variable in SECRET_VARIABLES:
        value = os.environ.get(variable, "")
        if len(value) >= 4:
            text = text.replace(value, "***")
    text = re.sub(r"(?i)\b(bearer|basic|token)(\s+|=)[\w.~+/=-]{8,}", r"\1 ***", text)
    text = re.sub(r"\bhf_\w{8,}", "***", text)
    text = re.sub(r"(https?://)[^/\s@]*@", r"\1", text)
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]*", r"\1", text)
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else " " for c in line)[:limit]
