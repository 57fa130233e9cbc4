"""Publication of a release as a record of Zenodo, its sandbox, or any other InvenioRDM.

Belongs here: drafts, versions, DOIs, and the files of a record, at most 50 GB. Which of them holds what is said by
``config.record_files``; unpacked into one folder, a record is the release again, and ``sha256sum -c`` passes.

The way to a published record has three steps, each of them a call that can be repeated: the first reserves a DOI,
which then goes into dataset.yaml and from there into the card; the second fills the draft; the third, which has to
be asked for, publishes it and cannot be undone. Does not belong here: what the record says
(``stages/datacite.py``), and the token, which is read from ``ZENODO_TOKEN``.

Source: the public REST API reference of InvenioRDM (records, drafts, files, versions, ``user/records``), and
Zenodo's developer documentation on its limits and on rate limiting.
"""

import contextlib
import email.utils
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from dataset_pipeline.adapters.destinations import (
    CHECKSUMS,
    MAY_DIFFER,
    LocalRelease,
    Progress,
    Publication,
    Retries,
    TransientError,
    md5_of,
    refuse_other_content,
    retry_after,
    without_secrets,
)
from dataset_pipeline.adapters.store import explained_os_errors
from dataset_pipeline.config import ZenodoDestination, record_files, version_order
from dataset_pipeline.errors import ConfigError, OutsideWorldError

TOKEN_VARIABLE: Final = "ZENODO_TOKEN"  # noqa: S105 - its name
MAX_BYTES: Final = 50 * 10**9
_PAGE: Final = 100
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every member of an archive, so that equal content gives equal bytes."""
_TOKEN_HINT: Final = f"Set {TOKEN_VARIABLE} to a token with the scopes deposit:write and deposit:actions"


@dataclass(frozen=True)
class Package:
    """One file of the record."""

    key: str
    members: tuple[str, ...]
    """Paths of the release that it holds."""
    is_archive: bool


def packages(release: LocalRelease) -> list[Package]:
    """How a release becomes at most 100 files without folders; the same release gives the same ones.

    Raises ``OutsideWorldError`` where it is larger than a record may be.
    """
    if (size := sum(release.sizes.values())) > MAX_BYTES:
        raise OutsideWorldError(
            f"{release.folder}: {size} bytes, and a record takes {MAX_BYTES}",
            hint="Ask the host for a larger quota, or publish a smaller variant there",
        )
    members: dict[tuple[str, bool], list[str]] = {}
    for path, file in record_files(release.sizes, release.name, release.version).items():
        members.setdefault(file, []).append(path)
    return [Package(key, tuple(paths), is_archive) for (key, is_archive), paths in members.items()]


def publish_zenodo(
    release: LocalRelease,
    settings: ZenodoDestination,
    metadata: Mapping[str, Any],
    doi: str | None,
    *,
    is_final: bool = False,
    is_dry_run: bool = False,
    progress: Progress | None = None,
    retries: Retries | None = None,
) -> Publication:
    """Take a release one step nearer to a published record; a repeated call sends only what is missing.

    ``metadata``: of the record, in InvenioRDM's form; ``doi``: the one that the release's documents name;
    ``is_final``: whether the draft is published once it is complete. Raises ``ConfigError`` for metadata that the
    host refuses and for a version that is published with other content, and ``OutsideWorldError`` for tokens,
    permissions, limits, and a host that fails again and again.
    """
    plan = packages(release)
    host = _Host(settings, retries or Retries())
    with tempfile.TemporaryDirectory(prefix="dataset-pipeline-") as folder, explained_os_errors(Path(folder)):
        files = _Files(release, plan, Path(folder))
        found = _find(host, metadata, settings)
        record = found.published.get(release.version)
        if record is not None:
            return _published_already(host, release, record, files, is_dry_run)
        work = _Work(host, release, settings, metadata, doi, is_final, is_dry_run, files, progress)
        return work.do(found)


@dataclass(frozen=True)
class _Found:
    """Records of this dataset that the token's owner has."""

    published: Mapping[str, Mapping[str, Any]]
    """Version -> record."""
    draft: Mapping[str, Any] | None
    """The draft of this version, or of the next one without a number."""

    @property
    def newest(self) -> Mapping[str, Any] | None:
        """The published record of the highest version."""
        version = max(self.published, key=version_order, default=None)
        return None if version is None else self.published[version]


