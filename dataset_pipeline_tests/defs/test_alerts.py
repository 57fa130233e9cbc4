"""Who is told of what: each fault once, with numbers and without data, also after the webhook was down."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType

from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.defs import alerts
from dataset_pipeline.defs.alerts import UI_VARIABLE, alert_sensor, end_lost_runs
from dataset_pipeline_tests.adapters.hosts.receivers import Receiver, mail_server, webhook
from dataset_pipeline_tests.building import Bench, bench
from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest


class Ticks:
    """The sensor as the daemon calls it: again and again, with the cursor that it left."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.cursor: str | None = None

    def tick(self) -> str:
        """What the tick says of itself."""
        sensor = alert_sensor(load_dataset(self.bench.config_path))
        context = dg.build_sensor_context(self.bench.instance, cursor=self.cursor)
        data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        assert data.skip_message is not None
        return data.skip_message


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with webhook() as received:
        yield received


@pytest.fixture
def small(tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A dataset whose alerts go to the hook, with a clock that stands still."""
    monkeypatch.setenv("ALERTS_URL", f"http://127.0.0.1:{hook.port}/s3cret")
    monkeypatch.delenv(UI_VARIABLE, raising=False)
    config = write_dataset(tmp_path / "source", alerts={"webhook": {"url_variable": "ALERTS_URL"}})
    with bench(config, tmp_path / "storage") as made:
        yield made


def write(bench: Bench, *, same_ids: int = 0, labels: bool = True) -> None:
    """The manifest with so many rows of one id, or without labels."""
    items = rows()
    for item in items[:same_ids]:
        item["id"] = "ada-lovelace"
    for item in items:
        item["kind"] = item["kind"] if labels else ""
    write_manifest(bench.config_path.parent / "items.csv", items)


def subjects(hook: Receiver) -> list[str]:
    return [document["subject"] for document in hook.documents]


FAILED = "small: failed: raw_texts: item_ids_unique"
WARNED = "small: warning: raw_texts: labels_present"


def test_what_is_told_when(small: Bench, hook: Receiver) -> None:
    write(small, same_ids=3)
    small.run("raw_texts")
    ticks = Ticks(small)
    assert ticks.tick() == "no news", "what failed before anybody looked is no news"
    write(small)
    small.run("raw_texts")
    assert ticks.tick() == "no news"

    write(small, same_ids=3)
    small.run("raw_texts")
    small.run("raw_texts")
    assert ticks.tick() == "1 new, 0 to be delivered", "the same fault twice is told once"
    assert ticks.tick() == "no news"
    assert subjects(hook) == [FAILED]

    write(small)
    small.run("raw_texts")
    ticks.tick()
    write(small, same_ids=3)
    small.run("raw_texts")
    ticks.tick()
    assert subjects(hook) == [FAILED] * 2, "it had passed in between: that it fails again is news"

    write(small, labels=False)
    small.run("raw_texts")
    small.run("raw_texts")
    ticks.tick()
    assert subjects(hook)[2:] == [WARNED], "a warning that stays is told once"


def test_a_failure_that_lasts_is_told_again_the_next_night_and_a_warning_is_not(
    small: Bench, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks(small)
    ticks.tick()
    monkeypatch.setattr(alerts, "_REMIND_SECONDS", 0)
    for faults in ({"same_ids": 3}, {"same_ids": 3}, {"labels": False}, {"labels": False}):
        write(small, **faults)  # type: ignore[arg-type]
        small.run("raw_texts")
        ticks.tick()
    assert subjects(hook) == [FAILED, FAILED, WARNED]


def test_the_message_has_rule_numbers_remedy_and_link_and_no_data(
    small: Bench, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks(small)
    ticks.tick()
    monkeypatch.setenv(UI_VARIABLE, "http://127.0.0.1:3000")
    write(small, same_ids=3)
    run = small.run("raw_texts").run_id
    ticks.tick()
    [document] = hook.documents
    lines = document["text"].splitlines()
    assert lines[0] == FAILED
    assert lines[1].startswith(
        "raw_texts: item_ids_unique failed: No two rows share an id, within a source or across sources. "
    )
    assert "unexpected 3" in lines[1].replace("_count", "").replace("_rows", "")
    assert lines[1].endswith(
        "Make the ids unique in the manifest, or drop columns.item_id to number the rows"
    )
    assert lines[2:] == [
        "Nothing was released by this run; the previous release, if there is one, is untouched",
        f"Run: http://127.0.0.1:3000/runs/{run}",
    ]
    assert (document["run"], document["is_failed"]) == (run, True)
    assert "ada-lovelace" not in json.dumps(document)


def test_an_error_is_told_by_its_kind(small: Bench, hook: Receiver) -> None:
    """Its words may quote the data: a manifest's cell, a file that is named after a person."""
    ticks = Ticks(small)
    ticks.tick()
    (small.config_path.parent / "items.csv").rename(small.config_path.parent / "ada-lovelace.csv")
    small.run("raw_texts")
    ticks.tick()
    [document] = hook.documents
    assert document["subject"] == "small: failed: raw_texts: ConfigError"
    assert "dataset-pipeline check" in document["text"]
    assert "csv" not in document["text"]


def test_a_webhook_that_is_down_loses_nothing_and_doubles_nothing(
    small: Bench, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(alerts.time, "time", lambda: now)
    ticks = Ticks(small)
    ticks.tick()
    hook.status = 503
    write(small, same_ids=3)
    first = small.run("raw_texts").run_id
    assert ticks.tick() == "1 new, 1 to be delivered"
    write(small, labels=False)
    second = small.run("raw_texts").run_id
    assert ticks.tick() == "1 new, 2 to be delivered"
    hook.status = 200
    assert ticks.tick() == "0 new, 2 to be delivered", "it is not asked again at once"
    now += 60
    assert ticks.tick() == "no news"
    assert ticks.tick() == "no news"
    assert [document["id"] for document in hook.documents] == [first, second]


def test_one_channel_does_not_wait_for_the_other(tmp_path: Path, hook: Receiver) -> None:
    hook.status = 500
    with mail_server() as mails:
        mail = {
            "host": "127.0.0.1",
            "port": mails.port,
            "security": "none",
            "sender": "a@x.org",
            "to": ["b@x.org"],
        }
        config = write_dataset(
            tmp_path / "source", alerts={"webhook": {"url": f"http://127.0.0.1:{hook.port}/"}, "email": mail}
        )
        with bench(config, tmp_path / "storage") as small:
            ticks = Ticks(small)
            ticks.tick()
            write(small, same_ids=3)
            small.run("raw_texts")
            assert ticks.tick() == "1 new, 1 to be delivered"
            assert ticks.tick() == "0 new, 1 to be delivered"
    assert [mail["Subject"] for mail in mails.mails] == [FAILED]
    assert hook.documents == []


def test_another_dataset_is_none_of_its_business(small: Bench, tmp_path: Path, hook: Receiver) -> None:
    ticks = Ticks(small)
    ticks.tick()
    other = Bench(write_dataset(tmp_path / "other", name="other"), small.storage, small.instance)
    write(other, same_ids=3)
    other.run("raw_texts")
    assert ticks.tick() == "no news"


def test_a_run_whose_process_is_gone_has_failed_and_is_told(
    small: Bench, hook: Receiver, tmp_path: Path
) -> None:
    """Otherwise it would count as running for ever: nothing would be built after changes, and the queue would wait."""
    ticks = Ticks(small)
    ticks.tick()
    lost = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    job = small.definitions().resolve_job_def("build_small")
    runs = {}
    for name, process in (("lost", int(lost.stdout)), ("running", None)):
        runs[name] = small.instance.create_run_for_job(job, tags=job.run_tags).run_id
        run = small.instance.get_run_by_id(runs[name])
        assert run is not None
        started = dg.DagsterEvent(DagsterEventType.RUN_START.value, job.name, pid=process)
        small.instance.report_dagster_event(started, run.run_id)
    ticks.tick()
    states: dict[str, Any] = {name: small.instance.get_run_by_id(run) for name, run in runs.items()}
    assert {name: run.status for name, run in states.items()} == {
        "lost": dg.DagsterRunStatus.FAILURE,
        "running": dg.DagsterRunStatus.STARTED,
    }
    assert subjects(hook) == ["small: failed: the run: ended"]
    assert end_lost_runs(small.instance) == 0


def test_processes_of_other_machines_are_not_looked_for(
    small: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number that a run has in its own container means nothing in this one."""
    run_id = small.instance.create_run_for_job(small.definitions().resolve_job_def("build_small")).run_id
    run = small.instance.get_run_by_id(run_id)
    assert run is not None
    small.instance.report_dagster_event(
        dg.DagsterEvent(DagsterEventType.RUN_START.value, "build_small", pid=2**22 + 1), run_id
    )
    launcher = type(small.instance.run_launcher)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(launcher, "supports_check_run_worker_health", True)
        assert end_lost_runs(small.instance) == 0
    assert end_lost_runs(small.instance) == 1
