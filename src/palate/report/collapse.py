"""Signs that answers have collapsed: repetition, no entropy, every answer at the length limit; and a KL too large."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from palate.config.stages.health import DEFAULT_LIMITS
from palate.evaluation.table import answers, printable
from palate.report.contents import Row, RunContents, values_of
from palate.report.scales import number
from palate.report.stages import ONLINE, stage_of
from palate.stats.repetition import ends_in_loop

_LONGEST_UNIT, _TIMES, _CHARACTERS = 40, 4, 8
_NO_ENTROPY = 0.05
"""Nats per token below which every answer is the same whatever the seed."""
_AT_LIMIT = 0.98
_NAMED = {
    "repetition": "sampled answers repeat themselves",
    "entropy_collapse": "entropy collapsed",
    "turns_do_not_end": "answers stopped ending their turn",
}
"""Health findings that are a collapse."""


def collapse_signs(contents: RunContents) -> list[str]:
    """What shows that the answers have collapsed, one phrase each with its numbers; empty where nothing does."""
    found = [sign for sign in (_repetition(contents), *_of_sampling(contents)) if sign]
    told = " ".join(found)
    health = contents.run.get("health")
    for finding in health if isinstance(health, list) else []:
        name = finding.get("name") if isinstance(finding, dict) else None
        words = _NAMED.get(str(name))
        if words and not (name == "repetition" and "repeat" in told) and not (name != "repetition" and words in told):
            found.append(f"{words} (health, step {finding.get('step')}: {finding.get('message')})")
    return found


def far_away(contents: RunContents) -> str:
    """How far the policy went from its reference, where that is above the limit that the config sets."""
    kl, length = _ends(contents.train, "kl"), _ends(contents.train, "length")
    most = contents.find("config.health_max_kl", default=DEFAULT_LIMITS.health_max_kl)
    if stage_of(contents) not in ONLINE or not kl or not length or not isinstance(most, int | float):
        return ""
    per_token = kl[1] / max(length[1], 1.0)
    if per_token <= most:
        return ""
    return f"KL to the reference is {number(per_token, 2)} nats per token, above health_max_kl {number(most)}"


def at_limit(contents: RunContents) -> str:
    """A note where nearly all sampled answers are cut at the longest length, as they were from the start."""
    share = _last_of(contents, "ended")
    if stage_of(contents) not in ONLINE or share is None or share > 0.1:
        return ""
    return f"{100 * (1 - share):.0f} % of the sampled answers are cut at max_new_tokens{_limit(contents)}"


def repeats(text: str) -> bool:
    """Whether a text ends in the same 1 … 40 characters at least four times in a row, and at least 8 characters."""
    # A space after the last word makes `g g g g` four times the same.
    return any(
        ends_in_loop(one, longest=_LONGEST_UNIT, times=_TIMES, least=_CHARACTERS)
        for one in (text.strip(), f"{text.strip()} ")
    )


def _repetition(contents: RunContents) -> str:
    """Of the latest greedy samples, beside those of the reference, or of the start."""
    rows = answers(contents.samples)
    if not rows or (not any(row.earlier for row in rows) and rows[0].step == 0):
        return ""
    now = [repeats(row.policy) for row in rows]
    before = [repeats(text) for row in rows if (text := row.reference or (row.earlier[0][1] if row.earlier else ""))]
    share, earlier = statistics.fmean(now), statistics.fmean(before) if before else 0.0
    if share < 0.5 or share <= earlier + DEFAULT_LIMITS.health_max_loops:
        return ""
    example = next(row.policy for row, loops in zip(rows, now, strict=True) if loops)
    tail = printable(" ".join(example.split())[-24:])
    return (
        f"{sum(now)} of {len(now)} sampled answers repeat themselves to the end (“… {tail}”), {sum(before)} did before"
    )


def _of_sampling(contents: RunContents) -> list[str]:
    """Of the metrics of answers that the policy samples as it trains."""
    if stage_of(contents) not in ONLINE:
        return []
    found = []
    entropy = _ends(contents.train, "entropy") or _ends(contents.evaluations, "health/entropy")
    if entropy and _is_less(entropy, DEFAULT_LIMITS.health_min_entropy, _NO_ENTROPY):
        found.append(f"entropy collapsed from {number(entropy[0], 2)} to {number(entropy[1], 2)} nats per token")
    ended, length = _ends(contents.train, "ended"), _ends(contents.train, "length")
    limit = contents.find("config.max_new_tokens")
    if ended and ended[1] < ended[0] - DEFAULT_LIMITS.health_max_unended:
        found.append(
            f"answers stopped ending their turn: {100 * ended[1]:.0f} % do, {100 * ended[0]:.0f} % at the start"
            f"{_limit(contents)}"
        )
    elif length and isinstance(limit, int) and length[1] >= _AT_LIMIT * limit > 1.25 * length[0]:
        found.append(f"answers grew to the length limit, from {number(length[0], 3)} to {number(length[1], 3)} tokens")
    if length and length[1] < 2 <= length[0] / 2:
        found.append(f"answers became empty, from {number(length[0], 3)} to {number(length[1], 2)} tokens")
    return found


def _is_less(ends: tuple[float, float], share: float, absolute: float) -> bool:
    return ends[1] < share * ends[0] or ends[1] < absolute < ends[0]


def _ends(rows: Sequence[Row], metric: str) -> tuple[float, float] | None:
    """Means of a metric over the first and the last fifth of its rows; None where fewer than two have it."""
    values = [value for _, value in values_of(rows, metric) if value is not None]
    if len(values) < 2:
        return None
    window = max(1, len(values) // 5)
    return statistics.fmean(values[:window]), statistics.fmean(values[-window:])


def _last_of(contents: RunContents, metric: str) -> float | None:
    ends = _ends(contents.train, metric)
    return ends[1] if ends else None


def _limit(contents: RunContents) -> str:
    limit: Any = contents.find("config.max_new_tokens")
    return f" ({number(limit)} tokens)" if isinstance(limit, int | float) else ""
