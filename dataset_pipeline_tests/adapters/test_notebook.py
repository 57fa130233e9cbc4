"""The notebook: it runs, it repeats byte for byte, and it stops where the release contradicts itself."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from dataset_pipeline.adapters.notebook import executed_notebook
from dataset_pipeline.errors import GateError
from dataset_pipeline_tests.toy_release import toy

# Jupyter's client and its sockets, not this package.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook") / "release"
    example = toy()
    test = example.items.filter(pl.col("split") == "test").select(
        "item_id", "label", predicted=pl.lit("class 1")
    )
    example.parts["predictions"] = {"always-one": test}
    example.write(folder)
    top1 = float((test["label"] == test["predicted"]).mean())
    (folder / "reports" / "baselines.json").write_text(
        json.dumps({"leaderboard": [{"model": "one", "top1": top1}]})
    )
    return folder


def test_it_runs_repeats_and_knows_no_place_or_time(release: Path) -> None:
    first, second = (executed_notebook(release, toy().config) for _ in range(2))
    assert first == second
    assert str(release) not in first
    notebook = json.loads(first)
    assert all(set(cell["metadata"]) == set() for cell in notebook["cells"])
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    assert "60 items, 3 labels, 3 languages" in printed
    assert "1 published accuracies, 1 found again from the predictions" in printed
    assert not re.search(r"0x[0-9a-f]{8}", printed)
    # It leaves nothing behind in the release.
    assert not (release / "notebook").exists()


def test_a_published_accuracy_that_no_predictions_give_stops_the_build(release: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(release, tmp_path / "release")
    report = {"leaderboard": [{"model": "one", "top1": 0.99}]}
    (tmp_path / "release" / "reports" / "baselines.json").write_text(json.dumps(report))
    with pytest.raises(
        GateError, match=r"reports/baselines.json holds accuracies that no predictions give: \[0.99\]"
    ):
        executed_notebook(tmp_path / "release", toy().config)


def test_texts_without_pictures_and_without_predictions(tmp_path: Path) -> None:
    # The label would be a broken formula to matplotlib, and one is missing.
    example = toy()
    example.items = example.items.with_columns(
        label=pl.col("label").replace({"class 0": "$\\broken{$", "class 1": None}),
    )
    gone = pl.lit(None, pl.String)
    example.items = example.items.with_columns(image_ref=gone, image_sha256=gone)
    example.write(tmp_path / "release")
    text = executed_notebook(tmp_path / "release", example.config)
    assert "## Pictures" not in text
    assert "## Texts" in text
