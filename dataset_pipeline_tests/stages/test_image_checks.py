"""Checks of pictures: each by crafted measures, at its threshold, and what they count together."""

from typing import Any, get_args

import polars as pl
import pytest

from dataset_pipeline.config import CleanImages, DatasetConfig, ImageCheck
from dataset_pipeline.stages.gates import image_warnings_few, images_pass_checks
from dataset_pipeline.stages.image_checks import (
    COUNTS,
    MEASURES,
    check_counts,
    image_checks,
    image_report,
    image_warnings,
    with_shared_pixels,
)
from dataset_pipeline.tables import IMAGES, REASONS

GOOD = {
    "width_px": 100, "height_px": 80, "frames": 1, "darkest": 20.0, "brightest": 240.0, "contrast": 50.0,
    "entropy_bits": 7.0, "fine_detail": 0.6,
}  # fmt: skip
SCHEMA = {
    "item_id": pl.String(), "label": pl.String(), "title": pl.String(), "language": pl.String(),
    "reason": pl.String(), **{name: IMAGES[name] for name in MEASURES},
}  # fmt: skip


def rows(*changes: dict[str, Any]) -> pl.LazyFrame:
    """One good picture a dictionary, with its changes; ids are a, b, c."""
    made = []
    for number, changed in enumerate(changes):
        name = chr(ord("a") + number)
        given = {
            "item_id": name,
            "label": "hat",
            "title": f"title {name}",
            "language": "en",
            "pixel_hash": name,
        }
        made.append({**dict.fromkeys(SCHEMA), **given, **GOOD, **changed})
    return with_shared_pixels(pl.LazyFrame(made, schema=SCHEMA), {"title": "language"})


def failed(frame: pl.LazyFrame, **settings: Any) -> dict[str, list[str]]:
    """item_id -> the checks that it does not pass."""
    checks = image_checks(CleanImages(**settings))
    found = frame.select("item_id", *(check.applies.alias(check.name) for check in checks)).collect()
    return {
        row["item_id"]: [check.name for check in checks if row[check.name]]
        for row in found.iter_rows(named=True)
    }


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"width_px": 31}, ["too_small"]),
        ({"width_px": 32}, []),
        ({"height_px": 801}, ["extreme_aspect"]),
        ({"height_px": 800}, []),
        ({"contrast": 1.99}, ["blank"]),
        ({"contrast": 2.0}, []),
        ({"brightest": 49.0}, ["too_dark"]),
        ({"brightest": 50.0}, []),
        ({"darkest": 236.0}, ["too_bright"]),
        ({"darkest": 235.0}, []),
        ({"entropy_bits": 0.19}, ["low_information"]),
        ({"entropy_bits": 0.2}, []),
        ({"fine_detail": 0.19}, ["blurred"]),
        ({"fine_detail": 0.21}, []),
        ({"fine_detail": None}, []),  # nothing to measure is no blur
        ({"frames": 2}, ["animated"]),
        # An undecodable picture has no measures and fails no check: its problem is told elsewhere.
        (dict.fromkeys(MEASURES), []),
    ],
)
def test_each_check_at_its_threshold(changed: dict[str, Any], expected: list[str]) -> None:
    assert failed(rows(changed))["a"] == expected


def test_an_odd_size_is_one_beside_the_median() -> None:
    found = failed(rows({}, {}, {}, {"width_px": 501, "height_px": 400}, {"width_px": 500, "height_px": 400}))
    assert found == {"a": [], "b": [], "c": [], "d": ["odd_size"], "e": []}
    assert failed(rows({}, {}, {}, {"width_px": 40, "height_px": 7}), min_side_px=1)["d"] == ["odd_size"]
    # Copies of one picture count once: the two others are the median.
    copies = [{"width_px": 900, "height_px": 800, "pixel_hash": "copied"}] * 3
    assert failed(rows({}, {}, *copies))["e"] == ["odd_size"]


def test_a_placeholder_stands_for_many_labels_or_texts() -> None:
    shared = {"pixel_hash": "none"}
    labels = [{**shared, "label": f"{n}", "title": "same"} for n in range(3)]
    assert set(map(tuple, failed(rows(*labels)).values())) == {("placeholder",)}
    assert set(map(tuple, failed(rows(*labels[:2])).values())) == {()}
    texts = [{**shared, "title": f"{n}"} for n in range(10)]
    assert set(map(tuple, failed(rows(*texts)).values())) == {("placeholder",)}
    assert set(map(tuple, failed(rows(*texts[:9])).values())) == {()}
    # One thing named in ten languages is no placeholder, and neither is a text that many rows share.
    translated = [{**shared, "title": f"{n}", "language": f"l{n}"} for n in range(10)]
    repeated = [{**shared, "title": "the same"} for _ in range(12)]
    for several in (translated, repeated):
        assert set(map(tuple, failed(rows(*several)).values())) == {()}


def test_an_icon_on_white_passes_every_check() -> None:
    """White paper with black lines on 3 % of it."""
    icon = {"darkest": 0.0, "brightest": 255.0, "contrast": 43.5, "entropy_bits": 0.25}
    assert failed(rows(icon))["a"] == []


