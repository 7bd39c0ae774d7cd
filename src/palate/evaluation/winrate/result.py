"""The result of a win rate: figures, findings, the worst regressions, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palate.artifacts import plain
from palate.charts.text import amount
from palate.evaluation.winrate.items import WinRateItem
from palate.evaluation.winrate.leaks import Leaks
from palate.evaluation.winrate.measure import BANDS, Band, Figures
from palate.feedback.calibration.card import JudgeIdentity
from palate.models.generation.decoding import Decoding
from palate.records import as_turns
from palate.stats import FEW_CLUSTERS, LARGE_SHIFT, Interval

WORST = 20
MOST_UNJUDGED = 0.02
LEAST_CONSISTENT = 0.6
_FLAGGED_P = 0.01


@dataclass(frozen=True, slots=True)
class SideFacts:
    """One side in the result.

    Attributes:
        name: as it was given; `recorded` if it is a file of answers.
        identities: content hashes of its weights, as far as known.
        truncated: answers that ended at the longest length.
        empty: answers without text.
    """

    name: str
    recorded: bool
    identities: Sequence[str]
    truncated: int
    empty: int


@dataclass(frozen=True, slots=True)
class Result:
    """A measured win rate of A against B.

    Attributes:
        a, b: the two sides.
        judge, judge_kind: name of the judge, and `judge`, `reward_model`, `rule` or `person`.
        decoding: of the answers that were generated; None if both sides are recorded.
        items: every prompt, in their order.
        figures: over the items; `without_leaks` over those that are in no training data, None if there are no leaks.
        leaks: of each side.
        left_out_votes: votes of people that do not count, by reason.
        judge_identity: of a judge with a name of its own; None for people.
        prompts_hash: of the prompts' content.
        missing: items without an answer or a verdict.
    """

    a: SideFacts
    b: SideFacts
    judge: str
    judge_kind: str
    decoding: Decoding | None
    items: Sequence[WinRateItem]
    figures: Figures
    leaks: Sequence[Leaks]
    without_leaks: Interval | None
    left_out_votes: Mapping[str, int]
    judge_identity: JudgeIdentity | None = None
    prompts_hash: str = ""

    @property
    def missing(self) -> list[WinRateItem]:
        return [item for item in self.items if item.status == "missing"]

    @property
    def unparsed(self) -> list[WinRateItem]:
        return [item for item in self.items if item.status == "unparsed"]

    @property
    def band(self) -> Band | None:
        """The band of the raw win rate."""
        return None if self.figures.win_rate.rate is None else band_of(self.figures.win_rate.rate.estimate)

    def regressions(self) -> list[WinRateItem]:
        """The items that A lost most clearly: lowest score, then lowest probability, then order of the prompts."""
        lost = [item for item in self.items if item.score is not None and item.score < 0.5]
        lost.sort(key=lambda item: (item.score, 0.5 if item.probability is None else item.probability))
        return lost[:WORST]

    def findings(self) -> list[str]:
        """What a reader must know before believing the figures, one sentence each."""
        return [*_about_rate(self), *_about_judge(self), *_about_items(self), *_about_leaks(self)]

    def to_json(self) -> dict[str, Any]:
        """The content of `winrate.json`."""
        figures = plain(self.figures)
        rate = figures.pop("win_rate")
        facts: dict[str, Any] = plain(
            {
                "kind": "winrate",
                "version": 1,
                "a": self.a,
                "b": self.b,
                "judge": self.judge,
                "judge_kind": self.judge_kind,
                "judge_identity": self.judge_identity,
                "decoding": self.decoding,
                "prompts": len(self.items),
                "prompts_hash": self.prompts_hash,
                "win_rate": rate.pop("rate"),
                **rate,
                "band": self.band,
                **figures,
                "left_out_votes": self.left_out_votes,
                "leaks": self.leaks,
                "win_rate_without_leaks": self.without_leaks,
                "findings": self.findings(),
                "regressions": [_regression(item) for item in self.regressions()],
                "items": [item.to_json() for item in self.items],
            }
        )
        return facts


def band_of(rate: float) -> Band:
    """The band of a win rate in [0, 1]."""
    if rate < 0.5:
        return "below_50"
    return "50_to_60" if rate < 0.6 else "60_to_80" if rate <= 0.8 else "above_80"


def _regression(item: WinRateItem) -> dict[str, Any]:
    row = item.row
    assert row is not None  # an item with a score has its answers
    return {
        "id": item.id,
        "score": item.score,
        "prompt": as_turns(row.prompt),
        "a": row.completions[0].text,
        "b": row.completions[1].text,
        "reason": item.reason,
    }


def _about_rate(result: Result) -> list[str]:
    rate, power = result.figures.win_rate.rate, result.figures.power
    if rate is None or 0.5 not in rate:
        return []
    needed = f"; this difference needs about {power.for_this:,} prompts" if power and power.for_this else ""
    return [f"the interval contains 50 %: these prompts do not show which model is better{needed}"]


def _about_judge(result: Result) -> list[str]:
    figures, found = result.figures, []
    found += [
        f"the judge {result.judge} is the model of {side.name}: judges prefer their own answers"
        for side in (result.a, result.b)
        if _is_judge(side, result.judge)
    ]
    position, slots = figures.position, figures.slots
    if position is not None:
        counts = (position.first_both, position.second_both)
        found += _slot_bias(*counts, position.p_value, "items in both orders")
        share = position.consistency.estimate
        if share < LEAST_CONSISTENT:
            least = f"{100 * LEAST_CONSISTENT:.0f} % is the least for a decision"
            found.append(f"only {100 * share:.0f} % of the verdicts are the same in both orders; {least}")
    elif slots is not None:
        found += _slot_bias(slots.first_won, slots.second_won, slots.p_value, "votes")
    raw, controlled = figures.win_rate.rate, figures.length_controlled
    if raw is not None and controlled.rate is not None and abs(controlled.rate.estimate - raw.estimate) > LARGE_SHIFT:
        shift = 100 * (controlled.rate.estimate - raw.estimate)
        found.append(f"control of length moves the win rate by {shift:+.1f} points, more than 10: much of it is length")
    if controlled.rate is None:
        found.append(f"no length-controlled win rate: {controlled.reason}")
    if result.band == "above_80":
        found.append(f"the win rate is {BANDS['above_80'][1]}")
    return found


def _is_judge(side: SideFacts, judge: str) -> bool:
    """Whether a side in an engine is the judge's model; judges over an API are called `openai:MODEL/PROMPT`."""
    model = side.name.rpartition("@")[0]
    return model.startswith("openai:") and f"{model}/" in judge


