"""How well simple models predict the labels of the test split, with intervals.

Belongs here: classifiers on embeddings, retrieval, and the tables of their answers. Does not belong here: making
embeddings (``adapters/clip.py``) and scoring answers (``scores.py``). Every number of the report can be
recomputed from the prediction tables and ``metadata/items.parquet``.

No classifier learns from more than ``baselines.max_training_items`` distinct items, and none is tested on more than
``MAX_TESTED`` at a time: what is in memory does not grow with the dataset.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dataset_pipeline.config import Baselines as BaselineSettings
from dataset_pipeline.stages import scores
from dataset_pipeline.stages.scores import rounded

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TOP = 5
RETRIEVED = 10
MAX_TESTED = 20_000
"""Test items that are ranked against one another; more are sampled, by seed."""
_REGULARISATION = (0.01, 0.1, 1.0)
"""Candidates for scikit-learn's C; the validation split chooses."""
_NEIGHBOURS = (1, 5, 20)
"""Candidates for k; the validation split chooses."""
_VOTE_TEMPERATURE = 0.07
"""A neighbour at cosine s votes with exp(s / 0.07) (Wu et al., 2018)."""
_SCALES = np.geomspace(1, 300, 40)
"""Candidates for what cosines are multiplied by to become logits; the validation split chooses."""
_DEFAULT_SCALE = 100.0
"""CLIP's own, where there is no validation split."""
_CHOOSE_ON = 2000
"""Validation items that choose k and the scale."""
_CHUNK = 512
_HISTOGRAM_BINS = 40
_CATEGORIES = ("label_source", "source", "language", "author", "licence", "format")
_NUMBERS = ("width_px", "height_px", "size_bytes", "text_chars")
_TREES, _LEAF = 50, 5


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
    """The report (JSON), the leaderboards of classification and retrieval, and predictions by file name."""

    report: dict[str, Any]
    leaderboard: pl.DataFrame
    retrieval: pl.DataFrame
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


def embedded_items(items: pl.LazyFrame, text_names: Sequence[str], *columns: str) -> pl.DataFrame:
    """What is embedded of ITEMS + texts, sorted by id: item_id, ``columns``, image_sha256 and :func:`item_text`."""
    wanted = items.select("item_id", *columns, "image_sha256", item_text(text_names))
    return wanted.sort("item_id").collect()


def pictures_of_items(items: pl.DataFrame, images: pl.LazyFrame, *columns: str) -> pl.DataFrame:
    """sha256, location and ``columns`` of every distinct picture of ``items`` (image_sha256) in ``images`` (IMAGES)."""
    wanted = items.lazy().select(sha256="image_sha256").drop_nulls().unique()
    places = images.select("sha256", "location", *columns).join(wanted, on="sha256", how="semi")
    return places.sort("sha256", "location").unique("sha256", keep="first").sort("sha256").collect()


def with_metadata(items: pl.DataFrame, known: pl.LazyFrame, images: pl.LazyFrame) -> pl.DataFrame:
    """Items with what is known of them beside their content, for the baselines that look at nothing else.

    ``items``: see :func:`embedded_items`; ``known``: ITEMS; ``images``: IMAGES.
    """
    facts = images.select("sha256", "format", "width_px", "height_px", "size_bytes")
    given = known.select("item_id", "label_source", "source", "licence", "author")
    return (
        items.lazy()
        .with_columns(text_chars=pl.col("text").str.len_chars())
        .join(given, on="item_id", how="left", maintain_order="left")
        .join(
            facts.unique("sha256", keep="any"),
            left_on="image_sha256",
            right_on="sha256",
            how="left",
            maintain_order="left",
        )
        .collect()
    )


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
    images: tuple[pl.Series, Floats],
    texts: tuple[pl.Series, Floats],
    prompts: Sequence[str],
    labels: int,
    description: str,
    has_seen_labels: bool = False,
) -> Embeddings:
    """Embeddings in the order of the items.

    ``images``: checksums and their (pictures, dimensions) vectors; ``texts``: the same of all texts and ``prompts``,
    which are in the order of :func:`label_prompts`.
    """
    (shas, image), (words, text) = images, texts
    prompt_rows = rows_of(pl.Series(prompts, dtype=pl.String), words)
    return Embeddings(
        description=description,
        image=image,
        image_row=rows_of(items["image_sha256"], shas),
        text=text,
        text_row=rows_of(items["text"], words),
        label=mean_of_prompts(text[prompt_rows], labels) if labels else np.zeros((0, 0), np.float32),
        has_seen_labels=has_seen_labels,
    )


