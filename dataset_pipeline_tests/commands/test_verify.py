"""Every kind of fault that ``verify`` promises to find, planted in a good release: one test a fault.

Where a fault could be hidden behind checksums that were written anew, it is: ``sign`` does that.
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataset_pipeline import verification
from dataset_pipeline.adapters.released_images import release_images
from dataset_pipeline.adapters.shards import described_variants
from dataset_pipeline.config import Baselines, ReleasedImages
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import baselines, diff, result_tables, ro_crate, sample
from dataset_pipeline.stages.release import quality_report
from dataset_pipeline.tables import IMAGE_WARNINGS, PAIRS, REMOVED
from dataset_pipeline.verification import CHECKS, documents_code, verify
from dataset_pipeline_tests.pictures import encoded, picture
from dataset_pipeline_tests.toy_release import Toy, noise_png, sign, toy

TRAIN = "data/train-00000-of-00001.parquet"
TEST = "data/test-00000-of-00001.parquet"
ITEMS = "metadata/items.parquet"


def with_removed(example: Toy) -> Toy:
    """Two removed rows: a duplicate of a kept item, and a picture that was no picture."""
    example.removed = pl.DataFrame(
        [
            {"item_id": "gone-1", "stage": "duplicates", "reason": "duplicate", "kept_item_id": "0000-de"},
            {"item_id": "gone-2", "stage": "clean", "reason": "image_undecodable", "detail": "not a picture"},
        ],
        schema=dict(REMOVED),
    )
    example.pairs = pl.DataFrame(
        [{"item_id": "0000-de", "other_item_id": "gone-1", "kind": "same_bytes", "score": 1.0}],
        schema=dict(PAIRS),
    )
    return example


@pytest.fixture
def release(tmp_path: Path) -> Path:
    with_removed(toy()).write(tmp_path / "release")
    return tmp_path / "release"


def checks(release: Path) -> set[str]:
    return {finding.check for finding in verify(release).findings}


def rewrite(path: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Change a Parquet file in place."""
    pq.write_table(edit(pq.read_table(path)), path, write_page_index=True)


def set_value(path: Path, column: str, row: int, value: str | None) -> None:
    def edit(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row] = value
        position = table.schema.get_field_index(column)
        return table.set_column(
            position, table.schema.field(column), pa.array(values, table.schema.field(column).type)
        )

    rewrite(path, edit)


def set_picture(release: Path, shard: str, row: int, data: bytes, name: str = "x.png") -> None:
    def edit(table: pa.Table) -> pa.Table:
        cells = table.column("image").to_pylist()
        cells[row] = {"bytes": data, "path": name}
        return table.set_column(
            0, table.schema.field("image"), pa.array(cells, table.schema.field("image").type)
        )

    rewrite(release / shard, edit)


def test_a_good_release_has_no_finding(release: Path) -> None:
    result = verify(release)
    assert [str(finding) for finding in result.findings] == []
    assert result.warnings == ()
    assert result.facts == {"files": 24, "items": 60, "pictures": 20}


@pytest.mark.parametrize("shape", ["texts", "pictures"])
def test_a_good_release_of_pictures_or_texts_alone(tmp_path: Path, shape: str) -> None:
    if shape == "texts":
        example = toy()
        gone = pl.lit(None, pl.String)
        example.items = example.items.with_columns(image_ref=gone, image_sha256=gone)
    else:
        source = {"id": "noise", "path": "items.csv", "licence": "CC0-1.0", "columns": {"image": "picture"}}
        example = toy(sources=[source])
        example.items = example.items.drop("name").filter(pl.col("language") == "en")
    example.write(tmp_path / "release")
    assert [str(finding) for finding in verify(tmp_path / "release").findings] == []


# -- files ---------------------------------------------------------------------------------


def test_a_changed_byte(release: Path) -> None:
    with (release / "reports" / "report.html").open("a") as stream:
        stream.write(" ")
    assert checks(release) == {"checksum"}


def test_a_missing_file(release: Path) -> None:
    (release / "datasheet.md").unlink()
    assert "file_missing" in checks(release)


def test_a_missing_file_that_the_checksums_do_not_name_either(release: Path) -> None:
    (release / "LICENSE").unlink()
    sign(release)
    assert checks(release) == {"file_missing"}


def test_a_file_that_nothing_names(release: Path) -> None:
    (release / "data" / "extra.txt").write_text("x")
    assert {"file_not_listed", "shards"} == checks(release)


