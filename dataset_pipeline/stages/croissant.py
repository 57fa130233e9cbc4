"""``croissant.json``: the release described for machines, and checks that the description is complete and true.

Belongs here: the Croissant 1.1 document, what its author left open (:func:`lint`) and what in it is wrong
(:func:`faults`). Does not belong here: hashing files and reading their schemas.

Source: MLCommons Croissant Format Specification 1.1, its Responsible AI (RAI) vocabulary 1.0, and W3C PROV-O. The
reference validator accepts documents without licence, URL, creator, date and RAI fields, with wrong checksums, sizes
and types, so all of that is checked here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Protocol

from dataset_pipeline.config import DatasetConfig, Source
from dataset_pipeline.stages.licences import licence_ids
from dataset_pipeline.stages.release import bibtex, column_meanings, licence_url, variant_configs
from dataset_pipeline.tables import PAIRS, REMOVED

CONFORMS_TO: Final = "http://mlcommons.org/croissant/1.1"
NOT_DESCRIBED: Final = frozenset(
    {"croissant.json", "ro-crate-metadata.json", "provenance.json", "SHA256SUMS"}
)
"""Files without a checksum in the document: itself, the one that describes it, and the two that may differ between
builds."""

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
    ".tar": "application/x-tar",
    ".zip": "application/zip",
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
    "url": "url",
    "creator": "creators",
    "datePublished": "date",
}


_DATA_TYPES: Final = {
    "image": "sc:ImageObject",
    "string": "sc:Text",
    "int64": "sc:Integer",
    "double": "sc:Float",
}
"""Type of a column, as ``archive.DataFiles.columns`` names it -> Croissant's."""
COLLECTION: Final = "collection"
"""The activity that came before the pipeline: how the sources were made."""


