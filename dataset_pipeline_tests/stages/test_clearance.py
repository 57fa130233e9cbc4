"""What keeps a release from leaving, one case each, and who has approved it."""

from typing import Any

import pytest

from dataset_pipeline.config import Approval
from dataset_pipeline.stages.clearance import approval, obstacles
from dataset_pipeline_tests.toy_release import toy_config


def source(**changes: Any) -> dict[str, Any]:
    return {"sources": [{"id": "noise", "path": "items.csv", "licence": "CC-BY-SA-4.0", **changes}]}


def found(entity: str, action: str = "report", language: str = "en") -> dict[str, Any]:
    row = {"entity": entity, "action": action, "language": language, "column": "name", "findings": 3}
    return {"pii": {"by_entity_language_column": [row]}}


def faces(action: str, items: int = 2) -> dict[str, Any]:
    return {"pii": {"images": {"action": action, "items_with_faces": items}}}


SILENT = {"documentation": {}}


@pytest.mark.parametrize(
    ("changes", "reports", "missing", "expected"),
    [
        ({}, {}, [], None),
        (source(licence="LicenseRef-shop"), {}, [], "source noise: LicenseRef-shop is no licence that allows"),
        (source(licence="LicenseRef-shop", permission={"basis": "own-data"}), {}, [], None),
        (source(licence="all rights reserved"), {}, [], "set it"),
        (source(permission={"basis": "owner-approval"}), {}, [], "'owner-approval' without 'evidence'"),
        (source(permission={"basis": "owner-approval", "evidence": "mail.pdf"}), {}, [], None),
        ({}, {}, ["noise"], "source noise: the file that permission.evidence names is not there"),
        ({}, {"licences": {"incompatible_items": {"count": 2}}}, [], "2 items have a licence that does not allow"),
        (SILENT, found("PERSON"), [], "stays in the texts (PERSON: 3)"),
        ({}, found("PERSON"), [], None),  # the author says what it is
        (SILENT, found("PERSON", action="redact"), [], None),
        (SILENT, found("PERSON", language="removed"), [], None),
        (SILENT, found("URL"), [], None),
        (SILENT, faces("report"), [], "2 items show faces in their pictures"),
        ({}, faces("report"), [], None),
        (SILENT, faces("report", 0), [], None),
        (SILENT, faces("blur"), [], None),
        (SILENT, faces("drop"), [], None),
        (SILENT, faces("review"), [], None),  # what stays of them, a person has decided to keep
        (SILENT, {"pii": {"images": {"action": "off"}}}, [], None),
        ({}, {"leakage": {"cross_split_pairs": 1}}, [], "1 pairs of items leak across splits"),
    ],
)  # fmt: skip
def test_what_keeps_a_release_from_leaving(
    changes: dict[str, Any], reports: dict[str, Any], missing: list[str], expected: str | None
) -> None:
    lines = obstacles(toy_config(**changes), reports, missing)
    assert [expected in line for line in lines] == ([] if expected is None else [True]), lines


def entry(**changes: Any) -> Approval:
    return Approval.model_validate({"version": "1.0.0", "by": "Ada", "date": "2026-11-02", **changes})


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (None, None),
        ([], None),
        ([entry()], "Ada"),
        ([entry(version="1.0.1")], None),
        ([entry(destinations=["bucket"])], "Ada"),
        ([entry(destinations=["hub"])], None),
        ([entry(items_sha256="0" * 64)], "Ada"),
        ([entry(items_sha256="1" * 64)], None),
        ([entry(items_sha256="1" * 64), entry(by="Ben", items_sha256="0" * 64)], "Ben"),
    ],
)
def test_who_approved(entries: list[Approval] | None, expected: str | None) -> None:
    name, why = approval(entries, "1.0.0", "bucket", "0" * 64)
    assert name == expected
    assert bool(why) == (name is None)
