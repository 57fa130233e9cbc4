"""Every gate of every asset passes on a good build and fails on a bad snapshot; failures stop what follows."""

import logging
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.instance_for_test import instance_for_test
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration

from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.store import Snapshot, to_json
from dataset_pipeline.definitions import CONFIGS_VARIABLE, STORAGE_VARIABLE
from dataset_pipeline.defs import assets, metadata
from dataset_pipeline.defs.stage import Audit, Gate, Lineage, Work
from dataset_pipeline.stages import diff, release
from dataset_pipeline.stages.gates import EXAMPLE_ROWS, Outcome
from dataset_pipeline_tests.building import Bench, bench, contents, failures, materialised
from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest
from dataset_pipeline_tests.toy_release import sign

Spoil = Callable[[Path], None]
"""Makes one fault in a copy of a snapshot's folder."""

SECRET = "Mail ada.example@mail.example or call 020 7946 0123"
"""Stands for personal data: no gate may show it."""


def change(table: str, *changes: pl.Expr, rows: int | None = None) -> Spoil:
    """Change columns of a table, in its first ``rows`` rows (all where none is given)."""

    def spoil(folder: Path) -> None:
        path = folder / f"{table}.parquet"
        frame = pl.read_parquet(path)
        changed = frame.head(frame.height if rows is None else rows).with_columns(*changes)
        pl.concat([changed.cast(dict(frame.schema)), frame.slice(changed.height)]).write_parquet(path)

    return spoil


def twice(table: str) -> Spoil:
    """The first row of a table a second time."""

    def spoil(folder: Path) -> None:
        path = folder / f"{table}.parquet"
        frame = pl.read_parquet(path)
        pl.concat([frame, frame.head(1)]).write_parquet(path)

    return spoil


def cut(table: str, rows: int) -> Spoil:
    """Only the first ``rows`` rows."""

    def spoil(folder: Path) -> None:
        path = folder / f"{table}.parquet"
        pl.read_parquet(path).head(rows).write_parquet(path)

    return spoil


def removed(reason: str | None) -> Spoil:
    """One row was removed for ``reason``."""

    def spoil(folder: Path) -> None:
        path = folder / "removed.parquet"
        row = {"item_id": "item-00", "stage": "clean", "reason": reason}
        pl.DataFrame([row], schema=pl.read_parquet(path).schema).write_parquet(path)

    return spoil


def pair(score: float) -> Spoil:
    """One duplicate pair of that score."""

    def spoil(folder: Path) -> None:
        path = folder / "duplicate_pairs.parquet"
        row = {"item_id": "item-00", "other_item_id": "item-01", "kind": "near_image", "score": score}
        pl.DataFrame([row], schema=pl.read_parquet(path).schema).write_parquet(path)

    return spoil


def report(name: str, **changes: Any) -> Spoil:
    """Other values in a JSON report."""

    def spoil(folder: Path) -> None:
        snapshot = Snapshot("", "", folder)
        (folder / f"{name}.json").write_text(to_json({**snapshot.json(name), **changes}), encoding="utf-8")

    return spoil


def leaking(folder: Path) -> None:
    """Two items with one picture in two splits, as the audit writes it."""
    report("leakage", cross_split_pairs=1, by_kind={"same_pixels": 1})(folder)
    row = {"item_id": "item-00", "other_item_id": "item-01", "kind": "same_pixels", "score": 1.0}
    path = folder / "crossing_pairs.parquet"
    pl.DataFrame([row], schema=pl.read_parquet(path).schema).write_parquet(path)


def impossible_recall(folder: Path) -> None:
    """A recall of more than everything."""
    path = folder / "retrieval.parquet"
    schema = pl.read_parquet(path).schema
    row = {
        name: 1.2 if kind == pl.Float64 else 5 if kind == pl.Int64 else "m" for name, kind in schema.items()
    }
    pl.DataFrame([row], schema=schema).write_parquet(path)


def candidate_of_nothing(folder: Path) -> None:
    """A candidate for a wrong label that is no item."""
    path = folder / "label_candidates.parquet"
    row = {"item_id": "no-such-item", "label": "hat", "suggested": "boot", "own_probability": 0.1}
    pl.DataFrame([row], schema=pl.read_parquet(path).schema).write_parquet(path)


