"""The small tables that papers quote, as CSV and LaTeX, from the JSON reports.

Belongs here: picking rows out of reports and writing them safely. Does not belong here: computing.
"""

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

import polars as pl

from dataset_pipeline.stages.cleanliness import PRICE
from dataset_pipeline.stages.statistics import class_balance_table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
_FORMULA = re.compile(r"[\t\r\n]|[\s\ufeff]*[=+\-@＝＋－＠]")
"""Starts of a formula, full-width ones included; spreadsheets trim what stands before them."""
_LATIN = re.compile("[\u00a1-\u017f‐-”…€]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def result_tables(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, pl.DataFrame]:
    """Name -> table; a report that is not there gives none."""
    statistics = reports["statistics"]
    tables = {
        "splits": pl.DataFrame(
            [(row["value"], row["items"]) for row in statistics["counts"]["splits"]],
            schema={"split": pl.String, "items": pl.Int64}, orient="row",
        ),
        "class_balance": class_balance_table(dict(statistics)),
        "languages": pl.DataFrame(
            [(row["value"], row["items"]) for row in statistics["languages"]],
            schema={"language": pl.String, "items": pl.Int64}, orient="row",
        ),
        "removed": pl.DataFrame(
            statistics["removed"], schema={"stage": pl.String, "reason": pl.String, "items": pl.Int64}
        ),
    }  # fmt: skip
    if rows := reports.get("baselines", {}).get("leaderboard"):
        tables["baselines"] = pl.DataFrame(rows)
    if rows := reports.get("baselines", {}).get("retrieval"):
        tables["retrieval"] = pl.DataFrame(rows)
    if rows := reports.get("labels", {}).get("errors", {}).get("examples"):
        tables["label_candidates"] = pl.DataFrame(rows)
    if rows := reports.get("baselines", {}).get("other_splits"):
        tables["other_splits"] = pl.DataFrame(rows)
    if price := reports.get("cleanliness", {}).get("price"):
        rows = [
            {"joined_by": kind, **row}
            for kind in ("image", "text")
            if kind in price
            for row in price[kind]["rows"]
        ]
        tables["price_of_cleanliness"] = pl.DataFrame(rows, schema={"joined_by": pl.String, **PRICE})
    return tables


def files_of(tables: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    """File name -> content, a CSV and a LaTeX file for each table."""
    files: dict[str, str] = {}
    for name, table in tables.items():
        files[f"{name}.csv"] = to_csv(table)
        files[f"{name}.tex"] = to_latex(table)
    return files


def to_csv(table: pl.DataFrame) -> str:
    """CSV that a spreadsheet reads as values: a text that looks like a formula gets an apostrophe in front."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([[_harmless(value) for value in row] for row in table.iter_rows()])
    return stream.getvalue()


def to_latex(table: pl.DataFrame) -> str:
    """A ``tabular`` for the booktabs package."""
    numeric = [dtype.is_numeric() for dtype in table.dtypes]
    lines = [
        rf"\begin{{tabular}}{{{''.join('r' if is_number else 'l' for is_number in numeric)}}}",
        r"\toprule",
        " & ".join(latex_text(name.replace("_", " ")) for name in table.columns) + r" \\",
        r"\midrule",
        *(" & ".join(latex_text(value) for value in row) + r" \\" for row in table.iter_rows()),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def latex_text(value: Any) -> str:
    """A value as text that LaTeX prints and does not interpret.

    Characters that pdfLaTeX's ordinary fonts lack become ``\\unichar{HEX}{character}``, which a document defines.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = _CONTROLS.sub("", " ".join(str(value).split()))
    escaped = "".join(_LATEX.get(character) or _in_latex(character) for character in text)
    # After a line's end or a rule, "[" and "*" would be read as its arguments.
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped[:1] in ("[", "*") else escaped


def _in_latex(character: str) -> str:
    if character.isascii() or _LATIN.match(character):
        return character
    return rf"\unichar{{{ord(character):04X}}}{{{character}}}"
