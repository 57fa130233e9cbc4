"""The dataset with a known truth that the benchmark of whole builds makes, and how a release is held against it."""

import hashlib
import importlib
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from PIL import Image

from dataset_pipeline.adapters.images import scan_image
from dataset_pipeline.config import CleanImages
from dataset_pipeline_tests.pictures import encoded, picture

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
WORDS = {"en": ("boat", "street", "yellow", "window"), "de": ("Hund", "Fenster", "Garten", "Licht")}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("million_items")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("pages")


@pytest.fixture
def million(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("million")


def photos(folder: Path) -> tuple[Path, ...]:
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(encoded(picture(number, (300, 240)), "JPEG", quality=90))
    return tuple(sorted(folder.iterdir()))


def block(made: ModuleType, folder: Path, of: tuple[Path, ...], count: int = 40) -> pl.DataFrame:
    found: pl.DataFrame = made.write_block(0, count, count, folder, made.Material(of, WORDS))
    return found


def test_what_the_truth_says_is_in_the_files(made: ModuleType, tmp_path: Path) -> None:
    rows = block(made, tmp_path / "images", photos(tmp_path / "photos"))
    by_id = {row["item_id"]: row for row in rows.to_dicts()}
    of_kind = {row["kind"]: row for row in rows.to_dicts() if row["kind"] != made.PLAIN}
    assert of_kind.keys() == {*made.COPIES, *made.LEAKS, *made.FAULTS, "personal"}
    assert len(by_id) == 40

    def data(row: dict[str, str]) -> bytes:
        return (tmp_path / "images" / row["image"]).read_bytes()

    def size(row: dict[str, str]) -> tuple[int, int]:
        with Image.open(tmp_path / "images" / row["image"]) as image:
            return image.size

    for kind in (*made.COPIES, *made.LEAKS):
        row = of_kind[kind]
        original = by_id[row["original"]]
        assert original["kind"] == made.PLAIN
        assert (row["label"], row["language"]) == (original["label"], original["language"])
        assert row["sender"] is None, "or their group would hold them together, and not what is to be found"
        has_same_text = row["caption"] == original["caption"]
        assert has_same_text == (kind not in {"near_text", "text_again", "picture_again"})
        assert (data(row) == data(original)) == (kind in {"same_bytes", "near_text"})
        if kind in {"near_text", "text_again"}:
            assert row["caption"] == original["caption"][:-1]
        if kind in {"re_encoded", "picture_again"}:
            assert size(row) == size(original)
        if kind == "resized":
            assert size(row)[0] == round(1.3 * size(original)[0])
        if kind == "cropped":
            assert size(row)[0] == size(original)[0] - 2 * round(0.03 * size(original)[0])

    for fault in sorted(made.FAULTS):
        row = of_kind[fault]
        if fault == "image_missing":
            assert not (tmp_path / "images" / row["image"]).exists()
        else:
            problem = scan_image(data(row), CleanImages()).get("problem")
            assert problem == (None if fault == "label_missing" else fault)
        assert (row["label"] is None) == (fault == "label_missing")
    assert of_kind["personal"]["caption"].endswith(f" {of_kind['personal']['secret']}")


def test_plain_pictures_are_all_different_and_the_same_every_time(made: ModuleType, tmp_path: Path) -> None:
    of = photos(tmp_path / "photos")
    first, second = (block(made, tmp_path / name, of) for name in "ab")
    assert first.equals(second)
    plain = first.filter(pl.col("kind") == made.PLAIN)
    hashes = [
        [hashlib.sha256((tmp_path / name / path).read_bytes()).hexdigest() for path in plain["image"]]
        for name in "ab"
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == plain.height == plain["caption"].n_unique()


def truth_and_release(made: ModuleType, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """One item of every kind, and what a right release says of them."""
    rows = [("a", made.PLAIN, None, None), ("b", made.PLAIN, None, None), ("c", made.PLAIN, None, None)]
    rows += [
        ("copy of a", "same_bytes", "a", None),
        ("like b", "text_again", "b", None),
        ("broken", "image_empty", None, None),
        ("told", "personal", None, "ada@example.org"),
    ]
    truth = pl.DataFrame(rows, schema=made.TRUTH, orient="row")
    items = pl.DataFrame(
        {
            "item_id": ["b", "c", "copy of a", "like b", "told"],
            "split": ["test", "train", "train", "test", "train"],
            "caption": ["one", "two", "three", "ones", "write to <EMAIL_ADDRESS>"],
        }
    )
    removed = pl.DataFrame(
        {
            "item_id": ["a", "broken"],
            "reason": ["duplicate", "image_empty"],
            "kept_item_id": ["copy of a", None],
        }
    )
    return truth, items, removed


def wrong(
    made: ModuleType, folder: Path, truth: pl.DataFrame, items: pl.DataFrame, removed: pl.DataFrame
) -> dict[str, int]:
    """Kind -> items that are not as they should be, where there are any."""
    (folder / "metadata").mkdir(exist_ok=True)
    items.write_parquet(folder / "metadata/items.parquet")
    removed.write_parquet(folder / "metadata/removed.parquet")
    return {f.kind: f.planted - f.right for f in made.recovered(truth, folder) if f.planted != f.right}


def test_a_right_release_has_no_fault(made: ModuleType, tmp_path: Path) -> None:
    assert wrong(made, tmp_path, *truth_and_release(made, tmp_path)) == {}


def test_every_fault_of_a_release_is_found(made: ModuleType, tmp_path: Path) -> None:
    truth, items, removed = truth_and_release(made, tmp_path)

    def without(table: pl.DataFrame, item: str) -> pl.DataFrame:
        return table.filter(pl.col("item_id") != item)

    kept = pl.DataFrame({"item_id": ["a"], "split": ["train"], "caption": ["three"]})
    # A copy and its original are both kept, in one split: no leak, but one item too many.
    assert wrong(made, tmp_path, truth, pl.concat([items, kept]), without(removed, "a")) == {"same_bytes": 1}
    # In two splits it is a leak as well.
    across = pl.concat([items, kept.with_columns(split=pl.lit("test"))])
    found = wrong(made, tmp_path, truth, across, without(removed, "a"))
    assert found == {"same_bytes": 1, "pairs that cross splits": 1}
    moved = items.with_columns(
        split=pl.when(pl.col("item_id") == "like b").then(pl.lit("train")).otherwise("split")
    )
    assert wrong(made, tmp_path, truth, moved, removed) == {"text_again": 1, "pairs that cross splits": 1}
    told = items.with_columns(
        pl.col("caption").str.replace("<EMAIL_ADDRESS>", "ada@example.org", literal=True)
    )
    assert wrong(made, tmp_path, truth, told, removed) == {"personal": 1}
    # Removed, but for another reason than the fault that it has.
    other = removed.with_columns(pl.col("reason").replace("image_empty", "image_truncated"))
    assert wrong(made, tmp_path, truth, items, other) == {"image_empty": 1}
    gone = pl.DataFrame({"item_id": ["c"], "reason": ["duplicate"], "kept_item_id": ["b"]})
    assert wrong(made, tmp_path, truth, without(items, "c"), pl.concat([removed, gone])) == {made.PLAIN: 1}


def test_a_part_of_a_page_is_replaced_and_the_others_stay(pages: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    pages.write_part(page, "one", "first\\1")
    pages.write_part(page, "two", "second")
    pages.write_part(page, "one", "again\\1")
    assert page.read_text(encoding="utf-8") == (
        "<!-- one:begin -->\nagain\\1\n<!-- one:end -->\n\n<!-- two:begin -->\nsecond\n<!-- two:end -->\n"
    )


def test_lines_of_a_build_say_which_phase_begins(million: ModuleType) -> None:
    lines = {
        "raw_images ...\n": "raw_images",
        "raw_images: pictures decoded: 3,584 of 9,772\n": None,
        "raw_images: 999 rows, 1 removed (2.2 s)\n": "raw_images: gates",
        "raw_images: 5 gates passed\n": "between stages",
    }
    assert {line: million.stage_of(line) for line in lines} == lines


def test_growth_is_the_power_of_the_number_of_items(million: ModuleType) -> None:
    def cost(seconds: float) -> object:
        return million.Cost(cpu_seconds=seconds)

    assert million._growth([10, 1000], [cost(2), cost(200)]) == "1.00"
    assert million._growth([10, 100], [cost(2), cost(200)]) == "2.00"
    assert million._growth([10, 100], [cost(0.5), cost(200)]) == ""  # too short to say anything of
