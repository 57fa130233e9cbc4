"""How near splits of whole groups come to their targets: against the optimum, and against scikit-learn; and how fast.

``python benchmarks/split.py`` prints its tables, ``--write`` also writes docs/quality/split.md. The optimum is that
of an exact solver (HiGHS, by scipy.optimize.milp) for the same objective: costs are convex in whole numbers of
items, so straight lines through neighbouring numbers state them exactly. Real data: the emoji and the clothing
photos under datasets/*/source, where they are there.
"""

import argparse
import resource
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from sklearn.model_selection import StratifiedGroupKFold

from dataset_pipeline.config import Split
from dataset_pipeline.stages.assignment import (
    Costs,
    Task,
    balanced_features,
    divide,
    improve,
    numbered,
)
from dataset_pipeline.stages.folds import fold_items
from dataset_pipeline.stages.similarity import Floats, Integers
from dataset_pipeline.stages.split import split_items
from dataset_pipeline.tables import DEDUPLICATED, PAIRS, empty

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "quality" / "split.md"
SMALL_CASES = 40
MILLION = 1_000_000


def small_task(seed: int) -> Task:
    """A few large groups, mostly of one label each: the hardest there is."""
    generator = np.random.default_rng(seed)
    group_count, labels = int(generator.integers(8, 25)), int(generator.integers(2, 6))
    groups = np.repeat(np.arange(group_count), generator.geometric(0.3, group_count))
    own = generator.integers(0, labels, group_count)[groups]
    label = np.where(generator.random(len(groups)) < 0.7, own, generator.integers(0, labels, len(groups)))
    table = pl.DataFrame({"stratum": label.astype(str)})
    weights, emphasis = balanced_features(table, [], groups, group_count)
    ratios = np.array(([0.8, 0.1, 0.1], [0.7, 0.3], [0.6, 0.2, 0.2])[seed % 3])
    return Task(weights, emphasis, ratios, np.ones((group_count, len(ratios)), bool))


def optimum(task: Task) -> float:
    """The least distance of any division with no empty split."""
    weights, (groups, features), splits = task.weights.toarray(), task.weights.shape, len(task.ratios)
    cost, chosen = Costs(task), groups * splits
    rows: list[tuple[dict[int, float], float, float]] = []
    for group in range(groups):
        rows.append(({group * splits + split: 1.0 for split in range(splits)}, 1, 1))
    for split in range(splits):
        rows.append(({group * splits + split: 1.0 for group in range(groups)}, 1, np.inf))
    for split in range(splits):
        for feature in range(features):
            lines = np.array([
                float(cost.of(np.full(cost.target.shape, float(n)))[split, feature])
                for n in range(int(weights[:, feature].sum()) + 1)
            ])  # fmt: skip
            for n, slope in enumerate(np.diff(lines)):
                row = {chosen + split * features + feature: 1.0}
                row |= {
                    int(g) * splits + split: -slope * weights[g, feature]
                    for g in np.flatnonzero(weights[:, feature])
                }
                rows.append((row, lines[n] - slope * n, np.inf))
    count = chosen + splits * features
    matrix = csr_array(
        (
            [value for row, _, _ in rows for value in row.values()],
            (
                [number for number, (row, _, _) in enumerate(rows) for _ in row],
                [column for row, _, _ in rows for column in row],
            ),
        ),
        shape=(len(rows), count),
    )
    is_choice = np.arange(count) < chosen
    found = milp(
        np.where(is_choice, 0, 1),
        constraints=LinearConstraint(matrix, [low for _, low, _ in rows], [high for _, _, high in rows]),
        integrality=is_choice.astype(int),
        bounds=Bounds(0, np.where(is_choice, 1, np.inf)),
        options={"mip_rel_gap": 1e-6, "time_limit": 120},
    )
    if found.status != 0:
        raise RuntimeError(f"no optimum: {found.message}")
    return task.distance(found.x[:chosen].reshape(groups, splits).argmax(axis=1))


