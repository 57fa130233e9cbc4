"""A small release for tests: pictures of noise, each named in several languages.

Belongs here: crafted tables and the calls that make a release of them. Noise, because no two noise
pictures are near-duplicates, so that a test that finds a leak has planted it.
"""

import contextlib
import hashlib
import io
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from dataset_pipeline.adapters import archive
from dataset_pipeline.adapters.store import to_json
from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages import croissant, datacite, diff, release, remade, ro_crate
from dataset_pipeline.tables import DECISIONS, PAIRS, REFERENCES, REMOVED, SPLIT_ITEMS, empty
from dataset_pipeline.verification import documents_code

LANGUAGES = ("de", "en", "zh-Hans")


@dataclass
class Toy:
    """Everything ``write_release`` takes; change an attribute, then write."""

    config: DatasetConfig
    items: pl.DataFrame
    images: pl.DataFrame
    pictures: dict[str, bytes]
    removed: pl.DataFrame = field(default_factory=lambda: empty(REMOVED))
    pairs: pl.DataFrame = field(default_factory=lambda: empty(PAIRS))
    parts: dict[str, Any] = field(default_factory=dict)
    older_changes: str = ""
    image_warnings: pl.DataFrame | None = None
    former_shards: pl.DataFrame | None = None
    reports: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, **write: Any) -> list[archive.ReleasedFile]:
        """Write the release, replacing what is in ``folder``."""
        shutil.rmtree(folder, ignore_errors=True)
        quality = release.quality_report(self.items.lazy(), self.removed.lazy(), self.pairs.lazy())
        reports = {
            "quality": quality,
            "leakage": {"cross_split_pairs": 0, "random_split_pairs": 7},
            "diff": diff.diff_report(self.config.version, None, None, self.items.height),
            **self.reports,
        }
        parts = {
            "reports": reports,
            "documents": lambda data: {
                **release.documents(
                    self.config, reports, data.columns, self.older_changes, shard_bytes=data.bytes
                ),
                "datacite.json": to_json(datacite.datacite(self.config, quality["counts"])),
            },
            "croissant": lambda data, files: croissant.croissant(
                self.config, data.columns, data.rows, files, ACTIVITIES, "dataset_pipeline 0"
            ),
            "ro_crate": lambda files: ro_crate.ro_crate(self.config, files, "dataset_pipeline 0"),
            "provenance": {
                "written_at": time.time(),
                "config_json": self.config.model_dump_json(),
                "measured_mib_per_s": {},
                "documents_code": documents_code(),
            },
            "report_html": remade.with_digest('<meta charset="utf-8"><title>report</title>', reports),
            "figures": {"classes.svg": b"<svg/>"},
            "result_tables": {"splits.csv": "split,items\n"},
            **self.parts,
        }
        tables = archive.ReleaseTables(
            *(
                t.lazy()
                for t in (self.items, self.images, self.removed, self.pairs, empty(REFERENCES), NO_DECISIONS)
            ),
            image_warnings=None if self.image_warnings is None else self.image_warnings.lazy(),
            former_shards=self.former_shards,
        )
        return archive.write_release(
            folder,
            self.config,
            tables,
            archive.ReleaseParts(**parts),
            write.get("read_image", self.pictures.__getitem__),
            write.get(
                "release_image", lambda data, _faces: [(data, ".png")] * len(self.config.release.images)
            ),
        )


ACTIVITIES = (
    croissant.Activity("raw_texts", "Manifests, row for row.", "c0de", ()),
    croissant.Activity("published_archive", "The release.", "c0df", ("raw_texts",)),
)
NO_DECISIONS = empty({**DECISIONS, "state": pl.String()})


def noise_png(seed: str, side: int = 40) -> bytes:
    """A picture of noise that is the same in every run."""
    target = io.BytesIO()
    pixels = hashlib.shake_256(seed.encode()).digest(side * side * 3)
    Image.frombytes("RGB", (side, side), pixels).save(target, "PNG")
    return target.getvalue()


