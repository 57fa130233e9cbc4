"""This dataset beside published ones: a table, the most similar ones, and what is special about this one.

Keys of ``comparison.json``: ``datasets`` (rows, most similar first: ``dataset``, ``year``, ``topics``,
``modalities``, ``pictures``, ``items``, ``classes``, ``languages``, ``licence``, ``similarity``, ``sources``),
``this`` (the same of this dataset), ``statements`` (sentences that hold by the table) and ``measure``.

The figures of other datasets are data: ``comparison/datasets.csv`` in the package, one figure a row with what
its source says and where that is, and rows of the same form that an author adds. Belongs here: comparing.
Does not belong here: the figures themselves.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.errors import ConfigError

COUNTS: Final = ("pictures", "items", "classes", "languages")
_SETS: Final = ("topics", "modalities")
_MODALITIES: Final = frozenset({"image", "text", "label"})
_FIGURES: Final = ("year", *_SETS, *COUNTS, "licence")

MEASURE: Final = (
    "mean over what both datasets state: 1 minus a third of the difference of the decimal logarithms for pictures, "
    "items, classes and languages (0 from a factor of 1,000), and the share of common values among all for topics "
    "and modalities (Jaccard, 1901)"
)


@dataclass(frozen=True)
class Known:
    """What is stated of one dataset; a count that no source states is not there."""

    name: str
    year: int | None = None
    topics: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    licence: str | None = None
    sources: tuple[str, ...] = ()


def known_datasets() -> list[Known]:
    """The datasets of the package's table, by name."""
    text = resources.files("dataset_pipeline").joinpath("comparison/datasets.csv").read_text("utf-8")
    return parse(csv.DictReader(io.StringIO(text)), "comparison/datasets.csv")


def with_rows(rows: Iterable[Mapping[str, Any]], where: str) -> list[Known]:
    """The datasets of the package's table and of an author's rows; a dataset of both is as the author says."""
    added = parse(rows, where)
    names = {known.name.casefold() for known in added}
    others = [known for known in known_datasets() if known.name.casefold() not in names]
    return sorted([*others, *added], key=lambda known: known.name.casefold())


def parse(rows: Iterable[Mapping[str, Any]], where: str) -> list[Known]:
    """Datasets of rows with dataset, figure, value and source, by name.

    Raises ``ConfigError`` for a figure that is not known, that is no number, that has no source, or that is
    stated twice of one dataset.
    """
    found: dict[str, dict[str, tuple[Any, str]]] = {}
    for number, row in enumerate(rows, start=2):
        name, figure, value, source = (
            str(row.get(column) or "").strip() for column in ("dataset", "figure", "value", "source")
        )
        place = f"{where}:{number}"
        if not name or not source:
            raise ConfigError(f"{place}: expected a dataset and a source, found {name!r} and {source!r}")
        if figure not in _FIGURES:
            raise ConfigError(f"{place}: figure: found {figure!r}, expected one of {', '.join(_FIGURES)}")
        figures = found.setdefault(name, {})
        if figure in figures:
            raise ConfigError(f"{place}: {figure} of {name!r} is stated twice")
        figures[figure] = _value(figure, value, place), source
    return [
        _known(name, figures) for name, figures in sorted(found.items(), key=lambda pair: pair[0].casefold())
    ]


def _value(figure: str, value: str, place: str) -> Any:
    if figure in COUNTS or figure == "year":
        if not re.fullmatch(r"[1-9][0-9]{0,14}", value):
            raise ConfigError(f"{place}: {figure}: expected a whole number above 0, found {value!r}")
        return int(value)
    if figure in _SETS:
        values = frozenset(part.strip().lower() for part in value.split(";") if part.strip())
        if figure == "modalities" and not (values and values <= _MODALITIES):
            raise ConfigError(
                f"{place}: modalities: expected some of {', '.join(sorted(_MODALITIES))}, separated by ';', "
                f"found {value!r}"
            )
        return values
    return value or None


def _known(name: str, figures: Mapping[str, tuple[Any, str]]) -> Known:
    def stated(figure: str, otherwise: Any) -> Any:
        return figures[figure][0] if figure in figures else otherwise

    return Known(
        name=name,
        year=stated("year", None),
        topics=stated("topics", frozenset()),
        modalities=stated("modalities", frozenset()),
        counts={count: figures[count][0] for count in COUNTS if count in figures},
        licence=stated("licence", None),
        sources=tuple(dict.fromkeys(source for _value, source in figures.values())),
    )


def this_dataset(config: DatasetConfig, statistics: Mapping[str, Any]) -> Known:
    """The dataset of ``statistics.json`` in the terms of the table; its topics are its keywords."""
    counts = {
        "pictures": statistics["images"]["pictures"],
        "items": statistics["counts"]["released_items"],
        "classes": statistics["class_balance"]["values"],
        "languages": sum(row["value"] not in (None, "und", "zxx", "mul") for row in statistics["languages"]),
    }
    has = {"image": counts["pictures"], "text": counts["languages"], "label": counts["classes"]}
    return Known(
        name=config.display_title,
        year=int(config.date[:4]) if config.date else None,
        topics=frozenset(keyword.lower() for keyword in config.keywords),
        modalities=frozenset(modality for modality, count in has.items() if count),
        counts={name: count for name, count in counts.items() if count},
        licence=config.licence,
    )


