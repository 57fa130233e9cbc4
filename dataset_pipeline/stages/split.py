"""Divide items into splits so that nothing connected is ever cut.

Belongs here: what is connected (leak groups) and which group goes where. Does not belong here: judging
the result. ``leakage`` does that without looking at how the split came about.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dataset_pipeline.config import Split
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.similarity import Floats, Integers, components, text_chars, text_key
from dataset_pipeline.tables import SPLIT_ITEMS

IMAGE_KINDS = ("same_bytes", "same_pixels", "near_image")

NAMED_IN_ERRORS = 5


@dataclass(frozen=True)
class SplitResult:
    """Items with leak_group and split (SPLIT_ITEMS + texts), and how well the shares were met."""

    items: pl.LazyFrame
    summary: pl.DataFrame
    """split, items, share, target_share, groups, labels, languages; one row a split, in the config's order."""
    strata: pl.DataFrame
    """stratum, split, items, target: items found and items that the ratio asks for (a fraction)."""


def split_items(
    items: pl.LazyFrame, pairs: pl.DataFrame, text_names: Sequence[str], settings: Split, seed: int
) -> SplitResult:
    """Give every item of ``items`` (DEDUPLICATED + texts) its leak_group and split; rows sorted by item_id.

    ``pairs`` (PAIRS) may name items that were removed: what they join stays joined. ``leak_group`` is the
    smallest item_id of the group. The result depends on the rows and the seed, not on their order.

    Stratified: greedy, whole groups, largest first, each to the split where it least increases the chi-square
    distance from the wanted counts, over all strata, each stratified column and the total; then items that
    are a group of their own fill up what is missing. After Sechidis, Tsoumakas and Vlahavas (2011), "On the
    stratification of multi-label data", with groups in the place of examples. A label found in one group only
    goes to 'train': nobody can learn it from elsewhere.

    Raises ``GateError``: no items; fewer groups than splits; a group too large for any split; a split left
    empty; a published split that is missing or unknown.
    """
    table = _stratified_columns(items, settings).with_columns(
        leak_group=_leak_groups(items, pairs, text_names, settings)
    )
    if table.height == 0:
        raise GateError("no items to split", hint="Look at the removed rows for what became of them.")
    if settings.method == "published":
        table = table.with_columns(split=_published(items, settings))
    else:
        table = table.with_columns(split=_assigned(table, settings, seed))
    _refuse_empty_splits(table, settings)
    joined = table.lazy().select("item_id", "leak_group", "split")
    return SplitResult(
        items.join(joined, on="item_id", how="left").select(*SPLIT_ITEMS, *text_names).sort("item_id"),
        _summary(items, table, settings),
        _strata(table, settings),
    )


def _stratified_columns(items: pl.LazyFrame, settings: Split) -> pl.DataFrame:
    """item_id, label, one column s0, s1, ... a stratified column, and ``stratum``; sorted by item_id."""
    columns = [pl.col(name).fill_null("(none)").alias(f"s{i}") for i, name in enumerate(settings.stratify)]
    table = items.select("item_id", "label", *columns).sort("item_id").collect()
    names = [f"s{i}" for i in range(len(settings.stratify))]
    stratum = pl.concat_str(names, separator=" | ") if names else pl.lit("all")
    return table.with_columns(stratum=stratum)


# -- leak groups ---------------------------------------------------------------------------


