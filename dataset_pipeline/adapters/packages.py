"""The release once more for other loaders: WebDataset tars, and a zip of plain files.

Belongs here: bytes that are made from the Parquet shards, which are written already, and hold the same
items, values and pictures. Does not belong here: the shards (``shards.py``), and whether the
packages hold what they should (``verification.py``).

Nothing here depends on time, user or machine, and nothing is compressed: pictures are already, and the
same library of compression would have to be everywhere for the same bytes.
"""

import contextlib
import hashlib
import io
import itertools
import json
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import polars as pl
import pyarrow.parquet as pq

from dataset_pipeline.adapters.shards import Bounds, DataFiles, write_table
from dataset_pipeline.config import DatasetConfig

WEBDATASET_INDEX: Final = "webdataset/index.json"
_BESIDE: Final = ("LICENSE", "CITATION.cff", "ATTRIBUTION.csv")
"""Documents of the release that have to travel with the pictures."""
_ZIP_MEMBER: Final = re.compile(
    r"images/[A-Za-z0-9_][A-Za-z0-9._-]*|items\.csv|items\.parquet|" + "|".join(map(re.escape, _BESIDE))
)
_MAX_TEXT_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 512
"""Of a tar: every member has a header of this size and is filled up to a multiple of it."""


@dataclass(frozen=True)
class _Row:
    """One item of a shard."""

    values: dict[str, Any]
    """Column -> value, without the picture."""
    data: bytes | None
    """The released picture."""
    name: str
    """File name of the picture; empty where there is none."""


def _rows(path: Path) -> Iterator[_Row]:
    """Rows of a shard, a row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            for values in file.read_row_group(number).to_pylist():
                image = values.pop("image", None) or {}
                yield _Row(values, image.get("bytes"), image.get("path") or "")


# -- WebDataset ----------------------------------------------------------------------------


def webdataset_key(item_id: str) -> str:
    """What the members of an item are named: its id, where that is a plain name.

    Loaders take all up to the first dot as the key, read slashes as folders and skip names that start with an
    underscore: an id with anything but letters, digits, ``-`` and ``_`` keeps what it has of these, and its checksum
    makes it unique. The id itself is in the sample's ``json``.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}", item_id) and not re.search(
        r"--[0-9a-f]{16}$", item_id
    ):
        return item_id
    plain = re.sub(r"[^A-Za-z0-9]+", "-", item_id).strip("-")[:40]
    return f"{plain or 'item'}--{hashlib.sha256(item_id.encode()).hexdigest()[:16]}"


def members(
    values: Mapping[str, Any], texts: tuple[str, ...], classes: Mapping[str, int]
) -> dict[str, bytes]:
    """Extension -> content of what a sample holds beside its picture.

    ``json``: all columns; ``cls``: the label's number, where there is a label; ``txt``: the text, or ``<name>.txt`` each
    where there are several, of those that an item has.
    """
    made = {"json": json.dumps(values, ensure_ascii=False, sort_keys=True).encode()}
    if values["label"] is not None:
        made["cls"] = str(classes[values["label"]]).encode()
    for name in texts:
        if values[name] is not None:
            made["txt" if len(texts) == 1 else f"{name}.txt"] = values[name].encode()
    return made


