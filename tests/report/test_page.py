"""The page: complete, self-contained, small, and nothing a user wrote becomes markup."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fakes import DIGITS, LINE, MOONS, FakeRun, experiment
from hypothesis import given
from hypothesis import strategies as st

from selfloop import Experiment, Run, run
from selfloop.analysis.verdict import judged
from selfloop.report import RULE, read, write_report
from selfloop.report.page import LIMIT, embed, html
from selfloop.report.tables import arms_csv, summary_csv

NASTY = """<script>alert(1)</script></script><!--<img src=x onerror=alert(2)>"'&{{ 7*7 }}${1}\u2028"""
VOID = {"meta", "link", "input", "img", "br"}


def page_of(run: Any, figures: list[str]) -> str:
    """Return the page of a run, judged by default."""
    return html(run, curves := read(run), judged(curves, run.metrics), figures)


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.stack: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.mark.slow
def test_the_report_is_complete(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(MOONS, seeds=2, generations=4), last=4)
    path = write_report(run)
    assert path == tmp_path / "report" / "index.html"
    names = {p.name for p in path.parent.iterdir()}
    figures = {f"{name}.{kind}" for name in ("metrics", "samples", "parameters") for kind in ("png", "pdf")}
    tables = {f"{name}{end}.csv" for name in run.experiment.metrics for end in ("", "-arms")}
    assert names == {"index.html"} | figures | tables
    assert (path.parent / "w2_held_out-arms.csv").read_text() == arms_csv(read(run), "w2_held_out")

    page = Page(path.read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.text).split())
    for part in RULE.strip().split("\n\n"):
        assert " ".join(part.split()) in text
    for words in ("collapsed", "Fully Synthetic (λ = ∞)", "host.cores", "Wasserstein", run.experiment.yaml()[:9]):
        assert words in text
    assert all("alt" in image for image in page.all("img"))
    assert all("scope" in cell for cell in page.all("th"))


@pytest.mark.slow
def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(DIGITS, seeds=1, generations=2), last=2)
    page = Page(page_of(run, ["metrics"]))
    assert all(image.get("src", "data:").startswith("data:") for image in page.all("img"))
    assert all("src" not in script for script in page.all("script"))
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    links = [a["href"] for a in page.all("a")]
    assert [h for h in links if not h.startswith("data:")] == ["metrics.png", "metrics.pdf"]
    table = next(h for h in links if h.startswith("data:text/csv"))
    assert base64.b64decode(table.split(",")[1]).decode() == summary_csv(read(run), "w1_held_out")


@pytest.mark.slow
def test_nothing_a_user_wrote_becomes_markup(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    column = NASTY.replace('"', '""')
    rows = "\n".join(f"{i}.5,{i * i}" for i in range(40))
    file.write_text(f'"{column}",b\n{rows}\n', encoding="utf-8")
    data = {"name": "table", "path": str(file), "held_out": 10}
    run = FakeRun(
        tmp_path,
        experiment(data, seeds=1, generations=1, description=NASTY),
        last=1,
        environment={NASTY: NASTY, "deep": {NASTY: [NASTY]}},
    )
    page = Page(write_report(run).read_text(encoding="utf-8"))
    plain = FakeRun(tmp_path, experiment(MOONS, seeds=1, generations=1), last=1)
    expected = Page(page_of(plain, ["metrics", "samples", "parameters"]))
    assert len(page.all("script")) == len(expected.all("script"))
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "".join(page.text).count(NASTY) >= 4


@given(st.recursive(st.text() | st.none() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_embedded_json_is_read_back_and_cannot_end_its_element(content: object) -> None:
    text = str(embed(content))
    assert json.loads(text) == content
    assert "<" not in text


@pytest.mark.slow
def test_the_largest_recipe_stays_below_the_limit(tmp_path: Path) -> None:
    names = ["w1_held_out", "w2_held_out", "w1_train", "w2_train", "mean_error", "covariance_error", "variance_ratio"]
    run = FakeRun(tmp_path, experiment(MOONS, seeds=50, generations=50, metrics=names), last=50)
    page = page_of(run, [])
    assert len(page.encode()) < LIMIT
    frames = json.loads(re.search(r'id="pictures-data">(.*?)</script>', page)[1])["frames"]
    assert [frames[0]["t"], frames[-1]["t"], len(frames)] == [0, 50, 26]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "words"),
    [(-1, "0 retrainings"), (0, "Unfinished: 0 of 4"), (2, "Unfinished: 2 of 4"), (4, "4 retrainings")],
)
def test_unfinished_runs_have_a_report(last: int, words: str, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(MOONS, seeds=1, generations=4, metrics=["w1_held_out"]), last=last)
    assert words in " ".join(Page(write_report(run).read_text(encoding="utf-8")).text)


@pytest.mark.slow
def test_diverged_arms_have_a_verdict_and_no_picture(tmp_path: Path) -> None:
    dead = dict.fromkeys(range(12), 2) | {0: 0}
    run = FakeRun(tmp_path, experiment(LINE, generations=4), last=4, diverge=dead)
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert "diverged at generation 2" in " ".join(page.text)
    frames = json.loads(re.search(r'id="pictures-data">(.*?)</script>', text)[1])["frames"]
    assert [frame["pictures"][1] is None for frame in frames] == [False, False, True, True, True]
    assert frames[0]["pictures"][0] is None
    assert frames[4]["notes"][1] == "diverged"


def test_a_metric_without_a_finite_value_is_said_to_have_none(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(LINE, seeds=1, grid={}, generations=1), last=1, diverge={0: 0})
    assert "No finite value was recorded." in " ".join(Page(write_report(run).read_text("utf-8")).text)


def test_a_metric_of_another_version_of_selfloop_is_shown(tmp_path: Path) -> None:
    settings = experiment(LINE, seeds=1, generations=1, mixing={"lam": math.inf})
    run = FakeRun(tmp_path, settings, last=1, unknown=tuple(settings.metrics))
    assert "Not known to this version" in page_of(run, [])


@pytest.mark.slow
def test_a_very_large_run_stays_below_the_limit_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    names = ["w1_held_out", "w2_held_out", "mean_error", "covariance_error", "variance_ratio", "parameter_distance"]
    run = FakeRun(tmp_path, experiment(MOONS, seeds=150, generations=60, metrics=names), last=60)
    page = page_of(run, [])
    assert len(page.encode()) < LIMIT
    assert "individual seeds (102 of 150)" in page


@pytest.mark.slow
def test_sentences_of_advice_stay_until_the_run_is_another_one(tmp_path: Path) -> None:
    settings = {"name": "a", "data": {"name": "gaussian", "n": 20}, "generator": "gaussian", "metrics": ["mean_error"]}

    def page(generations: int, **said: Any) -> str:
        list(run(Experiment(**settings, generations=generations), tmp_path / "run"))
        return write_report(Run.open(tmp_path / "run"), **said).read_text()

    assert "Take a quarter." not in page(2)
    assert "Take a quarter." in page(2, said=["Take a quarter."])
    assert "Take a quarter." in page(2)
    assert "Take a quarter." not in page(3)
    assert "Take a quarter." not in page(3, said=[])