def comparison_report(this: Known, known: Sequence[Known]) -> dict[str, Any]:
    """The report described above."""
    scored = sorted(
        ((similarity(this, other), other) for other in known), key=lambda pair: (-pair[0], pair[1].name)
    )
    return {
        "this": _row(this),
        "datasets": [{**_row(other), "similarity": round(score, 3)} for score, other in scored],
        "statements": statements(this, known),
        "measure": MEASURE,
    }


def _row(known: Known) -> dict[str, Any]:
    return {
        "dataset": known.name,
        "year": known.year,
        "topics": sorted(known.topics),
        "modalities": sorted(known.modalities),
        **{count: known.counts.get(count) for count in COUNTS},
        "licence": known.licence,
        "sources": list(known.sources),
    }


def similarity(one: Known, other: Known) -> float:
    """How alike two datasets are, 0 to 1, by ``MEASURE``; 0 where they state nothing in common."""
    parts = [
        max(0.0, 1 - abs(math.log10(one.counts[count] / other.counts[count])) / 3)
        for count in COUNTS
        if count in one.counts and count in other.counts
    ]
    for mine, theirs in ((one.topics, other.topics), (one.modalities, other.modalities)):
        if mine and theirs:
            parts.append(len(mine & theirs) / len(mine | theirs))
    return sum(parts) / len(parts) if parts else 0.0


def statements(this: Known, known: Sequence[Known]) -> list[str]:
    """Sentences about this dataset among the others, each true by the numbers of the table."""
    said = [sentence for count in COUNTS if (sentence := _rank(this, known, count))]
    alike = [other for other in known if other.modalities and other.modalities >= this.modalities]
    stating = [other for other in known if other.modalities]
    if stating and this.modalities:
        what = _listed([_WORDS[name] for name in ("image", "text", "label") if name in this.modalities])
        said.append(
            f"Of the {len(stating)} datasets compared, "
            + (f"{len(alike)} have {what}, as this one has" if alike else f"none has {what}, as this one has")
            + (f": {_listed([other.name for other in alike])}." if 0 < len(alike) <= 5 else ".")
        )
        for count in ("languages", "classes"):
            if alike and len(alike) < len(stating) and (sentence := _rank(this, alike, count)):
                said.append(f"Among those with {what}: {sentence[0].lower()}{sentence[1:]}")
    return said


_WORDS: Final = {"image": "pictures", "text": "texts", "label": "class labels"}


def _rank(this: Known, known: Sequence[Known], count: str) -> str | None:
    """Where this dataset stands among those that state ``count``; nothing where that is nothing special."""
    stating = sorted((o for o in known if count in o.counts), key=lambda o: (-o.counts[count], o.name))
    if count not in this.counts or len(stating) < 2:
        return None
    mine, most = this.counts[count], stating[0]
    fewer = sum(other.counts[count] < mine for other in stating)
    compared = f"{len(stating)} compared datasets that state a number"
    have = f"It has {mine:,} {_plural(count, mine)}"
    if fewer == len(stating):
        return f"{have}, more than all {compared}; next is {most.name} ({most.counts[count]:,})."
    if fewer == 0:
        return None
    return f"{have}, more than {fewer} of the {compared}; {most.name} has the most ({most.counts[count]:,})."


def _plural(count: str, number: int) -> str:
    return {"classes": "class"}.get(count, count.removesuffix("s")) if number == 1 else count


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# -- the name ------------------------------------------------------------------------------

_NAME_RULES: Final[tuple[tuple[str, Callable[[str], bool]], ...]] = (
    (
        "Hugging Face takes it: letters, digits, '-', '_' and '.', at most 96, none of '--' and '..', no '.git' "
        "at the end",
        lambda name: (
            bool(re.fullmatch(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?", name))
            and "--" not in name
            and ".." not in name
            and not name.lower().endswith((".git", ".ipynb"))
        ),
    ),
    (
        "an S3 bucket may be called so: lower case, digits, '.' and '-', 3 to 63, no underscore",
        lambda name: bool(re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name)) and ".." not in name,
    ),
    (
        "GitHub takes it as a repository: letters, digits, '-', '_' and '.', at most 100",
        lambda name: bool(re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)),
    ),
    ("it is short: at most 20 characters", lambda name: len(name) <= 20),
    (
        "siblings fit: '-mini', '-v2' and the like can follow within 63 characters",
        lambda name: len(name) <= 63 - len("-validation"),
    ),
    ("it starts with a letter, so that it can be a key or a file name", lambda name: name[:1].isalpha()),
)


def name_report(name: str, known: Sequence[Known]) -> list[dict[str, Any]]:
    """What a dataset's name should fulfil: ``rule``, ``is_fulfilled`` and, where it is not, ``found``.

    Names count as equal where they differ only in case and punctuation.
    """

    def bare(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    rows: list[dict[str, Any]] = [
        {"rule": rule, "is_fulfilled": holds(name), "found": None if holds(name) else name}
        for rule, holds in _NAME_RULES
    ]
    taken = [other.name for other in known if bare(other.name) == bare(name)]
    rows.append(
        {
            "rule": "no dataset of the comparison table is called so",
            "is_fulfilled": not taken,
            "found": ", ".join(taken) or None,
        }
    )
    return rows
