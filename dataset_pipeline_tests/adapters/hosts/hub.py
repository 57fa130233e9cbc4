"""A loopback server that speaks the Hugging Face Hub's protocol, as far as publishing needs it.

Repositories, refs, trees, ``preupload``, Git LFS (single and multipart), commits with a parent, tags, settings,
files. Written from what the public client sends and from the Hub's OpenAPI description.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from dataset_pipeline_tests.adapters.hosts.proxy import serving

TOKEN = "hf_NotARealTokenButItLooksLikeOne00"
READ_ONLY_TOKEN = "hf_AnotherOneThatMayOnlyRead000000"
ATTRIBUTES = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"


@dataclass
class Commit:
    """A snapshot of all files."""

    id: str
    title: str
    author: str
    files: dict[str, tuple[str, bytes]]
    """Path -> ('lfs' or 'regular', bytes)."""


@dataclass
class Repository:
    """Commits, newest last, and what may be set."""

    private: bool
    gated: Any = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        """The branch's last commit."""
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """A commit by tag, branch or id."""
        if revision in ("main", "HEAD"):
            return self.head
        wanted = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.id == wanted), None)

    def commit(self, title: str, files: dict[str, tuple[str, bytes]], author: str = "ada") -> Commit:
        """Add a commit."""
        number = f"{len(self.commits)} {title}"
        self.commits.append(Commit(hashlib.sha1(number.encode()).hexdigest(), title, author, files))
        return self.head


@dataclass
class Hub:
    """Everything the server holds."""

    port: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 -> bytes of LFS objects."""
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    chunk: int = 1 << 20
    """Larger LFS objects are sent in parts of this size."""
    lock: Any = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, code: str = "", url: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.url = status, message, code, url


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """An empty Hub."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            try:
                with state.lock:
                    status, headers, data = respond(state, self.command, path, self.headers, body)
            except Refused as refusal:
                told = {"error": refusal.message, **({"url": refusal.url} if refusal.url else {})}
                status, data = refusal.status, json.dumps(told).encode()
                headers = {"X-Error-Message": refusal.message}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
            self.send_response_only(status)
            for name, value in {
                "Content-Length": str(len(data)),
                "X-Request-Id": "loopback",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        state.port = port
        yield state


Reply = tuple[int, dict[str, str], bytes]


def as_json(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def respond(state: Hub, method: str, path: str, headers: Any, body: bytes) -> Reply:
    """The answer to one request."""
    if match := re.fullmatch(r"/lfs/(\w{64})(?:/(\d+))?", path):  # a signed address of the storage: no token
        return store(state, method, match[1], match[2], body)
    token = (headers.get("Authorization") or "").removeprefix("Bearer ")
    if token and token not in (TOKEN, READ_ONLY_TOKEN):
        raise Refused(401, "Invalid credentials in Authorization header")
    may_write = token == TOKEN
    if path == "/api/validate-yaml":
        return as_json({"errors": [], "warnings": []})
    if path == "/api/repos/create":
        return create(state, may_write, json.loads(body))
    if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/.*)?", path):
        repository = visible(state, match[1], token)
        return dataset(state, repository, match[1], method, match[2] or "", body, may_write)
    if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
        require(may_write)
        return batch(state, json.loads(body))
    if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
        found = visible(state, match[1], token).at(match[2])
        if found is None or match[3] not in found.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        _kind, data = found.files[match[3]]
        return 200, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": found.id}, data
    raise Refused(404, f"no {method} {path}")


def require(may_write: bool) -> None:
    """Refuse who may only read."""
    if not may_write:
        raise Refused(403, "Forbidden: you don't have the required permissions")


def visible(state: Hub, name: str, token: str) -> Repository:
    """A repository, if it is there for the one who asks."""
    found = state.repositories.get(name)
    if found is None or (found.private and not token):
        raise Refused(404 if token else 401, "Repository not found", "RepoNotFound")
    return found


def create(state: Hub, may_write: bool, asked: dict[str, Any]) -> Reply:
    """A repository with its first commit, as the Hub makes it."""
    require(may_write)
    if asked["organization"] not in ("ada", None):
        raise Refused(403, "You don't have the rights to create a dataset under this namespace")
    name = f"{asked['organization']}/{asked['name']}"
    if name in state.repositories:
        raise Refused(409, "You already created this dataset repo", url=f"{state.url}/datasets/{name}")
    made = Repository(private=asked.get("visibility") == "private" or bool(asked.get("private")))
    made.commit("initial commit", {".gitattributes": ("regular", ATTRIBUTES)})
    state.repositories[name] = made
    return as_json({"url": f"{state.url}/datasets/{name}"})


def dataset(
    state: Hub, repository: Repository, name: str, method: str, rest: str, body: bytes, may_write: bool
) -> Reply:
    """What is below ``/api/datasets/<name>``."""
    if method == "GET" and (rest == "" or rest.startswith("/revision/")):
        return as_json(
            {"id": name, "sha": repository.head.id, "private": repository.private, "gated": repository.gated,
             "tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": p} for p in repository.head.files]}
        )  # fmt: skip
    if method == "GET" and rest == "/refs":
        branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head.id}
        tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": c} for t, c in repository.tags.items()]
        return as_json({"branches": [branch], "converts": [], "tags": tags})
    if method == "GET" and (match := re.fullmatch(r"/(tree|commits)/([^/]+)/?", rest)):
        found = repository.at(match[2])
        if found is None:
            raise Refused(404, "Invalid rev id", "RevisionNotFound")
        if match[1] == "tree":
            return as_json([described(path, *content) for path, content in sorted(found.files.items())])
        history = repository.commits[: repository.commits.index(found) + 1]
        return as_json(
            [{"id": c.id, "title": c.title, "message": "", "date": "2026-11-01T00:00:00.000Z",
              "authors": [{"user": c.author}]} for c in reversed(history)]
        )  # fmt: skip
    require(may_write)
    if rest.startswith("/preupload/"):
        files = json.loads(body)["files"]
        return as_json({"files": [planned(repository, entry["path"]) for entry in files]})
    if rest.startswith("/commit/"):
        return commit(state, repository, name, [json.loads(line) for line in body.splitlines()])
    if rest.startswith("/tag/"):
        asked = json.loads(body)["tag"]
        if asked in repository.tags:
            raise Refused(409, "Tag already exists")
        revision = rest.removeprefix("/tag/")
        repository.tags[asked] = (repository.at(revision) or repository.head).id
        return as_json({})
    if rest == "/settings":
        asked = json.loads(body)
        repository.gated = asked.get("gated", repository.gated)
        repository.private = (
            asked.get("visibility", "private" if repository.private else "public") == "private"
        )
        return as_json({})
    raise Refused(404, f"no {method} {rest}")


