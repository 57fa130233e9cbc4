"""The HTML report: whole, self-contained, harmless whatever the data says, and no number of its own."""

import base64
import copy
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from dataset_pipeline.config import Baselines, DatasetConfig, Statistics
from dataset_pipeline.stages import baselines, cleanliness, figures, labels, report, statistics
from dataset_pipeline.stages.licences import licence_report
from dataset_pipeline.tables import (
    FACES,
    IMAGE_WARNINGS,
    IMAGES,
    PAIRS,
    REMOVED,
    SPLIT_ITEMS,
    THUMBNAIL_SIDE_PX,
)
from dataset_pipeline_tests.toy_release import toy_config

A_FACE = {"left": 1, "top": 1, "right": 9, "bottom": 9, "score": 0.9}
SHOWN = {"image_ref": pl.String(), "faces": FACES}
NOT_TO_SHOW = (
    "taken_down", "duplicate_of_taken_down", "decided_drop", "licence_missing", "licence_no_derivatives",
    "personal_data", "personal_data_unsure", "image_faces", "image_faces_unsure",
)  # fmt: skip
EVIL = "<script>alert(1)</script>"
CONFLICTS = dict.fromkeys(("item_id", "kept_item_id", "column", "value", "kept_value"), pl.String())
NEAREST = {
    "item_id": pl.String(), "other_item_id": pl.String(), "split": pl.String(), "other_split": pl.String(),
    "kind": pl.String(), "similarity": pl.Float64(),
}  # fmt: skip


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of style, script and figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("style", "script", "svg"):
            self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.text.append(data)
            if self.cells:
                self.cells[-1] += data

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def rows(count: int = 24, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "item_id": f"i{number:03}", "source": "noise", "image_ref": f"noise/{number}", "image_sha256": f"p{number}",
            "label": ("hat", "boot")[number % 2], "label_source": "annotator", "language": ("en", "de")[number // 2 % 2],
            "licence": "CC-BY-SA-4.0", "author": "Ada", "duplicate_group": f"i{number:03}", "leak_group": f"g{number // 2}",
            "split": ("train", "train", "validation", "test")[number // 2 % 4], "name": f"name {number} of an item",
            **changes,
        }
        for number in range(count)
    ]  # fmt: skip


def images(count: int = 24) -> pl.LazyFrame:
    side = THUMBNAIL_SIDE_PX
    return pl.LazyFrame(
        [
            {
                "image_ref": f"noise/{number}", "sha256": f"p{number}", "pixel_hash": f"h{number}", "width_px": 70 + number, "height_px": 61,
                "format": "PNG", "mode": "RGB", "size_bytes": 4321 + number, "brightness": 100.5 + number,
                "contrast": 33.25, "entropy_bits": 5.5, "sharpness": 77777.0,
                "thumbnail": bytes([number % 256]) * (side * side * 3),
            }
            for number in range(count)
        ],
        schema=dict(IMAGES),
    )  # fmt: skip


REMOVED_ROWS = pl.LazyFrame(
    [
        {"item_id": "r1", "stage": "clean", "reason": "image_blank"},
        {"item_id": "r2", "stage": "duplicates", "reason": "duplicate", "kept_item_id": "i000"},
        {"item_id": "noise/99", "stage": "raw", "reason": "image_without_row"},
    ],
    schema=dict(REMOVED),
)


def label_reports(frame: pl.LazyFrame, conflicts: pl.LazyFrame) -> dict[str, Any]:
    """labels.json of the items, with what needs a model and people made up as their functions give it."""
    verdicts = pl.DataFrame(
        {"item_id": ["i000", "i001"], "label": ["hat", "boot"], "verdict": ["right", "wrong"]}
    )
    labelled = frame.select("item_id", "split", "label").collect()
    likely = {
        **labels.no_errors("").report,
        "why_none": None,
        "features": "image: crafted",
        "judged_items": 9,
        "accuracy": 0.75,
        "candidates": 1,
        "examples": [
            {"item_id": "i000", "split": "train", "label": "hat", "suggested": "boot", "own_probability": 0.0123,
             "suggested_probability": 0.9}
        ],
        "confused": [{"label": "boot", "other": "hat", "items": 3, "as_other": 2, "as_label": 1}],
    }  # fmt: skip
    return {
        "by_source": labels.label_sources(frame),
        "contradictions": labels.merged_contradictions(frame, REMOVED_ROWS, conflicts),
        "same_content": labels.same_content(frame, pl.LazyFrame(schema=dict(PAIRS))),
        "agreement": None,
        "errors": likely,
        "audit": labels.audit_estimate(verdicts, labelled),
    }


def all_reports(
    config: DatasetConfig, items: list[dict[str, Any]], with_baselines: bool = True
) -> dict[str, Any]:
    """Reports as the stages make them of ``items``; those of other stages as these describe them."""
    names = config.text_names
    frame = pl.LazyFrame(items, schema={**SPLIT_ITEMS, **dict.fromkeys(names, pl.String())})
    conflicts = pl.LazyFrame([("r2", "i000", "label", "boot", "hat")], schema=CONFLICTS, orient="row")
    base = frame.select(
        "item_id", "split", "label", "language", "leak_group", "image_sha256", baselines.item_text(names)
    )
    made = base.sort("item_id").collect()
    named = made["label"].drop_nulls().n_unique()
    basis = np.eye(max(4, named), dtype=np.float32)
    vectors = basis[np.arange(made.height) % 4]
    place = np.arange(made.height)
    found = baselines.Embeddings("a model of the test", vectors, place, vectors, place, basis[:named])
    settings, models = Baselines(bootstrap_samples=100), {"small-clip": found}
    results = baselines.evaluate(made, models, settings, 0)
    others = {name: cleanliness.random_split(made, seed) for name, seed in (("other_seed", 1), ("random", 2))}
    results.report["other_splits"] = baselines.on_other_splits(made, models, results, others, settings, 0)
    return {
        "statistics": statistics.statistics(frame, images(), REMOVED_ROWS, names, Statistics()),
        "labels": label_reports(frame, conflicts),
        "licences": licence_report(frame, config),
        "baselines": results.report if with_baselines else {"leaderboard": [], "models": {}, "similarity": {}},
        "leakage": {
            "cross_split_pairs": 0,
            "random_split_pairs": 4711,
            "by_kind": {"same_text": 0, "near_image": 0, "group_keys": 0},
            "random_by_kind": {"same_text": 11, "near_image": 700, "group_keys": 4000},
            "method": {"same_text": "equal texts", "near_image": "all pairs compared", "group_keys": "equal keys"},
            "planted_copies": 55,
            "search_recall": {"near_image": {"darker": 0.875}, "near_text": {}},
        },
        "cleanliness": cleanliness.cleanliness_report(
            frame, frame, pl.LazyFrame(schema=dict(PAIRS)), images(), names, config
        ),
        "duplicates": {"pairs_by_kind": {"near_image": 321}},
        "pii": {
            "is_enabled": True,
            "by_entity": [{"entity": "PERSON", "findings": 17, "items": 13}],
            "entities": {"PERSON": "report"},
        },
        "quality": {
            "gates": [
                {"asset": "raw_texts", "check": "has_rows", "passed": True, "severity": "critical", "summary": "all well"},
                {"asset": "raw_texts", "check": "labels", "passed": False, "severity": "warning", "summary": "9 missing"},
            ]
        },
    }  # fmt: skip


def drawn(config: DatasetConfig, reports: Mapping[str, Any]) -> dict[str, bytes]:
    return {
        **figures.statistics_figures(reports["statistics"], list(config.split.ratios)),
        **figures.baseline_figures(reports["baselines"]),
        **figures.cleanliness_figures(reports["cleanliness"]),
    }


def pictures() -> report.Pictures:
    one = report.Picture(bytes(THUMBNAIL_SIDE_PX**2 * 3), "a picture")
    two = report.PicturePair(one, report.Picture(one.thumbnail, "another"), "similarity 0.990")
    sheet = report.ClassSheet(EVIL, 12, "data:image/jpeg;base64,AAAA")
    return report.Pictures(random=[one], removed=[one], merged=[two], nearest=[two], classes=[sheet])


def render(config: DatasetConfig, reports: Mapping[str, Any], **changes: Any) -> str:
    parts = {"figures": {}, "pictures": report.Pictures(), **changes}
    return report.render_report(config, reports, parts["figures"], parts["pictures"])


@pytest.fixture(scope="module")
def config() -> DatasetConfig:
    return toy_config()


@pytest.fixture(scope="module")
def full(config: DatasetConfig) -> dict[str, Any]:
    return all_reports(config, rows())


@pytest.fixture(scope="module")
def page(config: DatasetConfig, full: dict[str, Any]) -> str:
    return render(config, full, figures=drawn(config, full), pictures=pictures())


# -- what it shows -------------------------------------------------------------------------


def test_the_page_has_every_section_and_says_what_happened(page: str) -> None:
    words = Page(page).words
    for expected in (
        "Toy pictures", "Version 1.0.0", "Ada Example", "27 raw items", "24 released",
        "0 pairs cross splits. A plain random split of the same items would have leaked 4,711.",
        "darker 87.5 %", "55 copies of pictures and of texts", "near_image 0 700", "Cramér's V",
        "Of 1 removed duplicates with a label, 1 carried another label", "name of a person reported, left as it is 17 13",
        "majority classification none", "small-clip linear probe image+text", "a model of the test",
        "Every item’s licence allows this", "1 of 2 checks passed", "labels FAILED warning 9 missing",
        "CC-BY-SA-4.0 24 yes yes the same licence", "unreadable or unlisted",
        "How near test is to train", "pictures this split 6 0.0 %", "Pictures: correlation of softened colour thumbnails",
        "Large or perfectly clean? ", "pictures all rules 1 (identical) 0 24 1 24 2 ", "texts all rules 0.85 (configured)",
        "The same model on a random split", "small-clip image+text random: it leaks",
        "small-clip image+text without leaks, another seed",
    ):  # fmt: skip
        assert expected in words, expected


def test_every_link_of_the_menu_leads_somewhere(page: str) -> None:
    elements = Page(page).elements
    links = [attributes["href"] for tag, attributes in elements if tag == "a"]
    places = {f"#{attributes['id']}" for tag, attributes in elements if tag == "h2"}
    assert set(links) == places
    assert len(links) == len(places)


def test_equal_reports_give_equal_pages(config: DatasetConfig, full: dict[str, Any], page: str) -> None:
    again = render(config, copy.deepcopy(full), figures=drawn(config, full), pictures=pictures())
    assert again == page


def numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from numbers_of(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from numbers_of(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def test_every_number_of_the_tables_is_in_the_reports(full: dict[str, Any], page: str) -> None:
    known = set()
    for value in numbers_of(full):
        known |= {
            f"{value:,.0f}" if float(value).is_integer() else "",
            f"{value:.4g}",
            f"{value:,.0f}",
            f"{value:.3f}",
            f"{value:.4f}",
            f"{value:+.3f}",
        }
        known.add(f"{100 * value:.1f} %")
    known |= {
        str(row["value"]) for row in full["statistics"]["texts"]["name"]["top_words"]
    }  # words, like "15"
    shown = [cell.strip() for cell in Page(page).cells]
    numbers = [cell for cell in shown if re.fullmatch(r"[-\d.,]+( %)?", cell)]
    numbers += [part for cell in shown if " – " in cell for part in cell.split(" – ")]
    assert len(numbers) > 150
    assert [number for number in numbers if number not in known] == []


def test_large_and_small_numbers_have_no_exponent(page: str) -> None:
    words = Page(page).words
    assert "77,777" in words
    assert not re.search(r"\d[eE][+-]\d", words)


# -- it loads nothing, and runs nothing of the data -----------------------------------------


def assert_harmless(page: str) -> None:
    found = Page(page)
    for tag, attributes in found.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "video", "audio"}, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "xlink:href", "srcset", "action", "poster"} or (name == "href" and tag != "a"):
                assert value is not None
                assert value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")), (
                    tag,
                    name,
                    value,
                )
            if name == "href" and tag == "a":
                assert value is not None
                assert value.startswith("#")
            if name == "style":
                assert "url(" not in (value or "").replace("url(#", "")
    assert sum(tag == "script" for tag, _attributes in found.elements) == 1
    policy = next(a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_loads_nothing(page: str) -> None:
    assert_harmless(page)
    assert "<?xml" not in page
    assert "@import" not in page


def test_everything_of_the_data_is_escaped() -> None:
    quote = "\" onmouseover='alert(2)' x=\"</td></table></svg><img src=http://e.example/x onerror=alert(3)>"
    config = toy_config(
        title=f"{EVIL} title",
        description=quote,
        creators=[{"name": f"{EVIL} Ada", "affiliation": quote}],
        sources=[
            {
                "id": "noise", "path": "items.csv", "licence": "CC-BY-SA-4.0", "url": "https://example.org/?a=1&b=<b>",
                "permission": {"basis": "own-data", "evidence": f"{quote}.pdf"},
                "columns": {"image": "picture", "label": "label", "texts": {"name": "name"}},
            }
        ],
        baselines={"prompts": [f"{EVIL} {{label}}"]},
    )  # fmt: skip
    items = rows(label_source=EVIL, language=EVIL, licence=quote, author=quote, name=f"{EVIL} {quote}")
    for number, row in enumerate(items):
        row["label"] = (f"{EVIL} {quote}", quote)[number % 2]
    found = all_reports(config, items)
    found["baselines"]["models"] = {EVIL: quote}
    found["baselines"]["prompts"] = [f"{quote} {{label}}"]
    details = found["baselines"]["details"]
    for row in found["baselines"]["leaderboard"]:
        plain = figures.prediction_name(row["model"], row["task"], row["inputs"])
        row["model"] = f"{EVIL} {row['model']}"
        if plain in details:
            details[figures.prediction_name(row["model"], row["task"], row["inputs"])] = details[plain]
    found["baselines"]["similarity"] = {
        EVIL: {"edges": [0, 1], "true": [1], "shuffled": [1], "auc": 0.5, "true_mean": 0, "shuffled_mean": 0}
    }
    found["labels"]["contradictions"]["examples"] = [
        {"item_id": EVIL, "kept_item_id": quote, "value": quote, "kept_value": EVIL}
    ]
    found["quality"]["gates"] = [
        {"asset": EVIL, "check": quote, "passed": False, "severity": EVIL, "summary": quote}
    ]
    found["pii"] = {
        "is_enabled": True,
        "by_entity": [{"entity": EVIL, "findings": 1, "items": 1}],
        "entities": {EVIL: quote},
    }
    evil = report.Picture(bytes(THUMBNAIL_SIDE_PX**2 * 3), f"{EVIL} {quote}")
    pair = report.PicturePair(evil, evil, quote)
    page = render(
        config,
        found,
        figures=drawn(config, found),
        pictures=report.Pictures(random=[evil], removed=[evil], merged=[pair], nearest=[pair]),
    )
    assert_harmless(page)
    assert EVIL not in page
    words = Page(page).words
    assert f"{EVIL} title" in words  # all of it is there, as words
    assert quote in words


# -- what a dataset may lack ---------------------------------------------------------------


def test_without_anything_to_compare_there_is_no_talk_of_it(
    config: DatasetConfig, full: dict[str, Any]
) -> None:
    bare = {"nearest_in_train": {}, "price": {"items": 3, "effective_classes": None}, "seed": 0}
    boards = {"leaderboard": [], "models": {}, "similarity": {}}
    for found in (
        {**full, "cleanliness": bare, "baselines": boards},
        {k: v for k, v in full.items() if k != "cleanliness"},
    ):
        words = Page(render(config, found)).words
        assert "How near test is" not in words
        assert "perfectly clean" not in words
    assert "on a random split" not in Page(render(config, {**full, "baselines": boards})).words


def test_a_sample_is_called_one(config: DatasetConfig, full: dict[str, Any]) -> None:
    found = copy.deepcopy(full)
    found["cleanliness"]["nearest_in_train"]["image"]["this_split"]["in_test"] = 5000
    assert "pictures this split 6 of 5,000" in Page(render(config, found)).words


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ({"image_ref": None, "image_sha256": None}, "The dataset has no pictures."),
        ({"label": None, "label_source": None}, "The items have no labels."),
        (
            {"language": None, "author": None, "licence": None},
            "24 items have a licence that does not allow this",
        ),
    ],
)
def test_a_dataset_may_lack_things(config: DatasetConfig, lacking: dict[str, Any], sentence: str) -> None:
    found = all_reports(config, rows(**lacking))
    page = render(config, found, figures=drawn(config, found))
    assert sentence in Page(page).words
    assert_harmless(page)


