"""What must not be in what selfloop writes: markup of others, formulas, what steers a terminal."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

from selfloop.core.columns import FORMULAS, is_number

MARKUP = "'\"><img src=x onerror=canary()></script></style></title></textarea><script>canary()</script><a href=javascript:canary()>"
TERMINAL = "\x1b[2J\x1b]0;x\x07\u202e\u2066\x9b1m"
FORMULA = "=HYPERLINK('http://x','y')"


class _Page(HTMLParser):
    """Finds the elements and attributes of a page that only an attacker puts there."""

    def __init__(self) -> None:
        super().__init__()
        self.found = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        held = dict(attributes)
        if held.get("src") == "x" or "onerror" in held or str(held.get("href")).startswith("javascript:"):
            self.found = f"<{tag} {held}>"

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script" and data.lstrip().startswith("canary()"):
            self.found = "<script>canary()"


def pages(folder: Path) -> str:
    """Return what is wrong with pages and tables below a folder, "" where nothing is."""
    for path in sorted(folder.rglob("*.html")):
        if path.is_file() and path.stat().st_size:
            page = _Page()
            page.feed(path.read_text(encoding="utf-8"))
            if page.found:
                return f"{path.relative_to(folder)} has {page.found[:80]}"
    for path in sorted(folder.rglob("*.csv")):
        if path.is_file() and path.name != "x.csv":
            with path.open(encoding="utf-8", newline="") as text:
                for row in csv.reader(text):
                    for cell in row:
                        if cell.startswith(FORMULAS) and len(cell) > 1 and not is_number(cell):
                            return f"{path.relative_to(folder)} has the formula {cell[:40]!r}"
    return ""
