"""``build``: the same assets and gates as the UI, launched in this process, without a web server."""

import difflib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dagster as dg

from dataset_pipeline.adapters.destinations import read_checksums
from dataset_pipeline.adapters.engine import Engine, LocalEngine
from dataset_pipeline.adapters.remote import working_folder
from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.adapters.store import Store, explained_os_errors, write_atomically
from dataset_pipeline.commands.check import require_sound_settings
from dataset_pipeline.definitions import dataset_definitions, load_dataset
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.defs.stage import ProgressDisplay
from dataset_pipeline.errors import ConfigError, DatasetPipelineError, GateError, OutsideWorldError
from dataset_pipeline.publication import publication_states, published_otherwise

_GENERATED: Final = "# Written anew by dataset-pipeline where this folder is moved; to keep changes of your own, remove this line."
_DAGSTER_YAML: Final = """\
{generated}
# History of builds: the command line and `dataset-pipeline dev` share it.
telemetry: {{enabled: false}}
nux: {{enabled: false}}
storage: {{sqlite: {{base_dir: {history}}}}}
# From the queue, runs of one dataset are taken one by one, and so are runs that decode pictures or run models on them.
concurrency:
  runs: {{tag_concurrency_limits: [{{key: dataset, value: {{applyLimitPerUniqueValue: true}}, limit: 1}}]}}
  pools: {{granularity: run, default_limit: 1}}
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {{base_dir: {artifacts}}}
compute_logs:
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config: {{base_dir: {logs}}}
"""


@dataclass(frozen=True)
class FailedGate:
    """A blocking gate that stopped the build."""

    asset: str
    check: str
    summary: str
    examples: str
    remedy: str


@dataclass(frozen=True)
class BuildResult:
    """What a build that reached its end left behind."""

    release: Path | None
    """The release folder, or None where the build stopped earlier on request."""
    store: Store
    warnings: tuple[str, ...]
    publications: tuple[str, ...] = ()
    """Of every destination, whether the release is published there or waits for a person."""


_NO_CAPTURE: Final = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}
"""What a build prints goes straight to its terminal or log, not through a file and a second process."""


class FailedGatesError(GateError):
    """One or more blocking gates stopped the build; ``gates`` says which, with numbers and examples."""

    def __init__(self, gates: list[FailedGate]) -> None:
        self.gates = tuple(gates)
        super().__init__("; ".join(f"{gate.asset}: {gate.check} failed: {gate.summary}" for gate in gates))


def dagster_home(storage: str | Path) -> Path:
    """The folder of Dagster's history: ``$DAGSTER_HOME``, else one inside the storage folder or its working copy."""
    if home := os.environ.get("DAGSTER_HOME"):
        return Path(home)
    folder = working_folder(storage)
    home_folder = folder / "dagster"
    settings = home_folder / "dagster.yaml"
    # Dagster takes a relative path from the folder it is started in, so absolute ones are written, quoted.
    places = {name: json.dumps(str(home_folder / name)) for name in ("history", "artifacts", "logs")}
    expected = _DAGSTER_YAML.format(generated=_GENERATED, **places)
    with explained_os_errors(folder):
        home_folder.mkdir(parents=True, exist_ok=True)
        written = settings.read_text(encoding="utf-8") if settings.exists() else _GENERATED
        if written.startswith(_GENERATED) and written != expected:
            write_atomically(settings, expected.encode())
    return home_folder


