"""Baselines: metrics against slow versions and scikit-learn, probes and prompts on crafted embeddings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Baselines
from dataset_pipeline.stages import baselines as stage
from dataset_pipeline.stages import scores
from dataset_pipeline.stages.baselines import Embeddings, evaluate
from dataset_pipeline_tests.stages.crafted import items as crafted_items

ITEMS = {
    "item_id": pl.String(), "split": pl.String(), "label": pl.String(), "language": pl.String(),
    "leak_group": pl.String(), "image_sha256": pl.String(), "text": pl.String(),
}  # fmt: skip
SETTINGS = Baselines(bootstrap_samples=100)
ONE_HOT = {"boot": (1, 0, 0), "hat": (0, 1, 0), "shirt": (0, 0, 1)}


def items(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    made = [
        {"item_id": f"{number:03}", "split": "train", "language": "en", "leak_group": f"g{number:03}", **row}
        for number, row in enumerate(rows)
    ]
    return pl.DataFrame(made, schema=ITEMS)


def vectors(rows: Sequence[Sequence[float]]) -> stage.Floats:
    made = np.asarray(rows, np.float32).reshape(len(rows), -1)
    return made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)


def embedded(
    image: Sequence[Sequence[float]],
    text: Sequence[Sequence[float]],
    label: Sequence[Sequence[float]],
    **changes: Any,
) -> Embeddings:
    """One row an item; an empty row: the item has none."""

    def rows(given: Sequence[Sequence[float]]) -> tuple[stage.Floats, stage.Ints]:
        there = [row for row in given if len(row)]
        numbers = iter(range(len(there)))
        places = np.array([next(numbers) if len(row) else -1 for row in given], np.int64)
        return vectors(there) if there else np.zeros((0, 0), np.float32), places

    parts = {"image": rows(image), "text": rows(text)}
    return Embeddings(
        **{
            "description": "crafted",
            "image": parts["image"][0],
            "image_row": parts["image"][1],
            "text": parts["text"][0],
            "text_row": parts["text"][1],
            "label": vectors(label),
            **changes,
        }
    )


def separable(
    seed: int = 0, count: int = 60, splits: Sequence[str] = ("train", "train", "validation", "test")
) -> tuple[pl.DataFrame, Embeddings]:
    """Three classes, each near its own axis in pictures; texts are noise."""
    generator = np.random.default_rng(seed)
    labels = [tuple(ONE_HOT)[number % 3] for number in range(count)]
    rows = items(
        [
            {"label": label, "split": splits[(number // 3) % len(splits)]}
            for number, label in enumerate(labels)
        ]
    )
    image = [np.array(ONE_HOT[label]) + generator.normal(0, 0.05, 3) for label in labels]
    text = generator.normal(0, 1, (count, 3))
    return rows, embedded(image, text.tolist(), list(ONE_HOT.values()))  # type: ignore[arg-type]


def board(results: stage.Results) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["model"], row["task"], row["inputs"]): row for row in results.leaderboard.to_dicts()}


# -- metrics -------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    table = pl.DataFrame(
        {
            "label": ["a", "a", "b", "c"],
            "predicted": ["a", "b", "b", "b"],
            "confidence": [0.9, 0.7, 0.5, 0.5],
            "top5": [["a", "b"], ["b", "a"], ["b", "a"], ["b", "a"]],
        }
    )
    row = scores.leaderboard_row(table, np.arange(4), 100, 0)
    assert (row["top1"], row["top5"], row["n_test"]) == (0.5, 0.75, 4)
    # F1: a 2*1/(2+1), b 2*1/(1+3), c 0.
    assert row["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert row["top1_low"] <= 0.5 <= row["top1_high"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_macro_f1_is_that_of_scikit_learn_over_the_labels_of_the_test_items(
    pairs: list[tuple[str, str]],
) -> None:
    from sklearn.metrics import f1_score

    label, predicted = [a for a, _b in pairs], [b for _a, b in pairs]
    found = scores.macro_f1(pl.Series(label), pl.Series(predicted))
    expected = f1_score(label, predicted, labels=sorted(set(label)), average="macro", zero_division=0)
    assert found == pytest.approx(expected)


def test_the_bootstrap_draws_whole_groups() -> None:
    # One group of 90 right items and nine single wrong ones: drawing items would give a narrow interval
    # around 0.91; the group is in a draw or it is not.
    right = np.array([True] * 90 + [False] * 9)
    groups = np.array([0] * 90 + list(range(1, 10)))
    low, high = scores.cluster_bootstrap(right, groups, 2000, 3)
    assert low == 0.0
    assert high > 0.95
    alone_low, alone_high = scores.cluster_bootstrap(right, np.arange(99), 2000, 3)
    assert 0.83 < alone_low < 0.91 < alone_high < 0.97


def test_the_bootstrap_equals_an_obvious_one() -> None:
    generator = np.random.default_rng(1)
    right, groups = generator.random(50) < 0.6, generator.integers(0, 12, 50) * 7  # numbers with gaps
    draws = np.random.default_rng(9)
    names = sorted(set(groups.tolist()))
    means = []
    for _ in range(200):
        drawn = [names[place] for place in draws.integers(0, len(names), len(names))]
        hits = [hit for name in drawn for hit, group in zip(right, groups, strict=True) if group == name]
        means.append(np.mean(hits))
    assert scores.cluster_bootstrap(right, groups, 200, 9) == pytest.approx(
        tuple(np.percentile(means, [2.5, 97.5]))
    )
    assert scores.cluster_bootstrap(right, groups, 200, 9) == scores.cluster_bootstrap(right, groups, 200, 9)


def test_one_group_has_an_interval_of_no_width() -> None:
    assert scores.cluster_bootstrap(np.array([True, False]), np.array([5, 5]), 100, 0) == (0.5, 0.5)


def test_ties_of_scores_go_to_the_label_that_sorts_first() -> None:
    rows = items([{"label": label, "split": split} for split in ("train", "test") for label in "cab"])
    made = evaluate(rows, {}, SETTINGS, 0).predictions["majority__classification__none"]
    # Every label is as frequent: 'a' wins, the rest follow in order.
    assert made["predicted"].to_list() == ["a", "a", "a"]
    assert made["top5"].to_list() == [["a", "b", "c"]] * 3


# -- trivial baselines ---------------------------------------------------------------------


def test_the_majority_is_that_of_the_training_split() -> None:
    # 'hat' is the commonest label of all, 'boot' that of the training split.
    rows = items(
        [{"label": "boot"}] * 3 + [{"label": "hat"}] * 2 + [{"label": "hat", "split": "test"}] * 4
        + [{"label": "boot", "split": "test"}]
    )  # fmt: skip
    results = evaluate(rows, {}, SETTINGS, 0)
    row = board(results)["majority", "classification", "none"]
    assert (row["top1"], row["n_test"]) == (0.2, 5)
    assert results.predictions["majority__classification__none"]["predicted"].unique().to_list() == ["boot"]
    assert results.predictions["majority__classification__none"]["score"].to_list() == [0.6] * 5


def test_guessing_at_random_is_near_chance_and_repeats() -> None:
    rows = items(
        [{"label": f"c{number % 8}", "split": ("train", "test")[number % 2]} for number in range(4000)]
    )
    rows = rows.with_columns(label=pl.format("c{}", pl.int_range(pl.len()) // 2 % 8))
    first = board(evaluate(rows, {}, SETTINGS, 4))["random", "classification", "none"]
    assert first["top1"] == pytest.approx(1 / 8, abs=0.03)
    assert first["top5"] == pytest.approx(5 / 8, abs=0.04)
    assert board(evaluate(rows, {}, SETTINGS, 4))["random", "classification", "none"] == first
    assert board(evaluate(rows, {}, SETTINGS, 5))["random", "classification", "none"] != first


# -- zero-shot -----------------------------------------------------------------------------


def test_zero_shot_names_the_label_whose_prompt_is_nearest() -> None:
    rows = items([{"label": "boot"}, {"label": "hat"}, *({"label": "hat", "split": "test"},) * 3])
    found = embedded(
        image=[(1, 0), (0, 1), (0.1, 1), (1, 0.1), ()],
        text=[(1, 0), (0, 1), (1, 0), (0.1, 1), (0, 1)],
        label=[(1, 0), (0, 1)],
    )
    results = evaluate(rows, {"m": found}, SETTINGS, 0)
    assert results.predictions["m__zero-shot__image"]["predicted"].to_list() == ["hat", "boot"]
    assert results.predictions["m__zero-shot__text"]["predicted"].to_list() == ["boot", "hat", "hat"]
    # Together: (0.1, 1) + (1, 0) is nearer to the first axis, (1, 0.1) + (0.1, 1) as near to both: the first.
    both = results.predictions["m__zero-shot__image_text"]
    assert both["item_id"].to_list() == ["002", "003"]
    assert both["predicted"].to_list()[0] == "boot"
    assert both["score"].to_list()[0] == pytest.approx(1 + 0.1 / np.hypot(0.1, 1), abs=1e-4)
    assert [row["n_test"] for row in results.leaderboard.filter(task="zero-shot").to_dicts()] == [2, 3, 2]


def test_several_prompts_of_a_label_are_averaged() -> None:
    assert stage.label_prompts(["hat", "b"], ["a {label}", "{label}, {label}"]) == [
        ["a hat", "hat, hat"], ["a b", "b, b"],
    ]  # fmt: skip
    found = stage.mean_of_prompts(vectors([(1, 0), (0, 1), (0, -1), (0, -1)]), 2)
    assert found == pytest.approx(np.array([(0.5**0.5, 0.5**0.5), (0, -1)]))


def test_a_label_may_hold_braces() -> None:
    # str.format would fail on it, or read attributes of objects.
    assert stage.label_prompts(["{0.__class__}"], ["a {label}"]) == [["a {0.__class__}"]]


def test_a_model_that_was_trained_on_labels_has_no_zero_shot() -> None:
    rows, found = separable()
    seen = Embeddings(**{**found.__dict__, "has_seen_labels": True})
    tasks = {task for _model, task, _inputs in board(evaluate(rows, {"m": seen}, SETTINGS, 0))}
    assert tasks == {"classification", "prompts of labels", "k-NN", "linear probe"}


# -- linear probe --------------------------------------------------------------------------


def test_a_linear_probe_separates_what_can_be_separated() -> None:
    rows, found = separable()
    results = evaluate(rows, {"m": found}, SETTINGS, 0)
    made = board(results)
    assert made["m", "linear probe", "image"]["top1"] == 1.0
    assert made["m", "linear probe", "image"]["macro_f1"] == 1.0
    assert made["m", "linear probe", "image+text"]["top1"] >= 0.9
    assert made["m", "linear probe", "text"]["top1"] < 0.8  # noise teaches nothing
    chosen = results.report["details"]["m__linear-probe__image"]["regularisation_c"]
    assert chosen in stage._REGULARISATION


def test_the_probe_never_sees_the_labels_of_the_test_split() -> None:
    rows, found = separable()
    other = rows.with_columns(
        label=pl.when(pl.col("split") == "test").then(pl.lit("hat")).otherwise(pl.col("label"))
    )
    before = evaluate(rows, {"m": found}, SETTINGS, 0).predictions["m__linear-probe__text"]
    after = evaluate(other, {"m": found}, SETTINGS, 0).predictions["m__linear-probe__text"]
    assert before.drop("label").equals(after.drop("label"))


def test_without_a_validation_split_the_middle_candidate_is_used() -> None:
    rows, found = separable(splits=("train", "test"))
    results = evaluate(rows, {"m": found}, SETTINGS, 0)
    middle = stage._REGULARISATION[len(stage._REGULARISATION) // 2]
    assert results.report["details"]["m__linear-probe__image"]["regularisation_c"] == middle
    assert board(results)["m", "linear probe", "image"]["top1"] == 1.0


def test_repeated_items_weigh_as_often_as_they_occur() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    # Two pictures that lie on one another carry labels 3 to 1: the weights decide.
    generator = np.random.default_rng(2)
    pictures = vectors(generator.normal(0, 1, (12, 4)).tolist())
    place = np.array([0, 0, 0, 0, *range(1, 12), *range(12)])
    labels = ["boot", "boot", "boot", "hat", *(("boot", "hat")[n % 2] for n in range(1, 12)), *["hat"] * 12]
    rows = items([{"label": label, "split": "train" if n < 15 else "test"} for n, label in enumerate(labels)])
    nothing = np.full(len(place), -1)
    found = Embeddings(
        "crafted", pictures, place, np.zeros((0, 0), np.float32), nothing, vectors([(1, 0, 0, 0)] * 2)
    )
    made = evaluate(rows, {"m": found}, SETTINGS, 0).predictions["m__linear-probe__image"]
    # The same method on the rows as they are.
    middle = stage._REGULARISATION[len(stage._REGULARISATION) // 2]
    scaler = StandardScaler().fit(pictures[place[:15]])
    slow = LogisticRegression(C=middle, max_iter=300, tol=1e-3).fit(
        scaler.transform(pictures[place[:15]]), labels[:15]
    )
    assert made["predicted"].to_list() == slow.predict(scaler.transform(pictures)).tolist()
    expected = slow.predict_log_proba(scaler.transform(pictures)).max(axis=1)
    assert made["score"].to_numpy() == pytest.approx(expected, abs=2e-3)
    distinct, weights = stage._distinct(
        found, "image", np.arange(15), np.array([*[0] * 3, 1, *[0] * 11]), 100, 0
    )
    assert distinct.tolist() == [0, 3, *range(4, 15)]
    assert weights.tolist() == [3, *[1] * 12]


def test_a_label_of_the_test_split_alone_can_be_named_by_prompts_only() -> None:
    rows = items(
        [{"label": label, "split": split} for split in ("train", "test") for label in ("boot", "hat")]
        + [{"label": "shirt", "split": "test"}]
    )
    order = [ONE_HOT[label] for label in rows["label"]]
    results = evaluate(rows, {"m": embedded(order, [()] * 5, list(ONE_HOT.values()))}, SETTINGS, 0)
    assert results.report["labels"] == 3
    assert board(results)["m", "zero-shot", "image"]["top1"] == 1.0
    probe = board(results)["m", "linear probe", "image"]
    assert probe["top1"] == pytest.approx(2 / 3, abs=1e-6)  # it has never seen a shirt
    assert "shirt" not in results.predictions["m__linear-probe__image"]["predicted"].to_list()


def test_a_training_split_with_one_label_names_that_label() -> None:
    rows = items(
        [
            {"label": "hat"},
            {"label": "hat"},
            {"label": "boot", "split": "test"},
            {"label": "hat", "split": "test"},
        ]
    )
    found = embedded([(1, 0), (1, 0.1), (0, 1), (1, 0)], [()] * 4, [(0, 1), (1, 0)])
    results = evaluate(rows, {"m": found}, SETTINGS, 0)
    assert results.predictions["m__linear-probe__image"]["predicted"].to_list() == ["hat", "hat"]
    assert results.report["details"]["m__linear-probe__image"]["regularisation_c"] is None


def test_an_input_that_no_training_item_has_gives_no_probe() -> None:
    # A probe fitted on nothing would be a number made up.
    rows = items([{"label": "hat"}, {"label": "boot"}, {"label": "boot", "split": "test"}])
    results = evaluate(rows, {"m": embedded([(), (), (0, 1)], [()] * 3, [(0, 1), (1, 0)])}, SETTINGS, 0)
    assert {task for _model, task, _inputs in board(results)} == {"classification", "zero-shot"}


# -- the report ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{}, {"split": "test"}],  # no labels
        [{"label": "hat"}, {"label": "hat", "split": "test"}],  # one class: nothing to tell apart
        [{"label": "hat"}, {"label": "boot"}],  # no test items
        [{"label": "hat", "split": "test"}, {"label": "boot", "split": "test"}],  # nothing to learn from
    ],
)
def test_where_there_is_no_task_there_is_no_leaderboard(rows: list[dict[str, Any]]) -> None:
    results = evaluate(items(rows), {}, SETTINGS, 0)
    assert results.report["leaderboard"] == []
    assert results.predictions == {}
    assert results.leaderboard.schema == scores.LEADERBOARD


def test_predictions_give_every_number_of_the_leaderboard_again() -> None:
    rows, found = separable(seed=3)
    groups = {f"{number:03}": number // 6 for number in range(60)}
    rows = rows.with_columns(leak_group=pl.format("g{}", pl.int_range(pl.len()) // 6))
    results = evaluate(rows, {"a/b c": found}, SETTINGS, 7)
    assert len(results.leaderboard) == len(results.report["details"]) == 2 + 3 * 3
    assert len(results.predictions) == 2 + 3 * 3 + 2
    assert results.report["leaderboard"] == results.leaderboard.to_dicts()
    for row in results.leaderboard.to_dicts():
        name = (
            f"{row['model']}__{row['task']}__{row['inputs']}".replace("/", "-")
            .replace(" ", "-")
            .replace("+", "_")
        )
        table = results.predictions[name]
        right = (table["label"] == table["predicted"]).to_numpy()
        assert row["top1"] == pytest.approx(right.mean(), abs=1e-6)
        assert row["top5"] == pytest.approx(
            np.mean([label in five for label, five in zip(table["label"], table["top5"], strict=True)])
        )
        assert row["macro_f1"] == pytest.approx(scores.macro_f1(table["label"], table["predicted"]), abs=1e-6)
        of_items = np.array([groups[item] for item in table["item_id"]])
        low, high = scores.cluster_bootstrap(right, of_items, 100, 7)
        assert (row["top1_low"], row["top1_high"]) == pytest.approx((low, high), abs=1e-6)
        # Accuracies of classes and languages are those of the same predictions.
        for part in ("per_class", "per_language"):
            parts = results.report["details"][name][part]
            assert sum(entry["n"] for entry in parts) == row["n_test"]
            assert sum(entry["n"] * entry["accuracy"] for entry in parts) / row["n_test"] == pytest.approx(
                row["top1"], abs=1e-5
            )
        assert table["item_id"].to_list() == rows.filter(split="test")["item_id"].to_list()
        assert all(five[0] == first for five, first in zip(table["top5"], table["predicted"], strict=True))


def test_items_without_a_label_have_no_say() -> None:
    rows, found = separable()
    unlabelled = rows.with_columns(
        label=pl.when(pl.int_range(pl.len()) >= 48).then(None).otherwise(pl.col("label"))
    )
    row = board(evaluate(unlabelled, {"m": found}, SETTINGS, 0))["m", "zero-shot", "image"]
    assert row["n_test"] == unlabelled.filter(pl.col("split") == "test", pl.col("label").is_not_null()).height


# -- similarity of pictures and texts ------------------------------------------------------


def paired(count: int = 40) -> tuple[pl.DataFrame, Embeddings]:
    """Every picture equals its own text."""
    own = np.random.default_rng(0).normal(0, 1, (count, 8)).tolist()
    return items([{"split": "test"}] * count), embedded(own, own, [(1,) * 8])


def test_true_pairs_are_more_alike_than_shuffled_ones() -> None:
    # No labels: the similarity needs none.
    rows, found = paired()
    similarity = evaluate(rows, {"m": found}, SETTINGS, 0).report["similarity"]["m"]
    assert similarity["auc"] > 0.999
    assert similarity["true_mean"] == pytest.approx(1.0)
    assert abs(similarity["shuffled_mean"]) < 0.3
    assert similarity["pairs"] == sum(similarity["true"]) == 40
    assert sum(similarity["shuffled"]) <= 40
    assert len(similarity["edges"]) == len(similarity["true"]) + 1


def test_the_auc_is_the_share_of_right_comparisons() -> None:
    generator = np.random.default_rng(4)
    image, text = generator.normal(0, 1, (30, 4)), generator.normal(0, 1, (30, 4))
    text[:15] += image[:15]
    found = embedded(image.tolist(), text.tolist(), [(1, 0, 0, 0)])
    rows, groups = np.arange(30), np.arange(30) // 2
    similarity = stage.true_against_shuffled(found, rows, groups, 6)
    assert similarity is not None
    other = np.random.default_rng(6).permutation(rows)
    true = [float(found.image[n] @ found.text[n]) for n in rows]
    shuffled = [
        float(found.image[n] @ found.text[m])
        for n, m in zip(rows, other, strict=True)
        if groups[n] != groups[m]
    ]
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in true for b in shuffled])
    assert similarity["auc"] == pytest.approx(wins, abs=1e-5)


def test_similarity_needs_pairs_of_two_groups() -> None:
    rows, found = paired(10)
    one_group = rows.with_columns(leak_group=pl.lit("g"))
    assert evaluate(one_group, {"m": found}, SETTINGS, 0).report["similarity"] == {}
    train_only = rows.with_columns(split=pl.lit("train"))
    assert evaluate(train_only, {"m": found}, SETTINGS, 0).report["similarity"] == {}


# -- from tables to arrays -----------------------------------------------------------------


def test_item_text_joins_the_texts_there_are() -> None:
    frame = pl.DataFrame({"a": ["x", None, None, ""], "b": ["y", "z", None, None]})
    assert frame.select(stage.item_text(["a", "b"]))["text"].to_list() == ["x. y", "z", None, None]
    assert frame.select("a", stage.item_text([]))["text"].to_list() == [None] * 4


def test_training_captions_come_from_the_training_split_alone() -> None:
    rows = items(
        [
            {"image_sha256": "p", "text": "b", "label": "hat"},
            {"image_sha256": "p", "text": "a", "label": "hat"},
            {"image_sha256": "p", "text": "of the test split", "label": "boot", "split": "test"},
            {"image_sha256": "q", "label": "hat"},
            {"image_sha256": "r"},  # neither text nor label: nothing to learn
            {"image_sha256": "s", "text": "c", "split": "test"},
            {"image_sha256": "t", "text": "c", "split": "validation"},
            {"text": "without a picture", "label": "hat"},
        ]
    )
    found = stage.training_captions(rows, ["a {label}", "one {label}"])
    assert found.rows() == [("p", ["a", "b"]), ("q", ["a hat", "one hat"])]
    assert stage.training_captions(rows[::-1], ["a {label}", "one {label}"]).equals(found)
    assert stage.captions_show_labels(rows)


def test_captions_show_labels_only_where_a_training_picture_has_no_text() -> None:
    texts = [{"image_sha256": "p", "text": "b", "label": "hat"}, {"image_sha256": "p", "label": "hat"}]
    assert not stage.captions_show_labels(items(texts))
    assert not stage.captions_show_labels(items([{"image_sha256": "p"}]))
    assert not stage.captions_show_labels(items([{"image_sha256": "p", "label": "hat", "split": "test"}]))
    assert stage.captions_show_labels(items([*texts, {"image_sha256": "q", "label": "hat"}]))


def test_training_captions_of_nothing() -> None:
    assert stage.training_captions(items([]), ["{label}"]).height == 0
    assert not stage.captions_show_labels(items([]))


def held(table: pl.DataFrame) -> tuple[pl.Series, stage.Floats]:
    """Keys and vectors of a table of embeddings."""
    keys = table.to_series(0)
    width = len(table["embedding"][0]) if len(keys) else 0
    return keys, np.array(table["embedding"].to_list(), np.float32).reshape(len(keys), width)


def test_embeddings_follow_the_items() -> None:
    rows = items(
        [
            {"image_sha256": "q", "text": "b", "label": "hat"},
            {"image_sha256": "gone", "text": None, "label": "boot"},
            {"image_sha256": None, "text": "a"},
            {"image_sha256": "p", "text": "b"},
        ]
    )
    images = pl.DataFrame(
        {"sha256": ["p", "q"], "embedding": [[1.0, 0.0], [0.0, 1.0]]},
        schema_overrides={"embedding": pl.List(pl.Float32)},
    )
    texts = pl.DataFrame(
        {
            "text": ["a", "a boot", "a hat", "b"],
            "embedding": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8]],
        },
        schema_overrides={"embedding": pl.List(pl.Float32)},
    )
    found = stage.embeddings(rows, held(images), held(texts), ["a boot", "a hat"], 2, "a model")
    assert found.image_row.tolist() == [1, -1, -1, 0]
    assert found.text_row.tolist() == [3, -1, 0, 3]
    assert found.label.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert found.image.dtype == np.float32
    assert not found.has_seen_labels


def test_embeddings_of_items_without_pictures_or_labels() -> None:
    nothing = pl.DataFrame(schema={"sha256": pl.String, "embedding": pl.List(pl.Float32)})
    texts = pl.DataFrame(
        {"text": ["a"], "embedding": [[1.0, 0.0]]}, schema_overrides={"embedding": pl.List(pl.Float32)}
    )
    found = stage.embeddings(items([{"text": "a"}]), held(nothing), held(texts), [], 0, "a model")
    assert found.image.shape == (0, 0)
    assert found.image_row.tolist() == [-1]
    results = evaluate(items([{"text": "a"}]), {"m": found}, SETTINGS, 0)
    assert results.report["leaderboard"] == []
    assert results.report["models"] == {"m": "a model"}


def test_a_model_that_sees_nothing_is_named_and_has_no_numbers() -> None:
    rows, _found = separable()
    results = evaluate(rows, {"m": stage.no_embeddings(rows, "not trained")}, SETTINGS, 0)
    assert {model for model, _task, _inputs in board(results)} == {"random", "majority"}
    assert results.report["models"] == {"m": "not trained"}
    assert results.report["similarity"] == {}


# -- other splits --------------------------------------------------------------------------


def test_the_interval_of_macro_f1_is_that_of_the_slow_version() -> None:
    generator = np.random.default_rng(5)
    table = pl.DataFrame(
        {
            "label": [str(value) for value in generator.choice(list("abc"), 40)],
            "predicted": [str(value) for value in generator.choice(list("abcd"), 40)],
        }
    )
    groups = generator.integers(3, 15, 40)
    names = np.unique(groups)
    draws = np.random.default_rng(9)
    values = []
    for _ in range(50):
        drawn = names[draws.integers(0, len(names), len(names))]
        rows = np.concatenate([np.flatnonzero(groups == name) for name in drawn])
        values.append(scores.macro_f1(table["label"].gather(rows), table["predicted"].gather(rows)))
    assert scores.bootstrap_macro_f1(table, groups, 50, 9) == pytest.approx(
        np.percentile(values, [2.5, 97.5])
    )


def test_one_group_has_no_interval_but_its_value() -> None:
    table = pl.DataFrame({"label": ["a", "b", "b"], "predicted": ["a", "a", "b"]})
    value = scores.macro_f1(table["label"], table["predicted"])
    assert scores.bootstrap_macro_f1(table, np.array([7, 7, 7]), 20, 0) == pytest.approx((value, value))


def memorable(groups: int = 200, members: int = 4) -> tuple[pl.DataFrame, Embeddings]:
    """Pictures that say nothing of the label but who they are; all members of a group look the same."""
    generator = np.random.default_rng(1)
    labels = generator.choice(["boot", "hat"], groups)
    look = generator.normal(0, 1, (groups, 256))
    splits = ["train", "train", "train", "test"]
    rows = [
        {"label": str(labels[group]), "split": splits[group % 4], "leak_group": f"g{group}"}
        for group in range(groups)
        for _ in range(members)
    ]
    image = [look[group].tolist() for group in range(groups) for _ in range(members)]
    return items(rows), embedded(image, [()] * len(rows), [(1.0,) * 256, (-1.0,) * 256])


def test_a_model_that_knows_items_by_heart_shines_on_a_random_split_alone() -> None:
    rows, seen = memorable()
    results = evaluate(rows, {"m": seen}, SETTINGS, 0)
    random = rows["split"].gather(np.random.default_rng(3).permutation(rows.height))
    # Another split of whole groups: the second quarter of them is tested.
    other = pl.Series(
        ["test" if int(name[1:]) % 4 == 1 else "train" for name in rows["leak_group"].to_list()]
    )
    found = stage.on_other_splits(
        rows, {"m": seen}, results, {"other_seed": other, "random": random}, SETTINGS, 0
    )
    assert [row["split"] for row in found] == ["this", "other_seed", "random"]
    this, same_way, leaky = found
    probe = board(results)["m", "linear probe", "image"]
    assert {key: this[key] for key in ("top1", "top1_low", "top1_high", "macro_f1", "n_test")} == {
        key: probe[key] for key in ("top1", "top1_low", "top1_high", "macro_f1", "n_test")
    }
    assert leaky["top1"] > 0.9
    assert max(this["top1"], same_way["top1"]) < 0.75
    assert leaky["macro_f1_low"] > max(this["macro_f1_high"], same_way["macro_f1_high"])
    assert all(row["macro_f1_low"] <= row["macro_f1"] <= row["macro_f1_high"] for row in found)
    assert [row["n_train"] for row in found] == [600, 600, 600]
    assert (this["known_share"], same_way["known_share"]) == (0, 1)
    assert 0.6 < leaky["known_share"] < 0.9


def test_the_probe_that_sees_most_is_compared() -> None:
    rows, seen = separable()
    results = evaluate(rows, {"m/x y": seen}, SETTINGS, 0)
    found = stage.on_other_splits(rows, {"m/x y": seen}, results, {"random": rows["split"]}, SETTINGS, 0)
    assert [(row["model"], row["inputs"], row["split"]) for row in found] == [
        ("m/x y", "image+text", "this"), ("m/x y", "image+text", "random"),
    ]  # fmt: skip
    # The same split with the same C is the same model.
    assert {**found[0], "split": "random"} == found[1]


def test_without_a_probe_there_is_nothing_to_compare() -> None:
    rows, seen = separable()
    unlabelled = rows.with_columns(label=pl.lit(None, pl.String))
    nothing = stage.no_embeddings(rows, "sees nothing")
    for given_rows, model in ((unlabelled, seen), (rows, nothing)):
        results = evaluate(given_rows, {"m": model}, SETTINGS, 0)
        assert (
            stage.on_other_splits(given_rows, {"m": model}, results, {"random": rows["split"]}, SETTINGS, 0)
            == []
        )


def test_a_split_whose_test_has_no_label_is_left_out() -> None:
    rows, seen = separable()
    results = evaluate(rows, {"m": seen}, SETTINGS, 0)
    no_test = pl.Series(["train"] * rows.height)
    no_train = pl.Series(["test"] * rows.height)
    found = stage.on_other_splits(rows, {"m": seen}, results, {"a": no_test, "b": no_train}, SETTINGS, 0)
    assert [row["split"] for row in found] == ["this"]


# -- k-NN, short cuts, retrieval -----------------------------------------------------------


def test_neighbours_vote_like_an_obvious_version() -> None:
    generator = np.random.default_rng(8)
    known = stage._unit(generator.normal(0, 1, (40, 5)).astype(np.float32))
    asked = stage._unit(generator.normal(0, 1, (7, 5)).astype(np.float32))
    target, weights = generator.integers(0, 3, 40), generator.integers(1, 4, 40).astype(np.float64)
    for k, found in zip((1, 5, 20), stage._votes(asked, known, target, weights, 3, (1, 5, 20)), strict=True):
        for row in range(7):
            cosine = known @ asked[row]
            near = np.argsort(-cosine)[:k]
            votes = [
                sum(np.exp(cosine[n] / 0.07) * weights[n] for n in near if target[n] == label)
                for label in range(3)
            ]
            assert found[row] == pytest.approx(np.array(votes) / sum(votes), abs=1e-4)


def test_neighbours_name_what_lies_beside_them() -> None:
    rows, found = separable()
    results = evaluate(rows, {"m": found}, SETTINGS, 0)
    made = board(results)
    assert made["m", "k-NN", "image"]["top1"] == 1.0
    assert made["m", "k-NN", "text"]["top1"] < 0.8
    assert results.report["details"]["m__k-NN__image"]["neighbours"] in (1, 5, 20)


def test_a_sample_is_learnt_from_where_there_are_many() -> None:
    rows, found = separable(count=600)
    few = Baselines(bootstrap_samples=100, max_training_items=100)
    first, second = (evaluate(rows, {"m": found}, few, 0) for _ in range(2))
    assert first.report == second.report
    assert board(first)["m", "linear probe", "image"]["top1"] == 1.0
    kept, weights = stage._distinct(
        found, "image", np.arange(600), np.zeros(600, np.int64), limit=100, seed=0
    )
    assert len(set(kept.tolist())) == 100
    assert len(weights) == 100


def test_labels_that_follow_from_metadata_are_found_out() -> None:
    generator = np.random.default_rng(1)
    labels = generator.choice(["boot", "hat", "shirt"], 300)
    rows = items(
        [{"label": str(label), "split": ("train", "train", "test")[n % 3]} for n, label in enumerate(labels)]
    ).with_columns(
        label_source=pl.Series([{"boot": "ann", "hat": "bo", "shirt": "bo"}[label] for label in labels]),
        width_px=pl.Series([{"boot": 100, "hat": 200, "shirt": 300}[label] for label in labels]),
        licence=pl.lit("CC0-1.0"),
    )
    made = board(evaluate(rows, {}, SETTINGS, 0))
    source = made["label source", "classification", "label source"]
    assert 0.5 < source["top1"] < 0.85  # it tells boots from the rest
    assert made["metadata", "classification", "metadata"]["top1"] == 1.0
    # Nothing to tell items apart by: no such baselines.
    same = rows.with_columns(label_source=pl.lit("ann"), width_px=pl.lit(1))
    assert {model for model, _task, _inputs in board(evaluate(same, {}, SETTINGS, 0))} == {
        "random",
        "majority",
    }


def slow_rank(query: int, of_query: Sequence[int], of_target: Sequence[int], similarity: Any) -> int:
    """Rank of the best right answer, behind every wrong one that is as similar."""
    right = {t for q, t in zip(of_query, of_target, strict=True) if q == query}
    best = max(similarity[query][t] for t in right)
    return 1 + sum(similarity[query][t] >= best for t in range(len(similarity[query])) if t not in right)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_retrieval_is_that_of_an_obvious_slow_version(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Few distinct values, so that there are ties; items share pictures and texts.
    picture, word = generator.integers(0, 6, 15), generator.integers(0, 8, 15)
    image = vectors(generator.integers(-1, 2, (6, 3)).tolist())
    text = vectors(generator.integers(-1, 2, (8, 3)).tolist())
    rows = items([{"split": "test"}] * 15)
    found = Embeddings("m", image, picture, text, word, np.zeros((0, 0), np.float32))
    made = {name: (table, count) for name, table, count in stage.rankings(rows, found, np.arange(15), 0)}
    if len(set(picture.tolist())) < 2 or len(set(word.tolist())) < 2:
        assert made == {}
        return
    for name, asked, answered, queries, targets in (
        ("image-to-text", image, text, picture, word), ("text-to-image", text, image, word, picture),
    ):  # fmt: skip
        table, count = made[name]
        there_q, there_t = sorted(set(queries.tolist())), sorted(set(targets.tolist()))
        similarity = asked[there_q] @ answered[there_t].T
        of_query = [there_q.index(q) for q in queries.tolist()]
        of_target = [there_t.index(t) for t in targets.tolist()]
        expected = {
            f"{of_query.index(q):03}": slow_rank(q, of_query, of_target, similarity.tolist())
            for q in range(len(there_q))
        }
        assert dict(table.select("item_id", "rank").iter_rows()) == expected
        assert count == len(there_t)
        assert table["retrieved"].list.len().unique().to_list() == [min(10, count)]


def test_a_picture_that_equals_its_text_is_found_first() -> None:
    rows, found = paired(30)
    results = evaluate(rows, {"m": found}, SETTINGS, 0)
    for row in results.retrieval.to_dicts():
        assert (row["recall_at_1"], row["recall_at_10"], row["median_rank"]) == (1.0, 1.0, 1.0)
        assert (row["queries"], row["candidates"]) == (30, 30)
    ranking = results.predictions["m__retrieval__image-to-text"]
    assert ranking.schema == scores.RANKINGS
    assert [first[0] for first in ranking["retrieved"]] == ranking["item_id"].to_list()


def test_equal_embeddings_are_no_hit() -> None:
    """A model that says the same of everything finds nothing, however ties are broken."""
    rows = items([{"split": "test"}] * 20)
    same = vectors([(1, 0)] * 20)
    found = Embeddings("m", same, np.arange(20), same, np.arange(20), np.zeros((0, 0), np.float32))
    [first, second] = evaluate(rows, {"m": found}, SETTINGS, 0).retrieval.to_dicts()
    assert first["recall_at_10"] == second["recall_at_10"] == 0
    assert first["median_rank"] == 20


def test_zero_shot_confidence_is_open_clips_softmax_where_nothing_is_chosen() -> None:
    import torch

    rows = items([{"label": "boot"}, {"label": "hat"}, *({"label": "hat", "split": "test"},) * 2])
    found = embedded([(1, 0), (0, 1), (0.1, 1), (1, 0.9)], [()] * 4, [(1, 0), (0, 1)])
    made = evaluate(rows, {"m": found}, SETTINGS, 0).predictions["m__zero-shot__image"]
    image = torch.from_numpy(np.asarray(found.image[2:]))
    chance = (100.0 * image @ torch.from_numpy(np.asarray(found.label)).T).softmax(dim=-1)
    assert made["confidence"].to_numpy() == pytest.approx(chance.max(dim=1).values.numpy(), abs=1e-5)
    assert made["predicted"].to_list() == [["boot", "hat"][n] for n in chance.argmax(dim=1).tolist()]


def test_similarity_is_told_by_class_and_language() -> None:
    rows, found = paired()
    rows = rows.with_columns(
        label=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("hat")).otherwise(None),
        language=pl.when(pl.int_range(pl.len()) < 10).then(pl.lit("de")).otherwise(pl.lit("en")),
    )
    similarity = evaluate(rows, {"m": found}, SETTINGS, 0).report["similarity"]["m"]
    assert [(row["value"], row["pairs"]) for row in similarity["by_label"]] == [("hat", 20)]
    assert [(row["value"], row["pairs"]) for row in similarity["by_language"]] == [("de", 10), ("en", 30)]
    assert all(row["auc"] > 0.99 for row in similarity["by_language"])


def test_what_is_embedded_and_what_is_known_beside_it() -> None:
    given = {"label_source": "human", "source": "s", "licence": "CC0-1.0"}
    known = crafted_items(
        [
            {"item_id": "b", "image_sha256": "two", "title": "red", "note": "hat", "label": "hat", **given},
            {"item_id": "a", "image_sha256": "one", **given},
            {"item_id": "c", "image_sha256": "two", "note": "cap", **given},
            {"item_id": "d", "title": "no picture", **given},
        ],
        ("title", "note"),
    )
    facts = {"format": "PNG", "width_px": 8, "height_px": 6, "size_bytes": 90}
    images = pl.LazyFrame(
        [
            {"sha256": "two", "location": "z.png", **facts},
            {"sha256": "two", "location": "b.png", **facts},  # the same file lies in two places
            {"sha256": "one", "location": "c.png", **facts},
            {"sha256": "of no item", "location": "a.png", **facts},
        ]
    )
    items = stage.embedded_items(known, ("title", "note"), "label")
    assert items.rows() == [
        ("a", None, "one", None),
        ("b", "hat", "two", "red. hat"),
        ("c", None, "two", "cap"),
        ("d", None, None, "no picture"),
    ]
    assert stage.pictures_of_items(items, images).rows() == [("one", "c.png"), ("two", "b.png")]
    beside = stage.with_metadata(items, known, images)
    assert beside["item_id"].to_list() == ["a", "b", "c", "d"]
    assert beside["text_chars"].to_list() == [None, 8, 3, 10]
    assert beside["width_px"].to_list() == [8, 8, 8, None]
    assert beside.select("source", "licence", "label_source").unique().rows() == [("s", "CC0-1.0", "human")]
