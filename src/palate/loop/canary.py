"""Whether a canary is kept, ended or may be promoted, from the answers and thumbs of both arms.

- ZERO: it is shown that the canary is worse by more than a margin. The cycle ends it.
- PASS: the deadline is over and it is shown that the canary is not worse by the margins. A person, or a config that a
  person wrote, promotes it.
- HOLD: anything else, too few answers above all. Nothing changes.

It is checked repeatedly, so the bounds are those of confidence sequences, which hold at any number of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.config.base import Fields
from palate.config.explain import validated
from palate.config.reader import read_override
from palate.errors import UsageError
from palate.registry.behaviour import ANSWERS_PER_PERSON, COUNTED_ENDS, first_of_each
from palate.registry.canary import canary_of, route_of
from palate.registry.versions import PRODUCTION, find_row
from palate.stats import Interval, sequential_difference
from palate.store.serving_tables import FeedbackRow, Interaction, holds

Outcome: TypeAlias = Literal["PASS", "ZERO", "HOLD"]

_MOST_NEEDED = 100_000
_QUIET = timedelta(hours=1)
_TYPICAL = {"errors": 0.01, "thumbs down": 0.2}
"""Rates at which `smallest_found` is computed."""


class CanaryFields(Fields):
    """The keys of a canary."""

    share: float = Field(0.1, gt=0, le=1, description="Share of people whom the candidate answers.")
    at_least: int = Field(200, ge=1, description="Answers of each version before the canary can pass.")
    zero_at_least: int = Field(20, ge=1, description="Answers, or thumbs, of each version before it can be ended.")
    days: float = Field(2.0, ge=0, description="Days after which the canary passes or a person decides.")
    errors: float = Field(0.03, gt=0, lt=1, description="Largest accepted increase of the share of failed answers.")
    thumbs_down: float | None = Field(
        0.1, gt=0, lt=1, description="The same for the share of thumbs down among people who gave one; null: ignored."
    )
    alpha: float = Field(0.05, gt=0, le=0.2, description="Error rate of ZERO, and of PASS, over all looks together.")

    @property
    def level(self) -> float:
        """Of both metrics' intervals: ZERO may be wrong on either, so they share alpha; PASS needs both."""
        return 1 - 2 * self.alpha / len(self.margins)

    @property
    def margins(self) -> dict[str, float]:
        return {"errors": self.errors, **({} if self.thumbs_down is None else {"thumbs down": self.thumbs_down})}


def read_canary_fields(changes: Sequence[str]) -> CanaryFields:
    """The defaults with these KEY=VALUE; raises ConfigError for a wrong one."""
    return validated(CanaryFields, dict(map(read_override, changes)), "--set")


@dataclass(frozen=True, slots=True)
class ArmOutcomes:
    """What a version did for its share of people.

    Attributes:
        version: its name.
        errors: [answers] whether each answer failed, in the order in which they ended; at most ANSWERS_PER_PERSON of a
            person.
        downs: [thumbs] whether each thumb is down, in order; the first of each person.
        people: number of people with such answers.
    """

    version: str
    errors: Sequence[bool]
    downs: Sequence[bool]
    people: int


@dataclass(frozen=True, slots=True)
class Arms:
    """Both arms of a canary.

    Attributes:
        canary, incumbent: the arms.
        without: answers of the incumbent to everybody, if for an hour none knew of the canary: it is not loaded.
        days: since the canary began.
    """

    canary: ArmOutcomes
    incumbent: ArmOutcomes
    without: int
    days: float


