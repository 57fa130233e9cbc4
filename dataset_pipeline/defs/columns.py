"""Which columns of an asset's main table came from which columns upstream: Dagster's column lineage.

Belongs here: names alone, from the tables' definitions and the mapping of columns in ``dataset.yaml``; a function an
asset, which names every column of its table. Does not belong here: the computation of any column.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dataset_pipeline.config import DatasetConfig, Source, template_columns
from dataset_pipeline.tables import IMAGES, ITEMS, RAW_ITEMS, SPLIT_ITEMS

Column = tuple[str, str]
"""Asset and column."""


@dataclass(frozen=True)
class Origin:
    """Columns that a column is computed from, and a word on those that come from no column."""

    columns: tuple[Column, ...] = ()
    why: str = ""


Origins = Mapping[str, Origin]
Manifests = Mapping[str, Sequence[str]]
"""Source id -> columns of its manifest; a name in ``dataset.yaml`` that is none of them is a constant."""

_PICTURE: Final = (("raw_images", "pixel_hash"), ("raw_images", "phash"), ("raw_images", "thumbnail"))
"""What is compared where two pictures may be one."""
_CONFIGURED: Final = "named in dataset.yaml"


def _of(asset: str, columns: Iterable[str]) -> tuple[Column, ...]:
    return tuple((asset, column) for column in columns)


def _same(asset: str, columns: Iterable[str]) -> dict[str, Origin]:
    return {column: Origin(((asset, column),)) for column in columns}


# -- raw -------------------------------------------------------------------------------------------


def _image_columns(source: Source, there: Sequence[str]) -> list[str]:
    """Columns of a manifest that name a row's picture, or hold it."""
    named = source.columns.image
    if named is None:
        return (
            ["image"] if list(there) == ["item_id", "image", "label"] else []
        )  # the listing of a folder tree
    return [named] if named in there else template_columns(named)


def raw_texts(config: DatasetConfig, manifests: Manifests) -> Origins:
    """Of ``raw_texts``."""
    found: dict[str, list[Column]] = {name: [] for name in (*RAW_ITEMS, *config.text_names)}
    for source in config.sources:
        there, given, asset = manifests[source.id], source.columns, f"source_{source.id}"
        pictures = _image_columns(source, there)
        is_tree = given.image is None and bool(pictures)
        named: dict[str, Iterable[str | None]] = {
            "item_id": [given.item_id] if given.item_id is not None else pictures,
            "image_ref": pictures,
            "label": [given.label or ("label" if is_tree else None)],
            "label_source": [given.label_source],
            "language": [given.language],
            "licence": [given.licence],
            "author": [given.author or source.author],
            "url": [given.url],
            "group_keys": given.group_keys,
            "published_split": [given.split],
            "date": [given.date],
            "strata": given.strata.values(),
            "problem": pictures,
            "problem_detail": pictures,
            **{name: [column] for name, column in given.texts.items()},
        }
        for name, columns in named.items():
            found[name] += _of(
                asset, (column for column in columns if column is not None and column in there)
            )
    why = {
        "item_id": "the row's number, where no column says it",
        "source": "the id of the source in dataset.yaml",
        "licence": "the source's licence, where a row has none of its own",
    }
    return {
        name: Origin(
            tuple(dict.fromkeys(columns)), why.get(name, "" if columns else _not_a_column(config, name))
        )
        for name, columns in found.items()
    }


def _not_a_column(config: DatasetConfig, name: str) -> str:
    given = {getattr(one.columns, name, None) or getattr(one, name, None) for one in config.sources}
    return (
        "the same for all rows of a source, as dataset.yaml says" if given - {None} else "no source gives it"
    )


def raw_images(config: DatasetConfig, manifests: Manifests) -> Origins:
    """Of ``raw_images``."""
    pictures = tuple(
        column
        for source in config.sources
        for column in _of(f"source_{source.id}", _image_columns(source, manifests[source.id]))
    )
    why = dict.fromkeys(list(IMAGES)[list(IMAGES).index("sha256") :], "measured on the picture")
    why |= {
        "image_ref": "files that no row names have a reference, too",
        "faces": "found in the picture, where asked for",
    }
    return {name: Origin(pictures, why.get(name, "the file that the columns name")) for name in IMAGES}


