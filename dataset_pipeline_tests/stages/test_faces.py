"""Faces that count, what becomes of the items that show them, and what is said of it, by crafted pictures."""

from typing import Any

import polars as pl
import pytest

from dataset_pipeline.config import DatasetConfig, PiiImages
from dataset_pipeline.stages import faces, gates
from dataset_pipeline.stages.clean import Cleaned, clean_items
from dataset_pipeline.tables import FACES, IMAGE_WARNINGS, IMAGES, REMOVED
from dataset_pipeline_tests.stages.test_clean import RAW_SCHEMA, analysed, make_config, raw_item, verdicts


def face(score: float = 0.95, top: int = 10, height: int = 40) -> dict[str, Any]:
    return {"left": 5, "top": top, "right": 35, "bottom": top + height, "score": score}


def pictures(**found: list[dict[str, Any]] | None) -> pl.LazyFrame:
    """IMAGES of pictures with nothing wrong; name -> its faces."""
    rows = [
        {
            **dict.fromkeys(IMAGES), "image_ref": f"s/{name}", "sha256": f"sha-{name}", "pixel_hash": f"pixels-{name}",
            "width_px": 64, "height_px": 48, "contrast": 40.0, "faces": boxes,
        }
        for name, boxes in found.items()
    ]  # fmt: skip
    return pl.LazyFrame(rows, schema=dict(IMAGES))


def cleaned(action: str, images: pl.LazyFrame, decisions: pl.DataFrame | None = None) -> Cleaned:
    names = [ref.removeprefix("s/") for ref in images.collect()["image_ref"]]
    raw = pl.LazyFrame([raw_item(name) for name in names], schema=RAW_SCHEMA)
    config: DatasetConfig = make_config(pii={"images": {"faces": action}})
    return clean_items(raw, images, analysed(raw), config, None, decisions)


def decision(item_id: str, kind: str) -> pl.DataFrame:
    return pl.DataFrame(
        [{"item_id": item_id, "decision": kind, "value": None, "by": "Ada", "date": "2026-11-01"}]
    )


def test_a_face_counts_from_the_threshold_on() -> None:
    # 0.9 itself counts, though 32 bits cannot hold it; no face is not the same as not searched.
    given = {"sha256": ["sha-a", "sha-b", "sha-c"], "faces": [[face(0.9), face(0.8999)], [face(0.7)], None]}
    found = pl.LazyFrame(given, schema={"sha256": pl.String(), "faces": FACES})
    images = faces.with_faces(
        pictures(a=None, b=None, c=None, d=None), found, PiiImages(faces="report")
    ).collect()
    assert [None if boxes is None else len(boxes) for boxes in images["faces"].to_list()] == [
        1,
        0,
        None,
        None,
    ]
    assert images.columns == list(IMAGES)


def test_what_a_blurred_picture_looks_like_replaces_what_it_looked_like() -> None:
    blurred = pl.LazyFrame({"sha256": ["sha-b"], "pixel_hash": ["blurred"], "brightness": [9.0]})
    images = faces.with_blurred(pictures(a=[], b=[face()]), blurred).collect()
    assert images["pixel_hash"].to_list() == ["pixels-a", "blurred"]
    assert images["brightness"].to_list() == [None, 9.0]
    assert images["faces"].list.len().to_list() == [0, 1]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("off", None),
        ("report", None),
        ("blur", None),
        ("drop", ("clean", "image_faces", "2 faces, the surest with score 0.95")),
        ("review", ("clean", "image_faces_unsure", "2 faces, the surest with score 0.95")),
    ],
)
def test_what_becomes_of_an_item_that_shows_faces(action: str, expected: tuple[str, str, str] | None) -> None:
    images = pictures(shown=[face(0.91), face(0.95)], none=[])
    assert verdicts(cleaned(action, images)) == {"shown": expected, "none": None}


@pytest.mark.parametrize(
    ("action", "detail"),
    [
        ("report", "1 face, the surest with score 0.95"),
        ("blur", "1 face, the surest with score 0.95, blurred"),
        ("drop", "1 face, the surest with score 0.95"),
        ("review", "1 face, the surest with score 0.95"),
    ],
)
def test_an_item_that_a_person_keeps_stays_with_a_warning(action: str, detail: str) -> None:
    made = cleaned(action, pictures(shown=[face()], none=[]), decision("shown", "keep"))
    assert verdicts(made) == {"shown": None, "none": None}
    warnings = made.image_warnings.filter(pl.col("warning") == "image_faces").collect()
    assert warnings.rows() == [("shown", "image_faces", detail)]
    assert warnings.schema == pl.Schema(dict(IMAGE_WARNINGS))


