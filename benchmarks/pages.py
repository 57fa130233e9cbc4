"""Pages that several benchmarks write: each owns the part between its markers."""

import re
from pathlib import Path


def write_part(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the markers ``name:begin`` and ``name:end`` of a page; a part that is not there yet comes last."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    made = f"{begin}\n{text.strip()}\n{end}"
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    if begin in before:
        after = re.sub(f"{begin}.*?{end}", lambda _: made, before, flags=re.DOTALL)
    else:
        after = f"{before.rstrip()}\n\n{made}\n".lstrip()
    page.write_text(after, encoding="utf-8")
