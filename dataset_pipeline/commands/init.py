"""``init`` and ``new``: a first ``dataset.yaml`` from a look at a manifest or an image folder, or from nothing.

A guess is made from column names and from values of the first rows, said beside the key it fills,
and never wider than what was seen: what cannot be guessed stays a comment to fill in.
"""

import datetime
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dataset_pipeline.adapters import sources
from dataset_pipeline.adapters.store import explained_os_errors, write_atomically
from dataset_pipeline.config import NAME_PATTERN, Source, asset_prefix, is_inside, load_config
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.tables import RESERVED_COLUMNS

_ROWS = 1000
_UNKNOWN_LICENCE = "CHANGE-ME"  # no SPDX id, so `check` and `build` ask for one: nobody can guess a licence
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)
_LANGUAGE = re.compile(r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
_LICENCE = re.compile(r"^(CC0|CC-BY|MIT|Apache|ODbL|PDDL)", re.IGNORECASE)
_NAMES = {
    "item_id": ("item_id", "id", "uid", "uuid", "sku", "key"),
    "image": ("image", "image_path", "img", "file_name", "filename", "file", "path", "picture", "photo"),
    "label": ("label", "class", "category", "category_name", "target", "y"),
    "label_source": ("label_source", "labelled_by", "labeled_by", "annotator"),
    "language": ("language", "lang", "locale", "geo"),
    "licence": ("licence", "license"),
    "author": ("author", "creator", "photographer", "artist"),
    "split": ("split", "subset", "partition", "fold"),
}
_GROUPS = (
    "group",
    "group_id",
    "sender_id",
    "user_id",
    "author_id",
    "product_id",
    "patient_id",
    "session_id",
    "shop_id",
)


@dataclass(frozen=True)
class InitResult:
    """The written file and what was guessed, one line a key."""

    path: Path
    guesses: tuple[str, ...]


def init(folder: Path, source: Path, *, force: bool = False, name: str | None = None) -> InitResult:
    """Write ``folder/dataset.yaml`` for the manifest or image folder at ``source``.

    ``name``: of the dataset; that of the folder, in the characters that a name may have, where it is not given.

    Raises ``ConfigError`` where the source cannot be read, or a dataset.yaml is there already.
    """
    path = _free_path(folder, force=force, hint="Choose another folder, or pass --force to replace it")
    if not source.exists():
        raise ConfigError(
            f"{source}: no such file or folder", hint="--from takes a manifest or an image folder"
        )
    relative = os.path.relpath(source.absolute(), folder.absolute())
    probe = Source(id="probe", path=str(source.absolute()), licence="CC0-1.0")
    rows = sources.read_manifest(probe, folder.absolute()).head(_ROWS).collect()
    if rows.height == 0:
        raise ConfigError(
            f"{source}: no rows found", hint="Expected a header and rows, or a folder with images"
        )
    columns = {} if source.is_dir() else _guess(rows, source.parent)
    of_folder = re.sub(r"[^a-z0-9._-]+", "-", folder.absolute().name.lower()).strip("-._") or "dataset"
    _write(path, _document(name or of_folder, relative, columns, is_tree=source.is_dir()))
    guesses = [f"columns.{key}: {value}" for key, value in columns.items()]
    return InitResult(path, tuple(guesses or ["a folder per class: label = the first folder's name"]))


def new(name: str, source: Path | None, root: Path) -> InitResult:
    """Write ``root/name/dataset.yaml``, which the code location picks up: a guess from ``source``, or a form to fill in.

    Raises ``ConfigError`` for a name that no dataset may have or another one has, and what :func:`init` raises.
    """
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise ConfigError(
            f"'{name}' is no name for a dataset: expected up to 63 small letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit",
            hint="It becomes folder, repository and archive name",
        )
    for other in sorted(root.glob("*/dataset.yaml")):
        taken = load_config(other).name
        if asset_prefix(taken) == asset_prefix(name):
            raise ConfigError(
                f"{other}: is a dataset of that name already, '{taken}'"
                + (" ('-', '.' and '_' are one in names of assets)" if taken != name else ""),
                hint="Choose another name",
            )
    if source is not None:
        return init(root / name, source, name=name)
    path = _free_path(root / name, force=False, hint="Choose another name")
    _write(path, _document(name, "items.csv", _FORM, is_tree=False))
    return InitResult(path, ("nothing is guessed: no --from was given",))


_FORM = {
    "item_id": "id",
    "image": 'file                 # relative to the manifest; or a template such as "images/{id}.jpg"',
    "texts": "{caption: caption}   # any number of text columns, each by a name of its own",
    "label": "label",
    "label_source": "human         # who or what gave the labels",
    "language": "en                # BCP 47, or a column; without it languages are detected",
    "group_keys": "[]              # columns whose equal values never cross splits, such as [owner]",
}
"""Columns of a manifest that nobody has seen yet."""


def _free_path(folder: Path, *, force: bool, hint: str) -> Path:
    path = folder / "dataset.yaml"
    if path.exists() and not force:
        raise ConfigError(f"{path}: is there already", hint=hint)
    return path


def _write(path: Path, document: str) -> None:
    with explained_os_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, document.encode(), is_shared=True)


