"""Dagster's own daemon: a picture changes, and exactly what depends on it is built. And runs launched again from failure."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType
from dagster._core.definitions.observe import observe
from dagster._core.instance.ref import InstanceRef

from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.store import Store
from dataset_pipeline.commands.build import dagster_home
from dataset_pipeline.definitions import (
    CONFIGS_VARIABLE,
    STORAGE_VARIABLE,
    dataset_definitions,
    load_dataset,
)
from dataset_pipeline.defs import assets
from dataset_pipeline.defs.assets import source_assets
from dataset_pipeline.defs.stage import StorageResource, Work
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline_tests.building import Bench, bench
from dataset_pipeline_tests.command_line import PATIENCE_SECONDS, end_session, processes_of_session
from dataset_pipeline_tests.defs.test_definitions import MAIN_LINE
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import write_dataset

ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def until(happens: Callable[[], Any], what: str, process: subprocess.Popen[Any]) -> Any:
    """What ``happens`` gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := happens()):
        assert process.poll() is None, "the daemon has ended"
        assert time.monotonic() < deadline, f"{what} has not happened"
        time.sleep(0.2)
    return found


@contextlib.contextmanager
def history(storage: Path) -> Iterator[dg.DagsterInstance]:
    """What ``dev`` and the command line share."""
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(dagster_home(storage)))) as instance:
        yield instance


@contextlib.contextmanager
def daemon(configs: list[Path], storage: Path) -> Iterator[subprocess.Popen[Any]]:
    """The daemon on these datasets, as ``dev`` starts it, less the web server."""
    home = dagster_home(storage)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DAGSTER")},
        "DAGSTER_HOME": str(home),
        CONFIGS_VARIABLE: os.pathsep.join(map(str, configs)),
        STORAGE_VARIABLE: str(storage),
    }
    call = [sys.executable, "-m", "dagster._daemon", "run", "--module-name", "dataset_pipeline.definitions"]
    with (storage / "log").open("w") as log:
        process = subprocess.Popen(call, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            end_session(process)


# The instance in this process warns of what is its daemon's business.
@pytest.mark.filterwarnings("ignore:Function `observable_source_asset`")
def test_a_changed_picture_builds_its_dataset_and_no_other(tmp_path: Path) -> None:
    """The run waits for a build that is going on already. In the other dataset a manifest is touched, which is no change."""
    configs = [
        write_dataset(tmp_path / name, name=name, automation={"build_after_changes": True})
        for name in ("small", "second")
    ]
    storage = tmp_path / "storage"
    store = Store(storage, "small")

    def look(instance: dg.DagsterInstance) -> None:
        for config in configs:
            resources = {"storage": StorageResource(root=str(storage))}
            assert observe(
                source_assets(load_dataset(config)), resources=resources, instance=instance
            ).success

    def builds(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
        return list(instance.get_runs(dg.RunsFilter(tags={"dataset": ["small", "second"]})))

    with history(storage) as instance, contextlib.ExitStack() as ending:
        look(instance)  # before the first tick: what is seen for the first time then would be news
        process = ending.enter_context(daemon(configs, storage))
        until(
            lambda: {
                state.instigator_name
                for state in instance.all_instigator_state()
                if state.instigator_name.startswith("source_changes_")
                and getattr(state.instigator_data, "last_tick_timestamp", None)
            }
            == {"source_changes_small", "source_changes_second"},
            "the first tick of both sensors", process,
        )  # fmt: skip
        look(instance)
        assert builds(instance) == []

        os.utime(tmp_path / "second" / "items.csv", (0, 0))
        (tmp_path / "small" / "images" / "00.png").write_bytes(encoded(picture(99)))
        with store.building(lambda: pytest.fail("nobody builds")):
            look(instance)
            [run] = until(lambda: builds(instance), "a run", process)
            until(
                lambda: any(
                    "waiting for it to end" in entry.user_message for entry in instance.all_logs(run.run_id)
                ),
                "that the run waits", process,
            )  # fmt: skip
        until(lambda: instance.get_run_by_id(run.run_id).status in ENDED, "the end of the run", process)  # type: ignore[union-attr]
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
        assert run.tags["dataset"] == "small"
        built = {
            tuple(entry.get_dagster_event().asset_key.path)  # type: ignore[union-attr]
            for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
        }
        assert built == {("small", asset) for asset in MAIN_LINE}
        assert len(builds(instance)) == 1
        assert (store.releases / "1.0.0").is_dir()
        assert not (Store(storage, "second").folder / "snapshots").exists()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := processes_of_session(process.pid):
        assert time.monotonic() < deadline, f"still running after the daemon: {left}"
        time.sleep(0.2)


def build_job(config: str, storage: str) -> dg.JobDefinition:
    """The job that the UI launches again, for Dagster to find by name."""
    definitions = dataset_definitions([load_dataset(config)], storage, engine=InlineEngine())
    return definitions.resolve_job_def("build_small")


def test_run_again_from_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk was full: what had passed its gates is not done again, and the release is that of one whole run."""
    config = write_dataset(tmp_path / "source")
    job = dg.build_reconstructable_job(__name__, "build_job", (str(config), str(tmp_path / "storage")))
    split = assets.build_train_test_split

    is_full = True

    def filling(work: Work) -> None:
        if is_full:
            raise OutsideWorldError("no space left", hint="Free some")
        split(work)

    with bench(config, tmp_path / "storage") as small:
        monkeypatch.setattr(assets, "build_train_test_split", filling)
        first = dg.execute_job(job, small.instance)
        assert not first.success
        assert not small.release.exists()
        is_full = False
        options = dg.ReexecutionOptions.from_failure(first.run_id, small.instance)
        second = dg.execute_job(job, small.instance, reexecution_options=options)
        assert second.success
        done = {e.step_key for e in second.all_events if e.is_step_success}
        assert done == {
            f"small__{asset}{part}"
            for asset in MAIN_LINE[MAIN_LINE.index("train_test_split") :]
            for part in ("", "__gates")
        } - {"small__clip_baselines__gates"}
        assert small.release.is_dir()
        whole = Bench(config, tmp_path / "whole", small.instance)
        assert whole.run().success
        assert (whole.release / "metadata" / "items.parquet").read_bytes() == (
            small.release / "metadata" / "items.parquet"
        ).read_bytes()
