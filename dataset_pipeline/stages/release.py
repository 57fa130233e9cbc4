"""The documents of a release: card, licence, citation, datasheet and changelog, and the quality report.

Belongs here: text made from the configuration and the JSON reports. Every number in a document is
read from a report, never counted here, so that a document cannot disagree with the reports beside
it. Does not belong here: writing files (``adapters/archive.py``) and Croissant (``croissant.py``).

Sources: Hugging Face dataset card metadata; Citation File Format 1.2.0; Gebru et al., "Datasheets
for Datasets", Communications of the ACM 64(12), 2021.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl
import yaml

from dataset_pipeline.config import Creator, DatasetConfig
from dataset_pipeline.stages import diff
from dataset_pipeline.stages.licences import licence_ids
from dataset_pipeline.stages.mirrors import Mirror, download_script, mirrors
from dataset_pipeline.tables import COLUMN_MEANINGS, PAIR_KINDS, REASONS, RELEASED_ITEMS, RELEASED_WHERE_THERE

Reports = Mapping[str, Mapping[str, Any]]

_HUGGING_FACE_LICENCES: Final = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "cdla-sharing-1.0",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-3.0",
        "agpl-3.0",
        "mpl-2.0",
        "isc",
        "unlicense",
        "pddl",
        "odbl",
        "odc-by",
    ]
)
_SPDX_TO_HUGGING_FACE: Final = {
    "pddl-1.0": "pddl",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "gpl-3.0-only": "gpl-3.0",
    "gpl-3.0-or-later": "gpl-3.0",
    "gpl-2.0-only": "gpl-2.0",
    "gpl-2.0-or-later": "gpl-2.0",
    "lgpl-3.0-only": "lgpl-3.0",
    "lgpl-3.0-or-later": "lgpl-3.0",
    "agpl-3.0-only": "agpl-3.0",
    "agpl-3.0-or-later": "agpl-3.0",
}
_SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
_NAMES: Final = {
    "CC0-1.0": "Creative Commons Zero v1.0 Universal (public domain dedication)",
    "CC-BY-4.0": "Creative Commons Attribution 4.0 International",
    "CC-BY-3.0": "Creative Commons Attribution 3.0 Unported",
    "CC-BY-SA-4.0": "Creative Commons Attribution-ShareAlike 4.0 International",
    "CC-BY-SA-3.0": "Creative Commons Attribution-ShareAlike 3.0 Unported",
    "CC-BY-NC-4.0": "Creative Commons Attribution-NonCommercial 4.0 International",
    "CC-BY-NC-SA-4.0": "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
    "CC-BY-ND-4.0": "Creative Commons Attribution-NoDerivatives 4.0 International",
    "CC-BY-NC-ND-4.0": "Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 International",
    "MIT": "MIT License",
    "Apache-2.0": "Apache License 2.0",
    "BSD-2-Clause": 'BSD 2-Clause "Simplified" License',
    "BSD-3-Clause": 'BSD 3-Clause "New" or "Revised" License',
    "ODbL-1.0": "Open Data Commons Open Database License v1.0",
    "ODC-By-1.0": "Open Data Commons Attribution License v1.0",
    "PDDL-1.0": "Open Data Commons Public Domain Dedication and License 1.0",
    "CDLA-Permissive-2.0": "Community Data License Agreement Permissive 2.0",
    "CDLA-Sharing-1.0": "Community Data License Agreement Sharing 1.0",
}
_URLS: Final = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/legalcode",
    "MIT": "https://opensource.org/license/mit",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "ODbL-1.0": "https://opendatacommons.org/licenses/odbl/1-0/",
    "ODC-By-1.0": "https://opendatacommons.org/licenses/by/1-0/",
    "PDDL-1.0": "https://opendatacommons.org/licenses/pddl/1-0/",
    "CDLA-Permissive-2.0": "https://cdla.dev/permissive-2-0/",
    "CDLA-Sharing-1.0": "https://cdla.dev/sharing-1-0/",
}


# -- the quality report --------------------------------------------------------------------


def quality_report(
    items: pl.LazyFrame, removed: pl.LazyFrame, pairs: pl.LazyFrame, gates: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """``reports/quality.json``: the counts that every document quotes, and the gates that were passed.

    ``items``: SPLIT_ITEMS; ``removed``: REMOVED; ``pairs``: PAIRS; ``gates``: one mapping per check,
    kept as it comes.
    """
    released = items.select("split", "label", "language", "licence", "image_sha256", "label_source").collect()
    gone = removed.group_by("stage", "reason").len().collect()
    return {
        "counts": {
            "raw_items": released.height + int(gone["len"].sum()),
            "released_items": released.height,
            "removed_items": int(gone["len"].sum()),
            "pictures": released["image_sha256"].drop_nulls().n_unique(),
            "labels": released["label"].drop_nulls().n_unique(),
            "items_by_split": _counts(released, "split"),
            "items_by_language": _counts(released, "language"),
            "items_by_licence": _counts(released, "licence"),
            "items_by_label_source": _counts(released, "label_source"),
            "removed_by_reason": {
                row["reason"]: row["len"]
                for row in gone.group_by("reason").agg(pl.col("len").sum()).sort("reason").to_dicts()
            },
            "duplicate_pairs_by_kind": _counts(pairs.select("kind").collect(), "kind"),
        },
        "gates": [dict(gate) for gate in gates],
    }


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """Value -> rows, sorted by value; nulls under ''."""
    counted = frame.select(pl.col(column).fill_null("")).group_by(column).len().sort(column)
    return {str(value): int(count) for value, count in counted.rows()}


# -- documents -----------------------------------------------------------------------------


def documents(
    config: DatasetConfig,
    reports: Reports,
    columns: Mapping[str, str],
    older_changes: str = "",
    measured: Mapping[str, float] | None = None,
    shard_bytes: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, str]:
    """Path -> text of README.md, LICENSE, CITATION.cff, datasheet.md, CHANGELOG.md and, where it is public, download.py.

    ``reports``: name -> JSON report; 'quality' (see :func:`quality_report`) is required, and sections
    of reports that are missing are left out. ``columns``: column of the shards -> 'image', 'string' or 'int64'.
    ``older_changes``: CHANGELOG.md of the release that the report 'diff' compares this one with.
    ``measured``: destination -> MiB/s. ``shard_bytes``: folder of shards -> split -> bytes.
    """
    places = mirrors(config, measured)
    return {
        "README.md": card(config, reports, columns, places, shard_bytes),
        **({"download.py": download_script(config, places)} if places else {}),
        "LICENSE": licence_text(config, reports),
        "CITATION.cff": citation(config),
        "datasheet.md": _render("datasheet.md.j2", config, reports, columns),
        "CHANGELOG.md": changelog(config, reports, older_changes),
    }


def card(
    config: DatasetConfig,
    reports: Reports,
    columns: Mapping[str, str],
    places: Sequence[Mirror] = (),
    shard_bytes: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """The dataset card: YAML front matter for Hugging Face, then Markdown for people."""
    front = yaml.safe_dump(
        front_matter(config, reports, columns, shard_bytes), sort_keys=False, allow_unicode=True, width=100
    )
    return f"---\n{front}---\n\n{_render('card.md.j2', config, reports, columns, places)}"


def front_matter(
    config: DatasetConfig,
    reports: Reports,
    columns: Mapping[str, str],
    shard_bytes: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """Metadata of the card, in the keys Hugging Face reads. Its libraries ignore splits of unknown size."""
    counts = reports["quality"]["counts"]
    languages = [tag for tag in counts["items_by_language"] if tag not in ("", "und", "zxx", "mul")]
    primary = sorted({tag.split("-")[0].lower() for tag in languages})
    splits = {
        name: counts["items_by_split"][name]
        for name in config.split.ratios
        if name in counts["items_by_split"]
    }
    folders = variant_configs(config, columns)
    has_sample = config.release.mini
    has_names = len(folders) > 1 or has_sample
    infos = [
        {
            **({"config_name": name} if has_names else {}),
            "features": [{"name": column, "dtype": kind} for column, kind in columns.items()],
            "splits": [
                {
                    "name": split_name(split),
                    "num_examples": count,
                    **({"num_bytes": shard_bytes[folder][split]} if shard_bytes else {}),
                }
                for split, count in splits.items()
            ],
        }
        for name, folder in folders.items()
    ]
    front: dict[str, Any] = {
        "pretty_name": config.display_title,
        **_front_licence(config.licence),
        "language": primary,
        "language_bcp47": sorted(languages) if any("-" in tag for tag in languages) else None,
        "size_categories": [size_category(counts["released_items"])],
        "task_categories": list(config.tasks),
        "source_datasets": ["original"],
        "tags": list(config.keywords),
        "configs": [
            {
                "config_name": name,
                **({"default": True} if has_names and folder == "data" else {}),
                "data_files": [
                    {"split": split_name(split), "path": f"{folder}/{split}-?????-of-?????.parquet"}
                    for split in splits
                ],
            }
            for name, folder in [*folders.items(), *([("mini", "mini/data")] if has_sample else [])]
        ],
        "dataset_info": infos[0] if len(infos) == 1 else infos,
    }
    return {key: value for key, value in front.items() if value not in (None, [], "")}


def variant_configs(config: DatasetConfig, columns: Mapping[str, str]) -> dict[str, str]:
    """Hugging Face configuration -> folder of its shards: one for every released resolution of the pictures."""
    if "image" not in columns:
        return {"default": "data"}
    first, *others = config.release.images
    return {str(first.name): "data", **{str(other.name): f"variants/{other.name}" for other in others}}


def split_name(name: str) -> str:
    """A split's name as Hugging Face allows it: word characters only."""
    return re.sub(r"\W", "_", name)