def no_embeddings(items: pl.DataFrame, description: str) -> Embeddings:
    """Of a model that cannot see anything of this dataset."""
    nothing, nowhere = np.zeros((0, 0), np.float32), np.full(items.height, -1, np.int64)
    return Embeddings(description, nothing, nowhere, nothing, nowhere, nothing)


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

    def add(model: str, task: str, inputs: str, answer: _Answer, test: Ints) -> None:
        name = scores.prediction_name(model, task, inputs)
        table = _predictions(items, problem, answer, test)
        predictions[name] = table
        row = scores.leaderboard_row(table, groups[test], settings.bootstrap_samples, seed)
        rows.append({"model": model, "task": task, "inputs": inputs, **row})
        details[name] = {
            **answer.chosen,
            "per_class": scores.accuracy_by(table, "label"),
            "per_language": scores.accuracy_by(
                table.with_columns(items[test.tolist()].select("language")), "language"
            ),
            "calibration": scores.calibration(table)["bins"],
        }

    if len(problem.labels) >= 2 and len(problem.test) and len(problem.train):
        for name, inputs, guess in _without_content(problem, settings, seed):
            add(name, "classification", inputs, guess, problem.test)
        for model, vectors in embeddings.items():
            prompted = "prompts of labels" if vectors.has_seen_labels else "zero-shot"
            for inputs, has in inputs_of(vectors):
                test = problem.test[has[problem.test]]
                if len(test) == 0:
                    continue
                if len(vectors.label):
                    add(model, prompted, inputs, _zero_shot(problem, vectors, inputs, has, test, seed), test)
                for task, method in (("k-NN", _nearest_neighbours), ("linear probe", _linear_probe)):
                    learnt = method(problem, vectors, inputs, has, test, settings.max_training_items, seed)
                    if learnt is not None:
                        add(model, task, inputs, learnt, test)
    leaderboard = pl.DataFrame(rows, schema=scores.LEADERBOARD)
    classified = dict(predictions)
    found: list[dict[str, Any]] = []
    for model, vectors in embeddings.items():
        for direction, ranking, candidates in rankings(items, vectors, tested, seed):
            predictions[scores.prediction_name(model, "retrieval", direction)] = ranking
            units = groups[items["item_id"].search_sorted(ranking["item_id"]).to_numpy()]
            found.append(
                {
                    "model": model,
                    "direction": direction,
                    **scores.retrieval_row(ranking, units, candidates, settings.bootstrap_samples, seed),
                }
            )
    retrieval = pl.DataFrame(found, schema=scores.RETRIEVAL)
    unit_of = dict(items[tested.tolist()].select("item_id", "leak_group").iter_rows())
    return Results(
        report={
            "leaderboard": leaderboard.to_dicts(),
            "retrieval": retrieval.to_dicts(),
            "paired": scores.paired_against_best(classified, unit_of, settings.bootstrap_samples, seed),
            "details": details,
            "models": {name: vectors.description for name, vectors in embeddings.items()},
            "similarity": {
                name: similarity
                for name, vectors in embeddings.items()
                if (similarity := true_against_shuffled(vectors, tested, groups, seed, items)) is not None
            },
            "labels": len(problem.labels),
            "interval": f"95 % percentile bootstrap over leak groups, {settings.bootstrap_samples} samples",
            "bootstrap_samples": settings.bootstrap_samples,
            "prompts": list(settings.prompts),
            "seed": seed,
        },
        leaderboard=leaderboard,
        retrieval=retrieval,
        predictions=predictions,
    )


