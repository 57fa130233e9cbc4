"""Publishing to a bucket: against two real servers, and through a proxy that breaks the connection."""

import hashlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from dataset_pipeline.adapters.destinations import LocalRelease, Retries
from dataset_pipeline.adapters.s3 import publish_s3
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.config import S3Destination
from dataset_pipeline.errors import ConfigError, DatasetPipelineError, GateError, OutsideWorldError
from dataset_pipeline_tests.adapters.hosts import s3 as servers
from dataset_pipeline_tests.adapters.hosts.proxy import Answer, Fault, Proxy, proxy

BIG = (5 << 20) + 1000  # two parts
SLEPT: list[float] = []


@dataclass(frozen=True)
class Host:
    """A server, the proxy in front of it, and an empty bucket."""

    proxy: Proxy
    settings: S3Destination
    client: Any

    def names(self) -> set[str]:
        found = self.client.list_objects_v2(Bucket=self.settings.bucket).get("Contents", [])
        return {entry["Key"] for entry in found}

    def read(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.settings.bucket, Key=key)["Body"].read()
        return data

    def publish(self, release: LocalRelease, **changes: Any) -> Any:
        SLEPT.clear()
        return publish_s3(release, self.settings, retries=Retries(sleep=SLEPT.append), **changes)

    def fail(self, *faults: Fault) -> None:
        self.proxy.faults[:] = faults


@pytest.fixture(scope="module", autouse=True)
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, credentials: None) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("s3") / "buckets"
    folder.mkdir()
    with servers.rclone(folder) as one, servers.moto() as two:
        yield {"rclone": one, "moto": two}


@pytest.fixture(params=["rclone", "moto"])
def host(request: pytest.FixtureRequest, running: dict[str, str]) -> Iterator[Host]:
    yield from make_host(running[request.param], request.node.name)


@pytest.fixture
def rclone(request: pytest.FixtureRequest, running: dict[str, str]) -> Iterator[Host]:
    yield from make_host(running["rclone"], request.node.name)


@pytest.fixture
def moto(request: pytest.FixtureRequest, running: dict[str, str]) -> Iterator[Host]:
    yield from make_host(running["moto"], request.node.name)


def make_host(url: str, name: str) -> Iterator[Host]:
    bucket = "b" + hashlib.sha256(name.encode()).hexdigest()[:20]
    with proxy(url) as between:
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        client.create_bucket(Bucket=bucket)
        settings = S3Destination(kind="s3", bucket=bucket, prefix="sets", endpoint=between.url, part_mib=5)
        yield Host(between, settings, client)


@pytest.fixture(scope="session")
def big() -> bytes:
    return hashlib.shake_256(b"big").digest(BIG)


def make_release(place: Path, version: str, files: dict[str, bytes]) -> LocalRelease:
    contents = {"README.md": b"card", "data/train.parquet": b"rows", "provenance.json": b"{}", **files}
    for path, data in contents.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    sums = "".join(f"{file_sha256(place / path)}  {path}\n" for path in sorted(contents))
    (place / "SHA256SUMS").write_text(sums)
    return LocalRelease.open(place, "toy", version, "Toy <pictures>")


@pytest.fixture
def release(tmp_path: Path, big: bytes) -> LocalRelease:
    return make_release(tmp_path / "1", "1.0.0", {"data/big.parquet": big})


@pytest.fixture
def small(tmp_path: Path) -> LocalRelease:
    return make_release(tmp_path / "1", "1.0.0", {})


def is_published(host: Host, release: LocalRelease) -> bool:
    """Every file with its bytes, and latest says so."""
    root = f"sets/toy/{release.version}/"
    expected = {root + path for path in release.sizes} | {"sets/toy/latest", "sets/toy/index.html"}
    return (
        expected <= host.names()
        and all(host.read(root + path) == (release.folder / path).read_bytes() for path in release.sizes)
        and host.read("sets/toy/latest") == f"{release.version}\n".encode()
    )


