"""The detector on a portrait in the public domain that matplotlib ships, and faces from a build's first to its last file."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import polars as pl
import pytest
from PIL import Image

from dataset_pipeline import verification
from dataset_pipeline.adapters import face_detector, released_images
from dataset_pipeline.adapters.face_detector import find_faces, load, missing, still_there
from dataset_pipeline.commands.check import require_sound_settings
from dataset_pipeline.config import PiiImages, load_config
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.building import Bench, bench, contents, failures, materialised
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import write_dataset
from dataset_pipeline_tests.toy_release import sign


def portrait(width: int = 192) -> Image.Image:
    """Grace Hopper, whose face is about a third of the picture's height."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    image = Image.open(path).convert("RGB")
    return image.resize((width, image.height * width // image.width), Image.Resampling.LANCZOS)


REPORT = PiiImages(faces="report")


def test_a_face_is_found_where_it_is() -> None:
    [found] = load(20, 1280).find(portrait(512))
    assert found["score"] > 0.99
    expected = {
        "left": 174,
        "top": 120,
        "right": 356,
        "bottom": 340,
    }  # by eye: forehead to chin, cheek to cheek
    assert all(abs(found[side] - place) <= 20 for side, place in expected.items()), found


def test_a_larger_picture_is_looked_at_smaller_and_boxes_are_in_its_own_pixels() -> None:
    [small], [large] = load(20, 256).find(portrait(512)), load(20, 1280).find(portrait(512))
    assert all(abs(small[side] - large[side]) <= 12 for side in ("left", "top", "right", "bottom"))


@pytest.mark.parametrize("size", [(1, 1), (19, 300), (300, 19), (20, 20), (2000, 21)])
def test_pictures_without_faces_of_any_shape(size: tuple[int, int]) -> None:
    assert load(20, 1280).find(Image.new("RGB", size, "teal")) == []


def test_faces_below_the_least_side_are_not_looked_for() -> None:
    assert len(load(20, 1280).find(portrait(120))) == 1  # its face is 40 pixels high
    assert load(90, 1280).find(portrait(120)) == []


class Failing:
    """A detector that cannot search any picture."""

    def find(self, picture: Image.Image) -> Any:
        raise RuntimeError("stack expects a non-empty list")


def test_one_row_a_picture_and_none_where_it_cannot_be_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"face": portrait(), "none": picture(1)}
    for name, image in places.items():
        (tmp_path / name).write_bytes(encoded(image))
    batch = pl.DataFrame({"sha256": list(places), "location": [str(tmp_path / name) for name in places]})
    found = find_faces(batch, REPORT)
    assert found.schema == pl.Schema(face_detector.FOUND)
    assert found["faces"].list.len().to_list() == [1, 0]

    monkeypatch.setattr(face_detector, "load", lambda *_: Failing())
    assert find_faces(batch, REPORT)["faces"].to_list() == [None, None]
    assert find_faces(batch.head(0), REPORT).schema == pl.Schema(face_detector.FOUND)


def test_a_missing_detector_is_one_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_dataset(tmp_path, pii={"images": {"faces": "blur"}}))
    require_sound_settings(config, tmp_path)
    monkeypatch.setattr(face_detector, "_MODULE", "no_such_module_anywhere")
    assert missing(PiiImages()) is None  # nothing is looked for
    with pytest.raises(
        OutsideWorldError, match=r"pii.images.faces is 'blur', which needs .*pip install 'dataset"
    ):
        require_sound_settings(config, tmp_path)
    load.cache_clear()
    with pytest.raises(OutsideWorldError, match="facenet-pytorch"):
        load(20, 1280)


# -- a whole build -------------------------------------------------------------------------------

FACES = ("03.png", "04.png")


def test_pictures_that_cannot_be_searched_stop_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_dataset(tmp_path / "source", pii={"images": {"faces": "report"}})
    monkeypatch.setattr(face_detector, "load", lambda *_: Failing())
    with bench(config, tmp_path / "storage") as made:
        result = made.run("raw_texts", "raw_images", "cleaned_items", "deduplicated_items")
    failed = {e.check_name: e.description for e in result.get_asset_check_evaluations() if not e.passed}
    assert failed.keys() == {"faces_acted_on"}
    assert "the pictures of 40 could not be searched for faces" in str(failed["faces_acted_on"])
    assert materialised(result)[-1] == "cleaned_items"


