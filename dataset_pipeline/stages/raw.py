"""Rows of a manifest as raw items: what the config says a column means, applied to every row.

Belongs here: renaming, templates, constants, and faults that a row shows by itself. Does not
belong here: reading files (``adapters/sources.py``), and judging content (``clean.py``).
"""

from collections.abc import Mapping

import polars as pl

from dataset_pipeline.config import Source, is_inside, template_columns
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.tables import ANNOTATIONS, FACES, IMAGE_BYTES_ROW, IMAGES, RAW_ITEMS


def raw_items(manifest: pl.LazyFrame, source: Source) -> pl.LazyFrame:
    """Rows of ``manifest`` in the shape of ``RAW_ITEMS``, plus one column per text of the source.

    A row is never left out: one whose image path is missing or leaves the image root gets a
    ``problem``. Empty cells are nulls. Raises ``ConfigError`` for a column that is not there.
    """
    schema = manifest.collect_schema()
    columns = source.columns
    _require(source, schema.names())
    rows = manifest.with_row_index("_row", offset=1)
    image = image_path(source, schema)
    item_id = _item_id(source, schema, image)
    texts = [_cell(column).alias(name) for name, column in columns.texts.items()]
    shaped = rows.select(
        item_id.alias("item_id"),
        pl.lit(source.id).alias("source"),
        (pl.lit(None, pl.String) if image is None else image).alias("_path"),
        # The listing of a folder tree brings its label along: the first folder's name.
        _cell_or_null(columns.label or ("label" if is_folder_tree(schema) else None)).alias("label"),
        _cell_or_constant(columns.label_source, schema).alias("label_source"),
        _cell_or_constant(columns.language, schema).alias("language"),
        _licence(source, schema).alias("licence"),
        _cell_or_constant(columns.author or source.author, schema).alias("author"),
        _cell_or_null(columns.url).alias("url"),
        _named_cells({column: column for column in columns.group_keys}).alias("group_keys"),
        _cell_or_null(columns.split).alias("published_split"),
        _cell_or_null(columns.date).alias("date"),
        _named_cells(columns.strata).alias("strata"),
        *texts,
    )
    if image is None:
        problem = pl.lit(None, pl.String)
    elif columns.image in _bytes_columns(schema):
        problem = pl.when(pl.col("_path").is_null()).then(pl.lit("image_not_named"))
    else:
        inside = pl.col("_path").map_elements(is_inside, return_dtype=pl.Boolean)
        problem = (
            pl.when(pl.col("_path").is_null())
            .then(pl.lit("image_not_named"))
            .when(~inside)
            .then(pl.lit("image_path_outside_root"))
        )
    faulty = pl.col("problem").is_not_null()
    return (
        shaped.with_columns(problem.alias("problem"))
        .with_columns(
            pl.when(~faulty & pl.col("_path").is_not_null())
            .then(pl.concat_str(pl.lit(f"{source.id}/"), pl.col("_path")))
            .alias("image_ref"),
            pl.when(faulty)
            .then(pl.col("_path").str.replace_all("\0", "␀", literal=True))
            .alias("problem_detail"),
        )
        .select(
            *(pl.col(name).cast(dtype) for name, dtype in RAW_ITEMS.items()),
            *source.columns.texts,
        )
    )


def annotations(manifest: pl.LazyFrame, source: Source) -> pl.LazyFrame:
    """``ANNOTATIONS``: the labels of the source's annotators, one row each; empty cells are no label.

    Raises ``ConfigError`` for a column that is not there.
    """
    schema = manifest.collect_schema()
    _require(source, schema.names())
    rows = manifest.with_row_index("_row", offset=1)
    item_id = _item_id(source, schema, image_path(source, schema)).alias("item_id")
    return pl.concat(
        [
            pl.LazyFrame(schema=dict(ANNOTATIONS)),
            *(
                rows.select(
                    item_id, annotator=pl.lit(name), label=_cell(column).str.strip_chars()
                ).drop_nulls(["item_id", "label"])
                for name, column in source.columns.annotations.items()
            ),
        ]
    )


def _item_id(source: Source, schema: pl.Schema, image: pl.Expr | None) -> pl.Expr:
    """The id of a row that carries its number as ``_row``; ``image``: the path of its picture."""
    columns = source.columns
    if columns.item_id is not None:
        return _cell(columns.item_id)
    if image is not None and columns.image not in _bytes_columns(schema):
        return pl.coalesce(image, pl.concat_str(pl.lit("row-"), pl.col("_row").cast(pl.String)))
    return pl.concat_str(pl.lit(f"{source.id}-"), pl.col("_row").cast(pl.String))