def size_category(items: int) -> str:
    """Hugging Face's size category of a number of items."""
    return next((name for limit, name in _SIZES if items < limit), "n>1T" if items > 10**12 else "1B<n<10B")


def _front_licence(licence: str) -> dict[str, Any]:
    known = _SPDX_TO_HUGGING_FACE.get(licence.lower(), licence.lower())
    if known in _HUGGING_FACE_LICENCES:
        return {"license": known}
    return {"license": "other", "license_name": licence.lower().replace(" ", "-"), "license_link": "LICENSE"}


def licence_url(identifier: str) -> str:
    """Where the licence's canonical text is."""
    if identifier in _URLS:
        return _URLS[identifier]
    if match := re.fullmatch(r"CC-((?:BY)(?:-NC)?(?:-ND|-SA)?)-(\d\.\d)", identifier):
        return f"https://creativecommons.org/licenses/{match[1].lower()}/{match[2]}/legalcode"
    return f"https://spdx.org/licenses/{identifier}.html"


def licence_text(config: DatasetConfig, reports: Reports) -> str:
    """LICENSE: which licence applies to the whole and to single items, and where its text is.

    Licence texts are given by link: deeds of Creative Commons and Open Data Commons allow that, and a
    link cannot be out of date. MIT asks for its text to come along, and it is short.
    """
    lines = [
        config.display_title,
        f"Version {config.version}",
        "",
        f"SPDX-License-Identifier: {config.licence}",
        "",
        "This dataset is released under:",
        "",
    ]
    identifiers = licence_ids(config.licence)
    lines += _licence_lines(identifiers)
    items = {
        name or "(none)": count for name, count in reports["quality"]["counts"]["items_by_licence"].items()
    }
    lines += [
        "",
        "Each item carries its own licence and, where one is known, its author: columns 'licence' and",
        "'author' of data/*.parquet and metadata/items.parquet. ATTRIBUTION.csv names author, licence and place of",
        "every item that asks for attribution. Items by licence:",
        "",
        *(f"  {name}: {count} items" for name, count in sorted(items.items())),
        "",
    ]
    others = sorted({part for name in items for part in licence_ids(name)} - set(identifiers) - {"none"})
    if others:
        lines += ["Licences of single items:", "", *_licence_lines(others), ""]
    lines += ["Sources:", ""]
    for source in config.sources:
        by = f", by {source.author}" if source.author else ""
        at = f", {source.url}" if source.url else ""
        lines.append(f"  {source.id}: {source.licence}{by}{at}")
    if "MIT" in {*identifiers, *others}:
        holders = (
            ", ".join(creator.name for creator in config.creators) or f"the authors of {config.display_title}"
        )
        lines += ["", _MIT.format(holders=holders)]
    return "\n".join(lines) + "\n"


