"""Makes pairs from a model's answers: K answers are sampled and judged, or an answer is criticised and revised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from palate.data.augment.made import Made, new_pair, with_last
from palate.data.augment.principles import BUILTIN
from palate.data.scores import checked_scores, columns_of
from palate.data.turns.cells import RowError
from palate.data.turns.messages import assistant
from palate.records import Judge, Message, Messages, PreferencePair, Record, RewardFunction, plain_text

PRINCIPLES = tuple(principle.text for principle in BUILTIN[:3])
"""Default criteria for revisions."""

CRITIQUE = (
    "Here are a request and an answer to it.\n\nRequest: {asked}\n\nAnswer: {answer}\n\nPrinciple: {principle}\n\n"
)
FIND = "In one or two sentences: where does the answer fall short of the principle?"
REVISE = "Criticism: {criticism}\n\nWrite a better answer to the request. Reply with the answer only."


class Sampler(Protocol):
    """Generates answers; the caller has the model."""

    def sample(
        self, prompts: Sequence[Messages], k: int, *, seed: int, tools: Sequence[str | None] | None = None
    ) -> list[list[str]]:
        """K answers to each prompt, in the order of the prompts; `tools` as in `Record`, one for each prompt."""
        ...


def judged_pair(
    record: PreferencePair,
    answers: Sequence[str],
    scores: Sequence[float | None],
    *,
    by: Literal["best_worst", "margin"] = "best_worst",
    min_margin: float = 0.0,
    writers: Sequence[str] = (),
    seed: int = 0,
) -> PreferencePair:
    """A pair of the best of K sampled answers as chosen and a worse one as rejected.

    Args:
        record: the record with the prompt; its answers are not used.
        answers, scores: K answers and their scores (higher is better); answers without a score are left out.
        by: which answer is rejected: the worst (`best_worst`), or the best of those that are worse by at least
            `min_margin` (`margin`), which gives a harder pair.
        writers: the model that wrote each answer, if known.
    """
    named = writers or [""] * len(answers)
    scored = [(s, answer, by) for s, answer, by in zip(scores, answers, named, strict=True) if s is not None]
    if len(scored) < 2:
        raise RowError("no_score", f"{len(scored)} of {len(answers)} answers have a score; a pair needs 2")
    ranked = sorted(scored, key=lambda found: -found[0])
    best_score, best, best_by = ranked[0]
    worse = [found for found in ranked if best_score - found[0] > 0 and best_score - found[0] >= min_margin]
    worse = [found for found in worse if found[1].strip() and plain_text(found[1]) != plain_text(best)]
    if not worse or not best.strip():
        raise RowError(
            "tie", f"no answer is worse than the best by {min_margin:g}: scores {[round(s, 3) for s, _, _ in scored]}"
        )
    score, answer, worse_by = worse[-1] if by == "best_worst" else worse[0]
    model = best_by if best_by == worse_by else f"{best_by} over {worse_by}"
    made = Made("sampled", record.id, model=model, seed=seed, note=f"score {best_score:.3g} over {score:.3g}")
    return new_pair(record, made, chosen=assistant(best), rejected=assistant(answer))


def reward_scores(reward: RewardFunction, record: Record, answers: Sequence[str]) -> list[float | None]:
    """The scores of the answers to a record's prompt; for a judge, `reward` is its `data.scores.WinShare`."""
    columns = _columns(record, len(answers))
    return checked_scores("the reward", reward, [record.prompt] * len(answers), answers, columns)


def _columns(record: Record, answers: int) -> dict[str, list[Any]]:
    """The columns of a row, repeated for each of its answers."""
    tools = {"tools": record.tools} if record.tools else {}
    return columns_of([{**record.extra, **tools}] * answers)


def revised(
    record: PreferencePair, sampler: Sampler, model: str, principles: Sequence[str], seed: int, judge: Judge | None
) -> PreferencePair:
    """A pair of the rejected answer and its revision (chosen): a model criticises the answer, then revises it.

    With a judge, the pair is kept only if the judge prefers the revision in both orders.
    """
    principle = principles[sum(record.id.encode()) % len(principles)]
    before = record.rejected[-1].content
    case = CRITIQUE.format(asked=record.prompt[-1].content, answer=before, principle=principle)
    ((criticism,),) = sampler.sample([(Message("user", case + FIND),)], 1, seed=seed)
    revise = case + REVISE.format(criticism=criticism.strip())
    ((better,),) = sampler.sample([(Message("user", revise),)], 1, seed=seed + 1)
    if not better.strip():
        raise RowError("empty_answer", "the revision is empty")
    if judge is not None:
        columns = _columns(record, 2)
        first, second = judge.compare([record.prompt] * 2, [better, before], [before, better], columns)
        if (first.outcome, second.outcome) != ("left", "right"):
            raise RowError("not_better", f"{judge.name} does not prefer the revision in both orders")
    made = Made("revised", record.id, model=model, seed=seed, note=principle)
    return new_pair(record, made, chosen=with_last(record.rejected, better.strip()), rejected=record.rejected)
