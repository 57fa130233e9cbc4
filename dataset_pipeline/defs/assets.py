"""The stages of the pipeline as assets: what each reads, calls and writes.

Belongs here: wiring. A body reads tables of its inputs, calls functions of ``stages`` and
``adapters``, and writes what they return. Does not belong here: any decision about the data.
"""

import dataclasses
import datetime
import functools
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import numpy.typing as npt
import polars as pl

from dataset_pipeline import __version__
from dataset_pipeline.adapters import (
    archive,
    clip,
    colour,
    face_detector,
    identifiers,
    images,
    language,
    mirrors,
    ner,
    notebook,
    observation,
    online,
    outside_sets,
    packages,
    persons,
    phones,
    pii_files,
    presidio,
    released_images,
    shards,
    sources,
)
from dataset_pipeline.adapters.cache import ResultCache, code_version, settings_version
from dataset_pipeline.adapters.engine import InlineEngine
from dataset_pipeline.adapters.remote_store import open_store
from dataset_pipeline.adapters.store import Snapshot, Store, to_json
from dataset_pipeline.config import DatasetConfig, Source
from dataset_pipeline.defs import automation, checks, columns, workers
from dataset_pipeline.defs.stage import COLUMNS_OF_SOURCES, Dataset, Lineage, Stage, Work, explained
from dataset_pipeline.stages import (
    assignment,
    attribution,
    audited_split,
    baselines,
    boilerplate,
    classical,
    clean,
    cleanliness,
    comparison,
    croissant,
    datacite,
    decisions,
    decontamination,
    diff,
    duplicates,
    embedding_space,
    faces,
    figures,
    folds,
    former_splits,
    image_checks,
    intervals,
    labels,
    leak_groups,
    leak_search,
    leakage,
    licences,
    merging,
    pair_search,
    paper,
    picture_pairs,
    pii,
    raw,
    readiness,
    release,
    remade,
    report,
    result_tables,
    review,
    ro_crate,
    sample,
    scores,
    semantic,
    similarity,
    split,
    split_report,
    statistics,
    surrogates,
    takedowns,
    temporal,
    text_pairs,
    text_report,
    texts,
)
from dataset_pipeline.stages import language as languages
from dataset_pipeline.tables import IMAGE_BYTES_ROW, IMAGES, OUTSIDE_PICTURES, REMOVED, empty

_PACKAGES = (
    "dagster",
    "polars",
    "pyarrow",
    "pillow",
    "torch",
    "open-clip-torch",
    "presidio-analyzer",
    "scikit-learn",
)
_SPLITTING = (leak_groups, former_splits, temporal, assignment, folds, split, split_report)
"""Modules whose code decides which split an item is in."""


_TEXT_MODULES = (
    texts,
    languages,
    pii,
    surrogates,
    presidio,
    phones,
    identifiers,
    online,
    persons,
    ner,
    language,
)
"""What decides about the analysis of one text."""


def lineage(dataset: Dataset) -> Lineage:
    """The main line of one dataset, in order."""
    return Lineage(
        dataset,
        (
            Stage(
                "raw_texts",
                "raw",
                frozenset({"polars", "parquet"}),
                "Every row of the sources' manifests, with its texts, label, licence and image reference.",
                (),
                build_raw_texts,
                checks.raw_texts(dataset.config),
                origins=columns.raw_texts,
                modules=(raw, sources),
                settings=("sources",),
                made_from=manifests,
                main_table="items",
                is_private=True,
            ),
            Stage(
                "raw_images",
                "raw",
                frozenset({"pillow", "parquet"}),
                "Every image of the sources, decoded once: checksums, hashes, size, quality, thumbnail, faults.",
                (),
                build_raw_images,
                checks.raw_images(dataset.config),
                origins=columns.raw_images,
                modules=(images, colour, sources, observation, face_detector, faces, released_images),
                settings=("sources", "clean"),
                reads_besides=face_settings,
                made_from=pictures_of_sources,
                main_table="images",
                is_heavy=True,
            ),
            Stage(
                "cleaned_items",
                "clean",
                frozenset({"polars", "presidio", "parquet"}),
                "Items with a usable picture, normalised texts, a known language and no personal data.",
                ("raw_texts", "raw_images"),
                build_cleaned_items,
                checks.cleaned_items(dataset.config),
                origins=columns.cleaned_items,
                modules=(
                    clean,
                    boilerplate,
                    text_report,
                    image_checks,
                    faces,
                    intervals,
                    licences,
                    takedowns,
                    decisions,
                    *_TEXT_MODULES,
                ),
                settings=("sources", "licence", "licences", "labels", "clean", "pii"),
                reads_besides=lists_of_items,
                made_from=models_of_texts,
                main_table="items",
                observes=tuple(name for name in listed_sources(dataset) if name != "decontaminate"),
            ),
            Stage(
                "deduplicated_items",
                "duplicates",
                frozenset({"polars", "parquet"}),
                "One item of every set of duplicates and none of outside sets, and the verified pairs among all items.",
                ("cleaned_items", "raw_images"),
                build_deduplicated_items,
                checks.deduplicated_items(dataset.config),
                origins=columns.deduplicated_items,
                reads_besides=decisions_and_history,
                made_from=outside_and_taken_down,
                observes=tuple(name for name in listed_sources(dataset) if name != "takedowns"),
                modules=(
                    duplicates,
                    merging,
                    decontamination,
                    outside_sets,
                    *((clip, baselines, semantic) if _outside_models(dataset) else ()),
                    leak_search,
                    takedowns,
                    decisions,
                    pair_search,
                    picture_pairs,
                    text_pairs,
                    similarity,
                ),
                settings=("labels", "duplicates", "decontaminate", *_outside_models(dataset)),
                main_table="items",
            ),
            Stage(
                "train_test_split",
                "split",
                frozenset({"polars", "parquet"}),
                "Items with their split: whole leak groups stay together, and an independent search looks for leaks.",
                ("deduplicated_items", "raw_images"),
                build_train_test_split,
                checks.train_test_split(dataset.config),
                origins=columns.train_test_split,
                modules=(
                    *_SPLITTING,
                    leak_search,
                    pair_search,
                    leakage,
                    audited_split,
                    semantic,
                    similarity,
                    *(() if dataset.config.split.semantic is None else (clip,)),
                ),
                settings=("duplicates", "split", "seed", *_semantic_model(dataset)),
                reads_besides=release_before,
                made_from=what_splits_follow,
                main_table="items",
            ),
            Stage(
                "statistics",
                "statistics",
                frozenset({"polars", "matplotlib"}),
                "What is in the dataset: balance, texts, pictures, labels, licences, what was removed and why.",
                ("train_test_split", "deduplicated_items", "cleaned_items", "raw_images"),
                build_statistics,
                checks.statistics(dataset.config),
                origins=columns.statistics,
                modules=(statistics, cleanliness, similarity, licences, figures, *_SPLITTING),
                settings=("licence", "sources", "duplicates", "split", "statistics", "seed"),
                made_from=functools.partial(_sections, ("licences", "clean")),
                main_table="class_balance",
            ),
            Stage(
                "clip_baselines",
                "baselines",
                frozenset({"pytorch", "scikitlearn"}),
                "How well CLIP and trivial baselines predict the labels of the test split.",
                ("train_test_split", "raw_images"),
                build_clip_baselines,
                checks.clip_baselines(dataset.config),
                origins=columns.clip_baselines,
                modules=(baselines, scores, embedding_space, cleanliness, clip, *_SPLITTING),
                settings=("split", "baselines", "seed"),
                made_from=clip_models,
                main_table="leaderboard" if dataset.config.baselines.enabled else None,
                is_heavy=dataset.config.baselines.enabled,
            ),
            Stage(
                "label_quality",
                "statistics",
                frozenset({"polars", "scikitlearn"}),
                "Where labels come from and whether they are good: contradictions, agreement, likely errors, audit.",
                (
                    "train_test_split",
                    "deduplicated_items",
                    "cleaned_items",
                    "raw_texts",
                    "raw_images",
                    "clip_baselines",  # it has trained the models by then
                ),
                build_label_quality,
                checks.label_quality(dataset.config),
                origins=columns.label_quality,
                modules=(labels, intervals, classical, baselines, scores, statistics, figures, clip),
                settings=("label_quality", "baselines", "seed"),
                reads_besides=audited_sheet,
                made_from=clip_models,
                main_table="label_candidates",
            ),
            Stage(
                "review",
                "review",
                frozenset({"polars", "csv"}),
                "What the machine is unsure of, the most valuable question first, with pictures; never published.",
                (
                    "raw_texts",
                    "raw_images",
                    "cleaned_items",
                    "deduplicated_items",
                    "train_test_split",
                    "label_quality",
                ),
                build_review,
                checks.review(dataset.config),
                origins=columns.review,
                modules=(review, report),
                settings=("review", "duplicates"),
                made_from=functools.partial(_sections, ("sources", "clean", "title")),
                main_table="review",
                is_private=True,
                promote=promote_review,
            ),
            Stage(
                "published_archive",
                "release",
                frozenset({"parquet", "huggingface", "jupyter"}),
                "The release: Parquet shards, metadata, reports, card, Croissant, notebook and checksums.",
                (
                    "raw_texts",
                    "raw_images",
                    "cleaned_items",
                    "deduplicated_items",
                    "train_test_split",
                    "review",
                    "statistics",
                    "clip_baselines",
                    "label_quality",
                ),
                build_published_archive,
                checks.published_archive(dataset.config),
                origins=columns.published_archive,
                modules=(
                    release,
                    attribution,
                    croissant,
                    diff,
                    archive,
                    shards,
                    packages,
                    sample,
                    released_images,
                    report,
                    result_tables,
                    comparison,
                    paper,
                    readiness,
                    notebook,
                    ro_crate,
                    takedowns,
                ),
                made_from=everything_released,
                main_table="metadata/items",
                promote=promote_release,
            ),
        ),
    )


