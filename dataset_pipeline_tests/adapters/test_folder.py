"""Publishing to a folder: what is sent, when it shows, and what is never overwritten."""

import os
from pathlib import Path

import pytest

from dataset_pipeline.adapters import folder
from dataset_pipeline.adapters.destinations import LocalRelease
from dataset_pipeline.adapters.folder import publish_folder
from dataset_pipeline.adapters.store import file_sha256
from dataset_pipeline.errors import ConfigError, GateError, OutsideWorldError

is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "built" / "1.0.0")


def make_release(place: Path, **files: str) -> Path:
    """A folder with checksums: publishing looks at nothing else."""
    contents = {"README.md": "card", "data/train.parquet": "rows" * 1000, "provenance.json": "{}", **files}
    for path, text in contents.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    sums = "".join(f"{file_sha256(place / path)}  {path}\n" for path in sorted(contents))
    (place / "SHA256SUMS").write_text(sums)
    return place


def opened(folder: Path, version: str) -> LocalRelease:
    return LocalRelease.open(folder, "toy", version)


def tree(place: Path) -> dict[str, str]:
    return {
        path.relative_to(place).as_posix(): path.read_text() for path in place.rglob("*") if path.is_file()
    }


def test_everything_arrives_and_latest_says_so(release: Path, tmp_path: Path) -> None:
    done = publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    assert tree(tmp_path / "out") == {
        **{f"toy/1.0.0/{path}": text for path, text in tree(release).items()},
        "toy/latest": "1.0.0\n",
    }
    assert len(done.sent) == 4


def test_a_second_call_sends_nothing(release: Path, tmp_path: Path) -> None:
    publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    again = publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    assert again.sent == ()
    assert again.steps == ()


def test_an_interrupted_sending_continues_where_it_ended(release: Path, tmp_path: Path, monkeypatch) -> None:
    send = folder._send

    def killed(source: Path, place: Path, checksum: str | None) -> None:
        if source.name == "provenance.json":
            raise KeyboardInterrupt
        send(source, place, checksum)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folder, "_send", killed)
        publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    # Nothing half-visible: neither the version nor 'latest' is there.
    assert sorted(path.name for path in (tmp_path / "out" / "toy").iterdir()) == [".1.0.0.partial"]
    # What a killed copy leaves, and a file of a build that was replaced meanwhile, must not be published.
    (tmp_path / "out" / "toy" / ".1.0.0.partial" / "README.md.sending").write_text("ca")
    (tmp_path / "out" / "toy" / ".1.0.0.partial" / "old.md").write_text("old")
    again = publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    assert again.sent == ("provenance.json", "SHA256SUMS")
    assert again.unchanged == ("README.md", "data/train.parquet")
    assert tree(tmp_path / "out" / "toy" / "1.0.0") == tree(release)


def test_a_published_version_with_other_content_is_refused(release: Path, tmp_path: Path) -> None:
    publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    other = make_release(tmp_path / "other", **{"README.md": "another card"})
    with pytest.raises(
        ConfigError, match=r"published already with other content \(1 files differ, such as README.md"
    ):
        publish_folder(opened(other, "1.0.0"), tmp_path / "out")
    assert tree(tmp_path / "out" / "toy" / "1.0.0") == tree(release)


def test_a_rebuild_that_differs_in_its_provenance_alone_is_the_same_release(
    release: Path, tmp_path: Path
) -> None:
    publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    rebuilt = make_release(tmp_path / "rebuilt", **{"provenance.json": '{"time": 2}'})
    assert publish_folder(opened(rebuilt, "1.0.0"), tmp_path / "out").sent == ()


def test_a_damaged_published_file_is_reported(release: Path, tmp_path: Path) -> None:
    publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    (tmp_path / "out" / "toy" / "1.0.0" / "README.md").write_text("bit rot")
    with pytest.raises(OutsideWorldError, match=r"missing or damaged, such as README\.md"):
        publish_folder(opened(release, "1.0.0"), tmp_path / "out")


def test_a_release_that_is_not_what_its_checksums_say_is_not_published(release: Path, tmp_path: Path) -> None:
    (release / "README.md").write_text("edited afterwards")
    with pytest.raises(GateError, match="not what SHA256SUMS says"):
        publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    assert not (tmp_path / "out" / "toy" / "1.0.0").exists()


def test_checksums_that_lead_out_of_the_release_are_refused(release: Path, tmp_path: Path) -> None:
    (release / "SHA256SUMS").write_text(f"{'0' * 64}  ../../secret\n")
    with pytest.raises(ConfigError, match="a path inside the release"):
        publish_folder(opened(release, "1.0.0"), tmp_path / "out")


def test_a_dry_run_changes_nothing_and_says_what_would_happen(release: Path, tmp_path: Path) -> None:
    plan = publish_folder(opened(release, "1.0.0"), tmp_path / "out", is_dry_run=True)
    assert not (tmp_path / "out").exists()
    done = publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    assert plan.steps == done.steps
    assert plan.steps[1:4] == (
        "send README.md (4 bytes)",
        "send data/train.parquet (4000 bytes)",
        "send provenance.json (2 bytes)",
    )
    assert plan.steps[-1].endswith("latest from nothing to 1.0.0")


@pytest.mark.parametrize(
    ("published", "latest"),
    [
        (["1.0.0", "1.1.0"], "1.1.0"),
        (["1.10.0", "1.9.0"], "1.10.0"),  # a later fix of an old line does not become the latest
        (["2.0.0", "2.0.0-rc.1"], "2.0.0"),  # nor does a pre-release of what is out
        (["2.0.0-rc.2", "2.0.0-rc.10"], "2.0.0-rc.10"),
    ],
)
def test_latest_is_the_highest_version(
    release: Path, tmp_path: Path, published: list[str], latest: str
) -> None:
    for version in published:
        publish_folder(opened(release, version), tmp_path / "out")
    assert (tmp_path / "out" / "toy" / "latest").read_text() == f"{latest}\n"


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_whoever_may_read_the_version_may_read_latest(release: Path, tmp_path: Path) -> None:
    publish_folder(opened(release, "1.0.0"), tmp_path / "out")
    home = tmp_path / "out" / "toy"
    modes = {path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


def test_a_full_disk_is_the_outside_world(release: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "data/train.parquet")

    monkeypatch.setattr(folder, "_send", full)
    with pytest.raises(OutsideWorldError, match="No space left on device"):
        publish_folder(opened(release, "1.0.0"), tmp_path / "out")


@pytest.mark.skipif(is_root, reason="root may write anywhere")
def test_a_read_only_target_is_the_outside_world(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OutsideWorldError, match="Permission denied"):
        publish_folder(opened(release, "1.0.0"), tmp_path / "out")


def test_a_mistyped_target_is_not_created(release: Path, tmp_path: Path) -> None:
    with pytest.raises(OutsideWorldError, match="neither it nor the folder above it is there"):
        publish_folder(opened(release, "1.0.0"), tmp_path / "not" / "there")


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a release"):
        publish_folder(opened(tmp_path, "1.0.0"), tmp_path / "out")
