"""Quality gates of our own, beside the Great Expectations suites in ``expectations/``.

Belongs here: functions from tables to an :class:`Outcome`. Does not belong here: what a column's
values must look like (a suite says that as data), and what happens when a gate fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from dataset_pipeline.config import CleanImages, PiiImages
from dataset_pipeline.stages import diff
from dataset_pipeline.stages.faces import COUNT as FACES_OF_PICTURE
from dataset_pipeline.stages.faces import REMOVING
from dataset_pipeline.stages.image_checks import MEASURES, OF_THE_DATASET, image_checks
from dataset_pipeline.stages.review import KINDS as QUESTIONS
from dataset_pipeline.stages.temporal import parsed_dates
from dataset_pipeline.tables import REASONS

Severity = Literal["critical", "warning"]

EXAMPLE_ROWS = 3


@dataclass(frozen=True)
class Outcome:
    """What a gate found: one line for people, the numbers behind it and a few example rows."""

    is_passed: bool
    summary: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)
    examples: pl.DataFrame | None = None


def redacted(examples: pl.DataFrame, public_columns: frozenset[str] | set[str]) -> pl.DataFrame:
    """The first rows, with every value of a column outside ``public_columns`` masked.

    A masked value keeps its length and the shape of letters (``x``) and digits (``9``), so that a
    fault can be recognised without showing what was written.
    """
    return examples.head(EXAMPLE_ROWS).with_columns(
        pl.col(name)
        .cast(pl.String, strict=False)
        .str.slice(0, 60)
        .str.replace_all(r"\p{M}", "")  # vowel signs are half of what an Indic word says
        .str.replace_all(r"\p{L}", "x")
        .str.replace_all(r"\p{N}", "9")
        for name in examples.columns
        if name not in public_columns
    )


def rows_conserved(before: pl.LazyFrame, kept: pl.LazyFrame, removed: pl.LazyFrame) -> Outcome:
    """Every item that came in is kept or removed, never both and never neither."""
    counts = pl.concat(
        [
            before.select("item_id", before=1, kept=0, removed=0),
            kept.select("item_id", before=0, kept=1, removed=0),
            removed.select("item_id", before=0, kept=0, removed=1),
        ]
    )
    per_item = counts.group_by("item_id").agg(pl.col("before", "kept", "removed").sum())
    sums = per_item.select(pl.col("before", "kept", "removed").sum()).collect().row(0, named=True)
    wrong = per_item.filter((pl.col("before") != 1) | (pl.col("kept") + pl.col("removed") != 1))
    wrong_rows = wrong.sort("item_id").head(EXAMPLE_ROWS).collect()
    numbers = {f"{name}_rows": int(value) for name, value in sums.items()}
    is_passed = wrong_rows.height == 0
    return Outcome(
        is_passed,
        f"{numbers['before_rows']:,} items in = {numbers['kept_rows']:,} kept + {numbers['removed_rows']:,} removed"
        if is_passed
        else f"{numbers['before_rows']:,} items in, but {numbers['kept_rows']:,} kept and "
        f"{numbers['removed_rows']:,} removed; first wrong ids: {wrong_rows['item_id'].to_list()}",
        numbers,
        None if is_passed else wrong_rows,
    )


def reasons_known(removed: pl.LazyFrame) -> Outcome:
    """Every removed row carries one of the documented reasons."""
    is_unknown = ~pl.col("reason").is_in(list(REASONS)) | pl.col("reason").is_null()
    removed_rows, unknown_rows = removed.select(pl.len(), is_unknown.sum().alias("unknown")).collect().row(0)
    unknown = removed.filter(is_unknown).select("item_id", "stage", "reason").collect()
    numbers = {"removed_rows": int(removed_rows), "undocumented_rows": int(unknown_rows)}
    if unknown.is_empty():
        return Outcome(True, "every removed row has a documented reason", numbers)
    found = unknown["reason"].fill_null("none at all").unique().sort().head(5).to_list()
    return Outcome(
        False,
        f"{unknown.height:,} of {removed_rows:,} removed rows have no documented reason, but {', '.join(found)}",
        numbers,
        unknown.head(EXAMPLE_ROWS),
    )


def share_at_least(part: int, whole: int, minimum: float, what: str) -> Outcome:
    """``part`` of ``whole`` reaches ``minimum`` (a share of 1); nothing at all never does."""
    share = part / whole if whole else 0.0
    return Outcome(
        whole > 0 and share >= minimum,
        f"{part:,} of {whole:,} {what} ({share:.1%}); at least {minimum:.0%} expected",
        {"part": part, "whole": whole, "share": round(share, 6), "minimum": minimum},
    )


def not_empty(items: pl.LazyFrame, removed: pl.LazyFrame) -> Outcome:
    """At least one item is left; if not, say why the others went."""
    rows = int(items.select(pl.len()).collect().item())
    if rows:
        return Outcome(True, f"{rows:,} items left", {"rows": rows})
    reasons = (
        removed.group_by("reason").len().sort("len", "reason", descending=[True, False]).head(5).collect()
    )
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.iter_rows())
    return Outcome(
        False,
        f"no item is left after cleaning; removed: {why or 'nothing: the sources are empty'}",
        {"rows": 0, **{f"removed_{reason}": int(count) for reason, count in reasons.iter_rows()}},
    )


def no_leak(report: Mapping[str, Any], crossing: pl.LazyFrame) -> Outcome:
    """No verified pair and no group key crosses splits or folds. ``crossing``: PAIRS that do."""
    pairs, fold_pairs = int(report["cross_split_pairs"]), int(report.get("cross_fold_pairs", 0))
    by_kind = {kind: int(count) for kind, count in report["by_kind"].items()}
    numbers = {"cross_split_pairs": pairs, "random_split_pairs": int(report["random_split_pairs"]), **by_kind}
    if "folds" in report:
        numbers["cross_fold_pairs"] = fold_pairs
    if pairs == fold_pairs == 0:
        would_have = f"a random split would have leaked {numbers['random_split_pairs']:,}"
        and_folds = " or folds" if "folds" in report else ""
        return Outcome(True, f"0 pairs cross splits{and_folds}; {would_have}", numbers)
    told = [f"{pairs:,} pairs cross splits ({_by_kind(by_kind)})"] if pairs else []
    if fold_pairs:
        told.append(f"{fold_pairs:,} pairs cross folds ({_by_kind(report['cross_fold_by_kind'])})")
    return Outcome(False, ", ".join(told), numbers, crossing.head(EXAMPLE_ROWS).collect())


def semantic_neighbours_together(report: Mapping[str, Any], nearest: pl.LazyFrame) -> Outcome:
    """No two items that a model calls alike are in two splits, but for pairs that are left apart on purpose."""
    pairs, apart = int(report["cross_split_pairs"]), int(report["left_apart_pairs"])
    numbers = {"cross_split_pairs": pairs, "left_apart_pairs": apart}
    aside = f"; {apart:,} are left apart, as their groups would be too large" if apart else ""
    return Outcome(
        pairs == 0,
        f"{pairs:,} pairs that {report['model']} calls alike cross splits{aside}",
        numbers,
        None if pairs == 0 else nearest.head(EXAMPLE_ROWS).collect(),
    )


def planted_copies_found(report: Mapping[str, Any], minimum: float) -> Outcome:
    """The audit's search finds the copies that were planted across the splits.

    Where it looks at every pair, it has to find each copy that the rule calls nearly the same; in any case at least
    the share ``minimum`` of all of a kind. Nothing to plant on is no failure.
    """
    rows = [
        {"kind": kind, "change": change, **counts}
        for kind, changes in report["planted"].items()
        for change, counts in changes.items()
    ]
    table = pl.DataFrame(rows, schema={"kind": pl.String, "change": pl.String, **_PLANTED})
    kinds = table.group_by("kind", maintain_order=True).agg(pl.col(*_PLANTED).sum())
    missed = int((table["recognised"] - table["found"]).sum()) if report["is_exhaustive"] else 0
    low = kinds.filter(pl.col("found") < minimum * pl.col("planted"))
    told = "; ".join(f"{kind}: {found:,} of {planted:,}" for kind, planted, _, found in kinds.iter_rows())
    numbers = {name: int(table[name].sum()) for name in _PLANTED}
    summary = f"planted copies found: {told or 'none were planted'}"
    if missed == 0 and low.is_empty():
        return Outcome(True, summary, numbers)
    faults = [f"{missed:,} that are near by the rule were missed by a search of all pairs"] if missed else []
    faults += [f"{minimum:.0%} of {kind} expected" for kind in low["kind"]]
    worst = table.sort(pl.col("found") / pl.col("planted"), "kind", "change").head(EXAMPLE_ROWS)
    return Outcome(False, f"{summary}; {', '.join(faults)}", numbers, worst)


_PLANTED: Mapping[str, pl.DataType] = {"planted": pl.Int64(), "recognised": pl.Int64(), "found": pl.Int64()}


def time_ordered(items: pl.LazyFrame, splits: Sequence[str]) -> Outcome:
    """Nothing in a split is later than what begins the next one: the latest item of each of its leak groups.

    ``items``: item_id, leak_group, split, date; ``splits``: in order of time.
    """
    dated = items.select("item_id", "leak_group", "split", moment=parsed_dates(pl.col("date"))).collect()
    latest = dated.group_by("leak_group", "split").agg(pl.col("moment").max())
    begins = dict(latest.group_by("split").agg(pl.col("moment").min()).iter_rows())
    late = []
    for place, name in enumerate(splits):
        later = [begins[other] for other in splits[place + 1 :] if begins.get(other) is not None]
        of_split = dated.filter(pl.col("split") == name)
        is_late = pl.col("moment").is_null() | (pl.col("moment") >= min(later) if later else pl.lit(False))
        late.append(of_split.filter(is_late))
    wrong = pl.concat(late).sort("item_id")
    return Outcome(
        wrong.is_empty(),
        f"no item is later than the beginning of a split after its own, in order {', '.join(splits)}"
        if wrong.is_empty()
        else f"{wrong.height:,} items are later than the beginning of a split after their own, or have no date",
        {"late_items": wrong.height},
        None
        if wrong.is_empty()
        else wrong.head(EXAMPLE_ROWS).select("item_id", "split", pl.col("moment").cast(pl.String)),
    )


def _by_kind(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()) if count)


def licence_present(items: pl.LazyFrame) -> Outcome:
    """Every item has a licence."""
    missing = (
        items.filter(pl.col("licence").is_null()).select("item_id", "source").head(EXAMPLE_ROWS).collect()
    )
    total = int(items.filter(pl.col("licence").is_null()).select(pl.len()).collect().item())
    return Outcome(
        total == 0,
        "every item has a licence" if total == 0 else f"{total:,} items have no licence",
        {"rows_without_licence": total},
        missing if total else None,
    )


def licences_compatible(report: Mapping[str, Any]) -> Outcome:
    """No item's licence forbids releasing it under the dataset's licence."""
    incompatible = report["incompatible_items"]
    count, first = int(incompatible["count"]), incompatible["first"]
    licence = report["dataset_licence"]
    if count == 0:
        return Outcome(
            True, f"every item's licence allows a release under {licence}", {"incompatible_items": 0}
        )
    why = {row["licence"]: row["why"] for row in report["by_licence"]}
    named = ", ".join(f"'{row['item_id']}'" for row in first) + (", ..." if count > len(first) else "")
    return Outcome(
        False,
        f"{count:,} items have a licence that does not allow a release under {licence}: {named}",
        {"incompatible_items": count},
        pl.DataFrame([{**row, "why": why[row["licence"]]} for row in first[:EXAMPLE_ROWS]]),
    )


def decisions_known(states: pl.LazyFrame) -> Outcome:
    """Every decision is in force. ``states``: DECISIONS and state."""
    told = states.filter(pl.col("state") != "in_force").collect()
    total = int(states.select(pl.len()).collect().item())
    counts = {f"decisions_{state}": told.filter(pl.col("state") == state).height for state in _STATES}
    if told.is_empty():
        return Outcome(True, f"{total:,} decisions, all in force", {"decisions": total, **counts})
    said = ", ".join(f"{told.filter(pl.col('state') == s).height:,} {words}" for s, words in _STATES.items())
    first = ", ".join(f"'{item}'" for item in told["item_id"].head(EXAMPLE_ROWS))
    return Outcome(
        False,
        f"of {total:,} decisions {said}: {first}" + (", ..." if told.height > EXAMPLE_ROWS else ""),
        {"decisions": total, **counts},
        told.head(EXAMPLE_ROWS).select("item_id", "decision", "value", "state"),
    )


_STATES = {
    "unknown_item": "name items that no source has",
    "overruled": "are overruled by what nobody can decide",
}


def version_fits(report: Mapping[str, Any]) -> Outcome:
    """The version is high enough for what differs from the release before it. ``report``: reports/diff.json."""
    told = {"version": report["version"], "new_items": report["new_items"]}
    if report["previous"] is None:
        return Outcome(True, diff.verdict(report), told)
    counted = {name: report[name] for name in ("added", "removed", "changed", "moved", "test_changed")}
    numbers = {**told, "previous": report["previous"], "proposed": report["proposed_version"], **counted}
    named = [(kind, item_id) for kind, ids in report["examples"].items() for item_id in ids[:1]]
    return Outcome(
        bool(report["is_version_fitting"]),
        diff.verdict(report),
        numbers,
        None
        if report["is_version_fitting"] or not named
        else pl.DataFrame(named, schema=["change", "item_id"], orient="row").head(EXAMPLE_ROWS),
    )


def outside_sets_left_out(
    items: pl.LazyFrame, found: pl.DataFrame, removing: Sequence[str], kept: pl.LazyFrame
) -> Outcome:
    """No item that stays matches a set that is to be left out.

    ``found``: MATCHES of ``items``, by a search of its own; ``kept``: item_id of items that people decided to keep.
    """
    total = int(items.select(pl.len()).collect().item())
    wanted = found.filter(pl.col("set").is_in(list(removing)))
    stayed = wanted.join(kept.select("item_id").unique().collect(), on="item_id", how="anti")
    count = stayed["item_id"].n_unique()
    numbers = {"items": total, "matching_items": count}
    if count == 0:
        return Outcome(True, f"none of {total:,} items is in {', '.join(removing)}", numbers)
    return Outcome(
        False,
        f"{count:,} of {total:,} items that stay are in a set that is to be left out",
        numbers,
        stayed.sort("item_id", "set").head(EXAMPLE_ROWS),
    )


def outside_sets_readable(report: Mapping[str, Any]) -> Outcome:
    """Every outside set has a picture, a text, a hash or an embedding that could match."""
    held = {
        name: sum(int(one[what]) for what in ("pictures", "texts", "sha256", "phash", "embeddings"))
        for name, one in report["sets"].items()
    }
    nothing = sorted(name for name, count in held.items() if count == 0)
    return Outcome(
        not nothing,
        f"nothing in {', '.join(nothing)} could be read: no picture decodes, and there are no texts, hashes or embeddings"
        if nothing
        else f"compared with {sum(held.values()):,} pictures, texts, hashes and embeddings of {len(held)} outside sets",
        held,
    )


def outside_sets_apart(report: Mapping[str, Any]) -> Outcome:
    """No item is in an outside set that is only reported, and every picture of the sets decodes."""
    found = {
        name: int(one["matching_items"])
        for name, one in report["sets"].items()
        if one["action"] == "report" and one["matching_items"]
    }
    unread = {
        f"{name} (unreadable pictures)": int(one["unreadable_pictures"])
        for name, one in report["sets"].items()
        if one["unreadable_pictures"]
    }
    told = []
    if found:
        told.append("items that are in outside sets as well: " + _by_kind(found))
    if unread:
        told.append("pictures of outside sets that nothing was compared with: " + _by_kind(unread))
    return Outcome(
        not told, "; ".join(told) or "no item is in a set that is only reported", {**found, **unread}
    )


def taken_down_absent(items: pl.LazyFrame, pixels: pl.LazyFrame, takedowns: pl.DataFrame | None) -> Outcome:
    """No released item is listed by its id, its picture's file or its pixels.

    ``items``: item_id, image_sha256; ``pixels``: sha256, pixel_hash of the sources' pictures.
    """
    if takedowns is None:
        return Outcome(True, "nothing was taken down", {"taken_down_items": 0})
    ids = takedowns["item_id"].drop_nulls().str.strip_chars().implode()
    hashes = takedowns["sha256"].drop_nulls().str.to_lowercase().implode()
    found = (
        items.join(
            pixels.drop_nulls().unique("sha256"), left_on="image_sha256", right_on="sha256", how="left"
        )
        .filter(
            pl.col("item_id").is_in(ids)
            | pl.col("image_sha256").is_in(hashes)
            | pl.col("pixel_hash").is_in(hashes)
        )
        .select("item_id")
        .sort("item_id")
        .collect()
    )
    numbers = {"taken_down_items": found.height, "takedowns": takedowns.height}
    if found.is_empty():
        return Outcome(True, f"none of {takedowns.height:,} takedowns is in the release", numbers)
    return Outcome(
        False,
        f"{found.height:,} items that were taken down are in the release",
        numbers,
        found.head(EXAMPLE_ROWS),
    )


def questions_answerable(review: pl.LazyFrame, raw_ids: pl.LazyFrame) -> Outcome:
    """Every row of the review (REVIEW) can be answered by a decision: its kind and its items are known."""
    known = raw_ids.select("item_id").unique()
    other = known.rename({"item_id": "other_item_id"})
    rows = int(review.select(pl.len()).collect().item())
    key = ["kind", "item_id", "other_item_id"]
    wrong = pl.concat(
        [
            review.filter(~pl.col("kind").is_in(list(QUESTIONS))),
            review.join(known, on="item_id", how="anti"),
            review.drop_nulls("other_item_id").join(other, on="other_item_id", how="anti"),
            review.filter(pl.struct(key).is_duplicated()),
        ]
    ).collect()
    numbers = {"questions": rows, "wrong_rows": wrong.height}
    if wrong.is_empty():
        return Outcome(True, f"{rows:,} questions", numbers)
    return Outcome(
        False,
        f"{wrong.height:,} of {rows:,} questions are of an unknown kind, about an unknown item, or asked twice",
        numbers,
        wrong.head(EXAMPLE_ROWS).select(key),
    )


def candidates_are_items(candidates: pl.LazyFrame, items: pl.LazyFrame) -> Outcome:
    """Every candidate (LABEL_CANDIDATES) is an item, once, with the item's label and another one suggested."""
    known = items.select("item_id", pl.col("label").alias("now"))
    joined = candidates.join(known, on="item_id", how="left").collect()
    wrong = joined.filter(
        pl.col("now").is_null()
        | (pl.col("now") != pl.col("label"))
        | (pl.col("suggested") == pl.col("label"))
        | pl.col("item_id").is_duplicated()
    )
    numbers = {"candidates": joined.height, "wrong_rows": wrong.height}
    if wrong.is_empty():
        return Outcome(True, f"{joined.height:,} candidates, all of them items with that label", numbers)
    return Outcome(
        False,
        f"{wrong.height:,} of {joined.height:,} candidates are no item with that label",
        numbers,
        wrong.select("item_id", "label", "suggested").head(EXAMPLE_ROWS),
    )