def image_path(source: Source, schema: pl.Schema) -> pl.Expr | None:
    """Path of the row's image below the image root; for image bytes, where they are; None: no images."""
    named = source.columns.image
    if named is None:
        # A folder tree names its images itself.
        named = "image" if is_folder_tree(schema) else None
    if named is None:
        return None
    if named in _bytes_columns(schema):
        return pl.when(pl.col(named).is_not_null()).then(pl.col(IMAGE_BYTES_ROW))
    parts = template_columns(named)
    if named in schema or not parts:
        return _cell(named).str.replace_all("\\", "/", literal=True)
    pieces, rest = [], named
    for part in parts:
        before, rest = rest.split(f"{{{part}}}", 1)
        pieces += [pl.lit(before), _cell(part)]
    # A missing part leaves the whole path missing, not a path with a hole in it.
    return pl.concat_str([*pieces, pl.lit(rest)], ignore_nulls=False).str.replace_all("\\", "/", literal=True)


def is_folder_tree(schema: pl.Schema) -> bool:
    """Whether the manifest is the listing of a folder tree."""
    return schema.names() == ["item_id", "image", "label"]


def orphan_rows(raw: pl.LazyFrame, images: pl.LazyFrame) -> pl.LazyFrame:
    """A raw item for every image that no row names: its id is the image's reference."""
    return (
        images.select("image_ref")
        .join(raw.select("image_ref").drop_nulls(), on="image_ref", how="anti")
        .sort("image_ref")
        .select(
            pl.col("image_ref").alias("item_id"),
            pl.col("image_ref").str.split("/").list.first().alias("source"),
            "image_ref",
            *(
                pl.lit(None, dtype).alias(name)
                for name, dtype in RAW_ITEMS.items()
                if name not in {"item_id", "source", "image_ref", "problem"}
            ),
            pl.lit("image_without_row").alias("problem"),
        )
        .select(*RAW_ITEMS)
    )


def image_table(listed: pl.LazyFrame, scanned: pl.LazyFrame) -> pl.LazyFrame:
    """``IMAGES``: one row per listed image, with the facts of its content, sorted by reference; no faces are known yet."""
    joined = listed.join(scanned, on="sha256", how="left", suffix="_scanned")
    unreadable = pl.when(pl.col("sha256").is_null()).then(pl.lit("image_undecodable"))
    return (
        joined.with_columns(
            pl.coalesce("problem", "problem_scanned", unreadable).alias("problem"),
            pl.coalesce("problem_detail", "problem_detail_scanned").alias("problem_detail"),
            pl.lit(None, FACES).alias("faces"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in IMAGES.items())
        .sort("image_ref")
    )


def _require(source: Source, there: list[str]) -> None:
    """Every column that the config names without an alternative must be there."""
    columns = source.columns
    wanted: list[tuple[str, str]] = [
        (f"columns.{key}", value)
        for key in ("item_id", "label", "url", "split", "date")
        if (value := getattr(columns, key)) is not None
    ]
    wanted += [(f"columns.texts.{name}", column) for name, column in columns.texts.items()]
    wanted += [("columns.group_keys", column) for column in columns.group_keys]
    wanted += [(f"columns.annotations.{name}", column) for name, column in columns.annotations.items()]
    wanted += [(f"columns.strata.{name}", column) for name, column in columns.strata.items()]
    if columns.image is not None and columns.image not in there:
        parts = template_columns(columns.image)
        wanted += [("columns.image", part) for part in parts or [columns.image]]
    missing = [f"{key}: '{column}'" for key, column in wanted if column not in there]
    if missing:
        raise ConfigError(
            f"source {source.id}: columns not found: {', '.join(missing)}; columns there: {', '.join(there)}",
            hint="Correct the names under 'columns'",
        )


def _bytes_columns(schema: pl.Schema) -> set[str]:
    return {name for name, dtype in schema.items() if dtype == pl.Binary or isinstance(dtype, pl.Struct)}


def _cell(column: str) -> pl.Expr:
    """A cell's text; an empty one is null."""
    value = pl.col(column).cast(pl.String)
    return pl.when(value.str.strip_chars() != "").then(value)


def _cell_or_null(column: str | None) -> pl.Expr:
    return pl.lit(None, pl.String) if column is None else _cell(column).str.strip_chars()


def _cell_or_constant(value: str | None, schema: pl.Schema) -> pl.Expr:
    """The column of that name where there is one, else the value itself for every row."""
    if value is None:
        return pl.lit(None, pl.String)
    return _cell(value).str.strip_chars() if value in schema else pl.lit(value)


def _licence(source: Source, schema: pl.Schema) -> pl.Expr:
    own = _cell_or_constant(source.columns.licence, schema)
    return pl.coalesce(own, pl.lit(source.licence))


def _named_cells(columns: Mapping[str, str]) -> pl.Expr:
    """``["sender_id=43"]`` for name -> column: an empty cell is left out, so that it groups with nobody."""
    if not columns:
        return pl.lit([], pl.List(pl.String))
    cells = [
        pl.concat_str(pl.lit(f"{name}="), _cell(column).str.strip_chars(), ignore_nulls=False)
        for name, column in columns.items()
    ]
    return pl.concat_list(cells).list.drop_nulls()