def version_too_low(folder: Path) -> None:
    """One item less than an earlier release of the same version had."""
    items = pl.scan_parquet(folder / "metadata" / "items.parquet")
    removed = pl.scan_parquet(folder / "metadata" / "removed.parquet")
    before = pl.concat([items, items.head(1).with_columns(item_id=pl.lit("item-98"))])
    found = diff.compare(before, items, removed)
    report = diff.diff_report("1.0.0", "1.0.0", found, found.new_items)
    (folder / "reports" / "diff.json").write_text(to_json(report), encoding="utf-8")
    told = f"# Changelog\n\n## 1.0.0\n\n{release.changes(report)}"
    (folder / "CHANGELOG.md").write_text(told, encoding="utf-8")
    sign(folder)


def doubted_languages(folder: Path) -> None:
    """Three of the forty items have a text that does not look like its language."""
    path = folder / "language_doubts.parquet"
    rows = [
        {
            "item_id": f"item-0{n}",
            "column": "caption",
            "declared": "en",
            "evidence": "script",
            "found": "cyrillic",
        }
        for n in range(3)
    ]
    pl.DataFrame(rows, schema=pl.read_parquet(path).schema).write_parquet(path)


def overruled(folder: Path) -> None:
    """A decision on an item that no source has."""
    path = folder / "decisions.parquet"
    row = {
        "item_id": "item-98",
        "decision": "drop",
        "by": "ada",
        "date": "2026-11-01",
        "state": "unknown_item",
    }
    pl.DataFrame([row], schema=pl.read_parquet(path).schema).write_parquet(path)


def asked(item: str) -> Spoil:
    """One question about that item."""

    def spoil(folder: Path) -> None:
        path = folder / "review.parquet"
        row = {"kind": "odd_picture", "item_id": item, "value": 0.5, "found": SECRET}
        pl.DataFrame([row], schema=pl.read_parquet(path).schema).write_parquet(path)

    return spoil


def damaged(folder: Path) -> None:
    """A document that is not what its checksum says."""
    (folder / "LICENSE").write_text("all rights reserved")


def null(column: str) -> pl.Expr:
    return pl.lit(None).alias(column)


def text(value: str, column: str) -> pl.Expr:
    return pl.lit(value).alias(column)


BAD: dict[str, dict[str, Spoil]] = {
    "raw_texts": {
        "has_rows": cut("items", 0),
        "item_ids_present": change("items", null("item_id"), rows=1),
        "item_ids_unique": twice("items"),
        "labels_present": change("items", null("label"), rows=21),
        "rows_readable": change("items", text("image_not_named", "problem"), rows=5),
    },
    "raw_images": {
        "image_refs_unique": twice("images"),
        "image_hashes_well_formed": change("images", text("d41d8cd9", "sha256"), rows=1),
        "brightness_in_range": change("images", pl.lit(256.0).alias("brightness"), rows=1),
        "formats_common": change("images", text("PSD", "format"), rows=4),
        "pictures_decode": change("images", text("image_truncated", "problem"), rows=21),
    },
    "cleaned_items": {
        "rows_conserved": cut("items", 39),  # an item that is gone without a reason
        "reasons_documented": removed("did not like it"),
        "not_empty": cut("items", 0),
        "licence_present": change("items", null("licence"), rows=4),
        "images_pass_checks": change("items", text("shop/nowhere.png", "image_ref"), rows=2),
        "image_warnings_few": change("image_checks", pl.lit(9).cast(pl.Int64).alias("reported"), rows=2),
        "language_doubts_few": doubted_languages,
        "item_ids_unique": twice("items"),
        "no_control_characters_caption": change("items", text(f"{SECRET}\x1b", "caption"), rows=4),
        "no_markup_caption": change("items", text(f"<b>{SECRET}</b>", "caption"), rows=1),
        "languages_well_formed": change("items", text("English (UK)", "language"), rows=1),
        "languages_known": change("items", text("und", "language"), rows=9),
    },
    "deduplicated_items": {
        "rows_conserved": removed("duplicate"),  # an item that is both kept and removed
        "reasons_documented": removed(None),
        "item_ids_unique": twice("items"),
        "decisions_known": overruled,
        "groups_present": change("items", null("duplicate_group"), rows=1),
        "scores_in_range": pair(1.01),
    },
    "train_test_split": {
        "no_leak": leaking,
        "planted_copies_found": report(
            "leakage", planted={"near_text": {"a letter left out": {"planted": 9, "recognised": 9, "found": 8}}}
        ),
        "rows_conserved": cut("items", 39),
        "split_summary_well_formed": change("summary", pl.lit(1.5).alias("share"), rows=1),
        "item_ids_unique": twice("items"),
        "splits_known": change("items", text("dev", "split"), rows=1),
        "splits_assigned": change("items", null("split"), rows=1),
        "leak_groups_present": change("items", null("leak_group"), rows=1),
    },
    "review": {"questions_answerable": asked("item-98")},
    "statistics": {
        "class_balance_well_formed": twice("class_balance"),
        "licences_compatible": report(
            "licences",
            by_licence=[{"licence": "MIT", "items": 12, "why": "asks for attribution"}],
            incompatible_items={"count": 12, "first": [{"item_id": "item-00", "licence": "MIT"}]},
        ),
    },
    "clip_baselines": {
        "leaderboard_well_formed": change("leaderboard", pl.lit(1.2).alias("top1"), rows=1),
        "retrieval_well_formed": impossible_recall,
    },
    "label_quality": {
        "candidates_are_items": candidate_of_nothing,
    },
    "published_archive": {
        "release_verified": damaged,
        "rows_conserved": cut("metadata/items", 39),
        "taken_down_absent": change("metadata/items", text("item-99", "item_id"), rows=1),
        "version_fits": version_too_low,
    },
}  # fmt: skip
"""Asset -> gate -> a fault that this gate is there to find."""