def true_against_shuffled(
    vectors: Embeddings, test: Ints, groups: Ints, seed: int, items: pl.DataFrame | None = None
) -> dict[str, Any] | None:
    """Cosine similarity of the test items' own picture and text, against another group's text.

    Returns the histograms of both and the AUC: the probability that a true pair is more similar
    than a shuffled one; with ``items``, also by label and by language, where a shuffled pair is a picture of that value
    with the text of any other group. None where the items have no picture or no text.
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
    found = {
        **_separation(true, shuffled),
        "edges": [rounded(edge) for edge in edges],
        "true": np.histogram(true, edges)[0].tolist(),
        "shuffled": np.histogram(shuffled, edges)[0].tolist(),
    }
    for column in ("label", "language") if items is not None else ():
        assert items is not None
        values = items[column][rows.tolist()]
        codes = values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
        names = values.drop_nulls().unique().sort().to_list()
        parts = []
        for place, name in enumerate(names, start=1):
            own = codes == place
            if (own & apart).any():
                parts.append({"value": name, **_separation(true[own], shuffled[(codes[apart] == place)])})
        found[f"by_{column}"] = parts
    return found


def _separation(true: Floats, shuffled: Floats) -> dict[str, Any]:
    ranks = _ranks(np.concatenate([true, shuffled]))[: len(true)]
    auc = (ranks.sum() - len(true) * (len(true) + 1) / 2) / (len(true) * len(shuffled))
    return {
        "auc": rounded(auc),
        "true_mean": rounded(true.mean(dtype=np.float64)),
        "shuffled_mean": rounded(shuffled.mean(dtype=np.float64)),
        "pairs": len(true),
    }


# -- retrieval -----------------------------------------------------------------------------


def rankings(
    items: pl.DataFrame, vectors: Embeddings, tested: Ints, seed: int
) -> list[tuple[str, pl.DataFrame, int]]:
    """Retrieval on the test split: (direction, RANKINGS, number of candidates), for both directions.

    Queries and candidates are the distinct pictures and the distinct texts of the test items: what is there
    several times is one query, and any text that an item pairs with the picture is a right answer. The rank is that
    of the best right answer, behind every wrong one that is as similar. At most ``MAX_TESTED`` items take part.
    """
    rows = tested[(vectors.image_row[tested] >= 0) & (vectors.text_row[tested] >= 0)]
    if len(rows) > MAX_TESTED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_TESTED, replace=False))
    sides = {
        "image": (vectors.image, vectors.image_row[rows]),
        "text": (vectors.text, vectors.text_row[rows]),
    }
    if len(rows) == 0 or any(len(np.unique(row)) < 2 for _matrix, row in sides.values()):
        return []
    ids = items["item_id"]
    made = []
    for asked, answered in (("image", "text"), ("text", "image")):
        query, first_query, of_query = np.unique(sides[asked][1], return_index=True, return_inverse=True)
        target, first_target, of_target = np.unique(
            sides[answered][1], return_index=True, return_inverse=True
        )
        rank, top = _ranks_of(
            np.asarray(sides[asked][0][query]), np.asarray(sides[answered][0][target]), of_query, of_target
        )
        target_ids = ids[rows[first_target].tolist()]
        table = pl.DataFrame(
            {
                "item_id": ids[rows[first_query].tolist()],
                "rank": rank,
                "retrieved": pl.Series(
                    [target_ids.gather(row).to_list() for row in top], dtype=pl.List(pl.String)
                ),
            },
            schema=scores.RANKINGS,
        ).sort("item_id")
        made.append((f"{asked}-to-{answered}", table, len(target)))
    return made


def _ranks_of(query: Floats, target: Floats, of_query: Ints, of_target: Ints) -> tuple[Ints, Ints]:
    """(queries,) rank of the best right answer, from 1, and (queries, 10) the first answers, ties by order.

    ``of_query``, ``of_target``: of every pair that belongs together, its query and its target.
    """
    order = np.argsort(of_query, kind="stable")
    starts = np.searchsorted(of_query[order], np.arange(len(query) + 1))
    right = of_target[order]
    rank = np.empty(len(query), np.int64)
    top = np.empty((len(query), min(RETRIEVED, len(target))), np.int64)
    for start in range(0, len(query), _CHUNK):
        similarity = query[start : start + _CHUNK] @ target.T
        top[start : start + _CHUNK] = np.argsort(-similarity, axis=1, kind="stable")[:, : top.shape[1]]
        for row, its in enumerate(similarity, start=start):
            mine = np.unique(right[starts[row] : starts[row + 1]])
            best = its[mine].max()
            rank[row] = 1 + int((its >= best).sum()) - int((its[mine] >= best).sum())
    return rank, top


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
            inputs: scores.prediction_name(model, "linear probe", inputs)
            for inputs, _has in inputs_of(vectors)
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
                scored = _linear_probe(
                    problem, vectors, inputs, has, test, settings.max_training_items, seed, strengths
                )
                if scored is None:
                    continue
                table = _predictions(items, problem, scored, test)
            row = scores.leaderboard_row(table, groups[test], settings.bootstrap_samples, seed)
            low, high = scores.bootstrap_macro_f1(table, groups[test], settings.bootstrap_samples, seed)
            rows.append(
                {
                    "model": model,
                    "inputs": inputs,
                    "split": split,
                    **{key: row[key] for key in ("top1", "top1_low", "top1_high", "macro_f1")},
                    "macro_f1_low": rounded(low),
                    "macro_f1_high": rounded(high),
                    "n_train": len(train),
                    "n_test": len(test),
                    "known_share": rounded(is_known[test].mean()),
                }
            )
    return rows


# -- parts ---------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class _Answer:
    """``scores``: (test items, labels), higher is more likely; ``confidence``: (test items,) probability of the
    first answer; ``chosen``: what the validation split has chosen."""

    scores: Floats
    confidence: NDArray[np.float64]
    chosen: Mapping[str, Any] = field(default_factory=dict)


def _of_probabilities(chance: Floats, chosen: Mapping[str, Any] | None = None) -> _Answer:
    return _Answer(chance, chance.max(axis=1).astype(np.float64), chosen or {})


def _without_content(
    problem: _Problem, settings: BaselineSettings, seed: int
) -> Iterator[tuple[str, str, _Answer]]:
    """Baselines that look at no picture and no text: (model, inputs, answer).

    Guessing at random; always the commonest labels of the training split; the commonest labels among items with
    the same label source; and a random forest (Breiman, 2001) on everything that is known about an item but its
    content. If one of the last two does well, labels can be told by a short cut.
    """
    shape = (len(problem.test), len(problem.labels))
    uniform = np.full(shape[0], 1 / shape[1])
    yield "random", "none", _Answer(np.random.default_rng(seed).random(shape, dtype=np.float32), uniform)
    frequency = np.bincount(problem.target[problem.train], minlength=len(problem.labels)).astype(np.float32)
    frequency /= frequency.sum()
    yield "majority", "none", _of_probabilities(np.broadcast_to(frequency, shape))
    items = problem.items
    if "label_source" in items.columns and items["label_source"].n_unique() > 1:
        code = _codes(items["label_source"].fill_null(""))
        counts = np.zeros((int(code.max()) + 1, len(problem.labels)), np.float32)
        np.add.at(counts, (code[problem.train], problem.target[problem.train]), 1)
        # A source that train lacks falls back on what is common; elsewhere it decides ties alone.
        chance = counts[code[problem.test]] + 1e-3 * frequency
        yield "label source", "label source", _of_probabilities(chance / chance.sum(axis=1, keepdims=True))
    known = _metadata(items)
    if known is not None:
        yield (
            "metadata",
            "metadata",
            _of_probabilities(_forest(problem, known, settings.max_training_items, seed)),
        )


def _metadata(items: pl.DataFrame) -> Floats | None:
    """(items, columns) what is known of an item beside its content: numbers, and categories by their frequency's rank."""
    columns = []
    for name in (name for name in _CATEGORIES if name in items.columns):
        by_count = items[name].fill_null("").value_counts().sort("count", name, descending=[True, False])
        if by_count.height > 1:
            code = dict(zip(by_count[name], range(by_count.height), strict=True))
            columns.append(items[name].fill_null("").replace_strict(code, return_dtype=pl.Float32).to_numpy())
    for name in (name for name in _NUMBERS if name in items.columns):
        if items[name].n_unique() > 1:
            columns.append(items[name].cast(pl.Float32).fill_null(-1).to_numpy())
    return np.stack(columns, axis=1).astype(np.float32) if columns else None


