"""Great Expectations suites as gates.

The suites are data: ``dataset_pipeline/expectations/<asset>.json``, in the shape Great Expectations
itself uses, with ``meta.name`` (the check's name), ``meta.table`` (which table of the snapshot) and
``meta.remedy``. ``$texts`` as a column stands for every text column, ``$splits`` as a value set for
the configured splits. Does not belong here: what is expected.
"""

import functools
import json
import os
from importlib import resources
from typing import Any, get_args

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.defs.stage import Audit, Gate
from dataset_pipeline.stages.gates import EXAMPLE_ROWS, Outcome, Severity, redacted

_PUBLIC_COLUMNS = frozenset(
    {"item_id", "source", "image_ref", "label", "label_source", "language", "licence", "split", "problem"}
)
"""Columns whose values may be shown as examples; all others are masked."""


def suite_gates(asset: str, config: DatasetConfig) -> tuple[Gate, ...]:
    """One gate per expectation of the asset's suite (and per text column, where it says ``$texts``)."""
    suite = json.loads(
        resources.files("dataset_pipeline").joinpath(f"expectations/{asset}.json").read_text("utf-8")
    )
    gates = []
    for expectation in suite["expectations"]:
        meta = expectation["meta"]
        if expectation["severity"] not in get_args(Severity):
            # A misspelt 'critical' would stop nothing.
            raise ValueError(f"{asset}: {meta['name']}: severity {expectation['severity']!r} is unknown")
        for suffix, kwargs in _expanded(expectation["kwargs"], config):
            gates.append(
                Gate(
                    name=meta["name"] + suffix,
                    description=meta["description"],
                    severity=expectation["severity"],
                    judge=functools.partial(
                        _judge, expectation_type=expectation["type"], kwargs=kwargs, table=meta["table"]
                    ),
                    remedy=meta["remedy"],
                )
            )
    return tuple(gates)


def _expanded(kwargs: dict[str, Any], config: DatasetConfig) -> list[tuple[str, dict[str, Any]]]:
    """The expectation's arguments, once per column that ``$texts`` stands for."""
    if kwargs.get("value_set") == "$splits":
        kwargs = {**kwargs, "value_set": sorted(config.split.ratios)}
    if kwargs.get("column") == "$texts":
        return [(f"_{name}", {**kwargs, "column": name}) for name in config.text_names]
    return [("", kwargs)]


def _judge(audit: Audit, *, expectation_type: str, kwargs: dict[str, Any], table: str) -> Outcome:
    """Run one expectation on the columns it needs."""
    frame = audit.snapshot.table(table)
    names = frame.collect_schema().names()
    columns = [value for key, value in kwargs.items() if key.startswith("column") and isinstance(value, str)]
    if absent := sorted(set(columns) - set(names)):
        return Outcome(False, f"expected columns {absent} in table '{table}', found {names}")
    ids = [name for name in names if name in {"item_id", "image_ref"}][:1]
    origin = [name for name in names if name == "source"]
    data = frame.select(*dict.fromkeys([*ids, *origin, *columns])).collect()
    result = _validate(data, expectation_type, kwargs)
    numbers = {
        key: result["result"][key]
        for key in ("element_count", "unexpected_count", "missing_count", "observed_value")
        if isinstance(result["result"].get(key), (int, float, str))
    }
    error = _exception(result)
    if error:
        raise RuntimeError(f"the expectation {expectation_type}({kwargs}) could not be evaluated: {error}")
    is_passed = bool(result["success"])
    return Outcome(
        is_passed,
        _summary(expectation_type, kwargs, result["result"], is_passed),
        numbers,
        None if is_passed else _examples(data, result["result"]),
    )


@functools.cache
def _batch_definition() -> Any:
    """Great Expectations takes seconds to import: once a process, and only where a check runs."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # it would call home
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return (
        context.data_sources.add_pandas("tables")
        .add_dataframe_asset("table")
        .add_batch_definition_whole_dataframe("all")
    )


def _validate(data: pl.DataFrame, expectation_type: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    batch = _batch_definition().get_batch({"dataframe": data.to_pandas()})
    from great_expectations.expectations.registry import get_expectation_impl

    expectation = get_expectation_impl(expectation_type)(**kwargs)
    validated: dict[str, Any] = batch.validate(expectation, result_format="COMPLETE").to_json_dict()
    return validated


def _exception(result: dict[str, Any]) -> str | None:
    """The message of an exception inside Great Expectations, which must not pass as a failed check."""
    info = result["exception_info"]
    entries = [info] if "raised_exception" in info else list(info.values())
    return next((str(entry["exception_message"]) for entry in entries if entry["raised_exception"]), None)


def _summary(expectation_type: str, kwargs: dict[str, Any], result: dict[str, Any], is_passed: bool) -> str:
    rule = expectation_type.removeprefix("expect_").replace("column_values_", "").replace("_", " ")
    expected = f"{kwargs['column']} expected {rule}" if "column" in kwargs else f"expected {rule}"
    if "unexpected_count" in result:
        found = f"{result['unexpected_count']:,} of {result['element_count']:,} rows fail"
        allowed = f", at most {1 - kwargs['mostly']:.0%} may" if "mostly" in kwargs else ""
        return f"{expected}: {found}{allowed}"
    limits = ", ".join(f"{name} {value}" for name, value in kwargs.items())
    return f"{expected}: found {result.get('observed_value')}" + ("" if is_passed else f", {limits} expected")


def _examples(data: pl.DataFrame, result: dict[str, Any]) -> pl.DataFrame | None:
    """The first rows that do not meet the expectation; none where it is about the table as a whole."""
    rows = result.get("unexpected_index_list") or []
    return redacted(data[rows[:EXAMPLE_ROWS]], _PUBLIC_COLUMNS) if rows else None
