"""Where a published version can be downloaded by anybody, which place is the fastest, and a script that does it.

Belongs here: addresses, which follow from the configuration alone, their order, and ``download.py``. Does not belong
here: requests (``adapters/mirrors.py``).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal
from urllib.parse import quote

from dataset_pipeline.config import (
    DatasetConfig,
    Destination,
    HuggingFaceDestination,
    S3Destination,
    ZenodoDestination,
    record_files,
)

_HUB: Final = "https://huggingface.co"


@dataclass(frozen=True)
class Mirror:
    """One place that anybody can read a version at."""

    name: str
    """Of the destination in dataset.yaml."""
    kind: Literal["tree", "record"]
    """tree: ``base/<path>``; record: files and archives as ``config.record_files`` has them."""
    base: str
    mib_per_s: float | None = None
    """Measured from the author's machine, all files one after the other."""


def mirrors(config: DatasetConfig, measured: Mapping[str, float] | None = None) -> list[Mirror]:
    """Every public place of the configured version, the fastest first, then those that nobody has measured.

    ``measured``: destination -> MiB/s.
    """
    speeds = measured or {}
    found = [
        Mirror(name, place[0], place[1], speeds.get(name))
        for name, destination in config.publish.items()
        if (place := _place(config, destination)) is not None
    ]
    return sorted(found, key=lambda mirror: -(mirror.mib_per_s or 0.0))


def _place(config: DatasetConfig, destination: Destination) -> tuple[Literal["tree", "record"], str] | None:
    if isinstance(destination, S3Destination):
        base = destination.public_base(config.name, config.version)
        return None if base is None else ("tree", base)
    if (
        isinstance(destination, HuggingFaceDestination)
        and destination.is_public
        and destination.gated == "no"
    ):
        endpoint = (destination.endpoint or _HUB).rstrip("/")
        return "tree", f"{endpoint}/datasets/{destination.repository}/resolve/v{config.version}"
    if isinstance(destination, ZenodoDestination) and config.doi:
        record = re.search(r"[a-z0-9-]+$", config.doi)
        return ("record", f"{destination.url.rstrip('/')}/records/{record[0]}/files") if record else None
    return None


def addresses(
    mirror: Mirror, paths: Iterable[str], name: str, version: str
) -> dict[str, tuple[str, str | None]]:
    """Path of every file of a release -> (address, member); a member is one of the archive at the address."""
    if mirror.kind == "tree":
        return {path: (f"{mirror.base}/{quote(path)}", None) for path in paths}
    return {
        path: (f"{mirror.base}/{quote(file)}", path if is_archive else None)
        for path, (file, is_archive) in record_files(paths, name, version).items()
    }


def download_script(config: DatasetConfig, places: list[Mirror]) -> str:
    """``download.py``: Python 3.8 or later, nothing but its standard library."""
    text = resources.files("dataset_pipeline").joinpath("templates", "download.py.txt").read_text("utf-8")
    listed = [[place.name, place.kind, place.base] for place in places]
    return (
        text.replace("@NAME@", json.dumps(config.name))
        .replace("@VERSION@", json.dumps(config.version))
        .replace("@MIRRORS@", json.dumps(listed, indent=4))
    )
