"""Files of outside sets: what is read of them, and what is said of those that cannot be read."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from dataset_pipeline.adapters import outside_sets
from dataset_pipeline.adapters.sources import list_images, read_manifest
from dataset_pipeline.config import DatasetConfig, OutsideSet
from dataset_pipeline.errors import ConfigError
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.stages.crafted import minimal_config


def one(**changes: Any) -> OutsideSet:
    return OutsideSet.model_validate({"name": "bench", **changes})


def config(*sets: OutsideSet) -> DatasetConfig:
    return minimal_config(decontaminate=[each.model_dump() for each in sets])


def test_texts_of_lines_and_of_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufefffirst\n\n third \n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("caption\nfirst\n  \nthird\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("id,q,a\n1,who?,me\n2,what?,\n", encoding="utf-8")
    pl.DataFrame({"q": ["who?"], "n": [7]}).write_parquet(tmp_path / "c.parquet")

    def read(path: str, **changes: Any) -> list[tuple[str, str]]:
        found = outside_sets.read_texts(one(texts=path, **changes), tmp_path)
        assert set(found["set"]) == {"bench"}
        return found.select("name", "value").rows()

    assert read("a.txt") == [("line 1", "first"), ("line 3", " third ")]
    assert read("a.csv") == [("row 1", "first"), ("row 3", "third")]
    assert read("b.csv", text_columns=["q", "a"]) == [
        ("row 1, q", "who?"),
        ("row 2, q", "what?"),
        ("row 1, a", "me"),
    ]
    assert read("c.parquet", text_columns=["n"]) == [("row 1", "7")]


def test_hashes_alone_and_as_sha256sum_prints_them(tmp_path: Path) -> None:
    digest = "ab" * 32
    (tmp_path / "h.txt").write_text(
        f"{digest.upper()}\n{digest}  test/1.png\n{digest} *two words.png\n\n0123456789abcdef\n"
    )

    found = outside_sets.read_hashes(one(hashes="h.txt"), tmp_path)

    assert found.select("name", "value").rows() == [
        ("line 1", digest),
        ("test/1.png", digest),
        ("two words.png", digest),
        ("line 5", "0123456789abcdef"),
    ]


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        ({}, {"texts": "no.txt"}, "decontaminate.bench.texts: no such file: "),
        ({}, {"hashes": "no.txt"}, "decontaminate.bench.hashes: no such file: "),
        ({}, {"images": "no"}, "decontaminate.bench.images: no such file or folder: "),
        ({"a.txt": b" \n"}, {"texts": "a.txt"}, "decontaminate.bench.texts: no text in a.txt. Expected at least one"),
        ({"a.txt": b"\xff"}, {"texts": "a.txt"}, "decontaminate.bench.texts: not UTF-8 at byte 0"),
        ({"a.txt": b""}, {"hashes": "a.txt"}, "decontaminate.bench.hashes: no hash in a.txt"),
        (
            {"a.txt": b"0123456789abcdef\nhello\n"},
            {"hashes": "a.txt"},
            "decontaminate.bench.hashes: a.txt: line 2: expected 64 hexadecimal digits (SHA-256) or 16 (pHash), "
            "found 5 characters: 'hello'",
        ),
        (
            {"a.csv": b"q,a\n1,2\n"},
            {"texts": "a.csv"},
            "decontaminate.bench.texts: a.csv has several columns: q, a. Name those with texts in text_columns",
        ),
        (
            {"a.csv": b"q,a\n1,2\n"},
            {"texts": "a.csv", "text_columns": ["text"]},
            "decontaminate.bench.texts: a.csv has no column 'text'. Its columns are q, a",
        ),
        ({"a/x.csv": b"q\n1\n"}, {"texts": "a"}, "decontaminate.bench.texts: a is a folder, expected a file"),
        ({"a.parquet": b"PAR"}, {"texts": "a.parquet"}, "decontaminate.bench.texts: "),
        ({"a/readme.md": b"x"}, {"images": "a"}, "decontaminate.bench.images: "),
        (
            {"a.csv": b"file\n1.png\n"},
            {"images": "a.csv"},
            "decontaminate.bench.images: a.csv has no column 'image'. Its columns are file",
        ),
        (
            {"a.csv": b"file\n1.png\n"},
            {"images": "a.csv", "image_column": "file"},
            "decontaminate.bench.images: none of the pictures that a.csv names is there",
        ),
        (
            {"a.csv": b"image\n1.png\n"},
            {"images": "a.csv", "image_root": "no"},
            "decontaminate.bench.images: image_root: no such folder",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_a_line(
    files: dict[str, bytes], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    (found,) = outside_sets.faults(config(one(**changes)), tmp_path)

    assert found.startswith(said)
    assert "\n" not in found


def vectors(path: str, **changes: Any) -> OutsideSet:
    return one(embeddings={"path": path, "model": "eye", **changes})


def test_embeddings_of_numpy_and_of_parquet(tmp_path: Path) -> None:
    given = np.array([[3.0, 4.0], [0.0, -2.0], [1.0, 0.0]])
    np.save(tmp_path / "a.npy", given.astype(np.float16))
    pl.DataFrame({"id": [1, 2, 3], "v": given.tolist()}).write_parquet(tmp_path / "a.parquet")
    fixed = pl.DataFrame({"embedding": pl.Series(given, dtype=pl.Array(pl.Float32, 2))}).to_arrow()
    pq.write_table(fixed.replace_schema_metadata({"model": "eye"}), tmp_path / "b.parquet")

    for outside in (vectors("a.npy"), vectors("a.parquet", column="v"), vectors("b.parquet")):
        found = outside_sets.read_embeddings(outside, tmp_path)
        assert found is not None
        assert np.allclose(found, [[0.6, 0.8], [0, -1], [1, 0]], atol=1e-6)
        assert found.dtype == np.float32
    assert outside_sets.read_embeddings(one(hashes="h.txt"), tmp_path) is None


def test_embeddings_that_cannot_be_used_are_said_in_a_line(tmp_path: Path) -> None:
    bad = {
        "flat.npy": np.ones(3),
        "none.npy": np.ones((0, 3)),
        "zero.npy": np.array([[1.0, 0.0], [0.0, 0.0]]),
        "nan.npy": np.array([[np.nan, 0.0]]),
        "words.npy": np.array([["a"]]),
        "objects.npy": np.array([{}], object),
    }
    for name, values in bad.items():
        np.save(tmp_path / name, values)
    (tmp_path / "no.npy").write_bytes(b"PK")
    (tmp_path / "no.parquet").write_bytes(b"PAR")
    frames = {"ragged.parquet": [[1.0], [1.0, 2.0]], "text.parquet": ["a"], "null.parquet": [[1.0], None]}
    for name, values in frames.items():
        pl.DataFrame({"embedding": values}).write_parquet(tmp_path / name)
    other = pl.DataFrame({"embedding": [[1.0]]}).to_arrow().replace_schema_metadata({"model": "ear"})
    pq.write_table(other, tmp_path / "other.parquet")
    expected = {
        "lost.npy": "no such file: ",
        "flat.npy": "flat.npy has shape (3,), expected (vectors, dimensions)",
        "none.npy": "none.npy has shape (0, 3), expected (vectors, dimensions). Expected at least one",
        "zero.npy": "zero.npy: row 2 is zero or not finite",
        "nan.npy": "nan.npy: row 1 is zero or not finite",
        "words.npy": "words.npy holds <U1, expected numbers",
        "objects.npy": "objects.npy cannot be read: ",
        "no.npy": "no.npy cannot be read: ",
        "no.parquet": "no.parquet cannot be read: ",
        "ragged.parquet": "ragged.parquet: vectors of 1 to 2 numbers, expected as many in all",
        "null.parquet": "null.parquet: vectors of 0 to 1 numbers, expected as many in all",
        "text.parquet": "text.parquet: column 'embedding' holds String, expected lists of numbers",
        "other.parquet": "other.parquet says that ear made it, and embeddings.model is eye",
    }
    for name, said in expected.items():
        with pytest.raises(ConfigError) as stopped:
            outside_sets.read_embeddings(vectors(name), tmp_path)
        assert str(stopped.value).startswith(f"decontaminate.bench.embeddings: {said}")
        assert "\n" not in str(stopped.value)
    with pytest.raises(
        ConfigError, match=r"has no column 'v'\. Its columns are embedding: name one in column"
    ):
        outside_sets.read_embeddings(vectors("other.parquet", column="v", model="ear"), tmp_path)


def test_pictures_of_a_folder_of_a_manifest_and_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "test/cats").mkdir(parents=True)
    (tmp_path / "test/cats/1.png").write_bytes(encoded(picture(1)))
    (tmp_path / "test/2.png").write_bytes(encoded(picture(2)))
    (tmp_path / "list.csv").write_text("id\n2\n")
    cells = [{"bytes": encoded(picture(3)), "path": "3.png"}]
    pl.DataFrame({"image": cells}).write_parquet(tmp_path / "test.parquet")

    def listed(**changes: Any) -> list[str]:
        outside = one(**changes)
        assert list(outside_sets.faults(config(outside), tmp_path)) == []
        source = outside_sets.image_source(outside, tmp_path)
        assert source is not None
        return list_images(source, tmp_path, read_manifest(source, tmp_path))["image_ref"].to_list()

    assert listed(images="test") == ["bench/2.png", "bench/cats/1.png"]
    # Of a manifest only what it names belongs to the set.
    assert listed(images="list.csv", image_column="{id}.png", image_root="test") == ["bench/2.png"]
    assert listed(images="test.parquet") == ["bench/#0:0"]


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/1.png").write_bytes(encoded(picture(1)))
    both = config(one(texts="a.txt", images="p"))
    before = outside_sets.fingerprints(both, tmp_path)
    assert before == outside_sets.fingerprints(both, tmp_path)
    assert list(before) == ["decontaminate (bench)"]

    (tmp_path / "a.txt").write_text("two\n")
    changed = outside_sets.fingerprints(both, tmp_path)
    (tmp_path / "p/2.png").write_bytes(encoded(picture(2)))
    assert len({before["decontaminate (bench)"], changed["decontaminate (bench)"],
                outside_sets.fingerprints(both, tmp_path)["decontaminate (bench)"]}) == 3  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "needs at least one of 'images', 'texts', 'hashes' and 'embeddings'"),
        ({"texts": "a.txt", "text_columns": ["q"]}, "text_columns name columns of a manifest"),
    ],
)
def test_settings_that_say_nothing(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        one(**changes)


def test_names_are_unique() -> None:
    with pytest.raises(ValidationError, match="names must be unique"):
        config(one(texts="a.txt"), one(texts="b.txt"))