def test_actions_decide_between_removal_report_and_silence() -> None:
    settings = CleanImages(actions={"blurred": "drop", "animated": "off"})
    assert {check.name: check.action for check in image_checks(settings)} == {
        "too_small": "drop", "extreme_aspect": "drop", "blank": "drop", "blurred": "drop", "animated": "off",
        "too_dark": "report", "too_bright": "report", "low_information": "report", "odd_size": "report",
        "placeholder": "report",
    }  # fmt: skip
    kept = rows({"frames": 3, "brightest": 9.0}, {"frames": 3}, {"fine_detail": 0.1})
    told = image_warnings(kept, settings).collect()
    # The last one is dropped, unless a person keeps it: then it is reported.
    assert told.rows() == [
        ("a", "image_too_dark", "brightest 9.0"),
        ("c", "image_blurred", "fine detail 0.1"),
    ]


def test_every_check_has_a_documented_reason() -> None:
    assert {check.name for check in image_checks(CleanImages())} == set(get_args(ImageCheck))
    assert {check.reason for check in image_checks(CleanImages())} <= set(REASONS)


def test_counts_and_report() -> None:
    settings = CleanImages(actions={"odd_size": "off"})
    judged = rows(
        {"reason": "image_blank", "contrast": 0.0, "fine_detail": 0.1},
        {"fine_detail": 0.1},
        {"fine_detail": 0.1},
        {"reason": "duplicate"},
    )
    counts = check_counts(judged, settings).collect()
    assert dict(counts.schema) == COUNTS
    found = {row["check"]: (row["items"], row["removed"], row["reported"]) for row in counts.to_dicts()}
    assert found["blank"] == (1, 1, 0)
    assert found["blurred"] == (3, 0, 2)
    assert "odd_size" not in found
    told = image_warnings(judged.filter(pl.col("reason").is_null()), settings)
    report = image_report(counts, told, pl.LazyFrame({"item_id": ["b", "z"]}), settings)
    blurred = next(row for row in report["checks"] if row["check"] == "blurred")
    assert (blurred["items"], blurred["released"], blurred["thresholds"]) == (3, 1, {"min_fine_detail": 0.2})
    assert blurred["examples"] == [{"item_id": "b", "detail": "fine detail 0.1"}]
    assert (report["switched_off"], report["released_items_with_a_warning"]) == (["odd_size"], 1)


def test_order_does_not_matter() -> None:
    several = [
        {"frames": 2},
        {"pixel_hash": "a", "label": "boot"},
        {"pixel_hash": "a", "label": "sock"},
        {"contrast": 0.0},
    ]
    forward, backward = failed(rows(*several)), failed(rows(*several).reverse())
    assert forward == backward
    assert forward["a"] == ["placeholder", "animated"]


def test_gate_finds_an_item_whose_image_should_have_been_dropped() -> None:
    items = pl.LazyFrame({"item_id": ["a", "b", "c"], "image_ref": ["s/a", "s/b", None]})
    made = [{**dict.fromkeys(IMAGES), **GOOD, "image_ref": f"s/{name}", "pixel_hash": name} for name in "ab"]
    settings = CleanImages()

    def judge(*decided: str) -> Any:
        kept = pl.LazyFrame({"item_id": list(decided)}, schema={"item_id": pl.String()})
        return images_pass_checks(items, pl.LazyFrame(made, schema=dict(IMAGES)), settings, kept)

    assert judge().is_passed
    made[1]["contrast"] = 0.5
    assert not judge().is_passed
    assert judge().examples.rows() == [("b", "image_blank")]
    made[0]["pixel_hash"] = None
    assert judge().examples.rows() == [("a", "not decoded"), ("b", "image_blank")]
    # A person may keep a blank image, and none that cannot be decoded.
    assert judge("a", "b").examples.rows() == [("a", "not decoded")]


def test_gate_finds_a_check_that_reports_too_much() -> None:
    counts = pl.DataFrame(
        [
            ("blurred", "image_blurred", "report", 30, 0, 21),
            ("animated", "image_animated", "report", 20, 0, 20),
        ],
        schema=COUNTS,
        orient="row",
    )
    assert image_warnings_few(counts, 200, 0.2).is_passed
    outcome = image_warnings_few(counts, 100, 0.2)
    assert not outcome.is_passed
    assert outcome.examples is not None
    assert outcome.examples.rows() == [("blurred", 21)]


def test_actions_are_checked_in_the_configuration() -> None:
    base = {"name": "d", "version": "1.0.0", "licence": "CC0-1.0", "sources": [{"id": "s", "path": "a.csv", "licence": "CC0-1.0"}]}  # fmt: skip
    config = DatasetConfig.model_validate({**base, "clean": {"images": {"actions": {"blurred": "drop"}}}})
    assert config.clean.images.action("blurred") == "drop"
    with pytest.raises(ValueError, match="blury"):
        DatasetConfig.model_validate({**base, "clean": {"images": {"actions": {"blury": "drop"}}}})
    variants = DatasetConfig.model_validate(
        {
            **base,
            "release": {
                "images": [{"max_side": 800}, {"max_side": 298}, {}, {"name": "tiny", "max_side": 64}]
            },
        }
    ).release.images
    assert [variant.name for variant in variants] == ["default", "max-side-298", "full-size", "tiny"]
    with pytest.raises(ValueError, match="max-side-99"):
        DatasetConfig.model_validate(
            {**base, "release": {"images": [{}, {"max_side": 99}, {"max_side": 99, "quality": 7}]}}
        )
