"""A LaTeX paper about the dataset, from the JSON reports: what an author does not have to type.

Belongs here: which number goes where, and writing it so that LaTeX takes it for text. Does not belong here:
computing a number, and deciding what only an author can say: such passages are marked, and counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages import figures
from dataset_pipeline.stages.result_tables import latex_text, to_latex

Reports = Mapping[str, Mapping[str, Any]]

FOR_AUTHOR: Final = r"\forauthor{"
_MOST_ROWS: Final = 20
_DRAWN: Final = re.compile(r"(classes|leaderboard|nearest_in_train_\w+|price_\w+)\.pdf")

_NUMBERS: Final = (
    ("rawItems", "statistics", "counts.raw_items"),
    ("releasedItems", "statistics", "counts.released_items"),
    ("removedItems", "statistics", "counts.removed_items"),
    ("pictures", "statistics", "images.pictures"),
    ("classes", "statistics", "class_balance.values"),
    ("effectiveClasses", "statistics", "class_balance.effective_classes"),
    ("giniOfClasses", "statistics", "class_balance.gini"),
    ("largestClass", "statistics", "class_balance.largest"),
    ("smallestClass", "statistics", "class_balance.smallest"),
    ("languages", "comparison", "this.languages"),
    ("removedDuplicates", "statistics", "duplication.removed_as_duplicates"),
    ("leakGroups", "statistics", "duplication.leak_groups.groups"),
    ("largestGroup", "statistics", "duplication.leak_groups.largest"),
    ("crossSplitPairs", "leakage", "cross_split_pairs"),
    ("randomSplitPairs", "leakage", "random_split_pairs"),
    ("plantedCopies", "leakage", "planted_copies"),
    ("comparedDuplicates", "labels", "contradictions.with_both_labels"),
)
"""Macro, report, and where in it the number is."""


@dataclass(frozen=True)
class Paper:
    """The files of the paper's folder, and what is left to write."""

    files: Mapping[str, bytes]
    passages_for_author: int


def paper(config: DatasetConfig, reports: Reports) -> Paper:
    """``paper.tex``, ``numbers.tex``, ``references.bib``, ``tables/`` and ``figures/``.

    ``reports``: name -> JSON report; ``statistics``, ``leakage``, ``labels``, ``licences`` and ``comparison``
    must be there.
    """
    numbers = _numbers(reports)
    tables = _tables(config, reports)
    drawn = _figures(config, reports)
    text = _render(config, reports, numbers, tables, drawn)
    files = {
        "paper.tex": text.encode(),
        "numbers.tex": numbers_file(numbers).encode(),
        "references.bib": _references(reports["comparison"]).encode(),
        **{f"tables/{name}.tex": to_latex(table).encode() for name, table in tables.items()},
        **{f"figures/{name}": figure for name, figure in drawn.items()},
    }
    return Paper(files, text.count(FOR_AUTHOR))


# -- numbers -------------------------------------------------------------------------------


def _numbers(reports: Reports) -> dict[str, tuple[str, str]]:
    """Macro -> (what it prints, where it comes from); a number that is not there has none."""
    found: dict[str, tuple[str, str]] = {}
    for macro, name, path in _NUMBERS:
        value: Any = reports[name]
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[macro] = _number(value), f"{name}.json: {path}"
    found |= _shares(reports)
    splits = {row["value"]: row["items"] for row in reports["statistics"]["counts"]["splits"]}
    found["testItems"] = _number(splits.get("test", 0)), "statistics.json: counts.splits, test"
    pii = reports.get("pii", {}).get("by_entity", [])
    found["piiFindings"] = _number(sum(row["findings"] for row in pii)), "pii.json: by_entity, all findings"
    found["piiItems"] = (
        _number(sum(row["items"] for row in reports.get("pii", {}).get("by_action", []))),
        "pii.json: by_action, all items",
    )
    return found


