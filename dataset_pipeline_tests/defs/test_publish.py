"""Publication assets: one a destination, and nothing leaves that has not passed its gates."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dataset_pipeline.commands.mirrors import check
from dataset_pipeline.definitions import load_dataset
from dataset_pipeline.defs.publish import publication_assets
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.publication import publication_states, published_otherwise, read_record, record_path
from dataset_pipeline_tests.adapters.hosts.proxy import Fault, proxy
from dataset_pipeline_tests.adapters.hosts.tree import tree
from dataset_pipeline_tests.building import Bench, contents, failures
from dataset_pipeline_tests.defs.test_gates import BAD, WARNINGS, spoil_asset
from dataset_pipeline_tests.small_dataset import rows, write_dataset, write_manifest
from dataset_pipeline_tests.toy_release import sign

CONFIRMED = {"confirm": "1.0.0"}


def test_one_asset_a_destination(tmp_path: Path) -> None:
    config = write_dataset(
        tmp_path,
        publish={"shelf": {"kind": "folder", "path": "a"}, "our-mirror.2": {"kind": "folder", "path": "b"}},
    )
    made = publication_assets(load_dataset(config))
    assert [asset.key.path for asset in made] == [
        ["small", "published_to_our_mirror_2"],
        ["small", "published_to_shelf"],
    ]


def test_an_audited_release_is_published(copy: Bench) -> None:
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert result.success, failures(result)
    place = copy.config_path.parent / "shelf" / "small" / "1.0.0"
    assert contents(place) == contents(copy.release)
    event = copy.instance.get_latest_materialization_event(dg.AssetKey(["small", "published_to_shelf"]))
    assert event is not None
    assert event.asset_materialization is not None
    shown = {key: value.value for key, value in event.asset_materialization.metadata.items()}
    assert shown["version"] == "1.0.0"
    assert shown["place"] == str(place)
    assert shown["files_sent"] == len(contents(place))


@pytest.mark.parametrize("gate", sorted({*BAD["published_archive"]} - {name for _, name in WARNINGS}))
def test_a_release_that_failed_a_gate_is_not_published(
    gate: str, copy: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        spoil_asset(patched, "published_archive", BAD["published_archive"][gate])
        assert not copy.run("published_archive").success
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert not result.success
    assert failures(result).startswith("published_archive: the check '")
    assert not (copy.config_path.parent / "shelf").exists()


def test_a_release_that_no_gate_has_seen_is_not_published(copy: Bench) -> None:
    config = copy.config_path
    config.write_text(config.read_text().replace("A small dataset", "A small data set"), encoding="utf-8")
    assert copy.run("published_archive", checks=False).success
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert not result.success
    assert "has not run on the newest snapshot" in failures(result)
    assert not (config.parent / "shelf").exists()


@pytest.mark.parametrize("change", ["README.md", "notes.txt"])
def test_a_release_that_was_changed_behind_new_checksums_is_not_published(copy: Bench, change: str) -> None:
    """The gates saw another folder; checksums that were written anew must not open the way."""
    (copy.release / change).unlink(missing_ok=True)  # the snapshot may be the same file
    (copy.release / change).write_text("# Mine", encoding="utf-8")
    sign(copy.release)
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert not result.success
    assert "is not the archive that passed its gates" in failures(result)
    assert not (copy.config_path.parent / "shelf").exists()


def test_a_version_that_is_not_built_is_not_published(copy: Bench) -> None:
    config = copy.config_path
    config.write_text(config.read_text().replace("1.0.0", "1.1.0"), encoding="utf-8")
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert not result.success
    assert "no SHA256SUMS there, so it is not a release" in failures(result)
    assert not (config.parent / "shelf").exists()


def test_a_launch_that_nobody_confirmed_sends_nothing(copy: Bench) -> None:
    for settings in (None, {"confirm": "1.0.1"}):
        result = copy.run("published_to_shelf", settings=settings)
        assert not result.success
        assert "small 1.0.0 is not approved for shelf: there is no approvals file" in failures(result)
    assert not (copy.config_path.parent / "shelf").exists()


def test_an_approvals_file_decides(copy: Bench) -> None:
    approvals = copy.config_path.parent / "approvals.yaml"
    approvals.write_text("- {version: 1.0.0, by: Ada, date: 2026-11-02, destinations: [elsewhere]}\n")
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert "no entry of the approvals file names version 1.0.0 and shelf" in failures(result)
    approvals.write_text("- {version: 1.0.0, by: Ada, date: 2026-11-02}\n")
    assert copy.run("published_to_shelf").success
    assert record(copy)["approved_by"] == "Ada"


def test_a_build_leaves_a_candidate_that_waits_for_a_person(copy: Bench) -> None:
    """Whatever built it: none of a build's assets publishes."""
    dataset = copy.lineage.dataset
    approvals = copy.config_path.parent / "approvals.yaml"

    def state() -> list[str]:
        return publication_states(dataset.config, dataset.base, copy.store)

    assert state() == ["shelf: not published; publishing it is a person's word"]
    approvals.write_text("- {version: 9.0.0, by: Ada, date: 2026-11-02}\n")
    assert state() == ["shelf: not approved: no entry of the approvals file names version 1.0.0 and shelf"]
    approvals.write_text("- {version: 1.0.0, by: Ada, date: 2026-11-02}\n")
    assert state() == ["shelf: approved by Ada, not published"]
    assert copy.run("published_to_shelf").success
    assert state() == [f"shelf: published on {record(copy)['published_at'][:10]}, approved by Ada"]