def beside_the_optimum() -> str:
    totals, hits, seconds = np.zeros(3), np.zeros(2, int), np.zeros(2)
    for case in range(SMALL_CASES):
        task = small_task(case)
        groups = len(task.allowed)
        order = np.argsort(-np.asarray(task.weights.sum(axis=1)).ravel(), kind="stable")
        free, fixed = np.ones(groups, bool), np.full(groups, -1)
        start = time.process_time()
        greedy = divide(task, fixed, free, order)
        searched = improve(task, greedy, free, order, 0)
        seconds[0] += time.process_time() - start
        start = time.process_time()
        best = optimum(task)
        seconds[1] += time.process_time() - start
        found = np.array([task.distance(greedy), task.distance(searched), best])
        totals += found
        hits += found[:2] <= best * (1 + 1e-3) + 1e-6
    return table(
        ["method", "sum of distances", "over the optimum", "optimal cases", "CPU seconds"],
        [
            ["greedy alone", f"{totals[0]:.2f}", f"{totals[0] / totals[2] - 1:.0%}", f"{hits[0]} of {SMALL_CASES}", ""],
            ["with local search", f"{totals[1]:.2f}", f"{totals[1] / totals[2] - 1:.1%}", f"{hits[1]} of {SMALL_CASES}", f"{seconds[0]:.1f}"],
            ["exact solver", f"{totals[2]:.2f}", "0 %", f"{SMALL_CASES} of {SMALL_CASES}", f"{seconds[1]:.1f}"],
        ],
    )  # fmt: skip


def real_data() -> Iterator[tuple[str, pl.DataFrame, list[str]]]:
    """(name, item_id, label, language and group of every item, columns to stratify by)."""
    emoji = ROOT / "datasets" / "emoji" / "source" / "items.csv"
    if emoji.is_file():
        rows = pl.read_csv(emoji, infer_schema=False).drop_nulls(["category", "lang"])
        named = {"item_id": "id", "label": "category", "language": "lang", "group": "base_emoji"}
        yield (
            "emoji by category and language",
            rows.select(**named).unique("item_id", maintain_order=True),
            ["label", "language"],
        )
    clothing = ROOT / "datasets" / "clothing" / "source" / "images.csv"
    if clothing.is_file():
        rows = pl.read_csv(clothing, infer_schema=False).filter(~pl.col("label").is_in(["Skip", "Not sure"]))
        named = {"item_id": "image", "label": "label", "group": "sender_id"}
        yield (
            "clothing photos by label",
            rows.select(**named).with_columns(language=pl.lit(None, pl.String)),
            ["label"],
        )


def off_target(
    rows: pl.DataFrame, columns: list[str], parts: Integers, ratios: Floats
) -> tuple[float, int, int]:
    """Items beyond the targets over all strata; the largest error of a part's size; groups that are cut."""
    strata = rows.select(pl.concat_str([pl.col(c).fill_null("") for c in columns], separator="|")).to_series()
    codes = numbered(strata)[1]
    counts = np.bincount(codes * len(ratios) + parts, minlength=(codes.max() + 1) * len(ratios))
    found = counts.reshape(-1, len(ratios))
    target = found.sum(axis=1)[:, None] * ratios
    sizes = np.abs(found.sum(axis=0) - target.sum(axis=0)).max()
    cut = rows.select("group", part=pl.Series(parts)).group_by("group").agg(pl.col("part").n_unique())
    return float(np.maximum(found - target, 0).sum()), round(float(sizes)), int((cut["part"] > 1).sum())


