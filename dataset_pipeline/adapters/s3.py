"""Publication of a release to a bucket of Amazon S3 or of anything that speaks its protocol.

Belongs here: objects, parts and their checksums. Layout in the bucket, under ``prefix``::

    <name>/<version>/<path>    the files of a release; SHA256SUMS is sent last and marks it as complete
    <name>/latest              the highest published version, on one line; one object, so it switches at once
    <name>/index.html          a page with the versions and the files of the latest one

A version is published when its ``SHA256SUMS`` is there; until then nothing links to its files. A killed
transfer goes on where it ended: whole objects and single parts that are there already are not sent again.
Does not belong here: whether a release may leave, and credentials, which boto3 finds by itself.

Source: Amazon S3 API reference: multipart upload, ``Content-MD5``, and ETags, which are the MD5 of an
object's bytes, or of its parts' MD5s, except where the server encrypts with a key of its own.
"""

import base64
import contextlib
import hashlib
import html
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from dataset_pipeline.adapters.bucket import Bucket, Object
from dataset_pipeline.adapters.destinations import (
    CHECKSUMS,
    CHUNK_BYTES,
    LocalRelease,
    Progress,
    Publication,
    Retries,
    content_type,
    later,
    parse_checksums,
    refuse_other_content,
)
from dataset_pipeline.config import S3Destination, version_order
from dataset_pipeline.errors import ConfigError, DatasetPipelineError, GateError, OutsideWorldError

_MAX_PARTS: Final = 10_000
_MAX_OBJECT_BYTES: Final = 5 << 40
_MAX_COPY_BYTES: Final = 5 << 30
_POLICY_SID: Final = "DatasetPipelinePublicRead"
_FOREVER: Final = "max-age=31536000, immutable"


@dataclass(frozen=True)
class _Local:
    """What the object of a file should look like."""

    etags: frozenset[str]
    """Sent whole, and sent in parts."""
    part_md5s: tuple[str, ...]
    part_bytes: int


def publish_s3(
    release: LocalRelease,
    settings: S3Destination,
    *,
    is_dry_run: bool = False,
    progress: Progress | None = None,
    retries: Retries | None = None,
) -> Publication:
    """Send a release to a bucket; a repeated call sends only what is missing.

    Files that an earlier version has with the same bytes are copied within the bucket. Every object is
    compared with what was sent. Raises ``ConfigError`` for a bucket that is not there and a version that
    is published with other content, ``GateError`` where the release is not what its checksums say, and
    ``OutsideWorldError`` for credentials, permissions, and a host that fails again and again.
    """
    bucket = Bucket(
        settings.bucket, settings.endpoint, settings.region, settings.parallel, retries or Retries()
    )
    plan = _plan(bucket, release, settings)
    base = settings.public_base(release.name, release.version)
    done = Publication(
        place=f"{bucket.where}/{plan.root}",
        sent=tuple(plan.to_send),
        unchanged=tuple(
            path for path in release.sizes if path not in plan.to_send and path not in plan.copies
        ),
        copied=tuple(sorted(plan.copies)),
        sent_bytes=sum(release.sizes[path] for path in plan.to_send),
        is_dry_run=is_dry_run,
        steps=tuple(_steps(bucket, release, plan)),
        is_public=settings.is_public,
        files={} if base is None else {path: f"{base}/{quote(path)}" for path in release.sizes},
    )
    if is_dry_run:
        return done
    for key in plan.strangers:
        bucket.call("delete_object", f"{bucket.where}/{key}: deleting", Key=key)
    sender = _Sender(bucket, release, plan, settings, progress, done.sent_bytes)
    sender.copy_all()
    sender.send_all([path for path in plan.to_send if path != CHECKSUMS])
    sender.send_all(
        [path for path in plan.to_send if path == CHECKSUMS]
    )  # from here on it counts as published
    if plan.is_policy_missing:
        _set_policy(bucket, plan.home)
    if plan.before != plan.after:
        _put_page(bucket, f"{plan.home}/latest", f"{plan.after}\n".encode(), "text/plain; charset=utf-8")
    if plan.page is not None:
        _put_page(bucket, f"{plan.home}/index.html", plan.page, "text/html; charset=utf-8")
    return done


