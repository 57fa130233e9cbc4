"""The documents: every number from the reports, nothing from the data trusted as markup."""

import jsonschema
import polars as pl
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from dataset_pipeline.stages import diff, release
from dataset_pipeline.tables import PAIRS, REMOVED, empty
from dataset_pipeline_tests.toy_release import toy, toy_config

COLUMNS = {"image": "image", "item_id": "string", "label": "string", "name": "string"}


def reports(**counts: object) -> dict[str, dict[str, object]]:
    example = toy()
    quality = release.quality_report(example.items.lazy(), empty(REMOVED).lazy(), empty(PAIRS).lazy())
    return {"quality": {**quality, "counts": {**quality["counts"], **counts}}}


def front(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_quality_report_counts_what_is_there() -> None:
    example = toy()
    removed = pl.LazyFrame(
        [
            {"item_id": "a", "stage": "clean", "reason": "image_blank"},
            {"item_id": "b", "stage": "raw", "reason": "image_missing"},
            {"item_id": "c", "stage": "clean", "reason": "image_blank"},
        ],
        schema=dict(REMOVED),
    )
    counts = release.quality_report(example.items.lazy(), removed, empty(PAIRS).lazy())["counts"]
    assert counts == {
        "raw_items": 63,
        "released_items": 60,
        "removed_items": 3,
        "pictures": 20,
        "labels": 3,
        "items_by_split": {"test": 12, "train": 36, "validation": 12},
        "items_by_language": {"de": 20, "en": 20, "zh-Hans": 20},
        "items_by_licence": {"CC-BY-SA-4.0": 60},
        "items_by_label_source": {"annotator": 60},
        "removed_by_reason": {"image_blank": 2, "image_missing": 1},
        "duplicate_pairs_by_kind": {},
    }


def test_every_document_is_made_and_repeats() -> None:
    made = release.documents(toy_config(), reports(), COLUMNS)
    assert sorted(made) == ["CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "datasheet.md"]
    assert made == release.documents(toy_config(), reports(), COLUMNS)
    assert all(text.endswith("\n") and "None" not in text.replace("None.", "") for text in made.values())


def test_documents_of_a_config_that_says_nothing_optional() -> None:
    bare = toy_config(
        title=None,
        description=None,
        date=None,
        url=None,
        creators=[],
        documentation={},
        tasks=[],
        keywords=[],
    )
    made = release.documents(bare, reports(), COLUMNS)
    assert "Not stated by the authors." in made["datasheet.md"]
    assert yaml.safe_load(made["CITATION.cff"])["authors"] == [{"name": "The authors of toy"}]
    assert not any("None" in text for text in made.values())


def test_numbers_come_from_the_reports_and_nowhere_else() -> None:
    # Numbers that no table here has: they can only come from the report.
    made = release.documents(
        toy_config(),
        {**reports(released_items=98765, raw_items=123456, removed_items=24691), "leakage": {"cross_split_pairs": 0, "random_split_pairs": 4321}},
        COLUMNS,
    )  # fmt: skip
    assert "**98765 items**" in made["README.md"]
    assert "123456 raw items came in; 24691 were removed" in made["README.md"]
    assert "would have leaked 4321" in made["README.md"]
    assert "98765 of 123456 raw items" in made["datasheet.md"]


def test_the_card_says_how_near_test_is_to_train_and_what_leaks_do_to_the_score() -> None:
    def side(identical: float, median: float) -> dict[str, object]:
        return {"identical": identical, "quantiles": {"median": median, "max": 0.987}}

    near = {"text": {"this_split": side(0.0, 0.412), "random_split": side(0.256, 0.654)}}
    row = {
        "model": "m|x", "inputs": "image", "top1": 0.511, "top1_low": 0.4, "top1_high": 0.6, "macro_f1": 0.322,
        "macro_f1_low": 0.3, "macro_f1_high": 0.35,
    }  # fmt: skip
    board = [{**row, "task": "linear probe", "top5": 0.9}]
    others = [{**row, "split": "this"}, {**row, "split": "random", "top1": 0.877}]
    made = release.documents(
        toy_config(),
        {
            **reports(),
            "leakage": {"cross_split_pairs": 0},
            "cleanliness": {"nearest_in_train": near},
            "baselines": {"leaderboard": board, "other_splits": others},
        },
        COLUMNS,
    )["README.md"]
    assert (
        "| texts | this split | 0.0 % | 0.412 | 0.987 |\n| texts | a random split | 25.6 % | 0.654 |" in made
    )
    assert "The same model on a random split, which deals single items out and leaks:" in made
    assert "| m\\|x | image | random: it leaks | 0.877 | 0.400–0.600 | 0.322 | 0.300–0.350 |" in made
    assert "another seed" not in made  # there is no such row


def test_front_matter_is_what_hugging_face_reads() -> None:
    found = front(release.documents(toy_config(), reports(), COLUMNS)["README.md"])
    assert found["license"] == "cc-by-sa-4.0"
    assert found["language"] == ["de", "en", "zh"]
    assert found["language_bcp47"] == ["de", "en", "zh-Hans"]
    assert found["size_categories"] == ["n<1K"]
    assert found["configs"][0]["data_files"][0] == {
        "split": "train",
        "path": "data/train-?????-of-?????.parquet",
    }
    assert found["dataset_info"]["splits"][0] == {"name": "train", "num_examples": 36}
    assert found["dataset_info"]["features"][0] == {"name": "image", "dtype": "image"}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("ODbL-1.0", {"license": "odbl"}),  # Hugging Face has its own short names
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        (
            "CC-BY-4.0 AND CC0-1.0",  # an expression is no id of theirs
            {"license": "other", "license_name": "cc-by-4.0-and-cc0-1.0", "license_link": "LICENSE"},
        ),
    ],
)
def test_licence_of_the_front_matter(licence: str, expected: dict[str, str]) -> None:
    found = front(release.documents(toy_config(licence=licence), reports(), COLUMNS)["README.md"])
    assert {key: value for key, value in found.items() if key.startswith("license")} == expected


