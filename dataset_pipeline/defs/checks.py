"""Which gates guard which asset.

A gate is an expectation of the asset's suite (``expectations/<asset>.json``), one of our own
(``stages/gates.py``), or a dagster-pandas type of a small result table. Does not belong here: the
judgement itself.
"""

import functools
from dataclasses import replace

import polars as pl

from dataset_pipeline.adapters import face_detector, sources
from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.defs.expectations import suite_gates
from dataset_pipeline.defs.frame_types import frame_type_gate
from dataset_pipeline.defs.stage import Audit, Gate
from dataset_pipeline.stages import decontamination, gates
from dataset_pipeline.stages.gates import Outcome

Gates = tuple[Gate, ...]

_MANY_WARNINGS = 0.2
_MANY_DOUBTS = 0.05
_OUR_FAULT = "This points to a fault of the pipeline: please report it."


def raw_texts(config: DatasetConfig) -> Gates:
    """Gates of ``raw_texts``."""
    return suite_gates("raw_texts", config)


def raw_images(config: DatasetConfig) -> Gates:
    """Gates of ``raw_images``: besides its suite, enough pictures must decode."""
    return (
        *suite_gates("raw_images", config),
        Gate(
            "pictures_decode",
            f"At least {config.clean.images.min_decodable_share:.0%} of the listed images are pictures that decode.",
            "critical",
            functools.partial(_pictures_decode, minimum=config.clean.images.min_decodable_share),
            "Look at 'problem' in the images table; if the rest is enough, lower clean.images.min_decodable_share.",
        ),
    )


def cleaned_items(config: DatasetConfig) -> Gates:
    """Gates of ``cleaned_items``."""
    return (
        _conserved("cleaned_items"),
        _documented_reasons(),
        Gate(
            "not_empty",
            "At least one item is left.",
            "critical",
            lambda audit: gates.not_empty(audit.snapshot.table("items"), audit.snapshot.table("removed")),
            "The summary says why items were removed; relax those rules or mend the sources.",
        ),
        Gate(
            "licence_present",
            "Every item has a licence.",
            "critical",
            lambda audit: gates.licence_present(audit.snapshot.table("items")),
            "Set the source's licence, or fill the column that columns.licence names.",
        ),
        Gate(
            "images_pass_checks",
            "No item that stays has an image that is unreadable, or that a check drops and no person keeps.",
            "critical",
            lambda audit: gates.images_pass_checks(
                audit.snapshot.table("items"),
                audit.inputs["raw_images"].table("images"),
                config.clean.images,
                audit.snapshot.table("kept_by_decision"),
            ),
            _OUR_FAULT,
        ),
        *_acted_on_faces(config),
        Gate(
            "image_warnings_few",
            f"No image check reports more than {_MANY_WARNINGS:.0%} of the items.",
            "warning",
            lambda audit: gates.image_warnings_few(
                audit.snapshot.table("image_checks").collect(),
                int(audit.snapshot.table("items").select(pl.len()).collect().item()),
                _MANY_WARNINGS,
            ),
            "Look at some of them in the report; where they are good images, change the check's threshold in "
            "clean.images, or switch it off in clean.images.actions.",
        ),
        Gate(
            "language_doubts_few",
            f"No more than {_MANY_DOUBTS:.0%} of the items have a text that does not look like its declared language.",
            "warning",
            lambda audit: gates.language_doubts_few(
                audit.snapshot.table("language_doubts"),
                int(audit.snapshot.table("items").select(pl.len()).collect().item()),
                _MANY_DOUBTS,
            ),
            "Look whether columns.language names the right column; clean.language.declared says what happens to such "
            "items: review, drop, replace, or trust where the source knows better.",
        ),
        *suite_gates("cleaned_items", config),
    )


def deduplicated_items(config: DatasetConfig) -> Gates:
    """Gates of ``deduplicated_items``."""
    return (
        _conserved("deduplicated_items"),
        _documented_reasons(),
        Gate(
            "decisions_known",
            "Every decision is about items of the sources, and none is overruled.",
            "warning",
            lambda audit: gates.decisions_known(audit.snapshot.table("decisions")),
            "Mend the ids in the decisions file, or take the rows of items that are gone out of it.",
        ),
        *_outside_sets(config),
        *suite_gates("deduplicated_items", config),
    )