def _slot_bias(first: int, second: int, p_value: float, unit: str) -> list[str]:
    """A finding if one slot wins more often than the other by more than chance."""
    if p_value >= _FLAGGED_P:
        return []
    slot = "first" if first > second else "second"
    return [
        f"the verdicts prefer the answer shown {slot}: the first slot won {first} {unit}, the second {second} "
        f"(p = {p_value:.2g})"
    ]


def _about_items(result: Result) -> list[str]:
    total, found = len(result.items), []
    unjudged = len(result.missing) + len(result.unparsed)
    if unjudged > MOST_UNJUDGED * total:
        low, high = result.figures.bounds
        found.append(
            f"{unjudged} of {amount(total, 'item')} have no verdict; if A had lost or won all of them the win rate "
            f"would be {100 * low:.1f} or {100 * high:.1f} %"
        )
    rate = result.figures.win_rate.rate
    if rate is not None and rate.n <= FEW_CLUSTERS:
        found.append(f"only {amount(rate.n, 'independent prompt')}: the interval covers less often than it says")
    for side in (result.a, result.b):
        if side.truncated:
            answers = amount(side.truncated, "answer")
            found.append(f"{side.name}: {answers} truncated at the longest length; raise --max-new-tokens")
        if side.empty:
            found.append(f"{side.name}: {amount(side.empty, 'empty answer')}")
    return found


def _about_leaks(result: Result) -> list[str]:
    found = []
    for leaks in result.leaks:
        if leaks.found:
            first = ", ".join(list(leaks.found)[:3])
            found.append(
                f"{len(leaks.found)} of {amount(len(result.items), 'prompt')} are in the training data of {leaks.side} "
                f"(first {first})"
            )
    return found
