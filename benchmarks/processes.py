"""What a command of the pipeline costs: time, processor time, memory and disk of all its processes, phase by phase."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

COMMAND = Path(sys.executable).with_name("dataset-pipeline")
_EVERY_SECONDS = 0.2


@dataclass
class Cost:
    """What a command, or a phase of it, has cost so far."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Largest sum of proportional set sizes of all processes."""
    written_bytes: int = 0
    """What they had the system write to disk."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
            self.written_bytes + other.written_bytes,
        )


Phase = Callable[[str], str | None]
"""A line of standard error -> the phase that begins with it; None: it goes on as before."""


def measured(
    arguments: Sequence[str],
    phase: Phase = lambda _: None,
    ended: Callable[[str, Cost], None] = lambda *_: None,
) -> dict[str, Cost]:
    """Cost of each phase of a command of the pipeline, the first one named ``start``; raises where it fails.

    ``ended`` is called with each phase that ends and its cost so far.
    """
    lines: list[str] = []
    costs = {"start": Cost()}
    now = "start"
    process = psutil.Popen(
        [COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lock = threading.Lock()
    last = _Reading(time.monotonic(), 0.0, 0)

    def account(next_phase: str | None = None) -> None:
        nonlocal now, last
        with lock:
            reading, memory = _read(process, last)
            cost = costs[now]
            cost.seconds += reading.at - last.at
            cost.cpu_seconds += reading.cpu_seconds - last.cpu_seconds
            cost.written_bytes += reading.written_bytes - last.written_bytes
            cost.peak_bytes = max(cost.peak_bytes, memory)
            last = reading
            if next_phase is not None:
                ended(now, cost)
                now = next_phase
                costs.setdefault(now, Cost())

    def follow() -> None:
        for line in process.stderr:
            lines.append(line)
            if (found := phase(line)) is not None:
                account(found)

    reader = threading.Thread(target=follow)
    reader.start()
    with process:
        while process.poll() is None:
            account()
            time.sleep(_EVERY_SECONDS)
        reader.join()
    if process.returncode:
        raise RuntimeError("".join(lines[-40:]))
    return costs


@dataclass(frozen=True)
class _Reading:
    at: float
    cpu_seconds: float
    written_bytes: int


def _read(process: psutil.Popen, last: _Reading) -> tuple[_Reading, int]:
    """Sums over a process and all below it, and the memory of all; what has ended is counted by its parent."""
    cpu, written, memory = 0.0, 0, 0
    try:
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
                written += one.io_counters().write_bytes
                memory += int(one.memory_full_info().pss)
            except psutil.Error:
                continue  # it ended meanwhile
    except psutil.Error:
        pass
    # Between a child's end and its parent's waiting for it, it is in no sum.
    return _Reading(time.monotonic(), max(cpu, last.cpu_seconds), max(written, last.written_bytes)), memory
