"""Word-level differences of two texts, as marked-up text for a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape
from rapidfuzz.distance import LCSseq

from palate.errors import UsageError

MOST_WORDS = 20_000
"""Of either text; the comparison needs MOST_WORDS² bits of memory, 50 MB."""

# A word with the white space after it, or the white space that the text begins with.
_WORD = re.compile(r"\S+\s*|\s+")
_MARKS = {
    "first": Markup('<del><span class="visually-hidden">only in A: </span>{}</del>'),
    "second": Markup('<ins><span class="visually-hidden">only in B: </span>{}</ins>'),
}


@dataclass(frozen=True, slots=True)
class WordRun:
    """A stretch of words of one text.

    Attributes:
        text: the words with the white space between them.
        differs: whether the other text lacks them at this place.
    """

    text: str
    differs: bool


def differences(first: str, second: str) -> tuple[list[WordRun], list[WordRun]]:
    """Split both texts into runs that they share and runs that they do not; the runs of a text joined are the text.

    The words that they share are a longest common subsequence. A single shared word between two differences counts as
    different: as an island it makes the marked text harder to read.

    Raises:
        UsageError: a text has more than `MOST_WORDS` words.
    """
    words = _WORD.findall(first), _WORD.findall(second)
    if max(map(len, words)) > MOST_WORDS:
        raise UsageError(f"The answers are too long to compare: more than {MOST_WORDS:,} words.")
    compared = LCSseq.opcodes([word.rstrip() for word in words[0]], [word.rstrip() for word in words[1]])
    steps = [
        (step.tag == "equal", (step.src_start, step.src_end), (step.dest_start, step.dest_end)) for step in compared
    ]
    found: tuple[list[WordRun], list[WordRun]] = ([], [])
    for number, (same, *spans) in enumerate(steps):
        island = same and 0 < number < len(steps) - 1 and spans[0][1] - spans[0][0] == 1
        for runs, text, (start, end) in zip(found, words, spans, strict=True):
            if start < end:
                _append(runs, "".join(text[start:end]), differs=not same or island)
    return found


def marked(runs: list[WordRun], side: Literal["first", "second"]) -> Markup:
    """The runs as HTML: `<del>` marks what only the first text has, `<ins>` what only the second has.

    Screen readers rarely say these elements, so that hidden words say it too.
    """
    parts = [_MARKS[side].format(run.text) if run.differs else escape(run.text) for run in runs]
    return Markup("").join(parts)


def _append(runs: list[WordRun], text: str, *, differs: bool) -> None:
    if runs and runs[-1].differs == differs:
        runs[-1] = WordRun(runs[-1].text + text, differs)
    else:
        runs.append(WordRun(text, differs))