def test_checksums_that_lead_out_of_the_release_are_not_followed(release: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with (release / "SHA256SUMS").open("a") as stream:
        stream.write(f"{'0' * 64}  ../secret\n{'0' * 64}  /etc/passwd\n")
    assert [finding.check for finding in verify(release).findings] == ["unsafe_path", "unsafe_path"]


def test_a_link_is_not_followed(release: Path, tmp_path: Path) -> None:
    (release / "README.md").rename(tmp_path / "README.md")
    (release / "README.md").symlink_to(tmp_path / "README.md")
    assert {"unsafe_path", "file_missing"} <= checks(release)


def test_a_folder_behind_a_link_is_not_listed(release: Path, tmp_path: Path) -> None:
    (release / "everything").symlink_to("/", target_is_directory=True)
    assert checks(release) == {"unsafe_path"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_does_not_hang_it(release: Path) -> None:
    os.mkfifo(release / "reports" / "pipe.json")
    assert checks(release) == {"unsafe_path"}


def test_croissant_with_a_wrong_checksum(release: Path) -> None:
    # The reference validator accepts this.
    path = release / "croissant.json"
    document = json.loads(path.read_text())
    document["distribution"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(document))
    (release / "SHA256SUMS").unlink()
    assert "checksum" in checks(release)


def test_a_description_that_leaves_fields_open_is_a_warning(tmp_path: Path) -> None:
    toy(url=None, documentation={}).write(tmp_path / "release")
    result = verify(tmp_path / "release")
    assert result.is_good
    assert "croissant.json: 'url' is required, but missing; set 'url' in dataset.yaml" in result.warnings


# -- tables --------------------------------------------------------------------------------


def test_an_id_twice(release: Path) -> None:
    rewrite(release / ITEMS, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    sign(release)
    assert {"duplicate_id", "data_metadata_differ"} <= checks(release)


def test_an_item_both_released_and_removed(release: Path) -> None:
    set_value(release / "metadata/removed.parquet", "item_id", 0, "0000-de")
    sign(release)
    assert "released_and_removed" in checks(release)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("reason", "because"),
        ("stage", "somewhere"),
        ("reason", None),
        ("stage", "raw"),  # documented, and yet no stage that removes duplicates
    ],
)
def test_an_undocumented_reason(release: Path, column: str, value: str | None) -> None:
    set_value(release / "metadata/removed.parquet", column, 1, value)
    sign(release)
    assert "reason_unknown" in checks(release)


def test_a_duplicate_of_an_item_that_is_not_there(release: Path) -> None:
    set_value(release / "metadata/removed.parquet", "kept_item_id", 0, "nobody")
    sign(release)
    assert "reference_unknown" in checks(release)


def test_a_missing_column(release: Path) -> None:
    rewrite(release / ITEMS, lambda table: table.drop_columns(["licence"]))
    sign(release)
    assert "schema" in checks(release)


def test_a_shard_with_other_columns(release: Path) -> None:
    rewrite(release / TEST, lambda table: table.append_column("secret", pa.array(["x"] * table.num_rows)))
    sign(release)
    assert "schema" in checks(release)


def test_a_value_that_differs_between_shard_and_metadata(release: Path) -> None:
    set_value(release / TRAIN, "label", 0, "class x")
    sign(release)
    assert checks(release) == {"data_metadata_differ"}


def test_a_missing_shard(release: Path) -> None:
    (release / TEST).unlink()
    sign(release)
    assert "data_metadata_differ" in checks(release)


def test_a_shard_whose_number_is_missing(release: Path) -> None:
    (release / TEST).rename(release / "data" / "test-00001-of-00002.parquet")
    sign(release)
    assert "shards" in checks(release)


def test_row_groups_that_no_viewer_can_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = toy()
    example.write(tmp_path / "release")
    path = tmp_path / "release" / TRAIN
    pq.write_table(pq.read_table(path), path, write_page_index=False)
    sign(tmp_path / "release")
    assert [str(f) for f in verify(tmp_path / "release").findings] == [
        f"row_group: {TRAIN}: has no page index"
    ]
    # What the package writes itself is 100 rows and 64 MiB at most: larger ones are made with smaller limits.
    example.write(tmp_path / "release")
    monkeypatch.setattr(verification, "_GOOD_ROW_GROUP_BYTES", 10_000)
    monkeypatch.setattr(verification, "_GOOD_ROW_GROUP_ROWS", 30)
    found = verify(tmp_path / "release").findings
    assert {finding.check for finding in found} == {"row_group"}
    assert any("1 of 1 row groups are too large: up to 36 rows" in finding.detail for finding in found)


def test_a_shard_under_another_splits_name(release: Path) -> None:
    (release / TEST).rename(release / "data" / "holdout-00000-of-00001.parquet")
    sign(release)
    assert "shards" in checks(release)


def test_a_table_that_is_no_parquet(release: Path) -> None:
    (release / ITEMS).write_bytes(b"PAR1 not really PAR1")
    sign(release)
    assert "unreadable" in checks(release)


def test_a_shard_that_is_no_parquet(release: Path) -> None:
    (release / TEST).write_bytes(b"PAR1 not really PAR1")
    sign(release)
    assert "unreadable" in checks(release)


# -- leaks ---------------------------------------------------------------------------------


def test_a_group_in_two_splits(tmp_path: Path) -> None:
    example = toy()
    example.items = example.items.with_columns(
        leak_group=pl.when(pl.col("item_id").str.starts_with("0004"))
        .then(pl.lit("0000"))
        .otherwise("leak_group")
    )
    example.write(tmp_path / "release")
    assert "group_crosses_splits" in checks(tmp_path / "release")


def with_folds(**changes: pl.Expr) -> Toy:
    """Two folds of whole groups."""
    example = toy(split={"folds": 2})
    fold = pl.col("leak_group").cast(pl.Int64) % 2
    example.items = example.items.with_columns(fold=changes.get("fold", fold), **{
        name: value for name, value in changes.items() if name != "fold"
    })  # fmt: skip
    return example


def test_folds_that_cut_nothing_are_fine(tmp_path: Path) -> None:
    with_folds().write(tmp_path / "release")
    assert verify(tmp_path / "release").findings == ()


def test_a_group_in_two_folds(tmp_path: Path) -> None:
    with_folds(fold=(pl.col("item_id") == "0004-de").cast(pl.Int64)).write(tmp_path / "release")
    found = checks(tmp_path / "release")
    assert {"group_crosses_folds", "leak"} <= found  # one picture, in its other languages, in two folds


# The groups of train end in 2020, of validation in 2021, of test in 2022; one group of test began in 2020.
PERIODS_OF_TOY = [
    {"split": "train", "after": None, "until": "2020-07-01T12:00:00Z", "items": 36, "items_before": 0},
    {"split": "validation", "after": "2020-07-01T12:00:00Z", "until": "2021-07-01T12:00:00Z", "items": 12,
     "items_before": 0},
    {"split": "test", "after": "2021-07-01T12:00:00Z", "until": "2022-07-01T12:00:00Z", "items": 12,
     "items_before": 1},
]  # fmt: skip


def in_time(folder: Path, date: pl.Expr | None = None, **report: object) -> Path:
    """A release whose split follows time; ``date``: other dates, ``report``: other values of reports/split.json."""
    columns = {"image": "picture", "label": "label", "texts": {"name": "name"}, "date": "made"}
    source = {"id": "noise", "path": "items.csv", "licence": "CC-BY-SA-4.0", "columns": columns}
    example = toy(sources=[{**source, "url": "https://example.org/noise"}], split={"method": "temporal"})
    years = {"train": "2020", "validation": "2021", "test": "2022"}
    usual = pl.concat_str(pl.col("split").replace_strict(years), pl.lit("-07-01T12:00:00Z"))
    began = pl.when(pl.col("item_id") == "0004-de").then(pl.lit("2020-05")).otherwise(usual)
    example.items = example.items.with_columns(date=began)
    if date is not None:
        example.items = example.items.with_columns(date=date)
    told = {"method": "temporal", "periods": PERIODS_OF_TOY}
    example.reports["split"] = told
    example.write(folder)
    (folder / "reports/split.json").write_text(json.dumps({**told, **report}))
    sign(folder)
    return folder


def test_a_split_in_time_is_fine(tmp_path: Path) -> None:
    assert [str(finding) for finding in verify(in_time(tmp_path / "release")).findings] == []


def dated(item_id: str, date: str | None) -> pl.Expr:
    return pl.when(pl.col("item_id") == item_id).then(pl.lit(date)).otherwise("date")


@pytest.mark.parametrize(
    ("date", "report", "check"),
    [
        # an item of train as late as the first groups of validation, and of test
        (dated("0000-de", "2021-07-01"), {}, "time_crosses_splits"),
        (dated("0000-de", "2022-07-01T12:00:00Z"), {}, "time_crosses_splits"),
        # nobody knows when an item of train was made
        (dated("0000-de", "some day"), {}, "time_crosses_splits"),
        (dated("0000-de", None), {}, "time_crosses_splits"),
        # the order of the splits is another one
        (None, {"periods": PERIODS_OF_TOY[::-1]}, "time_crosses_splits"),
        # the report says what the dates do not give
        (None, {"periods": [{**PERIODS_OF_TOY[0], "until": "2020-07-02T12:00:00Z"}, *PERIODS_OF_TOY[1:]]},
         "time_crosses_splits"),
        (dated("0004-de", "2022-05"), {}, "time_crosses_splits"),
        (None, {"periods": PERIODS_OF_TOY[:2]}, "time_crosses_splits"),
        (None, {"periods": []}, "unreadable"),
        (None, {"periods": "train, test"}, "unreadable"),
        (None, {"periods": [7]}, "unreadable"),
    ],
)  # fmt: skip
def test_faults_of_a_split_in_time(
    date: pl.Expr | None, report: dict[str, object], check: str, tmp_path: Path
) -> None:
    found = checks(in_time(tmp_path / "release", date, **report))
    assert check in found
    assert found <= {check, "count"}  # the card, which tells the periods too, is stale then


def test_a_split_in_time_without_dates(tmp_path: Path) -> None:
    example = toy()
    example.reports["split"] = {"method": "temporal", "periods": PERIODS_OF_TOY}
    example.write(tmp_path / "release")
    assert checks(tmp_path / "release") == {"schema"}


def test_an_item_without_a_fold(tmp_path: Path) -> None:
    missing = pl.when(pl.col("leak_group") != "0004").then(pl.lit(0)).cast(pl.Int64)
    with_folds(fold=missing).write(tmp_path / "release")
    assert checks(tmp_path / "release") == {"schema"}


def test_a_changed_picture_and_a_changed_text_of_train_planted_in_test(tmp_path: Path) -> None:
    """Neither has the bytes, the pixels or the words of the other; the folder's own lists say nothing of them."""
    example = toy(side=64)
    train, test = picture(1), picture(1).point(lambda value: min(255, value + 8)).resize((70, 70))
    example.pictures |= {"at-0": encoded(train), "at-4": encoded(test)}
    shas = {number: hashlib.sha256(example.pictures[f"at-{number}"]).hexdigest() for number in (0, 4)}
    for number, sha in shas.items():
        is_it = pl.col("image_ref") == f"noise/{number}.png"
        example.items = example.items.with_columns(
            image_sha256=pl.when(is_it).then(pl.lit(sha)).otherwise("image_sha256")
        )
        example.images = example.images.with_columns(
            sha256=pl.when(is_it).then(pl.lit(sha)).otherwise("sha256")
        )
    text = "a text of train that is long enough to be compared with all the others"
    example.items = example.items.with_columns(
        name=pl.when(pl.col("item_id") == "0001-de").then(pl.lit(text))
        .when(pl.col("item_id") == "0009-de").then(pl.lit(f"{text} x")).otherwise("name")
    )  # fmt: skip
    example.write(tmp_path / "release")
    told = [str(finding) for finding in verify(tmp_path / "release").findings if finding.check == "leak"]
    assert len(told) == 1
    assert '"near_image": 9' in told[0]  # three items have the one picture, three the other
    assert '"near_text": 1' in told[0]


def test_a_duplicate_pair_in_two_splits(tmp_path: Path) -> None:
    example = toy()
    example.pairs = pl.DataFrame(
        [{"item_id": "0000-de", "other_item_id": "0004-de", "kind": "near_text", "score": 0.9}],
        schema=dict(PAIRS),
    )
    example.write(tmp_path / "release")
    assert "pair_crosses_splits" in checks(tmp_path / "release")


def test_a_picture_of_train_planted_in_test_behind_new_checksums(release: Path) -> None:
    # Encoded anew, so that its bytes differ: nothing but the pixels tells.
    import io

    from PIL import Image

    table = pq.read_table(release / TRAIN)
    target = io.BytesIO()
    Image.open(io.BytesIO(table.column("image")[0].as_py()["bytes"])).save(target, "PNG", compress_level=1)
    set_picture(release, TEST, 0, target.getvalue())
    sign(release)
    assert "leak" in checks(release)


def shared_short_text(folder: Path, thresholds: object) -> Path:
    """A release in which an item of train and one of test are both called "red", and that says what it linked."""
    example = toy()
    red = pl.col("item_id").is_in(["0000-en", "0004-en"])
    example.items = example.items.with_columns(name=pl.when(red).then(pl.lit("red")).otherwise("name"))
    pair = {"item_id": "0000-en", "other_item_id": "0004-en", "kind": "same_text", "score": 1.0}
    example.pairs = pl.DataFrame([pair], schema=dict(PAIRS))
    example.write(folder)
    told = {"cross_split_pairs": 0, "random_split_pairs": 7, "thresholds": thresholds}
    (folder / "reports" / "leakage.json").write_text(json.dumps(told))
    sign(folder)
    return folder


@pytest.mark.parametrize(
    ("thresholds", "found"),
    [
        ({}, {"leak", "pair_crosses_splits"}),
        ({"link": ["group_keys", "image", "text"]}, {"leak", "pair_crosses_splits"}),
        ({"min_link_text_chars": 3}, {"leak", "pair_crosses_splits"}),  # "red" is long enough
        ({"min_link_text_chars": 4}, set()),
        ({"link": ["group_keys", "image"]}, set()),
        ({"link": ["hope"]}, {"unreadable", "leak", "pair_crosses_splits"}),
        (["nonsense"], {"unreadable", "leak", "pair_crosses_splits"}),
    ],
)
def test_what_counts_as_a_leak_is_what_the_release_says(
    tmp_path: Path, thresholds: object, found: set[str]
) -> None:
    """Rules other than the defaults are followed, and said."""
    result = verify(shared_short_text(tmp_path / "release", thresholds))
    assert {finding.check for finding in result.findings} == found
    named = [warning for warning in result.warnings if "release's own rules" in warning]
    changed = isinstance(thresholds, dict) and thresholds not in (
        {},
        {"link": ["group_keys", "image", "text"]},
        {"link": ["hope"]},
    )
    assert len(named) == changed


def test_a_report_that_admits_a_leak(release: Path) -> None:
    (release / "reports" / "leakage.json").write_text('{"cross_split_pairs": 3}')
    sign(release)
    leak, lacking = verify(release).findings
    assert str(leak) == "leak: reports/leakage.json: cross_split_pairs is 3, a release needs 0"
    # Of a leak the card says more than that.
    assert str(lacking).startswith(
        "unreadable: documents made again could not be checked: a report lacks what a document says: "
    )


# -- sample --------------------------------------------------------------------------------


def sampled(folder: Path, where: pl.Expr) -> Path:
    """A release with a sample, itself a good release, of the items of ``where``."""
    whole, part = toy(), toy()
    whole.write(folder)
    part.items = part.items.filter(where)
    counts = quality_report(whole.items.lazy(), whole.removed.lazy(), whole.pairs.lazy())
    leaks = {"cross_split_pairs": 0, "random_split_pairs": 7}
    part.reports = sample.sample_reports(
        whole.config, {"quality": counts, "leakage": leaks}, part.items, part.pairs, 0.9
    )
    part.write(folder / sample.FOLDER)
    sign(folder)
    return folder


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (pl.col("item_id") < "0010", set()),
        (pl.col("label") != "class 2", {"sample: mini: has no item of the label class 2"}),
        (pl.col("split") != "test", {"sample: mini: has no item of the split test"}),
    ],
)
def test_a_sample_without_a_class_or_a_split(where: pl.Expr, told: set[str], tmp_path: Path) -> None:
    found = verify(sampled(tmp_path / "release", where)).findings
    # croissant.json of this release describes no sample
    assert {str(finding) for finding in found if finding.check != "file_not_listed"} == told


