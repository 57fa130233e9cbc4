"""Divide items into splits so that nothing connected is ever cut.

Belongs here: what is connected (leak groups) and which group goes where. Does not belong here: judging
the result. ``leakage`` does that without looking at how the split came about.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from dataset_pipeline.config import Split
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.leak_groups import leak_groups, links_between
from dataset_pipeline.stages.similarity import Flags, Floats, Integers
from dataset_pipeline.tables import SPLIT_ITEMS, Schema

NAMED_IN_ERRORS = 5
SHOWN_ROWS = 20
SHOWN_COUNTS = ("moved", "groups_cut_before", "items_off_target", "items_off_target_at_least")

MOVED: Schema = {
    "item_id": pl.String(),
    "old_split": pl.String(),
    "new_split": pl.String(),
    "leak_group": pl.String(),
    "reason": pl.String(),
    "links": pl.String(),
    "follows_item_id": pl.String(),
}
"""One row per item that is not where the release before, or the published split, had it. ``links``: the kinds of
link that tie it to its leak group; ``follows_item_id``: the group's smallest id that was in the new split before."""

MOVE_REASONS: Mapping[str, str] = {
    "group_cut": "items of its leak group were in several splits",
    "label_source": "a label of its leak group comes from elsewhere than split.test_label_sources",
    "split_unknown": "split.ratios does not name its former split any more",
}

LOW_LABELS: Schema = {
    "label": pl.String(),
    "items": pl.Int64(),
    "groups": pl.Int64(),
    "test_items": pl.Int64(),
}
"""One row per label with fewer test items than split.min_test_per_label."""

DEVIATION: Schema = {
    "stratum": pl.String(),
    "items": pl.Int64(),
    "groups": pl.Int64(),
    "off": pl.Float64(),
    "least_off": pl.Float64(),
}
"""One row per stratum: its items beyond the targets of the splits they are in, and how many no split of these groups
could have fewer of, looking at this stratum alone."""


@dataclass(frozen=True)
class SplitResult:
    """Items with leak_group and split (SPLIT_ITEMS + texts), and how well the shares were met."""

    items: pl.LazyFrame
    summary: pl.DataFrame
    """split, items, share, target_share, groups, labels, languages; one row a split, in the config's order."""
    strata: pl.DataFrame
    """stratum, split, items, target: items found and items that the ratio asks for (a fraction)."""
    deviation: pl.DataFrame
    """DEVIATION, sorted by stratum."""
    moved: pl.DataFrame
    """MOVED, sorted by item_id."""
    low_labels: pl.DataFrame
    """LOW_LABELS, sorted by label."""
    report: dict[str, Any]
    """Counts of what was kept, moved and new."""


def split_items(
    items: pl.LazyFrame,
    pairs: pl.DataFrame,
    text_names: Sequence[str],
    settings: Split,
    seed: int,
    released: pl.DataFrame | None = None,
) -> SplitResult:
    """Give every item of ``items`` (DEDUPLICATED + texts) its leak_group and split; rows sorted by item_id.

    ``pairs`` (PAIRS) may name items that were removed: what they join stays joined. ``leak_group`` is the
    smallest item_id of the group. The result depends on the rows and the seed, not on their order.
    ``released``: item_id and split of the release before this one, where there is one.

    Where a group has members that were released (``split.keep``: released), it takes their split. Where they
    were in several, the safest for evaluation: test, else the others in the order of ``split.ratios``, train
    last; so nothing that was test becomes train. A removed item counts too: what it duplicates stands for it.
    ``split.method: repaired`` then looks at the published split: a group that it cuts goes where most of its
    items are (the fewest moves), among equals to the safest. Whoever moves is listed in ``moved``.

    All other groups are stratified: greedy, whole groups, largest first, each to the split where it least
    increases the chi-square distance from the wanted counts, over all strata, each stratified column and the
    total; then items that are a group of their own fill up what is missing. After Sechidis, Tsoumakas and
    Vlahavas (2011), "On the stratification of multi-label data", with groups in the place of examples. A label
    found in one group only goes to 'train': nobody can learn it from elsewhere.

    With ``split.test_label_sources`` a group with any other label source is never in test, released or not.
    With ``split.min_test_per_label`` groups are moved to test for a label that has fewer items there, as long
    as at least as many stay outside; where that is not possible, all its groups go to train that nothing
    holds elsewhere.

    Raises ``GateError``: no items; fewer groups than splits; a group too large for any split; a split left
    empty; a published split that is missing or unknown; too few items with a label source that test may have.
    """
    table = _stratified_columns(items, settings)
    if table.height == 0:
        raise GateError("no items to split", hint="Look at the removed rows for what became of them.")
    links = links_between(items, pairs, text_names, settings)
    members = leak_groups(table["item_id"], links)
    table = table.with_columns(members["leak_group"].head(table.height))
    _refuse_published(table, settings)
    former = _former_splits(table, members, released, settings)
    if settings.method == "published":
        table = table.with_columns(split="published_split")
    else:
        table = table.with_columns(split=_Assignment(table, former, settings, seed).splits())
    _refuse_empty_splits(table, settings)
    joined = table.lazy().select("item_id", "leak_group", "split")
    strata = _strata(table, settings)
    deviation = _deviation(table, former, strata, settings)
    moved = _moved(table, former, links, settings)
    low_labels = _low_labels(table, settings)
    return SplitResult(
        items.join(joined, on="item_id", how="left").select(*SPLIT_ITEMS, *text_names).sort("item_id"),
        _summary(items, table, settings),
        strata,
        deviation,
        moved,
        low_labels,
        _report(table, former, deviation, moved, low_labels, settings),
    )