def described(path: str, kind: str, data: bytes) -> dict[str, Any]:
    """A file in a listing."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob(data)}
    if kind == "lfs":
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def blob(data: bytes) -> str:
    """Git's id of a file's bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def planned(repository: Repository, path: str) -> dict[str, Any]:
    """How a file is to be sent."""
    mode = "lfs" if path.endswith(".parquet") else "regular"
    kind, data = repository.head.files.get(path, ("", b""))
    oid = None if not kind else hashlib.sha256(data).hexdigest() if kind == "lfs" else blob(data)
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def batch(state: Hub, asked: dict[str, Any]) -> Reply:
    """Git LFS batch: where to send what is not there."""
    objects = []
    for entry in asked["objects"]:
        oid, size = entry["oid"], entry["size"]
        made: dict[str, Any] = {"oid": oid, "size": size}
        if oid not in state.stored:
            # The client sends this through the endpoint it was given, so that a proxy sees it.
            upload: dict[str, Any] = {"href": f"{BEHIND.get(state.port, state.url)}/lfs/{oid}"}
            if size > state.chunk:
                count = -(-size // state.chunk)
                upload["header"] = {
                    "chunk_size": str(state.chunk),
                    **{f"{n:05d}": f"{upload['href']}/{n}" for n in range(1, count + 1)},
                }
            made["actions"] = {"upload": upload}
        objects.append(made)
    return as_json({"transfer": "multipart", "objects": objects})


BEHIND: dict[int, str] = {}
"""Port of a Hub -> address of the proxy in front of it."""


def store(state: Hub, method: str, oid: str, part: str | None, body: bytes) -> Reply:
    """The storage: an object, one of its parts, or the word that all parts are there."""
    if method == "POST":
        count = len(json.loads(body)["parts"])
        body = b"".join(state.parts[oid, number] for number in range(1, count + 1))
    elif part is not None:
        state.parts[oid, int(part)] = body
        return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
    if hashlib.sha256(body).hexdigest() != oid:
        raise Refused(400, "the bytes are not what their checksum says")
    state.stored[oid] = body
    return as_json({})


def commit(state: Hub, repository: Repository, name: str, lines: list[dict[str, Any]]) -> Reply:
    """All changes at once, if the branch is where the client thinks."""
    head = next(line["value"] for line in lines if line["key"] == "header")
    parent = head.get("parentCommit")
    if parent is not None and parent != repository.head.id:
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repository.head.files)
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = ("regular", base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            if value["oid"] not in state.stored:
                raise Refused(400, f"LFS object {value['oid']} is not there")
            files[value["path"]] = ("lfs", state.stored[value["oid"]])
        elif line["key"] == "deletedFile":
            files.pop(value["path"])
    made = repository.commit(head["summary"], files)
    return as_json(
        {"success": True, "commitOid": made.id, "commitUrl": f"{state.url}/datasets/{name}/commit/{made.id}"}
    )
