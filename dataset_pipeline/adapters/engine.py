"""Runs a function over batches of items in worker processes.

Belongs here: processes, order of results, cancellation. Does not belong here: what is computed, and more than one
machine (``ray_engine.py``).
"""

import atexit
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Protocol, TypeVar

from dataset_pipeline.errors import ConfigError, OutsideWorldError

Batch = TypeVar("Batch")
Result = TypeVar("Result")


class Engine(Protocol):
    """Where per-item work runs."""

    def map(self, function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """``function`` of every batch, in the order of the batches. Both must be picklable."""
        ...

    def for_models(self) -> "Engine":
        """Where models run that use every core or a GPU by themselves: one copy a process costs memory."""
        ...

    def close(self) -> None:
        """End whatever was started for the work; the next ``map`` starts it again."""
        ...


class InlineEngine:
    """This process: for models that use all cores, or the GPU, by themselves."""

    def map(self, function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """See :class:`Engine`."""
        return map(function, batches)

    def for_models(self) -> "InlineEngine":
        """See :class:`Engine`."""
        return self

    def close(self) -> None:
        """See :class:`Engine`: nothing was started."""


class LocalEngine:
    """Worker processes on this machine, started once and kept until the process ends."""

    def __init__(self, processes: int | None = None) -> None:
        """``processes``: worker processes; by default one per core that this process may use."""
        self.processes = processes or usable_cores()
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """See :class:`Engine`. At most two batches a worker are in flight, which bounds memory."""
        waiting: deque[Future[Result]] = deque()
        try:
            for batch in batches:
                waiting.append(self._workers().submit(function, batch))
                if len(waiting) >= 2 * self.processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            self.close()
            raise OutsideWorldError(
                "a worker process was killed",
                hint="Most often memory ran out; run the same command again: finished batches are kept",
            ) from None
        finally:
            for future in waiting:
                future.cancel()

    def for_models(self) -> InlineEngine:
        """See :class:`Engine`: this process."""
        return InlineEngine()

    def close(self) -> None:
        """End the workers, and whatever they are at; the next ``map`` starts new ones."""
        if self._pool is not None:
            workers = [*(self._pool._processes or {}).values()]  # public only from Python 3.14 on
            self._pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.terminate()
            self._pool = None

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
            )
            atexit.register(self.close)
        return self._pool


@contextmanager
def one_thread_of_algebra() -> Iterator[None]:
    """Linear algebra (BLAS) on one thread while the block runs.

    Sums of several threads come in any order, so that the last digits would depend on the machine's cores; and where other
    work is on these, threads that spin until the others are done take ten times the processor time.
    """
    import scipy.linalg  # noqa: F401 - only what is loaded by now is limited, and scipy has a BLAS of its own
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def usable_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def engine_named(name: str, ray_address: str | None = None) -> Engine:
    """The engine ``local`` or ``ray``; ``ray_address``: of a cluster, HOST:PORT, else a Ray of this machine alone.

    Raises ``ConfigError`` for any other name, an address without Ray, and where Ray is not installed.
    """
    if name == "ray":
        from dataset_pipeline.adapters.ray_engine import HERE, RayEngine

        return RayEngine(ray_address or HERE)
    if name != "local":
        raise ConfigError(f"engine: found '{name}', expected 'local' (processes of this machine) or 'ray'")
    if ray_address:
        raise ConfigError(
            f"an address of a Ray cluster is given ({ray_address}), and the engine is 'local'",
            hint="Add the engine 'ray', or leave the address out",
        )
    return LocalEngine()


def use_one_thread() -> None:
    """Make the libraries that this process loads from now on use one thread each: there is a process a core."""
    for variable in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch computes on one thread each, so that a number does not hang on the number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker() -> None:
    """One thread a worker, no Ctrl-C of its own, and no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_thread()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this worker when the parent is gone, however it went: it must not write afterwards."""
    connection.wait([sentinel])
    os._exit(1)
