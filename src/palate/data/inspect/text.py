"""An inspection as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from palate.charts.text import amount
from palate.data.inspect.inspection import Inspection, Spread
from palate.data.measures.words import STOP_WORDS
from palate.stats import Interval

_OWN_LINE = ("first_won", "second_won")
"""Notices of a source that are shown on a line of their own."""


def as_text(found: Inspection, *, samples: int = 2) -> str:
    """The inspection as lines with values from column 20 on; `samples` rows are listed for each problem."""
    return "\n".join([*_sources(found), "", *_numbers(found), "", *_problems(found, samples)]) + "\n"


def _sources(found: Inspection) -> Iterator[str]:
    for source in found.sources:
        yield f"{source.path}: {source.format} (fits {source.confidence:.0%}), {amount(source.rows_read, 'row')}"
        if source.labels:
            yield f"  {source.labels}"
        dropped = sum(source.dropped_by_reason.values())
        if dropped:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in source.dropped_by_reason.items())
            yield f"  {dropped:,} cannot be used: {reasons}"
        noticed = [f"{name} {count:,}" for name, count in source.notices.items() if name not in _OWN_LINE]
        if noticed:
            yield f"  noticed: {', '.join(noticed)}"
        if source.unknown_columns:
            yield f"  columns not read: {', '.join(source.unknown_columns)}"


def _numbers(found: Inspection) -> Iterator[str]:
    kinds = ", ".join(amount(count, name.removesuffix("s")) for name, count in found.kinds.items())
    yield _line("records", f"{kinds or 'none'}, {amount(found.prompts, 'different prompt')}")
    yield _line("languages", _counts(language_names(found).items(), found.records))
    yield _line("prompt turns", _counts(found.turns.items(), found.records))
    if found.different_systems:
        first = next(iter(found.systems))
        yield _line("system texts", f"{found.different_systems:,} different; most frequent: {first!r}")
    for name, spread in found.characters.items():
        yield _line(f"{name} length", f"{_spread(spread)} characters")
    if found.tokens is not None and found.tokens.row is not None:
        over = f"{found.tokens.over:,} over cutoff_len {found.tokens.cutoff_len:,}"
        yield _line("row length", f"{_spread(found.tokens.row)} tokens, {over}; {found.tokens.total:,} in total")
    if found.labels:
        yield _line("labels", _counts(found.labels.items(), found.records))
    if found.longer_is_chosen is not None:
        yield _line("longer is chosen", _interval(found.longer_is_chosen))
    if found.first_won is not None:
        yield _line("shown first won", _interval(found.first_won))
    if found.margins is not None:
        yield _line("stated margins", _spread(found.margins, 2))
    if found.overlap is not None:
        yield _line("word overlap", _spread(found.overlap, 2))
    if found.improvements:
        judged = sum(found.improvements.values())
        yield _line("chosen is better in", f"{_counts(found.improvements.items(), judged)} of {judged:,} English pairs")
    for number, cluster in enumerate(found.clusters[:6]):
        yield _line("" if number else "prompts are about", f"{cluster.share:4.0%}  {', '.join(cluster.words)}")
    for number, gap in enumerate(found.gaps[:6]):
        yield _line("" if number else "gaps", gap)
    if left_out := not_judged(found):
        yield _line("not judged", left_out)


def _problems(found: Inspection, samples: int) -> Iterator[str]:
    if not found.problems:
        yield "no problem found"
        return
    yield "problems"
    for problem in found.problems:
        yield f"  {problem.count:>8,}  {problem.share:6.1%}  {problem.title} ({problem.name})"
        for sample in problem.samples[:samples]:
            yield f"{'':20}{sample.id} {sample.detail}".rstrip()
        if problem.remedy:
            yield f"{'':20}→ {problem.remedy}"


def language_names(found: Inspection) -> dict[str, int]:
    """Records by language, with a phrase in place of `und`."""
    return {"too little text to tell" if name == "und" else name: count for name, count in found.languages.items()}


def not_judged(found: Inspection) -> str:
    """Which records and languages some checks skip because there are no word lists; empty if none."""
    named = {name: count for name, count in found.languages.items() if name not in STOP_WORDS and name != "und"}
    if not named:
        return ""
    records = f"{amount(sum(named.values()), 'record')} in {', '.join(named)}"
    return f"topics, kinds of improvement and insults are not judged for {records}: there are no word lists for them"


def _line(name: str, value: str) -> str:
    return f"{name:<20}{value}"


def _counts(items: Iterable[tuple[object, int]], of: int) -> str:
    shown = [f"{name} {_share(count, of)}" if of else str(name) for name, count in list(items)[:8]]
    return ", ".join(shown) or "none"


def _share(count: int, of: int) -> str:
    return "<1%" if 0 < count < 0.005 * of else f"{count / of:.0%}"


def _spread(spread: Spread, digits: int = 0) -> str:
    low, median, high, top = (
        f"{value:,.{digits}f}" for value in (spread.low, spread.median, spread.high, spread.largest)
    )
    return f"median {median}, 5–95 % {low} … {high}, largest {top}"


def _interval(share: Interval) -> str:
    return f"{share.estimate:.1%} of {share.n:,.0f} (95 % interval {share.low:.1%} … {share.high:.1%})"
