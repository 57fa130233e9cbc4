"""Publishing to Zenodo: against a loopback server with the API's failures, and through a proxy that adds its own."""

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dataset_pipeline.adapters import zenodo
from dataset_pipeline.adapters.destinations import LocalRelease, Retries
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.adapters.zenodo import packages, publish_zenodo
from dataset_pipeline.config import ZenodoDestination
from dataset_pipeline.errors import ConfigError, DatasetPipelineError, GateError, OutsideWorldError
from dataset_pipeline.stages.datacite import invenio_metadata
from dataset_pipeline_tests.adapters.hosts import invenio as server
from dataset_pipeline_tests.adapters.hosts.proxy import Answer, Fault, Proxy, proxy
from dataset_pipeline_tests.toy_release import toy_config

SHARD = hashlib.shake_256(b"shard").digest(300_000)
SLEPT: list[float] = []
DOCUMENTS = "toy-1.0.0-documents.zip"


@dataclass(frozen=True)
class Host:
    """A host and the proxy in front of it."""

    invenio: server.Invenio
    proxy: Proxy
    settings: ZenodoDestination
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> server.Record:
        """The newest draft or record."""
        return list(self.invenio.records.values())[-1]

    def publish(self, release: LocalRelease, doi: str | None = None, **changes: Any) -> Any:
        SLEPT.clear()
        metadata = {**invenio_metadata(toy_config(), "Zenodo"), "version": release.version, **self.metadata}
        return publish_zenodo(
            release, self.settings, metadata, doi, retries=Retries(sleep=SLEPT.append), **changes
        )

    def publish_all(self, release: LocalRelease) -> Any:
        """All three steps."""
        doi = self.publish(release).doi
        return self.publish(release, doi, is_final=True)

    def fail(self, *faults: Fault) -> None:
        self.proxy.faults[:] = faults


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENODO_TOKEN", server.TOKEN)


@pytest.fixture
def host() -> Iterator[Host]:
    with server.invenio() as invenio, proxy(invenio.url) as between:
        yield Host(invenio, between, ZenodoDestination(kind="zenodo", url=between.url))


def make_release(place: Path, version: str, files: dict[str, bytes]) -> LocalRelease:
    contents = {
        "README.md": b"card", "data/train-0.parquet": SHARD, "data/test-0.parquet": b"rows", "provenance.json": b"{}",
        "reports/a.json": b"{}", "reports/tables/b.csv": b"1,2\n", **files,
    }  # fmt: skip
    for path, data in contents.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    sums = "".join(f"{file_sha256(place / path)}  {path}\n" for path in sorted(contents))
    (place / "SHA256SUMS").write_text(sums)
    return LocalRelease.open(place, "toy", version, "Toy pictures")


@pytest.fixture
def release(tmp_path: Path) -> LocalRelease:
    return make_release(tmp_path / "1", "1.0.0", {})


def unpacked(record: server.Record) -> dict[str, bytes]:
    """What somebody has who downloads a record and unpacks its archives into one folder."""
    found: dict[str, bytes] = {}
    for key, data in record.files.items():
        if key.endswith(".zip") and key != "toy-1.0.0.zip":  # which is a file of the release
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                assert len(archive.namelist()) == len(set(archive.namelist()))
                found |= {name: archive.read(name) for name in archive.namelist()}
        else:
            found[f"data/{key}" if key.endswith(".parquet") else key] = data
    return found


def is_published(host: Host, release: LocalRelease) -> bool:
    expected = {path: (release.folder / path).read_bytes() for path in release.sizes}
    return host.record.is_published and unpacked(host.record) == expected


# -- the three steps -------------------------------------------------------------------------


