"""Fixtures that several test modules share."""

from collections.abc import Iterator

import pytest

from dataset_pipeline_tests.building import Bench, bench
from dataset_pipeline_tests.small_dataset import write_dataset


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The small dataset with trivial baselines, built once. For reading: a test that writes copies it first."""
    folder = tmp_path_factory.mktemp("built")
    config = write_dataset(
        folder / "source", baselines={"enabled": True, "models": [], "bootstrap_samples": 100}
    )
    with bench(config, folder / "storage") as made:
        result = made.run()
        assert result.success, [event.event_specific_data for event in result.all_events if event.is_failure]
        yield made