def test_a_sample_that_is_no_release(release: Path) -> None:
    (release / sample.FOLDER).mkdir()
    (release / sample.FOLDER / "notes.txt").write_text("notes")
    sign(release)
    [finding] = [finding for finding in verify(release).findings if finding.check == "sample"]
    assert "expected a release folder" in finding.detail


# -- pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",  # nothing
        b"<html>not a picture</html>",
        noise_png("x")[:900],  # cut short
        # A header that promises 50,000 x 50,000 pixels.
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xc3P\x00\x00\xc3P\x08\x02\x00\x00\x00\x9f.\x12w",
    ],
    ids=["empty", "html", "truncated", "bomb"],
)
def test_a_picture_that_cannot_be_decoded(release: Path, data: bytes) -> None:
    set_picture(release, TRAIN, 0, data)
    sign(release)
    assert "picture" in checks(release)


def test_a_picture_that_is_missing(release: Path) -> None:
    def edit(table: pa.Table) -> pa.Table:
        cells = [None, *table.column("image").to_pylist()[1:]]
        return table.set_column(
            0, table.schema.field("image"), pa.array(cells, table.schema.field("image").type)
        )

    rewrite(release / TRAIN, edit)
    sign(release)
    assert "picture" in checks(release)


def test_a_picture_name_that_leads_elsewhere(release: Path) -> None:
    set_picture(release, TRAIN, 0, noise_png("x"), "../../x.png")
    sign(release)
    assert "picture" in checks(release)