def test_reserve_then_fill_then_publish(host: Host, release: LocalRelease) -> None:
    first = host.publish(release)
    assert (first.doi, first.is_final, first.sent) == ("10.5072/zenodo.1000", False, ())
    assert first.notes == (
        "the DOI 10.5072/zenodo.1000 is reserved for this version, and the release's documents name no DOI: set "
        "'doi: 10.5072/zenodo.1000' in dataset.yaml, build again, and publish again",
    )
    assert host.record.files == {}
    second = host.publish(release, first.doi)
    assert host.record.files.keys() == {
        "README.md",
        "SHA256SUMS",
        "provenance.json",
        DOCUMENTS,
        "train-0.parquet",
        "test-0.parquet",
    }
    assert not host.record.is_published
    assert "and --final" in second.notes[0]
    assert host.record.metadata["rights"] == [{"id": "cc-by-sa-4.0"}]
    # Another call before the last one changes nothing.
    before = len(host.proxy.requests)
    assert host.publish(release, first.doi).sent == ()
    assert [
        method for method, path, _ in host.proxy.requests[before:] if "/files" in path and method != "GET"
    ] == []
    third = host.publish(release, first.doi, is_final=True)
    assert is_published(host, release)
    assert (third.is_final, third.notes, third.doi) == (True, (), first.doi)
    again = host.publish(release, first.doi, is_final=True)
    assert (again.steps, again.is_final) == ((), True)
    assert len(host.invenio.records) == 1


def test_a_dry_run_says_exactly_what_happens_and_changes_nothing(host: Host, release: LocalRelease) -> None:
    plan = host.publish(release, is_dry_run=True)
    assert plan.steps == (f"create a draft of 'Toy pictures' 1.0.0 at {host.proxy.url}", "reserve a DOI")
    assert host.invenio.records == {}
    done = host.publish(release)
    assert done.steps == plan.steps
    plan = host.publish(release, done.doi, is_dry_run=True, is_final=True)
    assert host.record.files == {}
    assert plan.steps == (
        "send README.md (4 bytes)",
        "send provenance.json (2 bytes)",
        f"send SHA256SUMS ({release.sizes['SHA256SUMS']} bytes)",
        f"send {DOCUMENTS} (248 bytes: 2 files)",
        "send test-0.parquet (4 bytes)",
        "send train-0.parquet (300000 bytes)",
        "publish 10.5072/zenodo.1000, which cannot be undone",
    )
    assert host.publish(release, done.doi, is_final=True).steps == plan.steps


def test_a_release_that_names_another_doi_is_not_sent(host: Host, release: LocalRelease) -> None:
    done = host.publish(release, "10.5072/zenodo.7", is_final=True)
    assert "documents name 10.5072/zenodo.7: set 'doi: 10.5072/zenodo.1000'" in done.notes[0]
    assert (host.record.files, host.record.is_published) == ({}, False)


def test_the_next_version_sends_only_what_changed(host: Host, release: LocalRelease, tmp_path: Path) -> None:
    host.publish_all(release)
    host.proxy.requests.clear()
    second = make_release(tmp_path / "2", "1.1.0", {"README.md": b"card 2"})
    done = host.publish_all(second)
    assert is_published(host, second)
    assert [record.parent for record in host.invenio.records.values()] == ["concept1000", "concept1000"]
    assert set(done.unchanged) == {"provenance.json", "test-0.parquet", "train-0.parquet"}
    assert "take over the files of record 1000" in done.steps
    assert f"delete {DOCUMENTS} from the draft" in done.steps
    assert host.proxy.seen("PUT", r"parquet/content") == 0
    assert host.record.metadata["version"] == "1.1.0"


def test_a_record_with_another_title_is_found_by_its_id(
    host: Host, release: LocalRelease, tmp_path: Path
) -> None:
    host.publish_all(release)
    second = make_release(tmp_path / "2", "2.0.0", {})
    named = replace(
        host, metadata={"title": "Renamed"}, settings=host.settings.model_copy(update={"record": "1000"})
    )
    named.publish_all(second)
    assert is_published(host, second)
    assert host.record.parent == "concept1000"
    with pytest.raises(ConfigError, match="no record 9999"):
        replace(named, settings=host.settings.model_copy(update={"record": "9999"})).publish(second)


