"""How the searches for duplicates and leaks grow, against brute force, and in their worst cases: time, memory, answers.

    python benchmarks/speed_duplicates.py [--quick] [--write] [--only WORD] [--jobs N] [--resume FILE]

Prints tables of docs/performance.md; ``--write`` writes its part of that page. Every row is a process of its own. All items are
made up, with copies planted in known places. A row fails where an answer is wrong: brute force must find the same pairs,
every planted copy must be found, no set may be cut. --quick leaves a million items out; --only runs the rows whose name
has WORD in it; --row NAME --items N runs one row at any size.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from pages import write_part
from scipy.sparse import csr_array

from dataset_pipeline.config import DatasetConfig, Duplicates, ImageDuplicates, Split, TextDuplicates
from dataset_pipeline.stages import (
    duplicates,
    leak_search,
    leakage,
    pair_search,
    picture_pairs,
    similarity,
    split,
    text_pairs,
)
from dataset_pipeline.stages.duplicates import deduplicate, find_pairs
from dataset_pipeline.stages.leakage import audit_leakage
from dataset_pipeline.stages.split import split_items
from dataset_pipeline.tables import DEDUPLICATED, IMAGES, ITEMS, PAIRS, THUMBNAIL_SIDE_PX, empty

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
SMALL, MIDDLE, LARGE = 10_000, 100_000, 1_000_000
SAMPLED = 50
SIZES = (SMALL, MIDDLE, LARGE)
DISTANCE = ImageDuplicates().max_hash_distance
TEXTS = TextDuplicates()
NO_IMAGES = pl.LazyFrame(schema=dict(IMAGES))
Pairs = np.ndarray[tuple[int, int], np.dtype[np.int64]]


class Answer(NamedTuple):
    """What a search found."""

    pairs: int
    said: str | Callable[[], str]
    """In words, or what finds them once time and memory are taken."""


Work = Callable[[], Answer]
"""What is timed; what it needs is there already."""


# -- made-up data --------------------------------------------------------------------------


def made_hashes(count: int) -> pair_search.Hashes:
    """Random 64-bit hashes; of the first tenth, each is one of the second tenth with up to four bits changed."""
    generator = np.random.default_rng(count)
    hashes = generator.integers(0, 2**64, count, np.uint64)
    copies = count // 10
    changed = hashes[copies : 2 * copies].copy()
    for _ in range(DISTANCE):
        changed ^= np.uint64(1) << generator.integers(0, 64, copies).astype(np.uint64)
    hashes[:copies] = changed
    return hashes


def made_texts(count: int) -> pl.Series:
    """Texts of 8 to 16 made-up words; of the first tenth, each is one of the second tenth without its tenth letter."""
    generator = np.random.default_rng(count)
    letters = np.array(list("abcdefghijklmnoprstuvwz"))
    words = np.array(["".join(generator.choice(letters, size)) for size in generator.integers(3, 9, 5000)])
    sizes = generator.integers(8, 17, count)
    chosen = pl.Series(words[generator.integers(0, len(words), int(sizes.sum()))])
    table = pl.DataFrame({"row": np.repeat(np.arange(count), sizes), "word": chosen})
    texts = table.group_by("row", maintain_order=True).agg(pl.col("word").str.join(" "))["word"]
    copies = count // 10
    origins = texts[copies : 2 * copies]
    return pl.concat([origins.str.head(9) + origins.str.slice(10), texts[copies:]])


def orders(count: int) -> pl.Series:
    """Texts by a template: consecutive numbers."""
    number = pl.Series(np.arange(count)).cast(pl.String).str.zfill(7)
    return "Order number " + number + " has been confirmed, thank you for buying with us today"


def alike(count: int) -> pl.Series:
    """Long texts by a template: any two are near."""
    start = "This product is made to order in a small workshop, of the finest cotton, by people who are paid fairly, and "
    number = pl.Series(np.arange(count)).cast(pl.String).str.zfill(7)
    return start * 2 + "sent by post within a week of " + number


def made_thumbnails(count: int, generator: np.random.Generator) -> similarity.Pixels:
    """Smooth pictures, each another one."""
    coarse = generator.integers(20, 236, (count, 6, 6, 3), np.uint8).astype(np.float32)
    place = np.linspace(0, 5, THUMBNAIL_SIDE_PX)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(6))).astype(np.float32)
    fine = np.einsum("yi,nijc,xj->nyxc", weights, coarse, weights, optimize=True)
    return fine.astype(np.uint8).reshape(count, -1)


def noisy(thumbnails: similarity.Pixels, generator: np.random.Generator) -> similarity.Pixels:
    """Copies with the noise of re-encoding."""
    noise = generator.integers(-3, 4, thumbnails.shape, np.int8)
    return np.clip(thumbnails.astype(np.int16) + noise, 0, 255).astype(np.uint8)


def phashes(thumbnails: similarity.Pixels) -> pair_search.Hashes:
    """Signs of the lowest frequencies of luminance: as many bits as pHash, and as near for near pictures."""
    plain = (picture_pairs._waves(0, 0), picture_pairs._waves(0, 0))
    bits = picture_pairs._spectra(similarity.luminance(thumbnails), plain) > 0
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


Kind = Callable[[int, np.random.Generator], similarity.Pixels]


def mixed(count: int, generator: np.random.Generator) -> similarity.Pixels:
    """Different pictures; the last tenth are noisy copies of the first."""
    thumbnails = made_thumbnails(count - count // 10, generator)
    return np.concatenate([thumbnails, noisy(thumbnails[: count // 10], generator)])


def low_texture(count: int, generator: np.random.Generator) -> similarity.Pixels:
    """White pages with a faint picture each: all of one pHash; the last tenth are noisy copies of the first."""
    faint = 235 + made_thumbnails(count - count // 10, generator) // 16
    return np.concatenate([faint, np.minimum(faint[: count // 10], 254) + 1]).astype(np.uint8)


def one_picture(count: int, generator: np.random.Generator) -> similarity.Pixels:
    """Noisy copies of one picture: any two are near."""
    one = made_thumbnails(1, np.random.default_rng(0))
    return noisy(np.repeat(one, count, axis=0), generator)


def written_pictures(
    count: int, kind: Kind, folder: str, one_hash: bool = False
) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """(item_id, sha256, phash) of pictures, and their scans in Parquet files: made block by block, each block by itself."""
    block, parts = 20_000, []
    for start in range(0, count, block):
        size = min(block, count - start)
        thumbnails = kind(size, np.random.default_rng(start))
        names = [f"{start + n:07}" for n in range(size)]
        hashes = np.full(size, 7, np.uint64) if one_hash else phashes(thumbnails)
        pl.DataFrame(
            {
                "sha256": names,
                "pixel_hash": names,
                "phash": hashes,
                "width_px": pl.Series([400] * size, dtype=pl.Int32),
                "height_px": pl.Series([400] * size, dtype=pl.Int32),
                "thumbnail": [row.tobytes() for row in thumbnails],
            }
        ).write_parquet(Path(folder) / f"{start:07}.parquet")
        parts.append(pl.DataFrame({"item_id": names, "sha256": names, "phash": hashes}))
    return pl.concat(parts), pl.scan_parquet(f"{folder}/*.parquet")


def planted_pictures(count: int) -> Pairs:
    """Where ``mixed`` and ``low_texture`` have their copies, in the blocks of ``written_pictures``."""
    block, parts = 20_000, []
    for start in range(0, count, block):
        size = min(block, count - start)
        first = start + np.arange(size // 10)
        parts.append(np.stack([first, first + size - size // 10], axis=1))
    return np.concatenate(parts)


def made_items(**columns: pl.Series | np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.LazyFrame:
    """ITEMS and duplicate_group with these columns, and texts; all else is null."""
    table = pl.DataFrame(columns)
    table = table.with_columns(item_id=pl.Series(np.arange(table.height)).cast(pl.String).str.zfill(7))
    table = table.with_columns(duplicate_group="item_id")
    if "group_keys" not in table.columns:
        table = table.with_columns(group_keys=pl.lit([], pl.List(pl.String)))
    missing = [
        pl.lit(None, dtype).alias(name) for name, dtype in DEDUPLICATED.items() if name not in table.columns
    ]
    return table.with_columns(missing).lazy()


# -- what is measured ----------------------------------------------------------------------


def ordered(left: similarity.Integers, right: similarity.Integers) -> Pairs:
    """Pairs in one order, so that two searches can be compared."""
    pairs = np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def recovered(found: Pairs, planted: Pairs, count: int) -> str:
    """How many of the planted pairs were found."""
    known = np.isin(planted[:, 0] * count + planted[:, 1], found[:, 0] * count + found[:, 1])
    return f"{int(known.sum()):,} of {len(planted):,} planted copies"


def tenth(count: int) -> Pairs:
    """Where ``made_hashes`` and ``made_texts`` have their copies."""
    first = np.arange(count // 10)
    return np.stack([first, first + count // 10], axis=1)


def near_tenth(texts: pl.Series) -> Pairs:
    """The copies of ``made_texts`` that are near: in a short text a letter is more than the threshold allows."""
    pairs = tenth(len(texts))
    score = similarity.jaccard_of_texts(texts, pairs[:, 0], pairs[:, 1], TEXTS.shingle_chars)
    return pairs[score >= TEXTS.min_jaccard]


def every(left: similarity.Integers, _right: similarity.Integers) -> similarity.Flags:
    """All pairs are wanted."""
    return np.ones(len(left), bool)


def near_hashes(hashes: pair_search.Hashes) -> Pairs:
    """Of the duplicates stage: bands of bits."""
    parts = [np.stack(part) for part in picture_pairs._near_hashes(hashes, DISTANCE)]
    return ordered(*np.concatenate(parts, axis=1))


def near_hashes_by_force(hashes: pair_search.Hashes) -> Pairs:
    """Every pair of hashes compared."""
    found = []
    for row in range(len(hashes)):
        near = row + 1 + np.flatnonzero(np.bitwise_count(hashes[row] ^ hashes[row + 1 :]) <= DISTANCE)
        found.append(np.stack([np.full(len(near), row), near]))
    return ordered(*np.concatenate(found, axis=1))


def near_texts(texts: pl.Series) -> Pairs:
    """Of the duplicates stage: MinHash."""
    left, right, _ = text_pairs.near_text_pairs(texts, TEXTS)
    return ordered(left, right)


def near_texts_audited(texts: pl.Series) -> tuple[Pairs, int]:
    """Of the leak audit: equal parts of sets. And how many comparisons it left out."""
    search = leak_search.TextSearch(texts, TEXTS)
    left, right, score = leak_search.joined(list(search.near(every)))
    holds = score >= TEXTS.min_jaccard
    return ordered(left[holds], right[holds]), search.uncompared


def near_texts_by_force(texts: pl.Series) -> Pairs:
    """Shared shingles of every pair of texts, by products of sparse matrices."""
    sets = similarity.shingles(texts, TEXTS.shingle_chars)
    _, columns = np.unique(sets.values, return_inverse=True)
    matrix = csr_array((np.ones(len(columns), np.int32), columns, sets.offsets))
    across = matrix.T.tocsr()
    found = []
    for start, stop in similarity.slices(len(texts), 500):
        shared = (matrix[start:stop] @ across).toarray()
        sizes = sets.sizes[start:stop, None] + sets.sizes[None, :] - shared
        i, j = np.nonzero(shared >= TEXTS.min_jaccard * sizes)
        i += start
        found.append(np.stack([i, j])[:, i < j])
    return ordered(*np.concatenate(found, axis=1))


def audit_config() -> DatasetConfig:
    """A config of which the audit reads ``duplicates``, ``split`` and ``seed``: the defaults."""
    source = {"id": "s", "path": "items.csv", "licence": "CC0-1.0"}
    return DatasetConfig.model_validate(
        {"name": "made", "version": "1.0.0", "licence": "CC0-1.0", "sources": [source]}
    )


# -- growth --------------------------------------------------------------------------------


def hashes_by_bands(count: int, _folder: str) -> Work:
    hashes = made_hashes(count)

    def work() -> Answer:
        found = near_hashes(hashes)
        return Answer(len(found), recovered(found, tenth(count), count))

    return work


def hashes_by_force(count: int, _folder: str) -> Work:
    hashes = made_hashes(count)
    banded = near_hashes(hashes)

    def work() -> Answer:
        found = near_hashes_by_force(hashes)
        assert np.array_equal(found, banded), "the two searches differ"
        return Answer(len(found), "the same pairs as by bands")

    return work


def hashes_by_force_in_part(count: int, _folder: str) -> Work:
    hashes = made_hashes(count)
    rows = np.arange(0, count, 100)
    banded = near_hashes(hashes)
    banded = banded[(banded % 100 == 0).any(axis=1)]

    def work() -> Answer:
        found = [np.flatnonzero(np.bitwise_count(hashes[row] ^ hashes) <= DISTANCE) for row in rows]
        left, right = np.repeat(rows, [len(near) for near in found]), np.concatenate(found)
        forced = ordered(left[left != right], right[left != right])
        assert np.array_equal(np.unique(forced, axis=0), banded), "the two searches differ"
        return Answer(
            len(banded),
            "the same pairs as by bands; all would take fifty times as long",
        )

    return work


def pictures(count: int, folder: str) -> Work:
    table, images = written_pictures(count, mixed, folder)

    def work() -> Answer:
        left, right, _ = picture_pairs.near_picture_pairs(table, images, ImageDuplicates())
        return Answer(len(left), recovered(ordered(left, right), planted_pictures(count), count))

    return work


def pictures_audited(count: int, folder: str) -> Work:
    table, images = written_pictures(count, mixed, folder)
    items = made_items(
        image_sha256=table["sha256"],
        title=pl.Series([None], dtype=pl.String).new_from_index(0, count),
        split=spread(count),
    )
    return audited(items, images, "near_image", planted_pictures(count))


def texts_by_minhash(count: int, _folder: str) -> Work:
    texts = made_texts(count)
    planted = near_tenth(texts)

    def work() -> Answer:
        found = near_texts(texts)
        return Answer(len(found), recovered(found, planted, count))

    return work


def texts_audited(count: int, _folder: str) -> Work:
    texts = made_texts(count)
    planted = tenth(count)

    def work() -> Answer:
        found, uncompared = near_texts_audited(texts)
        return Answer(len(found), f"{recovered(found, planted, count)}; {uncompared:,} comparisons left out")

    return work


def texts_by_force(count: int, _folder: str) -> Work:
    texts = made_texts(count)
    by_minhash, audited = near_texts(texts), near_texts_audited(texts)[0]

    def work() -> Answer:
        found = near_texts_by_force(texts)
        assert np.array_equal(found, by_minhash), "MinHash finds other pairs"
        assert np.array_equal(found, audited), "the audit's search finds other pairs"
        return Answer(len(found), "the same pairs as both searches")

    return work


def deduplicated(items: pl.LazyFrame, images: pl.LazyFrame, said: Callable[[int, int, int], str]) -> Work:
    """Pairs and the choice of who stays; ``said`` of removed, sets and largest set."""
    settings = Duplicates()
    given = items.select(*ITEMS, "title")

    def work() -> Answer:
        pairs = find_pairs(given, images, ["title"], settings)
        result = deduplicate(given, images, pairs, ["title"], settings, [])
        groups = result.items.select("duplicate_group").collect().to_series()
        sizes = groups.value_counts()["count"]
        removed = result.removed.select(pl.len()).collect().item()
        return Answer(pairs.height, said(removed, len(sizes), int(sizes.max() or 0)))  # type: ignore[arg-type]

    return work


def stage_of_texts(count: int, _folder: str) -> Work:
    texts = made_texts(count)
    copies = len(near_tenth(texts))
    return deduplicated(
        made_items(title=texts),
        NO_IMAGES,
        lambda removed, sets, _: f"{removed:,} of {copies:,} copies removed, {sets:,} sets left",
    )


def split_of_groups(count: int, _folder: str) -> Work:
    generator = np.random.default_rng(1)
    keys = pl.Series(generator.integers(0, count * 2 // 5, count)).cast(pl.String)
    items = made_items(
        label=pl.Series(generator.integers(0, 50, count)).cast(pl.String),
        language=pl.Series(generator.integers(0, 5, count)).cast(pl.String),
        group_keys=keys.to_frame("k").select(pl.concat_list("k"))["k"],
    )

    def work() -> Answer:
        result = split_items(items, empty(PAIRS), (), Split(), 0)
        table = result.items.select("leak_group", "split").collect()
        cut = table.group_by("leak_group").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1).height
        return Answer(0, f"{table['leak_group'].n_unique():,} groups, {cut} cut")

    return work


def spread(count: int) -> pl.Series:
    """A split by chance: 8 of 10 in train."""
    chosen = np.random.default_rng(5).choice(["train", "validation", "test"], count, p=[0.8, 0.1, 0.1])
    return pl.Series(chosen)


def audited(items: pl.LazyFrame, images: pl.LazyFrame, kind: str, planted: Pairs) -> Work:
    """The leak audit, which has to find the planted pairs that the split cuts."""
    config = audit_config()
    parts = items.select("split").collect().to_series().to_numpy()
    expected = int((parts[planted[:, 0]] != parts[planted[:, 1]]).sum())

    def work() -> Answer:
        report = audit_leakage(items, images, ["title"], config).report
        crossing = report["by_kind"][kind]
        least = min(report["search_recall"][kind].values())
        return Answer(
            crossing, f"{crossing:,} of {expected:,} planted leaks; of its own copies {least:.0%} at least"
        )

    return work


def audit_of_texts(count: int, _folder: str) -> Work:
    texts = made_texts(count)
    return audited(made_items(title=texts, split=spread(count)), NO_IMAGES, "near_text", near_tenth(texts))


# -- worst cases ---------------------------------------------------------------------------


def one_blank_picture(count: int, folder: str) -> Work:
    blank = np.full((1, 3 * THUMBNAIL_SIDE_PX**2), 255, np.uint8)
    _, images = written_pictures(1, lambda _count, _generator: blank, folder)
    items = made_items(
        image_sha256=pl.Series(["0000000"]).new_from_index(0, count),
        title=pl.Series([None], dtype=pl.String).new_from_index(0, count),
    )
    return deduplicated(items, images, lambda removed, sets, _: f"{removed:,} removed, {sets} left")


def one_text(count: int, _folder: str) -> Work:
    items = made_items(title=pl.Series(["the same long title everywhere"]).new_from_index(0, count))
    return deduplicated(items, NO_IMAGES, lambda removed, sets, _: f"{removed:,} removed, {sets} left")


def one_text_audited(count: int, _folder: str) -> Work:
    parts = spread(count)
    items = made_items(
        title=pl.Series(["the same long title everywhere"]).new_from_index(0, count), split=parts
    )
    config = audit_config()

    def work() -> Answer:
        sizes = parts.value_counts()["count"].to_numpy().astype(np.int64)
        crossing = audit_leakage(items, NO_IMAGES, ["title"], config).report["by_kind"]["same_text"]
        assert crossing == (count**2 - int((sizes**2).sum())) // 2, "the count is wrong"
        return Answer(crossing, "every crossing pair counted")

    return work


def whole_sets(found: Pairs, count: int) -> str:
    """In how many sets the pairs join the texts."""
    sets = len(np.unique(similarity.components(count, found[:, 0], found[:, 1])))
    assert sets == 1, f"{sets} sets, not one"
    return "one set, whole"


def share_of_sample(texts: pl.Series, found: Pairs) -> str:
    """What share of the near pairs of a few texts is among ``found``, by comparing these texts with all."""
    sets = similarity.shingles(texts, TEXTS.shingle_chars)
    known, columns = np.unique(sets.values, return_inverse=True)
    matrix = csr_array(
        (np.ones(len(columns), np.int32), columns, sets.offsets), shape=(len(texts), len(known))
    )
    rows = np.arange(SAMPLED) * (len(texts) // SAMPLED)
    true = hits = 0
    for row in rows:
        shared = matrix @ matrix[[row]].toarray()[0]
        near = np.flatnonzero(shared >= TEXTS.min_jaccard * (sets.sizes + sets.sizes[row] - shared))
        true += len(near) - 1
        hits += int((found == row).sum())
    return f"{hits / true:.0%} of the near pairs of {SAMPLED} texts"


def orders_by_minhash(count: int, _folder: str) -> Work:
    texts = orders(count)

    def work() -> Answer:
        found = near_texts(texts)
        if count > MIDDLE:
            return Answer(len(found), lambda: whole_sets(found, count))
        return Answer(len(found), lambda: f"{whole_sets(found, count)}; {share_of_sample(texts, found)}")

    return work


def orders_deduplicated(count: int, _folder: str) -> Work:
    return deduplicated(
        made_items(title=orders(count)),
        NO_IMAGES,
        lambda removed, sets, largest: f"{removed:,} removed, {largest:,} left in {sets} set",
    )


def audit_of_orders(count: int, _folder: str) -> Work:
    """All in train, but one copy of one of them."""
    texts = pl.concat([orders(count - 1), pl.Series([orders(count)[count // 3] + "!"])])
    parts = pl.Series(["train"]).new_from_index(0, count - 1).append(pl.Series(["test"]))
    items = made_items(title=texts, split=parts)
    config = audit_config()

    def work() -> Answer:
        audit = audit_leakage(items, NO_IMAGES, ["title"], config)
        assert f"{count // 3:07}" in audit.crossing["item_id"].to_list(), "the one leak is not found"
        shares = audit.report["search_recall"]["near_text"].values()
        return Answer(
            audit.report["by_kind"]["near_text"],
            f"the one leak is found; of its own copies {min(shares):.0%} at least",
        )

    return work


def alike_deduplicated(count: int, _folder: str) -> Work:
    return deduplicated(
        made_items(title=alike(count)),
        NO_IMAGES,
        lambda removed, sets, _: f"{removed:,} removed, {sets} left",
    )


def pictures_of(kind: Kind, one_hash: bool = True) -> Callable[[int, str], Work]:
    def prepare(count: int, folder: str) -> Work:
        table, images = written_pictures(count, kind, folder, one_hash)

        def work() -> Answer:
            left, right, _ = picture_pairs.near_picture_pairs(table, images, ImageDuplicates())
            found = ordered(left, right)
            if kind is low_texture:
                return Answer(len(found), recovered(found, planted_pictures(count), count))
            return Answer(len(found), whole_sets(found, count))

        return work

    return prepare


def one_picture_deduplicated(count: int, folder: str) -> Work:
    table, images = written_pictures(count, one_picture, folder, one_hash=True)
    items = made_items(
        image_sha256=table["sha256"],
        title=pl.Series(["the same long title everywhere"]).new_from_index(0, count),
    )
    return deduplicated(items, images, lambda removed, sets, _: f"{removed:,} removed, {sets} left")


class Row(NamedTuple):
    """One row of a table."""

    name: str
    prepare: Callable[[int, str], Work]
    sizes: tuple[int, ...]


HASHES_BY_BANDS = Row(f"pHashes within {DISTANCE} bits: bands", hashes_by_bands, SIZES)
HASHES_BY_FORCE = Row("pHashes: all pairs by numpy", hashes_by_force, (SMALL, MIDDLE))
HASHES_BY_FORCE_IN_PART = Row(
    "pHashes: one in a hundred with all, by numpy", hashes_by_force_in_part, (LARGE,)
)
GROWTH = (
    HASHES_BY_BANDS,
    HASHES_BY_FORCE,
    HASHES_BY_FORCE_IN_PART,
    Row("near pictures: hashes and views", pictures, (SMALL, MIDDLE)),
    Row("near texts: MinHash", texts_by_minhash, SIZES),
    Row("near texts: all pairs by sparse products", texts_by_force, (SMALL,)),
    Row("texts: pairs, who stays, sets", stage_of_texts, SIZES),
    Row("split of groups", split_of_groups, SIZES),
    Row("leak audit, search for near texts", texts_audited, SIZES),
    Row("leak audit of texts, whole", audit_of_texts, SIZES),
    Row("leak audit of pictures, whole", pictures_audited, (SMALL, MIDDLE)),
)
WORST = (
    Row("one blank picture: who stays", one_blank_picture, (LARGE,)),
    Row("one text: who stays", one_text, (LARGE,)),
    Row("one text: leak audit", one_text_audited, (LARGE,)),
    Row("order confirmations: MinHash", orders_by_minhash, (MIDDLE, LARGE)),
    Row("order confirmations: who stays", orders_deduplicated, (MIDDLE, LARGE)),
    Row("order confirmations: leak audit, whole", audit_of_orders, (MIDDLE, LARGE)),
    Row("long texts, any two near: who stays", alike_deduplicated, (MIDDLE,)),
    Row("faint pictures of one pHash: pairs", pictures_of(low_texture), (MIDDLE,)),
    Row("pictures, any two near, of one pHash: pairs", pictures_of(one_picture), (MIDDLE,)),
    Row("pictures, any two near: who stays", one_picture_deduplicated, (MIDDLE,)),
)


# -- running -------------------------------------------------------------------------------


def run_here(name: str, count: int) -> None:
    """One row at one size; prints a line of JSON."""
    [row] = [row for row in (*GROWTH, *WORST) if row.name == name]
    with tempfile.TemporaryDirectory() as folder:
        work = row.prepare(count, folder)
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        said = answer.said if isinstance(answer.said, str) else answer.said()
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak / 2**20, "pairs": answer.pairs, "said": said}))


def code_version() -> str:
    """Hash of the code that is measured, and of this file."""
    modules = (
        duplicates,
        leak_search,
        leakage,
        pair_search,
        picture_pairs,
        similarity,
        split,
        text_pairs,
    )
    files = [Path(__file__), *(Path(str(module.__file__)) for module in modules)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


Found = dict[str, Any]


class Runs:
    """Rows, each in a process of its own, a few at a time; with a file, what the same code has measured is not run again."""

    def __init__(self, quick: bool, only: str, jobs: int, kept: Path | None) -> None:
        self._kept, self._version = kept, code_version()
        self._known: dict[tuple[str, int], Found] = {}
        for line in kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else ():
            row = json.loads(line)
            if row["code"] == self._version:
                self._known[row["name"], row["items"]] = row
        self._pool = ThreadPoolExecutor(jobs)
        chosen = [
            (row, count)
            for row in (*GROWTH, *WORST)
            for count in row.sizes
            if only in row.name and not (quick and count == LARGE)
        ]
        self._found = {
            (row.name, count): self._pool.submit(self._measured, row, count)
            for row, count in sorted(chosen, key=lambda one: one[1])  # what takes long last
        }

    def of(self, row: Row) -> Iterator[tuple[int, Found]]:
        """Sizes and what was measured, once it is there."""
        for count in row.sizes:
            if (row.name, count) in self._found:
                yield count, self._found[row.name, count].result()

    def _measured(self, row: Row, count: int) -> Found:
        if (row.name, count) in self._known:
            return self._known[row.name, count]
        command = [sys.executable, __file__, "--row", row.name, "--items", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise SystemExit(f"{row.name}, {count:,} items failed:\n{done.stderr}")
        found: Found = json.loads(done.stdout.splitlines()[-1])
        if self._kept:
            with self._kept.open("a", encoding="utf-8") as file:
                file.write(
                    json.dumps({"name": row.name, "items": count, "code": self._version, **found}) + "\n"
                )
        return found


def table(rows: tuple[Row, ...], runs: Runs) -> Iterator[str]:
    """Lines of a markdown table, as they come."""
    yield "| what | items | seconds | CPU seconds | peak memory, GiB | pairs | answer |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for row in rows:
        for count, found in runs.of(row):
            wall, cpu = (f"{found[key]:.{1 if found[key] >= 1 else 3}f}" for key in ("wall", "cpu"))
            yield f"| {row.name} | {count:,} | {wall} | {cpu} | {found['peak']:.2f} | {found['pairs']:,} | {found['said']} |"


def ratios(runs: Runs) -> str:
    """How many times the CPU time of bands comparing all pairs of hashes takes."""
    bands, force, part = (
        dict(runs.of(row)) for row in (HASHES_BY_BANDS, HASHES_BY_FORCE, HASHES_BY_FORCE_IN_PART)
    )
    # A hundredth of the rows with all others is a fiftieth of all pairs.
    times = {count: found["cpu"] / bands[count]["cpu"] for count, found in force.items() if count in bands}
    times |= {
        count: 50 * found["cpu"] / bands[count]["cpu"] for count, found in part.items() if count in bands
    }
    return "; ".join(f"{times[count]:,.0f} times at {count:,}" for count in sorted(times))


def document(runs: Runs) -> Iterator[str]:
    """Lines of this script's part of docs/performance.md."""
    yield "## How the searches for duplicates and leaks grow"
    yield ""
    yield (
        "Written by `python benchmarks/speed_duplicates.py --write` on two shared cores; no number here is typed by hand. "
        "Other work was on the cores too, so that CPU seconds say more than seconds. "
        "Every row is a process of its own; its peak memory includes the interpreter (0.1 GiB) and the data. All items "
        "are made up, with copies planted in known places. A copy of a "
        "short text that lacks a letter is under the threshold: only the audit's search for near texts counts these among its copies, too."
    )
    yield ""
    yield "### Growth"
    yield ""
    yield from table(GROWTH, runs)
    yield ""
    yield (
        f"Comparing all pairs of hashes takes {ratios(runs)} as much CPU time as bands do: both of the functions alone, "
        "in numpy, without the start of the process. imagededup's own search is beside them in [peers](quality/peers.md)."
    )
    yield ""
    yield "### Worst cases"
    yield ""
    yield (
        "Everything in one crowd: pictures and texts of which (nearly) all are candidates of each other. The work is bounded "
        "by the settings below; what that costs is said in the last column."
    )
    yield ""
    yield from table(WORST, runs)
    yield ""
    yield "### What is bounded, and what that means"
    yield ""
    yield (
        f"- **Pairs listed.** Up to {pair_search.PAIRS_PER_NODE} a picture or text on average (and {pair_search.MIN_LISTED_PAIRS:,} "
        "in all) every verified pair is listed; beyond, only those that join two sets. Sets are whole all the same."
    )
    yield (
        f"- **Near texts.** In a band of more than {text_pairs.CROWD} equal hashes a text is compared with the {text_pairs.CROWD} "
        "next to it in an order that puts texts with more bands in common together. So of texts by one template not every pair "
        "is found; what joins them is."
    )
    yield (
        "- **Who stays.** In a set of up to 64 items every kept item is compared with every other one. In a larger one too, as long as "
        "each removes a sixteenth of what is left; then only listed pairs count, and those that further searches among what is left list, "
        f"until they find none or have looked at {duplicates.SEARCHED_AGAIN} times as many items."
    )
    yield (
        f"- **Leak audit, texts.** By one pair of parts, {leak_search.COMPARED_PER_TEXT} comparisons a text are made. Texts that have "
        "more than that in common, such as those by a template, are compared where they share two of their "
        f"{leak_search.RAREST} rarest shingles, with {leak_search.RARE_WINDOW} others by one pair of shingles; "
        f"{leak_search.MEASURED_PER_TEXT} candidates a text are measured, those that would be a "
        "leak of the split first, so that pairs that only the random split cuts take no room from them. Comparisons left out are counted in `method`, `is_exhaustive` is "
        "then false, and `search_recall` says what share of planted copies was found."
    )


def main() -> None:
    """Print or write the document, or run one row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="without a million items")
    parser.add_argument("--write", action="store_true", help=f"write a part of {PAGE.relative_to(ROOT)}")
    parser.add_argument("--only", default="", metavar="WORD", help="rows whose name has WORD in it")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="keeps what was measured, and takes it up again"
    )
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--items", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        run_here(arguments.row, arguments.items)
        return
    lines = []
    for line in document(Runs(arguments.quick, arguments.only, arguments.jobs, arguments.resume)):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        write_part(PAGE, "searches", "\n".join(lines))


if __name__ == "__main__":
    main()
