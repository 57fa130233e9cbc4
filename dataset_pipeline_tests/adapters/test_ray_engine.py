"""Per-item work as Ray tasks on a cluster of two nodes, which are processes of this machine."""

import functools
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

from dataset_pipeline.adapters import clip, images, ray_engine
from dataset_pipeline.adapters.ray_engine import RETRIES, RayEngine
from dataset_pipeline.config import ClipModel
from dataset_pipeline.errors import ConfigError, OutsideWorldError
from dataset_pipeline_tests.building import Bench, bench, contents, failures

PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and one more node, of one core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "include_dashboard": False,
            },
            shutdown_at_exit=False,
        )
        try:
            made.add_node(num_cpus=1)
            yield made
        finally:
            RayEngine(made.address).close()
            for node in made.list_all_nodes():
                made.remove_node(node, allow_graceful=False)  # politely, each takes half a minute


@pytest.fixture
def engine(cluster: Any) -> RayEngine:
    return RayEngine(cluster.address)


def node_of(number: int) -> str:
    import ray

    time.sleep(0.2)  # so that the nodes share the work
    node: str = ray.get_runtime_context().get_node_id()
    return node


def doubled_slowly(number: int) -> int:
    time.sleep(0.05 * (number % 2))  # so that results are ready in another order than they are wanted
    return 2 * number


def killed_once(place: tuple[str, int]) -> int:
    marker, number = place
    if number == 3 and not os.path.exists(marker):
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does when memory runs out
    return number


def always_killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    raise OutsideWorldError(f"no model {number}", hint="Get it")


def slow_or_noted(place: tuple[str, int]) -> int:
    folder, number = place
    Path(folder, f"{number}-{node_of(number)}").touch()
    time.sleep(1)
    return number


def test_results_come_in_the_order_of_the_batches_from_both_nodes(engine: RayEngine) -> None:
    assert list(engine.map(doubled_slowly, range(12))) == [2 * n for n in range(12)]
    assert len(set(engine.map(node_of, range(12)))) == 2


def test_no_more_than_two_batches_a_core_are_taken_ahead(engine: RayEngine) -> None:
    """Batches may be large: a million items must not be in memory because the workers are slow."""
    import ray

    taken: list[int] = []
    cores: list[int] = []  # a node that another test has ended counts until the cluster has noticed

    def batches() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            cores.append(int(ray.cluster_resources()["CPU"]))
            yield number

    for done, _result in enumerate(engine.map(doubled_slowly, batches())):
        assert len(taken) <= done + 2 * max(cores)


def test_a_killed_worker_is_retried_and_harms_nothing(engine: RayEngine, tmp_path: Path) -> None:
    marker = tmp_path / "killed"
    assert list(engine.map(killed_once, [(str(marker), n) for n in range(8)])) == list(range(8))
    assert marker.exists()


def test_a_batch_that_kills_every_worker_is_the_outside_worlds_fault(engine: RayEngine) -> None:
    with pytest.raises(OutsideWorldError, match=rf"killed {RETRIES + 1} times.*finished batches are kept"):
        list(engine.map(always_killed, range(8)))
    assert list(engine.map(doubled_slowly, range(3))) == [0, 2, 4]


def test_an_error_of_the_work_arrives_as_it_is(engine: RayEngine) -> None:
    with pytest.raises(OutsideWorldError) as caught:
        list(engine.map(refused, range(3)))
    assert str(caught.value) == "no model 0. Get it"


def test_a_node_that_goes_in_the_middle_harms_nothing(
    cluster: Any, engine: RayEngine, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    results = engine.map(slow_or_noted, [(str(tmp_path), n) for n in range(6)])
    first = next(results)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(path.name.endswith(node.node_id) for path in tmp_path.iterdir()):
        assert time.monotonic() < deadline, "the third node was given nothing"
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)
    assert [first, *results] == list(range(6))


def test_a_node_without_the_files_of_the_sources_is_named(
    engine: RayEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its pictures must not count as pictures that cannot be read: they would be removed from the dataset."""
    missing = str(tmp_path / "gone.png")
    batch = pl.DataFrame({"location": [missing], "size_bytes": [1], "mtime_ns": [1], "ctime_ns": [1]})
    # Gone everywhere, since the files were listed: a fault of the file.
    [hashed] = engine.map(images.hash_files, [batch])
    assert hashed["sha256"].to_list() == [None]
    monkeypatch.setattr(ray_engine.os.path, "exists", lambda path: path == missing)
    with pytest.raises(
        OutsideWorldError, match=r"gone\.png is here, and node .* does not see it\. .* same path"
    ):
        list(engine.map(images.hash_files, [batch]))


def test_a_node_with_other_code_is_named(engine: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are kept under this machine's code: another one's would be found there for ever."""
    monkeypatch.setattr(ray_engine, "_code", lambda: "of this machine")
    with pytest.raises(
        OutsideWorldError, match=r"has other code than this machine\. Install the same version"
    ):
        list(engine.map(doubled_slowly, range(2)))


def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(OutsideWorldError, match=f"no Ray cluster at {address}: .*ray start --head") as caught:
        list(RayEngine(address).map(doubled_slowly, range(3)))
    assert caught.value.exit_status == 3


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:ray", "head:99999"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        RayEngine(address)


def test_without_the_library_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'dataset-pipeline\[ray\]'"):
        RayEngine()


def test_embeddings_are_the_same_bit_for_bit(engine: RayEngine, tmp_path: Path) -> None:
    """Two workers of one thread each, and this process with all its cores."""
    open_clip = clip._open_clip()
    torch.manual_seed(1)
    torch.save(open_clip.create_model("small").state_dict(), tmp_path / "model.pt")
    encoder = clip.LazyEncoder(ClipModel(name="m", architecture="small", pretrained="model.pt"), tmp_path)
    embed = functools.partial(clip.embed_text_rows, encoder=encoder)
    batches = [
        pl.DataFrame({"text": [f"hat {number} of {part}" for number in range(70)]}) for part in range(3)
    ]
    for found, batch in zip(engine.for_models().map(embed, batches), batches, strict=True):
        assert found.equals(embed(batch))


def test_a_release_is_the_same_byte_for_byte(built: Bench, engine: RayEngine, tmp_path: Path) -> None:
    with bench(built.config_path, tmp_path / "storage") as made:
        made.engine = engine
        result = made.run()
        assert result.success, failures(result)
        expected = contents(built.release, without=["provenance.json", "SHA256SUMS"])
        assert contents(made.release, without=["provenance.json", "SHA256SUMS"]) == expected
