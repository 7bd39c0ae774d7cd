"""Which recorded interactions may be learnt from, as messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from palate.data.formats.rows import checked_completion, checked_prompt
from palate.data.held_out import HeldOut
from palate.data.turns.cells import RowError
from palate.data.turns.messages import read_turns, user
from palate.records import Messages
from palate.serving.recording.listing import Recorded
from palate.store.serving_tables import FeedbackRow, InteractionAnswer

_ENDED = ("stop", "tool_calls", "function_call")
"""Reasons for the end of an answer that the model ended itself."""


@dataclass(frozen=True, slots=True)
class Usable:
    """An interaction that may be learnt from.

    Attributes:
        recorded: as it is stored.
        prompt: the conversation so far.
        answers: index → answer, of those that the model ended.
    """

    recorded: Recorded
    prompt: Messages
    answers: Mapping[int, Messages]

    @property
    def id(self) -> str:
        return self.recorded.row.id

    @property
    def person(self) -> tuple[int | None, str]:
        """Whose it is: the API key and the hash of the user, for caps."""
        return (self.recorded.row.key_id, self.recorded.row.user)

    @property
    def feedback(self) -> Iterable[FeedbackRow]:
        return self.recorded.feedback

    def lineage(self, source: str, answers: Iterable[int]) -> dict[str, Any]:
        """Where a row comes from; by `interaction` and `user` a deletion finds it."""
        row = self.recorded.row
        return {
            "source": source,
            "interaction": row.id,
            "user": row.user,
            "answers": list(answers),
            "model": row.model,
            "identity": row.identity or "",
            "route": row.route,
            "route_probability": row.probability,
            "redacted": row.policy == "redacted",
        }


def usable(recorded: Iterable[Recorded], left_out: Counter[str], excluded: HeldOut) -> list[Usable]:
    """The interactions that may be learnt from; the others are counted by the reason.

    Args:
        recorded: any number.
        left_out: reason → interactions; is added to.
        excluded: texts of evaluation data; an interaction that has or resembles one is left out.
    """
    found = []
    for one in recorded:
        row = one.row
        if not row.consent:
            left_out["no_consent"] += 1
        elif row.route.startswith("shadow:"):  # nobody saw its answer
            left_out["shadow"] += 1
        elif row.state != "complete":
            left_out[f"state_{row.state}"] += 1
        elif row.policy not in ("redacted", "full"):
            left_out["texts_not_recorded"] += 1
        else:
            try:
                made = _read(one)
            except RowError as error:
                left_out[error.reason] += 1
                continue
            if not made.answers:
                left_out["answers_not_ended"] += 1
            elif excluded.has(made.prompt, *made.answers.values()):
                left_out["in_excluded"] += 1
            else:
                found.append(made)
    return found


def _read(one: Recorded) -> Usable:
    given = one.row.prompt
    prompt = user(given) if isinstance(given, str) else read_turns(given, "prompt")
    ended = [answer for answer in one.answers if answer.finish_reason in _ENDED]
    return Usable(one, checked_prompt(prompt), {answer.number: _answer(answer) for answer in ended})


def _answer(answer: InteractionAnswer) -> Messages:
    turn: dict[str, Any] = {"role": "assistant", "content": answer.text or ""}
    if answer.tool_calls:
        turn["tool_calls"] = answer.tool_calls
    return checked_completion(read_turns([turn], "completion"), "completion")
