"""Simulated people of the demo: they talk to the gateway through the openai client and say what they think.

They know the demo's two answers to each question. An answer is right for them if its words are nearer to those of the
better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from openai import OpenAI
from rapidfuzz.fuzz import token_set_ratio

from palate.records import PreferencePair

_PEOPLE = 20
_AT_ONCE = 16
_TOKENS = 96
"""An answer that is cut off is not learnt from, and this model likes to go on."""


@dataclass(frozen=True, slots=True)
class GatewayAnswer:
    """An answer of the gateway: its text, the version that wrote it, and the completion's id."""

    text: str
    model: str
    id: str


@dataclass(frozen=True, slots=True)
class Talk:
    """What the people said: corrected answers, choices between two, thumbs up and down."""

    edits: int
    choices: int
    up: int
    down: int


class Client:
    """Talks to the gateway as a chat page would."""

    def __init__(self, url: str, key: str) -> None:
        self._openai = OpenAI(base_url=url, api_key=key, timeout=300)

    def ask(self, question: str) -> GatewayAnswer:
        """The likeliest answer."""
        return self._answers(question, person="visitor", temperature=0)[0][0]

    def ask_all(self, questions: Sequence[str]) -> list[GatewayAnswer]:
        """The likeliest answers, several at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.ask, questions))

    def like(self, question: str) -> str:
        """Ask, and give the answer a thumb up; returns the version that wrote it."""
        answers, token = self._answers(question, person="visitor", temperature=0)
        self._say(token, {"thumbs": "up"})
        return answers[0].model

    def converse(self, number: int, pair: PreferencePair) -> str:
        """Ask a question and send feedback on the answer; returns what was said: edit, choice, up or down."""
        two = number % 4 == 0
        answers, token = self._answers(
            pair.prompt[-1].text,
            person=f"person-{number % _PEOPLE}",
            temperature=1,
            answers=2 if two else 1,
            seed=number,
        )
        right = [_is_right(answer.text, pair) for answer in answers]
        form: dict[str, Any]
        if two and right[0] != right[1]:
            said, form = "choice", {"chosen": right.index(True)}
        elif not right[0] and number % 8 != 1:
            said, form = "edit", {"edit": pair.chosen[-1].text}
        else:
            said = "up" if right[0] else "down"
            form = {"thumbs": said}
        self._say(token, form)
        return said

    def _say(self, token: str, form: dict[str, Any]) -> None:
        """Send feedback."""
        headers = {"x-palate-feedback-token": token}
        self._openai.post("/feedback", body=form, cast_to=object, options={"headers": headers})

    def _answers(
        self, question: str, *, person: str, temperature: float, answers: int = 1, seed: int = 0
    ) -> tuple[list[GatewayAnswer], str]:
        """The answers, and the token for feedback on them."""
        messages: list[Any] = [{"role": "user", "content": question}]
        reply = self._openai.chat.completions.create(
            model="production", messages=messages, user=person, temperature=temperature, n=answers, seed=seed,
            max_completion_tokens=_TOKENS,
        )  # fmt: skip
        found = [GatewayAnswer(choice.message.content or "", reply.model, reply.id) for choice in reply.choices]
        return found, (reply.model_extra or {})["palate"]["feedback_token"]


def talk(client: Client, pairs: Sequence[PreferencePair]) -> Talk:
    """Have a conversation about each pair's question."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        said = list(pool.map(client.converse, range(len(pairs)), pairs))
    return Talk(*(said.count(what) for what in ("edit", "choice", "up", "down")))


def _is_right(answer: str, pair: PreferencePair) -> bool:
    return token_set_ratio(answer, pair.chosen[-1].text) > token_set_ratio(answer, pair.rejected[-1].text)
