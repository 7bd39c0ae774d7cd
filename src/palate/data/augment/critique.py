"""Critique and revise: a model criticises an answer against one principle and writes it again (after 2212.08073)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar

from palate.data.augment.answers import AnswerFile, KeptAnswer, ModelSource
from palate.data.augment.made import (
    MadeByModels,
    Outcome,
    ask,
    checked_answer,
    outcome,
    pair_from_answers,
    rng_for,
    written,
)
from palate.data.augment.principles import Principle
from palate.data.formats.rows import same_text
from palate.data.turns.cells import RowError
from palate.data.turns.messages import assistant, user
from palate.records import Dropped, Messages, PreferencePair, Record, plain_text

FIND = (
    "Check your last answer against this principle:\n\n{principle}\n\nSay in one or two sentences where the answer "
    "falls short of it. If it falls short nowhere, reply with the single word NONE."
)
REVISE = (
    "Now write the answer to my request again, so that it follows the principle:\n\n{principle}\n\n"
    "Keep what was right. Reply with the new answer only."
)


@dataclass(frozen=True, slots=True)
class CritiqueAndRevise:
    """The revision is chosen, the first answer rejected.

    Attributes:
        writer: writes the first answers.
        critic: criticises and revises; usually the same model.
        principles: one is drawn for each prompt, by the seed and the row's id.
    """

    how: ClassVar[str] = "critique"
    writer: ModelSource
    critic: ModelSource
    principles: tuple[Principle, ...]

    def settings(self) -> dict[str, Any]:
        return {
            "writer": self.writer.name,
            "critic": self.critic.name,
            "decoding": dict(self.critic.decoding),
            "principles": [asdict(principle) for principle in self.principles],
        }

    def prepare(self, answers: AnswerFile, prompts: Sequence[Record], seed: int) -> None:
        """All first answers, if another model writes them than the critic."""
        if self.writer.name != self.critic.name:
            ask(answers, self.writer, prompts, seed)
            answers.release(self.writer)

    def rows(self, answers: AnswerFile, prompts: Sequence[Record], seed: int) -> list[Outcome]:
        drafts = [
            _Draft(record, rng_for(seed, self.how, record.id).choice(self.principles).text, first)
            for record, first in zip(prompts, ask(answers, self.writer, prompts, seed), strict=True)
        ]
        for form, check in ((FIND, lambda draft: checked_answer(draft.first)), (REVISE, _Draft.check_critique)):
            waiting = [draft for draft in drafts if draft.passes(check)]
            replies = answers.ask(self.critic, [draft.request(form) for draft in waiting], seed=seed)
            for draft, reply in zip(waiting, replies, strict=True):
                draft.replies.append(reply)
        return [draft.dropped or outcome(draft.record, partial(self._pair, draft, seed)) for draft in drafts]

    def _pair(self, draft: _Draft, seed: int) -> PreferencePair:
        critique, revision = draft.replies
        chosen, rejected = checked_answer(revision, "empty_revision"), assistant(draft.first.text)
        if same_text(chosen, rejected):
            raise RowError("unchanged_revision", "the revision is the first answer")
        if same_text(chosen, assistant(critique.text)):
            raise RowError("repeated_critique", "the revision is the critique")
        made = MadeByModels(
            how=self.how,
            source=draft.record.id,
            model=self.critic.name,
            seed=seed,
            note="the revision is chosen",
            written_by=(
                written("chosen", self.critic, revision),
                written("rejected", self.writer, draft.first),
                written("critique", self.critic, critique),
            ),
            decoding=self.critic.decoding,
            principle=draft.principle,
            critique=critique.text,
        )
        return pair_from_answers(draft.record, made, chosen, rejected)


@dataclass(slots=True)
class _Draft:
    """A prompt on its way: the first answer, then the critic's replies, or why it was dropped."""

    record: Record
    principle: str
    first: KeptAnswer
    replies: list[KeptAnswer] = field(default_factory=list)
    dropped: Dropped | None = None

    def check_critique(self) -> None:
        """Raises RowError if there is nothing to revise after the criticism."""
        checked_answer(self.replies[0], "empty_critique")
        if plain_text(self.replies[0].text).strip(" .!*\"'`") == "none":
            raise RowError("nothing_to_revise", "the answer follows the principle")

    def passes(self, check: Callable[[_Draft], object]) -> bool:
        """Whether the draft goes on; if not, `dropped` says why."""
        if self.dropped is None:
            try:
                check(self)
            except RowError as error:
                self.dropped = Dropped(self.record.id, error.reason, error.detail)
        return self.dropped is None

    def request(self, form: str) -> Messages:
        """The conversation with the critic: the prompt, the answer, and what followed."""
        turns = (*self.record.prompt, *assistant(self.first.text))
        for reply in self.replies:  # the criticism, if there is one
            turns = (*turns, *user(FIND.format(principle=self.principle)), *assistant(reply.text))
        return (*turns, *user(form.format(principle=self.principle)))
