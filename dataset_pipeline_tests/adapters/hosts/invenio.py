"""A loopback server that speaks InvenioRDM's REST API, as far as publishing needs it.

Written from the public API reference: records and their versions, drafts, reserved DOIs, files in three calls,
``user/records``, validation on publishing, and what Zenodo says of its limits. Two things that hosts do and that
publishing must not rely on are kept: a missing licence becomes one of the host's own, and an incomplete draft is
saved, with its faults beside it.
"""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dataset_pipeline_tests.adapters.hosts.proxy import serving

TOKEN = "not-a-real-token-of-zenodo-0123456789"
READ_ONLY_TOKEN = "another-token-that-may-only-read-0123"
MAX_FILES = 100


@dataclass
class Record:
    """A draft or a published record."""

    id: str
    parent: str
    metadata: dict[str, Any]
    is_published: bool = False
    doi: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    pending: dict[str, bytes | None] = field(default_factory=dict)


@dataclass
class Invenio:
    """Everything the server holds."""

    port: int = 0
    records: dict[str, Record] = field(default_factory=dict)
    requests_left: int | None = None
    """Requests until the rate limit; None: no limit."""
    lock: Any = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def new(self, parent: str | None, metadata: dict[str, Any]) -> Record:
        """A draft."""
        identifier = str(1000 + len(self.records))
        self.records[identifier] = Record(identifier, parent or f"concept{identifier}", metadata)
        return self.records[identifier]


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, {"status": status, "message": message, "errors": errors or []}


