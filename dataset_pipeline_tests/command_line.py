"""The command as a user meets it: in this process where that is enough, as a process of its own for signals."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from dataset_pipeline import cli
from dataset_pipeline.adapters import engine

PATIENCE_SECONDS = 300
"""How long a test waits for what must happen: a hang fails it, a busy machine does not."""


class Answer(NamedTuple):
    """How a call ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line a user reads where something went wrong."""
        return self.err.strip().splitlines()[-1]


def run(*arguments: object) -> Answer:
    """Call the entry point; an exception that a user would see as a traceback is raised.

    Per-item work is done in this process; a call through ``command`` uses worker processes as a user's does.
    """
    out, err = io.StringIO(), io.StringIO()
    argv = ["dataset-pipeline", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(
            engine, "LocalEngine", engine.InlineEngine
        ),  # starting processes costs seconds a build
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    assert "Traceback" not in err.getvalue()
    return Answer(status, out.getvalue(), err.getvalue())


def command(*arguments: object) -> list[str]:
    """The console script beside this interpreter, for ``subprocess``."""
    return [str(Path(sys.executable).parent / "dataset-pipeline"), *map(str, arguments)]


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command as a process in a session of its own; both outputs in one pipe."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")}
    defaults: dict[str, Any] = {
        "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True,
        "env": environment,
    }  # fmt: skip
    return subprocess.Popen(command(*arguments), **{**defaults, **options})


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and what it printed from here on."""
    output = process.communicate(timeout=PATIENCE_SECONDS)[0] or ""
    assert "Traceback" not in output, output
    return process.returncode, output


def end_session(process: subprocess.Popen[Any]) -> None:
    """Kill whatever a failed test left of the session, so that it disturbs no other test."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_until(process: subprocess.Popen[str], start_of_line: str) -> str:
    """What the process prints up to the line that begins so."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(start_of_line):
            return "".join(lines)
    raise AssertionError(f"{start_of_line!r} was never printed:\n{''.join(lines)}")


def processes_of_session(leader: int) -> list[str]:
    """Command lines of what still runs in the session that ``start`` opened; zombies have ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == leader:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found
