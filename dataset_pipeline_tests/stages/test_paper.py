"""The paper: it compiles as it is, with any words in it, and its numbers are the reports'."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.comparison import comparison_report, known_datasets, this_dataset
from dataset_pipeline.stages.figures import prediction_name
from dataset_pipeline.stages.paper import FOR_AUTHOR, Paper, paper
from dataset_pipeline.stages.readiness import readiness_report
from dataset_pipeline.stages.result_tables import latex_text

NASTY = r"100 % \input{/etc/passwd} $x$ #1 _a_ ^b^ ~ {] 东京 🧥 Žluťoučký œuvre “x” – …"


def config(**changes: Any) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {
            "name": "toy", "version": "1.0.0", "licence": "CC0-1.0",
            "sources": [{"id": "a", "path": "a.csv", "licence": "CC0-1.0"}], **changes,
        }
    )  # fmt: skip


def reports(of: DatasetConfig, label: str = "boot", **changes: Any) -> dict[str, Any]:
    classes = [{"value": label, "items": 1200, "splits": {"train": 1000, "test": 200}}]
    statistics = {
        "counts": {
            "raw_items": 1234, "released_items": 1200, "removed_items": 34,
            "splits": [{"value": "train", "items": 1000}, {"value": "test", "items": 200}],
        },
        "removed": [{"stage": "clean", "reason": "label_missing", "items": 30},
                    {"stage": "duplicates", "reason": "duplicate", "items": 4}],
        "classes": classes, "languages": [{"value": "en", "items": 1200, "splits": {"train": 1000}}],
        "class_balance": {"values": 1, "effective_classes": 1.0, "gini": 0.0, "largest": 1200, "smallest": 1200},
        "images": {"pictures": 900, "brightness_histogram": None}, "texts": {},
        "duplication": {"removed_as_duplicates": 4, "leak_groups": {"groups": 800, "largest": 12}},
    }  # fmt: skip
    made = {
        "statistics": statistics,
        "leakage": {
            "cross_split_pairs": 0, "random_split_pairs": 77, "by_kind": {"same_text": 0},
            "random_by_kind": {"same_text": 77}, "planted_copies": 100,
            "search_recall": {"near_image": {"grey": 1.0, "cropped": 0.97}},
        },
        "labels": {
            "by_source": [{"value": label, "items": 1200}],
            "contradictions": {"with_both_labels": 40, "share": 0.05, "interval": [0.014, 0.165]},
        },
        "licences": {"incompatible_items": {"count": 0}},
        "baselines": {
            "leaderboard": [
                {"model": label, "task": "linear probe", "inputs": "image", "top1": 0.5, "top1_low": 0.4,
                 "top1_high": 0.6, "top5": 0.9, "macro_f1": 0.3, "ece": 0.1}
            ],
            "details": {
                prediction_name(label, "linear probe", "image"): {
                    "calibration": [{"confidence": 0.5, "accuracy": 0.4, "items": 9}]
                }
            },
            "models": {label: "said of it"}, "similarity": {}, "other_splits": [],
        },
        **changes,
    }  # fmt: skip
    return {**made, "comparison": comparison_report(this_dataset(of, statistics), known_datasets())}


def made(label: str = "boot", **changes: Any) -> Paper:
    of = config(**changes)
    return paper(of, reports(of, label))


def macros(written: Paper) -> dict[str, str]:
    return dict(re.findall(r"\\newcommand\{\\(\w+)\}\{([^}]*)\}", written.files["numbers.tex"].decode()))


def test_numbers_are_the_reports_numbers_and_say_where_they_come_from() -> None:
    written = made()
    found = macros(written)
    assert {name: found[name] for name in ("rawItems", "releasedItems", "removedItems", "pictures", "testItems",
            "randomSplitPairs", "crossSplitPairs", "leastRecall", "labelNoise", "labelNoiseLow", "labelNoiseHigh",
            "largestGroup")} == {
        "rawItems": "1,234", "releasedItems": "1,200", "removedItems": "34", "pictures": "900", "testItems": "200",
        "randomSplitPairs": "77", "crossSplitPairs": "0", "leastRecall": "97", "labelNoise": "5.0",
        "labelNoiseLow": "1.4", "labelNoiseHigh": "16.5", "largestGroup": "12",
    }  # fmt: skip
    assert "% statistics.json: counts.raw_items" in written.files["numbers.tex"].decode()


def test_every_macro_of_the_text_is_defined_and_no_digit_of_a_count_is_typed() -> None:
    written = made()
    text = written.files["paper.tex"].decode()
    body = text[text.index(r"\begin{document}") :]
    used = set(re.findall(r"\\([a-z]+[A-Z]\w*)\{\}", body))
    assert used
    assert used <= set(macros(written))
    assert "1,234" not in body
    assert "1,200" not in re.sub(r"Of the .*|It has .*", "", body)


def test_what_was_looked_for_in_pictures_is_said_as_the_report_says_it() -> None:
    of = config()
    said = "3 of 900 different pictures show a face (0.3 %)."
    found = paper(
        of, reports(of, "boot", pii={"by_entity": [], "by_action": [], "images": {"statement": said}})
    )
    assert r"3 of 900 different pictures show a face (0.3 \%)." in found.files["paper.tex"].decode()
    assert "show a face" not in made().files["paper.tex"].decode()


def test_passages_for_the_author_are_counted_and_go_where_the_configuration_says_it() -> None:
    plain = made()
    assert plain.passages_for_author == plain.files["paper.tex"].decode().count(FOR_AUTHOR) > 0
    keys = (
        "motivation",
        "collection",
        "limitations",
        "biases",
        "social_impact",
        "personal_information",
        "maintenance",
    )
    full = made(documentation=dict.fromkeys(keys, "We say so."), url="https://example.org/x")
    assert full.passages_for_author == plain.passages_for_author - len(keys) - 1
    assert full.files["paper.tex"].decode().count("We say so.") == len(keys)


def test_words_of_data_and_configuration_cannot_become_commands() -> None:
    text = (
        made(NASTY, title=NASTY, creators=[{"name": NASTY, "affiliation": NASTY}]).files["paper.tex"].decode()
    )
    assert r"\input{/etc" not in text
    assert latex_text(r"\x{}_%") == r"\textbackslash{}x\{\}\_\%"
    assert latex_text("東") == r"\unichar{6771}{東}"
    assert latex_text("[a") == "{[}a"


def test_equal_reports_give_equal_bytes() -> None:
    assert made().files == made().files


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine (pdflatex) on this machine")
@pytest.mark.parametrize("label", ["boot", NASTY])
def test_the_paper_compiles_as_it_is_written(label: str, tmp_path: Path) -> None:
    changes = (
        {} if label == "boot" else {"title": NASTY, "description": NASTY, "url": "https://example.org/a%b{#}"}
    )
    for name, content in made(label, **changes).files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0, said[-3000:]
        return said

    latex = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper")
    run(*latex)
    run("bibtex", "paper")
    run(*latex)
    said = run(*latex)
    assert "undefined" not in said
    assert (tmp_path / "paper.pdf").stat().st_size > 50_000


def test_readiness_asks_and_says_what_to_do() -> None:
    of = config()
    report = readiness_report(of, reports(of), known_datasets(), passages_for_author=3)
    missing = {row["remedy"] for row in report["rows"] if not row["is_met"]}
    assert {"documentation.biases", "url", "date", "creators", "sources[].permission.evidence"} <= missing
    assert report["met"] + report["missing"] == len(report["rows"])
    assert report["missing"] == len(missing)


@pytest.mark.parametrize(
    ("changes", "requirement"),
    [
        (
            {"leakage": {"cross_split_pairs": 1, "search_recall": {"x": {"y": 1.0}}, "by_kind": {}}},
            "no related pair",
        ),
        ({"leakage": {"cross_split_pairs": 0, "search_recall": {}, "by_kind": {}}}, "the leak search finds"),
        (
            {"leakage": {"cross_split_pairs": 0, "search_recall": {"x": {"y": 0.5}}, "by_kind": {}}},
            "the leak search",
        ),
        ({"licences": {"incompatible_items": {"count": 2}}}, "every item's licence"),
        ({"baselines": {"leaderboard": []}}, "has baselines"),
        ({"labels": {"contradictions": {"share": None}}}, "says how good its labels are"),
    ],
)
def test_what_the_reports_show_is_missing(changes: dict[str, Any], requirement: str) -> None:
    of = config()
    good = readiness_report(of, reports(of), known_datasets(), 0)["rows"]
    bad = readiness_report(of, {**reports(of), **changes}, known_datasets(), 0)["rows"]
    fallen = [b["requirement"] for g, b in zip(good, bad, strict=True) if g["is_met"] and not b["is_met"]]
    assert len(fallen) == 1
    assert fallen[0].startswith(requirement)
