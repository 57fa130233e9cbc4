"""Snapshots: immutable, content-named, visible only when complete and audited."""

import json
import os
import threading
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from dataset_pipeline.adapters.store import LAYOUT, Snapshot, Store, Verdict, content_id
from dataset_pipeline.errors import ConfigError, GateError, OutsideWorldError


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


def test_tables_of_bytes_have_small_row_groups(tmp_path: Path) -> None:
    """A reader holds several row groups: of thumbnails, 65,536 rows are 200 MB."""
    store = Store(tmp_path, "toy")
    narrow = pl.DataFrame({"value": range(20_000)})
    wide = narrow.with_columns(thumbnail=pl.lit(b"x"))
    with store.writing("a", {}) as writer:
        for name, frame in (("narrow", narrow), ("wide", wide)):
            writer.table(name, frame)
            writer.table(f"lazy_{name}", frame.lazy())
    snapshot = store.latest("a")
    assert snapshot is not None
    for name, most in (("narrow", 20_000), ("wide", 8_192)):
        for table in (name, f"lazy_{name}"):
            file = pq.ParquetFile(snapshot.folder / f"{table}.parquet").metadata
            rows = [file.row_group(number).num_rows for number in range(file.num_row_groups)]
            assert max(rows) == most
            assert sum(rows) == 20_000


def test_what_is_kept_once_is_read_while_writing_and_not_in_the_snapshot(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    with store.writing("a", {}) as writer:
        kept = writer.kept_once(pl.LazyFrame({"value": [2, 1]}))
        other = writer.kept_once(kept.filter(pl.col("value") > 1))
        writer.table("items", pl.concat([kept, other]))
    snapshot = store.latest("a")
    assert snapshot is not None
    assert [path.name for path in snapshot.folder.iterdir()] == ["items.parquet"]
    assert snapshot.table("items").collect()["value"].to_list() == [2, 1, 2]


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


def test_a_damaged_snapshot_is_replaced_when_the_asset_is_written_again(tmp_path: Path) -> None:
    """Its name says what must be in it; keeping what is there would keep the damage for ever."""
    store = Store(tmp_path, "toy")
    first = write(store, "a", [1])
    (first.folder / "items.parquet").write_bytes(b"edited by hand")
    again = write(store, "a", [1])
    assert again.id == first.id
    assert again.table("items").collect()["value"].to_list() == [1]


def test_an_audit_is_void_when_inputs_or_settings_are_others(tmp_path: Path) -> None:
    """The same content may be right for one input and wrong for another: rows may be missing now."""
    store, gate = Store(tmp_path, "toy"), frozenset({"gate"})

    def written(value: int, licence: str) -> Snapshot:
        source = write(store, "source", [value])
        with store.writing("a", {"source": source}, {"licence": licence}) as writer:
            writer.table("items", pl.DataFrame({"value": [0]}))
        made = store.latest("a")
        assert made is not None
        return made

    store.record_audit(written(1, "MIT"), [Verdict("gate", True, True, "fine")], gate)
    written(1, "MIT")
    assert store.audited("a", gate, {"licence": "MIT"}).inputs["source"]
    with pytest.raises(GateError, match=r"a was built before licence in dataset\.yaml changed"):
        store.audited("a", gate, {"licence": "CC0"})
    written(1, "CC0")
    with pytest.raises(GateError, match="'gate' has not run"):
        store.audited("a", gate)
    store.record_audit(written(1, "MIT"), [Verdict("gate", True, True, "fine")], gate)
    written(2, "MIT")
    with pytest.raises(GateError, match="'gate' has not run"):
        store.audited("a", gate)


def test_half_an_audit_makes_no_good_snapshot(tmp_path: Path) -> None:
    store, gates = Store(tmp_path, "toy"), frozenset({"gate", "other"})
    good = write(store, "a", [1])
    passed = [Verdict("gate", True, True, "fine"), Verdict("other", True, True, "fine")]
    store.record_audit(good, passed, gates)
    store.record_audit(write(store, "a", [2]), passed[:1], gates)
    write(store, "a", [3])
    assert good.table("items").collect()["value"].to_list() == [1]


def test_a_release_that_cannot_take_its_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, "toy")
    place = store.release(write(store, "a", [1]), "1.0.0")
    before = (place / "items.parquet").read_bytes()
    replace, calls = os.replace, []

    def failing(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)  # type: ignore[arg-type]

    newer = write(store, "a", [2])
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutsideWorldError, match="No space left"):
        store.release(newer, "1.0.0")
    assert (place / "items.parquet").read_bytes() == before


def test_one_build_at_a_time(tmp_path: Path) -> None:
    """The second waits, says so once, and begins when the first has ended; of another dataset nobody waits."""
    store, told, events = Store(tmp_path, "toy"), threading.Event(), list[str]()

    def second() -> None:
        with Store(tmp_path, "toy").building(lambda: (events.append("waits"), told.set())):  # type: ignore[func-returns-value]
            events.append("second")

    thread = threading.Thread(target=second)
    with store.building(lambda: events.append("never")):
        thread.start()
        assert told.wait(60)
        with Store(tmp_path, "other").building(lambda: events.append("never")):
            events.append("other")
        events.append("first ends")
    thread.join(60)
    assert events == ["waits", "other", "first ends", "second"]
    with store.building(lambda: events.append("never")):
        pass
    assert "never" not in events


# -- storage that other code wrote -------------------------------------------------------------


def test_a_storage_names_its_layout_and_another_one_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path, "toy")
    with store.building(lambda: None):
        write(store, "asset", [1])
    mark = store.folder / "layout.json"
    assert json.loads(mark.read_text()) == {"layout": LAYOUT}
    for other in ('{"layout": 99}', "{}", "no json"):
        mark.write_text(other)
        with pytest.raises(
            ConfigError, match=r"found layout (99|None) of storage, expected 1.*Build with that"
        ):
            Store(tmp_path, "toy").latest("asset")
        with pytest.raises(ConfigError, match="found layout"), Store(tmp_path, "toy").building(lambda: None):
            pass
        assert mark.read_text() == other


def test_a_storage_from_before_there_were_layouts_is_taken_over(tmp_path: Path) -> None:
    """Records were without settings and runs then."""
    store = Store(tmp_path, "toy")
    with store.building(lambda: None):
        snapshot = write(store, "asset", [1])
    (store.folder / "layout.json").unlink()
    record = store.folder / "state" / "asset.json"
    kept = json.loads(record.read_text())
    record.write_text(json.dumps({key: kept[key] for key in ("latest", "inputs", "facts", "audit", "good")}))
    later = Store(tmp_path, "toy")
    found = later.latest("asset")
    assert found is not None
    assert (found.id, found.run_id) == (snapshot.id, None)
    with pytest.raises(GateError, match=r"was built before duplicates in dataset\.yaml changed"):
        later.audited("asset", frozenset(), {"duplicates": "1"})
    with later.building(lambda: None):
        write(later, "asset", [2])
    assert (store.folder / "layout.json").is_file()


@pytest.mark.parametrize("content", ["{", "[]", '{"current": "abc"}'])
def test_a_record_that_is_none_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    store = Store(tmp_path, "toy")
    with store.building(lambda: None):
        write(store, "asset", [1])
    (store.folder / "state" / "asset.json").write_text(content)
    with pytest.raises(
        ConfigError, match=r"state/asset\.json: not the record .* Delete .*state, which makes"
    ):
        store.latest("asset")
