"""The form of a vote: its choices with their keys, and what was sent as a `Ballot`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.datastructures import FormData
from starlette.requests import Request

from palate.errors import UsageError
from palate.feedback.queue.ballot import Ballot, Choice
from palate.feedback.queue.voting import Receipt
from palate.feedback.votes import Vote
from palate.store.texts import is_storable

VERDICTS: tuple[tuple[Choice, str, str], ...] = (
    ("first_much", "1", "A much better"),
    ("first", "2", "A better"),
    ("tie", "3", "Tie"),
    ("second", "4", "B better"),
    ("second_much", "5", "B much better"),
)
"""Choice, key and words of the buttons that compare the answers, from the left answer to the right one."""

OTHERS: tuple[tuple[Choice, str, str], ...] = (
    ("both_bad", "0", "Both bad"),
    ("skip", "s", "Skip"),
    ("flag", "f", "Flag"),
)

_WORDS: dict[Choice, str] = {choice: words for choice, _, words in VERDICTS + OTHERS}
NOTICES: dict[str, str] = {
    **{choice: f"Recorded: {words}." for choice, words in _WORDS.items()},
    "skip": "Skipped.",
    "flag": "Flagged for the reviewers.",
    "before": "You had voted on that item before, and that vote stays. Undo changes the last vote.",
    "full": "That item has all its votes by now, so your vote was not stored. Here is the next one.",
    "undone": "Undone. The item is open again.",
    "nothing": "There is nothing that can be undone.",
}
"""What the page says after a request, by its name in the address: the page repeats no text of an address."""

_SCORES = range(1, 6)
_SLOTS = ("first", "second")


async def _sent(request: Request) -> FormData:
    return await request.form()


SentForm = Annotated[FormData, Depends(_sent)]
"""The fields of the form that a request sends."""


def text_field(form: FormData, name: str) -> str:
    """The text of a field; empty if it was not sent.

    Raises:
        UsageError: it has a character that no database can store.
    """
    value = form.get(name, "")
    if not isinstance(value, str):
        return ""
    if not is_storable(value):
        raise UsageError(f"{name} has a character that cannot be stored (NUL or half a surrogate pair); remove it.")
    return value


def read_ballot(form: FormData) -> Ballot:
    """The ballot of a form; whether it fits the campaign's schema is checked when it is submitted.

    Raises:
        UsageError: a time or score is not a number of its range, or only one answer has a score.
    """
    sent = text_field(form, "choice")
    choice = next((choice for choice in _WORDS if choice == sent), None)
    if choice is None:
        raise UsageError("Choose one of the buttons.")
    return Ballot(
        choice=choice,
        request_key=text_field(form, "request_key"),
        reason=text_field(form, "reason").replace("\r\n", "\n").strip(),
        tags=tuple(dict.fromkeys(tag for tag in form.getlist("tags") if isinstance(tag, str))),
        dimensions=_dimensions(form),
        seconds=_seconds(form, "seconds"),
        seconds_total=_seconds(form, "seconds_total"),
    )


def notice_of(ballot: Ballot, receipt: Receipt) -> str:
    """The name of the notice that says what became of a ballot."""
    vote = receipt.vote
    if receipt.status == "full" or vote is None:
        return "full"
    same = vote.outcome == ballot.outcome(vote.shown) and vote.strength == ballot.strength
    return ballot.choice if receipt.status == "recorded" or same else "before"


def words_of(vote: Vote) -> str:
    """What a vote says of the answers, with the left one as A: `A much better`, `Tie`."""
    much = "_much" if vote.strength == 2 else ""
    said: str = {"left": f"first{much}", "right": f"second{much}"}.get(vote.outcome, vote.outcome)
    return next((words for choice, words in _WORDS.items() if choice == said), said)


def _dimensions(form: FormData) -> dict[str, tuple[float, float]]:
    """Per dimension the scores (first, second), of the fields `score-first-NAME` and `score-second-NAME`."""
    given: dict[str, dict[str, float]] = {}
    for field in form:
        start, _, rest = field.partition("-")
        slot, _, name = rest.partition("-")
        if start == "score" and slot in _SLOTS and (value := text_field(form, field)):
            if value not in map(str, _SCORES):
                raise UsageError(f"The score of {name} must be a whole number from {_SCORES[0]} to {_SCORES[-1]}.")
            given.setdefault(name, {})[slot] = float(value)
    for name, scores in given.items():
        if len(scores) == 1:
            raise UsageError(f"Score both answers for {name}, or neither.")
    return {name: (scores["first"], scores["second"]) for name, scores in given.items()}


def _seconds(form: FormData, name: str) -> float | None:
    """A time that the page's script has measured; None without a script."""
    value = text_field(form, name)
    try:
        return float(value) if value else None
    except ValueError as error:
        raise UsageError(f"{name} {value[:20]!r} is not a number.") from error