def _forest(problem: _Problem, known: Floats, limit: int, seed: int) -> Floats:
    from sklearn.ensemble import RandomForestClassifier

    train = problem.train
    if len(train) > limit:
        train = np.sort(np.random.default_rng(seed).choice(train, limit, replace=False))
    forest = RandomForestClassifier(_TREES, min_samples_leaf=_LEAF, random_state=seed)
    forest.fit(known[train], problem.target[train])
    chance = np.zeros((len(problem.test), len(problem.labels)), np.float32)
    chance[:, forest.classes_] = forest.predict_proba(known[problem.test])
    return chance


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


def _zero_shot(
    problem: _Problem, vectors: Embeddings, inputs: str, has: NDArray[np.bool_], test: Ints, seed: int
) -> _Answer:
    """Cosine similarity to each label's prompts; for both inputs, of the sum of the two embeddings.

    Confidence is a softmax of scaled cosines. The scale changes no answer; the one with the lowest log-loss on
    the validation split is taken (temperature scaling: Guo et al., 2017), without one, CLIP's 100.
    """
    cosine = _prompt_similarity(vectors, inputs, test)
    validation = _choosing(problem, has, seed)
    scale = _DEFAULT_SCALE
    if len(validation):
        known, target = _prompt_similarity(vectors, inputs, validation), problem.target[validation]
        scale = float(
            min(_SCALES, key=lambda s: -_log_softmax(s * known)[np.arange(len(target)), target].mean())
        )
    confidence = np.exp(_log_softmax(scale * cosine.astype(np.float64)).max(axis=1))
    return _Answer(cosine, confidence, {"scale": rounded(scale)})


