"""What people are asked: every kind of question, its worth, and that nothing in it becomes markup or a formula."""

import csv
import io
from typing import Any

import polars as pl
import pytest

from dataset_pipeline.stages.clean import LANGUAGE_DOUBTS
from dataset_pipeline.stages.leakage import NEAREST
from dataset_pipeline.stages.pii import TO_REVIEW
from dataset_pipeline.stages.review import KINDS, Found, review_page, review_rows, review_sheet
from dataset_pipeline.stages.takedowns import SAME
from dataset_pipeline.tables import (
    DECISIONS,
    IMAGES,
    ITEMS,
    LABEL_CANDIDATES,
    PAIRS,
    RAW_ITEMS,
    REMOVED,
    REVIEW,
    empty,
)
from dataset_pipeline_tests.toy_release import toy_config

CONFLICTS = dict.fromkeys(("item_id", "kept_item_id", "column", "value", "kept_value"), pl.String())
TEXT = toy_config().text_names[0]


def frame(schema: Any, *rows: dict[str, Any]) -> pl.LazyFrame:
    full = [{**dict.fromkeys(schema), **row} for row in rows]
    return pl.LazyFrame(full, schema=dict(schema))


def found(**tables: Any) -> Found:
    none = {
        "raw": frame({**RAW_ITEMS, TEXT: pl.String()}),
        "items": frame(ITEMS),
        "removed": frame(REMOVED),
        "images": frame(IMAGES),
        "pairs": empty(PAIRS),
        "nearest": frame(NEAREST),
        "conflicts": frame(CONFLICTS),
        "findings": frame(TO_REVIEW),
        "neighbours": frame(SAME),
        "candidates": frame(LABEL_CANDIDATES),
        "doubts": frame(LANGUAGE_DOUBTS),
    }
    return Found(**{**none, **tables})


def decided(*rows: tuple[str, str, str | None]) -> pl.DataFrame:
    return pl.DataFrame([(*row, "Ada", "2026-11-01") for row in rows], schema=dict(DECISIONS), orient="row")


def asked(
    given: Found, *decisions: tuple[str, str, str | None], **config: Any
) -> list[tuple[str, str, str | None]]:
    rows = review_rows(given, decided(*decisions), toy_config(**config))
    assert rows.schema == pl.Schema(dict(REVIEW))
    assert set(rows["kind"]) <= KINDS.keys()
    assert rows["value"].is_between(0, 2).all()
    assert rows["value"].is_sorted(descending=True)
    return rows.select("kind", "item_id", "other_item_id").rows()


def image(number: int, **values: Any) -> dict[str, Any]:
    usual = {
        "brightness": 120.0 + number,
        "contrast": 40.0 + number,
        "entropy_bits": 6 + number / 10,
        "sharpness": 50.0 + number,
    }
    return {"sha256": f"s{number}", "width_px": 60 + number, "height_px": 50, **usual, **values}  # fmt: skip


def everything() -> Found:
    pictures = [*(image(n) for n in range(9)), image(9, brightness=3.0)]
    return found(
        conflicts=frame(
            CONFLICTS,
            {"item_id": "b", "kept_item_id": "a", "column": "label", "value": "hat", "kept_value": "cap"},
            {"item_id": "b", "kept_item_id": "a", "column": "author", "value": "x", "kept_value": "y"},
        ),
        removed=frame(
            REMOVED,
            {"item_id": "u", "reason": "label_unsure", "detail": "label 'Not sure'"},
            {"item_id": "f", "reason": "image_faces_unsure", "detail": "1 face, the surest with score 0.95"},
            {"item_id": "d", "reason": "image_faces", "detail": "1 face, the surest with score 0.95"},  # not asked
            {"item_id": "s", "reason": "duplicate_of_taken_down", "detail": "t"},
            {"item_id": "n", "reason": "duplicate", "kept_item_id": "m"},
        ),
        findings=frame(
            TO_REVIEW,
            {"item_id": "p", "column": TEXT, "entity": "PHONE_NUMBER", "score": 0.45, "action": "redact", "excerpt": "x"},
        ),
        candidates=frame(
            LABEL_CANDIDATES,
            {"item_id": "l", "label": "a", "suggested": "b", "own_probability": 0.05, "suggested_probability": 0.8},
        ),
        neighbours=frame(SAME, {"item_id": "r", "taken_item_id": "t"}),
        pairs=pl.DataFrame(
            [
                ("m", "n", "near_image", 0.9805),  # merged, barely
                ("m", "o", "near_image", 0.981),  # a pair that merged nothing
                ("e", "n", "near_image", 0.999),
            ],
            schema=dict(PAIRS), orient="row",
        ),
        nearest=frame(
            NEAREST,
            {"item_id": "a", "other_item_id": "k", "kind": "image", "similarity": 0.975},
            {"item_id": "a", "other_item_id": "z", "kind": "image", "similarity": 0.91},  # clearly two things
        ),
        items=frame(ITEMS, *({"item_id": f"i{n}", "image_sha256": f"s{n}"} for n in range(10))),
        images=frame(IMAGES, *pictures),
    )  # fmt: skip


def test_every_kind_of_question_the_most_valuable_first() -> None:
    assert asked(everything()) == [
        ("label_conflict", "a", "b"),
        ("merged_pair", "n", "m"),
        ("similar_pair", "a", "k"),
        ("taken_down_relative", "r", None),
        ("face", "f", None),
        ("label_unsure", "u", None),
        ("odd_picture", "i9", None),
        ("label_error", "l", None),
        ("taken_down_same", "s", None),
        ("personal_data", "p", None),
    ]