@pytest.mark.parametrize(
    ("licence", "url"),
    [
        ("CC-BY-SA-4.0", "https://creativecommons.org/licenses/by-sa/4.0/legalcode"),
        ("CC-BY-NC-ND-3.0", "https://creativecommons.org/licenses/by-nc-nd/3.0/legalcode"),
        ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/legalcode"),
        ("Unlicense", "https://spdx.org/licenses/Unlicense.html"),
    ],
)
def test_licence_urls(licence: str, url: str) -> None:
    assert release.licence_url(licence) == url


def test_licence_lists_items_under_other_licences() -> None:
    text = release.documents(
        toy_config(), reports(items_by_licence={"CC-BY-SA-4.0": 50, "MIT": 10}), COLUMNS
    )["LICENSE"]
    assert "SPDX-License-Identifier: CC-BY-SA-4.0" in text
    assert "MIT: 10 items" in text
    # MIT asks for its text to come along.
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in text


@pytest.mark.parametrize(
    ("items", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (50_000, "10K<n<100K"),
        (10**6, "1M<n<10M"),
        (10**13, "n>1T"),
    ],
)
def test_size_categories(items: int, category: str) -> None:
    assert release.size_category(items) == category


def test_data_cannot_write_markup_into_the_card() -> None:
    evil = "x | y\n## Free money <script>alert(1)</script> [a](javascript:b) `c`"
    card = release.documents(toy_config(), reports(items_by_label_source={evil: 3}), COLUMNS)["README.md"]
    assert "<script>" not in card
    assert "\n## Free money" not in card
    assert "[a](javascript" not in card
    row = next(line for line in card.splitlines() if "Free money" in line)
    assert row.replace("\\|", "").count("|") == 3


def test_split_names_that_hugging_face_does_not_allow_are_mapped() -> None:
    config = toy_config(split={"ratios": {"train": 0.8, "test": 0.1, "hard-cases": 0.1}})
    found = front(
        release.documents(config, reports(items_by_split={"train": 8, "hard-cases": 1}), COLUMNS)["README.md"]
    )
    assert found["configs"][0]["data_files"][1] == {
        "split": "hard_cases",
        "path": "data/hard-cases-?????-of-?????.parquet",
    }


