"""``init``: what is guessed from real-looking manifests, and that the guess is a valid config."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from dataset_pipeline.commands.build import build
from dataset_pipeline.commands.check import check
from dataset_pipeline.commands.init import init, new
from dataset_pipeline.config import load_config
from dataset_pipeline.definitions import defs
from dataset_pipeline.errors import ConfigError
from dataset_pipeline_tests.pictures import CLOTHING, encoded, needs_clothing, picture


def guessed(folder: Path, manifest: str, pictures: tuple[str, ...] = ()) -> dict[str, object]:
    for name in pictures:
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture()))
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "items.csv").write_text(manifest, encoding="utf-8")
    config = load_config(init(folder / "my-set", folder / "raw" / "items.csv").path)
    assert config.name == "my-set"
    return config.sources[0].columns.model_dump(exclude_defaults=True)


def test_plain_names(tmp_path: Path) -> None:
    columns = guessed(
        tmp_path,
        "id,file,caption,category,lang,user_id,price\n1,a.jpg,A red shirt,shirt,en,7,9.90\n2,b.jpg,Ein Hut,hat,de,8,12.00\n",
    )
    assert columns == {
        "item_id": "id", "image": "file", "texts": {"caption": "caption"}, "label": "category", "language": "lang",
        "group_keys": ("user_id",),
    }  # fmt: skip


def test_an_image_column_without_suffix_becomes_a_template(tmp_path: Path) -> None:
    columns = guessed(tmp_path, "image,label\na1,hat\nb2,shoe\n", ("images/a1.jpg", "images/b2.jpg"))
    assert columns == {"item_id": "image", "image": "images/{image}.jpg", "label": "label"}


def test_images_in_a_folder_beside_the_manifest_are_found(tmp_path: Path) -> None:
    columns = guessed(
        tmp_path, "id,file,label\n1,a.png,hat\n2,b.png,shoe\n", ("pictures/a.png", "pictures/b.png")
    )
    assert columns == {"item_id": "id", "image": "pictures/{file}", "label": "label"}


def test_images_that_are_nowhere_leave_the_column(tmp_path: Path) -> None:
    columns = guessed(tmp_path, "id,file,label\n1,a.png,hat\n2,../b.png,shoe\n")
    assert columns == {"item_id": "id", "image": "file", "label": "label"}


def test_odd_column_names_stay_valid_yaml(tmp_path: Path) -> None:
    """A backslash, an apostrophe, and YAML's own word for nothing."""
    texts = "the first text,a second text,and a third"
    columns = guessed(tmp_path, f"id,it's \\c,null,kind\n1,{texts}\n2,{texts}\n")
    assert set(columns["texts"].values()) == {"it's \\c", "null", "kind"}  # type: ignore[attr-defined]


def test_a_text_column_with_a_reserved_name_gets_another(tmp_path: Path) -> None:
    columns = guessed(tmp_path, "id,detail,kind\n1,a red hat,hat\n2,a blue shoe,shoe\n")
    assert columns["texts"] == {"detail_text": "detail"}


def test_the_licence_is_asked_for(tmp_path: Path) -> None:
    """A licence that nobody chose must not be released: neither check nor build accepts the written one."""
    guessed(tmp_path, "id,label\n1,hat\n2,shoe\n")
    with pytest.raises(ConfigError, match="'CHANGE-ME' is no SPDX id"):
        check(tmp_path / "my-set" / "dataset.yaml")
    with pytest.raises(ConfigError, match="'CHANGE-ME' is no SPDX id"):
        build(tmp_path / "my-set" / "dataset.yaml", tmp_path / "storage")


def test_pictures_in_a_folder_that_the_column_does_not_name(tmp_path: Path) -> None:
    columns = guessed(tmp_path, "id,file\n1,a.png\n2,b.png\n", ("pictures/a.png", "pictures/b.png"))
    assert columns == {"item_id": "id", "image": "pictures/{file}"}


