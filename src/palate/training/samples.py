"""Answers of policy and reference to a few fixed prompts, before and after training: `samples.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.artifacts import JsonlWriter
from palate.models.generation.decoding import Decoding
from palate.models.generation.local.generate import generate
from palate.models.precision import Precision
from palate.models.reference.kinds import Reference
from palate.records import Record, as_turns
from palate.text.prompts import prompt_ids
from palate.text.template import Template


@dataclass
class SampleWriter:
    """Greedy answers to fixed prompts; the reference answers only once, because it does not change.

    Attributes:
        prompts: records whose prompts end before the assistant's turn.
        template: chat template and tokenizer.
        precision: of the run.
        max_new_tokens: longest answer.
        writer: of `samples.jsonl`.
    """

    prompts: Sequence[Record]
    template: Template
    precision: Precision
    max_new_tokens: int
    writer: JsonlWriter
    _reference: list[str] | None = field(default=None, init=False)

    def write_start(self, policy: Any, reference: Reference | None, *, write: bool) -> None:
        """Let the reference answer while it is in memory, and write the rows of step 0.

        Args:
            policy: as it starts.
            reference: None for a method without one.
            write: False for a resumed run: its rows of step 0 exist.
        """
        if not self.prompts:
            return
        before = self._answers(policy) if write or (reference is not None and reference.is_start) else []
        if reference is not None and reference.is_start:
            self._reference = before
        elif reference is not None:
            with reference.active() as model:
                self._reference = self._answers(model)
        if write:
            self._append(0, before)

    def write(self, step: int, policy: Any) -> None:
        """Append one row per prompt. Without a reference the row has the policy's answer only."""
        if self.prompts:
            self._append(step, self._answers(policy))

    def _append(self, step: int, answers: Sequence[str]) -> None:
        for number, (record, answer) in enumerate(zip(self.prompts, answers, strict=True)):
            self.writer.write(
                {
                    "step": step,
                    "prompt": as_turns(record.prompt),
                    "policy": answer,
                    "reference": self._reference[number] if self._reference is not None else None,
                }
            )

    def _answers(self, model: Any) -> list[str]:
        ids = generate(
            model,
            [prompt_ids(one, self.template) for one in self.prompts],
            Decoding(max_new_tokens=self.max_new_tokens),
            stop_ids=self.template.stop_ids,
            precision=self.precision,
        )
        return [self.template.decode(answer) for answer in ids]
