"""Places that a version was published at: what they give, how fast, and the script that downloads from them."""

import hashlib
import io
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataset_pipeline.adapters.destinations import LocalRelease, Retries
from dataset_pipeline.adapters.mirrors import MirrorHealth, check_mirror, read_measured, table
from dataset_pipeline.adapters.zenodo import packages
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.mirrors import Mirror, addresses, download_script, mirrors
from dataset_pipeline_tests.adapters.hosts.proxy import Fault, Proxy, proxy
from dataset_pipeline_tests.adapters.hosts.tree import tree
from dataset_pipeline_tests.toy_release import toy_config

SHARD = hashlib.shake_256(b"shard").digest(3 << 20)
FILES = {"README.md": b"card", "data/train.parquet": SHARD, "reports/a b.json": b"{}"}
SUMS = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in FILES.items()).encode()
CHECKSUMS = {path: hashlib.sha256(data).hexdigest() for path, data in {**FILES, "SHA256SUMS": SUMS}.items()}


@dataclass
class Host:
    """Files, and the proxy in front of them."""

    files: dict[str, bytes]
    proxy: Proxy

    @property
    def mirror(self) -> Mirror:
        return Mirror("host", "tree", self.proxy.url)

    def check(self, kind: str = "tree") -> MirrorHealth:
        place = Mirror("host", kind, self.proxy.url)  # type: ignore[arg-type]
        places = addresses(place, CHECKSUMS, "toy", "1.0.0")
        ticks = itertools.count()
        return check_mirror(
            "host",
            place.base,
            places,
            CHECKSUMS,
            retries=Retries(3, sleep=lambda _: None),
            clock=lambda: next(ticks) / 8,
        )


@pytest.fixture
def host() -> Iterator[Host]:
    files = {**FILES, "SHA256SUMS": SUMS}
    with tree(files) as url, proxy(url) as between:
        yield Host(files, between)


