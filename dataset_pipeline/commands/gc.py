"""``gc``: cached results that no build has asked for lately, and what deleting them would free.

Belongs here: which of the cached tables may go. Does not belong here: what is in them (``adapters/cache.py``), and
snapshots, which the store keeps two of by itself.
"""

import contextlib
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataset_pipeline.adapters.cache import CachedTable, ResultCache
from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.adapters.store import Store
from dataset_pipeline.config import load_config
from dataset_pipeline.errors import OutsideWorldError

_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Collected:
    """What stays, what goes, and whether it is gone."""

    kept: tuple[CachedTable, ...]
    unused: tuple[CachedTable, ...]
    now: float
    is_deleted: bool

    def lines(self) -> Iterator[str]:
        """For people."""
        for table in self.unused:
            days = max(0, int((self.now - table.used_at) // _DAY))
            said = "deleted" if self.is_deleted else "unused"
            yield f"{said}  {table.kind}/{table.version}  {_megabytes(table.size_bytes)}, last used {days} days ago"
        freed, stays = (sum(t.size_bytes for t in tables) for tables in (self.unused, self.kept))
        yield f"{'freed' if self.is_deleted else 'would free'} {_megabytes(freed)}; {_megabytes(stays)} stay"
        if self.unused and not self.is_deleted:
            yield "nothing was deleted: run the same command with --delete"


def collect(
    config_path: Path, storage: str, days: float, *, is_everything: bool, is_deleting: bool
) -> Collected:
    """Find the dataset's cached tables that no build has used for ``days``, and delete them if ``is_deleting``.

    What the last build used of each kind stays, however long ago that was, so that the next build costs what the
    change costs; with ``is_everything`` no table stays. Raises ``ConfigError`` for a wrong config, and ``OutsideWorldError``
    where the disk says no or a build is running that may read what would go.
    """
    store = open_store(storage, load_config(config_path).name)
    cache, now = ResultCache(store.cache, store.remote), time.time()
    tables = cache.tables()
    unused = [
        table
        for table in tables
        if is_everything or (not table.is_newest and now - table.used_at > days * _DAY)
    ]
    if is_deleting:
        with (
            contextlib.nullcontext()
            if store.remote is None
            else store.building(functools.partial(_refuse, store))
        ):
            _delete(store, cache, unused)
    kept = tuple(table for table in tables if table not in unused)
    return Collected(kept, tuple(unused), now, is_deleting)


def _refuse(store: Store) -> None:
    raise OutsideWorldError(
        f"{store.where} is being written by another build",
        hint="Wait for the build to end, then run the same command again; nothing was deleted",
    )


def _delete(store: Store, cache: ResultCache, unused: list[CachedTable]) -> None:
    if writers := store.writers():
        raise OutsideWorldError(
            f"{store.folder} is being written by process {writers[0]}",
            hint="Wait for the build to end, then run the same command again; nothing was deleted",
        )
    store.sweep()
    for table in unused:
        cache.remove(table)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