# -- what is sent ----------------------------------------------------------------------------


def test_everything_arrives_once_and_a_second_call_sends_nothing(host: Host, release: LocalRelease) -> None:
    done = host.publish(release)
    assert is_published(host, release)
    assert set(done.sent) == set(release.sizes)
    sent = [request for request in host.proxy.requests if request[0] == "PUT"]
    assert (
        len(sent) == len({path for _, path, _ in sent}) == 4 + 2 + 2
    )  # small files, parts, latest and index
    again = host.publish(release)
    assert (again.steps, again.sent) == ((), ())
    assert [request for request in host.proxy.requests if request[0] == "PUT"] == sent


def test_a_dry_run_says_exactly_what_happens_and_changes_nothing(host: Host, release: LocalRelease) -> None:
    plan = host.publish(release, is_dry_run=True)
    assert host.names() == set()
    bucket = f"s3://{host.settings.bucket}/sets/toy"
    assert plan.steps == (
        "send README.md (4 bytes) as text/markdown; charset=utf-8",
        f"send data/big.parquet ({BIG} bytes, 2 parts) as application/vnd.apache.parquet",
        "send data/train.parquet (4 bytes) as application/vnd.apache.parquet",
        "send provenance.json (2 bytes) as application/json",
        f"send SHA256SUMS ({release.sizes['SHA256SUMS']} bytes) as text/plain; charset=utf-8",
        f"set {bucket}/latest from nothing to 1.0.0",
        f"write {bucket}/index.html",
    )
    assert host.publish(release).steps == plan.steps


def test_only_changed_files_travel(host: Host, release: LocalRelease, tmp_path: Path, big: bytes) -> None:
    host.publish(release)
    host.proxy.requests.clear()
    second = make_release(tmp_path / "2", "1.1.0", {"data/big.parquet": big, "README.md": b"card 2"})
    done = host.publish(second)
    assert is_published(host, second)
    assert done.sent == ("README.md", "SHA256SUMS")
    assert done.copied == ("data/big.parquet", "data/train.parquet", "provenance.json")
    assert sum(size for method, _, size in host.proxy.requests if method == "PUT") < 10_000
    # The earlier version stays as it was.
    assert host.read("sets/toy/1.0.0/README.md") == b"card"


def test_types_and_cache_headers(host: Host, small: LocalRelease) -> None:
    host.publish(small)

    def headers(key: str) -> tuple[str, str]:
        head = host.client.head_object(Bucket=host.settings.bucket, Key=f"sets/toy/{key}")
        return head["ContentType"], head["CacheControl"]

    forever = "private, max-age=31536000, immutable"
    assert headers("1.0.0/README.md") == ("text/markdown; charset=utf-8", forever)
    assert headers("1.0.0/data/train.parquet") == ("application/vnd.apache.parquet", forever)
    assert headers("latest") == ("text/plain; charset=utf-8", "no-cache")
    assert headers("index.html") == ("text/html; charset=utf-8", "no-cache")


def test_latest_and_the_page_follow_the_highest_version(
    host: Host, small: LocalRelease, tmp_path: Path
) -> None:
    host.publish(replace(small, version="1.10.0"))
    host.publish(replace(small, version="1.9.0"))
    assert host.read("sets/toy/latest") == b"1.10.0\n"
    page = host.read("sets/toy/index.html").decode()
    assert "Toy &lt;pictures&gt;" in page
    assert page.index(">1.10.0</a>") < page.index(">1.9.0</a>")
    assert 'href="1.10.0/data/train.parquet"' in page


def test_published_is_final(host: Host, small: LocalRelease, tmp_path: Path) -> None:
    host.publish(small)
    other = make_release(tmp_path / "2", "1.0.0", {"README.md": b"another card"})
    with pytest.raises(
        ConfigError, match=r"published already with other content \(1 files differ, such as README"
    ):
        host.publish(other)
    assert is_published(host, small)
    rebuilt = make_release(tmp_path / "3", "1.0.0", {"provenance.json": b'{"time": 2}'})
    assert host.publish(rebuilt).steps == ()


