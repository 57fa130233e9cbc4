"""What users do wrong, through the command line: exit status, one clear line, nothing lost."""

import os
import resource
import shutil
import signal
import struct
import subprocess
import zlib
from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline_tests.command_line import command, run
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import HEADER, LABELS, rows, write_dataset, write_manifest


def check(config: Path) -> tuple[int, list[str]]:
    answer = run("check", config)
    lines = [line for line in answer.err.splitlines() if not line.startswith("warning: not set")]
    return answer.status, lines


# -- the config ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found no mapping"),
        (b"- a\n", "found no mapping"),
        (b"name: caf\xe9\n", "not UTF-8 at byte 9"),
        (b"name: [\n", "not valid YAML"),
        (b"name: a\0b\n", "not valid YAML"),
        (b"name: a\nname: b\n", "dataset.yaml:2: not valid YAML: the key 'name' is there twice"),
        (b"? [a, b]\n: 1\n", "not valid YAML"),
        (b"!!python/object/apply:os.system [x]\n", "could not determine a constructor"),
        (b"sources: abc\n", "sources: Input should be a list, found 'abc'"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "build", "dev"])
def test_what_is_no_config(tmp_path: Path, verb: str, content: bytes, expected: str) -> None:
    config = tmp_path / "dataset.yaml"
    config.write_bytes(content)
    answer = run(verb, config, *([] if verb == "check" else ["--storage", tmp_path / "storage"]))
    assert (answer.status, expected in answer.err) == (2, True), answer.err
    assert not (tmp_path / "storage").exists()


