"""How much a judge's agreement with people depends on the words of its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from palate.feedback.agreement import judge_agreement
from palate.feedback.calibration.verdicts import ask, scores
from palate.feedback.judging import JudgeQuestion
from palate.feedback.people_votes import PeopleVotes
from palate.records import Judge
from palate.stats import Agreement

FEWEST_PROMPTS = 3
"""A spread is measured over at least this many prompts."""


@runtime_checkable
class PromptedJudge(Protocol):
    """A judge that can be asked with other prompts."""

    def prompts(self) -> Mapping[str, Judge]:
        """The same judge with each of its prompts, by name."""
        ...


@dataclass(frozen=True, slots=True)
class PromptAgreement:
    """The agreement with the majority of people under one prompt; questions with an unreadable or a missing verdict."""

    prompt: str
    agreement: Agreement
    kappa: Agreement
    unparsed: int
    missing: int


@dataclass(frozen=True, slots=True)
class PromptSpread:
    """Agreement over prompts.

    Attributes:
        prompts: one entry per prompt.
        spread: largest minus smallest agreement; None if it was not measured.
        reason: why it was not measured; empty otherwise.
    """

    prompts: tuple[PromptAgreement, ...]
    spread: float | None
    reason: str = ""


def prompt_spread(judge: Judge, asked: Sequence[JudgeQuestion], found: PeopleVotes) -> PromptSpread:
    """Ask about the questions with every prompt of the judge."""
    if not isinstance(judge, PromptedJudge):
        return PromptSpread((), None, "the judge has no prompt")
    if not asked:
        return PromptSpread((), None, "no question was asked with other prompts")
    variants = judge.prompts()
    if len(variants) < FEWEST_PROMPTS:
        return PromptSpread((), None, f"a spread needs {FEWEST_PROMPTS} prompts; the judge has {len(variants)}")
    keys = {question.key for question in asked}
    of_these = PeopleVotes(tuple(vote for vote in found.votes if vote.question in keys), (), (), found.left_out)
    measured = []
    for name, variant in variants.items():
        agreed = judge_agreement(of_these, scores(ask(variant, asked, f"questions judged with the prompt {name}")))
        measured.append(PromptAgreement(name, agreed.agreement, agreed.kappa, agreed.unparsed, agreed.missing))
    known = [one.agreement.estimate for one in measured if one.agreement.estimate is not None]
    if len(known) < FEWEST_PROMPTS:
        return PromptSpread(tuple(measured), None, "fewer than three prompts gave verdicts that could be read")
    return PromptSpread(tuple(measured), max(known) - min(known))
