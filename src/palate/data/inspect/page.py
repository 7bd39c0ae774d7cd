"""An inspection as one HTML page: no script, no outside file, everything from the data escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from palate.data.inspect.inspection import Inspection, Problem, Spread
from palate.stats import Interval

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2330;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d5dae3}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .7rem .3rem 0;vertical-align:top}
th{font-weight:600}th.n,td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr+tr>*{border-top:1px solid #e8ebf1}code,.id{font:13px ui-monospace,monospace;color:#44506a;overflow-wrap:anywhere}
.remedy{color:#44506a}svg{display:block;max-width:100%}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{background:#12161d;color:#e6eaf2}h2,tr+tr>*{border-color:#2b3342}
code,.id,.remedy{color:#a5b1c9}}
"""
_BAR = "#3b6fd4"


def as_page(found: Inspection, title: str) -> str:
    """The whole page as HTML text."""
    sections = [
        _section("Sources", _sources(found)),
        _section("Problems", _problems(found.problems)),
        _section("Numbers", _numbers(found)),
        _section("Languages", _bars(found.languages)),
        _section("Turns of the prompt", _bars({str(turns): count for turns, count in found.turns.items()})),
        _section("What makes chosen better", _bars(found.improvements)),
        _section("What the prompts are about", _clusters(found)),
        _section("Gaps", "".join(f"<p>{escape(gap)}</p>" for gap in found.gaps)),
        _section("System texts", _table(("system text", "rows"), found.systems.items())),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>{found.rows:,} rows, {found.records:,} records, {found.prompts:,} different prompts.</p>"
        f"{''.join(sections)}</body></html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f"<h2>{escape(heading)}</h2>{content}" if content else ""


def _sources(found: Inspection) -> str:
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
    return _table(("source", "format (sure)", "rows", "used", "cannot be used", "columns kept unread"), rows)


def _problems(problems: Sequence[Problem]) -> str:
    if not problems:
        return "<p>None found.</p>"
    rows = []
    for problem in problems:
        samples = "".join(
            f'<div><span class="id">{escape(sample.id)}</span> {escape(sample.detail)}</div>'
            for sample in problem.samples
        )
        rows.append(
            f'<tr><td class="n">{problem.count:,}</td><td class="n">{problem.share:.1%}</td><td><details><summary>'
            f"{escape(problem.title)} <code>{escape(problem.name)}</code></summary>{samples}</details>"
            f'<div class="remedy">{escape(problem.remedy)}</div></td></tr>'
        )
    head = '<th class="n">rows</th><th class="n">share</th><th>problem</th>'
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _numbers(found: Inspection) -> str:
    rows: list[tuple[object, ...]] = [
        (f"{name}, characters", *_spread(spread)) for name, spread in found.characters.items()
    ]
    tokens = found.tokens
    if tokens is not None:
        spreads = {"prompt": tokens.prompt, "completion": tokens.completion, "row": tokens.row}
        rows += [(f"{name}, tokens", *_spread(spread)) for name, spread in spreads.items() if spread is not None]
    for name, spread in (("stated margin", found.margins), ("word overlap", found.overlap)):
        if spread is not None:
            rows.append((name, *_spread(spread, 2)))
    table = _table(("", "mean", "5 %", "median", "95 %", "largest"), rows)
    lines = []
    if tokens is not None:
        lines.append(
            f"{tokens.total:,} tokens in all; {tokens.over:,} rows are longer than cutoff_len {tokens.cutoff_len:,}, "
            f"of {tokens.hopeless:,} the completion alone is."
        )
    for name, share in (("The longer answer is chosen", found.longer_is_chosen), ("The first won", found.first_won)):
        if share is not None:
            lines.append(f"{name} {_interval(share)}.")
    return table + "".join(f"<p>{escape(line)}</p>" for line in lines)


def _clusters(found: Inspection) -> str:
    return _bars({", ".join(cluster.words): cluster.prompts for cluster in found.clusters})


def _spread(spread: Spread, digits: int = 0) -> tuple[str, ...]:
    values = (spread.mean, spread.low, spread.median, spread.high, spread.largest)
    return tuple(f"{value:,.{digits}f}" for value in values)


def _interval(share: Interval) -> str:
    return f"{share.estimate:.1%} of {share.n:,.0f} (95 % interval {share.low:.1%} … {share.high:.1%})"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    listed = list(rows)
    if not listed:
        return ""
    names = "".join(f"<th{_right(cell)}>{escape(name)}</th>" for name, cell in zip(head, listed[0], strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(cell)}>{escape(_shown(cell))}</td>" for cell in row) + "</tr>" for row in listed
    )
    return f"<table><tr>{names}</tr>{body}</table>"


def _right(cell: object) -> str:
    return ' class="n"' if isinstance(cell, int) or (isinstance(cell, str) and cell[:1].isdigit()) else ""


def _shown(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _bars(counts: Mapping[str, int]) -> str:
    """Horizontal bars, twelve at most, each with its share."""
    total = sum(counts.values())
    shown = list(counts.items())[:12]
    if not shown or not total:
        return ""
    longest = max(count for _, count in shown)
    lines = []
    for row, (name, count) in enumerate(shown):
        y = 24 * row
        label = name if len(name) <= 44 else name[:43] + "…"
        lines.append(
            f'<text x="0" y="{y + 16}" fill="currentColor">{escape(label)}</text>'
            f'<rect x="330" y="{y + 4}" width="{max(1, round(420 * count / longest))}" height="15" fill="{_BAR}"/>'
            f'<text x="{336 + max(1, round(420 * count / longest))}" y="{y + 16}" fill="currentColor">'
            f"{count:,} ({count / total:.1%})</text>"
        )
    height = 24 * len(shown)
    size = f'viewBox="0 0 880 {height}" width="880" height="{height}"'
    return f'<svg {size} font-size="13" role="img">{"".join(lines)}</svg>'
