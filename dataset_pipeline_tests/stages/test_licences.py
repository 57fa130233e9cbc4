"""Licences: SPDX ids, the table of what may be released under what, and the report of both."""

from typing import Any

import polars as pl
import pytest

from dataset_pipeline.stages.licences import compatibility, licence_report, spdx_problem
from dataset_pipeline_tests.toy_release import toy_config


@pytest.mark.parametrize("licence", ["CC0-1.0", "CC-BY-SA-4.0", "MIT", "ODbL-1.0", "LicenseRef-our-terms"])
def test_spdx_ids_have_no_problem(licence: str) -> None:
    assert spdx_problem(licence) is None


@pytest.mark.parametrize(
    ("licence", "nearest"),
    [
        ("CC BY 4.0", "nearest: CC-BY-4.0"),  # as people write it
        ("cc0-1.0", "nearest: CC0-1.0"),  # hosts and Croissant readers compare ids letter by letter
        ("Apache 2.0", "nearest: Apache-2.0"),
        ("CC-BY-SA", "CC-BY-SA-4.0"),  # no version
        ("CC-BY-5.0", "CC-BY-4.0"),
    ],
)
def test_a_wrong_id_names_the_nearest(licence: str, nearest: str) -> None:
    found = spdx_problem(licence)
    assert found is not None
    assert found.startswith(f"'{licence}' is no SPDX id; nearest: ")
    assert nearest in found


@pytest.mark.parametrize("licence", ["", "§§§§§§§§§§"])
def test_a_wrong_id_like_no_other_names_none(licence: str) -> None:
    assert spdx_problem(licence) == f"'{licence}' is no SPDX id"


def test_an_exception_is_no_licence() -> None:
    # SPDX lists exceptions such as this beside licences; alone it licenses nothing.
    found = spdx_problem("Classpath-exception-2.0")
    assert found is not None
    assert "exception" not in found.split("nearest")[-1]


@pytest.mark.parametrize(
    ("item", "dataset", "is_compatible"),
    [
        # The same licence, whatever it is.
        ("CC-BY-ND-4.0", "CC-BY-ND-4.0", True),
        ("LicenseRef-ours", "LicenseRef-ours", True),
        # Dedicated to the public: into anything.
        ("CC0-1.0", "CC-BY-NC-SA-4.0", True),
        ("PDDL-1.0", "MIT", True),
        # Attribution: into anything that keeps the credit.
        ("CC-BY-4.0", "CC-BY-SA-4.0", True),
        ("MIT", "CC-BY-4.0", True),
        ("CC-BY-4.0", "CC0-1.0", False),
        ("Apache-2.0", "Unlicense", False),
        # Share-alike: into itself, later versions of itself, and what it names; never back.
        ("CC-BY-SA-3.0", "CC-BY-SA-4.0", True),
        ("CC-BY-SA-4.0", "CC-BY-SA-3.0", False),
        ("CC-BY-SA-4.0", "GPL-3.0-only", True),
        ("GPL-3.0-only", "CC-BY-SA-4.0", False),
        ("CC-BY-SA-4.0", "CC-BY-4.0", False),
        ("CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", False),
        ("ODbL-1.0", "CC-BY-SA-4.0", False),
        ("CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0", True),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", False),
        # Non-commercial: into non-commercial alone.
        ("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", True),
        ("CC-BY-NC-2.0", "CC-BY-NC-3.0", True),
        ("CC-BY-NC-4.0", "CC-BY-4.0", False),
        # What the table does not know may not pass.
        ("CC-BY-ND-4.0", "CC-BY-4.0", False),
        ("LicenseRef-ours", "CC0-1.0", False),
        ("cc0-1.0", "CC-BY-4.0", False),
        ("", "CC-BY-4.0", False),
    ],
)
def test_what_may_be_released_under_what(item: str, dataset: str, is_compatible: bool) -> None:
    found, why = compatibility(item, dataset)
    assert found is is_compatible
    assert why


def test_a_refusal_says_what_would_do() -> None:
    assert compatibility("CC-BY-SA-3.0", "MIT")[1] == (
        "share-alike: the dataset's licence must be one of CC-BY-SA-3.0, CC-BY-SA-4.0"
    )
    assert compatibility("CC-BY-4.0", "CC0-1.0")[1] == (
        "CC-BY-4.0 asks for attribution, which CC0-1.0 gives up"
    )


def rows(*licences: str | None) -> pl.LazyFrame:
    # Ids run against the order of rows, so that a report in order of rows shows.
    return pl.LazyFrame(
        {
            "item_id": [f"i{len(licences) - number:02}" for number in range(len(licences))],
            "source": ["noise"] * len(licences),
            "licence": licences,
        },
        schema={"item_id": pl.String, "source": pl.String, "licence": pl.String},
    )


def test_the_report_lists_licences_sources_and_items_that_do_not_fit() -> None:
    config = toy_config(licence="CC-BY-4.0")
    found = licence_report(rows("CC0-1.0", None, "CC-BY-SA-4.0", "cc0", "CC0-1.0"), config)
    assert found["dataset_licence"] == "CC-BY-4.0"
    by_licence: list[dict[str, Any]] = found["by_licence"]
    assert [(row["licence"], row["items"], row["is_spdx"], row["is_compatible"]) for row in by_licence] == [
        ("CC-BY-SA-4.0", 1, True, False),
        ("CC0-1.0", 2, True, True),
        ("cc0", 1, False, False),
        (None, 1, False, False),
    ]
    # A missing licence permits nothing: its items count.
    assert found["incompatible_items"] == {"count": 3, "first_ids": ["i02", "i03", "i04"]}
    assert found["by_source"] == [
        {
            "source": "noise", "licence": "CC-BY-SA-4.0", "url": "https://example.org/noise", "permission": None,
            "evidence": None, "items": 5,
        }
    ]  # fmt: skip


def test_the_report_counts_all_and_names_ten() -> None:
    found = licence_report(rows(*["CC-BY-ND-4.0"] * 25), toy_config(licence="MIT"))["incompatible_items"]
    assert found == {"count": 25, "first_ids": [f"i{number:02}" for number in range(1, 11)]}


def test_the_report_of_no_items() -> None:
    found = licence_report(rows(), toy_config())
    assert found["by_licence"] == []
    assert found["by_source"][0]["items"] == 0
    assert found["incompatible_items"] == {"count": 0, "first_ids": []}
