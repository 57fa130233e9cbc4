"""``licences``: what a user is told about the licences of the sources; and the gate, seen in a whole build."""

import csv
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from dataset_pipeline.stages.licences import licence_ids
from dataset_pipeline_tests.command_line import run
from dataset_pipeline_tests.small_dataset import rows, write_dataset


def with_licences(folder: Path, given: dict[int, str], **changes: Any) -> Path:
    """The small dataset with licences of single items, a page for each and an author for some."""
    columns = {"licence": "licence", "author": "author", "url": "page"}
    config = write_dataset(folder, source={"columns": columns}, **changes)
    items = [
        {**row, "licence": given.get(n, ""), "author": "=Ada, \"A\"" if n % 2 else "", "page": f"https://example.org/{n}"}
        for n, row in enumerate(rows())
    ]  # fmt: skip
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, items[0])
        writer.writeheader()
        writer.writerows(items)
    return config


def test_the_command_says_what_is_allowed_and_why_not(tmp_path: Path) -> None:
    config = with_licences(tmp_path, {3: "CC-BY-SA-4.0", 5: "CC-BY-4.0", 6: "ccby"})
    answer = run("licences", config)
    assert answer.status == 0
    lines = [line.strip() for line in answer.out.splitlines()]
    assert "1  CC-BY-SA-4.0  share-alike" in lines
    assert any(line.startswith("1  ccby") and "nearest:" in line for line in lines)
    assert any(line.startswith("✗ CC0-1.0 (as dataset.yaml says)") for line in lines)
    assert any(line.startswith("1 items under CC-BY-SA-4.0: CC-BY-SA-4.0: share-alike") for line in lines)
    assert not any(line.startswith("✓") for line in lines), "an unknown licence suits no dataset"
    good = run("licences", with_licences(tmp_path / "good", {3: "CC-BY-SA-4.0"}, licence="CC-BY-SA-4.0"))
    assert "✓ CC-BY-SA-4.0 (as dataset.yaml says)" in good.out
    assert "creativecommons.org" in good.out.split("Read from")[1]
    refused = run("check", config)
    assert refused.status == 2
    assert "'ccby' is no SPDX id" in refused.err


def test_an_incompatible_item_stops_the_build_by_name(tmp_path: Path) -> None:
    config = with_licences(tmp_path, {3: "CC-BY-NC-4.0", 8: "CC-BY-NC-4.0"})
    answer = run("build", config, "--storage", tmp_path / "storage")
    assert answer.status == 1
    assert "statistics: licences_compatible" in answer.err
    assert (
        "2 items have a licence that does not allow a release under CC0-1.0: 'item-03', 'item-08'"
        in answer.err
    )
    assert "CC-BY-NC-4.0: non-commercial, which CC0-1.0 gives up" in answer.err.replace("\n", " ")
    assert not (tmp_path / "storage" / "small" / "releases").exists()


def test_a_release_names_authors_and_refers_to_what_it_may_not_hold(tmp_path: Path) -> None:
    config = with_licences(
        tmp_path,
        {2: "NOASSERTION", 3: "CC-BY-ND-4.0", 4: "CC-BY-4.0", 5: "CC-BY-4.0"},
        licence="CC-BY-4.0",
        licences={"no_derivatives": "reference", "unlicensed": "drop"},
    )
    answer = run("build", config, "--storage", tmp_path / "storage")
    assert answer.status == 0, answer.err
    release = tmp_path / "storage" / "small" / "releases" / "1.0.0"
    removed = pl.read_parquet(release / "metadata" / "removed.parquet")
    assert dict(removed.select("item_id", "reason").rows()) == {
        "item-02": "licence_missing",
        "item-03": "licence_no_derivatives",
    }
    [reference] = pl.read_parquet(release / "metadata" / "references.parquet").to_dicts()
    assert (reference["item_id"], reference["url"]) == ("item-03", "https://example.org/3")
    assert len(reference["image_sha256"]) == 64
    text = (release / "ATTRIBUTION.csv").read_text(encoding="utf-8")
    named = list(csv.DictReader(text.splitlines()))
    items = pl.read_parquet(release / "metadata" / "items.parquet")
    assert [row["item_id"] for row in named] == items.filter(
        (pl.col("licence") != "CC0-1.0") | pl.col("author").is_not_null()
    )["item_id"].to_list()
    [four] = [row for row in named if row["item_id"] == "item-04"]
    assert (four["author"], four["licence"], four["url"]) == ("", "CC-BY-4.0", "https://example.org/4")
    [five] = [row for row in named if row["item_id"] == "item-05"]
    assert five["author"] == '\'=Ada, "A"'  # no formula, and one cell
    assert "ATTRIBUTION.csv" in (release / "LICENSE").read_text(encoding="utf-8")
    assert run("verify", release).status == 0


def test_check_names_what_publication_will_ask_for(tmp_path: Path) -> None:
    config = write_dataset(tmp_path, source={"permission": None})
    answer = run("check", config)
    assert answer.status == 0
    assert "source shop: permission: missing" in answer.err
    given = yaml.safe_load(config.read_text(encoding="utf-8"))
    given["sources"][0]["permission"] = {"basis": "owner-approval"}
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    assert "permission.evidence: missing" in run("check", config).err
    given["licence"] = "CC BY 4.0"
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    refused = run("check", config)
    assert (refused.status, "nearest: CC-BY-4.0" in refused.err) == (2, True)
    assert licence_ids("MIT OR CC-BY-4.0") == ["MIT", "CC-BY-4.0"]
