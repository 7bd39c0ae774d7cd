"""How good the chosen answers of new pairs are in themselves, and not only against the rejected ones.

Training on pairs depends on the quality of chosen more than on the gap to rejected (2508.18312).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palate.charts.text import amount
from palate.data.inspect.inspection import Spread
from palate.data.scores import checked_scores
from palate.records import PreferencePair, RewardFunction
from palate.stats.repetition import ends_in_loop

# A loop is a unit of at most 40 characters that ends an answer at least 4 times.
_LONGEST_UNIT, _TIMES, _CHARACTERS = 40, 4, 8


@dataclass(frozen=True, slots=True)
class SideQuality:
    """The chosen or the rejected answers.

    Attributes:
        characters: lengths.
        repeating: share of answers that end in a loop.
        truncated: share of answers that ended at the token limit.
        score: scores by a reward model or rule; None without one.
    """

    characters: Spread | None
    repeating: float
    truncated: float
    score: Spread | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Both sides of new pairs.

    Attributes:
        pairs: number of pairs.
        judge: name of the reward model or rule that scored them; "" without one.
        chosen, rejected: each side.
        chosen_higher: share of the scored pairs whose chosen answer has the higher score; None without scores.
        unscored: pairs of which an answer got no score.
    """

    pairs: int
    judge: str
    chosen: SideQuality
    rejected: SideQuality
    chosen_higher: float | None = None
    unscored: int = 0

    def lines(self) -> list[str]:
        """A table of both sides for a person."""
        rows = [("", "chosen", "rejected")]
        for name, left, right in (
            ("score by " + self.judge, self.chosen.score, self.rejected.score),
            ("characters", self.chosen.characters, self.rejected.characters),
        ):
            if left is not None and right is not None:
                rows.append((name, _spread(left), _spread(right)))
        rows.append(("end in a loop", f"{self.chosen.repeating:.1%}", f"{self.rejected.repeating:.1%}"))
        rows.append(("truncated", f"{self.chosen.truncated:.1%}", f"{self.rejected.truncated:.1%}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if self.chosen_higher is not None:
            lines.append(f"chosen has the higher score in {self.chosen_higher:.1%} of the pairs")
        if self.unscored:
            lines.append(f"{amount(self.unscored, 'pair has', 'pairs have')} an answer without a score")
        if not self.judge:
            lines.append("no reward model was given (--judge), so length, loops and truncation are all that is known")
        return lines


def quality_of(pairs: Sequence[PreferencePair], reward: RewardFunction | None = None, judge: str = "") -> Quality:
    """The quality of both sides of pairs that `data.augment` made from prompts.

    Args:
        pairs: with `made.written_by` in `extra`.
    """
    texts = {side: [getattr(pair, side)[-1].content for pair in pairs] for side in ("chosen", "rejected")}
    sides = {side: _side(texts[side], [_finish(pair, side) for pair in pairs]) for side in texts}
    if reward is None or not pairs:
        return Quality(len(pairs), "", sides["chosen"], sides["rejected"])
    prompts = [pair.prompt for pair in pairs]
    scores = checked_scores(judge, reward, [*prompts, *prompts], [*texts["chosen"], *texts["rejected"]])
    both = [
        (high, low)
        for high, low in zip(scores[: len(pairs)], scores[len(pairs) :], strict=True)
        if high is not None and low is not None
    ]
    return Quality(
        len(pairs),
        judge,
        replace(sides["chosen"], score=Spread.of([high for high, _ in both])),
        replace(sides["rejected"], score=Spread.of([low for _, low in both])),
        sum(high > low for high, low in both) / len(both) if both else None,
        len(pairs) - len(both),
    )


def _side(texts: Sequence[str], finished: Sequence[str]) -> SideQuality:
    count = max(1, len(texts))
    loops = sum(ends_in_loop(text, longest=_LONGEST_UNIT, times=_TIMES, least=_CHARACTERS) for text in texts)
    truncated = sum(reason == "length" for reason in finished)
    return SideQuality(Spread.of([len(text) for text in texts]), loops / count, truncated / count)


def _finish(pair: PreferencePair, side: str) -> str:
    """How the text of a side ended."""
    written = pair.extra["made"]["written_by"]
    return next((str(one["finish_reason"]) for one in written if one["text"] == side), "")


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.4g} ({spread.low:.4g} to {spread.high:.4g})"