def test_published_is_final(host: Host, release: LocalRelease, tmp_path: Path) -> None:
    host.publish_all(release)
    other = make_release(tmp_path / "2", "1.0.0", {"README.md": b"another"})
    with pytest.raises(
        ConfigError, match=r"published already with other content \(1 files differ, such as README"
    ):
        host.publish(other)
    rebuilt = make_release(tmp_path / "3", "1.0.0", {"provenance.json": b'{"time": 2}'})
    assert host.publish(rebuilt).steps == ()
    assert is_published(host, release)


def test_somebody_elses_draft_of_another_dataset_stays(host: Host, release: LocalRelease) -> None:
    other = host.invenio.new(None, {"title": "Other pictures", "version": "1.0.0"})
    host.publish_all(release)
    assert (other.files, other.is_published) == ({}, False)


def test_addresses_of_a_published_record(host: Host, release: LocalRelease) -> None:
    done = host.publish_all(release)
    assert set(done.files) == set(release.sizes)
    assert urllib.request.urlopen(done.files["data/train-0.parquet"]).read() == SHARD
    address, _, member = done.files["reports/tables/b.csv"].partition("#")
    with zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(address).read())) as archive:
        assert archive.read(member) == b"1,2\n"


# -- a record's limits -----------------------------------------------------------------------


def test_many_shards_become_few_files_and_equal_content_equal_bytes(
    host: Host, release: LocalRelease, tmp_path: Path
) -> None:
    many = {f"data/train-{number:05d}-of-00250.parquet": b"%d" % number for number in range(250)}
    big = make_release(tmp_path / "2", "1.0.0", many)
    plan = packages(big)
    assert len(plan) <= 100
    assert sorted(path for package in plan for path in package.members) == sorted(big.sizes)
    host.publish_all(big)
    assert is_published(host, big)
    twin = make_release(tmp_path / "3", "1.0.0", many)
    assert host.publish(twin).steps == ()


def test_what_holds_items_once_more_is_apart_from_the_documents(
    host: Host, release: LocalRelease, tmp_path: Path
) -> None:
    again = {
        "toy-1.0.0.zip": b"zip", "webdataset/train-00000.tar": SHARD, "webdataset/index.json": b"{}",
        "variants/small/train-0.parquet": SHARD, "mini/data/train-0.parquet": b"few", "mini/README.md": b"a card",
    }  # fmt: skip
    first = make_release(tmp_path / "2", "1.0.0", again)
    host.publish_all(first)
    assert is_published(host, first)
    assert set(host.record.files) == {
        "README.md", "SHA256SUMS", "provenance.json", "toy-1.0.0.zip", "train-0.parquet", "test-0.parquet",
        "toy-webdataset.zip", "toy-variants.zip", "toy-mini.zip", DOCUMENTS,
    }  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(host.record.files[DOCUMENTS])) as archive:
        assert archive.namelist() == ["reports/a.json", "reports/tables/b.csv"]
    # Documents that change do not send pictures again.
    second = make_release(
        tmp_path / "3", "1.0.1", {**again, "reports/a.json": b"[]", "mini/README.md": b"another card"}
    )
    assert set(host.publish_all(second).sent) == {"SHA256SUMS", "toy-1.0.1-documents.zip", "toy-mini.zip"}
    assert is_published(host, second)


@pytest.mark.parametrize(("size", "is_fine"), [(50 * 10**9, True), (50 * 10**9 + 1, False)])
def test_a_record_takes_50_gb(release: LocalRelease, size: int, is_fine: bool) -> None:
    grown = replace(release, sizes={"README.md": size})
    if is_fine:
        assert len(packages(grown)) == 1
    else:
        with pytest.raises(OutsideWorldError, match="and a record takes 50000000000"):
            packages(grown)


