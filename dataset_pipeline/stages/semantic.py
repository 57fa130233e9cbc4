"""Items that a model's embeddings call alike: pairs that must share a split, and an audit that none is cut.

Belongs here: what ``split.semantic`` asks for. Does not belong here: making embeddings (``adapters/clip.py``), other
links (``leak_groups``) and dividing groups (``split``). Both searches are exhaustive products of blocks of matrices, in
memory that the number of items does not change; the one that audits goes from split to split and knows no pair.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dataset_pipeline.config import DatasetConfig, SemanticLinks
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages.leak_groups import SEMANTIC_KINDS, leak_groups, links_between
from dataset_pipeline.stages.similarity import Floats, Integers, slices
from dataset_pipeline.tables import PAIRS, Schema, empty

KINDS: Final[Mapping[str, str]] = dict(zip(("image", "text"), SEMANTIC_KINDS, strict=True))
"""Embeddings of what -> the kind of the pairs, as a kind of PAIRS."""

MAX_PAIRS: Final = 2_000_000
"""More pairs above the threshold than this stop the build: a threshold that joins nearly everything is a mistake."""

SLACK: Final = 1e-5
"""Products of matrices differ in the last digits by the order of their sums: the audit asks for so much more."""

NEAREST: Final = 24
BINS: Final = 40
_ROWS = 2048
_LEFT_APART: Final[Schema] = {**PAIRS, "group_items": pl.Int64()}


@dataclass(frozen=True)
class Vectors:
    """Embeddings of one kind."""

    key: pl.DataFrame
    """item_id and row (of ``values``) of every item that has one."""
    values: NDArray[np.float32]
    """Shape (rows, dimensions), each of length 1."""


@dataclass(frozen=True)
class Links:
    """Pairs to keep together, and pairs that are not."""

    pairs: pl.DataFrame
    """PAIRS of the kinds of KINDS."""
    left_apart: pl.DataFrame
    """PAIRS and ``group_items``: near pairs that would have made a group of so many items, more than allowed."""


def semantic_links(
    items: pl.LazyFrame,
    vectors: Mapping[str, Vectors],
    pairs: pl.DataFrame,
    text_names: Sequence[str],
    config: DatasetConfig,
) -> Links:
    """Pairs of ``items`` (DEDUPLICATED + texts) whose embeddings have a cosine of the threshold or more.

    ``vectors``: 'image' and 'text', as far as ``split.semantic`` has a threshold for them. ``pairs`` (PAIRS) and the other
    links of ``split`` come first. Items of one picture (or text) are always joined; then pairs of two are, the most similar
    first, each unless the group it makes would have more than ``max_group_items`` items: so no chain of likenesses
    swallows everything. Raises ``GateError`` for more than MAX_PAIRS pairs.
    """
    settings = config.split.semantic
    if settings is None:
        return Links(empty(PAIRS), empty(_LEFT_APART))
    ids = items.select("item_id").sort("item_id").collect()["item_id"]
    stars = [_stars(vectors[kind], kind) for kind in KINDS if kind in vectors]
    found = [_near_pairs(vectors[kind], kind, settings) for kind in KINDS if kind in vectors]
    known = pl.concat([empty(PAIRS), *stars])
    links = links_between(items, pl.concat([pairs, known]), text_names, config.split)
    near = pl.concat([empty(PAIRS), *found]).sort(
        "score", "item_id", "other_item_id", "kind", descending=[True, False, False, False]
    )
    members = leak_groups(ids, links)
    taken, sizes = _within(members, near, ids, settings.max_group_items)
    apart = near.with_columns(group_items=pl.Series(sizes, dtype=pl.Int64)).filter(
        ~pl.Series(taken, dtype=pl.Boolean)
    )
    joined = near.filter(pl.Series(taken, dtype=pl.Boolean))
    return Links(pl.concat([known, joined]).sort("item_id", "other_item_id", "kind"), apart)


def _stars(of: Vectors, kind: str) -> pl.DataFrame:
    """PAIRS: items of one vector with the first of them."""
    return (
        of.key.with_columns(first=pl.col("item_id").min().over("row"))
        .filter(pl.col("first") != pl.col("item_id"))
        .select(item_id="first", other_item_id="item_id", kind=pl.lit(KINDS[kind]), score=pl.lit(1.0))
        .sort("item_id", "other_item_id")
    )


def _near_pairs(of: Vectors, kind: str, settings: SemanticLinks) -> pl.DataFrame:
    """PAIRS: the first items of two vectors whose cosine reaches the threshold."""
    least = _threshold(settings, kind)
    first = of.key.group_by("row").agg(pl.col("item_id").min()).sort("row")
    rows = first["row"].to_numpy()
    left, right, score, count = [], [], [], 0
    for start, other, product in _products(of.values, rows, rows, is_each_once=True):
        i, j = np.nonzero(product >= least)
        once = start + i < other + j
        i, j = i[once], j[once]
        count += len(i)
        if count > MAX_PAIRS:
            raise GateError(
                f"split.semantic.{kind}: more than {MAX_PAIRS:,} pairs have a cosine of {least:g} or more",
                hint="Raise the threshold: it joins what only belongs to one class",
            )
        left.append(start + i)
        right.append(other + j)
        score.append(product[i, j].astype(np.float64))
    ids = first["item_id"]
    one, two = (ids.gather(np.concatenate([np.zeros(0, np.int64), *side])) for side in (left, right))
    table = pl.DataFrame({"one": one, "two": two, "score": np.concatenate([np.zeros(0), *score])})
    return table.select(
        item_id=pl.min_horizontal("one", "two"),
        other_item_id=pl.max_horizontal("one", "two"),
        kind=pl.lit(KINDS[kind], pl.String),
        score=pl.col("score").round(6),
    )


def _threshold(settings: SemanticLinks, kind: str) -> float:
    value = settings.image if kind == "image" else settings.text
    if value is None:
        raise ValueError(f"embeddings of '{kind}', and split.semantic has no threshold for them")
    return value


def _products(
    values: NDArray[np.float32], rows: Integers, columns: Integers, *, is_each_once: bool = False
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """(first row, first column, cosines) of all ``rows`` and ``columns``, block by block.

    ``is_each_once``: without the blocks that lie below the diagonal, where both are the same vectors.
    """
    for other, end in slices(len(columns), _ROWS):
        block = np.ascontiguousarray(values[columns[other:end]])
        for start, stop in slices(end if is_each_once else len(rows), _ROWS):
            yield start, other, values[rows[start:stop]] @ block.T


def _within(
    members: pl.DataFrame, near: pl.DataFrame, ids: pl.Series, largest: int
) -> tuple[NDArray[np.bool_], Integers]:
    """Which pairs are joined, in order, and the items of the group that each would make (Kruskal, with a limit)."""
    group = members["leak_group"].rank("dense").cast(pl.Int64).to_numpy() - 1
    place = pl.DataFrame({"item_id": members["item_id"], "group": group})
    present = place["group"].head(len(ids)).to_numpy()  # removed items come after those that are there
    parent = list(range(int(group.max(initial=-1)) + 1))
    size = np.bincount(present, minlength=len(parent)).tolist()

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    ends = near.join(place, on="item_id", maintain_order="left").join(
        place, left_on="other_item_id", right_on="item_id", suffix="_other", maintain_order="left"
    )
    taken, sizes = np.zeros(near.height, bool), np.zeros(near.height, np.int64)
    for number, (one, two) in enumerate(ends.select("group", "group_other").iter_rows()):
        a, b = root(one), root(two)
        together = size[a] if a == b else size[a] + size[b]
        sizes[number] = together
        taken[number] = a == b or together <= largest
        if a != b and taken[number]:
            low, high = min(a, b), max(a, b)
            parent[high], size[low] = low, together
    return taken, sizes


# -- audit ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SemanticAudit:
    """What an audit of a finished split found."""

    report: dict[str, Any]
    nearest: pl.DataFrame
    """kind, item_id, split, other_item_id, other_split, similarity: the most similar pairs in two splits."""


def audit_semantic(
    items: pl.DataFrame, vectors: Mapping[str, Vectors], left_apart: pl.DataFrame, settings: SemanticLinks
) -> SemanticAudit:
    """Pairs of vectors in two splits whose cosine reaches the threshold, all of them compared.

    ``items``: item_id, split. Counts are of distinct pictures (or texts) in two splits; ``left_apart`` ones are
    counted apart. The histogram is of every distinct vector outside 'train' and its most similar one in it.
    """
    kinds = {
        kind: _audit_kind(items, vectors[kind], kind, left_apart, settings)
        for kind in KINDS
        if kind in vectors
    }
    nearest = pl.concat([pl.DataFrame(schema=_NEAREST), *(found[1] for found in kinds.values())])
    report = {kind: found[0] for kind, found in kinds.items()}
    return SemanticAudit(
        {
            "model": settings.model,
            "max_group_items": settings.max_group_items,
            "cross_split_pairs": sum(found["cross_split_pairs"] for found in report.values()),
            "left_apart_pairs": sum(found["left_apart_pairs"] for found in report.values()),
            "kinds": report,
        },
        nearest,
    )


_NEAREST: Final[Schema] = {
    "kind": pl.String(),
    "item_id": pl.String(),
    "split": pl.String(),
    "other_item_id": pl.String(),
    "other_split": pl.String(),
    "similarity": pl.Float64(),
}


def _audit_kind(
    items: pl.DataFrame, of: Vectors, kind: str, left_apart: pl.DataFrame, settings: SemanticLinks
) -> tuple[dict[str, Any], pl.DataFrame]:
    least = _threshold(settings, kind) + SLACK
    known = of.key.join(items.select("item_id", "split"), on="item_id")
    shown = known.group_by("split", "row").agg(pl.col("item_id").min()).sort("split", "row")
    rows_of = {name: part for (name,), part in shown.group_by("split", maintain_order=True)}
    row_of = dict(of.key.select("item_id", "row").iter_rows())
    apart = left_apart.filter(pl.col("kind") == KINDS[kind]).select("item_id", "other_item_id")
    excused = {frozenset((row_of[one], row_of[two])) for one, two in apart.iter_rows()}
    crossing = left = 0
    best = pl.DataFrame(schema=_NEAREST)
    nearest_in_train = {name: np.full(part.height, -1.0) for name, part in rows_of.items() if name != "train"}
    names = list(rows_of)
    for number, name in enumerate(names):
        for other_name in names[number + 1 :]:
            mine, theirs = rows_of[name], rows_of[other_name]
            a, b = mine["row"].to_numpy(), theirs["row"].to_numpy()
            for start, other, product in _products(of.values, a, b):
                i, j = np.nonzero(product >= least)
                for one, two in zip(a[start + i].tolist(), b[other + j].tolist(), strict=True):
                    crossing, left = (
                        (crossing, left + 1) if frozenset((one, two)) in excused else (crossing + 1, left)
                    )
                best = _best(best, KINDS[kind], (name, mine, start), (other_name, theirs, other), product)
                if "train" in (name, other_name):
                    side, at, axis = (other_name, other, 0) if name == "train" else (name, start, 1)
                    found = nearest_in_train[side][at : at + product.shape[1 - axis]]
                    np.maximum(found, product.max(axis=axis), out=found)
    return (
        {
            "threshold": _threshold(settings, kind),
            "vectors": shown["row"].n_unique(),
            "cross_split_pairs": crossing,
            "left_apart_pairs": left,
            "nearest_in_train": _histogram(nearest_in_train) if "train" in rows_of else None,
        },
        best,
    )


def _best(
    best: pl.DataFrame,
    kind: str,
    mine: tuple[str, pl.DataFrame, int],
    theirs: tuple[str, pl.DataFrame, int],
    product: NDArray[np.float32],
) -> pl.DataFrame:
    """The NEAREST most similar pairs so far, with those of one more block."""
    flat = product.ravel()
    top = np.argpartition(flat, -min(NEAREST, len(flat)))[-NEAREST:]
    i, j = np.divmod(top, product.shape[1])
    new = pl.DataFrame(
        {
            "kind": pl.repeat(kind, len(top), dtype=pl.String, eager=True),
            "item_id": mine[1]["item_id"].gather(mine[2] + i),
            "split": pl.repeat(mine[0], len(top), dtype=pl.String, eager=True),
            "other_item_id": theirs[1]["item_id"].gather(theirs[2] + j),
            "other_split": pl.repeat(theirs[0], len(top), dtype=pl.String, eager=True),
            "similarity": np.round(flat[top].astype(np.float64), 6),
        },
        schema=_NEAREST,
    )
    ordered = pl.concat([best, new]).sort(
        "similarity", "item_id", "other_item_id", descending=[True, False, False]
    )
    return ordered.head(NEAREST)


def _histogram(nearest: Mapping[str, Floats]) -> dict[str, Any]:
    """Counts in BINS of 1 / BINS between 0 and 1, by split; less than 0 counts in the first one."""
    edges = np.linspace(0, 1, BINS + 1)
    counts = {
        name: np.histogram(np.clip(values, 0, 1), edges)[0].tolist() for name, values in nearest.items()
    }
    medians = {
        name: round(float(np.median(values)), 4) if len(values) else None for name, values in nearest.items()
    }
    return {"edges": [round(float(edge), 4) for edge in edges], "counts": counts, "median": medians}
