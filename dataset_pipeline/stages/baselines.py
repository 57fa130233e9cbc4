"""How well simple models predict the labels of the test split, with intervals.

Belongs here: classifiers on embeddings, metrics, and the tables they are recomputed from. Does not
belong here: making embeddings (``adapters/clip.py``). Every number of the report can be recomputed
from the prediction tables and ``metadata/items.parquet``.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dataset_pipeline.config import Baselines as BaselineSettings

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TOP = 5
_REGULARISATION = (0.01, 0.1, 1.0)
"""Candidates for scikit-learn's C; the validation split chooses."""
_HISTOGRAM_BINS = 40

LEADERBOARD = {
    "model": pl.String(),
    "task": pl.String(),
    "inputs": pl.String(),
    "top1": pl.Float64(),
    "top1_low": pl.Float64(),
    "top1_high": pl.Float64(),
    "top5": pl.Float64(),
    "macro_f1": pl.Float64(),
    "n_test": pl.Int64(),
}


@dataclass(frozen=True)
class Embeddings:
    """One model's embeddings of the items, and of the labels' prompts.

    ``image`` and ``text``: (distinct, dimensions) float32 of length 1; ``image_row`` and
    ``text_row``: (items,) rows of them, -1 where an item has none; ``label``: (labels, dimensions),
    the mean embedding of each label's prompts, of length 1. ``has_seen_labels``: the model was trained
    on prompts of the labels, so that comparing with them is no zero-shot classification.
    """

    description: str
    image: Floats
    image_row: Ints
    text: Floats
    text_row: Ints
    label: Floats
    has_seen_labels: bool = False


@dataclass(frozen=True)
class Results:
    """The report (JSON), the leaderboard, and predictions by file name."""

    report: dict[str, Any]
    leaderboard: pl.DataFrame
    predictions: dict[str, pl.DataFrame]


@dataclass(frozen=True)
class _Problem:
    """The classification task: items with a label, as arrays."""

    items: pl.DataFrame
    labels: list[str]
    target: Ints
    train: Ints
    validation: Ints
    test: Ints


def item_text(text_columns: Sequence[str]) -> pl.Expr:
    """All texts of an item as one, in the order of the columns; null where it has none."""
    if not text_columns:
        return pl.lit(None, pl.String).alias("text")
    joined = pl.concat_str([pl.col(name) for name in text_columns], separator=". ", ignore_nulls=True)
    return pl.when(joined != "").then(joined).alias("text")


def label_prompts(labels: Sequence[str], prompts: Sequence[str]) -> list[list[str]]:
    """Every prompt template filled with every label: (labels, prompts)."""
    return [[prompt.replace("{label}", label) for prompt in prompts] for label in labels]


def mean_of_prompts(vectors: Floats, labels: int) -> Floats:
    """(labels, dimensions): the normalised mean of each label's prompts (Radford et al., 2021, 3.1.4)."""
    mean = vectors.reshape(labels, -1, vectors.shape[1]).mean(axis=1)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def labels_of(items: pl.DataFrame) -> list[str]:
    """The labels, sorted."""
    return [str(label) for label in items["label"].drop_nulls().unique().sort()]


def training_captions(items: pl.DataFrame, prompts: Sequence[str]) -> pl.DataFrame:
    """sha256 and captions (a list) of every picture of the training split, sorted.

    A picture's captions are the texts of its items; where it has none, its labels' prompts. No item of
    another split has a say.
    """
    train = items.filter(pl.col("split") == "train", pl.col("image_sha256").is_not_null())
    labels = labels_of(train)
    filled = pl.DataFrame(
        {"label": labels, "prompts": label_prompts(labels, prompts)},
        schema={"label": pl.String, "prompts": pl.List(pl.String)},
    )
    own = (
        train.join(filled, on="label", how="left")
        .group_by("image_sha256")
        .agg(
            texts=pl.col("text").drop_nulls().unique().sort(),
            prompts=pl.col("prompts")
            .explode(empty_as_null=True, keep_nulls=True)
            .drop_nulls()
            .unique()
            .sort(),
        )
    )
    captions = pl.when(pl.col("texts").list.len() > 0).then("texts").otherwise("prompts")
    return (
        own.select(sha256="image_sha256", captions=captions)
        .filter(pl.col("captions").list.len() > 0)
        .sort("sha256")
    )


def captions_show_labels(items: pl.DataFrame) -> bool:
    """Whether :func:`training_captions` holds prompts of labels: a picture of the training split has no text."""
    train = items.filter(pl.col("split") == "train", pl.col("image_sha256").is_not_null())
    pictures = train.group_by("image_sha256").agg(
        pl.col("text").is_not_null().any(), pl.col("label").is_not_null().any()
    )
    return not pictures.filter(~pl.col("text") & pl.col("label")).is_empty()