def test_a_picture_with_a_gps_position(release: Path) -> None:
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(noise_png("y")))
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    target = io.BytesIO()
    picture.save(target, "JPEG", exif=exif)
    set_picture(release, TRAIN, 0, target.getvalue(), "x.jpg")
    sign(release)
    assert "picture_metadata" in checks(release)


# -- documents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("**60 items**", "**6,000 items**"),
        ("**60 items**", "**61 items**"),
        ("2 were removed", "0 were removed"),
        ("num_examples: 12", "num_examples: 13"),
    ],
)
def test_a_number_in_the_card_that_is_not_true(release: Path, old: str, new: str) -> None:
    path = release / "README.md"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    sign(release)
    assert checks(release) == {"count"}


def test_a_page_that_was_made_from_other_reports(release: Path) -> None:
    path = release / "reports" / "leakage.json"
    path.write_text(path.read_text().replace("7", "8"))
    sign(release, with_page=False)
    told = [str(finding) for finding in verify(release).findings]
    assert "count: reports/report.html: was made from other reports than those beside it" in told


def with_tables(folder: Path) -> Path:
    """A release with the tables that follow from its statistics."""
    example = toy()
    counts = {
        "released_items": 60,
        "splits": [{"value": "train", "items": 36}, {"value": "test", "items": 12}],
    }
    example.reports["statistics"] = {"counts": counts, "classes": [], "languages": [], "removed": []}
    tables = result_tables.files_of(result_tables.result_tables(example.reports))
    example.parts["result_tables"] = tables
    example.write(folder)
    return folder


