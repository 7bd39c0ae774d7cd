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

from palate.loop.gate_config import LEAST_PROMPTS, FrozenGate, GateFields, GuardFields
from palate.stats import (
    LARGE_SHIFT,
    Interval,
    items_needed,
    length_controlled,
    paired_difference,
    rate_interval,
    sequential_interval,
    standard_error,
)

Outcome: TypeAlias = Literal["PASS", "FAIL", "INCONCLUSIVE"]
State: TypeAlias = Literal["passed", "failed", "open"]
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
        judge: its name. `by_people`: whether it stands for votes of people.
        decoding: of the answers; None if they are recorded.
        same_prompts: whether they are the prompts of the config, or with `sequential` the first of them.
        consistency: share of equal verdicts in both orders; None if not all were judged in both.
        leaked: prompts in the training data of a side.
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
    leaked: int
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
class Check:
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

    part: Literal["primary", "guard", "range", "validity"]
    name: str
    state: State
    needed: str
    found: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    more: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
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
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """Why it is not a PASS: one line for each check that did not pass."""
        return [f"{check.name}: {check.reason}" for check in self.checks if check.state != "passed"]


def decide(gate: FrozenGate, evidence: Evidence, *, attempt: int = 1) -> Verdict:
    """Decide on a candidate; the same arguments give the same verdict.

    Args:
        gate: fixed before the candidate was measured.
        evidence: about the candidate.
        attempt: 1 for the first, j + 1 for retry j.
    """
    config = gate.config
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
    return Verdict(outcome, attempt, alpha, raw, checks)


def _primary(config: GateFields, facts: WinRateFacts, alpha: float) -> tuple[Interval | None, Check]:
    """The raw rate, and the check of the win rate at equal length (with `sequential`: of the raw one)."""
    level = 1 - 2 * alpha
    threshold = config.threshold
    needed = f"lower bound > {100 * threshold:g} %"
    kept = [at for at, score in enumerate(facts.scores) if not math.isnan(score)]
    if not kept:
        return None, Check("primary", "win rate", "open", needed, reason="no prompt has a verdict")
    scores, clusters = [facts.scores[at] for at in kept], [facts.clusters[at] for at in kept]
    rows = [
        (shares[at], order, facts.lengths[at], facts.clusters[at])
        for shares, order in ((facts.shown_first, 1), (facts.shown_second, -1))
        for at in kept
        if not math.isnan(shares[at])
    ]
    controlled = length_controlled(*(list(column) for column in zip(*rows)), level=level)
    if config.sequential:
        units = _unit_means(scores, clusters)
        raw = sequential_interval(units, level=level)
        moved = None if controlled.rate is None else abs(controlled.rate.estimate - raw.estimate)
        if moved is None or moved > LARGE_SHIFT:
            why = controlled.reason or f"control of length moves the rate by {100 * (moved or 0):.1f} points"
            return raw, Check("primary", "win rate", "open", needed, raw.estimate, raw.low, raw.high, why)
        return raw, _bounded("primary", "win rate", raw, threshold, 0.5, needed, _sequential_more(raw, threshold))
    several = clusters if len(set(clusters)) < len(clusters) else None
    raw = rate_interval(scores, clusters=several, level=level)
    rate, error = controlled.rate, controlled.standard_error
    if rate is None or error is None:
        return raw, Check("primary", "length-controlled win rate", "open", needed, reason=controlled.reason)
    more = _more(rate.estimate, threshold, 0.5, error, rate.n, alpha)
    return raw, _bounded("primary", "length-controlled win rate", rate, threshold, 0.5, needed, more)


def _guard(
    guard: GuardFields, scores: tuple[Sequence[float], Sequence[float]] | None, share: float, alpha: float
) -> Check:
    """Non-inferiority on the paired differences: candidate minus incumbent, reversed if lower values are better."""
    needed = f"lower bound > {-guard.margin:g}"
    if scores is None:
        return Check("guard", guard.metric, "open", needed, reason="no result of `palate eval bench` has both models")
    worse, better = reversed(scores) if guard.lower_is_better else scores
    count = len(better)
    if count < max(2, share * guard.n):
        why = f"only {count} of {guard.n} items have a score of both models"
        return Check("guard", guard.metric, "open", needed, reason=why)
    found = paired_difference(worse, better, level=1 - 2 * alpha, resample=False).difference
    error = standard_error(np.subtract(better, worse))
    more = _more(found.estimate, -guard.margin, -guard.margin, error, count, alpha)
    return _bounded("guard", guard.metric, found, -guard.margin, -guard.margin, needed, more)


def _bounded(
    part: Literal["primary", "guard"],
    name: str,
    found: Interval,
    passing: float,
    failing: float,
    needed: str,
    more: int | None,
) -> Check:
    """A check that passes with a lower bound above `passing` and fails with an upper one below `failing`."""
    state: State = "passed" if found.low > passing else "failed" if found.high < failing else "open"
    reason, unit = "", "prompts" if part == "primary" else "items"
    if state == "failed":
        reason = f"the upper bound {found.high:.4f} is below {failing:g}: the candidate is worse"
    elif state == "open":
        settle = "more of them cannot settle it" if more is None else f"about {more:,} more {unit} would settle it"
        reason = f"the lower bound {found.low:.4f} is not above {passing:g}; {settle}"
    return Check(
        part, name, state, needed, found.estimate, found.low, found.high, reason, more if state == "open" else None
    )


