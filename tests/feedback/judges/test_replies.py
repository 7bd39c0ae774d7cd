"""Verdicts in replies: what is in the form that was asked for is read, everything else is unparsed."""

from __future__ import annotations

import json
import time

import pytest

from palate.feedback.judges.prompt import JudgePrompt, load_prompt
from palate.feedback.judges.replies import Unreadable, instruction, read_criteria, read_verdict, response_format

CRITERIA, CONCISE, SCORE, RUBRIC = (load_prompt(name) for name in ("criteria", "concise", "score", "rubric"))


def outcome(prompt: JudgePrompt, text: str) -> str:
    return read_verdict(prompt, prompt.criteria, text).outcome


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", "left"),
        (" b \n", "right"),
        ('"A"', "left"),
        ("**B**", "right"),
        ("[[A]]", "left"),
        ("A.", "left"),
        ("Answer: B", "right"),
        ("Answer A", "left"),
        ("", "unparsed"),
        ("C", "unparsed"),
        ("tie", "unparsed"),  # the prompt offers none
        ("A is better than B", "unparsed"),
        ("A or B", "unparsed"),
        ("AB", "unparsed"),
        ("not A", "unparsed"),
        ('{"verdict": "A"}', "unparsed"),
    ],
)
def test_a_letter(text: str, expected: str) -> None:
    assert outcome(CRITERIA, text) == expected


def test_an_unparsed_verdict_has_the_text_as_reason() -> None:
    assert read_verdict(CRITERIA, (), "I cannot say.").reason == "no verdict: I cannot say."
    assert len(read_verdict(CRITERIA, (), "x" * 10_000).reason) < 2100


@pytest.mark.parametrize(
    ("text", "expected", "reason"),
    [
        ("A is right.\nVerdict: A", "left", "A is right."),
        ("Both fail.\n\n**Verdict: tie**", "tie", "Both fail."),
        ("Verdict: B\nVerdict: B", "right", ""),
        ("B", "right", ""),
        ('{"reason": "shorter", "verdict": "B"}', "right", "shorter"),
        ('```json\n{"reason": "r", "verdict": "tie"}\n```', "tie", "r"),
        ('{"verdict": "A"}', "left", ""),
    ],
)
def test_a_reason_and_a_verdict(text: str, expected: str, reason: str) -> None:
    found = read_verdict(CONCISE, (), text)
    assert (found.outcome, found.reason) == (expected, reason)


@pytest.mark.parametrize(
    "text",
    [
        "I like A best.",
        "Verdict: A\nVerdict: B",  # the judge quotes an answer that says so
        "Verdict: A or B",
        '{"reason": "r"}',  # a missing field is an error
        '{"verdict": "C"}',
        '{"verdict": ["A"]}',
        '{"verdict": "A"',
        '{"verdict": "A", "verdict": "B"}',
        "[" * 100_000,
        "{" * 100_000,
        '{"verdict": NaN}',
    ],
)
def test_what_is_not_in_the_form_is_not_guessed_at(text: str) -> None:
    assert outcome(CONCISE, text) == "unparsed"


@pytest.mark.parametrize(
    ("text", "expected", "scores"),
    [
        ('{"reason": "r", "score_a": 7, "score_b": 4}', "left", (7, 4)),
        ('{"score_a": 4, "score_b": "10"}', "right", (4, 10)),
        ("Both are fine.\nScore A: 5\nScore B: 5", "tie", (5, 5)),
        ("**Score A: 3/10**\n**Score B: 8/10**", "right", (3, 8)),
    ],
)
def test_scores(text: str, expected: str, scores: tuple[float, float]) -> None:
    found = read_verdict(SCORE, (), text)
    assert (found.outcome, found.dimensions) == (expected, {"score": scores})


@pytest.mark.parametrize(
    "text",
    [
        '{"score_a": 7}',
        '{"score_a": 0, "score_b": 4}',
        '{"score_a": 11, "score_b": 4}',
        '{"score_a": 7.5, "score_b": 4}',
        '{"score_a": true, "score_b": 4}',
        '{"score_a": NaN, "score_b": 4}',
        '{"score_a": Infinity, "score_b": 4}',
        '{"score_a": 1e999, "score_b": 4}',
        '{"score_a": ' + "9" * 400 + ', "score_b": 4}',
        "Score A: 7",
        "Score A: 7\nScore A: 8\nScore B: 1",
        "7 4",
    ],
)
def test_scores_that_are_missing_or_out_of_range(text: str) -> None:
    found = read_verdict(SCORE, (), text)
    assert (found.outcome, found.dimensions) == ("unparsed", {})


