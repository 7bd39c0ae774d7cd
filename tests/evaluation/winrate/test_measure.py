"""The figures of items made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.winrate.items import VerdictRow, WinRateItem, with_groups
from palate.evaluation.winrate.measure import measure, style_counts, style_differences
from palate.evaluation.winrate.result import Result, SideFacts, band_of
from palate.feedback.candidates import Candidates
from palate.records import Answer, Message


def item(number: int, first: float, second: float, *, a: str = "aaaa", b: str = "bb", **more: Any) -> WinRateItem:
    """A judged item: A's share with A shown first, and with A shown second."""
    row = Candidates(f"p:{number}", (Message("user", f"q{number}"),), (Answer(a, "stop"), Answer(b, "stop")))
    return WinRateItem(
        f"p:{number}", "judged", verdicts=(VerdictRow(first, 1), VerdictRow(second, -1)), row=row, **more
    )


def result(items: list[WinRateItem]) -> Result:
    sides = [SideFacts(name, True, [], 0, 0) for name in ("a.jsonl", "b.jsonl")]
    return Result(*sides, "j", "judge", None, items, measure(items), [], None, {})


def test_counts_and_rate() -> None:
    items = [item(1, 1, 1), item(2, 1, 0), item(3, 0.5, 1), item(4, 0.5, 0.5), item(5, 0, 0)]
    missing = [WinRateItem("p:6", "missing", "why"), WinRateItem("p:7", "unparsed", "what")]
    found = measure([*items, *missing])
    assert found.win_rate.rate is not None
    # 1, ½, ¾, ½, 0
    assert found.win_rate.rate.estimate == pytest.approx(2.75 / 5)
    assert (found.win_rate.wins, found.win_rate.ties, found.win_rate.inconsistent, found.win_rate.losses) == (
        2,
        1,
        1,
        1,
    )
    assert found.win_rate.unparsed == 1
    assert found.bounds == pytest.approx((2.75 / 7, 4.75 / 7))
    assert found.mean_lengths == (4, 2)
    assert found.position is not None
    assert (found.position.first_both, found.position.second_both) == (1, 0)
    assert found.slots is None


def test_items_of_one_prompt_are_a_cluster() -> None:
    twins = [item(1, 1, 1), item(1, 1, 1), item(2, 0, 0), item(2, 0, 0), item(3, 1, 1), item(3, 0.5, 0.5)]
    grouped = measure(with_groups(twins, None)).win_rate.rate
    alone = measure(with_groups([item(n, *(v.share for v in one.verdicts)) for n, one in enumerate(twins)], None))
    assert grouped is not None
    assert alone.win_rate.rate is not None
    assert grouped.n == 3
    assert alone.win_rate.rate.n == 6
    assert grouped.high - grouped.low > alone.win_rate.rate.high - alone.win_rate.rate.low
    by_topic = with_groups(twins, {f"p:{n}": "t" if n < 3 else "u" for n in range(1, 4)})
    assert [one.group for one in by_topic] == ["t", "t", "t", "t", "u", "u"]


def test_equal_scores_do_not_tell_what_n_could_show() -> None:
    assert measure([item(n, 1, 1) for n in range(40)]).power is None


def test_power_is_that_of_the_standard_error() -> None:
    items = [item(n, n % 2, n % 2) for n in range(40)]
    found = measure(items).power
    assert found is not None
    # sd of twenty 1 and twenty 0 with n − 1: √(40·¼/39)
    assert found.sd == pytest.approx(math.sqrt(10 / 39))
    assert found.smallest == pytest.approx(2.486475 * math.sqrt(10 / 39 / 40), rel=1e-5)
    assert found.for_this is None