def _stratified_columns(items: pl.LazyFrame, settings: Split) -> pl.DataFrame:
    """What decides about an item, one column s0, s1, ... a stratified column, and ``stratum``; sorted by item_id."""
    columns = [pl.col(name).fill_null("(none)").alias(f"s{i}") for i, name in enumerate(settings.stratify)]
    table = (
        items.select("item_id", "label", "label_source", "published_split", *columns)
        .sort("item_id")
        .collect()
    )
    names = [f"s{i}" for i in range(len(settings.stratify))]
    stratum = pl.concat_str(names, separator=" | ") if names else pl.lit("all")
    return table.with_columns(stratum=stratum)


# -- where items were before -----------------------------------------------------------------


def _refuse_published(table: pl.DataFrame, settings: Split) -> None:
    """A published split that is to be used must be one that is configured; only a repair fills gaps."""
    if settings.method == "stratified":
        return
    published = table["published_split"]
    wrong = published.filter(~published.is_in(list(settings.ratios)).fill_null(settings.method == "repaired"))
    if len(wrong):
        counts = wrong.fill_null("(missing)").rename("value").value_counts().sort("value")
        named = ", ".join(f"{value} ({n:,})" for value, n in counts.head(NAMED_IN_ERRORS).iter_rows())
        more = counts.height - NAMED_IN_ERRORS
        raise GateError(
            f"{len(wrong):,} items have no published split that is in split.ratios: {named}"
            f"{f' and {more} more values' if more > 0 else ''}; expected {', '.join(settings.ratios)}",
            hint="Name these splits in split.ratios, fill the column of columns.split, "
            "or use split.method: stratified.",
        )


def _former_splits(
    table: pl.DataFrame, members: pl.DataFrame, released: pl.DataFrame | None, settings: Split
) -> pl.DataFrame:
    """item_id, leak_group, old_split, is_released: members of today's groups that have been in a split.

    What was released decides before what the source published. A removed item has no published split here.
    """
    parts = [members.head(0).with_columns(old_split=pl.lit("", pl.String), is_released=pl.lit(True))]
    if released is not None and settings.keep == "released" and settings.method != "published":
        earlier = released.select("item_id", old_split="split")
        parts.append(members.join(earlier, on="item_id", how="inner").with_columns(is_released=pl.lit(True)))
    if settings.method != "stratified":
        published = table.select(
            "item_id", "leak_group", old_split="published_split", is_released=pl.lit(False)
        )
        parts.append(published.drop_nulls("old_split").join(parts[-1], on="item_id", how="anti"))
    return pl.concat(parts).sort("item_id")


def _safest_first(settings: Split) -> list[str]:
    """Splits in the order in which they claim a group that has been in several: what was test is never trained on."""
    others = [name for name in settings.ratios if name not in {"train", "test"}]
    return ["test", *others, "train"]


