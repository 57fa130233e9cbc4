"""Licences: SPDX ids, the table of what may be released under what, and the report of both."""

from typing import Any

import polars as pl
import pytest

from dataset_pipeline.config import Source
from dataset_pipeline.stages import licences
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
    assert compatibility("CC-BY-NC-SA-4.0", "MIT").why == (
        "CC-BY-NC-SA-4.0: non-commercial and share-alike: the dataset's licence must be CC-BY-NC-SA-4.0"
    )
    assert compatibility("CC-BY-SA-4.0", "MIT").why.endswith("one of CC-BY-SA-4.0, GPL-3.0-only, LAL-1.3")
    assert (
        compatibility("CC-BY-4.0", "CC0-1.0").why == "CC-BY-4.0: asks for attribution, which CC0-1.0 gives up"
    )
    assert (
        compatibility("CC-BY-NC-4.0", "CC-BY-4.0").why
        == "CC-BY-NC-4.0: non-commercial, which CC-BY-4.0 gives up"
    )
    assert "nearest: CC0-1.0" in compatibility("cc0-1.0", "CC-BY-4.0").why


@pytest.mark.parametrize(
    ("item", "dataset", "is_compatible"),
    [
        # An item may be taken under either of two licences, and must keep to both.
        ("CC-BY-SA-4.0 OR MIT", "CC-BY-4.0", True),
        ("CC-BY-SA-4.0 OR CC-BY-NC-4.0", "CC-BY-4.0", False),
        ("CC-BY-4.0 AND MIT", "CC-BY-SA-4.0", True),
        ("CC-BY-4.0 AND CC-BY-NC-4.0", "CC-BY-SA-4.0", False),
        ("(CC-BY-4.0 AND CC-BY-NC-4.0) OR CC0-1.0", "MIT", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only", True),
        # Readers of a dataset may choose; parts of it may be under one of several.
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0 OR MIT", False),
        ("CC0-1.0", "CC-BY-SA-4.0 OR MIT", True),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0 AND CC-BY-4.0", True),
        ("CC-BY-NC-4.0", "CC-BY-SA-4.0 AND CC-BY-4.0", False),
        # No licence permits nothing, not even under "no licence".
        ("NOASSERTION", "CC-BY-4.0", False),
        ("NONE", "NONE", False),
        # Terms of one's own, which no table can know.
        ("CC-BY-4.0", "LicenseRef-ours", True),
        ("CC-BY-SA-4.0", "LicenseRef-ours", False),
    ],
)
def test_expressions(item: str, dataset: str, is_compatible: bool) -> None:
    found = compatibility(item, dataset)
    assert found.is_allowed is is_compatible, found.why


@pytest.mark.parametrize(
    ("licence", "problem"),
    [
        ("MIT OR CC-BY-4.0", None),
        ("(MIT AND CC0-1.0) OR LicenseRef-ours", None),
        ("GPL-2.0-only WITH Classpath-exception-2.0", None),
        ("MIT OR CC BY", "is no SPDX"),
        ("MIT OR ccby-4.0", "nearest: CC-BY-4.0"),
        ("(MIT OR", "no SPDX expression"),
        ("MIT AND OR CC0-1.0", "no SPDX expression"),
        ("NONE", "where there is no licence"),
    ],
)
def test_expressions_are_checked_word_by_word(licence: str, problem: str | None) -> None:
    found = spdx_problem(licence)
    assert found is None if problem is None else found is not None and problem in found


def test_absent_licences_are_spdx_for_items() -> None:
    assert spdx_problem("NOASSERTION", may_be_absent=True) is None
    assert spdx_problem("NONE", may_be_absent=True) is None


# -- the table itself ------------------------------------------------------------------------


def test_the_table_names_spdx_licences_known_kinds_and_cites_a_source_for_each() -> None:
    data = licences.table()
    assert len(data["licences"]) > 80
    for name, entry in data["licences"].items():
        assert spdx_problem(name) is None, name
        assert entry["kind"] in data["kinds"], name
        assert entry["sources"], name
        assert set(entry["sources"]) <= data["sources"].keys(), name
        for other in entry.get("into", ()):
            assert spdx_problem(other) is None, (name, other)
    cited = {source for entry in data["licences"].values() for source in entry["sources"]}
    assert cited == data["sources"].keys(), "every source is cited, and every citation is there"
    assert all(source["url"].startswith("https://") for source in data["sources"].values())
    assert all(set(kind["into_kinds"]) <= data["kinds"].keys() for kind in data["kinds"].values())


CHART = """
        PD BY BY-NC BY-NC-ND BY-NC-SA BY-ND BY-SA
PD       +  +   +      +        +       +     +
BY       -  +   +      +        +       +     +
BY-NC    -  -   +      +        +       -     -
BY-NC-ND -  -   -      =        -       -     -
BY-NC-SA -  -   -      -        +       -     -
BY-ND    -  -   -      -        -       =     -
BY-SA    -  -   -      -        -       -     +
"""
"""Creative Commons' chart of adapter's licences. '=': the same licence, which here passes for what is not changed."""


def test_the_table_agrees_with_the_chart_of_creative_commons() -> None:
    head, *lines = CHART.strip().splitlines()
    names = {name: "CC0-1.0" if name == "PD" else f"CC-{name}-4.0" for name in head.split()}
    for line in lines:
        row, *cells = line.split()
        for column, cell in zip(head.split(), cells, strict=True):
            found = compatibility(names[row], names[column])
            assert found.is_allowed is (cell != "-"), (row, column, found.why)


def test_share_alike_never_becomes_an_earlier_version_and_later_ones_are_a_chain() -> None:
    versions = ["CC-BY-SA-2.0", "CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0"]
    for low, old in enumerate(versions):
        for high, new in enumerate(versions):
            assert compatibility(old, new).is_allowed is (low <= high), (old, new)
    assert not compatibility("CC-BY-SA-1.0", "CC-BY-SA-2.0").is_allowed  # 1.0 names no later version


# -- items that may be named, and not passed on ------------------------------------------------


def test_what_is_withheld_follows_the_configuration() -> None:
    found = ["CC-BY-ND-4.0", "CC-BY-NC-ND-3.0 AND MIT", "CC-BY-NC-4.0", "CC0-1.0", "NONE", "", None]
    stop = toy_config(licence="CC-BY-4.0")
    assert licences.withheld(found, stop) == {}  # the gate is for them
    keep = toy_config(licence="CC-BY-4.0", licences={"no_derivatives": "reference", "unlicensed": "drop"})
    assert licences.withheld(found, keep) == {
        "CC-BY-ND-4.0": ("licence_no_derivatives", "reference"),
        "CC-BY-NC-ND-3.0 AND MIT": ("licence_no_derivatives", "reference"),
        "NONE": ("licence_missing", "drop"),
        "": ("licence_missing", "drop"),
        None: ("licence_missing", "drop"),
    }
    same = toy_config(licence="CC-BY-ND-4.0", licences={"no_derivatives": "drop"})
    assert licences.withheld(["CC-BY-ND-4.0"], same) == {}  # released under its own licence


# -- permissions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permission", "url", "missing"),
    [
        (None, None, "permission: missing"),
        ({"basis": "own-data"}, None, None),
        ({"basis": "owner-approval"}, "https://example.org", "permission.evidence: missing"),
        ({"basis": "owner-approval", "evidence": "mail.pdf"}, None, None),
        ({"basis": "public-licence"}, None, "permission.evidence: missing"),
        ({"basis": "public-licence"}, "https://example.org", None),
    ],
)
def test_missing_permission(permission: Any, url: str | None, missing: str | None) -> None:
    source = Source(id="a", path="a.csv", licence="CC0-1.0", permission=permission, url=url)
    found = licences.missing_permission(source)
    assert found is None if missing is None else found is not None and found.startswith(missing)


