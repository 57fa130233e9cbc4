"""``gc``: what may go is listed first, and goes only when it is asked to."""

import os
import time
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters.cache import ResultCache
from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline_tests.command_line import run
from dataset_pipeline_tests.small_dataset import write_dataset

DAY = 24 * 60 * 60


def filled(storage: Path, **days_ago: float) -> Path:
    """A cache of one kind whose versions were last used so many days ago; the folder of the kind."""
    cache = ResultCache(storage / "small" / "cache")
    items = pl.LazyFrame({"key": ["a", "b"]})
    for version, days in days_ago.items():
        cache.results(
            "scan", version, items, ["key"], lambda batch: batch.with_columns(value=1), InlineEngine()
        )
        used = time.time() - days * DAY
        os.utime(cache.folder / "scan" / version / "used", (used, used))
    return cache.folder / "scan"


def test_nothing_goes_before_it_was_listed(tmp_path: Path) -> None:
    config, storage = write_dataset(tmp_path), tmp_path / "storage"
    kind = filled(storage, newest=40, older=41, recent=90, oldest=400)
    os.utime(kind / "recent" / "used")  # a build has asked for it again
    call = ("gc", config, "--storage", storage)
    listed = run(*call)
    assert listed.status == 0
    lines = listed.out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["unused", "scan/newest"],
        ["unused", "scan/older"],
        ["unused", "scan/oldest"],
    ]
    assert lines[2].endswith("last used 400 days ago")
    assert lines[3].startswith("would free 0.0 MB; 0.0 MB stay")
    assert lines[4] == "nothing was deleted: run the same command with --delete"
    assert len(list(kind.iterdir())) == 4

    deleted = run(*call, "--days", "100", "--delete")
    assert deleted.out.splitlines()[0].startswith("deleted  scan/oldest")
    assert {path.name for path in kind.iterdir()} == {"newest", "older", "recent"}
    run(*call, "--delete")
    assert {path.name for path in kind.iterdir()} == {"recent"}


def test_the_newest_of_a_kind_stays_however_old_unless_everything_goes(tmp_path: Path) -> None:
    config, storage = write_dataset(tmp_path), tmp_path / "storage"
    kind = filled(storage, only=1000)
    call = ("gc", config, "--storage", storage, "--delete")
    assert (
        run(*call).out
        == f"freed 0.0 MB; {sum(p.stat().st_size for p in (kind / 'only').iterdir()) / 1e6:.1f} MB stay\n"
    )
    assert (kind / "only").is_dir()
    assert run(*call, "--everything").status == 0
    assert not list(kind.iterdir())


def test_everything_that_the_last_build_used_of_a_kind_stays(tmp_path: Path) -> None:
    """A build with two CLIP models asks for the embeddings of both, one after the other."""
    config, storage = write_dataset(tmp_path), tmp_path / "storage"
    kind = filled(storage, second=40, first=40.2, former=41)
    assert run("gc", config, "--storage", storage, "--delete").status == 0
    assert {path.name for path in kind.iterdir()} == {"first", "second"}


def test_models_that_were_trained_go_like_other_results(tmp_path: Path) -> None:
    config, storage = write_dataset(tmp_path), tmp_path / "storage"
    models = storage / "small" / "cache" / "models"
    models.mkdir(parents=True)
    for name, days in (("former.pt", 40), ("current.pt", 35)):
        (models / name).write_bytes(bytes(2_000_000))
        os.utime(models / name, (time.time() - days * DAY,) * 2)
    call = ("gc", config, "--storage", storage, "--delete")
    assert run(*call).out.splitlines() == [
        "deleted  models/former.pt  2.0 MB, last used 40 days ago",
        "freed 2.0 MB; 2.0 MB stay",
    ]
    # What has been learned from an item that was taken down goes with it.
    assert run(*call, "--everything").out.splitlines()[-1] == "freed 2.0 MB; 0.0 MB stay"
    assert not list(models.iterdir())


def test_a_build_marks_what_it_uses(tmp_path: Path) -> None:
    kind = filled(tmp_path, one=50)
    [table] = ResultCache(kind.parent).tables()
    assert time.time() - table.used_at > 49 * DAY
    cache = ResultCache(kind.parent)
    cache.results("scan", "one", pl.LazyFrame({"key": ["a"]}), ["key"], lambda batch: batch, InlineEngine())
    [table] = cache.tables()
    assert time.time() - table.used_at < DAY
    assert table.size_bytes > 0


def test_nothing_goes_under_a_running_build(tmp_path: Path) -> None:
    config, storage = write_dataset(tmp_path), tmp_path / "storage"
    kind = filled(storage, old=90, new=1)
    (storage / "small" / "tmp" / f"{os.getpid()}-raw_texts-x").mkdir(parents=True)
    refused = run("gc", config, "--storage", storage, "--delete")
    assert refused.status == 3
    assert f"is being written by process {os.getpid()}" in refused.err
    assert (kind / "old").is_dir()
    # Listing harms nobody, and what a killed build left goes with the rest.
    assert run("gc", config, "--storage", storage).status == 0
    (storage / "small" / "tmp" / f"{os.getpid()}-raw_texts-x").rmdir()
    (storage / "small" / "tmp" / "leftover").mkdir()
    assert run("gc", config, "--storage", storage, "--delete").status == 0
    assert not list((storage / "small" / "tmp").iterdir())


def test_no_cache_at_all(tmp_path: Path) -> None:
    answer = run("gc", write_dataset(tmp_path), "--storage", tmp_path / "storage")
    assert (answer.status, answer.out) == (0, "would free 0.0 MB; 0.0 MB stay\n")