@dataclass(frozen=True)
class _Plan:
    """What has to be done; paths are of the release, keys are of the bucket."""

    home: str
    root: str
    locals: Mapping[str, _Local]
    strangers: list[str]
    """Keys of an interrupted sending that are no part of this release."""
    copies: Mapping[str, str]
    """Path -> key in an earlier version with the same bytes."""
    to_send: list[str]
    unfinished: Mapping[str, tuple[str, set[int]]]
    """Path -> (upload, numbers of the parts that have arrived)."""
    is_policy_missing: bool
    before: str | None
    after: str
    page: bytes | None
    """The index page where it has to be written."""


def _plan(bucket: Bucket, release: LocalRelease, settings: S3Destination) -> _Plan:
    home = "/".join(part for part in (settings.prefix, release.name) if part)
    root = f"{home}/{release.version}/"
    there = bucket.objects(f"{home}/")
    marks = re.compile(rf"{re.escape(home)}/([^/]+)/{CHECKSUMS}")
    versions = sorted((match[1] for key in there if (match := marks.fullmatch(key))), key=version_order)
    before = _text(bucket.read(f"{home}/latest", f"{bucket.where}/{home}/latest: reading")) or None
    after = later(release.version, before)
    locals_ = {path: _local(release, path, settings) for path in release.sizes}
    strangers: list[str] = []
    copies: dict[str, str] = {}
    to_send: list[str] = []
    missing: list[str] = []
    if f"{root}{CHECKSUMS}" in there:
        _refuse_changed(bucket, release, root, there, locals_)
    else:
        missing = [
            path
            for path in release.sizes
            if not _is_the_same(bucket, there.get(root + path), root + path, path, release, locals_[path])
        ]
        strangers = sorted(
            key for key in there if key.startswith(root) and key[len(root) :] not in release.sizes
        )
        copies = _copies(bucket, f"{home}/{versions[-1]}/", release, missing, there) if versions else {}
        to_send = [path for path in missing if path not in copies]
    sizes = {
        key[len(f"{home}/{after}/") :]: found.size
        for key, found in there.items()
        if key.startswith(f"{home}/{after}/")
    }
    page = index_page(
        release.title,
        sorted({*versions, release.version}, key=version_order),
        after,
        release.sizes if after == release.version and missing else sizes,
    ).encode()
    return _Plan(
        home,
        root,
        locals_,
        strangers,
        copies,
        to_send,
        _unfinished(bucket, root, to_send, locals_),
        _is_policy_missing(bucket, home, settings.is_public),
        before,
        after,
        None if _has_bytes(there.get(f"{home}/index.html"), page) else page,
    )


def _steps(bucket: Bucket, release: LocalRelease, plan: _Plan) -> Iterator[str]:
    """Every change in the bucket, in order, in words."""
    for key in plan.strangers:
        yield f"delete {bucket.where}/{key}"
    for path, key in sorted(plan.copies.items()):
        yield f"copy {path} from {bucket.where}/{key} within the bucket ({release.sizes[path]} bytes)"
    for path in plan.to_send:
        parts = len(plan.locals[path].part_md5s)
        how = f", {parts} parts" if parts > 1 else ""
        if path in plan.unfinished:
            how += f", {len(plan.unfinished[path][1])} there already"
        yield f"send {path} ({release.sizes[path]} bytes{how}) as {content_type(path)}"
    if plan.is_policy_missing:
        yield f"let anyone read {bucket.where}/{plan.home}/ (bucket policy)"
    if plan.before != plan.after:
        yield f"set {bucket.where}/{plan.home}/latest from {plan.before or 'nothing'} to {plan.after}"
    if plan.page is not None:
        yield f"write {bucket.where}/{plan.home}/index.html"


# -- what is there -------------------------------------------------------------------------


def _local(release: LocalRelease, path: str, settings: S3Destination) -> _Local:
    """MD5s of a file; its SHA-256 is compared with the release's in the same pass."""
    size = release.sizes[path]
    if size > _MAX_OBJECT_BYTES:
        raise OutsideWorldError(
            f"{path}: {size} bytes, and a bucket takes 5 TiB a file", hint="Lower release.max_shard_mib"
        )
    part_bytes = max(settings.part_mib << 20, math.ceil(size / _MAX_PARTS))
    whole, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    parts: list[str] = []
    with (release.folder / path).open("rb") as stream:
        while True:
            part, left = hashlib.md5(usedforsecurity=False), part_bytes
            while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
                for digest in (whole, part, sha256):
                    digest.update(chunk)
                left -= len(chunk)
            if left < part_bytes:
                parts.append(part.hexdigest())
            if left:
                break
    if path != CHECKSUMS and sha256.hexdigest() != release.checksums[path]:
        raise GateError(f"{release.folder / path}: not what {CHECKSUMS} says", hint="Build the release again")
    joined = hashlib.md5(b"".join(map(bytes.fromhex, parts)), usedforsecurity=False).hexdigest()
    return _Local(frozenset({whole.hexdigest(), f"{joined}-{len(parts)}"}), tuple(parts), part_bytes)


