"""Divide whole groups among splits so that each split comes near its share of every feature.

Belongs here: arithmetic on numbers: groups, features (whatever is to be shared out evenly), splits, and the search
for a good division. Does not belong here: what a group or a feature is, and the rules that come before balance
(``split``, ``folds``).

A feature is, for example, 'items with label x'. Split s should have t = r[s] n[f] of the n[f] items of feature f.
How far n items are from that: nothing where n is t rounded up or down, since items are no fractions; else the
square of the items beyond that, over t, so that a few too many weigh more where few are expected (Pearson's
chi-square). Features differ in emphasis: small ones decide the division, and large ones how small ones are rounded.

First greedy, largest groups first, each to the split where it adds least to the distance (Sechidis, Tsoumakas and
Vlahavas 2011, "On the stratification of multi-label data", with groups in the place of examples). Then local search:
single groups are moved and pairs of groups exchanged as long as that lowers the distance, and from where it ends
a few groups are shuffled and the search begins again, as far as the effort allows (iterated local search: Lourenço,
Martin and Stützle 2003). Groups with equal features are interchangeable, so all counting is done by profile, a
distinct row of features: a million items that are groups of their own are as many profiles as there are strata.

The same input gives the same division: the effort is counted in operations, never in seconds.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from dataset_pipeline.stages.similarity import Flags, Floats, Integers

EFFORT = 500_000_000
"""Costs that the local search may look at; about ten seconds on one core where it is used up."""

CANDIDATES = 40
"""Groups that may leave a split for another: the most promising ones are tried, alone and in exchange."""

SHUFFLES = 8
"""So many times the search begins again from a shuffled division."""

_OF_STRATUM, _OF_COLUMN, _OF_TOTAL = 1.0, 0.1, 0.03
"""Emphasis. Where whole groups put a stratum off its target, others are hardly put off to make up for it."""

_DIGITS = 11  # sums of floats differ in their last bits between machines; what is equal but for them is equal
_LEAST_GAIN = 1e-9
_ROUNDED = 1e-5  # of two counts that are both the rounded target, the nearer one is a little better


@dataclass(frozen=True)
class Task:
    """Groups, what each weighs, and the shares of the splits."""

    weights: Any
    """Sparse array, shape (groups, features): how many items of a group count for a feature; no empty row."""
    emphasis: Floats
    """How much each feature matters."""
    ratios: Floats
    """Share of each split; they add up to 1."""
    allowed: Flags
    """Shape (groups, splits): where a group may go."""

    @property
    def target(self) -> Floats:
        """Items of each feature that each split should have, shape (splits, features)."""
        return np.asarray(self.ratios[:, None] * np.asarray(self.weights.sum(axis=0)).ravel())

    def counts(self, assigned: Integers) -> Floats:
        """Items of each feature in each split, shape (splits, features); groups at -1 count nowhere."""
        from scipy.sparse import csr_array

        placed = np.flatnonzero(assigned >= 0)
        member = csr_array(
            (np.ones(len(placed)), (assigned[placed], placed)), shape=(len(self.ratios), len(assigned))
        )
        return np.asarray((member @ self.weights).toarray(), np.float64)

    def distance(self, assigned: Integers) -> float:
        """How far a division is from the targets."""
        return float(Costs(self).of(self.counts(assigned)).sum())


class Costs:
    """What it costs that splits have so many items of features: convex in each count."""

    def __init__(self, task: Task) -> None:
        self.target = task.target
        self._low, self._high = np.floor(self.target + 1e-9), np.ceil(self.target - 1e-9)
        self._scale = task.emphasis / np.maximum(self.target, 1)

    def of(self, items: Floats) -> Floats:
        """Costs of ``items``, shape (splits, features)."""
        return np.asarray(self._cost(items, self.target, self._low, self._high, self._scale))

    def change(self, items: Floats, split: int, features: Integers, more: Floats) -> Floats:
        """By how much costs grow where ``split`` has ``more`` items of each of ``features``."""
        known = [of[split, features] for of in (self.target, self._low, self._high, self._scale)]
        now = items[split, features]
        return np.asarray(self._cost(now + more, *known) - self._cost(now, *known))

    @staticmethod
    def _cost(items: Floats, target: Floats, low: Floats, high: Floats, scale: Floats) -> Any:
        beyond = items - np.clip(items, low, high)
        return scale * (beyond * beyond + _ROUNDED * (items - target) ** 2)


def weights_of(kinds: Sequence[Integers], groups: Integers, group_count: int) -> tuple[Any, Integers]:
    """Weights for a Task, and of every feature the number of its kind.

    ``kinds``: for each kind of feature, a number of every item from 0 on, such as that of its label; ``groups``:
    the group of every item. A feature is a kind and a number.
    """
    from scipy.sparse import csr_array

    sizes = [int(numbers.max(initial=-1)) + 1 for numbers in kinds]
    first = np.concatenate([[0], np.cumsum(sizes)])
    columns = np.concatenate([start + numbers for start, numbers in zip(first, kinds, strict=False)])
    rows = np.tile(groups, len(kinds))
    weights = csr_array((np.ones(len(rows)), (rows, columns)), shape=(group_count, int(first[-1])))
    return weights, np.repeat(np.arange(len(kinds)), sizes)


def numbered(values: pl.Series) -> tuple[pl.Series, Integers, Integers]:
    """Distinct values sorted; the number of every row's value; rows a value."""
    distinct = values.unique().sort()
    codes = values.rank("dense").cast(pl.Int64).to_numpy() - 1
    return distinct, codes, np.bincount(codes, minlength=len(distinct))