def test_a_damaged_published_file_is_reported(host: Host, small: LocalRelease) -> None:
    host.publish(small)
    host.client.put_object(Bucket=host.settings.bucket, Key="sets/toy/1.0.0/README.md", Body=b"cart")
    with pytest.raises(
        OutsideWorldError, match=r"1 published files are missing or damaged, such as README\.md"
    ):
        host.publish(small)


def test_leftovers_of_another_build_do_not_stay(host: Host, small: LocalRelease) -> None:
    host.client.put_object(Bucket=host.settings.bucket, Key="sets/toy/1.0.0/old.md", Body=b"old")
    host.client.put_object(Bucket=host.settings.bucket, Key="sets/toy/1.0.0/README.md", Body=b"another")
    host.publish(small)
    assert is_published(host, small)
    assert "sets/toy/1.0.0/old.md" not in host.names()


def test_a_release_that_is_not_what_its_checksums_say_is_not_sent(rclone: Host, small: LocalRelease) -> None:
    (small.folder / "README.md").write_bytes(b"edit")
    with pytest.raises(GateError, match=r"README\.md: not what SHA256SUMS says"):
        rclone.publish(small)
    assert rclone.names() == set()


# -- who may read ----------------------------------------------------------------------------


def test_nothing_is_public_unless_asked(moto: Host, small: LocalRelease) -> None:
    done = moto.publish(small)
    assert done.files == {}
    with pytest.raises(moto.client.exceptions.from_code("NoSuchBucketPolicy")):
        moto.client.get_bucket_policy(Bucket=moto.settings.bucket)
    grants = moto.client.get_object_acl(Bucket=moto.settings.bucket, Key="sets/toy/1.0.0/README.md")["Grants"]
    assert {grant["Grantee"]["Type"] for grant in grants} == {"CanonicalUser"}


def test_public_when_asked_and_other_statements_stay(moto: Host, small: LocalRelease) -> None:
    bucket = moto.settings.bucket
    other = (
        '{"Version": "2012-10-17", "Statement": [{"Sid": "Other", "Effect": "Deny", "Principal": "*", '
        f'"Action": "s3:DeleteBucket", "Resource": "arn:aws:s3:::{bucket}"}}]}}'
    )
    moto.client.put_bucket_policy(Bucket=bucket, Policy=other)
    public = replace(moto, settings=moto.settings.model_copy(update={"is_public": True}))
    assert (
        f"let anyone read s3://{bucket}/sets/toy/ (bucket policy)"
        in public.publish(small, is_dry_run=True).steps
    )
    done = public.publish(small)
    policy = moto.client.get_bucket_policy(Bucket=bucket)["Policy"]
    assert '"Other"' in policy
    assert f"arn:aws:s3:::{bucket}/sets/toy/*" in policy
    assert urllib.request.urlopen(done.files["data/train.parquet"]).read() == b"rows"
    assert public.publish(small).steps == ()
    # The same bucket is not taken for private any more.
    with pytest.raises(GateError, match=r"lets anyone read sets/toy/, and 'is_public' is false"):
        moto.publish(small)


def test_a_server_without_policies_says_so(rclone: Host, small: LocalRelease) -> None:
    public = replace(rclone, settings=rclone.settings.model_copy(update={"is_public": True}))
    with pytest.raises(OutsideWorldError, match=r"keeps no bucket policies|setting its policy"):
        public.publish(small)
    assert "sets/toy/latest" not in rclone.names()


# -- faults ----------------------------------------------------------------------------------

