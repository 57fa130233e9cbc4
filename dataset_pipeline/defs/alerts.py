"""A sensor per dataset that tells people of failed builds and failed gates.

It reads what runs have left in Dagster's history, so that it does not matter who launched them, and whether the
daemon was running when they ended. Belongs here: which faults of a run are news, what is said of them, what has still
to be delivered. Does not belong here: how a message travels (``adapters/alerts.py``).

No message holds a row, an id or a text of the data: of a gate it has the description, the numbers and the remedy.
"""

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import dagster as dg
from dagster import DagsterEventType

from dataset_pipeline.adapters.alerts import Alert, send_mail, send_webhook
from dataset_pipeline.adapters.store import is_running
from dataset_pipeline.config import Alerts
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.defs.stage import DATASET_TAG, Dataset
from dataset_pipeline.errors import ConfigError, GateError, OutsideWorldError

UI_VARIABLE = "DATASET_PIPELINE_UI"
"""Address of the Dagster UI, set by ``dataset-pipeline dev``."""

_ENDS: Final = (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS)
_RUNS_PER_TICK: Final = 50
_REMIND_SECONDS: Final = 20 * 60 * 60  # so that a nightly build that fails again is told again
_FIRST_DELAY_SECONDS, _LAST_DELAY_SECONDS = 30.0, 3600.0
_SENDING_SECONDS: Final = 20.0  # of a tick, which has a minute

_KINDS: Final = {
    GateError.__name__: (
        "something upstream has not passed its gates",
        "Materialise what the run's log names, together with its checks",
    ),
    ConfigError.__name__: (
        "dataset.yaml or a manifest is not as expected",
        "Run: dataset-pipeline check CONFIG; it says which line",
    ),
    OutsideWorldError.__name__: (
        "the disk, the network or a permission",
        "Free what the run's log names, then launch the run again: what is finished is kept",
    ),
}
_BROKEN: Final = ("the pipeline broke", "The run's log has the error; what is finished is kept")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What went wrong with one asset in one run."""

    asset: str
    what: str
    """The gate, or the kind of error."""
    is_warning: bool
    found: str
    numbers: dict[str, float]
    to_do: str

    @property
    def key(self) -> str:
        """The same for the same fault of another run."""
        return f"{self.asset}: {self.what}"

    def line(self) -> str:
        """For people."""
        numbers = ", ".join(f"{name} {value:,.6g}" for name, value in self.numbers.items())
        kind = "warning" if self.is_warning else "failed"
        parts = [f"{self.asset}: {self.what} {kind}: {self.found}", numbers, self.to_do]
        return ". ".join(part.rstrip(".") for part in parts if part)


def alert_sensor(dataset: Dataset) -> dg.SensorDefinition:
    """Tells of the dataset's failed runs and gates: always in its own log, else as ``alerts`` says. It runs by default."""

    @dg.sensor(
        name=f"alerts_{dataset.prefix}",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people of failed builds and failed gates, as 'alerts' in dataset.yaml says.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        end_lost_runs(context.instance, dataset.prefix)
        state = json.loads(context.cursor) if context.cursor else _beginning(context.instance)
        found = list(_news(context.instance, dataset, state))
        for alert in found:
            context.log.warning(alert.text)
        _deliver(dataset.config.alerts, state, found, time.time(), context.log.warning)
        open_count = sum(map(len, state["pending"].values()))
        return dg.SensorResult(
            cursor=json.dumps(state),
            skip_reason=f"{len(found)} new, {open_count} to be delivered"
            if found or open_count
            else "no news",
        )

    return alerts


def end_lost_runs(instance: dg.DagsterInstance, prefix: str | None = None) -> int:
    """Record that runs have ended whose process is gone: killed, or switched off with the machine. Gives their number.

    Dagster would take them for running for ever, and neither build nor queue behind them. Where a launcher starts runs
    on other machines (Kubernetes, Docker), process numbers mean nothing here, and Dagster's own run monitoring asks the
    launcher. ``prefix``: of one dataset.
    """
    if instance.run_launcher.supports_check_run_worker_health:
        return 0
    open_states = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    count = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=open_states)):
        if prefix is not None and _dataset_of(instance, run) != prefix:
            continue
        started = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_START)
        process = started[-1].get_dagster_event().pid if started else None
        if process is None or is_running(process):
            continue
        message = f"process {process} of this run has ended without a word: it was killed, or the machine switched off"
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
        count += 1
    return count


