"""Time and memory of whole builds: first, again with nothing changed, again with one picture changed.

    python benchmarks/build.py [CONFIG ...]

Builds each dataset (the emoji demo by default) in a temporary storage, through the command line, and prints
a markdown table. Peak memory is the largest sum of proportional set sizes of the build's processes, sampled
every 0.2 s. The physical limits beside it: reading the sources' files once, and decoding every picture once.
"""

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path

import yaml
from PIL import Image
from processes import measured

ROOT = Path(__file__).parent.parent


def limits(source: Path) -> tuple[int, float, float]:
    """Pictures below a folder, seconds to read all files, and seconds to decode all pictures in one process."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    began = time.monotonic()
    for path in files:
        path.read_bytes()
    read = time.monotonic() - began
    pictures = [path for path in files if path.suffix in {".png", ".jpg", ".jpeg"}]
    began = time.monotonic()
    for path in pictures:
        with Image.open(path) as image:
            image.load()
    return len(pictures), read, time.monotonic() - began


def change_one_picture(source: Path) -> None:
    """Give the first picture that a row names one pixel of another colour."""
    manifest = next(source.glob("*.csv"))
    with manifest.open(encoding="utf-8", newline="") as stream:
        names = {row["image"].removesuffix(".jpg").removesuffix(".png") for row in csv.DictReader(stream)}
    path = next(p for p in sorted((source / "images").iterdir()) if p.stem in names)
    with Image.open(path) as image:
        changed = image.convert("RGB")
    changed.putpixel((0, 0), (255, 0, 0))
    changed.save(path)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path, default=[ROOT / "datasets/emoji/dataset.yaml"])
    print("| dataset | pictures | read once | decode once | build | seconds | peak MiB |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for config in parser.parse_args().configs:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "dataset"
            shutil.copytree(config.parent / "source", home / "source")
            shutil.copy(config, home)
            name = yaml.safe_load(config.read_text(encoding="utf-8"))["name"]
            pictures, read, decode = limits(home / "source")
            arguments = ["build", str(home / config.name), "--storage", str(Path(folder) / "storage")]
            for kind in ("first", "nothing changed", "one picture changed"):
                if kind == "one picture changed":
                    change_one_picture(home / "source")
                [cost] = measured(arguments).values()
                print(
                    f"| {name} | {pictures:,} | {read:.1f} s | {decode:.1f} s | {kind} | {cost.seconds:.0f} | {cost.peak_bytes / 2**20:,.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
