"""Fingerprints of sources: they follow the content, and a look reads nothing that has not been touched."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_pipeline.adapters import images, observation, sources
from dataset_pipeline.adapters.cache import ResultCache
from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.config import Source

FIRST, SECOND = b"first picture", b"other picture"
"""Of equal size."""


class Folder:
    """A source, and everything that is remembered of it."""

    def __init__(self, folder: Path, path: str = "photos", **keys: object) -> None:
        self.folder = folder
        self.source = Source.model_validate({"id": "s", "path": path, "licence": "CC0-1.0", **keys})
        self.cache = ResultCache(folder / "cache")
        (folder / "photos").mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def look(self) -> str:
        return observation.fingerprint(
            self.source, self.folder, self.cache, self.folder / "seen" / "s.parquet"
        )

    def build(self) -> None:
        """What a build leaves in the cache."""
        observation.hashed_images(self.cache, sources.list_images(self.source, self.folder), InlineEngine())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("shirt/1.jpg", FIRST)
    made.write("hat/2.jpg", SECOND)
    return made


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES: dict[str, Callable[[Folder], object]] = {
    "a file more": lambda folder: folder.write("hat/3.jpg", FIRST),
    "a file less": lambda folder: (folder.folder / "photos/hat/2.jpg").unlink(),
    "another content": lambda folder: folder.write("shirt/1.jpg", b"longer than the first picture"),
    "renamed": lambda folder: (folder.folder / "photos/hat/2.jpg").rename(folder.folder / "photos/hat/4.jpg"),
    "two changed places": lambda folder: [
        folder.write("shirt/1.jpg", SECOND), folder.write("hat/2.jpg", FIRST)
    ],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_built", [True, False])
def test_a_changed_source_has_another_fingerprint(folder: Folder, change: str, is_built: bool) -> None:
    before = folder.look()
    if is_built:
        folder.build()
    assert folder.look() == before
    CHANGES[change](folder)
    changed = folder.look()
    assert changed != before
    assert folder.look() == changed


def test_a_touched_file_is_no_change(folder: Folder) -> None:
    """Known to the cache from a build, or from an earlier look; also written anew, or copied over."""
    before = folder.look()
    folder.build()
    path = folder.folder / "photos" / "shirt" / "1.jpg"
    for touched in (
        lambda: touch(path),
        lambda: path.write_bytes(FIRST),
        lambda: os.replace(shutil.copy(path, path.with_suffix(".part")), path),
        lambda: path.chmod(0o600),
    ):
        touched()
        assert folder.look() == before
    shutil.rmtree(folder.folder / "cache")
    path.write_bytes(SECOND)
    changed = folder.look()
    assert changed != before
    touch(path)
    assert folder.look() == changed, "what a look has read needs no cache"


def test_replaced_with_equal_size_and_time(folder: Folder) -> None:
    """The time of the inode tells; nobody can set it."""
    path = folder.folder / "photos" / "shirt" / "1.jpg"
    before, times = folder.look(), path.stat()
    folder.build()
    path.write_bytes(SECOND)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert folder.look() != before
    listed = sources.list_images(folder.source, folder.folder)
    found = observation.hashed_images(folder.cache, listed, InlineEngine())
    assert found["sha256"].n_unique() == 1, "and the build reads it again"


def test_touched_before_any_build_counts_as_a_change(folder: Folder) -> None:
    """Nothing is known of what it held: better one build too many."""
    before = folder.look()
    touch(folder.folder / "photos" / "shirt" / "1.jpg")
    assert folder.look() != before


def test_a_look_reads_only_what_was_touched(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    hashed = observation.file_sha256
    monkeypatch.setattr(observation, "file_sha256", lambda path: read.append(path.name) or hashed(path))
    folder.look()
    assert read == [], "the first look reads no picture"
    folder.build()
    touch(folder.folder / "photos" / "hat" / "2.jpg")
    folder.write("hat/new.jpg", FIRST)
    folder.look()
    folder.look()
    assert read == ["2.jpg"]


def test_a_manifest_is_read_and_so_is_what_it_names(tmp_path: Path) -> None:
    made = Folder(tmp_path, "photos/items.csv", columns={"image": "file"}, unlisted_images="ignore")
    made.write("a.jpg", FIRST)
    made.write("unnamed.jpg", FIRST)
    made.write("items.csv", b"file\na.jpg\n")
    before = made.look()
    touch(tmp_path / "photos" / "items.csv")
    touch(tmp_path / "photos" / "unnamed.jpg")
    assert made.look() == before
    made.write("items.csv", b"file\na.jpg\ngone.jpg\n")
    after = made.look()
    assert after != before
    made.write("gone.jpg", FIRST)
    assert made.look() != after


def test_pictures_in_a_manifest_change_with_it(tmp_path: Path) -> None:
    made = Folder(tmp_path, "items.parquet", columns={"image": "image"})
    versions = []
    for content in (FIRST, FIRST, SECOND):
        pl.DataFrame({"image": [content]}).write_parquet(tmp_path / "items.parquet")
        versions.append(made.look())
    assert versions[0] == versions[1] != versions[2]


def test_a_picture_that_cannot_be_read_is_left_to_the_build(folder: Folder) -> None:
    folder.build()
    before = folder.look()
    path = folder.folder / "photos" / "hat" / "2.jpg"
    path.unlink()
    path.symlink_to(folder.folder / "nowhere.jpg")
    assert folder.look() != before
    assert observation._read(pl.DataFrame({"ref": ["s/2"], "location": [str(path)]})).rows() == [
        ("s/2", "unreadable")
    ]


def test_a_cache_that_a_build_puts_together_meanwhile(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the listing of its parts and their reading one may go; the next attempt sees what took its place."""
    folder.build()
    known, attempts = ResultCache._read, []

    def vanishing(place: Path, keys: list[str]) -> pl.LazyFrame | None:
        attempts.append(place)
        if len(attempts) == 1:
            return pl.scan_parquet([place / "gone.parquet"])
        return known(place, keys)

    monkeypatch.setattr(ResultCache, "_read", staticmethod(vanishing))
    listed = sources.list_images(folder.source, folder.folder)
    found = folder.cache.known(
        "image_hashes", observation._cache_version(), listed, sources.FILE_IDENTITY, "sha256"
    )
    assert (found.height, len(attempts)) == (2, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([FIRST, SECOND, None]), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_equal_content_has_equal_fingerprints_once_it_was_built(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes | None, bool]]
) -> None:
    """Whatever is written, deleted or touched between two looks: another fingerprint exactly where the content is another."""
    made = Folder(tmp_path_factory.mktemp("law"))
    made.write("always.jpg", FIRST)
    content: dict[str, bytes] = {}
    made.build()
    last = (made.look(), dict(content))
    for name, data, is_touching in steps:
        path = made.folder / "photos" / f"{name}.jpg"
        if data is None:
            path.unlink(missing_ok=True)
            content.pop(name, None)
        elif is_touching and path.exists():
            touch(path)
        else:
            path.write_bytes(data)
            content[name] = data
        version = made.look()
        assert (version == last[0]) == (content == last[1])
        made.build()
        last = (version, dict(content))


def test_hashes_are_of_the_declared_columns(folder: Folder) -> None:
    listed = sources.list_images(folder.source, folder.folder)
    assert dict(images.hash_files(listed).schema) == images.HASHED
