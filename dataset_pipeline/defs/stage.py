"""How a stage becomes a Dagster asset with gates.

One mechanism for every asset: read audited snapshots, call the stage's functions, write a
snapshot, say what happened; then run the gates on that snapshot and remember their verdicts.
Does not belong here: which stages there are (``assets.py``) and what a gate asks (``checks.py``).
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from dataset_pipeline.adapters.cache import (
    Progress,
    ResultCache,
    code_version,
    program_version,
    settings_version,
)
from dataset_pipeline.adapters.engine import Engine, engine_named, one_thread_of_algebra
from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.adapters.store import Snapshot, SnapshotWriter, Store, Verdict, require_made_from
from dataset_pipeline.config import DatasetConfig, asset_prefix
from dataset_pipeline.defs import automation, columns, metadata
from dataset_pipeline.errors import DatasetPipelineError
from dataset_pipeline.stages.diff import TableChanges, table_changes
from dataset_pipeline.stages.gates import Outcome, Severity

OWNERS = ["team:dataset"]
DATASET_TAG = "dataset"
"""Tag of a run: the prefix of the dataset that it works on. At most one such run is taken from the queue at a time."""
HEAVY_POOL = "heavy"
"""Pool of the stages that use every core and much memory: runs with one of them are taken from the queue one by one."""
_LOG_EVERY_SECONDS = 5.0
COLUMNS_OF_SOURCES = "columns_of_sources"
"""Name of the fact that says which columns the sources' manifests have."""


class StorageResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where snapshots, caches and releases of all datasets are."""

    root: str = "storage"
    _held: ExitStack = PrivateAttr(default_factory=ExitStack)
    _building: dict[str, Store] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - the base class names it
        """Begin a run, which holds nothing yet."""
        self._held, self._building = ExitStack(), {}

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - the base class names it
        """End a run: other builds of its datasets may begin."""
        self._held.close()

    def to_build(self, dataset: str, waiting: Callable[[], None]) -> Store:
        """The store of ``dataset``, which this run alone builds from now on until it ends; see ``Store.building``."""
        if dataset not in self._building:
            store = open_store(self.root, dataset)
            self._held.enter_context(store.building(waiting))
            self._building[dataset] = store
        return self._building[dataset]


class EngineResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where per-item work runs: processes of this machine, or Ray tasks here or on a cluster."""

    engine: str = "local"
    ray_address: str | None = None

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Engine]:  # noqa: ARG002 - the base's
        """The engine, for the time of a run; it starts when it is first used."""
        with explained():
            made = engine_named(self.engine, self.ray_address)
        try:
            yield made
        finally:
            made.close()


class Launch(dg.Config):
    """What a person may say for one launch of an asset."""

    rebuild: bool = Field(
        default=False,
        description="Compute the asset and judge it again, although everything it is made of is as it was. Without this, "
        "an asset whose inputs, settings and program have not changed keeps its snapshot and its passed checks. "
        "Results of single items come from the cache in either case; 'dataset-pipeline gc' deletes those.",
    )


class ProgressDisplay:
    """Receives progress and shows none of it; the command line puts one in its place that does."""

    def waiting(self, reason: str) -> None:
        """Nothing happens until what ``reason`` names has ended."""

    def started(self, asset: str) -> None:
        """The work on an asset begins."""

    def finished(self, asset: str, outcome: str) -> None:
        """An asset is written; ``outcome`` says in a few words what came out."""

    def checked(self, asset: str, passed: int, failed: int) -> None:
        """So many gates of an asset passed and failed."""

    def update(self, asset: str, label: str, done: int, total: int) -> None:
        """``done`` of ``total`` units of ``label`` are finished."""