def _guess(rows: pl.DataFrame, folder: Path) -> dict[str, str]:
    """Config key -> YAML value, for the columns of a manifest."""
    free = {name: [str(v) for v in rows[name].drop_nulls().head(200).to_list()]
            for name in rows.columns if rows[name].dtype == pl.String}  # fmt: skip
    binary = [name for name in rows.columns if name not in free]
    guess: dict[str, str] = {}
    if binary:
        guess["image"] = _quoted(binary[0])
    else:
        found = _guess_image(free, folder)
        if found is not None:
            guess["image"] = _quoted(found[1])
            if found[1] == found[0]:
                free.pop(found[0])
    for key, names in _NAMES.items():
        if key in guess:
            continue
        column = next((c for n in names for c in free if c.lower() == n), None)
        if column is not None and _fits(key, free[column], rows.height):
            guess[key] = _quoted(column)
            free.pop(column)
    if "item_id" not in guess:
        unique = [c for c in free if rows[c].n_unique() == rows.height and rows[c].null_count() == 0]
        if unique and (template := guess.get("image", "")) and f"{{{unique[0]}}}" in template:
            guess["item_id"] = _quoted(unique[0])
            free.pop(unique[0])
    groups = [c for c in free if c.lower() in _GROUPS]
    if groups:
        guess["group_keys"] = "[" + ", ".join(_quoted(c) for c in groups) + "]"
    texts = [c for c in free if c not in groups and _looks_like_text(free[c])]
    if texts:
        pairs = ", ".join(f"{_quoted(_text_name(c))}: {_quoted(c)}" for c in texts)
        guess["texts"] = "{" + pairs + "}"
    order = [
        "item_id",
        "image",
        "texts",
        "label",
        "label_source",
        "language",
        "group_keys",
        "licence",
        "author",
        "split",
    ]
    return {key: guess[key] for key in order if key in guess}


def _guess_image(columns: dict[str, list[str]], folder: Path) -> tuple[str, str] | None:
    """(column, column or template) whose values name images: below the manifest's folder or a folder in it."""
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))]
    named = [
        column
        for column, values in columns.items()
        if values and sum(bool(_IMAGE_SUFFIX.search(v)) for v in values) > 0.9 * len(values)
    ]
    for column in named:
        for place in places:
            if sum(is_inside(v) and (place / v).is_file() for v in columns[column]) > 0.5 * len(
                columns[column]
            ):
                return column, column if place == folder else f"{place.name}/{{{column}}}"
    if named:
        return named[0], named[0]  # said by `check`, if the images are nowhere
    stems: dict[str, str] = {}
    for place in places:
        prefix = "" if place == folder else f"{place.name}/"
        for entry in sorted(place.iterdir())[:5000]:
            if _IMAGE_SUFFIX.search(entry.name):
                stems.setdefault(entry.stem, f"{prefix}{{}}{entry.suffix}")
    for column, values in columns.items():
        hits = [stems[v] for v in values if v in stems]
        if values and len(hits) > 0.5 * len(values):
            return column, max(sorted(set(hits)), key=hits.count).format(f"{{{column}}}")
    return None


def _fits(key: str, values: list[str], _rows: int) -> bool:
    """Whether the values could be what the column's name promises."""
    if key == "language":
        return bool(values) and all(_LANGUAGE.match(v) for v in values)
    if key == "licence":
        return bool(values) and all(_LICENCE.match(v) for v in values)
    if key == "item_id":
        return len(set(values)) == len(values)
    return bool(values)


def _looks_like_text(values: list[str]) -> bool:
    """Words rather than codes, numbers or flags: letters, and either spaces or many distinct values."""
    wordy = [v for v in values if re.search(r"[^\W\d_]{2,}", v) and not _IMAGE_SUFFIX.search(v)]
    if len(wordy) < 0.8 * max(len(values), 1):
        return False
    has_spaces = sum(" " in v.strip() for v in wordy) > 0.3 * len(wordy)
    return has_spaces or len(set(wordy)) > max(20, 0.5 * len(wordy))


def _text_name(column: str) -> str:
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_").lower()
    name = name if re.match(r"[a-z]", name) else f"text_{name}"
    return f"{name}_text" if name in RESERVED_COLUMNS else name


def _quoted(value: str) -> str:
    """A YAML scalar; quoted unless it is plainly a word. JSON's strings are YAML's, escapes included."""
    is_word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) and value.lower() not in {
        "true",
        "false",
        "null",
    }
    return value if is_word else json.dumps(value, ensure_ascii=False)


def _document(name: str, path: str, columns: dict[str, str], *, is_tree: bool) -> str:
    lines = [
        "# What the keys mean: docs/configuration.md, or `dataset-pipeline schema` for your editor.",
        f"name: {name}",
        "version: 1.0.0",
        "# title: What people call it",
        "# description: One paragraph for the dataset card",
        f"licence: {_UNKNOWN_LICENCE}              # SPDX id of the dataset, such as CC-BY-4.0",
        f"date: {datetime.date.today().isoformat()}                # date of publication",
        "creators: []                    # - {name: Ada Example, affiliation: Example Ltd}",
        "sources:",
        "  - id: main",
        f"    path: {_quoted(path)}",
        f"    licence: {_UNKNOWN_LICENCE}          # SPDX id of what the source holds",
        "    # permission: {basis: own-data}   # or public-licence, owner-approval; evidence: a file or URL",
    ]
    if is_tree:
        lines.append("    # a folder per class: the first folder's name is the label")
    elif columns:
        how = "an example: fill in yours" if columns is _FORM else "guessed from names and values: check each"
        lines.append(f"    columns:                    # {how}")
        lines += [f"      {key}: {value}" for key, value in columns.items()]
    lines += [
        "# labels: {drop: [], unsure: []}       # labels to remove, or to set aside for review",
        "# split: {ratios: {train: 0.8, validation: 0.1, test: 0.1}}",
        "# baselines: {enabled: false}          # skips the CLIP baselines",
    ]
    return "\n".join(lines) + "\n"
