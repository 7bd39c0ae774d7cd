"""A run's report: what it says, that it stands alone, that it survives missing pieces, and that text stays text."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import write_json
from palate.errors import ArtifactError
from palate.evaluation.accuracy.preference import preference_accuracy
from palate.report.pages.run import write_run_report

PAYLOADS = (Path(__file__).parent / "payloads.txt").read_text(encoding="utf-8").splitlines()
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "footer",
        "section",
        "nav",
        "a",
        "div",
        "span",
    ),
    *("h1", "h2", "h3", "h4", "p", "ul", "li", "dl", "dt", "dd", "pre", "code", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "desc", "line", "path", "circle", "text"),
}
MakeRun = Callable[..., Path]


class Page(HTMLParser):
    """The tags, attributes and texts of a page, as a browser would see them."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.policy = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "meta" and ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page(run: Path) -> Page:
    return Page(write_run_report(run).read_text(encoding="utf-8"))


def test_it_says_what_was_done(make_run: MakeRun, tmp_path: Path) -> None:
    text = page(make_run(tmp_path / "my-run")).text
    for expected in (
        "my-run",
        "completed",
        "DPO of SmolLM2-135M-Instruct on palate-demo",
        "sigmoid: −(1−ε)·lσ(βΔ) − ε·lσ(−βΔ) with pref_beta 0.1",
        "frozen copy (sha256:9d1f)",
        "134,515,008 of 134,515,008 parameters (100.0 %), full, bf16",
        "4 min 02 s",
        "3.0 GiB",
        "85.8 % 95 % 78.5 to 91.0 %, before: 42.5 %, 120 held-out pairs",
        "As expected on 24 held-out pairs of 24 prompts",
        "6.2 nats below the reference",
        "Try: pref_ftx: 0.1",
        "fp16 is bf16 on a CPU",
        "read 640, used 632, dropped 8",
        "pairs.jsonl:17, pairs.jsonl:34",
        "<|im_end|>",
        "What did you have for lunch yesterday?",
        "I'm an AI, so I can't. Answer 0 is plain.",
        "plays along with the question",
        "learning_rate",
        "5e-06",
        "torch",
        "2.13.0",
    ):
        assert expected in text, f"{expected!r} is missing"


def test_the_sample_table_has_the_known_columns(make_run: MakeRun, tmp_path: Path) -> None:
    content = write_run_report(make_run(tmp_path)).read_text()
    head = re.search(r'<table class="texts">.*?</thead>', content, re.DOTALL)
    assert head is not None
    assert re.findall(r">([^<>\n]+)</th>", head[0]) == ["index", "Prompt", "DPO Model Output", "Reference Model Output"]


def test_it_stands_alone(make_run: MakeRun, tmp_path: Path) -> None:
    seen = page(make_run(tmp_path))
    assert {tag for tag, _ in seen.tags}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    )
    for tag, attributes in seen.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "style", "xlink:href", "action"), (tag, name)
            if name == "href":
                assert (value or "").startswith("#")
    assert seen.policy.startswith("default-src 'none'; style-src 'sha256-")


def test_the_policy_allows_exactly_the_style_that_is_there(make_run: MakeRun, tmp_path: Path) -> None:
    import base64
    import hashlib

    content = write_run_report(make_run(tmp_path)).read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", content, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page(tmp_path).policy
    assert "url(" not in style
    assert "@import" not in style


def test_tables_have_headers_with_scope_and_links_lead_somewhere(make_run: MakeRun, tmp_path: Path) -> None:
    seen = page(make_run(tmp_path))
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in seen.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(a["href"][1:] in ids for tag, a in seen.tags if tag == "a" and a["href"])


PIECES = ["metrics.jsonl", "data.json", "samples.jsonl", "accuracy.json"]


@pytest.mark.parametrize("gone", [*[[piece] for piece in PIECES], PIECES])
def test_a_stopped_run_has_a_report_of_what_is_there(make_run: MakeRun, tmp_path: Path, gone: list[str]) -> None:
    run = make_run(tmp_path, run={"status": "stopped", "health": None, "timings": None})
    for piece in gone:
        (run / piece).unlink()
    assert "stopped" in page(run).text


@pytest.mark.parametrize("broken", PIECES)
def test_a_damaged_piece_is_named_and_the_rest_is_shown(make_run: MakeRun, tmp_path: Path, broken: str) -> None:
    run = make_run(tmp_path)
    (run / broken).write_text('{"step": 1}\n{"step": \n[]\n')
    text = page(run).text
    assert f"{broken}:2: not valid JSON" in text or f"{broken}: not valid JSON at line" in text
    assert "SmolLM2-135M-Instruct" in text


@pytest.mark.parametrize("facts", [{}, {"status": "running"}, {"model": "m", "reference": None, "health": [{}]}])
def test_a_run_that_has_only_begun(tmp_path: Path, facts: dict[str, Any]) -> None:
    write_json(tmp_path / "run.json", facts)
    assert "Too few logged steps" in page(tmp_path).text