def build(
    config_path: str | Path,
    storage: str | Path,
    *,
    to: str | None = None,
    rebuild: bool = False,
    display: ProgressDisplay | None = None,
    engine: Engine | None = None,
) -> BuildResult:
    """Build a dataset up to asset ``to`` (by default the whole release); ``engine`` is closed at the end.

    An asset whose inputs, settings and program are what they were keeps its snapshot, unless ``rebuild``.

    Raises ``FailedGatesError`` where a gate stopped it, ``ConfigError`` and ``OutsideWorldError`` as
    ``errors.py`` says; in each case the previous release is untouched and finished work is kept.
    """
    dataset = load_dataset(config_path)
    require_sound_settings(dataset.config, dataset.base)
    stages = lineage(dataset)
    if to is not None and to not in stages.stages:
        near = difflib.get_close_matches(to, stages.stages, n=1)
        raise ConfigError(
            f"--to {to}: no such asset; there are: {', '.join(stages.stages)}",
            hint=f"Did you mean '{near[0]}'?" if near else None,
        )
    last = stages.stages[to or list(stages.stages)[-1]]
    keys = [dataset.key(name) for name in (*stages.upstream(last), last.name)]
    anew = {"__".join(key.path): {"config": {"rebuild": rebuild}} for key in keys}
    engine = engine or LocalEngine()
    definitions = dg.Definitions.merge(
        dataset_definitions([dataset], storage, engine=engine, display=display),
        dg.Definitions(
            jobs=[
                dg.define_asset_job(
                    "build",
                    selection=dg.AssetSelection.assets(*keys),
                    tags=dataset.run_tags,
                    config={
                        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                        **({"ops": anew} if rebuild else {}),
                    },
                )
            ]
        ),
    )
    store = open_store(storage, dataset.config.name)
    try:
        with _instance(storage) as instance:
            result = definitions.resolve_job_def("build").execute_in_process(
                instance=instance, raise_on_error=False
            )
    except dg.DagsterExecutionInterruptedError:  # Ctrl-C between two steps
        raise KeyboardInterrupt from None
    finally:
        engine.close()
    _raise_failures(result)
    release = store.releases / dataset.config.version
    warnings = tuple(
        f"{evaluation.asset_key.path[-1]}: {evaluation.check_name}: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed
    )
    if to not in {None, "published_archive"}:
        return BuildResult(None, store, warnings)
    elsewhere = tuple(
        f"version {dataset.config.version} {line}; raise 'version' before you publish this"
        for line in published_otherwise(store, dataset.config.version, read_checksums(release))
    )
    states = tuple(publication_states(dataset.config, dataset.base, store))
    return BuildResult(release, store, warnings + elsewhere, states)


@contextmanager
def _instance(storage: str | Path) -> Iterator[dg.DagsterInstance]:
    from dagster._core.instance.ref import InstanceRef
    from filelock import FileLock

    home = dagster_home(storage)
    with explained_os_errors(home), _explained_history_errors(home):
        reference = InstanceRef.from_dir(str(home), overrides=_NO_CAPTURE)
        with FileLock(home / "lock"):  # two builds that begin together would both make the tables
            opened = dg.DagsterInstance.from_ref(reference)
        with opened as instance:
            yield instance


@contextmanager
def _explained_history_errors(home: Path) -> Iterator[None]:
    """Turn what the database of builds says, of a full disk for one, into one clear line."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise OutsideWorldError(
            f"the history of builds in {home} cannot be used: {error.orig}",
            hint=f"Check free space and permissions of {home}, then run the same command again; if it is broken, "
            "move it away: it holds no data",
        ) from error


def _raise_failures(result: dg.ExecuteInProcessResult) -> None:
    """The failure of a run as the exception that its cause deserves; nothing where it succeeded."""
    if result.success:
        return
    failed = [
        FailedGate(
            evaluation.asset_key.path[-1],
            evaluation.check_name,
            evaluation.description or "",
            str(evaluation.metadata["examples"].value) if "examples" in evaluation.metadata else "",
            str(evaluation.metadata["remedy"].value) if "remedy" in evaluation.metadata else "",
        )
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.blocking
    ]
    if failed:
        raise FailedGatesError(failed)
    errors = {error.exit_status: error for error in (GateError, ConfigError, OutsideWorldError)}
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        failure = event.step_failure_data.user_failure_data
        if failure is not None and "exit_status" in failure.metadata:
            status = failure.metadata["exit_status"].value
            raise errors.get(int(str(status)), DatasetPipelineError)(failure.description or "")
        error = event.step_failure_data.error
        if error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            raise KeyboardInterrupt  # Ctrl-C inside a step
        raise RuntimeError(f"{event.step_key} broke; this is a fault of the pipeline:\n{error}")
    raise KeyboardInterrupt  # a run that neither succeeded nor failed was interrupted