def beside_scikit_learn() -> str:
    lines = []
    for name, unsorted, columns in real_data():
        rows = unsorted.with_columns(pl.col("group").fill_null(pl.col("item_id"))).sort("item_id")
        strata = rows.select(
            pl.concat_str([pl.col(c).fill_null("") for c in columns], separator="|")
        ).to_series()
        for folds in (3, 5):
            start = time.process_time()
            given = rows.with_columns(leak_group="group", split=pl.lit("all"), stratum=strata)
            ours = fold_items(given, columns, folds, 17).to_numpy()
            seconds = time.process_time() - start
            even = np.full(folds, 1 / folds)
            start = time.process_time()
            theirs = np.zeros(rows.height, np.int64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of labels with fewer items than folds
                cut = StratifiedGroupKFold(folds, shuffle=True, random_state=17)
                for number, (_, test) in enumerate(
                    cut.split(rows, strata.to_numpy(), rows["group"].to_numpy())
                ):
                    theirs[test] = number
            other_seconds = time.process_time() - start
            for who, parts, cpu in (
                ("this package", ours, seconds),
                ("StratifiedGroupKFold", theirs, other_seconds),
            ):
                off, sizes, broken = off_target(rows, columns, parts, even)
                lines.append(
                    [
                        name,
                        str(folds),
                        who,
                        f"{rows.height:,}",
                        f"{off:,.0f}",
                        f"{sizes:,}",
                        str(broken),
                        f"{cpu:.1f}",
                    ]
                )
    head = [
        "data",
        "folds",
        "by",
        "items",
        "items off target, all strata",
        "largest error of a fold's size",
        "groups cut",
        "CPU seconds",
    ]
    return table(head, lines)


def a_million() -> str:
    lines = []
    generator = np.random.default_rng(1)
    chance = 1 / np.arange(1, 201)
    chance /= chance.sum()
    for groups in (100_000, 400_000, MILLION):
        group = np.arange(MILLION) if groups == MILLION else generator.integers(0, groups, MILLION)
        own = generator.choice(200, MILLION, p=chance)[group]
        label = np.where(generator.random(MILLION) < 0.8, own, generator.choice(200, MILLION, p=chance))
        rows = pl.DataFrame({"label": label, "language": generator.integers(0, 14, MILLION), "group": group})
        rows = rows.cast(pl.String)
        items = pl.DataFrame(
            {"item_id": np.arange(MILLION).astype(str), "label": rows["label"], "language": rows["language"]}
        ).with_columns(group_keys=pl.concat_list(rows["group"]), duplicate_group=pl.col("item_id"))
        given = items.select(
            *((pl.col(n) if n in items.columns else pl.lit(None).alias(n)).cast(t) for n, t in DEDUPLICATED.items())
        ).lazy()  # fmt: skip
        start = time.process_time()
        result = split_items(given, empty(PAIRS), (), Split(), 0)
        seconds = time.process_time() - start
        report = result.report
        lines.append([
            f"{rows['group'].n_unique():,}", f"{result.strata['stratum'].n_unique():,}", f"{report['items_off_target']:,.0f}",
            f"{report['items_off_target_at_least']:,.0f}", f"{seconds:.0f}",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f}",
        ])  # fmt: skip
    return table(
        [
            "groups",
            "strata",
            "items off target",
            "unavoidable, a lower bound",
            "CPU seconds",
            "peak memory so far, GiB",
        ],
        lines,
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    write = parser.parse_args().write
    parts = [
        f"""# Quality of splits

Written by `python benchmarks/split.py --write`. How near whole groups can be brought to the shares of every stratum.

## Against the optimum

{SMALL_CASES} cases of 8 to 24 groups, 2 to 5 labels, two or three splits. The distance is what the search lowers
(`stages/assignment.py`); the exact solver is HiGHS.

{beside_the_optimum()}
"""
    ]
    print(parts[-1], flush=True)
    parts.append(f"""
## Against scikit-learn

Folds of real data by their group keys alone. Items off target: those beyond an equal share of their stratum, over
all strata and folds; some are unavoidable, because groups and items are whole.

{beside_scikit_learn()}
""")
    print(parts[-1], flush=True)
    parts.append(f"""
## One million items

200 labels of very different size, 14 languages, most items of a group of one label. All of `split_items`: links,
groups, assignment and tables.

{a_million()}
""")
    print(parts[-1], flush=True)
    if write:
        PAGE.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
