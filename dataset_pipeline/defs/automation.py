"""What happens without anybody asking: sources are looked at, and a dataset is built.

One of three per dataset runs by default, because it only looks; the other two build, and are on when ``automation``
in dataset.yaml says so or a person switches them on (in the UI under *Automation*):

- ``look_at_sources_<dataset>`` records the data version of every source, by default every quarter of an hour;
- ``source_changes_<dataset>`` launches, where the data version of a source has changed, one run of everything that
  depends on it;
- ``nightly_<dataset>`` builds the release every night. It costs what has changed, and it catches what the other
  may lose: a change that is seen while a run has just been launched.

Both builds run the same gated assets as everybody else. Publication is never automatic. Does not belong here: what
an asset does, and who is told when something fails (``alerts.py``).
"""

from collections.abc import Sequence

import dagster as dg

from dataset_pipeline.config import Automation


def look_at_sources(settings: Automation) -> dg.AutomationCondition:  # type: ignore[type-arg]
    """When a source is looked at."""
    minutes = settings.look_every_minutes
    return dg.AutomationCondition.cron_tick_passed("0 * * * *" if minutes == 60 else f"*/{minutes} * * * *")


def build_after_changes(sources: Sequence[dg.AssetKey]) -> dg.AutomationCondition:  # type: ignore[type-arg]
    """When an asset is built: one of the ``sources`` it reads has changed, or what it reads is built in this run.

    Not ``eager()``: that builds again after every materialisation upstream, also of the same data, and
    launches downstream assets in runs of their own.
    """
    condition = dg.AutomationCondition
    is_built_upstream = condition.any_deps_match(condition.will_be_requested())
    if not sources:
        return is_built_upstream.with_label("what it reads is being built")
    has_changed = condition.any_deps_match(condition.data_version_changed()).allow(
        dg.AssetSelection.assets(*sources)
    )
    is_due = has_changed.since(condition.newly_requested()) & ~condition.in_progress()
    return (is_due | is_built_upstream).with_label("a source has changed")


def automations(
    prefix: str,
    settings: Automation,
    sources: dg.AssetSelection,
    built: dg.AssetSelection,
    job_name: str,
    run_tags: dict[str, str],
) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """Sensors and schedules of one dataset; ``run_tags`` are those of the runs that build."""
    status, schedule_status = dg.DefaultSensorStatus, dg.DefaultScheduleStatus
    hour, minute = settings.nightly_at.split(":")
    return (
        [
            dg.AutomationConditionSensorDefinition(
                f"look_at_sources_{prefix}",
                target=sources,
                default_status=status.RUNNING,
                description=f"Looks every {settings.look_every_minutes} minutes whether a source has changed.",
            ),
            dg.AutomationConditionSensorDefinition(
                f"source_changes_{prefix}",
                target=built,
                run_tags=run_tags,
                default_status=status.RUNNING if settings.build_after_changes else status.STOPPED,
                description="Builds what depends on a source that has changed.",
            ),
        ],
        [
            dg.ScheduleDefinition(
                name=f"nightly_{prefix}",
                job_name=job_name,
                cron_schedule=f"{int(minute)} {int(hour)} * * *",
                execution_timezone=settings.timezone,
                default_status=schedule_status.RUNNING if settings.build_nightly else schedule_status.STOPPED,
                description=f"Builds the release at {settings.nightly_at} {settings.timezone}; what has not changed costs next to nothing.",
            )
        ],
    )
