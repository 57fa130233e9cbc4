"""People in the loop, end to end: takedowns over versions, decisions, and what is offered for review."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from dataset_pipeline.commands.diff import diff
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.building import Bench, bench, contents, failures
from dataset_pipeline_tests.command_line import run
from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest

COPY, OTHER_LANGUAGE = "item-40", "item-41"
"""A copy of item-00, and its picture with a caption in another language."""

SECRET = "Mr Nobody of Nowhere asked for it"


def items() -> list[dict[str, str]]:
    made = rows()
    copied = {**made[0], "id": COPY}
    other = {
        **made[1],
        "id": OTHER_LANGUAGE,
        "file": made[0]["file"],
        "caption": "Etwas ganz anderes, neu im Laden",
        "owner": "x",
    }
    return [*made, copied, other]  # fmt: skip


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Bench]:
    """The small dataset with a copy, ready to be built."""
    config = write_dataset(tmp_path / "data")
    write_manifest(tmp_path / "data" / "items.csv", items())
    with bench(config, tmp_path / "storage") as made:
        yield made


def configure(made: Bench, **keys: Any) -> None:
    config = yaml.safe_load(made.config_path.read_text(encoding="utf-8"))
    made.config_path.write_text(yaml.safe_dump({**config, **keys}, sort_keys=False), encoding="utf-8")


def released(made: Bench) -> tuple[set[str], dict[str, str]]:
    """Ids of the release, and reasons of what is not in it; built anew."""
    result = made.run()
    assert result.success, failures(result)
    metadata = made.release / "metadata"
    reasons = dict(pl.read_parquet(metadata / "removed.parquet").select("item_id", "reason").rows())
    return set(pl.read_parquet(metadata / "items.parquet")["item_id"]), reasons


def take_down(made: Bench, text: str, version: str) -> None:
    (made.config_path.parent / "takedowns.csv").write_text(text, encoding="utf-8")
    configure(made, takedowns="takedowns.csv", version=version)


def decide(made: Bench, *lines: str) -> None:
    head = "item_id,decision,value,by,date,note\n"
    text = head + "".join(f"{line},Ada,2026-11-20,{SECRET}\n" for line in lines)
    (made.config_path.parent / "decisions.csv").write_text(text, encoding="utf-8")
    configure(made, decisions="decisions.csv")


def words_of(release: Path) -> str:
    """Everything that can be read in a release: files as they are, tables as text."""
    told = []
    for path in sorted(release.rglob("*")):
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            told.append(frame.select(pl.col(pl.String)).write_csv())
        elif path.is_file():
            told.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(told)


def test_a_takedown_over_versions(two: Bench) -> None:
    first, reasons = released(two)
    assert {"item-00", OTHER_LANGUAGE} <= first
    assert reasons == {COPY: "duplicate"}
    old = two.release
    caption = rows()[0]["caption"]
    assert caption in words_of(old)

    take_down(two, f"item_id,reason,date\nitem-00,{SECRET},2026-11-02\n", "1.1.0")
    second, reasons = released(two)
    # The copy does not come in its place; the same picture in another language is for people to look at.
    assert reasons == {"item-00": "taken_down", COPY: "duplicate_of_taken_down"}
    assert OTHER_LANGUAGE in second
    text = words_of(two.release)
    assert caption not in text
    assert SECRET not in text
    neighbours = two.store.latest("deduplicated_items").table("takedown_neighbours").collect()
    assert neighbours.rows() == [(OTHER_LANGUAGE, "item-00")]
    sheet = pl.read_csv(two.store.folder / "review" / "review.csv").select("kind", "item_id")
    assert {("taken_down_relative", OTHER_LANGUAGE), ("taken_down_same", COPY)} <= set(sheet.rows())
    assert "Not for publication" in (two.store.folder / "review" / "review.html").read_text(encoding="utf-8")
    assert not list(two.release.rglob("review*"))
    changes = (two.release / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "taken_down: 1" in changes
    difference = diff(old, two.release).difference
    assert difference.removed_by_reason == {"taken_down": 1}
    assert difference.examples["removed"] == ()
    assert "item-00" not in changes + (two.release / "reports" / "diff.json").read_text(encoding="utf-8")
    counts = json.loads((two.release / "reports" / "quality.json").read_text("utf-8"))["counts"]
    assert counts["released_items"] == len(second) == counts["raw_items"] - 2
    assert verify(two.release).is_good

    # Gone from the source as well, as it should be: only earlier releases know that the copy is one.
    write_manifest(two.config_path.parent / "items.csv", [row for row in items() if row["id"] != "item-00"])
    configure(two, version="1.2.0")
    assert released(two)[1] == {COPY: "duplicate_of_taken_down"}

    # Unless somebody decides that it is something else.
    decide(two, f"{COPY},keep,")
    configure(two, version="1.3.0")
    fourth, reasons = released(two)
    assert COPY in fourth
    assert reasons == {}


@pytest.mark.parametrize("way", ["pixels", "url"])
def test_takedowns_by_hash_and_url(two: Bench, way: str) -> None:
    folder = two.config_path.parent
    made = [{**row, "page": f"https://example.org/{row['id']}"} for row in items()]
    pl.DataFrame(made).write_csv(folder / "items.csv")
    config = yaml.safe_load(two.config_path.read_text(encoding="utf-8"))
    config["sources"][0]["columns"]["url"] = "page"
    configure(two, **config)
    released(two)
    picture = (
        two.store.latest("raw_images").table("images").filter(pl.col("image_ref") == "shop/00.png").collect()
    )
    key, value = {
        "pixels": ("sha256", picture["pixel_hash"][0]),
        "url": ("url", "http://example.org/item-00/"),
    }[way]
    take_down(two, f"{key},date\n{value},2026-11-02\n", "1.1.0")
    kept, reasons = released(two)
    if way == "url":
        assert reasons == {"item-00": "taken_down", COPY: "duplicate_of_taken_down"}
        assert OTHER_LANGUAGE in kept
    else:  # every item with that picture
        assert reasons == dict.fromkeys(("item-00", COPY, OTHER_LANGUAGE), "taken_down")


def test_a_changed_list_of_takedowns_is_not_overlooked_by_later_stages(two: Bench) -> None:
    take_down(two, "item_id\nitem-03\n", "1.0.0")
    released(two)
    before = contents(two.release)
    take_down(two, "item_id\nitem-03\nitem-04\n", "1.0.0")
    assert "cleaned_items was built before takedowns in dataset.yaml changed" in failures(
        two.run("published_archive")
    )
    assert contents(two.release) == before


def test_decisions_override_the_machine_and_survive_rebuilds(two: Bench) -> None:
    decide(
        two, f"{COPY},not_duplicate,item-00", "item-05,drop,", "item-06,relabel,hat", "item-07,duplicate,item-08",
        "nobody,drop,",
    )  # fmt: skip
    kept, reasons = released(two)
    assert COPY in kept
    assert reasons == {"item-05": "decided_drop", "item-07": "duplicate"}
    table = pl.read_parquet(two.release / "metadata" / "items.parquet")
    assert table.filter(pl.col("item_id") == "item-06").select("label", "label_source").rows() == [
        ("hat", "human")
    ]
    told = pl.read_parquet(two.release / "metadata" / "decisions.parquet")
    assert told.select("item_id", "decision", "by", "date", "state").rows() == [
        ("item-05", "drop", "Ada", "2026-11-20", "in_force"),
        ("item-06", "relabel", "Ada", "2026-11-20", "in_force"),
        ("item-07", "duplicate", "Ada", "2026-11-20", "in_force"),
        (COPY, "not_duplicate", "Ada", "2026-11-20", "in_force"),
        ("nobody", "drop", "Ada", "2026-11-20", "unknown_item"),
    ]
    assert SECRET not in words_of(two.release)
    assert verify(two.release).is_good
    before = contents(two.release, without={"provenance.json", "SHA256SUMS"})
    counted = dict(two.engine.items)
    released(two)
    assert contents(two.release, without={"provenance.json", "SHA256SUMS"}) == before
    assert two.engine.items == counted, "nothing per item was done again"


def test_a_decision_rebuilds_what_depends_on_it_alone(two: Bench) -> None:
    decide(two, "item-05,drop,")
    released(two)
    cleaned = two.store.latest("cleaned_items").id
    decide(two, "item-05,drop,", f"{COPY},not_duplicate,item-00")
    # What was cleaned is as good as it was; what was merged is not.
    failure = failures(two.run("train_test_split"))
    assert "deduplicated_items was built before decisions in dataset.yaml changed" in failure
    assert two.run("deduplicated_items", "train_test_split").success
    assert two.store.latest("cleaned_items").id == cleaned


def test_faulty_lists_are_told_in_one_line_before_anything_is_built(two: Bench, tmp_path: Path) -> None:
    decide(two, "item-05,drop,", "item-05,keep,")
    for command in ("check", "build"):
        answer = run(command, two.config_path, *(["--storage", tmp_path / "s"] if command == "build" else []))
        assert answer.status == 2
        assert "decisions.csv:3: item 'item-05': 'keep' contradicts 'drop' in line 2" in answer.err
    decide(two, "item-99,drop,")
    answer = run("check", two.config_path)
    assert answer.status == 0
    assert "decisions: 1 rows name items that no source has: 'item-99'" in answer.err
    (two.config_path.parent / "decisions.csv").write_text("item_id,by\n", encoding="utf-8")
    assert "expected a column 'decision'" in run("check", two.config_path).err
    configure(two, decisions=None, takedowns="takedowns.csv")
    for text, fault in (
        ("reason\nx\n", "expected a column 'item_id', 'sha256' or 'url'"),
        ("item_id,sha256\n,\nx,\n", "1 rows have no item_id, sha256 or url"),
        ("sha256\nabc\n", "'abc' is no SHA-256"),
    ):
        (two.config_path.parent / "takedowns.csv").write_text(text, encoding="utf-8")
        answer = run("check", two.config_path)
        assert (answer.status, fault in answer.err) == (2, True), answer.err