# -- which licences a dataset may have -----------------------------------------------------------


def test_choices_say_what_is_allowed_and_what_forbids_the_rest() -> None:
    found = {
        c.licence: c for c in licences.choices({"CC0-1.0": 3, "CC-BY-SA-3.0": 2}, toy_config(licence="MIT"))
    }
    assert [name for name, choice in found.items() if choice.is_allowed] == ["CC-BY-SA-3.0", "CC-BY-SA-4.0"]
    assert not found["MIT"].is_allowed
    [why] = found["MIT"].why
    assert why.startswith("2 items under CC-BY-SA-3.0: CC-BY-SA-3.0: share-alike")
    assert len(found["CC-BY-SA-4.0"].why) == 2


def test_choices_leave_out_what_the_configuration_leaves_out() -> None:
    items = {"CC0-1.0": 3, "CC-BY-ND-4.0": 2, "": 1}
    assert not any(c.is_allowed for c in licences.choices(items, toy_config()))
    config = toy_config(licences={"no_derivatives": "drop", "unlicensed": "reference"})
    allowed = {c.licence for c in licences.choices(items, config) if c.is_allowed}
    assert {"CC0-1.0", "CC-BY-4.0", "ODbL-1.0"} <= allowed
    assert "CC-BY-ND-4.0" in allowed


@pytest.mark.parametrize(
    ("licence", "needs"),
    [("CC0-1.0", False), ("PDDL-1.0", False), ("CC-BY-4.0", True), ("MIT", True), (None, True),
     ("LicenseRef-ours", True), ("CC0-1.0 AND MIT", True)],
)  # fmt: skip
def test_who_has_to_be_named(licence: str | None, needs: bool) -> None:
    assert licences.needs_attribution(licence) is needs


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
    assert found["incompatible_items"] == {
        "count": 3,
        "first": [
            {"item_id": "i02", "licence": "cc0"},
            {"item_id": "i03", "licence": "CC-BY-SA-4.0"},
            {"item_id": "i04", "licence": None},
        ],
    }
    assert found["by_source"] == [
        {
            "source": "noise", "licence": "CC-BY-SA-4.0", "url": "https://example.org/noise", "permission": None,
            "evidence": None, "missing": licences.missing_permission(toy_config().sources[0]), "items": 5,
        }
    ]  # fmt: skip


def test_the_report_counts_all_and_names_ten() -> None:
    found = licence_report(rows(*["CC-BY-ND-4.0"] * 25), toy_config(licence="MIT"))["incompatible_items"]
    assert found["count"] == 25
    assert [row["item_id"] for row in found["first"]] == [f"i{number:02}" for number in range(1, 11)]


def test_the_report_of_no_items() -> None:
    found = licence_report(rows(), toy_config())
    assert found["by_licence"] == []
    assert found["by_source"][0]["items"] == 0
    assert found["incompatible_items"] == {"count": 0, "first": []}
    assert found["table_sources"] == []
