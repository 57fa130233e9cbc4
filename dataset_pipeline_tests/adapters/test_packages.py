"""Tars and zip: other programs read from them what the Parquet files hold, and ``verify`` finds what does not belong."""

import gc
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.adapters import packages
from dataset_pipeline.adapters.packages import webdataset_key
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.toy_release import Toy, sign, toy, toy_config

# Dots end the key for every loader, slashes are folders, underscores are skipped, and the last is what the
# second becomes.
ODD_IDS = (
    "plain_id-1",
    "a.b.c",
    "folder/../picture 1",
    "__meta__",
    "图片",
    f"a-b-c--{hashlib.sha256(b'a.b.c').hexdigest()[:16]}",
)
ZIP = "toy-1.0.0.zip"
TAR = "webdataset/train-00000.tar"


def packed(**release: Any) -> Toy:
    """20 pictures of three rows each, some ids odd, an item without a label and one without a text."""
    example = toy(release={"formats": ["parquet", "webdataset", "zip"], **release})
    ids = example.items["item_id"].to_list()
    odd = dict(zip(ids, ODD_IDS, strict=False))
    example.items = example.items.with_columns(
        pl.col("item_id").replace(odd),
        label=pl.when(pl.col("item_id") == ids[7]).then(None).otherwise("label"),
        name=pl.when(pl.col("item_id") == ids[8]).then(None).otherwise("name"),
    )
    return example


@pytest.fixture(scope="module")
def example() -> Toy:
    return packed()


