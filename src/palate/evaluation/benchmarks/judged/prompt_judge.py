"""A chat model that compares two answers by a benchmark's own question, in place of palate's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from palate.artifacts import json_hash
from palate.feedback.judges.api import ApiJudge
from palate.feedback.judges.preparation import Preparation, read_label
from palate.feedback.judges.replies import shortened
from palate.records import Columns, EachJudge, Messages, Verdict

Ask: TypeAlias = Callable[[Messages, str, str, Mapping[str, Any]], Messages]
"""From prompt, first and second answer, and the columns of the row to what the judge is sent."""


class PromptJudge(EachJudge):
    """Asks a judge over an API with a benchmark's own question; replies are kept in the store.

    Args:
        content: what determines the question's text besides the row, for the judge's name.
        ask: makes the conversation that is sent.
        verdicts: label in the reply → verdict; a reply with two different labels is unparsed.
        max_tokens: of a reply.
    """

    kind = "judge"

    def __init__(
        self,
        judge: ApiJudge,
        name: str,
        content: str,
        ask: Ask,
        verdicts: Mapping[str, Verdict],
        *,
        max_tokens: int = 2048,
    ) -> None:
        digest = json_hash([content, judge.answer_settings])[:8]
        self.name = f"openai:{judge.model}/{name}-{digest}"
        self._judge, self._ask, self._verdicts, self._max_tokens = judge, ask, verdicts, max_tokens

    def compare_each(
        self,
        prompts: Sequence[Messages],
        left: Sequence[str],
        right: Sequence[str],
        columns: Columns | None,
        decided: Callable[[int, Verdict], None],
    ) -> None:
        """See EachJudge."""
        asked = [
            self._ask(prompt, first, second, {name: values[index] for name, values in (columns or {}).items()})
            for index, (prompt, first, second) in enumerate(zip(prompts, left, right))
        ]

        def made(index: int, reply: Preparation) -> None:
            verdict = Verdict("unparsed", reply.problem, missing=reply.missing)
            decided(index, verdict if reply.problem else self._verdict(reply.text))

        self._judge.ask_own(asked, self._max_tokens, self._read, made)

    def _read(self, text: str) -> Preparation:
        return replace(read_label(text, self._verdicts), text=text)

    def _verdict(self, text: str) -> Verdict:
        return replace(self._verdicts[read_label(text, self._verdicts).text], reason=shortened(text))