@pytest.mark.parametrize(
    ("decision", "gone"),
    [
        (("u", "relabel", "hat"), {"label_unsure"}),
        (("p", "confirm", None), {"personal_data"}),
        (("f", "keep", None), {"face"}),
        (("i9", "keep", None), {"odd_picture"}),
        (("m", "not_duplicate", "n"), {"merged_pair"}),  # in either order
        (("n", "confirm", "m"), {"merged_pair"}),
        (("a", "confirm", "k"), {"similar_pair"}),  # and not what else is asked of a
        (("a", "relabel", "cap"), {"label_conflict", "similar_pair"}),
    ],
)
def test_what_is_decided_is_not_asked_again(decision: tuple[str, str, str | None], gone: set[str]) -> None:
    before = {row[0] for row in asked(everything())}
    after = {row[0] for row in asked(everything(), decision)}
    assert before - after == gone


def test_only_so_many_questions() -> None:
    assert len(asked(everything(), review={"max_rows": 3})) == 3


def test_nothing_unsure() -> None:
    assert asked(found()) == []


def test_pictures_that_are_all_alike_are_not_odd() -> None:
    same = [{**image(0), "sha256": f"s{n}"} for n in range(9)]
    items = frame(ITEMS, *({"item_id": f"i{n}", "image_sha256": f"s{n}"} for n in range(9)))
    assert asked(found(items=items, images=frame(IMAGES, *same))) == []


NASTY = '=HYPERLINK("http://evil.example")<script>alert(1)</script>'


def nasty_sheet() -> pl.DataFrame:
    raw = frame(
        {**RAW_ITEMS, TEXT: pl.String()},
        {"item_id": "=a", "label": NASTY, TEXT: NASTY},
        {"item_id": "b", "label": "hat", TEXT: "x" * 5_000},
    )
    conflicts = frame(
        CONFLICTS,
        {"item_id": "b", "kept_item_id": "=a", "column": "label", "value": "hat", "kept_value": NASTY},
    )
    config = toy_config()
    rows = review_rows(found(raw=raw, conflicts=conflicts), decided(), config)
    return review_sheet(rows, raw, raw, config.text_names)


def test_the_sheet_shows_texts_as_they_were_cleaned_and_none_of_what_was_removed() -> None:
    raw = frame(
        {**RAW_ITEMS, TEXT: pl.String()},
        {"item_id": "a", "label": "hat", TEXT: "ask ada@posta.example"},
        {"item_id": "b", "label": "bag", TEXT: "ask bob@posta.example"},
    )
    cleaned = frame(
        {"item_id": pl.String(), TEXT: pl.String()}, {"item_id": "a", TEXT: "ask <EMAIL_ADDRESS>"}
    )
    conflicts = frame(
        CONFLICTS,
        {"item_id": "b", "kept_item_id": "a", "column": "label", "value": "bag", "kept_value": "hat"},
    )
    config = toy_config()
    rows = review_rows(found(raw=raw, conflicts=conflicts), decided(), config)
    sheet = review_sheet(rows, raw, cleaned, config.text_names)
    shown = {row["item_id"]: (row["label"], row["text"]) for row in sheet.to_dicts()}
    shown |= {row["other_item_id"]: (row["other_label"], row["other_text"]) for row in sheet.to_dicts()}
    assert shown["a"] == ("hat", "ask <EMAIL_ADDRESS>")
    assert shown["b"][0] == "bag"
    assert not shown["b"][1]


def test_the_sheet_holds_no_formula_and_no_long_text() -> None:
    [row] = list(csv.DictReader(io.StringIO(nasty_sheet().write_csv())))
    assert row["item_id"] == "'=a"  # decisions.csv reads it back as "=a"
    assert row["label"].startswith("'=HYPERLINK")
    assert len(row["other_text"]) == 300
    assert row["decisions"] == KINDS["label_conflict"][1]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


def test_the_page_escapes_what_came_from_data_and_loads_nothing() -> None:
    page = review_page(nasty_sheet(), {"b": bytes(32 * 32 * 3)}, toy_config(), limit=10)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/png;base64,") == 1
    assert "Not for publication" in page
    assert "http" not in page.replace("http-equiv", "").split("<body>")[0]


def test_the_page_says_how_many_are_not_shown() -> None:
    page = review_page(nasty_sheet(), {}, toy_config(), limit=0)
    assert "1 questions" in page
    assert "the first 0 are shown" in page


def test_a_doubted_language_is_asked_about_where_it_is_configured() -> None:
    row = {
        "item_id": "a",
        "column": TEXT,
        "declared": "en",
        "evidence": "script",
        "found": "cyrillic",
        "confidence": 0.9,
    }
    given = found(doubts=frame(LANGUAGE_DOUBTS, row, {**row, "column": "zz", "confidence": 0.7}))
    assert asked(given) == []
    wanted: dict[str, Any] = {"clean": {"language": {"declared": "review"}}}
    assert asked(given, **wanted) == [("language_doubt", "a", None)]
    assert asked(given, ("a", "language", "ru"), **wanted) == []
    [said] = review_rows(given, empty(DECISIONS), toy_config(**wanted))["found"]
    assert said == f"{TEXT}: declared en, script cyrillic; zz: declared en, script cyrillic"