@pytest.fixture(scope="module")
def written(example: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "1.0.0"
    example.write(folder)
    return folder


def released(folder: Path) -> dict[str, dict[str, Any]]:
    """item_id -> row of the Parquet files, the picture as bytes."""
    rows = pl.read_parquet(folder / "data" / "*.parquet").to_dicts()
    return {row["item_id"]: {**row, "image": row["image"]["bytes"]} for row in rows}


def test_verify_finds_no_fault(written: Path) -> None:
    result = verify(written)
    assert [str(finding) for finding in result.findings] == []
    assert result.warnings == ()


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_every_item_and_picture(written: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    index = json.loads((written / "webdataset" / "index.json").read_text())
    expected = released(written)
    for split, shards in index["shards"].items():
        tars = [str(written / "webdataset" / shard["name"]) for shard in shards]
        samples = list(webdataset.WebDataset(tars, shardshuffle=False))
        told = [json.loads(sample["json"]) for sample in samples]
        assert len(samples) == sum(shard["items"] for shard in shards)
        assert {row["item_id"] for row in told} == {k for k, row in expected.items() if row["split"] == split}
        for sample, row in zip(samples, told, strict=True):
            whole = expected[row["item_id"]]
            assert {**row, "image": sample["png"]} == whole
            label, text = sample.get("cls"), sample.get("txt")
            assert (None if label is None else index["classes"][int(label)]) == whole["label"]
            assert (None if text is None else text.decode()) == whole["name"]
    gc.collect()  # the library leaves its files open: here, and not in some other test


def test_hugging_face_reads_the_tars(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    tars = {"test": str(written / "webdataset" / "test-*.tar")}
    loaded = datasets.load_dataset("webdataset", data_files=tars, split="test", cache_dir=str(tmp_path))
    assert len(loaded) == 12
    assert loaded[0]["png"].size == (40, 40)


def test_the_folder_loads_as_before(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tars and a zip in the folder are formats that the loader knows too.
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset(str(written), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 36, "validation": 12, "test": 12}


def test_the_zip_holds_each_picture_once_as_it_is(example: Toy, written: Path) -> None:
    expected = released(written)
    with zipfile.ZipFile(written / ZIP) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == len(set(names))
        assert {name for name in names if not name.startswith("images/")} == {
            "items.csv", "items.parquet", "LICENSE", "CITATION.cff",
        }  # fmt: skip
        pictures = {name: archive.read(name) for name in names if name.startswith("images/")}
        assert sorted(pictures.values()) == sorted(example.pictures.values())
        table = pl.read_csv(archive.read("items.csv"), infer_schema=False)
    assert set(table["item_id"]) == expected.keys()
    for item_id, name, text in table.select("item_id", "file_name", "name").iter_rows():
        assert pictures[name] == expected[item_id]["image"]
        assert text == expected[item_id]["name"]


def test_members_tell_nothing_of_machine_and_time(written: Path) -> None:
    with tarfile.open(written / TAR) as tar:
        told = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in tar}
    assert told == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}
    with zipfile.ZipFile(written / ZIP) as archive:
        entries = archive.infolist()
    assert {(e.date_time, e.create_system, e.external_attr, e.compress_type) for e in entries} == {
        ((1980, 1, 1, 0, 0, 0), 3, 0o100644 << 16, zipfile.ZIP_STORED)
    }


def test_the_same_input_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    second = packed()
    second.items = second.items.sample(fraction=1, shuffle=True, seed=3)
    second.write(tmp_path / "again")
    for path in [ZIP, *(f"webdataset/{place.name}" for place in (written / "webdataset").iterdir())]:
        assert (tmp_path / "again" / path).read_bytes() == (written / path).read_bytes(), path


def test_tars_keep_their_size_and_belong_to_one_shard_each(tmp_path: Path) -> None:
    # Three rows share a picture: a shard of 1 MiB makes more than two tars of that.
    example = toy(pictures=60, side=120, release={"formats": ["parquet", "webdataset"], "max_shard_mib": 1})
    example.write(tmp_path / "out")
    tars = sorted((tmp_path / "out" / "webdataset").glob("train-*.tar"))
    assert len(tars) > 2 * len(list((tmp_path / "out" / "data").glob("train-*")))
    # A tar ends with two empty blocks and is filled up to 20.
    assert all(path.stat().st_size <= (1 << 20) + 10_240 for path in tars)
    assert verify(tmp_path / "out").findings == ()


def test_texts_alone(tmp_path: Path) -> None:
    example = packed()
    example.items = example.items.with_columns(
        image_ref=pl.lit(None, pl.String), image_sha256=pl.lit(None, pl.String)
    )
    example.write(tmp_path / "out")
    assert [str(finding) for finding in verify(tmp_path / "out").findings] == []
    with zipfile.ZipFile(tmp_path / "out" / ZIP) as archive:
        assert not any(name.startswith("images/") for name in archive.namelist())


def test_a_zip_larger_than_the_old_format_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with more than 65,535 members, at a limit that a test can pass.
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    packed().write(tmp_path / "out")
    assert b"PK\x06\x06" in (tmp_path / "out" / ZIP).read_bytes()  # the zip64 end record
    assert [str(finding) for finding in verify(tmp_path / "out").findings] == []


@pytest.mark.parametrize(
    ("item_id", "key"),
    [
        ("item-01_b", "item-01_b"),
        ("a.b", "a-b--2e7336dc8eba87ef"),
        ("../../etc/passwd", "etc-passwd--"),
        ("__meta__", "meta--"),
        ("图片", "item--"),
        ("x" * 81, "x" * 40 + "--"),
    ],
)
def test_keys_are_plain(item_id: str, key: str) -> None:
    made = webdataset_key(item_id)
    assert made == key or (key.endswith("--") and made.startswith(key) and len(made) == len(key) + 16)


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1), unique=True, min_size=2, max_size=20))
def test_no_two_ids_have_one_key(ids: list[str]) -> None:
    ids = list(dict.fromkeys([*ids, *map(webdataset_key, ids)]))
    keys = [webdataset_key(item_id) for item_id in ids]
    assert len(set(keys)) == len(ids)
    assert all(len(key) <= 80 and not set(key) & set("./\\ ") and key[0] != "_" for key in keys)


# -- faults --------------------------------------------------------------------------------


def rewrite_tar(path: Path, edit: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    edit(members)
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def rewrite_zip(path: Path, edit: Callable[[list[tuple[str, bytes]]], None], method: int = 0) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    edit(members)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)


