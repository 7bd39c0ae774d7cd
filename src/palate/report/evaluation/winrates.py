"""Win rates of all judges in one forest plot, by length of the answers, and over sampling temperatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.charts import Axis, Chart, DataPoint, Row, Series, draw, interval_chart
from palate.charts.text import number, shortened
from palate.report.curves import Drawing
from palate.report.document import Document, Section
from palate.report.evaluation.headline import Headline, counted
from palate.report.intervals import json_interval
from palate.report.tables import Cell, Table, figure

WinRates = Sequence[Mapping[str, Any]]
"""The contents of winrate.json files."""
_LONGEST = 30
"""Of a judge's name, in characters; the whole is in the section on the measurement."""
_RATES = (("win rate", "a"), ("length-controlled", "c"))


def win_rate_headline(facts: Mapping[str, Any]) -> Headline | None:
    """The raw win rate; None if no item was judged."""
    rate = json_interval(facts["win_rate"])
    if rate is None:
        return None
    detail = f"judge {_judge_at(facts)}"
    return Headline(
        f"Win rate against {short_name(facts['b']['name'])}", "win_rate", detail, None, rate, None, _unjudged(facts)
    )


def win_rate_section(found: WinRates) -> Section:
    """Every win rate: figures, forest plot, sampling temperatures and lengths."""
    names = [_judge_at(facts) for facts in found]
    rows: list[Sequence[Cell]] = []
    marks: list[Row] = []
    for name, facts in zip(names, found, strict=True):
        for (label, colour), rate in zip(_RATES, _rates(facts), strict=True):
            if rate is not None:
                marks.append(Row(f"{name}, {label}", rate.estimate, rate.low, rate.high, colour))
        controlled = facts["length_controlled"]
        rows.append(
            (
                f"{short_name(facts['a']['name'])} against {short_name(facts['b']['name'])}",
                name,
                figure(facts["win_rate"]),
                figure(controlled["rate"]) if controlled["rate"] else f"not known: {controlled['reason']}",
                *(facts[outcome] for outcome in ("wins", "ties", "inconsistent", "losses")),
                _unjudged(facts),
                f"{facts['a']['truncated']:,} of A, {facts['b']['truncated']:,} of B",
            )
        )
    columns = ("A against B", "judge", "win rate of A", "length-controlled", "wins", "ties", "inconsistent", "losses")
    table = Table((*columns, "left out", "truncated answers"), rows, numeric=frozenset(range(4, 8)))
    lines = ["Share of prompts on which A's answer is preferred; a tie counts ½. 95 % intervals over prompts."]
    charts: list[Drawing] = []
    if marks:
        charts.append(
            ("Win rate of A", interval_chart("win-rates", "Win rate of A", marks, level=(0.5, "50 %"), narrow=True))
        )
    charts += _sweeps(found)
    tables = [("", table)]
    if any(facts["by_length"] for facts in found):
        tables.append(("By ratio of the answers' lengths", _lengths(names, found)))
    return Section("win-rates", "Win rates", lines, charts, tables)


def win_rate_notes(facts: Mapping[str, Any]) -> list[str]:
    """The findings of a win rate, each with its judge and temperature."""
    return [f"{_judge_at(facts)}: {finding}" for finding in facts["findings"]]


def sweep_page(found: WinRates) -> str:
    """The HTML page of a win rate at several temperatures."""
    section = win_rate_section(found)
    first = found[0]
    title = f"{first['a']['name']} against {first['b']['name']}"
    notes = [note for facts in found for note in win_rate_notes(facts)]
    subtitle = f"{first['prompts']:,} prompts at {len(found)} temperatures, judged by {first['judge']}"
    return Document("win rate", title, subtitle, [], notes, [section]).html()


def _sweeps(found: WinRates) -> list[Drawing]:
    """A chart of the win rate against the temperature for each judge that was asked at several."""
    by_judge: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for facts in found:
        if facts["decoding"] is not None:
            by_judge.setdefault((facts["a"]["name"], facts["b"]["name"], facts["judge"]), []).append(facts)
    drawn = []
    for number_, group in enumerate(by_judge.values()):
        if len({facts["decoding"]["temperature"] for facts in group}) > 1:
            drawn.append((f"Win rate by temperature, judge {_judge(group[0])}", _sweep(f"sweep-{number_}", group)))
    return drawn


def _sweep(key: str, group: WinRates) -> Markup:
    ordered = sorted(group, key=lambda facts: float(facts["decoding"]["temperature"]))
    series = []
    for index, (label, colour) in enumerate(_RATES):
        points = [
            DataPoint(float(facts["decoding"]["temperature"]), None, None, rate.estimate, rate.low, rate.high)
            for facts in ordered
            if (rate := _rates(facts)[index]) is not None
        ]
        series.append(Series(label, points, colour, marks=True, shape=index))
    level = Axis("win rate of A", percent=True, levels=[(0.5, "50 %")])
    return draw(Chart(key, "Win rate by temperature", series, level, Axis("sampling temperature")))


def _lengths(names: Sequence[str], found: WinRates) -> Table:
    rows: list[Sequence[Cell]] = [
        (name, group["name"], group["judged"], group["items"] - group["judged"], figure(group["rate"]))
        for name, facts in zip(names, found, strict=True)
        for group in facts["by_length"]
    ]
    return Table(
        ("judge", "length of A's answer", "prompts", "left out", "win rate of A"), rows, numeric=frozenset({2, 3})
    )


def _rates(facts: Mapping[str, Any]) -> tuple[Any, Any]:
    return json_interval(facts["win_rate"]), json_interval(facts["length_controlled"]["rate"])


def _unjudged(facts: Mapping[str, Any]) -> str:
    return counted({name: facts["counts"][name] for name in ("unparsed", "missing")})


def _judge(facts: Mapping[str, Any]) -> str:
    return shortened(short_name(facts["judge"]), _LONGEST)


def _judge_at(facts: Mapping[str, Any]) -> str:
    """The judge, with `, temperature 0.7` where the answers were sampled."""
    decoding = facts["decoding"]
    sampled = decoding and decoding["temperature"]
    return _judge(facts) + (f", temperature {number(decoding['temperature'])}" if sampled else "")


def short_name(name: str) -> str:
    """The last part of a path; other names unchanged."""
    return Path(name).name if "/" in name and "://" not in name and ":" not in name else name