def test_a_disk_without_space_for_an_archive(
    host: Host, release: LocalRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    doi = host.publish(release).doi
    full = shutil._ntuple_diskusage(100, 100, 1)
    monkeypatch.setattr(zenodo.shutil, "disk_usage", lambda _: full)
    with pytest.raises(
        OutsideWorldError, match=f"no space left for {DOCUMENTS}, which takes 6 bytes.*TMPDIR"
    ):
        host.publish(release, doi)


# -- faults ----------------------------------------------------------------------------------

FAULTS = [
    Fault("POST", "/api/records$", "lost"),  # the host has done it: there must not be two drafts
    Fault("POST", "/api/records$", "reset"),
    Fault("POST", "/pids/doi", "lost"),
    Fault("PUT", r"train-0\.parquet/content", "reset"),
    Fault("PUT", r"train-0\.parquet/content", "lost"),
    Fault("PUT", r"train-0\.parquet/content", "status", status=500),
    Fault("POST", r"/draft/files$", "lost"),
    Fault("POST", r"train-0\.parquet/commit", "lost"),
    Fault("POST", r"train-0\.parquet/commit", "status", status=503, times=2),
    Fault("GET", r"/draft/files$", "truncated"),
    Fault("GET", "/user/records", "slow"),
    Fault("PUT", "/draft$", "status", status=502),
    Fault("POST", "/actions/publish", "lost"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.method}-{fault.path[-14:]}")
def test_a_fault_that_passes_costs_another_try(host: Host, release: LocalRelease, fault: Fault) -> None:
    host.fail(replace(fault))
    host.publish_all(release)
    assert host.proxy.faults[0].times == 0, "the fault never happened"
    assert is_published(host, release)
    assert len(host.invenio.records) == 1
    assert host.proxy.seen("PUT", r"test-0\.parquet/content") == 1
    assert host.proxy.seen("POST", "/actions/publish") == 1


def test_retry_after_and_the_rate_limit_are_honoured(host: Host, release: LocalRelease) -> None:
    host.fail(Fault("PUT", "README.md/content", "status", status=429, headers=(("Retry-After", "17"),)))
    doi = host.publish(release).doi
    host.publish(release, doi)
    assert SLEPT == [17.0]
    # The last request of a minute is followed by a wait, by the server's clock.
    host.invenio.requests_left = 3
    host.publish(release, doi)
    assert SLEPT[:1] == [42.0]


def test_a_host_that_fails_again_and_again_is_named_with_the_file_and_the_remedy(
    host: Host, release: LocalRelease
) -> None:
    doi = host.publish(release).doi
    host.fail(Fault("PUT", r"train-0\.parquet/content", "status", status=503, times=99))
    with pytest.raises(OutsideWorldError) as caught:
        host.publish(release, doi, is_final=True)
    assert "sending train-0.parquet: the host answered 503 (6 attempts)" in str(caught.value)
    assert "Run the same command again later: what has arrived is not sent again" in str(caught.value)
    assert not host.record.is_published
    host.fail()
    host.publish(release, doi, is_final=True)
    assert is_published(host, release)
    assert host.proxy.seen("PUT", "README.md/content") == 1


def test_a_host_that_stores_other_bytes_is_found_out(host: Host, release: LocalRelease) -> None:
    doi = host.publish(release).doi

    def other(answer: Answer) -> Answer:
        status, headers, body = answer
        return status, headers, body.replace(hashlib.md5(SHARD).hexdigest().encode(), b"0" * 32)

    host.fail(Fault("GET", r"train-0\.parquet$", "changed", change=other, times=99))
    with pytest.raises(
        OutsideWorldError, match=r"sending train-0\.parquet: the host stored other bytes than were sent"
    ):
        host.publish(release, doi, is_final=True)
    assert not host.record.is_published
    host.fail()
    host.publish(release, doi, is_final=True)
    assert is_published(host, release)


def test_a_killed_process_goes_on_where_it_ended(host: Host, release: LocalRelease) -> None:
    doi = host.publish(release).doi
    script = (
        "import json, sys; from pathlib import Path\n"
        "from dataset_pipeline.adapters.destinations import LocalRelease\n"
        "from dataset_pipeline.adapters.zenodo import publish_zenodo\n"
        "from dataset_pipeline.config import ZenodoDestination\n"
        "publish_zenodo(LocalRelease.open(Path(sys.argv[1]), 'toy', '1.0.0', 'Toy'),\n"
        "               ZenodoDestination.model_validate_json(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4])\n"
    )
    metadata = json.dumps({**invenio_metadata(toy_config(), "Zenodo")})
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(release.folder), host.settings.model_dump_json(), metadata, doi],
        stderr=subprocess.PIPE,
    )
    kill = Fault("PUT", r"train-0\.parquet/content", "killed", call=lambda: (process.kill(), process.wait()))
    host.fail(kill)
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error.decode()
    host.publish(release, doi, is_final=True)
    assert is_published(host, release)
    assert host.proxy.seen("PUT", r"test-0\.parquet/content") == 1
    assert len(host.invenio.records) == 1


