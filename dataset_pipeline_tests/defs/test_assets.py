"""The wiring of the assets: every kind of source reaches a release, and nothing mixes what does not fit."""

import csv
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image

from dataset_pipeline.adapters import clip, face_detector
from dataset_pipeline.defs import assets
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.building import RUNS, Bench, bench, failures, files_with, materialised
from dataset_pipeline_tests.defs.test_gates import gate_of, judge, report
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import HEADER, ITEMS, rows, write_dataset, write_manifest

TRIVIAL = {"enabled": True, "models": [], "bootstrap_samples": 100}


def no_labels(folder: Path) -> Path:
    return write_dataset(folder, baselines=TRIVIAL, source={"columns": {"label": None, "label_source": None}})


def no_texts(folder: Path) -> Path:
    return write_dataset(folder, baselines=TRIVIAL, source={"columns": {"texts": None, "language": None}})


def no_pictures(folder: Path) -> Path:
    config = write_dataset(folder, baselines=TRIVIAL, source={"image_root": None, "columns": {"image": None}})
    shutil.rmtree(folder / "images")
    return config


def folder_tree(folder: Path) -> Path:
    """A folder a class, without a manifest."""
    config = write_dataset(
        folder, baselines=TRIVIAL, source={"path": "images", "image_root": None, "columns": None}
    )
    for row in rows():
        place = folder / "images" / row["kind"]
        place.mkdir(exist_ok=True)
        (folder / "images" / row["file"]).rename(place / row["file"])
    return config


def bytes_in_parquet(folder: Path) -> Path:
    """Pictures as bytes in a column, as Hugging Face writes them."""
    config = write_dataset(folder, baselines=TRIVIAL, source={"path": "items.parquet", "image_root": None})
    made = [
        {**row, "file": {"bytes": (folder / "images" / row["file"]).read_bytes(), "path": row["file"]}}
        for row in rows()
    ]
    pl.DataFrame(made).write_parquet(folder / "items.parquet")
    shutil.rmtree(folder / "images")
    return config


def jsonl(folder: Path) -> Path:
    config = write_dataset(folder, baselines=TRIVIAL, source={"path": "items.jsonl"})
    pl.DataFrame(rows()).write_ndjson(folder / "items.jsonl")
    return config


