"""The boundary tables: every column has a meaning, every name that a text may not take is known."""

import pytest

from dataset_pipeline.tables import (
    ANNOTATIONS,
    COLUMN_MEANINGS,
    IMAGE_WARNINGS,
    IMAGES,
    LABEL_CANDIDATES,
    PAIRS,
    RAW_ITEMS,
    RELEASED_ITEMS,
    REMOVED,
    RESERVED_COLUMNS,
    REVIEW,
    SPLIT_ITEMS,
)

TABLES = [
    RAW_ITEMS,
    IMAGES,
    IMAGE_WARNINGS,
    SPLIT_ITEMS,
    REMOVED,
    PAIRS,
    RELEASED_ITEMS,
    ANNOTATIONS,
    LABEL_CANDIDATES,
    REVIEW,
]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_meaning(table: object) -> None:
    assert set(table) - set(COLUMN_MEANINGS) == set()  # type: ignore[call-overload]


def test_no_meaning_is_left_over() -> None:
    used = {"image"}.union(*TABLES)
    assert set(COLUMN_MEANINGS) == used


def test_released_columns_are_columns_of_split_items() -> None:
    assert set(RELEASED_ITEMS) <= set(SPLIT_ITEMS)


def test_no_text_may_take_the_name_of_a_released_column() -> None:
    assert {*RELEASED_ITEMS, "image"} <= RESERVED_COLUMNS
