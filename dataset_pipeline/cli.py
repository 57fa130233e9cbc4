"""The command ``dataset-pipeline``: argument parsing and printing only.

Exit status: 0 done; 1 a quality gate stopped it; 2 the config or the call is wrong; 3 the outside
world failed; 130 interrupted.
"""

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dataset_pipeline import __version__
from dataset_pipeline.errors import DatasetPipelineError, OutsideWorldError

if TYPE_CHECKING:
    from dataset_pipeline.commands.init import InitResult

_INTERRUPTED = 130

_storage = click.option(
    "--storage",
    default="storage",
    show_default=True,
    envvar="DATASET_PIPELINE_STORAGE",
    help="Folder, or s3://BUCKET/PREFIX, for snapshots, caches and releases of all datasets.",
)
_engine = click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    envvar="DATASET_PIPELINE_ENGINE",
    help="Where per-item work runs: processes of this machine, or Ray tasks.",
)
_ray_address = click.option(
    "--ray-address",
    metavar="HOST:PORT",
    envvar="DATASET_PIPELINE_RAY_ADDRESS",
    help="An existing Ray cluster; without it the engine 'ray' is this machine alone.",
)


def main() -> None:
    """Entry point; every user's mistake ends with one clear line and a documented exit status."""
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C finds us leaving already
        _fail("interrupted; what is finished is kept: run the same command again to continue", _INTERRUPTED)
    except DatasetPipelineError as error:
        _print_failed_gates(error)
        _fail(str(error), error.exit_status)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", OutsideWorldError.exit_status)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    click.secho(f"dataset-pipeline: {message}", err=True, fg="red" if status != _INTERRUPTED else None)
    sys.exit(status)