def test_leaderboard_is_shown_where_there_is_one() -> None:
    row = {
        "model": "small-clip",
        "task": "probe",
        "inputs": "image",
        "top1": 0.5,
        "top1_low": 0.4,
        "top1_high": 0.6,
    }
    with_rows = release.documents(toy_config(), {**reports(), "baselines": {"leaderboard": [row]}}, COLUMNS)
    assert "| small-clip | probe | image | 0.500 | 0.400–0.600 |" in with_rows["README.md"]
    assert "## Baselines" not in release.documents(toy_config(), reports(), COLUMNS)["README.md"]


def test_citation_tells_people_from_organisations() -> None:
    creators = [{"name": "Ada Maria Example", "orcid": "0000-0001-2345-6789"}, {"name": "Example Ltd"}]
    citation = yaml.safe_load(release.citation(toy_config(creators=creators)))
    assert citation["authors"] == [
        {
            "family-names": "Example",
            "given-names": "Ada Maria",
            "orcid": "https://orcid.org/0000-0001-2345-6789",
        },
        {"name": "Example Ltd"},
    ]
    assert citation["cff-version"] == "1.2.0"


@pytest.mark.parametrize(
    "changes",
    [
        {"doi": "10.5281/zenodo.7", "keywords": ["noise"]},
        {"creators": [{"name": "Madonna", "orcid": "0000-0002-1825-0097"}, {"name": "The toy makers"}]},
        {"creators": [], "date": None, "url": None, "description": None, "title": None},
        {"licence": "CC-BY-4.0 AND CC0-1.0"},
        {"licence": "LicenseRef-shop"},  # no id that the schema knows
    ],
    ids=["all", "people", "bare", "two licences", "own licence"],
)
def test_the_citation_follows_the_schema_of_its_format(changes: dict[str, object]) -> None:
    schema = get_builtin_schema("vendor.citation-file-format")
    document = yaml.load(release.citation(toy_config(**changes)), Loader=yaml.BaseLoader)
    assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(document)] == []


def differing(version: str, old: pl.DataFrame, new: pl.DataFrame) -> dict[str, object]:
    found = diff.compare(old.lazy(), new.lazy(), empty(REMOVED).lazy())
    return diff.diff_report(version, "1.0.0", found, new.height)


def test_changelog_puts_this_version_above_the_ones_before() -> None:
    first = release.changelog(toy_config(), reports())
    assert first == "# Changelog\n\n## 1.0.0 (2026-01-02)\n\n- First release: 60 items\n"
    items = toy().items.drop("image_ref", "group_keys", "published_split", "strata")
    report = differing("1.1.0", items.head(50), items)
    second = release.changelog(toy_config(version="1.1.0"), {**reports(), "diff": report}, first)
    assert (
        second
        == """\
# Changelog

## 1.1.0 (2026-01-02)

Compared with 1.0.0:

- 10 items added
- differences in the test split (3 items): results are not comparable; 9 items of the old one are as they were

| split | old | new | added | removed | moved in | moved out | changed |
|---|---:|---:|---:|---:|---:|---:|---:|
| test | 9 | 12 | 3 | 0 | 0 | 0 | 0 |
| train | 32 | 36 | 4 | 0 | 0 | 0 | 0 |
| validation | 9 | 12 | 3 | 0 | 0 | 0 | 0 |

Items by label, where their number changed:

| label | old | new |
|---|---:|---:|
| class 1 | 17 | 21 |
| class 0 | 18 | 21 |
| class 2 | 15 | 18 |

## 1.0.0 (2026-01-02)

- First release: 60 items
"""
    )


def test_the_changelog_shows_a_bounded_number_of_labels_and_no_markup_of_theirs() -> None:
    items = toy().items.drop("image_ref", "group_keys", "published_split").head(25)
    named = items.with_columns(label=pl.format("<b>{}</b> | x", pl.col("item_id")))
    text = release.changes(differing("2.0.0", items, named))
    table = text[text.index("Items by label") :].splitlines()
    assert table[0] == "Items by label, where their number changed (18 more labels):"
    assert len(table) == 4 + diff.SHOWN_LABELS
    assert "<b>" not in text
    assert table[-1].replace("\\|", "").count("|") == 4


def test_a_release_in_which_no_item_differs_says_so() -> None:
    items = toy().items.drop("image_ref", "group_keys", "published_split", "strata")
    expected = "Compared with 1.0.0:\n\n- no item differs; documents or reports were made anew\n"
    assert release.changes(differing("1.0.1", items, items)) == expected