def test_a_table_that_follows_from_the_reports_and_is_missing(tmp_path: Path) -> None:
    release = with_tables(tmp_path / "release")
    (release / "reports" / "tables" / "splits.tex").unlink()
    sign(release)
    assert [str(finding) for finding in verify(release).findings] == [
        "file_missing: reports/tables/splits.tex: it follows from the reports"
    ]


@pytest.mark.parametrize(("told", "is_fine"), [(None, False), (0, False), (1, True), (2, False)])
def test_items_in_outside_sets_that_the_report_does_not_count(
    tmp_path: Path, told: int | None, is_fine: bool
) -> None:
    example = with_removed(toy())
    example.removed = example.removed.with_columns(
        pl.when(pl.col("item_id") == "gone-2").then(pl.lit(value)).otherwise(column).alias(column)
        for column, value in (("stage", "decontamination"), ("reason", "in_outside_set"))
    )
    if told is not None:
        example.reports["decontamination"] = {"removed": told, "sets": {}}
    example.write(tmp_path / "release")
    expected = f"count: reports/decontamination.json: removed is {told or 0}, the tables give 1 items in outside sets"
    assert [str(f) for f in verify(tmp_path / "release").findings] == ([] if is_fine else [expected])


@pytest.mark.parametrize(
    ("path", "old", "new", "told"),
    [
        ("README.md", "would have leaked 7", "would have leaked 9", "the reports give"),
        ("datasheet.md", "train (36 items)", "train (37 items)", "has"),
        ("LICENSE", "CC-BY-SA-4.0: 60 items", "CC-BY-SA-4.0: 59 items", "the reports give"),
        (
            "reports/tables/splits.csv",
            "train,36",
            "train,35",
            "line 2 has 'train,35', the reports give 'train,36'",
        ),
        ("reports/tables/splits.tex", "36", "35", "the reports give"),
    ],
)
def test_a_number_in_a_document_or_table_that_its_report_does_not_give(
    tmp_path: Path, path: str, old: str, new: str, told: str
) -> None:
    """Every line is compared, not only the ones that a reader looks at first."""
    release = with_tables(tmp_path / "release")
    assert verify(release).findings == ()
    text = (release / path).read_text()
    assert old in text
    (release / path).write_text(text.replace(old, new, 1))
    sign(release)
    [finding] = verify(release).findings
    assert str(finding).startswith(f"count: {path}: ")
    assert told in str(finding)