# -- what is news --------------------------------------------------------------------------


def _beginning(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Nothing that ended before the first tick is news."""
    after = {}
    for event_type in _ENDS:
        newest = instance.fetch_run_status_changes(event_type, limit=1).records
        after[event_type.value] = newest[0].storage_id if newest else 0
    return {"after": after, "told": {}, "pending": {}, "delays": {}}


def _news(instance: dg.DagsterInstance, dataset: Dataset, state: dict[str, Any]) -> Iterator[Alert]:
    """Alerts of runs that have ended since ``state``, which is moved on."""
    ended = []
    for event_type in _ENDS:
        records = instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(event_type, after_storage_id=state["after"][event_type.value]),
            limit=_RUNS_PER_TICK,
            ascending=True,
        ).records
        if records:
            state["after"][event_type.value] = records[-1].storage_id
        ended += [(record.storage_id, record.run_id, record.timestamp, event_type) for record in records]
    for _, run_id, timestamp, event_type in sorted(ended, key=lambda end: end[0]):
        run = instance.get_run_by_id(run_id)
        if run is None or _dataset_of(instance, run) != dataset.prefix:
            continue
        is_failed = event_type == DagsterEventType.RUN_FAILURE
        faults, seen = _faults(instance, dataset, run, is_failed)
        told: dict[str, float] = state["told"]
        for key in [key for key in told if key.partition(": ")[0] in seen and key not in faults]:
            del told[key]  # it passed: when it fails again, that is news
        new = [
            fault
            for key, fault in faults.items()
            if key not in told or (not fault.is_warning and timestamp - told[key] >= _REMIND_SECONDS)
        ]
        told.update({fault.key: timestamp for fault in new})
        if new:
            yield _alert(dataset, run, is_failed, new)


def _faults(
    instance: dg.DagsterInstance, dataset: Dataset, run: dg.DagsterRun, is_failed: bool
) -> tuple[dict[str, Fault], set[str]]:
    """Faults of a run by key, and the assets that something is known of."""
    wanted = {
        DagsterEventType.ASSET_CHECK_EVALUATION,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_OBSERVATION,
    }
    gates: dict[tuple[str, str], Fault | None] = {}
    errors: dict[str, Fault] = {}
    seen = set[str]()
    for entry in instance.all_logs(run.run_id, of_type=wanted):
        event = entry.get_dagster_event()
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            name = evaluation.asset_key.path[-1]
            seen.add(name)
            gates[name, evaluation.check_name] = (
                None if evaluation.passed else _failed_gate(dataset, evaluation)
            )
        elif event.event_type == DagsterEventType.STEP_FAILURE:
            fault = _failed_step(event)
            errors[fault.asset] = fault
        elif event.asset_key is not None:
            seen.add(event.asset_key.path[-1])
    found = [fault for fault in gates.values() if fault is not None]
    stopped = {fault.asset for fault in found if not fault.is_warning}
    found += [fault for asset, fault in errors.items() if asset not in stopped]
    if is_failed and all(fault.is_warning for fault in found):
        found.append(
            Fault(
                "the run", "ended", False, "its process was killed, or could not be started", {}, _BROKEN[1]
            )
        )
    elif not is_failed:
        seen.add("the run")
    return {fault.key: fault for fault in found}, seen | set(errors)


def _failed_gate(dataset: Dataset, evaluation: Any) -> Fault:
    """Its rule and its numbers; the sentence with what was found may name items."""
    asset = evaluation.asset_key.path[-1]
    stage = lineage(dataset).stages.get(asset)
    gate = next((gate for gate in stage.gates if gate.name == evaluation.check_name), None) if stage else None
    return Fault(
        asset,
        evaluation.check_name,
        not evaluation.blocking,
        gate.description if gate else "",
        {name: v.value for name, v in evaluation.metadata.items() if isinstance(v.value, (int, float))},
        gate.remedy if gate else "",
    )


def _failed_step(event: Any) -> Fault:
    """Of an error its kind alone is told: its words may quote the data."""
    asset = str(event.step_key).partition("__")[2].removesuffix("__gates")
    failure = event.step_failure_data.user_failure_data
    kind = str(failure.metadata["kind"].value) if failure and "kind" in failure.metadata else None
    error = event.step_failure_data.error
    found, to_do = _KINDS.get(str(kind), _BROKEN)
    return Fault(asset, kind or str(error.cls_name if error else "error"), False, found, {}, to_do)


def _alert(dataset: Dataset, run: dg.DagsterRun, is_failed: bool, faults: list[Fault]) -> Alert:
    name = dataset.config.name
    first = next((fault for fault in faults if not fault.is_warning), faults[0])
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    subject = f"{name}: {'failed' if is_failed else 'warning'}: {first.key}{more}"
    base = dataset.config.alerts.ui or os.environ.get(UI_VARIABLE)
    address = f"{base.rstrip('/')}/runs/{run.run_id}" if base else None
    after = (
        "Nothing was released by this run; the previous release, if there is one, is untouched"
        if is_failed
        else "Warnings stop nothing"
    )
    return Alert(
        id=run.run_id,
        dataset=name,
        subject=subject,
        lines=(*(fault.line() for fault in faults), after, f"Run: {address or run.run_id}"),
        facts={
            "run": run.run_id,
            "run_url": address,
            "is_failed": is_failed,
            "faults": [dataclasses.asdict(fault) for fault in faults],
        },
    )


def _dataset_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Prefix of the dataset that a run works on."""
    if DATASET_TAG in run.tags:
        return run.tags[DATASET_TAG]
    keys = [*(run.asset_selection or ()), *(key.asset_key for key in run.asset_check_selection or ())]
    if not keys:
        planned = {
            DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
            DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
        }
        for entry in instance.all_logs(run.run_id, of_type=planned):
            event = entry.get_dagster_event()
            is_check = event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
            key = event.asset_check_planned_data.asset_key if is_check else event.asset_key
            keys += [key] if key is not None else []
    return min(key.path[0] for key in keys) if keys else None


# -- delivery ------------------------------------------------------------------------------


def _deliver(
    alerts: Alerts, state: dict[str, Any], found: Iterable[Alert], now: float, log: Callable[[str], None]
) -> None:
    """Send what is pending and what is ``found``, in order; what cannot be sent now stays in ``state``.

    A channel that fails is tried again later and later, up to once an hour. Only where this process is killed between
    a delivery and the end of the tick does a message arrive twice, with the same ``id``.
    """
    channels: dict[str, Callable[[Alert], Sequence[str]]] = {}
    if alerts.webhook is not None:
        channels["webhook"] = functools.partial(send_webhook, webhook=alerts.webhook)
    if alerts.email is not None:
        channels["email"] = functools.partial(send_mail, mail=alerts.email)
    new = [dataclasses.asdict(alert) for alert in found]
    queues = {name: [*state["pending"].get(name, []), *new] for name in channels}
    started = time.monotonic()
    for name, send in channels.items():
        delay, not_before = state["delays"].get(name, (0.0, 0.0))
        while queues[name] and now >= not_before and time.monotonic() - started < _SENDING_SECONDS:
            alert = Alert(**queues[name][0])
            try:
                refused = send(alert)
            except OutsideWorldError as error:
                delay = min(max(2 * delay, _FIRST_DELAY_SECONDS), _LAST_DELAY_SECONDS)
                not_before = now + delay
                log(f"{error}; {len(queues[name])} alerts wait, to be tried again in {delay:,.0f} s")
            else:
                delay, not_before = 0.0, 0.0
                queues[name].pop(0)
                if refused:
                    log(f"alerts.email: the server does not take mail for {', '.join(refused)}")
        state["delays"][name] = (delay, not_before)
    state["pending"] = {name: queue for name, queue in queues.items() if queue}
    state["delays"] = {name: delay for name, delay in state["delays"].items() if name in channels}
