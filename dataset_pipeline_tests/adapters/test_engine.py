"""Worker processes: order, bounded work in flight, and what their end means."""

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import connection

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dataset_pipeline.adapters.engine import InlineEngine, LocalEngine, one_thread_of_algebra
from dataset_pipeline.errors import OutsideWorldError


def doubled_slowly(number: int) -> int:
    time.sleep(0.05 * (number % 2))  # so that results are ready in another order than they are wanted
    return 2 * number


def killed_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does when memory runs out
    return number


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    made = LocalEngine(2)
    yield made
    made.close()


def test_results_come_in_the_order_of_the_batches(engine: LocalEngine) -> None:
    expected = list(InlineEngine().map(doubled_slowly, range(12)))
    assert list(engine.map(doubled_slowly, range(12))) == expected == [2 * n for n in range(12)]


def test_no_more_than_two_batches_a_worker_are_taken_ahead(engine: LocalEngine) -> None:
    """Batches may be large: a million items must not be in memory because the workers are slow."""
    taken: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for done, _result in enumerate(engine.map(doubled_slowly, batches())):
        assert len(taken) <= done + 4


def test_a_killed_worker_is_the_outside_worlds_fault_and_the_engine_starts_again(engine: LocalEngine) -> None:
    with pytest.raises(
        OutsideWorldError, match=r"a worker process was killed.*finished batches are kept"
    ) as caught:
        list(engine.map(killed_at_three, range(8)))
    assert caught.value.exit_status == 3
    assert list(engine.map(doubled_slowly, range(3))) == [0, 2, 4]


def test_close_ends_workers_that_are_still_busy() -> None:
    engine = LocalEngine(1)
    results = engine.map(doubled_slowly, range(4))
    assert next(results) == 0
    workers = [*(engine._workers()._processes or {}).values()]
    engine.close()
    for worker in workers:
        # Not is_alive(): the pool's own thread may have collected the exit status just before.
        assert connection.wait([worker.sentinel], 30)


def test_linear_algebra_has_one_thread_within_the_block_alone() -> None:
    """Sums of several threads differ in their last digits from machine to machine."""

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with one_thread_of_algebra():
            assert threads() == {1}
        assert threads() == {2}
