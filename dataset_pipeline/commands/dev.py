"""``dev``: the Dagster UI on some datasets, with nothing to export first."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg

from dataset_pipeline.adapters.engine import engine_named
from dataset_pipeline.adapters.remote import is_remote
from dataset_pipeline.commands.build import dagster_home
from dataset_pipeline.definitions import (
    CONFIGS_VARIABLE,
    ENGINE_VARIABLE,
    RAY_ADDRESS_VARIABLE,
    STORAGE_VARIABLE,
    dataset_definitions,
    load_dataset,
)
from dataset_pipeline.defs.alerts import UI_VARIABLE
from dataset_pipeline.errors import OutsideWorldError

_HOST = "127.0.0.1"
_NOT_FOR_USERS = "ignore:Function `dev_command` is superseded"
_ENDING_SECONDS = 60.0


def automation_lines(definitions: dg.Definitions) -> list[str]:
    """What works by itself while the UI runs, and what only when somebody switches it on; one line each."""
    found = sorted([*(definitions.sensors or []), *(definitions.schedules or [])], key=lambda one: one.name)
    lines = []
    for one in found:
        assert isinstance(one, (dg.SensorDefinition, dg.ScheduleDefinition))
        is_on = one.default_status.value == dg.DefaultSensorStatus.RUNNING.value
        lines.append(f"{'on ' if is_on else 'off'}  {one.name}: {one.description}")
    return [*lines, "Switch them under Automation in the UI; what is set there stays."]


def dev(
    configs: Sequence[Path],
    storage: str,
    port: int,
    say: Callable[[str], None] = lambda _line: None,
    engine: str = "local",
    ray_address: str | None = None,
) -> None:
    """Run ``dagster dev`` until it is interrupted; then it and everything it started ends.

    ``say`` is given what works by itself meanwhile, line by line.

    Raises, before anything starts, ``ConfigError`` where a config or the engine is wrong or two datasets share a name, and
    ``OutsideWorldError`` where the port or the storage folder cannot be used.
    """
    engine_named(engine, ray_address)
    definitions = dataset_definitions([load_dataset(config) for config in configs], storage)
    _require_free(port)
    home = dagster_home(storage)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        UI_VARIABLE: os.environ.get(UI_VARIABLE, f"http://{_HOST}:{port}"),
        CONFIGS_VARIABLE: os.pathsep.join(str(config.absolute()) for config in configs),
        STORAGE_VARIABLE: storage if is_remote(storage) else str(Path(storage).absolute()),
        ENGINE_VARIABLE: engine,
        RAY_ADDRESS_VARIABLE: ray_address or "",
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), _NOT_FOR_USERS])),
    }
    command = [
        sys.executable, "-m", "dagster", "dev", "--module-name", "dataset_pipeline.definitions",
        "--host", _HOST, "--port", str(port),
    ]  # fmt: skip
    for line in automation_lines(definitions):
        say(line)
    is_stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    before = {name: signal.signal(name, stop) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # In a session of its own Ctrl-C reaches it through us alone, and once: a second one would cut its ending short.
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603 - our own interpreter
    try:
        while process.poll() is None and not is_stopping:
            _wait(process, 0.5)
        if is_stopping:
            process.send_signal(signal.SIGINT)
            _wait(process, _ENDING_SECONDS)
    finally:
        _end_all(process)
        for name, handler in before.items():
            signal.signal(name, handler)
    if not is_stopping:
        raise OutsideWorldError(
            f"the Dagster UI ended by itself, with status {process.returncode}", hint="Its last lines say why"
        )


def _require_free(port: int) -> None:
    """Dagster would start everything else and leave the user without a page."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise OutsideWorldError(
                f"port {port} of {_HOST} {reason}", hint="Name another one with --port"
            ) from None


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the session: nothing may write to the storage folder when we are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
