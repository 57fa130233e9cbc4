"""dataset.yaml: what is accepted, and how a mistake is answered."""

import json
from pathlib import Path

import pytest
import yaml

from dataset_pipeline.config import DatasetConfig, is_inside, json_schema, load_config
from dataset_pipeline.errors import ConfigError

MINIMAL = """\
name: clothing
version: 1.0.0
licence: CC0-1.0
sources:
  - id: photos
    path: images.csv
    licence: CC0-1.0
"""


def load(tmp_path: Path, text: str) -> DatasetConfig:
    path = tmp_path / "dataset.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_every_key_but_five_has_a_default(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.sources[0].paths == ("images.csv",)
    assert config.split.ratios == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert config.baselines.models[0].train is not None


@pytest.mark.parametrize(
    ("change", "line", "expected"),
    [
        ("licence: CC0-1.0\nsources", "", "licence: required, but missing"),
        ("splits: {}\n", 8, "splits: unknown key; did you mean 'split'?"),
        ("labels:\n  dropp: [Skip]\n", 9, "labels.dropp: unknown key; did you mean 'drop'?"),
        (
            "clean: {images: {min_sid_px: 3}}\n",
            8,
            "clean.images.min_sid_px: unknown key; did you mean 'min_side_px'?",
        ),
        ("split: {ratios: {train: 0.5, test: 0.2}}\n", 8, "add up to 1"),
        ("split: {ratios: {dev: 0.5, test: 0.5}}\n", 8, "needs a 'train' and a 'test' split"),
        ("seed: minus\n", 8, "seed: Input should be a valid integer"),
        ("baselines: {models: [{name: x}]}\n", 8, "needs 'pretrained'"),
    ],
)
def test_a_mistake_names_the_line_the_key_and_the_remedy(
    tmp_path: Path, change: str, line: int | str, expected: str
) -> None:
    text = MINIMAL.replace("licence: CC0-1.0\nsources", "sources") if line == "" else MINIMAL + change
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert expected in str(caught.value)
    assert f"dataset.yaml:{line}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_mistake_inside_a_source_is_the_only_thing_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, MINIMAL + "    colums: {}\n")
    assert str(caught.value).endswith(
        "dataset.yaml:8: sources.0.colums: unknown key; did you mean 'columns'?"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("name: [", "not valid YAML"), ("- a\n", "found no mapping"), ("", "found no mapping")],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path, text)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_text_names_may_not_hide_columns_of_the_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reserved"):
        load(tmp_path, MINIMAL + "    columns: {texts: {label: name}}\n")


def test_models_by_name(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + "baselines: {models: [small, ViT-B-32/laion2b_s34b_b79k]}\n")
    assert [(m.architecture, m.pretrained) for m in config.baselines.models] == [
        ("small", None),
        ("ViT-B-32", "laion2b_s34b_b79k"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b.jpg", True), ("../b.jpg", False), ("a/../../b", False), ("/etc/passwd", False), ("", False),
     ("a\\..\\..\\b", False), ("a\0b", False), ("..jpg", True)],
)  # fmt: skip
def test_paths_stay_inside(path: str, expected: bool) -> None:
    assert is_inside(path) is expected


def test_schema_is_json_and_knows_every_section() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(DatasetConfig.model_fields) == set(schema["properties"])
    assert set(schema["required"]) == {"name", "version", "licence", "sources"}


def test_dates_and_norway_need_no_quotes(tmp_path: Path) -> None:
    config = load(
        tmp_path, MINIMAL + "    columns: {language: no}\ndate: 2026-11-24\npii: {enabled: false}\n"
    )
    assert (config.sources[0].columns.language, config.date, config.pii.enabled) == (
        "no",
        "2026-11-24",
        False,
    )


def test_models_that_would_write_the_same_files_are_refused(tmp_path: Path) -> None:
    two = "baselines: {models: [{name: a/b, pretrained: x.pt}, {name: a-b, pretrained: y.pt}]}\n"
    with pytest.raises(
        ConfigError, match=r"names must differ in more than punctuation, found \['a-b', 'a/b'\]"
    ):
        load(tmp_path, MINIMAL + two)
    with pytest.raises(ConfigError, match="found \\['small-clip'\\]"):
        load(tmp_path, MINIMAL + "baselines: {models: [small, small]}\n")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"stratify": ["lable"]}, ":1: split.stratify: found ['lable']; expected some of author, label,"),
        ({"stratify": ["lable"]}, "did you mean 'label'?"),
        ({"folds": 1}, "split.folds: needs 2 folds or more, or 0 for none, found 1"),
        ({"ratios": {"train": 0.9, "test": 0.2}}, "whose shares add up to 1, found {'train': 0.9, 'test': 0.2}, together 1.1"),
        ({"ratios": {"train": 0.8, "a-b": 0.05, "a_b": 0.05, "test": 0.1}}, "differ in more than punctuation, found ['a-b', 'a_b']"),
        ({"method": "temporal"}, "split.method 'temporal' needs columns.date of every source, missing for s"),
        ({"method": "temporal", "ratios": {"test": 0.2, "train": 0.8}}, "order of time, train before test, found ['test', 'train']"),
        ({"method": "temporal", "min_test_per_label": 1}, "'temporal' looks at dates alone"),
        ({"on_leak": "warn"}, "on_leak: warn is for method 'published'"),
        ({"min_search_recall": 1.5}, "split.min_search_recall: Input should be less than or equal to 1, found 1.5"),
    ],
)  # fmt: skip
def test_settings_of_the_split_that_cannot_be(
    split: dict[str, object], expected: str, tmp_path: Path
) -> None:
    source = {"id": "s", "path": "p", "licence": "CC0-1.0"}
    path = tmp_path / "dataset.yaml"
    head = {"name": "n", "version": "1.0.0", "licence": "CC0-1.0", "sources": [source]}
    path.write_text(yaml.safe_dump({**head, "split": split}, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert expected in caught.value.message
    assert "\n" not in caught.value.message
