"""What an asset's page and a check's page show: counts, schema, small tables and pictures.

Values are kept few and small: they live in Dagster's event log. Does not belong here: computing
anything that a stage or a report does not already hold.
"""

import base64
import io
from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from dataset_pipeline.adapters.store import Snapshot
from dataset_pipeline.stages.gates import Outcome
from dataset_pipeline.tables import COLUMN_MEANINGS, THUMBNAIL_SIDE_PX

_SAMPLE_ROWS = 5
_SHEET_PICTURES = 12
_HIDDEN = frozenset({"thumbnail", "group_keys", "author"})


def of_snapshot(snapshot: Snapshot, main_table: str | None, *, is_private: bool) -> dict[str, Any]:
    """Metadata of a materialisation."""
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
        shown["dagster/column_schema"] = dg.TableSchema(
            [
                dg.TableColumn(name, str(dtype), description=COLUMN_MEANINGS.get(name))
                for name, dtype in schema.items()
            ]
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
    return ", ".join(parts) or f"{shown['dagster/size_bytes'] / 2**20:,.1f} MiB"


def of_outcome(outcome: Outcome, snapshot_id: str, remedy: str) -> dict[str, Any]:
    """Metadata of a check's result: what was found, in which snapshot, and what to do."""
    shown: dict[str, Any] = {
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