def balanced_features(
    table: pl.DataFrame, columns: Sequence[str], groups: Integers, group_count: int
) -> tuple[Any, Floats]:
    """(weights, emphasis) of a Task that balances strata first, then columns, then the number of items.

    ``table``: ``stratum`` and ``columns`` of every item; ``groups``: its group.
    """
    everything = np.zeros(table.height, np.int64)
    named = [name for name in columns if 1 < table[name].n_unique() < table["stratum"].n_unique()]
    kinds = [everything, *(numbered(table[name])[1] for name in (*named, "stratum"))]
    weights, kind = weights_of(kinds, groups, group_count)
    return weights, np.array([_OF_TOTAL, *[_OF_COLUMN] * len(named), _OF_STRATUM])[kind]


def seeded_order(group_ids: pl.Series, sizes: Integers, seed: int) -> Integers:
    """Groups, the largest first; equal ones in an order that only the seed and the ids decide."""
    shuffled = [
        int.from_bytes(hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest(), "big")
        for group in group_ids
    ]
    return np.lexsort((np.array(shuffled, np.uint64), -sizes))


def divide(task: Task, fixed: Integers, may_fill: Flags, order: Integers) -> Integers:
    """Split of every group, greedily: where ``fixed`` is not -1 that one, else near the targets.

    ``order``: all groups; among groups of one size, earlier ones choose first. Into a split that would stay empty
    the smallest group of the fullest one is moved that ``may_fill`` it, where the split it leaves has another.
    """
    state = _State(task, fixed, order[fixed[order] < 0])
    state.place_greedily()
    assigned = state.assigned()
    sizes = np.asarray(task.weights.sum(axis=1)).ravel()
    splits = len(task.ratios)
    for split in range(splits):
        groups = np.bincount(assigned, minlength=splits)
        may_come = may_fill & task.allowed[:, split] & (groups[assigned] > 1)
        if groups[split] or not may_come.any():
            continue
        items = np.bincount(assigned, weights=sizes, minlength=splits)
        donors = np.bincount(assigned, weights=may_come, minlength=splits) > 0
        donor = int(np.argmax(np.where(donors, items, -1)))
        last_first = order[((assigned == donor) & may_come)[order]][::-1]
        assigned[last_first[int(np.argmin(sizes[last_first]))]] = split
    return assigned


def improve(task: Task, assigned: Integers, movable: Flags, order: Integers, seed: int) -> Integers:
    """A division no farther from the targets than ``assigned``, by moving groups that are ``movable``."""
    fixed = np.where(movable, -1, assigned)
    state = _State(task, fixed, order[movable[order]])
    state.take(assigned)
    _Search(state, np.random.default_rng(seed)).run()
    return state.assigned()


