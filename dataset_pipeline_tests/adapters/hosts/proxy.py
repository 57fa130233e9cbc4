"""A proxy in front of a host that injects the faults a test asks for, and counts what passed."""

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass
class Fault:
    """What happens to the next ``times`` requests that match."""

    method: str
    path: str
    """A regular expression that is searched for in the path and the query."""
    kind: str
    """reset: in the middle of the request's body; status: an answer of the proxy's own; lost: the host does it, and
    its answer never arrives; truncated: half of the answer; slow: the answer in small pieces; changed: the answer
    through ``change``; call: ``call`` is called first, then the request
    passes; killed: ``call`` is called, and the request does not pass."""
    times: int = 1
    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    change: Callable[[Answer], Answer] = lambda answer: answer
    call: Callable[[], object] = lambda: None


@dataclass
class Proxy:
    """Where it listens, what it does, what it saw."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    """(method, path with query, bytes of the body) of what reached the host and was answered well."""
    lock: Any = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault for this request, which is used up by it."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def seen(self, method: str, path: str) -> int:
        """How many matching requests the host answered well."""
        return sum(m == method and re.search(path, p) is not None for m, p, _ in self.requests)


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of ``upstream`` (scheme, host and port)."""
    target = urlsplit(upstream)
    assert target.hostname
    assert target.port
    host = (target.hostname, target.port)
    state = Proxy(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            path = unquote(self.path)
            fault = state.fault(self.command, path)
            length = int(self.headers.get("Content-Length") or 0)
            if fault is not None and fault.kind == "reset":
                self.rfile.read(length // 2)
                self.reset()
                return
            if self.headers.get("Expect", "").lower() == "100-continue":
                pass  # the base class has answered it
            body = self.body(length)
            if fault is not None and fault.kind == "status":
                self.reply((fault.status, list(fault.headers), fault.body))
                return
            if fault is not None and fault.kind in ("call", "killed"):
                fault.call()
                if fault.kind == "killed":
                    self.reset()
                    return
            try:
                got = forward(host, self.command, self.path, list(self.headers.items()), body)
            except OSError:
                self.reset()
                return
            if got[0] < 400:
                with state.lock:
                    state.requests.append((self.command, path, len(body)))
            if fault is None or fault.kind == "call":
                self.reply(got)
            elif fault.kind == "lost":
                self.reset()
            elif fault.kind == "changed":
                self.reply(fault.change(got))
            elif fault.kind == "truncated":
                self.reply(got, pieces=[got[2][: len(got[2]) // 2]])
                self.reset()
            elif fault.kind == "slow":
                step = max(1, len(got[2]) // 20)
                self.reply(
                    got, pieces=[got[2][i : i + step] for i in range(0, len(got[2]), step)], wait_s=0.005
                )
            else:
                raise AssertionError(fault.kind)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = answer

        def body(self, length: int) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(length)
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def reply(self, got: Answer, pieces: list[bytes] | None = None, wait_s: float = 0.0) -> None:
            status, headers, body = got
            self.send_response_only(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value if self.command == "HEAD" else length
                elif name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                for piece in [body] if pieces is None else pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(wait_s)

        def reset(self) -> None:
            """End the connection as a machine that falls over does."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle_one_request()
                return
            self.close_connection = True

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        state.port = port
        yield state


def forward(
    host: tuple[str, int], method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> Answer:
    """The host's own answer to a request."""
    connection = http.client.HTTPConnection(*host, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "expect"):
                connection.putheader(name, value)
        if body or method in ("PUT", "POST"):
            connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Connection", "close")
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server on a free port of the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
