"""Verify streams of candidate pairs in bounded memory, whatever the data.

Belongs here: what the searches for pictures and for texts have in common. Does not belong here: which pairs
are candidates (``picture_pairs``, ``text_pairs``).

Once PAIRS_PER_NODE pairs a picture (or text) are listed, and MIN_LISTED_PAIRS in all, only pairs that join two sets are
looked for. Sets of duplicates are exact all the same; only the list of pairs inside huge sets is cut short.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from dataset_pipeline.stages.similarity import Flags, Floats, Integers, components

PAIRS_PER_NODE, MIN_LISTED_PAIRS = 8, 1_000_000
"""So many pairs are listed per distinct picture or text, on average, and in all, before only joining ones are."""

_CANDIDATES_AT_ONCE = 1 << 17

Pair = tuple[Integers, Integers]
Hashes = npt.NDArray[np.uint64]


class PairList:
    """Verified pairs so far; knows which nodes they already join once there are many."""

    def __init__(self, count: int) -> None:
        self._labels: Integers = np.arange(count)
        self._new: list[Pair] = []
        self._room = max(PAIRS_PER_NODE * count, MIN_LISTED_PAIRS)
        self._kept: list[tuple[Integers, Integers, Floats]] = []

    @property
    def is_full(self) -> bool:
        """Whether enough pairs are listed, so that only joining ones are looked for."""
        return self._room <= 0

    @property
    def labels(self) -> Integers:
        """The set of every node: nodes of one set are joined by the pairs so far."""
        if self._new:
            nodes = np.arange(len(self._labels))
            left, right = (np.concatenate([pair[k] for pair in self._new]) for k in (0, 1))
            self._labels = components(
                len(nodes), np.concatenate([nodes, left]), np.concatenate([self._labels, right])
            )
            self._new = []
        return self._labels

    def unknown(self, left: Integers, right: Integers) -> Flags:
        """Which candidates are worth a look: all, or once full those that may join two sets."""
        if self.is_full:
            return np.asarray(self.labels[left] != self.labels[right])
        return np.ones(len(left), bool)

    def add(self, left: Integers, right: Integers, score: Floats) -> None:
        """List these pairs; once full, as many of them as it takes to join the same sets."""
        if len(left) == 0:
            return
        if self.is_full:
            joining = _spanning(self.labels[left], self.labels[right])
            left, right, score = left[joining], right[joining], score[joining]
        self._kept.append((left, right, score))
        self._new.append((left, right))
        self._room -= len(left)

    def pairs(self) -> tuple[Integers, Integers, Floats]:
        """All that are listed."""
        none = np.zeros(0, np.int64)
        kept = [(none, none, np.zeros(0)), *self._kept]
        left, right, score = (np.concatenate([part[k] for part in kept]) for k in range(3))
        return left, right, score


def _spanning(left: Integers, right: Integers) -> Integers:
    """Which of the edges make a spanning forest of all of them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    nodes, ends = np.unique(np.stack([left, right]), return_inverse=True)
    low, high = ends.reshape(2, -1).min(axis=0), ends.reshape(2, -1).max(axis=0)
    _, once = np.unique(low * len(nodes) + high, return_index=True)
    once = once[low[once] != high[once]]
    # The weight of an edge is its position, from 1 on: 0 is no edge.
    edges = coo_array((once + 1.0, (low[once], high[once])), shape=(len(nodes), len(nodes)))
    return np.sort(minimum_spanning_tree(edges.tocsr()).data.astype(np.int64) - 1)


def verify(
    found: PairList,
    candidates: Iterable[Pair],
    measure: Callable[[Integers, Integers], tuple[Flags, Floats]],
) -> None:
    """Measure the candidates and keep those that hold."""
    for left, right in candidates:
        for start in range(0, len(left), _CANDIDATES_AT_ONCE):
            i, j = left[start : start + _CANDIDATES_AT_ONCE], right[start : start + _CANDIDATES_AT_ONCE]
            unknown = found.unknown(i, j)
            i, j = i[unknown], j[unknown]
            holds, score = measure(i, j)
            found.add(i[holds], j[holds], score[holds])


def pairs_with_equal_keys(
    keys: npt.NDArray[np.generic],
    found: PairList | None = None,
    order: Integers | None = None,
    window: int | Integers | None = None,
) -> Iterator[Pair]:
    """All pairs of positions whose keys are equal, in parts of bounded size.

    With a full ``found``, sets of equal keys that are joined already are left out. With a ``window``, a position is
    paired with so many that follow it in ``order``, which must sort the keys, and no others: one number, or one a place.
    """
    if order is None:
        order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_start = np.ones(len(keys), bool)
    is_start[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_start)
    group = np.cumsum(is_start) - 1
    ends = np.append(starts[1:], len(keys))[group]
    partners = ends - np.arange(len(keys)) - 1
    if window is not None:
        partners = np.minimum(partners, window)
    position = 0
    while position < len(keys):
        if found is not None and found.is_full:
            labels = found.labels[order]
            is_joined = np.minimum.reduceat(labels, starts) == np.maximum.reduceat(labels, starts)
            partners = np.where(is_joined[group], 0, partners)
        total = np.cumsum(partners[position:])
        step = max(int(np.searchsorted(total, _CANDIDATES_AT_ONCE)), 1)
        rows = np.arange(position, min(position + step, len(keys)))
        counts = partners[rows]
        left = np.repeat(rows, counts)
        if len(left):
            right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
            yield order[left], order[right]
        position += step
