"""Where alerts arrive: a webhook and a mail server on the loopback interface, which can be told to fail."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler
from typing import Any

from dataset_pipeline_tests.adapters.hosts.proxy import serving


class Receiver:
    """What has arrived, and how the server answers."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        self.documents: list[dict[str, Any]] = []
        self.mails: list[EmailMessage] = []
        self.refused: set[str] = set()
        self.recipients: list[str] = []


@contextlib.contextmanager
def webhook() -> Iterator[Receiver]:
    """Takes JSON by POST; with another ``status`` than 200 it takes nothing."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if received.status == 200:
                received.documents.append(json.loads(body))
            self.send_response(received.status)
            if received.status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as received.port:
        yield received


@contextlib.contextmanager
def mail_server() -> Iterator[Receiver]:
    """Takes mail without TLS or login, but for those whom it refuses; with a ``status`` of 4xx or 5xx it takes none."""
    received = Receiver()

    class Handler(socketserver.StreamRequestHandler):
        def answer(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

        def handle(self) -> None:
            self.answer("220 loopback" if received.status == 200 else f"{received.status} not now")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"RCPT":
                    recipient = line.split(b"<")[1].split(b">")[0].decode()
                    is_refused = recipient in received.refused
                    self.answer("550 unknown" if is_refused else "250 fine")
                    received.recipients += [] if is_refused else [recipient]
                elif verb == b"DATA":
                    self.answer("354 go on")
                    content = b""
                    while (part := self.rfile.readline()) != b".\r\n":
                        content += part.removeprefix(b".")
                    received.mails.append(message_from_bytes(content, policy=policy.default))  # type: ignore[arg-type]
                    self.answer("250 taken")
                elif verb == b"QUIT":
                    self.answer("221 bye")
                    return
                else:
                    self.answer("250 loopback")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        received.port = server.server_address[1]
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()
