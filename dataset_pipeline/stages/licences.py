"""Licences: are they SPDX licences, and may items under them be released under the dataset's licence?

Belongs here: reading SPDX expressions, the rules of ``data/licences.json`` (what may be released under what,
with the sources of every line), what happens to items that may not, and the report. Does not belong here: the
text of LICENSE and of the attributions (``release.py``, ``attribution.py``). This is a first check for people
who know their sources; it is not legal advice.

``licences.json`` of a release: ``dataset_licence``, ``by_licence`` [{licence, items, is_spdx, is_compatible,
why}], ``by_source`` [{source, licence, url, permission, evidence, missing, items}], ``references`` (how many),
``incompatible_items`` {count, first: [{item_id, licence}]}, ``table_sources``.
"""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any, Final, NamedTuple

import polars as pl

from dataset_pipeline.config import DatasetConfig, Source

ABSENT: Final = frozenset({"NONE", "NOASSERTION"})
"""What SPDX writes where there is no licence, and where nobody knows."""

NO_DERIVATIVES: Final = "licence_no_derivatives"
UNLICENSED: Final = "licence_missing"
"""Reasons of items that may be named, and not passed on."""

_NO_DERIVATIVES_KINDS: Final = frozenset({"no_derivatives", "non_commercial_no_derivatives"})
_ATTRIBUTION_FREE: Final = frozenset({"public_domain"})
_ATTRIBUTION_AT_MOST: Final = frozenset({"public_domain", "attribution"})
_FIRST_IDS: Final = 10


# -- SPDX ------------------------------------------------------------------------------------


def spdx_problem(licence: str, *, may_be_absent: bool = False) -> str | None:
    """What is wrong with an SPDX id or expression (SPDX 2.3, annex D), with the nearest ids; None: nothing.

    Letter case counts, because hosts and readers of Croissant compare ids letter by letter. ``may_be_absent``:
    whether NONE and NOASSERTION will do, as they do for an item and not for a dataset.
    """
    if licence in ABSENT:
        return None if may_be_absent else f"'{licence}' is what SPDX writes where there is no licence"
    if not _is_expression(licence):
        return None if _is_known(licence) else f"'{licence}' is no SPDX id{_nearest(licence)}"
    for word in licence_ids(licence):
        if not _is_known(word) and word not in _exceptions():
            return f"'{word}' in '{licence}' is no SPDX id{_nearest(word)}"
    try:
        _parsed(licence)
    except ValueError:
        return f"'{licence}' is no SPDX expression: expected ids joined by AND, OR or WITH"
    return None


def licence_ids(expression: str) -> list[str]:
    """Licence ids of an SPDX expression, in order of first mention."""
    words = re.findall(r"[A-Za-z0-9.+:-]+", expression)
    return list(dict.fromkeys(word for word in words if word.upper() not in ("AND", "OR", "WITH")))


def _is_expression(licence: str) -> bool:
    return bool(re.search(r"[()]|\s(?:AND|OR|WITH)\s", licence))


def _is_known(licence: str) -> bool:
    return licence in _spdx_ids() or licence.startswith("LicenseRef-")


def _nearest(licence: str) -> str:
    by_lower = {name.lower(): name for name in sorted(_spdx_ids())}
    near = [by_lower[name] for name in difflib.get_close_matches(licence.lower(), by_lower, n=3, cutoff=0.5)]
    return f"; nearest: {', '.join(near)}" if near else ""


@functools.cache
def _spdx_ids() -> frozenset[str]:
    """Licences alone: an exception to a licence is none."""
    symbols = _licensing().known_symbols
    return frozenset(name for name, symbol in symbols.items() if not symbol.is_exception)


@functools.cache
def _exceptions() -> frozenset[str]:
    return frozenset(name for name, symbol in _licensing().known_symbols.items() if symbol.is_exception)


@functools.cache
def _licensing() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@functools.lru_cache(maxsize=4096)
def _parsed(licence: str) -> Any:
    """The expression as a tree; raises ``ValueError`` for what is none."""
    from license_expression import ExpressionError

    try:
        tree = _licensing().parse(licence, strict=True)
    except ExpressionError as error:
        raise ValueError(str(error)) from None
    if tree is None:
        raise ValueError("nothing there")
    return tree


# -- what may become what --------------------------------------------------------------------


class Verdict(NamedTuple):
    """Whether an item may be released under a licence, and why."""

    is_allowed: bool
    why: str


