"""The Croissant document, and the lint of what the reference validator lets pass."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dataset_pipeline import tables
from dataset_pipeline.adapters.archive import ReleasedFile
from dataset_pipeline.stages.croissant import (
    REQUIRED,
    RESPONSIBLE_AI,
    Activity,
    checksums,
    croissant,
    faults,
    lint,
)
from dataset_pipeline_tests.toy_release import toy_config

COLUMNS = {
    "image": "image",
    "item_id": "string",
    "label": "string",
    "split": "string",
    "fold": "int64",
    "name": "string",
}
TRAIN, REMOVED, PAIRS = (
    "data/train-00000-of-00001.parquet",
    "metadata/removed.parquet",
    "metadata/duplicate_pairs.parquet",
)
FILES = [
    ReleasedFile(path, str(number) * 64, 10 + number)
    for number, path in enumerate([REMOVED, TRAIN, PAIRS, "README.md", "provenance.json", "SHA256SUMS"])
]
ACTIVITIES = [
    Activity("raw_texts", "Manifests, row for row.", "c0de", ()),
    Activity("cleaned_items", "Cleaned.", "c0df", ("raw_texts",)),
]
ROWS = {"train": 3}


def document(**changes: object) -> dict[str, Any]:
    return croissant(toy_config(**changes), COLUMNS, ROWS, FILES, ACTIVITIES, "dataset_pipeline 1.0")


def faults_of(found: Mapping[str, Any], **schemas: Mapping[str, str]) -> list[str]:
    given = {
        TRAIN: COLUMNS,
        REMOVED: dict.fromkeys(tables.REMOVED, "string"),
        PAIRS: {**dict.fromkeys(tables.PAIRS, "string"), "score": "double"},
    }
    return faults(found, {file.path: file.size_bytes for file in FILES}, {**given, **schemas}, ROWS)


def test_a_complete_config_gives_a_complete_document() -> None:
    assert lint(document()) == []
    assert faults_of(document()) == []


@pytest.mark.parametrize(
    ("field", "key", "value"),
    [("url", "url", None), ("creator", "creators", []), ("datePublished", "date", None)],
)
def test_a_required_field_that_the_config_leaves_open_is_named_with_its_key(
    field: str, key: str, value: object
) -> None:
    assert lint(document(**{key: value})) == [
        f"croissant.json: '{field}' is required, but missing; set '{key}' in dataset.yaml"
    ]
    assert faults_of(document(**{key: value})) == []  # to leave it open is no lie


@pytest.mark.parametrize("field", REQUIRED)
def test_each_required_field_is_missed(field: str) -> None:
    found = document()
    del found[field]
    problems = lint(found) + faults_of(found)
    assert any(f"'{field}' is required, but missing" in problem for problem in problems)


@pytest.mark.parametrize("field", [name for name in RESPONSIBLE_AI if name.startswith("rai:")])
def test_each_responsible_ai_field_is_missed(field: str) -> None:
    found = document()
    del found[field]
    assert lint(found) == [
        f"croissant.json: '{field}' is missing; set '{RESPONSIBLE_AI[field]}' in dataset.yaml"
    ]


def test_a_source_without_an_address_and_a_collection_that_nobody_described() -> None:
    source = toy_config().sources[0].model_dump(mode="json") | {"url": None}
    found = document(
        sources=[source], documentation=toy_config().documentation.model_dump() | {"collection": None}
    )
    assert lint(found) == [
        "croissant.json: 'prov:wasDerivedFrom' has no address of noise; set 'sources.url' in dataset.yaml",
        "croissant.json: 'prov:wasGeneratedBy' does not say how the sources were made; "
        "set 'documentation.collection' in dataset.yaml",
    ]


def test_provenance_leads_from_the_release_to_the_sources() -> None:
    found = document()
    [source] = found["prov:wasDerivedFrom"]
    assert (source["prov:label"], source["url"]) == ("noise", "https://example.org/noise")
    assert source["license"] == ["https://creativecommons.org/licenses/by-sa/4.0/legalcode"]
    collection, raw, cleaned = found["prov:wasGeneratedBy"]
    assert collection["description"] == "Said by the author."
    assert raw["prov:used"] == [{"@id": source["@id"]}]
    assert cleaned["prov:wasInformedBy"] == [{"@id": raw["@id"]}]
    agent = cleaned["prov:wasAssociatedWith"]
    assert (agent["prov:label"], agent["version"]) == ("dataset_pipeline 1.0", "c0df")


def entry(found: dict[str, Any], identifier: str) -> dict[str, Any]:
    return next(entry for entry in found["distribution"] if entry["@id"] == identifier)


def field(found: dict[str, Any], identifier: str) -> dict[str, Any]:
    return next(f for table in found["recordSet"] for f in table["field"] if f["@id"] == identifier)


def first(found: dict[str, Any], key: str) -> dict[str, Any]:
    return found[key][0]


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no licence": (lambda d: d.pop("license"), "'license' is required, but missing"),
    "a licence that is no address": (lambda d: d.update(license="free for all"), "license is 'free for all', expected an address"),
    "an address that is none": (lambda d: d.update(url="our shelf"), "url is 'our shelf', expected an address"),
    "a date that is none": (lambda d: d.update(datePublished="May 2026"), "datePublished is 'May 2026', expected YYYY-MM-DD"),
    "a creator without a name": (lambda d: first(d, "creator").pop("name"), "a creator has no name"),
    "another specification": (lambda d: d.update(conformsTo="http://mlcommons.org/croissant/1.0"), "conformsTo does not name"),
    "no checksum": (lambda d: entry(d, TRAIN).pop("sha256"), f"file '{TRAIN}' has no SHA-256"),
    "a checksum of another kind": (lambda d: entry(d, TRAIN).update(sha256="d41d8cd98f00b204e9800998ecf8427e"), f"file '{TRAIN}' has no SHA-256"),
    "a wrong size": (lambda d: entry(d, TRAIN).update(contentSize="12 B"), f"file '{TRAIN}': contentSize is '12 B', it has 11 bytes"),
    "no address of a file": (lambda d: entry(d, "README.md").pop("contentUrl"), "file 'README.md' has no contentUrl"),
    "a wrong format": (lambda d: entry(d, TRAIN).update(encodingFormat="text/csv"), f"file '{TRAIN}': encodingFormat is 'text/csv', expected application/x-parquet"),
    "a file set of nothing": (lambda d: entry(d, "shards").update(includes="shards/*.parquet"), "file set 'shards': no file of the release matches 'shards/*.parquet'"),
    "an entry of another type": (lambda d: entry(d, "README.md").update({"@type": "sc:DataDownload"}), "distribution 'README.md' is a 'sc:DataDownload'"),
    "an identifier twice": (lambda d: d["distribution"].append(dict(entry(d, "README.md"))), "the identifier 'README.md' is given twice"),
    "a reference to no file": (lambda d: field(d, "removed/reason")["source"].update(fileObject={"@id": "gone.parquet"}), "'gone.parquet' is referred to and not there"),
    "a reference to no field": (lambda d: first(d, "recordSet").update(key={"@id": "splits/nobody"}), "'splits/nobody' is referred to and not there"),
    "a reference to no source": (lambda d: d["prov:wasGeneratedBy"][1].update({"prov:used": [{"@id": "source/x"}]}), "'source/x' is referred to and not there"),
    "a column that is not there": (lambda d: field(d, "items/name")["source"].update(extract={"column": "nom"}), f"field 'items/name': {TRAIN} has no column 'nom'"),
    "a number as a text": (lambda d: field(d, "items/fold").update(dataType="sc:Text"), f"field 'items/fold' is ['sc:Text'], expected sc:Integer: column 'fold' of {TRAIN} is int64"),
    "a text as a picture": (lambda d: field(d, "items/name").update(dataType="sc:ImageObject"), "field 'items/name' is ['sc:ImageObject'], expected sc:Text"),
    "a score as a text": (lambda d: field(d, "duplicate_pairs/score").update(dataType="sc:Text"), "field 'duplicate_pairs/score' is ['sc:Text'], expected sc:Float"),
    "a column that nobody describes": (lambda d: d["recordSet"][1]["field"].remove(field(d, "items/name")), f"no field describes column 'name' of {TRAIN}"),
    "a wrong number of items": (lambda d: first(d, "recordSet")["data"][0].update({"splits/items": 4}), "splits are {'train': 4}, the tables give {'train': 3}"),
    "no splits": (lambda d: d["recordSet"].pop(0), "no record set describes the splits"),
    "no source": (lambda d: d.pop("prov:wasDerivedFrom"), "'prov:wasDerivedFrom' names no source"),
    "a source without a licence": (lambda d: first(d, "prov:wasDerivedFrom").pop("license"), "source 'noise' has no licence"),
    "an activity of no code": (lambda d: d["prov:wasGeneratedBy"][1].pop("prov:wasAssociatedWith"), "activity 'raw_texts' does not say which code did it"),
}  # fmt: skip
"""A fault -> how to plant it, and the beginning of the line that names it. The reference validator passes most."""


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_named(name: str) -> None:
    plant, expected = FAULTS[name]
    found = document()
    plant(found)
    assert any(line.startswith(expected) for line in faults_of(found)), faults_of(found)


def test_a_file_set_includes_no_folders_below() -> None:
    found = document()
    entry(found, "shards")["includes"] = "*.parquet"
    assert "file set 'shards': no file of the release matches '*.parquet'" in faults_of(found)


def test_not_synthetic_is_an_answer() -> None:
    assert document()["rai:hasSyntheticData"] is False


def test_files_that_may_differ_between_builds_are_not_described() -> None:
    assert checksums(document()) == {
        "README.md": "3" * 64,
        TRAIN: "1" * 64,
        PAIRS: "2" * 64,
        REMOVED: "0" * 64,
    }


def test_order_of_files_does_not_show() -> None:
    changed = croissant(toy_config(), COLUMNS, ROWS, FILES[::-1], ACTIVITIES, "dataset_pipeline 1.0")
    assert changed == document()
