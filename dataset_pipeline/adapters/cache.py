"""Per-item results in append-only Parquet, so that a rebuild costs what the change costs.

A table of results is addressed by what was computed (``kind``) and by how (``version``: a hash of
settings and code version); inside it a row is found by its key columns, which hold the content
(a SHA-256, a text). Finished batches are kept when a build is stopped halfway.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from dataset_pipeline.adapters.engine import Engine
from dataset_pipeline.adapters.store import explained_os_errors, to_json

if TYPE_CHECKING:
    from dataset_pipeline.adapters.remote import Remote

Progress = Callable[[int, int], None]
"""Called with the number of items done and the number of items to do."""

_READ_ATTEMPTS = 5
_COMPACT_FROM_PARTS = 64
_COMPACT_BELOW_BYTES = 16 << 20
_MATRIX_BATCH = 8192
_FLUSH_SECONDS = 20.0
_ONE_BUILD_SECONDS: Final = 12 * 60 * 60
"""What was used within this time of each other counts as used by one build."""
_USED: Final = "used"
"""A file of each table whose time of change says when a build last asked for it."""


def settings_version(*parts: Any) -> str:
    """Name of a table of results: a hash of everything but the content that the results depend on."""
    return hashlib.sha256(to_json(parts).encode()).hexdigest()[:16]


def code_version(*modules: ModuleType) -> str:
    """Hash of the source text of modules: results made by other code are never reused."""
    return hashlib.sha256("".join(map(_source, modules)).encode()).hexdigest()[:16]


@functools.cache
def program_version() -> str:
    """Hash of all that runs: every file of this package, the versions of all installed ones, and of Python.

    It is for results whose code nobody has listed; it is taken once, at the start, as the text of modules is.
    """
    here = Path(__file__).parent.parent
    digest = hashlib.sha256(platform.python_version().encode())
    for path in sorted(here.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update(repr(sorted({(d.name, d.version) for d in importlib.metadata.distributions()})).encode())
    return digest.hexdigest()[:16]


@functools.cache
def _source(module: ModuleType) -> str:
    """A module's text when it is first asked for, at the start: what runs does not change with the file later."""
    return inspect.getsource(module)


@dataclass(frozen=True)
class CachedTable:
    """Results of one kind and one version: a folder, or the file of a trained model."""

    kind: str
    version: str
    used_at: float
    """When a build last asked for them, in seconds since 1970."""
    size_bytes: int
    is_newest: bool
    """Whether the last build that asked for the kind asked for it: one build may ask for several, such as the
    embeddings of every model."""


