"""The Croissant document, and the lint of what the reference validator lets pass."""

import pytest

from dataset_pipeline.adapters.archive import ReleasedFile
from dataset_pipeline.stages.croissant import REQUIRED, RESPONSIBLE_AI, checksums, croissant, lint
from dataset_pipeline_tests.toy_release import toy_config

COLUMNS = {"image": "image", "item_id": "string", "name": "string"}
FILES = [
    ReleasedFile(path, str(number) * 64, 10)
    for number, path in enumerate(
        ["metadata/removed.parquet", "data/train-00000-of-00001.parquet", "provenance.json", "SHA256SUMS"]
    )
]


def document(**changes: object) -> dict[str, object]:
    return croissant(toy_config(**changes), COLUMNS, {"train": 3}, FILES)


def test_a_complete_config_gives_a_complete_document() -> None:
    assert lint(document()) == []


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


@pytest.mark.parametrize("field", REQUIRED)
def test_each_required_field_is_missed(field: str) -> None:
    found = document()
    del found[field]
    assert any(f"'{field}'" in problem or field in problem for problem in lint(found))


@pytest.mark.parametrize("field", [name for name in RESPONSIBLE_AI if name != "rai:hasSyntheticData"])
def test_each_responsible_ai_field_is_missed(field: str) -> None:
    found = document()
    del found[field]
    assert lint(found) == [
        f"croissant.json: '{field}' is missing; set '{RESPONSIBLE_AI[field]}' in dataset.yaml"
    ]


def test_not_synthetic_is_an_answer() -> None:
    assert document()["rai:hasSyntheticData"] is False


def test_a_file_without_a_checksum_is_missed() -> None:
    found = document()
    found["distribution"][0]["sha256"] = None
    assert lint(found) == ["croissant.json: file 'data/train-00000-of-00001.parquet' has no SHA-256"]


def test_files_that_may_differ_between_builds_are_not_described() -> None:
    assert checksums(document()) == {
        "data/train-00000-of-00001.parquet": "1" * 64,
        "metadata/removed.parquet": "0" * 64,
    }


def test_order_of_files_does_not_show() -> None:
    assert croissant(toy_config(), COLUMNS, {"train": 3}, FILES[::-1]) == document()
