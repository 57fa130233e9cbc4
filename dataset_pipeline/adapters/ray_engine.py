"""Runs a function over batches of items as Ray tasks: on this machine, or on an existing cluster.

Belongs here: tasks, what a cluster must have in common with this machine, and what its faults mean. Does not
belong here: what is computed, and starting a cluster (``ray start``).

A task is nested and so travels by value; what it does, it finds in the package that its node has installed, and
refuses where that is another one: results are kept under the code of *this* machine. Batches name files of the
sources; a node that does not see one is reported, and never takes it for a picture that cannot be read.
"""

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from dataset_pipeline.adapters.engine import usable_cores, use_one_thread
from dataset_pipeline.errors import ConfigError, OutsideWorldError

Batch = TypeVar("Batch")
Result = TypeVar("Result")

HERE: Final = "local"
"""The address of a Ray of our own on this machine."""
RETRIES: Final = 3
"""How often a task is given to another worker when its worker or its node dies."""
_PATIENCE_SECONDS: Final = 5.0


class RayEngine:
    """Ray tasks, one core each; connected when first used and until :meth:`close`."""

    def __init__(self, address: str = HERE) -> None:
        """``address``: HOST:PORT of a cluster, or ``local`` for one of our own.

        Raises ``ConfigError`` where Ray is not installed or the address is none.
        """
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                "the engine 'ray' needs the library Ray, which is not installed",
                hint="Install it with: pip install 'dataset-pipeline[ray]'",
            )
        self.address = address
        self._host, _, port = address.rpartition(":")
        if address != HERE and not (self._host and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError(
                f"Ray's address: found '{address}', expected HOST:PORT of the cluster's head node, such as 10.0.0.1:6379"
            )

    def map(self, function: Callable[[Batch], Result], batches: Iterable[Batch]) -> Iterator[Result]:
        """See ``Engine``. At most two batches a core of the cluster are in flight.

        A task whose worker or node dies is given to another one. Raises ``OutsideWorldError`` where that happens
        again and again, or the cluster goes, and where a node has other code or does not see the same files.
        """
        ray = self._connected()
        task = ray.remote(_task()).options(num_cpus=1, max_retries=RETRIES, retry_exceptions=False)
        sent = ray.put(pickle.dumps(function))  # once, however many batches there are
        waiting: deque[tuple[Any, bytes]] = deque()
        try:
            for batch in batches:
                packed = pickle.dumps(batch)
                waiting.append((task.remote(sent, packed, _code(), False), packed))
                if len(waiting) >= self._most_in_flight(ray):
                    yield self._result(ray, task, sent, *waiting.popleft())
            while waiting:
                yield self._result(ray, task, sent, *waiting.popleft())
        finally:
            for reference, _packed in waiting:
                with contextlib.suppress(Exception):  # the cluster may be what has gone
                    ray.cancel(reference, force=True)

    def for_models(self) -> "RayEngine":
        """See ``Engine``: tasks, too; a worker keeps the model that it has loaded."""
        return self

    def close(self) -> None:
        """Leave the cluster; one of our own ends with everything it started."""
        import sys

        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()

    def _connected(self) -> Any:
        """Ray, connected. Raises within seconds where nothing is at the address."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        is_ours = self.address == HERE
        if not is_ours:
            _require_answer(self._host, int(self.address.rpartition(":")[2]))
        import ray

        if ray.is_initialized():
            return ray
        try:
            ray.init(
                address=self.address,
                **({"num_cpus": usable_cores(), "include_dashboard": False} if is_ours else {}),
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except Exception as error:  # Ray raises many kinds, all of which mean this
            raise OutsideWorldError(
                f"Ray at {self.address} cannot be used: {_line(error)}",
                hint="Check that the address is the head node's, that it runs the same versions of Ray and Python, "
                "and that RAY_AUTH_TOKEN holds its token where it asks for one",
            ) from None
        return ray

    def _most_in_flight(self, ray: Any) -> int:
        """Twice what the cluster, which may grow, can do at once."""
        return 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))

    def _result(self, ray: Any, task: Any, sent: Any, reference: Any, packed: bytes) -> Any:
        """The result of one batch, once it is there."""
        outcome = self._outcome(ray, reference)
        if outcome.kind == _UNSEEN and os.path.exists(outcome.content):
            raise OutsideWorldError(
                f"{outcome.content} is here, and node {outcome.node} of the Ray cluster does not see it",
                hint="The folders of the sources must be at the same path on every node: mount a shared file system",
            )
        if outcome.kind == _UNSEEN:  # it has gone here too: a file that cannot be read, as anywhere else
            outcome = self._outcome(ray, task.remote(sent, packed, _code(), True))
        if outcome.kind == _OTHER_CODE:
            raise OutsideWorldError(
                f"node {outcome.node} of the Ray cluster {outcome.content}",
                hint="Install the same version of dataset-pipeline, with its dependencies, on every node",
            )
        return pickle.loads(outcome.content)  # noqa: S301 - what our own code made there

    def _outcome(self, ray: Any, reference: Any) -> "_Outcome":
        try:
            return _Outcome(*ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
            ray.exceptions.NodeDiedError,
        ):
            raise OutsideWorldError(
                f"a Ray worker was killed {RETRIES + 1} times at the same batch",
                hint="Most often memory ran out; run the same command again: finished batches are kept",
            ) from None
        except ray.exceptions.RayError as error:
            raise OutsideWorldError(
                f"the Ray cluster at {self.address} failed: {_line(error)}",
                hint="Run the same command again when it is there: finished batches are kept",
            ) from None


_DONE, _OTHER_CODE, _UNSEEN = "done", "other code", "unseen"


class _Outcome(NamedTuple):
    """What a worker answers; a plain tuple on the way, for it may have no package of ours."""

    kind: str
    node: str
    content: Any
    """A pickled result, what is wrong with the node's code, or the file that it does not see."""


def _task() -> Callable[[bytes, bytes, str, bool], tuple[Any, ...]]:
    """What a worker does, as a nested function: Ray sends it by value, to nodes that may have no package of ours.

    Bytes come in, so that nothing is imported before the number of threads is set.
    """

    module = __name__

    def run(function: bytes, batch: bytes, code: str, may_be_unseen: bool) -> tuple[Any, ...]:
        import importlib
        import socket

        node = socket.gethostname()
        try:
            there = importlib.import_module(module)
        except ImportError:
            return ("other code", node, "has no dataset_pipeline")
        outcome: tuple[Any, ...] = there.run_batch(node, function, batch, code, may_be_unseen)
        return outcome

    return run


def run_batch(node: str, function: bytes, batch: bytes, code: str, may_be_unseen: bool) -> tuple[Any, ...]:
    """In a worker: an outcome as a plain tuple."""
    if code != _code():
        return (_OTHER_CODE, node, "has other code than this machine")
    use_one_thread()
    items = pickle.loads(batch)  # noqa: S301 - what our own code packed
    if not may_be_unseen and (unseen := next((p for p in _files(items) if not os.path.exists(p)), None)):
        return (_UNSEEN, node, unseen)
    return (_DONE, node, pickle.dumps(pickle.loads(function)(items)))  # noqa: S301 - likewise


def _files(items: Any) -> Iterator[str]:
    """Files that the rows of a batch lie in (see ``sources.list_images``)."""
    if "location" in getattr(items, "columns", ()):
        yield from dict.fromkeys(location.partition("\0")[0] for location in items["location"].drop_nulls())


@functools.cache
def _code() -> str:
    """Hash of the package's Python files, as they are when first asked for."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _require_answer(host: str, port: int) -> None:
    """Ray itself would try for a minute."""
    try:
        socket.create_connection((host.strip("[]"), port), timeout=_PATIENCE_SECONDS).close()
    except OSError as error:
        raise OutsideWorldError(
            f"no Ray cluster at {host}:{port}: {error.strerror or error}",
            hint="Start one there with: ray start --head; or leave the address out, for a Ray of this machine alone",
        ) from None


def _line(error: Exception) -> str:
    """The first line of what Ray says, without its colours."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return "".join(c for c in lines[0] if c.isprintable()).strip()[:300]
