"""Figures of the reports, as SVG: vector, readable in print, in colours that colour-blind people tell apart.

Belongs here: drawing numbers that a JSON report holds. Does not belong here: computing any. Equal
reports give equal bytes. Words stay text, which the reader's own fonts draw: no font that could be
shipped has every script that a label may be written in.
"""

import contextlib
import contextvars
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dataset_pipeline.stages.scores import prediction_name

# Okabe and Ito (2008): distinguishable with every common kind of colour blindness.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_MOST_BARS = 25
_TITLE_CELLS = 36
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FORMAT: contextvars.ContextVar[str] = contextvars.ContextVar("format", default="svg")
_STYLE: Any = {
    "font.size": 9,
    # DejaVu Sans ships with matplotlib, so every machine measures the same; a reader without it sees another.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.grid.axis": "x",
    "grid.alpha": 0.25,
    "svg.hashsalt": "dataset_pipeline",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType: publishers refuse matplotlib's default, Type 3
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a label may hold a dollar sign
}


@contextlib.contextmanager
def as_pdf() -> Iterator[None]:
    """Figures drawn inside are PDF, which LaTeX takes; their names stay."""
    token = _FORMAT.set("pdf")
    try:
        yield
    finally:
        _FORMAT.reset(token)


def statistics_figures(report: Mapping[str, Any], splits: Sequence[str]) -> dict[str, bytes]:
    """File name -> SVG of what ``statistics.json`` holds."""
    made = {
        "classes.svg": _stacked(report["classes"], splits, "items"),
        "languages.svg": _stacked(report["languages"], splits, "items"),
        "removed.svg": _bars(
            [(row["reason"].replace("_", " "), row["items"]) for row in report["removed"]], "removed items"
        ),
        "brightness.svg": _histogram(
            report["images"].get("brightness_histogram"), "mean luminance, 0-255", "pictures"
        ),
    }
    for name, text in report["texts"].items():
        made[f"length_of_{name}.svg"] = _histogram(
            text["chars_histogram"], _title(f"characters in '{name}'"), "items"
        )
    return {name: figure for name, figure in made.items() if figure is not None}