# -- what a person has to mend ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("GET", "/user/records", "status", status=401), "the token was refused or has expired"),
        (Fault("PUT", "/content", "status", status=401), "sending README.md: the token was refused"),
        (Fault("PUT", "/content", "status", status=413), "sending README.md: larger than the host takes"),
        (Fault("POST", "/draft/files", "status", status=403), "the record is somebody else's"),
        (Fault("PUT", "/content", "status", status=429, headers=(("Retry-After", "4000"),)), "asks to wait 4000 s"),
    ],
    ids=lambda value: f"{value.status}-{value.path[:8]}" if isinstance(value, Fault) else None,
)  # fmt: skip
def test_what_only_a_person_can_mend_is_said_at_once(
    host: Host, release: LocalRelease, fault: Fault, expected: str
) -> None:
    doi = host.publish(release).doi
    host.fail(replace(fault, times=99))
    with pytest.raises(DatasetPipelineError) as caught:
        host.publish(release, doi, is_final=True)
    assert expected in str(caught.value)
    assert SLEPT == []
    assert not host.record.is_published
    assert server.TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (server.READ_ONLY_TOKEN, "the token may not do that"),
        ("expired-token-0123456789", "the token was refused or has expired"),
        ("", "Set ZENODO_TOKEN"),
    ],
    ids=["read-only", "expired", "none"],
)
def test_tokens(
    host: Host, release: LocalRelease, monkeypatch: pytest.MonkeyPatch, token: str, expected: str
) -> None:
    monkeypatch.setenv("ZENODO_TOKEN", token)
    with pytest.raises(OutsideWorldError, match=expected) as caught:
        host.publish(release)
    assert not token or token not in str(caught.value)
    assert host.invenio.records == {}


def test_a_licence_that_the_host_does_not_know_is_named(host: Host, release: LocalRelease) -> None:
    doi = host.publish(release).doi
    odd = replace(host, metadata={"rights": [{"id": "odd-1.0"}]})
    with pytest.raises(
        ConfigError, match=r"does not accept the description: metadata\.rights: Invalid value odd-1\.0"
    ):
        odd.publish(release, doi, is_final=True)
    assert not host.record.is_published


def test_what_a_record_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="needs date and creators"):
        invenio_metadata(toy_config(date=None, creators=[]), "Zenodo")


def test_a_release_that_is_not_what_its_checksums_say_is_not_sent(host: Host, release: LocalRelease) -> None:
    doi = host.publish(release).doi
    (release.folder / "reports" / "a.json").write_bytes(b"[]")
    with pytest.raises(GateError, match=r"a\.json: not what SHA256SUMS says"):
        host.publish(release, doi)
