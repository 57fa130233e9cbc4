"""What the image checks find and miss: the tables of docs/quality/images.md.

    python benchmarks/quality_images.py [FOLDER ...] [--write]

Real pictures are damaged in known ways (cut short, overwritten, emptied, replaced by text) and scanned as the
pipeline scans them; blank pictures are made with known noise; dark, bright, blurred and flattened copies, copies of odd
sizes, moving pictures and placeholders are judged by the checks with their default thresholds. The undamaged pictures are
the negatives. cleanvision is given the same files, where it is installed (`make peers`). Without folders: the emoji
pictures and, where they are, the clothing photos. ``--write`` writes the page instead of printing it.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers
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


Facts = dict[str, Any]


def judged(facts: Sequence[Facts]) -> pl.DataFrame:
    """One column a check: whether each picture of a dataset does not pass it, with the default thresholds.

    ``facts`` are of the scan, and may have a ``label`` and a ``text``.
    """
    schema = {
        "label": pl.String(),
        "text": pl.String(),
        "language": pl.String(),
        **{name: IMAGES[name] for name in MEASURES},
    }
    rows = pl.LazyFrame([{name: row.get(name) for name in schema} for row in facts], schema=schema)
    together = with_shared_pixels(rows.with_row_index("//row"), {"text": "language"}).sort("//row")
    return together.select(check.applies.alias(check.name) for check in image_checks(SETTINGS)).collect()


def shares(pictures: list[bytes]) -> dict[str, float]:
    """Check -> share of the pictures that do not pass it."""
    found = judged([scan_image(data, SETTINGS) for data in pictures])
    return {name: float(found[name].mean()) for name in found.columns}


def saved(pictures: list[Image.Image], kind: str, **options: int) -> bytes:
    """One file of all of them."""
    buffer = io.BytesIO()
    if len(pictures) > 1:
        pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], **options)
    else:
        pictures[0].save(buffer, kind, **options)
    return buffer.getvalue()


def pictures_of(folder: Path) -> tuple[str, list[bytes]]:
    """Name of a folder's dataset, and the files of its first LIMIT pictures."""
    files = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"})[:LIMIT]
    name = next(part for part in reversed(folder.parts) if part not in {"images", "source"})
    return name, [path.read_bytes() for path in files]


def laid_on_page(data: bytes) -> Image.Image:
    """A picture, without transparency."""
    with Image.open(io.BytesIO(data)) as picture:
        return on_page(picture.convert("RGBA"))


def changed_pictures(name: str, originals: list[bytes]) -> list[str]:
    """The lines of one folder: how many real pictures, and how many changed ones, each check finds."""
    whole = shares(originals)
    lines = ["", f"### {name}", "", "| check | pictures | found |", "|---|---|---:|"]
    opened = [laid_on_page(data) for data in originals]
    for check, changes in CHANGES.items():
        lines.append(f"| `{check}` | as they are | {whole[check]:.3f} |")
        for change, make in changes.items():
            made = [saved([make(picture)], "JPEG", quality=92) for picture in opened]
            lines.append(f"| `{check}` | {change} | {shares(made)[check]:.3f} |")
    return lines


# -- checks that compare a picture with others, and moving pictures -------------------------


