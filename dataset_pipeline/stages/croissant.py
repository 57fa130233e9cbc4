"""``croissant.json``: the release described for machines, and a check that its description is complete.

Belongs here: the Croissant 1.1 document and its lint. Does not belong here: hashing files.

Source: MLCommons Croissant Format Specification 1.1 and its Responsible AI (RAI) vocabulary 1.0. The
reference validator accepts documents without licence, URL, creator, date and RAI fields, so
:func:`lint` checks what the specification and venues require.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, Protocol

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.licences import licence_ids
from dataset_pipeline.stages.release import bibtex, column_meanings, licence_url, variant_configs
from dataset_pipeline.tables import PAIRS, REMOVED

CONFORMS_TO: Final = "http://mlcommons.org/croissant/1.1"
NOT_DESCRIBED: Final = frozenset({"croissant.json", "provenance.json", "SHA256SUMS"})
"""Files without a checksum in the document: itself, and the two that may differ between builds."""

_CONTEXT: Final[Mapping[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS: Final = {
    ".parquet": "application/x-parquet",
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".tex": "application/x-tex",
    ".cff": "application/yaml",
    ".ipynb": "application/x-ipynb+json",
}
REQUIRED: Final = (
    "@context",
    "@type",
    "conformsTo",
    "name",
    "description",
    "license",
    "url",
    "creator",
    "datePublished",
    "distribution",
)
RESPONSIBLE_AI: Final = {
    "rai:dataLimitations": "documentation.limitations",
    "rai:dataBiases": "documentation.biases",
    "rai:personalSensitiveInformation": "documentation.personal_information",
    "rai:dataUseCases": "documentation.uses",
    "rai:dataSocialImpact": "documentation.social_impact",
    "rai:hasSyntheticData": "documentation.is_synthetic",
    "prov:wasDerivedFrom": "sources.url",
    "prov:wasGeneratedBy": "documentation.collection",
}
"""Field -> the key of dataset.yaml that fills it."""
_KEYS: Final = {
    "description": "description",
    "license": "licence",
    "url": "url",
    "creator": "creators",
    "datePublished": "date",
}


_DATA_TYPES: Final = {"image": "sc:ImageObject", "string": "sc:Text", "int64": "sc:Integer"}


class File(Protocol):
    """A file of the release: what ``adapters.archive.ReleasedFile`` is."""

    @property
    def path(self) -> str:
        """POSIX, relative to the release folder."""

    @property
    def sha256(self) -> str:
        """Of its bytes, hexadecimal."""

    @property
    def size_bytes(self) -> int:
        """Its size."""


def croissant(
    config: DatasetConfig, columns: Mapping[str, str], rows: Mapping[str, int], files: Iterable[File]
) -> dict[str, Any]:
    """The document. Fields that dataset.yaml leaves open are left out: see :func:`lint`.

    ``columns``: column of the shards -> 'image', 'string' or 'int64'; ``rows``: split -> items; ``files``: every
    file of the release, of which NOT_DESCRIBED are left out.
    """
    described = sorted((file for file in files if file.path not in NOT_DESCRIBED), key=lambda file: file.path)
    notes = config.documentation
    (_, first), *others = variant_configs(config, columns).items()
    variants = {"": first, **dict(others)}
    document: dict[str, Any] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": [CONFORMS_TO, "http://mlcommons.org/croissant/RAI/1.0"],
        "name": config.name,
        "alternateName": config.title,
        "description": config.description or config.title,
        "license": [licence_url(identifier) for identifier in licence_ids(config.licence)],
        "url": config.url,
        "version": config.version,
        "datePublished": config.date,
        "identifier": f"https://doi.org/{config.doi}" if config.doi else None,
        "citeAs": bibtex(config),
        "keywords": list(config.keywords),
        "creator": [_creator(creator) for creator in config.creators],
        "rai:dataLimitations": notes.limitations,
        "rai:dataBiases": notes.biases,
        "rai:personalSensitiveInformation": notes.personal_information,
        "rai:dataUseCases": notes.uses,
        "rai:dataSocialImpact": notes.social_impact,
        "rai:hasSyntheticData": notes.is_synthetic,
        "rai:dataCollection": notes.collection,
        "rai:dataReleaseMaintenancePlan": notes.maintenance,
        "prov:wasDerivedFrom": [source.url for source in config.sources if source.url],
        "prov:wasGeneratedBy": notes.collection,
        "distribution": [_file_object(file) for file in described]
        + [_shards(name, folder) for name, folder in variants.items()],
        "recordSet": [
            _splits(rows),
            *(_items(name, columns, column_meanings(config)) for name in variants),
            _table(
                "removed",
                "metadata/removed.parquet",
                list(REMOVED),
                "Raw items that are not released, and why.",
            ),
            _table(
                "duplicate_pairs",
                "metadata/duplicate_pairs.parquet",
                list(PAIRS),
                "Verified duplicate pairs.",
            ),
        ],
    }
    return {key: value for key, value in document.items() if value not in (None, [], "")}


def lint(document: Mapping[str, Any]) -> list[str]:
    """What a complete description still lacks, one line a field, with the key that fills it; else empty."""
    problems = [
        f"croissant.json: '{name}' is required, but missing; set '{_KEYS[name]}' in dataset.yaml"
        if name in _KEYS
        else f"croissant.json: '{name}' is required, but missing"
        for name in REQUIRED
        if document.get(name) in (None, "", [], {})
    ]
    conforms = document.get("conformsTo", [])
    if CONFORMS_TO not in ([conforms] if isinstance(conforms, str) else list(conforms)):
        problems.append(f"croissant.json: conformsTo does not name {CONFORMS_TO}")
    for entry in _entries(document):
        checksum = entry.get("sha256")
        if entry.get("@type") == "cr:FileObject" and not (isinstance(checksum, str) and len(checksum) == 64):
            problems.append(f"croissant.json: file {entry.get('@id')!r} has no SHA-256")
    problems += [
        f"croissant.json: '{name}' is missing; set '{key}' in dataset.yaml"
        for name, key in RESPONSIBLE_AI.items()
        if document.get(name) in (None, "", [])
    ]
    return problems


def checksums(document: Mapping[str, Any]) -> dict[str, str]:
    """Path -> SHA-256 that the document gives for it."""
    return {
        str(entry["contentUrl"]): str(entry.get("sha256"))
        for entry in _entries(document)
        if entry.get("@type") == "cr:FileObject" and "contentUrl" in entry
    }


def _entries(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = document.get("distribution", [])
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _creator(creator: Any) -> dict[str, Any]:
    is_person = creator.orcid is not None or creator.affiliation is not None
    made: dict[str, Any] = {"@type": "sc:Person" if is_person else "sc:Organization", "name": creator.name}
    if creator.orcid:
        made["url"] = f"https://orcid.org/{creator.orcid}"
    if creator.affiliation:
        made["affiliation"] = {"@type": "sc:Organization", "name": creator.affiliation}
    return made


def _file_object(file: File) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "contentUrl": file.path,
        "contentSize": f"{file.size_bytes} B",
        "encodingFormat": _FORMATS.get(PurePosixPath(file.path).suffix, "text/plain"),
        "sha256": file.sha256,
    }


def _shards(variant: str, folder: str) -> dict[str, Any]:
    """The shards of one resolution; ``variant``: its name, empty for the first."""
    resolution = f" in the resolution '{variant}'" if variant else ""
    return {
        "@type": "cr:FileSet",
        "@id": _of("shards", variant),
        "name": _of("shards", variant),
        "description": f"Parquet files with the items of all splits, pictures included{resolution}.",
        "encodingFormat": _FORMATS[".parquet"],
        "includes": f"{folder}/*.parquet",
    }


def _of(name: str, variant: str) -> str:
    return f"{name}-{variant}" if variant else name


def _splits(rows: Mapping[str, int]) -> dict[str, Any]:
    """The splits as an enumeration, with Croissant's own name for the usual three."""
    usual = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit", "test": "cr:TestSplit"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits of the dataset.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
            {"@type": "cr:Field", "@id": "splits/items", "name": "items", "dataType": "sc:Integer"},
        ],
        "data": [
            {"splits/name": name, "splits/url": usual.get(name, ""), "splits/items": count}
            for name, count in rows.items()
        ],
    }


def _items(variant: str, columns: Mapping[str, str], meanings: Mapping[str, str]) -> dict[str, Any]:
    """The records of one resolution; ``variant``: its name, empty for the first."""
    identifier = _of("items", variant)
    resolution = f", with its picture in the resolution '{variant}'" if variant else ""
    return {
        "@type": "cr:RecordSet",
        "@id": identifier,
        "name": identifier,
        "description": f"One record per released item{resolution}.",
        "key": {"@id": f"{identifier}/item_id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{identifier}/{name}",
                "name": name,
                "description": meanings.get(name, name),
                "dataType": _DATA_TYPES[kind],
                "source": {
                    "fileSet": {"@id": _of("shards", variant)},
                    "extract": {"column": name},
                    **({"transform": {"jsonPath": "bytes"}} if kind == "image" else {}),
                },
            }
            for name, kind in columns.items()
        ],
    }


def _table(identifier: str, path: str, columns: Sequence[str], description: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": identifier,
        "name": identifier,
        "description": description,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{identifier}/{name}",
                "name": name,
                "dataType": "sc:Float" if name == "score" else "sc:Text",
                "source": {"fileObject": {"@id": path}, "extract": {"column": name}},
            }
            for name in columns
        ],
    }
