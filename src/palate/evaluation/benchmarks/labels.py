"""A judge's labels of answers that models wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from palate.artifacts import json_hash
from palate.errors import UsageError
from palate.evaluation.benchmarks.benchmark import Benchmark, Item, Labelling, Outcome
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.preparation import Preparation, read_label
from palate.feedback.judges.render import quoted_question
from palate.progress import progress
from palate.records import Dropped, Judge, Messages

MAX_TOKENS = 1024
"""Of a judge's reply."""


class Labeller:
    """Asks a chat model for the labels of written answers; replies are kept in the judge's store.

    Attributes:
        name: of the judge with its questions.

    Raises:
        UsageError: the benchmark has no questions to a judge, or the judge cannot be asked them.
    """

    def __init__(self, judge: Judge, benchmark: Benchmark) -> None:
        if benchmark.labelling is None:
            raise UsageError(f"{benchmark.title} needs no judge; leave out --judge")
        if not isinstance(judge, ApiJudge):
            raise UsageError(f"{judge.name}: answers to {benchmark.title} are labelled by a chat model: openai:MODEL")
        self._labelling: Labelling = benchmark.labelling
        self._judge = judge
        digest = json_hash([dict(self._labelling.tasks), dict(self._labelling.labels), judge.answer_settings])[:8]
        self.name = f"openai:{judge.model}/{benchmark.name}-{digest}"

    def label(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> list[Outcome | Dropped]:
        """The outcomes with labels; an item that the judge gave no readable label is left out with the reason.

        Raises:
            EngineError: the judge's endpoint refuses every request, or cannot be reached any more.
        """
        replies = {name: self._ask(name, items, outcomes) for name in self._labelling.tasks}
        found: list[Outcome | Dropped] = []
        for index, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
            labels = {name: made[index] for name, made in replies.items()}
            bad = next(((name, reply) for name, reply in labels.items() if reply.problem), None)
            if bad is None:
                found.append(replace(outcome, labels={name: reply.text for name, reply in labels.items()}))
                continue
            name, reply = bad
            reason = "no_reply" if reply.missing else "unparsed"
            found.append(Dropped(item.id, reason, f"{item.where}: {name}: {reply.problem}"))
        return found

    def _ask(self, name: str, items: Sequence[Item], outcomes: Sequence[Outcome]) -> list[Preparation]:
        """The label of each answer to one question, as the text of a reply."""
        labels = self._labelling.labels[name]
        asked = [self._question(name, item, outcome) for item, outcome in zip(items, outcomes, strict=True)]
        what = f"answers labelled: {name}"
        return replies_of(self._judge, what, asked, MAX_TOKENS, lambda text: read_label(text, labels))

    def _question(self, name: str, item: Item, outcome: Outcome) -> Messages:
        labels = " or ".join(f"[[{label}]]" for label in self._labelling.labels[name])
        task = f"{self._labelling.tasks[name]}\nEnd with exactly one of these labels: {labels}."
        shown = {**self._labelling.shown(item), "answer": outcome.text or ""}
        return quoted_question(task, shown)


def replies_of(
    judge: ApiJudge, what: str, conversations: Sequence[Messages], max_tokens: int, read: Callable[[str], Preparation]
) -> list[Preparation]:
    """What `read` makes of the reply to each conversation, with a progress bar; see `ApiJudge.ask_own`."""
    found: dict[int, Preparation] = {}
    with progress(what, len(conversations)) as asked:

        def decided(index: int, reply: Preparation) -> None:
            found[index] = reply
            asked.advance()

        judge.ask_own(conversations, max_tokens, read, decided)
    return [found[index] for index in range(len(conversations))]
