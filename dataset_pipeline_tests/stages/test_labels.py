"""Labels: contradictions, agreement and audits by hand; confident learning against its paper and cleanlab."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_pipeline.config import Baselines, LabelQuality
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import classical, gates
from dataset_pipeline.stages import labels as stage
from dataset_pipeline.stages.intervals import wilson_interval
from dataset_pipeline.tables import ANNOTATIONS, LABEL_CANDIDATES, PAIRS, REMOVED, SPLIT_ITEMS

CONFLICTS = dict.fromkeys(("item_id", "kept_item_id", "column", "value", "kept_value"), pl.String())


def items(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    made = [
        {"item_id": f"{number:02}", "source": "shop", "split": "train", "leak_group": f"g{number}", **row}
        for number, row in enumerate(rows)
    ]
    return pl.LazyFrame(made, schema=dict(SPLIT_ITEMS))


def removed(*rows: tuple[str, str]) -> pl.LazyFrame:
    """(reason, kept_item_id) of each."""
    return pl.LazyFrame(
        [
            {"item_id": f"r{number}", "stage": "duplicates", "reason": reason, "kept_item_id": kept}
            for number, (reason, kept) in enumerate(rows)
        ],
        schema=dict(REMOVED),
    )


# -- contradictions ------------------------------------------------------------------------


def test_contradicting_labels_of_merged_duplicates_are_counted() -> None:
    kept = items([{"label": "hat", "label_source": "model"}, {"label": "boot"}, {}])
    gone = removed(
        ("duplicate", "00"),  # r0: says 'boot'
        ("duplicate", "00"),  # r1: agrees
        ("duplicate", "01"),  # r2: has no label, so it says nothing
        ("duplicate", "02"),  # r3: the kept one has no label
        ("duplicate", "02"),  # r4: neither has
        ("label_missing", ""),
    )
    conflicts = pl.LazyFrame(
        [
            ("r0", "00", "label", "boot", "hat"),
            ("r0", "00", "author", "Ada", "Bob"),
            ("r2", "01", "label", None, "boot"),
            ("r3", "02", "label", "hat", None),
        ],
        schema=CONFLICTS,
        orient="row",
    )
    assert stage.merged_contradictions(kept, gone, conflicts) == {
        "merged_duplicates": 5,
        "with_both_labels": 2,
        "with_another_label": 1,
        "share": 0.5,
        "interval": list(wilson_interval(1, 2)),
        "examples": [{"item_id": "r0", "kept_item_id": "00", "value": "boot", "kept_value": "hat"}],
    }
    assert stage.label_sources(kept) == [
        {"value": None, "items": 2, "splits": {"train": 2}},
        {"value": "model", "items": 1, "splits": {"train": 1}},
    ]


def test_without_duplicates_there_is_no_share_of_contradictions() -> None:
    found = stage.merged_contradictions(items([{"label": "hat"}]), removed(), pl.LazyFrame(schema=CONFLICTS))
    assert found["share"] is None
    assert found["interval"] is None


def pairs(*rows: tuple[str, str, str]) -> pl.LazyFrame:
    return pl.LazyFrame([(*row, 1.0) for row in rows], schema=dict(PAIRS), orient="row")


def test_groups_of_equal_pictures_are_compared_by_label() -> None:
    given_labels = ["hat", "hat", "boot", None, "hat", "hat", "cap", "hat"]
    frame = items([{"label": label} for label in given_labels])
    found = stage.same_content(
        frame,
        pairs(
            # One group of three: of its three pairs two differ.
            ("00", "01", "same_bytes"), ("00", "02", "near_image"),
            # The star's centre has no label; its other two members still belong together.
            ("03", "04", "same_pixels"), ("03", "05", "same_pixels"),
            ("06", "07", "near_text"),
        ),
    )  # fmt: skip
    image, text = found["image"], found["text"]
    assert (image["groups"], image["items"], image["contradicting_groups"]) == (2, 5, 1)
    assert image["share"] == pytest.approx((2 / 3 + 0) / 2, abs=1e-5)
    assert image["interval"] == list(wilson_interval(2 / 3, 2))
    assert image["examples"] == [{"item_ids": ["00", "01", "02"], "labels": ["boot", "hat"]}]
    assert (text["groups"], text["share"], text["error_share"]) == (1, 1.0, 1.0)


def test_no_group_gives_no_estimate() -> None:
    found = stage.same_content(items([{"label": "hat"}, {}]), pairs(("00", "01", "same_bytes")))
    assert (found["image"]["groups"], found["image"]["share"]) == (0, None)


def test_the_share_of_wrong_labels_is_found_again() -> None:
    # Each of two labels a picture is wrong with probability .1, in one of many ways.
    generator = np.random.default_rng(3)
    count, wrong = 4000, 0.1
    rows, linked = [], []
    for number in range(count):
        for copy in range(2):
            is_wrong = generator.random() < wrong
            rows.append(
                {
                    "item_id": f"{number:05}-{copy}",
                    "label": f"w{generator.integers(10**6)}" if is_wrong else "right",
                }
            )
        linked.append((f"{number:05}-0", f"{number:05}-1", "same_bytes"))
    found = stage.same_content(items(rows), pairs(*linked))["image"]
    low, high = found["error_interval"]
    planted_share = np.mean([row["label"] != "right" for row in rows])
    assert low < planted_share < high
    assert found["error_share"] == pytest.approx(planted_share, abs=0.005)


# -- agreement -----------------------------------------------------------------------------


def annotated(table: dict[str, list[str | None]]) -> pl.LazyFrame:
    """Annotator -> label of each item, in order."""
    rows = [
        (f"{number:02}", name, label)
        for name, given_labels in table.items()
        for number, label in enumerate(given_labels)
    ]
    return pl.LazyFrame(rows, schema=dict(ANNOTATIONS), orient="row")


KRIPPENDORFF = {
    # The four observers of twelve units of "Computing Krippendorff's alpha-reliability" (2011), C.
    "A": ["1", "2", "3", "3", "2", "1", "4", "1", "2", None, None, None],
    "B": ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", None, "3"],
    "C": [None, "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", None],
    "D": ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", None],
}


def test_alpha_of_the_published_example() -> None:
    frame = items([{"label": "1"}] * 12)
    found = stage.agreement(annotated(KRIPPENDORFF), frame, 0)
    assert found is not None
    assert found["alpha"] == pytest.approx(0.743, abs=5e-4)
    assert (found["items"], found["labels"]) == (11, 40)  # unit 12 has one value and says nothing
    assert found["interval"][0] < 0.743 < found["interval"][1]
    assert found["unanimous_items"] == 8
    assert [row["annotator"] for row in found["by_annotator"]] == ["A", "B", "C", "D"]
    assert found["by_annotator"][0] == {
        "annotator": "A",
        "labels": 9,
        "as_released": pytest.approx(3 / 9, abs=1e-5),
    }


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "c", None]), min_size=3, max_size=3), min_size=2, max_size=25
    )
)
@settings(deadline=None, max_examples=40)
def test_alpha_is_that_of_all_pairs_counted_one_by_one(table: list[list[str | None]]) -> None:
    frame = items([{"label": "a"}] * len(table))
    columns = {f"n{place}": [row[place] for row in table] for place in range(3)}
    found = stage.agreement(annotated(columns), frame, 0)
    units = [values for row in table if len(values := [value for value in row if value is not None]) > 1]
    if not units:
        assert found is None
        return
    assert found is not None
    total = sum(len(values) for values in units)
    pooled = [value for values in units for value in values]
    observed = sum(
        (a != b) / (len(values) - 1)
        for values in units
        for i, a in enumerate(values)
        for j, b in enumerate(values)
        if i != j
    )
    expected = sum(
        a != b for i, a in enumerate(pooled) for j, b in enumerate(pooled) if i != j
    ) / (total - 1)  # fmt: skip
    if expected == 0:
        assert found["alpha"] is None
    else:
        assert found["alpha"] == pytest.approx(1 - observed / expected, abs=1e-5)


def test_agreement_of_items_with_one_label_is_not_asked() -> None:
    frame = items([{"label": "a"}] * 2)
    assert stage.agreement(annotated({"A": ["a", "b"]}), frame, 0) is None
    # Nor is that of items that are not released.
    both = annotated({"A": ["a"], "B": ["b"]}).with_columns(item_id=pl.lit("gone"))
    assert stage.agreement(both, frame, 0) is None


# -- label errors --------------------------------------------------------------------------


def planted(
    count: int = 600, classes: int = 4, flipped: float = 0.05, spread: float = 0.6, seed: int = 0
) -> tuple[pl.DataFrame, stage.Shown, np.ndarray[Any, Any]]:
    """Items in groups of two around their class's place, some with another label; and which those are."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, count)
    places = np.eye(classes, 8)[truth] * 3
    x = (places + generator.normal(0, spread, places.shape)).astype(np.float32)
    is_flipped = np.zeros(count, bool)
    is_flipped[generator.choice(count, round(flipped * count), replace=False)] = True
    label = np.where(is_flipped, (truth + generator.integers(1, classes, count)) % classes, truth)
    frame = pl.DataFrame(
        {
            "item_id": [f"{number:05}" for number in range(count)],
            "label": [f"class {number}" for number in label],
            "split": ["train"] * count,
            "leak_group": [f"g{number // 2}" for number in range(count)],
        }
    )
    return frame, stage.Shown(lambda rows: x[rows], np.arange(count), "crafted"), is_flipped