def _shares(reports: Reports) -> dict[str, tuple[str, str]]:
    """Shares in per cent."""
    found: dict[str, tuple[str, str]] = {}
    contradictions = reports["labels"].get("contradictions", {})
    if contradictions.get("share") is not None:
        where = "labels.json: contradictions."
        found["labelNoise"] = f"{100 * contradictions['share']:.1f}", f"{where}share"
        for macro, value in zip(("labelNoiseLow", "labelNoiseHigh"), contradictions["interval"], strict=True):
            found[macro] = f"{100 * value:.1f}", f"{where}interval"
    recalls = [
        share for kind in reports["leakage"].get("search_recall", {}).values() for share in kind.values()
    ]
    if recalls:
        found["leastRecall"] = f"{100 * min(recalls):.0f}", "leakage.json: search_recall, the smallest"
    return found


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def numbers_file(numbers: Mapping[str, tuple[str, str]]) -> str:
    """``numbers.tex``: one macro a number, with the report it comes from."""
    lines = [rf"\newcommand{{\{macro}}}{{{value}}} % {source}" for macro, (value, source) in numbers.items()]
    return "% Written from the JSON reports; do not edit.\n" + "\n".join(lines) + "\n"


# -- tables and figures --------------------------------------------------------------------


def _tables(config: DatasetConfig, reports: Reports) -> dict[str, pl.DataFrame]:
    statistics, leakage = reports["statistics"], reports["leakage"]
    total = statistics["counts"]["released_items"]
    tables = {
        "splits": _table(
            ("split", "items", "share"),
            [
                (row["value"], row["items"], row["items"] / total if total else 0.0)
                for row in statistics["counts"]["splits"]
            ],
        ),
        "classes": _table(
            ("class", "items"),
            [(row["value"], row["items"]) for row in statistics["classes"][:_MOST_ROWS] if row["value"]],
        ),
        "removed": _table(
            ("reason", "items"), [(row["reason"].replace("_", " "), row["items"]) for row in statistics["removed"]]
        ),
        "sources": _table(
            ("source", "licence", "author", "basis for redistribution"),
            [
                (source.id, source.licence, source.author, source.permission.basis if source.permission else None)
                for source in config.sources
            ],
        ),
        "leakage": _table(
            ("kind of pair", "across this split", "across a random split"),
            [
                (kind.replace("_", " "), found, leakage.get("random_by_kind", {}).get(kind))
                for kind, found in sorted(leakage["by_kind"].items())
            ],
        ),
        "label_sources": _table(
            ("label given by", "items"),
            [(row["value"] or "not stated", row["items"]) for row in reports["labels"].get("by_source", [])],
        ),
        "baselines": _table(
            ("model", "task", "input", "top-1", "from", "to", "top-5", "macro-F1"),
            [
                tuple(row.get(key) for key in ("model", "task", "inputs", "top1", "top1_low", "top1_high", "top5",
                                               "macro_f1"))
                for row in reports.get("baselines", {}).get("leaderboard", [])
            ],
        ),
        "other_splits": _table(
            ("model", "input", "split", "top-1", "from", "to", "macro-F1"),
            [
                (row["model"], row["inputs"], row["split"].replace("_", " "), row["top1"], row["top1_low"],
                 row["top1_high"], row["macro_f1"])
                for row in reports.get("baselines", {}).get("other_splits") or []
            ],
        ),
        "comparison": _comparison(reports["comparison"]),
    }  # fmt: skip
    return {name: table for name, table in tables.items() if table.height}


def _comparison(report: Mapping[str, Any]) -> pl.DataFrame:
    rows = [{**report["this"], "similarity": None}, *report["datasets"]]
    return _table(
        ("dataset", "year", "pictures", "items", "classes", "languages", "licence"),
        [
            (
                row["dataset"],
                str(row["year"] or "--"),
                *(
                    f"{row[key]:,}" if row[key] else "--"
                    for key in ("pictures", "items", "classes", "languages")
                ),
                row["licence"] or "--",
            )
            for row in rows
        ],
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(columns), orient="row", infer_schema_length=None)


