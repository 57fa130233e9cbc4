"""Which items must share a split: those that a group key, a picture or a text connects, directly or through others.

Belongs here: links between items, and their connected components (leak groups). Does not belong here: finding
the pairs (``duplicates``), and which group goes to which split (``split``).
"""

from collections.abc import Sequence

import polars as pl

from dataset_pipeline.config import Split
from dataset_pipeline.stages.similarity import components, text_chars, text_key

IMAGE_KINDS = ("same_bytes", "same_pixels", "near_image")
SEMANTIC_KINDS = ("semantic_image", "semantic_text")
"""Kinds of pairs that ``split.semantic`` asks for (``semantic``): they are there only where it does."""
GROUP_KEY = "group_key"
"""Kind of a link by a group key, beside the kinds of PAIRS."""


def links_between(
    items: pl.LazyFrame, pairs: pl.DataFrame, text_names: Sequence[str], settings: Split
) -> pl.DataFrame:
    """a, b, kind: ids of two items that must share a split, and why."""
    links = [_as_links(pairs.filter(pl.col("kind").is_in(SEMANTIC_KINDS)))]
    if "group_keys" in settings.link:
        links.append(_group_key_links(items))
    if "image" in settings.link:
        links.append(_as_links(pairs.filter(pl.col("kind").is_in(IMAGE_KINDS))))
    if "text" in settings.link:
        links.append(_text_links(items, pairs, text_names, settings.min_link_text_chars))
    return pl.concat(links)


def leak_groups(present: pl.Series, links: pl.DataFrame) -> pl.DataFrame:
    """item_id, leak_group: first of the items in ``present`` (sorted), in its order, then of removed ones.

    The leak group is the smallest id among all items it is connected with.
    """
    names = pl.concat([links["a"], links["b"]]).unique()
    removed = names.filter(~names.is_in(present.implode())).sort()
    # Removed items come last, so that the smallest node of a group is always one that is there.
    nodes = pl.DataFrame({"id": pl.concat([present.rename("id"), removed.rename("id")])}).with_row_index(
        "node"
    )
    ends = [
        links.select(id=side).join(nodes, on="id", how="left", maintain_order="left")["node"].cast(pl.Int64)
        for side in ("a", "b")
    ]
    smallest = components(nodes.height, ends[0].to_numpy(), ends[1].to_numpy())
    return pl.DataFrame({"item_id": nodes["id"], "leak_group": nodes["id"].gather(smallest)})


def _as_links(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.select("kind", a="item_id", b="other_item_id").select("a", "b", "kind")


def _group_key_links(items: pl.LazyFrame) -> pl.DataFrame:
    """A star around the smallest id of every group key."""
    return (
        items.select("item_id", "group_keys")
        .explode("group_keys", empty_as_null=True, keep_nulls=True)
        .drop_nulls("group_keys")
        .select(a=pl.col("item_id").min().over("group_keys"), b="item_id", kind=pl.lit(GROUP_KEY))
        .filter(pl.col("a") != pl.col("b"))
        .collect()
    )


def _text_links(
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
    return _as_links(pairs.filter(same | near))
