"""The page in a browser: no errors, the slider turns pictures, the toggles hide lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, complaints, needs_browser
from fakes import MOONS, FakeRun, experiment
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_page import NASTY
from test_report_columns import mixed

from selfloop.report import write_report

pytestmark = needs_browser

VISIBLE = """
const [setting, role] = arguments;
return Bokeh.documents.flatMap((doc) => doc.roots()).flatMap((plot) => plot.renderers)
  .filter((renderer) => renderer.tags[0] === setting && renderer.tags[1] === role)
  .map((renderer) => renderer.visible);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as driver:
        yield driver


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("run")
    description = "<script>document.title = 'taken over'</script>"
    run = FakeRun(path, experiment(MOONS, seeds=2, generations=5, description=description), last=5, diverge={6: 4})
    return write_report(run).as_uri()


@pytest.fixture
def page(browser: webdriver.Chrome, report: str) -> webdriver.Chrome:
    browser.get(report)
    ready = "return document.documentElement.dataset.ready === 'true'"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(ready))
    return browser


def test_it_loads_without_a_complaint_and_draws_every_chart(page: webdriver.Chrome) -> None:
    assert complaints(page) == []
    assert page.title == "fake · selfloop report"
    charts = page.find_elements(By.CSS_SELECTOR, ".chart")
    assert len(charts) == 4
    assert all(chart.size["height"] >= 300 for chart in charts)
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_slider_turns_the_pictures(page: webdriver.Chrome) -> None:
    def shown() -> tuple[str, list[Any], list[Any]]:
        images = page.find_elements(By.CSS_SELECTOR, "img.sample")
        label = page.find_element(By.ID, "generation-label").text
        return label, [i.get_attribute("src") for i in images], [i.get_attribute("alt") for i in images]

    label, before, _ = shown()
    assert label == "0: no retraining"
    assert page.execute_script("return [...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    page.find_element(By.ID, "generation").send_keys(Keys.END)
    label, after, alts = shown()
    assert label == "5: 5 retrainings"
    assert before[1] != after[1]
    assert not after[3]
    assert alts[3] == "Samples of Fully Synthetic (λ = ∞), 5 retrainings: diverged"


def test_a_toggle_hides_its_setting_in_every_chart(page: webdriver.Chrome) -> None:
    def visible(role: str) -> set[bool]:
        found = page.execute_script(VISIBLE, 1, role)
        assert len(found) == 4 * (2 if role == "mean" else 1)
        return set(found)

    toggle = page.find_elements(By.CSS_SELECTOR, ".setting-toggle")[1]
    card = page.find_element(By.CSS_SELECTOR, "[data-setting='1']")
    assert (visible("mean"), visible("band"), visible("seeds")) == ({True}, {True}, {False})
    toggle.click()
    assert (visible("mean"), visible("band")) == ({False}, {False})
    assert not card.is_displayed()
    assert set(page.execute_script(VISIBLE, 0, "mean")) == {True}
    toggle.click()
    assert visible("mean") == {True}
    page.find_element(By.ID, "seeds-toggle").click()
    assert visible("seeds") == {True}


def test_colours_follow_the_scheme(page: webdriver.Chrome) -> None:
    colours = """
    return Bokeh.documents[0].roots()[0].renderers.filter((r) => r.tags[1] === "mean").map((r) => r.glyph.line_color);
    """
    light = page.execute_script(colours)
    _prefer(page, "dark")
    WebDriverWait(page, 20).until(lambda driver: driver.execute_script(colours) != light)
    dark = page.execute_script(colours)
    assert len(light) == len(dark) == 8
    assert not any(a == b for a, b in zip(light, dark, strict=True))
    _prefer(page, "light")
    WebDriverWait(page, 20).until(lambda driver: driver.execute_script(colours) == light)


def _prefer(driver: webdriver.Chrome, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def test_columns_follow_the_slider_and_the_setting(browser: webdriver.Chrome, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(mixed(tmp_path), seeds=1, generations=3), last=3, diverge={3: 2})
    browser.get(write_report(run).as_uri())
    ready = "return document.documentElement.dataset.ready === 'true'"
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(ready))
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []

    def texts(of: str) -> list[str]:
        return [each.text for each in browser.find_elements(By.CSS_SELECTOR, f"#columns {of}")]

    names = texts("#columns-shapes figcaption span:first-child")
    assert names == ["amount", NASTY.strip().replace("\u2028", " "), "day", "count", "big"]
    assert texts("#columns-label") == ["3: 3 retrainings"]
    assert texts("#columns-pairs figcaption span:first-child") == ["Real", "Generated", "Generated − real"]
    assert "=cmd()" in texts(".level .name")
    before = texts(".level .share")
    assert all(share.endswith(" %") for share in before)
    Select(browser.find_element(By.ID, "columns-setting")).select_by_index(3)
    assert texts("#columns-label") == ["3: 3 retrainings, diverged"]
    assert {*texts(".level .share")} == {"–"}
    browser.find_element(By.ID, "columns-generation").send_keys(Keys.HOME)
    assert texts("#columns-label") == ["0: no retraining"]
    assert all(share.endswith(" %") for share in texts(".level .share"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.title == "fake · selfloop report"