def with_portraits(folder: Path, **changes: Any) -> Path:
    """The small dataset, in which two pictures show a face, one of them in a mirror and darker."""
    config = write_dataset(folder, pii={"images": {"faces": "blur"}}, **changes)
    (folder / "images" / FACES[0]).write_bytes(encoded(portrait()))
    mirrored = portrait(160).transpose(Image.Transpose.FLIP_LEFT_RIGHT).point(lambda level: level * 0.7)
    (folder / "images" / FACES[1]).write_bytes(encoded(mirrored))
    return config


def released(made: Bench, folder: str = "data") -> dict[str, Image.Image]:
    tables = [pl.read_parquet(path) for path in sorted((made.release / folder).glob("*.parquet"))]
    cells = pl.concat(tables).select("item_id", pl.col("image").struct.field("bytes")).rows()
    return {item: Image.open(io.BytesIO(data)).convert("RGB") for item, data in cells}


def images_of(made: Bench) -> pl.LazyFrame:
    snapshot = made.store.latest("raw_images")
    assert snapshot is not None
    return snapshot.table("images")


@pytest.fixture(scope="module")
def blurred(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A build that blurs, with two resolutions and the picture baselines off."""
    folder = tmp_path_factory.mktemp("faces")
    config = with_portraits(folder / "source", release={"notebook": False, "images": [{}, {"max_side": 96}]})
    with bench(config, folder / "storage") as made:
        result = made.run()
        assert result.success, failures(result)
        yield made


def test_released_pictures_of_every_resolution_show_no_face(blurred: Bench) -> None:
    detector = load(20, 1280)
    for folder in ("data", "variants/max-side-96"):
        shown = released(blurred, folder)
        assert len(shown) == 40
        assert all(detector.find(image) == [] for image in shown.values())
    assert list(verify(blurred.release).findings) == []


def test_thumbnails_and_hashes_are_of_the_blurred_pictures(blurred: Bench) -> None:
    images = images_of(blurred).collect()
    rows = {row["image_ref"].removeprefix("shop/"): row for row in images.iter_rows(named=True)}
    assert {name for name, row in rows.items() if row["faces"]} == set(FACES)
    for name in FACES:
        source = (blurred.config_path.parent / "images" / name).read_bytes()
        assert rows[name]["sha256"] == hashlib.sha256(source).hexdigest()  # the file as it was collected
        small = Image.frombytes("RGB", (32, 32), rows[name]["thumbnail"])
        original = Image.open(io.BytesIO(source)).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
        apart = np.abs(np.asarray(small, float) - np.asarray(original, float)).max(2)
        assert apart.max() > 40  # the face is gone
        assert np.median(apart[24:]) < 12  # the jacket is there


def test_reports_say_what_was_found_and_done(blurred: Bench) -> None:
    said = json.loads((blurred.release / "reports" / "pii.json").read_text())["images"]
    assert (said["action"], said["pictures_searched"], said["pictures_with_faces"], said["faces"]) == (
        "blur",
        40,
        2,
        2,
    )
    assert said["detector"] == "MTCNN (facenet-pytorch)"
    for name in ("README.md", "datasheet.md", "reports/report.html"):
        text = (blurred.release / name).read_text(encoding="utf-8")
        assert "2 of 40 different pictures show a face" in text, name
        assert "Not looked for: number plates" in text, name
    warnings = pl.read_parquet(blurred.release / "metadata" / "image_warnings.parquet")
    told = warnings.filter(pl.col("warning") == "image_faces")
    assert told["item_id"].to_list() == ["item-03", "item-04"]
    assert told["detail"].str.ends_with(", blurred").all()


def test_a_second_build_searches_nothing_again(blurred: Bench) -> None:
    searched, blurs = blurred.engine.items["find_faces"], blurred.engine.items["scan_blurred"]
    assert (searched, blurs) == (40, 2)
    assert blurred.run("raw_images").success
    assert (blurred.engine.items["find_faces"], blurred.engine.items["scan_blurred"]) == (searched, blurs)


def test_a_face_that_is_still_there_is_found_by_the_gate(blurred: Bench, tmp_path: Path) -> None:
    """The gate on good and on bad data: the same release with a portrait put back."""
    images = images_of(blurred)
    settings = PiiImages(faces="blur")
    found, searched = still_there(blurred.release, images, settings)
    assert (found.height, searched) == (0, 4)  # two pictures in two resolutions
    for path in sorted((blurred.release / "data").glob("*.parquet")):
        table = pl.read_parquet(path)
        cell = pl.struct(bytes=pl.lit(encoded(portrait())), path=pl.lit("x.png"))
        (tmp_path / "data").mkdir(exist_ok=True)
        table.with_columns(
            image=pl.when(pl.col("item_id") == "item-03").then(cell).otherwise(pl.col("image"))
        ).write_parquet(tmp_path / "data" / path.name)
    found, searched = still_there(tmp_path, images, settings)
    assert found["item_id"].to_list() == ["item-03"]
    assert searched == 2


def with_picture(release: Path, item_id: str, picture: Image.Image) -> None:
    """Show another picture for an item, behind checksums that agree."""
    for path in sorted((release / "data").glob("*.parquet")):
        table = pl.read_parquet(path)
        cell = pl.struct(bytes=pl.lit(encoded(picture)), path=pl.lit("x.png"))
        shown = pl.when(pl.col("item_id") == item_id).then(cell).otherwise(pl.col("image"))
        table.with_columns(image=shown).write_parquet(
            path, row_group_size=100, use_pyarrow=True, pyarrow_options={"write_page_index": True}
        )
    sign(release)


def faces_told(release: Path) -> list[str]:
    return [found.detail for found in verify(release).findings if found.check == "face"]


@pytest.mark.parametrize("item_id", ["item-03", "item-20"])
def test_verify_finds_a_face_in_a_release_that_says_it_has_none(
    blurred: Bench, tmp_path: Path, item_id: str
) -> None:
    """Where one was blurred, and where none was found."""
    release = Path(shutil.copytree(blurred.release, tmp_path / "release"))
    result = verify(release)
    assert (result.facts["pictures for faces"], faces_told(release)) == (40, [])
    with_picture(release, item_id, portrait())
    assert faces_told(release) == [f"1 of 40 pictures that were looked at: {item_id}"]


class Everywhere:
    """A detector that finds a face in every picture."""

    def find(self, picture: Image.Image) -> list[dict[str, Any]]:
        return [{"left": 1, "top": 1, "right": 9, "bottom": 9, "score": 0.999}]


def test_verify_looks_at_few_pictures_and_not_at_those_that_a_person_kept(
    blurred: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Path(shutil.copytree(blurred.release, tmp_path / "release"))
    monkeypatch.setattr(face_detector, "load", lambda *_: Everywhere())
    path = release / "reports" / "pii.json"
    report = json.loads(path.read_text())
    for action, looked_at in (("blur", 40), ("drop", 38), ("review", 38)):
        path.write_text(json.dumps({**report, "images": {**report["images"], "action": action}}))
        [told] = faces_told(release)
        assert told.startswith(f"{looked_at} of {looked_at} pictures")
    monkeypatch.setattr(verification, "_FACES_LOOKED_FOR", 2)
    path.write_text(json.dumps(report))
    assert faces_told(release) == [
        "2 of 2 pictures that were looked at: item-03, item-04"
    ]  # blurred ones first
    path.write_text(json.dumps({**report, "images": {**report["images"], "action": "report"}}))
    assert faces_told(release) == []


def test_verify_says_that_it_cannot_look_for_faces(blurred: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_detector, "_MODULE", "no_such_module_anywhere")
    result = verify(blurred.release)
    assert result.is_good
    assert [warning for warning in result.warnings if "pip install 'dataset-pipeline[faces]'" in warning]


def test_a_release_in_which_blurring_does_not_hide_is_stopped(
    blurred: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(blurred.release)
    monkeypatch.setattr(released_images, "hidden", lambda picture, _faces: picture)
    result = blurred.run("published_archive", settings={"rebuild": True})
    failed = {found.check_name for found in result.get_asset_check_evaluations() if not found.passed}
    assert failed == {"faces_hidden", "release_verified"}, failures(result)
    assert contents(blurred.release) == before