def _outside_sets(config: DatasetConfig) -> Gates:
    """The gates of ``decontaminate``."""
    if not config.decontaminate:
        return ()
    left_out = Gate(
        "outside_sets_left_out",
        "No item that stays is in a set of decontaminate whose action is 'remove', by a search of its own.",
        "critical",
        _outside_sets_left_out,
        _OUR_FAULT,
    )
    return (
        Gate(
            "outside_sets_readable",
            "Every set of decontaminate has a picture, a text, a hash or an embedding to compare with.",
            "critical",
            lambda audit: gates.outside_sets_readable(audit.snapshot.json("decontamination")),
            "Correct the set's paths and columns; a set that cannot be read protects nothing.",
        ),
        *([left_out] if decontamination.removing(config.decontaminate) else []),
        Gate(
            "outside_sets_apart",
            "No item is in a set of decontaminate whose action is 'report', and all their pictures decode.",
            "warning",
            lambda audit: gates.outside_sets_apart(audit.snapshot.json("decontamination")),
            "Look at outside_matches; with action 'remove' these items are left out.",
        ),
    )


def _outside_sets_left_out(audit: Audit) -> Outcome:
    config, snapshot = audit.dataset.config, audit.snapshot
    sets = decontamination.removing(config.decontaminate)
    names = [one.name for one in sets]
    pictures, texts, hashes = (snapshot.table(f"outside/{name}") for name in ("pictures", "texts", "hashes"))
    found = decontamination.find_matches(
        snapshot.table("items"),
        audit.inputs["raw_images"].table("images"),
        decontamination.Outside(pictures, texts.collect(), hashes.collect()).of(names),
        config.text_names,
        sets,
        config.duplicates,
        is_audit=True,
        embedded=snapshot.table("outside/embedding_matches").collect(),
    )
    kept = snapshot.table("decisions").filter(pl.col("decision") == "keep")
    return gates.outside_sets_left_out(snapshot.table("items"), found, names, kept)


def train_test_split(config: DatasetConfig) -> Gates:
    """Gates of ``train_test_split``: nothing may leak, and no item may get lost."""
    return (
        Gate(
            "no_leak",
            "No group key, picture, text or near-duplicate is in two splits or folds, by a search of its own.",
            "critical" if config.split.on_leak == "block" else "warning",
            lambda audit: gates.no_leak(
                audit.snapshot.json("leakage"), audit.snapshot.table("crossing_pairs")
            ),
            "Look at crossing_pairs; with split.method 'published' the published split itself leaks: repairs/ lists "
            "what to move; use 'repaired' or 'stratified', or split.on_leak: warn to release it as it is.",
        ),
        Gate(
            "planted_copies_found",
            "Changed copies that are planted across the splits are found by the search for leaks.",
            "critical",
            lambda audit: gates.planted_copies_found(
                audit.snapshot.json("leakage"), config.split.min_search_recall
            ),
            "search_recall in the report says which changes are missed; where so much may be missed, lower "
            "split.min_search_recall.",
        ),
        *_semantic(config),
        *_in_time(config),
        Gate(
            "rows_conserved",
            "Every deduplicated item is in the split exactly once.",
            "critical",
            lambda audit: gates.rows_conserved(
                audit.inputs["deduplicated_items"].table("items"),
                audit.snapshot.table("items"),
                audit.inputs["deduplicated_items"].table("removed").head(0),
            ),
            _OUR_FAULT,
        ),
        frame_type_gate("summary", "split_summary"),
        *suite_gates("train_test_split", config),
    )


def review(_config: DatasetConfig) -> Gates:
    """Gates of ``review``."""
    return (
        Gate(
            "questions_answerable",
            "Every question is of a documented kind, about raw items, and asked once.",
            "critical",
            lambda audit: gates.questions_answerable(
                audit.snapshot.table("review"), audit.inputs["cleaned_items"].table("raw_ids")
            ),
            _OUR_FAULT,
        ),
    )