def test_a_dataset_without_texts() -> None:
    source = {
        "id": "noise",
        "path": "items.csv",
        "licence": "CC-BY-SA-4.0",
        "columns": {"image": "picture", "label": "label"},
    }
    config = toy_config(sources=[source])
    items = [{key: value for key, value in row.items() if key != "name"} for row in rows(language=None)]
    found = all_reports(config, items)
    words = Page(render(config, found, figures=drawn(config, found))).words
    assert "The dataset has no texts." in words
    assert "different words" not in words


def test_baselines_that_were_not_run(config: DatasetConfig) -> None:
    found = all_reports(config, rows(), with_baselines=False)
    words = Page(render(config, found, figures=drawn(config, found))).words
    assert "No baselines were run." in words
    assert "Zero-shot" not in words


def test_a_model_that_was_trained_on_labels_is_called_so(config: DatasetConfig, full: dict[str, Any]) -> None:
    assert "Prompts of labels" not in Page(render(config, full)).words
    board = [{**row, "task": "prompts of labels"} for row in full["baselines"]["leaderboard"]]
    trained = {**full, "baselines": {**full["baselines"], "leaderboard": board}}
    assert "Prompts of labels does the same" in Page(render(config, trained)).words


def test_baselines_without_a_task_still_show_the_similarity(config: DatasetConfig) -> None:
    found = all_reports(config, rows(label=None))
    assert found["baselines"]["leaderboard"] == []
    page = render(config, found, figures=drawn(config, found))
    assert "There is no test of labels" in Page(page).words
    assert "to that of an item of another group" in page


