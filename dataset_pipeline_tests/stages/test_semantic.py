"""Items that a model calls alike: which pairs are joined, which are left apart, and what an audit finds."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.errors import GateError
from dataset_pipeline.stages import gates, semantic
from dataset_pipeline.stages.leak_groups import leak_groups, links_between
from dataset_pipeline.stages.semantic import Vectors, audit_semantic, semantic_links
from dataset_pipeline.tables import PAIRS, empty
from dataset_pipeline_tests.stages.crafted import deduplicated, minimal_config

MODEL = {"name": "eye", "architecture": "ViT-B-32", "pretrained": "eye.pt"}


def config(**chosen: object) -> DatasetConfig:
    return minimal_config(baselines={"models": [MODEL]}, split={"semantic": {"model": "eye", **chosen}})


def at(degrees: Mapping[str, float], same: Mapping[str, str] | None = None) -> Vectors:
    """Embeddings on a circle, one an item; items of ``same`` show another one's picture."""
    rows = {name: row for row, name in enumerate(degrees)}
    angle = np.radians(list(degrees.values()))
    key = [*rows.items(), *((item, rows[other]) for item, other in (same or {}).items())]
    return Vectors(
        pl.DataFrame(key, schema={"item_id": pl.String, "row": pl.Int64}, orient="row"),
        np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32),
    )


def groups(
    of: Vectors, chosen: DatasetConfig, pairs: pl.DataFrame | None = None
) -> tuple[list[set[str]], list[tuple[str, str, int]]]:
    """Leak groups of several items, and pairs that are left apart with the size of the group they would make."""
    names = of.key["item_id"].sort()
    table = deduplicated([{"item_id": name} for name in names], ())
    known = empty(PAIRS) if pairs is None else pairs
    found = semantic_links(table, {"image": of}, known, (), chosen)
    assert dict(found.pairs.schema) == dict(PAIRS)
    links = links_between(table, pl.concat([known, found.pairs]), (), chosen.split)
    members = leak_groups(names, links).group_by("leak_group").agg("item_id")
    several = sorted((set(ids) for ids in members["item_id"] if len(ids) > 1), key=min)
    return several, found.left_apart.select("item_id", "other_item_id", "group_items").rows()


def test_pairs_at_the_threshold_are_joined_and_others_are_not() -> None:
    # cos(10 degrees) is 0.985, cos(15 degrees) 0.966
    of = at({"a": 0, "b": 10, "c": 90, "d": 105, "e": 200})
    assert groups(of, config(image=0.98)) == ([{"a", "b"}], [])
    assert groups(of, config(image=0.96)) == ([{"a", "b"}, {"c", "d"}], [])


def test_items_of_one_picture_are_joined_whatever_else_links() -> None:
    of = at({"a": 0, "b": 90}, same={"z": "b"})
    assert groups(of, config(image=0.98)) == ([{"b", "z"}], [])


def test_a_chain_does_not_swallow_everything() -> None:
    # Each is like the next one, the first ones most; three items a group are allowed.
    of = at({"a": 0, "b": 1, "c": 3, "d": 6, "e": 10})
    joined, apart = groups(of, config(image=0.995, max_group_items=3))

    assert joined == [{"a", "b", "c"}, {"d", "e"}]
    # b and d come after d and e, which are nearer: by then the group would have five.
    assert apart == [("c", "d", 4), ("b", "d", 5)]


def test_groups_that_other_links_make_count() -> None:
    of = at({"a": 0, "b": 5, "x": 100, "y": 200})
    pairs = pl.DataFrame(
        [("a", "x", "near_image", 0.99), ("a", "y", "near_image", 0.99)], schema=dict(PAIRS), orient="row"
    )

    assert groups(of, config(image=0.99, max_group_items=3), pairs) == ([{"a", "x", "y"}], [("a", "b", 4)])
    assert groups(of, config(image=0.99, max_group_items=4), pairs) == ([{"a", "b", "x", "y"}], [])


def test_too_many_pairs_stop_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "MAX_PAIRS", 2)
    with pytest.raises(
        GateError, match=r"split.semantic.image: more than 2 pairs have a cosine of 0.9 or more"
    ):
        groups(at({"a": 0, "b": 1, "c": 2}), config(image=0.9))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(2, 5))