NO_EXAMPLE_ROWS = {("raw_texts", "has_rows"), ("cleaned_items", "not_empty")}
"""Gates that fail when there are no rows."""

WARNINGS = (
    ("deduplicated_items", "decisions_known"),
    ("raw_texts", "labels_present"),
    ("raw_texts", "rows_readable"),
    ("raw_images", "formats_common"),
    ("cleaned_items", "image_warnings_few"),
    ("cleaned_items", "language_doubts_few"),
    ("cleaned_items", "no_markup_caption"),
    ("cleaned_items", "languages_well_formed"),
    ("cleaned_items", "languages_known"),
    ("published_archive", "version_fits"),
)
"""Gates whose failure is told and stops nothing."""

CASES = [(asset, gate) for asset, gates in BAD.items() for gate in gates]


def gate_of(built: Bench, asset: str, name: str) -> Gate:
    return next(gate for gate in built.lineage.stages[asset].gates if gate.name == name)


def judge(built: Bench, asset: str, name: str, spoil: Spoil | None, tmp_path: Path) -> Outcome:
    """The gate's outcome on a copy of the built snapshot, which ``spoil`` may have changed."""
    lineage = built.lineage
    snapshot = built.store.latest(asset)
    assert snapshot is not None
    folder = Path(shutil.copytree(snapshot.folder, tmp_path / "snapshot"))
    if spoil is not None:
        spoil(folder)
    inputs = lineage.audited_inputs(built.store, lineage.stages[asset])
    return gate_of(built, asset, name).judge(
        Audit(lineage.dataset, Snapshot(asset, snapshot.id, folder, snapshot.inputs), inputs)
    )


def test_every_gate_of_every_asset_has_a_bad_case_here(built: Bench) -> None:
    gates = {name: {gate.name for gate in stage.gates} for name, stage in built.lineage.stages.items()}
    assert gates == {asset: set(cases) for asset, cases in BAD.items()}


@pytest.mark.parametrize(("asset", "name"), CASES)
def test_gate_passes_on_good_data_with_its_numbers(
    built: Bench, asset: str, name: str, tmp_path: Path
) -> None:
    outcome = judge(built, asset, name, None, tmp_path)
    assert outcome.is_passed, outcome.summary
    assert outcome.summary
    assert outcome.numbers
    assert outcome.examples is None


@pytest.mark.parametrize(("asset", "name"), CASES)
def test_gate_fails_on_bad_data_with_numbers_and_examples(
    built: Bench, asset: str, name: str, tmp_path: Path
) -> None:
    outcome = judge(built, asset, name, BAD[asset][name], tmp_path)
    assert not outcome.is_passed
    assert outcome.numbers
    assert gate_of(built, asset, name).remedy
    assert "\n" not in outcome.summary
    if (asset, name) in NO_EXAMPLE_ROWS:
        assert outcome.examples is None
        return
    assert outcome.examples is not None
    assert 1 <= outcome.examples.height <= EXAMPLE_ROWS
    gate = gate_of(built, asset, name)
    page = metadata.of_outcome(outcome, "0", gate.description, gate.remedy)
    assert {"expected", "found", "snapshot", "examples", "remedy"} < set(page), "what a check's page tells"
    counts = [value for value in page.values() if isinstance(value, int) and not isinstance(value, bool)]
    assert any(value > 0 for value in counts), "how many rows it is about"
    shown = str({key: getattr(value, "value", value) for key, value in page.items() if key != "remedy"})
    shown += str(outcome.examples.to_dicts())
    assert not re.search(r"ada\.example|Mail|mail|7946", shown), shown


