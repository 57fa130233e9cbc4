"""Builds of whole datasets in the test's own process: no worker processes, history in memory."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.store import Store
from dataset_pipeline.definitions import dataset_definitions, load_dataset
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.defs.stage import Lineage

RUNS = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class CountingEngine:
    """Does the work here, and counts the items that each function was given."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}

    def map(self, function: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
        """See ``Engine``."""
        name = getattr(function, "func", function).__name__
        for batch in batches:
            self.items[name] = self.items.get(name, 0) + batch.height
            yield function(batch)

    def for_models(self) -> InlineEngine:
        """See ``Engine``; what models are given is not counted."""
        return InlineEngine()

    def close(self) -> None:
        """See ``Engine``: nothing was started."""


class Bench:
    """One dataset and one storage folder."""

    def __init__(self, config: Path, storage: Path, instance: dg.DagsterInstance) -> None:
        self.config_path = config
        self.storage = storage
        self.instance = instance
        self.engine: Any = CountingEngine()

    @property
    def store(self) -> Store:
        """Snapshots and releases of the dataset."""
        return Store(self.storage, self.lineage.dataset.config.name)

    @property
    def lineage(self) -> Lineage:
        """The stages, from dataset.yaml as it is now."""
        return lineage(load_dataset(self.config_path))

    @property
    def release(self) -> Path:
        """Where the release of the configured version is."""
        return self.store.releases / self.lineage.dataset.config.version

    def definitions(self) -> dg.Definitions:
        """The code location, from dataset.yaml as it is now."""
        return dataset_definitions([load_dataset(self.config_path)], self.storage, engine=self.engine)

    def run(
        self, *assets: str, checks: bool = True, settings: Mapping[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Launch the named assets (the whole release where none is named), as the UI would.

        ``settings``: run config of every one of them.
        """
        dataset = self.lineage.dataset
        keys = [dataset.key(name) for name in assets or self.lineage.stages]
        selection: dg.AssetSelection = dg.AssetSelection.assets(*keys)
        job = dg.define_asset_job(
            "run",
            selection=selection if checks else selection.without_checks(),
            config={
                **RUNS,
                **({"ops": {"__".join(key.path): {"config": settings} for key in keys}} if settings else {}),
            },
        )
        definitions = dg.Definitions.merge(self.definitions(), dg.Definitions(jobs=[job]))
        return definitions.resolve_job_def("run").execute_in_process(
            instance=self.instance, raise_on_error=False
        )


@contextlib.contextmanager
def bench(config: Path, storage: Path) -> Iterator[Bench]:
    """A bench with a history of its own."""
    history = storage.with_name(f"{storage.name}-history")
    history.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.ephemeral(tempdir=str(history)) as instance:
        yield Bench(config, storage, instance)


def failures(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed, as people read it."""
    told = []
    for event in result.all_events:
        if event.is_step_failure:
            explained = event.step_failure_data.user_failure_data
            told.append((explained and explained.description) or str(event.step_failure_data.error))
    return "; ".join(told)


def materialised(result: dg.ExecuteInProcessResult) -> list[str]:
    """Assets that a run wrote, in order."""
    return [
        event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key
    ]


def contents(folder: Path, *, without: Iterable[str] = ()) -> dict[str, str]:
    """Path -> SHA-256 of every file below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in set(without)
    }


def files_with(folder: Path, text: str) -> list[str]:
    """Files below ``folder`` that hold the text, tables by their values: their bytes are compressed."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (
            text in str(pl.read_parquet(path).to_dicts())
            if path.suffix == ".parquet"
            else text.encode() in path.read_bytes()
        )
    ]
