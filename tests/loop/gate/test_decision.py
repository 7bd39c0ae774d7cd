"""The decision: each check by itself, what takes precedence, retries, and how often equal models pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate.loop.gate.config import GateFields
from palate.loop.gate.decision import CardFacts, Evidence, GateCheck, GateVerdict, WinRateFacts, decide
from palate.stats import length_controlled, position_report, win_rate

GUARD: dict[str, Any] = {"metric": "truthfulqa/mc1", "margin": 0.03, "n": 817, "discordant": 0.1}
CARD = CardFacts(True, 3, "may_decide_alone")


def gate(**keys: Any) -> GateFields:
    values: dict[str, Any] = {"prompts": "p.jsonl", "n": 400, "judge": "j", "guards": [GUARD], **keys}
    return GateFields.model_validate(values)


def win_rates(seed: int, *, theta: float = 0.0, n: int = 400, order: float = 0.3, length: float = 0.5) -> WinRateFacts:
    """A judge that likes first slots and length, on items that differ; `theta` is the candidate's gain in log-odds."""
    rng = np.random.default_rng(seed)
    gaps = rng.normal(0, 300, n)
    item = theta + rng.normal(0, 1.2, n) + length * np.tanh(gaps / 300)
    first, second = (
        np.where(rng.random(n) < 0.1, 0.5, (rng.random(n) < 1 / (1 + np.exp(-item - sign * order))).astype(float))
        for sign in (1, -1)
    )
    return WinRateFacts(
        scores=((first + second) / 2).tolist(),
        shown_first=first.tolist(),
        shown_second=second.tolist(),
        lengths=gaps.tolist(),
        clusters=list(range(n)),
        judge="j",
        by_people=False,
        decoding=None,
        same_prompts=True,
        consistency=0.7,
        leaked=0,
        length_ratio=1.0,
        empty_or_repeated=0.0,
    )


def guard_scores(
    seed: int | None = None, *, n: int = 817, lost: float = 0.05, won: float = 0.05
) -> tuple[list[float], list[float]]:
    """Scores of incumbent and candidate, with these shares of items that only one has right: exact, or drawn."""
    shares = np.array([0.4, lost, won, 0.6 - lost - won])
    counts = np.round(np.cumsum(shares) * n).astype(int)
    cell = np.searchsorted(counts, np.arange(n), side="right")
    if seed is not None:
        cell = np.random.default_rng([seed, 1]).choice(4, n, p=shares)
    return np.isin(cell, (0, 1)).astype(float).tolist(), np.isin(cell, (0, 2)).astype(float).tolist()


def evidence(seed: int = 0, *, theta: float = 1.0, **changes: Any) -> Evidence:
    """Of a candidate that is better by far, and equal on the guard."""
    given: dict[str, Any] = {"guards": {"truthfulqa/mc1": guard_scores()}, "card": CARD, **changes}
    return Evidence(given.pop("winrate", None) or win_rates(seed, theta=theta), **given)


def named(verdict: GateVerdict, name: str) -> GateCheck:
    return next(check for check in verdict.checks if name in check.name)


def with_win_rate(**changes: Any) -> Evidence:
    found = evidence()
    return replace(found, winrate=replace(found.winrate, **changes))


def test_a_better_model_passes_and_the_bounds_are_those_of_the_intervals() -> None:
    found = decide(gate(), evidence())
    assert (found.outcome, found.reasons) == ("PASS", [])
    facts = evidence().winrate
    rows = [*facts.shown_first, *facts.shown_second]
    expected = length_controlled(
        rows, [1] * 400 + [-1] * 400, [*facts.lengths] * 2, [*range(400)] * 2, level=0.9
    ).rate  # the 90 % interval has the one-sided 95 % bounds
    primary = named(found, "length-controlled")
    assert expected is not None
    assert (primary.found, primary.low, primary.high) == (expected.estimate, expected.low, expected.high)
    assert primary.more is None
    before, after = guard_scores()
    # n = 817: the paired t interval; t(816) at 95 % is 1.64674.
    d = np.subtract(after, before)
    low = d.mean() - 1.64674 * d.std(ddof=1) / math.sqrt(817)
    assert named(found, "truthfulqa").low == pytest.approx(low, abs=1e-6)