def _is_the_same(
    bucket: Bucket, found: Object | None, key: str, path: str, release: LocalRelease, local: _Local
) -> bool:
    """Whether an object holds a file's bytes; read back only where the server's ETag is no MD5."""
    if found is None or found.size != release.sizes[path]:
        return False
    if found.etag in local.etags:
        return True
    what = f"{bucket.where}/{key}: reading back"
    if _is_md5(found.etag):
        about = bucket.call("head_object", what, Key=key) or {}
        if "kms" not in str(about.get("ServerSideEncryption")) and "SSECustomerAlgorithm" not in about:
            return False  # the ETag tells content, and it is other content
    return bucket.sha256(key, what) == _sha256(release, path)


def _is_md5(etag: str) -> bool:
    """Whether an ETag tells content: an MD5, or that of parts, and not a random or encrypted one."""
    return re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) is not None


def _sha256(release: LocalRelease, path: str) -> str:
    if path == CHECKSUMS:
        return hashlib.sha256((release.folder / path).read_bytes()).hexdigest()
    return release.checksums[path]


def _refuse_changed(
    bucket: Bucket,
    release: LocalRelease,
    root: str,
    there: Mapping[str, Object],
    locals_: Mapping[str, _Local],
) -> None:
    """Raise where the published version has other content, or has lost or changed a file."""
    place = f"{bucket.where}/{root}"
    text = _text(bucket.read(f"{root}{CHECKSUMS}", f"{place}{CHECKSUMS}: reading"))
    try:
        published = parse_checksums(text, f"{place}{CHECKSUMS}")
    except ConfigError:
        published = {}
    refuse_other_content(place, release.version, published, release.checksums)
    damaged = [
        path
        for path, checksum in sorted(published.items())
        if root + path not in there
        or (
            checksum == release.checksums.get(path)
            and not _is_the_same(bucket, there[root + path], root + path, path, release, locals_[path])
        )
    ]
    if damaged:
        raise OutsideWorldError(
            f"{place}: {len(damaged)} published files are missing or damaged, such as {damaged[0]}",
            hint=f"Delete {place}{CHECKSUMS} and publish again: what is whole is not sent again",
        )


def _copies(
    bucket: Bucket, newest: str, release: LocalRelease, missing: list[str], there: Mapping[str, Object]
) -> dict[str, str]:
    """Path -> key of files whose bytes are in the bucket already, in the version below ``newest``."""
    key = f"{newest}{CHECKSUMS}"
    try:
        published = parse_checksums(_text(bucket.read(key, f"{bucket.where}/{key}: reading")), key)
    except ConfigError:
        return {}
    by_content = {checksum: f"{newest}{path}" for path, checksum in sorted(published.items())}
    keys = {path: by_content.get(release.checksums.get(path, ""), "") for path in missing}
    return {
        path: key
        for path, key in keys.items()
        if key in there and there[key].size == release.sizes[path] <= _MAX_COPY_BYTES
    }


def _unfinished(
    bucket: Bucket, root: str, paths: list[str], locals_: Mapping[str, _Local]
) -> dict[str, tuple[str, set[int]]]:
    """Path -> (upload, numbers of the parts that arrived whole) of transfers that were interrupted."""
    large = {path for path in paths if len(locals_[path].part_md5s) > 1}
    if not large:
        return {}
    found: dict[str, tuple[str, set[int]]] = {}
    uploads = bucket.pages("list_multipart_uploads", f"{bucket.where}/{root}: listing uploads", Prefix=root)
    for upload in (upload for page in uploads for upload in page.get("Uploads", [])):
        path = upload["Key"][len(root) :]
        if path not in large or path in found:
            continue
        parts = bucket.pages(
            "list_parts", f"{bucket.where}/{upload['Key']}: listing parts", Key=upload["Key"], UploadId=upload["UploadId"]
        )  # fmt: skip
        md5s = locals_[path].part_md5s
        arrived = {
            int(part["PartNumber"])
            for page in parts
            for part in page.get("Parts", [])
            if part["PartNumber"] <= len(md5s) and part["ETag"].strip('"') == md5s[part["PartNumber"] - 1]
        }
        found[path] = (upload["UploadId"], arrived)
    return found


# -- sending -------------------------------------------------------------------------------