def _decided(former: pl.DataFrame, barred: pl.Series, settings: Split) -> pl.DataFrame:
    """leak_group, split: where groups have to stay, or go; ``barred`` groups may not be in test."""
    safety = {name: rank for rank, name in enumerate(_safest_first(settings))}
    votes = (
        former.filter(pl.col("old_split").is_in(list(settings.ratios)))
        .filter(~((pl.col("old_split") == "test") & pl.col("leak_group").is_in(barred.implode())))
        .group_by("leak_group", "is_released", "old_split")
        .agg(items=pl.len())
    )
    return (
        votes.with_columns(
            items=pl.when("is_released").then(0).otherwise("items"),
            rank=pl.col("old_split").replace_strict(safety, return_dtype=pl.Int64),
        )
        .sort("leak_group", "is_released", "items", "rank", descending=[False, True, True, False])
        .unique("leak_group", keep="first", maintain_order=True)
        .select("leak_group", split="old_split")
    )


def _moved(table: pl.DataFrame, former: pl.DataFrame, links: pl.DataFrame, settings: Split) -> pl.DataFrame:
    """MOVED: every item that is elsewhere than before, and why."""
    moved = (
        former.select("item_id", "old_split")
        .join(table.select("item_id", "leak_group", new_split="split"), on="item_id")
        .filter(pl.col("old_split") != pl.col("new_split"))
    )
    ends = pl.concat([links.select(item_id="a", kind="kind"), links.select(item_id="b", kind="kind")])
    kinds = (
        ends.join(moved, on="item_id", how="semi")
        .group_by("item_id")
        .agg(links=pl.col("kind").unique().sort().str.join(", "))
    )
    first = former.group_by("leak_group", new_split="old_split").agg(follows_item_id=pl.col("item_id").min())
    is_barred = pl.col("leak_group").is_in(_barred_from_test(table, settings).implode())
    return (
        moved.join(kinds, on="item_id", how="left")
        .join(first, on=["leak_group", "new_split"], how="left")
        .with_columns(
            reason=pl.when(~pl.col("old_split").is_in(list(settings.ratios)))
            .then(pl.lit("split_unknown"))
            .when((pl.col("old_split") == "test") & is_barred)
            .then(pl.lit("label_source"))
            .otherwise(pl.lit("group_cut"))
        )
        .select(*MOVED)
        .sort("item_id")
    )


# -- assignment ----------------------------------------------------------------------------


def _barred_from_test(table: pl.DataFrame, settings: Split) -> pl.Series:
    """Leak groups with a label source that test may not have, sorted."""
    if not settings.test_label_sources:
        return pl.Series("leak_group", [], pl.String)
    is_other = ~pl.col("label_source").is_in(list(settings.test_label_sources)).fill_null(False)
    return table.filter(is_other)["leak_group"].unique().sort()


