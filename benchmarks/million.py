"""One machine, one million items: what every stage of a build costs, how it grows, and whether what was planted is found.

    python benchmarks/million.py [--items 10000 100000 1000000] [--in FOLDER] [--write]

For each number of items: makes that many (``million_items.py``), builds and verifies the release by the command line,
and compares it with what was planted. Prints the tables of docs/performance.md; ``--write`` writes its part of that
page. ``--in FOLDER`` keeps datasets, storage and measurements there, and measures what is not measured there yet; else a
temporary folder is used. A million items need 30 GB of disk and about an hour.
"""

import argparse
import functools
import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import million_items as made
import polars as pl
from pages import write_part
from processes import Cost, measured
from quality_duplicates import EMOJI, picture_folders

from dataset_pipeline.adapters.engine import LocalEngine

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
LANGUAGES = ("de", "en", "es", "fr", "it", "pt", "ru", "tr")
_BETWEEN = "between stages"


def material() -> made.Material:
    """Clothing photos where they are, else the emoji; words of the emoji's names in each language."""
    folders = picture_folders()
    photos = tuple(sorted((folders.get("clothing") or folders["emoji"]).iterdir()))
    names = pl.read_csv(EMOJI / "items.csv", infer_schema=False).drop_nulls("name")
    words = {
        language: tuple(
            names.filter(pl.col("lang") == language)["name"]
            .str.to_lowercase()
            .str.extract_all(r"\p{L}{3,}")
            .explode()
            .drop_nulls()
            .unique()
            .sort()
        )
        for language in LANGUAGES
    }
    return made.Material(photos, words)


def _block(block: tuple[int, int], of: int, folder: Path, of_what: made.Material) -> pl.DataFrame:
    return made.write_block(*block, of, folder, of_what)


def make_dataset(items: int, folder: Path, of_what: made.Material) -> Path:
    """Write a dataset with its truth; returns its configuration."""
    engine = LocalEngine()
    function = functools.partial(_block, of=items, folder=folder / "images", of_what=of_what)
    rows = pl.concat(engine.map(function, made.blocks(items)))
    engine.close()
    rows = rows.sort("item_id")  # copies far from their originals
    rows.drop("kind", "original", "secret").write_parquet(folder / "items.parquet")
    rows.select(*made.TRUTH).write_parquet(folder / "truth.parquet")
    return made.write_config(folder)


def stage_of(line: str) -> str | None:
    """The phase that a line of a build begins: an asset's work, its gates, or what is between two assets."""
    if found := re.fullmatch(r"(\w+) \.\.\.\n", line):
        return found[1]
    if found := re.fullmatch(r"(\w+): .*\(\d+\.\d s\)\n", line):
        return f"{found[1]}: gates"
    return _BETWEEN if re.search(r"^\w+: \d+ gates passed", line) else None


def run(items: int, home: Path) -> dict[str, Any]:
    """Make, build, verify and compare; what that cost and found, which is kept in the folder, too."""
    folder, storage, kept = home / str(items), home / f"storage-{items}", home / f"measured-{items}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    if not (folder / "dataset.yaml").exists():
        began = time.monotonic()
        make_dataset(items, folder, material())
        print(f"{items:,} items made in {time.monotonic() - began:.0f} s", flush=True)
    shutil.rmtree(storage, ignore_errors=True)

    def said(line: str) -> str | None:
        print(time.strftime("%H:%M:%S"), line, end="", flush=True)
        return stage_of(line)

    def ended(phase: str, cost: Cost) -> None:
        print(f"         {phase}: {_stage_cell(cost)}", flush=True)

    costs = measured(["build", str(folder / "dataset.yaml"), "--storage", str(storage)], said, ended)
    release = storage / "million" / "releases" / "1.0.0"
    [costs["verify"]] = measured(["verify", str(release)]).values()
    truth = pl.read_parquet(folder / "truth.parquet")
    found = {
        "items": items,
        "costs": {phase: asdict(cost) for phase, cost in costs.items()},
        "source_bytes": _size(folder),
        "storage_bytes": _size(storage),
        "release_bytes": _size(release),
        "recovered": [list(finding) for finding in made.recovered(truth, release)],
    }
    kept.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def _size(folder: Path) -> int:
    """Bytes of the files below a folder, hard links counted once."""
    return sum(
        {(s := path.stat()).st_ino: s.st_size for path in folder.rglob("*") if path.is_file()}.values()
    )


# -- the document --------------------------------------------------------------------------