def as_record(files: dict[str, bytes]) -> None:
    """Arrange files as a record has them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("reports/a b.json", files.pop("reports/a b.json"))
    files["toy-1.0.0-documents.zip"] = stream.getvalue()
    files["train.parquet"] = files.pop("data/train.parquet")


# -- health ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tree", "record"])
def test_a_good_place(host: Host, kind: str) -> None:
    if kind == "record":
        as_record(host.files)
    found = host.check(kind)
    assert (found.is_good, found.faults, found.files) == (True, (), 4)
    assert found.first_byte_ms == 125.0
    assert found.mib_per_s
    assert found.mib_per_s_4


def test_lost_and_changed_files_are_named(host: Host) -> None:
    del host.files["README.md"]
    host.files["data/train.parquet"] = SHARD[:-1] + b"!"
    host.proxy.faults[:] = [Fault("GET", "a b", "status", status=503, times=99)]
    assert host.check().faults == (
        "README.md: missing: the host answered 404",
        "data/train.parquet: changed: other bytes than were published",
        f"reports/a b.json: {host.proxy.url}/reports/a%20b.json: the host answered 503 (3 attempts). Run the same "
        "command again later: what has arrived is not sent again",
    )


def test_a_lost_and_a_changed_member_of_an_archive(host: Host) -> None:
    host.files["reports/a b.json"] = b"[]"
    as_record(host.files)
    assert host.check("record").faults == ("reports/a b.json: changed: other bytes than were published",)
    host.files["toy-1.0.0-documents.zip"] = b"no archive"
    assert host.check("record").faults[0].startswith("reports/a b.json: its archive: File is not a zip file")
    del host.files["toy-1.0.0-documents.zip"]
    assert host.check("record").faults == ("reports/a b.json: its archive: missing: the host answered 404",)


@pytest.mark.parametrize("kind", ["reset", "truncated", "slow"])
def test_a_fault_that_passes_is_no_fault(host: Host, kind: str) -> None:
    host.proxy.faults[:] = [Fault("GET", "train", kind)]
    assert host.check().is_good
    assert host.proxy.faults[0].times == 0


def test_a_place_that_does_not_answer() -> None:
    found = check_mirror(
        "gone", "http://127.0.0.1:9", {"a": ("http://127.0.0.1:9/a", None)}, {"a": "0" * 64},
        retries=Retries(1),
    )  # fmt: skip
    assert len(found.faults) == 1
    assert (found.first_byte_ms, found.mib_per_s) == (None, None)


def test_the_fastest_place_without_faults_comes_first(tmp_path: Path) -> None:
    def health(name: str, speed: float, *faults: str) -> MirrorHealth:
        return MirrorHealth(name, f"https://{name}", 3, faults, 1.0, speed, speed)

    written = table(
        [health("slow", 1.0), health("broken", 9.0, "a: missing"), health("fast", 5.0)], "1.0.0", "now"
    )
    assert [row["name"] for row in written["mirrors"]] == ["fast", "slow", "broken"]
    path = tmp_path / "mirrors.json"
    path.write_text(json.dumps(written))
    assert read_measured(path) == {"fast": 5.0, "slow": 1.0}
    assert read_measured(tmp_path / "none.json") == {}
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="not a list of measured mirrors"):
        read_measured(path)


# -- places ----------------------------------------------------------------------------------

PUBLIC = {
    "shelf": {"kind": "folder", "path": "shelf"},
    "closed": {"kind": "s3", "bucket": "closed"},
    "bucket": {"kind": "s3", "bucket": "data", "prefix": "sets", "is_public": True, "endpoint": "https://s3.example.org"},
    "cdn": {"kind": "s3", "bucket": "data", "public_url": "https://cdn.example.org/"},
    "private": {"kind": "huggingface", "repository": "ada/toy"},
    "gated": {"kind": "huggingface", "repository": "ada/toy", "is_public": True, "gated": "auto"},
    "hub": {"kind": "huggingface", "repository": "ada/toy", "is_public": True},
    "record": {"kind": "zenodo"},
}  # fmt: skip


def test_places_that_anybody_can_read() -> None:
    config = toy_config(publish=PUBLIC, doi="10.5281/zenodo.123")
    assert [(place.name, place.base) for place in mirrors(config, {"hub": 2.0, "record": 3.0})] == [
        ("record", "https://zenodo.org/records/123/files"),
        ("hub", "https://huggingface.co/datasets/ada/toy/resolve/v1.0.0"),
        ("bucket", "https://s3.example.org/data/sets/toy/1.0.0"),
        ("cdn", "https://cdn.example.org/toy/1.0.0"),
    ]
    assert [place.name for place in mirrors(toy_config(publish=PUBLIC))] == ["bucket", "cdn", "hub"]


@pytest.mark.parametrize("shards", [0, 1, 96, 97, 250])
def test_addresses_of_a_record_are_where_its_files_are(tmp_path: Path, shards: int) -> None:
    # 96 shards, two files at the top and two archives are the most that 100 files hold without archives of shards.
    paths = [f"data/train-{number:05d}-of-{shards:05d}.parquet" for number in range(shards)]
    paths += ["README.md", "reports/a.json", "webdataset/train-00000.tar", "webdataset/index.json"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    empty = hashlib.sha256(b"").hexdigest()
    (tmp_path / "SHA256SUMS").write_text("".join(f"{empty}  {path}\n" for path in paths))
    plan = packages(LocalRelease.open(tmp_path, "toy", "1.0.0"))
    assert len(plan) <= 100
    assert any(package.key.startswith("toy-data-") for package in plan) == (shards > 96)
    there = {
        path: (f"https://r/{package.key}", path if package.is_archive else None)
        for package in plan
        for path in package.members
    }
    place = Mirror("record", "record", "https://r")
    assert addresses(place, [*paths, "SHA256SUMS"], "toy", "1.0.0") == there
    script: dict[str, Any] = {"__name__": "download"}
    exec(download_script(toy_config(), [place]), script)
    found = script["record_files"]([*paths, "SHA256SUMS"])
    assert {
        path: (f"https://r/{file}", path if held else None) for path, (file, held) in found.items()
    } == there


# -- the script ------------------------------------------------------------------------------


def download(
    folder: Path, *places: Mirror, arguments: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the script as somebody with a bare Python does."""
    script = folder.parent / "download.py"
    text = download_script(toy_config(), list(places))
    assert "    time.sleep(" in text
    script.write_text(text.replace("    time.sleep(", "    id("))  # tests do not wait
    return subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(folder), *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def downloaded(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("kind", ["tree", "record"])
def test_the_script_downloads_everything(host: Host, tmp_path: Path, kind: str) -> None:
    expected = dict(host.files)
    if kind == "record":
        as_record(host.files)
    done = download(tmp_path / "got", Mirror("host", kind, host.proxy.url))  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert downloaded(tmp_path / "got") == expected
    before = len(host.proxy.requests)
    again = download(tmp_path / "got", Mirror("host", kind, host.proxy.url))  # type: ignore[arg-type]
    assert "3 files, 0 to download" in again.stdout
    assert len(host.proxy.requests) == before + 1


def test_the_script_continues_where_it_ended(host: Host, tmp_path: Path) -> None:
    host.proxy.faults[:] = [Fault("GET", "train", "truncated")]
    done = download(tmp_path / "got", host.mirror)
    assert done.returncode == 0, done.stderr
    assert downloaded(tmp_path / "got") == host.files
    (tmp_path / "got" / "data" / "train.parquet").rename(tmp_path / "got" / "data" / "train.parquet.part")
    (tmp_path / "got" / "data" / "train.parquet.part").write_bytes(SHARD[:1000])
    assert download(tmp_path / "got", host.mirror).returncode == 0
    assert downloaded(tmp_path / "got") == host.files


def test_the_script_tries_the_places_in_order(host: Host, tmp_path: Path) -> None:
    dead = Mirror("dead", "tree", "http://127.0.0.1:9")
    lying = dict(FILES) | {"SHA256SUMS": SUMS, "README.md": b"evil"}
    del lying["data/train.parquet"]
    with tree(lying) as url:
        done = download(tmp_path / "got", dead, Mirror("lying", "tree", url), host.mirror)
    assert done.returncode == 0, done.stderr
    assert "lying: README.md: not what SHA256SUMS says" in done.stderr
    assert downloaded(tmp_path / "got") == host.files
    # Only what the others did not give came from the last.
    assert sorted(path for _, path, _ in host.proxy.requests) == ["/README.md", "/data/train.parquet"]


def test_the_script_says_what_it_could_not_get(host: Host, tmp_path: Path) -> None:
    host.files["data/train.parquet"] = b"changed"
    done = download(tmp_path / "got", host.mirror)
    assert done.returncode == 1
    assert "1 files could not be downloaded, such as data/train.parquet: run this again" in done.stderr
    assert not (tmp_path / "got" / "data" / "train.parquet").exists()


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "c:/evil", "a\\..\\..\\evil"])
def test_the_script_stays_in_its_folder(host: Host, tmp_path: Path, path: str) -> None:
    host.files["SHA256SUMS"] = f"{'0' * 64}  {path}\n".encode()
    done = download(tmp_path / "got", host.mirror)
    assert "names a path that leaves the folder" in done.stderr
    assert done.returncode == 1
    assert set(downloaded(tmp_path)) == {"download.py", "got/SHA256SUMS"}


def test_the_script_can_be_held_to_a_checksum(host: Host, tmp_path: Path) -> None:
    good = hashlib.sha256(SUMS).hexdigest()
    assert download(tmp_path / "got", host.mirror, arguments=("--sha256", good)).returncode == 0
    done = download(tmp_path / "other", host.mirror, arguments=("--sha256", "0" * 64))
    assert "SHA256SUMS is not the one that --sha256 asks for" in done.stderr
    assert done.returncode == 1
