"""The Dagster code location: every configured dataset under its own key prefix. Assembly only.

``DATASET_PIPELINE_CONFIGS`` (paths joined by the system's path separator) names the datasets,
``DATASET_PIPELINE_STORAGE`` the storage folder, ``DATASET_PIPELINE_ENGINE`` and
``DATASET_PIPELINE_RAY_ADDRESS`` where per-item work runs; ``dataset-pipeline dev`` sets them. Without them
the datasets below ``datasets/``, the folder ``storage`` and processes of this machine are used.
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from dataset_pipeline.adapters.engine import Engine
from dataset_pipeline.config import load_config
from dataset_pipeline.defs.alerts import alert_sensor
from dataset_pipeline.defs.assets import lineage, source_assets
from dataset_pipeline.defs.automation import automations
from dataset_pipeline.defs.publish import mirror_checks, mirror_health, publication_assets
from dataset_pipeline.defs.stage import Dataset, EngineResource, ProgressDisplay, StorageResource
from dataset_pipeline.errors import ConfigError

CONFIGS_VARIABLE = "DATASET_PIPELINE_CONFIGS"
STORAGE_VARIABLE = "DATASET_PIPELINE_STORAGE"
ENGINE_VARIABLE = "DATASET_PIPELINE_ENGINE"
RAY_ADDRESS_VARIABLE = "DATASET_PIPELINE_RAY_ADDRESS"
DEFAULT_STORAGE = "storage"


def load_dataset(config_path: str | Path) -> Dataset:
    """A ``dataset.yaml`` and the folder its relative paths start from."""
    path = Path(config_path).absolute()
    return Dataset(load_config(config_path), path.parent, path)


def dataset_definitions(
    datasets: Sequence[Dataset],
    storage: str | Path,
    *,
    engine: Engine | EngineResource | None = None,
    display: ProgressDisplay | None = None,
) -> dg.Definitions:
    """Assets and gates of every dataset, and for each a build job, its automation and its alerts."""
    prefixes = [dataset.prefix for dataset in datasets]
    if twice := sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1}):
        raise ConfigError(
            f"two datasets share the asset prefix {twice}", hint="Give each dataset its own name"
        )
    made = [part for dataset in datasets for part in lineage(dataset).definitions()]
    with warnings.catch_warnings():
        # Users can do nothing about it; the pinned version of Dagster keeps what the warning says may change.
        warnings.filterwarnings("ignore", "Function `observable_source_asset` is", dg.BetaWarning)
        observed = [source for dataset in datasets for source in source_assets(dataset)]
    jobs: list[Any] = []
    sensors: list[dg.SensorDefinition] = []
    schedules: list[dg.ScheduleDefinition] = []
    checked: list[dg.AssetChecksDefinition] = []
    for dataset in datasets:
        built = dg.AssetSelection.assets(*(dataset.key(name) for name in lineage(dataset).stages))
        looked_at = [source.key for source in observed if source.key.path[0] == dataset.prefix]
        job = dg.define_asset_job(
            f"build_{dataset.prefix}",
            selection=built,
            tags=dataset.run_tags,
            description=f"Build the release of {dataset.config.display_title} from its sources.",
        )
        jobs.append(job)
        own_sensors, own_schedules = automations(
            dataset.prefix,
            dataset.config.automation,
            dg.AssetSelection.assets(*looked_at),
            built,
            job.name,
            dataset.run_tags,
        )
        sensors += [*own_sensors, alert_sensor(dataset)]
        schedules += own_schedules
        if of_mirrors := mirror_checks(dataset):
            checked += of_mirrors
            schedules.append(mirror_health(dataset, of_mirrors))
    return dg.Definitions(
        assets=[
            *observed,
            *(part for part in made if not isinstance(part, dg.AssetChecksDefinition)),
            *(part for dataset in datasets for part in publication_assets(dataset)),
        ],
        asset_checks=[*(part for part in made if isinstance(part, dg.AssetChecksDefinition)), *checked],
        jobs=jobs,
        sensors=sensors,
        schedules=schedules,
        resources={
            "storage": StorageResource(root=str(storage)),
            "engine": engine or EngineResource(),
            "display": display or ProgressDisplay(),
        },
        # One process a run: stages share what they loaded, per-item work has a pool of its own, and
        # a cancelled run leaves no step behind that could still write.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What ``dagster dev`` loads."""
    named = os.environ.get(CONFIGS_VARIABLE)
    paths = (
        named.split(os.pathsep) if named else sorted(str(p) for p in Path("datasets").glob("*/dataset.yaml"))
    )
    if not paths:
        raise ConfigError(
            f"no dataset found: {CONFIGS_VARIABLE} is not set, and there is no datasets/*/dataset.yaml "
            f"below {Path.cwd()}",
            hint="Start the UI with: dataset-pipeline dev path/to/dataset.yaml",
        )
    storage = os.environ.get(STORAGE_VARIABLE, DEFAULT_STORAGE)
    engine = EngineResource(
        engine=os.environ.get(ENGINE_VARIABLE, "local"),
        ray_address=os.environ.get(RAY_ADDRESS_VARIABLE) or None,
    )
    return dataset_definitions([load_dataset(path) for path in paths], storage, engine=engine)