@contextlib.contextmanager
def invenio() -> Iterator[Invenio]:
    """An empty host."""
    state = Invenio()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            headers = {"Content-Type": "application/json"}
            try:
                with state.lock:
                    if state.requests_left is not None:
                        state.requests_left -= 1
                        headers |= {
                            "X-RateLimit-Remaining": str(max(0, state.requests_left)),
                            "Date": "Wed, 25 Nov 2026 04:00:00 GMT",
                            "X-RateLimit-Reset": "1795579242",  # 42 seconds later
                        }
                    token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                    status, found = respond(
                        state, self.command, unquote(parts.path), parse_qs(parts.query), token, body
                    )
            except Refused as refusal:
                status, found = refusal.status, refusal.body
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response_only(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        state.port = port
        yield state


def respond(
    state: Invenio, method: str, path: str, query: dict[str, list[str]], token: str, body: bytes
) -> Any:
    """(status, JSON or bytes) for one request."""
    if match := re.fullmatch(r"/records/(\w+)/files/([^/]+)", path):
        record = state.records.get(match[1])
        if record is None or not record.is_published or match[2] not in record.files:
            raise Refused(404, "not found")
        return 200, record.files[match[2]]
    if token not in (TOKEN, READ_ONLY_TOKEN):
        raise Refused(401, "The server could not verify that you are authorized to access the URL requested.")
    if method != "GET" and token != TOKEN:
        raise Refused(403, "Permission denied.")
    if path == "/api/user/records":
        return search(state, query)
    if path == "/api/records" and method == "POST":
        return 201, shown(state, state.new(None, json.loads(body)["metadata"]))
    match = re.fullmatch(r"/api/records/(\w+)(/draft)?(/.*)?", path)
    if match is None or match[1] not in state.records:
        raise Refused(404, "The persistent identifier does not exist.")
    record, rest = state.records[match[1]], match[3] or ""
    if bool(match[2]) == record.is_published:
        raise Refused(404, "The persistent identifier is not registered.")
    if rest.startswith("/files"):
        return files(record, method, rest.removeprefix("/files").strip("/"), body)
    if rest == "" and method == "GET":
        return 200, shown(state, record)
    if rest == "" and method == "PUT":
        record.metadata = json.loads(body)["metadata"]
        return 200, {**shown(state, record), "errors": faults(record)}
    if rest == "/pids/doi" and method == "POST":
        if record.doi:
            raise Refused(400, "A PID already exists for type doi")
        record.doi = f"10.5072/zenodo.{record.id}"
        return 201, shown(state, record)
    if rest == "/versions" and method == "POST":
        drafts = [r for r in state.records.values() if r.parent == record.parent and not r.is_published]
        kept = {
            name: value
            for name, value in record.metadata.items()
            if name not in ("version", "publication_date")
        }
        made = drafts[0] if drafts else state.new(record.parent, kept)
        return 201, shown(state, made)
    if rest == "/actions/files-import" and method == "POST":
        previous = [r for r in state.records.values() if r.parent == record.parent and r.is_published]
        if record.files or not previous:
            raise Refused(400, "Please remove all files first.")
        record.files = dict(previous[-1].files)
        return 201, {"enabled": True, "entries": [entry(key, data) for key, data in record.files.items()]}
    if rest == "/actions/publish" and method == "POST":
        if wrong := faults(record):
            raise Refused(400, "A validation error occurred.", wrong)
        if record.pending or not record.files:
            raise Refused(
                400, "A validation error occurred.", [{"field": "files", "messages": ["not completed"]}]
            )
        record.metadata.setdefault("rights", [{"id": "cc-zero"}])
        record.is_published, record.doi = True, record.doi or f"10.5072/zenodo.{record.id}"
        return 202, shown(state, record)
    raise Refused(405, f"no {method} {path}")


def search(state: Invenio, query: dict[str, list[str]]) -> Any:
    """The user's records and drafts, newest first, one page of them."""
    asked = query["q"][0]
    field_name, _, wanted = asked.partition(":")
    wanted = wanted.strip('"').replace('\\"', '"').replace("\\\\", "\\")
    found = [
        record
        for record in reversed(state.records.values())
        if wanted == (record.parent if field_name == "parent.id" else record.metadata.get("title"))
    ]
    size, page = int(query["size"][0]), int(query["page"][0])
    hits = [shown(state, record) for record in found[size * (page - 1) : size * page]]
    return 200, {"hits": {"hits": hits, "total": len(found)}}


def files(record: Record, method: str, rest: str, body: bytes) -> Any:
    """The three calls of an upload, listing and deleting."""
    if rest == "" and method == "GET":
        waiting = [{"key": key, "status": "pending"} for key in record.pending]
        return 200, {"enabled": True, "entries": [*(entry(k, d) for k, d in record.files.items()), *waiting]}
    if record.is_published:
        raise Refused(403, "Permission denied.")
    if rest == "" and method == "POST":
        keys = [asked["key"] for asked in json.loads(body)]
        if any("/" in key for key in keys):
            raise Refused(400, "Invalid key")
        if len({*record.files, *record.pending, *keys}) > MAX_FILES:
            raise Refused(400, "Uploading selected files will result in more than 100 files: quota exceeded")
        if any(key in record.files or key in record.pending for key in keys):
            raise Refused(400, "File with the same key already exists")
        record.pending.update(dict.fromkeys(keys))
        return 201, {"enabled": True, "entries": [{"key": key, "status": "pending"} for key in keys]}
    key, _, action = rest.partition("/")
    if key not in record.files and key not in record.pending:
        raise Refused(404, "Record '' has no file ''.")
    if method == "GET" and action == "":
        return 200, entry(key, record.files[key]) if key in record.files else {
            "key": key,
            "status": "pending",
        }
    if method == "DELETE" and action == "":
        record.files.pop(key, None)
        record.pending.pop(key, None)
        return 204, b""
    if method == "PUT" and action == "content" and key in record.pending:
        record.pending[key] = body
        return 200, {"key": key, "status": "pending"}
    if method == "POST" and action == "commit":
        if record.pending.get(key) is None:
            raise Refused(400, "File is not uploaded or committed already")
        record.files[key] = record.pending.pop(key) or b""
        return 200, entry(key, record.files[key])
    raise Refused(400, f"no {method} {rest}")


def entry(key: str, data: bytes) -> dict[str, Any]:
    """A file that is complete."""
    return {
        "key": key,
        "status": "completed",
        "size": len(data),
        "checksum": f"md5:{hashlib.md5(data).hexdigest()}",
    }


def faults(record: Record) -> list[dict[str, Any]]:
    """What the description lacks for being published."""
    wrong = [
        {"field": f"metadata.{name}", "messages": ["Missing data for required field."]}
        for name in ("resource_type", "title", "publication_date", "creators", "publisher")
        if not record.metadata.get(name)
    ]
    known = ("cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "cc-zero", "mit")
    for right in record.metadata.get("rights", []):
        if "id" in right and right["id"] not in known:
            wrong.append({"field": "metadata.rights", "messages": [f"Invalid value {right['id']}."]})
    return wrong


def shown(state: Invenio, record: Record) -> dict[str, Any]:
    """A record as JSON."""
    kind = "records" if record.is_published else "uploads"
    return {
        "id": record.id,
        "parent": {"id": record.parent},
        "is_published": record.is_published,
        "is_draft": not record.is_published,
        "metadata": record.metadata,
        "pids": {"doi": {"identifier": record.doi, "provider": "datacite"}} if record.doi else {},
        "links": {"self_html": f"{state.url}/{kind}/{record.id}"},
    }
