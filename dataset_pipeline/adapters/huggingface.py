"""Publication of a release to a dataset repository on the Hugging Face Hub.

Belongs here: the repository, and one commit and one tag (``v<version>``) a version. Large files are uploaded
first; then one commit, which names the commit it follows, makes all of them visible at once. The repository is
private until that is done. What somebody else has changed there is never overwritten. Does not belong here: what
the card says (``stages/release.py``), and the token, which the client finds by itself (``HF_TOKEN`` or
``hf auth login``).

Source: documentation of huggingface_hub, and the Hub's recommendations on the size of repositories.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar
from urllib.parse import quote

from dataset_pipeline.adapters.destinations import (
    CHECKSUMS,
    MAY_DIFFER,
    LocalRelease,
    Progress,
    Publication,
    Retries,
    TransientError,
    refuse_other_content,
    retry_after,
    without_secrets,
)
from dataset_pipeline.config import HuggingFaceDestination, version_order
from dataset_pipeline.errors import GateError, OutsideWorldError

_OF_THE_HUB: Final = frozenset({".gitattributes"})
"""The Hub writes it and needs it."""
_MAX_FILES: Final = 100_000
_MAX_FILES_A_FOLDER: Final = 10_000
_MAX_FILE_BYTES: Final = 50 * 10**9
_SMALL_BYTES: Final = 4 << 20
"""Files up to this size are uploaded together."""
_LOGIN_HINT: Final = "Set HF_TOKEN, or run 'hf auth login', with a token that may write to the repository"

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Remote:
    """The repository as it is; a commit of None: there is no repository."""

    head: str | None
    is_private: bool
    gated: str
    tags: Mapping[str, str]
    """Version -> commit."""
    files: Mapping[str, str]
    """Path -> content (see ``_contents``) at the head."""


class _Hub:
    """Requests to one repository; every failure is one clear line, and what is worth another try gets it."""

    def __init__(self, settings: HuggingFaceDestination, retries: Retries) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars, logging

        disable_progress_bars()
        logging.set_verbosity_error()  # its warnings name addresses with signatures in them
        self.repository = settings.repository
        self.api = HfApi(endpoint=settings.endpoint)
        self.address = f"{self.api.endpoint}/datasets/{settings.repository}"
        self._retries = retries

    def call(self, method: str, what: str, **arguments: Any) -> Any:
        """One call of the client; ``what`` names the file or the purpose."""
        arguments = {"repo_id": self.repository, "repo_type": "dataset", **arguments}
        return self.do(lambda: getattr(self.api, method)(**arguments), what)

    def do(self, request: Callable[[], Result], what: str) -> Result:
        """Any request, likewise."""
        what = f"{self.address}: {what}"
        return self._retries.call(lambda: self._translated(request, what), what)

    def look(self) -> _Remote:
        """The repository as it is."""
        try:
            about = self.call("repo_info", "looking at the repository")
        except _NotThereError:
            return _Remote(None, True, "no", {}, {})
        refs = self.call("list_repo_refs", "listing tags")
        tags = {ref.name[1:]: ref.target_commit for ref in refs.tags if ref.name.startswith("v")}
        return _Remote(about.sha, bool(about.private), about.gated or "no", tags, self.files(about.sha))

    def files(self, revision: str) -> dict[str, str]:
        """Path -> content of every file at a revision."""
        entries = self.do(
            lambda: list(
                self.api.list_repo_tree(
                    self.repository, recursive=True, revision=revision, repo_type="dataset"
                )
            ),
            "listing files",
        )
        return {
            entry.path: f"sha256:{entry.lfs.sha256}" if entry.lfs else f"git:{entry.blob_id}"
            for entry in entries
            if hasattr(entry, "blob_id")
        }

    def _translated(self, request: Callable[[], Result], what: str) -> Result:
        try:
            return request()
        except Exception as error:
            raise _explained(
                error, what
            ) from None  # the client's own texts and causes may hold signed addresses


class _NotThereError(Exception):
    """There is no such repository, or the token may not see it."""


class _MovedError(Exception):
    """The branch is not where it was when it was looked at."""


def _explained(error: Exception, what: str) -> Exception:
    """A failure of the client as one clear line; what is no failure of the outside world stays as it is."""
    import httpx2
    from huggingface_hub import errors as hub

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        # The client says which of several files it was, and gives the cause beside it.
        cause = _explained(error.__cause__, what)
        named = re.search(r"'(.+)'", str(error))
        if named and isinstance(cause, TransientError):
            return TransientError(f"{named[1]}: {cause.reason}", cause.retry_after_s)
        return cause if not named else _explained(error.__cause__, f"{what}: {named[1]}")
    if isinstance(error, hub.HfHubHTTPError):
        return _refusal(error, what)
    if isinstance(error, hub.LocalTokenNotFoundError):
        return OutsideWorldError(f"{what}: there is no token", hint=_LOGIN_HINT)
    if isinstance(error, (httpx2.HTTPError, ConnectionError, TimeoutError)):
        return TransientError(f"{type(error).__name__}: the connection broke or gave no answer")
    if isinstance(error, (ValueError, OSError)):
        return OutsideWorldError(f"{what}: {without_secrets(str(error))}")
    return error


def _refusal(error: Any, what: str) -> Exception:
    """An answer of the Hub that is no success."""
    response = error.response
    status = response.status_code
    reason = without_secrets(error.server_message or "", limit=200)
    if status in (429, 500, 502, 503, 504):
        return TransientError(f"the Hub answered {status}", retry_after(response.headers))
    if status == 401:
        return OutsideWorldError(f"{what}: the token was refused or has expired", hint=_LOGIN_HINT)
    if status == 403:
        return OutsideWorldError(
            f"{what}: not permitted: the token may not write there, or the name is somebody else's ({reason})",
            hint=_LOGIN_HINT,
        )
    if status == 404:
        return _NotThereError(what)
    if status in (409, 412):
        return _MovedError(what)
    if status == 413:
        return OutsideWorldError(f"{what}: larger than the Hub takes", hint="Lower release.max_shard_mib")
    return OutsideWorldError(f"{what}: the Hub answered {status} {reason}".rstrip())


def publish_huggingface(
    release: LocalRelease,
    settings: HuggingFaceDestination,
    *,
    is_dry_run: bool = False,
    progress: Progress | None = None,
    retries: Retries | None = None,
) -> Publication:
    """Commit a release to a dataset repository and tag it; a repeated call sends only what is missing.

    Raises ``ConfigError`` for a version that is published with other content, ``GateError`` where the release is
    not what its checksums say or the repository is public and should not be, and ``OutsideWorldError`` for
    changes that somebody else has made there, tokens, limits, and a Hub that fails again and again.
    """
    _require_within_limits(release)
    hub = _Hub(settings, retries or Retries())
    tag = f"v{release.version}"
    local = {path: _contents(release, path) for path in release.sizes}
    remote = hub.look()
    if remote.head and not remote.is_private and not settings.is_public:
        raise GateError(
            f"{hub.address}: is public, and 'is_public' is false",
            hint="Set 'is_public: true' for this destination, or make the repository private",
        )
    is_tagged = release.version in remote.tags
    if is_tagged:
        _refuse_changed(hub, release, remote.tags[release.version], local)
    is_committed = is_tagged or _differing(remote.files, local) == []
    if not is_committed:
        _refuse_foreign_changes(hub, release, remote, local)
    to_send = [] if is_committed else [path for path in local if remote.files.get(path) not in local[path]]
    to_delete = [] if is_committed else sorted(remote.files.keys() - local.keys() - _OF_THE_HUB)
    done = Publication(
        place=f"{hub.address}/tree/{tag}",
        sent=tuple(to_send),
        unchanged=tuple(path for path in local if path not in to_send),
        sent_bytes=sum(release.sizes[path] for path in to_send),
        is_dry_run=is_dry_run,
        steps=tuple(_steps(hub, release, settings, remote, to_send, to_delete, is_committed, is_tagged)),
        is_public=settings.is_public,
        files={path: f"{hub.address}/resolve/{tag}/{quote(path)}" for path in local}
        if settings.is_public
        else {},
    )
    if is_dry_run:
        return done
    if remote.head is None:
        hub.call("create_repo", "creating the repository", private=True, exist_ok=True)
        remote = hub.look()
    commit = remote.tags.get(release.version) or remote.head
    if not is_committed:
        commit = _commit(hub, release, remote, local, to_send, to_delete, progress)
        _require_stored(hub, commit, local)
    if not is_tagged:
        hub.call(
            "create_tag", f"tagging {tag}",
            tag=tag, revision=commit, tag_message=f"{release.title} {release.version}", exist_ok=True,
        )  # fmt: skip
    if remote.gated != settings.gated:
        gated = False if settings.gated == "no" else settings.gated
        hub.call("update_repo_settings", "setting who grants access", gated=gated)
    if settings.is_public and remote.is_private:
        hub.call("update_repo_settings", "making it public", private=False)
    return done


def _steps(
    hub: _Hub,
    release: LocalRelease,
    settings: HuggingFaceDestination,
    remote: _Remote,
    to_send: list[str],
    to_delete: list[str],
    is_committed: bool,
    is_tagged: bool,
) -> Iterator[str]:
    """Every change at the Hub, in order, in words."""
    if remote.head is None:
        yield f"create the private dataset repository {hub.address}"
    for path in to_send:
        yield f"send {path} ({release.sizes[path]} bytes)"
    for path in to_delete:
        yield f"delete {path}, which this version does not have"
    if not is_committed:
        yield f"commit {len(to_send)} files as '{_title(release)}'"
    if not is_tagged:
        yield f"tag v{release.version}"
    if remote.gated != settings.gated:
        yield f"set gated access to {settings.gated}"
    if settings.is_public and remote.is_private:
        yield f"make {hub.address} public"


# -- what is there -------------------------------------------------------------------------


def _contents(release: LocalRelease, path: str) -> frozenset[str | None]:
    """The two ways in which the Hub may store a file: the SHA-256 of a large one, the git blob of a small one."""
    place = release.checked(path)
    size = release.sizes[path]
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    sha256 = hashlib.sha256()
    with place.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            blob.update(chunk)
            sha256.update(chunk)
    return frozenset({f"git:{blob.hexdigest()}", f"sha256:{sha256.hexdigest()}"})


def _differing(files: Mapping[str, str], local: Mapping[str, frozenset[str | None]]) -> list[str]:
    """Paths that are not the same there and here."""
    return sorted(
        path for path in {*files, *local} - _OF_THE_HUB if files.get(path) not in local.get(path, frozenset())
    )


def _refuse_changed(
    hub: _Hub, release: LocalRelease, commit: str, local: Mapping[str, frozenset[str | None]]
) -> None:
    """Raise where the tagged version has other content than this release."""
    differing = set(_differing(hub.files(commit), local)) - MAY_DIFFER - {CHECKSUMS}
    refuse_other_content(hub.address, release.version, dict.fromkeys(differing, "other"), {})


def _refuse_foreign_changes(
    hub: _Hub, release: LocalRelease, remote: _Remote, local: Mapping[str, frozenset[str | None]]
) -> None:
    """Raise where somebody else's changes would be lost: those that neither a published version nor this one has."""
    if remote.head is None or remote.head in remote.tags.values():
        return
    newest = max(remote.tags, key=version_order, default=None)
    base = {} if newest is None else hub.files(remote.tags[newest])
    lost = sorted(
        path
        for path in {*remote.files, *base} - _OF_THE_HUB
        if remote.files.get(path) != base.get(path)
        and remote.files.get(path) not in local.get(path, frozenset({None}))
    )
    commits = hub.call("list_repo_commits", "listing commits", revision=remote.head)
    if not lost or commits[0].title == _title(release):  # of an attempt that was not tagged
        return
    raise OutsideWorldError(
        f"{hub.address}: was changed by somebody else: commit {commits[0].commit_id[:8]} "
        f"'{without_secrets(commits[0].title, limit=80)}' by {', '.join(commits[0].authors) or 'somebody'}; "
        f"{len(lost)} files would be lost, such as {lost[0]}",
        hint="Take the change over into the dataset or undo it at the Hub, then publish again; or choose another "
        "repository",
    )