def test_a_model_that_is_not_shown_to_be_better_is_inconclusive_and_says_what_would_settle_it() -> None:
    found = decide(gate(), evidence(1, theta=0.1))
    assert found.outcome == "INCONCLUSIVE"
    primary = named(found, "win rate")
    assert primary.low is not None
    assert primary.found is not None
    assert primary.more is not None
    assert primary.low < 0.5 < primary.found
    # (z_0.95 + z_0.8)² = 2.486475²; the standard error from the interval's width on the logit scale, t(399) = 1.648682.
    logit = [math.log(x / (1 - x)) for x in (primary.low, primary.found)]
    error = (logit[1] - logit[0]) / 1.648682 * primary.found * (1 - primary.found)
    assert primary.more == pytest.approx((2.486475 * error / (primary.found - 0.5)) ** 2 * 400 - 400, rel=0.02)
    assert f"about {primary.more:,} more prompts" in found.reasons[0]


def test_a_worse_model_fails_and_a_noninferior_mode_needs_less() -> None:
    assert decide(gate(), evidence(theta=-1.0)).outcome == "FAIL"
    equal = evidence(5, theta=0.05)
    assert decide(gate(), equal).outcome == "INCONCLUSIVE"
    assert decide(gate(mode="noninferior", delta=0.05), equal).outcome == "PASS"
    assert decide(gate(mode="noninferior", delta=0.05), evidence(theta=-1.0)).outcome == "FAIL"


def test_a_guard_that_is_shown_to_be_worse_fails_whatever_the_judge_says() -> None:
    worse = evidence(guards={"truthfulqa/mc1": guard_scores(lost=0.15, won=0.02)}, card=None)
    found = decide(gate(), worse)
    assert found.outcome == "FAIL"
    assert "the candidate is worse" in named(found, "truthfulqa").reason
    # As the judge has no card, the win rate alone would not.
    assert decide(gate(), replace(evidence(theta=-1.0), card=None)).outcome == "INCONCLUSIVE"


def test_a_guard_between_is_open_and_one_of_lower_is_better_is_reversed() -> None:
    between = decide(gate(), evidence(guards={"truthfulqa/mc1": guard_scores(lost=0.08, won=0.05)}))
    assert between.outcome == "INCONCLUSIVE"
    assert named(between, "truthfulqa").more is not None
    refusals = {**GUARD, "metric": "xstest/over_refusal", "lower_is_better": True}
    more, fewer = guard_scores(lost=0.02, won=0.15), guard_scores(lost=0.15, won=0.02)
    assert decide(gate(guards=[refusals]), evidence(guards={"xstest/over_refusal": more})).outcome == "FAIL"
    assert decide(gate(guards=[refusals]), evidence(guards={"xstest/over_refusal": fewer})).outcome == "PASS"


def test_a_guard_without_all_its_items_is_open() -> None:
    few = decide(gate(), evidence(guards={"truthfulqa/mc1": guard_scores(n=700)}))
    assert named(few, "truthfulqa").reason == "only 700 of 817 items have a score of both models"
    assert "no result" in named(decide(gate(), evidence(guards={})), "truthfulqa").reason
    assert decide(gate(), evidence(guards={})).outcome == "INCONCLUSIVE"


def test_must_pass_prompts() -> None:
    wanted = gate(must_pass=2)
    assert decide(wanted, evidence(must_pass={"a": True, "b": True})).outcome == "PASS"
    failed = decide(wanted, evidence(must_pass={"a": True, "b": False}))
    assert (failed.outcome, named(failed, "must-pass").reason) == ("FAIL", "1 failed: b")
    assert decide(wanted, evidence(must_pass={"a": True})).outcome == "INCONCLUSIVE"
    assert decide(wanted, evidence()).outcome == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        ({"same_prompts": False}, "prompts of the config", "other prompts were measured"),
        ({"judge": "k"}, "judge of the config", "the judge was k, not j"),
        ({"leaked": 1}, "leaked prompts", "is 1"),
        ({"consistency": 0.55}, "same in both orders", "is 55 %"),
        (
            {"consistency": None, "shown_second": [math.nan] * 400},
            "same in both orders",
            "in one order only",
        ),
        ({"length_ratio": 1.3}, "length ratio", "is 1.3"),
        ({"empty_or_repeated": 0.01}, "empty or repeating", "is 1 %"),
    ],
)
def test_each_miss_is_inconclusive_with_its_reason(changes: dict[str, Any], name: str, reason: str) -> None:
    found = decide(gate(), with_win_rate(**changes))
    assert found.outcome == "INCONCLUSIVE"
    assert [check.name for check in found.checks if check.state != "passed"] == [named(found, name).name]
    assert reason in named(found, name).reason