class _Sender:
    """Transfers of one release, several at a time."""

    def __init__(
        self,
        bucket: Bucket,
        release: LocalRelease,
        plan: _Plan,
        settings: S3Destination,
        progress: Progress | None,
        total_bytes: int,
    ) -> None:
        self._bucket, self._release, self._plan = bucket, release, plan
        self._cache_control = f"{'public' if settings.is_public else 'private'}, {_FOREVER}"
        self._progress, self._total, self._done = progress, total_bytes, 0

    def send_all(self, paths: list[str]) -> None:
        """Small files side by side, then large ones one after the other, their parts side by side."""
        is_large = {path: len(self._plan.locals[path].part_md5s) > 1 for path in paths}
        self._bucket.each(self._put, [path for path in paths if not is_large[path]])
        for path in paths:
            if is_large[path]:
                self._put_parts(path, self._plan.unfinished.get(path))

    def copy_all(self) -> None:
        """Files of an earlier version, within the bucket."""
        self._bucket.each(lambda job: self._copy(*job), sorted(self._plan.copies.items()))

    def _put(self, path: str) -> None:
        data = (self._release.folder / path).read_bytes()
        what = self._what(path)
        answer = self._bucket.call(
            "put_object",
            what,
            Key=self._plan.root + path,
            Body=data,
            ContentMD5=_md5(data),
            **self._headers(path),
        )
        self._require(answer, hashlib.md5(data, usedforsecurity=False).hexdigest(), path)
        self._count(len(data))

    def _put_parts(self, path: str, unfinished: tuple[str, set[int]] | None) -> None:
        key, what, local = self._plan.root + path, self._what(path), self._plan.locals[path]
        if unfinished is None:
            made = self._bucket.call("create_multipart_upload", what, Key=key, **self._headers(path))
            unfinished = (str(made["UploadId"]), set())
        upload, arrived = unfinished
        missing = [number for number in range(1, len(local.part_md5s) + 1) if number not in arrived]
        self._bucket.each(lambda number: self._put_part(path, upload, number), missing)
        parts = [{"PartNumber": n, "ETag": f'"{md5}"'} for n, md5 in enumerate(local.part_md5s, start=1)]
        self._bucket.call(
            "complete_multipart_upload", what, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )
        self._look_again(path)

    def _put_part(self, path: str, upload: str, number: int) -> None:
        local = self._plan.locals[path]
        with (self._release.folder / path).open("rb") as stream:
            stream.seek((number - 1) * local.part_bytes)
            data = stream.read(local.part_bytes)
        what = f"{self._what(path)}, part {number} of {len(local.part_md5s)}"
        answer = self._bucket.call(
            "upload_part", what,
            Key=self._plan.root + path, UploadId=upload, PartNumber=number, Body=data, ContentMD5=_md5(data),
        )  # fmt: skip
        if answer is None:
            raise OutsideWorldError(f"{what}: the upload is gone", hint="Run the same command again")
        self._require(answer, local.part_md5s[number - 1], path)
        self._count(len(data))

    def _copy(self, path: str, source: str) -> None:
        self._bucket.call(
            "copy_object",
            self._what(path),
            Key=self._plan.root + path,
            CopySource={"Bucket": self._bucket.name, "Key": source},
            MetadataDirective="REPLACE",
            **self._headers(path),
        )
        self._look_again(path)

    def _look_again(self, path: str) -> None:
        """Compare what is there with what should be."""
        key = self._plan.root + path
        answer = self._bucket.call("head_object", self._what(path), Key=key)
        found = answer and Object(int(answer["ContentLength"]), answer["ETag"].strip('"'))
        if not _is_the_same(self._bucket, found, key, path, self._release, self._plan.locals[path]):
            self._bucket.call("delete_object", self._what(path), Key=key)
            raise OutsideWorldError(f"{self._what(path)}: {_CHANGED}", hint=_CHANGED_HINT)

    def _require(self, answer: Any, md5: str, path: str) -> None:
        etag = str((answer or {}).get("ETag", "")).strip('"')
        if etag != md5 and _is_md5(etag) and "kms" not in str(answer.get("ServerSideEncryption", "")):
            raise OutsideWorldError(f"{self._what(path)}: {_CHANGED}", hint=_CHANGED_HINT)

    def _headers(self, path: str) -> dict[str, str]:
        return {"ContentType": content_type(path), "CacheControl": self._cache_control}

    def _what(self, path: str) -> str:
        return f"{self._bucket.where}/{self._plan.root}{path}: sending"

    def _count(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)