@functools.cache
def table() -> Mapping[str, Any]:
    """``data/licences.json``: sources, kinds, licences and the licences that datasets mostly have."""
    path = resources.files("dataset_pipeline").joinpath("data", "licences.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def kind_of(licence: str) -> str | None:
    """The kind of a licence id, such as 'share_alike'; None where the table does not know it."""
    entry = table()["licences"].get(licence)
    return None if entry is None else str(entry["kind"])


@functools.lru_cache(maxsize=4096)
def compatibility(item_licence: str, dataset_licence: str) -> Verdict:
    """Whether an item under one licence may be released in a dataset under the other, and why.

    Both may be SPDX expressions. An item under ``A OR B`` may be taken under either; ``A AND B`` binds to both.
    A dataset under ``A OR B`` leaves the choice to its readers, so that both must be allowed; in one under
    ``A AND B`` every part is under one of them.
    """
    if item_licence == dataset_licence and item_licence not in ABSENT:
        return Verdict(True, "the same licence")
    if not item_licence or item_licence in ABSENT:
        return Verdict(False, "no licence: nothing allows to pass it on")
    if problem := spdx_problem(item_licence) or spdx_problem(dataset_licence):
        return Verdict(False, problem)
    return _of_trees(_parsed(item_licence), _parsed(dataset_licence))


def _of_trees(item: Any, dataset: Any) -> Verdict:
    """Verdict of two expressions, alternatives of the item first."""
    if (operator := _operator(item)) is not None:
        parts = [_of_trees(part, dataset) for part in item.args]
        return _joined(parts, needs_all=operator == "AND")
    if (operator := _operator(dataset)) is not None:
        parts = [_of_trees(item, part) for part in dataset.args]
        return _joined(parts, needs_all=operator == "OR")
    return _of_ids(_id(item), _id(dataset))


def _operator(tree: Any) -> str | None:
    return {"AND": "AND", "OR": "OR"}.get(type(tree).__name__)


def _id(tree: Any) -> str:
    """The licence of a leaf; an exception (WITH) allows more, never less."""
    leaf = getattr(tree, "license_symbol", tree)
    return str(leaf.key)


def _joined(parts: Iterable[Verdict], *, needs_all: bool) -> Verdict:
    verdicts = list(parts)
    decisive = [verdict for verdict in verdicts if verdict.is_allowed is not needs_all] or verdicts
    is_allowed = not needs_all if decisive is not verdicts else needs_all
    return Verdict(is_allowed, "; ".join(dict.fromkeys(verdict.why for verdict in decisive)))


def _of_ids(item: str, dataset: str) -> Verdict:
    if item == dataset:
        return Verdict(True, "the same licence")
    known, kinds = table()["licences"], table()["kinds"]
    entry = known.get(item)
    if entry is None:
        return Verdict(
            False, f"{item} is not in the table of licences: the dataset's licence must be the same"
        )
    kind = entry["kind"]
    says = f"{item}: {kinds[kind]['says']}"
    if dataset in entry.get("into", ()):
        return Verdict(True, f"{says}, and {dataset} is one it names as compatible")
    into = kinds[kind]["into_kinds"]
    if kind_of(dataset) in into:
        return Verdict(True, f"{says}, which {dataset} does not take away")
    if dataset not in known and kind in _ATTRIBUTION_AT_MOST:
        return Verdict(True, f"{says}, and the release keeps authors and licences per item")
    if into:
        return Verdict(False, f"{says}, which {dataset} gives up")
    allowed = ", ".join(entry.get("into", [item]))
    return Verdict(False, f"{says}: the dataset's licence must be {_one_of(allowed)}")


def _one_of(allowed: str) -> str:
    return f"one of {allowed}" if "," in allowed else allowed


def needs_attribution(licence: str | None) -> bool:
    """Whether the author has to be named: always, unless every licence of the expression waives it."""
    return not licence or any(kind_of(name) not in _ATTRIBUTION_FREE for name in licence_ids(licence))


# -- items that may be named, and not passed on ------------------------------------------------


def withheld(licences: Iterable[str | None], config: DatasetConfig) -> dict[str | None, tuple[str, str]]:
    """Licence -> (reason, 'drop' or 'reference') of items that are not released, by ``config.licences``.

    Licences whose items are released are not among them, nor are those whose action is 'stop': the gate
    ``licences_compatible`` is for them.
    """
    found: dict[str | None, tuple[str, str]] = {}
    for licence in licences:
        if not licence or licence in ABSENT:
            reason, action = UNLICENSED, config.licences.unlicensed
        elif compatibility(licence, config.licence).is_allowed or not _is_without_derivatives(licence):
            continue
        else:
            reason, action = NO_DERIVATIVES, config.licences.no_derivatives
        if action != "stop":
            found[licence] = (reason, action)
    return found


def _is_without_derivatives(licence: str) -> bool:
    return any(kind_of(name) in _NO_DERIVATIVES_KINDS for name in licence_ids(licence))


# -- permissions -------------------------------------------------------------------------------


def missing_permission(source: Source) -> str | None:
    """What of a source's permission nobody could check yet, and what to do; None where nothing is missing.

    Data of one's own needs no document; a public licence needs the place that says so (``evidence``, or the
    source's ``url``); an owner's approval needs the approval.
    """
    permission = source.permission
    if permission is None:
        return "permission: missing; say why it may be passed on (own-data, public-licence, owner-approval)"
    if permission.basis == "owner-approval" and permission.evidence is None:
        return "permission.evidence: missing; name the file or the address of the owner's approval"
    if permission.basis == "public-licence" and permission.evidence is None and source.url is None:
        return (
            "permission.evidence: missing; name the address that states the licence, or set the source's url"
        )
    return None


# -- the report --------------------------------------------------------------------------------


def licence_report(
    items: pl.LazyFrame, config: DatasetConfig, references: pl.LazyFrame | None = None
) -> dict[str, Any]:
    """See the module's head; ``items``: rows with item_id, source and licence; ``references``: REFERENCES."""
    counted = items.group_by("licence").agg(items=pl.len()).sort("licence", nulls_last=True).collect()
    by_licence = []
    for licence, count in counted.iter_rows():
        verdict = compatibility(licence or "", config.licence)
        by_licence.append(
            {"licence": licence, "items": count, "is_spdx": licence is not None and spdx_problem(licence) is None,
             "is_compatible": verdict.is_allowed, "why": verdict.why}
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
                "missing": missing_permission(source),
                "items": per_source.get(source.id, 0),
            }
            for source in config.sources
        ],
        "references": 0 if references is None else int(references.select(pl.len()).collect().item()),
        "incompatible_items": {
            "count": int(wrong.select(pl.len()).collect().item()),
            "first": wrong.sort("item_id").head(_FIRST_IDS).select("item_id", "licence").collect().to_dicts(),
        },
        "table_sources": cited([licence for row in by_licence if (licence := row["licence"])]),
    }


