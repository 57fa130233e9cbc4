"""A whole dataset in miniature, for tests that go through the command line or through Dagster.

40 pictures of 3 classes with captions in two languages, no two of them alike: a test makes the one fault it is
about. Personal data, CLIP baselines and the notebook are off, so that a build takes seconds.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dataset_pipeline_tests.pictures import encoded, picture

ITEMS = 40
LABELS = ("boot", "hat", "shirt")
HEADER = ("id", "file", "caption", "kind", "lang", "owner")

_THINGS = {
    "en": {"boot": "pair of boots", "hat": "hat", "shirt": "shirt"},
    "de": {"boot": "Paar Stiefel", "hat": "Hut", "shirt": "Hemd"},
}
_COLOURS = {
    "en": ("red", "blue", "green", "yellow", "black", "white", "brown"),
    "de": ("rotes", "blaues", "grünes", "gelbes", "schwarzes", "weißes", "braunes"),
}


def rows() -> list[dict[str, str]]:
    """The manifest; no caption occurs twice, and two items share an owner."""
    made = []
    for number in range(ITEMS):
        language, label = ("en", "de")[number % 2], LABELS[number % 3]
        colour = _COLOURS[language][number % 7]
        caption = (
            f"A {colour} {_THINGS[language][label]} that was sold in shop number {number} last week"
            if language == "en"
            else f"Ein {colour} {_THINGS[language][label]}, letzte Woche in Laden Nummer {number} verkauft"
        )
        made.append(
            dict(
                zip(
                    HEADER,
                    (
                        f"item-{number:02}",
                        f"{number:02}.png",
                        caption,
                        label,
                        language,
                        f"owner-{number // 2}",
                    ),
                    strict=True,
                )
            )
        )
    return made


def write_manifest(path: Path, items: list[dict[str, str]]) -> None:
    """``items`` as csv at ``path``; columns beyond ``HEADER`` come last."""
    columns = list(dict.fromkeys([*HEADER, *(items[0] if items else ())]))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(items)


def write_dataset(folder: Path, **changes: Any) -> Path:
    """Write pictures, ``items.csv`` and ``dataset.yaml`` into ``folder``; returns the path of the last.

    ``changes`` are merged into the configuration, section by section; ``source={...}`` is merged into its only
    source. A value of None removes a key.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for number in range(ITEMS):
        (images / f"{number:02}.png").write_bytes(encoded(picture(number)))
    write_manifest(folder / "items.csv", rows())
    source = {
        "id": "shop",
        "path": "items.csv",
        "image_root": "images",
        "licence": "CC0-1.0",
        "permission": {"basis": "own-data"},
        "columns": {
            "item_id": "id",
            "image": "file",
            "texts": {"caption": "caption"},
            "label": "kind",
            "label_source": "human",
            "language": "lang",
            "group_keys": ["owner"],
        },
    }
    config = {
        "name": "small",
        "version": "1.0.0",
        "title": "A small dataset",
        "licence": "CC0-1.0",
        "date": "2026-11-01",
        "creators": [{"name": "Ada Example"}],
        "sources": [_merged(source, changes.pop("source", {}))],
        "split": {"ratios": {"train": 0.6, "validation": 0.2, "test": 0.2}},
        "clean": {
            "images": {"actions": {"blurred": "off"}}
        },  # the pictures are smooth, so that copies look alike
        "pii": {"enabled": False},
        "baselines": {"enabled": False},
        "release": {"notebook": False},
        "publish": {"shelf": {"kind": "folder", "path": "shelf"}},
    }
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(_merged(config, changes), sort_keys=False), encoding="utf-8")
    return path


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result