def test_prompts_without_a_verdict_are_counted() -> None:
    scores = [*evidence().winrate.scores]
    scores[:9] = [math.nan] * 9
    assert named(decide(gate(), with_win_rate(scores=scores)), "share judged").reason == "is 97.75 %"
    nothing = decide(gate(), with_win_rate(scores=[math.nan] * 400))
    assert (nothing.outcome, nothing.raw) == ("INCONCLUSIVE", None)
    short = decide(gate(n=500), evidence())
    assert named(short, "prompts").reason == "is 400"


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "there is none"),
        (replace(CARD, matches=False), "about another judge"),
        (replace(CARD, days=29), "29 days old"),
        (replace(CARD, verdict="invalid", reasons=["a canary won"]), "is invalid: a canary won"),
        (replace(CARD, verdict="not_alone", reasons=["kappa"]), "may not decide alone: kappa"),
    ],
)
def test_the_judge_needs_a_fresh_card(card: CardFacts | None, reason: str) -> None:
    found = decide(gate(), evidence(card=card))
    assert found.outcome == "INCONCLUSIVE"
    assert reason in named(found, "judge card").reason
    assert decide(gate(judge_card=False), evidence(card=card)).outcome == "PASS"
    people = replace(evidence(card=None), winrate=replace(win_rates(0, theta=1), by_people=True, consistency=None))
    assert decide(gate(), people).outcome == "PASS"


def test_decoding_and_latency_are_checked_where_the_config_names_them() -> None:
    fixed = {"max_new_tokens": 256, "temperature": 0.0, "top_p": 1.0, "seed": 42}
    assert decide(gate(decoding=fixed), with_win_rate(decoding=fixed)).outcome == "PASS"
    warm = decide(gate(decoding=fixed), with_win_rate(decoding={**fixed, "temperature": 1.0}))
    assert "'temperature': 1.0" in named(warm, "decoding").reason
    assert "recorded" in named(decide(gate(decoding=fixed), evidence()), "decoding").reason
    for pair, outcome in (((1.0, 1.09), "PASS"), ((1.0, 1.11), "INCONCLUSIVE"), (None, "INCONCLUSIVE")):
        assert decide(gate(latency_p95=0.1), evidence(latency_p95=pair)).outcome == outcome


def test_a_retry_has_half_the_error_rate() -> None:
    first, second, third = (decide(gate(), evidence(3, theta=0.2), attempt=j) for j in (1, 2, 3))
    assert [one.alpha for one in (first, second, third)] == [0.05, 0.025, 0.0125]
    lows = [named(one, "win rate").low for one in (first, second, third)]
    assert lows == sorted(lows, reverse=True)  # type: ignore[type-var]


def test_a_judge_of_slots_is_one_half_and_open() -> None:
    first, second = [1.0] * 400, [0.0] * 400
    found = decide(gate(), with_win_rate(scores=[0.5] * 400, shown_first=first, shown_second=second, consistency=0.0))
    assert win_rate(first, second).rate.estimate == 0.5  # type: ignore[union-attr]
    assert position_report(first, second).p_value < 1e-9
    assert found.outcome == "INCONCLUSIVE"
    assert found.raw is not None
    assert found.raw.estimate == 0.5
    assert named(found, "win rate").state == "open"
    assert named(found, "same in both orders").state == "open"


