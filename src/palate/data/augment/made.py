"""How a row was made, kept with the row for good."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from palate.data.formats.rows import same_text
from palate.data.turns.messages import RowError
from palate.records import Message, Messages, PreferencePair, prompt_key


@dataclass(frozen=True, slots=True)
class Made:
    """Where a new row comes from.

    Attributes:
        how: the way it was made, by name (`swapped_numbers`, `sampled` …).
        source: id of the row it was made from.
        model: who wrote or judged it, "" where a rule did.
        seed: of every draw.
        note: what was changed, for a person.
    """

    how: str
    source: str
    model: str = ""
    seed: int = 0
    note: str = ""


def new_pair(
    record: PreferencePair,
    made: Made,
    *,
    prompt: Messages | None = None,
    chosen: Messages | None = None,
    rejected: Messages | None = None,
) -> PreferencePair:
    """A pair made from another: what is not given stays; margin and dimensions go, they were the old answers'.

    Raises:
        RowError: `unchanged`, if the new pair says what the old one does, or its two answers say the same.
    """
    pair = PreferencePair(
        id=f"{record.id}#{made.how}",
        prompt=record.prompt if prompt is None else prompt,
        chosen=record.chosen if chosen is None else chosen,
        rejected=record.rejected if rejected is None else rejected,
        source=record.source,
        weight=record.weight,
        tools=record.tools,
        extra={**record.extra, "made": asdict(made)},
    )
    if any(answer[-1].is_empty for answer in (pair.chosen, pair.rejected)):
        raise RowError("unchanged", f"{made.how} leaves an empty answer")
    if same_text(pair.chosen, pair.rejected):
        raise RowError("unchanged", f"{made.how} makes chosen and rejected equal")
    same = same_text(pair.chosen, record.chosen) and same_text(pair.rejected, record.rejected)
    if same and (prompt is None or prompt_key(pair.prompt) == prompt_key(record.prompt)):
        raise RowError("unchanged", f"{made.how} changes nothing")
    return pair


def with_last(answer: Messages, content: str) -> Messages:
    """The answer with another last turn."""
    return (*answer[:-1], replace(answer[-1], content=content))


def said_by_assistant(content: str) -> Messages:
    """One assistant turn."""
    return (Message("assistant", content),)


def chance_for(seed: int, *names: str) -> random.Random:
    """Draws that depend on the seed and the names alone, not on what was drawn before."""
    return random.Random("\0".join((str(seed), *names)))  # noqa: S311


def made_of(extra: Mapping[str, object]) -> Mapping[str, object] | None:
    """How a row was made, None for a row nobody made."""
    made = extra.get("made")
    return made if isinstance(made, Mapping) else None
