"""The secret and the lists that ``pii`` names outside ``dataset.yaml``."""

from pathlib import Path
from typing import Any

import pytest

from dataset_pipeline.adapters.pii_files import fingerprints, read_key, with_allowed
from dataset_pipeline.config import DatasetConfig, Pii
from dataset_pipeline.errors import ConfigError
from dataset_pipeline_tests.stages.crafted import minimal_config

KEY = "0123456789abcdef0123456789abcdef"


def config(**pii: Any) -> DatasetConfig:
    return minimal_config(pii=pii)


def test_the_key_is_read_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", f" {KEY}\n")
    (tmp_path / "key.txt").write_text(KEY + "\n", encoding="utf-8")
    for key in ({"environment": "THE_KEY"}, {"file": "key.txt"}, {"file": str(tmp_path / "key.txt")}):
        assert read_key(Pii.model_validate({"key": key}), tmp_path) == KEY.encode()
    assert read_key(Pii(), tmp_path) is None
    assert read_key(Pii.model_validate({"enabled": False, "key": {"file": "nowhere"}}), tmp_path) is None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"environment": "NO_SUCH"}, "environment variable NO_SUCH is not set"),
        ({"environment": "SHORT"}, "holds 5 bytes, expected 16 or more"),
        ({"file": "nowhere.txt"}, "nowhere.txt cannot be read: No such file"),
        ({"file": "."}, "cannot be read: Is a directory"),
    ],
)
def test_a_key_that_is_missing_or_can_be_guessed(
    key: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "12345")
    with pytest.raises(ConfigError, match=r"pii\.key") as caught:
        read_key(Pii.model_validate({"key": key}), tmp_path)
    assert expected in str(caught.value)
    assert "12345" not in str(caught.value)
    assert "secrets.token_hex" in str(caught.value.hint)


def test_lists_of_allowed_strings(tmp_path: Path) -> None:
    (tmp_path / "brands.txt").write_text("\ufeffStan Smith\n\n  Ted Baker \n", encoding="utf-8")
    made = with_allowed(config(allow=["x"], allow_files=["brands.txt"]), tmp_path)
    assert made.pii.allow == ("Stan Smith", "Ted Baker", "x")
    plain = config(allow=["x"])
    assert with_allowed(plain, tmp_path) is plain
    with pytest.raises(ConfigError, match=r"pii\.allow_files: .*none\.txt cannot be read"):
        with_allowed(config(allow_files=["none.txt"]), tmp_path)
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        with_allowed(config(allow_files=["odd.txt"]), tmp_path)


def test_fingerprints_change_with_content_and_tell_nothing(tmp_path: Path) -> None:
    settings = config(key={"file": "key"}, allow_files=["list"])
    seen = []
    for key, line in ((KEY, "a"), (KEY[::-1], "a"), (KEY, "b"), (KEY, "a")):
        (tmp_path / "key").write_text(key, encoding="utf-8")
        (tmp_path / "list").write_text(line, encoding="utf-8")
        seen.append(fingerprints(settings, tmp_path))
    assert seen[0] == seen[3]
    assert seen[0]["pii.key"] != seen[1]["pii.key"]
    assert seen[0]["pii.allow_files"] != seen[2]["pii.allow_files"]
    assert KEY not in str(seen)
    assert fingerprints(config(), tmp_path) == {}