def test_documents_of_other_code_are_not_compared_and_that_is_said(release: Path) -> None:
    path = release / "provenance.json"
    path.write_text(path.read_text().replace(documents_code(), "other"))
    (release / "datasheet.md").write_text("Nothing.")
    sign(release)
    result = verify(release)
    assert result.findings == ()
    assert result.warnings == (
        "documents were made by other code, so they are not made again to compare their numbers",
    )


def test_a_stale_report(release: Path) -> None:
    path = release / "reports" / "quality.json"
    quality = json.loads(path.read_text())
    quality["counts"]["items_by_split"]["train"] += 1
    path.write_text(json.dumps(quality))
    sign(release)
    assert checks(release) == {"count"}


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("datacite.json", '"version": "1.0.0"', '"version": "1.0.1"', "datacite.json: version: says 1.0.1, croissant.json says 1.0.0"),
        ("datacite.json", '"60 items"', '"61 items"', "datacite.json: sizes is"),
        ("datacite.json", "Toy pictures", "Other pictures", "datacite.json: title: says Other pictures"),
        ("datacite.json", '"date": "2026-01-02"', '"date": "2025-01-02"', "datacite.json: date: says 2025-01-02"),
        ("datacite.json", "by-sa/4.0", "by/4.0", "datacite.json: licences: says https://creativecommons.org/licenses/by/4.0"),
        ("CITATION.cff", "version: 1.0.0", "version: 1.0.1", "CITATION.cff: version: says 1.0.1"),
        ("CITATION.cff", "family-names: Example", "family-names: Sample", "CITATION.cff: creators: says Ada Sample"),
        ("CITATION.cff", "license: CC-BY-SA-4.0", "license: MIT", "CITATION.cff: licences: says https://opensource.org/license/mit"),
        ("croissant.json", '"version": "1.0.0"', '"version": "1.0.1"', "CITATION.cff: version: says 1.0.0, croissant.json says 1.0.1"),
        ("croissant.json", '"splits/items": 36', '"splits/items": 37', "croissant.json: splits are"),
        ("croissant.json", '"sc:ImageObject"', '"sc:Text"', "croissant.json: field 'items/image' is"),
        ("ro-crate-metadata.json", '"version": "1.0.0"', '"version": "1.0.1"', "ro-crate-metadata.json: version: says 1.0.1"),
        ("ro-crate-metadata.json", '"name": "Ada Example"', '"name": "Eve"', "ro-crate-metadata.json: creators: says Eve"),
        ("reports/diff.json", '"version": "1.0.0"', '"version": "1.0.1"', "reports/diff.json: version: says 1.0.1"),
    ],
)  # fmt: skip
def test_descriptions_that_are_wrong_or_disagree(
    release: Path, path: str, old: str, new: str, expected: str
) -> None:
    text = (release / path).read_text()
    assert old in text
    (release / path).write_text(text.replace(old, new, 1))
    sign(release)
    told = [str(finding) for finding in verify(release).findings]
    assert any(line.startswith(f"description: {expected}") for line in told), told


