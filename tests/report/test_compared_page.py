"""The page of several runs: whole, offline, and nothing a user wrote becomes markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from accessibility import faults
from browser import chromium, complaints, needs_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from test_page import NASTY, Page
from test_report_columns import mixed

from selfloop import Experiment, compare, run
from selfloop.report.page import LIMIT, compared
from selfloop.store import Run

NAMES = (NASTY, f"{NASTY} again")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    data = mixed(folder)
    opened = {}
    for name, generator in zip(NAMES, ("gaussian", "copula"), strict=True):
        settings = {
            "name": "nasty",
            "description": NASTY,
            "data": data,
            "generator": {"name": generator},
            "generations": 4,
            "seeds": 2,
            "grid": {"mixing.lam": [0, 1]},
            "metrics": ["shape_error_held_out", "association_error_held_out"],
        }
        list(run(Experiment.build(settings), folder / generator))
        opened[name] = Run.open(folder / generator)
    return compared(compare(opened))


@pytest.mark.slow
def test_it_is_whole_and_needs_nothing_else(page: str) -> None:
    found = Page(page)
    text = " ".join(" ".join(found.text).split())
    for words in ("What differs", "copula", "Side by side", "as bad as in", "cannot tell yet", "Columns by generation"):
        assert words in text
    assert all("src" not in script for script in found.all("script"))
    assert all((link.get("href") or "").startswith("data:") for link in found.all("a"))
    assert len(page.encode()) < LIMIT


def test_nothing_a_user_wrote_becomes_markup(page: str) -> None:
    found = Page(page)
    assert len(found.all("script")) == 7  # three of data, the library, and three of the page's own
    assert not any(key.startswith("on") for _, attributes in found.tags for key in attributes)
    assert not found.all("b")
    assert "".join(found.text).count(NASTY) > 10
    assert {image.get("src", "data:")[:5] for image in found.all("img")} <= {"data:"}


@pytest.mark.slow
@needs_browser
def test_it_is_drawn_for_everybody_and_saved(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with chromium(tmp_path / "profile") as browser:
        browser.get((tmp_path / "page.html").as_uri())
        ready = "return document.documentElement.dataset.ready === 'true'"
        WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(ready))
        assert complaints(browser) == []
        assert faults(browser) == []
        assert len(browser.find_elements(By.CSS_SELECTOR, ".chart")) == 2
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        link = "HTMLAnchorElement.prototype.click = function () { document.title = this.download; };"
        browser.execute_script(link)
        browser.find_element(By.CSS_SELECTOR, "[data-file=shape_error_held_out] [data-save=png]").click()
        WebDriverWait(browser, 20).until(lambda driver: driver.title.endswith(".png"))
        assert browser.title.startswith("script-alert-1-script")
        assert complaints(browser) == []