def other_picture(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    first, second = [place for place, (m, _) in enumerate(members) if m.name.endswith(".png")][:6:3]
    members[first] = (members[first][0], members[second][1])


def change_json(members: list[tuple[tarfile.TarInfo, bytes]], **values: object) -> None:
    place = next(place for place, (m, _) in enumerate(members) if m.name.endswith(".json"))
    row = json.loads(members[place][1])
    members[place] = (members[place][0], json.dumps({**row, **values}).encode())


def broken_json(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    place = next(place for place, (m, _) in enumerate(members) if m.name.endswith(".json"))
    members[place] = (members[place][0], b"{")


def two_pictures(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    place = next(place for place, (m, _) in enumerate(members) if m.name.endswith(".png"))
    member = tarfile.TarInfo(members[place][0].name.replace(".png", ".jpg"))
    members.insert(place, (member, members[place][1]))


def other_key(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    key = members[0][0].name.partition(".")[0]
    for member, _ in members:
        name, _, extension = member.name.partition(".")
        if name == key:
            member.name = f"another.{extension}"


def other_class(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    place = next(place for place, (m, _) in enumerate(members) if m.name.endswith(".cls"))
    members[place] = (members[place][0], b"7")


def folder_name(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[0][0].name = "../" + members[0][0].name


def link(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[0][0].type, members[0][0].linkname = tarfile.SYMTYPE, "/etc/passwd"
    members[0] = (members[0][0], b"")


def no_sample(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    key = members[0][0].name.partition(".")[0]
    members[:] = [pair for pair in members if pair[0].name.partition(".")[0] != key]


def apart(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.append(members.pop(0))


def twice(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members.insert(0, members[0])


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (other_picture, "released_sha256: 1 items"),
        (partial(change_json, author="somebody else"), "author: 1 items"),
        (partial(change_json, price=7), "columns differ from metadata/items.parquet: price"),
        (
            partial(change_json, author={"name": "Ada"}),
            "of other types than in metadata/items.parquet: author",
        ),
        # Polars makes it "7", which may be what the table has.
        (partial(change_json, author=7), "of other types than in metadata/items.parquet: author"),
        (partial(change_json, author=True), "of other types than in metadata/items.parquet: author"),
        (broken_json, "does not hold an item"),
        (other_key, "sample 'another' is item"),
        (two_pictures, "has 2 pictures"),
        (other_class, ".cls is not what"),
        (folder_name, "is not a plain file named KEY.EXTENSION"),
        (link, "is not a plain file named KEY.EXTENSION"),
        (no_sample, "59 rows in webdataset, 60 in metadata"),
        (apart, "are not side by side"),
        (twice, "is there twice"),
    ],
)
def test_faults_of_tars(written: Path, tmp_path: Path, edit: Callable[..., None], told: str) -> None:
    release = copied(written, tmp_path)
    rewrite_tar(release / TAR, edit)
    assert_found(release, told)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train-00000.tar", b"no tar" * 1000, "not a tar"),
        ("notes.txt", b"notes", "not named <split>-NNNNN.tar"),
        ("index.json", b'{"classes": []}', "does not list the classes"),
        ("test-00001.tar", None, "holds rows of split train"),
    ],
)
def test_files_beside_the_tars(
    written: Path, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    release = copied(written, tmp_path)
    (release / "webdataset" / name).write_bytes(content or (release / TAR).read_bytes())
    assert_found(release, told)


def picture_twice(members: list[tuple[str, bytes]]) -> None:
    members.append(members[0])


def picture_gone(members: list[tuple[str, bytes]]) -> None:
    del members[0]


def picture_changed(members: list[tuple[str, bytes]]) -> None:
    members[0] = (members[0][0], members[1][1])


def leads_out(members: list[tuple[str, bytes]]) -> None:
    members.append(("../outside.txt", b""))


def other_licence(members: list[tuple[str, bytes]]) -> None:
    members[:] = [(name, b"all yours" if name == "LICENSE" else content) for name, content in members]


def other_csv(members: list[tuple[str, bytes]]) -> None:
    members[:] = [
        (name, content.replace(b"annotator", b"somebody", 1) if name == "items.csv" else content)
        for name, content in members
    ]


@pytest.mark.parametrize(
    ("edit", "method", "told"),
    [
        pytest.param(
            picture_twice,
            0,
            "1 members are there twice",
            marks=pytest.mark.filterwarnings("ignore:Duplicate"),
        ),
        (picture_gone, 0, "1 pictures are in the zip or in its table only"),
        (picture_changed, 0, "released_sha256: 3 items"),
        (leads_out, 0, "members that do not belong there, such as '../outside.txt'"),
        (other_licence, 0, "LICENSE is not that of the release"),
        (other_csv, 0, "items.csv is not what items.parquet holds"),
        (lambda members: None, zipfile.ZIP_DEFLATED, "members are compressed"),
    ],
)
def test_faults_of_the_zip(
    written: Path, tmp_path: Path, edit: Callable[..., None], method: int, told: str
) -> None:
    release = copied(written, tmp_path)
    rewrite_zip(release / ZIP, edit, method)
    assert_found(release, told)


def test_a_text_in_a_tar_that_would_fill_the_memory(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long_json(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        place = next(place for place, (m, _) in enumerate(members) if m.name.endswith(".json"))
        members[place] = (members[place][0], members[place][1] + b" " * (2 << 20))

    release = copied(written, tmp_path)
    rewrite_tar(release / TAR, long_json)
    monkeypatch.setattr(packages, "_MAX_TEXT_BYTES", 1 << 20)
    assert_found(release, "is over 1 MiB")


def test_a_zip_that_says_that_it_holds_more_than_it_can(written: Path, tmp_path: Path) -> None:
    """Its members are not compressed, as they say, and yet one is as large as the memory."""
    release = copied(written, tmp_path)
    content = bytearray((release / ZIP).read_bytes())
    size = content.find(b"PK\x01\x02") + 24  # of the first member, as the directory has it
    content[size : size + 4] = (1 << 30).to_bytes(4, "little")
    (release / ZIP).write_bytes(content)
    assert_found(release, "members are compressed")


def test_a_zip_that_is_none(written: Path, tmp_path: Path) -> None:
    release = copied(written, tmp_path)
    (release / ZIP).write_bytes(b"no zip")
    assert_found(release, "not such a zip")


def test_a_zip_that_asks_for_a_password(written: Path, tmp_path: Path) -> None:
    release = copied(written, tmp_path)
    content = bytearray((release / ZIP).read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of the first member, in both places
        content[content.find(header) + flags] |= 1
    (release / ZIP).write_bytes(content)
    assert_found(release, "is encrypted")


def copied(written: Path, folder: Path) -> Path:
    return Path(shutil.copytree(written, folder / "release"))


def assert_found(release: Path, told: str) -> None:
    """The fault is found, behind checksums that hide it, and nothing else but tars and zip is complained of."""
    sign(release)
    found = verify(release).findings
    assert {finding.check for finding in found} - {"file_not_listed"} == {"package"}
    assert any(told in str(finding) for finding in found), [str(finding) for finding in found]


# -- config and disk -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "told"),
    [
        (["zip"], "parquet is what"),
        (["parquet", "zip", "zip"], "at most once"),
        (["parquet", "rar"], "input_value='rar'"),
    ],
)
def test_formats_that_cannot_be(formats: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        toy_config(release={"formats": formats})


@pytest.mark.parametrize(
    "place",
    ["tarfile.TarFile.addfile", "zipfile.ZipFile.writestr", "pyarrow.parquet.ParquetWriter.write_table"],
)
def test_a_disk_that_fills_while_files_are_written(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, full)
    with pytest.raises(OutsideWorldError, match="out: No space left on device") as raised:
        packed().write(tmp_path / "out")
    assert raised.value.exit_status == 3
    # No list of checksums: nobody takes what is there for a release.
    assert not (tmp_path / "out" / "SHA256SUMS").exists()
    monkeypatch.undo()
    packed().write(tmp_path / "out")
    assert verify(tmp_path / "out").findings == ()
