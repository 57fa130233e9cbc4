"""What a look at a source costs that nothing, or little, has happened to: ``python benchmarks/speed_observation.py [--files N]``."""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from dataset_pipeline.adapters import observation
from dataset_pipeline.adapters.cache import ResultCache
from dataset_pipeline.config import Source

_PER_FOLDER = 1000


def write(root: Path, files: int) -> list[Path]:
    """Small files, a thousand a folder; what is in them does not matter to a look."""
    paths = [root / f"{n // _PER_FOLDER:06d}" / f"{n % _PER_FOLDER:04d}.jpg" for n in range(files)]
    for number, path in enumerate(paths):
        if number % _PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%0100d" % number)
    return paths


def main() -> None:
    """Print a table of looks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        paths = write(base / "photos", files)
        source = Source(id="s", path="photos", licence="CC0-1.0")
        cache, memory = ResultCache(base / "cache"), base / "seen.parquet"
        print(f"{files:,} files\n")
        print("| look | seconds | CPU seconds | peak memory, GiB | files read | fingerprint |")
        print("|---|---:|---:|---:|---:|---|")
        before = ""
        for label, touched in (
            ("first", 0),
            ("nothing happened", 0),
            ("1 % touched", 1),
            ("the same 1 % touched", 1),
        ):
            for path in paths[::100] if touched else ():
                os.utime(path)
            began, worked = time.perf_counter(), time.process_time()
            now = observation.fingerprint(source, base, cache, memory)
            told = "first" if not before else "the same" if now == before else "another"
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"| {label} | {time.perf_counter() - began:.1f} | {time.process_time() - worked:.1f} | {peak:.2f} "
                f"| {len(paths[::100]) if touched else 0:,} | {told} |"
            )
            before = now


if __name__ == "__main__":
    main()
