"""``dataset-pipeline audit RELEASE``: a sample of labels for people to judge, and what their verdicts say.

Belongs here: the sheet and its pictures on disk. Does not belong here: drawing the sample and estimating
(``stages/labels.py``).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dataset_pipeline.adapters.archive import metadata_table
from dataset_pipeline.adapters.shards import file_name
from dataset_pipeline.adapters.sources import read_audit
from dataset_pipeline.adapters.store import explained_os_errors
from dataset_pipeline.errors import ConfigError
from dataset_pipeline.stages import intervals, labels
from dataset_pipeline.stages.result_tables import to_csv
from dataset_pipeline.tables import RELEASED_ITEMS, RELEASED_WHERE_THERE

SHEET = "sheet.csv"


@dataclass(frozen=True)
class AuditSheet:
    """A written sheet: where, how many items, of how many with a label."""

    path: Path
    items: int
    population: int
    margin: float

    def lines(self) -> list[str]:
        """What to print."""
        return [
            f"wrote {self.path}: {self.items:,} of {self.population:,} labelled items",
            f"fill in 'verdict' with {', '.join(labels.VERDICTS)}; the share of wrong labels is then known "
            f"to about +- {self.margin:.1%}",
            f"read it with: dataset-pipeline audit RELEASE --read {self.path}, or name it as label_quality.audit",
        ]


def write_sheet(
    release: Path, folder: Path, margin: float, expected: float, seed: int, force: bool
) -> AuditSheet:
    """Draw a sample of a release's labels and write ``sheet.csv`` and the pictures into ``folder``.

    Large enough for a share of wrong labels near ``expected`` to be known to +- ``margin``. Raises ``ConfigError``
    for what is no release, a release without labels, and a sheet that is there already.
    """
    items = _items(release)
    labelled = items.drop_nulls("label")
    if labelled.is_empty():
        raise ConfigError(f"{release}: no item has a label, so there is nothing to audit")
    place = folder / SHEET
    if place.exists() and not force:
        raise ConfigError(f"{place} is there already", hint="Verdicts may be in it; --force replaces it")
    wanted = intervals.sample_size(margin, expected, labelled.height)
    sample = labels.audit_sample(labelled, wanted, seed)
    texts = [name for name in items.columns if name not in {*RELEASED_ITEMS, *RELEASED_WHERE_THERE}]
    with explained_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        pictures = _write_pictures(release, folder / "pictures", sample["item_id"])
        sheet = sample.join(pictures, on="item_id", how="left", maintain_order="left").select(
            "item_id",
            "label",
            verdict=pl.lit(""),
            remark=pl.lit(""),
            picture="picture",
            **{f"text {name}": pl.col(name) for name in texts},
        )
        place.write_text(to_csv(sheet), encoding="utf-8")
    return AuditSheet(place, sample.height, labelled.height, margin)


def read_sheet(release: Path, sheet: Path) -> dict[str, Any]:
    """The estimate of ``labels.json``'s audit for a filled-in sheet. Raises ``ConfigError`` for what is none."""
    items = _items(release)
    verdicts = read_audit(str(sheet.absolute()), sheet.absolute().parent)
    assert verdicts is not None
    return labels.audit_estimate(verdicts, items.select("item_id", "split", "label"))


def estimate_lines(found: dict[str, Any]) -> list[str]:
    """What to print of an estimate."""
    left = [
        f"{found[name]:,} {name.replace('_', ' ')}"
        for name in ("unsure", "outdated", "not_filled_in")
        if found[name]
    ]
    aside = f" ({', '.join(left)})" if left else ""
    if found["share"] is None:
        return [f"no verdict 'right' or 'wrong' on an item of this release{aside}"]
    low, high = found["interval"]
    lines = [f"{found['wrong']:,} of {found['looked_at']:,} labels are wrong{aside}"]
    lines += [f"  {row['split']}: {row['wrong']:,} of {row['looked_at']:,}" for row in found["by_split"]]
    lines.append(f"wrong labels in the release: {found['share']:.2%}, 95 % interval {low:.2%} to {high:.2%}")
    if found["splits_without"]:
        lines.append(
            f"this says nothing about {', '.join(found['splits_without'])}: none of its items was judged"
        )
    return lines


def _items(release: Path) -> pl.DataFrame:
    path = metadata_table(release, "items")
    try:
        frame = pl.read_parquet(path, glob=False)
        return frame.select(*RELEASED_ITEMS, *(name for name in frame.columns if name not in RELEASED_ITEMS))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: not the items of a release: {reason}") from None


def _write_pictures(release: Path, folder: Path, item_ids: pl.Series) -> pl.DataFrame:
    """item_id and the picture's path in the sheet's folder, of those that have one."""
    found: dict[str, str] = {}
    for shard in sorted((release / "data").glob("*.parquet")):
        scanned = pl.scan_parquet(shard, glob=False)
        if "image" not in scanned.collect_schema():
            continue
        rows = (
            scanned.select("item_id", "image").filter(pl.col("item_id").is_in(item_ids.implode())).collect()
        )
        for item_id, image in rows.iter_rows():
            if image and image["bytes"]:
                folder.mkdir(exist_ok=True)
                name = file_name(image["path"] or "picture")
                (folder / name).write_bytes(image["bytes"])
                found[item_id] = f"{folder.name}/{name}"
    return pl.DataFrame(
        {"item_id": list(found), "picture": list(found.values())},
        schema={"item_id": pl.String, "picture": pl.String},
    )