def _find(host: "_Host", metadata: Mapping[str, Any], settings: ZenodoDestination) -> _Found:
    """Records are the same dataset's where their title is the same, or where ``record`` names one of them."""
    mine = list(host.mine(str(metadata["title"])))
    parents = {entry["parent"]["id"] for entry in mine if entry["metadata"].get("title") == metadata["title"]}
    if settings.record is not None:
        named = host.get(f"/records/{quote(settings.record)}", f"looking for record {settings.record}")
        if named is None:
            raise ConfigError(
                f"{host.url}: no record {settings.record}", hint="Correct 'record' in dataset.yaml"
            )
        parents = {named["parent"]["id"]}
        mine = list(host.mine(None, parent=named["parent"]["id"]))
    ours = [entry for entry in mine if entry["parent"]["id"] in parents]
    published = {str(entry["metadata"].get("version")): entry for entry in ours if entry.get("is_published")}
    drafts = [
        entry
        for entry in ours
        if not entry.get("is_published")
        and entry["metadata"].get("version") in (None, "", metadata["version"])
    ]
    return _Found(published, drafts[0] if drafts else None)


def _published_already(
    host: "_Host", release: LocalRelease, record: Mapping[str, Any], files: "_Files", is_dry_run: bool
) -> Publication:
    entries = host.entries(f"/records/{record['id']}/files", "listing the published files")
    md5s = {key: entry["checksum"].removeprefix("md5:") for key, entry in entries.items()}
    differing = {
        key for key in {*md5s, *files.keys} - MAY_DIFFER - {CHECKSUMS} if md5s.get(key) != files.md5(key)
    }
    refuse_other_content(
        f"{host.url}/records/{record['id']}", release.version, dict.fromkeys(differing, "other"), {}
    )
    return _publication(host, release, record, files, (), (), is_dry_run, ())