# -- what bodies read besides audited snapshots and the settings that are asked for ----------


def _sections(names: tuple[str, ...], dataset: Dataset, _store: Store) -> dict[str, str]:
    """Fingerprints of sections of ``dataset.yaml``."""
    config = dataset.config.model_dump(mode="json")
    return {name: settings_version(config[name]) for name in names}


def manifests(dataset: Dataset, _store: Store) -> dict[str, str]:
    """What ``raw_texts`` reads."""
    return {one.id: sources.manifest_fingerprint(one, dataset.base) for one in dataset.config.sources}


def pictures_of_sources(dataset: Dataset, _store: Store) -> dict[str, str]:
    """What ``raw_images`` reads; where files are is part of what it writes."""
    found = {one.id: sources.source_fingerprint(one, dataset.base) for one in dataset.config.sources}
    return {**found, "//base": str(dataset.base)}


def models_of_texts(dataset: Dataset, _store: Store) -> dict[str, str]:
    """What analyses texts."""
    return presidio.versions(dataset.config.pii)


def outside_and_taken_down(dataset: Dataset, store: Store) -> dict[str, str]:
    """What ``deduplicated_items`` reads of texts' names, outside sets, models of theirs, and what was released."""
    before = _release_of_takedowns(dataset, store)
    models = clip_models(dataset, store) if _outside_models(dataset) else {}
    return {
        **models,
        **_sections(("sources", "clean", "pii"), dataset, store),
        "takedowns": _list_fingerprint(dataset, "takedowns"),
        "release": _release_fingerprint(before),
    }


def what_splits_follow(dataset: Dataset, store: Store) -> dict[str, str]:
    """What ``train_test_split`` reads: names of texts, what was released, and a model where one is asked for."""
    models = {} if dataset.config.split.semantic is None else clip_models(dataset, store)
    return {
        **_sections(("sources",), dataset, store),
        "release": _release_fingerprint(_kept_release(dataset, store)),
        **models,
    }


def clip_models(dataset: Dataset, store: Store) -> dict[str, str]:
    """What embeds: weights by name or by their bytes, and at what precision."""
    models = dataset.config.baselines.models
    known = [clip.model_identity(model, dataset.base) for model in models]
    return {
        **_sections(("sources", "pii", "split"), dataset, store),
        "models": settings_version(known, clip.precision() if models else ""),
    }


def everything_released(dataset: Dataset, store: Store) -> dict[str, str]:
    """What ``published_archive`` reads: the whole configuration, pictures, lists beside it, and the release before."""
    config, base = dataset.config, dataset.base
    return {
        **pictures_of_sources(dataset, store),
        "//config": settings_version(config.model_dump_json()),  # in its order, which documents follow
        "//takedowns": _list_fingerprint(dataset, "takedowns"),
        "//comparison": settings_version(sources.read_comparison(config.comparison, base)),
        "//mirrors": settings_version(mirrors.read_measured(base / config.mirrors)),
        "//release": _release_fingerprint(
            archive.previous_release(store.releases_before(config.version), config.version)
        ),
    }


def _release_fingerprint(release: Path | None) -> str:
    return "" if release is None else f"{release.name} {archive.list_checksum(release)}"


def _outside_models(dataset: Dataset) -> tuple[str, ...]:
    """The section that says which models made the embeddings of outside sets, where there are some."""
    return ("baselines",) if any(one.embeddings for one in dataset.config.decontaminate) else ()


def _semantic_model(dataset: Dataset) -> tuple[str, ...]:
    """The section that says which model ``split.semantic`` means, where there is one."""
    return () if dataset.config.split.semantic is None else ("baselines",)


def source_assets(dataset: Dataset) -> list[dg.SourceAsset]:
    """One observable source asset per source, and one for the takedowns file.

    The data version of a source is a fingerprint of its content. A look asks for the times of every file and reads
    those that may have changed: a file that was touched starts nothing.
    """
    made = [
        _observable(
            dataset,
            f"source_{source.id}",
            f"{', '.join(source.paths)}: raw data as it was collected ({source.licence}).",
            functools.partial(_source_fingerprint, dataset, source),
        )
        for source in dataset.config.sources
    ]
    return made + [
        _observable(dataset, name, _LISTS[name], functools.partial(_list_fingerprint, dataset, name))
        for name in listed_sources(dataset)
    ]


_LISTS = {
    "takedowns": "Items that must not be in any later release.",
    "decisions": "What people have decided about single items, which overrides the machine.",
    "decontaminate": "Outside sets, such as test sets of benchmarks, that the dataset must not overlap with.",
}


def listed_sources(dataset: Dataset) -> tuple[str, ...]:
    """Names of the source assets of lists that people keep (takedowns, decisions, outside sets), where there are such."""
    return tuple(name for name in _LISTS if getattr(dataset.config, name) not in (None, ()))


def _source_fingerprint(dataset: Dataset, source: Source, store: Store) -> str:
    memory = store.folder / "observed" / f"{source.id}.parquet"
    return observation.fingerprint(source, dataset.base, ResultCache(store.cache), memory)


