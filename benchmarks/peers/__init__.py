"""Programs beside this pipeline, in an environment of their own: ``make peers``."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
PYTHON = _HERE.parent.parent / ".venv-peers" / "bin" / "python"
NOT_INSTALLED = "not installed: run `make peers`"
SPEED_BEGIN, SPEED_END = "<!-- speed:begin -->", "<!-- speed:end -->"
PACKAGES = ("imagededup", "cleanvision", "datasketch", "text-dedup")


def installed() -> bool:
    """Whether there is an environment to call."""
    return PYTHON.is_file()


def call(task: str, **request: Any) -> dict[str, Any]:
    """The reply of a task of ``run.py``; a program that fails ends the benchmark with what it said."""
    with tempfile.TemporaryDirectory() as folder:
        given, reply = Path(folder) / "request.json", Path(folder) / "reply.json"
        given.write_text(json.dumps(request), encoding="utf-8")
        run = subprocess.run(
            [PYTHON, _HERE / "run.py", task, given, reply], capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise SystemExit(f"peers: {task} failed\n{run.stderr}")
        answer: dict[str, Any] = json.loads(reply.read_text(encoding="utf-8"))
        return answer


def named(*packages: str) -> str:
    """What is installed of ``packages`` (all, if none is named), for a sentence."""
    versions = call("versions", packages=packages or PACKAGES)
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def speed_of(text: str) -> str:
    """The section on speed of a page, or nothing."""
    return text[text.index(SPEED_BEGIN) : text.index(SPEED_END)] + SPEED_END if SPEED_BEGIN in text else ""


def with_speed(text: str, section: str) -> str:
    """The page with that section on speed in place of its own."""
    rest = text.replace(speed_of(text), "").rstrip("\n")
    return f"{rest}\n\n{section}\n" if section else f"{rest}\n"
