"""A built release in all formats, read by other programs: the same counts, values and pictures everywhere."""

import gc
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_pipeline import verification
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.building import bench, failures
from dataset_pipeline_tests.small_dataset import write_dataset
from dataset_pipeline_tests.toy_release import sign

RELEASE = {"formats": ["parquet", "webdataset", "zip"], "mini": True, "rows_per_row_group": 10}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small dataset in every format."""
    folder = tmp_path_factory.mktemp("loading")
    config = write_dataset(folder / "source", release=RELEASE)
    with bench(config, folder / "storage") as made:
        result = made.run()
        assert result.success, failures(result)
        yield made.release


@pytest.fixture(scope="module")
def expected(release: Path) -> pl.DataFrame:
    """Rows of the Parquet files; of each picture, its bytes."""
    return pl.read_parquet(release / "data" / "*.parquet").with_columns(
        pl.col("image").struct.field("bytes").alias("image")
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_verify_finds_no_fault(release: Path) -> None:
    assert [str(finding) for finding in verify(release).findings] == []


def test_row_groups_are_small_and_have_a_page_index(release: Path) -> None:
    for path in [*(release / "data").iterdir(), *(release / "mini" / "data").iterdir()]:
        file = pq.ParquetFile(path).metadata
        groups = [file.row_group(number) for number in range(file.num_row_groups)]
        assert all(group.num_rows <= 10 and group.total_byte_size < 100_000_000 for group in groups)
        assert all(
            group.column(place).has_offset_index for group in groups for place in range(file.num_columns)
        )


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("is_stream", [False, True])
def test_datasets_loads_and_streams_the_same_bytes(
    release: Path, expected: pl.DataFrame, tmp_path: Path, is_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(release), streaming=is_stream, cache_dir=str(tmp_path))
    rows = []
    for split, part in loaded.items():
        undecoded = part.cast_column("image", datasets.Image(decode=False))
        rows += [{**row, "image": row["image"]["bytes"]} for row in undecoded]
        assert {row["split"] for row in rows if row["split"] == split} == {split}
        assert next(iter(part))["image"].size == (64, 48)
    assert "Ignoring" not in caplog.text  # the card's splits and features are understood
    assert sorted(rows, key=lambda row: row["item_id"]) == expected.sort("item_id").to_dicts()


@pytest.mark.usefixtures("offline")
def test_a_stream_can_be_shuffled(release: Path, expected: pl.DataFrame) -> None:
    import datasets

    part = datasets.load_dataset(str(release), split="train", streaming=True)
    train = expected.filter(pl.col("split") == "train")["item_id"].to_list()
    shuffled = [row["item_id"] for row in part.shuffle(seed=1, buffer_size=10)]
    assert shuffled != train
    assert sorted(shuffled) == sorted(train)


@pytest.mark.usefixtures("offline")
def test_the_sample_loads_as_a_configuration_and_as_a_folder(release: Path, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    items = pl.read_parquet(release / "mini" / "metadata" / "items.parquet")
    assert 0 < items.height < 20
    assert set(items["label"]) == {"boot", "hat", "shirt"}
    for where, name in ((release, "mini"), (release / "mini", None)):
        loaded = datasets.load_dataset(str(where), name, cache_dir=str(tmp_path / str(name)))
        assert set(loaded) == {"train", "validation", "test"}
        assert (
            sorted(row for part in loaded.values() for row in part["item_id"]) == items["item_id"].to_list()
        )


def test_the_sample_is_a_release_that_says_what_it_is(release: Path) -> None:
    assert [str(finding) for finding in verify(release / "mini").findings] == []
    card = (release / "mini" / "README.md").read_text(encoding="utf-8")
    told = json.loads((release / "mini" / "reports" / "quality.json").read_text())["sample"]
    assert "**This is a sample**" in card
    # 3 classes and 3 splits of 40 items are more than 5 %.
    assert told["is_larger_than_asked"] is True
    assert f"It takes {100 * told['share_of_size']:.1f} % of the size of the whole: more than the 5 %" in card
    assert json.loads((release / "mini" / "provenance.json").read_text())["sample_of"] == "small"


@pytest.mark.parametrize("where", [".", "mini"])
def test_mlcroissant_gives_every_record_and_its_picture(release: Path, where: str) -> None:
    croissant = pytest.importorskip("mlcroissant")
    folder = release / where
    rows = pl.read_parquet(folder / "data" / "*.parquet")
    pictures = {row["item_id"]: Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows.to_dicts()}
    found = list(croissant.Dataset(jsonld=str(folder / "croissant.json")).records(record_set="items"))
    assert sorted(record["items/item_id"].decode() for record in found) == sorted(pictures)
    for record in found:
        assert record["items/image"].tobytes() == pictures[record["items/item_id"].decode()].tobytes()


@pytest.mark.usefixtures("offline")
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_code_in_the_card_runs(
    release: Path, expected: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    card = (release / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"(?ms)^```python\n(.*?)^```", card)).replace(
        "path/to/this/folder", str(release)
    )
    assert code.count("import torch\n") == code.count("import webdataset\n") == 1
    monkeypatch.chdir(release)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    made: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), made)
    train = expected.filter(pl.col("split") == "train")
    assert made["items"].height == expected.height
    assert sorted(row["item_id"] for row in made["stream"]) == sorted(train["item_id"])
    batches = list(made["loader"])
    assert sum(len(pictures) for pictures, _ in batches) == train.height
    assert batches[0][0].shape[1:] == (3, 224, 224)
    assert sorted(made["classes"][number] for _, numbers in batches for number in numbers) == sorted(
        train["label"]
    )
    samples = {sample["json"]["item_id"]: sample for sample in made["samples"]}
    assert samples.keys() == set(train["item_id"])
    for row in train.to_dicts():
        assert samples[row["item_id"]]["png"].tobytes() == Image.open(io.BytesIO(row["image"])).tobytes()
    del samples, made
    gc.collect()


def test_checksums_pass(release: Path) -> None:
    for folder in (release, release / "mini"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


# -- faults of the sample --------------------------------------------------------------------


def edit(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    table = change(pl.read_parquet(path)).to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(table, path, write_page_index=True)


def another_author(mini: Path) -> None:
    for path in [*(mini / "data").iterdir(), mini / "metadata" / "items.parquet"]:
        edit(path, lambda rows: rows.with_columns(author=pl.lit("somebody else")))


def unknown_size(mini: Path) -> None:
    change_report(mini, lambda sample: sample.pop("share_of_size"))


def smaller_than_it_is(mini: Path) -> None:
    change_report(mini, lambda sample: sample.update(share_of_size=0.01))


def change_report(mini: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = mini / "reports" / "quality.json"
    report = json.loads(path.read_text())
    change(report["sample"])
    path.write_text(json.dumps(report))
    # Documents of other code are not made again: a card that differs from the report would hide this fault.
    provenance = json.loads((mini / "provenance.json").read_text())
    (mini / "provenance.json").write_text(json.dumps({**provenance, "documents_code": "other"}))


def no_hats(mini: Path) -> None:
    for path in [*(mini / "data").iterdir(), mini / "metadata" / "items.parquet"]:
        edit(path, lambda rows: rows.filter(pl.col("label") != "hat"))


def damaged_card(mini: Path) -> None:
    (mini / "README.md").write_text("# No numbers")


def sample_of_the_sample(mini: Path) -> None:
    # However deep somebody nests them, looking at a release ends.
    (mini / "mini" / "mini").mkdir(parents=True)
    (mini / "mini" / "mini" / "README.md").write_text("# A sample of a sample of a sample")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (sample_of_the_sample, "a sample of a sample; expected none"),
        (another_author, "author: 5 items"),
        (unknown_size, "does not say how large it is"),
        (smaller_than_it_is, "of the size, and it says 1.0%"),
        (no_hats, "count: reports/quality.json"),
        (damaged_card, "count: README.md"),
    ],
)
def test_faults_of_the_sample(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Path], None], told: str
) -> None:
    monkeypatch.setattr(verification, "_FILE_BYTES", 0)  # the files of three items are small themselves
    copied = Path(shutil.copytree(release, tmp_path / "release"))
    fault(copied / "mini")
    sign(copied / "mini")
    sign(copied)
    found = verify(copied).findings
    # croissant.json has no place for a file that is new.
    added = {"file_not_listed"} if fault is sample_of_the_sample else set()
    assert {finding.check for finding in found} == {"sample"} | added
    assert any(told in str(finding) for finding in found), [str(finding) for finding in found]