def changed_since(folder: Path) -> Path:
    """A second release, with ten items more than the first."""
    example = with_removed(toy(version="1.1.0"))
    found = diff.compare(example.items.head(50).lazy(), example.items.lazy(), example.removed.lazy())
    example.reports["diff"] = diff.diff_report("1.1.0", "1.0.0", found, example.items.height)
    example.older_changes = "# Changelog\n\n## 1.0.0\n\n- First release: 50 items\n"
    example.write(folder)
    return folder


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("CHANGELOG.md", "- 10 items added", "- 9 items added"),
        ("CHANGELOG.md", "## 1.1.0", "## 1.2.0"),
        ("CHANGELOG.md", "Compared with 1.0.0:", "Compared with 0.9.0:"),
        ("reports/diff.json", '"added": 10', '"added": 11'),
        ("reports/diff.json", '"new_items": 60', '"new_items": 61'),
        ("reports/diff.json", '"new": 36', '"new": 37'),
    ],
)
def test_changes_that_are_not_those_of_the_report(tmp_path: Path, path: str, old: str, new: str) -> None:
    release = changed_since(tmp_path / "release")
    assert verify(release).findings == ()
    text = (release / path).read_text()
    assert old in text
    (release / path).write_text(text.replace(old, new, 1))
    sign(release)
    assert checks(release) == {"count"}


def test_a_research_object_with_a_fault_of_its_own(release: Path) -> None:
    path = release / ro_crate.NAME
    text = path.read_text()
    assert text.count('"https://w3id.org/ro/crate/1.1"') == 1
    path.write_text(text.replace('"https://w3id.org/ro/crate/1.1"', '"https://w3id.org/ro/crate/0.2"'))
    sign(release)
    told = [str(finding) for finding in verify(release).findings]
    assert any(line.startswith(f"description: {ro_crate.NAME}: does not conform to") for line in told), told


@pytest.mark.parametrize(
    "report", ["{}", '{"previous": "0.9.0", "version": "1.0.0", "new_items": 60, "splits": {"a": 1}}']
)
def test_a_report_of_changes_in_another_shape(release: Path, report: str) -> None:
    (release / "reports" / "diff.json").write_text(report)
    sign(release)
    assert "unreadable" in checks(release)


def test_a_report_that_is_no_json(release: Path) -> None:
    (release / "reports" / "quality.json").write_text("[" * 100_000)
    sign(release)
    assert checks(release) == {"unreadable"}


def test_predictions_of_rows_that_are_not_in_test(tmp_path: Path) -> None:
    example = toy()
    train = example.items.filter(pl.col("split") == "train").head(1)
    example.parts["predictions"] = {"majority": train.select("item_id", "label", predicted="label")}
    example.write(tmp_path / "release")
    assert checks(tmp_path / "release") == {"prediction"}


def test_scores_are_computed_again_from_predictions(tmp_path: Path) -> None:
    example = toy()
    test = example.items.filter(pl.col("split") == "test").sort("item_id")
    frame = test.select("item_id", "split", "label", "language", "leak_group").with_columns(
        image_sha256=pl.lit(None, pl.String), text=pl.lit(None, pl.String)
    )
    train = example.items.filter(pl.col("split") == "train").select(
        "item_id", "split", "label", "language", "leak_group"
    )
    both = pl.concat([frame, train], how="diagonal").sort("item_id")
    results = baselines.evaluate(both, {}, Baselines(bootstrap_samples=100), 0)
    example.parts["predictions"] = results.predictions
    example.reports["baselines"] = results.report
    example.write(tmp_path / "release")
    assert checks(tmp_path / "release") == set()
    path = tmp_path / "release" / "reports" / "baselines.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    report["leaderboard"][0]["top1"] = 0.99
    path.write_text(json.dumps(report), encoding="utf-8")
    sign(tmp_path / "release")
    # The card, which quotes the score, is found as well.
    [finding] = [f for f in verify(tmp_path / "release").findings if f.check == "prediction"]
    assert str(finding).startswith(
        "prediction: reports/baselines.json: leaderboard: random__classification__none: top1 is 0.99"
    )
    # What is no report at all is a finding too, not a traceback.
    for nonsense in (
        '{"leaderboard": 5}',
        '{"leaderboard": [3], "bootstrap_samples": 5}',
        '{"leaderboard": [{}], "bootstrap_samples": 5}',
    ):
        path.write_text(nonsense, encoding="utf-8")
        sign(tmp_path / "release")
        assert verify(tmp_path / "release").findings


def test_control_characters_of_the_release_do_not_reach_the_terminal(release: Path) -> None:
    set_value(release / "metadata/removed.parquet", "reason", 1, "\x1b[2J\x1b[31m")
    sign(release)
    assert all(str(finding).isprintable() for finding in verify(release).findings)


