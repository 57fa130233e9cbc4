"""Publication assets: one a destination, and nothing leaves that has not passed its gates."""

from pathlib import Path

import dagster as dg
import pytest

from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.defs.publish import publication_assets
from dataset_pipeline_tests.building import Bench, contents, failures
from dataset_pipeline_tests.defs.test_gates import BAD, spoil_asset
from dataset_pipeline_tests.small_dataset import write_dataset


def test_one_asset_a_destination(tmp_path: Path) -> None:
    config = write_dataset(
        tmp_path,
        publish={"shelf": {"kind": "folder", "path": "a"}, "our-mirror.2": {"kind": "folder", "path": "b"}},
    )
    made = publication_assets(load_dataset(config))
    assert [asset.key.path for asset in made] == [
        ["small", "published_to_our_mirror_2"],
        ["small", "published_to_shelf"],
    ]


def test_an_audited_release_is_published(copy: Bench) -> None:
    result = copy.run("published_to_shelf")
    assert result.success, failures(result)
    place = copy.config_path.parent / "shelf" / "small" / "1.0.0"
    assert contents(place) == contents(copy.release)
    event = copy.instance.get_latest_materialization_event(dg.AssetKey(["small", "published_to_shelf"]))
    assert event is not None
    assert event.asset_materialization is not None
    shown = {key: value.value for key, value in event.asset_materialization.metadata.items()}
    assert shown["version"] == "1.0.0"
    assert shown["place"] == str(place)
    assert shown["files_sent"] == len(contents(place))


@pytest.mark.parametrize("gate", BAD["published_archive"])
def test_a_release_that_failed_a_gate_is_not_published(
    gate: str, copy: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        spoil_asset(patched, "published_archive", BAD["published_archive"][gate])
        assert not copy.run("published_archive").success
    result = copy.run("published_to_shelf")
    assert not result.success
    assert failures(result).startswith("published_archive: the check '")
    assert not (copy.config_path.parent / "shelf").exists()


def test_a_release_that_no_gate_has_seen_is_not_published(copy: Bench) -> None:
    config = copy.config_path
    config.write_text(config.read_text().replace("A small dataset", "A small data set"), encoding="utf-8")
    assert copy.run("published_archive", checks=False).success
    result = copy.run("published_to_shelf")
    assert not result.success
    assert "has not run on the newest snapshot" in failures(result)
    assert not (config.parent / "shelf").exists()


def test_a_version_that_is_not_built_is_not_published(copy: Bench) -> None:
    config = copy.config_path
    config.write_text(config.read_text().replace("1.0.0", "1.1.0"), encoding="utf-8")
    result = copy.run("published_to_shelf")
    assert not result.success
    assert "no SHA256SUMS there, so it is not a release" in failures(result)
    assert not (config.parent / "shelf").exists()
