"""The release as a research object: what a reader of RO-Crate finds, and faults that nobody else would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate

from dataset_pipeline.adapters.archive import ReleasedFile
from dataset_pipeline.stages.ro_crate import faults, lint, ro_crate
from dataset_pipeline_tests.toy_release import toy, toy_config

FILES = [
    ReleasedFile(path, str(n) * 64, 10 + n)
    for n, path in enumerate(["data/a.parquet", "README.md", "provenance.json"])
]
SIZES = {file.path: file.size_bytes for file in FILES}
SUMS = {file.path: file.sha256 for file in FILES}
PEOPLE = [
    {"name": "Ada Example", "orcid": "0000-0002-1825-0097", "affiliation": "Example Ltd"},
    {"name": "The toy makers"},
]


def document(**changes: Any) -> dict[str, Any]:
    return ro_crate(toy_config(**{"creators": PEOPLE, **changes}), FILES, "dataset_pipeline 1.0")


def entity(found: dict[str, Any], identifier: str) -> dict[str, Any]:
    return next(entity for entity in found["@graph"] if entity["@id"] == identifier)


def test_a_good_one() -> None:
    found = document(doi="10.5281/zenodo.7")
    assert list(faults(found, SIZES, SUMS)) == []
    assert lint(found) == []
    root = entity(found, "./")
    assert root["identifier"] == "https://doi.org/10.5281/zenodo.7"
    assert root["hasPart"] == [{"@id": "README.md"}, {"@id": "data/a.parquet"}]
    assert [author["@id"] for author in root["author"]] == [
        "https://orcid.org/0000-0002-1825-0097",
        "#creator-2",
    ]
    assert entity(found, "#build")["object"] == {"@id": "#source-noise"}
    assert document(doi="10.5281/zenodo.7") == found


def test_what_the_author_left_open() -> None:
    found = document(date=None, description=None)
    assert lint(found) == [
        "ro-crate-metadata.json: 'datePublished' is required, but missing; set 'date' in dataset.yaml"
    ]
    assert entity(found, "./")["description"] == "Toy pictures"
    assert list(faults(found, SIZES, SUMS)) == []


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no root": (lambda d: d["@graph"].remove(entity(d, "./")), "has no root dataset './'"),
    "no licence": (lambda d: entity(d, "./").pop("license"), "the root dataset has no license"),
    "another specification": (lambda d: entity(d, "ro-crate-metadata.json").update(conformsTo={"@id": "x"}), "does not conform to"),
    "twice": (lambda d: d["@graph"].append(dict(entity(d, "README.md"))), "an identifier is given twice"),
    "a file that is not there": (lambda d: entity(d, "./")["hasPart"].append({"@id": "gone"}), "names 'gone', which is not there"),
    "a file that is not named": (lambda d: entity(d, "./")["hasPart"].pop(0), "does not name 'README.md'"),
    "a wrong checksum": (lambda d: entity(d, "README.md").update(sha256="0" * 64), "'README.md' is not the file"),
    "a wrong size": (lambda d: entity(d, "README.md").update(contentSize="9"), "'README.md' is not the file"),
    "a creator that is not there": (lambda d: d["@graph"].remove(entity(d, "#creator-2")), "'#creator-2' is referred to and not there"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_named(name: str) -> None:
    plant, expected = FAULTS[name]
    found = document()
    plant(found)
    assert any(line.startswith(expected) for line in faults(found, SIZES, SUMS))


def test_its_library_reads_it(tmp_path: Path) -> None:
    toy(creators=PEOPLE).write(tmp_path / "release")
    crate = ROCrate(str(tmp_path / "release"))
    assert (crate.name, str(crate.datePublished)[:10]) == ("Toy pictures", "2026-01-02")
    assert [person["name"] for person in crate.root_dataset["author"]] == ["Ada Example", "The toy makers"]
    told = json.loads((tmp_path / "release" / "ro-crate-metadata.json").read_text())
    assert len(crate.data_entities) == len([e for e in told["@graph"] if e["@type"] == "File"])