def test_planted_errors_come_first() -> None:
    frame, shown, is_flipped = planted()
    found = stage.find_errors(frame, shown, LabelQuality(), 0)
    count = int(is_flipped.sum())
    first = [int(item) for item in found.candidates["item_id"].head(count)]
    assert is_flipped[first].mean() >= 0.9
    assert found.candidates.schema == LABEL_CANDIDATES
    assert found.report["judged_items"] == 600
    assert found.report["accuracy"] > 0.9
    assert sum(row["candidates"] for row in found.report["by_class"]) == found.candidates.height
    own = found.candidates["own_probability"]
    assert own.equals(own.sort())
    assert (found.candidates["label"] != found.candidates["suggested"]).all()


def test_clean_labels_give_no_candidates() -> None:
    frame, shown, _flipped = planted(flipped=0.0, spread=0.05)
    assert stage.find_errors(frame, shown, LabelQuality(), 0).candidates.height == 0


def test_confident_learning_is_that_of_the_paper_and_of_cleanlab() -> None:
    count_module = pytest.importorskip("cleanlab.count")
    frame, shown, _flipped = planted(spread=1.6, seed=3)
    labels = sorted(frame["label"].unique())
    target = (
        frame["label"]
        .replace_strict({name: n for n, name in enumerate(labels)}, return_dtype=pl.Int64)
        .to_numpy()
    )
    rows = np.arange(frame.height)
    found = stage._out_of_fold(target, rows // 2, rows, len(labels), shown, LabelQuality(), 0)
    # The same probabilities again, all at once.
    fold = stage.folds_of(target, rows // 2, 5, 0)
    chance = np.zeros((frame.height, len(labels)))
    for number in range(5):
        train = rows[fold != number]
        model = stage._fitted(shown.features(train), target[train], np.ones(len(train)), found.strength or 0)
        chance[fold == number] = stage._probabilities(
            model, shown.features(rows[fold == number]), len(labels)
        )
    assert found.own == pytest.approx(chance[rows, target], abs=1e-4)
    thresholds = np.array([chance[target == label, label].mean() for label in range(len(labels))])
    assert thresholds == pytest.approx(count_module.get_confident_thresholds(target, chance), abs=1e-6)
    for row in range(frame.height):  # equation 1 of Northcutt et al. (2021), row by row
        reached = [label for label in range(len(labels)) if chance[row, label] >= thresholds[label] - 1e-6]
        expected = max(reached, key=lambda label: chance[row, label]) if reached else -1
        assert found.confident[row] == expected
    # cleanlab takes the most probable label of all where several reach their thresholds; that is the same label
    # wherever the most probable one reaches its own.
    likeliest = chance.argmax(axis=1)
    same = chance[rows, likeliest] >= thresholds[likeliest]
    joint, indices = count_module.compute_confident_joint(
        target, chance, calibrate=False, return_indices_of_off_diagonals=True
    )
    ours = set(np.flatnonzero((found.confident >= 0) & (found.confident != target) & same).tolist())
    assert ours == set(np.array(indices)[same[indices]].tolist())
    assert 20 < len(ours) < joint.sum()


def test_groups_are_never_cut_by_a_fold_and_folds_are_even() -> None:
    generator = np.random.default_rng(2)
    groups = generator.integers(0, 300, 2000)
    target = generator.choice(5, 2000, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    fold = stage.folds_of(target, groups, 5, 1)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups.tolist()))
    sizes = np.bincount(fold, minlength=5)
    assert sizes.min() > 0.85 * sizes.max()
    assert np.array_equal(fold, stage.folds_of(target, groups, 5, 1))
    assert not np.array_equal(fold, stage.folds_of(target, groups, 5, 2))


def test_a_label_of_one_group_alone_is_not_judged() -> None:
    frame, shown, _flipped = planted(flipped=0.0, spread=0.05)
    odd = frame.with_columns(
        label=pl.when(pl.col("leak_group") == "g7").then(pl.lit("only here")).otherwise("label")
    )
    found = stage.find_errors(odd, shown, LabelQuality(), 0)
    assert found.report["not_judged_items"] == 2
    assert found.report["judged_items"] == 598
    assert "only here" not in [row["label"] for row in found.report["by_class"]]
    assert found.candidates.height == 0


def test_the_order_of_items_and_what_shows_nothing_have_no_say() -> None:
    frame, shown, _flipped = planted(count=200)
    hidden = np.where(np.arange(200) < 20, -1, np.arange(200))
    found = stage.find_errors(frame, stage.Shown(shown.features, hidden, "x"), LabelQuality(), 0)
    assert found.report["judged_items"] == 180
    assert found.report["not_judged_items"] == 20
    assert not set(found.candidates["item_id"]) & set(frame["item_id"].head(20))


@pytest.mark.parametrize(
    "label", [["a"] * 4, [None] * 4, ["a", None, None, None]], ids=["one label", "none", "one item"]
)
def test_where_nothing_can_be_searched_the_report_says_why(label: list[str | None]) -> None:
    frame = pl.DataFrame(
        {
            "item_id": list("wxyz"),
            "label": pl.Series(label, dtype=pl.String),
            "split": ["train"] * 4,
            "leak_group": list("wxyz"),
        }
    )
    shown = stage.Shown(lambda rows: np.zeros((len(rows), 2), np.float32), np.arange(4), "x")
    found = stage.find_errors(frame, shown, LabelQuality(), 0)
    assert found.report["why_none"]
    assert found.candidates.is_empty()
    assert found.candidates.schema == LABEL_CANDIDATES


def test_confused_classes_are_named_in_both_directions() -> None:
    frame, shown, _flipped = planted(flipped=0.0, spread=0.05)
    # Half of two classes carry each other's names.
    swap = {"class 0": "class 1", "class 1": "class 0"}
    mixed = frame.with_columns(
        label=pl.when((pl.int_range(pl.len()) // 2) % 5 == 0)
        .then(pl.col("label").replace(swap))
        .otherwise("label")
    )
    found = stage.find_errors(mixed, shown, LabelQuality(), 0)
    first = found.report["confused"][0]
    assert (first["label"], first["other"]) == ("class 0", "class 1")
    assert first["items"] == first["as_other"] + first["as_label"] > 30
    assert min(first["as_other"], first["as_label"]) > 10


def test_a_small_sample_to_learn_from_is_the_same_each_time() -> None:
    frame, shown, is_flipped = planted()
    found = [
        stage.find_errors(frame, shown, LabelQuality(max_training_items=120), 0).candidates for _ in range(2)
    ]
    assert found[0].equals(found[1])
    first = [int(item) for item in found[0]["item_id"].head(int(is_flipped.sum()))]
    assert is_flipped[first].mean() > 0.7


# -- classical features --------------------------------------------------------------------


def test_classical_features_tell_colours_shapes_and_words_apart() -> None:
    side = stage_side = classical.THUMBNAIL_SIDE_PX
    plain = np.full((side, side, 3), 200, np.uint8)
    rows, columns = np.indices((side, side))
    upright, lying = plain.copy(), plain.copy()
    upright[(columns // 4) % 2 == 0] = 0
    lying[(rows // 4) % 2 == 0] = 0
    pictures = pl.Series([picture.tobytes() for picture in (plain, upright, lying, upright)])
    found = classical.picture_features(pictures)
    assert found.shape == (4, 320)
    assert np.array_equal(found[1], found[3])
    shape = found[:, 192:]
    assert np.abs(shape[1] - shape[2]).max() > 0.1
    words = classical.text_features(["red boots", "red boot", "Hut", "red boots"])
    assert words.shape == (4, 256)
    assert np.array_equal(words[0], words[3])
    assert words[0] @ words[1] > words[0] @ words[2] + 0.3
    assert classical.picture_features(pl.Series([], dtype=pl.Binary)).shape == (0, 320)
    assert classical.text_features([]).shape == (0, 256)
    assert stage_side == 32


def test_classical_features_follow_the_items() -> None:
    frame = pl.DataFrame(
        {"image_sha256": ["q", None, "p"], "text": ["b", "a", None]},
        schema={"image_sha256": pl.String, "text": pl.String},
    )
    grey = [bytes([value]) * 3072 for value in (10, 200)]
    images = pl.DataFrame({"sha256": ["p", "q"], "thumbnail": grey})
    found = classical.classical_features(frame, images.lazy(), pl.Series(["p", "q"]))
    assert found.image_row.tolist() == [1, -1, 0]
    assert found.text_row.tolist() == [1, 0, -1]
    shown = stage.shown_by(found)
    # One item has both, two have a picture and two a text: what most have is what is looked at.
    assert shown.description.startswith("text: ")
    assert [place >= 0 for place in shown.content.tolist()] == [True, True, False]
    assert shown.features(np.array([0])).shape == (1, 256)
    assert shown.features(np.array([0])).dtype == np.float32


def test_classical_features_of_batches_are_those_of_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that lie twice, that nobody asks for, and in another order; more of them than a batch holds."""
    generator = np.random.default_rng(0)
    thumbnails = [generator.bytes(3072) for _ in range(30)]
    names = [f"{number:02}" for number in range(30)]
    wanted = pl.Series(names[:25])
    frame = pl.DataFrame({"image_sha256": wanted, "text": [f"text {number}" for number in range(25)]})
    order = [*generator.permutation(30).tolist(), 3, 7]
    images = pl.LazyFrame(
        {"sha256": [names[at] for at in order], "thumbnail": [thumbnails[at] for at in order]}
    )
    whole = classical.picture_features(pl.Series(thumbnails[:25])).astype(np.float16)
    texts = classical.text_features(sorted(frame["text"]))
    monkeypatch.setattr(classical, "_BATCH", 4)
    found = classical.classical_features(frame, images, wanted)
    assert np.array_equal(found.image, whole)
    assert np.array_equal(found.text, texts)


# -- audit ---------------------------------------------------------------------------------


def released(count: int = 1000) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [f"{number:04}" for number in range(count)],
            "split": ["test" if number % 10 == 0 else "train" for number in range(count)],
            "label": [None if number % 50 == 49 else f"c{number % 3}" for number in range(count)],
        }
    )


def test_the_sample_has_items_of_every_split_and_repeats() -> None:
    frame = released()
    sample = stage.audit_sample(frame, 200, 5)
    assert sample.equals(stage.audit_sample(frame[::-1], 200, 5))
    assert not sample.equals(stage.audit_sample(frame, 200, 6))
    assert sample["item_id"].is_unique().all()
    assert sample["label"].null_count() == 0
    assert dict(sample.group_by("split").len().iter_rows()) == {"train": 180, "test": 20}
    assert dict(stage.audit_sample(frame, 5, 5).group_by("split").len().iter_rows()) == {
        "train": 4,
        "test": 2,
    }
    assert stage.audit_sample(frame.clear(), 5, 5).is_empty()


def test_an_audit_by_hand() -> None:
    frame = released()
    verdicts = pl.DataFrame(
        [
            ("0000", "c0", "right"), ("0010", "c1", " Wrong "), ("0020", "c2", "right"), ("0030", "c0", "right"),
            ("0001", "c1", "right"), ("0002", "c2", "right"), ("0003", "c0", "right"), ("0004", "c1", "unsure"),
            ("0005", "an old label", "wrong"), ("9999", "c0", "wrong"), ("0006", "c0", ""), ("0007", "c1", None),
        ],
        schema=["item_id", "label", "verdict"], orient="row",
    )  # fmt: skip
    found = stage.audit_estimate(verdicts, frame)
    assert {name: found[name] for name in ("looked_at", "wrong", "unsure", "outdated", "not_filled_in")} == {
        "looked_at": 7, "wrong": 1, "unsure": 1, "outdated": 2, "not_filled_in": 2,
    }  # fmt: skip
    # 100 of 980 labelled items are in test, where one of four is wrong; none of three in train.
    assert found["share"] == pytest.approx(100 / 980 / 4, abs=1e-5)
    assert found["interval"][0] < found["share"] < found["interval"][1]
    assert found["wrong_items"] == [{"item_id": "0010", "label": "c1"}]
    assert found["splits_without"] == []


def test_the_interval_of_one_stratum_is_clopper_and_pearsons() -> None:
    from scipy.stats import binomtest

    frame = pl.DataFrame(
        {"item_id": [f"{n:03}" for n in range(300)], "split": ["test"] * 300, "label": ["a"] * 300}
    )
    for wrong in (0, 3, 100):
        verdicts = frame.head(100).select(
            "item_id",
            "label",
            verdict=pl.when(pl.int_range(pl.len()) < wrong).then(pl.lit("wrong")).otherwise(pl.lit("right")),
        )
        found = stage.audit_estimate(verdicts, frame)
        expected = binomtest(wrong, 100).proportion_ci(0.95, method="exact")
        # The variance of a sample divides by n - 1, so the effective size is one less than n at most.
        assert found["interval"] == pytest.approx([expected.low, expected.high], abs=2e-3)


def test_the_interval_of_an_audit_holds_what_it_promises() -> None:
    generator = np.random.default_rng(0)
    frame = (
        released(3000)
        .drop_nulls("label")
        .with_columns(
            is_wrong=pl.Series(generator.random(2940) < 0.06)
            | (pl.col("split") == "test") & (pl.col("label") == "c0")
        )
    )
    truth = float(frame["is_wrong"].mean())  # type: ignore[arg-type]
    held = []
    for seed in range(60):
        sample = stage.audit_sample(frame, 150, seed)
        verdicts = sample.select(
            "item_id", "label", verdict=pl.when("is_wrong").then(pl.lit("wrong")).otherwise(pl.lit("right"))
        )
        low, high = stage.audit_estimate(verdicts, frame)["interval"]
        held.append(low <= truth <= high)
    assert np.mean(held) >= 0.92


def test_what_is_no_verdict_is_an_error() -> None:
    frame = released()
    sheet = pl.DataFrame({"item_id": ["0000"], "label": ["c0"], "verdict": ["maybe"]})
    with pytest.raises(ConfigError, match="verdicts are right, wrong, unsure, found 'maybe'"):
        stage.audit_estimate(sheet, frame)
    twice = pl.DataFrame({"item_id": ["0000"] * 2, "label": ["c0"] * 2, "verdict": ["right", "wrong"]})
    with pytest.raises(ConfigError, match="an item is in the audit twice: '0000'"):
        stage.audit_estimate(twice, frame)


# -- gates ---------------------------------------------------------------------------------


def candidates(**changes: Any) -> pl.LazyFrame:
    row = {"item_id": "00", "label": "hat", "suggested": "boot", "own_probability": 0.1, **changes}
    return pl.LazyFrame([row], schema=dict(LABEL_CANDIDATES))


@pytest.mark.parametrize("changes", [{"item_id": "99"}, {"label": "cap"}, {"suggested": "hat"}])
def test_candidates_must_be_items(changes: dict[str, str]) -> None:
    frame = items([{"label": "hat"}])
    assert gates.candidates_are_items(candidates(), frame).is_passed
    outcome = gates.candidates_are_items(candidates(**changes), frame)
    assert not outcome.is_passed
    assert outcome.numbers["wrong_rows"] == 1
    assert not gates.candidates_are_items(pl.concat([candidates()] * 2), frame).is_passed


def test_annotators_must_agree_as_far_as_demanded() -> None:
    found = {"alpha": 0.7, "items": 11}
    assert gates.annotators_agree(found, 0.7).is_passed
    assert not gates.annotators_agree(found, 0.71).is_passed
    for nothing in (None, {"alpha": None, "items": 3}):
        assert not gates.annotators_agree(nothing, 0.1).is_passed


def test_an_audit_must_stay_within_the_limit() -> None:
    found = stage.audit_estimate(
        pl.DataFrame({"item_id": ["0000", "0001"], "label": ["c0", "c1"], "verdict": ["wrong", "right"]}),
        released(),
    )
    assert found["share"] == pytest.approx(100 / 980, abs=1e-5)
    assert gates.audit_within_limit(found, 0.2).is_passed
    outcome = gates.audit_within_limit(found, 0.05)
    assert not outcome.is_passed
    assert outcome.examples is not None
    assert outcome.examples["item_id"].to_list() == ["0000"]
    for nothing in (None, {**found, "share": None}):
        assert not gates.audit_within_limit(nothing, 0.5).is_passed


TRAINED = {"name": "own", "architecture": "small", "train": {}}
GIVEN = {"name": "given", "architecture": "ViT-B-32", "pretrained": "openai"}


@pytest.mark.parametrize(
    ("features", "is_enabled", "captions_show_labels", "expected"),
    [
        ("auto", True, False, "own"),  # the first
        ("auto", True, True, "given"),  # the first was trained on the labels that it would judge
        ("own", True, True, "own"),  # who names it, has it
        ("given", True, False, "given"),
        ("classical", True, False, None),
        ("auto", False, False, None),
    ],
)
def test_the_model_that_looks_for_wrong_labels(
    features: str, is_enabled: bool, captions_show_labels: bool, expected: str | None
) -> None:
    settings = Baselines.model_validate({"enabled": is_enabled, "models": [TRAINED, GIVEN]})
    found = stage.model_to_look_with(settings, LabelQuality(features=features), captions_show_labels)
    assert (found and found.name) == expected