def report(action: str, images: pl.LazyFrame, items: list[str], removed: dict[str, str]) -> dict[str, Any]:
    names = [*items, *removed]
    raw = pl.LazyFrame(
        {"item_id": names, "image_ref": [f"s/{name.rstrip('+')}" for name in names]},
        schema={"item_id": pl.String(), "image_ref": pl.String()},
    )
    gone = [{**dict.fromkeys(REMOVED), "item_id": name, "reason": reason} for name, reason in removed.items()]
    kept = raw.filter(pl.col("item_id").is_in(items))
    gone_rows = pl.LazyFrame(gone, schema=dict(REMOVED))
    return faces.face_report(kept, gone_rows, raw, images, PiiImages.model_validate({"faces": action}), "D")


def test_the_report_counts_different_pictures() -> None:
    # Items a and a+ share a picture; x went for its faces, y for something else, which is no part of the count.
    images = pictures(
        a=[face(height=31), face(height=32), face(height=256)],
        b=[],
        c=[],
        x=[face(height=64)],
        y=[face()],
        z=None,
    )
    found = report("drop", images, ["a", "a+", "b", "c", "z"], {"x": "image_faces", "y": "image_blank"})
    assert {name: found[name] for name in found if name not in {"statement", "interval", "not_searched_for"}} == {
        "action": "drop", "detector": "D", "min_score": 0.9, "min_side_px": 20, "max_side_px": 1280,
        "pictures_searched": 4, "pictures_with_faces": 2, "share": 0.5, "faces": 4, "items_with_faces": 3,
        "items_removed": 1,
        "by_height_px": [
            {"from_px": 0, "to_px": 32, "faces": 1}, {"from_px": 32, "to_px": 64, "faces": 1},
            {"from_px": 64, "to_px": 128, "faces": 1}, {"from_px": 128, "to_px": 256, "faces": 0},
            {"from_px": 256, "to_px": None, "faces": 1},
        ],
    }  # fmt: skip
    assert found["interval"] == [0.150039, 0.849961]  # Wilson's for 2 of 4
    assert found["statement"] == (
        "2 of 4 different pictures show a face by the detector D (50.0 %, 95 % interval 15.0 to 85.0 %); their items were "
        "removed, unless a person decided to keep one. It misses faces, small and turned ones above all, and takes "
        "other things for faces. Not looked for: number plates, text in pictures, bodies, tattoos."
    )


def test_what_was_not_looked_for_is_said() -> None:
    assert report("off", pictures(a=None), ["a"], {})["statement"] == (
        "Pictures were not searched for faces, number plates, text in pictures, bodies or tattoos."
    )
    assert report("off", pictures(), [], {})["statement"] == ""  # a dataset of texts
    assert report("blur", pictures(), [], {})["statement"] == ""
    none = report("blur", pictures(a=[], b=[]), ["a", "b"], {})["statement"]
    assert none.startswith("0 of 2 different pictures show a face")
    assert "blurred" not in none


def test_gate_stops_a_picture_that_was_not_searched_or_should_have_gone() -> None:
    images = pictures(good=[], shown=[face()], unsearched=None)
    items = pl.LazyFrame(
        {"item_id": ["good", "shown", "unsearched"], "image_ref": ["s/good", "s/shown", "s/unsearched"]}
    )
    nobody = pl.LazyFrame(schema={"item_id": pl.String()})

    def judged(action: str, names: list[str], kept: pl.LazyFrame = nobody) -> gates.Outcome:
        some = items.filter(pl.col("item_id").is_in(names))
        return gates.faces_acted_on(some, images, PiiImages.model_validate({"faces": action}), kept)

    assert judged("drop", ["good"]).is_passed
    assert not judged("drop", ["good", "shown"]).is_passed
    assert not judged("review", ["good", "shown"]).is_passed
    assert judged("blur", ["good", "shown"]).is_passed
    assert judged(
        "drop", ["good", "shown"], items.filter(pl.col("item_id") == "shown").select("item_id")
    ).is_passed
    # A picture that no scan knows is none that was searched; an item without a picture has nothing to search.
    unknown = pl.LazyFrame({"item_id": ["lost", "text"], "image_ref": ["s/lost", None]})
    lost = gates.faces_acted_on(unknown, images, PiiImages(faces="report"), nobody)
    assert lost.numbers == {"pictures": 1, "unsearched": 1, "with_faces": 0}
    found = judged("report", ["good", "unsearched"])
    assert not found.is_passed
    assert found.numbers == {"pictures": 2, "unsearched": 1, "with_faces": 0}


def test_gate_stops_a_face_that_is_found_again() -> None:
    none = pl.DataFrame(schema={"item_id": pl.String(), "folder": pl.String(), "score": pl.Float64()})
    assert gates.faces_hidden(none, 3).is_passed
    again = pl.DataFrame({"item_id": ["a"], "folder": ["data"], "score": [0.97]})
    assert gates.faces_hidden(again, 3).numbers == {"pictures_with_blurred_faces": 3, "faces_still_there": 1}
    assert not gates.faces_hidden(again, 3).is_passed