def flow_figure(report: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> figure of the way from raw items to splits, of ``statistics.json``."""
    counts = report["counts"]
    return {"flow.svg": _flow(counts["raw_items"], report["removed"], counts["splits"])}


_FLOW = (
    ("raw", "readable"),
    ("clean", "clean"),
    ("decontamination", "in no outside set"),
    ("duplicates", "without duplicates"),
)
"""The stages that remove items, and what is left after each."""
_REASONS_SHOWN = 3


def _flow(raw: int, removed: Sequence[Mapping[str, Any]], splits: Sequence[Mapping[str, Any]]) -> bytes:
    """Boxes from left to right; below an arrow, what the stage between removed; at the end the splits."""
    boxes, losses = [("raw items", raw)], []
    for stage, name in _FLOW:
        gone = sorted((row for row in removed if row["stage"] == stage), key=lambda row: -row["items"])
        if gone:
            said = [f"− {row['items']:,} {row['reason'].replace('_', ' ')}" for row in gone[:_REASONS_SHOWN]]
            others = sum(row["items"] for row in gone[_REASONS_SHOWN:])
            losses.append([*said, *([f"− {others:,} for other reasons"] if others else [])])
            boxes.append((name, boxes[-1][1] - sum(row["items"] for row in gone)))
    losses.append([])

    def draw(axes: Any) -> None:
        axes.set_axis_off()
        axes.set_xlim(0, len(boxes) + 1)
        axes.set_ylim(0, 1)
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "#f3f6fa", "edgecolor": PALETTE[0]}
        arrow = {"arrowstyle": "-|>", "color": PALETTE[7], "shrinkA": 28, "shrinkB": 28}
        for place, ((name, items), said) in enumerate(zip(boxes, losses, strict=True)):
            at = place + 0.5
            axes.text(at, 0.62, f"{items:,}\n{name}", ha="center", va="center", bbox=frame)
            axes.annotate("", (at + 1, 0.62), (at, 0.62), arrowprops=arrow)
            axes.text(at + 0.5, 0.34, "\n".join(said), ha="center", va="top", fontsize=7.5, color=PALETTE[5])
        lines = [f"{_title(row['value'], 16)}: {row['items']:,}" for row in splits]
        axes.text(len(boxes) + 0.5, 0.62, "\n".join(lines), ha="center", va="center", bbox=frame)

    return _svg(draw, height=1.9)


def file_part(name: str) -> str:
    """A name as part of a file's name: letters and digits."""
    return "".join(c if c.isalnum() else "_" for c in name)


def baseline_figures(report: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> SVG of what ``baselines.json`` holds."""
    made = {}
    if report["leaderboard"]:
        made["leaderboard.svg"] = _intervals(report["leaderboard"])
        made["calibration.svg"] = _calibration(report)
    for model, similarity in report["similarity"].items():
        made[f"similarity_{file_part(model)}.svg"] = _two_histograms(similarity)
    for model, space in (report.get("space") or {}).items():
        if space["map"] is not None:
            made[f"map_{file_part(model)}.svg"] = _map(space["map"]["points"])
    return made


def _calibration(report: Mapping[str, Any]) -> bytes:
    """Reliability diagram (Niculescu-Mizil and Caruana, 2005) of the most accurate baselines."""
    best = sorted(report["leaderboard"], key=lambda row: -row["top1"])[: len(PALETTE) // 2]

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=PALETTE[7], linewidth=1, linestyle="--")
        for row, colour in zip(best, PALETTE, strict=False):
            name = prediction_name(row["model"], row["task"], row["inputs"])
            bins = report["details"][name]["calibration"]
            axes.plot(
                [b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", color=colour, markersize=3.5,
                label=_title(f"{row['model']}, {row['task']}, {row['inputs']} (ECE {row['ece']:.3f})", 60),
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("confidence of the answers")
        axes.set_ylabel("share of them that is right")
        _legend_above(axes)

    return _svg(draw, height=3.6)


def label_figures(report: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> SVG of what ``labels.json`` holds."""
    rows = [
        (f"{_title(row['label'], 22)} / {_title(row['other'], 22)}", row["items"])
        for row in report["errors"]["confused"][:_MOST_BARS]
    ]
    drawn = _bars(rows, "items whose label and look belong to these two classes")
    return {} if drawn is None else {"confused_classes.svg": drawn}


def cleanliness_figures(report: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> SVG of what ``cleanliness.json`` holds."""
    made = {}
    for kind, found in report["nearest_in_train"].items():
        made[f"nearest_in_train_{kind}.svg"] = _nearest(found, _THINGS[kind])
    for kind, things in _THINGS.items():
        if kind in report["price"]:
            made[f"price_{kind}.svg"] = _price(report["price"][kind], things)
    return made


_THINGS = {"image": "pictures", "text": "texts"}


def semantic_figures(leakage: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> SVG of the cosines to the nearest in 'train', where ``leakage.json`` holds such."""
    kinds = leakage.get("semantic", {}).get("kinds", {})
    return {
        f"semantic_{kind}.svg": _cosines(found, _THINGS[kind])
        for kind, found in kinds.items()
        if found["nearest_in_train"] is not None and found["nearest_in_train"]["counts"]
    }


def _cosines(found: Mapping[str, Any], things: str) -> bytes:
    """Histograms of the largest cosine with any embedding of 'train', by split."""

    def draw(axes: Any) -> None:
        told, highest = found["nearest_in_train"], 0.0
        for number, (name, counts) in enumerate(sorted(told["counts"].items())):
            shares = [100 * count / max(1, sum(counts)) for count in counts]
            highest = max(highest, *shares)
            colour = PALETTE[number % len(PALETTE)]
            axes.stairs(shares, told["edges"], color=colour, linewidth=1.8, label=_title(name))
        axes.axvline(found["threshold"], color=PALETTE[7], linewidth=1, linestyle="--", label="threshold")
        axes.set_xlabel(f"cosine to the nearest of the training {things}")
        axes.set_ylabel(f"% of the {things} of a split")
        axes.set_xlim(0, 1.005)
        axes.set_ylim(0, max(highest, 1) * 1.05)
        _legend_above(axes)

    return _svg(draw, height=2.9)


def _nearest(found: Mapping[str, Any], things: str) -> bytes:
    """Histograms of the similarity to the nearest in 'train', of this split and of a random one."""
    sides = (("this_split", "this split", PALETTE[0]), ("random_split", "a random split", PALETTE[5]))

    def draw(axes: Any) -> None:
        highest = 0.0
        for name, label, colour in sides:
            side = found[name]
            shares = [100 * count / max(1, side["compared"]) for count in side["histogram"]]
            highest = max(highest, *shares)
            is_random = name == "random_split"
            axes.stairs(
                shares, found["edges"], fill=not is_random, color=colour, alpha=1 if is_random else 0.75,
                linewidth=1.8, label=f"{label}: {100 * side['identical']:.1f} % are also in train",
            )  # fmt: skip
        axes.set_xlabel(f"similarity to the nearest of the training {things} (1: identical)")
        axes.set_ylabel(f"% of the test {things}")
        axes.set_xlim(0, 1.005)
        axes.set_ylim(0, highest * 1.05)
        _legend_above(axes)

    return _svg(draw, height=2.9)


def _price(found: Mapping[str, Any], things: str) -> bytes:
    """Groups of items that belong together at each threshold: so many would remain if each kept one."""
    names = {
        "configured": "by all rules of this dataset",
        "similarity alone": "by similarity alone",
    }

    def draw(axes: Any) -> None:
        for (rule, label), colour in zip(names.items(), (PALETTE[0], PALETTE[5]), strict=True):
            rows = [row for row in found["rows"] if row["rule"] == rule]
            if rows:
                axes.plot(
                    [row["threshold"] for row in rows], [row["groups"] for row in rows], "o-", color=colour,
                    markersize=3.5, label=label,
                )  # fmt: skip
        axes.axvline(
            found["threshold"],
            color=PALETTE[7],
            linewidth=1.2,
            linestyle="--",
            label="the configured threshold",
        )
        axes.set_xlabel(f"threshold: {things} at least so similar are the same (1: identical)")
        axes.set_ylabel("groups of items")
        axes.set_ylim(0, 1.08 * max(1, *(row["groups"] for row in found["rows"])))
        _whole_numbers(axes.yaxis)
        _legend_above(axes)

    return _svg(draw, height=3.1)


def _legend_above(axes: Any) -> None:
    """One entry a line: side by side, long ones would push the axes together."""
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def _stacked(rows: Sequence[Mapping[str, Any]], splits: Sequence[str], axis: str) -> bytes | None:
    """Horizontal bars, one a value, stacked by split; the rest beyond the first ones as one bar."""
    if not rows:
        return None
    shown = [(_title(row["value"]), row["splits"]) for row in rows[:_MOST_BARS]]
    if len(rows) > _MOST_BARS:
        rest: dict[str, int] = {}
        for row in rows[_MOST_BARS:]:
            for split, count in row["splits"].items():
                rest[split] = rest.get(split, 0) + count
        shown.append((f"{len(rows) - _MOST_BARS} others", rest))

    def draw(axes: Any) -> None:
        left = [0] * len(shown)
        for split, colour in zip(splits, PALETTE, strict=False):
            counts = [by_split.get(split, 0) for _name, by_split in shown]
            axes.barh(range(len(shown)), counts, left=left, color=colour, label=split, height=0.75)
            left = [a + b for a, b in zip(left, counts, strict=True)]
        _names(axes, [name for name, _splits in shown])
        axes.set_xlabel(axis)
        _whole_numbers(axes.xaxis)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)

    return _svg(draw, height=0.24 * len(shown) + 1.1)


def _bars(rows: Sequence[tuple[str, int]], axis: str) -> bytes | None:
    if not rows:
        return None

    def draw(axes: Any) -> None:
        counts = [count for _name, count in rows]
        bars = axes.barh(range(len(rows)), counts, color=PALETTE[5], height=0.7)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3)
        _names(axes, [name for name, _count in rows])
        axes.set_xlabel(axis)
        _whole_numbers(axes.xaxis)
        axes.margins(x=0.12)

    return _svg(draw, height=0.26 * len(rows) + 0.9)


def _histogram(bins: Mapping[str, Sequence[float]] | None, axis: str, what: str) -> bytes | None:
    if bins is None:
        return None

    def draw(axes: Any) -> None:
        axes.stairs(bins["counts"], bins["edges"], fill=True, color=PALETTE[0])
        axes.set_xlabel(axis)
        axes.set_ylabel(what)
        _whole_numbers(axes.yaxis)

    return _svg(draw, height=2.4)


def _two_histograms(similarity: Mapping[str, Any]) -> bytes:
    def draw(axes: Any) -> None:
        for name, colour in (("true", PALETTE[0]), ("shuffled", PALETTE[1])):
            counts = similarity[name]
            total = max(1, sum(counts))
            axes.stairs(
                [count / total for count in counts], similarity["edges"], fill=True, alpha=0.6, color=colour,
                label=f"{name} pairs",
            )  # fmt: skip
        axes.set_xlabel(f"cosine similarity of picture and text (AUC {similarity['auc']:.3f})")
        axes.set_ylabel("share of test pairs")
        axes.legend(frameon=False)

    return _svg(draw, height=2.6)


def _map(points: Sequence[Mapping[str, Any]]) -> bytes:
    """Points in the plane, coloured by label: the commonest labels, and one grey for all others."""
    counts: dict[str, int] = {}
    for point in points:
        counts[point["label"]] = counts.get(point["label"], 0) + 1
    common = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    # A colour a label, and a shape, for print and for eyes that see few colours.
    styles = dict(zip(common, zip(PALETTE[:7], "osD^vPX", strict=True), strict=False))

    def draw(axes: Any) -> None:
        axes.set_axis_off()
        for name in [None, *styles]:
            here = [p for p in points if (p["label"] if p["label"] in styles else None) == name]
            colour, shape = (PALETTE[7], ".") if name is None else styles[name]
            if here:
                axes.scatter(
                    [p["x"] for p in here], [p["y"] for p in here], s=9, color=colour, marker=shape, alpha=0.75,
                    linewidths=0, label="others" if name is None else _title(name, 24),
                )  # fmt: skip
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.8)

    return _svg(draw, height=4.2)


