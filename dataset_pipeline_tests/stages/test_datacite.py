"""What repositories of research data are told, person by person and licence by licence."""

from typing import Any

import pytest
from datacite import schema45

from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.datacite import datacite, invenio_metadata, lint
from dataset_pipeline_tests.toy_release import toy_config

COUNTS = {"items_by_language": {"": 1, "de": 3, "und": 1}, "released_items": 5}
PEOPLE = [
    {"name": "Ada B. Example", "orcid": "0000-0002-1825-0097", "affiliation": "Example Ltd"},
    {"name": "The toy makers"},
]


def test_everything_that_datacite_requires_is_there_once_the_author_has_said_it() -> None:
    config = toy_config(doi="10.5281/zenodo.7", creators=PEOPLE, publish={"archive": {"kind": "zenodo"}})
    made = datacite(config, COUNTS)
    assert (made["doi"], made["publisher"], made["publicationYear"]) == (
        "10.5281/zenodo.7",
        {"name": "Zenodo"},
        "2026",
    )
    assert made["titles"] == [{"title": "Toy pictures"}]
    assert made["types"]["resourceTypeGeneral"] == "Dataset"
    assert [(c["name"], c["nameType"]) for c in made["creators"]] == [
        ("Example, Ada B.", "Personal"),
        ("The toy makers", "Organizational"),
    ]
    assert (
        made["creators"][0]["nameIdentifiers"][0]["nameIdentifier"] == "https://orcid.org/0000-0002-1825-0097"
    )
    assert (made["language"], made["sizes"]) == ("de", ["5 items"])
    assert [right["rightsIdentifier"] for right in made["rightsList"]] == ["cc-by-sa-4.0"]
    assert made["relatedIdentifiers"][0]["relatedIdentifier"] == "https://example.org/noise"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"creators": [{"name": "Madonna", "affiliation": "Example Ltd"}]},  # a person of one name
        {"licence": "CC-BY-4.0 AND LicenseRef-shop", "keywords": ["a", "b"], "url": "https://example.org/x"},
        {"description": None, "title": None},
    ],
    ids=["all", "one name", "two licences", "bare"],
)
def test_it_follows_the_schema_of_datacite(changes: dict[str, Any]) -> None:
    given = {
        "doi": "10.5281/zenodo.7",
        "creators": PEOPLE,
        "publish": {"archive": {"kind": "zenodo"}},
        **changes,
    }
    made = datacite(toy_config(**given), COUNTS)
    assert [error.message for error in schema45.validator.iter_errors(made)] == []
    assert lint(made) == []


def test_what_a_doi_cannot_do_without_is_named() -> None:
    bare = {"creators": [], "date": None}
    assert lint(datacite(toy_config(**bare), COUNTS)) == []  # without a DOI nobody asks
    assert lint(datacite(toy_config(doi="10.5281/zenodo.7", **bare), COUNTS)) == [
        "datacite.json: 'creators' is mandatory for a DOI, but missing; set creators in dataset.yaml",
        "datacite.json: 'publisher' is mandatory for a DOI, but missing; set a destination of kind zenodo in dataset.yaml",
        "datacite.json: 'publicationYear' is mandatory for a DOI, but missing; set date in dataset.yaml",
    ]


def test_nothing_is_invented() -> None:
    made = datacite(toy_config(creators=[], date=None, description=None, url=None), COUNTS)
    assert not made.keys() & {
        "doi",
        "publisher",
        "creators",
        "publicationYear",
        "dates",
        "descriptions",
        "url",
    }


def test_a_record_always_says_its_licence() -> None:
    made = invenio_metadata(toy_config(licence="CC-BY-4.0 AND LicenseRef-shop", creators=PEOPLE), "Zenodo")
    assert made["rights"][0] == {"id": "cc-by-4.0"}
    assert made["rights"][1]["title"] == {"en": "LicenseRef-shop"}
    assert made["creators"] == [
        {
            "person_or_org": {
                "type": "personal",
                "family_name": "Example",
                "given_name": "Ada B.",
                "identifiers": [{"scheme": "orcid", "identifier": "0000-0002-1825-0097"}],
            },
            "affiliations": [{"name": "Example Ltd"}],
        },
        {"person_or_org": {"type": "organizational", "name": "The toy makers"}},
    ]


def test_a_description_is_text_and_not_markup() -> None:
    made = invenio_metadata(toy_config(description="<script>x</script> & more"), "Zenodo")
    assert made["description"] == "<p>&lt;script&gt;x&lt;/script&gt; &amp; more</p>"


@pytest.mark.parametrize(("missing", "named"), [({"date": None}, "date"), ({"creators": []}, "creators")])
def test_what_a_record_cannot_do_without_is_named(missing: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=f"a record needs {named}, which dataset.yaml does not set"):
        invenio_metadata(toy_config(**missing), "Zenodo")