def test_personal_data_that_was_not_searched_for(config: DatasetConfig, full: dict[str, Any]) -> None:
    off = {"is_enabled": False, "by_entity": [], "entities": {}}
    assert "Texts were not searched for personal data." in Page(render(config, {**full, "pii": off})).words
    nothing = {**off, "is_enabled": True}
    assert "Nothing was found by the searches" in Page(render(config, {**full, "pii": nothing})).words


def test_an_empty_dataset(config: DatasetConfig) -> None:
    found = all_reports(config, rows()[:0])
    words = Page(render(config, found, figures=drawn(config, found))).words
    assert "0 items released" in words
    assert "No duplicates with labels were merged" in words


# -- pictures ------------------------------------------------------------------------------


def chosen(limit: int = 8, **changes: Any) -> report.Pictures:
    items = pl.LazyFrame(rows(), schema={**SPLIT_ITEMS, "name": pl.String()})
    raw = pl.concat(
        [
            items.select("item_id", "image_ref"),
            pl.LazyFrame(
                {
                    "item_id": ["r1", "r2", "r3", "r5", *(f"no {reason}" for reason in NOT_TO_SHOW)],
                    "image_ref": [
                        "noise/20",
                        "noise/0",
                        "noise/20",
                        "noise/23",
                        *["noise/22"] * len(NOT_TO_SHOW),
                    ],
                }
            ),
        ]
    )
    gone = pl.LazyFrame(
        [
            {"item_id": "r1", "stage": "clean", "reason": "label_missing"},
            {"item_id": "r3", "stage": "clean", "reason": "label_missing"},  # the same picture again
            {"item_id": "r2", "stage": "duplicates", "reason": "duplicate", "kept_item_id": "i000"},
            {
                "item_id": "noise/21",
                "stage": "raw",
                "reason": "image_without_row",
            },  # an orphan is its picture
            {"item_id": "r4", "stage": "raw", "reason": "image_missing"},  # no picture to show
            *({"item_id": f"no {reason}", "stage": "clean", "reason": reason} for reason in NOT_TO_SHOW),
            {"item_id": "r5", "stage": "clean", "reason": "label_missing"},  # its picture shows a face
        ],
        schema=dict(REMOVED),
    )
    pairs = pl.LazyFrame(
        [("i000", "i001", "near_image", 0.99), ("i002", "i003", "near_text", 0.9)], schema=dict(PAIRS), orient="row"
    )  # fmt: skip
    nearest = pl.LazyFrame(
        [("i004", "i009", "train", "test", "image", 0.7), ("i005", "i010", "train", "test", "text", 0.8)],
        schema=NEAREST,
        orient="row",
    )
    warnings = pl.LazyFrame(
        [
            ("i004", "image_blurred", "fine detail 0.1"),
            ("i006", "image_animated", "2 frames"),
            ("gone", "image_animated", "3 frames"),
        ],
        schema=dict(IMAGE_WARNINGS),
        orient="row",
    )
    parts = {
        "warnings": warnings,
        "removed": gone,
        "raw_items": raw,
        "images": images()
        .drop("faces")
        .join(
            pl.LazyFrame({"image_ref": ["noise/23"], "faces": [[A_FACE]]}, schema=SHOWN),
            on="image_ref",
            how="left",
        ),
        "pairs": pairs,
        "nearest": nearest,
        "crossing": pl.LazyFrame(schema=dict(PAIRS)),
        **changes,
    }
    return report.report_pictures(items, **parts, limit=limit, seed=3)


