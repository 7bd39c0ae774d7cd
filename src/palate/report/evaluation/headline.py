"""The main figure of each result, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from palate.charts import Row, interval_chart
from palate.charts.text import interval_text, number, percent
from palate.report.key_figures import Card
from palate.report.tables import Cell, Figure, Table
from palate.stats import Interval


@dataclass(frozen=True, slots=True)
class Headline:
    """The main figure of one result.

    Attributes:
        measure: what was measured, and on what: `TruthfulQA`, `Preference accuracy`, `Win rate against sft`.
        metric: `mc1`, `accuracy`, `win_rate`.
        detail: the judge, the file of the pairs, what the metric means.
        before, after: of both models; a win rate has no before.
        change: after − before on the same items.
        left_out: what is not in the figure, counted: `2 too_long`; `none` if everything is in it.
        is_share: whether the figures are shares of 1; otherwise they are numbers, such as grades.
    """

    measure: str
    metric: str
    detail: str
    before: Interval | None
    after: Interval
    change: Interval | None
    left_out: str
    is_share: bool = True

    @property
    def name(self) -> str:
        """`TruthfulQA mc1`; the measure alone where the metric says nothing more."""
        return self.measure if self.metric in ("accuracy", "win_rate") else f"{self.measure} {self.metric}"

    def card(self) -> Card:
        """The figure as a key figure of a page."""
        text = percent if self.is_share else number
        start = f"before: {text(self.before.estimate)}" if self.before is not None else self.detail
        within = f"95 % {interval_text(self.after.low, self.after.high, as_percent=self.is_share)}"
        parts = (start, within, f"n = {self.after.n:,}", f"left out: {self.left_out}")
        return Card(self.name, text(self.after.estimate), ", ".join(parts))


def headline_table(headlines: Sequence[Headline]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            one.name,
            one.detail,
            "–" if one.before is None else Figure(one.before, "percent" if one.is_share else "number"),
            Figure(one.after, "percent" if one.is_share else "number"),
            "–" if one.change is None else Figure(one.change, "points" if one.is_share else "number"),
            one.after.n,
            one.left_out,
        )
        for one in headlines
    ]
    columns = ("measure", "detail", "before", "after", "change", "n", "left out")
    return Table(columns, rows, numeric=frozenset({5}))


def change_chart(headlines: Sequence[Headline]) -> Markup | None:
    """Forest plot of the differences in points, grey where the interval holds 0; None without any."""
    changes = [(one.name, one.change) for one in headlines if one.change is not None and one.is_share]
    rows = [
        Row(
            name,
            *(100 * change.estimate, 100 * change.low, 100 * change.high),
            "d" if 0.0 in change else "a",
            str(Figure(change, "points")).partition(" ")[0],
        )
        for name, change in changes
    ]
    title = "Change from before to after"
    return interval_chart("changes", title, rows, unit="points, after − before", narrow=True) if rows else None


def counted(counts: Mapping[str, int]) -> str:
    """`2 too_long, 1 unparsed`; `none` if all are 0."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count) or "none"
