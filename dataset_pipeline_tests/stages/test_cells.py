"""Cells that a spreadsheet would calculate become text, and read back as they were."""

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_pipeline.stages.cells import plain_cell, safe_cells


def safe(*values: str | None) -> list[str | None]:
    frame = pl.DataFrame({"cell": values}, schema={"cell": pl.String})
    return frame.select(safe_cells(["cell"]))["cell"].to_list()


def plain(*values: str | None) -> list[str | None]:
    frame = pl.DataFrame({"cell": values}, schema={"cell": pl.String})
    return frame.select(plain_cell("cell"))["cell"].to_list()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+44 20", "'+44 20"),
        ("-5", "'-5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1", "'＝1"),
        ("'=1", "''=1"),  # so that "'=1" reads back as it was
        ("a=b", "a=b"),
        ("'quoted'", "'quoted'"),
        ("", ""),
        (None, None),
    ],
)
def test_a_formula_becomes_text(cell: str | None, expected: str | None) -> None:
    assert safe(cell) == [expected]


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\nab＝ ")))
def test_safe_cells_read_back(cell: str) -> None:
    [written] = safe(cell)
    assert written is not None
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert plain(written) == [cell]


def test_a_csv_reader_sees_one_cell_per_value() -> None:
    nasty = ['=cmd|"/c calc"!A1', 'a,"b"\nc', "-1;DROP"]
    frame = pl.DataFrame({"cell": nasty}).select(safe_cells(["cell"]))
    [_head, *rows] = csv.reader(io.StringIO(frame.write_csv()))
    assert [row[0] for row in rows] == ['\'=cmd|"/c calc"!A1', 'a,"b"\nc', "'-1;DROP"]