class _Assignment:
    """Whole leak groups and the splits they go to; a group is a number, and so is a split."""

    def __init__(self, table: pl.DataFrame, former: pl.DataFrame, settings: Split, seed: int) -> None:
        self.table = table
        self.settings = settings
        self.names = list(settings.ratios)
        self.train, self.test = self.names.index("train"), self.names.index("test")
        self.ids, self.groups, self.sizes = _numbered(table["leak_group"])
        barred = _barred_from_test(table, settings)
        self.fixed = self._numbers(_decided(former, barred, settings))
        """Split of each group that something decides, else -1."""
        self.may_test: Flags = ~self.ids.is_in(barred.implode()).to_numpy()
        self._refuse(former)
        self.order = _order(self.ids, self.sizes, seed)
        self.homes = _only_homes_of_labels(table, self.groups)
        self.counter = self._counter()
        self.labels = self._groups_of_labels() if settings.min_test_per_label else {}

    def splits(self) -> pl.Series:
        """Split of every row of the table.

        Labels that cannot have enough test items are found by trying: they go to train, and all is assigned
        again without them, because their items no longer fill what others would.
        """
        low: set[str] = set()
        while True:
            assigned, open_groups = self._assigned(low)
            failed = self._raise_test(assigned, open_groups, low)
            if not failed:
                return pl.Series("split", self.names, dtype=pl.String).gather(assigned[self.groups])
            low |= failed

    def _numbers(self, decided: pl.DataFrame) -> Integers:
        """Split of every group; -1 where ``decided`` (leak_group, split) says none."""
        numbers = {name: number for number, name in enumerate(self.names)}
        found = pl.DataFrame({"leak_group": self.ids}).join(
            decided, on="leak_group", how="left", maintain_order="left"
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
            without_rule = self._numbers(_decided(former, self.ids.head(0), self.settings))
            could = (without_rule < 0) | (without_rule == self.test)
            may = could & self.may_test
            _refuse_little_test(
                int(self.sizes[could].sum()), int(self.sizes[may].sum()), self.settings, self.table
            )

    def _counter(self) -> "_Counter":
        features = [*(f"s{i}" for i in range(len(self.settings.stratify))), "stratum"]
        codes = [np.zeros(self.table.height, np.int64)]
        for feature in features:
            codes.append(codes[-1].max() + 1 + _numbered(self.table[feature])[1])
        ratios = np.array([self.settings.ratios[name] for name in self.names])
        return _Counter(np.stack(codes, axis=1), self.groups, len(self.ids), ratios)

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
            .group_by("label")
            .agg("group", "items", total=pl.col("items").sum())
            .sort("total", "label")
        )
        return {
            label: (np.array(groups, np.int64), np.array(items, np.int64))
            for label, groups, items in counted.select("label", "group", "items").iter_rows()
        }

    def _assigned(self, low: set[str]) -> tuple[Integers, Flags]:
        """Split of every group, and which groups may be moved; those of labels in ``low`` go to train."""
        assigned = self.fixed.copy()
        is_open = assigned < 0
        for label in low:
            groups = self.labels[label][0]
            assigned[groups[self.fixed[groups] < 0]] = self.train
            is_open[groups] = False
        assigned[self.homes[assigned[self.homes] < 0]] = self.train
        counter = self.counter
        counter.start(assigned)
        everywhere = np.ones(len(self.names), bool)
        not_test = np.arange(len(self.names)) != self.test
        for group in self.order[self.sizes[self.order] > 1]:
            if assigned[group] < 0:
                assigned[group] = counter.place(int(group), everywhere if self.may_test[group] else not_test)
        singles = self.order[(self.sizes[self.order] == 1) & (assigned[self.order] < 0)]
        _fill_up(assigned, singles[~self.may_test[singles]], counter, not_test)
        _fill_up(assigned, singles[self.may_test[singles]], counter, everywhere)
        self._fill_empty_splits(assigned, is_open)
        return assigned, is_open

    def _fill_empty_splits(self, assigned: Integers, is_open: Flags) -> None:
        """Move the smallest group of the fullest split into each empty one, where there is another left."""
        for split in range(len(self.names)):
            if (assigned == split).any():
                continue
            groups = np.bincount(assigned, minlength=len(self.names))
            items = np.bincount(assigned, weights=self.sizes, minlength=len(self.names))
            may_come = is_open & (groups[assigned] > 1)
            if split == self.test:
                may_come &= self.may_test
            if may_come.any():
                donors = np.bincount(assigned, weights=may_come, minlength=len(self.names)) > 0
                donor = int(np.argmax(np.where(donors, items, -1)))
                smallest_last = self.order[(assigned == donor)[self.order] & may_come[self.order]]
                assigned[smallest_last[-1]] = split

    def _raise_test(self, assigned: Integers, is_open: Flags, low: set[str]) -> set[str]:
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
        return failed


def _numbered(values: pl.Series) -> tuple[pl.Series, Integers, Integers]:
    """Distinct values sorted; the number of every row's value; rows a value."""
    distinct = values.unique().sort()
    codes = values.rank("dense").cast(pl.Int64).to_numpy() - 1
    return distinct, codes, np.bincount(codes, minlength=len(distinct))


def _order(group_ids: pl.Series, sizes: Integers, seed: int) -> Integers:
    """Groups, the largest first; equal ones in an order that only the seed and the ids decide."""
    shuffled = [
        int.from_bytes(hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest(), "big")
        for group in group_ids
    ]
    return np.lexsort((np.array(shuffled, np.uint64), -sizes))


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


