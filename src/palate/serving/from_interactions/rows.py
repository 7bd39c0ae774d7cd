"""Feedback as training records: thumbs as labelled answers for KTO, corrections and choices as pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from palate.data.formats.rows import same_text
from palate.data.turns.messages import assistant
from palate.records import LabelledCompletion, PreferencePair, Record
from palate.serving.from_interactions.draw import order
from palate.serving.from_interactions.usable import Usable

R = TypeVar("R", bound=Record)


def labelled_answers(found: Iterable[Usable], left_out: Counter[str]) -> list[tuple[Usable, LabelledCompletion]]:
    """A record for each thumb that holds; thumbs never become pairs, because nobody compared two answers."""
    made = []
    for one in found:
        for row in one.feedback:
            if row.thumbs is None or row.answer is None:
                continue
            if row.answer not in one.answers:
                left_out["thumbs_on_answer_not_ended"] += 1
                continue
            record = LabelledCompletion(
                id=f"{one.id}#{row.answer}",
                prompt=one.prompt,
                completion=one.answers[row.answer],
                desirable=row.thumbs == "up",
                tools=one.recorded.row.tools,
                extra={"lineage": one.lineage("thumbs", [row.answer])},
            )
            made.append((one, record))
    return made


def pairs(found: Iterable[Usable], left_out: Counter[str]) -> list[tuple[Usable, PreferencePair]]:
    """A pair for each correction (chosen: the person's text) and for each choice between two answers."""
    made = []
    for one in found:
        for row in one.feedback:
            if row.edit and row.answer is not None:
                source, numbers = "edit", [row.answer]
                chosen, rejected = assistant(row.edit), one.answers.get(row.answer)
            elif row.chosen is not None:
                source, numbers = "choice", [row.chosen, 1 - row.chosen]
                chosen, rejected = one.answers.get(row.chosen, ()), one.answers.get(1 - row.chosen)
            else:
                continue
            if not chosen or not rejected:
                left_out[f"{source}_of_answer_not_ended"] += 1
            elif same_text(chosen, rejected):
                left_out[f"{source}_of_equal_answers"] += 1
            elif rejected[-1].tool_calls and source == "edit":
                left_out["edit_of_tool_calls"] += 1
            else:
                record = PreferencePair(
                    id=f"{one.id}#{source}{numbers[0]}",
                    prompt=one.prompt,
                    chosen=chosen,
                    rejected=rejected,
                    tools=one.recorded.row.tools,
                    extra={"lineage": one.lineage(source, numbers)},
                )
                made.append((one, record))
    return made


def capped(rows: Sequence[tuple[Usable, R]], share: float, seed: int) -> tuple[list[tuple[Usable, R]], int, int]:
    """The rows of which no person has more than a share; at least one row of each person stays.

    Of a person with more rows, a random sample stays, so that nobody can choose which.

    Args:
        rows: in their order, which is kept.
        share: largest share of the rows that stay, in (0, 1].
        seed: of the sample.

    Returns:
        the rows, the cap in rows per person, and the number of rows left out.
    """
    by_person: dict[Hashable, list[str]] = defaultdict(list)
    for one, row in rows:
        by_person[one.person].append(row.id)
    cap = _largest_cap([len(ids) for ids in by_person.values()], share)
    kept = {chosen for ids in by_person.values() for chosen in order(ids, "cap", seed)[:cap]}
    return [(one, row) for one, row in rows if row.id in kept], cap, len(rows) - len(kept)


def _largest_cap(counts: Sequence[int], share: float) -> int:
    """The most rows per person such that the person with the most has at most `share` of the rows, at least 1.

    c ≤ share · Σ min(n, c) holds for every c up to some bound, because Σ min(n, c) / c falls as c grows.
    """
    low, high = 1, max(counts, default=1)
    while low < high:
        cap = (low + high + 1) // 2
        low, high = (cap, high) if cap <= share * sum(min(count, cap) for count in counts) else (low, cap - 1)
    return low