def _list_fingerprint(dataset: Dataset, name: str, _store: Store | None = None) -> str:
    if name == "decontaminate":
        return settings_version(outside_sets.fingerprints(dataset.config, dataset.base))
    rows = _takedowns(dataset) if name == "takedowns" else _decisions(dataset)
    return settings_version([] if rows is None else rows.rows())


def _takedowns(dataset: Dataset) -> pl.DataFrame | None:
    return sources.read_takedowns(dataset.config.takedowns, dataset.base)


def _decisions(dataset: Dataset) -> pl.DataFrame:
    path = dataset.config.decisions
    return decisions.parse(sources.read_decisions(path, dataset.base), path or "")


def lists_of_items(dataset: Dataset, _store: Store) -> dict[str, str]:
    """Fingerprints of what cleaning follows beside: takedowns, decisions, allowed strings and the secret of ``pii``."""
    decided = decisions.of_kind(_decisions(dataset), "keep", "drop", "relabel", "language")
    return {
        **pii_files.fingerprints(dataset.config, dataset.base),
        "takedowns": _list_fingerprint(dataset, "takedowns"),
        "decisions": settings_version(decided.rows()),
    }


def decisions_and_history(dataset: Dataset, store: Store) -> dict[str, str]:
    """Fingerprints of decisions, outside sets, and the release that knows what was the same as what is taken down."""
    before = _release_of_takedowns(dataset, store)
    return {
        **outside_sets.fingerprints(dataset.config, dataset.base),
        "decisions": settings_version(_decisions(dataset).rows()),
        "version (or the release before it)": settings_version(
            None if before is None else [before.name, archive.items_checksum(before)]
        ),
    }


def _release_of_takedowns(dataset: Dataset, store: Store) -> Path | None:
    """The newest release of a lower version, where there are takedowns."""
    if dataset.config.takedowns is None:
        return None
    return archive.previous_release(store.releases_before(dataset.config.version), dataset.config.version)


def _observable(
    dataset: Dataset, name: str, description: str, fingerprint: Callable[[Store], str]
) -> dg.SourceAsset:
    @dg.observable_source_asset(
        key=dataset.key(name),
        group_name="sources",
        description=description,
        automation_condition=automation.look_at_sources(dataset.config.automation),
        required_resource_keys={"storage"},
    )
    def observe(context: Any) -> dg.DataVersion:
        with explained():
            return dg.DataVersion(
                fingerprint(open_store(context.resources.storage.root, dataset.config.name))
            )

    return observe


# -- bodies --------------------------------------------------------------------------------


def build_raw_texts(work: Work) -> None:
    """Manifests, row for row."""
    read = _manifests(work, work.config.sources)
    frames = [raw.raw_items(manifest, source) for manifest, source in read]
    work.writer.table("items", pl.concat(frames, how="diagonal").collect())
    given = [raw.annotations(manifest, source) for manifest, source in read]
    _tell_columns(work, read)
    work.writer.table("annotations", pl.concat(given).sort("item_id", "annotator").collect())


def _manifests(work: Work, of: Sequence[Source]) -> list[tuple[pl.LazyFrame, Source]]:
    return [(sources.read_manifest(source, work.dataset.base), source) for source in of]


def _tell_columns(work: Work, read: Sequence[tuple[pl.LazyFrame, Source]]) -> None:
    """Which columns the manifests have, for the lineage of columns."""
    work.writer.facts[COLUMNS_OF_SOURCES] = {
        source.id: [name for name in manifest.collect_schema().names() if name != IMAGE_BYTES_ROW]
        for manifest, source in read
    }


def build_raw_images(work: Work) -> None:
    """List the images, hash what is new, decode each distinct content once."""
    read = _manifests(work, work.config.sources)
    work.writer.table("images", _with_faces(work, _scanned(work, read)))
    _tell_columns(work, read)


def _scanned(work: Work, read: Sequence[tuple[pl.LazyFrame, Source]]) -> pl.LazyFrame:
    """IMAGES of the sources whose manifests are ``read``."""
    settings = work.config.clean.images
    base = work.dataset.base
    listed = pl.concat([sources.list_images(source, base, manifest) for manifest, source in read])
    located = observation.hashed_images(work.cache, listed, work.engine, work.progress("image files read"))
    # Thresholds judge what was measured: only what is measured depends on the scan.
    version = settings_version(code_version(images, colour), settings.max_pixels)
    scanned = work.cache.results(
        "image_scan",
        version,
        # Each distinct content is decoded once, wherever and however often it lies.
        located.lazy()
        .drop_nulls("sha256")
        .sort("location")
        .unique("sha256", keep="first", maintain_order=True),
        ["sha256"],
        functools.partial(images.scan_images, settings=settings),
        work.engine,
        batch_rows=256,
        progress=work.progress("pictures decoded"),
    )
    thumbnail = "thumbnail"  # 3 KB a picture: all else is put together first
    facts = raw.image_table(located.lazy(), scanned.with_columns(pl.lit(None, pl.Binary).alias(thumbnail)))
    return work.cache.beside(
        facts.drop(thumbnail).collect(), "image_scan", version, "sha256", thumbnail, IMAGES[thumbnail]
    ).select(*IMAGES)


def face_settings(dataset: Dataset, _store: Store) -> dict[str, str]:
    """Fingerprint of the part of ``pii`` that is about pictures."""
    return {"pii.images": settings_version(dataset.config.pii.images.model_dump())}


def _with_faces(work: Work, listed: pl.LazyFrame) -> pl.LazyFrame:
    """``IMAGES`` with the faces of every picture that can be decoded, and what it looks like once they are blurred."""
    settings = work.config.pii.images
    if settings.faces == "off":
        return listed
    usable = listed.filter(pl.col("problem").is_null()).sort("location")
    pictures = usable.unique("sha256", keep="first", maintain_order=True).select("sha256", "location")
    found = work.cache.results(
        "faces",
        settings_version(
            code_version(face_detector, images, colour),
            face_detector.versions(),
            face_detector.searched_as(settings),
        ),
        pictures,
        ["sha256"],
        functools.partial(face_detector.find_faces, settings=settings),
        work.engine,
        batch_rows=64,
        progress=work.progress("pictures searched for faces"),
    )
    listed = faces.with_faces(listed, found, settings)
    if settings.faces != "blur":
        return listed
    blurred = work.cache.results(
        "blurred_scan",
        settings_version(code_version(images, colour, released_images), work.config.clean.images.max_pixels),
        listed.filter(faces.COUNT > 0)
        .sort("location")
        .unique("sha256", keep="first", maintain_order=True)
        .select("sha256", "location", "faces", boxes=faces.BOXES),
        ["sha256", "boxes"],
        functools.partial(released_images.scan_blurred, settings=work.config.clean.images),
        work.engine,
        batch_rows=64,
        progress=work.progress("pictures with faces blurred"),
    )
    return faces.with_blurred(listed, blurred.drop("boxes"))


