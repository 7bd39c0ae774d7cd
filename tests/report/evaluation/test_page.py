"""The evaluation of a run: one document in three forms, and what it refuses."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser import browser, needs_browser, overflow, serious_findings
from evaluated import accuracy_facts, benchmark_facts, win_rate_facts, write_results
from palate.artifacts import write_json
from palate.errors import DataError
from palate.report.evaluation.page import write_evaluation
from payloads import PAYLOADS

MakeRun = Callable[..., Path]


@pytest.fixture
def written(make_run: MakeRun, tmp_path: Path) -> dict[str, Path]:
    run = make_run(tmp_path / "run")
    write_json(run / "accuracy.json", accuracy_facts())
    paths = write_evaluation(run, [write_results(tmp_path / "results")])
    return dict(zip(("html", "md", "json", "card"), paths, strict=True))


def rows(written: dict[str, Path], section: str, table: int = 0) -> list[dict[str, Any]]:
    found = json.loads(written["json"].read_text())["sections"][section]["tables"][table]["rows"]
    assert isinstance(found, list)
    return found


def test_the_main_figures(written: dict[str, Path]) -> None:
    by_name = {f"{row['measure']}, {row['detail']}": row for row in rows(written, "overview")}
    accuracy = by_name["Preference accuracy, held-out pairs: 20 of 20 prompts"]
    assert (accuracy["before"]["estimate"], accuracy["after"]["estimate"]) == (0.5, 0.75)
    assert accuracy["change"]["estimate"] == pytest.approx(0.25)
    assert accuracy["left out"] == "3 pairs"
    won = by_name["Win rate against base, judge rules.py:polite"]
    assert won["after"]["estimate"] == pytest.approx(14 / 18)
    assert (won["before"], won["n"], won["left out"]) == ("–", 18, "1 unparsed, 1 missing")
    refused = by_name["XSTest over_refusal, share of safe prompts that are refused (lower is better)"]
    assert (refused["before"]["estimate"], refused["after"]["estimate"]) == (4 / 39, 12 / 39)
    assert refused["change"]["estimate"] == pytest.approx(8 / 39)
    assert refused["left out"] == "before none, after 1 too_long"


def test_all_three_forms_have_the_same_figures(written: dict[str, Path]) -> None:
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", written["html"].read_text())).split())
    markdown = re.sub(r"\\(.)", r"\1", written["md"].read_text())
    figures = 0
    for section in json.loads(written["json"].read_text())["sections"].values():
        for table in section["tables"]:
            for row in table["rows"]:
                for cell in row.values():
                    if isinstance(cell, dict):
                        scale = 1 if cell["unit"] == "number" else 100
                        text = f"{scale * cell['estimate']:.1f}".replace("-", "−")
                        figures += 1
                        assert cell["unit"] == "number" or text.removesuffix(".0") in page
                        assert cell["unit"] == "number" or text.removesuffix(".0") in markdown
                    else:
                        shown = " ".join(f"{cell:,}".split() if isinstance(cell, int) else cell.split())
                        assert shown in page
                        assert shown in markdown
    assert figures > 40


def test_the_page_has_its_charts_and_no_script(written: dict[str, Path]) -> None:
    page = written["html"].read_text()
    assert "<script" not in page
    for title in (
        "Change from before to after",
        "Win rate of A",
        "Win rate by temperature, judge rm",
        "Calibration of the preference probability",
        "Margin by difference in length",
    ):
        assert f"<figcaption>{title}" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    # XSTest is the only rise in refusals: +20.5 points, beside +25 of the accuracy.
    assert page.count(">+20.5<") == 1
    assert "XSTest over_refusal 20.5 (" in page  # the words for a screen reader


def test_the_card_gets_the_results(written: dict[str, Path]) -> None:
    card = written["card"].read_text()
    assert "| XSTest over\\_refusal |" in card
    assert "+20.5 points" in card
    assert "rules.py:polite: 2 of 20 items have no verdict" in card


def test_results_of_other_weights_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_json(tmp_path / "old.json", benchmark_facts("0ld0"))
    write_json(tmp_path / "new.json", win_rate_facts())
    with pytest.raises(DataError, match=r"different weights of run: .*new\.json and .*old\.json"):
        write_evaluation(run, [tmp_path / "old.json", tmp_path / "new.json"])
    assert not (run / "evaluation.html").exists()


def test_a_result_of_another_model_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_json(tmp_path / "bench.json", benchmark_facts(name="other"))
    page, *_ = write_evaluation(run, [tmp_path / "bench.json"])
    assert "bench.json: measures base, other, none of which is called run" in page.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no result of palate"),
        (json.dumps({**win_rate_facts(), "version": 9}), "the result is of version 9, this palate reads 1"),
        (json.dumps({k: v for k, v in win_rate_facts().items() if k != "counts"}), "is no complete result .'counts'"),
        (json.dumps({**benchmark_facts(), "models": [3]}), "is no complete result"),
        (json.dumps({**benchmark_facts(), "models": []}), "is no complete result"),
        (json.dumps({**accuracy_facts(), "policy": 3}), "is no complete result"),
    ],
)
def test_a_damaged_file_is_named(make_run: MakeRun, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(DataError, match=f"r.json: {message}"):
        write_evaluation(make_run(tmp_path / "run"), [path])


def test_a_folder_without_results_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no accuracy\*\.json"):
        write_evaluation(make_run(tmp_path / "run"), [tmp_path / "empty"])
    with pytest.raises(DataError, match="gone: no such file"):
        write_evaluation(tmp_path / "run", [tmp_path / "gone"])


def test_names_in_results_are_text(make_run: MakeRun, tmp_path: Path) -> None:
    for number, payload in enumerate(PAYLOADS[:20]):
        write_json(tmp_path / "r" / str(number) / "winrate.json", win_rate_facts(payload))
    page, markdown, *_ = write_evaluation(make_run(tmp_path / "run"), [tmp_path / "r"])
    assert "<script" not in page.read_text().lower()
    assert not re.search(r"(?<!\\)<(script|img|svg|iframe)", markdown.read_text(), re.IGNORECASE)


@needs_browser
def test_a_phone_shows_it_and_it_prints(written: dict[str, Path], tmp_path: Path) -> None:
    with browser() as found:
        for scheme in ("light", "dark"):
            shown = found.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
            shown.goto(written["html"].as_uri())
            assert shown.evaluate("document.documentElement.scrollWidth") <= 390
            assert serious_findings(shown) == []
        wide = [one for one in overflow(shown) if one.startswith(("DIV.panel", "P", "H", "SECTION", "LI", "FIGURE"))]
        assert wide == []
        shown.emulate_media(media="print")
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        whole = [
            shown.evaluate(f"getComputedStyle(document.querySelector('{one}')).breakInside") for one in ("figure", "tr")
        ]
        assert whole == ["avoid", "avoid"]
        assert shown.pdf(format="A4").startswith(b"%PDF")


def test_grades_are_no_percentages(make_run: MakeRun, tmp_path: Path) -> None:
    facts = benchmark_facts()
    grade = {"estimate": 7.25, "low": 6.5, "high": 8.0, "level": 0.95, "n": 40}
    for model in facts["models"]:
        model["rates"] = [{"metric": "score", "category": None, "mean": grade}]
    facts |= {"comparisons": [], "metrics": {"score": "mean grade, 1 to 10"}, "grades": ["score"]}
    write_json(tmp_path / "bench.json", facts)
    _, markdown, _, card = write_evaluation(make_run(tmp_path / "run"), [tmp_path / "bench.json"])
    assert "| 7.25 (6.5 to 8) |" in markdown.read_text()
    assert "725" not in markdown.read_text()
    assert "value: 7.25" in card.read_text()


def test_what_a_judged_benchmark_adds_is_shown(make_run: MakeRun, tmp_path: Path) -> None:
    facts = benchmark_facts()
    win_rate = {key: value for key, value in win_rate_facts().items() if key != "items"}
    rate = {"estimate": 0.61, "low": 0.5, "high": 0.7, "level": 0.95, "n": 40}
    published = [
        {"name": "length-controlled win rate", "estimate": 0.583, "interval": None, "note": "its formula has none"},
        {"name": "style-controlled", "estimate": 0.61, "interval": rate, "note": "over questions"},
    ]
    facts["models"][-1] |= {"winrate": win_rate, "published": published}
    write_json(tmp_path / "bench.json", facts)
    page, markdown, *_ = write_evaluation(make_run(tmp_path / "run"), [tmp_path / "bench.json"])
    text = markdown.read_text()
    assert f"(A) against {win_rate['b']['name']} (B), judged by {win_rate['judge']}" in text.replace("\\", "")
    assert "| same in both orders |" in text
    assert "| length-controlled win rate | 58.3 % | its formula has none |" in text
    assert "| style-controlled | 61.0 % (50.0 to 70.0 %) | over questions |" in text
    assert "as the benchmark&#39;s own program defines it" in page.read_text()