# -- what a failure stops --------------------------------------------------------------------------


def spoil_asset(monkeypatch: pytest.MonkeyPatch, asset: str, spoil: Spoil) -> None:
    """From now on the real asset writes a snapshot with that fault."""
    name = f"build_{asset}"
    original: Callable[[Work], None] = getattr(assets, name)

    def spoiled(work: Work) -> None:
        original(work)
        spoil(work.writer.folder)

    monkeypatch.setattr(assets, name, spoiled)
    monkeypatch.setattr(
        "dataset_pipeline.defs.stage.program_version", lambda: f"another {name}"
    )  # else what is there would be kept


def downstream(found: Lineage, asset: str) -> list[str]:
    """Everything that reads ``asset``, near or far, in order."""
    reading = {asset}
    for stage in found.stages.values():
        if reading & set(stage.reads):
            reading.add(stage.name)
    return [name for name in found.stages if name in reading - {asset}]


@pytest.mark.parametrize(("asset", "name"), [case for case in CASES if case not in WARNINGS])
def test_failed_critical_gate_stops_everything_downstream(
    copy: Bench, asset: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same run and, what Dagster itself does not see to, in later runs of assets downstream alone.

    The last good snapshot of every asset and the release stay as they are, byte for byte.
    """
    good = {stage: copy.store.latest(stage) for stage in copy.lineage.stages}
    release = contents(copy.release)
    kept = {stage: contents(snapshot.folder) for stage, snapshot in good.items() if snapshot}
    spoil_asset(monkeypatch, asset, BAD[asset][name])
    following = downstream(copy.lineage, asset)

    result = copy.run(asset, *following)
    assert not result.success
    assert materialised(result) == [asset]
    failed = [e for e in result.get_asset_check_evaluations() if e.check_name == name]
    assert [(e.passed, e.severity.value, e.blocking) for e in failed] == [(False, "ERROR", True)]
    assert {"snapshot", "remedy"} <= set(failed[0].metadata)

    for later in following[-1:]:
        result = copy.run(later)
        assert not result.success
        assert materialised(result) == []
        assert re.match(f"{asset}: the check '.+' failed: ", failures(result))

    assert contents(copy.release) == release
    for stage, snapshot in good.items():
        assert snapshot is not None
        assert contents(snapshot.folder) == kept[stage], stage


@pytest.mark.parametrize(("asset", "name"), WARNINGS)
def test_failed_warning_is_reported_and_stops_nothing(
    copy: Bench, asset: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_asset(monkeypatch, asset, BAD[asset][name])
    # Both raw assets: cleaned_items reads what fits together.
    following = [*(["raw_images"] if asset == "raw_texts" else []), *downstream(copy.lineage, asset)[:1]]
    result = copy.run(asset, *following)
    assert result.success, failures(result)
    assert set(materialised(result)) == {asset, *following}
    failed = [(e.check_name, e.severity.value) for e in result.get_asset_check_evaluations() if not e.passed]
    assert (name, "WARN") in failed
    assert all(severity == "WARN" for _, severity in failed)


def test_warnings_are_listed_here(built: Bench) -> None:
    soft = {
        (stage.name, gate.name)
        for stage in built.lineage.stages.values()
        for gate in stage.gates
        if not gate.is_blocking
    }
    assert soft == set(WARNINGS)


def test_release_tells_of_a_warning_that_failed(tmp_path: Path) -> None:
    """Unknown languages are no reason not to release, and whoever reads the release sees them."""
    config = write_dataset(tmp_path / "source")
    write_manifest(tmp_path / "source" / "items.csv", [row | {"lang": "und"} for row in rows()])
    with bench(config, tmp_path / "storage") as made:
        assert made.run().success
        gates = Snapshot("", "", made.release).json("reports/quality")["gates"]
    told = {(gate["asset"], gate["check"]): gate for gate in gates}
    assert told["cleaned_items", "languages_known"] == {
        "asset": "cleaned_items",
        "check": "languages_known",
        "passed": False,
        "severity": "warning",
        "summary": "language expected to not be in set: 40 of 40 rows fail, at most 20% may",
    }
    assert [gate for gate in gates if not gate["passed"]] == [told["cleaned_items", "languages_known"]]


# -- faults in the data itself ---------------------------------------------------------------------


def same_id_twice(source: Path) -> None:
    write_manifest(source / "items.csv", [row | {"id": "item-00"} for row in rows()[:2]] + rows()[2:])


def broken_pictures(source: Path) -> None:
    for number in range(21):
        path = source / "images" / f"{number:02}.png"
        path.write_bytes(path.read_bytes()[:200])


def everything_dropped(source: Path) -> None:
    write_dataset(source, labels={"drop": ["boot", "hat", "shirt"]})


def leaking_published_split(source: Path) -> None:
    """The owners' pairs are torn apart by the split that the source brings along."""
    write_dataset(
        source, split={"method": "published"}, source={"columns": {"split": "lang", "language": None}}
    )
    made = [row | {"lang": ("train", "test", "validation")[int(row["id"][-2:]) % 3]} for row in rows()]
    write_manifest(source / "items.csv", made)


def incompatible_licence(source: Path) -> None:
    write_dataset(source, source={"licence": "CC-BY-NC-4.0"})


FROM_THE_SOURCE = {
    "raw_texts: item_ids_unique": same_id_twice,
    "raw_images: pictures_decode": broken_pictures,
    "cleaned_items: not_empty": everything_dropped,
    "train_test_split: no_leak": leaking_published_split,
    "statistics: licences_compatible": incompatible_licence,
}


@pytest.mark.parametrize("fault", FROM_THE_SOURCE)
def test_bad_source_data_never_becomes_a_release(fault: str, tmp_path: Path) -> None:
    asset, name = fault.split(": ")
    config = write_dataset(tmp_path / "source")
    FROM_THE_SOURCE[fault](tmp_path / "source")
    with bench(config, tmp_path / "storage") as made:
        result = made.run()
        assert not result.success
        failed = {
            (e.asset_key.path[-1], e.check_name)
            for e in result.get_asset_check_evaluations()
            if not e.passed and e.severity.value == "ERROR"
        }
        assert failed == {(asset, name)}
        assert not set(materialised(result)) & set(downstream(made.lineage, asset))
        assert not made.store.releases.exists()


# -- a backfill by Dagster's own daemon ------------------------------------------------------------


def backfill(bench: Bench, instance: dg.DagsterInstance, *names: str) -> tuple[str, set[str]]:
    """Status of a backfill of the named assets, and which of them were written."""
    dataset = bench.lineage.dataset
    keys = {dataset.key(name) for name in names}
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name="dataset_pipeline.definitions"),
        location_name="datasets",
    )
    before = {key: instance.get_latest_materialization_event(key) for key in keys}
    with WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as workspace:
        made = PartitionBackfill.from_asset_graph_subset(
            backfill_id="-".join(names)[:60],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=instance,
            asset_graph_subset=AssetGraphSubset(non_partitioned_asset_keys=keys),
            title=None,
            description=None,
            run_config=None,
        )
        instance.add_backfill(made)
        for _ in range(10):
            workspace.refresh_workspace()
            errors = [e for e in execute_backfill_iteration(workspace, logging.getLogger("backfill")) if e]
            assert not errors
            found = instance.get_backfill(made.backfill_id)
            assert found is not None
            if found.status not in {BulkActionStatus.REQUESTED, BulkActionStatus.FAILING}:
                break
    written = {key.path[-1] for key in keys if instance.get_latest_materialization_event(key) != before[key]}
    return found.status.value, written


