"""Documents and tables of a release made again from its own reports, to find the ones that are stale.

Belongs here: which files follow from ``reports/*.json`` and the configuration alone, and the digest by which
``report.html``, whose pictures are not in the reports, is known to be theirs. Does not belong here: how each is made.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages import attribution, datacite, licences, mirrors, release, result_tables
from dataset_pipeline.stages.release import Reports

CODE: Final = (release, result_tables, datacite, licences, mirrors, attribution)
"""Modules that decide what the files say."""
_DIGEST: Final = re.compile(r'<meta name="reports-sha256" content="([0-9a-f]{64})">')


def templates() -> str:
    """The text of every template that a document is made from."""
    folder = resources.files("dataset_pipeline") / "templates"
    return "".join(
        (folder / name).read_text(encoding="utf-8")
        for name in ("card.md.j2", "datasheet.md.j2", "download.py.txt")
    )


def made_again(
    config: DatasetConfig,
    reports: Reports,
    columns: Mapping[str, str],
    measured: Mapping[str, float],
    shard_bytes: Mapping[str, Mapping[str, int]],
) -> dict[str, str]:
    """Path -> text of every document and table that the reports decide; CHANGELOG.md needs an earlier release too."""
    documents = release.documents(config, reports, columns, "", measured, shard_bytes)
    del documents["CHANGELOG.md"]
    tables = result_tables.files_of(result_tables.result_tables(reports)) if "statistics" in reports else {}
    return documents | {f"reports/tables/{name}": text for name, text in tables.items()}


def first_difference(told: str, expected: str) -> str:
    """Where two texts part, in one line."""
    lines, others = told.splitlines(), expected.splitlines()
    for number, (line, other) in enumerate(zip(lines, others, strict=False), start=1):
        if line != other:
            start = next(
                (at for at, (a, b) in enumerate(zip(line, other, strict=False)) if a != b),
                min(len(line), len(other)),
            )
            since = max(0, start - 20)
            return f"line {number} has '{line[since : since + 60]}', the reports give '{other[since : since + 60]}'"
    return f"has {len(lines)} lines, the reports give {len(others)}"


def digest(reports: Mapping[str, Any]) -> str:
    """SHA-256 of the reports, whatever their files look like."""
    plain = json.loads(json.dumps(reports))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def with_digest(page: str, reports: Mapping[str, Any]) -> str:
    """``report.html`` with the digest of the reports that its numbers come from."""
    return page.replace(
        '<meta charset="utf-8">',
        f'<meta charset="utf-8">\n<meta name="reports-sha256" content="{digest(reports)}">',
        1,
    )


def told_digest(page: str) -> str | None:
    """The digest that a page carries; None where it has none."""
    match = _DIGEST.search(page)
    return None if match is None else match[1]
