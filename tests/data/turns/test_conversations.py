"""Answers that repeat their conversation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.data.turns.cells import RowError
from palate.data.turns.conversations import split_answers
from palate.records import Message, Messages, ToolCall


def talk(*turns: str) -> Messages:
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return tuple(Message(roles[turn[0]], turn[3:]) for turn in turns)  # type: ignore[arg-type]


def test_plain_answers_are_left_alone() -> None:
    prompt, answers = talk("u: q"), [talk("a: x"), talk("a: y")]
    assert split_answers(prompt, answers) == (prompt, tuple(answers), False)


def test_two_conversations_share_their_prompt() -> None:
    chosen, rejected = talk("s: S", "u: q", "a: 1", "u: r", "a: x"), talk("s: S", "u: q", "a: 1", "u: r", "a: y")
    shared = (talk("s: S", "u: q", "a: 1", "u: r"), (talk("a: x"), talk("a: y")), False)
    assert split_answers((), [chosen, rejected]) == shared
    for prompt in (talk("u: q"), talk("u: r "), talk("u: q", "a: 1", "u: r"), talk("s: S", "u: q")):
        assert split_answers(prompt, [chosen, rejected]) == shared


def test_flags_of_the_prompts_turns_do_not_matter() -> None:
    chosen, rejected = talk("u: q", "a: 1", "u: r", "a: x"), talk("u: q", "a: 1", "u: r", "a: y")
    marked = (rejected[0], replace(rejected[1], trained=False), *rejected[2:])
    assert split_answers((), [chosen, marked])[1] == (talk("a: x"), talk("a: y"))


def test_tool_steps_belong_to_the_answer() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("f"),))
    chosen = (*talk("u: q"), call, *talk("t: 1", "a: x"))
    prompt, answers, _ = split_answers((), [chosen, talk("u: q", "a: y")])
    assert (prompt, answers) == (talk("u: q"), (chosen[1:], talk("a: y")))


@pytest.mark.parametrize(
    ("prompt", "conversation", "asked", "answer"),
    [
        (talk("u: q"), talk("u: q", "a: x"), talk("u: q"), talk("a: x")),
        (talk("u: q"), talk("s: S", "u: q", "a: x"), talk("s: S", "u: q"), talk("a: x")),
        (talk("s: S", "u: q"), talk("u: q", "a: x"), talk("s: S", "u: q"), talk("a: x")),
        # A longer conversation: behind the prompt at its beginning, else behind the last question that is it.
        (talk("u: q"), talk("u: q", "a: 1", "u: r", "a: x"), talk("u: q"), talk("a: 1", "u: r", "a: x")),
        (talk("u: r"), talk("u: q", "a: 1", "u: r", "a: x"), talk("u: q", "a: 1", "u: r"), talk("a: x")),
        ((), talk("u: q", "a: 1", "u: r", "a: x"), talk("u: q", "a: 1", "u: r"), talk("a: x")),
        (talk("u: q"), talk("a: \n\nHuman: q\n\nAssistant: x"), talk("u: q"), talk("a: x")),
    ],
)
def test_one_conversation(prompt: Messages, conversation: Messages, asked: Messages, answer: Messages) -> None:
    assert split_answers(prompt, [conversation]) == (asked, (answer,), False)


def test_one_side_only() -> None:
    assert split_answers(talk("u: q"), [talk("u: q", "a: x"), talk("a: y")]) == (
        talk("u: q"),
        (talk("a: x"), talk("a: y")),
        False,
    )


@pytest.mark.parametrize(
    ("prompt", "answers", "reason"),
    [
        ((), [talk("u: q", "a: x"), talk("u: q", "a: x")], "equal"),
        ((), [talk("u: q", "a: x"), talk("u: r", "a: y")], "diverges"),
        ((), [talk("u: q", "a: x"), talk("a: y")], "prompt_differs"),
        (talk("u: other"), [talk("u: q", "a: x"), talk("u: q", "a: y")], "prompt_differs"),
        (talk("u: other"), [talk("u: q", "a: x")], "prompt_differs"),
        (talk("s: T", "u: q"), [talk("s: S", "u: q", "a: x")], "prompt_differs"),
        (talk("u: other"), [talk("u: q", "a: x"), talk("a: y")], "prompt_differs"),
    ],
)
def test_conversations_that_do_not_fit(prompt: Messages, answers: list[Messages], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        split_answers(prompt, answers)
    assert caught.value.reason == reason


def test_a_script_in_an_answer_is_no_transcript_of_it() -> None:
    answer = talk("a: Human: Hi.\n\nAssistant: Hello.")
    assert split_answers(talk("u: Write a dialogue."), [answer]) == (talk("u: Write a dialogue."), (answer,), False)


def test_texts_that_begin_with_the_prompt() -> None:
    prompt, answers = talk("s: S", "u: q? "), [talk("a: q? \n yes"), talk("a:  q?no")]
    assert split_answers(prompt, answers) == (prompt, tuple(answers), True)
    assert split_answers(prompt, answers, repeats_prompt=True) == (prompt, (talk("a: yes"), talk("a: no")), True)
    assert not split_answers(prompt, [talk("a: q? yes"), talk("a: no")])[2]