# The daemon's loop launches runs that have loops of their own; it leaves one of its coroutines unfinished here.
@pytest.mark.filterwarnings("ignore:coroutine 'BaseEventLoop.shutdown_asyncgens' was never:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <coroutine object BaseEventLoop.shutdown_asyncgens")
def test_failed_gate_stops_a_backfill(copy: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill of everything, and one of the assets downstream alone, which are runs of their own."""
    same_id_twice(copy.config_path.parent)
    release = contents(copy.release)
    monkeypatch.setenv(CONFIGS_VARIABLE, str(copy.config_path))
    monkeypatch.setenv(STORAGE_VARIABLE, str(copy.storage))
    monkeypatch.setattr("dataset_pipeline.adapters.engine.LocalEngine", InlineEngine)
    with instance_for_test(
        synchronous_run_launcher=True, synchronous_run_coordinator=True, temp_dir=str(tmp_path)
    ) as instance:
        status, written = backfill(copy, instance, *copy.lineage.stages)
        assert written == {"raw_texts", "raw_images"}
        assert status.startswith("COMPLETED")
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.FAILURE}
        status, written = backfill(copy, instance, "deduplicated_items", "published_archive")
        assert written == set()
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.FAILURE}

        write_manifest(copy.config_path.parent / "items.csv", rows())
        status, written = backfill(copy, instance, "raw_texts", "raw_images", "cleaned_items")
        assert (status, written) == ("COMPLETED_SUCCESS", {"raw_texts", "raw_images", "cleaned_items"})
    assert contents(copy.release) == release
