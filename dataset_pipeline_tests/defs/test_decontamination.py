"""Outside sets in whole builds: the documented example, a removal that does not happen, and a set that changes."""

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from dataset_pipeline.defs import checks
from dataset_pipeline.stages import decontamination
from dataset_pipeline.tables import REMOVED, empty
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.building import bench, failures, files_with, materialised
from dataset_pipeline_tests.command_line import run
from dataset_pipeline_tests.defs.test_gates import judge
from dataset_pipeline_tests.defs.test_gates import report as spoiled_report
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import ITEMS, rows, write_dataset
from dataset_pipeline_tests.stages.crafted import minimal_config

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def documented() -> list[dict[str, Any]]:
    """``decontaminate`` of the example in docs/configuration.md."""
    section = DOCS.read_text(encoding="utf-8").split("\n## decontaminate\n")[1]
    block = re.findall(r"(?ms)^```yaml\n(.*?)^```", section)[0]
    found: list[dict[str, Any]] = yaml.safe_load(block)["decontaminate"]
    return found


def write_example(folder: Path) -> Path:
    """A dataset of 40 items, of which six are in the sets of the documented example."""
    config = write_dataset(folder, decontaminate=documented(), decisions="decisions.csv")
    captions = [row["caption"] for row in rows()]
    (folder / "benchmark/test").mkdir(parents=True)
    # A smaller copy of item 0, the picture of item 1 as another file, and one that is not in the dataset.
    smaller = picture(0).resize((48, 36))
    (folder / "benchmark/test/copy.png").write_bytes(encoded(smaller))
    (folder / "benchmark/test/again.png").write_bytes(encoded(picture(1), compress_level=1))
    (folder / "benchmark/test/other.png").write_bytes(encoded(picture(1000)))
    # The caption of item 2 in capitals, that of item 3 with a word more, that of item 4, and one that is too short.
    listed = [captions[2].upper(), f"{captions[3]} neu", captions[4], "red"]
    stream = io.StringIO()
    csv.writer(stream).writerows([["caption"], *([text] for text in listed)])
    (folder / "benchmark/captions.csv").write_text(stream.getvalue(), encoding="utf-8")
    image = folder / "images" / "05.png"
    (folder / "older-test.txt").write_text(f"{hashlib.sha256(image.read_bytes()).hexdigest()}  05.png\n")
    # A person has looked at item 4 and keeps it.
    (folder / "decisions.csv").write_text("item_id,decision,value,by,date\nitem-04,keep,,ae,2026-11-02\n")
    # The manifest names these three, and a picture that is not there.
    (folder / "benchmark/test.csv").write_text("id\ncopy\nagain\nother\nlost\n")
    return config


def test_documented_example_builds(tmp_path: Path) -> None:
    config = write_example(tmp_path / "data")
    assert run("check", config).status == 0

    with bench(config, tmp_path / "storage") as made:
        result = made.run()
        assert result.success, failures(result)
        release = made.release
        removed = pl.read_parquet(release / "metadata/removed.parquet").select(
            "item_id", "stage", "reason", "detail"
        )
        report = json.loads((release / "reports/decontamination.json").read_text(encoding="utf-8"))

        told = [(*row[:3], re.sub(r" \d\.\d+", "", row[3])) for row in removed.rows()]
        of_stage = ("decontamination", "in_outside_set")
        assert told == [
            ("item-00", *of_stage, "benchmark-pictures: near_image of copy.png"),
            ("item-01", *of_stage, "benchmark-pictures: same_pixels of again.png"),
            ("item-02", *of_stage, "benchmark-captions: same_text of row 1"),
            ("item-03", *of_stage, "benchmark-captions: near_text of row 2"),
        ]
        assert {
            name: (one["matching_items"], one["removed_items"]) for name, one in report["sets"].items()
        } == {
            "benchmark-pictures": (2, 2),
            "benchmark-captions": (3, 2),
            "own-older-test-set": (1, 0),
        }
        matches = pl.read_csv(release / "reports/tables/outside_matches.csv")
        assert matches["item_id"].to_list() == [f"item-{n:02}" for n in range(6)]
        assert matches["outside"].to_list()[-1] == "05.png"
        assert verify(release).findings == ()
        # Item 5 is in a set that is only reported: that is told and stops nothing.
        failed = {
            e.check_name: e.severity.value for e in result.get_asset_check_evaluations() if not e.passed
        }
        assert failed == {"outside_sets_apart": "WARN"}
        unread = {
            name: {**one, "pictures": 0, "texts": 0, "sha256": 0} for name, one in report["sets"].items()
        }
        spoil = spoiled_report("decontamination", sets=unread)
        outcome = judge(made, "deduplicated_items", "outside_sets_readable", spoil, tmp_path)
        assert not outcome.is_passed
        page = (release / "reports/report.html").read_text(encoding="utf-8")
        assert '<h2 id="outside">Outside sets</h2>' in page
        assert "| own-older-test-set | 0 pictures, 0 texts, 1 hashes | 1 | none: reported only |" in (
            release / "README.md"
        ).read_text(encoding="utf-8")

        # Nothing of a set may be in the release but the names of what matches.
        assert "metadata/items.parquet" in files_with(release, rows()[10]["caption"])
        assert files_with(release, f"{rows()[3]['caption']} neu") == []

        # A set that has changed is noticed before anything downstream is built again.
        captions = tmp_path / "data/benchmark/captions.csv"
        captions.write_text(
            captions.read_text(encoding="utf-8") + '"' + rows()[7]["caption"] + '"\n', encoding="utf-8"
        )
        refused = made.run("train_test_split")
        assert not refused.success
        assert "decontaminate (benchmark-captions)" in failures(refused)
        again = made.run("deduplicated_items")
        assert materialised(again) == ["deduplicated_items"]
        now = made.store.latest("deduplicated_items")
        assert now is not None
        assert "item-07" in now.table("removed").collect()["item_id"]


def test_what_is_not_removed_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_example(tmp_path / "data")
    monkeypatch.setattr(decontamination, "contaminated", lambda *_: empty(REMOVED))

    with bench(config, tmp_path / "storage") as made:
        result = made.run("raw_texts", "raw_images", "cleaned_items", "deduplicated_items")

        assert not result.success
        told = [check for check in result.get_asset_check_evaluations() if not check.passed]
        by_name = {check.check_name: check.description or "" for check in told}
        assert (
            f"4 of {ITEMS} items that stay are in a set that is to be left out"
            in by_name["outside_sets_left_out"]
        )


@pytest.mark.parametrize(("action", "is_guarded"), [("remove", True), ("report", False)])
def test_only_sets_that_remove_have_a_gate_on_what_is_left(action: str, is_guarded: bool) -> None:
    config = minimal_config(decontaminate=[{"name": "bench", "hashes": "h.txt", "action": action}])
    names = {gate.name for gate in checks.deduplicated_items(config)}
    assert ("outside_sets_left_out" in names) == is_guarded
    assert {"outside_sets_readable", "outside_sets_apart"} <= names


def test_a_missing_set_is_said_in_a_line_by_check_and_build(tmp_path: Path) -> None:
    config = write_dataset(tmp_path / "data", decontaminate=[{"name": "bench", "hashes": "none.txt"}])

    for call in (["check", config], ["build", config, "--storage", tmp_path / "storage"]):
        answer = run(*call)
        assert answer.status == 2
        assert answer.last.endswith(f"decontaminate.bench.hashes: no such file: {tmp_path / 'data/none.txt'}")
