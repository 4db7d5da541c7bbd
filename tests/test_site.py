"""The documentation as its readers have it: from a folder of files, offline, on a phone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, complaints, needs_browser
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytest.importorskip("material", reason="the documentation is built by the extra `check`")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link(?![^>]*rel="canonical")[^>]*href="(?:https?:)?//"""
)
DRAWN = (
    "return document.readyState === 'complete' && (!window.MathJax || await MathJax.startup.promise.then(() => true))"
)
WIDTH = "return document.documentElement.scrollWidth"  # innerWidth grows with what does not fit
WRONG_TEX = "[data-mml-node='merror'], mjx-container [fill='red']"


def changed(*folders: str) -> float:
    """Return when the newest file in these folders of the repository, or these files, was changed."""
    files = (file for name in folders for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file())
    return max(file.stat().st_mtime for file in files if file.suffix != ".pyc")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation: that of `make check` if nothing has changed since, or else one that is built now."""
    built = ROOT / "site"
    index = built / "sitemap.xml"
    if not index.exists() or index.stat().st_mtime < changed("docs", "src", "mkdocs.yml"):
        built = tmp_path_factory.mktemp("site")
        subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(built)], cwd=ROOT, check=True
        )
    return built


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as driver:
        yield driver


def open_page(driver: webdriver.Chrome, page: Path) -> None:
    driver.get(page.as_uri())
    assert driver.execute_script(f"return (async () => {{ {DRAWN} }})()")


def test_pages_fetch_nothing(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert [page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))] == []
    assert not re.search(r"url\(['\"]?(?:https?:)?//", (site / "assets" / "site.css").read_text(encoding="utf-8"))


@needs_browser
def test_on_a_phone_no_page_scrolls_sideways_and_every_formula_is_drawn(browser: webdriver.Chrome, site: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    found = {}
    for page in sorted(set(site.rglob("*.html")) - {site / "404.html"}):
        open_page(browser, page)
        width, wrong = browser.execute_script(WIDTH), browser.find_elements(By.CSS_SELECTOR, WRONG_TEX)
        said = complaints(browser)
        if width > PHONE["width"] or wrong or said:
            found[str(page.relative_to(site))] = (width, [each.text for each in wrong], said)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert found == {}


@needs_browser
def test_equations_are_numbered(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, site / "theory.html")
    shown = browser.find_elements(By.CSS_SELECTOR, "mjx-container[display]")
    numbered = browser.find_elements(By.CSS_SELECTOR, "mjx-container[display] [data-mml-node='mlabeledtr']")
    assert len(shown) == len(numbered) > 5


@needs_browser
def test_search_works_from_files(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, site / "index.html")
    browser.execute_script("document.querySelector('[data-md-toggle=search]').click()")
    browser.find_element(By.CSS_SELECTOR, "[data-md-component=search-query]").send_keys("Wishart")
    links = ".md-search-result__link"
    WebDriverWait(browser, 20).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, links))
    target = browser.find_element(By.CSS_SELECTOR, links).get_attribute("href")
    assert target is not None
    assert "theory.html" in target
