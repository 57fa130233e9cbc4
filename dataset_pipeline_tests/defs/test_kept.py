"""What a build keeps because nothing has changed, and that whatever decides about an asset makes it anew."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataset_pipeline.adapters.cache import ResultCache
from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.store import Snapshot, SnapshotWriter
from dataset_pipeline.config import DatasetConfig, load_config
from dataset_pipeline.defs import checks, stage
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.defs.stage import Audit, Dataset, Lineage, Work
from dataset_pipeline_tests.building import Bench, contents
from dataset_pipeline_tests.defs.test_stage import Bench as Toy
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import rows, write_manifest

# -- the mechanism, on three toy assets: numbers -> doubled -> total, with a gate of numbers -------


@pytest.fixture
def built_toy(tmp_path: Path) -> Iterator[Toy]:
    made = Toy(tmp_path)
    with made.instance:
        assert made.run().success
        assert (made.written, made.judged) == (["numbers", "doubled", "total"], 1)
        yield made


def test_nothing_changed_writes_and_judges_nothing(built_toy: Toy) -> None:
    before = contents(built_toy.folder / "toy" / "snapshots")
    result = built_toy.run()
    assert result.success
    assert (built_toy.written, built_toy.judged) == ([], 0)
    assert contents(built_toy.folder / "toy" / "snapshots") == before
    assert built_toy.promoted == [12, 12], "what is kept is handed out again: somebody may have deleted it"
    shown = [event.materialization.metadata for event in result.get_asset_materialization_events()]
    assert [one["is_kept"].value for one in shown] == [True] * 3
    [check] = result.get_asset_check_evaluations()
    assert check.passed
    assert check.metadata["is_kept"].value
    assert check.metadata["min"].value == 1, "its numbers are shown all the same"


def test_cached_results_of_what_is_kept_count_as_used(copy: Bench) -> None:
    """Else gc would delete what the next change needs, because nothing has changed for long."""
    copy.run("raw_texts", "raw_images", "cleaned_items")
    cache = ResultCache(copy.store.cache)
    used = {f"{table.kind}/{table.version}" for table in cache.tables()}
    assert used == {*copy.store.cached("raw_images"), *copy.store.cached("cleaned_items")}
    assert len(used) == 3
    for table in used:
        os.utime(cache.folder / table / "used", (0, 0))
    assert copy.run("raw_texts", "raw_images", "cleaned_items").success
    assert min(table.used_at for table in cache.tables()) > 0


def test_a_person_can_have_it_made_anew(built_toy: Toy) -> None:
    assert built_toy.run(rebuild=True).success
    assert (built_toy.written, built_toy.judged) == (["numbers", "doubled", "total"], 1)


def test_a_changed_source_makes_everything_anew(built_toy: Toy) -> None:
    built_toy.source = [2, 3]
    assert built_toy.run().success
    assert (built_toy.written, built_toy.judged) == (["numbers", "doubled", "total"], 1)


def test_what_comes_to_the_same_is_where_it_ends(built_toy: Toy) -> None:
    """A setting that changes nothing: the asset and its gates are made anew, and what reads it is not."""
    built_toy.config["licence"] = "MIT"
    assert built_toy.run().success
    assert (built_toy.written, built_toy.judged) == (["numbers"], 1)


def test_another_program_makes_everything_anew(built_toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "program_version", lambda: "another")
    assert built_toy.run().success
    assert (built_toy.written, built_toy.judged) == (["numbers", "doubled", "total"], 1)


def test_what_nobody_can_say_is_made_every_time(built_toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lineage, "made_from", lambda *_arguments: None)
    for _ in range(2):
        assert built_toy.run().success
        assert (built_toy.written, built_toy.judged) == (["numbers", "doubled", "total"], 1)


def deleted(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def without_a_file(folder: Path) -> None:
    (folder / "items.parquet").unlink()


def one_bit(folder: Path) -> None:
    data = bytearray((folder / "items.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "items.parquet").write_bytes(data)


def one_more_file(folder: Path) -> None:
    (folder / "provenance.json").write_text("{}")  # not among what a snapshot is named by


@pytest.mark.parametrize("damage", [deleted, without_a_file, one_bit, one_more_file])
@pytest.mark.parametrize("asset", ["numbers", "doubled"])
def test_a_damaged_snapshot_is_made_anew(built_toy: Toy, asset: str, damage: Callable[[Path], None]) -> None:
    snapshot = built_toy.store.latest(asset)
    assert snapshot is not None
    before = contents(snapshot.folder)
    damage(snapshot.folder)
    assert built_toy.run().success
    assert built_toy.written == [asset]
    assert contents(snapshot.folder, without=["provenance.json"]) == before
    assert built_toy.judged == (asset == "numbers")
    assert built_toy.run().success
    assert built_toy.written == []


def test_a_failed_gate_is_judged_again_every_time(built_toy: Toy) -> None:
    built_toy.source = [-1]
    assert not built_toy.run().success
    result = built_toy.run()
    assert not result.success
    assert (built_toy.written, built_toy.judged) == ([], 1)
    assert built_toy.promoted == [12]


def test_a_gate_that_is_run_alone_is_judged(built_toy: Toy) -> None:
    """Only the run that has looked at the snapshot knows that it is still what was judged."""
    built_toy.run()
    state = json.loads((built_toy.folder / "toy" / "state" / "numbers.json").read_text())
    assert state["kept_by"]
    assert built_toy.store.kept_verdicts("numbers", state["kept_by"])
    assert built_toy.store.kept_verdicts("numbers", "another run") == {}


def test_a_verdict_of_another_program_on_the_same_snapshot_is_none(
    built_toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build ended between writing and judging; what is in the records was judged by the program before."""
    monkeypatch.setattr(stage, "program_version", lambda: "another")
    assert built_toy.run("numbers", checks=False).success
    assert (built_toy.written, built_toy.judged) == (["numbers"], 0)
    assert built_toy.run().success
    assert (built_toy.written, built_toy.judged) == (["doubled", "total"], 1)