def _semantic(config: DatasetConfig) -> Gates:
    """The gate of ``split.semantic``."""
    if config.split.semantic is None:
        return ()
    return (
        Gate(
            "semantic_neighbours_together",
            "No two items that the model of split.semantic calls alike are in two splits, by a search of its own.",
            "critical" if config.split.on_leak == "block" else "warning",
            lambda audit: gates.semantic_neighbours_together(
                audit.snapshot.json("leakage")["semantic"], audit.snapshot.table("nearest_semantic")
            ),
            "A published split may do so: use split.method 'repaired' or 'stratified', or split.on_leak: warn.",
        ),
    )


def _in_time(config: DatasetConfig) -> Gates:
    """The gate of a split that follows time."""
    if config.split.method != "temporal":
        return ()
    return (
        Gate(
            "time_ordered",
            "Nothing in a split is later than the beginning of the next one.",
            "critical",
            lambda audit: gates.time_ordered(audit.snapshot.table("items"), list(config.split.ratios)),
            _OUR_FAULT,
        ),
    )


def statistics(config: DatasetConfig) -> Gates:
    """Gates of ``statistics``: its tables have their shape, and licences allow the release."""
    return (
        frame_type_gate("class_balance", "class_balance"),
        Gate(
            "licences_compatible",
            f"Every item's licence allows a release under {config.licence}.",
            "critical",
            lambda audit: gates.licences_compatible(audit.snapshot.json("licences")),
            "Choose a dataset licence that all sources allow, or leave those items out.",
        ),
    )


def clip_baselines(config: DatasetConfig) -> Gates:
    """Gates of ``clip_baselines``."""
    if not config.baselines.enabled:
        return ()
    return (frame_type_gate("leaderboard", "leaderboard"), frame_type_gate("retrieval", "retrieval"))


def label_quality(config: DatasetConfig) -> Gates:
    """Gates of ``label_quality``: its candidates are items, and labels are as good as the config demands."""
    settings = config.label_quality
    made = [
        Gate(
            "candidates_are_items",
            "Every candidate for a wrong label is one of the items, once, with the label that it has.",
            "critical",
            lambda audit: gates.candidates_are_items(
                audit.snapshot.table("label_candidates"), audit.inputs["train_test_split"].table("items")
            ),
            _OUR_FAULT,
        )
    ]
    if settings.min_agreement is not None:
        made.append(
            Gate(
                "annotators_agree",
                f"Krippendorff's alpha of the annotators is at least {settings.min_agreement:g}.",
                "critical",
                functools.partial(_annotators_agree, minimum=settings.min_agreement),
                "Look at agreement in labels.json; have the items labelled again that annotators disagree on.",
            )
        )
    if settings.max_error_share is not None:
        made.append(
            Gate(
                "audit_within_limit",
                f"The audit finds no more than {settings.max_error_share:.1%} of the labels wrong.",
                "critical",
                functools.partial(_audit_within_limit, maximum=settings.max_error_share),
                "Correct the labels, those of the ranked candidates first, and audit a new sample.",
            )
        )
    return tuple(made)


def _annotators_agree(audit: Audit, *, minimum: float) -> Outcome:
    return gates.annotators_agree(audit.snapshot.json("labels")["agreement"], minimum)


def _audit_within_limit(audit: Audit, *, maximum: float) -> Outcome:
    return gates.audit_within_limit(audit.snapshot.json("labels")["audit"], maximum)


def published_archive(config: DatasetConfig) -> Gates:
    """Gates of ``published_archive``: the same verification that anyone can run on the release."""
    return (
        *_hidden_faces(config),
        Gate(
            "release_verified",
            "Checksums, counts, schema, documents and the leak test of the release folder hold.",
            "critical",
            _release_verified,
            "The summary names the first faults; run 'dataset-pipeline verify' on the folder for all of them.",
        ),
        Gate(
            "rows_conserved",
            "Raw items = released items + removed items, and no id is in both.",
            "critical",
            lambda audit: gates.rows_conserved(
                audit.inputs["cleaned_items"].table("raw_ids"),
                pl.scan_parquet(audit.snapshot.folder / "metadata" / "items.parquet"),
                pl.scan_parquet(audit.snapshot.folder / "metadata" / "removed.parquet"),
            ),
            _OUR_FAULT,
        ),
        Gate(
            "taken_down_absent",
            "Nothing that the takedowns file lists is in the release.",
            "critical",
            _taken_down_absent,
            "Materialise cleaned_items and all that follows again.",
        ),
        Gate(
            "version_fits",
            "The version number says what differs from the release before it: a major step where items or columns "
            "are gone, edited or in another split, a minor one where some were added.",
            "warning",
            lambda audit: gates.version_fits(audit.snapshot.json("reports/diff")),
            "Set 'version' in dataset.yaml to the expected one and build again; the changelog says what differs.",
        ),
    )


