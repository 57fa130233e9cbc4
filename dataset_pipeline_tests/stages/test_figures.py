"""Figures: equal bytes for equal numbers, and any label in any script without a warning."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from dataset_pipeline.stages import scores
from dataset_pipeline.stages.figures import (
    as_pdf,
    baseline_figures,
    cleanliness_figures,
    flow_figure,
    statistics_figures,
)

SPLITS = ("train", "validation", "test")
SVG = "{http://www.w3.org/2000/svg}"


def values(*names: str | None, items: int = 6) -> list[dict[str, Any]]:
    return [{"value": name, "items": items, "splits": {"train": items - 1, "test": 1}} for name in names]


def statistics(**changes: Any) -> dict[str, Any]:
    return {
        "classes": values("boot", "hat"),
        "languages": values("en"),
        "removed": [{"stage": "clean", "reason": "image_blank", "items": 1234}],
        "images": {"pictures": 3, "brightness_histogram": {"edges": [0.0, 1.0, 2.0], "counts": [1, 2]}},
        "texts": {"title": {"chars_histogram": {"edges": [1.0, 3.0, 5.0], "counts": [4, 1]}}},
        **changes,
    }


def board(model: str = "small-clip", **changes: Any) -> dict[str, Any]:
    row = {
        "model": model,
        "task": "linear probe",
        "inputs": "image",
        "top1": 0.5,
        "top1_low": 0.4,
        "top1_high": 0.6,
        "ece": 0.05,
    }
    bins = {
        "calibration": [
            {"confidence": 0.3, "accuracy": 0.2, "items": 4},
            {"confidence": 0.9, "accuracy": 0.8, "items": 6},
        ]
    }
    similarity = {"edges": [0.0, 0.5, 1.0], "true": [1, 3], "shuffled": [3, 1], "auc": 0.75}
    return {
        "leaderboard": [{**row, "model": "majority", "inputs": "none", "top1": 0.3}, row],
        "details": {
            scores.prediction_name("majority", "linear probe", "none"): bins,
            scores.prediction_name(model, "linear probe", "image"): bins,
        },
        "similarity": {model: similarity},
        **changes,
    }  # fmt: skip


def cleanliness() -> dict[str, Any]:
    def side(identical: float, *histogram: int) -> dict[str, Any]:
        return {"compared": sum(histogram), "identical": identical, "histogram": list(histogram)}

    near = {"edges": [0.0, 0.5, 1.0], "this_split": side(0, 3, 1), "random_split": side(0.75, 1, 3)}
    rows = [
        {"rule": rule, "threshold": threshold, "groups": groups}
        for rule, counts in (("configured", (9, 8)), ("similarity alone", (9, 2)))
        for threshold, groups in zip((1.0, 0.9), counts, strict=True)
    ]
    return {
        "nearest_in_train": {"image": near, "text": near},
        "price": {
            "items": 10,
            "image": {"threshold": 0.95, "rows": rows},
            "text": {"threshold": 0.85, "rows": rows[:2]},
        },
    }


def drawn(classes: list[dict[str, Any]]) -> bytes:
    """The figure of the classes, alone: drawing takes a while."""
    report = statistics(classes=classes, languages=[], removed=[], images={"pictures": 0}, texts={})
    return statistics_figures(report, SPLITS)["classes.svg"]


def words(svg: bytes) -> list[str]:
    """The texts of a figure; raises where it is no XML."""
    return ["".join(text.itertext()) for text in ET.fromstring(svg.decode()).iter(f"{SVG}text")]


def test_every_figure_of_a_full_report() -> None:
    made = statistics_figures(statistics(), SPLITS)
    assert sorted(made) == [
        "brightness.svg", "classes.svg", "languages.svg", "length_of_title.svg", "removed.svg",
    ]  # fmt: skip
    assert {"boot", "hat", "train", "validation", "test", "items"} <= set(words(made["classes.svg"]))
    assert {"image blank", "1,234"} <= set(words(made["removed.svg"]))
    assert sorted(baseline_figures(board())) == [
        "calibration.svg",
        "leaderboard.svg",
        "similarity_small_clip.svg",
    ]


def test_what_is_near_and_what_it_costs() -> None:
    made = cleanliness_figures(cleanliness())
    assert sorted(made) == [
        "nearest_in_train_image.svg", "nearest_in_train_text.svg", "price_image.svg", "price_text.svg",
    ]  # fmt: skip
    assert {
        "this split: 0.0 % are also in train", "a random split: 75.0 % are also in train", "% of the test pictures",
    } <= set(words(made["nearest_in_train_image.svg"]))  # fmt: skip
    assert {"by all rules of this dataset", "by similarity alone", "the configured threshold"} <= set(
        words(made["price_image.svg"])
    )
    assert "by similarity alone" not in words(made["price_text.svg"])  # it has no such rows
    assert cleanliness_figures(cleanliness()) == made
    assert cleanliness_figures({"nearest_in_train": {}, "price": {"items": 0}}) == {}


def test_equal_reports_give_equal_bytes() -> None:
    assert statistics_figures(statistics(), SPLITS) == statistics_figures(statistics(), SPLITS)
    assert baseline_figures(board()) == baseline_figures(board())


def test_what_a_dataset_lacks_gives_no_figure() -> None:
    bare = statistics(classes=[], languages=[], removed=[], images={"pictures": 0}, texts={})
    assert statistics_figures(bare, SPLITS) == {}
    without_words = {"title": {"chars_histogram": None}}
    assert "length_of_title.svg" not in statistics_figures(statistics(texts=without_words), SPLITS)
    assert baseline_figures({"leaderboard": [], "models": {}, "similarity": {}}) == {}


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("$x^2$ and $", "$x^2$ and $"),  # no formula
        ("汉字", "汉字"),  # scripts that the measuring font lacks: no warning, and the text is there
        ("日本語ラベル", "日本語ラベル"),
        ("한국어 라벨", "한국어 라벨"),
        ("برچسب فارسی", "برچسب فارسی"),
        ("ملصق", "ملصق"),
        ("हिन्दी", "हिन्दी"),
        ("🧦 socks", "🧦 socks"),
        ("<script>alert(1)</script> & co", "<script>alert(1)</script> & co"),
        ("--><script>", "--><script>"),
        ("a\0b\x1bc\ufffe", "a\ufffdb\ufffdc\ufffd"),  # what XML cannot hold
        ("two\nlines\tand more", "two lines and more"),
        ("x" * 500, "x" * 35 + "…"),
        ("漢" * 500, "漢" * 17 + "…"),  # East Asian characters take two columns
        ("", ""),
        ("\\frac{1}{2}_%#", "\\frac{1}{2}_%#"),
        (None, "(none)"),
    ],
)
def test_odd_labels_are_shown_as_text(label: str | None, shown: str) -> None:
    svg = drawn(values(label, "hat"))
    assert "hat" in words(svg)
    if shown:
        assert shown in words(svg)
    assert b"<script" not in svg


def test_odd_model_names_are_shown_as_text() -> None:
    made = baseline_figures(board(model="ViT-B-32/模型 <b> $1"))
    assert sorted(made) == ["calibration.svg", "leaderboard.svg", "similarity_ViT_B_32_模型__b___1.svg"]
    assert "ViT-B-32/模型 <b> $1, linear probe, image" in words(made["leaderboard.svg"])


def test_values_beyond_the_first_ones_share_a_bar() -> None:
    many = values(*(f"class {number:02}" for number in range(40)))
    shown = words(drawn(many))
    assert "class 24" in shown
    assert "class 25" not in shown
    assert "15 others" in shown


def test_a_wide_name_gets_the_room_it_takes() -> None:
    def left(label: str) -> float:
        """Where names end: all to the left of it is theirs."""
        svg = drawn(values(label)).decode()
        found = [text for text in ET.fromstring(svg).iter(f"{SVG}text") if text.text == label]
        return float(found[0].attrib["x"])

    # 15 wide characters of 9 points each need 135.
    assert left("漢" * 15) > 135
    assert left("漢" * 15) > left("漢") + 100


def test_counts_have_whole_numbers_on_their_axis() -> None:
    shown = words(drawn(values("hat", items=3)))
    ticks = [int(word) for word in shown if word.isdigit()]
    assert ticks == sorted(set(ticks))
    assert ticks[:2] == [0, 1]
    assert "2.5" not in " ".join(shown)


def test_figures_refer_to_nothing_outside() -> None:
    made = [
        statistics_figures(statistics(), SPLITS),
        baseline_figures(board()),
        cleanliness_figures(cleanliness()),
    ]
    for svg in (svg for figures in made for svg in figures.values()):
        for element in ET.fromstring(svg.decode()).iter():
            for name, value in element.attrib.items():
                if name.endswith(("href", "src")):
                    assert value.startswith("#")


def test_the_flow_shows_what_each_stage_left_and_why() -> None:
    report = {
        "counts": {"raw_items": 1000, "splits": [{"value": "train", "items": 700}, {"value": "test", "items": 90}]},
        "removed": [
            *({"stage": "clean", "reason": f"reason_{i}", "items": 10 * i} for i in range(1, 6)),
            {"stage": "duplicates", "reason": "duplicate", "items": 60},
        ],
    }  # fmt: skip
    said = " ".join(words(flow_figure(report)["flow.svg"]))
    for part in ("1,000 raw items", "850 clean", "790 without duplicates", "train: 700", "test: 90",
                 "− 50 reason 5", "− 30 for other reasons", "− 60 duplicate"):  # fmt: skip
        assert part in said
    assert "readable" not in said  # that stage removed nothing


def test_figures_inside_as_pdf_are_pdf_and_repeat_byte_for_byte() -> None:
    def both() -> list[bytes]:
        with as_pdf():
            return list(statistics_figures(statistics(), SPLITS).values())

    first = both()
    assert all(figure.startswith(b"%PDF-") for figure in first)
    assert first == both()
    assert drawn(values("boot")).startswith(b"<?xml")


def test_a_map_names_the_common_labels_and_joins_the_rest() -> None:
    points = [{"x": i / 40, "y": 0.5, "label": None if i == 39 else f"c{min(i // 2, 9)}"} for i in range(40)]
    report = {"leaderboard": [], "similarity": {}, "space": {"ViT-B/32": {"map": {"points": points}}}}
    said = words(baseline_figures(report)["map_ViT_B_32.svg"])
    assert said == ["others", "c9", "c0", "c1", "c2", "c3", "c4", "c5"]
    report["space"]["ViT-B/32"]["map"] = None
    assert baseline_figures(report) == {}