@dataclass(frozen=True, slots=True)
class CanaryCheck:
    """One metric.

    Attributes:
        name: `errors` or `thumbs down`.
        state: `worse` by more than the margin, `not worse` by the margin, or `open`.
        margin: largest accepted increase.
        rates: of incumbent and canary; None without a value.
        sizes: values of incumbent and canary.
        difference: canary minus incumbent; None without values of both.
        needed: values of the canary with which the rates as they are would show that it is not worse; None if it is
            shown, or if they would not.
    """

    name: str
    state: Literal["worse", "not worse", "open"]
    margin: float
    rates: tuple[float | None, float | None]
    sizes: tuple[int, int]
    difference: Interval | None
    needed: int | None

    def line(self) -> str:
        if self.difference is None:
            return f"{self.name}: {self.sizes[1]} of the canary, {self.sizes[0]} of the incumbent; none to compare"
        before, after = (100 * (rate or 0) for rate in self.rates)
        low, high = 100 * self.difference.low, 100 * self.difference.high
        said = (
            f"{self.name}: {after:.1f} % of {self.sizes[1]:,}, incumbent {before:.1f} % of {self.sizes[0]:,}; increase "
            f"between {low:+.1f} and {high:+.1f} points, accepted {100 * self.margin:g}"
        )
        return f"{said}; about {self.needed:,} of the canary are needed" if self.needed else said


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What follows, and why, a line for each reason."""

    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[CanaryCheck, ...]


def read_arms(session: Session, alias: str = PRODUCTION, *, now: datetime | None = None) -> Arms:
    """The arms of an alias's running canary, from recorded interactions and feedback.

    An answer that was cut off by the client is neither good nor bad and left out.

    Raises:
        UsageError: the alias has no canary.
    """
    state = canary_of(session, alias)
    if state is None:
        raise UsageError(f"{alias} has no canary; palate model canary starts one")
    now, versions = now or datetime.now(UTC), (find_row(session, alias).name, state.version)
    recorded, route = Interaction.created >= state.since, route_of(alias)
    of_both = (recorded, Interaction.route == route, Interaction.model.in_(versions))
    ended = Interaction.state.in_(COUNTED_ENDS)
    answers = select(Interaction.model, (Interaction.state != "complete").label("bad")).where(*of_both, ended)
    thumbs = select(Interaction.model, (FeedbackRow.thumbs == "down").label("bad")).where(*of_both, holds())
    thumbs = thumbs.join(FeedbackRow, FeedbackRow.interaction_id == Interaction.id)
    by = (Interaction.model, Interaction.user)
    order = (Interaction.touched, Interaction.id)
    errors = first_of_each(session, answers, ANSWERS_PER_PERSON, order, by)
    downs = first_of_each(session, thumbs.where(FeedbackRow.thumbs.is_not(None)), 1, (FeedbackRow.number,), by)
    incumbent, canary = (
        ArmOutcomes(
            version,
            [bool(row.bad) for row in errors if row.model == version],
            [bool(row.bad) for row in downs if row.model == version],
            sum(row.model == version and row.rank == 1 for row in errors),
        )
        for version in versions
    )
    last = session.scalar(select(func.max(Interaction.created)).where(*of_both))
    without = 0
    if last is None or now - last >= _QUIET:
        alone = (Interaction.route != route) & Interaction.route.not_like("shadow:%")
        after = (recorded, Interaction.model == versions[0], Interaction.created > (last or state.since), alone)
        without = session.scalar(select(func.count()).where(*after)) or 0
    return Arms(canary, incumbent, without, (now - state.since).total_seconds() / 86_400)


def decide_canary(arms: Arms, config: CanaryFields) -> CanaryVerdict:
    """Decide on a canary; the same arguments give the same verdict."""
    pairs = {
        "errors": (arms.incumbent.errors, arms.canary.errors),
        "thumbs down": (arms.incumbent.downs, arms.canary.downs),
    }
    checks = tuple(_check(name, *pairs[name], margin, config) for name, margin in config.margins.items())
    worse = [check for check in checks if check.state == "worse"]
    if worse:
        return CanaryVerdict("ZERO", tuple(f"worse: {check.line()}" for check in worse), checks)
    reasons = [*_too_few(arms, config), *(check.line() for check in checks if check.state == "open")]
    late = arms.days >= config.days
    if not reasons and late:
        return CanaryVerdict("PASS", tuple(check.line() for check in checks), checks)
    if reasons and late:
        reasons.append(
            f"{config.days:g} days are over: a person promotes or ends the canary, or waits for more answers"
        )
    elif not reasons:
        reasons.append(f"not worse so far; it passes after {config.days:g} days if that stays so")
    return CanaryVerdict("HOLD", tuple(reasons), checks)


def smallest_found(config: CanaryFields, share: float) -> dict[str, float]:
    """Metric → the smallest increase that ends a canary with this share of people and `at_least` values of it.

    From usual rates, 1 % errors and 20 % thumbs down; 1.0 if no increase would be found.
    """
    found = {}
    for name, margin in config.margins.items():
        rate, n = _TYPICAL[name], config.at_least
        before = _even(rate, max(1, round(n * (1 - share) / share)))
        steps = np.arange(margin, 1 - rate, 0.005)
        found[name] = next(
            (
                round(float(step), 4)
                for step in steps
                if sequential_difference(before, _even(rate + step, n), level=config.level).low > margin
            ),
            1.0,
        )
    return found


def _too_few(arms: Arms, config: CanaryFields) -> list[str]:
    sizes = {arm.version: len(arm.errors) for arm in (arms.canary, arms.incumbent)}
    reasons = [
        f"{version} has {n:,} of the {config.at_least:,} answers that are needed"
        for version, n in sizes.items()
        if n < config.at_least
    ]
    if arms.without >= config.zero_at_least:
        reasons.insert(
            0,
            f"the gateway answers everybody with {arms.incumbent.version}: the canary is not loaded; the terminal of "
            "palate serve says why",
        )
    elif not any(sizes.values()):
        reasons.append("nothing is recorded: palate serve needs --record metadata, or keys that record, and traffic")
    return reasons


def _check(
    name: str, before: Sequence[bool], after: Sequence[bool], margin: float, config: CanaryFields
) -> CanaryCheck:
    sizes = (len(before), len(after))
    if not min(sizes):
        rates = tuple(sum(values) / len(values) if values else None for values in (before, after))
        return CanaryCheck(name, "open", margin, (rates[0], rates[1]), sizes, None, None)
    difference = sequential_difference(before, after, level=config.level)
    rate = (sum(before) / sizes[0], sum(after) / sizes[1])
    if difference.low > margin and min(sizes) >= config.zero_at_least:
        return CanaryCheck(name, "worse", margin, rate, sizes, difference, None)
    if difference.high < margin:
        return CanaryCheck(name, "not worse", margin, rate, sizes, difference, None)
    return CanaryCheck(name, "open", margin, rate, sizes, difference, _needed(rate, sizes, margin, config.level))


def _needed(rates: tuple[float, float], sizes: tuple[int, int], margin: float, level: float) -> int | None:
    """The values of the canary with which these rates would show that it is not worse; None if they would not."""
    if rates[1] - rates[0] >= margin:
        return None
    ratio = sizes[0] / sizes[1]

    def shows(n: int) -> bool:
        before = _even(rates[0], max(1, round(ratio * n)))
        return sequential_difference(before, _even(rates[1], n), level=level).high < margin

    low = high = sizes[1]
    while not shows(high):
        low, high = high, 2 * high
        if max(1.0, ratio) * high > _MOST_NEEDED:
            return None
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


def _even(rate: float, n: int) -> npt.NDArray[np.float64]:
    """[n] zeros and ones, of which `rate` are ones, evenly spread."""
    return np.diff(np.floor(np.arange(n + 1) * rate + 0.5))