def test_values_of_foreign_shapes_do_not_break_it(tmp_path: Path) -> None:
    write_json(
        tmp_path / "run.json",
        {"config": [1], "timings": "long", "model": {"trainable_parameters": "?"}, "objective": 3, "versions": None,
         "health": ["x", {"step": None}], "notices": [None], "reference": {"kind": 1}},
    )  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text(
        '{"loss": 1}\n{"step": "x"}\n{"step": 1, "loss": "NaN"}\n{"step": 2, "loss": null}\n'
    )
    (tmp_path / "samples.jsonl").write_text('{}\n{"prompt": "text", "policy": null}\n{"prompt": [1, {"role": "x"}]}\n')
    (tmp_path / "accuracy.json").write_text('{"policy": {"estimate": null}, "n": "many"}')
    (tmp_path / "data.json").write_text(
        '{"example": {"completions": [{}]}, "rows": [[1, 2], []], "dropped": [{"reason": null}]}'
    )
    assert "Loss: train has no finite value." in page(tmp_path).text


def test_a_failed_run_says_why(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path, run={"status": "failed", "error": "step 3: the loss of pairs.jsonl:7 is not finite"})
    assert "The run failed: step 3: the loss of pairs.jsonl:7 is not finite" in page(run).text


def test_long_prompts_are_folded_and_blank_answers_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    prompt = [{"role": "user", "content": "x" * 600 + "y" * 600}]
    row = {"step": 1, "prompt": prompt, "policy": "\n\n \n", "reference": ""}
    (run / "samples.jsonl").write_text(json.dumps(row) + "\n")
    text = page(run).text
    assert "x" * 500 + " … all 1,200 characters " + "x" * 600 + "y" * 600 in text
    assert "only white space, 4 characters" in text
    assert "empty" in text


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"it has no run\.json"):
        write_run_report(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ArtifactError, match="not valid JSON"):
        write_run_report(tmp_path)


def test_what_run_json_adds_later_is_shown_too(make_run: MakeRun, tmp_path: Path) -> None:
    assert "round of the loop 7" in page(make_run(tmp_path, run={"round_of_the_loop": 7})).text


def test_secrets_do_not_reach_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    config = {"hub_token": "CANARY-123", "judge": {"api_key": "CANARY-123"}}
    run = make_run(tmp_path, run={"config": config, "tracker": {"wandb_api_key": "CANARY-123"}})
    assert "CANARY-123" not in write_run_report(run).read_text()


def poisoned(run: Path, payload: str) -> Path:
    """Puts a payload into every text of every artifact, keys included."""

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {f"{key}": poison(item) for key, item in value.items()} | {payload: payload}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return payload if isinstance(value, str) else value

    for name in ("run.json", "data.json", "accuracy.json"):
        write_json(run / name, poison(json.loads((run / name).read_text())))
    kept = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    (run / "samples.jsonl").write_text("".join(json.dumps(poison(row)) + "\n" for row in kept))
    return run


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_stay_text_in_every_field(make_run: MakeRun, tmp_path: Path, payload: str) -> None:
    seen = page(poisoned(make_run(tmp_path, steps=4, evaluate_every=2), payload))
    assert {tag for tag, _ in seen.tags} <= TAGS
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on") or name == "style"]
    assert all((a.get("href") or "#").startswith("#") for _, a in seen.tags)
    assert re.sub(r"\s+", " ", payload) in seen.text  # and it is shown, as it is


def test_there_are_fifty_payloads() -> None:
    assert len(set(PAYLOADS)) >= 50


def test_text_that_disguises_itself_is_made_visible(make_run: MakeRun, tmp_path: Path) -> None:
    run = poisoned(make_run(tmp_path, steps=4, evaluate_every=2), "abc\u202e\x00\x1b[31m\u200bdef 👩‍🔬 ok\n\tnext")
    text = write_run_report(run).read_text()
    assert "abc⟦U+202E⟧⟦U+0000⟧⟦U+001B⟧[31m⟦U+200B⟧def 👩‍🔬 ok" in text
    assert "\u202e" not in text
    assert "\x00" not in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_in_a_browser_nothing_runs(make_run: MakeRun, tmp_path: Path) -> None:
    """All payloads at once, with a marker that any script would leave: the browser's own view of the page has none."""
    everything = "\n".join(PAYLOADS).replace("alert(1)", "document.documentElement.setAttribute('data-ran','yes')")
    run = poisoned(make_run(tmp_path, steps=4, evaluate_every=2), everything)
    report = write_run_report(run)
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--virtual-time-budget=2000", "--dump-dom", f"file://{report}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    root = re.match(r"<!DOCTYPE html>\s*<html[^>]*>", done.stdout)
    assert root is not None, done.stdout[:300]
    assert "data-ran" not in root[0]
    assert "data-ran" in html.unescape(done.stdout)  # the payloads themselves are there, as text


def test_calibration_and_groups_are_shown(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(tmp_path)
    assert "Calibration of the preference probability" not in write_run_report(tmp_path).read_text()
    before = [((-10.0, -10.0), (5, 5))] * 40
    after = [((-10.0 + number / 4, -14.0), (5, 5)) for number in range(40)]
    groupings = {"category": ["<safety>" if number % 2 else "style" for number in range(40)]}
    found = preference_accuracy(before, after, prompts=range(40), beta=0.2, groupings=groupings)
    write_json(tmp_path / "accuracy.json", found.to_json())
    content = write_run_report(tmp_path).read_text()
    assert "Calibration of the preference probability" in content
    assert "10 bins, ECE" in content
    assert "Preference accuracy by group" in content
    assert "&lt;safety&gt;" in content
    assert "<safety>" not in content
