"""Symptoms of collapsed answers (repetition, no entropy, every answer at the length limit), and a large KL."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from palate.charts.text import number
from palate.config.stages.health import DEFAULT_LIMITS
from palate.evaluation.answers.table import printable, prompt_answers
from palate.report.contents import MetricRow, RunContents, is_number, mapping, values_of
from palate.report.judgements.stages import ONLINE, stage_of
from palate.stats.repetition import repeats

_NO_ENTROPY = 0.05
"""Nats per token below which every answer is the same for every seed."""
_AT_LIMIT = 0.98
_FINDINGS = {
    "repetition": "sampled answers repeat themselves",
    "entropy_collapse": "entropy collapsed",
    "turns_do_not_end": "answers stopped ending their turn",
}
"""Health findings that mean a collapse."""


def collapse_symptoms(contents: RunContents) -> list[str]:
    """What shows that the answers have collapsed, one phrase each with its numbers."""
    found = [symptom for symptom in (_repetition(contents), *_of_sampling(contents)) if symptom]
    seen = " ".join(found)
    health = contents.run.get("health")
    for finding in map(mapping, health if isinstance(health, list) else []):
        name = str(finding.get("name"))
        symptom = _FINDINGS.get(name)
        if symptom and ("repeat" if name == "repetition" else symptom) not in seen:
            found.append(f"{symptom} (health, step {finding.get('step')}: {finding.get('message')})")
    return found


def large_kl(contents: RunContents) -> str:
    """The policy's KL to its reference, if it is above the limit in the config; else empty."""
    kl, length = _ends(contents.train, "kl"), _ends(contents.train, "length")
    limit = contents.find("config.health_max_kl", default=DEFAULT_LIMITS.health_max_kl)
    if stage_of(contents) not in ONLINE or not kl or not length or not is_number(limit):
        return ""
    per_token = kl[1] / max(length[1], 1.0)
    if per_token <= limit:
        return ""
    return f"KL to the reference is {number(per_token, 2)} nats per token, above health_max_kl {number(limit)}"


def at_limit(contents: RunContents) -> str:
    """A note that nearly all sampled answers are truncated at `max_new_tokens`; else empty."""
    ended = _ends(contents.train, "ended")
    if stage_of(contents) not in ONLINE or ended is None or ended[1] > 0.1:
        return ""
    return f"{100 * (1 - ended[1]):.0f} % of the sampled answers are truncated at max_new_tokens{_limit(contents)}"


def _repetition(contents: RunContents) -> str:
    """Repetition in the latest samples, compared with the reference's or the first ones."""
    rows = prompt_answers(contents.samples)
    if not rows or (not any(row.earlier for row in rows) and rows[0].step == 0):
        return ""
    now = [repeats(row.policy) for row in rows]
    before = [repeats(text) for row in rows if (text := row.reference or (row.earlier[0][1] if row.earlier else ""))]
    share, earlier = statistics.fmean(now), statistics.fmean(before) if before else 0.0
    if share < 0.5 or share <= earlier + DEFAULT_LIMITS.health_max_loops:
        return ""
    example = next(row.policy for row, loops in zip(rows, now, strict=True) if loops)
    tail = printable(" ".join(example.split())[-24:])
    return f"{sum(now)} of {len(now)} sampled answers repeat themselves to the end (“… {tail}”), before {sum(before)}"


def _of_sampling(contents: RunContents) -> list[str]:
    """Symptoms in the metrics of answers that are sampled in training."""
    if stage_of(contents) not in ONLINE:
        return []
    found = []
    entropy = _ends(contents.train, "entropy") or _ends(contents.evaluations, "health/entropy")
    if entropy:
        start, end = entropy
        if end < DEFAULT_LIMITS.health_min_entropy * start or end < _NO_ENTROPY < start:
            found.append(f"entropy collapsed from {number(start, 2)} to {number(end, 2)} nats per token")
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


def _ends(rows: Sequence[MetricRow], metric: str) -> tuple[float, float] | None:
    """Means of a metric over the first and the last fifth of its rows; None if fewer than two have it."""
    values = [value for _, value in values_of(rows, metric) if value is not None]
    if len(values) < 2:
        return None
    window = max(1, len(values) // 5)
    return statistics.fmean(values[:window]), statistics.fmean(values[-window:])


def _limit(contents: RunContents) -> str:
    limit = contents.find("config.max_new_tokens")
    return f" ({number(limit)} tokens)" if is_number(limit) else ""
