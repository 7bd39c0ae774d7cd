"""A jury: several judges of which the majority decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from palate.feedback.judges.api import ApiJudge
from palate.records import LEFT_SHARE, Columns, EachJudge, Judge, Messages, Verdict


class Jury(EachJudge):
    """Asks each member and decides by the most frequent outcome.

    Of left, right and tie the outcome with the most members wins; if two have equally many, the verdict is a tie.
    Members whose verdict cannot be read do not count; if that leaves half of the members or fewer, the jury's verdict
    is `unparsed`. If a member gave no reply at all, the jury's verdict is missing and is decided by a later run.

    Args:
        members: at least two judges with different names.

    Attributes:
        name: `jury:` and the members' names.
    """

    kind = "judge"

    def __init__(self, members: Sequence[Judge]) -> None:
        self.members = tuple(members)
        self.name = "jury:" + ",".join(member.name for member in members)

    def compare_each(
        self,
        prompts: Sequence[Messages],
        left: Sequence[str],
        right: Sequence[str],
        columns: Columns | None,
        decided: Callable[[int, Verdict], None],
    ) -> None:
        """The verdicts, with those of the members, are decided when the last member has answered."""
        by_member = [member.compare(prompts, left, right, columns) for member in self.members]
        for index in range(len(prompts)):
            decided(index, self._majority([verdicts[index] for verdicts in by_member]))

    def uncached(self) -> Jury:
        """The same jury, whose members ask every question again."""
        return Jury([member.uncached() if isinstance(member, ApiJudge) else member for member in self.members])

    def _majority(self, verdicts: Sequence[Verdict]) -> Verdict:
        members = tuple((member.name, verdict) for member, verdict in zip(self.members, verdicts))
        absent = next((f"{name}: {verdict.reason}" for name, verdict in members if verdict.missing), None)
        if absent is not None:
            return Verdict("unparsed", absent, missing=True, members=members)
        reason = ", ".join(f"{name}: {verdict.outcome}" for name, verdict in members)
        read = [verdict.outcome for verdict in verdicts if verdict.outcome in LEFT_SHARE]
        if 2 * len(read) <= len(verdicts):
            return Verdict("unparsed", reason, members=members)
        outcomes: tuple[Literal["left", "right", "tie"], ...] = ("left", "right", "tie")
        most = max(read.count(outcome) for outcome in outcomes)
        first = [outcome for outcome in outcomes if read.count(outcome) == most]
        share = sum(LEFT_SHARE[outcome] for outcome in read) / len(read)
        return Verdict(first[0] if len(first) == 1 else "tie", reason, share, members=members)
