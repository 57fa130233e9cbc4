"""Publishing to the Hub: the real client against a loopback server, and through a proxy that breaks it."""

import hashlib
import signal
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dataset_pipeline.adapters.destinations import LocalRelease, Retries
from dataset_pipeline.adapters.huggingface import publish_huggingface
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import HuggingFaceDestination
from dataset_pipeline.errors import ConfigError, DatasetPipelineError, GateError, OutsideWorldError
from dataset_pipeline_tests.adapters.hosts import hub as server
from dataset_pipeline_tests.adapters.hosts.proxy import Answer, Fault, Proxy, proxy

BIG = hashlib.shake_256(b"big").digest((2 << 20) + 1000)  # three parts of the server's choice
SLEPT: list[float] = []


@dataclass(frozen=True)
class Host:
    """A Hub, the proxy in front of it, and a name that is free."""

    hub: server.Hub
    proxy: Proxy
    settings: HuggingFaceDestination

    @property
    def repository(self) -> server.Repository:
        return self.hub.repositories["ada/toy"]

    def publish(self, release: LocalRelease, **changes: Any) -> Any:
        SLEPT.clear()
        return publish_huggingface(release, self.settings, retries=Retries(sleep=SLEPT.append), **changes)

    def fail(self, *faults: Fault) -> None:
        self.proxy.faults[:] = faults

    def having(self, **changes: Any) -> "Host":
        return replace(self, settings=self.settings.model_copy(update=changes))


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client as it is with nothing but a token, and without waits of its own."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    assert huggingface_hub.HfApi
    monkeypatch.setenv("HF_TOKEN", server.TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the loopback server speaks Git LFS
    monkeypatch.setattr(_http, "time", types.SimpleNamespace(sleep=SLEPT.append, time=time.time))


@pytest.fixture
def host() -> Iterator[Host]:
    with server.hub() as hub, proxy(hub.url) as between:
        server.BEHIND[hub.port] = between.url
        yield Host(
            hub,
            between,
            HuggingFaceDestination(kind="huggingface", repository="ada/toy", endpoint=between.url),
        )


def make_release(place: Path, version: str, files: dict[str, bytes]) -> LocalRelease:
    card = b"---\nlicense: cc0-1.0\n---\n# Toy\n"
    contents = {
        "README.md": card,
        "data/train.parquet": BIG,
        "data/test.parquet": b"rows",
        "provenance.json": b"{}",
    }
    contents |= files
    for path, data in contents.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    sums = "".join(f"{file_sha256(place / path)}  {path}\n" for path in sorted(contents))
    (place / "SHA256SUMS").write_text(sums)
    return LocalRelease.open(place, "toy", version, "Toy")


@pytest.fixture
def release(tmp_path: Path) -> LocalRelease:
    return make_release(tmp_path / "1", "1.0.0", {})


def is_published(host: Host, release: LocalRelease) -> bool:
    """The tag, the branch and the folder hold the same bytes."""
    expected = {path: (release.folder / path).read_bytes() for path in release.sizes}
    found = host.repository.at(f"v{release.version}")
    return found is host.repository.head and expected == {
        path: data for path, (_, data) in found.files.items() if path != ".gitattributes"
    }


# -- what is sent ----------------------------------------------------------------------------


def test_one_private_commit_and_a_tag(host: Host, release: LocalRelease) -> None:
    done = host.publish(release)
    assert is_published(host, release)
    assert host.repository.private
    assert [commit.title for commit in host.repository.commits] == ["initial commit", "Version 1.0.0"]
    assert ".gitattributes" in host.repository.head.files
    assert (set(done.sent), done.files) == (set(release.sizes), {})
    assert host.publish(release).steps == ()
    assert len(host.repository.commits) == 2


def test_a_dry_run_says_exactly_what_happens_and_changes_nothing(host: Host, release: LocalRelease) -> None:
    wanted = host.having(is_public=True, gated="manual")
    plan = wanted.publish(release, is_dry_run=True)
    assert host.hub.repositories == {}
    address = f"{host.proxy.url}/datasets/ada/toy"
    assert plan.steps == (
        f"create the private dataset repository {address}",
        "send README.md (31 bytes)",
        "send data/test.parquet (4 bytes)",
        f"send data/train.parquet ({len(BIG)} bytes)",
        "send provenance.json (2 bytes)",
        f"send SHA256SUMS ({release.sizes['SHA256SUMS']} bytes)",
        "commit 5 files as 'Version 1.0.0'",
        "tag v1.0.0",
        "set gated access to manual",
        f"make {address} public",
    )
    assert wanted.publish(release).steps == plan.steps
    assert (host.repository.private, host.repository.gated) == (False, "manual")
    assert wanted.publish(release).steps == ()


def test_public_addresses_give_the_bytes(host: Host, release: LocalRelease) -> None:
    done = host.having(is_public=True).publish(release)
    for path, address in done.files.items():
        assert urllib.request.urlopen(address).read() == (release.folder / path).read_bytes()


def test_a_private_repository_is_not_readable(host: Host, release: LocalRelease) -> None:
    host.publish(release)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{host.hub.url}/datasets/ada/toy/resolve/v1.0.0/README.md")


def test_only_changed_files_travel_and_gone_ones_go(
    host: Host, release: LocalRelease, tmp_path: Path
) -> None:
    host.publish(make_release(tmp_path / "0", "0.9.0", {"old.md": b"old"}))
    host.proxy.requests.clear()
    second = make_release(tmp_path / "2", "1.0.0", {"provenance.json": b'{"run": 2}'})
    done = host.publish(second)
    assert is_published(host, second)
    assert done.sent == ("provenance.json", "SHA256SUMS")
    assert "delete old.md, which this version does not have" in done.steps
    assert host.proxy.seen("PUT", "/lfs/") == 0
    assert host.repository.at("v0.9.0").files["old.md"] == ("regular", b"old")


def test_published_is_final(host: Host, release: LocalRelease, tmp_path: Path) -> None:
    host.publish(release)
    with pytest.raises(
        ConfigError, match=r"published already with other content \(1 files differ, such as README"
    ):
        host.publish(make_release(tmp_path / "2", "1.0.0", {"README.md": b"another"}))
    assert is_published(host, release)
    rebuilt = make_release(tmp_path / "3", "1.0.0", {"provenance.json": b'{"time": 2}'})
    assert host.publish(rebuilt).steps == ()


def test_a_release_that_is_not_what_its_checksums_say_is_not_sent(host: Host, release: LocalRelease) -> None:
    (release.folder / "data" / "test.parquet").write_bytes(b"edit")
    with pytest.raises(GateError, match=r"test\.parquet: not what SHA256SUMS says"):
        host.publish(release)
    assert host.hub.repositories == {}


def test_a_public_repository_is_not_taken_for_a_private_one(host: Host, release: LocalRelease) -> None:
    host.publish(release)
    host.repository.private = False
    with pytest.raises(GateError, match="is public, and 'is_public' is false"):
        host.publish(replace(release, version="1.0.1"))


# -- what others change ----------------------------------------------------------------------


def edit(host: Host, path: str, data: bytes | None, title: str = "Fix a typo") -> None:
    files = {**host.repository.head.files, path: ("regular", data or b"")}
    if data is None:
        del files[path]
    host.repository.commit(title, files, author="ben")


@pytest.mark.parametrize(
    ("path", "data"), [("README.md", b"their card"), ("extra.md", b"theirs"), ("README.md", None)]
)
def test_a_change_by_somebody_else_is_never_overwritten(
    host: Host, release: LocalRelease, tmp_path: Path, path: str, data: bytes | None
) -> None:
    host.publish(release)
    edit(host, path, data)
    before = list(host.repository.commits)
    second = make_release(tmp_path / "2", "1.1.0", {"provenance.json": b'{"run": 2}'})
    for is_dry_run in (True, False):
        with pytest.raises(OutsideWorldError) as caught:
            host.publish(second, is_dry_run=is_dry_run)
        assert f"'Fix a typo' by ben; 1 files would be lost, such as {path}" in str(caught.value)
    assert host.repository.commits == before
    # Taken over or undone, it is no longer in the way.
    taken = {"README.md": b"their card", "extra.md": b"theirs"}
    if data is not None:
        taken_over = make_release(tmp_path / "3", "1.1.0", {path: taken[path]})
        host.publish(taken_over)
        assert is_published(host, taken_over)
    else:
        edit(host, path, (release.folder / path).read_bytes(), "Undo")
        host.publish(second)
        assert is_published(host, second)


def test_a_name_that_holds_something_else_is_not_taken_over(host: Host, release: LocalRelease) -> None:
    theirs = server.Repository(private=True)
    theirs.commit("Their dataset", {"data.csv": ("regular", b"1,2")}, author="ben")
    host.hub.repositories["ada/toy"] = theirs
    with pytest.raises(
        OutsideWorldError, match=r"'Their dataset' by ben; 1 files would be lost, such as data\.csv"
    ):
        host.publish(release)
    assert len(theirs.commits) == 1


def test_a_change_while_it_is_being_sent_is_not_overwritten(host: Host, release: LocalRelease) -> None:
    host.publish(make_release(release.folder.with_name("0"), "0.9.0", {"README.md": b"old"}))
    host.fail(Fault("POST", "/commit/", "call", call=lambda: edit(host, "extra.md", b"theirs")))
    with pytest.raises(OutsideWorldError, match=r"was changed by somebody else while 1\.0\.0 was being sent"):
        host.publish(release)
    assert host.repository.head.title == "Fix a typo"
    assert "v1.0.0" not in host.repository.tags


# -- faults ----------------------------------------------------------------------------------

FAULTS = [
    Fault("PUT", r"/lfs/\w+/2", "reset"),
    Fault("PUT", r"/lfs/\w+/2", "lost"),
    Fault("PUT", r"/lfs/\w+$", "status", status=500),
    Fault("POST", r"/lfs/\w+$", "status", status=503),
    Fault("POST", "preupload", "truncated"),
    Fault("POST", "objects/batch", "status", status=503),
    Fault("POST", "/commit/", "status", status=500),
    Fault("POST", "/commit/", "reset"),
    Fault("POST", "/commit/", "lost"),  # the Hub has done it: it must not be done twice
    Fault("POST", "/tag/", "lost"),
    Fault("POST", "repos/create", "lost"),
    Fault("GET", "/tree/", "truncated"),
    Fault("GET", "/refs", "slow"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.method}-{fault.path[:12]}")
def test_a_fault_that_passes_costs_another_try(host: Host, release: LocalRelease, fault: Fault) -> None:
    host.fail(replace(fault))
    host.publish(release)
    assert host.proxy.faults[0].times == 0, "the fault never happened"
    assert is_published(host, release)
    assert [commit.title for commit in host.repository.commits] == ["initial commit", "Version 1.0.0"]
    assert bool(SLEPT) == (fault.kind != "slow")
    assert host.proxy.seen("PUT", r"/lfs/\w+/1") == 1


def test_retry_after_is_honoured(host: Host, release: LocalRelease) -> None:
    host.fail(Fault("POST", "/tag/", "status", status=429, headers=(("Retry-After", "17"),)))
    host.publish(release)
    assert SLEPT == [17.0]
    assert is_published(host, release)


def test_a_hub_that_fails_again_and_again_is_named_with_the_file_and_the_remedy(
    host: Host, release: LocalRelease
) -> None:
    host.fail(Fault("PUT", r"/lfs/\w+$", "status", status=503, times=99))
    with pytest.raises(OutsideWorldError) as caught:
        host.publish(release)
    assert "sending README.md and 4 other small files: data/test.parquet: the Hub answered 503" in str(
        caught.value
    )
    assert "Run the same command again later: what has arrived is not sent again" in str(caught.value)
    assert [commit.title for commit in host.repository.commits] == ["initial commit"]
    host.fail()
    host.publish(release)
    assert is_published(host, release)
    assert host.proxy.seen("PUT", r"/lfs/\w+/1") == 1


def test_a_hub_that_stores_other_bytes_is_found_out(host: Host, release: LocalRelease) -> None:
    oid = hashlib.sha256(BIG).hexdigest().encode()

    def other(answer: Answer) -> Answer:
        status, headers, body = answer
        return status, headers, body.replace(oid, b"0" * 64)

    host.fail(Fault("GET", "/tree/", "changed", change=other, times=99))
    with pytest.raises(OutsideWorldError, match=r"stored other bytes than were sent: data/train\.parquet"):
        host.publish(release)
    assert host.repository.tags == {}
    host.fail()
    host.publish(release)
    assert is_published(host, release)


def test_a_killed_process_goes_on_where_it_ended(host: Host, release: LocalRelease) -> None:
    """SIGKILL when all large files are there and the commit is not."""
    script = (
        "import sys; from pathlib import Path\n"
        "from huggingface_hub import constants\n"
        "from dataset_pipeline.adapters.destinations import LocalRelease\n"
        "from dataset_pipeline.adapters.huggingface import publish_huggingface\n"
        "from dataset_pipeline.config import HuggingFaceDestination\n"
        "constants.HF_HUB_DISABLE_XET = True\n"
        "publish_huggingface(LocalRelease.open(Path(sys.argv[1]), 'toy', '1.0.0', 'Toy'),\n"
        "                    HuggingFaceDestination.model_validate_json(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(release.folder), host.settings.model_dump_json()],
        stderr=subprocess.PIPE,
    )
    host.fail(Fault("POST", "/commit/", "killed", call=lambda: (process.kill(), process.wait())))
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error.decode()
    assert [commit.title for commit in host.repository.commits] == ["initial commit"]
    host.publish(release)
    assert is_published(host, release)
    assert host.proxy.seen("PUT", r"/lfs/\w+/1") == 1
    assert host.proxy.seen("PUT", r"/lfs/\w+$") == 1


# -- what a person has to mend ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("GET", "/ada/toy$", "status", status=401), "the token was refused or has expired"),
        (Fault("POST", "/commit/", "status", status=401), "committing Version 1.0.0: the token was refused"),
        (Fault("PUT", "/lfs/", "status", status=413), "larger than the Hub takes"),
        (Fault("POST", "repos/create", "status", status=403), "the name is somebody else's"),
        (
            Fault("POST", "/tag/", "status", status=429, headers=(("Retry-After", "4000"),)),
            "asks to wait 4000 s",
        ),
    ],
    ids=lambda value: f"{value.status}-{value.path[:8]}" if isinstance(value, Fault) else None,
)
def test_what_only_a_person_can_mend_is_said_at_once(
    host: Host, release: LocalRelease, fault: Fault, expected: str
) -> None:
    host.fail(replace(fault, times=99))
    with pytest.raises(DatasetPipelineError) as caught:
        host.publish(release)
    assert expected in str(caught.value)
    assert SLEPT == []
    assert server.TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (server.READ_ONLY_TOKEN, "the token may not write there"),
        ("hf_ExpiredExpiredExpiredExpired000", "the token was refused or has expired"),
        ("", "Set HF_TOKEN"),
    ],
    ids=["read-only", "expired", "none"],
)
def test_tokens(
    host: Host, release: LocalRelease, monkeypatch: pytest.MonkeyPatch, token: str, expected: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(OutsideWorldError, match=expected) as caught:
        host.publish(release)
    assert not token or token not in str(caught.value)
    assert host.hub.repositories == {}


def test_a_name_of_somebody_else(host: Host, release: LocalRelease) -> None:
    with pytest.raises(OutsideWorldError, match="the name is somebody else's"):
        host.having(repository="ben/toy").publish(release)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (
            {f"data/{n}.parquet": 1 for n in range(10_001)},
            "10001 of them in data; the Hub takes 100000 and 10000",
        ),
        (
            {"data/a.parquet": 50 * 10**9 + 1},
            r"data/a\.parquet: 50000000001 bytes, and the Hub takes 50 GB a file",
        ),
    ],
)
def test_limits_of_the_hub(host: Host, release: LocalRelease, sizes: dict[str, int], expected: str) -> None:
    with pytest.raises(OutsideWorldError, match=expected):
        host.publish(replace(release, sizes=sizes))
