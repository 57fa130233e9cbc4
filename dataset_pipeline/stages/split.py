"""Divide items into splits so that nothing connected is ever cut.

Belongs here: which rule decides about a leak group, in which order. Does not belong here: what is connected
(``leak_groups``), where items were before (``former_splits``), the arithmetic of balance (``assignment``), and
judging the result: ``leakage`` does that without looking at how the split came about.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from dataset_pipeline.config import Split
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.assignment import (
    Task,
    balanced_features,
    divide,
    improve,
    numbered,
    seeded_order,
)
from dataset_pipeline.stages.folds import FOLDS, fold_items, fold_table
from dataset_pipeline.stages.former_splits import (
    decided,
    former_splits,
    moved_items,
    proposed_repairs,
    refuse_published,
    repair_report,
)
from dataset_pipeline.stages.leak_groups import leak_groups, links_between
from dataset_pipeline.stages.similarity import Flags, Integers
from dataset_pipeline.stages.split_report import (
    rare_labels,
    split_deviation,
    split_report,
    split_strata,
    split_summary,
)
from dataset_pipeline.stages.temporal import PERIODS, readable, temporal_splits
from dataset_pipeline.tables import DEDUPLICATED, SPLIT_ITEMS, empty

SHOWN_ROWS = 20
SHOWN_COUNTS = ("moved", "groups_cut_before", "items_off_target", "items_off_target_at_least")


@dataclass(frozen=True)
class SplitResult:
    """Items with leak_group, split and fold (SPLIT_ITEMS + texts), and how well the shares were met."""

    items: pl.LazyFrame
    summary: pl.DataFrame
    """split, items, share, target_share, groups, labels, languages; one row a split, in the config's order."""
    strata: pl.DataFrame
    """stratum, split, items, target: items found and items that the ratio asks for (a fraction)."""
    deviation: pl.DataFrame
    """DEVIATION, sorted by stratum."""
    moved: pl.DataFrame
    """MOVED, sorted by item_id."""
    rare_labels: pl.DataFrame
    """RARE_LABELS, sorted by label."""
    report: dict[str, Any]
    """Counts of what was kept, moved and new."""
    folds: pl.DataFrame
    """FOLDS; no rows where there are none."""
    periods: pl.DataFrame
    """PERIODS; no rows unless the split follows time."""
    repairs: dict[str, pl.DataFrame] = field(default_factory=dict)
    """Of a published split: what each rule of REPAIRS would move (MOVED)."""


def split_items(
    items: pl.LazyFrame,
    pairs: pl.DataFrame,
    text_names: Sequence[str],
    settings: Split,
    seed: int,
    released: pl.DataFrame | None = None,
    attempt: pl.DataFrame | None = None,
) -> SplitResult:
    """Give every item of ``items`` (DEDUPLICATED + texts) its leak_group, split and fold; rows sorted by item_id.

    ``pairs`` (PAIRS) may name items that were removed: what they join stays joined. ``leak_group`` is the
    smallest item_id of the group. The result depends on the rows and the seed, not on their order.
    ``released``: item_id, split and fold (null: none) of the release before this one, where there is one.
    ``attempt``: the same of a split that was made with fewer pairs: a group that it does not cut stays where no rule
    says otherwise, so that what was found to be apart from other splits remains so.

    Where a group has members that were released (``split.keep``: released), it takes their split. Where they
    were in several, the safest for evaluation: test, else the others in the order of ``split.ratios``, train
    last; so nothing that was test becomes train. A removed item counts too: what it duplicates stands for it.
    ``split.method: repaired`` then looks at the published split: a group that it cuts goes where ``split.repair``
    says. ``temporal`` looks at dates alone (see ``temporal``). Whoever moves is listed in ``moved``.

    All other groups are divided so that strata, each stratified column and the total come near their shares (see
    ``assignment``). A label found in one group only goes to 'train': nobody can learn it from elsewhere.

    With ``split.test_label_sources`` a group with any other label source is never in test, released or not.
    With ``split.min_test_per_label`` groups are moved to test for a label that has fewer items there, as long
    as at least as many stay outside; where that is not possible, all its groups go to train that nothing
    holds elsewhere.

    Raises ``GateError``: no items; fewer groups than splits or folds; a group too large for any split or fold; a
    split left empty; a published split that is missing or unknown; dates that are missing or not understood; too
    few items with a label source that test may have.
    """
    table = _stratified_columns(items, settings)
    if table.height == 0:
        raise GateError("no items to split", hint="Look at the removed rows for what became of them.")
    links = links_between(items, pairs, text_names, settings)
    members = leak_groups(table["item_id"], links)
    table = table.with_columns(members["leak_group"].head(table.height))
    refuse_published(table, settings)
    former = former_splits(table, members, released, settings)
    barred = _barred_from_test(table, settings)
    low: frozenset[str] = frozenset()
    periods = empty(PERIODS)
    if settings.method == "published":
        table = table.with_columns(split="published_split")
        held = table["leak_group"].unique()
    elif settings.method == "temporal":
        by_date, periods = temporal_splits(table, former, settings.ratios)
        table = table.join(by_date, on="leak_group", maintain_order="left")
        held = by_date["leak_group"]
    else:
        assignment = _Assignment(table, former, barred, settings, seed, attempt)
        splits, low = assignment.splits()
        table = table.with_columns(splits)
        held = decided(former, barred, settings)["leak_group"]
    _refuse_empty_splits(table, settings)
    table = table.with_columns(_folds(table, members, released, attempt, settings, seed))
    strata = split_strata(table, settings)
    deviation = split_deviation(table, held, strata, settings)
    moved = moved_items(former, table, links, barred, settings)
    rare = rare_labels(table, low, settings)
    report = split_report(table, former, deviation, moved, rare, settings)
    repairs = {}
    if settings.method == "published":
        repairs = proposed_repairs(former, links, barred, settings)
        report["repairs"] = repair_report(former, repairs, settings)
    report["rare"] = rare.to_dicts()
    report["periods"] = readable(periods).to_dicts()
    fold_sizes = fold_table(table, settings.folds, list(settings.ratios)) if settings.folds else empty(FOLDS)
    report["folds"] = fold_sizes.to_dicts()
    joined = table.lazy().select("item_id", "leak_group", "split", "fold")
    return SplitResult(
        items.select(*DEDUPLICATED, *text_names)
        .join(joined, on="item_id", how="left")
        .select(*SPLIT_ITEMS, *text_names)
        .sort("item_id"),
        split_summary(items, table, settings),
        strata,
        deviation,
        moved,
        rare,
        report,
        fold_sizes,
        periods,
        repairs,
    )