def write_webdataset(folder: Path, config: DatasetConfig, data: DataFiles) -> None:
    """Write ``webdataset/<split>-NNNNN.tar`` and the list of the classes and tars from the shards in ``folder``.

    Samples are in the order of the shards. No tar holds rows of two shards, so that a shard that stays the same between
    versions has tars that stay the same; where a shard makes more than ``release.max_shard_mib``, it has several.
    """
    (folder / "webdataset").mkdir()
    labels = pl.scan_parquet(folder / "metadata" / "items.parquet", glob=False).select("label")
    names = labels.drop_nulls().unique().sort("label").collect()["label"].to_list()
    classes = {name: number for number, name in enumerate(names)}
    shards: dict[str, list[dict[str, Any]]] = {}
    for split, paths in data.shards.items():
        shards[split] = []
        with contextlib.ExitStack() as stack:
            for path in paths:
                bounds, tar = Bounds(config.release.max_shard_mib << 20), None
                for row in _rows(folder / path):
                    parts = members(row.values, config.text_names, classes)
                    if row.data is not None:
                        parts[PurePosixPath(row.name).suffix.removeprefix(".")] = row.data
                    size = sum(_BLOCK_BYTES * (2 + len(part) // _BLOCK_BYTES) for part in parts.values())
                    begins = tar is None or bounds.falls_before(size, _draw(row))
                    bounds.add(size, begins=begins)
                    if begins:
                        stack.close()
                        name = f"{split}-{len(shards[split]):05d}.tar"
                        shards[split].append({"name": name, "items": 0})
                        stream = stack.enter_context((folder / "webdataset" / name).open("wb"))
                        tar = stack.enter_context(
                            tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)
                        )
                    assert tar is not None
                    shards[split][-1]["items"] += 1
                    key = webdataset_key(row.values["item_id"])
                    for extension, content in sorted(parts.items()):
                        _add(tar, f"{key}.{extension}", content)
    index = json.dumps({"classes": names, "shards": shards}, ensure_ascii=False, indent=2)
    (folder / WEBDATASET_INDEX).write_text(index + "\n", encoding="utf-8")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def _draw(row: _Row) -> float:
    """From 0 to 1: the same for an item in every version."""
    digest = hashlib.sha256(row.values["item_id"].encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


@dataclass
class Found:
    """What a package holds."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of every item: its values, and as ``released_sha256`` the checksum of its picture."""
    faults: list[str] = field(default_factory=list)


def read_tar(path: Path, texts: tuple[str, ...], classes: Mapping[str, int]) -> Found:
    """The samples of a tar, and where it is not as :func:`write_webdataset` writes it. Nothing is unpacked."""
    found, keys = Found(), set[str]()
    try:
        with tarfile.open(path, "r:") as tar:
            for key, group in itertools.groupby(tar, lambda member: member.name.partition(".")[0]):
                if key in keys:
                    found.faults.append(f"samples {key!r} are not side by side")
                keys.add(key)
                _read_sample(tar, key, list(group), texts, classes, found)
    except (tarfile.TarError, EOFError) as error:
        found.faults.append(f"not a tar: {error}")
    return found


def _read_sample(
    tar: tarfile.TarFile,
    key: str,
    group: list[tarfile.TarInfo],
    texts: tuple[str, ...],
    classes: Mapping[str, int],
    found: Found,
) -> None:
    parts, pictures = dict[str, bytes](), list[str]()
    for member in group:
        stream = tar.extractfile(member) if member.isreg() else None
        extension = member.name.partition(".")[2]
        if stream is None or "/" in member.name or not extension:
            found.faults.append(f"{member.name!r} is not a plain file named KEY.EXTENSION")
            return
        if extension in parts:
            found.faults.append(f"{member.name!r} is there twice")
        if extension in ("json", "cls") or extension.endswith("txt"):
            if member.size > _MAX_TEXT_BYTES:
                found.faults.append(f"{member.name!r} is over {_MAX_TEXT_BYTES >> 20} MiB")
                return
            parts[extension] = stream.read()
        else:
            pictures.append(_sha256(stream))
    try:
        values = json.loads(parts["json"])
        item_id = values["item_id"]
        told = members(values, texts, classes)
        if webdataset_key(item_id) != key:
            found.faults.append(f"sample {key!r} is item {item_id!r}")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        found.faults.append(f"'{key}.json' does not hold an item")
        return
    if differing := sorted(
        name for name in {*told, *parts} if name != "json" and told.get(name) != parts.get(name)
    ):
        found.faults.append(f"{key}.{differing[0]} is not what {key}.json says")
    if len(pictures) > 1:
        found.faults.append(f"sample {key!r} has {len(pictures)} pictures")
    found.rows.append({**values, "released_sha256": pictures[0] if pictures else None})


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


# -- zip -----------------------------------------------------------------------------------


def write_zip(folder: Path, config: DatasetConfig, data: DataFiles) -> None:
    """Write ``<name>-<version>.zip`` from the shards in ``folder``: pictures, ``items.csv``, ``items.parquet``, licence.

    A picture that several items show is in it once: the column ``file_name`` of the tables says where. Tables and
    documents come last.
    """
    place = folder / config.zip_name
    written: set[str] = set()
    places: dict[str, list[str | None]] = {"item_id": [], "file_name": []}
    with place.open("wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in (path for paths in data.shards.values() for path in paths):
            for row in _rows(folder / path):
                name = f"images/{row.name}" if row.data is not None else None
                places["item_id"].append(row.values["item_id"])
                places["file_name"].append(name)
                if row.data is not None and name is not None and name not in written:
                    written.add(name)
                    _store(archive, name, row.data)
        items = pl.read_parquet(folder / "metadata" / "items.parquet", glob=False)
        table = items.select(
            pl.col("item_id").replace_strict(places["item_id"], places["file_name"]).alias("file_name"),
            pl.all(),
        )
        _store(archive, "items.csv", _csv(table))
        target = io.BytesIO()
        write_table(target, table.lazy())
        _store(archive, "items.parquet", target.getvalue())
        for name in _BESIDE:
            if (folder / name).is_file():
                _store(archive, name, (folder / name).read_bytes())


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name)  # of 1980, the first moment that a zip knows
    member.create_system, member.external_attr = 3, 0o100644 << 16
    archive.writestr(member, content)


def read_zip(path: Path, release: Path) -> Found:
    """The items of a zip, and where it is not as :func:`write_zip` writes it. Nothing is unpacked."""
    found = Found()
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            odd = [name for name in names if not _ZIP_MEMBER.fullmatch(name)]
            twice = sorted({name for name, count in Counter(names).items() if count > 1})
            if odd:
                found.faults.append(f"{len(odd)} members that do not belong there, such as {odd[0]!r}")
            if twice:
                found.faults.append(f"{len(twice)} members are there twice, such as {twice[0]!r}")
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
                found.faults.append("members are compressed")  # and may be of any size
            if found.faults:
                return found
            for name in _BESIDE:
                content = archive.read(name) if name in names else None
                if content != ((release / name).read_bytes() if (release / name).is_file() else None):
                    found.faults.append(f"{name} is not that of the release")
            table = pl.read_parquet(archive.read("items.parquet"))
            if archive.read("items.csv") != _csv(table):
                found.faults.append("items.csv is not what items.parquet holds")
            checksums = {}
            for name in names:
                if name.startswith("images/"):
                    with archive.open(name) as stream:
                        checksums[name] = _sha256(stream)
            shown = table["file_name"].drop_nulls().unique()
            if lonely := sorted(checksums.keys() ^ set(shown)):
                found.faults.append(
                    f"{len(lonely)} pictures are in the zip or in its table only: {lonely[0]!r}"
                )
            checksum = pl.col("file_name").replace_strict(checksums, default=None, return_dtype=pl.String)
            found.rows = table.with_columns(checksum.alias("released_sha256")).drop("file_name").to_dicts()
    except (zipfile.BadZipFile, KeyError, EOFError, RuntimeError, pl.exceptions.PolarsError) as error:
        found.faults.append(f"not such a zip: {error}")
    return found


def _csv(table: pl.DataFrame) -> bytes:
    return table.write_csv(line_terminator="\n").encode()
