"""An inspection as one HTML page without scripts or external files; all text from the data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from palate.data.inspect.inspection import Inspection, Problem, ShownRow, Spread
from palate.data.inspect.text import interval_text, language_names, not_judged

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2330;--soft:#44506a;--rule:#d5dae3;--paper:#fff;--tint:#f2f4f9;--bar:#3b6fd4}
@media(prefers-color-scheme:dark){
:root{--ink:#e6eaf2;--soft:#a5b1c9;--rule:#2b3342;--paper:#12161d;--tint:#1b212c;--bar:#7ea2ee}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{font:16px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--paper)}
h1{font-size:1.6rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid var(--rule)}
h3{font-size:.95rem;margin:0 0 .4rem;overflow-wrap:anywhere}a{color:var(--bar)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .7rem .3rem 0;vertical-align:top}
th{font-weight:600}th.n,td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr+tr>*{border-top:1px solid var(--rule)}
code,.id{font:13px ui-monospace,monospace;color:var(--soft);overflow-wrap:anywhere}
.remedy,.note{color:var(--soft)}summary{cursor:pointer}
.bars{display:grid;grid-template-columns:minmax(7rem,max-content) minmax(4rem,1fr) max-content;gap:.2rem .8rem;
align-items:center;margin:0}
.bars dt{overflow-wrap:anywhere;max-width:24rem}.bars dd{margin:0;font-variant-numeric:tabular-nums}
.bars svg{display:block;width:100%;height:.9rem}.bars rect{fill:var(--bar)}
.pages{display:flex;flex-wrap:wrap;gap:.2rem .9rem;margin:0 0 1rem}
.row{border:1px solid var(--rule);border-radius:8px;padding:.8rem 1rem;margin:.8rem 0}
.row:target{outline:2px solid var(--bar)}
.role{color:var(--soft);font-size:.8rem;margin-top:.5rem}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;max-height:24rem;overflow-y:auto}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:.4rem 1.4rem}
.sides>div{background:var(--tint);border-radius:6px;padding:.1rem .8rem .6rem;min-width:0}
@media(max-width:640px){.bars{grid-template-columns:1fr max-content}.bars dt{grid-column:1/-1;max-width:none}}
"""
_PER_PAGE = 20