def _intervals(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Top-1 accuracy of every baseline with its interval, best first."""
    ordered = sorted(rows, key=lambda row: (-row["top1"], row["model"], row["task"], row["inputs"]))[
        :_MOST_BARS
    ]
    names = [
        row["model"] if row["inputs"] == "none" else f"{row['model']}, {row['task']}, {row['inputs']}"
        for row in ordered
    ]
    names = [_title(name, 48) for name in names]

    def draw(axes: Any) -> None:
        for place, row in enumerate(ordered):
            axes.plot([row["top1_low"], row["top1_high"]], [place, place], color=PALETTE[0], linewidth=2)
            axes.plot(row["top1"], place, "o", color=PALETTE[0])
        _names(axes, names)
        axes.set_xlim(0, 1)
        axes.set_xlabel("top-1 accuracy: share of test items whose label was named")

    return _svg(draw, height=0.28 * len(ordered) + 0.9)


def _names(axes: Any, names: Sequence[str]) -> None:
    """Names of rows, first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()


def _whole_numbers(axis: Any) -> None:
    """Counts on an axis: no half items."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins="auto", integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter("{x:,.0f}")


def _title(value: str | None, cells: int = _TITLE_CELLS) -> str:
    """One line of at most ``cells`` columns (East Asian characters take two), fit for XML."""
    text = "(none)" if value is None else " ".join(_NOT_XML.sub("\ufffd", str(value)).split())
    return text if _cells(text) <= cells else _cut(text, cells - 1) + "…"


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, cells: int) -> str:
    text = text[:cells]
    while _cells(text) > cells:
        text = text[:-1]
    return text


def _svg(draw: Any, height: float) -> bytes:
    import warnings

    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Measuring needs a font, drawing does not: the reader's font has the glyph.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        figure = Figure(figsize=(6.4, height))
        axes = figure.add_subplot()
        draw(axes)
        _lay_out(figure, axes)
        stream = io.BytesIO()
        no_time = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None}}
        figure.savefig(stream, format=_FORMAT.get(), metadata=no_time[_FORMAT.get()])
    return stream.getvalue()


def _lay_out(figure: Any, axes: Any) -> None:
    """Place everything as if each name were as wide as its columns, then leave it there.

    The measuring font lacks most scripts, and takes a missing glyph for narrower than it will be.
    """
    labels = axes.get_yticklabels()
    names = [label.get_text() for label in labels]
    for label, name in zip(labels, names, strict=True):
        label.set_text("n" * _cells(name) if not name.isascii() else name)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for label, name in zip(labels, names, strict=True):
        label.set_text(name)
