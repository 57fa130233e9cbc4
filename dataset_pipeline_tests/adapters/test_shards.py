"""Shards: where row groups and files end, and how much of them stays when some items come or go."""

import hashlib
import itertools
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_pipeline.adapters.shards import Bounds, former_shards
from dataset_pipeline.errors import OutsideWorldError
from dataset_pipeline_tests.toy_release import Toy, toy

PIECES = st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1, exclude_max=True)), min_size=1, max_size=200)


def parts_of(pieces: list[tuple[int, float]], limit: int) -> list[list[tuple[int, float]]]:
    bounds, parts = Bounds(limit), []
    for weight, draw in pieces:
        begins = bounds.falls_before(weight, draw)
        bounds.add(weight, begins=begins)
        if begins or not parts:
            parts.append([])
        parts[-1].append((weight, draw))
    return parts


@given(PIECES)
def test_parts_hold_every_piece_and_are_between_half_of_the_limit_and_the_limit(
    pieces: list[tuple[int, float]],
) -> None:
    parts = parts_of(pieces, 200)
    assert [piece for part in parts for piece in part] == pieces
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        size = sum(weight for weight, _ in part)
        assert size <= 200 or len(part) == 1  # one piece over the limit is a part of its own
        if following is not None:
            assert size >= 100 or size + following[0][0] > 200


def test_ends_are_spread_evenly_over_the_second_half_of_the_limit() -> None:
    draw = random.Random(1)
    sizes = [len(part) for part in parts_of([(1, draw.random()) for _ in range(100_000)], 100)][:-1]
    assert min(sizes) == 50
    assert max(sizes) == 100
    counts, _ = np.histogram(sizes, bins=[50, 60, 70, 80, 90, 101])
    assert np.all(np.abs(counts / len(sizes) - np.array([10, 10, 10, 10, 11]) / 51) < 0.05)


def test_a_piece_more_or_less_moves_only_the_bounds_near_it() -> None:
    # Bounds after a fixed number of pieces would all move.
    draw = random.Random(2)
    pieces = [(1, draw.random()) for _ in range(10_000)]
    before = {tuple(part) for part in parts_of(pieces, 100)}
    for changed in ([*pieces[:500], (1, 0.5), *pieces[500:]], [*pieces[:500], *pieces[501:]]):
        after = {tuple(part) for part in parts_of(changed, 100)}
        assert len(after - before) <= 8


# -- what changes between versions ---------------------------------------------------------


PICTURES = 1_600
ADDED = 16


def of_pictures(numbers: range | list[int], whole: Toy, former: Path | None = None) -> Toy:
    """A version with these pictures of ``whole``, a row each."""
    wanted = [f"noise/{number}.png" for number in numbers]
    items = whole.items.filter(pl.col("image_ref").is_in(wanted) & (pl.col("language") == "en"))
    return Toy(
        whole.config,
        items.with_columns(pl.lit("train").alias("split")),
        whole.images,
        whole.pictures,
        former_shards=None if former is None else former_shards(former),
    )


def shards(release: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((release / "data").iterdir())]


def chunks(data: bytes) -> dict[bytes, int]:
    """Pieces of about 4 KiB that end where the last 32 bytes say so, as deduplicating stores cut files: hash -> size."""
    table = np.random.default_rng(0).integers(0, 1 << 32, 256, dtype=np.uint32)
    values = table[np.frombuffer(data, np.uint8)]
    rolling = np.zeros(len(values), np.uint32)
    for shift in range(32):
        rolling[shift:] += values[: len(values) - shift] << np.uint32(shift)
    ends = [*(np.flatnonzero(rolling >> np.uint32(20) == 0) + 1).tolist(), len(data)]
    starts = [0, *ends[:-1]]
    return {hashlib.sha256(data[a:b]).digest(): b - a for a, b in zip(starts, ends, strict=True)}


def new_share(new: Path, old: Path) -> tuple[float, float]:
    """Share of a version's bytes in shards, and in chunks of shards, that the version before does not have."""
    known = set(shards(old))
    size = sum(map(len, shards(new)))
    known_chunks = {digest for data in shards(old) for digest in chunks(data)}
    fresh = {d: n for data in shards(new) for d, n in chunks(data).items() if d not in known_chunks}
    return sum(len(data) for data in shards(new) if data not in known) / size, sum(fresh.values()) / size


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A release, and versions with 1 % or one of its pictures more or less."""
    folder = tmp_path_factory.mktemp("versions")
    whole = toy(pictures=PICTURES + ADDED, release={"max_shard_mib": 1, "rows_per_row_group": 20})
    of_pictures(range(PICTURES), whole).write(folder / "first")
    gone = random.Random(3).sample(range(PICTURES), ADDED)
    for name, numbers in {
        "added": list(range(PICTURES + ADDED)),
        "removed": [number for number in range(PICTURES) if number not in gone],
        "one removed": [number for number in range(PICTURES) if number != gone[0]],
    }.items():
        of_pictures(numbers, whole, folder / "first").write(folder / name)
    of_pictures(range(PICTURES + 1), whole).write(folder / "one added, nothing known")
    return {path.name: path for path in folder.iterdir()}


def test_what_is_added_changes_the_last_shard_alone(versions: dict[str, Path]) -> None:
    before, after = shards(versions["first"]), shards(versions["added"])
    assert len(before) > 8
    assert after[: len(before) - 1] == before[:-1]
    files, pieces = new_share(versions["added"], versions["first"])
    assert files < 0.15
    assert 0.01 <= pieces < 0.05


def test_what_is_removed_changes_the_shards_that_held_it(versions: dict[str, Path]) -> None:
    before, after = set(shards(versions["first"])), set(shards(versions["one removed"]))
    assert len(after - before) == 1
    # One in a hundred pictures: hardly a shard of these 150 pictures is without any, but most of its bytes stay.
    _, pieces = new_share(versions["removed"], versions["first"])
    assert pieces < 0.15


def test_bounds_hold_without_a_release_before(versions: dict[str, Path]) -> None:
    before, after = set(shards(versions["first"])), set(shards(versions["one added, nothing known"]))
    assert len(after - before) <= len(before) / 2


def test_rows_are_a_shuffle_of_labels(versions: dict[str, Path]) -> None:
    # Three labels in turn by id: sorted by label or id, the first third of the rows would not hold a third of each.
    labels = pl.concat(
        [pl.read_parquet(path, columns=["label"]) for path in sorted((versions["first"] / "data").iterdir())]
    )
    for start in range(0, PICTURES, 400):
        shares = labels[start : start + 400]["label"].value_counts()["count"] / 400
        assert 0.25 < shares.min() < shares.max() < 0.42


def test_rows_of_a_leak_group_are_not_neighbours(tmp_path: Path) -> None:
    # A group of similar pictures side by side would be one class side by side.
    example = toy(pictures=60)
    example.items = example.items.with_columns(
        pl.lit("one").alias("leak_group"), pl.lit("train").alias("split")
    )
    example.items = example.items.with_columns(
        pl.when(pl.col("label") == "class 0").then(pl.lit("two")).otherwise("leak_group").alias("leak_group")
    )
    example.write(tmp_path / "out")
    groups = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")["leak_group"].to_list()
    assert sum(a != b for a, b in itertools.pairwise(groups)) > 15


def test_a_release_before_with_broken_shards_is_named(versions: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(OutsideWorldError, match="parquet: not a shard of a release"):
        former_shards(tmp_path)