def test_a_total_win_passes_and_a_total_loss_fails() -> None:
    """Every verdict of 400 prompts is the same; no answer is longer by rule."""
    for share, outcome in ((1.0, "PASS"), (0.0, "FAIL")):
        won = [share] * 400
        found = decide(gate(), with_win_rate(scores=won, shown_first=won, shown_second=won, consistency=1.0))
        assert found.outcome == outcome
        check = named(found, "win rate")
        assert abs(check.found - share) < 0.01  # type: ignore[operator]
        assert check.high - check.low < 0.05  # type: ignore[operator]


def test_a_total_win_by_longer_answers_alone_is_inconclusive() -> None:
    won, gaps = [1.0] * 400, [300.0 + at for at in range(400)]
    found = decide(gate(), with_win_rate(scores=won, shown_first=won, shown_second=won, consistency=1.0, lengths=gaps))
    assert found.outcome == "INCONCLUSIVE"
    assert named(found, "win rate").state == "open"


def test_the_same_answers_everywhere_are_not_called_one_order() -> None:
    even = [0.5] * 400
    same = {"scores": even, "shown_first": even, "shown_second": even, "lengths": [0.0] * 400, "consistency": None}
    assert "are the same" in named(decide(gate(), with_win_rate(**same)), "same in both orders").reason


def test_a_lover_of_length_gives_a_longer_equal_model_no_pass() -> None:
    """The longer candidate wins 70 % of the raw verdicts, by its length alone."""
    outcomes = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gaps = rng.normal(150, 300, 400)
        verdicts = (rng.random(400) < 1 / (1 + np.exp(-3 * np.tanh(gaps / 300)))).astype(float).tolist()
        facts = replace(
            win_rates(seed), scores=verdicts, shown_first=verdicts, shown_second=verdicts, lengths=gaps.tolist()
        )
        found = decide(gate(guards=[]), evidence(winrate=facts, guards={}))
        outcomes.append(found.outcome)
        assert found.raw is not None
        assert found.raw.low > 0.55
    assert outcomes.count("PASS") <= 6  # 5 % of 40 is 2; P(more than 6) is below 1 %


def test_sequential_gates_may_be_looked_at_early() -> None:
    peeking = gate(sequential=True, guards=[])
    early = evidence(winrate=win_rates(1, theta=1.2, n=150), guards={})
    found = decide(peeking, early)
    assert found.outcome == "PASS"
    assert named(found, "win rate").low == found.raw.low  # type: ignore[union-attr]
    assert decide(gate(guards=[]), early).outcome == "INCONCLUSIVE"  # 150 of 400 prompts
    # A clustered set counts its clusters once.
    twice = replace(early.winrate, clusters=[at // 2 for at in range(150)])
    assert decide(peeking, replace(early, winrate=twice)).raw.n == 75  # type: ignore[union-attr]
    unclear = decide(peeking, evidence(winrate=win_rates(2, theta=0.1, n=150), guards={}))
    assert unclear.outcome == "INCONCLUSIVE"


def passes(rounds: int, theta: float, **keys: Any) -> float:
    fixed = gate(**keys)
    drawn = (evidence(seed, theta=theta, guards={"truthfulqa/mc1": guard_scores(seed)}) for seed in range(rounds))
    return sum(decide(fixed, one).outcome == "PASS" for one in drawn) / rounds


GAIN = 0.48
"""Log-odds by which a candidate of `win_rates` has a win rate at equal length of 58.0 %."""


def test_equal_models_rarely_pass_and_better_ones_mostly_do() -> None:
    assert passes(150, 0.0) <= 0.08
    assert passes(60, GAIN) >= 0.7


def test_the_gain_of_the_simulation_is_eight_points() -> None:
    large = win_rates(0, theta=GAIN, n=200_000)
    rows = ([*large.shown_first, *large.shown_second], [1] * 200_000 + [-1] * 200_000)
    rate = length_controlled(*rows, [*large.lengths] * 2, [*range(200_000)] * 2).rate
    assert rate is not None
    assert rate.estimate == pytest.approx(0.58, abs=0.004)


@pytest.mark.slow
def test_a_thousand_equal_models() -> None:
    assert passes(1_000, 0.0) <= 0.05
    assert passes(1_000, 0.0, guards=[]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1_000)


@pytest.mark.slow
def test_eight_points_are_found_in_four_of_five_gates() -> None:
    assert passes(500, GAIN) >= 0.8