def _figures(config: DatasetConfig, reports: Reports) -> dict[str, bytes]:
    with figures.as_pdf():
        drawn = {
            **figures.statistics_figures(reports["statistics"], list(config.split.ratios)),
            **(figures.cleanliness_figures(reports["cleanliness"]) if "cleanliness" in reports else {}),
            **(figures.baseline_figures(reports["baselines"]) if "baselines" in reports else {}),
            **figures.flow_figure(reports["statistics"]),
        }
    pdfs = {name.replace(".svg", ".pdf"): figure for name, figure in drawn.items()}
    return {name: figure for name, figure in pdfs.items() if _DRAWN.fullmatch(name) or name == "flow.pdf"}


def _keys(comparison: Mapping[str, Any]) -> dict[str, str]:
    """Dataset -> its key in the bibliography."""
    return {row["dataset"]: f"dataset{number}" for number, row in enumerate(comparison["datasets"], start=1)}


def _references(comparison: Mapping[str, Any]) -> str:
    """The methods' sources, which ship with the package, and those of the datasets that are compared."""
    keys = _keys(comparison)
    entries = []
    for row in comparison["datasets"]:
        fields = {
            "key": keys[row["dataset"]],  # what to sort by: datasets have no author
            "title": f"{{{latex_text(row['dataset'])}}}",
            "howpublished": ", ".join(rf"\url{{{_url(source)}}}" for source in row["sources"]),
            "year": str(row["year"] or ""),
        }
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
        entries.append(f"@misc{{{keys[row['dataset']]},\n{body}}}\n")
    methods = resources.files("dataset_pipeline").joinpath("templates/references.bib").read_text("utf-8")
    return methods + "".join(entries)


# -- text ----------------------------------------------------------------------------------


def _render(
    config: DatasetConfig,
    reports: Reports,
    numbers: Mapping[str, Any],
    tables: Mapping[str, pl.DataFrame],
    drawn: Mapping[str, bytes],
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dataset_pipeline"),
        undefined=StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: latex_text(value) if isinstance(value, str) else value,
        autoescape=False,  # noqa: S701 - LaTeX, not HTML: 'finalize' escapes every value
    )
    text = environment.get_template("paper.tex.j2").render(
        title=config.display_title,
        authors=_authors(config),
        date=config.date or "",
        description=config.description or "",
        url=_url(config.url) if config.url else None,
        licence=config.licence,
        documentation=config.documentation,
        has=lambda macro: macro in numbers and numbers[macro][0] != "0",
        pii=reports.get("pii", {}).get("is_enabled", config.pii.enabled),
        faces=reports.get("pii", {}).get("images", {}).get("statement"),
        tables=tables,
        figures=drawn,
        all_classes=len(reports["statistics"]["classes"]) <= _MOST_ROWS,
        models=[
            f"{name}: {what}."
            for name, what in sorted(reports.get("baselines", {}).get("models", {}).items())
        ],
        statements=reports["comparison"]["statements"],
        cited=list(_keys(reports["comparison"]).items()),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


@dataclass(frozen=True)
class _Latex:
    """What is LaTeX already, and is not escaped again."""

    text: str

    def __str__(self) -> str:
        return self.text


def _authors(config: DatasetConfig) -> _Latex:
    people = [
        latex_text(creator.name) + (rf"\\{latex_text(creator.affiliation)}" if creator.affiliation else "")
        for creator in config.creators
    ]
    return _Latex(r" \and ".join(people) or "(authors)")


def _url(url: str) -> _Latex:
    """A web address for ``\\url``, in which only percent-encoding is safe."""
    return _Latex(re.sub(r"[^A-Za-z0-9/:.?=_&~+-]", lambda match: f"\\%{ord(match[0]):02X}", url))