@dataclass(frozen=True)
class Activity:
    """One stage of the pipeline, as it went into the release."""

    name: str
    description: str
    code_version: str
    reads: tuple[str, ...]
    """Names of the activities whose results it used; none: it read the sources."""


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
    config: DatasetConfig,
    columns: Mapping[str, str],
    rows: Mapping[str, int],
    files: Iterable[File],
    activities: Sequence[Activity] = (),
    software: str = "",
) -> dict[str, Any]:
    """The document. Fields that dataset.yaml leaves open are left out: see :func:`lint`.

    ``columns``: column of the shards -> 'image', 'string' or 'int64'; ``rows``: split -> items; ``files``: every
    file of the release, of which NOT_DESCRIBED are left out; ``activities``: stages, in order; ``software``: name and
    version of what ran them.
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
        "description": config.description or config.display_title,
        "license": [licence_url(identifier) for identifier in licence_ids(config.licence)],
        "url": config.url,
        "version": config.version,
        "datePublished": config.date,
        "identifier": f"https://doi.org/{config.doi}" if config.doi else None,
        "isLiveDataset": False,
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
        "prov:wasDerivedFrom": [_source(source) for source in config.sources],
        "prov:wasGeneratedBy": [
            *_collection(config),
            *(_activity(activity, config, software) for activity in activities),
        ],
        "distribution": [_file_object(file) for file in described]
        + [_shards(name, folder) for name, folder in variants.items()]
        + ([_TARS] if any(file.path.startswith("webdataset/") for file in described) else []),
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
    """What the author left open, one line a field, with the key of dataset.yaml that fills it; else empty."""
    problems = [
        f"croissant.json: '{name}' is required, but missing; set '{key}' in dataset.yaml"
        for name, key in _KEYS.items()
        if document.get(name) in _NOTHING
    ]
    derived = _nodes(document.get("prov:wasDerivedFrom"))
    unlocated = [str(source.get("prov:label")) for source in derived if source.get("url") in _NOTHING]
    if unlocated:
        problems.append(
            f"croissant.json: 'prov:wasDerivedFrom' has no address of {', '.join(sorted(unlocated)[:3])}; "
            "set 'sources.url' in dataset.yaml"
        )
    if not any(_label(made) == COLLECTION for made in _nodes(document.get("prov:wasGeneratedBy"))):
        problems.append(
            "croissant.json: 'prov:wasGeneratedBy' does not say how the sources were made; "
            "set 'documentation.collection' in dataset.yaml"
        )
    return problems + [
        f"croissant.json: '{name}' is missing; set '{key}' in dataset.yaml"
        for name, key in RESPONSIBLE_AI.items()
        if not name.startswith("prov:") and document.get(name) in _NOTHING
    ]


_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})


def faults(
    document: Mapping[str, Any],
    sizes: Mapping[str, int],
    schemas: Mapping[str, Mapping[str, str]],
    rows: Mapping[str, int],
) -> list[str]:
    """What is wrong in the document, one line a fault; checksums are compared where files are read.

    ``sizes``: path -> bytes of every file of the release; ``schemas``: path of a Parquet file -> column -> its type,
    as ``columns`` of :func:`croissant`; ``rows``: split -> items.
    """
    return [
        *_missing_faults(document),
        *_file_faults(document, sizes),
        *_identifier_faults(document),
        *_field_faults(document, schemas),
        *_split_faults(document, rows),
        *_provenance_faults(document),
    ]


def _missing_faults(document: Mapping[str, Any]) -> Iterator[str]:
    for name in REQUIRED:
        if name not in _KEYS and document.get(name) in _NOTHING:
            yield f"'{name}' is required, but missing"
    conforms = document.get("conformsTo", [])
    if CONFORMS_TO not in ([conforms] if isinstance(conforms, str) else list(conforms)):
        yield f"conformsTo does not name {CONFORMS_TO}"
    date = document.get("datePublished")
    if date not in _NOTHING and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(date)):
        yield f"datePublished is {str(date)!r}, expected YYYY-MM-DD"
    for name in ("license", "url", "identifier"):
        for value in _listed(document.get(name)):
            if not re.match(r"https?://\S+$", str(value)):
                yield f"{name} is {str(value)!r}, expected an address"
    for creator in _listed(document.get("creator")):
        if not isinstance(creator, Mapping) or creator.get("name") in _NOTHING:
            yield "a creator has no name"


def _file_faults(document: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterator[str]:
    """Of FileObjects and FileSets; a file that is missing or not described is found where files are read."""
    for entry in _entries(document):
        identifier, kind = entry.get("@id"), entry.get("@type")
        if kind == "cr:FileObject":
            checksum, place = entry.get("sha256"), entry.get("contentUrl")
            if not (isinstance(checksum, str) and re.fullmatch(r"[0-9a-f]{64}", checksum)):
                yield f"file {identifier!r} has no SHA-256"
            if place in _NOTHING:
                yield f"file {identifier!r} has no contentUrl"
            elif place in sizes and entry.get("contentSize") != f"{sizes[str(place)]} B":
                yield f"file {identifier!r}: contentSize is {entry.get('contentSize')!r}, it has {sizes[str(place)]} bytes"
            expected = media_type(str(place))
            if entry.get("encodingFormat") != expected:
                yield f"file {identifier!r}: encodingFormat is {entry.get('encodingFormat')!r}, expected {expected}"
        elif kind == "cr:FileSet":
            if not _matching(entry, sizes):
                yield f"file set {identifier!r}: no file of the release matches {entry.get('includes')!r}"
        else:
            yield f"distribution {identifier!r} is a {kind!r}, expected cr:FileObject or cr:FileSet"


def _identifier_faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Identifiers that occur twice, and references to what is not there."""
    defined = list(_defined([*_entries(document), *_nodes(document.get("recordSet"))]))
    for identifier in sorted({name for name in defined if defined.count(name) > 1}):
        yield f"the identifier {identifier!r} is given twice"
    generated = _nodes(document.get("prov:wasGeneratedBy")) + _nodes(document.get("prov:wasDerivedFrom"))
    known = {*defined, *_defined(generated)}
    for reference in sorted(set(references(document)) - known):
        yield f"{reference!r} is referred to and not there"


