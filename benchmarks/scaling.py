"""Arithmetic from measured builds to a billion items: CPU hours by stage, and bytes, in a part of docs/scaling.md.

    python benchmarks/scaling.py [--write]

Reads the part of docs/performance.md that ``million.py`` writes; measures nothing. CPU time of a stage is taken to grow on as it
did between the two largest builds measured, by a power of the number of items that is at least 1; bytes grow by items.
"""

import re
import sys
from pathlib import Path

from pages import write_part

DOCS = Path(__file__).parent.parent / "docs"
ITEMS = (10**6, 10**7, 10**8, 10**9)
BYTES = ("source", "release", "storage with caches and snapshots")


def cells(line: str) -> list[str]:
    """Cells of a row of a markdown table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def number(cell: str) -> float | None:
    """The first number of a cell; None where it holds none."""
    found = re.match(r"[\d,]+(?:\.\d+)?", cell)
    return float(found[0].replace(",", "")) if found else None


def main() -> None:
    """Write the part."""
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    part = page.split("<!-- million:begin -->")[1].split("<!-- million:end -->")[0]
    tables = [block.splitlines() for block in part.split("\n\n") if block.startswith("|")]
    summary, stages = ([cells(line) for line in table] for table in tables[:2])
    header = stages[0]
    if header[-1] != "growth":
        raise SystemExit(f"expected a table of stages that ends in 'growth', found {header}")
    measured = [int(cell.replace(",", "")) for cell in header[1:-1]]
    largest = measured[-1]
    lines = [
        "| stage | measured power | taken | " + " | ".join(f"{items:,}" for items in ITEMS) + " |",
        "|---|---:|---:|" + "---:|" * len(ITEMS),
    ]
    sums = [0.0] * len(ITEMS)
    missing = []
    for row in stages[2:]:
        seconds, power = number(row[len(measured)]), number(row[-1].lstrip("-"))
        if seconds is None:
            missing.append(row[0])
            continue
        taken = max(1.0, 0.0 if power is None or row[-1].startswith("-") else power)
        hours = [seconds * (items / largest) ** taken / 3600 for items in ITEMS]
        sums = [total + one for total, one in zip(sums, hours, strict=True)]
        if hours[0] >= 0.01:
            told = " | ".join(f"{one:,.2f}" if one < 10 else f"{one:,.0f}" for one in hours)
            lines.append(f"| {row[0]} | {row[-1] or '-'} | {taken:.2f} | {told} |")
    lines.append(
        "| **all of these** | | | "
        + " | ".join(f"{one:,.0f}" if one >= 10 else f"{one:,.1f}" for one in sums)
        + " |"
    )
    sizes = ["| TB | " + " | ".join(f"{items:,}" for items in ITEMS) + " |", "|---|" + "---:|" * len(ITEMS)]
    for row in summary:
        name = row[0].removesuffix(", GB")
        if name in BYTES and (size := number(row[len(measured)])) is not None:
            sizes.append(
                f"| {name} | " + " | ".join(f"{size / 1000 * i / largest:,.3g}" for i in ITEMS) + " |"
            )
    not_there = f" Not measured, and so not in the sums: {', '.join(missing)}." if missing else ""
    text = (
        f"## Arithmetic to a billion items\n\nWritten by `python benchmarks/scaling.py --write` from the builds of {measured[-2]:,} and {largest:,} "
        "items in [performance.md](performance.md); nothing beyond those was run. CPU hours of one core of the machine measured; "
        f"a stage grows on by the power measured, at least 1.{not_there} The power of a step that is still "
        "warming up at 10,000 items is too high or too low; a large one says where work "
        f"has to be done before a billion items are tried.\n\n{chr(10).join(lines)}\n\nDivide by the cores for hours, and multiply by "
        "the price of a core hour for the cost. Per-item stages divide among machines; the searches, the split and the "
        f"archive run on one.\n\n{chr(10).join(sizes)}"
    )
    if "--write" in sys.argv:
        write_part(DOCS / "scaling.md", "arithmetic", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