def document(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of this script's part of docs/performance.md."""
    sizes = [one["items"] for one in runs]
    yield "## A whole build, stage by stage"
    yield ""
    yield (
        f"Written by `python benchmarks/million.py --items {' '.join(map(str, sizes))} --write`; no number here is typed by hand. "
        "Pictures of 128 to 200 pixels are two crops of real photos over one another, texts are words of one of "
        f"{len(LANGUAGES)} languages in a new order, {made.LABELS} labels have a long tail. Everything but embeddings and models "
        "for names is on. Two shared cores: other work was on them too, so that CPU minutes say more than minutes. Memory is "
        "the largest sum of proportional set sizes of all processes."
    )
    yield ""
    yield "| | " + " | ".join(f"{size:,} items" for size in sizes) + " |"
    yield "|---|" + "---:|" * len(sizes)
    totals = [sum(map(_cost, one["costs"].values()), Cost()) for one in runs]
    for what, cells in (
        ("minutes, build and verification", [f"{total.seconds / 60:.1f}" for total in totals]),
        ("CPU minutes, likewise", [f"{total.cpu_seconds / 60:.1f}" for total in totals]),
        (
            "CPU milliseconds an item",
            [f"{1000 * t.cpu_seconds / n:.1f}" for t, n in zip(totals, sizes, strict=True)],
        ),
        ("peak memory, GiB", [f"{total.peak_bytes / 2**30:.2f}" for total in totals]),
        ("source, GB", [f"{one['source_bytes'] / 1e9:.2f}" for one in runs]),
        ("release, GB", [f"{one['release_bytes'] / 1e9:.2f}" for one in runs]),
        ("storage with caches and snapshots, GB", [f"{one['storage_bytes'] / 1e9:.2f}" for one in runs]),
        (
            "written to disk, GB",
            [f"{t.written_bytes / 1e9:.2f}" if t.written_bytes else "not measured" for t in totals],
        ),
    ):
        yield f"| {what} | " + " | ".join(cells) + " |"
    yield ""
    yield (
        "By stage: CPU seconds (seconds), and peak memory in GiB. *Growth* is the power of the number of items that CPU time grew by "
        "from one column to the next: 1 is linear."
    )
    yield ""
    head = [f"{sizes[0]:,}"]
    for size in sizes[1:]:
        head += [f"{size:,}", "growth"]
    yield "| | " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * len(head)
    for phase in runs[-1]["costs"]:
        costs = [_cost(one["costs"].get(phase, {})) for one in runs]
        cells = [_stage_cell(costs[0])]
        for place in range(1, len(costs)):
            cells += [
                _stage_cell(costs[place]),
                _growth(sizes[place - 1 : place + 1], costs[place - 1 : place + 1]),
            ]
        yield f"| {phase} | " + " | ".join(cells) + " |"
    yield ""
    yield f"What was planted among {sizes[-1]:,} items, and what became of it:"
    yield ""
    yield "| planted | items | as it should be | what that is |"
    yield "|---|---:|---:|---|"
    for kind, planted, right, demand in runs[-1]["recovered"]:
        yield f"| {kind} | {planted:,} | {right:,} ({_share(right, planted)}) | {demand} |"


def _cost(fields: dict[str, Any]) -> Cost:
    return Cost(**fields)


def _stage_cell(cost: Cost) -> str:
    if not cost.peak_bytes:
        return "not measured"
    return f"{cost.cpu_seconds:,.1f} ({cost.seconds:,.0f}), {cost.peak_bytes / 2**30:.2f}"


def _growth(sizes: Sequence[int], costs: Sequence[Cost]) -> str:
    """The exponent between two sizes; none where the smaller one took no time worth the name."""
    if costs[0].cpu_seconds < 1 or not costs[1].cpu_seconds:
        return ""
    return f"{math.log(costs[1].cpu_seconds / costs[0].cpu_seconds) / math.log(sizes[1] / sizes[0]):.2f}"


def _share(right: int, planted: int) -> str:
    share = 100 * right / planted
    return "100 %" if right == planted else f"{min(share, 99.99):.2f} %"


def main() -> None:
    """Measure, then print the tables or write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000])
    parser.add_argument("--in", dest="home", type=Path, metavar="FOLDER")
    parser.add_argument("--write", action="store_true", help=f"write a part of {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary)
        runs = [run(items, home) for items in sorted(arguments.items)]
    text = "\n".join(document(runs))
    if arguments.write:
        write_part(PAGE, "million", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