def annotators_agree(agreement: Mapping[str, Any] | None, minimum: float) -> Outcome:
    """Krippendorff's alpha reaches ``minimum``; without several labels an item there is none, which is a failure."""
    alpha = None if agreement is None else agreement["alpha"]
    if agreement is None or alpha is None:
        return Outcome(
            False,
            f"no alpha: no item has two labels that could differ; at least {minimum:g} expected",
            {"minimum": minimum},
        )
    numbers = {"alpha": alpha, "minimum": minimum, "items": agreement["items"]}
    text = f"alpha is {alpha:.3f} over {agreement['items']:,} items with several labels; at least {minimum:g} expected"
    return Outcome(alpha >= minimum, text, numbers)


def audit_within_limit(audit: Mapping[str, Any] | None, maximum: float) -> Outcome:
    """The share of wrong labels that an audit estimates is at most ``maximum``; without an audit this fails."""
    share = None if audit is None else audit["share"]
    if audit is None or share is None:
        return Outcome(
            False,
            f"nothing has been audited; at most {maximum:.1%} wrong labels allowed",
            {"maximum": maximum},
        )
    low, high = audit["interval"]
    numbers = {"share": share, "low": low, "high": high, "maximum": maximum, "looked_at": audit["looked_at"]}
    text = (
        f"{audit['wrong']:,} of {audit['looked_at']:,} audited labels are wrong: {share:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}); at most {maximum:.1%} allowed"
    )
    wrong = pl.DataFrame(audit["wrong_items"], schema={"item_id": pl.String, "label": pl.String})
    is_passed = share <= maximum
    return Outcome(is_passed, text, numbers, None if is_passed else wrong.head(EXAMPLE_ROWS))