def _stratified_columns(items: pl.LazyFrame, settings: Split) -> pl.DataFrame:
    """What decides about an item, one column s0, s1, ... a stratified column, and ``stratum``; sorted by item_id."""
    known = set(items.collect_schema()) - {"strata"}
    columns = [
        (pl.col(name) if name in known else _further_column(name)).fill_null("(none)").alias(f"s{i}")
        for i, name in enumerate(settings.stratify)
    ]
    table = (
        items.select("item_id", "label", "label_source", "published_split", "date", *columns)
        .sort("item_id")
        .collect()
    )
    names = [f"s{i}" for i in range(len(settings.stratify))]
    stratum = pl.concat_str(names, separator=" | ") if names else pl.lit("all")
    return table.with_columns(stratum=stratum)


def _further_column(name: str) -> pl.Expr:
    """The value of a column of ``columns.strata``, which are kept as 'name=value'."""
    element = pl.element()
    found = pl.col("strata").list.eval(element.filter(element.str.starts_with(f"{name}=")))
    return found.list.first().str.strip_prefix(f"{name}=")


def _barred_from_test(table: pl.DataFrame, settings: Split) -> pl.Series:
    """Leak groups with a label source that test may not have, sorted."""
    if not settings.test_label_sources:
        return pl.Series("leak_group", [], pl.String)
    is_other = ~pl.col("label_source").is_in(list(settings.test_label_sources)).fill_null(False)
    return table.filter(is_other)["leak_group"].unique().sort()


def _folds(
    table: pl.DataFrame,
    members: pl.DataFrame,
    released: pl.DataFrame | None,
    attempt: pl.DataFrame | None,
    settings: Split,
    seed: int,
) -> pl.Series:
    """The fold of every row; all null where there are no folds."""
    if not settings.folds:
        return pl.repeat(None, table.height, dtype=pl.Int64, eager=True).alias("fold")
    former = None
    if released is not None and settings.keep == "released":
        known = released.select("item_id", "fold").drop_nulls("fold")
        if known["fold"].n_unique() == settings.folds:  # other folds cannot be kept
            former = members.join(known, on="item_id").select("leak_group", "fold")
    if former is None and attempt is not None:
        former = members.join(attempt, on="item_id").select("leak_group", "fold")
    columns = [f"s{i}" for i in range(len(settings.stratify))]
    return fold_items(table, columns, settings.folds, seed, former)