def test_a_folder_and_nothing_as_config(tmp_path: Path) -> None:
    for path, expected in ((tmp_path, "is a folder"), (tmp_path / "x.yaml", "no such file")):
        answer = run("check", path)
        assert (answer.status, expected in answer.err) == (2, True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lables": {}}, "lables: unknown key; did you mean 'labels'?"),
        ({"split": {"ratio": {}}}, "split.ratio: unknown key; did you mean 'ratios'?"),
        (
            {"duplicates": {"image": {"max_hash_distanc": 3}}},
            "duplicates.image.max_hash_distanc: unknown key; did you mean 'max_hash_distance'?",
        ),
        ({"publish": {"shelf": {"pth": "x"}}}, "publish.shelf.pth: unknown key; did you mean 'path'?"),
        ({"publish": {"shelf": {"kind": "foldr"}}}, "publish.shelf.kind: Input should be 'folder', 's3', 'huggingface', 'zenodo', found 'foldr'"),
        ({"baselines": {"prompts": ["a {labl}"]}}, "baselines.prompts: the one placeholder of a prompt is {label}"),
        ({"baselines": {"prompts": ["{label} {x}"]}}, "baselines.prompts: the one placeholder of a prompt is {label}"),
        ({"source": {"columns": {"lable": "kind"}}}, "sources.0.columns.lable: unknown key; did you mean 'label'?"),
    ],
)  # fmt: skip
def test_a_typo_is_answered_with_what_was_meant(
    tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    status, lines = check(write_dataset(tmp_path, **changes))
    assert (status, len(lines)) == (2, 1), lines
    assert expected in lines[0]


# -- what check finds in seconds -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"licence": "CC-BY-40"}, "licence: 'CC-BY-40' is no SPDX id; nearest: CC-BY-4.0"),
        ({"source": {"licence": "CC0-1"}}, "sources.shop.licence: 'CC0-1' is no SPDX id; nearest: CC0-1.0"),
        ({"source": {"columns": {"licence": "CC-BY-4"}}}, "licence of an item: 'CC-BY-4' is no SPDX id; nearest: CC-BY-4.0"),
        ({"source": {"image_root": "imagess"}}, "image_root: no such folder"),
        ({"source": {"columns": {"image": "{id}.jpg"}}}, "none of the images of the first 40 rows is in"),
        ({"source": {"columns": {"item_id": "kind"}}}, "item ids must be unique"),
        ({"source": {"permission": {"evidence": "letter.pdf"}}}, "permission.evidence: no such file"),
        ({"takedowns": "gone.csv"}, "takedowns: no such file or folder"),
        ({"takedowns": "images"}, "is a folder, expected a file"),
        ({"takedowns": "bad.csv"}, "expected a column 'item_id', 'sha256' or 'url', found ['id']"),
        ({"takedowns": "hole.csv"}, "1 rows have no item_id"),
        ({"publish": {"shelf": {"path": "items.csv"}}}, "publish.shelf.path: is a file, expected a folder"),
        ({"pii": {"enabled": True, "ner_models": {"en": "en_no_such_model"}}}, "is not installed. Install it with: pip install"),
        ({"split": {"method": "published"}}, "columns.split: missing, and split.method is 'published'"),
        ({"split": {"method": "repaired"}}, "columns.split: missing in every source, and split.method is 'repaired'"),
    ],
)  # fmt: skip
def test_check_finds(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    config = write_dataset(tmp_path, **changes)
    (tmp_path / "bad.csv").write_text("id\nitem-01\n")
    (tmp_path / "hole.csv").write_text("item_id,reason\nitem-01,asked\n,asked\n")
    status, lines = check(config)
    assert (status, len(lines)) == (2, 1), lines
    assert expected in lines[0]


def test_build_refuses_what_the_config_shows_before_it_spends_an_hour(tmp_path: Path) -> None:
    config = write_dataset(tmp_path, licence="CC-BY-40", takedowns="gone.csv")
    answer = run("build", config, "--storage", tmp_path / "storage")
    assert (answer.status, len(answer.err.splitlines())) == (2, 2), answer.err
    assert not (tmp_path / "storage").exists()


def test_check_warns_of_what_is_allowed_but_hardly_meant(tmp_path: Path) -> None:
    config = write_dataset(
        tmp_path,
        takedowns="takedowns.csv",
        labels={"drop": ["hats"]},
        publish={"shelf": {"path": "a/b/c"}},
    )
    (tmp_path / "takedowns.csv").write_text("item_id\nitem-01\nitem-1\n")
    (tmp_path / "images" / "03.png").unlink()
    (tmp_path / "images" / "04.png").write_text("<html>404</html>")
    status, lines = check(config)
    text = "\n".join(lines)
    assert status == 0, text
    for expected in (
        "labels.drop: no row has the label 'hats'; did you mean 'hat'?",
        "takedowns: 1 ids are in no source (good, if they are deleted there): 'item-1'",
        "1 images of the first 40 rows are missing, such as '03.png'",
        "'04.png': image_is_text: starts like HTML",
        "publish.shelf.path: neither it nor the folder above it is there now",
    ):
        assert expected in text


# -- manifests -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("items.csv", None, "no such file or folder"),
        ("items.csv", b"", "empty; expected a header and rows"),
        ("items.csv", b"id,file,caption,kind,lang,owner\n", "no rows in items.csv"),
        ("items.csv", b"id,file\n1,00.png\n", "columns not found: columns.label: 'kind'"),
        ("items.csv", b"id,file,caption,kind,lang,owner\n1,2,3,4,5,6,7\n", "items.csv:2: found 7 cells, expected 6"),
        ("items.csv", "id,file,caption,kind,lang,owner\n1,00.png,caf\xe9,a,en,o\n".encode("latin-1"), "items.csv:2: byte"),
        ("items.jsonl", b'{"id": "1"}\n{"id": \n', "items.jsonl:2: not a JSON object"),
        ("items.parquet", b"id,file\n", "not a Parquet file"),
        ("items.parquet", b"", "not a Parquet file"),
        ("items.xlsx", b"", "expected one of .csv"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["check", "build"])
def test_broken_manifests(tmp_path: Path, verb: str, name: str, content: bytes | None, expected: str) -> None:
    config = write_dataset(tmp_path, source={"path": name})
    (tmp_path / "items.csv").unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    if verb == "check":
        answer = run("check", config)
    else:
        answer = run("build", config, "--storage", tmp_path / "storage", "--to", "raw_texts")
    if content is not None and content.endswith(b"owner\n") and verb == "build":
        assert (answer.status, "raw_texts: has_rows" in answer.last) == (1, True)  # the gate finds it
    else:
        assert (answer.status, expected in answer.last) == (2, True), answer.err


def test_duplicate_ids_stop_at_their_gate_and_are_named(tmp_path: Path) -> None:
    config = write_dataset(tmp_path)
    write_manifest(tmp_path / "items.csv", [*rows(), rows()[3]])
    answer = run("build", config, "--storage", tmp_path / "storage", "--to", "raw_texts")
    assert answer.status == 1
    assert "✗ raw_texts: item_ids_unique" in answer.err
    assert "item-03" in answer.err
    assert "Nothing was released" in answer.err
    write_manifest(tmp_path / "items.csv", rows())
    assert run("build", config, "--storage", tmp_path / "storage", "--to", "raw_texts").status == 0


# -- pictures and texts: every fault is a removed row with its reason --------------------------


def bomb() -> bytes:
    """A valid PNG head that promises 50,000 x 50,000 pixels, in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_whatever_a_row_or_a_picture_is_the_build_ends_and_says_so(tmp_path: Path) -> None:
    """One build of all faults at once: each costs its own row and no other."""
    config = write_dataset(tmp_path)
    images, items = tmp_path / "images", rows()
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded(picture(99)))
    items[0]["file"] = "../secret.png"
    items[1]["file"] = str(secret)
    (images / "02.png").unlink()
    (images / "02.png").symlink_to(secret)
    (images / "03.png").write_text("this is text")
    (images / "04.png").write_bytes(b"")
    (images / "05.png").write_bytes(encoded(picture(5, (400, 300)), "JPEG")[:2000])
    (images / "06.png").write_bytes(bomb())
    (images / "07.png").unlink()
    frames = [picture(70), picture(71)]
    (images / "08.png").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    (images / "09.png").write_bytes(encoded(picture(9, mode="CMYK"), "JPEG"))
    items[10]["caption"] = "A nul\0 inside"
    items[11]["kind"] = "only one of its kind"
    items[12]["kind"] = ""
    write_manifest(tmp_path / "items.csv", items)
    answer = run("build", config, "--storage", tmp_path / "storage")
    assert answer.status == 0, answer.err
    release = tmp_path / "storage" / "small" / "releases" / "1.0.0"
    removed = pl.read_parquet(release / "metadata" / "removed.parquet")
    assert dict(removed.select("item_id", "reason").iter_rows()) == {
        "item-00": "image_path_outside_root",
        "item-01": "image_path_outside_root",
        "item-02": "image_missing",
        "item-03": "image_undecodable",
        "item-04": "image_empty",
        "item-05": "image_truncated",
        "item-06": "image_too_large",
        "item-07": "image_missing",
        "item-12": "label_missing",
        "shop/00.png": "image_without_row",
        "shop/01.png": "image_without_row",
    }
    released = pl.read_parquet(release / "metadata" / "items.parquet")
    assert set(released["item_id"]) == {item["id"] for item in items} - set(removed["item_id"])
    assert released.filter(pl.col("item_id") == "item-10")["caption"].to_list() == ["A nul inside"]
    pictures = pl.read_parquet(release / "data" / "*.parquet")["image"].struct.field("bytes")
    assert secret.read_bytes() not in pictures.to_list()
    assert run("verify", release).status == 0


@pytest.mark.parametrize("as_struct", [False, True])
def test_image_bytes_in_a_parquet_column(tmp_path: Path, as_struct: bool) -> None:
    config = write_dataset(tmp_path, source={"path": "items.parquet", "columns": {"image": "image"}})
    pictures: list[bytes | None] = [encoded(picture(number)) for number in range(40)]
    pictures[3], pictures[4] = None, b"no picture"
    column = [{"bytes": data, "path": "x.png"} for data in pictures] if as_struct else pictures
    frame = pl.DataFrame(
        [[row[name] for name in HEADER] for row in rows()], schema=list(HEADER), orient="row"
    )
    frame.with_columns(image=pl.Series(column)).drop("file").write_parquet(tmp_path / "items.parquet")
    assert run("check", config).status == 0
    answer = run("build", config, "--storage", tmp_path / "storage", "--to", "raw_images")
    assert answer.status == 0, answer.err
    table = pl.read_parquet(
        next((tmp_path / "storage" / "small" / "snapshots" / "raw_images").glob("*/images.parquet"))
    )
    assert table.height == 39
    assert table.filter(pl.col("problem").is_not_null()).select("image_ref", "problem").rows() == [
        ("shop/#0:4", "image_undecodable")
    ]


def test_nothing_left_after_cleaning_names_the_reasons(tmp_path: Path) -> None:
    config = write_dataset(tmp_path, labels={"drop": list(LABELS)})
    answer = run("build", config, "--storage", tmp_path / "storage")
    assert (answer.status, "not_empty failed" in answer.last) == (1, True)
    assert "label_dropped 40" in answer.last


def test_fewer_groups_than_splits(tmp_path: Path) -> None:
    config = write_dataset(tmp_path, source={"columns": {"group_keys": ["lang"]}})
    answer = run("build", config, "--storage", tmp_path / "storage")
    assert (answer.status, "need as many groups of connected items, found 2" in answer.last) == (1, True), (
        answer.err
    )


# -- the disk ------------------------------------------------------------------------------


def storage_call(config: Path, storage: Path) -> list[str]:
    return command("build", config, "--storage", storage, "--to", "raw_images")


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_file_where_the_storage_folder_should_be(tmp_path: Path, inside: str) -> None:
    config = write_dataset(tmp_path)
    (tmp_path / "taken").write_text("mine")
    answer = run("build", config, "--storage", tmp_path / "taken" / inside)
    assert (answer.status, "Not a directory" in answer.last) == (3, True)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("limit_bytes", [1_000, 120_000])
def test_a_disk_that_takes_no_more(tmp_path: Path, limit_bytes: int) -> None:
    """The kernel refuses writes beyond a file size, as it does on a full disk; then there is space again."""
    config = write_dataset(tmp_path)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    call = storage_call(config, tmp_path / "storage")
    ended = subprocess.run(call, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("dataset-pipeline: ")
    assert run(*call[1:]).status == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
@pytest.mark.parametrize(("options", "expected"), [("size=1m", "full"), ("ro", "Read-only file system")])
def test_a_full_and_a_read_only_disk(tmp_path: Path, options: str, expected: str) -> None:
    config, disk = write_dataset(tmp_path), tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        ended = subprocess.run(
            command("build", config, "--storage", disk), capture_output=True, text=True, check=False
        )
        assert (ended.returncode, "Traceback" in ended.stderr) == (3, False), ended.stderr
        assert expected in ended.stderr
        assert not (disk / "small" / "releases").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
