"""Publication of an audited release to the config's destinations, as assets.

Belongs here: wiring. What has to be true before a release leaves is ``publication.py``, how bytes reach a
destination is the destination's adapter.
"""

from typing import Any

import dagster as dg
import polars as pl

from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.adapters.store import Snapshot, Store
from dataset_pipeline.config import Destination
from dataset_pipeline.defs.assets import lineage
from dataset_pipeline.defs.metadata import markdown_table
from dataset_pipeline.defs.stage import OWNERS, Dataset, explained
from dataset_pipeline.publication import Record, Request, check_mirrors, publish_release
from dataset_pipeline.stages.mirrors import mirrors

EVERY_SUNDAY_AT_FIVE = "0 5 * * 0"


class Confirmation(dg.Config):
    """A person's word for one launch, where there is no approvals file."""

    confirm: str = ""
    """The version that may leave, such as 1.0.0."""
    is_final: bool = False
    """Zenodo: publish the complete draft, which cannot be undone."""


def publication_assets(dataset: Dataset) -> list[dg.AssetsDefinition]:
    """One asset per destination; it sends what passed its audit, and is never part of a build."""
    return [
        _asset(dataset, name, destination) for name, destination in sorted(dataset.config.publish.items())
    ]


def mirror_checks(dataset: Dataset) -> list[dg.AssetChecksDefinition]:
    """One check per place that anybody can read: it still gives every file of the version, byte for byte."""
    return [_mirror_check(dataset, place.name) for place in mirrors(dataset.config)]


def mirror_health(dataset: Dataset, checks: list[dg.AssetChecksDefinition]) -> dg.ScheduleDefinition:
    """Asks every place once a week; stopped until a person switches it on."""
    job = dg.define_asset_job(
        f"mirrors_{dataset.prefix}",
        selection=dg.AssetSelection.checks(*(key for check in checks for key in check.check_keys)),
        description="Download the published version from every public place and compare it.",
    )
    return dg.ScheduleDefinition(
        name=f"weekly_mirrors_{dataset.prefix}",
        job=job,
        cron_schedule=EVERY_SUNDAY_AT_FIVE,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Finds lost and changed files at the places where the dataset is published.",
    )


def _mirror_check(dataset: Dataset, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dataset.key(_asset_name(name)),
        name="gives_the_published_bytes",
        description=f"Every file of the published version can be downloaded from {name} and is what it was.",
        required_resource_keys={"storage"},
        blocking=True,  # a failure fails the run: nobody looks at the green runs of a schedule
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        store = open_store(context.resources.storage.root, dataset.config.name)
        with explained():
            [health] = check_mirrors(dataset.config, store, name)
        speeds = {
            "first_byte_ms": health.first_byte_ms,
            "mib_per_s": health.mib_per_s,
            "mib_per_s_4": health.mib_per_s_4,
        }
        return dg.AssetCheckResult(
            passed=health.is_good,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(health.faults[:5]) or f"{health.files} files are what was published",
            metadata={
                "files": health.files, "faults": len(health.faults),
                **{key: value for key, value in speeds.items() if value is not None},
            },
        )  # fmt: skip

    return check


def audited_archive(dataset: Dataset, store: Store) -> Snapshot:
    """The archive that has passed its gates; raises ``GateError`` where there is none."""
    archive = lineage(dataset).stages["published_archive"]
    return store.audited(archive.name, archive.blocking_gates)


def _asset(dataset: Dataset, name: str, destination: Destination) -> dg.AssetsDefinition:
    @dg.asset(
        key=dataset.key(_asset_name(name)),
        deps=[dataset.key("published_archive")],
        group_name="publish",
        kinds={destination.kind},
        owners=OWNERS,
        description=f"The release at {name} ({destination.kind}), where a person has approved the version for it.",
        required_resource_keys={"storage"},
    )
    def publish(context: dg.AssetExecutionContext, config: Confirmation) -> dg.MaterializeResult[Any]:
        store = open_store(context.resources.storage.root, dataset.config.name)
        is_confirmed = config.confirm == dataset.config.version
        with explained():
            record = publish_release(
                Request(
                    dataset.config, dataset.base, name, store, audited_archive(dataset, store),
                    is_final=config.is_final,
                    confirmed_by=f"the launch of run {context.run.run_id}" if is_confirmed else None,
                )
            )  # fmt: skip
        return dg.MaterializeResult(
            data_version=dg.DataVersion(record.facts["snapshot"]), metadata=_shown(record)
        )

    return publish


def _asset_name(destination: str) -> str:
    return f"published_to_{destination.replace('-', '_').replace('.', '_')}"


def _shown(record: Record) -> dict[str, Any]:
    """What a person asks about a publication; addresses are links."""
    publication, facts = record.publication, record.facts
    checksums = pl.DataFrame(sorted(facts["checksums"].items()), schema=["file", "sha256"], orient="row")
    shown: dict[str, Any] = {
        "version": facts["version"],
        "place": dg.MetadataValue.url(publication.place)
        if publication.place.startswith("https://")
        else publication.place,
        "published_at": facts["published_at"],
        "approved_by": facts["approved_by"],
        "is_public": publication.is_public,
        "is_final": publication.is_final,
        "checksums_sha256": facts["checksums_sha256"],
        "checksums": markdown_table(checksums),
        "files_sent": len(publication.sent),
        "files_already_there": len(publication.unchanged),
        "bytes": facts["bytes"],
    }
    if publication.doi:
        shown["doi"] = dg.MetadataValue.url(f"https://doi.org/{publication.doi}")
    if card := publication.files.get("README.md"):
        shown["card"] = dg.MetadataValue.url(card)
    if publication.notes:
        shown["to_do"] = "; ".join(publication.notes)
    return shown
