"""Answers of policy and reference to the same few prompts, as training goes on: `samples.jsonl`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palate.artifacts import JsonlWriter
from palate.models.generation.generate import Decoding, generate
from palate.models.precision import Precision
from palate.models.reference.kinds import Reference
from palate.records import Record, as_turns
from palate.text.prompts import prompt_ids
from palate.text.template import Template


class SampleWriter:
    """Greedy answers to fixed prompts; the reference answers once, because it does not move.

    Args:
        prompts: records whose prompts end before the assistant's turn.
        max_new_tokens: longest answer.
    """

    def __init__(
        self,
        prompts: Sequence[Record],
        template: Template,
        precision: Precision,
        max_new_tokens: int,
        writer: JsonlWriter,
    ) -> None:
        self._prompts = list(prompts)
        self._template = template
        self._precision = precision
        self._decoding = Decoding(max_new_tokens=max_new_tokens)
        self._writer = writer
        self._reference: list[str] | None = None

    def write_start(self, policy: Any, reference: Reference | None, *, write: bool) -> None:
        """Let the reference answer while it is there, and write the rows of step 0.

        Args:
            policy: as it starts.
            reference: None for a method without one.
            write: False for a resumed run, whose rows of step 0 exist.
        """
        if not self._prompts:
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
        if self._prompts:
            self._append(step, self._answers(policy))

    def _append(self, step: int, answers: Sequence[str]) -> None:
        for number, (record, answer) in enumerate(zip(self._prompts, answers, strict=True)):
            self._writer.write(
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
            [prompt_ids(one, self._template) for one in self._prompts],
            self._decoding,
            stop_ids=self._template.stop_ids,
            precision=self._precision,
        )
        return [self._template.decode(answer) for answer in ids]
