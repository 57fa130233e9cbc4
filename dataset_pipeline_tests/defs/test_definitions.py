"""The code location: names, groups, descriptions, lineage, several datasets, jobs and automation."""

import datetime
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.observe import observe

from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.commands.dev import automation_lines
from dataset_pipeline.definitions import dataset_definitions, load_dataset
from dataset_pipeline.defs.assets import source_assets
from dataset_pipeline.defs.stage import StorageResource
from dataset_pipeline.errors import ConfigError
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest

MAIN_LINE = [
    "raw_images",
    "raw_texts",
    "cleaned_items",
    "deduplicated_items",
    "train_test_split",
    "statistics",
    "clip_baselines",
    "label_quality",
    "review",
    "published_archive",
]
GROUPS = {
    "source_shop": "sources",
    "takedowns": "sources",
    "raw_images": "raw",
    "raw_texts": "raw",
    "cleaned_items": "clean",
    "deduplicated_items": "duplicates",
    "train_test_split": "split",
    "review": "review",
    "statistics": "statistics",
    "clip_baselines": "baselines",
    "label_quality": "statistics",
    "published_archive": "release",
    "published_to_shelf": "publish",
}


def with_takedowns(folder: Path, **changes: object) -> Path:
    config = write_dataset(folder, takedowns="takedowns.csv", **changes)
    (folder / "takedowns.csv").write_text("item_id,reason,date\nitem-03,asked,2026-10-01\n", encoding="utf-8")
    return config


def definitions(*configs: Path) -> dg.Definitions:
    return dataset_definitions([load_dataset(config) for config in configs], "storage", engine=InlineEngine())