def test_a_fault_in_the_approvals_file_is_named_with_its_line(copy: Bench) -> None:
    approvals = copy.config_path.parent / "approvals.yaml"
    approvals.write_text("- version: 1.0.0\n  bye: Ada\n  date: 2026-11-02\n")
    result = copy.run("published_to_shelf")
    assert f"{approvals}:2: approvals.0.bye: unknown key; did you mean 'by'?" in failures(result)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": {"permission": {"basis": "own-data", "evidence": "gone.pdf"}}}, "evidence names is not there"),
        ({"source": {"permission": {"basis": "owner-approval"}}}, "'owner-approval' without 'evidence'"),
    ],
)  # fmt: skip
def test_an_incomplete_permission_stops_it(copy: Bench, changes: dict[str, Any], expected: str) -> None:
    settings = yaml.safe_load(copy.config_path.read_text(encoding="utf-8"))
    settings["sources"][0] |= changes["source"]
    copy.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    result = copy.run("published_to_shelf", settings=CONFIRMED)
    assert not result.success
    assert expected in failures(result)
    assert not (copy.config_path.parent / "shelf").exists()


def test_the_record_stays_and_a_second_launch_changes_nothing(copy: Bench) -> None:
    assert copy.run("published_to_shelf", settings=CONFIRMED).success
    first = record(copy)
    assert first["checksums"] == {
        path: checksum for path, checksum in contents(copy.release).items() if path != "SHA256SUMS"
    }
    assert first["checksums_sha256"] == contents(copy.release)["SHA256SUMS"]
    assert (first["kind"], first["version"], first["is_final"]) == ("folder", "1.0.0", True)
    shelf = contents(copy.config_path.parent / "shelf")
    path = record_path(copy.store, "shelf", "1.0.0")
    path.write_text(path.read_text().replace(first["published_at"], "2026-11-02T00:00:00+00:00"))
    assert copy.run("published_to_shelf", settings=CONFIRMED).success
    assert contents(copy.config_path.parent / "shelf") == shelf
    assert record(copy) == {**first, "published_at": "2026-11-02T00:00:00+00:00"}


def test_a_version_has_the_same_items_at_every_place(copy: Bench) -> None:
    """Other documents may follow, because a DOI or a mirror is named in them; other items need another version."""
    settings = yaml.safe_load(copy.config_path.read_text(encoding="utf-8"))
    settings["publish"]["attic"] = {"kind": "folder", "path": "attic"}
    settings["title"] = "Another title"
    assert copy.run("published_to_shelf", settings=CONFIRMED).success
    copy.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert copy.run("published_archive").success
    assert copy.run("published_to_attic", settings=CONFIRMED).success
    assert "is published already with other content" in failures(
        copy.run("published_to_shelf", settings=CONFIRMED)
    )

    shutil.rmtree(copy.config_path.parent / "attic")
    record_path(copy.store, "attic", "1.0.0").unlink()
    write_manifest(copy.config_path.parent / "items.csv", rows()[1:])
    assert copy.run().success
    sums = contents(copy.release)
    told = published_otherwise(copy.store, "1.0.0", sums)
    assert len(told) == 1
    assert told[0].startswith("is published already, at shelf, with other items (")
    result = copy.run("published_to_attic", settings=CONFIRMED)
    assert failures(result).splitlines()[0].startswith(f"small 1.0.0 {told[0]}")
    assert "Raise 'version' in dataset.yaml" in failures(result)
    assert not (copy.config_path.parent / "attic").exists()
    assert published_otherwise(copy.store, "1.0.1", sums) == []


# -- the places it was published at ----------------------------------------------------------


@pytest.fixture
def at_a_mirror(copy: Bench) -> Iterator[tuple[Bench, dict[str, bytes]]]:
    """The dataset, published to a place that anybody can read; and the files there."""
    files = {
        f"small/1.0.0/{path.relative_to(copy.release).as_posix()}": path.read_bytes()
        for path in copy.release.rglob("*")
        if path.is_file()
    }
    with tree(files) as url:
        settings = yaml.safe_load(copy.config_path.read_text(encoding="utf-8"))
        settings["publish"]["cdn"] = {"kind": "s3", "bucket": "data", "public_url": url}
        copy.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        path = record_path(copy.store, "cdn", "1.0.0")
        path.parent.mkdir(parents=True)
        sums = contents(copy.release)
        facts = {"is_final": True, "checksums_sha256": sums.pop("SHA256SUMS"), "checksums": sums}
        path.write_text(json.dumps(facts), encoding="utf-8")
        yield copy, files