def _require_within_limits(release: LocalRelease) -> None:
    folders: dict[str, int] = {}
    for path in release.sizes:
        folder = str(PurePosixPath(path).parent)
        folders[folder] = folders.get(folder, 0) + 1
    largest, count = max(folders.items(), key=lambda item: item[1])
    if len(release.sizes) > _MAX_FILES or count > _MAX_FILES_A_FOLDER:
        raise OutsideWorldError(
            f"{release.folder}: {len(release.sizes)} files, {count} of them in {largest}; the Hub takes "
            f"{_MAX_FILES} and {_MAX_FILES_A_FOLDER} a folder",
            hint="Raise release.max_shard_mib",
        )
    for path, size in release.sizes.items():
        if size > _MAX_FILE_BYTES:
            raise OutsideWorldError(
                f"{path}: {size} bytes, and the Hub takes 50 GB a file", hint="Lower release.max_shard_mib"
            )


# -- sending -------------------------------------------------------------------------------


def _commit(
    hub: _Hub,
    release: LocalRelease,
    remote: _Remote,
    local: Mapping[str, frozenset[str | None]],
    to_send: list[str],
    to_delete: list[str],
    progress: Progress | None,
) -> str:
    """Upload what is large, then commit everything at once; gives the commit.

    A commit whose answer got lost is not made twice: before every attempt the branch is looked at.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations = {path: CommitOperationAdd(path, str(release.folder / path)) for path in to_send}
    total, sent = sum(release.sizes[path] for path in to_send), 0
    for paths in _batches(release, to_send):
        named = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} other small files"
        additions = [operations[path] for path in paths]
        hub.call("preupload_lfs_files", f"sending {named}", additions=additions, free_memory=False)
        sent += sum(release.sizes[path] for path in paths)
        if progress is not None:
            progress(sent, total)

    def commit() -> str:
        head = hub.api.repo_info(hub.repository, repo_type="dataset").sha
        if head != remote.head:
            if _differing(hub.files(head), local):
                raise _MovedError(hub.address)
            return str(head)
        changes = [*operations.values(), *(CommitOperationDelete(path) for path in to_delete)]
        return str(
            hub.api.create_commit(
                hub.repository,
                changes,
                repo_type="dataset",
                commit_message=_title(release),
                parent_commit=remote.head,
            ).oid
        )

    try:
        return hub.do(commit, f"committing {_title(release)}")
    except _MovedError:
        raise OutsideWorldError(
            f"{hub.address}: was changed by somebody else while {release.version} was being sent",
            hint="Nothing was overwritten; look at the change, then publish again: what has arrived is not sent again",
        ) from None


def _batches(release: LocalRelease, paths: list[str]) -> Iterator[list[str]]:
    """Small files together, large ones alone."""
    small = [path for path in paths if release.sizes[path] <= _SMALL_BYTES]
    yield from ([path] for path in paths if release.sizes[path] > _SMALL_BYTES)
    for start in range(0, len(small), 200):
        yield small[start : start + 200]


def _require_stored(hub: _Hub, commit: str, local: Mapping[str, frozenset[str | None]]) -> None:
    if differing := _differing(hub.files(commit), local):
        raise OutsideWorldError(
            f"{hub.address}: the Hub stored other bytes than were sent: {differing[0]}"
            + (f" and {len(differing) - 1} more" if len(differing) > 1 else ""),
            hint="The version is not tagged; run the same command again: these files are sent anew",
        )


def _title(release: LocalRelease) -> str:
    return f"Version {release.version}"