def embeddings(
    items: pl.DataFrame,
    images: pl.DataFrame,
    texts: pl.DataFrame,
    prompts: Sequence[str],
    labels: int,
    description: str,
    has_seen_labels: bool = False,
) -> Embeddings:
    """Cached embeddings as arrays.

    ``images``: sha256, embedding; ``texts``: text, embedding, of all texts and ``prompts``, which are
    in the order of :func:`label_prompts`.
    """
    image, text = _matrix(images["embedding"]), _matrix(texts["embedding"])
    prompt_rows = rows_of(pl.Series(prompts, dtype=pl.String), texts["text"])
    return Embeddings(
        description=description,
        image=image,
        image_row=rows_of(items["image_sha256"], images["sha256"]),
        text=text,
        text_row=rows_of(items["text"], texts["text"]),
        label=mean_of_prompts(text[prompt_rows], labels) if labels else np.zeros((0, 0), np.float32),
        has_seen_labels=has_seen_labels,
    )


def no_embeddings(items: pl.DataFrame, description: str) -> Embeddings:
    """Of a model that cannot see anything of this dataset."""
    nothing, nowhere = np.zeros((0, 0), np.float32), np.full(items.height, -1, np.int64)
    return Embeddings(description, nothing, nowhere, nothing, nowhere, nothing)


def _matrix(vectors: pl.Series) -> Floats:
    if vectors.is_empty():
        return np.zeros((0, 0), np.float32)
    width = int(vectors.list.len()[0])
    flat: Floats = vectors.explode().to_numpy().astype(np.float32, copy=False)
    return flat.reshape(len(vectors), width)


def rows_of(wanted: pl.Series, there: pl.Series) -> Ints:
    """Row of each wanted value in ``there``; -1 where it is null or not there."""
    rows = pl.DataFrame({"value": there, "row": np.arange(len(there))})
    found = pl.DataFrame({"value": wanted}).join(rows, on="value", how="left", maintain_order="left")
    codes: Ints = found["row"].fill_null(-1).cast(pl.Int64).to_numpy()
    return codes


def evaluate(
    items: pl.DataFrame, embeddings: Mapping[str, Embeddings], settings: BaselineSettings, seed: int
) -> Results:
    """Every baseline on the test split.

    ``items``: rows with item_id, split, label, language and leak_group, sorted by item_id; the
    embeddings' rows refer to that order. Intervals are 95 % percentile intervals of a bootstrap that draws
    leak groups, not items: the 14 captions of one picture are not 14 observations.
    """
    problem = _problem(items)
    groups = _codes(items["leak_group"])
    tested = np.flatnonzero(items["split"].to_numpy() == "test")  # with or without a label
    rows: list[dict[str, Any]] = []
    predictions: dict[str, pl.DataFrame] = {}
    details: dict[str, Any] = {}

    def add(model: str, task: str, inputs: str, scores: Floats, test: Ints, extra: Mapping[str, Any]) -> None:
        """``scores``: (len(test), labels), higher is more likely."""
        name = _prediction_name(model, task, inputs)
        table = _predictions(items, problem, scores, test)
        predictions[name] = table
        row = leaderboard_row(table, groups[test], settings.bootstrap_samples, seed)
        rows.append({"model": model, "task": task, "inputs": inputs, **row})
        details[name] = {
            **extra,
            "per_class": _accuracy_by(table, "label"),
            "per_language": _accuracy_by(
                table.with_columns(items[test.tolist()].select("language")), "language"
            ),
        }

    if len(problem.labels) >= 2 and len(problem.test) and len(problem.train):
        for name, scores in _trivial(problem, seed).items():
            add(name, "classification", "none", scores, problem.test, {})
        for model, vectors in embeddings.items():
            prompted = "prompts of labels" if vectors.has_seen_labels else "zero-shot"
            for inputs, has in inputs_of(vectors):
                test = problem.test[has[problem.test]]
                if len(test) == 0:
                    continue
                add(model, prompted, inputs, _zero_shot(vectors, inputs, test), test, {})
                probed = _linear_probe(problem, vectors, inputs, has, test, seed)
                if probed is not None:
                    add(model, "linear probe", inputs, probed[0], test, {"regularisation_c": probed[1]})
    leaderboard = pl.DataFrame(rows, schema=LEADERBOARD)
    return Results(
        report={
            "leaderboard": leaderboard.to_dicts(),
            "details": details,
            "models": {name: vectors.description for name, vectors in embeddings.items()},
            "similarity": {
                name: similarity
                for name, vectors in embeddings.items()
                if (similarity := true_against_shuffled(vectors, tested, groups, seed)) is not None
            },
            "labels": len(problem.labels),
            "interval": f"95 % percentile bootstrap over leak groups, {settings.bootstrap_samples} samples",
            "prompts": list(settings.prompts),
            "seed": seed,
        },
        leaderboard=leaderboard,
        predictions=predictions,
    )


