"""Fields of a reply: read where they are right, left out where they are missing or of another type."""

from __future__ import annotations

from types import SimpleNamespace as Fields
from typing import Any

import pytest

from palate.errors import EngineError
from palate.models.generation.endpoints.completion import Completion, TokenChoice, read_completion


def reply(message: Any = None, **more: Any) -> Any:
    choice = {name: more.pop(name) for name in ("finish_reason", "logprobs") if name in more}
    return Fields(choices=[Fields(message=message or Fields(content="hi"), **choice)], **more)


def test_a_whole_reply() -> None:
    top = [Fields(token="A", logprob=-0.1), Fields(token="B", logprob=-2.4)]
    found = read_completion(
        reply(
            Fields(content="A", reasoning_content="hm"),
            finish_reason="length",
            logprobs=Fields(content=[Fields(token="A", logprob=-0.1, top_logprobs=top)]),
            usage=Fields(prompt_tokens=7, completion_tokens=3),
            model="m-2",
        ),
        "url",
        retries=2,
    )
    assert found == Completion(
        text="A",
        finish_reason="length",
        reasoning="hm",
        prompt_tokens=7,
        completion_tokens=3,
        model="m-2",
        retries=2,
        url="url",
        tokens=(TokenChoice("A", -0.1, (("A", -0.1), ("B", -2.4))),),
    )


def test_the_least_that_is_a_reply() -> None:
    assert read_completion(reply(Fields(content=None)), "url") == Completion("", "stop", url="url")


@pytest.mark.parametrize("usage", [None, Fields(prompt_tokens="7", completion_tokens=-1), Fields(prompt_tokens=True)])
def test_counts_that_are_no_counts(usage: Any) -> None:
    found = read_completion(reply(usage=usage), "url")
    assert (found.prompt_tokens, found.completion_tokens) == (None, None)


@pytest.mark.parametrize(
    "logprobs",
    [
        Fields(content=7),
        Fields(content=[Fields(token="A")]),
        Fields(content=[Fields(token="A", logprob="much", top_logprobs=None)]),
    ],
)
def test_log_probabilities_of_another_form_are_none(logprobs: Any) -> None:
    assert read_completion(reply(logprobs=logprobs), "url").tokens == ()


@pytest.mark.parametrize("bad", ["<html>", None, Fields(choices=[]), Fields(choices=[Fields()]), Fields(choices=3)])
def test_what_is_no_reply(bad: Any) -> None:
    with pytest.raises(EngineError, match=r"url: the reply has no choices\[0\]"):
        read_completion(bad, "url")


def test_a_secret_is_replaced_in_every_text() -> None:
    found = Completion("a KEY", "KEY", reasoning="KEY", model="KEY").without("KEY")
    assert found == Completion("a <key>", "<key>", reasoning="<key>", model="<key>")
