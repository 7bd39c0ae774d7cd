"""What a person enters in the page: a choice between the answers as shown, and what it says of left and right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, cast, get_args

from palate.errors import UsageError
from palate.feedback.campaigns.schema import CampaignSchema
from palate.feedback.votes import Outcome, Shown, Vote
from palate.store.texts import is_storable

Choice: TypeAlias = Literal["first_much", "first", "tie", "second", "second_much", "both_bad", "skip", "flag"]

_LONGEST_REASON = 20_000
_LONGEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a person entered.

    Attributes:
        choice: between the answers in the order shown.
        request_key: made by the page for one sending of the form; sending it twice gives one vote.
        reason: free text.
        tags: of the campaign's list.
        dimensions: per dimension of the campaign the scores (first, second).
        seconds: time with the page visible and in use.
        seconds_total: time since the task was shown.
    """

    choice: Choice
    request_key: str
    reason: str = ""
    tags: tuple[str, ...] = ()
    dimensions: Mapping[str, tuple[float, float]] = field(default_factory=lambda: MappingProxyType({}))
    seconds: float | None = None
    seconds_total: float | None = None

    def check(self, schema: CampaignSchema) -> None:
        """Raise UsageError if the schema has no such tag or dimension, or a value cannot be stored."""
        if self.choice not in get_args(Choice):
            raise UsageError(f"choice {self.choice!r} is not one of {', '.join(get_args(Choice))}")
        if not 0 < len(self.request_key) <= _LONGEST_KEY:
            raise UsageError(f"the form's request key must have 1 to {_LONGEST_KEY} characters; reload the page")
        if len(self.reason) > _LONGEST_REASON:
            raise UsageError(f"the reason has {len(self.reason):,} characters; at most {_LONGEST_REASON:,} are kept")
        for text in (self.request_key, self.reason):
            if not is_storable(text):
                raise UsageError("a text has characters that cannot be stored (NUL or half a surrogate pair)")
        for name, given, known in (("tag", self.tags, schema.tags), ("dimension", self.dimensions, schema.dimensions)):
            unknown = next((entry for entry in given if entry not in known), None)
            if unknown is not None:
                raise UsageError(f"{name} {unknown!r} is not in the campaign's schema; reload the page")
        for number in (self.seconds, self.seconds_total):
            if number is not None and not 0 <= number < math.inf:
                raise UsageError(f"a time of {number} seconds is not possible")
        for name, scores in self.dimensions.items():
            if not all(map(math.isfinite, scores)):
                raise UsageError(f"dimension {name!r}: scores must be numbers")

    def outcome(self, shown: Shown) -> Outcome:
        """What the choice says of the left and the right answer."""
        if self.choice in ("first", "first_much"):
            return "left" if shown == "left_first" else "right"
        if self.choice in ("second", "second_much"):
            return "right" if shown == "left_first" else "left"
        return cast(Outcome, self.choice)  # the others have the outcome's name

    @property
    def strength(self) -> Literal[1, 2]:
        return 2 if self.choice.endswith("_much") else 1

    def vote(self, shown: Shown, *, item: str, left: int, right: int, who: str, when: str) -> Vote:
        """The vote of a person on two answers of an item."""
        scores = {
            name: (first, second) if shown == "left_first" else (second, first)
            for name, (first, second) in self.dimensions.items()
        }
        return Vote(
            item=item,
            left=left,
            right=right,
            outcome=self.outcome(shown),
            who=who,
            when=when,
            shown=shown,
            reason=self.reason,
            kind="person",
            strength=self.strength,
            tags=self.tags,
            dimensions=scores,
            seconds=self.seconds,
            seconds_total=self.seconds_total,
        )