def leaderboard_row(table: pl.DataFrame, groups: Ints, samples: int, seed: int) -> dict[str, Any]:
    """Metrics of one prediction table; ``groups``: (rows,) the unit that the bootstrap draws."""
    right = (table["predicted"] == table["label"]).to_numpy()
    low, high = cluster_bootstrap(right, groups, samples, seed)
    in_top = table.select(pl.col("top5").list.contains(pl.col("label"))).to_series()
    return {
        "top1": _rounded(right.mean()),
        "top1_low": _rounded(low),
        "top1_high": _rounded(high),
        "top5": _rounded(float(in_top.mean() or 0.0)),  # type: ignore[arg-type]
        "macro_f1": _rounded(macro_f1(table["label"], table["predicted"])),
        "n_test": table.height,
    }


def cluster_bootstrap(right: NDArray[np.bool_], groups: Ints, samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``right``, drawing whole groups (Field & Welsh, 2007)."""
    _names, codes = np.unique(groups, return_inverse=True)
    sizes = np.bincount(codes).astype(np.float64)
    hits = np.bincount(codes, weights=right.astype(np.float64))
    generator = np.random.default_rng(seed)
    means = np.empty(samples)
    for number in range(samples):  # one draw at a time: memory stays that of one draw
        drawn = generator.integers(0, len(sizes), len(sizes))
        means[number] = hits[drawn].sum() / sizes[drawn].sum()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_macro_f1(table: pl.DataFrame, groups: Ints, samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of :func:`macro_f1` of a prediction table, drawing whole groups."""
    names = pl.concat([table["label"], table["predicted"]]).unique().sort()
    label, predicted = (
        table[name].replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy()
        for name in ("label", "predicted")
    )
    _names, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    generator = np.random.default_rng(seed)
    values = np.empty(samples)
    for number in range(samples):
        drawn = np.bincount(generator.integers(0, count, count), minlength=count)[codes].astype(np.float64)
        truth, guessed, hits = (
            np.bincount(of, weights=drawn * holds, minlength=len(names))
            for of, holds in ((label, 1), (predicted, 1), (label, label == predicted))
        )
        is_there = truth > 0
        values[number] = (2 * hits[is_there] / (truth + guessed)[is_there]).mean()
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(label: pl.Series, predicted: pl.Series) -> float:
    """Mean F1 over the labels of the test items; a label that is never predicted counts 0."""
    frame = pl.DataFrame({"label": label, "predicted": predicted})
    truth = frame.group_by("label").agg(n=pl.len(), hits=(pl.col("label") == pl.col("predicted")).sum())
    guesses = frame.group_by("predicted").agg(guessed=pl.len())
    both = truth.join(guesses, left_on="label", right_on="predicted", how="left").fill_null(0)
    f1 = both.select((2 * pl.col("hits") / (pl.col("n") + pl.col("guessed"))).alias("f1")).to_series()
    return float(f1.mean() or 0.0)  # type: ignore[arg-type]


def true_against_shuffled(vectors: Embeddings, test: Ints, groups: Ints, seed: int) -> dict[str, Any] | None:
    """Cosine similarity of the test items' own picture and text, against another group's text.

    Returns the histograms of both and the AUC: the probability that a true pair is more similar
    than a shuffled one. None where the items have no picture or no text.
    """
    rows = test[(vectors.image_row[test] >= 0) & (vectors.text_row[test] >= 0)]
    if len(rows) < 2:
        return None
    other = np.random.default_rng(seed).permutation(rows)
    apart = groups[rows] != groups[other]
    if not apart.any():
        return None
    image = vectors.image[vectors.image_row[rows]]
    true = np.einsum("nd,nd->n", image, vectors.text[vectors.text_row[rows]])
    shuffled = np.einsum("nd,nd->n", image[apart], vectors.text[vectors.text_row[other[apart]]])
    edges = np.linspace(
        min(true.min(), shuffled.min()), max(true.max(), shuffled.max()) + 1e-6, _HISTOGRAM_BINS + 1
    )
    ranks = _ranks(np.concatenate([true, shuffled]))[: len(true)]
    auc = (ranks.sum() - len(true) * (len(true) + 1) / 2) / (len(true) * len(shuffled))
    return {
        "auc": _rounded(auc),
        "true_mean": _rounded(true.mean()),
        "shuffled_mean": _rounded(shuffled.mean()),
        "pairs": len(true),
        "edges": [_rounded(edge) for edge in edges],
        "true": np.histogram(true, edges)[0].tolist(),
        "shuffled": np.histogram(shuffled, edges)[0].tolist(),
    }


# -- other splits --------------------------------------------------------------------------


def on_other_splits(
    items: pl.DataFrame,
    embeddings: Mapping[str, Embeddings],
    results: Results,
    others: Mapping[str, pl.Series],
    settings: BaselineSettings,
    seed: int,
) -> list[dict[str, Any]]:
    """The linear probe of every model on the split of ``items`` and on ``others``: ``baselines.json``'s other_splits.

    Of a model's probes the one that sees most counts. It is trained and tested anew on each split of ``others``
    (name -> the split of every item) with the C of the release's own split. Embeddings are what they are: those of
    a model that was trained on this release's training split know part of every other split's test items, so
    ``known_share`` says how many of them were in that training split. Rows: model, inputs, split ('this' or a
    name), top1, macro_f1 with intervals, n_train, n_test, known_share.
    """
    groups = _codes(items["leak_group"])
    is_known = (items["split"] == "train").to_numpy()
    rows = []
    for model, vectors in embeddings.items():
        names = {
            inputs: _prediction_name(model, "linear probe", inputs) for inputs, _has in inputs_of(vectors)
        }
        probed = [inputs for inputs, name in names.items() if name in results.predictions]
        if not probed:
            continue
        inputs = probed[-1]
        strength = results.report["details"][names[inputs]]["regularisation_c"]
        has = dict(inputs_of(vectors))[inputs]
        for split, assigned in {"this": items["split"], **others}.items():
            problem = _problem(items.with_columns(split=assigned))
            test, train = problem.test[has[problem.test]], problem.train[has[problem.train]]
            if len(test) == 0:
                continue
            if split == "this":
                table = results.predictions[names[inputs]]
            else:
                strengths = _REGULARISATION if strength is None else (strength,)
                scored = _linear_probe(problem, vectors, inputs, has, test, seed, strengths)
                if scored is None:
                    continue
                table = _predictions(items, problem, scored[0], test)
            row = leaderboard_row(table, groups[test], settings.bootstrap_samples, seed)
            low, high = bootstrap_macro_f1(table, groups[test], settings.bootstrap_samples, seed)
            rows.append(
                {
                    "model": model,
                    "inputs": inputs,
                    "split": split,
                    **{key: row[key] for key in ("top1", "top1_low", "top1_high", "macro_f1")},
                    "macro_f1_low": _rounded(low),
                    "macro_f1_high": _rounded(high),
                    "n_train": len(train),
                    "n_test": len(test),
                    "known_share": _rounded(is_known[test].mean()),
                }
            )
    return rows


# -- parts ---------------------------------------------------------------------------------


def _prediction_name(model: str, task: str, inputs: str) -> str:
    return f"{model}__{task}__{inputs}".replace("/", "-").replace(" ", "-")


def _problem(items: pl.DataFrame) -> _Problem:
    labels = labels_of(items)
    code = {label: number for number, label in enumerate(labels)}
    target = items["label"].replace_strict(code, default=-1, return_dtype=pl.Int64).to_numpy()
    split = items["split"].to_numpy()
    known = target >= 0
    return _Problem(
        items,
        labels,
        target,
        *(np.flatnonzero(known & (split == name)) for name in ("train", "validation", "test")),
    )


def _trivial(problem: _Problem, seed: int) -> dict[str, Floats]:
    """Scores of guessing: uniformly at random, and always the commonest labels of the training split."""
    shape = (len(problem.test), len(problem.labels))
    frequency = np.bincount(problem.target[problem.train], minlength=len(problem.labels)).astype(np.float32)
    return {
        "random": np.random.default_rng(seed).random(shape, dtype=np.float32),
        "majority": np.broadcast_to(frequency / frequency.sum(), shape),
    }


def inputs_of(vectors: Embeddings) -> list[tuple[str, NDArray[np.bool_]]]:
    """What a model can look at: (name, which items have it)."""
    has_image, has_text = vectors.image_row >= 0, vectors.text_row >= 0
    found = [("image", has_image), ("text", has_text), ("image+text", has_image & has_text)]
    return [(name, has) for name, has in found if has.any()]


def features(vectors: Embeddings, inputs: str, rows: Ints) -> Floats:
    """(rows, dimensions) of items that have the input."""
    parts = []
    if "image" in inputs:
        parts.append(vectors.image[vectors.image_row[rows]].astype(np.float32, copy=False))
    if "text" in inputs:
        parts.append(vectors.text[vectors.text_row[rows]].astype(np.float32, copy=False))
    return parts[0] if len(parts) == 1 else np.hstack(parts)


def _zero_shot(vectors: Embeddings, inputs: str, test: Ints) -> Floats:
    """Cosine similarity to each label's prompts; for both inputs, of the sum of the two embeddings."""
    query = np.zeros((len(test), vectors.label.shape[1]), np.float32)
    if "image" in inputs:
        query += vectors.image[vectors.image_row[test]]
    if "text" in inputs:
        query += vectors.text[vectors.text_row[test]]
    return query @ vectors.label.T


def _linear_probe(
    problem: _Problem,
    vectors: Embeddings,
    inputs: str,
    has: NDArray[np.bool_],
    test: Ints,
    seed: int,
    strengths: Sequence[float] = _REGULARISATION,
) -> tuple[Floats, float | None] | None:
    """Scores of multinomial logistic regression on standardised features, and the chosen C.

    C is chosen from ``strengths`` by accuracy on the validation split (without one, the middle one is used);
    the final model is the one fitted on the training split with that C. None where no item of the
    training split has the input; with one label alone in it there is nothing to fit, and no C.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train = problem.train[has[problem.train]]
    validation = problem.validation[has[problem.validation]]
    if len(train) == 0:
        return None
    rows, weights = _distinct(vectors, inputs, train, problem.target)
    x, y = features(vectors, inputs, rows), problem.target[rows]
    scores = np.full((len(test), len(problem.labels)), -np.inf, np.float32)
    if len(np.unique(y)) < 2:
        scores[:, y[0]] = 0.0
        return scores, None
    x_validation = features(vectors, inputs, validation)
    best: tuple[float, float, Any] | None = None
    for strength in strengths if len(validation) else (strengths[len(strengths) // 2],):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3, random_state=seed)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 300 steps are part of the method, converged or not
            probe.fit(x, y, standardscaler__sample_weight=weights, logisticregression__sample_weight=weights)
        hits = probe.predict(x_validation) == problem.target[validation] if len(validation) else np.zeros(1)
        if best is None or hits.mean() > best[0]:
            best = (float(hits.mean()), strength, probe)
    assert best is not None
    scores[:, best[2].classes_] = best[2].predict_log_proba(features(vectors, inputs, test))
    return scores, best[1]


def _distinct(
    vectors: Embeddings, inputs: str, items: Ints, target: Ints
) -> tuple[Ints, NDArray[np.float64]]:
    """First item of each distinct (picture, text, label) that the inputs show, and how many are like it.

    Items that share all of them are one example with a weight: the same optimum, sooner.
    """
    shown = [target[items]]
    if "image" in inputs:
        shown.append(vectors.image_row[items])
    if "text" in inputs:
        shown.append(vectors.text_row[items])
    _values, first, counts = np.unique(np.stack(shown), axis=1, return_index=True, return_counts=True)
    order = np.argsort(first)
    return items[first[order]], counts[order].astype(np.float64)


def _predictions(items: pl.DataFrame, problem: _Problem, scores: Floats, test: Ints) -> pl.DataFrame:
    """item_id, label, predicted, score, top5; ties go to the label that sorts first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    names = np.array(problem.labels, dtype=object)
    return pl.DataFrame(
        {
            "item_id": items["item_id"][test.tolist()],
            "label": items["label"][test.tolist()],
            "predicted": pl.Series(names[order[:, 0]].tolist(), dtype=pl.String),
            "score": np.round(np.take_along_axis(scores, order[:, :1], axis=1)[:, 0].astype(np.float64), 5),
            "top5": pl.Series(names[order].tolist(), dtype=pl.List(pl.String)),
        }
    )


def _accuracy_by(table: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """[{value, accuracy, n}], by value."""
    counted = (
        table.drop_nulls(column)
        .group_by(column)
        .agg(accuracy=(pl.col("label") == pl.col("predicted")).mean().round(6), n=pl.len())
    )
    return [
        {"value": value, "accuracy": accuracy, "n": n}
        for value, accuracy, n in counted.sort(column).iter_rows()
    ]


def _codes(values: pl.Series) -> Ints:
    codes: Ints = values.rank("dense").cast(pl.Int64).to_numpy()
    return codes


def _ranks(values: Floats) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing their mean."""
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(values)
    return ranks


def _rounded(value: Any) -> float:
    return round(float(value), 6)
