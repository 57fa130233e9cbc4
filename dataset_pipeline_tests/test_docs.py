"""The documentation is tested: its commands run, its examples are valid, its numbers are a build's."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dataset_pipeline.commands.build import build
from dataset_pipeline.commands.summary import release_summary
from dataset_pipeline.config import json_schema, load_config
from dataset_pipeline.tables import REASONS
from dataset_pipeline_tests.small_dataset import write_dataset

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


def between(text: str, name: str) -> str:
    """What stands between the markers ``name:begin`` and ``name:end``."""
    return text.split(f"<!-- {name}:begin -->\n")[1].split(f"<!-- {name}:end -->", maxsplit=1)[0]


@pytest.mark.parametrize("number", range(len(blocks(CONFIGURATION, "yaml"))))
def test_configuration_example_is_valid(number: int, tmp_path: Path) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(blocks(CONFIGURATION, "yaml")[number], encoding="utf-8")
    load_config(path)


def test_configuration_page_names_every_key() -> None:
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    keys = {key for section in sections for key in section.get("properties", {})}
    assert {key for key in keys if not re.search(rf"\b{key}\b", CONFIGURATION)} == set()


def test_configuration_page_lists_every_reason() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+) \|$", between(CONFIGURATION, "reasons"))
    assert dict(rows) == dict(REASONS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_pictures_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_commands_of_the_path_to_ones_own_data_run(tmp_path: Path) -> None:
    """The README's four commands, in order, on a user's folder; only the licences are set in between."""
    [block] = [text for text in blocks(README, "console") if "dataset-pipeline init" in text]
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in block.splitlines() if line]
    assert [command[1] for command in commands] == ["init", "check", "build", "verify"]
    given = write_dataset(tmp_path / "given")
    (given.parent).rename(tmp_path / "photos")
    source = yaml.safe_load((tmp_path / "photos" / given.name).read_text(encoding="utf-8"))["sources"][0]
    (tmp_path / "photos" / source["path"]).rename(tmp_path / "photos" / "items.csv")
    for command in commands:
        run = subprocess.run(
            [Path(sys.executable).with_name(command[0]), *command[1:]],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert run.returncode == 0, (command, run.stdout, run.stderr)
        if command[1] == "init":
            config = tmp_path / "my-dataset" / "dataset.yaml"
            text = config.read_text(encoding="utf-8").replace("CHANGE-ME", "CC0-1.0")
            config.write_text(text + "baselines: {enabled: false}\nrelease: {notebook: false}\n", "utf-8")


def test_readme_says_what_the_demo_finds(tmp_path: Path) -> None:
    """The whole demo but for the CLIP model, which does not change these numbers."""
    made = subprocess.run(
        [sys.executable, str(ROOT / "datasets/emoji/make_source.py"), "--output", str(tmp_path / "source")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    config = tmp_path / "dataset.yaml"
    text = (ROOT / "datasets/emoji/dataset.yaml").read_text(encoding="utf-8")
    assert text.count("\nrelease:\n") == 1
    text = text.replace("\nrelease:\n", "\nrelease:\n  notebook: false\n")
    config.write_text(text + "baselines: {enabled: false}\n", encoding="utf-8")
    release = build(config, tmp_path / "storage").release
    assert release is not None
    found = [line for line in release_summary(release) if re.match(r"items|removed|leakage", line)]
    assert blocks(between(README, "demo"), "text") == ["\n".join(found) + "\n"]
