"""The page of a win rate, and its table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from palate.charts import Row, interval_chart
from palate.charts.text import amount, number, percent
from palate.evaluation.winrate.measure import BANDS, NO_DIFFERENCE
from palate.report.html import render
from palate.report.intervals import json_interval, shown
from palate.report.tables import Table

_LISTED = 20
_STATUS = ("wins", "ties", "inconsistent", "losses", "unparsed", "missing")


def winrate_page(facts: Mapping[str, Any]) -> str:
    """The HTML page of a `winrate.json`."""
    a, b = facts["a"]["name"], facts["b"]["name"]
    tone, sentence = _verdict(facts)
    return render(
        "winrate.html",
        title=f"{a} against {b}",
        subtitle=f"{amount(facts['prompts'], 'prompt')}, judged by {facts['judge']}",
        tone=tone,
        verdict=f"Win rate {shown(json_interval(facts['win_rate']), as_percent=True)}, {sentence}",
        findings=facts["findings"],
        charts=[("Win rate of A with 95 % interval", _chart(facts))],
        figures=Table(("figure", "value"), figure_rows(facts)),
        groups=[
            (title, group_table(facts[key]))
            for title, key in (("By category", "by_category"), ("By length", "by_length"))
            if facts[key]
        ],
        regressions=facts["regressions"],
        losses=facts["losses"],
        left_out=Table(("prompt", "status", "reason"), left_out_rows(facts)),
        left_out_count=left_out_count(facts),
        facts=_measurement(facts),
        names=(a, b),
    )


def _verdict(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The class of the colour and the sentence about the win rate."""
    rate = json_interval(facts["win_rate"])
    if rate is None:
        return "unclear", "no item was judged"
    return NO_DIFFERENCE if 0.5 in rate else BANDS[facts["band"]]


def figure_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(figure, value) of the main figures, for the page and for a terminal."""
    controlled, style = facts["length_controlled"], facts["length_and_style_controlled"]
    rows = [
        ("win rate", shown(json_interval(facts["win_rate"]), as_percent=True)),
        ("length-controlled", _controlled(controlled)),
    ]
    if style is not None:
        rows.append(("length- and style-controlled", _controlled(style)))
    rows += _people_rows(facts["people"])
    counts = {**facts, **facts["counts"]}
    rows.append(("items", ", ".join(f"{counts[name]:,} {name}" for name in _STATUS)))
    if facts["counts"]["same_answer"]:
        rows.append(("equal answers", f"{facts['counts']['same_answer']:,}, counted as ties, not asked about"))
    rows += [
        ("without ties", shown(json_interval(facts["decided"]), as_percent=True)),
        ("sign test", f"p = {number(facts['p_value'], 3)}"),
        *_position_rows(facts),
        *_power_rows(facts),
        ("mean length", f"A {facts['mean_lengths'][0]:,.0f}, B {facts['mean_lengths'][1]:,.0f} characters"),
        *_leak_rows(facts),
    ]
    return rows


def _controlled(found: Mapping[str, Any]) -> str:
    rate = json_interval(found["rate"])
    return shown(rate, as_percent=True) if rate is not None else f"not known: {found['reason']}"


def _people_rows(people: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if people is None:
        return []
    interval = json_interval(people["ppi"]["interval"])
    value = shown(interval, as_percent=True) if interval is not None else f"refused: {people['ppi']['reason']}"
    j = people["accuracy"]["j"]
    known = "" if j is None else f", J of the judge {number(j, 2)}"
    return [("corrected with people (PPI++)", f"{value}, {amount(people['labelled'], 'item')} with votes{known}")]


def _position_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    position, slots = facts["position"], facts["slots"]
    order = json_interval(facts["length_controlled"]["order"])
    beta = "" if order is None else f"; β {shown(order)}"
    if position is not None:
        return [
            ("same in both orders", shown(json_interval(position["consistency"]), as_percent=True)),
            (
                "first slot wins",
                f"{percent(position['first_slot'])}; first slot both times {position['first_both']:,}, second "
                f"both times {position['second_both']:,}, p = {number(position['p_value'], 3)}{beta}",
            ),
        ]
    if slots is not None:
        counts = f"{slots['first_won']:,} against {slots['second_won']:,}, p = {number(slots['p_value'], 3)}"
        return [("first slot wins", f"{percent(slots['first_slot'])}; {counts}{beta}")]
    return []


def _power_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    power = facts["power"]
    if power is None:
        return []
    needed = ", ".join(f"{100 * float(effect):g} points {n:,}" for effect, n in power["needed"].items())
    return [
        ("smallest difference", f"{100 * power['smallest']:.1f} points could be shown (80 % power, one-sided 5 %)"),
        ("prompts needed", needed),
    ]


def _leak_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for side, leaks in zip(("A", "B"), facts["leaks"], strict=True):
        counted = f"{len(leaks['found']):,} of {facts['prompts']:,} prompts in {leaks['trained']:,} training prompts"
        why = leaks["reason"] and f"not checked: {leaks['side']}: {leaks['reason']}"
        rows.append((f"leaked prompts, {side}", why or counted))
    without = json_interval(facts["win_rate_without_leaks"])
    return [*rows, ("win rate without leaks", shown(without, as_percent=True))] if without is not None else rows


def group_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            one["name"],
            f"{one['judged']:,} of {one['items']:,}",
            f"{one['wins']:,}",
            f"{one['losses']:,}",
            shown(json_interval(one["rate"]), as_percent=True),
        )
        for one in groups
    ]
    return Table(("group", "judged", "wins", "losses", "win rate (95 % interval)"), rows, numeric=frozenset({1, 2, 3}))


def left_out_count(facts: Mapping[str, Any]) -> int:
    """Number of items without a verdict."""
    return int(facts["counts"]["missing"] + facts["counts"]["unparsed"])


def left_out_rows(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The first items without a verdict."""
    rows = [item for item in facts["items"] if item["status"] in ("missing", "unparsed")]
    return [(item["id"], item["status"], item.get("reason", "")) for item in rows[:_LISTED]]


