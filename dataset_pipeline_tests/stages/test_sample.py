"""The sample of a release: what is in it, and that it is one."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.stages.sample import LARGEST_SHARE, draw_sample

SCHEMA = dict.fromkeys(("item_id", "split", "label", "language", "image_sha256"), pl.String)


def table(rows: list[tuple[str, str | None, str]]) -> pl.DataFrame:
    """Items with a picture each: split, label, language."""
    return pl.DataFrame(
        [(f"i{n}", *row, f"picture {n}") for n, row in enumerate(rows)], schema=SCHEMA, orient="row"
    )


def of_size(items: pl.DataFrame, size: int = 10_000) -> pl.DataFrame:
    return items.select("item_id", picture_bytes=pl.lit(size, pl.Int64))


def test_it_fills_what_it_may_take_and_holds_every_class_language_and_split_together() -> None:
    splits, labels, languages = ("train",) * 8 + ("validation", "test"), ("a", "b", "c"), ("de", "en")
    items = table([(splits[n % 10], labels[n // 10 % 3], languages[n // 30 % 2]) for n in range(3_000)])
    drawn, share = draw_sample(items, of_size(items))
    kept = items.join(drawn, on="item_id", how="semi")
    assert kept.height == 135  # 4.5 %
    assert share == pytest.approx(0.045, abs=0.001)
    assert kept.select(pl.struct("split", "label").n_unique()).item() == 9
    assert kept.select(pl.struct("split", "language").n_unique()).item() == 6
    assert 0.7 < (kept["split"] == "train").mean() < 0.9


def test_no_class_is_left_out_where_that_takes_more() -> None:
    # 40 items of 20 classes: one of each is half of them.
    items = table([("train" if n % 2 else "test", f"class {n % 20}", "en") for n in range(40)])
    drawn, share = draw_sample(items, of_size(items))
    assert drawn.height == 20
    assert share == pytest.approx(0.5, abs=0.01)
    assert share > LARGEST_SHARE


def test_a_picture_of_several_items_counts_once() -> None:
    # 14 rows a picture: half of the pictures would be 50 %, and 5 of 100 pictures with all rows are less than 5 %.
    items = table([("train", "a", "en")] * 1_400).with_columns(
        image_sha256=pl.format("p{}", pl.int_range(1_400) // 14)
    )
    drawn, share = draw_sample(items, of_size(items))
    assert 4 * 14 <= drawn.height < 5 * 14
    assert share < LARGEST_SHARE


def test_the_next_version_draws_nearly_the_same() -> None:
    rows = [("train", f"class {n % 5}", "en") for n in range(2_000)]
    before, after = table(rows), table(rows + [("train", "class 0", "en")] * 20)
    first, second = (set(draw_sample(items, of_size(items))[0]["item_id"]) for items in (before, after))
    assert len(first & second) / len(first) > 0.95


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["train", "test"]),
            st.sampled_from(["a", "b", "c", None]),
            st.sampled_from(["de", "en"]),
            st.integers(0, 9),
            st.integers(0, 5_000),
        ),
        min_size=1,
        max_size=80,
    ),
    st.randoms(use_true_random=False),
)
def test_it_does_not_depend_on_order_and_holds_every_class_and_split(rows, random) -> None:
    items = table([row[:3] for row in rows]).with_columns(
        image_sha256=pl.Series([None if row[3] == 9 else f"p{row[3]}" for row in rows], dtype=pl.String)
    )
    sizes = items.select("item_id", picture_bytes=pl.Series([row[4] for row in rows]))
    drawn, share = draw_sample(items, sizes)
    order = list(range(len(rows)))
    random.shuffle(order)
    again, _ = draw_sample(items[order], sizes[order[::-1]])
    assert again["item_id"].to_list() == drawn["item_id"].to_list()
    kept = items.join(drawn, on="item_id", how="semi")
    for column in ("label", "split"):
        assert set(kept[column]) == set(items[column])
    assert 0 < share <= 1
    assert drawn["item_id"].is_unique().all()
