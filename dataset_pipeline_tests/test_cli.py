"""A user's path through the commands, signals, and what a terminal or a log gets to see."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import yaml

from dataset_pipeline.commands.build import dagster_home
from dataset_pipeline_tests.command_line import (
    PATIENCE_SECONDS,
    command,
    end_session,
    finish,
    processes_of_session,
    read_until,
    run,
    start,
)
from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small dataset and its release; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("built")
    answer = run("build", write_dataset(folder), "--storage", folder / "storage")
    assert answer.status == 0, answer.err
    return folder


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy", copy_function=shutil.copy2))


def release_of(folder: Path, version: str = "1.0.0") -> Path:
    return folder / "storage" / "small" / "releases" / version


# -- the calls themselves ------------------------------------------------------------------


def test_init_check_build_verify_publish_diff(tmp_path: Path) -> None:
    """The path of the README, from nothing but a manifest."""
    write_dataset(tmp_path / "raw").unlink()
    assert run("init", tmp_path / "mine", "--from", tmp_path / "raw" / "items.csv").status == 0
    config = tmp_path / "mine" / "dataset.yaml"
    answer = run("check", config)
    assert (answer.status, "licence: 'CHANGE-ME' is no SPDX id; choose one" in answer.err) == (2, True)
    config.write_text(config.read_text("utf-8").replace("CHANGE-ME", "CC0-1.0"), encoding="utf-8")
    settings = yaml.safe_load(config.read_text("utf-8"))
    columns = settings["sources"][0]["columns"]
    columns["label"] = "kind"  # a name that init cannot know
    settings |= {"baselines": {"enabled": False}, "release": {"notebook": False}, "pii": {"enabled": False}}
    settings["publish"] = {"shelf": {"kind": "folder", "path": "shelf"}}
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    storage = ("--storage", tmp_path / "storage")
    checked = run("check", config)
    assert (checked.status, "40 rows, 3 labels, text 'caption'" in checked.out) == (0, True)
    assert checked.out.endswith("ok: ready to build\n")
    built = run("build", config, *storage)
    assert (built.status, "40 released: train " in built.out) == (0, True), built.err
    assert built.out.endswith("candidate shelf: not published; publishing it is a person's word\n")
    release = tmp_path / "storage" / "mine" / "releases" / "1.0.0"
    verified = run("verify", release)
    assert (verified.status, verified.out.splitlines()[-1]) == (0, f"{release}: verified")
    assert run("diff", release, release).out.startswith("40 -> 40 items\n")
    published = run("publish", config, "--to", "shelf", *storage)
    assert (published.status, "send " in published.out) == (0, True)
    assert run("verify", tmp_path / "mine" / "shelf" / "mine" / "1.0.0").status == 0
    assert "already published" in run("publish", config, "--to", "shelf", *storage).out


def test_a_new_version_names_what_changed(copied: Path) -> None:
    config = copied / "dataset.yaml"
    config.write_text(config.read_text("utf-8").replace("version: 1.0.0", "version: 1.1.0"), encoding="utf-8")
    write_manifest(copied / "items.csv", rows()[1:])
    built = run("build", config, "--storage", copied / "storage")
    assert built.status == 0
    told = "1.1.0 follows 1.0.0: 1 item removed (not_in_sources: 1)"
    assert f"published_archive: version_fits: {told}" in built.err
    assert "expected 2.0.0 or higher" in built.err
    answer = run("diff", release_of(copied), release_of(copied, "1.1.0"))
    assert (answer.status, answer.out.splitlines()[0]) == (0, "40 -> 39 items")
    assert answer.out.splitlines()[-1].startswith("proposed version after 1.0.0: 2.0.0; ")
    assert "item-00" in answer.out


def test_a_failed_gate_leaves_the_release_as_it_was(copied: Path) -> None:
    before = (release_of(copied) / "SHA256SUMS").read_bytes()
    write_manifest(copied / "items.csv", [*rows(), rows()[0]])
    answer = run("build", copied / "dataset.yaml", "--storage", copied / "storage")
    assert (answer.status, "the previous release, if there is one, is untouched" in answer.err) == (1, True)
    assert (release_of(copied) / "SHA256SUMS").read_bytes() == before
    assert run("verify", release_of(copied)).status == 0


def test_a_changed_release_does_not_verify_and_is_not_published(copied: Path) -> None:
    (release_of(copied) / "README.md").write_text("# Mine")
    answer = run("verify", release_of(copied))
    assert (answer.status, "README.md" in answer.err) == (1, True)
    answer = run("publish", copied / "dataset.yaml", "--to", "shelf", "--storage", copied / "storage")
    assert (answer.status, "README.md" in answer.last) == (1, True)
    assert not list(copied.glob("shelf/small/[0-9]*"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["biuld", "x"], "No such command 'biuld'"),
        (["build", "--storge", "x", "y"], "No such option '--storge'"),
        (["build"], "Missing argument 'CONFIG'"),
        (["publish", "x"], "Missing option '--to'"),
        (["build", "x", "--engine", "spark"], "'spark' is not one of 'local', 'ray'"),
        (["build", "x", "--ray-address", "10.0.0.1:6379"], "Add the engine 'ray', or leave the address out"),
        (["build", "x", "--engine", "ray", "--ray-address", "head"], "found 'head', expected HOST:PORT"),
        (["dev", "x", "--engine", "ray", "--ray-address", "head"], "found 'head', expected HOST:PORT"),
        (["dev", "x", "--port", "0"], "0 is not in the range"),
        (["dev"], "Missing argument 'CONFIGS...'"),
        (["verify", "nowhere"], "nowhere: expected a release folder"),
        (["diff", "nowhere", "nowhere"], "nowhere: expected a release folder"),
        (["init", "nowhere", "--from", "nothing.csv"], "nothing.csv: no such file or folder"),
    ],
)
def test_a_wrong_call_is_status_2(arguments: list[str], expected: str) -> None:
    answer = run(*arguments)
    assert (answer.status, expected in answer.err) == (2, True), answer.err


def test_names_that_are_not_there(built: Path) -> None:
    config, storage = built / "dataset.yaml", built / "storage"
    answer = run("build", config, "--storage", storage, "--to", "train_test_spilt")
    assert (answer.status, "Did you mean 'train_test_split'?" in answer.last) == (2, True), answer.err
    answer = run("publish", config, "--to", "shelv", "--storage", storage)
    assert (answer.status, "Did you mean 'shelf'?" in answer.last) == (2, True)
    answer = run("publish", config, "--to", "shelf", "--storage", storage / "other")
    assert (answer.status, "is not built. Run: dataset-pipeline build" in answer.last) == (2, True)


def test_build_to_an_asset_stops_there(tmp_path: Path) -> None:
    config = write_dataset(tmp_path)
    answer = run("build", config, "--storage", tmp_path / "storage", "--to", "raw_texts")
    assert (answer.status, answer.out) == (0, "")
    assert [path.name for path in (tmp_path / "storage" / "small" / "snapshots").iterdir()] == ["raw_texts"]


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    one, two = write_dataset(tmp_path / "a"), write_dataset(tmp_path / "b")
    answer = run("dev", one, two, "--storage", tmp_path / "storage")
    assert (answer.status, "two datasets share the asset prefix ['small']" in answer.last) == (2, True)


def test_two_datasets_share_a_storage_folder(copied: Path) -> None:
    other = write_dataset(copied / "other", name="second")
    assert run("build", other, "--storage", copied / "storage", "--to", "raw_texts").status == 0
    assert run("verify", release_of(copied)).status == 0
    assert (copied / "storage" / "second" / "snapshots" / "raw_texts").is_dir()


def test_the_schema_is_one_and_knows_the_examples(tmp_path: Path) -> None:
    schema = json.loads(run("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    examples = sorted((ROOT / "datasets").glob("*/dataset.yaml"))
    assert len(examples) >= 2
    for path in [*examples, write_dataset(tmp_path)]:
        jsonschema.validate(yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader), _loosened(schema))
    assert run("schema", "--output", tmp_path / "schema.json").status == 0
    assert json.loads((tmp_path / "schema.json").read_text("utf-8")) == schema
    answer = run("schema", "--output", tmp_path / "none" / "schema.json")
    assert (answer.status, "No such file or directory" in answer.last) == (3, True)


def _loosened(schema: Any) -> Any:
    """The schema for values that are all text, as YAML's base loader gives them: dates stay text."""
    if isinstance(schema, list):
        return [_loosened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    number = schema.get("type") in {"number", "integer", "boolean"}
    return {} if number else {key: _loosened(value) for key, value in schema.items()}


def test_module_and_script_are_the_same_command() -> None:
    for call in ([sys.executable, "-m", "dataset_pipeline.cli"], command()):
        ended = subprocess.run([*call, "--version"], capture_output=True, text=True, check=True)
        assert ended.stdout.startswith("dataset-pipeline, version ")


def test_a_reader_that_has_enough_is_no_error() -> None:
    ended = subprocess.run(
        f"{sys.executable} -m dataset_pipeline.cli schema | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == ("{\n", "")


# -- what is shown while it runs -----------------------------------------------------------


def test_a_log_gets_plain_lines_and_no_warning_of_a_library(tmp_path: Path) -> None:
    config = write_dataset(tmp_path)
    call = command("build", config, "--storage", tmp_path / "storage", "--to", "raw_images")
    ended = subprocess.run(call, capture_output=True, text=True, check=True)
    lines = ended.stderr.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "raw_images ...", "raw_images: 40 rows", "raw_images: 5 gates passed"
    ]  # fmt: skip
    assert "\x1b" not in ended.stderr + ended.stdout


def test_a_terminal_gets_bars_above_the_same_lines(tmp_path: Path) -> None:
    config = write_dataset(tmp_path)
    ours, theirs = pty.openpty()
    process = start(
        "build", config, "--storage", tmp_path / "storage", "--to", "raw_images", stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(PATIENCE_SECONDS) == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "pictures decoded" in text
    assert "raw_images: 5 gates passed" in text
    assert "Warning" not in text


# -- signals, and two at once --------------------------------------------------------------


@pytest.mark.parametrize("to_whom", ["terminal", "parent"])
def test_ctrl_c_during_the_image_scan(tmp_path: Path, to_whom: str) -> None:
    config = write_dataset(tmp_path)
    process = start("build", config, "--storage", tmp_path / "storage")
    read_until(process, "raw_images ...")
    (os.killpg if to_whom == "terminal" else os.kill)(process.pid, signal.SIGINT)
    status, output = finish(process)
    assert status == 130, output
    assert output.strip() == (
        "dataset-pipeline: interrupted; what is finished is kept: run the same command again to continue"
    )
    assert processes_of_session(process.pid) == []
    assert not (tmp_path / "storage" / "small" / "snapshots").exists()
    assert list((tmp_path / "storage" / "small").glob("tmp/*")) == []


def test_killed_halfway_and_run_again(tmp_path: Path) -> None:
    """Nothing of the killed build is visible, its workers are gone, and the next one builds all."""
    config = write_dataset(tmp_path)
    process = start("build", config, "--storage", tmp_path / "storage")
    read_until(process, "raw_texts: 5 gates")
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := processes_of_session(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert not release_of(tmp_path).exists()
    assert run("build", config, "--storage", tmp_path / "storage").status == 0
    assert run("verify", release_of(tmp_path)).status == 0
    assert list((tmp_path / "storage" / "small").glob("tmp/*")) == []


def test_the_second_of_two_builds_at_once_waits_for_the_first(tmp_path: Path) -> None:
    config = write_dataset(tmp_path)
    first = start("build", config, "--storage", tmp_path / "storage")
    read_until(first, "raw_texts ...")
    second, third = (start("build", config, "--storage", tmp_path / "storage") for _ in range(2))
    expected = "another build of small is running in this storage folder; waiting for it to end\n"
    assert [read_until(process, "another build") for process in (second, third)] == [expected] * 2
    third.send_signal(signal.SIGINT)
    assert finish(third)[0] == 130
    threads = [
        threading.Thread(target=lambda p=p: ended.append((p.pid, *finish(p)))) for p in (first, second)
    ]
    ended: list[tuple[int, int, str]] = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(process, status) for process, status, _ in ended] == [(first.pid, 0), (second.pid, 0)], ended
    assert run("verify", release_of(tmp_path)).status == 0
    assert pl.read_parquet(release_of(tmp_path) / "metadata" / "items.parquet").height == 40


def test_a_storage_folder_that_was_moved_takes_its_history_along(tmp_path: Path) -> None:
    """Also to a place whose name means something in YAML; settings that a user took over stay."""
    first, second = (
        dagster_home(tmp_path / "a") / "dagster.yaml",
        tmp_path / "b: {x}, #1" / "dagster" / "dagster.yaml",
    )
    (tmp_path / "a").rename(tmp_path / "b: {x}, #1")
    assert str(first.parent) in second.read_text("utf-8")
    dagster_home(tmp_path / "b: {x}, #1")
    settings = yaml.safe_load(second.read_text("utf-8"))
    assert settings["storage"]["sqlite"]["base_dir"] == str(second.parent / "history")
    own = second.read_text("utf-8").split("\n", 1)[1].replace("enabled: false", "enabled: true")
    second.write_text(own, encoding="utf-8")
    dagster_home(tmp_path / "b: {x}, #1")
    assert second.read_text("utf-8") == own


# -- dev -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(port: int, query: str) -> Any:
    """The answer of the UI's GraphQL, once it is there."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except OSError:  # not there yet, or too busy to answer
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_dev_shows_datasets_and_history_and_ends_with_ctrl_c(copied: Path) -> None:
    other, port = write_dataset(copied / "other", name="second"), free_port()
    process = start("dev", copied / "dataset.yaml", other, "--storage", copied / "storage", "--port", port)
    try:
        data = asked(port, "{assetNodes{assetKey{path}} runsOrError{... on Runs{results{status}}}}")
        keys = {tuple(node["assetKey"]["path"]) for node in data["assetNodes"]}
        for dataset in ("small", "second"):
            assert {(dataset, "raw_images"), (dataset, "published_archive"), (dataset, "source_shop")} <= keys
        # What the command line built earlier is in the history that the UI shows.
        assert {run["status"] for run in data["runsOrError"]["results"]} == {"SUCCESS"}
        answer = run("dev", other, "--storage", copied / "storage", "--port", port)
        assert (answer.status, f"port {port} of 127.0.0.1 is in use" in answer.last) == (3, True)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            status, output = finish(process)
        finally:
            end_session(process)
    assert (status, "Warning" in output) == (0, False), output


def test_plain_dagster_dev_in_the_repository(tmp_path: Path) -> None:
    """workspace.yaml and dagster.yaml are all it needs, in a copy of the repository of its own."""
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "dataset_pipeline").symlink_to(ROOT / "dataset_pipeline")
    write_dataset(tmp_path / "datasets" / "small")
    port = free_port()
    variables = {n: v for n, v in os.environ.items() if not n.startswith(("DAGSTER", "DATASET_PIPELINE"))}
    call = [sys.executable, "-m", "dagster", "dev", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            call, cwd=tmp_path, env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            data = asked(port, "{assetNodes{assetKey{path}}}")
            assert ["small", "raw_images"] in [node["assetKey"]["path"] for node in data["assetNodes"]]
            assert (tmp_path / "storage" / "dagster" / "history").is_dir()
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                end_session(process)