def test_pictures_of_each_kind() -> None:
    found = chosen()
    assert len(found.random) == 8
    assert {picture.caption for picture in found.random} == {"hat", "boot"}
    assert [(picture.caption, picture.thumbnail[0]) for picture in found.removed] == [
        ("image without row", 21), ("label missing", 20),
    ]  # fmt: skip
    assert [(picture.caption, picture.thumbnail[0]) for picture in found.reported] == [
        ("animated: 2 frames", 6), ("blurred: fine detail 0.1", 4),
    ]  # fmt: skip
    assert [(pair.first.caption, pair.second.caption, pair.caption) for pair in found.merged] == [
        ("i000", "i001", "similarity 0.990")
    ]
    assert [(pair.first.thumbnail[0], pair.second.thumbnail[0], pair.caption) for pair in found.nearest] == [
        (4, 9, "similarity 0.700, train and test")
    ]


def test_pairs_that_leak_are_shown_with_their_kind_and_splits() -> None:
    crossing = pl.LazyFrame(
        [("i000", "i003", "same_pixels", 1.0), ("i001", "i002", "near_text", 0.9)], schema=dict(PAIRS), orient="row"
    )  # fmt: skip
    (pair,) = chosen(crossing=crossing).leaking
    assert (pair.first.thumbnail[0], pair.second.thumbnail[0]) == (0, 3)
    assert re.fullmatch("same pixels, (train|validation|test) and (train|validation|test)", pair.caption)


