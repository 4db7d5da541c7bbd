"""The page in a browser: no errors, sliders turn by keys, toggles hide lines, charts are saved, paper takes it."""

from __future__ import annotations

import base64
import importlib.util
import struct
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import faults
from browser import chromium, complaints, needs_browser
from fakes import MOONS, FakeRun, experiment
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_page import NASTY
from test_report_columns import mixed

from selfloop.analysis.alarms import Alarmed, Alarms
from selfloop.analysis.verdict import judged
from selfloop.report import read, write_report
from selfloop.report.page import write

pytestmark = [pytest.mark.slow, needs_browser]

READY = "return document.documentElement.dataset.ready === 'true'"
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
    curves = read(run)  # type: ignore[arg-type]
    of = {"setting": "Fully Synthetic (λ = ∞)", "calibration": "nothing"}
    raised = (
        Alarmed(arm=6, seed=0, generation=4, statistic="diverged", **of),
        Alarmed(arm=7, seed=1, generation=3, statistic="variance_ratio", **of),
    )
    alarms = Alarms(statistics=("variance_ratio",), level=0.05, arms=raised)
    return write(run, curves, judged(curves, run.metrics), alarms).as_uri()  # type: ignore[arg-type]


def opened(browser: webdriver.Chrome, address: str) -> webdriver.Chrome:
    browser.get(address)
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(READY))
    return browser


