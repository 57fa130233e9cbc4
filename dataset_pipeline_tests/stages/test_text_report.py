"""What people are shown of cleaning: counts, and examples that hold nothing personal."""

import hashlib
from collections.abc import Sequence
from typing import Any

import polars as pl

from dataset_pipeline.stages.boilerplate import PASSAGES
from dataset_pipeline.stages.clean import CHANGES, LANGUAGE_DOUBTS
from dataset_pipeline.stages.pii import FINDINGS
from dataset_pipeline.stages.text_report import EXAMPLES, text_examples, text_report
from dataset_pipeline_tests.toy_release import toy_config

TEXTS = {"item_id": pl.String, "title": pl.String}


def frame(schema: Any, *rows: tuple[Any, ...]) -> pl.LazyFrame:
    return pl.LazyFrame(list(rows), schema=dict(schema), orient="row")


def names(texts: Sequence[str]) -> list[bool]:
    return ["Ada" in text for text in texts]


def examples(*rows: tuple[str, str, str, list[str]], findings: Sequence[str] = ()) -> pl.DataFrame:
    """``rows``: item_id, raw, cleaned, rules."""
    found = text_examples(
        frame(CHANGES, *((item, "title", rule) for item, _, _, rules in rows for rule in rules)),
        frame(TEXTS, *((item, raw) for item, raw, _, _ in rows)),
        frame(TEXTS, *((item, cleaned) for item, _, cleaned, _ in rows)),
        frame(
            {name: FINDINGS[name] for name in ("item_id", "column")}, *((item, "title") for item in findings)
        ),
        names,
    )
    assert found.schema == pl.Schema(EXAMPLES)
    return found


def test_before_and_after_with_what_cannot_be_seen() -> None:
    found = examples(
        ("a", "red\u200b hat", "red hat", ["control_characters"]),
        ("ends", " cap  ", "cap", ["whitespace"]),
        ("b", "x" * 50 + "<br>y" + "z" * 50, "x" * 50 + "\ny" + "z" * 50, ["html"]),
    )
    assert found.select("item_id", "before", "after").rows() == [
        ("a", "red⟨U+200B⟩ hat", "red hat"),
        ("b", f"…{'x' * 20}<br>y{'z' * 19}…", f"…{'x' * 20}⏎y{'z' * 19}…"),
        ("ends", "␣cap␣␣", "cap"),
    ]


def test_no_example_shows_personal_data() -> None:
    found = examples(
        # A comment goes with the markup; the search of the cleaned text has never seen it.
        ("hidden", "<!-- ask Ada -->hat", "hat", ["html"]),
        ("found", "<b>cap</b>", "cap", ["html"]),
        ("redacted", "<i>a@b.org</i>", "<EMAIL_ADDRESS>", ["html", "personal_data"]),
        ("long", "<b>" + "x" * 99, "", ["html", "too_long"]),
        findings=["found", "redacted"],
    )
    assert found.is_empty()


def test_three_examples_of_a_rule_are_enough_and_always_the_same() -> None:
    rows = [(f"{n}", f"a  {n}", f"a {n}", ["whitespace"]) for n in range(9)]
    found = examples(*rows)
    # By SHA-256, which no version of a library changes, as it may change its own hashes.
    drawn = sorted(
        (item for item, *_ in rows), key=lambda item: hashlib.sha256(f"{item}\0title".encode()).digest()
    )
    assert found["item_id"].to_list() == drawn[:3]
    assert examples(*reversed(rows)).equals(found)


def test_the_report_counts_what_is_released() -> None:
    config = toy_config(clean={"texts": {"rules": ["html", "whitespace"]}})
    report = text_report(
        frame(
            CHANGES,
            ("a", "title", "html"),
            ("a", "note", "html"),
            ("b", "title", "html"),
            ("gone", "title", "html"),
        ),
        pl.DataFrame(
            [("a", "title", "html", "<b>", ""), ("gone", "title", "html", "<i>", "")],
            schema=EXAMPLES,
            orient="row",
        ),
        pl.DataFrame(schema=PASSAGES),
        frame(
            LANGUAGE_DOUBTS,
            ("a", "title", "en", "script", "cyrillic", 1.0),
            ("b", "title", "en", "script", "cyrillic", 1.0),
            ("gone", "title", "en", "identified", "ru", 1.0),
        ),
        frame({"item_id": pl.String}, ("a",), ("b",), ("c",), ("d",)),
        config,
    )
    counts = {row["rule"]: (row["texts"], row["items"], row["share"]) for row in report["rules"]}
    assert counts == {"html": (3, 2, 0.5), "whitespace": (0, 0, 0.0)}
    # What was removed later is not shown.
    assert report["rules"][0]["examples"] == [{"before": "<b>", "after": ""}]
    assert report["switched_off"] == ["mojibake", "control_characters", "unicode_form", "repeated_characters"]
    assert report["languages"]["items_in_doubt"] == 2
    assert report["languages"]["doubts"] == [
        {"declared": "en", "evidence": "script", "found": "cyrillic", "texts": 2, "example": "a"}
    ]