# -- what the assets say they are made of ----------------------------------------------------------

ALL = [
    "raw_texts", "raw_images", "cleaned_items", "deduplicated_items", "train_test_split", "statistics", "clip_baselines",
    "label_quality", "review", "published_archive",
]  # fmt: skip


def made_from(made: Bench) -> dict[str, str | None]:
    """What each asset would be made from now, were its inputs to stay what they are."""
    found, store, origins = made.lineage, made.store, {}
    for one in found.stages.values():
        inputs = {name: store.latest(name) for name in one.reads}
        assert None not in inputs.values()
        origins[one.name] = found.made_from(store, one, inputs, found.settings(one, store))  # type: ignore[arg-type]
    return origins


def configure(made: Bench, **sections: Any) -> None:
    config = yaml.safe_load(made.config_path.read_text(encoding="utf-8"))
    for name, value in sections.items():
        old = config.get(name)
        config[name] = {**old, **value} if isinstance(old, dict) else value
    made.config_path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def nothing(made: Bench) -> None:
    """Reading the same file again finds the same."""


def a_row_less(made: Bench) -> None:
    write_manifest(made.config_path.parent / "items.csv", rows()[:-1])


def another_picture(made: Bench) -> None:
    (made.config_path.parent / "images" / "07.png").write_bytes(encoded(picture(307)))


def a_takedown(made: Bench) -> None:
    (made.config_path.parent / "takedowns.csv").write_text(
        "item_id,date\nitem-99,2026-10-01\nitem-05,2026-10-02\n", encoding="utf-8"
    )


def another_threshold(made: Bench) -> None:
    configure(made, duplicates={"item": "image"})


def another_ratio(made: Bench) -> None:
    configure(made, split={"ratios": {"train": 0.5, "validation": 0.25, "test": 0.25}})


def more_samples(made: Bench) -> None:
    configure(made, baselines={"bootstrap_samples": 101})


