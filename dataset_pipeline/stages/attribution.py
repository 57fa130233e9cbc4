"""The attributions of a release: who made each item, under which licence, and where it is.

Belongs here: the rows of ATTRIBUTION.csv, one per item whose licence asks for attribution or whose author is
known. Does not belong here: what licences allow (``licences.py``) and writing files (``adapters/archive.py``).

What is listed follows section 3(a)(1) of the Creative Commons licences, version 4.0: the creator, the licence and
where its text is, where the material is, and that it was modified.
"""

from collections.abc import Mapping
from typing import Final

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.cells import safe_cells
from dataset_pipeline.stages.licences import licence_ids, needs_attribution
from dataset_pipeline.stages.release import licence_url
from dataset_pipeline.tables import Schema

ATTRIBUTIONS: Final[Schema] = {
    "item_id": pl.String(),
    "author": pl.String(),
    "licence": pl.String(),
    "licence_url": pl.String(),
    "source": pl.String(),
    "url": pl.String(),
    "is_modified": pl.String(),
}

MODIFIED: Final = "yes: metadata removed, texts normalised"
"""What a release does to every item, as licences want it said."""


def attributions(items: pl.LazyFrame, config: DatasetConfig) -> pl.LazyFrame:
    """``ATTRIBUTIONS`` of released ``items`` (item_id, source, licence, author, url), sorted by item_id.

    An item without an author of its own has its source's; one without a url, its source's. Items that nobody
    asks attribution for, and whose author nobody knows, are left out. Cells are safe in a spreadsheet.
    """
    known = items.select(pl.col("licence").unique()).collect().to_series().to_list()
    urls = {licence: _licence_urls(licence) for licence in known if licence}
    asked_for = [licence for licence in known if needs_attribution(licence)]
    named = items.select(
        "item_id",
        pl.coalesce("author", _of_source({s.id: s.author for s in config.sources})).alias("author"),
        "licence",
        pl.col("licence").replace_strict(urls, default=None, return_dtype=pl.String).alias("licence_url")
        if urls
        else pl.lit(None, pl.String).alias("licence_url"),
        "source",
        pl.coalesce("url", _of_source({s.id: s.url for s in config.sources})).alias("url"),
        pl.lit(MODIFIED).alias("is_modified"),
    )
    is_named = pl.col("author").is_not_null() | pl.col("licence").is_in(asked_for, nulls_equal=True)
    return named.filter(is_named).select(*ATTRIBUTIONS).sort("item_id").with_columns(safe_cells(ATTRIBUTIONS))


def _of_source(values: Mapping[str, str | None]) -> pl.Expr:
    """The value of the row's source."""
    given = {source: value for source, value in values.items() if value is not None}
    if not given:
        return pl.lit(None, pl.String)
    return pl.col("source").replace_strict(given, default=None, return_dtype=pl.String)


def _licence_urls(licence: str) -> str:
    return " ".join(licence_url(name) for name in licence_ids(licence))
