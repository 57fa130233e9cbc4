"""Where labels come from, and whether they are good: ``labels.json``.

Keys: ``by_source`` (who or what gave them, by split), ``contradictions`` (merged duplicates with another
label), ``same_content`` (groups of items with the same picture or text, and how often their labels differ),
``agreement`` (of several annotators), ``errors`` (candidates found by a model, and classes that it confuses) and
``audit`` (what people found who looked at a sample).

Belongs here: judging labels, by counting, by models' out-of-fold probabilities and by samples. Does not belong
here: making embeddings (``adapters/clip.py``) and predicting labels as a benchmark (``baselines.py``).
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dataset_pipeline.config import Baselines, ClipModel, LabelQuality
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages.baselines import Embeddings, features, inputs_of
from dataset_pipeline.stages.intervals import wilson_interval
from dataset_pipeline.stages.leak_groups import IMAGE_KINDS
from dataset_pipeline.stages.statistics import items_by_split
from dataset_pipeline.tables import LABEL_CANDIDATES

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_SHOWN: Final = 20
_SHOWN_CANDIDATES: Final = 100
_REGULARISATION: Final = (0.001, 0.01, 0.1)
"""Candidates for scikit-learn's C; the accuracy on the first fold chooses."""
_SLICE: Final = 8192
_DRAWS: Final = 1000
_MOSTLY: Final = 0.9


def label_sources(items: pl.LazyFrame) -> list[dict[str, Any]]:
    """[{value, items, splits}] of label_source, most frequent first."""
    return items_by_split(items, "label_source")


# -- contradictions ------------------------------------------------------------------------


def merged_contradictions(
    items: pl.LazyFrame, removed: pl.LazyFrame, conflicts: pl.LazyFrame
) -> dict[str, Any]:
    """How often merged duplicates disagree on the label.

    ``conflicts``: item_id, kept_item_id, column, value, kept_value of merged duplicates. Two labels on
    one picture or text cannot both be right, so their share among merged duplicates estimates label
    noise without a model; the interval is Wilson's (1927), at 95 %. Only duplicates count that have a
    label, as the item they duplicate has: ``with_both_labels``.
    """
    duplicates = removed.filter(pl.col("reason") == "duplicate").select("item_id", "kept_item_id")
    differ = conflicts.filter(pl.col("column") == "label")
    one_missing = differ.filter(pl.col("value").is_null() | pl.col("kept_value").is_null())
    labelled = items.drop_nulls("label").select(kept_item_id="item_id")
    comparable = duplicates.join(labelled, on="kept_item_id", how="semi").join(
        one_missing, on="item_id", how="anti"
    )
    wrong = differ.drop_nulls(["value", "kept_value"]).sort("item_id").collect()
    compared = _height(comparable)
    return {
        "merged_duplicates": _height(duplicates),
        "with_both_labels": compared,
        "with_another_label": wrong.height,
        "share": _rounded(wrong.height / compared) if compared else None,
        "interval": list(wilson_interval(wrong.height, compared)) if compared else None,
        "examples": wrong.select("item_id", "kept_item_id", "value", "kept_value").head(_SHOWN).to_dicts(),
    }


def same_content(items: pl.LazyFrame, pairs: pl.LazyFrame) -> dict[str, dict[str, Any]]:
    """How often items with the same content carry different labels, before duplicates are merged.

    ``items``: item_id and label of all cleaned items; ``pairs``: PAIRS, of which those of pictures and those
    of texts are looked at apart ('image', 'text'). ``share`` is the probability that two items of one group differ, averaged over the
    groups with two labelled items or more. Its interval is Wilson's with the groups as trials: a group's own share
    lies between 0 and 1, so that it varies no more than a yes or no. Where labels are given independently, each
    wrong with the same probability e and no two wrong in the same way, two differ with probability
    1 - (1 - e)^2: ``error_share`` is that e, a lower bound where errors coincide. Where one label was copied to all items of a picture, it says nothing.
    """
    frame = items.select("item_id", "label").sort("item_id").collect().with_row_index("row")
    is_image = pl.col("kind").is_in(IMAGE_KINDS)
    return {
        "image": _disagreement(frame, pairs.filter(is_image)),
        "text": _disagreement(frame, pairs.filter(~is_image)),
    }