def images_pass_checks(
    items: pl.LazyFrame, images: pl.LazyFrame, settings: CleanImages, decided: pl.LazyFrame
) -> Outcome:
    """No item that stays has an image that cannot be decoded, or that a check drops and no person keeps.

    ``items``: ITEMS; ``images``: IMAGES; ``decided``: item_id of items that a person decided to keep. Checks that
    look at the whole dataset are left out.
    """
    kept = items.drop_nulls("image_ref").select("item_id", "image_ref")
    joined = kept.join(images.select("image_ref", "problem", *MEASURES), on="image_ref", how="left")
    joined = joined.join(
        decided.select("item_id", is_decided=pl.lit(True)).unique(), on="item_id", how="left"
    )
    is_judged = pl.col("is_decided").is_null()
    faults = [pl.when(pl.col("pixel_hash").is_null()).then(pl.lit("not decoded"))]
    faults += [
        pl.when(is_judged & check.applies).then(pl.lit(check.reason))
        for check in image_checks(settings)
        if check.action == "drop" and check.name not in OF_THE_DATASET
    ]
    bad = joined.with_columns(fault=pl.coalesce(faults)).drop_nulls("fault").sort("item_id").collect()
    checked = int(kept.select(pl.len()).collect().item())
    numbers = {"part": bad.height, "whole": checked}
    if bad.is_empty():
        return Outcome(True, f"{checked} images of kept items pass", numbers)
    first = bad.select("item_id", "fault").head(EXAMPLE_ROWS)
    return Outcome(False, f"{bad.height} of {checked} images of kept items do not pass", numbers, first)