def _acted_on_faces(config: DatasetConfig) -> Gates:
    """The gate of items whose pictures are searched for faces."""
    if config.pii.images.faces == "off":
        return ()
    return (
        Gate(
            "faces_acted_on",
            "Every item's picture was searched for faces, and none stays that pii.images removes.",
            "critical",
            lambda audit: gates.faces_acted_on(
                audit.snapshot.table("items"),
                audit.inputs["raw_images"].table("images"),
                config.pii.images,
                audit.snapshot.table("kept_by_decision"),
            ),
            "Leave out items whose picture cannot be searched (decisions: drop).",
        ),
    )


def _hidden_faces(config: DatasetConfig) -> Gates:
    """The gate of a release whose faces are blurred."""
    if config.pii.images.faces != "blur":
        return ()
    return (
        Gate(
            "faces_hidden",
            "Where faces were blurred in released pictures, of every resolution, the detector finds none.",
            "critical",
            _faces_hidden,
            "Look at these pictures; take their items out (decisions: drop), or lower pii.images.min_score, so that more "
            "of a picture is blurred.",
        ),
    )


def _faces_hidden(audit: Audit) -> Outcome:
    found, searched = face_detector.still_there(
        audit.snapshot.folder,
        audit.inputs["raw_images"].table("images"),
        audit.dataset.config.pii.images,
    )
    return gates.faces_hidden(found, searched)


def _taken_down_absent(audit: Audit) -> Outcome:
    listed = sources.read_takedowns(audit.dataset.config.takedowns, audit.dataset.base)
    items = pl.scan_parquet(audit.snapshot.folder / "metadata" / "items.parquet", glob=False)
    pixels = audit.inputs["raw_images"].table("images").select("sha256", "pixel_hash")
    return gates.taken_down_absent(items, pixels, listed)


def _conserved(asset: str) -> Gate:
    return Gate(
        "rows_conserved",
        "Every item that came in is kept or removed with a reason, never both and never neither.",
        "critical",
        functools.partial(_rows_conserved, asset=asset),
        _OUR_FAULT,
    )


def _rows_conserved(audit: Audit, *, asset: str) -> Outcome:
    snapshot = audit.snapshot
    before = (
        snapshot.table("raw_ids")
        if asset == "cleaned_items"
        else audit.inputs["cleaned_items"].table("items")
    )
    return gates.rows_conserved(before, snapshot.table("items"), snapshot.table("removed"))


def _documented_reasons() -> Gate:
    return Gate(
        "reasons_documented",
        "Every removed row carries one of the documented reasons.",
        "critical",
        lambda audit: gates.reasons_known(audit.snapshot.table("removed")),
        _OUR_FAULT,
    )


def _pictures_decode(audit: Audit, *, minimum: float) -> Outcome:
    table = audit.snapshot.table("images")
    whole, part = table.select(pl.len(), pl.col("problem").is_null().sum().alias("part")).collect().row(0)
    if whole == 0:
        return Outcome(True, "the sources name no images", {"part": 0, "whole": 0})
    outcome = gates.share_at_least(int(part), int(whole), minimum, "listed images decode")
    if outcome.is_passed:
        return outcome
    broken = table.filter(pl.col("problem").is_not_null()).select("image_ref", "problem")
    return replace(outcome, examples=broken.head(gates.EXAMPLE_ROWS).collect())


def _release_verified(audit: Audit) -> Outcome:
    from dataset_pipeline.verification import verify

    result = verify(audit.snapshot.folder)
    numbers = {"faults": len(result.findings), **result.facts}
    if result.is_good:
        return Outcome(True, "the release holds what it says", numbers)
    first = result.findings[: gates.EXAMPLE_ROWS]
    return Outcome(
        False,
        f"{len(result.findings)} faults: " + "; ".join(map(str, first)),
        numbers,
        pl.DataFrame({"check": [f.check for f in first], "path": [f.path for f in first]}),
    )
