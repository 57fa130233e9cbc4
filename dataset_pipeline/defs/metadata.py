"""What an asset's page and a check's page show: counts, schema, small tables and pictures.

Values are kept few and small: they live in Dagster's event log. Does not belong here: computing
anything that a stage or a report does not already hold.
"""

import base64
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import dagster as dg
import polars as pl

from dataset_pipeline.adapters.store import Snapshot
from dataset_pipeline.defs.columns import Origins
from dataset_pipeline.stages.diff import TableChanges
from dataset_pipeline.stages.gates import Outcome
from dataset_pipeline.tables import COLUMN_MEANINGS, THUMBNAIL_SIDE_PX

_SAMPLE_ROWS = 5
_SHEET_PICTURES = 12
_HIDDEN = frozenset({"thumbnail", "group_keys", "author"})


CODE_VARIABLE: Final = "DATASET_PIPELINE_CODE_URL"
"""Where this program's files can be read, such as https://github.com/you/repository/blob/COMMIT."""
_DAGSTER_DEV_VARIABLE: Final = "DAGSTER_IS_DEV_CLI"


def of_code(body: Any, modules: Sequence[ModuleType], config_path: Path | None) -> dict[str, Any]:
    """Metadata of an asset's definition: the code that makes it, and its ``dataset.yaml``.

    On the machine of whoever runs ``dataset-pipeline dev`` these are files; elsewhere they are addresses below
    ``$DATASET_PIPELINE_CODE_URL``, where that is set, and nothing otherwise: paths of another machine lead nowhere.
    """
    root = Path(__file__).parents[2]
    code = body.__code__
    places = [(Path(code.co_filename), code.co_firstlineno, body.__name__)]
    places += [(Path(str(module.__file__)), 1, module.__name__.split(".", 1)[-1]) for module in modules[:1]]
    address = os.environ.get(CODE_VARIABLE, "").rstrip("/")
    is_here = not address and os.environ.get(_DAGSTER_DEV_VARIABLE)
    if config_path is not None and (is_here or config_path.is_relative_to(Path.cwd())):
        places.append((config_path, 1, config_path.name))
    if not (address or is_here):
        return {}
    with warnings.catch_warnings():
        # Users can do nothing about it; the pinned version of Dagster keeps what the warning says may change.
        warnings.simplefilter("ignore", dg.BetaWarning)
        links = [
            dg.LocalFileCodeReference(file_path=str(path), line_number=line, label=label)
            if is_here
            else dg.UrlCodeReference(url=f"{address}/{_below(path, root)}#L{line}", label=label)
            for path, line, label in places
        ]
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=links)}


def _below(path: Path, root: Path) -> str:
    """Path in the repository: the program's folder is in its root, and so is the folder that it was started in."""
    return path.relative_to(root if path.is_relative_to(root) else Path.cwd()).as_posix()


def of_changes(changes: TableChanges | None, before: Snapshot | None) -> dict[str, Any]:
    """Metadata of what differs from the version before; empty where there is none or its rows have no key."""
    if changes is None or before is None:
        return {}
    rows = {"rows_added": changes.added, "rows_removed": changes.removed, "rows_changed": changes.changed}
    shown: dict[str, Any] = {**rows, "compared_with": before.id}
    if changes.changed_by_column:
        shown["changed_columns"] = markdown_table(
            pl.DataFrame(list(changes.changed_by_column.items()), schema=["column", "rows"], orient="row")
        )
    for name, columns in (
        ("columns_added", changes.columns_added),
        ("columns_gone", changes.columns_removed),
    ):
        if columns:
            shown[name] = ", ".join(columns)
    return shown


def of_snapshot(
    snapshot: Snapshot,
    main_table: str | None,
    *,
    is_private: bool,
    origins: Origins | None = None,
    key: Callable[[str], dg.AssetKey] = dg.AssetKey,
) -> dict[str, Any]:
    """Metadata of a materialisation; ``origins``: where its main table's columns come from, by ``key`` of an asset."""
    files = [path for path in snapshot.folder.rglob("*") if path.is_file()]
    shown: dict[str, Any] = {
        "dagster/uri": str(snapshot.folder),
        "dagster/size_bytes": sum(path.stat().st_size for path in files),
        "snapshot": snapshot.id,
    }
    if main_table is not None:
        table = snapshot.table(main_table)
        schema = table.collect_schema()
        shown["dagster/row_count"] = int(table.select(pl.len()).collect().item())
        whys = {name: origin.why for name, origin in (origins or {}).items()}
        shown["dagster/column_schema"] = dg.TableSchema(
            [
                dg.TableColumn(
                    name,
                    str(dtype),
                    description="; ".join(filter(None, [COLUMN_MEANINGS.get(name), whys.get(name)])) or None,
                )
                for name, dtype in schema.items()
            ]
        )
        if origins:
            shown["dagster/column_lineage"] = dg.TableColumnLineage(
                {
                    name: [dg.TableColumnDep(key(asset), column) for asset, column in origins[name].columns]
                    for name in schema
                }
            )
        if not is_private:
            shown["sample"] = markdown_table(table.head(_SAMPLE_ROWS).collect())
        if "thumbnail" in schema:
            shown["pictures"] = _some_pictures(table)
    for place in ("removed", "metadata/removed"):
        if (snapshot.folder / f"{place}.parquet").exists():
            removed = snapshot.table(place).group_by("reason").len("rows").sort("rows", "reason").collect()
            shown["removed_rows"] = int(removed["rows"].sum())
            if removed.height:
                shown["removed_by_reason"] = markdown_table(removed.reverse())
    for name, fact in snapshot.facts.items():
        shown[name] = fact_value(fact)
    return {name: value for name, value in shown.items() if value is not None and value != []}