class _Counter:
    """Counts of every feature (a stratum, a label, a language, the total) in every split."""

    def __init__(self, codes: Integers, groups: Integers, group_count: int, ratios: Floats) -> None:
        """``codes``: shape (items, features), numbers of the features that an item counts for."""
        by_group = np.argsort(groups, kind="stable")
        self.codes = codes[by_group]
        self.offsets = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=group_count))])
        self.group_of_code = np.repeat(np.arange(group_count), np.diff(self.offsets))
        totals = np.bincount(codes.ravel())
        self.target = ratios[:, None] * totals
        self.count = np.zeros_like(self.target)

    def of(self, group: int) -> tuple[Integers, Integers]:
        """Features of a group, and how many of its items count for each."""
        rows = self.codes[self.offsets[group] : self.offsets[group + 1]]
        features, counts = np.unique(rows, return_counts=True)
        return features, counts

    def start(self, assigned: Integers) -> None:
        """Count anew, with the groups that have their split already."""
        self.count = np.zeros_like(self.target)
        splits = assigned[self.group_of_code]
        for split in range(len(self.count)):
            codes = self.codes[splits == split].ravel()
            self.count[split] = np.bincount(codes, minlength=self.count.shape[1])

    def place(self, group: int, allowed: Flags) -> int:
        """Put a group where the chi-square distance from the targets grows least; the split's number."""
        features, added = self.of(group)
        target = self.target[:, features]
        before = self.count[:, features] - target
        growth = (added * (2 * before + added) / target).sum(axis=1)
        split = int(np.argmin(np.where(allowed, np.round(growth, 9), np.inf)))
        self.count[split, features] += added
        return split


def _fill_up(assigned: Integers, singles: Integers, counter: _Counter, allowed: Flags) -> None:
    """Give groups of one item, in order, to the allowed splits that lack most of their stratum."""
    rows = counter.codes[counter.offsets[singles]]
    strata = rows[:, -1]
    order = np.argsort(strata, kind="stable")
    total_target, total = counter.target[:, 0], counter.count[:, 0]
    for members in np.split(order, np.flatnonzero(np.diff(strata[order])) + 1):
        if len(members) == 0:
            continue
        stratum = strata[members[0]]
        lacking = np.where(allowed, np.maximum(counter.target[:, stratum] - counter.count[:, stratum], 0), 0)
        if lacking.sum() <= 0:
            lacking = np.where(allowed, total_target, 0)
        share = lacking / lacking.sum()
        quota = np.floor(share * len(members)).astype(np.int64)
        # What rounding leaves over goes where the whole split lacks most: else small strata add up to a bias.
        for _ in range(len(members) - int(quota.sum())):
            open_splits = share * len(members) > quota
            gap = np.where(open_splits, (total_target - total - quota) / total_target, -np.inf)
            quota[int(np.argmax(np.round(gap, 12)))] += 1
        chosen = np.repeat(np.arange(len(quota)), quota)
        assigned[singles[members]] = chosen
        for column in range(rows.shape[1]):
            np.add.at(counter.count, (chosen, rows[members, column]), 1)


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


# -- tables about the split ----------------------------------------------------------------


def _summary(items: pl.LazyFrame, table: pl.DataFrame, settings: Split) -> pl.DataFrame:
    """One row a split."""
    languages = items.select("item_id", "language").collect()
    counts = (
        table.join(languages, on="item_id")
        .group_by("split")
        .agg(
            items=pl.len().cast(pl.Int64),
            groups=pl.col("leak_group").n_unique().cast(pl.Int64),
            labels=pl.col("label").drop_nulls().n_unique().cast(pl.Int64),
            languages=pl.col("language").drop_nulls().n_unique().cast(pl.Int64),
        )
    )
    ratios: Mapping[str, float] = settings.ratios
    wanted = pl.DataFrame(
        {"split": list(ratios), "target_share": list(ratios.values())},
        schema={"split": pl.String, "target_share": pl.Float64},
    )
    return wanted.join(counts, on="split", how="left", maintain_order="left").select(
        "split",
        "items",
        share=(pl.col("items") / table.height).round(6),
        target_share="target_share",
        groups="groups",
        labels="labels",
        languages="languages",
    )


def _strata(table: pl.DataFrame, settings: Split) -> pl.DataFrame:
    """Every stratum in every split, sorted by stratum, splits in the config's order; zeros included."""
    ratios = pl.DataFrame(
        {"split": list(settings.ratios), "ratio": list(settings.ratios.values())},
        schema={"split": pl.String, "ratio": pl.Float64},
    ).with_row_index("position")
    sizes = table.group_by("stratum").len("size")
    counts = table.group_by("stratum", "split").len("items")
    return (
        sizes.join(ratios, how="cross")
        .join(counts, on=["stratum", "split"], how="left")
        .sort("stratum", "position")
        .select(
            "stratum",
            "split",
            items=pl.col("items").fill_null(0).cast(pl.Int64),
            target=(pl.col("size") * pl.col("ratio")).round(3),
        )
    )