def _print_failed_gates(error: DatasetPipelineError) -> None:
    """Numbers, example rows and remedies of the gates that stopped a build."""
    for gate in getattr(error, "gates", ()):
        click.secho(f"\n✗ {gate.asset}: {gate.check}", err=True, fg="red", bold=True)
        click.echo(f"  found   {gate.summary}", err=True)
        for number, line in enumerate(gate.examples.splitlines()):
            if number != 1:  # the line that only draws the table's head
                click.echo(f"  {'rows   ' if number == 0 else '       '} {line}", err=True)
        if gate.remedy:
            click.echo(f"  remedy  {gate.remedy}", err=True)
    if getattr(error, "gates", ()):
        click.echo("\nNothing was released; the previous release, if there is one, is untouched.", err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dataset-pipeline")
def cli() -> None:
    """From raw images and texts to a verified, published machine-learning dataset."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--from", "source", required=True, type=click.Path(path_type=Path), help="A manifest or an image folder."
)
@click.option("--force", is_flag=True, help="Replace an existing dataset.yaml.")
def init(folder: Path, source: Path, force: bool) -> None:
    """Look at a manifest or an image folder and write FOLDER/dataset.yaml with a best guess."""
    from dataset_pipeline.commands.init import init as run

    _say_what_was_written(run(folder, source, force=force))


@cli.command()
@click.argument("name")
@click.option("--from", "source", type=click.Path(path_type=Path), help="A manifest or an image folder.")
@click.option(
    "--datasets",
    "root",
    default="datasets",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all datasets, where 'dagster dev' looks for them.",
)
def new(name: str, source: Path | None, root: Path) -> None:
    """Add the dataset NAME to the code location: a best guess from a source, or a form to fill in."""
    from dataset_pipeline.commands.init import new as run

    _say_what_was_written(run(name, source, root))


def _say_what_was_written(result: "InitResult") -> None:
    click.echo(f"wrote {result.path}")
    for line in result.guesses:
        click.echo(f"  {line}")
    click.echo(f"Look it over, then: dataset-pipeline check {result.path}")


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(config: Path) -> None:
    """Validate the config, the sources and the first rows, in seconds, without building."""
    from dataset_pipeline.commands.check import check as run

    result = run(config)
    for line in result.facts:
        click.echo(line)
    for warning in result.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    click.secho("ok: ready to build", fg="green")


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
def licences(config: Path) -> None:
    """Print which licences the sources allow for the dataset, and why."""
    from dataset_pipeline.commands.licences import licences_of as run

    for line in run(config):
        click.echo(line)


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@_storage
@click.option("--to", help="Stop after this asset, such as train_test_split.")
@click.option(
    "--rebuild", is_flag=True, help="Compute and judge again what has not changed; single items stay cached."
)
@_engine
@_ray_address
def build(
    config: Path, storage: str, to: str | None, rebuild: bool, engine: str, ray_address: str | None
) -> None:
    """Build the release: the same assets and gates as in the UI, without a web server."""
    from dataset_pipeline.adapters.engine import engine_named
    from dataset_pipeline.commands.build import build as run
    from dataset_pipeline.commands.display import build_display
    from dataset_pipeline.commands.summary import release_summary

    with build_display() as display:
        where = engine_named(engine, ray_address)
        result = run(config, storage, to=to, rebuild=rebuild, display=display, engine=where)
    for warning in result.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    if result.release is not None:
        for line in release_summary(result.release):
            click.echo(line)
        if result.store.remote is not None:
            click.echo(f"storage   {result.store.where}/releases/{result.release.name}")
    for line in result.publications:
        click.echo(f"candidate {line}")


@cli.command()
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@_storage
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="The UI's port on 127.0.0.1.",
)
@_engine
@_ray_address
def dev(configs: tuple[Path, ...], storage: str, port: int, engine: str, ray_address: str | None) -> None:
    """Open the Dagster UI on these datasets; Ctrl-C ends it."""
    from dataset_pipeline.commands.dev import dev as run

    run(configs, storage, port, click.echo, engine, ray_address)


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--to", "destination", required=True, help="A name under 'publish' in the config.")
@click.option("--dry-run", is_flag=True, help="Print what would happen and send nothing.")
@click.option("--final", is_flag=True, help="Zenodo: publish the complete draft, which cannot be undone.")
@_storage
def publish(config: Path, destination: str, dry_run: bool, final: bool, storage: str) -> None:
    """Send the current release to one destination of the config."""
    from dataset_pipeline.commands.publish import describe
    from dataset_pipeline.commands.publish import publish as run

    for line in describe(run(config, destination, storage, is_dry_run=dry_run, is_final=final)):
        click.echo(line)


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@_storage
def mirrors(config: Path, storage: str) -> int:
    """Download the published version from every public place, compare it, and measure."""
    from dataset_pipeline.commands.mirrors import check as run

    result = run(config, storage)
    for line in result.lines():
        click.echo(line)
    if not result.is_good:
        _fail("not every place gives what was published", OutsideWorldError.exit_status)
    return 0


@cli.command()
@click.argument("release", type=click.Path(path_type=Path))
def verify(release: Path) -> int:
    """Check a release folder: checksums, counts, schema and leaks. Needs no config."""
    from dataset_pipeline.verification import verify as run

    result = run(release)
    for name, count in result.facts.items():
        click.echo(f"checked {count:,} {name}")
    for warning in result.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    for finding in result.findings:
        click.secho(f"✗ {finding}", fg="red", err=True)
    if result.findings:
        _fail(f"{release}: {len(result.findings)} faults found", 1)
    click.secho(f"{release}: verified", fg="green")
    return 0


@cli.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder for a new sheet and its pictures.")
@click.option("--read", "sheet", type=click.Path(path_type=Path), help="A sheet that has been filled in.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.03,
    show_default=True,
    help="How precisely the share of wrong labels is to be known; smaller needs a larger sample.",
)
@click.option(
    "--expected",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="About what share of wrong labels is expected.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, another sample."
)
@click.option("--force", is_flag=True, help="Replace an existing sheet.")
def audit(
    release: Path,
    output: Path | None,
    sheet: Path | None,
    margin: float,
    expected: float,
    seed: int,
    force: bool,
) -> None:
    """Draw a sample of a release's labels for people to judge, or estimate from their verdicts."""
    from dataset_pipeline.commands import audit as command

    if (output is None) == (sheet is None):
        raise click.UsageError("give either --output FOLDER, for a new sheet, or --read SHEET")
    if output is not None:
        lines = command.write_sheet(release, output, margin, expected, seed, force).lines()
    else:
        assert sheet is not None
        lines = command.estimate_lines(command.read_sheet(release, sheet))
    for line in lines:
        click.echo(line)


@cli.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def diff(old: Path, new: Path) -> None:
    """Rows added, removed, changed and moved between splits, from release OLD to release NEW."""
    from dataset_pipeline.commands.diff import diff as run

    for line in run(old, new).lines():
        click.echo(line)


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@_storage
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="Results that no build has asked for in so many days may go.",
)
@click.option(
    "--everything", is_flag=True, help="Also what is in use: the next build computes all of it again."
)
@click.option("--delete", is_flag=True, help="Delete what is listed; without it nothing is.")
def gc(config: Path, storage: str, days: float, everything: bool, delete: bool) -> None:
    """Cached results that no build needs any more: what deleting them would free."""
    from dataset_pipeline.commands.gc import collect

    for line in collect(config, storage, days, is_everything=everything, is_deleting=delete).lines():
        click.echo(line)


@cli.command()
@click.option("--output", type=click.Path(path_type=Path), help="Write here instead of printing.")
def schema(output: Path | None) -> None:
    """The JSON schema of dataset.yaml, for editors."""
    from dataset_pipeline.config import json_schema

    text = json.dumps(json_schema(), ensure_ascii=False, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"wrote {output}")


if __name__ == "__main__":
    main()