def test_joined_pairs_are_those_of_an_obvious_search(angles: list[int], largest: int) -> None:
    """Union of pairs one by one, the most similar first, unless the union would be too large."""
    names = [f"i{number}" for number in range(len(angles))]
    joined, _ = groups(
        at(dict(zip(names, map(float, angles), strict=True))), config(image=0.99, max_group_items=largest)
    )

    sets = {name: {name} for name in names}
    pairs = [
        (round(float(np.cos(np.radians(abs(angles[i] - angles[j])))), 5), names[i], names[j])
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    for cosine, one, two in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        together = sets[one] | sets[two]
        if cosine >= 0.99 and len(together) <= largest:
            for name in together:
                sets[name] = together
    assert all(len(found) <= largest for found in joined)
    assert joined == sorted(
        {min(found): found for found in sets.values() if len(found) > 1}.values(), key=min
    )


def placed(**splits: str) -> pl.DataFrame:
    return pl.DataFrame(list(splits.items()), schema=["item_id", "split"], orient="row")


def test_audit_counts_what_crosses_and_shows_the_nearest() -> None:
    of = at({"a": 0, "b": 5, "c": 20, "d": 90}, same={"z": "a"})
    chosen = config(image=0.99).split.semantic
    assert chosen is not None
    none_apart = empty({**PAIRS, "group_items": pl.Int64()})
    found = audit_semantic(
        placed(a="train", b="test", c="train", d="validation", z="test"), {"image": of}, none_apart, chosen
    )

    # The picture of a is in train and, as z, in test; b is like both.
    kind = found.report["kinds"]["image"]
    assert found.report["cross_split_pairs"] == 2
    assert (kind["cross_split_pairs"], kind["left_apart_pairs"], kind["vectors"]) == (2, 0, 4)
    first = found.nearest.row(0, named=True)
    assert (first["item_id"], first["other_item_id"], first["similarity"]) == ("z", "a", 1.0)
    counts = kind["nearest_in_train"]["counts"]
    assert {name: sum(numbers) for name, numbers in counts.items()} == {"test": 2, "validation": 1}
    # cos(5 degrees) and 1 are in the last bin; d is nearest to c, at 70 degrees: 0.342.
    assert counts["test"][-1] == 2
    assert counts["validation"][int(0.342 * semantic.BINS)] == 1

    apart = pl.DataFrame([("a", "b", "semantic_image", 0.996, 7)], schema=none_apart.schema, orient="row")
    excused = audit_semantic(
        placed(a="train", b="test", c="train", d="validation"), {"image": of}, apart, chosen
    )
    assert (excused.report["cross_split_pairs"], excused.report["left_apart_pairs"]) == (0, 1)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 359), st.sampled_from(["train", "dev", "test"])), min_size=1, max_size=12
    )
)
def test_audit_agrees_with_an_obvious_one(rows: list[tuple[int, str]]) -> None:
    names = [f"i{number:02}" for number in range(len(rows))]
    chosen = config(image=0.99).split.semantic
    assert chosen is not None
    found = audit_semantic(
        placed(**{name: row[1] for name, row in zip(names, rows, strict=True)}),
        {"image": at({name: float(row[0]) for name, row in zip(names, rows, strict=True)})},
        empty({**PAIRS, "group_items": pl.Int64()}),
        chosen,
    )

    def cosine(i: int, j: int) -> float:
        return float(np.cos(np.radians(rows[i][0] - rows[j][0])))

    across = [(i, j) for i in range(len(rows)) for j in range(i) if rows[i][1] != rows[j][1]]
    assert found.report["cross_split_pairs"] == sum(cosine(i, j) >= 0.99 for i, j in across)
    assert found.nearest["similarity"].to_list() == pytest.approx(
        sorted((cosine(i, j) for i, j in across), reverse=True)[: semantic.NEAREST], abs=1e-5
    )


def test_what_is_joined_passes_the_audit_wherever_whole_groups_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "_ROWS", 5)  # several blocks
    generator = np.random.default_rng(1)
    angles = {f"i{n:02}": float(angle) for n, angle in enumerate(generator.uniform(0, 360, 60))}
    of, chosen = at(angles), config(image=0.999, max_group_items=6)
    joined, apart = groups(of, chosen)
    group_of = {item: number for number, items in enumerate(joined) for item in items}
    where = {name: ("train", "test")[group_of.get(name, n) % 2] for n, name in enumerate(angles)}
    left = pl.DataFrame(
        [(one, two, "semantic_image", 1.0, size) for one, two, size in apart],
        schema={**PAIRS, "group_items": pl.Int64()}, orient="row",
    )  # fmt: skip
    assert chosen.split.semantic is not None
    report = audit_semantic(placed(**where), {"image": of}, left, chosen.split.semantic).report

    assert gates.semantic_neighbours_together(report, pl.LazyFrame()).is_passed
    assert joined
    one = sorted(joined[0])[0]
    cut = {**where, one: {"train": "test", "test": "train"}[where[one]]}
    found = audit_semantic(placed(**cut), {"image": of}, left, chosen.split.semantic)
    stopped = gates.semantic_neighbours_together(found.report, found.nearest.lazy())
    assert not stopped.is_passed
    assert stopped.examples is not None


def test_model_must_not_need_the_split() -> None:
    with pytest.raises(ValidationError, match=r"split.semantic.model: found 'small-clip'; expected one of"):
        minimal_config(split={"semantic": {"model": "small-clip", "image": 0.9}})
    with pytest.raises(ValidationError, match="needs a cosine for 'image', 'text' or both"):
        config()