def test_correction_with_votes_of_people() -> None:
    items = [item(n, n % 2, n % 2) for n in range(40)]
    # People agree with the judge but for one of ten items, on which the judge says that A wins.
    labels = {f"p:{n}": float(n % 2 and n != 1) for n in range(10)}
    found = measure(items, labels=labels).people
    assert found is not None
    assert (found.labelled, found.unlabelled) == (10, 30)
    assert found.ppi.raw.estimate == 0.5
    assert found.ppi.interval is not None
    assert found.ppi.interval.estimate < 0.5
    assert found.accuracy.specificity is not None
    assert found.accuracy.specificity.estimate == pytest.approx(5 / 6)


def test_a_judge_that_takes_the_first_slot_is_flagged_at_exactly_one_half() -> None:
    found = result([item(n, 1, 0, a="a" * n) for n in range(1, 31)])
    assert found.figures.win_rate.rate is not None
    assert found.figures.win_rate.rate.estimate == 0.5
    said = " / ".join(found.findings())
    assert "prefer the answer shown first: the first slot won 30 items in both orders, the second 0" in said
    assert "only 0 % of the verdicts are the same in both orders" in said
    assert found.figures.length_controlled.rate.estimate == pytest.approx(0.5)


def test_a_lover_of_length_is_flagged() -> None:
    """A is longer in two of three items, and the longer one wins but for one item in ten."""
    items = []
    for n in range(90):
        longer = n % 3 != 0
        share = float(longer != (n % 10 == 0))
        items.append(item(n, share, share, a="a" * (60 + n if longer else 20), b="b" * 40))
    found = result(items)
    assert any("control of length moves the win rate by -" in line for line in found.findings())


def test_a_judge_of_its_own_answers_is_flagged() -> None:
    found = result([item(1, 1, 1), item(2, 0, 0)])
    own = SideFacts("openai:m@http://h/v1", False, [], 0, 0)
    flagged = replace(found, a=own, judge="openai:m/criteria-12")
    assert any("is the model of openai:m@http://h/v1" in line for line in flagged.findings())
    other = replace(found, a=own, judge="openai:m2/criteria-12")
    assert not any("is the model of" in line for line in other.findings())


def test_an_interval_around_one_half_is_said_with_the_prompts_that_it_needs() -> None:
    found = result([item(n, n % 5 < 3, n % 5 < 3, a="a" * n) for n in range(40)])
    # sd² = 40·0.24/39; (2.486475 / 0.1)² · sd² = 152.2
    assert "this difference needs about 153 prompts" in found.findings()[0]
    clear = result([item(n, n % 5 < 4, n % 5 < 4, a="a" * n) for n in range(100)])
    assert not any("contains 50 %" in line for line in clear.findings())


def test_worst_regressions_come_first() -> None:
    lost = [item(1, 0, 0.5), item(2, 0, 0, probability=0.3), item(3, 0, 0, probability=0.1), item(4, 1, 1)]
    found = result([*lost, *(item(n, 0, 0, probability=0.4) for n in range(5, 40))])
    assert [one.id for one in found.regressions()][:3] == ["p:3", "p:2", "p:5"]
    assert len(found.regressions()) == 20


@pytest.mark.parametrize(
    ("rate", "band"),
    [(0.499, "below_50"), (0.5, "50_to_60"), (0.6, "60_to_80"), (0.8, "60_to_80"), (0.801, "above_80")],
)
def test_bands(rate: float, band: str) -> None:
    assert band_of(rate) == band


def test_without_a_verdict_there_is_no_figure() -> None:
    with pytest.raises(DataError, match=r"no item was judged: p:1: no key"):
        measure([WinRateItem("p:1", "missing", "no key")])


STYLED = "# One\n\n- a\n- **b**\n1. c\n\n## Two\n```\n# no header\n- no item\n```\n"


def test_counts_are_those_outside_of_code() -> None:
    assert style_counts(STYLED) == (2, 3, 1)
    assert style_counts("a # b - c * d ** e") == (0, 0, 0)


def test_differences_are_normalised() -> None:
    assert style_differences(STYLED, "- one\n") == (1.0, pytest.approx(2 / 4), 1.0)
    assert style_differences("plain", "plain too") == (0.0, 0.0, 0.0)