def odd_sizes(originals: list[Facts]) -> list[str]:
    """Rows of a table: one picture in twenty is of another size than it was."""
    rows = []
    generator = np.random.default_rng(0)
    changed = generator.choice(len(originals), len(originals) // 20, replace=False)
    for factor in (0.1, 1 / 6, 0.25, 0.5, 2, 4, 6, 10):
        facts = [dict(one) for one in originals]
        for row in changed:
            for side in ("width_px", "height_px"):
                facts[row][side] = max(1, round(facts[row][side] * factor))
            facts[row]["pixel_hash"] = f"{row}"
        found = judged(facts)["odd_size"].to_numpy()
        others = np.delete(found, changed)
        rows.append(
            f"| 5 % of the pictures {factor:.2g} times as large | {found[changed].mean():.3f} | {others.mean():.3f} |"
        )
    for factor in (0.25, 1 / 6):
        facts = [dict(one) for one in originals]
        for row in range(0, len(facts), 3):
            for side in ("width_px", "height_px"):
                facts[row][side] = max(1, round(facts[row][side] * factor))
            facts[row]["pixel_hash"] = f"{row}"
        found = judged(facts)["odd_size"].to_numpy()
        rows.append(
            f"| every third picture {factor:.2g} times as large | {found[::3].mean():.3f} | {np.delete(found, np.s_[::3]).mean():.3f} |"
        )
    return rows


def moving_pictures(opened: list[Image.Image]) -> list[str]:
    """Rows of a table: files with several pictures in them, and files with one."""
    rows = []
    small = [picture.resize((64, 64)) for picture in opened[:60]]
    for kind, what in (
        ("GIF", "a GIF"),
        ("WEBP", "a WebP"),
        ("PNG", "a PNG"),
        ("TIFF", "a TIFF (pages)"),
        ("MPO", "a JPEG (MPO: previews, depth maps, other views)"),
    ):
        for count in (1, 2, 5):
            files = [saved(small[row : row + count], kind) for row in range(0, len(small), count)]
            found = shares(files)["animated"]
            rows.append(f"| {what} | {count} | {found:.3f} |")
    return rows


def placeholders(originals: list[Facts], labels: list[str]) -> list[str]:
    """Rows of a table: one picture is shown for several items of a dataset of other pictures."""
    rows = []
    generator = np.random.default_rng(0)
    originals = originals[:100]
    rounds = 20
    for count in (2, 3, 5, 10, 30):
        found = {"labels and texts": 0, "texts": 0, "labels": 0, "one label, other texts": 0, "neither": 0}
        wrong = 0
        for _ in range(rounds):
            drawn = [labels[row] for row in generator.integers(0, len(labels), count)]
            blank = {**originals[0], "pixel_hash": "placeholder"}
            texts = [f"text {row}" for row in range(count)]
            given = {
                "labels and texts": [(label, text) for label, text in zip(drawn, texts, strict=True)],
                "texts": [(None, text) for text in texts],
                "labels": [(label, None) for label in drawn],
                "one label, other texts": [(drawn[0], text) for text in texts],
                "neither": [(None, None)] * count,
            }
            for what, pairs in given.items():
                shown = [{**blank, "label": label, "text": text, "language": "en"} for label, text in pairs]
                others = [
                    {**one, "label": labels[row % len(labels)], "text": f"other {row}", "language": "en"}
                    for row, one in enumerate(originals[1:])
                ]
                verdict = judged([*shown, *others])["placeholder"].to_numpy()
                found[what] += int(verdict[:count].all())
                wrong += int(verdict[count:].sum())
        shares_found = " | ".join(f"{value / rounds:.2f}" for value in found.values())
        rows.append(
            f"| {count} | {shares_found} | {wrong / (rounds * len(found) * (len(originals) - 1)):.3f} |"
        )
    return rows


def labels_of(folder: Path) -> list[str]:
    """Labels of the items that the pictures of a folder belong to, as often as they occur."""
    for name, column in (("images.csv", "label"), ("items.csv", "category")):
        if (folder.parent / name).is_file():
            return pl.read_csv(folder.parent / name, infer_schema=False)[column].drop_nulls().to_list()
    return []


# -- beside cleanvision ---------------------------------------------------------------------


def strip(ratio: int) -> Callable[[Image.Image], Image.Image]:
    """So many times as wide as high."""
    return lambda picture: picture.resize((ratio * 64, 64))


def as_one_of(factor: float) -> Callable[[Image.Image], Image.Image]:
    """Another size."""
    return lambda picture: picture.resize([max(8, round(side * factor)) for side in picture.size])


THEIR_CHECKS = {
    "dark": "too_dark",
    "light": "too_bright",
    "blurry": "blurred",
    "low_information": "low_information",
    "odd_aspect_ratio": "extreme_aspect",
    "odd_size": "odd_size",
}
"""Issue of cleanvision -> check of this pipeline."""

SHAPES: dict[str, dict[str, Callable[[Image.Image], Image.Image]]] = {
    "extreme_aspect": {f"squeezed to {ratio} : 1": strip(ratio) for ratio in (3, 6, 10, 20)},
    "odd_size": {f"{factor:.2g} times as large": as_one_of(factor) for factor in (0.1, 0.25, 4, 6)},
}
COPIES = 20  # of each change


def beside_cleanvision(name: str, opened: list[Image.Image]) -> list[str]:
    """Lines of one folder: changed copies, and the pictures as they are, judged by both."""
    files = {
        ("", "as they are", row): saved([picture], "JPEG", quality=92) for row, picture in enumerate(opened)
    }
    for check in THEIR_CHECKS.values():
        for change, make in (CHANGES | SHAPES)[check].items():
            for _ in range(COPIES):
                picture = opened[7 * len(files) % len(opened)]
                files[check, change, len(files)] = saved([make(picture)], "JPEG", quality=92)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(files.values()):
            (Path(folder) / f"{number:05}.jpg").write_bytes(data)
        said = peers.call("cleanvision", folder=folder)["issues"]
    ours = judged([scan_image(data, SETTINGS) for data in files.values()])
    lines = [
        "",
        f"### {name}",
        "",
        "| check | cleanvision | pictures | this pipeline | cleanvision | this pipeline alone | cleanvision alone |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for issue, check in THEIR_CHECKS.items():
        here = ours[check].to_numpy()
        there = np.array([issue in said[f"{number:05}.jpg"] for number in range(len(files))])
        for change in ("as they are", *(CHANGES | SHAPES)[check]):
            these = np.array([of in {"", check} and what == change for of, what, _ in files])
            alone = (here & ~there)[these].sum(), (there & ~here)[these].sum()
            lines.append(
                f"| `{check}` | `{issue}` | {change} | {here[these].mean():.3f} | {there[these].mean():.3f} "
                f"| {alone[0]} | {alone[1]} |"
            )
    return lines


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
        name, pictures = pictures_of(folder)
        generator = np.random.default_rng(0)
        whole = [scan_image(data, SETTINGS) for data in pictures]
        contrasts[name] = np.array([facts["contrast"] for facts in whole if facts.get("problem") is None])
        false = sum(facts.get("problem") is not None for facts in whole)
        lines += [
            f"## {name}",
            "",
            f"{len(pictures)} pictures; of the undamaged ones {false} are given a problem.",
            "",
            "| damage | found |",
            "|---|---:|",
        ]
        for damage, change in DAMAGES.items():
            found = sum(
                scan_image(change(data, generator), SETTINGS).get("problem") is not None for data in pictures
            )
            lines.append(f"| {damage} | {found / len(pictures):.3f} |")
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
        lines += changed_pictures(*pictures_of(folder))
    lines += more_checks(folders)
    return "\n".join(lines) + "\n"


def more_checks(folders: list[Path]) -> list[str]:
    """Sections on the checks that compare pictures, on moving pictures, and on cleanvision."""
    read, labels = dict[str, list[bytes]](), dict[str, list[str]]()
    for folder in folders:
        name, pictures = pictures_of(folder)
        read[name], labels[name] = pictures, labels_of(folder)
    facts = {name: [scan_image(data, SETTINGS) for data in pictures] for name, pictures in read.items()}
    opened = {name: [laid_on_page(data) for data in pictures] for name, pictures in read.items()}
    lines = [
        "",
        "## Odd sizes",
        "",
        "Found: of the pictures whose size was changed; of the others: of those that were left as they are. The median",
        "stands for a dataset as long as fewer than half of its pictures are of another size.",
    ]
    for name, rows in facts.items():
        lines += [
            "",
            f"### {name}",
            "",
            "| dataset | found | of the others |",
            "|---|---:|---:|",
            *odd_sizes(rows),
        ]
    lines += [
        "",
        "## Moving pictures",
        "",
        "Share of files that `animated` finds, by format and number of pictures in the file:",
        "",
        "| file | pictures | found |",
        "|---|---:|---:|",
        *moving_pictures(next(iter(opened.values()))),
        "",
        "## Placeholders",
        "",
        "One picture is shown for so many items of a dataset of other pictures. Share of 20 datasets in which `placeholder`",
        "finds all of these items, by what the items have. Labels are drawn as they occur among the items; the texts of items",
        "differ. A placeholder with one label or without labels is told from a picture of several variants by its many texts only.",
    ]
    for name, rows in facts.items():
        if labels[name]:
            lines += [
                "",
                f"### {name}",
                "",
                "| items | labels and texts | texts | labels | one label, other texts | neither | of the other items |",
                "|---:|---:|---:|---:|---:|---:|---:|",
                *placeholders(rows, labels[name]),
            ]
    lines += ["", "## Beside cleanvision", ""]
    if not peers.installed():
        return [*lines, f"cleanvision is {peers.NOT_INSTALLED}."]
    lines += [
        f"The same files, all default settings ({peers.named('cleanvision')}). Share that each finds: of the",
        f"pictures as they are, and of {COPIES} copies of each change; the last two columns count the pictures that only one of the",
        "two finds. What cleanvision calls grayscale is no check here; its duplicates are measured in [peers.md](peers.md).",
    ]
    for name, pictures in opened.items():
        lines += beside_cleanvision(name, pictures)
    return [*lines, "", *EXPLAINED]


EXPLAINED = (
    "What the two disagree on, from looking at the pictures: the photos that cleanvision alone calls blurry are of dim light, sharp or",
    "nearly so (a cap on a floor, boots on a mat): its measure is the strength of edges in a picture of 64 pixels, which falls with",
    "contrast, and a blur that 64 pixels do not show is missed; `fine_detail` compares a picture with itself at half the scale.",
    "Its odd sizes are counted in interquartile ranges of the square root of the area: where most photos have the same area,",
    "that range is next to nothing and every other format of a camera is odd. Its limits of darkness, information and shape",
    "are stricter: it also reports what a person still recognises. Here they are settings, under `clean.images`.",
)
"""What the disagreements are, from looking at the pictures."""


def main() -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    folders = [folder for folder in (arguments.folders or FOLDERS) if folder.is_dir()]
    if not folders:
        raise SystemExit("no pictures found: run 'make demo-data', or name a folder")
    if arguments.write and not peers.installed():
        raise SystemExit(f"cleanvision is {peers.NOT_INSTALLED}")
    text = page(folders)
    if arguments.write:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