def _deviation(
    table: pl.DataFrame, former: pl.DataFrame, strata: pl.DataFrame, settings: Split
) -> pl.DataFrame:
    """DEVIATION; groups that something decides about are where they have to be."""
    names = list(settings.ratios)
    decided = _decided(former, _barred_from_test(table, settings), settings)
    is_free = ~pl.col("leak_group").is_in(decided["leak_group"].implode())
    by_group = table.group_by("stratum", "leak_group", "split").agg(items=pl.len(), is_free=is_free.first())
    facts = (
        by_group.group_by("stratum")
        .agg(
            pl.col("items").sum().cast(pl.Int64),
            groups=pl.len().cast(pl.Int64),
            largest=pl.col("items").filter("is_free").max().fill_null(0),
            **{
                f"fixed{n}": pl.col("items").filter(~pl.col("is_free"), pl.col("split") == name).sum()
                for n, name in enumerate(names)
            },
        )
        .sort("stratum")
    )
    found = strata["items"].to_numpy().reshape(-1, len(names))
    target = facts["items"].to_numpy()[:, None] * np.array(list(settings.ratios.values()))
    fixed = facts.select(f"fixed{n}" for n in range(len(names))).to_numpy().astype(np.float64)
    least = _least_off(target, fixed, facts["largest"].to_numpy())
    return facts.with_columns(
        off=pl.Series(np.maximum(found - target, 0).sum(axis=1)).round(3), least_off=pl.Series(least).round(3)
    ).select(*DEVIATION)


def _least_off(target: Floats, fixed: Floats, largest: Integers) -> Floats:
    """Items beyond their targets that are certain, a stratum: shape (strata, splits) but for ``largest``.

    ``fixed`` items are in a split already, one free group has ``largest`` items and is whole, and items are
    no fractions. The others may go anywhere, one by one, so this is a bound and not always reached.
    """
    whole = np.floor(target + 1e-9)
    least = np.full(len(target), np.inf)
    for split in range(target.shape[1]):
        there = fixed.copy()
        there[:, split] += largest
        off = np.maximum(there - target, 0).sum(axis=1)
        missing = np.rint(target.sum(axis=1) - np.maximum(there, whole).sum(axis=1))
        # A split that is filled up to the whole items of its target takes one more for what it then has too much.
        one_more = np.sort(np.where(there <= whole, 1 - (target - whole), np.inf), axis=1)
        off += np.where(np.arange(target.shape[1]) < missing[:, None], one_more, 0).sum(axis=1)
        least = np.minimum(least, off)
    return least


def _low_labels(table: pl.DataFrame, settings: Split) -> pl.DataFrame:
    """LOW_LABELS."""
    return (
        table.drop_nulls("label")
        .group_by("label")
        .agg(
            items=pl.len().cast(pl.Int64),
            groups=pl.col("leak_group").n_unique().cast(pl.Int64),
            test_items=(pl.col("split") == "test").sum().cast(pl.Int64),
        )
        .filter(pl.col("test_items") < settings.min_test_per_label)
        .select(*LOW_LABELS)
        .sort("label")
    )


def _report(
    table: pl.DataFrame,
    former: pl.DataFrame,
    deviation: pl.DataFrame,
    moved: pl.DataFrame,
    low_labels: pl.DataFrame,
    settings: Split,
) -> dict[str, Any]:
    """What was kept, what moved, what is new, and how far strata are off their targets: counts of items."""
    present = former.join(table.select("item_id", "split"), on="item_id", how="inner")
    kept = present.filter(pl.col("old_split") == pl.col("split"))
    cut = present.group_by("leak_group").agg(pl.col("old_split").n_unique()).filter(pl.col("old_split") > 1)
    return {
        "method": settings.method,
        "items": table.height,
        "kept_released": kept.filter("is_released").height,
        "kept_published": kept.filter(~pl.col("is_released")).height,
        "new": table.height - present.height,
        "moved": moved.height,
        "moved_by_reason": _counts(moved["reason"]),
        "moved_by_splits": _counts(
            moved.select(pl.col("old_split") + " -> " + pl.col("new_split")).to_series()
        ),
        "groups_cut_before": cut.height,
        "labels_below_minimum": low_labels.height,
        "items_off_target": round(float(deviation["off"].sum()), 3),
        "items_off_target_at_least": round(float(deviation["least_off"].sum()), 3),
    }


def _counts(values: pl.Series) -> dict[str, int]:
    """Value -> how often, by name."""
    return dict(values.rename("value").value_counts().sort("value").iter_rows())