def _disagreement(frame: pl.DataFrame, pairs: pl.LazyFrame) -> dict[str, Any]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    row = frame.lazy().select("item_id", "row")
    edges = (
        pairs.select("item_id", "other_item_id")
        .join(row, on="item_id")
        .join(row.rename({"item_id": "other_item_id", "row": "other_row"}), on="other_item_id")
        .select("row", "other_row")
        .collect()
    )
    ends = edges["row"].to_numpy(), edges["other_row"].to_numpy()
    # Exact kinds are stars around one item, which may have no label: components first, labels then.
    graph = coo_array((np.ones(edges.height, np.int8), ends), shape=(frame.height, frame.height))
    _count, component = connected_components(graph, directed=False)
    labelled = frame.with_columns(group=component).drop_nulls("label")
    groups = (
        labelled.group_by("group", "label")
        .agg(n=pl.len())
        .group_by("group")
        .agg(items=pl.col("n").sum(), same=(pl.col("n") * (pl.col("n") - 1)).sum(), labels=pl.len())
        .filter(pl.col("items") > 1)
        .with_columns(
            differ=1
            - pl.col("same").cast(pl.Float64) / (pl.col("items") * (pl.col("items") - 1)).cast(pl.Float64)
        )
        .sort("group")
    )
    odd = groups.filter(pl.col("labels") > 1)
    examples = (
        labelled.join(odd, on="group", how="semi")
        .sort("item_id")
        .group_by("group", maintain_order=True)
        .agg(
            item_ids=pl.col("item_id").unique(maintain_order=True).head(4),
            labels=pl.col("label").unique(maintain_order=True).sort(),
        )
        .head(_SHOWN)
    )
    found: dict[str, Any] = {
        "groups": groups.height,
        "items": int(groups["items"].sum()),
        "contradicting_groups": odd.height,
        "share": None,
        "interval": None,
        "error_share": None,
        "error_interval": None,
        "examples": examples.drop("group").to_dicts(),
    }
    if groups.height:
        share = _number(groups["differ"].mean())
        low, high = wilson_interval(share * groups.height, groups.height)
        found |= {
            "share": _rounded(share),
            "interval": [low, high],
            "error_share": _error_share(share),
            "error_interval": [_error_share(low), _error_share(high)],
        }
    return found


def _error_share(differ: float) -> float:
    """The e of 1 - (1 - e) ** 2 = differ."""
    return _rounded(1 - math.sqrt(max(0.0, 1 - differ)))


# -- agreement -----------------------------------------------------------------------------


def agreement(annotations: pl.LazyFrame, items: pl.LazyFrame, seed: int) -> dict[str, Any] | None:
    """Krippendorff's alpha (nominal) of the annotators of the released items; None: no item has two labels.

    ``annotations``: item_id, annotator, label; ``items``: item_id, label as released. Alpha is 1 - Do / De
    (Krippendorff, "Computing Krippendorff's alpha-reliability", 2011): 1 is full agreement, 0 what chance gives.
    The interval is a 95 % percentile bootstrap over items that holds De fixed, as his own algorithm does.
    ``by_annotator``: how many labels each gave, and the share of them that the released label follows.
    """
    given = (
        annotations.drop_nulls("label")
        .join(items.select("item_id", released="label"), on="item_id")
        .collect()
    )
    counts = given.group_by("item_id", "label").agg(n=pl.len())
    units = (
        counts.group_by("item_id")
        .agg(
            labels=pl.col("n").sum().cast(pl.Int64),
            agreeing=(pl.col("n") * (pl.col("n") - 1)).sum().cast(pl.Float64),
            distinct=pl.len(),
        )
        .filter(pl.col("labels") > 1)
        .with_columns(observed=pl.col("agreeing") / (pl.col("labels") - 1))
    )
    if units.is_empty():
        return None
    values = counts.join(units, on="item_id", how="semi").group_by("label").agg(pl.col("n").sum())
    total = int(units["labels"].sum())
    per_value = values["n"].cast(pl.Float64).to_numpy()
    expected = 1 - float((per_value * (per_value - 1)).sum()) / (total * (total - 1))
    kinds = units.group_by("labels", "observed").len("units").sort("labels", "observed")
    sizes, agreed = kinds["labels"].to_numpy().astype(np.float64), kinds["observed"].to_numpy()
    weight = kinds["units"].to_numpy().astype(np.float64)
    alpha, interval = None, None
    if expected > 0:  # one value alone: there was nothing to agree or disagree on
        alpha = _rounded(1 - (1 - (weight @ agreed) / (weight @ sizes)) / expected)
        draws = np.random.default_rng(seed).multinomial(units.height, weight / weight.sum(), _DRAWS)
        drawn = 1 - (1 - (draws @ agreed) / (draws @ sizes)) / expected
        interval = [_rounded(bound) for bound in np.percentile(drawn, [2.5, 97.5])]
    per_annotator = (
        given.group_by("annotator")
        .agg(
            labels=pl.len(),
            compared=pl.col("released").is_not_null().sum(),
            as_released=(pl.col("label") == pl.col("released")).sum(),
        )
        .sort("annotator")
    )
    disagreeing = units.filter(pl.col("distinct") > 1)
    return {
        "items": units.height,
        "labels": total,
        "alpha": alpha,
        "interval": interval,
        "unanimous_items": units.height - disagreeing.height,
        "by_annotator": [
            {
                "annotator": row["annotator"],
                "labels": row["labels"],
                "as_released": _rounded(row["as_released"] / row["compared"]) if row["compared"] else None,
            }
            for row in per_annotator.to_dicts()
        ],
    }


