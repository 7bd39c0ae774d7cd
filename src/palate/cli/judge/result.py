"""What commands that collect votes print."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.charts.text import amount, counts_text
from palate.cli.columns import wrapped
from palate.cli.console import print_json, print_note, print_result, wants_json
from palate.errors import EngineError

if TYPE_CHECKING:
    from palate.feedback.judging import JudgedVotes
    from palate.records import Judge

_HANG = 21
"""Width of the names on the left."""
_SHOWN_REASON = 120


def print_votes(
    collected: JudgedVotes, judge: Judge, path: Path, *, store: str | None, lines: list[str], numbers: dict[str, Any]
) -> None:
    """Print the counts, what is missing, and what was used.

    Args:
        store: URL of the store with the judge cards.
        lines, numbers: of the command, for a person and for a program.

    Raises:
        EngineError: verdicts are missing.
    """
    from palate.feedback.calibration.card import unmeasured_note
    from palate.feedback.votes import summarise

    summary = summarise(collected.votes)
    missing, usage = collected.missing, _usage(judge)
    if wants_json():
        counts = asdict(summary)
        counts["count"] = counts.pop("votes")
        listed = [
            {"item": asked.row.id, "left": asked.left, "right": asked.right, "shown": asked.shown, "error": why}
            for asked, why in missing
        ]
        more = {"judge": judge.name, "asked": collected.asked, "failed": len(missing), "missing": listed}
        print_json({"votes": path, **counts, **more, "usage": usage[1], **numbers})
    else:
        parsed = summary.votes - summary.unparsed
        asked = f"{collected.asked} ({parsed} parsed, {summary.unparsed} unparsed, {len(missing)} missing)"
        shown = [f"questions            {asked}", *summary.lines(), f"votes are in         {path}"]
        unread = next((vote for vote in collected.votes if vote.outcome == "unparsed"), None)
        if unread is not None:
            shown.append(f"first unparsed       {unread.item}: {_one_line(unread.reason)}")
        rows = [*shown, *usage[0], *lines, *collected.missing_lines()]
        print_result("\n".join(wrapped(row, hang=_HANG) for row in rows))
    if (note := unmeasured_note(judge, store)) is not None:
        print_note(note)
    if missing:
        raise EngineError(
            f"{len(missing)} of {amount(collected.asked, 'verdict')} are missing; run the same command again, what "
            f"was answered is kept. The first: {missing[0][1]}"
        )


def endpoint_counts(judge: Judge | None) -> dict[str, int]:
    """URL → number of requests of the judge, or of a jury's members, that it answered; {} without an API."""
    counts: Counter[str] = Counter()
    for member in getattr(judge, "members", (judge,)):
        counts.update(getattr(member, "answered", {}))
    return dict(counts)


def _one_line(reason: str) -> str:
    """The start of a reason, which may be a whole reply of a judge."""
    text = " ".join(reason.split())
    return text if len(text) <= _SHOWN_REASON else text[:_SHOWN_REASON] + "…"


def _usage(judge: Judge) -> tuple[list[str], dict[str, Any] | None]:
    """What a judge over an API used, for a person and for a program; nothing for other judges."""
    judges = getattr(judge, "members", (judge,))
    meters = [member.meter for member in judges if hasattr(member, "meter")]
    if not meters:
        return [], None
    (meter, *_), cached = meters, sum(getattr(member, "cached", 0) for member in judges)
    lines = [f"used                 {meter.line()}", f"from the store       {amount(cached, 'verdict')}"]
    endpoints = endpoint_counts(judge)
    text = counts_text(endpoints)
    lines += [f"answered by          {text}"] if text else []
    return lines, {
        "requests": meter.requests,
        "retries": meter.retries,
        "probes": meter.probes,
        "input_tokens": meter.prompt_tokens,
        "output_tokens": meter.completion_tokens,
        "usd": meter.usd if meter.prices.known else None,
        "cached": cached,
        "endpoints": endpoints,
    }
