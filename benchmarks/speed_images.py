"""How fast pictures are scanned, beside bare decoding, imagededup and cleanvision: the same photos in the same run.

    make peers
    python benchmarks/speed_images.py [FOLDER] [--times 2] [--rounds 3] [--hashes 10000,100000] [--write]

Prints a markdown section; ``--write`` puts it into docs/quality/peers.md in place of the one that is there. All programs use all cores and take turns, so that another load on the machine hits all of them;
the best round counts. Starting processes and imports are not counted. CPU milliseconds are of all processes together; they count where the machine has another load. Bare
decoding reads the files and decodes JPEGs at the scale that the scan decodes them at, and does nothing else.
Then the search for near hashes, of which imagededup's compares all pairs. Without a folder: the clothing photos.
"""

import argparse
import functools
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import polars as pl
import simplejpeg
from PIL import Image
from quality_duplicates import CLOTHING, EMOJI, ROOT
from speed_duplicates import DISTANCE, made_hashes, near_hashes

from dataset_pipeline.adapters.engine import LocalEngine
from dataset_pipeline.adapters.images import SCAN_SIDE_PX, hash_files, scan_images
from dataset_pipeline.config import CleanImages

DOCUMENT = ROOT / "docs" / "quality" / "peers.md"
QUERIES = 200
"""So many hashes are looked for in a large set; all of them would take imagededup's search hours."""
BATCH = 256  # as in a build


def timed(batch: pl.DataFrame, function: Callable[[pl.DataFrame], object]) -> float:
    """CPU seconds of a batch in a worker process."""
    started = time.process_time()
    function(batch)
    return time.process_time() - started


def scaled(image: Image.Image) -> tuple[int, int]:
    """Height and width at which the scan decodes a JPEG."""
    scale = 1
    while scale < 8 and min(image.size) >= 2 * scale * SCAN_SIDE_PX:
        scale *= 2
    width, height = (math.ceil(side / scale) for side in image.size)
    return height, width


def decoded_by_turbo(batch: pl.DataFrame) -> None:
    """Bare decoding with simplejpeg."""
    for location in batch["location"]:
        data = Path(location).read_bytes()
        height, width = scaled(Image.open(io.BytesIO(data)))
        simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width)


def decoded_by_pillow(batch: pl.DataFrame) -> None:
    """Bare decoding with Pillow."""
    for location in batch["location"]:
        with Image.open(location) as image:
            height, width = scaled(image)
            image.draft("RGB", (width, height))
            image.load()


def hashed_and_scanned(batch: pl.DataFrame) -> None:
    """Everything that a build does with a new file."""
    hash_files(batch)
    scan_images(batch, CleanImages())


class Run:
    """One way to go through all pictures: the best of its rounds."""

    def __init__(self, run: Callable[[], tuple[float, float]]) -> None:
        self._run = run
        self.seconds, self.cpu_seconds = math.inf, math.inf

    def once_more(self) -> None:
        """Another round."""
        seconds, cpu_seconds = self._run()
        self.seconds, self.cpu_seconds = min(self.seconds, seconds), min(self.cpu_seconds, cpu_seconds)