class _Assignment:
    """Whole leak groups and the splits they go to; a group is a number, and so is a split."""

    def __init__(
        self,
        table: pl.DataFrame,
        former: pl.DataFrame,
        barred: pl.Series,
        settings: Split,
        seed: int,
        attempt: pl.DataFrame | None,
    ) -> None:
        self.table = table
        self.settings = settings
        self.seed = seed
        self.names = list(settings.ratios)
        self.train, self.test = self.names.index("train"), self.names.index("test")
        self.ids, self.groups, self.sizes = numbered(table["leak_group"])
        self.fixed = self._numbers(decided(former, barred, settings))
        """Split of each group that something decides, else -1."""
        self.may_test: Flags = ~self.ids.is_in(barred.implode()).to_numpy()
        self._refuse(former)
        self.order = seeded_order(self.ids, self.sizes, seed)
        self.homes = _only_homes_of_labels(table, self.groups)
        self.task = self._task()
        self.tried = self._tried(attempt)
        """Split of each group in an attempt that did not cut it, else -1."""
        self.labels = self._groups_of_labels() if settings.min_test_per_label else {}

    def splits(self) -> tuple[pl.Series, frozenset[str]]:
        """Split of every row of the table, and the labels that cannot have enough test items.

        Those are found by trying: they go to train, and all is assigned again without them, because their items
        no longer fill what others would.
        """
        low: frozenset[str] = frozenset()
        while True:
            fixed, is_open = self._before_balance(low)
            assigned = divide(self.task, fixed, is_open, self.order)
            failed = self._raise_test(assigned, is_open, low)
            if not failed:
                break
            low |= failed
        movable = (fixed < 0) & ~self._needed(assigned, low)
        assigned = improve(self.task, assigned, movable, self.order, self.seed)
        return pl.Series("split", self.names, dtype=pl.String).gather(assigned[self.groups]), low

    def _numbers(self, places: pl.DataFrame) -> Integers:
        """Split of every group; -1 where ``places`` (leak_group, split) says none."""
        numbers = {name: number for number, name in enumerate(self.names)}
        found = pl.DataFrame({"leak_group": self.ids}).join(
            places, on="leak_group", how="left", maintain_order="left"
        )
        known: Integers = found["split"].replace_strict(numbers, default=-1, return_dtype=pl.Int64).to_numpy()
        return known

    def _refuse(self, former: pl.DataFrame) -> None:
        _refuse_few_groups(len(self.ids), self.names)
        # What a repair keeps together was published like that.
        judged = self.fixed < 0 if self.settings.method == "repaired" else np.ones(len(self.ids), bool)
        _refuse_giant_group(
            self.ids.filter(pl.Series(judged)), self.sizes[judged], self.settings, self.table.height
        )
        if self.settings.test_label_sources and self.settings.method == "stratified":
            without_rule = self._numbers(decided(former, self.ids.head(0), self.settings))
            could = (without_rule < 0) | (without_rule == self.test)
            may = could & self.may_test
            _refuse_little_test(
                int(self.sizes[could].sum()), int(self.sizes[may].sum()), self.settings, self.table
            )

    def _task(self) -> Task:
        columns = [f"s{i}" for i in range(len(self.settings.stratify))]
        weights, emphasis = balanced_features(self.table, columns, self.groups, len(self.ids))
        allowed = np.ones((len(self.ids), len(self.names)), bool)
        allowed[:, self.test] = self.may_test
        ratios = np.array([self.settings.ratios[name] for name in self.names])
        return Task(weights, emphasis, ratios, allowed)

    def _groups_of_labels(self) -> dict[str, tuple[Integers, Integers]]:
        """Label -> its groups, the smallest group first, and how many of its items each has; rarest label first."""
        smallest_first = pl.DataFrame(
            {"group": self.order[np.argsort(self.sizes[self.order], kind="stable")]}
        )
        counted = (
            self.table.select("label", group=pl.Series(self.groups))
            .drop_nulls("label")
            .group_by("group", "label")
            .agg(items=pl.len().cast(pl.Int64))
            .join(smallest_first.with_row_index("place"), on="group")
            .sort("place")
            .group_by("label", maintain_order=True)
            .agg("group", "items", total=pl.col("items").sum())
            .sort("total", "label")
        )
        return {
            label: (np.array(groups, np.int64), np.array(items, np.int64))
            for label, groups, items in counted.select("label", "group", "items").iter_rows()
        }

    def _before_balance(self, low: frozenset[str]) -> tuple[Integers, Flags]:
        """Split of the groups that rules decide about, else -1; and the groups that other rules may move.

        Groups of labels in ``low``, and those that hold all items of a label, go to train.
        """
        fixed = self.fixed.copy()
        is_open = fixed < 0
        for label in low:
            groups = self.labels[label][0]
            fixed[groups[self.fixed[groups] < 0]] = self.train
            is_open[groups] = False
        fixed[self.homes[fixed[self.homes] < 0]] = self.train
        return np.where(fixed < 0, self.tried, fixed), is_open

    def _tried(self, attempt: pl.DataFrame | None) -> Integers:
        if attempt is None:
            return np.full(len(self.ids), -1)
        were = self.table.select("item_id", "leak_group").join(attempt, on="item_id")
        whole = were.group_by("leak_group").agg(pl.col("split").first(), parts=pl.col("split").n_unique())
        return self._numbers(whole.filter(pl.col("parts") == 1))

    def _raise_test(self, assigned: Integers, is_open: Flags, low: frozenset[str]) -> frozenset[str]:
        """Move groups to test for labels with too few items there; labels for which that is not possible."""
        minimum, failed = self.settings.min_test_per_label, set[str]()
        left = np.bincount(assigned, minlength=len(self.names))
        for label, (groups, items) in self.labels.items():
            if label in low:
                continue
            in_test = int(items[assigned[groups] == self.test].sum())
            if in_test >= minimum:
                continue
            outside = int(items.sum()) - in_test
            for group, added in zip(groups.tolist(), items.tolist(), strict=True):
                source = assigned[group]
                if not is_open[group] or not self.may_test[group] or source == self.test or left[source] < 2:
                    continue
                assigned[group] = self.test
                left[source] -= 1
                left[self.test] += 1
                in_test, outside = in_test + added, outside - added
                if in_test >= minimum:
                    break
            if in_test < minimum or outside < minimum:
                failed.add(label)
        for label, (groups, _items) in self.labels.items():
            if label not in low and (assigned[groups] == self.test).all() and is_open[groups].any():
                failed.add(label)
        return frozenset(failed)

    def _needed(self, assigned: Integers, low: frozenset[str]) -> Flags:
        """Groups that have to stay for every label to keep its minimum in test and outside: the largest ones."""
        needed = np.zeros(len(self.ids), bool)
        minimum = self.settings.min_test_per_label
        for label, (groups, items) in self.labels.items():
            if label in low:
                continue
            for side in (assigned[groups] == self.test, assigned[groups] != self.test):
                largest = np.flatnonzero(side)[np.argsort(-items[side], kind="stable")]
                before = np.cumsum(items[largest]) - items[largest]
                needed[groups[largest[before < minimum]]] = True
        return needed


