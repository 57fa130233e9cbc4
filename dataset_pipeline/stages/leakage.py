"""Look for leaks between splits, knowing nothing of how the split was made.

Belongs here: an audit of finished splits from items, texts and thumbnails alone. Does not belong here:
the candidate lists of ``duplicates`` or the groups of ``split``. What counts as nearly the same is shared
with them (``similarity``), the search is not (``leak_search``). How much the search itself would miss is
measured in every audit, by planting transformed copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.leak_search import (
    PLANTED_COPIES,
    Edges,
    PictureSearch,
    TextSearch,
    best_crossing,
    joined,
    planted_pictures,
    planted_texts,
)
from dataset_pipeline.stages.similarity import (
    Flags,
    Integers,
    load_thumbnails,
    near_pictures,
    near_texts,
    pictures_of,
    text_chars,
    text_key,
)
from dataset_pipeline.tables import PAIRS

LISTED_PAIRS = 100_000
"""So many near pairs that cross splits are listed a kind; all are counted."""

NEAREST = {
    "kind": pl.String(),
    "item_id": pl.String(),
    "split": pl.String(),
    "other_item_id": pl.String(),
    "other_split": pl.String(),
    "similarity": pl.Float64(),
}


@dataclass(frozen=True)
class Leakage:
    """What an audit found."""

    report: dict[str, Any]
    """Contents of ``reports/leakage.json``."""
    nearest: pl.DataFrame
    """NEAREST: the most similar pictures ('image') and texts ('text') that are in two splits."""
    crossing: pl.DataFrame
    """PAIRS of which the two items are in different splits or folds though they should not be: one a pair of
    pictures or texts, not one a pair of items."""


def audit_leakage(
    items: pl.LazyFrame, images: pl.LazyFrame, text_names: Sequence[str], config: DatasetConfig
) -> Leakage:
    """Every link between items of different splits, and what a random split would have had.

    ``items``: item_id, split, image_sha256, group_keys, fold and texts; without group_keys, as in a release, that
    kind is not looked at; where every item has a fold, links between folds are counted too. ``images``: sha256, pixel_hash, phash, thumbnail. Of ``config`` it reads
    ``duplicates``, ``split.link``, ``split.min_link_text_chars`` and ``seed``.

    Counts are of item pairs: a picture used by 3 items of 'train' and 2 of 'test' is 6 pairs. A pair linked in
    two ways counts in each kind; a kind covers only what the stricter kind before it does not. The random
    split has the same items and the same sizes. ``leaked_items`` are items outside 'train' with at least one
    link into 'train'. Kinds that ``split.link`` leaves out are counted under ``not_linked_by_kind``.
    """
    audit = _Audit(items, images, text_names, config)
    return audit.result()


class _Audit:
    """One audit: the items as numbers, the links of each kind, and what crosses."""

    def __init__(
        self, items: pl.LazyFrame, images: pl.LazyFrame, text_names: Sequence[str], config: DatasetConfig
    ) -> None:
        self.config = config
        schema = items.collect_schema()
        optional: dict[str, pl.DataType] = {
            "group_keys": pl.List(pl.String),
            "leak_group": pl.String(),
            "fold": pl.Int64(),
        }
        given = [
            pl.col(name) if name in schema else pl.lit(None, dtype).alias(name)
            for name, dtype in optional.items()
        ]
        self.table = (
            items.select("item_id", "split", "image_sha256", *given, text_key=text_key(text_names))
            .sort("item_id")
            .collect()
        )
        names = self.table["split"].unique().sort()
        self.split_names = names.to_list()
        self.splits = self.table["split"].rank("dense").cast(pl.Int64).to_numpy() - 1
        self.random_splits = np.random.default_rng(config.seed).permutation(self.splits)
        self.divisions = {"split": self.splits, "random": self.random_splits}
        """What a link may cross: name -> part of each item."""
        self.cells = self.splits
        """Items of one cell may be linked: they are in one split and one fold."""
        if self.table.height and self.table["fold"].null_count() == 0:
            self.divisions["fold"] = _codes(self.table["fold"])
            self.cells = _codes(pl.Series(self.splits * self.table.height + self.divisions["fold"]))
        self.crossing: list[pl.DataFrame] = []
        self.nearest: list[pl.DataFrame] = []
        self.counts: dict[str, dict[str, int]] = {name: {} for name in self.divisions}
        self.leaked = {name: np.zeros(self.table.height, bool) for name in self.divisions}
        self.not_linked: dict[str, int] = {}
        self.is_exhaustive = True
        """Whether every near pair is looked at: of texts but for crowds, of pictures where there are not too many."""
        self.planted: dict[str, dict[str, dict[str, int]]] = {}
        self.method: dict[str, str] = {}

        self._group_keys()
        self._pictures(images)
        self._texts()

    # -- kinds -----------------------------------------------------------------------------

    def _group_keys(self) -> None:
        long = (
            self.table.select(pl.int_range(pl.len()).alias("row"), "group_keys")
            .explode("group_keys", empty_as_null=True, keep_nulls=True)
            .drop_nulls("group_keys")
        )
        rows = long["row"].to_numpy()
        codes = _codes(long["group_keys"])
        self._record("group_keys", "group_keys", rows, codes)

    def _pictures(self, images: pl.LazyFrame) -> None:
        files = pictures_of(self.table.lazy(), images)
        scanned = self.table.select("image_sha256").join(
            files.select("sha256", "pixel_hash"),
            left_on="image_sha256",
            right_on="sha256",
            how="left",
            maintain_order="left",
        )
        rows = np.flatnonzero(self.table["image_sha256"].is_not_null().to_numpy())
        file_codes = _codes(self.table["image_sha256"].gather(rows))
        self._record("same_bytes", "image", rows, file_codes)
        rows = np.flatnonzero(scanned["pixel_hash"].is_not_null().to_numpy())
        codes = _codes(scanned["pixel_hash"].gather(rows))
        within = _codes(self.table["image_sha256"].gather(rows))
        self._record("same_pixels", "image", rows, codes, without=within)

        pictures = files.group_by("pixel_hash").agg(pl.col("sha256").min()).sort("pixel_hash")
        settings = self.config.duplicates.image.linking
        thumbnails = load_thumbnails(images, pictures["sha256"])
        if not settings.near or pictures.height == 0:
            return
        origins, copies, names = planted_pictures(thumbnails, settings, self.config.seed)
        planted = _Planted(len(thumbnails), origins)
        # Grown in place: thumbnails of a million pictures are 3 GB, of which there is no room for a second copy.
        both = thumbnails
        both.resize((pictures.height + len(copies), both.shape[1]), refcheck=False)
        both[pictures.height :] = copies
        search = PictureSearch(both, settings, self.config.seed)
        links = self._near_links(rows, codes)
        for edges in search.near(lambda i, j: planted.are_wanted(i, j, links)):
            links.add(planted.take_out(edges))
        copy = pictures.height + np.arange(len(copies))
        recognised, _ = near_pictures(both, origins, copy, settings)
        self.planted["near_image"] = _planted_counts(names, recognised, planted.is_found)
        self.method["near_image"] = search.method
        self.is_exhaustive = search.is_exhaustive
        self._record_near("near_image", "image", rows, links)
        first_row = _first_rows(rows, codes, pictures.height)
        picture_splits = self.splits[first_row]
        self._near_misses("image", first_row, search.nearest(picture_splits, pictures.height))

    def _texts(self) -> None:
        table = self.table.select("text_key", chars=text_chars(pl.col("text_key")))
        rows = np.flatnonzero(table["text_key"].is_not_null().to_numpy())
        if len(rows) == 0:
            return
        minimum = self.config.split.min_link_text_chars
        chars = table["chars"].gather(rows).cast(pl.Int64).to_numpy()
        long, short = rows[chars >= minimum], rows[chars < minimum]
        self._record("same_text", "text", long, _codes(table["text_key"].gather(long)))
        if len(short):
            self._record("same_short_text", "", short, _codes(table["text_key"].gather(short)))

        settings = self.config.duplicates.text
        if not settings.near:
            return
        keys = table["text_key"].gather(rows)
        distinct = keys.unique().sort()
        codes = _codes(keys)
        origins, copies, names = planted_texts(distinct, self.config.seed)
        both = pl.concat([distinct, copies])
        # A short text that gained a word is only a true near-duplicate where it says so itself.
        first = len(distinct)
        copy = np.arange(first, first + len(copies))
        truth, _ = near_texts(both, origins, copy, settings)
        planted = _Planted(first, origins)
        links, short_links = self._near_links(rows, codes), self._near_links(rows, codes)
        is_long = distinct.to_frame("key").select(text_chars(pl.col("key")) >= minimum).to_series().to_numpy()
        first_row = _first_rows(rows, codes, first)
        best = joined([])
        search = TextSearch(both, settings)
        for found in search.near(
            lambda i, j: planted.are_wanted(i, j, links), lambda i, j: planted.come_first(i, j, links)
        ):
            holds = found[2] >= settings.min_jaccard
            left, right, score = planted.take_out(found, holds)
            best = best_crossing(*joined([best, (left, right, score)]), self.splits[first_row])
            holds, links_both = score >= settings.min_jaccard, is_long[left] & is_long[right]
            for of, taken in ((links, holds & links_both), (short_links, holds & ~links_both)):
                of.add((left[taken], right[taken], score[taken]))
        known = [name for name, true in zip(names, truth, strict=True) if true]
        self.planted["near_text"] = _planted_counts(known, truth[truth], planted.is_found[truth])
        self.method["near_text"] = search.method
        self.is_exhaustive &= search.uncompared == 0
        self._record_near("near_text", "text", rows, links)
        if not is_long.all():
            self._record_near("near_short_text", "", rows, short_links)
        self._near_misses("text", first_row, best)

    # -- counting --------------------------------------------------------------------------

    def _record(
        self, kind: str, link: str, rows: Integers, codes: Integers, *, without: Integers | None = None
    ) -> None:
        """Count what crosses among ``rows`` of equal ``codes``, less those of equal ``without``."""
        tallies = {name: self._tally(name, rows, codes) for name in self.divisions}
        for tally in tallies.values():
            tally.add_equal()
        if without is not None:
            for name, tally in tallies.items():
                stricter = self._tally(name, rows, without)
                stricter.add_equal()
                tally.pairs -= stricter.pairs
        if self._count(kind, link, rows, tallies):
            first = self._first_of_cells(rows, codes)
            ends = first.join(first.group_by("code").agg(pl.col("row").min()), on="code", suffix="_first")
            self._list(kind, ends.filter(pl.col("row") != pl.col("row_first")).with_columns(score=1.0))

    def _record_near(self, kind: str, link: str, rows: Integers, links: "_NearLinks") -> None:
        """Count what crosses among ``rows`` whose codes are joined by ``links``."""
        if self._count(kind, link, rows, links.tallies):
            left, right, score = links.crossing()
            first = self._first_of_cells(rows, links.codes)
            self._list(
                kind,
                pl.DataFrame({"left": left, "right": right, "score": score})
                .join(first, left_on="left", right_on="code")
                .join(first, left_on="right", right_on="code", suffix="_first")
                .filter(pl.col("cell") != pl.col("cell_first")),
            )

    def _count(self, kind: str, link: str, rows: Integers, tallies: dict[str, "_Tally"]) -> bool:
        """Whether anything crosses that must not."""
        if link not in self.config.split.link:
            self.not_linked[kind] = tallies["split"].pairs
            return False
        for name, tally in tallies.items():
            self.counts[name][kind] = tally.pairs
            self.leaked[name][rows[tally.leaked()]] = True
        return any(tally.pairs > 0 for name, tally in tallies.items() if name != "random")

    def _first_of_cells(self, rows: Integers, codes: Integers) -> pl.DataFrame:
        """code, cell, row: the first of ``rows`` of every code in every cell."""
        table = pl.DataFrame({"row": rows, "code": codes, "cell": self.cells[rows]})
        return table.group_by("code", "cell").agg(pl.col("row").min()).sort("code", "row")

    def _list(self, kind: str, ends: pl.DataFrame) -> None:
        """For each picture, text or key that is in several splits, one pair; for each near pair, one."""
        ids = self.table["item_id"]
        a, b = ends["row"].to_numpy(), ends["row_first"].to_numpy()
        self.crossing.append(
            pl.DataFrame(
                {
                    "item_id": ids.gather(np.minimum(a, b)),
                    "other_item_id": ids.gather(np.maximum(a, b)),
                    "kind": pl.repeat(kind, len(a), dtype=pl.String, eager=True),
                    "score": ends["score"].round(6),
                },
                schema=dict(PAIRS),
            )
        )

    def _tally(self, name: str, rows: Integers, codes: Integers) -> "_Tally":
        parts = self.divisions[name]
        is_split = name != "fold"
        return _Tally(codes, parts[rows], int(parts.max(initial=0)) + 1, self._train() if is_split else -1)

    def _near_links(self, rows: Integers, codes: Integers) -> "_NearLinks":
        return _NearLinks(codes, {name: self._tally(name, rows, codes) for name in self.divisions})

    def _train(self) -> int:
        return self.split_names.index("train") if "train" in self.split_names else -1

    def _near_misses(self, kind: str, first_row: Integers, edges: Edges) -> None:
        left, right = first_row[edges[0]], first_row[edges[1]]
        self.nearest.append(
            pl.DataFrame(
                {
                    "kind": pl.repeat(kind, len(left), dtype=pl.String, eager=True),
                    "item_id": self.table["item_id"].gather(left),
                    "split": self.table["split"].gather(left),
                    "other_item_id": self.table["item_id"].gather(right),
                    "other_split": self.table["split"].gather(right),
                    "similarity": np.round(edges[2], 6),
                },
                schema=NEAREST,
            )
        )

    def result(self) -> Leakage:
        """The report and its tables."""
        counts, random = self.counts["split"], self.counts["random"]
        outside = self.splits != self._train()
        random_outside = self.random_splits != self._train()
        config = self.config
        report: dict[str, Any] = {
            "cross_split_pairs": sum(counts.values()),
            "by_kind": counts,
            "leaked_items": int((self.leaked["split"] & outside).sum()),
            "leaked_share": _share(self.leaked["split"], outside),
            "random_split_pairs": sum(random.values()),
            "random_by_kind": random,
            "random_leaked_items": int((self.leaked["random"] & random_outside).sum()),
            "random_leaked_share": _share(self.leaked["random"], random_outside),
            "not_linked_by_kind": self.not_linked,
            "items": self.table.height,
            "items_outside_train": int(outside.sum()),
            "largest_group": self._largest_group(),
            "method": {
                "group_keys": "equal keys",
                "same_bytes": "equal SHA-256 of files",
                "same_pixels": "equal SHA-256 of pixels",
                "same_text": "equal texts, letter case and spacing apart",
                **self.method,
            },
            "thresholds": {
                "image": config.duplicates.image.model_dump(mode="json"),
                "text": config.duplicates.text.model_dump(mode="json"),
                "link": list(config.split.link),
                "min_link_text_chars": config.split.min_link_text_chars,
            },
            "is_accepted": config.split.on_leak == "warn",
            "search_recall": {
                kind: {name: round(row["found"] / row["planted"], 6) for name, row in rows.items()}
                for kind, rows in self.planted.items()
            },
            "planted": self.planted,
            "is_exhaustive": self.is_exhaustive,
            "planted_copies": PLANTED_COPIES,
        }
        if "fold" in self.divisions:
            folds = self.counts["fold"]
            report |= {
                "folds": len(np.unique(self.divisions["fold"])),
                "cross_fold_pairs": sum(folds.values()),
                "cross_fold_by_kind": folds,
            }
        no_pairs, no_nearest = pl.DataFrame(schema=dict(PAIRS)), pl.DataFrame(schema=NEAREST)
        return Leakage(
            report,
            pl.concat([no_nearest, *self.nearest]),
            pl.concat([no_pairs, *self.crossing]).unique().sort("item_id", "other_item_id", "kind"),
        )

    def _largest_group(self) -> dict[str, Any]:
        """Size of the largest leak group, where the items carry one."""
        if "leak_group" not in self.table.columns or self.table.height == 0:
            return {"items": 0, "share": 0.0}
        largest = int(self.table["leak_group"].value_counts()["count"].max())  # type: ignore[arg-type]
        return {"items": largest, "share": round(largest / self.table.height, 6)}


def _share(leaked: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_]) -> float:
    return round(float((leaked & outside).sum() / max(int(outside.sum()), 1)), 6)


def _codes(values: pl.Series) -> Integers:
    """Numbers from 0 in the sorted order of the values; no nulls."""
    return (values.rank("dense").cast(pl.Int64) - 1).to_numpy()


def _first_rows(rows: Integers, codes: Integers, count: int) -> Integers:
    """First row of every code."""
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, rows)
    return first


class _Tally:
    """Item pairs of equal or joined codes in different splits, and which items are linked to 'train'."""

    def __init__(self, codes: Integers, splits: Integers, split_count: int, train: int) -> None:
        """``train``: the number of that split, or -1."""
        count = int(codes.max()) + 1 if len(codes) else 0
        per_code = np.bincount(codes * split_count + splits, minlength=count * split_count)
        self._codes, self._splits, self._train = codes, splits, train
        self._per_code = per_code.reshape(count, split_count)
        self._total = self._per_code.sum(axis=1)
        self._is_linked = np.zeros(count, bool)
        self._has_train = self._per_code[:, train] > 0 if train >= 0 else np.zeros(count, bool)
        self.pairs = 0

    def add_equal(self) -> None:
        """Items of one code are linked."""
        self.pairs += int((self._total**2 - (self._per_code**2).sum(axis=1)).sum()) // 2
        self._is_linked |= self._has_train

    def crossing(self, left: Integers, right: Integers) -> Integers:
        """Item pairs in different splits, of every pair of codes."""
        together = np.einsum("ij,ij->i", self._per_code[left], self._per_code[right])
        return np.asarray(self._total[left] * self._total[right] - together)

    def add_joined(self, left: Integers, right: Integers) -> None:
        """Items of code left[i] are linked with those of code right[i]."""
        self.pairs += int(self.crossing(left, right).sum())
        self._is_linked[left[self._has_train[right]]] = True
        self._is_linked[right[self._has_train[left]]] = True

    def leaked(self) -> Flags:
        """Items outside 'train' with a link into it."""
        return np.asarray(self._is_linked[self._codes] & (self._splits != self._train))


class _NearLinks:
    """Links between nearly equal pictures or texts as they are found: counted, and those that cross splits or folds kept."""

    def __init__(self, codes: Integers, tallies: dict[str, _Tally]) -> None:
        self.codes = codes
        self.tallies = tallies
        self._kept: list[Edges] = []
        self._room = LISTED_PAIRS

    def are_wanted(self, left: Integers, right: Integers) -> Flags:
        """Whether a pair could cross splits, in the split or in the random one."""
        crosses = [tally.crossing(left, right) > 0 for tally in self.tallies.values()]
        return np.asarray(np.logical_or.reduce(crosses))

    def must_not_cross(self, left: Integers, right: Integers) -> Flags:
        """Whether a pair would be a leak of the split or its folds, not of the random split only."""
        crosses = [t.crossing(left, right) > 0 for name, t in self.tallies.items() if name != "random"]
        return np.asarray(np.logical_or.reduce(crosses))

    def add(self, edges: Edges) -> None:
        """Count these links."""
        left, right, score = edges
        for tally in self.tallies.values():
            tally.add_joined(left, right)
        crossing = [tally.crossing(left, right) for name, tally in self.tallies.items() if name != "random"]
        kept = np.flatnonzero(sum(crossing))[: self._room]
        self._kept.append((left[kept], right[kept], score[kept]))
        self._room -= len(kept)

    def crossing(self) -> Edges:
        """Up to LISTED_PAIRS links that cross."""
        return joined(self._kept)


class _Planted:
    """Copies at positions ``first`` and on, each of the picture or text at origins[i]; which were found."""

    def __init__(self, first: int, origins: Integers) -> None:
        self._first = first
        self._origins = origins
        self.is_found = np.zeros(len(origins), bool)

    def are_wanted(self, left: Integers, right: Integers, links: _NearLinks) -> Flags:
        """A copy with its origin, and what ``links`` wants of the rest."""
        is_real = right < self._first
        wanted = np.zeros(len(left), bool)
        wanted[is_real] = links.are_wanted(left[is_real], right[is_real])
        wanted[~is_real] = left[~is_real] == self._origins[right[~is_real] - self._first]
        return wanted

    def come_first(self, left: Integers, right: Integers, links: _NearLinks) -> Flags:
        """Of wanted pairs, all but those that count for the random split only."""
        is_real = right < self._first
        first = ~is_real
        first[is_real] = links.must_not_cross(left[is_real], right[is_real])
        return first

    def take_out(self, edges: Edges, holds: Flags | None = None) -> Edges:
        """The edges without copies. Copies are noted as found (where the edge ``holds``)."""
        left, right, score = edges
        is_real = right < self._first
        is_hit = ~is_real if holds is None else ~is_real & holds
        self.is_found[right[is_hit] - self._first] = True
        return left[is_real], right[is_real], score[is_real]


def _planted_counts(names: Sequence[str], recognised: Flags, found: Flags) -> dict[str, dict[str, int]]:
    """Change -> copies that were planted, that the rule calls nearly the same as their origin, and that were found."""
    table = pl.DataFrame(
        {"name": names, "recognised": recognised, "found": found}, schema_overrides={"name": pl.String}
    )
    counted = table.group_by("name", maintain_order=True).agg(
        planted=pl.len(), recognised=pl.col("recognised").sum(), found=pl.col("found").sum()
    )
    return {row.pop("name"): row for row in counted.to_dicts()}