def build_cleaned_items(work: Work) -> None:
    """Check pictures and labels, clean texts, identify languages, redact personal data."""
    config, names = pii_files.with_allowed(work.config, work.dataset.base), work.config.text_names
    image_table = work.inputs["raw_images"].table("images")
    manifest = work.inputs["raw_texts"].table("items")
    decided = _decisions(work.dataset)
    raw_items = decisions.decided_items(
        pl.concat([manifest, raw.orphan_rows(manifest, image_table)], how="diagonal"),
        decided,
        next(iter(config.labels.human_sources), "human"),
    )
    analysed = work.cache.results(
        "texts",
        settings_version(
            code_version(*_TEXT_MODULES),
            texts.analysis_settings(config.clean),
            config.pii.model_dump(exclude={"images"}),
            presidio.versions(config.pii),
            pii_files.fingerprints(work.config, work.dataset.base),
        ),
        clean.distinct_texts(raw_items, names),
        ["text", "declared_language"],
        functools.partial(
            workers.analyse_texts, config=config, secret=pii_files.read_key(config.pii, work.dataset.base)
        ),
        work.engine,
        progress=work.progress("texts analysed"),
        unstored="text",
    )
    work.engine.close()  # no stage after this one has as much for them to do: the models they hold would fill the memory
    cleared = boilerplate.without_boilerplate(analysed, config.clean.texts.boilerplate)
    cleaned = clean.clean_items(
        raw_items,
        image_table,
        cleared.texts,
        config,
        _takedowns(work.dataset),
        decided,
        work.writer.kept_once,
    )
    work.writer.table("raw_ids", raw_items.select("item_id", "source"))
    work.writer.table("items", cleaned.items)
    work.writer.table("removed", cleaned.removed)
    work.writer.table("changes", cleaned.changes)
    work.writer.table("boilerplate", cleared.passages)
    work.writer.table(
        "text_examples",
        text_report.text_examples(
            cleaned.changes,
            raw_items,
            cleaned.items,
            cleaned.findings,
            functools.partial(workers.hold_personal_data, config=config),
        ),
    )
    work.writer.table("language_doubts", cleaned.language_doubts)
    work.writer.table("findings", cleaned.findings)
    work.writer.table("to_review", cleaned.to_review)
    work.writer.table("references", cleaned.references)
    work.writer.table("taken_down", cleaned.taken_down)
    work.writer.table("image_warnings", cleaned.image_warnings)
    work.writer.table("image_checks", cleaned.image_checks)
    work.writer.table("kept_by_decision", cleaned.kept_by_decision)
    pictures = faces.face_report(
        cleaned.items, cleaned.removed, raw_items, image_table, config.pii.images, face_detector.DETECTOR
    )
    work.writer.json("pii", {**pii.pii_report(cleaned.findings, cleaned.items, config), "images": pictures})


def build_deduplicated_items(work: Work) -> None:
    """Leave out what outside sets hold, find verified pairs, then keep one item of every set of duplicates."""
    config, names = work.config, work.config.text_names
    cleaned = work.inputs["cleaned_items"]
    image_table = work.inputs["raw_images"].table("images")
    decided, held_back, neighbours = _held_back(work)
    items = cleaned.table("items").join(held_back.lazy(), on="item_id", how="anti")
    left_out = _decontaminated(work, items, decided)
    items = items.join(left_out.lazy(), on="item_id", how="anti")
    pairs = duplicates.find_pairs(items, image_table, names, config.duplicates)
    result = duplicates.deduplicate(
        items, image_table, pairs, names, config.duplicates, config.labels.human_sources, decided
    )
    merged = merging.merge(
        result, items, names, config.duplicates.merge, config.labels.human_sources,
        decisions.of_kind(decided, "keep")["item_id"],
    )  # fmt: skip
    result = merged.result
    if config.decontaminate:  # what stays is compared once more, with its texts as they are merged
        audited = decontamination.embedding_matches(
            _vectors_for_sets(work, result.items), _outside_vectors(work), config.decontaminate, is_audit=True
        )
        work.writer.table("outside/embedding_matches", audited)
    removed = pl.concat([result.removed, takedowns.removed_rows(held_back).lazy(), left_out.lazy()]).sort(
        "item_id"
    )
    work.writer.table("items", result.items)
    work.writer.table("removed", removed)
    work.writer.table("duplicate_pairs", pairs)
    work.writer.table("conflicts", result.conflicts)
    work.writer.table("merged", merged.changes)
    work.writer.table("takedown_neighbours", neighbours)
    everything_removed = pl.concat([cleaned.table("removed"), removed])
    work.writer.table(
        "decisions", decisions.states(decided, cleaned.table("raw_ids"), everything_removed, result.items)
    )
    work.writer.json(
        "duplicates",
        {
            **duplicates.duplicates_report(result, pairs, config.duplicates),
            "merged": merging.merging_report(merged.changes, result.removed.collect()),
        },
    )