def _licence_lines(identifiers: Sequence[str]) -> list[str]:
    lines = []
    for identifier in identifiers:
        lines += [f"  {identifier}: {_NAMES.get(identifier, identifier)}", f"  {licence_url(identifier)}"]
    return lines


_MIT: Final = """\
MIT License

Copyright (c) {holders}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so,
subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN
NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY,
WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def citation(config: DatasetConfig) -> str:
    """``CITATION.cff`` in version 1.2.0 of the format, which requires an author."""
    identifiers = licence_ids(config.licence)
    document: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it as below.",
        "type": "dataset",
        "title": config.display_title,
        "version": config.version,
        "date-released": config.date,
        "doi": config.doi,
        # Only ids of SPDX's own list are allowed, and a list of them would be a choice.
        "license": identifiers[0]
        if len(identifiers) == 1 and not identifiers[0].startswith("LicenseRef-")
        else None,
        "url": config.url,
        "keywords": list(config.keywords),
        "abstract": config.description,
        "authors": [_author(creator) for creator in config.creators]
        or [{"name": f"The authors of {config.display_title}"}],
    }
    filled = {key: value for key, value in document.items() if value not in (None, [], "")}
    return yaml.safe_dump(filled, sort_keys=False, allow_unicode=True, width=100)


def _author(creator: Creator) -> dict[str, str]:
    """A person where an ORCID or an affiliation says so, else an entity: a name alone cannot tell."""
    if creator.orcid is None and creator.affiliation is None:
        return {"name": creator.name}
    given, _, family = creator.name.rpartition(" ")
    person = {
        "family-names": family,
        "given-names": given,
        "affiliation": creator.affiliation or "",
        "orcid": f"https://orcid.org/{creator.orcid}" if creator.orcid else "",
    }
    return {key: value for key, value in person.items() if value}


def changelog(config: DatasetConfig, reports: Reports, older: str = "") -> str:
    """``CHANGELOG.md``: this version's changes above ``older``, the changelog of the release before it."""
    head = "# Changelog\n"
    items = reports["quality"]["counts"]["released_items"]
    report = reports.get("diff") or diff.diff_report(config.version, None, None, items)
    date = f" ({config.date})" if config.date else ""
    section = f"{head}\n## {config.version}{date}\n\n{changes(report)}"
    rest = older.replace("\r\n", "\n").removeprefix(head).strip() if report["previous"] else ""
    return f"{section}\n{rest}\n" if rest else section