_CHANGED: Final = "the server stored other bytes than were sent: its checksum differs"
_CHANGED_HINT: Final = "Run the same command again: the file is sent anew; if it happens again, ask the host"


def _put_page(bucket: Bucket, key: str, data: bytes, kind: str) -> None:
    bucket.call(
        "put_object", f"{bucket.where}/{key}: writing",
        Key=key, Body=data, ContentMD5=_md5(data), ContentType=kind, CacheControl="no-cache",
    )  # fmt: skip


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _has_bytes(found: Object | None, data: bytes) -> bool:
    return found is not None and found.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", "replace").strip()


# -- who may read --------------------------------------------------------------------------


def _is_policy_missing(bucket: Bucket, home: str, is_public: bool) -> bool:
    """Whether the bucket's policy has to be extended; raises where it lets anyone read and should not."""
    statements = _statements(bucket)
    if is_public:
        return not any(
            statement.get("Sid") == _POLICY_SID
            and _resource(bucket, home) in _listed(statement.get("Resource"))
            for statement in statements
        )
    open_ = [
        statement
        for statement in statements
        if statement.get("Effect") == "Allow"
        and statement.get("Principal") in ("*", {"AWS": "*"})
        and not statement.get("Condition")
        and any(_covers(pattern, _resource(bucket, home)) for pattern in _listed(statement.get("Resource")))
    ]
    if open_:
        raise GateError(
            f"{bucket.where}: its policy lets anyone read {home}/, and 'is_public' is false",
            hint="Set 'is_public: true' for this destination, or take the statement out of the policy",
        )
    return False


def _statements(bucket: Bucket) -> list[dict[str, Any]]:
    """Statements of the bucket's policy; none where the server knows no policies."""
    answer = None
    with contextlib.suppress(DatasetPipelineError):  # a server without policies, or a right to write alone
        answer = bucket.call("get_bucket_policy", f"{bucket.where}: reading its policy")
    try:
        statements = json.loads((answer or {}).get("Policy", "{}")).get("Statement", [])
    except (ValueError, AttributeError):
        return []
    return [statement for statement in _listed(statements) if isinstance(statement, dict)]


def _set_policy(bucket: Bucket, home: str) -> None:
    """Add one statement to the bucket's policy; the others stay as they are."""
    statements = _statements(bucket)
    ours = next((s for s in statements if s.get("Sid") == _POLICY_SID), None)
    resources = sorted({*_listed((ours or {}).get("Resource", [])), _resource(bucket, home)})
    statement = {
        "Sid": _POLICY_SID, "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resources,
    }  # fmt: skip
    others = [s for s in statements if s is not ours]
    policy = {"Version": "2012-10-17", "Statement": [*others, statement]}
    bucket.call("put_bucket_policy", f"{bucket.where}: setting its policy", Policy=json.dumps(policy))
    if not any(s.get("Sid") == _POLICY_SID for s in _statements(bucket)):
        raise OutsideWorldError(
            f"{bucket.where}: the server keeps no bucket policies, so {home}/ cannot be made public from here",
            hint="Make it public in the server's own settings, and set 'is_public: false' with 'public_url'",
        )


def _resource(bucket: Bucket, home: str) -> str:
    return f"arn:aws:s3:::{bucket.name}/{home}/*"


def _covers(pattern: str, resource: str) -> bool:
    head = pattern.split("*", 1)[0]
    return "*" in pattern and resource.startswith(head)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


# -- the page ------------------------------------------------------------------------------


def index_page(title: str, versions: list[str], latest: str, sizes: Mapping[str, int]) -> str:
    """A page without scripts: the versions, and the files of the latest one with their ``sizes``."""
    title = html.escape(title)
    rows = "".join(
        f'<tr><td><a href="{quote(f"{latest}/{path}")}">{html.escape(path)}</a></td><td>{size:,}</td></tr>\n'
        for path, size in sorted(sizes.items())
    )
    links = ", ".join(
        f'<a href="{quote(f"{version}/README.md")}">{html.escape(version)}</a>'
        for version in reversed(versions)
    )
    table = f"<table>\n<tr><th>file</th><th>bytes</th></tr>\n{rows}</table>\n"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n<body>\n'
        f"<h1>{title}</h1>\n<p>Latest version: <strong>{html.escape(latest)}</strong>. Versions: {links}.</p>\n"
        f"{table}<p>Check a download with <code>sha256sum -c SHA256SUMS</code>.</p>\n</body></html>\n"
    )