def ours(function: Callable[[pl.DataFrame], object], files: pl.DataFrame, engine: LocalEngine) -> Run:
    """A function over batches in the worker processes of a build."""
    batches = [
        part for _, part in files.with_row_index().group_by(pl.col("index") // BATCH, maintain_order=True)
    ]
    work = functools.partial(timed, function=function)

    def run() -> tuple[float, float]:
        started = time.perf_counter()
        cpu = sum(engine.map(work, batches))
        return time.perf_counter() - started, cpu

    list(engine.map(work, [batches[0].head(8)] * 8))  # imports in every worker
    return Run(run)


def theirs(task: str, folder: Path) -> Run:
    """A program beside this pipeline."""

    def run() -> tuple[float, float]:
        answer: dict[str, Any] = peers.call(task, folder=str(folder))
        return answer["seconds"], answer["cpu_seconds"]

    return Run(run)


def pictures(folder: Path, times: int, rounds: int) -> Iterator[str]:
    """The table of pictures."""
    with tempfile.TemporaryDirectory() as name:
        links = Path(name)
        for file in sorted(folder.iterdir()):
            for number in range(times):
                (links / f"{number}-{file.name}").symlink_to(file.resolve())
        locations = [str(path) for path in sorted(links.iterdir())]
        files = pl.DataFrame(
            {"location": locations, "sha256": locations, "size_bytes": 0, "mtime_ns": 0, "ctime_ns": 0},
            schema_overrides={"size_bytes": pl.Int64, "mtime_ns": pl.Int64, "ctime_ns": pl.Int64},
        )
        engine = LocalEngine()
        scan = functools.partial(scan_images, settings=CleanImages())
        runs = {
            "bare scaled decoding, simplejpeg": ours(decoded_by_turbo, files, engine),
            "bare scaled decoding, Pillow": ours(decoded_by_pillow, files, engine),
            "**this pipeline's scan**": ours(scan, files, engine),
            "this pipeline's scan, and the files' SHA-256 before it": ours(hashed_and_scanned, files, engine),
        }
        if peers.installed():
            runs |= {
                "imagededup, PHash.encode_images": theirs("imagededup_hashes", links),
                "cleanvision, all checks": theirs("cleanvision", links),
            }
        for _round in range(rounds):
            for run in runs.values():
                run.once_more()
        engine.close()
    scan_run = runs["**this pipeline's scan**"]
    yield (
        f"{engine.processes} cores, the same {len(locations):,} photos in turns, the best of {rounds} rounds; without the start of processes and "
        "imports. CPU milliseconds are of all processes together; they count where the machine has another load. Bare decoding reads the files and decodes them at the scale "
        "at which the scan does, and nothing else; the scan also measures, hashes and makes the thumbnail."
    )
    yield ""
    yield "| program | pictures/s | seconds, of the scan's | CPU ms a picture | of the scan's |"
    yield "|---|---:|---:|---:|---:|"
    for what, run in runs.items():
        yield (
            f"| {what} | {len(locations) / run.seconds:,.0f} | {run.seconds / scan_run.seconds:.2f} "
            f"| {1000 * run.cpu_seconds / len(locations):.2f} | {run.cpu_seconds / scan_run.cpu_seconds:.2f} |"
        )
    if not peers.installed():
        yield f"| imagededup, cleanvision: {peers.NOT_INSTALLED} | - | - | - | - |"


def searches(counts: list[int]) -> Iterator[str]:
    """The table of searches."""
    yield from ("", f"All pairs of hashes within {DISTANCE} bits of 64, both exact:", "")
    yield "| hashes | pairs | this pipeline, s | imagededup's brute force, s |"
    yield "|---:|---:|---:|---:|"
    for count in counts:
        hashes = made_hashes(count)
        started = time.perf_counter()
        pairs = near_hashes(hashes)
        seconds = time.perf_counter() - started
        said = peers.NOT_INSTALLED
        if peers.installed():
            named = {str(row): f"{value:016x}" for row, value in enumerate(hashes.tolist())}
            queries = min(count, QUERIES if count > 10 * QUERIES else count)
            answer = peers.call("imagededup_pairs", hashes=named, distance=DISTANCE, queries=queries)
            assert answer["found"] == int((pairs < queries).sum()), "the two searches differ"
            said = f"{answer['seconds'] * count / queries:,.0f}"
            if queries < count:
                said += f" (by {queries:,} of the hashes, which took {answer['seconds']:.0f})"
        yield f"| {count:,} | {len(pairs):,} | {seconds:.2f} | {said} |"


def main() -> None:
    """Print or write the section."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=2, help="so often every picture is in the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hashes", default="10000,100000", help="sizes of the searches; empty: none")
    parser.add_argument("--write", action="store_true", help="put the section into docs/quality/peers.md")
    arguments = parser.parse_args()
    if arguments.write and not peers.installed():
        parser.error("the other programs are " + peers.NOT_INSTALLED)
    folder = arguments.folder or next((f for f in (*CLOTHING, EMOJI / "images") if f.is_dir()), None)
    if folder is None:
        parser.error("no pictures found: run make demo-data, or name a folder")
    counts = [int(count) for count in arguments.hashes.split(",") if count]
    lines = [*pictures(folder, arguments.times, arguments.rounds), *searches(counts)]
    section = "\n".join([peers.SPEED_BEGIN, "## Speed", "", *lines, peers.SPEED_END])
    if arguments.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(peers.with_speed(text, section), encoding="utf-8")
    else:
        print(section)


if __name__ == "__main__":
    main()