PART = r"big\.parquet\?.*partNumber=2"
FAULTS = [
    Fault("PUT", PART, "reset"),
    Fault("PUT", PART, "lost"),
    Fault("PUT", r"train\.parquet", "reset", times=2),
    Fault("PUT", "README", "lost"),
    Fault("PUT", "README", "status", status=500),
    Fault("PUT", PART, "status", status=503, body=b"<Error><Code>SlowDown</Code></Error>"),
    Fault("POST", r"big\.parquet\?uploadId", "status", status=500),
    Fault("PUT", "SHA256SUMS", "status", status=503, times=3),
    Fault("GET", "list-type", "truncated"),
    Fault("GET", "list-type", "slow"),
    Fault("HEAD", "big", "reset"),
    Fault("PUT", "latest", "lost"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.method}-{fault.path[:12]}")
def test_a_fault_that_passes_costs_another_try(rclone: Host, release: LocalRelease, fault: Fault) -> None:
    rclone.fail(replace(fault))
    rclone.publish(release)
    assert is_published(rclone, release)
    assert rclone.proxy.faults[0].times == 0, "the fault never happened"
    # Side by side, rclone sometimes answers 500 to another file: one try more.
    assert len(SLEPT) in ((0,) if fault.kind == "slow" else (fault.times, fault.times + 1))
    # What was not hit was sent once.
    assert rclone.proxy.seen("PUT", "partNumber=1") == rclone.proxy.seen("PUT", "SHA256SUMS") == 1


def test_retry_after_is_honoured(rclone: Host, small: LocalRelease) -> None:
    date, later = "Wed, 25 Nov 2026 04:00:00 GMT", "Wed, 25 Nov 2026 04:00:42 GMT"
    rclone.fail(
        Fault("PUT", "README", "status", status=429, headers=(("Retry-After", "17"),)),
        # A date counts from the server's clock: ours may be wrong.
        Fault("PUT", "provenance", "status", status=503, headers=(("Date", date), ("Retry-After", later))),
    )
    rclone.publish(small)
    assert is_published(rclone, small)
    assert sorted(SLEPT) == [17.0, 42.0]


def test_a_host_that_fails_again_and_again_is_named_with_the_file_and_the_remedy(
    rclone: Host, release: LocalRelease
) -> None:
    rclone.fail(Fault("PUT", PART, "status", status=503, times=99))
    with pytest.raises(OutsideWorldError) as caught:
        rclone.publish(release)
    assert "data/big.parquet: sending, part 2 of 2: the server answered 503 " in str(caught.value)
    assert "Run the same command again later: what has arrived is not sent again" in str(caught.value)
    # Nothing half-published is visible, and the second call sends what is missing.
    assert not rclone.names() & {"sets/toy/latest", "sets/toy/index.html", "sets/toy/1.0.0/SHA256SUMS"}
    rclone.fail()
    plan = rclone.publish(release, is_dry_run=True)
    assert f"send data/big.parquet ({BIG} bytes, 2 parts, 1 there already)" in " ".join(plan.steps)
    assert set(plan.unchanged) == {"README.md", "data/train.parquet", "provenance.json"}
    rclone.publish(release)
    assert is_published(rclone, release)
    assert [rclone.proxy.seen("PUT", f"partNumber={n}") for n in (1, 2)] == [1, 1]
    assert rclone.proxy.seen("PUT", "README") == 1


@pytest.mark.parametrize(("method", "path"), [("PUT", r"train\.parquet"), ("PUT", PART), ("HEAD", "big")])
def test_a_server_that_stores_other_bytes_is_found_out(
    rclone: Host, release: LocalRelease, method: str, path: str
) -> None:
    def other(answer: Answer) -> Answer:
        status, headers, body = answer
        return status, [(k, f'"{"0" * 32}"' if k.lower() == "etag" else v) for k, v in headers], body

    rclone.fail(Fault(method, path, "changed", change=other, times=99))
    with pytest.raises(
        OutsideWorldError, match=r"parquet: sending: the server stored other bytes than were sent"
    ):
        rclone.publish(release)
    assert "sets/toy/latest" not in rclone.names()
    rclone.fail()
    rclone.publish(release)
    assert is_published(rclone, release)


def test_a_killed_process_goes_on_where_it_ended(rclone: Host, release: LocalRelease) -> None:
    """SIGKILL while the second part travels; the process that is started again sends the rest."""
    script = (
        "import sys; from pathlib import Path\n"
        "from dataset_pipeline.adapters.destinations import LocalRelease\n"
        "from dataset_pipeline.adapters.s3 import publish_s3\n"
        "from dataset_pipeline.config import S3Destination\n"
        "publish_s3(LocalRelease.open(Path(sys.argv[1]), 'toy', '1.0.0', 'Toy <pictures>'),\n"
        "           S3Destination.model_validate_json(sys.argv[2]))\n"
    )
    settings = rclone.settings.model_copy(update={"parallel": 1})
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(release.folder), settings.model_dump_json()],
        stderr=subprocess.PIPE,
    )
    rclone.fail(Fault("PUT", PART, "call", call=lambda: (process.kill(), process.wait())))
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error.decode()
    assert not rclone.names() & {"sets/toy/latest", "sets/toy/1.0.0/SHA256SUMS"}
    rclone.publish(release)
    assert is_published(rclone, release)
    assert rclone.proxy.seen("PUT", "partNumber=1") == 1
    assert rclone.proxy.seen("PUT", "README") == 1


