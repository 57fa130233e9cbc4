"""``dev``: the Dagster UI on some datasets, with nothing to export first."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_pipeline.commands.build import dagster_home
from dataset_pipeline.config import load_config
from dataset_pipeline.definitions import CONFIGS_VARIABLE, STORAGE_VARIABLE


def dev(configs: Sequence[Path], storage: str, port: int) -> int:
    """Run ``dagster dev`` until it ends; returns its exit status.

    Raises ``ConfigError`` before anything starts where a config is wrong.
    """
    for config in configs:
        load_config(config)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(storage)),
        CONFIGS_VARIABLE: os.pathsep.join(str(config.absolute()) for config in configs),
        STORAGE_VARIABLE: str(Path(storage).absolute()),
    }
    command = [
        sys.executable, "-m", "dagster", "dev", "--module-name", "dataset_pipeline.definitions",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - our own interpreter