def _some_pictures(table: pl.LazyFrame) -> Any:
    """Pictures spread over the whole table, so that the sheet is not one folder's first files."""
    # Batch by batch: all thumbnails of a large table are more than fits into memory.
    is_readable = table.select(pl.col("thumbnail").is_not_null()).collect(engine="streaming").to_series()
    readable = is_readable.arg_true()
    wanted = readable.gather_every(max(1, len(readable) // _SHEET_PICTURES)).head(_SHEET_PICTURES)
    spread = table.select("thumbnail").with_row_index("//row").filter(pl.col("//row").is_in(wanted.implode()))
    return contact_sheet(spread.sort("//row").collect(engine="streaming")["thumbnail"].to_list())


def outcome_line(shown: Mapping[str, Any]) -> str:
    """A materialisation's metadata in a few words, for a log."""
    parts = []
    if "dagster/row_count" in shown:
        parts.append(f"{shown['dagster/row_count']:,} rows")
    if shown.get("removed_rows"):
        parts.append(f"{shown['removed_rows']:,} removed")
    parts = parts or [f"{shown['dagster/size_bytes'] / 2**20:,.1f} MiB"]
    if shown.get("is_kept"):
        parts.append("as it was")
    return ", ".join(parts)


def of_outcome(outcome: Outcome, snapshot_id: str, expected: str, remedy: str) -> dict[str, Any]:
    """Metadata of a check's result: what was expected and found, in how many rows and which, and what to do."""
    shown: dict[str, Any] = {
        "expected": expected,
        "found": outcome.summary,
        "snapshot": snapshot_id,
        **{k: v for k, v in outcome.numbers.items() if v is not None},
    }
    if outcome.examples is not None and outcome.examples.height:
        shown["examples"] = markdown_table(outcome.examples)
    if remedy and not outcome.is_passed:
        shown["remedy"] = remedy
    return shown


def fact_value(fact: Any) -> Any:
    """A JSON fact as Dagster shows it best: a list of records as a table, the rest as it is."""
    if isinstance(fact, list) and fact and isinstance(fact[0], Mapping):
        frame = pl.DataFrame(fact, infer_schema_length=None)
        names = [name for name in frame.columns if frame[name].dtype == pl.String]
        # JSON keeps no order of keys: what a row is about comes first, then its numbers.
        return markdown_table(frame.select(*names, *(name for name in frame.columns if name not in names)))
    if isinstance(fact, str) and fact.startswith("data:image/"):
        return dg.MetadataValue.md(f"![]({fact})")
    return fact


def markdown_table(frame: pl.DataFrame) -> Any:
    """A small table; what comes from data cannot become markup in it."""
    names = [name for name in frame.columns if name not in _HIDDEN and frame[name].dtype != pl.Binary]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in frame.select(names).iter_rows():
        lines.append("| " + " | ".join(_cell(value) for value in row) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value).replace("\n", " ")
    text = text if len(text) <= 60 else text[:59] + "…"
    for character in "\\`*_{}[]<>()#+!|~":
        text = text.replace(character, f"\\{character}" if character != "<" else "&lt;")
    return text


def contact_sheet(thumbnails: list[bytes]) -> Any:
    """A row of thumbnails (``THUMBNAIL_SIDE_PX`` square, sRGB) as one picture."""
    if not thumbnails:
        return None
    from PIL import Image

    side = THUMBNAIL_SIDE_PX
    sheet = Image.new("RGB", (side * len(thumbnails), side), "white")
    for place, thumbnail in enumerate(thumbnails):
        sheet.paste(Image.frombytes("RGB", (side, side), thumbnail), (place * side, 0))
    stream = io.BytesIO()
    sheet.resize((sheet.width * 2, sheet.height * 2)).save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    return dg.MetadataValue.md(f"![pictures](data:image/jpeg;base64,{data})")
