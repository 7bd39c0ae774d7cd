"""What holds for every page: no table is cut on a phone, nothing is loaded, links lead to files beside the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import palate.report
from judged_world import RuleJudge, knows, people, world
from palate.artifacts import write_json, write_text
from palate.feedback.calibration import Extent, measure
from palate.report import compare_runs
from palate.report.pages.frontier import write_frontier
from palate.report.pages.judge_card import judge_card_page
from palate.report.pages.pipeline import write_pipeline_report
from palate.report.pages.run import write_run_report
from palate.report.pages.sweep import write_sweep_report
from stage_runs import frontier, offline_rows, online_rows, pipeline, write_run

MakeRun = Callable[..., Path]


class Page(HTMLParser):
    """Counts tables and charts that are in nothing that scrolls sideways."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables = self.loose = 0
        self.links: list[str] = []
        self._open: list[bool] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("div", "figure"):
            self._open.append(tag == "figure" or "scroll" in str(given.get("class")))
        if tag == "a":
            self.links.append(str(given["href"]))
        if tag in ("table", "svg"):
            self.tables += 1
            self.loose += not any(self._open)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("div", "figure"):
            self._open.pop()


def run_page(tmp_path: Path, make_run: MakeRun) -> Path:
    return write_run_report(make_run(tmp_path / "run"))


def online_page(tmp_path: Path, make_run: MakeRun) -> Path:
    return write_run_report(write_run(tmp_path / "grpo", "grpo", online_rows()))


def compare_page(tmp_path: Path, make_run: MakeRun) -> Path:
    return compare_runs([make_run(tmp_path / "a"), make_run(tmp_path / "b")], tmp_path / "compare.html")


def sweep_page(tmp_path: Path, make_run: MakeRun) -> Path:
    points = []
    for seed in (1, 2):
        write_run_report(make_run(tmp_path / f"seed-{seed}", seed=seed))
        metrics = {"eval_loss": 0.5 + seed / 10}
        points.append({"name": f"seed-{seed}", "values": {"seed": seed}, "status": "completed", "metrics": metrics})
    write_json(tmp_path / "sweep.json", {"schema": 1, "status": "completed", "keys": ["seed"], "points": points})
    return write_sweep_report(tmp_path)


def pipeline_page(tmp_path: Path, make_run: MakeRun) -> Path:
    return write_pipeline_report(pipeline(tmp_path / "pipeline"))


def frontier_page(tmp_path: Path, make_run: MakeRun) -> Path:
    write_frontier(tmp_path / "frontier", frontier(), [])
    return tmp_path / "frontier" / "report.html"


def card_page(tmp_path: Path, make_run: MakeRun) -> Path:
    rows = [replace(row, columns={"models": ["a", "b"]}) for row in world(12)]
    card = measure(RuleJudge(knows), rows, people(rows), extent=Extent(canaries=2, repeats=2))
    return write_text(tmp_path / "card.html", judge_card_page(card))


@pytest.mark.parametrize(
    "write",
    [run_page, online_page, compare_page, sweep_page, pipeline_page, frontier_page, card_page],
    ids=lambda one: one.__name__,
)
def test_no_table_and_no_chart_is_cut_on_a_phone(
    make_run: MakeRun, tmp_path: Path, write: Callable[[Path, MakeRun], Path]
) -> None:
    path = write(tmp_path, make_run)
    page = Page(path)
    assert page.tables > 1
    assert page.loose == 0
    for link in page.links:
        assert link.startswith("#") or (path.parent / link).is_file(), link


def test_the_style_lets_them_scroll() -> None:
    style = (Path(palate.report.__file__).parent / "templates" / "style.css").read_text()
    assert ".scroll { overflow-x: auto; }" in style
    assert "figure { overflow-x: auto; }" in style


def test_offline_stages_too(tmp_path: Path) -> None:
    for stage in ("sft", "rm", "kto"):
        assert Page(write_run_report(write_run(tmp_path / stage, stage, offline_rows(stage)))).loose == 0