# -- label errors --------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What a model sees of n items.

    ``features``: rows -> (rows, dimensions) float32; ``content``: (n,) equal for items that look the same,
    -1 where an item shows nothing; ``description``: in words.
    """

    features: Callable[[Ints], Floats]
    content: Ints
    description: str


def shown_by(vectors: Embeddings) -> Shown:
    """What a model's embeddings show: picture and text where nearly all items have both, else the commoner one."""
    has = dict(inputs_of(vectors))
    if not has:
        nothing = np.full(len(vectors.image_row), -1, np.int64)
        return Shown(lambda rows: np.zeros((len(rows), 0), np.float32), nothing, vectors.description)
    most = max(int(there.sum()) for there in has.values())
    inputs = [name for name, there in has.items() if there.sum() >= _MOSTLY * most][-1]
    parts = [
        row for name, row in (("image", vectors.image_row), ("text", vectors.text_row)) if name in inputs
    ]
    _values, content = np.unique(np.stack(parts), axis=1, return_inverse=True)
    return Shown(
        lambda rows: features(vectors, inputs, rows),
        np.where(has[inputs], content.ravel(), -1),
        f"{inputs.replace('+', ' and ')}: {vectors.description}",
    )


@dataclass(frozen=True)
class Errors:
    """Report and ranked candidates (LABEL_CANDIDATES)."""

    report: dict[str, Any]
    candidates: pl.DataFrame


def model_to_look_with(
    settings: Baselines, wanted: LabelQuality, captions_show_labels: bool
) -> ClipModel | None:
    """The model whose embeddings the search for wrong labels looks at; None: classical features.

    Where nobody names one, it is the first that was not trained on the labels: such a model would not find them wrong.
    """
    models = settings.models if settings.enabled else ()
    if wanted.features == "auto":
        models = tuple(model for model in models if model.train is None or not captions_show_labels)
        return next(iter(models), None)
    return next((model for model in models if model.name == wanted.features), None)


