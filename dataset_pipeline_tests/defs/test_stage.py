"""The mechanism that every asset shares: snapshots, gates, and what a failed gate stops."""

import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.store import Store, require_made_from
from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.defs.stage import (
    Audit,
    Dataset,
    Gate,
    Lineage,
    ProgressDisplay,
    Stage,
    StorageResource,
    Work,
)
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.gates import Outcome


class Bench:
    """Three toy assets, ``numbers -> doubled -> total``, whose source and gates a test can change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = [1, 2, 3]
        self.gate_severity = "critical"
        self.promoted: list[str] = []
        self.blas_threads: set[int] = set()
        self.written: list[str] = []
        self.judged = 0
        self.config: dict[str, object] = {
            "name": "toy",
            "version": "1.0.0",
            "licence": "CC0-1.0",
            "sources": [{"id": "a", "path": "a.csv", "licence": "CC0-1.0"}],
        }
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(folder))
        self.store = Store(folder, "toy")

    def lineage(self) -> Lineage:
        config = DatasetConfig.model_validate(self.config)

        def numbers(work: Work) -> None:
            self.blas_threads |= {p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"}
            self.written.append("numbers")
            work.writer.table("items", pl.DataFrame({"value": self.source}))

        def doubled(work: Work) -> None:
            self.written.append("doubled")
            work.writer.table("items", work.inputs["numbers"].table("items").select(pl.col("value") * 2))

        def total(work: Work) -> None:
            self.written.append("total")
            work.writer.json("total", int(work.inputs["doubled"].table("items").collect()["value"].sum()))

        def judge(audit: Audit) -> Outcome:
            self.judged += 1
            smallest = audit.snapshot.table("items").select(pl.col("value").min()).collect().item()
            return Outcome(smallest > 0, "min value", {"min": smallest})

        positive = Gate(
            "all_positive",
            "Every number is positive.",
            self.gate_severity,  # type: ignore[arg-type]
            judge,
        )

        def nothing_else(_dataset: Dataset, _store: Store) -> dict[str, str]:
            return {}

        return Lineage(
            Dataset(config, self.folder),
            (
                Stage("numbers", "raw", frozenset(), "Numbers.", (), numbers, (positive,), settings=("licence",),
                      made_from=lambda _dataset, _store: {"source": str(self.source)}, main_table="items"),
                Stage("doubled", "clean", frozenset(), "Doubled.", ("numbers",), doubled, (), made_from=nothing_else, main_table="items"),
                Stage(
                    "total", "release", frozenset(), "Total.", ("numbers", "doubled"), total, (), made_from=nothing_else,
                    promote=lambda _dataset, _store, snapshot: self.promoted.append(snapshot.json("total")),
                ),
            ),
        )  # fmt: skip

    def definitions(self) -> dg.Definitions:
        made = self.lineage().definitions()
        return dg.Definitions(
            assets=[
                d
                for d in made
                if isinstance(d, dg.AssetsDefinition) and not isinstance(d, dg.AssetChecksDefinition)
            ],
            asset_checks=[d for d in made if isinstance(d, dg.AssetChecksDefinition)],
            resources={
                "storage": StorageResource(root=str(self.folder)),
                "display": ProgressDisplay(),
                "engine": InlineEngine(),
            },
        )

    def run(self, *assets: str, checks: bool = True, rebuild: bool = False) -> dg.ExecuteInProcessResult:
        """Launch the named assets (all where none is named), as the UI would."""
        selection = (
            dg.AssetSelection.assets(*[["toy", a] for a in assets]) if assets else dg.AssetSelection.all()
        )
        if not checks:
            selection = selection.without_checks()
        anew = {f"toy__{name}": {"config": {"rebuild": True}} for name in assets or self.lineage().stages}
        config = {"ops": anew} if rebuild else {}
        job = dg.define_asset_job("job", selection=selection, config=config)
        definitions = dg.Definitions.merge(self.definitions(), dg.Definitions(jobs=[job]))
        self.written.clear()
        self.judged = 0
        return definitions.resolve_job_def("job").execute_in_process(
            instance=self.instance, raise_on_error=False
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.instance:
        yield bench


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key
    }


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    return " ".join(str(event.event_specific_data) for event in result.all_events if event.is_step_failure)


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_run_waits_for_another_build_and_lets_go_when_it_ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ends_well: bool
) -> None:
    """It holds the dataset from its first step to its end, not step by step: between two steps another could begin."""
    bench.source = [1 if ends_well else -1]
    reasons, waits, results = list[str](), threading.Event(), list[dg.ExecuteInProcessResult]()

    def waiting(_display: ProgressDisplay, reason: str) -> None:
        reasons.append(reason)
        waits.set()

    monkeypatch.setattr(ProgressDisplay, "waiting", waiting)
    thread = threading.Thread(target=lambda: results.append(bench.run()))
    with bench.store.building(reasons.clear):
        thread.start()
        assert waits.wait(60)
        assert bench.store.latest("numbers") is None
    thread.join(60)
    assert [result.success for result in results] == [ends_well]
    assert reasons == ["another build of toy is running in this storage folder; waiting for it to end"]
    with bench.store.building(lambda: pytest.fail("the run still holds the dataset")):
        pass


def test_a_stage_computes_on_one_thread_of_algebra(bench: Bench) -> None:
    with threadpool_limits(2, user_api="blas"):
        bench.run("numbers")
    assert bench.blas_threads == {1}


def test_good_data_reaches_the_end_and_is_promoted(bench: Bench) -> None:
    result = bench.run()
    assert result.success
    assert materialised(result) == {"numbers", "doubled", "total"}
    assert bench.promoted == [12]


def test_failed_gate_stops_the_same_run_and_keeps_the_last_good_snapshot(bench: Bench) -> None:
    bench.run()
    good = bench.store.latest("numbers")
    bench.source = [1, -2]
    result = bench.run()
    assert not result.success
    assert materialised(result) == {"numbers"}
    assert bench.promoted == [12]
    assert good is not None
    assert good.table("items").collect()["value"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("asset", ["doubled", "total"])
def test_failed_gate_stops_a_later_run_of_a_downstream_asset_alone(bench: Bench, asset: str) -> None:
    """Dagster itself lets both through: ``blocking`` holds only inside one run."""
    bench.run()
    bench.source = [-1]
    bench.run("numbers")
    result = bench.run(asset)
    assert not result.success
    assert materialised(result) == set()
    assert "all_positive" in failure_text(result)


def test_gate_that_never_ran_stops_downstream(bench: Bench) -> None:
    bench.run("numbers", checks=False)
    result = bench.run("doubled")
    assert not result.success
    assert "'all_positive' has not run" in failure_text(result)


def test_running_the_missing_gate_alone_lets_downstream_through(bench: Bench) -> None:
    bench.run("numbers", checks=False)
    lineage = bench.definitions()
    checks_only = dg.Definitions.merge(
        lineage,
        dg.Definitions(jobs=[dg.define_asset_job("audit", selection=dg.AssetSelection.all_asset_checks())]),
    )
    assert checks_only.resolve_job_def("audit").execute_in_process(instance=bench.instance).success
    assert bench.run("doubled").success


def test_unbuilt_upstream_is_named(bench: Bench) -> None:
    result = bench.run("total")
    assert not result.success
    assert "numbers has never been built" in failure_text(result)


def test_mended_data_passes_again(bench: Bench) -> None:
    bench.source = [-1]
    assert not bench.run().success
    bench.source = [5]
    assert bench.run().success
    assert bench.promoted == [10]


def test_warning_does_not_stop(bench: Bench) -> None:
    bench.gate_severity = "warning"
    bench.source = [-1]
    result = bench.run()
    assert result.success
    assert [evaluation.passed for evaluation in result.get_asset_check_evaluations()] == [False]


def test_failed_gate_stops_runs_one_after_the_other(bench: Bench) -> None:
    bench.source = [-1]
    outcomes = {asset: bench.run(asset).success for asset in ("numbers", "doubled", "total")}
    assert outcomes == {"numbers": False, "doubled": False, "total": False}
    assert bench.promoted == []


def test_mixed_versions_are_refused(bench: Bench) -> None:
    """``doubled`` was made from an older ``numbers``: a release must not mix the two."""
    bench.run()
    bench.source = [4]
    bench.run("numbers")
    result = bench.run("total")
    assert not result.success
    assert "older version of numbers" in failure_text(result)


def test_a_check_alone_does_not_judge_an_older_snapshot_by_newer_inputs(bench: Bench) -> None:
    bench.run()
    bench.source = [4]
    bench.run("numbers")
    stale = bench.store.latest("doubled")
    with pytest.raises(GateError, match="doubled was made from an older version of numbers"):
        require_made_from(stale, {"numbers": bench.store.latest("numbers")})  # type: ignore[arg-type, dict-item]


@pytest.mark.parametrize("asset", ["doubled", "total"])
def test_changed_settings_stop_what_was_audited_under_others(bench: Bench, asset: str) -> None:
    """A verdict on another rule is no verdict: the release must not carry a licence nobody has judged."""
    bench.run()
    bench.config["licence"] = "MIT"
    result = bench.run(asset)
    assert not result.success
    assert materialised(result) == set()
    assert "numbers was built before licence in dataset.yaml changed" in failure_text(result)
    assert bench.run().success
    bench.config["title"] = "Settings that decide nothing stop nothing"
    assert bench.run(asset).success