def _decontaminated(work: Work, items: pl.LazyFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """REMOVED: items that outside sets hold; writes what matched, and what it was compared with."""
    config, sets, base = work.config, work.config.decontaminate, work.dataset.base
    if not sets:
        return empty(REMOVED)
    of_pictures = [source for one in sets if (source := outside_sets.image_source(one, base)) is not None]
    pictures = pl.LazyFrame(schema=dict(OUTSIDE_PICTURES))
    if of_pictures:
        scanned = _scanned(work, _manifests(work, of_pictures))
        if work.config.pii.images.faces == "blur":
            scanned = _with_faces(work, scanned)  # else a picture and its blurred copy would not look alike
        pictures = decontamination.outside_pictures(scanned)
    outside = decontamination.Outside(
        pictures,
        pl.concat([outside_sets.read_texts(one, base) for one in sets]),
        pl.concat([outside_sets.read_hashes(one, base) for one in sets]),
    )
    images_of_items = work.inputs["raw_images"].table("images")
    vectors = _outside_vectors(work)
    matches = decontamination.find_matches(
        items, images_of_items, outside, config.text_names, sets, config.duplicates,
        embedded=decontamination.embedding_matches(_vectors_for_sets(work, items), vectors, sets),
    )  # fmt: skip
    kept = decisions.of_kind(decided, "keep")["item_id"]
    left_out = decontamination.contaminated(matches, sets, kept)
    found = decontamination.decontamination_report(
        int(items.select(pl.len()).collect().item()),
        matches,
        left_out,
        outside,
        sets,
        config.duplicates,
        vectors,
    )
    work.writer.table("outside/pictures", outside.pictures)
    work.writer.table("outside/texts", outside.texts)
    work.writer.table("outside/hashes", outside.hashes)
    work.writer.table("outside_matches", matches)
    work.writer.json("decontamination", found)
    work.writer.facts["outside_sets"] = [
        {"set": name, "action": one["action"], "matching items": one["matching_items"]}
        for name, one in found["sets"].items()
    ]
    return left_out


def _outside_vectors(work: Work) -> dict[str, decontamination.OutsideVectors]:
    """Embeddings of outside sets that have some, by the set's name."""
    read = {
        one.name: outside_sets.read_embeddings(one, work.dataset.base) for one in work.config.decontaminate
    }
    return {name: decontamination.OutsideVectors(found) for name, found in read.items() if found is not None}


def _vectors_for_sets(work: Work, items: pl.LazyFrame) -> dict[str, semantic.Vectors]:
    """Embeddings of the items by the model of every outside set that has some, by the set's name."""
    asked = {one.name: one.embeddings for one in work.config.decontaminate if one.embeddings is not None}
    return {name: _vectors(work, items, of.model, (of.of,))[of.of] for name, of in asked.items()}


def _held_back(work: Work) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Decisions; items that may not come in place of taken-down ones; others that are related to those."""
    before, decided = _release_of_takedowns(work.dataset, work.store), _decisions(work.dataset)
    cleaned = work.inputs["cleaned_items"]
    known = takedowns.of_release(
        *(archive.released_duplicates(before) if before else takedowns.NOTHING_RELEASED),
        _takedowns(work.dataset),
    )
    found = takedowns.relatives(
        cleaned.table("items"),
        cleaned.table("taken_down"),
        work.inputs["raw_images"].table("images"),
        known,
        work.config,
    )
    kept = decisions.of_kind(decided, "keep").select("item_id")
    return decided, found.substitutes.join(kept, on="item_id", how="anti"), found.neighbours


def build_train_test_split(work: Work) -> None:
    """Split whole leak groups, then search for leaks independently of how the split was made."""
    config, names = work.config, work.config.text_names
    upstream = work.inputs["deduplicated_items"]
    before = _kept_release(work.dataset, work.store)
    images_of_items = work.inputs["raw_images"].table("images")
    pairs = upstream.table("duplicate_pairs").collect()
    vectors = _semantic_vectors(work)
    links = semantic.semantic_links(upstream.table("items"), vectors, pairs, names, config)
    pairs = pl.concat([pairs, links.pairs])
    released = None if before is None else archive.released_splits(before)
    audited = audited_split.audited_split(
        upstream.table("items"), images_of_items, pairs, names, config, released
    )
    result, found = audited.split, audited.leakage
    work.writer.table("items", result.items)
    work.writer.table("summary", result.summary)
    work.writer.table("strata", result.strata)
    work.writer.table("deviation", result.deviation)
    work.writer.table("moved", result.moved)
    work.writer.table("rare_labels", result.rare_labels)
    work.writer.table("folds", result.folds)
    work.writer.table("periods", result.periods)
    for rule, moves in result.repairs.items():
        work.writer.table(f"repairs/{rule}", moves)
    work.writer.json(
        "split",
        {
            **result.report,
            "kept_release": None if before is None else before.name,
            "rounds": audited.rounds,
            "pairs_of_the_audit": audited.pairs_of_the_audit,
        },
    )
    work.writer.table("nearest_pairs", found.nearest)
    work.writer.table("crossing_pairs", found.crossing)
    leaks = found.report
    if config.split.semantic is not None:
        placed = result.items.select("item_id", "split").collect()
        alike = semantic.audit_semantic(placed, vectors, links.left_apart, config.split.semantic)
        leaks = {**leaks, "semantic": alike.report}
        work.writer.table("nearest_semantic", alike.nearest)
        work.writer.table("semantic_pairs", links.pairs)
        work.writer.table("semantic_left_apart", links.left_apart)
    work.writer.json("leakage", leaks)
    work.writer.facts["nearest_pictures_across_splits"] = report.pair_sheet(
        found.nearest.filter(pl.col("kind") == "image"), result.items, images_of_items
    )
    work.writer.facts.update(
        splits=result.summary.select("split", "items", "share", "groups").to_dicts(),
        kept_release="none" if before is None else before.name,
        **{name: result.report[name] for name in split.SHOWN_COUNTS},
        moved_items=result.moved.head(split.SHOWN_ROWS).to_dicts(),
        rare_labels=result.rare_labels.head(split.SHOWN_ROWS).to_dicts(),
        folds=result.folds.head(split.SHOWN_ROWS).to_dicts(),
        periods=result.report["periods"],
        leaking_pictures_across_splits=report.pair_sheet(
            found.crossing.filter(pl.col("kind").is_in(leak_groups.IMAGE_KINDS)),
            result.items,
            images_of_items,
        ),
        **{
            f"repair_{rule}": moves.head(split.SHOWN_ROWS).to_dicts()
            for rule, moves in result.repairs.items()
        },
    )


def _semantic_vectors(work: Work) -> dict[str, semantic.Vectors]:
    """Embeddings that ``split.semantic`` asks for, from the cache where they are there."""
    settings = work.config.split.semantic
    if settings is None:
        return {}
    kinds = tuple(kind for kind in ("image", "text") if getattr(settings, kind) is not None)
    return _vectors(work, work.inputs["deduplicated_items"].table("items"), settings.model, kinds)


def _vectors(
    work: Work, table: pl.LazyFrame, model_name: str, kinds: tuple[str, ...]
) -> dict[str, semantic.Vectors]:
    """Embeddings of the pictures or texts of items by one of ``baselines.models`` that is not trained here."""
    base = work.dataset.base
    model = next(one for one in work.config.baselines.models if one.name == model_name)
    encoder = clip.LazyEncoder(model, base)
    identity = clip.model_identity(model, base)
    items, pictures = _embedded_table(work, table)
    found = {}
    for kind, column, of in (
        ("image", "image_sha256", pictures),
        ("text", "text", items.select("text").drop_nulls().unique().sort("text")),
    ):
        if kind not in kinds:
            continue
        key = _EMBEDDED[kind].key
        rows = of.select(pl.col(key).alias(column)).with_row_index("row")
        found[kind] = semantic.Vectors(
            items.select("item_id", column)
            .join(rows, on=column)
            .select("item_id", pl.col("row").cast(pl.Int64)),
            _embedding_matrix(work, kind, of, model.name, identity, encoder),
        )
    return found


def release_before(dataset: Dataset, store: Store) -> dict[str, str]:
    """Fingerprint of the release whose splits are kept."""
    found = _kept_release(dataset, store)
    read = None if found is None else [found.name, archive.items_checksum(found)]
    return {"version (or the release before it)": settings_version(read)}


def _kept_release(dataset: Dataset, store: Store) -> Path | None:
    """The newest release of a lower version, where the split is to keep what was released."""
    if dataset.config.split.keep == "none" or dataset.config.split.method == "published":
        return None
    return archive.previous_release(store.releases_before(dataset.config.version), dataset.config.version)


def build_review(work: Work) -> None:
    """Questions for people, from what every stage was unsure of."""
    config, raw_items = work.config, work.inputs["raw_texts"].table("items")
    cleaned, deduplicated = work.inputs["cleaned_items"], work.inputs["deduplicated_items"]
    images_of_items = work.inputs["raw_images"].table("images")
    found = review.Found(
        raw_items,
        work.inputs["train_test_split"].table("items"),
        _all_removed(work),
        images_of_items,
        deduplicated.table("duplicate_pairs").collect(),
        work.inputs["train_test_split"].table("nearest_pairs"),
        deduplicated.table("conflicts"),
        cleaned.table("to_review"),
        deduplicated.table("takedown_neighbours"),
        work.inputs["label_quality"].table("label_candidates"),
        cleaned.table("language_doubts"),
    )
    rows = review.review_rows(found, deduplicated.table("decisions").collect(), config)
    sheet = review.review_sheet(rows, raw_items, cleaned.table("items"), config.text_names)
    limit = config.review.max_pictures
    pictures = review.shown_pictures(rows, raw_items, images_of_items, limit)
    work.writer.table("review", rows)
    work.writer.file("review.csv", sheet.write_csv().encode())
    work.writer.file("review.html", review.review_page(sheet, pictures, config, limit=limit).encode())
    counts = rows.group_by("kind").len("questions").sort("questions", "kind", descending=[True, False])
    work.writer.facts["questions"] = counts.to_dicts()


def promote_review(_dataset: Dataset, store: Store, snapshot: Snapshot) -> None:
    """The audited review lies where people find it."""
    store.hand_out("review", snapshot, ("review.csv", "review.html"))


def build_statistics(work: Work) -> None:
    """Statistics, licence and cleanliness reports, and their figures."""
    config, names = work.config, work.config.text_names
    items = work.inputs["train_test_split"].table("items")
    removed = _all_removed(work)
    cleaned = work.inputs["cleaned_items"]
    image_table = work.inputs["raw_images"].table("images")
    found = statistics.statistics(items, image_table, removed, names, config.statistics)
    work.writer.json("statistics", found)
    work.writer.json("licences", licences.licence_report(items, config, cleaned.table("references")))
    clean_report = cleanliness.cleanliness_report(
        items,
        work.inputs["cleaned_items"].table("items"),
        work.inputs["deduplicated_items"].table("duplicate_pairs"),
        image_table,
        names,
        config,
    )
    work.writer.json("cleanliness", clean_report)
    work.writer.table("class_balance", statistics.class_balance_table(found))
    drawn = figures.statistics_figures(found, list(config.split.ratios))
    drawn |= figures.semantic_figures(work.inputs["train_test_split"].json("leakage"))
    for name, figure in {**drawn, **figures.cleanliness_figures(clean_report)}.items():
        work.writer.file(f"figures/{name}", figure)
    work.writer.facts.update(
        classes=[{"class": row["value"], "items": row["items"]} for row in found["classes"][:10]],
        languages=[
            {"language": row["value"], "items": row["items"]}
            for row in found["languages"][:20]
            if row["value"]
        ],
        removed=found["removed"],
    )


def build_clip_baselines(work: Work) -> None:
    """Embeddings, trivial and CLIP baselines."""
    config = work.config
    items, image_table = _baseline_items(work)
    embeddings = {}
    if config.baselines.enabled:
        members: dict[str, list[str]] = {}
        for model in config.baselines.models:
            for number in range(config.baselines.seeds if model.train else 1):
                name = model.name if number == 0 else f"{model.name} (seed {config.seed + number})"
                embeddings[name] = _embed(work, model, items, image_table, config.seed + number)
                members.setdefault(model.name, []).append(name)
        known = baselines.with_metadata(
            items, work.inputs["train_test_split"].table("items"), work.inputs["raw_images"].table("images")
        )
        results = baselines.evaluate(known, embeddings, config.baselines, config.seed)
        results.report["seeds"] = scores.over_seeds(
            results.leaderboard, {name: models for name, models in members.items() if len(models) > 1}
        )
        others = _other_splits(work)
        results.report["other_splits"] = baselines.on_other_splits(
            items, embeddings, results, others, config.baselines, config.seed
        )
        results.report["space"] = {
            name: embedding_space.embedding_space(found, items["label"].to_list(), config.seed)
            for name, found in embeddings.items()
        }
        work.writer.json("baselines", results.report)
        work.writer.table("leaderboard", results.leaderboard)
        work.writer.table("retrieval", results.retrieval)
        for name, table in results.predictions.items():
            work.writer.table(f"predictions/{name}", table)
        for name, figure in figures.baseline_figures(results.report).items():
            work.writer.file(f"figures/{name}", figure)
        work.writer.facts["leaderboard"] = results.leaderboard.to_dicts()
        work.writer.facts["retrieval"] = results.retrieval.to_dicts()
    else:
        work.writer.json("baselines", {"leaderboard": [], "retrieval": [], "models": {}, "similarity": {}})


def _other_splits(work: Work) -> dict[str, pl.Series]:
    """Other splits of the items, in order of item_id: one without leaks where there is one, and a random one."""
    items = work.inputs["train_test_split"].table("items").sort("item_id").collect()
    other = cleanliness.other_clean_split(items, work.config.split, work.config.seed)
    return {
        **({} if other is None else {"other_seed": other}),
        "random": cleanliness.random_split(items, work.config.seed),
    }


def _baseline_items(work: Work) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items sorted by id, with all their texts as one; and where each distinct picture is."""
    return _embedded_items(work, "train_test_split", "split", "label", "language", "leak_group")


def _embedded_items(work: Work, asset: str, *columns: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items of an asset, sorted by id: its id, ``columns``, image_sha256 and text; and where each distinct picture is."""
    return _embedded_table(work, work.inputs[asset].table("items"), *columns)


def _embedded_table(work: Work, table: pl.LazyFrame, *columns: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same of any table of items."""
    items = baselines.embedded_items(table, work.config.text_names, *columns)
    is_blurred = work.config.pii.images.faces == "blur"
    return items, baselines.pictures_of_items(
        items, work.inputs["raw_images"].table("images"), *(["faces"] if is_blurred else [])
    )


def _embed(
    work: Work, model: Any, items: pl.DataFrame, pictures: pl.DataFrame, seed: int
) -> baselines.Embeddings:
    """A model's embeddings of everything the baselines need, from the cache where they are there."""
    config = work.config
    identity, encoder, description = _encoder(work, model, items, pictures, seed)
    if encoder is None:
        return baselines.no_embeddings(items, description)
    texts_of_items = items.select("text").drop_nulls().unique().sort("text")
    labels = baselines.labels_of(items)
    prompts = [prompt for row in baselines.label_prompts(labels, config.baselines.prompts) for prompt in row]
    distinct = (
        pl.concat([texts_of_items, pl.DataFrame({"text": prompts}, schema={"text": pl.String})])
        .unique()
        .sort("text")
    )
    images, embedded = (
        (of[_EMBEDDED[kind].key], _embedding_matrix(work, kind, of, model.name, identity, encoder))
        for kind, of in (("image", pictures), ("text", distinct))
    )
    has_seen_labels = model.train is not None and baselines.captions_show_labels(items)
    return baselines.embeddings(items, images, embedded, prompts, len(labels), description, has_seen_labels)


class _Embedded(NamedTuple):
    """Where embeddings of one kind are cached, and how they are made."""

    table: str
    key: str
    function: Callable[..., pl.DataFrame]
    noun: str
    modules: tuple[ModuleType, ...]
    """Whose code decides what comes out."""


_SEEING = (clip, images, colour)
"""Modules that decide what a model sees of a picture."""
_EMBEDDED = {
    "image": _Embedded("image_embeddings", "sha256", clip.embed_picture_rows, "pictures", _SEEING),
    "text": _Embedded("text_embeddings", "text", clip.embed_text_rows, "texts", (clip,)),
}


def _embedding_matrix(
    work: Work,
    kind: str,
    of: pl.DataFrame,
    model_name: str,
    identity: str,
    encoder: Callable[[], clip.Encoder],
) -> npt.NDArray[np.float32]:
    """Embeddings of the pictures or texts ``of``, in their order, from the cache where they are there."""
    table, key, function, noun, modules = _EMBEDDED[kind]
    version = settings_version(code_version(*modules), identity, clip.precision(), *_hides(work.config))
    # What was trained here has its weights here; a GPU of this machine decides in what precision all are embedded.
    is_anywhere = isinstance(encoder, clip.LazyEncoder) and clip.precision() == clip.CPU_PRECISION
    engine = work.engine.for_models() if is_anywhere else InlineEngine()
    work.cache.results(
        table, version, of.lazy(), [key], functools.partial(function, encoder=encoder), engine,
        progress=work.progress(f"{model_name}: {noun} embedded"),
    )  # fmt: skip
    return work.cache.matrix(table, version, key, of[key], "embedding")


def _hides(config: DatasetConfig) -> tuple[str, ...]:
    """What else an embedding depends on where faces are blurred before a model sees a picture."""
    if config.pii.images.faces != "blur":
        return ()
    return (
        settings_version(
            code_version(face_detector, released_images),
            face_detector.versions(),
            config.pii.images.model_dump(),
        ),
    )


def _encoder(
    work: Work, model: Any, items: pl.DataFrame, pictures: pl.DataFrame, seed: int
) -> tuple[str, Callable[[], clip.Encoder] | None, str]:
    """(identity, how to get the encoder, what to say of it): loaded or trained only when it is needed.

    No encoder where there is nothing to train it on.
    """
    config = work.config
    if model.train is None:
        identity = clip.model_identity(model, work.dataset.base)
        return (
            identity,
            clip.LazyEncoder(model, work.dataset.base),
            f"open_clip {model.architecture}, weights {model.pretrained}, not trained on this dataset",
        )
    captions = baselines.training_captions(items, config.baselines.prompts)
    known = captions.join(pictures, on="sha256").sort("sha256")
    hidden = known["faces"].to_list() if "faces" in known.columns else None
    if known.is_empty():
        return "", None, "not trained: no picture of the training split has a text or a label"
    identity = clip.training_identity(
        model, known["sha256"].to_list(), known["captions"].to_list(), seed, work.dataset.base
    ) + "".join(f"-{part}" for part in _hides(config))
    checkpoint = work.cache.file("models", f"{identity}-{code_version(*_SEEING)}.pt")
    train = functools.cache(
        functools.partial(
            clip.trained_encoder, model, known["location"].to_list(), known["captions"].to_list(), seed,
            checkpoint, work.progress(f"{model.name}: training steps"), work.dataset.base, hidden,
        )
    )  # fmt: skip
    if model.pretrained is not None:
        description = (
            f"open_clip {model.architecture}, weights {model.pretrained}, fine-tuned on the {known.height:,} pictures "
            f"of the training split for {model.train.epochs} epochs"
        )
        return identity, train, description
    return (
        identity,
        train,
        (
            f"a small CLIP ({model.architecture}) trained from scratch on the {known.height:,} pictures of the training "
            f"split for {model.train.epochs} epochs: a baseline of what this data alone teaches, not a strong model"
        ),
    )


def build_label_quality(work: Work) -> None:
    """Sources, contradictions, agreement, likely errors and the audit of the labels."""
    config = work.config
    items = work.inputs["train_test_split"].table("items")
    deduplicated = work.inputs["deduplicated_items"]
    found = _label_errors(work)
    sheet = sources.read_audit(config.label_quality.audit, work.dataset.base)
    labelled = items.select("item_id", "split", "label").collect()
    quality: dict[str, Any] = {
        "by_source": labels.label_sources(items),
        "contradictions": labels.merged_contradictions(
            items, _all_removed(work), deduplicated.table("conflicts")
        ),
        "same_content": labels.same_content(
            work.inputs["cleaned_items"].table("items"),
            deduplicated.table("duplicate_pairs"),
        ),
        "agreement": labels.agreement(work.inputs["raw_texts"].table("annotations"), items, config.seed),
        "errors": found.report,
        "audit": None if sheet is None else labels.audit_estimate(sheet, labelled),
    }
    work.writer.json("labels", quality)
    work.writer.table("label_candidates", found.candidates)
    for name, figure in figures.label_figures(quality).items():
        work.writer.file(f"figures/{name}", figure)
    work.writer.facts.update(
        labels=[
            {"given by": row["value"] or "not stated", "items": row["items"]}
            for row in quality["by_source"][:10]
        ],
        likely_wrong_labels=quality["errors"]["examples"][: split.SHOWN_ROWS],
        confused_classes=quality["errors"]["confused"][: split.SHOWN_ROWS],
    )


def audited_sheet(dataset: Dataset, _store: Store) -> dict[str, str]:
    """Fingerprint of the filled-in audit."""
    sheet = sources.read_audit(dataset.config.label_quality.audit, dataset.base)
    return {"label_quality.audit (its file)": settings_version(None if sheet is None else sheet.rows())}


def _label_errors(work: Work) -> labels.Errors:
    """The search for wrong labels, on the embeddings that the config or the data allow."""
    config, settings = work.config, work.config.label_quality
    if not settings.errors:
        return labels.no_errors("label_quality.errors is switched off")
    items, pictures = _baseline_items(work)
    model = labels.model_to_look_with(config.baselines, settings, baselines.captions_show_labels(items))
    if model is not None:
        vectors = _embed(work, model, items, pictures, config.seed)
    else:
        images_of_items = work.inputs["raw_images"].table("images")
        vectors = classical.classical_features(items, images_of_items, pictures["sha256"])
    return labels.find_errors(items, labels.shown_by(vectors), settings, config.seed)


def build_published_archive(work: Work) -> None:
    """Write the release folder."""
    config = work.config
    reports = {
        name: work.inputs[asset].json(name)
        for asset, name in (
            ("cleaned_items", "pii"), ("deduplicated_items", "duplicates"), ("train_test_split", "leakage"),
            ("train_test_split", "split"),
            ("statistics", "statistics"), ("label_quality", "labels"), ("statistics", "licences"),
            ("statistics", "cleanliness"),
            ("clip_baselines", "baselines"),
        )
    }  # fmt: skip
    items = work.inputs["train_test_split"].table("items")
    removed = _all_removed(work).sort("item_id")
    pairs = work.inputs["deduplicated_items"].table("duplicate_pairs")
    drawn = {
        path.name: path.read_bytes()
        for asset in ("statistics", "clip_baselines", "label_quality")
        for path in sorted((work.inputs[asset].folder / "figures").glob("*.svg"))
    }
    predictions = {
        path.stem: pl.read_parquet(path)
        for path in sorted((work.inputs["clip_baselines"].folder / "predictions").glob("*.parquet"))
    }
    image_warnings = work.inputs["cleaned_items"].table("image_warnings")
    reports["images"] = {
        **image_checks.image_report(
            work.inputs["cleaned_items"].table("image_checks").collect(),
            image_warnings,
            items,
            config.clean.images,
        ),
        "variants": shards.described_variants(config),
    }
    if config.decontaminate:
        reports["decontamination"] = work.inputs["deduplicated_items"].json("decontamination")
    reports["texts"] = text_report.text_report(
        work.inputs["cleaned_items"].table("changes"),
        work.inputs["cleaned_items"].table("text_examples").collect(),
        work.inputs["cleaned_items"].table("boilerplate").collect(),
        work.inputs["cleaned_items"].table("language_doubts"),
        items,
        config,
    )
    reports["quality"] = release.quality_report(items, removed, pairs, work.verdicts)
    known = comparison.with_rows(
        sources.read_comparison(config.comparison, work.dataset.base), str(config.comparison)
    )
    reports["comparison"] = comparison.comparison_report(
        comparison.this_dataset(config, reports["statistics"]), known
    )
    written = paper.paper(config, reports)
    reports["readiness"] = readiness.readiness_report(config, reports, known, written.passages_for_author)
    before = archive.previous_release(work.store.releases_before(config.version), config.version)
    reports["diff"], older_changes = _difference(work, before, items, removed)
    measured = mirrors.read_measured(work.dataset.base / config.mirrors)
    raw_items = work.inputs["raw_texts"].table("items")
    pictures = report.report_pictures(
        items, removed, raw_items, work.inputs["raw_images"].table("images"), pairs,
        pl.concat([work.inputs["train_test_split"].table(name) for name in _nearest_tables(config)]),
        work.inputs["train_test_split"].table("crossing_pairs"), image_warnings,
        config.statistics.example_images, config.seed, reports["labels"]["errors"]["examples"],
    )  # fmt: skip
    sheets = report.class_sheets(
        items,
        work.inputs["raw_images"].table("images"),
        reports["statistics"]["classes"],
        config.statistics.example_images,
    )
    near_texts = report.nearest_texts(
        items,
        work.inputs["train_test_split"].table("nearest_pairs"),
        config.text_names,
        config.statistics.example_images // 4,
    )
    pictures = dataclasses.replace(pictures, classes=sheets, nearest_texts=near_texts)
    archive.write_release(
        work.writer.folder,
        config,
        archive.ReleaseTables(
            items,
            work.inputs["raw_images"].table("images"),
            removed,
            pairs,
            work.inputs["cleaned_items"].table("references"),
            work.inputs["deduplicated_items"].table("decisions"),
            image_warnings,
            None if before is None else shards.former_shards(before),
        ),
        archive.ReleaseParts(
            reports=reports,
            documents=lambda data: {
                **release.documents(config, reports, data.columns, older_changes, measured, data.bytes),
                "datacite.json": to_json(datacite.datacite(config, reports["quality"]["counts"])),
            },
            croissant=lambda data, files: croissant.croissant(
                config, data.columns, data.rows, files, _activities(work), f"dataset_pipeline {__version__}"
            ),
            ro_crate=lambda files: ro_crate.ro_crate(config, files, f"dataset_pipeline {__version__}"),
            provenance=_provenance(work, measured),
            report_html=remade.with_digest(report.render_report(config, reports, drawn, pictures), reports),
            figures=drawn,
            result_tables=result_tables.files_of(result_tables.result_tables(reports))
            | _proposed_repair(work)
            | _outside_matches(work),
            paper=written.files,
            predictions=predictions,
            attributions=attribution.attributions(items, config),
            sample=functools.partial(_write_sample, work, reports, items, pairs)
            if config.release.mini
            else None,
            notebook=(lambda folder: notebook.executed_notebook(folder, config))
            if config.release.notebook
            else None,
        ),
        sources.read_image_bytes,
        lambda data, hidden: released_images.release_images(data, config.release.images, hidden),
        work.progress("items written"),
    )
    work.writer.facts["splits"] = reports["statistics"]["counts"]["splits"]


def _nearest_tables(config: DatasetConfig) -> tuple[str, ...]:
    """Tables of the most similar pairs across splits."""
    return ("nearest_pairs",) if config.split.semantic is None else ("nearest_pairs", "nearest_semantic")


def _write_sample(
    work: Work,
    reports: Mapping[str, Mapping[str, Any]],
    items: pl.LazyFrame,
    pairs: pl.LazyFrame,
    folder: Path,
    data: shards.DataFiles,
) -> None:
    """Write the release's sample, a release itself, into its folder."""
    from dataset_pipeline.verification import documents_code

    drawn, share = sample.draw_sample(items.collect(), data.sizes)

    def part(table: pl.LazyFrame) -> pl.LazyFrame:
        return table.join(drawn.lazy(), on="item_id", how="semi")

    kept = part(items).collect()
    pairs_of_sample = part(pairs).join(drawn.lazy(), left_on="other_item_id", right_on="item_id", how="semi")
    config = sample.sample_config(work.config, drawn.height, reports["quality"]["counts"]["released_items"])
    told = sample.sample_reports(work.config, reports, kept, pairs_of_sample.collect(), share)
    archive.write_release(
        folder / sample.FOLDER,
        config,
        archive.ReleaseTables(
            kept.lazy(),
            work.inputs["raw_images"].table("images"),
            empty(REMOVED).lazy(),
            pairs_of_sample,
            part(work.inputs["cleaned_items"].table("references")),
            part(work.inputs["deduplicated_items"].table("decisions")),
        ),
        archive.ReleaseParts(
            reports=told,
            documents=lambda data: {
                **release.documents(config, told, data.columns, shard_bytes=data.bytes),
                "CHANGELOG.md": "# Changelog\n\nSee the changelog of the whole dataset.\n",
                "datacite.json": to_json(datacite.datacite(config, told["quality"]["counts"])),
            },
            croissant=lambda data, files: croissant.croissant(
                config, data.columns, data.rows, files, _activities(work), f"dataset_pipeline {__version__}"
            ),
            ro_crate=lambda files: ro_crate.ro_crate(config, files, f"dataset_pipeline {__version__}"),
            provenance={
                "sample_of": work.config.name,
                "version": work.config.version,
                "config_json": config.of_the_release().model_dump_json(),
                "measured_mib_per_s": {},
                "documents_code": documents_code(),
            },
            attributions=attribution.attributions(kept.lazy(), config),
        ),
        sources.read_image_bytes,
        lambda data, hidden: released_images.release_images(data, config.release.images, hidden),
    )
    work.writer.facts["sample"] = (
        f"{drawn.height:,} of {data.sizes.height:,} items, {share:.1%} of the size"
        + (
            f": an item of every class and split does not fit into {sample.LARGEST_SHARE:.0%}"
            if share > sample.LARGEST_SHARE
            else ""
        )
    )


def _proposed_repair(work: Work) -> dict[str, str]:
    """The moves that would free a published split of its leaks, as a file."""
    if work.config.split.method != "published":
        return {}
    moves = work.inputs["train_test_split"].table(f"repairs/{work.config.split.repair}").collect()
    return {"proposed_repair.csv": result_tables.to_csv(moves)}


def _outside_matches(work: Work) -> dict[str, str]:
    """Which items outside sets hold too, as a file."""
    if not work.config.decontaminate:
        return {}
    matches = work.inputs["deduplicated_items"].table("outside_matches").collect()
    return {"outside_matches.csv": result_tables.to_csv(matches)}


def _all_removed(work: Work) -> pl.LazyFrame:
    """Rows that any stage removed."""
    return pl.concat([work.inputs[name].table("removed") for name in ("cleaned_items", "deduplicated_items")])


def _difference(
    work: Work, before: Path | None, items: pl.LazyFrame, removed: pl.LazyFrame
) -> tuple[dict[str, Any], str]:
    """The report on what differs from the release ``before`` this one, and that release's changelog."""
    version, count = work.config.version, items.select(pl.len()).collect().item()
    if before is None:
        return diff.diff_report(version, None, None, count), ""
    with archive.explained_release(before):
        old, new = archive.released_items(before), items.select(*shards.released_columns(work.config))
        difference = diff.compare(old, new, removed, takedowns.listed(old, _takedowns(work.dataset)))
    return diff.diff_report(version, before.name, difference, count), archive.changelog_of(before)


def _activities(work: Work) -> list[croissant.Activity]:
    """Every stage up to the release, in order, with the code that it is."""
    made = lineage(work.dataset)
    upstream = {name for name in made.stages if name in work.inputs}
    return [
        croissant.Activity(
            stage.name, stage.description, code_version(*stage.modules),
            tuple(name for name in made.nearest_reads(stage) if name in upstream),
        )
        for stage in made.stages.values()
        if stage.name in upstream or stage.name == "published_archive"
    ]  # fmt: skip


def _provenance(work: Work, measured: dict[str, float]) -> dict[str, Any]:
    """What made this release, and what may differ between two builds of the same input."""
    from dataset_pipeline.verification import documents_code

    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "dataset": work.config.name,
        "version": work.config.version,
        "built_at": now.isoformat(timespec="seconds"),
        "dagster_run_id": work.run_id,
        "dataset_pipeline": __version__,
        "python": platform.python_version(),
        "packages": {
            **{name: metadata.version(name) for name in _PACKAGES},
            **(face_detector.versions() if work.config.pii.images.faces != "off" else {}),
        },
        "machine": f"{platform.system()} {platform.machine()}",
        "snapshots": {name: snapshot.id for name, snapshot in sorted(work.inputs.items())},
        "runs": {
            **{name: snapshot.run_id for name, snapshot in sorted(work.inputs.items())},
            "published_archive": work.run_id,
        },
        "sources": {
            source.id: _source_fingerprint(work.dataset, source, work.store) for source in work.config.sources
        },
        "config": work.config.of_the_release().model_dump(mode="json"),
        "config_json": work.config.of_the_release().model_dump_json(),  # in its order, which documents follow
        "measured_mib_per_s": measured,
        "documents_code": documents_code(),
    }


def promote_release(dataset: Dataset, store: Store, snapshot: Snapshot) -> None:
    """The audited archive becomes the release of its version."""
    store.release(snapshot, dataset.config.version)