def find_errors(items: pl.DataFrame, shown: Shown, settings: LabelQuality, seed: int) -> Errors:
    """Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang, 2021).

    ``items``: item_id, label, split, leak_group, sorted by item_id. Multinomial logistic regression gives every item
    the probabilities of a model that has seen no member of its leak group. A class's threshold is the mean
    probability of it among the items labelled so. An item whose own label stays below its threshold, while another is
    more probable, is a candidate; candidates are ranked by the probability of their own label, lowest first. For the
    classes that are confused, an item counts for the most probable class of those whose threshold it reaches, as in
    the paper's confident joint. A label that one leak group alone carries cannot be judged, for no
    model without that group knows it.
    """
    labels = [str(label) for label in items["label"].drop_nulls().unique().sort()]
    code = {label: number for number, label in enumerate(labels)}
    target = items["label"].replace_strict(code, default=-1, return_dtype=pl.Int64).to_numpy()
    groups: Ints = items["leak_group"].rank("dense").cast(pl.Int64).to_numpy() - 1
    rows = np.flatnonzero((target >= 0) & (shown.content >= 0))
    if len(rows) == 0 or len(np.unique(target[rows])) < 2 or len(np.unique(groups[rows])) < 2:
        return no_errors("there are not two labels in two leak groups")
    found = _out_of_fold(target, groups, rows, len(labels), shown, settings, seed)
    is_judged = found.own >= 0
    guessed = np.where(is_judged & (found.confident >= 0), found.confident, -1)
    is_odd = is_judged & found.is_doubtful & (found.predicted != target[rows])
    joint = np.zeros((len(labels), len(labels)), np.int64)
    known = guessed >= 0
    np.add.at(joint, (target[rows][known], guessed[known]), 1)
    names = np.array(labels, dtype=object)
    places = rows[is_odd]
    candidates = (
        items[places.tolist()]
        .select(
            "item_id", "split", "label", "leak_group",
            suggested=pl.Series(names[found.predicted[is_odd]].tolist(), dtype=pl.String),
            own_probability=pl.Series(np.round(found.own[is_odd].astype(np.float64), 6)),
            suggested_probability=pl.Series(np.round(found.best[is_odd].astype(np.float64), 6)),
            content=pl.Series(shown.content[places]),
        )
        .sort("own_probability", "item_id")
    )  # fmt: skip
    one_each = candidates.unique(["content", "label"], keep="first", maintain_order=True)
    judged = int(is_judged.sum())
    report: dict[str, Any] = {
        "features": shown.description,
        "folds": settings.folds,
        "regularisation_c": found.strength,
        "judged_items": judged,
        "not_judged_items": int((target >= 0).sum()) - judged,
        "accuracy": _rounded((found.predicted[is_judged] == target[rows][is_judged]).mean())
        if judged
        else None,
        "candidates": candidates.height,
        "by_class": _by_class(labels, target[rows][is_judged], is_odd[is_judged]),
        "confused": _confused(labels, joint),
        "examples": one_each.head(_SHOWN_CANDIDATES).drop("content", "leak_group").to_dicts(),
        "why_none": None,
    }
    return Errors(report, candidates.select(list(LABEL_CANDIDATES)))


def no_errors(why: str) -> Errors:
    """Nothing was searched for, and why."""
    report: dict[str, Any] = {
        "features": None,
        "folds": None,
        "regularisation_c": None,
        "judged_items": 0,
        "not_judged_items": 0,
        "accuracy": None,
        "candidates": 0,
        "by_class": [],
        "confused": [],
        "examples": [],
        "why_none": why,
    }
    return Errors(report, pl.DataFrame(schema=dict(LABEL_CANDIDATES)))


@dataclass(frozen=True)
class _OutOfFold:
    """Of every row: probability of its own label (-1: not judged), the most probable label, and the confident one."""

    own: Floats
    predicted: Ints
    confident: Ints
    """-1: no class whose threshold the item reaches."""
    best: Floats
    """Probability of the most probable label."""
    is_doubtful: NDArray[np.bool_]
    """Whether the item's own label stays below its class's threshold."""
    strength: float | None


def _out_of_fold(
    target: Ints, groups: Ints, rows: Ints, labels: int, shown: Shown, settings: LabelQuality, seed: int
) -> _OutOfFold:
    """Two passes over the items, so that no (items, labels) table of probabilities is held."""
    fold = folds_of(target[rows], groups[rows], settings.folds, seed)
    models: list[Any] = []
    strength: float | None = None
    for number in range(settings.folds):
        train = rows[fold != number]
        if len(train) == 0 or not (fold == number).any():
            models.append(None)
            continue
        picked, weights = _sample(train, target, shown.content, settings.max_training_items, seed + number)
        if strength is None:
            held = rows[fold == number][:_SLICE]
            strength = _chosen_strength(picked, weights, target, shown, held)
        models.append(_fitted(shown.features(picked), target[picked], weights, strength))
    own = np.full(len(rows), -1, np.float32)
    predicted = np.full(len(rows), -1, np.int64)
    best = np.zeros(len(rows), np.float32)

    def slices() -> Iterator[tuple[Ints, Floats]]:
        for number, model in enumerate(models):
            places = np.flatnonzero(fold == number)
            for start in range(0, len(places) if model is not None else 0, _SLICE):
                part = places[start : start + _SLICE]
                yield part, _probabilities(model, shown.features(rows[part]), labels)

    for part, chance in slices():
        mine = chance[np.arange(len(part)), target[rows[part]]]
        # Exactly 0: that fold's model has never seen the label.
        own[part] = np.where(mine > 0, mine, -1)
        predicted[part] = chance.argmax(axis=1)
        best[part] = chance.max(axis=1)
    thresholds = np.full(labels, np.inf, np.float32)
    for label in range(labels):
        if (its := own[(target[rows] == label) & (own >= 0)]).size:
            thresholds[label] = its.mean(dtype=np.float64)
    confident = np.full(len(rows), -1, np.int64)
    for part, chance in slices():
        reached = np.where(chance >= thresholds - 1e-6, chance, -1)
        confident[part] = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)
    return _OutOfFold(own, predicted, confident, best, own < thresholds[target[rows]], strength)


