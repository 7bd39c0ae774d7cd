"""Preference accuracy, its calibration, and the margin against the difference in length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palate.charts import Row, interval_chart
from palate.evaluation.accuracy.grouping import GAP
from palate.report.calibration import bin_table, calibration_note, group_tables, reliability_chart
from palate.report.contents import mapping
from palate.report.curves import accuracy_chart
from palate.report.document import Section
from palate.report.evaluation.headline import Headline, counted
from palate.report.intervals import json_interval
from palate.report.key_figures import prompts_of
from palate.report.tables import Cell, Table, figure


def accuracy_headline(facts: Mapping[str, Any], pairs: str) -> Headline:
    """The accuracy of a policy and its reference, or of a reward model."""
    after = json_interval(facts.get("policy")) or json_interval(facts["reward"])
    if after is None:
        raise ValueError("the accuracy is no interval")
    prompts = prompts_of(facts)
    detail = f"{pairs}: {facts['n']:,}" + (f" of {prompts:,} prompts" if prompts else "")
    left_out = counted({"pairs": facts["left_out"]}) if "left_out" in facts else "not recorded"
    ends = json_interval(facts.get("reference")), after, json_interval(facts.get("change"))
    return Headline("Preference accuracy", "accuracy", detail, *ends, left_out)


def accuracy_section(key: str, pairs: str, facts: Mapping[str, Any]) -> Section:
    """Accuracies before and after, in all and by group, and the calibration of the preference probability."""
    rows: list[Sequence[Cell]] = [
        (name, figure(facts[kind], "number" if kind == "margin" else "points" if kind == "change" else "percent"))
        for kind, name in (
            ("reference", "before: own log-probability of the reference"),
            ("policy", "after: own log-probability of the policy"),
            ("change", "change, paired by pair"),
            ("implied", "implied reward: log π/π_ref higher for chosen"),
            ("reward", "reward model"),
            ("margin", "margin of chosen over rejected, in " + ("log-odds" if "reward" in facts else "nats")),
        )
        if kind in facts
    ]
    rows += [
        ("pairs", facts["n"]),
        ("prompts", prompts_of(facts) or "–"),
        ("pairs left out", facts.get("left_out", "–")),
    ]
    charts = [("Preference accuracy", drawn)] if (drawn := accuracy_chart(facts, key=f"{key}-rates")) else []
    tables = [("", Table(("figure", "value"), rows)), *(("", table) for table in group_tables(facts))]
    lines = ["95 % intervals; the pairs of one prompt are one unit."]
    curve, bins = reliability_chart(facts, key=f"{key}-calibration"), bin_table(facts)
    if curve is not None and bins is not None:
        charts.append(("Calibration of the preference probability", curve))
        tables.append(("Calibration of the preference probability", bins))
        lines.append(f"Calibration: {calibration_note(facts)}.")
    return Section(key, f"Accuracy on {pairs}", lines, charts, tables)


def margin_section(key: str, pairs: str, facts: Mapping[str, Any]) -> Section | None:
    """Mean margin by the difference in length of chosen and rejected; None if it was not measured."""
    groups = mapping(mapping(facts.get("groups")).get(GAP))
    found = [(str(name), json_interval(mapping(group).get("margin"))) for name, group in groups.items()]
    marks = [Row(f"{name} tokens", one.estimate, one.low, one.high) for name, one in found if one is not None]
    if not marks:
        return None
    unit, title = "log-odds" if "reward" in facts else "nats", "Margin by difference in length"
    chart = interval_chart(f"{key}-lengths", title, marks, unit=f"margin, {unit}", narrow=True)
    rows: list[Sequence[Cell]] = [
        (str(name), group["n"], figure(group["margin"], "number")) for name, group in groups.items()
    ]
    table = Table(("chosen − rejected, tokens", "pairs", f"margin, {unit}"), rows, numeric=frozenset({1}))
    line = "A margin that rises from the first row to the last means that the model prefers long answers."
    return Section(key, f"Margin against length, {pairs}", [line], [(title, chart)], [("", table)])
