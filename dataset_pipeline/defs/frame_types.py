"""dagster-pandas types of the small result tables that people quote from.

Belongs here: columns, types and ranges. Does not belong here: per-item tables, which are polars
and guarded by the suites in ``expectations/``.
"""

import functools
import warnings
from typing import Any

import polars as pl

from dataset_pipeline.defs.stage import Audit, Gate
from dataset_pipeline.stages.gates import EXAMPLE_ROWS, Outcome

_SHARE = {"min_value": 0, "max_value": 1}


@functools.cache
def frame_types() -> dict[str, Any]:
    """The types by table name; dagster-pandas is imported with the first one that is needed."""
    import dagster as dg
    from dagster_pandas import PandasColumn, create_dagster_pandas_dataframe_type

    warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*(PandasColumn|pandas_dataframe)")

    return {
        "split_summary": create_dagster_pandas_dataframe_type(
            name="SplitSummary",
            description="One row per split.",
            columns=[
                PandasColumn.string_column("split", non_nullable=True, unique=True),
                PandasColumn.integer_column("items", min_value=1, non_nullable=True),
                PandasColumn.float_column("share", **_SHARE, non_nullable=True),
                PandasColumn.float_column("target_share", **_SHARE, non_nullable=True),
                PandasColumn.integer_column("groups", min_value=1, non_nullable=True),
            ],
        ),
        "class_balance": create_dagster_pandas_dataframe_type(
            name="ClassBalance",
            description="One row per label.",
            columns=[
                PandasColumn.string_column("label", non_nullable=True, unique=True),
                PandasColumn.integer_column("items", min_value=1, non_nullable=True),
                PandasColumn.float_column("share", **_SHARE, non_nullable=True),
            ],
        ),
        "retrieval": create_dagster_pandas_dataframe_type(
            name="RetrievalLeaderboard",
            description="One row per model and direction.",
            columns=[
                PandasColumn.string_column("model", non_nullable=True),
                PandasColumn.string_column("direction", non_nullable=True),
                PandasColumn.float_column("recall_at_1", **_SHARE, non_nullable=True),
                PandasColumn.float_column("recall_at_1_low", **_SHARE, non_nullable=True),
                PandasColumn.float_column("recall_at_1_high", **_SHARE, non_nullable=True),
                PandasColumn.float_column("recall_at_5", **_SHARE, non_nullable=True),
                PandasColumn.float_column("recall_at_10", **_SHARE, non_nullable=True),
                PandasColumn.float_column("median_rank", min_value=1, non_nullable=True),
                PandasColumn.integer_column("queries", min_value=1, non_nullable=True),
                PandasColumn.integer_column("candidates", min_value=2, non_nullable=True),
            ],
        ),
        "leaderboard": create_dagster_pandas_dataframe_type(
            name="BaselineLeaderboard",
            description="One row per baseline.",
            columns=[
                PandasColumn.string_column("model", non_nullable=True),
                PandasColumn.string_column("task", non_nullable=True),
                PandasColumn.string_column("inputs", non_nullable=True),
                PandasColumn.float_column("top1", **_SHARE, non_nullable=True),
                PandasColumn.float_column("top1_low", **_SHARE, non_nullable=True),
                PandasColumn.float_column("top1_high", **_SHARE, non_nullable=True),
                PandasColumn.float_column("top5", **_SHARE, ignore_missing_vals=True),
                PandasColumn.float_column("macro_f1", **_SHARE, non_nullable=True),
                PandasColumn.float_column("ece", **_SHARE, non_nullable=True),
                PandasColumn.integer_column("n_test", min_value=1, non_nullable=True),
            ],
        ),
    }


def frame_type_gate(table: str, type_name: str) -> Gate:
    """A gate that holds a snapshot's table against its dagster-pandas type."""
    return Gate(
        name=f"{type_name}_well_formed",
        description=f"The {type_name.replace('_', ' ')} has the columns, types and ranges that its readers rely on.",
        severity="critical",
        judge=functools.partial(_judge, table=table, type_name=type_name),
        remedy="This points to a fault of the pipeline: please report it with the check's numbers.",
    )


def _judge(audit: Audit, *, table: str, type_name: str) -> Outcome:
    return judge_frame(audit.snapshot.table(table).collect(), type_name)


def judge_frame(frame: pl.DataFrame, type_name: str) -> Outcome:
    """Whether a table meets the dagster-pandas type of that name."""
    verdict = frame_types()[type_name].type_check(None, frame.to_pandas())
    numbers = {"rows": frame.height}
    if verdict.success:
        return Outcome(True, f"{frame.height:,} rows of the expected shape", numbers)
    fault = str(verdict.description).split("The offending")[0].strip()
    return Outcome(False, fault, numbers, frame.head(EXAMPLE_ROWS))