def folds_of(target: Ints, groups: Ints, folds: int, seed: int) -> Ints:
    """(n,) fold of every item: whole groups, each label's groups dealt out in turn, large ones first."""
    _names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    pairs, counts = np.unique(np.stack([codes, target]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], counts, pairs[0]))
    last = np.append(np.flatnonzero(np.diff(pairs[0][order])), len(order) - 1)
    major = pairs[1][order][last]  # the commonest label of each group
    luck = np.random.default_rng(seed).permutation(len(sizes))
    dealt = np.lexsort((luck, -sizes, major))
    fold = np.empty(len(sizes), np.int64)
    # Going on where the label before stopped keeps folds of like size though most labels are rare.
    fold[dealt] = np.arange(len(sizes)) % folds
    found: Ints = fold[codes]
    return found


def _sample(
    train: Ints, target: Ints, content: Ints, limit: int, seed: int
) -> tuple[Ints, NDArray[np.float64]]:
    """First item of each distinct (content, label) and how many are like it; at most ``limit``, at random."""
    _values, first, counts = np.unique(
        np.stack([content[train], target[train]]), axis=1, return_index=True, return_counts=True
    )
    if len(first) > limit:
        chosen = np.random.default_rng(seed).choice(len(first), limit, replace=False)
        first, counts = first[chosen], counts[chosen]
    order = np.argsort(first)
    return train[first[order]], counts[order].astype(np.float64)


def _chosen_strength(
    picked: Ints, weights: NDArray[np.float64], target: Ints, shown: Shown, held: Ints
) -> float:
    """By accuracy, as for the linear probe: with wrong labels among them, the log-loss prefers timid models."""
    x, y, x_held = shown.features(picked), target[picked], shown.features(held)
    labels = int(target.max()) + 1

    def accuracy(strength: float) -> float:
        chance = _probabilities(_fitted(x, y, weights, strength), x_held, labels)
        return float((chance.argmax(axis=1) == target[held]).mean())

    return max(_REGULARISATION, key=accuracy)


def _fitted(x: Floats, y: Ints, weights: NDArray[np.float64], strength: float) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(y)) < 2:
        return DummyClassifier(strategy="prior").fit(x, y)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200, tol=1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 200 steps are part of the method, converged or not
        model.fit(x, y, standardscaler__sample_weight=weights, logisticregression__sample_weight=weights)
    return model


def _probabilities(model: Any, x: Floats, labels: int) -> Floats:
    """(rows, labels): exactly 0 for a label that the model has never seen, more than 0 otherwise."""
    chance = np.zeros((len(x), labels), np.float32)
    chance[:, model.classes_] = np.maximum(model.predict_proba(x), 1e-12)
    return chance


def _by_class(labels: Sequence[str], target: Ints, is_odd: NDArray[np.bool_]) -> list[dict[str, Any]]:
    items = np.bincount(target, minlength=len(labels))
    odd = np.bincount(target[is_odd], minlength=len(labels))
    rows: list[dict[str, Any]] = [
        {"label": label, "items": int(n), "candidates": int(c)}
        for label, n, c in zip(labels, items, odd, strict=True)
        if n
    ]
    return sorted(rows, key=lambda row: (-row["candidates"], row["label"]))


def _confused(labels: Sequence[str], joint: Ints) -> list[dict[str, Any]]:
    """Pairs of classes that the confident joint puts into one another, most items first."""
    both = np.triu(joint + joint.T, 1)
    first, second = np.nonzero(both)
    rows: list[dict[str, Any]] = [
        {
            "label": labels[a],
            "other": labels[b],
            "items": int(both[a, b]),
            "as_other": int(joint[a, b]),
            "as_label": int(joint[b, a]),
        }
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["items"], row["label"], row["other"]))[:_SHOWN]


# -- audit ---------------------------------------------------------------------------------


VERDICTS: Final = ("right", "wrong", "unsure")


