"""Storage in a bucket: against two real servers, of which one knows conditional writes and the other does not."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest

from dataset_pipeline.adapters import remote
from dataset_pipeline.adapters.bucket import Bucket
from dataset_pipeline.adapters.cache import ResultCache
from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.remote_store import RemoteStore, open_store
from dataset_pipeline.adapters.store import Store, Verdict
from dataset_pipeline.commands import build as commands_build
from dataset_pipeline.errors import ConfigError, OutsideWorldError
from dataset_pipeline_tests.adapters.hosts import s3 as servers
from dataset_pipeline_tests.adapters.hosts.proxy import Fault, proxy
from dataset_pipeline_tests.building import Bench, CountingEngine, contents
from dataset_pipeline_tests.command_line import run
from dataset_pipeline_tests.small_dataset import write_dataset

ROOT = "s3://bucket/sets"
GATE = frozenset({"gate"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("s3") / "buckets"
    (folder / "bucket").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with servers.rclone(folder) as one, servers.moto() as two:
            boto3.client("s3", endpoint_url=two, region_name="us-east-1").create_bucket(Bucket="bucket")
            yield {"rclone": one, "moto": two}


@pytest.fixture(params=["rclone", "moto"])
def server(
    request: pytest.FixtureRequest, running: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """A client of an empty bucket that the environment points to."""
    monkeypatch.setattr(remote, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(remote, "_SETTLING_SECONDS", 0.05)
    monkeypatch.setenv("AWS_ENDPOINT_URL", running[request.param])
    on_machine(monkeypatch, tmp_path / "one")
    client = boto3.client("s3", endpoint_url=running[request.param], region_name="us-east-1")
    for name in keys(client):
        client.delete_object(Bucket="bucket", Key=name)
    return client


only_rclone = pytest.mark.parametrize("server", ["rclone"], indirect=True)


def on_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """From here on this is another machine: its working copies are elsewhere."""
    monkeypatch.setenv("DATASET_PIPELINE_WORKING_FOLDER", str(folder))


def keys(client: Any) -> set[str]:
    return {entry["Key"] for entry in client.list_objects_v2(Bucket="bucket").get("Contents", [])}


def never() -> None:
    raise AssertionError("nobody else builds")


def write(store: Store, number: int) -> Any:
    with store.writing("asset", {}) as writer:
        writer.table("rows", pl.DataFrame({"number": [number]}))
    snapshot = store.latest("asset")
    assert snapshot is not None
    return snapshot


def test_a_snapshot_is_read_on_another_machine(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = open_store(ROOT, "toy")
    with one.building(never):
        snapshot = write(one, 1)
        one.record_audit(snapshot, [Verdict("gate", True, True, "fine")], GATE)
        one.release(snapshot, "1.0.0")
    on_machine(monkeypatch, tmp_path / "two")
    two = open_store(ROOT, "toy")
    assert not two.folder.exists()
    found = two.audited("asset", GATE)
    assert (found.id, found.table("rows").collect().to_dicts()) == (snapshot.id, [{"number": 1}])
    assert found.folder.is_relative_to(tmp_path / "two")
    folder = two.release_folder("1.0.0")
    assert folder is not None
    assert contents(folder) == contents(snapshot.folder)
    assert two.release_folder("2.0.0") is None


@only_rclone
def test_what_a_bucket_says_leads_nowhere_else(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys are any text, and whoever may write to the bucket writes its records."""
    bucket = open_store(ROOT, "toy").remote
    assert bucket is not None
    server.put_object(Bucket="bucket", Key="sets/toy/snapshots/asset/good.json", Body=b'{"../up": [1, "0"]}')
    assert bucket.fetch_folder("snapshots/asset/good")
    assert list((bucket.folder / "snapshots/asset/good").iterdir()) == []
    monkeypatch.setattr(bucket, "read", lambda _path: b"{}")
    assert not bucket.fetch_folder("snapshots/asset/../../../up")
    found = {"Size": 1, "LastModified": datetime.now(timezone.utc)}
    page = {"Contents": [{"Key": f"sets/toy/cache/{name}", **found} for name in ("../../../up", "scan/one")]}
    monkeypatch.setattr(Bucket, "pages", lambda *_args, **_more: iter([page]))
    assert set(bucket.listed("cache")) == {"cache/scan/one"}
    assert list(tmp_path.rglob("up")) == []