def check_of_mirrors(copy: Bench) -> dg.ExecuteInProcessResult:
    job = copy.definitions().resolve_job_def("mirrors_small")
    return job.execute_in_process(instance=copy.instance, raise_on_error=False)


def test_a_mirror_that_gives_what_was_published(at_a_mirror: tuple[Bench, dict[str, bytes]]) -> None:
    copy, files = at_a_mirror
    result = check_of_mirrors(copy)
    assert result.success, failures(result)
    [found] = result.get_asset_check_evaluations()
    assert (found.passed, found.metadata["files"].value) == (True, len(files))
    assert found.metadata["mib_per_s"].value


def test_a_mirror_that_lost_or_changed_a_file_fails_its_run(
    at_a_mirror: tuple[Bench, dict[str, bytes]],
) -> None:
    copy, files = at_a_mirror
    del files["small/1.0.0/README.md"]
    files["small/1.0.0/LICENSE"] = b"all rights reserved"
    result = check_of_mirrors(copy)
    assert not result.success
    [found] = result.get_asset_check_evaluations()
    assert not found.passed
    assert "LICENSE: changed" in str(found.description)
    assert "README.md: missing: the host answered 404" in str(found.description)


def test_the_check_of_mirrors_is_scheduled_and_stopped(at_a_mirror: tuple[Bench, dict[str, bytes]]) -> None:
    copy, _ = at_a_mirror
    schedule = copy.definitions().resolve_schedule_def("weekly_mirrors_small")
    assert (schedule.cron_schedule, schedule.default_status) == (
        "0 5 * * 0",
        dg.DefaultScheduleStatus.STOPPED,
    )


def test_the_table_of_mirrors_reaches_the_next_card(at_a_mirror: tuple[Bench, dict[str, bytes]]) -> None:
    copy, files = at_a_mirror
    result = check(copy.config_path, copy.storage)
    assert result.is_good
    assert result.lines()[0].startswith(f"cdn: {len(files)} files, 0 faults; ")
    assert copy.run("published_archive").success
    card = (copy.release / "README.md").read_text(encoding="utf-8")
    assert "**cdn** was the fastest when they were last measured" in card
    assert "small/1.0.0> |" in card
    assert "download.py" in contents(copy.release)
    files["small/1.0.0/LICENSE"] = b""
    bad = check(copy.config_path, copy.storage)
    assert not bad.is_good
    assert "  LICENSE: changed: other bytes than were published" in bad.lines()


def test_there_is_nothing_to_check_before_publication(copy: Bench) -> None:
    with pytest.raises(ConfigError, match="has not been published to any place that anybody can read"):
        check(copy.config_path, copy.storage)


# -- secrets ---------------------------------------------------------------------------------

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIASECRETSECRET0001",
    "AWS_SECRET_ACCESS_KEY": "the-secret-key-that-nobody-may-see",
    "HF_TOKEN": "hf_TheTokenThatNobodyMaySee0000000",
    "ZENODO_TOKEN": "the-zenodo-token-that-nobody-may-see",
}


@pytest.mark.parametrize(
    "destination",
    [
        {"kind": "s3", "bucket": "data", "endpoint": "@"},
        {"kind": "huggingface", "repository": "ada/toy", "endpoint": "@"},
        {"kind": "zenodo", "url": "@"},
    ],
    ids=lambda destination: destination["kind"],
)
def test_credentials_appear_nowhere(
    copy: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    destination: dict[str, str],
) -> None:
    """A host that refuses and says the credentials back: they are in no event, no log, no record, no output."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    told = json.dumps(
        {"message": f"refused: {SECRETS}", "error": f"refused: Bearer {SECRETS['HF_TOKEN']}"}
    ).encode()
    with proxy("http://127.0.0.1:9") as host:
        host.faults[:] = [
            Fault(
                method,
                "",
                "status",
                times=99,
                status=403,
                body=told,
                headers=(("X-Error-Message", told.decode()),),
            )
            for method in ("GET", "POST", "PUT", "HEAD")
        ]
        settings = yaml.safe_load(copy.config_path.read_text(encoding="utf-8"))
        settings["publish"] = {"out": {k: host.url if v == "@" else v for k, v in destination.items()}}
        copy.config_path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        result = copy.run("published_to_out", settings=CONFIRMED)
    assert not result.success
    assert failures(result)
    shown = [repr(event) for event in result.all_events]
    shown += [str(entry.to_json()) for entry in copy.instance.all_logs(result.run_id)]
    run = copy.instance.get_run_by_id(result.run_id)
    assert run is not None
    shown += [str(run.run_config), str(run.tags), *capfd.readouterr()]
    shown += [path.read_text("utf-8", "replace") for path in copy.store.folder.glob("publications/**/*.json")]
    for secret in SECRETS.values():
        assert not any(secret in text for text in shown), [text for text in shown if secret in text][:1]


def record(copy: Bench) -> dict[str, Any]:
    found = read_record(record_path(copy.store, "shelf", "1.0.0"))
    assert found is not None
    return found
