"""``licences``: which licences the sources allow for the dataset, and why.

Belongs here: counting items by licence in the manifests and saying what follows. Does not belong here: the rules
(``stages/licences.py``) and the release's own check, which is a gate.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters import sources
from dataset_pipeline.config import DatasetConfig, load_config
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import licences, raw


def licences_of(config_path: Path) -> Iterator[str]:
    """Lines for people: the licences of the items, then those that the dataset may and may not have.

    Reads the manifests, not the pictures; items that cleaning will remove count. Raises ``ConfigError``.
    """
    config = load_config(config_path)
    counts = _counts(config, config_path.absolute().parent)
    yield f"{config.name} {config.version}: dataset.yaml says {config.licence}"
    yield ""
    yield "Licences of the items:"
    width = max(len(licence) for licence in counts)
    for licence, count in counts.items():
        problem = licences.spdx_problem(licence, may_be_absent=True) if licence else None
        yield f"  {count:>10,}  {licence or '(none)':<{width}}  {problem or _kinds(licence)}"
    found = list(licences.choices(counts, config))
    yield from _group(
        "The dataset's licence may be:", "✓", [c for c in found if c.is_allowed], config.licence
    )
    yield from _group("It may not be:", "✗", [c for c in found if not c.is_allowed], config.licence)
    left_out = licences.withheld(counts, config)
    if left_out:
        yield ""
        yield "Left out of a release under the present licence:"
        for name, (reason, action) in left_out.items():
            yield f"  {counts[name or '']:>10,}  {name or '(none)':<{width}}  {reason}, {action}"
    elif not any(choice.is_allowed for choice in found):
        yield ""
        yield "No licence suits all items: leave some out (licences.no_derivatives, licences.unlicensed, or the source)."
    yield ""
    yield "Read from (a first check, no legal advice):"
    cited = {
        source["title"]: source["url"]
        for licence in counts
        if licence
        for source in licences.cited([licence])
    }
    yield from (f"  {title}: {url}" for title, url in sorted(cited.items()))


def _group(head: str, mark: str, choices: list[licences.Choice], own: str) -> Iterator[str]:
    """Licences with one and the same explanation, which most often is that of a single item's licence, together."""
    if not choices:
        return
    yield ""
    yield head
    names: dict[tuple[str, ...], list[str]] = {}
    for choice in choices:
        said = f"{choice.licence} (as dataset.yaml says)" if choice.licence == own else choice.licence
        names.setdefault(choice.why, []).append(said)
    for why, alike in names.items():
        yield f"  {mark} {', '.join(alike)}"
        yield from (f"      {line}" for line in why)


def _counts(config: DatasetConfig, base: Path) -> dict[str, int]:
    """Licence ('' for none) -> items, most first."""
    frames = [
        raw.raw_items(sources.read_manifest(source, base), source).select("licence")
        for source in config.sources
    ]
    counted = pl.concat(frames).group_by("licence").len().collect()
    if counted.is_empty():
        raise ConfigError("the sources have no rows", hint="Expected at least one")
    rows = sorted(counted.rows(), key=lambda row: (-row[1], row[0] or ""))
    return {licence or "": int(count) for licence, count in rows}


def _kinds(licence: str) -> str:
    """What is known of the licences of an expression."""
    kinds = licences.table()["kinds"]
    known = {name: licences.kind_of(name) for name in licences.licence_ids(licence)}
    if not licence or licence in licences.ABSENT:
        return "no licence"
    return "; ".join(
        kinds[kind]["says"] if kind else f"{name} is not in the table of licences"
        for name, kind in known.items()
    )
