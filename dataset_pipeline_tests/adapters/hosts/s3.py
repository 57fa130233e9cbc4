"""Two real S3 servers: rclone's, which keeps objects in a folder, and moto's, which keeps them in memory."""

import contextlib
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ACCESS_KEY = "AKIAEXAMPLEEXAMPLE01"
SECRET_KEY = "not-a-secret/but-it-looks-like-one0000000"


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """``rclone serve s3`` on ``folder``; gives its address. Folders in it are its buckets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("rclone")
    process = subprocess.Popen(
        [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--config", "/dev/null",
         "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--vfs-cache-mode", "off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, "rclone did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """moto's server in this process; gives its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