@dataclass(frozen=True)
class Dataset:
    """A ``dataset.yaml`` and the folder its relative paths start from."""

    config: DatasetConfig
    base: Path
    path: Path | None = None
    """The file itself, where it came from one."""

    @property
    def prefix(self) -> str:
        """First part of the dataset's asset keys."""
        return asset_prefix(self.config.name)

    @property
    def run_tags(self) -> dict[str, str]:
        """Tags of every run that builds the dataset."""
        return {DATASET_TAG: self.prefix}

    def key(self, asset: str) -> dg.AssetKey:
        """Dagster's key of one of the dataset's assets."""
        return dg.AssetKey([self.prefix, asset])


@dataclass(frozen=True)
class Work:
    """What a stage's body gets: settings, audited inputs, and somewhere to write."""

    dataset: Dataset
    inputs: Mapping[str, Snapshot]
    writer: SnapshotWriter
    cache: ResultCache
    engine: Engine
    progress: Callable[[str], Progress]
    run_id: str
    store: Store
    verdicts: Sequence[Mapping[str, Any]]
    """Every gate that the assets upstream have passed or, where it is no blocking one, failed."""

    @property
    def config(self) -> DatasetConfig:
        """The dataset's configuration."""
        return self.dataset.config


@dataclass(frozen=True)
class Audit:
    """What a gate gets: the snapshot in question, and the audited snapshots it was made from."""

    dataset: Dataset
    snapshot: Snapshot
    inputs: Mapping[str, Snapshot]


@dataclass(frozen=True)
class Gate:
    """One check of one asset. A critical one stops everything downstream."""

    name: str
    description: str
    severity: Severity
    judge: Callable[[Audit], Outcome]
    remedy: str = ""

    @property
    def is_blocking(self) -> bool:
        """Whether a failure stops what follows."""
        return self.severity == "critical"


@dataclass(frozen=True)
class Stage:
    """One asset of the main line."""

    name: str
    group: str
    kinds: frozenset[str]
    description: str
    reads: tuple[str, ...]
    body: Callable[[Work], None]
    gates: tuple[Gate, ...]
    modules: tuple[ModuleType, ...] = field(default=(), repr=False)
    """Modules whose code decides the result; their text is the asset's code version."""
    settings: tuple[str, ...] = ()
    """Sections of ``dataset.yaml`` that decide about the result or its gates: where one has changed since the
    asset was built, nothing downstream may read it. What is decided upstream is asked for there."""
    reads_besides: Callable[[Dataset, Store], Mapping[str, str]] | None = None
    """Fingerprints of what the body reads that is neither an asset nor a setting; kept and asked for like settings."""
    made_from: Callable[[Dataset, Store], Mapping[str, str]] | None = None
    """Fingerprints of everything else that decides about what the body writes: other sections of ``dataset.yaml``,
    files, releases. Where they, the inputs, the settings and the program are what they were, the snapshot is kept.
    None where nobody can say: then it is written anew every time."""
    main_table: str | None = None
    """The Parquet table that people mean when they ask how many rows the asset has."""
    origins: Callable[[DatasetConfig, columns.Manifests], columns.Origins] | None = None
    """Where the columns of the main table come from."""
    observes: tuple[str, ...] = ()
    """Source assets that it reads directly, beside the sources of assets that read nothing else."""
    is_heavy: bool = False
    """Whether it decodes pictures or runs models on all of them."""
    is_private: bool = False
    """Whether texts may still hold personal data: then no sample of them is shown."""
    promote: Callable[[Dataset, Store, Snapshot], None] | None = None
    """Called when the snapshot has passed every blocking gate."""

    @property
    def blocking_gates(self) -> frozenset[str]:
        """Names of the gates that must have passed before anything reads the asset."""
        return frozenset(gate.name for gate in self.gates if gate.is_blocking)


