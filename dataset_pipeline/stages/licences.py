"""Licences: are they SPDX ids, and may items under them be released under the dataset's licence?

Belongs here: the table of what may be released under what, with its source. This is a first check
for people who know their sources; it is not legal advice.

``licences.json``: ``dataset_licence``, ``by_licence`` [{licence, items, is_spdx, is_compatible,
why}], ``by_source`` [{source, licence, permission, evidence, items}], ``incompatible_items``
{count, first_ids}.
"""

import difflib
import functools
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import DatasetConfig

_PUBLIC = frozenset({"CC0-1.0", "PDDL-1.0", "Unlicense", "0BSD", "CC-PDDC"})
_ATTRIBUTION = frozenset(
    {"CC-BY-1.0", "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "ODC-By-1.0", "MIT", "BSD-2-Clause",
     "BSD-3-Clause", "Apache-2.0", "Unicode-3.0", "Unicode-DFS-2016", "OGL-UK-3.0", "CDLA-Permissive-2.0"}
)  # fmt: skip
_SHARE_ALIKE: Final = {
    # Later versions of the same licence, and those that Creative Commons lists as compatible:
    # https://creativecommons.org/share-your-work/licensing-considerations/compatible-licenses/
    "CC-BY-SA-2.0": {"CC-BY-SA-2.0", "CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0"},
    "CC-BY-SA-2.5": {"CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0"},
    "CC-BY-SA-3.0": {"CC-BY-SA-3.0", "CC-BY-SA-4.0"},
    "CC-BY-SA-4.0": {"CC-BY-SA-4.0", "GPL-3.0-only", "LAL-1.3"},
    "ODbL-1.0": {"ODbL-1.0"},
    "CC-BY-NC-SA-2.0": {"CC-BY-NC-SA-2.0", "CC-BY-NC-SA-2.5", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0"},
    "CC-BY-NC-SA-2.5": {"CC-BY-NC-SA-2.5", "CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0"},
    "CC-BY-NC-SA-3.0": {"CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0"},
    "CC-BY-NC-SA-4.0": {"CC-BY-NC-SA-4.0"},
}
_NON_COMMERCIAL = frozenset({"CC-BY-NC-2.0", "CC-BY-NC-2.5", "CC-BY-NC-3.0", "CC-BY-NC-4.0"})
_NON_COMMERCIAL_TARGETS = _NON_COMMERCIAL | {name for name in _SHARE_ALIKE if name.startswith("CC-BY-NC-")}


def spdx_problem(licence: str) -> str | None:
    """What is wrong with an SPDX id, with the nearest ones; None where nothing is."""
    known = _spdx_ids()
    if licence in known or licence.startswith("LicenseRef-"):
        return None
    by_lower = {name.lower(): name for name in sorted(known)}
    near = [by_lower[name] for name in difflib.get_close_matches(licence.lower(), by_lower, n=3, cutoff=0.5)]
    return f"'{licence}' is no SPDX id" + (f"; nearest: {', '.join(near)}" if near else "")


@functools.cache
def _spdx_ids() -> frozenset[str]:
    """Licences alone: an exception to a licence is none."""
    from license_expression import get_spdx_licensing

    symbols = get_spdx_licensing().known_symbols
    return frozenset(name for name, symbol in symbols.items() if not symbol.is_exception)


def compatibility(item_licence: str, dataset_licence: str) -> tuple[bool, str]:
    """Whether an item under one licence may be released in a dataset under the other, and why.

    Follows the licences' own terms: public domain dedications allow anything, attribution licences
    anything that keeps the credit, share-alike licences only themselves (or what they name as
    compatible), non-commercial ones only non-commercial ones; no-derivatives and unknown ones nothing
    but themselves.
    """
    if item_licence == dataset_licence:
        return True, "the same licence"
    if item_licence in _PUBLIC:
        return True, "dedicated to the public"
    if item_licence in _ATTRIBUTION:
        if dataset_licence in _PUBLIC:
            return False, f"{item_licence} asks for attribution, which {dataset_licence} gives up"
        return True, "asks for attribution only, which the release keeps per item"
    if item_licence in _SHARE_ALIKE:
        if dataset_licence in _SHARE_ALIKE[item_licence]:
            return True, "share-alike, and the dataset's licence is one it names as compatible"
        allowed = ", ".join(sorted(_SHARE_ALIKE[item_licence]))
        return False, f"share-alike: the dataset's licence must be one of {allowed}"
    if item_licence in _NON_COMMERCIAL:
        if dataset_licence in _NON_COMMERCIAL_TARGETS:
            return True, "non-commercial, as the dataset's licence is"
        return False, f"non-commercial, which {dataset_licence} is not"
    return False, "not in the table of licences that allow this; choose the same licence for the dataset"


def licence_report(items: pl.LazyFrame, config: DatasetConfig) -> dict[str, Any]:
    """See the module's head; ``items``: rows with item_id, source and licence."""
    counted = items.group_by("licence").agg(items=pl.len()).sort("licence", nulls_last=True).collect()
    by_licence = []
    for licence, count in counted.iter_rows():
        is_compatible, why = compatibility(licence or "", config.licence)
        by_licence.append(
            {"licence": licence, "items": count, "is_spdx": licence is not None and spdx_problem(licence) is None,
             "is_compatible": is_compatible, "why": why}
        )  # fmt: skip
    bad = [row["licence"] for row in by_licence if not row["is_compatible"]]
    wrong = items.filter(pl.col("licence").is_in(bad, nulls_equal=True))
    per_source = dict(items.group_by("source").len().collect().iter_rows())
    return {
        "dataset_licence": config.licence,
        "by_licence": by_licence,
        "by_source": [
            {
                "source": source.id,
                "licence": source.licence,
                "url": source.url,
                "permission": source.permission.basis if source.permission else None,
                "evidence": source.permission.evidence if source.permission else None,
                "items": per_source.get(source.id, 0),
            }
            for source in config.sources
        ],
        "incompatible_items": {
            "count": int(wrong.select(pl.len()).collect().item()),
            "first_ids": wrong.select(pl.col("item_id").sort().head(10)).collect().to_series().to_list(),
        },
    }
