"""Whether a judge's reason contradicts its verdict, by a simple rule."""

from __future__ import annotations

import re
from collections.abc import Iterable

from palate.feedback.calibration.verdicts import Judged
from palate.feedback.votes import QuestionKey

_NOUN = "(?:answer|response|assistant|output|option|candidate|completion)"
_NAME = (
    rf"(?:{_NOUN}\s+[\"'(\[*]*(?P<LETTER>A|B|1|2)\b[\"')\]*]*"
    rf"|(?:the\s+)?(?P<WORD>first|second)\s+(?:{_NOUN}|one))"
)
_BETTER = re.compile(
    rf"{_NAME}\s+(?:is|was|seems|remains)\s+(?P<DEGREE>(?:\w+\s+){{0,2}}?)"
    r"(?P<JUDGED>better|stronger|superior|preferable|worse|weaker|inferior)\b",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    rf"\b(?:I\s+(?:prefer|choose|pick)|the\s+(?:winner|better\s+{_NOUN})\s+is|my\s+verdict\s+is)\s+{_NAME}",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|neither|no|hardly)\b", re.IGNORECASE)
_FIRST = ("a", "1", "first")
_WORSE = ("worse", "weaker", "inferior")


def side_in_reason(reason: str) -> str | None:
    """`left` or `right` if the reason names one side as the better one, and never the other; A is the one shown first.

    Read are "answer A is better", "the second response is clearly worse", "I prefer answer 1", "the winner is B" with
    such a noun. Sentences with a negation and comparisons of a part ("is better written") are not told apart from
    others, so a few verdicts are wrongly counted as contradictions: the figure compares judges, it is no proof.
    """
    sides = set()
    for match in _BETTER.finditer(reason):
        if not _NEGATION.search(match["DEGREE"]):
            sides.add(_is_first(match) == (match["JUDGED"].lower() not in _WORSE))
    sides.update(_is_first(match) for match in _CHOSEN.finditer(reason))
    return None if len(sides) != 1 else "left" if sides.pop() else "right"


def _is_first(match: re.Match[str]) -> bool:
    return (match["LETTER"] or match["WORD"]).lower() in _FIRST


def contradictions(judged: Iterable[Judged]) -> list[tuple[QuestionKey, bool]]:
    """The questions of verdicts for a side whose reason names a side, and whether the two differ."""
    found = []
    for one in judged:
        for verdict in one.verdicts:
            side = side_in_reason(verdict.reason) if verdict.outcome in ("left", "right") else None
            if side is not None:
                found.append((one.key, side != verdict.outcome))
    return found
