"""When a dataset is built without anybody asking: after its sources changed, and once a night.

Both are stopped until a person switches them on (in the UI under *Automation*), and both run the same
gated assets as everybody else:

- ``source_changes_<dataset>`` looks at the sources every quarter of an hour and, where the data version of
  one has changed, launches one run of everything that depends on it;
- ``nightly_<dataset>`` builds the release every night at three. It costs what has changed, and it catches
  what the other may lose: a change that is seen while a run has just been launched.

Publication is never automatic. Does not belong here: what an asset does.
"""

from collections.abc import Sequence

import dagster as dg

LOOK_EVERY_QUARTER_HOUR = "*/15 * * * *"
EVERY_NIGHT_AT_THREE = "0 3 * * *"


def look_at_sources() -> dg.AutomationCondition:  # type: ignore[type-arg]
    """When a source is looked at."""
    return dg.AutomationCondition.cron_tick_passed(LOOK_EVERY_QUARTER_HOUR)


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
    prefix: str, assets: dg.AssetSelection, job_name: str
) -> tuple[dg.SensorDefinition, dg.ScheduleDefinition]:
    """The sensor and the schedule of one dataset, both stopped."""
    return (
        dg.AutomationConditionSensorDefinition(
            f"source_changes_{prefix}",
            target=assets,
            default_status=dg.DefaultSensorStatus.STOPPED,
            description="Builds what depends on a source that has changed.",
        ),
        dg.ScheduleDefinition(
            name=f"nightly_{prefix}",
            job_name=job_name,
            cron_schedule=EVERY_NIGHT_AT_THREE,
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description="Builds the release every night; what has not changed costs next to nothing.",
        ),
    )