@only_rclone
def test_a_newer_snapshot_takes_the_place_and_the_good_one_stays(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = open_store(ROOT, "toy")
    with one.building(never):
        good = write(one, 1)
        one.record_audit(good, [Verdict("gate", True, True, "fine")], GATE)
    on_machine(monkeypatch, tmp_path / "two")
    two = open_store(ROOT, "toy")
    with two.building(never):
        write(two, 2)
        last = write(two, 3)
    lists = {key for key in keys(server) if key.startswith("sets/toy/snapshots/") and key.endswith(".json")}
    assert lists == {f"sets/toy/snapshots/asset/{s.id}.json" for s in (good, last)}
    assert one.latest("asset") == last or one.latest("asset").id == last.id  # type: ignore[union-attr]
    assert one.audit("asset") == {}


@only_rclone
def test_a_release_is_replaced_and_is_never_half_there(server: Any) -> None:
    store = open_store(ROOT, "toy")
    with store.building(never):
        store.release(write(store, 1), "1.0.0")
        store.release(write(store, 2), "1.0.0")
        there = {key for key in keys(server) if key.startswith("sets/toy/releases/")}
        assert there == {"sets/toy/releases/1.0.0.json", "sets/toy/releases/1.0.0/rows.parquet"}
    body = server.get_object(Bucket="bucket", Key="sets/toy/releases/1.0.0/rows.parquet")["Body"].read()
    assert body == (store.releases / "1.0.0" / "rows.parquet").read_bytes()


@only_rclone
def test_what_arrives_damaged_is_not_read(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = open_store(ROOT, "toy")
    with one.building(never):
        snapshot = write(one, 1)
    key = f"sets/toy/snapshots/asset/{snapshot.id}/rows.parquet"
    server.put_object(Bucket="bucket", Key=key, Body=b"other bytes")
    on_machine(monkeypatch, tmp_path / "two")
    with pytest.raises(OutsideWorldError, match=r"rows\.parquet: not the bytes that were sent") as caught:
        open_store(ROOT, "toy").latest("asset")
    assert f"delete {ROOT}/toy/snapshots/asset/{snapshot.id}.json" in str(caught.value)
    assert not list((tmp_path / "two").rglob("*.parquet"))


def doubled(batch: pl.DataFrame) -> pl.DataFrame:
    SEEN.extend(batch["key"])
    return batch.with_columns(value=pl.col("key") * 2)


SEEN: list[int] = []


def results(store: RemoteStore, *wanted: int) -> list[int]:
    """Cached results for the keys; ``SEEN`` has those that had to be computed."""
    SEEN.clear()
    cache = ResultCache(store.cache, store.remote)
    found = cache.results("doubled", "v1", pl.LazyFrame({"key": wanted}), ["key"], doubled, InlineEngine())
    return found.sort("key").collect()["value"].to_list()


@only_rclone
def test_results_of_another_machine_are_not_computed_again(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert results(RemoteStore(ROOT, "toy"), 1, 2) == [2, 4]
    assert SEEN == [1, 2]
    on_machine(monkeypatch, tmp_path / "two")
    assert results(RemoteStore(ROOT, "toy"), 1, 2, 3) == [2, 4, 6]
    assert SEEN == [3]
    on_machine(monkeypatch, tmp_path / "one")
    assert results(RemoteStore(ROOT, "toy"), 1, 2, 3) == [2, 4, 6]
    assert SEEN == []


@only_rclone
def test_parts_that_were_put_together_do_not_come_back(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each machine has the small parts; the one that puts them together deletes them for all."""
    for number in range(3):
        results(RemoteStore(ROOT, "toy"), number)
    on_machine(monkeypatch, tmp_path / "two")
    monkeypatch.setattr("dataset_pipeline.adapters.cache._COMPACT_FROM_PARTS", 3)
    results(RemoteStore(ROOT, "toy"), 0, 1, 2)
    [part] = [key for key in keys(server) if key.startswith("sets/toy/cache/")]
    monkeypatch.setattr("dataset_pipeline.adapters.cache._COMPACT_FROM_PARTS", 99)
    on_machine(monkeypatch, tmp_path / "one")
    assert results(RemoteStore(ROOT, "toy"), 0, 1, 2) == [0, 2, 4]
    assert SEEN == []
    assert [key for key in keys(server) if key.startswith("sets/toy/cache/")] == [part]
    # What a killed process could not send has never been there, and stays.
    folder = tmp_path / "one"
    [own] = folder.rglob("cache/doubled/v1/*.parquet")
    pl.DataFrame({"key": [7], "value": [14]}).write_parquet(own.with_name("unsent.parquet"))
    assert results(RemoteStore(ROOT, "toy"), 7) == [14]
    assert SEEN == []
    assert "sets/toy/cache/doubled/v1/unsent.parquet" in keys(server)


# -- two builds at once ----------------------------------------------------------------------


def test_a_second_build_waits_for_the_first(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = open_store(ROOT, "toy")
    said: list[str] = []
    with one.building(never):
        on_machine(monkeypatch, tmp_path / "two")  # else the working copy's own lock would do
        two = open_store(ROOT, "toy")

        def build() -> None:
            with two.building(lambda: said.append("waiting")):
                said.append("building")

        thread = threading.Thread(target=build)
        thread.start()
        while not said:
            time.sleep(0.01)
        write(one, 1)
        assert said == ["waiting"]
    thread.join(30)
    assert said == ["waiting", "building"]


def lease_of(client: Any, **said: Any) -> None:
    data = json.dumps({"token": "another", "host": "elsewhere", "process": 1, **said}).encode()
    client.put_object(Bucket="bucket", Key="sets/toy/build.lease", Body=data)


def test_a_lease_ends_with_its_holder(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    process = next(n for n in range(2**22, 1, -1) if not remote.is_running(n))
    lease_of(server, machine=remote._machine(), process=process)  # killed, here
    with open_store(ROOT, "toy").building(never):
        pass
    lease_of(server, machine="elsewhere")  # of whom no sign came for so long
    monkeypatch.setattr(remote, "LEASE_SECONDS", -1.0)
    with open_store(ROOT, "toy").building(never):
        pass
    assert "sets/toy/build.lease" not in keys(server)


def test_who_lost_the_lease_changes_nothing_any_more(server: Any) -> None:
    """A machine that slept for an hour wakes up in the middle of a build."""
    store = open_store(ROOT, "toy")
    with store.building(never):
        write(store, 1)
        before = server.get_object(Bucket="bucket", Key="sets/toy/state/asset.json")["Body"].read()
        lease_of(server)
        with pytest.raises(
            OutsideWorldError, match="process 1 of elsewhere has taken the lease of this build"
        ):
            write(store, 2)
    assert server.get_object(Bucket="bucket", Key="sets/toy/state/asset.json")["Body"].read() == before
    assert "sets/toy/build.lease" in keys(server), "the other one's lease stays"


# -- whole builds ----------------------------------------------------------------------------


@only_rclone
def test_builds_on_two_machines_give_the_release_of_a_folder_and_the_second_computes_nothing(
    built: Bench, server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, different = built.config_path, ["provenance.json", "SHA256SUMS"]
    expected = contents(built.release, without=different)
    counted = []
    for machine in ("one", "two"):
        on_machine(monkeypatch, tmp_path / machine)
        [release, engine] = build(config)
        assert contents(release, without=different) == expected
        assert release.is_relative_to(tmp_path / machine)
        counted.append(engine.items)
    assert counted == [built.engine.items, {}]
    on_machine(monkeypatch, tmp_path / "three")
    answer = run("publish", config, "--to", "shelf", "--storage", ROOT, "--dry-run")
    assert (answer.status, "would send README.md" in answer.out) == (0, True), answer.err + answer.out
    answer = run("gc", config, "--storage", ROOT, "--everything", "--delete")
    assert (answer.status, "freed" in answer.out) == (0, True), answer.err
    assert not [key for key in keys(server) if key.startswith(("sets/small/cache/", "sets/small/used/"))]


def build(config: Path) -> tuple[Path, CountingEngine]:
    """The release of a build in the bucket, and what was computed for it."""
    engine = CountingEngine()
    found = commands_build.build(config, ROOT, engine=engine)
    assert found.release is not None
    return found.release, engine


@only_rclone
def test_records_of_publications_and_the_release_before_come_from_the_bucket(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = open_store(ROOT, "toy")
    with one.building(never):
        for number, version in enumerate(("1.0.0", "1.9.0", "1.10.0", "2.0.0")):
            one.release(write(one, number), version)
    record = one.folder / "publications" / "shelf" / "1.0.0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    one.keep_record(record)
    on_machine(monkeypatch, tmp_path / "two")
    two = open_store(ROOT, "toy")
    assert [path.name for path in two.publications().rglob("*.json")] == ["1.0.0.json"]
    assert [path.name for path in two.releases_before("2.0.0").iterdir()] == ["1.10.0"]
    assert pl.read_parquet(two.releases / "1.10.0" / "rows.parquet")["number"].to_list() == [2]


@only_rclone
def test_a_storage_that_is_not_there(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="s3://no-such-bucket: no such bucket"):
        open_store("s3://no-such-bucket/sets", "toy").latest("asset")
    for address in ("s3://", "s3:///sets", "s3://Bucket", "s3://bucket/../other"):
        with pytest.raises(ConfigError, match="expected s3://BUCKET or s3://BUCKET/PREFIX"):
            open_store(address, "toy")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OutsideWorldError, match=r"Could not connect .*Check the address") as caught:
        open_store(ROOT, "toy").latest("asset")
    assert caught.value.exit_status == 3


@only_rclone
def test_a_storage_that_disappears_in_the_middle_and_comes_back(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = write_dataset(tmp_path / "source")
    monkeypatch.setattr(remote, "_ATTEMPTS", 1)
    with proxy(os.environ["AWS_ENDPOINT_URL"]) as between:

        def disappear() -> None:
            between.faults[:] = [
                Fault(method, "", "status", times=10**6) for method in ("GET", "HEAD", "PUT", "DELETE")
            ]

        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        between.faults[:] = [Fault("PUT", "snapshots/deduplicated_items", "killed", call=disappear)]
        answer = run("build", config, "--storage", ROOT, "--to", "deduplicated_items")
        assert (answer.status, "Run the same command again" in answer.last) == (3, True), answer.err
        # Files of the snapshot may have arrived: without their list and the asset's record they are not there.
        assert not [key for key in keys(server) if re.search(r"deduplicated_items(/[^/]*)?\.json$", key)]
        between.faults.clear()
        monkeypatch.setattr(remote, "LEASE_SECONDS", -1.0)  # its holder, this very process, still runs
        answer = run("build", config, "--storage", ROOT, "--to", "deduplicated_items")
        assert answer.status == 0, answer.err
    assert "sets/small/state/deduplicated_items.json" in keys(server)


# -- layouts -----------------------------------------------------------------------------------


@only_rclone
def test_a_storage_of_another_layout_is_refused(server: Any, tmp_path: Path) -> None:
    server.put_object(Bucket="bucket", Key="sets/toy/layout.json", Body=b'{"layout": 99}')
    for store in (open_store(ROOT, "toy"), Store(tmp_path / "local", "toy")):
        store.folder.mkdir(parents=True, exist_ok=True)
        (store.folder / "layout.json").write_text('{"layout": 99}')
        with (
            pytest.raises(ConfigError, match="found layout 99 of storage, expected 1"),
            store.building(never),
        ):
            pass
        with pytest.raises(ConfigError, match="found layout 99 of storage, expected 1"):
            store.latest("asset")
    assert "sets/toy/build.lease" not in keys(server)
