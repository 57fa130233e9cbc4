"""What a finished build tells on the terminal; every number is read from the release."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl


def release_summary(release: Path) -> Iterator[str]:
    """Lines about a release folder."""
    items = pl.scan_parquet(release / "metadata" / "items.parquet")
    removed = pl.scan_parquet(release / "metadata" / "removed.parquet")
    splits = items.group_by("split").len().sort("len", "split", descending=[True, False]).collect()
    leaks = json.loads((release / "reports" / "leakage.json").read_text("utf-8"))
    yield ""
    yield f"items     {splits['len'].sum():,} released: " + ", ".join(
        f"{s} {n:,}" for s, n in splits.iter_rows()
    )
    reasons = removed.group_by("reason").len().sort("len", "reason", descending=[True, False]).collect()
    if reasons.height:
        yield f"removed   {reasons['len'].sum():,}: " + ", ".join(
            f"{r} {n:,}" for r, n in reasons.iter_rows()
        )
    yield (
        f"leakage   {leaks['cross_split_pairs']:,} pairs cross splits; "
        f"a random split would have leaked {leaks['random_split_pairs']:,}"
    )
    size = sum(path.stat().st_size for path in release.rglob("*") if path.is_file())
    yield f"release   {release} ({size / 2**20:,.1f} MiB)"
    yield f"report    {release / 'reports' / 'report.html'}"
