"""The page of an inspected dataset."""

from __future__ import annotations

from palate.charts import Row, bar_chart
from palate.charts.text import amount, interval_text, percent
from palate.data.inspect import Inspection, Spread
from palate.data.inspect.text import language_names, not_judged
from palate.report.curves import Drawing
from palate.report.html import render
from palate.report.tables import Table

_ROWS_OF_A_PAGE = 20
_BARS = 12
"""Bars of a chart, the largest counts first."""


def inspection_page(found: Inspection, title: str) -> str:
    rows = list(enumerate(found.shown, 1))
    return render(
        "inspection.html",
        title=title,
        found=found,
        sources=_sources(found),
        row_numbers={row.id: index for index, row in rows},
        numbers=_numbers(found),
        lines=_lines(found),
        charts=_charts(found),
        not_judged=not_judged(found),
        systems=Table(("system prompt", "rows"), list(found.systems.items()), numeric=frozenset({1})),
        pages=[rows[start : start + _ROWS_OF_A_PAGE] for start in range(0, len(rows), _ROWS_OF_A_PAGE)],
    )


def _sources(found: Inspection) -> Table:
    rows = [
        (
            source.path,
            f"{source.format} ({source.confidence:.0%})" + (f"; {source.labels}" if source.labels else ""),
            source.rows_read,
            source.used,
            ", ".join(f"{reason} {count:,}" for reason, count in source.dropped_by_reason.items()),
            ", ".join(source.unknown_columns),
        )
        for source in found.sources
    ]
    columns = ("source", "format (confidence)", "rows", "used", "unusable", "unknown columns")
    return Table(columns, rows, numeric=frozenset({2, 3}))


def _numbers(found: Inspection) -> Table:
    spreads = {f"{name}, characters": spread for name, spread in found.characters.items()}
    if tokens := found.tokens:
        lengths = {"prompt": tokens.prompt, "completion": tokens.completion, "row": tokens.row}
        spreads |= {f"{name}, tokens": spread for name, spread in lengths.items() if spread is not None}
    rows = [_spread(name, spread, 0) for name, spread in spreads.items()]
    shares = {"stated margin": found.margins, "word overlap": found.overlap}
    rows += [_spread(name, spread, 2) for name, spread in shares.items() if spread is not None]
    return Table(("", "mean", "5 %", "median", "95 %", "largest"), rows, numeric=frozenset(range(1, 6)))


def _spread(name: str, spread: Spread, digits: int) -> list[str]:
    values = (spread.mean, spread.low, spread.median, spread.high, spread.largest)
    return [name, *(f"{value:,.{digits}f}" for value in values)]


def _lines(found: Inspection) -> list[str]:
    lines = []
    if tokens := found.tokens:
        lines.append(
            f"{tokens.total:,} tokens in all. {amount(tokens.over, 'row is', 'rows are')} longer than cutoff_len "
            f"{tokens.cutoff_len:,}; in {tokens.hopeless:,} of them the completion alone is."
        )
    for name, share in (
        ("The longer answer is chosen", found.longer_is_chosen),
        ("The answer shown first won", found.first_won),
    ):
        if share is not None:
            within = interval_text(share.low, share.high, as_percent=True)
            lines.append(f"{name} in {percent(share.estimate)} of pairs (95 % interval {within}, {share.n:,} prompts).")
    return lines


def _charts(found: Inspection) -> list[Drawing]:
    counts = {
        "Languages": language_names(found),
        "Messages in the prompt": {str(turns): count for turns, count in found.turns.items()},
        "What makes chosen better, in English pairs": found.improvements,
        "Topics of the prompts": {", ".join(cluster.words): cluster.prompts for cluster in found.clusters},
    }
    charts: list[Drawing] = []
    for index, (title, of) in enumerate(counts.items()):
        if total := sum(of.values()):
            rows = [Row(name, n, text=f"{n:,} ({percent(n / total)})") for name, n in list(of.items())[:_BARS]]
            charts.append((title, bar_chart(f"chart-{index}", title, rows)))
    return charts