def as_page(found: Inspection, title: str) -> str:
    """The whole page as HTML text."""
    sections = [
        _section("Sources", _sources(found)),
        _section("Problems", _problems(found)),
        _section("Numbers", _numbers(found)),
        _section("Languages", _bars(language_names(found))),
        _section("Turns of the prompt", _bars({str(turns): count for turns, count in found.turns.items()})),
        _section("What makes chosen better (English pairs)", _bars(found.improvements)),
        _section("What the prompts are about", _clusters(found)),
        _section("Gaps", "".join(f"<p>{escape(gap)}</p>" for gap in found.gaps)),
        _section("Not judged", f"<p>{escape(left_out)}.</p>" if (left_out := not_judged(found)) else ""),
        _section("System texts", _table(("system text", "rows"), found.systems.items())),
        _section("Rows", _rows(found.shown)),
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
    return _table(("source", "format (sure)", "rows", "used", "cannot be used", "columns not read"), rows)


def _problems(found: Inspection) -> str:
    if not found.problems:
        return "<p>None found.</p>"
    numbers = {row.id: number for number, row in enumerate(found.shown, 1)}
    rows = [
        f'<tr><td class="n">{problem.count:,}</td><td class="n">{problem.share:.1%}</td><td><details><summary>'
        f"{escape(problem.title)} <code>{escape(problem.name)}</code></summary>{_samples(problem, numbers)}</details>"
        f'<div class="remedy">{escape(problem.remedy)}</div></td></tr>'
        for problem in found.problems
    ]
    head = '<th class="n">rows</th><th class="n">share</th><th>problem</th>'
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _samples(problem: Problem, numbers: Mapping[str, int]) -> str:
    """The rows of one problem, linked to their texts if these are on the page."""
    lines = []
    for sample in problem.samples:
        number = numbers.get(sample.id)
        name = f'<span class="id">{escape(sample.id)}</span>'
        name = f'<a href="#row-{number}">{name}</a>' if number is not None else name
        lines.append(f"<div>{name} {escape(sample.detail)}</div>")
    if problem.count > len(problem.samples):
        lines.append(f'<div class="note">the first {len(problem.samples)} of {problem.count:,}</div>')
    return "".join(lines)


def _rows(shown: Sequence[ShownRow]) -> str:
    """The rows in sections that can be opened, with links to each section."""
    if not shown:
        return ""
    starts = range(0, len(shown), _PER_PAGE)
    links = "".join(
        f'<a href="#rows-{start + 1}">{start + 1}–{min(start + _PER_PAGE, len(shown))}</a>' for start in starts
    )
    pages = []
    for start in starts:
        part = shown[start : start + _PER_PAGE]
        # Following a link into a closed section opens it.
        rows = "".join(_row(row, start + number) for number, row in enumerate(part, 1))
        ids = f"{escape(part[0].id)} … {escape(part[-1].id)}"
        pages.append(
            f"<details{' open' if not start else ''}><summary>{start + 1}–{start + len(part)} "
            f'<span class="id">{ids}</span></summary><div id="rows-{start + 1}">{rows}</div></details>'
        )
    note = '<p class="note">The first rows, and all rows listed under a problem. Private data is masked.</p>'
    return f'{note}<nav class="pages">{links}</nav>{"".join(pages)}'


def _row(row: ShownRow, number: int) -> str:
    tags = " ".join(f"<code>{escape(name)}</code>" for name in row.problems)
    turns = "".join(_text(role, text) for role, text in row.turns)
    answers = "".join(f"<div>{_text(label, text)}</div>" for label, text in row.answers)
    return (
        f'<article class="row" id="row-{number}"><h3>{escape(row.id)} {tags}</h3>{turns}'
        f'<div class="sides">{answers}</div></article>'
    )


def _text(label: str, text: str) -> str:
    return f'<div class="role">{escape(label)}</div><div class="text" dir="auto">{escape(text)}</div>'


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
            f"{tokens.total:,} tokens in total; {tokens.over:,} rows are longer than cutoff_len {tokens.cutoff_len:,}; "
            f"in {tokens.hopeless:,} of them the completion alone is longer."
        )
    for name, share in (("The longer answer is chosen", found.longer_is_chosen), ("The first won", found.first_won)):
        if share is not None:
            lines.append(f"{name} {interval_text(share)}.")
    return table + "".join(f"<p>{escape(line)}</p>" for line in lines)


def _clusters(found: Inspection) -> str:
    return _bars({", ".join(cluster.words): cluster.prompts for cluster in found.clusters})


def _spread(spread: Spread, digits: int = 0) -> tuple[str, ...]:
    values = (spread.mean, spread.low, spread.median, spread.high, spread.largest)
    return tuple(f"{value:,.{digits}f}" for value in values)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    listed = list(rows)
    if not listed:
        return ""
    names = "".join(f"<th{_right(cell)}>{escape(name)}</th>" for name, cell in zip(head, listed[0], strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{_right(cell)}>{escape(_shown(cell))}</td>" for cell in row) + "</tr>" for row in listed
    )
    return f'<div class="scroll"><table><tr>{names}</tr>{body}</table></div>'


def _right(cell: object) -> str:
    return ' class="n"' if isinstance(cell, int) or (isinstance(cell, str) and cell[:1].isdigit()) else ""


def _shown(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _bars(counts: Mapping[str, int]) -> str:
    """Horizontal bars, at most twelve, with shares; labels are HTML text, so that they wrap at any width."""
    total = sum(counts.values())
    shown = list(counts.items())[:12]
    if not shown or not total:
        return ""
    longest = max(count for _, count in shown)
    lines = [
        f'<dt>{escape(name)}</dt><dd><svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{max(0.5, 100 * count / longest):.1f}" height="1"/></svg></dd>'
        f"<dd>{count:,} ({count / total:.1%})</dd>"
        for name, count in shown
    ]
    return f'<dl class="bars">{"".join(lines)}</dl>'
