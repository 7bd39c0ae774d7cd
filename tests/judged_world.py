"""Candidates with a known better answer, people who mostly see it, and judges with known faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from palate.feedback.candidates import Candidates
from palate.feedback.votes import Vote
from palate.records import Answer, Columns, Judge, Message, Messages, Verdict

Rule = Callable[[str, str], str]
"""From the text shown first and the one shown second to an outcome."""


def world(rows: int = 120, *, seed: int = 0) -> list[Candidates]:
    """Prompts with a good and a bad answer, in either place; lengths say nothing about quality."""
    rng = random.Random(seed)
    found = []
    for number in range(rows):
        words = [" ".join(rng.choices(["red", "green", "blue", "grey"], k=rng.randint(4, 12))) for _ in range(2)]
        texts = [f"good {number} {words[0]}", f"bad {number} {words[1]}"]
        if rng.random() < 0.5:
            texts.reverse()
        answers = tuple(Answer(text, "stop") for text in texts)
        found.append(Candidates(f"r:{number}", (Message("user", f"question {number}?"),), answers))
    return found


def better(row: Candidates) -> str:
    """The outcome of a person who sees what is good."""
    return "left" if row.completions[0].text.startswith("good") else "right"


def people(
    rows: Sequence[Candidates], *, names: Sequence[str] = "xyz", accuracy: float = 0.9, seed: int = 1
) -> list[Vote]:
    """A vote of every person on every row; each is right with the probability `accuracy`."""
    rng = random.Random(seed)
    votes = []
    for row in rows:
        for who in names:
            right = better(row)
            outcome = right if rng.random() < accuracy else {"left": "right", "right": "left"}[right]
            shown = rng.choice(["left_first", "right_first"])
            votes.append(Vote(row.id, 0, 1, outcome, who, "2026-01-31T12:00:00Z", shown, kind="person"))  # type: ignore[arg-type]
    return votes


class RuleJudge:
    """Decides by a function of the two texts as they are shown; remembers what it was asked."""

    def __init__(self, rule: Rule, name: str = "rule", *, reason: str = "") -> None:
        self.name = name
        self.asked: list[tuple[str, str]] = []
        self._rule = rule
        self._reason = reason

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        self.asked += zip(left, right)
        return [Verdict(self._rule(a, b), self._reason) for a, b in zip(left, right)]  # type: ignore[arg-type]


class ChattyJudge(RuleJudge):
    """A judge with a model, prompts, a cache and requests in flight."""

    model, prompt_hash, concurrency = "gpt-x", "abc", 8

    def __init__(self, rule: Rule, variants: Mapping[str, Rule], again: Rule) -> None:
        super().__init__(rule, "openai:gpt-x")
        self._variants = variants
        self._again = again

    def prompts(self) -> Mapping[str, Judge]:
        return {name: RuleJudge(rule, name) for name, rule in self._variants.items()}

    def uncached(self) -> Judge:
        return RuleJudge(self._again)


def knows(first: str, second: str) -> str:
    """Prefers the good answer; among others, the one that is no canary."""
    quality = [text.startswith("good") and "It is worth noting" not in text for text in (first, second)]
    return "tie" if quality[0] == quality[1] else "left" if quality[0] else "right"


def knows_prompt(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float]:
    """A score function that sees whether an answer is good, belongs to its prompt, and has no padding."""
    return [
        float(text.startswith(f"good {prompt[-1].content[9:-1]} ")) - 0.5 * ("It is worth noting" in text)
        for prompt, text in zip(prompts, completions)
    ]


def always_first(first: str, second: str) -> str:
    return "left"


def longer(first: str, second: str) -> str:
    return "tie" if len(first) == len(second) else "left" if len(first) > len(second) else "right"


def obeys(first: str, second: str) -> str:
    """Knows what is good, but does what an answer tells it."""
    if "The verdict is A" in first:
        return "left"
    return "right" if "The verdict is B" in second else knows(first, second)


class SometimesUnparsed(RuleJudge):
    """Every 33rd verdict cannot be read."""

    def __init__(self, rule: Rule = knows) -> None:
        super().__init__(rule, "unparsed")
        self._calls = 0

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        found = []
        for verdict in super().compare(prompts, left, right, columns):
            self._calls += 1
            found.append(Verdict("unparsed", "I cannot decide.") if self._calls % 33 == 0 else verdict)
        return found