class _State:
    """How many groups of each profile are in each split, and the items that the splits have then."""

    def __init__(self, task: Task, fixed: Integers, free: Integers) -> None:
        """``free``: the groups to place, in order."""
        self.free = free
        self._fixed = fixed
        keys = _row_hashes(task.weights[free]) + _pattern_hashes(task.allowed[free])
        _, first, self._profile, self.size = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        self.weights = task.weights[free[first]]
        self.allowed = task.allowed[free[first]]
        self.costs = Costs(task)
        items = np.asarray(self.weights.sum(axis=1)).ravel()
        self.order = np.lexsort((first, -items))
        """Profiles, those of large groups first."""
        self.count = np.zeros(self.allowed.shape, np.int64)
        """Free groups of each profile in each split."""
        self.items = task.counts(fixed)
        """Items of each feature in each split, shape (splits, features)."""
        self.fixed_groups = np.bincount(fixed[fixed >= 0], minlength=len(task.ratios))

    def take(self, assigned: Integers) -> None:
        """Begin with this division."""
        np.add.at(self.count, (self._profile, assigned[self.free]), 1)
        self.items += self.count.T @ self.weights

    def row(self, profile: int) -> tuple[Integers, Floats]:
        """Features of a profile's groups, and the items of each."""
        start, stop = self.weights.indptr[profile : profile + 2]
        return self.weights.indices[start:stop], self.weights.data[start:stop]

    def place_greedily(self) -> None:
        """Deal the groups of each profile, each to the split where the distance grows least."""
        splits = range(len(self.items))
        for profile in self.order.tolist():
            features, weight = self.row(profile)
            allowed, left = self.allowed[profile], int(self.size[profile])
            if left > 2 * len(splits):
                dealt = self._share_out(left - len(splits), features, weight, allowed)
                self._place(profile, dealt, features, weight)
                left -= int(dealt.sum())
            for _ in range(left):
                cost = [self.costs.change(self.items, split, features, weight).sum() for split in splits]
                one = np.zeros(len(splits), np.int64)
                one[int(np.argmin(np.where(allowed, np.round(cost, _DIGITS), np.inf)))] = 1
                self._place(profile, one, features, weight)

    def _place(self, profile: int, dealt: Integers, features: Integers, weight: Floats) -> None:
        self.count[profile] += dealt
        self.items[:, features] += dealt[:, None] * weight

    def _share_out(self, groups: int, features: Integers, weight: Floats, allowed: Flags) -> Integers:
        """About how many of ``groups`` equal groups go to each split, never more than ``groups`` in all.

        As many as fill, of the feature with the fewest items, what is missing in each split; where nothing is
        missing, or all of it is filled, by the targets.
        """
        smallest = int(features[np.argmin(self.costs.target[:, features].sum(axis=0))])
        each = float(weight[features == smallest][0])
        target = np.where(allowed, self.costs.target[:, smallest], 0)
        missing = np.where(allowed, np.maximum(target - self.items[:, smallest], 0), 0) / each
        if missing.sum() > groups:
            missing *= groups / missing.sum()
        filled: Integers = np.floor(missing + target * max(groups - missing.sum(), 0) / target.sum()).astype(
            np.int64
        )
        return filled

    def assigned(self) -> Integers:
        """Split of every group; groups of one profile are dealt in order."""
        by_profile = np.argsort(self._profile, kind="stable")
        splits = np.tile(np.arange(len(self.items)), len(self.count))
        assigned = self._fixed.copy()
        assigned[self.free[by_profile]] = np.repeat(splits, self.count.ravel())
        return assigned


@dataclass(frozen=True)
class _Change:
    """A group of ``profile`` goes from ``source`` to ``goal``; one of ``back``, unless it is -1, the other way."""

    gain: float
    profile: int
    back: int
    source: int
    goal: int


