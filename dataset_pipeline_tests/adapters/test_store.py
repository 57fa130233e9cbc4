"""Snapshots: immutable, content-named, visible only when complete and audited."""

import os
from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline.adapters.store import Snapshot, Store, Verdict, content_id
from dataset_pipeline.errors import GateError, OutsideWorldError


def write(store: Store, asset: str, values: list[int], **inputs: Snapshot) -> Snapshot:
    with store.writing(asset, inputs) as writer:
        writer.table("items", pl.DataFrame({"value": values}))
    snapshot = store.latest(asset)
    assert snapshot is not None
    return snapshot


def test_equal_content_has_an_equal_name_and_keeps_its_audit(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    first = write(store, "a", [1, 2])
    store.record_audit(first, [Verdict("gate", True, True, "fine")], frozenset({"gate"}))
    assert write(store, "a", [1, 2]).id == first.id
    assert store.audited("a", frozenset({"gate"})).id == first.id
    assert write(store, "a", [3]).id != first.id
    with pytest.raises(GateError, match="'gate' has not run"):
        store.audited("a", frozenset({"gate"}))


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    with pytest.raises(ZeroDivisionError), store.writing("a", {}) as writer:
        writer.file("half", b"written")
        raise ZeroDivisionError
    assert store.latest("a") is None
    assert list((tmp_path / "toy" / "tmp").iterdir()) == []


def test_folders_of_killed_processes_are_swept_and_others_stay(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    dead, alive = (tmp_path / "toy" / "tmp" / f"{pid}-a-x" for pid in (2**22 + 1, os.getpid()))
    dead.mkdir(parents=True)
    alive.mkdir()
    store.sweep()
    assert not dead.exists()
    assert alive.exists()


def test_the_last_good_snapshot_survives_bad_ones(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    good = write(store, "a", [1])
    store.record_audit(good, [Verdict("gate", True, True, "fine")], frozenset({"gate"}))
    for value in (2, 3):
        bad = write(store, "a", [value])
        store.record_audit(bad, [Verdict("gate", False, True, "broken")], frozenset({"gate"}))
    with pytest.raises(GateError, match="'gate' failed: broken"):
        store.audited("a", frozenset({"gate"}))
    assert good.table("items").collect()["value"].to_list() == [1]
    assert len(list((tmp_path / "toy" / "snapshots" / "a").iterdir())) == 2


def test_a_late_verdict_on_an_old_snapshot_is_ignored(tmp_path: Path) -> None:
    """A check that took long must not vouch for a snapshot that came after it began."""
    store = Store(tmp_path, "toy")
    old = write(store, "a", [1])
    write(store, "a", [2])
    store.record_audit(old, [Verdict("gate", True, True, "fine")], frozenset({"gate"}))
    with pytest.raises(GateError):
        store.audited("a", frozenset({"gate"}))


def test_release_replaces_as_a_whole(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    with store.writing("archive", {}) as writer:
        writer.file("old-only.txt", b"1")
    first = store.latest("archive")
    assert first is not None
    place = store.release(first, "1.0.0")
    with store.writing("archive", {}) as writer:
        writer.file("data/new.txt", b"2")
    second = store.latest("archive")
    assert second is not None
    assert store.release(second, "1.0.0") == place
    assert sorted(p.name for p in place.rglob("*")) == ["data", "new.txt"]


def test_content_id_ignores_provenance_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = content_id(tmp_path)
    (tmp_path / "provenance.json").write_bytes(b"run 17")
    assert content_id(tmp_path) == before
    (tmp_path / "b").write_bytes(b"1")
    assert content_id(tmp_path) != before


def test_a_read_only_storage_is_one_clear_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way of the folder")
    with pytest.raises(OutsideWorldError, match="Not a directory"), Store(blocked, "toy").writing("a", {}):
        pass
