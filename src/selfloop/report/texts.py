"""Rows of text as a page shows them: a few, cut where they are long, with every character that acts made visible."""

from __future__ import annotations

import unicodedata

from torch import Tensor

from selfloop.core.events import Text

ROWS = 8
"""Rows of a generation that are shown."""

CHARACTERS = 240
"""Characters of a row that are shown at most, one that is made visible counting as many as stand for it."""

_PICTURES = {"\n": "↵", "\t": "⇥"}
_ACTING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of Unicode whose characters move or hide others, or have no look: controls, marks of direction, …"""

_MARKS = 3  # that a letter may carry: more of them would be drawn over the rows above and below


def shown(text: str, most: int = CHARACTERS) -> str:
    """Return a text as one line that says what is in it, with an ellipsis where it is cut.

    A new line is shown as ↵ and a tab as ⇥; other characters that act (controls, marks of direction, separators, what
    Unicode does not name) as ⟨U+202E⟩, as is what a letter carries beyond three marks.

    Args:
        text: of any characters.
        most: characters that are returned at most, besides the ellipsis.
    """
    parts, used, marks = list[str](), 0, 0
    for c in text:
        kind = unicodedata.category(c)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        part = _PICTURES.get(c) or (f"⟨U+{ord(c):04X}⟩" if kind in _ACTING or marks > _MARKS else c)
        used += len(part)
        if used > most:
            return "".join(parts) + "…"
        parts.append(part)
    return "".join(parts)


def some(events: Text, x: Tensor) -> list[str]:
    """Return the first of (N, L) rows as they are shown."""
    return [shown(text) for text in events.texts(x[:ROWS])]