def test_names_of_pictures_are_no_text(tmp_path: Path) -> None:
    lines = "".join(f"{n},photo of {n}.png\n" for n in range(30))
    files = tuple(f"pictures/photo of {n}.png" for n in range(30))
    assert "texts" not in guessed(tmp_path, f"id,file\n{lines}", files)


def test_a_numeric_column_named_like_a_language_is_not_one(tmp_path: Path) -> None:
    assert "language" not in guessed(tmp_path, "id,lang\n1,17\n2,18\n")


def test_a_folder_per_class(tmp_path: Path) -> None:
    (tmp_path / "photos" / "hat").mkdir(parents=True)
    (tmp_path / "photos" / "hat" / "1.png").write_bytes(encoded(picture()))
    result = init(tmp_path, tmp_path / "photos")
    assert load_config(result.path).sources[0].path == "photos"


def test_image_bytes_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"img": [b"x"], "label": ["hat"]}).write_parquet(tmp_path / "a.parquet")
    columns = load_config(init(tmp_path / "d", tmp_path / "a.parquet").path).sources[0].columns
    assert (columns.image, columns.label) == ("img", "label")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("mine")
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(ConfigError, match="is there already"):
        init(tmp_path, tmp_path / "a.csv")
    assert (tmp_path / "dataset.yaml").read_text() == "mine"
    assert init(tmp_path, tmp_path / "a.csv", force=True).path.read_text() != "mine"


@pytest.mark.parametrize(("content", "expected"), [(None, "no such file"), ("id\n", "no rows found")])
def test_nothing_to_look_at(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ConfigError, match=expected):
        init(tmp_path / "d", tmp_path / "a.csv")
    assert not (tmp_path / "d").exists()


@needs_clothing
def test_the_clothing_photos(tmp_path: Path) -> None:
    columns = load_config(init(tmp_path, CLOTHING / "images.csv").path).sources[0].columns
    assert columns.image == "images/{image}.jpg"
    assert (columns.item_id, columns.label, columns.group_keys) == ("image", "label", ("sender_id",))


# -- new -------------------------------------------------------------------------------------------


def test_new_adds_a_dataset_that_the_code_location_picks_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATASET_PIPELINE_CONFIGS", raising=False)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "items.csv").write_text("id,label\n1,hat\n2,shoe\n", encoding="utf-8")
    guess = new("my-photos-", Path("raw/items.csv"), Path("datasets"))
    assert guess.path == Path("datasets/my-photos-/dataset.yaml")
    assert load_config(guess.path).sources[0].path == "../../raw/items.csv"
    form = load_config(new("my-texts", None, Path("datasets")).path)
    assert (form.name, form.sources[0].path) == ("my-texts", "items.csv")
    assert form.sources[0].columns.texts == {"caption": "caption"}
    location = defs()
    assert isinstance(location, dg.Definitions)
    keys = location.resolve_asset_graph().get_all_asset_keys()
    assert {key.path[0] for key in keys} == {"my_photos_", "my_texts"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("taken", "datasets/taken/dataset.yaml: is a dataset of that name already, 'taken'. Choose another name"),
        ("also.taken", "is a dataset of that name already, 'also-taken' ('-', '.' and '_' are one in names of assets)"),
        ("half", "datasets/half/dataset.yaml:1: version: required"),  # nothing loads while it is broken
        ("../up", "'../up' is no name for a dataset"),
        ("Photos", "'Photos' is no name for a dataset"),
        ("a\n", "is no name for a dataset"),
        ("", "'' is no name for a dataset"),
    ],
)  # fmt: skip
def test_names_that_new_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for taken in ("taken", "also-taken"):
        new(taken, None, Path("datasets"))
    before = sorted(tmp_path.rglob("*"))
    if name == "half":
        half = tmp_path / "datasets" / "half" / "dataset.yaml"
        half.parent.mkdir()
        half.write_text("name: half\n", encoding="utf-8")
        before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as raised:
        new(name, None, Path("datasets"))
    assert expected in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before