# -- calls ---------------------------------------------------------------------------------


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(ConfigError, match="expected a release folder, found neither"):
        verify(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found nothing"):
        verify(tmp_path / "nowhere")


def test_every_check_is_documented() -> None:
    assert all(check.islower() and meaning for check, meaning in CHECKS.items())


# -- resolutions of the pictures and warnings ------------------------------------------------

SMALL = "variants/max-side-20/train-00000-of-00001.parquet"


def smaller(data: bytes, _faces: object) -> list[tuple[bytes, str]]:
    variants = (ReleasedImages(), ReleasedImages(max_side=20))
    return [tuple(released) for released in release_images(data, variants)]


@pytest.fixture
def in_two_sizes(tmp_path: Path) -> Path:
    """A release with a second resolution, and warnings of two of its items."""
    example = with_removed(toy(release={"images": [{}, {"max_side": 20}]}))
    # Noise scaled down is another noise: smooth pictures stay what they are.
    example.pictures = {place: encoded(picture(int(place[3:]))) for place in example.pictures}
    sums = [hashlib.sha256(data).hexdigest() for data in example.pictures.values()]
    renamed = dict(zip(example.images["sha256"], sums, strict=True))
    example.images = example.images.with_columns(pl.col("sha256").replace_strict(renamed))
    example.items = example.items.with_columns(pl.col("image_sha256").replace_strict(renamed))
    warnings = pl.DataFrame(
        [("0000-de", "image_blurred", "fine detail 0.1"), ("gone-1", "image_blurred", "fine detail 0.1")],
        schema=dict(IMAGE_WARNINGS),
        orient="row",
    )
    example.image_warnings = warnings
    example.reports["images"] = {
        "checks": [{"reason": "image_blurred", "released": 1}],
        "variants": described_variants(example.config),
    }
    example.write(tmp_path / "release", release_image=smaller)
    return tmp_path / "release"


def test_a_release_in_two_sizes_is_good(in_two_sizes: Path) -> None:
    result = verify(in_two_sizes)
    assert result.is_good, result.findings
    assert result.facts["pictures"] == 40
    assert pl.read_parquet(in_two_sizes / "metadata/image_warnings.parquet")["item_id"].to_list() == [
        "0000-de"
    ]
    sizes = {
        folder: max(max(Image.open(io.BytesIO(cell["bytes"])).size) for cell in pl.read_parquet(in_two_sizes / folder)["image"])
        for folder in (TRAIN, SMALL)
    }  # fmt: skip
    assert sizes == {TRAIN: 64, SMALL: 20}


def test_resolutions_load_as_configurations(in_two_sizes: Path, tmp_path: Path) -> None:
    import datasets

    for name, side in (("default", 64), ("max-side-20", 20)):
        loaded = datasets.load_dataset(str(in_two_sizes), name, cache_dir=str(tmp_path / "cache"))
        assert {split: len(rows) for split, rows in loaded.items()} == {
            "train": 36,
            "validation": 12,
            "test": 12,
        }
        assert max(loaded["test"][0]["image"].size) == side
    default = datasets.load_dataset(str(in_two_sizes), split="test", cache_dir=str(tmp_path / "cache"))
    assert max(default[0]["image"].size) == 64


def pictures_of_others(folder: Path) -> None:
    path = folder / SMALL
    cells = pl.read_parquet(path)["image"].to_list()
    rewrite(path, lambda table: table.set_column(0, table.schema.field("image"), pa.array(cells[3:] + cells[:3], table.schema.field("image").type)))  # fmt: skip


def large_pictures(folder: Path) -> None:
    cells = pq.read_table(folder / TRAIN).column("image")
    rewrite(folder / SMALL, lambda table: table.set_column(0, table.schema.field("image"), cells))


def another_text(folder: Path) -> None:
    set_value(folder / SMALL, "name", 0, "something else")


def no_shard(folder: Path) -> None:
    (folder / SMALL).unlink()


def undescribed(folder: Path) -> None:
    shutil.copytree(folder / "variants/max-side-20", folder / "variants/extra")


def with_comment(folder: Path) -> None:
    def edit(table: pa.Table) -> pa.Table:
        cells = table.column("image").to_pylist()
        cells[0]["bytes"] += b"appended"
        return table.set_column(
            0, table.schema.field("image"), pa.array(cells, table.schema.field("image").type)
        )

    rewrite(folder / SMALL, edit)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (pictures_of_others, "variant"),
        (large_pictures, "variant"),
        (another_text, "data_metadata_differ"),
        (no_shard, "data_metadata_differ"),
        (undescribed, "variant"),
        (with_comment, "picture_metadata"),
    ],
)
def test_faults_of_a_further_resolution(
    in_two_sizes: Path, fault: Callable[[Path], None], check: str
) -> None:
    fault(in_two_sizes)
    sign(in_two_sizes)
    assert check in checks(in_two_sizes)


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [("item_id", "nobody", "reference_unknown"), ("warning", "image_ugly", "reason_unknown")],
)
def test_warnings_of_nobody_and_unknown_ones(in_two_sizes: Path, column: str, value: str, check: str) -> None:
    set_value(in_two_sizes / "metadata/image_warnings.parquet", column, 0, value)
    sign(in_two_sizes)
    assert check in checks(in_two_sizes)


def test_the_number_of_warnings_is_counted_again(in_two_sizes: Path) -> None:
    path = in_two_sizes / "reports/images.json"
    document = json.loads(path.read_text())
    document["checks"][0]["released"] = 7
    path.write_text(json.dumps(document))
    sign(in_two_sizes)
    assert checks(in_two_sizes) == {"count"}