def _more(found: float, passing: float, failing: float, error: float, n: int, alpha: float) -> int | None:
    """Units beyond n after which the bound is on the right side of the margin with probability 80 %."""
    gap = found - passing if found > passing else failing - found
    if gap <= 0 or not 0 < error < math.inf:
        return None
    return max(1, items_needed(gap, error * math.sqrt(n), alpha=alpha) - n)


def _sequential_more(found: Interval, passing: float) -> int | None:
    """Units until the bound of the sequence, whose width shrinks about as 1/√n, reaches the threshold."""
    gap = found.estimate - passing if found.estimate > passing else 0.5 - found.estimate
    half = found.estimate - found.low if found.estimate > passing else found.high - found.estimate
    return None if gap <= 0 else max(1, math.ceil(found.n * ((half / gap) ** 2 - 1)))


def _unit_means(scores: Sequence[float], clusters: Sequence[Hashable]) -> list[float]:
    """The mean of each cluster, in the order of the first items."""
    units: dict[Hashable, list[float]] = {}
    for score, cluster in zip(scores, clusters, strict=True):
        units.setdefault(cluster, []).append(score)
    return [sum(unit) / len(unit) for unit in units.values()]


def _must_pass(config: GateFields, results: Mapping[str, bool] | None) -> list[Check]:
    if config.must_pass == 0:
        return []
    needed = f"{config.must_pass} prompts, none fails"
    failed = [name for name, passed in (results or {}).items() if not passed]
    if failed:
        names = ", ".join(failed[:5])
        return [Check("guard", "must-pass prompts", "failed", needed, reason=f"{len(failed)} failed: {names}")]
    count = len(results or {})
    why = "" if count >= config.must_pass else f"only {count} of {config.must_pass} prompts were run"
    return [Check("guard", "must-pass prompts", "open" if why else "passed", needed, reason=why)]


def _ranges(config: GateFields, evidence: Evidence) -> list[Check]:
    facts, (low, high) = evidence.winrate, config.length_ratio
    found = [
        _simple("range", "length ratio", low <= facts.length_ratio <= high, f"{low:g} to {high:g}", facts.length_ratio),
        _simple(
            "range",
            "empty or repeating answers",
            facts.empty_or_repeated <= config.empty_or_repeated,
            f"at most {100 * config.empty_or_repeated:g} %",
            facts.empty_or_repeated,
        ),
    ]
    if config.latency_p95 is not None:
        needed = f"at most +{100 * config.latency_p95:g} %"
        if evidence.latency_p95 is None:
            found.append(Check("range", "latency p95", "open", needed, reason="was not measured"))
        else:
            change = evidence.latency_p95[1] / evidence.latency_p95[0] - 1
            found.append(_simple("range", "latency p95", change <= config.latency_p95, needed, change))
    return found


def _validity(config: GateFields, evidence: Evidence) -> list[Check]:
    facts = evidence.winrate
    asked = len(facts.scores)
    judged = sum(not math.isnan(score) for score in facts.scores) / asked if asked else 0.0
    complete = LEAST_PROMPTS <= asked <= config.n if config.sequential else asked == config.n
    amount = f"{LEAST_PROMPTS} to {config.n}" if config.sequential else f"{config.n}"
    found = [
        _simple("validity", "prompts", complete, amount, asked),
        _same("prompts of the config", facts.same_prompts, "the win rate was measured on other prompts"),
        _same("judge of the config", facts.judge == config.judge, f"the judge was {facts.judge}, not {config.judge}"),
        _simple("validity", "share judged", judged >= config.judged, f"at least {100 * config.judged:g} %", judged),
        _simple("validity", "leaked prompts", facts.leaked == 0, "0", facts.leaked),
    ]
    if config.decoding is not None:
        wanted = config.decoding.resolved()
        why = "the answers are recorded" if facts.decoding is None else f"the decoding was {dict(facts.decoding)}"
        found.append(_same("decoding of the config", facts.decoding == wanted, why))
    if facts.by_people:
        return found
    needed = f"at least {100 * config.consistency:g} %"
    if facts.consistency is None:
        found.append(
            Check("validity", "same in both orders", "open", needed, reason="prompts were judged in one order only")
        )
    else:
        same = facts.consistency >= config.consistency
        found.append(_simple("validity", "same in both orders", same, needed, facts.consistency))
    return [*found, *([_card(config, evidence.card)] if config.judge_card else [])]


def _card(config: GateFields, card: CardFacts | None) -> Check:
    if card is None:
        why = "there is none; `palate judge calibrate` makes it"
    elif not card.matches:
        why = "it is about another judge, model or prompt"
    elif card.verdict != MAY_DECIDE:
        why = f"the judge {'is invalid' if card.verdict == 'invalid' else 'may not decide alone'}: " + "; ".join(
            card.reasons
        )
    else:
        why = f"it is {card.days:.0f} days old" if not 0 <= card.days <= config.card_days else ""
    needed = f"may decide alone, at most {config.card_days:g} days old"
    return Check("validity", "judge card", "open" if why else "passed", needed, reason=why)


def _simple(part: Literal["range", "validity"], name: str, holds: bool, needed: str, found: float) -> Check:
    return Check(part, name, "passed" if holds else "open", needed, found, reason="" if holds else f"is {found:.4g}")


def _same(name: str, holds: bool, why: str) -> Check:
    return Check("validity", name, "passed" if holds else "open", "the same", reason="" if holds else why)