def test_the_most_similar_texts_are_shown_as_they_are_released() -> None:
    items = pl.LazyFrame(
        {"item_id": ["a", "b", "c"], "name": ["one", "x" * 400, "three"], "more": ["1", None, "3"]}
    )
    nearest = pl.LazyFrame(
        [("a", "b", "train", "test", "text", 0.5), ("a", "c", "train", "dev", "text", 0.75),
         ("b", "c", "test", "dev", "image", 0.9)],
        schema=NEAREST, orient="row",
    )  # fmt: skip
    found = report.nearest_texts(items, nearest, ["name", "more"], 12)
    assert found[0] == report.TextPair("one / 1", "three / 3", 0.75, "train, dev")
    assert len(found) == 2
    assert found[1].second == "x" * 299 + "…"
    assert len(report.nearest_texts(items, nearest, ["name", "more"], 1)) == 1
    assert report.nearest_texts(items, nearest.filter(pl.col("kind") == "image"), ["name"], 12) == []


def test_pictures_repeat_and_are_no_more_than_asked_for() -> None:
    assert chosen() == chosen()
    assert chosen(limit=0) == report.Pictures(
        random=[], removed=[], merged=[], nearest=[], suspicious=[], leaking=[], reported=[]
    )
    assert len(chosen(limit=1000).random) == 24