class ResultCache:
    """Cached results of one dataset."""

    def __init__(self, folder: Path, remote: "Remote | None" = None) -> None:
        """``remote``: the bucket that ``folder`` is a working copy of, where there is one."""
        self.folder = folder
        self._remote = remote
        self._files: set[str] = set()
        self.asked_for: set[str] = set()
        """Tables that :meth:`results` was asked for, as paths below ``folder``."""

    def results(
        self,
        kind: str,
        version: str,
        items: pl.LazyFrame,
        keys: Sequence[str],
        function: Callable[[pl.DataFrame], pl.DataFrame],
        engine: Engine,
        *,
        batch_rows: int = 512,
        progress: Progress | None = None,
        unstored: str | None = None,
    ) -> pl.LazyFrame:
        """Results for ``items``, computing only those that are not there yet.

        ``items`` holds distinct ``keys`` and whatever else ``function`` needs; ``function`` takes a
        batch of items and returns rows that hold ``keys``. Returns one row per item that
        ``function`` gave a row for, unsorted.

        ``unstored``: one of the keys whose content must not lie in the cache, because it may hold personal
        data; its SHA-256 lies there instead.
        """
        if unstored is not None:
            hashed = items.with_columns(_sha256_of(pl.col(unstored)).alias(_SHA256))
            stored = self.results(
                kind,
                version,
                hashed,
                [_SHA256 if key == unstored else key for key in keys],
                _Without(function, unstored),
                engine,
                batch_rows=batch_rows,
                progress=progress,
            )
            others = [key for key in keys if key != unstored]
            return (
                hashed.select(_SHA256, *keys)
                .join(stored, on=[_SHA256, *others], how="inner", nulls_equal=True)
                .drop(_SHA256)
            )
        folder = self.folder / kind / version
        self.asked_for.add(f"{kind}/{version}")
        with explained_os_errors(self.folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _USED).touch()
            if self._remote is not None:
                self._remote.pull_parts(f"cache/{kind}/{version}")
                self._remote.write(f"{_USED}/{kind}/{version}", b"")
            known = self._read(folder, keys)
            missing = (
                items
                if known is None
                else items.join(known.select(keys), on=keys, how="anti", nulls_equal=True)
            )
            missing_rows = missing.collect()
            try:
                self._compute(folder, missing_rows, function, engine, batch_rows, progress)
                self._compact(folder, keys)
            finally:
                if self._remote is not None:
                    self._remote.push_parts(f"cache/{kind}/{version}", "*.parquet")
            results = self._read(folder, keys)
        if results is None:  # nothing to compute and nothing cached: keep the shape
            return function(missing_rows.head(0)).lazy()
        return results.join(items.select(keys), on=keys, how="semi", nulls_equal=True)

    def known(
        self, kind: str, version: str, items: pl.DataFrame, keys: Sequence[str], column: str
    ) -> pl.DataFrame:
        """``keys`` and ``column`` of those ``items`` that have a result already; computes and writes nothing.

        For readers beside a build, which may put parts together meanwhile: then it looks again.
        """
        nothing = items.select(keys).clear().with_columns(pl.lit(None, pl.String).alias(column))
        for _attempt in range(_READ_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                known = self._read(self.folder / kind / version, keys)
                if known is None:
                    break
                return known.select(*keys, column).join(items.lazy(), on=keys, how="semi").collect()
        return nothing

    def file(self, kind: str, name: str) -> Path:
        """Where the file of a trained model is, or is to be written before :meth:`send_files`."""
        place = self.folder / kind / name
        if self._remote is not None:
            self._files.add(f"{kind}/{name}")
            if not place.exists():
                with explained_os_errors(self.folder):
                    self._remote.fetch([f"cache/{kind}/{name}"])
        return place

    def send_files(self) -> None:
        """Keep the files that :meth:`file` was asked for."""
        for path in sorted(self._files):
            assert self._remote is not None
            if (self.folder / path).exists():
                self._remote.write(f"{_USED}/{path}", b"")
                if f"cache/{path}" not in self._remote.listed(f"cache/{path.partition('/')[0]}"):
                    self._remote.send([f"cache/{path}"])

    def mark_used(self, tables: Collection[str]) -> None:
        """Remember that a build would have asked for these tables, had its results not been kept as a whole."""
        with explained_os_errors(self.folder):
            for place in (self.folder / table for table in tables):
                if place.is_dir():
                    (place / _USED).touch()
            if self._remote is not None:
                for table in tables:
                    self._remote.write(f"{_USED}/{table}", b"")

    def tables(self) -> list[CachedTable]:
        """What is in the cache, by kind, the last used first."""
        with explained_os_errors(self.folder):
            uses = self._uses() if self._remote is None else self._remote_uses(self._remote)
        newest = {kind: max(used_at for k, _, used_at, _ in uses if k == kind) for kind, _, _, _ in uses}
        return [
            CachedTable(
                kind, name, used_at, size_bytes, is_newest=newest[kind] - used_at <= _ONE_BUILD_SECONDS
            )
            for kind, name, used_at, size_bytes in sorted(uses, key=lambda use: (use[0], -use[2], use[1]))
        ]

    def remove(self, table: CachedTable) -> None:
        """Delete a table; a build that wants it computes it again."""
        with explained_os_errors(self.folder):
            if self._remote is not None:
                path = f"cache/{table.kind}/{table.version}"
                self._remote.remove(
                    [*self._remote.listed(path), path, f"{_USED}/{table.kind}/{table.version}"]
                )
                self._remote.forget(path)
            place = self.folder / table.kind / table.version
            if place.is_dir():
                shutil.rmtree(place)
            elif self._remote is None or place.exists():
                place.unlink()

    def _uses(self) -> list[tuple[str, str, float, int]]:
        """Kind, version, when a build last asked for it, and size in bytes of every table."""
        return [
            (kind.name, place.name, _used_at(place), _size_bytes(place))
            for kind in self.folder.glob("*")
            if kind.is_dir()
            for place in kind.iterdir()
        ]

    @staticmethod
    def _remote_uses(remote: "Remote") -> list[tuple[str, str, float, int]]:
        used = remote.ages(_USED)
        found: dict[tuple[str, str], tuple[float, int]] = {}
        for path, (size_bytes, written_at) in remote.ages("cache").items():
            _, kind, name, *_ = path.split("/")
            before = found.get((kind, name), (0.0, 0))
            used_at = used.get(f"{_USED}/{kind}/{name}", (0, written_at))[1]
            found[kind, name] = (max(before[0], used_at), before[1] + size_bytes)
        return [(kind, name, *facts) for (kind, name), facts in found.items()]

    def matrix(
        self, kind: str, version: str, key: str, wanted: pl.Series, column: str, dtype: Any = np.float32
    ) -> NDArray[Any]:
        """Cached vectors of ``column`` for the distinct keys ``wanted``, in their order: (keys, dimensions).

        They are read batch by batch into a file that the system pages in and out: a million embeddings need no
        memory of their own. Raises ``KeyError`` for a key that :meth:`results` has not computed.
        """
        place = pl.DataFrame({key: wanted}).with_row_index("row")
        found: NDArray[Any] = np.zeros((len(wanted), 0), dtype)
        missing = np.ones(len(wanted), bool)
        with explained_os_errors(self.folder):
            for part in sorted((self.folder / kind / version).glob("*.parquet")):
                for batch in pq.ParquetFile(part).iter_batches(_MATRIX_BATCH, columns=[key, column]):
                    frame = pl.DataFrame(batch).join(place, on=key)
                    if frame.is_empty():
                        continue
                    values = frame[column].explode().to_numpy().reshape(frame.height, -1)
                    if found.shape[1] == 0:
                        with tempfile.TemporaryFile(dir=self.folder) as file:
                            found = np.memmap(file, dtype, "w+", shape=(len(wanted), values.shape[1]))
                    rows = frame["row"].to_numpy()
                    found[rows] = values
                    missing[rows] = False
        if missing.any():
            raise KeyError(f"{int(missing.sum())} of {len(wanted)} results are not in {kind}/{version}")
        return found

    def beside(
        self, rows: pl.DataFrame, kind: str, version: str, key: str, column: str, dtype: pl.DataType
    ) -> pl.LazyFrame:
        """``rows`` in their order with a wide cached column beside them, null where there is none for their ``key``.

        The column's values lie in an unnamed file and are read from it slice by slice, whenever the frame is: a million
        thumbnails need no memory of their own.
        """
        keys = rows.select(key).drop_nulls().unique(maintain_order=True).with_row_index("//place")
        starts, lengths = np.zeros(keys.height, np.int64), np.full(keys.height, -1, np.int64)
        schema = {**rows.schema, column: dtype}
        with explained_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - it lives as long as the frame does
            for part in sorted((self.folder / kind / version).glob("*.parquet")):
                for batch in pq.ParquetFile(part).iter_batches(_MATRIX_BATCH, columns=[key, column]):
                    frame = pl.DataFrame(batch).drop_nulls().join(keys, on=key, maintain_order="left")
                    sizes = frame[column].bin.size().cast(pl.Int64).to_numpy()
                    places = frame["//place"].to_numpy()
                    starts[places] = file.tell() + np.cumsum(sizes) - sizes
                    lengths[places] = sizes
                    file.write(b"".join(frame[column]))
            file.flush()

        def values(slice_: pl.DataFrame) -> pl.Series:
            places = slice_.join(keys, on=key, how="left", maintain_order="left")["//place"].to_list()
            return pl.Series(
                column,
                [
                    None
                    if place is None or lengths[place] < 0
                    else os.pread(file.fileno(), int(lengths[place]), int(starts[place]))
                    for place in places
                ],
                dtype=dtype,
            )

        weakref.finalize(values, file.close)  # when the frame, which alone knows it, is gone

        def batches(
            columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _rows: int | None
        ) -> Iterator[pl.DataFrame]:
            left = rows.height if limit is None else min(limit, rows.height)
            for batch in _batches(rows.head(left), _MATRIX_BATCH):
                # A filter may need the column though nobody wants it.
                is_wanted = columns is None or column in columns or predicate is not None
                made = batch.with_columns(values(batch)) if is_wanted else batch
                made = made if predicate is None else made.filter(predicate)
                yield made if columns is None else made.select(columns)

        return register_io_source(batches, schema=schema)

    @staticmethod
    def _compute(
        folder: Path,
        missing: pl.DataFrame,
        function: Callable[[pl.DataFrame], pl.DataFrame],
        engine: Engine,
        batch_rows: int,
        progress: Progress | None,
    ) -> None:
        done, pending, flushed_at = 0, list[pl.DataFrame](), time.monotonic()
        try:
            for result in engine.map(function, _batches(missing, batch_rows)):
                pending.append(result)
                done = min(done + batch_rows, missing.height)
                if progress is not None:
                    progress(done, missing.height)
                if time.monotonic() - flushed_at > _FLUSH_SECONDS:
                    _append(folder, pending)
                    pending, flushed_at = [], time.monotonic()
        finally:
            _append(folder, pending)  # also when stopped: the next run continues from here

    @staticmethod
    def _read(folder: Path, keys: Sequence[str]) -> pl.LazyFrame | None:
        parts = sorted(folder.glob("*.parquet"))
        if not parts:
            return None
        rows = pl.scan_parquet(parts)
        known = rows.select(keys).collect()
        # Two processes may have computed the same item; either row is as good. To look for such rows in the keys alone
        # spares holding whole tables where, as nearly always, there are none.
        return rows.unique(subset=keys, keep="any") if known.is_duplicated().any() else rows

    @staticmethod
    def _compact(folder: Path, keys: Sequence[str]) -> None:
        # Large parts stay as they are: putting them together would need the memory that parts save.
        parts = sorted(p for p in folder.glob("*.parquet") if p.stat().st_size < _COMPACT_BELOW_BYTES)
        if len(parts) >= _COMPACT_FROM_PARTS:
            _append(folder, [pl.scan_parquet(parts).unique(subset=keys, keep="any").collect()])
            for part in parts:
                part.unlink(missing_ok=True)


_SHA256: Final = "//sha256"  # "//" is in no column's name


def _sha256_of(text: pl.Expr) -> pl.Expr:
    """SHA-256 of each text; lone surrogates cannot be in a polars string."""
    return text.map_batches(_hashes, return_dtype=pl.Binary)


def _hashes(texts: pl.Series) -> pl.Series:
    return pl.Series([hashlib.sha256(text.encode()).digest() for text in texts], dtype=pl.Binary)


class _Without:
    """A function of batches whose results have the hash of a column in its place."""

    def __init__(self, function: Callable[[pl.DataFrame], pl.DataFrame], column: str) -> None:
        self.func = getattr(function, "func", function)  # as functools.partial names what it calls
        self._function, self._column = function, column

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        results = self._function(batch.drop(_SHA256))
        return results.with_columns(_sha256_of(pl.col(self._column)).alias(_SHA256)).drop(self._column)


def _used_at(place: Path) -> float:
    mark = place / _USED
    return (mark if mark.exists() else place).stat().st_mtime


def _size_bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in (place.iterdir() if place.is_dir() else [place]))


def _batches(frame: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    for start in range(0, frame.height, rows):
        yield frame.slice(start, rows)


def _append(folder: Path, frames: Sequence[pl.DataFrame]) -> None:
    """Add one part; it gets its name only when it is complete."""
    frames = [frame for frame in frames if frame.height]
    if not frames:
        return
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".partial")
    os.close(handle)
    try:
        pl.concat(frames).write_parquet(temporary)
        os.replace(temporary, f"{temporary.removesuffix('.partial')}.parquet")
    finally:
        Path(temporary).unlink(missing_ok=True)
