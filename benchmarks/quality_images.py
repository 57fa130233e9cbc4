"""What the image checks find and miss: the tables of docs/quality/images.md.

    python benchmarks/quality_images.py [FOLDER ...] [--write]

Real pictures are damaged in known ways (cut short, overwritten, emptied, replaced by text) and scanned as the
pipeline scans them; blank pictures are made with known noise; dark, bright, blurred and flattened copies are judged by
the checks with their default thresholds. The undamaged pictures are the negatives. Without folders: the emoji pictures
and, where they are, the clothing photos. ``--write`` writes the page instead of printing it.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageFilter

from dataset_pipeline.adapters.colour import on_page
from dataset_pipeline.adapters.images import scan_image
from dataset_pipeline.config import CleanImages
from dataset_pipeline.stages.image_checks import MEASURES, image_checks, with_shared_pixels
from dataset_pipeline.tables import IMAGES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/quality/images.md"
FOLDERS = (ROOT / "datasets/emoji/source/images", ROOT / "datasets/clothing/source/images")
LIMIT = 400
SETTINGS = CleanImages()

Damage = Callable[[bytes, np.random.Generator], bytes]


def overwritten(data: bytes, generator: np.random.Generator) -> bytes:
    """64 random bytes somewhere in the second half."""
    at = int(generator.integers(len(data) // 2, max(len(data) - 64, len(data) // 2 + 1)))
    return data[:at] + generator.bytes(64) + data[at + 64 :]


DAMAGES: dict[str, Damage] = {
    "cut at 10 %": lambda data, _: data[: len(data) // 10],
    "cut at 50 %": lambda data, _: data[: len(data) // 2],
    "cut at 90 %": lambda data, _: data[: len(data) * 9 // 10],
    "last 100 bytes missing": lambda data, _: data[:-100],
    "no bytes": lambda _data, _: b"",
    "an HTML page": lambda _data, _: b"<!doctype html><title>404 Not Found</title>",
    "first 100 bytes zero": lambda data, _: bytes(100) + data[100:],
    "64 bytes overwritten": overwritten,
}


def scaled(share: float) -> Callable[[Image.Image], Image.Image]:
    """Exposed for ``share`` of the time."""
    return lambda picture: picture.point(lambda value: round(share * value))


def washed_out(share: float) -> Callable[[Image.Image], Image.Image]:
    """Mixed with white, of which ``share`` is the picture."""
    return lambda picture: Image.blend(Image.new("RGB", picture.size, "white"), picture, share)


def blurred(share: float) -> Callable[[Image.Image], Image.Image]:
    """Out of focus: a Gaussian whose radius is ``share`` of the shorter side."""
    return lambda picture: picture.filter(ImageFilter.GaussianBlur(share * min(picture.size)))


def corner(share: float) -> Callable[[Image.Image], Image.Image]:
    """One colour, but for a square of ``share`` of the picture."""

    def change(picture: Image.Image) -> Image.Image:
        made = Image.new("RGB", picture.size, (128, 128, 128))
        side = max(1, round((share * picture.width * picture.height) ** 0.5))
        made.paste(picture.resize((side, side)), (0, 0))
        return made

    return change


CHANGES: dict[str, dict[str, Callable[[Image.Image], Image.Image]]] = {
    "too_dark": {f"{share:.0%} of the light": scaled(share) for share in (0.5, 0.25, 0.15, 0.05)},
    "too_bright": {
        f"{share:.0%} picture, the rest white": washed_out(share) for share in (0.5, 0.1, 0.05, 0.02)
    },
    "blurred": {
        f"blur of {share:.1%} of the side": blurred(share) for share in (0.002, 0.005, 0.01, 0.02, 0.05)
    },
    "low_information": {
        f"one colour but for {share:.1%}": corner(share) for share in (0.1, 0.02, 0.01, 0.002)
    },
}
"""Check -> what is done to a picture, ever more of it."""


def shares(pictures: list[bytes]) -> dict[str, float]:
    """Check -> share of the pictures that do not pass it, with the default thresholds."""
    facts = [scan_image(data, SETTINGS) for data in pictures]
    schema = {"label": pl.String(), **{name: IMAGES[name] for name in MEASURES}}
    rows = pl.LazyFrame([{name: row.get(name) for name in schema} for row in facts], schema=schema)
    judged = with_shared_pixels(rows, {})
    found = judged.select(check.applies.mean().alias(check.name) for check in image_checks(SETTINGS))
    return found.collect().to_dicts()[0]


def changed_pictures(name: str, originals: list[bytes]) -> list[str]:
    """The lines of one folder: how many real pictures, and how many changed ones, each check finds."""
    whole = shares(originals)
    lines = ["", f"### {name}", "", "| check | pictures | found |", "|---|---|---:|"]
    opened = []
    for data in originals:
        with Image.open(io.BytesIO(data)) as picture:
            opened.append(on_page(picture.convert("RGBA")))
    for check, changes in CHANGES.items():
        lines.append(f"| `{check}` | as they are | {whole[check]:.3f} |")
        for change, make in changes.items():
            made = []
            for picture in opened:
                buffer = io.BytesIO()
                make(picture).save(buffer, "JPEG", quality=92)
                made.append(buffer.getvalue())
            lines.append(f"| `{check}` | {change} | {shares(made)[check]:.3f} |")
    return lines


def is_blank(facts: dict[str, object]) -> bool:
    """The rule of the cleaning stage."""
    return facts.get("problem") is None and float(str(facts["contrast"])) < SETTINGS.min_contrast


def blank_pictures(generator: np.random.Generator) -> dict[str, list[bytes]]:
    """Pictures that show nothing, with more and more noise of a sensor or an encoder."""
    made: dict[str, list[bytes]] = {}
    for noise in (0.0, 0.5, 1.0, 2.0, 4.0):
        pictures = []
        for _ in range(100):
            colour = generator.integers(0, 256, 3)
            pixels = colour + generator.normal(0, noise, (200, 200, 3))
            buffer = io.BytesIO()
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
            pictures.append(buffer.getvalue())
        made[f"one colour, noise of {noise:g} grey levels"] = pictures
    return made


def page(folders: list[Path]) -> str:
    """The page: one section a folder, then blank pictures and the threshold's curve."""
    lines = [
        "# Image checks, measured",
        "",
        "Written by `benchmarks/quality_images.py --write`. Damaged copies of real pictures are the positives, the pictures",
        "themselves the negatives. A damage counts as found when the picture is given a problem.",
        "",
    ]
    contrasts: dict[str, np.ndarray] = {}
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"})[:LIMIT]
        generator = np.random.default_rng(0)
        whole = [scan_image(path.read_bytes(), SETTINGS) for path in files]
        name = next(part for part in reversed(folder.parts) if part not in {"images", "source"})
        contrasts[name] = np.array([facts["contrast"] for facts in whole if facts.get("problem") is None])
        false = sum(facts.get("problem") is not None for facts in whole)
        lines += [
            f"## {name}",
            "",
            f"{len(files)} pictures; of the undamaged ones {false} are given a problem.",
            "",
            "| damage | found |",
            "|---|---:|",
        ]
        for damage, change in DAMAGES.items():
            found = sum(
                scan_image(change(path.read_bytes(), generator), SETTINGS).get("problem") is not None
                for path in files
            )
            lines.append(f"| {damage} | {found / len(files):.3f} |")
        lines.append("")
    lines += [
        "Bytes overwritten inside a JPEG's compressed data mostly decode to wrong pixels without an error: a JPEG carries",
        "no checksum that would tell. A PNG carries one for every chunk.",
        "",
        "## Blank pictures",
        "",
        "Share that counts as blank at each `clean.images.min_contrast` (the default is "
        f"{SETTINGS.min_contrast:g}); real pictures should be 0, blank ones 1.",
        "",
    ]
    thresholds = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    lines.append("| pictures | " + " | ".join(f"{t:g}" for t in thresholds) + " |")
    lines.append("|---|" + "---:|" * len(thresholds))
    blank = {
        name: np.array([scan_image(data, SETTINGS)["contrast"] for data in pictures])
        for name, pictures in blank_pictures(np.random.default_rng(0)).items()
    }
    for name, values in {**{f"{n} (real)": v for n, v in contrasts.items()}, **blank}.items():
        lines.append(f"| {name} | " + " | ".join(f"{(values < t).mean():.3f}" for t in thresholds) + " |")
    lines += [
        "",
        "## Checks that report",
        "",
        "Share that each check finds with its default threshold. Real pictures should be 0; of the changed ones, saved as",
        "JPEG, the more the stronger the change. Slight changes are meant to pass.",
    ]
    for folder in folders:
        files = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"})[:LIMIT]
        name = next(part for part in reversed(folder.parts) if part not in {"images", "source"})
        lines += changed_pictures(name, [path.read_bytes() for path in files])
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folders = [folder for folder in (arguments.folders or FOLDERS) if folder.is_dir()]
    if not folders:
        raise SystemExit("no pictures found: run 'make demo-data', or name a folder")
    text = page(folders)
    if arguments.write:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