@pytest.fixture
def page(browser: webdriver.Chrome, report: str) -> webdriver.Chrome:
    return opened(browser, report)


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
    opened(browser, write_report(run).as_uri())
    assert complaints(browser) == []
    assert faults(browser) == []

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
    slider = browser.find_element(By.ID, "columns-generation")
    slider.send_keys(Keys.HOME)
    assert texts("#columns-label") == ["0: no retraining"]
    slider.send_keys(Keys.ARROW_RIGHT)
    assert texts("#columns-label") == ["1: 1 retraining"]
    slider.send_keys(Keys.ARROW_LEFT)
    assert all(share.endswith(" %") for share in texts(".level .share"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.title == "fake · selfloop report"
    (tmp_path / "saved").mkdir()
    for part in ("#columns-shapes", "#columns-pairs", "#columns-levels"):
        drawing = saved(browser, f"{part} figure:last-child", "svg", tmp_path / "saved")
        assert list(ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text"))


def saved(driver: webdriver.Chrome, card: str, kind: str, folder: Path) -> bytes:
    """Press the button of a card, and return what is downloaded."""
    there = {*folder.iterdir()}
    place = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", place)
    button = driver.find_element(By.CSS_SELECTOR, f"{card} button[data-save={kind}]")
    driver.execute_script("arguments[0].click()", button)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        new = [path for path in folder.iterdir() if path not in there and path.suffix == f".{kind}"]
        if new and new[0].stat().st_size:
            return new[0].read_bytes()
        time.sleep(0.02)
    raise AssertionError(f"nothing was downloaded: {complaints(driver)}")


def test_any_chart_is_saved_as_a_picture(page: webdriver.Chrome, tmp_path: Path) -> None:
    cards = page.find_elements(By.CSS_SELECTOR, "figure.card")
    assert all(len(card.find_elements(By.CSS_SELECTOR, "button[data-save]")) == 2 for card in cards)
    chart = "figure[data-file=w2_held_out]"
    width = page.find_element(By.CSS_SELECTOR, chart).size["width"]
    png = saved(page, chart, "png", tmp_path)
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">I", png[16:20])[0] == pytest.approx(2 * width, abs=2)
    svg = ET.fromstring(saved(page, chart, "svg", tmp_path))
    words = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Number of retrainings", "Synthetic", "held-out", "forecast"} <= words
    assert "individual" not in words  # nor are the seeds drawn
    assert {path.name for path in tmp_path.iterdir()} == {"fake-w2_held_out.png", "fake-w2_held_out.svg"}
    page.find_element(By.ID, "generation").send_keys(Keys.END)
    assert b"data:image/png" in saved(page, "[data-setting='1']", "svg", tmp_path)
    assert (tmp_path / "fake-λ-0.5-generation-5.svg").exists()
    assert complaints(page) == []


def test_forecast_and_alarms_have_a_switch(page: webdriver.Chrome) -> None:
    def visible(role: str) -> list[bool]:
        return page.execute_script(VISIBLE, 3, role)

    assert visible("forecast") == [True, True]  # the band and the median, on the chart of the judged distance
    assert visible("alarm") == [True, True]  # one there, of the arm that diverged, one on the chart of the variance
    told = """
    return Bokeh.documents.flatMap((doc) => doc.roots()).flatMap((plot) => plot.renderers)
      .filter((renderer) => renderer.tags[1] === "alarm")
      .map((renderer) => [...renderer.data_source.data.t, ...renderer.data_source.data.text]);
    """
    assert page.execute_script(told) == [
        [4, "1 of 2, of seeds 0, by diverged"],
        [3, "1 of 2, of seeds 1, by variance_ratio"],
    ]
    for role in ("forecast", "alarm"):
        toggle = page.find_element(By.ID, f"{role}-toggle")
        toggle.send_keys(Keys.SPACE)
        assert set(visible(role)) == {False}
        assert set(visible("mean")) == {True}
        toggle.send_keys(Keys.SPACE)
        assert set(visible(role)) == {True}


def test_sliders_move_by_keys_and_show_where_one_is(page: webdriver.Chrome) -> None:
    slider = page.find_element(By.ID, "generation")
    at = []
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.END, Keys.HOME):
        slider.send_keys(key)
        at.append(page.find_element(By.ID, "generation-label").text)
    assert [text.partition(":")[0] for text in at] == ["1", "2", "1", "5", "0"]
    assert slider.get_attribute("aria-valuetext") == "no retraining"
    outline = "const css = getComputedStyle(document.activeElement); return [css.outlineStyle, css.outlineWidth]"
    assert page.execute_script(outline) == ["solid", "3px"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_for_everybody(page: webdriver.Chrome, scheme: str) -> None:
    _prefer(page, scheme)
    for details in page.find_elements(By.TAG_NAME, "details"):
        page.execute_script("arguments[0].open = true", details)
    assert faults(page) == []
    _prefer(page, "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: webdriver.Chrome, scheme: str) -> None:
    _prefer(page, scheme)
    page.execute_script(_axe().read_text("utf-8"))
    found = page.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    _prefer(page, "light")
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


def _axe() -> Path:
    """Return the script of axe-core, if some package has brought it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("needs axe-core: pip install --no-deps axe-playwright-python")
    return next(Path(spec.origin).parent.rglob("axe*.js"))


def test_paper_takes_the_page(page: webdriver.Chrome) -> None:
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    size = {"width": 700, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    _prefer(page, "dark")
    page.execute_script("window.dispatchEvent(new Event('beforeprint'))")  # comes before paper is laid out
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    shown = """
    return [...document.querySelectorAll(arguments[0])].filter((node) => node.checkVisibility())
      .map((node) => node.getBoundingClientRect().right);
    """
    assert page.execute_script(shown, "input, button, .links, .chart, details:not([open])") == []
    edges = page.execute_script(shown, ".print svg, .card, section")
    assert len(page.execute_script(shown, ".print svg")) == 4
    assert max(edges) <= 700
    assert page.execute_script("return document.documentElement.scrollWidth") <= 700
    look = "const css = getComputedStyle(document.querySelector(arguments[0])); return css[arguments[1]]"
    assert page.execute_script(look, "body", "backgroundColor") == "rgb(255, 255, 255)"
    for of in (".card", "tr", "[aria-labelledby=results-title]"):
        assert page.execute_script(look, of, "breakInside") == "avoid"
    drawn = page.execute_script("return document.querySelector('.print svg').outerHTML")
    assert "#d62728" in drawn
    assert "#e83a3a" not in drawn
    page.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert page.find_elements(By.CSS_SELECTOR, ".print") == []
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
