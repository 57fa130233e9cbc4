"""What a build shows while it runs: live bars on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dataset_pipeline.defs.stage import ProgressDisplay


class PlainDisplay(ProgressDisplay):
    """One line when a stage starts, ends, fails a gate, and every ten seconds between."""

    _EVERY_SECONDS = 10.0

    def __init__(self) -> None:
        self._started_at: dict[str, float] = {}
        self._last_at = 0.0

    def waiting(self, reason: str) -> None:
        """See the base class."""
        self.say(reason)

    def started(self, asset: str) -> None:
        """See the base class."""
        self._started_at[asset] = self._last_at = time.monotonic()
        self.say(f"{asset} ...")

    def finished(self, asset: str, outcome: str) -> None:
        """See the base class."""
        self.say(f"{asset}: {outcome} ({time.monotonic() - self._started_at[asset]:.1f} s)")

    def checked(self, asset: str, passed: int, failed: int) -> None:
        """See the base class."""
        self.say(f"{asset}: {passed} gates passed" + (f", {failed} FAILED" if failed else ""))

    def update(self, asset: str, label: str, done: int, total: int) -> None:
        """See the base class."""
        if time.monotonic() - self._last_at >= self._EVERY_SECONDS:
            self._last_at = time.monotonic()
            self.say(f"{asset}: {label}: {done:,} of {total:,}")

    def say(self, line: str) -> None:
        """Print one line, at once."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class LiveDisplay(PlainDisplay):
    """A bar per running piece of work, above them the lines of what is finished."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[tuple[str, str], object] = {}

    def started(self, asset: str) -> None:
        """See the base class."""
        self._started_at[asset] = time.monotonic()
        self._tasks[asset, ""] = self._progress.add_task(asset, total=None)

    def finished(self, asset: str, outcome: str) -> None:
        """See the base class."""
        for key in [key for key in self._tasks if key[0] == asset]:
            self._progress.remove_task(self._tasks.pop(key))  # type: ignore[arg-type]
        super().finished(asset, outcome)

    def update(self, asset: str, label: str, done: int, total: int) -> None:
        """See the base class."""
        key = (asset, label)
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(f"  {label}", total=total)
        self._progress.update(self._tasks[key], completed=done, total=total)  # type: ignore[arg-type]

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self._progress.console.print(line, highlight=False, markup=False)

    @contextmanager
    def drawing(self) -> Iterator["LiveDisplay"]:
        """Draw the bars while the block runs."""
        with self._progress:
            yield self


@contextmanager
def build_display() -> Iterator[ProgressDisplay]:
    """Live bars where standard error is a terminal, else plain lines."""
    if sys.stderr.isatty():
        with LiveDisplay().drawing() as display:
            yield display
    else:
        yield PlainDisplay()
