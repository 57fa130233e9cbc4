"""What a repository of research data is told about the dataset: DataCite metadata, and InvenioRDM's form of it.

Belongs here: the mapping from the configuration. Does not belong here: sending it (``adapters/zenodo.py``).

Sources: DataCite Metadata Schema 4.6, as JSON of the DataCite REST API; the metadata reference of InvenioRDM.
"""

import html
from collections.abc import Mapping
from typing import Any, Final

from dataset_pipeline.config import Creator, DatasetConfig, ZenodoDestination
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.licences import licence_ids
from dataset_pipeline.stages.release import licence_url

NAME: Final = "datacite.json"
MANDATORY: Final = {
    "creators": "creators",
    "publisher": "a destination of kind zenodo",
    "publicationYear": "date",
}
"""Property without which no DOI is registered -> what of dataset.yaml fills it; the others are always there."""
_SCHEMA: Final = "http://datacite.org/schema/kernel-4"


def datacite(config: DatasetConfig, counts: Mapping[str, Any]) -> dict[str, Any]:
    """``datacite.json``. Mandatory properties that dataset.yaml leaves open are left out: nothing is invented.

    ``counts``: of ``reports/quality.json``. The publisher is the repository of research data that is a destination.
    """
    languages = [tag for tag in counts["items_by_language"] if tag not in ("", "und", "zxx", "mul")]
    publishers = [
        place.publisher for place in config.publish.values() if isinstance(place, ZenodoDestination)
    ]
    document: dict[str, Any] = {
        "schemaVersion": _SCHEMA,
        "doi": config.doi,
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Dataset"},
        "titles": [{"title": config.display_title}],
        "creators": [_creator(creator) for creator in config.creators],
        "publisher": {"name": publishers[0]} if publishers else None,
        "publicationYear": config.date[:4] if config.date else None,
        "dates": [{"date": config.date, "dateType": "Issued"}] if config.date else None,
        "version": config.version,
        "language": languages[0] if len(languages) == 1 else None,
        "subjects": [{"subject": word} for word in config.keywords],
        "descriptions": [{"description": config.description, "descriptionType": "Abstract"}]
        if config.description
        else None,
        "rightsList": [
            {
                "rightsIdentifier": name.lower(),
                "rightsIdentifierScheme": "SPDX",
                "schemeUri": "https://spdx.org/licenses/",
                "rightsUri": licence_url(name),
                "rights": name,
            }
            for name in licence_ids(config.licence)
        ],
        "relatedIdentifiers": [
            {"relatedIdentifier": source.url, "relatedIdentifierType": "URL", "relationType": "IsDerivedFrom"}
            for source in config.sources
            if source.url
        ],
        "sizes": [f"{counts['released_items']} items"],
        "formats": ["application/vnd.apache.parquet"],
        "url": config.url,
    }
    return {key: value for key, value in document.items() if value not in (None, [], "")}


def lint(document: Mapping[str, Any]) -> list[str]:
    """What a registered DOI cannot do without and the author left open, one line each; nothing where there is no DOI."""
    return [
        f"{NAME}: '{name}' is mandatory for a DOI, but missing; set {key} in dataset.yaml"
        for name, key in MANDATORY.items()
        if document.get("doi") and not document.get(name)
    ]


def invenio_metadata(config: DatasetConfig, publisher: str) -> dict[str, Any]:
    """The ``metadata`` of an InvenioRDM record; the licence is always said, because hosts fill in one of their own.

    Raises ``ConfigError`` where a property is missing without which no record can be published.
    """
    missing = [key for key in ("date", "creators") if not getattr(config, key)]
    if missing:
        raise ConfigError(
            f"a record needs {' and '.join(missing)}, which dataset.yaml does not set",
            hint="Set them and build again",
        )
    document: dict[str, Any] = {
        "resource_type": {"id": "dataset"},
        "title": config.display_title,
        "publication_date": config.date,
        "version": config.version,
        "publisher": publisher,
        "creators": [_invenio_creator(creator) for creator in config.creators],
        "description": f"<p>{html.escape(config.description)}</p>" if config.description else None,
        "subjects": [{"subject": word} for word in config.keywords],
        "rights": [_right(name) for name in licence_ids(config.licence)],
        "related_identifiers": [
            {"identifier": source.url, "scheme": "url", "relation_type": {"id": "isderivedfrom"}}
            for source in config.sources
            if source.url
        ],
    }
    return {key: value for key, value in document.items() if value not in (None, [], "")}


def _right(name: str) -> Mapping[str, Any]:
    """A licence: by its id in the host's vocabulary, which is SPDX in small letters, else by name and address."""
    if name.startswith("LicenseRef-"):
        return {"title": {"en": name}, "link": licence_url(name)}
    return {"id": name.lower()}


def _is_person(creator: Creator) -> bool:
    return creator.orcid is not None or creator.affiliation is not None


def _creator(creator: Creator) -> dict[str, Any]:
    given, _, family = creator.name.rpartition(" ")
    if not _is_person(creator):
        return {"name": creator.name, "nameType": "Organizational"}
    made: dict[str, Any] = {
        "name": f"{family}, {given}" if given else family,
        "nameType": "Personal",
        "givenName": given,
        "familyName": family,
        "affiliation": [{"name": creator.affiliation}] if creator.affiliation else None,
        "nameIdentifiers": [
            {"nameIdentifier": f"https://orcid.org/{creator.orcid}", "nameIdentifierScheme": "ORCID",
             "schemeUri": "https://orcid.org"}
        ]
        if creator.orcid
        else None,
    }  # fmt: skip
    return {key: value for key, value in made.items() if value}


def _invenio_creator(creator: Creator) -> dict[str, Any]:
    if not _is_person(creator):
        return {"person_or_org": {"type": "organizational", "name": creator.name}}
    given, _, family = creator.name.rpartition(" ")
    person: dict[str, Any] = {"type": "personal", "family_name": family}
    if given:
        person["given_name"] = given
    if creator.orcid:
        person["identifiers"] = [{"scheme": "orcid", "identifier": creator.orcid}]
    made: dict[str, Any] = {"person_or_org": person}
    if creator.affiliation:
        made["affiliations"] = [{"name": creator.affiliation}]
    return made
