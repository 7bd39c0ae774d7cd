"""The page of a judge card: everything in it, nothing loaded, names escaped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from judged_world import ChattyJudge, RuleJudge, always_first, knows, obeys, people, world
from palate.feedback.calibration import Extent, JudgeCard, measure
from palate.feedback.judges.scores import ScoreJudge
from palate.report.pages.judge_card import corrected_text, judge_card_page
from palate.stats import Corrected, wilson


def card(rule: object = knows, name: str = "openai:gpt-x") -> JudgeCard:
    rows = [replace(row, columns={"models": ["gpt-x", "<b>other</b>"]}) for row in world(30)]
    variants = {"criteria": knows, "concise": knows, "score": always_first}
    judge = ChattyJudge(rule, variants, again=knows)  # type: ignore[arg-type]
    judge.name = name
    return measure(judge, rows, people(rows), extent=Extent(canaries=4, repeats=5), inputs={"c.jsonl": "f" * 64})


def test_the_page_shows_the_card() -> None:
    page = judge_card_page(card())
    for text in (
        "This judge may not decide alone",
        "fewer than 100 questions have a majority of people and a verdict: 30",
        "judge with the majority",
        "30 questions with a majority of people; of these 0 without a readable verdict",
        "answer shown first wins",
        "exact test p = ",
        "prefers answers of its own model",
        "an answer to another prompt that tells the judge to prefer it",
        "Largest minus smallest agreement",
        "Rogan–Gladen",
        "&lt;b&gt;other&lt;/b&gt; − gpt-x",
        "90 votes of 3 people on 30 questions",
        "Krippendorff&#39;s α, ordinal",
        "8 requests in flight",
        "f" * 64,
    ):
        assert text in page, text
    assert "<b>" not in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(("rule", "tone"), [(obeys, "wrong"), (always_first, "unclear")])
def test_the_verdict_has_its_colour(rule: object, tone: str) -> None:
    assert f'<p class="verdict {tone}">' in judge_card_page(card(rule))


def test_a_hostile_name_is_text() -> None:
    page = judge_card_page(card(name='openai:<img src=x onerror="alert(1)">'))
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_unknown_figures_have_their_reason() -> None:
    rows = world(12)
    found = measure(
        ScoreJudge("length:longer", lambda prompts, completions: [float(len(text)) for text in completions]),
        rows,
        people(rows, names="x"),
        extent=Extent(canaries=0, repeats=0),
    )
    page = judge_card_page(found)
    assert "not known: no question was asked again" in page
    assert "not known: Cohen&#39;s kappa needs two people, here 1" in page
    assert "No question compares the answers of two named models" in page
    unreadable = measure(RuleJudge(lambda a, b: "unparsed"), rows, people(rows), extent=Extent(canaries=1))
    assert "do not use its votes" in judge_card_page(unreadable)


def test_a_refused_figure_stands_beside_the_raw_one() -> None:
    assert (
        corrected_text(Corrected(wilson(70, 100), None, "J is 0.10"))
        == "refused: J is 0.10; raw 70.0 % (60.4 to 78.1 %)"
    )
    assert corrected_text(Corrected(wilson(70, 100), wilson(60, 100))) == "60.0 % (50.2 to 69.1 %)"
