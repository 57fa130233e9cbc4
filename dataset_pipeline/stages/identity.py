"""Whether the descriptions of a release are about one thing: its name, version, date, licence, DOI and creators.

Belongs here: reading these facts from each document, and comparing them. Does not belong here: what else a document
says (``croissant.py``, ``ro_crate.py``, ``datacite.py``, ``release.py``).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from dataset_pipeline.stages.release import licence_url

Facts = Mapping[str, Any]
"""'version', 'title', 'date', 'doi', 'licences' and 'creators'; None where the document has no place for it."""


def disagreements(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(path, what it says otherwise than croissant.json), in order. ``documents``: path -> content."""
    read = {path: _READERS[path](document) for path, document in documents.items()}
    expected = read.pop("croissant.json", None)
    if expected is None:
        return
    for path, facts in sorted(read.items()):
        for name, value in facts.items():
            if value is not None and value != expected[name]:
                yield path, f"{name}: says {_told(value)}, croissant.json says {_told(expected[name])}"


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return "nothing" if value == "" else str(value)


def _facts(version: Any, title: Any, date: Any, doi: Any, licences: Any, creators: Any) -> dict[str, Any]:
    return {
        "version": version or "",
        "title": title or "",
        "date": date or "",
        "doi": str(doi or "").removeprefix("https://doi.org/"),
        "licences": None if licences is None else sorted(map(str, licences)),
        "creators": None if creators is None else list(creators),
    }


def _of_croissant(document: Mapping[str, Any]) -> Facts:
    return _facts(
        document.get("version"), document.get("alternateName") or document.get("name"), document.get("datePublished"),
        document.get("identifier"), _listed(document.get("license")),
        [creator.get("name") for creator in _listed(document.get("creator"))],
    )  # fmt: skip


def _of_ro_crate(document: Mapping[str, Any]) -> Facts:
    by_id = {entity["@id"]: entity for entity in document["@graph"]}
    root = by_id["./"]
    return _facts(
        root.get("version"), root.get("name"), root.get("datePublished"), root.get("identifier"),
        [licence.get("@id") for licence in _listed(root.get("license"))],
        [by_id.get(author.get("@id"), {}).get("name") for author in _listed(root.get("author"))],
    )  # fmt: skip


def _of_datacite(document: Mapping[str, Any]) -> Facts:
    issued = [date.get("date") for date in document.get("dates", []) if date.get("dateType") == "Issued"]
    return _facts(
        document.get("version"), document["titles"][0]["title"], "".join(issued), document.get("doi"),
        [right.get("rightsUri") for right in document.get("rightsList", [])],
        [
            " ".join(filter(None, (creator.get("givenName"), creator.get("familyName")))) or creator.get("name")
            for creator in document.get("creators", [])
        ],
    )  # fmt: skip


def _of_citation(document: Mapping[str, Any]) -> Facts:
    """Its licence is one id or none; without an author of the data it names a group of them."""
    licence = document.get("license")
    creators = [
        author.get("name") or " ".join(filter(None, (author.get("given-names"), author.get("family-names"))))
        for author in document.get("authors", [])
    ]
    is_made_up = creators == [f"The authors of {document.get('title')}"]
    return _facts(
        document.get("version"), document.get("title"), document.get("date-released"), document.get("doi"),
        None if licence is None else [licence_url(str(licence))], None if is_made_up else creators,
    )  # fmt: skip


def _of_diff(document: Mapping[str, Any]) -> Facts:
    return {"version": document.get("version")}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Facts]]] = {
    "croissant.json": _of_croissant,
    "ro-crate-metadata.json": _of_ro_crate,
    "datacite.json": _of_datacite,
    "CITATION.cff": _of_citation,
    "reports/diff.json": _of_diff,
}