def _field_faults(document: Mapping[str, Any], schemas: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Fields against the columns of the Parquet files that they are read from."""
    entries = {entry.get("@id"): entry for entry in _entries(document)}
    described: dict[str, set[str]] = {}
    for field in (
        field for table in _nodes(document.get("recordSet")) for field in _nodes(table.get("field"))
    ):
        source = field.get("source")
        if not isinstance(source, Mapping):
            continue
        column = (source.get("extract") or {}).get("column")
        entry = entries.get((source.get("fileSet") or source.get("fileObject") or {}).get("@id"), {})
        paths = [entry["contentUrl"]] if "contentUrl" in entry else _matching(entry, schemas)
        for path in paths:
            described.setdefault(str(path), set()).add(str(column))
            kind = schemas.get(str(path), {}).get(str(column))
            told = _listed(field.get("dataType"))
            if kind is None:
                yield f"field {field.get('@id')!r}: {path} has no column {column!r}"
            elif _DATA_TYPES.get(kind) not in told:
                yield f"field {field.get('@id')!r} is {told}, expected {_DATA_TYPES.get(kind, kind)}: column {column!r} of {path} is {kind}"
            else:
                continue
            break  # the other shards have the same columns
    for path in sorted(path for path in schemas if path.startswith(("data/", "variants/"))):
        if lacking := sorted(schemas[path].keys() - described.get(path, set())):
            yield f"no field describes column {lacking[0]!r} of {path}" + (
                f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            )


def _split_faults(document: Mapping[str, Any], rows: Mapping[str, int]) -> Iterator[str]:
    for table in _nodes(document.get("recordSet")):
        if table.get("dataType") == "cr:Split":
            told = {row.get("splits/name"): row.get("splits/items") for row in _nodes(table.get("data"))}
            if told != dict(rows):
                yield f"splits are {told}, the tables give {dict(rows)}"
            return
    yield "no record set describes the splits"


def _provenance_faults(document: Mapping[str, Any]) -> Iterator[str]:
    sources = _nodes(document.get("prov:wasDerivedFrom"))
    if not sources:
        yield "'prov:wasDerivedFrom' names no source"
    for source in sources:
        if source.get("license") in _NOTHING:
            yield f"source {source.get('prov:label')!r} has no licence"
    for activity in _nodes(document.get("prov:wasGeneratedBy")):
        agent = activity.get("prov:wasAssociatedWith")
        if _label(activity) != COLLECTION and (
            not isinstance(agent, Mapping) or agent.get("version") in _NOTHING
        ):
            yield f"activity {_label(activity)!r} does not say which code did it"


def media_type(path: str) -> str:
    """Media type of a file of the release."""
    return _FORMATS.get(PurePosixPath(path).suffix, "text/plain")


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


def _nodes(value: Any) -> list[Mapping[str, Any]]:
    """Objects of a value that may be one or a list of them."""
    return [node for node in _listed(value) if isinstance(node, Mapping)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value in _NOTHING else [value]


def _label(activity: Mapping[str, Any]) -> str:
    return str(activity.get("prov:label"))


def _matching(entry: Mapping[str, Any], paths: Iterable[str]) -> list[str]:
    """Paths that a FileSet includes, sorted; a star stands for no slash."""
    patterns = [str(pattern)[:200] for pattern in _listed(entry.get("includes"))]
    return sorted(
        path
        for path in paths
        if any(
            path.count("/") == pattern.count("/") and PurePosixPath(path).match(pattern)
            for pattern in patterns
        )
    )


def _defined(nodes: Iterable[Any]) -> Iterator[str]:
    """Identifiers of objects: those that say more than who they are."""
    for node in nodes:
        if isinstance(node, Mapping):
            if "@id" in node and len(node) > 1:
                yield str(node["@id"])
            yield from _defined(value for key, value in node.items() if key not in ("data", "examples"))
        elif isinstance(node, list):
            yield from _defined(node)


def references(value: Any) -> Iterator[str]:
    """Identifiers of objects that say nothing but who is meant."""
    if isinstance(value, Mapping):
        if set(value) == {"@id"}:
            yield str(value["@id"])
        for key, inner in value.items():
            if key not in ("data", "examples", "@context"):
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


# -- parts of the document -----------------------------------------------------------------


def _source(source: Source) -> dict[str, Any]:
    """What the dataset was made from, with its licence and author."""
    made: dict[str, Any] = {
        "@type": "prov:Entity",
        "@id": f"source/{source.id}",
        "prov:label": source.id,
        "license": [licence_url(identifier) for identifier in licence_ids(source.licence)],
    }
    if source.url:
        made["url"] = source.url
    if source.author:
        made["prov:wasAttributedTo"] = {"@type": "prov:Agent", "prov:label": source.author}
    return made


def _collection(config: DatasetConfig) -> list[dict[str, Any]]:
    """How the sources were made, in the author's words."""
    told = config.documentation.collection
    if not told:
        return []
    return [
        {
            "@type": "prov:Activity",
            "@id": f"activity/{COLLECTION}",
            "prov:label": COLLECTION,
            "description": told,
        }
    ]


def _activity(activity: Activity, config: DatasetConfig, software: str) -> dict[str, Any]:
    """A stage; the run that it was, which differs from build to build, is in provenance.json under the same name."""
    used = [f"activity/{name}" for name in activity.reads] or [
        f"source/{source.id}" for source in config.sources
    ]
    relation = "prov:wasInformedBy" if activity.reads else "prov:used"
    return {
        "@type": "prov:Activity",
        "@id": f"activity/{activity.name}",
        "prov:label": activity.name,
        "description": activity.description,
        relation: [{"@id": identifier} for identifier in used],
        "prov:wasAssociatedWith": {
            "@type": "prov:SoftwareAgent",
            "prov:label": software,
            "version": activity.code_version,
        },
    }


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
        "encodingFormat": media_type(file.path),
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


_TARS: Final = {
    "@type": "cr:FileSet",
    "@id": "webdataset",
    "name": "webdataset",
    "description": "WebDataset tars with the items of all splits once more.",
    "encodingFormat": _FORMATS[".tar"],
    "includes": "webdataset/*.tar",
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
                "dataType": [_DATA_TYPES[kind], "cr:Label"] if name == "label" else _DATA_TYPES[kind],
                **({"references": {"field": {"@id": "splits/name"}}} if name == "split" else {}),
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