def changes(report: Mapping[str, Any]) -> str:
    """What the changelog says of ``reports/diff.json``: counts and no item, so that takedowns hold for it too."""
    if report["previous"] is None:
        return f"- First release: {report['new_items']} items\n"
    found = diff.facts(report) or ["no item differs; documents or reports were made anew"]
    lines = [f"Compared with {report['previous']}:", "", *(f"- {fact}" for fact in found)]
    if report["step"] == "none":
        return "\n".join(lines) + "\n"
    columns = ("split", "old", "new", "added", "removed", "moved_in", "moved_out", "changed")
    lines += ["", *_table(columns, report["splits"])]
    if report["labels"]:
        more = report["labels_not_shown"]
        lines += [
            "",
            "Items by label, where their number changed" + (f" ({more} more labels)" if more else "") + ":",
        ]
        lines += ["", *_table(("label", "old", "new"), report["labels"])]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A Markdown table; the first column is text, the others are numbers."""
    return [
        f"| {' | '.join(name.replace('_', ' ') for name in columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
        *(f"| {' | '.join(_cell(row[name]) for name in columns)} |" for row in rows),
    ]


# -- templates -----------------------------------------------------------------------------


def _render(
    template: str,
    config: DatasetConfig,
    reports: Reports,
    columns: Mapping[str, str],
    places: Sequence[Mirror] = (),
) -> str:
    """A Markdown template of the package, with the config and the reports."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dataset_pipeline"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown, not HTML: values from data go through the filter 'cell'
    )
    environment.filters["cell"] = _cell
    text = environment.get_template(template).render(
        config=config,
        counts=reports["quality"]["counts"],
        gates=reports["quality"].get("gates", []),
        reports=reports,
        columns=columns,
        reasons=REASONS,
        pair_kinds=PAIR_KINDS,
        meanings=column_meanings(config),
        leaderboard=_leaderboard(reports),
        bibtex=bibtex(config),
        licence_url=licence_url(licence_ids(config.licence)[0]),
        variants=variant_configs(config, columns),
        documentation=config.documentation,
        places=places,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _cell(value: object) -> str:
    """A value from the data inside a Markdown table: no markup, no line breaks."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = re.sub(r"\s+", " ", str(value)).strip()
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", text)


def _leaderboard(reports: Reports) -> list[Mapping[str, Any]]:
    """Rows of the baselines' leaderboard, where there is one."""
    rows = reports.get("baselines", {}).get("leaderboard", [])
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def column_meanings(config: DatasetConfig) -> dict[str, str]:
    """What each released column means."""
    texts = {name: f"text: {name.replace('_', ' ')}" for name in config.text_names}
    return {
        **{name: COLUMN_MEANINGS[name] for name in ("image", *RELEASED_ITEMS, *RELEASED_WHERE_THERE)},
        **texts,
    }


def bibtex(config: DatasetConfig) -> str:
    """A BibTeX entry of the dataset."""
    key = re.sub(r"[^A-Za-z0-9]", "", config.name) + re.sub(r"\D", "", (config.date or "")[:4])
    fields = {
        "title": f"{{{_tex(config.display_title)}}}",
        "author": " and ".join(_tex(creator.name) for creator in config.creators),
        "year": (config.date or "")[:4],
        "version": config.version,
        "doi": config.doi or "",
        "url": config.url or "",
    }
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{body}}}"


def _tex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", ""))