def test_assets_of_a_dataset(tmp_path: Path) -> None:
    graph = definitions(with_takedowns(tmp_path)).resolve_asset_graph()
    found = {key.path[-1]: graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert found == GROUPS
    assert {key.path[0] for key in graph.get_all_asset_keys()} == {"small"}


def test_every_asset_has_one_sentence_owners_kinds_and_a_code_version(tmp_path: Path) -> None:
    graph = definitions(with_takedowns(tmp_path)).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.description[0].isupper() or node.group_name == "sources", key
        assert node.description.endswith("."), key
        assert ". " not in node.description, f"{key}: one sentence"
        if node.group_name == "sources":
            assert node.is_observable
            continue
        assert node.owners == ["team:dataset"], key
        assert node.kinds, key
        if node.group_name != "publish":
            assert node.code_version, key


def test_lineage_reads_as_the_story(tmp_path: Path) -> None:
    graph = definitions(with_takedowns(tmp_path)).resolve_asset_graph()
    parents = {
        key.path[-1]: sorted(parent.path[-1] for parent in graph.get(key).parent_keys)
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "source_shop": [],
        "takedowns": [],
        "raw_images": ["source_shop"],
        "raw_texts": ["source_shop"],
        "cleaned_items": ["raw_images", "raw_texts", "takedowns"],
        "deduplicated_items": ["cleaned_items"],
        "train_test_split": ["deduplicated_items"],
        "review": ["label_quality"],
        "statistics": ["train_test_split"],
        "clip_baselines": ["train_test_split"],
        "label_quality": ["clip_baselines"],
        "published_archive": ["review", "statistics"],
        "published_to_shelf": ["published_archive"],
    }


def test_every_gate_is_a_check_with_a_description(tmp_path: Path) -> None:
    graph = definitions(with_takedowns(tmp_path)).resolve_asset_graph()
    assert {key.asset_key.path[-1] for key in graph.asset_check_keys} == set(MAIN_LINE) - {"clip_baselines"}
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.description, key
        assert spec.blocking == (spec.metadata["severity"] == "critical"), key


def test_two_datasets_share_a_code_location(tmp_path: Path) -> None:
    made = definitions(write_dataset(tmp_path / "a"), write_dataset(tmp_path / "b", name="other-set"))
    dg.Definitions.validate_loadable(made)
    keys = made.resolve_asset_graph().get_all_asset_keys()
    assert {key.path[0] for key in keys} == {"small", "other_set"}
    for prefix in ("small", "other_set"):
        selected = made.resolve_job_def(f"build_{prefix}").asset_layer.executable_asset_keys
        assert {tuple(key.path) for key in selected} == {(prefix, name) for name in MAIN_LINE}


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    """Dashes become underscores in keys, so these two names are one."""
    configs = (write_dataset(tmp_path / "a", name="my-set"), write_dataset(tmp_path / "b", name="my_set"))
    with pytest.raises(ConfigError, match=r"share the asset prefix \['my_set'\]. Give each"):
        definitions(*configs)


def test_build_job_runs_the_gates_and_publishes_nothing(tmp_path: Path) -> None:
    job = definitions(with_takedowns(tmp_path)).resolve_job_def("build_small")
    assert {key.path[-1] for key in job.asset_layer.executable_asset_keys} == set(MAIN_LINE)
    steps = {node.name for node in job.nodes}
    assert {f"small__{asset}__gates" for asset in MAIN_LINE if asset != "clip_baselines"} <= steps


# -- sources ---------------------------------------------------------------------------------------


def observed(config: Path, instance: dg.DagsterInstance) -> dict[str, str]:
    """Data version of every source, as Dagster records it."""
    sources = source_assets(load_dataset(config))
    storage = StorageResource(root=str(config.parent / "storage"))
    assert observe(sources, resources={"storage": storage}, instance=instance).success
    found = {}
    for source in sources:
        event = instance.get_latest_data_version_record(source.key)
        assert event is not None
        assert event.event_log_entry.asset_observation is not None
        version = event.event_log_entry.asset_observation.data_version
        assert version is not None
        found[source.key.path[-1]] = version
    return found


@pytest.mark.filterwarnings("ignore:Function `observable_source_asset`")
def test_data_version_of_a_source_follows_its_content(tmp_path: Path) -> None:
    config = with_takedowns(tmp_path)
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        versions = [observed(config, instance), observed(config, instance)]
        assert versions[0] == versions[1]
        write_manifest(tmp_path / "items.csv", rows()[:-1])
        versions.append(observed(config, instance))
        (tmp_path / "images" / "00.png").write_bytes(encoded(picture(99)))
        versions.append(observed(config, instance))
        (tmp_path / "images" / "01.png").unlink()
        versions.append(observed(config, instance))
        # A touched file is read, and found to be what it was: test_observation.py has the cases.
        os.utime(tmp_path / "items.csv", (0, 0))
        versions.append(observed(config, instance))
        assert len({version["source_shop"] for version in versions}) == 4
        assert versions[-1] == versions[-2]
        assert len({version["takedowns"] for version in versions}) == 1
        (tmp_path / "takedowns.csv").write_text("item_id\nitem-04\n", encoding="utf-8")
        after = observed(config, instance)
        assert after["takedowns"] != versions[0]["takedowns"]
        assert after["source_shop"] == versions[-1]["source_shop"]


# -- automation ------------------------------------------------------------------------------------


class Clock:
    """Evaluates the conditions minute by minute, as the daemon does."""

    def __init__(self, config: Path, instance: dg.DagsterInstance) -> None:
        self.definitions = definitions(config)
        self.instance = instance
        self.now = datetime.datetime(2026, 11, 1, 10, 1, tzinfo=datetime.timezone.utc)
        graph = self.definitions.resolve_asset_graph()
        self.keys = sorted(graph.get_all_asset_keys())
        self.cursor: Any = None

    def tick(self, minutes: int = 1) -> set[str]:
        """What is asked for after so many minutes."""
        self.now += datetime.timedelta(minutes=minutes)
        result = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=dg.AssetSelection.assets(*self.keys),
            evaluation_time=self.now,
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        return {key.path[-1] for key in self.keys if result.get_num_requested(key)}

    def ticks(self, minutes: int) -> list[set[str]]:
        return [self.tick() for _ in range(minutes)]


@pytest.mark.filterwarnings("ignore:Function `observable_source_asset`")
def test_a_changed_source_asks_for_everything_downstream_once(tmp_path: Path) -> None:
    config = with_takedowns(tmp_path / "source")
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        clock = Clock(config, instance)
        assert clock.ticks(3) == [set()] * 3, "nothing is known of the sources yet"
        assert clock.tick(15) == {"source_shop", "takedowns"}, "they are looked at every quarter of an hour"
        observed(config, instance)
        assert clock.ticks(3) == [set(MAIN_LINE), set(), set()], "all in one tick, which is one run"

        observed(config, instance)
        assert clock.ticks(2) == [set(), set()], "a look that finds nothing new builds nothing"

        (tmp_path / "source" / "takedowns.csv").write_text("item_id\nitem-04\n", encoding="utf-8")
        observed(config, instance)
        assert clock.ticks(2) == [set(MAIN_LINE) - {"raw_images", "raw_texts"}, set()]

        (tmp_path / "source" / "images" / "00.png").write_bytes(encoded(picture(99)))
        observed(config, instance)
        assert clock.ticks(2) == [set(MAIN_LINE), set()]


def statuses(made: dg.Definitions) -> dict[str, bool]:
    """Sensor or schedule -> whether it runs from the start."""
    named = [*(made.sensors or []), *(made.schedules or [])]
    return {one.name: one.default_status.value == "RUNNING" for one in named}  # type: ignore[union-attr]


def test_what_looks_and_tells_is_on_and_what_builds_is_off_until_somebody_asks_for_it(tmp_path: Path) -> None:
    config = with_takedowns(tmp_path)
    made = definitions(config)
    expected = {
        "look_at_sources_small": True, "source_changes_small": False, "alerts_small": True, "nightly_small": False
    }  # fmt: skip
    assert statuses(made) == expected
    asked = {"build_after_changes": True, "build_nightly": True}
    assert statuses(definitions(with_takedowns(tmp_path, automation=asked))) == dict.fromkeys(expected, True)
    graph = made.resolve_asset_graph()
    watched = {
        sensor.name: {key.path[-1] for key in sensor.asset_selection.resolve(graph)}
        for sensor in made.sensors or []
        if isinstance(sensor, dg.AutomationConditionSensorDefinition)
    }
    assert watched == {
        "look_at_sources_small": {"source_shop", "takedowns"},
        "source_changes_small": set(MAIN_LINE),
    }
    told = automation_lines(made)
    assert told[:-1] == sorted(told[:-1], key=lambda line: line[5:])
    assert {line[5:].split(":")[0]: line[:5] for line in told[:-1]} == {
        name: "on   " if is_on else "off  " for name, is_on in expected.items()
    }


def test_each_dataset_has_its_own_times(tmp_path: Path) -> None:
    times = {"look_every_minutes": 60, "nightly_at": "22:30", "timezone": "Europe/Ljubljana"}
    made = definitions(
        write_dataset(tmp_path / "a", automation=times), write_dataset(tmp_path / "b", name="second")
    )
    schedules = {
        schedule.name: (schedule.cron_schedule, schedule.execution_timezone, schedule.job_name)  # type: ignore[union-attr]
        for schedule in made.schedules or []
    }
    assert schedules == {
        "nightly_small": ("30 22 * * *", "Europe/Ljubljana", "build_small"),
        "nightly_second": ("0 3 * * *", "UTC", "build_second"),
    }


def test_two_datasets_wait_for_nobody_but_for_the_heavy_stages(tmp_path: Path) -> None:
    """Runs of one dataset carry one tag, which the queue takes one by one; decoding and embedding share a pool."""
    made = definitions(write_dataset(tmp_path / "a"), write_dataset(tmp_path / "b", name="second"))
    for prefix in ("small", "second"):
        assert made.resolve_job_def(f"build_{prefix}").tags["dataset"] == prefix
        [builds] = [s for s in made.sensors or [] if s.name == f"source_changes_{prefix}"]
        assert builds.run_tags["dataset"] == prefix  # type: ignore[attr-defined]
    graph = definitions(write_dataset(tmp_path / "c", baselines={"enabled": True})).resolve_asset_graph()
    heavy = {key.path[-1] for key in graph.get_all_asset_keys() if "heavy" in (graph.get(key).pools or set())}
    assert heavy == {"raw_images", "clip_baselines"}


def test_no_other_sensor_runs_the_conditions(tmp_path: Path) -> None:
    """Dagster adds a sensor of its own for whatever no declared one covers."""
    repository = definitions(with_takedowns(tmp_path)).get_repository_def()
    assert sorted(sensor.name for sensor in repository.sensor_defs) == [
        "alerts_small", "look_at_sources_small", "source_changes_small",
    ]  # fmt: skip
