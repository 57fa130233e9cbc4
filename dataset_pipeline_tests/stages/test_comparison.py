"""The comparison with other datasets: every sentence must follow from the table."""

import itertools
from typing import Any

import pytest

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.comparison import (
    Known,
    comparison_report,
    known_datasets,
    name_report,
    parse,
    similarity,
    statements,
    this_dataset,
    with_rows,
)

ALL = frozenset({"image", "text", "label"})
OURS = Known(
    "Ours", 2026, frozenset({"fashion"}), ALL, {"pictures": 1000, "languages": 14, "classes": 10}, "CC0-1.0"
)


def other(name: str, modalities: frozenset[str] = ALL, **counts: int) -> Known:
    return Known(name, modalities=modalities, counts=counts)


def row(
    dataset: str = "A", figure: str = "pictures", value: str = "5", source: str = "https://a.example"
) -> Any:
    return {"dataset": dataset, "figure": figure, "value": value, "source": source}


def test_every_figure_of_the_packages_table_has_a_source_that_can_be_opened() -> None:
    known = known_datasets()
    assert len(known) >= 13
    assert "GLAMI-1M" in {dataset.name for dataset in known}
    for dataset in known:
        assert dataset.sources
        assert all(source.startswith("https://") for source in dataset.sources)
        assert dataset.year is not None
        assert dataset.modalities
        assert dataset.topics
        assert dataset.counts


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(figure="colour")], "mine.csv:2: figure: found 'colour', expected one of year, topics"),
        ([row(), row(value="6")], "mine.csv:3: pictures of 'A' is stated twice"),
        ([row(value="many")], "mine.csv:2: pictures: expected a whole number above 0, found 'many'"),
        ([row(value="-3")], "expected a whole number above 0, found '-3'"),
        ([row(value="0")], "expected a whole number above 0, found '0'"),
        ([row(value="٣")], "expected a whole number above 0, found '٣'"),  # a digit, but not one of ours
        ([row(source=" ")], "mine.csv:2: expected a dataset and a source"),
        ([row(dataset="")], "mine.csv:2: expected a dataset and a source"),
        ([row(figure="modalities", value="image;smell")], "modalities: expected some of image, label, text"),
        ([row(figure="modalities", value=";")], "modalities: expected some of image, label, text"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_its_line(rows: list[Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(rows, "mine.csv")
    assert said in str(error.value)


def test_an_authors_rows_join_the_table_and_replace_what_it_says_of_the_same_dataset() -> None:
    found = {d.name: d for d in with_rows([row("glami-1m", value="7"), row("Mine")], "mine.csv")}
    assert found["glami-1m"].counts == {"pictures": 7}
    assert "GLAMI-1M" not in found
    assert found["Mine"].sources == ("https://a.example",)
    assert len(found) == len(known_datasets()) + 1


def test_similarity_is_one_for_equals_symmetric_and_falls_with_the_ratio() -> None:
    assert similarity(OURS, OURS) == 1.0
    for one, two in itertools.combinations(known_datasets(), 2):
        assert similarity(one, two) == pytest.approx(similarity(two, one))
        assert 0 <= similarity(one, two) <= 1
    near, far = other("near", pictures=2000), other("far", pictures=900_000)
    assert similarity(OURS, near) > similarity(OURS, far)
    assert similarity(Known("a", counts={"pictures": 1}), Known("b", counts={"pictures": 10_000})) == 0.0
    assert similarity(Known("a", counts={"pictures": 1}), Known("b", counts={"classes": 1})) == 0.0


def test_what_is_said_of_a_count_follows_from_the_table() -> None:
    known = [
        other("A", pictures=10),
        other("B", pictures=100),
        other("C", pictures=5000),
        other("D", classes=3),
    ]
    assert statements(Known("Ours", counts={"pictures": 1000}), known) == [
        "It has 1,000 pictures, more than 2 of the 3 compared datasets that state a number; C has the most (5,000)."
    ]
    assert statements(Known("Ours", counts={"pictures": 6000}), known) == [
        "It has 6,000 pictures, more than all 3 compared datasets that state a number; next is C (5,000)."
    ]
    # Least of all is nothing special, and one dataset is no comparison.
    assert statements(Known("Ours", counts={"pictures": 10, "classes": 9}), known) == []


def test_what_is_said_of_modalities_counts_only_datasets_that_have_them_all() -> None:
    known = [
        other("A", frozenset({"image", "label"}), languages=40),
        other("B", ALL, languages=3),
        other("C", ALL, languages=9),
    ]
    said = statements(OURS, known)
    assert (
        "Of the 3 datasets compared, 2 have pictures, texts and class labels, as this one has: B and C."
        in said
    )
    assert said[-1] == (
        "Among those with pictures, texts and class labels: it has 14 languages, more than all 2 compared datasets "
        "that state a number; next is C (9)."
    )
    alone = statements(OURS, known[:1])
    assert alone == [
        "Of the 1 datasets compared, none has pictures, texts and class labels, as this one has."
    ]


def test_the_report_ranks_by_similarity_and_keeps_the_sources() -> None:
    known = parse(
        [row("Far", value="900000"), row("Near", value="1000"), row("Near", "languages", "14")], "x"
    )
    report = comparison_report(OURS, known)
    assert [(r["dataset"], r["similarity"]) for r in report["datasets"]] == [("Near", 1.0), ("Far", 0.015)]
    assert report["datasets"][0]["sources"] == ["https://a.example"]
    assert report["this"]["languages"] == 14


def test_this_dataset_counts_known_languages_only() -> None:
    config = DatasetConfig.model_validate(
        {
            "name": "x", "version": "1.0.0", "licence": "CC0-1.0", "date": "2026-01-02", "keywords": ["Fashion"],
            "sources": [{"id": "a", "path": "a.csv", "licence": "CC0-1.0"}],
        }
    )  # fmt: skip
    statistics = {
        "images": {"pictures": 3},
        "counts": {"released_items": 4},
        "class_balance": {"values": 0},
        "languages": [{"value": value} for value in ("de", "en", "und", "zxx", None)],
    }
    assert this_dataset(config, statistics) == Known(
        "x",
        2026,
        frozenset({"fashion"}),
        frozenset({"image", "text"}),
        {"pictures": 3, "items": 4, "languages": 2},
        "CC0-1.0",
    )


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("clothing", []),
        (
            "glami1m",
            ["no dataset of the comparison table is called so"],
        ),  # GLAMI-1M, but for case and punctuation
        ("my_set", ["an S3 bucket may be called so"]),
        ("a--b", ["Hugging Face takes it"]),
        ("1st", ["it starts with a letter"]),
        ("x" * 60, ["it is short", "siblings fit"]),
    ],
)
def test_rules_for_a_name(name: str, broken: list[str]) -> None:
    found = [rule["rule"] for rule in name_report(name, known_datasets()) if not rule["is_fulfilled"]]
    assert len(found) == len(broken)
    assert all(rule.startswith(start) for rule, start in zip(found, broken, strict=True))
