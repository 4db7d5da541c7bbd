"""What a check finds: rows, kept as lines of JSON as they come, and shown as one Markdown table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_VERDICTS = {True: "pass", False: "**fail**", None: ""}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was looked at.

    Attributes:
        stage: of the check.
        what: was looked at.
        value: that was measured; None where there is no number.
        unit: of the value.
        ratio: times the speed of the same stage's reference.
        share: of the measured rate of matrix products in the same number type.
        good: whether it is as it should be; None where there is nothing to pass.
        note: what else is worth knowing, or why there is no value.
    """

    stage: str
    what: str
    value: float | None = None
    unit: str = ""
    ratio: float | None = None
    share: float | None = None
    good: bool | None = None
    note: str = ""


def add(file: Path, row: Row) -> None:
    """Append a row to the lines of JSON."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def read(file: Path) -> list[Row]:
    """Return the rows that are there, but for a line that is only half written."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    return [Row(**json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        "| stage | what | result | × reference | of matmul peak | | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value = "" if row.value is None else f"{row.value:.4g} {row.unit}".strip()
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        share = "" if row.share is None else f"{row.share:.0%}"
        cells = (row.stage, row.what, value, ratio, share, _VERDICTS[row.good], row.note)
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
