"""Cells of CSV files that people open in a spreadsheet: text stays text.

A cell that begins with =, +, -, @, a tab or a line break is a formula to a spreadsheet (OWASP, "CSV Injection").
Such a cell gets an apostrophe in front, which spreadsheets do not show; :func:`plain_cell` takes it off again, so
that a file that came back from one reads as it was written. Quoting is the CSV writer's.
"""

from collections.abc import Iterable

import polars as pl

_FORMULA = r"^'*[=+\-@\t\r\n\uFF0B\uFF0D\uFF1D\uFF20]"
"""Also after apostrophes that were there before, so that taking one off is the exact inverse; and full-width
signs, which some spreadsheets read as plain ones."""


def safe_cells(columns: Iterable[str]) -> list[pl.Expr]:
    """The columns (String) with an apostrophe in front of what a spreadsheet would calculate."""
    return [
        pl.when(pl.col(name).str.contains(_FORMULA))
        .then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(pl.col(name))
        .alias(name)
        for name in columns
    ]


def plain_cell(column: str) -> pl.Expr:
    """The inverse of :func:`safe_cells` for one column."""
    value = pl.col(column)
    return (
        pl.when(value.str.contains(r"^'" + _FORMULA[1:]))
        .then(value.str.slice(1))
        .otherwise(value)
        .alias(column)
    )