def image_warnings_few(counts: pl.DataFrame, items: int, maximum: float) -> Outcome:
    """No image check reports more than a share of ``maximum`` of the ``items`` that stay.

    ``counts``: ``image_checks.COUNTS``. A check that reports so many has a threshold that does not fit the data.
    """
    many = counts.filter(pl.col("reported") > maximum * items).select("check", "reported")
    numbers = {"checks": many.height, "items": items}
    if many.is_empty():
        return Outcome(True, f"no image check reports more than {maximum:.0%} of the items", numbers)
    named = ", ".join(f"{check} {count} of {items}" for check, count in many.rows())
    return Outcome(
        False, f"checks that report more than {maximum:.0%}: {named}", numbers, many.head(EXAMPLE_ROWS)
    )


def language_doubts_few(doubts: pl.LazyFrame, items: int, maximum: float) -> Outcome:
    """The texts of no more than a share of ``maximum`` of the ``items`` look like another language than the declared one.

    ``doubts``: ``clean.LANGUAGE_DOUBTS``.
    """
    found = doubts.select("item_id", "column", "declared", "evidence", "found").collect()
    doubted = found["item_id"].n_unique()
    numbers = {"items_in_doubt": doubted, "items": items}
    said = f"{doubted} of {items} items have a text that does not look like its declared language"
    if doubted <= maximum * items:
        return Outcome(True, said, numbers)
    return Outcome(False, said, numbers, found.head(EXAMPLE_ROWS))


