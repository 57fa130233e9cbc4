"""No raw personal data lies where it must not: values are planted in a source, and every file of a build is searched.

The raw snapshots hold the rows of the sources, as docs/configuration.md says; they are the only place.
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest

KEY = "a-secret-of-thirty-two-characters"
PLANTED = {
    "redact": "ada.lovelace@posta.example",
    "hash": "+44 20 7946 0958",
    "mask": "4111 1111 1111 1111",
    "surrogate": "DE89 3704 0044 0532 0130 00",
    "drop": "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
    "review": "17 Elm Grove, Manchester, M14 6FT",
}
"""One value for every action but 'report', which is there to leave values where they are."""
ACTIONS = {
    "EMAIL_ADDRESS": "redact",
    "PHONE_NUMBER": "hash",
    "CREDIT_CARD": "mask",
    "IBAN_CODE": "surrogate",
    "CRYPTO": "drop",
    "ADDRESS": "review",
}
PRIVATE = ("snapshots/raw_texts/", "snapshots/raw_images/")


def contents(path: Path) -> Iterator[bytes]:
    """What a file holds, decompressed as far as its kind is known."""
    data = path.read_bytes()
    yield data
    if data[:4] == b"PAR1":
        frame = pl.read_parquet(path)
        for name in frame.columns:
            column = frame[name]
            if column.dtype in (pl.String, pl.Categorical):
                yield "\n".join(column.drop_nulls().to_list()).encode()
            elif column.dtype != pl.Binary:
                yield str(column.to_list()).encode()
            else:
                yield b"\n".join(column.drop_nulls().to_list())
    elif data[:15] == b"SQLite format 3":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            tables = [
                name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
            ]
            for table in tables:
                for row in connection.execute(f'select * from "{table}"'):
                    for value in row:
                        raw = value if isinstance(value, bytes) else str(value).encode()
                        yield raw
                        with contextlib.suppress(zlib.error):
                            yield zlib.decompress(raw)  # how Dagster keeps snapshots of jobs


def places_of(value: str, folder: Path) -> set[str]:
    """Files that hold a value, its spaces or its escapes in JSON aside."""
    forms = {value.encode(), value.replace(" ", "").encode(), value.encode("utf-16-le")}
    return {
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(form in content for content in contents(path) for form in forms)
    }


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with its history of runs, in one folder."""
    folder = tmp_path_factory.mktemp("private")
    config = write_dataset(
        folder / "source",
        pii={"enabled": True, "actions": ACTIONS, "key": {"environment": "PRIVATE_KEY"}, "min_score": 0.4},
    )
    made = rows()
    for row, value in zip(made[1::2], PLANTED.values(), strict=False):
        row |= {"caption": f"A hat, questions to {value} please, in the evening or on Sunday", "lang": "en"}
    write_manifest(folder / "source" / "items.csv", made)
    environment = {**os.environ, "PRIVATE_KEY": KEY}
    environment.pop("DAGSTER_HOME", None)
    command = [
        sys.executable,
        "-m",
        "dataset_pipeline.cli",
        "build",
        str(config),
        "--storage",
        str(folder / "storage"),
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    # What the terminal shows is searched as well.
    (folder / "storage" / "output.txt").write_text(result.stdout + result.stderr, encoding="utf-8")
    return folder / "storage"


@pytest.mark.parametrize("action", PLANTED)
def test_no_file_holds_a_planted_value(storage: Path, action: str) -> None:
    found = places_of(PLANTED[action], storage)
    raw = {place for place in found if any(private in place for private in PRIVATE)}
    assert raw, "the search finds what is there: the rows as they came"
    assert found - raw == set()


def test_no_file_holds_the_key(storage: Path) -> None:
    assert places_of(KEY, storage) == set()


def test_the_database_is_searched(storage: Path) -> None:
    # A search that opens nothing would find nothing.
    databases = list(storage.rglob("*.db"))
    assert databases
    assert any(b"cleaned_items" in content for path in databases for content in contents(path))


def test_the_release_says_what_was_done(storage: Path) -> None:
    release = storage / "small" / "releases" / "1.0.0"
    captions = "\n".join(pl.read_parquet(release / "metadata" / "items.parquet")["caption"].to_list())
    for shown in ("<EMAIL_ADDRESS>", "<PHONE_NUMBER:", "**** **** **** ****", "DE"):
        assert f"questions to {shown}" in captions, shown
    removed = pl.read_parquet(release / "metadata" / "removed.parquet")["reason"].to_list()
    assert {"personal_data", "personal_data_unsure"} <= set(removed)


def test_raw_snapshots_are_marked_private(storage: Path) -> None:
    note = (storage / "small" / "PRIVATE.md").read_text(encoding="utf-8")
    for place in PRIVATE:
        assert place in note
