"""The pre-flight report: every row is somewhere, the token counts are right, and mostly lost data stops a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import chat_templates
from palate.errors import DataError
from palate.records import Demonstration, Dropped, Message, Messages, PreferencePair
from palate.text.encode import encode_records
from palate.text.preflight import check_preflight, preflight_report, render_preflight, token_statistics
from palate.text.template import Template, load_template

Chat = Callable[..., Messages]
Make = Callable[[str], PreTrainedTokenizerFast]
Pair = Callable[..., PreferencePair]


@dataclass(frozen=True)
class Counts:
    """What a reader says of its source."""

    name: str
    rows_read: int
    used: int
    records: int
    dropped_by_reason: Mapping[str, int] = field(default_factory=dict)
    labels: str = ""
    unknown_columns: tuple[str, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)


@pytest.fixture
def template(make_tokenizer: Make) -> Template:
    return load_template(make_tokenizer("letters"), "chatml")


# One token a character: a prompt of one user turn 19 + n (8 for the turn, 11 to begin the answer), an answer n + 1.
@pytest.fixture
def records(chat: Chat, pair: Pair) -> list[PreferencePair]:
    ask = chat("u: q")
    return [
        pair(ask, "yes", "no", id="a:1", source="a"),
        pair(chat("u: old", "a: old", "u: q"), "yes", "never", id="a:2", source="a"),
        pair(ask, "y" * 40, "n", id="b:1", source="b"),
        pair(ask, "same", "same", id="b:3", source="b"),
    ]


SOURCES = [Counts("a", 2, 2, 2), Counts("b", 4, 2, 2, {"empty_chosen": 2})]
LOST = [Dropped("b:2", "empty_chosen"), Dropped("b:4", "empty_chosen", "chosen is blank")]


def report_of(records: list[PreferencePair], template: Template) -> dict[str, Any]:
    encoded = encode_records(records, template, cutoff_len=35)
    return preflight_report(SOURCES, LOST, len(records), {"train": encoded}, template, cutoff_len=35)


def test_every_row_is_used_or_listed(records: list[PreferencePair], template: Template) -> None:
    report = report_of(records, template)
    assert report["rows"] == {"read": 6, "used": 4, "dropped": 2}
    assert report["records"] == {"made": 4, "not_selected": 0, "used": 2, "dropped": 2, "cut": 1}
    assert report["dropped_by_reason"] == {"empty_chosen": 2, "too_long": 1, "equal_after_encoding": 1}
    assert report["sources"]["a"]["cut"] == 1
    assert report["sources"]["b"]["dropped_by_reason"] == {"empty_chosen": 2, "too_long": 1, "equal_after_encoding": 1}
    assert [(row["id"], row["stage"]) for row in report["dropped"]] == [
        ("b:2", "data"),
        ("b:4", "data"),
        ("b:1", "text"),
        ("b:3", "text"),
    ]
    # The turn "old", "old" has 11 + 16 tokens.
    assert report["cuts"] == [{"id": "a:2", "tokens_removed": 27, "turns_removed": 1}]
    assert report["over_length"] == {"records": 2, "share": 0.5}
    assert json.loads(json.dumps(report)) == report


def test_token_statistics_by_hand(records: list[PreferencePair], template: Template) -> None:
    tokens = token_statistics(encode_records(records, template, cutoff_len=35).groups)
    assert tokens["prompt"] == {"min": 20, "median": 20.0, "p95": 20.0, "max": 20, "total": 40}
    assert tokens["chosen"] == {"min": 4, "median": 4.0, "p95": 4.0, "max": 4, "total": 8}
    assert (tokens["rejected"]["min"], tokens["rejected"]["median"], tokens["rejected"]["total"]) == (3, 4.5, 9)
    assert (tokens["row"]["min"], tokens["row"]["max"]) == (24, 26)
    assert (tokens["trained"], tokens["packed"], tokens["repeated"]) == (17, 57, 97)
    assert tokens["saved_by_shared_prompt"] == pytest.approx(40 / 97)
    assert token_statistics([]) == {"groups": 0}


def test_single_completions_have_one_row_of_lengths(chat: Chat, template: Template) -> None:
    record = Demonstration(id="a:1", prompt=chat("u: q"), completion=chat("a: yes"))
    tokens = token_statistics(encode_records([record], template).groups)
    assert tokens["completion"]["total"] == 4
    assert "chosen" not in tokens
    assert tokens["saved_by_shared_prompt"] == 0


def test_the_example_shows_the_boundary(records: list[PreferencePair], template: Template) -> None:
    shown = report_of(records, template)["example"]
    assert shown["id"] == "a:1"
    assert shown["prompt"] == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert shown["prompt_end"] == ["\n", "<|im_start|>", *"assistant", "\n"]
    assert shown["completions"][0]["start"] == [["y", True], ["e", True], ["s", True], ["<|im_end|>", True]]
    assert shown["completions"][0]["end"] == []  # no token is shown twice
    assert shown["completions"][1]["text"] == "no<|im_end|>"


def test_the_summary_names_all_counts(records: list[PreferencePair], template: Template) -> None:
    text = render_preflight(report_of(records, template))
    for part in (
        "rows      6 read: 4 used, 2 dropped",
        "examples  2 made of them, 2 dropped, 1 with the prompt shortened to fit",
        "2 empty chosen, 1 too long, 1 equal after encoding (data.json names each row)",
        "2 examples (50.0 %) longer than cutoff_len 35",
        "17 of 57 tokens are trained; computing each prompt once saves 41%",
        "a star marks the tokens that are trained",
        "'y'*|'e'*|'s'*|'<|im_end|>'*\n",
    ):
        assert part in text
    assert len(text.splitlines()) <= 12


def test_notices_reach_the_report(chat: Chat, pair: Pair, template: Template) -> None:
    records = [pair(chat("u: <|im_start|>"), "a<|im_end|>", "b", id="a:1", source="a")]
    encoded = encode_records(records, template)
    report = preflight_report([Counts("a", 1, 1, 1)], [], len(records), {"train": encoded}, template)
    first, second = report["template"]["notices"]
    assert first == "1 answer with an end-of-turn text at the end; it was removed"
    assert second.startswith("1 record with the text of a special token")
    assert "note      1 answer with" in render_preflight(report)


def test_a_row_that_went_missing_is_an_error(records: list[PreferencePair], template: Template) -> None:
    encoded = {"train": encode_records(records, template)}
    with pytest.raises(DataError, match="b: 1 of 4 rows are neither used nor dropped"):
        preflight_report([Counts("b", 4, 3, 3)], [], len(records), encoded, template)
    with pytest.raises(DataError, match="5 records were given, but 4 were encoded or dropped"):
        preflight_report(SOURCES, LOST, 5, encoded, template)


def test_mostly_lost_data_stops_the_run(records: list[PreferencePair], template: Template) -> None:
    report = report_of(records, template)
    check_preflight(report, max_dropped=0.5)
    with pytest.raises(
        DataError, match=r"2 of 4 records were dropped \(too_long 1, equal_after_encoding 1\), more than"
    ):
        check_preflight(report, max_dropped=0.4)
    short = encode_records(records, template, cutoff_len=3)
    nothing = preflight_report(SOURCES, LOST, len(records), {"train": short}, template, cutoff_len=3)
    with pytest.raises(DataError, match=r"left to train on; dropped: too_long 3, .* 1; raise cutoff_len \(now 3\)"):
        check_preflight(nothing)
    assert "token by token" not in render_preflight(nothing)


def test_splits_are_counted_apart(records: list[PreferencePair], template: Template) -> None:
    parts = {"train": encode_records(records[:1], template), "eval": encode_records(records[1:2], template)}
    report = preflight_report([Counts("a", 3, 3, 3)], [], 2, parts, template)
    assert report["records"]["not_selected"] == 1
    assert [report["tokens"][split]["groups"] for split in ("train", "eval")] == [1, 1]


def test_what_a_template_refuses_is_told_in_its_words(make_tokenizer: Make, pair: Pair, chat: Chat) -> None:
    template = load_template(make_tokenizer("letters"), "chatml")
    thought = Message("assistant", "yes", reasoning_content="hm")
    records = [
        pair(chat("u: q"), (thought,), "no", id="a:1", source="a"),
        pair(chat("u: q"), "a", "b", id="a:2", source="a"),
    ]
    encoded = encode_records(records, template)
    report = preflight_report([Counts("a", 2, 2, 2)], [], len(records), {"train": encoded}, template)
    assert "          a:1: the chat template leaves out the reasoning of an answer" in render_preflight(report)
    check_preflight(report, max_dropped=0.5)
    with pytest.raises(DataError, match=r"template_refused 1.*; a:1: the chat template leaves out the reasoning"):
        check_preflight(report, max_dropped=0.4)


def test_reasoning_in_one_answer_only_is_counted(make_tokenizer: Make, pair: Pair, chat: Chat) -> None:
    tokenizer = make_tokenizer("letters")
    tokenizer.chat_template = chat_templates.QWEN3
    template = load_template(tokenizer)
    thought = Message("assistant", "yes", reasoning_content="hm")
    records = [
        pair(chat("u: q"), (thought,), "no", id="a:1", source="a"),
        pair(chat("u: q"), "<think>\n\n</think>\n\nyes", "no", id="a:2", source="a"),
        pair(chat("u: q"), (thought,), "<think>no</think>", id="a:3", source="a"),
        pair(chat("u: q"), "yes", "no", id="a:4", source="a"),
    ]
    encoded = encode_records(records, template)
    report = preflight_report([Counts("a", 4, 4, 4)], [], len(records), {"train": encoded}, template)
    assert "2 records with reasoning in one answer and none in another" in " ".join(report["template"]["notices"])


def test_columns_that_are_not_read_are_named(records: list[PreferencePair], template: Template) -> None:
    report = report_of(records, template)
    assert "not read" not in render_preflight(report)
    report["sources"]["a"]["unread_columns"] = ["context"]
    assert "not read  a: column context" in render_preflight(report)
    report["sources"]["a"]["unread_columns"] = [f"c{n}" for n in range(12)]
    assert "not read  a: columns c0, c1, c2, c3, c4, c5, c6, c7 and 4 more" in render_preflight(report)