def faces_acted_on(
    items: pl.LazyFrame, images: pl.LazyFrame, settings: PiiImages, decided: pl.LazyFrame
) -> Outcome:
    """Every item's picture was searched for faces, and none stays that shows one where those are removed.

    ``items``: ITEMS; ``images``: IMAGES; ``decided``: item_id of items that a person decided to keep.
    """
    shown = items.filter(pl.col("image_ref").is_not_null())
    pictures = shown.join(images.select("image_ref", "faces"), on="image_ref", how="left").select(
        "item_id",
        "faces",
        is_decided=pl.col("item_id").is_in(decided.select("item_id").collect()["item_id"].implode()),
    )
    is_there = pl.lit(settings.faces in REMOVING) & (FACES_OF_PICTURE > 0) & ~pl.col("is_decided")
    found = pictures.with_columns(
        fault=pl.when(pl.col("faces").is_null()).then(pl.lit("not searched")).when(is_there).then(pl.lit("shows a face"))
    ).select("item_id", "fault").collect()  # fmt: skip
    wrong = found.drop_nulls("fault").sort("fault", "item_id")
    numbers = {
        "pictures": found.height,
        "unsearched": wrong.filter(fault="not searched").height,
        "with_faces": wrong.filter(fault="shows a face").height,
    }
    if wrong.is_empty():
        return Outcome(True, f"{found.height:,} items' pictures were searched for faces", numbers)
    return Outcome(
        False,
        f"of {found.height:,} items that stay, the pictures of {numbers['unsearched']:,} could not be searched for faces, "
        f"and those of {numbers['with_faces']:,} show one",
        numbers,
        wrong.head(EXAMPLE_ROWS),
    )


def faces_hidden(still_there: pl.DataFrame, searched: int) -> Outcome:
    """The detector finds no face where one was blurred in a released picture.

    ``still_there``: item_id, folder and score of what it finds; ``searched``: released pictures with a blurred face.
    """
    numbers = {"pictures_with_blurred_faces": searched, "faces_still_there": still_there.height}
    if still_there.is_empty():
        return Outcome(True, f"no face is found again in {searched:,} pictures with blurred faces", numbers)
    return Outcome(
        False,
        f"in {searched:,} pictures with blurred faces, {still_there.height:,} faces are still found, such as in item "
        f"{still_there['item_id'][0]!r}",
        numbers,
        still_there.head(EXAMPLE_ROWS),
    )