def cited(licences: Iterable[str]) -> list[dict[str, str]]:
    """The sources of the table's lines for these licences."""
    known = table()["licences"]
    names = {
        name
        for licence in licences
        for part in licence_ids(licence)
        for name in known.get(part, {}).get("sources", ())
    }
    return [dict(table()["sources"][name]) for name in sorted(names)]


class Choice(NamedTuple):
    """A licence that the dataset might have, and what speaks for it or against it."""

    licence: str
    is_allowed: bool
    why: tuple[str, ...]
    """One line per licence of the items; where it is not allowed, of those alone that forbid it."""


def choices(items_by_licence: Mapping[str, int], config: DatasetConfig) -> Iterator[Choice]:
    """Which licences a dataset of these items (licence -> how many; '': none) may have, allowed ones first.

    Asked of are the dataset's own licence, those of its items, and those that datasets mostly have. Items that
    ``config.licences`` leaves out of the release do not count.
    """
    names = [config.licence, *sorted(n for n in items_by_licence if n and n not in ABSENT)]
    found = []
    for candidate in dict.fromkeys([*names, *table()["dataset_licences"]]):
        if spdx_problem(candidate) is not None:
            continue
        left_out = withheld(items_by_licence, config.model_copy(update={"licence": candidate}))
        verdicts = {
            licence: compatibility(licence, candidate)
            for licence in sorted(items_by_licence)
            if licence not in left_out
        }
        is_allowed = all(verdict.is_allowed for verdict in verdicts.values())
        why = tuple(
            f"{items_by_licence[licence]:,} items under {licence or 'no licence'}: {verdict.why}"
            for licence, verdict in verdicts.items()
            if is_allowed or not verdict.is_allowed
        )
        found.append(Choice(candidate, is_allowed, why))
    return iter(sorted(found, key=lambda choice: not choice.is_allowed))
