"""A host of plain files that understands ``Range``, as every host of downloads does."""

import contextlib
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from dataset_pipeline_tests.adapters.hosts.proxy import serving


@contextlib.contextmanager
def tree(files: dict[str, bytes]) -> Iterator[str]:
    """Serves path -> bytes, as it is at the time of a request; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            data = files.get(unquote(urlsplit(self.path).path).lstrip("/"))
            if data is None:
                self.send_response_only(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if start and int(start[1]) >= len(data):
                self.send_response_only(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response_only(206 if start else 200)
            part = data[int(start[1]) :] if start else data
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"