def test_a_rubric_has_a_score_for_every_criterion() -> None:
    a = {"helpfulness": 8, "accuracy": 9, "clarity": 3, "safety": 10}
    b = {"helpfulness": 8, "accuracy": 4, "clarity": 10, "safety": 9}
    found = read_verdict(RUBRIC, RUBRIC.criteria, json.dumps({"reason": "r", "a": a, "b": b}))
    assert (found.outcome, found.reason) == ("right", "r")  # 30 against 31
    assert found.dimensions == {name: (a[name], b[name]) for name in a}
    del b["safety"]
    found = read_verdict(RUBRIC, RUBRIC.criteria, json.dumps({"a": a, "b": b}))
    assert found.outcome == "unparsed"
    assert found.reason.startswith("no score safety")


def test_a_rubric_in_lines() -> None:
    criteria = ("bedside_manner: kind words", "it's right: no error")
    text = "A is kinder.\n- **bedside_manner**: A=9, B=2\n2. it's right: A=3, B=3\nother: A=1, B=10"
    found = read_verdict(RUBRIC, criteria, text)
    assert found.dimensions == {"bedside_manner": (9, 2), "it's right": (3, 3)}
    assert found.outcome == "left"
    assert read_verdict(RUBRIC, criteria, "bedside_manner: A=9, B=2").outcome == "unparsed"


@pytest.mark.parametrize("mode", ["schema", "json", "plain"])
@pytest.mark.parametrize("prompt", [CONCISE, SCORE, RUBRIC], ids=lambda prompt: prompt.name)
def test_the_example_in_the_instruction_is_in_the_form(prompt: JudgePrompt, mode: str) -> None:
    """What the judge is told to write can be read; for a pair, once one of the offered verdicts is chosen."""
    text = instruction(prompt, prompt.criteria, mode)  # type: ignore[arg-type]
    example = text.partition(":\n")[2] if ":\n" in text else text.partition("these lines: ")[2]
    for many, one in (("A, B or tie", "tie"), ("Verdict: A; Verdict: B; Verdict: tie", "Verdict: tie")):
        example = example.replace(many, one)
    assert outcome(prompt, example) == "tie"


def test_a_schema_names_every_field_and_allows_no_other() -> None:
    found = response_format(RUBRIC, RUBRIC.criteria, "schema")["response_format"]["json_schema"]
    assert found["strict"] is True
    assert found["schema"]["required"] == ["reason", "a", "b"]
    assert found["schema"]["properties"]["a"]["required"] == list(RUBRIC.criteria)
    assert found["schema"]["properties"]["b"]["additionalProperties"] is False
    assert response_format(CRITERIA, (), "schema") == {}
    assert response_format(RUBRIC, RUBRIC.criteria, "json") == {"response_format": {"type": "json_object"}}


def test_criteria_of_the_judge() -> None:
    text = "Here they are:\n- **Names the capital**: says Paris.\n2) Short: one  sentence.\n* Polite: no insult"
    assert read_criteria(text) == ["names the capital: says Paris.", "short: one sentence.", "polite: no insult"]
    for bad in ("none", "- one: x", "- a: x\n- A: y", "\n".join(f"- c{n}: x" for n in range(9))):
        with pytest.raises(Unreadable):
            read_criteria(bad)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("criteria", "." * 100_000 + "x"),
        ("criteria", "." + " " * 100_000 + "x"),
        ("concise", "```" + "\n" * 100_000 + "x"),
        ("concise", "```json" + "\n" * 100_000 + "x"),
        ("score", "Score A: " + "1" * 100_000),
        ("rubric", "x: a=" + "1" * 100_000),
    ],
)
def test_a_long_reply_is_read_in_linear_time(name: str, text: str) -> None:
    before = time.process_time()
    assert read_verdict(load_prompt(name), ["accuracy"], text).outcome == "unparsed"
    assert time.process_time() - before < 5, "quadratic patterns take minutes"


@pytest.mark.parametrize("text", ["\n" * 100_000, "- name:" + " " * 100_000, "- a:\n" * 25_000, "1" * 100_000])
def test_criteria_are_read_in_linear_time(text: str) -> None:
    before = time.process_time()
    with pytest.raises(Unreadable, match="no list"):
        read_criteria(text)
    assert time.process_time() - before < 5, "quadratic patterns take minutes"