class Lineage:
    """The stages of one dataset and what each of them reads."""

    def __init__(self, dataset: Dataset, stages: tuple[Stage, ...]) -> None:
        self.dataset = dataset
        self.stages = {stage.name: stage for stage in stages}

    def audited_inputs(self, store: Store, stage: Stage) -> dict[str, Snapshot]:
        """Audited snapshots of everything ``stage`` reads.

        Raises ``GateError`` where any asset upstream, near or far, has no snapshot, or has one
        with a blocking gate that failed or has not run, or one that was made under other settings.
        """
        audited = {
            name: store.audited(
                name, self.stages[name].blocking_gates, self.settings(self.stages[name], store)
            )
            for name in self.upstream(stage)
        }
        return {name: audited[name] for name in stage.reads}

    def settings(self, stage: Stage, store: Store) -> dict[str, str]:
        """Section -> fingerprint of the settings, and of whatever else, that decide about ``stage``."""
        config = self.dataset.config.model_dump(mode="json")
        besides = stage.reads_besides(self.dataset, store) if stage.reads_besides else {}
        return {**{name: settings_version(config[name]) for name in stage.settings}, **besides}

    def made_from(
        self, store: Store, stage: Stage, inputs: Mapping[str, Snapshot], settings: Mapping[str, str]
    ) -> str | None:
        """Fingerprint of everything that decides about a snapshot of ``stage`` and about its gates' verdicts.

        None where the stage cannot say what it reads.
        """
        if stage.made_from is None:
            return None
        return settings_version(
            program_version(),
            {name: snapshot.id for name, snapshot in inputs.items()},
            settings,
            stage.made_from(self.dataset, store),
            self._verdicts(store, stage),
        )

    def nearest_reads(self, stage: Stage) -> list[str]:
        """What ``stage`` reads, less what it also reaches through another of its inputs.

        This is the lineage that people see: the main line without short cuts. The order of runs is
        the same, and :meth:`audited_inputs` asks for every asset upstream in any case.
        """
        further = {name for read in stage.reads for name in self.upstream(self.stages[read])}
        return [name for name in stage.reads if name not in further]

    def upstream(self, stage: Stage) -> list[str]:
        """Every asset upstream of ``stage``, in the order of the pipeline."""
        wanted, open_names = set[str](), list(stage.reads)
        while open_names:
            name = open_names.pop()
            if name not in wanted:
                wanted.add(name)
                open_names.extend(self.stages[name].reads)
        return [name for name in self.stages if name in wanted]

    def _verdicts(self, store: Store, stage: Stage) -> list[dict[str, Any]]:
        """What the gates upstream of ``stage`` found, in the order of the pipeline."""
        found = []
        for name in self.upstream(stage):
            verdicts = store.audit(name)
            found += [
                {
                    "asset": name,
                    "check": gate.name,
                    "passed": verdicts[gate.name].is_passed,
                    "severity": gate.severity,
                    "summary": verdicts[gate.name].summary,
                }
                for gate in self.stages[name].gates
                if gate.name in verdicts
            ]
        return found

    def definitions(self) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
        """Every stage as an asset, and its gates as asset checks."""
        program_version()  # of what was loaded, whatever is installed while it runs
        made: list[dg.AssetsDefinition | dg.AssetChecksDefinition] = []
        for stage in self.stages.values():
            made.append(self._asset(stage))
            if stage.gates:
                made.append(self._checks(stage))
        return made

    def _asset(self, stage: Stage) -> dg.AssetsDefinition:
        dataset = self.dataset
        sources = [dataset.key(name) for name in stage.observes]
        if not stage.reads:
            sources += [dataset.key(f"source_{source.id}") for source in dataset.config.sources]

        @dg.asset(
            key=dataset.key(stage.name),
            deps=[*sources, *(dataset.key(name) for name in self.nearest_reads(stage))],
            group_name=stage.group,
            kinds=set(stage.kinds),
            owners=OWNERS,
            description=stage.description,
            code_version=code_version(*stage.modules),
            metadata=metadata.of_code(stage.body, stage.modules, dataset.path),
            automation_condition=automation.build_after_changes(sources),
            pool=HEAVY_POOL if stage.is_heavy else None,
            required_resource_keys={"storage", "display", "engine"},
        )
        def materialise(context: dg.AssetExecutionContext, config: Launch) -> dg.MaterializeResult[Any]:
            display: ProgressDisplay = context.resources.display
            with explained(), one_thread_of_algebra():
                name = dataset.config.name
                store = context.resources.storage.to_build(name, _waiting(context, name))
                store.sweep()
                display.started(stage.name)
                inputs = self.audited_inputs(store, stage)
                settings = self.settings(stage, store)
                made_from = self.made_from(store, stage, inputs, settings)
                is_kept = (
                    made_from is not None
                    and not config.rebuild
                    and store.keep(stage.name, made_from, inputs, context.run.run_id)
                )
                before, changes = _comparable(store, stage), None
                cache = ResultCache(store.cache, store.remote)
                if is_kept:
                    cache.mark_used(store.cached(stage.name))
                else:
                    with store.writing(stage.name, inputs, settings, context.run.run_id, made_from) as writer:
                        stage.body(
                            Work(
                                dataset=dataset,
                                inputs=inputs,
                                writer=writer,
                                cache=cache,
                                engine=context.resources.engine,
                                progress=_progress(context, stage.name),
                                run_id=context.run.run_id,
                                store=store,
                                verdicts=self._verdicts(store, stage),
                            )
                        )
                        writer.cached = tuple(sorted(cache.asked_for))
                        changes = _changes(stage, before, Snapshot(stage.name, "", writer.folder))
                    cache.send_files()
            snapshot = store.latest(stage.name)
            if snapshot is None:
                raise RuntimeError(f"{stage.name} was written but cannot be read back from {store.folder}")
            if not stage.blocking_gates and stage.promote is not None:
                stage.promote(dataset, store, snapshot)
            shown = {
                **metadata.of_snapshot(
                    snapshot,
                    stage.main_table,
                    is_private=stage.is_private,
                    origins=stage.origins
                    and stage.origins(dataset.config, snapshot.facts.get(COLUMNS_OF_SOURCES, {})),
                    key=dataset.key,
                ),
                **metadata.of_changes(changes, before),
                "is_kept": is_kept,
            }
            display.finished(stage.name, metadata.outcome_line(shown))
            return dg.MaterializeResult(data_version=dg.DataVersion(snapshot.id), metadata=shown)

        return materialise

    def _checks(self, stage: Stage) -> dg.AssetChecksDefinition:
        dataset, config = self.dataset, self.dataset.config
        gates = {gate.name: gate for gate in stage.gates}
        key = dataset.key(stage.name)

        @dg.multi_asset_check(
            name=f"{dataset.prefix}__{stage.name}__gates",
            specs=[
                dg.AssetCheckSpec(
                    gate.name,
                    asset=key,
                    description=gate.description,
                    blocking=gate.is_blocking,
                    metadata={"severity": gate.severity},
                )
                for gate in stage.gates
            ],
            can_subset=True,
            required_resource_keys={"storage", "display"},
        )
        def audit(context: dg.AssetCheckExecutionContext) -> Any:
            with explained(), one_thread_of_algebra():
                store = context.resources.storage.to_build(config.name, _waiting(context, config.name))
                snapshot = store.latest(stage.name)
                if snapshot is None:
                    raise DatasetPipelineError(
                        f"{stage.name} has never been built", hint=f"Materialise {stage.name} first"
                    )
                inputs = self.audited_inputs(store, stage)
                require_made_from(snapshot, inputs)
                selected = sorted(check_key.name for check_key in context.selected_asset_check_keys)
                kept = store.kept_verdicts(stage.name, context.run.run_id)
                made_from = store.made_from(stage.name)
                outcomes = {
                    name: Outcome(True, kept[name].summary, kept[name].numbers)
                    if name in kept
                    else gates[name].judge(Audit(dataset=dataset, snapshot=snapshot, inputs=inputs))
                    for name in gates
                    if name in selected
                }
                store.record_audit(
                    snapshot,
                    [
                        Verdict(
                            name, outcome.is_passed, gates[name].is_blocking, outcome.summary, outcome.numbers,
                            made_from,
                        )
                        for name, outcome in outcomes.items()
                    ],
                    stage.blocking_gates,
                )  # fmt: skip
                audited = store.audit(stage.name)
                if stage.promote is not None and all(
                    name in audited and audited[name].is_passed for name in stage.blocking_gates
                ):
                    stage.promote(dataset, store, snapshot)
            passed = sum(outcome.is_passed for outcome in outcomes.values())
            context.resources.display.checked(stage.name, passed, len(outcomes) - passed)
            for name, outcome in outcomes.items():
                gate = gates[name]
                if not outcome.is_passed:
                    context.log.warning(f"{stage.name}: {name} failed: {outcome.summary}")
                yield dg.AssetCheckResult(
                    asset_key=key,
                    check_name=name,
                    passed=outcome.is_passed,
                    severity=dg.AssetCheckSeverity.ERROR if gate.is_blocking else dg.AssetCheckSeverity.WARN,
                    description=outcome.summary,
                    metadata=metadata.of_outcome(outcome, snapshot.id, gate.description, gate.remedy)
                    | {"is_kept": name in kept},
                )

        return audit


