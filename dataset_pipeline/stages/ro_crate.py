"""``ro-crate-metadata.json``: the release folder as a research object, for repositories and people who collect those.

Belongs here: the RO-Crate 1.1 document and what in it is wrong. Does not belong here: what a record of the data looks
like (``croissant.py``) and what a DOI is registered with (``datacite.py``).

Source: RO-Crate Metadata Specification 1.1; its root dataset needs a name, a description, a licence and a date.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Final
from urllib.parse import quote

from dataset_pipeline.config import Creator, DatasetConfig
from dataset_pipeline.stages.croissant import File, media_type, references
from dataset_pipeline.stages.licences import licence_ids
from dataset_pipeline.stages.release import licence_url

NAME: Final = "ro-crate-metadata.json"
NOT_DESCRIBED: Final = frozenset({NAME, "provenance.json", "SHA256SUMS"})
"""Files without a checksum in the document: itself, and the two that may differ between builds."""
_SPECIFICATION: Final = "https://w3id.org/ro/crate/1.1"


def ro_crate(config: DatasetConfig, files: Iterable[File], software: str) -> dict[str, Any]:
    """The document. What dataset.yaml leaves open is left out: nothing is invented.

    ``files``: of the release, of which NOT_DESCRIBED are left out; ``software``: name and version of what made it.
    """
    described = sorted((file for file in files if file.path not in NOT_DESCRIBED), key=lambda file: file.path)
    creators = [_creator(creator, number) for number, creator in enumerate(config.creators, start=1)]
    affiliations = sorted({creator.affiliation for creator in config.creators if creator.affiliation})
    sources = [
        {
            "@id": f"#source-{source.id}",
            "@type": "Dataset",
            "name": source.id,
            "license": _links(licence_url(name) for name in licence_ids(source.licence)),
            "url": source.url,
            "creator": source.author,
        }
        for source in config.sources
    ]
    licences = {
        licence_url(name): name
        for expression in (config.licence, *(source.licence for source in config.sources))
        for name in licence_ids(expression)
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": config.display_title,
        "description": config.description or config.display_title,
        "datePublished": config.date,
        "license": _links(licence_url(name) for name in licence_ids(config.licence)),
        "version": config.version,
        "identifier": f"https://doi.org/{config.doi}" if config.doi else None,
        "url": config.url,
        "keywords": list(config.keywords),
        "author": _links(creator["@id"] for creator in creators),
        "hasPart": _links(file.path for file in described),
        "mentions": {"@id": "#build"},
    }
    graph: list[dict[str, Any]] = [
        {
            "@id": NAME,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _SPECIFICATION},
            "about": {"@id": "./"},
        },
        root,
        *(
            {
                "@id": file.path,
                "@type": "File",
                "name": file.path,
                "contentSize": str(file.size_bytes),
                "encodingFormat": media_type(file.path),
                "sha256": file.sha256,
            }
            for file in described
        ),
        *creators,
        *({"@id": _organisation(name), "@type": "Organization", "name": name} for name in affiliations),
        *({"@id": url, "@type": "CreativeWork", "name": name} for url, name in sorted(licences.items())),
        {
            "@id": "#build",
            "@type": "CreateAction",
            "name": "Cleaning, deduplication, splitting and checks",
            "object": _links(source["@id"] for source in sources),
            "instrument": {"@id": "#software"},
            "result": {"@id": "./"},
        },
        *sources,
        {"@id": "#software", "@type": "SoftwareApplication", "name": software},
    ]
    return {
        "@context": [f"{_SPECIFICATION}/context", {"sha256": "https://schema.org/sha256"}],
        "@graph": [
            {key: value for key, value in entity.items() if value not in (None, [], "")} for entity in graph
        ],
    }


def faults(
    document: Mapping[str, Any],
    sizes: Mapping[str, int],
    checksums: Mapping[str, str],
    known: Set[str] = frozenset(),
) -> Iterator[str]:
    """What is wrong in the document, one line a fault.

    ``sizes`` and ``checksums``: of every file, by path; ``known``: paths of which a fault was told already.
    """
    entities = [entity for entity in document["@graph"] if isinstance(entity, Mapping)]
    by_id = {str(entity.get("@id")): entity for entity in entities}
    if len(by_id) < len(entities):
        yield "an identifier is given twice"
    about = by_id.get(NAME, {}).get("conformsTo", {})
    if about.get("@id") != _SPECIFICATION:
        yield f"does not conform to {_SPECIFICATION}"
    root = by_id.get("./")
    if root is None:
        yield "has no root dataset './'"
        return
    for name in ("name", "description", "license"):
        if not root.get(name):
            yield f"the root dataset has no {name}"
    listed = root.get("hasPart", [])
    parts = {str(part.get("@id")) for part in (listed if isinstance(listed, list) else [listed])}
    for path in sorted(parts - sizes.keys() - known):
        yield f"names {path!r}, which is not there"
    for path in sorted(sizes.keys() - parts - NOT_DESCRIBED - known):
        yield f"does not name {path!r}"
    for path in sorted((parts & sizes.keys()) - known):
        entity = by_id.get(path, {})
        told = entity.get("contentSize"), entity.get("sha256")
        if told != (str(sizes[path]), checksums[path]):
            yield f"{path!r} is not the file that it describes: size or SHA-256 differ"
    for reference in sorted(set(references(entities)) - by_id.keys()):
        if reference != _SPECIFICATION:
            yield f"{reference!r} is referred to and not there"


def lint(document: Mapping[str, Any]) -> list[str]:
    """What the specification requires and the author left open, with the key of dataset.yaml that fills it."""
    [root] = [entity for entity in document["@graph"] if entity.get("@id") == "./"]
    if root.get("datePublished"):
        return []
    return [f"{NAME}: 'datePublished' is required, but missing; set 'date' in dataset.yaml"]


def _links(identifiers: Iterable[str]) -> Any:
    """References: a list, or the only one by itself."""
    made = [{"@id": identifier} for identifier in identifiers]
    return made[0] if len(made) == 1 else made


def _organisation(name: str) -> str:
    return f"#organisation-{quote(name)}"


def _creator(creator: Creator, number: int) -> dict[str, Any]:
    """A person where an ORCID or an affiliation says so, else an organisation: a name alone cannot tell."""
    is_person = creator.orcid is not None or creator.affiliation is not None
    return {
        "@id": f"https://orcid.org/{creator.orcid}" if creator.orcid else f"#creator-{number}",
        "@type": "Person" if is_person else "Organization",
        "name": creator.name,
        "affiliation": {"@id": _organisation(creator.affiliation)} if creator.affiliation else None,
    }