# -- items -----------------------------------------------------------------------------------------


def cleaned_items(config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``cleaned_items``."""
    texts = config.text_names
    decided: tuple[Column, ...] = () if config.decisions is None else (("decisions", "value"),)
    found = _same("raw_texts", [name for name in ITEMS if name != "image_sha256"])
    found["image_sha256"] = Origin((("raw_images", "sha256"),))
    found["language"] = Origin(
        (*_of("raw_texts", ["language", *texts]), *decided), "identified where none is declared"
    )
    for name in ("label", "label_source"):
        found[name] = Origin((*_of("raw_texts", [name]), *decided))
    for name in texts:
        # A passage that many texts share is taken out of each of them; what counts as personal goes by language.
        found[name] = Origin(
            _of("raw_texts", [name, *(one for one in texts if one != name), "language"]), "cleaned"
        )
    return found


def deduplicated_items(config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``deduplicated_items``."""
    found = _same("cleaned_items", [*ITEMS, *config.text_names])
    found["duplicate_group"] = Origin(
        (
            *_of(
                "cleaned_items",
                ["item_id", "image_sha256", *config.duplicates.distinct_by, *config.text_names],
            ),
            *_PICTURE,
        )
    )
    return found


def _joined_by(config: DatasetConfig) -> tuple[Column, ...]:
    return (
        *_of(
            "deduplicated_items",
            ["item_id", "duplicate_group", "group_keys", "image_sha256", *config.text_names],
        ),
        *_PICTURE,
    )


def train_test_split(config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``train_test_split``."""
    upstream = "deduplicated_items"
    found = _same(
        upstream,
        [*(name for name in SPLIT_ITEMS if name not in ("leak_group", "split", "fold")), *config.text_names],
    )
    joined = _joined_by(config)
    by = (
        *joined,
        *_of(upstream, ["label", "label_source", "language", "source", "date", "published_split", "strata"]),
    )
    found["leak_group"] = Origin(joined)
    found["split"] = Origin(by, "whole leak groups; what was released keeps its split")
    found["fold"] = Origin(by if config.split.folds else (), "" if config.split.folds else "split.folds is 0")
    return found


# -- results ---------------------------------------------------------------------------------------


def statistics(_config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``statistics``."""
    counted = Origin((("train_test_split", "label"),), "counted")
    return {"label": Origin(counted.columns), "items": counted, "share": counted}


def _predicted_from(config: DatasetConfig) -> tuple[Column, ...]:
    return (
        *_of(
            "train_test_split",
            ["label", "split", "language", "source", "leak_group", "image_sha256", *config.text_names],
        ),
        ("raw_images", "location"),
        ("raw_images", "thumbnail"),
    )


def clip_baselines(config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``clip_baselines``."""
    if not config.baselines.enabled:
        return {}
    told = dict.fromkeys(("model", "task", "inputs"), Origin(why=_CONFIGURED))
    numbers = ("top1", "top1_low", "top1_high", "top5", "macro_f1", "ece", "n_test")
    return {**told, **dict.fromkeys(numbers, Origin(_predicted_from(config), "measured on the test split"))}


def label_quality(config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``label_quality``."""
    found = _same("train_test_split", ["item_id", "split", "label", "leak_group"])
    judged = Origin(_predicted_from(config), "by a model that has not seen the item's leak group")
    return {**found, **dict.fromkeys(("suggested", "own_probability", "suggested_probability"), judged)}


def review(_config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``review``."""
    ids = (("raw_texts", "item_id"), ("raw_images", "image_ref"))
    asked = (
        ("label_quality", "own_probability"),
        ("label_quality", "suggested"),
        ("train_test_split", "leak_group"),
        ("deduplicated_items", "duplicate_group"),
        ("cleaned_items", "language"),
    )
    return {
        "kind": Origin(why="the kind of question"),
        "item_id": Origin(ids),
        "other_item_id": Origin(ids, "questions about two items"),
        "value": Origin(asked, "how unsure the machine is, times the items in question"),
        "found": Origin(asked),
    }


def published_archive(config: DatasetConfig, _manifests: Manifests) -> Origins:
    """Of ``published_archive``."""
    from dataset_pipeline.adapters.shards import released_columns

    return _same("train_test_split", released_columns(config))