def _leak_groups(
    items: pl.LazyFrame, pairs: pl.DataFrame, text_names: Sequence[str], settings: Split
) -> pl.Series:
    """Leak group of every item, in order of item_id: the smallest id among all items it is connected with."""
    edges = [pl.DataFrame(schema={"a": pl.String, "b": pl.String})]
    if "group_keys" in settings.link:
        edges.append(_group_key_edges(items))
    if "image" in settings.link:
        edges.append(_edges(pairs.filter(pl.col("kind").is_in(IMAGE_KINDS))))
    if "text" in settings.link:
        edges.append(_text_edges(items, pairs, text_names, settings.min_link_text_chars))
    both = pl.concat(edges)
    present = items.select("item_id").collect().to_series().sort()
    names = pl.concat([both["a"], both["b"]]).unique()
    removed = names.filter(~names.is_in(present.implode())).sort()
    # Removed items come last, so that the smallest node of a group is always one that is there.
    nodes = pl.DataFrame({"id": pl.concat([present, removed])}).with_row_index("node")
    ends = [
        both.select(id=side).join(nodes, on="id", how="left", maintain_order="left")["node"].cast(pl.Int64)
        for side in ("a", "b")
    ]
    smallest = components(nodes.height, ends[0].to_numpy(), ends[1].to_numpy())
    return nodes["id"].gather(smallest[: len(present)]).alias("leak_group")


