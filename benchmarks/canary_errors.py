"""How canaries end that are looked at all the time: by `palate.loop.canary`, and by a test made for one look.

    python benchmarks/canary_errors.py [--rounds 400]     prints the table
    python benchmarks/canary_errors.py --write            also writes it into docs/statistics.md

10 % of people get the canary. Each makes ten requests; whether they fail varies between people (correlation of the
answers of one person 0.1), and every second person gives a thumb.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palate.loop import canary
from palate.loop.canary import ArmOutcomes, Arms, CanaryFields, decide_canary

PAGE = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- canary -->", "<!-- end of canary -->"
CONFIG = CanaryFields()
LOOKS = 48
REQUESTS = 10
_Z = 1.96


@dataclass(frozen=True)
class Case:
    """Rates of incumbent and canary: failed answers, thumbs down."""

    name: str
    errors: tuple[float, float]
    downs: tuple[float, float]


CASES = (
    Case("equal: 2 % errors, 20 % thumbs down", (0.02, 0.02), (0.2, 0.2)),
    Case("worse by the margins: 5 %, 30 %", (0.02, 0.05), (0.2, 0.3)),
    Case("10 % errors", (0.02, 0.1), (0.2, 0.2)),
    Case("30 % errors", (0.02, 0.3), (0.2, 0.2)),
    Case("50 % thumbs down", (0.02, 0.02), (0.2, 0.5)),
    Case("every answer fails", (0.02, 0.999), (0.2, 0.2)),
)


def draw(rng: np.random.Generator, case: Case, people: int) -> Arms:
    """Both arms after the last look."""
    arms = []
    for side, size in enumerate((9 * people, people)):
        rate = case.errors[side]
        own = rng.beta(9 * rate, 9 * (1 - rate), size)
        errors = rng.permutation((rng.random((size, REQUESTS)) < own[:, None]).ravel())
        downs = rng.random(size // 2) < case.downs[side]
        arms.append(ArmOutcomes("v", errors.tolist(), downs.tolist(), size))
    return Arms("production", arms[1], arms[0], 0, CONFIG.days)


def until(arms: Arms, look: int) -> Arms:
    """The arms at an earlier look."""

    def cut(arm: ArmOutcomes) -> ArmOutcomes:
        at = look / LOOKS
        return ArmOutcomes(
            "v", arm.errors[: round(at * len(arm.errors))], arm.downs[: round(at * len(arm.downs))], arm.people
        )

    return Arms("production", cut(arms.canary), cut(arms.incumbent), 0, CONFIG.days * look / LOOKS)


def ended_at(arms: Arms) -> int:
    """Answers of the canary at the look that ended it. The intervals never widen, so the looks can be bisected."""
    low, high = 0, LOOKS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decide_canary(until(arms, middle), CONFIG).outcome == "ZERO" else (middle, high)
    return len(until(arms, high).canary.errors)


def fixed_test_ends(arms: Arms) -> bool:
    """Whether a z-test of two proportions at 2.5 % for each metric ends the canary at one of the looks."""
    for look in range(1, LOOKS + 1):
        now = until(arms, look)
        pairs = ((now.incumbent.errors, now.canary.errors, CONFIG.errors), (now.incumbent.downs, now.canary.downs, 0.1))
        for before, after, margin in pairs:
            if min(len(before), len(after)) < CONFIG.zero_at_least:
                continue
            p, q = np.mean(before), np.mean(after)
            error = np.sqrt(p * (1 - p) / len(before) + q * (1 - q) / len(after))
            if q - p - margin > _Z * error:
                return True
    return False


def table(most: int) -> str:
    """A row for each case and number of people, from `most` canaries."""
    canary._needed = lambda *_: None  # the search for the number needed would take most of the time
    lines = [
        "| canary | people of the canary | ZERO | answers until then | PASS | HOLD | ZERO by a test for one look |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        for people, rounds in ((50, most), (200, most), *([(1000, most // 4)] if case is CASES[0] else [])):
            rng = np.random.default_rng(people)
            drawn = [draw(rng, case, people) for _ in range(rounds)]
            outcomes = [decide_canary(arms, CONFIG).outcome for arms in drawn]
            ends = [ended_at(arms) for arms, outcome in zip(drawn, outcomes) if outcome == "ZERO"][:100]
            shares = {
                outcome: f"{100 * outcomes.count(outcome) / rounds:.1f} %" for outcome in ("ZERO", "PASS", "HOLD")
            }
            fixed = sum(map(fixed_test_ends, drawn)) / rounds
            median = f"{np.median(ends):.0f}" if len(ends) >= rounds / 20 else "–"
            cells = [
                case.name,
                f"{people}",
                shares["ZERO"],
                median,
                shares["PASS"],
                shares["HOLD"],
                f"{100 * fixed:.1f} %",
            ]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="canaries for each number")
    parser.add_argument("--write", action="store_true", help="write the table into docs/statistics.md")
    options = parser.parse_args()
    found = table(options.rounds)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        block = f"{BEGIN}\n{found}\n{END}"
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
