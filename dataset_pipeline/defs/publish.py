"""Publication of an audited release to the config's destinations, as assets.

Belongs here: wiring. How bytes reach a destination is the destination's adapter.
"""

from typing import Any

import dagster as dg

from dataset_pipeline.adapters import folder
from dataset_pipeline.adapters.store import Store
from dataset_pipeline.config import Destination
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.defs.stage import OWNERS, Dataset, explained


def publication_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """One asset per destination; it sends what passed its audit, and is never part of a build."""
    return [
        _asset(dataset, name, destination) for name, destination in sorted(dataset.config.publish.items())
    ]


def _asset(dataset: Dataset, name: str, destination: Destination) -> dg.AssetsDefinition:
    config = dataset.config

    @dg.asset(
        key=dataset.key(f"published_to_{name.replace('-', '_').replace('.', '_')}"),
        deps=[dataset.key("published_archive")],
        group_name="publish",
        kinds={destination.kind},
        owners=OWNERS,
        description=f"The release at {destination.path}.",
        required_resource_keys={"storage"},
    )
    def publish(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        store = Store(context.resources.storage.root, config.name)
        with explained():
            archive = lineage(dataset).stages["published_archive"]
            snapshot = store.audited(archive.name, archive.blocking_gates)
            result = folder.publish_folder(
                store.releases / config.version, dataset.base / destination.path, config.name, config.version
            )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(snapshot.id),
            metadata={
                "version": config.version,
                "place": str(result.place),
                "files_sent": len(result.sent),
                "files_already_there": len(result.unchanged),
            },
        )

    return publish