def _chart(facts: Mapping[str, Any]) -> Markup:
    people, style = facts["people"], facts["length_and_style_controlled"]
    named: list[tuple[str, Any, str]] = [
        ("raw", facts["win_rate"], "a"),
        ("length-controlled", facts["length_controlled"]["rate"], "a"),
        ("length- and style-controlled", style and style["rate"], "a"),
        ("corrected with people", people and people["ppi"]["interval"], "a"),
        ("without ties", facts["decided"], "d"),
        ("without leaks", facts["win_rate_without_leaks"], "d"),
        *((one["name"], one["rate"], "b") for one in facts["by_category"]),
        *((one["name"], one["rate"], "c") for one in facts["by_length"]),
    ]
    found = [(name, json_interval(item), colour) for name, item, colour in named]
    rows = [Row(name, one.estimate, one.low, one.high, colour) for name, one, colour in found if one is not None]
    return interval_chart("win-rate", "Win rate of A", rows, level=(0.5, "50 %"), narrow=True)


def _measurement(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    decoding = facts["decoding"]
    sampled = (
        f"temperature {decoding['temperature']:g}, top-p {decoding['top_p']:g}, at most {decoding['max_new_tokens']} "
        f"tokens, seed {decoding['seed']}"
        if decoding
        else "recorded"
    )
    sides = [
        (side, f"{facts[side.lower()]['name']}, {', '.join(facts[side.lower()]['identities']) or 'weights not known'}")
        for side in ("A", "B")
    ]
    low, high = facts["bounds"]
    rows = [*sides, ("judge", f"{facts['judge']} ({facts['judge_kind']})"), ("answers", sampled)]
    if facts["left_out_votes"]:
        left_out = ", ".join(f"{reason} {count:,}" for reason, count in facts["left_out_votes"].items())
        rows.append(("votes of people left out", left_out))
    return [*rows, ("if all items without a verdict were lost or won", f"{percent(low)} or {percent(high)}")]