class explained:  # noqa: N801 - reads as a verb in a with statement
    """Ends the step with one clear line where the fault is the user's or the world's, not ours.

    Dagster shows the message above the stack; the command line shows the message alone.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, DatasetPipelineError):
            raise dg.Failure(
                description=str(error),
                metadata={"exit_status": error.exit_status, "kind": type(error).__name__},
                allow_retries=False,
            ) from error


def _waiting(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, dataset: str
) -> Callable[[], None]:
    """Says, to whoever looks at the run or started it, what it waits for."""

    def say() -> None:
        reason = f"another build of {dataset} is running in this storage folder; waiting for it to end"
        context.log.info(reason)
        context.resources.display.waiting(reason)

    return say


_KEYS = ("item_id", "image_ref", "label", "model")
"""Columns by which rows of a main table are found again, the first that is there."""


def _comparable(store: Store, stage: Stage) -> Snapshot | None:
    """The version before, where its main table is there and undamaged."""
    before = store.latest(stage.name)
    if before is None or stage.main_table is None or not store.is_whole(before, stage.main_table):
        return None
    return before


def _changes(stage: Stage, before: Snapshot | None, now: Snapshot) -> TableChanges | None:
    """What differs between two versions of the main table; None where there is nothing to compare."""
    if stage.main_table is None or before is None:
        return None
    old, new = before.table(stage.main_table), now.table(stage.main_table)
    names = set(old.collect_schema().names()) & set(new.collect_schema().names())
    key = next((name for name in _KEYS if name in names), None)
    return None if key is None else table_changes(old, new, key)


def _progress(context: dg.AssetExecutionContext, asset: str) -> Callable[[str], Progress]:
    """Progress to the display at every step, and to the run's log every few seconds.

    The UI draws no progress bars, so a log line says how many, how fast and how much longer.
    """
    display: ProgressDisplay = context.resources.display

    def labelled(label: str) -> Progress:
        started_at = time.monotonic()
        logged_at = started_at

        def report(done: int, total: int) -> None:
            nonlocal logged_at
            display.update(asset, label, done, total)
            now = time.monotonic()
            if now - logged_at >= _LOG_EVERY_SECONDS and done:
                logged_at = now
                rate = done / (now - started_at)
                left = (total - done) / rate if rate else 0.0
                context.log.info(f"{label}: {done:,} of {total:,}, {rate:,.0f}/s, {left:,.0f} s left")

        return report

    return labelled