def _prompt_similarity(vectors: Embeddings, inputs: str, rows: Ints) -> Floats:
    query = np.zeros((len(rows), vectors.label.shape[1]), np.float32)
    if "image" in inputs:
        query += vectors.image[vectors.image_row[rows]]
    if "text" in inputs:
        query += vectors.text[vectors.text_row[rows]]
    return query @ vectors.label.T


def _log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    top = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[Any] = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
    return result


def _choosing(problem: _Problem, has: NDArray[np.bool_], seed: int) -> Ints:
    """Validation items that have the input; a sample where they are many."""
    found = problem.validation[has[problem.validation]]
    if len(found) > _CHOOSE_ON:
        return np.sort(np.random.default_rng(seed).choice(found, _CHOOSE_ON, replace=False))
    return found


def _nearest_neighbours(
    problem: _Problem,
    vectors: Embeddings,
    inputs: str,
    has: NDArray[np.bool_],
    test: Ints,
    limit: int,
    seed: int,
) -> _Answer | None:
    """Votes of the k nearest distinct training items by cosine, weighted by similarity and by how many are alike.

    k is chosen from ``_NEIGHBOURS`` by accuracy on the validation split; without one, the middle one is used.
    """
    train = problem.train[has[problem.train]]
    if len(train) == 0:
        return None
    rows, weights = _distinct(vectors, inputs, train, problem.target, limit, seed)
    known, target = _unit(features(vectors, inputs, rows)), problem.target[rows]
    validation = _choosing(problem, has, seed)
    k = _NEIGHBOURS[len(_NEIGHBOURS) // 2]
    labels = len(problem.labels)
    if len(validation):
        asked = _unit(features(vectors, inputs, validation))
        votes = _votes(asked, known, target, weights, labels, _NEIGHBOURS)
        right = [(vote.argmax(axis=1) == problem.target[validation]).mean() for vote in votes]
        k = _NEIGHBOURS[int(np.argmax(right))]
    # Items that look the same have the same neighbours.
    first, place = _looks(vectors, inputs, test)
    votes = _votes(_unit(features(vectors, inputs, first)), known, target, weights, labels, (k,))
    return _of_probabilities(votes[0][place], {"neighbours": k})


def _votes(
    asked: Floats, known: Floats, target: Ints, weights: NDArray[np.float64], labels: int, ks: Sequence[int]
) -> list[Floats]:
    """For each k: (asked, labels) shares of the votes."""
    votes = [np.zeros((len(asked), labels), np.float32) for _k in ks]
    most = min(max(ks), len(known))
    for start in range(0, len(asked), _CHUNK):
        similarity = asked[start : start + _CHUNK] @ known.T
        near = np.argpartition(-similarity, most - 1, axis=1)[:, :most]
        close = np.take_along_axis(similarity, near, axis=1)
        order = np.lexsort((near, -close), axis=1)  # ties go to the item that comes first
        near, close = np.take_along_axis(near, order, axis=1), np.take_along_axis(close, order, axis=1)
        vote = np.exp((close - close[:, :1]) / _VOTE_TEMPERATURE) * weights[near]
        who = np.repeat(np.arange(len(near)) + start, most).reshape(near.shape)
        for made, k in zip(votes, ks, strict=True):
            np.add.at(made, (who[:, :k], target[near[:, :k]]), vote[:, :k].astype(np.float32))
    return [made / made.sum(axis=1, keepdims=True) for made in votes]


def _unit(x: Floats) -> Floats:
    scaled: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return scaled


def _looks(vectors: Embeddings, inputs: str, rows: Ints) -> tuple[Ints, Ints]:
    """First item of each distinct look among ``rows``, and which of them each row looks like."""
    shown = [
        row[rows]
        for name, row in (("image", vectors.image_row), ("text", vectors.text_row))
        if name in inputs
    ]
    _values, first, place = np.unique(np.stack(shown), axis=1, return_index=True, return_inverse=True)
    return rows[first], place.ravel()


def _linear_probe(
    problem: _Problem,
    vectors: Embeddings,
    inputs: str,
    has: NDArray[np.bool_],
    test: Ints,
    limit: int,
    seed: int,
    strengths: Sequence[float] = _REGULARISATION,
) -> _Answer | None:
    """Log-probabilities of multinomial logistic regression on standardised features, and the chosen C.

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
    rows, weights = _distinct(vectors, inputs, train, problem.target, limit, seed)
    x, y = features(vectors, inputs, rows), problem.target[rows]
    found = np.full((len(test), len(problem.labels)), -np.inf, np.float32)
    if len(np.unique(y)) < 2:
        found[:, y[0]] = 0.0
        return _Answer(found, np.ones(len(test)), {"regularisation_c": None})
    if len(validation) > MAX_TESTED:
        validation = np.sort(np.random.default_rng(seed).choice(validation, MAX_TESTED, replace=False))
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
    for start in range(0, len(test), MAX_TESTED):
        part = slice(start, start + MAX_TESTED)
        found[part, best[2].classes_] = best[2].predict_log_proba(features(vectors, inputs, test[part]))
    confidence = np.exp(found.max(axis=1).astype(np.float64))
    return _Answer(found, confidence, {"regularisation_c": best[1]})


def _distinct(
    vectors: Embeddings, inputs: str, items: Ints, target: Ints, limit: int, seed: int
) -> tuple[Ints, NDArray[np.float64]]:
    """First item of each distinct (picture, text, label) that the inputs show, and how many are like it.

    Items that share all of them are one example with a weight: the same optimum, sooner. Of more than ``limit``
    examples, so many are drawn by seed.
    """
    shown = [target[items]]
    if "image" in inputs:
        shown.append(vectors.image_row[items])
    if "text" in inputs:
        shown.append(vectors.text_row[items])
    _values, first, counts = np.unique(np.stack(shown), axis=1, return_index=True, return_counts=True)
    if len(first) > limit:
        drawn = np.random.default_rng(seed).choice(len(first), limit, replace=False)
        first, counts = first[drawn], counts[drawn]
    order = np.argsort(first)
    return items[first[order]], counts[order].astype(np.float64)


def _predictions(items: pl.DataFrame, problem: _Problem, answer: _Answer, test: Ints) -> pl.DataFrame:
    """``scores.PREDICTIONS``; ties go to the label that sorts first."""
    order = np.argsort(-answer.scores, axis=1, kind="stable")[:, :TOP]
    names = np.array(problem.labels, dtype=object)
    first = np.take_along_axis(answer.scores, order[:, :1], axis=1)[:, 0].astype(np.float64)
    return pl.DataFrame(
        {
            "item_id": items["item_id"][test.tolist()],
            "label": items["label"][test.tolist()],
            "predicted": pl.Series(names[order[:, 0]].tolist(), dtype=pl.String),
            "score": np.round(first, 5),
            "confidence": np.round(np.clip(answer.confidence, 0, 1), 6),
            "top5": pl.Series(names[order].tolist(), dtype=pl.List(pl.String)),
        },
        schema=scores.PREDICTIONS,
    )


def _codes(values: pl.Series) -> Ints:
    codes: Ints = values.rank("dense").cast(pl.Int64).to_numpy()
    return codes


def _ranks(values: Floats) -> NDArray[np.float64]:
    """Ranks from 1, ties sharing their mean."""
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(values)
    return ranks