def _edges(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.select(a="item_id", b="other_item_id")


def _group_key_edges(items: pl.LazyFrame) -> pl.DataFrame:
    """A star around the smallest id of every group key."""
    return (
        items.select("item_id", "group_keys")
        .explode("group_keys", empty_as_null=True, keep_nulls=True)
        .drop_nulls("group_keys")
        .select(a=pl.col("item_id").min().over("group_keys"), b="item_id")
        .filter(pl.col("a") != pl.col("b"))
        .collect()
    )


def _text_edges(
    items: pl.LazyFrame, pairs: pl.DataFrame, text_names: Sequence[str], min_chars: int
) -> pl.DataFrame:
    """Pairs of equal or nearly equal texts that are long enough to connect.

    The text of a removed item is not at hand. Where it equals another, that one's length is its own, so a pair
    of two removed items connects nothing; where it is only nearly equal it counts as long enough.
    """
    texts = items.select("item_id", key=text_key(text_names)).drop_nulls("key").collect()
    is_long = text_chars(pl.col("key")) >= min_chars
    long = texts.filter(is_long)["item_id"].implode()
    short = texts.filter(~is_long)["item_id"].implode()
    first, second = pl.col("item_id"), pl.col("other_item_id")
    same = (pl.col("kind") == "same_text") & (first.is_in(long) | second.is_in(long))
    near = (pl.col("kind") == "near_text") & ~first.is_in(short) & ~second.is_in(short)
    return _edges(pairs.filter(same | near))


# -- assignment ----------------------------------------------------------------------------


def _assigned(table: pl.DataFrame, settings: Split, seed: int) -> pl.Series:
    """Split of every row of ``table``, whole leak groups together."""
    names = list(settings.ratios)
    ratios = np.array([settings.ratios[name] for name in names])
    group_ids, groups, sizes = _numbered(table["leak_group"])
    _refuse_few_groups(len(group_ids), names)
    _refuse_giant_group(table, sizes, settings)

    features = [*(f"s{i}" for i in range(len(settings.stratify))), "stratum"]
    codes = [np.zeros(table.height, np.int64)]
    for feature in features:
        codes.append(codes[-1].max() + 1 + _numbered(table[feature])[1])
    feature_codes = np.stack(codes, axis=1)

    assigned = np.full(len(group_ids), -1)
    train = names.index("train")
    assigned[_only_homes_of_labels(table, groups)] = train
    order = _order(group_ids, sizes, seed)
    counter = _Counter(feature_codes, groups, len(group_ids), ratios)
    counter.place_known(assigned)
    for group in order[sizes[order] > 1]:
        if assigned[group] < 0:
            assigned[group] = counter.place(int(group))
    _fill_up(assigned, order[(sizes[order] == 1) & (assigned[order] < 0)], counter)
    _no_empty_split(assigned, order, sizes, len(names))
    return pl.Series("split", names, dtype=pl.String).gather(assigned[groups])


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
        totals = np.bincount(codes.ravel())
        self.target = ratios[:, None] * totals
        self.count = np.zeros_like(self.target)

    def of(self, group: int) -> tuple[Integers, Integers]:
        """Features of a group, and how many of its items count for each."""
        rows = self.codes[self.offsets[group] : self.offsets[group + 1]]
        features, counts = np.unique(rows, return_counts=True)
        return features, counts

    def place(self, group: int) -> int:
        """Put a group where the chi-square distance from the targets grows least; the split's number."""
        features, added = self.of(group)
        target = self.target[:, features]
        before = self.count[:, features] - target
        growth = (added * (2 * before + added) / target).sum(axis=1)
        split = int(np.argmin(np.round(growth, 9)))
        self.count[split, features] += added
        return split

    def place_known(self, assigned: Integers) -> None:
        for group in np.flatnonzero(assigned >= 0):
            features, added = self.of(int(group))
            self.count[assigned[group], features] += added


def _fill_up(assigned: Integers, singles: Integers, counter: _Counter) -> None:
    """Give groups of one item, in order, to the splits that lack most of their stratum."""
    rows = counter.codes[counter.offsets[singles]]
    strata = rows[:, -1]
    order = np.argsort(strata, kind="stable")
    total_target, total = counter.target[:, 0], counter.count[:, 0]
    for members in np.split(order, np.flatnonzero(np.diff(strata[order])) + 1):
        if len(members) == 0:
            continue
        stratum = strata[members[0]]
        lacking = np.maximum(counter.target[:, stratum] - counter.count[:, stratum], 0)
        share = lacking / lacking.sum() if lacking.sum() > 0 else counter.target[:, 0] / total_target.sum()
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


def _no_empty_split(assigned: Integers, order: Integers, sizes: Integers, count: int) -> None:
    """Move the smallest group of the fullest split into each empty one, where there is another left."""
    for split in range(count):
        if (assigned == split).any():
            continue
        groups = np.bincount(assigned, minlength=count)
        items = np.bincount(assigned, weights=sizes, minlength=count)
        donor = int(np.argmax(np.where(groups > 1, items, -1)))
        smallest_last = order[assigned[order] == donor]
        assigned[smallest_last[-1]] = split


# -- published splits ----------------------------------------------------------------------


def _published(items: pl.LazyFrame, settings: Split) -> pl.Series:
    """The sources' own split of every item, in order of item_id; ``GateError`` where it cannot be used."""
    published = items.select("item_id", "published_split").sort("item_id").collect()["published_split"]
    wrong = published.filter(published.is_null() | ~published.is_in(list(settings.ratios)))
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
    return published.alias("split")


# -- gates ---------------------------------------------------------------------------------


def _refuse_few_groups(groups: int, names: Sequence[str]) -> None:
    if groups < len(names):
        raise GateError(
            f"{len(names)} splits ({', '.join(names)}) need as many groups of connected items, found {groups}",
            hint="Name fewer splits in split.ratios, or connect less in split.link.",
        )


def _refuse_giant_group(table: pl.DataFrame, sizes: Integers, settings: Split) -> None:
    """A group beyond the largest split's share would shrink every other split, whatever one does."""
    largest, room = int(sizes.max()), max(settings.ratios.values()) * table.height
    if largest > int(np.ceil(room)):
        group = table.group_by("leak_group").len().sort("len", "leak_group", descending=[True, False])
        raise GateError(
            f"one group of connected items (of {group['leak_group'][0]!r}) holds {largest:,} of {table.height:,} "
            f"items ({largest / table.height:.1%}); the largest split is to hold {room / table.height:.0%}",
            hint="Often equal short texts connect everything: raise split.min_link_text_chars. "
            "Else look at group_keys, or leave something out of split.link.",
        )


def _refuse_empty_splits(table: pl.DataFrame, settings: Split) -> None:
    filled = set(table["split"].unique())
    if empty_splits := [name for name in settings.ratios if name not in filled]:
        raise GateError(
            f"no item is in split {', '.join(empty_splits)}",
            hint="Leave it out of split.ratios, or give it a larger share.",
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
