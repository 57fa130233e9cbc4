"""What is in deploy/: by the published schema, by what each file says of the others, and by starting it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dataset_pipeline.definitions import CONFIGS_VARIABLE, STORAGE_VARIABLE
from dataset_pipeline.defs.metadata import CODE_VARIABLE

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def loaded(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def dockerfile() -> list[str]:
    """Instructions, one a line."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY.parent / "Dockerfile").read_text(encoding="utf-8"))
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_compose_follows_its_published_schema() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, DEPLOY / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_pinned_run_as_no_root_and_are_looked_after() -> None:
    lines = dockerfile()
    stages = {line.split(" AS ")[1] for line in lines if line.startswith("FROM")}
    for line in lines:
        if line.startswith("FROM"):
            image = line.split()[1]
            assert image in stages or re.search(r":\d+\.\d+\.\d+", image), image
    for stage in ("code", "control"):
        start = next(n for n, line in enumerate(lines) if line == f"FROM base AS {stage}")
        end = next((n for n in range(start + 1, len(lines)) if lines[n].startswith("FROM")), len(lines))
        kinds = [line.split()[0] for line in lines[start:end]]
        assert "USER pipeline" in lines[start:end]
        assert kinds.index("USER") < kinds.index("CMD")
        assert "HEALTHCHECK" in kinds
        assert "RUN" not in kinds, "nothing is installed in what is shipped: compilers and caches stay behind"
    services = loaded("compose.yaml")["services"].values()
    built = {service["image"] for service in services if "build" in service}
    assert all(one["image"] in built or re.search(r":\d+\.\d+", one["image"]) for one in services)


def test_everything_that_is_copied_is_there_and_let_in() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for line in dockerfile():
        if line.startswith("COPY") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists(), name
                assert name in let_in, name


def test_services_agree_on_names_ports_and_variables() -> None:
    services = loaded("compose.yaml")["services"]
    [server] = [one["grpc_server"] for one in loaded("workspace.yaml")["load_from"]]
    assert server["host"] in services
    assert f'"--port", "{server["port"]}"' in "\n".join(dockerfile())
    asked = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")))
    for name in ("code", "webserver", "daemon"):
        assert asked <= set(services[name]["environment"]), name
    assert {CONFIGS_VARIABLE, STORAGE_VARIABLE, CODE_VARIABLE} <= set(services["code"]["environment"])
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:3000:3000"], "the UI has no login"
    example = (DEPLOY / "example.env").read_text(encoding="utf-8")
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"^(\w+)=", example, re.M)) == set(re.findall(r"\$\{(\w+)", text))


def test_the_settings_are_dagsters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster reads dagster.yaml as it is, but for the history, which is not looked for: no server runs here."""
    from dagster._core.instance.config import dagster_instance_config

    for name in ("HOST", "DB", "USER", "PASSWORD"):
        monkeypatch.setenv(f"POSTGRES_{name}", "x")
    settings = loaded("dagster.yaml")
    assert set(settings.pop("storage")["postgres"]["postgres_db"]) == {
        "hostname", "port", "db_name", "username", "password",
    }  # fmt: skip
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_monitoring"]["enabled"]
    local = yaml.safe_load((ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    assert settings["concurrency"] == local["concurrency"], (
        "the queue holds back what it holds back elsewhere"
    )


def test_no_secret_is_written_down() -> None:
    for path in DEPLOY.iterdir():
        for value in re.findall(r"PASSWORD[=:][ \t]*(\S+)", path.read_text(encoding="utf-8")):
            assert value.startswith("${"), path
    assert "deploy/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
