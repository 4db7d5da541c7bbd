"""The page on extending shows files of the repository as they stand."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = re.compile(r"^`(tests/extending/[^`\n]+)`:\n\n```(?:python|toml)\n(.*?)\n```$", re.M | re.S)


def test_every_example_is_the_file_that_it_names() -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = SHOWN.findall(page)
    assert len(shown) == page.count("\n```") // 2 > 8
    for name, text in shown:
        assert text == (ROOT / name).read_text(encoding="utf-8").rstrip("\n"), f"{name} is another on the page"