def another_model(made: Bench) -> None:
    configure(made, baselines={"models": [{"name": "b", "architecture": "ViT-B-32", "pretrained": "openai"}]})


def another_title(made: Bench) -> None:
    configure(made, title="Another title")


def speeds(made: Bench) -> None:
    (made.config_path.parent / "mirrors.json").write_text(
        '{"mirrors": [{"name": "a", "mib_per_s": 2.0, "faults": []}]}', encoding="utf-8"
    )


def a_release_before(made: Bench) -> None:
    made.release.rename(made.release.with_name("0.9.0"))


def a_failed_warning(made: Bench) -> None:
    """The release tells what each gate upstream has said."""
    path = made.store.folder / "state" / "raw_texts.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    state["audit"]["labels_present"]["is_passed"] = False
    path.write_text(json.dumps(state), encoding="utf-8")


CHANGES: dict[Callable[[Bench], None], list[str]] = {
    nothing: [],
    a_row_less: ["raw_texts", "raw_images", "published_archive"],
    another_picture: ["raw_images", "published_archive"],
    a_takedown: ["cleaned_items", "deduplicated_items", "published_archive"],
    another_threshold: [
        "deduplicated_items",
        "train_test_split",
        "statistics",
        "review",
        "published_archive",
    ],
    another_ratio: ["train_test_split", "statistics", "clip_baselines", "label_quality", "published_archive"],
    more_samples: ["clip_baselines", "label_quality", "published_archive"],
    another_model: ["clip_baselines", "label_quality", "published_archive"],
    another_title: ["review", "published_archive"],
    speeds: ["published_archive"],
    a_release_before: ["deduplicated_items", "train_test_split", "published_archive"],
    a_failed_warning: ALL[2:],
}
"""A change -> the assets that it is about, whatever else follows because their snapshots differ."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_an_asset_is_made_of(copy: Bench, change: Callable[[Bench], None]) -> None:
    before = made_from(copy)
    assert list(before) == ALL
    change(copy)
    after = made_from(copy)
    assert [name for name in ALL if after[name] != before[name]] == CHANGES[change]


class Recorded(DatasetConfig):
    """Writes down which sections are read."""

    def __getattribute__(self, name: str) -> Any:
        if name in DatasetConfig.model_fields:
            READ.add(name)
        return super().__getattribute__(name)


READ: set[str] = set()
ASKED_FOR_OTHERWISE = {"name", "version"}
"""Another name is another storage folder; the version says which release was before, and that is asked for."""


def test_bodies_and_gates_read_no_section_that_is_not_asked_for(copy: Bench, tmp_path: Path) -> None:
    """A setting that is read and not asked for could change, and what was made under the old one would be kept."""
    configure(copy, labels={"drop": ["hat"]}, duplicates={"distinct_by": []})
    assert copy.run(*ALL[:-1]).success
    config = Recorded.model_validate(load_config(copy.config_path).model_dump())
    found, store = lineage(Dataset(config, copy.config_path.parent)), copy.store
    for one in found.stages.values():
        inputs = found.audited_inputs(store, one)
        settings = found.settings(one, store)
        assert one.made_from is not None
        asked = {name.split(".")[0] for name in (*settings, *one.made_from(found.dataset, store))}
        if "//config" in asked:  # everything
            continue
        folder = tmp_path / one.name
        folder.mkdir()
        writer = SnapshotWriter(folder)
        READ.clear()
        one.body(
            Work(
                found.dataset, inputs, writer, ResultCache(store.cache), InlineEngine(), lambda _label: _silent, "run",
                store, [],
            )
        )  # fmt: skip
        for gate in getattr(checks, one.name)(config):
            gate.judge(Audit(found.dataset, Snapshot(one.name, "", folder), inputs))
        assert READ, "nothing was recorded"
        assert asked >= READ - ASKED_FOR_OTHERWISE, one.name


def _silent(_done: int, _total: int) -> None:
    """No progress is shown."""