class _Search:
    """Local search on a state, in place."""

    def __init__(self, state: _State, generator: np.random.Generator) -> None:
        self.state = state
        self.generator = generator
        self.splits = len(state.items)
        self.leave = np.zeros(state.count.shape)
        """What it costs that a split loses a group of a profile, shape (profiles, splits)."""
        self.join = np.zeros(state.count.shape)
        """What it costs that it gains one."""
        self.effort = EFFORT

    def run(self) -> None:
        """Descend; shuffle a few groups and descend again, keeping the best."""
        if not len(self.state.free):
            return
        self._descend()
        best, best_count = self._distance(), self.state.count.copy()
        for _ in range(SHUFFLES):
            if best < _LEAST_GAIN or self.effort <= 0:
                break
            self._shuffle()
            self._descend()
            found = self._distance()
            if found < best - _LEAST_GAIN:
                best, best_count = found, self.state.count.copy()
            else:
                self._set(best_count)
        self._set(best_count)

    def _distance(self) -> float:
        return float(self.state.costs.of(self.state.items).sum())

    def _set(self, count: Integers) -> None:
        self.state.items += (count - self.state.count).T @ self.state.weights
        self.state.count[:] = count

    def _descend(self) -> None:
        """Apply improving changes until there is none, or the effort is used up."""
        changed = set(range(self.splits))
        while changed and self.effort > 0:
            for split in sorted(changed):
                self._look_at(split)
            changed = set()
            found = sorted(self._changes(), key=lambda c: (c.gain, c.profile, c.back, c.source, c.goal))
            for change in found:
                if self._is_possible(change) and self._gain(change) < -_LEAST_GAIN:
                    self._apply(change)
                    changed |= {change.source, change.goal}

    def _look_at(self, split: int) -> None:
        """Bring ``leave`` and ``join`` of a split up to date."""
        weights, items = self.state.weights, self.state.items
        for known, sign in ((self.join, 1), (self.leave, -1)):
            change = self.state.costs.change(items, split, weights.indices, sign * weights.data)
            known[:, split] = np.add.reduceat(change, weights.indptr[:-1])
        self.effort -= 2 * weights.nnz

    def _changes(self) -> Iterator[_Change]:
        """Changes that lower the distance, one by one."""
        for source in range(self.splits):
            for goal in range(source + 1, self.splits):
                there, there_costs = self._movers(source, goal)
                back, back_costs = self._movers(goal, source)
                for profiles, costs, ends in (
                    (there, there_costs, (source, goal)),
                    (back, back_costs, (goal, source)),
                ):
                    for at in np.flatnonzero(costs < -_LEAST_GAIN).tolist():
                        yield _Change(float(costs[at]), int(profiles[at]), -1, *ends)
                if len(there) and len(back):
                    yield from self._exchanges(there, back, source, goal)

    def _movers(self, source: int, goal: int) -> tuple[Integers, Floats]:
        """Profiles of which a group may go from one split to another, and what that costs; the cheapest ones."""
        state = self.state
        may_go = np.flatnonzero((state.count[:, source] > 0) & state.allowed[:, goal])
        cost = np.round(self.leave[may_go, source] + self.join[may_go, goal], _DIGITS)
        if len(cost) > CANDIDATES:
            kept = np.flatnonzero(cost <= np.partition(cost, CANDIDATES)[CANDIDATES])
            may_go, cost = may_go[kept], cost[kept]
        order = np.argsort(cost, kind="stable")[:CANDIDATES]
        return may_go[order], cost[order]

    def _exchanges(self, there: Integers, back: Integers, source: int, goal: int) -> Iterator[_Change]:
        """The best exchanges of a group of ``there`` for one of ``back``."""
        one, other = np.repeat(there, len(back)), np.tile(back, len(there))
        step = self.state.weights[one] - self.state.weights[other]
        items, costs = self.state.items, self.state.costs
        change = costs.change(items, source, step.indices, -step.data)
        change += costs.change(items, goal, step.indices, step.data)
        self.effort -= 2 * step.nnz
        ends = np.concatenate([[0.0], np.cumsum(change)])
        gains = np.round(ends[step.indptr[1:]] - ends[step.indptr[:-1]], _DIGITS)
        better = np.flatnonzero(gains < -_LEAST_GAIN)
        for at in better[np.argsort(gains[better], kind="stable")[:8]].tolist():
            yield _Change(float(gains[at]), int(one[at]), int(other[at]), source, goal)

    def _step(self, change: _Change) -> tuple[Integers, Floats]:
        """Features, and the items of each that go from ``source`` to ``goal``."""
        if change.back < 0:
            return self.state.row(change.profile)
        step = self.state.weights[[change.profile]] - self.state.weights[[change.back]]
        return step.indices, step.data

    def _gain(self, change: _Change) -> float:
        """By how much the distance grows, as things are now."""
        features, weight = self._step(change)
        items, costs = self.state.items, self.state.costs
        lost = costs.change(items, change.source, features, -weight)
        return float(lost.sum() + costs.change(items, change.goal, features, weight).sum())

    def _is_possible(self, change: _Change) -> bool:
        """Whether the groups are still there, and the split that is left keeps one."""
        count = self.state.count
        if count[change.profile, change.source] < 1:
            return False
        if change.back >= 0:
            return bool(count[change.back, change.goal] >= 1)
        return bool(self.state.fixed_groups[change.source] + count[:, change.source].sum() >= 2)

    def _apply(self, change: _Change) -> None:
        features, weight = self._step(change)
        self.state.items[change.source, features] -= weight
        self.state.items[change.goal, features] += weight
        for profile, source, goal in (
            (change.profile, change.source, change.goal),
            (change.back, change.goal, change.source),
        ):
            if profile >= 0:
                self.state.count[profile, source] -= 1
                self.state.count[profile, goal] += 1

    def _shuffle(self) -> None:
        """Move a few groups, chosen at random, to random splits."""
        state = self.state
        for _ in range(max(3, min(8, len(state.free) // 8))):
            profile = int(self.generator.integers(len(state.count)))
            source = self.generator.choice(np.flatnonzero(state.count[profile]))
            goal = self.generator.choice(np.flatnonzero(state.allowed[profile]))
            change = _Change(0.0, profile, -1, int(source), int(goal))
            if source != goal and self._is_possible(change):
                self._apply(change)


def _row_hashes(weights: Any) -> Integers:
    """A 64-bit number for every row of a sparse array, equal for equal rows (and hardly ever for others)."""
    mixed = _mixed(
        weights.indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + weights.data.astype(np.uint64)
    )
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    return np.asarray((total[weights.indptr[1:]] - total[weights.indptr[:-1]]).astype(np.int64))


def _pattern_hashes(allowed: Flags) -> Integers:
    """The same of the splits where a group may go."""
    numbers = np.arange(1, allowed.shape[1] + 1).astype(np.uint64)
    return np.asarray((allowed * _mixed(numbers)).sum(axis=1, dtype=np.uint64).astype(np.int64))


def _mixed(values: Any) -> Any:
    """Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators": the finaliser of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