def toy_config(**changes: Any) -> DatasetConfig:
    """A complete configuration: nothing that a description needs is missing."""
    notes = dict.fromkeys(
        ("collection", "uses", "limitations", "biases", "social_impact"), "Said by the author."
    )
    return DatasetConfig.model_validate(
        {
            "name": "toy",
            "version": "1.0.0",
            "title": "Toy pictures",
            "description": "Noise with names.",
            "licence": "CC-BY-SA-4.0",
            "date": "2026-01-02",
            "url": "https://example.org/toy",
            "creators": [{"name": "Ada Example", "affiliation": "Example Ltd"}],
            "sources": [
                {
                    "id": "noise",
                    "path": "items.csv",
                    "licence": "CC-BY-SA-4.0",
                    "url": "https://example.org/noise",
                    "columns": {"image": "picture", "label": "label", "texts": {"name": "name"}},
                }
            ],
            "documentation": {**notes, "personal_information": "None."},
            **changes,
        }
    )


def toy(pictures: int = 20, *, side: int = 40, **changes: Any) -> Toy:
    """``pictures`` pictures, each named in every language, split 3 : 1 : 1."""
    config = toy_config(**changes)
    stored = {f"at-{number}": noise_png(str(number), side) for number in range(pictures)}
    checksums = [hashlib.sha256(data).hexdigest() for data in stored.values()]
    images = pl.DataFrame(
        {
            "image_ref": [f"noise/{number}.png" for number in range(pictures)],
            "location": list(stored),
            "sha256": checksums,
        }
    )
    rows = [
        {
            "item_id": f"{number:04d}-{language}",
            "source": "noise",
            "image_ref": f"noise/{number}.png",
            "image_sha256": checksums[number],
            "label": f"class {number % 3}",
            "label_source": "annotator",
            "language": language,
            "licence": "CC-BY-SA-4.0",
            "author": None,
            "group_keys": [f"base={number}"],
            "published_split": None,
            "duplicate_group": f"{number:04d}-{language}",
            "leak_group": f"{number:04d}",
            "split": ("train", "train", "train", "validation", "test")[number % 5],
            "name": f"{language} {hashlib.sha256(f'{number}{language}'.encode()).hexdigest()}",
        }
        for number in range(pictures)
        for language in LANGUAGES
    ]
    items = pl.DataFrame(rows, schema={**SPLIT_ITEMS, "name": pl.String()})
    return Toy(config, items, images, stored)


def sign(folder: Path, *, with_page: bool = True) -> None:
    """Write what says checksums and sizes anew, as somebody who hides a change would.

    ``with_page``: also which reports the page says that it was made from.
    """
    page = folder / "reports" / "report.html"
    with contextlib.suppress(OSError, ValueError, RecursionError):
        reports = {path.stem: json.loads(path.read_text()) for path in page.parent.glob("*.json")}
        text = page.read_text()
        if with_page:
            page.write_text(text.replace(str(remade.told_digest(text)), remade.digest(reports)))
    descriptions = {archive.CROISSANT, archive.RO_CRATE}
    for name in sorted(descriptions):  # the second describes the first
        path = folder / name
        if not path.exists():
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        files = {file.path: file for file in archive.list_files(folder)}
        kept = []
        key = "distribution" if name == archive.CROISSANT else "@graph"
        for entry in document[key]:
            if "sha256" in entry:
                if entry["@id"] not in files:
                    continue
                file = files[entry["@id"]]
                unit = " B" if name == archive.CROISSANT else ""
                entry |= {"sha256": file.sha256, "contentSize": f"{file.size_bytes}{unit}"}
            kept.append(entry)
        document[key] = kept
        for root in (entry for entry in kept if entry["@id"] == "./"):
            root["hasPart"] = [{"@id": entry["@id"]} for entry in kept if "sha256" in entry]
        path.write_text(json.dumps(document), encoding="utf-8")
    (folder / "SHA256SUMS").write_text(archive.checksums(archive.list_files(folder)), encoding="utf-8")
