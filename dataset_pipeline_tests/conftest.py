"""Fixtures that several test modules share."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dataset_pipeline_tests.building import Bench, bench
from dataset_pipeline_tests.small_dataset import write_dataset

settings.register_profile("untimed", deadline=None)  # how fast a machine is decides no test
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _absl_closes_nothing() -> None:
    """mlcroissant's logging library closes the stream that it was imported under, which is pytest's own, when Dagster
    configures logging while another one stands in its place."""
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The small dataset with trivial baselines, built once. For reading: a test that writes copies it first."""
    folder = tmp_path_factory.mktemp("built")
    config = write_dataset(
        folder / "source",
        baselines={"enabled": True, "models": [], "bootstrap_samples": 100},
        takedowns="takedowns.csv",
    )
    # Of an item that is deleted from the source already, as it should be.
    (config.parent / "takedowns.csv").write_text("item_id,date\nitem-99,2026-10-01\n", encoding="utf-8")
    with bench(config, folder / "storage") as made:
        result = made.run()
        assert result.success, [event.event_specific_data for event in result.all_events if event.is_failure]
        yield made


@pytest.fixture
def copy(built: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A copy of the built dataset with its sources and storage, for a test that changes something."""
    # Times of change are copied too, so pictures count as known.
    source = Path(shutil.copytree(built.config_path.parent, tmp_path / "source"))
    storage = Path(shutil.copytree(built.storage, tmp_path / "storage"))
    with bench(source / built.config_path.name, storage) as made:
        yield made