@dataclass(frozen=True)
class _Work:
    """One call on a version that is not published."""

    host: "_Host"
    release: LocalRelease
    settings: ZenodoDestination
    metadata: Mapping[str, Any]
    doi: str | None
    is_final: bool
    is_dry_run: bool
    files: "_Files"
    progress: Progress | None
    steps: list[str] = field(default_factory=list)

    def do(self, found: _Found) -> Publication:
        """Draft, DOI, files, metadata, and publication where it was asked for."""
        draft = found.draft or self._new_draft(found)
        doi = _doi_of(draft)
        if doi is None:
            self.steps.append("reserve a DOI")
            if draft is not None and not self.is_dry_run:
                draft = self.host.reserve(str(draft["id"]))
                doi = _doi_of(draft)
        if self.doi is None or self.doi != doi:
            return self._stopped(draft, doi)
        assert draft is not None
        identifier = str(draft["id"])
        sent, unchanged = self._send(identifier, found.newest)
        wanted = {"metadata": dict(self.metadata), "access": {"record": "public", "files": "public"}}
        if any(
            draft["metadata"].get(name) != value for name, value in self.metadata.items() if name in _PLAIN
        ):
            self.steps.append(f"describe it: version {self.release.version}, {_rights(self.metadata)}")
        if not self.is_dry_run:
            self.host.describe(identifier, wanted, draft)
        if self.is_final:
            self.steps.append(f"publish {doi}, which cannot be undone")
            if not self.is_dry_run:
                draft = self.host.publish(identifier)
        notes = (
            ()
            if self.is_final
            else (
                f"the draft is complete: look at {_page(draft, self.host, identifier)}, then publish it, which cannot be "
                "undone, with the same command and --final",
            )
        )
        return _publication(
            self.host, self.release, draft, self.files, tuple(sent), tuple(unchanged), self.is_dry_run, tuple(self.steps),
            is_final=self.is_final, notes=notes,
        )  # fmt: skip

    def _new_draft(self, found: _Found) -> Mapping[str, Any] | None:
        newest = found.newest
        title = f"'{self.metadata['title']}' {self.release.version}"
        if newest is None:
            self.steps.append(f"create a draft of {title} at {self.host.url}")
            if self.is_dry_run:
                return None
            return self.host.create(dict(self.metadata))
        self.steps.append(f"create a draft of {title} as the next version of record {newest['id']}")
        if self.is_dry_run:
            return None
        return self.host.new_version(str(newest["id"]))

    def _stopped(self, draft: Mapping[str, Any] | None, doi: str | None) -> Publication:
        """The documents do not name the DOI yet, so nothing is sent."""
        named = "name no DOI" if self.doi is None else f"name {self.doi}"
        notes = (
            (
                f"the DOI {doi} is reserved for this version, and the release's documents {named}: set 'doi: {doi}' in "
                "dataset.yaml, build again, and publish again",
            )
            if doi
            else ("after that the DOI goes into dataset.yaml, and with the next build into the card",)
        )
        return _publication(
            self.host, self.release, draft, self.files, (), (), self.is_dry_run, tuple(self.steps), is_final=False,
            notes=notes,
        )  # fmt: skip

    def _send(self, identifier: str, newest: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
        """(keys that were sent, keys that were there)."""
        where = f"/records/{identifier}/draft"
        entries = self.host.entries(f"{where}/files", "listing the draft's files")
        if not entries and newest is not None:
            older = self.host.entries(f"/records/{newest['id']}/files", "listing the earlier version's files")
            if any(self._is_there(key, older) for key in self.files.keys):
                self.steps.append(f"take over the files of record {newest['id']}")
                entries = older
                if not self.is_dry_run:
                    self.host.post(f"{where}/actions/files-import", "taking over files")
                    entries = self.host.entries(f"{where}/files", "listing the draft's files")
        unchanged = [key for key in self.files.keys if self._is_there(key, entries)]
        to_send = [key for key in self.files.keys if key not in unchanged]
        for key in sorted(entries):
            if key not in unchanged:
                self.steps.append(f"delete {key} from the draft")
                if not self.is_dry_run:
                    self.host.delete(f"{where}/files/{quote(key)}", f"deleting {key}")
        total, done = sum(self.files.size(key) for key in to_send), 0
        for key in to_send:
            self.steps.append(f"send {key} ({self.files.size(key)} bytes{self.files.told(key)})")
            if not self.is_dry_run:
                with self.files.opened(key) as path:
                    self.host.upload(where, key, path, self.files.md5(key))
                done += self.files.size(key)
                if self.progress is not None:
                    self.progress(done, total)
        return to_send, unchanged

    def _is_there(self, key: str, entries: Mapping[str, Mapping[str, Any]]) -> bool:
        entry = entries.get(key)
        return (
            entry is not None
            and entry.get("status", "completed") == "completed"
            and entry.get("checksum") == f"md5:{self.files.md5(key)}"
        )


_PLAIN: Final = ("title", "version", "publication_date", "description", "publisher")


def _publication(
    host: "_Host",
    release: LocalRelease,
    record: Mapping[str, Any] | None,
    files: "_Files",
    sent: tuple[str, ...],
    unchanged: tuple[str, ...],
    is_dry_run: bool,
    steps: tuple[str, ...],
    *,
    is_final: bool = True,
    notes: tuple[str, ...] = (),
) -> Publication:
    identifier = None if record is None else str(record["id"])
    place = f"{host.url}/{'records' if is_final else 'uploads'}/{identifier or ''}".rstrip("/")
    addresses = {
        package.members[0]: f"{host.url}/records/{identifier}/files/{quote(package.key)}"
        for package in files.plan
        if not package.is_archive
    }
    archives = {
        member: f"{host.url}/records/{identifier}/files/{quote(package.key)}#{quote(member)}"
        for package in files.plan
        if package.is_archive
        for member in package.members
    }
    return Publication(
        place=place,
        sent=sent,
        unchanged=unchanged,
        sent_bytes=sum(files.size(key) for key in sent),
        is_dry_run=is_dry_run,
        steps=steps,
        is_public=is_final,
        is_final=is_final,
        files={path: {**addresses, **archives}[path] for path in release.sizes}
        if is_final and identifier
        else {},
        doi=_doi_of(record),
        notes=notes,
    )


def _doi_of(record: Mapping[str, Any] | None) -> str | None:
    return None if record is None else record.get("pids", {}).get("doi", {}).get("identifier")


def _rights(metadata: Mapping[str, Any]) -> str:
    names = [right.get("id") or right["title"]["en"] for right in metadata["rights"]]
    return f"licence {' and '.join(names)}"


def _page(record: Mapping[str, Any], host: "_Host", identifier: str) -> str:
    return str(record.get("links", {}).get("self_html") or f"{host.url}/uploads/{identifier}")


# -- files ---------------------------------------------------------------------------------


class _Files:
    """The files of a record; archives are made when they are needed, one at a time."""

    def __init__(self, release: LocalRelease, plan: Sequence[Package], folder: Path) -> None:
        self._release, self.plan, self._folder = release, plan, folder
        self._packages = {package.key: package for package in plan}
        self._known: dict[str, tuple[str, int]] = {}

    @property
    def keys(self) -> list[str]:
        """Names of the record's files."""
        return list(self._packages)

    def md5(self, key: str) -> str:
        """MD5 of a file, or '' for a file that the plan does not have."""
        return self._about(key)[0] if key in self._packages else ""

    def size(self, key: str) -> int:
        """Its bytes."""
        return self._about(key)[1]

    def told(self, key: str) -> str:
        """What is in an archive."""
        package = self._packages[key]
        return f": {len(package.members)} files" if package.is_archive else ""

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[Path]:
        """Where a file is while it is being read."""
        package = self._packages[key]
        if not package.is_archive:
            yield self._release.checked(package.members[0])
            return
        path = self._folder / "archive.zip"
        needed = sum(self._release.sizes[member] for member in package.members)
        if needed > shutil.disk_usage(self._folder).free:
            raise OutsideWorldError(
                f"{self._folder}: no space left for {key}, which takes {needed} bytes",
                hint="Free some space, or set TMPDIR to a folder on a larger disk",
            )
        try:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for member in package.members:
                    about = zipfile.ZipInfo(member, _LONG_AGO)
                    about.external_attr = 0o644 << 16
                    about.file_size = self._release.sizes[member]
                    with (
                        self._release.checked(member).open("rb") as source,
                        archive.open(about, "w") as target,
                    ):
                        shutil.copyfileobj(source, target, 1 << 20)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _about(self, key: str) -> tuple[str, int]:
        if key not in self._known:
            with self.opened(key) as path:
                self._known[key] = (md5_of(path), path.stat().st_size)
        return self._known[key]


# -- requests ------------------------------------------------------------------------------


class _Host:
    """Requests to one host; every failure is one clear line, and what is worth another try gets it."""

    def __init__(self, settings: ZenodoDestination, retries: Retries) -> None:
        import requests

        self.url = settings.url.rstrip("/")
        self._retries = retries
        self._session = requests.Session()
        self._session.trust_env = False  # a .netrc must not replace the token
        self._session.proxies = requests.utils.get_environ_proxies(self.url)
        token = os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise OutsideWorldError(f"{self.url}: there is no token", hint=_TOKEN_HINT)
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.headers["Accept"] = "application/vnd.inveniordm.v1+json, application/json"

    # -- records

    def mine(self, title: str | None, parent: str | None = None) -> Iterator[Mapping[str, Any]]:
        """Records and drafts of the token's owner, newest first."""
        query = f'metadata.title:"{_escaped(title)}"' if title is not None else f'parent.id:"{parent}"'
        page, seen = 1, 0
        while True:
            answer = self.get(
                "/user/records", "looking for earlier versions",
                params={"q": query, "size": _PAGE, "page": page, "sort": "newest", "allversions": "true"},
            )  # fmt: skip
            hits = (answer or {}).get("hits", {})
            yield from hits.get("hits", [])
            seen += len(hits.get("hits", []))
            if not hits.get("hits") or seen >= hits.get("total", 0):
                return
            page += 1

    def create(self, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """A draft; where an answer got lost, the draft that was made is taken, and no second one is made."""
        body = {
            "access": {"record": "public", "files": "public"}, "files": {"enabled": True}, "metadata": dict(metadata),
        }  # fmt: skip
        is_first = True

        def once() -> Any:
            nonlocal is_first
            if not is_first:
                for entry in self.mine(str(metadata["title"])):
                    about = entry["metadata"]
                    if not entry.get("is_published") and about.get("version") == metadata["version"]:
                        return entry
            is_first = False
            return self._once("POST", "/records", "creating a draft", json=body)

        answer: Mapping[str, Any] = self._retries.call(once, f"{self.url}: creating a draft")
        return answer

    def new_version(self, identifier: str) -> Mapping[str, Any]:
        """The draft of the next version; the host gives the same one each time."""
        draft: Mapping[str, Any] = self.post(
            f"/records/{identifier}/versions", "creating a draft of the next version"
        )
        return draft

    def reserve(self, identifier: str) -> Mapping[str, Any]:
        """The draft with a DOI."""
        where = f"/records/{identifier}/draft"

        def once() -> Any:
            draft = self._once("GET", where, "looking at the draft")
            return draft if _doi_of(draft) else self._once("POST", f"{where}/pids/doi", "reserving a DOI")

        answer: Mapping[str, Any] = self._retries.call(once, f"{self.url}: reserving a DOI")
        return answer

    def describe(self, identifier: str, wanted: Mapping[str, Any], draft: Mapping[str, Any]) -> None:
        """Set the metadata; raises ``ConfigError`` with what the host does not accept."""
        body = {**wanted, "files": {"enabled": True}, "pids": draft.get("pids", {})}
        answer = self._request("PUT", f"/records/{identifier}/draft", "describing the draft", json=body)
        _raise_faults(answer or {}, self.url)

    def publish(self, identifier: str) -> Mapping[str, Any]:
        """Publish the draft; where an answer got lost, it is not done twice."""

        def once() -> Any:
            published = self._once(
                "GET", f"/records/{identifier}", "looking at the record", is_missing_fine=True
            )
            if published is not None and published.get("is_published"):
                return published
            return self._once("POST", f"/records/{identifier}/draft/actions/publish", "publishing the draft")

        answer: Mapping[str, Any] = self._retries.call(once, f"{self.url}: publishing the draft")
        return answer

    # -- files

    def entries(self, path: str, what: str) -> dict[str, Mapping[str, Any]]:
        """Key -> file of a draft or a record."""
        answer = self.get(path, what) or {}
        return {entry["key"]: entry for entry in answer.get("entries", [])}

    def upload(self, where: str, key: str, path: Path, md5: str) -> None:
        """Send one file and compare what the host has stored."""
        what = f"sending {key}"
        place = f"{where}/files/{quote(key)}"
        if self.get(place, what) is None:
            self.post(f"{where}/files", what, json=[{"key": key}], is_there_fine=True)

        def content() -> Any:
            with path.open("rb") as stream:
                return self._once(
                    "PUT",
                    f"{place}/content",
                    what,
                    data=stream,
                    headers={"Content-Type": "application/octet-stream"},
                )

        self._retries.call(content, f"{self.url}: {what}")
        self.post(f"{place}/commit", what, is_there_fine=True)
        stored = self.get(place, what) or {}
        if stored.get("checksum") != f"md5:{md5}":
            self.delete(place, what)
            raise OutsideWorldError(
                f"{self.url}: {what}: the host stored other bytes than were sent: its checksum is "
                f"{without_secrets(str(stored.get('checksum')))}, expected md5:{md5}",
                hint="Run the same command again: the file is sent anew",
            )

    # -- one request

    def get(self, path: str, what: str, **options: Any) -> Any:
        """The JSON at a path; None where there is none."""
        return self._request("GET", path, what, is_missing_fine=True, **options)

    def post(self, path: str, what: str, **options: Any) -> Any:
        """What the host answers to a change."""
        return self._request("POST", path, what, **options)

    def delete(self, path: str, what: str) -> None:
        """Delete; what is gone already is fine."""
        self._request("DELETE", path, what, is_missing_fine=True)

    def _request(self, method: str, path: str, what: str, **options: Any) -> Any:
        return self._retries.call(lambda: self._once(method, path, what, **options), f"{self.url}: {what}")

    def _once(
        self, method: str, path: str, what: str, *, is_missing_fine: bool = False, is_there_fine: bool = False,
        **options: Any,
    ) -> Any:  # fmt: skip
        import requests

        try:
            answer = self._session.request(
                method, f"{self.url}/api{path}", timeout=(20, 120), allow_redirects=False, **options
            )
            body = answer.content
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise TransientError(f"{type(error).__name__}: the connection broke or gave no answer") from None
        self._wait_for_the_limit(answer)
        if answer.ok:
            if not body:
                return {}
            try:
                return answer.json()
            except ValueError:
                raise TransientError("the answer was cut short") from None
        if answer.status_code == 404 and is_missing_fine:
            return None
        if answer.status_code in (400, 409) and is_there_fine:
            return {}  # an earlier attempt has done it
        raise self._refusal(answer, what)

    def _wait_for_the_limit(self, answer: Any) -> None:
        """Where the last request of the minute is used up, wait for the next one instead of being refused."""
        headers = answer.headers
        if answer.ok and headers.get("X-RateLimit-Remaining") == "0":
            reset = headers.get("X-RateLimit-Reset", "")
            if reset.isdigit():
                self._retries.sleep(_seconds_until(int(reset), headers.get("Date", "")))

    def _refusal(self, answer: Any, what: str) -> Exception:
        status = answer.status_code
        what = f"{self.url}: {what}"
        try:
            told = answer.json()
        except ValueError:
            told = {}
        reason = without_secrets(str(told.get("message", "")), limit=200)
        if status in (429, 500, 502, 503, 504):
            return TransientError(f"the host answered {status}", retry_after(answer.headers))
        if status == 401:
            return OutsideWorldError(f"{what}: the token was refused or has expired", hint=_TOKEN_HINT)
        if status == 403:
            return OutsideWorldError(
                f"{what}: not permitted: the token may not do that, or the record is somebody else's ({reason})",
                hint=_TOKEN_HINT,
            )
        if status == 413 or "quota" in reason.lower():
            return OutsideWorldError(
                f"{what}: larger than the host takes ({reason})", hint="Ask the host for more quota"
            )
        if status == 400:
            with contextlib.suppress(TypeError, AttributeError):
                _raise_faults(told, self.url)
        return OutsideWorldError(f"{what}: the host answered {status} {reason}".rstrip())


def _raise_faults(answer: Mapping[str, Any], url: str) -> None:
    faults = answer.get("errors") or []
    if faults:
        lines = [
            f"{fault.get('field')}: {' '.join(map(str, fault.get('messages', [])))}" for fault in faults[:5]
        ]
        raise ConfigError(
            f"{url}: the host does not accept the description: {without_secrets('; '.join(lines))}",
            hint="Correct these in dataset.yaml and build again",
        )


def _seconds_until(epoch: int, server_date: str) -> float:
    """Seconds from the server's own clock to a time; a minute where its clock is unknown."""
    try:
        now = email.utils.parsedate_to_datetime(server_date).timestamp()
    except ValueError:
        return 60.0
    return max(0.0, epoch - now)


def _escaped(text: str | None) -> str:
    """Text inside a quoted phrase of the search's query language."""
    return (text or "").replace("\\", "\\\\").replace('"', '\\"')