def test_pictures_without_a_thumbnail_are_left_out() -> None:
    blank = images().with_columns(thumbnail=pl.lit(None, pl.Binary))
    assert chosen(images=blank) == report.Pictures(
        random=[], removed=[], merged=[], nearest=[], suspicious=[], leaking=[], reported=[]
    )


def test_a_picture_is_a_png_in_the_page() -> None:
    uri = report.data_uri(report.Picture(bytes(THUMBNAIL_SIDE_PX**2 * 3), "black"))
    assert uri.startswith("data:image/png;base64,iVBOR")


def test_a_sheet_of_pairs_shows_each_pair_one_above_the_other() -> None:
    """Two pairs; a third, of which one picture has no thumbnail, is left out."""
    side = THUMBNAIL_SIDE_PX
    colours = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255), "d": (0, 0, 0), "e": None}
    items = pl.LazyFrame({"item_id": list(colours), "image_ref": [f"s/{name}" for name in colours]})
    shown = pl.LazyFrame(
        {
            "image_ref": [f"s/{name}" for name in colours],
            "thumbnail": [colour and bytes(colour) * side * side for colour in colours.values()],
        },
        schema={"image_ref": pl.String, "thumbnail": pl.Binary},
    )
    pairs = pl.DataFrame({"item_id": ["a", "c", "a"], "other_item_id": ["b", "d", "e"]})
    sheet = report.pair_sheet(pairs, items, shown)
    assert sheet is not None
    image = Image.open(io.BytesIO(base64.b64decode(sheet.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == (2 * 2 * (side + 2), 4 * side)
    found = [image.getpixel((x, y)) for x in (side, 3 * side + 4) for y in (side, 3 * side)]
    wanted = [colours[name] for name in "abcd"]
    assert np.abs(np.array(found) - np.array(wanted)).max() < 8  # a JPEG keeps colours nearly
    assert report.pair_sheet(pairs.tail(1), items, shown) is None


# -- examples of classes -------------------------------------------------------------------


def sheets(
    made: list[dict[str, Any]], classes: list[tuple[str | None, int]], limit: int = 48
) -> dict[str, int]:
    """Class -> pictures in its strip."""
    found = report.class_sheets(
        pl.LazyFrame(made, schema={**SPLIT_ITEMS, "name": pl.String()}),
        images(),
        [{"value": value, "items": count} for value, count in classes],
        limit,
    )
    side = 2 * (THUMBNAIL_SIDE_PX + 2)
    widths = {s.label: Image.open(io.BytesIO(base64.b64decode(s.strip.split(",")[1]))).width for s in found}
    return {label: -(-width // side) for label, width in widths.items()}


def test_a_class_is_shown_with_different_pictures_of_its_own() -> None:
    assert sheets(rows(6), [("hat", 3), ("boot", 3)]) == {"hat": 3, "boot": 3}
    assert sheets(rows(24), [("hat", 12), ("boot", 12)]) == {"hat": 8, "boot": 8}
    same = [{**row, "image_ref": "noise/0", "image_sha256": "p0"} for row in rows(6)]
    assert sheets(same, [("hat", 3)]) == {"hat": 1}


def test_classes_without_pictures_or_without_a_name_have_no_strip() -> None:
    made = rows(4)
    made[0]["image_ref"] = made[2]["image_ref"] = None
    made[0]["image_sha256"] = made[2]["image_sha256"] = None
    assert sheets(made, [("boot", 2), ("hat", 2), (None, 1)]) == {"boot": 2}


def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    made = [{**row, "label": f"c{number:02}"} for number, row in enumerate(rows(20))]
    classes: list[tuple[str | None, int]] = [(f"c{number:02}", 100 - number) for number in range(20)]
    assert list(sheets(made, classes, limit=8)) == ["c00", "c01", "c18", "c19"]
    assert sheets(made, classes, limit=0) == {}


# -- in a browser --------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVE = """
<script>
const faults = [];
addEventListener("error", event => faults.push(event.message));
addEventListener("securitypolicyviolation", event => faults.push(event.blockedURI));
addEventListener("load", () => {
  const input = document.querySelector("input[type=search]"), table = input.nextElementSibling.querySelector("table");
  const names = () => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent);
  const said = {before: names()};
  table.tHead.rows[0].cells[1].click(); said.down = names();
  table.tHead.rows[0].cells[1].click(); said.up = names();
  input.value = "CLASS 1"; input.dispatchEvent(new Event("input")); said.searched = names();
  said.width = document.documentElement.scrollWidth <= innerWidth;
  said.hung = [...document.images].filter(image => !image.complete || !image.naturalWidth).length;
  said.faults = faults;
  document.body.innerHTML = "<pre id=said></pre>";
  document.getElementById("said").textContent = JSON.stringify(said);
});
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_tables_sort_and_search_in_a_browser_that_loads_nothing(
    config: DatasetConfig, tmp_path: Path
) -> None:
    made = [{**row, "label": f"class {number % 15}"} for number, row in enumerate(rows(40))]
    full = all_reports(config, made, with_baselines=False)
    page = render(config, full, figures=drawn(config, full))
    (tmp_path / "report.html").write_text(page.replace("</body>", DRIVE + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=390,800", "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path / 'report.html'}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = json.loads(re.findall(r'<pre id="said">(.*?)</pre>', done.stdout)[0])
    assert said["faults"] == []
    assert said["hung"] == 0
    assert said["width"], "the page is wider than a phone"
    counts = dict(zip(said["before"], (3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2), strict=True))
    assert [counts[name] for name in said["up"]] == sorted(counts.values())
    assert [counts[name] for name in said["down"]] == sorted(counts.values(), reverse=True)
    assert sorted(said["searched"]) == ["class 1", *(f"class {number}" for number in range(10, 15))]


def test_thumbnails_of_a_few_items_are_those_of_the_whole_join() -> None:
    items = pl.LazyFrame({"item_id": ["a", "b", "c", "d", "e"], "image_ref": ["1", "2", None, "1", "3"]})
    images = pl.LazyFrame({"image_ref": ["1", "2", "3", "4"], "thumbnail": [b"one", b"two", None, b"four"]})
    whole = items.join(images, on="image_ref").drop_nulls().select("item_id", "thumbnail").collect()
    for wanted in (["a", "b"], ["d", "a", "a", None], ["c", "e", "nobody"], []):
        found = report.thumbnails_of(items, pl.Series(wanted, dtype=pl.String), images)
        expected = whole.filter(pl.col("item_id").is_in([one for one in wanted if one is not None]))
        assert found.sort("item_id").equals(expected.sort("item_id"))
