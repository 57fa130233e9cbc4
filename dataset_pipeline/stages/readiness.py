"""What a conference's dataset track and the hosts ask of a dataset, and whether this one has it.

Keys of ``readiness.json``: ``rows`` (``requirement``, ``asked_by``, ``is_met``, ``remedy``), ``met`` and ``missing``
(their numbers), ``name`` (rules that a dataset's name should fulfil) and ``passages_for_author`` (of the paper).

Sources: NeurIPS Datasets and Benchmarks Track, call for papers and its list of responsible-AI fields; Croissant RAI
1.0; Gebru et al., "Datasheets for Datasets", 2021; dataset cards of Hugging Face. Belongs here: asking. Does not
belong here: gates, which stop a build; what is missing here stops none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.stages.comparison import Known, name_report

Reports = Mapping[str, Mapping[str, Any]]

TRACK: Final = "NeurIPS datasets track"
RAI: Final = "Croissant RAI 1.0"
DATASHEET: Final = "Datasheets for Datasets"
CARD: Final = "dataset card"

_STATED: Final = (
    ("motivation", DATASHEET, "why the dataset was made"),
    ("collection", DATASHEET, "how it was collected"),
    ("uses", RAI, "what it may be used for, and what not (rai:dataUseCases)"),
    ("limitations", RAI, "its limitations (rai:dataLimitations)"),
    ("biases", RAI, "its biases (rai:dataBiases)"),
    ("social_impact", RAI, "its social impact (rai:dataSocialImpact)"),
    ("personal_information", RAI, "what personal information it holds (rai:personalSensitiveInformation)"),
    ("maintenance", DATASHEET, "who maintains it"),
)
_LEAST_RECALL: Final = 0.95


def readiness_report(
    config: DatasetConfig, reports: Reports, known: Sequence[Known], passages_for_author: int
) -> dict[str, Any]:
    """The report described above.

    ``reports``: name -> JSON report, those of licences, leakage, labels and baselines at least; ``known``: the
    datasets whose names are taken.
    """
    name = name_report(config.name, known)
    rows = [
        _row(f"states {what}", asked_by, bool(getattr(config.documentation, key)), f"documentation.{key}")
        for key, asked_by, what in _STATED
    ]
    rows += [
        _row("names its creators", CARD, bool(config.creators), "creators"),
        _row("has a publication date", TRACK, config.date is not None, "date"),
        _row("has a persistent address", TRACK, config.url is not None, "url"),
        _row("has a description", CARD, bool(config.description), "description"),
        _row(
            "every source has a permission with its evidence",
            TRACK,
            all(source.permission and source.permission.evidence for source in config.sources),
            "sources[].permission.evidence",
        ),
        _row(
            "every item's licence allows the release",
            TRACK,
            not reports["licences"].get("incompatible_items", {}).get("count", 0),
            "see reports/licences.json",
        ),
        _row("texts were searched for personal data", RAI, config.pii.enabled, "pii.enabled"),
        _row(
            "pictures were searched for faces",
            RAI,
            config.pii.images.faces != "off"
            or reports.get("pii", {}).get("images", {}).get("statement") == "",  # there are no pictures
            "pii.images.faces",
        ),
        _row("no related pair crosses splits", TRACK, reports["leakage"]["cross_split_pairs"] == 0, "split"),
        _row(
            f"the leak search finds {_LEAST_RECALL:.0%} or more of every kind of planted copy",
            TRACK,
            _least_recall(reports["leakage"]) >= _LEAST_RECALL,
            "see search_recall in reports/leakage.json",
        ),
        _row("has baselines", TRACK, bool(reports["baselines"].get("leaderboard")), "baselines.enabled"),
        _row(
            "says how good its labels are",
            TRACK,
            _has_label_estimate(reports["labels"]),
            "an audit of a sample, or duplicates with labels; see reports/labels.json",
        ),
        _row(
            "its name fits every host and is free",
            CARD,
            all(rule["is_fulfilled"] for rule in name),
            "name; see the rules",
        ),
        _row(
            "its paper is written",
            TRACK,
            passages_for_author == 0,
            "passages marked in reports/paper/paper.tex",
        ),
    ]
    met = sum(row["is_met"] for row in rows)
    return {
        "rows": rows,
        "met": met,
        "missing": len(rows) - met,
        "name": name,
        "passages_for_author": passages_for_author,
    }


def _row(requirement: str, asked_by: str, is_met: bool, remedy: str) -> dict[str, Any]:
    return {
        "requirement": requirement,
        "asked_by": asked_by,
        "is_met": bool(is_met),
        "remedy": None if is_met else remedy,
    }


def _least_recall(leakage: Mapping[str, Any]) -> float:
    """The smallest share of planted copies that was found, over all changes; 0 where none was planted."""
    shares = [share for kind in leakage.get("search_recall", {}).values() for share in kind.values()]
    return min(shares, default=0.0)


def _has_label_estimate(labels: Mapping[str, Any]) -> bool:
    """Whether label noise was estimated at all: among duplicates, or by a person's audit of a sample."""
    return labels.get("contradictions", {}).get("share") is not None or bool(labels.get("audit"))
