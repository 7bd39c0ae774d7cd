"""What a judge writes about a prompt before it sees the answers: criteria, or an answer of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palate.feedback.judges.chat import ChatReply
from palate.feedback.judges.prompt import JudgePrompt
from palate.feedback.judges.render import RULE, block, clean, nonce_of
from palate.feedback.judges.replies import Unreadable, read_criteria, shortened

PreparationKind: TypeAlias = Literal["rubric", "own_answer"]

PREPARATION_TOKENS = 500
"""Longest text, in tokens."""

THINKING = "the judge spent its tokens thinking"

_RUBRIC_FORM = "Write a line for each, of this form, and nothing else:\n- name: what a good answer does"
_OWN_ANSWER = (
    "Later you will compare two answers to the prompt below. First write your own answer to it, in at most 100 words: "
    "what matters most, and where the prompt has a right answer, that answer."
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the judge wrote about a prompt.

    Attributes:
        text: of the reply.
        criteria: the criteria in it.
        problem: why it cannot be used; "" if it can.
        missing: whether there was no reply at all.
    """

    text: str = ""
    criteria: tuple[str, ...] = ()
    problem: str = ""
    missing: bool = False


def preparation_text(kind: PreparationKind, prompt: JudgePrompt, conversation: str) -> str:
    nonce = nonce_of(prompt.sha256, kind, conversation)
    quoted = block("prompt", conversation, nonce)
    task = f"{_OWN_ANSWER}\n\n{quoted}" if kind == "own_answer" else f"{prompt.fill_rubric(quoted)}\n{_RUBRIC_FORM}"
    return f"{RULE.format(nonce=nonce)}\n\n{task}"


def read_preparation(kind: PreparationKind, text: str) -> Preparation:
    if kind == "own_answer":
        return Preparation(text) if text.strip() else Preparation(problem="the judge wrote no answer of its own")
    try:
        return Preparation(text, tuple(read_criteria(text)))
    except Unreadable as error:
        return Preparation(text, problem=f"{error}: {shortened(text)}")


def read_label(text: str, labels: Iterable[str]) -> Preparation:
    """The only label `[[LABEL]]` in the text of a reply, where it may stand several times."""
    # Longer labels first, so that A>>B is not read as a part of it.
    known = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    found = set(re.findall(rf"\[\[({known})\]\]", text))
    if len(found) == 1:
        return Preparation(found.pop())
    return Preparation(problem=f"{'contradicting labels' if found else 'no label'}: {shortened(text)}")


def reply_text(reply: ChatReply) -> tuple[str, str]:
    """The text of a reply as it is stored, and what is wrong with the reply ("" for nothing)."""
    if reply.spent_on_thinking:
        return "", f"{THINKING}: no text within {reply.max_tokens} tokens; raise --thinking-budget"
    if reply.finish_reason == "content_filter":
        return clean(reply.text), f"the endpoint's content filter stopped the reply: {shortened(clean(reply.text))}"
    return clean(reply.text), ""
