"""What a rebuild costs after a small change, as a share of the full build.

    python benchmarks/incremental.py [--limit N] [--write] [CONFIG ...]

Each dataset (the emoji demo by default; its first N pictures and their rows) is built in a temporary folder by the assets
and gates of a real build, in this process, so that CPU seconds and the items of per-item work can be counted. Then, one
after the other: nothing changes; one in a hundred pictures gets one pixel of another colour; a threshold of duplicates
changes; the model changes. A picture in a hundred also changes what a small CLIP is trained on, which is work on the
whole dataset and is done again: ``--no-model`` measures without.
"""

import argparse
import csv
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pages import write_part
from PIL import Image

from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.definitions import dataset_definitions, load_dataset
from dataset_pipeline.defs.assets import lineage

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/performance.md"
RUN = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class CountingEngine(InlineEngine):
    """Does the work in this process, and counts the items that each function was given."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def map(self, function: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        name = getattr(function, "func", function).__name__
        for batch in batches:
            self.items[name] = self.items.get(name, 0) + batch.height
            yield function(batch)


def limited(config: Path, home: Path, limit: int | None) -> Path:
    """A copy of a dataset with its first ``limit`` pictures and the rows that name them."""
    source = config.parent / "source"
    [manifest] = source.glob("*.csv")
    with manifest.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    files = {Path(row["image"]).stem: None for row in rows}
    kept = set(list(files)[:limit])
    (home / "source/images").mkdir(parents=True)
    for path in (source / "images").iterdir():
        if path.stem in kept:
            shutil.copy2(path, home / "source/images")
    with (home / "source" / manifest.name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if Path(row["image"]).stem in kept)
    shutil.copy(config, home)
    return home / config.name


def change_pictures(home: Path) -> int:
    """Give one in a hundred pictures a pixel of another colour; returns how many that are."""
    paths = sorted((home / "source/images").iterdir())[::100]
    for path in paths:
        with Image.open(path) as image:
            changed = image.convert("RGB")
        changed.putpixel((0, 0), (255, 0, 0))
        changed.save(path)
    return len(paths)


def configure(config: Path, **sections: Any) -> None:
    """Merge ``sections`` into a dataset.yaml."""
    loaded = yaml.safe_load(config.read_text(encoding="utf-8"))
    for name, value in sections.items():
        loaded[name] = {**loaded.get(name, {}), **value}
    config.write_text(yaml.safe_dump(loaded, sort_keys=False), encoding="utf-8")


def build(config: Path, storage: Path, instance: dg.DagsterInstance) -> dict[str, Any]:
    """Seconds, CPU seconds, items by function, and which assets were made anew."""
    dataset, engine = load_dataset(config), CountingEngine()
    keys = [dataset.key(name) for name in lineage(dataset).stages]
    job = dg.define_asset_job("build", selection=dg.AssetSelection.assets(*keys), config=RUN)
    definitions = dg.Definitions.merge(
        dataset_definitions([dataset], storage, engine=engine), dg.Definitions(jobs=[job])
    )
    began, cpu = time.monotonic(), time.process_time()
    result = definitions.resolve_job_def("build").execute_in_process(instance=instance, raise_on_error=True)
    return {
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "items": sum(engine.items.values()),
        "anew": [
            event.asset_key.path[-1]
            for event in result.get_asset_materialization_events()
            if event.asset_key and not event.materialization.metadata["is_kept"].value
        ],
    }


def measured(config: Path, limit: int | None, has_model: bool) -> Iterator[str]:
    """Rows of the table for one dataset."""
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.ephemeral(tempdir=folder) as instance:
        home, storage = Path(folder) / "dataset", Path(folder) / "storage"
        copy = limited(config, home, limit)
        configure(copy, release={"notebook": False}, **({} if has_model else {"baselines": {"models": []}}))
        pictures = len(list((home / "source/images").iterdir()))

        def nothing() -> str:
            return "nothing changed"

        def one_percent() -> str:
            return f"{change_pictures(home)} pictures changed"

        def threshold() -> str:
            configure(copy, duplicates={"text": {"min_jaccard": 0.9}})
            return "threshold of near texts changed"

        def model() -> str:
            configure(
                copy,
                baselines={"models": [{"name": "other", "architecture": "small", "train": {"epochs": 1}}]},
            )
            return "model changed"

        full: dict[str, Any] = {}
        steps: list[Callable[[], str]] = [lambda: "full build", nothing, one_percent, threshold]
        for step in [*steps, model] if has_model else steps:
            told = step()
            found = build(copy, storage, instance)
            full = full or found
            yield (
                f"| {config.parent.name}, {pictures:,} pictures | {told} | {found['seconds']:.1f} | {found['cpu']:.1f} "
                f"| {found['cpu'] / full['cpu']:.1%} | {found['items']:,} | {found['items'] / full['items']:.2%} "
                f"| {', '.join(found['anew']) if 0 < len(found['anew']) < 10 else len(found['anew']) or 'none'} |"
            )


def main() -> None:
    """Print the table; with ``--write`` put it into its part of the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path, default=[ROOT / "datasets/emoji/dataset.yaml"])
    parser.add_argument("--limit", type=int, help="pictures of each dataset")
    parser.add_argument("--no-model", action="store_true", help="without CLIP")
    parser.add_argument("--write", action="store_true", help=f"write the part of {PAGE.name}")
    options = parser.parse_args()
    lines = [
        "| dataset | change | seconds | CPU seconds | of the full build | items of per-item work | of the full build | assets made anew |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    print("\n".join(lines))
    for config in options.configs:
        for row in measured(config, options.limit, not options.no_model):
            print(row, flush=True)
            lines.append(row)
    if options.write:
        table = "\n".join(lines)
        write_part(
            PAGE,
            "incremental",
            f"## What a rebuild costs\n\nWritten by `python benchmarks/incremental.py --write`, in one process, without the "
            f"notebook{', without models' if options.no_model else ''}. Items are counted, not timed: per-item work "
            "follows the change. Work on the whole dataset (searches for pairs, statistics and figures, shards, "
            "verification) is done again where anything it reads has changed; the fewer the pictures, the larger its "
            f"share.\n\n{table}",
        )


if __name__ == "__main__":
    main()
