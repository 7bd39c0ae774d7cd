"""The page of a win rate."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import browser, needs_browser, overflow
from palate.evaluation.winrate.items import VerdictRow, WinRateItem
from palate.evaluation.winrate.leaks import Leaks
from palate.evaluation.winrate.measure import measure
from palate.evaluation.winrate.result import Result, SideFacts
from palate.feedback.candidates import Candidates
from palate.records import Answer, Message
from palate.report.pages.winrate import figure_rows, winrate_page


@pytest.fixture
def page() -> str:
    items = []
    for n in range(12):
        answers = (Answer("a" * (400 if n % 2 else 20), "stop"), Answer(f"<b>{n}</b> and more words", "stop"))
        row = Candidates(f"file-with-a-long-name.jsonl:{n}", (Message("user", f"why {n} & how?"),), answers)
        verdicts = (VerdictRow(n % 2, 1), VerdictRow(n % 2, -1))
        items.append(WinRateItem(row.id, "judged", "because", verdicts, row=row, category=f"category {n % 3}"))
    items.append(WinRateItem("lost", "missing", "the engine is gone"))
    sides = [SideFacts("runs/dpo", False, ["0123"], 2, 0), SideFacts("runs/sft", False, [], 0, 0)]
    leaks = [Leaks("runs/dpo", 640, {"lost": "same"}), Leaks("runs/sft", reason="its data is gone")]
    result = Result(*sides, "judge", "judge", None, items, measure(items), leaks, None, {"skipped": 2})
    facts = result.to_json()
    assert dict(figure_rows(facts))["items"] == "6 wins, 0 ties, 0 inconsistent, 6 losses, 0 unparsed, 1 missing"
    return winrate_page(facts)


def test_what_the_page_shows(page: str) -> None:
    assert "<script" not in page
    assert "&lt;b&gt;0&lt;/b&gt; and more words" in page
    assert "6 of 6 items that A lost" in page
    assert "the engine is gone" in page
    assert "skipped 2" in page
    assert "category 2" in page
    assert "1 of 13 prompts in 640 training prompts" in page
    assert "not checked: runs/sft: its data is gone" in page
    assert "2 answers truncated at the longest length" in page


@pytest.mark.parametrize(
    ("won", "of", "sentence", "tone"),
    [
        (5, 12, "no difference is shown: the interval contains 50 %", "unclear"),
        (7, 12, "no difference is shown: the interval contains 50 %", "unclear"),
        (1, 12, "below 50 %: A loses against B", "wrong"),
        (140, 200, "60 to 80 %: what a good DPO run reaches", "right"),
    ],
)
def test_a_rate_that_may_be_50_percent_is_no_win_and_no_loss(won: int, of: int, sentence: str, tone: str) -> None:
    items = []
    for n in range(of):
        answers = (Answer("one", "stop"), Answer("another", "stop"))
        row = Candidates(f"p:{n}", (Message("user", f"why {n}?"),), answers)
        score = float(n < won)
        items.append(WinRateItem(row.id, "judged", "", (VerdictRow(score, 1), VerdictRow(score, -1)), row=row))
    sides = [SideFacts("a", False, [], 0, 0), SideFacts("b", False, [], 0, 0)]
    leaks = [Leaks("a", reason="no data"), Leaks("b", reason="no data")]
    shown = winrate_page(Result(*sides, "judge", "judge", None, items, measure(items), leaks, None, {}).to_json())
    assert f"{sentence}</" in shown
    assert f'<p class="verdict {tone}">Win rate' in shown


@needs_browser
def test_a_phone_shows_it_without_scrolling_sideways(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with browser() as found:
        shown = found.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        shown.goto((tmp_path / "page.html").as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= 390
        wide = [one for one in overflow(shown) if not one.startswith(("TABLE", "T", "svg", "SVG", "path"))]
        assert [one for one in wide if one.startswith(("DIV.panel", "P", "H", "SECTION"))] == []
