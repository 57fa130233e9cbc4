"""Per-item results are computed once, and an interrupted computation continues."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dataset_pipeline.adapters import cache as cache_module
from dataset_pipeline.adapters.cache import ResultCache, settings_version
from dataset_pipeline.adapters.engine import LocalEngine


class HereEngine:
    """Runs batches in this process and counts rows."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.rows = 0
        self.fail_after = fail_after

    def map(self, function: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            if self.fail_after is not None and self.rows >= self.fail_after:
                raise KeyboardInterrupt
            self.rows += batch.height
            yield function(batch)


def square(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.select("key", square=pl.col("key") ** 2)


def results(folder: Path, keys: list[int | None], engine: Any, version: str = "v") -> dict[Any, Any]:
    frame = ResultCache(folder).results(
        "squares",
        version,
        pl.LazyFrame({"key": keys}, schema={"key": pl.Int64}),
        ["key"],
        square,
        engine,
        batch_rows=2,
    )
    return dict(frame.collect().iter_rows())


def test_only_what_is_new_is_computed(tmp_path: Path) -> None:
    engine = HereEngine()
    assert results(tmp_path, [1, 2, 3], engine) == {1: 1, 2: 4, 3: 9}
    assert results(tmp_path, [1, 2, 3], engine) == {1: 1, 2: 4, 3: 9}
    assert engine.rows == 3
    assert results(tmp_path, [3, 4], engine) == {3: 9, 4: 16}
    assert engine.rows == 4


def test_other_settings_are_another_table(tmp_path: Path) -> None:
    engine = HereEngine()
    results(tmp_path, [1], engine, settings_version({"limit": 1}))
    results(tmp_path, [1], engine, settings_version({"limit": 2}))
    assert engine.rows == 2


def test_null_is_a_key_like_any_other(tmp_path: Path) -> None:
    """A text without a declared language has a null in its key: it must not be computed anew."""
    engine = HereEngine()
    for _ in range(2):
        assert results(tmp_path, [1, None], engine) == {1: 1, None: None}
    assert engine.rows == 2


def test_an_interrupted_computation_continues(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        results(tmp_path, [1, 2, 3, 4, 5], HereEngine(fail_after=4))
    engine = HereEngine()
    assert len(results(tmp_path, [1, 2, 3, 4, 5], engine)) == 5
    assert engine.rows == 1


def test_nothing_to_do_keeps_the_shape(tmp_path: Path) -> None:
    assert results(tmp_path, [], HereEngine()) == {}


def test_parts_are_compacted(tmp_path: Path) -> None:
    for key in range(70):
        results(tmp_path, [key], HereEngine())
    assert len(list((tmp_path / "squares" / "v").iterdir())) < 64
    engine = HereEngine()
    assert len(results(tmp_path, list(range(70)), engine)) == 70
    assert engine.rows == 0


def test_worker_processes_give_results_in_order() -> None:
    engine = LocalEngine(2)
    try:
        assert list(engine.map(abs, range(-20, 0))) == list(range(20, 0, -1))
    finally:
        engine.close()


# -- vectors -------------------------------------------------------------------------------


def vector(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.select(
        "key", embedding=pl.concat_list(pl.col("key"), pl.col("key") * 2).cast(pl.List(pl.Float32))
    )


def test_vectors_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    cache, engine = ResultCache(tmp_path), HereEngine()
    for keys in ([1, 2, 3], [4, 5]):  # two parts
        cache.results("vectors", "v", pl.LazyFrame({"key": keys}), ["key"], vector, engine, batch_rows=2)
    found = cache.matrix("vectors", "v", "key", pl.Series([5, 1, 3]), "embedding")
    assert found.tolist() == [[5, 10], [1, 2], [3, 6]]
    assert found.dtype == np.float32
    with pytest.raises(KeyError, match="1 of 2 results are not in vectors/v"):
        cache.matrix("vectors", "v", "key", pl.Series([1, 9]), "embedding")
    assert cache.matrix("vectors", "v", "key", pl.Series([], dtype=pl.Int64), "embedding").shape == (0, 0)
    names = {path.suffix or path.name for path in (tmp_path / "vectors" / "v").iterdir()}
    assert names == {".parquet", "used"}  # the file that held the vectors is gone


def test_large_parts_are_not_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_pipeline.adapters.cache._COMPACT_FROM_PARTS", 3)
    monkeypatch.setattr("dataset_pipeline.adapters.cache._COMPACT_BELOW_BYTES", 1)
    for key in range(5):
        results(tmp_path, [key], HereEngine())
    assert len(list((tmp_path / "squares" / "v").glob("*.parquet"))) == 5
    monkeypatch.setattr("dataset_pipeline.adapters.cache._COMPACT_BELOW_BYTES", 1 << 20)
    assert results(tmp_path, [0, 1, 2, 3, 4], HereEngine()) == {n: n * n for n in range(5)}
    assert len(list((tmp_path / "squares" / "v").glob("*.parquet"))) == 1


def thumbnails(folder: Path) -> tuple[ResultCache, pl.DataFrame]:
    """A cache with a wide column in several parts, and rows that ask for it."""
    cache, table = ResultCache(folder), folder / "scan" / "v"
    table.mkdir(parents=True)
    parts = (
        {"sha256": ["a", "b", "none"], "thumbnail": [b"A" * 7, b"B", None]},
        {"sha256": ["unasked", "c"], "thumbnail": [b"U", b""]},
        {"sha256": ["b"], "thumbnail": [b"B"]},  # two processes have computed it
    )
    for number, part in enumerate(parts):
        frame = pl.DataFrame(part, schema={"sha256": pl.String, "thumbnail": pl.Binary})
        frame.write_parquet(table / f"{number}.parquet")
    keys = ["c", "a", None, "b", "none", "a", "never scanned", "b"]
    return cache, pl.DataFrame({"number": range(len(keys)), "sha256": keys})


def test_a_wide_column_stands_beside_rows_as_a_join_would_put_it(tmp_path: Path) -> None:
    cache, rows = thumbnails(tmp_path)
    stored = pl.read_parquet(sorted((tmp_path / "scan" / "v").glob("*.parquet"))).unique("sha256")
    joined = rows.join(stored, on="sha256", how="left", maintain_order="left")
    found = cache.beside(rows, "scan", "v", "sha256", "thumbnail", pl.Binary())
    assert found.collect().equals(joined)
    assert found.collect_schema() == joined.schema
    # A part of it: columns, rows by the column itself though it is not wanted, the first rows, and all again.
    assert found.select("number").collect().equals(joined.select("number"))
    has_one = pl.col("thumbnail").bin.size() > 1
    assert found.filter(has_one).select("number").collect()["number"].to_list() == [1, 5]
    assert found.head(2).collect().equals(joined.head(2))
    assert found.filter(has_one).head(1).collect().equals(joined.filter(has_one).head(1))
    found.sink_parquet(tmp_path / "sunk.parquet", maintain_order=True)
    assert pl.read_parquet(tmp_path / "sunk.parquet").equals(joined)


def test_a_wide_column_is_read_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, rows = thumbnails(tmp_path)
    whole = cache.beside(rows, "scan", "v", "sha256", "thumbnail", pl.Binary()).collect()
    monkeypatch.setattr(cache_module, "_MATRIX_BATCH", 2)
    sliced = cache.beside(rows, "scan", "v", "sha256", "thumbnail", pl.Binary())
    assert sliced.collect().equals(whole)
    assert sliced.head(3).collect().equals(whole.head(3))


def test_nothing_cached_gives_a_column_of_nulls(tmp_path: Path) -> None:
    rows = pl.DataFrame({"sha256": ["a", None]})
    found = ResultCache(tmp_path / "cache").beside(rows, "scan", "v", "sha256", "thumbnail", pl.Binary())
    assert found.collect()["thumbnail"].to_list() == [None, None]
