"""What a source is like now, cheaply: a fingerprint of its content that reads only files that may have changed.

Belongs here: which files have to be read again, and what is remembered of the others. Does not belong here: when
somebody looks (``defs/automation.py``), and what a manifest says (``sources.py``).

Each file has a *token* that stands for its content. A file whose size, time of change and time of change of its inode
are what they were keeps its token unread. Any other that was seen before is read: where its content is what it was, it
keeps its token, too. The inode's time is set by the kernel alone, so that a file replaced by one of equal size and time
is found as well, where the file system keeps that time.
"""

import hashlib
import io
from pathlib import Path
from typing import Final

import polars as pl

from dataset_pipeline.adapters import images, sources
from dataset_pipeline.adapters.cache import Progress, ResultCache, code_version, settings_version
from dataset_pipeline.adapters.engine import Engine
from dataset_pipeline.adapters.store import explained_os_errors, file_sha256, write_atomically
from dataset_pipeline.config import Source

_KEYS: Final = sources.FILE_IDENTITY
_TOKENS: Final = {"ref": pl.String(), "token": pl.String(), "sha256": pl.String()}
_REMEMBERED: Final = {**sources.FILES, **_TOKENS}
_CACHED: Final = "image_hashes"


def hashed_images(
    cache: ResultCache, listed: pl.DataFrame, engine: Engine, progress: Progress | None = None
) -> pl.DataFrame:
    """``listed`` images with their ``sha256``, reading only files that are new or changed; unreadable: null."""
    hashed = cache.results(
        _CACHED,
        _cache_version(),
        listed.lazy().filter(pl.col("problem").is_null()),
        _KEYS,
        images.hash_files,
        engine,
        batch_rows=4096,
        progress=progress,
    )
    return listed.lazy().join(hashed, on=_KEYS, how="left").collect()


def fingerprint(source: Source, base: Path, cache: ResultCache, memory: Path) -> str:
    """Hash of the names and contents of a source's manifests and images.

    ``memory``: the file in which it remembers what it has seen, written where that changes. The first look reads
    manifests and no image; a later one reads what may have changed, and compares with ``memory`` and with the hashes
    that builds have left in ``cache``, which it does not write to. Raises what reading the source raises, and
    ``OutsideWorldError`` when the disk says no.
    """
    seen = sources.list_files(source, base)
    with explained_os_errors(memory):
        before = pl.read_parquet(memory) if memory.exists() else pl.DataFrame(schema=_REMEMBERED)
    kept = seen.join(before, on=["ref", *_KEYS], how="left", maintain_order="left").select(*_REMEMBERED)
    changed = kept.filter(pl.col("token").is_null()).drop("token", "sha256")
    if changed.height:
        was = before.join(changed, on="ref", how="semi")
        tokens = pl.concat([_first_tokens(changed, was), _next_tokens(changed, was, cache)])
        kept = kept.update(tokens, on="ref").sort("ref")
    if changed.height or kept.height != before.height:
        written = io.BytesIO()
        kept.write_parquet(written)
        with explained_os_errors(memory):
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(memory, written.getvalue())
    digest = hashlib.sha256()
    for part in kept.select("ref", "token").iter_slices(65_536):
        digest.update(part.write_csv(include_header=False).encode())
    return digest.hexdigest()[:16]


def _first_tokens(changed: pl.DataFrame, was: pl.DataFrame) -> pl.DataFrame:
    """``_TOKENS`` of what was never seen: that it is there is the change, so an image need not be read."""
    new = changed.join(was, on="ref", how="anti")
    is_manifest = pl.col("ref").str.starts_with(sources.MANIFEST_REF)
    by_times = pl.format("{}-{}-{}", "size_bytes", "mtime_ns", "ctime_ns")
    unread = new.filter(~is_manifest).select("ref", token=by_times, sha256=pl.lit(None, pl.String))
    return pl.concat(
        [
            _read(new.filter(is_manifest)).with_columns(pl.col("sha256").alias("token")).select(*_TOKENS),
            unread,
        ]
    )


def _next_tokens(changed: pl.DataFrame, was: pl.DataFrame, cache: ResultCache) -> pl.DataFrame:
    """``_TOKENS`` of what was seen before: the token that it had, where that stands for the same content."""
    known = cache.known(_CACHED, _cache_version(), was, _KEYS, "sha256")
    before = was.join(known, on=_KEYS, how="left").select(
        "ref", before="token", sha256_before=pl.coalesce("sha256", "sha256_right")
    )
    is_same = pl.col("sha256") == pl.col("sha256_before")
    return (
        _read(changed.join(was, on="ref", how="semi"))
        .join(before, on="ref")
        .select("ref", pl.when(is_same).then("before").otherwise("sha256").alias("token"), "sha256")
    )


def _read(files: pl.DataFrame) -> pl.DataFrame:
    """``ref`` and ``sha256`` of files; one that cannot be read has a word for it, and the build says why."""
    hashes = []
    for location in files["location"]:
        try:
            hashes.append(file_sha256(Path(location)))
        except OSError:
            hashes.append("unreadable")
    return pl.DataFrame(
        {"ref": files["ref"], "sha256": hashes}, schema={"ref": pl.String, "sha256": pl.String}
    )


def _cache_version() -> str:
    return settings_version(code_version(images))