def _only_homes_of_labels(table: pl.DataFrame, groups: Integers) -> Integers:
    """Groups that hold all items of some label."""
    homes = (
        table.select("label", group=pl.Series(groups))
        .drop_nulls("label")
        .group_by("label")
        .agg(pl.col("group").first(), groups=pl.col("group").n_unique())
        .filter(pl.col("groups") == 1)
    )
    return homes["group"].unique().sort().to_numpy()


# -- gates ---------------------------------------------------------------------------------


def _refuse_few_groups(groups: int, names: Sequence[str]) -> None:
    if groups < len(names):
        raise GateError(
            f"{len(names)} splits ({', '.join(names)}) need as many groups of connected items, found {groups}",
            hint="Name fewer splits in split.ratios, or connect less in split.link.",
        )


def _refuse_giant_group(groups: pl.Series, sizes: Integers, settings: Split, items: int) -> None:
    """A group beyond the largest split's share would shrink every other split, whatever one does."""
    largest, room = int(sizes.max(initial=0)), max(settings.ratios.values()) * items
    if largest > int(np.ceil(room)):
        raise GateError(
            f"one group of connected items (of {groups[int(sizes.argmax())]!r}) holds {largest:,} of {items:,} "
            f"items ({largest / items:.1%}); the largest split is to hold {room / items:.0%}",
            hint="Often equal short texts connect everything: raise split.min_link_text_chars. "
            "Else look at group_keys, or leave something out of split.link.",
        )


def _refuse_little_test(could: int, may: int, settings: Split, table: pl.DataFrame) -> None:
    """``could``: items that might be in test but for their label source; ``may``: those that may with it."""
    wanted = min(max(1, int(settings.ratios["test"] * table.height)), could)
    if may < wanted:
        is_chosen = pl.col("label_source").is_in(list(settings.test_label_sources)).fill_null(False)
        chosen = table.filter(is_chosen).height
        raise GateError(
            f"{may:,} items are in groups whose labels all come from {', '.join(settings.test_label_sources)} "
            f"(split.test_label_sources) and may be in test, of {chosen:,} items with such a label; "
            f"test is to hold {wanted:,} of {table.height:,} items",
            hint="Name more sources in split.test_label_sources, give test a smaller share in split.ratios, "
            "or have more items labelled.",
        )


def _refuse_empty_splits(table: pl.DataFrame, settings: Split) -> None:
    filled = set(table["split"].unique())
    if empty_splits := [name for name in settings.ratios if name not in filled]:
        raise GateError(
            f"no item is in split {', '.join(empty_splits)}",
            hint="Leave it out of split.ratios, give it a larger share, or ask less of the test split.",
        )