# -- what a person has to mend ---------------------------------------------------------------


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("GET", "list-type", "status", status=400, body=error("ExpiredToken")), "credentials were refused"),
        (Fault("PUT", "README", "status", status=400, body=error("ExpiredToken")), "README.md: sending: the credentials"),
        (Fault("PUT", "README", "status", status=403, body=error("AccessDenied")), "README.md: sending: not permitted"),
        (Fault("GET", "list-type", "status", status=403, body=error("RequestTimeTooSkewed")), "Set the clock"),
        (Fault("GET", "list-type", "status", status=404, body=error("NoSuchBucket")), "a mistyped one is never created"),
        (Fault("PUT", "README", "status", status=400, body=error("EntityTooLarge")), "larger than the host takes"),
        (Fault("PUT", "README", "status", status=429, headers=(("Retry-After", "4000"),)), "asks to wait 4000 s"),
    ],
    ids=lambda value: value.body.decode()[13:30] if isinstance(value, Fault) else None,
)  # fmt: skip
def test_what_only_a_person_can_mend_is_said_at_once(
    rclone: Host, small: LocalRelease, fault: Fault, expected: str
) -> None:
    rclone.fail(replace(fault, times=99))
    # Side by side, rclone sometimes answers 500 to another file, which is worth another try.
    one_at_a_time = replace(rclone, settings=rclone.settings.model_copy(update={"parallel": 1}))
    with pytest.raises(DatasetPipelineError) as caught:
        one_at_a_time.publish(small)
    assert expected in str(caught.value)
    assert SLEPT == []
    assert "sets/toy/latest" not in rclone.names()


def test_a_file_over_the_limit_of_a_bucket(rclone: Host, small: LocalRelease) -> None:
    huge = replace(small, sizes={**small.sizes, "README.md": (5 << 40) + 1})
    with pytest.raises(
        OutsideWorldError, match=r"README\.md: 5497558138881 bytes, and a bucket takes 5 TiB a file"
    ):
        rclone.publish(huge)
    assert "sets/toy/latest" not in rclone.names()


def test_a_bucket_that_is_not_there(moto: Host, small: LocalRelease) -> None:
    missing = moto.settings.model_copy(update={"bucket": "no-such-bucket-here"})
    with pytest.raises(ConfigError, match="no such bucket"):
        publish_s3(small, missing)


def test_wrong_and_missing_credentials(
    rclone: Host, small: LocalRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret-that-is-wrong")
    with pytest.raises(OutsideWorldError, match="credentials") as caught:
        rclone.publish(small)
    assert "another-secret" not in str(caught.value)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(OutsideWorldError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        rclone.publish(small)