def audit_sample(items: pl.DataFrame, size: int, seed: int) -> pl.DataFrame:
    """``size`` labelled items at random, in each split in proportion to its size but two at least; sorted by id.

    ``items``: item_id, split, label. Few items of a split are all taken. The same call gives the same sample.
    """
    labelled = items.drop_nulls("label").sort("item_id")
    sizes = labelled.group_by("split").len("n").sort("split")
    generator = np.random.default_rng(seed)
    parts = []
    for split, count in sizes.iter_rows():
        wanted = min(count, max(2, round(size * count / labelled.height)))
        part = labelled.filter(pl.col("split") == split)
        parts.append(part[sorted(generator.choice(count, wanted, replace=False).tolist())])
    return pl.concat(parts).sort("item_id") if parts else labelled


def audit_estimate(verdicts: pl.DataFrame, items: pl.DataFrame) -> dict[str, Any]:
    """Share of wrong labels from an audited sample, with a 95 % interval.

    ``verdicts``: item_id, label (as the auditor saw it), verdict; ``items``: item_id, split, label of the release.
    Splits are strata: their shares are weighted by their labelled items (Cochran, 1977). The interval is Clopper and
    Pearson's with the effective sample size of Korn and Graubard (1998), which holds for few and for no errors.
    Items that the release has no more, or with another label by now, are counted as ``outdated`` and left
    out; ``unsure`` counts neither as right nor as wrong. Raises ``ConfigError`` for a verdict that is none.
    """
    from scipy.stats import beta

    filled = verdicts.with_columns(pl.col("verdict").str.strip_chars().str.to_lowercase()).filter(
        pl.col("verdict").fill_null("") != ""
    )
    odd = filled.filter(~pl.col("verdict").is_in(VERDICTS))["verdict"].unique().sort().to_list()
    if odd:
        raise ConfigError(f"verdicts are {', '.join(VERDICTS)}, found {odd[0]!r}")
    twice = filled.filter(pl.col("item_id").is_duplicated())["item_id"].unique().sort().to_list()
    if twice:
        raise ConfigError(f"an item is in the audit twice: {twice[0]!r}")
    labelled = items.drop_nulls("label")
    known = filled.join(labelled.select("item_id", "split", now="label"), on="item_id").filter(
        pl.col("label") == pl.col("now")
    )
    decided = known.filter(pl.col("verdict") != "unsure")
    strata = (
        decided.group_by("split")
        .agg(looked_at=pl.len(), wrong=(pl.col("verdict") == "wrong").sum())
        .join(labelled.group_by("split").len("items"), on="split")
        .sort("split")
    )
    report: dict[str, Any] = {
        "looked_at": decided.height,
        "wrong": int(strata["wrong"].sum()),
        "unsure": known.height - decided.height,
        "outdated": filled.height - known.height,
        "not_filled_in": verdicts.height - filled.height,
        "share": None,
        "interval": None,
        "by_split": [
            {**row, "interval": list(wilson_interval(row["wrong"], row["looked_at"]))}
            for row in strata.select("split", "items", "looked_at", "wrong").to_dicts()
        ],
        "splits_without": sorted(set(labelled["split"].unique()) - set(strata["split"])),
        "wrong_items": decided.filter(pl.col("verdict") == "wrong")
        .sort("item_id")
        .select("item_id", "label")
        .head(_SHOWN_CANDIDATES)
        .to_dicts(),
    }
    if decided.is_empty():
        return report
    weight = strata["items"].to_numpy() / strata["items"].sum()
    n, wrong = strata["looked_at"].to_numpy().astype(np.float64), strata["wrong"].to_numpy()
    share = float(weight @ (wrong / n))
    total = float(n.sum())
    inside = wrong / n * (1 - wrong / n) / np.maximum(n - 1, 1)
    variance = float(weight**2 @ inside)
    effective = min(total, share * (1 - share) / variance) if variance > 0 else total
    hits = share * effective
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, effective - hits + 1))
    high = 1.0 if hits >= effective else float(beta.ppf(0.975, hits + 1, effective - hits))
    return {**report, "share": _rounded(share), "interval": [_rounded(low), _rounded(high)]}


# -- parts ---------------------------------------------------------------------------------


def _height(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect().item())


def _number(value: Any) -> float:
    return float(value)


def _rounded(value: Any) -> float:
    return float(f"{float(value):.6g}")
