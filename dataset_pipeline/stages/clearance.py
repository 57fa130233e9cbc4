"""Whether a release may leave: licences and permissions, personal data, leaks, and a person's word.

Belongs here: the questions, answered from the configuration, the release's reports and the approvals.
Does not belong here: whether the release holds what it says (``verification.py``) and sending it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dataset_pipeline.config import Approval, DatasetConfig
from dataset_pipeline.stages.licences import licence_ids, spdx_problem

_NAMES_NOBODY: Final = frozenset({"URL"})
"""Findings that alone are nobody's personal data."""


def obstacles(
    config: DatasetConfig, reports: Mapping[str, Mapping[str, Any]], missing: Sequence[str]
) -> list[str]:
    """What keeps the release from leaving, one line each with its remedy; none: nothing does.

    ``reports``: name -> JSON report of the release, of which 'leakage', 'licences' and 'pii' are asked where
    they are there; ``missing``: ids of sources whose ``permission.evidence`` is a file that is not there.
    """
    return [
        *_permissions(config, missing),
        *_licences(reports.get("licences", {})),
        *_personal_data(config, reports.get("pii", {})),
        *_faces(config, reports.get("pii", {}).get("images", {})),
        *_leaks(reports.get("leakage", {})),
    ]


def _permissions(config: DatasetConfig, missing: Sequence[str]) -> list[str]:
    found = []
    for source in config.sources:
        permission = source.permission
        if permission is None and not _is_public_licence(source.licence):
            found.append(
                f"source {source.id}: {source.licence} is no licence that allows anybody to pass it on, and "
                "'permission' does not say why you may: set it"
            )
        if permission is not None and permission.basis == "owner-approval" and not permission.evidence:
            found.append(
                f"source {source.id}: permission.basis is 'owner-approval' without 'evidence': name the file or address"
            )
    found += [f"source {name}: the file that permission.evidence names is not there" for name in missing]
    return found


def _is_public_licence(licence: str) -> bool:
    """Whether the licence itself, being a published one, lets everybody redistribute."""
    identifiers = licence_ids(licence)
    return bool(identifiers) and not any(
        identifier.startswith("LicenseRef-") or spdx_problem(identifier) for identifier in identifiers
    )


def _licences(report: Mapping[str, Any]) -> list[str]:
    count = report.get("incompatible_items", {}).get("count", 0)
    if not count:
        return []
    return [
        f"{count} items have a licence that does not allow the dataset's: leave them out or change 'licence'"
    ]


def _personal_data(config: DatasetConfig, report: Mapping[str, Any]) -> list[str]:
    """Findings that stay in the texts are open until the author has said what they are."""
    reported: dict[str, int] = {}
    for row in report.get("by_entity_language_column", []):
        if row["action"] == "report" and row["language"] != "removed" and row["entity"] not in _NAMES_NOBODY:
            reported[row["entity"]] = reported.get(row["entity"], 0) + row["findings"]
    if not reported or config.documentation.personal_information:
        return []
    listed = ", ".join(f"{entity}: {count}" for entity, count in sorted(reported.items()))
    return [
        f"personal data that was found and only reported stays in the texts ({listed}): redact it (pii.actions), "
        "allow it (pii.allow), or say in documentation.personal_information what it is"
    ]


def _faces(config: DatasetConfig, report: Mapping[str, Any]) -> list[str]:
    """Faces that stay in the pictures likewise."""
    count = report.get("items_with_faces", 0) if report.get("action") == "report" else 0
    if not count or config.documentation.personal_information:
        return []
    return [
        f"{count} items show faces in their pictures, which were found and only reported: blur or drop them "
        "(pii.images.faces), or say in documentation.personal_information whose they are and why they may be shown"
    ]


def _leaks(report: Mapping[str, Any]) -> list[str]:
    pairs = report.get("cross_split_pairs", 0)
    return [f"{pairs} pairs of items leak across splits"] if pairs else []


def approval(
    approvals: Sequence[Approval] | None, version: str, destination: str, items_sha256: str
) -> tuple[str | None, str]:
    """(who approved the version for the destination, or None; why not).

    ``approvals``: None where there is no approvals file, and then nobody has.
    """
    if approvals is None:
        return None, "there is no approvals file"
    why = f"no entry of the approvals file names version {version} and {destination}"
    for entry in approvals:
        if entry.version != version or (entry.destinations and destination not in entry.destinations):
            continue
        if entry.items_sha256 in (None, items_sha256):
            return entry.by, ""
        why = (
            f"{entry.by} approved version {version} with other items (items_sha256 is {items_sha256} by now)"
        )
    return None, why
