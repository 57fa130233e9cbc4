"""Rules of the house that no linter knows: what is imported when, and that everything public says what it is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dataset_pipeline
from dataset_pipeline_tests.small_dataset import write_dataset

PACKAGE = Path(dataset_pipeline.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = (
    "torch",
    "open_clip",
    "great_expectations",
    "matplotlib",
    "sklearn",
    "presidio_analyzer",
    "spacy",
    "datasets",
    "pandas",
    "dagster_pandas",
    "scipy",
    "ftfy",
    "nbclient",
    "ray",
)
"""Each takes from half a second to many seconds to import, in every process that Dagster starts."""


def name(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def public(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Functions, classes and their methods that other modules may use."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            for member in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield member


def test_the_code_location_loads_without_heavy_libraries(tmp_path: Path) -> None:
    """Loading the datasets' definitions is what Dagster does in every process that it starts."""
    config = write_dataset(tmp_path / "source", publish=None)
    code = (
        "import sys, dagster\n"
        "from dataset_pipeline.definitions import defs\n"
        "location = defs() if callable(defs) else defs\n"
        "keys = location.resolve_asset_graph().get_all_asset_keys()\n"
        "assert any(key.path == ['small', 'published_archive'] for key in keys), keys\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(PACKAGE.parent),  # this code, whichever is installed
            "DATASET_PIPELINE_CONFIGS": str(config),
            "DATASET_PIPELINE_STORAGE": str(tmp_path / "storage"),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "storage").exists(), "loading must not write"


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_every_module_says_what_belongs_in_it(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))), name(module)


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_every_public_function_and_class_says_what_it_does(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    silent = [node.name for node in public(tree) if not ast.get_docstring(node)]
    assert not silent


def test_postponed_annotations_are_not_used_where_dagster_reads_types() -> None:
    """With them Dagster can see neither a typed context nor a configuration class."""
    for module in (PACKAGE / "defs").glob("*.py"):
        assert "from __future__ import annotations" not in module.read_text(encoding="utf-8"), module


CLOCK_AND_CHANCE = {
    ("time", "time"),
    ("datetime", "now"),
    ("datetime", "today"),
    ("date", "today"),
    ("random", "random"),
    ("random", "seed"),
    ("random", "shuffle"),
    ("os", "environ"),
    ("os", "getenv"),
    ("uuid", "uuid4"),
}


@pytest.mark.parametrize("module", [m for m in MODULES if m.parent.name == "stages"], ids=name)
def test_stages_know_no_clock_no_environment_and_no_global_chance(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not used & CLOCK_AND_CHANCE


def test_only_the_configuration_reads_yaml() -> None:
    for module in MODULES:
        loads = {
            node.attr
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "yaml"
            if "load" in node.attr.lower()
        }
        assert not loads or name(module) == "config.py", name(module)


def test_every_room_of_tests_mirrors_a_room() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    tested = {
        path.name
        for path in Path(__file__).parent.iterdir()
        if path.is_dir() and (path / "__init__.py").exists()
    }
    assert tested <= rooms
