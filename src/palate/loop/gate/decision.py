"""The decision of a gate: PASS, FAIL or INCONCLUSIVE, with the bound and the margin of every check.

- PASS: every check passed. The candidate may be deployed.
- FAIL: it is shown that the candidate is worse: on a guard or a must-pass prompt, or in a valid win rate.
- INCONCLUSIVE: anything else. The candidate is not deployed; `more` says what would settle it.

All guards must pass (an intersection-union test), so none needs a correction of alpha. Retry j uses alpha / 2^j.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from palate.loop.gate.config import LEAST_PROMPTS, GateFields, GuardFields
from palate.stats import (
    LARGE_SHIFT,
    Interval,
    length_controlled,
    paired_difference,
    rate_interval,
    sequential_interval,
    smallest_effect,
)
from palate.stats.intervals import numbered

Outcome: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE"]
State: TypeAlias = Literal["passed", "failed", "open"]
Part: TypeAlias = Literal["primary", "guard", "range", "validity"]
MAY_DECIDE = "may_decide_alone"
"""The verdict of a judge card that a gate needs."""


@dataclass(frozen=True, slots=True)
class WinRateFacts:
    """The win rate of the candidate against the incumbent, prompt by prompt.

    Attributes:
        scores: [n] mean share of the candidate, NaN without a verdict.
        shown_first, shown_second: [n] its share where it was shown first and second; NaN if it never was.
        lengths: [n] characters of the candidate's answer minus those of the incumbent's.
        clusters: [n] group of each prompt.
        judge: its name. `by_people`: whether the votes are of people.
        decoding: of the answers; None if they are recorded.
        same_prompts: whether they are the prompts of the config, or with `sequential` the first of them.
        consistency: share of equal verdicts in both orders; None if not all were judged in both.
        leaked: prompts in the training data of a side; None if that of neither side is known.
        length_ratio: mean length of the candidate's answers divided by the incumbent's.
        empty_or_repeated: share of the candidate's answers that are empty or end in a repetition.
    """

    scores: Sequence[float]
    shown_first: Sequence[float]
    shown_second: Sequence[float]
    lengths: Sequence[float]
    clusters: Sequence[Hashable]
    judge: str
    by_people: bool
    decoding: Mapping[str, Any] | None
    same_prompts: bool
    consistency: float | None
    leaked: int | None
    length_ratio: float
    empty_or_repeated: float


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The judge's card.

    Attributes:
        matches: whether it is about the judge of the win rate: name, model and prompt.
        days: its age.
        verdict: `may_decide_alone`, `not_alone` or `invalid` (a canary won), with `reasons`.
    """

    matches: bool
    days: float
    verdict: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a gate decides on.

    Attributes:
        winrate: of the candidate.
        guards: metric → scores (incumbent, candidate) of the items that both have.
        must_pass: prompt → whether the candidate passed; None if they were not run.
        latency_p95: of incumbent and candidate, in any unit; None if not measured.
        card: of the judge; None without one.
    """

    winrate: WinRateFacts
    guards: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    must_pass: Mapping[str, bool] | None = None
    latency_p95: tuple[float, float] | None = None
    card: CardFacts | None = None


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One check.

    Attributes:
        part: of the gate.
        name: of the check.
        state: `failed` if it is shown that the candidate is worse, `open` if it is neither shown nor excluded.
        needed: what passes.
        found: the estimate; None if there is none.
        low, high: one-sided lower and upper 1 − alpha bounds; None for a check without error rate.
        reason: why it did not pass; empty if it did.
        more: number of further prompts or items that would settle it with probability 80 % if the true value is the one
            found; None if it passed, or if more prompts cannot help.
    """

    part: Part
    name: str
    state: State
    needed: str
    found: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    more: int | None = None


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The decision.

    Attributes:
        outcome: PASS, FAIL or INCONCLUSIVE.
        attempt: 1 for the first.
        alpha: one-sided error rate of this attempt.
        raw: the win rate without control of length, with the interval of the same two bounds; None without a verdict.
        checks: all of them.
    """

    outcome: Outcome
    attempt: int
    alpha: float
    raw: Interval | None
    checks: tuple[GateCheck, ...]

    @property
    def reasons(self) -> list[str]:
        """Why it is not a PASS: one line for each check that did not pass."""
        return [f"{check.name}: {check.reason}" for check in self.checks if check.state != "passed"]


def decide(config: GateFields, evidence: Evidence, *, attempt: int = 1) -> GateVerdict:
    """Decide on a candidate; the same arguments give the same verdict.

    Args:
        attempt: 1 for the first, j + 1 for retry j.
    """
    alpha = config.alpha / 2 ** (attempt - 1)
    raw, primary = _primary(config, evidence.winrate, alpha)
    guards = [_guard(guard, evidence.guards.get(guard.metric), config.judged, alpha) for guard in config.guards]
    guards += _must_pass(config, evidence.must_pass)
    validity = _validity(config, evidence)
    checks = (primary, *guards, *_ranges(config, evidence), *validity)
    valid = all(check.state == "passed" for check in validity)
    # A judge that is not valid cannot show that the candidate is worse; a guard has no judge.
    if any(check.state == "failed" for check in (*guards, *([primary] if valid else []))):
        outcome: Outcome = "FAIL"
    else:
        outcome = "PASS" if all(check.state == "passed" for check in checks) else "INCONCLUSIVE"
    return GateVerdict(outcome, attempt, alpha, raw, checks)


def _primary(config: GateFields, facts: WinRateFacts, alpha: float) -> tuple[Interval | None, GateCheck]:
    """The raw rate, and the check of the win rate at equal length (with `sequential`: of the raw one)."""
    level = 1 - 2 * alpha
    name = "win rate" if config.sequential else "length-controlled win rate"
    bounds = (config.threshold, 0.5, f"lower bound > {100 * config.threshold:g} %")
    kept = [at for at, score in enumerate(facts.scores) if not math.isnan(score)]
    if not kept:
        return None, _open("primary", name, bounds[2], "no prompt has a verdict")
    scores, clusters = [facts.scores[at] for at in kept], [facts.clusters[at] for at in kept]
    rows = [
        (shares[at], order, facts.lengths[at], facts.clusters[at])
        for shares, order in ((facts.shown_first, 1), (facts.shown_second, -1))
        for at in kept
        if not math.isnan(shares[at])
    ]
    controlled = length_controlled(*(list(column) for column in zip(*rows)), level=level)
    if config.sequential:
        units = numbered(clusters)
        raw = sequential_interval(np.bincount(units, weights=scores) / np.bincount(units), level=level)
    else:
        raw = rate_interval(scores, clusters=clusters if len(set(clusters)) < len(clusters) else None, level=level)
    if controlled.rate is None:
        return raw, _open("primary", name, bounds[2], controlled.reason)
    moved = abs(controlled.rate.estimate - raw.estimate)
    if config.sequential and moved > LARGE_SHIFT:
        return raw, _open("primary", name, bounds[2], f"control of length moves the rate by {100 * moved:.1f} points")
    return raw, _bounded("primary", name, raw if config.sequential else controlled.rate, *bounds, alpha)


def _guard(
    guard: GuardFields, scores: tuple[Sequence[float], Sequence[float]] | None, share: float, alpha: float
) -> GateCheck:
    """Non-inferiority on the paired differences: candidate minus incumbent, reversed if lower values are better."""
    needed = f"lower bound > {-guard.margin:g}"
    if scores is None:
        return _open("guard", guard.metric, needed, "no result of `palate eval bench` has both models")
    worse, better = reversed(scores) if guard.lower_is_better else scores
    if len(better) < max(2, share * guard.n):
        why = f"only {len(better)} of {guard.n} items have a score of both models"
        return _open("guard", guard.metric, needed, why)
    found = paired_difference(worse, better, level=1 - 2 * alpha, resample=False).difference
    return _bounded("guard", guard.metric, found, -guard.margin, -guard.margin, needed, alpha)


def _bounded(
    part: Part, name: str, found: Interval, passing: float, failing: float, needed: str, alpha: float
) -> GateCheck:
    """A check that passes with a lower bound above `passing` and fails with an upper one below `failing`."""
    estimate, low, high = found.estimate, found.low, found.high
    if low > passing:
        return GateCheck(part, name, "passed", needed, estimate, low, high)
    if high < failing:
        why = f"the upper bound {high:.4f} is below {failing:g}: the candidate is worse"
        return GateCheck(part, name, "failed", needed, estimate, low, high, why)
    more = _more(found, passing, failing, alpha)
    unit = "prompts" if part == "primary" else "items"
    settle = f"more {unit} cannot settle it" if more is None else f"about {more:,} more {unit} would settle it"
    why = f"the lower bound {low:.4f} is not above {passing:g}; {settle}"
    return GateCheck(part, name, "open", needed, estimate, low, high, why, more)


def _more(found: Interval, passing: float, failing: float, alpha: float) -> int | None:
    """Units beyond n after which the bound is on the right side of the margin with probability 80 %.

    A bound comes nearer to the estimate as 1/√n; it must come to z_{1−α} / (z_{1−α} + z_0.8) of the gap to the margin.
    """
    better = found.estimate > passing
    gap = found.estimate - passing if better else failing - found.estimate
    distance = found.estimate - found.low if better else found.high - found.estimate
    if gap <= 0 or not 0 < distance < math.inf:
        return None
    distance *= smallest_effect(1, alpha=alpha) / smallest_effect(1, alpha=alpha, power=0.5)
    return max(1, math.ceil(found.n * ((distance / gap) ** 2 - 1)))


def _must_pass(config: GateFields, results: Mapping[str, bool] | None) -> list[GateCheck]:
    if config.must_pass == 0:
        return []
    name, needed, results = "must-pass prompts", f"{config.must_pass} prompts, none fails", results or {}
    failed = [prompt for prompt, passed in results.items() if not passed]
    if failed:
        return [GateCheck("guard", name, "failed", needed, reason=f"{len(failed)} failed: {', '.join(failed[:5])}")]
    complete = len(results) >= config.must_pass
    return [_check("guard", name, needed, complete, f"only {len(results)} of {config.must_pass} prompts were run")]


def _ranges(config: GateFields, evidence: Evidence) -> list[GateCheck]:
    (low, high), ratio, share = config.length_ratio, evidence.winrate.length_ratio, evidence.winrate.empty_or_repeated
    most = f"at most {100 * config.empty_or_repeated:g} %"
    found = [
        _check("range", "length ratio", f"{low:g} to {high:g}", low <= ratio <= high, found=ratio),
        _check("range", "empty or repeating answers", most, share <= config.empty_or_repeated, found=share),
    ]
    if config.latency_p95 is not None:
        measured, needed = evidence.latency_p95, f"at most +{100 * config.latency_p95:g} %"
        change = None if measured is None else measured[1] / measured[0] - 1
        holds, why = change is not None and change <= config.latency_p95, "" if measured else "was not measured"
        found.append(_check("range", "latency p95", needed, holds, why, change))
    return found


def _validity(config: GateFields, evidence: Evidence) -> list[GateCheck]:
    facts, same = evidence.winrate, "the same"
    asked = len(facts.scores)
    judged = sum(not math.isnan(score) for score in facts.scores) / max(1, asked)
    complete = LEAST_PROMPTS <= asked <= config.n if config.sequential else asked == config.n
    amount = f"{LEAST_PROMPTS} to {config.n}" if config.sequential else f"{config.n}"
    other = f"the judge was {facts.judge}, not {config.judge}"
    found = [
        _check("validity", "prompts", amount, complete, found=asked),
        _check("validity", "prompts of the config", same, facts.same_prompts, "other prompts were measured"),
        _check("validity", "judge of the config", same, facts.judge == config.judge, other),
        _check(
            "validity", "share judged", f"at least {100 * config.judged:g} %", judged >= config.judged, found=judged
        ),
        _check("validity", "leaked prompts", "0, where known", not facts.leaked, found=facts.leaked),
    ]
    if config.decoding is not None:
        other = "the answers are recorded" if facts.decoding is None else f"the decoding was {dict(facts.decoding)}"
        equal = facts.decoding == config.decoding.resolved()
        found.append(_check("validity", "decoding of the config", same, equal, other))
    if facts.by_people:
        return found
    share, why = facts.consistency, ""
    if share is None:
        rows = zip(facts.scores, facts.shown_first, facts.shown_second, strict=True)
        in_both = [not math.isnan(first + second) for score, first, second in rows if not math.isnan(score)]
        if not in_both:
            why = "no prompt has a verdict"
        elif all(in_both):
            why = "all answers of the two models are the same, so the judge was asked nothing"
        else:
            why = "prompts were judged in one order only"
    needed = f"at least {100 * config.consistency:g} %"
    found.append(_check("validity", "same in both orders", needed, (share or 0) >= config.consistency, why, share))
    return [*found, *([_card(config, evidence.card)] if config.judge_card else [])]


def _card(config: GateFields, card: CardFacts | None) -> GateCheck:
    if card is None:
        why = "there is none; `palate judge calibrate` makes it"
    elif not card.matches:
        why = "it is about another judge, model or prompt"
    elif card.verdict != MAY_DECIDE:
        word = "is invalid" if card.verdict == "invalid" else "may not decide alone"
        why = f"the judge {word}: {'; '.join(card.reasons)}"
    else:
        why = f"it is {card.days:.0f} days old" if not 0 <= card.days <= config.card_days else ""
    return _check("validity", "judge card", f"may decide alone, at most {config.card_days:g} days old", not why, why)


def _check(part: Part, name: str, needed: str, holds: bool, why: str = "", found: float | None = None) -> GateCheck:
    """A check without bounds; `why` says why it does not hold, by default what was found."""
    reason = "" if holds else why or (f"is {100 * (found or 0):.4g} %" if needed.endswith("%") else f"is {found:.4g}")
    return GateCheck(part, name, "passed" if holds else "open", needed, found, reason=reason)


def _open(part: Part, name: str, needed: str, why: str) -> GateCheck:
    return GateCheck(part, name, "open", needed, reason=why)