def two_files(folder: Path) -> Path:
    """One source in two files, of which the second is tab-separated."""
    config = write_dataset(folder, baselines=TRIVIAL, source={"path": ["items.csv", "more.tsv"]})
    write_manifest(folder / "items.csv", rows()[:30])
    with (folder / "more.tsv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows()[30:])
    return config


@pytest.mark.parametrize(
    "write", [no_labels, no_texts, no_pictures, folder_tree, bytes_in_parquet, jsonl, two_files]
)
def test_every_kind_of_source_becomes_a_release(write: object, tmp_path: Path) -> None:
    assert callable(write)
    config = write(tmp_path / "source")
    with bench(config, tmp_path / "storage") as made:
        result = made.run()
        assert result.success, failures(result) + str(
            [e for e in result.get_asset_check_evaluations() if not e.passed]
        )
        items = pl.read_parquet(made.release / "metadata" / "items.parquet")
        removed = pl.read_parquet(made.release / "metadata" / "removed.parquet")
        assert (items.height, removed.height) == (ITEMS, 0)
        assert verify(made.release).findings == ()
        shard = pl.read_parquet(made.release / "data" / "train-*.parquet")
        assert ("image" in shard.columns) == (write is not no_pictures)


def audit(made: Bench, asset: str) -> dg.ExecuteInProcessResult:
    """Run the gates of one asset alone, as the UI can."""
    key = made.lineage.dataset.key(asset)
    job = dg.define_asset_job("audit", selection=dg.AssetSelection.checks_for_assets(key), config=RUNS)
    merged = dg.Definitions.merge(made.definitions(), dg.Definitions(jobs=[job]))
    return merged.resolve_job_def("audit").execute_in_process(instance=made.instance, raise_on_error=False)


def test_gates_alone_do_not_judge_a_stale_snapshot_by_newer_inputs(copy: Bench) -> None:
    """A pass would be a verdict on two things that do not belong together."""
    assert audit(copy, "deduplicated_items").success
    write_manifest(copy.config_path.parent / "items.csv", rows()[:-1])
    assert copy.run("raw_texts", "cleaned_items").success
    result = audit(copy, "deduplicated_items")
    assert not result.success
    assert "deduplicated_items was made from an older version of cleaned_items" in failures(result)


def test_a_release_never_mixes_old_and_new(copy: Bench) -> None:
    write_manifest(copy.config_path.parent / "items.csv", rows()[:-1])
    assert copy.run("raw_texts", "cleaned_items").success
    result = copy.run("published_archive")
    assert materialised(result) == []
    assert "was made from an older version of" in failures(result)
    following = (
        "deduplicated_items",
        "train_test_split",
        "statistics",
        "clip_baselines",
        "label_quality",
        "review",
        "published_archive",
    )
    assert copy.run(*following).success
    assert pl.read_parquet(copy.release / "metadata" / "items.parquet").height == ITEMS - 1


def test_a_source_that_is_gone_is_one_clear_line(copy: Bench) -> None:
    (copy.config_path.parent / "items.csv").unlink()
    result = copy.run()
    assert not result.success
    assert "source shop: path: no such file or folder" in failures(result)
    assert "Traceback" not in failures(result)


def test_a_picture_that_changes_during_the_build_is_not_released(
    copy: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture that was judged is the one that is released, or there is no release."""
    place = copy.config_path.parent / "images" / "03.png"
    until_baselines = [name for name in copy.lineage.stages if name != "published_archive"]
    assert copy.run(*until_baselines).success
    place.write_bytes(encoded(picture(303)))
    result = copy.run("published_archive")
    assert not result.success
    assert "is not the one that was scanned" in failures(result)


def test_what_is_merged_has_been_cleaned(tmp_path: Path) -> None:
    """A text that a kept item takes over has lost its personal data, and one that had to go is not taken over."""
    made = rows()
    for number in (0, 1, 2):  # pictures without a caption, each with a twin that has one
        made[number]["caption"] = ""
    twins = [
        {**made[0], "id": "twin-0", "caption": "Write to ada@example.com about this pair of boots"},
        {**made[1], "id": "twin-1", "caption": "Frag nach der Karte 4111 1111 1111 1111 für den Hut"},
        {**made[2], "id": "twin-2", "caption": "A shirt that nobody has ever worn"},
    ]
    config = write_dataset(
        tmp_path / "data",
        duplicates={
            "item": "image",
            "distinct_by": [],
            "keep": [],
            "merge": {"texts": "fill", "labels": "majority"},
        },
        clean={"texts": {"required": False}},
        pii={
            "enabled": True,
            "entities": ["EMAIL_ADDRESS", "CREDIT_CARD"],
            "actions": {"CREDIT_CARD": "drop"},
        },
    )
    write_manifest(tmp_path / "data/items.csv", [*made, *twins])

    with bench(config, tmp_path / "storage") as built:
        result = built.run("raw_texts", "raw_images", "cleaned_items", "deduplicated_items")
        assert result.success, failures(result)
        snapshot = built.store.latest("deduplicated_items")
        assert snapshot is not None

    captions = dict(snapshot.table("items").select("item_id", "caption").collect().rows())
    assert captions["item-00"] == "Write to <EMAIL_ADDRESS> about this pair of boots"
    assert not captions["item-01"]  # its twin was removed for the card's number
    assert captions["item-02"] == "A shirt that nobody has ever worn"
    assert snapshot.table("merged").select("item_id", "column", "from_item_id").collect().rows() == [
        ("item-00", "caption", "twin-0"),
        ("item-02", "caption", "twin-2"),
    ]
    assert snapshot.json("duplicates")["merged"]["values_by_column"] == {"caption": 2}
    assert files_with(snapshot.folder, "Write to <EMAIL_ADDRESS>") == ["items.parquet", "merged.parquet"]
    assert files_with(snapshot.folder, "ada@") == []


class Eye:
    """Sees pictures as angles: 7 degrees from one to the next, but for 03 and 20, which it cannot tell apart."""

    def __init__(self, images: Path) -> None:
        files = sorted(images.iterdir())
        self._angles = {path.read_bytes(): 7.0 * number for number, path in enumerate(files)}
        self._angles[files[20].read_bytes()] = self._angles[files[3].read_bytes()] + 1

    def embed_images(self, pictures: Iterable[bytes]) -> npt.NDArray[np.float32]:
        angles = np.radians([self._angles[data] for data in pictures])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_items_that_a_model_calls_alike_share_a_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_dataset(
        tmp_path / "data",
        baselines={
            "enabled": False,
            "models": [{"name": "eye", "architecture": "ViT-B-32", "pretrained": "eye.pt"}],
        },
        split={"semantic": {"model": "eye", "image": 0.999}},
    )
    (tmp_path / "data/eye.pt").write_bytes(b"weights")
    monkeypatch.setattr(clip, "load_encoder", lambda *_: Eye(tmp_path / "data/images"))

    with bench(config, tmp_path / "storage") as made:
        result = made.run()
        assert result.success, failures(result)
        release = made.release
        told = json.loads((release / "reports/leakage.json").read_text(encoding="utf-8"))["semantic"]
        gate = "train_test_split", "semantic_neighbours_together"
        assert gate_of(made, *gate).is_blocking
        crossing = report("leakage", semantic={**told, "cross_split_pairs": 1})
        assert not judge(made, *gate, crossing, tmp_path).is_passed

    groups = pl.read_parquet(release / "metadata/items.parquet").select("item_id", "leak_group")
    alike = groups.filter(
        pl.col("leak_group") == pl.col("leak_group").filter(pl.col("item_id") == "item-20").first()
    )
    # 02 and 03, and 20 and 21, have one owner each.
    assert alike["item_id"].sort().to_list() == ["item-02", "item-03", "item-20", "item-21"]
    assert (told["cross_split_pairs"], told["left_apart_pairs"]) == (0, 0)
    assert told["kinds"]["image"]["vectors"] == ITEMS
    page = (release / "reports/report.html").read_text(encoding="utf-8")
    assert "The pictures across splits that the model calls most alike" in page
    assert (release / "reports/figures/semantic_image.svg").exists()
    assert verify(release).findings == ()


def test_items_that_a_model_calls_alike_with_an_outside_set_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(path: str) -> dict[str, Any]:
        return {"name": "bench", "embeddings": {"path": path, "model": "eye", "min_cosine": 0.9999}}

    config = write_dataset(
        tmp_path / "data",
        baselines={
            "enabled": False,
            "models": [{"name": "eye", "architecture": "ViT-B-32", "pretrained": "eye.pt"}],
        },
        decontaminate=[of("test.npy")],
    )
    (tmp_path / "data/eye.pt").write_bytes(b"weights")
    # Between 03 (21 degrees) and 20 (22), and far from everything.
    angles = np.radians([21.4, 300])
    np.save(tmp_path / "data/test.npy", 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    monkeypatch.setattr(clip, "load_encoder", lambda *_: Eye(tmp_path / "data/images"))
    stages = "raw_texts", "raw_images", "cleaned_items", "deduplicated_items"

    with bench(config, tmp_path / "storage") as made:
        result = made.run(*stages)
        assert result.success, failures(result)
        snapshot = made.store.latest("deduplicated_items")
        assert snapshot is not None
        gone = snapshot.table("removed").filter(reason="in_outside_set").select("item_id", "detail").collect()
        told = snapshot.json("decontamination")["sets"]["bench"]
        gate = "deduplicated_items", "outside_sets_left_out"
        assert gate_of(made, *gate).is_blocking
        stayed = snapshot.table("outside_matches").with_columns(item_id=pl.lit("item-00")).collect()

        def forge(folder: Path) -> None:
            stayed.write_parquet(folder / "outside" / "embedding_matches.parquet")

        assert judge(made, *gate, None, tmp_path / "good").is_passed
        assert not judge(made, *gate, forge, tmp_path / "forged").is_passed
        np.save(tmp_path / "data/test.npy", np.ones((1, 3)))
        refused = made.run(*stages)
    assert gone.rows() == [
        ("item-03", "bench: near_embedding 0.9999 of row 1"),
        ("item-20", "bench: near_embedding 0.9999 of row 1"),
    ]
    assert (told["embeddings"], told["removed_items"], told["by_kind"]) == (2, 2, {"near_embedding": 2})
    assert not refused.success
    assert "test.npy has 3 dimensions, those of eye have 2" in failures(refused)


class Looking:
    """Remembers the pictures that it is shown, and calls no two of them alike."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def embed_images(self, pictures: Iterable[bytes]) -> npt.NDArray[np.float32]:
        first = len(self.seen)
        self.seen += pictures
        angles = np.radians(7.0 * np.arange(first, len(self.seen)))
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class Everywhere:
    """A detector that finds a face in every picture."""

    def find(self, _picture: Image.Image) -> list[dict[str, float]]:
        return [{"left": 4, "top": 4, "right": 40, "bottom": 40, "score": 0.99}]


def test_a_model_that_links_items_sees_pictures_anew_once_their_faces_are_blurred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(faces: str) -> list[bytes]:
        config = write_dataset(
            tmp_path / "data",
            baselines={
                "enabled": False,
                "models": [{"name": "eye", "architecture": "ViT-B-32", "pretrained": "eye.pt"}],
            },
            pii={"images": {"faces": faces}},
            split={"semantic": {"model": "eye", "image": 0.999}},
        )
        (tmp_path / "data/eye.pt").write_bytes(b"weights")
        eye = Looking()
        monkeypatch.setattr(clip, "load_encoder", lambda *_: eye)
        with bench(config, tmp_path / "storage") as made:
            stages = "raw_texts", "raw_images", "cleaned_items", "deduplicated_items", "train_test_split"
            result = made.run(*stages)
            assert result.success, failures(result)
        return eye.seen

    monkeypatch.setattr(face_detector, "load", lambda *_: Everywhere())
    plain, blurred = build("off"), build("blur")
    assert len(set(plain)) == len(set(blurred)) == ITEMS
    assert not set(plain) & set(blurred)


def test_embeddings_go_by_the_code_that_opens_pictures() -> None:
    # Results made by other code are never reused, wherever what a model sees of a picture is decided.
    opening = sys.modules[clip.open_rgb.__module__]
    assert opening in assets._EMBEDDED["image"].modules
